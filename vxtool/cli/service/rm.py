"""`vxtool service rm`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import SERVICE, lab_option

__all__ = ["command"]


@click.command("rm")
@click.argument("services", metavar="SERVICE...", nargs=-1, required=True, shell_complete=SERVICE)
@lab_option
def command(services: tuple[str, ...], lab: str | None) -> int:
    """Remove services. Their tasks are stopped in the background."""
    from vxtool.cli.swarming import each, swarm
    from vxtool.swarm.facade import Services

    known = Services(swarm(lab))

    def remove(name: str) -> None:
        known.remove(name)
        click.echo(name)

    return each(services, remove)
