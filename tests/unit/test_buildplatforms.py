"""Which foreign commands can run: what the kernel's table of emulators has to say for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.engine import buildplatforms
from rootless.facts import HostFacts

GOOD = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\nmagic 7f45\n"


class Ctx:
    def __init__(self, arch: str = "x86_64") -> None:
        self.facts = HostFacts(uid=1, gid=1).replace(arch=arch)


def why(tmp_path: Path, platform: str, arch: str = "x86_64") -> str:
    ctx: Any = Ctx(arch)
    found = buildplatforms.cannot_run(ctx, platform, str(tmp_path))
    return "" if found is None else found.message


@pytest.mark.parametrize(
    ("arch", "platform"),
    [
        ("x86_64", "linux/amd64"),
        ("x86_64", "linux/386"),
        ("aarch64", "linux/arm64/v8"),
    ],
)
def test_what_the_processor_runs(tmp_path: Path, arch: str, platform: str) -> None:
    assert why(tmp_path, platform, arch) == ""


def test_what_an_emulator_runs(tmp_path: Path) -> None:
    assert "no emulator qemu-aarch64 is registered" in why(tmp_path, "linux/arm64")
    (tmp_path / "qemu-aarch64").write_text(GOOD)
    assert why(tmp_path, "linux/arm64") == ""
    assert "no emulator qemu-arm " in why(tmp_path, "linux/arm/v7")
    (tmp_path / "qemu-aarch64").write_text(GOOD.replace("enabled", "disabled"))
    assert "is disabled" in why(tmp_path, "linux/arm64")
    (tmp_path / "qemu-aarch64").write_text(GOOD.replace("POCF", "OC"))
    assert "without the flag F" in why(tmp_path, "linux/arm64")


def test_several_at_once() -> None:
    ctx: Any = Ctx()
    assert buildplatforms.wanted(ctx, "") == ["linux/amd64"]
    assert buildplatforms.wanted(ctx, "arm64,linux/arm64/v8, linux/amd64") == [
        "linux/arm64",
        "linux/amd64",
    ]
