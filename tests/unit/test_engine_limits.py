"""Limits of containers that run: read from a control group, written to one, and taken back.

A directory of plain files stands in for the group: what the code reads, writes and is refused is the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.engine import limits, update
from rootless.errors import HostError

MB = 1 << 20
HERE = {"pid": os.getpid(), "pidStart": 0}


def machine(*controllers: str, rung: str = "cgroupfs", top: str = "") -> Any:
    facts = SimpleNamespace(
        uid=1000,
        cgroup_rung=rung,
        cgroup_controllers=controllers,
        cgroup_mode="unified",
        cgroup_delegated=top,
    )
    settings = SimpleNamespace(get={"cgroup.driver": "none"}.get)
    return SimpleNamespace(facts=facts, settings=settings)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    path = tmp_path / "group"
    path.mkdir()
    for name, text in (
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("pids.max", "max\n"),
        ("cpu.max", "max 100000\n"),
        ("cpu.weight", "100\n"),
    ):
        (path / name).write_text(text)
    return path


def entry(ctx: Any, request: dict[str, Any], state: dict[str, Any]) -> tuple[Any, str]:
    (found,) = limits.entries(ctx, request, state)
    return found["Enforced"], found["By"]


def test_of_a_running_container_the_kernels_files_count(group: Path) -> None:
    ctx, request = machine("memory"), {"limits": {"Memory": 64 * MB}}
    state = {"cgroup": str(group), **HERE}
    (group / "memory.max").write_text("67108864\n")
    assert entry(ctx, request, state) == (64 * MB, "memory.max")
    (group / "memory.max").write_text("1048576\n")
    assert entry(ctx, request, state) == ("1048576", "memory.max")
    (group / "memory.max").unlink()
    assert entry(ctx, request, state) == (None, "")
    assert entry(ctx, request, {"cgroup": "", **HERE}) == (None, "")


def test_of_another_it_is_what_a_start_would_set() -> None:
    request = {"limits": {"Memory": 64 * MB}}
    assert entry(machine("memory"), request, {}) == (64 * MB, "memory.max")
    assert entry(machine("pids"), request, {}) == (None, "")
    assert entry(machine(rung="none"), request, {}) == (None, "")


def test_a_parent_group_needs_a_group() -> None:
    request = {"limits": {"CgroupParent": "a.slice"}}
    assert entry(machine(), request, {}) == ("a.slice", "cgroup")
    assert entry(machine(rung="none"), request, {}) == (None, "")
    assert limits.missing(machine(), request["limits"]) == []
    assert limits.missing(machine(rung="none"), request["limits"]) == ["CgroupParent"]


def test_the_reason_names_what_is_there() -> None:
    assert limits.reason(machine("pids", "memory"), {"NanoCpus": 1}, ["NanoCpus"]) == (
        "no controller for it is delegated to you (there are: memory, pids)"
    )
    assert limits.reason(machine(rung="none"), {"NanoCpus": 1}, ["NanoCpus"]) == (
        "containers have no control group here: cgroup driver none is in use"
    )


def test_what_the_kernel_has_no_file_for_is_known_before(group: Path) -> None:
    """As the group above shows it: swap that is not counted, a weight of disks that no scheduler keeps."""
    (group / "memory.swap.max").unlink()
    (group / "io.max").touch()
    ctx = machine("memory", "io", "hugetlb", top=str(group))
    asked = {
        "Memory": 64 * MB,
        "MemorySwap": 64 * MB,
        "BlkioWeight": 10,
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1}],
    }
    assert limits.missing(ctx, asked) == ["MemorySwap", "BlkioWeight"]
    assert limits.reason(ctx, asked, ["MemorySwap"]) == (
        "the kernel has no file for it in a control group"
    )
    found = {one["Name"]: one["Enforced"] for one in limits.entries(ctx, {"limits": asked}, {})}
    assert (found["Memory"], found["MemorySwap"], found["BlkioWeight"]) == (64 * MB, None, None)
    (group / "io.weight").touch()
    assert limits.missing(ctx, asked) == ["MemorySwap"]
    assert limits.missing(ctx, {"Unified": {"hugetlb.2MB.max": "2M"}}) == []
    assert limits.missing(ctx, {"Unified": {"memory.most": "2M"}}) == ["Unified"]


def test_an_affinity_that_is_another_is_not_taken_for_the_one_asked() -> None:
    mine = sorted(os.sched_getaffinity(0))
    asked = ",".join(map(str, mine))
    state = {"cgroup": "", **HERE}
    assert entry(machine(rung="none"), {"limits": {"CpusetCpus": asked}}, state) == (
        asked,
        "sched_setaffinity",
    )
    other = str(mine[-1] + 1)
    assert entry(machine(rung="none"), {"limits": {"CpusetCpus": other}}, state) == (None, "")


def write(
    group: Path, old: dict[str, Any], new: dict[str, Any], undo: Any = None, **more: Any
) -> list[str]:
    state = {"cgroup": str(group), **HERE}
    undone = [] if undo is None else undo
    return update._write(
        state, old, new, more.get("change", {}), undone, strict=more.get("strict", False)
    )


def test_only_what_is_another_is_written(group: Path) -> None:
    old = {"Memory": 64 * MB, "CpuShares": 1024}
    assert write(group, old, {**old, "PidsLimit": 7, "CpuShares": 2}) == []
    assert (group / "pids.max").read_text() == "7"
    assert (group / "cpu.weight").read_text().strip() == "1"
    assert (group / "memory.max").read_text() == "max\n"


def test_what_is_asked_is_written_though_the_record_has_it(group: Path) -> None:
    """An earlier update was killed when it had written the record."""
    both = {"PidsLimit": 7, "CpuShares": 2}
    assert write(group, both, both, change={"PidsLimit": 7}) == []
    assert (group / "pids.max").read_text() == "7"
    assert (group / "cpu.weight").read_text() == "100\n"


def test_swap_follows_the_memory(group: Path) -> None:
    old = {"Memory": 64 * MB, "MemorySwap": 128 * MB}
    assert write(group, old, {"Memory": 96 * MB, "MemorySwap": 128 * MB}) == []
    assert (group / "memory.max").read_text() == str(96 * MB)
    assert (group / "memory.swap.max").read_text() == str(32 * MB)


def test_a_missing_file_is_named_and_strict_limits_refuse_it(group: Path) -> None:
    (group / "pids.max").unlink()
    assert write(group, {}, {"PidsLimit": 7, "CpuShares": 2}) == ["PidsLimit"]
    with pytest.raises(HostError, match="cannot enforce --pids-limit"):
        write(group, {}, {"PidsLimit": 7}, strict=True)
    assert write(group, {"PidsLimit": 7}, {"PidsLimit": -1}) == []


def test_what_was_written_can_be_taken_back(group: Path) -> None:
    (group / "cpu.max").unlink()
    before = {path.name: path.read_text().strip() for path in group.iterdir()}
    (group / "cpu.max").mkdir()  # which refuses to be written, whoever we are
    undo: list[Any] = []
    with pytest.raises(HostError, match=r"cannot set cpu.max to 50000 100000: is a directory"):
        write(group, {}, {"Memory": 64 * MB, "PidsLimit": 7, "NanoCpus": 500_000_000}, undo)
    assert (group / "memory.max").read_text() == str(64 * MB)
    for act in reversed(undo):
        act()
    assert {
        path.name: path.read_text().strip() for path in group.iterdir() if path.is_file()
    } == before


def test_one_of_two_files_of_a_weight_may_refuse(group: Path) -> None:
    (group / "io.weight").write_text("default 100\n")
    assert write(group, {}, {"BlkioWeight": 10}) == []
    (group / "io.weight").unlink()
    assert write(group, {}, {"BlkioWeight": 10}) == ["BlkioWeight"]


def test_a_container_without_a_group_has_nothing_to_write() -> None:
    state = {"cgroup": ""}
    assert update._write(state, {}, {"PidsLimit": 7}, {}, [], strict=False) == ["PidsLimit"]
