"""The order of a tape, the small tapes, and the words --explain finds for them."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.drivers.snapshot.base import Tree
from rootless.drivers.snapshot.overlay import OverlayDriver
from rootless.errors import UsageError
from rootless.facts import HostFacts
from rootless.plan import explain, idmap, launch, mounts, tape
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import ExecRequest, MountRequest, Placement, RunRequest

MAP = ((0, 1000, 1), (1, 100000, 65536))
FACTS = HostFacts(uid=1000, gid=1000, uid_map=MAP, gid_map=MAP)
PLAN = Path(launch.__file__).parent


def built(request: RunRequest, facts: HostFacts = FACTS) -> tuple[specs.Spec, list[Any]]:
    place = Placement(
        container_id="ab" * 32,
        container_dir="/c",
        lowers=["/l"],
        upper="/c/upper",
        work="/c/work",
        merged="/c/rootfs",
        libexec="/x",
        hosts_file="/c/hosts",
        seccomp=lambda profile, names: bytes(16),
    )
    tree = Tree(place.lowers, place.upper, place.work, place.merged)
    place.root = OverlayDriver().plan(tree, facts).inner
    spec = specs.build_spec(
        request, ImageConfig.from_dict({"config": {"Cmd": ["sh"]}}), facts, place
    )
    return spec, launch.build_tape(spec, place, facts)


def first(ops: list[Any], name: str) -> int:
    return next(index for index, op in enumerate(ops) if op[0] == name)


def last(ops: list[Any], name: str) -> int:
    return max(index for index, op in enumerate(ops) if op[0] == name)


EVERYTHING: dict[str, Any] = {
    "tty": True,
    "read_only": True,
    "init": True,
    "network": "none",
    "workdir": "/w",
    "hostname": "h",
    "domainname": "d",
    "ulimits": [("nofile", 1, 2)],
    "oom_score_adj": 5,
    "sysctls": {"net.ipv4.ip_forward": "1"},
    "mounts": [MountRequest(source="/s", destination="/x")],
    "tmpfs": {"/t": ""},
}


@pytest.mark.parametrize(
    "changes",
    [
        dict(zip(("no_new_privileges", "privileged", "userns"), values))
        for values in itertools.product(
            (False, True), (False, True), ("", "host", "keep-id", "auto:size=9,slot=2")
        )
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_order_that_the_kernel_demands(changes: dict[str, Any]) -> None:
    nnp = changes.pop("no_new_privileges")
    security = ["no-new-privileges"] if nnp else []
    _, ops = built(RunRequest(**EVERYTHING, **changes, security_opt=security))
    tape.encode(ops)
    assert ops[0][0] == "join_fd" and ops[-1][0] == "exec"
    assert first(ops, "join_fd") < first(ops, "clone") < first(ops, "overlay") < first(ops, "mount")
    assert last(ops, "mount") < first(ops, "write")  # sysctls need /proc
    if not changes["privileged"]:
        assert first(ops, "write") < first(ops, "readonly")  # and /proc/sys still writable
        assert last(ops, "readonly") < first(ops, "pivot")
    root = ops.index(("remount", ("/", 1, 0, 0)))
    assert last(ops, "mkdir") < root < first(ops, "pivot")
    assert last(ops, "bind") < root
    assert first(ops, "pivot") < first(ops, "console") < first(ops, "user") < first(ops, "chdir")
    assert first(ops, "user") < first(ops, "caps") < first(ops, "pdeathsig")
    if not changes["privileged"]:
        if nnp:
            assert first(ops, "no_new_privs") < first(ops, "seccomp") == len(ops) - 2
            assert first(ops, "pdeathsig") < first(ops, "seccomp")
        else:
            assert first(ops, "seccomp") < first(ops, "caps")
    assert [op[0] for op in ops].count("clone") == 1


def test_exec_ends_as_the_container_does() -> None:
    spec, ops = built(RunRequest(user="app", security_opt=["no-new-privileges"]))
    again = launch.exec_tape(
        spec, ExecRequest(args=["sh"]), 9, 8, FACTS, seccomp=lambda profile, names: bytes(16)
    )
    tail = [op for op in again if op[0] in ("user", "umask", "caps", "pdeathsig", "no_new_privs")]
    assert tail == [op for op in ops if op in tail]
    assert again[-1] == ops[-1]


def test_exec_changes_only_what_was_asked() -> None:
    spec, _ = built(RunRequest(env=["A=1", "B=2"]))
    before = repr(spec)
    request = ExecRequest(args=["x"], env=["A=3"], env_remove=["B"], tty=True)
    ops = launch.exec_tape(spec, request, 9, 8, FACTS, seccomp=lambda profile, names: b"")
    env: Any = ops[-1][1][2]
    assert "A=3" in env and "TERM=xterm" in env and "B=2" not in env
    assert repr(spec) == before


def test_exec_needs_an_absolute_directory() -> None:
    spec, _ = built(RunRequest())
    with pytest.raises(UsageError, match="not an absolute path"):
        launch.exec_tape(spec, ExecRequest(args=["x"], workdir="tmp"), 9, 8, FACTS)


def test_realm_by_rung() -> None:
    def clone(**changes: Any) -> tuple[Any, ...]:
        ops = launch.realm_tape(FACTS.replace(**changes), "/x")
        assert [op[0] for op in ops] == ["clone", "set_ids", "setsid", "loopback_up", "exec"]
        assert ops[-1][1] == ("/x/realm", ["/x/realm"], [], 2)
        return ops[0][1]

    lines = "0 1000 1\n1 100000 65536\n"
    both = (0x50000000, 2, lines, lines, "/usr/bin/newuidmap", "/usr/bin/newgidmap")
    assert clone() == both
    assert clone(id_rung="nested") == (0x50000000, 1, lines, lines, "", "")
    single = {"uid_map": ((0, 1000, 1),), "gid_map": ((0, 1000, 1),), "id_rung": "single"}
    assert clone(**single) == (0x50000000, 3, "0 1000 1\n", "0 1000 1\n", "", "")


def test_remove() -> None:
    ops = launch.remove_tape(["/a", "/b"])
    assert ops == [
        ("join_fd", (5, 0x10000000)),
        ("set_ids", (0, 0)),
        ("rmtree", ("/a",)),
        ("rmtree", ("/b",)),
    ]


@pytest.mark.parametrize("key", ["", "keep-id-1000-1000", "auto-1000-2"])
def test_unpack(key: str) -> None:
    ops = launch.unpack_tape(FACTS, ["/usr/bin/python3", "-I"], [], idmap.from_key(key, FACTS))
    tape.encode(ops)
    assert [op[0] for op in ops].count("clone") == (1 if key else 0)
    assert ops[-1] == ("exec", ("/usr/bin/python3", ["/usr/bin/python3", "-I"], [], 2))


def test_a_plain_runtime_spec() -> None:
    spec = {
        "process": {
            "args": ["/bin/true"],
            "cwd": "/",
            "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
        },
        "root": {"path": "/bundle/rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/run/netns/a"}]},
    }
    ops = launch.build_tape(spec, Placement(), FACTS)
    tape.encode(ops)
    assert ("join_path", ("/run/netns/a", 0x40000000)) in ops
    assert ("root_bind", ("/bundle/rootfs", "/bundle/rootfs")) in ops
    assert ("user", ("5:6", ["7"], 1)) in ops
    assert ("caps", (0, 0, 0, 0, 0)) in ops


@pytest.mark.parametrize("entry", [{"type": "soul"}, {"type": "soul", "path": "/x"}])
def test_unknown_namespace(entry: dict[str, str]) -> None:
    spec, _ = built(RunRequest())
    spec["linux"]["namespaces"] = [entry]
    with pytest.raises(UsageError, match="unknown type 'soul'"):
        launch.build_tape(spec, Placement(), FACTS)


class TestBinds:
    def ops(self, *options: str) -> list[Any]:
        return launch.mount_ops(
            {"destination": "/x", "type": "bind", "source": "/s", "options": list(options)}
        )

    def test_top_and_below(self) -> None:
        flags = mounts.MS_BIND | mounts.MS_REC
        private = 1 << 18
        assert self.ops("rbind", "rnosuid", "ro") == [
            ("bind", ("/s", "/x", flags, 2, 0, private, 9)),
            ("remount", ("/x", 1, 0, 0)),
        ]
        assert self.ops("rbind", "rro") == [("bind", ("/s", "/x", flags, 1, 0, private, 9))]
        assert self.ops("bind", "ro") == [("bind", ("/s", "/x", mounts.MS_BIND, 1, 0, private, 1))]

    def test_later_words_win(self) -> None:
        (op,) = self.ops("bind", "noexec", "exec", "noatime", "relatime")
        assert op[1][3:5] == (0, 8 | 0x70)

    def test_propagation(self) -> None:
        (op,) = self.ops("rbind", "rshared")
        assert op[1][5] == 1 << 20 and op[1][6] & 8


class TestExplain:
    def test_every_operation_has_words(self) -> None:
        samples: dict[str, Any] = {"i": 1, "s": "a b", "b": b"12345678", "S": ["x", "y z"]}
        for name, _, signature, arguments, _ in tape.OPS:
            line = explain.describe_op((name, tuple(samples[kind] for kind in signature)))
            assert line.split(" ")[0] == name
            assert all(f" {argument}=" in line for argument in arguments.split())

    def test_lines_are_numbered_and_one_each(self) -> None:
        _, ops = built(RunRequest(args=["sh", "-c", "a\nb"]))
        text = explain.describe(ops).splitlines()
        assert len(text) == len(ops)
        assert [int(line.split()[0]) for line in text] == list(range(len(ops)))

    def test_values(self) -> None:
        assert explain.describe_op(("seccomp", (bytes(16), 0))) == (
            "seccomp program=2 instructions, sha256 "
            "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb flags=0"
        )
        assert explain.describe_op(("umask", (0o27,))) == "umask mask=0027"
        assert explain.describe_op(("unshare", (0x20000 | 1,))) == "unshare flags=mount|0x1"
        assert explain.describe_op(("hostname", ("",))) == 'hostname name=""'

    def test_whole(self) -> None:
        from rootless import jsonc

        spec, ops = built(RunRequest())
        text = explain.explain(spec, ops)
        document, lines = text.split("\n\n", 1)
        assert jsonc.loads(document) == spec
        assert lines.startswith("00 join_fd fd=5 nstype=user\n")
        assert text.endswith("as descriptor 5\n") and "nothing was run" in text


FORBIDDEN = {
    "os",
    "subprocess",
    "socket",
    "ctypes",
    "time",
    "environ",
    "pathlib",
    "shutil",
    "signal",
}
COLD = {"explain.py", "bpf.py", "seccomp_profile.py"}


@pytest.mark.parametrize("path", sorted(PLAN.glob("*.py")), ids=lambda path: path.name)
def test_planning_is_pure(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] not in FORBIDDEN, f"{path.name} imports {name}"
            assert name.split(".")[:2] not in (["rootless", "linux"], ["rootless", "config"])


def test_planning_imports_little() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules);"
        "from rootless.plan import launch, seccomp, tape;"
        "print(*sorted(set(sys.modules) - before))"
    )
    argv = [sys.executable, "-I", "-S", "-c", script, str(PLAN.parents[1])]
    found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in found if name.startswith("rootless")}
    assert set(found) - ours <= {"__future__", "struct", "_struct", "_sha2", "_sha256"}
    assert not ours & {f"rootless.plan.{name[:-3]}" for name in COLD}
