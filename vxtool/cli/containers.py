"""Containers of a lab's swarm as `docker ps`, `rm` and `stop` have them: tasks of services, and those that `vxtool run` has started.

Knows what their states are called and how users name them; not how they come to be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vxtool.errors import UsageError
from vxtool.model import PublishMode, TaskState

from .docker_tables import go_time, has_labels, human_duration, short

if TYPE_CHECKING:
    from vxtool.swarm.objects import Task
    from vxtool.swarm.view import View

__all__ = ["FILTERS", "exit_code", "found", "own", "row", "selected"]


def found(view: View, name: str) -> Task:
    """By name, id, or the beginning of an id. UsageError in Docker's words."""
    called = [task for task in view.tasks.values() if view.task_name(task) == name and task.desired < TaskState.REMOVE]
    if len(called) == 1:
        return called[0]
    try:
        return view.task(name)
    except UsageError as error:
        raise UsageError(f"No such container: {name}" if str(error).startswith("no such task") else str(error)) from None


def own(view: View, name: str) -> Task:
    """One that belongs to no service: the others are their service's affair."""
    task = found(view, name)
    if task.service:
        service = view.services.get(task.service)
        called = service.spec.name if service is not None else task.service
        raise UsageError(
            f"container {name} is a task of the service {called}, which would replace it:"
            f" vxtool service scale {called}=N, or vxtool service rm {called}, ends it"
        )
    return task


def exit_code(task: Task) -> int | None:
    """As its agent has written it down; None when it has not ended by itself."""
    if task.state is TaskState.COMPLETE:
        return 0
    said = re.search(r"exit \((-?\d{1,5})\)", task.error)
    return int(said[1]) if said else None


# --------------------------------------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------------------------------------

_STATES: Mapping[TaskState, str] = {
    **dict.fromkeys(TaskState, "created"),
    TaskState.RUNNING: "running",
    TaskState.COMPLETE: "exited",
    TaskState.SHUTDOWN: "exited",
    TaskState.FAILED: "exited",
    TaskState.REMOVE: "removing",
    TaskState.ORPHANED: "dead",
}
"""What Docker calls a container of a task in that state. One that was rejected has never begun."""

_COMMAND = 20
"""Characters of a command in a table."""


def row(view: View, task: Task, *, whole: bool = False) -> Mapping[str, Any]:
    """Fields of `docker ps --format`, and Node. `whole`: --no-trunc."""
    node = view.nodes.get(task.node)
    return {
        "ID": short(view.container_id(task), whole),
        "Names": view.task_name(task),
        "Image": task.spec.image,
        "Command": _command(task, whole),
        "CreatedAt": go_time(task.created_at),
        "RunningFor": f"{human_duration(max(0.0, view.now - task.created_at))} ago",
        "State": _state(task),
        "Status": _status(view, task),
        "Ports": _ports(task),
        "Networks": ",".join(view.networks[one.network].spec.name for one in task.networks if one.network in view.networks),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(task.spec.labels.items())),
        "Label": lambda key: task.spec.labels.get(key, ""),
        "Node": (node.hostname or node.id) if node is not None else "",
    }


def _state(task: Task) -> str:
    return "created" if task.state is TaskState.FAILED and "starting container failed" in task.error else _STATES[task.state]


def _command(task: Task, whole: bool) -> str:
    words = " ".join((*task.spec.command, *task.spec.args)) or task.spec.image.partition("@")[0].partition(":")[0].rpartition("/")[2]
    return json.dumps(words if whole or len(words) <= _COMMAND else f"{words[: _COMMAND - 1]}…", ensure_ascii=False)


def _status(view: View, task: Task) -> str:
    since = max(0.0, view.now - task.changed_at)
    state = _state(task)
    if state == "running":
        return f"Up {human_duration(since)}"
    if state == "exited":
        code = exit_code(task)
        return f"Exited {human_duration(since)} ago" if code is None else f"Exited ({code}) {human_duration(since)} ago"
    return {"created": "Created", "removing": "Removal In Progress", "dead": "Dead"}[state]


def _ports(task: Task) -> str:
    """Those of its node; the ones of the mesh are the service's."""
    ports = [port for port in task.endpoint.ports if port.mode is PublishMode.HOST and port.published]
    return ", ".join(f"0.0.0.0:{port.published}->{port.target}/{port.protocol}" for port in ports)


# --------------------------------------------------------------------------------------------------------------------
# Choosing
# --------------------------------------------------------------------------------------------------------------------


def _network(view: View, task: Task, wanted: str) -> bool:
    there = [(one.network, view.networks[one.network].spec.name) for one in task.networks if one.network in view.networks]
    return any(wanted in (id, name) for id, name in there)


def _node(view: View, task: Task, wanted: str) -> bool:
    node = view.nodes.get(task.node)
    return node is not None and wanted in (node.id, node.hostname)


FILTERS: Mapping[str, Callable[[View, Task, str], bool]] = {
    "ancestor": lambda view, task, wanted: wanted in (task.spec.image, task.spec.image.partition(":")[0]),
    "exited": lambda view, task, wanted: str(exit_code(task)) == wanted,
    "id": lambda view, task, wanted: view.container_id(task).startswith(wanted),
    "is-task": lambda view, task, wanted: bool(task.service) is (wanted.lower() in ("1", "t", "true")),
    "label": lambda view, task, wanted: has_labels(task.spec.labels, (wanted,)),
    "name": lambda view, task, wanted: wanted in view.task_name(task),
    "network": _network,
    "node": _node,
    "status": lambda view, task, wanted: _state(task) == wanted.lower(),
}
"""Of several values of one filter one must hold; of labels each, as with Docker."""


def selected(view: View, asked: Mapping[str, list[str]], *, ended: bool, last: int = 0) -> Iterable[Task]:
    """Newest first. Without `ended`, `last` or a filter for it, only what runs."""
    there = [task for task in view.tasks.values() if task.node]
    everything = ended or last > 0 or "status" in asked or "exited" in asked
    chosen = [task for task in there if (everything or task.state is TaskState.RUNNING) and _passes(view, task, asked)]
    chosen.sort(key=lambda task: task.created_at, reverse=True)
    return chosen[:last] if last > 0 else chosen


def _passes(view: View, task: Task, asked: Mapping[str, list[str]]) -> bool:
    for name, values in asked.items():
        holds = (FILTERS[name](view, task, value) for value in values)
        if not (all(holds) if name == "label" else any(holds)):
            return False
    return True
