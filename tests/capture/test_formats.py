"""What a well-formed capture says is what we read: both containers, both byte orders, every kind of block and clock."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.capture.made import (
    START,
    Frame,
    block,
    enhanced,
    enhanced_body,
    frame,
    frames,
    interface,
    old_packet,
    opened,
    option,
    pcap_header,
    read,
    record,
    section,
    simple,
)
from vxtool.capture import Interface

ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
MADE = [*frames(5), frame(5, 1), frame(6, 0)._replace(wirelen=60), frame(7, 9000)._replace(wirelen=70_000)]


@ORDERS
@pytest.mark.parametrize(
    ("magic", "tick", "more"), [(0xA1B2C3D4, 1000, b""), (0xA1B23C4D, 1, b""), (0xA1B2CD34, 1000, bytes(8))], ids=["micro", "nano", "modified"]
)
def test_pcap_is_read_in_both_byte_orders_with_micro_and_nanoseconds(order: str, magic: int, tick: int, more: bytes) -> None:
    capture = opened(pcap_header(order, magic) + b"".join(record(one, order, tick, more=more) for one in MADE))
    assert read(capture) == MADE
    assert capture.damage == []
    assert capture.interfaces == (Interface(1, snaplen=262144),)


def test_the_upper_bits_of_the_pcap_link_type_tell_of_check_sequences_and_do_not_change_it() -> None:
    [batch] = opened(pcap_header(network=0x4400_0000 | 113) + record(frame(0)))
    assert batch.index["linktype"].tolist() == [113]


def test_a_pcap_file_of_a_header_alone_has_no_frame_and_no_damage() -> None:
    capture = opened(pcap_header())
    assert read(capture) == []
    assert capture.damage == []


@pytest.mark.parametrize("size", [262_144, 524_288, 3 << 20, 16 << 20])
def test_frames_of_big_tcp_and_larger_are_read_whole(size: int) -> None:
    made = [frame(0), frame(1, size), frame(2)]
    assert read(pcap_header(snaplen=0) + b"".join(map(record, made))) == made


def test_a_frame_longer_than_the_snap_length_of_the_file_header_is_believed() -> None:
    made = [frame(0), frame(1, 500_000), frame(2)]
    assert read(pcap_header(snaplen=65535) + b"".join(map(record, made))) == made


@pytest.mark.parametrize("odd", [frame(1)._replace(wirelen=0), frame(1)._replace(wirelen=10), frame(1)._replace(ts=START * 10**9 + 4_294_967_295)])
def test_records_with_odd_values_between_good_ones_are_kept_as_they_are(odd: Frame) -> None:
    seconds, fraction = START, odd.ts - START * 10**9
    odd_record = struct.pack("<IIII", seconds, fraction, len(odd.data), odd.wirelen) + odd.data
    capture = opened(pcap_header() + record(frame(0)) + odd_record + record(frame(2)) + odd_record)
    assert read(capture) == [frame(0), odd, frame(2), odd]
    assert capture.damage == []


@ORDERS
def test_pcapng_enhanced_old_and_simple_packets_are_read(order: str) -> None:
    capture = opened(
        section(order) + interface(order) + b"".join(enhanced(one, order) + old_packet(one, order) for one in MADE) + simple(b"abcde", 5, order)
    )
    twice = [one for one in MADE for _ in range(2)]
    assert read(capture) == [*twice, Frame(0, 5, b"abcde")]
    assert capture.damage == []


def test_a_simple_packet_is_cut_at_the_snap_length_of_the_first_interface() -> None:
    assert read(section() + interface(snaplen=6) + interface(snaplen=3) + simple(b"abcdef", 100)) == [Frame(0, 100, b"abcdef")]
    assert read(section() + interface(snaplen=0) + simple(b"abcdef", 6)) == [Frame(0, 6, b"abcdef")]


OTHERS = {
    "name resolution": 4,
    "interface statistics": 5,
    "secrets": 10,
    "custom": 0xBAD,
    "custom, local": 0x40000BAD,
    "journal": 9,
    "unknown": 0x12345678,
}


@ORDERS
@pytest.mark.parametrize("kind", OTHERS.values(), ids=OTHERS)
def test_other_blocks_are_passed_over(order: str, kind: int) -> None:
    other = block(kind, b"what it says", order) + block(kind, b"", order)
    capture = opened(section(order) + other + interface(order) + other + enhanced(frame(0), order) + other + enhanced(frame(1), order) + other)
    assert read(capture) == frames(2)
    assert capture.damage == []


def test_every_section_has_its_own_byte_order_and_interfaces() -> None:
    eth0, lo = option(2, b"eth0"), option(2, b"lo")
    capture = opened(
        section("<")
        + interface("<", options=eth0)
        + enhanced(frame(0), "<")
        + section(">")
        + interface(">", 276, options=option(2, b"any", ">"))
        + enhanced(frame(1), ">")
        + section("<")
        + interface("<", options=lo)
        + interface("<", options=eth0)
        + enhanced(frame(2), "<", number=1)
    )
    batches = list(capture)
    entries = [(batch.interfaces[e["interface"]].name, int(e["linktype"]), batch.bytes_of(i)) for batch in batches for i, e in enumerate(batch.index)]
    assert entries == [("eth0", 1, frame(0).data), ("any", 276, frame(1).data), ("eth0", 1, frame(2).data)]
    assert [one.name for one in capture.interfaces] == ["eth0", "any", "lo"]
    assert capture.damage == []


def test_two_interfaces_of_one_section_described_in_the_same_words_are_two() -> None:
    capture = opened(section() + interface() + interface() + enhanced(frame(0), number=1) + section() + interface() + enhanced(frame(1)))
    assert [int(entry["interface"]) for batch in capture for entry in batch.index] == [1, 0]
    assert len(capture.interfaces) == 2


def test_an_interface_keeps_its_name_description_system_and_snap_length() -> None:
    options = (
        option(2, "ens3é".encode()) + option(3, b"up\xfflink") + option(12, b"Linux 6.1\0\0") + option(99, b"?") + option(0, b"") + option(2, b"no")
    )
    capture = opened(section() + interface(linktype=113, snaplen=96, options=options))
    assert read(capture) == []
    assert capture.interfaces == (Interface(113, "ens3é", "up�link", 96, "Linux 6.1"),)


def test_a_name_without_an_end_is_kept_short() -> None:
    capture = opened(section() + interface(options=option(2, b"x" * 60_000)))
    assert read(capture) == []
    assert capture.interfaces[0].name == "x" * 255


def test_frames_of_a_section_of_an_unknown_version_are_not_read_but_those_after_it_are() -> None:
    other = section(version=(2, 0)) + interface() + enhanced(frame(9))
    capture = opened(section() + interface() + enhanced(frame(0)) + other + section() + interface() + enhanced(frame(1)))
    assert read(capture) == frames(2)
    assert ["version 2.0" in damage.reason for damage in capture.damage] == [True]


LAST = 9_223_372_035 * 10**9


def nanoseconds(resolution: int, offset: int, ticks: int) -> int:
    """The time that pcapng section 4.2 means, in whole numbers."""
    unit = Fraction(1, 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution)
    whole = int(ticks * unit * 10**9)
    seconds = min(whole // 10**9, 9_223_372_035) + offset
    return LAST if seconds >= LAST // 10**9 else -LAST if seconds <= -LAST // 10**9 else seconds * 10**9 + whole % 10**9


@ORDERS
@given(
    resolution=st.integers(0, 255),
    offset=st.one_of(st.just(0), st.integers(-(10**10), 10**10), st.integers(-(1 << 63), (1 << 63) - 1)),
    ticks=st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 64).map(lambda bits: (1 << bits) - 1)),
)
def test_times_of_any_resolution_and_offset_are_exact_and_never_overflow(order: str, resolution: int, offset: int, ticks: int) -> None:
    options = option(9, bytes([resolution]), order) + option(14, struct.pack(order + "q", offset), order)
    [one] = read(section(order) + interface(order, options=options) + block(6, enhanced_body(ticks, b"", 0, order), order))
    assert one.ts == nanoseconds(resolution, offset, ticks)


def test_each_interface_has_a_clock_of_its_own() -> None:
    clocks = [(6, 10**6), (9, 10**9), (0x80 | 10, 1 << 10), (0, 1), (3, 1000)]
    described = b"".join(interface(options=option(9, bytes([resolution]))) for resolution, _ in clocks)
    packets = b"".join(block(6, enhanced_body(START * per_second, b"", 0, number=number)) for number, (_, per_second) in enumerate(clocks))
    assert [one.ts for one in read(section() + described + packets)] == [START * 10**9] * len(clocks)


def test_ten_thousand_interfaces_are_ten_thousand_interfaces() -> None:
    count = 10_000
    capture = opened(section() + b"".join(interface(options=option(2, b"veth%d" % i)) for i in range(count)) + enhanced(frame(0), number=count - 1))
    [batch] = list(capture)
    assert batch.interfaces[batch.index["interface"][0]].name == "veth9999"
