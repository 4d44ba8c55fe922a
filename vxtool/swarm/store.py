"""What is: nodes, networks, services and tasks, found by what the movers ask for; changed in transactions, which leave a list of changes behind.

Keeps objects and indexes in memory and knows no file: a journal beneath it is a function that is given the changes of every transaction before they
count. A store filled from such a journal is the store that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from vxtool.errors import UsageError
from vxtool.swarm.objects import Network, Node, Service, Task

__all__ = ["Changes", "OutOfSequence", "Record", "Store", "Transaction"]

Object = Node | Network | Service | Task


class OutOfSequence(UsageError):
    """Somebody else has changed the object since it was read."""


class Record(NamedTuple):
    """A change as a journal keeps it: what the object is from now on; None: gone. `vxtool.swarm.journal` makes JSON of it and back."""

    kind: str  # "node", "network", "service", "task"
    id: str
    now: Object | None


class Changes:
    """What became of what, in the order of happening: (old, new), old None for what is new, new None for what is gone."""

    __slots__ = ("networks", "nodes", "services", "tasks")

    def __init__(self) -> None:
        self.nodes: list[tuple[Node | None, Node | None]] = []
        self.networks: list[tuple[Network | None, Network | None]] = []
        self.services: list[tuple[Service | None, Service | None]] = []
        self.tasks: list[tuple[Task | None, Task | None]] = []

    def __bool__(self) -> bool:
        return bool(self.tasks or self.nodes or self.services or self.networks)

    def extend(self, other: Changes) -> None:
        self.nodes += other.nodes
        self.networks += other.networks
        self.services += other.services
        self.tasks += other.tasks

    def records(self) -> Iterator[Record]:
        for kind, changes in self._by_kind():
            for old, new in changes:
                known = new if old is None else old
                assert known is not None
                yield Record(kind, known.id, new)

    def _by_kind(self) -> tuple[tuple[str, Sequence[tuple[Object | None, Object | None]]], ...]:
        return (("node", self.nodes), ("network", self.networks), ("service", self.services), ("task", self.tasks))


class Store:
    """Read by everybody; written through `transaction` only."""

    def __init__(self, journal: Callable[[int, Changes], None] | None = None) -> None:
        """`journal` gets each transaction's version and changes; when it raises, the transaction has not happened."""
        self.version = 0
        self._journal = journal
        self._nodes: dict[str, Node] = {}
        self._networks: dict[str, Network] = {}
        self._services: dict[str, Service] = {}
        self._tasks: dict[str, Task] = {}
        self._named: dict[tuple[str, str], str] = {}  # (kind, name) -> id
        # service -> slot, or the node of a global service's task -> ids, the oldest first. Tuples: most slots have one task.
        self._slots: dict[str, dict[int | str, tuple[str, ...]]] = {}
        self._on_node: dict[str, dict[str, None]] = {}
        self._in_network: dict[str, dict[str, None]] = {}
        self._unseen = Changes()
        self._open = False

    # -- reading ---------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self._nodes

    @property
    def networks(self) -> Mapping[str, Network]:
        return self._networks

    @property
    def services(self) -> Mapping[str, Service]:
        return self._services

    @property
    def tasks(self) -> Mapping[str, Task]:
        return self._tasks

    def named(self, kind: str, name: str) -> str | None:
        """The id of the service or network of that name."""
        return self._named.get((kind, name))

    def of_service(self, service: str) -> list[Task]:
        tasks = self._tasks
        return [tasks[id] for ids in self._slots.get(service, {}).values() for id in ids]

    def slots(self, service: str) -> Iterable[int | str]:
        return self._slots.get(service, {}).keys()

    def of_slot(self, service: str, slot: int | str) -> list[Task]:
        """The tasks of a slot; of a global service the node stands for the slot."""
        return [self._tasks[id] for id in self._slots.get(service, {}).get(slot, ())]

    def size_of_slot(self, task: Task) -> int:
        return len(self._slots.get(task.service, {}).get(task.slot or task.node, ()))

    def on_node(self, node: str) -> list[Task]:
        return [self._tasks[id] for id in self._on_node.get(node, ())]

    def in_network(self, network: str) -> list[Task]:
        """The tasks that have an address there, or ask for one."""
        return [self._tasks[id] for id in self._in_network.get(network, ())]

    def everything(self) -> Changes:
        """All there is, as if it had just been made: for whoever begins to watch."""
        changes = Changes()
        changes.nodes = [(None, node) for node in self._nodes.values()]
        changes.networks = [(None, network) for network in self._networks.values()]
        changes.services = [(None, service) for service in self._services.values()]
        changes.tasks = [(None, task) for task in self._tasks.values()]
        return changes

    def journal_to(self, journal: Callable[[int, Changes], None]) -> None:
        """Keeps what happens from now on elsewhere: for a store that was filled from a journal and is to go on with it."""
        self._journal = journal

    # -- writing ---------------------------------------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """`with store.transaction() as change:` - all of it happens, or, when something is raised, nothing. One at a time."""
        return Transaction(self)

    def take(self) -> Changes:
        """What has changed since it was last asked."""
        changes, self._unseen = self._unseen, Changes()
        return changes

    def replay(self, version: int, records: Iterable[Record]) -> None:
        """Takes over what a journal kept of one transaction. Nobody is told of it."""
        self.version = version
        for kind, id, now in records:
            _PUT[kind](self, self._tables()[kind].get(id), now)

    def _tables(self) -> dict[str, dict[str, Object]]:
        return {"node": self._nodes, "network": self._networks, "service": self._services, "task": self._tasks}  # type: ignore[dict-item]

    def _put_node(self, old: Node | None, new: Node | None) -> None:
        if new is not None:
            self._nodes[new.id] = new
        elif old is not None:
            del self._nodes[old.id]

    def _put_network(self, old: Network | None, new: Network | None) -> None:
        if old is not None:
            del self._named["network", old.spec.name]
        if new is not None:
            self._networks[new.id] = new
            self._named["network", new.spec.name] = new.id
        elif old is not None:
            del self._networks[old.id]

    def _put_service(self, old: Service | None, new: Service | None) -> None:
        if old is not None:
            del self._named["service", old.spec.name]
        if new is not None:
            self._services[new.id] = new
            self._named["service", new.spec.name] = new.id
        elif old is not None:
            del self._services[old.id]

    def _put_task(self, old: Task | None, new: Task | None) -> None:
        if new is not None:
            id = new.id
            self._tasks[id] = new
            if old is None:
                slots = self._slots.get(new.service)
                if slots is None:
                    slots = self._slots[new.service] = {}
                slot = new.slot or new.node
                slots[slot] = (*slots[slot], id) if slot in slots else (id,)
                if new.node:
                    self._on_node.setdefault(new.node, {})[id] = None
            elif old.node != new.node:
                if old.node:
                    self._left(self._on_node, old.node, id)
                if new.node:
                    self._on_node.setdefault(new.node, {})[id] = None
        elif old is not None:
            id = old.id
            del self._tasks[id]
            slots = self._slots[old.service]
            slot = old.slot or old.node
            left = tuple(other for other in slots[slot] if other != id)
            if left:
                slots[slot] = left
            else:
                del slots[slot]
                if not slots:
                    del self._slots[old.service]
            if old.node:
                self._left(self._on_node, old.node, id)
        before, after = old.networks if old is not None else (), new.networks if new is not None else ()
        if before is not after:
            for network in before:
                self._left(self._in_network, network.network, id)
            for network in after:
                self._in_network.setdefault(network.network, {})[id] = None

    @staticmethod
    def _left(index: dict[str, dict[str, None]], key: str, id: str) -> None:
        ids = index.get(key)
        if ids is not None:
            ids.pop(id, None)
            if not ids:
                del index[key]


