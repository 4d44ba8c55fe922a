"""Mutated messages for the embedded resolver: to what it answers, and to what it takes from servers outside.

    python -m tests.fuzz.dns --mutants 1000000 --seed 1      some minutes on two cores
    python -m tests.fuzz.dns --only 4711 --seed 1            one mutant again, with its bytes and its traceback

Every mutant begins as a query or a reply that somebody might send, and gets wrong bits, bytes, lengths, counts, pointers, ends and repetitions. What
must hold for each: nothing is raised; a reply has the query's id and question, is no longer than the client takes, and dnspython reads it; the
compiled part says the same or leaves the query to the plain one; what is taken for a server's reply has the id and the question; nothing takes
longer than a second, and memory does not grow. Exit code 0 when that is so, else 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import socket
import sys
import time
import traceback
from ipaddress import IPv4Address
from pathlib import Path

import dns.exception
import dns.message
import dns.rrset

from vxtool.dns._serve import Batch
from vxtool.dns.records import Binding, Records
from vxtool.dns.resolver import Forward, Forwarding, Resolver, Sandbox, Table, is_reply
from vxtool.model import Engine

__all__ = ["Mutants", "mutant"]

PATIENCE = 1.0  # seconds of the processor
GROWTH_MB = 16
PAGE = os.sysconf("SC_PAGE_SIZE")

NAMES = (
    "web.",
    "tasks.web.",
    "tasks.WEB.web.",
    "web.3.abc.",
    "nosuch.",
    "www.example.org.",
    "4.1.0.10.in-addr.arpa.",
    "1.0.0.127.in-addr.arpa.",
    ".",
)
KINDS = ("A", "AAAA", "MX", "PTR", "TXT", "ANY", "HTTPS", "SOA")


def _queries() -> list[bytes]:
    plain = [dns.message.make_query(name, kind).to_wire() for name in NAMES for kind in KINDS]
    edns = [dns.message.make_query(name, "A", use_edns=0, payload=size).to_wire() for name in NAMES for size in (0, 512, 1232, 4096, 65535)]
    return [*plain, *edns]


def _replies() -> list[tuple[bytes, bytes]]:
    """(query, a server's reply)."""
    made = []
    for name in NAMES:
        for count in (0, 1, 30):
            query = dns.message.make_query(name, "A")
            reply = dns.message.make_response(query)
            reply.answer = [dns.rrset.from_text(name, 77, "IN", "A", *(f"203.0.113.{number}" for number in range(count)))] if count else []
            reply.authority = [dns.rrset.from_text("example.org.", 9, "IN", "SOA", "ns.example.org. me.example.org. 1 2 3 4 5")]
            made.append((query.to_wire(), reply.to_wire()))
    return made


QUERIES, REPLIES = _queries(), _replies()


def mutant(number: int, seed: int) -> tuple[bytes, bytes | None]:
    """A mutated query and None; or a query as it was, and a mutated reply to it. The same each time."""
    dice = random.Random(f"{seed}/{number}")
    if number % 2:
        query, reply = dice.choice(REPLIES)
        return query, _mutated(reply, dice)
    return _mutated(dice.choice(QUERIES), dice), None


def _mutated(message: bytes, dice: random.Random) -> bytes:
    data = bytearray(message)
    for _ in range(dice.choice((0, 1, 1, 2, 3, 8))):
        at = dice.randrange(len(data) + 1)
        what = dice.randrange(9)
        if what == 0 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif what == 1 and data:
            data[at % len(data)] = dice.choice((0, 1, 0x3F, 0x40, 0x7F, 0xC0, 0xC1, 0xFF, dice.randrange(256)))
        elif what == 2:
            del data[at:]
        elif what == 3:
            data[at:at] = dice.randbytes(dice.choice((1, 2, 11, 64, 600)))
        elif what == 4:
            data[at : at + 2] = b"\xc0" + bytes((dice.choice((0, 12, 13, at & 0xFF, dice.randrange(256))),))
        elif what == 5:
            data[at:at] = data[at : at + dice.randrange(1, 40)] * dice.choice((1, 2, 50))
        elif what == 6 and len(data) >= 12:
            begin = dice.randrange(4, 12, 2)
            data[begin : begin + 2] = dice.choice((0, 1, 2, 255, 0xFFFF)).to_bytes(2, "big")
        elif what == 7:
            del data[at : at + dice.randrange(1, 8)]
        elif what == 8 and len(data) >= 4:
            data[2:4] = dice.randbytes(2)
    return bytes(data[:65535])


class Mutants:
    """What mutants go through."""

    def __init__(self) -> None:
        records = Records()
        for number in range(40):
            address = IPv4Address("10.0.1.3") + number
            records.bind(
                Binding("web", f"e{number}", f"web.{number}.abc", address, "web", "s", IPv4Address("10.0.1.2"), ("site",), (f"{number:012x}",))
            )
        self.sandboxes = Sandbox(("web",), 1), Sandbox(("web", "none"), 0, True, False)
        self.resolvers = {engine: Resolver(records, engine, random.Random(1)) for engine in Engine}
        self.batch = Batch()
        self.ours, self.theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.ours.bind(("127.0.0.1", 0))
        self.theirs.bind(("127.0.0.1", 0))
        self.theirs.connect(self.ours.getsockname())
        self.theirs.setblocking(False)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def take(self, query: bytes, reply: bytes | None) -> None:
        """AssertionError, or whatever is raised, when something does not hold."""
        begun = time.process_time()
        if reply is None:
            for engine, resolver in self.resolvers.items():
                for sandbox in self.sandboxes:
                    self._asked(query, resolver, sandbox, engine)
        else:
            self._replied(query, reply)
        assert time.process_time() - begun < PATIENCE, "it takes too long"

    def _asked(self, query: bytes, resolver: Resolver, sandbox: Sandbox, engine: Engine) -> None:
        answers = [resolver.answer(query, sandbox, tcp) for tcp in (False, True)]
        for answer in answers:
            if isinstance(answer, Forward):
                assert answer.query == query
                self._replied(query, query)
            elif answer is not None:
                assert answer[:2] == query[:2]
                assert answer[2] & 0x80
        if isinstance(answers[0], bytes):
            assert len(dns.message.from_wire(answers[0]).question) == (len(answers[0]) > 12)
            assert len(answers[0]) <= 512 or len(answers[0]) <= _payload(query)
        self._served(query, resolver.table(sandbox), answers[0])

    def _served(self, query: bytes, table: Table, answer: object) -> None:
        self.theirs.send(query[:60000])
        left = self.batch.serve(self.ours.fileno(), table)
        try:
            told = self.theirs.recv(65535)
        except BlockingIOError:
            assert left == [(query, self.theirs.getsockname())] or len(query) > 4096
            return
        assert not left
        assert isinstance(answer, bytes)
        assert (told[:12], len(told)) == (answer[:12], len(answer))
        assert told[12:30] == answer[12:30]

    def _replied(self, query: bytes, reply: bytes) -> None:
        if is_reply(query, reply):
            assert reply[:2] == query[:2]
            assert reply[2] & 0x80
            assert reply[4:6] == b"\0\1" or reply[3] & 0xF == 1
        for engine in Engine:
            forwarding = Forwarding(Forward(query), engine)
            if len(query) >= 12:
                assert forwarding.replied(reply) in (reply, None)
                forwarding.exhausted()


def _payload(query: bytes) -> int:
    """How much the client takes over UDP, as dnspython reads it; 65535 where it cannot: then anything may be meant."""
    try:
        return dns.message.from_wire(query, ignore_trailing=True).payload
    except (dns.exception.DNSException, ValueError):
        return 65535


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def _part(first: int, step: int, mutants: int, seed: int, limit: bool) -> int:
    """Findings of one process."""
    path, found, warm = Mutants(), 0, 0.0
    for number in range(first, mutants, step):
        try:
            path.take(*mutant(number, seed))
        except Exception:
            found += 1
            print(f"mutant {number}:\n{traceback.format_exc(limit=-4)}", flush=True)
            path.close()
            path = Mutants()
        if not warm and number > mutants / 10:
            warm = _megabytes()
    grown = _megabytes() - warm
    if limit and grown > GROWTH_MB:
        found += 1
        print(f"process {first} has grown by {grown:.0f} MB", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-limit", action="store_true", help="of memory; under AddressSanitizer, which keeps what was freed in quarantine")
    options = parser.parse_args()
    if options.only is not None:
        query, reply = mutant(options.only, options.seed)
        print(f"query {query.hex()}\nreply {None if reply is None else reply.hex()}")
        Mutants().take(query, reply)
        return 0
    begun = time.monotonic()
    with multiprocessing.Pool(options.workers) as pool:
        parts = [(place, options.workers, options.mutants, options.seed, not options.no_limit) for place in range(options.workers)]
        found = sum(pool.starmap(_part, parts, chunksize=1))
    print(f"{options.mutants:,} mutants of seed {options.seed} in {time.monotonic() - begun:.0f} s: {found or 'no'} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
