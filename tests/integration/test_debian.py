"""A real Debian, made from its packages: what people do in one."""

from __future__ import annotations

from collections.abc import Iterator

import debian
import pytest
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "mmdebstrap")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        debian.load(world)
        yield world
    finally:
        world.close()


def test_python_and_pipelines(rl: World) -> None:
    assert rl.out("run", "--rm", "debian:12", "python3", "-c", "print(6 * 7)") == "42"
    pipeline = "seq 100 | grep 7 | sort -rn | head -n 1"
    assert rl.out("run", "--rm", "debian:12", "bash", "-c", pipeline) == "97"


def test_users_of_the_image(rl: World) -> None:
    assert rl.out("run", "--rm", "-u", "nobody", "debian:12", "id", "-un") == "nobody"
    owner = rl.out("run", "--rm", "debian:12", "stat", "-c", "%U:%G %a", "/etc/shadow")
    assert owner == "root:shadow 640"


def test_a_package_is_installed(rl: World) -> None:
    script = (
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends hello >/dev/null "
        "&& hello && stat -c %U /var/cache/apt/archives/partial"
    )
    done = rl("run", "--rm", "debian:12", "bash", "-c", script)
    assert done.stdout.splitlines()[-2:] == ["Hello, world!", "_apt"]


def test_a_package_is_built_and_unpacked(rl: World) -> None:
    script = (
        "mkdir -p /p/DEBIAN /p/srv && echo content > /p/srv/file && chown 33:33 /p/srv/file && "
        "printf 'Package: own\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@example.org>\\n"
        "Description: t\\n' > /p/DEBIAN/control && dpkg-deb -b /p /own.deb >/dev/null && "
        "dpkg -i /own.deb >/dev/null && stat -c %U /srv/file && dpkg -r own >/dev/null && test ! -e /srv/file"
    )
    assert (
        rl.out("run", "--rm", "--network", "none", "debian:12", "bash", "-c", script) == "www-data"
    )
