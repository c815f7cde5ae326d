"""Probing: the maps that follow from subordinate ranges, and what is concluded from what was tried."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from rootless.facts import HostFacts
from rootless.linux import facts_cache, probe, proc

Tape = list[tuple[str, tuple[Any, ...]]]


class Player:
    """A launcher that answers from a function of the operation names, and notes the tapes."""

    def __init__(self, answer: Callable[[Tape], tuple[int, str]] = lambda _: (0, "")) -> None:
        self.tapes: list[Tape] = []
        self.answer = answer

    def __call__(self, ops: Tape) -> tuple[int, str]:
        self.tapes.append(ops)
        return self.answer(ops)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets /etc/subuid and /etc/subgid as the probes see them, and hides getsubids."""

    def write(subuid: str = "", subgid: str = "") -> None:
        original = probe.subordinate
        for name, text in (("subuid", subuid), ("subgid", subgid)):
            (tmp_path / name).write_text(text)

        def subordinate(path: str, user: str, uid: int) -> list[tuple[int, int]]:
            return original(str(tmp_path / os.path.basename(path)), user, uid)

        monkeypatch.setattr(probe, "subordinate", subordinate)
        monkeypatch.setattr(probe, "_getsubids", lambda path, user: [])
        monkeypatch.setattr(probe.probe_storage, "find_program", lambda name: f"/usr/bin/{name}")

    return write


def ranges(path: Path, text: str) -> list[tuple[int, int]]:
    path.write_text(text)
    return probe.subordinate(str(path), "alice", 1000)


def test_ranges_are_found_by_name_and_by_number(tmp_path: Path) -> None:
    text = "bob:1:2\nalice:100000:65536\n1000:300000:10\nalicent:5:5\n"
    assert ranges(tmp_path / "subuid", text) == [(100000, 65536), (300000, 10)]


@pytest.mark.parametrize(
    "line",
    ["alice", "alice:1", "alice:x:5", "alice:5:0", "alice:-5:9", "alice:5:-9", "alice:4294967295:1",
     "alice:1:2:3", "", "# alice:1:2", "alice:\N{SUPERSCRIPT TWO}:2"],
)  # fmt: skip
def test_a_line_that_makes_no_sense_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(probe, "_getsubids", lambda path, user: [])
    assert ranges(tmp_path / "subuid", f"{line}\nalice:9:9\n") == [(9, 9)]
    assert ranges(tmp_path / "subuid", f"{line}\n") == []


