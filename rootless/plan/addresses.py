"""IP and MAC addresses as numbers: parsing, showing, prefixes.

Pure, and by hand: `run` parses an address or two, and the standard library's module for it costs more to load
than the rest of that command.  An address is (version, number), a prefix (version, number, bits) with no bit
set below its length.  The grammar is that of Go's net package: no leading zeros, no zones.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    Address = tuple[int, int]
    Prefix = tuple[int, int, int]
    MaybeAddress = Optional[Address]

WIDTH = {4: 32, 6: 128}
_HEX = frozenset("0123456789abcdefABCDEF")


def _number(text: str, most: int) -> int:
    """A decimal number without leading zeros, 0 to MOST; -1 for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or (text[0] == "0" and text != "0"):
        return -1
    return int(text) if int(text) <= most else -1


def _parse4(text: str) -> int:
    parts = [_number(part, 255) for part in text.split(".")]
    if len(parts) != 4 or min(parts) < 0:
        return -1
    return parts[0] << 24 | parts[1] << 16 | parts[2] << 8 | parts[3]


def _groups(text: str) -> list[int] | None:
    """The 16-bit groups of one side of ``::``; None where it is malformed."""
    if not text:
        return []
    found: list[int] = []
    parts = text.split(":")
    for at, part in enumerate(parts):
        if "." in part and at == len(parts) - 1:
            number = _parse4(part)
            if number < 0:
                return None
            found += [number >> 16, number & 0xFFFF]
        elif 1 <= len(part) <= 4 and _HEX.issuperset(part):
            found.append(int(part, 16))
        else:
            return None
    return found


def _parse6(text: str) -> int:
    head, double, tail = text.partition("::")
    left = _groups(head)
    right = _groups(tail) if double else []
    if left is None or right is None or (double and head and "." in head):
        return -1
    missing = 8 - len(left) - len(right)
    if missing < 1 if double else missing != 0:
        return -1
    number = 0
    for group in [*left, *[0] * missing, *right]:
        number = number << 16 | group
    return number


def parse(text: str) -> MaybeAddress:
    """The address that TEXT means, or None."""
    version = 6 if ":" in text else 4
    number = _parse6(text) if version == 6 else _parse4(text)
    return None if number < 0 else (version, number)


def show(address: Address) -> str:
    """An address as people write it; IPv6 as RFC 5952 wants it."""
    version, number = address
    if version == 4:
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    groups = [number >> shift & 0xFFFF for shift in range(112, -16, -16)]
    best, length = 0, 0
    at = 0
    while at < 8:
        end = at
        while end < 8 and groups[end] == 0:
            end += 1
        if end - at > length:
            best, length = at, end - at
        at = end + 1
    words = [f"{group:x}" for group in groups]
    if length < 2:
        return ":".join(words)
    return ":".join(words[:best]) + "::" + ":".join(words[best + length :])


def mask(version: int, bits: int) -> int:
    """The netmask of a prefix as a number."""
    width = WIDTH[version]
    return (1 << width) - (1 << (width - bits))


def parse_cidr(text: str) -> tuple[Address, Prefix] | None:
    """(the address as written, the prefix it is in) of ``address/bits``, or None."""
    body, slash, bits_text = text.partition("/")
    address = parse(body)
    if address is None or not slash:
        return None
    version, number = address
    bits = _number(bits_text, WIDTH[version])
    if bits < 0:
        return None
    return address, (version, number & mask(version, bits), bits)


def show_prefix(prefix: Prefix) -> str:
    """A prefix as ``address/bits``."""
    return f"{show(prefix[:2])}/{prefix[2]}"


def contains(prefix: Prefix, address: Address) -> bool:
    """Whether the address is in the prefix."""
    version, number, bits = prefix
    return version == address[0] and address[1] & mask(version, bits) == number


def overlap(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes have an address in common."""
    if one[0] != other[0]:
        return False
    bits = mask(one[0], min(one[2], other[2]))
    return one[1] & bits == other[1] & bits


def parse_mac(text: str) -> str:
    """A MAC address of six bytes as ``02:42:ac:11:00:02``; "" where TEXT is none.

    Written with colons, dashes or, as ``0242.ac11.0002``, with dots.
    """
    if "." in text:
        parts = text.split(".")
        words = [word[at : at + 2] for word in parts for at in (0, 2)]
        good = len(parts) == 3 and all(len(part) == 4 for part in parts)
    else:
        words = text.split("-" if "-" in text else ":")
        good = len(words) == 6 and all(len(word) == 2 for word in words)
    if not good or not all(_HEX.issuperset(word) for word in words):
        return ""
    return ":".join(words).lower()
