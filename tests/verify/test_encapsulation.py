"""Encapsulation: sizes against what the user says of the underlay, senders of checksums, and what a snapped capture can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.verify.build import Frame, Packet, Scene, Shot, checksum, failing, failures, healthy, results
from tests.verify.test_faults import bytes_of, with_length
from vxtool.verify.case import Settings
from vxtool.verify.verdicts import Result, Severity


def steady() -> Scene:
    return healthy("swarm-phases/steady")


@pytest.mark.parametrize(("mtu", "fits"), [(9000, True), (1500, True), (1400, False)])
def test_packets_are_held_against_the_underlay_the_user_states(mtu: int, fits: bool) -> None:
    found = failures(replace(steady(), settings=Settings(underlay_mtu=mtu)).judge("VX-MTU"))
    assert bool(found) is not fits
    for one in found:
        assert one.severity is Severity.WARNING
        assert str(mtu) in one.command


@pytest.mark.parametrize("finished", [False, True], ids=["left to an offload", "finished"])
def test_segments_that_a_card_has_still_to_cut_are_not_held_against_the_underlay(finished: bool) -> None:
    def grown(packet: Packet) -> bytes:
        inner = bytearray(packet.data[int(packet.row["inner_eth_offset"]) :]) + bytes(2000)
        segment = int(packet.row["inner_l4_offset"]) - int(packet.row["inner_eth_offset"])
        inner[16:18] = (len(inner) - 14).to_bytes(2, "big")
        inner[segment + 16 : segment + 18] = b"\0\0"
        pseudo = bytes(inner[26:34]) + (6).to_bytes(2, "big") + (len(inner) - segment).to_bytes(2, "big")
        whole = checksum(pseudo + bytes(inner[segment:])) if finished else checksum(pseudo) ^ 0xFFFF
        inner[segment + 16 : segment + 18] = whole.to_bytes(2, "big")
        return with_length(packet, bytes(inner))

    scene = bytes_of(steady(), lambda packet: packet.tunnelled and packet.tcp and int(packet.row["payload_len"]) > 100, grown)
    verdicts = replace(scene, settings=Settings(underlay_mtu=1500)).judge("VX-MTU")
    assert bool(failures(verdicts)) is finished


def snapped(scene: Scene, size: int) -> Scene:
    def cut(shot: Shot) -> Shot:
        return replace(shot, frames=tuple(Frame(f.ts, f.data[:size], f.linktype, len(f.data)) for f in shot.frames))

    return replace(scene, shots=tuple(map(cut, scene.shots)))


@pytest.mark.parametrize("size", [0, 14, 42, 50, 60, 96, 128])
def test_a_snap_length_is_no_fault(size: int) -> None:
    verdicts = snapped(steady(), size).judge()
    assert not failing(verdicts), [(one.check, one.message) for one in failures(verdicts)]


def test_checksums_that_the_snap_length_cut_are_unknown() -> None:
    assert results(snapped(steady(), 96).judge("VX-CHECKSUM"))["VX-CHECKSUM"] == {Result.UNKNOWN}


def test_a_port_that_the_user_states_is_the_one_to_use() -> None:
    scene = replace(steady(), settings=Settings(data_path_port=4790))
    (verdict, *_) = failures(scene.judge("VX-PORT"))
    assert verdict.expected == "UDP port 4790"
