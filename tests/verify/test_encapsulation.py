"""Encapsulation: sizes against what the user says of the underlay, senders of checksums, and what a snapped capture can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.verify.build import Frame, Scene, Shot, failing, failures, healthy, results
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
