"""DNS messages as bytes: reads questions, builds answers, checks what a server said (RFC 1035, 6891).

Pure.  Everything read comes from containers and networks and is hostile: every offset is checked, compression
pointers may only point backwards, and what does not fit raises :class:`WireError` and nothing else.  Knows the
few record types that are answered here; all else passes through as it is.

A name is text in lower case without the last dot; a byte that is no ordinary character, a dot inside a
label among them, is written ``\\DDD``, so that such a name equals no other.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

A, PTR, MX, AAAA, OPT, ANY = 1, 12, 15, 28, 41, 255  # record types
IN = 1  # the class of the Internet

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

RESPONSE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0100, 0x0080
_OPCODE, _CHECKING_DISABLED = 0x7800, 0x0010
_RCODE = 0x000F

HEADER = 12
SMALL = 512  # what a client takes by UDP that says nothing else
LARGE = 65535
_OUR_SIZE = 4096  # what we take by UDP; all is on the loopback device
_MOST_RECORDS = 64  # of a question; an honest one has two

_header = struct.Struct(">HHHHHH")
_fixed = struct.Struct(">HHIH")  # of a record: type, class, time to live, length
_pair = struct.Struct(">HH")
_ORDINARY = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/+"


class WireError(ValueError):
    """Not a DNS message, or not one of the kind that was expected."""


class Question:
    """What a client asks.

    id, flags    of the message
    name         see above
    kind, klass  type and class of the records that are wanted
    section      the question as it was sent, to be sent back
    limit        bytes that the client takes by UDP
    edns         its EDNS version, or -1 without EDNS
    """

    __slots__ = ("edns", "flags", "id", "kind", "klass", "limit", "name", "section")

    def __init__(
        self,
        id: int,  # noqa: A002
        flags: int,
        name: str,
        kind: int,
        klass: int,
        section: bytes,
    ) -> None:
        self.id = id
        self.flags = flags
        self.name = name
        self.kind = kind
        self.klass = klass
        self.section = section
        self.limit = SMALL
        self.edns = -1


def read_name(data: bytes, offset: int, compressed: bool = True) -> tuple[str, int]:
    """The name at OFFSET and where it ends there; follows pointers unless it may not be COMPRESSED."""
    labels: list[bytes] = []
    end = 0
    barrier = offset  # pointers must point before all that was read, so that they end
    length = 0
    try:
        while True:
            size = data[offset]
            if size == 0:
                offset += 1
                break
            if size < 64:
                label = data[offset + 1 : offset + 1 + size]
                length += size + 1
                if len(label) < size or length > 254:
                    raise WireError("a name is too long")
                labels.append(label)
                offset += size + 1
                continue
            if size < 192 or not compressed:
                raise WireError("a label has a type that does not belong here")
            target = (size & 0x3F) << 8 | data[offset + 1]
            if target >= barrier:
                raise WireError("a compression pointer does not point backwards")
            end = end or offset + 2
            barrier = offset = target
    except IndexError:
        raise WireError("a name is cut off") from None
    return _text(labels), end or offset


def _text(labels: list[bytes]) -> str:
    joined = b"".join(labels)
    if not joined.translate(None, _ORDINARY):
        return b".".join(labels).decode("ascii").lower()
    return ".".join(
        "".join(chr(byte) if byte in _ORDINARY else f"\\{byte:03}" for byte in label)
        for label in labels
    ).lower()


def name_bytes(name: str) -> bytes:
    """NAME as it is sent, uncompressed; raises WireError for one that cannot be."""
    parts = []
    for label in name.rstrip(".").split(".") if name.rstrip(".") else ():
        raw = label.encode("utf-8", "surrogateescape")
        if not 0 < len(raw) < 64:
            raise WireError(f"{label!r} is no label")
        parts.append(bytes((len(raw),)) + raw)
    whole = b"".join(parts) + b"\0"
    if len(whole) > 255:
        raise WireError(f"the name {name!r} is too long")
    return whole


def parse_question(data: bytes) -> Question:
    """The question in a message from a client; raises WireError where :func:`refusal` has to answer."""
    if len(data) < HEADER + 5:
        raise WireError("a message is cut off")
    identity, flags, questions, _, _, additional = _header.unpack_from(data)
    if flags & (RESPONSE | _OPCODE) or questions != 1:
        raise WireError("not a query with one question")
    name, end = read_name(data, HEADER, compressed=False)
    if len(data) < end + 4:
        raise WireError("a question is cut off")
    kind, klass = _pair.unpack_from(data, end)
    question = Question(identity, flags, name, kind, klass, data[HEADER : end + 4])
    if additional and len(data) > end + 4:
        _read_edns(data, end + 4, question)
    return question


def _read_edns(data: bytes, offset: int, question: Question) -> None:
    """Look for the OPT record among those behind the question."""
    _, _, _, answers, authority, additional = _header.unpack_from(data)
    records = answers + authority + additional
    if records > _MOST_RECORDS:
        raise WireError("a question has too many records")
    for _ in range(records):
        _, offset = read_name(data, offset)
        if len(data) < offset + 10:
            raise WireError("a record is cut off")
        kind, size, extended, length = _fixed.unpack_from(data, offset)
        offset += 10 + length
        if offset > len(data):
            raise WireError("a record is cut off")
        if kind == OPT:
            question.limit = max(SMALL, size)
            question.edns = extended >> 16 & 0xFF


def refusal(data: bytes) -> bytes | None:
    """The answer to a message that parse_question() refused; None: to be ignored."""
    if len(data) < HEADER:
        return None
    identity, flags, _, _, _, _ = _header.unpack_from(data)
    if flags & RESPONSE:
        return None
    rcode = NOTIMP if flags & _OPCODE else FORMERR
    kept = flags & (_OPCODE | RECURSION_DESIRED)
    return _header.pack(identity, RESPONSE | kept | rcode, 0, 0, 0, 0)


def record(kind: int, ttl: int, content: bytes) -> bytes:
    """A record of the name that was asked for."""
    return b"\xc0\x0c" + _fixed.pack(kind, IN, ttl, len(content)) + content


def answer(
    question: Question, records: Iterable[bytes] = (), *, rcode: int = NOERROR, limit: int = LARGE
) -> bytes:
    """The answer with as many of the RECORDS as go into LIMIT bytes; TC is set where some do not."""
    flags = RESPONSE | RECURSION_AVAILABLE | rcode & _RCODE
    flags |= question.flags & (RECURSION_DESIRED | _CHECKING_DISABLED)
    tail = b""
    if question.edns >= 0:
        tail = b"\0" + _fixed.pack(OPT, _OUR_SIZE, rcode >> 4 << 24, 0)
    room = limit - HEADER - len(question.section) - len(tail)
    fitting = []
    for one in records:
        room -= len(one)
        if room < 0:
            flags |= TRUNCATED
            break
        fitting.append(one)
    head = _header.pack(question.id, flags, 1, len(fitting), 0, 1 if tail else 0)
    return b"".join((head, question.section, *fitting, tail))


def with_id(data: bytes, identity: int) -> bytes:
    """The same message with another ID."""
    return identity.to_bytes(2, "big") + data[2:]


def rcode_of(data: bytes) -> int:
    """The code of an answer, without EDNS's part."""
    return data[3] & _RCODE


