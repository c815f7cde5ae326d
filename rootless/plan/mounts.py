"""The mounts of a container, as the runtime spec lists them: Docker's own, the engine's files, the user's.

Owns the tables of option words and the order.  What a user mounts replaces the default at the same
place (and a mount over /dev, /proc or /sys what is below it); what a user and the engine mount is sorted
by depth of the destination, so that a parent never hides its child.  launch.py turns the list into
operations.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError

from . import idmap, namespaces, ownership, security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from rootless.facts import HostFacts

    from .idmap import IdMap
    from .namespaces import Namespaces
    from .request import MountRequest, Placement, RunRequest

    Mount = dict[str, Any]

# mount(2) flags by option word: (set, clear); linux/mount.h.
MS_RDONLY, MS_BIND, MS_REC = 1, 0x1000, 0x4000
FLAGS: dict[str, tuple[int, int]] = {
    "ro": (1, 0),
    "rw": (0, 1),
    "nosuid": (2, 0),
    "suid": (0, 2),
    "nodev": (4, 0),
    "dev": (0, 4),
    "noexec": (8, 0),
    "exec": (0, 8),
    "sync": (16, 0),
    "async": (0, 16),
    "mand": (64, 0),
    "nomand": (0, 64),
    "dirsync": (128, 0),
    "noatime": (1024, 0),
    "atime": (0, 1024),
    "nodiratime": (2048, 0),
    "diratime": (0, 2048),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
    "lazytime": (1 << 25, 0),
    "nolazytime": (0, 1 << 25),
    "defaults": (0, 0),
}
PROPAGATION = {
    "private": 1 << 18,
    "rprivate": 1 << 18 | MS_REC,
    "slave": 1 << 19,
    "rslave": 1 << 19 | MS_REC,
    "shared": 1 << 20,
    "rshared": 1 << 20 | MS_REC,
    "unbindable": 1 << 17,
    "runbindable": 1 << 17 | MS_REC,
}
# mount_setattr(2): a bind's options by word: (set, clear).
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (1, 0),
    "nosuid": (2, 0),
    "nodev": (4, 0),
    "noexec": (8, 0),
    "suid": (0, 2),
    "dev": (0, 4),
    "exec": (0, 8),
    "noatime": (0x10, 0x70),
    "relatime": (0, 0x70),
    "strictatime": (0x20, 0x70),
    "nodiratime": (0x80, 0),
}
_CGROUP = "/sys/fs/cgroup"
_TMPFS_DATA = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge")
_TMPFS_DEFAULT = ("noexec", "nosuid", "nodev")
_DEEP = ("rnosuid", "rnoexec", "rnodev")  # runtime-spec 1.1: with all mounts below
# Of the source, resolved there by the kernel; mount(8) leaves options that begin with x- to others.
SUBPATH = "x-rootless.subpath="
_OPPOSITE = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}

MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def _mount(destination: str, kind: str, source: str, *options: str) -> Mount:
    return {
        "destination": destination,
        "type": kind,
        "source": source,
        "options": [word for word in options if word],
    }


def defaults(
    request: RunRequest, chosen: Namespaces, ids: IdMap, facts: HostFacts, place: Placement
) -> list[Mount]:
    """The pseudo file systems: /proc, /dev and below, /sys and its cgroups."""
    read_only = "" if request.privileged else "ro"
    mounts = [
        _proc(chosen, facts),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            *("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            # The tty group of every distribution; the kernel refuses a gid that has no mapping.
            "gid=5" if idmap.contains(ids.gid, 5) else "",
        ),
        _sys(chosen, read_only),
    ]
    if chosen.owns("cgroup"):
        writable = security.parse(request.security_opt).writable_cgroups
        mounts.append(_cgroup("" if writable else read_only))
    elif chosen.owns("network"):  # else the host's come with its /sys
        recursive = "rro" if read_only else ""
        mounts.append(_mount(_CGROUP, "bind", _CGROUP, "rbind", *_DEEP, recursive))
    mounts += _ipc(request, chosen, place)
    return mounts


def _proc(chosen: Namespaces, facts: HostFacts) -> Mount:
    # A procfs shows one PID namespace and can be mounted only by that namespace's owner; and not
    # where the one at hand is partly covered (mount_too_revealing in fs/namespace.c).  The host's then
    # stands in: /proc/self is right in it, the numbers are the host's.
    if not chosen.owns("pid") or facts.masked_proc:
        return _mount("/proc", "bind", "/proc", "rbind", *_DEEP)
    return _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev")


def _sys(chosen: Namespaces, read_only: str) -> Mount:
    # A sysfs can be mounted only by the owner of the network namespace.
    if not chosen.owns("network"):
        recursive = "rro" if read_only else ""
        return _mount("/sys", "bind", "/sys", "rbind", *_DEEP, recursive)
    return _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", read_only)


def _cgroup(read_only: str) -> Mount:
    return _mount(_CGROUP, "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", read_only)


def _ipc(request: RunRequest, chosen: Namespaces, place: Placement) -> list[Mount]:
    safe = ("nosuid", "noexec", "nodev")
    queue = _mount("/dev/mqueue", "mqueue", "mqueue", *safe)
    if not chosen.owns("ipc"):
        queue = _mount("/dev/mqueue", "bind", "/dev/mqueue", "rbind", *_DEEP)
    mounts = [queue] if chosen.modes["ipc"] != namespaces.JOINED or chosen.owns("ipc") else []
    if request.ipc == "none":
        return mounts
    if request.ipc == "host":
        source = "/dev/shm"
    elif request.ipc == "shareable":
        source = f"{place.container_dir}/shm"
    else:
        source = place.shared_shm
    if source:
        return [*mounts, _mount("/dev/shm", "bind", source, "rbind", *_DEEP)]
    size = f"size={(request.shm_size or 64 << 20) >> 10}k"
    return [*mounts, _mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", size)]


def user_mounts(request: RunRequest, facts: HostFacts, place: Placement) -> list[Mount]:
    """What the request mounts; raises UsageError or HostError for what cannot be."""
    mounts = [_user_mount(mount, facts, place) for mount in request.mounts]
    mounts += [_tmpfs(path, text.split(",")) for path, text in request.tmpfs.items()]
    seen: set[str] = set()
    for mount in mounts:
        if mount["destination"] in seen:
            raise UsageError(f"duplicate mount point: {mount['destination']}")
        seen.add(mount["destination"])
    return mounts


def _user_mount(mount: MountRequest, facts: HostFacts, place: Placement) -> Mount:
    if not mount.destination.startswith("/"):
        raise UsageError(f"invalid mount path: '{mount.destination}' mount path must be absolute")
    if mount.type == "tmpfs":
        return _tmpfs(mount.destination, [*mount.options, "ro" if mount.readonly else ""])
    backing = place.volumes.get(mount.destination) or {}
    source = mount.source
    if mount.type in ("volume", "image"):
        if not backing:
            what = mount.source or mount.destination
            raise UsageError(f"cannot mount {mount.type} {what}: nobody has said where it lies")
    elif mount.type != "bind":
        raise UsageError(f"cannot mount {mount.destination}: unknown mount type {mount.type!r}")
    if backing.get("type") == "tmpfs":
        words = [*backing["options"], "ro" if mount.readonly else ""]
        return _tmpfs(mount.destination, words, kept=())
    options = _bind_options(mount, facts)
    if backing:
        source = backing["source"]
        options += [_at_top(word, facts) for word in backing.get("options") or () if word != "rw"]
    if mount.subpath:
        options.append(SUBPATH + mount.subpath)
    return _mount(mount.destination, "bind", source, *options)


def _at_top(word: str, facts: HostFacts) -> str:
    """An option of a volume's own; read-only is so all the way down where the kernel can."""
    return "rro" if word == "ro" and facts.mount_setattr else word


