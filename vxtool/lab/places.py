"""Places: what a user may name to look into a lab or run something in it, and which network namespace and device that is.

Knows the ways of writing a place, and from topology and cluster which places there are; looks at no kernel. A client asks the lab with `find`, which
costs it none of the imports that `locate` needs. All of

    vm1  vm1:eth0           a node (router, switch), a device of it
    web.1  vm1:web.1        an endpoint's sandbox; the longer form when two nodes have one of that name
    web.1:eth0              a device in it
    vm1-s1  vm1-s1:s1       a link: its end at the node, or the end that is named
    web@vm1  web@vm1:br0    the overlay sandbox of network web on vm1
    vm1:1-jnz278zgn1        any namespace of the lab by its own name

A task's endpoint is called web.1.ID (web.NODE.ID of a global service); web.1, or the ID, will do where it is the only one.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING

from vxtool.errors import UsageError

if TYPE_CHECKING:
    from vxtool.lab.registry import Running
    from vxtool.lab.topology import End, Link, Topology
    from vxtool.model import Address, Cluster, Endpoint, Network

TASK_ID = 25  # characters

__all__ = ["Place", "PlaceKind", "find", "locate", "places"]


class PlaceKind(StrEnum):
    NODE = "node"  # these three as MachineKind has them
    ROUTER = "router"
    SWITCH = "switch"
    ENDPOINT = "endpoint"
    LINK = "link"
    NETWORK = "network"  # the overlay sandbox of a network on one node
    NAMESPACE = "namespace"  # named by its own name, and nothing else is known of it


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is the shortest text that names it in its lab; `device` is None where nobody asked for one: the place is then all of `devices`."""

    kind: PlaceKind
    name: str
    namespace: str
    machine: str  # whose namespace it is, or on whose machine its sandbox lives
    devices: tuple[str, ...] = ()  # as far as the plan knows them, the most telling one first; `lo` is not among them
    device: str | None = None
    addresses: tuple[Address, ...] = ()  # of an endpoint, one for each network

    @property
    def hostname(self) -> str:
        """What programs there see as their host's name: the node's, or the endpoint's."""
        return self.namespace.removeprefix(f"{self.machine}:")


def find(running: Running, text: str) -> Place:
    """The place of a running lab that `text` names; UsageError as `locate`."""
    from vxtool.lab.client import call

    told = call(running, "place", text=text)
    told["kind"] = PlaceKind(told["kind"])
    told["devices"] = tuple(told["devices"])
    told["addresses"] = tuple(ip_address(address) for address in told["addresses"])
    return Place(**told)


def places(topology: Topology, cluster: Cluster) -> list[Place]:
    """Every place there is, in the order in which they are looked for when one name fits several."""
    return [*_machines(topology), *_endpoints(topology, cluster), *_links(topology), *_networks(topology, cluster), *_raw()]


def locate(topology: Topology, cluster: Cluster, text: str) -> Place:
    """The place that `text` names. UsageError, with the names that come near, when there is none or more than one."""
    by_name = _by_name(places(topology, cluster))
    if text in by_name:
        return _only(text, by_name[text])
    stem, _, rest = text.rpartition(":")
    if stem in by_name:
        place = _only(stem, by_name[stem])
        if place.kind is not PlaceKind.LINK:
            return _with_device(place, rest, text)
        ends = [name for name in by_name if name.startswith(f"{stem}:")]
        raise UsageError(f"{text!r}: link {stem} does not end at {rest!r}; write {' or '.join(ends)}")
    near = difflib.get_close_matches(text, by_name, n=3, cutoff=0.6)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"{text!r} is no node, endpoint, link or NETWORK@NODE of this lab{meant} (`vxtool lab ps` lists endpoints, `graph` the rest)")


def _by_name(known: Iterable[Place]) -> dict[str, list[Place]]:
    """Whatever may be written for each place. Machines come first: a name that is theirs is nobody else's."""
    found: dict[str, list[Place]] = {}
    for place in known:
        names = [place.name]
        if place.kind is PlaceKind.ENDPOINT:
            names += [place.hostname, place.namespace, *_shorter(place.hostname)]
        elif place.kind is PlaceKind.NETWORK:
            names += [place.namespace]
        for name in dict.fromkeys(names):
            others = found.setdefault(name, [])
            if all(place.kind is other.kind is PlaceKind.ENDPOINT for other in others):
                others.append(place)
    return found


