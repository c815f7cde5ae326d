"""What every lane shares: what a test requires of the machine, isolation, and proof that nothing leaks.

A test never touches its user's world: HOME and the XDG directories are its own, ROOTLESS_* variables are
taken away.  Afterwards no process may know the test's directory, nothing may be mounted below it, and no
descriptor may be open that was not before.

The only way to skip is ``@pytest.mark.requires("overlay", "skopeo", ...)``: a probe named below, or a
program.  With --strict-host, and in CI, a skip is a failure unless tests/expected-skips.txt lists it.
"""

from __future__ import annotations

import fcntl
import fnmatch
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPECTED_SKIPS = Path(__file__).with_name("expected-skips.txt")
TIMEOUT = 120.0
collect_ignore = ["root"] if os.getuid() else []  # tests/run runs those by root, after the others
# Those of control groups need a machine that has but version 2, which tests/run makes them (its last lane).
collect_ignore_glob = [] if os.environ.get("ROOTLESS_TEST_CGROUP_LANE") else ["*/test_cgroup*.py"]


# What a test may require.


def _unshares(flags: str) -> str:
    done = subprocess.run(
        ["unshare", *flags.split(), "true"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr.strip() or "unshare fails"


def _opens(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def _subid() -> str:
    import pwd

    uid = os.getuid()
    names = (pwd.getpwuid(uid).pw_name, str(uid))
    for file in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(file).read_text().splitlines()
        except OSError as error:
            return f"{file}: {error.strerror}"
        if not any(line.split(":")[0] in names for line in lines):
            return f"{file} has no range for {names[0]}"
    return "" if shutil.which("newuidmap") else "newuidmap is not installed"


def _facts() -> Any:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from rootless import jsonc\n"
        "from rootless.engine.context import Context\n"
        "sys.stdout.write(jsonc.dumps(Context.load(os.environ).facts.to_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False
    )
    import json

    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-500:]}


@cache
def _fact(name: str) -> Any:
    return _facts().get(name)


PROBES: dict[str, Callable[[], str]] = {
    "root": lambda: "" if os.getuid() == 0 else "not run by root",
    "ordinary-user": lambda: "run by root" if os.getuid() == 0 else "",
    "userns": lambda: _unshares("-Ur"),
    "subid": _subid,
    "fuse": lambda: _opens("/dev/fuse"),
    "net-tun": lambda: _opens("/dev/net/tun"),
    "fuse-overlayfs-opaque": lambda: (
        "" if _fact("fuse_overlayfs_opaque") else "fuse-overlayfs ignores user.overlay.opaque"
    ),
    "overlay": lambda: "" if _fact("overlay") else f"overlay: {_fact('overlay_error')}",
    "relay": lambda: "" if _fact("net_relay") else f"relay: {_fact('net_relay_error')}",
    "seccomp": lambda: "" if _fact("seccomp") else "no seccomp filter can be loaded",
}


@cache
def lacking(name: str) -> str:
    """Why this machine lacks what NAME stands for, or ""."""
    if name in PROBES:
        return PROBES[name]()
    return "" if shutil.which(name) else "it is not installed"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-host", action="store_true", help="a skip is a failure")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*names): probes or programs the test needs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            why = lacking(name)
            if why:
                pytest.skip(f"requires {name}: {why}")


