"""The columns, told to people: docs/columns.md, and `vxtool columns`.

Everything here is read from columns.py; nothing is known about a column but what stands there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vxtool.decode.columns import COLUMNS, SCHEMA, Column
from vxtool.decode.names import words_for

__all__ = ["as_json", "as_markdown", "kind_of"]

_KINDS = {
    "int": ("number", "integer"),
    "flag": ("flag", "0 or 1"),
    "mac": ("MAC", 'string, "02:42:0a:00:01:03"'),
    "ip": ("address", 'string, "10.0.1.3" or "fd00::3"'),
    "ipv4": ("address", 'string, "10.0.1.3"'),
    "enum": ("word", "string"),
    "name": ("name", "string"),
    "text": ("text", "string"),
    "list": ("list", "array"),
}

_SECTIONS: tuple[tuple[str, str, str], ...] = (
    ("The frame", "frame", "What the capture file says."),
    ("Outermost headers", "outer_eth_src", "The first headers of the frame, Ethernet to ports."),
    ("Control traffic and encryption", "control", ""),
    ("Tunnel", "tunnel", "The outermost tunnel header; `inner_tunnel` and `inner_vni` are the innermost."),
    (
        "Innermost headers",
        "inner_eth_src",
        "The last headers of the frame. A frame without a tunnel has one set of headers, which fills both `outer_` and `inner_`.",
    ),
    ("ARP, ICMP, TCP", "inner_arp_op", "What follows the innermost headers."),
    ("DNS", "dns_id", "UDP and TCP with port 53 on either side, or the address 127.0.0.11 on either side."),
    ("How far it was read", "reassembled", "Nothing is dropped: a frame that ends early is a row that says why, at which header, at which byte."),
)
"""Heading, first column under it, and what to know first."""

_HEAD = """# The columns of a decoded frame

Generated from `vxtool/decode/columns.py` by `vxtool columns --markdown`. Schema: `{schema}`; its number grows when a column is removed or
changes its meaning, not when one is added.

These are the names in `--where`, `--columns`, CSV, JSON, NDJSON, Parquet and `vxtool.decode(...)`. Every column is present in every output, also
when it is empty. In JSON, NDJSON and CSV: a MAC is lower case with colons, an address is a string, `ts` is an integer number of nanoseconds, flags
are 0 or 1, absent is `null` (CSV: nothing between the commas); a list is an array (CSV: joined with `;`).

In `--where`, an absent value passes no comparison, `!=` and `not in` included; `vni is none` finds the frames without one.
"""


def kind_of(column: Column) -> str:
    """What the column holds, in one word."""
    return _KINDS[column.kind][0]


def as_markdown() -> str:
    """docs/columns.md."""
    starts = {first: (heading, about) for heading, first, about in _SECTIONS}
    lines = [_HEAD.format(schema=SCHEMA)]
    for column in COLUMNS:
        if column.name in starts:
            heading, about = starts[column.name]
            lines += [f"\n## {heading}\n", *([about, ""] if about else [])]
            lines += ["| column | holds | unit | what it is | source |", "|---|---|---|---|---|"]
        cells = (f"`{column.name}`", kind_of(column), column.unit, _about(column), column.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _about(column: Column) -> str:
    words = [f"`{word}`" for word in column.words if word]
    if words and not all(word.strip("`") in column.about for word in words):
        return f"{column.about} One of {', '.join(words)}."
    if names := words_for(column.name):
        return f"{column.about} `--where` knows names: {', '.join(f'`{name}`' for name in names)}."
    return column.about


def as_json() -> dict[str, Any]:
    """The columns as a JSON schema of our own: name, kind, JSON type, unit, source, words."""
    return {"schema": SCHEMA, "columns": list(_described(COLUMNS))}


def _described(columns: Iterable[Column]) -> Iterable[dict[str, Any]]:
    for column in columns:
        yield {
            "name": column.name,
            "holds": kind_of(column),
            "json": _KINDS[column.kind][1],
            "unit": column.unit or None,
            "nullable": column.kind in ("text", "list", "name") or bool(column.mask) or (bool(column.words) and column.words[0] == ""),
            "words": [word for word in column.words if word] or None,
            "about": column.about,
            "source": column.source,
        }
