"""Bad input: Docker's words and exit codes, and nothing is left half-made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from netapps import status
from networld import NetWorld
from rig import busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")
NETWORKS = {
    "--subnet 10.80.5.0/24 new": "Pool overlaps with other one on this address space",
    "--subnet 10.0.0.0/8 new": "Pool overlaps with other one on this address space",
    "--subnet 10.81.0.0/24 --subnet 10.81.0.0/25 new": "multiple overlapping subnet configuration",
    "--subnet nonsense new": "invalid",
    "--subnet 10.81.0.0/33 new": "invalid",
    "--subnet 10.81.0.0/24 --gateway 10.82.0.1 new": "no matching subnet for gateway 10.82.0.1",
    "--gateway 10.82.0.1 new": "every ip-range or gateway must have a corresponding subnet",
    "--subnet 10.81.0.0/24 --ip-range 10.82.0.0/25 new": "no matching subnet for range 10.82.0.0/25",
    "--subnet 10.81.0.0/24 --aux-address a=10.82.0.1 new": "no matching subnet for aux-address 10.82.0.1",
    "-o mtu=12 new": "invalid value '12' for network option mtu",
    "-o egress=nonsense new": "invalid egress 'nonsense'",
    "-d overlay new": "could not find plugin overlay in v1 plugin registry",
    "-d host new": 'only one instance of "host" network is allowed',
    "taken": "network with name taken already exists",
    "not/a/name": "invalid network name",
}
CONTAINERS = {
    "--network nowhere": "network nowhere not found",
    "--network container:nobody": "no such container: nobody",
    "--network taken --network host": "cannot attach both user-defined and non-user-defined network-modes",
    "--network taken --network taken": 'network "taken" is specified multiple times',
    "--network name=taken,nonsense=1": "invalid field key nonsense",
    "--network taken --ip 10.80.0.9": "address already in use",
    "--network taken --ip 10.80.0.1": "address already in use",
    "--network taken --ip 10.81.0.9": "no configured subnet or ip-range contain the IP address 10.81.0.9",
    "--network taken --ip nonsense": "invalid IPv4 address: nonsense",
    "--ip 172.17.0.9": "user specified IP address is supported on user defined networks only",
    "--mac-address nonsense": "nonsense is not a valid mac address",
    "--mac-address 01:00:5e:00:00:01": "01:00:5e:00:00:01 is not a valid mac address",
    "--network-alias a": "network-scoped aliases are only supported for user-defined networks",
    "-p 7000-7299:7000-7298": "invalid ranges specified for container and host Ports",
    "-p 7000:80 -p 7000:81": "Bind for 0.0.0.0:7000 failed: port is already allocated",
    "-p 70000:80": "invalid hostPort: 70000",
    "-p 80:0": "invalid containerPort: 0",
    "-p 9-8:80": "invalid hostPort: 9-8",
    "-p 1.2.3:80:80": "invalid IP address: 1.2.3",
    "-p 80:80/nonsense": "invalid proto: nonsense",
    "-p 10.9.0.99:8080:80": "failed to bind host port for 10.9.0.99:8080:",
    "-p 7400:80": "Bind for 0.0.0.0:7400 failed: port is already allocated",
    "--dns nonsense": "nonsense is not an ip address",
    "--add-host nonsense": 'bad format for add-host: "nonsense"',
    "--add-host a:nonsense": 'invalid IP address in add-host: "nonsense"',
}
CHANGES = {
    "rm taken": "network taken has active endpoints",
    "rm nowhere": "network nowhere not found",
    "rm bridge": "bridge is a pre-defined network and cannot be removed",
    "inspect nowhere": "network nowhere not found",
    "connect taken holder": "endpoint with name holder already exists in network taken",
    "connect nowhere holder": "network nowhere not found",
    "connect taken nobody": "no such container: nobody",
    "connect host holder": "cannot be disconnected from host network or connected to host network",
    "disconnect bridge holder": "is not connected to network bridge",
    "disconnect nowhere holder": "network nowhere not found",
}


@pytest.fixture(scope="module")
def net() -> Iterator[NetWorld]:
    """A world in which holder has 10.80.0.9 on the network taken, and the host's port 7400."""
    world = NetWorld()
    try:
        busybox(world)
        world("network", "create", "--subnet", "10.80.0.0/16", "taken")
        words = ["--name", "holder", "--network", "taken", "--ip", "10.80.0.9", "-p", "7400:80"]
        world("run", "-d", *words, "busybox", "sleep", "1000")
        yield world
    finally:
        world.close()