def is_truncated(data: bytes) -> bool:
    """Whether an answer says that it is not the whole one."""
    return bool(data[2] & TRUNCATED >> 8)


def answers(data: bytes, question: Question, identity: int) -> bool:
    """Whether DATA answers QUESTION, asked with the ID IDENTITY.

    A server that could not read the question, or would not, may leave it out.
    """
    if len(data) < HEADER:
        return False
    found, flags, questions, _, _, _ = _header.unpack_from(data)
    if found != identity or not flags & RESPONSE or flags & _OPCODE:
        return False
    if not questions:
        return len(data) == HEADER and flags & _RCODE != NOERROR
    asked, section = question.section, data[HEADER : HEADER + len(question.section)]
    if questions != 1 or section[-4:] != asked[-4:]:
        return False
    return section == asked or section.lower() == asked.lower()


def truncated(data: bytes, question: Question) -> bytes:
    """An answer that says no more than that the whole one goes by TCP only."""
    flags = data[2] << 8 | data[3]
    tail = b"\0" + _fixed.pack(OPT, _OUR_SIZE, 0, 0) if question.edns >= 0 else b""
    head = _header.pack(question.id, flags | TRUNCATED, 1, 0, 0, 1 if tail else 0)
    return head + question.section + tail


def reverse_address(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, else None."""
    labels = name.split(".")
    if len(labels) == 6 and labels[4:] == ["in-addr", "arpa"]:
        numbers = labels[3::-1]
        if all(_is_byte(number) for number in numbers):
            return ".".join(numbers)
    if len(labels) == 34 and labels[32:] == ["ip6", "arpa"]:
        digits = "".join(labels[31::-1])
        if len(digits) == 32 and set(digits) <= set("0123456789abcdef"):
            return ":".join(digits[place : place + 4] for place in range(0, 32, 4))
    return None


def _is_byte(number: str) -> bool:
    return (
        number.isascii()
        and number.isdigit()
        and len(number) < 4
        and int(number) < 256
        and str(int(number)) == number
    )
