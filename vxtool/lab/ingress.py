"""The routing mesh and the virtual addresses of one node: what its balancers are told when backends come, are disabled and go.

Knows what libnetwork's service_linux.go programs (programIngress, fwMarker, addLBBackend, redirector), and says it as steps; performs nothing, and
hears nothing of gossip itself. Whatever happened since the last time is one change: `steps` compares what is wanted with what stands.

    node            DOCKER-INGRESS    published port -> ingress_sbox's address on docker_gwbridge; host-mode port -> the task's
    ingress_sbox    DOCKER-BALANCE    published port, VIP -> mark -> one backend after the other, from the load balancer's address
    lb_...          DOCKER-BALANCE    VIP -> mark -> one backend after the other, from the load balancer's address
    task            DOCKER-INGRESS    published port -> target port, and nothing else on its address in ingress

Two drivers say which backend is next: IPVS, as Docker does, and nftables where the kernel has no IPVS. Docker also occupies published ports with a
listening socket that accepts nothing; here nobody listens, and the scheduler alone keeps a port to one service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import count
from typing import Any, Protocol

from vxtool.lab import names
from vxtool.lab.steps import AddAddress, AddRules, DeleteAddress, ForgetFlows, ReplaceRules, SetBackends, SetSysctl, Step
from vxtool.model import PublishMode
from vxtool.model.plain import revive
from vxtool.swarm.objects import PortConfig

__all__ = ["FIRST_MARK", "Backend", "Balancer", "Driver", "Ipvs", "Mesh", "Nftables", "Port", "expose"]

FIRST_MARK = 256
"""libnetwork's fwMarkCtr: firewall marks are counted from here, per engine."""

INGRESS, BALANCE = "DOCKER-INGRESS", "DOCKER-BALANCE"
"""Tables; the first has the name of the chains that Docker has in its place."""

FIRST_DYNAMIC = 32768
"""Host-mode ports that nobody has chosen are the engine's to choose, from ip_local_port_range on (libnetwork portallocator)."""

DEVICE = "eth0"
"""The load balancer's interface in its network, in each sandbox of its kind."""

Chains = dict[str, str]
Turns = dict[int, tuple[tuple[IPv4Address, int], ...]]  # mark -> (address, weight) of its backends


@dataclass(frozen=True, slots=True, order=True)
class Port:
    target: int
    published: int
    protocol: str  # tcp, udp or sctp
    host: bool = False  # published on the node of each task alone


@dataclass(frozen=True, slots=True)
class Backend:
    """An endpoint of a task that balancers send to. Disabled: it gets no new connections, and keeps those it has."""

    service: str  # id
    address: IPv4Address
    vip: IPv4Address | None  # None: endpoint mode dnsrr, nobody balances
    ports: tuple[Port, ...] = ()  # published in ingress mode, in the network ingress alone
    disabled: bool = False

    @property
    def balanced(self) -> tuple[str, tuple[Port, ...]] | None:
        """What it is one of: a service that has another published port has another mark (libnetwork's serviceKey). None: nobody balances it."""
        return (self.service, self.ports) if self.service and self.vip is not None else None

    @classmethod
    def of(cls, network: str, ingress: bool, told: Mapping[str, Any]) -> Backend:
        """What an endpoint record says. KeyError, TypeError or ValueError when it makes no sense."""
        vips = {where: IPv4Interface(address).ip for where, address in told["vips"]}
        ports = sorted({port for port in map(port_of, told["ports"]) if not port.host}) if ingress else []
        return cls(str(told["service_id"]), IPv4Address(told["address"]), vips.get(network), tuple(ports), bool(told.get("disabled")))


def port_of(told: Mapping[str, Any]) -> Port:
    """A published port as an endpoint record has it. KeyError, TypeError or ValueError when it makes no sense: it may come from another node."""
    port = revive(PortConfig, told)
    if port.protocol not in _PROTOCOLS or not (0 < port.target < 1 << 16 and 0 <= port.published < 1 << 16):
        raise ValueError(f"no port: {told}")
    return Port(port.target, port.published, port.protocol, port.mode is PublishMode.HOST)


_PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True)
class Balancer:
    """The node's load balancer in a network: its sandbox, its address, and where its backends are."""

    namespace: str
    address: IPv4Address
    subnets: tuple[IPv4Network, ...]
    way_in: IPv4Address | None = None  # on docker_gwbridge: ingress's alone has one


