"""The tape: a flat, versioned list of primitive operations that helpers/launch.c plays.

Owns the vocabulary (one table, from which helpers/tape.h is generated) and the encoding.  It knows
nothing of containers: what to put on a tape is decided in plan/launch.py.

Encoding, little endian.  Header, 32 bytes: magic ``RLTAPE\\r\\n``, u32 version, u32 total size in
bytes, u32 number of operations, 12 bytes of zero.  Then each operation: u16 opcode, u16 zero, u32 size in
bytes of the whole operation including these eight, then its arguments in the order of its signature,
each padded with zeros to a multiple of eight:

    i  signed 64-bit integer
    s  string: u32 length without the final NUL, the bytes, a NUL; no NUL inside
    b  bytes: u32 length, the bytes
    S  list of strings: u32 count, u32 zero, then each as ``s``

The player checks the whole tape before its first side effect and refuses what it does not know.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Union

    Arg = Union[int, str, bytes, Sequence[str]]
    Op = tuple[str, tuple[Arg, ...]]

VERSION = 1
MAGIC = b"RLTAPE\r\n"
MAX_SIZE = 4 << 20
MAX_OPS = 4096
HEADER = struct.Struct("<8sIII12x")  # 32 bytes

# name, opcode, signature, argument names, meaning.  Paths marked (in) are resolved inside the new root by
# the kernel (openat2 RESOLVE_IN_ROOT, or the fallback walk), before pivot as well as after it.
OPS: tuple[tuple[str, int, str, str, str], ...] = (
    ("join_fd", 1, "ii", "fd nstype", "enter the namespace that an inherited descriptor names"),
    (
        "join_proc",
        2,
        "iii",
        "pid starttime nstypes",
        "enter namespaces of a process, user first; ESRCH unless its start time (clock ticks) matches; pid 0 "
        "is the process whose directory in /proc is descriptor 7",
    ),
    ("join_path", 3, "si", "path nstype", "enter the namespace that a path names"),
    (
        "clone",
        4,
        "iissss",
        "flags mapmode uid_map gid_map newuidmap newgidmap",
        "go on in a child (of our parent) in new namespaces; this process writes its ID maps "
        "(mapmode 0 none, 1 written directly, 2 by newuidmap, 3 single: setgroups denied first), "
        "reports its pid and ends.  A map is lines of 'container_id host_id size'",
    ),
    ("unshare", 5, "i", "flags", "leave namespaces in place"),
    ("set_ids", 6, "ii", "uid gid", "become uid and gid with no supplementary groups"),
    ("setsid", 7, "", "", "start a session"),
    ("pdeathsig", 8, "i", "signal", "be sent SIGNAL when the parent dies"),
    ("sync", 9, "i", "token", "tell the supervisor TOKEN and wait until it answers"),
    ("loopback_up", 10, "", "", "set the interface lo up"),
    (
        "net_attach",
        62,
        "sb",
        "path payload",
        "send PAYLOAD and a descriptor of this network namespace to the network service at PATH (host view); "
        "before set_ids, while this process is the caller's; net_attached has to follow",
    ),
    (
        "net_attached",
        65,
        "",
        "",
        "wait for the answer to net_attach; before the pivot; listening sockets that it brings are inherited "
        "by the program (LISTEN_FDS)",
    ),
    (
        "net_path",
        72,
        "is",
        "fd path",
        "give the network namespace of an inherited descriptor a name at PATH (host view; a file there is "
        "made), in a mount namespace of our own",
    ),
    (
        "net_program",
        73,
        "sssiS",
        "directory name log ready argv",
        "start, beside the container and in the host's network, ARGV, a program that connects a namespace: it "
        "waits for net_ready, then finds the namespace as NAME in DIRECTORY (host view), its current one; what "
        "it says goes to LOG there; on the descriptor READY (1 or 3) it writes when all is set up",
    ),
    (
        "net_ready",
        74,
        "",
        "",
        "hand this network namespace to the program of net_program and wait until it is ready; before set_ids",
    ),
    (
        "net_request",
        75,
        "sss",
        "path text what",
        "send TEXT to the socket at PATH (host view); an answer without a member return fails with WHAT as the "
        "beginning of the reason",
    ),
    (
        "cgroup_scope",
        80,
        "Ssbbiib",
        "addresses unit prologue message pids_at opflags stop",
        "have the user's systemd put our supervisor and this process into UNIT, unless they are in it, by the "
        "D-Bus call MESSAGE, which has room for their two PIDs at PIDS_AT, at the first of ADDRESSES that "
        "answers (bus:PATH, where PROLOGUE comes first, or peer:PATH); before the realm is joined; opflag 1: a "
        "refusal is told, and the container has no control group; opflag 2: only this process goes in; "
        "the call STOP, where it is not empty, ends what is left of a unit of this name",
    ),
    (
        "cgroup_make",
        81,
        "sssSii",
        "directory name inner controllers userns opflags",
        "make the container's control group NAME below DIRECTORY (host view), or in the scope that our "
        "supervisor is in, anew if there is one, and tell the supervisor; CONTROLLERS are handed on to it, "
        "what is in the way of that is moved into the leaf INNER; as root of the realm, which the descriptor "
        "USERNS is, where another ID's groups are left of an earlier start; opflags as for cgroup_scope",
    ),
    (
        "cgroup_set",
        82,
        "ssi",
        "file value opflags",
        "write VALUE to FILE of the container's control group; opflag 1: a refusal is no error",
    ),
    (
        "cgroup_delegate",
        83,
        "ii",
        "uid gid",
        "give the container's control group to the container's root, as far as the owner of a subtree needs it",
    ),
    (
        "cgroup_enter",
        84,
        "sii",
        "directory pid opflags",
        "enter the container's control group, or DIRECTORY (host view; of the scope that our supervisor is in "
        "where it does not begin with a slash), or the leaf of it that PID is in where itself holds no "
        "processes; before set_ids; opflags as for cgroup_scope",
    ),
    (
        "cgroup_remove",
        85,
        "S",
        "paths",
        "remove control groups, host view, and those below them; what has processes stays",
    ),
    ("chdir_host", 11, "s", "path", "change directory, host view"),
    ("rmtree", 12, "s", "path", "remove a tree, host view; what is gone already is fine"),
    ("mkdir_host", 13, "si", "path mode", "make a directory, host view; an existing one is fine"),
    ("chown_host", 46, "sii", "path uid gid", "change the owner of a directory, host view"),
    ("propagation", 16, "si", "path flags", "set the propagation of a mount, host view"),
    (
        "overlay",
        17,
        "Sssss",
        "lowers upper work target options",
        "mount overlay (lowers topmost first; those after an empty name lend their data only; read-only where "
        "upper is empty) at a host path and take it as the new root",
    ),
    (
        "root_bind",
        18,
        "ss",
        "source target",
        "bind a host directory, recursively, at a host path and take it as the new root",
    ),
    (
        "fuse",
        43,
        "sssS",
        "options target log argv",
        "mount FUSE at a host path and start ARGV (a program of the host, stderr to LOG, descriptor 3 the "
        "connection) to serve it, beside the container and in a mount namespace that lacks the mount",
    ),
    ("mkdir", 19, "siii", "path mode uid gid", "make a directory and its parents (in)"),
    ("mkfile", 20, "si", "path mode", "make an empty file and its parents (in) unless it is there"),
    ("symlink", 21, "ss", "target path", "make a symbolic link (in) unless something is there"),
    ("write", 22, "sbi", "path data flags", "write a file (in); flag 1: failure is no error"),
    (
        "mount",
        23,
        "sssisi",
        "fstype source destination flags data opflags",
        "mount a new filesystem (in); opflags 1 make the directory, 2 failure is no error, "
        "4 if it fails mount an empty read-only tmpfs instead",
    ),
    (
        "bind",
        24,
        "ssiiiii",
        "source destination flags set clear propagation opflags",
        "bind a host path (in): flags MS_BIND|MS_REC; set and clear are MOUNT_ATTR_* bits, applied "
        "recursively with opflag 8; propagation is 0 or MS_PRIVATE...; opflags 1 make a directory or "
        "file as the source is, 2 failure is no error, 16 the source is inside the new root (in), 32 nothing "
        "is done where the directory of the destination is missing",
    ),
    (
        "bind_below",
        50,
        "sssiiiii",
        "source below destination flags set clear propagation opflags",
        "bind BELOW, resolved by the kernel with the host directory SOURCE as its root, as bind does",
    ),
    ("remount", 25, "siii", "path set clear opflags", "change MOUNT_ATTR_* of a mount (in)"),
    ("mask", 26, "s", "path", "hide a file or directory (in); what does not exist is fine"),
    ("readonly", 27, "s", "path", "make a subtree read-only (in); what does not exist is fine"),
    ("pivot", 28, "", "", "make the new root the root and detach the old one"),
    ("chdir", 29, "si", "path flags", "change directory, after pivot; flag 1: make it if missing"),
    ("hostname", 32, "s", "name", "set the host name"),
    ("domainname", 33, "s", "name", "set the NIS domain name"),
    ("rlimit", 34, "iii", "resource soft hard", "set a resource limit; -1 is infinity"),
    (
        "affinity",
        90,
        "b",
        "cpus",
        "bind this process and what comes of it to CPUs: a bit for each, the lowest of the first byte is CPU 0",
    ),
    ("umask", 35, "i", "mask", "set the file mode creation mask"),
    ("oom_score_adj", 36, "i", "value", "set oom_score_adj; a refusal is no error"),
    (
        "console",
        37,
        "iii",
        "rows columns opflags",
        "open a pty of the container, send its master to the supervisor, make it stdio and the "
        "controlling terminal; opflag 1: bind it over /dev/console; after pivot",
    ),
    (
        "user",
        38,
        "sSi",
        "user groups flags",
        "look USER[:GROUP] up in the container's passwd and group files, after pivot, for the caps "
        "operation; groups are added; flag 1: set HOME unless the environment has it, "
        "flag 2: keep the caller's supplementary groups, flag 4: an ID that is not mapped is no error, the "
        "process keeps the one there is",
    ),
    ("no_new_privs", 39, "", "", "set no_new_privs"),
    ("seccomp", 40, "bi", "program flags", "load a filter: BPF instructions of eight bytes each"),
    (
        "caps",
        41,
        "iiiii",
        "bounding effective permitted inheritable ambient",
        "limit the capabilities (bit sets) and become the user that the user operation found; "
        "a user other than 0 keeps only the ambient ones",
    ),
    (
        "supervise",
        60,
        "bss",
        "calls journal upper",
        "fork, beside the container, the process that answers the calls of the emulate operation; CALLS: u32 "
        "architecture, number, kind, zero each; what no extended attribute can hold of a file in UPPER (a host "
        "path, opened at emulate) goes to JOURNAL",
    ),
    (
        "emulate",
        61,
        "bb",
        "asking silent",
        "with no_new_privs: load the filter ASKING and hand its listener to the process of supervise; where "
        "there is none, or the kernel has no listeners, load the filter SILENT",
    ),
    (
        "connect_beside",
        63,
        "bs",
        "calls rules",
        "fork, beside the container, the process that connects in this network namespace for the calls that "
        "the filter of trap_connect asks about; CALLS: u32 architecture, number, kind, zero each; the policy "
        "is in the file RULES (host view), read again whenever it is another",
    ),
    (
        "trap_connect",
        64,
        "b",
        "asking",
        "with no_new_privs: load the filter ASKING and hand its listener to the process of connect_beside",
    ),
    (
        "exec",
        42,
        "sSSi",
        "path argv env flags",
        "execute; an empty path is argv[0], searched in the PATH of env when it has no slash; "
        "flag 1: signal handling is left as it is; flag 2: a program of the host, which keeps "
        "inherited descriptors (else all above stderr are closed); flag 4: in a child, minded by this process, "
        "which tells its end and ends when all that it has started has",
    ),
)

_BY_NAME = {name: (code, signature) for name, code, signature, _, _ in OPS}
_BY_CODE = {code: (name, signature) for name, code, signature, _, _ in OPS}
_pack_op = struct.Struct("<HHI").pack
_pack_int = struct.Struct("<q").pack
_pack_len = struct.Struct("<I").pack


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _string(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError(f"a string on a tape holds a NUL: {value!r}")
    return _pad(_pack_len(len(data)) + data + b"\0")


def _encode_arg(kind: str, value: Arg) -> bytes:
    if kind == "i":
        return _pack_int(value)
    if kind == "s":
        return _string(value)  # type: ignore[arg-type]
    if kind == "b":
        return _pad(_pack_len(len(value)) + value)  # type: ignore[arg-type,operator]
    return _pack_len(len(value)) + bytes(4) + b"".join(map(_string, value))  # type: ignore[arg-type]


def encode(ops: Iterable[Op]) -> bytes:
    """The tape as bytes; raises ValueError for an unknown operation or arguments that do not fit."""
    parts = []
    for name, args in ops:
        if name not in _BY_NAME:
            raise ValueError(f"unknown operation {name!r}")
        code, signature = _BY_NAME[name]
        if len(args) != len(signature):
            raise ValueError(f"operation {name} takes {len(signature)} arguments, not {len(args)}")
        try:
            payload = b"".join(map(_encode_arg, signature, args))
        except (struct.error, TypeError, AttributeError) as error:
            raise ValueError(f"operation {name} cannot hold {args!r}: {error}") from None
        parts.append(_pack_op(code, 0, 8 + len(payload)) + payload)
    body = b"".join(parts)
    total = HEADER.size + len(body)
    if total > MAX_SIZE or len(parts) > MAX_OPS:
        raise ValueError(f"a tape of {total} bytes and {len(parts)} operations is too large")
    return HEADER.pack(MAGIC, VERSION, total, len(parts)) + body
