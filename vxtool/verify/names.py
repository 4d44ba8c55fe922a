"""The family of names: does Docker's embedded resolver give every task the right addresses, and nothing else?

Knows names, answers and what clients did with them; refuses to know how messages are paired (vxtool.verify.lookups) and which name has which address
(vxtool.model.names). The resolver is part of each node, so a wrong answer is the fault of the node on which it was given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from weakref import WeakKeyDictionary

from vxtool.model import Address
from vxtool.verify.case import EVIDENCE, Case
from vxtool.verify.check import check
from vxtool.verify.connections import COLUMNS as CONNECTION_COLUMNS
from vxtool.verify.connections import Connection
from vxtool.verify.lookups import ADDRESS_TYPES, COLUMNS, NXDOMAIN, RCODES, WAIT_NS, Kind, Known, Lookup, Lookups, lookups_of
from vxtool.verify.statistics import fit
from vxtool.verify.verdicts import Finding, Severity, failed, passed, unknown

__all__: list[str] = []

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
FAMILY = "names"

_Key = TypeVar("_Key")
DOCKER_ONLY = {"rfc7348": None, "flannel": None, "calico": None, "evpn": None}

TTL = 600
"""Of every record of the embedded resolver, in seconds (libnetwork resolver.go, respTTL)."""
UPSTREAM_NS = 4_000_000_000
"""How long the embedded resolver waits for each upstream server (resolver.go, extIOTimeout)."""
AUTHORITATIVE, RECURSION_DESIRED, RECURSION_AVAILABLE = 0x0400, 0x0100, 0x0080

CAPTURE_NEEDED = (
    "a capture inside a task's sandbox while it resolves names: "
    "`nsenter --net=$(docker inspect -f '{{.NetworkSettings.SandboxKey}}' CONTAINER) tcpdump -ni any -w FILE`"
)
VANTAGE_NEEDED = "the name of the task in whose sandbox the capture was taken, or the expectation that lists it"


@dataclass(slots=True)
class _Group:
    """Lookups that fail for one reason: one finding."""

    node: str | None
    network: str
    what: str  # the service, else the name
    lookups: list[Lookup] = field(default_factory=list)
    extra: set[Address] = field(default_factory=set)
    missing: set[Address] = field(default_factory=set)
    wanted: set[Address] = field(default_factory=set)
    out_of: str | None = None  # the network whose records the answer shows, though one that is searched before it has the name

    @property
    def nodes(self) -> tuple[str, ...]:
        return () if self.node is None else (self.node,)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(_plain(lookup) for lookup in self.lookups))


# -- answers -------------------------------------------------------------------------------------------------------------------


@check(
    "VX-DNS-ANSWER",
    "every name resolves to the addresses that the cluster gives it",
    family=FAMILY,
    about="A service is answered with its virtual address, or (dnsrr, tasks.NAME) with its running tasks: no address too many, none missing. "
    "Where several networks of the sandbox have the name, the first answers: internal ones last, else by their names.",
    source="libnetwork network.go (addSvcRecords), service_common.go (addEndpointNameResolution), resolver.go",
    problem="stale and extra A records, records lost after a partition: moby#36797, moby#30134, moby#30487, moby#41744, moby#28836, moby#35548",
    invariants=("B12",),
    severity=ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def answers(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    verdicts, wrong = _judged(lookups)
    if not verdicts:
        yield unknown("no answer of Docker's resolver with an address was captured", needs=CAPTURE_NEEDED)
        return
    groups: dict[tuple[object, ...], _Group] = {}
    undecided = [kind for kind, verdict in verdicts if verdict is None]
    right: dict[str, Known] = {}
    judged = late = 0
    for kind, verdict in verdicts:
        judged += 0 if verdict is None else len(kind)
        if isinstance(verdict, Known):
            right[_plain(kind[0])] = verdict
        if not isinstance(verdict, _Group):
            continue
        bad = [one for one in kind if one in wrong]
        late += len(kind) - len(bad)
        if bad:
            key = (verdict.node, verdict.network, verdict.what)
            group = groups.setdefault((*key, verdict.out_of), _Group(*key, out_of=verdict.out_of))
            group.extra |= verdict.extra
            group.missing |= verdict.missing
            group.wanted |= verdict.wanted
            group.lookups += bad
    for group in _in_order(groups.values()):
        yield _wrong(lookups, group, verdicts)
    yield from _differences(lookups, undecided)
    if judged and not groups:
        named = _listed([_right(name, known) for name, known in right.items()], 8)
        under_way = f"; {late:,} of them while a change was under way" if late else ""
        yield passed(f"{_count(judged, 'answer')} with the right addresses: {named}{under_way}")
    elif not judged:
        named = _listed(list(dict.fromkeys(kind[0].name for kind in undecided)))
        yield unknown(
            f"{sum(map(len, undecided)):,} answers cannot be judged ({named}): the expectation does not say what these names are",
            needs="`docker network inspect -v` of the networks of the task that asked, from every node, and `docker service inspect`",
        )


_Verdicts = tuple[list[tuple[Kind, Known | _Group | None]], set[Lookup]]

_JUDGED: WeakKeyDictionary[Lookups, _Verdicts] = WeakKeyDictionary()


def _judged(lookups: Lookups) -> _Verdicts:
    """Every answer with an address that the resolver gave by itself, judged; and those that are wrong and not just late."""
    if lookups not in _JUDGED:
        given = (kind for kind in lookups.kinds if kind[0].addresses and kind[0].rcode == 0 and not kind[0].forwards)
        verdicts = [(kind, _judge(lookups, kind[0])) for kind in given]
        late = _late(lookups, (kind for kind, verdict in verdicts if isinstance(verdict, Known)))
        wrong = {one for kind, verdict in verdicts if isinstance(verdict, _Group) for one in kind if not late(one)}
        _JUDGED[lookups] = verdicts, wrong
    return _JUDGED[lookups]


def _judge(lookups: Lookups, one: Lookup) -> Known | _Group | None:
    """What makes an answer right, what is wrong with it, or None when nobody can tell."""
    known = lookups.known(one)
    got = frozenset(one.addresses)
    for each in known.values():
        if _fits(each, got, one.partial) and (each.complete or each.least):
            return _passed_over(lookups, one, each) or each
    if known and all(not each.most and each.complete for each in known.values()):
        return None  # an IPv6 address of a name that has none: VX-DNS-EMPTY
    if any(not each.complete and each.least <= got for each in known.values()):
        return None
    network = lookups.network_of(one, got)
    node = lookups.node(one)
    if not known:
        gone = set() if network is None else {address for address in got if lookups.nobody(one, network.name, address, late=True)}
        return None if network is None or not gone else _Group(node, network.name, _service_of(one.name), extra=gone)
    if network is None or network.name not in known:
        # The sandbox may be in a network of which nobody told us; its names are then none of ours.
        if not lookups.told_all_networks(one):
            return None
        each = next(iter(known.values()))
    else:
        each = known[network.name]
    extra = got - each.most if each.complete else frozenset[Address]()
    missing = frozenset[Address]() if one.partial else each.least - got
    return _Group(node, each.name.network, each.name.service or each.name.name, extra=set(extra), missing=set(missing), wanted=set(each.most))


def _passed_over(lookups: Lookups, one: Lookup, answered: Known) -> _Group | None:
    """The answer is right in its network, but one that the sandbox searches before it surely has the name as well: the first that knows it wins."""
    if lookups.vantage(one).endpoint is None:
        return None
    network, got = answered.name.network, frozenset(one.addresses)
    for name, each in lookups.known(one).items():
        if name == network or not lookups.before(one, name, network):
            continue
        if each.always and each.served and each.complete and each.least and not each.most & got and each.name.name == _plain(one):
            node, what = lookups.node(one), each.name.service or each.name.name
            return _Group(node, name, what, extra=set(got), missing=set(each.least), wanted=set(each.most), out_of=network)
    return None


def _late(lookups: Lookups, right: Iterable[Kind]) -> Callable[[Lookup], bool]:
    """Tells of lookups that went wrong only because a change was still under way: a later one went right.

    Before the first time that the expectation tells of, anything may have been; soon after a dated change, anything between the old and the new.
    """
    first: dict[tuple[int, str, str], int] = {}
    last: dict[tuple[int, str, str], int] = {}
    for kind in right:
        key = _asked_at(kind[0])
        first[key] = min(first.get(key, kind[0].asked_ns), kind[0].asked_ns)
        last[key] = max(last.get(key, 0), kind[-1].asked_ns)

    def late(one: Lookup) -> bool:
        key = _asked_at(one)
        if one.asked_ns >= last.get(key, one.asked_ns):
            return False
        if lookups.untold(one):
            return one.asked_ns < first[key]
        return _under_way(lookups, one)

    return late


def _under_way(lookups: Lookups, one: Lookup) -> bool:
    if not one.addresses:
        return lookups.ours(one, late=True) is None
    return any(_fits(known, frozenset(one.addresses), one.partial) for known in lookups.known(one, late=True).values())


def _asked_at(one: Lookup) -> tuple[int, str, str]:
    return one.capture, _plain(one), one.type


def _plain(one: Lookup) -> str:
    """The name as the resolver looks for it: record names are case-insensitive, a final dot changes nothing."""
    return one.name.rstrip(".").lower()


def _fits(known: Known, got: frozenset[Address], partial: bool) -> bool:
    return (partial or known.least <= got) and (not known.complete or got <= known.most)


def _service_of(name: str) -> str:
    """The service that a name no longer known most probably belonged to."""
    labels = name.rstrip(".").lower().split(".")
    return labels[1] if labels[0] == "tasks" and len(labels) > 1 else labels[0]


def _right(name: str, known: Known) -> str:
    if len(known.most) == 1:
        return f"{name} {next(iter(known.most))}"
    return f"{name} ({len(known.most)} addresses)"


def _wrong(lookups: Lookups, group: _Group, verdicts: Iterable[tuple[Kind, object]]) -> Finding:
    bad = group.lookups
    names = {(one.capture, _plain(one)) for one in bad}
    total = sum(len(kind) for kind, _ in verdicts if (kind[0].capture, _plain(kind[0])) in names)
    who = group.node or f"the resolver of {lookups.vantage(bad[0]).name}"
    head = f"{who} answers {_listed(group.names)}"
    dead = _addresses(group.extra)
    service = group.what
    inspect = f"docker network inspect -v {group.network}  # on {group.node or 'that node'}, beside `docker service ps {service}` on a manager"
    if group.out_of is not None:
        told = f"out of network {group.out_of} ({dead}) instead of {group.network} ({_addresses(group.wanted)}), which it searches first"
        hint = _gossip(who, f"{service} runs in {group.network}") + " Or an old engine, which searched the networks in another order."
    elif not group.wanted:
        told = f"with {dead}, though the cluster has no such name any more and nobody has the address"
        hint = _gossip(who, "the name was removed")
    elif group.extra and group.missing and len(group.wanted) == 1:
        told = f"with {dead} instead of {_addresses(group.wanted)}"
        hint = _gossip(who, "the address changed") + " Or two services got into each other's records (moby#41744)."
    elif group.extra:
        count = "an address that it does" if len(group.extra) == 1 else f"{len(group.extra)} addresses that it does"
        told = f"with {count} not have ({dead})" + (f" and without {_addresses(group.missing)}" if group.missing else "")
        hint = _gossip(who, "these tasks are gone")
    else:
        told = f"without {_addresses(group.missing)}"
        hint = _gossip(who, "these tasks run")
    return failed(
        f"{head} {told}, in {len(bad):,} of {total:,} answers",
        subject=f"{service} in {group.network}" + (f" on {group.node}" if group.node else ""),
        nodes=group.nodes,
        rows=_rows(bad),
        expected=_addresses(group.wanted) if group.wanted else "no such name",
        seen=_addresses(set(bad[-1].addresses)),
        hint=hint,
        command=inspect,
        severity=None if group.out_of is None else WARNING,
    )


def _gossip(who: str, what: str) -> str:
    return (
        f"{who} has missed that {what}: its network database is not in step with the others, because gossip (port 7946, UDP and TCP) to it is "
        "blocked or did not converge (moby#30134, moby#53141)."
    )


def _differences(lookups: Lookups, undecided: Iterable[Kind]) -> Iterator[Finding]:
    """Names of which the expectation says too little: two nodes must still say the same of them, at least after a while."""
    by_name: dict[tuple[str, str, str], dict[str, list[Lookup]]] = defaultdict(lambda: defaultdict(list))
    for kind in undecided:
        one = kind[0]
        node, network = lookups.node(one), lookups.network_of(one, one.addresses)
        if node is not None and network is not None and not one.partial:
            by_name[network.name, _plain(one), one.type][node] += kind
    settling = lookups.case.timeline.settling_ns
    for (where, name, _), nodes in by_name.items():
        steady = [(node, run) for node, found in nodes.items() for run in _runs(found)]
        for i, (node, run) in enumerate(steady):
            other = next((pair for pair in steady[i + 1 :] if pair[0] != node and _contradict(run, pair[1], settling)), None)
            if other is None:
                continue
            here, there = set(run[0].addresses), set(other[1][0].addresses)
            yield failed(
                f"{node} and {other[0]} resolve {name} to different addresses for longer than a change takes: "
                f"{_addresses(here - there) or 'nothing'} only on {node}, {_addresses(there - here) or 'nothing'} only on {other[0]}",
                subject=f"{name} in {where}",
                nodes=(node, other[0]),
                rows=_rows([run[0], other[1][0], run[-1], other[1][-1]]),
                expected="the same addresses on every node",
                seen=f"{_addresses(here)} and {_addresses(there)}",
                hint=_gossip("One of them", "the tasks changed"),
                command=f"docker network inspect -v {where}  # on both nodes",
                severity=WARNING,
            )
            break


def _runs(found: list[Lookup]) -> Iterator[list[Lookup]]:
    """Consecutive equal answers."""
    run: list[Lookup] = []
    for one in sorted(found, key=_by_reply):
        if run and set(run[0].addresses) != set(one.addresses):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _contradict(one: list[Lookup], other: list[Lookup], settling_ns: int) -> bool:
    together = min(one[-1].replied_ns, other[-1].replied_ns) - max(one[0].replied_ns, other[0].replied_ns)
    return together >= settling_ns and set(one[0].addresses) != set(other[0].addresses)


# -- names that are not found --------------------------------------------------------------------------------------------------


@check(
    "VX-DNS-NAME",
    "every name of the cluster is known to the resolvers of its networks",
    family=FAMILY,
    about="A name that runs in a network of the client must be answered by the embedded resolver itself, with at least one address.",
    source="libnetwork resolver.go (handleIPQuery), sandbox_dns_unix.go; swarm behaviour 3.2 and 3.4",
    problem="names unknown on some nodes although the tasks run: moby#53141, moby#47728, moby#50342, libnetwork#2256",
    invariants=("B12",),
    severity=ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def found_names(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    asked = (kind for kind in lookups.located_kinds if kind[0].type in ADDRESS_TYPES)
    ours = [(kind, known) for kind in asked if (known := lookups.ours(kind[0])) is not None and known.most]
    if not ours:
        yield _undecided(lookups, "no question for a name of the cluster was captured")
        return
    lost = _lost(lookups)
    groups: dict[tuple[object, ...], _Group] = {}
    for kind, known in ours if lost else ():
        if bad := [one for one in kind if one in lost]:
            node, network, what = lookups.node(bad[0]), known.name.network, known.name.service or known.name.name
            group = groups.setdefault((node, network, what), _Group(node, network, what))
            group.lookups += bad
            group.wanted |= known.most
    for group in _in_order(groups.values()):
        bad = group.lookups
        servers = {forward.server for one in bad for forward in one.forwards}
        who = group.node or f"the resolver of {lookups.vantage(bad[0]).name}"
        names = set(group.names)
        well = [kind[0] for kind, _ in ours if kind[0].addresses and _plain(kind[0]) in names]
        elsewhere = [one for one in well if lookups.node(one) != group.node]
        knowing = list(dict.fromkeys(str(lookups.node(one) or lookups.asker(one)) for one in elsewhere))
        known_at = f"; on {_listed(knowing)} all is well" if knowing else ""
        asked_on = f" after being sent on to {_addresses(servers)}" if servers else ""
        yield failed(
            f"{_listed(group.names)} {'is' if len(group.names) == 1 else 'are'} not known to {who}: {_outcomes(bad)}{asked_on}{known_at}",
            subject=f"{group.what} in {group.network}" + (f" on {group.node}" if group.node else ""),
            nodes=group.nodes,
            rows=_rows([*bad, *elsewhere[:1]]),
            expected=_addresses(group.wanted),
            seen=_outcomes(bad),
            hint=_gossip(who, f"{group.what} runs"),
            command=f"docker network inspect -v {group.network}  # on {group.node or 'that node'}: is {group.what} under Services?",
            invariants=("B12", "B13") if servers else None,
        )
    if not groups:
        total, names = sum(len(kind) for kind, _ in ours), {_plain(kind[0]) for kind, _ in ours}
        answered = sum(len(kind) for kind, _ in ours if kind[0].reply >= 0)
        yield passed(f"{answered:,} of {_count(total, 'question')} for {_count(len(names), 'name')} of the cluster answered")


_LOST: WeakKeyDictionary[Lookups, set[Lookup]] = WeakKeyDictionary()


def _lost(lookups: Lookups) -> set[Lookup]:
    """Lookups of names that the cluster has and the resolver did not find. A resolver that answers nothing at all is another matter."""
    if lookups in _LOST:
        return _LOST[lookups]
    living = _living(lookups)
    lost: list[Lookup] = []
    right: list[Kind] = []
    for kind in lookups.located_kinds:
        one = kind[0]
        known = lookups.ours(one) if one.type in ADDRESS_TYPES and one.capture in living else None
        if known is not None and known.most:
            fits = any(_fits(each, frozenset(one.addresses), one.partial) for each in lookups.known(one).values())
            nothing = one.reply >= 0 and (one.rcode != 0 or (not one.addresses and not one.partial))
            if nothing or (one.reply < 0 and lookups.unanswered(one)) or (one.forwards and not fits):
                lost += kind
            elif one.addresses:
                right.append(kind)
    late = _late(lookups, right)
    found = _LOST[lookups] = {one for one in lost if not late(one)}
    return found


def _living(lookups: Lookups) -> set[int]:
    """Captures in which the embedded resolver does anything at all."""
    return {kind[0].capture for kind in lookups.kinds if kind[0].reply >= 0 or kind[0].forwards}


def _outcomes(found: Iterable[Lookup]) -> str:
    """`3 unanswered, 1 NXDOMAIN`."""
    counts = Counter(_outcome(one) for one in found)
    return ", ".join(f"{count:,} {what}" for what, count in counts.most_common())


def _outcome(one: Lookup) -> str:
    if one.rcode is None:
        return "unanswered"
    if one.rcode:
        return RCODES.get(one.rcode, f"rcode {one.rcode}")
    return "answered" if one.message is not None and one.message.answers else "empty"


@check(
    "VX-DNS-EMPTY",
    "types that a known name does not have are answered empty, at once",
    family=FAMILY,
    about="AAAA of a name with IPv4 only, and MX of any known name, are NOERROR without answers; the resolver does not ask anybody else.",
    source="libnetwork resolver.go (handleIPQuery: ipv6Miss; handleMXQuery); swarm behaviour 3.3",
    problem="AAAA questions sent upstream cost seconds, or an NXDOMAIN that hides the A record: moby#35118, moby#46701",
    invariants=("B13",),
    severity=WARNING,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def empty(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    lost = {(one.capture, _plain(one)) for one in _lost(lookups)}
    living = _living(lookups)
    good = 0
    groups: dict[str | None, list[Lookup]] = defaultdict(list)
    for kind in lookups.located_kinds:
        one = kind[0]
        if not _wants_nothing(lookups, one) or one.capture not in living or one.partial:
            continue
        if one.reply >= 0 and one.rcode == 0 and one.message is not None and not one.message.answers and not one.forwards:
            good += len(kind)
        elif (one.capture, _plain(one)) not in lost and (one.reply >= 0 or lookups.unanswered(one)):
            groups[lookups.node(one)] += kind
    for node, bad in _sorted(groups):
        servers = {forward.server for one in bad for forward in one.forwards}
        names = list(dict.fromkeys(f"{one.type} of {one.name.rstrip('.')}" for one in bad))
        asked_on = f" and sent on to {_addresses(servers)}" if servers else ""
        yield failed(
            f"{_listed(names)} should be answered empty by {node or 'the resolver'}: {_outcomes(bad)}{asked_on}",
            subject=_listed(names, 2),
            nodes=_nodes(node),
            rows=_rows(bad),
            expected="NOERROR without answers",
            seen=_outcomes(bad),
            hint="The engine does not take these names for its own when asked for this type; clients that ask for A and AAAA together wait for both.",
            command=f"docker version --format '{{{{.Server.Version}}}}'  # on {node or 'that node'}",
        )
    if not groups:
        yield (
            passed(f"{_count(good, 'question')} for types that the names do not have, answered empty")
            if good
            else _undecided(lookups, "no question for a type that a name of the cluster does not have was captured")
        )


def _wants_nothing(lookups: Lookups, one: Lookup) -> bool:
    if one.type == "MX":
        return lookups.ours(one, late=True) is not None
    if one.type not in ADDRESS_TYPES or lookups.ours(one, late=True) is None:
        return False
    return all(known.complete and not known.most for known in lookups.known(one).values())


@check(
    "VX-DNS-LEAK",
    "questions for names of the cluster stay with the embedded resolver",
    family=FAMILY,
    about="Names of services, tasks and containers, and the addresses of endpoints, are known inside; nobody outside can answer them.",
    source="libnetwork resolver.go (forwardExtDNS); swarm behaviour 3.4",
    problem="names that go to an upstream server: gaps of 4 to 5 s, SERVFAIL, internal names in foreign logs: moby#35118, moby#30326, haproxy#2503",
    invariants=("B13",),
    severity=WARNING,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def leaks(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    sent = [kind for kind in lookups.located_kinds if kind[0].forwards]
    inside = sum(len(one.forwards) for kind in sent for one in kind)
    origins = sorted((one for kind in sent for one in _answered_inside(lookups, kind)), key=_by_row)
    direct = [one for one in lookups.direct if lookups.located(one)]
    strays = sorted((one for kind in lookups.kinds_of(direct) for one in _answered_inside(lookups, kind)), key=_by_row)
    outside = [one for one in lookups.upstream if not lookups.located(one)]
    groups: dict[str | None, list[Lookup]] = defaultdict(list)
    asked: dict[str | None, bool] = defaultdict(bool)
    networks: dict[str | None, str] = {}
    for origin in (*origins, *strays):
        node = lookups.node(origin)
        groups[node] += origin.forwards or (origin,)
        asked[node] |= bool(origin.forwards)
        if node not in networks:
            networks[node] = _network_of(lookups, origin)
    for where, found in groups.items():
        names = list(dict.fromkeys(_asked_for(one) for one in found))
        silent = sum(one.reply < 0 for one in found)
        embedded = asked[where]
        yield failed(
            f"{_listed(names)} {'goes' if len(names) == 1 else 'go'} from {where or 'the sandbox'} to {_addresses({one.server for one in found})}"
            f" ({len(found):,} questions, {silent:,} unanswered)",
            subject=where or _listed(names, 2),
            nodes=_nodes(where),
            rows=_rows(found),
            expected="answers by 127.0.0.11",
            seen=f"{len(found):,} questions to other servers",
            hint=_gossip(where or "The node", "these names exist")
            if embedded
            else "The program does not ask the embedded resolver at all: another server in its resolv.conf or in its own settings.",
            command="docker exec CONTAINER cat /etc/resolv.conf  # nameserver 127.0.0.11 is wanted"
            if not embedded
            else f"docker network inspect -v {networks[where]}  # on {where or 'that node'}: does it list these services?",
        )
    seen_outside = _outside(lookups, outside)
    for sender, questions in seen_outside.items():
        names = list(dict.fromkeys(_asked_for(one) for one in questions))
        yield failed(
            f"{sender} asks {_addresses({one.server for one in questions})} for {_listed(names)}, known inside the cluster",
            subject=sender,
            nodes=(sender,),
            rows=_rows(questions),
            expected="answers by the embedded resolver",
            seen=f"{len(questions):,} questions on the underlay",
            hint="A container outside the name's network asked for it (then this is right), the host itself did, or the node's resolver lost it.",
            command=f"docker network inspect $(docker network ls -qf driver=overlay)  # on {sender}: who is in the network of the name?",
            severity=INFO,
        )
    if groups or seen_outside:
        return
    total = inside + len(direct) + len(outside)
    if total:
        yield passed(f"{_count(total, 'question')} to upstream servers, none for a name of the cluster")
    elif lookups.located_kinds:
        yield passed(f"none of {_count(sum(map(len, lookups.located_kinds)), 'question')} went to an upstream server")
    else:
        yield _undecided(lookups, "no question to a DNS server was captured")


def _network_of(lookups: Lookups, one: Lookup) -> str:
    """The network in which a lookup should be answered, for commands."""
    known = lookups.ours(one)
    if known is not None:
        return known.name.network
    addresses = [one.pointed] if one.pointed is not None else list(one.addresses)
    network = lookups.network_of(one, addresses)
    return "NETWORK" if network is None else network.name


def _answered_inside(lookups: Lookups, kind: Kind) -> Sequence[Lookup]:
    """Those that the embedded resolver must know; TXT, SRV and other types are sent on for every name."""
    first = kind[0]
    if first.type == "PTR":
        return kind if lookups.pointers(first)[1] else ()
    if first.type in (*ADDRESS_TYPES, "MX") and lookups.ours(first, late=True) is not None:
        return kind
    lost = _lost(lookups)
    return [one for one in kind if one in lost] if lost else ()


def _outside(lookups: Lookups, found: Sequence[Lookup]) -> dict[str, list[Lookup]]:
    """Questions seen outside sandboxes, for names in a network of the node that sent them, by node."""
    by_node: dict[str, list[Lookup]] = defaultdict(list)
    for kind in lookups.kinds_of(found):
        one = kind[0]
        node = lookups.node(one) or lookups.vantage(one).node
        if node is None or one.type not in ADDRESS_TYPES:
            continue
        clusters = lookups.clusters(one)
        networks = {end.network for cluster in clusters for end in cluster.endpoints_of_node.get(node, ())}
        if all(lookups.names(cluster).resolve(one.name, networks) is not None for cluster in clusters):
            by_node[node] += kind
    return dict(_sorted(by_node))


def _asked_for(one: Lookup) -> str:
    pointed = one.pointed
    return f"the name of {pointed}" if pointed is not None else one.name.rstrip(".")


# -- what answers look like ----------------------------------------------------------------------------------------------------


def _own(lookups: Lookups) -> list[Kind]:
    """Answers that the embedded resolver gave from its own records."""
    return [kind for kind in lookups.kinds if not kind[0].forwards and kind[0].rcode == 0 and _recorded(lookups, kind[0])]


def _recorded(lookups: Lookups, one: Lookup) -> bool:
    if one.type == "PTR":
        return bool(one.message and one.message.answers) and bool(lookups.pointers(one)[0])
    return one.type in (*ADDRESS_TYPES, "MX") and bool(lookups.known(one))


@check(
    "VX-DNS-TTL",
    "records live 600 s",
    family=FAMILY,
    about="The embedded resolver gives all its records the same time to live.",
    source="libnetwork resolver.go (respTTL = 600)",
    problem="Another time to live means that somebody else answered, or rewrote the answer on its way.",
    invariants=("B12",),
    severity=WARNING,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def time_to_live(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    own = [kind for kind in _own(lookups) if kind[0].message is not None and kind[0].message.answers]
    total = sum(map(len, own))
    groups: dict[str | None, list[Lookup]] = defaultdict(list)
    for kind in own:
        message = kind[0].message
        if message is not None and any(record.ttl != TTL for record in message.answers):
            groups[lookups.node(kind[0])] += kind
    for node, bad in _sorted(groups):
        lives = sorted({record.ttl for one in bad if one.message is not None for record in one.message.answers if record.ttl != TTL})
        names = list(dict.fromkeys(one.name for one in bad))
        yield failed(
            f"{len(bad):,} of {total:,} answers for names of the cluster have a time to live of {_listed([f'{life:,} s' for life in lives])}",
            subject=_listed(names, 2),
            nodes=_nodes(node),
            rows=_rows(bad),
            expected=f"{TTL} s",
            seen=_listed([f"{life:,} s" for life in lives]),
            hint="Not Docker's resolver answered, but a cache or proxy in its place.",
            command="nsenter --net=SANDBOX iptables -t nat -S  # DOCKER_OUTPUT must lead 127.0.0.11:53 to dockerd",
        )
    if not groups:
        yield (
            passed(f"{_count(total, 'answer')} with records of {TTL} s")
            if own
            else _undecided(lookups, "no answer for a name of the cluster was captured")
        )


@check(
    "VX-DNS-PTR",
    "the address of an endpoint has the name of its task",
    family=FAMILY,
    about="PTR of an endpoint's address is CONTAINER.NETWORK; virtual addresses have no name.",
    source="libnetwork resolver.go (handlePTRQuery), network.go (addIPToName); swarm behaviour 3.3",
    problem="stale names of addresses that were given to another task, PTR questions that go upstream: moby#46701, moby#30326",
    invariants=("B12",),
    severity=ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def pointers(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    asked = [kind for kind in lookups.located_kinds if kind[0].pointed is not None]
    living = _living(lookups)
    good = 0
    missing: dict[str | None, list[Lookup]] = defaultdict(list)
    wrong: list[tuple[Lookup, list[str], frozenset[str]]] = []
    for kind in asked:
        one = kind[0]
        allowed, must = lookups.pointers(one)
        given = [] if one.message is None or one.forwards else [record.data.rstrip(".") for record in one.message.answers if record.type == "PTR"]
        if given and _stale_pointer(lookups, one, given, allowed):
            wrong += ((one, given, allowed) for one in kind)
        elif given and allowed:
            good += len(kind)
        elif not given and must and not one.partial and one.capture in living and (one.reply >= 0 or lookups.unanswered(one)):
            missing[lookups.node(one)] += kind
    for one, given, allowed in sorted(wrong, key=lambda found: _by_row(found[0])):
        yield _wrong_pointer(lookups, one, given, allowed)
    for node, bad in _sorted(missing):
        addresses = {one.pointed for one in bad if one.pointed is not None}
        yield failed(
            f"{node or 'the resolver'} does not know whose {_addresses(addresses)} {'is' if len(addresses) == 1 else 'are'}: {_outcomes(bad)}",
            subject=_addresses(addresses),
            nodes=_nodes(node),
            rows=_rows(bad),
            expected=_listed(sorted({name for one in bad for name in lookups.pointers(one)[0]})),
            seen=_outcomes(bad),
            hint=_gossip(node or "The node", "these tasks run"),
            command=f"docker network inspect -v {_network_of(lookups, bad[0])}  # on {node or 'that node'}",
            severity=WARNING,
            invariants=("B12", "B13") if any(one.forwards for one in bad) else None,
        )
    if not wrong and not missing:
        if good:
            yield passed(f"{_count(good, 'PTR answer')} with the name of the task that has the address")
        elif asked:
            yield passed(f"{_count(sum(map(len, asked)), 'question')} for names of addresses, none of an endpoint")
        else:
            yield _undecided(lookups, "no PTR question was captured")


def _stale_pointer(lookups: Lookups, one: Lookup, given: Sequence[str], allowed: frozenset[str]) -> bool:
    right = {name.lower() for name in allowed}
    if right:
        return not {name.lower() for name in given} & right
    address = one.pointed
    network = None if address is None else lookups.network_of(one, [address])
    return address is not None and network is not None and lookups.nobody(one, network.name, address, late=True)


def _wrong_pointer(lookups: Lookups, one: Lookup, given: Sequence[str], allowed: frozenset[str]) -> Finding:
    node = lookups.node(one)
    said, wanted = _listed(list(given)), _listed(sorted(allowed))
    told = f"it is {wanted}" if allowed else "nobody has this address any more"
    return failed(
        f"{node or 'the resolver'} names {one.pointed} {said}, but {told}",
        subject=str(one.pointed),
        nodes=_nodes(node),
        rows=one.rows,
        expected=wanted or "no name",
        seen=said,
        hint=_gossip(node or "The node", "the address was given to another task" if allowed else "the task is gone"),
        command=f"docker network inspect -v {given[0].rsplit('.', 1)[-1]}  # on {node or 'that node'}",
    )


@check(
    "VX-DNS-SHUFFLE",
    "several addresses come in a new order each time",
    family=FAMILY,
    about="The resolver shuffles the addresses of every answer: most clients take the first, so that is how dnsrr balances.",
    source="libnetwork resolver.go (shuffleAddr)",
    problem="one task of a dnsrr service gets all the load",
    invariants=("B14",),
    severity=INFO,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def shuffled(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    samples: dict[tuple[str, str, frozenset[Address]], list[Lookup]] = defaultdict(list)
    for kind in lookups.kinds:
        one = kind[0]
        if len(set(one.addresses)) > 1 and not one.forwards and not one.partial:
            who = lookups.node(one) or lookups.vantage(one).name
            samples[who, _plain(one), frozenset(one.addresses)] += kind
    total = sum(map(len, samples.values()))
    # The test can say nothing of a sample in which even one constant order would be likely.
    telling = {key: found for key, found in samples.items() if len(key[2]) ** (1 - len(found)) < case.settings.alpha}
    bad = False
    for (who, name, addresses), found in telling.items():
        firsts = Counter(one.addresses[0] for one in found)
        result = fit([firsts[address] for address in addresses])
        if result.p * len(telling) < case.settings.alpha:
            bad = True
            address, count = firsts.most_common(1)[0]
            yield failed(
                f"{who} gives {address} first in {count:,} of {len(found):,} answers for {name} with {len(addresses)} addresses (p = {result.p:.2g})",
                subject=name,
                nodes=_nodes(lookups.node(found[0])),
                rows=_rows(sorted(found, key=_by_row)),
                expected="each address first equally often",
                seen=f"{count:,} of {len(found):,}",
                hint="Something between the client and Docker's resolver answers from a cache, or sorts the addresses.",
                command=f"for i in $(seq 20); do dig +short @127.0.0.11 {name} | head -1; done | sort | uniq -c",
            )
    if bad:
        return
    if telling:
        yield passed(
            f"{sum(map(len, telling.values())):,} answers with several addresses, in orders that chance explains (alpha {case.settings.alpha:g})"
        )
    else:
        seen = f"only {_count(total, 'answer')}" if total else "no answer"
        yield unknown(f"{seen} with several addresses captured, too few to tell an order from chance", needs="about ten lookups of one such name")


@check(
    "VX-DNS-FLAGS",
    "answers have the form of Docker's resolver",
    family=FAMILY,
    about="Not authoritative, recursion available, recursion desired as asked, and the question as it was written, with its case.",
    source="libnetwork resolver.go (setCommonFlags); RFC 1035 section 4.1.1",
    problem="clients that refuse answers to questions which they did not ask in these letters (0x20 randomisation)",
    invariants=("B12",),
    severity=INFO,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def flags(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    own = _own(lookups)
    total = sum(map(len, own))
    groups: dict[tuple[str | None, str], list[Lookup]] = defaultdict(list)
    for kind in own:
        for oddity in _oddities(kind[0]):
            groups[lookups.node(kind[0]), oddity] += kind
    for (node, oddity), bad in _sorted(groups):
        yield failed(
            f"{len(bad):,} of {total:,} answers for names of the cluster {oddity}",
            subject=oddity,
            nodes=_nodes(node),
            rows=_rows(bad),
            expected="aa 0, ra 1, rd and the question as asked",
            seen=oddity,
            hint="Not Docker's resolver answered, but a cache or proxy in its place.",
            command="nsenter --net=SANDBOX ss -ulpn  # who listens on 127.0.0.11?",
        )
    if not groups:
        yield (
            passed(f"{_count(total, 'answer')} in the form of Docker's resolver")
            if own
            else _undecided(lookups, "no answer for a name of the cluster was captured")
        )


def _oddities(one: Lookup) -> Iterator[str]:
    if one.message is None:
        return
    if one.message.flags & AUTHORITATIVE:
        yield "claim to be authoritative"
    if not one.message.flags & RECURSION_AVAILABLE:
        yield "offer no recursion"
    if one.asked is not None:
        if (one.asked.flags ^ one.message.flags) & RECURSION_DESIRED:
            yield "change the wish for recursion"
        if one.asked.questions != one.message.questions:
            yield "do not repeat the question as it was asked"


# -- silence and delay ---------------------------------------------------------------------------------------------------------


@check(
    "VX-DNS-SILENT",
    "the resolvers answer",
    family=FAMILY,
    about="The embedded resolver answers names of the cluster always; an upstream server that never answers costs every other name 4 s and more.",
    source="libnetwork resolver.go (ServeDNS, extIOTimeout = 4 s, at most 3 servers); swarm behaviour 3.4",
    problem="programs that hang in name resolution: moby#30326, moby#35118",
    invariants=("B13",),
    severity=ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def silence(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    living = _living(lookups)
    dead: dict[int, list[Lookup]] = defaultdict(list)
    for kind in lookups.kinds:
        if kind[0].capture not in living and lookups.unanswered(kind[0]):
            dead[kind[0].capture] += kind
    failing = False
    for _, found in _sorted(dead):
        asked = sum(one.queries for one in found)
        if asked < 2:
            continue
        failing = True
        node = lookups.node(found[0])
        where = f"the resolver in {lookups.asker(found[0])}'s sandbox" + (f" on {node}" if node else "")
        yield failed(
            f"{where} answers none of {asked:,} questions and asks nobody else",
            subject=lookups.asker(found[0]),
            nodes=_nodes(node),
            rows=_rows(found),
            expected="an answer within milliseconds",
            seen="nothing",
            hint="The nat rules of the sandbox that lead 127.0.0.11:53 to dockerd are gone (flushed by a firewall tool), or dockerd does not run.",
            command="nsenter --net=SANDBOX iptables -t nat -S DOCKER_OUTPUT; nsenter --net=SANDBOX ss -ulpn",
        )
    upstream: dict[Address, list[Lookup]] = defaultdict(list)
    for one in lookups.upstream:
        upstream[one.server].append(one)
    for server, found in upstream.items():
        # The same question is seen on its way out of the sandbox and on the underlay.
        silent = {
            (one.id, _plain(one), one.type): one for one in reversed(found) if one.reply < 0 and lookups.ends[one.capture] - one.last_ns >= WAIT_NS
        }
        waited = sorted(silent.values(), key=lambda one: one.asked_ns)
        if len(waited) > 1 and not any(one.reply >= 0 for one in found):
            failing = True
            nodes = tuple(dict.fromkeys(node for one in waited if (node := lookups.node(one)) is not None))
            yield failed(
                f"the upstream server {server} answered none of {len(waited):,} questions",
                subject=str(server),
                nodes=nodes,
                rows=_rows(waited),
                expected="answers",
                seen="nothing",
                hint="Names outside the cluster cannot be resolved, and each costs its program seconds.",
                command=f"dig @{server} example.com  # on {nodes[0] if nodes else 'the node'}",
                severity=INFO,
            )
    if failing:
        return
    if lookups.embedded:
        answered = sum(len(kind) for kind in lookups.kinds if kind[0].reply >= 0)
        yield passed(f"{answered:,} of {_count(len(lookups.embedded), 'question')} to embedded resolvers answered")
    else:
        yield _undecided(lookups, "no question to Docker's resolver was captured")


@check(
    "VX-DNS-LATENCY",
    "names of the cluster are answered at once",
    family=FAMILY,
    about="The embedded resolver has its names in memory: answers take well under a millisecond, never seconds.",
    source="libnetwork resolver.go; swarm behaviour 3.4",
    problem="resolution that takes 4 to 5 s: moby#35118, moby#46701, moby#30326",
    invariants=("B13",),
    severity=WARNING,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def latency(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    timed = [kind for kind in lookups.kinds if kind[0].reply >= 0 and kind[0].queries]
    if not timed:
        yield _undecided(lookups, "no question to Docker's resolver with its answer was captured")
        return
    took = [_took(one) for kind in timed for one in kind]
    own: set[Lookup] = set()
    groups: dict[str | None, list[Lookup]] = defaultdict(list)
    for kind in timed:
        recorded = not kind[0].forwards and _recorded(lookups, kind[0])
        if slow := [one for one in kind if _took(one) >= (WAIT_NS if recorded else UPSTREAM_NS)]:
            groups[lookups.node(kind[0])] += slow
            own.update(slow if recorded else ())
    for node, slow in _sorted(groups):
        mine = [one for one in slow if one in own]
        worst = max(mine or slow, key=_took)
        names = list(dict.fromkeys(one.name.rstrip(".") for one in mine or slow))
        yield failed(
            f"{_listed(names)} took {node or 'the resolver'} up to {_took(worst) / 1e9:.1f} s; all answers: {_histogram(took)}",
            subject=_listed(names, 2),
            nodes=_nodes(node),
            rows=_rows(mine or slow),
            expected="milliseconds",
            seen=f"{_took(worst) / 1e9:.1f} s",
            hint="dockerd on this node is overloaded or blocked."
            if mine
            else "An upstream server does not answer: the resolver waits 4 s for each before it tries the next.",
            command=f"uptime; docker info  # on {node or 'the node'}" if mine else "docker exec CONTAINER cat /etc/resolv.conf  # ExtServers",
            severity=None if mine else INFO,
        )
    if not groups:
        yield passed(f"{_count(len(took), 'answer')}: {_histogram(took)}; the slowest took {max(took) / 1e6:,.1f} ms")


_STEPS = ((1_000_000, "1 ms"), (10_000_000, "10 ms"), (100_000_000, "100 ms"), (1_000_000_000, "1 s"), (4_000_000_000, "4 s"))


def _took(one: Lookup) -> int:
    return one.replied_ns - one.asked_ns


def _histogram(took: Iterable[int]) -> str:
    """`37 under 1 ms, 2 under 10 ms`: each answer at the first step that it is under."""
    steps, words = [step for step, _ in _STEPS], [*(f"under {word}" for _, word in _STEPS), "4 s or more"]
    counts = Counter(bisect_right(steps, one) for one in took)
    return ", ".join(f"{counts[i]:,} {word}" for i, word in enumerate(words) if counts[i])


@check(
    "VX-DNS-RCODE",
    "the resolver refuses no question",
    family=FAMILY,
    about="Names outside the cluster get what the upstream server says; REFUSED, FORMERR and NOTIMP mean that a question was not even tried.",
    source="libnetwork resolver.go (maxConcurrent = 1024: REFUSED); RFC 1035 section 4.1.1",
    problem="programs that flood the resolver are refused, and others with them",
    invariants=("B13",),
    severity=INFO,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def codes(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    replied = [kind for kind in lookups.kinds if kind[0].rcode is not None]
    total = sum(map(len, replied))
    if not replied:
        yield _undecided(lookups, "no answer of Docker's resolver was captured")
        return
    lost = _lost(lookups)
    groups: dict[tuple[str | None, int], list[Lookup]] = defaultdict(list)
    for kind in replied:
        code = kind[0].rcode
        if code not in (None, 0, 2, NXDOMAIN) and (bad := [one for one in kind if one not in lost]):
            groups[lookups.node(kind[0]), code] += bad
    for (node, code), bad in _sorted(groups):
        word = RCODES.get(code, f"rcode {code}")
        yield failed(
            f"{node or 'the resolver'} answers {word} to {len(bad):,} of {total:,} questions",
            subject=word,
            nodes=_nodes(node),
            rows=_rows(bad),
            expected="NOERROR, or NXDOMAIN of an upstream server",
            seen=word,
            hint="More than 1024 questions wait for upstream servers at once, or the upstream server refuses this client.",
            command="docker exec CONTAINER cat /etc/resolv.conf  # ExtServers: ask them directly",
        )
    if not groups:
        counts: Counter[str] = Counter()
        for kind in replied:
            counts[_outcome(kind[0]) if kind[0].rcode else "NOERROR"] += len(kind)
        yield passed(f"{_count(total, 'answer')}: " + ", ".join(f"{count:,} {word}" for word, count in counts.most_common()))


# -- what clients do with answers ----------------------------------------------------------------------------------------------


@check(
    "VX-DNS-USE",
    "clients connect to addresses that somebody has",
    family=FAMILY,
    about="After a lookup the client connects to an address of the answer; one that nobody has any more never answers.",
    source="libnetwork network.go (deleteSvcRecords); RFC 1035 section 7.4 (caching)",
    problem="connections to removed tasks, by stale records or by programs that keep an answer for ever: moby#30487, moby#36797",
    invariants=("B12",),
    severity=WARNING,
    columns=(*COLUMNS, *CONNECTION_COLUMNS),
    profiles=DOCKER_ONLY,
)
def use(case: Case) -> Iterator[Finding]:
    lookups = lookups_of(case)
    _, wrong = _judged(lookups)
    given: dict[tuple[int, Address], list[Lookup]] = {(connection.capture, connection.server): [] for connection in case.connections}
    for kind in lookups.kinds:
        for address in set(kind[0].addresses):
            if (at := (kind[0].capture, address)) in given:
                given[at] += kind
    for found in given.values():
        found.sort(key=_by_reply)
    groups: dict[tuple[str | None, str, bool], list[tuple[Lookup, Connection]]] = defaultdict(list)
    good = 0
    for connection in case.connections:
        source = _last(given.get((connection.capture, connection.server), ()), connection.first_ns)
        if source is None or connection.vni >= 0 or not connection.begun:
            continue
        if connection.syn_ack >= 0:
            good += 1
        elif _gone(lookups, source, connection, surely=source in wrong):
            asked = (kind for kind in lookups.kinds if (kind[0].capture, kind[0].name) == (source.capture, source.name))
            answered = sorted((one for kind in asked if kind[0].addresses for one in kind), key=_by_reply)
            newest = _last(answered, connection.first_ns)
            groups[lookups.node(source), _plain(source), newest is source].append((source, connection))
    for (node, name, current), gone in groups.items():
        addresses = {connection.server for _, connection in gone}
        who = lookups.asker(gone[0][0])
        why = f"which {node or 'its resolver'} gave it for {name}" if current else f"which {name} was, but is not in its newest answer"
        yield failed(
            f"{_count(len(gone), 'connection')} of {who} went to {_addresses(addresses)}, {why}; nobody has the address and none was answered",
            subject=f"{who} -> {name}",
            nodes=_nodes(node),
            rows=tuple(row for source, connection in gone[:2] for row in (*source.rows[-1:], connection.syn)),
            expected="addresses that the cluster has",
            seen=_addresses(addresses),
            hint=_gossip(node or "The node", "the tasks behind it are gone")
            if current
            else "The program keeps old answers longer than it should (a JVM does for ever unless networkaddress.cache.ttl says otherwise).",
            command=f"docker network inspect -v {_network_of(lookups, gone[0][0])}  # on {node or 'that node'}"
            if current
            else f"docker exec CONTAINER getent ahostsv4 {name}  # what the resolver says now",
        )
    if not groups:
        yield (
            passed(f"{_count(good, 'connection')} to addresses that the client had resolved, answered")
            if good
            else unknown("no connection to an address that was resolved before was captured", needs=CAPTURE_NEEDED)
        )


def _last(answers: Sequence[Lookup], before_ns: int) -> Lookup | None:
    """The last of some answers, in the order of time, that was given by then."""
    at = bisect_right(answers, before_ns, key=lambda one: one.replied_ns)
    return answers[at - 1] if at else None


def _gone(lookups: Lookups, source: Lookup, connection: Connection, surely: bool) -> bool:
    """Whether nobody has the address at the time of a connection, which was left long enough without an answer. `surely`: the address came out of a
    wrong answer; otherwise a change that is under way may excuse it."""
    now = Lookup(source.capture, source.client, source.server, source.question, source.id, source.vni, connection.first_ns)
    network = lookups.network_of(now, [connection.server])
    waited = connection.rst_by_server or connection.syns > 1 or lookups.ends[connection.capture] - connection.last_ns >= WAIT_NS
    return waited and network is not None and lookups.nobody(now, network.name, connection.server, late=not surely)


# -- words ---------------------------------------------------------------------------------------------------------------------


def _undecided(lookups: Lookups, message: str) -> Finding:
    if lookups.embedded and not lookups.located_kinds:
        return unknown("it is not known in whose sandbox the questions were asked, so which networks they search", needs=VANTAGE_NEEDED)
    return unknown(message, needs=CAPTURE_NEEDED)


def _by_row(one: Lookup) -> int:
    return one.first_row


def _by_reply(one: Lookup) -> tuple[int, int]:
    return one.replied_ns, one.first_row


def _sorted(groups: Mapping[_Key, list[Lookup]]) -> list[tuple[_Key, list[Lookup]]]:
    """Groups made of kinds, with their lookups in order, and in the order of their first ones."""
    return sorted(((key, sorted(found, key=_by_row)) for key, found in groups.items()), key=lambda group: group[1][0].first_row)


def _in_order(groups: Iterable[_Group]) -> list[_Group]:
    by_group = {id(group): group for group in groups}
    return [replace(by_group[key], lookups=found) for key, found in _sorted({key: group.lookups for key, group in by_group.items()})]


def _nodes(node: str | None) -> tuple[str, ...]:
    return () if node is None else (node,)


def _rows(found: Iterable[Lookup]) -> tuple[int, ...]:
    """The frame that proves each lookup wrong: its answer, or the question that stayed without."""
    return tuple(one.reply if one.reply >= 0 else one.query for one in found if one.rows)[:EVIDENCE]


def _addresses(found: Iterable[Address]) -> str:
    return _listed([str(address) for address in sorted(found, key=lambda address: (address.version, int(address)))])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _listed(words: Sequence[str], most: int = 6) -> str:
    """`a, b and c`, the rest counted."""
    if len(words) > most:
        return ", ".join(words[:most]) + f" and {len(words) - most} more"
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + (words[-1] if words else "")
