"""The trial of networks on real kernels: what is there is found, and what is taken away is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.facts import HostFacts
from rootless.linux import probe_network
from rootless.plan import tape
from rootless.runtime import realm

pytestmark = pytest.mark.requires("ordinary-user", "userns", "nft")


def trial(directory: Path, *, before: str = ":", nft: str = "", **env: str) -> dict[str, str]:
    """The worker's findings in namespaces where the shell words BEFORE were run."""
    out = directory / "out"
    script = f'{before}; exec "$@"'
    argv = [sys.executable, "-I", "-S", probe_network.WORKER, str(out), nft]
    subprocess.run(
        ["unshare", "-Urn", "sh", "-c", script, "sh", *argv],
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **env},
        check=True,
        timeout=60,
    )
    lines = [line.partition("\t") for line in out.read_text().splitlines()]
    return {name: said for name, _, said in lines}


def program() -> str:
    return next(
        path for path in ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft") if os.path.exists(path)
    )


def without_library(directory: Path) -> dict[str, str]:
    """An environment in which the dynamic linker finds something else than libnftables."""
    (directory / "libnftables.so.1").write_text("no library")
    return {"LD_LIBRARY_PATH": str(directory)}


WORKS = {"bridge": "", "nat": "", "relay": "", "ipv6": ""}


def test_this_machine_relays(libexec: str) -> None:
    facts = HostFacts(uid=os.getuid(), gid=os.getgid())
    found = probe_network.try_networks(facts, lambda ops: realm.try_tape(libexec, tape.encode(ops)))
    assert {**found, "nft": ""} == {**WORKS, "nft": ""}
    assert found["nft"]


def test_the_program_does_where_there_is_no_library(tmp_path: Path) -> None:
    found = trial(tmp_path, nft=program(), **without_library(tmp_path))
    assert found == {"nft": program(), **WORKS}


def test_neither_is_said(tmp_path: Path) -> None:
    found = trial(tmp_path, **without_library(tmp_path))
    assert found == {"nft": "", "bridge": "nftables is not installed"}


def test_a_limit_on_namespaces_is_named(tmp_path: Path) -> None:
    found = trial(tmp_path, before="echo 0 > /proc/sys/user/max_net_namespaces")
    assert found["bridge"] == (
        "cannot make a network namespace in it: no space left on device (ENOSPC)"
    )


def test_an_nft_that_refuses_is_quoted(tmp_path: Path) -> None:
    stub = tmp_path / "nft"
    stub.write_text(
        "#!/bin/sh\necho '/dev/stdin:1:1-5: Error: Operation not supported' >&2; exit 1\n"
    )
    stub.chmod(0o755)
    found = trial(tmp_path, nft=str(stub), **without_library(tmp_path))
    assert found["bridge"] == "cannot make an nftables table: operation not supported"


@pytest.mark.parametrize(
    ("word", "name", "wanted"),
    [
        ("tproxy", "relay", "cannot take over connections (tproxy): no tproxy"),
        ("ingress", "relay", "cannot drop at the ingress of an interface: no ingress"),
        ("fib", "relay", "cannot ask the routes where a source belongs (fib): no fib"),
        ("masquerade", "nat", "cannot masquerade: no masquerade"),
        ("tproxy ip6", "ipv6", "cannot take over connections (tproxy): no tproxy ip6"),
    ],
)
def test_what_nft_lacks_costs_what_rests_on_it(
    tmp_path: Path, word: str, name: str, wanted: str
) -> None:
    stub = tmp_path / "nft"
    stub.write_text(
        "#!/bin/sh\nrules=$(cat)\ncase $rules in\n"
        f"*'{word}'*) echo 'Error: No {word}' >&2; exit 1;;\nesac\n"
        f'printf "%s\\n" "$rules" | {program()} -f -\n'
    )
    stub.chmod(0o755)
    found = trial(tmp_path, nft=str(stub), **without_library(tmp_path))
    assert found.pop("nft") == str(stub)
    assert found[name] == wanted
    before = list(WORKS)[: list(WORKS).index(name)]
    assert all(found[one] == "" for one in before if one != "nat")
    assert ("relay" in found) == (name in ("nat", "relay", "ipv6"))


def test_frames_that_nobody_sees_are_noticed(tmp_path: Path) -> None:
    """An element that is not added admits nothing: the connection does not come."""
    stub = tmp_path / "nft"
    stub.write_text(
        "#!/bin/sh\nrules=$(cat)\ncase $rules in 'add element'*) exit 0;; esac\n"
        f'printf "%s\\n" "$rules" | {program()} -f -\n'
    )
    stub.chmod(0o755)
    found = trial(tmp_path, nft=str(stub), **without_library(tmp_path))
    assert found["relay"] == "a connection that was admitted did not arrive"
