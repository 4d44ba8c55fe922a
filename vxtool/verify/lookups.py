"""Lookups: DNS questions with their answers, and what the Cluster says about each name at that moment.

Knows Docker's embedded resolver as it looks from inside a sandbox; refuses to judge. A question to 127.0.0.11 is captured with the random port on
which the resolver listens, its answer comes from port 53 (both are rewritten by the sandbox's nat chains), so they are paired by the client's side.
What the resolver does not know it sends on to an upstream server from the same sandbox, under the same id: part of the lookup, not another one.

Sources: libnetwork resolver.go, resolver_unix.go, sandbox_dns_unix.go; swarm behaviour 3.1 to 3.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from weakref import WeakKeyDictionary

import numpy as np

from vxtool.decode import dns
from vxtool.model import Address, Cluster, Endpoint, Name, NameKind, Names, Network, from_halves
from vxtool.model import halves as halves_of
from vxtool.verify.case import TALK_COLUMNS, Case, Vantage

__all__ = ["ADDRESS_TYPES", "COLUMNS", "NXDOMAIN", "RCODES", "RESOLVER", "WAIT_NS", "Known", "Lookup", "Lookups", "lookups_of"]

COLUMNS = (*TALK_COLUMNS, "inner_sport", "inner_dport")
"""Columns a check needs when it uses `lookups_of`."""

RESOLVER = IPv4Address("127.0.0.11")
"""Where the embedded resolver listens, in every sandbox."""

WAIT_NS = 1_000_000_000
"""The embedded resolver knows its names by heart: what it has not said after a second it will not say. Later than this before the end of a capture
nothing counts as unanswered."""

RETRY_NS = 60_000_000_000
"""A question repeated within this time, from the same port and with the same id, is the same lookup."""

FORWARD_NS = 20_000_000_000
"""How long the resolver goes on asking upstream servers: three of them, 4 s each, and some."""

AHEAD_NS = 30_000_000_000
"""How long before its time a snapshot may already be true: it is taken after the change that it shows."""

LATE_NS = 30_000_000_000
"""How long after its time a change may still be under way: a drain or an update goes on until the last task has stopped and the last has started."""

ADDRESS_TYPES = {"A": 4, "AAAA": 6}
"""Question types that ask for addresses, and of which IP version."""

NXDOMAIN = 3
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
"""Response codes by number (RFC 1035 section 4.1.1)."""

_QR = 0x8000
_OPCODE = 0x7800
_TC = 0x0200


@dataclass(frozen=True, slots=True)
class Known:
    """What a name is in one network, by every cluster that may be in force: while a change settles, an answer may lie anywhere between two."""

    name: Name  # by the newest cluster that has it
    always: bool  # every one of the clusters has it
    least: frozenset[Address]  # what an answer must hold
    most: frozenset[Address]  # what it may hold
    complete: bool  # nothing else can be right
    served: bool  # there is somebody behind it: Docker drops a service's name with its last task


@dataclass(eq=False, slots=True)
class Lookup:
    """One question of one client to one server. Rows are positions in the table; -1 where there was no such frame."""

    capture: int
    client: Address
    server: Address
    question: dns.Question
    id: int
    vni: int  # -1 outside a tunnel
    asked_ns: int  # of an answer without its question: when it was given
    queries: list[int] = field(default_factory=list)  # rows; empty when the capture began in between
    asked: dns.Message | None = None
    reply: int = -1
    replied_ns: int = 0
    message: dns.Message | None = None
    addresses: tuple[Address, ...] = ()  # of the reply, of the IP version that was asked for, in its order
    forwards: list[Lookup] = field(default_factory=list)  # the same question, sent on to upstream servers
    last_ns: int = 0  # of the last question
    known: Mapping[str, Known] | None = None  # what Lookups.known found

    @property
    def embedded(self) -> bool:
        """Whether Docker's own resolver was asked."""
        return self.server == RESOLVER

    @property
    def name(self) -> str:
        return self.question.name

    @property
    def type(self) -> str:
        return self.question.type

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(row for row in (*self.queries[:1], self.reply) if row >= 0)

    @property
    def rcode(self) -> int | None:
        """None without a reply."""
        return None if self.message is None else self.message.flags & 15

    @property
    def partial(self) -> bool:
        """Whether the reply may hold more than was read: truncated by the resolver (TC), or cut by the capture."""
        return self.message is not None and bool(self.message.flags & _TC or self.message.error)

    @property
    def pointed(self) -> Address | None:
        """The address whose name a PTR question asks for."""
        return _pointed(self.name) if self.type == "PTR" else None


