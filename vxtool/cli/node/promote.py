"""`vxtool node promote`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NODE, lab_option

__all__ = ["command"]


@click.command("promote")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...", shell_complete=NODE)
@lab_option
def command(nodes: tuple[str, ...], lab: str | None) -> None:
    """Refused for workers: the lab has one manager and no Raft by which several could agree.

    \b
    vxtool node promote vm2
    """
    from vxtool.model import Role

    from .roles import change

    change(lab, nodes, Role.MANAGER, "Node {} promoted to a manager in the swarm.")
