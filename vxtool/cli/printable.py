"""Text from elsewhere as a terminal may be given it: no character of it is obeyed.

Knows characters, and nothing of where a text came from.
"""

from __future__ import annotations

__all__ = ["printable", "told"]


def printable(text: str, kept: str = "") -> str:
    """`?` for each character that a terminal might obey, but for those in `kept`."""
    return "".join(character if character.isprintable() or character in kept else "?" for character in text)


def told(text: str) -> str:
    """For a sentence that quotes: such characters by their number, so that nothing is hidden."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
