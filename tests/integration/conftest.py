"""Worlds that several files share, since making them takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import debian
import pytest
from netapps import SERVERS
from networld import NetWorld
from rig import busybox


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
