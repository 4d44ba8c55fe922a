"""What a lab is asked to be: a topology, the overlay networks on it, the endpoints in them.

Knows YAML and options, and what is filled in when nothing is said: Docker's own order of subnets, VNIs and addresses, and ids that are the same each
time. Builds nothing. docs/labs.md is the YAML's page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from os import PathLike, fspath

from vxtool.errors import UsageError
from vxtool.lab.names import data_path_port as checked_port
from vxtool.lab.names import identity
from vxtool.lab.topology import Topology
from vxtool.lab.topos import load
from vxtool.model import DATA_PATH_PORT, Cluster, Endpoint, EndpointKind, Engine, Mac, Network, Node, Subnet, overlay_mac, overlay_mtu

__all__ = ["EndpointWish", "LabSpec", "NetworkWish", "Options", "complete", "from_options", "network_wish", "spread"]

FIRST_VNI = 4097
"""4096 is ingress, which takes 10.0.0.0/24 as well; user networks follow (libnetwork ovmanager.go, swarmkit manager.go)."""

POOL = IPv4Network("10.0.0.0/8")
POOL_PREFIX = 24


@dataclass(frozen=True, slots=True)
class Options:
    """How a lab is built, apart from what it is."""

    like_docker: bool = False  # VXLAN devices are made in the node's namespace and moved, as Docker does it
    wire: bool = False  # no segmentation and checksum offload on links of the lab: frames look as on a real wire
    mtu_from_underlay: bool = False  # networks without an MTU of their own get the underlay's smallest less 50, instead of Docker's 1450
    engine: Engine = Engine.V19_03  # whose behaviour a swarm's embedded DNS has


@dataclass(frozen=True, slots=True)
class LabSpec:
    """`cluster` is complete: every node has its address, every network its VNI, subnets and MTU, every endpoint its address, MAC and node."""

    name: str
    topology: Topology
    cluster: Cluster
    options: Options


@dataclass(frozen=True, slots=True)
class NetworkWish:
    """A network as it was asked for; what is None is filled in."""

    name: str
    subnets: tuple[Subnet, ...] = ()
    vnis: tuple[int, ...] = ()
    id: str | None = None
    mtu: int | None = None  # inner
    encrypted: bool = False
    internal: bool = False


@dataclass(frozen=True, slots=True)
class EndpointWish:
    """A sandbox as it was asked for: on which node, in which networks, and at which addresses where that matters."""

    name: str
    node: str
    networks: Mapping[str, IPv4Address | None] = field(hash=False)
    service: str | None = None
    mac: Mac | None = None  # of a sandbox in one network


# --------------------------------------------------------------------------------------------------------------------
# What was asked for
# --------------------------------------------------------------------------------------------------------------------


def from_options(
    topology: str | PathLike[str] | Topology | None = None,
    *,
    name: str | None = None,
    nodes: int | None = None,
    networks: Sequence[str | NetworkWish] = (),
    endpoints: int | Sequence[EndpointWish] | None = None,
    data_path_port: int | None = None,
    mtu: int | None = None,
    encrypted: bool = False,
    bare: bool = False,
    options: Options | None = None,
) -> LabSpec:
    """The lab that `vxtool lab up` builds. With nothing said it is the article's: two nodes, the network web, endpoints web.1 to web.6.

    `topology`: `two_racks,n=4`, `my.py,NAME`, or a Topology; `nodes` is its parameter n. `networks`: NAME or NAME=SUBNET. `endpoints`: how many in
    each network, named NETWORK.1.. and spread over the nodes in turn; 6 unless told. `mtu` (inner) and `encrypted` are of the networks given as text.
    A file.yaml says nodes, networks and endpoints by itself. `bare`: nodes and underlay alone, for a swarm that makes the rest. Raises UsageError,
    one sentence.
    """
    if bare:
        told = {"networks": networks or None, "endpoints": endpoints, "an MTU": mtu, "encryption": encrypted or None}
        for what in (what for what, given in told.items() if given is not None):
            raise UsageError(f"{what} cannot be given to a lab that is bare: `vxtool network create` and `service create` make them")
    if not isinstance(topology, Topology):
        topology = fspath(topology or "one_segment")
    if isinstance(topology, str) and topology.endswith((".yaml", ".yml")):
        from vxtool.lab import labfile  # it reads YAML, which only files need

        told = {"nodes": nodes, "networks": networks or None, "endpoints": endpoints, "an MTU": mtu, "encryption": encrypted or None}
        for what in (what for what, given in told.items() if given is not None):
            raise UsageError(f"{what} cannot be given beside {topology}, which says it itself")
        spec = labfile.read(topology, name=name, data_path_port=data_path_port, options=options)
        if bare and spec.cluster.networks:
            raise UsageError(f"{topology} has networks of its own, which a swarm would build again: take them out of it")
        return spec
    if isinstance(topology, Topology):
        if nodes is not None and nodes != len(topology.nodes):
            raise UsageError(f"the topology {topology.name} has {len(topology.nodes)} nodes, not {nodes}")
    else:
        topology = load(_with_nodes(topology, nodes))
        if nodes is not None and nodes != len(topology.nodes):
            raise UsageError(f"the topology {topology.name} has {len(topology.nodes)} nodes with n={nodes}, not {nodes}: its n means something else")
    given = () if bare else networks or ("web",)
    wishes = [wish if isinstance(wish, NetworkWish) else network_wish(wish, mtu, encrypted) for wish in given]
    if endpoints is None or isinstance(endpoints, int):
        endpoints = list(spread([wish.name for wish in wishes], topology, 6 if endpoints is None else endpoints))
    return complete(name or "lab", topology, wishes, endpoints, DATA_PATH_PORT if data_path_port is None else data_path_port, options)


def spread(networks: Sequence[str], topology: Topology, count: int) -> Iterator[EndpointWish]:
    """`count` endpoints in each network, on the nodes in turn."""
    if count < 0:
        raise UsageError(f"{count} endpoints cannot be")
    nodes = topology.nodes
    if count > _MOST_ENDPOINTS * len(nodes):
        raise UsageError(
            f"{count:,} endpoints in a network are too many: a node takes {_MOST_ENDPOINTS:,}, because a Linux bridge has at most 1,023 ports"
        )
    for network in networks:
        for number in range(count):
            yield EndpointWish(f"{network}.{number + 1}", nodes[number % len(nodes)].name, {network: None})


def _with_nodes(topology: str, nodes: int | None) -> str:
    """`--nodes 3` is `n=3`, Mininet's word for it."""
    if nodes is None:
        return topology
    if nodes < 1:
        raise UsageError(f"a lab of {nodes} nodes cannot be; one is the least")
    if re.search(r",n=", topology):
        raise UsageError(f"the number of nodes stands twice: {topology} and {nodes}")
    return f"{topology},n={nodes}"


