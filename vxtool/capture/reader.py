"""Captures in, frames out: the loop that fills a buffer, lets the scanner index it, and finds its way again where a file makes no sense.

Knows nothing of what a record looks like (pcap.py, pcapng.py, _scan.pyx do) and nothing of where bytes come from (source.py does).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from vxtool.capture._scan import Stop
from vxtool.capture.frames import INDEX, Damage, Frames, Interface
from vxtool.capture.pcap import FILE_HEADER, Pcap, order_of
from vxtool.capture.pcapng import MAGIC, ORDERS, SECTION_HEADER, Pcapng
from vxtool.capture.source import Source, open_source
from vxtool.errors import CaptureError

__all__ = ["Capture", "open_capture", "vantage_of"]

CHUNK = 3 << 18
"""Bytes of a buffer: large enough that a read costs nothing, small enough to stay in the cache while it is scanned and walked."""

ROOM = 1 << 16
"""A buffer with less room than this is left, and a new one begun."""

BATCH = 8192
"""Most frames of a batch."""

DAMAGES = 1000
"""Most places of damage that are listed one by one."""

SALVAGE = 1 << 20
"""How far behind a broken record its bytes are kept, in case they turn out to be a frame."""


def open_capture(source: str | os.PathLike[str] | BinaryIO, *, vantage: str | None = None) -> Capture:
    """Open a pcap or pcapng capture: a path, "-" for standard input, or a binary file object; gzip, zstd and xz are looked through.

    `vantage` names where it was taken; by default that is what the file itself says (`Interface.place`: several places in one file, as `vxtool
    capture` writes it), else the file's name without folder and endings. CaptureError when it is no capture at all.
    """
    opened = open_source(source)
    try:
        return Capture(opened, vantage=vantage)
    except BaseException:
        opened.close()
        raise


def vantage_of(path: str) -> str:
    """The file's name without folder and without the endings that captures have: "vm1" for "/tmp/vm1.pcap.gz", "stdin" for "-"."""
    if path == "-":
        return "stdin"
    name = full = PurePath(path).name or path
    while (stem := PurePath(name).stem) != name and PurePath(name).suffix.lower() in ENDINGS:
        name = stem
    return name or full


ENDINGS = {".gz", ".zst", ".zstd", ".xz", ".pcap", ".pcapng", ".cap", ".dmp", ".ntar", ".pcapnano"}


