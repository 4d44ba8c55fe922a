"""A service has the tasks that it asks for: replicated and global ones, and jobs of both kinds (swarmkit manager/orchestrator).

Each orchestrator is told what changed and notes what it has to look at; `move` then makes, restarts and removes tasks. None of them chooses a node:
those of a global service's tasks are chosen by their being there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from vxtool.model import Availability, NodeState, ServiceMode, TaskState
from vxtool.swarm import constraint
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import Node, Service, Task
from vxtool.swarm.replicated import reconcile
from vxtool.swarm.restart import Restarts
from vxtool.swarm.restarter import Restarter
from vxtool.swarm.store import Changes, Store, Transaction
from vxtool.swarm.tasks import constraints_of, invalid, is_dirty, new_task
from vxtool.swarm.timers import Timers
from vxtool.swarm.updater import Updater

__all__ = ["GlobalJobs", "Globals", "Replicated", "ReplicatedJobs", "Tools"]

_RUNNING = TaskState.RUNNING
_COMPLETE = TaskState.COMPLETE


@dataclass(frozen=True, slots=True)
class Tools:
    """What every orchestrator works with."""

    store: Store
    timers: Timers
    identities: Identities
    restarts: Restarts
    restarter: Restarter
    updater: Updater


class _Orchestrator:
    """What they share: a service that goes takes its tasks along, and whatever was noted is done in one transaction."""

    mode: ServiceMode

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._store = tools.store
        self._services: dict[str, None] = {}  # to be reconciled
        self._restart: dict[str, None] = {}  # tasks
        self._gone: list[str] = []  # services

    def see(self, changes: Changes) -> None:
        for old, new in changes.services:
            service = new or old
            assert service is not None
            if service.spec.mode is not self.mode:
                continue
            if new is None:
                self._services.pop(service.id, None)
                self._gone.append(service.id)
                self._forget(service.id)
            elif (
                old is None
                or old.spec is not new.spec
                or old.update_status is not new.update_status
                or old.spec_version != new.spec_version
                or old.job_iteration != new.job_iteration
            ):
                self._services[new.id] = None
        if changes.nodes:
            self._see_nodes(changes.nodes)
        if changes.tasks and self._any():
            self._see_tasks(changes.tasks)

    def move(self) -> bool:
        if not (self._services or self._restart or self._gone):
            return False
        before = self._store.version
        gone, self._gone = self._gone, []
        restart, self._restart = self._restart, {}
        services, self._services = self._services, {}
        with self._store.transaction() as change:
            for id in gone:
                self._tools.restarts.forget(id)
                for task in self._store.of_service(id):
                    _removed(change, task)
            for id in restart:
                task_ = self._store.tasks.get(id)
                service = self._store.services.get(task_.service) if task_ is not None else None
                if task_ is not None and service is not None:
                    self._restarted(change, service, task_)
        for id in services:
            service = self._store.services.get(id)
            if service is not None:
                self._reconcile(service)
        return self._store.version != before or bool(self._tools.updater.due)

    def _any(self) -> bool:
        return True

    def _forget(self, service: str) -> None:
        """The service is gone."""

    def _see_nodes(self, changes: Iterable[tuple[Node | None, Node | None]]) -> None:
        raise NotImplementedError

    def _see_tasks(self, changes: Iterable[tuple[Task | None, Task | None]]) -> None:
        raise NotImplementedError

    def _restarted(self, change: Transaction, service: Service, task: Task) -> None:
        self._tools.restarter.restart(change, service, task)

    def _reconcile(self, service: Service) -> None:
        raise NotImplementedError

    def _mine(self, task: Task) -> Service | None:
        service = self._store.services.get(task.service)
        return service if service is not None and service.spec.mode is self.mode else None

    def _new(self, service: Service, slot: int, node: str = "", desired: TaskState = _RUNNING) -> Task:
        return new_task(service, self._tools.identities.new(), slot, node, self._tools.timers.now, desired)


def _removed(change: Transaction, task: Task) -> None:
    """The task is to go, record and all; the reaper takes it away when it has stopped."""
    if task.desired is not TaskState.REMOVE:
        change.task(task, replace(task, desired=TaskState.REMOVE))


def _shut(change: Transaction, store: Store, tasks: Iterable[Task]) -> None:
    for known in tasks:
        task = store.tasks.get(known.id)
        if task is not None and task.desired < TaskState.SHUTDOWN:
            change.task(task, replace(task, desired=TaskState.SHUTDOWN))


class Replicated(_Orchestrator):
    """As many filled slots as there are replicas."""

    mode = ServiceMode.REPLICATED

    def _see_nodes(self, changes: Iterable[tuple[Node | None, Node | None]]) -> None:
        for old, new in changes:
            if invalid(new) and not (old is not None and new is not None and invalid(old)):
                for task in self._store.on_node((new or old).id):  # type: ignore[union-attr]
                    if task.desired <= _RUNNING and self._mine(task) is not None:
                        self._restart[task.id] = None

    def _see_tasks(self, changes: Iterable[tuple[Task | None, Task | None]]) -> None:
        nodes = self._store.nodes
        for old, new in changes:
            if new is None:
                assert old is not None
                if old.desired <= _RUNNING and self._mine(old) is not None:
                    self._services[old.service] = None
            elif new.desired <= _RUNNING and (new.state > _RUNNING or (new.node and invalid(nodes.get(new.node)))) and self._mine(new) is not None:
                self._restart[new.id] = None

    def _reconcile(self, service: Service) -> None:
        scaling = reconcile(service, self._store.of_service(service.id), self._tools.restarts)
        with self._store.transaction() as change:
            for slot in scaling.create:
                change.task(None, self._new(service, slot))
            for task in scaling.remove:
                _removed(change, task)
            for task in scaling.delete:
                change.task(task, None)
        if scaling.keep:
            self._tools.updater.update(service, scaling.keep)


class _OnNodes(_Orchestrator):
    """Of services with a task on each node: those there are, and the nodes that changed since they were looked at."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._known: dict[str, Any] = {}  # by service id; what is kept of each is the kind's own affair
        self._nodes: dict[str, None] = {}  # to be looked at

    def _any(self) -> bool:
        return bool(self._known)

    def _forget(self, service: str) -> None:
        self._known.pop(service, None)

    def _see_nodes(self, changes: Iterable[tuple[Node | None, Node | None]]) -> None:
        if self._known:
            self._nodes.update(dict.fromkeys((new or old).id for old, new in changes if _differs(old, new)))  # type: ignore[union-attr]


