"""A DNS message in, its question and answers out as text.

Knows the wire format of RFC 1035 and how its data is written down; refuses to know UDP, TCP, ports, or where a message was found.

Messages come from strangers: whatever the bytes, `parse` returns what could be read and says where that ended. Nothing in its result needs escaping
for a terminal: every character is printable ASCII.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from vxtool.decode._render import ip_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPCODES", "TYPES", "Message", "Question", "Record", "parse"]

TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    10: "NULL",
    12: "PTR",
    13: "HINFO",
    15: "MX",
    16: "TXT",
    17: "RP",
    18: "AFSDB",
    24: "SIG",
    25: "KEY",
    28: "AAAA",
    29: "LOC",
    33: "SRV",
    35: "NAPTR",
    37: "CERT",
    39: "DNAME",
    41: "OPT",
    42: "APL",
    43: "DS",
    44: "SSHFP",
    45: "IPSECKEY",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    49: "DHCID",
    50: "NSEC3",
    51: "NSEC3PARAM",
    52: "TLSA",
    53: "SMIMEA",
    55: "HIP",
    59: "CDS",
    60: "CDNSKEY",
    61: "OPENPGPKEY",
    62: "CSYNC",
    63: "ZONEMD",
    64: "SVCB",
    65: "HTTPS",
    99: "SPF",
    108: "EUI48",
    109: "EUI64",
    249: "TKEY",
    250: "TSIG",
    251: "IXFR",
    252: "AXFR",
    253: "MAILB",
    254: "MAILA",
    255: "ANY",
    256: "URI",
    257: "CAA",
    32768: "TA",
    32769: "DLV",
}
"""Resource record types by number (IANA, DNS parameters); any other number n is written TYPEn (RFC 3597 section 5)."""

OPCODES = {0: "query", 1: "inverse query", 2: "status", 4: "notify", 5: "update", 6: "stateful operations"}
"""Operations by number (RFC 1035 section 4.1.1, RFC 1996, RFC 2136, RFC 8490)."""


class Question(NamedTuple):
    """What is asked."""

    name: str  # no final dot; the root is "."
    type: str  # A, AAAA, PTR, ..., or TYPEn


class Record(NamedTuple):
    """One answer record."""

    name: str  # of its owner
    type: str
    ttl: int  # seconds
    data: str  # in presentation format; \# LENGTH HEX where the type has none here (RFC 3597 section 5)


class Message(NamedTuple):
    """The header's id and flags, the question section and the answer section; the sections after them are not read."""

    id: int
    flags: int  # sixteen bits: qr, opcode, aa, tc, rd, ra, z, rcode
    questions: tuple[Question, ...]
    answers: tuple[Record, ...]
    error: str | None  # why reading ended before the answers did; None: it did not


class _Unreadable(Exception):
    """Why a message cannot be read further; its text becomes `Message.error`."""


_HEADER = Struct(">HHHHH")
_QUESTION = Struct(">HH")
_RECORD = Struct(">HHIH")
_SOA = Struct(">IIIII")

_IN = 1
_HEADER_SIZE = 12
_MAX_TEXT = 1 << 20  # characters of one message's answers: compression could make 5 MB of 64 KB
_MAX_NAME = 255  # bytes on the wire, the root's zero byte included (RFC 1035 section 3.1)
_MAX_JUMPS = 127  # pointers in one name: as many as it can have labels; a longer chain only keeps a reader busy

_QUOTED = {code: f"\\{code:03d}" for code in (*range(0x20), *range(0x7F, 0x100))} | {ord(c): f"\\{c}" for c in '"\\'}
"""Escapes inside "...": a character-string of RFC 1035 section 5.1."""

_LABEL = _QUOTED | {0x20: "\\032"} | {ord(c): f"\\{c}" for c in '().;@$"\\'}
"""Escapes inside a label: what would mean something else in a zone file, as BIND and dnspython write it."""


