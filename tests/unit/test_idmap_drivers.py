"""The ID ladder: every rung judges the facts, and a named rung is taken or refused with a reason."""

from __future__ import annotations

import pytest

from rootless.drivers import idmap
from rootless.drivers.idmap import base
from rootless.errors import IdMapError, UsageError
from rootless.facts import HostFacts

RANGE = ((0, 1000, 1), (1, 100000, 65536))
SUBID = HostFacts(uid=1000, gid=1000, user="alice", uid_map=RANGE, gid_map=RANGE)
ONE = ((0, 1000, 1),)
SINGLE = SUBID.replace(
    id_rung="single", uid_map=ONE, gid_map=ONE, subid_error="/etc/subuid has no range for alice"
)
NESTED = HostFacts(uid=0, gid=0, id_rung="nested", uid_map=((0, 0, 1), (1, 1, 9)))
NOTHING = SINGLE.replace(userns_error="unshare: EPERM")


@pytest.mark.parametrize("facts", [SUBID, SINGLE, NESTED], ids=["subid", "single", "nested"])
def test_auto_takes_what_the_probe_found(facts: HostFacts) -> None:
    assert idmap.choose("auto", facts) == facts
    assert idmap.REGISTRY[facts.id_rung]().probe(facts).usable


@pytest.mark.parametrize("name", idmap.REGISTRY)
def test_every_rung_explains_itself(name: str) -> None:
    for facts in (SUBID, SINGLE, NESTED, NOTHING):
        driver = idmap.REGISTRY[name]()
        assert driver.name == name
        judged = driver.probe(facts)
        assert judged.reason
        if judged.usable:
            assert idmap.choose(name, facts).id_rung == name
            assert not judged.hint
        else:
            with pytest.raises(IdMapError) as caught:
                idmap.choose(name, facts)
            assert str(caught.value) == f"cannot use ID map {name}: {judged.reason}"
            assert caught.value.hint == judged.hint


def test_the_single_rung_can_be_asked_for_where_more_is_possible() -> None:
    facts = idmap.choose("single", SUBID)
    assert facts == SUBID.replace(id_rung="single", uid_map=ONE, gid_map=ONE)


def test_no_rung_holds_without_user_namespaces() -> None:
    for kind in idmap.REGISTRY.values():
        judged = kind().probe(NOTHING)
        assert (judged.usable, judged.reason) == (False, "unshare: EPERM")


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (SINGLE, "usermod --add-subuids "),
        (SINGLE.replace(newuidmap=""), "apt-get install uidmap"),
        (SINGLE.replace(subid_error="newuidmap: EPERM"), "chmod u+s /usr/bin/newuidmap"),
    ],
)
def test_the_hint_is_the_line_an_administrator_can_type(facts: HostFacts, wanted: str) -> None:
    assert wanted in idmap.REGISTRY["subid"]().probe(facts).hint


def test_two_users_are_not_told_the_same_range() -> None:
    driver = idmap.REGISTRY["subid"]()
    hints = {driver.probe(SINGLE.replace(uid=uid, user="alice")).hint for uid in range(1000, 1100)}
    assert len(hints) == 100


def test_an_unknown_mode_names_those_that_are_known() -> None:
    with pytest.raises(
        UsageError, match="unknown ID map 'best': known are auto, subid, nested, single"
    ):
        idmap.choose("best", SUBID)


def test_a_map_in_words() -> None:
    assert base.described(SUBID) == "65537 IDs: 0 -> 1000, 1-65536 -> 100000-165535"
