"""How the tree of each storage driver behaves, by some hundred small cases; what deviates is a table.

The cases (posix_cases/) all run in one program beside the merged tree, each with objects just made, with
objects of a layer, of two layers, and made again where a layer's were removed.  A plain directory is the
control: there every case has to pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from deviations import DEVIATIONS
from posix_cases import registry, runner
from posix_cases.harness import CASES
from posix_cases.runner import PLAIN
from stacks import FORMATS, archive, new_stack

from rootless.drivers import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.engine.context import Context

KINDS = [
    PLAIN,
    "overlay-overlay",
    *(f"{name}-{kind}" for name in snapshot.REGISTRY if name != "overlay" for kind in FORMATS),
]

pytestmark = pytest.mark.requires("subid", "overlay", "fuse")

Results = dict[str, dict[str, str]]
_LAYERS: list[bytes] = []


@pytest.fixture(autouse=True)
def isolation() -> Iterator[None]:
    """Nothing: all but the first test of a kind read its results, and what makes them is the module's."""
    yield


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What the cases said, by kind; filled when first asked for."""
    return {}


def run(ctx: Context, kind: str) -> Results:
    driver, _, layer_format = kind.rpartition("-")
    stack = new_stack(ctx, driver or "overlay", layer_format if driver else "overlay")
    if kind != PLAIN:
        if not _LAYERS:
            _LAYERS.extend(archive(*members) for members in registry.layers())
        for data in _LAYERS:
            stack.lowers.insert(0, stack.layers.path(stack.unpack(data)))
    session = stack.run(runner.__file__, f"{stack.directory}/merged", kind)
    try:
        found: Results = session.answer()
    finally:
        session.close()
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_case(memory_ctx: Context, results: dict[str, Results], kind: str, name: str) -> None:
    if kind not in results:
        results[kind] = {}
        results[kind] = run(memory_ctx, kind)
    outcome = results[kind].get(name)
    assert outcome, "the cases did not run: see the first failure of this kind"
    known = DEVIATIONS.get(kind.rpartition("-")[0], {}).get(name)
    failed = {origin: text for origin, text in outcome.items() if text}
    if known:
        assert set(failed) == set(known.origins), (
            f"expected to deviate for {', '.join(known.origins)} ({known.reason}): {failed}"
        )
        return
    assert not failed, "\n".join(f"{origin}: {text}" for origin, text in failed.items())


def test_deviations_name_what_exists() -> None:
    for driver, table in DEVIATIONS.items():
        assert driver in snapshot.REGISTRY
        for name, known in table.items():
            assert name in CASES, f"{driver}: no case {name}"
            assert known.origins and set(known.origins) <= set(registry.origins(CASES[name])), name
            assert known.reason
