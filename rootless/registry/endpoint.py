"""A repository at one of its places, as a transport with its credentials and the scope of its token."""

from __future__ import annotations

from . import credentials
from .transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.oci.reference import Reference

    from .places import Place


class Endpoint:
    """What pulls and pushes of the repository that a reference names share."""

    def __init__(
        self, reference: Reference, env: Mapping[str, str], place: Place, scope: str
    ) -> None:
        self.reference = reference
        self._path = place.path
        self._scope = scope
        known = credentials.lookup(place.domain, place.path, env)
        self._transport = Transport(place.domain, env, known, place.insecure)

    def abort(self) -> None:
        """Break transfers that other threads have under way."""
        self._transport.abort()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()