class Globals(_OnNodes):
    """One task on every node that satisfies the constraints, and is neither drained nor down."""

    mode = ServiceMode.GLOBAL

    _known: dict[str, tuple[Service, tuple[constraint.Constraint, ...]]]

    def see(self, changes: Changes) -> None:
        for _, service in changes.services:
            if service is not None and service.spec.mode is self.mode:
                known = self._known.get(service.id)
                same = known is not None and known[0].spec is service.spec
                self._known[service.id] = (service, known[1] if known is not None and same else constraints_of(service))
        super().see(changes)

    def move(self) -> bool:
        if not self._nodes:
            return super().move()
        before = self._store.version
        nodes, self._nodes = self._nodes, {}
        with self._store.transaction() as change:
            for id in nodes:
                self._one_node(change, id)
        return super().move() or self._store.version != before

    def _see_tasks(self, changes: Iterable[tuple[Task | None, Task | None]]) -> None:
        for old, new in changes:
            if new is None:
                if old is not None and old.desired <= _RUNNING and old.service in self._known and old.node in self._store.nodes:
                    self._services[old.service] = None
            elif new.state > _RUNNING and new.desired <= _RUNNING and new.service in self._known:
                self._restart[new.id] = None

    def _restarted(self, change: Transaction, service: Service, task: Task) -> None:
        node = self._store.nodes.get(task.node)
        if node is None or invalid(node):
            return
        if node.availability is Availability.PAUSE or not constraint.node_matches(self._known[service.id][1], node):
            _shut(change, self._store, (task,))
            return
        super()._restarted(change, service, task)

    def _reconcile(self, service: Service) -> None:
        constraints = self._known[service.id][1]
        update: list[tuple[Task, ...]] = []
        with self._store.transaction() as change:
            for node in self._store.nodes.values():
                tasks = self._updatable(service, node.id)
                if invalid(node) or not constraint.node_matches(constraints, node):
                    _shut(change, self._store, tasks)
                elif node.availability is not Availability.PAUSE:
                    if tasks:
                        update.append(tasks)
                    else:
                        change.task(None, self._new(service, 0, node.id))
        if update:
            self._tools.updater.update(service, update)

    def _one_node(self, change: Transaction, id: str) -> None:
        """A node has changed. No rolling update: outdated tasks (it may have been paused meanwhile) are replaced at once."""
        node = self._store.nodes.get(id)
        if node is None or invalid(node):
            for task in self._store.on_node(id):
                if task.service in self._known:
                    if node is None:
                        change.task(task, None)
                    else:
                        _shut(change, self._store, (task,))
            return
        if node.availability is Availability.PAUSE:
            return
        for service, constraints in self._known.values():
            if not constraint.node_matches(constraints, node):
                continue  # the constraint enforcer's affair
            tasks = self._updatable(service, id)
            clean = [task for task in tasks if not is_dirty(service, task, node)]
            if not clean:
                change.task(None, self._new(service, 0, id))
            _shut(change, self._store, [task for task in tasks if task not in clean[:1]])

    def _updatable(self, service: Service, node: str) -> tuple[Task, ...]:
        tasks = self._store.of_slot(service.id, node)
        return self._tools.restarts.updatable(tasks, service) if tasks else ()


def _differs(old: Node | None, new: Node | None) -> bool:
    """Whether a node changed in something that may move tasks; a new load-balancer address does not."""
    return old is None or new is None or replace(old, attachments=new.attachments, version=new.version) != new


