"""Addresses: what they are called, how they are written, and what Docker makes of them.

Knows MAC, IPv4 and IPv6 addresses; refuses to know who has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["Address", "Mac", "Prefix", "from_halves", "halves", "mac_from_ipv4"]

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2


@dataclass(frozen=True, slots=True, order=True)
class Mac:
    """A 48-bit MAC address; `value` is the number that the columns of kind "mac" store (first byte of the wire in the highest bits)."""

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << 48:
            raise ValueError(f"{self.value:#x} is not a MAC address: it does not fit 48 bits")

    @classmethod
    def parse(cls, text: str) -> Mac:
        """Six bytes in hexadecimal, all separated by colons or all by dashes, of either case. ValueError otherwise."""
        if not _MAC.fullmatch(text):
            raise ValueError(f"{text!r} is not a MAC address: six bytes like 02:42:0a:00:01:03 are wanted")
        return cls(int(re.sub("[:-]", "", text), 16))

    @property
    def group(self) -> bool:
        """True for broadcast and multicast (IEEE 802 I/G bit)."""
        return bool(self.value >> 40 & 1)

    def __int__(self) -> int:
        return self.value

    def __str__(self) -> str:
        return ":".join(f"{byte:02x}" for byte in self.value.to_bytes(6, "big"))


def mac_from_ipv4(address: IPv4Address) -> Mac:
    """The MAC address that the overlay driver gives an endpoint: 02:42 and the four bytes of its address.

    libnetwork netutils.GenerateMACFromIP; also for load-balancer endpoints. 10.0.1.3 becomes 02:42:0a:00:01:03.
    """
    return Mac(0x0242 << 32 | int(address))


def halves(address: Address) -> tuple[int, int]:
    """The two unsigned 64-bit numbers that a decoded row stores for an address, high half first; IPv4 as ::ffff:a.b.c.d."""
    number = int(address) if address.version == 6 else _MAPPED | int(address)
    return number >> 64, number & (1 << 64) - 1


def from_halves(high: int, low: int) -> Address:
    """The address of two stored halves, the inverse of `halves`."""
    if high == 0 and low >> 32 == 0xFFFF:
        return IPv4Address(low & 0xFFFFFFFF)
    return IPv6Address(high << 64 | low)
