"""What a rung of the ID ladder is: a judgement on the facts, and the facts as they are on that rung.

Both are pure.  The trying was done by linux/probe.py, which made a process with the map.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class Probe:
    """Whether a rung holds here; REASON says why (not), HINT what an administrator could do."""

    __slots__ = ("hint", "reason", "usable")

    def __init__(self, usable: bool, reason: str = "", hint: str = "") -> None:
        self.usable = usable
        self.reason = reason
        self.hint = hint


class IdMapDriver:
    """Base of the rungs; ``name`` is as in idmap.mode."""

    name = ""

    def probe(self, facts: HostFacts) -> Probe:
        """Whether this machine and user can have such a map."""
        raise NotImplementedError

    def plan(self, facts: HostFacts) -> HostFacts:
        """The facts with the realm's maps of this rung; only after a probe that was usable."""
        return facts


def described(facts: HostFacts) -> str:
    """The realm's map of user IDs in words: how many, and which stands for which."""
    total = sum(count for _, _, count in facts.uid_map)
    pairs = [
        f"{_span(inside, count)} -> {_span(outside, count)}"
        for inside, outside, count in facts.uid_map
    ]
    return f"{total} IDs: {', '.join(pairs)}"


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"
