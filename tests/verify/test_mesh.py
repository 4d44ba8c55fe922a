"""The routing mesh: quiet on healthy swarms, and each fault put into one is named where it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.verify.build import ACK, CAPTURES, FIN, RST, Frame, Packet, Scene, failing, failures, healthy, of_family, phases, results, seconds
from vxtool.expect.load import load as load_expectation
from vxtool.model import Address, Cluster, Orchestrator
from vxtool.verify import engine
from vxtool.verify.case import Settings
from vxtool.verify.choices import mesh_of
from vxtool.verify.turns import even, stretches
from vxtool.verify.verdicts import Result, Severity, Verdict

MESH = of_family("mesh")
VM1, VM2, VM3 = "sathish-vm1", "sathish-vm2", "sathish-vm3"
CLIENT = "192.168.68.50"
NODE1, NODE2 = "192.168.68.109", "192.168.68.110"
LB1, LB2 = "10.0.0.2", "10.0.0.3"
WEB3 = "10.0.0.8"  # on vm2
WEB2 = "10.0.0.7"  # on vm1
INGRESS = 4096

PHASES = ("swarm-phases/steady", "swarm-phases/scaled", "swarm-phases/drained")
HEALTHY = ("swarm-steady", "swarm-after-drain", *PHASES)


def judge(scene: Scene, *ids: str) -> tuple[Verdict, ...]:
    return scene.judge(*(ids or MESH))


def words(verdicts: tuple[Verdict, ...], check: str) -> str:
    return " / ".join(verdict.message for verdict in verdicts if verdict.check == check)


# -- healthy swarms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", HEALTHY)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_nothing_fails_on_a_healthy_swarm_whichever_captures_are_given(folder: str, named: bool) -> None:
    names = ("vm1", "vm2", "vm3", "container")
    for number in range(1, len(names) + 1) if named else (1, len(names)):
        for given in itertools.combinations(names, number):
            scene = healthy(folder, given)
            if scene.shots:
                verdicts = judge(scene if named else scene.unnamed())
                assert not failing(verdicts, *Severity), (given, failures(verdicts))


@pytest.mark.parametrize("folder", HEALTHY)
def test_nothing_fails_when_only_some_documents_are_given(folder: str) -> None:
    documents = sorted(str(path) for path in (CAPTURES / folder).glob("*.json"))
    some = [[one] for one in documents if "ingress" in one] + [documents[::2], documents[1::2], [one for one in documents if "vm1" in one]]
    for expect in some:
        verdicts = judge(healthy(folder, expect=expect))
        assert not failing(verdicts, *Severity), (expect, failures(verdicts))


@pytest.mark.parametrize("kept", [kept for n in (1, 2, 3) for kept in itertools.combinations(range(3), n)], ids=str)
def test_three_phases_are_clean_as_one_run_also_when_a_snapshot_is_missing(kept: tuple[int, ...]) -> None:
    times = (CAPTURES / "swarm-phases" / "times.txt").read_text().split()
    timeline = load_expectation([f"{CAPTURES / PHASES[i]}@{times[i]}" for i in kept])
    scene = replace(phases(), timeline=timeline)
    for given in (scene, scene.only("steady/vm1", "scaled/vm1", "drained/vm1")):
        verdicts = judge(given)
        assert not failing(verdicts, *Severity), failures(verdicts)


def test_three_phases_with_their_snapshots_are_judged_not_guessed() -> None:
    assert all(found == {Result.PASS} for found in results(judge(phases())).values())


# -- the facts -------------------------------------------------------------------------------------------------------------


def counted(scene: Scene) -> dict[str, tuple[dict[str, tuple[int, int]], int, tuple[int, int | None] | None]]:
    case = scene.case()
    (*turns,) = stretches(case, mesh_of(case))
    assert all(len(one.parts) == 1 for one in turns)
    return {
        one.entry: (
            {str(address): count for address, count in sorted(part.counts.items(), key=lambda item: int(item[0]))},
            part.local,
            part.local_sum,
        )
        for one in turns
        for part in one.parts
    }


def test_three_hundred_requests_fall_16_or_17_to_each_remote_backend_and_33_to_the_two_local_ones() -> None:
    assert counted(healthy("swarm-steady")) == {
        VM1: ({"10.0.0.6": (17, 17), "10.0.0.8": (16, 16), "10.0.0.9": (17, 17), "10.0.0.11": (17, 17)}, 2, (33, 33)),
        VM2: ({"10.0.0.6": (16, 16), "10.0.0.7": (17, 17), "10.0.0.9": (17, 17), "10.0.0.10": (17, 17)}, 2, (33, 33)),
        VM3: ({"10.0.0.7": (17, 17), "10.0.0.8": (16, 16), "10.0.0.10": (17, 17), "10.0.0.11": (17, 17)}, 2, (33, 33)),
    }


def test_a_capture_in_the_sandbox_of_a_local_backend_tells_it_from_the_other() -> None:
    counts, local, together = counted(healthy("swarm-steady", ("vm1", "vm2", "vm3", "container")))[VM1]
    assert (counts[WEB2], local, together) == ((17, 17), 1, (16, 16))


@pytest.mark.parametrize(("folder", "each", "requests"), [(PHASES[0], 10, 60), (PHASES[1], 10, 30), (PHASES[2], 5, 40)])
def test_every_phase_is_exactly_even(folder: str, each: int, requests: int) -> None:
    for counts, local, together in counted(healthy(folder)).values():
        assert set(counts.values()) == {(each, each)}
        assert together == ((local * each,) * 2 if local else None)
        assert len(counts) * each + local * each == requests


def test_without_the_ingress_expectation_what_was_seen_is_told_and_the_rest_is_unknown() -> None:
    verdicts = judge(healthy("swarm-after-drain"))
    found = results(verdicts)
    assert found["VX-MESH-BALANCE"] == found["VX-MESH-UNUSED"] == found["VX-MESH-REMOVED"] == found["VX-MESH-SNAT"] == {Result.UNKNOWN}
    assert "10.0.0.7 25, 10.0.0.12 25" in words(verdicts, "VX-MESH-BALANCE")
    assert "75 to vm2:80" in words(verdicts, "VX-MESH-ENTRY")


def test_one_connection_seen_in_several_captures_is_one() -> None:
    mesh = mesh_of(healthy("swarm-steady", ("vm1", "vm2", "vm3", "container")).case())
    assert len(mesh.choices) == 201 + 17  # 33 or 34 of each hundred are local, 17 of them seen in web.2
    assert {len(choice.captures) for choice in mesh.choices} == {1, 2, 3}
    assert len(mesh.requests) == 300


def test_a_mesh_without_a_balancer_is_recognised_by_refusals_that_no_vxlan_follows() -> None:
    verdicts = judge(healthy("swarm-no-ipvs"))
    assert failing(verdicts) == {"VX-MESH-ENTRY"}
    found = failures(verdicts)
    assert {verdict.nodes for verdict in found} == {("vm1",), ("vm2",)}
    for verdict in found:
        assert "refused at once" in verdict.message
        assert "no VXLAN SYN on VNI 4096 follows" in verdict.message
        assert "without a balancer" in verdict.hint
        assert "ipvsadm" in verdict.command
        assert verdict.evidence


# -- faults ----------------------------------------------------------------------------------------------------------------


def steady() -> Scene:
    return healthy("swarm-steady")


def instead(balancer: str, mapping: dict[str, str]) -> Callable[[Packet], None]:
    """Connections of a balancer that go to another backend."""

    def change(packet: Packet) -> None:
        if packet.vni == INGRESS and packet.src == balancer and packet.dst in mapping:
            packet.set(dst=mapping[packet.dst])
        elif packet.vni == INGRESS and packet.dst == balancer and packet.src in mapping:
            packet.set(src=mapping[packet.src])

    return change


def without(scene: Scene, node: str, backends: set[str | None], *, keep: int = 0) -> Scene:
    """As if the clients' requests that went from a node to these backends (None: to a local one) had not been made."""
    requests = [r for r in mesh_of(scene.case()).requests if r.node == node]
    chosen = [r for r in requests if (None if r.choice is None else str(r.choice.backend)) in backends][keep:]
    ports = {r.client_port for r in chosen} | {r.choice.source_port for r in chosen if r.choice is not None}
    ours = {str(r.address) for r in chosen} | {str(r.choice.source) for r in chosen if r.choice is not None}
    return scene.edit(lambda p: not (p.tcp and {p.sport, p.dport} & ports and {p.src, p.dst} & ours))


