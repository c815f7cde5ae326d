"""The grammar of ``-v`` and ``--mount``.

Both give the same plain mapping (type, source, destination, readonly, ...), from which a MountRequest
is made.  Nothing here looks at the file system except to make a relative source absolute.
"""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.plan import csvline

from .values import boolean, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_BIND_OPTIONS = ("bind", "rbind", "nosuid", "nodev", "noexec", "suid", "dev", "exec")
# Recorded as flags: SELinux labels and hints for other systems, which have no effect; then what has one.
_NO_EFFECT = ("z", "Z", "cached", "delegated", "consistent")
_VOLUME_ONLY = ("copy", "nocopy")
_PODMAN = (
    "U",
    "O",
)  # U: chown to the container's user; O: changes go to the container, not to the source


def volume_flag(text: str, cwd: str, home: str) -> dict[str, Any]:
    """``source:destination[:options]``, or a destination alone (an anonymous volume)."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[-1] or not parts[0]:
        raise UsageError(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return _mount(text, "volume", "", parts[0])
    if not parts[1]:
        raise UsageError(f"invalid volume specification: '{text}'")
    source, destination = parts[0], parts[1]
    kind = "volume"
    if source[0] in "./~":
        kind = "bind"
        if source == "~" or source.startswith("~/"):
            source = home + source[1:]
        source = os.path.normpath(os.path.join(cwd, source))
    mount = _mount(text, kind, source, destination)
    mount["create_source"] = kind == "bind" and not (len(parts) == 3 and "O" in parts[2].split(","))
    for option in parts[2].split(",") if len(parts) == 3 else ():
        _volume_option(mount, option, text)
    if {"U", "O"} <= set(mount["flags"]):
        raise UsageError(f"invalid volume specification: '{text}': U and O exclude each other")
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
    elif option in _VOLUME_ONLY:
        if mount["type"] != "volume":
            raise UsageError(f"invalid volume specification: '{text}': {option} needs a volume")
        mount["flags"].append(option)
    elif option in _NO_EFFECT or option in _PODMAN:
        mount["flags"].append(option)
    elif option:
        raise UsageError(f"invalid volume specification: '{text}': invalid mode: {option}")


def _mount(
    text: str, kind: str, source: str, destination: str, origin: str = "v"
) -> dict[str, Any]:
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
        "origin": origin,
    }


def mount_flag(text: str, cwd: str) -> dict[str, Any]:
    """The comma-separated ``key=value`` form of ``--mount``."""
    try:
        fields = csvline.fields(text)
    except ValueError as error:
        raise UsageError(f"invalid argument {text!r} for --mount: {error}") from None
    pairs = [_pair(field, text) for field in fields]
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
    if kind == "image" and not source:
        raise UsageError(f"invalid argument {text!r} for --mount: source is required")
    mount = _mount(text, kind, source, target, "mount")
    mount["readonly"] = kind == "image"
    for key, value in pairs:
        _mount_key(mount, key, value, text)
    _check_recursion(mount, text)
    return mount


def _check_recursion(mount: dict[str, Any], text: str) -> None:
    """Docker's conditions for bind-recursive=readonly."""
    if mount["recursive"] != "readonly":
        return
    if not mount["readonly"]:
        raise UsageError(
            f"invalid argument {text!r} for --mount: "
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
        )
    if mount["propagation"] not in ("", "rprivate"):
        raise UsageError(
            f"invalid argument {text!r} for --mount: option 'bind-recursive=readonly' requires "
            "'bind-propagation=rprivate' to be specified in conjunction"
        )


_ALIASES = {
    "src": "source",
    "destination": "target",
    "dst": "target",
    "ro": "readonly",
    "chown": "u",
}
_SWITCHES = ("readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src", "u")


def _pair(field: str, text: str) -> tuple[str, str]:
    key, equals, value = field.partition("=")
    key = key.strip().lower()
    key = _ALIASES.get(key, key)
    if not equals:
        if key not in _SWITCHES:
            raise UsageError(
                f"invalid argument {text!r} for --mount: "
                f"invalid field '{field}' must be a key=value pair"
            )
        value = "true"
    return key, value


