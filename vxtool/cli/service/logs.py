"""`vxtool service logs`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vxtool.cli.swarming import SERVICE, lab_option

if TYPE_CHECKING:
    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.objects import Task
    from vxtool.swarm.view import View

__all__ = ["command"]

_PAUSE = 0.5
"""Seconds until the logs that are followed are looked at again."""


@click.command("logs")
@click.argument("name", metavar="SERVICE|TASK", shell_complete=SERVICE)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--tail", metavar="N", default="all", show_default=True, help="Only the last lines of each task.")
@click.option("--raw", is_flag=True, help="The lines alone, without their tasks.")
@click.option("--no-resolve", is_flag=True, help="Ids instead of names.")
@click.option("--no-task-ids", is_flag=True, help="Names without the tasks' ids.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option("-t", "--timestamps", is_flag=True, hidden=True)
@click.option("--since", hidden=True)
@click.option("--details", is_flag=True, hidden=True)
@lab_option
def command(
    name: str,
    follow: bool,
    tail: str,
    raw: bool,
    no_resolve: bool,
    no_task_ids: bool,
    no_trunc: bool,
    timestamps: bool,
    since: str | None,
    details: bool,
    lab: str | None,
) -> None:
    """Show what the tasks of a service, or one task, have written; each line begins with its task and node.

    \b
    Examples:
      vxtool service logs web
      vxtool service logs -f --tail 10 web
    """
    from vxtool.cli.swarming import swarm
    from vxtool.errors import UsageError

    for flag, asked in (("timestamps", timestamps), ("since", since), ("details", details)):
        if asked:
            raise UsageError(f"the logs of a lab are what programs write, without times and details: leave --{flag} out")
    most = _lines(tail)
    client = swarm(lab)
    view = client.view()
    tasks = _tasks(view, name)
    reading: dict[str, _Log] = {}
    while True:
        for task in tasks:
            if task.id not in reading:
                head = "" if raw else _head(view, task, no_resolve, no_task_ids, no_trunc)
                reading[task.id] = _Log(task.id, head)
        lines = [log.lines(client, most) for log in reading.values()]
        _print(lines)
        most = None
        if not follow:
            _print([log.rest() for log in reading.values()])
            return
        view = client.wait(_PAUSE)
        tasks = _tasks(view, name)


def _lines(text: str) -> int | None:
    from vxtool.errors import UsageError
    from vxtool.swarm import parsing

    if text == "all":
        return None
    try:
        return parsing.number(text)
    except UsageError:
        raise UsageError(f"invalid value for tail: {text!r} is neither a number of lines nor all") from None


def _tasks(view: View, name: str) -> list[Task]:
    """A service's tasks that have been on a node, the oldest first; or the task of that name."""
    from vxtool.errors import UsageError

    try:
        return [task for task in view.tasks_of.get(view.service(name).id, ()) if task.node]
    except UsageError:
        try:
            return [view.task(name)]
        except UsageError:
            raise UsageError(f"no such task or service: {name}") from None


def _head(view: View, task: Task, no_resolve: bool, no_task_ids: bool, no_trunc: bool) -> str:
    """`web.1.u99am79704qv@vm2`."""
    from vxtool.cli.docker_tables import short

    if not task.service:
        name = view.task_name(task)
    else:
        name = f"{short(task.service, no_trunc)}.{task.slot or task.node}" if no_resolve else view.slot_name(task)
        name += "" if no_task_ids else f".{short(task.id, no_trunc)}"
    node = view.nodes.get(task.node)
    return f"{name}@{task.node if no_resolve or node is None else node.hostname or node.id}"


class _Log:
    """One task's log, read on from where it was left; a line that is not ended yet waits."""

    def __init__(self, task: str, head: str) -> None:
        self._task = task
        self._offset = 0
        self._open = ""
        self.head = head
        self.color = zlib.crc32(task.encode()) % 6

    def lines(self, client: SwarmClient, most: int | None = None) -> tuple[_Log, list[str]]:
        text = self._open + "".join(self._pieces(client))
        *lines, self._open = text.split("\n")
        if most is not None:
            if not self._open:
                lines = lines[-most:] if most else []
            else:
                lines = lines[-(most - 1) :] if most > 1 else []
                self._open = self._open if most else ""
        return self, lines

    def rest(self) -> tuple[_Log, list[str]]:
        return self, [self._open] if self._open else []

    def _pieces(self, client: SwarmClient) -> Iterator[str]:
        while True:
            text, self._offset = client.logs(self._task, self._offset)
            if not text:
                return
            yield text


def _print(logs: list[tuple[_Log, list[str]]]) -> None:
    import sys

    width = max((len(log.head) for log, _ in logs), default=0)
    colored = sys.stdout.isatty()
    for log, lines in logs:
        head = f"{log.head:<{width}}    | " if log.head else ""
        head = f"\x1b[3{log.color + 1}m{head}\x1b[0m" if colored and head else head
        for line in lines:
            click.echo(head + "".join(character if character.isprintable() or character == "\t" else "?" for character in line.rstrip("\r")))