@dataclass(frozen=True, slots=True)
class Virtual:
    """A service as a balancer sees it (libnetwork's loadBalancer)."""

    mark: int
    vip: IPv4Address
    ports: tuple[Port, ...]
    backends: tuple[tuple[IPv4Address, int], ...]  # with their weights: 0 is disabled

    @property
    def active(self) -> list[IPv4Address]:
        return [address for address, weight in self.backends if weight]


class Driver(Protocol):
    """Who takes the turns."""

    name: str

    def settings(self, namespace: str) -> list[Step]:
        """What a balancer's sandbox needs once."""

    def chains(self, balancer: Balancer, services: Sequence[Virtual]) -> Chains:
        """Its table BALANCE."""

    def turns(self, services: Sequence[Virtual]) -> Turns:
        """What IPVS is told."""


# -- what both drivers say -------------------------------------------------------------------------------------------------

# A sandbox that forwards what it balances, back where it came from as often as not: nobody is to be told of a shorter way.
_FORWARDING = (("net.ipv4.ip_forward", "1", "0"), ("net.ipv4.conf.all.send_redirects", "0", "1"), ("net.ipv4.conf.eth0.send_redirects", "0", "1"))

_BALANCED = "{ tcp, udp, sctp }"


def _marks(services: Iterable[Virtual]) -> tuple[list[str], list[str]]:
    """Marks for published ports, and marks for virtual addresses (fwMarker)."""
    published = [f"{port.protocol} dport {port.published} meta mark set {one.mark}" for one in services for port in one.ports if port.published]
    return published, [f"ip daddr {one.vip} meta mark set {one.mark}" for one in services]


def _settings(namespace: str, settings: Iterable[tuple[str, str, str]], optional: bool = False) -> list[Step]:
    return [SetSysctl(namespace, key, value, before, optional) for key, value, before in settings]


def _chain(kind: str, hook: str, priority: str, rules: Iterable[str]) -> str:
    return "; ".join([f"type {kind} hook {hook} priority {priority}", *rules]) + ";"


class Nftables:
    """Destination NAT to the next backend, once per connection; connection tracking keeps to it.

    What IPVS does in a balancer's hook `input`, NAT does in `prerouting`: there the virtual addresses are marked, too.
    """

    name = "nftables"

    # As long as IPVS remembers connections: 900 s, 120 s after a FIN, 300 s for datagrams (moby#31208).
    _MEMORY = (
        ("net.netfilter.nf_conntrack_tcp_timeout_established", "900", "432000"),
        ("net.netfilter.nf_conntrack_udp_timeout", "300", "30"),
        ("net.netfilter.nf_conntrack_udp_timeout_stream", "300", "120"),
    )

    def settings(self, namespace: str) -> list[Step]:
        return [*_settings(namespace, _FORWARDING), *_settings(namespace, self._MEMORY, optional=True)]

    def chains(self, balancer: Balancer, services: Sequence[Virtual]) -> Chains:
        published, virtual = _marks(services)
        subnets = ", ".join(map(str, balancer.subnets))
        turning = [one for one in services if one.active]
        # The middle of a connection that nobody remembers must not go to another backend.
        turns = ["tcp flags & (fin | syn | rst | ack) != syn return"]
        turns += [f"meta mark vmap {{ {', '.join(f'{one.mark} : jump {_turn(one)}' for one in turning)} }}"] if turning else []
        # As IPVS refuses: what has no backend to go to, and what is not the beginning of a connection.
        refused = [
            "meta mark != 0 tcp flags & (fin | syn | rst | ack) != syn reject with tcp reset",
            f"meta mark != 0 meta l4proto {_BALANCED} reject",
        ]
        return {
            "marking": _chain("filter", "prerouting", "mangle", [*published, *virtual]),
            "balancing": _chain("nat", "prerouting", "dstnat", turns),
            "refusing": _chain("filter", "input", "filter", refused),
            "leaving": _chain("nat", "postrouting", "srcnat", [f"ct status dnat ip daddr {{ {subnets} }} snat to {balancer.address}"]),
        } | {_turn(one): self._next(one.active) for one in turning}

    @staticmethod
    def _next(backends: Sequence[IPv4Address]) -> str:
        places = ", ".join(f"{place} : {address}" for place, address in enumerate(backends))
        return f"meta l4proto {_BALANCED} dnat to numgen inc mod {len(backends)} map {{ {places} }};"

    def turns(self, services: Sequence[Virtual]) -> Turns:
        return {}


