"""Between the control plane and the agents: what each node is to run, what it says of it, and whether it is still there (manager/dispatcher).

An agent opens a session, sends heartbeats, asks for its assignments and reports states; how its words travel is somebody else's affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vxtool.errors import UsageError
from vxtool.model import NodeState, TaskState
from vxtool.swarm.objects import Node, Settings, Task
from vxtool.swarm.store import Changes, Store, Transaction
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Dispatcher", "Report"]

MISSED = "heartbeat failure"
MISSED_UNKNOWN = 'heartbeat failure for node in "unknown" state'
UNKNOWN = 'Node moved to "unknown" state due to leadership change in cluster'
ORPHANED = "task orphaned: its node is down for too long"

_ASSIGNED = TaskState.ASSIGNED


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent says of a task."""

    task: str
    state: TaskState
    message: str = ""
    error: str = ""


class _Session:
    __slots__ = ("changed", "expiry", "opened")

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}  # tasks that the agent has not been told of
        self.expiry: Timer | None = None
        self.opened = False  # False: this control plane waits for the agent of its predecessor


class Dispatcher:
    def __init__(self, store: Store, timers: Timers, settings: Settings) -> None:
        self._store = store
        self._timers = timers
        self.settings = settings  # may be changed at any time
        self._sessions: dict[str, _Session] = {}
        self._orphaning: dict[str, Timer] = {}  # nodes that are down
        self._down: list[tuple[str, str]] = []  # (node, why)
        self._late: list[str] = []  # nodes whose tasks are to be orphaned

    def load(self) -> None:
        """Of nodes that were there before this control plane nothing is known until their agents open a session: they have twice as long for it as
        for a heartbeat (markNodesUnknown)."""
        with self._store.transaction() as change:
            for node in list(self._store.nodes.values()):
                if node.state is NodeState.DOWN:
                    self._count_down(node.id)
                    continue
                session = self._sessions[node.id] = _Session()
                session.expiry = self._expire(node.id, 2 * self.settings.grace, MISSED_UNKNOWN)
                if node.state is not NodeState.UNKNOWN:
                    change.node(node, replace(node, state=NodeState.UNKNOWN, message=UNKNOWN))

    # -- what agents say -------------------------------------------------------------------------------------------------------

    def open(self, node: str, described: Node | None = None) -> list[Task]:
        """A session begins: the node is ready. `described`: what its agent found there (engine, platform, resources). All of its assignments."""
        known = self._known(node)
        session = self._sessions.get(node)
        if session is not None and session.expiry is not None:
            session.expiry.cancel()
        self._sessions[node] = session = _Session()
        session.opened = True
        session.expiry = self._expire(node)
        orphaning = self._orphaning.pop(node, None)
        if orphaning is not None:
            orphaning.cancel()
        now = replace(known, state=NodeState.READY, message="")
        if described is not None:
            now = replace(
                now,
                hostname=described.hostname,
                address=described.address,
                described=True,
                engine_labels=described.engine_labels,
                platform=described.platform,
                resources=described.resources,
                plugins=described.plugins,
                engine_version=described.engine_version,
            )
        if now != known:
            with self._store.transaction() as change:
                change.node(known, now)
        return [task for task in self._store.on_node(node) if _is_assigned(task)]

    def heartbeat(self, node: str) -> float:
        """The agent is there: after how many seconds it is to say so again. Raises UsageError when it has no session (any more)."""
        session = self._session(node)
        if session.expiry is not None:
            session.expiry.cancel()
        session.expiry = self._expire(node)
        return self.settings.heartbeat

    def assignments(self, node: str) -> tuple[list[Task], list[str]]:
        """What has changed for a node since it last asked: tasks as they are to be, and those that it may forget."""
        session = self._session(node)
        changed, session.changed = session.changed, {}
        tasks = [self._store.tasks.get(id) for id in changed]
        there = [task for task in tasks if task is not None and task.node == node and _is_assigned(task)]
        gone = changed.keys() - {task.id for task in there}
        return there, [id for id in changed if id in gone]

    def report(self, node: str, reports: Iterable[Report]) -> None:
        """States of a node's tasks. They only grow; what is older than what is known, or of another node's task, is passed over."""
        self._session(node)
        with self._store.transaction() as change:
            for report in reports:
                task = self._store.tasks.get(report.task)
                if task is None or task.node != node or report.state < task.state:
                    continue
                if report.state == task.state and (report.message, report.error) == (task.message, task.error):
                    continue
                change.task(task, task.told(report.state, report.message, self._timers.now, report.error))

    def close(self, node: str, why: str = "node left the swarm") -> None:
        """The agent says good-bye: its node is down at once."""
        self._session(node)
        self._down.append((node, why))

    # -- what follows ------------------------------------------------------------------------------------------------------------

    def see(self, changes: Changes) -> None:
        for old_node, node in changes.nodes:
            if node is None:
                assert old_node is not None
                session = self._sessions.pop(old_node.id, None)
                if session is not None and session.expiry is not None:
                    session.expiry.cancel()
                orphaning = self._orphaning.pop(old_node.id, None)
                if orphaning is not None:
                    orphaning.cancel()
            elif node.state is NodeState.DOWN and node.id not in self._orphaning:
                self._count_down(node.id)
        sessions = self._sessions
        if not sessions:
            return
        for old, task in changes.tasks:
            node_id = (task or old).node  # type: ignore[union-attr]
            if node_id in sessions and (
                old is None
                or task is None
                or old.desired is not task.desired
                or old.state < _ASSIGNED <= task.state
                or (old.networks is not task.networks and old.state >= _ASSIGNED)
            ):
                sessions[node_id].changed[(task or old).id] = None  # type: ignore[union-attr]

    def move(self) -> bool:
        if not (self._down or self._late):
            return False
        before = self._store.version
        with self._store.transaction() as change:
            for id, why in self._down:
                session = self._sessions.pop(id, None)
                if session is not None and session.expiry is not None:
                    session.expiry.cancel()
                node = self._store.nodes.get(id)
                if node is not None and node.state is not NodeState.DOWN:
                    change.node(node, replace(node, state=NodeState.DOWN, message=why))
            for id in self._late:
                orphan(change, self._store, id, self._timers.now, ORPHANED)
        self._down, self._late = [], []
        return self._store.version != before

    def waiting(self) -> Iterable[str]:
        """Nodes whose agents have something to ask for."""
        return [node for node, session in self._sessions.items() if session.changed and session.opened]

    def _known(self, node: str) -> Node:
        known = self._store.nodes.get(node)
        if known is None:
            raise UsageError(f"node {node} not found")
        return known

    def _session(self, node: str) -> _Session:
        session = self._sessions.get(node)
        if session is None or not session.opened:
            raise UsageError(f"node {node} is not registered")
        return session

    def _expire(self, node: str, periods: int | None = None, why: str = MISSED) -> Timer:
        seconds = self.settings.heartbeat * (self.settings.grace if periods is None else periods)
        return self._timers.after(seconds, lambda: self._down.append((node, why)))

    def _count_down(self, node: str) -> None:
        self._orphaning[node] = self._timers.after(self.settings.orphan_after, lambda: self._late.append(node))


def orphan(change: Transaction, store: Store, node: str, now: float, why: str) -> None:
    """Nobody will ever say what became of the tasks of a node: they give back what they hold."""
    for task in store.on_node(node):
        if _ASSIGNED <= task.state <= TaskState.RUNNING:
            change.task(task, task.told(TaskState.ORPHANED, why, now))


def _is_assigned(task: Task) -> bool:
    return task.state >= _ASSIGNED and task.state <= TaskState.RUNNING
