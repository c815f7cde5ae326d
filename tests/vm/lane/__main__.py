"""``tests/vm/run``: the command line of the lane."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import guest as guests
from . import image, machine, media, report

CONSOLE_LINES = 40


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(
        prog="tests/vm/run", description="Run the tests that need a guest."
    )
    parser.add_argument("guests", nargs="*", metavar="GUEST", help="which of them (all)")
    parser.add_argument("--list", action="store_true", help="print guests and steps and end")
    parser.add_argument(
        "--verbose", action="store_true", help="show console and report as they grow"
    )
    parser.add_argument(
        "--shell", action="store_true", help="boot to a login prompt instead: root, no password"
    )
    parser.add_argument("--only", action="append", metavar="STEP", help="these steps and no others")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """0 if every guest reported that everything passed."""
    args = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the machine is ended on the way out
    try:
        chosen = [guests.load(name) for name in args.guests or guests.names()]
        if args.list:
            for guest in chosen:
                print(f"{guest.name}: {' '.join(guest.steps)}")
            return 0
        results = [lane(guest, args) for guest in chosen]
    except guests.LaneError as error:
        print(f"tests/vm/run: {error}", file=sys.stderr)
        return 1
    return 0 if all(results) else 1


def lane(guest: guests.Guest, args: argparse.Namespace) -> bool:
    """One guest from its recipe to its verdict."""
    steps = [step for step in guest.steps if not args.only or step in args.only]
    if not steps:
        raise guests.LaneError(
            f"cannot run {' '.join(args.only)}: {guest.name} has {' '.join(guest.steps)}"
        )
    started = time.monotonic()
    image.sweep("rootless-vm-*", days=1)
    booted = image.ensure(guest)
    with tempfile.TemporaryDirectory(prefix="rootless-vm-", dir=guests.cache()) as name:
        directory = Path(name)
        media.make(guest, steps, directory / "lane.img")
        prepared = time.monotonic() - started
        if args.shell:
            return machine.shell(guest, booted, directory / "lane.img", directory) == 0
        results, console = directory / "results", directory / "console"
        argv = [
            *machine.command(guest, booted, directory / "lane.img", results),
            *machine.kernel_words("lane.run", "systemd.mask=serial-getty@ttyS0.service"),
            "-serial",
            f"file:{console}",
        ]
        show = (lambda text: print(text, end="", flush=True)) if args.verbose else (lambda _: None)
        outcome = machine.watch(
            argv,
            [results, console],
            console,
            seconds=guest.seconds,
            silence=guest.silence,
            shown=show,
        )
        said = report.read(_text(results), steps)
        good = said.good and not outcome.wrong
        if not args.verbose:
            print(_text(results), end="")
        conclude(guest, said, outcome, _text(console) if not good else "")
        print(
            f"tests/vm/run: {guest.name}: {prepared:.0f} s to prepare, {outcome.seconds:.0f} s in the guest"
        )
    return good


def conclude(
    guest: guests.Guest, said: report.Report, outcome: machine.Outcome, console: str
) -> None:
    """Print what there is to know about a run."""
    if console:
        tail = console.replace("\r", "").splitlines()[-CONSOLE_LINES:]
        print(f"--- end of the console of {guest.name}", *tail, "---", sep="\n")
    for text in (*((outcome.wrong,) if outcome.wrong else ()), *said.wrong):
        print(f"tests/vm/run: {guest.name}: {text}")
    for word, listed in (("failed", said.failed), ("not run", said.missing)):
        for name in listed:
            print(f"tests/vm/run: {guest.name}: {word}: {name}")
    counts = f"{len(said.passed)} passed, {len(said.failed)} failed, {len(said.missing)} not run"
    print(f"tests/vm/run: {guest.name}: {counts}")


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