def silent(*backends: str) -> Callable[[Packet], bool]:
    return lambda packet: not (packet.vni == INGRESS and packet.src in backends)


def refusing(backend: str) -> Callable[[Packet], bool | None]:
    def change(packet: Packet) -> bool | None:
        if packet.vni != INGRESS or backend not in (packet.src, packet.dst):
            return None
        if packet.syn_ack:
            packet.set(flags=RST | ACK)
        return packet.syn or packet.syn_ack

    return change


def forget(*addresses: str, replicas: int = 5) -> Callable[[Cluster], Cluster]:
    """The expectation without some endpoints of the ingress network."""
    gone = {IPv4Address(address) for address in addresses}

    def change(cluster: Cluster) -> Cluster:
        services = tuple(replace(service, replicas=replicas) if service.name == "web" else service for service in cluster.services)
        return replace(cluster, endpoints=tuple(e for e in cluster.endpoints if e.ip not in gone), services=services)

    return change


def only_failing(scene: Scene, check: str) -> list[Verdict]:
    verdicts = judge(scene)
    assert failing(verdicts) == {check}, [(v.check, v.message) for v in failures(verdicts)]
    found = failures(verdicts, check)
    for verdict in found:
        assert verdict.evidence
        assert verdict.hint
        assert verdict.command
        assert verdict.invariants
    return found


