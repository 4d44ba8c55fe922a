"""Fragments, outer and inner, put together: the whole datagram reads as if it had never been cut."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from vxtool.capture.frames import INDEX, Frames, Interface
from vxtool.decode.batch import Batch
from vxtool.decode.columns import FRAGMENTS, HAVE, ROW, STOPS
from vxtool.decode.reassemble import Reassembler
from vxtool.decode.walk import Options, walk

NEVER_EQUAL = {"frame", "ts", "caplen", "wirelen", "reassembled"}


def batch_of(packets: list[bytes], step_ns: int = 1000, snaplen: int = 1 << 20) -> Batch:
    kept = [packet[:snaplen] for packet in packets]
    offsets = np.cumsum([0, *map(len, kept)])
    index = [(i + 1, i * step_ns, offsets[i], len(kept[i]), len(packets[i]), 0, 0, 1) for i in range(len(packets))]
    frames = Frames(np.frombuffer(b"".join(kept), np.uint8), np.array(index, INDEX), (Interface(1),))
    return Batch(frames, walk(frames, Options(checksums=True)))


def together(packets: list[bytes], **more: int) -> Batch:
    return Reassembler(Options(checksums=True)).feed(batch_of(packets, **more))


def inner_ping(size: int) -> Packet:
    return Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04") / IP(src="10.0.1.3", dst="10.0.1.4", id=7) / ICMP(id=9, seq=1) / Raw(bytes(size))


OUTER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
WHOLE_4 = OUTER / IP(src="192.0.2.1", dst="192.0.2.2", id=77) / UDP(sport=40000, dport=4789) / VXLAN(vni=4097, flags=8) / inner_ping(3000)
HEAD_6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=77)
WHOLE_6 = OUTER / HEAD_6 / UDP(sport=40000, dport=4789) / VXLAN(vni=4097, flags=8) / inner_ping(3000)


def cut(version: int) -> tuple[bytes, list[bytes]]:
    """The whole datagram, and its pieces."""
    if version == 4:
        return bytes(WHOLE_4), [bytes(p) for p in fragment(WHOLE_4, 1000)]
    plain = bytes(WHOLE_6)
    without = bytearray(plain[: 14 + 40 + 8] + plain[14 + 40 + 8 + 8 :])
    without[14 + 40] = 17
    without[18:20] = (int.from_bytes(plain[18:20], "big") - 8).to_bytes(2, "big")
    return bytes(without), [bytes(OUTER / p) for p in fragment6(WHOLE_6[IPv6], 1000)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("seed", range(5))
def test_outer_pieces_in_any_order_read_like_the_datagram_that_was_never_cut(version: int, seed: int) -> None:
    whole, pieces = cut(version)
    random.Random(seed).shuffle(pieces)
    done = together(pieces)
    [expected] = batch_of([whole]).rows
    assert len(done) == len(pieces) > 2
    last = done.rows[-1]
    different = [name for name in ROW.names or () if name not in NEVER_EQUAL and last[name] != expected[name]]
    assert different == []
    assert last["reassembled"] == len(pieces)
    assert done.frames.bytes_of(len(pieces) - 1)[14:] == whole[14:]
    assert (done.rows["tunnel"][:-1] == 0).all(), "pieces are not counted as tunnel frames too"
    assert (done.rows["outer_frag"][:-1] != 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_inner_pieces_become_one_inner_packet_under_the_last_pieces_outer_header(seed: int) -> None:
    pieces = [
        bytes(OUTER / IP(src="192.0.2.1", dst="192.0.2.2", id=i) / UDP(sport=40000 + i, dport=4789) / VXLAN(vni=4097, flags=8) / p)
        for i, p in enumerate(fragment(inner_ping(3000), 1000))
    ]
    random.Random(seed).shuffle(pieces)
    before, done = batch_of(pieces), together(pieces)
    last, own = done.rows[-1], before.rows[-1]
    assert last["reassembled"] == len(pieces) > 2
    assert last["inner_frag"] == 0
    assert last["have"] & HAVE["icmp_echo"]
    assert last["payload_len"] == 3000
    assert last["inner_checksum_class"] == 2, "the ICMP checksum of the whole is good"
    assert [last[name] for name in ("outer_ip_id", "outer_ip_len", "outer_udp_len", "outer_sport", "vni")] == [
        own[name] for name in ("outer_ip_id", "outer_ip_len", "outer_udp_len", "outer_sport", "vni")
    ]
    assert not (done.rows["have"][:-1] & HAVE["icmp"]).any(), "one ping is one ping"


def test_a_missing_piece_leaves_every_frame_a_marked_fragment() -> None:
    _, pieces = cut(4)
    done = together(pieces[:-1])
    assert [FRAGMENTS[f] for f in done.rows["outer_frag"]] == ["first"] + ["later"] * (len(pieces) - 2)
    assert not done.rows["reassembled"].any()


def test_pieces_cut_by_the_snap_length_are_not_put_together() -> None:
    assert not together(cut(4)[1], snaplen=500).rows["reassembled"].any()


def test_pieces_more_than_half_a_minute_apart_do_not_belong_together() -> None:
    assert not together(cut(4)[1], step_ns=31 * 10**9).rows["reassembled"].any()


def test_an_overlapping_piece_discards_the_datagram() -> None:
    _, pieces = cut(4)
    evil = bytearray(pieces[1])
    evil[20:22] = (int.from_bytes(evil[20:22], "big") - 1).to_bytes(2, "big")
    assert not together([pieces[0], bytes(evil), *pieces[1:]]).rows["reassembled"].any()


def test_a_repeated_piece_changes_nothing() -> None:
    _, pieces = cut(4)
    assert together([pieces[0], *pieces]).rows[-1]["reassembled"] == len(pieces)


def test_a_datagram_longer_than_any_is_not_built() -> None:
    big = [
        bytes(OUTER / IP(src="192.0.2.1", dst="192.0.2.2", id=1, proto=17, flags=1 if i < 70 else 0, frag=i * 125) / Raw(bytes(1000)))
        for i in range(66)
    ]
    assert not together(big).rows["reassembled"].any()


def test_waiting_pieces_never_hold_more_than_their_share_of_memory() -> None:
    machine = Reassembler()
    template = bytes(OUTER / IP(src="192.0.2.1", dst="192.0.2.2", proto=17, flags=1, frag=125) / Raw(bytes(1400)))
    machine.feed(batch_of([template[:18] + identity.to_bytes(2, "big") + template[20:] for identity in range(13000)]))
    assert machine._waiting, "the youngest are still there"
    assert machine._bytes <= 16 << 20
    assert machine._bytes == sum(d.held for d in machine._waiting.values())


def test_a_first_piece_that_ends_inside_a_header_is_no_damage() -> None:
    pieces = [bytes(p) for p in fragment(WHOLE_4, 24)]
    assert STOPS[batch_of(pieces).rows[0]["stop"]] == "fragment"


def test_a_plain_ipv6_ping_in_pieces_is_read_too() -> None:
    ping = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrFragment(id=5) / ICMPv6EchoRequest(id=3, seq=4, data=bytes(3000))
    done = together([bytes(OUTER / p) for p in fragment6(ping, 1280)])
    assert done.rows[-1]["icmp_seq"] == 4
    assert done.rows[-1]["inner_checksum_class"] == 2
