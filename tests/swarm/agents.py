"""Agents of a simulated swarm: they do what they are told after a while, and some fail, hang, or are cut off."""

from __future__ import annotations

from collections.abc import Callable

from vxtool.errors import UsageError
from vxtool.model import TaskState
from vxtool.swarm.dispatcher import Report
from vxtool.swarm.objects import Node, Task
from vxtool.swarm.swarm import Swarm

__all__ = ["SimulatedAgents"]

_STEPS = {
    TaskState.ASSIGNED: TaskState.ACCEPTED,
    TaskState.ACCEPTED: TaskState.PREPARING,
    TaskState.PREPARING: TaskState.READY,
    TaskState.READY: TaskState.STARTING,
    TaskState.STARTING: TaskState.RUNNING,
}


class SimulatedAgents:
    """Every connected node's agent; `outcome(task)` is what its program comes to instead of running on: COMPLETE, FAILED, or None."""

    def __init__(self, swarm: Swarm, outcome: Callable[[Task], TaskState | None] = lambda task: None, step: float = 0.01) -> None:
        self.swarm = swarm
        self.outcome = outcome
        self.step = step  # seconds from one state to the next
        self.connected: set[str] = set()
        self._held: dict[str, dict[str, Task]] = {}  # node -> what it was told to run
        self._states: dict[str, TaskState] = {}
        self._beats: dict[str, float] = {}

    def connect(self, node: str, described: Node | None = None) -> None:
        tasks = self.swarm.tell(self.swarm.dispatcher.open, node, described)
        self.connected.add(node)
        self._held[node] = {task.id: task for task in tasks}
        self._beats[node] = self.swarm.now
        # As real ones do: what was said last may have been lost.
        known = [Report(task.id, state, state.name.lower()) for task in tasks if (state := self._states.get(task.id)) is not None]
        self.swarm.tell(self.swarm.dispatcher.report, node, known)

    def cut(self, node: str) -> None:
        """The node is silent from now on; its tasks go on as they are."""
        self.connected.discard(node)

    def run(self, seconds: float) -> None:
        """Lets time pass, in steps; agents act and beat on the way."""
        end = self.swarm.now + seconds
        while True:
            acted = False
            for node in sorted(self.connected):
                acted |= self._act(node)
            if self.swarm.now >= end:
                return
            due = self.swarm.next_due()
            quiet = min((self._beats[node] + 4.0 for node in self.connected), default=end)
            upto = min(end, quiet, *([due] if due is not None else []))
            if acted:
                upto = min(upto, self.swarm.now + self.step)
            self.swarm.advance(max(upto, self.swarm.now + 1e-6))

    def _act(self, node: str) -> bool:
        """One step of every task of a node; whether any took one."""
        swarm = self.swarm
        try:
            if swarm.now - self._beats[node] >= 4.0:
                self._beats[node] = swarm.now
                swarm.tell(swarm.dispatcher.heartbeat, node)
            changed, gone = swarm.dispatcher.assignments(node)
        except UsageError:  # it was down meanwhile, or is out of the swarm
            self.connected.discard(node)
            if node in swarm.store.nodes:
                self.connect(node)
            return True
        held = self._held[node]
        held.update((task.id, task) for task in changed)
        for id in gone:
            held.pop(id, None)
        reports = []
        for task in list(held.values()):
            state = self._states.get(task.id, TaskState.ASSIGNED)
            following = self._next(task, state)
            if following is not None:
                self._states[task.id] = following
                reports.append(Report(task.id, following, following.name.lower()))
        if reports:
            swarm.tell(swarm.dispatcher.report, node, reports)
        return bool(reports or changed)

    def _next(self, task: Task, state: TaskState) -> TaskState | None:
        if state > TaskState.RUNNING:
            return None
        if task.desired > TaskState.COMPLETE:
            return TaskState.SHUTDOWN
        if state is TaskState.RUNNING:
            return self.outcome(task)
        if state is TaskState.READY and task.desired <= TaskState.READY:
            return None
        return _STEPS[state]
