"""A query in, a reply out: Docker's embedded resolver (LN19 resolver.go; daemon/libnetwork/resolver.go), without its sockets.

`Resolver.answer` says what to send back, or that the query is to be forwarded and how; `Forwarding` says, reply by reply, what the client gets.
Messages are read and written as bytes, and what a question stands for is remembered until the records change (`Resolver.table`, from which
_serve.pyx answers most queries). Needs nothing but Python itself: the process in which this runs has nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from vxtool.dns.records import Records
from vxtool.model import Engine

__all__ = ["MAX_SERVERS", "TTL", "Forward", "Forwarding", "Resolver", "Sandbox", "Table", "failure", "is_reply"]

TTL = 600
"""Seconds, of every answer (resolver.go respTTL)."""

MAX_SERVERS = 3
"""Of an upstream list only the first three are asked (resolver.go maxExtDNS)."""

A, PTR, MX, AAAA, OPT = 1, 12, 15, 28, 41
_QR, _OPCODE, _AA, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_NOTIFY = 4 << 11  # the one opcode beside 0, a query, that is answered
_NOERROR, _FORMERR, _SERVFAIL, _NXDOMAIN, _NOTIMP, _REFUSED = 0, 1, 2, 3, 4, 5
_SMALLEST, _LARGEST = 512, 65534  # bytes of a reply: without EDNS over UDP, and over TCP
_POINTERS = 127  # of a name: so many labels can it have
_REMEMBERED = 4096  # questions; a flood of others must not grow the table
_REMEMBERED_BYTES = 4 << 20  # of their answers: a name of many tasks can be written in many ways

Table = dict[bytes, tuple[bytes, int] | None]
"""Questions as they are in a query -> their answer records in wire form, one after the other, and the length of each, which is the same for all.

(b"", 0): an answer without records. None: not known here, to be forwarded.
"""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Who asks: the networks it is attached to, in libnetwork's order of search (user overlays, ingress, local ones), and its settings."""

    networks: tuple[str, ...]
    servers: int = 0  # how many upstream servers it has; only the first three count
    ndots_set: bool = False  # the user gave an ndots option
    external: bool = True  # False: only internal networks; nothing can be asked outside


@dataclass(frozen=True, slots=True)
class Forward:
    """Not ours to answer: to be sent, as it is, to the sandbox's servers in turn (`Forwarding`)."""

    query: bytes


