"""Identities of objects: 25 digits of base 36, as swarmkit makes them (identity/randomid.go); and what stands for libnetwork's and the engine's."""

from __future__ import annotations

from hashlib import sha256
from itertools import product
from random import Random
from string import ascii_lowercase, digits
from struct import Struct

__all__ = ["Identities", "container_id", "endpoint_id"]

_LENGTH = 25
_PARTS = Struct("9H")
_TRIPLES = tuple(map("".join, product(digits + ascii_lowercase, repeat=3)))
# One for each 16-bit number: three digits at a time make a million identities in a second or two.
_TABLE = tuple(_TRIPLES[number % len(_TRIPLES)] for number in range(1 << 16))


def container_id(host: str, name: str) -> str:
    """A lab's containers are none of Docker's; an id of that shape, the same each time, lets Docker's readers take them for some."""
    return sha256(f"{host}:{name}".encode()).hexdigest()


def endpoint_id(network_name: str, host: str, name: str) -> str:
    return sha256(f"{network_name}/{host}:{name}".encode()).hexdigest()


class Identities:
    def __init__(self, random: Random) -> None:
        self._random = random

    def new(self) -> str:
        parts = _PARTS.unpack(self._random.randbytes(_PARTS.size))
        return "".join([_TABLE[part] for part in parts])[:_LENGTH]
