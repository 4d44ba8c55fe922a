"""Frames back into a capture file, with nanoseconds.

Knows the two containers; which frames are worth writing is decided elsewhere.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from types import TracebackType
from typing import BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt

from vxtool.capture._scan import pack_pcap, pack_pcapng
from vxtool.capture.frames import INDEX, Frames, Interface
from vxtool.errors import CaptureError

__all__ = ["CaptureWriter"]

SNAPLEN = 262144
"""What the file header promises: tcpdump's default, which every reader accepts; longer frames are written as they are."""

LONG = 4096
"""Bytes of a frame, on average, from which on writing frames one by one is cheaper than copying them together."""

AT_ONCE = 500
"""Frames of one writev(2), two pieces each: it takes 1,024 (IOV_MAX)."""


class CaptureWriter:
    """Write a capture: pcapng when the path ends in .pcapng, else pcap; "-" is standard output.

    pcapng keeps interfaces with their names, and any mix of link types. pcap holds one link type: frames of a second one raise CaptureError, and the
    file keeps what was written before. `inputs` are paths that are being read: to overwrite one of them is refused. Errors of writing (disk full, no
    permission) are CaptureErrors; only a reader of standard output that has gone away is a BrokenPipeError, for the caller to be quiet about.
    """

    def __init__(self, path: str | os.PathLike[str], *, form: Literal["pcap", "pcapng"] | None = None, inputs: Iterable[str] = ()) -> None:
        self.path = os.fspath(path)
        self.frames = 0
        self._name = "standard output" if self.path == "-" else self.path
        ending = os.path.splitext(self.path)[1].lower()
        if ending in (".gz", ".zst", ".xz"):
            raise CaptureError(
                f"{self.path}: captures are written uncompressed: name it {self.path.removesuffix(ending)!r} and compress it afterwards"
            )
        self.form = form or ("pcapng" if ending == ".pcapng" else "pcap")
        self._linktype: int | None = None  # pcap: of the file header, once written
        self._numbers: dict[tuple[str, int, Interface], int] = {}  # pcapng: interface -> its number in the file
        self._stream = self._open(inputs)
        if self.form == "pcapng":
            self._write(_section_header())

    def _open(self, inputs: Iterable[str]) -> BinaryIO:
        if self.path == "-":
            return sys.stdout.buffer
        for other in inputs:
            if other != "-" and os.path.exists(self.path) and os.path.exists(other) and os.path.samefile(self.path, other):
                raise CaptureError(f"{self.path}: this is the capture being read: write to another file")
        try:
            return open(self.path, "wb", buffering=0)
        except (OSError, ValueError) as error:
            raise CaptureError(f"{self.path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, frames: Frames) -> None:
        """Append frames, in the order of their index."""
        if not len(frames):
            return
        self._check_times(frames)
        if self.form == "pcap":
            self._begin(frames)
            self._write(pack_pcap(frames.buffer, frames.index).data)
        else:
            numbers = self._interfaces_of(frames)
            if isinstance(self._stream, FileIO) and frames.index["caplen"].mean() >= LONG:
                for first in range(0, len(frames), AT_ONCE):
                    self._gather(frames, numbers, slice(first, first + AT_ONCE))
            else:
                self._write(pack_pcapng(frames.buffer, frames.index, numbers).data)
        self.frames += len(frames)

    def write_items(self, items: Iterable[tuple[bytes, int, int]], *, interface: Interface | None = None) -> None:
        """Append frames that lie in no buffer, such as inner frames: (bytes, nanoseconds since 1970, bytes on the wire), by default Ethernet."""
        listed = list(items)
        interface = interface or Interface(1)
        index = np.zeros(len(listed), INDEX)
        index["frame"] = np.arange(self.frames + 1, self.frames + 1 + len(listed))
        index["ts"] = [ts for _, ts, _ in listed]
        index["caplen"] = [len(data) for data, _, _ in listed]
        index["wirelen"] = [wirelen for _, _, wirelen in listed]
        index["linktype"] = interface.linktype
        index["offset"][1:] = np.cumsum(index["caplen"][:-1], dtype=np.int64)
        self.write(Frames(np.frombuffer(b"".join(data for data, _, _ in listed), np.uint8), index, (interface,)))

    def announce(self, position: int, interface: Interface, vantage: str) -> int:
        """pcapng: describe an interface (the position-th of the Frames to come) before it has a frame, and return its number in the file.

        A capture in which nothing happens then says at least where nothing happened.
        """
        return self._describe(vantage, position, interface) if self.form == "pcapng" else 0

    def statistics(self, number: int, *, begun_ns: int, ended_ns: int, received: int, dropped: int) -> None:
        """pcapng: an Interface Statistics Block. `received`: frames that the filter let through, `dropped`: those of them not in the file."""
        if self.form == "pcapng":
            counts = ((2, _ticks(begun_ns)), (3, _ticks(ended_ns)), (4, _count(received)), (5, _count(dropped)))
            self._write(_block(5, struct.pack("<I", number) + _ticks(ended_ns) + _options(*counts)))

    def flush(self) -> None:
        """Hand what was written to whoever reads standard output; a file has it already."""
        if self.path == "-":
            self._stream.flush()

    def close(self) -> None:
        """Finish the file; without a single frame it is a pcap header (Ethernet) or a pcapng section header."""
        if self._stream.closed:
            return
        if self.form == "pcap" and self._linktype is None:
            self._linktype = 1
            self._write(_file_header(self._linktype))
        if self.path == "-":
            self._stream.flush()
        else:
            self._stream.close()

    def _begin(self, frames: Frames) -> None:
        """Write the pcap header before the first frame, and keep to its link type."""
        linktypes = frames.index["linktype"]
        if self._linktype is None:
            self._linktype = int(linktypes[0])
            self._write(_file_header(self._linktype))
        others = np.flatnonzero(linktypes != self._linktype)
        if len(others):
            other = frames.index[others[0]]
            raise CaptureError(
                f"{self._name}: a pcap file holds one link type, this one {self._linktype}, but frame {other['frame']} has {other['linktype']}: "
                "write to a file ending in .pcapng"
            )

    def _check_times(self, frames: Frames) -> None:
        ts = frames.index["ts"]
        latest, what = (
            ((1 << 32) * 10**9 - 1, "before 1970 or after 2106, which pcap") if self.form == "pcap" else ((1 << 63) - 1, "before 1970, which pcapng")
        )
        odd = np.flatnonzero((ts < 0) | (ts > latest))
        if len(odd):
            raise CaptureError(f"{self._name}: frame {frames.index['frame'][odd[0]]} was captured {what} cannot say: leave it out")

    def _interfaces_of(self, frames: Frames) -> npt.NDArray[np.uint32]:
        """The number that the interface of each frame has in the file; interfaces not met before are written first."""
        # Link type, vantage and interface in one number: a frame of an interface that has another link type gets an interface of its own.
        where = frames.index["interface"].astype(np.uint64) << 32 | frames.index["vantage"].astype(np.uint64) << 16 | frames.index["linktype"]
        if (where == where[0]).all():
            return np.full(len(where), self._number(frames, int(where[0])), np.uint32)
        kinds, inverse = np.unique(where, return_inverse=True)
        return np.array([self._number(frames, int(kind)) for kind in kinds], np.uint32)[inverse]

    def _number(self, frames: Frames, where: int) -> int:
        position, vantage, linktype = where >> 32, frames.vantages[where >> 16 & 0xFFFF], where & 0xFFFF
        known = frames.interfaces[position] if position < len(frames.interfaces) else Interface(linktype)
        description = known.description or (vantage or None if len(frames.vantages) > 1 else None)
        return self._describe(vantage, position, replace(known, linktype=linktype, description=description))

    def _describe(self, vantage: str, position: int, interface: Interface) -> int:
        """The number of an interface in the file; one not met before is written first."""
        key = (vantage, position, interface)
        if key not in self._numbers:
            self._write(_interface_description(interface))
            self._numbers[key] = len(self._numbers)
        return self._numbers[key]

    def _gather(self, frames: Frames, numbers: npt.NDArray[np.uint32], part: slice) -> None:
        """Write some frames from where they lie, by one writev(2): superframes of segmentation offload are not copied once more."""
        buffer = frames.buffer.data
        pieces: list[bytes | memoryview] = []
        ending = b""
        for (_, ts, start, caplen, wirelen, *_), number in zip(frames.index[part].tolist(), numbers[part].tolist(), strict=True):
            if start < 0 or start + caplen > len(buffer):
                raise IndexError("an index entry points outside its buffer")
            length = 32 + (caplen + 3 & ~3)
            pieces.append(ending + struct.pack("<IIIIIII", 6, length, number, ts >> 32, ts & 0xFFFFFFFF, caplen, wirelen))
            pieces.append(buffer[start : start + caplen])
            ending = bytes(-caplen % 4) + struct.pack("<I", length)
        pieces.append(ending)
        with self._refusals():
            written = os.writev(self._stream.fileno(), pieces)
        for piece in pieces:  # a full disk takes some of it, and says why it takes no more when it is asked again
            if written < len(piece):
                self._write(memoryview(piece)[written:])
            written = max(0, written - len(piece))

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        with self._refusals():
            while rest:
                rest = rest[self._stream.write(rest) :]

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CaptureError(f"{self._name}: writing failed after {self.frames:,} frames: {error.strerror or error}") from None


def _file_header(linktype: int) -> bytes:
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPLEN, linktype)


def _section_header() -> bytes:
    return _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((4, b"vxtool")))


def _interface_description(interface: Interface) -> bytes:
    texts = ((1, interface.comment), (2, interface.name), (3, interface.description), (12, interface.os))
    options = [(code, text.encode(errors="replace")) for code, text in texts if text]
    if interface.filter:
        options.append((11, b"\0" + interface.filter.encode(errors="replace")))  # 0: an expression of libpcap
    return _block(1, struct.pack("<HHI", interface.linktype, 0, interface.snaplen) + _options(*options, (9, b"\x09")))  # if_tsresol: 10**-9


def _ticks(ns: int) -> bytes:
    """A time in nanoseconds (if_tsresol 9), high half first as blocks have it."""
    return struct.pack("<II", ns >> 32, ns & 0xFFFFFFFF)


def _count(number: int) -> bytes:
    return struct.pack("<Q", number)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options) + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length
