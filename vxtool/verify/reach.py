"""Reach: who asked whom, who was answered, and what the pattern of silence says about where packets die.

Knows requests and answers (echo, TCP handshakes) and where endpoints live; refuses to blame a path for what vxtool.verify.segments already
explains: an address at the wrong node, a wrong VNI, port or MAC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from vxtool.decode.columns import CHECKSUM_CLASSES
from vxtool.model import Address, Endpoint, EndpointKind
from vxtool.verify.case import TALK_COLUMNS, Case, Talk
from vxtool.verify.check import check
from vxtool.verify.connections import COLUMNS as CONNECTION_COLUMNS
from vxtool.verify.connections import Connection
from vxtool.verify.segments import duplicates
from vxtool.verify.verdicts import Finding, Severity, failed, passed, unknown

__all__: list[str] = []

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
BAD = CHECKSUM_CLASSES.index("bad")
RESERVED = 0xF7FFFFFF  # of the first word: what a plain receiver refuses to see
COLUMNS = (*TALK_COLUMNS, *CONNECTION_COLUMNS, "outer_checksum_class", "vxlan_word", "icmp_type", "icmp_id", "icmp_seq", "inner_ip_len")
SILENCE = 3
"""Requests that must go unanswered before silence is called silence."""
TAIL_NS = 1_000_000_000
"""A request this close to the end of its capture may still be answered."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request between two endpoints, whatever captures saw it."""

    vni: int
    src: Address
    dst: Address
    asker: Address | None  # VTEP it was sent from
    target: Address | None  # VTEP it was sent to
    frames: int  # retransmissions included
    answered: bool  # an answer is on the wire
    refused: bool  # the answer is a reset
    taken: bool | None  # whether the asker took the answer in; None: cannot be told
    rows: tuple[int, ...]
    captures: frozenset[int]
    first_ns: int
    last_ns: int
    size: int = 0
    port: int = 0  # TCP; 0: an echo


@dataclass(frozen=True)
class Matrix:
    """All requests of a case inside tunnels, and what they say together."""

    asks: tuple[Ask, ...]

    @cached_property
    def of_target(self) -> dict[Address, list[Ask]]:
        return _by(self.asks, lambda ask: ask.target)

    @cached_property
    def of_asker(self) -> dict[Address, list[Ask]]:
        return _by(self.asks, lambda ask: ask.asker)

    @cached_property
    def deaf(self) -> dict[Address, list[Ask]]:
        """Requests that were answered on the wire while the asker went on asking, by the asker's VTEP."""
        return _by((ask for ask in self.asks if ask.answered and ask.taken is False), lambda ask: ask.asker)


def _by(asks: Iterable[Ask], key: Callable[[Ask], Address | None]) -> dict[Address, list[Ask]]:
    found: dict[Address, list[Ask]] = defaultdict(list)
    for ask in asks:
        value = key(ask)
        if value is not None:
            found[value].append(ask)
    return found


def asked(asks: Iterable[Ask]) -> int:
    return sum(ask.frames for ask in asks)


def silent(asks: list[Ask]) -> bool:
    """Enough requests, and not one answer."""
    return asked(asks) >= SILENCE and not any(ask.answered for ask in asks)


def evidence(asks: Iterable[Ask]) -> tuple[int, ...]:
    by_turn = [ask.rows[turn] for turn in range(5) for ask in asks if len(ask.rows) > turn]
    return tuple(sorted(dict.fromkeys(by_turn[:5])))


# -- gathering -----------------------------------------------------------------------------------------------------------------


def handshakes(case: Case, tunnelled: bool) -> list[Ask]:
    """TCP connections that begin in a capture, each once, whatever captures saw it."""
    ends = case.capture_ends
    sequence = case.table["tcp_seq"]
    same: dict[tuple[object, ...], list[Connection]] = defaultdict(list)
    for one in case.connections:
        if one.begun and (one.vni >= 0) is tunnelled:
            place = () if tunnelled else (one.capture,)
            same[(one.vni, one.client, one.client_port, one.server, one.server_port, int(sequence[one.syn]), *place)].append(one)
    asks = []
    for views in same.values():
        answered = any(one.syn_ack >= 0 or one.rst_by_server for one in views)
        if not answered and all(int(case.table["ts"][one.last]) > ends[one.capture] - TAIL_NS and one.syns < SILENCE for one in views):
            continue
        first = min(views, key=lambda one: one.first_ns)
        taken: bool | None = True if any(one.to_server or one.to_client or one.fin for one in views) else None
        if taken is None and any(one.syn_ack >= 0 and one.syns >= 3 for one in views):
            taken = False
        asks.append(
            Ask(
                vni=first.vni,
                src=first.client,
                dst=first.server,
                asker=first.outer_src,
                target=first.outer_dst,
                frames=max(one.syns for one in views),
                answered=answered,
                refused=any(one.rst_by_server for one in views) and not any(one.syn_ack >= 0 for one in views),
                taken=taken,
                rows=tuple(row for one in views for row in one.rows[:2]),
                captures=frozenset(one.capture for one in views),
                first_ns=first.first_ns,
                last_ns=max(one.last_ns for one in views),
                port=first.server_port,
            )
        )
    return asks


