"""Capabilities: names, bits, Docker's rules for adding and dropping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import UsageError
from rootless.plan import caps

KERNEL = (6, 1, 0)
NAMES = st.lists(st.sampled_from(caps.NAMES), max_size=8)


def select(add: list[str], drop: list[str], kernel: tuple[int, ...] = KERNEL) -> list[str]:
    return caps.select(add, drop, privileged=False, kernel=kernel)


def test_bits_are_the_kernels() -> None:
    known = {"CHOWN": 0, "SETPCAP": 8, "NET_ADMIN": 12, "SYS_ADMIN": 21, "SETFCAP": 31, "BPF": 39}
    assert {name: caps.BITS["CAP_" + name] for name in known} == known
    assert caps.BITS["CAP_CHECKPOINT_RESTORE"] == 40 == len(caps.NAMES) - 1


def test_dockers_fourteen() -> None:
    assert len(caps.DEFAULT) == 14
    assert caps.mask(select([], [])) == 0xA80425FB  # what `docker run` shows as CapEff


@given(NAMES, NAMES)
def test_default_less_dropped_plus_added(add: list[str], drop: list[str]) -> None:
    chosen = select(add, drop)
    assert set(chosen) == set(caps.DEFAULT) - set(drop) | set(add)
    assert chosen == sorted(chosen, key=caps.BITS.__getitem__)


@given(NAMES, NAMES)
def test_all(add: list[str], drop: list[str]) -> None:
    assert set(select([*add, "ALL"], drop)) == set(caps.NAMES) - set(drop)
    assert set(select(add, [*drop, "all"])) == set(add)


def test_spelling() -> None:
    for word in ("NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_Net_Admin"):
        assert caps.normalize(word) == "CAP_NET_ADMIN"
    for word in ("FOO", "", "CAP_", "NET-ADMIN", "CAP_CAP_CHOWN"):
        with pytest.raises(UsageError) as caught:
            caps.normalize(word)
        assert caught.value.message == f'invalid capability: "{word}"'


def test_unknown_among_the_dropped_is_refused_too() -> None:
    with pytest.raises(UsageError, match="FOO"):
        caps.select([], ["FOO"], privileged=True, kernel=KERNEL)


def test_privileged_is_all_the_kernel_has() -> None:
    counts = {
        kernel: len(caps.select([], ["ALL"], privileged=True, kernel=kernel))
        for kernel in ((4, 18), (5, 8), (5, 9), (6, 1))
    }
    assert counts == {(4, 18): 38, (5, 8): 40, (5, 9): 41, (6, 1): 41}


def test_what_the_kernel_lacks() -> None:
    assert len(select(["ALL"], [], (4, 18, 0))) == 38
    with pytest.raises(UsageError, match=r"CAP_BPF: kernel 4\.18 does not have it"):
        select(["bpf"], [], (4, 18, 0))


def test_mask() -> None:
    assert caps.mask(["CAP_CHOWN", "SYS_ADMIN"]) == 1 | 1 << 21
    assert caps.mask(["ALL"]) == (1 << 41) - 1
    assert caps.mask([]) == 0
