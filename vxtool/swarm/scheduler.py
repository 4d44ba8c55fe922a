"""Which node a task runs on: swarmkit's filter pipeline and its way of spreading, step by step (manager/scheduler).

Copies the algorithm, not its intention: a group of tasks fills the nodes from the best one on and moves to the next only when that has become
better, so that an uneven start may stay uneven. Keeps what it needs to know of every node (NodeInfo), told by `node` and `task`; knows no store and
no clock. Ties, arbitrary in Go's maps, fall to the node that was told first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest

from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, PublishMode, TaskState
from vxtool.swarm import constraint
from vxtool.swarm.objects import Node, Platform, Resources, Task

__all__ = ["MAX_FAILURES", "MONITORED", "NodeInfo", "Reason", "Scheduler"]

MONITORED = 300.0
"""Seconds for which a task's failure on a node is remembered (nodeinfo.go monitorFailures)."""

MAX_FAILURES = 5
"""As many failures of one service's version within that time make a node the last choice (nodeinfo.go maxFailures)."""

ASSIGNED = "scheduler assigned task to node"
CONFIRMED = "scheduler confirmed task can run on preassigned node"

_COMPLETE = TaskState.COMPLETE
_Version = tuple[str, int | None]  # a service and the version of its specification


class _Levels:
    """The nodes by the number of tasks meant to run there: so that a few idle ones are found without looking at all."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: dict[int, dict[NodeInfo, None]] = {}

    def enter(self, info: NodeInfo) -> None:
        self._nodes.setdefault(info.active, {})[info] = None

    def leave(self, info: NodeInfo) -> None:
        level = self._nodes[info.active]
        del level[info]
        if not level:
            del self._nodes[info.active]

    def __iter__(self) -> Iterator[NodeInfo]:
        """The nodes with the fewest tasks first."""
        for active in sorted(self._nodes):
            yield from self._nodes[active]


class NodeInfo:
    """A node and what runs on it: what the filters and the order of choice look at (nodeinfo.go)."""

    __slots__ = ("_levels", "active", "active_of", "failures", "generic", "index", "memory", "nano_cpus", "node", "ports", "ready", "tasks")

    def __init__(self, node: Node, index: int, levels: _Levels) -> None:
        self.index = index
        self.tasks: dict[str, Task] = {}
        self.active = 0  # tasks meant to run
        self._levels = levels
        levels.enter(self)
        self.active_of: dict[str, int] = {}  # the same by service
        self.failures: dict[_Version, list[float]] = {}
        self.ports: dict[tuple[str, int], int] = {}  # published in host mode: how many tasks
        self.nano_cpus = self.memory = 0  # what is left to be reserved
        self.generic: dict[str, int] = {}
        self.update(node)

    def update(self, node: Node) -> None:
        """Takes a new version of the node; what its tasks have reserved stays reserved."""
        self.node = node
        self.ready = node.state is NodeState.READY and node.availability is Availability.ACTIVE
        has = node.resources or Resources()
        self.nano_cpus, self.memory, self.generic = has.nano_cpus, has.memory_bytes, dict(has.generic)
        for task in self.tasks.values():
            self._reserve(task.spec.reservations, 1)

    def add(self, task: Task) -> None:
        old = self.tasks.get(task.id)
        self.tasks[task.id] = task
        active = task.desired <= _COMPLETE
        if old is None:
            if task.spec.reservations is not _NONE:
                self._reserve(task.spec.reservations, 1)
            for port in _host_ports(task):
                self.ports[port] = self.ports.get(port, 0) + 1
            if active:
                self._count(task.service, 1)
        elif active != (old.desired <= _COMPLETE):
            self._count(task.service, 1 if active else -1)

    def remove(self, task: Task) -> None:
        old = self.tasks.pop(task.id, None)
        if old is None:
            return
        self._reserve(old.spec.reservations, -1)
        for port in _host_ports(old):
            self.ports[port] -= 1
        if old.desired <= _COMPLETE:
            self._count(old.service, -1)

    def failed(self, task: Task, now: float) -> None:
        known = self.failures.setdefault((task.service, task.spec_version), [])
        known[:] = [moment for moment in known if moment >= now - MONITORED]
        known.append(now)

    def recent_failures(self, version: _Version, now: float) -> int:
        return sum(moment >= now - MONITORED for moment in self.failures.get(version, ()))

    def _count(self, service: str, change: int) -> None:
        self._levels.leave(self)
        self.active += change
        self._levels.enter(self)
        self.active_of[service] = self.active_of.get(service, 0) + change

    def _reserve(self, wanted: Resources, sign: int) -> None:
        self.nano_cpus -= sign * wanted.nano_cpus
        self.memory -= sign * wanted.memory_bytes
        for kind, count in wanted.generic.items():
            self.generic[kind] = self.generic.get(kind, 0) - sign * count


_NONE = Task("").spec.reservations


def _host_ports(task: Task) -> list[tuple[str, int]]:
    if not task.endpoint.ports:
        return []
    return [(port.protocol, port.published) for port in task.endpoint.ports if port.mode is PublishMode.HOST and port.published]


# --------------------------------------------------------------------------------------------------------------------
# Filters, in the order of the pipeline: each makes, for a task that it concerns, the question that a node must answer with yes.
# --------------------------------------------------------------------------------------------------------------------

_Question = Callable[[NodeInfo], bool]


def _ready(task: Task) -> _Question:
    return lambda info: info.ready


def _resources(task: Task) -> _Question | None:
    wanted = task.spec.reservations
    if not (wanted.nano_cpus or wanted.memory_bytes or wanted.generic):
        return None
    if not wanted.generic:
        cpus, memory = wanted.nano_cpus, wanted.memory_bytes
        return lambda info: cpus <= info.nano_cpus and memory <= info.memory
    return lambda info: (
        wanted.nano_cpus <= info.nano_cpus
        and wanted.memory_bytes <= info.memory
        and all(count <= info.generic.get(kind, 0) for kind, count in wanted.generic.items())
    )


def _plugins(task: Task) -> _Question | None:
    spec = task.spec
    wanted = [("Volume", driver) for driver in spec.volume_drivers if driver not in ("", "local")]
    wanted += [("Network", driver) for driver in spec.network_drivers]
    log = spec.log_driver if spec.log_driver not in (None, "", "none") else None
    if not wanted and log is None:
        return None

    def has(info: NodeInfo) -> bool:
        if not info.node.described:
            return True
        plugins = set(info.node.plugins)
        known = all((kind, driver) in plugins or (kind, f"{driver}:latest") in plugins for kind, driver in wanted)
        # An engine that lists no log drivers at all is older than the list: nothing is asked of it.
        listed = log is not None and any(kind == "Log" for kind, _ in plugins)
        return known and (not listed or ("Log", log) in plugins or ("Log", f"{log}:latest") in plugins)

    return has


def _constraints(task: Task) -> _Question | None:
    if not task.spec.placement.constraints:
        return None
    try:
        parsed = constraint.parse(task.spec.placement.constraints)
    except UsageError:  # was refused when the service was made; the real filter lets such a task pass
        return None
    return lambda info: constraint.node_matches(parsed, info.node)


def _platform(task: Task) -> _Question | None:
    platforms = [_normal(platform) for platform in task.spec.placement.platforms]
    if not platforms:
        return None

    def runs(info: NodeInfo) -> bool:
        if info.node.platform is None:
            return False
        own = _normal(info.node.platform)
        return any(wanted.arch in ("", own.arch) and wanted.os in ("", own.os) for wanted in platforms)

    return runs


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _normal(platform: Platform) -> Platform:
    return replace(platform, arch=_ARCHITECTURES.get(platform.arch, platform.arch))


def _host_port(task: Task) -> _Question | None:
    ports = _host_ports(task)
    return (lambda info: not any(info.ports.get(port) for port in ports)) if ports else None


def _max_replicas(task: Task) -> _Question | None:
    most = task.spec.placement.max_replicas
    return (lambda info: info.active_of.get(task.service, 0) < most) if most else None


@dataclass(frozen=True, slots=True)
class _Filter:
    make: Callable[[Task], _Question | None]
    one: str  # why one node was refused
    many: str  # why several were
    lasting: bool = True  # whether the answer stays the same while tasks are placed

    def words(self, count: int) -> str:
        return self.one if count == 1 else self.many.format(count)


def _on(reason: str) -> tuple[str, str]:
    return f"{reason} on 1 node", f"{reason} on {{}} nodes"


_FILTERS = (
    _Filter(_ready, "1 node not available for new tasks", "{} nodes not available for new tasks"),
    _Filter(_resources, *_on("insufficient resources"), lasting=False),
    _Filter(_plugins, *_on("missing plugin")),
    _Filter(_constraints, *_on("scheduling constraints not satisfied")),
    _Filter(_platform, *_on("unsupported platform")),
    _Filter(_host_port, *_on("host-mode port already in use"), lasting=False),
    _Filter(_max_replicas, "max replicas per node limit exceed", "max replicas per node limit exceed", lasting=False),
)


class _Verdicts:
    """Which nodes satisfy which constraints, for the constraints asked for of late."""

    __slots__ = ("_known",)
    _MOST = 64

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], dict[str, bool]] = {}  # -> node -> whether it does

    def of(self, constraints: tuple[str, ...]) -> dict[str, bool]:
        known = self._known.pop(constraints, None)
        if known is None:
            known = {}
            if len(self._known) >= self._MOST:
                del self._known[next(iter(self._known))]
        self._known[constraints] = known
        return known

    def forget(self, node: str) -> None:
        for verdicts in self._known.values():
            verdicts.pop(node, None)


def _remembered(ask: _Question, verdicts: dict[str, bool]) -> _Question:
    def answer(info: NodeInfo) -> bool:
        id = info.node.id
        if id not in verdicts:
            verdicts[id] = ask(info)
        return verdicts[id]

    return answer


class _Pipeline:
    """The filters that concern a task, and how many nodes each has refused since a node last passed them all (pipeline.go)."""

    __slots__ = ("_clean", "_passing", "filters", "questions", "refused")

    def __init__(self, task: Task, verdicts: _Verdicts) -> None:
        made = [(filter_, question) for filter_ in _FILTERS if (question := filter_.make(task)) is not None]
        self.filters = [filter_ for filter_, _ in made]
        constraints = task.spec.placement.constraints
        self.questions = [_remembered(question, verdicts.of(constraints)) if filter_.make is _constraints else question for filter_, question in made]
        self.refused = [0] * len(made)
        self._passing = [(number, self.questions[number]) for number, filter_ in enumerate(self.filters) if not filter_.lasting]
        self._clean = True

    def admits(self, info: NodeInfo) -> bool:
        for number, question in enumerate(self.questions):
            if not question(info):
                self.refused[number] += 1
                self._clean = False
                return False
        if not self._clean:
            self.forget()
        return True

    def still_admits(self, info: NodeInfo) -> bool:
        """The same of a node that has passed before, in this tick: only what placing tasks may change is asked again."""
        for number, question in self._passing:
            if not question(info):
                self.refused[number] += 1
                self._clean = False
                return False
        if not self._clean:
            self.forget()
        return True

    def forget(self) -> None:
        """As if no node had been asked yet."""
        self.refused = [0] * len(self.questions)
        self._clean = True

    def reason(self, info: NodeInfo) -> str | None:
        """Why this node alone would be refused; None: it would not be."""
        return next((filter_.one for filter_, question in zip(self.filters, self.questions, strict=True) if not question(info)), None)

    def explain(self) -> str:
        """The refusals, the most frequent first; equal ones in the order of the pipeline."""
        parts = sorted(((count, filter_) for count, filter_ in zip(self.refused, self.filters, strict=True) if count), key=lambda part: -part[0])
        return "; ".join(filter_.words(count) for count, filter_ in parts)


# --------------------------------------------------------------------------------------------------------------------
# Preferences
# --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Branch:
    """The nodes that agree in the labels of the preferences so far (decision_tree.go), and the service's tasks that run on them already."""

    tasks: int = 0
    next: dict[str, _Branch] = field(default_factory=dict)
    nodes: list[NodeInfo] = field(default_factory=list)


