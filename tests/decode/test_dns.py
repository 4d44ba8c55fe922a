"""DNS messages as text, with dnspython as the witness."""

from __future__ import annotations

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxtool.decode.dns import TYPES, parse

HEADER = bytes.fromhex("1234 8180 0001 0001 0000 0000")
QUESTION = b"\3web\0\0\1\0\1"
A_RECORD = bytes.fromhex("c00c 0001 0001 00000258 0004 0a000102")


def response(*records: str) -> bytes:
    message = dns.message.make_response(dns.message.make_query("web.example.", "A", id=7))
    for record in records:
        name, ttl, kind, data = record.split(" ", 3)
        message.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return message.to_wire(max_size=65535)


PRESENTED = {
    "A": ("10.0.1.2", "10.0.1.2"),
    "AAAA": ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
    "CNAME": ("Web.Example.", "Web.Example"),
    "NS": ("ns1.example.", "ns1.example"),
    "PTR": ("web.1.abc.net.", "web.1.abc.net"),
    "DNAME": (".", "."),
    "MX": ("10 mail.example.", "10 mail.example"),
    "SRV": ("1 2 8080 web.example.", "1 2 8080 web.example"),
    "TXT": ('"v=1; a" "say \\"hi\\" \\007"', '"v=1; a" "say \\"hi\\" \\007"'),
    "HINFO": ('"cpu" "os"', '"cpu" "os"'),
    "SOA": ("a. b. 1 2 3 4 5", "a b 1 2 3 4 5"),
    "CAA": ('0 issue "ca.example"', '0 issue "ca.example"'),
    "RP": ("a.b. c.d.", "a.b c.d"),
    "AFSDB": ("1 afs.example.", "1 afs.example"),
    "HTTPS": ("\\# 5 0001000001", "\\# 5 0001000001"),
    "TYPE65280": ("\\# 2 abcd", "\\# 2 abcd"),
    "NULL": ("\\# 0", "\\# 0"),
}


@pytest.mark.parametrize("kind", PRESENTED)
def test_data_is_written_in_presentation_format(kind: str) -> None:
    given_text, expected = PRESENTED[kind]
    wire = (
        HEADER + QUESTION + b"\xc0\x0c" + dns.rdatatype.from_text(kind).to_bytes(2, "big") + bytes.fromhex("0001 0000003c") + _data(kind, given_text)
    )
    message = parse(wire)
    assert message.error is None
    assert [tuple(answer) for answer in message.answers] == [("web", kind, 60, expected)]


def _data(kind: str, text: str) -> bytes:
    generic = text.startswith("\\#")
    data = bytes.fromhex([*text.split(), ""][2]) if generic else dns.rrset.from_text("x.", 1, "IN", kind, text)[0].to_wire() or b""
    return len(data).to_bytes(2, "big") + data


def test_the_types_have_the_names_that_iana_gives_them() -> None:
    known = {number: name for number, name in TYPES.items() if not dns.rdatatype.to_text(dns.rdatatype.RdataType(number)).startswith("TYPE")}
    assert len(known) >= len(TYPES) - 2
    assert known == {number: dns.rdatatype.to_text(dns.rdatatype.RdataType(number)) for number in known}


def test_a_type_without_a_name_is_written_with_its_number() -> None:
    assert parse(HEADER[:6] + bytes(6) + b"\0\xff\0\0\1").questions == ((".", "TYPE65280"),)


def test_case_is_kept_and_compression_followed() -> None:
    message = parse(response("Web.Example. 600 A 10.0.1.2", "mail.Web.Example. 1 MX 5 web.example."))
    assert message.id == 7
    assert [answer.name for answer in message.answers] == ["web.example", "mail.web.example"]  # dnspython compresses without looking at case
    assert parse(HEADER[:6] + bytes(6) + b"\3WeB\0\0\1\0\1").questions == (("WeB", "A"),)


def test_what_is_odd_inside_a_label_is_escaped_as_bind_does() -> None:
    label = bytes(range(1, 63))
    ours = parse(HEADER[:6] + bytes(6) + bytes([len(label)]) + label + b"\0\0\1\0\1").questions[0].name
    assert ours == dns.name.Name([label, b""]).to_text(omit_final_dot=True)
    assert parse(HEADER[:6] + bytes(6) + b"\4a.\\b\2\xff\x1b\0\0\1\0\1").questions[0].name == r"a\.\\b.\255\027"


NAME_255 = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"

