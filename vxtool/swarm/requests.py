"""What may be asked of a swarm, by word and JSON values: the manager's side of the API.

Knows the words, what each takes and gives, and how the answers are written; not how they travel. The lab's manager answers with it over a socket, a
test answers with it in the same process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from ipaddress import IPv4Address
from random import SystemRandom
from typing import Any

from vxtool.errors import UsageError
from vxtool.model import Availability, Role, TaskState
from vxtool.model.plain import plain, revive
from vxtool.swarm.events import Events
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import NetworkSpec, Service, ServiceSpec, Settings, SwarmInfo, Task, TaskSpec
from vxtool.swarm.store import Changes
from vxtool.swarm.swarm import Swarm

__all__ = ["Kinds", "Requests", "changes", "taken", "written"]

REMEMBERED = 20_000
"""Changes of objects that are kept, so that who looks again is told only those."""

_TABLES = ("nodes", "networks", "services", "tasks")


class Requests:
    """Answers for one swarm. `see` is to be told of every change (Swarm's `watch`)."""

    def __init__(self, swarm: Swarm, info: SwarmInfo, keep: Callable[[SwarmInfo], None] = lambda info: None) -> None:
        """`keep` is given what the swarm itself is from now on, before it counts: for a journal."""
        self.swarm = swarm
        self.info = info
        self._keep = keep
        self._began = swarm.store.version  # nobody who has seen less can be told only what changed
        self._events = Events(swarm.store)
        self._changed: deque[tuple[int, str, str]] = deque()  # (version of the store, table, id)

    def see(self, changes: Changes) -> None:
        self._events.see(changes, self.swarm.now)
        version = self.swarm.store.version
        for table in _TABLES:
            for old, new in getattr(changes, table):
                self._changed.append((version, table, (new or old).id))
        while len(self._changed) > REMEMBERED:
            self._began = self._changed.popleft()[0]

    def answer(self, do: str, arguments: Mapping[str, Any]) -> Any:
        """JSON values. UsageError when the word is not known, or what is asked for cannot be."""
        if do not in _REQUESTS:
            raise UsageError(f"{do!r} is nothing a swarm can be asked (there are {', '.join(_REQUESTS)})")
        kinds, act = _REQUESTS[do]
        return act(self, **taken(do, kinds, arguments))

    # -- looking ---------------------------------------------------------------------------------------------------------

    def view(self, after: int) -> dict[str, Any]:
        """What there is; with `after`, a version that was told before, only what has changed since: objects as they are now, ids that are gone."""
        store = self.swarm.store
        told: dict[str, Any] = {"version": store.version, "now": self.swarm.now, "info": plain(self.info)}
        tables: dict[str, Mapping[str, Any]] = {table: getattr(store, table) for table in _TABLES}
        if after < self._began or after > store.version:
            return told | {"whole": True} | {table: [written(one) for one in objects.values()] for table, objects in tables.items()}
        ids: dict[str, dict[str, None]] = {table: {} for table in _TABLES}
        for version, table, id in reversed(self._changed):
            if version <= after:
                break
            ids[table][id] = None
        there = {table: [written(tables[table][id]) for id in ids[table] if id in tables[table]] for table in _TABLES}
        gone = {table: [id for id in ids[table] if id not in tables[table]] for table in _TABLES}
        return told | {"whole": False, "gone": gone} | there

    def events(self, after: int) -> Any:
        """What has happened, as far as it is remembered; with `after`, the number of an event, only what came after it."""
        return plain(self._events.after(after))

    # -- changing --------------------------------------------------------------------------------------------------------

    def update_swarm(self, settings: Settings) -> Any:
        before = self.swarm.settings
        self.swarm.change_settings(settings)
        try:
            self._become(replace(self.info, settings=settings))
        except BaseException:
            self.swarm.change_settings(before)
            raise
        return plain(self.info)

    def rotate_token(self, role: Role) -> Any:
        """Who has joined stays; with the old token nobody can join any more."""
        which = {Role.WORKER: "worker_token", Role.MANAGER: "manager_token"}[role]
        kept = getattr(self.info, which).rpartition("-")[0]  # it names the swarm (in a real one, its certificate); the secret is the last part
        changed: dict[str, Any] = {which: f"{kept}-{Identities(SystemRandom()).new()}"}
        self._become(replace(self.info, **changed))
        return plain(self.info)

    def _become(self, info: SwarmInfo) -> None:
        self._keep(info)
        self.info = info

    def create_network(self, spec: NetworkSpec) -> Any:
        made = self.swarm.tell(self.swarm.control.create_network, spec)
        network = self.swarm.store.networks[made.id]
        if network.error:  # swarmkit lets it wait until there is room; who has just asked for it is better told
            self.swarm.tell(self.swarm.control.remove_network, network.id)
            raise UsageError(network.error)
        return plain(network)

    def remove_network(self, network: str) -> None:
        self.swarm.tell(self.swarm.control.remove_network, network)

    def create_service(self, spec: ServiceSpec) -> Any:
        return self._settled(self.swarm.tell(self.swarm.control.create_service, spec))

    def update_service(self, service: str, spec: ServiceSpec, version: int | None) -> Any:
        return self._settled(self.swarm.tell(self.swarm.control.update_service, service, spec, version))

    def roll_back_service(self, service: str, version: int | None) -> Any:
        return self._settled(self.swarm.tell(self.swarm.control.roll_back_service, service, version))

    def _settled(self, service: Service) -> Any:
        """The service as it is when all has been done that could be done at once: with its addresses, and the version that an update must name."""
        return plain(self.swarm.store.services[service.id])

    def remove_service(self, service: str) -> None:
        self.swarm.tell(self.swarm.control.remove_service, service)

    def run_container(self, spec: TaskSpec, node: str) -> Any:
        control = self.swarm.control
        task = self.swarm.tell(control.run_container, spec, node)
        return self._attached(task, lambda: self.swarm.tell(self.swarm.control.remove_container, task.id, True))

    def stop_container(self, task: str) -> Any:
        return plain(self.swarm.tell(self.swarm.control.stop_container, task))

    def remove_container(self, task: str, force: bool) -> None:
        self.swarm.tell(self.swarm.control.remove_container, task, force)

    def connect_network(self, network: str, container: str, address: str | None, aliases: tuple[str, ...]) -> Any:
        try:
            wanted = IPv4Address(address) if address else None
        except ValueError:
            raise UsageError(f"invalid IPv4 address: {address}") from None
        task = self.swarm.tell(self.swarm.control.connect, network, container, wanted, aliases)
        return self._attached(task, lambda: self.swarm.tell(self.swarm.control.disconnect, network, container))

    def disconnect_network(self, network: str, container: str) -> Any:
        task = self.swarm.tell(self.swarm.control.disconnect, network, container)
        return plain(self.swarm.store.tasks[task.id])

    def _attached(self, asked: Task, take_back: Callable[[], object]) -> Any:
        """The container as it has become; it does not wait for an address that is not to be had now, as a service's task does."""
        task = self.swarm.store.tasks[asked.id]
        if len(task.networks) < len(task.spec.networks) and task.error and task.state <= TaskState.RUNNING:
            take_back()
            raise UsageError(task.error)
        return plain(task)

    def update_node(
        self, node: str, version: int | None, availability: Availability | None, labels: Mapping[str, str] | None, role: Role | None
    ) -> Any:
        return plain(self.swarm.tell(self.swarm.control.update_node, node, version, availability=availability, labels=labels, role=role))

    def remove_node(self, node: str, force: bool) -> None:
        self.swarm.tell(self.swarm.control.remove_node, node, force)


def written(value: Any) -> Any:
    """As `plain`, but without the fields that have their defaults: most of a task's have."""
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if not is_dataclass(value) or isinstance(value, type):
        return plain(value)
    return {field.name: written(there) for field in fields(value) if (there := getattr(value, field.name)) != field.default}


Kinds = Mapping[str, tuple[Any, ...]]
"""What a word takes: name -> (type,) or (type, default)."""


def taken(do: str, kinds: Kinds, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values as what the word takes. UsageError says which one is missing, unknown, or of another kind."""
    if unknown := arguments.keys() - kinds.keys():
        raise UsageError(f"{do} takes no {', '.join(sorted(unknown))}")
    given = {}
    for name, (kind, *default) in kinds.items():
        if name in arguments:
            given[name] = revive(kind, arguments[name])
        elif default:
            given[name] = default[0]
        else:
            raise UsageError(f"{do} lacks {name}")
    return given


def changes(do: str) -> bool:
    """Whether the word is more than a look."""
    return do in _REQUESTS and do not in ("view", "events")


_VERSION: tuple[Any, ...] = (int | None, None)

_REQUESTS: Mapping[str, tuple[Kinds, Callable[..., Any]]] = {
    "swarm.update": ({"settings": (Settings,)}, Requests.update_swarm),
    "swarm.rotate_token": ({"role": (Role,)}, Requests.rotate_token),
    "view": ({"after": (int, -1)}, Requests.view),
    "events": ({"after": (int, -1)}, Requests.events),
    "network.create": ({"spec": (NetworkSpec,)}, Requests.create_network),
    "network.remove": ({"network": (str,)}, Requests.remove_network),
    "network.connect": (
        {"network": (str,), "container": (str,), "address": (str | None, None), "aliases": (tuple[str, ...], ())},
        Requests.connect_network,
    ),
    "network.disconnect": ({"network": (str,), "container": (str,)}, Requests.disconnect_network),
    "container.run": ({"spec": (TaskSpec,), "node": (str,)}, Requests.run_container),
    "container.stop": ({"task": (str,)}, Requests.stop_container),
    "container.remove": ({"task": (str,), "force": (bool, False)}, Requests.remove_container),
    "service.create": ({"spec": (ServiceSpec,)}, Requests.create_service),
    "service.update": ({"service": (str,), "spec": (ServiceSpec,), "version": _VERSION}, Requests.update_service),
    "service.rollback": ({"service": (str,), "version": _VERSION}, Requests.roll_back_service),
    "service.remove": ({"service": (str,)}, Requests.remove_service),
    "node.update": (
        {
            "node": (str,),
            "version": _VERSION,
            "availability": (Availability | None, None),
            "labels": (Mapping[str, str] | None, None),
            "role": (Role | None, None),
        },
        Requests.update_node,
    ),
    "node.remove": ({"node": (str,), "force": (bool, False)}, Requests.remove_node),
}
"""Word -> what it takes (without a default it must be given), what it does."""