def test_all_connections_to_one_backend_are_an_imbalance_of_their_entry_node() -> None:
    scene = steady().edit(instead(LB1, {WEB3: "10.0.0.6", "10.0.0.9": "10.0.0.6", "10.0.0.11": "10.0.0.6"}))
    (found,) = only_failing(scene, "VX-MESH-BALANCE")
    assert found.nodes == (VM1,)
    assert "67 to web.1 (10.0.0.6) on sathish-vm3" in found.seen


def test_two_turns_of_difference_are_too_many() -> None:
    # One connection of a backend with 16 made another's: 15 and 18.
    mesh = mesh_of(steady().case())
    moved = next(c for c in mesh.choices if c.entry == VM1 and str(c.backend) == WEB3)

    def change(packet: Packet) -> None:
        if {packet.sport, packet.dport} == {moved.source_port, 80} and {packet.src, packet.dst} == {LB1, WEB3} and packet.vni == INGRESS:
            instead(LB1, {WEB3: "10.0.0.6"})(packet)

    (found,) = only_failing(steady().edit(change), "VX-MESH-BALANCE")
    assert found.nodes == (VM1,)


def test_a_backend_that_one_node_leaves_out_is_named_with_that_node() -> None:
    (found,) = only_failing(without(steady(), VM1, {WEB3}), "VX-MESH-UNUSED")
    assert found.nodes == (VM1, VM2)
    assert "web.3 (10.0.0.8)" in found.message
    assert "other nodes do" in found.message


def test_a_local_backend_that_is_left_out_shows_in_the_sum() -> None:
    (found,) = only_failing(without(steady(), VM1, {None}, keep=17), "VX-MESH-UNUSED")
    assert found.nodes == (VM1,)
    assert "1 of the 2 backends" in found.message
    assert found.seen == "17"


def test_a_sum_of_local_ones_that_no_turns_explain_is_an_imbalance() -> None:
    (found,) = only_failing(without(steady(), VM1, {None}, keep=26), "VX-MESH-BALANCE")
    assert found.nodes == (VM1,)
    assert "26 to the 2 on sathish-vm1 itself" in found.seen


def test_a_backend_that_is_taken_out_in_mid_capture_at_one_node_is_named() -> None:
    scene = without(steady(), VM1, {WEB3}, keep=5)
    (found,) = only_failing(scene, "VX-MESH-UNUSED")
    assert found.nodes == (VM1, VM2)
    assert "stopped choosing web.3" in found.message


