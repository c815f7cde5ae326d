"""Worlds that several files share, since making them takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import debian
import pytest
from netapps import SERVERS
from networld import NetWorld
from rig import World, busybox
from webrig import Web


@pytest.fixture(scope="session")
def servers_world() -> Iterator[NetWorld]:
    """A world with the images busybox and servers (Debian with PostgreSQL, nginx and tools of networks)."""
    world = NetWorld()
    try:
        busybox(world)
        debian.load(world, SERVERS, debian.NETWORK_PACKAGES, debian.NETWORK_HOOK)
        yield world
    finally:
        world.close()


@pytest.fixture
def apps(servers_world: NetWorld) -> Iterator[NetWorld]:
    """That world; what a test leaves in it is taken away."""
    before = servers_world.out("network", "ls", "-q").split()
    yield servers_world
    names = servers_world.names()
    if names:
        servers_world("rm", "-f", *names)
    made = set(servers_world.out("network", "ls", "-q").split()) - set(before)
    if made:
        servers_world("network", "rm", *made)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A world of the module's own, with busybox."""
    made = World()
    try:
        busybox(made)
        yield made
    finally:
        made.close()


@pytest.fixture
def ctx(tmp_path: Path) -> Path:
    """An empty directory, to be a build's context."""
    (tmp_path / "ctx").mkdir()
    return tmp_path / "ctx"


@pytest.fixture
def web(ctx: Path) -> Iterator[Web]:
    """A server of files, and of git repositories below the context's ``served``."""
    made = Web(str(ctx / "served"))
    try:
        yield made
    finally:
        made.close()
