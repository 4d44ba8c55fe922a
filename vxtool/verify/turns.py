"""Taking turns: how often each backend was chosen by one node's balancer, in stretches during which the backends did not change.

Knows that IPVS rr goes round its table, so that in any unbroken stretch the counts of any two backends differ by at most 1, whoever the clients are;
refuses to know how a deviation is reported. A backend on the entry node itself is not visible on the underlay: such local ones are known only as a
sum, the client connections that went nowhere else, unless a capture inside the backend's or the balancer's sandbox is given.

Counts are intervals: the first number is what was surely chosen in the stretch, the second adds what may have been (a client that used its port again
while IPVS remembered it, a conversation older than the capture, frames at the edges of captures whose clocks may differ).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from vxtool.model import Address, Cluster
from vxtool.verify.case import Case
from vxtool.verify.choices import Choice, Mesh, Request, spans

__all__ = ["Stretch", "Turns", "even", "stretches"]

EDGE_NS = 1_000_000_000
"""How far the clocks of two nodes may be apart before counts from both are doubted."""

CYCLES = 3
"""A backend that is missing for more rounds than this at the beginning or end of a stretch had not joined yet, or had left."""

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time without change, and how often each visible backend was chosen in it."""

    counts: Mapping[Address, Interval]
    local: int = 0  # backends on the entry node that could not be told apart
    local_sum: tuple[int, int | None] | None = None  # chosen together (at least, at most; None: no limit known); None: the clients were not captured

    @property
    def remote_even(self) -> bool:
        return even(self.counts.values())

    @property
    def all_even(self) -> bool:
        return even(self.counts.values(), self.local, self.local_sum)


@dataclass(frozen=True, slots=True)
class Turns:
    """The choices of one entry node for one service, while the expectation stated one set of backends."""

    network: str
    service: str | None
    entry: str
    ports: tuple[int, ...]
    choices: tuple[Choice, ...]
    parts: tuple[Stretch, ...]
    homes: Mapping[Address, str | None]
    never: tuple[Address, ...]  # running, visible and not chosen once
    doubted: tuple[Address, ...]  # the same, but perhaps not running: listed without its task's state, or in a list of another time
    joined: Mapping[Address, int]  # listed, but first chosen only at this time (ns)
    left: Mapping[Address, int]  # listed, but not chosen any more after this time
    complete: bool  # the expectation lists all backends
    stated: bool  # the balancer's endpoint is in the expectation
    doubtful: bool  # some choices may be older than the capture, or no choices of their own
    span: tuple[int, int]
    captures: frozenset[int]
    clusters: tuple[Cluster, ...] = field(repr=False, default=())

    @property
    def sure(self) -> int:
        """Connections counted."""
        return sum(low for part in self.parts for low, _ in part.counts.values())

    @property
    def most(self) -> int:
        """How often the busiest backend was chosen: with two rounds or more, everybody had a turn."""
        return max((low for part in self.parts for low, _ in part.counts.values()), default=0)

    @property
    def even(self) -> bool:
        return all(part.all_even for part in self.parts)


def even(counts: Iterable[Interval], local: int = 0, local_sum: tuple[int, int | None] | None = None) -> bool:
    """Whether some number of rounds t explains all counts: each t or t + 1, and `local` unseen backends together between local*t and local*(t+1)."""
    known = list(counts)
    if known:
        least, most = max(low for low, _ in known) - 1, min(high for _, high in known)
        if least > most:
            return False
    if not local or local_sum is None:
        return True
    low, high = local_sum
    if not known:
        return True
    return any(low <= local * (rounds + 1) and (high is None or local * rounds <= high) for rounds in range(max(0, least), most + 1))


