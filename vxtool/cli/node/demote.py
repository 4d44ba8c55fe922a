"""`vxtool node demote`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NODE, lab_option

__all__ = ["command"]


@click.command("demote")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...", shell_complete=NODE)
@lab_option
def command(nodes: tuple[str, ...], lab: str | None) -> None:
    """Refused for the manager: it is the last one of the swarm.

    \b
    vxtool node demote vm1
    """
    from vxtool.model import Role

    from .roles import change

    change(lab, nodes, Role.WORKER, "Manager {} demoted in the swarm.")
