"""Where the next task of a service would go, and why not elsewhere: the scheduler's own filters and order, asked for reasons.

Knows views; decides nothing: a scheduler of its own is told of the same nodes and tasks, and asked. It hears of failures through the tasks that have
failed: those that the history no longer has, it does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from vxtool.errors import UsageError
from vxtool.model import NodeState, PublishMode, ServiceMode, TaskState
from vxtool.swarm import constraint
from vxtool.swarm.objects import Node, Service, Task
from vxtool.swarm.scheduler import MAX_FAILURES, MONITORED, Reason, Scheduler
from vxtool.swarm.tasks import new_task
from vxtool.swarm.view import View

__all__ = ["Explanation", "Verdict", "explain"]

_NEXT = "next"
_GLOBAL = (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the next task on one node."""

    node: Node
    rank: int | None  # from 1, equal ones share it; None: a filter says no
    refused: str  # the filter, in swarmkit's words without the count: "insufficient resources"
    detail: str  # the numbers: "cpus: asked 2, free 0.5"
    tasks_of_service: int
    tasks: int
    failures: int  # of this version of the service, in the last five minutes
    branch: tuple[str, ...]  # its values for the service's spread preferences


@dataclass(frozen=True, slots=True)
class Explanation:
    service: Service
    chosen: Node | None  # where the next task would go; of a global service None
    error: str  # why nowhere, as the task itself would say it
    verdicts: tuple[Verdict, ...]  # the best first, then those refused
    waiting: tuple[Task, ...]  # tasks of the service that have no place now


def explain(view: View, service: Service) -> Explanation:
    """`chosen` is what the scheduler itself does when one more task comes: preferences may choose another than the first in rank."""
    everywhere = service.spec.mode in _GLOBAL
    tasks = view.tasks_of.get(service.id, ())
    task = new_task(service, _NEXT, max((one.slot for one in tasks), default=0) + 1, "", view.now)
    task = task.told(TaskState.PENDING, "", view.now)
    scheduler = _told(view, leave_out=service.id if everywhere else "")
    reasons = scheduler.explain(task, view.now)
    verdicts = sorted(_shared(_verdict(task, reason) for reason in reasons), key=lambda one: (one.rank is None, one.rank or 0, one.node.hostname))
    waiting = tuple(one for one in tasks if one.state is TaskState.PENDING and one.desired <= TaskState.COMPLETE and one.error)
    chosen, error = (None, "") if everywhere else _placed(view, scheduler, task)
    return Explanation(service, chosen, error, tuple(verdicts), waiting)


def _told(view: View, leave_out: str) -> Scheduler:
    """A scheduler that knows what there is. The own tasks of a global service are left out: on each node the question is about that very task."""
    scheduler = Scheduler()
    for node in view.nodes.values():
        scheduler.node(node)
    for task in view.tasks.values():
        if task.service != leave_out and task.node:
            scheduler.task(task, view.now)
        if task.state in (TaskState.FAILED, TaskState.REJECTED) and task.slot and task.node in view.nodes and task.changed_at >= view.now - MONITORED:
            scheduler.failed(task.node, task.service, task.spec_version, task.changed_at)
    return scheduler


def _placed(view: View, scheduler: Scheduler, task: Task) -> tuple[Node | None, str]:
    scheduler.task(task, view.now)
    placed = next((one for one in scheduler.tick(view.now) if one.id == _NEXT), task)
    return view.nodes.get(placed.node), placed.error


def _shared(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """With one rank for nodes between which the scheduler sees no difference."""
    shared: dict[tuple[int, int, int], int] = {}
    for one in sorted(verdicts, key=lambda one: one.rank or 0):
        if one.rank is None:
            yield one
        else:
            same = (one.failures if one.failures >= MAX_FAILURES else 0, one.tasks_of_service, one.tasks)
            yield replace(one, rank=shared.setdefault(same, one.rank))


def _verdict(task: Task, reason: Reason) -> Verdict:
    refused = _words(reason.refused) if reason.refused is not None else ""
    detail = _DETAILS[refused](task, reason) if refused in _DETAILS else ""
    return Verdict(reason.node, reason.rank, refused, detail, reason.tasks_of_service, reason.tasks, reason.recent_failures, reason.branch)


def _words(refused: str) -> str:
    return refused.removesuffix(" on 1 node").removeprefix("1 node ")


# --------------------------------------------------------------------------------------------------------------------
# The numbers
# --------------------------------------------------------------------------------------------------------------------


def _unavailable(task: Task, reason: Reason) -> str:
    node = reason.node
    return f"it is {node.state.value}" if node.state is not NodeState.READY else f"its availability is {node.availability.value}"


def _resources(task: Task, reason: Reason) -> str:
    wanted, free = task.spec.reservations, reason.free
    short = []
    if wanted.nano_cpus > free.nano_cpus:
        short.append(f"cpus: asked {_cpus(wanted.nano_cpus)}, free {_cpus(free.nano_cpus)}")
    if wanted.memory_bytes > free.memory_bytes:
        short.append(f"memory: asked {_size(wanted.memory_bytes)}, free {_size(free.memory_bytes)}")
    for kind, count in sorted(wanted.generic.items()):
        if count > free.generic.get(kind, 0):
            short.append(f"{kind}: asked {count}, free {free.generic.get(kind, 0)}")
    return "; ".join(short)


def _cpus(nano: int) -> str:
    return f"{nano / 1_000_000_000:g}"


def _size(count: int) -> str:
    """In the largest unit that leaves a number of at least 1: `512MiB`."""
    for place, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(count) >= 1 << place:
            return f"{count / (1 << place):.4g}{unit}"
    return f"{count}B"


def _constraints(task: Task, reason: Reason) -> str:
    return "; ".join(text for text in task.spec.placement.constraints if not constraint.node_matches(_parsed(text), reason.node))


def _parsed(text: str) -> tuple[constraint.Constraint, ...]:
    try:
        return constraint.parse((text,))
    except UsageError:  # was refused when the service was made
        return ()


def _platform(task: Task, reason: Reason) -> str:
    wanted = ", ".join(f"{platform.os or 'any'}/{platform.arch or 'any'}" for platform in task.spec.placement.platforms)
    own = reason.node.platform
    return f"asked {wanted}, it is {own.os}/{own.arch}" if own is not None else f"asked {wanted}, it has not told its own"


def _host_ports(task: Task, reason: Reason) -> str:
    asked = [(port.protocol, port.published) for port in task.endpoint.ports if port.mode is PublishMode.HOST and port.published]
    return ", ".join(f"{number}/{protocol}" for protocol, number in asked if (protocol, number) in reason.taken)


def _plugins(task: Task, reason: Reason) -> str:
    spec = task.spec
    wanted = [*spec.network_drivers, *(driver for driver in spec.volume_drivers if driver not in ("", "local")), *filter(None, [spec.log_driver])]
    known = {name.removesuffix(":latest") for _, name in reason.node.plugins}
    return ", ".join(driver for driver in wanted if driver.removesuffix(":latest") not in known)


def _most(task: Task, reason: Reason) -> str:
    return f"at most {task.spec.placement.max_replicas}, {reason.tasks_of_service} there"


_DETAILS: Mapping[str, Callable[[Task, Reason], str]] = {
    "not available for new tasks": _unavailable,
    "insufficient resources": _resources,
    "missing plugin": _plugins,
    "scheduling constraints not satisfied": _constraints,
    "unsupported platform": _platform,
    "host-mode port already in use": _host_ports,
    "max replicas per node limit exceed": _most,
}
"""The scheduler's reason -> what tells it more exactly."""