def echoes(case: Case, tunnelled: bool) -> list[Ask]:
    """Echo requests, each once, whatever captures saw it."""
    table = case.table
    inside = (table["tunnel"] != 0) == tunnelled
    rows = np.flatnonzero(table.have("icmp_echo") & inside & (table["inner_frag"] != 2))
    if not len(rows):
        return []
    ends = case.capture_ends
    request = np.isin(table["icmp_type"], (8, 128))
    reply = np.isin(table["icmp_type"], (0, 129))
    vni = np.where(table["tunnel"] != 0, table["vni"].astype(np.int64), -1)
    place = table["capture"] if not tunnelled else np.zeros(len(table), np.uint16)
    source = [np.where(reply, table[b], table[a]) for a, b in _WAYS]
    target = [np.where(reply, table[a], table[b]) for a, b in _WAYS]
    groups = case.group(rows, vni, place, *source, *target, table["icmp_id"], table["icmp_seq"])
    asks = []
    for g in range(len(groups)):
        members = groups.members(g)
        asking, answering = members[request[members]], members[reply[members]]
        if not len(asking):
            continue
        row = int(asking[0])
        captures = frozenset(table["capture"][asking].tolist())
        last = int(table["ts"][asking].max())
        if not len(answering) and all(last > ends[capture] - TAIL_NS for capture in captures):
            continue
        src, dst = case.address("inner_ip_src", row), case.address("inner_ip_dst", row)
        if src is None or dst is None:
            continue
        per_capture = np.unique(table["capture"][asking], return_counts=True)[1]
        asks.append(
            Ask(
                vni=int(vni[row]),
                src=src,
                dst=dst,
                asker=case.address("outer_ip_src", row) if tunnelled else None,
                target=case.address("outer_ip_dst", row) if tunnelled else None,
                frames=int(per_capture.max()),
                answered=bool(len(answering)),
                refused=False,
                taken=None,
                rows=tuple(asking[:3].tolist()) + tuple(answering[:1].tolist()),
                captures=captures,
                first_ns=int(table["ts"][asking].min()),
                last_ns=last,
                size=int(table["inner_ip_len"][row]),
            )
        )
    return asks


_WAYS = (("inner_ip_src_hi", "inner_ip_dst_hi"), ("inner_ip_src_lo", "inner_ip_dst_lo"))


def _explained(case: Case) -> tuple[set[frozenset[Address]], set[tuple[int, Address]]]:
    """Pairs of inner addresses, and (VNI, tunnel end) pairs, whose silence has another name: a wrong VNI, port, source, destination, MAC or
    checksum, an address used twice, a flood."""
    pairs: set[frozenset[Address]] = set()
    ends: set[tuple[int, Address]] = set()
    twice = {address for _, address in duplicates(case)}
    table = case.table
    odd = (table["outer_checksum_class"] == BAD) | ((table["vxlan_word"] & RESERVED) != 0)
    bad = set(table["outer_ip_src_lo"][table.have("vxlan") & odd].tolist())
    for talk in case.tunnel_talks:
        if talk.ip_src is None or talk.ip_dst is None:
            continue
        network = case.network_of(talk.clusters, talk.vni)
        vteps = case.tunnel_ends(talk.clusters)
        strange = network is None or talk.dport != case.data_path_port or bool(vteps and not {talk.outer_src, talk.outer_dst} <= vteps)
        strange = strange or talk.ip_src in twice or talk.ip_dst in twice
        strange = strange or any(end is not None and int(case.stored(end)[1]) in bad for end in (talk.outer_src, talk.outer_dst))
        strange = strange or bool(network is not None and network.subnets and not (network.holds(talk.ip_src) and network.holds(talk.ip_dst)))
        strange = strange or (talk.eth_dst is not None and talk.eth_dst.group)
        strange = strange or _leaving(case, talk, talk.ip_dst) or _leaving(case, talk, talk.ip_src)
        for ip, mac, place in ((talk.ip_src, talk.eth_src, talk.outer_src), (talk.ip_dst, talk.eth_dst, talk.outer_dst)):
            for cluster in talk.clusters:
                known = cluster.endpoints_by_ip.get((talk.vni, ip), ())
                homes = {vtep for end in known if (vtep := cluster.vtep_of(end)) is not None}
                macs = {found for end in known if (found := cluster.mac_on_wire(end)) is not None}
                strange = strange or bool(homes and place not in homes) or bool(macs and mac is not None and mac not in macs)
        if strange:
            pairs.add(frozenset((talk.ip_src, talk.ip_dst)))
            homes_of = [net for cluster in talk.clusters for net in cluster.networks_holding(talk.ip_src)]
            if network is None or talk.dport != case.data_path_port:
                ends |= {(vni, talk.outer_src) for net in homes_of for vni in (*net.vnis, talk.vni) if talk.outer_src is not None}
    return pairs, ends


