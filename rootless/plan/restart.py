"""Which containers run again after a boot, or after their monitor was lost; pure.

In one boot a container's own monitor applies the restart policy.  What is left is what no monitor could do: it
was killed, or the machine ended.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ACTIVE = ("running", "restarting", "paused")


def resumes(
    policy: str, maximum: int, state: Mapping[str, Any], boot_id: str, *, alive: bool
) -> bool:
    """Whether a container is to be started again.

    STATE is what its state file says, ALIVE whether its monitor lives.  `always` is, even if it was stopped by
    hand in an earlier boot, as in Docker; `unless-stopped` is not if it was.  `on-failure` is where its monitor
    was lost in this boot; the end of a machine is no failure of a container.  What never ran, or ended in this
    boot with all due done, is not.
    """
    if alive or policy == "no" or not state.get("startedAt"):
        return False
    lost = state.get("status") in ACTIVE
    if not lost and state.get("bootId") == boot_id:
        return False
    if policy == "always":
        return True
    if state.get("manualStop"):
        return False
    if policy == "on-failure":
        spent = maximum > 0 and int(state.get("restartCount") or 0) >= maximum
        return lost and not spent and state.get("bootId") == boot_id
    return policy == "unless-stopped"


def order(containers: Mapping[str, str]) -> list[str]:
    """Names or IDs in an order in which each comes after the one whose namespaces it shares.

    CONTAINERS maps each to that other one, or to "".
    """
    done: list[str] = []
    left = list(containers)
    while left:
        ready = [one for one in left if containers[one] not in left or containers[one] == one]
        done += ready or left  # a circle is the start's to refuse
        left = [one for one in left if one not in done]
    return done
