"""Each uplink of the realm, whole: chosen by the setting, seen in doctor and info, used by containers."""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from networld import HOST, OUTSIDE, NetWorld
from rig import busybox, until
from test_networks import end, server, status

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox", "relay")
SETTING = "ROOTLESS_NETWORK_UPLINK"
# A server's end does not always come through pasta of 2023, though all that it sent does.  The first process
# of a container cannot be ended from inside, so that it has to be another.
NC = ("sh", "-c", 'timeout 4 nc "$@"; true', "nc")
LONG = 60  # seconds, on a machine with much else to do
UPLINKS = [
    "relay",
    *(
        pytest.param(name, marks=pytest.mark.requires("net-tun", name))
        for name in ("pasta", "slirp4netns")
    ),
]


@pytest.fixture(scope="module", params=UPLINKS)
def net(request: pytest.FixtureRequest) -> Iterator[NetWorld]:
    world = NetWorld()
    world.env[SETTING] = request.param
    busybox(world)
    yield world
    for name in world.names():
        world("rm", "-f", name)
    world.close()


def uplink(net: NetWorld) -> str:
    return net.env[SETTING]


def test_it_is_what_doctor_and_info_say(net: NetWorld) -> None:
    report = json.loads(net.out("doctor", "--json"))
    (found,) = [ladder for ladder in report["ladders"] if ladder["name"] == "network"]
    assert (found["chosen"], found["wanted"]) == (uplink(net), uplink(net))
    assert f"Network Uplink: {uplink(net)}\n" in net("info").stdout


def test_containers_reach_the_outside_and_each_other(net: NetWorld) -> None:
    far = server(net, OUTSIDE, 8000)
    net("network", "create", "some")
    try:
        net("run", "-d", "--name", "kept", "--network", "some", "-p", "8080:80", "busybox",
            "sh", "-c", "while :; do echo here | nc -l -p 80; done")  # fmt: skip
        assert status(net)["uplink"]["name"] == uplink(net)
        words = ("run", "--rm", "--network", "some", "busybox", *NC)
        until(lambda: net(*words, OUTSIDE, "8000", check=False).stdout == f"{HOST}\n", LONG)
        until(lambda: net(*words, "kept", "80", check=False).stdout == "here\n", LONG)
        until(lambda: _ask(net, OUTSIDE_ARGV, HOST) == "here\n", LONG)
    finally:
        end(far)
        net("rm", "-f", "kept")
        net("network", "rm", "some")


def test_access_to_the_host_is_there_or_said_to_be_missing(net: NetWorld) -> None:
    done = net("run", "--rm", "busybox", "true", env={"ROOTLESS_NETWORK_HOST_ACCESS": "5432"})
    said = "network.host_access has no effect: the uplink {} does not lead to the host's loopback"
    assert (said.format(uplink(net)) in done.stderr) == (uplink(net) != "relay")
    assert "host_access" not in net("run", "--rm", "busybox", "true").stderr


OUTSIDE_ARGV = ["busybox", "nc", "-w", "2"]


def _ask(net: NetWorld, argv: list[str], address: str) -> str:
    done: subprocess.CompletedProcess[str] = net.outside(*argv, address, "8080", check=False)
    return done.stdout


def test_a_program_that_dies_comes_back(net: NetWorld) -> None:
    net("run", "-d", "--name", "kept", "busybox", "sleep", "1000")
    try:
        if uplink(net) == "relay":
            assert status(net)["uplink"] == {"name": "relay"}
            return
        until(lambda: status(net)["uplink"]["ready"])
        before = status(net)["uplink"]["pid"]
        os.kill(before, signal.SIGKILL)
        until(lambda: status(net)["uplink"]["ready"] and status(net)["uplink"]["pid"] != before)
        far = server(net, OUTSIDE, 8000)
        try:
            asked = ("exec", "kept", *NC, OUTSIDE, "8000")
            until(lambda: net(*asked, check=False).stdout == f"{HOST}\n", LONG)
        finally:
            end(far)
    finally:
        net("rm", "-f", "kept")


def test_egress_rules_are_enforced_or_refused(net: NetWorld) -> None:
    net("network", "create", "--opt", f"egress=deny {OUTSIDE}", "few")
    far = server(net, OUTSIDE, 8000)
    try:
        words = ("run", "--rm", "--network", "few", "busybox", *NC, OUTSIDE, "8000")
        done = net(*words, check=False)
        assert HOST not in done.stdout
        if uplink(net) != "relay":
            assert done.returncode == 125
            assert "cannot use network few: its egress rules need the uplink relay" in done.stderr
    finally:
        end(far)
        net("network", "rm", "few")


def test_the_next_service_has_the_uplink_that_is_set_then(net: NetWorld) -> None:
    net("run", "--rm", "busybox", "true")
    far = server(net, OUTSIDE, 8000)
    try:
        until(lambda: not glob.glob(f"{net.runtime}/rootless/*/net/*/sock"), 30)
        words = ("run", "--rm", "busybox", *NC, OUTSIDE, "8000")
        relayed = {SETTING: "relay"}
        until(lambda: net(*words, check=False, env=relayed).stdout == f"{HOST}\n", LONG)
        assert status(net)["uplink"] == {"name": "relay"}
    finally:
        end(far)
        until(lambda: not glob.glob(f"{net.runtime}/rootless/*/net/*/sock"), 30)


def test_an_uplink_that_does_not_work_is_said(net: NetWorld) -> None:
    done = net("run", "--rm", "busybox", "true", code=125, env={SETTING: "vpnkit"})
    assert "unknown network uplink 'vpnkit'" in done.stderr
