"""Digests: ``algorithm:hex`` names the bytes that hash to it."""

from __future__ import annotations

from rootless.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def is_valid(text: str) -> bool:
    """Whether TEXT is a digest by an algorithm of the image spec, or by sha384, which Docker knows too."""
    algorithm, _, value = text.partition(":")
    return len(value) == _LENGTHS.get(algorithm, -1) and _HEX.issuperset(value)


def check(value: object, what: str) -> str:
    """VALUE if it is a digest; raises ImageError naming WHAT it was found in."""
    if not isinstance(value, str) or not is_valid(value):
        shown = repr(value)
        shown = shown if len(shown) <= 160 else shown[:160] + "..."
        raise ImageError(f"cannot use {what}: {shown} is not a digest")
    return value


def chain_id(diff_ids: Sequence[str]) -> str:
    """The name of layers applied one after the other, lowest first, as the image spec has it."""
    from hashlib import sha256

    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
    return chain


def short(digest: str) -> str:
    """The first twelve digits, as people see a layer."""
    return digest.partition(":")[2][:12]
