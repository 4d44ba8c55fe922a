"""Small overlays to plan, and a kernel to plan for.

`KernelModel` knows what Linux does with each step and shares no line with the planner: it refuses what a kernel would refuse (a link that exists, an
entry that does not, a gateway that cannot be reached), so that a plan that satisfies it can be performed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vxtool.lab.encryption import Key, Keyring
from vxtool.lab.steps import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNamespace,
    AddNeighbour,
    AddRoute,
    AddRules,
    AddVeth,
    AddVxlan,
    AddXfrmPolicy,
    AddXfrmState,
    DeleteAddress,
    DeleteFdb,
    DeleteLink,
    DeleteNamespace,
    DeleteNeighbour,
    DeleteRoute,
    DeleteRules,
    DeleteXfrmPolicy,
    DeleteXfrmState,
    ForgetMac,
    MoveLink,
    SetDown,
    SetMaster,
    SetNoMaster,
    SetSysctl,
    SetUp,
    Step,
)
from vxtool.lab.topology import End, Link, Machine, MachineKind, Topology
from vxtool.model import Endpoint, Mac, Network, Subnet

KEYS = Keyring(Key(10, b"0123456789abcdef"), Key(11, b"fedcba9876543210"), Key(12, b"aaaaaaaaaaaaaaaa"))


def topology(nodes: Sequence[str], first: str = "192.168.68.109", mtu: int = 1500) -> Topology:
    """Nodes on one segment, their addresses one after the other."""
    machines = [Machine(node, MachineKind.NODE) for node in nodes]
    links = [
        Link(f"{node}-s1", End(node, "eth0", IPv4Interface((IPv4Address(first) + number, 16))), End("s1", f"s1-eth{number + 1}"), mtu)
        for number, node in enumerate(nodes)
    ]
    return Topology("one_segment", (*machines, Machine("s1", MachineKind.SWITCH)), tuple(links))


def network(name: str, vni: int, *subnets: str, encrypted: bool = False, internal: bool = False, ingress: bool = False) -> Network:
    """A network whose id begins with its name; the first address of each subnet is the gateway, further subnets have the next VNIs."""
    prefixes = [IPv4Network(subnet) for subnet in subnets or ("10.0.1.0/24",)]
    return Network(
        name,
        id=(name + "0123456789abcdefghijklmno")[:25],
        vnis=tuple(range(vni, vni + len(prefixes))),
        subnets=tuple(Subnet(prefix, prefix[1]) for prefix in prefixes),
        encrypted=encrypted,
        internal=internal,
        ingress=ingress,
    )


def endpoint(name: str, node: str, network: str, ip: str, mac: str | None = None) -> Endpoint:
    return Endpoint(network, IPv4Address(ip), name=name, node=node, mac=Mac.parse(mac) if mac else None)


@dataclass
class ModelLink:
    kind: str  # veth, bridge, vxlan
    mtu: int
    mac: Mac | None = None
    peer: tuple[str, str] | None = None
    vni: int | None = None
    port: int | None = None
    underlay: str | None = None
    default_pvid: int | None = None
    master: str | None = None
    up: bool = False
    addresses: set[IPv4Interface] = field(default_factory=set)


@dataclass
class ModelNamespace:
    links: dict[str, ModelLink] = field(default_factory=dict)
    neighbours: dict[tuple[str, IPv4Address], Mac] = field(default_factory=dict)
    fdb: dict[tuple[str, Mac], IPv4Address] = field(default_factory=dict)
    routes: dict[IPv4Network, tuple[IPv4Address | None, str | None]] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)  # those that are not 0
    rules: dict[tuple[str, str], str] = field(default_factory=dict)
    states: dict[tuple[IPv4Address, IPv4Address, int], bytes] = field(default_factory=dict)
    policies: dict[tuple[IPv4Address, IPv4Address, int], int] = field(default_factory=dict)


class Impossible(Exception):
    """A step that a kernel refuses."""


class KernelModel:
    """Namespaces and what is in them. `nodes` exist beforehand, with a way to each other."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.namespaces = {node: ModelNamespace() for node in nodes}

    def perform(self, steps: Iterable[Step]) -> None:
        for step in steps:
            try:
                self._perform(step)
            except (KeyError, AssertionError) as error:
                raise Impossible(f"{step}: {error!r}") from error

    def _perform(self, step: Step) -> None:
        space = self.namespaces.get(step.namespace)
        if isinstance(step, AddNamespace):
            assert space is None, "exists"
            self.namespaces[step.namespace] = ModelNamespace()
            return
        assert space is not None, "no such namespace"
        match step:
            case DeleteNamespace(name):
                for link in list(space.links):
                    self._remove(name, link)
                del self.namespaces[name]
            case AddVeth(name, link, peer_name, peer, mtu, mac, peer_mac):
                self._add(name, link, ModelLink("veth", mtu, mac, (peer_name, peer)))
                self._add(peer_name, peer, ModelLink("veth", mtu, peer_mac, (name, link)))
            case AddBridge(name, link, mac, mtu, pvid):
                self._add(name, link, ModelLink("bridge", mtu or 1500, mac, default_pvid=pvid))
            case AddVxlan(name, link, vni, port, mtu, underlay):
                assert underlay in self.namespaces
                others = [other for known in self.namespaces.values() for other in known.links.values()]
                assert all((other.vni, other.port, other.underlay) != (vni, port, underlay) for other in others), "the VNI is in use here"
                self._add(name, link, ModelLink("vxlan", mtu, vni=vni, port=port, underlay=underlay))
            case DeleteLink(name, link):
                self._remove(name, link)
            case MoveLink(name, link, to, new_name):
                moved = space.links.pop(link)
                assert not moved.up, "is up"
                assert moved.master is None
                self._add(to, new_name, moved)
                if moved.peer:
                    self.namespaces[moved.peer[0]].links[moved.peer[1]].peer = (to, new_name)
            case SetMaster(_, link, master):
                assert space.links[master].kind == "bridge"
                assert space.links[link].master is None
                space.links[link].master = master
            case SetNoMaster(_, link, master):
                assert space.links[link].master == master
                space.links[link].master = None
            case SetUp(_, link):
                space.links[link].up = True
            case SetDown(_, link):
                space.links[link].up = False
                self._flush_routes(space)
            case AddAddress(_, link, interface):
                assert interface not in space.links[link].addresses, "exists"
                space.links[link].addresses.add(interface)
            case DeleteAddress(_, link, interface):
                space.links[link].addresses.remove(interface)
                self._flush_routes(space)
            case AddRoute(_, destination, via, device):
                connected = {interface.network for link in space.links.values() if link.up for interface in link.addresses}
                assert destination not in space.routes, "exists"
                assert destination not in connected, "exists: connected"
                assert via is None or self._reaches(space, via, device), "network is unreachable"
                space.routes[destination] = (via, device)
            case DeleteRoute(_, destination, via, device):
                assert space.routes.pop(destination) == (via, device)
            case AddNeighbour(_, device, address, mac):
                assert space.links[device].up
                assert (device, address) not in space.neighbours, "exists"
                space.neighbours[device, address] = mac
            case DeleteNeighbour(_, device, address, mac):
                assert space.neighbours.pop((device, address)) == mac, "another one's"
            case AddFdb(_, device, mac, vtep):
                assert space.links[device].kind == "vxlan"
                assert (device, mac) not in space.fdb, "exists"
                space.fdb[device, mac] = vtep
            case DeleteFdb(_, device, mac, vtep):
                assert space.fdb.pop((device, mac)) == vtep, "another one's"
            case ForgetMac(_, device, _):
                assert space.links[device].master is not None
            case SetSysctl(_, key, value, before):
                assert space.sysctls.pop(key, "0") == before
                space.sysctls |= {} if value == "0" else {key: value}
            case AddRules(_, family, table, body):
                assert (family, table) not in space.rules, "exists"
                space.rules[family, table] = body
            case DeleteRules(_, family, table, body):
                assert space.rules.pop((family, table)) == body
            case AddXfrmState(_, source, destination, spi, _, key):
                assert (source, destination, spi) not in space.states, "exists"
                space.states[source, destination, spi] = key
            case DeleteXfrmState(_, source, destination, spi):
                del space.states[source, destination, spi]
            case AddXfrmPolicy(_, source, destination, port, _, spi, _, replaces):
                assert space.policies.get((source, destination, port)) == replaces, "another policy is there"
                space.policies[source, destination, port] = spi
            case DeleteXfrmPolicy(_, source, destination, port, _, spi):
                assert space.policies.pop((source, destination, port)) == spi
            case _:
                raise AssertionError("a step no overlay needs")

    def _add(self, namespace: str, name: str, link: ModelLink) -> None:
        assert len(name) < 16, "a link's name has at most 15 characters"
        assert name not in self.namespaces[namespace].links, "exists"
        self.namespaces[namespace].links[name] = link

    def _remove(self, namespace: str, name: str) -> None:
        space = self.namespaces[namespace]
        link = space.links.pop(name)
        for other in space.links.values():
            assert other.master != name, "has ports"  # Linux would set them free; a plan that relies on it forgets something
        space.neighbours = {key: value for key, value in space.neighbours.items() if key[0] != name}
        space.fdb = {key: value for key, value in space.fdb.items() if key[0] != name}
        self._flush_routes(space)
        if link.peer and link.peer[0] in self.namespaces and link.peer[1] in self.namespaces[link.peer[0]].links:
            self.namespaces[link.peer[0]].links.pop(link.peer[1])
            self._flush_routes(self.namespaces[link.peer[0]])

    def _reaches(self, space: ModelNamespace, via: IPv4Address, device: str | None) -> bool:
        return any(
            link.up and via in interface.network for name, link in space.links.items() if device in (None, name) for interface in link.addresses
        )

    def _flush_routes(self, space: ModelNamespace) -> None:
        space.routes = {to: (via, device) for to, (via, device) in space.routes.items() if via is None or self._reaches(space, via, device)}