def _label(descriptor: str) -> Callable[[Node], str] | None:
    """What a `spread=` preference spreads over; None for a descriptor that swarmkit passes over."""
    labels: tuple[tuple[str, Callable[[Node], Mapping[str, str]]], ...] = (
        ("node.labels.", lambda node: node.labels),
        ("engine.labels.", lambda node: node.engine_labels),
    )
    for prefix, of in labels:
        if descriptor[: len(prefix)].lower() == prefix and len(descriptor) > len(prefix):
            name = descriptor[len(prefix) :]
            return lambda node, of=of: of(node).get(name, "")  # type: ignore[misc]
    return None


@dataclass(frozen=True, slots=True)
class Reason:
    """What the scheduler thinks of a node for a task: its place among those that pass (from 1), or the filter that said no."""

    node: Node
    rank: int | None
    refused: str | None
    tasks_of_service: int
    tasks: int
    recent_failures: int
    free: Resources  # what is left to be reserved
    taken: frozenset[tuple[str, int]]  # (protocol, port) that are published in host mode
    branch: tuple[str, ...]  # the node's values for the task's spread preferences


class Scheduler:
    """Told of nodes and tasks as they change; `tick` places what waits."""

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self._tasks: dict[str, Task] = {}
        self._strangers: dict[str, dict[str, Task]] = {}  # tasks by their node, of which nobody has told
        self._waiting: dict[str, Task] = {}  # to be placed
        self._refused: dict[str, Task] = {}  # found no node: to be tried again when one may have room
        self._stirred = False  # something has changed since, that may help them
        self._verdicts = _Verdicts()
        self._levels = _Levels()
        self._preassigned: dict[str, Task] = {}  # of global services: to be confirmed
        self._denied: dict[str, Task] = {}  # of those, the ones that were not: as `_refused`

    # -- what is told --------------------------------------------------------------------------------------------------

    def node(self, node: Node) -> None:
        """A node that joined or changed."""
        self._stirred = True
        self._verdicts.forget(node.id)
        info = self._infos.get(node.id)
        if info is not None:
            info.update(node)
            return
        info = self._infos[node.id] = NodeInfo(node, len(self._infos), self._levels)
        for task in self._strangers.pop(node.id, {}).values():
            info.add(task)

    def node_removed(self, node: str) -> None:
        self._verdicts.forget(node)
        info = self._infos.pop(node, None)
        if info is not None:
            self._levels.leave(info)
            if info.tasks:
                self._strangers[node] = info.tasks

    def task(self, task: Task, now: float = 0.0) -> None:
        """A task that was made or changed (scheduler.go createTask, updateTask)."""
        if task.state < TaskState.PENDING:
            return  # not allocated yet
        old = self._tasks.get(task.id)
        if old is task:
            return  # placed here, and heard of again
        if task.state > TaskState.RUNNING:
            if old is not None:
                if old.state != task.state and task.state in (TaskState.FAILED, TaskState.REJECTED) and task.node in self._infos and task.slot:
                    self._infos[task.node].failed(task, now)
                self.task_removed(old)
            return
        if task.node and task.state > TaskState.PENDING:
            if old is not None and not (old.node and old.state > TaskState.PENDING):
                self._dequeued(task.id)
            self._tasks[task.id] = task
            info = self._infos.get(task.node)
            if info is None:
                self._strangers.setdefault(task.node, {})[task.id] = task
            else:
                if old is not None and old.desired <= _COMPLETE < task.desired:
                    self._stirred = True
                info.add(task)
            return
        if old is not None:
            self.task_removed(old)
        if task.desired > _COMPLETE:
            return  # nobody wants it any more: it is not placed
        self._tasks[task.id] = task
        (self._preassigned if task.node else self._waiting)[task.id] = task

    def task_removed(self, task: Task) -> None:
        self._dequeued(task.id)
        known = self._tasks.pop(task.id, None)
        if known is None or not known.node:
            return
        if known.node in self._infos:
            self._infos[known.node].remove(known)
            self._stirred = True
        elif known.node in self._strangers:
            self._strangers[known.node].pop(known.id, None)

    def _dequeued(self, id: str) -> None:
        self._waiting.pop(id, None)
        self._refused.pop(id, None)
        self._preassigned.pop(id, None)
        self._denied.pop(id, None)

    def failed(self, node: str, service: str, spec_version: int | None, at: float) -> None:
        """Remembers a failure on a node that is not seen through its tasks (a manager that has just started reads them from the store)."""
        self._infos[node].failed(Task("", service=service, spec_version=spec_version), at)

    # -- what is asked -------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> Iterable[Task]:
        return (*self._preassigned.values(), *self._denied.values(), *self._waiting.values(), *self._refused.values())

    @property
    def has_work(self) -> bool:
        """Whether a tick may place something."""
        return bool(self._waiting or self._preassigned or (self._stirred and (self._refused or self._denied)))

    def tick(self, now: float = 0.0) -> list[Task]:
        """Places what can be placed: the tasks that change, as ASSIGNED on a node, or still PENDING with an error that says why not."""
        if self._stirred:
            self._waiting.update(self._refused)
            self._preassigned.update(self._denied)
            self._refused, self._denied, self._stirred = {}, {}, False
        preassigned, self._preassigned = self._preassigned, {}
        changed = [self._confirm(task, now) for task in preassigned.values()]
        groups: dict[tuple[str, int | None, str], list[Task]] = {}
        for task in self._waiting.values():
            # Tasks without a version of their specification are placed one by one, after the others.
            key = (task.service, task.spec_version, "" if task.spec_version is not None else task.id)
            groups.setdefault(key, []).append(task)
        for key in sorted(groups, key=lambda key: key[1] is None):
            changed += self._place(groups[key], now)
        return [task for task in changed if task is not None]

    def explain(self, task: Task, now: float = 0.0) -> list[Reason]:
        """Node by node: which filter says no, and in which order the others would be chosen."""
        pipeline = _Pipeline(task, self._verdicts)
        order = self._order(task, now)
        refused = {info: pipeline.reason(info) for info in self._infos.values()}
        ranked = {info: rank for rank, info in enumerate(sorted((info for info, why in refused.items() if why is None), key=order), 1)}
        version = (task.service, task.spec_version)
        labels = [label for descriptor in task.spec.placement.preferences if (label := _label(descriptor)) is not None]
        return [
            Reason(
                info.node,
                ranked.get(info),
                why,
                info.active_of.get(task.service, 0),
                info.active,
                info.recent_failures(version, now),
                Resources(info.nano_cpus, info.memory, dict(info.generic)),
                frozenset(port for port, count in info.ports.items() if count),
                tuple(label(info.node) for label in labels),
            )
            for info, why in refused.items()
        ]

    # -- how ------------------------------------------------------------------------------------------------------------

    def _confirm(self, task: Task, now: float) -> Task | None:
        info = self._infos.get(task.node)
        if info is None:  # it is gone, or has not been told of yet
            self._denied[task.id] = task
            return None
        pipeline = _Pipeline(task, self._verdicts)
        if not pipeline.admits(info):
            self._denied[task.id] = task
            return self._told(task, pipeline.explain(), self._denied)
        placed = task.told(TaskState.ASSIGNED, CONFIRMED, now)
        self._tasks[task.id] = placed
        info.add(placed)
        return placed

    def _place(self, group: list[Task], now: float) -> list[Task | None]:
        task = group[0]
        pipeline = _Pipeline(task, self._verdicts)
        order = self._order(task, now)
        placed: list[Task | None] = []
        left = group[::-1]  # taken from the end
        best = self._best(task, len(group), pipeline, now)
        if best is not None:
            self._fill_nodes(len(group), left, best, pipeline, order, placed, now)
        else:
            self._fill(len(group), left, self._tree(task, len(group), pipeline, order), pipeline, order, placed, now)
        if left:
            why = pipeline.explain()
            error = f"no suitable node ({why})" if why else "no suitable node"
            if placed:
                self._stirred = True  # the others may find room in a second pass
            for task in left:
                del self._waiting[task.id]
                self._refused[task.id] = task
            placed += [self._told(task, error, self._refused) for task in left]
        return placed

    def _told(self, task: Task, error: str, queue: dict[str, Task]) -> Task | None:
        """The task with the reason why it waits; None when it says so already."""
        if task.error == error:
            return None
        task = queue[task.id] = self._tasks[task.id] = replace(task, error=error)
        return task

    def _order(self, task: Task, now: float) -> Callable[[NodeInfo], tuple[int, int, int]]:
        """The smaller the better (scheduler.go nodeLess): failures count when there are many, then tasks of the service, then all tasks."""
        service, version = task.service, (task.service, task.spec_version)

        def order(info: NodeInfo) -> tuple[int, int, int]:
            failures = info.recent_failures(version, now) if info.failures else 0
            return failures if failures >= MAX_FAILURES else 0, info.active_of.get(service, 0), info.active

        return order

    def _best(self, task: Task, most: int, pipeline: _Pipeline, now: float) -> list[NodeInfo] | None:
        """The best nodes for so many tasks, the best first, asking the filters of no more nodes than it must; None: look at all of them.

        Each of these takes at least one task, so that none is left over whose refusals would have to be counted.
        """
        if most >= len(self._infos) or any(_label(descriptor) is not None for descriptor in task.spec.placement.preferences):
            return None
        service, version = task.service, (task.service, task.spec_version)
        found: list[NodeInfo] = []
        others: dict[int, list[NodeInfo]] = {}  # by the tasks of the service that they run
        for info in self._levels:
            if info.failures and info.recent_failures(version, now) >= MAX_FAILURES:
                continue  # the last choice
            if count := info.active_of.get(service):
                others.setdefault(count, []).append(info)
            elif pipeline.admits(info):
                found.append(info)
                if len(found) == most:
                    return found
        for count in sorted(others):
            for info in others[count]:
                if pipeline.admits(info):
                    found.append(info)
                    if len(found) == most:
                        return found
        pipeline.forget()
        return None

    def _tree(self, task: Task, most: int, pipeline: _Pipeline, order: Callable[[NodeInfo], tuple[int, int, int]]) -> _Branch:
        """The nodes that pass, at most as many a branch as there are tasks, the best ones; branches by the labels of the preferences."""
        labels = [label for descriptor in task.spec.placement.preferences if (label := _label(descriptor)) is not None]
        root = _Branch()
        leaves = {id(root): root}
        for info in self._infos.values():
            branch = root
            if labels:
                count = info.active_of.get(task.service, 0)
                branch.tasks += count
                for label in labels:
                    branch = branch.next.setdefault(label(info.node), _Branch())
                    branch.tasks += count
                leaves[id(branch)] = branch
            if pipeline.admits(info):
                branch.nodes.append(info)
        for leaf in leaves.values():
            leaf.nodes = nsmallest(most, leaf.nodes, key=order) if most < len(leaf.nodes) else sorted(leaf.nodes, key=order)
        return root

    def _fill(
        self,
        wanted: int,
        left: list[Task],
        branch: _Branch,
        pipeline: _Pipeline,
        order: Callable[[NodeInfo], tuple[int, int, int]],
        placed: list[Task | None],
        now: float,
    ) -> int:
        """Places `wanted` tasks below a branch, and says how many it could (scheduleNTasksOnSubtree)."""
        if not branch.next:
            # Asked a second time, nodes may have filled up, or changed their order.
            nodes = sorted((info for info in branch.nodes if pipeline.still_admits(info)), key=order) if placed else branch.nodes
            return self._fill_nodes(wanted, left, nodes, pipeline, order, placed, now) if nodes else 0
        done = 0
        usable = branch.tasks
        full: set[int] = set()
        while done != wanted and len(full) != len(branch.next):
            each, remainder = divmod(usable + wanted - done, len(branch.next) - len(full))
            for number, below in enumerate(branch.next.values()):
                if number in full or not (below.tasks < each or (below.tasks == each and remainder > 0)):
                    continue
                asked = each - below.tasks + (remainder > 0)
                got = self._fill(asked, left, below, pipeline, order, placed, now)
                if got < asked:
                    full.add(number)
                    usable -= below.tasks
                elif remainder > 0:
                    remainder -= 1
                done += got
        return done

    def _fill_nodes(
        self,
        wanted: int,
        left: list[Task],
        nodes: Sequence[NodeInfo],
        pipeline: _Pipeline,
        order: Callable[[NodeInfo], tuple[int, int, int]],
        placed: list[Task | None],
        now: float,
    ) -> int:
        """One task after the other, from the best node on (scheduleNTasksOnNodes)."""
        count = len(nodes)
        full: set[int] = set()
        at = done = 0
        while left and done < wanted:
            task = left.pop()
            info = nodes[at % count]
            chosen = task.told(TaskState.ASSIGNED, ASSIGNED, now, node=info.node.id)
            del self._waiting[task.id]
            self._tasks[task.id] = chosen
            info.add(chosen)
            placed.append(chosen)
            done += 1
            if done == wanted:
                break
            # At first a node is filled until the next one is better; once the last one is reached, each gets one in turn.
            if at + 1 >= count or order(nodes[at + 1]) < order(info):
                at += 1
            before = at
            while at % count in full or not pipeline.still_admits(nodes[at % count]):
                full.add(at % count)
                at += 1
                if at - before == count:
                    return done
        return done
