"""The monitor's command line and connections, without a monitor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rootless.runtime import monitor

CHECKOUT = Path(__file__).resolve().parents[2]


def test_hot_imports() -> None:
    """Both modules and what they bring along are C modules or ours."""
    script = (
        "import os, sys; b = set(sys.modules); sys.path.insert(0, sys.argv[1])\n"
        "import rootless.runtime.attach\nprint(*sorted(set(sys.modules) - b))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(CHECKOUT)],
        capture_output=True,
        text=True,
        check=True,
    )
    allowed = {
        "__future__",
        "_json",
        "_socket",
        "_struct",
        "errno",
        "fcntl",
        "select",
        "struct",
        "termios",
    }
    assert {name for name in done.stdout.split() if not name.startswith("rootless")} <= allowed


def test_missing_program_is_one_sentence(tmp_path: Path) -> None:
    options = monitor.MonitorOptions(id="x", launch="x", tape="x")
    found: BaseException | None = None
    try:
        monitor.spawn(str(tmp_path), options)
    except Exception as error:
        found = error
    assert str(found) == f"cannot execute {tmp_path}/monitor: no such file or directory"


def test_connect_to_nobody(tmp_path: Path) -> None:
    for path in (tmp_path / "sock", tmp_path / ("x" * 150) / "sock"):
        with pytest.raises(FileNotFoundError):
            monitor.connect(str(path))


def test_arguments() -> None:
    options = monitor.MonitorOptions(
        id="i",
        launch="l",
        tape="t",
        tty=True,
        restart="on-failure",
        restart_max=3,
        on_exit="/x",
        on_exit_args=["a", "b"],
    )
    argv = options.argv()
    assert {
        "--id=i",
        "--tty=1",
        "--stdin=0",
        "--restart=on-failure",
        "--restart-max=3",
        "--on-exit=/x",
    } <= set(argv)
    assert argv[-2:] == ["--on-exit-arg=a", "--on-exit-arg=b"]
    assert not [a for a in argv if a.startswith(("--socket", "--log=", "--state"))]
