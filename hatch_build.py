"""Build hook: compiles helpers/ into rootless/libexec and puts conf/ into the package.

ROOTLESS_CC names the compiler; "cc" unless set.  The wheel is for one machine type and, as the programs
are static, for any libc.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class HelperBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the helper programs to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what goes where."""
        if self.target_name != "wheel" or version == "editable":
            return
        self._scratch = tempfile.mkdtemp(prefix="rootless-build-")
        libexec = os.path.join(self._scratch, "libexec")
        argv = [
            shutil.which("make") or "make",
            "-C",
            os.path.join(self.root, "helpers"),
            "install",
            f"BUILD={self._scratch}/build",
            f"LIBEXEC={libexec}",
            f"CC={os.environ.get('ROOTLESS_CC', 'cc')}",
        ]
        if not shutil.which("make"):
            argv = ["sh", os.path.join(self.root, "helpers", "build.sh"), libexec]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"cannot compile the helper programs: {done.stderr[-2000:]}")
        build_data["force_include"][libexec] = "rootless/libexec"
        build_data["force_include"][os.path.join(self.root, "conf")] = "rootless/conf"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the scratch directory."""
        shutil.rmtree(getattr(self, "_scratch", ""), ignore_errors=True)
