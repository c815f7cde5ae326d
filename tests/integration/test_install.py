"""install.sh by an ordinary user: what it puts where, upgrades, kills in the middle, and what it lacks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSED_ON = ("PATH", "LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy")
# How the outer world reaches the package index; a test's own HOME would hide it.
INDEX = {k: v for k, v in os.environ.items() if k in PASSED_ON or k.startswith("PIP_")}

pytestmark = pytest.mark.requires("ordinary-user", "cc")


class World:
    """A home of its own, and install.sh run in it."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.prefix = self.home / ".local" / "lib" / "rootless"
        self.command = self.home / ".local" / "bin" / "rootless"
        (directory / "run").mkdir(mode=0o700)
        self.home.mkdir()
        self.env = {**INDEX, "HOME": str(self.home), "XDG_RUNTIME_DIR": str(directory / "run")}

    def install(
        self, *words: str, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(ROOT / "install.sh"), *words],
            env={**self.env, **env},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.command), *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def tree(self) -> set[str]:
        """Every file and link below the home, without what pip and Python cache."""
        found = set()
        for top, dirs, names in os.walk(self.home):
            dirs[:] = [d for d in dirs if d not in (".cache", "__pycache__")]
            links = [d for d in dirs if os.path.islink(os.path.join(top, d))]
            found |= {os.path.relpath(os.path.join(top, n), self.home) for n in [*names, *links]}
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    one = World(tmp_path_factory.mktemp("install"))
    done = one.install()
    one.first = done.stdout  # type: ignore[attr-defined]
    yield one
    end_realm(one)


def end_realm(world: World) -> None:
    for record in Path(world.env["XDG_RUNTIME_DIR"]).glob("rootless/*/realm/*"):
        words = record.read_text().split()
        if len(words) == 2:
            os.kill(int(words[0]), signal.SIGKILL)


def test_it_ends_with_doctor(world: World) -> None:
    first: str = world.first  # type: ignore[attr-defined]
    assert f"installed {world.command}" in first
    assert "IDs: " in first
    assert "storage: " in first
    assert "note: " in first  # this bin directory is in nobody's PATH


def test_what_is_put_where(world: World) -> None:
    tree = world.tree()
    for path in (
        ".local/bin/rootless",
        ".local/lib/rootless/current",
        ".local/lib/rootless/manifest",
        ".local/share/man/man1/rootless.1",
        ".local/share/man/man1/rootless-run.1",
        ".local/share/bash-completion/completions/rootless",
        ".local/share/zsh/site-functions/_rootless",
        ".config/fish/completions/rootless.fish",
    ):
        assert path in tree
    assert [p for p in tree if p.startswith(".local/lib/rootless/v-") and "/source/" in p] == []
    assert list(world.prefix.glob("v-*/pip.log")) == []


def test_the_command_starts_bare(world: World) -> None:
    lines = world.command.read_text().splitlines()
    assert lines[0] == f"#!{world.prefix}/current/env/bin/python -IS"
    assert len(lines) == 5
    assert world.run("version").returncode == 0


def test_the_helpers_are_static_and_bytecode_is_there(world: World) -> None:
    package = next(world.prefix.glob("current/env/lib/python*/site-packages/rootless"))
    for name in ("launch", "monitor", "realm", "init", "hello"):
        program = package / "libexec" / name
        assert os.access(program, os.X_OK)
        assert b"ld-linux" not in program.read_bytes()[:4096]
    assert (package / "conf" / "seccomp.json").exists()
    assert (package / "conf" / "apparmor" / "rootless-launch").exists()
    assert list((package / "plan" / "__pycache__").glob("tape.*.pyc"))


@pytest.mark.requires("userns", "overlay")
def test_the_readme_command_works(world: World) -> None:
    done = world.run("run", "--rm", "--network", "none", "hello")
    assert done.returncode == 0, done.stderr
    assert "nobody was root" in done.stdout


def test_again_is_an_upgrade_in_place(world: World) -> None:
    before = os.readlink(world.prefix / "current")
    world.install("--no-doctor")
    after = os.readlink(world.prefix / "current")
    assert after != before
    assert [path.name for path in world.prefix.glob("v-*")] == [after]
    assert world.run("version").returncode == 0