def network_wish(text: str, mtu: int | None = None, encrypted: bool = False) -> NetworkWish:
    """`NAME` or `NAME=SUBNET`"""
    name, given, subnet = text.partition("=")
    try:
        return NetworkWish(name, (Subnet(IPv4Network(subnet)),) if given else (), mtu=mtu, encrypted=encrypted)
    except ValueError:
        raise UsageError(f"{subnet!r} is not a subnet of the network {name}: one like {name}=10.0.1.0/24 is wanted") from None


# --------------------------------------------------------------------------------------------------------------------
# What is filled in
# --------------------------------------------------------------------------------------------------------------------

_LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # a folder's name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NETWORK_ID = re.compile(r"[0-9a-z]{25}")
_NAMESPACE_LIMIT = 255 - len(".starting")  # NAME_MAX: NODE:ENDPOINT is a file's name, and begins those of lab/programs.py
_VNI_LIMIT = (1 << 24) - 1
_MOST_ENDPOINTS = 1022  # of a network on a node: ports of a bridge (BR_MAX_PORTS) less that of the VXLAN device
_INNER_MTU = (68, 65485)  # IPv4's least; the largest packet less 50


def complete(
    name: str,
    topology: Topology,
    networks: Sequence[NetworkWish],
    endpoints: Sequence[EndpointWish],
    data_path_port: int = DATA_PATH_PORT,
    options: Options | None = None,
) -> LabSpec:
    """The whole lab of what was asked for. UsageError for what cannot be, or cannot be together."""
    options = options or Options()
    if not _LAB_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a lab: up to 63 letters, digits, '.', '-' and '_' are, beginning with a letter or digit")
    made = _networks(name, networks, topology, options)
    by_name = {network.name: network for network in made}
    return LabSpec(
        name,
        topology,
        Cluster(
            nodes=tuple(_node(name, topology, machine.name) for machine in topology.nodes),
            networks=made,
            endpoints=tuple(_endpoints(endpoints, by_name, topology)),
            data_path_port=checked_port(data_path_port),
        ),
        options,
    )


def _node(lab: str, topology: Topology, name: str) -> Node:
    address = topology.address(name)
    return Node(name, id=identity(lab, "node", name), hostname=name, advertise=address, data_path=address, derived=frozenset({"data_path"}))


