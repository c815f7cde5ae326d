"""The process that fills, packs and unpacks volumes: ``volumeworker.py VERB WORDS...``

    prepare ROOT [JOB...]   as root of a container's user namespace, beside its assembled root, each JOB
                            three words: fill DESTINATION VOLUME, chown PATH USER, or the flags
                            durable - - (on disk before it is told done) and own - - (what no image
                            fills belongs to the container's root)
    settle VOLUME           put in place what a killed worker had ready
    export DIRECTORY        the content as a tar stream to descriptor 1
    import VOLUME           a tar stream from descriptor 0 into the volume

VOLUME is a volume's directory (``_data`` is in it), flocked while its content is being replaced.  New content
is made beside ``_data`` as ``fill.tmp`` or ``import.tmp``, loses the suffix when it is whole, and is then
moved into ``_data`` entry by entry; ``_data`` itself stays, as containers may have it mounted.  Killed
before the suffix goes, nothing has changed; after it, the next to come moves the rest.

Paths in a container's root are resolved there by the kernel.  The result, or the error, is one line of JSON
on descriptor 3.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import os
import stat
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from rootless.errors import IdMapError, LayerError, RootlessError, UsageError
from rootless.linux import inroot
from rootless.linux.syncfs import syncfs
from rootless.store import files, owners, ownership, treecopy, worker
from rootless.store.decompress import Source
from rootless.store.layerwriter import LayerWriter
from rootless.store.packer import Packer
from rootless.store.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class Content:
    """The content of one volume, locked against other workers."""

    def __init__(self, directory: str) -> None:
        self.name = os.path.basename(directory)
        self.fd = os.open(directory, treecopy.DIRECTORY)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.data = os.open(b"_data", treecopy.DIRECTORY, dir_fd=self.fd)
        self.settle()

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.data)
        os.close(self.fd)

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not os.listdir(self.data)

    def settle(self) -> None:
        """Put in place what is ready; an import replaces what is there, an image's content does not."""
        for name, replace in ((b"fill", False), (b"import", True)):
            try:
                stage = os.open(name, treecopy.DIRECTORY, dir_fd=self.fd)
            except FileNotFoundError:
                continue
            try:
                _merge(stage, self.data, replace=replace)
                _like(stage, self.data)
            finally:
                os.close(stage)
            os.rmdir(name, dir_fd=self.fd)

    def replace(self, name: str, fill: Callable[[int], None], *, durable: bool) -> None:
        """Let FILL(descriptor) make the content NAME, then put it in place; raises what FILL raises."""
        temporary, whole = f"{name}.tmp".encode(), name.encode()
        treecopy.remove_if_there(self.fd, temporary)
        os.mkdir(temporary, 0o755, dir_fd=self.fd)
        stage = os.open(temporary, treecopy.DIRECTORY, dir_fd=self.fd)
        try:
            fill(stage)
            if durable:
                syncfs(stage)
            os.rename(temporary, whole, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except BaseException:
            treecopy.remove_if_there(self.fd, temporary)
            raise
        finally:
            os.close(stage)
        self.settle()
        if durable:
            os.fsync(self.data)


def _like(source: int, target: int) -> None:
    """Give the open directory TARGET what SOURCE has besides its content."""
    treecopy.TreeCopier(target).metadata(source, target, os.fstat(source))


def _kind(name: bytes, directory: int) -> int:
    """The file type of an entry, 0 where there is none."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def _merge(source: int, target: int, *, replace: bool) -> None:
    """Move what is in the directory SOURCE into TARGET; REPLACE says who wins where both have a name."""
    for text in os.listdir(source):
        name = os.fsencode(text)
        mine, theirs = _kind(name, source), _kind(name, target)
        if mine == theirs == stat.S_IFDIR:
            _merge_directory(name, source, target, replace=replace)
            continue
        if theirs and not replace:
            treecopy.remove(source, name)
            continue
        if theirs and stat.S_IFDIR in (mine, theirs):
            treecopy.remove(target, name)
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _merge_directory(name: bytes, source: int, target: int, *, replace: bool) -> None:
    here = os.open(name, treecopy.DIRECTORY, dir_fd=source)
    there = -1
    try:
        there = os.open(name, treecopy.DIRECTORY, dir_fd=target)
        _merge(here, there, replace=replace)
        if replace:
            _like(here, there)
    finally:
        os.close(here)
        if there >= 0:
            os.close(there)
    os.rmdir(name, dir_fd=source)


# the verbs


def _prepare(words: list[str]) -> dict[str, Any]:
    root = os.open(words[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    jobs = [tuple(words[at : at + 3]) for at in range(1, len(words), 3)]
    durable, own = ("durable", "-", "-") in jobs, ("own", "-", "-") in jobs
    filled: dict[str, int] = {}
    chowned: dict[str, int] = {}
    for verb, first, second in jobs:
        if verb == "fill":
            filled[first] = fill(root, os.fsencode(first), second, durable=durable, own=own)
        elif verb == "chown":
            chowned[first] = _chown(first, *owners.lookup(root, second))
    return {"filled": filled, "chowned": chowned}


def _chown(path: str, uid: int, gid: int) -> int:
    """Give PATH and all below it to UID:GID; how many entries changed.  Raises IdMapError, StorageError."""
    try:
        return owners.change(path, uid, gid)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise IdMapError(
                f"cannot give {path} to {uid}:{gid}: the container's ID map does not have that user"
            ) from None
        raise files.failure(f"change the owner of {path}", error) from None


def fill(root: int, destination: bytes, directory: str, *, durable: bool, own: bool) -> int:
    """Give an empty volume the content that the image has at DESTINATION; how many entries came.

    Raises UsageError where the image has a file there, OSError.
    """
    shown = os.fsdecode(destination)
    try:
        found = inroot.open_path(root, destination.lstrip(b"/") or b".")
    except (FileNotFoundError, NotADirectoryError):
        found = -1
    with Content(directory) as content:
        if found < 0:
            if own:
                _own_new(content)
            return 0
        try:
            info = os.fstat(found)
            if not stat.S_ISDIR(info.st_mode):
                raise UsageError(
                    f"cannot mount volume over existing file, file exists {shown}", exit_code=125
                )
            if not content.empty:
                return 0
            return _copy(found, info, content, durable=durable)
        finally:
            os.close(found)


def _copy(found: int, info: os.stat_result, content: Content, *, durable: bool) -> int:
    source = os.open(b"/proc/self/fd/%d" % found, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    counted = [0]

    def copy(stage: int) -> None:
        copier = treecopy.TreeCopier(stage)
        copier.tree(source, stage)
        copier.metadata(source, stage, info)
        counted[0] = copier.files

    try:
        content.replace("fill", copy, durable=durable)
    except OSError as error:
        raise files.failure(f"fill volume {content.name} from the image", error) from None
    finally:
        os.close(source)
    return counted[0]


def _own_new(content: Content) -> None:
    """Give a volume that no image fills to the container's root, if it is the engine's until now."""
    if content.empty and os.fstat(content.data).st_uid == os.fstat(content.fd).st_uid:
        os.fchown(content.data, 0, 0)


def _settle(words: list[str]) -> dict[str, Any]:
    with Content(words[0]):
        return {}


def _export(words: list[str]) -> dict[str, Any]:
    source = os.open(words[0], treecopy.DIRECTORY)
    journal = f"{os.path.dirname(words[0])}/{ownership.JOURNAL}"
    packer = Packer(records=ownership.Records([journal], active=ownership.one_id()))
    packer.one(b".", os.fstat(source), source, b".")
    packer.content(source, b"")
    return packer.close()


def _import(words: list[str]) -> dict[str, Any]:
    source = Source(lambda size: os.read(0, size))
    reader = TarReader(source.next_chunk)
    skipped: dict[str, int] = {}
    recorder = None
    if ownership.one_id():
        recorder = ownership.Recorder(f"{words[0]}/{ownership.JOURNAL}")

    def unpack(stage: int) -> None:
        _like(content.data, stage)
        writer = LayerWriter(stage, plain=True, recorder=recorder)
        try:
            writer.apply(reader)
        except LayerError as error:
            reason = error.message.partition(": ")[2]
            raise LayerError(f"cannot import into volume {content.name}: {reason}") from None
        finally:
            writer.close()
        skipped.update(writer.skipped)
        while source.next_chunk():
            pass

    try:
        with Content(words[0]) as content:
            content.replace("import", unpack, durable=True)
    finally:
        source.close()
    return {"entries": reader.entries, "skipped": skipped}


VERBS = {
    "prepare": (_prepare, "prepare the volumes of"),
    "settle": (_settle, "put the content in place of"),
    "export": (_export, "export"),
    "import": (_import, "import into"),
}


def main(argv: list[str]) -> int:
    """Work as ARGV says; 0, or 1 if an error was reported."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.umask(0)
    act, doing = VERBS[argv[0]]
    try:
        result = act(argv[1:])
    except RootlessError as error:
        worker.report_error(error)
        return 1
    except BrokenPipeError:  # who reads has had enough
        result = {"entries": 0}
    except OSError as error:
        worker.report_error(files.failure(f"{doing} {argv[1]}", error))
        return 1
    worker.report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
