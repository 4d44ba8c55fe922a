"""Replaces stopped tasks, and starts new ones when their time has come (swarmkit manager/orchestrator/restart).

A successor is born with the desired state READY: it may prepare, but runs only when the restart delay is over and its predecessor has stopped, or has
had a minute to do so. `restart.Restarts` decides whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vxtool.model import Availability, NodeState, TaskState
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import Service, Settings, Task
from vxtool.swarm.restart import GLOBAL, JOBS, Restarts
from vxtool.swarm.store import Changes, Store, Transaction
from vxtool.swarm.tasks import new_task
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Restarter"]

_RUNNING = TaskState.RUNNING


@dataclass(slots=True, eq=False)
class _Delay:
    """A task that waits for its start."""

    task: str
    old: str | None  # the task that must stop before; None: none, or it has
    timers: list[Timer]
    elapsed: bool
    started: Callable[[], None] | None = None  # whom to tell
    restart: bool = False  # it has failed meanwhile: to be restarted when its delay is over


class Restarter:
    def __init__(self, store: Store, timers: Timers, identities: Identities, settings: Settings, restarts: Restarts) -> None:
        self._store = store
        self._timers = timers
        self._identities = identities
        self.settings = settings  # may be changed at any time
        self._restarts = restarts
        self._delays: dict[str, _Delay] = {}
        self._waiting_for: dict[str, list[_Delay]] = {}  # by the old task
        self._due: list[_Delay] = []

    def load(self) -> None:
        """What the last control plane knew: restarts, as the history of the slots tells them, and starts that wait for the rest of their delay
        (taskinit.CheckTasks)."""
        for service in self._store.services.values():
            if service.spec.task.restart.max_attempts:
                for slot in self._store.slots(service.id):
                    for task in sorted(self._store.of_slot(service.id, slot), key=lambda task: task.created_at)[1:]:
                        self._restarts.restarted(task, service.spec.mode, task.created_at)
        for task in self._store.tasks.values():
            if task.desired is TaskState.READY and task.state <= TaskState.COMPLETE:
                self.delay_start(task.id, None, max(0.0, task.created_at + task.spec.restart.delay - self._timers.now), wait_stop=False)

    def see(self, changes: Changes) -> None:
        for old_node, node in changes.nodes:
            if self._waiting_for and (node is None or node.state is NodeState.DOWN):
                assert old_node is not None or node is not None
                for task in self._store.on_node((node or old_node).id):  # type: ignore[union-attr]
                    self._stopped(task.id)
        if not self._delays:
            return
        for old, new in changes.tasks:
            if new is None:
                assert old is not None
                self._stopped(old.id)
                delay = self._delays.get(old.id)
                if delay is not None:
                    self._ended(delay)
            elif new.state > _RUNNING:
                self._stopped(new.id)

    def move(self) -> bool:
        if not self._due:
            return False
        due, self._due = self._due, []
        before = self._store.version
        with self._store.transaction() as change:
            for delay in due:
                if self._delays.get(delay.task) is delay:
                    self._start(change, delay.task)
        for delay in due:
            if self._delays.get(delay.task) is delay:
                self._ended(delay)
        again = [delay.task for delay in due if delay.restart]
        if again:
            with self._store.transaction() as change:
                for id in again:
                    task = self._store.tasks.get(id)
                    service = self._store.services.get(task.service) if task is not None else None
                    if task is not None and service is not None:
                        self.restart(change, service, task)
        return self._store.version != before

    def restart(self, change: Transaction, service: Service, task: Task) -> None:
        """Shuts a task down, and makes its successor if its policy says so."""
        delay = self._delays.get(task.id)
        if delay is not None:  # no tight loops: its own delay comes first
            delay.restart = True
            return
        mode = service.spec.mode
        if task.desired > (TaskState.COMPLETE if mode in JOBS else _RUNNING):
            return
        stopped = replace(task, desired=TaskState.SHUTDOWN)
        change.task(task, stopped)
        if not self._restarts.should_restart(stopped, mode):
            return
        node = self._store.nodes.get(task.node)
        new = new_task(service, self._identities.new(), task.slot, task.node if mode in GLOBAL else "", self._timers.now, TaskState.READY)
        change.task(None, new)
        self._restarts.restarted(new, mode, self._timers.now)
        drained = node is not None and node.availability is Availability.DRAIN
        down = node is not None and node.state is NodeState.DOWN
        self.delay_start(new.id, stopped, 0.0 if drained else task.spec.restart.delay, wait_stop=not down)

    def delay_start(self, task: str, old: Task | None, delay: float, wait_stop: bool, started: Callable[[], None] | None = None) -> None:
        """Lets a task run after `delay` seconds, and after `old` has stopped; `started` is called when that is written, or the task is gone."""
        if task in self._delays:
            self._ended(self._delays[task])
        # A task that is on no node yet, and not wanted any more, never will be: nobody would say that it has stopped.
        waits = wait_stop and old is not None and TaskState.ASSIGNED <= old.state <= _RUNNING
        made = _Delay(task, old.id if waits and old is not None else None, [], not delay, started)
        self._delays[task] = made
        if made.old is not None:
            self._waiting_for.setdefault(made.old, []).append(made)
            made.timers.append(self._timers.after(self.settings.old_task_timeout, lambda: self._waited(made)))
        if delay:
            made.timers.append(self._timers.after(delay, lambda: self._elapsed(made)))
        self._check(made)

    def _waited(self, delay: _Delay) -> None:
        delay.old = None
        self._check(delay)

    def _elapsed(self, delay: _Delay) -> None:
        delay.elapsed = True
        self._check(delay)

    def _stopped(self, old: str) -> None:
        for delay in self._waiting_for.pop(old, ()):
            self._waited(delay)

    def _check(self, delay: _Delay) -> None:
        if delay.elapsed and delay.old is None:
            self._due.append(delay)

    def _start(self, change: Transaction, id: str) -> None:
        task = self._store.tasks.get(id)
        if task is not None and task.desired < _RUNNING:
            change.task(task, replace(task, desired=_RUNNING if task.job_iteration is None else TaskState.COMPLETE))

    def _ended(self, delay: _Delay) -> None:
        del self._delays[delay.task]
        for timer in delay.timers:
            timer.cancel()
        if delay.old is not None and delay.old in self._waiting_for:
            self._waiting_for[delay.old].remove(delay)
            if not self._waiting_for[delay.old]:
                del self._waiting_for[delay.old]
        if delay.started is not None:
            delay.started()
