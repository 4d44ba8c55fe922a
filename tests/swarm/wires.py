"""A network between gossiping nodes, in virtual time: late, lossy, doubling, out of order, and cut where a test wants it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from random import Random

from vxtool.swarm.gossip import Event, Gossip, MemberDown, MemberUp, Record, RecordGone, RecordSet, Timing

__all__ = ["Wires"]

Mirror = dict[tuple[str, str, str, str], Record]


class Wires:
    """Nodes n0, n1 ...; `blocked(protocol, source, target)` says what does not pass."""

    def __init__(self, nodes: int, seed: int = 0, delay: tuple[float, float] = (0.0002, 0.001), loss: float = 0.0, doubled: float = 0.0) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.delay, self.loss, self.doubled = delay, loss, doubled
        self.blocked: Callable[[str, str, str], bool] = lambda protocol, source, target: False
        self.nodes: dict[str, Gossip] = {}
        self.events: dict[str, list[tuple[float, Event]]] = {}
        self.mirrors: dict[str, Mirror] = {}  # what the events of a node amount to
        self.sent = Counter[str]()
        self.largest = 0
        self.watched: list[tuple[str, bytes]] | None = None  # (target, content) of whatever is sent, when a test asks for it
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        for index in range(nodes):
            self.start(f"n{index}")

    @staticmethod
    def address(name: str) -> str:
        return f"192.0.2.{int(name[1:]) + 1}"

    def start(self, name: str, incarnation: int = 0, meet: Iterable[str] = ("n0", "n1"), timing: Timing | None = None) -> Gossip:
        node = self.nodes[name] = Gossip(name, self.address(name), self.now, Random(self.random.random()), timing, incarnation)
        self.events[name] = []
        self.mirrors[name] = {}
        node.meet(self.address(other) for other in meet)
        self.take(name)
        return node

    def kill(self, name: str) -> None:
        del self.nodes[name]

    def take(self, name: str) -> None:
        """What a node wants to send is on its way, and what happened to it is written down; to be called when a test has touched it."""
        node = self.nodes[name]
        for address, datagram in node.datagrams():
            self.sent["datagrams"] += 1
            self.sent["bytes"] += len(datagram)
            self.largest = max(self.largest, len(datagram))
            for _ in range(1 + (self.random.random() < self.doubled)):
                self._carry(name, address, datagram)
        for address, request in node.exchanges():
            self.sent["exchanges"] += 1
            self._ask(name, node, address, request)
        for event in node.events():
            self.events[name].append((self.now, event))
            mirror = self.mirrors[name]
            if isinstance(event, RecordSet):
                record = event.record
                mirror[record.network, record.table, record.key, record.owner] = record
            elif isinstance(event, RecordGone):
                record = event.record
                del mirror[record.network, record.table, record.key, record.owner]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            name = min(self.nodes, key=lambda name: self.nodes[name].next_due(), default=None)
            due = self.nodes[name].next_due() if name is not None else end
            if self._queue and self._queue[0][0] <= min(due, end):
                self.now, _, arrive = heappop(self._queue)
                arrive()
            elif name is not None and due <= end:
                self.now = max(self.now, due)
                self.nodes[name].tick(self.now)
                self.take(name)
            else:
                self.now = end
                return

    def until(self, holds: Callable[[], bool], within: float) -> float:
        """How long it took, looked at every 10 ms; fails when it never does."""
        start = self.now
        while not holds():
            assert self.now - start < within, f"not within {within} s"
            self.run(0.01)
        return self.now - start

    def happened(self, name: str, kind: type[MemberUp] | type[MemberDown], other: str) -> list[float]:
        return [at for at, event in self.events[name] if isinstance(event, kind) and event.name == other]

    def differences(self, network: str) -> list[str]:
        """Who, of the members of a network, knows other records than it should: those that each member has of its own."""
        there = {name: node for name, node in self.nodes.items() if any(peer.name == name for peer in node.peers(network))}
        own = [record for name, node in there.items() for record in node.records(network) if record.owner == name]
        right = {(record.owner, record.table, record.key): record.value for record in own}
        wrong = []
        for name, node in there.items():
            known = {(record.owner, record.table, record.key): record.value for record in node.records(network)}
            if known != right:
                wrong.append(f"{name}: lacks {sorted(right.keys() - known.keys())[:5]}, has too much {sorted(known.keys() - right.keys())[:5]}")
            mirror = {key[1:]: record.value for key, record in self.mirrors[name].items() if key[0] == network}
            told = {(table, key, owner): value for (owner, table, key), value in known.items() if owner != name}
            if mirror != told:
                wrong.append(f"{name}: its events amount to other records than it has")
        return wrong

    def _later(self, call: Callable[[], None], seconds: float | None = None) -> None:
        self._number += 1
        heappush(self._queue, (self.now + (self.random.uniform(*self.delay) if seconds is None else seconds), self._number, call))

    def _at(self, address: str) -> str:
        return f"n{int(address.rpartition('.')[2]) - 1}"

    def _watch(self, target: str, content: bytes) -> None:
        if self.watched is not None:
            self.watched.append((target, content))

    def _carry(self, source: str, address: str, datagram: bytes) -> None:
        target = self._at(address)
        self._watch(target, datagram)
        if self.random.random() < self.loss or self.blocked("udp", source, target):
            return

        def arrive() -> None:
            if target in self.nodes:
                self.nodes[target].receive(datagram, self.now)
                self.take(target)

        self._later(arrive)

    def _ask(self, source: str, asker: Gossip, address: str, request: bytes) -> None:
        target = self._at(address)
        self._watch(target, request)

        def come_back(reply: bytes | None) -> None:
            if self.nodes.get(source) is asker:
                asker.answered(address, reply, self.now)
                self.take(source)

        def arrive() -> None:
            if target not in self.nodes:
                self._later(lambda: come_back(None))  # refused
                return
            reply = self.nodes[target].answer(request, self.now)
            self.take(target)
            self._watch(source, reply)
            self._later(lambda: come_back(reply))

        if self.blocked("tcp", source, target) or self.blocked("tcp", target, source):
            self._later(lambda: come_back(None), 3.0)
        else:
            self._later(arrive)
