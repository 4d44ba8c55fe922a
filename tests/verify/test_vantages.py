"""Across vantages: what was lost, late, doubled or out of order between two nodes, and what only looks so."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.verify.build import Frame, Packet, Scene, failing, failures, healthy, of_family, phases, results, seconds
from vxtool.decode.columns import HAVE
from vxtool.verify.trace import crossings, flows, follow
from vxtool.verify.verdicts import Result, Severity

VM1, VM2, VM3 = "192.168.68.109", "192.168.68.110", "192.168.68.111"
NODE = {VM1: "sathish-vm1", VM2: "sathish-vm2", VM3: "sathish-vm3"}
FAMILY = of_family("vantages")


@pytest.fixture(scope="module")
def steady() -> Scene:
    return healthy("swarm-phases/steady")


def mute(scene: Scene, *pairs: tuple[str, str]) -> Scene:
    """No answers either: what one node sends to another is in no capture."""
    return scene.edit(lambda packet: not carried(packet) or (packet.outer_src, packet.outer_dst) not in pairs)


def arriving(
    target: str, *, every: int = 1, wanted: Callable[[Packet], bool] = lambda _: True, source: str | None = None
) -> Callable[[Packet], bool]:
    """An edit that loses each n-th tunnelled frame toward a node, where it arrives."""
    count = 0

    def lose(packet: Packet) -> bool:
        nonlocal count
        if not carried(packet) or packet.outer_dst != target or source not in (None, packet.outer_src) or not wanted(packet):
            return True
        count += 1
        return count % every != 0

    return lose


def carried(packet: Packet) -> bool:
    return packet.tunnelled or bool(int(packet.row["have"]) & HAVE["esp"])


def size(packet: Packet) -> int:
    return int(packet.row["outer_ip_len"])


def shifted(scene: Scene, capture: str, ns: int) -> Scene:
    def move(packet: Packet) -> None:
        packet.ts += ns

    return scene.edit(move, [capture])


# -- healthy -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", ["swarm-steady", "swarm-after-drain", "swarm-no-ipvs", "swarm-phases/steady", "swarm-phases/scaled", "swarm-phases/drained"]
)
def test_every_frame_of_a_healthy_swarm_is_found_at_both_ends(folder: str) -> None:
    verdicts = healthy(folder).unnamed().judge(*FAMILY)
    assert failing(verdicts, *Severity) == set()
    assert Result.PASS in results(verdicts)["VX-LOSS"]


def test_three_phases_are_compared_each_with_its_own_captures() -> None:
    assert failing(phases().judge(*FAMILY), *Severity) == set()


def test_captures_that_keep_96_bytes_of_each_frame_are_compared_as_well(steady: Scene) -> None:
    def cut(frame: Frame) -> Frame:
        return replace(frame, data=frame.data[:96], wirelen=len(frame.data))

    snapped = replace(steady, shots=tuple(replace(shot, frames=tuple(map(cut, shot.frames))) for shot in steady.shots))
    verdicts = snapped.judge(*FAMILY)
    assert failing(verdicts, *Severity) == set()
    assert "all 1,4" in next(verdict.message for verdict in verdicts if verdict.check == "VX-LOSS")


def test_one_capture_alone_decides_nothing_and_says_which_one_would(steady: Scene) -> None:
    verdicts = steady.only("vm1").judge(*FAMILY)
    assert {result for found in results(verdicts).values() for result in found} == {Result.UNKNOWN}
    assert "sathish-vm2" in verdicts[0].hint
    assert "sathish-vm3" in verdicts[0].hint


def test_a_node_without_a_capture_is_told_beside_what_could_be_judged(steady: Scene) -> None:
    verdicts = steady.only("vm1", "vm2").judge("VX-LOSS")
    assert [verdict.result for verdict in verdicts] == [Result.PASS, Result.UNKNOWN]
    assert "sathish-vm3" in verdicts[1].message


def test_frames_outside_the_time_of_the_other_capture_are_not_missed(steady: Scene) -> None:
    frames = steady.shots[0].frames
    begin, end = frames[len(frames) // 3].ts, frames[2 * len(frames) // 3].ts
    part = steady.edit(lambda packet: begin <= packet.ts <= end, ["vm2"])
    assert failing(part.judge(*FAMILY), *Severity) == set()


def test_captures_one_after_the_other_decide_nothing(steady: Scene) -> None:
    verdicts = shifted(steady.only("vm1", "vm2").edit(lambda packet: packet.vni == 4097), "vm2", seconds(3600)).judge("VX-LOSS")
    # The same frames an hour apart are two clocks, not two times.
    assert failing(verdicts) == set()
    halves = steady.only("vm1", "vm2")
    middle = halves.shots[0].frames[len(halves.shots[0].frames) // 2].ts
    apart = halves.edit(lambda packet: packet.ts < middle, ["vm1"]).edit(lambda packet: packet.ts >= middle, ["vm2"])
    assert results(apart.judge("VX-LOSS", "VX-COPIES")) == {"VX-LOSS": {Result.UNKNOWN}, "VX-COPIES": {Result.UNKNOWN}}


# -- loss ----------------------------------------------------------------------------------------------------------------------


def test_nothing_arriving_at_one_node_names_that_node(steady: Scene) -> None:
    (found,) = failures(mute(steady, (VM2, VM1), (VM2, VM3)).edit(arriving(VM2), ["vm2"]).judge("VX-LOSS"))
    assert (found.nodes, found.severity, found.invariants) == (("sathish-vm2",), Severity.ERROR, ("B5",))
    assert "nothing in a tunnel arrives to sathish-vm2" in found.message
    assert {item.capture for item in found.evidence} == {"vm1", "vm3"}


def test_nothing_arriving_on_one_path_names_both_its_ends(steady: Scene) -> None:
    (found,) = failures(mute(steady, (VM3, VM1)).edit(arriving(VM3, source=VM1), ["vm3"]).judge("VX-LOSS"))
    assert found.nodes == ("sathish-vm1", "sathish-vm3")


def test_nothing_of_one_node_arriving_anywhere_names_the_sender(steady: Scene) -> None:
    lost = mute(steady, (VM2, VM1), (VM3, VM1)).edit(arriving(VM2, source=VM1), ["vm2"]).edit(arriving(VM3, source=VM1), ["vm3"])
    (found,) = failures(lost.judge("VX-LOSS"))
    assert found.nodes == ("sathish-vm1",)


def test_loss_that_begins_in_the_middle_says_when(steady: Scene) -> None:
    times = [[packet.ts for packet in steady.packets(name) if carried(packet) and packet.outer_dst == VM2] for name in ("vm1", "vm3")]
    middle = max(some[len(some) // 2] for some in times)
    (found,) = failures(mute(steady, (VM2, VM1), (VM2, VM3)).edit(arriving(VM2, wanted=lambda packet: packet.ts > middle), ["vm2"]).judge("VX-LOSS"))
    assert " s on: " in found.message


@pytest.mark.parametrize("every", [3, 10])
def test_a_share_that_is_lost_is_told_as_a_share(steady: Scene, every: int) -> None:
    # What the capture alone misses is acknowledged; what is really lost is not. Both ends lose what follows from it.
    lost = steady.edit(arriving(VM2, every=every, wanted=lambda packet: packet.flags == 16), ["vm2"])
    (found,) = failures(lost.judge("VX-LOSS"))
    assert found.nodes == ("sathish-vm2",)
    assert found.severity is Severity.ERROR
    assert found.invariants == ("B5", "B2")


def test_a_single_lost_frame_is_information(steady: Scene) -> None:
    done: list[int] = []

    def once(packet: Packet) -> bool:
        if done or not packet.tunnelled or packet.outer_dst != VM2 or packet.flags != 16 or packet.number < 500:
            return True
        done.append(packet.number)
        return False

    found = failures(steady.edit(once, ["vm2"]).judge("VX-LOSS"))
    assert {verdict.severity for verdict in found} <= {Severity.INFO}


def test_large_packets_that_vanish_are_a_black_hole_with_its_size(steady: Scene) -> None:
    sizes = sorted({size(packet) for packet in steady.packets("vm2") if packet.tunnelled and packet.outer_dst == VM2})
    limit = next(value for value in sizes if value >= 576)
    lost = mute(steady, (VM2, VM1), (VM2, VM3)).edit(arriving(VM2, wanted=lambda packet: size(packet) >= limit), ["vm2"])
    found = [verdict for verdict in failures(lost.judge("VX-LOSS")) if verdict.severity is Severity.ERROR]
    assert found
    assert all(verdict.invariants == ("B3", "C14") and "sathish-vm2" in verdict.nodes for verdict in found)
    assert f"{limit:,} bytes and more" in found[0].message


def test_a_capture_that_misses_what_was_acknowledged_is_no_loss(steady: Scene) -> None:
    # Segments with data, whose acknowledgements are there and which nobody sends again.
    verdicts = steady.edit(arriving(VM2, every=4, wanted=lambda packet: packet.tcp and packet.flags == 24), ["vm2"]).judge("VX-LOSS")
    found = failures(verdicts)
    assert found
    assert {verdict.severity for verdict in found} == {Severity.INFO}
    assert "acknowledged" in found[0].message


def test_frames_that_were_never_seen_leaving_are_a_gap_of_the_sender_s_capture(steady: Scene) -> None:
    gap = steady.edit(lambda packet: not (packet.tunnelled and packet.outer_src == VM1 and packet.number % 5 == 0), ["vm1"])
    found = failures(gap.judge("VX-LOSS"))
    assert found
    assert {verdict.severity for verdict in found} == {Severity.INFO}
    assert "not in its capture" in found[0].message


# -- offload and rewriting -------------------------------------------------------------------------------------------------------


def test_outer_ids_that_a_cloud_rewrites_do_not_make_frames_lost(steady: Scene) -> None:
    def rewrite(packet: Packet) -> None:
        if packet.tunnelled and packet.outer_dst == VM2:
            at = int(packet.row["outer_ip_offset"]) + 4
            packet.data[at : at + 2] = struct.pack(">H", (packet.number * 7) & 0xFFFF)
            packet.changed = True

    assert failing(steady.edit(rewrite, ["vm2"]).judge("VX-LOSS", "VX-COPIES"), *Severity) == set()


def test_segments_that_offload_cut_in_two_have_arrived(steady: Scene) -> None:
    whole = [
        packet
        for packet in steady.packets("vm2")
        if packet.tcp and packet.tunnelled and packet.outer_dst == VM2 and int(packet.row["payload_len"]) > 20
    ]
    assert whole
    halves: list[Frame] = []
    for packet in whole:
        halves += cut(packet)
    numbers = {packet.number for packet in whole}
    scene = steady.edit(lambda packet: packet.number not in numbers, ["vm2"]).with_frames("vm2", halves)
    assert failing(scene.judge("VX-LOSS"), *Severity) == set()
    ways = [way for way in crossings(scene.case()).ways if way.target.node == "sathish-vm2"]
    assert sum(int(way.joined.sum()) for way in ways) == len(whole)


def cut(packet: Packet) -> tuple[Frame, Frame]:
    """A TCP segment as two, as segmentation offload of the sender's card sends it: lengths, sequence numbers and ids of their own."""
    data, row = packet.frame.data, packet.row
    start, length = int(row["payload_offset"]), int(row["payload_len"])
    half = length // 2
    parts = []
    for number, (first, last) in enumerate(((0, half), (half, length))):
        part = bytearray(data[:start] + data[start + first : start + last])
        for side in ("outer", "inner"):
            ip = int(row[f"{side}_ip_offset"])
            total, ident = struct.unpack_from(">HH", part, ip + 2)
            struct.pack_into(">HH", part, ip + 2, total - length + last - first, (ident + number) & 0xFFFF)
        udp = int(row["outer_l4_offset"])
        struct.pack_into(">H", part, udp + 4, struct.unpack_from(">H", part, udp + 4)[0] - length + last - first)
        tcp = int(row["inner_l4_offset"])
        struct.pack_into(">I", part, tcp + 4, (int(row["tcp_seq"]) + first) & 0xFFFFFFFF)
        parts.append(Frame(packet.ts + number, bytes(part)))
    return parts[0], parts[1]


