"""What is still to be passed on, and how often it has been: memberlist's queue of broadcasts. Knows neither what they say nor to whom they go."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Rumours"]


class _Rumour:
    __slots__ = ("told", "wire")

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.told = 0


class Rumours:
    """One rumour per subject: the newer takes the older's place."""

    def __init__(self) -> None:
        self._all: dict[Hashable, _Rumour] = {}
        self._urgent: dict[Hashable, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    @property
    def urgent(self) -> bool:
        return bool(self._urgent)

    def put(self, subject: Hashable, wire: bytes, at_once: bool = False) -> None:
        self._all[subject] = _Rumour(wire)
        if at_once:
            self._urgent[subject] = None

    def heard(self, subject: Hashable) -> None:
        """Somebody else tells it, too: it is told once more."""
        rumour = self._all.get(subject)
        if rumour is not None:
            rumour.told += 1

    def take(self, ears: int, limit: int, room: int, urgent: bool = False) -> list[bytes]:
        """What is told to so many ears now, the least told first, `room` bytes of it; what was told `limit` times is forgotten.

        With no ears it counts as told to one. `urgent`: only what has to be told at once, and never was.
        """
        taken: list[bytes] = []
        for subject in list(self._urgent) if urgent else sorted(self._all, key=lambda subject: self._all[subject].told):
            rumour = self._all[subject]
            if rumour.told < limit:
                room -= len(rumour.wire) + 1
                if room < 0:
                    break
                taken.append(rumour.wire)
                rumour.told += max(1, ears)
            self._urgent.pop(subject, None)
            if rumour.told >= limit:
                del self._all[subject]
        return taken
