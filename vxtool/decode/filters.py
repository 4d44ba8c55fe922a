"""The filter options of the command line: each is short for an expression of --where, and all of them together are one test.

    --vni 4097,4098     vni in (4097, 4098) or inner_vni in (4097, 4098)

Values of one option are alternatives, several options must all hold. Knows what people write after an option; the comparing is done by where.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vxtool.decode.batch import Batch
from vxtool.decode.columns import BY_NAME
from vxtool.decode.compare import ANY_OF, Mask, cidr
from vxtool.decode.names import IP_PROTOCOLS
from vxtool.decode.times import When, parse_time
from vxtool.decode.where import Where, compile_where
from vxtool.errors import FilterError, UsageError

__all__ = ["PROTOCOLS", "Filter", "build_filter"]

PROTOCOLS: Mapping[str, str] = {
    "arp": "inner_arp_op is not none",
    "dns": "dns_id is not none",
    "esp": "esp_spi is not none",
    "ipv4": "inner_ip_version == 4",
    "ipv6": "inner_ip_version == 6",
    "vxlan": "tunnel in ('vxlan', 'vxlan-gpe') or inner_tunnel in ('vxlan', 'vxlan-gpe')",
    "vxlan-gpe": "tunnel == 'vxlan-gpe' or inner_tunnel == 'vxlan-gpe'",
    "geneve": "tunnel == 'geneve' or inner_tunnel == 'geneve'",
    "gossip": "control == 'gossip'",
    "management": "control == 'management'",
}
"""Words of --proto that are more than a number of the (innermost) IP header."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which frames are wanted. The window of time is [start, end): consecutive windows share no frame."""

    tests: tuple[Where, ...] = ()
    start: When | None = None
    end: When | None = None

    def window(self, ts: npt.NDArray[np.int64], first: int) -> Mask | None:
        """Which of these times (nanoseconds) lie inside, for a capture whose first frame came at `first`. None: all of them.

        It can be asked before anything is decoded.
        """
        if self.start is None and self.end is None:
            return None
        keep = np.ones(len(ts), bool)
        if self.start is not None:
            keep &= ts >= self.start.after(first)
        if self.end is not None:
            keep &= ts < self.end.after(first)
        return None if keep.all() else keep

    def batch(self, batch: Batch) -> Batch:
        """The rows that pass every test."""
        if not self.tests:
            return batch
        keep = np.ones(len(batch), bool)
        for test in self.tests:
            keep = test.mask(batch, keep)
        return batch if keep.all() else batch.select(keep)


def build_filter(
    *,
    vni: Sequence[str] = (),
    vtep: Sequence[str] = (),
    ip: Sequence[str] = (),
    mac: Sequence[str] = (),
    proto: Sequence[str] = (),
    inner_port: Sequence[str] = (),
    where: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> Filter:
    """The filter these options describe; each value may hold several, separated by commas. UsageError names the option and the value."""
    expressions = [
        _either("--vni", vni, _number(0xFFFFFF), "vni", "inner_vni"),
        _and("tunnel != 'none'", _either("--vtep", vtep, _address, "outer_ip_src", "outer_ip_dst")),
        _either("--ip", ip, _address, "outer_ip_src", "outer_ip_dst", "inner_ip_src", "inner_ip_dst", "inner_arp_spa", "inner_arp_tpa"),
        _either("--mac", mac, _mac, "outer_eth_src", "outer_eth_dst", "inner_eth_src", "inner_eth_dst"),
        _protocols(proto),
        _either("--inner-port", inner_port, _number(0xFFFF), "inner_sport", "inner_dport"),
    ]
    tests = [compile_where(expression) for expression in expressions if expression]
    if where is not None:
        try:
            tests.append(compile_where(where))
        except FilterError as error:
            raise FilterError(f"--where: {error}") from None
    tests.sort(key=lambda test: test.slow)
    return Filter(tuple(tests), _time("--from", start), _time("--to", end))


def _values(values: Iterable[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",")]


def _either(option: str, values: Sequence[str], check: Callable[[str], str], *columns: str) -> str:
    """One of the columns is one of the values."""
    literals = []
    for value in _values(values):
        try:
            literals.append(check(value))
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
    if not literals:
        return ""
    return " or ".join(f"{column} in ({', '.join(literals)},)" for column in columns)


def _and(condition: str, expression: str) -> str:
    return f"{condition} and ({expression})" if expression else ""


def _number(most: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(r"[0-9]{1,10}|0[xX][0-9a-fA-F]{1,8}", value):
            raise ValueError(f"{value!r} is not a number")
        number = int(value, 16 if value[:2] in ("0x", "0X") else 10)
        if number > most:
            raise ValueError(f"{value} is more than {most:,}, the largest there is")
        return str(number)

    return check


def _address(value: str) -> str:
    try:
        cidr(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither an address (10.0.1.3, fd00::3) nor a network (10.0.1.0/24)") from None
    return repr(value)


def _mac(value: str) -> str:
    try:
        ANY_OF["mac"](BY_NAME["inner_eth_src"], [value])
    except FilterError:
        raise ValueError(f"{value!r} is neither a MAC (02:42:0a:00:01:03) nor the beginning of one (02:42)") from None
    return repr(value)


def _protocols(values: Sequence[str]) -> str:
    expressions = []
    for value in _values(values):
        word = value.lower()
        if word in PROTOCOLS:
            expressions.append(PROTOCOLS[word])
        elif word in IP_PROTOCOLS:
            expressions.append(f"inner_proto == {IP_PROTOCOLS[word]}")
        elif re.fullmatch(r"[0-9]{1,3}", word) and int(word) < 256:
            expressions.append(f"inner_proto == {int(word)}")
        else:
            raise UsageError(f"--proto: {value!r} is not known: write a number below 256 or one of {', '.join(sorted({*PROTOCOLS, *IP_PROTOCOLS}))}")
    return " or ".join(f"({expression})" for expression in expressions)


def _time(option: str, value: str | None) -> When | None:
    if value is None:
        return None
    try:
        return parse_time(value)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None
