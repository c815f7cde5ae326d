"""Our programs against libseccomp's for the same profile: the same verdict for every call and argument."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import plan_bpf as bpf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.plan import caps, seccomp, seccomp_profile

PROFILE = (Path(__file__).parents[2] / "conf" / "seccomp.json").read_bytes()
X32 = 0x40000000
SCMP_X32 = 0x4000003E  # how libseccomp tells x32 from x86_64
ARCHES = {"X86_64": bpf.X86_64, "X86": bpf.X86, "X32": SCMP_X32}
OTHERS = {"AARCH64": bpf.AARCH64, "ARM": bpf.ARM, "RISCV64": 0xC00000F3, "PPC64LE": 0xC0000015}


@pytest.fixture(scope="module")
def library() -> bpf.Libseccomp:
    try:
        return bpf.Libseccomp()
    except OSError as error:
        pytest.skip(f"libseccomp.so.2 cannot be loaded: {error}")


pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the oracle's native architecture is taken to be x86_64"
)


def rules_of(policy_bytes: bytes, names: list[str]) -> list[tuple[int, str, list[Any]]]:
    """The profile's rules that hold, as (action, name, comparisons): an independent reading."""
    result = []
    for entry in json.loads(policy_bytes)["syscalls"]:
        yes, no = entry.get("includes", {}), entry.get("excludes", {})
        if "amd64" in no.get("arches", ()) or set(no.get("caps", ())) & set(names):
            continue
        if yes.get("arches") and "amd64" not in yes["arches"]:
            continue
        if not set(yes.get("caps", ())) <= set(names):
            continue
        action = 0x7FFF0000
        if entry["action"] == "SCMP_ACT_ERRNO":
            action = 0x00050000 | entry.get("errnoRet", 1)
        args = [
            (a["index"], a["op"][len("SCMP_CMP_") :], a["value"], a.get("valueTwo", 0))
            for a in entry.get("args", ())
        ]
        result += [(action, name, args) for name in entry["names"]]
    return result


@pytest.mark.parametrize(
    "names",
    [caps.DEFAULT, (), (*caps.DEFAULT, "CAP_SYS_ADMIN"), caps.NAMES, ("CAP_SYS_PTRACE",)],
    ids=["default", "none", "admin", "all", "ptrace"],
)
def test_default_profile(library: bpf.Libseccomp, names: tuple[str, ...]) -> None:
    ours = seccomp.compile_profile(PROFILE, names, "x86_64", (6, 1, 0))
    theirs = library.compile(0x00050001, list(ARCHES.values()), rules_of(PROFILE, list(names)))
    values = (0, 8, 40, 0x11, 0x20000, 0x20008, 0x40000, 0x10000011, 0x02000000, 0xFFFFFFFF)
    compared = 0
    for arch, audit in (("X86_64", bpf.X86_64), ("X86", bpf.X86), ("X32", bpf.X86_64)):
        base = X32 if arch == "X32" else 0
        table = {number: name for name, number in seccomp_profile.numbers(arch).items()}
        for number, name in table.items():
            if library.resolve(name) == -1 or number - base > 547:
                continue
            for args in ((), *itertools.product(values, (0, 1))):
                mine = bpf.run(ours, audit, number, args)
                assert mine == bpf.run(theirs, audit, number, args), (arch, name, args)
                compared += 1
    assert compared > 20000
    assert bpf.run(ours, bpf.AARCH64, 0) == bpf.run(theirs, bpf.AARCH64, 0) == 0
    assert len(ours) < len(theirs)


@pytest.mark.parametrize("arch", [*ARCHES, *OTHERS])
def test_numbers(library: bpf.Libseccomp, arch: str) -> None:
    ours = seccomp_profile.numbers(arch)
    theirs = {name: library.resolve_arch({**ARCHES, **OTHERS}[arch], name) for name in ours}
    # Negative: unknown to this version, or a call that it also reaches through socketcall or ipc.
    assert {n: v for n, v in theirs.items() if v >= 0 and v != ours[n]} == {}
    assert sum(value >= 0 for value in theirs.values()) > 300


EDGES = [0, 1, 7, 0xFFFFFFFF, 1 << 32, (1 << 32) + 7, (1 << 64) - 1]
VALUES = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))


@st.composite
def one_rule(draw: st.DrawFn) -> list[tuple[int, str, int, int]]:
    indexes = draw(st.lists(st.integers(0, 5), unique=True, max_size=3))
    rule = []
    for index in indexes:
        op, value = draw(st.sampled_from(seccomp_profile.OPERATORS)), draw(VALUES)
        # libseccomp drops bits of the second value that are outside of the mask; the kernel's & keeps none.
        rule.append((index, op, value, draw(VALUES) & value if op == "MASKED_EQ" else 0))
    return rule


@settings(max_examples=200, deadline=None)
@given(one_rule(), st.lists(st.tuples(*[VALUES] * 6), min_size=1, max_size=6), st.data())
def test_comparisons(
    rule: list[tuple[int, str, int, int]], tries: list[tuple[int, ...]], data: st.DataObject
) -> None:
    try:
        library = bpf.Libseccomp()
    except OSError as error:
        pytest.skip(f"libseccomp.so.2 cannot be loaded: {error}")
    mentioned = [value for condition in rule for value in condition[2:]] or [0]
    tries = [
        *tries,
        *(tuple(data.draw(st.sampled_from(mentioned)) for _ in range(6)) for _ in range(3)),
    ]
    args = [{"index": i, "op": f"SCMP_CMP_{op}", "value": a, "valueTwo": b} for i, op, a, b in rule]
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "args": args}],
    }
    ours = seccomp.compile_profile(json.dumps(document).encode(), (), "x86_64", (6, 1, 0))
    theirs = library.compile(0x00050001, [bpf.X86_64], [(0x7FFF0000, "getpid", list(rule))])
    for values in tries:
        assert bpf.run(ours, bpf.X86_64, 39, values) == bpf.run(theirs, bpf.X86_64, 39, values)
