"""Changing the role of nodes: what `node promote` and `node demote` do alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vxtool.cli import swarming

if TYPE_CHECKING:
    from vxtool.model import Role

__all__ = ["change"]


def change(lab: str | None, names: tuple[str, ...], role: Role, done: str) -> None:
    """Stops at the first that cannot be, as Docker does. `done`: what is said of a node that has the role now."""
    client = swarming.swarm(lab)
    for name in names:
        node = client.view().node(name)
        if node.role is role:
            click.echo(f"Node {node.id} is already a {role}.")
        else:
            client.update_node(node, role=role)
            click.echo(done.format(name))
