"""`vxtool service ps`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vxtool.cli.swarming import SERVICE, lab_option

if TYPE_CHECKING:
    from vxtool.swarm.objects import Task

__all__ = ["command"]

FILTERS = ("id", "name", "node", "desired-state")


@click.command("ps")
@click.argument("services", metavar="SERVICE...", nargs=-1, required=True, shell_complete=SERVICE)
@click.option(
    "-f", "--filter", "filters", metavar="NAME=VALUE", multiple=True, help=f"Only those with this {', '.join(FILTERS[:-1])} or {FILTERS[-1]}."
)
@click.option("--format", metavar="TEMPLATE", help="table, json, a Go template, or table with one.")
@click.option("--no-resolve", is_flag=True, help="Ids instead of names.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and errors.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@lab_option
def command(
    services: tuple[str, ...], filters: tuple[str, ...], format: str | None, no_resolve: bool, no_trunc: bool, quiet: bool, lab: str | None
) -> None:
    """List the tasks of services, and what became of former ones.

    \b
    Examples:
      vxtool service ps web
      vxtool service ps web --filter desired-state=running --format '{{.Name}} {{.Node}}'
    """
    from vxtool.cli.swarming import swarm
    from vxtool.cli.task_table import chosen_tasks, task_table
    from vxtool.errors import UsageError

    view = swarm(lab).view()
    tasks: list[Task] = []
    missing: list[str] = []
    for name in services:
        try:
            tasks += view.tasks_of.get(view.service(name).id, ())
        except UsageError as error:
            missing.append(str(error))
    if missing and len(missing) == len(services):
        raise UsageError("; ".join(missing))
    tasks = chosen_tasks(view, tasks, filters, FILTERS)
    click.echo(task_table(view, tasks, format=format, quiet=quiet, no_trunc=no_trunc or quiet, no_resolve=no_resolve), nl=False)
    if missing:
        raise UsageError("; ".join(missing))
