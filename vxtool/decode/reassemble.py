"""IP datagrams that came in pieces, put together again (RFC 791 section 3.2, RFC 8200 section 4.5).

Knows IP headers and the rows of a batch; refuses to know files. Every frame keeps its row: the piece that completes a datagram becomes the row of
the whole datagram (`reassembled` says of how many pieces), the others stay marked as fragments and show only addresses and ports, so that nothing is
counted twice.

What cannot be put together stays in pieces: frames cut by the snap length, datagrams never completed, overlapping pieces (the kernel drops those
too, RFC 5722), and fragments inside a tunnel inside a tunnel.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import INDEX, Frames
from vxtool.decode.batch import Batch
from vxtool.decode.columns import HAVE, ROW, STOPS
from vxtool.decode.walk import DEFAULT, Options, walk

__all__ = ["Reassembler"]

LIFETIME_NS = 30 * 10**9  # Linux's net.ipv4.ipfrag_time
MOST_BYTES = 16 << 20  # of pieces waiting; the oldest datagram is given up first
LARGEST = 65535  # payload of an IP packet that is not a jumbogram
FRAGMENT = STOPS.index("fragment")
STOP_FIELDS = ("stop", "stop_layer", "stop_depth", "stop_offset", "stop_wanted")
TUNNEL_BITS = sum(HAVE[name] for name in ("tunnel", "vxlan", "gbp", "gpe", "geneve", "sll", "sll_ifindex"))
OUTER_FIELDS = [name for name in ROW.names or () if name.startswith("outer_")]
IPV6_EXTENSIONS = frozenset({0, 43, 60, 51, 135, 139, 140})

_Key = tuple[object, ...]


@dataclass(slots=True)
class _Datagram:
    """The pieces of one datagram so far."""

    since: int  # ns
    pieces: dict[int, bytes] = field(default_factory=dict)  # offset in the payload -> bytes
    header: bytes | None = None  # of the first piece: the IP header without any fragment header
    total: int | None = None  # bytes of payload, once the last piece is known
    held: int = 0  # bytes waiting

    def payload(self) -> bytes | None:
        """The whole payload, or None while something is missing."""
        if self.header is None or self.total is None or self.held != self.total:
            return None
        return b"".join(self.pieces[offset] for offset in sorted(self.pieces))


@dataclass(frozen=True, slots=True)
class _Piece:
    header: bytes  # IP header as it would be without fragmentation, lengths not yet right
    offset: int
    more: bool
    payload: bytes
    version: int


class Reassembler:
    """Feed it the batches of one run in order; it remembers incomplete datagrams from batch to batch, in bounded memory."""

    def __init__(self, options: Options = DEFAULT) -> None:
        self.options = options
        self._waiting: OrderedDict[_Key, _Datagram] = OrderedDict()
        self._bytes = 0

    def feed(self, batch: Batch) -> Batch:
        """The same frames in the same order; rows and bytes of completed datagrams replaced."""
        rows = batch.rows
        if not (rows["outer_frag"].any() or rows["inner_frag"].any()):
            return batch
        batch = self._level(Batch(batch.frames, rows.copy()), "outer")
        return self._level(batch, "inner")

    def _level(self, batch: Batch, level: str) -> Batch:
        frames, rows = batch.frames, batch.rows
        candidates = rows[f"{level}_frag"] != 0
        if level == "inner":
            candidates &= (rows["depth"] == 1) & (rows["outer_frag"] == 0)
        whole: list[tuple[int, bytes, int]] = []  # (position, bytes of the frame with the whole datagram, pieces)
        for i in np.flatnonzero(candidates).tolist():
            row, frame = rows[i], frames.bytes_of(i)
            piece = _piece(frame, int(row[f"{level}_ip_offset"]))
            if piece is None:
                continue
            done = self._add(self._key(row, level), piece, int(row["ts"]))
            if done is not None:
                header, payload, count = done
                start = int(row[f"{level}_ip_offset"])
                packet = _whole_packet(header, payload)
                prefix = frame[:start] if level == "outer" else _lengthen(frame[:start], row, len(packet))
                whole.append((i, prefix + packet, count))
        _only_own_headers(rows, rows[f"{level}_frag"] != 0, level)
        return _replace(batch, whole, level, self.options) if whole else batch

    def _key(self, row: np.void, level: str) -> _Key:
        """What says that two pieces belong together; pieces seen on two interfaces, or in two tunnels, are two datagrams."""
        names = ("vantage", "interface", "sll_ifindex", "sll_type") + (("vni", "outer_ip_src_lo", "outer_ip_dst_lo") if level == "inner" else ())
        own = ("ip_version", "ip_id", "ip_src_hi", "ip_src_lo", "ip_dst_hi", "ip_dst_lo")
        proto = int(row[f"{level}_proto"]) if row[f"{level}_ip_version"] == 4 else -1
        return (level, proto, *(int(row[name]) for name in names), *(int(row[f"{level}_{name}"]) for name in own))

    def _add(self, key: _Key, piece: _Piece, ts: int) -> tuple[bytes, bytes, int] | None:
        datagram = self._waiting.get(key)
        if datagram is not None and ts - datagram.since > LIFETIME_NS:
            self._forget(key)
            datagram = None
        end = piece.offset + len(piece.payload)
        if end > LARGEST:  # the "ping of death"
            return None
        if datagram is None:
            datagram = self._waiting[key] = _Datagram(ts)
        known = datagram.pieces.get(piece.offset)
        if known is not None and len(known) == len(piece.payload):
            return None  # the same piece again
        overlaps = any(offset < end and piece.offset < offset + len(data) for offset, data in datagram.pieces.items())
        if overlaps or (datagram.total is not None and (end > datagram.total or not piece.more)):
            self._forget(key)
            return None
        datagram.pieces[piece.offset] = piece.payload
        datagram.held += len(piece.payload)
        self._bytes += len(piece.payload)
        if piece.offset == 0:
            datagram.header = piece.header
        if not piece.more:
            datagram.total = end
        payload = datagram.payload()
        if payload is not None and datagram.header is not None:
            self._forget(key)
            return datagram.header, payload, len(datagram.pieces)
        while self._bytes > MOST_BYTES:
            self._forget(next(iter(self._waiting)))
        return None

    def _forget(self, key: _Key) -> None:
        self._bytes -= self._waiting.pop(key).held


def _piece(frame: bytes, start: int) -> _Piece | None:
    """What the IP header at `start` says; None where bytes of the piece are missing."""
    version = frame[start] >> 4
    if version == 4:
        size = (frame[start] & 15) * 4
        length = int.from_bytes(frame[start + 2 : start + 4], "big")
        if length < size or start + length > len(frame):
            return None
        word = int.from_bytes(frame[start + 6 : start + 8], "big")
        header = frame[start : start + 6] + (word & 0x4000).to_bytes(2, "big") + frame[start + 8 : start + size]
        payload = frame[start + size : start + length]
        return _checked(_Piece(header, (word & 0x1FFF) * 8, bool(word & 0x2000), payload, 4))
    end = start + 40 + int.from_bytes(frame[start + 4 : start + 6], "big")
    where, following = start + 6, start + 40  # of the byte that names the next header; of that header
    if end > len(frame):
        return None
    while frame[where] in IPV6_EXTENSIONS and following + 8 <= end:
        size = (frame[following + 1] + 2) * 4 if frame[where] == 51 else (frame[following + 1] + 1) * 8
        where, following = following, following + size
    if frame[where] != 44 or following + 8 > end:
        return None
    word = int.from_bytes(frame[following + 2 : following + 4], "big")
    unfragmentable = bytearray(frame[start:following])
    unfragmentable[where - start] = frame[following]
    return _checked(_Piece(bytes(unfragmentable), word & 0xFFF8, bool(word & 1), frame[following + 8 : end], 6))


def _checked(piece: _Piece) -> _Piece | None:
    """Every piece but the last is a multiple of eight bytes, and none is empty."""
    return None if not piece.payload or (piece.more and len(piece.payload) % 8) else piece


def _whole_packet(header: bytes, payload: bytes) -> bytes:
    """The packet as it was before it was cut: lengths and the IPv4 header checksum made right (0: too long for the field)."""
    if header[0] >> 4 == 6:
        length = len(header) - 40 + len(payload)
        return header[:4] + (length if length <= LARGEST else 0).to_bytes(2, "big") + header[6:] + payload
    return _ipv4_header(header, len(header) + len(payload)) + payload


def _ipv4_header(header: bytes, length: int) -> bytes:
    """The header with another total length and the checksum that goes with it (RFC 791 section 3.1)."""
    fresh = bytearray(header)
    fresh[2:4] = (length if length <= LARGEST else 0).to_bytes(2, "big")
    fresh[10:12] = b"\0\0"
    total = sum(int.from_bytes(fresh[i : i + 2], "big") for i in range(0, len(fresh), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    fresh[10:12] = (total ^ 0xFFFF).to_bytes(2, "big")
    return bytes(fresh)


def _lengthen(prefix: bytes, row: np.void, inner: int) -> bytes:
    """All headers before the inner packet, with outer lengths that fit `inner` bytes of it, and no outer UDP checksum (RFC 7348 allows zero)."""
    ip, udp = int(row["outer_ip_offset"]), int(row["outer_l4_offset"])
    size = len(prefix) + inner
    fresh = bytearray(prefix)
    fresh[udp + 4 : udp + 6] = (size - udp if size - udp <= LARGEST else 0).to_bytes(2, "big")
    fresh[udp + 6 : udp + 8] = b"\0\0"
    if row["outer_ip_version"] == 4:
        end = ip + (fresh[ip] & 15) * 4
        fresh[ip:end] = _ipv4_header(bytes(fresh[ip:end]), size - ip)
    else:
        fresh[ip + 4 : ip + 6] = (size - ip - 40 if size - ip - 40 <= LARGEST else 0).to_bytes(2, "big")
    return bytes(fresh)


def _only_own_headers(rows: npt.NDArray[np.void], pieces: npt.NDArray[np.bool_], level: str) -> None:
    """Pieces lose what was read of their incomplete payload: it is read again in the whole datagram."""
    changed = rows[pieces]
    if level == "outer":
        changed["have"] &= HAVE["sll"] | HAVE["sll_ifindex"]
        for name in OUTER_FIELDS:
            changed["inner_" + name.removeprefix("outer_")] = changed[name]
        for name in ("tunnel", "inner_tunnel", "depth", "guessed", *STOP_FIELDS):
            changed[name] = 0
    else:
        changed["have"] &= TUNNEL_BITS
        stopped_inside = changed["stop"] == FRAGMENT
        for name in STOP_FIELDS:
            changed[name][stopped_inside] = 0
    rows[pieces] = changed


def _replace(batch: Batch, whole: list[tuple[int, bytes, int]], level: str, options: Options) -> Batch:
    frames, rows = batch.frames, batch.rows
    positions = np.array([i for i, _, _ in whole])
    pieces = [np.frombuffer(data, np.uint8) for _, data, _ in whole]
    sizes = np.array([len(piece) for piece in pieces])
    index = frames.index.copy()
    index["offset"][positions] = len(frames.buffer) + np.concatenate(([0], np.cumsum(sizes)[:-1]))
    index["caplen"][positions] = index["wirelen"][positions] = sizes
    frames = Frames(np.concatenate([frames.buffer, *pieces]), index.astype(INDEX, copy=False), frames.interfaces, frames.vantages)
    fresh = walk(frames.select(positions), options)
    old = rows[positions]
    # The row keeps telling what the file holds: the lengths of the frame that completed the datagram, its own outer headers around an inner one.
    for name in ("caplen", "wirelen", *(OUTER_FIELDS if level == "inner" else ())):
        fresh[name] = old[name]
    fresh["reassembled"] = [min(count, 255) for _, _, count in whole]
    rows[positions] = fresh
    return Batch(frames, rows)
