"""Lists of a lab's things, as columns of text for people.

Knows widths and what may reach a terminal: names and commands come from files and from inside labs, so no control character of theirs is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vxtool.cli.printable import printable

__all__ = ["columns", "shown"]


def shown(value: object) -> str:
    """One cell: `-` for what is not there, `?` for each character that a terminal might obey."""
    text = "-" if value is None or value == "" else str(value)
    return printable(text)


def columns(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines without spaces at their ends; each column as wide as its widest cell. The last line, too, ends with a line feed."""
    table = [tuple(heads), *(tuple(map(shown, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in table)
