"""`vxtool lab detach`."""

from __future__ import annotations

import click

from .choosing import lab_option

__all__ = ["command"]


@click.command("detach")
@click.argument("name")
@lab_option
def command(name: str, lab: str | None) -> None:
    """Remove an endpoint, and end the programs in it. NAME is web.1, or NODE:web.1 when two nodes have one of that name.

    \b
    vxtool lab detach web.1
    """
    from vxtool.lab.client import call

    from .choosing import chosen

    done = call(chosen(lab), "detach", name=name)
    click.echo(f"{done['name']} on {done['node']} is removed")
