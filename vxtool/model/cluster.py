"""The Cluster: what a swarm says of itself at one moment.

Nouns only, in the words of swarmkit and libnetwork, and the questions one asks of them. Knows no file, no frame and no check. Whoever fills it
(vxtool.expect, the lab) must not invent: what is not known is None or absent, and said in `Cluster.missing`.

References between nouns are names, because names are what all sources have in common: `Endpoint.node` is a `Node.name`, `Endpoint.network` a
`Network.name`, `Endpoint.service` a `Service.name`. `derived` lists the fields that no source stated but a documented rule of Docker gives
(the MAC of an address, the MTU of a network): evidence that contradicts a derived field is a doubt, not yet a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from .addresses import Address, Mac, Prefix

__all__ = [
    "DATA_PATH_PORT",
    "Availability",
    "Backends",
    "Cluster",
    "Endpoint",
    "EndpointKind",
    "EndpointMode",
    "Forwarding",
    "Network",
    "Node",
    "NodeState",
    "Orchestrator",
    "Port",
    "PublishMode",
    "Role",
    "Service",
    "ServiceMode",
    "Subnet",
    "Task",
    "TaskState",
    "Vip",
]

T = TypeVar("T")
K = TypeVar("K")

DATA_PATH_PORT = 4789
"""UDP port of VXLAN (RFC 7348, IANA), and what `docker swarm init` takes when no --data-path-port is given."""


class Orchestrator(StrEnum):
    """Whose rules the cluster follows: which names resolve, which MAC an endpoint has, what may be seen on the underlay."""

    SWARM = "docker-swarm"
    KUBERNETES = "kubernetes"
    OTHER = "other"


class Role(StrEnum):
    MANAGER = "manager"
    WORKER = "worker"


class Availability(StrEnum):
    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


class NodeState(StrEnum):
    UNKNOWN = "unknown"
    DOWN = "down"
    READY = "ready"
    DISCONNECTED = "disconnected"


class ServiceMode(StrEnum):
    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"


class EndpointMode(StrEnum):
    VIP = "vip"
    DNSRR = "dnsrr"


class PublishMode(StrEnum):
    INGRESS = "ingress"
    HOST = "host"


class EndpointKind(StrEnum):
    TASK = "task"
    CONTAINER = "container"  # a standalone container on an attachable network; a Kubernetes pod
    LOAD_BALANCER = "load_balancer"  # one per node and network: the source of balanced connections
    GATEWAY = "gateway"  # a node's own interface in the network (flannel.1, vxlan.calico)


class Forwarding(StrEnum):
    """What an inner MAC address stands for."""

    BRIDGED = "bridged"  # the endpoint itself (Docker's overlay)
    ROUTED = "routed"  # the gateway of the node on which the endpoint lives (flannel, Calico)


class TaskState(IntEnum):
    """Observed and desired states with swarmkit's numbers (api/types.proto): a task's state only grows."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the swarm. `name` is unique in its cluster: the host name where it is known, else the best there is."""

    name: str
    id: str | None = None
    hostname: str | None = None
    advertise: Address | None = None  # where the other nodes reach its management and gossip ports
    data_path: Address | None = None  # its VTEP: the outer source of what it sends
    role: Role | None = None
    availability: Availability | None = None
    state: NodeState | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    derived: frozenset[str] = frozenset()

    @property
    def vtep(self) -> Address | None:
        """The outer address its frames come from: the data-path address, which Docker takes from the advertised one unless told otherwise."""
        return self.data_path or self.advertise

    @property
    def addresses(self) -> frozenset[Address]:
        """Every address by which it is known on the underlay."""
        return frozenset(address for address in (self.advertise, self.data_path) if address is not None)


@dataclass(frozen=True, slots=True)
class Subnet:
    prefix: Prefix
    gateway: Address | None = None  # the address of br0 on every node; it never crosses the underlay


