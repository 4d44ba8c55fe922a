"""The table: the columns that the chosen checks need, of all frames of all captures, side by side.

Knows storage columns and batches; refuses to know what is right. A million frames at forty columns are 130 MB, so only what a check declared is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vxtool.decode import dns
from vxtool.decode._walk import digest
from vxtool.decode.batch import Batch
from vxtool.decode.columns import HAVE, ROW

__all__ = ["ALWAYS", "Capture", "Table", "load"]

Array = npt.NDArray[np.generic]

ALWAYS = ("frame", "ts", "have", "tunnel", "depth")
"""Columns of every table."""

MOST_DNS = 2_000_000
"""DNS messages whose text is kept (about 1 KB each in memory); those beyond are counted, not read."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One capture of the table: a file, or what a file that was taken at several places has of one of them."""

    name: str
    vantage: str | None  # what the user, or the file itself, says of where it was taken; None: not told
    snapped: bool = False  # some frames are shorter than they were on the wire
    frames: int = 0
    linktypes: tuple[int, ...] = ()
    file: str | None = None  # as evidence names it, when that is not `name`


@dataclass(frozen=True)
class Table:
    """Columns by their storage name (columns.ROW), and three more: `capture` (position in captures), `digest` (identity of the inner frame, 0 where
    it cannot be told) and the parsed DNS messages. Rows of one capture are together, in file order."""

    columns: Mapping[str, Array]
    captures: tuple[Capture, ...]
    dns: Mapping[int, dns.Message] = field(default_factory=dict)  # row position -> message
    dns_unread: int = 0

    def __getitem__(self, name: str) -> npt.NDArray[np.int64]:
        # The annotation is for the arithmetic of callers; the true dtype is that of columns.ROW.
        return self.columns[name]  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.columns["frame"])

    def have(self, name: str) -> npt.NDArray[np.bool_]:
        """Rows that have a part of the headers (a key of columns.HAVE)."""
        found: npt.NDArray[np.bool_] = (self["have"] & np.uint64(HAVE[name])) != 0
        return found


def load(
    captures: Sequence[tuple[str, str | None, Iterable[Batch]]],
    columns: Iterable[str],
    *,
    with_dns: bool = True,
    with_digest: bool = True,
) -> Table:
    """Read captures, each (name, vantage or None, batches), into one table of `columns` (storage names of columns.ROW).

    A file that says itself that it was taken at several places (`Interface.place`), and for which no vantage was given, becomes a capture for each.
    """
    wanted = [name for name in ROW.names or () if name in {*ALWAYS, *columns} or (with_dns and name in ("dns_offset", "dns_len"))]
    parts: dict[str, list[Array]] = {name: [] for name in (*wanted, "capture", "digest")}
    messages: dict[int, dns.Message] = {}
    unread = 0
    taken: list[_Taken] = []
    total = 0
    for name, vantage, batches in captures:
        first = len(taken)
        for batch in batches:
            rows = batch.rows
            for column in wanted:
                parts[column].append(np.ascontiguousarray(rows[column]))
            parts["capture"].append(_count(batch, taken, first, name, vantage))
            if with_digest:
                parts["digest"].append(_digests(batch))
            if with_dns:
                for i in np.flatnonzero(rows["have"] & np.uint64(HAVE["dns"])).tolist():
                    if len(messages) >= MOST_DNS:
                        unread += 1
                        continue
                    start = int(batch.frames.index["offset"][i]) + int(rows["dns_offset"][i])
                    messages[total + i] = dns.parse(batch.frames.buffer[start : start + int(rows["dns_len"][i])].tobytes())
            total += len(rows)
        if len(taken) == first:
            taken.append(_Taken(name, vantage))
    joined: dict[str, Array] = {}
    for column in list(parts):
        pieces = parts.pop(column)
        empty = np.zeros(0, ROW[column] if column in (ROW.names or ()) else np.uint64)
        joined[column] = np.concatenate(pieces) if pieces else empty
    place = joined["capture"].astype(np.int64)
    if (np.diff(place) < 0).any():  # the places of one file take turns in it
        order = np.argsort(place, kind="stable")
        joined = {column: values[order] for column, values in joined.items()}
        moved = np.argsort(order)
        messages = {int(moved[row]): message for row, message in messages.items()}
    return Table(joined, _captures(taken), messages, unread)


@dataclass(slots=True)
class _Taken:
    """What is known of a capture while it is being read."""

    name: str
    vantage: str | None
    frames: int = 0
    snapped: bool = False
    linktypes: set[int] = field(default_factory=set)


def _count(batch: Batch, taken: list[_Taken], first: int, name: str, vantage: str | None) -> npt.NDArray[np.uint16]:
    """The capture of each row: its position in `taken`, where those of this file begin at `first`. Places not met before are added."""
    places = [vantage or interface.place for interface in batch.frames.interfaces] or [vantage]
    for place in dict.fromkeys(places):
        if all(one.vantage != place for one in taken[first:]):
            taken.append(_Taken(name, place))
    rows = batch.rows
    where = np.full(len(rows), first, np.uint16)
    if len(taken) > first + 1:
        position = {one.vantage: i for i, one in enumerate(taken[first:], first)}
        where = np.array([position[place] for place in places], np.uint16)[batch.frames.index["interface"]]
    short = rows["caplen"] < rows["wirelen"]
    for i, one in enumerate(taken[first:], first):
        mine = where == i
        one.frames += int(np.count_nonzero(mine))
        one.snapped = one.snapped or bool(short[mine].any())
        one.linktypes.update(np.unique(rows["linktype"][mine]).tolist())
    return where


def _captures(taken: Sequence[_Taken]) -> tuple[Capture, ...]:
    often = Counter(one.name for one in taken)
    return tuple(
        Capture(
            f"{one.name}[{one.vantage}]" if often[one.name] > 1 and one.vantage else one.name,
            one.vantage,
            one.snapped,
            one.frames,
            tuple(sorted(one.linktypes)),
            one.name,
        )
        for one in taken
    )


def _digests(batch: Batch) -> npt.NDArray[np.uint64]:
    out = np.zeros(len(batch), np.uint64)
    index = np.ascontiguousarray(batch.frames.index).view(np.uint8).reshape(len(batch), -1)
    digest(batch.frames.buffer, index, np.ascontiguousarray(batch.rows).view(np.uint8).reshape(len(batch), -1), out)
    return out
