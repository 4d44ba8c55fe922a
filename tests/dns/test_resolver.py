"""Queries are answered as both real resolvers answered them when they were run."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dns.asking import QUERIES, Upstream, asked_of, bound, described, expected, sandbox_of
from vxtool.dns.records import Binding, Records
from vxtool.dns.resolver import MAX_SERVERS, Forward, Forwarding, Resolver, Sandbox
from vxtool.model import Engine


@pytest.mark.parametrize(("case", "query", "engine"), QUERIES)
def test_a_query_is_answered_as_the_real_resolver_answers_it(case: dict[str, Any], query: dict[str, Any], engine: Engine) -> None:
    upstreams = [Upstream(facts) for facts in case["upstreams"]]
    message = asked_of(query["query"])
    reply = Resolver(bound(case), engine).answer(message.to_wire(), sandbox_of(case), query["query"].get("proto") == "tcp")
    if isinstance(reply, Forward):
        forwarding = Forwarding(reply, engine)
        asked = (forwarding.replied(upstream.reply(reply.query)) for upstream in upstreams[:MAX_SERVERS])
        reply = next((found for found in asked if found is not None), None) or forwarding.exhausted()
    found = described(reply, message, [upstream.asked for upstream in upstreams])
    wanted = expected(query, engine, found)
    assert found == wanted


def _web(count: int) -> Records:
    records = Records()
    for number in range(count):
        address = IPv4Address("10.0.1.3") + number
        records.bind(Binding("net", f"e{number}", f"web.{number}.x", address, "web", "s1", IPv4Address("10.0.1.2"), (), (f"id{number}",)))
    return records


def test_what_was_remembered_is_forgotten_when_a_task_stops() -> None:
    records = _web(2)
    resolver = Resolver(records)
    query, sandbox = dns.message.make_query("tasks.web.", "A").to_wire(), Sandbox(("net",))

    def addresses() -> set[str]:
        reply = resolver.answer(query, sandbox)
        assert isinstance(reply, bytes)
        return {rdata.to_text() for rrset in dns.message.from_wire(reply).answer for rdata in rrset}

    assert addresses() == {"10.0.1.3", "10.0.1.4"}
    records.disable("net", "e0")
    assert addresses() == {"10.0.1.4"}


def test_the_order_of_answers_changes_from_query_to_query() -> None:
    resolver = Resolver(_web(5))
    query = dns.message.make_query("tasks.web.", "A").to_wire()
    assert len({resolver.answer(query, Sandbox(("net",))) for _ in range(30)}) > 5


@given(st.binary(max_size=80))
def test_no_bytes_make_the_resolver_fail(noise: bytes) -> None:
    resolver = Resolver(_web(3))
    resolver.answer(noise, Sandbox(("net",)))
    header = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
    reply = resolver.answer(header + noise, Sandbox(("net",)))
    if isinstance(reply, bytes):
        dns.message.from_wire(reply)
