"""Frames: a run of captured bytes and an index into it.

Knows that a frame has a time, two lengths and a link type; refuses to know any protocol, and any container format.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["INDEX", "OPAQUE", "Damage", "Frames", "Interface"]

INDEX = np.dtype(
    [
        ("frame", "<u8"),  # 1-based position in its own file
        ("ts", "<i8"),  # nanoseconds since 1970-01-01 UTC
        ("offset", "<i8"),  # of the frame's first byte, in Frames.buffer
        ("caplen", "<u4"),  # bytes captured, all of them in the buffer
        ("wirelen", "<u4"),  # bytes the frame had on the wire
        ("interface", "<u4"),  # position in Frames.interfaces
        ("vantage", "<u2"),  # position in Frames.vantages
        ("linktype", "<u2"),  # LINKTYPE_* number
    ]
)
"""One record per frame, 40 bytes, native C layout of `IndexEntry` in _scan.pyx and _walk.pyx."""

OPAQUE = np.dtype((np.void, INDEX.itemsize))
"""To copy or select index entries, view them as this: NumPy would copy field by field, ten times as slow."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Where frames were captured, as the file says (pcapng: one Interface Description Block; pcap: the file header)."""

    linktype: int  # LINKTYPE_* number, https://www.tcpdump.org/linktypes.html
    name: str | None = None  # pcapng if_name; None where the file gives none
    description: str | None = None  # pcapng if_description
    snaplen: int = 0  # bytes kept per frame; 0: no limit
    os: str | None = None  # pcapng if_os
    filter: str | None = None  # pcapng if_filter, as it was typed: frames that do not match it were not captured
    comment: str | None = None  # pcapng opt_comment
    number: int | None = field(default=None, compare=False)  # its position in a pcapng file; a pcap file does not number its one interface

    @property
    def place(self) -> str | None:
        """Where the interface is, as `vxtool capture` writes it into the name: "vm1" of "vm1/eth0". Names of devices have no slash of their own;
        None for them, and for what else has slashes (pipes of dumpcap, URLs)."""
        place, slash, device = (self.name or "").partition("/")
        return place if slash and place and device and "/" not in device and "\\" not in place else None


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a file stops making sense, and how much was skipped before it made sense again."""

    path: str
    offset: int  # bytes from the start of the file as it is after decompression
    skipped: int  # bytes passed over, 0 when nothing follows
    reason: str  # one sentence; names the frame number after which it happened

    def __str__(self) -> str:
        tail = f"; skipped {self.skipped:,} bytes" if self.skipped else ""
        return f"{self.path}: at byte {self.offset:,}: {self.reason}{tail}"


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch of frames. Immutable by agreement: whoever wants fewer frames selects, whoever wants other bytes copies."""

    buffer: npt.NDArray[np.uint8]  # the bytes of all frames, and whatever lies between them
    index: npt.NDArray[np.void]  # dtype INDEX
    interfaces: tuple[Interface, ...] = ()
    vantages: tuple[str, ...] = field(default=("",))

    def __len__(self) -> int:
        return len(self.index)

    def bytes_of(self, i: int) -> bytes:
        """The captured bytes of the i-th frame of this batch."""
        entry = self.index[i]
        start = int(entry["offset"])
        return self.buffer[start : start + int(entry["caplen"])].tobytes()

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Frames:
        """The same buffer with fewer index entries (or in another order)."""
        return Frames(self.buffer, self.index.view(OPAQUE)[keep].view(INDEX), self.interfaces, self.vantages)