def test_a_client_on_an_uncaptured_side_makes_the_local_sum_unknown_not_wrong() -> None:
    scene = steady().edit(lambda p: not (not p.tunnelled and p.src == CLIENT and p.dst == NODE1 and p.sport % 2))
    assert not failing(judge(scene, "VX-MESH-BALANCE", "VX-MESH-UNUSED"))


def test_repeated_syns_and_repeated_ports_do_not_break_the_count() -> None:
    scene = steady()
    more = [Frame(p.ts + seconds(1.1), p.frame.data) for p in scene.packets("vm1") if p.vni == INGRESS and p.syn and p.dst == WEB3]
    assert not failing(judge(scene.with_frames("vm1", more)), *Severity)
    again = []
    for packet in scene.packets("vm1"):
        if packet.vni == INGRESS and packet.dst == WEB3 and packet.syn:
            packet.set(seq=int(packet.row["tcp_seq"]) ^ 0x5A5A5A5A)
            again.append(replace(packet.result(), ts=packet.ts + seconds(2)))
    assert not failing(judge(scene.with_frames("vm1", again), "VX-MESH-BALANCE", "VX-MESH-UNUSED"), *Severity)


def test_a_silent_backend_is_found_at_its_node() -> None:
    (found,) = only_failing(steady().edit(silent(WEB3)), "VX-MESH-DEAD")
    assert found.nodes == (VM2,)
    assert "never answers" in found.message
    assert "32 of 32" in found.message


def test_a_backend_that_refuses_is_found_at_its_node() -> None:
    (found,) = only_failing(steady().edit(refusing(WEB3)), "VX-MESH-DEAD")
    assert found.nodes == (VM2,)
    assert "refuses" in found.message
    assert found.seen == "a reset"


def test_backends_of_one_node_that_are_all_silent_are_one_finding() -> None:
    (found,) = only_failing(steady().edit(silent(WEB3, "10.0.0.11")), "VX-MESH-DEAD")
    assert found.nodes == (VM2,)
    assert "the node itself" in found.hint


def test_a_backend_that_stops_answering_is_told_from_one_that_never_did() -> None:
    times = [choice.time_ns for choice in mesh_of(steady().case()).choices if choice.entry == VM3 and str(choice.backend) == WEB3]
    (found,) = only_failing(steady().edit(lambda p: silent(WEB3)(p) or p.ts < times[8]), "VX-MESH-DEAD")
    assert "no longer answers: 8 of 32" in found.message


def test_a_backend_that_answers_others_but_not_one_entry_node_is_a_matter_of_the_way() -> None:
    scene = steady().edit(lambda p: not (p.vni == INGRESS and p.src == WEB3 and p.dst == LB1)).only("vm1", "vm3")
    (found,) = only_failing(scene, "VX-MESH-DEAD")
    assert found.nodes == (VM1, VM2)
    assert found.severity is Severity.WARNING  # nobody saw whether the connections arrived


def test_what_is_lost_on_the_way_is_not_the_backends_fault() -> None:
    lost = steady().edit(lambda p: not (p.vni == INGRESS and p.dst == WEB3), captures=["vm2"])
    lost = lost.edit(lambda p: not (p.vni == INGRESS and p.src == WEB3))
    assert "VX-MESH-DEAD" not in failing(judge(lost), *Severity)
    assert "lost before they reached" in words(judge(lost), "VX-MESH-DEAD")


def test_a_dead_local_backend_is_not_reported_again_as_a_dead_entry_node() -> None:
    local = [r for r in mesh_of(steady().case()).requests if r.node == VM2 and r.choice is None]
    ports = {request.client_port for request in local[::2]}
    scene = steady().edit(silent(WEB3)).edit(lambda p: not (not p.tunnelled and p.src == NODE2 and p.dst == CLIENT and p.dport in ports))
    (found,) = only_failing(scene, "VX-MESH-DEAD")
    assert found.nodes == (VM2,)