def _leaving(case: Case, talk: Talk, ip: Address) -> bool:
    """Whether a cluster in force then, or the one after it, knows all endpoints of the network and none with this address: it was leaving or gone."""
    for cluster in (*talk.clusters, *case.clusters[talk.moment + 1 : talk.moment + 2]):
        network = cluster.network_by_vni.get(talk.vni)
        if network is not None and cluster.knows_endpoints(network.name, None) and not cluster.endpoints_by_ip.get((talk.vni, ip)):
            return True
    return False


_MATRICES: WeakKeyDictionary[Case, Matrix] = WeakKeyDictionary()


def matrix(case: Case) -> Matrix:
    """The requests inside tunnels that no other check explains."""
    if case not in _MATRICES:
        _MATRICES[case] = _matrix(case)
    return _MATRICES[case]


def _matrix(case: Case) -> Matrix:
    pairs, ends = _explained(case)
    asks = [
        ask
        for ask in (*handshakes(case, True), *echoes(case, True))
        if frozenset((ask.src, ask.dst)) not in pairs and (ask.vni, ask.asker) not in ends and (ask.vni, ask.target) not in ends
    ]
    return Matrix(tuple(sorted(asks, key=lambda ask: ask.first_ns)))


def _endpoint(case: Case, ask_vni: int, ip: Address) -> Endpoint | None:
    ends = case.endpoints_at(reversed(case.clusters), ask_vni, ip)
    return ends[0] if ends else None


def _who(case: Case, vni: int, ip: Address) -> str:
    end = _endpoint(case, vni, ip)
    return f"{end.name} ({ip})" if end is not None and end.name else str(ip)


# -- one direction dead --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Dead:
    """Tunnel ends or paths on which nothing arrives."""

    nodes: dict[Address, list[Ask]]  # nothing sent to this node has an effect
    senders: dict[Address, list[Ask]]  # nothing this node sends has an effect
    paths: dict[tuple[Address, Address], list[Ask]]


def _dead(found: Matrix) -> _Dead:
    nodes: dict[Address, list[Ask]] = {}
    for address, asks in found.of_target.items():
        several = len({ask.dst for ask in asks}) > 1 or bool(found.deaf.get(address))
        if silent(asks) and several and not any(ask.taken for ask in found.of_asker.get(address, ())):
            nodes[address] = asks
    for address, asks in found.deaf.items():  # a node that only asks: its answers are on the wire, and it asks again
        mine = found.of_asker.get(address, [])
        if address not in nodes and asked(asks) >= SILENCE and not any(ask.taken for ask in mine) and not found.of_target.get(address):
            nodes[address] = asks
    senders: dict[Address, list[Ask]] = {}
    askers = {ask.asker for asks in nodes.values() for ask in asks}
    if len(nodes) > 1 and len(askers) == 1 and (lonely := next(iter(askers))) is not None:
        # Several nodes that answer nothing, and only one that asked them: it is the one that is cut off.
        senders[lonely] = [ask for asks in nodes.values() for ask in asks]
        nodes = {}
    for address, asks in found.of_asker.items():
        targets = {ask.target for ask in asks}
        if address in nodes or address in senders or targets & set(nodes) or len(targets) < 2 or not silent(asks):
            continue
        if all(
            any(other.answered for other in found.of_target.get(target, ()) if other.asker != address) for target in targets if target is not None
        ):
            senders[address] = asks
    paths: dict[tuple[Address, Address], list[Ask]] = {}
    by_path: dict[tuple[Address, Address], list[Ask]] = defaultdict(list)
    for ask in found.asks:
        if ask.asker is not None and ask.target is not None:
            by_path[ask.asker, ask.target].append(ask)
    for (source, target), asks in by_path.items():
        if {source, target} & set(nodes) or source in senders or not silent(asks):
            continue
        # A path, not an endpoint: more than one pair of endpoints, and no other proof that it works.
        if len({(ask.src, ask.dst) for ask in asks}) > 1 and len({ask.dst for ask in asks}) > 1 and len({ask.src for ask in asks}) > 1:
            paths[source, target] = asks
    return _Dead(nodes, senders, paths)