@pytest.fixture(autouse=True)
def unchanged(net: NetWorld) -> Iterator[None]:
    """Nothing that a test was refused is there afterwards."""

    def picture() -> object:
        containers = status(net)["containers"]
        return net.names(), net.out("network", "ls"), containers

    before = picture()
    yield
    until(lambda: picture() == before)


@pytest.mark.parametrize("words", NETWORKS)
def test_network_create(net: NetWorld, words: str) -> None:
    done = net("network", "create", *words.split(), code=1)
    assert NETWORKS[words] in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("words", CONTAINERS)
def test_run(net: NetWorld, words: str) -> None:
    done = net("run", "--rm", *words.split(), "busybox", "echo", "it ran", code=125)
    assert CONTAINERS[words] in done.stderr
    assert not done.stdout, "refused before it runs"


@pytest.mark.parametrize("words", CHANGES)
def test_network_changes(net: NetWorld, words: str) -> None:
    done = net("network", *words.split(), code=1)
    assert CHANGES[words] in done.stderr


def test_a_port_of_the_administrators(net: NetWorld) -> None:
    """It says which setting would allow it, and does not need it where the setting is there."""
    done = net("run", "--rm", "-p", "81:80", "busybox", "echo", "it ran", code=125)
    assert "cannot expose privileged port 81" in done.stderr
    assert "sysctl -w net.ipv4.ip_unprivileged_port_start=81" in done.stderr
    net.near("sh", "-c", "echo 81 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
    try:
        assert net.out("run", "--rm", "-p", "81:80", "busybox", "echo", "it ran") == "it ran"
    finally:
        net.near("sh", "-c", "echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start")


def test_a_port_of_another_program(net: NetWorld) -> None:
    listen = "import socket; s = socket.create_server(('127.0.0.1', 7500)); print('ready', flush=True); input()"
    from netapps import python, started

    with started(net, *python(listen), far=False):
        done = net("run", "--rm", "-p", "7500:80", "busybox", "true", code=125)
        assert "failed to bind host port for 0.0.0.0:7500:172.17.0." in done.stderr
        assert done.stderr.rstrip().endswith(":80/tcp: address already in use")


def test_three_hundred_ports(net: NetWorld) -> None:
    """A wide range is published whole, or not at all where one of it is taken."""
    words = [
        "run",
        "-d",
        "--name",
        "wide",
        "-p",
        "7600-7899:7600-7899",
        "busybox",
        "nc",
        "-lk",
        "-p",
        "7899",
    ]
    words[-4:] = ["sh", "-c", "while :; do echo reached | nc -l -p 7899; done"]
    net(*words)
    try:
        assert len(net.out("port", "wide").splitlines()) == 600
        ask = (
            "import socket; print(socket.create_connection(('10.9.0.1', 7899), 9).recv(9).decode())"
        )
        assert net.outside("python3", "-c", ask).stdout.startswith("reached")
        done = net("run", "--rm", "-p", "7300-7700:7300-7700", "busybox", "true", code=125)
        assert "port is already allocated" in done.stderr
        free = "import socket; socket.create_server(('0.0.0.0', 7300)).close()"
        net.near("python3", "-c", free)
    finally:
        net("rm", "-f", "wide")
