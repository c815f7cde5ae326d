"""Reading a container's log back from the journal, by journalctl.

Entries come in journalctl's export format and leave as those of engine/logs.py.  What a journal has of a
container depends on who asks, so that whether it can be read at all is looked at first.
"""

from __future__ import annotations

import os
import select
import subprocess
import time

from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Entry = dict[str, Any]

BLOCK = 1 << 16
GRACE = 0.5  # seconds without an entry after which a container that has ended has no more
_OWN = ("CONTAINER_", "IMAGE_NAME", "SYSLOG_", "MESSAGE", "PRIORITY", "_")  # no attributes
_REFUSALS = ("insufficient permissions", "not seeing messages", "No journal files were")


def _command(container_id: str, *words: str) -> list[str]:
    return [
        *("journalctl", "--output=export", "--no-pager", "--quiet"),
        *words,
        f"CONTAINER_ID_FULL={container_id}",
    ]


def check(container_id: str, name: str) -> None:
    """Raise HostError where the journal cannot be read, with what journalctl says about it."""
    env = {**os.environ, "LC_ALL": "C"}
    words = [word for word in _command(container_id, "--lines=1") if word != "--quiet"]
    try:
        done = subprocess.run(words, env=env, capture_output=True, check=False)
    except OSError as error:
        why = (os.strerror(error.errno or 0)).lower()
        raise HostError(
            f"cannot read logs of container {name}: cannot execute journalctl: {why}", exit_code=1
        ) from None
    said = done.stderr.decode("utf-8", "replace")
    if b"CONTAINER_ID_FULL=" in done.stdout:
        return
    if (done.returncode and not done.stdout and said.strip()) or any(
        word in said for word in _REFUSALS
    ):
        lines = [line.removeprefix("Hint: ").strip() for line in said.splitlines() if line.strip()]
        raise HostError(
            f"cannot read logs of container {name}: the journal does not show its entries: {lines[0]}",
            hint="members of the group systemd-journal can read all of the journal",
            exit_code=1,
        )


class Parser:
    """Bytes of the export format in, entries out."""

    def __init__(self) -> None:
        self.data = b""
        self.fields: dict[str, bytes] = {}

    def feed(self, data: bytes) -> list[Entry]:
        """The entries that are complete with DATA."""
        self.data += data
        found: list[Entry] = []
        at = 0
        while True:
            end = self.data.find(b"\n", at)
            if end < 0:
                break
            line = self.data[at:end]
            name, equals, value = line.partition(b"=")
            if not line:
                self._finish(found)
            elif equals:
                self.fields[name.decode("ascii", "replace")] = value
            else:
                size = int.from_bytes(self.data[end + 1 : end + 9], "little")
                start = end + 9
                if len(self.data) < start + size + 1:
                    break
                self.fields[name.decode("ascii", "replace")] = self.data[start : start + size]
                end = start + size
            at = end + 1
        self.data = self.data[at:]
        return found

    def _finish(self, found: list[Entry]) -> None:
        fields, self.fields = self.fields, {}
        if "MESSAGE" in fields:
            found.append(entry(fields))


def entry(fields: dict[str, bytes]) -> Entry:
    """An entry of the journal as one of a json-file log."""
    texts = {key: value.decode("utf-8", "replace") for key, value in fields.items()}
    when = texts.get("SYSLOG_TIMESTAMP", "")
    if not when:
        micros = int(texts.get("__REALTIME_TIMESTAMP") or 0)
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000))
        when = f"{clock}.{micros % 1_000_000:06d}000Z"
    more = texts.get("CONTAINER_PARTIAL_MESSAGE") == "true"
    return {
        "log": texts["MESSAGE"] + ("" if more else "\n"),
        "stream": "stderr" if texts.get("PRIORITY") == "3" else "stdout",
        "time": when,
        "attrs": {key: value for key, value in texts.items() if not key.startswith(_OWN)},
    }


def read(
    container_id: str, *, tail: int = -1, follow: bool = False, alive: Callable[[], bool]
) -> Iterator[list[Entry]]:
    """The container's entries, in blocks; with FOLLOW until ALIVE() is false and none came for a while."""
    words = [f"--lines={tail}"] if tail >= 0 else ["--lines=all"] if follow else []
    words += ["--follow"] if follow else []
    child = subprocess.Popen(_command(container_id, *words), stdout=subprocess.PIPE)
    assert child.stdout is not None
    parser = Parser()
    quiet_since = 0.0
    try:
        while True:
            ready, _, _ = select.select([child.stdout], [], [], 0.1 if follow else None)
            if ready:
                data = os.read(child.stdout.fileno(), BLOCK)
                if not data:
                    return
                quiet_since = 0.0
                yield parser.feed(data)
            elif not alive():
                quiet_since = quiet_since or time.monotonic()
                if time.monotonic() - quiet_since > GRACE:
                    return
    finally:
        child.terminate()
        child.stdout.close()
        child.wait()
