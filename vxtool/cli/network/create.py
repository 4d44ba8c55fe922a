"""`vxtool network create`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vxtool.cli.go_flags import GoFlags
from vxtool.cli.swarming import Parsed, lab_option

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address

    from vxtool.swarm.objects import SubnetSpec

__all__ = ["command"]

_REFUSED = {
    "ipv6": "the lab does not build IPv6 overlays (decode and verify know them)",
    "config_only": "the lab has no configuration-only networks; say the options with the network itself",
    "config_from": "the lab has no configuration-only networks; say the options with the network itself",
    "ipam_opt": "the lab's IPAM takes no options",
}


@click.command("create", cls=GoFlags)
@click.argument("name", metavar="NETWORK")
@click.option("-d", "--driver", default="overlay", metavar="DRIVER", help="overlay, which is all that the lab builds.  [default: overlay]")
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="Of the driver: encrypted, com.docker.network.driver.mtu, ...")
@click.option("--subnet", "subnets", multiple=True, metavar="SUBNET", help="As 10.9.0.0/24; several for several.  [default: the next free one]")
@click.option("--gateway", "gateways", multiple=True, metavar="ADDRESS", help="Of the subnet that it is in.  [default: the first address]")
@click.option("--ip-range", "ranges", multiple=True, metavar="SUBNET", help="Endpoints get addresses of this part of the subnet.")
@click.option("--aux-address", "reserved", multiple=True, metavar="NAME=ADDRESS", help="An address that no endpoint gets.")
@click.option("--attachable", is_flag=True, help="Containers that belong to no service may be connected (`vxtool run --network`).")
@click.option("--internal", is_flag=True, help="Without a way out of it.")
@click.option("--ingress", is_flag=True, help="The routing mesh; when the one that was there has been removed.")
@click.option("--label", "labels", type=Parsed("label"), multiple=True, metavar="KEY=VALUE", help="A label; several for several.")
@click.option("--scope", metavar="SCOPE", help="swarm, as every overlay network's is.")
@click.option("--ipam-driver", default="default", hidden=True)
@click.option("--ipam-opt", multiple=True, hidden=True)
@click.option("--ipv4/--no-ipv4", default=True, hidden=True)
@click.option("--ipv6", is_flag=True, hidden=True)
@click.option("--config-only", is_flag=True, hidden=True)
@click.option("--config-from", hidden=True)
@lab_option
def command(name: str, driver: str, options: tuple[str, ...], labels: tuple[tuple[str, str], ...], lab: str | None, **given: Any) -> None:
    """Create an overlay network. A node has nothing of it before its first endpoint there.

    \b
    Examples:
      vxtool network create web
      vxtool network create --subnet 10.9.0.0/24 --gateway 10.9.0.254 --attachable db
      vxtool network create -o com.docker.network.driver.mtu=1400 -o com.docker.network.driver.overlay.vxlanid_list=5000 m
    """
    from vxtool.cli import swarming
    from vxtool.errors import UsageError
    from vxtool.swarm.facade import Networks
    from vxtool.swarm.parsing import key_values

    from .local import LOCAL

    _refuse(driver, given)
    if name == "default":
        raise UsageError(f"{name} is a pre-defined network and cannot be created")
    if name in [network.name for network in LOCAL]:
        raise UsageError(f"network with name {name} already exists")
    made = Networks(swarming.swarm(lab)).create(
        name,
        subnets=_subnets(_pieces(given["subnets"]), _pieces(given["ranges"]), _pieces(given["gateways"]), given["reserved"]),
        internal=given["internal"],
        attachable=given["attachable"],
        ingress=given["ingress"],
        options=key_values(options),
        labels=dict(labels),
    )
    click.echo(made.id)


def _refuse(driver: str, given: dict[str, Any]) -> None:
    from vxtool.errors import UsageError

    if driver != "overlay":
        known = ("bridge", "host", "ipvlan", "macvlan", "null")
        raise UsageError(
            f"--driver {driver}: the lab builds overlay networks only; leave it out"
            if driver in known
            else f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found'
        )
    if given["scope"] not in (None, "", "swarm"):
        raise UsageError(f"--scope {given['scope']}: an overlay network is the whole swarm's; leave it out")
    if given["ipam_driver"] != "default":
        raise UsageError(f"--ipam-driver {given['ipam_driver']}: the lab has Docker's default one only; leave it out")
    if not given["ipv4"]:
        raise UsageError("--ipv4=false: the lab does not build overlays without IPv4")
    for name, reason in _REFUSED.items():
        if given[name]:
            raise UsageError(f"--{name.replace('_', '-')}: {reason}")


def _pieces(texts: tuple[str, ...]) -> list[str]:
    return [piece for text in texts for piece in text.split(",")]


def _subnets(prefixes: list[str], ranges: list[str], gateways: list[str], reserved: tuple[str, ...]) -> tuple[SubnetSpec, ...]:
    """Each subnet with what lies in it, as docker/cli puts them together (cli/command/network/create.go), and in its words."""
    from vxtool.errors import UsageError
    from vxtool.swarm.objects import SubnetSpec
    from vxtool.swarm.parsing import key_values

    if len(prefixes) < max(len(ranges), len(gateways)):
        raise UsageError("every ip-range or gateway must have a corresponding subnet")
    parsed = {text: _subnet(text) for text in prefixes}
    if len(parsed) < len(prefixes) or any(one.overlaps(other) for one in parsed.values() for other in parsed.values() if one is not other):
        raise UsageError("multiple overlapping subnet configuration is not supported")

    def of(kind: str, text: str, address: IPv4Address | IPv6Address) -> str:
        found = next((prefix for prefix, subnet in parsed.items() if address in subnet), None)
        if found is None:
            raise UsageError(f"no matching subnet for {kind} {text}")
        return found

    in_range: dict[str, str] = {}
    for text in ranges:
        prefix = of("range", text, _subnet(text, "--ip-range").network_address)
        if prefix in in_range:
            raise UsageError(f"cannot configure multiple ranges ({text}, {in_range[prefix]}) on the same subnet ({prefix})")
        in_range[prefix] = text
    by: dict[str, str] = {}
    for text in gateways:
        prefix = of("gateway", text, _address(text, "--gateway"))
        if prefix in by:
            raise UsageError(f"cannot configure multiple gateways ({text}, {by[prefix]}) for the same subnet ({prefix})")
        by[prefix] = text
    kept: dict[str, dict[str, str]] = {}
    for key, text in key_values(reserved).items():
        kept.setdefault(of("aux-address", text, _address(text, "--aux-address")), {})[key] = text
    return tuple(SubnetSpec(prefix, by.get(prefix, ""), in_range.get(prefix, ""), kept.get(prefix, {})) for prefix in prefixes)


def _subnet(text: str, flag: str = "--subnet") -> IPv4Network:
    from ipaddress import IPv4Network, IPv6Network

    from vxtool.errors import UsageError

    for kind in (IPv4Network, IPv6Network):
        try:
            subnet = kind(text, strict=False)
        except ValueError:
            continue
        if "/" in text and isinstance(subnet, IPv4Network):
            return subnet
        if "/" in text:
            raise UsageError(f"{flag} {text}: {_REFUSED['ipv6']}")
    if flag != "--subnet":
        raise UsageError(f'invalid argument "{text}" for "{flag}" flag: invalid string being converted to CIDR: {text}')
    raise UsageError(f"invalid subnet: invalid CIDR address: {text}")


def _address(text: str, flag: str) -> IPv4Address | IPv6Address:
    from ipaddress import ip_address

    from vxtool.errors import UsageError

    try:
        return ip_address(text)
    except ValueError:
        raise UsageError(f'invalid argument "{text}" for "{flag}" flag: failed to parse IP: "{text}"') from None
