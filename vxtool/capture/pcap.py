"""The pcap file header, and what to say of a record that makes no sense.

https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from vxtool.capture._scan import FRAME_LIMIT, PcapScanner, Stop
from vxtool.capture.frames import Interface

__all__ = ["FILE_HEADER", "MAGICS", "Pcap"]

FILE_HEADER = 24

MAGICS: dict[int, tuple[bool, int]] = {
    0xA1B2C3D4: (False, 16),
    0xA1B23C4D: (True, 16),
    0xA1B2CD34: (False, 24),  # "modified" pcap (Alexey Kuznetsov's patches): interface index, protocol and packet type follow the record header
}
"""Magic number -> (nanoseconds, length of a record header)."""

SNAPLEN_FLOOR = 1 << 20
"""Records of this length are believed even where the file header promises less: some writers get that wrong, and BIG TCP frames reach 512 KiB."""


def order_of(head: bytes) -> bool | None:
    """Byte order of the file that begins with these four bytes: True for big-endian, None if it is not pcap."""
    for big in (False, True):
        if int.from_bytes(head[:4], "big" if big else "little") in MAGICS:
            return big
    return None


class Pcap:
    """A pcap file: one link type, one unnamed interface, records."""

    def __init__(self, head: bytes) -> None:
        """`head`: the 24 bytes of the file header, whose magic number `order_of` knows."""
        self._big = bool(order_of(head))
        magic, _, _, _, _, snaplen, network = struct.unpack(">IHHiIII" if self._big else "<IHHiIII", head)
        nano, header = MAGICS[magic]
        # The upper half of the last field says how many bytes of frame check sequence there are (and may hold anything in old files).
        linktype = network & 0xFFFF
        self._interfaces = (Interface(linktype, snaplen=snaplen),)
        self.header = header
        self._limit = min(max(snaplen or FRAME_LIMIT, SNAPLEN_FLOOR), FRAME_LIMIT)
        self.scanner = PcapScanner(big=self._big, nano=nano, header=header, linktype=linktype, limit=self._limit)

    def settle(self) -> tuple[Interface, ...]:
        """All interfaces so far."""
        return self._interfaces

    def wrong(self, data: npt.NDArray[np.uint8], at: int, end: int, stop: int) -> str:
        """Why the record at `at` cannot be read, as a sentence that begins with its number."""
        record = f"record {self.scanner.frames + 1:,}"
        if end - at < self.header:
            return f"the file ends inside the header of {record}, after {end - at} of {self.header} bytes"
        seconds, fraction, caplen, wirelen = struct.unpack(">IIII" if self._big else "<IIII", data[at : at + 16].tobytes())
        if stop == Stop.LENGTH:
            return f"{record} claims {caplen:,} bytes, which is not possible (at most {self._limit:,})"
        if stop == Stop.NONSENSE:
            return f"{record} makes no sense (time {seconds}.{fraction}, {caplen:,} of {wirelen:,} bytes, and no record after it)"
        return f"{record} claims {caplen:,} bytes, the file ends after {end - at - self.header:,}"

    def ends(self, data: npt.NDArray[np.uint8], at: int, after: int) -> bool:
        """Does the record at `at`, whose captured length is wrong, end at `after`, going by its length on the wire?"""
        if after - at < self.header:
            return False
        wirelen = int.from_bytes(data[at + 12 : at + 16].tobytes(), "big" if self._big else "little")
        return wirelen == after - at - self.header

    def body_end(self, after: int) -> int:
        """Where the body of a record ends that ends at `after`."""
        return after
