"""What people build, made on a Debian from its packages and PyPI, then run: C, web servers, a database."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import debian
import pytest
from buildrig import build, cached, image, shell
from rig import World, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "mmdebstrap")

# One file for all, as a repository of several services has it; what apt read is one layer below each of them.
DOCKERFILE = """# syntax=docker/dockerfile:1
FROM debian:12 AS packages
ENV DEBIAN_FRONTEND=noninteractive
RUN <<EOF
	echo 'APT::Install-Recommends "false";' > /etc/apt/apt.conf.d/90lean
	echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/unsafe
	printf 'path-exclude=/usr/share/%s/*\\n' doc man locale > /etc/dpkg/dpkg.cfg.d/lean
	printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
	apt-get update -qq
EOF

FROM packages AS compiler
RUN apt-get install -y -qq gcc libc6-dev >/dev/null
FROM compiler AS library
WORKDIR /src
COPY add.c add.h ./
RUN gcc -O2 -c add.c && ar rcs libadd.a add.o
FROM compiler AS program
WORKDIR /src
COPY --from=library /src/libadd.a /src/add.h ./
COPY main.c .
RUN gcc -O2 -static -o /sum main.c -L. -ladd && strip /sum
FROM scratch AS sum
COPY --from=program --chmod=555 /sum /bin/sum
USER 65534:65534
ENTRYPOINT ["/bin/sum"]
CMD ["1", "2"]

FROM packages AS python
RUN apt-get install -y -qq python3-pip python3-venv >/dev/null
RUN useradd --system web
WORKDIR /srv
COPY requirements.txt .
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca <<EOF
	set -e
	python3 -m venv /venv
	if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
	/venv/bin/pip install -q --cache-dir=/var/cache/pip --disable-pip-version-check -r requirements.txt
EOF
COPY --chown=web app.py .
FROM python AS web
ENV PORT=0 PYTHONUNBUFFERED=1
USER web
CMD ["/venv/bin/python", "app.py"]

FROM packages AS nginx
RUN apt-get install -y -qq nginx-light >/dev/null && \\
    ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
COPY <<EOF /var/www/html/index.html
served from an image
EOF
COPY --chmod=755 <<"EOF" /start
#!/bin/sh
sed -i "s/listen 80 .*/listen 127.0.0.1:$PORT;/; /listen \\[/d" /etc/nginx/sites-available/default
exec nginx -g 'daemon off;'
EOF
STOPSIGNAL SIGQUIT
CMD ["/start"]