def _turn(service: Virtual) -> str:
    """A chain of its own for each service: when the backends of one change, the others go on where they were."""
    return f"mark-{service.mark}"


class Ipvs:
    """IPVS as Docker has it. Its rules differ in one condition: nftables has no match for what IPVS has balanced, and takes the mark for it."""

    name = "IPVS"

    # Engine 20.10 (osl/namespace_linux.go loadBalancerConfig); 19.03 knows the first alone.
    _OWN = (
        ("net.ipv4.vs.expire_nodest_conn", "1", "0"),
        ("net.ipv4.vs.conn_reuse_mode", "0", "1"),
        ("net.ipv4.vs.expire_quiescent_template", "1", "0"),
    )
    _CONNTRACK = (("net.ipv4.vs.conntrack", "1", "0"),)

    def settings(self, namespace: str) -> list[Step]:
        return [*_settings(namespace, (*_FORWARDING, *self._CONNTRACK)), *_settings(namespace, self._OWN, optional=True)]

    def chains(self, balancer: Balancer, services: Sequence[Virtual]) -> Chains:
        published, virtual = _marks(services)
        subnets = ", ".join(map(str, balancer.subnets))
        return {
            "marking": _chain("filter", "prerouting", "mangle", published),
            "marking-input": _chain("filter", "input", "mangle", virtual),
            "leaving": _chain("nat", "postrouting", "srcnat", [f"meta mark != 0 ip daddr {{ {subnets} }} snat to {balancer.address}"]),
        }

    def turns(self, services: Sequence[Virtual]) -> Turns:
        return {one.mark: one.backends for one in services}


# -- the node and its tasks ------------------------------------------------------------------------------------------------


def expose(namespace: str, address: IPv4Address, ports: Sequence[Port]) -> list[Step]:
    """A task's sandbox: published ports lead to target ports, and its address in ingress has no other (redirector)."""
    if not ports:
        return []
    redirected = [f"ip daddr {address} {port.protocol} dport {port.published} redirect to :{port.target}" for port in ports if port.published]
    targets = dict.fromkeys((port.protocol, port.target) for port in ports)
    arriving = [f"ip daddr {address} {protocol} dport {target} ct state new,established accept" for protocol, target in targets]
    leaving = [f"ip saddr {address} {protocol} sport {target} ct state established accept" for protocol, target in targets]
    chains = {
        "prerouting": _chain("nat", "prerouting", "dstnat", redirected),
        "input": _chain("filter", "input", "filter", [*arriving, f"ip daddr {address} meta l4proto {_BALANCED} drop"]),
        "output": _chain("filter", "output", "filter", [*leaving, f"ip saddr {address} meta l4proto {_BALANCED} drop"]),
    }
    return [AddRules(namespace, "ip", INGRESS, _body(chains))]


def _host(way_in: IPv4Address | None, services: Iterable[Virtual], bound: Iterable[tuple[IPv4Address, Port]]) -> Chains:
    """The node's own rules. Chains of Docker's that one nftables table cannot have twice have the name of the table behind theirs."""
    bridge = names.GATEWAY_BRIDGE
    published = [port for one in services for port in one.ports if port.published] if way_in is not None else []
    led = [f"{port.protocol} dport {port.published} dnat to {way_in}:{port.published}" for port in published]
    passing = []
    for port in published:
        passing += [f"{port.protocol} dport {port.published} accept", f"{port.protocol} sport {port.published} ct state established,related accept"]
    local = [f"fib daddr type local jump {INGRESS}", "fib daddr type local jump DOCKER"]
    # Who comes from this node takes the bridge's address, as with Docker. So do containers of this node: behind Docker's bridge br_netfilter shows
    # the answers to connection tracking, here they must come back to the node to be seen.
    masqueraded = [f'oifname "{bridge}" fib saddr type local masquerade', f'iifname "{bridge}" oifname "{bridge}" ct status dnat masquerade']
    return {
        INGRESS: "; ".join([*led, "return"]) + ";",
        "DOCKER": "; ".join([*(f"{port.protocol} dport {port.published} dnat to {address}:{port.target}" for address, port in bound), "return"])
        + ";",
        f"{INGRESS}-filter": "; ".join([*passing, "return"]) + ";",
        "prerouting": _chain("nat", "prerouting", "dstnat", local),
        "output": _chain("nat", "output", "-100", local),
        "forward": _chain("filter", "forward", "filter", [f"jump {INGRESS}-filter"]),
        "postrouting": _chain("nat", "postrouting", "srcnat", masqueraded),
    }


