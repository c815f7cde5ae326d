"""From a request to an OCI runtime spec (config.json, runtime-spec 1.2).

Everything a container is follows from this document; launch.py plays it.  The host side of its ID
mappings are realm IDs.  What the format has no word for stands in annotations under ``io.rootless.``: the
user as typed (names are looked up in the container), the seccomp profile by name (its program is
compiled and cached elsewhere), the processes whose namespaces are joined, and a binding to CPUs.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import caps, devices, idmap, mounts, namespaces, ownership, rlimits, security, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.facts import HostFacts

    from .idmap import IdMap
    from .image import ImageConfig
    from .namespaces import Namespaces
    from .request import Placement, RunRequest

    Spec = dict[str, Any]

VERSION = "1.2.0"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER = "io.rootless.user"
GROUPS = "io.rootless.groups"
SECCOMP = "io.rootless.seccomp"
OWNERSHIP = (
    "io.rootless.ownership"  # of a container of one ID: two paths, as ownership.note() has them
)
JOINED = "io.rootless.joined"
AFFINITY = "io.rootless.affinity"  # the CPUs that processes are bound to, without a control group
LABELS_IGNORED = "io.rootless.ignored-security-options"
STOP_SIGNAL = "org.opencontainers.image.stopSignal"
INIT = "/sbin/docker-init"


def build_spec(request: RunRequest, image: ImageConfig, facts: HostFacts, place: Placement) -> Spec:
    """The runtime spec of a container.

    Raises UsageError for a request that cannot mean anything, HostError (IdMapError) for one that this
    host cannot do.  Nothing is read or made.
    """
    chosen = namespaces.decide(request, facts)
    ids = idmap.for_request(request, facts, place.auto_slot)
    if place.one_id and not idmap.emulated(request, facts):  # it joins a container of one ID
        ids = idmap.from_key(idmap.SINGLE, facts)
    options = security.parse(request.security_opt)
    root = place.merged if request.rootfs_overlay or not request.rootfs else request.rootfs
    spec: Spec = {
        "ociVersion": VERSION,
        "process": _process(request, image, facts, chosen, place, options),
        "root": {"path": root, "readonly": request.read_only},
        "mounts": mounts.combine(
            mounts.defaults(request, chosen, ids, facts, place),
            mounts.engine_files(request, place),
            mounts.user_mounts(request, facts, place) + devices.requested(request, place, facts),
        ),
        "annotations": _annotations(request, image, facts, place, options, chosen),
        "linux": _linux(request, chosen, ids, place, options),
    }
    if chosen.modes["uts"] == namespaces.PRIVATE:
        spec["hostname"] = hostname(request, place)
        if request.domainname:
            spec["domainname"] = request.domainname
    return spec


def hostname(request: RunRequest, place: Placement) -> str:
    """The host name in a container's own UTS namespace; raises UsageError for one that is too long."""
    name = request.hostname or place.container_id[:12] or "localhost"
    if len(name.encode()) > 64:
        raise UsageError(f"invalid hostname {name!r}: it is longer than 64 bytes")
    return name


def _process(
    request: RunRequest,
    image: ImageConfig,
    facts: HostFacts,
    chosen: Namespaces,
    place: Placement,
    options: security.Options,
) -> dict[str, Any]:
    names = caps.select(
        request.cap_add, request.cap_drop, privileged=request.privileged, kernel=facts.kernel
    )
    process: dict[str, Any] = {
        "terminal": request.tty,
        "user": _user(request, image, facts),
        "args": arguments(request, image),
        "env": environment(request, image, chosen, place),
        "cwd": _cwd(request, image),
        "capabilities": {"bounding": names, "effective": names, "permitted": names},
        "rlimits": rlimits.for_spec(request.ulimits),
        # Nothing is lost by it with one ID, and filters can be loaded when all capabilities are settled.
        "noNewPrivileges": options.no_new_privileges or place.one_id,
    }
    if request.oom_score_adj is not None:
        process["oomScoreAdj"] = request.oom_score_adj
    return process


def arguments(request: RunRequest, image: ImageConfig) -> list[str]:
    """The command line: an entrypoint that was given (or reset) drops the image's command.

    Raises UsageError where nothing is left.
    """
    if request.entrypoint is not None:
        words = [*request.entrypoint, *request.args]
    else:
        words = [*image.entrypoint, *(request.args or image.cmd)]
    if not words:
        raise UsageError("no command specified")
    return [INIT, "--", *words] if request.init else words


