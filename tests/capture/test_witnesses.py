"""Other readers see the same frames: tshark's lists beside the captures, scapy and dpkt."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import dpkt
import pytest
from scapy.utils import RawPcapNgReader, RawPcapReader

from tests.capture.made import Frame, read
from vxtool.capture import open_capture

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "captures", Path(os.environ.get("VXTOOL_CAPTURES", ROOT.parent / "shared" / "captures"))]


def captures() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted(path for path in folder.rglob("*.pcap*") if path.suffix in (".pcap", ".pcapng"))


def each(paths: Iterable[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in paths])


def list_of(path: Path) -> Path:
    """What tshark has listed of a capture."""
    return path.with_name(path.name + ".tshark.tsv")


CUSTOM_BLOCKS_COUNTED = {"le__test017.pcapng": 4, "le__test018.pcapng": 4, "le__test102.pcapng": 3, "le__test202.pcapng": 3}
"""tshark counts pcapng custom blocks as frames: so many, with its own link type. They are not frames (draft-ietf-opsawg-pcapng, section 4.9)."""

STOPS_EARLY = {"le__test901.pcapng"}
"""tshark ends at a section of version 2.0; we go on with the sections after it."""

SIGNED_FRACTION = {("timestamp_invalid_nano.pcap", 3): 1418145372147483648}
"""tshark takes a fraction of 2**31 ns or more as a negative number; the field is unsigned (draft-ietf-opsawg-pcap, section 5)."""

BEYOND_2262 = "pcapng-example.pcapng"
"""Times of the year 2554, which do not fit 64 bits of nanoseconds since 1970: they become the last whole second that does."""
LAST = 9_223_372_035 * 10**9


def nanoseconds(epoch: str) -> int:
    """tshark's frame.time_epoch; empty for a frame without a time, which is 0 for us."""
    seconds, _, fraction = epoch.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")) if epoch else 0


@each(path for path in captures() if list_of(path).exists())
def test_tshark_sees_the_same_frames_times_and_lengths(path: Path) -> None:
    with list_of(path).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if path.name in CUSTOM_BLOCKS_COUNTED:
        custom = [row for row in rows if row["frame.protocols"] in ("data", "pcapng")]
        assert len(custom) == CUSTOM_BLOCKS_COUNTED[path.name]
        rows = [row for row in rows if row not in custom]
    expected = [(nanoseconds(row["frame.time_epoch"]), int(row["frame.len"]), int(row["frame.cap_len"])) for row in rows]
    for (name, number), ts in SIGNED_FRACTION.items():
        if path.name == name:
            expected[number - 1] = (ts, *expected[number - 1][1:])
    if path.name == BEYOND_2262:
        expected = [(min(ts, LAST), *lengths) for ts, *lengths in expected]  # type: ignore[misc]
    with open_capture(path) as capture:
        got = [(one.ts, one.wirelen, len(one.data)) for one in read(capture)]
    if path.name in STOPS_EARLY:
        assert got[: len(expected)] == expected
        assert len(capture.damage) == 1
    else:
        assert got == expected
        assert capture.damage == []


SIMPLE_PACKETS = {
    *(f"le__test{number}.pcapng" for number in ("010", "011", "012", "016", "018", "100", "101", "102", "201", "202")),
    "pcapng_blocks.pcapng",
}
"""scapy cuts simple packets at a snap length of 0, or at that of another interface; dpkt does not read them."""

SCAPY_CUTS_AT = 65535
"""scapy reads no more of a frame unless told to."""


DPKT_REFUSES = {"le__test002.pcapng", "le__test017.pcapng", "GrePackets.pcap", "ipv4-malformed.pcap"}
"""Files without an interface, and the modified pcap format (magic number a1b2cd34)."""


def frames_of(path: Path) -> list[Frame]:
    with open_capture(path) as capture:
        return read(capture)


def undamaged() -> Iterator[Path]:
    """Captures in which there is nothing to disagree about: with damage, each reader has its own way."""
    for path in captures():
        with open_capture(path) as capture:
            read(capture)
        if not capture.damage:
            yield path


UNDAMAGED = list(undamaged())


@each(UNDAMAGED)
def test_scapy_sees_the_same_bytes(path: Path) -> None:
    mine = frames_of(path)
    reader = RawPcapNgReader if path.suffix == ".pcapng" else RawPcapReader
    theirs = [(data, meta.wirelen) for data, meta in reader(str(path))]
    assert len(theirs) == len(mine)
    for (data, wirelen), one in zip(theirs, mine, strict=True):
        assert wirelen == one.wirelen
        assert data == one.data[:SCAPY_CUTS_AT] or (path.name in SIMPLE_PACKETS and one.ts == 0)


@each(path for path in UNDAMAGED if path.name not in SIMPLE_PACKETS | DPKT_REFUSES)
def test_dpkt_sees_the_same_bytes_and_times(path: Path) -> None:
    mine = frames_of(path)
    with path.open("rb") as file:
        theirs = list(dpkt.pcapng.Reader(file) if path.suffix == ".pcapng" else dpkt.pcap.Reader(file))
    assert [data for _, data in theirs] == [one.data for one in mine]
    if path.suffix == ".pcap":
        assert [float(ts) for ts, _ in theirs] == pytest.approx([one.ts / 1e9 for one in mine], abs=1e-5)
