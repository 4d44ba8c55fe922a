"""`vxtool node ps`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NODE, lab_option

__all__ = ["command"]

_FILTERS = ("desired-state", "id", "label", "name")


@click.command("ps")
@click.argument("nodes", nargs=-1, metavar="[NODE...]", shell_complete=NODE)
@click.option("-f", "--filter", "asked", multiple=True, metavar="KEY=VALUE", help=f"{', '.join(_FILTERS)}.")
@click.option("--format", metavar="FORMAT", help="table, 'table TEMPLATE', json, or a Go template.")
@click.option("--no-resolve", is_flag=True, help="Ids instead of names.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and errors.")
@click.option("-q", "--quiet", is_flag=True, help="IDs only.")
@lab_option
def command(
    nodes: tuple[str, ...], asked: tuple[str, ...], format: str | None, no_resolve: bool, no_trunc: bool, quiet: bool, lab: str | None
) -> int:
    """List the tasks of nodes; of the manager when none is named.

    \b
    Examples:
      vxtool node ps
      vxtool node ps --filter desired-state=running vm2 vm3
      vxtool node ps -q $(vxtool node ls -q)
    """
    from vxtool.cli import swarming
    from vxtool.cli.task_table import chosen_tasks, task_table
    from vxtool.swarm.objects import Task

    view = swarming.swarm(lab).view()
    tasks: dict[str, Task] = {}  # by id: a node that is named twice is listed once
    code = swarming.each(nodes or ("self",), lambda name: tasks.update((task.id, task) for task in view.tasks_on.get(view.node(name).id, ())))
    chosen = chosen_tasks(view, tasks.values(), asked, _FILTERS)
    if not code or chosen:
        click.echo(task_table(view, chosen, format=format, quiet=quiet, no_trunc=no_trunc, no_resolve=no_resolve), nl=False)
    return code
