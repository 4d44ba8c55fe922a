"""`vxtool stop`."""

from __future__ import annotations

import click

from . import swarming
from .swarming import TASK, each, lab_option

__all__ = ["command"]

_PATIENCE = 30.0
"""Seconds beyond the container's own grace: its node may be out of reach."""


@click.command("stop")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...", shell_complete=TASK)
@lab_option
def command(names: tuple[str, ...], lab: str | None) -> int:
    """Stop containers that `vxtool run` has started, and wait until they have; they stay known until `vxtool rm`.

    How long one may take is said when it is run (--stop-timeout).

    \b
    vxtool stop probe
    """
    from vxtool.errors import UsageError
    from vxtool.model import TaskState

    from .containers import own

    client = swarming.swarm(lab)

    def stop(name: str) -> None:
        view = client.view()
        task = own(view, name)
        client.stop_container(task.id)
        end = view.now + task.spec.stop_grace + _PATIENCE
        while task.id in view.tasks and view.tasks[task.id].state <= TaskState.RUNNING:
            if view.now > end:
                raise UsageError(f"container {name} has not stopped: its node does not say so")
            view = client.wait(1.0)
        click.echo(name)

    return each(names, stop)
