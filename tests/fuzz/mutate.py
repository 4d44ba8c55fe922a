"""Mutants: captures with something wrong in them, each made from a seed and a number, so that any one of them can be made again.

Half of the mutants keep their container whole and change what is inside a frame; the others change lengths, blocks and magic numbers,
cut, join and compress. Knows where records and blocks begin, nothing about what they mean.
"""

from __future__ import annotations

import gzip
import lzma
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Seed", "mutant", "seeds"]

LARGE = 48_000  # bytes; a longer pcap is mutated a run of frames at a time
RUN = 12  # frames in such a run

INTERESTING = (
    0,
    1,
    2,
    4,
    6,
    7,
    8,
    13,
    14,
    16,
    20,
    24,
    28,
    40,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x5DC,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x40000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
"""Lengths and counts at which programs are wrong."""

PROTOCOLS = bytes((0, 1, 2, 4, 6, 17, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 139, 140, 253))  # IP protocol numbers and extension headers
ETHERTYPES = (0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, 0x9100, 0x6558, 0x894F, 0x05DC, 0x8847)
PORTS = (53, 2377, 4789, 4790, 6081, 7946, 8472)
LINKTYPES = (0, 1, 12, 14, 101, 105, 108, 113, 228, 229, 276, 147)


@dataclass(frozen=True, slots=True)
class Seed:
    """A capture to begin from."""

    name: str
    data: bytes
    order: str  # "<" or ">"
    units: tuple[int, ...]  # where its records (pcap) or blocks (pcapng) begin, and where the last one ends
    pcapng: bool


def _units(data: bytes) -> tuple[str, tuple[int, ...], bool]:
    """As far as a plain reading goes; a damaged file has fewer units than it could."""
    pcapng = data[:4] == b"\x0a\x0d\x0d\x0a"
    magic = data[8:12] if pcapng else data[:4]
    order = "<" if magic in (b"\x4d\x3c\x2b\x1a", b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 0 if pcapng else 24
    starts = [at]
    while at + 16 <= len(data):
        if pcapng and data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
        length = struct.unpack_from(f"{order}I", data, at + (4 if pcapng else 8))[0] + (0 if pcapng else 16)
        if length < 12 or at + length > len(data):
            break
        at += length
        starts.append(at)
    return order, tuple(starts), pcapng


@cache
def seeds(*folders: Path) -> tuple[Seed, ...]:
    """Every capture below the folders, in the order of their names. Large pcaps are kept whole; `mutant` takes a run of frames out of them."""
    found: list[Seed] = []
    for folder in folders:
        for path in sorted(folder.rglob("*.pcap*")):
            if path.suffix not in (".pcap", ".pcapng"):
                continue
            data = path.read_bytes()
            order, units, pcapng = _units(data)
            if len(data) <= LARGE or not pcapng:
                found.append(Seed(str(path.relative_to(folder)), data, order, units, pcapng))
    return tuple(found)


def _shorter(seed: Seed, dice: random.Random) -> Seed:
    """A run of frames out of a large capture, under the same file header."""
    first = dice.randrange(max(len(seed.units) - RUN, 1))
    chosen = seed.units[first : first + RUN + 1]
    # A frame of 70 kB (BIG TCP) is interesting in its first and last bytes only, and costs a hundred times the rest.
    while chosen[-1] - chosen[0] > LARGE and len(chosen) > 2:
        chosen = chosen[:-1]
    data = seed.data[:24] + seed.data[chosen[0] : chosen[-1]]
    return Seed(seed.name, data, seed.order, tuple(24 + at - chosen[0] for at in chosen), pcapng=False)


# --------------------------------------------------------------------------------------------------------------------
# Changes. Each is handed the capture as it is so far, and where its units were; none of them may change the dice's owner.
# --------------------------------------------------------------------------------------------------------------------

Change = Callable[[bytearray, Seed, random.Random], None]


def _unit(data: bytearray, seed: Seed, dice: random.Random) -> tuple[int, int]:
    """Where a record or block of the seed begins and ends (in `data` something else may be there by now)."""
    if len(seed.units) < 2:
        return 0, len(data)
    which = dice.randrange(len(seed.units) - 1)
    return min(seed.units[which], len(data)), min(seed.units[which + 1], len(data))


def _place_in_frame(data: bytearray, seed: Seed, dice: random.Random) -> int:
    """Most often among the headers: of what follows them a reader sees nothing but the length."""
    start, end = _unit(data, seed, dice)
    first = start + (28 if seed.pcapng else 16)
    last = min(end, first + (160 if dice.random() < 0.9 else end)) - 1
    return dice.randint(first, last) if first <= last else start


def _write(data: bytearray, at: int, new: bytes) -> None:
    data[at : at + len(new)] = new[: max(len(data) - at, 0)]


def frame_bit(data: bytearray, seed: Seed, dice: random.Random) -> None:
    at = _place_in_frame(data, seed, dice)
    if at < len(data):
        data[at] ^= 1 << dice.randrange(8)


def frame_byte(data: bytearray, seed: Seed, dice: random.Random) -> None:
    _write(data, _place_in_frame(data, seed, dice), bytes([dice.choice((0, 1, 0x0F, 0x40, 0x45, 0x60, 0x7F, 0x80, 0xC0, 0xFF, dice.randrange(256)))]))


def frame_number(data: bytearray, seed: Seed, dice: random.Random) -> None:
    """Two bytes, big-endian: a length, an EtherType, a port."""
    number = dice.choice((dice.choice(INTERESTING) & 0xFFFF, dice.choice(ETHERTYPES), dice.choice(PORTS), dice.randrange(65536)))
    _write(data, _place_in_frame(data, seed, dice), struct.pack(">H", number))


def frame_protocol(data: bytearray, seed: Seed, dice: random.Random) -> None:
    _write(data, _place_in_frame(data, seed, dice), bytes([dice.choice(PROTOCOLS)]))


def frame_from_frame(data: bytearray, seed: Seed, dice: random.Random) -> None:
    """Bytes of one frame over those of another: headers where they do not belong."""
    source, target = _place_in_frame(data, seed, dice), _place_in_frame(data, seed, dice)
    _write(data, target, bytes(data[source : source + dice.choice((2, 4, 6, 8, 14, 20, 40, 64))]))


def frame_length(data: bytearray, seed: Seed, dice: random.Random) -> None:
    """A frame that ends early (or never was longer): its bytes go, its record agrees."""
    start, end = _unit(data, seed, dice)
    if seed.pcapng or end - start <= 16 or len(data) < end:
        return
    keep = dice.randrange(end - start - 16)
    whole = struct.unpack_from(f"{seed.order}I", data, start + 12)[0]
    struct.pack_into(f"{seed.order}II", data, start + 8, keep, dice.choice((keep, whole)))
    del data[start + 16 + keep : end]


def any_bits(data: bytearray, seed: Seed, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 2, 8))):
        if data:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def any_number(data: bytearray, seed: Seed, dice: random.Random) -> None:
    size, order = dice.choice(("H", "I", "Q")), dice.choice("<>")
    number = dice.choice(INTERESTING) & (1 << 8 * struct.calcsize(size)) - 1
    _write(data, dice.randrange(len(data) + 1), struct.pack(order + size, number))


