"""The effective settings: defaults, then the system's file, the user's file, the environment.

A later source wins, and each value remembers where it came from.  TOML is parsed only when a file has
changed; what was parsed is kept as JSON beside the runtime state, keyed by the files' identity.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import UsageError

from .defaults import DEFAULTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .defaults import Value

SYSTEM_FILE = "/etc/rootless/rootless.toml"


class Settings:
    """Frozen values by dotted key."""

    __slots__ = ("_origins", "_values")

    def __init__(self, values: dict[str, Value], origins: dict[str, str]) -> None:
        self._values = values
        self._origins = origins

    def get(self, key: str) -> Value:
        """The value of KEY; KeyError for a key that is not in the table."""
        return self._values[key]

    def origin(self, key: str) -> str:
        """Where the value came from: "default", a file's path, or an environment variable."""
        return self._origins.get(key, "default")

    def items(self) -> list[tuple[str, Value, str]]:
        """(key, value, origin) of every setting."""
        return [(key, value, self.origin(key)) for key, value in self._values.items()]


def user_file(env: Mapping[str, str]) -> str:
    """Path of the user's own file."""
    base = env.get("XDG_CONFIG_HOME") or f"{env.get('HOME', '/nonexistent')}/.config"
    return f"{base}/rootless/rootless.toml"


def environment_name(key: str) -> str:
    """The variable that sets KEY: storage.driver is ROOTLESS_STORAGE_DRIVER."""
    return "ROOTLESS_" + key.replace(".", "_").upper()


def load(env: Mapping[str, str], uid: int) -> Settings:
    """The settings of user UID; raises UsageError naming the file and key that is wrong."""
    values: dict[str, Value] = dict(DEFAULTS)
    origins: dict[str, str] = {}
    for path in (SYSTEM_FILE, user_file(env)):
        for key, value in _file(path, env, uid).items():
            values[key] = _checked(key, value, path)
            origins[key] = path
    for key in DEFAULTS:
        name = environment_name(key)
        if env.get(name):
            values[key] = _from_text(key, env[name], name)
            origins[key] = f"${name}"
    return Settings(values, origins)


def _file(path: str, env: Mapping[str, str], uid: int) -> dict[str, Any]:
    try:
        info = os.stat(path)
    except OSError:
        return {}
    stamp = f"{path}:{info.st_mtime_ns}:{info.st_size}:{info.st_ino}"
    cache = _cache_path(path, env, uid)
    try:
        with open(cache, "rb") as file:
            cached = jsonc.loads(file.read())
        if cached["stamp"] == stamp:
            return dict(cached["values"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from . import toml

    parsed = toml.flat(path)
    try:
        temporary = f"{cache}.{os.getpid()}"
        with open(temporary, "w", encoding="ascii") as file:
            file.write(jsonc.dumps({"stamp": stamp, "values": parsed}))
        os.rename(temporary, cache)
    except (OSError, TypeError):
        pass  # the cache is a convenience
    return parsed


def _cache_path(path: str, env: Mapping[str, str], uid: int) -> str:
    from . import paths

    scope = "system" if path == SYSTEM_FILE else "user"
    return f"{paths.runtime_base(env, uid)}/settings-{scope}.json"


def _checked(key: str, value: object, where: str) -> Value:
    if key not in DEFAULTS:
        raise UsageError(f"cannot use {where}: unknown setting {key!r}")
    wanted = type(DEFAULTS[key])
    if wanted is list and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    if type(value) is not wanted or wanted is list:
        raise UsageError(f"cannot use {where}: {key} must be a {_kind(wanted)}, not {value!r}")
    return value  # type: ignore[return-value]


def _kind(wanted: type) -> str:
    return {str: "string", int: "number", bool: "boolean", list: "list of strings"}[wanted]


def _from_text(key: str, text: str, name: str) -> Value:
    wanted = type(DEFAULTS[key])
    if wanted is int:
        if not text.lstrip("-").isdigit():
            raise UsageError(f"cannot use ${name}: {key} must be a number, not {text!r}")
        return int(text)
    if wanted is list:
        return [part for part in text.split(",") if part]
    return text