def _networks(lab: str, wishes: Sequence[NetworkWish], topology: Topology, options: Options) -> tuple[Network, ...]:
    taken_vnis: dict[int, str] = {}
    ids: dict[str, str] = {}
    names: set[str] = set()
    for wish in wishes:
        if not _NAME.fullmatch(wish.name):
            raise UsageError(f"{wish.name!r} is no name for a network: letters, digits, '.', '-' and '_' are, beginning with a letter or digit")
        if wish.name in names:
            raise UsageError(f"two networks are called {wish.name}")
        names.add(wish.name)
        for vni in wish.vnis:
            if not 0 <= vni <= _VNI_LIMIT:
                raise UsageError(f"the network {wish.name} cannot have the VNI {vni}: 24 bits hold numbers up to {_VNI_LIMIT:,}")
            if vni in taken_vnis:
                raise UsageError(f"the networks {taken_vnis[vni]} and {wish.name} both have the VNI {vni}")
            taken_vnis[vni] = wish.name
    vnis = (vni for vni in range(FIRST_VNI, _VNI_LIMIT + 1) if vni not in taken_vnis)
    pools = _pools([subnet.prefix for wish in wishes for subnet in wish.subnets if isinstance(subnet.prefix, IPv4Network)])
    made = []
    for wish in wishes:
        subnets = tuple(_gateway(wish.name, subnet) for subnet in wish.subnets or (_drawn(wish.name, pools),))
        if wish.vnis and len(wish.vnis) != len(subnets):
            raise UsageError(f"the network {wish.name} has {len(subnets)} subnets and {len(wish.vnis)} VNIs: each subnet has its own")
        network_id = wish.id or identity(lab, "network", wish.name)
        if not _NETWORK_ID.fullmatch(network_id):
            raise UsageError(f"{network_id!r} is no id of the network {wish.name}: 25 digits and small letters are")
        # Ten characters of it name the sandbox on every node.
        if ids.setdefault(network_id[:10], wish.name) != wish.name:
            raise UsageError(f"the ids of the networks {ids[network_id[:10]]} and {wish.name} begin alike: their first ten characters must differ")
        made.append(_network(wish, network_id, subnets, wish.vnis or tuple(next(vnis) for _ in subnets), topology, options))
    return tuple(made)


def _network(wish: NetworkWish, network_id: str, subnets: tuple[Subnet, ...], vnis: tuple[int, ...], topology: Topology, options: Options) -> Network:
    derived: frozenset[str] = frozenset()
    if wish.mtu is not None:
        if not _INNER_MTU[0] <= wish.mtu <= _INNER_MTU[1]:
            raise UsageError(f"the network {wish.name} cannot have an MTU of {wish.mtu}: from {_INNER_MTU[0]} to {_INNER_MTU[1]:,} are possible")
        mtu = wish.mtu
    elif options.mtu_from_underlay:
        smallest = min((link.mtu for link in topology.links), default=1500)
        mtu = overlay_mtu(wish.encrypted, smallest)
        if mtu < _INNER_MTU[0]:
            raise UsageError(f"the underlay's smallest MTU, {smallest}, leaves {mtu} bytes for the network {wish.name}; IPv4 needs {_INNER_MTU[0]}")
    else:
        mtu, derived = overlay_mtu(wish.encrypted), frozenset({"mtu"})
    return Network(
        wish.name,
        id=network_id,
        vnis=vnis,
        subnets=subnets,
        mtu=mtu,
        encrypted=wish.encrypted,
        internal=wish.internal,
        attachable=True,
        complete_nodes=frozenset(machine.name for machine in topology.nodes),
        complete=True,
        tasks_complete=True,
        derived=derived,
    )


def _pools(given: Sequence[IPv4Network]) -> Iterator[IPv4Network]:
    """What swarm hands out to networks that name no subnet: /24s of 10.0.0.0/8 in turn, but not ingress's, and none that overlaps a given one."""
    pools = POOL.subnets(new_prefix=POOL_PREFIX)
    next(pools)
    yield from (pool for pool in pools if not any(pool.overlaps(subnet) for subnet in given))


def _drawn(network: str, pools: Iterator[IPv4Network]) -> Subnet:
    for pool in pools:
        return Subnet(pool)
    raise UsageError(f"there is no subnet left for the network {network} in {POOL}: say one, as {network}=192.168.0.0/24")


