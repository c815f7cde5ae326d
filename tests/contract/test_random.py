"""Random operations on every storage driver's tree and on a plain directory: nobody may see a difference.

A state machine of hypothesis: random layers are shown by the driver, and made as a plain tree from what the
layers say; then each step does the same in both.  At the end, and again after the tree was mounted anew, the
two are the same and the layers are what they were.  ROOTLESS_RANDOM_EXAMPLES=N tries N other examples.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import random_layers
import tree_worker
from deviations import DEVIATIONS
from hypothesis import HealthCheck, Phase, reject, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from random_layers import IDS, MODES, PATHS, SET_IDS, TARGETS, TEXTS
from stacks import FORMATS, WHEN, Session, new_stack

from rootless.drivers import snapshot

if TYPE_CHECKING:
    from rootless.engine.context import Context

EXAMPLES = int(os.environ.get("ROOTLESS_RANDOM_EXAMPLES") or 0)

pytestmark = pytest.mark.requires("subid", "overlay", "fuse")

NO_MEMORY, MOST_GIVEN_UP = f"[Errno {errno.ENOMEM}]", 5  # of all examples

SLOTS = st.integers(0, 1)
PLACES = st.sampled_from([0, 3, 100, 5000])
TIMES = st.sampled_from([0, 1_111_111_111_123_456_789, 1_222_222_222_000_000_001])
NAMES = st.sampled_from(["user.a", "user.b"])


class Known(NamedTuple):
    """What a driver is known not to keep (deviations.py says why), so that it is not asked for here."""

    ignored: tuple[str, ...] = ()  # fields of tree_worker.Found
    fifos: bool = True  # in layers
    set_ids: bool = True
    exchange: bool = True  # of a directory of a layer and a file
    idle: bool = (
        True  # whiteouts that hide nothing: overlay lists them, fuse-overlayfs may say ENOMEM
    )


KNOWN = {
    "overlay": Known(("links",), idle=False),
    "fuse-overlayfs": Known(
        ("links", "mtime"), fifos=False, set_ids=False, exchange=False, idle=False
    ),
}


def moves_directories(driver: str) -> bool:
    """Whether it renames directories of a layer; others answer EXDEV."""
    return "rename_a_directory-dir" not in DEVIATIONS.get(driver, {})


def operations(modes: st.SearchStrategy[int], known: Known) -> st.SearchStrategy[tuple[Any, ...]]:
    """One operation and its arguments."""
    flags = ["", "", "", "noreplace", *(["exchange"] if known.exchange else [])]
    table: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
        "create": (PATHS, modes, st.booleans()),
        "mkdir": (PATHS, modes),
        "mkfifo": (PATHS,),
        "symlink": (TARGETS, PATHS),
        "link": (PATHS, PATHS),
        "unlink": (PATHS,),
        "rmdir": (PATHS,),
        "rename": (PATHS, PATHS, st.sampled_from(flags)),
        "write": (PATHS, PLACES, TEXTS),
        "append": (PATHS, TEXTS),
        "replace": (PATHS, TEXTS),
        "truncate": (PATHS, PLACES),
        "map": (PATHS, PLACES, TEXTS),
        "read": (PATHS,),
        "chmod": (PATHS, modes),
        "chown": (PATHS, IDS, IDS),
        "utimens": (PATHS, TIMES, TIMES),
        "setxattr": (PATHS, NAMES, TEXTS, st.sampled_from([0, os.XATTR_CREATE, os.XATTR_REPLACE])),
        "removexattr": (PATHS, NAMES),
        "stat": (PATHS,),
        "follow": (PATHS,),
        "readlink": (PATHS,),
        "readdir": (PATHS | st.just(""),),
        "xattrs": (PATHS,),
        "hold": (SLOTS, PATHS),
        "held_write": (SLOTS, PLACES, TEXTS),
        "held_truncate": (SLOTS, PLACES),
        "held_chmod": (SLOTS, modes),
        "held_look": (SLOTS,),
        "restart": (),
    }
    return st.one_of(*(st.tuples(st.just(name), *words) for name, words in table.items()))


class Trees(RuleBasedStateMachine):
    """The driver's tree and the plain one; DRIVER and CTX are set by a subclass."""

    driver: str
    ctx: Context
    given_up = 0

    def __init__(self) -> None:
        super().__init__()
        self.session: Session | None = None
        self.failed = False

    def begin(self, layers: list[random_layers.Layer], layer_format: str) -> None:
        self.stack = new_stack(self.ctx, self.driver, layer_format)
        self.plain = f"{self.stack.directory}/plain"
        for layer in layers:
            self.stack.add(*random_layers.members(layer))
        tree = random_layers.merged(layers)
        entries = [
            (path, one.kind, one.mode, one.uid, one.gid, one.data.decode("latin-1"),
             [(name, value.decode("latin-1")) for name, value in one.xattrs])
            for path, one in random_layers.entries(tree)
        ]  # fmt: skip
        self.open()
        self.ask("build", entries, WHEN)
        self.before = self.ask("fingerprint", self.stack.lowers)
        self.compare("the layers show something else")

    def open(self) -> None:
        merged = f"{self.stack.directory}/merged"
        self.session = self.stack.run(tree_worker.__file__, merged, self.plain)

    def close(self) -> None:
        if self.session:
            session, self.session = self.session, None
            session.close()

    def ask(self, *request: Any) -> Any:
        assert self.session
        try:
            return self.session.ask(request)
        except BaseException as problem:
            self.failed = True
            if self.driver == "fuse-overlayfs" and NO_MEMORY in str(problem):
                type(self).given_up += 1
                # Seen once in some hundred runs, at a directory's first listing: this example says nothing.
                if type(self).given_up <= MOST_GIVEN_UP:
                    reject()
            raise

    def compare(self, what: str) -> None:
        found = self.ask("differences", WHEN, KNOWN.get(self.driver, Known()).ignored)
        self.check(not found, f"{what}: " + "; ".join(found))

    def check(self, good: bool, text: str) -> None:
        if not good:
            self.failed = True
            raise AssertionError(f"{self.driver} ({self.stack.layers.format}): {text}")

    def apply(self, operation: tuple[Any, ...]) -> None:
        if operation[0] == "restart":
            self.close()
            self.open()
            return
        ours, theirs = self.ask(*operation)
        self.check(ours == theirs, f"{operation}: {ours} instead of {theirs}")
        if ours == ["error", "EXDEV"]:
            self.check(not moves_directories(self.driver), f"{operation}: EXDEV")

    def teardown(self) -> None:
        try:
            if self.session and not self.failed:
                self.ask("release")
                self.compare("the trees have parted")
                self.close()
                self.open()
                self.compare("the trees differ after a restart")
                after = self.ask("fingerprint", self.stack.lowers)
                self.check(after == self.before, "a layer was changed")
        finally:
            self.close()


def machine(driver: str, ctx: Context) -> type[Trees]:
    """The state machine of one driver."""
    formats = FORMATS[:1] if driver == "overlay" else FORMATS
    known = KNOWN.get(driver, Known())
    modes = MODES | SET_IDS if known.set_ids else MODES
    layers = random_layers.layers(modes, idle=known.idle, fifos=known.fifos)

    class Machine(Trees):
        @initialize(layers=layers, layer_format=st.sampled_from(formats))
        def begin(self, layers: list[random_layers.Layer], layer_format: str) -> None:
            super().begin(layers, layer_format)

        @rule(operation=operations(modes, known))
        def apply(self, operation: tuple[Any, ...]) -> None:
            super().apply(operation)

    Machine.driver, Machine.ctx = driver, ctx
    return Machine


@pytest.mark.parametrize("driver", snapshot.REGISTRY)
def test_random_operations(memory_ctx: Context, driver: str) -> None:
    run_state_machine_as_test(
        machine(driver, memory_ctx),
        settings=settings(
            max_examples=EXAMPLES or 25,
            stateful_step_count=40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            phases=list(Phase) if EXAMPLES else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
