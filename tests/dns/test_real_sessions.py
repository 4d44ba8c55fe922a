"""The sessions of dig in a container of a real swarm (captures/swarm-phases): ours gives the same answers when it knows the same endpoints."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import dns.message
import dns.reversename
import pytest

from tests.dns.sockets import world
from vxtool.dns import server
from vxtool.dns.records import Binding, Records
from vxtool.dns.resolver import Sandbox

PHASES = Path(__file__).parents[2] / "captures" / "swarm-phases"
COMMAND = re.compile(r"; <<>> DiG .* <<>> (.*)")
ANSWER = re.compile(r"^(\S+)\s+(\d+)\s+IN\s+(\S+)\s+(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Printed:
    """What dig has printed of one reply."""

    flags: str
    status: str
    counts: tuple[int, ...]
    answers: frozenset[tuple[str, str, str, str]]
    size: int


def session(phase: str) -> list[tuple[str, Printed | None]]:
    """(arguments, what was printed; None: no reply) of each dig."""
    blocks = re.split(r"(?=; <<>> DiG)", (PHASES / phase / "dig.txt").read_text())[1:]
    return [(COMMAND.match(block)[1], _printed(block)) for block in blocks]  # type: ignore[index]


def _printed(block: str) -> Printed | None:
    if "no servers could be reached" in block:
        return None
    head = re.search(r"status: (\w+).*\n;; flags: ([a-z ]+); QUERY: (\d+), ANSWER: (\d+), AUTHORITY: (\d+), ADDITIONAL: (\d+)", block)
    size = re.search(r"MSG SIZE  rcvd: (\d+)", block)
    assert head is not None
    assert size is not None
    return Printed(head[2], head[1], tuple(map(int, head.group(3, 4, 5, 6))), frozenset(ANSWER.findall(block)), int(size[1]))


def printed_of(wire: bytes) -> Printed:
    """Ours, as dig would print it."""
    reply = dns.message.from_wire(wire)
    status, flags = dns.rcode.to_text(reply.rcode()), dns.flags.to_text(reply.flags).lower()
    answers = frozenset(
        (rrset.name.to_text(), str(rrset.ttl), dns.rdatatype.to_text(rrset.rdtype), rdata.to_text()) for rrset in reply.answer for rdata in rrset
    )
    return Printed(flags, status, tuple(int.from_bytes(wire[at : at + 2], "big") for at in (4, 6, 8, 10)), answers, len(wire))


def known(phase: str) -> Records:
    """What `docker network inspect` said on each node at that moment, and `docker service ps` of who was about to stop. The service api has no
    virtual address."""
    records = Records()
    stopping = re.findall(r"^(\w{25}) .* (?:Remove|Shutdown) +Running ", (PHASES / phase / "tasks.txt").read_text(), re.MULTILINE)
    for path in (PHASES / phase).glob("inspect-web-*.json"):
        for id, container in json.loads(path.read_text())[0]["Containers"].items():
            service = container["Name"].partition(".")[0]
            if "." in container["Name"]:
                address, vip = IPv4Interface(container["IPv4Address"]).ip, IPv4Address("10.0.1.2") if service == "web" else None
                records.bind(Binding("web", container["EndpointID"], container["Name"], address, service, service, vip, (), (id[:12],)))
                if container["Name"].rpartition(".")[2] in stopping:
                    records.disable("web", container["EndpointID"])
    return records


def message_of(arguments: str) -> bytes:
    """What dig sends: EDNS, and no cookie here."""
    words = [word for word in arguments.split() if not word.startswith(("+", "@"))]
    name, kind = (str(dns.reversename.from_address(words[1])), "PTR") if words[0] == "-x" else (f"{words[0]}.", words[1] if words[1:] else "A")
    return dns.message.make_query(name, kind, use_edns=0, payload=1232).to_wire()


SESSIONS = [
    pytest.param(phase, *one, id=f"{phase} {one[0].partition('@127.0.0.11 ')[2]}")
    for phase in ("steady", "scaled", "drained")
    for one in session(phase)
]


@pytest.mark.parametrize(("phase", "arguments", "printed"), SESSIONS)
def test_ours_answers_as_the_real_one_did(phase: str, arguments: str, printed: Printed | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.1)
    with world(known(phase), Sandbox(("web",), 1), outside=[lambda _: None]) as made:
        reply = made.ask(message_of(arguments), seconds=0.5 if printed is None else 5.0)
    assert (None if reply is None else printed_of(reply)) == printed


def test_there_are_so_many_sessions() -> None:
    assert len(SESSIONS) == 17
