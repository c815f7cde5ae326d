"""Definitions of networks on disk: made once, found by name and ID, held and removed."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from rootless import jsonc
from rootless.errors import ConflictError, NotFoundError, StorageError, UsageError
from rootless.plan import addresses, subnets
from rootless.plan.network import NetworkDef, Subnet
from rootless.store import networks
from rootless.store.networks import NetworkStore


@pytest.fixture
def store(tmp_path: Path) -> NetworkStore:
    return quiet(str(tmp_path / "networks"))


def quiet(directory: str) -> NetworkStore:
    """A store on a host without routes."""
    return NetworkStore(directory, proc_net="/nonexistent", resolv_conf="/nonexistent")


def test_the_default_network_is_made_when_it_is_needed(store: NetworkStore) -> None:
    assert store.names() == []
    made = store.default()
    assert (made.name, made.subnets[0].subnet) == ("bridge", "172.17.0.0/16")
    assert store.default().to_dict() == made.to_dict() == store.get("bridge").to_dict()
    assert len(made.id) == 64


def _default(directory: str, answers: Any) -> None:
    answers.put(quiet(directory).default().id)


def test_many_at_once_make_one_default_network(store: NetworkStore) -> None:
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    processes = [fork.Process(target=_default, args=(store.directory, answers)) for _ in range(40)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert found == {store.get("bridge").id}
    assert store.names() == ["bridge"]


def _make(directory: str, name: str, answers: Any) -> None:
    answers.put([one.subnet for one in quiet(directory).create(name).subnets])


def test_many_at_once_get_different_addresses(store: NetworkStore) -> None:
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    processes = [
        fork.Process(target=_make, args=(store.directory, f"n{at}", answers)) for at in range(12)
    ]
    for process in processes:
        process.start()
    found = [one for _ in processes for one in answers.get(timeout=60)]
    for process in processes:
        process.join(60)
    assert len(set(found)) == 12
    assert "172.17.0.0/16" not in found
    assert len(store.names()) == 13


def test_a_network_is_found_by_name_id_and_prefix(store: NetworkStore) -> None:
    made = store.create("back", internal=True, labels={"a": "b"}, options={"mtu": "1400"})
    for reference in ("back", made.id, made.id[:12]):
        assert store.resolve(reference).to_dict() == made.to_dict()
    assert store.resolve("host").driver == "host"
    assert store.resolve("none").driver == "null"
    assert store.resolve(networks.PREDEFINED["none"][:12]).name == "none"
    for missing in ("nope", "", "ffff" * 16, "../back", ".lock", "x" * 300, "a/b"):
        with pytest.raises(NotFoundError, match=f"network {missing} not found"):
            store.resolve(missing)
    assert [one.name for one in store.all()] == ["back", "bridge", "host", "none"]


def test_an_ambiguous_prefix_is_refused(store: NetworkStore) -> None:
    first = store.create("one")
    prefix = ""
    for at in range(40):
        other = store.create(f"n{at}", subnets=[Subnet(f"10.{at}.0.0/24", static=True)])
        if other.id[0] == first.id[0]:
            prefix = other.id[0]
            break
    if not prefix:
        prefix = store.get("n0").id[:0]
        with pytest.raises(NotFoundError):
            store.resolve(prefix)
        return
    with pytest.raises(UsageError, match="is ambiguous"):
        store.resolve(prefix)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("bridge", "operation is not permitted on predefined bridge network"),
        ("host", "operation is not permitted on predefined host network"),
        ("default", "operation is not permitted on predefined default network"),
        ("pasta", "it is a network mode"),
        ("", "are allowed"),
        ("a b", "are allowed"),
        ("a/b", "are allowed"),
        (".a", "are allowed"),
        ("container:x", "are allowed"),
        ("x" * 256, "are allowed"),
    ],
)
def test_bad_names_make_nothing(name: str, error: str, store: NetworkStore) -> None:
    with pytest.raises((UsageError, ConflictError), match=error):
        store.create(name)
    assert store.names() == []


def test_a_name_is_taken_once(store: NetworkStore) -> None:
    store.create("back")
    with pytest.raises(ConflictError, match="network with name back already exists"):
        store.create("back")


def test_what_is_refused_leaves_nothing(store: NetworkStore) -> None:
    store.create("back", subnets=[Subnet("10.5.0.0/16", static=True)])
    for wrong in ("10.5.6.0/24", "10.0.0.0/8", "10.7.0.1/24"):
        with pytest.raises((UsageError, ConflictError)):
            store.create("other", subnets=[Subnet(wrong, static=True)])
    assert sorted(os.listdir(store.directory)) == [".lock", "back", "bridge"]


def test_routes_of_this_host_are_avoided(tmp_path: Path) -> None:
    store = NetworkStore(str(tmp_path / "networks"))
    (mine,) = store.default().subnets
    texts = [
        Path(path).read_text()
        for path in ("/proc/net/route", "/proc/net/ipv6_route")
        if os.path.exists(path)
    ]
    for prefix in subnets.host_prefixes(*[*texts, "", ""][:2]):
        assert not addresses.overlap(prefix, subnets.prefix_of(mine))


def test_a_killed_maker_leaves_nothing_that_counts(store: NetworkStore) -> None:
    store.default()
    for name in (".tmp-dead", ".gone-dead"):
        os.mkdir(f"{store.directory}/{name}")
        Path(store.directory, name, "network.json").write_text("{")
    assert store.names() == ["bridge"]
    store.create("back")
    assert sorted(os.listdir(store.directory)) == [".lock", "back", "bridge"]


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", '{"network": {"name": "back"}}', '{"network": 1}']
)
def test_a_broken_definition_is_an_error(text: str, store: NetworkStore) -> None:
    store.create("back")
    Path(store.directory, "back", "network.json").write_text(text)
    with pytest.raises(StorageError, match=r"cannot read .*back/network\.json"):
        store.get("back")


def test_a_held_network_is_not_removed(store: NetworkStore) -> None:
    store.create("back")
    first, second = store.hold("back"), store.hold("back")
    with pytest.raises(ConflictError, match="network back has active endpoints"):
        store.lock("back", patience=0.02)
    os.close(first)
    os.close(second)
    lock = store.lock("back")
    taken = store.take("back")
    assert store.names() == ["bridge"]
    store.put_back(taken, "back")
    assert store.get("back").name == "back"
    store.discard(store.take("back"))
    os.close(lock)
    assert sorted(os.listdir(store.directory)) == [".lock", "bridge"]
    with pytest.raises(NotFoundError):
        store.hold("back")
    with pytest.raises(NotFoundError):
        store.take("back")


def test_a_lock_of_a_removed_network_is_no_lock(store: NetworkStore) -> None:
    store.create("back")
    lock = store.lock("back")
    taken = store.take("back")
    store.create("back")
    store.put_back(taken, "back")  # somebody made another: that one stays
    os.close(lock)
    again = store.lock("back")
    assert fcntl.fcntl(again, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(again)


def test_a_definition_survives_json() -> None:
    made = NetworkDef(name="a", id="b", subnets=[Subnet("10.0.0.0/8", "10.0.0.1", static=True)])
    assert (
        NetworkDef.from_dict(jsonc.loads(jsonc.dumps(made.to_dict()))).to_dict() == made.to_dict()
    )
    assert made.of_version(4) is made.subnets[0]
    assert made.of_version(6) is None


def test_the_default_network_has_ipv6_if_the_settings_say_so(tmp_path: Path) -> None:
    store = NetworkStore(
        str(tmp_path / "n"), ipv6=True, proc_net="/nonexistent", resolv_conf="/nonexistent"
    )
    made = store.default()
    six = made.of_version(6)
    assert made.ipv6 and six is not None
    assert six.subnet.startswith("fd")
    assert not store.create("other").ipv6
