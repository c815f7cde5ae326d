"""From an OCI runtime spec to a tape: the order of operations that makes a container.

Owns that order and nothing else.  It is tied down by the kernel:

- what is joined is joined from the realm (see namespaces.py), then one clone makes the rest;
- the network service is told of the container by the process that the clone made, before it changes its
  IDs: the runtime directory is closed to subordinate ones.  It works while the root is assembled; its answer is
  waited for before sysctls, which may be other than those it sets, and before the pivot;
- a program that connects the container's network is started while this process is in the host's;
- control groups are made as the caller, whose they are, before the realm is entered: the bus knows the caller;
  the first process enters before its IDs change, and makes its cgroup namespace when it is in;
- mounts come before sysctls (which need /proc), sysctls before /proc/sys becomes read-only;
- the root becomes read-only when nothing more is made in it, then it becomes the root;
- users are looked up in the container's own files, after the pivot;
- without no_new_privs a filter can be loaded only with CAP_SYS_ADMIN, so before capabilities go; with
  it, as late as can be, so that the filter need not allow what the launcher itself does;
- filters that ask (emulated ownership, fast=connect) come before the profile, which may forbid to hand over a
  listener;
- a change of credentials clears the parent-death signal, so that it is set after.

Inherited descriptors: 5 the realm's user namespace, 6 its network namespace.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError

from . import caps, devices, fastconnect, groups, idmap, mounts, namespaces, ownership, rlimits
from . import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from rootless.facts import HostFacts

    from .fastconnect import FastConnect
    from .idmap import IdMap
    from .ownership import Emulation
    from .request import EmulationProvider, ExecRequest, Placement, SeccompProvider
    from .spec import Spec
    from .tape import Op

USER_FD, NET_FD = 5, 6
SIGKILL = 9
MAP_NONE, MAP_DIRECT, MAP_HELPERS, MAP_SINGLE = 0, 1, 2, 3
_ATTR_RDONLY = 1
_MKDIR, _OPTIONAL, _OR_EMPTY, _RECURSIVE, _BESIDE = 1, 2, 4, 8, 32
_ONE_ID = 4  # a flag of the user operation
EXEC_MINDED = 4  # a flag of exec
_USER, _NET = namespaces.FLAGS["user"], namespaces.FLAGS["network"]
_MOUNT, _CGROUP = namespaces.FLAGS["mount"], namespaces.FLAGS["cgroup"]
# Sources that some hosts lack; a container does without.
_MAY_BE_ABSENT = ("/dev/mqueue", "/dev/shm", "/sys/fs/cgroup")


def build_tape(spec: Spec, place: Placement, facts: HostFacts) -> list[Op]:
    """The operations that make and start the container of SPEC.

    Raises UsageError for a spec that names what does not exist (an option, a limit, a capability),
    HostError where the spec wants a seccomp profile and PLACE.seccomp is None.
    """
    ops: list[Op] = []
    if place.cgroup is not None:
        ops += place.cgroup.before
    _enter_realm(ops, spec)
    if place.cgroup is not None:
        ops += groups.delegate(spec)
    emulation = _emulation(spec, place.emulation)
    ops += _supervise(spec, facts, emulation)
    if place.fast is not None:
        fastconnect.check(facts, one_id=emulation is not None)
        ops += fastconnect.beside_ops(place.fast, f"{place.run_dir}/{fastconnect.RULES}")
    _shared_memory(ops, spec, place)
    if place.network_program is not None:
        ops += place.network_program[0]
    ops += place.early
    if place.outer:
        ops += [("unshare", (_MOUNT,)), ("propagation", ("/", mounts.PROPAGATION["rslave"]))]
        ops += place.outer
    _join(ops, spec)
    _clone(ops, spec, place)
    ops.append(("propagation", ("/", mounts.PROPAGATION["rslave"])))
    _root(ops, spec, place)
    _mounts(ops, spec, facts)
    settings = spec["linux"].get("sysctl") or {}
    attached: list[Op] = [("net_attached", ())] if _asks(ops) else []
    if settings:
        ops += attached
        attached = []
    for key, value in settings.items():
        ops.append(("write", ("/proc/sys/" + key.replace(".", "/"), value.encode(), 0)))
    ops += [("mask", (path,)) for path in spec["linux"].get("maskedPaths", ())]
    ops += [("readonly", (path,)) for path in spec["linux"].get("readonlyPaths", ())]
    cwd = spec["process"].get("cwd") or "/"
    if spec["root"].get("readonly"):
        if cwd != "/":
            ops.append(("mkdir", (cwd, 0o755, *_first_ids(spec))))
        ops.append(("remount", ("/", _ATTR_RDONLY, 0, 0)))
    ops += [*attached, ("pivot", ())]
    if spec.get("hostname"):
        ops.append(("hostname", (spec["hostname"],)))
    if spec.get("domainname"):
        ops.append(("domainname", (spec["domainname"],)))
    own_dev = _dev_is_ours(spec)
    console_flags = 1 if own_dev else 0
    loads = Loads(place.seccomp, emulation, fast=place.fast)
    _process(ops, spec, facts, loads, console_flags=console_flags, make_cwd=True)
    return ops


def _notes(spec: Spec) -> dict[str, str]:
    notes: dict[str, str] = spec.get("annotations") or {}
    return notes


def _keeps_groups(spec: Spec) -> bool:
    return "keep-groups" in _notes(spec).get(specs.GROUPS, "").split(",")


def _enter_realm(ops: list[Op], spec: Spec) -> None:
    ops.append(("join_fd", (USER_FD, _USER)))
    if not _keeps_groups(spec):
        ops.append(("set_ids", (0, 0)))


def _shared_memory(ops: list[Op], spec: Spec, place: Placement) -> None:
    """--ipc shareable: a fresh directory that other containers can bind too, as the realm's root."""
    path = f"{place.container_dir}/shm"
    if any(mount.get("source") == path for mount in spec["mounts"]):
        ops += [("rmtree", (path,)), ("mkdir_host", (path, 0o1777))]


