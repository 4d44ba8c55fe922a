"""Identities of objects: 25 digits of base 36, as swarmkit makes them (identity/randomid.go)."""

from __future__ import annotations

from itertools import product
from random import Random
from string import ascii_lowercase, digits

__all__ = ["Identities"]

_LENGTH = 25
_TRIPLES = tuple(map("".join, product(digits + ascii_lowercase, repeat=3)))


class Identities:
    def __init__(self, random: Random) -> None:
        self._choices = random.choices

    def new(self) -> str:
        return "".join(self._choices(_TRIPLES, k=9))[:_LENGTH]
