"""From what a user names to the devices that are captured at.

Knows places, and which of a place's devices tell what happens there; opens no socket (lab/sniff.py does) but to ask a namespace which devices it has.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vxtool.errors import LabError, UsageError
from vxtool.lab import client
from vxtool.lab.namespaces import inside
from vxtool.lab.places import Place, PlaceKind, locate, places
from vxtool.lab.sniff import Vantage

if TYPE_CHECKING:
    from vxtool.lab.registry import Running
    from vxtool.lab.topology import Topology
    from vxtool.model import Cluster

__all__ = ["ANY", "vantages", "vantages_at"]

ANY = "any"
"""The word for every device of a place that is up."""

_SIOCGIFFLAGS, _IFF_UP = 0x8913, 0x1


def vantages(running: Running, names: Sequence[str], device: str | None = None) -> list[Vantage]:
    """The vantages of places of a running lab, as a user names them; see `vantages_at`."""
    topology, cluster = client.topology_and_cluster(running)
    return [
        replace(one, about=f"{one.about} of lab {running.name}") for place in names for one in vantages_at(topology, cluster, running, place, device)
    ]


def vantages_at(topology: Topology, cluster: Cluster, running: Running, name: str, device: str | None = None) -> list[Vantage]:
    """The vantages of one place. Without a device: a node's or router's underlay devices, an endpoint's in its overlay networks, a link's end, the
    VXLAN devices of an overlay sandbox. `device` (a name, or ANY) chooses others, except for a link, which is a device.

    UsageError for a name that is no place.
    """
    place = locate(topology, cluster, name)
    namespace = running.path(place.namespace)
    if place.kind is PlaceKind.LINK or (place.device is not None and (device is None or name != place.name)):
        devices = [place.device] if place.device else []
    elif device is not None:
        devices = [device]
    elif place.kind is PlaceKind.ENDPOINT:
        own = [one for one in cluster.endpoints if one.name == place.name and one.node == place.machine]
        devices = list(place.devices[: len(own)])  # docker_gwbridge, which is not the overlay, comes after them
    elif place.kind is PlaceKind.NETWORK:
        devices = [one for one in place.devices if one.startswith("vxlan")]
    else:
        devices = list(place.devices)
    if devices == [ANY] or not devices:
        try:
            devices = _up(namespace)
        except OSError as error:
            raise LabError(f"{place.name}: its namespace cannot be entered: {error.strerror}") from error
    if not devices:
        raise UsageError(f"{place.name} has no device that is up")
    return [Vantage(_called(topology, cluster, place), one, namespace, f"{place.kind} {place.name}") for one in devices]


def _called(topology: Topology, cluster: Cluster, place: Place) -> str:
    """How the capture names the place: a link's end by its machine, an endpoint with its node's name where its own is not enough."""
    if place.kind in (PlaceKind.LINK, PlaceKind.SWITCH):
        return place.machine
    if place.kind is PlaceKind.ENDPOINT and sum(other.kind is place.kind and other.name == place.name for other in places(topology, cluster)) > 1:
        return place.namespace
    return place.name


def _up(namespace: Path) -> list[str]:
    """Names of the devices of a namespace that are up, in the order of their numbers."""
    with inside(namespace):
        there = [name for _, name in sorted(socket.if_nameindex())]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            return [name for name in there if _flags(any_socket, name) & _IFF_UP]


def _flags(any_socket: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh14x", name.encode(), 0))
    return int(struct.unpack("16xH14x", answer)[0])
