"""Names: every answer of a healthy resolver is right, and each way of answering wrongly is named at the node that did it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.verify.build import CAPTURES, Frame, Packet, Scene, Shot, failing, failures, healthy, of_family, phases, results, seconds
from vxtool.decode.columns import HAVE
from vxtool.model import Cluster, EndpointKind, Mac, Names, Subnet
from vxtool.verify.lookups import lookups_of
from vxtool.verify.verdicts import Result, Severity, Verdict

NAMES = of_family("names")
VM1, VM3 = "sathish-vm1", "sathish-vm3"
HEALTHY = ("swarm-steady", "swarm-after-drain", "swarm-no-ipvs", "swarm-phases/steady", "swarm-phases/scaled", "swarm-phases/drained")

WEB_VIP, API1 = "10.0.1.2", "10.0.1.12"
WEB6 = "web.6.ktkxhbpj3jpcyuxum2cym38we"  # 10.0.1.8
NOBODY = "10.0.1.77"

Message = dns.message.Message


def judge(scene: Scene, *ids: str) -> tuple[Verdict, ...]:
    return scene.judge(*(ids or NAMES))


def sandbox(folder: str = "swarm-steady") -> Scene:
    return healthy(folder, ["container"])


def message_of(packet: Packet) -> Message | None:
    if not packet.udp or not int(packet.row["have"]) & HAVE["dns"]:
        return None
    start, size = int(packet.row["dns_offset"]), int(packet.row["dns_len"])
    return dns.message.from_wire(bytes(packet.data[start : start + size]))


def put(packet: Packet, wire: bytes) -> None:
    """Another DNS message in the same datagram."""
    start, size = int(packet.row["dns_offset"]), int(packet.row["dns_len"])
    packet.data[start : start + size] = wire
    grown = len(wire) - size
    for at in (int(packet.row["inner_ip_offset"]) + 2, int(packet.row["inner_l4_offset"]) + 4):
        packet.data[at : at + 2] = (int.from_bytes(packet.data[at : at + 2], "big") + grown).to_bytes(2, "big")
    packet.frame = replace(packet.frame, wirelen=None)
    packet.changed = True


def replies(name: str, change: Callable[[Message], bool | None], kind: str = "A") -> Callable[[Packet], bool | None]:
    """An edit of the embedded resolver's answers for a name: `change` edits the message, False drops it."""

    def edit(packet: Packet) -> bool | None:
        message = message_of(packet)
        if message is None or not message.flags & dns.flags.QR or packet.src != "127.0.0.11":
            return None
        asked = message.question[0]
        if asked.name.to_text().rstrip(".").lower() != name or dns.rdatatype.to_text(asked.rdtype) != kind:
            return None
        if change(message) is False:
            return False
        put(packet, message.to_wire())
        return None

    return edit


def answer(*addresses: str, kind: str = "A", ttl: int = 600) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        # One set for each record: dnspython shuffles those of one set.
        message.answer = [dns.rrset.from_text(message.question[0].name, ttl, "IN", kind, address) for address in addresses]

    return change


def fails_with(code: dns.rcode.Rcode) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        message.answer = []
        message.set_rcode(code)

    return change


def flag(bits: int) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        message.flags ^= bits

    return change


def only_failure(verdicts: tuple[Verdict, ...], check: str) -> Verdict:
    found = failures(verdicts, check)
    assert len(found) == 1, found
    return found[0]


# -- healthy swarms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", HEALTHY)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_nothing_fails_on_a_healthy_swarm_whichever_captures_are_given(folder: str, named: bool) -> None:
    for given in [["container"], ["vm1"], ["vm1", "vm2", "vm3"], ["vm1", "vm2", "vm3", "container"]]:
        scene = healthy(folder, given)
        verdicts = judge(scene if named else scene.unnamed())
        assert not failing(verdicts), failures(verdicts)
        assert set(results(verdicts)) == set(NAMES), "a check is silent"


