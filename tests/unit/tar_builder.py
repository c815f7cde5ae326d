"""Tar archives byte by byte, so that a test can break any rule of the format."""

from __future__ import annotations


def header(name: bytes = b"file", kind: bytes = b"0", size: bytes = b"0", **fields: bytes) -> bytes:
    """A ustar header; sums up what it is given, sense or not."""
    block = bytearray(512)
    places = {
        "mode": (100, 8, b"0000644"),
        "uid": (108, 8, b"0000000"),
        "gid": (116, 8, b"0000000"),
        "mtime": (136, 12, b"00000000000"),
        "link": (157, 100, b""),
        "magic": (257, 8, b"ustar\x0000"),
        "devmajor": (329, 8, b"0000000"),
        "devminor": (337, 8, b"0000000"),
        "prefix": (345, 155, b""),
    }
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    for key, (at, _, default) in places.items():
        value = fields.get(key, default)
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = fields.get("checksum", b"%06o\0 " % sum(block))
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes, data: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    return header(name, kind, b"%011o" % len(data), **fields) + padded(data)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    body = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        size = len(rest) + 1
        while len(str(size)) + len(rest) != size:
            size += 1
        body += str(size).encode() + rest
    return member(b"pax", body, kind)
