"""One repository of a registry: its manifests and blobs, verified as they arrive."""

from __future__ import annotations

import hashlib
import time

import urllib3

from rootless.errors import (
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    RegistryError,
)
from rootless.oci import manifest as manifests
from rootless.oci import media_types

from . import credentials
from .transport import BACKOFF, RETRIES, Transport, error_text, unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from rootless.oci.reference import Reference

CHUNK = 256 << 10


class Manifest:
    """A manifest or index as it was fetched: its bytes, their digest, and what they say."""

    __slots__ = ("data", "digest", "document", "media_type")

    def __init__(self, data: bytes, digest: str, media_type: str, document: dict[str, Any]) -> None:
        self.data = data
        self.digest = digest
        self.media_type = media_type
        self.document = document

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests by platform."""
        return self.media_type in media_types.INDEXES


class Repository:
    """A repository named by a reference."""

    def __init__(
        self, reference: Reference, env: Mapping[str, str], insecure: Sequence[str] = ()
    ) -> None:
        self.reference = reference
        self._scope = f"repository:{reference.path}:pull"
        self._transport = Transport(
            reference.domain,
            env,
            credentials.lookup(reference.domain, reference.path, env),
            insecure,
        )

    def manifest(self, name: str) -> Manifest:
        """The manifest under a tag or digest; raises ImageNotFoundError, RegistryError, ImageError."""
        what = f"{self.reference.repository}{'@' if ':' in name else ':'}{name}"
        path = f"/v2/{self.reference.path}/manifests/{name}"
        response = self._transport.get(path, self._scope, accept=media_types.ACCEPTED)
        try:
            data = response.read(manifests.MAX_SIZE + 1)
        except urllib3.exceptions.HTTPError as error:
            raise RegistryError(unreachable(self._transport.host, error)) from None
        finally:
            response.release_conn()
        if response.status != 200:
            raise self._status_error(response, data, what)
        algorithm = name.partition(":")[0] if ":" in name else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if ":" in name and digest != name:
            raise DigestMismatchError(
                f"cannot verify manifest {name} of {self.reference.repository}: "
                f"its digest is {digest}"
            )
        told = response.headers.get("Docker-Content-Digest", "")
        if told.startswith("sha256:") and algorithm == "sha256" and told != digest:
            raise DigestMismatchError(
                f"cannot verify manifest of {what}: the registry promised {told}, "
                f"its digest is {digest}"
            )
        kind, document = manifests.parse(data, what, response.headers.get("Content-Type", ""))
        return Manifest(data, digest, kind, document)

    def _status_error(self, response: Any, body: bytes, what: str) -> Exception:
        status = response.status
        detail = error_text(body[:65536])
        if status == 404:
            if "name" in detail or "repository" in detail:
                return ImageNotFoundError(
                    f"pull access denied for {self.reference.familiar_name}, "
                    "repository does not exist or may require authorization"
                )
            return ImageNotFoundError(f"manifest for {what} not found: manifest unknown")
        if status == 429:
            return RegistryError(
                f"cannot pull {what}: {self._transport.domain} says too many requests",
                hint="wait, or log in to raise the limit",
            )
        return RegistryError(
            f"cannot pull {what}: {self._transport.domain} answered "
            f"{detail or 'with an error'} (status {status})"
        )

    def blob(self, descriptor: Mapping[str, Any]) -> Iterator[bytes]:
        """The bytes of a blob in chunks; a broken connection is taken up again where it broke.

        The caller verifies digest and size.  Raises RegistryError, ImageError.
        """
        digest, size = str(descriptor["digest"]), int(descriptor["size"])
        path = f"/v2/{self.reference.path}/blobs/{digest}"
        seen, failures = 0, 0
        while True:
            response = self._transport.get(path, self._scope, start=seen)
            if response.status not in (200, 206):
                body = response.read(65536)
                response.release_conn()
                if response.status == 404:
                    raise ImageError(
                        f"cannot fetch blob {digest} of {self.reference.familiar()}: "
                        "the registry does not have it"
                    )
                raise self._status_error(response, body, f"blob {digest}")
            skip = seen if response.status == 200 else 0
            before = seen
            try:
                for chunk in response.stream(CHUNK, decode_content=False):
                    if skip:
                        cut = min(skip, len(chunk))
                        skip -= cut
                        chunk = chunk[cut:]  # noqa: PLW2901
                    if chunk:
                        seen += len(chunk)
                        yield chunk
            except (urllib3.exceptions.HTTPError, OSError) as error:
                response.close()
                reason = unreachable(self._transport.host, error)
            else:
                response.release_conn()
                if seen >= size:
                    return
                reason = f"the connection ended after {seen} of {size} bytes"
            failures = 0 if seen > before else failures + 1
            if failures > RETRIES:
                raise RegistryError(f"cannot fetch blob {digest}: {reason}")
            time.sleep(BACKOFF * 2**failures)
