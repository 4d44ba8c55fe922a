"""Identities of objects: 25 digits of base 36, as swarmkit makes them (identity/randomid.go)."""

from __future__ import annotations

from itertools import product
from random import Random
from string import ascii_lowercase, digits
from struct import Struct

__all__ = ["Identities"]

_LENGTH = 25
_PARTS = Struct("9H")
_TRIPLES = tuple(map("".join, product(digits + ascii_lowercase, repeat=3)))
# One for each 16-bit number: three digits at a time make a million identities in a second or two.
_TABLE = tuple(_TRIPLES[number % len(_TRIPLES)] for number in range(1 << 16))


class Identities:
    def __init__(self, random: Random) -> None:
        self._random = random

    def new(self) -> str:
        parts = _PARTS.unpack(self._random.randbytes(_PARTS.size))
        return "".join([_TABLE[part] for part in parts])[:_LENGTH]
