"""What users say of networks, and what containers get of it, on real networks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from networld import NetWorld
from rig import busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")
SLEEP = ("busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done")


@pytest.fixture(scope="module")
def net() -> Iterator[NetWorld]:
    world = NetWorld()
    busybox(world)
    world.out(
        "network", "create", "--subnet", "10.20.0.0/24", "--ipv6", "--subnet", "fd20::/64", "office"
    )
    world.out("network", "create", "back")
    yield world
    world.close()


@pytest.fixture(autouse=True)
def no_containers(net: NetWorld) -> Iterator[None]:
    yield
    names = net.names()
    if names:
        net("rm", "-f", *names)


def settings(net: NetWorld, name: str) -> Any:
    (found,) = json.loads(net.out("inspect", name))
    return found["NetworkSettings"]


def refused(net: NetWorld, *words: str) -> str:
    done = net(*words, check=False)
    assert done.returncode == 125, (done.returncode, done.stdout, done.stderr)
    return done.stderr.removeprefix("rootless: ").strip()


def test_addresses_that_were_asked_for(net: NetWorld) -> None:
    flags = ["--ip", "10.20.0.77", "--ip6", "fd20::77", "--mac-address", "02:11:22:33:44:55"]
    net.out("run", "-d", "--name", "web", "--network", "office", *flags, *SLEEP)
    seen = net.out("exec", "web", "ip", "addr", "show", "dev", "eth0")
    for text in ("inet 10.20.0.77/24", "inet6 fd20::77/64", "link/ether 02:11:22:33:44:55"):
        assert text in seen
    found = settings(net, "web")["Networks"]["office"]
    assert (found["IPAddress"], found["IPPrefixLen"], found["Gateway"]) == (
        *("10.20.0.77", 24, "10.20.0.1"),
    )
    assert (found["GlobalIPv6Address"], found["GlobalIPv6PrefixLen"]) == ("fd20::77", 64)
    assert found["MacAddress"] == "02:11:22:33:44:55"
    assert found["IPAMConfig"] == {"IPv4Address": "10.20.0.77", "IPv6Address": "fd20::77"}
    (network,) = json.loads(net.out("network", "inspect", "office"))
    (at,) = network["Containers"].values()
    assert (at["Name"], at["IPv4Address"], at["IPv6Address"]) == (
        *("web", "10.20.0.77/24", "fd20::77/64"),
    )
    assert "in use" in refused(net, "run", "--rm", "--network", "name=office,ip=10.20.0.77", *SLEEP)
    assert "in use" in refused(
        net, "run", "--rm", "--network", "office", "--ip", "10.20.0.1", *SLEEP
    )
    assert net.names() == ["web"]


def test_what_cannot_be_is_refused_before_anything_is_made(net: NetWorld) -> None:
    for words, message in (
        (["--network", "nope"], "network nope not found"),
        (["--network", "office", "--ip", "10.99.0.1"], "no configured subnet or ip-range contain"),
        (["--network", "back", "--ip", "172.18.0.9"], "networks with user configured subnets"),
        (["--network", "back", "--mac-address", "xx"], "xx is not a valid mac address"),
        (["--network-alias", "x"], "only supported for user-defined networks"),
        (["-p", "1:2:3:4"], "invalid IP address: 1:2"),
        (
            ["--network", "name=back,driver-opt=com.docker.network.endpoint.sysctls=kernel.x=1"],
            "unrecognised network interface sysctl 'kernel.x=1'",
        ),
    ):
        assert message in refused(net, "run", *words, *SLEEP)
        assert net("create", *words, *SLEEP, check=False).returncode in (1, 125)
    assert net.names() == []


def test_several_networks_and_which_has_the_default_route(net: NetWorld) -> None:
    for priority, gateway in ((5, "10.20.0.1"), (-5, "172.18.0.1")):
        net.out(
            *("run", "-d", "--name", "web", "--network", "back"),
            *("--network", f"name=office,gw-priority={priority},alias=w", *SLEEP),
        )
        assert f"default via {gateway}" in net.out("exec", "web", "ip", "route")
        found = settings(net, "web")["Networks"]
        assert list(found) == ["back", "office"]
        assert found["office"]["GwPriority"] == priority
        assert "w" in found["office"]["DNSNames"]
        assert net.out("ps", "--format", "{{.Networks}}") == "back,office"
        net("rm", "-f", "web")


def test_further_addresses_and_settings_of_an_interface(net: NetWorld) -> None:
    option = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
    net.out(
        *("run", "-d", "--name", "web", "--network", f"name=back,driver-opt={option}"),
        *("--link-local-ip", "169.254.77.1", *SLEEP),
    )
    assert "inet 169.254.77.1/16" in net.out("exec", "web", "ip", "addr", "show", "dev", "eth0")
    path = "/proc/sys/net/ipv4/conf/eth0/log_martians"
    assert net.out("exec", "web", "cat", path) == "1"
    wrong = option.replace("log_martians", "no_such")
    message = refused(net, "run", "--rm", "--network", f"name=back,driver-opt={wrong}", *SLEEP)
    assert "cannot set sysctl net.ipv4.conf.eth0.no_such to '1'" in message


def test_every_exposed_port_is_published(net: NetWorld) -> None:
    net.out(
        *("run", "-d", "--name", "web", "-P", "--expose", "80", "--expose", "53/udp"),
        *("-p", "127.0.0.1:7777:7", "-p", "7000-7009:8", *SLEEP),
    )
    ports = settings(net, "web")["Ports"]
    assert set(ports) == {"80/tcp", "53/udp", "7/tcp", "8/tcp"}
    assert ports["7/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "7777"}]
    assert {binding["HostPort"] for binding in ports["8/tcp"]} == {"7000"}
    outside = {binding["HostPort"] for binding in ports["80/tcp"]}
    assert len(outside) == 1
    number = outside.pop()
    assert net.out("port", "web", "80").splitlines() == [f"0.0.0.0:{number}", f"[::]:{number}"]
    shown = net.out("ps", "--format", "{{.Ports}}")
    assert f"0.0.0.0:{number}->80/tcp, [::]:{number}->80/tcp" in shown
    assert "127.0.0.1:7777->7/tcp" in shown
    assert net.out("ps", "-q", "-f", "publish=7777") and net.out("ps", "-q", "-f", "expose=53/udp")
    net.out("run", "-d", "--name", "other", "-p", "7000-7009:8", *SLEEP)
    assert net.out("port", "other").splitlines()[0] == "8/tcp -> 0.0.0.0:7001"
    message = refused(net, "run", "--rm", "-p", "127.0.0.1:7777:7", *SLEEP)
    assert "Bind for 127.0.0.1:7777 failed: port is already allocated" in message
    net("stop", "web")
    assert net.out("port", "web") == ""
    net("start", "web")
    assert net.out("port", "web", "7") == "127.0.0.1:7777"


def test_three_hundred_ports(net: NetWorld) -> None:
    net.out("run", "-d", "--name", "web", "-p", "127.0.0.1:8000-8299:8000-8299", *SLEEP)
    assert len(net.out("port", "web").splitlines()) == 300
    assert net.out("ps", "--format", "{{.Ports}}") == "127.0.0.1:8000-8299->8000-8299/tcp"


def test_a_network_in_use_stays_and_an_unused_one_goes(net: NetWorld) -> None:
    net.out("network", "create", "--label", "brief", "brief")
    net.out("run", "-d", "--name", "web", "--network", "brief", *SLEEP)
    done = net("network", "rm", "brief", check=False)
    assert done.returncode == 1
    assert 'network brief has active endpoints (name:"web" id:"' in done.stderr
    assert net.out("network", "prune", "-f", "--filter", "label=brief") == ""
    net("stop", "web")
    assert net.out("network", "rm", "brief") == "brief"
    done = net("start", "web", check=False)
    assert done.returncode == 1
    assert "network brief not found" in done.stderr
    net.out("network", "disconnect", "-f", "brief", "web")
    net.out("start", "web")
    assert net.out("exec", "web", "ls", "/sys/class/net") == "lo"
    net.out("network", "connect", "back", "web")
    until(lambda: "eth0" in net.out("exec", "web", "ls", "/sys/class/net"))
    assert settings(net, "web")["Networks"]["back"]["IPAddress"]


def test_a_restart_by_the_monitor_has_the_networks_of_now(net: NetWorld) -> None:
    net.out("run", "-d", "--name", "web", "--restart", "always", "--network", "back", *SLEEP)
    net.out("network", "connect", "--ip", "10.20.0.50", "office", "web")
    net.out("network", "disconnect", "back", "web")
    before = net.out("inspect", "-f", "{{.State.Pid}}", "web")
    os.kill(int(before), 9)

    def again() -> bool:
        found = net.out("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "web").split()
        return found[0] == "running" and found[1] not in ("0", before)

    until(again)
    assert "inet 10.20.0.50/24" in net.out("exec", "web", "ip", "addr")
    assert list(settings(net, "web")["Networks"]) == ["office"]
    assert settings(net, "web")["Networks"]["office"]["IPAddress"] == "10.20.0.50"


def test_who_joins_a_container_has_its_names(net: NetWorld) -> None:
    net.out(
        "run",
        "-d",
        "--name",
        "web",
        "-h",
        "webby",
        "--network",
        "back",
        "--add-host",
        "x=1.2.3.4",
        *SLEEP,
    )
    mine = net.out("exec", "web", "cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
    script = "cat /etc/hosts /etc/resolv.conf /etc/hostname; hostname >&2"
    done = net("run", "--rm", "--network", "container:web", "busybox", "sh", "-c", script)
    assert done.stdout.strip() == mine
    assert done.stderr.strip().endswith("webby")
    assert "1.2.3.4\tx" in mine
    message = refused(net, "run", "--rm", "--network", "container:web", "-p", "80", *SLEEP)
    assert message == "conflicting options: port publishing and the container type network mode"


def test_a_link_on_the_default_network(net: NetWorld) -> None:
    net.out("run", "-d", "--name", "db", *SLEEP)
    address = settings(net, "db")["IPAddress"]
    net.out("run", "-d", "--name", "web", "--link", "db:sql", *SLEEP)
    assert f"{address}\tsql " in net.out("exec", "web", "cat", "/etc/hosts")
    assert net.out("inspect", "-f", "{{.HostConfig.Links}}", "web") == "[/db:/sql]"
    net.out("rm", "--link", "/web/sql")
    net.out("restart", "-t", "1", "web")
    assert "sql" not in net.out("exec", "web", "cat", "/etc/hosts")


def test_links_to_what_is_not_there_are_refused(net: NetWorld) -> None:
    message = refused(net, "run", "--link", "nobody", *SLEEP)
    assert message == "could not get container for nobody: no such container: nobody"
    net.out("create", "--name", "idle", *SLEEP)
    message = refused(net, "run", "--name", "eager", "--link", "idle:it", *SLEEP)
    assert message.splitlines() == [
        "cannot link to a non running container: /idle AS /eager/it",
        "hint: rootless start idle",
    ]
    net.out("start", "idle")
    net.out("start", "eager")
    net.out("run", "-d", "--name", "away", "--network", "office", *SLEEP)
    message = refused(net, "run", "--link", "away", *SLEEP)
    assert message.startswith("cannot link to /away, as it does not belong to the default network")
    net.out("rm", "-f", "idle")
    net.out("restart", "-t", "1", "eager")
    net.out("run", "-d", "--network", "office", "--link", "nobody:late", *SLEEP)


def test_removals_and_starts_at_once_leave_no_container_on_a_network_that_is_gone(
    net: NetWorld,
) -> None:
    for round_ in range(5):
        net.out("network", "create", "race")
        runs = [
            subprocess.Popen(
                [*net.argv, "run", "-d", "--name", f"r{round_}x{at}", "--network", "race", *SLEEP],
                env=net.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for at in range(3)
        ]
        time.sleep(0.03 * round_)
        removed = net("network", "rm", "race", check=False).returncode == 0
        codes = [run.wait(60) for run in runs]
        running = net.out("ps", "-q", "-f", "network=race").split()
        assert len(running) == codes.count(0)
        if removed:
            assert running == [], codes
        for name in net.names():
            net("rm", "-f", name)
        net("network", "rm", "-f", "race")