FROM packages AS postgres
RUN apt-get install -y -qq postgresql >/dev/null && rm -rf /var/lib/postgresql/*/main
USER postgres
ENV PGDATA=/var/lib/postgresql/data
RUN /usr/lib/postgresql/*/bin/initdb --no-sync -E UTF8 >/dev/null
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
CMD exec /usr/lib/postgresql/*/bin/postgres -c listen_addresses=127.0.0.1 -p $PORT -c fsync=off
"""

APP = """
import http.server, json, os, pwd, signal, six


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {"path": self.path, "six": six.__version__, "user": pwd.getpwuid(os.getuid())[0]}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    try:
        debian.load(made)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("context")
    (path / "add.h").write_text("int add(int, int);\n")
    (path / "add.c").write_text('#include "add.h"\nint add(int a, int b) { return a + b; }\n')
    (path / "main.c").write_text(
        '#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include "add.h"\n'
        "int main(int n, char **v) { (void)n;\n"
        '  printf("%d by %d\\n", add(atoi(v[1]), atoi(v[2])), (int)getuid()); }\n'
    )
    (path / "app.py").write_text(APP)
    (path / "requirements.txt").write_text("six==1.16.0\n")
    return path


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@contextmanager
def running(world: World, name: str) -> Iterator[tuple[str, str]]:
    """(container, port) of a service that listens on the host's loopback; it has to end when it is asked to."""
    port = free_port()
    made = world.out("run", "-d", "--network=host", "-e", f"PORT={port}", name)
    try:
        yield made, port
        world("stop", "-t", "20", made)
        assert world.out("inspect", "-f", "{{.State.ExitCode}}", made) == "0"
    finally:
        world("rm", "-f", "-v", made)


def fetched(url: str) -> str:
    def ask() -> str:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    return str(until(ask, 30))


def test_a_program_in_c_from_several_stages_alone_in_its_image(world: World, ctx: Path) -> None:
    build(world, ctx, DOCKERFILE, "--target=sum", "-t", "sum")
    assert world.out("run", "--rm", "sum") == "3 by 65534"
    assert world.out("run", "--rm", "sum", "40", "2") == "42 by 65534"
    (found,) = json.loads(world.out("image", "inspect", "sum"))
    assert len(found["RootFS"]["Layers"]) == 1
    assert found["Size"] < 2 << 20
    # Another main.c compiles main.c and nothing else.
    (ctx / "main.c").write_text((ctx / "main.c").read_text().replace("%d by", "= %d by"))
    done = build(world, ctx, DOCKERFILE, "--target=sum", "-t", "sum")
    assert cached(done).count(False) == 3  # COPY main.c, RUN gcc, COPY --from=program
    assert world.out("run", "--rm", "sum") == "= 3 by 65534"


def test_a_web_service_with_layers_of_apt_and_pip(world: World, ctx: Path) -> None:
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or ""
    secret = ["--secret", f"id=ca,src={bundle}"] if bundle else []
    build(world, ctx, DOCKERFILE, "--target=web", "-t", "web", *secret)
    with running(world, "web") as (_, port):
        told = json.loads(fetched(f"http://127.0.0.1:{port}/hello"))
    assert told == {"path": "/hello", "six": "1.16.0", "user": "web"}
    # The application alone has changed: neither apt nor pip runs again.
    (ctx / "app.py").write_text(APP.replace('"path": self.path', '"path": "new"'))
    done = build(world, ctx, DOCKERFILE, "--target=web", "-t", "web", *secret)
    assert cached(done) == [True] * 6 + [False]
    with running(world, "web") as (_, port):
        assert json.loads(fetched(f"http://127.0.0.1:{port}/"))["path"] == "new"


def test_nginx_serves(world: World, ctx: Path) -> None:
    build(world, ctx, DOCKERFILE, "--target=nginx", "-t", "nginx")
    with running(world, "nginx") as (made, port):
        assert fetched(f"http://127.0.0.1:{port}/") == "served from an image\n"
        until(lambda: '"GET / HTTP/1.1" 200' in world.out("logs", made))


def test_postgresql_keeps_and_answers(world: World, ctx: Path) -> None:
    build(world, ctx, DOCKERFILE, "--target=postgres", "-t", "postgres")
    with running(world, "postgres") as (made, port):
        psql = ("exec", made, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port)
        until(lambda: world(*psql, "-c", "select 1", check=False).returncode == 0, 30)
        world(*psql, "-c", "create table t as select generate_series(1, 1000) as n")
        assert world.out(*psql, "-c", "select sum(n) from t") == "500500"
        world("restart", "-t", "20", made)
        until(lambda: world(*psql, "-c", "select 1", check=False).returncode == 0, 30)
        assert world.out(*psql, "-c", "select count(*) from t") == "1000"


def test_thirty_stages_fan_out_from_one_and_in_again(world: World, ctx: Path) -> None:
    stages = "".join(
        f'FROM base AS s{n}\nRUN python3 -c \'print({n}**2, file=open("/out", "w"))\'\n'
        for n in range(30)
    )
    copies = "".join(f"COPY --from=s{n} /out /squares/{n:02}\n" for n in range(30))
    text = f"FROM debian:12 AS base\nRUN echo shared > /shared\n{stages}FROM base\n{copies}"
    made = image(world, ctx, text)
    found = shell(world, made, "cat /squares/*").split()
    assert [int(one) for one in found] == [n**2 for n in range(30)]
    done = build(world, ctx, text.replace("print(7**2", "print(-7"))
    assert cached(done).count(False) == 1 + 23  # the stage, and the copies from it on
