"""Shapes: reading untrusted JSON and YAML values, each knowing where it stands.

A wrong shape becomes one sentence: which file, which path inside it, what was found, what is wanted. Knows no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any, NoReturn, TypeVar

from vxtool.errors import ExpectationError
from vxtool.model import Address, Mac, Prefix

__all__ = ["At", "Lines"]

E = TypeVar("E", bound=Enum)
T = TypeVar("T")
Interface = IPv4Interface | IPv6Interface

Lines = Mapping[tuple[str | int, ...], int]
"""1-based line of each value, by its path; known for YAML only."""

_TEXT_LIMIT = 4096
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}


@dataclass(frozen=True, slots=True)
class At:
    """A value of a document and where it stands. Every reader either returns the wanted shape or raises ExpectationError."""

    value: Any
    source: str
    path: tuple[str | int, ...] = ()
    lines: Lines = field(default_factory=dict, repr=False)

    # -- saying where --------------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """`[0].IPAM.Config[0].Subnet`"""
        text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" if re.fullmatch(r"[\w-]+", step) else f"[{step!r}]" for step in self.path)
        return text.removeprefix(".") or "the document"

    @property
    def line(self) -> int | None:
        path = self.path
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def wrong(self, wanted: str) -> NoReturn:
        shown = repr(self.value) if isinstance(self.value, (str, bool, int, float)) else _KINDS.get(type(self.value), "something else")
        if len(shown) > 80:
            shown = f"{shown[:77]}..."
        line = f", line {self.line}" if self.line is not None else ""
        raise ExpectationError(f"{self.source}{line}: {self.where} is {shown}, but {wanted} is wanted")

    def refuse(self, why: str) -> NoReturn:
        line = f", line {self.line}" if self.line is not None else ""
        raise ExpectationError(f"{self.source}{line}: {self.where}: {why}")

    # -- going down ----------------------------------------------------------------------------------------------------

    def object(self) -> dict[str, Any]:
        """The object itself; {} for null."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.wrong("an object")
        return self.value

    def members(self) -> dict[str, At]:
        """The members of an object; {} for null."""
        return {key: At(value, self.source, (*self.path, key), self.lines) for key, value in self.object().items()}

    def items(self) -> Iterator[At]:
        """The items of a list; none for null."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            self.wrong("a list")
        for i, value in enumerate(self.value):
            yield At(value, self.source, (*self.path, i), self.lines)

    def get(self, *keys: str) -> At:
        """A member of a member ...; null where one is absent or null, an error where something on the way is no object."""
        here = self
        for key in keys:
            if here.value is not None and not isinstance(here.value, dict):
                here.wrong("an object")
            value = here.value.get(key) if isinstance(here.value, dict) else None
            here = At(value, self.source, (*here.path, key), self.lines)
        return here

    def has(self, *keys: str) -> bool:
        return isinstance(self.value, dict) and all(key in self.value for key in keys)

    def only(self, known: frozenset[str]) -> None:
        """Refuse members nobody reads: in a hand-written file they are misspelled ones."""
        for key, member in self.members().items():
            if key not in known:
                member.refuse(f"no such key; known here: {', '.join(sorted(known))}")

    # -- reading; each gives None for null -----------------------------------------------------------------------------

    def text(self) -> str | None:
        if self.value is None:
            return None
        if not isinstance(self.value, str):
            self.wrong("a text")
        if len(self.value) > _TEXT_LIMIT:
            self.refuse(f"a text of {len(self.value):,} characters; at most {_TEXT_LIMIT:,} are read")
        if _SURROGATE.search(self.value):
            self.refuse("half of a surrogate pair, which is no character")
        return self.value

    def name(self) -> str:
        """A text that is there and not empty."""
        text = self.text()
        if not text:
            self.wrong("a name")
        return text

    def integer(self, low: int, high: int) -> int | None:
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            self.wrong(f"a whole number from {low} to {high}")
        return self.value

    def flag(self) -> bool:
        """False for null."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            self.wrong("true or false")
        return self.value

    def texts(self) -> dict[str, str]:
        """An object whose values are texts; {} for null."""
        return {key: member.text() or "" for key, member in self.members().items()}

    def choice(self, words: type[E]) -> E | None:
        text = self.text()
        if not text:
            return None
        try:
            return words(text.lower())
        except ValueError:
            self.wrong(f"one of {', '.join(str(word.value) for word in words)}")

    # -- addresses; None for null and for the empty text, with which Docker says "none" --------------------------------

    def address(self) -> Address | None:
        return self._parsed(_address, "an IP address")

    def interface(self) -> Interface | None:
        """An address with a prefix length: 10.0.1.3/24."""
        return self._parsed(ip_interface, "an address like 10.0.1.3/24")

    def prefix(self) -> Prefix | None:
        return self._parsed(ip_network, "a subnet like 10.0.1.0/24")

    def mac(self) -> Mac | None:
        return self._parsed(Mac.parse, "a MAC address like 02:42:0a:00:01:03")

    def _parsed(self, parse: Callable[[str], T], wanted: str) -> T | None:
        if self.value is None or self.value == "":
            return None
        if not isinstance(self.value, str):
            self.wrong(wanted)
        try:
            return parse(self.value)
        except ValueError:
            self.wrong(wanted)


def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)
