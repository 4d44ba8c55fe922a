"""Two readings that share no code, the compiled walk and scapy, agree on every column of every frame.

The frames are made: one specimen of each kind, each of them cut at every byte, and whatever hypothesis thinks of. Real captures are in tests/witness.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from scapy.layers.dns import dnsqtypes

from tests.decode.frames import SPECIMENS, Made, as_frames, differences, made_frames, values
from vxtool.decode.dns import TYPES
from vxtool.decode.reference import read
from vxtool.decode.walk import Options, walk

EVERYTHING = Options(checksums=True)
GUESSING = Options(guess=True, checksums=True)


def assert_same(made: list[Made], options: Options = EVERYTHING) -> None:
    rows = walk(as_frames(made), options)
    for frame, row in zip(made, rows, strict=True):
        reference = read(frame.data, frame.linktype, options, wirelen=frame.wirelen)
        different = differences(values(row, frame.data), reference)
        table = "".join(f"\n  {name}: walk {mine!r}, scapy {other!r}" for name, (mine, other) in different.items())
        assert not different, f"{frame}{table}"


@pytest.mark.parametrize("name", SPECIMENS)
@pytest.mark.parametrize("options", [EVERYTHING, GUESSING], ids=["", "guess"])
def test_both_read_the_same(name: str, options: Options) -> None:
    assert_same([SPECIMENS[name]], options)


def test_record_types_have_the_names_that_scapy_has_for_them() -> None:
    scapy = dnsqtypes | {255: "ANY"}  # RFC 8482 section 7; scapy: ALL
    assert {number: scapy.get(number) for number in TYPES} == TYPES


@pytest.mark.parametrize("name", SPECIMENS)
def test_both_stop_at_the_same_place_wherever_the_frame_ends(name: str) -> None:
    data, linktype, _ = SPECIMENS[name]
    cuts = range(len(data)) if len(data) <= 200 else [*range(120), *range(120, len(data), 7)]
    assert_same([Made(data[:cut], linktype) for cut in cuts])


@pytest.mark.parametrize("name", SPECIMENS)
def test_both_stop_at_the_same_place_wherever_the_snap_length_cuts(name: str) -> None:
    data, linktype, _ = SPECIMENS[name]
    cuts = range(len(data)) if len(data) <= 200 else [*range(120), *range(120, len(data), 7)]
    assert_same([Made(data[:cut], linktype, len(data)) for cut in cuts])


@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(made_frames())
def test_both_read_the_same_whatever_the_frame(frame: Made) -> None:
    assert_same([frame])
    assert_same([frame], GUESSING)
