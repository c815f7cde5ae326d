"""JSON by the interpreter's C codec alone.

Importing :mod:`json` costs about 8 ms, nearly all of it for :mod:`re`, which only its pure-Python
fallbacks use.  This module drives the same C scanner and encoder directly, so that the hot verbs can
read and write state without it.  It knows nothing of what it reads.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Context:
    """What the C scanner wants to be told; see the json module's JSONDecoder for the meaning."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type,unused-ignore]
_SPACE = " \t\n\r"


def loads(text: str | bytes) -> Any:
    """Parse one JSON document; raises ValueError where it is not one (also when bytes follow it)."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    body = text.strip(_SPACE)
    try:
        value, end = _scan(body, 0)
    except SystemError:  # 3.11 cannot build its own error while json is not imported
        raise ValueError("not JSON") from None
    except StopIteration as stop:
        raise ValueError(f"not JSON at character {stop.value}") from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if end != len(body):
        raise ValueError(f"extra data at character {end}")
    return value


def _refuse(value: object) -> object:
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def dumps(value: Any, *, sort_keys: bool = False, compact: bool = True) -> str:
    """Write VALUE as JSON in one ASCII line; ``compact`` leaves out the spaces after ``,`` and ``:``.

    Text that is not Unicode (a file name read with surrogateescape) survives a round trip.
    """
    key_sep, item_sep = (":", ",") if compact else (": ", ", ")
    encode = _json.make_encoder(
        {},
        _refuse,
        _json.encode_basestring_ascii,
        None,
        key_sep,
        item_sep,
        sort_keys,
        False,
        True,
    )
    return "".join(encode(value, 0))
