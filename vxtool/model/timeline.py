"""The Timeline: which Cluster was in force when.

Knows moments in nanoseconds since 1970-01-01 UTC, the unit of the `ts` column; refuses to know where they were learned.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from .cluster import Cluster

__all__ = ["SETTLING_NS", "Moment", "Timeline"]

SETTLING_NS = 5_000_000_000
"""How long after a change both the old and the new state are right: gossip, address programming and graceful stops take seconds."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A cluster from `time_ns` on; None: since ever."""

    cluster: Cluster
    time_ns: int | None = None
    source: str = ""


@dataclass(frozen=True)
class Timeline:
    """Moments in the order of their times. The first is in force also before its time: nothing else is known of then."""

    moments: tuple[Moment, ...]
    settling_ns: int = SETTLING_NS

    def __post_init__(self) -> None:
        if not self.moments:
            raise ValueError("a timeline needs at least one moment")
        times = [moment.time_ns for moment in self.moments]
        if any(time is None for time in times[1:]):
            raise ValueError("only the first moment of a timeline may be without a time")
        known = [time for time in times if time is not None]
        if any(later <= earlier for earlier, later in pairwise(known)):
            raise ValueError("the moments of a timeline must be in the order of their times, no two at one time")

    @classmethod
    def of(cls, cluster: Cluster) -> Timeline:
        """One cluster, always in force."""
        return cls((Moment(cluster),))

    @cached_property
    def changes_ns(self) -> tuple[int, ...]:
        """Times at which one cluster gives way to the next, ascending.

        `numpy.searchsorted(changes_ns, ts, side="right")` is the position of the moment in force, for a whole column at once.
        """
        return tuple(moment.time_ns for moment in self.moments[1:] if moment.time_ns is not None)

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        return tuple(moment.cluster for moment in self.moments)

    def position(self, ts_ns: int) -> int:
        """Which moment is in force at a time."""
        return bisect_right(self.changes_ns, ts_ns)

    def at(self, ts_ns: int) -> Cluster:
        """The cluster in force at a time."""
        return self.moments[self.position(ts_ns)].cluster

    def settled(self, ts_ns: int) -> bool:
        """Whether the last change is longer ago than the settling time. Before the first change all is settled."""
        position = self.position(ts_ns)
        return position == 0 or ts_ns - self.changes_ns[position - 1] >= self.settling_ns

    def acceptable(self, ts_ns: int) -> tuple[Cluster, ...]:
        """The clusters by which a frame of this time may be judged, the newest first: several while a change settles."""
        position = self.position(ts_ns)
        oldest = position
        while oldest > 0 and ts_ns - self.changes_ns[oldest - 1] < self.settling_ns:
            oldest -= 1
        return tuple(self.moments[i].cluster for i in range(position, oldest - 1, -1))