def test_unanswered_connections_to_an_address_that_is_gone_name_who_still_sends_them() -> None:
    (found,) = only_failing(steady().edit(silent(WEB3)).expecting(forget(WEB3)), "VX-MESH-REMOVED")
    assert found.nodes == (VM1, VM3, VM2)
    assert WEB3 in found.subject


def test_a_task_that_a_later_snapshot_has_removed_must_get_no_more_connections() -> None:
    scene = steady().then(forget(WEB3), steady().shots[0].frames[0].ts + seconds(200))
    (found,) = only_failing(scene, "VX-MESH-REMOVED")
    assert found.nodes[:2] == (VM1, VM3)
    assert "32 answered" in found.message


def test_while_a_change_settles_the_old_backends_may_still_be_chosen() -> None:
    first = min(choice.time_ns for choice in mesh_of(steady().case()).choices)
    scene = steady().then(forget(WEB3), first - seconds(1))
    scene = replace(scene, timeline=replace(scene.timeline, settling_ns=seconds(60)))
    assert not failing(judge(scene), *Severity)


def test_an_address_that_answers_but_is_not_listed_is_unknown() -> None:
    verdicts = judge(steady().expecting(forget(WEB3)))
    assert not failing(verdicts, *Severity)
    assert results(verdicts)["VX-MESH-REMOVED"] == {Result.UNKNOWN}


def dying_at_vm1(packet: Packet) -> bool | None:
    """Nothing goes into the mesh from vm1."""
    return False if packet.vni == INGRESS and LB1 in (packet.src, packet.dst) else None


def test_a_node_that_refuses_is_named_and_not_the_backends() -> None:
    def refuse(packet: Packet) -> bool | None:
        if packet.src == NODE1 and packet.dst == CLIENT:
            if packet.syn_ack:
                packet.set(flags=RST | ACK)
                return True
            return False
        if packet.src == CLIENT and packet.dst == NODE1:
            return packet.syn
        return dying_at_vm1(packet)

    (found,) = only_failing(steady().edit(refuse), "VX-MESH-ENTRY")
    assert found.nodes == (VM1,)
    assert "every connection" in found.message
    assert "without a balancer" in found.hint


def test_a_node_that_swallows_connections_is_named() -> None:
    scene = steady().edit(lambda p: dying_at_vm1(p) is None and not (p.src == NODE1 and p.dst == CLIENT))
    (found,) = only_failing(scene, "VX-MESH-ENTRY")
    assert found.nodes == (VM1,)
    assert "left without an answer" in found.message


def test_a_node_that_accepts_but_serves_nothing_is_named() -> None:
    def hollow(packet: Packet) -> bool | None:
        if packet.src == NODE1 and packet.dst == CLIENT and packet.sport == 80:
            return packet.syn_ack
        if packet.src == CLIENT and packet.dst == NODE1 and packet.flags & FIN:
            packet.ts += seconds(5)
        return dying_at_vm1(packet)

    (found,) = only_failing(steady().edit(hollow), "VX-MESH-ENTRY")
    assert found.nodes == (VM1,)
    assert "accepted but never served" in found.message
    assert "DNAT" in found.hint


def test_a_service_without_tasks_may_refuse() -> None:
    scene = healthy("swarm-no-ipvs").expecting(
        lambda cluster: replace(
            cluster,
            endpoints=tuple(e for e in cluster.endpoints if e.service != "web"),
            services=tuple(replace(s, replicas=0) for s in cluster.services),
        )
    )
    assert not failing(judge(scene), *Severity)


def test_a_client_address_inside_the_mesh_means_that_source_nat_is_missing() -> None:
    def bare(packet: Packet) -> bool | None:
        if packet.vni == INGRESS and packet.src == LB1:
            packet.set(src=CLIENT)
        return not (packet.vni == INGRESS and packet.dst == LB1)

    (found,) = only_failing(steady().edit(bare), "VX-MESH-SNAT")
    assert found.nodes == (VM1,)
    assert found.invariants == ("B15",)
    assert CLIENT in found.seen


def test_an_answer_from_another_node_went_around_the_balancer() -> None:
    def around(packet: Packet) -> None:
        if not packet.tunnelled and packet.syn_ack and packet.src == NODE1 and packet.dst == CLIENT:
            packet.set(src=NODE2)

    (found,) = only_failing(steady().edit(around), "VX-MESH-BYPASS")
    assert found.nodes == (VM2, VM1)
    assert "100 connections" in found.message