def environment(
    request: RunRequest, image: ImageConfig, chosen: Namespaces, place: Placement
) -> list[str]:
    """The environment: ours, then the image's, then the request's; later ones win."""
    base = [f"PATH={PATH}"]
    if chosen.modes["uts"] == namespaces.PRIVATE:
        base.append(f"HOSTNAME={hostname(request, place)}")
    elif chosen.modes["uts"] == namespaces.HOST and place.host_name:
        base.append(f"HOSTNAME={place.host_name}")
    if request.tty:
        base.append("TERM=xterm")
    return merge([*base, *image.env], request.env, request.env_remove)


def merge(base: list[str], changes: list[str], remove: list[str]) -> list[str]:
    """BASE with CHANGES ("K=V") in place, without the names in REMOVE."""
    values: dict[str, str] = {}
    for entry in base:
        values[entry.partition("=")[0]] = entry
    for name in remove:
        values.pop(name, None)
    for entry in changes:
        values[entry.partition("=")[0]] = entry
    return [entry for entry in values.values() if "=" in entry]


def _cwd(request: RunRequest, image: ImageConfig) -> str:
    path = request.workdir or image.working_dir or "/"
    return path if path.startswith("/") else "/" + path


def user_text(request: RunRequest, image: ImageConfig, facts: HostFacts) -> str:
    """The user as typed, "user[:group]": the request's, what --userns asks for, or the image's."""
    return request.user or idmap.default_user(request, facts) or image.user


def _user(request: RunRequest, image: ImageConfig, facts: HostFacts) -> dict[str, Any]:
    text = user_text(request, image, facts)
    name, _, group = text.partition(":")
    user: dict[str, Any] = {
        "uid": int(name) if name.isascii() and name.isdigit() else 0,
        "gid": int(group) if group.isascii() and group.isdigit() else 0,
        "umask": request.umask,
    }
    groups = [int(word) for word in request.group_add if word.isascii() and word.isdigit()]
    if groups:
        user["additionalGids"] = groups
    return user


def _annotations(
    request: RunRequest,
    image: ImageConfig,
    facts: HostFacts,
    place: Placement,
    options: security.Options,
    chosen: Namespaces,
) -> dict[str, str]:
    notes = dict(request.annotations)
    notes[USER] = user_text(request, image, facts)
    if request.group_add:
        notes[GROUPS] = ",".join(request.group_add)
    profile = "unconfined" if request.privileged and not options.seccomp else options.seccomp
    notes[SECCOMP] = profile or "builtin"
    if place.one_id:
        direct = request.rootfs and not request.rootfs_overlay
        written = request.rootfs if direct else place.upper
        notes[OWNERSHIP] = ownership.note(f"{place.container_dir}/{ownership.JOURNAL}", written)
    if options.ignored:
        notes[LABELS_IGNORED] = ",".join(options.ignored)
    joined = [kind for kind in namespaces.JOIN_ORDER if chosen.modes[kind] == namespaces.JOINED]
    if joined:
        targets = [(kind, *namespaces.target(place, kind)) for kind in joined]
        notes[JOINED] = ",".join(f"{kind}:{pid}:{start}" for kind, pid, start in targets)
    if place.affinity:
        notes[AFFINITY] = place.affinity
    signal = request.stop_signal or image.stop_signal
    if signal:
        notes[STOP_SIGNAL] = signal
    return notes


def _linux(
    request: RunRequest,
    chosen: Namespaces,
    ids: IdMap,
    place: Placement,
    options: security.Options,
) -> dict[str, Any]:
    linux: dict[str, Any] = {
        "namespaces": namespaces.spec_list(chosen, place),
        "rootfsPropagation": "rslave",
        "sysctl": security.sysctls(request, chosen),
    }
    if chosen.modes["user"] == namespaces.PRIVATE:
        linux["uidMappings"] = _mappings(ids.uid)
        linux["gidMappings"] = _mappings(ids.gid)
    if request.limits:
        from . import resources

        found = resources.spec(request.limits, place.block_devices)
        if found:
            linux["resources"] = found
    if not (request.privileged or options.systempaths_unconfined):
        linux["maskedPaths"] = list(mounts.MASKED)
        linux["readonlyPaths"] = list(mounts.READONLY)
    return linux


def _mappings(extents: tuple[tuple[int, int, int], ...]) -> list[dict[str, int]]:
    return [
        {"containerID": inside, "hostID": outside, "size": size}
        for inside, outside, size in extents
    ]


def stop_signal(request: RunRequest, spec: Spec) -> int:
    """The number of the signal that a stop begins with: the request's, the image's, or TERM.

    Raises UsageError for a name that is none.
    """
    text = request.stop_signal or spec.get("annotations", {}).get(STOP_SIGNAL, "")
    return signals.number(text or "SIGTERM")
