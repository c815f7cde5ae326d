"""As whom clients of a published port appear in the container."""

from __future__ import annotations

import pytest

from rootless.drivers.network.netd.publish_source import Route, Target, route

NEAR = ("172.18.0.0/16", "10.5.0.0/24", "fd18::/64")
BOTH = Target("172.18.0.2", "fd18::2", "172.18.0.1", "fd18::1", NEAR)
FOUR = Target("172.18.0.2", "", "172.18.0.1", "", NEAR)
SIX = Target("", "fd18::2", "", "fd18::1", NEAR)
GATE4 = Route("172.18.0.2", "172.18.0.1", False)
GATE6 = Route("fd18::2", "fd18::1", False)


@pytest.mark.parametrize(
    ("client", "target", "wanted"),
    [
        ("192.0.2.7", BOTH, Route("172.18.0.2", "192.0.2.7", True)),
        ("2001:db8::7", BOTH, Route("fd18::2", "2001:db8::7", True)),
        ("127.0.0.1", BOTH, GATE4),
        ("127.9.9.9", BOTH, GATE4),
        ("0.0.0.0", BOTH, GATE4),
        ("::1", BOTH, GATE6),
        ("::", BOTH, GATE6),
        ("172.18.200.1", BOTH, GATE4),
        ("172.18.0.2", BOTH, GATE4),
        ("172.19.0.1", BOTH, Route("172.18.0.2", "172.19.0.1", True)),
        ("10.5.0.9", BOTH, GATE4),  # of another network that the container is on
        ("fd18::99", BOTH, GATE6),
        ("fd18:0:0:1::99", BOTH, Route("fd18::2", "fd18:0:0:1::99", True)),
        ("fe80::1%eth0", BOTH, GATE6),
        ("169.254.7.7", BOTH, Route("172.18.0.2", "169.254.7.7", True)),
        ("2001:db8::7", FOUR, GATE4),
        ("::1", FOUR, GATE4),
        ("192.0.2.7", SIX, GATE6),
        ("192.0.2.7", BOTH._replace(routed=False), GATE4),
        ("2001:db8::7", BOTH._replace(routed=False), Route("fd18::2", "2001:db8::7", True)),
        ("2001:db8::7", BOTH._replace(routed6=False), GATE6),
        ("192.0.2.7", Target("", "", "", ""), None),
        ("2001:db8::7", Target("", "", "", ""), None),
    ],
)
def test_clients_appear_as_themselves_if_answers_find_back(
    client: str, target: Target, wanted: Route | None
) -> None:
    assert route(client, target) == wanted
