"""Waiting until a service is what it should be, and telling how far it is: what `service create`, `update`, `scale` and `rollback` end with.

Knows when a service has converged and which lines say so (docker/cli cli/command/service/progress), and how they are shown on a terminal and
elsewhere. Looks at views, one after the other; the time is the swarm's.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.objects import Service, Task
    from vxtool.swarm.view import View

__all__ = ["Lines", "Watch", "detach_option", "quiet_option", "wait_for"]

F = TypeVar("F", bound=Callable[..., Any])

detach_option = click.option("-d", "--detach", is_flag=True, help="Do not wait until the service has converged.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing of the progress.")

_PAUSE = 0.2
"""Seconds until the next look, when nothing happens."""

_MOST_BARS = 20
_STATES = (
    "new",
    "allocated",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "shutdown",
    "failed",
    "rejected",
)
_RUNNING = _STATES.index("running") + 1
_WIDTH = len("preparing")
_LONGEST_ERROR = 75


def wait_for(client: SwarmClient, id: str, quiet: bool = False, out: Lines | None = None, name: str = "") -> int:
    """Returns when the service has converged and stayed so for a while, or never will: 0, or 1 for an update that was paused.

    Ctrl-C ends the waiting, and nothing else.
    """
    lines: Lines = out or (_Silence() if quiet else _Terminal() if sys.stdout.isatty() else _Plain())
    watch = Watch(id, lines, name)
    view = client.view()
    try:
        while not watch.look(view):
            view = client.wait(_PAUSE)
    except KeyboardInterrupt:
        if not watch.converged:
            lines.say("Operation continuing in background.")
            lines.say(f"Use `vxtool service ps {id}` to check progress.")
        return 0
    if watch.failure:
        click.echo(watch.failure, err=True)
        return 1
    return 0


# --------------------------------------------------------------------------------------------------------------------
# What is told
# --------------------------------------------------------------------------------------------------------------------


class Lines(Protocol):
    def put(self, name: str, text: str, part: float | None = None) -> None:
        """The line called `name` says `text` now; `part`: how much of it is done, from 0 to 1."""

    def say(self, text: str) -> None:
        """A line that stays."""


class _Silence:
    def put(self, name: str, text: str, part: float | None = None) -> None:
        pass

    def say(self, text: str) -> None:
        pass


class _Plain:
    """One line after the other: those with a bar, of which there would be hundreds, are left out, as Docker leaves them out."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def put(self, name: str, text: str, part: float | None = None) -> None:
        if part is None and self._said.get(name) != text:
            self._said[name] = text
            click.echo(f"{name}: {_shown(text)}".rstrip())

    def say(self, text: str) -> None:
        click.echo(_shown(text))


class _Terminal:
    """Lines that are written over where they stand."""

    _BAR = 50

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def put(self, name: str, text: str, part: float | None = None) -> None:
        size = shutil.get_terminal_size()
        line = f"{name}: {_shown(text)}"
        if part is not None and size.columns > 110:
            done = int(min(max(part, 0.0), 1.0) * self._BAR)
            line += f" [{'=' * done}>{' ' * (self._BAR - done)}]"
        line = line[: max(size.columns - 1, 20)]
        if self._lines.get(name) == line:
            return
        if name not in self._lines:
            self._lines[name] = line
            click.echo(line)
            return
        up = len(self._lines) - list(self._lines).index(name)
        self._lines[name] = line
        if up < size.lines:  # what has left the screen cannot be written over
            click.echo(f"\x1b[{up}A\r\x1b[2K{line}\x1b[{up}B\r", nl=False, color=True)

    def say(self, text: str) -> None:
        click.echo(_shown(text))


def _shown(text: str) -> str:
    """In one line, and without what a terminal might obey."""
    return "".join(character if character.isprintable() else " " if character == "\n" else "?" for character in text)


# --------------------------------------------------------------------------------------------------------------------
# When it is so
# --------------------------------------------------------------------------------------------------------------------


