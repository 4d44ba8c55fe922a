"""Rolling updates: the slots of a service, one after the other, get tasks of its new specification (swarmkit manager/orchestrator/update).

An update is a number of workers that take slots from one queue. Each shuts the slot's tasks down and starts a new one (or the other way about), waits
until that runs or has failed, then for the configured delay. Failures of new tasks are counted, also those that follow within the monitoring period;
too many of them, and the update pauses, or gives way to a rollback. Odd behaviour of the real one is kept, and said where it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from vxtool.model import TaskState
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import FailureAction, Order, Service, Task, UpdateState, UpdateStatus
from vxtool.swarm.restart import GLOBAL, Restarts
from vxtool.swarm.restarter import Restarter
from vxtool.swarm.store import Changes, Store, Transaction
from vxtool.swarm.tasks import is_dirty, new_task
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Updater", "too_many_failures"]

Slot = Sequence[Task]

_PAUSED = (UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED)
_RUNNING = TaskState.RUNNING


def too_many_failures(failures: int, slots: int, ratio: float) -> bool:
    """Whether more than a share of the slots has failed; reckoned with 32 bits, as swarmkit does: 3 of 10 is not more than 0.3."""
    return _float32(failures / slots) > _float32(ratio)


def _float32(value: float) -> float:
    number: float = struct.unpack("f", struct.pack("f", value))[0]
    return number


class Updater:
    """The updates of all services; at most one each."""

    def __init__(self, store: Store, timers: Timers, identities: Identities, restarter: Restarter, restarts: Restarts) -> None:
        self.store = store
        self.timers = timers
        self.identities = identities
        self.restarter = restarter
        self.restarts = restarts
        self.due: list[Callable[[], None]] = []  # what the updates do next
        self._updates: dict[str, _Update] = {}
        self._watched: dict[str, _Update] = {}  # tasks made by updates

    def update(self, service: Service, slots: Iterable[Slot]) -> None:
        """Begins to bring slots to the service's present specification; an update towards another one is given up."""
        known = self._updates.get(service.id)
        if known is not None:
            if known.service.spec == service.spec:
                return
            self.cancel(service.id)
        update = _Update(self, service)
        self._updates[service.id] = update
        update.run(slots)

    def cancel(self, service: str) -> None:
        update = self._updates.pop(service, None)
        if update is not None:
            update.cancelled = True
            self._forget(update)

    def finished(self, update: _Update) -> None:
        if self._updates.get(update.service.id) is update:
            del self._updates[update.service.id]
        self._forget(update)

    def watch(self, task: str, update: _Update) -> None:
        self._watched[task] = update

    def see(self, changes: Changes) -> None:
        for old_service, service in changes.services:
            if service is None:
                assert old_service is not None
                self.cancel(old_service.id)
        if not self._watched:
            return
        for old, new in changes.tasks:
            id = (new or old).id  # type: ignore[union-attr]
            update = self._watched.get(id)
            if update is not None and (new is None or new.state >= _RUNNING) and (old is None or new is None or old.state != new.state):
                update.changed(id, new)

    def move(self) -> bool:
        if not self.due:
            return False
        before = self.store.version
        due, self.due = self.due, []
        for step in due:
            step()
        return self.store.version != before or bool(self.due)

    def _forget(self, update: _Update) -> None:
        for id in update.tasks:
            self._watched.pop(id, None)


class _Gone(Exception):
    """The tasks of a slot are not what they were when the update began."""


@dataclass(slots=True)
class _Awaited:
    slot: Slot
    start_first: bool  # the slot's old tasks go when the new one runs
    started: bool = False  # it is let run
    came: bool = False  # it runs, or has failed


