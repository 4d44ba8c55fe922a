"""The summary as tables for people, and as one JSON document for programs.

Knows how numbers are shown; counts nothing. Every word that comes from a capture or a file's name is escaped: no control character reaches the
terminal, and nothing is taken for rich's markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vxtool.decode.columns import CHECKSUM_CLASSES
from vxtool.decode.names import LINKTYPES
from vxtool.decode.render import printable
from vxtool.decode.summary import SCHEMA, Pair, Summary

if TYPE_CHECKING:
    from vxtool.api import Decoding

__all__ = ["as_document", "show"]

WIDTH = 100
"""Columns, when there is no terminal that says otherwise."""

TOP = 10
"""Rows of the tables that can be long; --json has a hundred."""

Section: TypeAlias = tuple[Table | Text, ...]


def as_document(summary: Summary, decoding: Decoding) -> dict[str, Any]:
    """The summary as JSON values, schema first, damage last."""
    return {
        "schema": SCHEMA,
        "captures": [{"path": _unicode(capture.path), "vantage": _unicode(capture.vantage), "size": capture.size} for capture in decoding.captures],
        "frames_read": decoding.frames_read,
        **_plain(summary.as_json()),
        "damage": [_plain(asdict(place)) for place in decoding.damage],
    }


def show(summary: Summary, decoding: Decoding, *, color: bool) -> None:
    """Prints the tables on stdout; those without anything to say are left out."""
    out = sys.stdout
    terminal = out.isatty()
    console = Console(
        file=out,
        width=None if terminal else WIDTH,
        color_system="standard" if color else None,
        force_terminal=color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as printed:
        console.print(_headline(summary, decoding), soft_wrap=True)
        for section in _sections(summary):
            console.print()
            for part in section:
                console.print(part, soft_wrap=isinstance(part, Text))
        for note in _notes(summary, decoding):
            console.print()
            console.print(Text(note, style="yellow"), soft_wrap=True)
    # rich fills its tables with spaces up to their right edge.
    out.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


# --------------------------------------------------------------------------------------------------------------------
# Sections, in the order in which they are read
# --------------------------------------------------------------------------------------------------------------------


def _headline(summary: Summary, decoding: Decoding) -> Text:
    text = Text(f"{summary.frames:,} frames", style="bold")
    if summary.frames != decoding.frames_read:
        text.append(f" (of {decoding.frames_read:,} read)", style="not bold")
    text.append(f", {_bytes(summary.wire_bytes)}", style="not bold")
    if summary.first_ts is not None and summary.last_ts is not None:
        text.append(f", {_seconds(summary.duration_ns)} from {_moment(summary.first_ts)} to {_moment(summary.last_ts)} UTC", style="not bold")
    if summary.snapped:
        text.append(f"; {summary.snapped:,} cut by the snap length", style="not bold")
    return text


def _sections(summary: Summary) -> Iterable[Section]:
    total = summary.frames
    yield from _table(
        "Captured at",
        ("vantage", "interface", "link type", ">frames", ">bytes", ">duration", ">frames/s", ">Mbit/s"),
        [
            (
                vantage,
                name or "-",
                LINKTYPES.get(link, str(link)),
                _count(frames),
                _bytes(size),
                _seconds(last - first),
                *_rates(frames, size, last - first),
            )
            for (vantage, name, link), (frames, size, first, last) in summary.sources.items()
        ],
    )
    yield from _table(
        "Networks",
        ("tunnel", ">VNI", ">frames", ">share", ">bytes", ">VTEPs", ">inner hosts"),
        [
            (
                n["tunnel"],
                str(n["vni"]),
                _count(n["frames"]),
                _share(n["frames"], total),
                _bytes(n["bytes"]),
                _count(n["vteps"]),
                _count(n["inner_hosts"]),
            )
            for n in summary.networks()
        ],
    )
    yield from _table("VTEP pairs", _PAIR_HEAD, [_pair(pair) for pair in summary.vtep_pairs()])
    talkers = summary.talkers()
    yield from _table("Inner talkers", (">VNI", *_PAIR_HEAD), [(str(vni), *_pair(pair)) for vni, pair in talkers if vni is not None])
    yield from _table("Talkers outside of tunnels", _PAIR_HEAD, [_pair(pair) for vni, pair in talkers if vni is None])
    yield from _table(
        "Protocols, innermost",
        ("protocol", ">frames", ">share", ">bytes", ">in tunnels"),
        [(p["protocol"], _count(p["frames"]), _share(p["frames"], total), _bytes(p["bytes"]), _count(p["in_tunnels"])) for p in summary.protocols()],
    )
    known = sum(summary.casts.values())
    yield from _table(
        "Ethernet destinations, innermost",
        ("kind", ">frames", ">share", ">in tunnels"),
        [(kind, _count(frames), _share(frames, known), _count(summary.casts_in_tunnels[kind])) for kind, frames in summary.casts.items() if frames],
    )
    yield from _table(
        "ARP", ("operation", ">frames", ">share"), [(kind, _count(frames), _share(frames, total)) for kind, frames in summary.arp.items() if frames]
    )
    yield from _table("Swarm control traffic", ("", *_PAIR_HEAD), [(kind, *_pair(pair)) for kind, pair in summary.control()])
    yield from _table(
        "Encrypted (ESP)",
        ("from", "to", "SPI", ">frames", ">bytes"),
        [(e["src"], e["dst"], f"0x{e['spi']:08x}", _count(e["frames"]), _bytes(e["bytes"])) for e in summary.esp()],
    )
    yield from _table(
        "Fragments",
        ("headers", ">first pieces", ">later pieces"),
        [(level, _count(counts.get("first", 0)), _count(counts.get("later", 0))) for level, counts in summary.fragments.items() if counts],
        note=f"{summary.reassembled:,} datagrams put together" if summary.reassembled else "",
    )
    yield from _checksums(summary)
    yield from _dns(summary)
    yield from _table(
        "Frames that end early",
        ("reason", "at header", ">frames"),
        [(stop, layer, _count(count)) for (stop, layer), count in sorted(summary.stops.items(), key=lambda e: -e[1])],
    )
    yield from _table(
        "Tunnels recognised by shape",
        ("tunnel", ">UDP port", ">frames", ">bytes"),
        [(g["tunnel"], str(g["port"]), _count(g["frames"]), _bytes(g["bytes"])) for g in summary.guessed()],
    )


def _checksums(summary: Summary) -> Iterable[Section]:
    rows = [(f"outer UDP from {vtep}", counts) for vtep, counts in summary.vtep_checksums().items()][:TOP]
    rows += [
        (name, summary.checksums[key])
        for name, key in (("inner TCP, UDP, ICMP", "inner"), ("outer IPv4 header", "outer_ip"), ("inner IPv4 header", "inner_ip"))
    ]
    classes = [word for word in CHECKSUM_CLASSES if word and any(word in counts for _, counts in rows)]
    cells = [(name, *(_count(counts.get(word, 0)) if counts.get(word) else "-" for word in classes)) for name, counts in rows if counts]
    note = (
        "partial and lco are left to an offload: normal at the sender, and between hosts of one machine" if {"partial", "lco"} & set(classes) else ""
    )
    yield from _table("Checksums", ("", *(f">{word}" for word in classes)), cells, note=note, top=len(cells))


def _dns(summary: Summary) -> Iterable[Section]:
    dns = summary.dns
    if not dns.queries and not dns.responses:
        return
    codes = ", ".join(f"{count:,} {code}" for code, count in dns.by_rcode().items())
    yield from _table(
        "DNS",
        ("name", "type", ">queries", ">responses", ">errors"),
        [(n["name"], n["type"], _count(n["queries"]), _count(n["responses"]), _count(n["errors"])) for n in dns.names()],
        note=f"{dns.queries:,} queries, {dns.responses:,} responses{f' ({codes})' if codes else ''}",
    )


def _notes(summary: Summary, decoding: Decoding) -> Iterable[str]:
    if summary.approximate:
        yield f"Too many to count one by one: {', '.join(summary.approximate)}. What they list is right, but incomplete."
    if decoding.damage:
        yield f"{len(decoding.damage):,} {'place' if len(decoding.damage) == 1 else 'places'} of damage in the files (told on stderr, and by --json)."


# --------------------------------------------------------------------------------------------------------------------
# Cells
# --------------------------------------------------------------------------------------------------------------------

_PAIR_HEAD = ("A", "B", ">A to B", ">", ">B to A", ">", "")


def _pair(pair: Pair) -> tuple[str, ...]:
    there, back = pair.a_to_b, pair.b_to_a
    return pair.a, pair.b, _count(there[0]), _bytes(there[1]), _count(back[0]), _bytes(back[1]), "one way" if pair.one_way else ""


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "", top: int = TOP) -> Iterable[Section]:
    """One table, or none without rows. A heading that begins with > is of numbers."""
    if not rows:
        return
    if len(rows) > top:
        title += f" (first {top} of {len(rows):,})"
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="cyan", pad_edge=False)
    for head in heads:
        table.add_column(Text(head.removeprefix(">")), justify="right" if head.startswith(">") else "left", overflow="fold")
    for row in rows[:top]:
        table.add_row(*(Text(printable(cell), style="yellow" if cell == "one way" else "") for cell in row))
    yield (table, Text(note, style="dim")) if note else (table,)


def _count(number: int) -> str:
    return f"{number:,}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _bytes(size: int) -> str:
    """Decimal units, as network rates are told."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            amount = size / scale
            return f"{amount:,.{2 if amount < 10 else 1 if amount < 100 else 0}f} {unit}"
    return f"{size} B"


def _seconds(ns: int) -> str:
    return f"{ns / 10**9:.3f} s"


def _rates(frames: int, size: int, ns: int) -> tuple[str, str]:
    """Frames and megabits per second; nothing can be said of a single moment."""
    if ns <= 0:
        return "-", "-"
    return f"{frames * 10**9 / ns:,.1f}", f"{size * 8_000 / ns:,.3f}"


def _moment(ns: int) -> str:
    """Date and time in UTC to the microsecond, for any 64-bit number of nanoseconds."""
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{ns // 1000 % 10**6:06d}"
    except (ValueError, OverflowError, OSError):
        return f"{ns / 10**9:.6f} s"


def _unicode(text: str) -> str:
    """A file name may hold bytes that are no UTF-8; JSON cannot."""
    return text.encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """The same with text that JSON can hold, and Python's own numbers."""
    match value:
        case str():
            return _unicode(value)
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case np.generic():
            return value.item()
    return value
