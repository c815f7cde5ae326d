"""The ladder of cgroup drivers, judged by facts alone; what a session has, as its files say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rootless.drivers import cgroup
from rootless.drivers.cgroup.base import OPTIONAL, Wanted
from rootless.errors import HostError, UsageError
from rootless.facts import HostFacts
from rootless.linux import cgroup as groups

ID = "ab" * 32


def facts(**changes: Any) -> HostFacts:
    return HostFacts(uid=1000, gid=1000, user="ann", **changes)


BUS = {"cgroup_buses": ("peer:/p",)}
TREE = {"cgroup_delegated": "/sys/fs/cgroup/job"}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({**BUS, **TREE}, "systemd"),
        (BUS, "systemd"),
        (TREE, "cgroupfs"),
        ({}, "none"),
        ({**BUS, **TREE, "cgroup_mode": "hybrid"}, "none"),
        ({**BUS, **TREE, "cgroup_mode": "legacy"}, "none"),
        ({"cgroup_mode": "none"}, "none"),
    ],
)
def test_the_best_that_works_is_chosen(changes: dict[str, Any], wanted: str) -> None:
    assert cgroup.choose("auto", facts(**changes)).name == wanted
    assert cgroup.choose("none", facts(**changes)).name == "none"


@pytest.mark.parametrize("name", ["systemd", "cgroupfs"])
def test_what_does_not_work_says_why_and_what_would_help(name: str) -> None:
    for mode, word in (("hybrid", "side by side"), ("legacy", "version 1"), ("none", "mounted")):
        with pytest.raises(HostError, match=word) as caught:
            cgroup.choose(name, facts(cgroup_mode=mode))
        assert "unified_cgroup_hierarchy" in (caught.value.hint or "")
    with pytest.raises(HostError) as caught:
        cgroup.choose(name, facts(cgroup_error="/x is not writable"))
    assert caught.value.hint
    with pytest.raises(UsageError, match="known are auto, systemd, cgroupfs, none"):
        cgroup.choose("crun", facts())


@pytest.mark.parametrize(
    ("parent", "name"),
    [
        ("", f"rootless-{ID}"),
        ("a/b", f"a/b/rootless-{ID}"),
        ("/a//b/", f"a/b/rootless-{ID}"),
        ("/job/a", f"a/rootless-{ID}"),
        ("/sys/fs/cgroup/job/a", f"a/rootless-{ID}"),
        ("/jobs/a", f"jobs/a/rootless-{ID}"),
        ("a.slice", f"a.slice/rootless-{ID}"),
    ],
)
def test_a_parent_is_below_the_subtree(parent: str, name: str) -> None:
    plan = cgroup.driver("cgroupfs").plan(Wanted(ID, parent=parent), facts(**TREE))
    assert plan is not None
    assert plan.before[0][1][:2] == ("/sys/fs/cgroup/job", name)
    assert plan.again == [("cgroup_enter", (f"/sys/fs/cgroup/job/{name}", 0, OPTIONAL))]


def test_settings_are_written_in_order_and_those_that_may_fail_are_marked() -> None:
    settings = [("memory.max", "1", True), ("io.weight", "7", False)]
    for name in ("systemd", "cgroupfs"):
        plan = cgroup.driver(name).plan(Wanted(ID, settings=settings), facts(**BUS, **TREE))
        assert plan is not None
        assert plan.before[-2:] == [
            ("cgroup_set", ("memory.max", "1", 0)),
            ("cgroup_set", ("io.weight", "7", OPTIONAL)),
        ]


def test_none_plans_nothing() -> None:
    driver = cgroup.driver("none")
    assert driver.plan(Wanted(ID), facts()) is None
    assert driver.enter("/x", ID, 1, facts(), optional=False) is None
    assert driver.controllers(facts()) == ()


# What a session has.


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is taken for where groups are mounted, with us in its group ``job``."""
    monkeypatch.setattr(groups, "ROOT", str(tmp_path))
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "cgroup.procs").write_text("")
    real = groups.read

    def read(path: str) -> str:
        return "4:memory:/v1\n0::/job\n" if path == "/proc/self/cgroup" else real(path)

    monkeypatch.setattr(groups, "read", read)
    return tmp_path


def looked(env: dict[str, str] | None = None) -> HostFacts:
    found = facts()
    groups.look(found, env or {"XDG_RUNTIME_DIR": "/nonexistent"})
    return found


@pytest.mark.requires("ordinary-user")
def test_a_group_that_is_ours_is_found(tree: Path) -> None:
    found = looked()
    assert found.cgroup_path == found.cgroup_delegated == f"{tree}/job"
    assert "no systemd of user" in found.cgroup_bus_error
    os.chmod(tree / "job" / "cgroup.procs", 0o444)
    assert looked().cgroup_delegated == ""
    assert looked().cgroup_error == f"{tree}/job/cgroup.procs is not writable"


def test_a_threaded_group_is_none(tree: Path) -> None:
    (tree / "job" / "cgroup.type").write_text("threaded\n")
    assert looked().cgroup_error == f"{tree}/job is a threaded group"


def test_the_leaf_for_what_is_in_the_way_is_not_taken_for_the_subtree(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "own", lambda: f"{tree}/job/{groups.INNER}")
    assert looked().cgroup_delegated == f"{tree}/job"


@pytest.mark.parametrize("text", ["4:memory:/v1\n", "0::/../..\n", ""])
def test_no_group_in_sight(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "read", lambda path: text)
    assert looked().cgroup_path == ""
    assert "no control group" in looked().cgroup_error


def test_a_hybrid_host_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts(cgroup_mode="hybrid")
    monkeypatch.setattr(groups, "own", lambda: pytest.fail("looked"))
    groups.look(found, {})
    assert found.cgroup_path == ""
