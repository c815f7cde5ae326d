"""Limits that cannot be, in Docker's words, and what `update` makes of old and new ones."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import ConflictError, UsageError
from rootless.plan import resourcecheck

MB = 1 << 20
HOST = resourcecheck.Machine(frozenset({0, 1}), frozenset({0}))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"Memory": 1024}, "minimum memory limit allowed is 6MB"),
        ({"Memory": 6 * MB - 1}, "minimum memory limit allowed is 6MB"),
        (
            {"Memory": 64 * MB, "MemorySwap": 32 * MB},
            "minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"MemorySwap": 32 * MB},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        ({"MemoryReservation": 1024}, "minimum memory reservation allowed is 6MB"),
        (
            {"Memory": 64 * MB, "MemoryReservation": 65 * MB},
            "minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ({"KernelMemory": 1024}, "minimum kernel memory limit allowed is 6MB"),
        (
            {"NanoCpus": 99_000_000_000},
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            {"NanoCpus": 9_999_999},
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            {"NanoCpus": -1},
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            {"NanoCpus": 10**9, "CpuPeriod": 50_000},
            "conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            {"NanoCpus": 10**9, "CpuQuota": 50_000},
            "conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            {"CpuPeriod": 999},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (
            {"CpuPeriod": 1_000_001},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"CpuQuota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"CpuQuota": -2}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"CpuRealtimePeriod": 5000}, "kernel does not support CPU real-time scheduler"),
        ({"CpuRealtimeRuntime": 5000}, "kernel does not support CPU real-time scheduler"),
        ({"CpuShares": -1}, "invalid CPU shares -1: shares: invalid argument"),
        (
            {"CpusetCpus": "0-999"},
            "requested CPUs are not available - requested 0-999, available: 0-1",
        ),
        (
            {"CpusetMems": "3"},
            "requested memory nodes are not available - requested 3, available: 0",
        ),
        ({"CpusetCpus": "1-0"}, "invalid value 1-0 for cpuset cpus: invalid format: 1-0"),
        (
            {"CpusetCpus": "0-99999"},
            "invalid value 0-99999 for cpuset cpus: invalid format: 0-99999",
        ),
        ({"CpusetMems": "x"}, "invalid value x for cpuset mems: invalid format: x"),
        ({"BlkioWeight": 9}, "range of blkio weight is from 10 to 1000"),
        ({"BlkioWeight": 1001}, "range of blkio weight is from 10 to 1000"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(limits: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        resourcecheck.check(limits, HOST)
    assert caught.value.message == words


@pytest.mark.parametrize(
    "key",
    [
        "memory",
        "../memory.max",
        "memory..max",
        ".max",
        "memory.",
        "a/b.c",
        "memory max.x",
        "me\nm.a",
    ]
    + ["cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "cgroup.freeze", "cgroup.type"],
)
def test_only_files_of_a_group_are_its_to_set(key: str) -> None:
    with pytest.raises(UsageError):
        resourcecheck.check({"Unified": {key: "1"}}, HOST)


@pytest.mark.parametrize("text", ["", " ", "a\nb", "x\0", "9" * 5000])
def test_what_is_set_is_one_line(text: str) -> None:
    with pytest.raises(UsageError):
        resourcecheck.check({"Unified": {"memory.high": text}}, HOST)


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"Memory": 6 * MB},
        {"Memory": 6 * MB, "MemorySwap": -1},
        {"Memory": 6 * MB, "MemorySwap": 6 * MB, "MemoryReservation": 6 * MB},
        {"NanoCpus": 10_000_000},
        {"NanoCpus": 2 * 10**9},
        {"CpuQuota": -1, "CpuPeriod": 1000},
        {"CpuQuota": 1000, "CpuPeriod": 1_000_000},
        {"CpusetCpus": "0-1", "CpusetMems": "0"},
        {"PidsLimit": -5},
        {"BlkioWeight": 10},
        {
            "Unified": {
                "cgroup.max.depth": "2",
                "hugetlb.2MB.max": "2M",
                "io.cost.qos": "8:0 enable=1",
            }
        },
    ],
)
def test_what_can_be_is_let_through(limits: dict[str, Any]) -> None:
    resourcecheck.check(limits, HOST)


def test_a_change_needs_not_be_complete() -> None:
    resourcecheck.check({"MemorySwap": 32 * MB}, HOST, update=True)


@pytest.mark.parametrize(
    ("old", "change", "new"),
    [
        ({"Memory": 64 * MB}, {"CpuShares": 5}, {"Memory": 64 * MB, "CpuShares": 5}),
        ({"CpuShares": 9}, {"CpuShares": 5}, {"CpuShares": 5}),
        # Docker's swap is settled when the container is made: twice the memory of then.
        ({"Memory": 64 * MB}, {"Memory": 100 * MB}, {"Memory": 100 * MB, "MemorySwap": 128 * MB}),
        ({}, {"Memory": 64 * MB}, {"Memory": 64 * MB}),
        (
            {"Memory": 64 * MB, "MemorySwap": -1},
            {"Memory": 256 * MB},
            {"Memory": 256 * MB, "MemorySwap": -1},
        ),
        (
            {"Memory": 64 * MB},
            {"Memory": 256 * MB, "MemorySwap": 256 * MB},
            {"Memory": 256 * MB, "MemorySwap": 256 * MB},
        ),
        ({"CpuQuota": 9000}, {"CpuPeriod": 5000}, {"CpuQuota": 9000, "CpuPeriod": 5000}),
        ({"PidsLimit": 9}, {"PidsLimit": -1}, {"PidsLimit": -1}),
    ],
)
def test_a_change_is_merged(
    old: dict[str, Any], change: dict[str, Any], new: dict[str, Any]
) -> None:
    assert resourcecheck.merge(old, change) == new


@pytest.mark.parametrize(
    ("old", "change", "words"),
    [
        (
            {"Memory": 64 * MB},
            {"Memory": 256 * MB},
            "memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time",
        ),
        (
            {"Memory": 64 * MB},
            {"MemorySwap": 32 * MB},
            "minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"Memory": 64 * MB, "MemoryReservation": 32 * MB},
            {"Memory": 16 * MB},
            "minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            {},
            {"MemorySwap": 32 * MB},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            {"CpuPeriod": 5000},
            {"NanoCpus": 10**9},
            "conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            {"CpuQuota": 5000},
            {"NanoCpus": 10**9},
            "conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            {"NanoCpus": 10**9},
            {"CpuQuota": 5000},
            "conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            {"NanoCpus": 10**9},
            {"CpuPeriod": 5000},
            "conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    old: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConflictError) as caught:
        resourcecheck.merge(old, change)
    assert caught.value.message == words


def test_numbers_are_listed_as_the_kernel_does() -> None:
    assert resourcecheck.ranges(frozenset({0, 1, 2, 5, 7, 8})) == "0-2,5,7-8"
    assert resourcecheck.ranges(frozenset()) == ""


def test_what_v2_has_not_is_said_as_docker_says_it() -> None:
    words = resourcecheck.discarded({"MemorySwappiness": 0, "OomKillDisable": True, "Memory": 1})
    assert [text.partition(".")[0] for text in words] == [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted",
        "Your kernel does not support OomKillDisable",
    ]
