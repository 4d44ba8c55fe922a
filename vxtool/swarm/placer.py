"""Hands the scheduler what has changed, and writes down what it decides."""

from __future__ import annotations

from vxtool.swarm.scheduler import Scheduler
from vxtool.swarm.store import Changes, Store
from vxtool.swarm.timers import Timers

__all__ = ["Placer"]


class Placer:
    def __init__(self, store: Store, timers: Timers) -> None:
        self.scheduler = Scheduler()
        self._store = store
        self._timers = timers

    def see(self, changes: Changes) -> None:
        scheduler = self.scheduler
        for old_node, node in changes.nodes:
            if node is not None:
                scheduler.node(node)
            elif old_node is not None:
                scheduler.node_removed(old_node.id)
        told, now = scheduler.task, self._timers.now
        for old, task in changes.tasks:
            if task is not None:
                told(task, now)
            elif old is not None:
                scheduler.task_removed(old)

    def move(self) -> bool:
        if not self.scheduler.has_work:
            return False
        placed = self.scheduler.tick(self._timers.now)
        tasks = self._store.tasks
        with self._store.transaction() as change:
            for task in placed:
                change.task(tasks[task.id], task)
        return bool(placed) or self.scheduler.has_work
