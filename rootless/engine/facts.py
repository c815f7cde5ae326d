"""Facts for a context: joins the probes of linux/ with the tape of plan/ and the launcher."""

from __future__ import annotations

from rootless.linux import facts_cache
from rootless.plan import tape
from rootless.runtime import realm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.config.paths import Paths
    from rootless.facts import HostFacts


def load(paths: Paths, *, fresh: bool = False) -> HostFacts:
    """What this machine can do for this user; FRESH probes again."""

    def play(ops: list[tuple[str, tuple[Any, ...]]]) -> tuple[int, str]:
        return realm.try_tape(paths.libexec, tape.encode(ops))

    return facts_cache.load_facts(
        paths.runtime_root, paths.local_root, paths.libexec, play, fresh=fresh
    )
