"""ID maps of containers: what the IDs inside a container are in the realm.

Owns the grammar of --userns and the arithmetic.  The realm's own map (facts.uid_map) has its
extents (realm ID, host ID, size); a container's user namespace nests in the realm, so its "host" IDs are
realm IDs.  The kernel looks each line's range up in the parent's map as one extent and refuses a
line that spans two of them, even where they touch (map_write in kernel/user_namespace.c); so every
line is cut at the realm's boundaries.

    ""                  identity along the realm's extents
    host                no nested namespace: the container lives in the realm's
    single              one ID, the caller as root; ownership is emulated (ownership.py).  What "" means
                        where the realm has no more
    keep-id[:uid=U,gid=G]
                        the caller (realm ID 0) appears as U (default: the caller's ID on the host),
                        IDs below U are realm 1..U, those above are themselves; --user defaults to U:G
    auto[:size=N]       N IDs from the realm's range number K (K >= 1, chosen by the engine), and as
                        ID N the caller: without it, nobody in the container's namespace could walk
                        through the caller's directories to set the container up

A map that has no ID 0 (keep-id with a single ID) is set up as its first ID.
"""

from __future__ import annotations

from rootless.errors import IdMapError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless.facts import Extent, HostFacts

    from .request import RunRequest

AUTO_SIZE = 1024
SINGLE = "single"  # the mode, its map key, and the rung of the ladder


class Userns:
    """A --userns value: mode "", "host", "single", "keep-id" or "auto"; numbers that were not given are -1."""

    __slots__ = ("gid", "mode", "size", "slot", "uid")

    def __init__(
        self, mode: str, uid: int = -1, gid: int = -1, size: int = -1, slot: int = -1
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.slot = slot


_KEYS = {"keep-id": ("uid", "gid"), "auto": ("size", "slot")}


def parse(text: str) -> Userns:
    """The parts of a --userns value; raises UsageError.  ``slot`` of auto is written by the engine."""
    mode, colon, rest = text.partition(":")
    if mode in ("", "private", "nested") and not colon:
        return Userns("")
    if mode in ("host", SINGLE) and not colon:
        return Userns(mode)
    if mode not in _KEYS:
        raise UsageError(f"invalid argument {text!r} for --userns: unknown mode {mode!r}")
    userns = Userns(mode)
    for word in rest.split(",") if colon else ():
        key, _, value = word.partition("=")
        if key not in _KEYS[mode] or not (value.isascii() and value.isdigit()):
            raise UsageError(f"invalid argument {text!r} for --userns: bad option {word!r}")
        setattr(userns, key, int(value))
    if mode == "auto" and userns.size == 0:
        raise UsageError(f"invalid argument {text!r} for --userns: size must be at least 1")
    return userns


def with_slot(text: str, slot: int) -> str:
    """The --userns value TEXT (auto) with its range number fixed to SLOT."""
    userns = parse(text)
    return f"auto:size={auto_size(userns)},slot={slot}"


def auto_size(userns: Userns) -> int:
    """How many IDs an auto map asks for."""
    return AUTO_SIZE if userns.size < 0 else userns.size


class IdMap:
    """A user namespace's maps: extents (container ID, realm ID, size), ascending by container ID."""

    __slots__ = ("gid", "key", "nested", "uid")

    def __init__(
        self, uid: Sequence[Extent], gid: Sequence[Extent], *, key: str = "", nested: bool = True
    ) -> None:
        self.uid = tuple(uid)
        self.gid = tuple(gid)
        self.key = key
        self.nested = nested

    @property
    def setup_ids(self) -> tuple[int, int]:
        """(uid, gid) as which the namespace is set up: 0 where it is mapped."""
        return self.uid[0][0], self.gid[0][0]


def lines(extents: Iterable[Extent]) -> str:
    """The text of /proc/PID/uid_map."""
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in extents)


def contains(extents: Iterable[Extent], number: int) -> bool:
    """Whether NUMBER is mapped, as an ID inside."""
    return any(inside <= number < inside + size for inside, _, size in extents)


def outside(extents: Iterable[Extent], number: int) -> int:
    """What NUMBER, an ID inside, is outside; 0 where it is not mapped."""
    for inside, first, size in extents:
        if inside <= number < inside + size:
            return first + number - inside
    return 0


def inside(extents: Iterable[Extent], number: int) -> int:
    """What NUMBER, an ID outside, is inside; -1 where it is not mapped."""
    for first, outside_first, size in extents:
        if outside_first <= number < outside_first + size:
            return first + number - outside_first
    return -1


def realm_maps(facts: HostFacts) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    """The realm's (uid, gid) extents; without subordinate IDs just the caller as 0."""
    uid = tuple(sorted(facts.uid_map)) or ((0, facts.uid, 1),)
    gid = tuple(sorted(facts.gid_map)) or ((0, facts.gid, 1),)
    return uid, gid


