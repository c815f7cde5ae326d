"""What removing an image by one of its names, or by its ID, comes to: Docker's rules, as a pure function.

Knows entries of the index and who uses the image; touches nothing.
"""

from __future__ import annotations

from rootless.errors import ConflictError
from rootless.oci import reference

from .imageindex import REF_NAME, REPO_DIGEST, note, with_notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .imageindex import Entry


class Plan:
    """What is to become of an image: entries to keep, and what the user is told."""

    __slots__ = ("deleted", "keep", "untagged")

    def __init__(self, untagged: list[str], deleted: list[str], keep: list[Entry]) -> None:
        self.untagged = untagged
        self.deleted = deleted
        self.keep = keep


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _repository(full: str) -> str:
    name = full.partition("@")[0]
    colon = name.find(":", name.rfind("/"))
    return name if colon < 0 else name[:colon]


def _names(entries: list[Entry]) -> list[str]:
    tags = sorted({note(entry, REF_NAME) for entry in entries} - {""})
    return tags + sorted({note(entry, REPO_DIGEST) for entry in entries} - {""})


def _familiar(names: list[str]) -> list[str]:
    return [reference.parse(name).familiar() for name in names]


def plan(
    text: str,
    image_id: str,
    named: Entry | None,
    entries: list[Entry],
    using: list[tuple[str, bool]],
    *,
    force: bool,
) -> Plan:
    """Remove by the reference that NAMED has, or by ID where it is None.

    ENTRIES are all of the image, USING its containers as (ID, whether it runs).  Raises ConflictError.
    """
    names = _names(entries)
    tags = [name for name in names if "@" not in name]
    single = len(tags) <= 1 and len({_repository(name) for name in names}) <= 1
    if named is not None:
        if single and using and not force:
            raise ConflictError(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {using[0][0][:12]} is using its referenced image {_short(image_id)}"
            )
        keep = _untagged_entries(named, entries, by_digest="@" in text)
        if _names(keep):
            gone = [name for name in names if name not in _names(keep)]
            return Plan(_familiar(gone), [], keep)
    elif not single and not force:
        raise _conflict(image_id, "must be forced", "image is referenced in multiple repositories")
    running = [container for container, runs in using if runs]
    if running:
        why = f"image is being used by running container {running[0][:12]}"
        raise _conflict(image_id, "cannot be forced", why)
    if using and not force:
        why = f"image is being used by stopped container {using[0][0][:12]}"
        raise _conflict(image_id, "must be forced", why)
    hidden = [with_notes(entries[0], ref="", repo_digest="", removed="true")] if using else []
    return Plan(_familiar(names), [image_id], hidden)


def _untagged_entries(named: Entry, entries: list[Entry], *, by_digest: bool) -> list[Entry]:
    """ENTRIES without the one name; a repository whose last tag goes loses its digests too."""
    if by_digest:
        gone = note(named, REPO_DIGEST)
        return [
            with_notes(entry, repo_digest="") if note(entry, REPO_DIGEST) == gone else entry
            for entry in entries
        ]
    repository = _repository(note(named, REF_NAME))
    rest = [entry for entry in entries if entry is not named]
    left = [e for e in rest if note(e, REF_NAME) and _repository(note(e, REF_NAME)) == repository]
    if left:
        digest = note(named, REPO_DIGEST)
        if digest and all(note(entry, REPO_DIGEST) != digest for entry in rest):
            rest.append(with_notes(named, ref=""))
        return rest
    out = []
    for entry in rest:
        lost = _repository(note(entry, REPO_DIGEST)) == repository
        kept = with_notes(entry, repo_digest="") if lost else entry
        if note(kept, REF_NAME) or note(kept, REPO_DIGEST):
            out.append(kept)
    return out


def _conflict(image_id: str, how: str, why: str) -> ConflictError:
    return ConflictError(f"conflict: unable to delete {_short(image_id)} ({how}) - {why}")