def _expected(reason: str) -> bool:
    if not EXPECTED_SKIPS.exists():
        return False
    lines = (line.partition("#")[0].strip() for line in EXPECTED_SKIPS.read_text().splitlines())
    return any(line and fnmatch.fnmatch(reason, line) for line in lines)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    strict = item.config.getoption("--strict-host") or os.environ.get("CI") == "true"
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not _expected(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped where nothing may be skipped: {reason}"
    return report


# Isolation.


@pytest.fixture(autouse=True)
def isolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A world of the test's own, and the check that nothing of it is left over."""
    world = tmp_path / "world"
    for name, variable in (
        ("home", "HOME"),
        ("home/.config", "XDG_CONFIG_HOME"),
        ("home/.local/share", "XDG_DATA_HOME"),
        ("home/.cache", "XDG_CACHE_HOME"),
        ("run", "XDG_RUNTIME_DIR"),
    ):
        (world / name).mkdir(parents=True, exist_ok=True)
        (world / name).chmod(0o700)
        monkeypatch.setenv(variable, str(world / name))
    for variable in [name for name in os.environ if name.startswith(("ROOTLESS_", "DOCKER_"))]:
        monkeypatch.delenv(variable)
    before = descriptors()
    yield world
    leaked = {fd: to for fd, to in descriptors().items() if before.get(fd) != to}
    if leaked:
        gc.collect()
        leaked = {fd: to for fd, to in descriptors().items() if before.get(fd) != to}
    assert not leaked, f"descriptors left open: {leaked}"
    assert not leftovers(tmp_path), f"left behind: {leftovers(tmp_path)}"


def descriptors() -> dict[int, str]:
    """This process's open descriptors and what they lead to, without what pytest itself opens."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the directory that was just listed
        if not target.startswith(("anon_inode:[eventpoll]", "anon_inode:[eventfd]")):
            found[int(name)] = target
    return found


def leftovers(directory: Path) -> list[str]:
    """Processes that name DIRECTORY on their command line, and mounts below it."""
    deadline = time.monotonic() + 5
    while True:
        found = _processes(str(directory)) + _mounts(str(directory))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def _processes(text: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) == os.getpid() or os.stat(f"/proc/{pid}").st_uid != os.getuid():
                continue
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if any(one == text or text + "/" in one for one in words.split("\0")):
            found.append(f"process {pid}: {words.replace(chr(0), ' ')[:200]}")
    return found


def _mounts(text: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        return [line.strip() for line in file if f" {text}/" in line]


# The command of the checkout.


@pytest.fixture(scope="session")
def libexec() -> str:
    """Directory of the helper programs, compiled from the checkout if need be."""
    chosen = ROOT / "rootless" / "libexec"
    cache_dir = ROOT / "helpers"
    with open(cache_dir / "Makefile", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several xdist workers, one compilation
        built = [chosen / name for name in ("launch", "monitor", "realm", "init", "hello")]
        newest = max(path.stat().st_mtime for path in cache_dir.glob("*.[ch]"))
        if not all(path.exists() and path.stat().st_mtime >= newest for path in built):
            subprocess.run(["make", "-s", "-C", str(cache_dir), "install"], check=True)
    return str(chosen)


SHIM = """import sys
sys.path[:0] = [{root!r}]
sys.path += {site!r}
from rootless.__main__ import script
script()
"""


class Cli:
    """The command line of the checkout, as installed: isolated interpreter, environment of the test."""

    def __init__(self, directory: Path, libexec: str, python: str = sys.executable) -> None:
        import site

        shim = directory / "rootless"
        shim.write_text(SHIM.format(root=str(ROOT), site=site.getsitepackages()))
        self.argv = [python, "-I", "-S", str(shim)]
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "ROOTLESS_LIBEXEC": libexec,
            "ROOTLESS_NETWORK_DEFAULT": "host",  # else each world has a network service to wait for
            "ROOTLESS_NETWORK_IDLE": "1",
            **{k: v for k, v in os.environ.items() if k == "HOME" or k.startswith("XDG_")},
        }

    def __call__(
        self, *words: str, check: bool = True, stdin: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``rootless WORDS``; unless CHECK is false, its exit code has to be 0."""
        done = subprocess.run(
            [*self.argv, *words],
            env={**self.env, **env},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"rootless {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def python(self, code: str, *words: str) -> None:
        """Run CODE in the same interpreter and environment."""
        subprocess.run(
            [*self.argv[:3], "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n{code}", *words],
            env=self.env,
            check=True,
            timeout=TIMEOUT,
        )

    def clean(self) -> None:
        """Remove all containers, then what only the realm may remove, then end the realm."""
        listed = self("ps", "-aq", check=False).stdout.split()
        if listed:
            self("rm", "-f", *listed, check=False)
        data = Path(self.env["XDG_DATA_HOME"]) / "rootless"
        if data.exists() and any(Path(self.env["XDG_RUNTIME_DIR"]).glob("rootless/*/realm/*")):
            self.python(REMOVE, str(data))
        end_realms(Path(self.env["XDG_RUNTIME_DIR"]))


REMOVE = """import os
from rootless.engine.context import Context
Context.load(os.environ).remove_trees(sys.argv[1:])
"""


def end_realms(runtime: Path) -> None:
    """Kill the realm holders whose records lie below a runtime directory."""
    for record in runtime.glob("rootless/*/realm/*"):
        words: Sequence[str] = record.read_text().split() if record.suffix != ".lock" else ()
        if len(words) == 2:
            stat = Path(f"/proc/{words[0]}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[19] == words[1]:
                os.kill(int(words[0]), signal.SIGKILL)


@pytest.fixture
def rootless(isolation: Path, libexec: str) -> Iterator[Cli]:
    """``rootless(*words)`` runs the checkout's command in the test's own world."""
    cli = Cli(isolation, libexec)
    yield cli
    cli.clean()
