"""`vxtool swarm leave`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import lab_option

from .places import node_option

__all__ = ["command"]


@click.command("leave")
@node_option("Which node leaves.  [default: the manager]")
@click.option("-f", "--force", is_flag=True, help="Let the manager leave, which ends the swarm.")
@lab_option
def command(node: str | None, force: bool, lab: str | None) -> None:
    """Let a node leave the swarm. It stays in `vxtool node ls` as Down until `vxtool node rm`.

    \b
    vxtool swarm leave --node vm2
    vxtool swarm leave --force
    """
    from vxtool.cli import swarming

    client = swarming.swarm(lab)
    if node is None:
        manager = client.view().manager
        node = manager.hostname if manager is not None else ""
    client.leave(node, force)
    click.echo("Node left the swarm.")
