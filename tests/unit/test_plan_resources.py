"""Resource limits as files of cgroup v2, as the runtime spec has them, and told from what the kernel says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.plan import resources

MB = 1 << 20
DISK = {"/dev/sda": (8, 0), "/dev/sdb": (8, 16)}


def written(limits: dict[str, Any]) -> dict[str, str]:
    return {file: text for _, file, text, _ in resources.cgroup_values(limits, DISK)}


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        ({"Memory": 64 * MB}, {"memory.max": "67108864", "memory.swap.max": "67108864"}),
        (
            {"Memory": 64 * MB, "MemorySwap": 64 * MB},
            {"memory.max": "67108864", "memory.swap.max": "0"},
        ),
        (
            {"Memory": 64 * MB, "MemorySwap": -1},
            {"memory.max": "67108864", "memory.swap.max": "max"},
        ),
        ({"MemoryReservation": 32 * MB}, {"memory.low": "33554432"}),
        ({"NanoCpus": 1_500_000_000}, {"cpu.max": "150000 100000"}),
        ({"NanoCpus": 10_000_000}, {"cpu.max": "1000 100000"}),
        ({"CpuQuota": 25_000}, {"cpu.max": "25000 100000"}),
        ({"CpuQuota": 25_000, "CpuPeriod": 50_000}, {"cpu.max": "25000 50000"}),
        ({"CpuPeriod": 50_000}, {"cpu.max": "max 50000"}),
        ({"CpuQuota": -1}, {"cpu.max": "max 100000"}),
        ({"CpuShares": 1024}, {"cpu.weight": "100"}),
        ({"CpusetCpus": "0-1", "CpusetMems": "0"}, {"cpuset.cpus": "0-1", "cpuset.mems": "0"}),
        ({"PidsLimit": 100}, {"pids.max": "100"}),
        ({"PidsLimit": -1}, {"pids.max": "max"}),
        ({"BlkioWeight": 10}, {"io.bfq.weight": "10", "io.weight": "1"}),
        ({"BlkioWeight": 1000}, {"io.bfq.weight": "1000", "io.weight": "10000"}),
        (
            {"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 500}]},
            {"io.bfq.weight": "8:0 500", "io.weight": "8:0 4950"},
        ),
        (
            {"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 0}]},
            {"io.bfq.weight": "8:0 default", "io.weight": "8:0 default"},
        ),
        (
            {"BlkioDeviceReadBps": [{"Path": "/dev/sdb", "Rate": MB}]},
            {"io.max": "8:16 rbps=1048576"},
        ),
        ({"BlkioDeviceWriteBps": [{"Path": "/dev/sda", "Rate": 1}]}, {"io.max": "8:0 wbps=1"}),
        ({"BlkioDeviceReadIOps": [{"Path": "/dev/sda", "Rate": 2}]}, {"io.max": "8:0 riops=2"}),
        ({"BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 0}]}, {"io.max": "8:0 wiops=max"}),
        ({"Unified": {"memory.high": "3M"}}, {"memory.high": "3M"}),
        ({"KernelMemory": 64 * MB, "MemorySwappiness": 0, "OomKillDisable": True}, {}),
        ({"CgroupParent": "a.slice"}, {}),
        ({}, {}),
    ],
)
def test_a_limit_becomes_files(limits: dict[str, Any], files: dict[str, str]) -> None:
    assert written(limits) == files


@pytest.mark.parametrize(
    ("shares", "weight"),
    # The published points of the conversion that crun and runc use: ends, defaults, and one between.
    [(1, 1), (2, 1), (3, 2), (1024, 100), (2000, 170), (262_144, 10_000), (1 << 40, 10_000)],
)
def test_cpu_shares_become_a_weight(shares: int, weight: int) -> None:
    assert resources.weight(shares) == weight


@given(st.integers(1, 300_000), st.integers(1, 300_000))
def test_more_shares_are_never_less_weight(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= resources.weight(low) <= resources.weight(high) <= 10_000


@given(st.integers(10, 1000), st.integers(10, 1000))
def test_more_blkio_weight_is_never_less(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= resources.io_weight(low) <= resources.io_weight(high) <= 10_000


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "Memory": st.integers(6 * MB, 1 << 40),
        "MemorySwap": st.just(-1) | st.integers(1 << 40, 1 << 41),
        "MemoryReservation": st.integers(6 * MB, 1 << 30),
        "NanoCpus": st.integers(10_000_000, 64_000_000_000),
        "CpuShares": st.integers(1, 300_000),
        "CpusetCpus": st.sampled_from(["0", "0-3", "1,3", "0,2-3"]),
        "PidsLimit": st.just(-1) | st.integers(1, 1 << 22),
        "BlkioWeight": st.integers(10, 1000),
        "BlkioDeviceReadBps": st.lists(
            st.fixed_dictionaries({"Path": st.just("/dev/sda"), "Rate": st.integers(1, 1 << 40)}),
            min_size=1,
            max_size=1,
        ),
    },
)


@given(LIMITS)
def test_what_is_written_is_recognized_as_in_force(limits: dict[str, Any]) -> None:
    """A kernel that takes all that is written has everything that was asked."""
    found = resources.report(limits, DISK, written(limits), {})
    assert {entry["Name"] for entry in found} == set(limits)
    for entry in found:
        assert entry["Enforced"] == entry["Requested"] == limits[entry["Name"]]
        assert entry["By"]


@given(LIMITS)
def test_with_no_files_nothing_is_in_force(limits: dict[str, Any]) -> None:
    for entry in resources.report(limits, DISK, {}, {}):
        assert entry["By"] == ""
        if entry["Requested"] == -1:  # which is no limit, and that holds
            assert entry["Enforced"] == -1
        else:
            assert entry["Enforced"] is None


@given(LIMITS)
def test_every_limit_is_either_enforced_or_told(limits: dict[str, Any]) -> None:
    """Promise 6: nothing falls between what has a file and what is warned about."""
    for have in ((), ("memory",), ("cpu", "io"), ("memory", "pids", "cpu", "cpuset", "io")):
        told = set(resources.unenforced(limits, have, {}))
        held = {a for c, _, _, a in resources.cgroup_values(limits, DISK) if c in have}
        none = {name for name in limits if limits[name] == -1}
        assert told | held - {""} | none == set(limits)
        assert not told & held


def test_what_v2_has_not_is_never_enforced() -> None:
    limits = {
        "KernelMemory": 1,
        "MemorySwappiness": 0,
        "OomKillDisable": True,
        "CpuRealtimePeriod": 1,
    }
    # In the order of the flags' table, so that a warning reads the same however it was asked.
    assert resources.unenforced(limits, ("cpu", "memory"), {}) == [
        *("MemorySwappiness", "KernelMemory", "OomKillDisable", "CpuRealtimePeriod")
    ]


def test_a_file_of_a_missing_controller_is_told() -> None:
    limits = {"Unified": {"memory.high": "3M", "hugetlb.2MB.max": "2M"}}
    assert resources.unenforced(limits, ("memory", "hugetlb"), {}) == []
    assert resources.unenforced(limits, ("memory",), {}) == ["Unified"]


def test_the_cores_own_files_need_a_group() -> None:
    limits = {"Unified": {"cgroup.max.depth": "3"}, "CgroupParent": "a"}
    assert resources.unenforced(limits, (), {}) == ["CgroupParent", "Unified"]
    assert resources.unenforced(limits, ("cgroup",), {}) == []


def test_a_stand_in_is_no_reason_to_warn() -> None:
    assert resources.unenforced({"CpusetCpus": "0"}, (), {"CpusetCpus": "affinity"}) == []


@pytest.mark.parametrize(
    ("file", "text", "content"),
    [
        ("memory.max", "67108865", "67108864\n"),
        ("memory.max", "64M", "67108864"),
        ("memory.max", "max", "max"),
        ("memory.high", "1g", "1073741824"),
        ("hugetlb.2MB.max", "3M", "2097152"),
        ("cpuset.cpus", "0,1,2", "0-2"),
        ("cpu.max", "max", "max 100000"),
        ("cpu.max", "20000", "20000 100000"),
        ("io.weight", "50", "default 50\n8:0 100"),
        ("io.weight", "8:0 100", "default 50\n8:0 100"),
        ("io.weight", "8:0 default", "default 50"),
        ("io.max", "8:0 rbps=5", "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=max", ""),
    ],
)
def test_the_kernels_spelling_is_understood(file: str, text: str, content: str) -> None:
    assert resources.in_force(file, text, content)


@pytest.mark.parametrize(
    ("file", "text", "content"),
    [
        ("memory.max", "67108864", "max"),
        ("memory.max", "67108864", "33554432"),
        ("pids.max", "10", "9"),
        ("cpuset.cpus", "0-2", "0-1"),
        ("cpu.max", "20000 100000", "max 100000"),
        ("cpu.max", "20000 50000", "20000 100000"),
        ("io.max", "8:0 rbps=5", ""),
        ("io.max", "8:0 rbps=5", "8:16 rbps=5 wbps=max"),
        ("io.max", "8:0 rbps=5", "8:0 rbps=6 wbps=max"),
    ],
)
def test_another_value_is_not_taken_for_ours(file: str, text: str, content: str) -> None:
    assert not resources.in_force(file, text, content)


def test_the_report_says_what_the_kernel_has_instead() -> None:
    (entry,) = resources.report({"Memory": 64 * MB}, {}, {"memory.max": "33554432\n"}, {})
    assert entry == {
        "Name": "Memory",
        "Requested": 64 * MB,
        "Enforced": "33554432",
        "By": "memory.max",
    }


def test_of_several_devices_only_those_that_took_it_are_enforced() -> None:
    rates = [{"Path": "/dev/sda", "Rate": 5}, {"Path": "/dev/sdb", "Rate": 6}]
    content = "8:16 rbps=6 wbps=max riops=max wiops=max\n"
    (entry,) = resources.report({"BlkioDeviceReadBps": rates}, DISK, {"io.max": content}, {})
    assert entry["Enforced"] == [rates[1]]
    assert entry["By"] == "io.max"
    (entry,) = resources.report({"BlkioDeviceReadBps": rates}, DISK, {"io.max": ""}, {})
    assert (entry["Enforced"], entry["By"]) == (None, "")


def test_either_file_of_a_weight_is_enough() -> None:
    for contents, by in (
        ({"io.weight": "default 4950"}, "io.weight"),
        ({"io.bfq.weight": "default 500"}, "io.bfq.weight"),
        ({"io.bfq.weight": "default 100", "io.weight": "default 4950"}, "io.weight"),
    ):
        (entry,) = resources.report({"BlkioWeight": 500}, {}, contents, {})
        assert (entry["Enforced"], entry["By"]) == (500, by)


def test_a_stand_in_is_reported_by_its_name() -> None:
    stand_in = {"CpusetCpus": (resources.AFFINITY, "0")}
    (entry,) = resources.report({"CpusetCpus": "0"}, {}, {}, stand_in)
    assert (entry["Enforced"], entry["By"]) == ("0", "sched_setaffinity")


def test_unified_files_are_reported_one_by_one() -> None:
    limits = {"Unified": {"memory.high": "3M", "pids.max": "7"}}
    found = resources.report(limits, {}, {"memory.high": "3145728"}, {})
    assert [(e["Name"], e["Requested"], e["Enforced"], e["By"]) for e in found] == [
        ("memory.high", "3M", "3M", "memory.high"),
        ("pids.max", "7", None, ""),
    ]


def test_strict_limits_make_settings_required_but_not_one_of_two() -> None:
    settings = resources.cgroup_values({"Memory": 64 * MB, "BlkioWeight": 10}, {})
    assert [s[1] for s in settings if resources.required(s, strict=True)] == ["memory.max"]
    assert not any(resources.required(setting, strict=False) for setting in settings)


def test_the_runtime_spec_has_it_all() -> None:
    limits = {
        "Memory": 64 * MB,
        "MemoryReservation": 32 * MB,
        "NanoCpus": 500_000_000,
        "CpuShares": 512,
        "CpusetCpus": "0",
        "PidsLimit": 9,
        "BlkioWeight": 300,
        "BlkioDeviceWriteIOps": [{"Path": "/dev/sdb", "Rate": 7}],
        "Unified": {"memory.high": "3M"},
    }
    assert resources.spec(limits, DISK) == {
        "memory": {"limit": 64 * MB, "reservation": 32 * MB, "swap": 128 * MB},
        "cpu": {"shares": 512, "cpus": "0", "quota": 50_000, "period": 100_000},
        "pids": {"limit": 9},
        "blockIO": {
            "weight": 300,
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
        },
        "unified": {"memory.high": "3M"},
    }


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("3-1", None), ("", None), ("a", None), ("0-", None)]
    + [("-1", None), ("0,,1", None), ("0-8192", None), ("1e3", None), ("٣", None)],
)
def test_lists_of_numbers(text: str, numbers: set[int] | None) -> None:
    assert resources.number_list(text) == numbers


@given(st.sets(st.integers(0, 300), min_size=1))
def test_cpu_bits_are_the_kernels(cpus: set[int]) -> None:
    bits = resources.cpu_bits(",".join(map(str, cpus)))
    assert len(bits) % 8 == 0
    assert {n for n in range(len(bits) * 8) if bits[n // 8] >> n % 8 & 1} == cpus