@pytest.mark.parametrize("folder", ["swarm-steady", "swarm-phases/steady", "swarm-phases/drained"])
def test_nothing_fails_when_only_some_documents_are_given(folder: str) -> None:
    documents = sorted(str(path) for path in (CAPTURES / folder).iterdir() if path.suffix in (".json", ".txt") and path.name != "dig.txt")
    for one in [*([each] for each in documents if "inspect" in each or "service" in each), documents[::2], documents[1::2], documents]:
        verdicts = judge(healthy(folder, ["container"], one))
        assert not failing(verdicts), (one, failures(verdicts))


def test_three_phases_with_their_dates_are_judged_each_by_its_own_cluster() -> None:
    verdicts = judge(phases(("container",)))
    assert not failing(verdicts), failures(verdicts)
    assert results(verdicts)["VX-DNS-ANSWER"] == {Result.PASS}


def test_every_question_of_a_sandbox_is_paired_with_its_answer_although_nat_changes_the_port() -> None:
    found = lookups_of(sandbox().case())
    assert len(found.embedded) == 69
    assert sum(one.reply >= 0 for one in found.embedded) == 46
    assert all(one.queries for one in found.embedded)
    # Each of the others was sent on under the same id, but for one over TCP, whose upstream connection never opened.
    assert sorted(len(one.forwards) for one in found.embedded if one.reply < 0) == [0, *[1] * 22]
    assert not found.direct


def test_multicast_dns_in_between_is_none_of_the_resolvers() -> None:
    scene = sandbox()
    foreign: list[Frame] = []
    for packet in scene.packets("container"):
        if message_of(packet) is not None:
            packet.set(src="10.0.1.4", dst="224.0.0.251", sport=5353, dport=5353)
            foreign.append(replace(packet.result(), ts=packet.ts - 1))
    mixed = scene.with_frames("container", foreign)
    asked, mixed_asked = (
        [(one.name, one.type, one.id, one.addresses, len(one.forwards)) for one in lookups_of(each.case()).embedded] for each in (scene, mixed)
    )
    assert len(foreign) > 100
    assert asked == mixed_asked


def test_lookups_of_one_kind_are_judged_by_the_clusters_of_their_own_time() -> None:
    found = lookups_of(phases(("container",)).case())
    assert sum(map(len, found.kinds)) == len(found.embedded)
    for first, *others in found.kinds:
        for one in others:
            assert found.clusters(one) == found.clusters(first)
            assert found.clusters(one, late=True) == found.clusters(first, late=True)
            assert (found.untold(one), found.known(one), set(one.addresses)) == (found.untold(first), found.known(first), set(first.addresses))


@pytest.mark.parametrize(
    ("network", "internal", "first"), [("app", False, True), ("zone", False, False), ("app", True, False)], ids=["before", "behind", "internal"]
)
def test_the_first_network_that_has_a_name_answers(network: str, internal: bool, first: bool) -> None:
    def two_networks(cluster: Cluster) -> Cluster:
        (asker,) = (end for end in cluster.endpoints if str(end.ip) == "10.0.1.4" and end.network == "web")
        subnet = Subnet(ip_network("10.0.9.0/24"))
        other = replace(cluster.network_by_name["web"], name=network, id="f" * 25, vnis=(4200,), subnets=(subnet,), internal=internal)
        mine = replace(asker, network=network, ip=IPv4Address("10.0.9.4"), mac=None, service=None)
        namesake = replace(mine, name="web", kind=EndpointKind.CONTAINER, ip=IPv4Address("10.0.9.7"), task=None, container=None)
        return replace(cluster, networks=(*cluster.networks, other), endpoints=(*cluster.endpoints, mine, namesake))

    verdicts = judge(sandbox().expecting(two_networks), "VX-DNS-ANSWER")
    assert failing(verdicts) == ({"VX-DNS-ANSWER"} if first else set())
    if first:
        found = failures(verdicts)
        assert {(one.severity, one.nodes) for one in found} == {(Severity.WARNING, (VM1,))}
        assert any("answers web out of network web (10.0.1.2) instead of app (10.0.9.7), which" in one.message for one in found), found


