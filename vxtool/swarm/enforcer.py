"""Tasks that a node may no longer run, because it has changed, are rejected (swarmkit manager/orchestrator/constraintenforcer)."""

from __future__ import annotations

from dataclasses import replace

from vxtool.errors import UsageError
from vxtool.model import Availability, TaskState
from vxtool.swarm import constraint
from vxtool.swarm.objects import Node, Resources, Task
from vxtool.swarm.store import Changes, Store
from vxtool.swarm.timers import Timers

__all__ = ["Enforcer"]

REJECTED = "task rejected by constraint enforcer"
WHY = "assigned node no longer meets constraints"


class Enforcer:
    """Drained nodes are the orchestrators' affair, and paused ones keep what they have."""

    def __init__(self, store: Store, timers: Timers) -> None:
        self._store = store
        self._timers = timers
        self._nodes: dict[str, None] = {}

    def see(self, changes: Changes) -> None:
        for old, new in changes.nodes:
            if old is not None and new is not None and replace(old, attachments=new.attachments, version=new.version) != new:
                self._nodes[new.id] = None

    def move(self) -> bool:
        if not self._nodes:
            return False
        before = self._store.version
        with self._store.transaction() as change:
            for id in self._nodes:
                node = self._store.nodes.get(id)
                if node is None or node.availability is not Availability.ACTIVE:
                    continue
                for task in self._noncompliant(node):
                    change.task(task, task.told(TaskState.REJECTED, REJECTED, self._timers.now, WHY))
        self._nodes = {}
        return self._store.version != before

    def _noncompliant(self, node: Node) -> list[Task]:
        has = node.resources or Resources()
        cpus, memory, generic = has.nano_cpus, has.memory_bytes, dict(has.generic)
        found = []
        for task in self._store.on_node(node.id):
            # A job's tasks are desired to be COMPLETE: the real enforcer does not look at them, nor does this one.
            if not TaskState.ASSIGNED <= task.desired <= TaskState.RUNNING or task.state > TaskState.RUNNING:
                continue
            wanted = task.spec.reservations
            if (
                not self._allows(node, task)
                or wanted.memory_bytes > memory
                or wanted.nano_cpus > cpus
                or any(count > generic.get(kind, 0) for kind, count in wanted.generic.items())
            ):
                found.append(task)
                continue
            cpus -= wanted.nano_cpus
            memory -= wanted.memory_bytes
            for kind, count in wanted.generic.items():
                generic[kind] -= count
        return found

    def _allows(self, node: Node, task: Task) -> bool:
        # The service's constraints, not those of the task: who only changes constraints, and to such as the node meets, leaves the task as it is.
        service = self._store.services.get(task.service)
        placement = (task.spec if service is None else service.spec.task).placement
        try:
            return constraint.node_matches(constraint.parse(placement.constraints), node)
        except UsageError:  # was refused when the service was made
            return True
