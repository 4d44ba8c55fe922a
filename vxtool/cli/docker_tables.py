"""What `docker ... ls` and `ps` print: tables, --format, --filter, relative times.

Knows how docker/cli lays things out (cli/command/formatter, Go's text/tabwriter, go-units), not what is in the rows. No control character of a
name or a label reaches the terminal.

    listing(rows, HEADERS, "table {{.ID}}\\t{{.Name}}", format=format, quiet=quiet)        the text to print
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vxtool.errors import UsageError

from .go_template import FOR_HTML, Marshaled, Template

__all__ = [
    "ago",
    "bytes_size",
    "filters",
    "go_time",
    "has_labels",
    "human_duration",
    "inspected",
    "json_text",
    "listing",
    "natural",
    "short",
    "tabulated",
]

Row = Mapping[str, Any]
"""Field of the template -> text, or a function for one that takes an argument (`{{.Label "key"}}`)."""

_SHORT = 12

# --------------------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------------------


def listing(
    rows: Iterable[Row],
    headers: Mapping[str, str],
    default: str,
    *,
    format: str | None = None,
    quiet: bool = False,
    quiet_format: str = "{{.ID}}",
    kind: str = "",
) -> str:
    """Rows as `--format` asks: "table" (`default` says which columns), "table TEMPLATE", "json", TEMPLATE. Ends with a line feed unless empty.

    `headers`: field -> its column's heading. `kind`: what Docker calls a row, in the sentence about a field that it has not.
    """
    template = format or "table"
    if template == "table":
        template = quiet_format if quiet else default
    elif template == "json":
        template = "{{json .}}"
    columns = template.startswith("table")
    text = template.removeprefix("table").strip() if columns else template.strip()
    parsed = Template(text.replace("\\t", "\t").replace("\\n", "\n"))
    missing = f"can't evaluate field {{}} in type *{kind or 'formatter.SubContext'}"
    if not columns:
        return "".join(parsed.render(row, missing) + "\n" for row in map(_methods, rows)).translate(_FREE)
    head = parsed.render({"Label": _label_heading, **headers}, missing, lambda parent, field: True, header=True)
    lines = [parsed.render({name: _cell(value) for name, value in row.items()}, missing) for row in rows]
    return tabulated("".join(f"{line}\n" for line in (head, *lines)))


def _label_heading(key: str) -> str:
    """The heading of `{{.Label "com.example.last-part"}}`: `last part`."""
    return key.rpartition(".")[2].replace("-", " ").replace("_", " ")


def _methods(row: Row) -> Row:
    """A field that takes an argument is none of the row's JSON; the fields stand in alphabetical order, as Go marshals a map."""
    return Marshaled(sorted(row.items()))


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value.translate(_TIGHT)
    return (lambda *arguments: str(value(*arguments)).translate(_TIGHT)) if callable(value) else value


class _Hidden(dict[int, int | str]):
    """For str.translate: characters that a terminal might obey become `?`, but for those in `kept`."""

    def __init__(self, kept: str) -> None:
        super().__init__({ord(character): character for character in kept})

    def __missing__(self, code: int) -> int | str:
        return code if chr(code).isprintable() else "?"


_TIGHT = _Hidden("")
_FREE = _Hidden("\t\n")


def tabulated(text: str, least: int = 10, padding: int = 3) -> str:
    """Text with tabs as Go's tabwriter aligns it: a column is a run of lines that have a tab after it, as wide as its widest cell and `padding`."""
    lines = [line.split("\t") for line in text.split("\n")]
    widths = [[0] * (len(line) - 1) for line in lines]
    for column in range(max(map(len, widths))):
        begin = 0
        while begin < len(lines):
            end = begin
            while end < len(lines) and len(widths[end]) > column:
                end += 1
            if end > begin:
                width = max(least, *(len(line[column]) + padding for line in lines[begin:end]))
                for row in range(begin, end):
                    widths[row][column] = width
            begin = max(end, begin + 1)
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(line, [*sizes, 0], strict=True)) for line, sizes in zip(lines, widths, strict=True)
    )


