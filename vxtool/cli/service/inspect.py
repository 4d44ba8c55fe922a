"""`vxtool service inspect`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import SERVICE, lab_option

__all__ = ["command"]


@click.command("inspect")
@click.argument("services", metavar="SERVICE...", nargs=-1, required=True, shell_complete=SERVICE)
@click.option("-f", "--format", metavar="TEMPLATE", help="json, or a Go template.")
@click.option("--pretty", is_flag=True, help="For people.")
@lab_option
def command(services: tuple[str, ...], format: str | None, pretty: bool, lab: str | None) -> None:
    """Show all about services: Docker's JSON, a template's text, or a page for people.

    \b
    Examples:
      vxtool service inspect web
      vxtool service inspect --pretty web
      vxtool service inspect --format '{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}' web
    """
    from vxtool.cli.docker_tables import inspected
    from vxtool.cli.swarming import swarm
    from vxtool.errors import UsageError
    from vxtool.swarm import inspecting

    if pretty and format:
        raise UsageError("--format is incompatible with human friendly format")
    view = swarm(lab).view()
    found, missing = [], []
    for name in services:
        try:
            found.append(view.service(name))
        except UsageError as error:
            missing.append(str(error))
    if pretty:
        from .pretty import page

        click.echo("".join(page(view, service) for service in found), nl=False)
    elif found or not format:
        click.echo(inspected([inspecting.service(service) for service in found], format, inspecting.OPTIONAL), nl=False)
    if missing:
        raise UsageError("; ".join(missing))
