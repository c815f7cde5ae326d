"""Finding out what this machine can do, by doing it.

Nothing is concluded from version numbers: a user namespace is made, an overlay is mounted, a directory of
a lower layer is removed and made again.  The namespace probes are tapes, played by the same launcher that
later starts containers, so that a profile that confines programs by name sees the right one.  This module
does not know how a tape is encoded; it is given PLAY.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess

from rootless.facts import HostFacts

from . import probe_network, probe_storage, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.facts import Extent

    # operations -> (errno, reason); (0, "") when the whole tape was played
    Play = Callable[[list[tuple[str, tuple[Any, ...]]]], tuple[int, str]]

NEWUSER = 0x10000000
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
ALLOW_ALL = bytes.fromhex("060000000000ff7f")  # BPF_RET | SECCOMP_RET_ALLOW
LAST_ID = 0xFFFFFFFF  # the kernel's "no ID"


def probe(data_root: str, play: Play) -> HostFacts:
    """The facts of this machine for the current user; takes some tens of milliseconds."""
    uid, gid = os.getuid(), os.getgid()
    number, userns_error = play(probe_storage.single(NEWUSER, uid, gid))
    if number:
        userns_error = explain_userns(number, userns_error)
    facts = HostFacts(
        uid=uid,
        gid=gid,
        user=user_name(uid),
        kernel=kernel_version(os.uname().release),
        arch=os.uname().machine,
        userns_error=userns_error,
        newuidmap=probe_storage.find_program("newuidmap"),
        newgidmap=probe_storage.find_program("newgidmap"),
        fuse=_opens("/dev/fuse"),
        net_tun=_opens("/dev/net/tun"),
        cgroup_ns=os.path.exists("/proc/self/ns/cgroup"),
        cgroup_mode=cgroup_mode(),
        seccomp=play([("no_new_privs", ()), ("seccomp", (ALLOW_ALL, 0))])[0] == 0,
        devices=tuple(name for name in DEVICES if os.path.exists(f"/dev/{name}")),
        openat2=_has_call(437),
        mount_setattr=_has_call(442),
        close_range=_has_call(436),
        pidfd=_has_call(434),
    )
    networks = probe_network.Search(facts, play)
    facts.seccomp_notify = facts.openat2 and not userns_error and _probe_notify(facts, play)
    _probe_ids(facts, play)
    probe_storage.probe(facts, data_root, play)
    networks.finish()
    return facts


# A sysctl, the value that forbids user namespaces (None: any but 0), the value that allows them.
SYSCTLS = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", None, "0"),
    ("user.max_user_namespaces", "0", "15000"),
)


def sysctl(name: str) -> str:
    """The value of a kernel setting, or "" where the kernel has none of that name."""
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def explain_userns(number: int, reason: str) -> str:
    """REASON with what an administrator could do, as far as the machine tells what is in the way.

    The kernel says ENOSPC where a limit on namespaces is reached, EUSERS where they nest too deep, and
    EPERM for every refusal of a security module.
    """
    for name, bad, good in SYSCTLS:
        value = sysctl(name)
        if value and (value == bad if bad is not None else value != good):
            return f"{reason}; an administrator can run: sysctl -w {name}={good}"
    if number == errno.ENOSPC:
        return f"{reason}; an administrator can run: sysctl -w user.max_user_namespaces=15000"
    if number == errno.EPERM:
        return (
            f"{reason}; a security module, or the seccomp filter of an outer container, forbids it"
        )
    return reason


def user_name(uid: int) -> str:
    """The login name of UID, or the number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def kernel_version(release: str) -> tuple[int, int, int]:
    """(major, minor, patch) of a release like 6.1.0-18-amd64."""
    numbers = []
    for part in release.replace("-", ".").split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits) if digits else 0)
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _has_call(number: int) -> bool:
    """Whether the kernel has a system call; numbers above 423 are the same on every architecture."""
    libc = ctypes.CDLL(None, use_errno=True)
    bad = ctypes.c_long(-1)
    libc.syscall(ctypes.c_long(number), bad, bad, bad, bad, bad)
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)


def cgroup_mode() -> str:
    """How the control groups are mounted: unified, hybrid, legacy or none."""
    kinds = {}
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                kinds[before.split()[4]] = after.split()[0]
    except OSError:
        return "none"
    if kinds.get("/sys/fs/cgroup") == "cgroup2":
        return "unified"
    below = {kind for path, kind in kinds.items() if path.startswith("/sys/fs/cgroup/")}
    if "cgroup2" in below:
        return "hybrid"
    return "legacy" if "cgroup" in below else "none"


