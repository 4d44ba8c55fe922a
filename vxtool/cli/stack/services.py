"""`vxtool stack services`."""

from __future__ import annotations

import click

from vxtool.cli import swarming
from vxtool.cli.swarming import lab_option

from .composing import STACK

__all__ = ["command"]


@click.command("services")
@click.argument("name", metavar="STACK", shell_complete=STACK)
@click.option("-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help="id, label, mode or name.")
@click.option("--format", metavar="TEMPLATE", help="'table', 'table TEMPLATE', 'json', or a Go template: {{.Name}}, {{.Replicas}}, ...")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@lab_option
def command(name: str, filters: tuple[str, ...], format: str | None, quiet: bool, lab: str | None) -> None:
    """List the services in the stack.

    \b
    vxtool stack services demo
    vxtool stack services demo --filter name=demo_web --format '{{.Replicas}}'
    """
    from vxtool.cli.lab.listing import shown
    from vxtool.cli.service.ls import service_table
    from vxtool.swarm.stack import NAMESPACE, check_name

    view = swarming.swarm(lab).view()
    asked = (*filters, f"label={NAMESPACE}={check_name(name)}")
    if not service_table(view, asked, quiet=True):
        click.echo(f"Nothing found in stack: {shown(name)}", err=True)
        return
    click.echo(service_table(view, asked, format=format, quiet=quiet), nl=False)
