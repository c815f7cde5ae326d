"""DNS messages: what is read, what is built, and that hostile bytes raise one error only."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rootless.drivers.network.netd import dnswire
from rootless.drivers.network.netd.dnswire import WireError


def query(
    name: str,
    kind: int = dnswire.A,
    *,
    identity: int = 7,
    flags: int = 0x0100,
    size: int | None = None,
) -> bytes:
    """A question as a client sends it, with EDNS if it has a SIZE."""
    head = struct.pack(">HHHHHH", identity, flags, 1, 0, 0, 0 if size is None else 1)
    text = head + dnswire.name_bytes(name) + struct.pack(">HH", kind, dnswire.IN)
    return text if size is None else text + b"\0" + struct.pack(">HHIH", dnswire.OPT, size, 0, 0)


def counts(answer: bytes) -> tuple[int, ...]:
    found = struct.unpack(">HHHH", answer[4:12])
    assert isinstance(found, tuple)
    return found


def test_a_question_is_read() -> None:
    question = dnswire.parse_question(query("Web.Back-End_1", dnswire.AAAA, identity=513))
    assert (question.id, question.name, question.kind) == (513, "web.back-end_1", dnswire.AAAA)
    assert (question.klass, question.limit, question.edns) == (dnswire.IN, 512, -1)


def test_edns_tells_what_the_client_takes() -> None:
    question = dnswire.parse_question(query("web", size=1232))
    assert (question.limit, question.edns) == (1232, 0)
    assert dnswire.parse_question(query("web", size=5)).limit == 512


def test_edns_is_found_behind_other_records() -> None:
    extra = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + b"abcd"
    opt = b"\0" + struct.pack(">HHIH", dnswire.OPT, 4000, 1 << 16, 0)
    data = query("web")[:10] + b"\0\2" + query("web")[12:] + extra + opt
    question = dnswire.parse_question(data)
    assert (question.limit, question.edns) == (4000, 1)


def test_a_dot_inside_a_label_is_no_separator() -> None:
    data = query("a")[:12] + b"\7web.net\0" + struct.pack(">HH", 1, 1)
    assert dnswire.parse_question(data).name == "web\\046net"


def test_the_root_is_a_name() -> None:
    assert dnswire.parse_question(query("", 2)).name == ""


def test_a_name_that_points_backwards_is_followed() -> None:
    data = b"x" * 12 + b"\3net\0" + b"\3web\xc0\x0c" + b"rest"
    assert dnswire.read_name(data, 17) == ("web.net", 23)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\xc0\x0c", "backwards"),  # itself
        (b"\xc0\x10\0\0\xc0\x0c", "backwards"),  # forwards
        (b"\1a\xc0\x0c", "backwards"),  # a loop
        (b"\x40aaa", "type"),
        (b"\x80aaa", "type"),
        (b"\x3fabc", "too long"),
        (b"\1a", "cut off"),
        (b"\xc0", "cut off"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\0", "too long"),
    ],
)
def test_a_name_that_is_none(tail: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        dnswire.read_name(b"x" * 12 + tail, 12)


def test_the_longest_name() -> None:
    tail = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"
    assert len(tail) == 255
    name, end = dnswire.read_name(tail, 0)
    assert (len(name), end) == (253, 255)
    assert dnswire.name_bytes(name) == tail
    with pytest.raises(WireError):
        dnswire.name_bytes(name + "b")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        query("web")[:-1],
        query("web")[:14],
        query("web", flags=0x8100),  # an answer
        query("web", flags=0x2000),  # a notification
        query("web")[:4] + b"\0\2" + query("web")[6:],  # two questions
        query("web")[:4] + b"\0\0" + query("web")[6:],  # none
        query("web")[:12] + b"\xc0\x00\0\1\0\1",  # a compressed question
        query("web")[:10] + b"\xff\xff" + query("web")[12:] + b"\0" * 100,
        query("web", size=512)[:-1],
        query("web", size=512)[:-2] + b"\xff\xff",
    ],
)
def test_what_is_no_question(data: bytes) -> None:
    with pytest.raises(WireError):
        dnswire.parse_question(data)


def test_what_is_refused() -> None:
    assert dnswire.refusal(b"short") is None
    assert dnswire.refusal(query("web", flags=0x8000)) is None
    formerr = dnswire.refusal(query("web", identity=77)[:14])
    assert formerr == struct.pack(">HHHHHH", 77, 0x8101, 0, 0, 0, 0)
    notimp = dnswire.refusal(query("web", identity=78, flags=0x2000))
    assert notimp == struct.pack(">HHHHHH", 78, 0xA004, 0, 0, 0, 0)


def test_an_answer_repeats_the_question_as_it_was_spelled() -> None:
    question = dnswire.parse_question(query("WeB"))
    records = [dnswire.record(dnswire.A, 0, bytes((10, 0, 0, n))) for n in (1, 2)]
    answer = dnswire.answer(question, records)
    assert answer[12:20] == b"\3WeB\0\0\1\0"
    assert answer[2:4] == b"\x81\x80"
    assert counts(answer) == (1, 2, 0, 0)
    assert answer.endswith(bytes((10, 0, 0, 2)))
    assert dnswire.answers(answer, question, 7)


def test_an_answer_to_edns_has_edns_and_the_upper_part_of_the_code() -> None:
    question = dnswire.parse_question(query("web", size=4096))
    answer = dnswire.answer(question, rcode=dnswire.BADVERS)
    assert counts(answer) == (1, 0, 0, 1)
    assert dnswire.rcode_of(answer) == 0
    assert answer[-11:] == b"\0" + struct.pack(">HHIH", dnswire.OPT, 4096, 1 << 24, 0)


@pytest.mark.parametrize(("size", "limit"), [(None, 512), (512, 512), (1232, 1232), (4096, 4096)])
def test_what_does_not_fit_is_left_out_and_told(size: int | None, limit: int) -> None:
    question = dnswire.parse_question(query("web", size=size))
    records = [dnswire.record(dnswire.A, 0, bytes(4)) for _ in range(300)]
    answer = dnswire.answer(question, records, limit=question.limit)
    assert dnswire.is_truncated(answer)
    assert limit - 16 < len(answer) <= limit
    assert counts(answer)[1] == (limit - 21 - (0 if size is None else 11)) // 16
    whole = dnswire.answer(question, records)
    assert not dnswire.is_truncated(whole)
    assert counts(whole)[1] == 300


def test_an_answer_is_checked() -> None:
    question = dnswire.parse_question(query("web.example"))
    good = dnswire.answer(question)
    assert dnswire.answers(good.replace(b"web", b"WEB"), question, 7)
    assert not dnswire.answers(good, question, 8)
    assert not dnswire.answers(good[:11], question, 7)
    assert not dnswire.answers(query("web.example"), question, 7)
    assert not dnswire.answers(good.replace(b"web", b"wob"), question, 7)
    other = dnswire.answer(dnswire.parse_question(query("web.example", 65)))
    assert not dnswire.answers(other, dnswire.parse_question(query("web.example", 97)), 7)
    header = struct.pack(">HHHHHH", 7, 0x8001, 0, 0, 0, 0)
    assert dnswire.answers(header, question, 7)
    assert not dnswire.answers(header[:2] + b"\x80\0" + header[4:], question, 7)


def test_a_large_answer_for_a_small_client() -> None:
    question = dnswire.parse_question(query("web", identity=9))
    records = [dnswire.record(dnswire.A, 0, bytes(4)) for _ in range(99)]
    small = dnswire.truncated(dnswire.answer(question, records), question)
    assert dnswire.is_truncated(small)
    assert dnswire.answers(small, question, 9)
    assert counts(small) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.10.in-addr.arpa", "10.2.3.4"),
        ("04.3.2.10.in-addr.arpa", None),
        ("256.3.2.10.in-addr.arpa", None),
        ("3.2.10.in-addr.arpa", None),
        ("x.3.2.10.in-addr.arpa", None),
        ("1.0.0.0." + "0." * 24 + "9.0.d.f.ip6.arpa", "fd09:0000:0000:0000:0000:0000:0000:0001"),
        ("g.0.0.0." + "0." * 24 + "9.0.d.f.ip6.arpa", None),
        ("10.0.0.0." + "0." * 24 + "9.0.d.f.ip6.arpa", None),
        ("0.0.0." + "0." * 24 + "9.0.d.f.ip6.arpa", None),
        ("web", None),
    ],
)
def test_reverse_names(name: str, address: str | None) -> None:
    assert dnswire.reverse_address(name) == address


@given(st.binary(max_size=600))
@example(query("web", size=1232))
@example(query("web") + b"\xc0\x0c" * 40)
def test_hostile_bytes(data: bytes) -> None:
    try:
        question = dnswire.parse_question(data)
    except WireError:
        refusal = dnswire.refusal(data)
        assert refusal is None or len(refusal) == 12
        return
    answer = dnswire.answer(question, [dnswire.record(dnswire.A, 0, bytes(4))], limit=512)
    assert len(answer) <= 512
    assert dnswire.answers(answer, question, question.id)


@given(st.binary(max_size=80), st.integers(0, 90), st.booleans())
def test_hostile_names(data: bytes, offset: int, compressed: bool) -> None:
    try:
        name, end = dnswire.read_name(data, offset, compressed)
    except WireError:
        return
    assert offset < end <= len(data)
    assert len(name.encode("ascii")) <= 4 * 255


@given(st.binary(min_size=1, max_size=120), st.integers(0, 200))
def test_hostile_bytes_behind_a_question(tail: bytes, records: int) -> None:
    data = bytearray(query("web"))
    data[10:12] = records.to_bytes(2, "big")
    try:
        question = dnswire.parse_question(bytes(data) + tail)
    except WireError:
        return
    assert question.name == "web"
    assert question.limit >= 512


@given(st.binary(max_size=100), st.integers(0, 65535))
def test_hostile_answers(data: bytes, identity: int) -> None:
    question = dnswire.parse_question(query("web"))
    if dnswire.answers(data, question, identity):
        assert data[2] & 0x80
        dnswire.rcode_of(data)
        dnswire.is_truncated(data)
        dnswire.truncated(data, question)


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=4))
def test_what_is_written_is_read(labels: list[bytes]) -> None:
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(wire) > 255:
        return
    name, end = dnswire.read_name(wire, 0)
    assert end == len(wire)
    ordinary = b".".join(labels).decode("latin-1").lower()
    if "\\" not in name:
        assert name == ordinary