class Watch:
    """One service, looked at again and again. `failure`: why the update went no further. `name`: what it is called at the end, if not by its id."""

    def __init__(self, id: str, lines: Lines, name: str = "") -> None:
        self._id = id
        self._name = name or id
        self._lines = lines
        self.converged = False
        self.failure = ""
        self._since: float | None = None  # it has converged
        self._rollback = False
        self._message = ""
        self._begun = False
        self._done = False
        self._slots: dict[int, int] = {}  # slot -> its place among the lines

    def look(self, view: View) -> bool:
        """Whether there is nothing more to wait for."""
        from vxtool.errors import UsageError
        from vxtool.swarm.restart import JOBS

        service = view.services.get(self._id)
        if service is None:
            raise UsageError(f"no such service: {self._id}")
        if self._update(service):
            return True
        monitor = service.spec.update.monitor or 5.0
        if self.converged and self._since is not None and view.now - self._since >= monitor:
            self._lines.put("verify", f"Service {self._name} converged")
            if self._message:
                self._lines.put("rollback", self._message)
            return True
        job = service.spec.mode in JOBS
        self.converged = self._job(view, service) if job else self._service(view, service)
        if self.converged and job:
            self._lines.say("job complete")
            return True
        if self.converged:
            self._since = view.now if self._since is None else self._since
            left = monitor - (view.now - self._since)
            if left >= 0:
                self._lines.put("verify", f"Waiting {max(math.ceil(left), 1)} seconds to verify that tasks are stable...")
        else:
            if self._since is not None:
                self._lines.put("verify", "Detected task failure")
            self._since = None
        return False

    def _update(self, service: Service) -> bool:
        """What the service's last update has come to; whether that ends the waiting."""
        from vxtool.swarm.objects import UpdateState

        status = service.update_status
        if status is None:
            return False
        if status.state is UpdateState.PAUSED:
            self.failure = f"service update paused: {status.message}"
        elif status.state is UpdateState.ROLLBACK_PAUSED:
            self.failure = f"service rollback paused: {status.message}"
        elif status.state is UpdateState.UPDATING:
            self._rollback = False
        elif status.state is UpdateState.COMPLETED:
            return not self.converged
        else:
            if status.state is UpdateState.ROLLBACK_STARTED and not self._rollback and status.message:
                self._lines.put("rollback", status.message)
            if status.state is UpdateState.ROLLBACK_COMPLETED and not self.converged:
                self._message = status.message
            self._rollback = True
        return bool(self.failure)

    # -- services that go on -----------------------------------------------------------------------------------------------

    def _service(self, view: View, service: Service) -> bool:
        from vxtool.model import NodeState, ServiceMode

        replicated = service.spec.mode is ServiceMode.REPLICATED
        alive = {node.id for node in view.nodes.values() if node.state is not NodeState.DOWN}
        tasks = _foremost(self._current(view, service), (lambda task: task.slot) if replicated else (lambda task: task.node))
        if replicated:
            tasks = [task for task in tasks if not task.node or task.node in alive]
        wanted = service.spec.replicas if replicated else len(tasks)
        if not self._begun:
            if not replicated and not tasks:
                # Either they are not made yet, or no node satisfies the constraints.
                self._lines.put("overall progress", "waiting for new tasks")
                return False
            self._overall(0, wanted)
            for number in range(1, wanted + 1 if replicated and wanted <= _MOST_BARS else 1):
                self._lines.put(f"{number}/{wanted}", " ")
            self._begun = True
        if self._done and any(_state(task) != _RUNNING for task in tasks):
            self._done = False
        running = sum(_desired(task) <= _RUNNING and _state(task) == _RUNNING and (replicated or task.node in alive) for task in tasks)
        for task in tasks:
            place = self._slots.setdefault(task.slot, len(self._slots) + 1)
            name = f"{place}/{wanted}" if replicated else task.node[:12]
            if not self._done and wanted <= _MOST_BARS and (place <= wanted or not replicated) and (replicated or task.node in alive):
                self._bar(name, task)
        if not self._done:
            self._overall(running, wanted)
            self._done = running == wanted
        return running == wanted

    def _overall(self, running: int, wanted: int) -> None:
        self._lines.put("overall progress", f"{'rolling back update: ' if self._rollback else ''}{running} out of {wanted} tasks")

    def _bar(self, name: str, task: Task, most: int = _RUNNING) -> None:
        if task.error:
            text = " ".join(task.error.split("\n"))
            self._lines.put(name, text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…")
        elif _desired(task) <= most and _state(task) <= most:
            self._lines.put(name, f"{_STATES[_state(task) - 1]:{_WIDTH}}", _state(task) / most)

    def _current(self, view: View, service: Service) -> Iterator[Task]:
        """Tasks that are as the service is now."""
        from vxtool.swarm.tasks import is_dirty

        for task in view.tasks_of.get(service.id, ()):
            if _state(task) and _desired(task) and not is_dirty(service, task, view.nodes.get(task.node)):
                yield task

    # -- jobs --------------------------------------------------------------------------------------------------------------

    def _job(self, view: View, service: Service) -> bool:
        from vxtool.model import ServiceMode

        replicated = service.spec.mode is ServiceMode.REPLICATED_JOB
        mine = [task for task in self._current(view, service) if task.job_iteration == service.job_iteration]
        tasks = _foremost(mine, (lambda task: task.slot) if replicated else (lambda task: task.node), observed=True)
        if not replicated and not tasks and view.nodes:
            self._lines.put("job progress", "waiting for tasks")
            return False
        total = service.spec.replicas if replicated else len(tasks)
        complete = sum(_STATES[_state(task) - 1] == "complete" for task in tasks)
        self._lines.put("job progress", f"{complete:{len(str(total))}} out of {total} complete")
        if replicated:
            at_once = service.spec.max_concurrent or total
            width = len(str(at_once))
            active = sum(_state(task) <= _RUNNING for task in tasks)
            self._lines.put("active tasks", f"{active:{width}} out of {min(total - complete, at_once):{width}} tasks")
        if not self._begun and replicated and total <= _MOST_BARS:
            for number in range(1, total + 1):
                self._lines.put(f"{number}/{total}", " ")
        self._begun = True
        if total <= _MOST_BARS:
            for task in tasks:
                place = self._slots.setdefault(task.slot, len(self._slots) + 1)
                self._bar(f"{place}/{total}" if replicated else task.node, task, _STATES.index("complete") + 1)
        return complete == total


def _foremost(tasks: Iterable[Task], key: Callable[[Task], Any], observed: bool = False) -> list[Task]:
    """Of several tasks in one place, the one that is meant to run; of several such (an update that starts first), the less far one."""
    chosen: dict[Any, Task] = {}
    for task in tasks:
        other = chosen.get(key(task))
        rank = (lambda task: (_state(task),)) if observed else (lambda task: (_desired(task), _state(task)))
        if other is None or rank(task) < rank(other):
            chosen[key(task)] = task
    return [chosen[place] for place in sorted(chosen)]


def _state(task: Task) -> int:
    """From 1 up; 0 for a state that progress knows nothing of (removed, orphaned)."""
    return _number(task.state.name)


def _desired(task: Task) -> int:
    return _number(task.desired.name)


def _number(name: str) -> int:
    return _STATES.index(name.lower()) + 1 if name.lower() in _STATES else 0