def parse(message: bytes) -> Message:
    """The id, flags, questions and answers of a message (without the two length bytes that TCP puts before it).

    Never raises. When the message ends early or says something impossible, everything before that place is returned and `error` says what was wrong
    at which byte. Compression pointers are followed only backwards and a name has at most 255 bytes, so that no message takes long.
    """
    number = int.from_bytes(message[:2], "big")
    body = message[2:]
    flags, questions, answers, error = _remembered(body) if len(body) <= _REMEMBERED_SIZE else _sections(body)
    return Message(number, flags, questions, answers, error)


_Sections = tuple[int, tuple[Question, ...], tuple[Record, ...], str | None]


def _sections(body: bytes) -> _Sections:
    """All of a message but its id, from all of its bytes but the first two."""
    if len(body) < 10:
        return int.from_bytes(body[:2], "big") if len(body) >= 2 else 0, (), (), "the header of 12 bytes is not all there"
    # Pointers count from the first byte of the message, so let the positions here count from it too.
    message = b"\0\0" + body
    flags, question_count, answer_count, _, _ = _HEADER.unpack_from(body)
    questions: list[Question] = []
    answers: list[Record] = []
    owners: dict[bytes, str] = {}
    error = None
    text = 0
    at = _HEADER_SIZE
    try:
        for _ in range(question_count):
            name, at = _name(message, at)
            if at + 4 > len(message):
                raise _Unreadable(f"question {len(questions) + 1} ends early at byte {len(message)}")
            kind, _class = _QUESTION.unpack_from(message, at)
            at += 4
            questions.append(Question(name, TYPES.get(kind) or f"TYPE{kind}"))
        for _ in range(answer_count):
            # Nearly every owner is a pointer to a name that another record pointed to already.
            pointer = message[at : at + 2]
            if pointer in owners:
                name = owners[pointer]
                at += 2
            else:
                name, after = _name(message, at)
                if after == at + 2 and pointer[0] >= 0xC0:
                    owners[pointer] = name
                at = after
            if at + 10 > len(message):
                raise _Unreadable(f"answer {len(answers) + 1} ends early at byte {len(message)}")
            kind, class_, ttl, length = _RECORD.unpack_from(message, at)
            at += 10
            end = at + length
            if end > len(message):
                raise _Unreadable(f"answer {len(answers) + 1} claims {length} bytes of data at byte {at}, the message has {len(message) - at} more")
            # The top bit of the class is multicast DNS's cache-flush bit (RFC 6762 section 10.2).
            write = _DATA.get(kind, _generic) if class_ & 0x7FFF == _IN else _generic
            data = write(message, at, end)
            text += len(name) + len(data)
            if text > _MAX_TEXT:
                raise _Unreadable(f"answer {len(answers) + 1} brings the text to more than {_MAX_TEXT:,} characters")
            answers.append(Record(name, TYPES.get(kind) or f"TYPE{kind}", ttl, data))
            at = end
    except _Unreadable as unreadable:
        error = str(unreadable)
    return flags, tuple(questions), tuple(answers), error


