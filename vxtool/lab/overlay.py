"""The plan of a lab's data plane: what a change of the cluster asks of the kernels of all nodes, as steps.

Knows which networks, sandboxes and ways out there are and what may be asked of them; leaves each network to its driver (driver.py); performs nothing.
What an attachment was made of is kept as its steps and taken away by their inverses: so each list of steps can be undone, last first, to exactly
what was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import chain, count
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from vxtool.errors import UsageError
from vxtool.lab import encryption, gateway, names
from vxtool.lab.driver import Overlay, Peer
from vxtool.lab.encryption import Key, Keyring
from vxtool.lab.steps import AddNamespace, AddVeth, Step, inverses
from vxtool.lab.topology import Topology
from vxtool.model import (
    DATA_PATH_PORT,
    MTU_OPTION,
    Cluster,
    Endpoint,
    EndpointKind,
    Forwarding,
    Mac,
    Network,
    Node,
    NodeState,
    mac_from_ipv4,
    overlay_mac,
    overlay_mtu,
)

if TYPE_CHECKING:
    from vxtool.lab.spec import Options

T = TypeVar("T")

__all__ = ["Plan", "Snapshot"]


_VNIS = range(1, 1 << 24)


@dataclass(frozen=True, slots=True)
class _Attached:
    """The sandbox of an endpoint: its attachments in the order of their interfaces, its address on docker_gwbridge, what it was made of."""

    endpoints: tuple[Endpoint, ...]
    peers: tuple[Peer, ...]
    way_out: IPv4Address | None
    steps: tuple[Step, ...]
    joined: tuple[tuple[Step, ...], ...]  # of those, the ones of each attachment


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A plan at one moment."""

    cluster: Cluster
    keys: Keyring | None
    overlays: Mapping[str, Overlay]
    attached: Mapping[tuple[str, str], _Attached]
    ways_out: Mapping[str, Mapping[IPv4Address, str]]
    pairs: Mapping[tuple[str, str], int]
    heard: Mapping[tuple[str, IPv4Address], None]


