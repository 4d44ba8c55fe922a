"""`vxtool service rollback`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import SERVICE, lab_option

from .converging import detach_option, quiet_option

__all__ = ["command"]


@click.command("rollback")
@click.argument("service", metavar="SERVICE", shell_complete=SERVICE)
@detach_option
@quiet_option
@lab_option
def command(service: str, detach: bool, quiet: bool, lab: str | None) -> int:
    """Go back to what a service was before its last update. Once more, and the update is back."""
    from vxtool.cli.swarming import swarm
    from vxtool.swarm.facade import Services

    from .converging import wait_for

    client = swarm(lab)
    rolled = Services(client).rollback(service)
    click.echo(service)
    return 0 if detach else wait_for(client, rolled.id, quiet)
