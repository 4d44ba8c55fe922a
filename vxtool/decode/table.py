"""Rows as columns: a pandas DataFrame, and the arrays it is made of.

Knows how each kind of column is kept in an array; refuses to know files. Addresses and words are numbered as they come in, so that a row
costs four bytes for each of them and only distinct ones ever become text.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import Damage
from vxtool.decode import dns
from vxtool.decode.batch import Batch
from vxtool.decode.columns import HAVE, ROW, SCHEMA, Column
from vxtool.decode.render import DNS_VALUES, choose, ip_text, ip_version_of, mac_text, names_of, once, printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Collected", "Collector", "number_dtype", "to_dataframe"]

Numbers = npt.NDArray[Any]

_SLICE = 4096  # rows worked on at a time: reading 200 fields of each is done while they are in the processor's cache


class Collected(NamedTuple):
    """A column."""

    values: Numbers  # numbers; or positions in `words`, -1 for absent (int32); or tuples and None (object)
    absent: npt.NDArray[np.bool_]  # where there is no value
    words: list[str] | None  # None: values are not positions


def number_dtype(column: Column) -> np.dtype[Any]:
    """The smallest unsigned type for every value an "int" column can have (`ts`, which is signed, keeps its own)."""
    return np.min_scalar_type(column.limit) if column.limit else ROW[column.fields[0]]


class Collector:
    """Takes the chosen columns out of batches, and gives them as whole arrays."""

    def __init__(self, columns: Iterable[str] | None = None) -> None:
        self.columns = choose(columns)
        self._dns = [column for column in self.columns if column.name in DNS_VALUES]
        self._read = once(self._dns_values)
        self._begin()

    def _begin(self) -> None:
        self.rows = 0
        self.text = 0  # characters of DNS text among them
        self._values: dict[str, Numbers] = {column.name: np.empty(0, _dtype(column)) for column in self.columns}
        self._absent: dict[str, npt.NDArray[np.bool_]] = {column.name: np.empty(0, np.bool_) for column in self.columns}
        self._numbered = {column.name: _Numbered() for column in self.columns if column.kind in ("mac", "ip", "ipv4", "name", "text")}

    def add(self, batch: Batch) -> None:
        for start in range(0, len(batch), _SLICE):
            self._add(batch.select(slice(start, start + _SLICE)))

    def _make_room(self, rows: int) -> None:
        # Doubling: pages that are not used yet cost nothing, and one column at a time is copied.
        for arrays in (self._values, self._absent):
            for name in arrays:
                grown = np.empty(max(rows, 2 * len(arrays[name])), arrays[name].dtype)
                grown[: self.rows] = arrays[name][: self.rows]
                arrays[name] = grown

    def _add(self, batch: Batch) -> None:
        rows, end = batch.rows, self.rows + len(batch)
        if self.columns and end > len(self._values[self.columns[0].name]):
            self._make_room(max(end, 1 << 16))
        masks: dict[tuple[str, int], npt.NDArray[np.bool_]] = {("", 0): np.zeros(len(rows), np.bool_)}
        from_dns = self._add_dns(batch) if self._dns else {}
        for column in self.columns:
            key = (column.mask, column.bit)
            if key not in masks:
                masks[key] = rows[column.mask] & column.bit == 0
            absent = masks[key]
            if column.name in from_dns:
                values = from_dns[column.name]
                absent = values < 0 if values.dtype == np.int32 else np.array([value is None for value in values], np.bool_)
            elif column.kind in ("int", "flag"):
                values = self._numbers(rows, column)
            else:
                values = self._words(batch, column)
                values[absent] = -1
                absent = values < 0
            self._values[column.name][self.rows : end] = values
            self._absent[column.name][self.rows : end] = absent
        self.rows = end

    def _numbers(self, rows: npt.NDArray[np.void], column: Column) -> Numbers:
        values = rows[column.fields[0]]
        if column.shift:
            values = values >> column.shift
        if column.limit:
            values = values & column.limit
        return values

    def _words(self, batch: Batch, column: Column) -> npt.NDArray[np.int32]:
        """Positions in the column's words, -1 for absent."""
        rows, stored = batch.rows, batch.rows[column.fields[0]]
        if column.kind == "enum":
            first = int(column.words[0] == "")
            positions: npt.NDArray[np.int32] = stored.astype(np.int32) - first
            positions[stored >= len(column.words)] = -1
            return positions
        numbered = self._numbered[column.name]
        if column.kind == "name":
            names = names_of(batch.frames, column.name)
            table = np.array([*(-1 if name is None else numbered.position(_storable(name)) for name in names), -1], np.int32)
            return np.asarray(table[np.minimum(stored, len(names)).astype(np.intp)])
        if column.kind == "mac":
            return numbered.positions(stored & 0xFFFFFFFFFFFF)
        if column.kind == "ipv4":
            return numbered.positions(stored)
        hi, lo = stored, rows[column.fields[1]]
        mapped = (hi == 0) & (lo >> 32 == 0xFFFF)
        # ::ffff:a.b.c.d in an IPv6 header is not a.b.c.d.
        of_ipv6 = mapped & (rows[ip_version_of(column)] == 6)
        if not hi.any() and not of_ipv6.any():
            return numbered.positions(lo)
        return numbered.positions_of_pairs(hi, lo, of_ipv6)

    def _add_dns(self, batch: Batch) -> dict[str, Numbers]:
        """Positions or tuples for each DNS column."""
        rows = batch.rows
        where = np.flatnonzero(rows["have"] & HAVE["dns"])
        offset = batch.frames.index["offset"][where]
        first = (offset + np.minimum(rows["dns_offset"][where].astype(np.int64) + 2, rows["caplen"][where])).tolist()
        last = (offset + np.minimum(rows["dns_offset"][where].astype(np.int64) + rows["dns_len"][where], rows["caplen"][where])).tolist()
        buffer = batch.frames.buffer
        read = [self._read(buffer[max(a, 0) : max(b, 0)].tobytes()) for a, b in zip(first, last, strict=True)]
        self.text += sum(found[-1] for found in read)
        made: dict[str, Numbers] = {}
        for position, column in enumerate(self._dns):
            if column.kind == "text":
                numbered = self._numbered[column.name]
                values = np.full(len(rows), -1, np.int32)
                values[where] = [-1 if found[position] is None else numbered.position(found[position]) for found in read]
            else:
                values = np.full(len(rows), None, object)
                for row, found in zip(where.tolist(), read, strict=True):
                    values[row] = found[position]
            made[column.name] = values
        return made

    def _dns_values(self, body: bytes) -> tuple[Any, ...]:
        """What each DNS column holds for a message, and last the characters of text in the message's answers."""
        message = dns.parse(b"\0\0" + body)
        values = (DNS_VALUES[column.name](message) for column in self._dns)
        size = sum(len(answer.name) + len(answer.data) for answer in message.answers)
        return (*(tuple(value) if isinstance(value, list) else value for value in values), size)

    def take(self) -> dict[str, Collected]:
        """Everything added since the last take, by column name."""
        taken = {column.name: self._taken(column) for column in self.columns}
        self._begin()
        return taken

    def _taken(self, column: Column) -> Collected:
        words: list[str] | None = None
        if column.kind == "enum":
            words = list(column.words[column.words[0] == "" :])
        elif column.name in self._numbered:
            words = [_text(column.kind, key) for key in self._numbered[column.name].keys]
        return Collected(self._values[column.name][: self.rows], self._absent[column.name][: self.rows], words)


