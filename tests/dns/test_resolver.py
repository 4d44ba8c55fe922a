"""Queries are answered as both real resolvers answered them when they were run."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors import cases
from vxtool.dns.records import Binding, Records
from vxtool.dns.resolver import MAX_SERVERS, Forward, Forwarding, Resolver, Sandbox
from vxtool.model import Engine


class _Upstream:
    """A server of a vector: what it says, and how often it was asked."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts, self.asked = facts, 0

    def reply(self, query: bytes) -> bytes | None:
        mode = self.facts["mode"]
        if mode == "dead":
            return None
        self.asked += 1
        message = dns.message.from_wire(query)
        reply = dns.message.make_response(message, recursion_available=True)
        reply.use_edns(False)
        name = message.question[0].name
        records = self.facts.get("records") or {}
        found = records.get(name.to_text().lower()) if message.question[0].rdtype == dns.rdatatype.A else None
        if mode != "ok":
            reply.set_rcode({"servfail": 2, "refused": 5, "nxdomain": 3, "nxdomain-aa": 3, "formerr": 1}[mode])
            reply.flags |= dns.flags.AA if mode == "nxdomain-aa" else 0
        elif found:
            reply.answer = [dns.rrset.from_text(name, 77, "IN", "A", found)]
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()


def _asked(case: dict[str, Any], query: dict[str, Any], engine: Engine) -> dict[str, Any]:
    records = Records()
    for facts in case["bindings"]:
        vip = IPv4Address(facts["vip"]) if facts.get("vip") else None
        records.bind(
            Binding(
                facts["network"],
                facts["endpoint"],
                facts["container"],
                IPv4Address(facts["ip"]),
                facts.get("service", ""),
                facts.get("service_id", ""),
                vip,
                tuple(facts.get("aliases") or ()),
                tuple(facts.get("task_aliases") or ()),
            )
        )
    for facts in case["unbind"]:
        for network in {binding["network"] for binding in case["bindings"] if binding["endpoint"] == facts["endpoint"]}:
            (records.unbind if facts["full"] else records.disable)(network, facts["endpoint"])
    upstreams = [_Upstream(facts) for facts in case["upstreams"]]
    sandbox = Sandbox(tuple(case["attached"]), len(upstreams), case["ndots_set_by_user"], not case["no_external_access"])
    message = dns.message.make_query(query["name"], query["type"], use_edns=0 if query.get("edns") else False, payload=query.get("edns") or 0)
    tcp = query.get("proto") == "tcp"
    reply = Resolver(records, engine).answer(message.to_wire(), sandbox, tcp)
    if isinstance(reply, Forward):
        forwarding = Forwarding(reply, engine)
        asked = (forwarding.replied(upstream.reply(reply.query)) for upstream in upstreams[:MAX_SERVERS])
        reply = next((found for found in asked if found is not None), None) or forwarding.exhausted()
    counts = [upstream.asked for upstream in upstreams]
    if reply is None:
        return {"replied": False, "upstream_queries": counts}
    parsed = dns.message.from_wire(reply)
    assert parsed.id == message.id
    assert parsed.question == message.question
    answers = [
        {"name": rrset.name.to_text(), "type": dns.rdatatype.to_text(rrset.rdtype), "ttl": rrset.ttl, "data": rdata.to_text()}
        for rrset in parsed.answer
        for rdata in rrset
    ]
    return {
        "replied": True,
        "rcode": dns.rcode.to_text(parsed.rcode()),
        **{flag: bool(parsed.flags & getattr(dns.flags, flag.upper())) for flag in ("aa", "ra", "tc", "rd")},
        "answers": sorted(answers, key=lambda answer: (answer["name"], answer["data"])),
        "additional": [],
        "upstream_queries": counts,
        "edns_in_reply": parsed.edns >= 0,
    }


QUERIES = [
    pytest.param(param.values[0], query, engine, id=f"{param.id}-{number}-{engine}")
    for param in cases("dns")
    for number, query in enumerate(param.values[0]["queries"])
    for engine in Engine
]


@pytest.mark.parametrize(("case", "query", "engine"), QUERIES)
def test_a_query_is_answered_as_the_real_resolver_answers_it(case: dict[str, Any], query: dict[str, Any], engine: Engine) -> None:
    expected = dict(query["expect"] if engine is Engine.TODAY else query.get("expect_19_03") or query["expect"])
    found = _asked(case, query["query"], engine)
    if "answer_count" in expected:
        assert len(found.pop("answers")) == expected.pop("answer_count")
    if "answers_one_of" in expected:
        assert found.pop("answers") in expected.pop("answers_one_of")
    if "answers" in expected:
        expected["answers"] = sorted(expected["answers"], key=lambda answer: (answer["name"], answer["data"]))
    assert found == expected


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
