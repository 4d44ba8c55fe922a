"""What is due when, on a clock that somebody else moves: the real one in a lab, a simulated one in a test."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

__all__ = ["Timer", "Timers"]


class Timer:
    """Something to be done at a moment, unless it is cancelled before."""

    __slots__ = ("_call", "at")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self._call: Callable[[], None] | None = call

    @property
    def cancelled(self) -> bool:
        return self._call is None

    def cancel(self) -> None:
        self._call = None

    def ring(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0  # timers of one moment ring in the order of their making

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, call)
        self._count += 1
        heappush(self._heap, (timer.at, self._count, timer))
        return timer

    def reach(self, now: float) -> None:
        """The clock says `now`. What has fallen due is still to be rung: whoever has come in time is heard before, and counts from `now`."""
        self.now = max(self.now, now)

    def next_due(self) -> float | None:
        while self._heap and self._heap[0][2].cancelled:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float) -> bool:
        """Moves the clock to the first timer that is due until `now` and rings all of its moment; False: none was, and the clock says `now`."""
        due = self.next_due()
        if due is None or due > now:
            self.now = max(self.now, now)
            return False
        self.now = max(self.now, due)
        while (again := self.next_due()) is not None and again <= self.now:
            heappop(self._heap)[2].ring()
        return True