# The same few questions and answers come by again and again, with another id each. Long messages are not kept: compression lets 12 bytes stand for a
# kilobyte of text, and what a stranger makes us remember must stay small (here: some 20 MB at worst).
_REMEMBERED_SIZE = 512
_remembered = lru_cache(maxsize=1024)(_sections)


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name that begins at `at` and the position after it (RFC 1035 sections 3.1 and 4.1.4)."""
    labels: list[str] = []
    size = 1
    after = -1  # where the caller goes on: behind the first pointer, if any
    lowest = at  # every pointer must lead to before all that was read so far: no loops
    jumps = 0
    try:
        while length := message[at]:
            if length < 0x40:
                end = at + 1 + length
                size += length + 1
                if size > _MAX_NAME:
                    raise _Unreadable(f"a name longer than {_MAX_NAME} bytes at byte {lowest}")
                if end > len(message):
                    raise IndexError
                labels.append(message[at + 1 : end].decode("latin-1").translate(_LABEL))
                at = end
            elif length >= 0xC0:
                target = (length & 0x3F) << 8 | message[at + 1]
                if target >= lowest:
                    raise _Unreadable(f"a compression pointer at byte {at} that does not lead backwards")
                if target < _HEADER_SIZE:
                    raise _Unreadable(f"a compression pointer at byte {at} that leads into the header, where no name is")
                jumps += 1
                if jumps > _MAX_JUMPS:
                    raise _Unreadable(f"a name of more than {_MAX_JUMPS} compression pointers at byte {at}")
                if after < 0:
                    after = at + 2
                at = lowest = target
            else:
                raise _Unreadable(f"a label of unknown type 0x{length & 0xC0:02x} at byte {at}")
    except IndexError:
        raise _Unreadable(f"a name that runs past the end of the message at byte {at}") from None
    return ".".join(labels) or ".", at + 1 if after < 0 else after


# --------------------------------------------------------------------------------------------------------------------
# Data of a record as text: (message, first byte, byte after the last) -> presentation format.
# --------------------------------------------------------------------------------------------------------------------


def _generic(message: bytes, at: int, end: int) -> str:
    return f"\\# {end - at} {message[at:end].hex()}".rstrip()


def _wants(size: int, at: int, end: int) -> None:
    if end - at != size:
        raise _Unreadable(f"data of {end - at} bytes at byte {at} where the type has {size}")


def _a(message: bytes, at: int, end: int) -> str:
    _wants(4, at, end)
    return "{}.{}.{}.{}".format(*message[at:end])


def _aaaa(message: bytes, at: int, end: int) -> str:
    _wants(16, at, end)
    return ip_text(int.from_bytes(message[at : at + 8], "big"), int.from_bytes(message[at + 8 : end], "big"), 6)


def _names(before: int, count: int) -> Callable[[bytes, int, int], str]:
    """`before` 16-bit numbers, then `count` names: the form of CNAME, MX, SRV and others."""

    def write(message: bytes, at: int, end: int) -> str:
        words = []
        for _ in range(before):
            if at + 2 > end:
                raise _Unreadable(f"data that ends early at byte {end}")
            words.append(str(message[at] << 8 | message[at + 1]))
            at += 2
        for _ in range(count):
            name, at = _name(message, at)
            words.append(name)
        if at != end:
            raise _Unreadable(f"a name in the data of a record ends at byte {at}, the data at byte {end}")
        return " ".join(words)

    return write


def _soa(message: bytes, at: int, end: int) -> str:
    primary, at = _name(message, at)
    mailbox, at = _name(message, at)
    _wants(20, at, end)
    return " ".join((primary, mailbox, *map(str, _SOA.unpack_from(message, at))))


def _strings(message: bytes, at: int, end: int) -> str:
    strings = []
    while at < end:
        stop = at + 1 + message[at]
        if stop > end:
            raise _Unreadable(f"a string at byte {at} that runs past the end of its record")
        strings.append('"' + message[at + 1 : stop].decode("latin-1").translate(_QUOTED) + '"')
        at = stop
    return " ".join(strings)


def _caa(message: bytes, at: int, end: int) -> str:
    """RFC 8659 section 4.1: flags, the length of the tag, the tag, the value."""
    if at + 2 > end or (value := at + 2 + message[at + 1]) > end:
        raise _Unreadable(f"a CAA record that ends early at byte {end}")
    tag = message[at + 2 : value].decode("latin-1").translate(_LABEL)
    return f'{message[at]} {tag} "{message[value:end].decode("latin-1").translate(_QUOTED)}"'


_DATA = {
    1: _a,
    2: _names(0, 1),  # NS
    5: _names(0, 1),  # CNAME
    6: _soa,
    12: _names(0, 1),  # PTR
    13: _strings,  # HINFO
    15: _names(1, 1),  # MX
    16: _strings,  # TXT
    17: _names(0, 2),  # RP
    18: _names(1, 1),  # AFSDB
    28: _aaaa,
    33: _names(3, 1),  # SRV
    39: _names(0, 1),  # DNAME
    99: _strings,  # SPF
    257: _caa,
}
