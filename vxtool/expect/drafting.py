"""A first draft of an expectation, from what a capture shows: for a person to correct, never to be believed as it is.

What frames prove (addresses, VNIs, who sends from where) is taken over; what they only suggest (subnets, load balancers, names of services) follows
Docker's habits and is told in `notes`. A draft never claims to be complete: silent endpoints are in no capture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network

import numpy as np
import numpy.typing as npt

from vxtool.decode import dns
from vxtool.decode.batch import Batch
from vxtool.decode.columns import CONTROL, HAVE, HEADER_HAVE, TUNNELS
from vxtool.model import (
    Address,
    Cluster,
    Endpoint,
    EndpointKind,
    EndpointMode,
    Forwarding,
    Mac,
    Network,
    Node,
    Orchestrator,
    Port,
    Prefix,
    Service,
    Subnet,
    Vip,
    from_halves,
    mac_from_ipv4,
    owner_of,
)

__all__ = ["draft"]

SENDERS_LIMIT = 200_000
ANSWERS_LIMIT = 100_000
DOUBTS_SHOWN = 20

_SYN, _ACK = 2, 16
_FRESH_TTLS = (64, 128, 255)  # as hosts send them; one less means that a packet was forwarded

Half = tuple[int, int]


@dataclass(slots=True)
class _Seen:
    """Counts of what frames prove."""

    senders: Counter[tuple[int, int, Half, Half]] = field(default_factory=Counter)  # VNI, inner MAC, inner IP, outer IP -> frames
    vteps: set[Half] = field(default_factory=set)
    members: set[Half] = field(default_factory=set)  # take part in gossip or management
    ports: Counter[int] = field(default_factory=Counter)
    opened: Counter[tuple[int, Half, Half, int, bool]] = field(default_factory=Counter)  # VNI, from, to, port, forwarded -> SYNs
    esp: set[Half] = field(default_factory=set)
    names: dict[str, set[Address]] = field(default_factory=dict)  # DNS answers of the embedded resolver
    overflow: bool = False


def draft(batches: Iterable[Batch]) -> Cluster:
    """The cluster that the frames of one or more captures suggest. Memory is bounded: beyond 200,000 senders no new ones are counted."""
    seen = _Seen()
    for batch in batches:
        _count(seen, batch)
    return _Guess(seen).cluster()


def _count(seen: _Seen, batch: Batch) -> None:
    rows = batch.rows
    have_ip = HEADER_HAVE["ip"]
    outer_ip, inner_ip = rows["outer_have"] & have_ip != 0, rows["inner_have"] & have_ip != 0
    tunnel = (rows["tunnel"] != TUNNELS.index("none")) & (rows["depth"] == 1) & outer_ip
    for name in ("src", "dst"):
        seen.vteps.update((a, b) for (a, b), _ in _unique(rows, tunnel, f"outer_ip_{name}_hi", f"outer_ip_{name}_lo"))
    seen.ports.update({port: count for (port,), count in _unique(rows, tunnel, "outer_dport")})
    framed = tunnel & (rows["inner_have"] & HEADER_HAVE["eth"] != 0) & inner_ip
    found = _unique(rows, framed, "vni", "inner_eth_src", "inner_ip_src_hi", "inner_ip_src_lo", "outer_ip_src_hi", "outer_ip_src_lo")
    for (vni, mac, a, b, c, d), count in found:
        key = (vni, mac, (a, b), (c, d))
        if key in seen.senders or len(seen.senders) < SENDERS_LIMIT:
            seen.senders[key] += count
        else:
            seen.overflow = True
    tcp = framed & (rows["have"] & HAVE["tcp"] != 0) & (rows["tcp_flags"] & (_SYN | _ACK) == _SYN)
    forwarded = ~np.isin(rows["inner_ttl"], _FRESH_TTLS)
    for flag, mask in ((True, tcp & forwarded), (False, tcp & ~forwarded)):
        fields = ("vni", "inner_ip_src_hi", "inner_ip_src_lo", "inner_ip_dst_hi", "inner_ip_dst_lo", "inner_dport")
        for (vni, a, b, c, d, port), count in _unique(rows, mask, *fields):
            if len(seen.opened) < SENDERS_LIMIT:
                seen.opened[vni, (a, b), (c, d), port, flag] += count
    control = (rows["control"] == CONTROL.index("gossip")) & outer_ip
    esp = (rows["have"] & HAVE["esp"] != 0) & outer_ip & ~tunnel
    for name in ("src", "dst"):
        seen.members.update((a, b) for (a, b), _ in _unique(rows, control, f"outer_ip_{name}_hi", f"outer_ip_{name}_lo"))
        seen.esp.update((a, b) for (a, b), _ in _unique(rows, esp, f"outer_ip_{name}_hi", f"outer_ip_{name}_lo"))
    _read_answers(seen, batch)


def _unique(rows: npt.NDArray[np.void], mask: npt.NDArray[np.bool_], *fields: str) -> list[tuple[tuple[int, ...], int]]:
    """Distinct combinations of fields among the rows of a mask, and how many rows have each."""
    if not mask.any():
        return []
    table = np.stack([rows[name][mask].astype(np.uint64) for name in fields], axis=1)
    values, counts = np.unique(table, axis=0, return_counts=True)
    return [(tuple(map(int, value)), int(count)) for value, count in zip(values, counts, strict=True)]


def _read_answers(seen: _Seen, batch: Batch) -> None:
    rows = batch.rows
    response = (rows["have"] & HAVE["dns"] != 0) & (rows["dns_flags"] >> 15 == 1) & (rows["dns_flags"] & 15 == 0)
    for i in np.flatnonzero(response):
        if len(seen.names) >= ANSWERS_LIMIT:
            seen.overflow = True
            return
        start, size = int(rows["dns_offset"][i]), int(rows["dns_len"][i])
        message = dns.parse(batch.frames.bytes_of(int(i))[start : start + size])
        for record in message.answers:
            if record.type in ("A", "AAAA"):
                try:
                    address = ip_address(record.data)
                except ValueError:
                    continue
                seen.names.setdefault(record.name.rstrip(".").lower(), set()).add(address)


class _Guess:
    def __init__(self, seen: _Seen) -> None:
        self.seen = seen
        self.notes: list[str] = []
        self.doubts = 0
        self.by_vni: dict[int, list[tuple[Mac, Address, Address, int]]] = {}
        for (vni, mac, inner, outer), count in seen.senders.items():
            self.by_vni.setdefault(vni, []).append((Mac(mac), from_halves(*inner), from_halves(*outer), count))

    def cluster(self) -> Cluster:
        seen = self.seen
        addresses = {from_halves(*pair) for pair in (*seen.vteps, *seen.members, *seen.esp)}
        addresses = {address for address in addresses if not address.is_multicast and not address.is_unspecified}
        nodes = tuple(Node(str(address), advertise=address, data_path=address) for address in sorted(addresses, key=_order))
        networks, endpoints = [], []
        for vni in sorted(self.by_vni):
            network, inside = self._network(vni)
            networks.append(network)
            endpoints += inside
        services, endpoints = self._services(networks, endpoints)
        if seen.esp:
            self.notes.append("ESP was seen: there is an encrypted network, whose VNI and endpoints no capture of the underlay shows: add it")
        if self.doubts > DOUBTS_SHOWN:
            self.notes.append(f"{self.doubts - DOUBTS_SHOWN:,} more addresses were seen with another MAC or from another VTEP")
        if seen.overflow:
            self.notes.append(f"more than {SENDERS_LIMIT:,} senders: the rest is not in this draft")
        swarm = bool(seen.members) or any(network.forwarding is Forwarding.BRIDGED and network.vnis[0] >= 4096 for network in networks)
        port = seen.ports.most_common(1)[0][0] if seen.ports else None
        if len(seen.ports) > 1:
            self.notes.append(f"tunnels on UDP ports {', '.join(map(str, sorted(seen.ports)))}: taken the busiest")
        return Cluster(
            orchestrator=Orchestrator.SWARM if swarm else Orchestrator.OTHER,
            nodes=nodes,
            networks=tuple(networks),
            endpoints=tuple(sorted(endpoints, key=lambda e: (e.network, _order(e.ip)))),
            services=services,
            data_path_port=port,
            notes=tuple(self.notes),
        )

    def _network(self, vni: int) -> tuple[Network, list[Endpoint]]:
        senders = self.by_vni[vni]
        name = "ingress" if vni == 4096 else f"net-{vni}"
        by_mac: dict[Mac, set[Address]] = {}
        for mac, ip, _, _ in senders:
            by_mac.setdefault(mac, set()).add(ip)
        ruled = sum(isinstance(ip, IPv4Address) and mac == mac_from_ipv4(ip) for mac, ip, _, _ in senders)
        routed = ruled * 2 < len(senders) and any(len(ips) > 1 for ips in by_mac.values())
        balancers = set() if routed else self._balancers(vni)
        endpoints: dict[Address, Endpoint] = {}
        frames: Counter[Address] = Counter()
        for mac, ip, vtep, count in sorted(senders, key=lambda sender: -sender[3]):
            if ip in endpoints:
                known = endpoints[ip]
                if known.node != str(vtep) or (known.mac != mac and not routed):
                    self._doubt(f"{ip} in VNI {vni}: also {count} frames with MAC {mac} from {vtep}; taken is what {frames[ip]} frames show")
                continue
            frames[ip] = count
            kind = EndpointKind.LOAD_BALANCER if ip in balancers else EndpointKind.CONTAINER
            label = f"{name}-endpoint" if kind is EndpointKind.LOAD_BALANCER else ""
            follows = isinstance(ip, IPv4Address) and mac == mac_from_ipv4(ip)
            endpoints[ip] = Endpoint(
                name, ip, label, None if routed else mac, str(vtep), kind, derived=frozenset({"mac"} if follows and not routed else ())
            )
        prefixes = sorted({_subnet_around(ip) for ip in endpoints}, key=lambda prefix: (prefix.version, int(prefix.network_address)))
        subnets = tuple(Subnet(prefix, None if routed or prefix.version == 6 else prefix.network_address + 1) for prefix in prefixes)
        if prefixes:
            self.notes.append(f"subnets of {name} (VNI {vni}) are guessed: /24 around the addresses seen, gateway at .1")
        if balancers:
            listed = ", ".join(map(str, sorted(balancers, key=_order)))
            self.notes.append(f"load balancers of {name} are guessed: {listed} open forwarded connections, and nobody opens one to them")
        if vni == 4096:
            self.notes.append("VNI 4096 is taken for the ingress network: a swarm numbers it first")
        if routed:
            self.notes.append(f"{name} looks routed (flannel, Calico): its inner MACs are those of nodes, not of endpoints")
        network = Network(
            name=name,
            vnis=(vni,),
            driver="unknown" if routed else "overlay",
            subnets=subnets,
            mtu=None if routed else 1450,
            ingress=vni == 4096,
            forwarding=Forwarding.ROUTED if routed else Forwarding.BRIDGED,
            derived=frozenset() if routed else frozenset({"mtu"}),
        )
        return network, list(endpoints.values())

    def _silent(self, address: Address, networks: list[Network]) -> Endpoint:
        """An endpoint that DNS tells of and no frame comes from."""
        network = next(network for network in networks if network.holds(address))
        mac = mac_from_ipv4(address) if isinstance(address, IPv4Address) and network.forwarding is Forwarding.BRIDGED else None
        return Endpoint(network.name, address, mac=mac, kind=EndpointKind.TASK, derived=frozenset({"mac"} if mac is not None else ()))

    def _doubt(self, sentence: str) -> None:
        self.doubts += 1
        if self.doubts <= DOUBTS_SHOWN:
            self.notes.append(sentence)

    def _balancers(self, vni: int) -> set[Address]:
        """Who opens connections whose packets were forwarded before they were encapsulated, and to whom none are opened."""
        opened = [key for key in self.seen.opened if key[0] == vni]
        called = {to for _, _, to, _, _ in opened}
        return {from_halves(*source) for _, source, _, _, forwarded in opened if forwarded and source not in called}

    def _services(self, networks: list[Network], endpoints: list[Endpoint]) -> tuple[tuple[Service, ...], list[Endpoint]]:
        """Services by the names the embedded resolver gave, and by the published ports of the mesh."""
        at = {endpoint.ip: endpoint for endpoint in endpoints}
        services: dict[str, Service] = {}
        tasks: dict[str, set[Address]] = {}
        for name, addresses in sorted(self.seen.names.items()):
            inside = next((network for network in networks if all(network.holds(address) for address in addresses)), None)
            if inside is None:
                continue
            name = name.removesuffix(f".{inside.name}")
            owner = owner_of(name, inside.name)
            if owner.kind is EndpointKind.TASK and len(addresses) == 1 and (known := at.get(next(iter(addresses)))) is not None:
                at[known.ip] = Endpoint(
                    known.network, known.ip, name, known.mac, known.node, EndpointKind.TASK, owner.service, owner.task, derived=known.derived
                )
                tasks.setdefault(owner.service or "", set()).add(known.ip)
            elif name.startswith("tasks."):
                tasks.setdefault(name.removeprefix("tasks."), set()).update(addresses)
            elif "." not in name and len(addresses) == 1 and not addresses & at.keys():
                (vip,) = addresses
                services[name] = Service(name, endpoint_mode=EndpointMode.VIP, vips=(Vip(inside.name, vip),), networks=(inside.name,))
            elif "." not in name and len(addresses) > 1:
                services[name] = Service(name, endpoint_mode=EndpointMode.DNSRR, networks=(inside.name,))
                tasks.setdefault(name, set()).update(addresses)
        for service, addresses in tasks.items():
            for address in addresses:
                endpoint = at.get(address) or self._silent(address, networks)
                if endpoint.service is None:
                    at[address] = Endpoint(
                        endpoint.network, address, endpoint.name, endpoint.mac, endpoint.node, EndpointKind.TASK, service, derived=endpoint.derived
                    )
        if services or tasks:
            self.notes.append("names are those that DNS answers in the capture gave")
        published = sorted({port for vni, source, _, port, _ in self.seen.opened if vni == 4096 and from_halves(*source) in at})
        behind: dict[int, set[Address]] = {}
        for vni, _, to, port, _ in self.seen.opened:
            if vni == 4096:
                behind.setdefault(port, set()).add(from_halves(*to))
        for port in published:
            name = f"published-{port}"
            services[name] = Service(name, ports=(Port(port, port),), networks=())
            for address in behind.get(port, set()) & at.keys():
                endpoint = at[address]
                at[address] = Endpoint(
                    endpoint.network, address, endpoint.name, endpoint.mac, endpoint.node, EndpointKind.TASK, name, derived=endpoint.derived
                )
            self.notes.append(f"{name} is the service behind port {port} of the mesh: give it its name, its target port and its VIPs")
        for name in tasks:
            services.setdefault(name, Service(name))
        return tuple(services[name] for name in sorted(services) if name), list(at.values())


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)


def _subnet_around(ip: Address) -> Prefix:
    """The /24 (IPv6: /64) an address lies in; Docker cuts its pools so."""
    return ip_network(f"{ip}/{24 if ip.version == 4 else 64}", strict=False)