def split(wanted: Iterable[Extent], parent: Sequence[Extent]) -> tuple[Extent, ...]:
    """WANTED (inside, realm ID, size) cut at the boundaries of PARENT, without what it does not map."""
    pieces = []
    for inside, outside, size in wanted:
        for start, _, length in parent:
            low, high = max(outside, start), min(outside + size, start + length)
            if low < high:
                pieces.append((inside + low - outside, low, high - low))
    return tuple(sorted(pieces))


def identity(parent: Sequence[Extent]) -> tuple[Extent, ...]:
    """Each of PARENT's IDs as itself, one line per extent."""
    return tuple((start, start, size) for start, _, size in parent)


def keep_id(parent: Sequence[Extent], number: int) -> tuple[Extent, ...]:
    """The map in which realm ID 0 appears as NUMBER and realm 1.. fill the rest in order."""
    end = max(start + size for start, _, size in parent)
    wanted = [(0, 1, number), (number, 0, 1), (number + 1, number + 1, max(0, end - number - 1))]
    return split(wanted, parent)


def auto(parent: Sequence[Extent], slot: int, size: int) -> tuple[Extent, ...]:
    """IDs 0..SIZE-1 from the realm's range number SLOT, and the caller as SIZE.

    Raises IdMapError where the realm does not have them all.
    """
    pieces = split([(0, slot * size, size)], parent)
    if slot < 1 or sum(piece[2] for piece in pieces) != size:
        total = sum(extent[2] for extent in parent)
        raise IdMapError(
            f"cannot map range {slot} of {size} IDs for --userns auto: there are {total} IDs in all",
            hint="ask for a larger range in /etc/subuid and /etc/subgid, or a smaller auto:size=N",
        )
    return (*pieces, (size, 0, 1))


def _keep_ids(userns: Userns, facts: HostFacts) -> tuple[int, int]:
    uid = facts.uid if userns.uid < 0 else userns.uid
    gid = facts.gid if userns.gid < 0 else userns.gid
    return uid, gid


def _build(userns: Userns, facts: HostFacts, slot: int) -> IdMap:
    realm_uid, realm_gid = realm_maps(facts)
    if userns.mode == "keep-id":
        uid, gid = _keep_ids(userns, facts)
        key = f"keep-id-{uid}-{gid}" if (uid, gid) != (0, 0) else ""
        return IdMap(keep_id(realm_uid, uid), keep_id(realm_gid, gid), key=key)
    if userns.mode == "auto":
        slot = userns.slot if userns.slot > 0 else slot or 1
        size = auto_size(userns)
        return IdMap(
            auto(realm_uid, slot, size), auto(realm_gid, slot, size), key=f"auto-{size}-{slot}"
        )
    if userns.mode == SINGLE:
        return IdMap(((0, 0, 1),), ((0, 0, 1),), key=SINGLE)
    nested = userns.mode != "host"
    return IdMap(identity(realm_uid), identity(realm_gid), nested=nested)


def for_request(request: RunRequest, facts: HostFacts, slot: int = 0) -> IdMap:
    """The map of a container; SLOT is the auto range that the engine chose, if it is not in the value.

    Raises UsageError or IdMapError.
    """
    return _build(parse(request.userns), facts, slot)


def effective(text: str, facts: HostFacts) -> str:
    """The --userns value TEXT as a container keeps it: where the realm has one ID, "" is "single".

    So it stays the same container when the machine gets subordinate IDs.
    """
    return SINGLE if facts.id_rung == SINGLE and not parse(text).mode else text


def emulated(request: RunRequest, facts: HostFacts) -> bool:
    """Whether the container's only ID is its root, so that ownership has to be emulated."""
    mode = parse(request.userns).mode
    return mode == SINGLE or (facts.id_rung == SINGLE and mode in ("", "host"))


def default_user(request: RunRequest, facts: HostFacts) -> str:
    """ "uid:gid" that --userns asks for where --user is absent; "" for no preference."""
    userns = parse(request.userns)
    if userns.mode != "keep-id":
        return ""
    uid, gid = _keep_ids(userns, facts)
    return f"{uid}:{gid}"


def map_key(request: RunRequest, facts: HostFacts, slot: int = 0) -> str:
    """Names the owners of files in unpacked layers: "" for identity, else a short word.

    The same word gives the same map back (:func:`from_key`).  Raises UsageError or IdMapError.
    """
    return for_request(request, facts, slot).key


def from_key(key: str, facts: HostFacts) -> IdMap:
    """The map that a :func:`map_key` names; raises IdMapError for what is none.

    "" gives the realm's own map, with no namespace to nest.
    """
    words = key.split("-")
    try:
        if key == SINGLE:
            return _build(Userns(SINGLE), facts, 0)
        if not key:
            return _build(Userns("host"), facts, 0)
        if words[0] == "auto":
            return _build(Userns("auto", size=int(words[1]), slot=int(words[2])), facts, 0)
        if words[:2] == ["keep", "id"]:
            return _build(Userns("keep-id", uid=int(words[2]), gid=int(words[3])), facts, 0)
    except (IndexError, ValueError):
        pass
    raise IdMapError(f"cannot use ID map {key!r}: it is no name of one")
