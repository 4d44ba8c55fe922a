"""The overlay driver, for one network on all nodes: its sandboxes and its peer DB.

Knows what libnetwork's drivers/overlay makes on the first join, on every join, on the last leave, and when it hears of a peer; performs nothing. All
nodes hear of everything, in the same order and at once: the lab plans what gossip would have brought about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TypeVar

from vxtool.lab import encryption, names
from vxtool.lab.steps import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNamespace,
    AddNeighbour,
    AddRoute,
    AddVeth,
    AddVxlan,
    DeleteFdb,
    DeleteNeighbour,
    ForgetMac,
    MoveLink,
    SetMaster,
    SetSysctl,
    SetUp,
    Step,
    inverses,
)
from vxtool.model import Mac, Network

__all__ = ["Overlay", "Peer"]

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Peer:
    """An attachment as the peer DB keeps it."""

    node: str
    name: str  # of its sandbox
    address: IPv4Address
    mac: Mac
    vtep: IPv4Address
    subnet: int  # which of the network's subnets it lies in


@dataclass(frozen=True, slots=True)
class _Sandbox:
    """The overlay sandbox of one network on one node."""

    namespace: str
    subnets: tuple[int, ...] = ()  # the first one has br0 and vxlan0, the second br1 and vxlan1..
    joined: int = 0
    veths: int = 0  # ever made: libnetwork gives no number a second time (osl/interface_linux.go)
    steps: tuple[Step, ...] = ()

    def bridge(self, subnet: int) -> str:
        return f"br{self.subnets.index(subnet)}"

    def vxlan(self, subnet: int) -> str:
        return f"vxlan{self.subnets.index(subnet)}"


def _first(peers: Iterable[Peer], node: str) -> Peer | None:
    """Whom the kernel of `node` has been told of: the first of them, in the order they were heard of, that lives elsewhere."""
    for peer in peers:
        if peer.node != node:
            return peer
    return None


class Overlay:
    """One network: its sandboxes on all nodes and its peer DB, which is the same on all nodes.

    Several peers with one address, or one MAC, are a transient state for Docker (a task that has moved, heard of at its new place before it has
    gone from the old one): the first is in the kernel, and when it goes the next is restored from the DB. 19.03 keys the DB by address and MAC, so
    that two *different* MACs of one address overwrite each other's neighbour entry and lose it with the first that goes; here, as in today's
    releases, the address decides.
    """

    def __init__(self, network: Network, port: int, like_docker: bool) -> None:
        self.network = network
        self.id = network.id or ""
        self.mtu = network.mtu or 0
        self.sandboxes: dict[str, _Sandbox] = {}
        self._port = port
        self._like_docker = like_docker
        self._by_address: dict[IPv4Address, tuple[Peer, ...]] = {}
        self._by_mac: dict[tuple[int, Mac], tuple[Peer, ...]] = {}

    def copy(self) -> Overlay:
        copied = Overlay(self.network, self._port, self._like_docker)
        copied.sandboxes = self.sandboxes.copy()
        copied._by_address = self._by_address.copy()
        copied._by_mac = self._by_mac.copy()
        return copied

    def subnet_of(self, address: IPv4Address) -> int | None:
        """Which of its subnets holds the address."""
        return next((index for index, subnet in enumerate(self.network.subnets) if address in subnet.prefix), None)

    def vteps(self) -> Iterable[IPv4Address]:
        """Of all peers, each once."""
        return dict.fromkeys(peer.vtep for peers in self._by_address.values() for peer in peers)

    # -- sandboxes -----------------------------------------------------------------------------------------------------

    def open(self, node: str) -> list[Step]:
        """The sandbox on a node, as yet without devices (initSandbox)."""
        namespace = f"{node}:{names.overlay_sandbox(self.id)}"
        # Between the network's subnets it is the sandbox that forwards.
        steps: list[Step] = [AddNamespace(namespace), SetSysctl(namespace, "net.ipv4.ip_forward", "1", before="0")]
        if len(self.network.subnets) > 1:
            # A bridge takes the lowest MAC of its ports, so its own changes when one comes or goes, and containers on Docker's nodes then lose the
            # way to other subnets until their neighbour entry of the gateway has aged. Here it announces its new MAC, in the sandbox alone.
            steps.append(SetSysctl(namespace, "net.ipv4.conf.all.arp_notify", "1", before="0"))
        self.sandboxes[node] = _Sandbox(namespace, steps=tuple(steps))
        return steps

    def ready(self, node: str, subnet: int) -> list[Step]:
        """The bridge and the VXLAN device of a subnet in the node's sandbox, when they are not there yet (setupSubnetSandbox)."""
        sandbox = self.sandboxes[node]
        if subnet in sandbox.subnets:
            return []
        sandbox = replace(sandbox, subnets=(*sandbox.subnets, subnet))
        space, bridge, vxlan, vni = sandbox.namespace, sandbox.bridge(subnet), sandbox.vxlan(subnet), self.network.vnis[subnet]
        steps: list[Step] = []
        if self.network.encrypted:
            steps.append(encryption.rules(node, vni, self._port))
        if self._like_docker:
            made = names.bridge_source(vni, self.id)
            steps += [AddBridge(space, made, default_pvid=0, queue=0), MoveLink(space, made, space, bridge)]
        else:
            steps.append(AddBridge(space, bridge, default_pvid=0, queue=0))
        steps += [AddAddress(space, bridge, self._gateway(subnet)), SetUp(space, bridge)]
        if self._like_docker:
            made = names.vxlan_source(vni, self.id)
            steps += [AddVxlan(node, made, vni, self._port, self.mtu, underlay=node), MoveLink(node, made, space, vxlan)]
        else:
            steps.append(AddVxlan(space, vxlan, vni, self._port, self.mtu, underlay=node))
        steps += [SetMaster(space, vxlan, bridge), SetUp(space, vxlan)]
        self.sandboxes[node] = replace(sandbox, steps=(*sandbox.steps, *steps))
        return steps

    def join(self, peer: Peer, container: str, device: str) -> list[Step]:
        """The interface `device` of the namespace `container` (driver's Join and sandbox's SetKey)."""
        sandbox = self.sandboxes[peer.node]
        self.sandboxes[peer.node] = replace(sandbox, joined=sandbox.joined + 1, veths=sandbox.veths + 1)
        space, port = sandbox.namespace, f"veth{sandbox.veths}"
        gateway_address = self._gateway(peer.subnet)
        return [
            AddVeth(space, port, container, device, self.mtu, peer_mac=peer.mac, queue=0),
            SetMaster(space, port, sandbox.bridge(peer.subnet)),
            SetUp(space, port),
            AddAddress(container, device, IPv4Interface((peer.address, gateway_address.network.prefixlen))),
            SetUp(container, device),
            *(AddRoute(container, other, gateway_address.ip, device) for other in self.others(peer.subnet)),
        ]

    def leave(self, node: str) -> list[Step]:
        """One attachment less; after the last one the sandbox goes, with all it knows."""
        sandbox = self.sandboxes[node]
        if sandbox.joined > 1:
            self.sandboxes[node] = replace(sandbox, joined=sandbox.joined - 1)
            return []
        steps = inverses([*sandbox.steps, *self.learn(node)])
        del self.sandboxes[node]
        return steps

    def others(self, subnet: int) -> list[IPv4Network]:
        """The network's other subnets: a container reaches them through its own one's gateway."""
        return [_ipv4(other.prefix) for index, other in enumerate(self.network.subnets) if index != subnet]

    def _gateway(self, subnet: int) -> IPv4Interface:
        found = self.network.subnets[subnet]
        return IPv4Interface((str(found.gateway), found.prefix.prefixlen))

    # -- peers ---------------------------------------------------------------------------------------------------------

    def remember(self, peer: Peer) -> None:
        """Into the DB, without a word to any kernel."""
        key = peer.subnet, peer.mac
        self._by_address[peer.address] = (*self._by_address.get(peer.address, ()), peer)
        self._by_mac[key] = (*self._by_mac.get(key, ()), peer)

    def learn(self, node: str) -> list[Step]:
        """All that the DB knows and a sandbox that has just been made does not (initSandboxPeerDB). Of local peers br0 learns by itself."""
        steps: list[Step] = []
        for peers in list(self._by_address.values()):
            for peer in peers:
                if peer.node == node:
                    continue
                steps += self.ready(node, peer.subnet)
                sandbox = self.sandboxes[node]
                device = sandbox.vxlan(peer.subnet)
                if len(peers) == 1 or _first(peers, node) == peer:
                    steps.append(AddNeighbour(sandbox.namespace, device, peer.address, peer.mac))
                if _first(self._by_mac[peer.subnet, peer.mac], node) == peer:
                    steps.append(AddFdb(sandbox.namespace, device, peer.mac, peer.vtep))
        return steps

    def announce(self, peer: Peer) -> list[Step]:
        """A new attachment, heard of by every node that has the network (peerAddOp): first the neighbour, then where its MAC is."""
        of_address, of_mac = self._by_address.get(peer.address, ()), self._by_mac.get((peer.subnet, peer.mac), ())
        self.remember(peer)
        steps: list[Step] = []
        for node in self._nodes_but(peer.node):
            steps += self.ready(node, peer.subnet)
            sandbox = self.sandboxes[node]
            device = sandbox.vxlan(peer.subnet)
            if _first(of_address, node) is None:
                steps.append(AddNeighbour(sandbox.namespace, device, peer.address, peer.mac))
            if _first(of_mac, node) is None:
                steps.append(AddFdb(sandbox.namespace, device, peer.mac, peer.vtep))
        return steps

    def withdraw(self, peer: Peer) -> list[Step]:
        """An attachment has gone (peerDeleteOp): first where its MAC is, then the neighbour; then, from the DB, who takes its place."""
        key = peer.subnet, peer.mac
        had_address, had_mac = self._by_address[peer.address], self._by_mac[key]
        have_address = _without(self._by_address, peer.address, peer)
        have_mac = _without(self._by_mac, key, peer)
        steps: list[Step] = []
        for node in self._nodes_but(peer.node):
            sandbox = self.sandboxes[node]
            space, device = sandbox.namespace, sandbox.vxlan(peer.subnet)
            neighbour, entry = _first(had_address, node) == peer, _first(had_mac, node) == peer
            if entry:
                steps.append(DeleteFdb(space, device, peer.mac, peer.vtep))
            if neighbour:
                steps.append(DeleteNeighbour(space, device, peer.address, peer.mac))
            steps.append(ForgetMac(space, device, peer.mac))
            if neighbour and (next_peer := _first(have_address, node)):
                steps.append(AddNeighbour(space, device, next_peer.address, next_peer.mac))
            if entry and (next_peer := _first(have_mac, node)):
                steps.append(AddFdb(space, device, next_peer.mac, next_peer.vtep))
        return steps

    def _nodes_but(self, node: str) -> list[str]:
        return [other for other in self.sandboxes if other != node]


def _without(table: dict[K, tuple[Peer, ...]], key: K, peer: Peer) -> tuple[Peer, ...]:
    """Takes the peer out of the table; who remains under its key."""
    table[key] = remaining = tuple(other for other in table[key] if other != peer)
    if not remaining:
        del table[key]
    return remaining


def _ipv4(prefix: object) -> IPv4Network:
    assert isinstance(prefix, IPv4Network)
    return prefix
