"""What a swarm is at one moment, for whoever only looks: the command line, Docker-shaped JSON, a notebook.

Knows the objects and how users name them (an id, a name, the beginning of an id); changes nothing. A view is a copy that stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from vxtool.errors import UsageError
from vxtool.model import Role, TaskState
from vxtool.swarm.identities import container_id
from vxtool.swarm.objects import Network, Node, Service, SwarmInfo, Task

__all__ = ["View"]

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """`version`: of the store, grows with every change. `now` and all times of objects: seconds since the epoch in a lab."""

    version: int = 0
    now: float = 0.0
    info: SwarmInfo = field(default_factory=SwarmInfo)
    nodes: Mapping[str, Node] = field(default_factory=dict)  # by id
    networks: Mapping[str, Network] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)

    # -- as users name things ----------------------------------------------------------------------------------------------------

    def node(self, text: str) -> Node:
        """By id, host name, `self` (the manager), or the beginning of an id. UsageError in Docker's words: `node X not found`."""
        if text == "self" and self.manager is not None:
            return self.manager
        return _found(self.nodes, text, lambda node: node.hostname, "node", f"node {text} not found")

    def network(self, text: str) -> Network:
        return _found(self.networks, text, lambda network: network.spec.name, "network", f"network {text} not found")

    def service(self, text: str) -> Service:
        return _found(self.services, text, lambda service: service.spec.name, "service", f"no such service: {text}")

    def task(self, text: str) -> Task:
        """By id, full name (`web.1.ID`), name of a standalone container, or the beginning of an id; of its container's id, too."""
        try:
            return _found(self.tasks, text, self._name_of_its_own, "task", f"no such task: {text}")
        except UsageError:
            contained = [task for task in self.tasks.values() if text and self.container_id(task).startswith(text)]
            if len(contained) == 1:
                return contained[0]
            raise

    # -- what follows from the objects -------------------------------------------------------------------------------------------

    @property
    def manager(self) -> Node | None:
        return next((node for node in self.nodes.values() if node.role is Role.MANAGER), None)

    def _name_of_its_own(self, task: Task) -> str:
        """A container that is being removed has lost its name to whoever comes next."""
        return self.task_name(task) if task.service or task.desired < TaskState.REMOVE else ""

    def task_name(self, task: Task) -> str:
        """As Docker calls the container: `web.1.TASK`, `web.NODE.TASK` of a global service, a standalone container's own name."""
        if not task.service:
            return task.spec.container or task.id
        return f"{self.slot_name(task)}.{task.id}"

    def container_id(self, task: Task) -> str:
        """Of the container that runs it, or would."""
        node = self.nodes.get(task.node)
        return container_id(task.node if node is None else node.hostname or node.id, self.task_name(task))

    def slot_name(self, task: Task) -> str:
        """`web.1`, of a global service `web.NODE`: the NAME of `service ps`."""
        service = self.services.get(task.service)
        return f"{service.spec.name if service is not None else task.service}.{task.slot or task.node}"

    @cached_property
    def tasks_of(self) -> Mapping[str, tuple[Task, ...]]:
        """Service id -> its tasks, in the order of their making."""
        return _grouped(self.tasks, lambda task: task.service)

    @cached_property
    def tasks_on(self) -> Mapping[str, tuple[Task, ...]]:
        """Node id -> its tasks."""
        return _grouped(self.tasks, lambda task: task.node)


def _grouped(tasks: Mapping[str, Task], key: Callable[[Task], str]) -> Mapping[str, tuple[Task, ...]]:
    groups: dict[str, list[Task]] = {}
    for task in tasks.values():
        if of := key(task):
            groups.setdefault(of, []).append(task)
    return {of: tuple(sorted(some, key=lambda task: task.created_at)) for of, some in groups.items()}


def _found(table: Mapping[str, T], text: str, name: Callable[[T], str], kind: str, missing: str) -> T:
    """Full id, then name, then beginning of an id, as Docker looks; an ambiguous one is refused."""
    if text in table:
        return table[text]
    named = [one for one in table.values() if name(one) == text]
    found = named or [one for id, one in table.items() if text and id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{kind} {text} is ambiguous ({len(found)} matches found)")
    raise UsageError(missing)