class _Jobs(_Orchestrator):
    """Tasks that are meant to complete, once each iteration."""

    def _see_tasks(self, changes: Iterable[tuple[Task | None, Task | None]]) -> None:
        for old, new in changes:
            if new is None or (new.job_iteration is not None and new.state > _RUNNING and (old is None or old.state != new.state)):
                task = new or old
                assert task is not None
                if task.job_iteration is not None and self._mine(task) is not None:
                    self._services[task.service] = None

    def _current(self, service: Service, change: Transaction) -> list[Task]:
        """The tasks of this iteration that are meant to complete, or have; those that failed are restarted, those of earlier ones go."""
        current = []
        for task in self._store.of_service(service.id):
            if task.job_iteration != service.job_iteration:
                if task.desired < TaskState.SHUTDOWN:
                    self._outdated(change, task)
            elif task.state is _COMPLETE:
                current.append(task)
            elif task.desired <= _COMPLETE:
                current.append(task)
                if task.state > _COMPLETE:
                    self._tools.restarter.restart(change, service, task)
        return current

    def _ended(self, service: Service, slot: int | str) -> bool:
        """Whether the job has failed there, and its restart policy lets it be."""
        tasks = [task for task in self._store.of_slot(service.id, slot) if task.job_iteration == service.job_iteration]
        return (
            bool(tasks)
            and min(task.desired for task in tasks) > _COMPLETE
            and not self._tools.restarts.should_restart(max(tasks, key=lambda task: task.changed_at), self.mode)
        )

    def _outdated(self, change: Transaction, task: Task) -> None:
        raise NotImplementedError


class ReplicatedJobs(_Jobs):
    """As many completed slots as the job asks for, at most so many at a time. Slots count from 1 (swarmkit's from 0)."""

    mode = ServiceMode.REPLICATED_JOB

    def _see_nodes(self, changes: Iterable[tuple[Node | None, Node | None]]) -> None:
        for old, new in changes:
            if invalid(new) and not (old is not None and new is not None and invalid(old)):
                for task in self._store.on_node((new or old).id):  # type: ignore[union-attr]
                    if task.desired <= _COMPLETE and task.state < _COMPLETE and self._mine(task) is not None:
                        self._restart[task.id] = None

    def _reconcile(self, service: Service) -> None:
        spec = service.spec
        with self._store.transaction() as change:
            current = self._current(service, change)
            taken = {task.slot for task in current} | {slot for slot in self._store.slots(service.id) if self._ended(service, slot)}
            running = sum(task.state is not _COMPLETE for task in current)
            missing = spec.replicas - len(taken)
            new = min(missing, (spec.max_concurrent or spec.replicas) - running)
            slot = 0
            while new > 0:
                slot += 1
                if slot not in taken:
                    change.task(None, self._new(service, slot, desired=_COMPLETE))
                    new -= 1

    def _outdated(self, change: Transaction, task: Task) -> None:
        _removed(change, task)


class GlobalJobs(_OnNodes, _Jobs):
    """One completed task on every node that was there, ready and active, when the job began."""

    mode = ServiceMode.GLOBAL_JOB

    _known: dict[str, None]

    def see(self, changes: Changes) -> None:
        for _, service in changes.services:
            if service is not None and service.spec.mode is self.mode:
                self._known[service.id] = None
        super().see(changes)

    def move(self) -> bool:
        if not self._nodes:
            return super().move()
        before = self._store.version
        nodes, self._nodes = self._nodes, {}
        with self._store.transaction() as change:
            for id in self._known:
                service = self._store.services.get(id)
                if service is not None:
                    self._at(change, service, (node for name in nodes if (node := self._store.nodes.get(name)) is not None))
        return super().move() or self._store.version != before

    def _see_tasks(self, changes: Iterable[tuple[Task | None, Task | None]]) -> None:
        for old, new in changes:
            if new is None:
                if old is not None and old.service in self._known and old.desired <= _COMPLETE:
                    self._nodes[old.node] = None
            elif new.state > _COMPLETE and new.desired <= _COMPLETE and new.service in self._known:
                self._restart[new.id] = None

    def _restarted(self, change: Transaction, service: Service, task: Task) -> None:
        if not invalid(self._store.nodes.get(task.node)):
            super()._restarted(change, service, task)

    def _reconcile(self, service: Service) -> None:
        with self._store.transaction() as change:
            self._current(service, change)
            self._at(change, service, self._store.nodes.values())

    def _at(self, change: Transaction, service: Service, nodes: Iterable[Node]) -> None:
        constraints = constraints_of(service)
        for node in nodes:
            tasks = [task for task in self._store.of_slot(service.id, node.id) if task.job_iteration == service.job_iteration]
            if invalid(node):
                _shut(change, self._store, [task for task in tasks if task.state <= _RUNNING])
            elif (
                node.availability is Availability.ACTIVE
                and node.state is NodeState.READY
                and node.created_at <= service.job_started_at
                and not any(task.state is _COMPLETE or task.desired <= _COMPLETE for task in tasks)
                and constraint.node_matches(constraints, node)
                and not self._ended(service, node.id)
            ):
                change.task(None, self._new(service, 0, node.id, _COMPLETE))

    def _outdated(self, change: Transaction, task: Task) -> None:
        _shut(change, self._store, (task,))
