"""One emulated machine and the watch over it: it ends, or it is ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .guest import Guest
from .image import Image

POLL = 0.5
PANIC = "Kernel panic - not syncing"


class Outcome(NamedTuple):
    """How a machine ended: WRONG is "" or what went wrong."""

    wrong: str
    seconds: float


def command(guest: Guest, image: Image, media: Path, results: Path) -> list[str]:
    """The emulator's words without those for the console."""
    drive = "if=virtio,format=raw"
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-display", "none",
        *([] if guest.reboots else ["-no-reboot"]),
        "-m", str(guest.memory), "-smp", str(guest.cpus), "-nic", "none",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
        "-drive", f"file={image.disk},{drive},snapshot=on,cache=unsafe",
        "-drive", f"file={media},{drive},readonly=on",
        "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
        "-chardev", f"file,id=results,path={results}",
        "-device", "virtserialport,chardev=results,name=lane.results",
    ]  # fmt: skip


def kernel_words(*words: str) -> list[str]:
    """The kernel's command line."""
    line = ["root=/dev/vda", "rw", "console=ttyS0", "panic=-1", "systemd.show_status=0", *words]
    return ["-append", " ".join(line)]


def watch(
    argv: Sequence[str],
    files: Sequence[Path],
    console: Path,
    *,
    seconds: float,
    silence: float,
    shown: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run the emulator until it ends by itself, panics, falls silent, or has had its time.

    FILES are what it writes to; growth of any of them is a sign of life.  SHOWN gets what is new in them.
    """
    started = alive = time.monotonic()
    tails = [Tail(path) for path in files]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *argv],  # a lane that is killed leaves no machine
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wrong = ""
    try:
        while not wrong:
            ended = process.poll() is not None
            for tail in tails:
                new = tail.read()
                if new:
                    alive = time.monotonic()
                    shown(new)
                    if tail.path == console and PANIC in tail.last:
                        wrong = "the guest's kernel panicked"
            now = time.monotonic()
            if ended:
                break
            if now - started > seconds:
                wrong = f"not done after {seconds:.0f} s"
            elif now - alive > silence:
                wrong = f"hung: not a line for {silence:.0f} s"
            time.sleep(POLL)
    finally:
        if process.poll() is None:
            process.kill()
        _, errors = process.communicate()
    if process.returncode and not wrong:
        wrong = f"the emulator failed ({process.returncode}): {errors.decode('utf-8', 'replace').strip()}"
    return Outcome(wrong, time.monotonic() - started)


class Tail:
    """What is new in a growing file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = ""  # enough of the end to find a word that came in two pieces
        self._offset = 0

    def read(self) -> str:
        """The text written since the last call."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return ""
        self._offset += len(data)
        text = data.decode("utf-8", "replace")
        self.last = (self.last + text)[-max(4096, len(text)) :]
        return text


def shell(guest: Guest, image: Image, media: Path, directory: Path) -> int:
    """A guest on this terminal, for a person: log in as root; ctrl-a x ends it."""
    argv = [*command(guest, image, media, directory / "results"), *kernel_words()]
    return subprocess.run(
        [*argv, "-serial", "mon:stdio"], check=False, env=dict(os.environ)
    ).returncode
