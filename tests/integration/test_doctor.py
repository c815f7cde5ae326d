"""Doctor on real hosts of every kind that user namespaces can stand in for, and that it never lies."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


def inside(
    rootless: Any, unshare: str, *words: str, before: str = ":"
) -> subprocess.CompletedProcess[str]:
    """Run the command in a user namespace made by unshare(1), after the shell words BEFORE."""
    script = f'{before}; exec "$@"'
    return subprocess.run(
        ["unshare", *unshare.split(), "sh", "-c", script, "sh", *rootless.argv, *words],
        env={**rootless.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ladder(report: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in report["ladders"] if one["name"] == name)
    return found


@pytest.mark.requires("subid")
def test_this_machine(rootless: Any) -> None:
    report = json.loads(rootless("doctor", "--json").stdout)
    assert report["usable"] is True
    assert [one["name"] for one in report["ladders"]] == ["IDs", "storage", "network", "cgroups"]
    assert ladder(report, "IDs")["chosen"] == "subid"
    assert ladder(report, "storage")["chosen"] == "overlay"
    for each in report["ladders"]:
        for rung in each["rungs"]:
            assert rung["why"], rung
    text = rootless("doctor").stdout
    assert "-> subid " in text
    assert text.endswith("containers can run here\n")


def test_what_it_says_runs(rootless: Any) -> None:
    rootless("doctor")
    assert "nobody was root" in rootless("run", "--rm", "--network", "none", "hello").stdout


def test_one_id_is_enough(rootless: Any) -> None:
    report = json.loads(inside(rootless, "-Ur", "doctor", "--json").stdout)
    assert report["usable"] is True
    assert ladder(report, "IDs")["chosen"] == "single"
    done = inside(rootless, "-Ur", "run", "--rm", "--network", "none", "hello")
    assert done.returncode == 0, done.stderr
    assert "user IDs       0 -> 0 (here" in done.stdout


@pytest.mark.requires("relay")
def test_uplinks_of_this_machine(rootless: Any) -> None:
    report = json.loads(rootless("doctor", "--json").stdout)
    found = ladder(report, "network")
    assert found["chosen"] == "relay"
    assert [rung["name"] for rung in found["rungs"]] == [
        *("relay", "pasta", "slirp4netns", "host", "none")
    ]
    assert "Network Uplink: relay\n" in rootless("info").stdout


def test_room_for_neighbours_is_told(rootless: Any) -> None:
    """The kernel has one table for all containers of all users, and drops what does not fit."""
    try:
        most = int(Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read_text())
    except OSError:
        most = 0
    report = json.loads(rootless("doctor", "--json").stdout)
    found = [one for one in report["features"] if one["name"] == "neighbours"]
    if not most:
        assert not found
        return
    assert found[0]["why"].startswith(f"{most} in all: about ")
    assert found[0]["usable"] == (most >= 128 * 128)
    remedy = "sysctl -w net.ipv4.neigh.default.gc_thresh3=16384"
    assert any(remedy in line for line in report["advice"]) != found[0]["usable"]


def test_a_machine_without_network_namespaces_has_the_hosts(rootless: Any) -> None:
    none = "echo 0 > /proc/sys/user/max_net_namespaces"
    report = json.loads(inside(rootless, "-Ur", "doctor", "--json", before=none).stdout)
    found = ladder(report, "network")
    assert found["chosen"] == "host"
    reasons = {rung["why"] for rung in found["rungs"][:3]}
    assert len(reasons) == 1
    assert "cannot make" in reasons.pop()


@pytest.mark.requires("subid")
def test_a_range_from_outside_is_used(rootless: Any) -> None:
    report = json.loads(inside(rootless, "-r --map-auto", "doctor", "--json").stdout)
    assert ladder(report, "IDs")["chosen"] == "nested"
    # One process tree: the realm of a namespace that is gone would be of no use to a second command.
    done = inside(rootless, "-r --map-auto", "run", "--rm", "--network", "none", "hello")
    assert done.returncode == 0, done.stderr
    assert "user IDs       0 -> 0, 1-" in done.stdout
    inside(
        rootless,
        "-r --map-auto",
        "version",
        before=f"rm -rf {rootless.env['XDG_DATA_HOME']}/rootless",
    )


@pytest.mark.requires("subid")
def test_a_named_rung_is_used_though_more_is_possible(rootless: Any) -> None:
    done = rootless("run", "--rm", "--network", "none", "hello", ROOTLESS_IDMAP_MODE="single")
    assert "user IDs       0 -> 0 (here" in done.stdout
    report = json.loads(rootless("doctor", "--json", ROOTLESS_IDMAP_MODE="single").stdout)
    assert ladder(report, "IDs")["chosen"] == "single"
    done = rootless("run", "hello", check=False, ROOTLESS_IDMAP_MODE="nested")
    assert done.returncode == 125
    assert "cannot use ID map nested: this is not root of a user namespace" in done.stderr


NONE = "echo 0 > /proc/sys/user/max_user_namespaces"


def test_no_user_namespaces(rootless: Any) -> None:
    done = inside(rootless, "-Ur", "doctor", "--json", before=NONE)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["usable"] is False
    assert ladder(report, "IDs")["chosen"] == ""
    assert "sysctl -w user.max_user_namespaces=" in report["advice"][0]
    text = inside(rootless, "-Ur", "doctor", before=NONE).stdout
    assert "IDs: nothing works" in text
    assert text.endswith("containers cannot run here\n")


def test_run_gives_the_same_reason(rootless: Any) -> None:
    done = inside(rootless, "-Ur", "run", "--rm", "hello", before=NONE)
    assert done.returncode == 125
    assert "sysctl -w user.max_user_namespaces=" in done.stderr
    assert "cannot make a container: " in done.stderr


def test_a_repaired_machine_is_noticed_at_once(rootless: Any) -> None:
    assert inside(rootless, "-Ur", "doctor", before=NONE).returncode == 1
    done = inside(rootless, "-Ur", "run", "--rm", "--network", "none", "hello")
    assert done.returncode == 0, done.stderr


def test_a_driver_that_is_not_there_is_said(rootless: Any) -> None:
    done = rootless("doctor", check=False, ROOTLESS_STORAGE_DRIVER="zfs")
    assert done.returncode == 1
    assert "storage: nothing works, as zfs is what the settings ask for" in done.stdout


def test_helpers_that_were_not_built_are_one_sentence(rootless: Any) -> None:
    done = rootless("doctor", check=False, ROOTLESS_LIBEXEC="/nonexistent")
    assert done.returncode == 125
    assert done.stderr.startswith("rootless: cannot execute /nonexistent/launch: no such file")
    assert "install.sh" in done.stderr


def test_what_a_supervisor_waits_for_is_reaped_before_it(
    libexec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.11 an ended process keeps its filter, and so its supervisor, until it is reaped."""
    from rootless.linux import probe, probe_storage
    from rootless.plan import tape
    from rootless.runtime import realm

    names = []
    real = os.waitpid

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        return real(pid, options)

    monkeypatch.setattr(os, "waitpid", waitpid)
    ops = probe_storage.single(probe.NEWUSER, os.getuid(), os.getgid())
    ops += [("supervise", (b"", "", "")), ("no_new_privs", ()), ("emulate", (probe.ALLOW_ALL, b""))]
    assert realm.try_tape(libexec, tape.encode(ops)) == (0, "")
    assert names == ["launch", "launch", "owners"]
