"""One file that was taken at several places is judged as one file from each of them would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vxtool
from tests.verify.build import CAPTURES
from vxtool.capture import CaptureWriter, Frames, Interface, merge, open_capture
from vxtool.expect.load import load
from vxtool.verification import Verification
from vxtool.verify.verdicts import Result

SWARM = CAPTURES / "swarm-steady"
FAULT = CAPTURES / "faults" / "fdb-wrong-vtep"
VM = {"sathish-vm1": "h1.pcap", "sathish-vm2": "h2.pcap", "sathish-vm3": "h3.pcap"}


def together(path: Path, folder: Path, places: dict[str, str]) -> Path:
    """The captures of a folder (place -> file) in one, as `vxtool capture` would have written them."""
    captures = [open_capture(folder / file, vantage=place) for place, file in places.items()]
    with CaptureWriter(path) as writer:
        for frames in merge(captures):
            index = frames.index.copy()
            index["interface"] = index["vantage"]
            here = tuple(Interface(1, f"{place}/eth0", f"node {place}") for place in frames.vantages)
            writer.write(Frames(frames.buffer, index, here, frames.vantages))
    return path


def said(result: Verification) -> list[tuple[str, str, str, tuple[str, ...], str, int]]:
    return [(str(one.check), str(one.result), str(one.severity), one.nodes, one.subject, len(one.evidence)) for one in result.verdicts]


def times(result: Verification) -> list[list[int]]:
    """When the frames of each verdict's evidence were captured."""
    return [sorted(result.case.table["ts"][list(one.rows)].tolist()) for one in result.verdicts]


@pytest.mark.parametrize(
    ("folder", "expectation", "places"),
    [
        (SWARM, SWARM, {"vm1": "vm1.pcap", "vm2": "vm2.pcap", "vm3": "vm3.pcap"}),
        (FAULT, FAULT / "expect", VM | {"10.0.1.3": "task-web-vm1.pcap"}),
    ],
)
def test_several_places_in_one_file_are_judged_like_a_file_from_each(folder: Path, expectation: Path, places: dict[str, str], tmp_path: Path) -> None:
    expected = load([str(expectation)])
    apart = vxtool.verify({place: folder / file for place, file in places.items()}, expected)
    joined = vxtool.verify(together(tmp_path / "lab.pcapng", folder, places), expected)
    assert said(joined) == said(apart)
    assert times(joined) == times(apart)
    assert [(one.kind, one.node, one.inferred) for one in joined.case.vantages] == [(one.kind, one.node, one.inferred) for one in apart.case.vantages]
    assert [one.name for one in joined.case.table.captures] == [f"{tmp_path / 'lab.pcapng'}[{place}]" for place in places]
    assert [one.frames for one in joined.case.table.captures] == [one.frames for one in apart.case.table.captures]


def test_evidence_names_the_file_and_the_frame_in_it(tmp_path: Path) -> None:
    path = together(tmp_path / "lab.pcapng", FAULT, VM)
    result = vxtool.verify(path, load([str(FAULT / "expect")]))
    failing = [one for one in result.failing if one.evidence]
    assert failing
    with open_capture(path) as capture:
        times_in_file = np.concatenate([frames.index["ts"] for frames in capture])
    for one in failing:
        assert {item.capture for item in one.evidence} == {str(path)}
        assert [int(times_in_file[item.frame - 1]) for item in one.evidence] == result.case.table["ts"][list(one.rows)].tolist()
        assert all(result.frames(one))
    assert all(one.result is Result.FAIL for one in failing)


def test_names_found_in_the_file_are_read_from_the_right_frames(tmp_path: Path) -> None:
    """DNS messages stay with their rows when the frames of the places are put together."""
    places = {path.stem: path.name for path in sorted(SWARM.glob("vm*.pcap"))} | {"container": "container.pcap"}
    apart = vxtool.verify({place: SWARM / file for place, file in places.items()}, load([str(SWARM)])).case.table
    joined = vxtool.verify(together(tmp_path / "lab.pcapng", SWARM, places), load([str(SWARM)])).case.table
    assert apart.dns
    assert {row: message.questions for row, message in joined.dns.items()} == {row: message.questions for row, message in apart.dns.items()}


@pytest.mark.parametrize(
    ("place", "kind", "node"), [("sathish-vm1", "node", "sathish-vm1"), ("web@sathish-vm2", "unknown", "sathish-vm2"), ("web@nowhere", "node", None)]
)
def test_an_overlay_sandbox_is_no_endpoint_although_one_of_them_may_be_in_every_frame(
    place: str, kind: str, node: str | None, tmp_path: Path
) -> None:
    case = vxtool.verify(together(tmp_path / "x.pcapng", SWARM, {place: "vm1.pcap"}), load([str(SWARM)])).case
    [found] = case.vantages
    assert (found.kind, found.node) == (kind, node or found.node)