def _join(ops: list[Op], spec: Spec) -> None:
    """Join what the spec gives a path for: other targets first, the one with the user namespace last."""
    joined: dict[str, tuple[int, int]] = {}
    for word in filter(None, _notes(spec).get(specs.JOINED, "").split(",")):
        name, pid_text, start_text = word.split(":")
        joined[name] = int(pid_text), int(start_text)
    paths = {entry["type"]: entry["path"] for entry in _namespaces(spec) if entry.get("path")}
    for kind, path in paths.items():
        if kind not in namespaces.FLAGS:
            raise UsageError(f"cannot join namespace {path}: unknown type {kind!r}")
    user_path = paths.pop("user", "")
    targets: dict[tuple[int, int], int] = {}
    for kind, path in paths.items():
        if kind in joined:
            targets[joined[kind]] = targets.get(joined[kind], 0) | namespaces.FLAGS[kind]
        else:
            ops.append(("join_path", (path, namespaces.FLAGS[kind])))
    last: list[Op] = []
    for (pid, start), flags in targets.items():
        if user_path == f"/proc/{pid}/ns/user":
            last.append(("join_proc", (pid, start, flags | _USER)))
            user_path = ""
        else:
            ops.append(("join_proc", (pid, start, flags)))
    ops += last
    if user_path:
        ops.append(("join_path", (user_path, _USER)))


def _namespaces(spec: Spec) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = spec["linux"].get("namespaces") or []
    return entries


def _made(spec: Spec) -> int:
    """Clone flags of the namespaces that are the container's own."""
    flags = namespaces.FLAGS["mount"]
    for entry in _namespaces(spec):
        if not entry.get("path"):
            if entry["type"] not in namespaces.FLAGS:
                raise UsageError(f"cannot make a namespace of unknown type {entry['type']!r}")
            flags |= namespaces.FLAGS[entry["type"]]
    return flags


def _extents(spec: Spec, key: str) -> list[tuple[int, int, int]]:
    return [
        (extent["containerID"], extent["hostID"], extent["size"])
        for extent in spec["linux"].get(key) or ()
    ]


def _first_ids(spec: Spec) -> tuple[int, int]:
    """(uid, gid) as which the namespaces are set up: 0 where it is mapped."""
    uid, gid = _extents(spec, "uidMappings"), _extents(spec, "gidMappings")
    return (min(uid)[0] if uid else 0, min(gid)[0] if gid else 0)


def _setup_ids(ops: list[Op], spec: Spec) -> None:
    if not _keeps_groups(spec):
        ops.append(("set_ids", _first_ids(spec)))