def subordinate(path: str, user: str, uid: int) -> list[tuple[int, int]]:
    """(first ID, count) of each range that the file at PATH gives to USER or to the number UID."""
    ranges = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                parts = line.strip().split(":")
                if len(parts) != 3 or parts[0] not in (user, str(uid)):
                    continue
                try:
                    start, count = int(parts[1]), int(parts[2])
                except ValueError:
                    continue
                if 0 <= start < LAST_ID and count > 0:
                    ranges.append((start, count))
    except OSError:
        pass
    return ranges or _getsubids(path, user)


def _getsubids(path: str, user: str) -> list[tuple[int, int]]:
    """Ranges that a name service gives (LDAP, SSSD), by the getsubids program where it is."""
    program = shutil.which("getsubids")
    if not program:
        return []
    argv = [program, *(["-g"] if path.endswith("subgid") else []), user]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    ranges = []
    for line in done.stdout.splitlines():
        words = line.split()  # "0: user 100000 65536"
        if len(words) == 4 and words[2].isdigit() and words[3].isdigit():
            ranges.append((int(words[2]), int(words[3])))
    return ranges


def extents(first: int, ranges: list[tuple[int, int]]) -> tuple[Extent, ...]:
    """The realm's map: ID 0 is the caller, 1 and up are the ranges one after the other.

    An ID can be mapped once only: what two lines give, or the caller has already, is left out the second
    time.
    """
    found: list[Extent] = [(0, first, 1)]
    taken = [(first, first + 1)]
    inside = 1
    for start, count in ranges:
        for low, high in _free(start, min(start + count, LAST_ID), taken):
            found.append((inside, low, high - low))
            taken.append((low, high))
            inside += high - low
    return tuple(found)


def _free(low: int, high: int, taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of LOW up to, not with, HIGH that no interval in TAKEN covers."""
    parts = []
    for start, end in sorted(taken):
        if start >= high or end <= low:
            continue
        if start > low:
            parts.append((low, start))
        low = max(low, end)
    if low < high:
        parts.append((low, high))
    return parts


def _probe_notify(facts: HostFacts, play: Play) -> bool:
    """Whether a supervisor can be asked by a filter; without one there is nothing to load, an error."""
    ops = probe_storage.single(NEWUSER, facts.uid, facts.gid)
    ops += [
        ("supervise", (b"", "", "")),
        ("no_new_privs", ()),
        ("emulate", (ALLOW_ALL, b"")),
    ]
    return play(ops)[0] == 0


def _probe_ids(facts: HostFacts, play: Play) -> None:
    own = proc.id_map("uid")
    facts.id_rung = "single"
    facts.uid_map, facts.gid_map = ((0, facts.uid, 1),), ((0, facts.gid, 1),)
    if facts.userns_error:
        return
    if facts.uid == 0 and not proc.in_initial_userns() and sum(e[2] for e in own) > 1:
        facts.id_rung = "nested"
        facts.uid_map = tuple((inside, inside, count) for inside, _, count in own)
        facts.gid_map = tuple((inside, inside, count) for inside, _, count in proc.id_map("gid"))
        return
    uids = subordinate("/etc/subuid", facts.user, facts.uid)
    gids = subordinate("/etc/subgid", facts.user, facts.uid)
    if not uids or not gids:
        which = "/etc/subuid" if not uids else "/etc/subgid"
        facts.subid_error = f"{which} has no range for {facts.user}"
        return
    if not facts.newuidmap or not facts.newgidmap:
        facts.subid_error = "newuidmap and newgidmap are not installed (package uidmap)"
        return
    uid_map, gid_map = extents(facts.uid, uids), extents(facts.gid, gids)
    lines = ["".join(f"{a} {b} {c}\n" for a, b, c in each) for each in (uid_map, gid_map)]
    number, reason = play(
        [
            ("clone", (NEWUSER, 2, lines[0], lines[1], facts.newuidmap, facts.newgidmap)),
            ("set_ids", (0, 0)),
            ("set_ids", (1, 1)),
        ]
    )
    if number:
        facts.subid_error = reason
        return
    facts.id_rung, facts.uid_map, facts.gid_map = "subid", uid_map, gid_map
