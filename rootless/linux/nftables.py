"""nftables rules as text, given to libnftables in this process or to the program nft.

Both speak to the kernel in the namespace of the thread that makes the ``Nft``; the library keeps its socket, so
that runs afterwards may come from any one thread.  The program costs a process each time.  Text must be made
from numbers, addresses and names that were checked: nothing is quoted here.
"""

from __future__ import annotations

import ctypes
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LIBRARY = "libnftables.so.1"


class NftError(Exception):
    """The rules were refused, none of them is in force; the text is the first line of what nftables said."""


class Nft:
    """Rules of one namespace.

    PROGRAM is the path of nft, used where the library is not there (or PROGRAM is forced by LIBRARY_NAME = "").
    CALL(function, *args) runs a function in the namespace's thread; the program is started by it.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        program: str = "",
        library_name: str = LIBRARY,
    ) -> None:
        self._call = call
        self._program = program
        self._library: Any = None
        self._context: Any = None
        if library_name:
            try:
                self._library = ctypes.CDLL(library_name)
            except OSError:
                self._library = None
        if self._library is not None:
            self._prepare()
            self._context = call(self._open)
        elif not program:
            raise NftError(f"neither {library_name or 'the library'} nor the program nft is there")

    @property
    def door(self) -> str:
        """What carries the rules: "libnftables" or the path of the program."""
        return "libnftables" if self._library is not None else self._program

    def _prepare(self) -> None:
        library = self._library
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_buffer_error", "nft_ctx_buffer_output", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

    def _open(self) -> Any:
        context = self._library.nft_ctx_new(0)
        if not context:
            raise NftError("libnftables cannot open its socket")
        self._library.nft_ctx_buffer_error(context)
        self._library.nft_ctx_buffer_output(context)
        return context

    def run(self, text: str) -> None:
        """Carry out commands, all or none of them; raises NftError."""
        if self._context is not None:
            if self._library.nft_run_cmd_from_buffer(self._context, text.encode("ascii")):
                said = self._library.nft_ctx_get_error_buffer(self._context) or b""
                raise NftError(_first_line(said.decode("utf-8", "replace")))
            return
        done = self._call(self._run_program, text)
        if done.returncode:
            raise NftError(_first_line(done.stderr))

    def _run_program(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, "-f", "-"], input=text, capture_output=True, text=True, check=False
        )

    def close(self) -> None:
        """Free the library's context; the rules stay."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip() if lines else "it did not say why"