class Resolver:
    """Answers for all sandboxes of a lab. Keeps nothing but what it can forget."""

    def __init__(self, records: Records, engine: Engine = Engine.V19_03, random: Random | None = None) -> None:
        self._records = records
        self._engine = engine
        self._random = random or Random()
        self._version = -1
        self._tables: dict[tuple[tuple[str, ...], bool], Table] = {}  # by what of a sandbox decides
        self._questions = self._bytes = 0  # in all of them

    def answer(self, query: bytes, sandbox: Sandbox, tcp: bool = False) -> bytes | Forward | None:
        """The reply, a Forward, or None where the real one stays silent: it is no query, or (19.03) a PTR query that asks for no address.

        Never raises, whatever the bytes. What cannot be read is told so, as the engines' DNS library does it (miekg/dns server.go, acceptfunc.go).
        """
        question = _question(query)
        if question is None:
            return _rejection(query)
        name, kind, end = question
        if not _is_whole(query, end):
            return _error(query, end, _FORMERR)
        table = self.table(sandbox)
        asked = query[12:end]
        try:
            known = table[asked]
        except KeyError:
            try:
                data = self._look_up(name, kind, sandbox)
            except _Silence:
                return None
            known = None if data is None else self._records_of(asked, kind, data)
            table = self._room(sandbox, len(known[0]) if known else 0)
            table[asked] = known
        if known is not None:
            return self._reply(query, end, known, tcp)
        # Today's engine answers for a sandbox that has nobody to ask; 19.03 stays silent (Forwarding), but never asks from inside.
        if not sandbox.external:
            return failure(query)
        return Forward(query)

    def table(self, sandbox: Sandbox) -> Table:
        """What is remembered for such a sandbox. It is right until something is bound or unbound: to be asked for again before it is used again."""
        if self._version != self._records.version:
            self._version = self._records.version
            self._forget()
        return self._tables.setdefault((sandbox.networks, sandbox.ndots_set), {})

    def _room(self, sandbox: Sandbox, size: int) -> Table:
        """The table, with room for one more question."""
        if self._questions >= _REMEMBERED or self._bytes + size > _REMEMBERED_BYTES:
            self._forget()
        self._questions += 1
        self._bytes += size
        return self.table(sandbox)

    def _forget(self) -> None:
        self._tables = {}
        self._questions = self._bytes = 0

    def _look_up(self, name: str, kind: int, sandbox: Sandbox) -> tuple[bytes, ...] | None:
        """What a question stands for, in wire form: addresses, a name, (): nothing. None: not known here."""
        if kind in (A, AAAA, MX):
            addresses = self._addresses(name, sandbox.networks)
            if addresses:
                return tuple(address.packed for address in addresses) if kind == A else ()
            return () if kind != MX and sandbox.ndots_set and "." not in name else None
        return self._pointer(name, sandbox.networks) if kind == PTR else None

    def _records_of(self, asked: bytes, kind: int, data: tuple[bytes, ...]) -> tuple[bytes, int]:
        # 19.03 repeats the whole name in each record and counts it so; today's engine points back at the question.
        name = asked[:-4] if self._engine is Engine.V19_03 else b"\xc0\x0c"
        records = [b"%b%b%b" % (name, struct.pack("!HHIH", kind, 1, TTL, len(one)), one) for one in data]
        return b"".join(records), len(records[0]) if records else 0

    def _addresses(self, name: str, networks: Sequence[str]) -> tuple[IPv4Address, ...]:
        """a.b.c is looked for as a whole in every network, then as a.b in network c, then as a in network b.c. The first that knows it wins."""
        labels = name.split(".")
        for cut in range(len(labels), 0, -1):
            wanted, within = ".".join(labels[:cut]), ".".join(labels[cut:])
            for network in networks:
                if (not within or within == network) and (found := self._records.addresses(network, wanted)):
                    return found
        return ()

    def _pointer(self, name: str, networks: Sequence[str]) -> tuple[bytes, ...] | None:
        lower = name.lower()
        if not lower.endswith((".in-addr.arpa", ".ip6.arpa")):
            if self._engine is Engine.V19_03:
                raise _Silence
            return None
        reversed_, suffix, _ = lower.partition(".in-addr.arpa")
        try:
            address = IPv4Address(".".join(reversed(reversed_.split("."))))
        except ValueError:
            return None
        for network in networks if suffix else ():
            found = self._records.pointer(network, address)
            if found is not None:
                return (_wire_name(f"{found}.{network}"),)
        return None

    def _reply(self, query: bytes, end: int, known: tuple[bytes, int], tcp: bool) -> bytes:
        records, size = known
        count = len(records) // size if size else 0
        kept = min(count, ((_LARGEST if tcp else _udp_size(query, end)) - end) // size) if size else 0
        # All are shuffled, also those that do not fit.
        order = range(count) if count < 2 else self._random.sample(range(count), count)
        asked = int.from_bytes(query[2:4], "big")
        echoed = asked & _OPCODE or asked & (_RD | _CD)  # of a NOTIFY the opcode alone
        flags = _QR | _RA | echoed | (_TC if kept < count and not tcp else 0)
        answers = [records[size * one : size * (one + 1)] for one in order[:kept]]
        return b"".join((query[:2], struct.pack("!HHHHH", flags, 1, kept, 0, 0), query[12:end], *answers))


class _Silence(Exception):
    """The real resolver gives no reply at all."""


def failure(query: bytes, rcode: int = _SERVFAIL) -> bytes:
    """An error, as the resolver itself says it: without "recursion available"."""
    end = (_question(query) or ("", 0, 12))[2]
    flags = _QR | int.from_bytes(query[2:4], "big") & (_RD | _CD) | rcode
    return query[:2] + struct.pack("!HHHHH", flags, 1, 0, 0, 0) + query[12:end]


def _rejection(query: bytes) -> bytes | None:
    """What is said of a message without a question that can be read; None: nothing."""
    if len(query) < 12:
        return None
    flags, *counts = struct.unpack_from("!HHHHH", query, 2)
    if flags & _QR:
        return None
    if flags & _OPCODE not in (0, _NOTIFY):
        return _error(query, 12, _NOTIMP | flags & _OPCODE)
    return None if len(query) == 12 and _acceptable(*counts) else _error(query, 12, _FORMERR)


def _acceptable(questions: int, answers: int, authorities: int, additional: int) -> bool:
    """A query has one question; a NOTIFY may have an answer, a transfer an authority, and EDNS and a signature come after them."""
    return questions == 1 and answers <= 1 and authorities <= 1 and additional <= 2


def _is_whole(query: bytes, end: int) -> bool:
    """Whether the records after the question can be read. A message may end before all that it claims have come."""
    for _ in range(sum(struct.unpack_from("!HHH", query, 6))):
        if end == len(query):
            break
        after = _after_record(query, end)
        if after is None:
            return False
        end = after
    return True


def _error(query: bytes, end: int, code: int) -> bytes:
    """The query's header with an error in it, and its question, if `end` is the end of one."""
    kept = int.from_bytes(query[2:4], "big") & (_TC | _RD | _RA | _AD | _CD)
    return query[:2] + struct.pack("!HHHHH", _QR | kept | code, int(end > 12), 0, 0, 0) + query[12:end]


class Forwarding:
    """What becomes of one forwarded query: told of each server's reply in turn, it says when to stop and what to send.

    19.03: SERVFAIL, REFUSED, an NXDOMAIN without authority and other errors are held back while there is another server to ask; without any reply
    the client gets none. Today: SERVFAIL and REFUSED are passed over, anything else is the answer; SERVFAIL when nothing is left.
    """

    def __init__(self, forward: Forward, engine: Engine = Engine.V19_03) -> None:
        self._query = forward.query
        self._engine = engine
        self._held: bytes | None = None

    def replied(self, reply: bytes | None) -> bytes | None:
        """A server's reply (None: none came, or it could not be asked). Returns what the client gets, or None: ask the next one."""
        if reply is None or len(reply) < 12 or reply[:2] != self._query[:2]:
            return None
        flags = int.from_bytes(reply[2:4], "big")
        rcode = flags & 0xF
        if self._engine is Engine.TODAY:
            return None if rcode in (_SERVFAIL, _REFUSED) else reply
        if rcode == _NOERROR or (rcode == _NXDOMAIN and flags & _AA):
            return reply
        self._held = reply
        return None

    def exhausted(self) -> bytes | None:
        """No server is left: what the client gets; None: nothing."""
        return failure(self._query) if self._engine is Engine.TODAY else self._held


def is_reply(query: bytes, message: bytes) -> bool:
    """Whether a message from an upstream server is a reply to this query: its id, its question, and whole to the end.

    A server that cannot read a query says so without repeating the question.
    """
    question = _question(query)
    if question is None or len(message) < 12 or message[:2] != query[:2]:
        return False
    flags, questions, *records = struct.unpack_from("!HHHHH", message, 2)
    if not flags & _QR or flags & _OPCODE != int.from_bytes(query[2:4], "big") & _OPCODE:
        return False
    if not questions:
        return bool(flags & 0xF == _FORMERR) and not any(records)
    end = question[2]
    name, rest = query[12 : end - 4], query[end - 4 : end]
    if questions != 1 or message[12 : end - 4].lower() != name.lower() or message[end - 4 : end] != rest:
        return False
    for _ in range(sum(records)):
        after = _after_record(message, end)
        if after is None:
            return False
        end = after
    return True


def _after_record(message: bytes, at: int) -> int | None:
    """Where a resource record ends that begins at `at`; None: it ends nowhere."""
    name = _after_name(message, at)
    if name is None or name + 10 > len(message):
        return None
    end = name + 10 + int.from_bytes(message[name + 8 : name + 10], "big")
    return end if end <= len(message) else None


def _after_name(message: bytes, at: int) -> int | None:
    """Where a name ends that begins at `at`; None: it ends nowhere. Pointers may be followed only so often: a name can lead in a circle."""
    end, length, pointers = None, 0, 0
    while at < len(message):
        size = message[at]
        if size >= 0xC0:
            pointers += 1
            end = at + 2 if end is None else end
            at = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            if end > len(message) or pointers > _POINTERS:
                return None
            continue
        length += size + 1
        if size > 63 or length > 255:
            return None
        if size == 0:
            return at + 1 if end is None else end
        at += size + 1
    return None


def _question(query: bytes) -> tuple[str, int, int] | None:
    """The question: its name without the final dot, its type, and where it ends in the message. None: there is none that can be read."""
    if len(query) < 17:
        return None
    flags, *counts = struct.unpack_from("!HHHHH", query, 2)
    if flags & _QR or flags & _OPCODE not in (0, _NOTIFY) or not _acceptable(*counts):
        return None
    labels, at = [], 12
    while at < len(query) and (length := query[at]):
        if length > 63 or at + 1 + length > len(query):
            return None
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1").replace(".", "\\."))
        at += 1 + length
    if at + 5 > len(query) or at - 12 > 254:
        return None
    return ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big"), at + 5


def _udp_size(query: bytes, end: int) -> int:
    """How long a reply over UDP may be: what the query's OPT record says, at least 512 bytes (RFC 6891 section 6.2.3)."""
    before, additional = sum(struct.unpack_from("!HH", query, 6)), int.from_bytes(query[10:12], "big")
    for number in range(before + additional):
        if number >= before and query[end : end + 3] == b"\0\0\x29" and end + 5 <= len(query):
            return max(_SMALLEST, int.from_bytes(query[end + 3 : end + 5], "big"))
        after = _after_record(query, end)
        if after is None:
            break
        end = after
    return _SMALLEST


def _wire_name(name: str) -> bytes:
    """A name whose labels may hold anything but dots. Raises nothing: labels too long for the wire are cut, as no real name has them."""
    labels = [label.encode("latin-1", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
