"""The launcher's tests once more: with sanitizers in it, and without the system calls of newer kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBEXEC = os.environ.get("ROOTLESS_LIBEXEC") or f"{TOP}/rootless/libexec"
PARTS = ("", "_attach", "_connect", "_connect_held", "_owner", "_mind", "_group")


@pytest.mark.requires("userns", "overlay", "busybox", "cc")
def test_the_launcher_under_sanitizers(tmp_path: Any) -> None:
    libexec = tmp_path / "libexec"
    shutil.copytree(LIBEXEC, libexec)
    sources = [
        f"{TOP}/helpers/{name}"
        for name in sorted(os.listdir(f"{TOP}/helpers"))
        if name.startswith("launch") and name.endswith(".c")
    ]
    flags = ["-std=gnu11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *flags, "-o", str(libexec / "launch"), *sources], check=True)
    env = {"ROOTLESS_LIBEXEC": str(libexec), "ASAN_OPTIONS": "detect_leaks=0"}
    again(env, tmp_path)


@pytest.mark.requires("userns", "overlay", "busybox", "cc")
def test_the_launcher_on_an_older_kernel(tmp_path: Any) -> None:
    wrapper = str(tmp_path / "old_kernel")
    subprocess.run(["cc", "-O", "-o", wrapper, f"{TOP}/helpers/tests/old_kernel.c"], check=True)
    again({"ROOTLESS_TEST_WRAPPER": wrapper}, tmp_path)


def again(env: dict[str, str], tmp_path: Any) -> None:
    """The launcher's tests in a pytest of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         *(f"{TOP}/tests/helpers/test_launch{part}.py" for part in PARTS),
         f"--basetemp={tmp_path}/inner"],
        env={**os.environ, **env},
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
