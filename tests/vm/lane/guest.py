"""A guest as its directory describes it: ``guests/NAME/guest.ini``, ``customize``, ``steps/*.bash``."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[1]
TOP = HERE.parents[1]
GUESTS = HERE / "guests"
PARTS = ("checkout", "wheels", "site")  # lane/media.py has what they are


class LaneError(Exception):
    """The lane cannot go on; the message is for a person."""


class Guest(NamedTuple):
    """One guest: what its disk is made of, the machine it runs on, and what it has to try."""

    name: str
    suite: str
    packages: tuple[str, ...]
    python: str  # major.minor of its interpreter, for which wheels are fetched
    disk: str
    parts: tuple[str, ...]  # of PARTS: how rootless gets into it
    debian: str  # name of the Debian among its container images
    debian_packages: tuple[str, ...]
    debs: tuple[str, ...]  # packages that lie in that image, to be installed from inside
    memory: int  # MB
    cpus: int
    reboots: bool  # whether it may: one that may not ends where its kernel panics
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
        tuple(ini["media"]["parts"].split()),
        ini["media"]["debian"],
        tuple(ini["media"]["packages"].split()),
        tuple(ini["media"]["debs"].split()),
        ini.getint("machine", "memory"),
        ini.getint("machine", "cpus"),
        ini.getboolean("machine", "reboots"),
        ini.getint("lane", "seconds"),
        ini.getint("lane", "silence"),
        tuple(ini["lane"]["steps"].split()),
    )
    if not set(guest.parts) <= set(PARTS):
        raise LaneError(
            f"cannot make the disk of {name}: {path} has parts other than {' '.join(PARTS)}"
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