def _dtype(column: Column) -> npt.DTypeLike:
    """What Collected.values is made of."""
    if column.kind == "flag":
        return np.bool_
    if column.kind == "list":
        return np.object_
    return number_dtype(column) if column.kind == "int" else np.int32


class _Numbered:
    """Numbers things in the order they are first met."""

    def __init__(self) -> None:
        self.keys: dict[Hashable, int] = {}

    def position(self, key: Hashable) -> int:
        return self.keys.setdefault(key, len(self.keys))

    def positions(self, values: Numbers) -> npt.NDArray[np.int32]:
        distinct, which = np.unique(values, return_inverse=True)
        return np.array([self.position(key) for key in distinct.tolist()], np.int32)[which]

    def positions_of_pairs(self, hi: Numbers, lo: Numbers, of_ipv6: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Positions of addresses: a plain number for IPv4 (as `positions` has it), both halves for IPv6."""
        # Three sorts of numbers are ten times as fast as one of pairs.
        highs, high = np.unique(hi, return_inverse=True)
        lows, low = np.unique(lo, return_inverse=True)
        distinct, which = np.unique((high * len(lows) + low) * 2 + of_ipv6, return_inverse=True)
        keys = ((int(highs[pair // 2 // len(lows)]), int(lows[pair // 2 % len(lows)]), pair & 1) for pair in distinct.tolist())
        return np.array([self.position((a, b) if a or six else b) for a, b, six in keys], np.int32)[which]


def _storable(name: str) -> str:
    """Text that is not Unicode (a lone surrogate, from a file name) cannot be kept by Arrow, which pandas uses: it is escaped."""
    return printable(name) if any("\ud800" <= character <= "\udfff" for character in name) else name


def _text(kind: str, key: Any) -> str:
    if kind == "mac":
        return mac_text(key)
    if kind == "ipv4":
        return ip_text(0, 0xFFFF << 32 | key)
    if kind == "ip":
        return ip_text(key[0], key[1], 6) if isinstance(key, tuple) else ip_text(0, key)
    return str(key)


# --------------------------------------------------------------------------------------------------------------------
# pandas
# --------------------------------------------------------------------------------------------------------------------


def to_dataframe(batches: Iterable[Batch], columns: Iterable[str] | None = None, *, damage: Sequence[Damage] = ()) -> pd.DataFrame:
    """One row a frame, one column for each of `columns` (all of them for None), with a plain RangeIndex.

    int: UInt8 to UInt64, the smallest that holds every value the field can have (unsigned: convert before subtracting). ts: datetime64[ns, UTC].
    flag: boolean. mac, ip, ipv4, enum, name and text: category of str. list: object, tuples of str (dns_ttls: of int). Absent is pd.NA, NaN in
    categories, None in lists.

    damage: what the captures turn out to have, read after the last batch (a Capture's `damage` list will do); as dicts in `.attrs["damage"]`. The
    version of the columns is in `.attrs["schema"]`. Raises UsageError for an unknown column.
    """
    import pandas as pd

    collector = Collector(columns)
    for batch in batches:
        collector.add(batch)
    series: dict[str, Any] = {}
    rows, taken = collector.rows, collector.take()
    for column in collector.columns:
        values, absent, words = taken.pop(column.name)
        if words is not None:
            series[column.name] = pd.Categorical.from_codes(values, categories=pd.Index(words, dtype="str"))
        elif column.name == "ts":
            series[column.name] = pd.DatetimeIndex(values.view("datetime64[ns]"), tz="UTC", copy=False)
        elif column.kind == "flag":
            series[column.name] = pd.arrays.BooleanArray(values, absent)
        elif column.kind == "list":
            series[column.name] = values
        else:
            series[column.name] = pd.arrays.IntegerArray(values, absent)
    frame = pd.DataFrame(series, index=pd.RangeIndex(rows), copy=False)
    frame.attrs["schema"] = SCHEMA
    # Dicts and not Damage: pandas writes attrs as JSON when a DataFrame is saved.
    frame.attrs["damage"] = [asdict(place) for place in damage]
    return frame
