"""The monitor's tests once more, with sanitizers in it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = ("_life", "_health", "_container", "_group")


@pytest.mark.requires("cc")
def test_the_monitor_under_sanitizers(tmp_path: Any) -> None:
    sources = [
        f"{TOP}/helpers/{name}"
        for name in sorted(os.listdir(f"{TOP}/helpers"))
        if name.startswith(("monitor", "log")) and name.endswith(".c")
    ]
    monitor = str(tmp_path / "monitor")
    flags = ["-std=gnu11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *flags, "-o", monitor, *sources], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         *(f"{TOP}/tests/helpers/test_monitor{part}.py" for part in PARTS),
         f"--basetemp={tmp_path}/inner"],
        env={**os.environ, "ROOTLESS_TEST_MONITOR": monitor},
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