BROKEN = {
    "nothing at all": (b"", 0, 0, "not all there"),
    "half a header": (HEADER[:6], 0, 0, "not all there"),
    "a question that ends early": (HEADER + QUESTION[:-1], 0, 0, "question 1 ends early"),
    "a name that ends early": (HEADER + QUESTION[:3], 0, 0, "runs past the end"),
    "an answer that is missing": (HEADER + QUESTION, 1, 0, "runs past the end"),
    "an answer that ends early": (HEADER + QUESTION + A_RECORD[:8], 1, 0, "answer 1 ends early"),
    "data that ends early": (HEADER + QUESTION + A_RECORD[:-1], 1, 0, "claims 4 bytes"),
    "a second answer that is broken": (HEADER[:7] + b"\2" + HEADER[8:] + QUESTION + A_RECORD + A_RECORD[:5], 1, 1, "answer 2 ends early"),
    "a pointer to itself": (HEADER + b"\xc0\x0c\0\1\0\1", 0, 0, "does not lead backwards"),
    "a pointer forwards": (HEADER + b"\xc0\x10\0\1\0\1\0", 0, 0, "does not lead backwards"),
    "a pointer into the header": (HEADER + b"\xc0\x02\0\1\0\1", 0, 0, "into the header"),
    "two pointers at each other": (HEADER + b"\1a\xc0\x0e\xc0\x0c\0\1\0\1", 0, 0, "does not lead backwards"),
    "a pointer cut in half": (HEADER + b"\1a\xc0", 0, 0, "runs past the end"),
    "a label of a type that never came to be": (HEADER + b"\x41a\0\0\1\0\1", 0, 0, "unknown type 0x40"),
    "a name of 256 bytes": (HEADER + b"\1c" + NAME_255 + b"\0\1\0\1", 0, 0, "longer than 255"),
    "an address of three bytes": (HEADER + QUESTION + A_RECORD[:-5] + b"\3" + A_RECORD[-3:], 1, 0, "3 bytes"),
    "a name that outgrows its data": (HEADER + QUESTION + bytes.fromhex("c00c 0005 0001 00000258 0002 036162630000"), 1, 0, "ends at byte"),
    "a string that outgrows its data": (HEADER + QUESTION + bytes.fromhex("c00c 0010 0001 00000258 0002 0561 62636465"), 1, 0, "a string"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_comes_before_the_error_is_kept(what: str) -> None:
    wire, questions, answers, error = BROKEN[what]
    message = parse(wire)
    assert message.error is not None
    assert error in message.error
    assert (len(message.questions), len(message.answers)) == (questions, answers)


def test_a_name_of_255_bytes_is_a_name() -> None:
    assert parse(HEADER[:6] + bytes(6) + NAME_255 + b"\0\1\0\1").error is None


def test_compression_cannot_make_a_message_expand_without_bound() -> None:
    long = b"".join(b"\x3f" + b"\xff" * 63 for _ in range(3)) + b"\0"
    record = bytes.fromhex("c00c 0001 0001 00000000 0004 00000000")
    message = parse(bytes.fromhex("0000 8000 0001 ffff 0000 0000") + long + b"\0\1\0\1" + record * 4000)
    assert message.error is not None
    assert sum(len(answer.name) for answer in message.answers) < 1 << 20


NAMES = st.lists(st.binary(min_size=1, max_size=20), max_size=5).map(lambda labels: dns.name.Name([*labels, b""]))


KINDS = st.sampled_from(sorted(set(PRESENTED) - {"HTTPS", "TYPE65280", "NULL"}))


@given(st.lists(st.tuples(NAMES, KINDS, st.integers(0, 2**31 - 1)), max_size=8), NAMES)
def test_dnspython_reads_the_same(records: list[tuple[dns.name.Name, str, int]], qname: dns.name.Name) -> None:
    made = dns.message.make_response(dns.message.make_query(qname, "A"))
    for name, kind, ttl in records:
        made.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, PRESENTED[kind][0]))
    _same(made.to_wire(max_size=65535))


def _same(wire: bytes) -> None:
    """Whatever dnspython can read, we read, and alike."""
    try:
        theirs = dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=True)
        text = [rrset.to_text(origin=None, want_generic=False) for rrset in theirs.answer]
    except Exception:
        return
    if theirs.opcode() != 0:  # an update's sections mean something else (RFC 2136)
        return
    ours = parse(wire)
    if ours.error and "into the header" in ours.error:
        # A pointer leads to "a prior occurrence of the same name" (RFC 1035 section 4.1.4), and there is none; dnspython does not mind.
        return
    assert ours.error is None
    assert ours.id == theirs.id
    assert [question.name for question in ours.questions] == [rrset.name.to_text(omit_final_dot=True) for rrset in theirs.question]
    for answer, rrset, line in zip(ours.answers, theirs.answer, text, strict=True):
        assert answer.name == rrset.name.to_text(omit_final_dot=True), line
        assert answer.ttl == rrset.ttl or rrset.ttl == 0
        assert answer.type == TYPES.get(int(rrset.rdtype), f"TYPE{int(rrset.rdtype)}")
        if answer.type in PRESENTED and not answer.data.startswith("\\#"):
            # Names in data lose their final dot here; nothing else differs.
            assert answer.data.split(" ") == [_undotted(word, answer.type) for word in rrset[0].to_text().split(" ")]


def _undotted(word: str, kind: str) -> str:
    return word[:-1] if kind not in ("TXT", "HINFO", "CAA") and len(word) > 1 and word.endswith(".") else word


BASES = [
    response("web.example. 600 A 10.0.1.2", "web.example. 600 A 10.0.1.3", "x.web.example. 5 CNAME web.example."),
    response("web.example. 600 SRV 1 2 80 a.b.", "web.example. 60 TXT a b", "example. 1 SOA a.example. b.example. 1 2 3 4 5"),
]


@given(st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6), st.integers(0, 200))
def test_a_broken_message_is_read_as_far_as_it_goes(base: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    wire = bytearray(base)
    for at, value in changes:
        wire[at % len(wire)] = value
    message = parse(bytes(wire[: len(wire) - cut] if cut < len(wire) else wire))
    assert message.error is None or message.error.isascii()
    for words in (*message.questions, *((answer.name, answer.type, answer.data) for answer in message.answers)):
        assert all(word.isascii() and word.isprintable() for word in words)


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(wire: bytes) -> None:
    message = parse(wire)
    assert all(name.isprintable() for name, _ in message.questions)
    assert message.flags == int.from_bytes(wire[2:4], "big") or len(wire) < 4


@given(st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3))
def test_dnspython_reads_a_changed_message_the_same_or_not_at_all(base: bytes, changes: list[tuple[int, int]]) -> None:
    wire = bytearray(base)
    for at, value in changes:
        if at % len(wire) > 3:
            wire[at % len(wire)] = value
    _same(bytes(wire))
