"""Which engine's behaviour is meant, where Docker's of 2019 and today's differ."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Engine"]


class Engine(StrEnum):
    """19.03 (libnetwork 55e924b8, and 20.10 wherever it is not told otherwise) or today's (moby b985e231)."""

    V19_03 = "19.03"
    TODAY = "today"
