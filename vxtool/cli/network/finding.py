"""Networks as users name them, on one node: the swarm's and the node's own.

Knows names, ids and beginnings of ids, and which networks a node has; prints nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vxtool.cli.swarming import NODE
from vxtool.errors import UsageError
from vxtool.swarm.objects import Network, Node

from .local import LOCAL, LocalNetwork, id_of

if TYPE_CHECKING:
    from vxtool.swarm.view import View

__all__ = ["asked_at", "found", "has", "node_option"]

node_option = click.option("--node", metavar="NODE", envvar="VXTOOL_NODE", shell_complete=NODE, help="As this node sees it.  [default: the manager]")


def asked_at(view: View, node: str | None) -> Node | None:
    return view.node(node) if node is not None else view.manager


def has(network: Network, node: Node | None) -> bool:
    """Whether the engine of a node lists it: a manager's lists all, a worker's those in which it has something."""
    manages = node is None or node.role == "manager"
    return manages or any(attachment.network == network.id for attachment in node.attachments)  # type: ignore[union-attr]


def found(view: View, text: str, node: Node | None) -> Network | LocalNetwork:
    """By name, id or beginning of an id; UsageError in Docker's words."""
    local = {id_of(network, node): network for network in LOCAL}
    known: dict[str, Network | LocalNetwork] = {**local, **{network.id: network for network in view.networks.values() if has(network, node)}}
    if text in known:
        return known[text]
    fitting = [network for network in known.values() if text == (network.spec.name if isinstance(network, Network) else network.name)]
    fitting = fitting or [network for id, network in known.items() if text and id.startswith(text)]
    if len(fitting) > 1:
        raise UsageError(f"network {text} is ambiguous ({len(fitting)} matches found on name)")
    if not fitting:
        raise UsageError(f"network {text} not found")
    return fitting[0]