@pytest.mark.parametrize(("how", "fails"), [("reset", True), ("silence", True), ("answer", False)])
def test_a_connection_is_silent_for_a_quarter_of_an_hour_and_then(how: str, fails: bool) -> None:
    scene = steady().only("vm1")
    port = next(r.client_port for r in mesh_of(scene.case()).requests if r.node == VM1)

    def pause(packet: Packet) -> bool | None:
        if packet.tunnelled or {packet.src, packet.dst} != {CLIENT, NODE1} or port not in (packet.sport, packet.dport):
            return None
        if packet.flags & (1 | 2):  # SYNs stay, FINs go
            return not packet.flags & 1
        if int(packet.row["payload_len"]) == 0:
            return packet.src == CLIENT and packet.ts < start + seconds(0.01)
        packet.ts += seconds(1000)
        if packet.src == NODE1 and how == "reset":
            packet.set(flags=RST)
        return packet.src == CLIENT or how != "silence"

    start = next(p.ts for p in scene.packets("vm1") if p.syn and p.sport == port and p.dst == NODE1)
    paused = scene.edit(pause)
    last = paused.shots[0].frames[-1]
    paused = paused.with_frames("vm1", [replace(paused.shots[0].frames[0], ts=last.ts + seconds(10))])
    found = failures(judge(paused, "VX-MESH-IDLE"))
    assert bool(found) is fails
    for verdict in found:
        assert verdict.nodes == (VM1,)
        assert verdict.severity is Severity.WARNING
        assert "keepalive" in verdict.hint


def test_connections_between_tasks_through_a_virtual_address_are_judged_by_the_clients_node() -> None:
    # The ingress connections of vm1, moved into network web: from its load balancer there to the tasks' addresses there.
    addresses = {"10.0.0.2": "10.0.1.11", "10.0.0.6": "10.0.1.3", WEB3: "10.0.1.5", "10.0.0.9": "10.0.1.6", "10.0.0.11": "10.0.1.8"}

    def move(packet: Packet) -> bool | None:
        if packet.vni != INGRESS:
            return packet.tunnelled
        if LB1 not in (packet.src, packet.dst):
            return False
        packet.set(src=addresses[packet.src or ""], dst=addresses[packet.dst or ""], vni=4097)
        return True

    scene = steady().edit(move)
    assert not failing(judge(scene), *Severity)
    assert "through sathish-vm1 10.0.1.3 17, 10.0.1.5 16, 10.0.1.6 17, 10.0.1.8 17" in words(judge(scene), "VX-MESH-BALANCE")
    only_third = scene.edit(lambda p: not (p.vni == 4097 and "10.0.1.5" in (p.src, p.dst)))
    (found,) = only_failing(only_third, "VX-MESH-UNUSED")
    assert found.nodes == (VM1, VM2)
    assert "lb_" in found.command


def test_udp_is_counted_by_conversation() -> None:
    def as_udp(packet: Packet) -> bool | None:
        if packet.vni != INGRESS or not packet.syn:
            return None
        ip = int(packet.row["inner_ip_offset"])
        packet.data[ip + 9] = 17
        packet.data[ip + 24 : ip + 28] = b"\x00\x14\x00\x00"  # UDP length 20, no checksum
        packet.data[ip + 2 : ip + 4] = b"\x00\x28"
        del packet.data[ip + 40 :]
        udp = int(packet.row["outer_l4_offset"])
        outer = int(packet.row["outer_ip_offset"])
        size = len(packet.data)
        packet.data[udp + 4 : udp + 6] = (size - udp).to_bytes(2, "big")
        packet.data[udp + 6 : udp + 8] = b"\0\0"
        packet.data[outer + 2 : outer + 4] = (size - outer).to_bytes(2, "big")
        packet.frame = replace(packet.frame, data=bytes(packet.data), wirelen=None)
        return True

    scene = steady().edit(lambda p: as_udp(p) if p.vni == INGRESS and p.syn else p.vni != INGRESS and p.dport != 80 != p.sport)
    mesh = mesh_of(scene.case())
    udp = [choice for choice in mesh.choices if choice.protocol == "udp"]
    assert len(udp) == 201
    assert not any(choice.sure for choice in udp)  # all begin in the first 300 s, in which IPVS may remember older ones
    assert not failing(judge(scene, "VX-MESH-BALANCE", "VX-MESH-UNUSED"), *Severity)


