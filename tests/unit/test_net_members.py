"""Who finds whom: names by network, aliases, links, and the endpoint with the default route."""

from __future__ import annotations

import os

from rootless.drivers.network.netd.members import Endpoint, Member, Members
from rootless.plan.network import AttachRequest, EndpointWish, NetworkDef, Subnet


def network(name: str, number: int, *, internal: bool = False) -> NetworkDef:
    return NetworkDef(
        name=name,
        id=f"{number:064x}",
        internal=internal,
        subnets=[
            Subnet(f"10.{number}.0.0/16", f"10.{number}.0.1"),
            Subnet(f"fd00:{number}::/64", f"fd00:{number}::1"),
        ],
    )


FRONT, BACK, BRIDGE = network("front", 1), network("back", 2, internal=True), network("bridge", 3)


def join(
    members: Members, name: str, networks: list[NetworkDef], number: int, **wish: object
) -> Member:
    request = AttachRequest(id=f"{number}" * 64, name=name, hostname=f"host-{name}")
    member = Member(request, 1, 1, os.open("/dev/null", os.O_RDONLY))
    members.by_id[request.id] = member
    for one in networks:
        endpoint = Endpoint(one, EndpointWish(one.name, **wish), f"{number}")  # type: ignore[arg-type]
        endpoint.ip = one.subnets[0].gateway[:-1] + str(number)
        endpoint.ip6 = one.subnets[1].gateway[:-1] + str(number)
        member.endpoints[one.name] = endpoint
        members.enter(member, endpoint)
    return member


def test_names_are_known_on_shared_networks_only() -> None:
    members = Members()
    web = join(members, "web", [FRONT, BACK], 2, aliases=["www"])
    db = join(members, "db", [BACK], 3, aliases=["sql"])
    far = join(members, "far", [FRONT], 4)
    ask = lambda who, name, kind=4: members.lookup(who.request.id, name, kind)  # noqa: E731
    assert ask(web, "db") == ["10.2.0.3"]
    assert ask(web, "DB.back") == ["10.2.0.3"]
    assert ask(web, "sql", 6) == ["fd00:2::3"]
    assert ask(db, "www") == ["10.2.0.2"]
    assert ask(db, "host-web") == ["10.2.0.2"]
    assert ask(db, web.request.id[:12]) == ["10.2.0.2"]
    assert ask(far, "db") is None
    assert members.reverse(web.request.id, "10.2.0.3") == "db.back"
    assert members.reverse(far.request.id, "10.2.0.3") is None
    assert members.external(web.request.id) and not members.external(db.request.id)
    members.leave(db, db.endpoints["back"])
    assert ask(web, "db") is None
    for member in (web, db, far):
        member.close()


def test_an_alias_that_several_have() -> None:
    members = Members()
    one = join(members, "a", [FRONT], 2, aliases=["all"])
    two = join(members, "b", [FRONT], 3, aliases=["all"])
    assert members.lookup(one.request.id, "all", 4) == ["10.1.0.2", "10.1.0.3"]
    one.close()
    two.close()


def test_no_names_on_the_default_network() -> None:
    members = Members()
    one = join(members, "a", [BRIDGE], 2)
    two = join(members, "b", [BRIDGE], 3)
    assert members.lookup(one.request.id, "b", 4) is None
    assert one.names(one.endpoints["bridge"]) == []
    one.close()
    two.close()


def test_links_are_names_of_one_container_alone() -> None:
    members = Members()
    one = join(members, "a", [FRONT], 2, links=["b:database"])
    two = join(members, "b", [FRONT], 3)
    assert members.lookup(one.request.id, "database", 4) == ["10.1.0.3"]
    assert members.lookup(two.request.id, "database", 4) is None
    one.close()
    two.close()


def test_the_default_route() -> None:
    members = Members()
    member = join(members, "a", [BACK, FRONT, BRIDGE], 2)
    assert member.gateways() == ["10.3.0.1", "fd00:3::1"], "by name, where priorities are equal"
    member.endpoints["front"].wish.gw_priority = 1
    assert member.gateways() == ["10.1.0.1", "fd00:1::1"]
    main = member.main()
    assert main is not None and main.network is FRONT
    member.close()
    alone = join(members, "b", [BACK], 3)
    assert alone.gateways() == []
    alone.close()
