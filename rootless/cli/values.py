"""Values of single flags: sizes, ulimits, devices, restart policies, stop signals.

Each function takes the text a user typed and gives a plain value, or raises UsageError naming it.
"""

from __future__ import annotations

from rootless.errors import UsageError

_UNITS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_RESTARTS = ("no", "always", "unless-stopped", "on-failure")


def size(flag: str, text: str) -> int:
    """A number of bytes: ``64m``, ``1g``, ``1.5GiB``, ``4096``; powers of 1024."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"invalid argument {text!r} for {flag}: {error}") from None


def parse_size(text: str) -> int:
    """The same; raises ValueError in the words of Docker's parser."""
    at = max(text.rfind(character) for character in "0123456789. ")
    if at < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = text[: at + 1] if text[at] != " " else text[:at]
    suffix = text[at + 1 :].lower()
    if not number or number.strip("0123456789.eE+-") or number[-1] not in "0123456789.":
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax')
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if value < 0:
        raise ValueError(f"invalid size: '{text}'")
    unit, rest = suffix[:1], suffix[1:]
    if suffix and (unit not in _UNITS or rest not in ("", "b", "ib") or (unit == "b" and rest)):
        raise ValueError(f"invalid suffix: '{suffix}'")
    value *= 1 << _UNITS[unit or "b"]
    if value >= 1 << 63:
        raise ValueError(f"invalid size: '{text}'")
    return int(value)


def ulimit(text: str) -> tuple[str, int, int]:
    """``name=soft[:hard]``; -1 is unlimited."""
    name, equals, limits = text.partition("=")
    if not equals or not name:
        raise UsageError(f"invalid ulimit argument: {text}")
    soft, colon, hard = limits.partition(":")
    try:
        low = int(soft)
        high = int(hard) if colon else low
    except ValueError:
        raise UsageError(f"invalid ulimit argument: {text}: limits must be numbers") from None
    if (low > high and high != -1) or (low == -1 and high != -1):
        raise UsageError(
            f"invalid ulimit argument: {text}: "
            f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}"
        )
    return name, low, high


def device(text: str) -> tuple[str, str, str]:
    """``host[:container][:permissions]``."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise UsageError(f"invalid device specification: {text}")
    host, inside, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 2:
        if _is_permissions(parts[1]):
            permissions = parts[1]
        else:
            inside = parts[1]
    elif len(parts) == 3:
        inside, permissions = parts[1] or host, parts[2]
        if not _is_permissions(permissions):
            raise UsageError(f"invalid device mode: {permissions}")
    if not inside.startswith("/"):
        raise UsageError(f"invalid device specification: {text}: {inside} is not an absolute path")
    return host, inside, permissions


def _is_permissions(text: str) -> bool:
    return bool(text) and len(text) <= 3 and not text.strip("rwm")


def restart(text: str) -> tuple[str, int]:
    """``no``, ``always``, ``unless-stopped`` or ``on-failure[:count]``."""
    name, colon, count = text.partition(":")
    if name and name not in _RESTARTS:
        raise UsageError(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if not colon:
        return name or "no", 0
    if name != "on-failure":
        raise UsageError(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if not count.isdigit():
        raise UsageError("invalid restart policy format: maximum retry count must be an integer")
    return name, int(count)


def tmpfs(text: str) -> tuple[str, str]:
    """``destination[:options]``."""
    path, _, options = text.partition(":")
    if not path.startswith("/"):
        raise UsageError(f"invalid tmpfs mount {text!r}: mount path must be absolute")
    return path, options


def extra_host(text: str) -> str:
    """``name:address`` of an --add-host, which may be written with ``=``; the address may be host-gateway."""
    from rootless.plan import addresses

    name, _, address = text.partition("=" if "=" in text else ":")
    why = ""
    if not name or ":" in name or not address:
        why = f'bad format for add-host: "{text}"'
    elif address != "host-gateway":
        if len(address) > 2 and address[0] == "[" and address[-1] == "]":
            address = address[1:-1]
        if addresses.parse(address) is None:
            why = f'invalid IP address in add-host: "{address}"'
    if why:
        raise UsageError(f'invalid argument "{text}" for "--add-host" flag: {why}')
    return f"{name}:{address}"


def boolean(flag: str, text: str) -> bool:
    """The words Go's ParseBool takes."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise UsageError(f"invalid boolean value {text!r} for {flag}")
