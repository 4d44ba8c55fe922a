"""`vxtool network connect`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.swarming import NETWORK, TASK, lab_option

__all__ = ["command"]

_REFUSED = {
    "ip6": "the lab builds no IPv6 overlays",
    "link": "links are a bridge network's; use --alias",
    "link_local_ip": "the lab gives no link-local addresses",
    "driver_opt": "the overlay driver takes no options of an endpoint",
    "mac_address": "an overlay endpoint's MAC address follows from its IP address",
    "gw_priority": "the default route of a container is docker_gwbridge's",
}


@click.command("connect")
@click.argument("network", shell_complete=NETWORK)
@click.argument("container", shell_complete=TASK)
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="A further name of the container in this network; several for several.")
@click.option("--ip", "address", metavar="ADDRESS", help="The address it asks for.  [default: the next one]")
@click.option("--ip6", hidden=True)
@click.option("--link", multiple=True, hidden=True)
@click.option("--link-local-ip", multiple=True, hidden=True)
@click.option("--driver-opt", multiple=True, hidden=True)
@click.option("--mac-address", hidden=True)
@click.option("--gw-priority", hidden=True)
@lab_option
def command(network: str, container: str, aliases: tuple[str, ...], address: str | None, lab: str | None, **refused: Any) -> None:
    """Connect a container that belongs to no service (`vxtool run`) to an attachable network.

    \b
    vxtool network connect --alias db web client1
    vxtool network connect --ip 10.0.9.77 web client1
    """
    from ipaddress import IPv4Address

    from vxtool.cli import swarming
    from vxtool.errors import UsageError

    for name, reason in _REFUSED.items():
        if refused[name]:
            raise UsageError(f"--{name.replace('_', '-')}: {reason}")
    try:
        IPv4Address(address or "0.0.0.0")
    except ValueError:
        raise UsageError(f'invalid argument "{address}" for "--ip" flag: failed to parse IP: "{address}"') from None
    from .sides import sides

    client = swarming.swarm(lab)
    id, task = sides(client.view(), network, container)
    client.connect_network(id, task, address, tuple(piece for alias in aliases for piece in alias.split(",")))
