"""The grammar of ``-v`` and ``--mount``.

Both give the same plain mapping (type, source, destination, readonly, ...), from which a MountRequest
is made.  Nothing here looks at the file system except to make a relative source absolute.
"""

from __future__ import annotations

import os

from rootless.errors import UsageError

from .values import boolean, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_BIND_OPTIONS = ("bind", "rbind", "nosuid", "nodev", "noexec", "suid", "dev", "exec")
_IGNORED = ("z", "Z", "cached", "delegated", "consistent", "copy", "nocopy", "U", "O")


def volume_flag(text: str, cwd: str, home: str) -> dict[str, Any]:
    """``source:destination[:options]``, or a destination alone (an anonymous volume)."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[-1] or not parts[0]:
        raise UsageError(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return _mount(text, "volume", "", parts[0])
    source, destination = parts[0], parts[1]
    kind = "volume"
    if source[0] in "./~":
        kind = "bind"
        if source == "~" or source.startswith("~/"):
            source = home + source[1:]
        source = os.path.normpath(os.path.join(cwd, source))
    mount = _mount(text, kind, source, destination)
    mount["create_source"] = kind == "bind"
    for option in parts[2].split(",") if len(parts) == 3 else ():
        _volume_option(mount, option, text)
    return mount


def _volume_option(mount: dict[str, Any], option: str, text: str) -> None:
    if option in ("ro", "readonly"):
        mount["readonly"] = True
    elif option == "rw":
        mount["readonly"] = False
    elif option in _PROPAGATIONS:
        if mount["type"] != "bind":
            raise UsageError(f"invalid volume specification: '{text}': {option} needs a bind mount")
        mount["propagation"] = option
    elif option in _BIND_OPTIONS:
        mount["options"].append(option)
    elif option in _IGNORED:
        mount["flags"].append(option)
    elif option:
        raise UsageError(f"invalid volume specification: '{text}': invalid mode: {option}")


def _mount(text: str, kind: str, source: str, destination: str) -> dict[str, Any]:
    if not destination.startswith("/"):
        raise UsageError(
            f"invalid volume specification: '{text}': "
            f"invalid mount path: '{destination}' mount path must be absolute"
        )
    normal = os.path.normpath(destination).replace("//", "/")
    if normal == "/":
        raise UsageError(f"invalid volume specification: '{text}': destination can't be '/'")
    return {
        "type": kind,
        "source": source,
        "destination": normal,
        "readonly": False,
        "options": [],
        "flags": [],
        "propagation": "",
        "recursive": "enabled",
        "create_source": False,
    }


def mount_flag(text: str, cwd: str) -> dict[str, Any]:
    """The comma-separated ``key=value`` form of ``--mount``."""
    pairs = [_pair(field, text) for field in _csv(text)]
    given = dict(pairs)
    kind = given.get("type", "volume")
    if kind not in ("bind", "tmpfs", "volume", "image"):
        raise UsageError(f"invalid argument {text!r} for --mount: unknown mount type {kind!r}")
    target = given.get("target", "")
    if not target:
        raise UsageError(f"invalid argument {text!r} for --mount: target is required")
    source = given.get("source", "")
    if kind == "bind":
        if not source:
            raise UsageError(f"invalid argument {text!r} for --mount: source is required")
        source = os.path.normpath(os.path.join(cwd, source))
    if kind == "tmpfs" and source:
        raise UsageError(f"invalid argument {text!r} for --mount: tmpfs takes no source")
    mount = _mount(text, kind, source, target)
    for key, value in pairs:
        _mount_key(mount, key, value, text)
    return mount


_ALIASES = {"src": "source", "destination": "target", "dst": "target", "ro": "readonly"}


def _pair(field: str, text: str) -> tuple[str, str]:
    key, equals, value = field.partition("=")
    key = key.strip().lower()
    key = _ALIASES.get(key, key)
    if not equals:
        if key not in ("readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
            raise UsageError(
                f"invalid argument {text!r} for --mount: "
                f"invalid field '{field}' must be a key=value pair"
            )
        value = "true"
    return key, value


def _mount_key(mount: dict[str, Any], key: str, value: str, text: str) -> None:
    kind = mount["type"]
    if key in ("type", "source", "target", "consistency"):
        return
    if key == "readonly":
        mount["readonly"] = boolean("--mount readonly", value)
    elif key == "bind-propagation" and kind == "bind":
        if value not in _PROPAGATIONS:
            raise UsageError(
                f"invalid argument {text!r} for --mount: invalid propagation {value!r}"
            )
        mount["propagation"] = value
    elif key == "bind-recursive" and kind == "bind":
        if value not in ("enabled", "disabled", "writable", "readonly"):
            raise UsageError(
                f"invalid argument {text!r} for --mount: invalid value for bind-recursive: {value}"
            )
        mount["recursive"] = value
    elif key == "bind-nonrecursive" and kind == "bind":
        if boolean("--mount bind-nonrecursive", value):
            mount["recursive"] = "disabled"
    elif key == "bind-create-src" and kind == "bind":
        mount["create_source"] = boolean("--mount bind-create-src", value)
    elif key == "tmpfs-size" and kind == "tmpfs":
        mount["options"].append(f"size={size('--mount tmpfs-size', value)}")
    elif key == "tmpfs-mode" and kind == "tmpfs":
        if value.strip("01234567"):
            raise UsageError(f"invalid argument {text!r} for --mount: invalid tmpfs-mode {value!r}")
        mount["options"].append(f"mode={value}")
    elif key in ("volume-nocopy", "volume-subpath", "volume-driver", "volume-opt", "volume-label"):
        if kind != "volume":
            raise UsageError(
                f"invalid argument {text!r} for --mount: "
                f"cannot mix 'volume-*' options with mount type '{kind}'"
            )
        mount["flags"].append(f"{key}={value}")
    elif key == "image-subpath" and kind == "image":
        mount["flags"].append(f"{key}={value}")
    else:
        raise UsageError(
            f"invalid argument {text!r} for --mount: unexpected key '{key}' in '{key}={value}'"
        )


def _csv(text: str) -> list[str]:
    """Split one CSV record: double quotes hold commas, a doubled quote is a quote."""
    fields, field, quoted, index = [], "", False, 0
    while index < len(text):
        char = text[index]
        if char == '"':
            if quoted and text[index + 1 : index + 2] == '"':
                field += '"'
                index += 1
            else:
                quoted = not quoted
        elif char == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            field += char
        index += 1
    if quoted:
        raise UsageError(f"invalid argument {text!r} for --mount: a quote is not closed")
    return [*fields, field]
