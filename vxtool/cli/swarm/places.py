"""Which of a lab's nodes an address or an interface belongs to: Docker's options name a node by what it has, not by its name.

Knows the addresses of the underlay and what a lab can promise of them; joins nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vxtool.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["PORT", "Place", "address_options", "available", "node_option", "placed", "places", "remote"]

F = TypeVar("F", bound=Callable[..., Any])

PORT = "2377"

_ANYWHERE = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the lab. `devices`: eth0 -> its address; the first is the one that the node advertises."""

    name: str
    devices: Mapping[str, str]

    @property
    def address(self) -> str:
        return next(iter(self.devices.values()))


def places(lab: str | None) -> tuple[Place, ...]:
    """The nodes of a lab. Tests put others here."""
    from vxtool.cli.lab.choosing import chosen
    from vxtool.lab.client import topology

    shape = topology(chosen(lab))
    nodes = []
    for node in shape.nodes:
        devices = {end.device: str(end.interface.ip) for end in shape.ends(node.name) if end.machine == node.name and end.interface is not None}
        if devices:
            nodes.append(Place(node.name, devices))
    return tuple(nodes)


def _complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from vxtool.errors import VxtoolError

    try:
        return [CompletionItem(place.name) for place in places(ctx.params.get("lab")) if place.name.startswith(begun)]
    except (VxtoolError, OSError):
        return []


def node_option(about: str) -> Callable[[F], F]:
    """`--node NAME`: which node of the lab the command is given at."""
    return click.option("--node", metavar="NODE", envvar="VXTOOL_NODE", shell_complete=_complete, help=about)


def available(text: str | None) -> str:
    """`--availability`, `active` when it is not given."""
    if (text or "active").lower() not in ("active", "pause", "drain"):
        raise UsageError(f'invalid availability "{text}", only active, pause and drain are supported')
    return (text or "active").lower()


def address_options(function: F) -> F:
    for option in reversed(_ADDRESSES):
        function = option(function)
    return function


_ADDRESSES = (
    click.option("--advertise-addr", metavar="ADDRESS", help="An address or an interface of the node; without --node it says which node is meant."),
    click.option("--listen-addr", metavar="ADDRESS", help="Where the manager listens.  [default: 0.0.0.0:2377]"),
    click.option("--data-path-addr", metavar="ADDRESS", help="Where VXLAN frames come from and go to; the advertised address in a lab."),
    click.option(
        "--availability",
        metavar="MODE",
        shell_complete=lambda *_: _modes(),
        help="active, pause or drain.  [default: active]",
    ),
)


def _modes() -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(mode) for mode in ("active", "pause", "drain")]


def placed(node: str | None, given: Mapping[str, Any], nodes: Callable[[], Sequence[Place]]) -> str | None:
    """The name of the node that --node and the addresses mean, None where nothing is said. UsageError when they do not fit together.

    `nodes` is asked only when there is an address to look for.
    """
    advertised, listen, data = given["advertise_addr"], given["listen_addr"], given["data_path_addr"]
    if advertised is None and listen is None and data is None:
        return node
    known = nodes()
    if node is not None and node not in [place.name for place in known]:
        raise UsageError(f"no node is called {node!r} in this lab (there are {_listed(known)})")
    host = _split(advertised, "advertise")[0] if advertised is not None else None
    place = next((place for place in known if place.name == node), None)
    if place is None:
        place = next((place for place in known if host in place.devices.values()), None) or known[0]
    if host is not None:
        _check(host, place, known, "advertise", "must be a non-zero IP address or network interface (with optional port number)")
    if listen is not None and (where := _split(listen, "listen")[0]) not in ("", _ANYWHERE):
        _check(where, place, known, "listen", "must be an IP address or network interface (with optional port number)")
    if data is not None:
        _check(data, place, known, "data path", "must be a valid IP or network interface")
    return place.name if node is not None or host is not None else None


def _split(text: str, which: str) -> tuple[str, str]:
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon:
        host, port = port, PORT
    if port != PORT:
        raise UsageError(f"{which} address {text}: the lab's manager listens on port {PORT} and no other")
    return host, port


def _check(host: str, place: Place, known: Sequence[Place], which: str, wanted: str) -> None:
    """UsageError unless it is the node's own first address, or the interface that has it: agents and VXLAN devices of a lab use no other."""
    address = place.devices.get(host, host)
    try:
        unspecified = ip_address(address).is_unspecified
    except ValueError:
        unspecified = True
    if unspecified:
        raise UsageError(f"{which} address {wanted}; {place.name} has {_devices(place)}")
    if address not in place.devices.values():
        others = [other.name for other in known if address in other.devices.values()]
        raise UsageError(
            f"{which} address {host} is {others[0] + chr(39) + 's' if others else 'no address of the lab'}; {place.name} has {_devices(place)}"
        )
    if address != place.address:
        raise UsageError(f"{which} address {host}: a node of a lab uses its first address, {place.name} {place.address}")


def _devices(place: Place) -> str:
    return ", ".join(f"{address} on {device}" for device, address in place.devices.items())


def _listed(known: Sequence[Place]) -> str:
    return ", ".join(place.name for place in known[:8]) + (", ..." if len(known) > 8 else "")


def remote(text: str) -> str:
    """HOST:PORT of a manager; the port may be left out."""
    text = text.removeprefix("tcp://")
    if not text:
        raise UsageError('invalid remoteAddr "": invalid empty address')
    return text if ":" in text else f"{text}:{PORT}"