def _pointed(name: str) -> Address | None:
    """d.c.b.a.in-addr.arpa (RFC 1035 section 3.5) or 32 nibbles under ip6.arpa (RFC 3596 section 2.5)."""
    plain = name.lower().rstrip(".")
    try:
        if plain.endswith(".in-addr.arpa"):
            return IPv4Address(".".join(reversed(plain.removesuffix(".in-addr.arpa").split("."))))
        if plain.endswith(".ip6.arpa"):
            nibbles = list(reversed(plain.removesuffix(".ip6.arpa").split(".")))
            if len(nibbles) == 32 and all(len(nibble) == 1 for nibble in nibbles):
                return IPv6Address(int("".join(nibbles), 16))
    except ValueError:
        pass
    return None


class Lookups:
    """All lookups of a case, in the order of captures and time."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._names: dict[int, Names] = {}
        self._known: dict[tuple[object, ...], Mapping[str, Known]] = {}
        self._attached: dict[tuple[int, int], tuple[str, ...]] = {}
        self._proven: dict[int, set[str]] = defaultdict(set)  # capture -> networks from which its resolver answered
        self._proofs: dict[tuple[object, ...], str | None] = {}
        times, captures = case.table["ts"], case.table["capture"]
        self.ends = [int(times[captures == i].max()) if bool((captures == i).any()) else 0 for i in range(len(case.table.captures))]
        found = _exchanges(case)
        sent_on = _attach_forwards(found)
        self.embedded = tuple(one for one in found if one.embedded)
        # Inside a tunnel somebody's own DNS server is asked, which is nothing of Docker's.
        self.direct = tuple(one for one in found if not one.embedded and one not in sent_on and one.vni < 0)
        self.upstream = tuple(one for one in found if not one.embedded and one.vni < 0)
        for one in self.embedded:
            if (proof := self._proof(one)) is not None:
                self._proven[one.capture].add(proof)

    # -- who asks ----------------------------------------------------------------------------------------------------------

    def vantage(self, lookup: Lookup) -> Vantage:
        return self.case.vantages[lookup.capture]

    def node(self, lookup: Lookup) -> str | None:
        """The node whose resolver was asked, or that a question seen outside of sandboxes comes from."""
        vantage = self.vantage(lookup)
        if vantage.kind in ("node", "segment") and any(lookup.client in cluster.node_by_address for cluster in self.case.clusters):
            return self.case.node_name(lookup.client)
        return vantage.node

    @cached_property
    def located_ones(self) -> tuple[Lookup, ...]:
        """Questions to embedded resolvers of which it is known which networks they searched."""
        return tuple(one for one in self.embedded if self.located(one))

    def asker(self, lookup: Lookup) -> str:
        """How the sandbox is called in messages."""
        endpoint = self.vantage(lookup).endpoint
        return (endpoint.name or str(endpoint.ip)) if endpoint is not None else self.vantage(lookup).name

    def located(self, lookup: Lookup) -> bool:
        """Whether networks are known that the question surely searched: because the sandbox is known, or by what else was answered in it."""
        return self.vantage(lookup).endpoint is not None or bool(self._proven.get(lookup.capture))

    def networks(self, lookup: Lookup, cluster: Cluster) -> tuple[str, ...]:
        """The networks that are searched: those of the sandbox, internal ones and ingress last. Of an unknown sandbox: all."""
        key = (lookup.capture, id(cluster))
        found = self._attached.get(key)
        if found is None:
            endpoint = self.vantage(lookup).endpoint
            names = set(self._proven.get(lookup.capture, ()))
            if endpoint is not None:
                names |= _networks_of(self.case, cluster, endpoint)
            names = names or {network.name for network in cluster.networks}
            found = self._attached[key] = tuple(sorted(names, key=lambda name: _turn(cluster, name)))
        return found

    def _proof(self, lookup: Lookup) -> str | None:
        """The only network whose records an answer shows: the sandbox is in it."""
        if lookup.message is None or lookup.forwards:
            return None
        clusters, got = self.clusters(lookup), frozenset(lookup.addresses)
        given = frozenset(record.data.rstrip(".") for record in lookup.message.answers if record.type == "PTR")
        key = (lookup.name, got, given, *map(id, clusters))
        if key not in self._proofs:
            shown = set()
            for cluster in clusters:
                for network in cluster.networks:
                    name = self.names(cluster).resolve(lookup.name, [network.name]) if got else None
                    pointer = self.names(cluster).pointer(lookup.pointed, [network.name]) if given and lookup.pointed is not None else None
                    if (name is not None and name.addresses & got) or pointer in given:
                        shown.add(network.name)
            self._proofs[key] = shown.pop() if len(shown) == 1 else None
        return self._proofs[key]

    def told_all_networks(self, lookup: Lookup) -> bool:
        """Whether the sandbox can have no network that the expectation does not tell of."""
        endpoint = self.vantage(lookup).endpoint
        service = None if endpoint is None or endpoint.service is None else self.case.cluster.service_by_name.get(endpoint.service)
        return service is not None and bool(service.networks) and set(service.networks) <= set(self.case.cluster.network_by_name)

    # -- what is right -----------------------------------------------------------------------------------------------------

    def clusters(self, lookup: Lookup, late: bool = False) -> tuple[Cluster, ...]:
        """By which a lookup may be judged, the newest first. `late`: with those whose change may still be under way."""
        timeline = self.case.timeline
        if len(timeline.moments) == 1:
            return timeline.clusters
        now, ahead = timeline.position(lookup.asked_ns), timeline.position(lookup.asked_ns + AHEAD_NS)
        soon = (timeline.clusters[i] for i in range(ahead, now, -1))
        if late:
            return (*soon, *(timeline.clusters[i] for i in range(now, timeline.position(lookup.asked_ns - LATE_NS) - 1, -1)))
        return (*soon, *timeline.acceptable(lookup.asked_ns))

    def untold(self, lookup: Lookup) -> bool:
        """Whether the lookup was made before the first time that the expectation tells of: things may have been otherwise then."""
        first = self.case.timeline.moments[0].time_ns
        return self.case.timeline.position(lookup.asked_ns) == 0 and (first is None or lookup.asked_ns < first)

    def names(self, cluster: Cluster) -> Names:
        found = self._names.get(id(cluster))
        if found is None:
            found = self._names[id(cluster)] = Names(cluster)
        return found

    def known(self, lookup: Lookup, late: bool = False) -> Mapping[str, Known]:
        """Network -> what the name is there; {}: no network that the client searches has the name, and it is sent on."""
        if late:
            return self._remembered(lookup, self.clusters(lookup, late))
        if lookup.known is None:
            lookup.known = self._remembered(lookup, self.clusters(lookup))
        return lookup.known

    def _remembered(self, lookup: Lookup, clusters: tuple[Cluster, ...]) -> Mapping[str, Known]:
        key = (lookup.capture, lookup.name, ADDRESS_TYPES.get(lookup.type, 0), *map(id, clusters))
        if key not in self._known:
            self._known[key] = self._look(lookup, clusters)
        return self._known[key]

    def _look(self, lookup: Lookup, clusters: tuple[Cluster, ...]) -> dict[str, Known]:
        version = ADDRESS_TYPES.get(lookup.type, 4)
        found: dict[str, Known] = {}
        for network in dict.fromkeys(name for cluster in clusters for name in self.networks(lookup, cluster)):
            views = [self.names(cluster).resolve(lookup.name, [network]) for cluster in clusters]
            present = [view for view in views if view is not None]
            if not present:
                continue
            sets = [frozenset(a for a in view.addresses if a.version == version) if view is not None else frozenset() for view in views]
            found[network] = Known(
                name=present[0],
                always=len(present) == len(views),
                least=frozenset.intersection(
                    *(_sure(cluster, network, view, addresses) for cluster, view, addresses in zip(clusters, views, sets, strict=True))
                ),
                most=frozenset().union(*sets),
                complete=all(view.complete for view in present),
                served=all(view is not None and _served(cluster, view) for cluster, view in zip(clusters, views, strict=True)),
            )
        return found

    def ours(self, lookup: Lookup, late: bool = False) -> Known | None:
        """The name, when a network that the client surely searches has it for certain and somebody is behind it: it must be answered here."""
        if not self.located(lookup):
            return None
        return next((known for known in self.known(lookup, late).values() if known.always and known.served), None)

    def pointers(self, lookup: Lookup) -> tuple[frozenset[str], bool]:
        """Names that a PTR answer may hold, and whether there must be one."""
        address = lookup.pointed
        if address is None or not self.located(lookup):
            return frozenset(), False
        clusters = self.clusters(lookup, late=True)
        each = [
            {found for network in self.networks(lookup, cluster) if (found := self.names(cluster).pointer(address, [network])) is not None}
            for cluster in clusters
        ]
        return frozenset().union(*each), all(each)

    def nobody(self, lookup: Lookup, network: str, address: Address, late: bool = False) -> bool:
        """Whether the clusters know everybody in the network, and nobody has this address."""
        return all(_nobody(cluster, network, address) for cluster in self.clusters(lookup, late))

    def network_of(self, lookup: Lookup, addresses: Iterable[Address]) -> Network | None:
        """The network of the clusters around an address."""
        for cluster in self.clusters(lookup):
            for address in addresses:
                around = [network for network in cluster.networks_holding(address) if not network.ingress]
                mine = [network for network in around if network.name in self.networks(lookup, cluster)]
                if mine or around:
                    return (mine or around)[0]
        return None

    def unanswered(self, lookup: Lookup) -> bool:
        """No reply, although the capture went on long enough for one."""
        return lookup.reply < 0 and (bool(lookup.forwards) or self.ends[lookup.capture] - lookup.last_ns >= WAIT_NS)


_CASES: WeakKeyDictionary[Case, Lookups] = WeakKeyDictionary()


def lookups_of(case: Case) -> Lookups:
    """The lookups of a case, made once."""
    found = _CASES.get(case)
    if found is None:
        found = _CASES[case] = Lookups(case)
    return found


# -- pairing -------------------------------------------------------------------------------------------------------------------


def _exchanges(case: Case) -> list[Lookup]:
    """Questions with their answers. A frame seen on several interfaces (`tcpdump -i any`) or sent again belongs to the lookup it repeats."""
    table = case.table
    rows = np.fromiter(table.dns, np.int64, len(table.dns))
    names = (
        "capture",
        "ts",
        "inner_ip_src_hi",
        "inner_ip_src_lo",
        "inner_ip_dst_hi",
        "inner_ip_dst_lo",
        "inner_sport",
        "inner_dport",
        "tunnel",
        "vni",
    )
    columns = [table[name][rows].tolist() for name in names]
    addresses: dict[tuple[int, int], Address] = {}

    def address(high: int, low: int) -> Address:
        found = addresses.get((high, low))
        if found is None:
            found = addresses[high, low] = from_halves(high, low)
        return found

    embedded = halves_of(RESOLVER)
    found: list[Lookup] = []
    open_: dict[tuple[object, ...], Lookup] = {}  # the last of each client's port and id
    for row, capture, ts, *halves, sport, dport, tunnel, vni in zip(rows.tolist(), *columns, strict=True):
        message = table.dns[row]
        if message.flags & _OPCODE:
            continue
        source, target = (halves[0], halves[1]), (halves[2], halves[3])
        response = bool(message.flags & _QR)
        client, port, server, service = (target, dport, source, sport) if response else (source, sport, target, dport)
        if service != 53 and server != embedded:
            continue  # multicast DNS and its like have other rules
        vni = vni if tunnel else -1
        key = (capture, vni, client, port, server, message.id)
        known = open_.get(key)
        # A frame cut before the question's end still has its id.
        question = message.questions[0] if message.questions else None
        if known is not None and question is not None and not _same(known.question, question):
            known = None
        if question is None and not (response and known is not None):
            continue
        if known is None or (not response and (known.reply >= 0 or ts - known.last_ns > RETRY_NS)):
            known = open_[key] = Lookup(
                capture, address(*client), address(*server), question or dns.Question("", ""), message.id, vni, ts, last_ns=ts
            )
            found.append(known)
        if not response:
            known.asked = known.asked or message
            known.queries.append(row)
            known.last_ns = ts
        elif known.reply < 0:
            known.reply, known.replied_ns, known.message = row, ts, message
            known.addresses = _addresses(message.answers, known.type)
    return found


@lru_cache(maxsize=4096)
def _addresses(answers: tuple[dns.Record, ...], kind: str) -> tuple[Address, ...]:
    # Data of another class than IN is written as \# LENGTH HEX.
    return tuple(ip_address(record.data) for record in answers if record.type == kind in ADDRESS_TYPES and not record.data.startswith("\\#"))


def _same(one: dns.Question, other: dns.Question) -> bool:
    return one.type == other.type and one.name.lower() == other.name.lower()


def _attach_forwards(found: list[Lookup]) -> set[Lookup]:
    """Give each lookup of the embedded resolver the questions that it sent on; returns those."""
    asked: dict[tuple[object, ...], list[Lookup]] = defaultdict(list)
    for one in found:
        if one.embedded:
            asked[one.capture, one.id, one.name.lower(), one.type].append(one)
    sent_on: set[Lookup] = set()
    for one in found:
        if not one.embedded and one.vni < 0:
            for origin in reversed(asked.get((one.capture, one.id, one.name.lower(), one.type), ())):
                if 0 <= one.asked_ns - origin.asked_ns <= FORWARD_NS:
                    origin.forwards.append(one)
                    sent_on.add(one)
                    break
    return sent_on


# -- clusters ------------------------------------------------------------------------------------------------------------------


def _networks_of(case: Case, cluster: Cluster, endpoint: Endpoint) -> set[str]:
    """The networks of a sandbox. A cluster that does not list it (it came later, or has gone) is searched as those that do."""
    for one in (cluster, *reversed(case.clusters)):
        mine = {other.network for other in one.endpoints if _same_sandbox(endpoint, other)}
        if mine:
            return mine
    return {endpoint.network}


def _same_sandbox(one: Endpoint, other: Endpoint) -> bool:
    if one.task is not None and other.task is not None:
        return one.task == other.task
    if one.container is not None and other.container is not None:
        return one.container == other.container
    return bool(one.name) and one.name == other.name and one.node == other.node


def _turn(cluster: Cluster, network: str) -> tuple[bool, bool, str]:
    """libnetwork sorts a sandbox's endpoints: ingress last, internal networks behind the others, then by name (endpoint heap, sandbox.go)."""
    known = cluster.network_by_name.get(network)
    return (known is not None and known.ingress, known is not None and known.internal, network)