@check(
    "VX-ONEWAY",
    "what one node sends to another has an effect there",
    family="segments",
    about="Requests that leave and are never answered by anything on the other node mean that VXLAN is lost in that direction.",
    source="RFC 7348; docker swarm ports (4789/udp)",
    problem="UDP 4789 swallowed by hypervisors, firewalls, clouds: moby#33416, moby#44551, flannel#2388, cilium#21801",
    invariants=("B5",),
    severity=ERROR,
    columns=COLUMNS,
)
def one_way(case: Case) -> Iterator[Finding]:
    found = matrix(case)
    if not found.asks:
        yield unknown("no request (TCP handshake or echo) inside a tunnel", needs="a capture while endpoints of two nodes talk")
        return
    dead = _dead(found)
    port = case.data_path_port
    for address, asks in dead.nodes.items():
        node = case.node_name(address)
        own = [ask for ask in found.of_asker.get(address, ()) if ask.answered]
        sends = any(talk.outer_src == address for talk in case.tunnel_talks)
        where, hint = _where(case, address, asks)
        told = "" if sends else f", and {node} itself sends no VXLAN at all"
        yield failed(
            f"{node} answers none of {asked(asks):,} requests from {', '.join(case.nodes_of(*(ask.asker for ask in asks)))}{told}",
            subject=node,
            nodes=(node,),
            rows=evidence([*asks[:3], *own[:2]]),
            expected="answers from its endpoints",
            seen=where,
            hint=hint if sends else f"{hint} Nothing leaves {node} either: VXLAN is dropped on its way out of the node.",
            command=f"nft list ruleset; iptables -S INPUT; iptables -S OUTPUT  # on {node}: is udp dport {port} dropped?  tcpdump -ni any "
            f"'udp port {port}'",
        )
    for address, asks in dead.senders.items():
        node = case.node_name(address)
        targets = {ask.target for ask in asks}
        others = ", which answer others" if any(ask.answered and ask.target in targets for ask in found.asks) else ""
        yield failed(
            f"no node answers {node}: {asked(asks):,} requests to {len(targets)} nodes{others}",
            subject=node,
            nodes=(node,),
            rows=evidence(asks),
            expected="answers",
            seen="none",
            hint=f"What {node} sends is lost after its interface, or the answers to it are (UDP port {port} blocked on its uplink).",
            command=f"tcpdump -ni <uplink> 'udp port {port}'  # at {node} and at the next hop",
        )
    for (source, target), asks in dead.paths.items():
        where, hint = _where(case, target, asks)
        yield failed(
            f"nothing {case.node_name(source)} asks of {case.node_name(target)} is answered ({asked(asks):,} requests); other nodes are",
            subject=f"{source} -> {target}",
            # What reaches the target's interface dies in the target.
            nodes=case.nodes_of(target) if "reach " in where else case.nodes_of(source, target),
            rows=evidence(asks),
            expected="answers",
            seen=where,
            hint=hint,
            command=f"tcpdump -ni <interface> 'udp port {port} and host {source}'  # on {case.node_name(target)}",
        )
    if not (dead.nodes or dead.senders or dead.paths):
        answered = sum(ask.answered for ask in found.asks)
        yield passed(f"{answered:,} of {len(found.asks):,} requests answered, no direction between two nodes is dead")


def _where(case: Case, address: Address, asks: list[Ask]) -> tuple[str, str]:
    """Where the requests are last seen, and what that means."""
    there = [position for position, vantage in enumerate(case.vantages) if vantage.kind == "node" and vantage.vtep == address]
    port = case.data_path_port
    if not there:
        return (
            "requests without answers",
            f"VXLAN to it is lost on the way or dropped by it; a capture on {case.node_name(address)} would tell which (UDP port {port}).",
        )
    if any(set(there) & ask.captures for ask in asks):
        return (
            f"requests that reach {case.node_name(address)}'s interface, and no answer that leaves it",
            f"They arrive and are not taken in, or the answers are dropped on the way out: a firewall on UDP port {port} behind the capture "
            "point, or a "
            "VXLAN device that is missing or has another VNI or port.",
        )
    return (
        f"requests that never reach {case.node_name(address)}'s interface",
        f"They are lost on the way: UDP port {port} is blocked by a switch, hypervisor or cloud between the nodes (gossip on 7946 passes). "
        "`docker swarm init --data-path-port` moves it.",
    )


# -- one endpoint --------------------------------------------------------------------------------------------------------------


@check(
    "VX-SILENT",
    "every endpoint that is asked answers, and every one that asks is answered",
    family="segments",
    about="One endpoint that one node never answers, while it answers others, has no forwarding or neighbour entry there; nothing of it is "
    "on the wire.",
    source="libnetwork drivers/overlay/peerdb.go; Linux bridge fdb",
    problem="an FDB entry that lost its destination, 30-second hangs to one task: moby#52661, moby#32195, libnetwork#1952",
    invariants=("B7", "C16"),
    severity=ERROR,
    columns=COLUMNS,
)
def silent_endpoints(case: Case) -> Iterator[Finding]:
    found = matrix(case)
    dead = _dead(found)
    rest = [
        ask for ask in found.asks if not {ask.asker, ask.target} & (set(dead.nodes) | set(dead.senders)) and (ask.asker, ask.target) not in dead.paths
    ]
    reported: set[tuple[Address, Address]] = set()
    findings = 0
    for finding, pairs in (*_missing_entries(case, rest), *_quiet_endpoints(case, rest), *_quiet_ports(case, rest), *_hung(case)):
        if pairs & reported:
            continue
        reported |= pairs
        findings += 1
        yield finding
    for finding, pair in _never_left(case):
        if pair not in reported:
            reported.add(pair)
            findings += 1
            yield finding
    if not findings:
        yield (
            passed(f"{len(rest):,} requests between endpoints, none of them into silence")
            if rest
            else unknown("no request (TCP handshake or echo) inside a tunnel", needs="a capture while endpoints of two nodes talk")
        )


