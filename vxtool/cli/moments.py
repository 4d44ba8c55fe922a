"""Moments as users write them after --since and --until: a time of day, a number of seconds, or how long ago.

Knows what Docker takes (docker/docker api/types/time), and no clock: it is told what the time is.
"""

from __future__ import annotations

import re
from datetime import datetime

from vxtool.errors import UsageError
from vxtool.swarm.parsing import duration

__all__ = ["moment"]

_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_SECONDS = re.compile(r"-?\d{1,11}(\.\d{1,9})?", re.ASCII)


def moment(text: str, now: float) -> float:
    """Seconds since the epoch: `2026-11-28T20:13:55.5Z` (without a zone: here), `1796000000`, `10m` for ten minutes before `now`."""
    if _SECONDS.fullmatch(text):
        return float(text)
    if _TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
        except (ValueError, OverflowError):
            raise UsageError(f'failed to parse value as time or duration: "{text}"') from None
    try:
        return now - duration(text)
    except UsageError:
        raise UsageError(f'failed to parse value as time or duration: "{text}"') from None