def _served(cluster: Cluster, name: Name) -> bool:
    if name.kind in (NameKind.SERVICE, NameKind.ALIAS) and name.service is not None:
        return bool(cluster.backends(name.service, name.network).endpoints)
    return bool(name.addresses)


def _state_told(cluster: Cluster, task: str) -> bool:
    known = cluster.task_by_id.get(task)
    return known is not None and (known.desired is not None or known.observed is not None)


def _sure(cluster: Cluster, network: str, view: Name | None, addresses: frozenset[Address]) -> frozenset[Address]:
    """Those that an answer must hold. A task that may just be stopping has an endpoint and no record any more; only `service ps`, or as many
    endpoints as the service wants replicas, tells that it is not."""
    service = cluster.service_by_name.get(view.service) if view is not None and view.service is not None else None
    if view is None or view.service is None or (service is not None and service.replicas == len(addresses)):
        return addresses
    vip = cluster.vip_of(view.service, network)
    inside = cluster.endpoints_of_network.get(network, ())
    told = {ip for end in inside if end.task is None or _state_told(cluster, end.task) for ip in end.addresses}
    return frozenset(address for address in addresses if address == vip or address in told)


def _nobody(cluster: Cluster, network: str, address: Address) -> bool:
    known = cluster.network_by_name.get(network)
    if known is None or not known.tasks_complete or not known.holds(address):
        return False
    ends = (end for end in cluster.endpoints_of_network.get(network, ()) if address in end.addresses)
    return not any(ends) and (network, address) not in cluster.service_by_vip and all(subnet.gateway != address for subnet in known.subnets)
