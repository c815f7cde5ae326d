"""Files of URLs for builds, kept below ``cache/build/http`` with what their servers said of them.

A file is asked for again with its ETag and time, and comes again only if it changed.  It is kept under its
digest, which is checked when it is used; a kept file that is no longer what it was comes anew.
"""

from __future__ import annotations

import calendar
import hashlib
import os
import re
import time

from rootless import jsonc
from rootless.builder.remotes import file_name, without_password
from rootless.errors import BuildError, DigestMismatchError
from rootless.store import files
from rootless.store.layers import drop_lock, take_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.registry.download import Answer

_CHECKSUM = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$")
_PIECE = 1 << 20
MAX_TIME = (1 << 36) - 1


class File:
    """What a URL gave: its DIGEST, its time (seconds since 1970), and where it is."""

    __slots__ = ("checksum", "digest", "directory", "modified", "url")

    def __init__(self, url: str, directory: str, digest: str, modified: int, checksum: str) -> None:
        self.url = url
        self.directory = directory
        self.digest = digest
        self.modified = modified
        self.checksum = checksum

    @property
    def name(self) -> str:
        """The name that the file has below its directory."""
        return f"{self.digest[7:]}-{self.modified}"

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self.directory}/{self.name}"

    @property
    def key(self) -> str:
        """What a step's result depends on; with a checksum, that alone."""
        name = file_name(self.url)
        if self.checksum:
            return f"http {self.checksum} {name}"
        return f"http {self.digest} {self.modified} {name}"


class HttpFiles:
    """The files of one user's builds; DIRECTORY is that of the build cache."""

    def __init__(self, directory: str, env: Mapping[str, str]) -> None:
        self._directory = f"{directory}/http"
        self._env = env

    def promised(self, url: str, checksum: str) -> File:
        """What is known of a file of which only the CHECKSUM counts; nobody is asked.  Raises BuildError."""
        if not _CHECKSUM.match(checksum):
            raise BuildError(f"invalid checksum {checksum!r}: it is not sha256:DIGEST")
        return File(url, self._place(url), "", 0, checksum)

    def find(self, url: str, checksum: str = "") -> File:
        """The file of a URL as it is now; raises BuildError, RegistryError, DigestMismatchError."""
        place = self._place(url)
        try:
            files.ensure_dir(place)
            lock = take_lock(f"{place}/lock")
            try:
                return self._current(url, place, checksum)
            finally:
                drop_lock(f"{place}/lock", lock)
        except OSError as error:
            raise files.failure(f"fetch {without_password(url)}", error) from None

    def ready(self, file: File) -> File:
        """FILE with its bytes checked; it is fetched again where they are not there or not right."""
        if file.digest and self._sound(file):
            return file
        if file.digest:
            files.unlink(file.path)
        found = self.find(file.url, file.checksum)
        if found.digest != file.digest and file.digest and not file.checksum:
            raise BuildError(
                f"cannot fetch {without_password(file.url)}: it changed during the build"
            )
        return found

    def _place(self, url: str) -> str:
        return f"{self._directory}/{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()}"

    def _sound(self, file: File) -> bool:
        try:
            return digest_of(file.path, "sha256") == file.digest
        except OSError:
            return False

    def _known(self, place: str) -> dict[str, Any]:
        try:
            record = jsonc.loads(files.read(f"{place}/record"))
            if os.path.isfile(f"{place}/{str(record['digest'])[7:]}-{int(record['modified'])}"):
                return dict(record)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {}

    def _current(self, url: str, place: str, checksum: str) -> File:
        from rootless.registry import download

        known = self._known(place)
        if known:
            kept = File(url, place, str(known["digest"]), int(known["modified"]), checksum)
            if not self._sound(kept):
                known = {}
            elif checksum and _matches(kept.path, kept.digest, checksum):
                return kept
        headers = {}
        if known.get("etag"):
            headers["If-None-Match"] = str(known["etag"])
        if known.get("last_modified"):
            headers["If-Modified-Since"] = str(known["last_modified"])
        answer = download.get(url, self._env, headers)
        try:
            if answer.status == 304 and headers:
                found = kept
                os.utime(f"{place}/record")
            elif answer.status == 200:
                found = self._stored(url, place, answer, checksum)
            else:
                shown = without_password(url)
                raise BuildError(f"cannot fetch {shown}: invalid response status {answer.status}")
        finally:
            answer.close()
        if checksum and not _matches(found.path, found.digest, checksum):
            raise self._mismatch(found, checksum)
        return found

    @staticmethod
    def _mismatch(found: File, checksum: str) -> DigestMismatchError:
        algorithm = checksum.partition(":")[0]
        real = digest_of(found.path, algorithm)
        return DigestMismatchError(
            f"cannot verify {without_password(found.url)}: digest mismatch, it is {real}, not {checksum}"
        )

    def _stored(self, url: str, place: str, answer: Answer, checksum: str) -> File:
        """Put the body of an answer where it belongs."""
        new = f"{place}/new-{os.urandom(6).hex()}"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            running = hashlib.sha256()
            for data in answer.chunks():
                running.update(data)
                files.write_all(fd, data)
            modified = http_time(answer.headers.get("last-modified", ""))
            os.utime(fd, (modified, modified))
            digest = f"sha256:{running.hexdigest()}"
            found = File(url, place, digest, modified, checksum)
            os.rename(new, found.path)
        except BaseException:
            files.unlink(new)
            raise
        finally:
            os.close(fd)
        record = {
            "digest": digest,
            "modified": modified,
            "etag": answer.headers.get("etag", "")[:1024],
            "last_modified": answer.headers.get("last-modified", "")[:128],
            "url": without_password(url),
        }
        files.replace(f"{place}/record", jsonc.dumps(record).encode(), durable=False)
        return found


def digest_of(path: str, algorithm: str) -> str:
    """The digest of a file's bytes; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        running = hashlib.new(algorithm)
        while True:
            data = os.read(fd, _PIECE)
            if not data:
                return f"{algorithm}:{running.hexdigest()}"
            running.update(data)
    finally:
        os.close(fd)


def _matches(path: str, digest: str, checksum: str) -> bool:
    if checksum.startswith("sha256:"):
        return digest == checksum
    return digest_of(path, checksum.partition(":")[0]) == checksum


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = re.compile(
    r"(?:[A-Za-z]+, )?(\d{1,2})[ -]([A-Z][a-z]{2})[ -](\d{4}) (\d\d):(\d\d):(\d\d) (?:GMT|UTC)$"
)


def http_time(text: str) -> int:
    """Seconds since 1970 of a Last-Modified; 0 where there is none that can be read."""
    match = _TIME.match(text.strip())
    if match is None or match[2] not in _MONTHS:
        return 0
    month = _MONTHS.index(match[2]) + 1
    parts = (int(match[3]), month, int(match[1]), int(match[4]), int(match[5]), int(match[6]))
    try:
        return min(max(calendar.timegm(time.struct_time((*parts, 0, 0, 0))), 0), MAX_TIME)
    except (ValueError, OverflowError):
        return 0
