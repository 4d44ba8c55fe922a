"""Published ports of the routing mesh: one service a port and protocol, the free ones from 30000 on (swarmkit manager/allocator/portallocator.go)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from vxtool.errors import UsageError
from vxtool.model import PublishMode
from vxtool.swarm.objects import PortConfig

__all__ = ["FIRST_DYNAMIC", "LAST_DYNAMIC", "Ports"]

FIRST_DYNAMIC = 30_000
LAST_DYNAMIC = 32_767
LAST = 65_535


class Ports:
    """Which ports are taken. Ports in host mode are the nodes' own affair, and stay as they are."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, int]] = set()
        self._after: dict[str, int] = {}  # serial, as addresses are: a port that was freed is not given at once

    def allocate(self, wanted: Iterable[PortConfig], held: Iterable[PortConfig] = ()) -> tuple[PortConfig, ...]:
        """The ports with their numbers. A port that was chosen for the service before (`held`) is kept. Takes none when one cannot be had."""
        wanted, held = list(wanted), list(held)
        mine = {(port.protocol, port.published) for port in held if port.mode is PublishMode.INGRESS}
        taken: list[tuple[str, int]] = []

        def take(protocol: str, number: int) -> None:
            if not 0 < number <= LAST:
                raise UsageError(f"{number} is no port: ports are 1 to {LAST}")
            if (protocol, number) not in mine:
                if (protocol, number) in self._taken:
                    raise UsageError(f"port '{number}' is already in use")
                self._taken.add((protocol, number))
                taken.append((protocol, number))

        allocated = wanted.copy()
        try:
            # First those that the user has numbered, so that none of them is chosen for another.
            numbered = {(port.protocol, port.published) for port in wanted if port.mode is PublishMode.INGRESS and port.published}
            for protocol, number in sorted(numbered):
                take(protocol, number)
            kept: dict[tuple[str, int], list[int]] = {}
            for port in held:
                if port.mode is PublishMode.INGRESS and (port.protocol, port.published) not in numbered:
                    kept.setdefault((port.protocol, port.target), []).append(port.published)
            for index, port in enumerate(wanted):
                if port.mode is PublishMode.INGRESS and not port.published:
                    before = kept.get((port.protocol, port.target))
                    allocated[index] = replace(port, published=before.pop(0) if before else self._free(port.protocol))
                    take(port.protocol, allocated[index].published)
        except UsageError:
            self._taken.difference_update(taken)
            raise
        still = {(port.protocol, port.published) for port in allocated if port.mode is PublishMode.INGRESS}
        self._taken -= mine - still
        return tuple(allocated)

    def take(self, ports: Iterable[PortConfig]) -> None:
        """Ports that a service had before this allocator was there."""
        self._taken.update((port.protocol, port.published) for port in ports if port.mode is PublishMode.INGRESS)

    def free(self, ports: Iterable[PortConfig]) -> None:
        self._taken.difference_update((port.protocol, port.published) for port in ports if port.mode is PublishMode.INGRESS)

    def _free(self, protocol: str) -> int:
        begin = self._after.get(protocol, FIRST_DYNAMIC)
        for number in chain(range(begin, LAST_DYNAMIC + 1), range(FIRST_DYNAMIC, begin)):
            if (protocol, number) not in self._taken:
                self._after[protocol] = number + 1
                return number
        raise UsageError(f"every {protocol} port from {FIRST_DYNAMIC} to {LAST_DYNAMIC} is published; publish a port of your own choice")
