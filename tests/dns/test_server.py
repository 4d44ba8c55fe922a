"""What clients of the resolver see on its sockets, and what those see who are asked outside."""

from __future__ import annotations

import gc
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dns.asking import QUERIES, Upstream, asked_of, bound, described, expected, sandbox_of
from tests.dns.sockets import World, framed, world
from vxtool.dns import server
from vxtool.dns._serve import Batch
from vxtool.dns.records import Binding, Records
from vxtool.dns.resolver import Resolver, Sandbox, is_reply
from vxtool.dns.server import Limits
from vxtool.model import Engine

OUTSIDE = Sandbox(("net",), 1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes 4 s in the world takes 0.2 s here."""
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    monkeypatch.setattr(server, "IDLE", 0.5)
    monkeypatch.setattr(server, "_LOOK", 0.02)


def web(count: int) -> Records:
    records = Records()
    for number in range(count):
        address = IPv4Address("10.0.1.3") + number
        records.bind(Binding("net", f"e{number}", f"web.{number}.x", address, "web", "s1", IPv4Address("10.0.1.2"), (), (f"id{number}",)))
    return records


def query(name: str = "web.", kind: str = "A", **how: Any) -> bytes:
    return dns.message.make_query(name, kind, **how).to_wire()


def answered(message: bytes) -> bytes:
    """What a server outside says to everything."""
    asked = dns.message.from_wire(message)
    reply = dns.message.make_response(asked)
    reply.answer = [dns.rrset.from_text(asked.question[0].name, 77, "IN", "A", "203.0.113.7")]
    return reply.to_wire()


def addresses(reply: bytes | None) -> list[str]:
    assert reply is not None
    return sorted(rdata.to_text() for rrset in dns.message.from_wire(reply).answer for rdata in rrset)


@pytest.mark.parametrize(("case", "query", "engine"), QUERIES)
def test_over_real_sockets_a_query_is_answered_as_the_real_resolver_answers_it(case: dict[str, Any], query: dict[str, Any], engine: Engine) -> None:
    upstreams = [Upstream(facts) for facts in case["upstreams"]]
    message, tcp = asked_of(query["query"]), query["query"].get("proto") == "tcp"
    silent = [upstream for upstream in upstreams if upstream.facts["mode"] == "dead"]
    with world(bound(case), sandbox_of(case), engine, [upstream.reply for upstream in upstreams]) as made:
        reply = made.ask(message.to_wire(), tcp, seconds=0.2 * len(silent) + (3.0 if query_is_answered(query, engine) else 0.4))
    found = described(reply, message, [upstream.asked for upstream in upstreams])
    wanted = expected(query, engine, found)
    assert found == wanted


def query_is_answered(query: dict[str, Any], engine: Engine) -> bool:
    expect = query["expect"] if engine is Engine.TODAY else query.get("expect_19_03") or query["expect"]
    return bool(expect["replied"])


# -- the compiled part beside the plain one --------------------------------------------------------------------------------


def both(wire: bytes, records: Records, engine: Engine) -> tuple[object, object]:
    """What the batch replies (None: it leaves it to others), and what the resolver does; the records in order."""
    resolver, sandbox = Resolver(records, engine), Sandbox(("net",))
    plain = resolver.answer(wire, sandbox)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        ours.bind(("127.0.0.1", 0))
        theirs.bind(("127.0.0.1", 0))
        theirs.connect(ours.getsockname())
        theirs.send(wire)
        left = Batch().serve(ours.fileno(), resolver.table(sandbox))
        if left:
            assert left == [(wire, theirs.getsockname())]
            return None, plain
        return theirs.recv(65535), plain


def parts(reply: bytes, question: int, record: int) -> tuple[bytes, list[bytes]]:
    return reply[: 12 + question], sorted(reply[at : at + record] for at in range(12 + question, len(reply), record))


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("count", [1, 2, 25, 26, 30, 31, 100, 300])
@pytest.mark.parametrize("payload", [None, 100, 512, 1232, 4096])
def test_the_compiled_part_says_what_the_plain_one_says(count: int, payload: int | None, engine: Engine) -> None:
    wire = query("tasks.WEB.", "A", use_edns=payload is not None and 0, payload=payload or 0)
    batch, plain = both(wire, web(count), engine)
    assert isinstance(plain, bytes)
    question = len(b"\5tasks\3WEB\0") + 4
    record = (question - 4 if engine is Engine.V19_03 else 2) + 14
    if batch is None:
        assert len(plain) > 4096
        return
    assert isinstance(batch, bytes)
    assert batch[: 12 + question] == plain[: 12 + question]
    assert len(batch) == len(plain)
    known = {(IPv4Address("10.0.1.3") + number).packed for number in range(count)}
    told = parts(batch, question, record)[1]
    assert len(set(told)) == len(told)
    assert {one[-4:] for one in told} <= known
    if len(told) == count:
        assert parts(batch, question, record) == parts(plain, question, record)


@given(st.binary(max_size=120), st.sampled_from([b"", b"\3web\0\0\1\0\1", b"\5tasks\3web\0\0\1\0\1", b"\3web\0\0\x1c\0\1"]), st.integers(0, 0xFFFF))
def test_whatever_comes_the_compiled_part_says_the_same_or_leaves_it_to_the_plain_one(noise: bytes, begin: bytes, flags: int) -> None:
    for header in (b"", b"\x12\x34" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0\0\0", b"\x12\x34\1\0\0\1\0\0\0\0\0\1"):
        batch, plain = both(header + begin + noise, web(1), Engine.V19_03)
        assert batch is None or batch == plain


def test_the_order_of_answers_is_another_each_time_and_every_record_comes_first_now_and_then() -> None:
    firsts = set()
    with world(web(6)) as made:
        client = made.client()
        for _ in range(150):
            client.send(query("tasks.web."))
            reply = made.heard(client)
            assert reply is not None
            firsts.add(dns.message.from_wire(reply, one_rr_per_rrset=True).answer[0][0].to_text())
    assert len(firsts) == 6


# -- UDP -------------------------------------------------------------------------------------------------------------------


def test_what_was_remembered_is_forgotten_when_a_task_stops() -> None:
    with world(web(2)) as made:
        assert addresses(made.ask(query("tasks.web."))) == ["10.0.1.3", "10.0.1.4"]
        made.records.disable("net", "e0")
        assert addresses(made.ask(query("tasks.web."))) == ["10.0.1.4"]


def test_many_queries_at_once_are_all_answered_each_to_its_sender() -> None:
    with world(web(3)) as made:
        clients = [made.client() for _ in range(100)]
        sent = [query(f"web.{number % 3}.x.") for number in range(100)]
        for client, wire in zip(clients, sent, strict=True):
            client.send(wire)
        for number, (client, wire) in enumerate(zip(clients, sent, strict=True)):
            reply = made.heard(client)
            assert reply is not None
            assert reply[:2] == wire[:2]
            assert addresses(reply) == [f"10.0.1.{3 + number % 3}"]


QUESTION = query()[12:]


def header(*counts: int, flags: int = 0x0100) -> bytes:
    return struct.pack("!HHHHHH", 0x1234, flags, *(*counts, 0, 0, 0, 0)[:4])


@pytest.mark.parametrize(
    ("wire", "flags", "size"),
    [
        (b"", None, 0),
        (b"\0", None, 0),
        (header(1)[:11], None, 0),
        (header(1), None, 0),
        (header(1, flags=0x8100) + QUESTION, None, 0),
        (header(1, flags=0x1000) + QUESTION, 0x9004, 12),
        (header(1, flags=0x2100) + QUESTION, 0xA080, 40),
        (header(2) + 2 * QUESTION, 0x8101, 12),
        (header(1) + QUESTION[:3], 0x8101, 12),
        (header(1) + b"\xc0\x0c\0\1\0\1", 0x8101, 12),
        (header(1) + b"\x3f" * 3000, 0x8101, 12),
        (header(1, 0, 0, 3) + QUESTION, 0x8101, 12),
        (header(1, 0, 0, 1) + QUESTION + b"\0\0\x29\x10\0\0", 0x8101, 21),
        (header(1) + QUESTION + b"more", 0x8180, 40),
    ],
    ids=[
        "nothing",
        "a byte",
        "half a header",
        "a header",
        "a reply",
        "opcode 2",
        "NOTIFY",
        "two questions",
        "a name cut off",
        "a name that leads to itself",
        "a name without end",
        "three more records",
        "a record cut off",
        "bytes at the end",
    ],
)
def test_what_cannot_be_read_is_told_so_or_gets_no_answer_and_the_next_query_does(wire: bytes, flags: int | None, size: int) -> None:
    with world(web(1)) as made:
        client = made.client()
        client.send(wire)
        reply = made.heard(client, 2.0 if size else 0.05)
        assert ((None, 0) if reply is None else (int.from_bytes(reply[2:4], "big"), len(reply))) == (flags, size)
        client.send(b"x" * 9000)  # longer than any query: not even looked at
        client.send(query())
        assert addresses(made.heard(client)) == ["10.0.1.2"]


# -- TCP -------------------------------------------------------------------------------------------------------------------


def test_over_tcp_several_queries_in_one_piece_are_answered_and_several_pieces_make_one_query() -> None:
    with world(web(1)) as made:
        client = made.client(tcp=True)
        client.send(framed(query()) + framed(query("web.0.x.")) + framed(query("id0."))[:3])
        assert [addresses(reply) for reply in made.stream(client, 2)] == [["10.0.1.2"], ["10.0.1.3"]]
        client.send(framed(query("id0."))[3:])
        assert [addresses(reply) for reply in made.stream(client)] == [["10.0.1.3"]]


def test_a_client_that_has_said_all_gets_its_answers_and_then_an_end() -> None:
    with world(Records(), OUTSIDE, outside=[answered]) as made:
        client = made.client(tcp=True)
        client.send(framed(query("a.")) + framed(query("b.")))
        client.shutdown(socket.SHUT_WR)
        assert len(made.stream(client, 3, 1.0)) == 2
        assert made.until(lambda: not made.serving.connections)


def test_a_silent_client_is_hung_up_on() -> None:
    with world(web(1)) as made:
        client = made.client(tcp=True)
        assert made.until(lambda: made.serving.connections)
        client.send(b"\0")
        assert made.until(lambda: not made.serving.connections, 3.0)


def test_a_client_that_does_not_read_is_not_read_from_and_costs_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE", 60.0)
    with world(web(2000), limits=Limits(unsent=1 << 16)) as made:
        client = made.client(tcp=True)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = 0
        for _ in range(300):
            with suppress(BlockingIOError):
                sent += client.send(framed(query("tasks.web.")) * 20)
            made.turn()
        (connection,) = made.serving.connections
        assert len(connection._unsent) < (1 << 16) + 70_000  # what it may, and one more reply
        assert len(connection._heard) < 1 << 17
        assert sent > 0


def test_no_more_clients_than_a_sandbox_may_have() -> None:
    with world(web(1), limits=Limits(connections=3)) as made:
        clients = [made.client(tcp=True) for _ in range(5)]
        assert made.until(lambda: len(made.serving.connections) == 3)
        assert [made.stream(client, 1, 0.3) for client in clients[3:]] == [[], []]
        clients[0].send(framed(query()))
        assert len(made.stream(clients[0])) == 1


# -- outside -----------------------------------------------------------------------------------------------------------------


def test_what_is_not_known_is_asked_outside_over_the_protocol_of_the_client() -> None:
    with world(Records(), OUTSIDE, outside=[answered]) as made:
        assert addresses(made.ask(query("example.org."))) == ["203.0.113.7"]
        assert len(made.outside[0].asked) == 1
        assert addresses(made.ask(query("example.org."), tcp=True)) == ["203.0.113.7"]
        assert len(made.outside[0].asked) == 1
        assert len(made.outside[0].clients) == 1


def test_each_query_is_asked_from_a_port_of_its_own() -> None:
    with world(Records(), OUTSIDE, outside=[answered]) as made:
        for number in range(20):
            made.ask(query(f"n{number}."))
        assert len({peer[1] for _, peer in made.outside[0].asked}) > 15


@pytest.mark.parametrize(
    "wrong",
    [
        lambda reply: bytes((reply[0] ^ 1,)) + reply[1:],
        lambda reply: reply[:2] + bytes((reply[2] & 0x7F,)) + reply[3:],
        lambda reply: reply.replace(b"\1a", b"\1b", 1),
        lambda reply: reply[: 12 + 3] + b"\0\x1c" + reply[12 + 5 :],
        lambda reply: reply[:-1],
        lambda reply: reply[:6] + b"\0\2" + reply[8:],
        lambda reply: reply[: 12 + 7] + b"\xc0\x13" + reply[12 + 9 :],
        lambda _: b"",
        lambda _: b"\xff" * 600,
    ],
    ids=["another id", "a query", "another name", "another type", "cut off", "more records than there are", "a name in circles", "empty", "ones"],
)
def test_only_a_whole_reply_to_this_very_question_is_taken_from_a_server(wrong: Any) -> None:
    with world(Records(), OUTSIDE, outside=[lambda _: None]) as made:
        client = made.client()
        wire = query("a.")
        client.send(wire)
        assert made.until(lambda: made.outside[0].asked)
        asked, peer = made.outside[0].asked[0]
        made.outside[0].udp.sendto(wrong(answered(asked)), peer)
        assert made.heard(client, 0.05) is None
        made.outside[0].udp.sendto(answered(asked), peer)
        assert addresses(made.heard(client)) == ["203.0.113.7"]


def test_nobody_but_the_server_that_was_asked_can_answer() -> None:
    with world(Records(), OUTSIDE, outside=[lambda _: None]) as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        client = made.client()
        client.send(query("a."))
        assert made.until(lambda: made.outside[0].asked)
        asked, peer = made.outside[0].asked[0]
        stranger.sendto(answered(asked), peer)
        assert made.heard(client, 0.1) is None


def test_a_server_that_refuses_the_connection_is_passed_over_at_once() -> None:
    with world(Records(), Sandbox(("net",), 2), outside=[answered, answered]) as made:
        made.outside[0].close()
        begun = time.monotonic()
        assert addresses(made.ask(query("a."))) == ["203.0.113.7"]
        assert addresses(made.ask(query("a."), tcp=True)) == ["203.0.113.7"]
        assert time.monotonic() - begun < 0.15


@pytest.mark.parametrize(("engine", "rcode"), [(Engine.V19_03, None), (Engine.TODAY, dns.rcode.REFUSED)])
def test_no_more_is_asked_outside_at_once_than_a_sandbox_may(engine: Engine, rcode: int | None) -> None:
    """19.03 passes over the server; today's waits for a place, and refuses after that."""
    with world(Records(), OUTSIDE, engine, [lambda _: None], Limits(forwards=10, waiting=2)) as made:
        clients = [made.client() for _ in range(15)]
        for number, client in enumerate(clients):
            client.send(query(f"n{number}."))
        assert made.until(lambda: len(made.outside[0].asked) == 10)
        reply = made.heard(clients[-1], 0.1)
        assert (None if reply is None else dns.message.from_wire(reply).rcode()) == rcode
        assert len(made.serving.forwards) == 10
        assert len(made.serving.waiting) == (0 if engine is Engine.V19_03 else 2)
        assert made.until(lambda: not made.serving.forwards and not made.serving.waiting, 3.0)
        assert made.server.forwards == 0


def test_todays_engine_asks_when_there_is_room_again() -> None:
    with world(Records(), OUTSIDE, Engine.TODAY, [answered], Limits(forwards=1)) as made:
        clients = [made.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(query(f"n{number}."))
        assert [addresses(made.heard(client)) for client in clients] == [["203.0.113.7"]] * 5


def test_known_names_are_answered_while_everything_outside_is_silent() -> None:
    with world(web(1), OUTSIDE, outside=[lambda _: None]) as made:
        client = made.client()
        for number in range(2000):
            client.send(query(f"n{number}."))
            if number % 50 == 0:
                made.turn()
        assert addresses(made.ask(query())) == ["10.0.1.2"]
        assert len(made.serving.forwards) <= Limits().forwards


def test_a_sandbox_that_goes_takes_everything_with_it() -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    with world(web(1), OUTSIDE, outside=[lambda _: None]) as made:
        for number in range(20):
            made.client().send(query(f"n{number}."))
            made.client(tcp=True).send(framed(query(f"n{number}.")))
        serving = made.serving
        assert made.until(lambda: len(serving.forwards) == 40)
        serving.close()
        assert (made.server.forwards, made.server.connections) == (0, 0)
        assert not serving.forwards
        assert not serving.connections
    assert descriptors() == before


def test_a_sandbox_that_is_attached_to_another_network_is_answered_from_there() -> None:
    records = web(1)
    records.bind(Binding("second", "e", "far", IPv4Address("10.0.2.3")))
    with world(records) as made:
        assert made.ask(query("far."), seconds=0.1) is None
        made.serving.change(Sandbox(("net", "second")), [])
        assert addresses(made.ask(query("far."))) == ["10.0.2.3"]


# -- noise -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy() -> Iterator[World]:
    with world(web(3), OUTSIDE, outside=[lambda _: None], limits=Limits(forwards=8)) as made:
        yield made


@given(st.binary(max_size=600))
def test_no_bytes_make_the_server_fail(noisy: World, noise: bytes) -> None:
    client = noisy.client()
    client.send(noise)
    client.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + noise)
    stream = noisy.client(tcp=True)
    stream.send(noise + framed(noise))
    noisy.turn()
    stream.close()
    assert addresses(noisy.ask(query())) == ["10.0.1.2"]


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_reply_by_chance(noise: bytes) -> None:
    wire = query("a.b.")
    assert not is_reply(wire, noise)
    dice = random.Random(noise)
    reply = bytearray(answered(wire))
    for _ in range(dice.randrange(1, 6)):
        reply[dice.randrange(len(reply))] = dice.randrange(256)
    if is_reply(wire, bytes(reply)):
        assert (reply[:2], bytes(reply[12:]).lower().startswith(wire[12:17].lower())) == (wire[:2], True)
