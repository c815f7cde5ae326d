"""Which containers run again after a boot."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.plan import restart

NOW, BEFORE = "this-boot", "another-boot"


def state(**changes: Any) -> dict[str, Any]:
    return {
        "status": "exited",
        "startedAt": "2026-01-01T00:00:00Z",
        "exitCode": 0,
        "restartCount": 0,
        "manualStop": False,
        "bootId": BEFORE,
        **changes,
    }


def resumes(policy: str, maximum: int = 0, *, alive: bool = False, **changes: Any) -> bool:
    return restart.resumes(policy, maximum, state(**changes), NOW, alive=alive)


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_after_a_boot(policy: str) -> None:
    assert resumes(policy)  # ended by the shutdown, with whatever code
    assert resumes(policy, exitCode=143)
    assert resumes(policy, status="running")  # power loss: nobody recorded the end
    assert resumes(policy, status="restarting")
    assert not resumes(policy, startedAt="")
    assert not resumes(policy, status="running", alive=True)


def test_a_stop_by_hand_counts_for_unless_stopped_only() -> None:
    assert resumes("always", manualStop=True)
    assert not resumes("unless-stopped", manualStop=True)
    assert not resumes("on-failure", manualStop=True, exitCode=137)


def test_on_failure_is_for_failures_of_the_container() -> None:
    assert not resumes("on-failure")
    assert not resumes("on-failure", exitCode=1)
    assert not resumes("on-failure", status="running")  # the machine ended
    assert resumes("on-failure", status="running", bootId=NOW)
    assert resumes("on-failure", 3, status="restarting", restartCount=2, bootId=NOW)
    assert not resumes("on-failure", 3, status="restarting", restartCount=3, bootId=NOW)


def test_no_policy_resumes_nothing() -> None:
    assert not resumes("no", status="running")


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_in_the_same_boot_only_what_was_lost(policy: str) -> None:
    assert not resumes(policy, bootId=NOW, exitCode=1)
    assert resumes(policy, bootId=NOW, status="running")
    assert resumes(policy, bootId=NOW, status="restarting")


def test_order() -> None:
    assert restart.order({"a": "b", "b": "c", "c": "", "d": "gone"}) == ["c", "d", "b", "a"]
    assert sorted(restart.order({"a": "b", "b": "a"})) == ["a", "b"]
    assert restart.order({"a": "a"}) == ["a"]
    assert restart.order({}) == []
