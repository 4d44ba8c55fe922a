"""Rows as CSV and JSON: every column, present or not, in the order of columns.py.

Knows how each kind of column is written down; the writing itself is compiled (_render.pyx). Sinks are handed an open binary file and never open one.
Memory is bounded by one batch of frames and a few hundred KiB of output.

What stands in a cell: numbers in decimal, `ts` in nanoseconds, flags as 0 or 1, a MAC as aa:bb:cc:dd:ee:ff, addresses dotted or as RFC 5952 says,
words as columns.py lists them. Absent is null in JSON and empty in CSV. Lists are arrays in JSON; in CSV their items are joined with ";", which
inside an item is
written \\059. JSON is pure ASCII. CSV is UTF-8 as in RFC 4180, but its lines end in LF as those of every other tool on a Unix pipe; a
character that could steer a terminal or break a line is written \\xNN or \\uNNNN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import Damage, Frames
from vxtool.decode import _render, dns
from vxtool.decode._render import ip_text, mac_text
from vxtool.decode.batch import Batch
from vxtool.decode.columns import BY_NAME, COLUMNS, HAVE, ROW, SCHEMA, Column
from vxtool.errors import UsageError

__all__ = [
    "DNS_VALUES",
    "CsvSink",
    "JsonSink",
    "NdjsonSink",
    "Output",
    "Sink",
    "as_bytes",
    "choose",
    "ip_text",
    "ip_version_of",
    "mac_text",
    "names_of",
    "once",
    "printable",
]


T = TypeVar("T")


class Output(Protocol):
    """An open binary file, or anything else that takes bytes."""

    def write(self, data: bytes, /) -> object: ...


class Sink(Protocol):
    """Where decoded batches go: any number of `write`, then one `finish`."""

    def write(self, batch: Batch) -> None: ...

    def finish(self, damage: Sequence[Damage] = ()) -> None:
        """Nothing follows; `damage` is what the captures turned out to have. Leaves the file open."""


# --------------------------------------------------------------------------------------------------------------------
# What the columns are made of
# --------------------------------------------------------------------------------------------------------------------

DNS_VALUES: Mapping[str, Callable[[dns.Message], str | list[str] | list[int] | None]] = {
    "dns_qname": lambda message: message.questions[0].name if message.questions else None,
    "dns_qtype": lambda message: message.questions[0].type if message.questions else None,
    "dns_answers": lambda message: [record.data for record in message.answers],
    "dns_answer_names": lambda message: [record.name for record in message.answers],
    "dns_answer_types": lambda message: [record.type for record in message.answers],
    "dns_ttls": lambda message: [record.ttl for record in message.answers],
}
"""The columns without storage: what each is in a message."""


def choose(names: Iterable[str] | None) -> tuple[Column, ...]:
    """The columns of these names, in this order; all of them for None. Raises UsageError for a name that is no column."""
    if names is None:
        return COLUMNS
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in BY_NAME:
            import difflib  # for this one sentence

            near = difflib.get_close_matches(name, BY_NAME, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "docs/columns.md lists them"
            raise UsageError(f"there is no column {printable(name)!r}; {hint}")
    return tuple(BY_NAME[name] for name in chosen)


def ip_version_of(column: Column) -> str:
    """The field that says whether ::ffff:a.b.c.d in an address column is IPv4. An ICMP error quotes a packet of its own version."""
    return "outer_ip_version" if column.name.startswith("outer_") else "inner_ip_version"


def names_of(frames: Frames, column: str) -> list[str | None]:
    """The table that the numbers of a column of kind "name" are looked up in; None: no name.

    A pcapng interface without a name is called by its number in its file where there are several, so that they can be told apart.
    """
    if column == "vantage":
        return [name or None for name in frames.vantages]
    several = sum(interface.number is not None for interface in frames.interfaces) > 1
    return [one.name or (str(one.number) if several and one.number is not None else None) for one in frames.interfaces]


def printable(text: str) -> str:
    """The same text with everything that has no glyph of its own escaped: control characters (C0, C1), bidirectional and other format controls, line
    separators, and bytes that were not UTF-8. Safe to send to a terminal, whoever wrote it."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is not UTF-8 (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def once(function: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """The same function of a DNS message, remembered for the 1,024 short ones used last (see dns.parse for why only short ones)."""
    remembered = lru_cache(maxsize=1024)(function)
    return lambda body: remembered(body) if len(body) <= 512 else function(body)


def as_bytes(rows: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """Rows as the compiled kernels take them: shape (n, ROW.itemsize), contiguous."""
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), ROW.itemsize)


# --------------------------------------------------------------------------------------------------------------------
# Sinks
# --------------------------------------------------------------------------------------------------------------------


class _CellSink:
    """What CSV and JSON have in common: a plan for the kernel, and the loop that hands it batches."""

    def __init__(
        self,
        out: Output,
        columns: Iterable[str] | None,
        text: Callable[[object], bytes],
        heads: Callable[[Sequence[str]], Sequence[bytes]],
        around: tuple[bytes, bytes],
        null: bytes,
        quote: bytes,
    ) -> None:
        self._out = out
        self._columns = choose(columns)
        self._text = text
        self._tables = [column.name for column in self._columns if column.kind == "name"]
        self._dns = [DNS_VALUES[column.name] for column in self._columns if column.name in DNS_VALUES]
        self._dynamic = once(self._dns_cells)
        names = [column.name for column in self._columns]
        self._cells = _render.Cells(
            [self._plan(column, head) for column, head in zip(self._columns, heads(names), strict=True)], *around, null, quote
        )

    def _plan(self, column: Column, head: bytes) -> tuple[int, str, str, str, int, int, list[bytes], int, str, int, bytes]:
        field, second, *_ = (*column.fields, "", "")
        kind, version, words, place = _KINDS[column.kind], "", [], 0
        mask, bit = column.mask, column.bit
        if kind == _render.NUMBER and ROW[field].kind == "i":
            kind = _render.SIGNED
        if kind == _render.IP:
            version = ip_version_of(column)
        if kind == _render.WORD:
            words = [self._text(word) if word else b"" for word in column.words]
        if kind == _render.NAME:
            place = self._tables.index(column.name)
        if kind == _render.DYNAMIC:
            place = [other.name for other in self._columns if other.name in DNS_VALUES].index(column.name)
            mask, bit = "have", HAVE["dns"]
        return kind, field, second, version, column.shift, column.limit, words, place, mask, bit, head

    def _dns_cells(self, body: bytes) -> tuple[bytes, ...]:
        message = dns.parse(b"\0\0" + body)
        values = (value(message) for value in self._dns)
        return tuple(b"" if value is None else self._text(value) for value in values)

    def write(self, batch: Batch) -> None:
        names = [[self._text(name) if name else b"" for name in names_of(batch.frames, table)] for table in self._tables]
        rows = as_bytes(batch.rows)
        offsets = np.ascontiguousarray(batch.frames.index["offset"])
        at = 0
        while at < len(rows):
            data, at = self._cells.render(rows, at, names, self._dynamic, batch.frames.buffer, offsets)
            self._put(data)

    def _put(self, data: bytes) -> None:
        self._out.write(data)

    def finish(self, damage: Sequence[Damage] = ()) -> None:
        """CSV and NDJSON have no place for the damage of a file: it is for whoever drives the sink to tell."""


_KINDS = {
    "int": _render.NUMBER,
    "flag": _render.NUMBER,
    "mac": _render.MAC,
    "ip": _render.IP,
    "ipv4": _render.IPV4,
    "enum": _render.WORD,
    "name": _render.NAME,
    "text": _render.DYNAMIC,
    "list": _render.DYNAMIC,
}


class CsvSink(_CellSink):
    """CSV: a line of column names, then a line a frame."""

    def __init__(self, out: Output, columns: Iterable[str] | None = None) -> None:
        super().__init__(out, columns, _csv, lambda names: [b"", *[b","] * (len(names) - 1)][: len(names)], (b"", b"\n"), b"", b"")
        out.write(",".join(column.name for column in self._columns).encode() + b"\n")


_AMBIGUOUS = re.compile(r"\\?;|\\.")


def _csv(value: object) -> bytes:
    if isinstance(value, list):
        # An item is DNS presentation format, where \059 is ";" too. Escapes are skipped as a whole: the "\;" of "\\;" is none.
        value = ";".join(_AMBIGUOUS.sub(lambda found: r"\059" if found[0].endswith(";") else found[0], str(item)) for item in value)
    text = printable(str(value))
    if any(special in text for special in ',"'):
        text = '"' + text.replace('"', '""') + '"'
    return text.encode()


class NdjsonSink(_CellSink):
    """NDJSON: one JSON object a line, one line a frame, each with every chosen column."""

    def __init__(self, out: Output, columns: Iterable[str] | None = None, *, before: bytes = b"{", after: bytes = b"}\n") -> None:
        super().__init__(out, columns, _json, _json_heads, (before, after), b"null", b'"')


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _json(value: object) -> bytes:
    """ASCII only: no control character, no bidirectional trick. What was not UTF-8 becomes U+FFFD: a lone surrogate is no text (RFC 8259, 8.2)."""
    if isinstance(value, str):
        value = _LONE_SURROGATE.sub("\ufffd", value)
    return json.dumps(value, separators=(",", ":")).encode()


def _json_object(members: Mapping[str, object]) -> bytes:
    return b"{" + b",".join(_json(name) + b":" + _json(value) for name, value in members.items()) + b"}"


def _json_heads(names: Sequence[str]) -> list[bytes]:
    return [f'{"," if place else ""}"{name}":'.encode() for place, name in enumerate(names)]


class JsonSink(NdjsonSink):
    """One JSON document: {"schema", "captures": [{"path", "vantage"}], "frames": [...], "damage": [...]}; a frame a line."""

    def __init__(self, out: Output, columns: Iterable[str] | None = None, *, captures: Iterable[tuple[str, str]] = ()) -> None:
        """captures: path and vantage of each."""
        super().__init__(out, columns, before=b",\n{", after=b"}")
        sources = b",".join(_json_object({"path": path, "vantage": vantage}) for path, vantage in captures)
        out.write(b'{"schema":' + _json(SCHEMA) + b',"captures":[' + sources + b'],"frames":[')
        self._first = True

    def _put(self, data: bytes) -> None:
        if data and self._first:
            data = data[1:]  # the comma before the first frame
            self._first = False
        self._out.write(data)

    def finish(self, damage: Sequence[Damage] = ()) -> None:
        places = b",".join(_json_object(asdict(place)) for place in damage)
        self._out.write(b'\n],"damage":[' + places + b"]}\n")
