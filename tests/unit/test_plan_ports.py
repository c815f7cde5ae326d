"""-p, --expose and -P: Docker's grammar and its sentences."""

from __future__ import annotations

import pytest

from rootless.errors import UsageError
from rootless.plan import ports
from rootless.plan.network import Port


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("80", [Port("", 0, 80)]),
        ("80/udp", [Port("", 0, 80, "udp")]),
        ("80/UDP", [Port("", 0, 80, "udp")]),
        ("80/", [Port("", 0, 80)]),
        ("8080:80", [Port("", 8080, 80)]),
        ("8080:80/sctp", [Port("", 8080, 80, "sctp")]),
        ("0:80", [Port("", 0, 80)]),
        (":80", [Port("", 0, 80)]),
        ("::80", [Port("", 0, 80)]),
        ("127.0.0.1::80", [Port("127.0.0.1", 0, 80)]),
        ("127.0.0.1:8080:80", [Port("127.0.0.1", 8080, 80)]),
        ("0.0.0.0:8080:80", [Port("0.0.0.0", 8080, 80)]),
        ("[::1]:8080:80", [Port("::1", 8080, 80)]),
        ("::1:8080:80", [Port("::1", 8080, 80)]),
        ("[2001:DB8::0:1]::80/udp", [Port("2001:db8::1", 0, 80, "udp")]),
        ("[::]:8080:80", [Port("::", 8080, 80)]),
        ("80-82", [Port("", 0, 80), Port("", 0, 81), Port("", 0, 82)]),
        ("8000-8001:80-81", [Port("", 8000, 80), Port("", 8001, 81)]),
        ("8000-8010:80", [Port("", 8000, 80, host_end=8010)]),
        ("10.0.0.1:8000-8010:80/udp", [Port("10.0.0.1", 8000, 80, "udp", host_end=8010)]),
        ("8080:80,activate", [Port("", 8080, 80, activate=True)]),
        ("8080:80/tcp,activate", [Port("", 8080, 80, activate=True)]),
        ("published=8080,target=80", [Port("", 8080, 80)]),
        ("target=80,protocol=udp", [Port("", 0, 80, "udp")]),
        ("published=8080,target=80,activate", [Port("", 8080, 80, activate=True)]),
        ("65535:65535", [Port("", 65535, 65535)]),
    ],
)
def test_a_port_is_read(text: str, wanted: list[Port]) -> None:
    assert ports.parse_ports([text]) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no port specified: <empty>"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("8080:/tcp", "no port specified: 8080:/tcp<empty>"),
        ("80/icmp", "invalid proto: icmp"),
        ("localhost:8080:80", "invalid IP address: localhost"),
        ("256.0.0.1:8080:80", "invalid IP address: 256.0.0.1"),
        ("127.0.0.01:8080:80", "invalid IP address: 127.0.0.01"),
        ("1:2:3:8080:80", "invalid IP address: 1:2:3"),
        ("[::1:8080:80", "invalid IP address [::1: missing ']' in address"),
        ("[fe80::1%eth0]:8080:80", "invalid IP address: fe80::1%eth0"),
        ("x", "invalid containerPort: x"),
        ("0", "invalid containerPort: 0"),
        ("-80", "invalid containerPort: -80"),
        ("65536", "invalid containerPort: 65536"),
        ("90-80", "invalid containerPort: 90-80"),
        ("80-81-82", "invalid containerPort: 80-81-82"),
        ("x:80", "invalid hostPort: x"),
        ("65536:80", "invalid hostPort: 65536"),
        (
            "8000-8002:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 8000-8002",
        ),
        ("8000:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000"),
        ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ("²:80", "invalid hostPort: ²"),
    ],
)
def test_a_bad_port_is_refused_in_docker_s_words(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        ports.parse_ports([text])
    assert str(error.value) == message
    assert error.value.code == 125


def test_three_hundred_ports_are_three_hundred() -> None:
    found = ports.parse_ports(["8000-8299:8000-8299", "8000:8000"])
    assert len(found) == 300
    assert found[-1] == Port("", 8299, 8299)


def test_a_port_survives_json() -> None:
    for port in ports.parse_ports(["[::1]:8000-8010:80/udp,activate"]):
        assert Port(*port.to_list()) == port
        assert port.host_end == 8010


def test_expose_is_read() -> None:
    assert ports.parse_expose(["80", "53/UDP", "100-101/tcp", "80"]) == [
        *("80/tcp", "53/udp", "100/tcp", "101/tcp"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8080:80", "invalid port format for --expose: 8080:80"),
        (
            "90-80",
            "invalid range format for --expose: 90-80, error: invalid range specified for port: 90-80",
        ),
        (
            "/tcp",
            "invalid range format for --expose: /tcp, error: empty string specified for ports",
        ),
        ("80/x", "invalid range format for --expose: 80/x, error: invalid proto: x"),
    ],
)
def test_a_bad_expose_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        ports.parse_expose([text])
    assert str(error.value) == message


def test_publish_all_takes_what_has_no_port_of_its_own() -> None:
    found = ports.published(
        ["8080:80"], publish_all=True, expose=["9000"], image_ports={"80/tcp": {}, "53/udp": {}}
    )
    assert found == [Port("", 8080, 80), Port("", 0, 53, "udp"), Port("", 0, 9000)]
    assert ports.published(["80"], expose=["9000"], image_ports={"1/tcp": {}}) == [Port("", 0, 80)]


def test_an_image_s_nonsense_is_left_out() -> None:
    assert ports.exposed((), {"80/tcp": {}, "x": {}, "0/tcp": {}, "7-9": {}, "1/icmp": {}}) == [
        *("7/tcp", "8/tcp", "9/tcp", "80/tcp"),
    ]