def stretches(case: Case, mesh: Mesh) -> list[Turns]:
    """The turns of every entry node and service, in every group of captures that ran at the same time."""
    whole = spans(case)
    out: list[Turns] = []
    for group in _overlapping(whole):
        by_balancer: dict[tuple[str, str, str | None, int], list[Choice]] = {}
        for choice in mesh.choices:
            if choice.captures & group:
                # One mark for all published ports of a service, so one pointer; without a service the port stands for it.
                key = (choice.network, choice.entry, choice.service, -1 if choice.service is not None else choice.port)
                by_balancer.setdefault(key, []).append(choice)
        for (network, entry, service, _), choices in by_balancer.items():
            sight = _Sight.of(case, group, network, entry, whole)
            choices.sort(key=lambda choice, sight=sight: sight.when(choice))  # type: ignore[misc]
            eras = _eras(case, network, service, choices)
            for era in eras:
                turns = _turns(mesh, sight, network, entry, service, era, whole=len(eras) == 1)
                # While a change settles old and new may mix: then what came after it decides.
                firm = [choice for choice in era if choice.settled]
                if not turns.even and 0 < len(firm) < len(era):
                    turns = _turns(mesh, sight, network, entry, service, firm, whole=False)
                out.append(turns)
    return out


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a group of captures can see of one balancer."""

    captures: frozenset[int]
    own: frozenset[int]  # taken at the entry node
    inside: frozenset[int]  # taken in the balancer's own sandbox
    nodes: Mapping[str, frozenset[int]]  # captures at other nodes
    tasks: Mapping[Address, int]  # captures inside the sandboxes of backends
    span: tuple[int, int]  # in which all that counts was captured
    sharp: bool  # one clock and one place: no doubt at the edges
    whole: Mapping[int, tuple[int, int]] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, case: Case, group: frozenset[int], network: str, entry: str, whole: Mapping[int, tuple[int, int]]) -> _Sight:
        own, inside = set(), set()
        nodes: dict[str, set[int]] = {}
        tasks: dict[Address, int] = {}
        for capture in group:
            vantage = case.vantages[capture]
            if vantage.kind == "node" and vantage.node == entry:
                own.add(capture)
            elif vantage.kind == "node" and vantage.node is not None:
                nodes.setdefault(vantage.node, set()).add(capture)
            elif vantage.kind == "endpoint" and vantage.endpoint is not None:
                tasks.update((address, capture) for address in _task_addresses(case, capture, network))
        for cluster in case.clusters:
            balancer = cluster.load_balancers.get((network, entry))
            if balancer is not None and balancer.ip in tasks:
                inside.add(tasks[balancer.ip])
        base = inside or own or {*(capture for captures in nodes.values() for capture in captures), *tasks.values()} or group
        first, last = [whole[capture][0] for capture in base], [whole[capture][1] for capture in base]
        joint = bool(inside or own)  # several captures at one place add up, captures at several places share only what they have in common
        span = (min(first), max(last)) if joint else (max(first), min(last))
        kept = {node: frozenset(captures) for node, captures in nodes.items()}
        return cls(group, frozenset(own), frozenset(inside), kept, tasks, span, joint or len(base) == 1, whole)

    def when(self, choice: Choice) -> int:
        """Its time by the entry node's clock where that is known."""
        return next((time for capture, time in choice.times_ns if capture in self.own), choice.time_ns)

    def sees(self, address: Address, home: str | None, entry: str) -> bool:
        """Whether every choice of this backend must show."""
        if self.inside or address in self.tasks:
            return True
        if home is None or home == entry:
            return False
        return bool(self.own) or home in self.nodes


def _task_addresses(case: Case, capture: int, network: str) -> set[Address]:
    """The addresses, in one network, of the sandbox in which a capture was taken."""
    endpoint = case.vantages[capture].endpoint
    if endpoint is None:
        return set()
    return {
        other.ip
        for cluster in case.clusters
        for other in cluster.endpoints_of_network.get(network, ())
        if other == endpoint
        or (endpoint.task is not None and other.task == endpoint.task)
        or (other.kind is endpoint.kind and other.name == endpoint.name)
        if other.node == endpoint.node
    }


def _overlapping(whole: Mapping[int, tuple[int, int]]) -> list[frozenset[int]]:
    """Captures in groups that ran at the same time: between groups anything may have been missed."""
    groups: list[set[int]] = []
    end = 0
    for capture in sorted(whole, key=lambda one: whole[one]):
        if groups and whole[capture][0] <= end:
            groups[-1].add(capture)
            end = max(end, whole[capture][1])
        else:
            groups.append({capture})
            end = whole[capture][1]
    return [frozenset(group) for group in groups]