def _clone(ops: list[Op], spec: Spec, place: Placement) -> None:
    flags = _made(spec)
    own_group = flags & _CGROUP if place.cgroup is not None else 0
    flags &= (
        ~own_group
    )  # its root is the group that we are in when it is made: made when we have entered
    if flags & _USER:
        uid = idmap.lines(_extents(spec, "uidMappings"))
        gid = idmap.lines(_extents(spec, "gidMappings"))
        ops.append(("clone", (flags, MAP_DIRECT, uid, gid, "", "")))
    else:
        ops.append(("clone", (flags, MAP_NONE, "", "", "", "")))
    if place.cgroup is not None:
        ops += place.cgroup.enter
    if own_group:
        ops.append(("unshare", (own_group,)))
    if flags & _NET:
        ops.append(("loopback_up", ()))
        if place.attach is not None:
            ops.append(("net_attach", place.attach))
        if place.network_program is not None:
            ops += place.network_program[1]
    _setup_ids(ops, spec)
    ops.append(("setsid", ()))


def _asks(ops: list[Op]) -> bool:
    return any(name == "net_attach" for name, _ in ops)


def _root(ops: list[Op], spec: Spec, place: Placement) -> None:
    path = spec["root"]["path"]
    ops += place.beside
    if place.root and path == place.merged:
        ops += place.root
    else:
        ops.append(("root_bind", (path, place.merged or path)))


def _dev_is_ours(spec: Spec) -> bool:
    return any(m["destination"] == "/dev" and m.get("type") == "tmpfs" for m in spec["mounts"])


def _mounts(ops: list[Op], spec: Spec, facts: HostFacts) -> None:
    taken = {mount["destination"] for mount in spec["mounts"]}
    for mount in spec["mounts"]:
        ops += mount_ops(mount)
        if mount["destination"] == "/dev" and mount.get("type") == "tmpfs":
            _dev(ops, spec, facts, taken)


def _dev(ops: list[Op], spec: Spec, facts: HostFacts, taken: Iterable[str]) -> None:
    """What a runtime puts into /dev without being told (runtime-spec, default devices)."""
    private = mounts.PROPAGATION["private"]
    for name in facts.devices:
        path = f"/dev/{name}"
        if path not in taken:
            ops.append(("bind", (path, path, mounts.MS_BIND, 2 | 8, 0, private, _MKDIR)))
    for target, path in (*devices.SYMLINKS, devices.KCORE):
        if path not in taken:
            ops.append(("symlink", (target, path)))
    if spec["process"].get("terminal"):
        ops.append(("mkfile", ("/dev/console", 0o620)))


def mount_ops(mount: dict[str, Any]) -> list[Op]:
    """Operations for one entry of the spec's mounts; raises UsageError for an unknown bind option."""
    options = mount.get("options") or []
    if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
        return _bind_ops(mount, options)
    flags, data = 0, []
    for word in options:
        if word in mounts.FLAGS:
            add, remove = mounts.FLAGS[word]
            flags = (flags | add) & ~remove
        elif word not in mounts.PROPAGATION:
            data.append(word)
    kind = mount.get("type") or ""
    opflags = _MKDIR
    if kind in ("cgroup", "cgroup2"):
        kind, opflags = "cgroup2", _MKDIR | _OR_EMPTY
    elif kind == "mqueue":
        opflags |= _OPTIONAL  # a kernel may be without POSIX message queues
    source = mount.get("source") or kind
    return [("mount", (kind, source, mount["destination"], flags, ",".join(data), opflags))]


