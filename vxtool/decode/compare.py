"""How the stored values of each kind of column are compared with what a user writes.

One table, `ANY_OF`: for each kind a function that takes a column and some literals and gives back a test of whole batches, "is the value one of
these?".
Knows values; refuses to know expressions, and does not decide what an absent value means.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import HAVE, Column, Kind
from vxtool.decode.names import words_for
from vxtool.decode.render import DNS_VALUES, names_of
from vxtool.decode.times import parse_time
from vxtool.errors import FilterError, UsageError

if TYPE_CHECKING:
    from vxtool.decode.batch import Batch
    from vxtool.decode.dns import Message

__all__ = ["ANY_OF", "HOW_TO_WRITE", "Literal", "Mask", "Test", "View", "addresses", "cidr", "contains", "number_of", "numbers", "present"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Literal: TypeAlias = str | int | bool
Text: TypeAlias = str | list[str] | list[int] | None

_MAPPED = 0xFFFF << 32
"""Storage keeps IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2); this is the low half without the address."""

_ONES = 2**64 - 1
_INT64 = range(-(2**63), 2**63)

HOW_TO_WRITE: Mapping[Kind, str] = {
    "int": "a whole number such as 4097 or 0x1001",
    "flag": "true or false",
    "mac": "a MAC in quotes such as '02:42:0a:00:01:03', or how it begins: '02:42'",
    "ip": "an address or network in quotes such as '10.0.1.3', '10.0.1.0/24' or 'fd00::/8'",
    "ipv4": "an address or network in quotes such as '10.0.1.3' or '10.0.1.0/24'",
    "enum": "one of its words in quotes",
    "name": "a word in quotes",
    "text": "a word in quotes",
    "list": "words in quotes (numbers for dns_ttls)",
}


@dataclass(frozen=True, slots=True)
class View:
    """A batch under test, and the DNS messages that have been read for it so far."""

    batch: Batch
    messages: dict[int, Message] = field(default_factory=dict)

    @property
    def rows(self) -> npt.NDArray[np.void]:
        return self.batch.rows

    def message(self, i: int) -> Message:
        """The DNS message of row i, which must have one."""
        known = self.messages.get(i)
        if known is None:
            from vxtool.decode.dns import parse

            row = self.rows[i]
            start = int(row["dns_offset"])
            known = self.messages[i] = parse(self.batch.frames.bytes_of(i)[start : start + int(row["dns_len"])])
        return known


Test: TypeAlias = Callable[[View, Mask], Mask]
"""Rows that pass. The second argument says for which rows the answer matters; a slow test may leave the others false."""


# --------------------------------------------------------------------------------------------------------------------
# Reading columns
# --------------------------------------------------------------------------------------------------------------------


def present(view: View, column: Column, wanted: Mask) -> Mask:
    """Rows in which this column has a value."""
    rows = view.rows
    if column.kind in ("text", "list"):
        return _texts(view, column, wanted, lambda value: value is not None)
    if column.kind == "name":
        return _named(view, column, lambda name: name is not None)
    if column.kind == "enum":
        return np.asarray(rows[column.fields[0]] != 0) if column.words[0] == "" else np.ones(len(rows), bool)
    if not column.mask:
        return np.ones(len(rows), bool)
    return np.asarray(rows[column.mask] & column.bit != 0)


def numbers(view: View, column: Column) -> npt.NDArray[Any]:
    """The stored values of an int, flag, mac or enum column."""
    values = view.rows[column.fields[0]]
    if column.shift:
        values = values >> column.shift
    return np.asarray(values & column.limit if column.limit else values)


def addresses(view: View, column: Column) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The high and low halves of an ip or ipv4 column, IPv4 as ::ffff:a.b.c.d."""
    rows = view.rows
    if column.kind == "ip":
        return rows[column.fields[0]], rows[column.fields[1]]
    low = rows[column.fields[0]].astype(np.uint64) | np.uint64(_MAPPED)
    return np.zeros(len(rows), np.uint64), low


