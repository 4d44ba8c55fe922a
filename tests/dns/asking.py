"""The cases of vectors/dns.json: what is known, who is outside, and what a reply must be like."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.vectors import cases
from vxtool.dns.records import Binding, Records
from vxtool.dns.resolver import Sandbox
from vxtool.model import Engine

__all__ = ["QUERIES", "Upstream", "asked_of", "bound", "described", "expected", "sandbox_of"]


class Upstream:
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


def bound(case: dict[str, Any]) -> Records:
    """What the networks know."""
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
    return records


def sandbox_of(case: dict[str, Any]) -> Sandbox:
    """Who asks."""
    return Sandbox(tuple(case["attached"]), len(case["upstreams"]), case["ndots_set_by_user"], not case["no_external_access"])


def asked_of(query: dict[str, Any]) -> dns.message.Message:
    return dns.message.make_query(query["name"], query["type"], use_edns=0 if query.get("edns") else False, payload=query.get("edns") or 0)


def described(reply: bytes | None, message: dns.message.Message, counts: list[int]) -> dict[str, Any]:
    """A reply in the words of the vectors; `counts`: how often each server outside was asked."""
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


def expected(query: dict[str, Any], engine: Engine, found: dict[str, Any]) -> dict[str, Any]:
    """What a vector wants; where it leaves something open, what was found there is taken out of `found`, if it is one of what may be."""
    wanted = dict(query["expect"] if engine is Engine.TODAY else query.get("expect_19_03") or query["expect"])
    if "answer_count" in wanted:
        assert len(found.pop("answers")) == wanted.pop("answer_count")
    if "answers_one_of" in wanted:
        assert found.pop("answers") in wanted.pop("answers_one_of")
    if "answers" in wanted:
        wanted["answers"] = sorted(wanted["answers"], key=lambda answer: (answer["name"], answer["data"]))
    return wanted


QUERIES = [
    pytest.param(param.values[0], query, engine, id=f"{param.id}-{number}-{engine}")
    for param in cases("dns")
    for number, query in enumerate(param.values[0]["queries"])
    for engine in Engine
]
