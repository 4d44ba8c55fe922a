"""The table of tasks that `service ps`, `node ps` and `stack ps` print.

Knows its columns, its order and its filters (docker/cli cli/command/task); not whose tasks they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vxtool.errors import UsageError
from vxtool.model import PublishMode, TaskState
from vxtool.swarm.clusters import exists
from vxtool.swarm.objects import Task
from vxtool.swarm.view import View

from .docker_tables import ago, filters, has_labels, listing, natural, short

__all__ = ["FILTERS", "chosen_tasks", "plain_image", "task_table"]

FILTERS = ("desired-state", "id", "label", "name", "node", "service")

_HEADERS = {
    "ID": "ID",
    "Name": "NAME",
    "Image": "IMAGE",
    "Node": "NODE",
    "DesiredState": "DESIRED STATE",
    "CurrentState": "CURRENT STATE",
    "Error": "ERROR",
    "Ports": "PORTS",
}
_TABLE = "table {{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}"
_LONGEST_ERROR = 30

_DESIRED = {
    "running": (TaskState.NEW, TaskState.RUNNING),
    "shutdown": (TaskState.COMPLETE, TaskState.SHUTDOWN),
    "accepted": (TaskState.NEW, TaskState.ACCEPTED),
}
"""What `--filter desired-state=` may ask for: the desired states that it means, from and to (swarmkit: running also what is being started)."""


def task_table(
    view: View,
    tasks: Iterable[Task],
    *,
    format: str | None = None,
    quiet: bool = False,
    no_trunc: bool = False,
    no_resolve: bool = False,
) -> str:
    """The text to print. Tasks of one slot stand together, the newest first, the older ones marked ` \\_ ` as its history."""
    named = [(_name(view, task, no_resolve), task) for task in tasks]
    named.sort(key=lambda pair: pair[1].created_at, reverse=True)
    named.sort(key=lambda pair: natural(pair[0]))
    indent = " \\_ " if (format or "table").startswith("table") else ""
    rows = []
    before = None
    for name, task in named:
        node = view.nodes.get(task.node)
        hostname = node.hostname or node.id if node is not None and not no_resolve else task.node
        rows.append(
            {
                "ID": short(task.id, no_trunc),
                "Name": f"{indent}{name}" if name == before else name,
                "Image": task.spec.image if no_trunc else plain_image(task.spec.image),
                "Node": hostname,
                "DesiredState": task.desired.name.capitalize(),
                "CurrentState": f"{task.state.name.capitalize()} {ago(view.now - task.changed_at)}",
                "Error": _error(task.error, no_trunc),
                "Ports": ",".join(_host_ports(task)),
            }
        )
        before = name
    return listing(rows, _HEADERS, _TABLE, format=format, quiet=quiet, kind="task.taskContext")


def chosen_tasks(view: View, tasks: Iterable[Task], texts: Sequence[str], known: Sequence[str]) -> list[Task]:
    """Those of the tasks that `--filter` asks for; `known`: which filters the verb has."""
    asked = filters(texts, known)
    nodes = {view.node(name).id for name in asked.get("node", ())}
    services = {view.service(name).id for name in asked.get("service", ())}
    desired = [_desired(value) for value in asked.get("desired-state", ())]
    return [
        task
        for task in tasks
        if (not nodes or task.node in nodes)
        and (not services or task.service in services)
        and ("id" not in asked or any(task.id.startswith(id) for id in asked["id"]))
        and ("name" not in asked or any(_name(view, task, False).startswith(name) or view.task_name(task) == name for name in asked["name"]))
        and has_labels(task.spec.labels, asked.get("label", ()))
        and (not desired or any(first <= task.desired <= last for first, last in desired))
    ]


def _desired(text: str) -> tuple[TaskState, TaskState]:
    if text not in _DESIRED:
        raise UsageError(f"invalid desired-state filter: '{text}' (there are {', '.join(_DESIRED)})")
    return _DESIRED[text]


def _name(view: View, task: Task, no_resolve: bool) -> str:
    """`web.1`, of a global service `web.NODE`; a container's own name where there is no service."""
    if not task.service:
        return view.task_name(task)
    return f"{task.service}.{task.slot or task.node}" if no_resolve else view.slot_name(task)


def plain_image(image: str) -> str:
    """Without its digest, where it has a tag."""
    from vxtool.swarm import parsing

    name, _, _ = image.partition("@")
    try:
        return parsing.image(name) if ":" in name.rpartition("/")[2] else image
    except UsageError:
        return image


def _error(text: str, whole: bool) -> str:
    if not text:
        return ""
    return f'"{text if whole or len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"}"'


def _host_ports(task: Task) -> list[str]:
    """A running task's ports in host mode; those of the mesh are the service's."""
    if not exists(task):
        return []
    return [f"*:{port.published}->{port.target}/{port.protocol}" for port in task.endpoint.ports if port.mode is PublishMode.HOST]