def _eras(case: Case, network: str, service: str | None, choices: Sequence[Choice]) -> list[list[Choice]]:
    """Choices apart wherever the expectation changes the service's backends in the network."""
    if service is None or len(case.clusters) == 1:
        return [list(choices)]
    sets = [frozenset(endpoint.ip for endpoint in cluster.backends(service, network).endpoints) for cluster in case.clusters]
    eras: list[list[Choice]] = [[]]
    current: int | None = None
    for choice in choices:
        position = case.timeline.position(choice.time_ns)
        if current is not None and any(sets[between] != sets[current] for between in range(current, position + 1)):
            eras.append([])
        current = position
        eras[-1].append(choice)
    return [era for era in eras if era]


def _turns(mesh: Mesh, sight: _Sight, network: str, entry: str, service: str | None, choices: Sequence[Choice], *, whole: bool) -> Turns:
    """`whole`: nothing limits the time but the captures themselves."""
    cluster = choices[-1].clusters[0]
    listed = cluster.backends(service, network) if service is not None else None
    homes: dict[Address, str | None] = {choice.backend: choice.home for choice in choices}
    expected = {endpoint.ip: endpoint.node for endpoint in listed.endpoints} if listed is not None else {}
    homes.update(expected)
    visible = [address for address in expected if sight.sees(address, expected[address], entry)]
    cut = _cuts(sight, choices, set(expected))
    requests = _requests(mesh, sight, network, entry, cluster, service) if listed is not None and listed.complete else None
    local = [address for address, home in expected.items() if home == entry and not sight.sees(address, home, entry)]
    running = _running(mesh, cluster, service, network)
    strangers = [c for c in mesh.of_service.get((network, service), ()) if c.backend not in expected and c.captures & sight.captures]
    # How many backends share the entry node's own part is known only when the list is right: it is not when others are chosen, anywhere.
    if strangers or not running.issuperset(local):
        requests = None
    # Others that answer are running tasks: then the list is of another time, and who is missing from the balancer may be gone.
    if any(choice.answered for choice in strangers):
        running = set()
    parts = []
    for start, stop in cut.pieces:
        # Any stretch of the balancer's sequence will do: from one choice to another where a change limits it, else all that was captured.
        begun = sight.when(choices[start]) if start or not whole else sight.span[0]
        ended = sight.when(choices[stop - 1]) if stop < len(choices) or not whole else sight.span[1]
        asked = None if requests is None else [request for request in requests if begun <= request.time_ns <= ended]
        parts.append(_part(mesh, sight, _members(cut, choices, visible, start, stop), choices[start:stop], len(local), asked))
    seen = {choice.backend for choice in choices}
    return Turns(
        network=network,
        service=service,
        entry=entry,
        ports=tuple(sorted({choice.port for choice in choices})),
        choices=tuple(choices),
        parts=tuple(parts),
        homes=homes,
        never=tuple(address for address in visible if address not in seen and address in running),
        doubted=tuple(address for address in visible if address not in seen and address not in running),
        joined={address: time for address, time in cut.joined.items() if address in expected},
        left={address: time for address, time in cut.left.items() if address in expected},
        complete=listed is not None and listed.complete,
        stated=all(choice.stated for choice in choices),
        doubtful=any(not choice.sure for choice in choices) or not sight.sharp,
        span=sight.span,
        captures=sight.captures,
        clusters=choices[-1].clusters,
    )


def _running(mesh: Mesh, cluster: Cluster, service: str | None, network: str) -> set[Address]:
    """The backends that surely serve: inspect lists a task until it is gone, so that one being stopped looks like any other.

    Those serve whose task is told to run, or of which the service wants exactly as many, or to which somebody's connections are answered; and those
    of an expectation that knows no tasks, which somebody wrote down.
    """
    if service is None:
        return set()
    listed = cluster.backends(service, network).endpoints
    known = cluster.service_by_name.get(service)
    counted = known is not None and known.replicas == len(listed)
    told = {endpoint.ip for endpoint in listed if counted or endpoint.task is None or _state_told(cluster, endpoint.task)}
    return told | {choice.backend for choice in mesh.of_service.get((network, service), ()) if choice.answered}