def _gateway(network: str, subnet: Subnet) -> Subnet:
    prefix, gateway = subnet.prefix, subnet.gateway
    if not isinstance(prefix, IPv4Network):
        raise UsageError(f"the network {network} cannot have the subnet {prefix}: Docker's overlays carry IPv4")
    if prefix.prefixlen > 30 or prefix.is_multicast or prefix.is_loopback:
        raise UsageError(f"the network {network} cannot have the subnet {prefix}: there is no room for endpoints in it")
    if gateway is None:
        return Subnet(prefix, prefix[1])
    if gateway not in prefix or gateway in (prefix.network_address, prefix.broadcast_address):
        raise UsageError(f"the network {network} cannot have the gateway {gateway}: it is no address for hosts of {prefix}")
    return subnet


def _endpoints(wishes: Sequence[EndpointWish], networks: Mapping[str, Network], topology: Topology) -> Iterator[Endpoint]:
    nodes = {machine.name for machine in topology.nodes}
    seen: set[tuple[str, str]] = set()
    for wish in wishes:
        if not _NAME.fullmatch(wish.name):
            raise UsageError(f"{wish.name!r} is no name for an endpoint: letters, digits, '.', '-' and '_' are, beginning with a letter or digit")
        if wish.node not in nodes:
            raise UsageError(f"the endpoint {wish.name} is on {wish.node}, which is no node (there are {_some(nodes)})")
        if (wish.node, wish.name) in seen:
            raise UsageError(f"two endpoints on {wish.node} are called {wish.name}")
        seen.add((wish.node, wish.name))
        if len(f"{wish.node}:{wish.name}") > _NAMESPACE_LIMIT:
            raise UsageError(f"the name of the endpoint {wish.name} is too long: with its node's it has at most {_NAMESPACE_LIMIT} characters")
        if wish.name in nodes:
            raise UsageError(f"the endpoint {wish.name} is called like a node, so that nobody could tell which is meant; choose another name")
        if wish.mac is not None and (wish.mac.group or not int(wish.mac)):
            raise UsageError(f"the endpoint {wish.name} cannot have the MAC address {wish.mac}: it is a group's, or nobody's")
        if not wish.networks:
            raise UsageError(f"the endpoint {wish.name} is in no network")
        for network in wish.networks:
            if network not in networks:
                raise UsageError(f"the endpoint {wish.name} is in {network}, which is no network (there are {_some(networks)})")
    pools = {name: _Addresses(network, wishes) for name, network in networks.items()}
    for wish in wishes:
        service = wish.service or _service(wish.name)
        for network, address in wish.networks.items():
            ip = address or pools[network].draw(wish.name)
            yield Endpoint(
                network,
                ip,
                wish.name,
                mac=wish.mac or overlay_mac(ip),
                node=wish.node,
                kind=EndpointKind.TASK if service else EndpointKind.CONTAINER,
                service=service,
                derived=frozenset() if wish.mac else frozenset({"mac"}),
            )


class _Addresses:
    """The addresses of a network as swarm hands them out: serially; the gateway's is taken, and the first free one is left for a service's VIP."""

    def __init__(self, network: Network, wishes: Sequence[EndpointWish]) -> None:
        self._network = network
        gateways = {subnet.gateway for subnet in network.subnets}
        taken: dict[IPv4Address, str] = {}
        for wish in wishes:
            address = wish.networks.get(network.name)
            if address is None:
                continue
            subnet = next((subnet.prefix for subnet in network.subnets if address in subnet.prefix), None)
            if subnet is None:
                where = " or ".join(str(subnet.prefix) for subnet in network.subnets)
                raise UsageError(f"the endpoint {wish.name} cannot have {address} in {network.name}: that is {where}")
            if address in gateways or address in (subnet.network_address, subnet.broadcast_address):
                raise UsageError(f"the endpoint {wish.name} cannot have {address} in {network.name}: it is the gateway's, or no host's")
            if address in taken:
                raise UsageError(f"the endpoints {taken[address]} and {wish.name} both have {address} in {network.name}")
            taken[address] = wish.name
        hosts = (host for subnet in network.subnets if isinstance(subnet.prefix, IPv4Network) for host in subnet.prefix.hosts())
        self._free = (host for host in hosts if host not in gateways and host not in taken)
        next(self._free, None)

    def draw(self, endpoint: str) -> IPv4Address:
        address = next(self._free, None)
        if address is None:
            where = ", ".join(str(subnet.prefix) for subnet in self._network.subnets)
            raise UsageError(f"the network {self._network.name} ({where}) has no address left for {endpoint}")
        return address


def _service(endpoint: str) -> str | None:
    """`web.1` is slot 1 of web, as an expectation written by hand has it; anything else a container by itself."""
    match = re.fullmatch(r"(.+)\.[1-9][0-9]{0,9}", endpoint)
    return match[1] if match else None


def _some(names: set[str] | Mapping[str, object]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
