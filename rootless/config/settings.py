"""The effective settings: defaults, then the system's file, the user's file, the environment.

A later source wins, and each value remembers where it came from.  TOML is parsed only when a file has
changed; what was parsed is kept as JSON beside the runtime state, keyed by the files' identity.
"""

from __future__ import annotations

import os
import stat

from rootless import jsonc
from rootless.errors import HostError, UsageError

from . import paths
from .defaults import CHOICES, DEFAULTS, LEAST

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
    scope = "system" if path == SYSTEM_FILE else "user"
    cache = f"{paths.runtime_base(env, uid)}/settings-{scope}.json"
    cached = _cached(cache, stamp, uid)
    if cached is not None:
        return cached
    from . import toml

    parsed = toml.flat(path)
    _keep(cache, {"stamp": stamp, "values": parsed}, uid)
    return parsed


def _cached(cache: str, stamp: str, uid: int) -> dict[str, Any] | None:
    """What was parsed before, if it is of that stamp, and of nobody else's making."""
    try:
        fd = os.open(cache, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        # Below /tmp anybody could have made this directory first: only our own file is believed.
        if info.st_uid != uid or info.st_mode & 0o022 or not stat.S_ISREG(info.st_mode):
            return None
        try:
            found = jsonc.loads(file.read())
            return dict(found["values"]) if found["stamp"] == stamp else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _keep(cache: str, content: dict[str, Any], uid: int) -> None:
    """Write the cache; it is a convenience, so whatever forbids it is no error."""
    temporary = f"{cache}.{os.getpid()}"
    try:
        text = jsonc.dumps(content)  # a date of TOML is not JSON: the check names it
        paths.private(os.path.dirname(cache), uid)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, cache)
    except (OSError, TypeError, HostError):
        pass


def _checked(key: str, value: object, where: str) -> Value:
    if key not in DEFAULTS:
        raise UsageError(f"cannot use {where}: unknown setting {key!r}", hint=_similar(key))
    wanted = type(DEFAULTS[key])
    if wanted is list:
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
    elif wanted is str and isinstance(value, str):
        return _one_of(key, value, where)
    elif type(value) is wanted:
        return _large_enough(key, value, where)  # type: ignore[arg-type]
    raise UsageError(f"cannot use {where}: {key} must be a {_kind(wanted)}, not {value!r}")


def _large_enough(key: str, value: Value, where: str) -> Value:
    least = LEAST.get(key)
    if least is not None and isinstance(value, int) and value < least:
        raise UsageError(f"cannot use {where}: {key} must be at least {least}, not {value}")
    return value


def _one_of(key: str, value: str, where: str) -> str:
    known = CHOICES.get(key)
    if known is not None and value not in known:
        raise UsageError(f"cannot use {where}: {key} must be {' or '.join(known)}, not {value!r}")
    return value


def _similar(key: str) -> str:
    from difflib import get_close_matches

    found = get_close_matches(key, DEFAULTS, 1)
    return f"did you mean {found[0]}?" if found else "conf/rootless.toml lists all settings"


def _kind(wanted: type) -> str:
    return {str: "string", int: "number", list: "list of strings"}[wanted]


def _from_text(key: str, text: str, name: str) -> Value:
    wanted = type(DEFAULTS[key])
    if wanted is list:
        return [part for part in text.split(",") if part]
    if wanted is not int:
        return _one_of(key, text, name)
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"cannot use ${name}: {key} must be a number, not {text!r}") from None
    return _large_enough(key, number, f"${name}")