def _state_told(cluster: Cluster, task: str) -> bool:
    known = cluster.task_by_id.get(task)
    return known is not None and (known.desired is not None or known.observed is not None)


@dataclass(frozen=True, slots=True)
class _Cut:
    pieces: list[tuple[int, int]]  # of positions in the choices, the second excluded
    joined: dict[Address, int]  # time of the first choice
    left: dict[Address, int]  # time of the last choice
    first: dict[Address, int]  # position of the first choice of those that joined
    last: dict[Address, int]  # position of the last choice of those that left


def _cuts(sight: _Sight, choices: Sequence[Choice], expected: set[Address]) -> _Cut:
    """Where backends visibly join or leave: those that are chosen only after, or only before, several rounds in which they should have been.

    Listed backends exist together. When one is chosen only after another one was chosen last, that is no change of the backends but a balancer that
    does not take turns (persistence, source hashing), and nothing is cut.
    """
    first: dict[Address, int] = {}
    last: dict[Address, int] = {}
    for position, choice in enumerate(choices):
        first.setdefault(choice.backend, position)
        last[choice.backend] = position
    patience = CYCLES * len(first)
    joined = {address: position for address, position in first.items() if position > patience}
    left = {address: position for address, position in last.items() if len(choices) - 1 - position > patience}
    late = [position for address, position in joined.items() if address in expected]
    early = [position for address, position in left.items() if address in expected]
    if late and early and max(late) > min(early):
        joined = {address: position for address, position in joined.items() if address not in expected}
        left = {address: position for address, position in left.items() if address not in expected}
    edges = sorted({0, len(choices), *joined.values(), *(position + 1 for position in left.values())})
    return _Cut(
        [(start, stop) for start, stop in pairwise(edges)],
        {address: sight.when(choices[position]) for address, position in joined.items()},
        {address: sight.when(choices[position]) for address, position in left.items()},
        joined,
        left,
    )


def _members(cut: _Cut, choices: Sequence[Choice], visible: Sequence[Address], start: int, stop: int) -> set[Address]:
    """The backends that took turns in a piece: those chosen in it, and visible ones chosen before and after it."""
    ever = {choice.backend for choice in choices}
    members = ever & ({choice.backend for choice in choices[start:stop]} | set(visible))
    return {address for address in members if cut.first.get(address, 0) < stop and cut.last.get(address, stop) >= start}


def _part(mesh: Mesh, sight: _Sight, members: set[Address], choices: Sequence[Choice], local: int, asked: Sequence[Request] | None) -> Stretch:
    counts: dict[Address, Interval] = dict.fromkeys(members, (0, 0))
    low, high = sight.span
    for choice in choices:
        time = sight.when(choice)
        inner = sight.sharp or low + EDGE_NS <= time <= high - EDGE_NS
        outer = low - EDGE_NS <= time <= high + EDGE_NS
        sure, most = counts[choice.backend]
        counts[choice.backend] = (sure + (choice.sure and inner), most + outer)
    for address in () if sight.inside else members & set(sight.tasks):
        # What a capture inside a task did not run for, it may have missed.
        begun, ended = sight.whole[sight.tasks[address]]
        missed = sum(request.choice is None and not begun <= request.time_ns <= ended for request in asked or ())
        counts[address] = (counts[address][0], counts[address][1] + missed)
    if not local or asked is None:
        return Stretch(counts, local)
    # What was not captured of the clients (another interface, a client on the node itself) leaves the sum of the local ones open upwards.
    unasked = any(id(choice) not in mesh.of_request and choice.sure for choice in choices if choice.captures & sight.own)
    passed_on = sum(request.choice is None and request.answered and request.sure for request in asked)
    most_local = sum(request.choice is None for request in asked)
    return Stretch(counts, local, (passed_on, None if unasked else most_local))


def _requests(mesh: Mesh, sight: _Sight, network: str, entry: str, cluster: Cluster, service: str | None) -> list[Request] | None:
    """The requests for the service's published ports that were captured at the entry node; None when there are none to go by."""
    mesh_network = cluster.network_by_name.get(network)
    if mesh_network is None or not mesh_network.ingress or service is None or not sight.own:
        return None
    return [request for request in mesh.of_node.get(entry, ()) if request.captures & sight.own and service in request.services] or None