def test_a_random_balancer_is_judged_by_chance_not_by_turns() -> None:
    scene = replace(steady(), settings=Settings(profile="flannel")).expecting(lambda cluster: replace(cluster, orchestrator=Orchestrator.KUBERNETES))
    checks = tuple(one.id for one in engine.chosen("flannel") if one.family == "mesh")
    assert "VX-MESH-BALANCE" not in checks
    assert "kube-proxy chooses at random" in words(judge(scene, *checks), "VX-MESH-SHARE")
    uneven = scene.edit(instead(LB1, {WEB3: "10.0.0.6", "10.0.0.9": "10.0.0.6"}))
    verdicts = judge(uneven, *checks)
    assert failing(verdicts, *Severity) == {"VX-MESH-SHARE"}
    (found,) = failures(verdicts)
    assert found.severity is Severity.INFO
    assert "alpha = 0.001" in found.message


def test_the_message_of_the_chance_test_states_alpha_and_power() -> None:
    told = words(judge(steady()), "VX-MESH-SHARE")
    assert "201 connections" in told
    assert "p = 1, alpha = 0.001 (round robin is more even than chance" in told
    assert "a backend 98% off its share would show (80%)" in told


# -- turns -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "local", "together", "fits"),
    [
        ([(17, 17), (16, 16)], 0, None, True),
        ([(18, 18), (16, 16)], 0, None, False),
        ([(16, 18), (16, 16)], 0, None, True),
        ([(0, 0), (1, 1)], 0, None, True),
        ([(0, 0), (2, 2)], 0, None, False),
        ([(17, 17), (16, 16)], 2, (33, 33), True),
        ([(17, 17), (16, 16)], 2, (35, 35), False),
        ([(17, 17), (16, 16)], 2, (31, 31), False),
        ([(17, 17), (17, 17)], 2, (36, 36), True),
        ([(17, 17), (17, 17)], 2, (32, 32), True),
        ([(17, 17), (17, 17)], 2, (31, 31), False),
        ([(17, 17), (17, 17)], 2, (20, None), True),
        ([(17, 17), (17, 17)], 2, (37, None), False),
        ([(17, 17), (17, 17)], 2, (30, 34), True),
        ([], 2, (5, 5), True),
    ],
)
def test_turns_explain_counts_or_do_not(counts: list[tuple[int, int]], local: int, together: tuple[int, int | None] | None, fits: bool) -> None:
    assert even(counts, local, together) is fits


def test_a_capture_that_begins_in_the_middle_still_shows_even_turns() -> None:
    start = min(choice.time_ns for choice in mesh_of(steady().case()).choices)
    for cut in (0.5, 1.7, 3.3, 9.9, 15.2):
        late = steady().edit(lambda p, cut=cut: p.ts >= start + seconds(cut))  # type: ignore[misc]
        assert not failing(judge(late), *Severity)
        early = steady().edit(lambda p, cut=cut: p.ts < start + seconds(cut))  # type: ignore[misc]
        assert not failing(judge(early), *Severity)


def test_captures_whose_clocks_differ_by_some_tenths_of_a_second_are_no_imbalance() -> None:
    def later(packet: Packet) -> None:
        packet.ts += seconds(0.4)

    assert not failing(judge(steady().edit(later, captures=["vm2"])), *Severity)
    assert not failing(judge(steady().edit(later, captures=["vm2"]).only("vm2", "vm3")), *Severity)


def test_addresses_are_compared_as_addresses() -> None:
    case = steady().case()
    backends: set[Address] = {choice.backend for choice in mesh_of(case).choices}
    assert {IPv4Address(WEB2), IPv4Address(WEB3)} < backends
