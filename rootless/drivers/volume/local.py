"""The driver ``local``: a directory of the volume's own, a tmpfs, or a directory of the host.

Docker's has mount(8) behind its options.  An ordinary user may mount two of its types: ``tmpfs`` (each
container gets its own) and ``none`` with ``o=bind``; the others are refused when the volume is made.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError

from .base import Backing, VolumeDriver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN = ("type", "o", "device", "size")
# Docker's rule: an option, and what it needs beside it.
NEEDED = {"type": ("device",), "device": ("type",), "o": ("type", "device")}
_BIND = ("bind", "rbind")
_PLAIN = ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime")
_TMPFS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks")


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for word in options.get("o", "").split(",") if word]


class LocalDriver(VolumeDriver):
    """Docker's ``local``, as far as an ordinary user can mount."""

    name = "local"

    def check(self, options: Mapping[str, str]) -> None:
        """Refuse unknown options and types that need root; raises UsageError, HostError."""
        for key in options:
            if key not in KNOWN:
                raise UsageError(f'invalid option: "{key}"', exit_code=1)
        if "size" in options:
            raise HostError(
                "cannot limit the size of a volume: quotas of directories need root",
                hint="a tmpfs has a size: --opt type=tmpfs --opt device=tmpfs --opt o=size=100m",
                exit_code=1,
            )
        for key, others in NEEDED.items():
            for other in others:
                if key in options and not options.get(other):
                    raise UsageError(f'missing required option: "{other}"', exit_code=1)
        if options:
            self._check_mount(options["type"], options["device"], _words(options))

    def _check_mount(self, kind: str, device: str, words: list[str]) -> None:
        bound = [word for word in words if word in _BIND]
        if kind == "tmpfs":
            bad = [w for w in words if w not in _PLAIN and not _is_tmpfs_option(w)]
        elif kind in ("none", "bind") and bound:
            if not device.startswith("/"):
                raise UsageError(
                    f"cannot bind {device}: the option device is not an absolute path", exit_code=1
                )
            bad = [word for word in words if word not in _PLAIN and word not in _BIND]
        else:
            what = f"a volume of type {kind}" if kind not in ("none", "bind") else "it"
            raise HostError(
                f"cannot mount {what}: an ordinary user may mount tmpfs, "
                "and type=none with o=bind, nothing else",
                hint="have it mounted on the host and use --opt type=none --opt o=bind "
                "--opt device=DIRECTORY",
                exit_code=1,
            )
        if bad:
            raise UsageError(f"invalid mount option {bad[0]!r} in o={','.join(words)}", exit_code=1)

    def backing(self, options: Mapping[str, str], data_dir: str) -> Backing:
        """The volume's directory, or what its options name."""
        words = _words(options)
        if not options:
            return Backing("bind", data_dir)
        if options["type"] == "tmpfs":
            return Backing("tmpfs", "tmpfs", words)
        return Backing("bind", options["device"], [word for word in words if word not in _BIND])

    def owns_content(self, options: Mapping[str, str]) -> bool:
        """Without options it does."""
        return not options


def _is_tmpfs_option(word: str) -> bool:
    key, _, value = word.partition("=")
    if key not in _TMPFS or not value:
        return False
    if key == "mode":
        return not value.strip("01234567")
    digits = (
        value[:-1]
        if key in ("size", "nr_inodes", "nr_blocks") and value[-1] in "kKmMgG%"
        else value
    )
    return digits.isascii() and digits.isdigit()
