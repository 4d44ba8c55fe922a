"""`vxtool stack ls`."""

from __future__ import annotations

import click

from vxtool.cli import swarming
from vxtool.cli.swarming import lab_option

__all__ = ["command"]


@click.command("ls")
@click.option("--format", metavar="TEMPLATE", help="'table', 'table TEMPLATE', 'json', or a Go template: {{.Name}}, {{.Services}}.")
@lab_option
def command(format: str | None, lab: str | None) -> None:
    """List stacks.

    \b
    vxtool stack ls
    vxtool stack ls --format '{{.Name}}'
    """
    from vxtool.cli.docker_tables import listing, natural
    from vxtool.swarm.stack import stacks

    rows = [
        {"Name": name, "Services": str(services)}
        for name, services in sorted(stacks(swarming.swarm(lab).view()), key=lambda stack: natural(stack[0]))
    ]
    headers = {"Name": "NAME", "Services": "SERVICES"}
    click.echo(listing(rows, headers, "table {{.Name}}\t{{.Services}}", format=format, kind="stack.stackContext"), nl=False)