def unit_field(data: bytearray, seed: Seed, dice: random.Random) -> None:
    """A length or type of a record or block, or the copy of the length at a block's end."""
    start, end = _unit(data, seed, dice)
    length = end - start
    number = dice.choice((dice.choice(INTERESTING), max(length + dice.randint(-20, 20), 0), dice.randrange(1 << 32)))
    at = dice.choice((start, start + 4, start + 8, start + 12, start + 16, start + 20, start + 24, end - 4))
    _write(data, max(at, 0), struct.pack(f"{seed.order}I", number & 0xFFFFFFFF))


def block_type(data: bytearray, seed: Seed, dice: random.Random) -> None:
    start, _ = _unit(data, seed, dice)
    _write(data, start, struct.pack(f"{seed.order}I", dice.choice((0x0A0D0D0A, 1, 2, 3, 4, 5, 6, 7, 10, 0xBAD, 0x40000BAD, 0x7FFF0001))))


def file_header(data: bytearray, seed: Seed, dice: random.Random) -> None:
    magic = (
        b"\xa1\xb2\xc3\xd4",
        b"\xd4\xc3\xb2\xa1",
        b"\xa1\xb2\x3c\x4d",
        b"\x4d\x3c\xb2\xa1",
        b"\x0a\x0d\x0d\x0a",
        b"\x1f\x8b",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
    )
    if dice.random() < 0.3:
        _write(data, 0, dice.choice(magic))
    else:
        _write(data, dice.randrange(4, 24), bytes([dice.randrange(256)]))


