"""The start-up budget: what each everyday command may import, counted in a real run of it.

Start-up is imports.  A module joins ALLOWED only with its cost in the commit message.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")

# C modules, what the interpreter needs to find files, and what os itself imports.
ALLOWED = {
    *("__future__", "_collections_abc", "_json", "_sha2", "_sha256", "_socket", "_stat", "_struct"),
    *("_random", "_signal", "_posixsubprocess", "binascii", "zlib", "abc", "_abc", "io", "errno"),
    *("fcntl", "genericpath", "os", "os.path", "posixpath", "select", "stat", "struct", "termios"),
    *("pwd", "grp", "marshal", "time", "codecs", "encodings.ascii", "encodings.utf_8", "ntpath"),
}
FORBIDDEN = {
    *("asyncio", "click", "collections", "ctypes", "dataclasses", "datetime", "enum", "functools"),
    *("hashlib", "json", "logging", "pathlib", "pyroute2", "re", "shutil", "signal", "socket"),
    *("sqlite3", "ssl", "subprocess", "tempfile", "threading", "typing"),
}

REPORT = """import sys
before = set(sys.modules)
sys.path[:0] = [{root!r}]
from rootless.__main__ import main
code = main(sys.argv[1:])
new = sorted(set(sys.modules) - before)
open({out!r}, "w").write(" ".join([str(code), *new]))
"""

VERBS: dict[str, list[str]] = {
    "run": ["run", "--rm", "--network", "none", "hello"],
    "run -v": ["run", "--rm", "--network", "none", "-v", "data:/data", "hello"],
    "run on a network": ["run", "--rm", "--network", "bridge", "hello"],
    "volume ls": ["volume", "ls"],
    "run -d": ["run", "-d", "--name", "extra", "hello"],
    "create": ["create", "hello"],
    "start": ["start", "kept"],
    "start -a": ["start", "-a", "kept"],
    "stop": ["stop", "kept"],
    "kill": ["kill", "kept"],
    "restart": ["restart", "kept"],
    "exec": ["exec", "kept", "true"],
    "logs": ["logs", "kept"],
    "ps": ["ps", "-a"],
    "stats": ["stats", "--no-stream"],
    "events": ["events", "--since", "1h", "--until", "0s"],
    "inspect": ["inspect", "kept"],
    "images": ["images"],
    "port": ["port", "kept"],
    "wait": ["wait", "kept"],
    "rm": ["rm", "-f", "kept"],
    "rmi": ["rmi", "nothing"],
    "version": ["version"],
}


def imported(rootless: Any, tmp_path: Path, words: list[str]) -> set[str]:
    """Modules that one command line brings in, above a bare interpreter."""
    out = tmp_path / "modules"
    code = REPORT.format(root=str(Path(__file__).resolve().parents[2]), out=str(out))
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *words],
        env=rootless.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return set(out.read_text().split()[1:])


def warmed(rootless: Any) -> None:
    """Facts probed, image made and unpacked, realm up: what a second command finds."""
    rootless("run", "--name", "kept", "-v", "data:/data", "hello")
    volume = Path(rootless.env["XDG_DATA_HOME"], "rootless", "volumes", "data", "_data")
    (volume / "used").touch()  # an empty one would be filled from the image, by a worker


@pytest.mark.parametrize("verb", VERBS)
def test_an_everyday_command_stays_within_its_budget(
    rootless: Any, tmp_path: Path, verb: str
) -> None:
    warmed(rootless)
    modules = imported(rootless, tmp_path, VERBS[verb])
    foreign = {name for name in modules if name.split(".")[0] != "rootless"}
    assert foreign <= ALLOWED, f"{verb} imports {sorted(foreign - ALLOWED)}"


@pytest.mark.requires("relay")
def test_a_network_whose_service_runs_costs_no_driver(rootless: Any, tmp_path: Path) -> None:
    warmed(rootless)
    rootless(*VERBS["run on a network"])
    modules = imported(rootless, tmp_path, VERBS["run on a network"])
    assert "rootless.runtime.network" in modules
    assert not [name for name in modules if name.startswith("rootless.drivers.network")]


def test_a_settings_file_costs_nothing_the_second_time(rootless: Any, tmp_path: Path) -> None:
    file = Path(rootless.env["XDG_CONFIG_HOME"], "rootless", "rootless.toml")
    file.parent.mkdir()
    file.write_text("[run]\nstop_timeout = 3\n")
    first = imported(rootless, tmp_path, ["ps"])
    assert "tomllib" in first or "tomli" in first
    second = imported(rootless, tmp_path, ["ps"])
    assert {name for name in second if name.split(".")[0] != "rootless"} <= ALLOWED


def test_the_measurement_sees_what_is_forbidden(rootless: Any, tmp_path: Path) -> None:
    assert FORBIDDEN.isdisjoint(ALLOWED)
    assert {"click", "re"} <= imported(rootless, tmp_path, ["run", "--help"])
