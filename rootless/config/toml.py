"""Reading TOML: tomllib, or tomli before Python 3.11.  Imported only when a file has changed."""

from __future__ import annotations

import sys

from rootless.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def flat(path: str) -> dict[str, Any]:
    """The file's values by dotted key; raises UsageError where it is not TOML."""
    try:
        with open(path, "rb") as file:
            tree = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot use {path}: {error}") from None
    values: dict[str, Any] = {}
    for section, content in tree.items():
        if isinstance(content, dict):
            values.update({f"{section}.{key}": value for key, value in content.items()})
        else:
            values[section] = content
    return values