# -- clocks, order, copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [seconds(2.7), -seconds(40), seconds(7200)])
def test_clocks_that_differ_are_told_and_taken_out(steady: Scene, ahead: int) -> None:
    verdicts = shifted(steady, "vm2", ahead).judge(*FAMILY)
    assert failing(verdicts) == set()
    (found,) = failures(verdicts)
    assert (found.check, found.severity, found.nodes[0]) == ("VX-DELAY", Severity.INFO, "sathish-vm2")
    assert ("ahead" if ahead > 0 else "behind") in found.message


def test_delay_of_one_direction_is_told_in_milliseconds(steady: Scene) -> None:
    def late(packet: Packet) -> None:
        if packet.outer_dst == VM2:
            packet.ts += 20_000_000

    messages = [verdict.message for verdict in steady.only("vm1", "vm2").edit(late, ["vm2"]).judge("VX-DELAY")]
    # Half of a delay in one direction only is taken for the clock: nothing in the frames tells them apart.
    assert any("10.0" in message and "ms in the middle" in message for message in messages)


def test_frames_that_overtake_others_of_their_flow_are_told(steady: Scene) -> None:
    def late(packet: Packet) -> None:
        if packet.tcp and packet.tunnelled and packet.outer_dst == VM2 and packet.number % 4 == 0:
            packet.ts += 30_000_000

    found = failures(steady.edit(late, ["vm2"]).judge("VX-ORDER"))
    assert found
    assert all(verdict.severity is Severity.WARNING and "sathish-vm2" in verdict.nodes for verdict in found)


