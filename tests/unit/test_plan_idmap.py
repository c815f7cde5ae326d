"""ID maps: what the kernel would accept, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rootless.errors import IdMapError, UsageError
from rootless.facts import HostFacts
from rootless.plan import idmap
from rootless.plan.request import RunRequest

Extents = Sequence[tuple[int, int, int]]
REALM = ((0, 1000, 1), (1, 100000, 65536))
FACTS = HostFacts(uid=1000, gid=100, uid_map=REALM, gid_map=((0, 100, 1), (1, 200000, 65536)))


@st.composite
def realms(draw: st.DrawFn) -> tuple[tuple[int, int, int], ...]:
    """A realm's map: the caller as 0, then one to four ranges that follow one another."""
    extents, inside = [(0, 1000, 1)], 1
    for index, size in enumerate(draw(st.lists(st.integers(1, 5000), max_size=4))):
        extents.append((inside, 100000 * (index + 1), size))
        inside += size
    return tuple(extents)


def kernel_accepts(extents: Extents, parent: Extents) -> None:
    """map_write() in kernel/user_namespace.c: no overlaps, each line inside one parent extent."""
    assert 0 < len(extents) <= 340
    for _, outside, size in extents:
        assert size > 0
        assert any(start <= outside and outside + size <= start + n for start, _, n in parent)
    for index, (inside, outside, size) in enumerate(extents):
        for other_in, other_out, other_size in extents[:index]:
            assert inside + size <= other_in or other_in + other_size <= inside
            assert outside + size <= other_out or other_out + other_size <= outside


def mapped(extents: Extents, number: int) -> int | None:
    for inside, outside, size in extents:
        if inside <= number < inside + size:
            return outside + number - inside
    return None


def total(extents: Extents) -> int:
    return sum(extent[2] for extent in extents)


@given(realms())
def test_identity(realm: Extents) -> None:
    extents = idmap.identity(realm)
    kernel_accepts(extents, realm)
    assert all(mapped(extents, number) == number for number in range(0, total(realm), 97))


@given(realms(), st.integers(0, 30000))
def test_keep_id(realm: Extents, number: int) -> None:
    extents = idmap.keep_id(realm, number)
    kernel_accepts(extents, realm)
    assert mapped(extents, number) == 0
    assert total(extents) == total(realm)  # nothing is lost
    for inside in range(1, total(realm), 211):
        if inside < number:
            assert mapped(extents, inside - 1) == inside
        elif inside > number:
            assert mapped(extents, inside) == inside


@given(realms(), st.integers(1, 50), st.integers(1, 2000))
def test_auto(realm: Extents, slot: int, size: int) -> None:
    if (slot + 1) * size > total(realm):
        with pytest.raises(IdMapError, match=f"range {slot} of {size} IDs"):
            idmap.auto(realm, slot, size)
        return
    extents = idmap.auto(realm, slot, size)
    kernel_accepts(extents, realm)
    assert [mapped(extents, n) for n in range(size)] == list(range(slot * size, (slot + 1) * size))
    assert mapped(extents, size) == 0


@given(realms(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 400))
def test_auto_ranges_do_not_meet(realm: Extents, one: int, two: int, size: int) -> None:
    assume(one != two and (max(one, two) + 1) * size <= total(realm))
    first, second = (idmap.auto(realm, slot, size) for slot in (one, two))
    ids = [{mapped(extents, n) for n in range(size)} for extents in (first, second)]
    assert not ids[0] & ids[1]


@given(realms(), st.lists(st.tuples(*[st.integers(0, 9000)] * 2, st.integers(1, 4000)), max_size=3))
def test_split_keeps_meaning(realm: Extents, wanted: list[tuple[int, int, int]]) -> None:
    pieces = idmap.split(wanted, realm)
    for _, outside, size in pieces:
        assert any(start <= outside and outside + size <= start + n for start, _, n in realm)
    covered = sum(max(0, min(o + n, total(realm)) - o) for _, o, n in wanted)
    assert total(pieces) == covered


def test_the_maps_of_each_mode() -> None:
    def maps(userns: str) -> tuple[str, str]:
        ids = idmap.for_request(RunRequest(userns=userns), FACTS)
        return idmap.lines(ids.uid), idmap.lines(ids.gid)

    assert maps("") == ("0 0 1\n1 1 65536\n",) * 2
    assert maps("keep-id") == (
        "0 1 1000\n1000 0 1\n1001 1001 64536\n",
        "0 1 100\n100 0 1\n101 101 65436\n",
    )
    assert maps("auto:size=500,slot=3") == ("0 1500 500\n500 0 1\n",) * 2
    assert not idmap.for_request(RunRequest(userns="host"), FACTS).nested


def test_a_single_id() -> None:
    facts = FACTS.replace(uid_map=((0, 1000, 1),), gid_map=((0, 100, 1),), id_rung="single")
    ids = idmap.for_request(RunRequest(userns="keep-id"), facts)
    assert (ids.uid, ids.gid, ids.setup_ids) == (((1000, 0, 1),), ((100, 0, 1),), (1000, 100))
    with pytest.raises(IdMapError):
        idmap.for_request(RunRequest(userns="auto"), facts, 1)


def test_no_map_at_all_is_the_caller_alone() -> None:
    assert idmap.realm_maps(HostFacts(uid=7, gid=8)) == (((0, 7, 1),), ((0, 8, 1),))


def test_default_user() -> None:
    assert idmap.default_user(RunRequest(userns="keep-id:uid=5"), FACTS) == "5:100"
    assert idmap.default_user(RunRequest(userns="keep-id"), FACTS) == "1000:100"
    assert idmap.default_user(RunRequest(), FACTS) == ""


@pytest.mark.parametrize("userns", ["", "host", "keep-id", "keep-id:uid=5,gid=6", "auto:slot=2"])
def test_keys_name_maps(userns: str) -> None:
    request = RunRequest(userns=userns)
    ids = idmap.for_request(request, FACTS)
    key = idmap.map_key(request, FACTS)
    again = idmap.from_key(key, FACTS)
    assert (again.uid, again.gid) == (ids.uid, ids.gid)
    assert again.nested is bool(key)  # files of the identity are written by the realm's own root
    assert not key.strip("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_keys_of_different_maps_differ() -> None:
    modes = ("", "keep-id", "keep-id:uid=5", "auto:slot=1", "auto:slot=2", "auto:size=9,slot=1")
    keys = {idmap.map_key(RunRequest(userns=mode), FACTS) for mode in modes}
    assert len(keys) == len(modes)
    assert idmap.map_key(RunRequest(userns="keep-id:uid=0,gid=0"), FACTS) == ""


def test_slots() -> None:
    assert idmap.with_slot("auto:size=10", 4) == "auto:size=10,slot=4"
    request = RunRequest(userns="auto:size=10")
    assert idmap.for_request(request, FACTS, 4).uid == idmap.auto(REALM, 4, 10)
    fixed = RunRequest(userns="auto:size=10,slot=2")
    assert idmap.for_request(fixed, FACTS, 4).uid == idmap.auto(REALM, 2, 10)


@pytest.mark.parametrize("key", ["x", "auto", "auto-1", "auto-1-x", "keep-id-1", "keep-1-2", "-"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(IdMapError, match="ID map"):
        idmap.from_key(key, FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "root",
        "host:x",
        "keep-id:uid",
        "keep-id:uid=-1",
        "keep-id:size=4",
        "auto:size=0",
        "auto:size=²",
    ],
)
def test_bad_values(text: str) -> None:
    with pytest.raises(UsageError, match="--userns"):
        idmap.for_request(RunRequest(userns=text), FACTS)
