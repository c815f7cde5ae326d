"""One repository of a registry: its manifests and blobs, checked as they arrive."""

from __future__ import annotations

import hashlib

import urllib3

from rootless.errors import (
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    RegistryAuthError,
    RegistryError,
    RootlessError,
)
from rootless.oci import manifest as manifests
from rootless.oci import media_types

from . import failures
from .endpoint import Endpoint
from .transport import BACKOFF, RETRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rootless.oci.reference import Reference

    from .places import Place

CHUNK = 256 << 10
_UNKNOWN_NAMES = ("NAME_UNKNOWN", "NAME_INVALID")


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


class Repository(Endpoint):
    """The repository that a reference names, at one of its places."""

    def __init__(self, reference: Reference, env: Mapping[str, str], place: Place) -> None:
        super().__init__(reference, env, place, f"repository:{place.path}:pull")

    def manifest(self, name: str) -> Manifest:
        """The manifest under a tag or digest.

        Raises ImageNotFoundError, RegistryError, RegistryAuthError, ImageError, DigestMismatchError.
        """
        by_digest = ":" in name
        what = f"{self.reference.familiar_name}{'@' if by_digest else ':'}{name}"
        path = f"/v2/{self._path}/manifests/{name}"
        response = self._transport.get(path, self._scope, accept=media_types.ACCEPTED)
        try:
            data = response.read(manifests.MAX_SIZE + 1)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise failures.unreachable(self._transport.host, error) from None
        finally:
            self._transport.release(response)
        if response.status != 200:
            raise self._status_error(response, data, f"manifest for {what}")
        digest = self._checked_digest(name if by_digest else "", response, data, what)
        kind, document = manifests.parse(data, what, response.headers.get("Content-Type", ""))
        return Manifest(data, digest, kind, document)

    @staticmethod
    def _checked_digest(wanted: str, response: Any, data: bytes, what: str) -> str:
        """The digest of a manifest's bytes, which is the one asked for and the one the registry told."""
        algorithm = wanted.partition(":")[0] or "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        told = response.headers.get("Docker-Content-Digest", "")
        if wanted and digest != wanted:
            raise DigestMismatchError(f"cannot verify manifest {what}: its digest is {digest}")
        if told.startswith(algorithm + ":") and told != digest:
            raise DigestMismatchError(
                f"cannot verify manifest {what}: the registry promised {told[:80]}, "
                f"its digest is {digest}"
            )
        return digest

    def _status_error(self, response: Any, body: bytes, what: str) -> RootlessError:
        """The error for an answer that is not what was asked for."""
        status = response.status
        code, detail = failures.error_of(body[:65536])
        denied = (
            f"pull access denied for {self.reference.familiar_name}, "
            "repository does not exist or may require authorization"
        )
        known = self._transport.credentials
        if status in (401, 403):
            reason = f"{denied}: {detail}" if detail else denied
            if known is None:
                return ImageNotFoundError(
                    reason, hint=f"check the name, or run docker login {self._transport.domain}"
                )
            who = known.user or "the identity token"
            return RegistryAuthError(reason, hint=f"check the user name and password ({who})")
        if status == 404:
            if code in _UNKNOWN_NAMES:
                return ImageNotFoundError(denied)
            return ImageNotFoundError(f"{what} not found: {detail or 'manifest unknown'}")
        if status == 429:
            return RegistryError(
                f"cannot pull {what}: too many requests to {self._transport.domain}"
                f"{f' ({detail})' if detail else ''}",
                hint=f"wait, or raise the limit: docker login {self._transport.domain}",
            )
        return RegistryError(
            f"cannot pull {what}: {self._transport.domain} answered with status {status}"
            f"{f' ({detail})' if detail else ''}"
        )

    def blob(self, descriptor: Mapping[str, Any]) -> Iterator[bytes]:
        """The bytes of a blob in chunks; a broken connection is taken up again where it broke.

        No byte comes twice, and none past the promised size; the caller verifies the digest.  Raises
        RegistryError, ImageError.
        """
        size, seen, failed = int(descriptor["size"]), 0, 0
        while True:
            before = seen
            try:
                for chunk in self._part(descriptor, seen):
                    seen += len(chunk)
                    yield chunk
                error = failures.Unreachable(
                    f"the connection ended after {seen} of {size} bytes", kind="broken"
                )
            except failures.Unreachable as caught:
                error = caught
            if seen >= size:
                return
            failed = 1 if seen > before else failed + 1
            if failed > RETRIES or not error.worth_retrying:
                raise RegistryError(
                    f"cannot fetch blob {descriptor['digest']} of {self.reference.familiar()}: "
                    f"{error.message}"
                )
            self._transport.wait(BACKOFF * 2**failed)

    def _part(self, descriptor: Mapping[str, Any], start: int) -> Iterator[bytes]:
        """What one request brings of a blob from START on; raises Unreachable where it breaks."""
        size = int(descriptor["size"])
        path = f"/v2/{self._path}/blobs/{descriptor['digest']}"
        response = self._transport.get(path, self._scope, start=start)
        try:
            skip = self._offset(response, descriptor, start)
            left = size - start
            for chunk in response.stream(CHUNK, decode_content=False):
                data = chunk[skip:]
                skip = max(0, skip - len(chunk))
                left -= len(data)
                if left < 0:
                    raise DigestMismatchError(
                        f"cannot verify blob {descriptor['digest']}: it has more than {size} bytes"
                    )
                if data:
                    yield data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise failures.unreachable(self._transport.host, error) from None
        finally:
            self._transport.release(response)

    def _offset(self, response: Any, descriptor: Mapping[str, Any], start: int) -> int:
        """How many bytes at the beginning of an answer we have already."""
        if response.status == 200:
            return start
        if response.status == 206:
            told = response.headers.get("Content-Range", "")
            if told.startswith(f"bytes {start}-"):
                return 0
            raise RegistryError(
                f"cannot fetch blob {descriptor['digest']}: asked for bytes from {start}, "
                f"{self._transport.domain} sent {told[:80]!r}"
            )
        body = response.read(65536)
        if response.status == 404:
            raise ImageError(
                f"cannot fetch blob {descriptor['digest']} of {self.reference.familiar()}: "
                "the registry does not have it"
            )
        raise self._status_error(response, body, f"blob {descriptor['digest']}")
