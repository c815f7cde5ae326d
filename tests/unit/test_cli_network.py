# ruff: noqa: E501  (Docker's sentences are long)
"""network create, ls, inspect, rm, prune, connect, disconnect over a real store; ports in ps, port, inspect."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_cli_listing import World

from rootless.cli import ps
from rootless.linux import proc
from rootless.plan import attach
from rootless.plan.request import RunRequest
from rootless.runtime import network as service
from rootless.store.networks import NetworkStore


@pytest.fixture
def world(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> World:
    """A store on a host without routes, so that addresses are always the same."""
    made = World(tmp_path, capfd)
    quiet = NetworkStore(
        made.ctx.paths.networks, proc_net="/nonexistent", resolv_conf="/nonexistent"
    )
    quiet.default()
    return made


def network(world: World, *words: str) -> str:
    return world.out("network", "create", *words).strip()


def shown(world: World, name: str) -> Any:
    (found,) = json.loads(world.out("network", "inspect", name))
    return found


def running(world: World, name: str, report: dict[str, Any] | None = None, **request: Any) -> str:
    """A running container with what the network service would report of it."""
    made = world.container(name, status="running", **request)
    if report is not None:
        text = json.dumps(
            {"boot": proc.boot_id(), "pid": os.getpid(), "start": proc.starttime(os.getpid())}
            | {"networks": {}, "ports": [], **report}
        )
        Path(world.ctx.paths.containers, made, "network.json").write_text(text)
    return made


def endpoint(world: World, name: str, ip: str = "10.5.0.2", **more: Any) -> dict[str, Any]:
    return {
        "network_id": world.ctx.networks.get(name).id,
        "endpoint_id": "e0" * 32,
        "mac": "02:42:0a:05:00:02",
        "ip": ip,
        "prefix": 24,
        "gateway": "10.5.0.1",
        "ip6": "",
        "prefix6": 0,
        "gateway6": "",
        "aliases": [],
        "dns_names": ["web"],
        "interface": "eth0",
        **more,
    }


def asked(world: World, container: str) -> RunRequest:
    return RunRequest.from_dict(world.ctx.containers.get(container).record["request"])


# create, ls, inspect


def test_networks_are_listed_with_those_that_are_always_there(world: World) -> None:
    made = network(world, "back")
    assert len(made) == 64
    lines = world.out("network", "ls").splitlines()
    assert lines[0] == "NETWORK ID     NAME      DRIVER    SCOPE"
    assert [line.split()[1:] for line in lines[1:]] == [
        ["back", "bridge", "local"],
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]
    assert lines[1].split()[0] == made[:12]
    assert world.out("network", "ls", "-q", "--no-trunc", "-f", "name=back") == f"{made}\n"


def test_a_network_is_inspected_as_docker_does(world: World) -> None:
    made = network(
        world,
        *("--subnet", "10.5.0.0/24", "--gateway", "10.5.0.254", "--ip-range", "10.5.0.128/25"),
        *(
            "--aux-address",
            "router=10.5.0.200",
            "--internal",
            "--label",
            "a=b",
            "--opt",
            "mtu=1400",
        ),
        "back",
    )
    found = shown(world, "back")
    created = found.pop("Created")
    assert created.endswith("Z")
    assert found == {
        "Name": "back",
        "Id": made,
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [
                {
                    "Subnet": "10.5.0.0/24",
                    "IPRange": "10.5.0.128/25",
                    "Gateway": "10.5.0.254",
                    "AuxiliaryAddresses": {"router": "10.5.0.200"},
                }
            ],
        },
        "Internal": True,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {"mtu": "1400"},
        "Labels": {"a": "b"},
    }
    assert shown(world, "none")["IPAM"] == {"Driver": "default", "Options": None, "Config": None}
    form = ["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}}{{end}} {{.Labels.a}}"]
    assert world.out(*form, made[:12]) == "10.5.0.254 b\n"
    assert json.loads(world.out("inspect", "back"))[0]["Id"] == made
    assert json.loads(world.out("inspect", "--type", "network", "back"))[0]["Id"] == made


def test_networks_have_addresses_of_their_own(world: World) -> None:
    network(world, "one")
    network(world, "--ipv6", "two")
    assert shown(world, "bridge")["IPAM"]["Config"][0]["Subnet"] == "172.17.0.0/16"
    one = shown(world, "one")["IPAM"]["Config"]
    two = shown(world, "two")["IPAM"]["Config"]
    assert len({config["Subnet"] for config in one + two}) == 3
    assert two[1]["Subnet"].startswith("fd")
    assert two[1]["Gateway"] == two[1]["Subnet"].replace("::/64", "::1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bridge"], "operation is not permitted on predefined bridge network"),
        (["a b"], "invalid network name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["taken"], "network with name taken already exists"),
        (
            ["--subnet", "10.5.0.0/25", "x"],
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            ["--subnet", "10.6.0.0/24", "--gateway", "10.7.0.1", "x"],
            "no matching subnet for gateway 10.7.0.1",
        ),
        (["--gateway", "10.7.0.1", "x"], "every ip-range or gateway must have a corresponding subnet"),
        (["--subnet", "10.6.0.1/24", "x"], "invalid network config:\ninvalid subnet 10.6.0.1/24: it should be 10.6.0.0/24"),
        (["-d", "overlay", "x"], 'could not find plugin overlay in v1 plugin registry: plugin "overlay" not found'),
        (["-d", "host", "x"], 'only one instance of "host" network is allowed'),
        (["--ipv4=false", "x"], "network has neither IPv4 nor IPv6: one must be enabled"),
        (["--opt", "mtu=12", "x"], "invalid value '12' for network option mtu"),
        (["--ingress", "x"], "cannot create network x with --ingress: it concerns swarms only"),
        (["--scope", "swarm", "x"], "invalid scope 'swarm': only local is known"),
        (["--ipam-driver", "dhcp", "x"], 'plugin "dhcp" not found'),
    ],
)  # fmt: skip
def test_bad_networks_are_refused(words: list[str], message: str, world: World) -> None:
    network(world, "--subnet", "10.5.0.0/24", "taken")
    before = world.out("network", "ls", "-q")
    code, out, err = world("network", "create", *words)
    assert (code, out) == (1, "")
    assert err.splitlines()[: message.count("\n") + 1] == f"rootless: {message}".splitlines()
    assert world.out("network", "ls", "-q") == before


def test_bad_egress_rules_are_refused_and_good_ones_kept(world: World) -> None:
    code, _, err = world("network", "create", "-o", "egress=perhaps *", "x")
    assert code == 1
    assert "is neither allow nor deny" in err
    network(world, "-o", "egress=allow tcp 10.0.0.0/8:443", "x")
    assert shown(world, "x")["Options"] == {"egress": "allow tcp 10.0.0.0/8:443"}


def test_an_option_without_effect_is_said_so(world: World) -> None:
    code, out, err = world("network", "create", "-o", "com.example.x=1", "x")
    assert (code, len(out)) == (0, 65)
    assert err == ("rootless: warning: --opt com.example.x: it has no effect on bridge networks\n")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=ba"], "back"),
        (["name=^b"], "back bridge"),
        (["driver=null"], "none"),
        (["type=custom"], "back front"),
        (["type=builtin"], "bridge host none"),
        (["label=a"], "back"),
        (["label!=a", "type=custom"], "front"),
        (["scope=local", "type=custom"], "back front"),
        (["scope=swarm"], ""),
        (["dangling=true"], "front"),
        (["dangling=false"], "back bridge host none"),
    ],
)
def test_networks_are_filtered(filters: list[str], names: str, world: World) -> None:
    network(world, "--label", "a=b", "back")
    network(world, "front")
    running(world, "web", {"networks": {"back": endpoint(world, "back")}}, network="back")
    flags = [word for text in filters for word in ("-f", text)]
    found = world.out("network", "ls", *flags, "--format", "{{.Name}}").split()
    assert found == names.split()


@pytest.mark.parametrize("text", ["nope=1", "type=x", "dangling=x"])
def test_bad_filters_are_refused(text: str, world: World) -> None:
    code, out, err = world("network", "ls", "-f", text)
    assert (code, out) == (1, "")
    assert err.startswith("rootless: invalid filter")


# rm and prune


def test_networks_are_removed(world: World) -> None:
    network(world, "one")
    made = network(world, "two")
    assert world.out("network", "rm", "one", made[:12]) == f"one\n{made[:12]}\n"
    code, out, err = world("network", "rm", "one", "bridge", "none")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "rootless: network one not found",
        "rootless: bridge is a pre-defined network and cannot be removed",
        "rootless: none is a pre-defined network and cannot be removed",
    ]
    assert world.out("network", "rm", "-f", "one") == "one\n"


def test_a_network_with_running_containers_stays(world: World) -> None:
    network(world, "back")
    container = running(
        world, "web", {"networks": {"back": endpoint(world, "back")}}, network="back"
    )
    code, _, err = world("network", "rm", "back")
    assert code == 1
    assert err == (
        "rootless: error while removing network: network back has active endpoints "
        f'(name:"web" id:"{"e0" * 6}")\n'
    )
    assert shown(world, "back")["Containers"] == {
        container: {
            "Name": "web",
            "EndpointID": "e0" * 32,
            "MacAddress": "02:42:0a:05:00:02",
            "IPv4Address": "10.5.0.2/24",
            "IPv6Address": "",
        }
    }
    path = Path(world.ctx.paths.containers, container, "network.json")
    path.write_text(path.read_text().replace(proc.boot_id(), "another boot"))
    assert world.out("network", "rm", "back") == "back\n"


def test_a_container_that_comes_while_a_network_is_removed_keeps_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    network(world, "back")
    monkeypatch.setattr(
        "rootless.engine.networks._wait_for_service",
        lambda _: running(world, "web", {"networks": {"back": come}}, network="back"),
    )
    come = endpoint(world, "back")
    code, _, err = world("network", "rm", "back")
    assert code == 1
    assert "has active endpoints" in err
    assert shown(world, "back")["Containers"]


def test_prune_leaves_what_a_container_refers_to(world: World) -> None:
    for name in ("used", "free", "kept"):
        network(world, *(["--label", "keep"] if name == "kept" else []), name)
    world.container("old", network="used", status="created")
    code, out, err = world("network", "prune", "-f", "--filter", "label!=keep")
    assert (code, out, err) == (0, "Deleted Networks:\nfree\n\n", "")
    assert world.out("network", "prune", "-f") == "Deleted Networks:\nkept\n\n"
    assert world.out("network", "prune", "-f") == ""


def test_prune_asks_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    network(world, "free")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert world.out("network", "prune") == (
        "WARNING! This will remove all custom networks not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert "free" in world.out("network", "ls")


# connect and disconnect


def test_a_stopped_container_is_connected_in_its_record(world: World) -> None:
    network(world, "--subnet", "10.5.0.0/24", "back")
    container = world.container("web", network="bridge")
    flags = ["--alias", "db", "--ip", "10.5.0.9", "--gw-priority", "3", "--link", "x:y"]
    assert world.out("network", "connect", *flags, "back", "web") == ""
    first, second = attach.wishes(asked(world, container))
    assert (first.network, second.network) == ("bridge", "back")
    assert (second.aliases, second.ip, second.gw_priority) == (["db"], "10.5.0.9", 3)
    assert second.links == ["x:y"]
    found = json.loads(world.out("inspect", "web"))[0]["NetworkSettings"]["Networks"]
    assert list(found) == ["back", "bridge"]
    assert found["back"]["IPAMConfig"] == {"IPv4Address": "10.5.0.9"}
    assert found["back"]["Aliases"] == ["db"]
    assert world.out("ps", "-a", "--format", "{{.Networks}}") == "back,bridge\n"
    code, _, err = world("network", "connect", "back", "web")
    assert code == 1
    assert err == "rootless: endpoint with name web already exists in network back\n"
    for name in ("bridge", "back"):
        assert world.out("network", "disconnect", name, "web") == ""
    assert attach.wishes(asked(world, container)) == []
    assert json.loads(world.out("inspect", "web"))[0]["NetworkSettings"]["Networks"] == {}
    code, _, err = world("network", "disconnect", "back", "web")
    assert (code, err) == (
        1,
        f"rootless: container {container} is not connected to network back\n",
    )
    world.out("network", "connect", "back", "web")
    assert [wish.network for wish in attach.wishes(asked(world, container))] == ["back"]


@pytest.mark.parametrize(
    ("mode", "words", "message"),
    [
        ("host", ["back"], "container sharing network namespace with another container or host cannot be connected to any other network"),
        ("container:x", ["back"], "container sharing network namespace with another container or host cannot be connected to any other network"),
        ("none", ["back"], "container cannot be connected to multiple networks with one of the networks in private (none) mode"),
        ("pasta", ["back"], "container with network pasta cannot be connected to any other network"),
        ("bridge", ["host"], "container cannot be disconnected from host network or connected to host network"),
        ("bridge", ["none"], "container cannot be connected to multiple networks with one of the networks in private (none) mode"),
        ("back", ["--alias", "x", "bridge"], "network-scoped aliases are only supported for user-defined networks"),
        ("bridge", ["--ip", "10.6.0.1", "back"], "invalid endpoint settings: no configured subnet or ip-range contain the IP address 10.6.0.1"),
        ("back", ["--ip", "172.17.0.9", "bridge"], "invalid endpoint settings: user specified IP address is supported on user defined networks only"),
        ("bridge", ["--ip", "172.18.0.9", "drawn"], "invalid endpoint settings: user specified IP address is supported only when connecting to networks with user configured subnets"),
        ("bridge", ["nope"], "network nope not found"),
    ],
)  # fmt: skip
def test_what_cannot_be_connected_is_refused(
    mode: str, words: list[str], message: str, world: World
) -> None:
    network(world, "--subnet", "10.5.0.0/24", "back")
    network(world, "drawn")
    container = world.container("web", network=mode)
    before = asked(world, container).to_dict()
    code, out, err = world("network", "connect", *words, "web")
    assert (code, out, err) == (err and code, "", f"rootless: {message}\n")
    assert code in (1, 125)
    assert asked(world, container).to_dict() == before


def test_connect_wants_a_container(world: World) -> None:
    code, _, err = world("network", "connect", "bridge", "nobody")
    assert (code, err) == (1, "rootless: no such container: nobody\n")
    code, _, err = world("network", "disconnect", "host", "nobody")
    assert code == 1


def test_disconnect_from_a_network_that_is_gone_needs_force(world: World) -> None:
    network(world, "back")
    container = world.container("web", network="back")
    world.out("network", "rm", "back")
    code, _, err = world("network", "disconnect", "back", "web")
    assert (code, err) == (1, "rootless: network back not found\n")
    assert world.out("network", "disconnect", "-f", "back", "web") == ""
    assert attach.wishes(asked(world, container)) == []


def test_a_running_container_is_connected_by_the_service(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    network(world, "back")
    requests: list[Any] = []
    monkeypatch.setattr(service, "ask", lambda path, request: requests.append(request))
    monkeypatch.setattr(service, "directory", lambda paths, facts: "/nowhere")
    monkeypatch.setattr("rootless.engine.renew.renew", lambda *_: None)
    report = {"networks": {"bridge": endpoint(world, "bridge")}}
    container = running(world, "web", report, network="bridge")
    world.out("network", "connect", "--alias", "db", "back", "web")
    assert requests[0]["op"] == "connect"
    assert requests[0]["container"] == container
    assert (requests[0]["wish"]["network"], requests[0]["wish"]["aliases"]) == ("back", ["db"])
    world.out("network", "disconnect", "bridge", "web")
    assert requests[1:] == [{"op": "disconnect", "container": container, "network": "bridge"}]
    assert [wish.network for wish in attach.wishes(asked(world, container))] == ["back"]


def test_links_are_removed(world: World) -> None:
    container = world.container("web", network="bridge", links=["other:db", "other:sql"])
    assert world.out("rm", "--link", "/web/db") == "/web/db\n"
    assert asked(world, container).links == ["other:sql"]
    for wrong in ("web/db", "web", "nobody/db"):
        assert world("rm", "--link", wrong)[0] == 1


# ports


def port(inside: int, address: str, outside: int, protocol: str = "tcp") -> dict[str, Any]:
    return {
        "container_port": inside,
        "protocol": protocol,
        "host_ip": address,
        "host_port": outside,
    }


def test_published_ports_are_shown_as_docker_does(world: World) -> None:
    both = [port(80, address, 8080) for address in ("0.0.0.0", "::")]
    report = {
        "networks": {
            "bridge": endpoint(world, "bridge", "172.17.0.2", prefix=16, gateway="172.17.0.1")
        },
        "ports": [*both, port(53, "127.0.0.1", 53, "udp")],
    }
    running(
        world,
        "web",
        report,
        network="bridge",
        publish=["8080:80", "127.0.0.1:53:53/udp", "9000-9010:9"],
        expose=["443", "81"],
    )
    assert world.out("ps", "--format", "{{.Ports}}") == (
        "81/tcp, 127.0.0.1:53->53/udp, 443/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n"
    )
    assert world.out("port", "web") == (
        "53/udp -> 127.0.0.1:53\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    )
    assert world.out("port", "web", "80") == "0.0.0.0:8080\n[::]:8080\n"
    code, _, err = world("port", "web", "443")
    assert (code, err) == (1, "rootless: no public port '443/tcp' published for web\n")
    (found,) = json.loads(world.out("inspect", "web"))
    settings = found["NetworkSettings"]
    assert settings["Ports"] == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080"},
        ],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "81/tcp": None,
        "443/tcp": None,
    }
    assert (settings["IPAddress"], settings["Gateway"], settings["IPPrefixLen"]) == (
        *("172.17.0.2", "172.17.0.1", 16),
    )
    assert settings["Networks"]["bridge"]["DNSNames"] == ["web"]
    assert found["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "9/tcp": [{"HostIp": "", "HostPort": "9000-9010"}],
    }
    assert list(found["Config"]["ExposedPorts"]) == [
        "443/tcp",
        "53/udp",
        "80/tcp",
        "81/tcp",
        "9/tcp",
    ]


def test_a_stopped_container_has_no_ports(world: World) -> None:
    world.container("web", network="bridge", publish=["8080:80"])
    assert world.out("ps", "-a", "--format", "{{.Ports}}") == "\n"
    assert world.out("port", "web") == ""
    (found,) = json.loads(world.out("inspect", "web"))
    assert found["NetworkSettings"]["Ports"] == {}
    assert found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == ""


@pytest.mark.parametrize("mode", ["host", "none"])
def test_a_container_without_a_network_of_its_own_has_no_ports(mode: str, world: World) -> None:
    running(world, "web", network=mode, expose=["80"])
    assert world.out("ps", "--format", "{{.Ports}}/{{.Networks}}") == f"/{mode}\n"


@pytest.mark.parametrize(
    ("ports", "wanted"),
    [
        ([], ""),
        ([(80, "tcp", "", 0)], "80/tcp"),
        ([(80, "tcp", "", 0), (81, "tcp", "", 0), (83, "tcp", "", 0)], "80-81/tcp, 83/tcp"),
        ([(80, "tcp", "0.0.0.0", 80), (81, "tcp", "0.0.0.0", 81)], "0.0.0.0:80-81->80-81/tcp"),
        ([(80, "tcp", "::", 80), (81, "tcp", "::", 81)], "[::]:80-81->80-81/tcp"),
        ([(80, "tcp", "", 0), (80, "udp", "", 0)], "80/tcp, 80/udp"),
        (
            [(81, "tcp", "0.0.0.0", 8081), (80, "tcp", "0.0.0.0", 8080), (90, "tcp", "", 0)],
            "90/tcp, 0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp",
        ),
        ([(80, "tcp", "1.1.1.1", 80), (80, "tcp", "1.1.1.1", 80)], "1.1.1.1:80->80/tcp"),
    ],
)
def test_neighbouring_ports_are_folded(ports: Any, wanted: str) -> None:
    assert ps.ports(ports) == wanted


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("publish=80", "web"),
        ("publish=8080", "web"),
        ("publish=79-81/tcp", "web"),
        ("publish=80/udp", ""),
        ("publish=9", ""),
        ("expose=80", "db web"),
        ("expose=9/tcp", "db"),
        ("expose=1-8", ""),
        ("network=back", "web"),
        ("network=bridge", "db"),
    ],
)
def test_containers_are_found_by_port_and_network(text: str, names: str, world: World) -> None:
    made = network(world, "back")
    report = {"networks": {"back": endpoint(world, "back")}, "ports": [port(80, "0.0.0.0", 8080)]}
    running(world, "web", report, network="back", publish=["80"])
    world.container("db", network="bridge", expose=["9"])
    found = world.out("ps", "-a", "-f", text, "--format", "{{.Names}}").split()
    assert sorted(found) == names.split()
    assert world.out("ps", "-f", f"network={made[:12]}", "--format", "{{.Names}}") == "web\n"


@pytest.mark.parametrize("text", ["publish=x", "expose=90-80", "publish=1-2-3"])
def test_bad_port_filters_are_refused(text: str, world: World) -> None:
    code, _, err = world("ps", "-f", text)
    assert code == 1
    assert err.startswith(f"rootless: invalid filter '{text}'")
