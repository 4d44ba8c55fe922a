"""Segments: the boundaries between checks that the mutation suite (test_faults) does not reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.verify.build import ACK, Packet, Scene, failing, failures, healthy, results
from vxtool.model import Cluster
from vxtool.verify import engine
from vxtool.verify.case import Settings
from vxtool.verify.check import PROFILES
from vxtool.verify.verdicts import Finding, Result, Severity, failed, passed

VM1, VM2, VM3 = "192.168.68.109", "192.168.68.110", "192.168.68.111"
MADE = (
    *("big_tcp", "checksums", "damage_empty", "esp", "evpn_flood", "flannel", "fragments", "geneve", "icmp_errors", "ipv6_outer", "names", "nested"),
    *("short_frames", "swarm_control", "vlans", "vxlan_gpe", "vxlan_kinds"),
)


def steady(*captures: str) -> Scene:
    return healthy("swarm-phases/steady", captures or ("vm1", "vm2", "vm3"))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", MADE)
def test_odd_frames_are_judged_under_every_profile_with_and_without_an_expectation(name: str, profile: str) -> None:
    # Tunnels without Ethernet, ARP alone, IPv6 outside, ESP, fragments, cut frames, no frame at all.
    scene = replace(healthy("made", (name,), ()), settings=Settings(profile=profile))
    for timeline in (scene.timeline, steady().timeline):
        verdicts = replace(scene, timeline=timeline).judge()
        assert {verdict.check for verdict in verdicts} <= {one.id for one in engine.chosen(profile)}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_healthy_flannel_is_left_in_peace(profile: str) -> None:
    scene = replace(healthy("made", ("flannel",), ()), settings=Settings(profile=profile))
    assert not failing(scene.judge())


def test_of_a_capture_without_frames_nothing_is_claimed() -> None:
    found = results(healthy("made", ("damage_empty",), ()).judge("VX-VNI", "VX-DUPLICATE", "VX-SOURCE", "VX-FDB", "VX-SILENT", "VX-MTU", "VX-FLOOD"))
    assert len(found) == 7
    assert all(value == {Result.UNKNOWN} for value in found.values())


def test_packets_without_ethernet_are_no_second_mac_of_their_address() -> None:
    assert "VX-DUPLICATE" not in failing(healthy("made", ("vxlan_gpe",), ()).judge("VX-DUPLICATE"))


D_FRAMES = 0x40  # in the second byte of a header whose G bit is set


@pytest.mark.parametrize(("policy", "failed_for"), [(D_FRAMES, {"VX-RESERVED"}), (0, {"VX-RESERVED", "VX-DUPLICATE"})], ids=["told", "not told"])
def test_a_frame_from_which_nobody_may_learn_puts_its_source_nowhere(policy: int, failed_for: set[str]) -> None:
    def in_the_name_of_another(packet: Packet) -> bytes | None:
        if not (packet.tunnelled and packet.outer_src == VM2 and packet.outer_dst == VM1 and packet.flags == ACK):
            return None
        packet.set(src="10.0.0.11", eth_src="02:42:0a:00:00:0b", vxlan_flags=0x88)  # web.1, which lives on vm3
        packet.data[int(packet.row["tunnel_offset"]) + 1] = policy
        return packet.result().data

    scene = steady("vm1")
    more = [replace(packet.frame, data=data) for packet in scene.packets("vm1") if (data := in_the_name_of_another(packet)) is not None]
    verdicts = scene.with_frames("vm1", more[::10]).judge("VX-RESERVED", "VX-DUPLICATE", "VX-SOURCE", "VX-LEARN")
    assert failing(verdicts) == failed_for
    assert results(verdicts)["VX-LEARN"] == ({Result.PASS} if policy else {Result.UNKNOWN})


def test_addresses_that_are_gone_are_one_finding_for_each_sender() -> None:
    def elsewhere(packet: Packet) -> None:
        if packet.tunnelled and packet.outer_src == VM1 and packet.src == "10.0.0.2" and packet.flags == ACK and packet.dst == "10.0.0.7":
            last = 200 + packet.number % 6
            packet.set(dst=f"10.0.0.{last}", eth_dst=f"02:42:0a:00:00:{last:02x}")

    verdicts = steady().edit(elsewhere).judge("VX-ENDPOINT")
    (found,) = failures(verdicts)
    assert found.severity is Severity.WARNING
    assert found.nodes == ("sathish-vm1",)
    assert "and 2 more" in found.message


def test_where_the_expectation_lists_no_endpoints_strangers_are_unknown() -> None:
    def bare(cluster: Cluster) -> Cluster:
        return replace(cluster, endpoints=(), networks=tuple(replace(network, complete=False) for network in cluster.networks))

    assert not failing(steady().expecting(bare).judge("VX-ENDPOINT", "VX-SOURCE", "VX-NEIGHBOUR"))


def test_all_crooked_conversations_of_two_nodes_are_one_finding() -> None:
    def bare(cluster: Cluster) -> Cluster:
        return replace(cluster, networks=(), endpoints=(), services=())

    def moved(packet: Packet) -> None:
        if packet.tunnelled and packet.outer_src == VM2:
            packet.set(outer_src="192.168.68.210")

    found = failures(steady("vm1").expecting(bare).edit(moved).judge("VX-SYMMETRY"))
    assert 1 <= len(found) <= 2
    assert all("more conversations" in one.message for one in found)


def test_a_task_that_is_heard_elsewhere_is_a_source_and_not_every_senders_forwarding_fault() -> None:
    def move(cluster: Cluster) -> Cluster:
        ends = tuple(replace(end, node="sathish-vm2") if str(end.ip) == "10.0.0.11" else end for end in cluster.endpoints)
        return replace(cluster, endpoints=ends)

    assert failing(steady().expecting(move).judge("VX-SOURCE", "VX-FDB")) == {"VX-SOURCE"}


def test_the_twenty_first_finding_of_a_check_and_those_after_it_are_one() -> None:
    findings = [failed("wrong", subject=f"10.0.0.{n}", nodes=(f"node{n % 3}",)) for n in range(30)]
    capped: list[Finding] = list(engine._at_most(engine.MOST, [passed("right"), *findings]))
    assert len(capped) == 1 + engine.MOST + 1
    assert capped[-1].message.startswith("and 10 more")
    assert set(capped[-1].nodes) == {"node0", "node1", "node2"}
    assert list(engine._at_most(engine.MOST, findings[:20])) == findings[:20]
