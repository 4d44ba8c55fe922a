"""Points in time as people write them, in nanoseconds since 1970-01-01 UTC.

Knows ISO 8601, epoch numbers and "+5s" after the first frame; never asks the clock. A time without a zone is UTC: the same command then selects the
same frames on every machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from vxtool.errors import UsageError

__all__ = ["Clock", "When", "parse_time"]

Clock = Literal["relative", "absolute", "delta"]
"""How the time of a frame is shown: since the first frame shown, as date and time in UTC, or since the frame shown before it."""

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?)?\s*(Z|z|[+-]\d\d:?\d\d)?", re.ASCII)
_NUMBER = re.compile(r"(\d{1,19})(?:\.(\d{1,9})\d*)?", re.ASCII)
_RELATIVE = re.compile(r"\+(\d{1,12})(?:\.(\d{1,9}))?(ns|us|ms|s|m|h)?", re.ASCII)
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}

_SECOND = 1_000_000_000
_NANOSECONDS_FROM = 10**14
"""A bare integer from here on counts nanoseconds (1970-01-02 and later), below it seconds (up to the year 3,170,000)."""

_HOW = "write 2026-01-31T12:00:00.5Z (UTC when no zone is given), seconds or nanoseconds since 1970, or +5s after the first frame"


@dataclass(frozen=True, slots=True)
class When:
    """A point in time, absolute or counted from the first frame."""

    ns: int
    relative: bool = False

    def after(self, first: int) -> int:
        """Nanoseconds since 1970, for a capture whose first frame came at `first`."""
        return first + self.ns if self.relative else self.ns


def parse_time(text: str) -> When:
    """What `text` says, exact to the nanosecond.

    Raises UsageError when it is not a time, or one that 64 bits of nanoseconds cannot hold (before 1677 or after 2262).
    """
    text = text.strip()
    when = _relative(text) or _epoch(text) or _iso(text)
    if when is None:
        raise UsageError(f"{text!r} is not a time: {_HOW}")
    if not -(2**63) <= when.ns < 2**63:
        raise UsageError(f"{text!r} lies outside the years 1677 to 2262 that a capture can name")
    return when


def _digits(fraction: str | None) -> int:
    """'5' is half a second: 500,000,000."""
    return int((fraction or "").ljust(9, "0"))


def _relative(text: str) -> When | None:
    if not (found := _RELATIVE.fullmatch(text)):
        return None
    unit = _UNITS[found[3] or "s"]
    return When(int(found[1]) * unit + _digits(found[2]) * unit // _SECOND, relative=True)


def _epoch(text: str) -> When | None:
    if not (found := _NUMBER.fullmatch(text)):
        return None
    whole = int(found[1])
    if found[2] is None and whole >= _NANOSECONDS_FROM:
        return When(whole)
    return When(whole * _SECOND + _digits(found[2]))


def _iso(text: str) -> When | None:
    if not (found := _ISO.fullmatch(text)):
        return None
    day, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}{(zone or 'Z').upper()}")
    except ValueError:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return When((since.days * 86_400 + since.seconds) * _SECOND + _digits(fraction))
