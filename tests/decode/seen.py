"""What a user must see of a row, written from columns.py alone with the standard library: the witness of every output. Also rows to look at."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import dns.message
import numpy as np
from hypothesis import strategies as st

from vxtool.capture import INDEX, Frames, Interface, open_capture
from vxtool.decode.batch import Batch
from vxtool.decode.columns import COLUMNS, HAVE, HEADER_HAVE, ROW, Column
from vxtool.decode.dns import parse
from vxtool.decode.walk import Options, walk

__all__ = ["CAPTURES", "NAMES", "batches", "random_batches", "seen", "with_addresses", "with_dns"]

CAPTURES = sorted(path for path in (Path(__file__).parents[2] / "captures").rglob("*.pcap*") if path.stat().st_size < 100_000)

NAMES = ("", "vm1", "a,b;c", 'quo"te', "esc\x1b[31m", "line\nbreak", "bidi\u202e", "caf\u00e9 \U0001f433", "bytes \udcff", "nul\0", "c1\x9b")
"""Names that files and interfaces may have."""


def seen(batch: Batch) -> list[dict[str, Any]]:
    """Each row as JSON would have it, before any escaping: column name -> int, str, list or None."""
    return [{column.name: _cell(batch, i, column) for column in COLUMNS} for i in range(len(batch))]


def _cell(batch: Batch, i: int, column: Column) -> Any:
    row = batch.rows[i]
    if not column.fields:
        return _dns_cell(batch, i, column)
    if column.mask and not int(row[column.mask]) & column.bit:
        return None
    number = int(row[column.fields[0]]) >> column.shift
    if column.limit:
        number &= column.limit
    if column.kind in ("int", "flag"):
        return number
    if column.kind == "mac":
        return (number & 0xFFFFFFFFFFFF).to_bytes(6, "big").hex(":")
    if column.kind == "ipv4":
        return str(ipaddress.IPv4Address(number))
    if column.kind == "ip":
        version = row["outer_ip_version" if column.name.startswith("outer_") else "inner_ip_version"]
        address = ipaddress.IPv6Address(number << 64 | int(row[column.fields[1]]))
        if address.ipv4_mapped:
            return ("::ffff:" if version == 6 else "") + str(address.ipv4_mapped)
        return str(address)
    if column.kind == "enum":
        return (column.words[number] if number < len(column.words) else "") or None
    frames = batch.frames
    table = list(frames.vantages) if column.name == "vantage" else [interface.name for interface in frames.interfaces]
    if number >= len(table):
        return None
    if column.name == "interface" and sum(interface.number is not None for interface in frames.interfaces) > 1:
        return table[number] or str(number)
    return table[number] or None


def _dns_cell(batch: Batch, i: int, column: Column) -> Any:
    row = batch.rows[i]
    if not int(row["have"]) & HAVE["dns"]:
        return None
    frame = batch.frames.bytes_of(i)
    start = int(row["dns_offset"])
    # The id is a column of its own; a message that is not there at all has nothing.
    message = parse(b"\0\0" + frame[start + 2 : start + int(row["dns_len"])])
    if column.kind == "text":
        return getattr(message.questions[0], column.name.removeprefix("dns_q")) if message.questions else None
    field = {"dns_answers": "data", "dns_answer_names": "name", "dns_answer_types": "type", "dns_ttls": "ttl"}[column.name]
    return [getattr(answer, field) for answer in message.answers]


def batches(path: Path, **options: Any) -> list[Batch]:
    with open_capture(path) as capture:
        return [Batch(frames, walk(frames, Options(**options))) for frames in capture]


def with_dns(*messages: bytes) -> Batch:
    """A batch of frames that are nothing but a DNS message, decoded as such."""
    offsets = np.cumsum([0, *map(len, messages)])
    index, rows = np.zeros(len(messages), INDEX), np.zeros(len(messages), ROW)
    rows["frame"] = index["frame"] = np.arange(1, len(messages) + 1)
    index["offset"], rows["have"] = offsets[:-1], HAVE["dns"]
    rows["caplen"] = index["caplen"] = rows["dns_len"] = [len(message) for message in messages]
    rows["dns_id"] = [int.from_bytes(message[:2], "big") for message in messages]
    return Batch(Frames(np.frombuffer(b"".join(messages), np.uint8), index, (Interface(1),)), rows)


def with_addresses(*addresses: tuple[int, str]) -> Batch:
    """A batch of rows that have nothing but an IP version and a source address."""
    rows, index = np.zeros(len(addresses), ROW), np.zeros(len(addresses), INDEX)
    for row, (version, address) in zip(rows, addresses, strict=True):
        number = int(ipaddress.IPv6Address(address if ":" in address else f"::ffff:{address}"))
        row["outer_have"] = HEADER_HAVE["ip"]
        row["outer_ip_version"], row["outer_ip_src_hi"], row["outer_ip_src_lo"] = version, number >> 64, number & (1 << 64) - 1
    return Batch(Frames(np.zeros(1, np.uint8), index), rows)


@st.composite
def random_batches(draw: st.DrawFn, wild: bool = True) -> Batch:
    """Rows of any bytes at all (wild), over frames that are there."""
    count = draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = np.frombuffer(rng.bytes(count * ROW.itemsize), ROW).copy()
    message = dns.message.make_query("web.example", "A").to_wire() + rng.bytes(40)
    buffer = np.frombuffer(message * 8, np.uint8)
    index = np.zeros(count, INDEX)
    index["offset"] = rng.integers(0, 100, count)
    index["caplen"] = rows["caplen"] = rng.integers(0, 200, count)
    for field in ("outer_ip_src", "inner_ip_dst", "quoted_ip_src"):  # addresses that take another turn than random ones
        rows[f"{field}_hi"] &= np.uint64(draw(st.sampled_from((0, 0xFFFF, 0xFFFF000000000000, 2**64 - 1))))
        rows[f"{field}_lo"] = (rows[f"{field}_lo"] & np.uint64(draw(st.sampled_from((0, 0xFFFFFFFF, 2**64 - 1))))) | np.uint64(
            draw(st.sampled_from((0, 0xFFFF00000000)))
        )
    for field in ("outer_ip_version", "inner_ip_version"):
        rows[field] = draw(st.sampled_from((4, 6)))
    rows["vantage"] %= 6
    rows["interface"] %= 6
    for field in ("dns_offset", "dns_len", *(() if wild else ("stop", "control"))):
        rows[field] %= 300
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5))
    found = draw(st.lists(st.sampled_from(NAMES), max_size=5))
    numbered = draw(st.booleans())  # as in pcapng, or as in several pcap files side by side
    interfaces = tuple(Interface(1, name=name or None, number=i if numbered else None) for i, name in enumerate(found))
    return Batch(Frames(buffer, index, interfaces, tuple(names)), rows)