def _bind_ops(mount: dict[str, Any], options: Sequence[str]) -> list[Op]:
    """A bind, with what holds for all below it; then what holds for its top alone."""
    path = mount["destination"]
    deep, top = [0, 0], [0, 0]  # bits to set, to clear
    recursive = "rbind" in options
    propagation = mounts.PROPAGATION["rprivate"]
    below = ""
    for word in options:
        if word in mounts.PROPAGATION:
            propagation = mounts.PROPAGATION[word]
        elif word.startswith(mounts.SUBPATH):
            below = word[len(mounts.SUBPATH) :]
        elif word not in ("bind", "rbind", "rw", "defaults"):
            plain = word if word in mounts.ATTRIBUTES else word[1:]
            if plain not in mounts.ATTRIBUTES:
                raise UsageError(f"cannot mount {path}: unknown bind option {word!r}")
            bits = deep if plain != word or not recursive else top
            add, clear = mounts.ATTRIBUTES[plain]
            bits[:] = bits[0] & ~clear | add, bits[1] & ~add | clear
    # A single mount has nothing below; the recursion of its propagation would be in vain.
    flags = mounts.MS_BIND | (mounts.MS_REC if recursive else 0)
    opflags = _MKDIR | (_RECURSIVE if recursive else 0)
    if mount["source"] in _MAY_BE_ABSENT:
        opflags |= _OPTIONAL
    if path == ownership.APT_CONF:
        opflags |= _BESIDE | _OPTIONAL
    kind = propagation & ~mounts.MS_REC
    ops: list[Op] = [("bind", (mount["source"], path, flags, *deep, kind, opflags))]
    if below:
        ops = [("bind_below", (mount["source"], below, path, flags, *deep, kind, opflags))]
    if any(top):
        ops.append(("remount", (path, *top, opflags & _OPTIONAL)))
    return ops


class Loads:
    """What becomes filters: SECCOMP compiles a profile, for the capabilities CAPS or the process's own.

    EMULATION and FAST are loaded where they are not None.
    """

    __slots__ = ("caps", "emulation", "fast", "seccomp")

    def __init__(
        self,
        seccomp: SeccompProvider | None,
        emulation: Emulation | None,
        caps: Sequence[str] | None = None,
        *,
        fast: FastConnect | None = None,
    ) -> None:
        self.fast = fast
        self.seccomp = seccomp
        self.emulation = emulation
        self.caps = caps


def _emulation(spec: Spec, provider: EmulationProvider | None) -> Emulation | None:
    """What a container of one ID loads; nothing for others."""
    if specs.OWNERSHIP not in _notes(spec) or provider is None:
        return None
    return provider(list((spec["process"].get("capabilities") or {}).get("bounding") or ()))


def _supervise(spec: Spec, facts: HostFacts, emulation: Emulation | None) -> list[Op]:
    if emulation is None or not facts.seccomp:
        return []
    return ownership.supervise_ops(emulation, facts, _notes(spec)[specs.OWNERSHIP])


def _process(
    ops: list[Op],
    spec: Spec,
    facts: HostFacts,
    loads: Loads,
    *,
    console_flags: int,
    make_cwd: bool,
    minded: bool = False,
) -> None:
    """From limits to exec: the same for a container's first process and for exec."""
    process = spec["process"]
    if specs.AFFINITY in _notes(spec):
        from . import resources

        ops.append(("affinity", (resources.cpu_bits(_notes(spec)[specs.AFFINITY]),)))
    for limit in process.get("rlimits") or ():
        numbers = (rlimits.value(limit["soft"]), rlimits.value(limit["hard"]))
        ops.append(("rlimit", (rlimits.number(limit["type"]), *numbers)))
    if process.get("oomScoreAdj") is not None:
        ops.append(("oom_score_adj", (process["oomScoreAdj"],)))
    if process.get("terminal"):
        size = process.get("consoleSize") or {}
        ops.append(("console", (size.get("height", 0), size.get("width", 0), console_flags)))
    ops.append(_user_op(spec))
    ops.append(("chdir", (process.get("cwd") or "/", 1 if make_cwd else 0)))
    ops.append(("umask", (process.get("user", {}).get("umask", 0o022),)))
    _confine(ops, spec, facts, loads)
    flags = EXEC_MINDED if minded else 0
    ops.append(("exec", ("", process["args"], process.get("env") or [], flags)))


def _user_op(spec: Spec) -> Op:
    user = spec["process"].get("user") or {}
    notes = _notes(spec)
    flags = 1 | (_ONE_ID if specs.OWNERSHIP in notes else 0)
    if specs.USER in notes:
        groups = [word for word in notes.get(specs.GROUPS, "").split(",") if word]
        keep = "keep-groups" in groups
        names = [word for word in groups if word != "keep-groups"]
        return ("user", (notes[specs.USER] or "0", names, flags | 2 if keep else flags))
    groups = [str(gid) for gid in user.get("additionalGids") or ()]
    return ("user", (f"{user.get('uid', 0)}:{user.get('gid', 0)}", groups, flags))