def _shorter(name: str) -> list[str]:
    """`web.1` and the id of `web.1.ID`, which is how a task's container is called."""
    slot, _, task = name.rpartition(".")
    return [slot, task] if len(task) == TASK_ID and slot else []


def _only(text: str, found: list[Place]) -> Place:
    if len(found) > 1:
        raise UsageError(f"{text!r} is on several nodes: write {' or '.join(place.namespace for place in found)}")
    return found[0]


def _with_device(place: Place, device: str, text: str) -> Place:
    if device in (*place.devices, "lo"):
        return replace(place, device=device)
    there = f"it has {', '.join(place.devices)}" if place.devices else "its devices are not known to the plan"
    raise UsageError(f"{text!r}: {place.name} has no device {device!r}; {there}")


def _machines(topology: Topology) -> Iterator[Place]:
    for machine in topology.machines:
        devices = tuple(end.device for end in topology.ends(machine.name))
        kind = PlaceKind(machine.kind)
        if kind is PlaceKind.SWITCH:
            yield Place(kind, machine.name, topology.namespace(machine.name), machine.name, (machine.name, *devices), device=machine.name)
        else:
            yield Place(kind, machine.name, machine.name, machine.name, devices)


def _endpoints(topology: Topology, cluster: Cluster) -> Iterator[Place]:
    from vxtool.model import EndpointKind

    # A load balancer's sandbox belongs to its network: `vm1:lb_...`.
    sandboxed = (EndpointKind.TASK, EndpointKind.CONTAINER)
    sandboxes: dict[tuple[str, str], list[Endpoint]] = {}
    for endpoint in cluster.endpoints:
        if endpoint.kind in sandboxed and endpoint.name and endpoint.node is not None:
            sandboxes.setdefault((endpoint.node, endpoint.name), []).append(endpoint)
    nodes_with = Counter(name for _, name in sandboxes)
    for (node, name), attachments in sandboxes.items():
        namespace = f"{node}:{name}"
        networks = [cluster.network_by_name.get(endpoint.network) for endpoint in attachments]
        # docker_gwbridge is the last device of a sandbox that is not on internal networks only.
        gateway = any(network is not None and not network.internal for network in networks)
        devices = tuple(f"eth{number}" for number in range(len(attachments) + gateway))
        addresses = tuple(address for endpoint in attachments for address in endpoint.addresses)
        shortest = name if nodes_with[name] == 1 else namespace
        yield Place(PlaceKind.ENDPOINT, shortest, namespace, node, devices, addresses=addresses)


def _links(topology: Topology) -> Iterator[Place]:
    for link in topology.links:
        ends = [_link(topology, link, end) for end in sorted(link.ends, key=lambda end: _farness(topology, end))]
        yield ends[0]
        yield from (replace(place, name=f"{link.name}:{place.machine}") for place in ends)


def _farness(topology: Topology, end: End) -> int:
    """Which end is meant when none is named: the node's, else the router's. The order of PlaceKind."""
    machine = topology.of(end.machine)
    return len(PlaceKind) if machine is None else list(PlaceKind).index(PlaceKind(machine.kind))


def _link(topology: Topology, link: Link, end: End) -> Place:
    return Place(PlaceKind.LINK, link.name, topology.namespace(end.machine), end.machine, (end.device,), end.device)


def _networks(topology: Topology, cluster: Cluster) -> Iterator[Place]:
    for network in cluster.networks:
        for node in topology.nodes:
            namespace = _overlay_sandbox(node.name, network)
            if namespace is not None:
                devices = tuple(f"{device}{number}" for number in range(len(network.subnets) or 1) for device in ("vxlan", "br"))
                yield Place(PlaceKind.NETWORK, f"{network.name}@{node.name}", namespace, node.name, devices)


def _overlay_sandbox(node: str, network: Network) -> str | None:
    return None if network.id is None else f"{node}:1-{network.id[:10]}"


def _raw() -> Iterator[Place]:
    from vxtool.lab.topology import SWITCHES

    yield Place(PlaceKind.NAMESPACE, SWITCHES, SWITCHES, SWITCHES)
