"""The ring that the kernel shares with us, laid out here by hand after <linux/if_packet.h>: what is in it, and what is refused."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from vxtool.capture._ring import TAG_ROOM, RingScanner
from vxtool.capture.frames import Frames

SIZE = 4096
USER, VLAN_VALID, TPID_VALID = 1, 1 << 4, 1 << 6
HEADER = 48  # struct tpacket3_hdr
MAC = 84  # where the kernel lets a frame begin, behind its header and a struct sockaddr_ll, with room for a tag


class Packet(NamedTuple):
    data: bytes
    ns: int = 1_700_000_000_123_456_789
    wirelen: int | None = None
    status: int = 0
    tci: int = 0
    tpid: int = 0
    mac: int = MAC
    next: int | None = None  # what the header says of where the next one begins, where it lies
    snaplen: int | None = None


def packet(one: Packet, last: bool) -> bytes:
    length = (one.mac + len(one.data) + 15) // 16 * 16
    following = (0 if last else length) if one.next is None else one.next
    kept = len(one.data) if one.snaplen is None else one.snaplen
    header = struct.pack(
        "=6I2H2I2H8x",
        following,
        one.ns // 10**9,
        one.ns % 10**9,
        kept,
        len(one.data) if one.wirelen is None else one.wirelen,
        one.status,
        one.mac,
        0,
        0,
        one.tci,
        one.tpid,
        0,
    )
    return (header.ljust(one.mac, b"\0") + one.data).ljust(length, b"\0")


def block(*packets: Packet, status: int = USER, frames: int | None = None, first: int = 48) -> bytes:
    body = b"".join(packet(one, i == len(packets) - 1) for i, one in enumerate(packets))
    count = len(packets) if frames is None else frames
    return (struct.pack("=6I", 1, 0, status, count, first, first + len(body)).ljust(first, b"\0") + body).ljust(SIZE, b"\0")


def ring(*blocks: bytes, before: int = 0) -> tuple[npt.NDArray[np.uint8], RingScanner]:
    memory = np.frombuffer(bytearray(bytes(before) + b"".join(blocks)), np.uint8)
    return memory, RingScanner(memory, start=before, size=SIZE, blocks=len(blocks), interface=3, vantage=2)


def scanned(memory: npt.NDArray[np.uint8], scanner: RingScanner, most: int = 100) -> list[bytes]:
    index, _ = scanner.scan(most)
    frames = Frames(memory, index)
    return [frames.bytes_of(i) for i in range(len(frames))]


FREE = bytes(SIZE)


def test_frames_are_found_where_they_lie_with_time_lengths_and_where_they_come_from() -> None:
    memory, scanner = ring(block(Packet(b"abc" * 10, wirelen=99), Packet(b"x" * 61, ns=5)), before=SIZE * 2)
    index, ends = scanner.scan(10)
    assert ends == [2]
    assert [Frames(memory, index).bytes_of(i) for i in range(2)] == [b"abc" * 10, b"x" * 61]
    assert index["ts"].tolist() == [1_700_000_000_123_456_789, 5]
    assert index["wirelen"].tolist() == [99, 61]
    assert [index[name].tolist() for name in ("interface", "vantage", "linktype")] == [[3, 3], [2, 2], [1, 1]]


def test_blocks_come_in_order_as_they_are_handed_over_and_none_twice() -> None:
    memory, scanner = ring(block(Packet(b"1")), block(Packet(b"2"), Packet(b"3")), FREE)
    assert scanned(memory, scanner, most=1) == [b"1"]
    assert scanned(memory, scanner) == [b"2", b"3"]
    assert scanned(memory, scanner) == []
    assert (scanner.frames, scanner.held) == (3, 2)
    memory[2 * SIZE :] = np.frombuffer(block(Packet(b"4")), np.uint8)
    assert scanned(memory, scanner) == [b"4"]


def test_a_block_is_the_kernel_s_again_when_it_is_given_back_and_not_before() -> None:
    memory, scanner = ring(block(Packet(b"1")), block(Packet(b"2")))
    scanner.scan(10)
    assert memory[8] == memory[SIZE + 8] == USER
    assert scanned(memory, scanner) == []  # both are held, although their status still says that they are ready
    scanner.release(1)
    assert (int(memory[8]), int(memory[SIZE + 8])) == (0, USER)
    memory[:SIZE] = np.frombuffer(block(Packet(b"3")), np.uint8)
    assert scanned(memory, scanner) == [b"3"]
    with pytest.raises(ValueError, match="3 of 2 blocks cannot be given back"):
        scanner.release(3)


ETHERNET = bytes(range(12)) + b"\x08\x00" + b"payload"


@pytest.mark.parametrize(
    ("status", "tpid", "tag"),
    [
        (0, 0, b""),
        (VLAN_VALID, 0, b"\x81\x00\x20\x05"),
        (VLAN_VALID | TPID_VALID, 0x88A8, b"\x88\xa8\x20\x05"),
    ],
)
def test_a_vlan_tag_that_the_kernel_took_off_is_put_back(status: int, tpid: int, tag: bytes) -> None:
    memory, scanner = ring(block(Packet(ETHERNET, status=status, tci=0x2005, tpid=tpid), Packet(ETHERNET)))
    index, _ = scanner.scan(1)
    frames = Frames(memory, index)
    assert [frames.bytes_of(0), frames.bytes_of(1)] == [ETHERNET[:12] + tag + ETHERNET[12:], ETHERNET]
    assert index["wirelen"].tolist() == [len(ETHERNET) + len(tag), len(ETHERNET)]


@pytest.mark.parametrize("odd", [Packet(b"\1" * 11, status=VLAN_VALID), Packet(ETHERNET, status=VLAN_VALID, mac=HEADER + TAG_ROOM - 1)])
def test_a_tag_that_has_no_room_is_left_out(odd: Packet) -> None:
    memory, scanner = ring(block(odd))
    assert scanned(memory, scanner) == [odd.data]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (block(Packet(b"a"), frames=1000), "a block of 4096 bytes claims 1000 frames"),
        (block(Packet(b"a"), frames=2), "frame 1 of 2 says that the next one begins 0 bytes behind it"),
        (block(Packet(b"a", next=47), Packet(b"b")), "frame 1 of 2 says that the next one begins 47 bytes behind it"),
        (block(Packet(b"a", next=4001), Packet(b"b")), "frame 2 of 2 would begin 4049 bytes into a block of 4096"),
        (block(Packet(b"a", next=0xFFFFFFF0), Packet(b"b")), "frame 2 of 2 would begin 4294967328 bytes into a block"),
        (block(Packet(b"a", snaplen=3965)), "frame 1 of 1 would end 1 bytes behind its block"),
        (block(Packet(b"a", snaplen=0xFFFFFFFF)), "frame 1 of 1 would end 4294963331 bytes behind its block"),
        (block(Packet(b"a"), first=4096 - 47)[:SIZE], "frame 1 of 1 would begin 4049 bytes into a block of 4096"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused_and_nothing_outside_of_it_is_read(broken: bytes, why: str) -> None:
    _, scanner = ring(broken)
    with pytest.raises(ValueError, match=why):
        scanner.scan(10)


@pytest.mark.parametrize(("start", "size", "blocks"), [(-8, SIZE, 1), (0, SIZE, 2), (8, SIZE, 1), (0, SIZE - 4, 1), (0, 8, 1), (0, SIZE, 0)])
def test_a_ring_that_does_not_fit_its_memory_is_refused(start: int, size: int, blocks: int) -> None:
    with pytest.raises(ValueError, match="do not fit 4096 bytes"):
        RingScanner(np.zeros(SIZE, np.uint8), start=start, size=size, blocks=blocks, interface=0, vantage=0)
