"""A query in, a reply out: Docker's embedded resolver (LN19 resolver.go; daemon/libnetwork/resolver.go), without its sockets.

`Resolver.answer` says what to send back, or that the query is to be forwarded and how; `Forwarding` says, reply by reply, what the client gets.
Messages that are as simple as nearly all are (one question, at most an OPT record) are read and written here as bytes, and what a question stands
for is remembered until the records change; all others go through dnspython.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode

from vxtool.dns.records import Records
from vxtool.model import Engine

__all__ = ["MAX_SERVERS", "TTL", "Forward", "Forwarding", "Resolver", "Sandbox"]

TTL = 600
"""Seconds, of every answer (resolver.go respTTL)."""

MAX_SERVERS = 3
"""Of an upstream list only the first three are asked (resolver.go maxExtDNS)."""

A, PTR, MX, AAAA, OPT = 1, 12, 15, 28, 41
_QR, _OPCODE, _TC, _RD, _RA, _CD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010
_SERVFAIL = 2
_SMALLEST, _LARGEST = 512, 65534  # bytes of a reply: without EDNS over UDP, and over TCP
_REMEMBERED = 4096  # questions; a flood of others must not grow the table


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


@dataclass(frozen=True, slots=True)
class _Known:
    """What a question stands for: no records at all (an empty answer), addresses, or a name; `None` in its place: not known here."""

    data: tuple[bytes, ...]  # of each answer record, in wire form
    kind: int


class Resolver:
    """Answers for all sandboxes of a lab. Keeps nothing but what it can forget."""

    def __init__(self, records: Records, engine: Engine = Engine.V19_03, random: Random | None = None) -> None:
        self._records = records
        self._engine = engine
        self._random = random or Random()
        self._version = -1
        self._remembered: dict[tuple[tuple[str, ...], bool, bytes], _Known | None] = {}

    def answer(self, query: bytes, sandbox: Sandbox, tcp: bool = False) -> bytes | Forward | None:
        """The reply, a Forward, or None where the real one stays silent: it is no query, or (19.03) a PTR query that asks for no address.

        Never raises, whatever the bytes.
        """
        question = _question(query)
        if question is None:
            return None
        name, kind, end = question
        key = (sandbox.networks, sandbox.ndots_set, query[12:end])
        if self._version != self._records.version:
            self._remembered.clear()
            self._version = self._records.version
        try:
            known = self._remembered[key]
        except KeyError:
            try:
                known = self._look_up(name, kind, sandbox)
            except _Silence:
                return None
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = known
        if known is not None:
            return self._reply(query, end, known, tcp)
        # Today's engine answers for a sandbox that has nobody to ask; 19.03 stays silent (Forwarding), but never asks from inside.
        if not sandbox.external:
            return failure(query)
        return Forward(query)

    def _look_up(self, name: str, kind: int, sandbox: Sandbox) -> _Known | None:
        if kind in (A, AAAA, MX):
            addresses = self._addresses(name, sandbox.networks)
            if addresses:
                return _Known(tuple(address.packed for address in addresses) if kind == A else (), kind)
            if kind != MX and sandbox.ndots_set and "." not in name:
                return _Known((), kind)
            return None
        if kind == PTR:
            return self._pointer(name, sandbox.networks)
        return None

    def _addresses(self, name: str, networks: Sequence[str]) -> tuple[IPv4Address, ...]:
        """a.b.c is looked for as a whole in every network, then as a.b in network c, then as a in network b.c. The first that knows it wins."""
        labels = name.split(".")
        for cut in range(len(labels), 0, -1):
            wanted, within = ".".join(labels[:cut]), ".".join(labels[cut:])
            for network in networks:
                if (not within or within == network) and (found := self._records.addresses(network, wanted)):
                    return found
        return ()

    def _pointer(self, name: str, networks: Sequence[str]) -> _Known | None:
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
                return _Known((_wire_name(f"{found}.{network}"),), PTR)
        return None

    def _reply(self, query: bytes, end: int, known: _Known, tcp: bool) -> bytes:
        data = list(known.data)
        if len(data) > 1:
            self._random.shuffle(data)
        most = _LARGEST if tcp else _udp_size(query, end)
        # 19.03 repeats the whole name in each record and counts it so; today's engine points back at the question.
        name = query[12 : end - 4] if self._engine is Engine.V19_03 else b"\xc0\x0c"
        kept, size = [], end
        for one in data:
            size += len(name) + 10 + len(one)
            if size > most:
                break
            kept.append(b"%b%b%b" % (name, struct.pack("!HHIH", known.kind, 1, TTL, len(one)), one))
        flags = _QR | _RA | int.from_bytes(query[2:4], "big") & (_RD | _CD) | (_TC if len(kept) < len(data) and not tcp else 0)
        return b"".join((query[:2], struct.pack("!HHHHH", flags, 1, len(kept), 0, 0), query[12:end], *kept))


class _Silence(Exception):
    """The real resolver gives no reply at all."""


def failure(query: bytes) -> bytes:
    """SERVFAIL, as the resolver itself says it: without "recursion available"."""
    end = (_question(query) or ("", 0, 12))[2]
    flags = _QR | int.from_bytes(query[2:4], "big") & (_RD | _CD) | _SERVFAIL
    return query[:2] + struct.pack("!HHHHH", flags, 1, 0, 0, 0) + query[12:end]


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
            return None if rcode in (dns.rcode.SERVFAIL, dns.rcode.REFUSED) else reply
        if rcode == dns.rcode.NOERROR or (rcode == dns.rcode.NXDOMAIN and flags & dns.flags.AA):
            return reply
        self._held = reply
        return None

    def exhausted(self) -> bytes | None:
        """No server is left: what the client gets; None: nothing."""
        return failure(self._query) if self._engine is Engine.TODAY else self._held


def _question(query: bytes) -> tuple[str, int, int] | None:
    """The first question: its name without the final dot, its type, and where it ends in the message. None: this is no query."""
    if len(query) < 17:
        return None
    flags, questions = struct.unpack_from("!HH", query, 2)
    if flags & (_QR | _OPCODE) or not questions:
        return None
    labels, at = [], 12
    while at < len(query) and (length := query[at]):
        if length > 63 or at + 1 + length > len(query):
            return None
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    if at + 5 > len(query) or at - 12 > 254:
        return None
    return ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big"), at + 5


def _udp_size(query: bytes, end: int) -> int:
    """How long a reply over UDP may be: what the query's OPT record says, at least 512 bytes (RFC 6891 section 6.2.3)."""
    questions, answers, authorities, additional = struct.unpack_from("!HHHH", query, 4)
    if not additional:
        return _SMALLEST
    if (questions, answers, authorities) == (1, 0, 0) and query[end : end + 3] == b"\0\0\x29" and end + 5 <= len(query):
        return max(_SMALLEST, int.from_bytes(query[end + 3 : end + 5], "big"))
    try:
        return max(_SMALLEST, dns.message.from_wire(query, ignore_trailing=True).payload)
    except (dns.exception.DNSException, ValueError):
        return _SMALLEST


def _wire_name(name: str) -> bytes:
    """A name whose labels may hold anything but dots. Raises nothing: labels too long for the wire are cut, as no real name has them."""
    labels = [label.encode("latin-1", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
