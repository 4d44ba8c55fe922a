"""The tree of a frame: every header at its place, bits by name, and no frame that it cannot be made of."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from tests.decode.frames import SPECIMENS, Made, as_frames
from tests.decode.seen import CAPTURES, batches, random_batches
from vxtool.decode.batch import Batch
from vxtool.decode.tree import TreeSink
from vxtool.decode.walk import Options, walk

EVERYTHING = Options(checksums=True, guess=True)


def tree(batch: Batch, options: Options = EVERYTHING, **how: Any) -> str:
    out = io.BytesIO()
    sink = TreeSink(out, options=options, **how)
    sink.write(batch)
    sink.finish()
    return out.getvalue().decode()


def decoded(*made: Made, options: Options = EVERYTHING) -> Batch:
    frames = as_frames(made)
    return Batch(frames, walk(frames, options))


FRAME = (
    Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    / Dot1Q(vlan=100, prio=3)
    / IP(src="192.0.2.11", dst="192.0.2.12", id=7)
    / UDP(sport=49152, dport=4789, chksum=0)
    / VXLAN(flags=0x0C, vni=4097, reserved2=9)
    / Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04")
    / IP(src="10.0.1.3", dst="10.0.1.4", id=8, flags="DF")
    / TCP(sport=41234, dport=80, flags="PA", seq=1, ack=2, window=501, options=[("MSS", 1410), ("NOP", None), ("WScale", 7)])
    / Raw(b"GET / HTTP/1.1\r\n")
)

EXPECTED = """\
frame 1  1970-01-01 00:00:00.000000000 UTC  132 bytes
   0  Ethernet        02:00:00:00:00:01 > 02:00:00:00:00:02  type 0x8100 VLAN
  14  802.1Q          id 100  priority 3  type 0x0800 IPv4
  18  IPv4            192.0.2.11 > 192.0.2.12  protocol 17 UDP  ttl 64  length 114  id 7  flags none
                      tos 0x00  checksum 0xf65c good
  38  UDP             49152 > 4789  length 94  checksum 0x0000 zero
  46  VXLAN           vni 4097  flags 0x0c: I reserved 0x04  reserved 0x000003  last byte 0x09
  54    Ethernet      02:42:0a:00:01:03 > 02:42:0a:00:01:04  type 0x0800 IPv4
  68    IPv4          10.0.1.3 > 10.0.1.4  protocol 6 TCP  ttl 64  length 64  id 8  flags DF
                      tos 0x00  checksum 0x24aa good
  88    TCP           41234 > 80  flags 0x018: PSH ACK  seq 1  ack 2  window 501
                      checksum 0xf92c good  mss 1410  window scale 7
 116    payload       16 bytes  474554202f20485454502f312e310d0a  "GET / HTTP/1.1.."

"""


def test_every_header_stands_at_its_byte_offset_with_its_bits_by_name() -> None:
    assert tree(decoded(Made(bytes(FRAME)))) == EXPECTED


def test_a_frame_that_ends_early_says_where_and_what_was_wanted() -> None:
    shown = tree(decoded(Made(bytes(FRAME)[:75]))).splitlines()
    assert shown[:5] == ["frame 1  1970-01-01 00:00:00.000000000 UTC  75 bytes", *EXPECTED.splitlines()[1:5]]
    assert shown[-2:] == ["  68    stop          truncated: ipv4  wants 20 bytes  7 are there", ""]


def test_the_title_tells_the_time_as_asked() -> None:
    batch = decoded(*[Made(bytes(FRAME))] * 3)
    batch.rows["ts"] = [1_000_000_000, 3_500_000_001, 3_400_000_001]

    def times(time: str) -> list[str]:
        return [line.split("  ")[1] for line in tree(batch, time=time).splitlines() if line.startswith("frame")]

    assert times("absolute")[1] == "1970-01-01 00:00:03.500000001 UTC"
    assert times("relative") == [f"{seconds} s after the first frame" for seconds in ("0.000000000", "2.500000001", "2.400000001")]
    assert times("delta") == [f"{seconds} s after the frame before" for seconds in ("0.000000000", "2.500000001", "-0.100000000")]


def test_the_bytes_follow_when_asked_for() -> None:
    shown = tree(decoded(Made(bytes(range(40)))), hexdump=True)
    assert "   0  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  ................\n" in shown
    assert "  32  20 21 22 23 24 25 26 27                           !\"#$%&'\n" in shown


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_header_that_the_walk_found_stands_in_the_tree_at_the_same_place(path: Path) -> None:
    for whole in batches(path, checksums=True, guess=True):
        batch = whole.select(slice(0, 300))
        for row, block in zip(batch.rows, tree(batch).split("\n\n"), strict=False):
            headers = [(int(line[:4]), line[6:].split()[0]) for line in block.splitlines()[1:] if line[:4].strip()]
            places = {offset: name for offset, name in headers if name != "stop"}
            for level in ("outer", "inner"):
                if row[f"{level}_have"] & 1 << 5:
                    assert places[int(row[f"{level}_ip_offset"])] == f"IPv{row[f'{level}_ip_version']}"
            if row["have"] & 1:
                assert places[int(row["tunnel_offset"])] in ("VXLAN", "VXLAN-GPE", "Geneve")
            assert [name for _, name in headers].count("stop") == bool(row["stop"])


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_kind_of_frame_has_a_tree_at_any_length(name: str) -> None:
    made = SPECIMENS[name]
    sizes = range(len(made.data) + 1) if len(made.data) < 400 else random.Random(1).sample(range(len(made.data)), 60)
    for size in sizes:
        shown = tree(decoded(Made(made.data[:size], made.linktype)), hexdump=size % 7 == 0)
        assert all(line.isprintable() for line in shown.split("\n"))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(random_batches(), st.booleans())
def test_rows_that_do_not_match_their_bytes_have_a_tree_too(batch: Batch, color: bool) -> None:
    if color:
        tree(batch, color=True)
    else:
        assert all(line.isprintable() for line in tree(batch, hexdump=True).split("\n"))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(sorted(SPECIMENS)), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=8))
def test_changed_bytes_make_a_tree_that_is_safe_to_print(name: str, changes: list[tuple[int, int]]) -> None:
    made = SPECIMENS[name]
    data = bytearray(made.data or b"\0")
    for at, value in changes:
        data[at % len(data)] = value
    assert all(line.isprintable() for line in tree(decoded(Made(bytes(data), made.linktype, made.wirelen))).split("\n"))