def link_type(data: bytearray, seed: Seed, dice: random.Random) -> None:
    if not seed.pcapng:
        _write(data, 20, struct.pack(f"{seed.order}I", dice.choice(LINKTYPES)))
    else:
        start, _ = _unit(data, seed, dice)
        _write(data, start + 8, struct.pack(f"{seed.order}H", dice.choice(LINKTYPES)))


def truncate(data: bytearray, seed: Seed, dice: random.Random) -> None:
    del data[dice.randrange(len(data) + 1) :]


def remove(data: bytearray, seed: Seed, dice: random.Random) -> None:
    at = dice.randrange(len(data) + 1)
    del data[at : at + dice.choice((1, 2, 4, 16, 100, 1000))]


def insert(data: bytearray, seed: Seed, dice: random.Random) -> None:
    at = dice.randrange(len(data) + 1)
    data[at:at] = dice.randbytes(dice.choice((1, 2, 4, 16, 100, 1000)))


def repeat(data: bytearray, seed: Seed, dice: random.Random) -> None:
    """A record or block twice, or a long way from where it was."""
    start, end = _unit(data, seed, dice)
    where, _ = _unit(data, seed, dice)
    data[where:where] = data[start:end]


def zero(data: bytearray, seed: Seed, dice: random.Random) -> None:
    at = dice.randrange(len(data) + 1)
    _write(data, at, bytes(dice.choice((4, 16, 100))))


INSIDE: tuple[Change, ...] = (frame_bit, frame_byte, frame_number, frame_protocol, frame_from_frame, frame_length)
OUTSIDE: tuple[Change, ...] = (
    any_bits,
    any_number,
    unit_field,
    unit_field,
    block_type,
    file_header,
    link_type,
    truncate,
    remove,
    insert,
    repeat,
    zero,
)


def _compressed(data: bytes, dice: random.Random) -> bytearray:
    kind = dice.randrange(3)
    if kind == 0:
        return bytearray(gzip.compress(data, 1, mtime=0))
    if kind == 1:
        return bytearray(lzma.compress(data, preset=0))
    import zstandard

    return bytearray(zstandard.ZstdCompressor(1).compress(data))


def mutant(number: int, seed: int, captures: tuple[Seed, ...]) -> tuple[str, bytes, random.Random]:
    """Which capture it came from, its bytes, and the dice that were thrown (for whoever wants to throw on)."""
    dice = random.Random(f"{seed}/{number}")
    origin = captures[dice.randrange(len(captures))]
    if len(origin.data) > LARGE and len(origin.units) > 2:
        origin = _shorter(origin, dice)
    data = bytearray(origin.data)
    fate = dice.random()
    changes = INSIDE if fate < 0.5 else OUTSIDE if fate < 0.8 else INSIDE + OUTSIDE
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        dice.choice(changes)(data, origin, dice)
    if fate > 0.97:  # two captures, one behind the other or one inside the other
        other = captures[dice.randrange(len(captures))].data[:LARGE]
        at = dice.choice((len(data), dice.randrange(len(data) + 1)))
        data[at:at] = other[dice.choice((0, dice.randrange(len(other) + 1))) :]
    elif fate > 0.95:
        data = _compressed(bytes(data), dice)
        for _ in range(dice.randrange(3)):
            any_bits(data, origin, dice)
    return origin.name, bytes(data), dice