_PUT: Mapping[str, Callable[[Store, Object | None, Object | None], None]] = {
    "node": Store._put_node,  # type: ignore[dict-item]
    "network": Store._put_network,  # type: ignore[dict-item]
    "service": Store._put_service,  # type: ignore[dict-item]
    "task": Store._put_task,  # type: ignore[dict-item]
}

# A new version of an object belongs to the store, which writes its own version into it: the one field that nobody else may set.
_STAMPS = {kind: vars(kind)["version"].__set__ for kind in (Node, Network, Service, Task)}
_stamp_task = _STAMPS[Task]


class Transaction:
    """Changes that happen together. An object is changed by giving the store a new one, made from the one that is there now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes()
        self._version = store.version + 1

    def __enter__(self) -> Transaction:
        if self._store._open:
            raise RuntimeError("a transaction is open already")
        self._store._open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        store = self._store
        store._open = False
        if kind is not None:
            self._undo()
            return
        if not self._changes:
            return
        if store._journal is not None:
            try:
                store._journal(self._version, self._changes)
            except BaseException:
                self._undo()
                raise
        store.version = self._version
        store._unseen.extend(self._changes)

    def node(self, old: Node | None, new: Node | None) -> None:
        self._checked(self._store._nodes.get((old or new).id), old, new)  # type: ignore[union-attr]
        self._store._put_node(old, new)
        self._changes.nodes.append((old, new))

    def network(self, old: Network | None, new: Network | None) -> None:
        self._checked(self._store._networks.get((old or new).id), old, new)  # type: ignore[union-attr]
        self._store._put_network(old, new)
        self._changes.networks.append((old, new))

    def service(self, old: Service | None, new: Service | None) -> None:
        self._checked(self._store._services.get((old or new).id), old, new)  # type: ignore[union-attr]
        self._store._put_service(old, new)
        self._changes.services.append((old, new))

    def task(self, old: Task | None, new: Task | None) -> None:
        """The same, for the many; what the others look up for safety is one comparison here."""
        store = self._store
        if old is not None and store._tasks.get(old.id) is not old:
            raise OutOfSequence("update out of sequence")
        if new is not None:
            _stamp_task(new, self._version)
        store._put_task(old, new)
        self._changes.tasks.append((old, new))

    def _checked(self, there: Object | None, old: Object | None, new: Object | None) -> None:
        if there is not old:
            raise OutOfSequence("update out of sequence")
        if new is not None:
            _STAMPS[type(new)](new, self._version)

    def _undo(self) -> None:
        for kind, changes in self._changes._by_kind():
            for old, new in reversed(changes):
                _PUT[kind](self._store, new, old)