def test_flows_that_overtake_one_another_are_in_order(steady: Scene) -> None:
    def late(packet: Packet) -> None:
        if packet.tunnelled and packet.outer_dst == VM2 and (packet.sport + packet.dport) % 2:
            packet.ts += 3_000_000_000

    assert failures(steady.edit(late, ["vm2"]).judge("VX-ORDER")) == []


@pytest.mark.parametrize(("every", "severity"), [(9, Severity.ERROR), (400, Severity.WARNING)])
def test_the_same_datagram_twice_is_a_copy(steady: Scene, every: int, severity: Severity) -> None:
    mine = [packet for packet in steady.packets("vm2") if packet.tunnelled and packet.outer_src == VM1 and packet.outer_dst == VM2]
    again = [replace(packet.frame, ts=packet.ts + 1000) for packet in mine[100::every]][: 1 if severity is Severity.WARNING else None]
    verdicts = steady.with_frames("vm2", again).judge(*FAMILY)
    (found,) = failures(verdicts)
    assert (found.check, found.severity, found.nodes) == ("VX-COPIES", severity, ("sathish-vm2", "sathish-vm1"))
    assert {item.capture for item in found.evidence} == {"vm1", "vm2"}


def test_two_captures_of_one_node_at_the_same_time_are_one_vantage(steady: Scene) -> None:
    """Two links of a bond: each has half of the frames."""
    shot = next(shot for shot in steady.shots if shot.name == "vm2")
    links = tuple(replace(shot, name=f"vm2-{n}", frames=shot.frames[n::2]) for n in range(2))
    scene = replace(steady, shots=(*(one for one in steady.shots if one.name != "vm2"), *links))
    assert failing(scene.judge("VX-LOSS", "VX-COPIES")) == set()


