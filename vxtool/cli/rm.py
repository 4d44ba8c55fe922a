"""`vxtool rm`."""

from __future__ import annotations

import click

from . import swarming
from .swarming import TASK, each, lab_option

__all__ = ["command"]


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...", shell_complete=TASK)
@click.option("-f", "--force", is_flag=True, help="Also one that runs.")
@lab_option
def command(names: tuple[str, ...], force: bool, lab: str | None) -> int:
    """Remove containers that `vxtool run` has started.

    \b
    vxtool rm probe
    vxtool rm -f probe
    """
    from .containers import own

    client = swarming.swarm(lab)

    def remove(name: str) -> None:
        client.remove_container(own(client.view(), name).id, force)
        click.echo(name)

    return each(names, remove)