def test_a_name_service_is_asked_where_the_file_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "getsubids"
    program.write_text(
        '#!/bin/sh\n[ "$1" = -g ] && echo "0: $2 7000 100" || echo "0: $1 5000 100"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert probe.subordinate("/nonexistent/subuid", "alice", 1000) == [(5000, 100)]
    assert probe.subordinate("/nonexistent/subgid", "alice", 1000) == [(7000, 100)]
    program.write_text("#!/bin/sh\necho Error fetching ranges >&2; exit 1\n")
    assert probe.subordinate("/nonexistent/subuid", "alice", 1000) == []


@pytest.mark.parametrize(
    ("first", "given", "wanted"),
    [
        (1000, [], ((0, 1000, 1),)),
        (1000, [(100000, 65536)], ((0, 1000, 1), (1, 100000, 65536))),
        (1000, [(200, 10), (50, 5)], ((0, 1000, 1), (1, 200, 10), (11, 50, 5))),
        # Two lines that give the same IDs, or overlap.
        (1000, [(200, 10), (200, 10)], ((0, 1000, 1), (1, 200, 10))),
        (1000, [(200, 10), (205, 10)], ((0, 1000, 1), (1, 200, 10), (11, 210, 5))),
        (1000, [(200, 10), (190, 30)], ((0, 1000, 1), (1, 200, 10), (11, 190, 10), (21, 210, 10))),
        # The caller's own ID lies inside, at the start, at the end of the range.
        (205, [(200, 10)], ((0, 205, 1), (1, 200, 5), (6, 206, 4))),
        (200, [(200, 10)], ((0, 200, 1), (1, 201, 9))),
        (209, [(200, 10)], ((0, 209, 1), (1, 200, 9))),
        (200, [(200, 1)], ((0, 200, 1),)),
        # Up to the ID that is none.
        (1000, [(4294967290, 100)], ((0, 1000, 1), (1, 4294967290, 5))),
    ],
)
def test_extents_map_no_id_twice(first: int, given: list[tuple[int, int]], wanted: Any) -> None:
    assert probe.extents(first, given) == wanted


def test_what_extents_map_is_disjoint() -> None:
    import random

    dice = random.Random(4)
    for _ in range(300):
        given = [(dice.randrange(60), dice.randrange(1, 20)) for _ in range(dice.randrange(6))]
        first = dice.randrange(60)
        found = probe.extents(first, given)
        outside = [n for _, start, count in found for n in range(start, start + count)]
        inside = [n for start, _, count in found for n in range(start, start + count)]
        assert len(outside) == len(set(outside))
        assert inside == list(range(len(inside)))
        assert set(outside) == {first} | {
            n for start, count in given for n in range(start, start + count)
        }


def probed(play: Player, data: Path) -> HostFacts:
    return probe.probe(str(data), play)


@pytest.mark.requires("ordinary-user")
def test_subordinate_ids_are_used_only_after_they_worked(
    tmp_path: Path, files: Callable[..., None]
) -> None:
    name = probe.user_name(os.getuid())
    files(f"{name}:100000:65536\n", f"{name}:200000:65536\n")
    play = Player()
    facts = probed(play, tmp_path)
    assert facts.id_rung == "subid"
    assert facts.uid_map == ((0, os.getuid(), 1), (1, 100000, 65536))
    assert facts.gid_map == ((0, os.getgid(), 1), (1, 200000, 65536))
    clone = next(tape[0] for tape in play.tapes if tape[0][0] == "clone" and tape[0][1][1] == 2)
    assert clone[1][2] == f"0 {os.getuid()} 1\n1 100000 65536\n"

    def refused(tape: Tape) -> tuple[int, str]:
        return (errno.EPERM, "newuidmap: not owned") if tape[0][1][1:2] == (2,) else (0, "")

    facts = probed(Player(refused), tmp_path)
    assert (facts.id_rung, facts.subid_error) == ("single", "newuidmap: not owned")
    assert facts.uid_map == ((0, os.getuid(), 1),)


@pytest.mark.requires("ordinary-user")
@pytest.mark.parametrize(("subuid", "subgid"), [("", "x:1:9"), ("x:1:9", "")])
def test_both_files_have_to_give_something(
    tmp_path: Path, files: Callable[..., None], subuid: str, subgid: str
) -> None:
    name = probe.user_name(os.getuid())
    files(subuid.replace("x", name), subgid.replace("x", name))
    facts = probed(Player(), tmp_path)
    assert facts.id_rung == "single"
    assert facts.subid_error == f"/etc/{'subgid' if subuid else 'subuid'} has no range for {name}"


@pytest.mark.requires("ordinary-user")
def test_missing_helpers_are_said(
    tmp_path: Path, files: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = probe.user_name(os.getuid())
    files(f"{name}:1:9\n", f"{name}:1:9\n")
    monkeypatch.setattr(probe.probe_storage, "find_program", lambda name: "")
    facts = probed(Player(), tmp_path)
    assert facts.subid_error == "newuidmap and newgidmap are not installed (package uidmap)"


def test_a_range_of_an_outer_namespace_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "getgid", lambda: 0)
    monkeypatch.setattr(proc, "id_map", lambda kind="uid": ((0, 1000, 1), (1, 100000, 65536)))
    facts = probed(Player(), tmp_path)
    assert facts.id_rung == "nested"
    assert facts.uid_map == facts.gid_map == ((0, 0, 1), (1, 1, 65536))


def test_without_user_namespaces_nothing_else_is_tried(tmp_path: Path) -> None:
    play = Player(lambda tape: (errno.EPERM, "refused") if tape[0][0] == "clone" else (0, ""))
    facts = probed(play, tmp_path)
    assert facts.userns_error.startswith("refused")
    assert (facts.id_rung, facts.overlay) == ("single", False)
    assert len([tape for tape in play.tapes if tape[0][0] == "clone"]) == 1
    assert list(tmp_path.glob(".probe*")) == []


def test_overlay_needs_a_directory_to_be_replaced(tmp_path: Path) -> None:
    def opaque_fails(tape: Tape) -> tuple[int, str]:
        names = [name for name, _ in tape]
        return (errno.EIO, "rmtree: EIO") if "overlay" in names and "rmtree" in names else (0, "")

    facts = probed(Player(opaque_fails), tmp_path)
    assert (facts.overlay, facts.overlay_error) == (False, "rmtree: EIO")
    assert list(tmp_path.glob(".probe*")) == []


@pytest.mark.requires("ordinary-user")
def test_a_data_directory_that_cannot_be_written_is_no_crash(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    facts = probed(Player(), closed)
    assert not facts.overlay
    assert facts.overlay_error.startswith(f"cannot make {closed}/.probe-")


def test_a_masked_proc_is_noticed(tmp_path: Path) -> None:
    def masked(tape: Tape) -> tuple[int, str]:
        return (errno.EPERM, "proc") if any(name == "mount" for name, _ in tape) else (0, "")

    assert probed(Player(masked), tmp_path).masked_proc
    assert not probed(Player(), tmp_path).masked_proc


@pytest.mark.parametrize(
    ("values", "number", "wanted"),
    [
        (
            {"kernel.unprivileged_userns_clone": "0"},
            errno.EPERM,
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            errno.EACCES,
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"user.max_user_namespaces": "0"}, errno.ENOSPC, "user.max_user_namespaces=15000"),
        ({"user.max_user_namespaces": "31"}, errno.ENOSPC, "user.max_user_namespaces=15000"),
        ({}, errno.EPERM, "security module"),
        ({"kernel.unprivileged_userns_clone": "1"}, errno.EINVAL, "nope"),
    ],
)
def test_a_refusal_is_explained(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], number: int, wanted: str
) -> None:
    monkeypatch.setattr(probe, "sysctl", lambda name: values.get(name, ""))
    text = probe.explain_userns(number, "nope")
    assert text.startswith("nope")
    assert wanted in text
    assert ("sysctl -w" in text) == ("=" in wanted)


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("6.1.0-18-amd64", (6, 1, 0)),
        ("4.18.0-513.el8.x86_64", (4, 18, 0)),
        ("6.18.44-fc-v669", (6, 18, 44)),
        ("5.10", (5, 10, 0)),
        ("6.6.87.2-microsoft-standard-WSL2", (6, 6, 87)),
        ("weird", (0, 0, 0)),
    ],
)
def test_kernel_releases_are_read(release: str, wanted: tuple[int, int, int]) -> None:
    assert probe.kernel_version(release) == wanted