def _missing_entries(case: Case, asks: list[Ask]) -> Iterator[tuple[Finding, set[tuple[Address, Address]]]]:
    """An endpoint that gets no answer from a node which answers others, from endpoints that answer others."""
    by_asker: dict[tuple[int, Address, Address], list[Ask]] = defaultdict(list)
    answers_others: dict[tuple[int, Address], set[Address]] = defaultdict(set)  # (vni, endpoint) -> askers it answers
    answered_by: dict[tuple[int, Address], set[Address]] = defaultdict(set)  # (vni, endpoint) -> nodes that answer it
    for ask in asks:
        if ask.target is not None:
            by_asker[ask.vni, ask.src, ask.target].append(ask)
        if ask.answered:
            answers_others[ask.vni, ask.dst].add(ask.src)
            if ask.target is not None:
                answered_by[ask.vni, ask.src].add(ask.target)
    spoken = _spoken(case)
    without_gossip = _without_gossip(case)
    for (vni, src, target), mine in by_asker.items():
        if not silent(mine):
            continue
        # Endpoints that speak to others on the wire are alive even if nobody asked them.
        if not any(answers_others[vni, ask.dst] - {src} or spoken[vni, ask.dst] - {src} for ask in mine):
            continue
        end = _endpoint(case, vni, src)
        node, who = case.node_name(target), _who(case, vni, src)
        network = case.network_of(case.clusters, vni)
        netns = network.id[:10] if network is not None and network.id else "<network id>"
        lost = (end.node,) if end is not None and end.node is not None and end.node in without_gossip - {node} else ()
        mac = end.mac if end is not None and end.mac is not None else "<its MAC>"
        yield (
            failed(
                f"{node} never answers {who}: {asked(mine):,} requests to {len({ask.dst for ask in mine})} endpoints there, which answer others",
                subject=who,
                nodes=(*lost, node),
                rows=evidence(mine),
                expected="answers on the wire",
                seen="none",
                hint=_UNHEARD.format(node=lost[0])
                if lost
                else f"{node} has no forwarding or neighbour entry for {who}, or one without destination: its answers never leave the node.",
                command=f"nsenter --net=/var/run/docker/netns/1-{netns} sh -c 'bridge fdb show dev vxlan0 | grep {mac}; ip neigh show "
                f"{src}'  # on {node}",
            ),
            {(src, ask.dst) for ask in mine} | {(ask.dst, src) for ask in mine},
        )


def _spoken(case: Case) -> dict[tuple[int, Address], set[Address]]:
    """(VNI, inner address) -> to whom it speaks in tunnels."""
    found: dict[tuple[int, Address], set[Address]] = defaultdict(set)
    for talk in case.tunnel_talks:
        if talk.ip_src is not None and talk.ip_dst is not None:
            found[talk.vni, talk.ip_src].add(talk.ip_dst)
    return found


def _quiet_endpoints(case: Case, asks: list[Ask]) -> Iterator[tuple[Finding, set[tuple[Address, Address]]]]:
    """An endpoint that answers nobody although its node is reached."""
    ingress = {vni for cluster in case.clusters if cluster.ingress is not None for vni in cluster.ingress.vnis}
    without_gossip = _without_gossip(case)
    by_endpoint: dict[tuple[int, Address], list[Ask]] = defaultdict(list)
    for ask in asks:
        by_endpoint[ask.vni, ask.dst].append(ask)
    for (vni, dst), mine in by_endpoint.items():
        end = _endpoint(case, vni, dst)
        if vni in ingress or not silent(mine) or (end is not None and end.kind is EndpointKind.LOAD_BALANCER):
            continue  # backends of the mesh are vxtool.verify.mesh's to report
        who = _who(case, vni, dst)
        nodes = case.nodes_of(*(ask.target for ask in mine))
        lost = tuple(name for name in case.nodes_of(*(ask.asker for ask in mine)) if name in without_gossip)
        later = max(ask.last_ns for ask in mine) - min(ask.first_ns for ask in mine)
        yield (
            failed(
                f"{who} on {', '.join(nodes)} answers none of {asked(mine):,} requests from {len({ask.src for ask in mine})} endpoints "
                f"within {later / 1e9:.0f} s",
                subject=who,
                nodes=(*lost, *nodes),
                rows=evidence(mine),
                expected="answers",
                seen="none",
                hint=_UNHEARD.format(node=lost[0])
                if lost
                else "The task is paused, hangs or is gone, a firewall in its sandbox drops the requests, or its node has no entry for "
                "those who ask.",
                command=f"docker ps --filter status=paused; docker inspect {end.name if end is not None else dst}  # on {', '.join(nodes)}",
                invariants=("B7", "B14"),
            ),
            {(ask.src, dst) for ask in mine} | {(dst, ask.src) for ask in mine},
        )


