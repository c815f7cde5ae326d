"""rootless container prune, image prune, network prune, volume prune, system prune and system reset."""

from __future__ import annotations

import sys
import time

from rootless.engine import prune
from rootless.engine.context import Context

from . import filters, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rootless.store.volumes import Volume

    from .parse import Parsed

    Row = dict[str, Any]

NAMES = ("label", "label!", "until")
_SURE = "Are you sure you want to continue? [y/N] "


def confirmed(args: Parsed, warning: str) -> bool:
    """Whether to go on: --force, or a yes on stdin to WARNING."""
    if args.get("force"):
        return True
    sys.stdout.write(f"WARNING! {warning}\n{_SURE}")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def wanted(args: Parsed, created: Callable[[Row], float]) -> Callable[[Row], bool]:
    """What the --filter flags leave; CREATED(row) gives seconds since 1970."""
    found = filters.Filters(args.get("filter") or [], NAMES)
    now = time.time_ns()
    limits = [units.parse_since("until", text, now) / units.SECOND for text in found.get("until")]

    def test(row: Row) -> bool:
        if any(created(row) >= limit for limit in limits):
            return False
        tests = {
            "label": lambda row, value: filters.label(row["labels"], value),
            "label!": lambda row, value: not filters.label(row["labels"], value),
            "until": lambda row, value: True,  # noqa: ARG005  (done above)
        }
        return found.match(row, tests)

    return test


def _age(row: Row) -> float:
    value = row["created"]
    if isinstance(value, (int, float)):
        return float(value)
    from . import state as states

    return states.instant(value) / units.SECOND


def tell(title: str, lines: Sequence[str]) -> None:
    """A list of what went, as Docker prints it; nothing for an empty one."""
    if lines:
        sys.stdout.write(f"{title}:\n" + "".join(f"{line}\n" for line in lines) + "\n")


def reclaimed(size: int) -> None:
    """The last line."""
    sys.stdout.write(f"Total reclaimed space: {units.human_size(size)}\n")


def containers(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove all stopped containers."""
    ctx = Context.load(env)
    test = wanted(args, _age)
    if not confirmed(args, "This will remove all stopped containers."):
        return 0
    gone, freed = prune.containers(ctx, test)
    tell("Deleted Containers", gone)
    reclaimed(freed)
    return 0


def images(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove images without a name, or with --all every image that no container uses."""
    ctx = Context.load(env)
    test = wanted(args, _age)
    every = bool(args.get("all"))
    what = (
        "all images without at least one container associated to them."
        if every
        else "all dangling images."
    )
    if not confirmed(args, f"This will remove {what}"):
        return 0
    lines, freed = prune.images(ctx, test, all=every)
    tell("Deleted Images", lines)
    reclaimed(freed)
    return 0


def system(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove stopped containers, unused images and, with --volumes, unused anonymous volumes."""
    ctx = Context.load(env)
    every = bool(args.get("all"))
    test = wanted(args, _age)
    parts = ["all stopped containers", "all networks not used by at least one container"]
    if args.get("volumes"):
        parts.append("all anonymous volumes not used by at least one container")
    parts.append(
        "all images without at least one container associated to them"
        if every
        else "all dangling images"
    )
    parts.append("all build cache" if every else "unused build cache")
    listed = "".join(f"  - {part}\n" for part in parts)
    if not confirmed(args, f"This will remove:\n{listed}"):
        return 0
    gone, freed = prune.containers(ctx, test)
    tell("Deleted Containers", gone)
    tell("Deleted Networks", unused_networks(ctx, args))
    if args.get("volumes"):
        names, more = prune.volumes(ctx, _labelled(args))
        tell("Deleted Volumes", names)
        freed += more
    lines, more = prune.images(ctx, test, all=every)
    tell("Deleted Images", lines)
    reclaimed(freed + more + _build_cache(ctx, args, every))
    return 0


def _build_cache(ctx: Context, args: Parsed, every: bool) -> int:
    """Forget what builds remember, unless filters say what is to go; the bytes freed."""
    if args.get("filter"):
        return 0
    from rootless.engine import buildprune

    gone, freed = buildprune.prune(ctx, all=every)
    tell("Deleted build cache objects", gone)
    return freed


def unused_networks(ctx: Context, args: Parsed) -> list[str]:
    """Remove networks that no container refers to and that the filters take; their names."""
    from rootless.engine import networks as uses

    test = wanted(args, _age)
    return uses.prune(
        ctx, lambda network: test({"created": network.created, "labels": network.labels})
    )


def networks(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove networks that no container refers to."""
    ctx = Context.load(env)
    wanted(args, _age)  # a bad filter is told before anything is asked
    warning = "This will remove all custom networks not used by at least one container."
    if confirmed(args, warning):
        tell("Deleted Networks", unused_networks(ctx, args))
    return 0


def _labelled(args: Parsed) -> Callable[[Volume], bool]:
    """What the label filters leave of volumes; until= says nothing about them, as with Docker."""
    found = filters.Filters(args.get("filter") or [], (*NAMES, "all"))
    tests: dict[str, filters.Match] = {
        "label": lambda volume, value: filters.label(volume.labels, value),
        "label!": lambda volume, value: not filters.label(volume.labels, value),
    }
    return lambda volume: found.match(volume, tests)


def volumes(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove anonymous volumes that no container uses, with --all named ones, too."""
    ctx = Context.load(env)
    found = filters.Filters(args.get("filter") or [], ("label", "label!", "all"))
    every = bool(args.get("all")) or filters.boolean("all", found.get("all")) is True
    what = "all" if every else "anonymous"
    warning = f"This will remove {what} local volumes not used by at least one container."
    if not confirmed(args, warning):
        return 0
    names, freed = prune.volumes(ctx, _labelled(args), all=every)
    tell("Deleted Volumes", names)
    reclaimed(freed)
    return 0


def reset(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove everything that rootless keeps for this user."""
    ctx = Context.load(env)
    warning = (
        "This will remove:\n"
        "  - all containers\n  - all images\n  - all volumes\n  - all networks\n  - all build cache\n"
        f"  - everything else below {ctx.paths.data_root}\n"
    )
    if not confirmed(args, warning):
        return 0
    prune.reset(ctx)
    return 0
