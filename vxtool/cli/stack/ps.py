"""`vxtool stack ps`."""

from __future__ import annotations

import click

from vxtool.cli import swarming
from vxtool.cli.swarming import lab_option

from .composing import STACK

__all__ = ["command"]

FILTERS = ("desired-state", "id", "name", "node")


@click.command("ps")
@click.argument("name", metavar="STACK", shell_complete=STACK)
@click.option("-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help=f"{', '.join(FILTERS[:-1])} or {FILTERS[-1]}.")
@click.option("--format", metavar="TEMPLATE", help="'table', 'table TEMPLATE', 'json', or a Go template: {{.Name}}, {{.Node}}, ...")
@click.option("--no-resolve", is_flag=True, help="Ids instead of names.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and errors.")
@click.option("-q", "--quiet", is_flag=True, help="Only task ids.")
@lab_option
def command(name: str, filters: tuple[str, ...], format: str | None, no_resolve: bool, no_trunc: bool, quiet: bool, lab: str | None) -> None:
    """List the tasks in the stack.

    \b
    vxtool stack ps demo
    vxtool stack ps demo --filter node=vm2 --format '{{.Name}} {{.CurrentState}}'
    """
    from vxtool.cli.task_table import chosen_tasks, task_table
    from vxtool.errors import UsageError
    from vxtool.swarm.stack import check_name, tasks_of

    view = swarming.swarm(lab).view()
    tasks = chosen_tasks(view, tasks_of(view, check_name(name)), filters, FILTERS)
    if not tasks:
        raise UsageError(f"nothing found in stack: {name}")
    click.echo(task_table(view, tasks, format=format, quiet=quiet, no_trunc=no_trunc, no_resolve=no_resolve), nl=False)
