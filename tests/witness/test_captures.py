"""Every capture, every frame, every column: the walk beside witnesses that share no code with it.

    pytest tests/witness --captures DIR

scapy (vxtool.decode.reference) speaks for all columns, tshark and dpkt for theirs. What they are meant to see differently is in differences.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.decode.frames import differences, values
from tests.witness import dpkt_reading, tshark
from tests.witness.differences import Case, explanations
from vxtool.capture import open_capture
from vxtool.capture.frames import Damage
from vxtool.decode import reference
from vxtool.decode.walk import Options, walk

EVERYTHING = Options(checksums=True)
SHOWN = 3  # frames of a failure


class Frame(NamedTuple):
    number: int
    data: bytes
    linktype: int
    wirelen: int
    row: dict[str, object]  # the walk's columns


def frames_of(path: Path, damage: list[Damage] | None = None) -> Iterator[Frame]:
    with open_capture(path) as capture:
        for frames in capture:
            for i, row in enumerate(walk(frames, EVERYTHING)):
                data = frames.bytes_of(i)
                meta = {name: int(row[name]) for name in ("frame", "ts", "caplen", "wirelen", "linktype")}
                yield Frame(meta["frame"], data, meta["linktype"], meta["wirelen"], values(row, data) | meta)
        if damage is not None:
            damage += capture.damage


class Verdict:
    """Collects the frames in which a witness differs without a reason."""

    def __init__(self, witness: str) -> None:
        self.witness = witness
        self.frames = 0
        self.wrong: list[str] = []

    def compare(self, frame: Frame, seen: dict[str, object], protocols: tuple[str, ...] = ()) -> None:
        self.frames += 1
        lines = []
        for column, value in seen.items():
            mine = frame.row.get(column)
            if mine != value and not explanations(self.witness, Case(column, mine, value, frame.row, frame.data, protocols)):
                lines.append(f"    {column}: walk {mine!r}, {self.witness} {value!r}")
        if lines:
            stop = f"{frame.row['stop']} at {frame.row['stop_layer']}" if frame.row["stop"] else "no stop"
            head = f"  frame {frame.number}, link {frame.linktype}, {frame.wirelen} bytes on the wire, {stop}  {':'.join(protocols)}"
            self.wrong.append("\n".join([head, *lines, f"    {frame.data.hex()}"]))

    def __str__(self) -> str:
        return f"{len(self.wrong)} of {self.frames} frames differ from {self.witness}\n" + "\n".join(self.wrong[:SHOWN])


def test_the_walk_and_scapy_read_the_same_in_every_column(capture_path: Path) -> None:
    verdict = Verdict("reference")  # which has no entry in the table: every difference counts
    for frame in frames_of(capture_path):
        read = reference.read(frame.data, frame.linktype, EVERYTHING, wirelen=frame.wirelen)
        different = differences(frame.row, read)
        if different:
            verdict.compare(frame, {name: other for name, (_, other) in different.items()})
    assert not verdict.wrong, str(verdict)


def test_the_walk_and_tshark_see_the_same(capture_path: Path) -> None:
    said = tshark.said_of(capture_path)
    if said is None:
        pytest.skip("neither tshark nor a .tshark.tsv beside the capture")
    said = [line for line in said if not line.is_custom_block]
    damage: list[Damage] = []
    frames = list(frames_of(capture_path, damage))
    # tshark ends at the first damage; we look for the next frame behind it.
    assert len(said) == len(frames) or (damage and len(said) < len(frames))
    verdict = Verdict("tshark")
    for frame, line in zip(frames, said, strict=False):
        verdict.compare(*beside_tshark(frame, line), line.protocols)
    assert not verdict.wrong, str(verdict)


def beside_tshark(frame: Frame, line: tshark.Said) -> tuple[Frame, dict[str, object]]:
    """The frame with the columns that are only there to be compared with tshark, and what tshark says."""
    row, seen = dict(frame.row), dict(line.columns)
    answers, kinds = row["dns_answers"], row["dns_answer_types"]
    if isinstance(answers, list) and isinstance(kinds, list):
        row["dns_addresses"] = sorted(data for data, kind in zip(answers, kinds, strict=True) if kind in ("A", "AAAA"))
    if line.malformed is not None:
        row["malformed"] = row["stop"] in ("malformed", "truncated")
        seen["malformed"] = line.malformed
    return frame._replace(row=row), seen


def test_the_walk_and_dpkt_see_the_same(capture_path: Path) -> None:
    verdict = Verdict("dpkt")
    for frame in frames_of(capture_path):
        if frame.linktype == 1:
            verdict.compare(frame, beside_dpkt(frame))
    assert not verdict.wrong, str(verdict)


def beside_dpkt(frame: Frame) -> dict[str, object]:
    """What dpkt sees; where the walk got to ports without trouble, dpkt must have seen some too."""
    seen: dict[str, object] = dict(dpkt_reading.read(frame.data))
    tunnels = {frame.row["tunnel"], frame.row["inner_tunnel"]}
    if frame.row["stop"] is None and frame.row["inner_proto"] in (6, 17) and frame.row["inner_sport"] is not None and tunnels <= {"none", "vxlan"}:
        seen.setdefault("inner_sport", None)
    return seen