def _quiet_ports(case: Case, asks: list[Ask]) -> Iterator[tuple[Finding, set[tuple[Address, Address]]]]:
    """A port that stops answering SYNs, of an endpoint that is alive otherwise."""
    ingress = {vni for cluster in case.clusters if cluster.ingress is not None for vni in cluster.ingress.vnis}
    by_port: dict[tuple[int, Address, int], list[Ask]] = defaultdict(list)
    alive = {(ask.vni, ask.dst) for ask in asks if ask.answered}
    for ask in asks:
        if ask.port and ask.vni not in ingress:
            by_port[ask.vni, ask.dst, ask.port].append(ask)
    for (vni, dst, port), mine in by_port.items():
        mine.sort(key=lambda ask: ask.first_ns)
        last = max((i for i, ask in enumerate(mine) if ask.answered), default=-1)
        rest = mine[last + 1 :]
        if len(rest) < 2 or asked(rest) < 2 * SILENCE or (vni, dst) not in alive:
            continue
        who, nodes = _who(case, vni, dst), case.nodes_of(*(ask.target for ask in rest))
        spell = max(ask.last_ns for ask in rest) - rest[0].first_ns
        yield (
            failed(
                f"{who} on {', '.join(nodes)} is alive, but answers none of {asked(rest):,} SYNs to port {port} within {spell / 1e9:.0f} s",
                subject=f"{who}:{port}",
                nodes=nodes,
                rows=evidence(rest),
                expected="a SYN-ACK",
                seen="none",
                hint="The task is paused or hangs with a full accept queue, or a firewall in its sandbox drops the port.",
                command=f"docker ps --filter status=paused; docker exec {who.split(' ', 1)[0]} ss -ltn  # on {', '.join(nodes)}: Recv-Q",
                invariants=("B14", "B2"),
            ),
            {(ask.src, dst) for ask in rest},
        )


def _hung(case: Case) -> Iterator[tuple[Finding, set[tuple[Address, Address]]]]:
    """A server that takes requests and never says a word, where it used to, or where the other tasks of its service do."""
    by_server: dict[tuple[int, Address, int], list[Connection]] = defaultdict(list)
    for one in case.connections:
        if one.vni >= 0 and one.begun and one.syn_ack >= 0 and one.to_server:
            by_server[one.vni, one.server, one.server_port].append(one)
    talkative: set[tuple[int, str | None, int]] = set()
    for (vni, server, port), views in by_server.items():
        end = _endpoint(case, vni, server)
        if end is not None and end.service is not None and any(one.to_client for one in views):
            talkative.add((vni, end.service, port))
    for (vni, server, port), views in by_server.items():
        end = _endpoint(case, vni, server)
        mute = [one for one in views if not one.to_client and one.last_ns - one.first_ns >= 1_500_000_000]
        spoke = max((one.first_ns for one in views if one.to_client), default=None)
        late = [one for one in mute if spoke is None or one.first_ns > spoke]
        distinct = {(one.client, one.client_port) for one in late}
        if len(distinct) < 3 or (spoke is None and (vni, end.service if end is not None else None, port) not in talkative):
            continue
        who, nodes = _who(case, vni, server), case.nodes_of(*(one.outer_dst for one in late))
        yield (
            failed(
                f"{who} on {', '.join(nodes)} accepts {len(distinct):,} connections to port {port} and never answers a request",
                subject=f"{who}:{port}",
                nodes=nodes,
                rows=tuple(row for one in late for row in (one.syn, one.last))[:5],
                expected="an answer" + (", as before" if spoke is not None else ", as its fellow tasks give"),
                seen="requests acknowledged by the kernel, no data back",
                hint="The task is paused or its program hangs: the kernel still accepts connections for it.",
                command=f"docker ps --filter status=paused; docker top {who.split(' ', 1)[0]}  # on {', '.join(nodes)}",
                invariants=("B14",),
            ),
            {(one.client, server) for one in late},
        )