@dataclass(frozen=True, slots=True)
class Network:
    """An overlay network, and how much of it is known."""

    name: str
    id: str | None = None
    driver: str = "overlay"
    vnis: tuple[int, ...] = ()  # one per subnet, in their order; () when not known
    subnets: tuple[Subnet, ...] = ()
    mtu: int | None = None  # inner MTU, bytes of an inner IP packet
    encrypted: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    forwarding: Forwarding = Forwarding.BRIDGED
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    members: frozenset[str] | None = None  # nodes that have joined; None: not known
    complete_nodes: frozenset[str] = frozenset()  # nodes all of whose endpoints in this network are listed
    complete: bool = False  # every endpoint is listed: tasks, standalone containers and load balancers of all nodes
    tasks_complete: bool = False  # every running task's endpoint is listed, on all nodes (`inspect -v`)
    derived: frozenset[str] = frozenset()

    def holds(self, address: Address) -> bool:
        """Whether the address lies in one of its subnets."""
        return any(address in subnet.prefix for subnet in self.subnets if subnet.prefix.version == address.version)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attachment of a task, container or node to a network: an inner address and where it lives."""

    network: str
    ip: Address
    name: str = ""  # `web.1.<task id>`, `web-endpoint`, a container's or pod's name
    mac: Mac | None = None
    node: str | None = None
    kind: EndpointKind = EndpointKind.TASK
    service: str | None = None
    task: str | None = None  # task id
    container: str | None = None  # container id
    id: str | None = None  # libnetwork's endpoint id
    ipv6: Address | None = None  # a second, IPv6 address
    derived: frozenset[str] = frozenset()

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.ip,) if self.ipv6 is None else (self.ip, self.ipv6)


@dataclass(frozen=True, slots=True)
class Port:
    """A published port. `protocol` is None where only `network inspect -v` tells of the port, which does not say it."""

    target: int
    published: int | None = None  # None: published, but the number is not known (or left to swarm)
    protocol: str | None = "tcp"
    mode: PublishMode = PublishMode.INGRESS

    def __str__(self) -> str:
        return f"{'?' if self.published is None else self.published}->{self.target}/{self.protocol or '?'}"


@dataclass(frozen=True, slots=True)
class Vip:
    """The virtual address of a service in one network."""

    network: str
    address: Address


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    id: str | None = None
    mode: ServiceMode | None = None
    replicas: int | None = None  # wanted tasks; of a global service None
    endpoint_mode: EndpointMode | None = None
    vips: tuple[Vip, ...] = ()
    ports: tuple[Port, ...] = ()
    networks: tuple[str, ...] = ()  # as its specification names them, ingress not among them
    aliases: tuple[tuple[str, str], ...] = ()  # (network, alias)
    backends: tuple[Address, ...] | None = None  # stated (EndpointSlice); None: they follow from the tasks' endpoints
    derived: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Task:
    id: str
    service: str | None = None
    slot: int | None = None  # of a global service's task None
    node: str | None = None
    desired: TaskState | None = None
    observed: TaskState | None = None
    container: str | None = None
    addresses: tuple[tuple[str, Address], ...] = ()  # (network, address)
    error: str | None = None

    @property
    def running(self) -> bool:
        """Meant to run, and seen running (a source that does not tell one of the two is believed about the other)."""
        return self.desired in (TaskState.RUNNING, None) and self.observed in (TaskState.RUNNING, None)


@dataclass(frozen=True, slots=True)
class Backends:
    """Who may be chosen behind a service in one network. `complete`: there are no others."""

    endpoints: tuple[Endpoint, ...]
    complete: bool


def _group(pairs: Iterable[tuple[K, T]]) -> Mapping[K, tuple[T, ...]]:
    groups: dict[K, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return MappingProxyType({key: tuple(values) for key, values in groups.items()})


@dataclass(frozen=True)
class Cluster:
    """What should be, at one moment. Immutable; its look-up tables are built on first use and kept.

    A look-up that finds nothing returns None or (): the caller decides, with `missing`, `Network.complete_nodes` and `Network.tasks_complete`,
    whether that means "there is none" or "we were not told".
    """

    orchestrator: Orchestrator = Orchestrator.SWARM
    nodes: tuple[Node, ...] = ()
    networks: tuple[Network, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()
    data_path_port: int | None = None  # UDP; None: not told (a swarm's default is 4789)
    unassigned: frozenset[Address] = frozenset()  # addresses of members that cannot be told apart: each belongs to a node without an address
    missing: tuple[str, ...] = ()  # what is not known, one sentence each
    contradictions: tuple[str, ...] = ()  # where sources disagreed, and which one was believed
    notes: tuple[str, ...] = ()  # how it was read: inferences, files passed over

    # -- nodes ---------------------------------------------------------------------------------------------------------

    @cached_property
    def node_by_name(self) -> Mapping[str, Node]:
        return MappingProxyType({node.name: node for node in self.nodes})

    @cached_property
    def node_by_vtep(self) -> Mapping[Address, Node]:
        return MappingProxyType({node.vtep: node for node in self.nodes if node.vtep is not None})

    @cached_property
    def node_by_address(self) -> Mapping[Address, Node]:
        """By any underlay address, advertised or data path."""
        return MappingProxyType({address: node for node in self.nodes for address in node.addresses})

    @cached_property
    def vteps(self) -> frozenset[Address]:
        """Every address from which VXLAN may come, also of nodes that cannot be told apart."""
        return frozenset(self.node_by_vtep) | self.unassigned

    @property
    def vteps_complete(self) -> bool:
        """Whether `vteps` are all there are: each node's is known, or as many are unassigned as nodes lack one."""
        without = sum(node.vtep is None for node in self.nodes)
        return bool(self.nodes) and without <= len(self.unassigned)

    def vtep_of(self, endpoint: Endpoint) -> Address | None:
        """Where frames to this endpoint must be sent; None when its node, or the node's address, is not known."""
        node = self.node_by_name.get(endpoint.node) if endpoint.node is not None else None
        return None if node is None else node.vtep

    # -- networks ------------------------------------------------------------------------------------------------------

    @cached_property
    def network_by_name(self) -> Mapping[str, Network]:
        return MappingProxyType({network.name: network for network in self.networks})

    @cached_property
    def network_by_vni(self) -> Mapping[int, Network]:
        return MappingProxyType({vni: network for network in self.networks for vni in network.vnis})

    @property
    def ingress(self) -> Network | None:
        """The network of the routing mesh."""
        return next((network for network in self.networks if network.ingress), None)

    def networks_holding(self, address: Address) -> tuple[Network, ...]:
        """Networks with a subnet around the address; several when subnets overlap."""
        return tuple(network for network in self.networks if network.holds(address))

    def knows_endpoints(self, network: str, node: str | None) -> bool:
        """Whether every endpoint of the network on this node is listed (node None: on all nodes)."""
        known = self.network_by_name.get(network)
        if known is None or node is None or known.complete:
            return known is not None and known.complete
        return node in known.complete_nodes or (known.members is not None and node not in known.members)

    # -- endpoints -----------------------------------------------------------------------------------------------------

    @cached_property
    def endpoints_by_ip(self) -> Mapping[tuple[int, Address], tuple[Endpoint, ...]]:
        """(VNI, inner address) -> endpoints. Two of them on one address is Docker's duplicate-address fault, not an error here."""
        return _group(((vni, ip), endpoint) for endpoint in self.endpoints for vni in self._vnis(endpoint) for ip in endpoint.addresses)

    @cached_property
    def endpoints_by_mac(self) -> Mapping[tuple[int, Mac], tuple[Endpoint, ...]]:
        """(VNI, inner MAC) -> endpoints that have it. On a routed network only gateways have one."""
        pairs = ((endpoint.mac, endpoint) for endpoint in self.endpoints)
        return _group(((vni, mac), endpoint) for mac, endpoint in pairs if mac is not None for vni in self._vnis(endpoint))

    @cached_property
    def endpoints_of_network(self) -> Mapping[str, tuple[Endpoint, ...]]:
        return _group((endpoint.network, endpoint) for endpoint in self.endpoints)

    @cached_property
    def endpoints_of_node(self) -> Mapping[str, tuple[Endpoint, ...]]:
        return _group((endpoint.node, endpoint) for endpoint in self.endpoints if endpoint.node is not None)

    @cached_property
    def load_balancers(self) -> Mapping[tuple[str, str], Endpoint]:
        """(network, node) -> the node's load-balancer endpoint: the inner source of what it balances."""
        pairs = ((endpoint.network, endpoint.node, endpoint) for endpoint in self.endpoints if endpoint.kind is EndpointKind.LOAD_BALANCER)
        return MappingProxyType({(network, node): endpoint for network, node, endpoint in pairs if node is not None})

    @cached_property
    def gateways(self) -> Mapping[tuple[str, str], Endpoint]:
        """(network, node) -> the node's own interface in a routed network."""
        pairs = ((endpoint.network, endpoint.node, endpoint) for endpoint in self.endpoints if endpoint.kind is EndpointKind.GATEWAY)
        return MappingProxyType({(network, node): endpoint for network, node, endpoint in pairs if node is not None})

    def mac_on_wire(self, endpoint: Endpoint) -> Mac | None:
        """The inner MAC address that stands for the endpoint on the underlay: its own, or on a routed network its node's gateway's."""
        network = self.network_by_name.get(endpoint.network)
        if network is None or network.forwarding is Forwarding.BRIDGED or endpoint.kind is EndpointKind.GATEWAY:
            return endpoint.mac
        gateway = self.gateways.get((endpoint.network, endpoint.node)) if endpoint.node is not None else None
        return None if gateway is None else gateway.mac

    def _vnis(self, endpoint: Endpoint) -> tuple[int, ...]:
        """The VNI of the endpoint's subnet; all of the network's where subnets and VNIs do not pair up."""
        network = self.network_by_name.get(endpoint.network)
        if network is None:
            return ()
        if len(network.vnis) == len(network.subnets) > 1:
            return tuple(
                vni
                for vni, subnet in zip(network.vnis, network.subnets, strict=True)
                if subnet.prefix.version == endpoint.ip.version and endpoint.ip in subnet.prefix
            )
        return network.vnis

    # -- services and tasks --------------------------------------------------------------------------------------------

    @cached_property
    def service_by_name(self) -> Mapping[str, Service]:
        return MappingProxyType({service.name: service for service in self.services})

    @cached_property
    def service_by_vip(self) -> Mapping[tuple[str, Address], Service]:
        """(network, virtual address) -> service."""
        return MappingProxyType({(vip.network, vip.address): service for service in self.services for vip in service.vips})

    @cached_property
    def service_by_port(self) -> Mapping[tuple[str, int], tuple[Service, ...]]:
        """(protocol, published port of the routing mesh) -> services; where the protocol is not known, under each of tcp, udp and sctp."""
        return _group(
            ((protocol, port.published), service)
            for service in self.services
            for port in service.ports
            if port.mode is PublishMode.INGRESS and port.published is not None
            for protocol in ((port.protocol,) if port.protocol is not None else ("tcp", "udp", "sctp"))
        )

    @cached_property
    def task_by_id(self) -> Mapping[str, Task]:
        return MappingProxyType({task.id: task for task in self.tasks})

    @cached_property
    def tasks_of_service(self) -> Mapping[str, tuple[Task, ...]]:
        return _group((task.service, task) for task in self.tasks if task.service is not None)

    def vip_of(self, service: str, network: str) -> Address | None:
        known = self.service_by_name.get(service)
        return None if known is None else next((vip.address for vip in known.vips if vip.network == network), None)

    def backends(self, service: str, network: str) -> Backends:
        """The endpoints behind a service in one network, tasks that are being stopped left out.

        Complete when the network's tasks are all listed, when every node's endpoints are, or when as many are found as a replicated
        service wants; a stated list of backends (EndpointSlice) is complete when each address has an endpoint.
        """
        known = self.service_by_name.get(service)
        if known is not None and known.backends is not None:
            stated = (self._endpoints_in_network.get((network, address), ()) for address in known.backends)
            found = tuple(dict.fromkeys(endpoint for endpoints in stated for endpoint in endpoints))
            return Backends(found, complete={address for endpoint in found for address in endpoint.addresses} >= set(known.backends))
        found = tuple(endpoint for endpoint in self._tasks_in_network.get((network, service), ()) if self._serves(endpoint))
        declared = self.network_by_name.get(network)
        counted = known is not None and known.mode is ServiceMode.REPLICATED and known.replicas == len(found)
        return Backends(found, complete=counted or (declared is not None and (declared.complete or declared.tasks_complete)))

    @cached_property
    def _endpoints_in_network(self) -> Mapping[tuple[str, Address], tuple[Endpoint, ...]]:
        return _group(((endpoint.network, ip), endpoint) for endpoint in self.endpoints for ip in endpoint.addresses)

    @cached_property
    def _tasks_in_network(self) -> Mapping[tuple[str, str], tuple[Endpoint, ...]]:
        tasks = ((endpoint.network, endpoint.service, endpoint) for endpoint in self.endpoints if endpoint.kind is EndpointKind.TASK)
        return _group(((network, service), endpoint) for network, service, endpoint in tasks if service is not None)

    def _serves(self, endpoint: Endpoint) -> bool:
        task = self.task_by_id.get(endpoint.task) if endpoint.task is not None else None
        return task is None or task.running
