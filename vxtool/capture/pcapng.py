"""The pcapng blocks that change how others are read (sections and interfaces), and what to say of a block that makes no sense.

https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from vxtool.capture._scan import PcapngScanner, Stop
from vxtool.capture.frames import Interface

__all__ = ["MAGIC", "ORDERS", "SECTION_HEADER", "Pcapng"]

MAGIC = b"\x0a\x0d\x0d\x0a"
"""Type of the Section Header Block, the same in both byte orders: a pcapng file begins with it."""

SECTION_HEADER = 28
"""Bytes of the shortest Section Header Block."""

ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
"""Byte-order magic of a section, as it lies in the file -> byte order, for struct."""

SIMPLE = 3
"""Type of the Simple Packet Block: no interface, no time, the bytes after the first twelve."""

INTERFACES = 1 << 14
"""Most interfaces of one file, so that a file of nothing but interfaces stays small in memory."""

TEXT = 255
"""Most bytes kept of a name or a description."""

COMMENT, IF_NAME, IF_DESCRIPTION, IF_TSRESOL, IF_FILTER, IF_OS, IF_TSOFFSET = 1, 2, 3, 9, 11, 12, 14


class Pcapng:
    """A pcapng file: sections, each with its own byte order and interfaces.

    `interfaces` grows while the file is read and never changes its order. An interface that a later section describes in the same words is the same
    interface (as in a file made by `cat a.pcapng b.pcapng`).
    """

    header: Final = 0

    def __init__(self) -> None:
        self.scanner = PcapngScanner()
        self.interfaces: tuple[Interface, ...] = ()
        self._found: list[Interface] = []
        self._places: dict[Interface, list[int]] = {}
        self._here: Counter[Interface] = Counter()  # of the current section
        self._full = False  # an interface of this section was refused: the numbers of later ones would be wrong

    def section(self, data: npt.NDArray[np.uint8], at: int) -> str | None:
        """Read the Section Header Block at `at`. Returns what is wrong with it."""
        order = ORDERS[data[at + 8 : at + 12].tobytes()]
        major, minor = struct.unpack(order + "HH", data[at + 12 : at + 16].tobytes())
        self._here.clear()
        self._full = False
        self.scanner.section(big=order == ">", deaf=major != 1)
        if major != 1:
            return (
                f"after frame {self.scanner.frames:,}: a section of pcapng version {major}.{minor} begins, which nobody has defined; it is not read"
            )
        return None

    def interface(self, data: npt.NDArray[np.uint8], at: int) -> str | None:
        """Read the Interface Description Block at `at`. Returns what is wrong with it."""
        order = ">" if self.scanner.big else "<"
        length, linktype, _, snaplen = struct.unpack(order + "IHHI", data[at + 4 : at + 16].tobytes())
        body = data[at + 16 : at + length - 4].tobytes()
        resolution, offset = 6, 0  # microseconds since 1970 unless said otherwise
        texts: dict[int, str] = {}
        for code, value in _options(body, order):
            if code in (COMMENT, IF_NAME, IF_DESCRIPTION, IF_OS):
                texts.setdefault(code, value[:TEXT].rstrip(b"\0").decode(errors="replace"))
            elif code == IF_FILTER and value[:1] == b"\0":  # a libpcap expression; 1 would be its byte code
                texts.setdefault(code, value[1 : 1 + TEXT].rstrip(b"\0").decode(errors="replace"))
            elif code == IF_TSRESOL and value:
                resolution = value[0]
            elif code == IF_TSOFFSET and len(value) >= 8:
                offset = int.from_bytes(value[:8], "big" if self.scanner.big else "little", signed=True)
        found = Interface(
            linktype,
            texts.get(IF_NAME),
            texts.get(IF_DESCRIPTION),
            snaplen,
            texts.get(IF_OS),
            texts.get(IF_FILTER),
            texts.get(COMMENT),
            len(self._found),
        )
        places = self._places.setdefault(found, [])
        nth = self._here[found]
        self._here[found] += 1
        if nth == len(places):
            self._full = self._full or len(self._found) == INTERFACES
        if self._full:
            return f"after frame {self.scanner.frames:,}: more than {INTERFACES:,} interfaces; the frames of this one are not read"
        if nth == len(places):
            places.append(len(self._found))
            self._found.append(found)
        self.scanner.interface(resolution=resolution, offset=offset, snaplen=snaplen, position=places[nth], linktype=linktype)
        return None

    def settle(self) -> tuple[Interface, ...]:
        """All interfaces so far."""
        if len(self.interfaces) != len(self._found):
            self.interfaces = tuple(self._found)
        return self.interfaces

    def wrong(self, data: npt.NDArray[np.uint8], at: int, end: int, stop: int) -> str:
        """Why the block at `at` cannot be read, as a sentence that names the frame before it."""
        after = f"after frame {self.scanner.frames:,}"
        if end - at < 12:
            return f"{after}: the file ends inside the header of a block, after {end - at} of 12 bytes"
        order = ">" if self.scanner.big else "<"
        if data[at : at + 4].tobytes() == MAGIC:
            if (order_of_section := ORDERS.get(data[at + 8 : at + 12].tobytes())) is None:
                return f"{after}: a section header without its magic number"
            order = order_of_section
        kind, length = struct.unpack(order + "II", data[at : at + 8].tobytes())
        block = f"{after}: a block of type {kind:#x}"
        match stop:
            case Stop.LENGTH:
                return f"{block} claims a length of {length:,} bytes, which is not possible"
            case Stop.TRAILER:
                ending = _number(data, at + length - 4, order)
                return f"{block} begins with a length of {length:,} bytes and ends with one of {ending:,}"
            case Stop.OVERFULL:
                claimed = _number(data, at + (8 if kind == SIMPLE else 20), order)
                return f"frame {self.scanner.frames + 1:,} claims {claimed:,} bytes, its block has {length - (16 if kind == SIMPLE else 32):,}"
            case Stop.STRANGER:
                return f"{block} holds a frame of an interface that its section does not describe (it has {self.scanner.interfaces})"
        return f"{block} claims a length of {length:,} bytes, the file ends after {end - at:,}"

    def length(self, data: npt.NDArray[np.uint8], at: int) -> int:
        """Length of the block at `at`, in the byte order of its section."""
        return _number(data, at + 4, ">" if self.scanner.big else "<")

    def ends(self, data: npt.NDArray[np.uint8], at: int, after: int) -> bool:
        """Does the block at `at`, whose two lengths differ, end at `after`, going by one of them?"""
        size = after - at
        return size >= 16 and size in (self.length(data, at), self.length(data, after - 8))

    def body_end(self, after: int) -> int:
        """Where the body of a block ends that ends at `after`."""
        return after - 4


def _number(data: npt.NDArray[np.uint8], at: int, order: str) -> int:
    return int.from_bytes(data[at : at + 4].tobytes(), "big" if order == ">" else "little")


def _options(body: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option, up to the end or to the first one that does not fit."""
    at = 0
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        if code == 0 or at + 4 + length > len(body):
            return
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)