def _never_left(case: Case) -> Iterator[tuple[Finding, tuple[Address, Address]]]:
    """Requests seen inside a sandbox that never appear on its node's underlay."""
    sandboxes = {position: vantage for position, vantage in enumerate(case.vantages) if vantage.kind == "endpoint"}
    underlay = {vantage.node for vantage in case.vantages if vantage.kind == "node"}
    groups: dict[tuple[int, Address, Address], list[Ask]] = defaultdict(list)
    for ask in (*handshakes(case, False), *echoes(case, False)):
        for capture in ask.captures & set(sandboxes):
            groups[capture, ask.src, ask.dst].append(ask)
    without_gossip = _without_gossip(case)
    by_address: dict[Address, list[Endpoint]] = defaultdict(list)
    for cluster in case.clusters:
        for end in cluster.endpoints:
            for address in end.addresses:
                by_address[address].append(end)
    for (capture, src, dst), asks in groups.items():
        vantage = sandboxes[capture]
        ends, own = by_address.get(dst, []), by_address.get(src, [])
        if not ends or not own or ends[0].node in (None, vantage.node) or own[0].node != vantage.node or vantage.node not in underlay:
            continue
        waiting = _unanswered_run(asks)
        if waiting < SILENCE or ends[0].kind is EndpointKind.LOAD_BALANCER:
            continue
        first = min(ask.first_ns for ask in asks if not ask.answered)
        last = max(ask.last_ns for ask in asks if not ask.answered)
        if not _gap(case, src, dst, first, last):
            continue
        lost = [ask for ask in asks if not ask.answered]
        unheard = tuple(end.node for end in ends[:1] if end.node is not None and end.node in without_gossip)
        who = f"{ends[0].name} ({dst})"
        encrypted = any(net.encrypted for cluster in case.clusters for net in cluster.networks if net.name == ends[0].network)
        yield (
            failed(
                f"{vantage.node} does not send {asked(lost):,} requests of {own[0].name} ({src}) to {who} onto the wire",
                subject=who,
                nodes=tuple(name for name in (*unheard, vantage.node) if name is not None),
                rows=evidence(lost),
                expected=f"VXLAN to {ends[0].node}",
                seen="requests in the sandbox, nothing on the underlay",
                hint=f"{vantage.node} encrypts this network, and no ESP leaves it: the kernel lacks ESP, or has no state for this peer."
                if encrypted
                else _UNHEARD.format(node=unheard[0])
                if unheard
                else f"{vantage.node} has no forwarding or neighbour entry for {dst}, or one without destination.",
                command=f"nsenter --net=/var/run/docker/netns/1-<network id> sh -c 'bridge fdb show dev vxlan0 | grep {ends[0].mac}; ip "
                f"neigh show {dst}'"
                f"  # on {vantage.node}",
                invariants=("B17", "B7") if encrypted else ("B7",),
            ),
            (src, dst),
        )


def _unanswered_run(asks: list[Ask]) -> int:
    """The longest run of requests without an answer, in time."""
    longest = run = 0
    for ask in sorted(asks, key=lambda ask: ask.first_ns):
        run = 0 if ask.answered else run + ask.frames
        longest = max(longest, run)
    return longest


def _gap(case: Case, src: Address, dst: Address, first: int, last: int) -> bool:
    """Whether no frame from one to the other is on the wire in a stretch of time."""
    table = case.table
    mine = (table["tunnel"] != 0) & case.has_address("inner_ip_src", src) & case.has_address("inner_ip_dst", dst)
    slack = 50_000_000
    return not bool((mine & (table["ts"] >= first - slack) & (table["ts"] <= last + slack)).any())


# -- refusals and slow starts --------------------------------------------------------------------------------------------------


@check(
    "VX-REFUSED",
    "no endpoint refuses connections",
    family="segments",
    about="A reset in answer to a SYN comes from a living sandbox in which nobody listens on that port.",
    source="RFC 9293 section 3.5.2",
    problem="a crashed program in a running task, a wrong target port",
    invariants=("B14",),
    severity=WARNING,
    columns=COLUMNS,
)
def refused(case: Case) -> Iterator[Finding]:
    ingress = {vni for cluster in case.clusters if cluster.ingress is not None for vni in cluster.ingress.vnis}
    asks = [ask for ask in handshakes(case, True) if ask.vni not in ingress]
    by_server: dict[tuple[int, Address], list[Ask]] = defaultdict(list)
    for ask in asks:
        by_server[ask.vni, ask.dst].append(ask)
    findings = 0
    for (vni, dst), mine in by_server.items():
        no = [ask for ask in mine if ask.refused]
        if len(no) < 2 or any(ask.answered and not ask.refused and ask.first_ns > no[0].first_ns for ask in mine):
            continue
        findings += 1
        spell = no[-1].first_ns - no[0].first_ns
        who, nodes = _who(case, vni, dst), case.nodes_of(*(ask.target for ask in no))
        yield failed(
            f"{who} on {', '.join(nodes)} refuses {len(no):,} connections within {spell / 1e9:.0f} s",
            subject=who,
            nodes=nodes,
            rows=evidence(no),
            expected="a SYN-ACK",
            seen="RST",
            hint="Nothing listens on that port in the task: the program has ended or listens elsewhere (a task that is being stopped does "
            "this for a moment).",
            command=f"docker ps; docker logs {who.split(' ', 1)[0]}  # on {', '.join(nodes)}",
            severity=WARNING if len(no) >= 5 or (len(no) >= 3 and spell >= 3 * 10**9) else INFO,
        )
    if not findings:
        yield (
            passed(f"{len(asks):,} connections between endpoints, none refused for good")
            if asks
            else unknown("no connection begins inside a tunnel", needs="a capture while endpoints of two nodes open connections")
        )