class _Update:
    def __init__(self, updater: Updater, service: Service) -> None:
        self.service = service  # as it was when the update began
        self.cancelled = False
        self.tasks: dict[str, float | None] = {}  # made by this update -> when they came up
        self._updater = updater
        self._store = updater.store
        rolling_back = service.update_status is not None and service.update_status.state is UpdateState.ROLLBACK_STARTED
        self._rolling_back = rolling_back
        self._config = service.spec.rollback if rolling_back else service.spec.update
        # An update that rests for longer than it watches would not see the last slots fail.
        self._period = max(self._config.monitor, self._config.delay + 1.0)
        self._dirty = 0  # slots to be updated
        self._queue: list[Slot] = []  # the next one last
        self._workers = 0  # at work
        self._awaited: dict[str, _Awaited] = {}  # new tasks, until they run or have failed
        self._failed: set[str] = set()
        self._unread: list[str] = []  # failures since the last slot was given out: looked at when all workers are done
        self._stopped = False
        self._monitor: Timer | None = None

    def run(self, slots: Iterable[Slot]) -> None:
        service = self.service
        status = service.update_status
        if status is not None and status.state in _PAUSED:
            self._updater.finished(self)
            return
        nodes = self._store.nodes
        dirty = [slot for slot in slots if len(slot) > 1 or is_dirty(service, slot[0], nodes.get(slot[0].node))]
        if not dirty:
            if status is not None and status.state in (UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED):
                self._later(self._complete)
            self._updater.finished(self)
            return
        self._dirty = len(dirty)
        self._queue = dirty[::-1]
        if status is None:
            self._later(self._begin)
        self._workers = min(self._config.parallelism or len(dirty), len(dirty))
        for _ in range(self._workers):
            self._later(self._next)

    # -- a worker ----------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        if self.cancelled:
            return
        if not self._queue:
            self._workers -= 1
            if not self._workers:
                self._later(self._watch)
            return
        slot = self._queue.pop()
        restarter = self._updater.restarter
        # A task of the new specification that is there already only has to be let run, and the others to go.
        clean = [task for task in slot if not is_dirty(self.service, task, self._store.nodes.get(task.node))]
        existing = next((task for task in clean if task.desired is _RUNNING), next((task for task in clean[::-1] if task.desired < _RUNNING), None))
        if existing is not None:
            try:
                old = self._remove([task for task in slot if task is not existing])
            except _Gone:
                self._rest()
                return
            if existing.desired is _RUNNING:
                self._rest()
            else:
                restarter.delay_start(existing.id, old, 0.0, wait_stop=True, started=self._rest)
            return
        if self.service.id not in self._store.services:
            return
        first = slot[0]
        node = first.node if self.service.spec.mode in GLOBAL else ""
        new = new_task(self.service, self._updater.identities.new(), first.slot, node, self._updater.timers.now, TaskState.READY)
        start_first = self._config.order is Order.START_FIRST
        try:
            with self._store.transaction() as change:
                change.task(None, new)
                old = None if start_first else self._removed(change, slot)
        except _Gone:  # the slot has a successor already, of the new specification
            self._rest()
            return
        self.tasks[new.id] = None
        self._awaited[new.id] = _Awaited(slot, start_first)
        self._updater.watch(new.id, self)
        restarter.delay_start(new.id, old, 0.0, wait_stop=not start_first, started=lambda: self._started(new.id))

    def _started(self, id: str) -> None:
        awaited = self._awaited.get(id)
        if awaited is not None:
            awaited.started = True
            if awaited.came:
                self._up(id)

    def _up(self, id: str) -> None:
        """The worker has seen its task come up, or fail."""
        awaited = self._awaited.pop(id)
        self.tasks[id] = self._updater.timers.now
        task = self._store.tasks.get(id)
        if awaited.start_first and task is not None and task.state is _RUNNING:
            self._later(lambda: self._clear(awaited.slot))
        self._rest(awaited_failed=task is not None and task.state > _RUNNING)

    def changed(self, id: str, task: Task | None) -> None:
        """A task of this update runs, has ended, or is gone."""
        awaited = self._awaited.get(id)
        if awaited is not None:
            awaited.came = True
            if awaited.started or task is None:
                self._up(id)
        if task is not None and task.state > _RUNNING and self._config.failure_action is not FailureAction.CONTINUE:
            self._unread.append(id)
            self._later(self._read)

    def _rest(self, awaited_failed: bool = False) -> None:
        """The slot is done. A failure is looked at before the worker takes the next one."""
        if self._config.delay:
            self._updater.timers.after(self._config.delay, lambda: self._later(self._next))
        elif awaited_failed:
            self._later(lambda: self._later(self._next))
        else:
            self._later(self._next)

    # -- failures ----------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Looks at failures while slots are given out, or when all are done; in between nobody does (the real one blocks on its workers)."""
        if self.cancelled or self._stopped or not (self._queue or self._monitor):
            return
        unread, self._unread = self._unread, []
        for id in unread:
            if self._acts(id):
                self._queue.clear()
                if self._monitor is not None:
                    self._monitor.cancel()
                    self._ended()
                return

    def _acts(self, id: str) -> bool:
        up = self.tasks[id]
        if id in self._failed or (up is not None and self._updater.timers.now - up > self._period):
            return False
        self._failed.add(id)
        if not too_many_failures(len(self._failed), self._dirty, self._config.max_failure_ratio):
            return False
        if self._config.failure_action is FailureAction.PAUSE:
            self._stopped = True
            self._pause(f"update paused due to failure or early termination of task {id}")
        elif self._rolling_back:
            # Never roll a rollback back. It is not stopped either: when the monitoring is over it is said to be completed, all the same.
            self._pause(f"rollback paused due to failure or early termination of task {id}")
        else:
            self._stopped = True
            self._roll_back(f"update rolled back due to failure or early termination of task {id}")
        return True

    def _watch(self) -> None:
        """All workers are done: new tasks may still fail for a while."""
        if self.cancelled:
            return
        if self._stopped:
            self._updater.finished(self)
            return
        self._monitor = self._updater.timers.after(self._period, lambda: self._later(self._ended))
        self._read()

    def _ended(self) -> None:
        if self.cancelled:
            return
        self._updater.finished(self)
        if not self._stopped:
            self._complete()

    # -- what is written -----------------------------------------------------------------------------------------------------

    def _clear(self, slot: Slot) -> None:
        """The new task of a slot runs: the old ones may go."""
        if not self.cancelled:
            with suppress(_Gone):
                self._remove(slot)

    def _remove(self, slot: Slot) -> Task | None:
        with self._store.transaction() as change:
            return self._removed(change, slot)

    def _removed(self, change: Transaction, slot: Slot) -> Task | None:
        """Shuts the tasks of a slot down: the last of them, for which the new one may wait.

        Raises _Gone when all were shut down by somebody else, who then has replaced them as well.
        """
        removed = None
        for known in slot:
            task = self._store.tasks.get(known.id)
            if task is None:
                continue
            if task.desired <= _RUNNING:
                removed = replace(task, desired=TaskState.SHUTDOWN)
                change.task(task, removed)
            elif not self._updater.restarts.should_restart(task, self.service.spec.mode):
                removed = task
        if removed is None and slot:
            raise _Gone
        return removed

    def _begin(self) -> None:
        now = self._updater.timers.now
        self._write(lambda service: service.update_status is None, lambda _: UpdateStatus(UpdateState.UPDATING, "update in progress", now))

    def _pause(self, message: str) -> None:
        def paused(status: UpdateStatus) -> UpdateStatus:
            state = UpdateState.ROLLBACK_PAUSED if status.state is UpdateState.ROLLBACK_STARTED else UpdateState.PAUSED
            return replace(status, state=state, message=message)

        self._write(_has_status, paused)

    def _complete(self) -> None:
        now = self._updater.timers.now

        def completed(status: UpdateStatus) -> UpdateStatus:
            if status.state is UpdateState.ROLLBACK_STARTED:
                return replace(status, state=UpdateState.ROLLBACK_COMPLETED, message="rollback completed", completed_at=now)
            return replace(status, state=UpdateState.COMPLETED, message="update completed", completed_at=now)

        self._write(_has_status, completed)

    def _write(self, when: Callable[[Service], bool], status: Callable[[UpdateStatus], UpdateStatus]) -> None:
        service = self._store.services.get(self.service.id)
        if service is not None and when(service):
            with self._store.transaction() as change:
                change.service(service, replace(service, update_status=status(service.update_status)))  # type: ignore[arg-type]

    def _roll_back(self, message: str) -> None:
        """The previous specification becomes the present one; without one nothing is written, and the service says `updating` for ever."""
        service = self._store.services.get(self.service.id)
        if service is None or service.update_status is None or service.previous_spec is None:
            return
        with self._store.transaction() as change:
            change.service(
                service,
                replace(
                    service,
                    spec=service.previous_spec,
                    spec_version=service.previous_spec_version,
                    previous_spec=None,
                    previous_spec_version=None,
                    update_status=replace(service.update_status, state=UpdateState.ROLLBACK_STARTED, message=message),
                ),
            )

    def _later(self, step: Callable[[], None]) -> None:
        self._updater.due.append(step)


def _has_status(service: Service) -> bool:
    return service.update_status is not None
