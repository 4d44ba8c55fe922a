"""Lookups: DNS questions with their answers, and what the Cluster says about each name at that moment.

Knows Docker's embedded resolver as it looks from inside a sandbox; refuses to judge. A question to 127.0.0.11 is captured with the random port on
which the resolver listens, its answer comes from port 53 (both are rewritten by the sandbox's nat chains), so they are paired by the client's side.
What the resolver does not know it sends on to an upstream server from the same sandbox, under the same id: part of the lookup, not another one.

Sources: libnetwork resolver.go, resolver_unix.go, sandbox_dns_unix.go; swarm behaviour 3.1 to 3.5.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from vxtool.decode import dns
from vxtool.model import Address, Cluster, Endpoint, Name, NameKind, Names, Network, Timeline, from_halves
from vxtool.verify.case import TALK_COLUMNS, Case, Vantage

__all__ = ["ADDRESS_TYPES", "COLUMNS", "NXDOMAIN", "RCODES", "RESOLVER", "WAIT_NS", "Kind", "Known", "Lookup", "Lookups", "lookups_of"]

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
    query: int = -1  # row of the first question
    queries: int = 0  # how many there were; none when the capture began in between
    asked: dns.Message | None = None
    reply: int = -1
    replied_ns: int = 0
    message: dns.Message | None = None
    addresses: tuple[Address, ...] = ()  # of the reply, of the IP version that was asked for, in its order
    forwards: tuple[Lookup, ...] = ()  # the same question, sent on to upstream servers
    last_ns: int = 0  # of the last question
    known: Mapping[str, Known] | None = None  # what Lookups.known found

    @property
    def first_row(self) -> int:
        """Lookups are in the order of these."""
        return self.query if self.queries else self.reply

    @property
    def name(self) -> str:
        return self.question.name

    @property
    def type(self) -> str:
        return self.question.type

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(row for row in (self.query, self.reply) if row >= 0)

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


Kind = list[Lookup]
"""Lookups, in their order, that agree in all that makes them right or wrong: the first is judged for all. Programs ask the same few questions again
and again, so that there are hundreds of kinds where there are a hundred thousand lookups."""


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
        times, captures = case.table["ts"], case.table["capture"]
        self.ends = [int(times[captures == i].max()) if bool((captures == i).any()) else 0 for i in range(len(case.table.captures))]
        found = _exchanges(case)
        sent_on = _attach_forwards(found)
        self.embedded = tuple(found.embedded)
        # Inside a tunnel somebody's own DNS server is asked, which is nothing of Docker's.
        self.upstream = tuple(one for one in found.others if one.vni < 0)
        self.direct = tuple(one for one in self.upstream if one not in sent_on)
        self._eras = _eras(case.timeline)
        self.kinds = self.kinds_of(self.embedded)
        for first, *_ in self.kinds:
            if (proof := self._proof(first)) is not None:
                self._proven[first.capture].add(proof)

    def kinds_of(self, found: Iterable[Lookup]) -> tuple[Kind, ...]:
        """Lookups by kind, in the order of the first of each."""
        kinds: dict[tuple[object, ...], Kind] = {}
        for one in found:
            asked, message = one.asked, one.message
            key = (
                one.capture,
                bisect_right(self._eras, one.asked_ns),
                id(one.client),  # each address is one object (_addresses_of), and hashing it takes longer than all the rest
                id(one.server),
                one.question,
                bool(one.queries),
                bool(one.forwards),
                self.unanswered(one) if message is None else None,
                message and (message.flags, message.error is None, frozenset(message.answers)),
                message and asked and (asked.flags, asked.questions == message.questions),
            )
            kind = kinds.get(key)
            if kind is None:
                kinds[key] = [one]
            else:
                kind.append(one)
        return tuple(kinds.values())

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
    def located_kinds(self) -> tuple[Kind, ...]:
        """Questions to embedded resolvers of which it is known which networks they searched."""
        return tuple(kind for kind in self.kinds if self.located(kind[0]))

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

    def before(self, lookup: Lookup, one: str, other: str) -> bool:
        """Whether a network is searched before another for certain: the sandbox is in both, in every cluster that may be in force."""
        for cluster in self.clusters(lookup):
            searched = self.networks(lookup, cluster)
            if not {one, other} <= set(searched) or not {one, other} <= set(cluster.network_by_name) or searched.index(one) > searched.index(other):
                return False
        return True

    def _proof(self, lookup: Lookup) -> str | None:
        """The only network whose records an answer shows: the sandbox is in it."""
        if lookup.message is None or lookup.forwards:
            return None
        clusters, got = self.clusters(lookup), frozenset(lookup.addresses)
        given = frozenset(record.data.rstrip(".") for record in lookup.message.answers if record.type == "PTR")
        shown = set()
        for cluster in clusters:
            for network in cluster.networks:
                name = self.names(cluster).resolve(lookup.name, [network.name]) if got else None
                pointer = self.names(cluster).pointer(lookup.pointed, [network.name]) if given and lookup.pointed is not None else None
                if (name is not None and name.addresses & got) or pointer in given:
                    shown.add(network.name)
        return shown.pop() if len(shown) == 1 else None

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


@dataclass(slots=True)
class _Found:
    embedded: list[Lookup] = field(default_factory=list)  # asked of Docker's own resolver
    others: list[Lookup] = field(default_factory=list)


def _exchanges(case: Case) -> _Found:
    """Questions with their answers. A frame seen on several interfaces (`tcpdump -i any`) or sent again belongs to the lookup it repeats."""
    table = case.table
    rows = np.fromiter(table.dns, np.int64, len(table.dns))
    messages = list(table.dns.values())
    flags = np.fromiter((message.flags for message in messages), np.int64, len(messages))
    response = (flags & _QR) != 0

    def end(of_question: str, of_response: str) -> npt.NDArray[np.int64]:
        return np.where(response, table[of_response][rows], table[of_question][rows])

    client = [end(f"inner_ip_src_{half}", f"inner_ip_dst_{half}") for half in ("hi", "lo")]
    server = [end(f"inner_ip_dst_{half}", f"inner_ip_src_{half}") for half in ("hi", "lo")]
    port, service = end("inner_sport", "inner_dport"), end("inner_dport", "inner_sport")
    vni = np.where(table["tunnel"][rows] != 0, table["vni"][rows].astype(np.int64), -1)
    embedded = np.logical_and(*(half == value for half, value in zip(server, case.stored(RESOLVER), strict=True)))
    # Multicast DNS and its like have other rules.
    kept = np.flatnonzero(((flags & _OPCODE) == 0) & (embedded | (service == 53)))
    ids = np.fromiter((message.id for message in messages), np.int64, len(messages))
    captures, times = table["capture"][rows], table["ts"][rows]
    groups = case.group_values([column[kept] for column in (captures, vni, *client, port, *server, ids)])
    found = _Found()
    open_: list[Lookup | None] = [None] * len(groups)  # the last of each client's port and id
    columns = [column[kept].tolist() for column in (rows, captures, times, response, vni, embedded)]
    numbers = groups.numbers.tolist()
    clients, servers = (_addresses_of(case, [half[kept] for half in end]) for end in (client, server))
    heard = [messages[i] for i in kept.tolist()]
    for message, row, capture, ts, replies, segment, ours, number, asker, asked in zip(heard, *columns, numbers, clients, servers, strict=True):
        known = open_[number]
        # A frame cut before the question's end still has its id.
        question = message.questions[0] if message.questions else None
        if known is not None and question is not None and not _same(known.question, question):
            known = None
        if question is None and not (replies and known is not None):
            continue
        if known is None or (not replies and (known.reply >= 0 or ts - known.last_ns > RETRY_NS)):
            known = Lookup(capture, asker, asked, question or dns.Question("", ""), message.id, segment, ts, last_ns=ts)
            open_[number] = known
            (found.embedded if ours else found.others).append(known)
        if not replies:
            known.asked = known.asked or message
            known.query = row if not known.queries else known.query
            known.queries += 1
            known.last_ns = ts
        elif known.reply < 0:
            known.reply, known.replied_ns, known.message = row, ts, message
            known.addresses = _addresses(message.answers, known.type) if message.answers else ()
    return found


def _addresses_of(case: Case, halves: Sequence[npt.NDArray[np.int64]]) -> list[Address]:
    """An address for each row, equal ones as one object."""
    groups = case.group_values(halves)
    each = [from_halves(int(high), int(low)) for high, low in zip(*(half[groups.heads] for half in halves), strict=True)]
    return [each[number] for number in groups.numbers.tolist()]


@lru_cache(maxsize=4096)
def _addresses(answers: tuple[dns.Record, ...], kind: str) -> tuple[Address, ...]:
    # Data of another class than IN is written as \# LENGTH HEX.
    return tuple(ip_address(record.data) for record in answers if record.type == kind in ADDRESS_TYPES and not record.data.startswith("\\#"))


def _same(one: dns.Question, other: dns.Question) -> bool:
    return one == other or (one.type == other.type and one.name.lower() == other.name.lower())


def _attach_forwards(found: _Found) -> set[Lookup]:
    """Give each lookup of the embedded resolver the questions that it sent on; returns those."""
    sent = [one for one in found.others if one.vni < 0]
    asked: dict[tuple[object, ...], list[Lookup]] = {_asked(one): [] for one in sent}
    for one in found.embedded if sent else ():
        if (same := asked.get(_asked(one))) is not None:
            same.append(one)
    sent_on: set[Lookup] = set()
    for one in sent:
        for origin in reversed(asked[_asked(one)]):
            if 0 <= one.asked_ns - origin.asked_ns <= FORWARD_NS:
                origin.forwards = (*origin.forwards, one)
                sent_on.add(one)
                break
    return sent_on


def _asked(one: Lookup) -> tuple[object, ...]:
    return one.capture, one.id, one.name.lower(), one.type


# -- clusters ------------------------------------------------------------------------------------------------------------------


def _eras(timeline: Timeline) -> tuple[int, ...]:
    """Times between which every lookup is judged by the same clusters (Lookups.clusters, early and late, and Lookups.untold)."""
    first = timeline.moments[0].time_ns
    changes = [change + shift for change in timeline.changes_ns for shift in (-AHEAD_NS, 0, timeline.settling_ns, LATE_NS)]
    return tuple(sorted(changes if first is None else [first, *changes]))


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