def _texts(view: View, column: Column, wanted: Mask, accepts: Callable[[Text], bool]) -> Mask:
    """Only the rows that matter are read: a DNS message costs a thousand times what a stored number does."""
    passed = np.zeros(len(view.rows), bool)
    value_of = DNS_VALUES[column.name]
    for i in np.flatnonzero(wanted & (view.rows["have"] & HAVE["dns"] != 0)).tolist():
        passed[i] = accepts(value_of(view.message(i)))
    return passed


def _named(view: View, column: Column, accepts: Callable[[str | None], bool]) -> Mask:
    """One decision per vantage or interface, not per row."""
    index = view.rows[column.fields[0]]
    names = names_of(view.batch.frames, column.name)
    return np.array([accepts(name) for name in names], bool)[index] if names else np.zeros(len(index), bool)


# --------------------------------------------------------------------------------------------------------------------
# Any of these literals
# --------------------------------------------------------------------------------------------------------------------


def _refuse(column: Column, literal: Literal) -> FilterError:
    return FilterError(f"{column.name} is compared with {HOW_TO_WRITE[column.kind]}, not with {literal!r}")


def number_of(column: Column, literal: Literal) -> int:
    """The number a literal stands for: itself, a word of a registry ('tcp', 'NXDOMAIN'), or a time for ts."""
    if isinstance(literal, str):
        if column.name == "ts":
            return _ns_of(literal)
        words = {word.lower(): number for word, number in words_for(column.name).items()}
        if literal.lower() in words:
            return words[literal.lower()]
        if words:
            raise FilterError(f"{column.name} has no name {literal!r}: write a number or one of {', '.join(words_for(column.name))}")
        raise _refuse(column, literal)
    if isinstance(literal, bool):
        raise _refuse(column, literal)
    if literal not in _INT64:
        raise FilterError(f"{column.name} cannot be compared with a number of more than 63 bits")
    return literal


def _ns_of(literal: str) -> int:
    try:
        when = parse_time(literal)
    except UsageError as error:
        raise FilterError(f"ts: {error}") from None
    if when.relative:
        raise FilterError("ts: a time after the first frame is an option of its own: --from +5s, --to +10s")
    return when.ns


def _any_number(column: Column, literals: Sequence[Literal]) -> Test:
    wanted = [number_of(column, literal) for literal in literals]
    if len(wanted) == 1:
        return lambda view, _: numbers(view, column) == wanted[0]
    among = np.array(wanted, np.int64)
    return lambda view, _: np.isin(numbers(view, column).astype(np.int64), among)


def _any_flag(column: Column, literals: Sequence[Literal]) -> Test:
    wanted = set()
    for literal in literals:
        if literal not in (0, 1):
            raise _refuse(column, literal)
        wanted.add(bool(literal))
    table = np.array([False in wanted, True in wanted])
    return lambda view, _: table[(numbers(view, column) != 0).astype(np.intp)]


def _any_enum(column: Column, literals: Sequence[Literal]) -> Test:
    words = [word for word in column.words if word]
    for literal in literals:
        if literal not in words:
            raise FilterError(f"{column.name} is never {literal!r}: its words are {', '.join(words)}")
    table = np.array([word in literals for word in column.words])
    return lambda view, _: table[numbers(view, column)]


def _any_mac(column: Column, literals: Sequence[Literal]) -> Test:
    prefixes = [_mac_prefix(column, literal) for literal in literals]

    def test(view: View, _: Mask) -> Mask:
        values = numbers(view, column)
        return _either(np.asarray(values >> shift == prefix) for prefix, shift in prefixes)

    return test


def _mac_prefix(column: Column, literal: Literal) -> tuple[int, int]:
    """The leading octets as a number, and how many bits follow them: '02:42' is (0x0242, 32)."""
    text = literal.lower() if isinstance(literal, str) else ""
    if re.fullmatch(r"[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}", text):  # as Cisco writes it
        text = ":".join(re.findall("..", text.replace(".", "")))
    octets = text.removesuffix("*").rstrip(":-").replace("-", ":").split(":")
    if not 1 <= len(octets) <= 6 or not all(re.fullmatch("[0-9a-f]{1,2}", octet) for octet in octets):
        raise _refuse(column, literal)
    return int.from_bytes(int(octet, 16) for octet in octets), 8 * (6 - len(octets))


