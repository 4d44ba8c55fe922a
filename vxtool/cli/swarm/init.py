"""`vxtool swarm init`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.go_flags import GoFlags
from vxtool.cli.swarming import Parsed, lab_option

from .places import address_options, node_option
from .settings import settings_options

__all__ = ["command"]


@click.command("init", cls=GoFlags)
@node_option("Which node becomes the manager.  [default: the first of the topology]")
@address_options
@click.option("--data-path-port", type=Parsed("number"), metavar="PORT", help="UDP port of VXLAN, 1024 to 49151.  [default: 4789]")
@click.option("--default-addr-pool", "pools", multiple=True, metavar="SUBNET", help="Networks are cut from it; several.  [default: 10.0.0.0/8]")
@click.option("--default-addr-pool-mask-length", "mask", type=Parsed("number"), metavar="BITS", help="How large a network is.  [default: 24]")
@settings_options
@click.option("--force-new-cluster", is_flag=True, hidden=True)
@lab_option
def command(node: str | None, pools: tuple[str, ...], mask: int | None, data_path_port: int | None, lab: str | None, **given: Any) -> None:
    """Make a swarm: one node of the lab becomes its manager, and the network `ingress` is there.

    \b
    Examples:
      vxtool swarm init
      vxtool swarm init --advertise-addr 192.0.2.1
      vxtool swarm init --node vm2 --default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 26
      vxtool swarm init --task-history-limit 2 --dispatcher-heartbeat 1s
    """
    from dataclasses import replace

    from vxtool.cli import swarming
    from vxtool.model import Availability
    from vxtool.swarm.objects import Settings

    from . import places
    from .joining import instructions
    from .settings import changed

    availability = Availability(places.available(given["availability"]))
    settings = replace(changed(Settings(), given), pools=_pools(pools, mask), data_path_port=_port(data_path_port))
    name = places.placed(node, given, lambda: places.places(lab))
    client = swarming.swarm(lab)
    info = client.init(name or "", settings, availability)
    manager = client.view().manager
    assert manager is not None
    click.echo(f"Swarm initialized: current node ({manager.id}) is now a manager.\n")
    click.echo(instructions("worker", info.worker_token, manager.address))
    click.echo("To add a manager to this swarm, run 'vxtool swarm join-token manager' and follow the instructions.")


def _port(port: int | None) -> int:
    from vxtool.errors import UsageError
    from vxtool.model.cluster import DATA_PATH_PORT

    if port and not 1024 <= port <= 49151:
        raise UsageError(f"VXLAN UDP port number is not in valid range (1024-49151): {port}")
    return port or DATA_PATH_PORT


def _pools(texts: tuple[str, ...], mask: int | None) -> tuple[tuple[str, int], ...]:
    """(base, prefix length of a network) of each; (): swarm's own. UsageError in the daemon's words (moby daemon/cluster/swarm.go)."""
    from ipaddress import IPv4Network

    from vxtool.errors import UsageError

    length = mask or 24
    if length > 29:
        raise UsageError(f"subnet size is out of range: {length}")
    found: list[IPv4Network] = []
    for text in (piece for given in texts for piece in given.split(",")):
        try:
            base = IPv4Network(text, strict=False)
        except ValueError:
            raise UsageError(f'invalid argument "{text}" for "--default-addr-pool" flag: invalid string being converted to CIDR: {text}') from None
        if "/" not in text:
            raise UsageError(f'invalid argument "{text}" for "--default-addr-pool" flag: invalid string being converted to CIDR: {text}')
        if length < base.prefixlen:
            raise UsageError(f'invalid CIDR: "{base}". Subnet size is too small for pool: {length}')
        if other := next((other for other in found if other.overlaps(base)), None):
            raise UsageError(f"default address pools {other} and {base} overlap: give each network once")
        found.append(base)
    if mask is not None and not found:
        return (("10.0.0.0/8", length),)
    return tuple((str(base), length) for base in found)
