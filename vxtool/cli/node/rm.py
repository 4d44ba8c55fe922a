"""`vxtool node rm`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NODE, lab_option

__all__ = ["command"]


@click.command("rm")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...", shell_complete=NODE)
@click.option("-f", "--force", is_flag=True, help="Even while it is not down.")
@lab_option
def command(nodes: tuple[str, ...], force: bool, lab: str | None) -> int:
    """Remove nodes from the swarm: such as have left, or are down.

    \b
    vxtool swarm leave --node vm2
    vxtool node rm vm2
    """
    from vxtool.cli import swarming
    from vxtool.swarm.facade import Nodes

    known = Nodes(swarming.swarm(lab))

    def remove(name: str) -> None:
        known.remove(name, force)
        click.echo(name)

    return swarming.each(nodes, remove)
