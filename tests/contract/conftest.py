"""The store and realm that the contract suites of a module share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rootless.engine.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = "/dev/shm"
sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))  # rigs of namespaces


def _context(base: Path) -> Iterator[Context]:
    """A context with all that it keeps below BASE; afterwards its realm has ended and its trees are gone."""
    os.chmod(base, 0o755)
    run = base / "run"
    run.mkdir(mode=0o700)
    env = {**os.environ, "XDG_DATA_HOME": str(base / "data"), "XDG_RUNTIME_DIR": str(run)}
    env.pop("ROOTLESS_STORAGE_ROOT", None)
    context = Context.load(env)
    holder = context.realm.pid
    yield context
    trees = [f"{context.paths.data_root}/{name}" for name in ("layers", "trash")]
    context.remove_trees([*trees, str(base / "trees")])
    os.kill(holder, signal.SIGTERM)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A context on the filesystem of the tests' other files."""
    yield from _context(tmp_path_factory.mktemp("snapshot"))


@pytest.fixture(scope="module")
def memory_ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A context in memory, for suites that make very many files, where tmpfs can hold layers (Linux 6.6)."""
    if not _holds_layers(MEMORY):
        yield from _context(tmp_path_factory.mktemp("snapshot"))
        return
    base = Path(tempfile.mkdtemp(prefix="rootless-", dir=MEMORY))
    yield from _context(base)
    shutil.rmtree(base)


def _holds_layers(directory: str) -> bool:
    try:
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            os.setxattr(file.name, "user.probe", b"1")
    except OSError:
        return False
    return True
