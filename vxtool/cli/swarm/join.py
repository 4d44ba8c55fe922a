"""`vxtool swarm join`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vxtool.cli.swarming import lab_option

from .places import address_options, node_option

if TYPE_CHECKING:
    from vxtool.swarm.client import SwarmClient

__all__ = ["command"]


@click.command("join")
@click.argument("manager", metavar="HOST:PORT", required=False)
@node_option("Which node joins.  [default: the one that is left, where one is]")
@click.option("--all", "everybody", is_flag=True, help="All nodes that are in no swarm join; token and address are not needed.")
@click.option("--token", default="", metavar="TOKEN", help="As `vxtool swarm join-token worker` prints it.")
@address_options
@lab_option
def command(manager: str | None, node: str | None, everybody: bool, token: str, lab: str | None, **given: Any) -> None:
    """Let a node join the swarm whose manager listens at HOST:PORT.

    \b
    Examples:
      vxtool swarm join --node vm2 --token SWMTKN-1-... 192.0.2.1:2377
      vxtool swarm join --node vm3 --token $(vxtool swarm join-token -q worker) 192.0.2.1 --availability drain
      vxtool swarm join --all
    """
    from vxtool.cli import swarming
    from vxtool.errors import UsageError
    from vxtool.model import Availability

    from . import places

    availability = Availability(places.available(given["availability"]))
    client = swarming.swarm(lab)
    if everybody:
        if client.view().manager is None:
            raise UsageError("the swarm has no manager that could be joined")
        _all(client, token, manager, availability)
        return
    if manager is None:
        raise UsageError('"vxtool swarm join" requires exactly 1 argument: HOST:PORT of the manager, as vxtool swarm join-token worker prints it')
    address = places.remote(manager)
    name = places.placed(node, given, lambda: places.places(lab)) or _only(client)
    client.join(name, token, address, availability)
    click.echo("This node joined a swarm as a worker.")


def _left(client: SwarmClient) -> list[str]:
    return [node for node, id in client.members().items() if id is None]


def _only(client: SwarmClient) -> str:
    from vxtool.errors import UsageError

    left = _left(client)
    if not left:
        raise UsageError('This node is already part of a swarm. Use "vxtool swarm leave" to leave this swarm and join another one.')
    if len(left) > 1:
        raise UsageError(f"which node is to join? --node says it, or --all ({', '.join(left[:8])}{', ...' if len(left) > 8 else ''} are in no swarm)")
    return left[0]


def _all(client: SwarmClient, token: str, manager: str | None, availability: Any) -> None:
    from . import places

    view = client.view()
    address = places.remote(manager if manager is not None else view.manager.address if view.manager is not None else "")
    left = _left(client)
    for name in left:
        client.join(name, token or view.info.worker_token, address, availability)
        click.echo(f"{name} joined the swarm as a worker.")
    if not left:
        click.echo("all nodes are in the swarm already")
