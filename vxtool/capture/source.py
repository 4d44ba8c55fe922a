"""Where the bytes of a capture come from: a file, a pipe or a stream, plain or compressed.

Knows files and compression; refuses to know what the bytes mean. Nothing here waits for more than one piece: what a pipe has is handed on at once, so
that `tcpdump -w - | vxtool decode -` shows frames as they come. Nothing here grows: a piece of compressed input that unfolds into gigabytes is
unfolded a few hundred kilobytes at a time.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from vxtool.errors import CaptureError, MissingFeature

__all__ = ["MAGICS", "Source", "open_source"]

PIECE = 1 << 16
"""Compressed bytes read at a time."""

UNFOLDED = 1 << 18
"""Most bytes that one step of decompression may yield."""

MEMORY = 1 << 27
"""Most bytes of history that a compressed stream may ask for: 128 MiB, as `zstd -d` allows by default; `xz -9` needs 65."""


class Broken(Exception):
    """A compressed stream that cannot be followed any further; the text says why."""


class Raw:
    """Bytes as they lie in the file, or as they come through the pipe."""

    def __init__(self, stream: BinaryIO | Any, *, path: str, owned: bool) -> None:
        self._stream = stream
        self._owned = owned
        self._head = b""
        self.path = path
        self.consumed = 0
        self.damage: str | None = None
        self._read: Callable[[memoryview], int | None] = next(
            (getattr(stream, name) for name in ("readinto1", "readinto") if hasattr(stream, name)), self._read_plainly
        )

    def _read_plainly(self, into: memoryview) -> int:
        """For file objects that can only read(n)."""
        piece = self._stream.read(len(into))
        into[: len(piece)] = piece
        return len(piece)

    @property
    def size(self) -> int | None:
        """Bytes of the file on disk; None for pipes and for streams that have no file."""
        try:
            status = os.fstat(self._stream.fileno())
        except (AttributeError, OSError, ValueError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def readinto(self, into: memoryview) -> int:
        """Some bytes, as many as are there now, but at least one; 0 at the end. A read error ends the file and is told in `damage`."""
        if self._head:
            count = min(len(self._head), len(into))
            into[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        try:
            while (count_or_none := self._read(into)) is None:  # someone made our standard input non-blocking
                select.select([self._stream], [], [])
        except OSError as error:
            self.damage = f"reading failed: {error.strerror or error}"
            return 0
        self.consumed += count_or_none
        return count_or_none

    def peek(self, count: int) -> bytes:
        """The first bytes, fewer only if the file is shorter; they will be read again."""
        # A small read would leave bytes in Python's own buffer of a pipe, and a larger one after it then waits for more, readinto1 or not.
        room = bytearray(PIECE)
        have = 0
        while have < count and (more := self.readinto(memoryview(room)[have:])):
            have += more
        self._head = bytes(room[:have])
        return self._head[:count]

    def pieces(self) -> Iterator[bytes]:
        room = bytearray(PIECE)
        while count := self.readinto(memoryview(room)):
            yield bytes(room[:count])

    def close(self) -> None:
        if self._owned:
            self._stream.close()


class Unfolded:
    """The same, out of a compressed file."""

    def __init__(self, raw: Raw, kind: str, unfold: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
        self._raw = raw
        self._kind = kind
        self._pieces = unfold(raw.pieces())
        self._rest = memoryview(b"")
        self.path = raw.path
        self.size = raw.size
        self.damage: str | None = None

    @property
    def consumed(self) -> int:
        return self._raw.consumed

    def readinto(self, into: memoryview) -> int:
        while not self._rest:
            try:
                piece = next(self._pieces, None)
            except Broken as error:
                self.damage = self._raw.damage or f"the {self._kind} stream is broken: {error}"
                return 0
            if piece is None:
                self.damage = self._raw.damage
                return 0
            self._rest = memoryview(piece)
        count = min(len(self._rest), len(into))
        into[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._raw.close()


class Source(Protocol):
    """What a capture reads from. `consumed` counts bytes of the file itself, before decompression."""

    path: str
    damage: str | None

    @property
    def size(self) -> int | None: ...
    @property
    def consumed(self) -> int: ...
    def readinto(self, into: memoryview, /) -> int: ...
    def close(self) -> None: ...


# --------------------------------------------------------------------------------------------------------------------
# Compression: pieces of the file in, pieces of what is in it out. What came out before the damage is yielded before Broken is raised.
# --------------------------------------------------------------------------------------------------------------------


def gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """gzip, one member or several, zero padding after the last one (RFC 1952)."""
    member = zlib.decompressobj(wbits=31)
    members = 0
    fed = False
    for piece in pieces:
        rest = piece
        while True:
            if members and not fed:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                if not b"\x1f\x8b".startswith(rest[:2]):
                    raise Broken("something that is not gzip follows its end")
            fed = True
            before = member.copy()
            try:
                plain = member.decompress(rest, UNFOLDED)
            except zlib.error:
                # zlib gives nothing of a step with an error in it: the same again, byte by byte, up to the error.
                yield from _gunzip_slowly(before, rest)
            if plain:
                yield plain
            if member.eof:
                members, fed = members + 1, False
                rest, member = member.unused_data, zlib.decompressobj(wbits=31)
            else:
                rest = member.unconsumed_tail
            if not rest and len(plain) < UNFOLDED:
                break
    if fed or not members:
        raise Broken("it is cut off")


def _gunzip_slowly(member: Any, rest: bytes) -> Iterator[bytes]:
    try:
        for byte in (rest[at : at + 1] for at in range(len(rest))):
            while plain := member.decompress(byte, UNFOLDED):
                yield plain
                byte = member.unconsumed_tail
    except zlib.error as error:
        raise Broken(str(error).rpartition(": ")[2]) from None
    raise Broken("it makes no sense")


def unxz(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """xz, one stream or several, with padding between them."""
    try:
        import lzma
    except ImportError:
        raise MissingFeature("this Python was built without lzma: decompress the capture with `xz -d` first") from None

    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    streams = 0
    fed = False
    # lzma gives nothing of a piece with an error in it and cannot be copied: small pieces, so that little is lost.
    for rest in (piece[at : at + 64] for piece in pieces for at in range(0, len(piece), 64)):
        while rest or not stream.needs_input:
            if not fed and streams:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                if not b"\xfd7zXZ\0".startswith(rest[:6]):
                    raise Broken("something that is not xz follows its end")
            fed = True
            try:
                plain = stream.decompress(rest, UNFOLDED)
            except lzma.LZMAError as error:
                raise Broken(f"{error}".lower()) from None
            if plain:
                yield plain
            rest = b""
            if stream.eof:
                streams, fed = streams + 1, False
                rest, stream = stream.unused_data, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    if fed or not streams:
        raise Broken("it is cut off")


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_BLOCK = 1 << 17


def unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """zstd, one frame or several, skippable frames between them (RFC 8878, section 3.1).

    The decompressor is fed block by block: a block unfolds into 128 KiB at most, and all blocks before a broken one are delivered.
    """
    try:
        import zstandard
    except ImportError:
        raise MissingFeature("zstd captures need the Python package zstandard: pip install zstandard") from None

    take = _Taker(pieces)
    frames = 0
    while magic := take(4, at_end=True):
        if len(magic) == 4 and magic[0] & 0xF0 == 0x50 and magic[1:] == b"\x2a\x4d\x18":
            take.skip(int.from_bytes(take(4), "little"))
            continue
        if magic != ZSTD_MAGIC:
            raise Broken("something that is not zstd follows its end" if frames else "it is cut off")
        frames += 1
        frame = zstandard.ZstdDecompressor(max_window_size=MEMORY).decompressobj()
        descriptor = take(1)
        single = descriptor[0] >> 5 & 1
        size = (single, 2, 4, 8)[descriptor[0] >> 6]
        header = take((0 if single else 1) + (0, 1, 2, 4)[descriptor[0] & 3] + size)
        feed = magic + descriptor + header
        last = False
        try:
            while not last:
                block = take(3)
                word = int.from_bytes(block, "little")
                last, kind, length = bool(word & 1), word >> 1 & 3, word >> 3
                if kind == 3 or length > ZSTD_BLOCK:
                    raise Broken("a block header makes no sense")
                plain = frame.decompress(feed + block + take(1 if kind == 1 else length))
                feed = b""
                if plain:
                    yield plain
            if descriptor[0] >> 2 & 1:
                frame.decompress(take(4))
        except zstandard.ZstdError as error:
            reason = str(error).partition("decompressor error: ")[2] or str(error)
            if "too much memory" in reason:
                reason = f"it asks for more than {MEMORY >> 20} MiB of memory (decompress it with `zstd -d --long=31` first)"
            raise Broken(reason) from None
    if not frames:
        raise Broken("it is empty")


class _Taker:
    """Exact counts of bytes out of pieces of any size; Broken when there are not as many."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self._at = 0

    def __call__(self, count: int, *, at_end: bool = False) -> bytes:
        """The next `count` bytes; with `at_end`, fewer when the file ends."""
        while len(self._rest) - self._at < count:
            piece = next(self._pieces, None)
            if piece is None:
                if at_end:
                    break
                raise Broken("it is cut off")
            self._rest, self._at = self._rest[self._at :] + piece, 0
        taken = self._rest[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def skip(self, count: int) -> None:
        while count:
            count -= len(self(min(count, PIECE)))


MAGICS: dict[bytes, tuple[str, Callable[[Iterator[bytes]], Iterator[bytes]] | None]] = {
    b"\x1f\x8b": ("gzip", gunzip),
    ZSTD_MAGIC: ("zstd", unzstd),
    **{bytes([first]) + b"\x2a\x4d\x18": ("zstd", unzstd) for first in range(0x50, 0x60)},  # a skippable frame comes first
    b"\xfd7zXZ\x00": ("xz", unxz),
    b"BZh": ("bzip2", None),
    b"PK\x03\x04": ("zip", None),
    b"\x04\x22\x4d\x18": ("lz4", None),
}
"""First bytes of compressed files; None: known by name only."""


def open_source(source: str | os.PathLike[str] | BinaryIO) -> Source:
    """Open a path, "-" (standard input) or a binary file object, and look through its compression.

    CaptureError for what cannot be opened: missing, a directory, forbidden, empty, compressed in a way that is not known here.
    """
    if not isinstance(source, str | os.PathLike):
        raw = Raw(source, path=_name_of(source), owned=False)
    elif os.fspath(source) == "-":
        raw = Raw(sys.stdin.buffer, path="-", owned=False)
    else:
        raw = Raw(_open(os.fspath(source)), path=os.fspath(source), owned=True)
    try:
        return _look_through(raw)
    except BaseException:
        raw.close()
        raise


def _name_of(stream: object) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else "stream"


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        reason = "no such file"
    except IsADirectoryError:
        reason = "this is a directory: name the captures in it"
    except PermissionError:
        reason = "you may not read this file"
    except (OSError, ValueError) as error:
        reason = f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    raise CaptureError(f"{path}: {reason}")


def _look_through(raw: Raw) -> Source:
    name = "standard input" if raw.path == "-" else raw.path
    head = raw.peek(6)
    if not head:
        raise CaptureError(f"{name}: {raw.damage or 'empty, not even a capture file header (was the capture interrupted before it began?)'}")
    for magic, (kind, unfold) in MAGICS.items():
        if head.startswith(magic):
            if unfold is None:
                raise CaptureError(
                    f"{name}: compressed with {kind}, which is not read here: decompress it first (gzip, zstd and xz are read as they are)"
                )
            return Unfolded(raw, kind, unfold)
    return raw
