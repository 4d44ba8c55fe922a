"""Captures packed by hand with struct: the independent idea of what lies in a file, byte by byte."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import NamedTuple

from vxtool.capture import Capture, open_capture

START = 1_700_000_000
"""Seconds since 1970 of the first made frame."""


class Frame(NamedTuple):
    """One frame as a reader should give it back."""

    ts: int
    wirelen: int
    data: bytes


def frame(number: int, size: int = 60) -> Frame:
    """The number-th made frame, 1 ms after the one before. Its bytes can be told from those of any other, and look like no record."""
    return Frame((START * 1000 + number) * 1_000_000, size, (struct.pack(">I", 0xF0000000 + number) * (size // 4 + 1))[:size])


def frames(count: int, size: int = 60) -> list[Frame]:
    return [frame(number, size) for number in range(count)]


def pcap_header(order: str = "<", magic: int = 0xA1B23C4D, snaplen: int = 262144, network: int = 1) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, network)


def record(one: Frame, order: str = "<", tick: int = 1, caplen: int | None = None, more: bytes = b"") -> bytes:
    """`tick`: ns; `caplen`: what the record claims, where it lies; `more`: what follows the header in modified pcap."""
    seconds, ns = divmod(one.ts, 10**9)
    return struct.pack(order + "IIII", seconds, ns // tick, len(one.data) if caplen is None else caplen, one.wirelen) + more + one.data


def pcap(made: list[Frame]) -> bytes:
    return pcap_header() + b"".join(record(one) for one in made)


def block(kind: int, body: bytes, order: str = "<", first: int | None = None, last: int | None = None) -> bytes:
    """`first` and `last`: what the two lengths say, where they lie."""
    body += bytes(-len(body) % 4)
    length = 12 + len(body)
    return struct.pack(order + "II", kind, length if first is None else first) + body + struct.pack(order + "I", length if last is None else last)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", version: tuple[int, int] = (1, 0), more: bytes = b"") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, *version, -1) + more, order)


def interface(order: str = "<", linktype: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def enhanced_body(ticks: int, data: bytes, wirelen: int, order: str = "<", number: int = 0, caplen: int | None = None) -> bytes:
    return struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data) if caplen is None else caplen, wirelen) + data


def enhanced(one: Frame, order: str = "<", number: int = 0, tick: int = 1000) -> bytes:
    return block(6, enhanced_body(one.ts // tick, one.data, one.wirelen, order, number), order)


def simple(data: bytes, wirelen: int, order: str = "<") -> bytes:
    return block(3, struct.pack(order + "I", wirelen) + data, order)


def old_packet(one: Frame, order: str = "<", number: int = 0, drops: int = 7) -> bytes:
    ticks = one.ts // 1000
    return block(2, struct.pack(order + "HHIIII", number, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(one.data), one.wirelen) + one.data, order)


def pcapng(made: list[Frame]) -> bytes:
    return section() + interface() + b"".join(enhanced(one) for one in made)


def opened(data: bytes) -> Capture:
    return open_capture(io.BytesIO(data))


def read(source: Capture | bytes | Path) -> list[Frame]:
    """All frames; their numbers must be 1, 2, 3, ..."""
    capture = source if isinstance(source, Capture) else opened(source) if isinstance(source, bytes) else open_capture(source)
    got: list[Frame] = []
    for batch in capture:
        assert len(batch), "an empty batch"
        for i, entry in enumerate(batch.index):
            got.append(Frame(int(entry["ts"]), int(entry["wirelen"]), batch.bytes_of(i)))
            assert entry["frame"] == len(got)
            assert len(got[-1].data) == entry["caplen"]
            assert batch.interfaces[entry["interface"]].linktype == entry["linktype"]
            assert len(batch.vantages) > entry["vantage"]
    return got
