"""The family of the routing mesh: does every balancer send its connections to the right backends, in turn, and do they answer?

Knows Docker's mesh (published ports, ingress, virtual addresses) as choices and requests; refuses to know frames. Docker balances with IPVS rr, so
the balance of one entry node is judged exactly; a chance test serves where exactness is out of reach, and for balancers that choose at random
(kube-proxy).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from vxtool.model import Address, Cluster, EndpointKind, Orchestrator
from vxtool.verify.case import EVIDENCE, Case
from vxtool.verify.check import check
from vxtool.verify.choices import COLUMNS, DECIDED_NS, IPVS_TCP_NS, Choice, Mesh, Request, mesh_of, spans
from vxtool.verify.connections import Connection
from vxtool.verify.statistics import POWER, detectable, pool
from vxtool.verify.turns import Stretch, Turns, stretches
from vxtool.verify.verdicts import Finding, Severity, failed, passed, unknown

FAMILY = "mesh"
DOCKER_ONLY = {"rfc7348": None, "flannel": None, "calico": None, "evpn": None}
ANY_BALANCER = {"rfc7348": None, "evpn": None, "flannel": Severity.INFO, "calico": Severity.INFO}
MESH_SOURCE = "libnetwork service_linux.go (addLBBackend, programIngress): one fwmark per service and network, IPVS scheduler rr, weight 1"

INGRESS_NEEDED = "`docker network inspect -v` of the ingress network from every node, and `docker service inspect` of the published services"
CLIENT_NEEDED = "a capture on the interface of the entry node where the clients come in"

_TURNS: WeakKeyDictionary[Case, list[Turns]] = WeakKeyDictionary()


def _turns_of(case: Case) -> list[Turns]:
    if case not in _TURNS:
        _TURNS[case] = [] if _random(case) else stretches(case, mesh_of(case))
    return _TURNS[case]


def _random(case: Case) -> bool:
    """Whether the balancers choose at random (kube-proxy's iptables mode) instead of in turn."""
    return any(cluster.orchestrator is Orchestrator.KUBERNETES for cluster in case.clusters)


# -- balance ---------------------------------------------------------------------------------------------------------------


@check(
    "VX-MESH-BALANCE",
    "each balancer takes its backends in turn",
    family=FAMILY,
    about="IPVS rr goes round the backends: between two changes of the backends the connections of any two differ by at most one per entry node.",
    source=MESH_SOURCE + "; Linux ip_vs_rr.c",
    problem="One task gets most of the load while others idle: moby#25325, persistence or another scheduler in IPVS, weights left by an update.",
    invariants=("B14",),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def balance(case: Case) -> Iterator[Finding]:
    judged: dict[tuple[str, str | None], list[str]] = {}
    undecided: dict[tuple[str, str | None], list[str]] = {}
    bad = False
    for turns in _turns_of(case):
        if _unfair(turns):
            bad = True
            yield _imbalance(case, turns)
            continue
        part = max(turns.parts, key=lambda part: len(part.counts))
        comparable = len(part.counts) + (part.local if part.local_sum is not None else 0)
        line = f"through {turns.entry} {_in_words(turns)}"
        if comparable < 2 or not turns.complete or turns.service is None:
            undecided.setdefault((turns.network, turns.service), []).append(line)
        else:
            judged.setdefault((turns.network, turns.service), []).append(line)
    for (network, service), lines in judged.items():
        yield passed(f"{_service(service)} in {network}, connections per backend: {_listed(lines)}", subject=_subject(network, service))
    for (network, service), lines in undecided.items():
        if (network, service) in judged:
            continue
        one = _service(service)
        why = "there are too few visible backends to compare" if service is not None else "the expectation does not say whose backends these are"
        yield unknown(
            f"the balance of {one} in {network} cannot be judged: {why}; seen: {_listed(lines)}",
            needs="captures at the entry nodes with their clients' side, and " + INGRESS_NEEDED,
            subject=_subject(network, service),
        )
    if not judged and not undecided and not bad:
        yield _nothing_balanced(case)


def _unfair(turns: Turns) -> bool:
    """Uneven, and not just because some backends are never chosen (VX-MESH-UNUSED says that better)."""
    if turns.even:
        # All to one of many: whatever the reason, it is the balance that the user sees.
        return len(turns.never) > 1 and len({choice.backend for choice in turns.choices}) == 1 and turns.sure > 2 and not turns.parts[0].local
    return not all(part.remote_even and _unused_locals(part) for part in turns.parts)


def _unused_locals(part: Stretch) -> int:
    """How many of the local backends must be unused to explain their sum; 0 when that explains nothing."""
    if part.all_even or part.local_sum is None:
        return 0
    for unused in range(1, part.local + 1):
        if Stretch(part.counts, part.local - unused, part.local_sum).all_even and (part.local > unused or part.local_sum[1] == 0):
            return unused
    return 0


def _imbalance(case: Case, turns: Turns) -> Finding:
    worst = next((part for part in turns.parts if not part.all_even), turns.parts[0])
    counts = worst.counts
    most, least = max(counts, key=lambda one: counts[one]), min(counts, key=lambda one: counts[one])
    zero = [address for address in turns.never if address not in counts]
    local = not worst.remote_even or worst.local_sum is None
    if zero:
        seen = f"{counts[most][0]:,} to {_at(turns, most)}, none to {len(zero)} others"
    elif local:
        seen = f"{counts[most][0]:,} to {_at(turns, most)}, {counts[least][0]:,} to {_at(turns, least)}"
    else:
        seen = f"{_sum(worst)} to the {worst.local} on {turns.entry} itself, {_range(counts.values())} to each other one"
    doubt = not turns.complete or not turns.stated
    message = f"{turns.entry} does not balance {_service(turns.service)} in turn: {_in_words(turns)}"
    return failed(
        message + ("; the expectation does not list all backends, so that some may have come or gone" if doubt else ""),
        subject=_subject(turns.network, turns.service, turns.entry),
        nodes=(turns.entry,),
        rows=_rows(choice for choice in turns.choices if choice.backend in (most, least)),
        expected="connections per backend that differ by at most 1",
        seen=seen,
        hint="The balancer of this node does not use plain round robin over equal weights: another scheduler, persistence, a weight left by an "
        "update, or a backend that was away for part of the time.",
        command=_ipvs(case, turns.network, turns.entry),
        severity=Severity.WARNING if doubt else None,
    )


def _nothing_balanced(case: Case) -> Finding:
    if _random(case):
        return unknown(
            "kube-proxy chooses at random: taking turns is not its promise", needs="a balancer that promises it; VX-MESH-SHARE has the chance test"
        )
    known = any(cluster.load_balancers for cluster in case.clusters)
    if not known:
        return unknown("no load-balancer endpoint is known, so nothing can be called a balanced connection", needs=INGRESS_NEEDED)
    return unknown("no balanced connection was captured", needs="connections through a published port or a virtual address while capturing")


@check(
    "VX-MESH-UNUSED",
    "every backend gets connections",
    family=FAMILY,
    about="A backend that is listed and reachable is chosen in every round of every balancer; one that is left out does no work.",
    source=MESH_SOURCE,
    problem="A task runs, but some or all nodes do not know it or keep it at weight 0: moby#41896, #30321, libnetwork#2074.",
    invariants=("B14",),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def unused(case: Case) -> Iterator[Finding]:
    everything = [turns for turns in _turns_of(case) if turns.service is not None]
    judged = [turns for turns in everything if not _unfair(turns)]
    doubts: dict[tuple[str, str | None], dict[Address, Turns]] = {}
    found = False
    for group in _balances(judged):
        absent = {address: [turns for turns in group if address in turns.never and turns.most > 1] for turns in group for address in turns.never}
        absent = {address: where for address, where in absent.items() if where}
        chosen = {choice.backend for turns in group for choice in turns.choices}
        # What several nodes leave out and what says nothing is as likely gone as forgotten; then the list is not of this time.
        silent = {a for a, where in absent.items() if a not in chosen and len(where) > 1 and not _heard(case, where[0], a)}
        if silent:
            silent.update(address for address in absent if address not in chosen)
        doubted = {address: turns for turns in group for address in turns.doubted} | {address: absent[address][0] for address in silent}
        doubts.setdefault((group[0].network, group[0].service), {}).update(doubted)
        by_entry: dict[tuple[str, bool], tuple[Turns, list[Address]]] = {}
        for address, where in absent.items():
            for turns in where if address not in silent else ():
                by_entry.setdefault((turns.entry, address in chosen), (turns, []))[1].append(address)
        for (_, others), (turns, addresses) in by_entry.items():
            found = True
            yield _left_out(case, turns, addresses, others=others)
        for turns in group:
            gone = sum(turns.homes.get(address) == turns.entry for address in doubted)
            for part in turns.parts:
                missing = _unused_locals(part)
                if missing > gone:
                    found = True
                    yield _locals_left_out(case, turns, part, missing)
    for (network, service), perhaps in doubts.items():
        if perhaps:
            yield _perhaps_gone(network, service, perhaps)
    changed = list(_changed(case, everything))
    yield from changed
    if found or changed or any(doubts.values()):
        return
    if judged:
        backends = {(turns.network, choice.backend) for turns in judged for choice in turns.choices}
        entries = {turns.entry for turns in judged}
        yield passed(f"no listed backend is left out: {len(backends)} chosen through {len(entries)} entry nodes, as far as they can be told apart")
    elif everything:
        yield unknown("connections are not balanced, see VX-MESH-BALANCE", needs="a balancer that takes turns")
    elif mesh_of(case).choices:
        yield unknown("the expectation does not say which backends there are", needs=INGRESS_NEEDED)
    else:
        yield _nothing_balanced(case)


def _balances(everything: Iterable[Turns]) -> list[list[Turns]]:
    """The turns of all entry nodes for one service at one time, together."""
    groups: dict[tuple[frozenset[int], str, str | None], list[Turns]] = {}
    for turns in everything:
        groups.setdefault((turns.captures, turns.network, turns.service), []).append(turns)
    return list(groups.values())


def _perhaps_gone(network: str, service: str | None, addresses: dict[Address, Turns]) -> Finding:
    names = [_at(turns, address) for address, turns in addresses.items()]
    return unknown(
        f"no connection of {_service(service)} goes to {_listed(names)}; whether {'it' if len(names) == 1 else 'they'} should get any is not sure: "
        "the expectation seems to be of another time, or does not say which tasks are being stopped",
        needs="`docker service ps --no-trunc` of the service, from the time of the capture",
        subject=f"{_listed([str(address) for address in addresses])} in {network}",
    )


def _left_out(case: Case, turns: Turns, addresses: Sequence[Address], *, others: bool) -> Finding:
    network, service, entry = turns.network, turns.service, turns.entry
    names = _listed([_at(turns, address) for address in addresses])
    homes = [home for address in addresses if (home := turns.homes.get(address)) is not None]
    each = f"{turns.sure:,} connections through {entry}"
    return failed(
        f"{entry} never chooses {names} for {_service(service)}" + (", other nodes do" if others else ""),
        subject=_subject(network, service, entry),
        nodes=tuple(dict.fromkeys((entry, *homes))),
        rows=_rows(turns.choices),
        expected=f"about {_range([count for part in turns.parts for count in part.counts.values()])} of the {each}",
        seen="none",
        hint="The backend is missing from this node's IPVS table, or has weight 0 there"
        + (": its removal or its arrival was learned wrongly by this node only." if others else ", or is not yet (or no longer) meant to serve."),
        command=_ipvs(case, network, entry, *addresses),
    )


def _locals_left_out(case: Case, turns: Turns, part: Stretch, absent: int) -> Finding:
    locals_ = [address for address, home in turns.homes.items() if home == turns.entry and address not in part.counts]
    names = _listed([_at(turns, address) for address in locals_])
    return failed(
        f"{turns.entry} does not choose {absent} of the {part.local} backends of {_service(turns.service)} that run on it ({names})",
        subject=_subject(turns.network, turns.service, turns.entry),
        nodes=(turns.entry,),
        rows=_rows(turns.choices),
        expected=f"{_range(part.counts.values(), part.local)} connections to the {part.local} together",
        seen=_sum(part),
        hint="A backend on the entry node itself is missing from its IPVS table, or has weight 0 there.",
        command=_ipvs(case, turns.network, turns.entry, *locals_),
    )


def _changed(case: Case, everything: Sequence[Turns]) -> Iterator[Finding]:
    """Listed backends that a balancer stopped choosing in mid-capture, or began to choose late."""
    for turns in everything:
        siblings = [other for other in everything if other is not turns and _same_balance(other, turns)]
        for address, time in turns.left.items():
            on = any(
                choice.backend == address and choice.time_ns > time + case.timeline.settling_ns for other in siblings for choice in other.choices
            )
            also = [other for other in siblings if address in other.left]
            if also and not on:
                yield unknown(
                    f"{turns.entry} and {_listed([other.entry for other in also])} stopped choosing {_at(turns, address)} during the capture: "
                    "it has left, though the expectation lists it",
                    needs="the expectation after that change",
                    subject=f"{address} in {turns.network}",
                    nodes=(turns.entry, *(other.entry for other in also)),
                )
                continue
            after = [choice for choice in turns.choices if choice.time_ns > time]
            before = [choice for choice in turns.choices if choice.backend == address]
            yield failed(
                f"{turns.entry} stopped choosing {_at(turns, address)} during the capture: {len(after):,} connections later it has got none"
                + (", while other nodes still choose it" if on else ""),
                subject=_subject(turns.network, turns.service, turns.entry),
                nodes=tuple(dict.fromkeys(filter(None, (turns.entry, turns.homes.get(address))))),
                rows=_rows([*before[-2:], *after]),
                expected="its turn in every round, as the expectation lists it",
                seen=f"{len(before):,} connections, then none",
                hint="The backend was taken out of this node's IPVS table, or its weight was set to 0"
                + ("." if on else "; when it was stopped on purpose, give the expectation after that too (--expect FOLDER@TIME)."),
                command=_ipvs(case, turns.network, turns.entry, address),
                severity=None if on else Severity.WARNING,
            )
        for address in turns.joined:
            yield unknown(
                f"{turns.entry} began to choose {_at(turns, address)} only during the capture",
                needs="the expectation before that change",
                subject=f"{address} in {turns.network}",
                nodes=(turns.entry,),
            )


def _same_balance(one: Turns, other: Turns) -> bool:
    return one.captures == other.captures and one.network == other.network and one.service == other.service


def _heard(case: Case, turns: Turns, address: Address) -> bool:
    """Whether an inner address says anything in its network while the captures of a balance ran."""
    vnis = {vni for cluster in case.clusters for known in cluster.networks if known.name == turns.network for vni in known.vnis}
    return any(talk.ip_src == address and talk.capture in turns.captures and (talk.vni in vnis or talk.vni < 0) for talk in case.talks)


@check(
    "VX-MESH-SHARE",
    "the shares of the backends are no accident's doing",
    family=FAMILY,
    about="Over all entry nodes together: how often would a balancer that chooses at random be as uneven as this? Round robin is more even.",
    source="G-test with Williams' correction, exact multinomial test for small numbers; kube-proxy (iptables mode) chooses at random",
    problem="An imbalance that shows only in the sum, or where exact counting is out of reach: moby#25325.",
    invariants=("B14",),
    severity=Severity.WARNING,
    columns=COLUMNS,
    profiles=ANY_BALANCER,
)
def share(case: Case) -> Iterator[Finding]:
    samples: dict[tuple[str, str | None], list[tuple[str, dict[Address, int]]]] = {}
    reported: set[tuple[str, str | None]] = set()
    if _random(case):
        for choice in mesh_of(case).choices:
            _tally_random(samples, choice)
    else:
        for turns in _turns_of(case):
            if _unfair(turns) or any(_unused_locals(part) for part in turns.parts):
                reported.add((turns.network, turns.service))
                continue
            for part in turns.parts:
                if any(low != high for low, high in part.counts.values()):
                    continue  # counts that are not certain are no sample
                samples.setdefault((turns.network, turns.service), []).append((turns.entry, {a: low for a, (low, _) in part.counts.items()}))
    alpha = case.settings.alpha
    said = False
    for (network, service), named in samples.items():
        counts = [list(sample.values()) for _, sample in named]
        result = pool(counts)
        if result.method == "none":
            continue
        said = True
        size, cells = max((sum(one), len(one)) for one in counts)
        least = detectable(size, cells, alpha)
        power = "" if least is None else f"; through one entry node ({size:,} connections, {cells} backends) {_power(least)} would show ({POWER:.0%})"
        kind = "kube-proxy chooses at random, so p is anywhere between 0 and 1" if _random(case) else "round robin is more even than chance: p near 1"
        figures = f"{result.size:,} connections, {result.method}, p = {result.p:.3g}, alpha = {alpha:g} ({kind})"
        if result.p >= alpha:
            yield passed(f"{_service(service)} in {network}: {figures}{power}", subject=_subject(network, service))
            continue
        totals: dict[Address, int] = {}
        for _, sample in named:
            for address, count in sample.items():
                totals[address] = totals.get(address, 0) + count
        most, fewest = max(totals, key=lambda one: totals[one]), min(totals, key=lambda one: totals[one])
        yield failed(
            f"{_service(service)} in {network}: the connections per backend are more uneven than chance allows: {figures}",
            subject=_subject(network, service),
            nodes=tuple(dict.fromkeys(entry for entry, _ in named)),
            rows=_rows(c for c in mesh_of(case).choices if c.network == network and c.backend in (most, fewest)),
            expected=f"p of at least {alpha:g}",
            seen=f"{totals[most]:,} to {most}, {totals[fewest]:,} to {fewest}",
            hint="Unequal weights, session affinity, a few long-lived clients, or a balancer that does not know all backends"
            + ("; connections made to a pod directly look the same and are counted too." if _random(case) else "."),
            command=_ipvs(case, network, named[0][0]),
        )
    if not said:
        if reported:
            yield passed("nothing to add: VX-MESH-BALANCE and VX-MESH-UNUSED report these connections exactly")
        else:
            yield unknown("too few balanced connections to more than one visible backend were captured", needs="more connections while capturing")


def _tally_random(samples: dict[tuple[str, str | None], list[tuple[str, dict[Address, int]]]], choice: Choice) -> None:
    """Count a choice of a random balancer among all the service's backends on other nodes."""
    if choice.service is None or not choice.sure or not choice.settled:
        return
    named = samples.setdefault((choice.network, choice.service), [])
    sample = next((counts for entry, counts in named if entry == choice.entry), None)
    if sample is None:
        backends = choice.clusters[0].backends(choice.service, choice.network).endpoints
        sample = {endpoint.ip: 0 for endpoint in backends if endpoint.node != choice.entry}
        named.append((choice.entry, sample))
    if choice.backend in sample:
        sample[choice.backend] += 1


def _power(least: float) -> str:
    return f"a backend {least:.0%} off its share" if least < 1 else f"only a backend {1 + least:.1f} times over its share"


# -- backends --------------------------------------------------------------------------------------------------------------


@check(
    "VX-MESH-DEAD",
    "every backend that is chosen answers",
    family=FAMILY,
    about="A connection handed to a backend is accepted; a backend that is silent or refuses costs its share of all connections.",
    source="RFC 9293 section 3.5; Docker adds a task to the balancers as soon as it runs, or is healthy where it has a health check",
    problem="Every n-th request hangs or is refused: dead backends kept in the balancer, moby#25325, #32079, #36878.",
    invariants=("B14",),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=ANY_BALANCER,
)
def dead(case: Case) -> Iterator[Finding]:
    by_backend: dict[tuple[str, Address], list[Choice]] = {}
    for choice in mesh_of(case).choices:
        if not _removed(case, choice):
            by_backend.setdefault((choice.network, choice.backend), []).append(choice)
    groups: dict[tuple[str, str | None, str, tuple[str, ...]], list[_Trouble]] = {}
    lost = 0
    for (network, address), choices in by_backend.items():
        trouble, underway = _trouble(case, network, address, choices)
        lost += underway
        if trouble is not None:
            groups.setdefault((network, trouble.home, trouble.kind, trouble.entries), []).append(trouble)
    for troubles in groups.values():
        yield _dead(case, troubles)
    if not groups:
        decided = sum(choice.answered or choice.failed for choices in by_backend.values() for choice in choices if choice.protocol == "tcp")
        if decided:
            more = f"; {lost:,} were lost before they reached their node, which VX-LOSS judges" if lost else ""
            yield passed(f"all {len(by_backend)} backends answer ({decided:,} connections){more}")
        else:
            yield _nothing_balanced(case)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A backend that does not answer."""

    network: str
    address: Address
    home: str | None
    kind: str  # "silent", "refuses", "some", "one way" or "late"
    entries: tuple[str, ...]  # through which it fails, when not through all
    failed: tuple[Choice, ...]
    decided: int
    apart: bool  # all that failed came after all that was answered, or before
    certain: bool  # seen at the backend's own node
    service: str | None


def _trouble(case: Case, network: str, address: Address, choices: Sequence[Choice]) -> tuple[_Trouble | None, int]:
    """What is wrong with a backend, and how many connections never reached its node."""
    choices = [choice for choice in choices if choice.protocol == "tcp"]
    home = next((choice.home for choice in choices if choice.home is not None), None)
    near = frozenset(position for position in range(len(case.vantages)) if _is_near(case, position, home, address))
    whole = spans(case)
    bad: list[Choice] = []
    good: list[Choice] = []
    underway = 0
    for choice in choices:
        covered = any(first <= choice.time_ns <= last for capture in near for first, last in [whole.get(capture, (1, 0))])
        if choice.answered:
            good.append(choice)
        elif choice.failed and choice.settled:
            if covered and not choice.captures & near:
                underway += 1
            else:
                bad.append(choice)
    if not bad:
        return None, underway
    certain = all(choice.captures & near for choice in bad)
    through = tuple(dict.fromkeys(choice.entry for choice in bad))
    fine = {choice.entry for choice in good}
    kind = "refuses" if all(choice.refused for choice in bad) else "silent"
    entries: tuple[str, ...] = ()
    apart = False
    if good:
        begins, ends = min(choice.time_ns for choice in bad), max(choice.time_ns for choice in bad)
        apart = ends < min(choice.time_ns for choice in good) or begins > max(choice.time_ns for choice in good)
        if not fine & set(through):
            kind, entries = "one way", through
        elif ends < min(choice.time_ns for choice in good):
            kind = "late"
        elif not (begins > max(choice.time_ns for choice in good) and len(bad) > 1):
            if len(bad) < 3 or len(bad) < 0.02 * len(choices):
                return None, underway  # a lost frame or a client that gave up
            kind = "some"
    service = next((choice.service for choice in choices if choice.service is not None), None)
    return _Trouble(network, address, home, kind, entries, tuple(bad), len(bad) + len(good), apart, certain, service), underway


EVERY_BACKEND = (
    " As it is so with several backends of one node, the node itself may drop what arrives: a firewall on the VXLAN port, a missing device."
)


def _others(trouble: _Trouble) -> str:
    return "those of other nodes, at other times" if trouble.apart else "those of other nodes"


def _is_near(case: Case, position: int, home: str | None, address: Address) -> bool:
    """Whether a capture was taken where the backend lives."""
    vantage = case.vantages[position]
    if vantage.kind == "node":
        return vantage.node is not None and vantage.node == home
    return vantage.endpoint is not None and address in vantage.endpoint.addresses


def _dead(case: Case, troubles: Sequence[_Trouble]) -> Finding:
    first = troubles[0]
    names = _listed([_called(case, one.network, one.address) for one in troubles])
    bad = sum(len(one.failed) for one in troubles)
    decided = sum(one.decided for one in troubles)
    where = f" on {first.home}" if first.home is not None else ""
    since = first.kind in ("silent", "refuses") and decided > bad
    words = {
        "silent": f"{names}{where} {'no longer answers' if since else 'never answers'}",
        "refuses": f"{names}{where} {'began to refuse' if since else 'refuses'} connections",
        "some": f"{names}{where} leaves some connections without an answer",
        "one way": f"{names}{where} does not answer connections that come through {_listed(first.entries)}, while it answers {_others(first)}",
        "late": f"{names}{where} did not answer at first: it was chosen before it was ready",
    }[first.kind]
    hints = {
        "silent": "The process hangs, its port is blocked in the container, or the task is gone while the balancers still have it."
        + ("" if first.certain else " The way to it is as likely: there is no capture at its node that shows the connection arrive."),
        "refuses": "Nothing listens on the target port in the container (or only on 127.0.0.1): wrong --publish target, or a program that ended.",
        "some": "The program is overloaded (a full accept queue drops SYNs), or frames are lost on the way.",
        "one way": "Its answers do not find the way back to this entry node, or the connections do not arrive: look at the segments and at loss.",
        "late": "A service without a health check gets connections as soon as its container runs.",
    }
    nodes = (first.home, *first.entries) if first.certain else (*first.entries, first.home)
    severity = {"some": Severity.WARNING, "one way": None if first.certain else Severity.WARNING, "late": Severity.INFO}.get(first.kind)
    return failed(
        f"{words}: {bad:,} of {_many(decided, 'connection')} failed",
        subject=f"{_listed([str(one.address) for one in troubles])} in {first.network}",
        nodes=tuple(dict.fromkeys(node for node in nodes if node is not None)),
        rows=_rows(choice for one in troubles for choice in one.failed),
        expected="a SYN-ACK to every SYN",
        seen="a reset" if first.kind == "refuses" else f"{bad:,} SYNs without an answer",
        hint=hints[first.kind] + (EVERY_BACKEND if len(troubles) > 1 and first.kind == "silent" else ""),
        command=f"on {first.home or 'its node'}: docker ps --filter name={_task_name(case, first)}; "
        "nsenter -t $(docker inspect -f '{{.State.Pid}}' CONTAINER) -n ss -ltn",
        severity=severity,
    )


@check(
    "VX-MESH-REMOVED",
    "no balancer sends connections to a task that is gone",
    family=FAMILY,
    about="When a task stops, every node takes it out of its balancer before the task ends; a connection sent to its address afterwards is lost.",
    source="libnetwork service_common.go (rmServiceBinding), moby agent.go (disableServiceInNetworkDB)",
    problem="Connections to removed tasks hang until they time out: moby#36878, #32079, #25325; expire_nodest_conn not set.",
    invariants=("B14", "D5"),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=ANY_BALANCER,
)
def removed(case: Case) -> Iterator[Finding]:
    mesh = mesh_of(case)
    gone: dict[tuple[str, str, Address], list[Choice]] = {}
    unlisted: dict[tuple[str, Address], list[Choice]] = {}
    for choice in mesh.choices:
        if _removed(case, choice):
            gone.setdefault((choice.network, choice.entry, choice.backend), []).append(choice)
        elif not choice.listed:
            unlisted.setdefault((choice.network, choice.backend), []).append(choice)
    by_address: dict[tuple[str, Address], list[str]] = {}
    for network, entry, address in gone:
        by_address.setdefault((network, address), []).append(entry)
    for (network, address), entries in by_address.items():
        choices = [choice for entry in entries for choice in gone[network, entry, address]]
        answered = sum(choice.answered for choice in choices)
        before = any(endpoint.ip == address for cluster in case.clusters for endpoint in cluster.endpoints_of_network.get(network, ()))
        name = _called(case, network, address) if before else f"{address}, which is no endpoint of {network}"
        others = len({choice.entry for choice in mesh.choices if choice.network == network}) > len(entries)
        yield failed(
            f"{_listed(entries)} still {'sends' if len(entries) == 1 else 'send'} connections to {name}"
            + (", which the expectation has removed" if before else "")
            + f": {len(choices):,} of them, "
            + (f"{answered:,} answered" if answered else "none answered"),
            subject=f"{address} in {network}",
            nodes=tuple(dict.fromkeys((*entries, *(choice.home for choice in choices if choice.home is not None)))),
            rows=_rows(choices),
            expected=f"connections to {network}'s running tasks only",
            seen=f"{len(choices):,} to {address}",
            hint="The node"
            + ("" if len(entries) == 1 else "s")
            + " did not take the stopped task out of the balancer"
            + (": its gossip is behind the others'." if others else ": the removal was lost, or the task died without one."),
            command=_ipvs(case, network, entries[0], address),
        )
    if gone:
        return
    if not mesh.choices:
        yield _nothing_balanced(case)
        return
    if unlisted:
        addresses = _listed([str(address) for address in sorted({address for _, address in unlisted}, key=str)])
        answered = sum(choice.answered for choices in unlisted.values() for choice in choices)
        yield unknown(
            f"{_many(sum(map(len, unlisted.values())), 'connection')} went to {addresses}, which the expectation does not list as a running backend; "
            f"{answered:,} were answered",
            needs=INGRESS_NEEDED + ", from the time of the capture",
            subject=addresses,
        )
    else:
        yield passed(f"all {len(mesh.choices):,} balanced connections went to listed, running backends")


def _removed(case: Case, choice: Choice) -> bool:
    """Whether a connection went to an address that, as the expectation surely knows, is no running backend."""
    if not choice.settled or choice.service is None or choice.listed:
        return False
    cluster = choice.clusters[0]
    network = cluster.network_by_name.get(choice.network)
    if network is None or not (network.complete or network.tasks_complete or cluster.backends(choice.service, choice.network).complete):
        return False
    if choice.failed:
        return True
    # An answer proves that something lives there: then only an expectation that had it before, and dates its end, is surely right.
    position = case.timeline.position(choice.time_ns)
    earlier = case.timeline.clusters[:position]
    return any(endpoint.ip == choice.backend for old in earlier for endpoint in old.backends(choice.service, choice.network).endpoints) and not any(
        endpoint.ip == choice.backend for endpoint in cluster.endpoints_of_network.get(choice.network, ())
    )


# -- entry nodes -----------------------------------------------------------------------------------------------------------


@check(
    "VX-MESH-ENTRY",
    "every node takes in connections to the published ports",
    family=FAMILY,
    about="Any node accepts a published port and passes the connection on; one that is refused, swallowed or accepted in vain reached no backend.",
    source="libnetwork service_linux.go (programIngress): DNAT to ingress_sbox, fwmark, IPVS",
    problem="The published port works on some nodes only, or connections are refused at once: moby#25325, kernels without ip_vs, flushed iptables.",
    invariants=("B14",),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def entry(case: Case) -> Iterator[Finding]:
    mesh = mesh_of(case)
    elsewhere = {id(request) for _, request in _astray(case, mesh)}
    by_entry: dict[tuple[str, int], list[Request]] = {}
    for request in mesh.requests:
        if request.settled and id(request) not in elsewhere and not (request.failed and _without_backends(request)):
            by_entry.setdefault((request.node, request.port), []).append(request)
    bad = False
    lines = []
    for (node, port), requests in by_entry.items():
        requests = _at_best(requests)
        died = [request for request in requests if request.choice is None and (request.failed or request.hollow)]
        beyond = sum(request.choice is not None and request.failed for request in requests)
        if (
            died
            and (len(died) == len(requests) or (len(died) > 1 and len(died) >= 0.02 * len(requests)))
            and not _explained(case, mesh, node, requests, died)
        ):
            bad = True
            yield _refusal(case, mesh, node, port, requests, died)
            continue
        lines.append(f"{len(requests):,} to {node}:{port}" + (f" ({beyond:,} failed beyond the node)" if beyond else ""))
    if lines and not bad:
        yield passed(f"connections to published ports are taken in: {_listed(lines)}")
    elif not by_entry:
        if not mesh.ports:
            yield unknown("no published port is known", needs="`docker service inspect` of the published services")
        else:
            yield unknown("no connection to a published port was captured", needs=CLIENT_NEEDED + ", and clients that use it")


def _at_best(requests: Sequence[Request]) -> list[Request]:
    """Those that were captured at the node itself, where there are any: elsewhere they may have been lost on their way to it."""
    return [request for request in requests if request.at_node] or list(requests)


def _without_backends(request: Request) -> bool:
    """Whether the expectation surely has no running task behind the port: then it is right to refuse."""
    for cluster in request.clusters:
        ingress = cluster.ingress
        for service in request.services:
            backends = cluster.backends(service, ingress.name) if ingress is not None else None
            if backends is not None and not backends.endpoints and backends.complete:
                return True
    return False


def _explained(case: Case, mesh: Mesh, node: str, requests: Sequence[Request], died: Sequence[Request]) -> bool:
    """Whether a backend on the node itself, which other nodes find dead too, explains what died in it."""
    if len(died) == len(requests):
        return False
    services = {service for request in died for service in request.services}
    bad = {c.backend for c in mesh.choices if c.failed and c.home == node and c.entry != node and c.service in services}
    ingress = case.cluster.ingress
    backends = 0 if ingress is None else max((len(case.cluster.backends(service, ingress.name).endpoints) for service in services), default=0)
    return bool(bad) and backends > 0 and len(died) <= len(requests) * len(bad) / backends + len(bad)


WHY_IT_DIES = {
    "refused at once": "This looks like a mesh without a balancer: the node has no IPVS (kernel module ip_vs or xt_ipvs missing), or its table for "
    "this service is empty.",
    "left without an answer": "The mesh's rules are gone from the node (DOCKER-INGRESS), a firewall drops the port, or ingress_sbox is broken.",
    "accepted but never served": "The node's own placeholder socket accepted the connection: its DNAT rule (nat DOCKER-INGRESS) is gone.",
}


def _refusal(case: Case, mesh: Mesh, node: str, port: int, requests: Sequence[Request], died: Sequence[Request]) -> Finding:
    refused, hollow = sum(request.refused for request in died), sum(request.hollow for request in died)
    silent = len(died) - refused - hollow
    every = len(died) == len(requests)
    service = next((name for request in died for name in request.services), None)
    parts = [
        (refused, "refused at once"),
        (silent, "left without an answer"),
        (hollow, "accepted but never served"),
    ]
    how = _listed([f"{number:,} {words}" for number, words in parts if number])
    at_node = any(request.at_node for request in died)
    vni = _ingress_vni(case)
    inside = (
        f"no VXLAN SYN{f' on VNI {vni}' if vni is not None else ''} follows the client's"
        if at_node
        else "there is no capture at the node that shows what it did"
    )
    worst = max(parts)[1]
    hint = WHY_IT_DIES[worst]
    if not every:
        hint += " As only a part fails, a task on this node that does not answer is as likely."
    which = "every connection" if every else f"{len(died):,} of {_many(len(requests), 'connection')}"
    what = f"the published port {port}{f' of {service}' if service else ''}"
    return failed(
        f"{which} to {what} at {node} {'dies' if every else 'die'} in the node: {how}; {inside}",
        subject=f"{node}:{port}",
        nodes=(node,),
        rows=_all_rows(row for request in died for row in request.rows),
        expected="each connection passed on to a backend and answered",
        seen=how,
        hint=hint,
        command=_in_ingress(node, "ipvsadm -ln; iptables -t mangle -S") + "; iptables -t nat -S DOCKER-INGRESS; modprobe ip_vs",
    )


@check(
    "VX-MESH-SNAT",
    "backends see the entry node's load balancer as the source",
    family=FAMILY,
    about="The mesh replaces the client's address by that of the entry node's load-balancer endpoint, so that answers come back through it.",
    source="libnetwork service_linux.go: nat POSTROUTING -m ipvs --ipvs -j SNAT --to-source; moby#25526, #27143",
    problem="The client's address is lost behind the mesh (always); or it is not replaced, and every answer goes astray.",
    invariants=("B15",),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def source_nat(case: Case) -> Iterator[Finding]:
    odd: dict[tuple[str, Address], list[Connection]] = {}
    for connection in _untranslated(case):
        entry_node = case.node_name(connection.outer_src)
        odd.setdefault((entry_node, connection.client), []).append(connection)
    by_node: dict[str, list[Connection]] = {}
    for (node, _), connections in odd.items():
        by_node.setdefault(node, []).extend(connections)
    for node, connections in by_node.items():
        sources = sorted({str(connection.client) for connection in connections})
        dead_ends = sum(connection.syn_ack < 0 for connection in connections)
        yield failed(
            f"{node} passes connections into the mesh with the client's own address as source ({_listed(sources)}): {len(connections):,} of them, "
            f"{dead_ends:,} without an answer on the way they came",
            subject=f"{_listed(sources)} through {node}",
            nodes=(node,),
            rows=_all_rows(connection.first for connection in connections),
            expected="the load-balancer endpoint of the entry node as inner source",
            seen=_listed(sources),
            hint="The SNAT rule of the node's ingress sandbox is missing, or net.ipv4.vs.conntrack is 0 there: backends answer the client directly, "
            "around the balancer.",
            command=_in_ingress(node, "iptables -t nat -S POSTROUTING; sysctl net.ipv4.vs.conntrack"),
        )
    if by_node:
        return
    choices = [choice for choice in mesh_of(case).choices if choice.stated and _is_ingress(case, choice.network)]
    if choices:
        entries = sorted({f"{choice.source} of {choice.entry}" for choice in choices})
        yield passed(
            f"all {len(choices):,} connections of the mesh have a load balancer as source ({_listed(entries)}): tasks do not see the clients'"
        )
    elif any(cluster.ingress is not None for cluster in case.clusters):
        yield unknown("no connection of the mesh was captured on its way to a backend", needs="connections through a published port while capturing")
    else:
        yield unknown("the ingress network is not in the expectation", needs=INGRESS_NEEDED)


def _untranslated(case: Case) -> list[Connection]:
    """Connections inside the ingress network whose source is no address of it, in one capture each."""
    found: dict[tuple[object, ...], Connection] = {}
    meshes = {vni for cluster in case.clusters for network in cluster.networks if network.ingress for vni in network.vnis}
    for connection in case.connections:
        if connection.vni not in meshes or not connection.begun:
            continue
        clusters = case.acceptable(connection.first)
        network = case.network_of(clusters, connection.vni)
        if network is None or not network.ingress or not network.subnets or network.holds(connection.client) or not network.holds(connection.server):
            continue
        key = (connection.client, connection.client_port, connection.server, connection.server_port, int(case.table["tcp_seq"][connection.syn]))
        found.setdefault(key, connection)
    return list(found.values())


@check(
    "VX-MESH-BYPASS",
    "answers come back through the node that was asked",
    family=FAMILY,
    about="The answer to a client's SYN comes from the address it was sent to; the client drops one from another node or from the task itself.",
    source="IPVS masquerading mode: both directions pass the director; moby#31785",
    problem="Connections to the published port hang although backends answer: asymmetric routing, rp_filter, missing SNAT.",
    invariants=("B16", "C18"),
    severity=Severity.ERROR,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def bypass(case: Case) -> Iterator[Finding]:
    mesh = mesh_of(case)
    already = {(connection.client, connection.client_port) for connection in _untranslated(case)}
    astray: dict[tuple[str, str], list[tuple[Connection, Request]]] = {}
    for connection, request in _astray(case, mesh):
        if (request.client, request.client_port) not in already:
            astray.setdefault((request.node, _home(case, connection)), []).append((connection, request))
    for (node, home), pairs in astray.items():
        servers = sorted({str(connection.server) for connection, _ in pairs})
        yield failed(
            f"clients that asked {node} are answered by {_listed(servers)} directly, around the balancer: {len(pairs):,} connections",
            subject=f"{_listed(servers)} for {node}",
            nodes=(home, node),
            rows=_all_rows(row for connection, request in pairs for row in (request.rows[0], connection.syn_ack)),
            expected=f"a SYN-ACK from {pairs[0][1].address}",
            seen=f"a SYN-ACK from {servers[0]}",
            hint="The backend sees the client's address and has its own way to it: the SNAT is missing, or the balancer routes directly.",
            command=_in_ingress(node, "iptables -t nat -S POSTROUTING; ipvsadm -ln"),
        )
    if astray:
        return
    answered = sum(request.answered for request in mesh.requests)
    if answered:
        yield passed(f"{answered:,} connections to published ports were answered by the node that was asked")
    else:
        yield unknown("no answered connection to a published port was captured", needs=CLIENT_NEEDED)


def _astray(case: Case, mesh: Mesh) -> list[tuple[Connection, Request]]:
    """Requests that were answered by somebody else than the address asked, each with that answer."""
    waiting = {(request.client, request.client_port, request.sequence): request for request in mesh.requests if not request.answered}
    found: dict[int, tuple[Connection, Request]] = {}
    for connection in case.connections if waiting else ():
        if not connection.begun and connection.syn_ack >= 0:
            sequence = (int(case.table["tcp_ack"][connection.syn_ack]) - 1) & 0xFFFFFFFF
            request = waiting.get((connection.client, connection.client_port, sequence))
            if request is not None and connection.server != request.address:
                found.setdefault(id(request), (connection, request))
    return list(found.values())


def _home(case: Case, connection: Connection) -> str:
    """The node that an answer came from."""
    for cluster in reversed(case.clusters):
        for endpoint in cluster.endpoints:
            if connection.server in endpoint.addresses and endpoint.node is not None and endpoint.kind is not EndpointKind.GATEWAY:
                return endpoint.node
    return case.node_name(connection.outer_src_back or connection.server)


@check(
    "VX-MESH-IDLE",
    "connections through a virtual address survive their silences",
    family=FAMILY,
    about="IPVS forgets a connection that is silent for 900 seconds; what is sent on it afterwards is refused or lost.",
    source="Linux ip_vs_proto_tcp.c (established 15 min); moby#31208, #37466, #37822, docker/docs#5519",
    problem="Database and other long-lived connections break after a quarter of an hour of silence.",
    invariants=("B14",),
    severity=Severity.WARNING,
    columns=COLUMNS,
    profiles=DOCKER_ONLY,
)
def idle(case: Case) -> Iterator[Finding]:
    mesh = mesh_of(case)
    balanced = {(c.source, c.source_port, c.backend, c.port) for c in mesh.choices}
    vips = {vip.address for cluster in case.clusters for service in cluster.services for vip in service.vips}
    asked = {(r.client, r.client_port, r.address, r.port) for r in mesh.requests}
    nodes = {address for cluster in case.clusters for address in cluster.vteps}
    broken: dict[tuple[Address, int, Address, int], tuple[Connection, str]] = {}
    quiet = 0
    longest = 0
    for connection in case.connections:
        key = (connection.client, connection.client_port, connection.server, connection.server_port)
        published = connection.vni < 0 and connection.server in nodes and connection.server_port in mesh.ports
        if key not in balanced and key not in asked and connection.server not in vips and not published:
            continue
        longest = max(longest, connection.longest_idle_ns)
        if connection.longest_idle_ns < IPVS_TCP_NS:
            continue
        quiet += 1
        outcome = _after_silence(case, connection)
        if outcome is not None:
            broken.setdefault(key, (connection, outcome))
    for (client, client_port, server, port), (connection, outcome) in broken.items():
        seconds = connection.longest_idle_ns // 1_000_000_000
        where = (
            [case.node_name(server)] if server in nodes else [e.node for c in case.clusters for e in c.endpoints if client in e.addresses and e.node]
        )
        yield failed(
            f"the connection from {client}:{client_port} to {server}:{port} was silent for {seconds:,} s; what was sent then {outcome}",
            subject=f"{client}:{client_port} to {server}:{port}",
            nodes=tuple(dict.fromkeys(where)),
            rows=tuple(row for row in (connection.after_idle, connection.rst, connection.last) if row >= 0),
            expected="keepalives more often than every 900 s, or an answer",
            seen=f"{seconds:,} s of silence, then {'a reset' if 'reset' in outcome else 'no answer'}",
            hint="IPVS drops connections that are silent for 900 s. Let clients send keepalives (net.ipv4.tcp_keepalive_time below 900), or use "
            "endpoint mode dnsrr.",
            command="docker service update --sysctl-add net.ipv4.tcp_keepalive_time=600 CLIENT_SERVICE",
        )
    if not broken:
        if quiet:
            yield passed(f"{quiet:,} connections went on after more than 900 s of silence")
        elif longest or mesh.choices or mesh.requests:
            yield passed(f"no balanced connection was silent for 900 s (the longest silence: {longest / 1e9:,.0f} s)")
        else:
            yield unknown("no connection through a virtual address or a published port was captured", needs="such connections while capturing")


def _after_silence(case: Case, connection: Connection) -> str | None:
    """How a connection went on after its longest silence: None when it was answered, or when the capture ends too soon to tell."""
    table = case.table
    first, last = (int(position) for position in np.searchsorted(table["capture"], [connection.capture, connection.capture + 1]))
    ports = {connection.client_port, connection.server_port}
    sport, dport = table["inner_sport"][first:last], table["inner_dport"][first:last]
    mine = np.isin(sport, list(ports)) & np.isin(dport, list(ports)) & table.have("tcp")[first:last]
    rows = [
        row
        for row in (np.flatnonzero(mine) + first).tolist()
        if row >= connection.after_idle
        and {case.address("inner_ip_src", row), case.address("inner_ip_dst", row)} == {connection.client, connection.server}
    ]
    if not rows:
        return None
    reset = [row for row in rows if int(table["tcp_flags"][row]) & 4]
    speaker = case.address("inner_ip_src", rows[0])
    if reset and (len(rows) < 4 or rows.index(reset[0]) < 4):
        return "was answered by a reset" if case.address("inner_ip_src", reset[0]) != speaker else None
    if any(case.address("inner_ip_src", row) != speaker for row in rows):
        return None
    ended = int(table["ts"][last - 1])
    return "got no answer" if len(rows) > 1 or ended - int(table["ts"][rows[0]]) >= DECIDED_NS else None


# -- words -----------------------------------------------------------------------------------------------------------------


def _service(service: str | None) -> str:
    return "a service" if service is None else f"service {service}"


def _subject(network: str, service: str | None, entry: str | None = None) -> str:
    return f"{service or '?'} in {network}" + (f" through {entry}" if entry is not None else "")


def _at(turns: Turns, address: Address) -> str:
    """A backend by name, address and node."""
    for cluster in turns.clusters:
        for endpoint in cluster.endpoints_of_network.get(turns.network, ()):
            if address in endpoint.addresses:
                return _short(endpoint.name, address, turns.homes.get(address))
    return _short("", address, turns.homes.get(address))


def _called(case: Case, network: str, address: Address) -> str:
    for cluster in reversed(case.clusters):
        for endpoint in cluster.endpoints_of_network.get(network, ()):
            if address in endpoint.addresses:
                return _short(endpoint.name, address, None)
    return str(address)


def _task_name(case: Case, trouble: _Trouble) -> str:
    for cluster in reversed(case.clusters):
        for endpoint in cluster.endpoints_of_network.get(trouble.network, ()):
            if trouble.address in endpoint.addresses and endpoint.name:
                return endpoint.name
    return trouble.service or "TASK"


def _short(name: str, address: Address, node: str | None) -> str:
    """`web.3 (10.0.0.8) on vm2`: a task's name without its id of 25 characters."""
    parts = name.split(".")
    plain = ".".join(parts[:-1]) if len(parts) > 2 and len(parts[-1]) == 25 else name
    called = f"{plain} ({address})" if plain else str(address)
    return called + (f" on {node}" if node is not None else "")


def _in_words(turns: Turns) -> str:
    """How often each backend was chosen: `10.0.0.6 17, 10.0.0.8 16, and 33 to 2 on vm1 itself`."""
    lines = []
    for part in turns.parts:
        counts = sorted(part.counts.items(), key=lambda item: (item[0].version, int(item[0])))
        if len(counts) > 8:
            words = f"{_range(part.counts.values())} to each of {len(counts)}"
        else:
            words = ", ".join(f"{address} {low if low == high else f'{low} to {high}'}" for address, (low, high) in counts)
        if part.local and part.local_sum is not None:
            words += f", and {_sum(part)} to {part.local} on {turns.entry} itself"
        elif part.local:
            words += f" (and {part.local} on {turns.entry} itself, not visible)"
        lines.append(words)
    unused = [str(address) for address in turns.never]
    return " then ".join(lines) + (f", none to {_listed(unused)}" if unused else "")


def _sum(part: Stretch) -> str:
    if part.local_sum is None:
        return "?"
    low, high = part.local_sum
    return f"{low:,}" if high == low else f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def _range(counts: Iterable[tuple[int, int]], times: int = 1) -> str:
    lows = [low for low, _ in counts] or [0]
    low, high = min(lows) * times, max(lows) * times
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _listed(words: Sequence[str], most: int = 6) -> str:
    """`a, b and c`, the rest counted."""
    if len(words) > most:
        return ", ".join(words[:most]) + f" and {len(words) - most} more"
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + (words[-1] if words else "")


def _rows(choices: Iterable[Choice]) -> tuple[int, ...]:
    return _all_rows(row for choice in choices for row in choice.rows[:1])


def _all_rows(rows: Iterable[int]) -> tuple[int, ...]:
    out: list[int] = []
    for row in rows:
        if row >= 0 and row not in out:
            out.append(row)
        if len(out) == EVIDENCE:
            break
    return tuple(out)


def _is_ingress(case: Case, network: str) -> bool:
    return any(known.ingress for cluster in case.clusters for known in cluster.networks if known.name == network)


def _ingress_vni(case: Case) -> int | None:
    return next((vni for cluster in reversed(case.clusters) if cluster.ingress is not None for vni in cluster.ingress.vnis), None)


def _ipvs(case: Case, network: str, entry: str, *addresses: Address) -> str:
    """The command that shows a node's balancer for a network."""
    sandbox = "ingress_sbox" if _is_ingress(case, network) else f"lb_{(_network_id(case.cluster, network) or 'NETWORK_ID')[:9]}"
    wanted = "" if not addresses else " | grep -E '" + "|".join(str(address).replace(".", r"\.") for address in addresses[:4]) + "'"
    return f"on {entry}: nsenter --net=/var/run/docker/netns/{sandbox} ipvsadm -ln{wanted}"


def _in_ingress(node: str, commands: str) -> str:
    return f"on {node}: nsenter --net=/var/run/docker/netns/ingress_sbox sh -c '{commands}'"


def _network_id(cluster: Cluster, network: str) -> str | None:
    known = cluster.network_by_name.get(network)
    return None if known is None else known.id