# -- what stands, and what is wanted ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Standing:
    """What a balancer's sandbox, or the node, has."""

    chains: Chains = field(default_factory=dict)
    aliases: frozenset[IPv4Address] = frozenset()
    turns: Turns = field(default_factory=dict)
    backends: frozenset[IPv4Address] = frozenset()
    datagrams: frozenset[int] = frozenset()  # published UDP ports


class Mesh:
    """One node's. It is told what there is, at any time; `steps` are what the kernel is to be told, and `done` says that it was."""

    def __init__(self, node: str, driver: Driver) -> None:
        self.driver = driver
        self.urgent = False
        """Whether somebody gets new connections who is about to go, or has gone."""
        self._node = node
        self._balancers: dict[str, Balancer] = {}  # network id ->
        self._backends: dict[str, dict[str, Backend]] = {}  # network id -> key of a record -> backend
        self._marks: dict[tuple[str, str, tuple[Port, ...]], int] = {}  # (network id, service id, ports) -> mark
        self._next = count(FIRST_MARK)
        self._bound: dict[str, tuple[tuple[IPv4Address, Port], ...]] = {}  # sandbox -> its host-mode ports
        self._standing: dict[str, _Standing] = {}  # namespace -> what is in it
        self._wanted: dict[str, _Standing] = {}  # of those that `steps` has said: what will stand
        self._changed: dict[str, None] = {}  # network ids; "": the node alone

    # -- what there is -------------------------------------------------------------------------------------------------------

    def place(self, network: str, balancer: Balancer) -> None:
        """The node has a load balancer in the network, in a sandbox that is new."""
        self._balancers[network] = balancer
        self._changed[network] = None

    def displace(self, network: str) -> None:
        """It has gone, with its sandbox and all that was in it."""
        balancer = self._balancers.pop(network, None)
        if balancer is not None:
            self._standing.pop(balancer.namespace, None)
            if balancer.way_in is not None:
                self._changed[""] = None

    def set(self, network: str, key: str, backend: Backend) -> None:
        """A backend is there, or is another now. `key` is its record's."""
        known = self._backends.setdefault(network, {})
        before = known.get(key)
        if before == backend:
            return
        self.urgent |= before is not None and backend.disabled
        known[key] = backend
        if backend.balanced and (network, *backend.balanced) not in self._marks:
            self._marks[network, *backend.balanced] = next(self._next)
        self._changed[network] = None

    def drop(self, network: str, key: str) -> None:
        gone = self._backends.get(network, {}).pop(key, None)
        if gone is not None:
            self.urgent |= not gone.disabled
            self._changed[network] = None

    def forget(self, network: str) -> None:
        """Nothing is heard of the network any more."""
        if self._backends.pop(network, None):
            self._changed[network] = None

    def bind(self, name: str, address: IPv4Address, ports: Sequence[Port]) -> tuple[Port, ...]:
        """The host-mode ports of a sandbox with this address on docker_gwbridge; those that nobody has chosen are chosen here, once."""
        if name in self._bound:
            return tuple(port for _, port in self._bound[name])
        taken = {(port.protocol, port.published) for bound in self._bound.values() for _, port in bound}
        taken |= {(port.protocol, port.published) for port in ports}
        chosen = []
        for port in ports:
            number = port.published or next(number for number in count(FIRST_DYNAMIC) if (port.protocol, number) not in taken)
            taken.add((port.protocol, number))
            chosen.append(Port(port.target, number, port.protocol, True))
        if chosen:
            self._bound[name] = tuple((address, port) for port in chosen)
            self._changed[""] = None
        return tuple(chosen)

    def release(self, name: str) -> None:
        if self._bound.pop(name, None):
            self._changed[""] = None

    @property
    def changed(self) -> bool:
        """Whether the kernel does not know something."""
        return bool(self._changed)

    # -- what the kernel is told -------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """From what stands to what is wanted, in everything that has changed."""
        self._wanted = {}
        steps: list[Step] = []
        host = "" in self._changed
        published: list[Virtual] | None = None
        for network, balancer in [(one, self._balancers[one]) for one in self._changed if one in self._balancers]:
            services = self._virtuals(network)
            steps += self._balance(balancer, services)
            if balancer.way_in is not None:
                host, published = True, services
        return [*steps, *self._publish(published)] if host else steps

    def done(self) -> None:
        """The kernel has performed what `steps` said."""
        self._standing |= self._wanted
        self._wanted = {}
        self._changed.clear()
        self.urgent = False

    def _virtuals(self, network: str) -> list[Virtual]:
        found: dict[tuple[str, tuple[Port, ...]], dict[IPv4Address, int]] = {}
        vips: dict[tuple[str, tuple[Port, ...]], IPv4Address] = {}
        for backend in self._backends.get(network, {}).values():
            key = backend.balanced
            if key is not None and backend.vip is not None:
                vips[key] = backend.vip
                weights = found.setdefault(key, {})
                weights[backend.address] = max(weights.get(backend.address, 0), 0 if backend.disabled else 1)
        for known in [known for known in self._marks if known[0] == network and known[1:] not in found]:
            del self._marks[known]
        return [Virtual(self._marks[network, *key], vips[key], key[1], tuple(sorted(weights.items(), key=_number))) for key, weights in found.items()]

    def _balance(self, balancer: Balancer, services: Sequence[Virtual]) -> list[Step]:
        space = balancer.namespace
        stands = self._standing.get(space)
        wanted = self._wanted[space] = _Standing(
            self.driver.chains(balancer, services),
            frozenset(one.vip for one in services),
            self.driver.turns(services),
            frozenset(address for one in services for address, _ in one.backends),
        )
        steps: list[Step] = []
        if stands is None:
            steps += self.driver.settings(space)
            stands = _Standing()
        steps += [AddAddress(space, DEVICE, IPv4Interface(vip), broadcast=False) for vip in sorted(wanted.aliases - stands.aliases)]
        had, have = stands.turns, wanted.turns
        steps += [SetBackends(space, mark, backends, had.get(mark)) for mark, backends in have.items() if had.get(mark) != backends]
        steps += _rules(space, BALANCE, stands.chains, wanted.chains)
        steps += [SetBackends(space, mark, None, backends) for mark, backends in had.items() if mark not in have]
        steps += [DeleteAddress(space, DEVICE, IPv4Interface(vip), broadcast=False) for vip in sorted(stands.aliases - wanted.aliases)]
        if gone := sorted(stands.backends - wanted.backends):
            steps.append(ForgetFlows(space, backends=tuple(gone)))
        return steps

    def _publish(self, services: Sequence[Virtual] | None) -> list[Step]:
        """The node's own rules. `services`: those of ingress, when they are known already."""
        network, balancer = next(((id, one) for id, one in self._balancers.items() if one.way_in is not None), ("", None))
        services = services or (self._virtuals(network) if balancer is not None else [])
        bound = [one for name in sorted(self._bound) for one in self._bound[name]]
        stands = self._standing.get(self._node)
        published = [*(port for one in services for port in one.ports), *(port for _, port in bound)]
        ports = frozenset(port.published for port in published if port.protocol == "udp")
        wanted = self._wanted[self._node] = _Standing(_host(balancer.way_in if balancer else None, services, bound), datagrams=ports)
        steps: list[Step] = []
        if stands is None:
            # Who asks for a port at 127.0.0.1 is led over the bridge. Where br_netfilter is loaded, it would lead containers' frames from one port of
            # the bridge to another, which the bridge's own rules forbid.
            steps.append(SetSysctl(self._node, f"net.ipv4.conf.{names.GATEWAY_BRIDGE}.route_localnet", "1", before="0"))
            steps.append(SetSysctl(self._node, "net.bridge.bridge-nf-call-iptables", "0", before="1", optional=True))
            stands = _Standing()
        steps += _rules(self._node, INGRESS, stands.chains, wanted.chains)
        if new := sorted(ports - stands.datagrams):
            steps.append(ForgetFlows(self._node, ports=tuple(new)))
        return steps


def _number(item: tuple[IPv4Address, int]) -> int:
    return int(item[0])


def _rules(namespace: str, table: str, had: Chains, wanted: Chains) -> list[Step]:
    if not had:
        return [AddRules(namespace, "ip", table, _body(wanted))]
    chains = tuple((name, body) for name, body in wanted.items() if had.get(name) != body)
    before = tuple((name, body) for name, body in had.items() if wanted.get(name) != body)
    return [ReplaceRules(namespace, "ip", table, chains, before)] if chains or before else []


def _body(chains: Chains) -> str:
    return "; ".join(f"chain {name} {{ {body} }}" for name, body in chains.items()) + ";"
