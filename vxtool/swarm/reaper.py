"""Forgets tasks: those that are to be removed and have stopped, and the oldest of a slot with too long a history (swarmkit taskreaper)."""

from __future__ import annotations

from vxtool.model import TaskState
from vxtool.swarm.objects import Service, Settings, Task
from vxtool.swarm.store import Changes, Store
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Reaper"]

BATCH = 0.25
"""Seconds that removals are collected for."""

_ENOUGH = 1000  # removals are not collected beyond this many

_RUNNING = TaskState.RUNNING
_ASSIGNED = TaskState.ASSIGNED


class Reaper:
    def __init__(self, store: Store, timers: Timers, settings: Settings) -> None:
        self._store = store
        self._timers = timers
        self.settings = settings  # may be changed at any time
        self._slots: dict[tuple[str, int | str], None] = {}  # with a history to be looked at
        self._tasks: dict[str, None] = {}  # to be removed
        self._timer: Timer | None = None
        self._due = False

    def see(self, changes: Changes) -> None:
        store = self._store
        for old, task in changes.tasks:
            if task is None:
                continue
            if task.desired is TaskState.REMOVE:
                if _is_over(task):
                    self._tasks[task.id] = None
            elif old is None and store.size_of_slot(task) > 1:
                self._slots[task.service, task.slot or task.node] = None
        if not (self._slots or self._tasks):
            return
        if len(self._slots) + len(self._tasks) > _ENOUGH:
            self._due = True
        elif self._timer is None:
            self._timer = self._timers.after(BATCH, self._ring)

    def move(self) -> bool:
        if not self._due:
            return False
        self._due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        before = self._store.version
        slots, self._slots = self._slots, {}
        with self._store.transaction() as change:
            for id in self._tasks:
                task = self._store.tasks.get(id)
                if task is not None:
                    change.task(task, None)
            self._tasks = {}
            for name, slot in slots:
                service = self._store.services.get(name)
                if service is not None:
                    for task in self._old(service, slot):
                        change.task(task, None)
        return self._store.version != before

    def _old(self, service: Service, slot: int | str) -> list[Task]:
        """The tasks of a slot that are one too many, the oldest first. A slot with several tasks that run is looked at again."""
        limit = self.settings.history_limit
        if service.spec.task.restart.max_attempts:
            # The restarts so far are read from the history by a control plane that begins anew.
            limit = service.spec.task.restart.max_attempts + 1
        tasks = sorted(self._store.of_slot(service.id, slot), key=lambda task: task.changed_at)
        surplus = len(tasks) - limit
        if limit < 0 or surplus <= 0:
            return []
        ended = [task for task in tasks if task.state > _RUNNING or (task.state < _ASSIGNED and task.desired > _RUNNING)]
        if len(tasks) - len(ended) > 1:
            self._slots[service.id, slot] = None
            self._again()
        return ended[:surplus]

    def _again(self) -> None:
        if self._timer is None:
            self._timer = self._timers.after(BATCH, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._due = True


def _is_over(task: Task) -> bool:
    """Whether a task will not run any more, or never will."""
    return task.state < _ASSIGNED or task.state >= TaskState.COMPLETE