def _bind_options(mount: MountRequest, facts: HostFacts) -> list[str]:
    single = mount.recursive == "disabled" or "bind" in mount.options
    words = ["bind" if single else "rbind"]
    for word in mount.options:
        if word in ("bind", "rbind"):
            continue
        if word not in ATTRIBUTES and word != "rw":
            raise UsageError(f"cannot mount {mount.destination}: unknown bind option {word!r}")
        words.append(word)
    if mount.recursive == "readonly" and not facts.mount_setattr:
        raise HostError(
            f"cannot mount {mount.destination} read-only with what is mounted below it: "
            "this kernel has no mount_setattr",
            hint="linux 5.12 or newer has it; bind-recursive=writable does without",
        )
    if mount.readonly:
        deep = not single and mount.recursive != "writable" and facts.mount_setattr
        words.append("rro" if deep else "ro")
    words.append(mount.propagation or "rprivate")
    return words


def _tmpfs(
    destination: str, words: Iterable[str], *, kept: Sequence[str] = _TMPFS_DEFAULT
) -> Mount:
    options = [word for word in words if word]
    for word in options:
        key, equals, value = word.partition("=")
        if equals:
            if key not in _TMPFS_DATA or not value or not _tmpfs_value(key, value):
                raise UsageError(f'invalid tmpfs option ["{word}"]')
        elif word not in FLAGS and word not in PROPAGATION:
            raise UsageError(f'invalid tmpfs option ["{word}"]')
    kept = [word for word in kept if _OPPOSITE[word] not in options]
    return _mount(destination, "tmpfs", "tmpfs", *kept, *(w for w in options if w not in kept))


def _tmpfs_value(key: str, value: str) -> bool:
    if key == "mode":
        return not value.strip("01234567")
    if key in ("uid", "gid"):
        return value.isascii() and value.isdigit()
    if key in ("size", "nr_inodes", "nr_blocks"):
        digits = value[:-1] if value[-1] in "kKmMgGtT%" else value
        return digits.isascii() and digits.isdigit()
    return True


def engine_files(request: RunRequest, place: Placement) -> list[Mount]:
    """The files that the engine keeps for the container: names, resolver, apt's word, --init's program."""
    last = "ro" if request.read_only else ""
    mounts = [
        _mount(destination, "bind", source, "rbind", "rprivate", last)
        for source, destination in (
            (place.resolv_file, "/etc/resolv.conf"),
            (place.hostname_file, "/etc/hostname"),
            (place.hosts_file, "/etc/hosts"),
            (f"{place.container_dir}/apt.conf" if place.one_id else "", ownership.APT_CONF),
        )
        if source
    ]
    if request.init:
        mounts.append(
            _mount("/sbin/docker-init", "bind", f"{place.libexec}/init", "bind", "ro", "rprivate")
        )
    return mounts


def _depth(mount: Mount) -> int:
    return len([part for part in mount["destination"].split("/") if part])


def combine(
    default: Iterable[Mount], files: Iterable[Mount], users: Sequence[Mount]
) -> list[Mount]:
    """All mounts in the order in which they are made."""
    taken = {mount["destination"] for mount in users}
    covers = tuple(path + "/" for path in ("/dev", "/sys", "/proc") if path in taken)
    kept = [
        mount
        for mount in default
        if mount["destination"] not in taken
        and not (covers and mount["destination"].startswith(covers))
    ]
    rest = [mount for mount in files if mount["destination"] not in taken]
    return kept + sorted([*users, *rest], key=_depth)
