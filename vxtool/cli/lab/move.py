"""`vxtool lab move`."""

from __future__ import annotations

import click

from .choosing import lab_option

__all__ = ["command"]


@click.command("move")
@click.argument("name")
@click.argument("node")
@lab_option
def command(name: str, node: str, lab: str | None) -> None:
    """Move an endpoint to another node. It keeps its addresses, the other nodes are told; programs in it end.

    \b
    vxtool lab move web.1 sathish-vm2
    """
    from vxtool.lab.client import call

    from .choosing import chosen

    done = call(chosen(lab), "move", name=name, node=node)
    click.echo(f"{done['name']} has moved from {done['node']} to {done['to']}")