# -- following a flow ------------------------------------------------------------------------------------------------------------


def test_a_flow_is_seen_at_every_vantage_it_passes() -> None:
    scene = healthy("swarm-steady", ("vm1", "vm2", "vm3", "container"))
    case = scene.case()
    flow = next(flow for flow in flows(case) if len(flow.captures) == 3)
    followed = follow(case, flow)
    assert followed is not None
    assert len(followed.columns) == 3
    assert all(set(packet.rows) == set(followed.columns) for packet in followed.packets)
    assert [packet.at_ns for packet in followed.packets] == sorted(packet.at_ns for packet in followed.packets)


def test_a_packet_that_was_lost_is_missing_where_it_should_have_arrived(steady: Scene) -> None:
    case = steady.case()
    flow = next(flow for flow in flows(case) if flow.proto == 6)
    followed = follow(case, flow)
    assert followed is not None
    source, target = followed.columns[0], followed.columns[-1]
    victim = followed.packets[0].rows[target]
    number, name = int(case.table["frame"][victim]), case.table.captures[target].name
    lost = follow(steady.edit(lambda packet: packet.number != number, [name]).case(), flow)
    assert lost is not None
    missing = [packet for packet in lost.packets if target not in packet.rows]
    assert len(missing) == 1
    assert source in missing[0].rows
    assert target in missing[0].running
