"""A guest as its directory describes it: ``guests/NAME/guest.ini``, ``customize``, ``steps/*.bash``."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[1]
TOP = HERE.parents[1]
GUESTS = HERE / "guests"


class LaneError(Exception):
    """The lane cannot go on; the message is for a person."""


class Guest(NamedTuple):
    """One guest: what its disk is made of, the machine it runs on, and what it has to try."""

    name: str
    suite: str
    packages: tuple[str, ...]
    python: str  # major.minor of its interpreter, for which wheels are fetched
    disk: str
    memory: int  # MB
    cpus: int
    seconds: int  # from power-on to power-off
    silence: int  # seconds without a line after which it counts as hung
    steps: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Where its recipe and steps are."""
        return GUESTS / self.name


def names() -> list[str]:
    """All guests there are."""
    return sorted(path.parent.name for path in GUESTS.glob("*/guest.ini"))


def load(name: str) -> Guest:
    """Read a guest's description; raises LaneError."""
    path = GUESTS / name / "guest.ini"
    if not path.exists():
        raise LaneError(f"cannot find the guest {name}: there are {', '.join(names())}")
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(path, encoding="utf-8")
    guest = Guest(
        name,
        ini["image"]["suite"],
        tuple(ini["image"]["packages"].split()),
        ini["image"]["python"],
        ini["image"]["disk"],
        ini.getint("machine", "memory"),
        ini.getint("machine", "cpus"),
        ini.getint("lane", "seconds"),
        ini.getint("lane", "silence"),
        tuple(ini["lane"]["steps"].split()),
    )
    for step in guest.steps:
        if not (guest.directory / "steps" / f"{step.partition(':')[0]}.bash").exists():
            raise LaneError(f"cannot find the step {step} of {name}: {path} names it")
    return guest


def cache() -> Path:
    """Where disks, wheels and container images are kept between runs."""
    chosen = os.environ.get("ROOTLESS_VM_CACHE")
    path = Path(chosen) if chosen else Path.home() / ".cache" / "rootless-tests" / "vm"
    path.mkdir(parents=True, exist_ok=True)
    return path