@dataclass(frozen=True, slots=True)
class _Network:
    """An address block in the form of storage."""

    high: np.uint64
    low: np.uint64
    high_mask: np.uint64
    low_mask: np.uint64
    mapped: bool  # lies in ::ffff:0:0/96, which is IPv4

    def contains(self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> Mask:
        inside = ((low & self.low_mask) == self.low) & ((high & self.high_mask) == self.high)
        if not self.mapped and int(self.low_mask) < _ONES:
            # ::/0 is every IPv6 address, but no IPv4 one, although storage keeps those inside it.
            inside &= (high != 0) | (low >> np.uint64(32) != 0xFFFF)
        return np.asarray(inside)


def cidr(text: str) -> _Network:
    """'10.0.1.3', '10.0.1.3/24' (the host bits are ignored), 'fd00::1/64'. ValueError when it is none of these."""
    if "%" in text:
        raise ValueError("a capture knows no zone index")
    block = ipaddress.ip_network(text, strict=False)
    ones, start = block.prefixlen, int(block.network_address)
    if block.version == 4:
        ones, start = ones + 96, start | _MAPPED
    mask = (2**128 - 1) ^ (2 ** (128 - ones) - 1)
    mapped = ones >= 96 and start >> 32 == 0xFFFF
    return _Network(np.uint64(start >> 64), np.uint64(start & _ONES), np.uint64(mask >> 64), np.uint64(mask & _ONES), mapped)


def _any_address(column: Column, literals: Sequence[Literal]) -> Test:
    networks = []
    for literal in literals:
        if not isinstance(literal, str):
            raise _refuse(column, literal)
        try:
            networks.append(cidr(literal))
        except ValueError:
            raise _refuse(column, literal) from None

    def test(view: View, _: Mask) -> Mask:
        high, low = addresses(view, column)
        return _either(network.contains(high, low) for network in networks)

    return test


def _any_name(column: Column, literals: Sequence[Literal]) -> Test:
    for literal in literals:
        if not isinstance(literal, str):
            raise _refuse(column, literal)
    return lambda view, _: _named(view, column, lambda name: name in literals)


def _any_text(column: Column, literals: Sequence[Literal]) -> Test:
    wanted = {_folded(column, literal) for literal in literals}
    return lambda view, matters: _texts(view, column, matters, lambda value: isinstance(value, str) and _fold(value) in wanted)


def _any_member(column: Column, literals: Sequence[Literal]) -> Test:
    """For a list: one of its members is one of the literals."""
    if column.name == "dns_ttls":
        seconds = {number_of(column, literal) for literal in literals}
        return lambda view, matters: _texts(view, column, matters, lambda value: not seconds.isdisjoint(value or ()))
    wanted = {_folded(column, literal) for literal in literals}
    return lambda view, matters: _texts(view, column, matters, lambda value: any(_fold(str(member)) in wanted for member in value or ()))


def contains(column: Column, literals: Sequence[Literal]) -> Test:
    """For a text: one of the literals stands somewhere in it."""
    parts = [_folded(column, literal) for literal in literals]
    return lambda view, matters: _texts(view, column, matters, lambda value: isinstance(value, str) and any(part in _fold(value) for part in parts))


def _fold(text: str) -> str:
    """DNS names are the same in upper and lower case (RFC 4343), and with or without the final dot."""
    return text.lower().removesuffix(".")


def _folded(column: Column, literal: Literal) -> str:
    if not isinstance(literal, str):
        raise _refuse(column, literal)
    return _fold(literal)


def _either(masks: Iterable[Mask]) -> Mask:
    whole: Mask | None = None
    for mask in masks:
        whole = mask if whole is None else whole | mask
    assert whole is not None  # the grammar knows no empty list
    return whole


ANY_OF: Mapping[Kind, Callable[[Column, Sequence[Literal]], Test]] = {
    "int": _any_number,
    "flag": _any_flag,
    "enum": _any_enum,
    "mac": _any_mac,
    "ip": _any_address,
    "ipv4": _any_address,
    "name": _any_name,
    "text": _any_text,
    "list": _any_member,
}