@check(
    "VX-RETRY",
    "connections open without waiting",
    family="segments",
    about="SYNs that are sent again at 1, 3, 7, 15, 31 seconds before one is answered show that the first packets of a flow are lost.",
    source="RFC 6298 section 2; Linux tcp_syn_retries",
    problem="63-second delays: projectcalico/calico#3145",
    invariants=("B2",),
    severity=WARNING,
    columns=COLUMNS,
)
def slow_start(case: Case) -> Iterator[Finding]:
    slow: dict[tuple[Address | None, Address | None], list[tuple[int, Connection]]] = defaultdict(list)
    count = 0
    times = case.table["ts"]
    for one in case.connections:
        if one.vni < 0 or not one.begun or one.syn_ack < 0:
            continue
        count += 1
        wait = int(times[one.syn_ack]) - int(times[one.syn])
        if wait > 3 * 10**9 and one.syns > 1:
            slow[one.outer_src, one.outer_dst].append((wait, one))
    for (source, target), items in slow.items():
        longest = max(wait for wait, _ in items)
        yield failed(
            f"{len(items):,} connections from {case.node_name(source)} to {case.node_name(target)} opened only after repeated SYNs, the "
            f"slowest after {longest / 1e9:.0f} s",
            subject=f"{source} -> {target}",
            nodes=case.nodes_of(target, source),
            rows=tuple(row for _, one in items for row in (one.syn, one.syn_ack))[:5],
            expected="an answer to the first SYN",
            seen=f"{max(one.syns for _, one in items)} SYNs",
            hint="First packets of a flow are lost: checksum offload of first packets, connection tracking races, or entries that are "
            "programmed late.",
            command="ethtool -K <interface> tx-checksum-ip-generic off; conntrack -S  # insert_failed",
        )
    if not slow:
        yield (
            passed(f"{count:,} connections opened without a wait")
            if count
            else unknown("no connection begins inside a tunnel", needs="a capture while endpoints of two nodes open connections")
        )


# -- control traffic -----------------------------------------------------------------------------------------------------------


@check(
    "VX-GOSSIP",
    "nodes hear each other's gossip",
    family="segments",
    about="Endpoints and names spread by gossip on port 7946 (TCP and UDP); a node that does not hear it neither learns peers nor names.",
    source="libnetwork networkdb, memberlist; docker swarm ports (2377, 7946)",
    problem="7946 blocked: peers not learned, names missing on one node: moby#30972, moby#28564, libnetwork#962",
    invariants=("B18",),
    severity=ERROR,
    columns=(*COLUMNS, "outer_sport"),
    profiles={"rfc7348": None, "flannel": None, "calico": None, "evpn": None},
)
def gossip(case: Case) -> Iterator[Finding]:
    nodes = {address for cluster in case.clusters for address in cluster.node_by_address}
    talks = [talk for talk in case.talks if talk.control and talk.ip_src in nodes and talk.ip_dst in nodes]
    if not talks:
        yield unknown("no control traffic between nodes", needs="a capture of a node's underlay interface with ports 7946 and 2377 in it")
        return
    deaf = _unanswered_calls(case)
    for (address, port), lost in deaf.items():
        node = case.node_name(address)
        yield failed(
            f"{node} does not answer on TCP {port}: {asked(lost):,} SYNs from {', '.join(case.nodes_of(*(ask.src for ask in lost)))}",
            subject=f"{address}:{port}",
            nodes=(node,),
            rows=evidence(lost),
            expected="gossip (7946) and management (2377) open between nodes",
            seen="refused" if any(ask.refused for ask in lost) else "no answer",
            hint=f"A firewall blocks port {port} at {node}, or its engine is down: it will not learn new endpoints and names, nor others its own.",
            command=f"nc -vz {address} {port}; nft list ruleset  # on {node}",
        )
    if not deaf:
        yield passed(
            f"{sum(talk.frames for talk in talks):,} frames of control traffic among {len({talk.ip_src for talk in talks})} nodes, every "
            "call answered"
        )


CONTROL_PORTS = (7946, 2377)  # gossip, management


def _unanswered_calls(case: Case) -> dict[tuple[Address, int], list[Ask]]:
    """(node, port) -> the calls that it never answered, or no longer."""
    nodes = {address for cluster in case.clusters for address in cluster.node_by_address}
    by_target: dict[tuple[Address, int], list[Ask]] = defaultdict(list)
    for ask in handshakes(case, False):
        if ask.port in CONTROL_PORTS and ask.dst in nodes and ask.src in nodes:
            by_target[ask.dst, ask.port].append(ask)
    found: dict[tuple[Address, int], list[Ask]] = {}
    for target, asks in by_target.items():
        lost = [ask for ask in asks if not ask.answered or ask.refused]
        if asked(lost) >= SILENCE and not any(ask.answered and not ask.refused and ask.first_ns > lost[0].first_ns for ask in asks):
            found[target] = lost
    return found


def _without_gossip(case: Case) -> set[str]:
    """The nodes that VX-GOSSIP blames. The others declare them dead, and take away the entries of their endpoints."""
    return {case.node_name(address) for address, port in _unanswered_calls(case) if port == 7946}


_UNHEARD = "{node} does not answer gossip (VX-GOSSIP): the others declared it dead and took away the entries of its endpoints."
