"""Whether a task that stopped is replaced (swarmkit manager/orchestrator/restart).

Remembers the restarts of every slot; decides from that and the task's policy. Makes no task and waits for nothing: who asks says when it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vxtool.model import ServiceMode, TaskState
from vxtool.swarm.objects import RestartCondition, Service, Task, UpdateState

__all__ = ["Restarts", "condition_of"]

JOBS = frozenset({ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB})
GLOBAL = frozenset({ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB})

_Instance = tuple[str, int, str]  # service, slot, node: of a global service's task the node stands for the slot


@dataclass(slots=True)
class _History:
    """Restarts of one slot under one version of its specification."""

    spec_version: int | None
    total: int = 0
    times: list[float] = field(default_factory=list)


def condition_of(task: Task, mode: ServiceMode) -> RestartCondition:
    """The task's condition; a job that has completed is never run again, so that `any` means `on-failure` there."""
    condition = task.spec.restart.condition
    return RestartCondition.ON_FAILURE if mode in JOBS and condition is RestartCondition.ANY else condition


class Restarts:
    """The restarts so far, as the supervisor of one manager knows them."""

    def __init__(self) -> None:
        self._histories: dict[_Instance, _History] = {}

    def restarted(self, task: Task, mode: ServiceMode, at: float) -> None:
        """Remembers that `task` was replaced at a moment (recordRestartHistory). Only what a limit may ask for is kept."""
        if not task.spec.restart.max_attempts:
            return
        history = self._histories.get(_instance(task, mode))
        if history is None or history.spec_version != task.spec_version:
            history = self._histories[_instance(task, mode)] = _History(task.spec_version)
        history.total += 1
        if task.spec.restart.window:
            history.times.append(at)

    def should_restart(self, task: Task, mode: ServiceMode, stopped_at: float | None = None) -> bool:
        """Whether a stopped task gets a successor. `stopped_at` None: when its state last changed. A restart at the window's edge is outside."""
        policy = task.spec.restart
        condition = condition_of(task, mode)
        if condition is RestartCondition.NONE or (condition is RestartCondition.ON_FAILURE and task.state is TaskState.COMPLETE):
            return False
        history = self._histories.get(_instance(task, mode))
        if not policy.max_attempts or history is None or history.spec_version != task.spec_version:
            return True
        if not policy.window:
            return history.total < policy.max_attempts
        moment = task.changed_at if stopped_at is None else stopped_at
        history.times = [time for time in history.times if time > moment - policy.window]
        return sum(time < moment for time in history.times) < policy.max_attempts

    def updatable(self, slot: Iterable[Task], service: Service) -> tuple[Task, ...]:
        """The tasks of a slot that count as the slot being filled (UpdatableTasksInSlot); (): the slot is to be filled anew.

        Those meant to run; else the newest one, when it has ended and is not to be restarted. A rollback fills such slots too.
        """
        tasks = tuple(slot)
        wanted = tuple(task for task in tasks if task.desired <= TaskState.RUNNING)
        if wanted or not tasks:
            return wanted
        if service.update_status is not None and service.update_status.state is UpdateState.ROLLBACK_STARTED:
            return ()
        newest = max(tasks, key=lambda task: task.changed_at)
        return () if self.should_restart(newest, service.spec.mode) else (newest,)

    def forget(self, service: str) -> None:
        """A service that was removed."""
        self._histories = {instance: history for instance, history in self._histories.items() if instance[0] != service}


def _instance(task: Task, mode: ServiceMode) -> _Instance:
    return (task.service, task.slot, task.node if mode in GLOBAL else "")
