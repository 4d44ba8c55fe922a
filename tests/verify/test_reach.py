"""Reach: what silence says, and what it does not."""

from __future__ import annotations

from tests.verify.build import ACK, Packet, Scene, failing, failures, healthy, seconds
from vxtool.verify.reach import handshakes, matrix

VM1, VM2 = "192.168.68.109", "192.168.68.110"


def steady(*captures: str) -> Scene:
    return healthy("swarm-phases/steady", captures or ("vm1", "vm2", "vm3"))


def test_a_request_is_one_whatever_captures_saw_it() -> None:
    one, three = matrix(steady("vm1").case()), matrix(steady().case())
    assert len({(ask.src, ask.dst, ask.port, ask.first_ns) for ask in three.asks}) == len(three.asks)
    assert len(one.asks) < len(three.asks)
    assert all(ask.answered for ask in three.asks)


def test_requests_at_the_very_end_of_a_capture_are_not_unanswered() -> None:
    packets = [p for p in steady("vm1").packets() if p.tunnelled and p.syn]
    cut = steady("vm1").edit(lambda p: p.ts <= packets[-1].ts)
    assert all(ask.answered for ask in handshakes(cut.case(), True))


def test_two_unanswered_pings_are_not_silence() -> None:
    def lost(packet: Packet) -> bool:
        return not (packet.vni == 4097 and not packet.tcp and packet.outer_src == VM2 and packet.row["icmp_seq"] in (1, 2))

    assert not failing(steady("vm1").edit(lost).judge("VX-SILENT", "VX-ONEWAY"))


def test_pings_that_are_never_answered_are_the_silence_of_the_one_asked() -> None:
    scene = steady().edit(lambda p: not (p.vni == 4097 and p.outer_src == VM2))
    (found,) = failures(scene.judge("VX-SILENT"))
    assert found.nodes == ("sathish-vm2",)
    assert "10.0.1.7" in found.subject


def test_an_answer_that_comes_late_is_an_answer() -> None:
    def late(packet: Packet) -> None:
        if packet.tunnelled and packet.outer_src == VM2 and packet.flags & ACK:
            packet.ts += seconds(0.5)

    assert not failing(steady("vm1").edit(late).judge("VX-SILENT", "VX-ONEWAY", "VX-RETRY"))


def test_a_node_to_which_nobody_answers_is_the_one_that_is_cut_off() -> None:
    # Its own capture alone: it asks both others, and nothing arrives.
    scene = steady("vm2").edit(lambda p: not (p.tunnelled and p.outer_dst == VM2))
    (found,) = failures(scene.judge("VX-ONEWAY"))
    assert found.nodes == ("sathish-vm2",)
    assert "which answer others" not in found.message