@pytest.mark.parametrize("stage", ["env", "source", "man"])
def test_killed_in_the_middle_the_old_one_stays(world: World, stage: str) -> None:
    old = os.readlink(world.prefix / "current")
    child = subprocess.Popen(
        [str(ROOT / "install.sh"), "--no-doctor"],
        env=world.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while child.poll() is None:
            if any(path.parent.name != old for path in world.prefix.glob(f"v-*/{stage}")):
                break
            time.sleep(0.005)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert world.run("version").returncode == 0
    assert os.path.exists(world.prefix / "current" / "env")
    world.install("--no-doctor")
    assert len(list(world.prefix.glob("v-*"))) == 1
    assert list(world.prefix.glob("current.new.*")) == []


def test_two_at_once_do_not_mix(world: World) -> None:
    flock = shutil.which("flock")
    assert flock is not None
    holder = subprocess.Popen(
        [flock, str(world.prefix / ".lock"), "sleep", "30"], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 10
        done = world.install("--no-doctor", check=False)
        while "another install.sh" not in done.stderr and time.monotonic() < deadline:
            done = world.install("--no-doctor", check=False)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    assert done.returncode == 1
    assert "another install.sh is at work there" in done.stderr


def test_uninstall_takes_what_it_put_and_nothing_else(world: World) -> None:
    (world.prefix / "mine.txt").write_text("not from install.sh")
    (world.home / ".local" / "bin" / "other").write_text("")
    units = world.home / ".config/systemd/user"
    (units / "default.target.wants").mkdir(parents=True)
    (units / "rootless-resume.service").write_text("")  # as `system resume --install` does
    (units / "default.target.wants/rootless-resume.service").symlink_to(
        "../rootless-resume.service"
    )
    data = {path for path in world.tree() if path.startswith(".local/share/rootless/")}
    done = world.install("--uninstall")
    assert "images and containers were left alone" in done.stdout
    kept = {".local/lib/rootless/mine.txt", ".local/bin/other", *data}
    assert world.tree() == kept
    again = world.install("--uninstall", check=False)
    assert again.returncode == 1
    assert "install.sh did not put it there" in again.stderr


# Each of these in a home of its own.


@pytest.fixture
def tmp_world(tmp_path: Path) -> World:
    (tmp_path / "w").mkdir()
    return World(tmp_path / "w")


def test_a_prefix_that_a_shebang_cannot_hold(tmp_path: Path) -> None:
    top = tmp_path / 'it\'s a "place" with $HOME'
    top.mkdir()
    world = World(top)
    world.install("--no-doctor")
    assert world.command.read_text().startswith("#!/bin/sh\n")
    assert world.run("version").returncode == 0
    assert world.run("run", "--nonsense").returncode == 125


def limited_path(directory: Path, *without: str) -> str:
    """A PATH with every program of the usual directories except those named."""
    directory.mkdir()
    for place in ("/usr/local/bin", "/usr/bin", "/bin"):
        for name in os.listdir(place):
            target = directory / name
            if not target.is_symlink() and not name.startswith(without):
                target.symlink_to(os.path.join(place, name))
    return str(directory)


COMPILERS = ("cc", "gcc", "clang", "c89", "c99", "musl-gcc", "x86_64-linux-gnu-gcc", "tcc", "g++")


def test_without_compiler_and_network_it_says_so(tmp_world: World, tmp_path: Path) -> None:
    path = limited_path(tmp_path / "bin", *COMPILERS)
    done = tmp_world.install(
        "--no-doctor", check=False, PATH=path, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0",
        PIP_FIND_LINKS="",
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot build the helper programs: there is no C compiler" in done.stderr
    assert "the Python package index cannot be reached" in done.stderr
    assert not tmp_world.command.exists()
    assert list(tmp_world.prefix.glob("v-*")) == []


def test_without_network_it_says_so_and_leaves_nothing(tmp_world: World) -> None:
    done = tmp_world.install(
        "--no-doctor", check=False, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0",
        PIP_FIND_LINKS="",
    )  # fmt: skip
    assert done.returncode == 1
    assert "the Python package index cannot be reached" in done.stderr
    assert not tmp_world.command.exists()
    assert list(tmp_world.prefix.glob("v-*")) == []


def test_helpers_that_do_not_compile_are_said(tmp_world: World, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    fails = 'case "$*" in *launch*) echo "no such luck" >&2; exit 1 ;; esac'
    broken.write_text(f'#!/bin/sh\n{fails}\nexec cc "$@"\n')
    broken.chmod(0o755)
    done = tmp_world.install("--no-doctor", check=False, CC=str(broken))
    assert done.returncode == 1
    assert "cannot compile the helper programs" in done.stderr
    assert "no such luck" in done.stderr
    assert not tmp_world.command.exists()


def test_without_make_the_script_builds(tmp_world: World, tmp_path: Path) -> None:
    path = limited_path(tmp_path / "bin", "make", "gmake")
    tmp_world.install("--no-doctor", PATH=path)
    assert tmp_world.run("version").returncode == 0
    package = next(tmp_world.prefix.glob("current/env/lib/python*/site-packages/rootless"))
    assert os.access(package / "libexec" / "launch", os.X_OK)


def test_an_old_python_is_refused(tmp_world: World, tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = tmp_world.install("--python", str(old), check=False)
    assert done.returncode == 1
    assert f"cannot use {old}: it is not Python 3.9 or newer" in done.stderr


def test_options(tmp_world: World) -> None:
    assert "usage: ./install.sh" in tmp_world.install("--help").stdout
    done = tmp_world.install("--colour", check=False)
    assert done.returncode == 1
    assert "unknown option --colour" in done.stderr
    assert tmp_world.tree() == set()


def test_a_directory_that_cannot_be_made_is_named(tmp_world: World) -> None:
    done = tmp_world.install("--prefix", "/proc/none", check=False)
    assert done.returncode == 1
    assert "cannot install to /proc/none" in done.stderr


def test_places_can_be_chosen(tmp_world: World) -> None:
    tmp_world.install("--no-doctor", "--prefix=lib", "--bin-dir", "bin", "--python", sys.executable)
    command = tmp_world.home / "bin" / "rootless"
    done = subprocess.run(
        [str(command), "version"], env=tmp_world.env, capture_output=True, check=False
    )
    assert done.returncode == 0
    tmp_world.install("--uninstall", "--prefix=lib", "--bin-dir", "bin")
    assert tmp_world.tree() == set()
    assert not (tmp_world.home / "lib").exists()