def _confine(ops: list[Op], spec: Spec, facts: HostFacts, loads: Loads) -> None:
    process = spec["process"]
    sets = process.get("capabilities") or {}
    limit: Op = (
        "caps",
        tuple(
            caps.mask(sets.get(kind) or ())
            for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
        ),
    )
    profile = _notes(spec).get(specs.SECCOMP, "unconfined")
    load: list[Op] = []
    if profile != "unconfined" and facts.seccomp:
        if loads.seccomp is None:
            raise HostError(
                f"cannot load seccomp profile {profile}: there is nothing to compile it"
            )
        names = sets.get("bounding") or () if loads.caps is None else loads.caps
        load = [("seccomp", (loads.seccomp(profile, list(names)), 0))]
    if loads.emulation is not None and facts.seccomp:
        load = ownership.load_ops(loads.emulation, facts) + load
    if loads.fast is not None:
        load = fastconnect.load_ops(loads.fast) + load
    if process.get("noNewPrivileges"):
        ops += [limit, ("pdeathsig", (SIGKILL,)), ("no_new_privs", ()), *load]
    else:
        ops += [*load, limit, ("pdeathsig", (SIGKILL,))]


def exec_tape(
    spec: Spec,
    request: ExecRequest,
    pid: int,
    pidstart: int,
    facts: HostFacts,
    *,
    seccomp: SeccompProvider | None = None,
    emulation: EmulationProvider | None = None,
    fast: tuple[FastConnect, str] | None = None,
    minded: bool = False,
    group: tuple[list[Op], list[Op]] = ([], []),
) -> list[Op]:
    """The operations that run REQUEST in the running container of SPEC.

    PID and PIDSTART name its first process; 0 and 0 where who plays the tape hands that process over.
    MINDED: nothing that the program starts outlives it, if its monitor sees to that.  What the container
    shares with the host is not joined: the kernel lets nobody enter the initial PID or network namespace
    again.  FAST: what fast=connect loads, and the path of its rules.  GROUP: what leads to its control group,
    and into it.  Raises UsageError.
    """
    if not request.args:
        raise UsageError("no command specified")
    if request.workdir and not request.workdir.startswith("/"):
        raise UsageError(f"cannot change to {request.workdir}: it is not an absolute path")
    flags = _USER | namespaces.FLAGS["mount"]
    for entry in _namespaces(spec):
        flags |= namespaces.FLAGS[entry["type"]]
    emulated = _emulation(spec, emulation)
    beside = _supervise(spec, facts, emulated)
    if fast is not None:
        beside += fastconnect.beside_ops(*fast)
    ops: list[Op] = list(group[0])
    if (
        beside or group[1]
    ):  # with the rights of the container's user namespace, in sight of the host's files
        ops += [("join_proc", (pid, pidstart, _USER)), *beside]
        flags &= ~_USER
    ops += group[1]
    ops += [("join_proc", (pid, pidstart, flags)), ("clone", (0, MAP_NONE, "", "", "", ""))]
    _setup_ids(ops, spec)
    ops.append(("setsid", ()))
    inner = dict(spec, process=_exec_process(spec, request, facts))
    inner["annotations"] = dict(_notes(spec))
    if request.user:
        inner["annotations"][specs.USER] = request.user
    names = (spec["process"].get("capabilities") or {}).get("bounding") or ()
    loads = Loads(seccomp, emulated, list(names), fast=fast[0] if fast else None)
    _process(ops, inner, facts, loads, console_flags=0, make_cwd=False, minded=minded)
    return ops


def _exec_process(spec: Spec, request: ExecRequest, facts: HostFacts) -> dict[str, Any]:
    process = dict(spec["process"], terminal=request.tty, args=list(request.args))
    base = list(process.get("env") or ())
    if request.tty and not any(entry.startswith("TERM=") for entry in base):
        base.append("TERM=xterm")
    process["env"] = specs.merge(base, request.env, request.env_remove)
    process["cwd"] = request.workdir or process.get("cwd") or "/"
    if request.privileged:
        names = list(caps.known(facts.kernel))
        process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
    return process