@pytest.mark.parametrize(
    ("mounts", "wanted"),
    [
        ("/sys/fs/cgroup - cgroup2", "unified"),
        (
            "/sys/fs/cgroup - tmpfs|/sys/fs/cgroup/unified - cgroup2|/sys/fs/cgroup/cpu - cgroup",
            "hybrid",
        ),
        ("/sys/fs/cgroup - tmpfs|/sys/fs/cgroup/cpu - cgroup", "legacy"),
        ("/ - ext4", "none"),
    ],
)
def test_control_group_modes(monkeypatch: pytest.MonkeyPatch, mounts: str, wanted: str) -> None:
    import builtins
    import io

    lines = [
        f"30 29 0:1 / {one.split()[0]} rw shared:1 - {one.split()[2]} none rw"
        for one in mounts.split("|")
    ]
    text = "\n".join(lines) + "\n"
    monkeypatch.setattr(builtins, "open", lambda *a, **k: io.StringIO(text))
    assert probe.cgroup_mode() == wanted


# The cache of the facts.


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The list grows by one whenever the machine is really probed."""
    done: list[str] = []

    def counted(data_root: str, play: Any) -> HostFacts:
        done.append(data_root)
        return HostFacts(uid=1, gid=2, user="u")

    monkeypatch.setattr(probe, "probe", counted)
    return done


def cached(tmp_path: Path, **options: Any) -> HostFacts:
    data = options.pop("data", "/data")
    return facts_cache.load_facts(str(tmp_path), data, str(tmp_path), Player(), **options)


def test_facts_are_probed_once(tmp_path: Path, probes: list[str]) -> None:
    first = cached(tmp_path)
    assert cached(tmp_path) == first
    assert len(probes) == 1
    cached(tmp_path, fresh=True)
    assert len(probes) == 2


def test_facts_are_probed_again_when_what_they_rest_on_changed(
    tmp_path: Path, probes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path)
    cached(tmp_path, data="/elsewhere")
    assert probes == ["/data", "/elsewhere"]
    cached(tmp_path)
    (tmp_path / "launch").write_text("a new launcher")
    cached(tmp_path)
    watched, switch = tmp_path / "subuid", tmp_path / "sysctl"
    for path in (watched, switch):
        path.write_text("0\n")
    monkeypatch.setattr(facts_cache, "WATCHED", (str(watched),))
    monkeypatch.setattr(facts_cache, "SYSCTLS", (str(switch),))
    for path in (watched, switch, switch):
        cached(tmp_path)
        before = len(probes)
        cached(tmp_path)
        assert len(probes) == before
        path.write_text(path.read_text() + "1\n")
        cached(tmp_path)
        assert len(probes) == before + 1


@pytest.mark.parametrize(
    ("found", "again"),
    [
        ({"net_relay": True}, False),
        ({"net_relay": False}, True),
        ({"net_relay": False, "userns_error": "the host forbids it"}, False),
    ],
)
def test_that_there_can_be_no_relay_is_doubted_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], again: bool
) -> None:
    """What was in the way, such as a limit that was reached, may have gone."""
    answers = [HostFacts(uid=1, gid=2, **found), HostFacts(uid=1, gid=2, net_relay=True)]
    monkeypatch.setattr(probe, "probe", lambda *_: answers.pop(0))
    first = cached(tmp_path)
    assert cached(tmp_path) == first, "but not at once"
    long_ago = time.time() - facts_cache.DOUBT - 1
    os.utime(tmp_path / "facts.json", (long_ago, long_ago))
    assert cached(tmp_path).net_relay == (again or first.net_relay)
    assert len(answers) == (0 if again else 1)


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"stamp": "x", "facts": {}}'])
def test_a_damaged_cache_is_probed_again(tmp_path: Path, probes: list[str], damage: str) -> None:
    cached(tmp_path)
    (tmp_path / "facts.json").write_text(damage)
    assert cached(tmp_path).user == "u"
    assert len(probes) == 2


def test_a_cache_from_another_version_is_probed_again(tmp_path: Path, probes: list[str]) -> None:
    cached(tmp_path)
    text = (tmp_path / "facts.json").read_text()
    (tmp_path / "facts.json").write_text(text.replace('"openat2"', '"openat3"'))
    cached(tmp_path)
    assert len(probes) == 2


@pytest.mark.requires("ordinary-user")
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, probes: list[str]) -> None:
    tmp_path.chmod(0o500)
    try:
        assert cached(tmp_path).user == "u"
    finally:
        tmp_path.chmod(0o700)
