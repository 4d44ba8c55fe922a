"""Containers that belong to no service: what becomes of one that has ended, and of those of a node that is gone.

Knows tasks without a service and nothing of slots: such a task is bound to its node, and another one takes its place there, under the same name, only
where its own restart policy says so.
"""

from __future__ import annotations

from dataclasses import replace

from vxtool.model import TaskState
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import RestartCondition, Task
from vxtool.swarm.restarter import Restarter
from vxtool.swarm.store import Changes, Store, Transaction
from vxtool.swarm.tasks import CREATED
from vxtool.swarm.timers import Timers

__all__ = ["Containers"]


class Containers:
    """One that has ended is kept, as an engine keeps it, until somebody removes it; its addresses are not."""

    def __init__(self, store: Store, timers: Timers, identities: Identities, restarter: Restarter) -> None:
        self._store = store
        self._timers = timers
        self._identities = identities
        self._restarter = restarter
        self._ended: dict[str, None] = {}
        self._nodes: dict[str, None] = {}  # that are gone
        self._restarts: dict[str, int] = {}  # by name; a control plane that begins anew counts anew

    def see(self, changes: Changes) -> None:
        for old_node, node in changes.nodes:
            if node is None and old_node is not None:
                self._nodes[old_node.id] = None
        for _, task in changes.tasks:
            if task is None or task.service:
                continue
            if task.state > TaskState.RUNNING and task.desired <= TaskState.RUNNING:
                self._ended[task.id] = None
            if task.node not in self._store.nodes:  # gone while nobody looked: before this control plane began
                self._nodes[task.node] = None

    def move(self) -> bool:
        if not (self._ended or self._nodes):
            return False
        before = self._store.version
        ended, self._ended = self._ended, {}
        nodes, self._nodes = self._nodes, {}
        with self._store.transaction() as change:
            for node in nodes:
                for task in self._store.of_slot("", node) if node not in self._store.nodes else ():
                    if task.desired is not TaskState.REMOVE:
                        change.task(task, replace(task, desired=TaskState.REMOVE))
            for id in ended:
                known = self._store.tasks.get(id)
                if known is not None and known.desired <= TaskState.RUNNING:
                    self._end(change, known)
        return self._store.version != before

    def _end(self, change: Transaction, task: Task) -> None:
        policy, name = task.spec.restart, task.spec.container
        count = self._restarts.get(name, 0)
        if (
            policy.condition is RestartCondition.NONE
            or (policy.condition is RestartCondition.ON_FAILURE and task.state is TaskState.COMPLETE)
            or task.state in (TaskState.REJECTED, TaskState.ORPHANED)
            or (policy.max_attempts and count >= policy.max_attempts)
        ):
            self._restarts.pop(name, None)
            change.task(task, replace(task, desired=TaskState.SHUTDOWN))
            return
        self._restarts[name] = count + 1
        now = self._timers.now
        new = Task(
            self._identities.new(),
            node=task.node,
            spec=task.spec,
            spec_version=None,
            desired=TaskState.READY,
            message=CREATED,
            created_at=now,
            changed_at=now,
        )
        change.task(task, None)  # the name is the new one's
        change.task(None, new)
        self._restarter.delay_start(new.id, None, policy.delay, wait_stop=False)