DIG = re.compile(r"^;; QUESTION SECTION:\n;(\S+)\s+IN\s+A\n\n;; ANSWER SECTION:\n((?:\S+\s+\d+\s+IN\s+A\s+\S+\n)+)", re.M)


@pytest.mark.parametrize("folder", ["swarm-steady", "swarm-phases/steady", "swarm-phases/scaled", "swarm-phases/drained"])
def test_what_dig_printed_is_what_the_model_expects(folder: str) -> None:
    cluster = healthy(folder, []).timeline.clusters[-1]
    printed = DIG.findall((CAPTURES / folder / "dig.txt").read_text())
    assert printed
    for name, records in printed:
        known = Names(cluster).resolve(name, ["ingress", "web"])
        assert known is not None, name
        assert {str(address) for address in known.addresses} == {line.split()[-1] for line in records.splitlines()}, name


# -- wrong answers -------------------------------------------------------------------------------------------------------------

TASKS_WEB = ("10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.1.7", "10.0.1.8")

WRONG = {
    "a stale record beside the right ones": ("tasks.web", answer(*TASKS_WEB, NOBODY), (NOBODY, "that it does not have")),
    "a lost record": ("tasks.web", answer(*TASKS_WEB[1:]), ("without 10.0.1.3",)),
    "another virtual address": ("web", answer(NOBODY), (f"{NOBODY} instead of {WEB_VIP}",)),
    "the tasks of a service that has a virtual address": ("web", answer(*TASKS_WEB), (f"instead of {WEB_VIP}",)),
    "the address of another service": ("api", answer(WEB_VIP), ("10.0.1.12",)),
    "a task's name with another task's address": (WEB6, answer("10.0.1.7"), ("10.0.1.7 instead of 10.0.1.8",)),
    "an address of no network at all": ("web", answer("203.0.113.9"), ("203.0.113.9 instead of",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_answer_with_the_wrong_addresses_is_named_at_the_node_that_gave_it(case: str) -> None:
    name, change, words = WRONG[case]
    verdicts = judge(sandbox().edit(replies(name, change)))
    assert failing(verdicts) == {"VX-DNS-ANSWER"}
    verdict = only_failure(verdicts, "VX-DNS-ANSWER")
    assert verdict.severity is Severity.ERROR
    assert verdict.nodes == (VM1,)
    assert all(word in verdict.message for word in words), verdict.message
    assert verdict.evidence
    assert verdict.hint
    assert "docker network inspect -v web" in verdict.command


def test_a_service_and_its_tasks_name_with_the_same_stale_record_are_one_finding() -> None:
    scene = sandbox().edit(replies("api", answer(API1, "10.0.1.13", "10.0.1.14", NOBODY)))
    scene = scene.edit(replies("tasks.api", answer(API1, "10.0.1.13", "10.0.1.14", NOBODY)))
    verdict = only_failure(judge(scene), "VX-DNS-ANSWER")
    assert "api and tasks.api" in verdict.message
    assert NOBODY in verdict.message


def test_a_name_that_is_gone_and_still_answered_is_stale_when_nobody_has_the_address() -> None:
    def gone(cluster: Cluster) -> Cluster:
        return replace(
            cluster,
            services=tuple(service for service in cluster.services if service.name != "api"),
            endpoints=tuple(end for end in cluster.endpoints if end.service != "api"),
            tasks=tuple(task for task in cluster.tasks if task.service != "api"),
        )

    verdicts = judge(sandbox("swarm-phases/steady").expecting(gone), "VX-DNS-ANSWER")
    assert "no such name any more" in only_failure(verdicts, "VX-DNS-ANSWER").message


def test_an_answer_cut_by_the_resolver_may_hold_fewer_addresses() -> None:
    def cut(message: Message) -> None:
        answer(*TASKS_WEB[:2])(message)
        message.flags |= dns.flags.TC

    assert "VX-DNS-ANSWER" not in failing(judge(sandbox().edit(replies("tasks.web", cut))))


def test_an_address_more_is_no_fault_when_nobody_listed_all_tasks() -> None:
    def vaguer(cluster: Cluster) -> Cluster:
        networks = tuple(replace(network, complete=False, tasks_complete=False) for network in cluster.networks)
        return replace(cluster, networks=networks, services=tuple(replace(service, replicas=None) for service in cluster.services))

    more = sandbox().expecting(vaguer).edit(replies("tasks.web", answer(*TASKS_WEB, NOBODY)))
    assert not failing(judge(more))
    fewer = sandbox().expecting(vaguer).edit(replies("tasks.web", answer(*TASKS_WEB[1:])))
    assert failing(judge(fewer)) == {"VX-DNS-ANSWER"}


def without_task(cluster: Cluster) -> Cluster:
    """web.6 was removed."""
    return replace(
        cluster,
        endpoints=tuple(end for end in cluster.endpoints if not end.name.startswith("web.6.")),
        services=tuple(replace(service, replicas=5) if service.name == "web" else service for service in cluster.services),
        tasks=tuple(task for task in cluster.tasks if not (task.service == "web" and task.slot == 6)),
    )


def only_about(name: str) -> Callable[[Packet], bool | None]:
    """An edit that drops the questions for all other names."""
    return lambda packet: None if (m := message_of(packet)) is None or m.question[0].name.to_text().rstrip(".") == name else False


@pytest.mark.parametrize(("before", "stale"), [(4, False), (6, True)])
def test_while_a_change_settles_old_and_new_answers_are_right_and_then_only_new_ones(before: int, stale: bool) -> None:
    scene = sandbox("swarm-phases/steady")
    asked = min(p.ts for p in scene.packets() if (m := message_of(p)) is not None and m.question[0].name.to_text() == "tasks.web.")
    verdicts = judge(scene.edit(only_about("tasks.web")).then(without_task, asked - seconds(before)), "VX-DNS-ANSWER")
    assert failing(verdicts) == ({"VX-DNS-ANSWER"} if stale else set())


@pytest.mark.parametrize(("stale", "late"), [(3, False), (7, True)], ids=["then right", "never right"])
def test_a_change_may_take_long_when_its_answers_become_right_in_the_end(stale: int, late: bool) -> None:
    """tasks.web was asked once, and six times within a second a good minute later; the change is 8 s old then."""
    seen = itertools.count()

    def old_then_new(message: Message) -> None:
        answer(*(TASKS_WEB if next(seen) < stale else TASKS_WEB[:-1]))(message)

    scene = sandbox().edit(only_about("tasks.web")).edit(replies("tasks.web", old_then_new))
    asked = sorted(p.ts for p in scene.packets() if message_of(p) is not None and p.src == "127.0.0.11" and p.udp)
    verdicts = judge(scene.then(without_task, asked[-6] - seconds(8)), "VX-DNS-ANSWER")
    assert failing(verdicts) == ({"VX-DNS-ANSWER"} if late else set())
    assert late or "2 of them while a change was under way" in verdicts[0].message


def test_a_snapshot_taken_after_its_change_makes_the_answers_before_it_right() -> None:
    scene = sandbox("swarm-phases/steady").edit(replies("tasks.web", answer("10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.1.8")))
    asked = min(p.ts for p in scene.packets() if (m := message_of(p)) is not None and m.question[0].name.to_text() == "tasks.web.")
    web6 = next(str(one.ip) for one in scene.timeline.clusters[0].endpoints if one.name.startswith("web.6.") and one.network == "web")
    assert web6 == "10.0.1.7"
    assert "VX-DNS-ANSWER" in failing(judge(scene))
    scene = scene.edit(only_about("tasks.web"))
    assert not failing(judge(scene.then(without_task, asked + seconds(20)), "VX-DNS-ANSWER"))
    assert failing(judge(scene.then(without_task, asked + seconds(40)), "VX-DNS-ANSWER")), "too long before it"


def test_stale_records_of_a_real_partitioned_node_are_named_there_and_only_there() -> None:
    folder = CAPTURES / "faults" / "dns-stale"
    dated = json.loads((folder / "fault.json").read_text())["expect"]
    scene = healthy("faults/dns-stale", ["task-web-vm1", "task-web-vm3"], [f"{folder / one['folder']}@{one['time']}" for one in dated]).unnamed()
    verdicts = judge(scene)
    assert failing(verdicts) == {"VX-DNS-ANSWER", "VX-DNS-USE"}
    assert {verdict.nodes for verdict in failures(verdicts)} == {(VM3,)}
    assert "9 of 14" in only_failure(verdicts, "VX-DNS-ANSWER").message
    assert "9 connections" in only_failure(verdicts, "VX-DNS-USE").message


def test_two_nodes_that_go_on_to_differ_are_named_when_the_expectation_cannot_say_who_is_right() -> None:
    def ignorant(cluster: Cluster) -> Cluster:
        networks = tuple(replace(network, complete=False, tasks_complete=False, complete_nodes=frozenset()) for network in cluster.networks)
        ends = tuple(end for end in cluster.endpoints if end.service != "web" or end.name.startswith(("web.2.", "web.6.")))
        return replace(cluster, networks=networks, endpoints=ends, services=(), tasks=())

    scene = sandbox().expecting(ignorant)
    mine = scene.shots[0]
    other = Shot("other", WEB6, mine.frames)
    both = replace(scene, shots=(mine, other))
    assert not failing(judge(both))
    differs = both.edit(replies("tasks.web", answer(*TASKS_WEB, NOBODY)), ["other"])
    verdict = only_failure(judge(differs, "VX-DNS-ANSWER"), "VX-DNS-ANSWER")
    assert len(verdict.nodes) == 2
    assert VM1 in verdict.nodes
    assert NOBODY in verdict.message


# -- names that are not found --------------------------------------------------------------------------------------------------

LOST = {
    "NXDOMAIN": fails_with(dns.rcode.NXDOMAIN),
    "SERVFAIL": fails_with(dns.rcode.SERVFAIL),
    "empty": answer(),
    "unanswered": lambda message: False,
}


@pytest.mark.parametrize("how", LOST)
def test_a_name_of_the_cluster_that_is_not_found_is_named_at_the_node(how: str) -> None:
    verdicts = judge(sandbox().edit(replies("api", LOST[how])))
    assert failing(verdicts) == {"VX-DNS-NAME"}
    verdict = only_failure(verdicts, "VX-DNS-NAME")
    assert verdict.nodes == (VM1,)
    assert verdict.invariants == ("B12",)
    assert how in verdict.message


def forwarded(name: str, kind: str = "A", server: str = "10.255.255.53") -> Callable[[Packet], bool | None]:
    """The embedded resolver sends a question on: its answer becomes its own question to another server."""

    def edit(packet: Packet) -> bool | None:
        message = message_of(packet)
        if message is None or packet.src != "127.0.0.11" or message.question[0].name.to_text().rstrip(".").lower() != name:
            return None
        if dns.rdatatype.to_text(message.question[0].rdtype) != kind:
            return None
        query = dns.message.make_query(name, kind, id=message.id)
        put(packet, query.to_wire())
        packet.set(src="172.18.0.6", dst=server, sport=40000, dport=53)
        return None

    return edit


def test_a_name_that_is_sent_upstream_is_missing_and_leaks() -> None:
    verdicts = judge(sandbox().edit(forwarded("api")))
    assert failing(verdicts) == {"VX-DNS-NAME", "VX-DNS-LEAK"}
    missing = only_failure(verdicts, "VX-DNS-NAME")
    assert missing.nodes == (VM1,)
    assert missing.invariants == ("B12", "B13")
    assert "10.255.255.53" in missing.message
    assert "gossip" in missing.hint
    assert only_failure(verdicts, "VX-DNS-LEAK").nodes == (VM1,)


def test_a_sandbox_without_a_frame_of_its_own_addresses_is_known_by_what_its_resolver_answered() -> None:
    scene = sandbox().edit(forwarded("api")).edit(lambda p: None if message_of(p) is not None and p.src != "10.0.1.4" else False)
    shot = replace(scene.shots[0], name="task-vm3.pcap", vantage=None)
    case = replace(scene, shots=(shot,))
    assert case.case().vantages[0].kind == "unknown"
    verdict = only_failure(judge(case), "VX-DNS-NAME")
    assert verdict.nodes == (VM3,), "the node by the capture's name"


def test_a_name_that_begins_to_resolve_before_any_expectation_holds_was_not_there_yet() -> None:
    seen = itertools.count()
    first = replies("tasks.web", lambda message: False if next(seen) == 0 else None)
    assert not failing(judge(sandbox().edit(first), "VX-DNS-NAME"))
    begin = min(p.ts for p in sandbox().packets())
    dated = sandbox()
    dated = replace(dated, timeline=replace(dated.timeline, moments=(replace(dated.timeline.moments[0], time_ns=begin),)))
    seen = itertools.count()
    assert failing(judge(dated.edit(replies("tasks.web", lambda message: False if next(seen) == 0 else None)), "VX-DNS-NAME")) == {"VX-DNS-NAME"}


def test_a_question_at_the_very_end_of_a_capture_is_not_unanswered() -> None:
    scene = sandbox()
    asked = max(p.ts for p in scene.packets() if (m := message_of(p)) is not None and m.question[0].name.to_text() == "tasks.web.")
    scene = scene.edit(replies("tasks.web", lambda message: False)).edit(lambda p: p.ts <= asked)
    last = failures(judge(scene, "VX-DNS-NAME"))
    assert last
    assert all("tasks.web" in verdict.message for verdict in last)
    assert "6 unanswered" in last[0].message or "1 unanswered" in last[0].message


# -- types, form, delay --------------------------------------------------------------------------------------------------------


def test_an_ipv6_question_must_not_hide_the_ipv4_name() -> None:
    verdicts = judge(sandbox().edit(replies("web", fails_with(dns.rcode.NXDOMAIN), "AAAA")))
    assert failing(verdicts) == {"VX-DNS-EMPTY"}
    assert "NXDOMAIN" in only_failure(verdicts, "VX-DNS-EMPTY").message


def test_an_ipv6_question_that_goes_upstream_is_told() -> None:
    assert failing(judge(sandbox().edit(forwarded("web", "AAAA")))) == {"VX-DNS-EMPTY", "VX-DNS-LEAK"}


def test_a_program_that_asks_another_server_for_a_name_of_the_cluster_leaks_it() -> None:
    def elsewhere(packet: Packet) -> None:
        message = message_of(packet)
        if message is not None and message.question[0].name.to_text() == "nosuch." and packet.dst == "10.255.255.53":
            put(packet, dns.message.make_query("api", "A", id=message.id + 1 & 0xFFFF).to_wire())

    verdict = only_failure(judge(sandbox().edit(elsewhere)), "VX-DNS-LEAK")
    assert "api" in verdict.message
    assert "resolv.conf" in verdict.hint


def test_another_time_to_live_is_not_dockers() -> None:
    verdicts = judge(sandbox().edit(replies("web", answer(WEB_VIP, ttl=30))))
    assert failing(verdicts) == {"VX-DNS-TTL"}
    assert "30 s" in only_failure(verdicts, "VX-DNS-TTL").message


def test_an_address_named_after_another_task_is_stale() -> None:
    change = answer("web.9.zzzzzzzzzzzzzzzzzzzzzzzzz.web.", kind="PTR")
    verdicts = judge(sandbox().edit(replies("3.1.0.10.in-addr.arpa", change, "PTR")))
    assert failing(verdicts) == {"VX-DNS-PTR"}
    verdict = only_failure(verdicts, "VX-DNS-PTR")
    assert verdict.nodes == (VM1,)
    assert verdict.severity is Severity.ERROR
    assert "web.1." in verdict.message


def test_an_endpoint_whose_address_has_no_name_is_a_warning() -> None:
    verdicts = judge(sandbox().edit(forwarded("3.1.0.10.in-addr.arpa", "PTR")))
    assert failing(verdicts) == {"VX-DNS-PTR", "VX-DNS-LEAK"}
    assert only_failure(verdicts, "VX-DNS-PTR").severity is Severity.WARNING


def test_addresses_that_always_come_in_one_order_are_not_shuffled() -> None:
    scene = sandbox().edit(replies("tasks.web", answer(*TASKS_WEB)))
    verdict = only_failure(judge(scene), "VX-DNS-SHUFFLE")
    assert verdict.severity is Severity.INFO
    assert "7 of 7" in verdict.message


@pytest.mark.parametrize(("bits", "words"), [(dns.flags.AA, "authoritative"), (dns.flags.RA, "recursion"), (dns.flags.RD, "wish for recursion")])
def test_answers_in_another_form_than_dockers_are_told(bits: int, words: str) -> None:
    verdict = only_failure(judge(sandbox().edit(replies("api", flag(bits)))), "VX-DNS-FLAGS")
    assert verdict.severity is Severity.INFO
    assert words in verdict.message


def test_an_answer_to_a_question_in_other_letters_is_told() -> None:
    def small(packet: Packet) -> None:
        message = message_of(packet)
        if message is not None and message.flags & dns.flags.QR and b"\x03WEB" in packet.data:
            put(packet, bytes(packet.data[int(packet.row["dns_offset"]) :]).replace(b"\x03WEB", b"\x03web"))

    assert "question" in only_failure(judge(sandbox().edit(small)), "VX-DNS-FLAGS").message


def test_a_resolver_that_answers_nothing_is_silent_and_no_name_is_missing() -> None:
    scene = sandbox().edit(lambda p: None if message_of(p) is None and not p.tcp else p.dst == "127.0.0.11")
    verdicts = judge(scene)
    assert failing(verdicts) == {"VX-DNS-SILENT"}
    verdict = only_failure(verdicts, "VX-DNS-SILENT")
    assert verdict.severity is Severity.ERROR


def test_a_dead_upstream_server_is_information() -> None:
    verdict = only_failure(judge(sandbox()), "VX-DNS-SILENT")
    assert verdict.severity is Severity.INFO
    assert verdict.subject == "10.255.255.53"


@pytest.mark.parametrize(("delay", "slow"), [(0.9, False), (1.1, True)])
def test_a_name_of_the_cluster_that_takes_a_second_is_slow(delay: float, slow: bool) -> None:
    def late(packet: Packet) -> None:
        message = message_of(packet)
        if message is not None and packet.src == "127.0.0.11" and message.question[0].name.to_text() == "api.":
            packet.ts += seconds(delay)

    verdicts = judge(sandbox().edit(late))
    assert failing(verdicts) == ({"VX-DNS-LATENCY"} if slow else set())
    if slow:
        assert only_failure(verdicts, "VX-DNS-LATENCY").nodes == (VM1,)


def test_a_refused_question_is_told() -> None:
    def refuse(packet: Packet) -> None:
        message = message_of(packet)
        if message is not None and message.question[0].name.to_text() == "nosuch." and packet.dst == "10.255.255.53":
            put(packet, (reply := dns.message.make_response(message)).to_wire())
            reply.set_rcode(dns.rcode.REFUSED)
            put_again(packet, reply.to_wire())

    def put_again(packet: Packet, wire: bytes) -> None:
        start = int(packet.row["dns_offset"])
        packet.data[start : start + len(wire)] = wire
        query = next(
            p for p in sandbox().packets() if (m := message_of(p)) is not None and p.dst == "127.0.0.11" and m.id == int.from_bytes(wire[:2], "big")
        )
        packet.set(src="127.0.0.11", dst="127.0.0.1", sport=53, dport=query.sport)

    verdict = only_failure(judge(sandbox().edit(refuse), "VX-DNS-RCODE"), "VX-DNS-RCODE")
    assert verdict.severity is Severity.INFO
    assert "REFUSED" in verdict.message


# -- use -----------------------------------------------------------------------------------------------------------------------


def syn(ts: int, source: str, target: str) -> Frame:
    """A SYN in a sandbox capture (Ethernet is enough: the addresses matter)."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    frame = Ether(src="02:42:0a:00:01:04", dst=str(Mac(0x0242_0A00_0000 | int(IPv4Address(target)) & 0xFFFF))) / IP(src=source, dst=target)
    return Frame(ts, bytes(frame / TCP(sport=40001, dport=80, flags="S", seq=7)))


def test_a_program_that_keeps_an_old_answer_is_told_from_a_resolver_that_gives_one() -> None:
    scene = sandbox("swarm-phases/steady")
    packets = [
        p for p in scene.packets() if (m := message_of(p)) is not None and m.question[0].name.to_text() == "tasks.web." and p.src == "127.0.0.11"
    ]
    told, end = packets[0].ts, max(p.ts for p in scene.packets())
    attempt = [syn(end - seconds(3), "10.0.1.3", "10.0.1.7"), syn(end - seconds(2), "10.0.1.3", "10.0.1.7")]
    gone = scene.then(without_task, told + seconds(1)).with_frames("container", attempt)
    verdict = only_failure(judge(gone, "VX-DNS-USE"), "VX-DNS-USE")
    assert verdict.severity is Severity.WARNING
    assert "10.0.1.7" in verdict.message
    assert "nobody has the address" in verdict.message


def test_an_unanswered_connection_to_a_task_that_runs_is_not_the_resolvers_fault() -> None:
    scene = sandbox("swarm-phases/steady")
    end = max(p.ts for p in scene.packets())
    attempt = [syn(end - seconds(3), "10.0.1.3", "10.0.1.7"), syn(end - seconds(2), "10.0.1.3", "10.0.1.7")]
    assert not failing(judge(scene.with_frames("container", attempt), "VX-DNS-USE"))


# -- what cannot be told -------------------------------------------------------------------------------------------------------


def test_captures_without_dns_leave_every_check_undecided_with_what_it_would_need() -> None:
    verdicts = judge(healthy("swarm-phases/scaled"))
    assert results(verdicts) == {check: {Result.UNKNOWN} for check in NAMES}
    assert all("would need" in verdict.hint for verdict in verdicts)


def test_without_an_expectation_nothing_about_names_is_claimed() -> None:
    verdicts = judge(healthy("swarm-steady", ["container"], []))
    assert not failing(verdicts)
    assert results(verdicts)["VX-DNS-ANSWER"] == {Result.UNKNOWN}


@pytest.mark.parametrize("kept", [12, 14, 20, 30, 45])
def test_a_capture_that_cuts_messages_does_not_make_them_wrong(kept: int) -> None:
    scene = sandbox()
    short = [
        replace(p.frame, data=p.frame.data[: int(p.row["dns_offset"]) + kept], wirelen=len(p.frame.data)) if message_of(p) is not None else p.frame
        for p in scene.packets()
    ]
    verdicts = judge(replace(scene, shots=(replace(scene.shots[0], frames=tuple(short)),)))
    assert not failing(verdicts), failures(verdicts)