def short(id: str, whole: bool = False) -> str:
    """An id as tables show it: twelve characters, unless `whole` (--no-trunc)."""
    return id if whole else id[:_SHORT]


def natural(text: str) -> tuple[Any, ...]:
    """A key for sorting names as Docker's lists do: `web2` before `web10`."""
    return tuple(int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,4000})", text)))


# --------------------------------------------------------------------------------------------------------------------
# inspect
# --------------------------------------------------------------------------------------------------------------------

_MAPS = frozenset(("Labels", "Options", "Containers", "Services", "Info", "IPAM", "Sysctls"))
"""What is a map in Docker's own types: a key that is not there is no mistake."""


def inspected(documents: Sequence[Mapping[str, Any]], format: str | None, optional: Container[str] = ()) -> str:
    """What `docker inspect` prints: a list, or `--format` of each, one a line. `optional`: fields that a document need not have."""
    if not format or format == "json":
        text = json.dumps(documents, indent=4, ensure_ascii=False) if not format else json.dumps(documents, ensure_ascii=False, separators=(",", ":"))
        return json_text(text) + "\n"
    template = Template(format.replace("\\t", "\t").replace("\\n", "\n"))

    def may_lack(parent: str, field: str) -> bool:
        return parent in _MAPS or field in optional

    return "".join(template.render(document, may_lack=may_lack) + "\n" for document in documents).translate(_FREE)


def json_text(text: str) -> str:
    """JSON as Go writes it: what a terminal or a page of HTML might obey stands as \\\\uXXXX: it can only be inside strings."""
    text = text.translate(FOR_HTML)
    if text.isascii():
        return text
    return "".join(character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1] for character in text)


# --------------------------------------------------------------------------------------------------------------------
# Filters
# --------------------------------------------------------------------------------------------------------------------


def filters(texts: Iterable[str], known: Sequence[str]) -> dict[str, list[str]]:
    """`--filter name=web --filter label=tier=front` as name -> values. UsageError, as Docker says it, for one that nobody knows."""
    asked: dict[str, list[str]] = {}
    for text in texts:
        name, there, value = text.partition("=")
        if not there:
            raise UsageError(f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)')
        asked.setdefault(name.strip().lower(), []).append(value.strip())
    for name in asked:
        if name not in known:
            raise UsageError(f"invalid filter '{name}' (there are {', '.join(known)})")
    return asked


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether all of `key` and `key=value` are among the labels."""
    pairs = [text.partition("=") for text in wanted]
    return all(key in labels and (not there or labels[key] == value) for key, there, value in pairs)


# --------------------------------------------------------------------------------------------------------------------
# Times and sizes
# --------------------------------------------------------------------------------------------------------------------

_HOUR, _DAY = 3600.0, 24

_SPANS = ((48, 1, "hours"), (_DAY * 7 * 2, _DAY, "days"), (_DAY * 30 * 2, _DAY * 7, "weeks"), (_DAY * 365 * 2, _DAY * 30, "months"))
"""Below so many hours: as many hours are one of the unit."""


def human_duration(seconds: float) -> str:
    """`Less than a second`, `42 seconds`, `About a minute`, `3 weeks` (go-units HumanDuration)."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / _HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for most, one, unit in _SPANS:
        if hours < most:
            return f"{hours // one} {unit}"
    return f"{int(seconds / _HOUR) // _DAY // 365} years"


def ago(seconds: float) -> str:
    """As it stands within a sentence: `2 minutes ago`."""
    return f"{human_duration(seconds).lower()} ago"


def bytes_size(size: float) -> str:
    """`1.5GiB`: four digits at most (go-units BytesSize)."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
    place = 0
    while size >= 1024 and place < len(units) - 1:
        size, place = size / 1024, place + 1
    return f"{size:.4g}{units[place]}"


def go_time(seconds: float) -> str:
    """`2026-11-28 20:13:55.5 +0000 UTC`, as Go prints a time."""
    moment = datetime.fromtimestamp(seconds, UTC)
    part = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{part} +0000 UTC"
