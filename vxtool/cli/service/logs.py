"""`vxtool service logs`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vxtool.cli.printable import printable
from vxtool.cli.swarming import SERVICE, lab_option

if TYPE_CHECKING:
    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.objects import Task
    from vxtool.swarm.view import View

__all__ = ["command"]

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ", re.ASCII)

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
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time of its writing.")
@click.option("--since", metavar="TIME", help="Only what was written since: 2026-11-28T20:13:55Z, or 10m for ten minutes ago.")
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
    from vxtool.cli.moments import moment
    from vxtool.cli.swarming import swarm
    from vxtool.errors import UsageError

    if details:
        raise UsageError("a lab's log driver adds no details to lines: leave --details out")
    most = _lines(tail)
    client = swarm(lab)
    view = client.view()
    begin = _stamp(moment(since, view.now)) if since is not None else ""
    reading: dict[str, _Log] = {}
    while True:
        for task in _tasks(view, name):
            if task.id not in reading:
                head = "" if raw else _head(view, task, no_resolve, no_task_ids, no_trunc)
                reading[task.id] = _Log(task.id, head)
        lines = [line for log in reading.values() for line in log.lines(client, begin, most, last=not follow)]
        _print(lines, timestamps)
        most = None
        if not follow:
            return
        view = client.wait(_PAUSE)


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


@dataclass(frozen=True, slots=True)
class _Line:
    stamp: str  # when it was written; "" where the log does not say
    text: str
    log: _Log


class _Log:
    """One task's log, read on from where it was left; a line that is not ended yet waits."""

    def __init__(self, task: str, head: str) -> None:
        self._task = task
        self._offset = 0
        self._open = ""
        self.head = head
        self.color = zlib.crc32(task.encode()) % 6 + 1

    def lines(self, client: SwarmClient, begin: str, most: int | None, last: bool) -> list[_Line]:
        """What is new: not before `begin`, the last `most` ones; with `last` the one that is not ended, too."""
        *texts, self._open = (self._open + "".join(self._pieces(client))).split("\n")
        if last and self._open:
            texts.append(self._open)
        lines = [line for text in texts if (line := self._line(text)).stamp >= begin]
        return lines if most is None else lines[len(lines) - min(most, len(lines)) :]

    def _line(self, text: str) -> _Line:
        stamp = _STAMPED.match(text)
        return _Line(stamp[1] if stamp else "", text[stamp.end() :] if stamp else text, self)

    def _pieces(self, client: SwarmClient) -> Iterator[str]:
        while True:
            text, self._offset = client.logs(self._task, self._offset)
            if not text:
                return
            yield text


def _stamp(seconds: float) -> str:
    """As the lines of a log begin; it can be compared with them as a text."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _print(lines: list[_Line], timestamps: bool) -> None:
    """In the order of their writing."""
    import sys

    width = max((len(line.log.head) for line in lines), default=0)
    colored = sys.stdout.isatty()
    for line in sorted(lines, key=lambda line: line.stamp):
        head = f"{line.log.head:<{width}}    | " if line.log.head else ""
        head = f"\x1b[3{line.log.color}m{head}\x1b[0m" if colored and head else head
        text = printable(line.text.rstrip("\r"), "\t")
        click.echo(f"{line.stamp} {head}{text}" if timestamps and line.stamp else f"{head}{text}")