def realm_tape(facts: HostFacts, libexec: str, *, again: bool = False) -> list[Op]:
    """The operations that make the realm and end in its holder; AGAIN: of namespaces handed over.

    With subordinate IDs the maps are written by newuidmap and newgidmap; where the caller may write
    them itself (id_rung "nested") directly; else the one ID that anybody may map.
    """
    uid, gid = map(idmap.lines, idmap.realm_maps(facts))
    mode = {"subid": MAP_HELPERS, "single": MAP_SINGLE}.get(facts.id_rung, MAP_DIRECT)
    helpers = (facts.newuidmap, facts.newgidmap) if mode == MAP_HELPERS else ("", "")
    program = f"{libexec}/realm"
    entered: list[Op] = [
        ("clone", (_USER | _NET, mode, uid, gid, *helpers)),
        ("set_ids", (0, 0)),
        ("setsid", ()),
        ("loopback_up", ()),
    ]
    if again:
        entered = [
            ("join_fd", (USER_FD, _USER)),
            ("join_fd", (NET_FD, _NET)),
            ("set_ids", (0, 0)),
            ("setsid", ()),
        ]
    return [*entered, ("exec", (program, [program], [], 2))]


def remove_tape(paths: Iterable[str]) -> list[Op]:
    """The operations that remove directory trees as the realm's root, whoever in it owns the files."""
    return [
        ("join_fd", (USER_FD, _USER)),
        ("set_ids", (0, 0)),
        *(("rmtree", (path,)) for path in paths),
    ]


def unpack_tape(
    facts: HostFacts,  # noqa: ARG001  (later rungs choose by it)
    argv: Sequence[str],
    env: Sequence[str],
    ids: IdMap,
) -> list[Op]:
    """The operations that run a program of the host as root of the realm, or of the nested map IDS."""
    ops: list[Op] = [("join_fd", (USER_FD, _USER)), ("set_ids", (0, 0))]
    if ids.nested:
        ops.append(
            ("clone", (_USER, MAP_DIRECT, idmap.lines(ids.uid), idmap.lines(ids.gid), "", ""))
        )
        ops.append(("set_ids", ids.setup_ids))
    ops += [("pdeathsig", (SIGKILL,)), ("exec", (argv[0], list(argv), list(env), 2))]
    return ops


def rootfs_tape(
    outer: Sequence[Op], root: Sequence[Op], argv: Sequence[str], ids: IdMap
) -> list[Op]:
    """The operations that assemble a root (see Placement) and run a host's program beside it.

    The program sees the host's files and, at the mount point in ROOT, the container's; it runs as root of
    the map IDS and everything mounted goes with it.
    """
    ops: list[Op] = [("join_fd", (USER_FD, _USER)), ("set_ids", (0, 0))]
    private = ("propagation", ("/", mounts.PROPAGATION["rslave"]))
    if outer:
        ops += [("unshare", (_MOUNT,)), private, *outer]
    if ids.nested:
        maps = idmap.lines(ids.uid), idmap.lines(ids.gid)
        ops.append(("clone", (_USER | _MOUNT, MAP_DIRECT, *maps, "", "")))
        ops.append(("set_ids", ids.setup_ids))
    else:
        ops.append(("unshare", (_MOUNT,)))
    ops += [private, *root, ("pdeathsig", (SIGKILL,)), ("exec", (argv[0], list(argv), [], 2))]
    return ops


def beside_tape(pid: int, pidstart: int, argv: Sequence[str], ids: IdMap) -> list[Op]:
    """The operations that run a host's program as root of a living container's user namespace.

    PID and PIDSTART name a process of the container.  Nothing else of it is joined: the program sees the
    host's files, and the container's by descriptors that it opens below /proc/PID/root.
    """
    return [
        ("join_proc", (pid, pidstart, _USER)),
        ("set_ids", ids.setup_ids),
        ("pdeathsig", (SIGKILL,)),
        ("exec", (argv[0], list(argv), [], 2)),
    ]


def unshare_tape(argv: Sequence[str], env: Sequence[str]) -> list[Op]:
    """The operations by which the launcher itself becomes root of the realm and then ARGV.

    In a mount namespace of its own, so that what is mounted there goes with the last program in it.
    """
    return [
        ("join_fd", (USER_FD, _USER)),
        ("set_ids", (0, 0)),
        ("unshare", (_MOUNT,)),
        ("propagation", ("/", mounts.PROPAGATION["rslave"])),
        ("exec", ("", list(argv), list(env), 1)),
    ]