class Capture:
    """A capture that is being read. Iterate once, in file order; use as a context manager, so that the file is closed.

    Each batch has at least one frame and only whole ones, and is handed out as soon as its bytes are there. Batches may share a buffer; what a batch
    refers to is never written again. `damage` is complete when the iteration is over.
    """

    def __init__(self, source: Source, *, vantage: str | None = None) -> None:
        self.path = source.path
        self.vantage = vantage if vantage is not None else vantage_of(source.path)
        self.vantage_is_given = vantage is not None
        self.size = source.size  # bytes of the file on disk; None for a pipe
        self.damage: list[Damage] = []
        self._unlisted = 0
        self._source = source
        self._chunk = np.zeros(CHUNK, np.uint8)
        self._at = 0  # the next byte to scan
        self._end = 0  # the end of what has been read into the chunk
        self._base = 0  # place in the file of the chunk's first byte, after decompression
        self._eof = False
        self._last: int | None = None  # place in the file of the last pcap record
        self._count = 0
        self._index = np.empty(BATCH, INDEX)
        self._vantages: tuple[str, ...] = (self.vantage,)
        self._placed: tuple[Interface, ...] = ()  # the interfaces, and
        self._positions = np.zeros(0, np.uint16)  # for each of them the position in _vantages
        self._format = self._sniff()
        self._batches = self._read()

    @property
    def position(self) -> int:
        """Bytes of the file consumed so far (before decompression)."""
        return self._source.consumed

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """Interfaces found so far; a pcap file has one, without a name."""
        return self._format.settle()

    def __iter__(self) -> Iterator[Frames]:
        return self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. A file object or standard input that was handed in stays open."""
        self._batches.close()
        self._source.close()

    # ----------------------------------------------------------------------------------------------------------------
    # The buffer
    # ----------------------------------------------------------------------------------------------------------------

    def _fill(self, keep: int) -> None:
        """Read some more. Bytes of the chunk from `keep` on are still needed; if they move to a new chunk, `_at` and `_end` move with them."""
        if len(self._chunk) - self._end < ROOM:
            kept = self._end - keep
            # Twice what is kept: however large a record is, each byte is copied only a few times.
            chunk = np.empty(max(CHUNK, 2 * kept), np.uint8)
            chunk[:kept] = self._chunk[keep : self._end]
            self._chunk = chunk
            self._at -= keep
            self._end = kept
            self._base += keep
        while self._end < len(self._chunk):
            count = self._source.readinto(self._chunk.data[self._end :])
            self._end += count
            self._eof = count == 0
            if self._eof or self.size is None:  # a pipe: scan what there is before waiting for more
                break

    def _sniff(self) -> Pcap | Pcapng:
        name = "standard input" if self.path == "-" else self.path
        while self._end < (SECTION_HEADER if self._chunk[:4].tobytes() == MAGIC else FILE_HEADER) and not self._eof:
            self._fill(0)
        head = self._chunk[: min(self._end, SECTION_HEADER)].tobytes()
        pcapng = head[:4] == MAGIC
        if pcapng or (len(head) >= 4 and order_of(head) is not None):
            least = SECTION_HEADER if pcapng else FILE_HEADER
            if len(head) < least:
                why = f" ({self._source.damage})" if self._source.damage else ""
                raise CaptureError(f"{name}: cut off inside the file header, after {len(head)} of {least} bytes{why}")
            if not pcapng:
                self._at = FILE_HEADER
                return Pcap(head[:FILE_HEADER])
            order = ORDERS.get(head[8:12])
            if order is None:
                raise CaptureError(f"{name}: begins like pcapng, but without the byte-order magic of a section header: damaged, or no capture")
            major, minor = (int.from_bytes(head[at : at + 2], "big" if order == ">" else "little") for at in (12, 14))
            if major != 1:
                raise CaptureError(f"{name}: pcapng version {major}.{minor}, which nobody has defined (all captures are 1.0 or 1.2)")
            return Pcapng()
        if self._source.damage:
            raise CaptureError(f"{name}: {self._source.damage}")
        begins = f"begins with the bytes {head[:4].hex(' ')}" if head else "is empty after decompression"
        raise CaptureError(f"{name}: not a capture: it {begins}; give a pcap or pcapng file (plain, or compressed with gzip, zstd or xz)")

    # ----------------------------------------------------------------------------------------------------------------
    # The loop
    # ----------------------------------------------------------------------------------------------------------------

    def _read(self) -> Generator[Frames]:
        scanner = self._format.scanner
        while True:
            before = self._count
            self._count, self._at, stop = scanner.scan(self._chunk, self._at, self._end, self._index, before, self._eof)
            if self._count > before and self._format.header:
                self._last = self._base + int(self._index["offset"][self._count - 1]) - self._format.header
            if stop == Stop.FULL or (stop == Stop.MORE and not self._eof):
                if self._count:
                    yield self._batch()
                if stop == Stop.MORE:
                    self._fill(self._kept(self._at))
            elif stop == Stop.MORE and self._at == self._end:
                break
            elif stop in (Stop.SECTION, Stop.INTERFACE):
                self._pass_block(stop)
            else:
                yield from self._recover(stop)
        if self._count:
            yield self._batch()
        if self._source.damage:
            self._note(self._base + self._end, 0, f"{self._source.damage}; nothing can be read after frame {scanner.frames:,}")

    def _batch(self) -> Frames:
        # The index is handed over, not copied: NumPy copies records field by field, which would take as long as reading them.
        index, self._index, self._count = self._index[: self._count], np.empty(BATCH, INDEX), 0
        interfaces = self._format.settle()
        if interfaces is not self._placed:
            self._place(interfaces)
        if len(self._vantages) > 1:
            index["vantage"] = self._positions[index["interface"]]
        return Frames(self._chunk[: self._end], index, interfaces, self._vantages)

    def _place(self, interfaces: tuple[Interface, ...]) -> None:
        """Interfaces only ever become more: vantages that were handed out keep their positions."""
        names = [self.vantage if self.vantage_is_given else interface.place or self.vantage for interface in interfaces]
        self._vantages = tuple(dict.fromkeys(names)) or (self.vantage,)
        self._positions = np.array([self._vantages.index(name) for name in names], np.uint16)
        self._placed = interfaces

    def _kept(self, at: int) -> int:
        """From where on the chunk is still needed: the last pcap record may turn out to claim what belongs to others."""
        return at if self._last is None else min(at, max(0, self._last - self._base))

    def _pass_block(self, stop: int) -> None:
        """Read the pcapng section header or interface description at `_at`, and go behind it."""
        assert isinstance(self._format, Pcapng)
        read = self._format.section if stop == Stop.SECTION else self._format.interface
        if (wrong := read(self._chunk, self._at)) is not None:
            self._note(self._base + self._at, 0, wrong)
        self._at += self._format.length(self._chunk, self._at)

    # ----------------------------------------------------------------------------------------------------------------
    # Damage
    # ----------------------------------------------------------------------------------------------------------------

    def _recover(self, stop: int) -> Iterator[Frames]:
        """Go on behind the record or block at `_at` that cannot be read (`stop` says why) or that the end of the file cuts off."""
        if self._count == BATCH:
            yield self._batch()
        form, scanner = self._format, self._format.scanner
        place = self._base + self._at
        reason = form.wrong(self._chunk, self._at, self._end, stop)
        if stop in (Stop.OVERFULL, Stop.STRANGER):  # the block itself is in order
            assert isinstance(form, Pcapng)
            after = self._at + form.length(self._chunk, self._at)
            self._count = taken = scanner.take(self._chunk, self._at, after - 4, self._index, self._count)
            self._note(place, 0 if stop == Stop.OVERFULL and taken else after - self._at, reason)
            self._at = after
            return

        # The liar may be the record before: it was believed, but what follows it makes no sense. Look for records inside it, too.
        cursor = place + 1 if self._last is None else self._last + form.header
        while True:
            found, verdict = scanner.search(self._chunk, cursor - self._base, self._end, self._eof)
            cursor = self._base + found
            if verdict != Stop.MORE:
                break
            if self._count:
                yield self._batch()
            self._fill(found if cursor - place > SALVAGE else min(found, max(0, place - self._base)))

        if cursor < place:
            assert self._last is not None
            inside = cursor - self._last - form.header
            self._note(
                self._last,
                0,
                f"record {scanner.frames:,} claims bytes that belong to the records after it; the next one begins after {inside:,} of them",
            )
        else:
            at, after = place - self._base, cursor - self._base
            cut = verdict == Stop.NOTHING and stop == Stop.MORE
            count = self._count
            if cut or (at >= 0 and form.ends(self._chunk, at, after)):
                self._count = scanner.take(self._chunk, at, after if cut else form.body_end(after), self._index, count)
            self._note(place, 0 if self._count > count else cursor - place, reason)
        self._at = cursor - self._base
        self._last = None

    def _note(self, offset: int, skipped: int, reason: str) -> None:
        if len(self.damage) < DAMAGES:
            self.damage.append(Damage(self.path, offset, skipped, reason))
            return
        # A hostile file may be broken every few bytes: one last entry stands for all the others.
        self._unlisted += 1
        last = self.damage.pop() if self._unlisted > 1 else Damage(self.path, offset, 0, "")
        self.damage.append(
            Damage(self.path, last.offset, last.skipped + skipped, f"from here on {self._unlisted:,} more places of damage, not listed one by one")
        )
