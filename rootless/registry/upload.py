"""Bytes on their way into a repository: blobs that it lacks, then manifests.

A blob that the registry has is not sent, one that it has in another repository is mounted from there.
What is small goes in one request; a large blob in chunks, so that a connection that breaks costs one chunk: the
registry is asked how far it came.  What it answers is hostile: a Location may be relative or on
another host, and only the registry's own sees our credentials.
"""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

import urllib3

from rootless.errors import ImageNotFoundError, RegistryAuthError, RegistryError

from . import failures
from .endpoint import Endpoint
from .transport import BACKOFF, RETRIED, RETRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from rootless.errors import RootlessError
    from rootless.oci.reference import Reference

    from .places import Place

    Source = Callable[[int], Iterator[bytes]]

CHUNK = 64 << 20
MAX_BODY = 1 << 16


class _Restart(Exception):
    """The upload has to begin again."""


class Upload(Endpoint):
    """Uploads to the repository that a reference names.  Safe to share between threads.

    SOURCES are further repositories of the same registry (their paths) that blobs may be mounted from.
    """

    def __init__(
        self,
        reference: Reference,
        env: Mapping[str, str],
        place: Place,
        sources: Sequence[str] = (),
    ) -> None:
        others = [f"repository:{path}:pull" for path in sources if path != place.path]
        scope = " ".join([f"repository:{place.path}:pull,push", *others])
        super().__init__(reference, env, place, scope)

    def _send(self, method: str, target: str, **options: Any) -> tuple[Any, bytes]:
        """(answer, its body)."""
        response = self._transport.send(method, target, self._scope, **options)
        try:
            return response, b"" if method == "HEAD" else response.read(MAX_BODY)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise failures.unreachable(self._transport.host, error) from None
        finally:
            self._transport.release(response)

    def has(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        response, _ = self._send("HEAD", f"/v2/{self._path}/blobs/{digest}")
        return bool(response.status == 200)

    def manifest(self, data: bytes, media_type: str, name: str, digest: str) -> None:
        """Put a manifest or index under a tag or digest; raises RegistryError and others."""
        what = f"manifest for {self.reference.familiar_name}{'@' if ':' in name else ':'}{name}"
        response, body = self._send(
            "PUT",
            f"/v2/{self._path}/manifests/{name}",
            headers={"Content-Type": media_type},
            body=lambda: data,
        )
        if response.status not in (200, 201, 202):
            raise self._refused(response.status, body, what)
        self._check(response, digest, what)

    def blob(self, digest: str, size: int, source: Source, mount: str = "") -> str:
        """Upload a blob: "exists", "mounted" or "pushed".

        SOURCE(start) gives its bytes from START on, as often as it is asked; MOUNT is a repository's path that
        has it.  Raises RegistryError, RegistryAuthError, ImageNotFoundError and what SOURCE raises.
        """
        if self.has(digest):
            return "exists"
        failed = 0
        while True:
            try:
                location = self._begin(digest, mount)
                if not location:
                    return "mounted"
                if size <= CHUNK:
                    self._whole(location, digest, size, source)
                else:
                    self._chunked(location, digest, size, source)
                return "pushed"
            except _Restart as error:
                if failed >= RETRIES:
                    raise RegistryError(f"cannot push blob {digest}: {error}") from None
            except failures.Unreachable as error:
                if failed >= RETRIES or not error.worth_retrying:
                    raise RegistryError(f"cannot push blob {digest}: {error.message}") from None
            failed += 1
            mount = ""
            self._transport.wait(BACKOFF * 2**failed)

    def _begin(self, digest: str, mount: str) -> str:
        """Where to upload to; "" if the blob was mounted from another repository."""
        target = f"/v2/{self._path}/blobs/uploads/"
        if mount and mount != self._path:
            target += f"?mount={quote(digest, safe='')}&from={quote(mount, safe='')}"
        response, body = self._send("POST", target, headers={"Content-Length": "0"})
        if response.status == 201 and mount:
            return ""
        if response.status != 202:
            raise self._refused(response.status, body, f"blob {digest}")
        return self._location(response, target)

    def _location(self, response: Any, asked: str) -> str:
        """The URL that an answer sends us to, which may be said relative to the one ASKED."""
        told = response.headers.get("Location", "")
        try:
            urlsplit(told)
            return urljoin(asked, told) if told else asked
        except ValueError:
            raise RegistryError(
                f"cannot push to {self._transport.domain}: {told[:80]!r} is no URL"
            ) from None

    def _whole(self, location: str, digest: str, size: int, source: Source) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        response, body = self._send(
            "PUT",
            _with_digest(location, digest),
            headers=headers,
            body=(lambda: source(0)) if size else None,
            retry=False,
        )
        self._ended(response, body, digest)

    def _ended(self, response: Any, body: bytes, digest: str) -> None:
        if response.status in RETRIED or response.status in (404, 416):
            raise _Restart(f"{self._transport.domain} answered with status {response.status}")
        if response.status not in (201, 204):
            raise self._refused(response.status, body, f"blob {digest}")
        self._check(response, digest, f"blob {digest}")

    def _check(self, response: Any, digest: str, what: str) -> None:
        told = response.headers.get("Docker-Content-Digest", "")
        if told.partition(":")[0] == digest.partition(":")[0] and told != digest:
            raise RegistryError(f"cannot push {what}: the registry stored it as {told[:80]}")

    def _chunked(self, location: str, digest: str, size: int, source: Source) -> None:
        """In chunks, each begun where the registry says that the one before it ended."""
        at = failed = 0
        while at < size:
            try:
                location, at = self._chunk(location, digest, at, min(CHUNK, size - at), source)
                failed = 0
            except failures.Unreachable as error:
                failed += 1
                if failed > RETRIES or not error.worth_retrying:
                    raise
                self._transport.wait(BACKOFF * 2**failed)
                location, at = self._reached(location)
        headers = {"Content-Length": "0"}
        response, body = self._send(
            "PUT", _with_digest(location, digest), headers=headers, retry=False
        )
        self._ended(response, body, digest)

    def _chunk(
        self, location: str, digest: str, at: int, length: int, source: Source
    ) -> tuple[str, int]:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{at}-{at + length - 1}",
        }
        response, body = self._send(
            "PATCH",
            location,
            headers=headers,
            body=lambda: _first(source(at), length),
            retry=False,
        )
        if response.status in RETRIED:
            raise failures.Unreachable(f"status {response.status}", kind="busy")
        if response.status == 416:
            return self._reached(location)
        if response.status == 404:
            raise _Restart("the registry forgot the upload")
        if response.status not in (201, 202, 204):
            raise self._refused(response.status, body, f"blob {digest}")
        return self._location(response, location), at + length

    def _reached(self, location: str) -> tuple[str, int]:
        """(where to go on, how many bytes the registry has) of an upload that was broken off."""
        response, _ = self._send("GET", location)
        end = response.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
        if response.status != 204 or not (end.isascii() and end.isdigit()):
            raise _Restart("the registry does not say how far it came")
        # "0-0" is what a registry says that has nothing, too: one byte more or less, so begin again.
        if end == "0":
            raise _Restart("the registry has nothing of it")
        return self._location(response, location), int(end) + 1

    def _refused(self, status: int, body: bytes, what: str) -> RootlessError:
        code, detail = failures.error_of(body)
        domain, name = self._transport.domain, self.reference.familiar_name
        shown = f" ({detail})" if detail else ""
        if status in (401, 403) or code == "DENIED":
            known = self._transport.credentials
            message = (
                f"push access denied for {name}: {detail or 'access to the resource is denied'}"
            )
            hint = "" if known else f"run docker login {domain}, or check the name"
            return RegistryAuthError(message, hint=hint)
        if status == 404 or code == "NAME_UNKNOWN":
            return ImageNotFoundError(
                f"cannot push {what}: {domain} has no repository {name}{shown}"
            )
        return RegistryError(f"cannot push {what}: {domain} answered with status {status}{shown}")


def _with_digest(location: str, digest: str) -> str:
    separator = "&" if "?" in location else "?"
    return f"{location}{separator}digest={quote(digest, safe='')}"


def _first(chunks: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The first LENGTH bytes of CHUNKS."""
    for chunk in chunks:
        if length <= 0:
            return
        yield chunk[:length]
        length -= len(chunk)
