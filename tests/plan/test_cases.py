"""Golden plans: what a request becomes, whole.

A case is a JSON header (what differs from the base: request, image, facts, placement; or exec), then
either ``# spec`` and ``# tape`` or ``# error``.  `pytest tests/plan --update-cases` rewrites them;
the review reads the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rootless import jsonc
from rootless.drivers import cgroup, network
from rootless.drivers.cgroup.base import Wanted
from rootless.drivers.snapshot.base import Tree
from rootless.drivers.snapshot.overlay import OverlayDriver
from rootless.errors import RootlessError
from rootless.facts import HostFacts
from rootless.plan import attach, explain, launch, netmode, tape
from rootless.plan import spec as specs
from rootless.plan.fastconnect import FastConnect
from rootless.plan.image import ImageConfig
from rootless.plan.ownership import Emulation
from rootless.plan.request import ExecRequest, Placement, RunRequest

CASES = sorted(Path(__file__).with_name("cases").glob("*.case"))
MAP = [[0, 1000, 1], [1, 100000, 65536]]
FACTS = {**HostFacts(uid=1000, gid=1000, user="ann").to_dict(), "uid_map": MAP, "gid_map": MAP}
IMAGE = {"config": {"Cmd": ["sh"]}, "rootfs": {"diff_ids": ["sha256:aa", "sha256:bb"]}}
ID = "0123456789abcdef" * 4
HOME = f"/data/containers/{ID}"
PLACE: dict[str, Any] = {
    "container_id": ID,
    "container_dir": HOME,
    "run_dir": "/run/c",
    "lowers": ["/data/layers/bb/fs", "/data/layers/aa/fs"],
    "upper": f"{HOME}/upper",
    "work": f"{HOME}/work",
    "merged": f"{HOME}/rootfs",
    "libexec": "/opt/rootless/libexec",
    "hosts_file": f"{HOME}/hosts",
    "hostname_file": f"{HOME}/hostname",
    "resolv_file": f"{HOME}/resolv.conf",
}
# What --explain does not show: kept by the engine, or of no effect on the plan.
NOT_PLANNED = {
    "image name platform interactive attach labels log_driver log_opts restart_name restart_max "
    "auto_remove stop_timeout add_hosts dns dns_search dns_options publish publish_all expose raw "
    "endpoints links mac network_opts unplugged "
    "rootfs_overlay storage_size strict_limits health health_on_failure"
}


def program(profile: str, names: Sequence[str]) -> bytes:
    """Stands in for the compiler: as many instructions as the profile has characters and caps."""
    return bytes(8) * (len(profile) + len(names))


def emulation(names: Sequence[str]) -> Emulation:
    """Stands in for what emulated ownership compiles to."""
    return Emulation(bytes(8 * len(names)), bytes(8 * (len(names) + 1)), bytes(16 * 3))


def placement(changes: dict[str, Any]) -> Placement:
    place = Placement(**PLACE, seccomp=program, emulation=emulation)
    for key, value in changes.items():
        setattr(place, key, value)
    tree = Tree(place.lowers, place.upper, place.work, place.merged)
    place.root = OverlayDriver().plan(tree, HostFacts(uid=1000, gid=1000)).inner
    if place.fast:
        place.fast = FastConnect(bytes(8 * 7), bytes(16 * 3))
    if place.attach:
        place.attach = (place.attach[0], str(place.attach[1]).encode())
    place.joined = {kind: (pid, start) for kind, (pid, start) in place.joined.items()}
    return place


def group(place: Placement, header: dict[str, Any], facts: HostFacts) -> tuple[Any, Any]:
    """Put a cgroup driver's plan into PLACE; what leads a further process into the group."""
    if "cgroup" not in header:
        return [], []
    wanted = dict(header["cgroup"])
    driver = cgroup.driver(wanted.pop("driver"))
    place.cgroup = driver.plan(Wanted(ID, name="web", **wanted), facts)
    entry = driver.enter(f"/sys/fs/cgroup/rootless-{ID}", ID, 4242, facts, optional=False)
    return (entry.before, entry.enter) if entry is not None else ([], [])


def body(header: dict[str, Any]) -> str:
    """What a case with this header has to contain after the header."""
    facts = HostFacts.from_dict({**FACTS, **header.get("facts", {})})
    try:
        request = RunRequest.from_dict(header.get("request", {}))
        image = ImageConfig.from_dict({**IMAGE, **header.get("image", {})})
        place = placement(header.get("placement", {}))
        if netmode.is_own(request.network):
            driver = network.driver(netmode.kind(request.network))
            ports = attach.published(request, image)
            words = netmode.options(request.network)
            beside = driver.plan(words, ports, request.mac, place.run_dir, facts)
            place.network_program = beside.before, beside.after, beside.nameserver
        entry = group(place, header, facts)
        spec = specs.build_spec(request, image, facts, place)
        if "exec" in header:
            request_ = ExecRequest(**header["exec"])
            ops = launch.exec_tape(
                spec,
                request_,
                4242,
                777,
                facts,
                seccomp=program,
                emulation=emulation,
                fast=(place.fast, "/run/c/connect.rules") if place.fast else None,
                group=entry,
            )
            return f"# tape\n{explain.describe(ops)}"
        ops = launch.build_tape(spec, place, facts)
    except RootlessError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        return f"# error\n{type(error).__name__} {error.code}: {error}{hint}\n"
    tape.encode(ops)
    return f"# spec\n{explain.indented(spec)}\n# tape\n{explain.describe(ops)}"


def read(path: Path) -> tuple[str, str]:
    """(header, body) of a case file; the body is empty in a new one."""
    text = path.read_text()
    starts = [text.find(f"\n# {word}\n") for word in ("spec", "tape", "error")]
    end = min([at for at in starts if at >= 0], default=len(text) - 1) + 1
    return text[:end], text[end:]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, request: pytest.FixtureRequest) -> None:
    header, wanted = read(path)
    got = body(jsonc.loads(header))
    if request.config.getoption("--update-cases", default=False):
        path.write_text(header + got)
        return
    assert got == wanted


def test_every_planned_field_has_a_case() -> None:
    (words,) = NOT_PLANNED
    covered = {key for path in CASES for key in jsonc.loads(read(path)[0]).get("request", {})}
    missing = set(RunRequest.__slots__) - covered - set(words.split())
    assert not missing
