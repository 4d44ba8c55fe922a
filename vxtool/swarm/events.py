"""What happens in a swarm, told as `docker events` tells it: a service is created, a node is down, a container dies.

Knows how changes of objects become events, and how many of them are kept; not who listens. Of containers, which engines tell of and a swarm does
not, it says what their tasks' states say: created when prepared, started when it runs, dead when it does not run any more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vxtool.model import ServiceMode, TaskState
from vxtool.swarm.identities import container_id
from vxtool.swarm.objects import Node, Service, Task
from vxtool.swarm.store import Changes, Store

__all__ = ["Event", "Events"]

REMEMBERED = 20_000
"""Events that are kept for who asks later."""

_NAMES = 1_000  # of services that are gone, whose last tasks are still told of


@dataclass(frozen=True, slots=True)
class Event:
    """One line of `docker events`."""

    number: int  # grows, also over a restart: nanoseconds of the swarm's clock, and one more where two events are of one moment
    type: str  # "node", "network", "service", "task", "container"
    action: str  # "create", "update", "remove"; of a container "create", "start", "die", "stop", "destroy"; of a network also "connect", "disconnect"
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def at(self) -> float:
        """Seconds of the swarm's clock: in a lab, since the epoch."""
        return self.number / 1e9


class Events:
    """The latest events of one swarm."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: deque[Event] = deque(maxlen=REMEMBERED)
        self._gone: dict[str, str] = {}  # removed services: id -> name

    def after(self, number: int) -> list[Event]:
        """Those that came after an event, the oldest first. What is older than all that is kept is lost, as with an engine."""
        found: list[Event] = []
        for event in reversed(self._events):
            if event.number <= number:
                break
            found.append(event)
        return found[::-1]

    def see(self, changes: Changes, now: float) -> None:
        number = self._events[-1].number if self._events else 0
        for kind, action, id, attributes in self._told(changes):
            number = max(number + 1, round(now * 1e9))
            self._events.append(Event(number, kind, action, id, attributes))

    def _told(self, changes: Changes) -> Iterator[tuple[str, str, str, dict[str, str]]]:
        for old_node, node in changes.nodes:
            known_node = node or old_node
            assert known_node is not None
            attributes = {"name": known_node.hostname or known_node.id} | _differences(_OF_NODE, old_node, node)
            yield "node", _action(old_node, node), known_node.id, attributes
        for old_network, network in changes.networks:
            known_network = network or old_network
            assert known_network is not None
            yield "network", _action(old_network, network), known_network.id, {"name": known_network.spec.name, "type": known_network.spec.driver}
        for old_service, service in changes.services:
            known_service = service or old_service
            assert known_service is not None
            attributes = {"name": known_service.spec.name} | _differences(_OF_SERVICE, old_service, service)
            yield "service", _action(old_service, service), known_service.id, attributes
            if service is None:
                self._gone[known_service.id] = known_service.spec.name
                if len(self._gone) > _NAMES:
                    del self._gone[next(iter(self._gone))]
        for old, task in changes.tasks:
            known = task or old
            assert known is not None
            service_name = self._name(known.service)
            name = f"{service_name}.{known.slot or known.node}.{known.id}" if service_name else known.spec.container or known.id
            about = {"name": name, "node": known.node} if known.node else {"name": name}
            yield "task", _action(old, task), known.id, about | _differences(_OF_TASK, old, task)
            yield from self._container(old, task, known, name, service_name)

    def _container(self, old: Task | None, new: Task | None, known: Task, name: str, service: str) -> Iterator[tuple[str, str, str, dict[str, str]]]:
        """What the engine of its node would tell of a task's container."""
        before = old.state if old is not None else TaskState.NEW
        after = new.state if new is not None else before
        # What has ended otherwise than well may have done so on the way there.
        actions = [action for action, state in _LIFE if before < state <= after and after <= TaskState.COMPLETE]
        ran = TaskState.STARTING <= before <= TaskState.RUNNING
        if (ran or actions) and after > TaskState.RUNNING:
            actions.append("die")
            if after is TaskState.SHUTDOWN:
                actions.append("stop")
        if new is None and old is not None and old.state >= TaskState.READY:
            actions.append("destroy")
        running = TaskState.STARTING <= after <= TaskState.RUNNING and new is not None
        there = {one.network for one in old.networks} if old is not None and ran else set()
        wanted = {one.network for one in known.networks} if running else set()
        if not actions and there == wanted:
            return
        node = self._store.nodes.get(known.node)
        id = container_id(known.node if node is None else node.hostname or node.id, name)
        attributes = {"image": known.spec.image, "name": name, **known.spec.labels}
        if service:
            attributes |= {
                "com.docker.swarm.node.id": known.node,
                "com.docker.swarm.service.id": known.service,
                "com.docker.swarm.service.name": service,
                "com.docker.swarm.task": "",
                "com.docker.swarm.task.id": known.id,
                "com.docker.swarm.task.name": name,
            }
        for network in sorted(wanted - there):
            yield "network", "connect", network, self._joined(network, id)
        for action in actions:
            yield "container", action, id, attributes | ({"exitCode": code} if action == "die" and (code := _exit_code(known)) else {})
        for network in sorted(there - wanted):
            yield "network", "disconnect", network, self._joined(network, id)

    def _joined(self, id: str, container: str) -> dict[str, str]:
        network = self._store.networks.get(id)
        return {"container": container, "name": network.spec.name if network is not None else id, "type": "overlay"}

    def _name(self, service: str) -> str:
        known = self._store.services.get(service)
        return known.spec.name if known is not None else self._gone.get(service, service)


def _action(old: object, new: object) -> str:
    return "create" if old is None else "remove" if new is None else "update"


_LIFE = (("create", TaskState.READY), ("start", TaskState.RUNNING))

_Facts = Mapping[str, Callable[[Any], str]]


def _node_state(node: Node) -> str:
    return node.state.value


def _replicas(service: Service) -> str:
    return str(service.spec.replicas) if service.spec.mode is ServiceMode.REPLICATED else ""


_OF_NODE: _Facts = {"state": _node_state, "availability": lambda node: node.availability.value, "role": lambda node: node.role.value}
_OF_SERVICE: _Facts = {
    "replicas": _replicas,
    "image": lambda service: service.spec.task.image,
    "updatestate": lambda service: service.update_status.state.value if service.update_status is not None else "",
}
_OF_TASK: _Facts = {"state": lambda task: task.state.name.lower(), "desired": lambda task: task.desired.name.lower()}
"""What an update says of an object when it has changed: NAME.new, and NAME.old where there was one."""


def _differences(facts: _Facts, old: object, new: object) -> dict[str, str]:
    if old is None or new is None:
        return {}
    found: dict[str, str] = {}
    for name, fact in facts.items():
        before, after = fact(old), fact(new)
        if before != after:
            found |= {f"{name}.{when}": value for when, value in (("new", after), ("old", before)) if value}
    return found


def _exit_code(task: Task) -> str:
    """As the agent has written it down (`task: non-zero exit (7)`); "" when it does not say."""
    if task.state is TaskState.COMPLETE:
        return "0"
    found = re.search(r"exit \((-?\d+)\)", task.error)
    return found[1] if found else ""
