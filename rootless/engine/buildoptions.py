"""What was asked of a build, as the fronts hand it over."""

from __future__ import annotations

from rootless.builder import attest
from rootless.builder.outputs import Output

from .buildcaches import Recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rootless.builder.caches import Place
    from rootless.builder.remotes import Named

    from .buildmounts import Secret
    from .buildremote import Fetcher


class Options:
    """What was asked of a build.

    tags      names for the image; labels: put over those of the Dockerfile
    no_cache  do all steps; no_cache_stages: all steps of these stages
    policy    when base images are pulled: always, missing or never
    network   of RUN, where it does not say its own
    platform  to build for; several: others are built beside it
    epoch     SOURCE_DATE_EPOCH, -1 for none
    outputs   what is made of the result; squash: with one layer over the base image's
    attest    what is said of it
    allowed   entitlements (--allow); run: limits and the like of every RUN, as fields of a RunRequest
    contexts  named contexts by name; fetcher: what gets things from elsewhere
    cache_from, cache_to  caches elsewhere; recorder: what goes into them when all is built
    """

    def __init__(self, **values: Any) -> None:
        self.tags: list[str] = []
        self.target = ""
        self.build_args: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.no_cache = False
        self.no_cache_stages: frozenset[str] = frozenset()
        self.policy = "missing"
        self.network = ""
        self.platform = ""
        self.several = False
        self.epoch = -1
        self.outputs: Sequence[Output] = (Output(),)
        self.squash = False
        self.attest = attest.Wanted()
        self.secrets: Mapping[str, Secret] = {}
        self.agents: Mapping[str, str] = {}
        self.allowed: frozenset[str] = frozenset()
        self.run: Mapping[str, Any] = {}
        self.contexts: Mapping[str, Named] = {}
        self.fetcher: Fetcher | None = None
        self.cache_from: Sequence[Place] = ()
        self.cache_to: Sequence[Place] = ()
        self.recorder = Recorder()
        for key, value in values.items():
            setattr(self, key, value)
