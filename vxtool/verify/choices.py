"""What balancers chose: connections from a node's load-balancer endpoint to a backend, and what clients asked of the published ports.

Knows how Docker's mesh looks on the wire; refuses to judge it. A client's SYN to a published port of a node becomes, inside that node, a SYN from the
node's load-balancer endpoint to a backend, with the client's initial sequence number and (nearly always) its port. Only a backend on another node is
reached through the underlay; one on the entry node itself shows only in a capture taken inside its sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from vxtool.decode.columns import HEADER_HAVE
from vxtool.model import Address, Cluster, Endpoint, EndpointKind, Network, Orchestrator
from vxtool.verify.case import TALK_COLUMNS, Case
from vxtool.verify.connections import COLUMNS as CONNECTION_COLUMNS
from vxtool.verify.connections import Connection

__all__ = ["COLUMNS", "DECIDED_NS", "Choice", "Mesh", "Request", "mesh_of", "spans"]

COLUMNS = tuple(dict.fromkeys((*TALK_COLUMNS, *CONNECTION_COLUMNS, "inner_frag")))
"""Columns a check needs when it uses `mesh_of`."""

DECIDED_NS = 3_000_000_000
"""A SYN without an answer for so long has failed: Linux has sent it again by then."""

RETRYING_NS = 127_000_000_000
"""How long Linux repeats a SYN (tcp_syn_retries 6): an unanswered one in the first minutes of a capture may have been balanced before."""

IPVS_TCP_NS = 900_000_000_000
IPVS_CLOSED_NS = 120_000_000_000
IPVS_UDP_NS = 300_000_000_000
"""How long IPVS remembers where a connection, a connection after its FIN, and a conversation went (the kernel's defaults, which Docker leaves):
meanwhile the same addresses and ports are no new choice."""

UDP = 17


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision of a balancer, seen in one capture or in several."""

    vni: int  # -1: seen only inside sandboxes
    network: str  # Network.name; "VNI 4096" where the expectation knows none
    entry: str  # the node that balanced
    stated: bool  # the expectation says that `source` is the entry node's load balancer; false: it only behaves like it
    source: Address
    source_port: int
    backend: Address
    port: int
    protocol: str  # "tcp" or "udp"
    sequence: int  # initial sequence number of the client; -1 when not known
    service: str | None
    home: str | None  # the backend's node
    listed: bool  # a running backend of a service, by a cluster in force
    sure: bool  # a new decision, made while the capture ran; false: perhaps the rest of an older one
    answered: bool
    refused: bool  # a reset instead of an answer
    tries: int
    waited_ns: int  # from the first frame to the end of the capture in which it was seen
    forgotten_ns: int  # when IPVS forgets it
    times_ns: tuple[tuple[int, int], ...]  # (capture, time of the first frame there)
    rows: tuple[int, ...]
    clusters: tuple[Cluster, ...] = field(repr=False, default=())  # by which it may be judged, the newest first

    @property
    def captures(self) -> frozenset[int]:
        return frozenset(capture for capture, _ in self.times_ns)

    @property
    def time_ns(self) -> int:
        return self.times_ns[0][1]

    @property
    def failed(self) -> bool:
        """Refused, or silent for long enough."""
        return self.refused or (not self.answered and self.protocol == "tcp" and (self.tries > 1 or self.waited_ns >= DECIDED_NS))

    @property
    def settled(self) -> bool:
        return len(self.clusters) == 1


@dataclass(frozen=True, slots=True)
class Request:
    """A client's connection to a published port of a node."""

    node: str
    address: Address
    port: int
    client: Address
    client_port: int
    sequence: int
    services: tuple[str, ...]
    answered: bool
    refused: bool
    failed: bool
    hollow: bool  # accepted, asked, and nothing came back
    sure: bool  # a new connection to the balancer too; false: it may remember the client's port
    at_node: bool  # captured at the node itself
    times_ns: tuple[tuple[int, int], ...]
    rows: tuple[int, ...]
    choice: Choice | None  # what became of it, as far as it was seen
    clusters: tuple[Cluster, ...] = field(repr=False, default=())

    @property
    def captures(self) -> frozenset[int]:
        return frozenset(capture for capture, _ in self.times_ns)

    @property
    def time_ns(self) -> int:
        return self.times_ns[0][1]

    @property
    def settled(self) -> bool:
        return len(self.clusters) == 1


@dataclass(frozen=True)
class Mesh:
    """Choices and requests of a case, in time."""

    choices: tuple[Choice, ...]
    requests: tuple[Request, ...]
    ports: frozenset[int]  # TCP ports of nodes that are, or behave as, published ones

    @cached_property
    def of_service(self) -> Mapping[tuple[str, str | None], list[Choice]]:
        """(network, service) -> its choices."""
        out: dict[tuple[str, str | None], list[Choice]] = {}
        for choice in self.choices:
            out.setdefault((choice.network, choice.service), []).append(choice)
        return out

    @cached_property
    def of_node(self) -> Mapping[str, list[Request]]:
        """Entry node -> what was asked of it."""
        out: dict[str, list[Request]] = {}
        for request in self.requests:
            out.setdefault(request.node, []).append(request)
        return out

    @cached_property
    def of_request(self) -> frozenset[int]:
        """Identities of the choices that a captured request led to."""
        return frozenset(id(request.choice) for request in self.requests if request.choice is not None)


_KNOWN: WeakKeyDictionary[Case, Mesh] = WeakKeyDictionary()


def mesh_of(case: Case) -> Mesh:
    """The mesh of a case. Needs COLUMNS. Read once, however many checks ask."""
    if case not in _KNOWN:
        _KNOWN[case] = _Reader(case).read()
    return _KNOWN[case]


@dataclass(slots=True)
class _Balancer:
    """Who sent a SYN, when that is a balancer."""

    network: str
    entry: str
    stated: bool
    known: Network | None


class _Reader:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.table = case.table
        self.captures = spans(case)
        self.kubernetes = any(cluster.orchestrator is Orchestrator.KUBERNETES for cluster in case.clusters)
        self._balancers: dict[tuple[object, ...], _Balancer | None] = {}
        self._endpoints: dict[tuple[object, ...], tuple[Endpoint, ...]] = {}
        self._running: dict[tuple[object, ...], bool] = {}
        self._always = case.clusters if len(case.clusters) == 1 else None
        # A capture that the user named tells whose address is at one end of all its frames, also where the expectation does not.
        self._names = {v.vtep: v.node for v in case.vantages if v.kind == "node" and v.vtep is not None and v.node is not None}
        self._called: dict[Address, str] = {}
        self._asked = self._node_connections()

    def read(self) -> Mesh:
        seen = [*self._tcp(), *self._udp()]
        choices = _certain(sorted(_merged(seen), key=lambda choice: choice.time_ns))
        requests, ports = self._requests(choices)
        return Mesh(tuple(choices), tuple(requests), frozenset(ports))

    def _acceptable(self, row: int) -> tuple[Cluster, ...]:
        return self._always if self._always is not None else self.case.acceptable(row)

    def _name(self, address: Address) -> str:
        if address not in self._called:
            name = self.case.node_name(address)
            self._called[address] = self._names.get(address, name) if name == str(address) else name
        return self._called[address]

    # -- choices -----------------------------------------------------------------------------------------------------------

    def _tcp(self) -> Iterator[Choice]:
        for connection in self.case.connections:
            clusters = self._acceptable(connection.first)
            balancer = self._balancer(clusters, connection.vni, connection.client, connection.server, connection)
            if balancer is None:
                continue
            sequence = _sequence(self.case, connection)
            begun, ended = self.captures[connection.capture]
            waited = ended - connection.first_ns
            answered = connection.syn_ack >= 0 or connection.to_client > 0
            early = connection.first_ns - begun < RETRYING_NS
            yield self._choice(
                clusters,
                balancer,
                connection.vni,
                (connection.client, connection.client_port),
                (connection.server, connection.server_port),
                protocol="tcp",
                outer_dst=connection.outer_dst,
                sequence=sequence,
                sure=sequence >= 0 and (answered or not early),
                answered=answered,
                refused=connection.rst_by_server and not answered,
                tries=connection.syns,
                waited_ns=waited,
                forgotten_ns=_forgotten(connection),
                times_ns=((connection.capture, connection.first_ns),),
                rows=(connection.first, *connection.rows[1:2]),
            )

    def _udp(self) -> Iterator[Choice]:
        """UDP conversations: what a balancer sent from one port to one backend, without a pause in which IPVS forgets."""
        table, case = self.table, self.case
        sources = {e.ip for cluster in case.clusters for e in cluster.load_balancers.values()}
        if not sources:
            return
        lows = np.array([int(a) | 0xFFFF00000000 for a in sources if a.version == 4], np.uint64)
        ports = (table["inner_have"] & HEADER_HAVE["ports"]) != 0
        datagrams = ports & (table["inner_proto"] == UDP) & (table["inner_frag"] != 2)
        there = datagrams & np.isin(table["inner_ip_src_lo"], lows)
        if not there.any():
            return
        back = datagrams & np.isin(table["inner_ip_dst_lo"], lows)
        answers = {
            (int(table["capture"][row]), case.address("inner_ip_dst", row), int(table["inner_dport"][row]), case.address("inner_ip_src", row))
            for row in case.group(back, *(table[n] for n in ("capture", "inner_ip_src_lo", "inner_ip_dst_lo", "inner_dport"))).heads.tolist()
        }
        names = ("capture", "vni", "inner_ip_src_lo", "inner_sport", "inner_ip_dst_lo", "inner_dport")
        groups = case.group(there, *(table[name] for name in names))
        for group in range(len(groups)):
            members = groups.members(group)
            times = table["ts"][members]
            for part in np.split(members, np.flatnonzero(np.diff(times) >= IPVS_UDP_NS) + 1):
                row = int(part[0])
                source, backend = case.address("inner_ip_src", row), case.address("inner_ip_dst", row)
                if source is None or backend is None:
                    continue
                clusters = self._acceptable(row)
                vni = int(table["vni"][row]) if table["tunnel"][row] else -1
                balancer = self._balancer(clusters, vni, source, backend, None)
                if balancer is None or not balancer.stated:
                    continue
                capture, port, time = int(table["capture"][row]), int(table["inner_sport"][row]), int(table["ts"][row])
                begun, ended = self.captures[capture]
                yield self._choice(
                    clusters,
                    balancer,
                    vni,
                    (source, port),
                    (backend, int(table["inner_dport"][row])),
                    protocol="udp",
                    outer_dst=case.address("outer_ip_dst", row) if vni >= 0 else None,
                    sequence=-1,
                    sure=time - begun >= IPVS_UDP_NS,
                    answered=(capture, source, port, backend) in answers,
                    refused=False,
                    tries=len(part),
                    waited_ns=ended - time,
                    forgotten_ns=int(table["ts"][part[-1]]) + IPVS_UDP_NS,
                    times_ns=((capture, time),),
                    rows=tuple(part[:2].tolist()),
                )

    def _choice(
        self,
        clusters: tuple[Cluster, ...],
        balancer: _Balancer,
        vni: int,
        source: tuple[Address, int],
        backend: tuple[Address, int],
        *,
        protocol: str,
        outer_dst: Address | None,
        sequence: int,
        sure: bool,
        answered: bool,
        refused: bool,
        tries: int,
        waited_ns: int,
        forgotten_ns: int,
        times_ns: tuple[tuple[int, int], ...],
        rows: tuple[int, ...],
    ) -> Choice:
        known = self._at(clusters, balancer.network, backend[0])
        service = next((endpoint.service for endpoint in known if endpoint.service), None)
        if service is None:
            by_port = {found.name for cluster in clusters for found in cluster.service_by_port.get((protocol, backend[1]), ())}
            service = by_port.pop() if len(by_port) == 1 and balancer.known is not None and balancer.known.ingress else None
        home = next((endpoint.node for endpoint in known if endpoint.node), None)
        if home is None and outer_dst is not None:
            home = self._name(outer_dst)
        return Choice(
            vni,
            balancer.network,
            balancer.entry,
            balancer.stated,
            source[0],
            source[1],
            backend[0],
            backend[1],
            protocol,
            sequence,
            service,
            home,
            self._is_listed(clusters, balancer.network, backend[0]),
            sure,
            answered,
            refused,
            tries,
            waited_ns,
            forgotten_ns,
            times_ns,
            rows,
            clusters,
        )

    def _at(self, clusters: tuple[Cluster, ...], network: str, address: Address) -> tuple[Endpoint, ...]:
        key = (*map(id, clusters), network, address)
        if key not in self._endpoints:
            self._endpoints[key] = tuple(e for cluster in clusters for e in cluster.endpoints_of_network.get(network, ()) if address in e.addresses)
        return self._endpoints[key]

    def _is_listed(self, clusters: tuple[Cluster, ...], network: str, address: Address) -> bool:
        key = (*map(id, clusters), network, address)
        if key not in self._running:
            self._running[key] = any(
                endpoint.service is None or endpoint in cluster.backends(endpoint.service, network).endpoints
                for cluster in clusters
                for endpoint in cluster.endpoints_of_network.get(network, ())
                if address in endpoint.addresses
            )
        return self._running[key]

    def _balancer(
        self, clusters: tuple[Cluster, ...], vni: int, source: Address, backend: Address, connection: Connection | None
    ) -> _Balancer | None:
        """The balancer that sends from `source`, None when that is nobody's load-balancer endpoint."""
        behaves = connection is not None and vni >= 0 and (source, connection.client_port, _sequence(self.case, connection)) in self._translated
        key = (*map(id, clusters), vni, source, backend, behaves, None if connection is None else connection.outer_src)
        if key not in self._balancers:
            self._balancers[key] = self._find(clusters, vni, source, backend, behaves, connection)
        return self._balancers[key]

    def _find(
        self, clusters: tuple[Cluster, ...], vni: int, source: Address, backend: Address, behaves: bool, connection: Connection | None
    ) -> _Balancer | None:
        network = self.case.network_of(clusters, vni) if vni >= 0 else None
        if vni >= 0:
            senders = [endpoint for endpoint in self.case.endpoints_at(clusters, vni, source) if endpoint.node is not None]
        else:
            senders = [e for cluster in clusters for e in cluster.load_balancers.values() if source in e.addresses]
        for endpoint in senders:
            known = network if network is not None else _network_called(clusters, endpoint.network)
            if known is None or (known.subnets and not known.holds(backend)):
                continue
            if endpoint.kind is EndpointKind.LOAD_BALANCER or (self.kubernetes and self._at_serves(clusters, known.name, backend)):
                return _Balancer(known.name, endpoint.node or "?", True, known)
        if senders:
            return None
        if vni < 0 or connection is None or connection.outer_src is None or self.kubernetes:
            return None
        # Not every node's inspect was given, or not this network's: what a client asked of a node goes on from that node's balancer.
        ours = network is not None and network.ingress and not network.complete and network.holds(source)
        # Where the ingress network is known, a VNI that nobody has is VX-VNI's to report.
        if ours or (network is None and behaves and not any(cluster.ingress is not None for cluster in clusters)):
            return _Balancer(network.name if network is not None else f"VNI {vni}", self._name(connection.outer_src), False, network)
        return None

    def _at_serves(self, clusters: tuple[Cluster, ...], network: str, address: Address) -> bool:
        return any(endpoint.service is not None for endpoint in self._at(clusters, network, address))

    # -- requests ----------------------------------------------------------------------------------------------------------

    def _node_connections(self) -> list[tuple[Connection, int, tuple[Cluster, ...]]]:
        """Connections to addresses of nodes, outside tunnels, with their initial sequence numbers."""
        nodes = {address for cluster in self.case.clusters for node in cluster.nodes for address in node.addresses}
        nodes.update(address for cluster in self.case.clusters for address in cluster.vteps)
        return [
            (connection, _sequence(self.case, connection), self._acceptable(connection.first))
            for connection in self.case.connections
            if connection.vni < 0 and connection.server in nodes and (connection.begun or connection.syn_ack >= 0)
        ]

    @cached_property
    def _translated(self) -> frozenset[tuple[Address, int, int]]:
        """(source, port, sequence number) of SYNs in tunnels that a client sent to a node with another source: a node passed them on."""
        asked = {sequence: connection.client for connection, sequence, _ in self._asked}
        return frozenset(
            (connection.client, connection.client_port, sequence)
            for connection in self.case.connections
            if connection.vni >= 0
            and connection.begun
            and (sequence := _sequence(self.case, connection)) in asked
            and asked[sequence] != connection.client
        )

    def _requests(self, choices: list[Choice]) -> tuple[list[Request], set[int]]:
        by_sequence: dict[int, list[Choice]] = {}
        for choice in choices:
            if choice.sequence >= 0:
                by_sequence.setdefault(choice.sequence, []).append(choice)
        merged: dict[tuple[Address, int, Address, int, int], list[tuple[Connection, tuple[Cluster, ...]]]] = {}
        ports = {port for cluster in self.case.clusters for protocol, port in cluster.service_by_port if protocol == "tcp"}
        for connection, sequence, clusters in self._asked:
            if any(choice.entry == self._name(connection.server) for choice in by_sequence.get(sequence, ())):
                ports.add(connection.server_port)
            key = (connection.client, connection.client_port, connection.server, connection.server_port, sequence)
            merged.setdefault(key, []).append((connection, clusters))
        remembered: dict[tuple[object, ...], int] = {}
        requests = []
        for key, seen in sorted(merged.items(), key=lambda item: item[1][0][0].first_ns):
            if key[3] in ports:
                again = seen[0][0].first_ns < remembered.get(key[:4], 0)
                remembered[key[:4]] = max(_forgotten(connection) for connection, _ in seen)
                requests.append(self._request(seen, by_sequence.get(key[4], []), key[4], sure=not again))
        return requests, ports

    def _request(self, seen: list[tuple[Connection, tuple[Cluster, ...]]], choices: list[Choice], sequence: int, *, sure: bool) -> Request:
        node = self._name(seen[0][0].server)
        # The node's own capture first: it tells what the node did, others only what came of it.
        seen.sort(key=lambda one: self.case.vantages[one[0].capture].node != node)
        best, clusters = seen[0]
        answered = any(connection.syn_ack >= 0 for connection, _ in seen)
        refused = not answered and any(connection.rst_by_server for connection, _ in seen)
        tries = max(connection.syns for connection, _ in seen)
        waited = min(self.captures[connection.capture][1] - connection.first_ns for connection, _ in seen)
        silent = not answered and not refused and (tries > 1 or waited >= DECIDED_NS)
        asked = max(connection.to_server for connection, _ in seen) > 0
        served = max(connection.to_client for connection, _ in seen) > 0
        lasted = max(connection.last_ns - connection.first_ns for connection, _ in seen)
        candidates = [choice for choice in choices if choice.entry == node]
        candidates.sort(key=lambda choice: (choice.source_port != best.client_port, abs(choice.time_ns - best.first_ns)))
        vantage = self.case.vantages[best.capture]
        return Request(
            node=node,
            address=best.server,
            port=best.server_port,
            client=best.client,
            client_port=best.client_port,
            sequence=sequence,
            services=tuple(dict.fromkeys(s.name for cluster in clusters for s in cluster.service_by_port.get(("tcp", best.server_port), ()))),
            answered=answered,
            refused=refused,
            failed=refused or silent,
            sure=sure,
            hollow=answered and asked and not served and lasted >= DECIDED_NS,
            at_node=vantage.kind == "node" and vantage.node == node,
            times_ns=tuple((connection.capture, connection.first_ns) for connection, _ in seen),
            rows=tuple(dict.fromkeys(row for row in (best.first, best.rst) if row >= 0)),
            choice=candidates[0] if candidates else None,
            clusters=clusters,
        )


def spans(case: Case) -> dict[int, tuple[int, int]]:
    """When each capture that has frames begins and ends: capture -> (first, last) in nanoseconds."""
    captures, times = case.table["capture"], case.table["ts"]
    out: dict[int, tuple[int, int]] = {}
    for capture in range(len(case.table.captures)):
        first, last = np.searchsorted(captures, [capture, capture + 1])  # rows of one capture are together
        if last > first:
            out[capture] = (int(times[first:last].min()), int(times[first:last].max()))
    return out


def _network_called(clusters: tuple[Cluster, ...], name: str) -> Network | None:
    return next((found for cluster in clusters if (found := cluster.network_by_name.get(name)) is not None), None)


def _sequence(case: Case, connection: Connection) -> int:
    """The client's initial sequence number, from its SYN or from the answer to it; -1 when neither was captured."""
    if connection.begun and connection.syn >= 0:
        return int(case.table["tcp_seq"][connection.syn])
    if connection.syn_ack >= 0:
        return (int(case.table["tcp_ack"][connection.syn_ack]) - 1) & 0xFFFFFFFF
    return -1


def _forgotten(connection: Connection) -> int:
    """When IPVS forgets a connection."""
    return connection.last_ns + (IPVS_CLOSED_NS if connection.fin or connection.rst >= 0 else IPVS_TCP_NS)


def _merged(seen: Iterable[Choice]) -> Iterator[Choice]:
    """One choice for all captures that saw it: the same addresses, ports and sequence number."""
    groups: dict[tuple[object, ...], list[Choice]] = {}
    for choice in seen:
        key = (choice.network, choice.source, choice.source_port, choice.backend, choice.port, choice.protocol)
        groups.setdefault(key, []).append(choice)
    for group in groups.values():
        whole: dict[int, Choice] = {}
        rest: list[Choice] = []
        for choice in group:
            if choice.sequence < 0:
                rest.append(choice)
            elif choice.sequence in whole:
                whole[choice.sequence] = _joined(whole[choice.sequence], choice)
            else:
                whole[choice.sequence] = choice
        # What a capture saw only from the middle on belongs to the choice that another one saw from its beginning, else to one another.
        for choice in sorted(rest, key=lambda one: one.time_ns):
            known = next((key for key, one in whole.items() if not choice.captures & one.captures), None)
            if known is None:
                whole[-1 - len(whole)] = choice
            else:
                whole[known] = _joined(whole[known], choice)
        yield from whole.values()


def _joined(one: Choice, other: Choice) -> Choice:
    answered = one.answered or other.answered
    times = dict(other.times_ns) | dict(one.times_ns)
    return replace(
        one,
        vni=max(one.vni, other.vni),
        stated=one.stated or other.stated,
        sure=one.sure or other.sure,
        answered=answered,
        refused=(one.refused or other.refused) and not answered,
        tries=max(one.tries, other.tries),
        waited_ns=min(one.waited_ns, other.waited_ns),
        forgotten_ns=max(one.forgotten_ns, other.forgotten_ns),
        times_ns=tuple((capture, times[capture]) for capture in dict.fromkeys((*dict(one.times_ns), *dict(other.times_ns)))),
        rows=(*one.rows, *other.rows)[:5],
    )


def _certain(choices: list[Choice]) -> list[Choice]:
    """The same choices; one that repeats addresses and ports which IPVS still remembers is not sure to be a new decision."""
    remembered: dict[tuple[object, ...], int] = {}
    out = []
    for choice in choices:
        key = (choice.network, choice.source, choice.source_port, choice.backend, choice.port, choice.protocol)
        again = choice.time_ns < remembered.get(key, 0)
        remembered[key] = choice.forgotten_ns
        out.append(replace(choice, sure=False) if again else choice)
    return out