def _mount_key(mount: dict[str, Any], key: str, value: str, text: str) -> None:
    kind = mount["type"]
    family = key.partition("-")[0]
    if family in ("bind", "tmpfs", "volume", "image") and family not in (key, kind):
        raise UsageError(
            f"invalid argument {text!r} for --mount: "
            f"cannot mix '{family}-*' options with mount type '{kind}'"
        )
    if key in ("type", "source", "target", "consistency"):
        return
    if key == "relabel" and value in ("shared", "private"):
        mount["flags"].append("z" if value == "shared" else "Z")
    elif key == "u" and kind in ("bind", "volume"):
        if boolean("--mount U", value):
            mount["flags"].append("U")
    elif key == "readonly":
        mount["readonly"] = boolean("--mount readonly", value)
        if kind == "image" and not mount["readonly"]:
            raise UsageError(f"invalid argument {text!r} for --mount: an image is mounted readonly")
    elif not _KEYS[kind](mount, key, value, text):
        raise UsageError(
            f"invalid argument {text!r} for --mount: unexpected key '{key}' in '{key}={value}'"
        )


def _bind_key(mount: dict[str, Any], key: str, value: str, text: str) -> bool:
    """Take a key of type bind; False for an unknown one."""
    if key == "bind-propagation":
        if value not in _PROPAGATIONS:
            raise UsageError(
                f"invalid argument {text!r} for --mount: invalid propagation {value!r}"
            )
        mount["propagation"] = value
    elif key == "bind-recursive":
        if value not in ("enabled", "disabled", "writable", "readonly"):
            raise UsageError(
                f"invalid argument {text!r} for --mount: invalid value for bind-recursive: {value}"
            )
        mount["recursive"] = value
    elif key == "bind-nonrecursive":
        if boolean("--mount bind-nonrecursive", value):
            mount["recursive"] = "disabled"
    elif key == "bind-create-src":
        mount["create_source"] = boolean("--mount bind-create-src", value)
    else:
        return False
    return True


def _tmpfs_key(mount: dict[str, Any], key: str, value: str, text: str) -> bool:
    if key == "tmpfs-size":
        mount["options"].append(f"size={size('--mount tmpfs-size', value)}")
    elif key == "tmpfs-mode":
        if not value or value.strip("01234567"):
            raise UsageError(f"invalid argument {text!r} for --mount: invalid tmpfs-mode {value!r}")
        mount["options"].append(f"mode={value}")
    else:
        return False
    return True


def _volume_key(mount: dict[str, Any], key: str, value: str, text: str) -> bool:
    if key == "volume-nocopy":
        if boolean("--mount volume-nocopy", value):
            mount["flags"].append("nocopy")
    elif key == "volume-subpath":
        mount["flags"].append(f"{key}={_subpath(value, text)}")
    elif key in ("volume-driver", "volume-opt", "volume-label"):
        if key != "volume-label" and not value.partition("=")[0]:
            raise UsageError(f"invalid argument {text!r} for --mount: {key} has no value")
        mount["flags"].append(f"{key}={value}")
    else:
        return False
    return True


def _image_key(mount: dict[str, Any], key: str, value: str, text: str) -> bool:
    if key != "image-subpath":
        return False
    mount["flags"].append(f"{key}={_subpath(value, text)}")
    return True


_KEYS = {"bind": _bind_key, "tmpfs": _tmpfs_key, "volume": _volume_key, "image": _image_key}


def _subpath(value: str, text: str) -> str:
    """A path inside a volume or an image, which does not say that it leads out (its links cannot)."""
    normal = os.path.normpath(value) if value else ""
    if not value or value.startswith("/") or normal.split("/")[0] == "..":
        raise UsageError(
            f"invalid argument {text!r} for --mount: "
            f"subpath {value!r} must be a relative path within the source"
        )
    return normal
