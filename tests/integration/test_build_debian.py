"""Real things built on a real Debian: packages, owners, hard links, setuid programs, services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import debian
import pytest
from buildrig import build, cached, image
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "mmdebstrap")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    try:
        debian.load(made)
        yield made
    finally:
        made.close()


SERVICE = """# syntax=docker/dockerfile:1
FROM debian:12 AS base
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt \\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends hello >/dev/null
FROM base AS app
RUN useradd --system --create-home web && install -d -o web /srv/app
WORKDIR /srv/app
COPY --chown=web app.py .
COPY --chmod=755 <<-"EOF" /usr/local/bin/start
	#!/bin/sh
	exec python3 /srv/app/app.py "$@"
	EOF
RUN <<EOF
cp /usr/bin/hello /usr/local/bin/own && chmod 4755 /usr/local/bin/own
ln /usr/local/bin/own /usr/local/bin/same
setcap -q cap_net_raw+p /usr/local/bin/start 2>/dev/null || true
EOF
USER web
ENTRYPOINT ["start"]
CMD ["world"]
"""


def test_a_service_on_debian_packages(world: World, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, pwd, sys\nprint('hello', sys.argv[1], pwd.getpwuid(os.getuid())[0])\n"
    )
    build(world, tmp_path, SERVICE, "-t", "service:1")
    assert world.out("run", "--rm", "service:1") == "hello world web"
    shell = ("run", "--rm", "--entrypoint", "bash", "-u", "0", "service:1", "-c")
    assert world.out(*shell, "hello | head -n1; dpkg --audit; stat -c '%U %a' app.py .") == (
        "Hello, world!\nweb 644\nweb 755"
    )
    assert world.out(
        *shell, "cd /usr/local/bin; stat -c '%a %h' own; [ own -ef same ] && echo linked"
    ) == ("4755 2\nlinked")
    assert (
        world.out(
            *shell,
            "ls /var/cache/apt /var/lib/apt/lists 2>/dev/null | grep -c amd64_Packages || true",
        )
        == "0"
    )
    (tmp_path / "app.py").write_text("print('other')\n")
    done = build(world, tmp_path, SERVICE, "-t", "service:2")
    assert cached(done) == [True, True, True, False, False, False]
    assert world.out("run", "--rm", "service:2") == "other"


def test_an_empty_image_with_what_another_stage_made(world: World, tmp_path: Path) -> None:
    text = """FROM debian:12 AS make
RUN mkdir -p /out && ldd /bin/true | grep -o "/[^ ]*" | xargs -I{} cp --parents -L {} /out
RUN cp --parents /bin/true /out && echo 42 > /answer
FROM scratch
COPY --from=make /out /
COPY --from=make /answer /
CMD ["/bin/true"]
"""
    made = image(world, tmp_path, text)
    assert world("run", "--rm", made).returncode == 0