class Plan:
    """The drivers of all nodes together. Each operation changes the plan and returns the steps that make the kernel follow.

    What cannot be is a UsageError, and the plan stays as it was. When the kernel refuses a step, `restore` takes the plan back to the `snapshot`
    that was taken before.
    """

    def __init__(self, topology: Topology, options: Options, data_path_port: int = DATA_PATH_PORT, keys: Keyring | None = None) -> None:
        self._vteps = {machine.name: topology.address(machine.name) for machine in topology.nodes}
        self._port = data_path_port
        self._options = options
        self._underlay_mtu = min((topology.mtu(node) for node in self._vteps), default=None) if options.mtu_from_underlay else None
        nodes = tuple(Node(node, hostname=node, advertise=vtep, data_path=vtep, state=NodeState.READY) for node, vtep in self._vteps.items())
        self._base = Cluster(nodes=nodes, data_path_port=data_path_port)
        self._cluster: Cluster | None = None
        self._keys = keys
        self._overlays: dict[str, Overlay] = {}
        self._attached: dict[tuple[str, str], _Attached] = {}
        self._ways_out: dict[str, Mapping[IPv4Address, str]] = {}  # node -> address on docker_gwbridge -> name of the bridge's port
        self._pairs: dict[tuple[str, str], int] = {}  # (node, peer node) -> encrypted networks that both have
        self._heard: dict[tuple[str, IPv4Address], None] = {}  # (node, VTEP of a peer that was heard of), where both have an encrypted network

    @property
    def cluster(self) -> Cluster:
        """What the lab is now, complete: nothing is left to be guessed."""
        if self._cluster is None:
            networks = (
                replace(overlay.network, members=frozenset(overlay.sandboxes), complete=True, tasks_complete=True)
                for overlay in self._overlays.values()
            )
            endpoints = (endpoint for attached in self._attached.values() for endpoint in attached.endpoints)
            self._cluster = replace(self._base, networks=tuple(networks), endpoints=tuple(endpoints))
        return self._cluster

    @property
    def gateways(self) -> Mapping[tuple[str, str], IPv4Address]:
        """(node, name) -> the sandbox's address on its node's docker_gwbridge. Those without a way out are not in it."""
        return MappingProxyType({key: attached.way_out for key, attached in self._attached.items() if attached.way_out is not None})

    def snapshot(self) -> Snapshot:
        overlays = {name: overlay.copy() for name, overlay in self._overlays.items()}
        return Snapshot(self._base, self._keys, overlays, self._attached.copy(), self._ways_out.copy(), self._pairs.copy(), self._heard.copy())

    def restore(self, snapshot: Snapshot) -> None:
        self._base, self._keys = snapshot.cluster, snapshot.keys
        self._overlays = {name: overlay.copy() for name, overlay in snapshot.overlays.items()}
        self._attached = dict(snapshot.attached)
        self._ways_out = dict(snapshot.ways_out)
        self._pairs = dict(snapshot.pairs)
        self._heard = dict(snapshot.heard)
        self._cluster = None

    # -- networks ------------------------------------------------------------------------------------------------------

    def add_network(self, network: Network) -> list[Step]:
        """A network: nothing is made before the first attachment on a node."""
        completed = self._completed(network)
        self._overlays[network.name] = Overlay(completed, self._port, self._options.like_docker)
        self._cluster = None
        return []

    def remove_network(self, name: str) -> list[Step]:
        overlay = self._overlay(name)
        if overlay.sandboxes:
            users = [f"{endpoint.name} on {endpoint.node}" for endpoint in self.cluster.endpoints_of_network[name]]
            raise UsageError(f"network {name} is in use by {_some(users)}: detach them first")
        del self._overlays[name]
        self._cluster = None
        return []

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def attach(self, endpoints: Sequence[Endpoint]) -> list[Step]:
        """One sandbox: all its attachments, which have the same node and name."""
        node, name, attachments = self._checked(endpoints)
        steps, opened, peers = self._join(node, name, attachments)
        for overlay in opened:
            steps += overlay.learn(node)
        for overlay, peer in peers:
            steps += overlay.announce(peer)
        return steps

    def detach(self, node: str, name: str) -> list[Step]:
        attached = self._there(node, name)
        del self._attached[node, name]
        self._cluster = None
        steps: list[Step] = []
        for endpoint, peer in zip(attached.endpoints, attached.peers, strict=True):
            steps += self._overlays[endpoint.network].withdraw(peer)
        steps += inverses(attached.steps)
        for endpoint in reversed(attached.endpoints):
            overlay = self._overlays[endpoint.network]
            steps += overlay.leave(node)
            if overlay.network.encrypted and node not in overlay.sandboxes:
                steps += self._unsecure(overlay, node)
        if attached.way_out is not None:
            self._ways_out[node] = {address: port for address, port in self._ways_out[node].items() if address != attached.way_out}
        return steps

    def move(self, name: str, node: str, source: str | None = None) -> list[Step]:
        """The sandbox `name` to another node, with its addresses and MACs. First it goes, then it comes: the other nodes hear of both.

        `source` says which one is meant where several nodes have one of this name.
        """
        found = [where for where, other in self._attached if other == name and source in (None, where)]
        if len(found) != 1:
            raise UsageError(
                f"{name} is on {' and '.join(found)}: say which one is to move" if found else f"no endpoint {name}{f' on {source}' if source else ''}"
            )
        moved = [replace(endpoint, node=node) for endpoint in self._attached[found[0], name].endpoints]
        before = self.snapshot()
        try:
            return self.detach(found[0], name) + self.attach(moved)
        except UsageError:
            self.restore(before)
            raise

    def build(self, cluster: Cluster) -> list[Step]:
        """A whole cluster from nothing: all sandboxes, then all peers, so that each namespace's entries stand together.

        The state is that of attaching one sandbox after the other in the order of `cluster.endpoints`; where a network has several subnets, their
        devices may be numbered in another order, as on Docker's nodes, which hear of peers in any order.
        """
        if self._overlays or self._attached:
            raise UsageError("the lab has networks already: a whole cluster is built from nothing")
        before = self.snapshot()
        try:
            return self._build(cluster)
        except UsageError:
            self.restore(before)
            raise

    def _build(self, cluster: Cluster) -> list[Step]:
        for node in cluster.nodes:
            if node.vtep is not None and self._known_node(node.name) != node.vtep:
                raise UsageError(f"node {node.name} has the VTEP {node.vtep}, but {self._vteps[node.name]} in the topology")
        self._base = replace(cluster, nodes=cluster.nodes or self._base.nodes, networks=(), endpoints=(), data_path_port=self._port)
        for network in cluster.networks:
            self.add_network(network)
        sandboxes: dict[tuple[str | None, str], list[Endpoint]] = {}
        for endpoint in cluster.endpoints:
            sandboxes.setdefault((endpoint.node, endpoint.name), []).append(endpoint)
        steps: list[Step] = []
        heard: list[tuple[Overlay, Peer]] = []
        for endpoints in sandboxes.values():
            made, _, peers = self._join(*self._checked(endpoints))
            steps += made
            heard += peers
        for overlay, peer in heard:
            overlay.remember(peer)
        for overlay in self._overlays.values():
            for where in overlay.sandboxes:
                steps += overlay.learn(where)
        return steps

    def _join(
        self, node: str, name: str, attachments: Sequence[tuple[str, Endpoint, int]]
    ) -> tuple[list[Step], list[Overlay], list[tuple[Overlay, Peer]]]:
        """The node's own part of an attachment, the networks that had no sandbox there before, and what is to be told the others."""
        way_out = self._way_out(node) if self._wants_out(attachments) else None
        steps: list[Step] = []
        opened: list[Overlay] = []
        peers: list[tuple[Overlay, Peer]] = []
        for _, endpoint, subnet in attachments:
            overlay = self._overlays[endpoint.network]
            if node not in overlay.sandboxes:
                opened.append(overlay)
                steps += overlay.open(node)
                if overlay.network.encrypted:
                    steps += self._secure(overlay, node)
            steps += overlay.ready(node, subnet)
            peers.append((overlay, Peer(node, name, _address(endpoint), endpoint.mac or Mac(0), self._vteps[node], subnet)))
        first = attachments[0][1]
        container = f"{node}:{names.endpoint_sandbox(first, self._overlays[first.network].network)}"
        joined = [overlay.join(peer, container, device) for (device, _, _), (overlay, peer) in zip(attachments, peers, strict=True)]
        own: list[Step] = [AddNamespace(container), *chain.from_iterable(joined)]
        if way_out is not None:
            steps += self._gateway_bridge(node)
            taken = self._ways_out[node]
            port = names.veth(node, name, "gateway", taken=taken.values())
            self._ways_out[node] = {**taken, way_out: port}
            own += gateway.attach(node, container, f"eth{len(attachments)}", way_out, port)
        endpoints = tuple(endpoint for _, endpoint, _ in attachments)
        self._attached[node, name] = _Attached(endpoints, tuple(peer for _, peer in peers), way_out, tuple(own), tuple(map(tuple, joined)))
        self._cluster = None
        return steps + own, opened, peers

    # -- what one node's agent hears of the others -------------------------------------------------------------------------

    def hear(self, network: str, peer: Peer) -> list[Step]:
        """An endpoint of another node, as gossip tells. For a plan whose only sandboxes are its own node's; there may be none yet."""
        return self._overlay(network).announce(peer)

    def unhear(self, network: str, peer: Peer) -> list[Step]:
        """It has gone, or is not to be heard of any more."""
        return self._overlay(network).withdraw(peer)

    def protect_heard(self) -> list[Step]:
        """Security associations with exactly the VTEPs that were heard of in this node's encrypted networks."""
        wanted = {
            (node, vtep): None
            for overlay in self._overlays.values()
            if overlay.network.encrypted
            for node in overlay.sandboxes
            for vtep in overlay.vteps()
            if vtep != self._vteps[node]
        }
        if wanted == self._heard:
            return []
        assert self._keys is not None
        steps: list[Step] = []
        for node, vtep in [pair for pair in self._heard if pair not in wanted]:
            steps += inverses(encryption.protect(node, self._vteps[node], vtep, self._keys, self._port))
        for node, vtep in [pair for pair in wanted if pair not in self._heard]:
            steps += encryption.protect(node, self._vteps[node], vtep, self._keys, self._port)
        self._heard = wanted
        return steps

    # -- one network more, or less, for a sandbox that runs ------------------------------------------------------------------

    def connect(self, endpoint: Endpoint) -> list[Step]:
        """A further network for the sandbox of this node and name; its device takes the next number (`docker network connect`)."""
        attached = self._there(endpoint.node, endpoint.name)
        overlay = self._overlay(endpoint.network)
        node, subnet = endpoint.node or "", self._placed(endpoint)
        if any(other.network == endpoint.network for other in attached.endpoints):
            raise UsageError(f"{endpoint.name} is attached to network {endpoint.network} already")
        address = _address(endpoint)
        peer = Peer(node, endpoint.name, address, endpoint.mac or mac_from_ipv4(address), self._vteps[node], subnet)
        steps: list[Step] = []
        opened = node not in overlay.sandboxes
        if opened:
            steps += overlay.open(node)
        steps += overlay.ready(node, subnet)
        if opened:
            steps += overlay.learn(node)
        first = next(step for step in attached.steps if isinstance(step, AddVeth))
        taken = {step.peer for step in attached.steps if isinstance(step, AddVeth)}
        device = next(device for number in count() if (device := f"eth{number}") not in taken)
        own = tuple(overlay.join(peer, first.peer_namespace, device))
        self._attached[node, endpoint.name] = replace(
            attached,
            endpoints=(*attached.endpoints, endpoint),
            peers=(*attached.peers, peer),
            steps=(*attached.steps, *own),
            joined=(*attached.joined, own),
        )
        self._cluster = None
        return [*steps, *own, *overlay.announce(peer)]

    def disconnect(self, node: str, name: str, network: str) -> list[Step]:
        """One network less; the sandbox and its other networks stay."""
        attached = self._there(node, name)
        where = next((place for place, other in enumerate(attached.endpoints) if other.network == network), None)
        if where is None:
            raise UsageError(f"{name} on {node} is not attached to network {network}")
        overlay, gone = self._overlay(network), attached.joined[where]
        steps = [*overlay.withdraw(attached.peers[where]), *inverses(gone), *overlay.leave(node)]
        self._attached[node, name] = replace(
            attached,
            endpoints=_but(attached.endpoints, where),
            peers=_but(attached.peers, where),
            steps=tuple(step for step in attached.steps if step not in gone),
            joined=_but(attached.joined, where),
        )
        self._cluster = None
        return steps

    def _there(self, node: str | None, name: str) -> _Attached:
        attached = self._attached.get((node or "", name))
        if attached is None:
            there = [other for where, other in self._attached if where == node]
            raise UsageError(f"no endpoint {name} on {node}: {_some(there) + ' are there' if there else 'none is there'}")
        return attached

    # -- the way out ---------------------------------------------------------------------------------------------------

    def _wants_out(self, attachments: Sequence[tuple[str, Endpoint, int]]) -> bool:
        """Load balancers have no way out, but ingress's, through which the mesh comes in; internal networks give none (sandbox.go needDefaultGW)."""
        networks = [(self._overlays[endpoint.network].network, endpoint) for _, endpoint, _ in attachments]
        return any(not network.internal and (network.ingress or endpoint.kind is not EndpointKind.LOAD_BALANCER) for network, endpoint in networks)

    def _way_out(self, node: str) -> IPv4Address:
        address = gateway.lowest_free(self._ways_out.get(node, {}))
        if address is None:
            raise UsageError(f"no address is left on {names.GATEWAY_BRIDGE} of {node}: {gateway.SUBNET} has them all in use")
        return address

    def _gateway_bridge(self, node: str) -> list[Step]:
        if node in self._ways_out:
            return []
        self._ways_out[node] = {}
        return gateway.bridge(node)

    # -- encryption ----------------------------------------------------------------------------------------------------

    def rotate(self, new: Key) -> list[Step]:
        """The next key becomes the one to send with, the oldest is forgotten and `new` is next, on all nodes that talk encrypted."""
        if self._keys is None:
            raise UsageError("the lab has no keys to rotate: no network is encrypted")
        vteps, keys = self._vteps, self._keys
        steps = [step for a, b in self._pairs for step in encryption.rotate(a, vteps[a], vteps[b], keys, new, self._port)]
        self._keys = keys.rotated(new)
        return steps

    def _secure(self, overlay: Overlay, node: str) -> list[Step]:
        """The associations between a node that has just got an encrypted network and the others that have it, in both directions."""
        assert self._keys is not None
        steps: list[Step] = []
        for pair in _pairs(node, overlay.sandboxes):
            self._pairs[pair] = self._pairs.get(pair, 0) + 1
            if self._pairs[pair] == 1:
                steps += self._protected(pair, self._keys)
        return steps

    def _unsecure(self, overlay: Overlay, node: str) -> list[Step]:
        assert self._keys is not None
        steps: list[Step] = []
        for pair in _pairs(node, overlay.sandboxes):
            self._pairs[pair] -= 1
            if self._pairs[pair] == 0:
                del self._pairs[pair]
                steps += inverses(self._protected(pair, self._keys))
        return steps

    def _protected(self, pair: tuple[str, str], keys: Keyring) -> list[Step]:
        here, there = pair
        return encryption.protect(here, self._vteps[here], self._vteps[there], keys, self._port)

    # -- what may be asked ---------------------------------------------------------------------------------------------

    def _completed(self, network: Network) -> Network:
        """The network with its id and MTU. UsageError when no node could have it, or not beside the others."""
        name = network.name
        if name in self._overlays:
            raise UsageError(f"there is a network {name} already")
        if network.driver != "overlay" or network.forwarding is not Forwarding.BRIDGED:
            raise UsageError(f"network {name} is not an overlay as Docker makes it: a lab has no other")
        if not network.subnets or len(network.vnis) != len(network.subnets):
            raise UsageError(f"network {name} has {len(network.subnets)} subnets and {len(network.vnis)} VNIs: one VNI each is wanted")
        if network.encrypted and self._keys is None:
            raise UsageError(f"network {name} is encrypted, and the lab has no keys")
        for subnet in network.subnets:
            if subnet.prefix.version != 4 or subnet.gateway is None or subnet.gateway not in subnet.prefix:
                raise UsageError(f"subnet {subnet.prefix} of network {name}: IPv4 with a gateway inside is wanted")
        used = {vni: other.network.name for other in self._overlays.values() for vni in other.network.vnis}
        for vni in network.vnis:
            if vni in used or vni not in _VNIS or network.vnis.count(vni) > 1:
                reason = f"network {used[vni]} has it" if vni in used else "it is there twice" if vni in _VNIS else "1 to 16777215 can be"
                raise UsageError(f"network {name} cannot have the VNI {vni}: {reason}")
        identity = network.id or names.identity("network", name)
        for other in self._overlays.values():
            if names.overlay_sandbox(other.id) == names.overlay_sandbox(identity):
                raise UsageError(
                    f"networks {other.network.name} and {name}: their ids begin with the same ten characters, which name their sandboxes"
                )
        if network.mtu is not None:
            return replace(network, id=identity)
        option = network.options.get(MTU_OPTION)
        if option is not None and not option.isdecimal():
            raise UsageError(f"network {name}: option {MTU_OPTION} is {option!r}, a number of bytes is wanted")
        mtu = overlay_mtu(network.encrypted, int(option) if option else self._underlay_mtu)
        return replace(network, id=identity, mtu=mtu, derived=network.derived | {"mtu"})

    def _checked(self, endpoints: Sequence[Endpoint]) -> tuple[str, str, list[tuple[str, Endpoint, int]]]:
        """Node, name and, in the order of the interfaces, each attachment with its device's name and its subnet. UsageError when they cannot be."""
        if not endpoints:
            raise UsageError("an endpoint without a network: at least one is wanted")
        node, name = endpoints[0].node, endpoints[0].name
        if any((endpoint.node, endpoint.name) != (node, name) for endpoint in endpoints):
            raise UsageError(f"the attachments of {name} differ in their node or name: those of one sandbox are wanted")
        names.sandbox_name(name)
        self._known_node(node)
        assert node is not None
        if (node, name) in self._attached:
            raise UsageError(f"there is an endpoint {name} on {node} already")
        if len({endpoint.network for endpoint in endpoints}) < len(endpoints):
            raise UsageError(f"{name} is attached to a network twice: one attachment each is wanted")
        networks = {endpoint.network: self._overlay(endpoint.network).network for endpoint in endpoints}
        attachments = [
            (device, endpoint if endpoint.mac else replace(endpoint, mac=overlay_mac(endpoint.ip), derived=endpoint.derived | {"mac"}), subnet)
            for device, endpoint in names.interfaces(endpoints, networks)
            for subnet in (self._placed(endpoint),)
        ]
        routes = [other for _, endpoint, subnet in attachments for other in self._overlays[endpoint.network].others(subnet)]
        own = {networks[endpoint.network].subnets[subnet].prefix for _, endpoint, subnet in attachments}
        twice = next((route for route in routes if route in own or routes.count(route) > 1), None)
        if twice is not None:
            raise UsageError(f"{name} would have two routes to {twice}: networks whose subnets are equal cannot share a sandbox")
        return node, name, attachments

    def _placed(self, endpoint: Endpoint) -> int:
        """Which of its network's subnets the endpoint lies in."""
        network = self._overlays[endpoint.network].network
        subnet = self._overlays[endpoint.network].subnet_of(_address(endpoint))
        if subnet is None:
            prefixes = " and ".join(str(subnet.prefix) for subnet in network.subnets)
            raise UsageError(f"{endpoint.name} cannot have {endpoint.ip} in network {network.name}: its addresses are {prefixes}")
        prefix = network.subnets[subnet].prefix
        reserved = {network.subnets[subnet].gateway: "the gateway"}
        if prefix.prefixlen < 31:
            reserved |= {prefix.network_address: "the subnet itself", prefix.broadcast_address: "its broadcast address"}
        if endpoint.ip in reserved:
            raise UsageError(f"{endpoint.name} cannot have {endpoint.ip} in network {network.name}: that is {reserved[endpoint.ip]}")
        return subnet

    def _known_node(self, node: str | None) -> IPv4Address:
        """The node's VTEP."""
        if node is None or node not in self._vteps:
            raise UsageError(f"no node {node}: the topology has {_some(list(self._vteps))}")
        return self._vteps[node]

    def _overlay(self, network: str) -> Overlay:
        if network not in self._overlays:
            raise UsageError(f"no network {network}: the lab has {_some(list(self._overlays)) or 'none'}")
        return self._overlays[network]


def _but(items: tuple[T, ...], where: int) -> tuple[T, ...]:
    return (*items[:where], *items[where + 1 :])


def _pairs(node: str, nodes: Iterable[str]) -> list[tuple[str, str]]:
    """(node, peer node) for each other node, and the other way round."""
    return [pair for other in nodes if other != node for pair in ((node, other), (other, node))]


def _address(endpoint: Endpoint) -> IPv4Address:
    if not isinstance(endpoint.ip, IPv4Address):
        raise UsageError(f"{endpoint.name} has the address {endpoint.ip}: Docker's overlay carries IPv4")
    return endpoint.ip


def _some(words: Sequence[str], shown: int = 5) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more
