"""Segments: who speaks on which VNI, from where, to where, and whether that is where the cluster says they live.

Knows talks and the Cluster; refuses to know connections and time-outs (vxtool.verify.reach does). The checks divide the work so that one fault has
one name: an address at two nodes at once is a duplicate and nothing else; a source at the wrong node is a source fault; a destination at the wrong
node is a forwarding fault of the sender.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address
from weakref import WeakKeyDictionary

import numpy as np

from vxtool.decode.columns import HAVE
from vxtool.model import Address, Cluster, Endpoint, Forwarding, Mac, Network, Orchestrator, mac_from_ipv4
from vxtool.verify.case import EVIDENCE, TALK_COLUMNS, Case, Talk, v4
from vxtool.verify.check import check
from vxtool.verify.verdicts import Finding, Severity, failed, passed, unknown

__all__ = ["duplicates"]

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
ARP = 0x0806
INGRESS_VNI = 4096

_DOCKER_ONLY = {"rfc7348": None, "flannel": None, "calico": None, "evpn": None}
_FDB = "nsenter --net=/var/run/docker/netns/1-{network} bridge fdb show dev vxlan0 | grep -i {mac}"
_NEIGHBOUR = "nsenter --net=/var/run/docker/netns/1-{network} ip neigh show dev vxlan0 | grep {ip}"


def rows_of(talks: Iterable[Talk]) -> tuple[int, ...]:
    """The first few frames of several talks, earliest first, every talk represented before any is shown twice."""
    by_turn = [row for turn in range(EVIDENCE) for talk in talks for row in talk.rows[turn : turn + 1]]
    return tuple(sorted(dict.fromkeys(by_turn[:EVIDENCE])))


def frames_of(talks: Iterable[Talk]) -> int:
    return sum(talk.frames for talk in talks)


def once(talks: Iterable[Talk]) -> int:
    """How many frames were sent, as far as any one capture shows: two captures on the way of a frame do not make it two."""
    seen: Counter[int] = Counter()
    for talk in talks:
        seen[talk.capture] += talk.frames
    return max(seen.values(), default=0)


def _netns(network: Network | None) -> str:
    """The ten characters by which Docker names the network's sandbox (libnetwork GenerateKey)."""
    return network.id[:10] if network is not None and network.id else "<network id>"


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.name} ({endpoint.ip})" if endpoint.name else str(endpoint.ip)


def _group_address(mac: Mac | None) -> bool:
    return mac is not None and mac.group


def _unicast(case: Case) -> Iterator[tuple[Talk, Network | None]]:
    """Talks of inner IP packets between hosts, in segments, with the network the VNI stands for."""
    for talk in case.tunnel_talks:
        if talk.ip_src is not None and talk.ip_dst is not None and not _group_address(talk.eth_dst) and not talk.ip_dst.is_multicast:
            yield talk, case.network_of(talk.clusters, talk.vni)


# -- networks and nodes ------------------------------------------------------------------------------------------------------


@check(
    "VX-VNI",
    "every VNI belongs to a network of the cluster",
    family="segments",
    about="A segment that the cluster does not know is somebody else's tunnel, or a node that numbers a network differently from the others.",
    source="RFC 7348 section 4; libnetwork drivers/overlay/ovmanager",
    problem="VNI collisions and mismatches between nodes: moby#22424, moby#49143",
    invariants=("D5", "B10", "C20"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def vni_known(case: Case) -> Iterator[Finding]:
    strange: dict[int, list[Talk]] = defaultdict(list)
    known: set[int] = set()
    for talk in case.tunnel_talks:
        if case.network_of(talk.clusters, talk.vni) is None:
            strange[talk.vni].append(talk)
        else:
            known.add(talk.vni)
    if not case.tunnel_talks:
        yield unknown("no frame in a tunnel", needs="a capture of an underlay interface while endpoints of two nodes talk")
        return
    numbered = any(network.vnis for cluster in case.clusters for network in cluster.networks)
    for vni, talks in sorted(strange.items()):
        finding = _strange_vni(case, vni, talks, numbered)
        if finding is not None:
            yield finding
    if not strange:
        names = ", ".join(f"{vni} ({found.name if (found := case.network_of(case.clusters, vni)) else '?'})" for vni in sorted(known))
        yield passed(f"{frames_of(case.tunnel_talks):,} frames, all on the VNIs of known networks: {names}")


def _strange_vni(case: Case, vni: int, talks: list[Talk], numbered: bool) -> Finding | None:
    subject, count = f"VNI {vni}", frames_of(talks)
    senders = case.nodes_of(*(talk.outer_src for talk in talks))
    if not numbered:
        return unknown(
            f"{count:,} frames on VNI {vni}, and the expectation gives no network a VNI",
            needs="`docker network inspect` of each network",
            subject=subject,
        )
    home = _home_network(case, talks)
    if home is not None:
        right = ", ".join(map(str, home.vnis))
        return failed(
            f"{', '.join(senders)} sends {count:,} frames with addresses of network {home.name} on VNI {vni} instead of {right}",
            subject=subject,
            nodes=senders,
            rows=rows_of(talks),
            expected=f"VNI {right} for network {home.name}",
            seen=f"VNI {vni} from {', '.join(senders)}",
            hint="The VXLAN device of this network on this node has another VNI than on the other nodes: nothing it sends is taken in, "
            "nothing reaches it.",
            command=f"nsenter --net=/var/run/docker/netns/1-{_netns(home)} ip -d link show vxlan0",
        )
    cluster = case.cluster
    between_members = all(talk.outer_src in one.vteps and talk.outer_dst in one.vteps for talk in talks for one in talk.clusters[:1])
    partial = cluster.orchestrator is Orchestrator.SWARM and (
        cluster.ingress is None or any(not network.vnis for network in cluster.networks if network.driver == "overlay")
    )
    # A network of the swarm that the documents leave out looks so: its VNI is of the range, its MACs follow from its addresses.
    docker = vni >= INGRESS_VNI and all(isinstance(talk.ip_src, IPv4Address) and talk.eth_src == mac_from_ipv4(talk.ip_src) for talk in talks)
    # Only `docker node inspect` tells of all nodes: Peers leave out one that has left the network (drained).
    members = between_members or not all(node.id and node.role and node.advertise is not None for node in cluster.nodes)
    if (between_members and partial) or (members and docker and cluster.orchestrator is Orchestrator.SWARM):
        what = "probably the ingress network, which" if vni == INGRESS_VNI else "a network that"
        return unknown(
            f"{count:,} frames on VNI {vni} between nodes of the cluster, {what} the expectation does not describe",
            needs="`docker network inspect` of every overlay network, ingress included",
            subject=subject,
        )
    # A stranger's overlay beside ours is odd, not broken; ours on a foreign VNI is.
    ours = any(one.networks_holding(ip) for talk in talks for one in talk.clusters for ip in (talk.ip_src, talk.ip_dst) if ip is not None)
    return failed(
        f"{count:,} frames on VNI {vni}, which is no network of this cluster, from {', '.join(senders)}",
        subject=subject,
        nodes=senders,
        rows=rows_of(talks),
        expected="VNI " + ", ".join(sorted({str(v) for one in case.clusters for network in one.networks for v in network.vnis}, key=int)),
        seen=f"VNI {vni}",
        hint="Another VXLAN user shares the wire or the node (another overlay, a leftover device), or a network was left out of the expectation.",
        command="docker network ls --filter driver=overlay; ip -d link show type vxlan",
        severity=None if ours else WARNING,
    )


def _home_network(case: Case, talks: list[Talk]) -> Network | None:
    """The one network of the cluster whose endpoints (by address and MAC) speak in these talks."""
    found: set[str] = set()
    for talk in talks:
        for cluster in talk.clusters:
            for network in cluster.networks:
                for vni in network.vnis:
                    ends = cluster.endpoints_by_ip.get((vni, talk.ip_src), ()) if talk.ip_src is not None else ()
                    if any(cluster.mac_on_wire(end) in (talk.eth_src, None) and cluster.vtep_of(end) in (talk.outer_src, None) for end in ends):
                        found.add(network.name)
    names = list(found)
    return (
        next((one.network_by_name[names[0]] for one in reversed(case.clusters) if names[0] in one.network_by_name), None) if len(names) == 1 else None
    )


@check(
    "VX-VTEP",
    "every tunnel end is a node of the cluster",
    family="segments",
    about="A frame from or to an address that is no node's is lost or foreign: receivers drop a frame whose outer source is not the peer's "
    "advertised address.",
    source="RFC 7348 section 5; Linux drivers/net/vxlan (VXLAN_ENTRY_EXISTS)",
    problem="outer source chosen by the kernel is not the data-path address, 100 % silent loss: moby#53004; libnetwork#2446",
    invariants=("D5", "B9", "C15"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def vtep_known(case: Case) -> Iterator[Finding]:
    if not any(cluster.vteps for cluster in case.clusters):
        yield unknown("the expectation names no node's address", needs="`docker node inspect`, or the Peers of `docker network inspect`")
        return
    # Tunnels of a VNI that is nobody's here are VX-VNI's to report, with their ends.
    mine = [talk for talk in case.tunnel_talks if case.network_of(talk.clusters, talk.vni) is not None]
    mine += [
        talk for talk in case.talks if talk.esp and talk.tunnel == "none" and any(c.vteps & {talk.outer_src, talk.outer_dst} for c in talk.clusters)
    ]
    strange: dict[tuple[str, Address], list[Talk]] = defaultdict(list)
    for talk in mine:
        everyone = case.tunnel_ends(talk.clusters)
        if talk.outer_src is not None and talk.outer_src not in everyone:
            strange["from", talk.outer_src].append(talk)
        if talk.outer_dst is not None and talk.outer_dst not in everyone and not talk.outer_dst.is_multicast:
            strange["to", talk.outer_dst].append(talk)
    complete = all(cluster.vteps_complete for cluster in case.clusters)
    for (way, address), talks in strange.items():
        owners = _owners(case, talks) if way == "from" else case.nodes_of(*(talk.outer_src for talk in talks))
        count = frames_of(talks)
        if not complete:
            yield unknown(
                f"{count:,} frames {way} {address}, which is no node the expectation names, but it does not name all",
                needs="the address of every node (`docker node inspect` of all of them)",
                subject=str(address),
            )
        elif way == "from":
            who = f"{', '.join(owners)} sends" if owners != (str(address),) else "somebody sends"
            right = ", ".join(str(node.vtep) for name in owners if (node := case.cluster.node_by_name.get(name)) is not None)
            yield failed(
                f"{who} {count:,} frames from outer source {address}, which is no node's address: receivers drop them",
                subject=str(address),
                nodes=owners,
                rows=rows_of(talks),
                expected=f"outer source {right}" if right else "an address of a node",
                seen=f"outer source {address}",
                hint="The kernel picks the outer source by its routing table; another address or route on the node makes it differ from "
                "the advertised one, and "
                "the receiving kernel drops frames whose inner MAC it knows behind another VTEP (skb drop reason VXLAN_ENTRY_EXISTS).",
                command=f"ip route get {talks[0].outer_dst}  # on {owners[0]}: must say `src {right or 'the advertised address'}`",
            )
        else:
            yield failed(
                f"{', '.join(owners)} sends {count:,} frames to {address}, which is no node's address",
                subject=str(address),
                nodes=owners,
                rows=rows_of(talks),
                expected="the address of a node",
                seen=f"outer destination {address}",
                hint="A forwarding entry of the sender points to a node that does not exist (any more).",
                command=_FDB.format(network=_netns(case.network_of(talks[0].clusters, talks[0].vni)), mac=talks[0].eth_dst),
                invariants=("D5", "C16", "B6"),
            )
    if not strange:
        ends = {address for talk in mine for address in (talk.outer_src, talk.outer_dst) if address is not None}
        yield passed(f"{frames_of(mine):,} frames between {len(ends)} tunnel ends, all of them nodes of the cluster")


def _owners(case: Case, talks: Iterable[Talk]) -> tuple[str, ...]:
    """The nodes on which the inner sources of these talks live; the outer addresses where that is not known."""
    names: dict[str, None] = {}
    for talk in talks:
        for end in case.endpoints_at(talk.clusters, talk.vni, talk.ip_src):
            if end.node is not None:
                names[end.node] = None
    return tuple(names) or case.nodes_of(*(talk.outer_src for talk in talks))


# -- where things live ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Home:
    """From where one inner source was heard."""

    vni: int
    ip: Address
    ends: tuple[tuple[Address, Mac | None], ...]  # (outer source, inner MAC), in the order of first appearance
    talks: tuple[Talk, ...]
    interleaved: bool  # two ends took turns: not a move from one to the other


def _homes(case: Case) -> list[_Home]:
    heard: dict[tuple[int, Address], list[Talk]] = defaultdict(list)
    for talk, _ in _unicast(case):
        assert talk.ip_src is not None
        if not talk.unlearned:
            heard[talk.vni, talk.ip_src].append(talk)
    return [_home(case, vni, ip, talks) for (vni, ip), talks in heard.items()]


def _home(case: Case, vni: int, ip: Address, talks: list[Talk]) -> _Home:
    spans: dict[tuple[Address, Mac | None], list[int]] = {}
    # VXLAN-GPE and Geneve may carry packets without Ethernet: those have the MAC of the others.
    macs = {talk.outer_src: talk.eth_src for talk in talks if talk.eth_src is not None}
    for talk in sorted(talks, key=lambda talk: talk.first_ns):
        if talk.outer_src is None:
            continue
        mac = talk.eth_src if talk.eth_src is not None else macs.get(talk.outer_src)
        span = spans.setdefault((talk.outer_src, mac), [talk.first_ns, talk.last_ns])
        span[1] = max(span[1], talk.last_ns)
    ordered = sorted(spans.items(), key=lambda item: item[1][0])
    latest, interleaved = None, False
    for _, (first, last) in ordered:
        if latest is not None and first < latest:
            interleaved = True
        latest = last if latest is None else max(latest, last)
    return _Home(vni, ip, tuple(end for end, _ in ordered), tuple(talks), interleaved)


def _routed(case: Case, vni: int) -> bool:
    network = case.network_of(case.clusters, vni)
    return (network is not None and network.forwarding is Forwarding.ROUTED) or (network is None and case.settings.profile in ("flannel", "calico"))


_DUPLICATES: WeakKeyDictionary[Case, dict[tuple[int, Address], _Home]] = WeakKeyDictionary()


def duplicates(case: Case) -> dict[tuple[int, Address], _Home]:
    """Inner addresses that two nodes or two MACs use at the same time."""
    if case not in _DUPLICATES:
        _DUPLICATES[case] = _duplicates(case)
    return _DUPLICATES[case]


def _duplicates(case: Case) -> dict[tuple[int, Address], _Home]:
    return {(home.vni, home.ip): home for home in _homes(case) if len(home.ends) > 1 and home.interleaved and not _same_end(case, home)}


def _same_end(case: Case, home: _Home) -> bool:
    """Whether the different ends are one node after all: a node with two addresses (VX-VTEP's matter), or a routed network, where the gateway's MAC
    stands for all."""
    nodes = {case.node_name(address) for address, _ in home.ends}
    known = {address for cluster in case.clusters for address in cluster.node_by_address}
    strangers = {address for address, _ in home.ends if known and address not in known}
    macs = {mac for _, mac in home.ends}
    if strangers and len(macs) == 1:
        return True
    return len(nodes) == 1 and (len(macs) == 1 or _routed(case, home.vni))


@check(
    "VX-DUPLICATE",
    "an inner address is at one node and has one MAC at a time",
    family="segments",
    about="Two endpoints with one address take each other's packets: connections break at random and are reset by the one that did not open them.",
    source="RFC 7348 section 4.1; invariants B11",
    problem="duplicate addresses of tasks, or of a task and a load balancer: moby#33795, moby#33402, moby#41576",
    invariants=("B11", "C15"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def duplicate_address(case: Case) -> Iterator[Finding]:
    found = duplicates(case)
    for home in found.values():
        rightful = [end.node for end in case.endpoints_at(case.clusters, home.vni, home.ip) if end.node is not None]
        nodes = case.nodes_of(*(address for address, _ in home.ends))
        culprits = tuple(node for node in nodes if node not in rightful) + tuple(node for node in nodes if node in rightful)
        where = " and ".join(f"{case.node_name(address)} ({address}, MAC {mac})" for address, mac in home.ends)
        names = ", ".join(_name(end) for end in case.endpoints_at(case.clusters, home.vni, home.ip))
        per_end = [[talk for talk in home.talks if (talk.outer_src, talk.eth_src) == end] for end in home.ends]
        yield failed(
            f"{home.ip} on VNI {home.vni} is used by two at the same time: {where}",
            subject=str(home.ip),
            nodes=culprits,
            rows=rows_of([talk for pair in zip(*per_end, strict=False) for talk in pair]),
            expected=f"{names} on {', '.join(rightful)}" if rightful else "one node and one MAC",
            seen=where,
            hint="Two endpoints were given one address, or a removed one was left behind.",
            command=f"docker network inspect {_network_name(case, home.vni)} | grep -B5 '{home.ip}/'  # on each of {', '.join(nodes)}",
        )
    if not found:
        count = len({(talk.vni, talk.ip_src) for talk, _ in _unicast(case)})
        yield (
            passed(f"{count:,} inner addresses, each at one node with one MAC at a time")
            if count
            else unknown("no inner address on the wire", needs="a capture of an underlay interface while endpoints of two nodes talk")
        )


def _network_name(case: Case, vni: int) -> str:
    network = case.network_of(case.clusters, vni)
    return network.name if network is not None else f"<network of VNI {vni}>"


@check(
    "VX-SOURCE",
    "every inner source is sent by the node on which it lives",
    family="segments",
    about="The outer source of a frame must be the node of its inner source, or the receiver does not believe it and answers go elsewhere.",
    source="RFC 7348 section 5 (outer IP header); libnetwork drivers/overlay peer table",
    problem="stale expectations of where a task runs, addresses kept after a reschedule: moby#31588, moby#35401, moby#53004",
    invariants=("C15", "D5", "B9"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def source_at_home(case: Case) -> Iterator[Finding]:
    twice = duplicates(case)
    wrong: dict[tuple[int, Address, Address], list[Talk]] = defaultdict(list)
    judged = undecided = 0
    for talk, network in _unicast(case):
        assert talk.ip_src is not None
        ends = case.endpoints_at(talk.clusters, talk.vni, talk.ip_src)
        vteps = _vteps(talk.clusters, ends)
        if network is None or not ends or not vteps:
            undecided += talk.frames
            continue
        judged += talk.frames
        everyone = case.tunnel_ends(talk.clusters)
        # Group policy's D bit says that a frame may come from elsewhere than its source lives.
        if talk.outer_src in vteps or talk.outer_src not in everyone or talk.unlearned or (talk.vni, talk.ip_src) in twice:
            continue
        assert talk.outer_src is not None
        wrong[talk.vni, talk.ip_src, talk.outer_src].append(talk)
    for (vni, ip, outer), talks in wrong.items():
        ends = case.endpoints_at(talks[0].clusters, vni, ip)
        homes = tuple(dict.fromkeys(end.node for end in ends if end.node is not None))
        yield failed(
            f"{', '.join(map(_name, ends))} of {', '.join(homes)} is heard from {case.node_name(outer)} ({outer})",
            subject=str(ip),
            nodes=(*case.nodes_of(outer), *homes),
            rows=rows_of(talks),
            expected=f"outer source of {', '.join(homes)}",
            seen=f"outer source {outer} ({case.node_name(outer)})",
            hint="The task has moved since the expectation was taken, another endpoint uses its address, or the node sends from another "
            "node's address.",
            command=f"docker network inspect {_network_name(case, vni)} | grep -B5 '{ip}/'  # on {case.node_name(outer)}",
        )
    if not wrong:
        yield _decided(
            judged, undecided, "whose inner source lives at the outer source's node", "`docker network inspect` of the network from every node"
        )


def _vteps(clusters: Iterable[Cluster], ends: Iterable[Endpoint]) -> set[Address]:
    """Where endpoints may be reached: the outer addresses of their nodes."""
    found: set[Address] = set()
    for cluster in clusters:
        for name in {end.node for end in ends if end.node is not None}:
            node = cluster.node_by_name.get(name)
            if node is not None:
                found |= node.addresses
    return found


def _decided(judged: int, undecided: int, what: str, needs: str) -> Finding:
    if not judged:
        return unknown(f"none of {undecided:,} frames could be judged" if undecided else "no inner IP packet on the wire", needs=needs)
    rest = f"; {undecided:,} more could not be judged for want of {needs}" if undecided else ""
    return passed(f"{judged:,} frames {what}{rest}")


@check(
    "VX-FDB",
    "every frame is sent to the node on which its destination lives",
    family="segments",
    about="The sender's forwarding entry decides the outer destination; a stale or wrong one sends a flow to a node that drops it in silence.",
    source="RFC 7348 section 4.1; libnetwork drivers/overlay/peerdb.go",
    problem="stale FDB entries after a reschedule, 'inner destination on A, outer destination B': moby#31588, moby#29024, docker/for-linux#1197",
    invariants=("C16", "C18", "B6", "B19"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def destination_at_home(case: Case) -> Iterator[Finding]:
    twice = duplicates(case)
    learned = _learned(case)
    answers = {(talk.vni, talk.ip_src, talk.ip_dst, talk.outer_dst) for talk, _ in _unicast(case)}
    wrong: dict[tuple[int, Address, Address], list[Talk]] = defaultdict(list)
    right: dict[tuple[int, Address, Address], set[Address]] = {}
    judged = undecided = 0
    for talk, _ in _unicast(case):
        assert talk.ip_dst is not None
        if talk.eth_dst is None or talk.outer_dst is None or talk.outer_src is None or (talk.vni, talk.ip_dst) in twice:
            continue
        vteps = _destination(case, talk)
        if not vteps and (talk.vni, talk.ip_dst, talk.ip_src, talk.outer_src) not in answers:
            vteps = learned.get((talk.vni, talk.eth_dst), set())  # with an answer it is VX-SYMMETRY's
        if not vteps:
            undecided += talk.frames
            continue
        judged += talk.frames
        everyone = case.tunnel_ends(talk.clusters)
        if talk.outer_dst in vteps or (everyone and talk.outer_dst not in everyone):  # the latter is VX-VTEP's to report
            continue
        if learned.get((talk.vni, talk.eth_dst)) == {talk.outer_dst}:
            continue  # it is heard from there and from nowhere else: VX-SOURCE's to report
        key = (talk.vni, talk.ip_dst, talk.outer_src)
        wrong[key].append(talk)
        right[key] = vteps
    for (vni, ip, sender), talks in wrong.items():
        ends = case.endpoints_at(talks[0].clusters, vni, ip)
        there = ", ".join(f"{case.node_name(address)} ({address})" for address in sorted(right[vni, ip, sender], key=int))
        sent = ", ".join(f"{case.node_name(address)} ({address})" for address in dict.fromkeys(talk.outer_dst for talk in talks))
        who = ", ".join(map(_name, ends)) or str(ip)
        network = case.network_of(talks[0].clusters, vni)
        yield failed(
            f"{case.node_name(sender)} sends {once(talks):,} frames for {who} to {sent}, but it lives at {there}",
            subject=who,
            nodes=case.nodes_of(sender),
            rows=rows_of(talks),
            expected=f"outer destination {there}",
            seen=f"outer destination {sent}",
            hint=f"The forwarding entry of {talks[0].eth_dst} on {case.node_name(sender)} is stale or wrong (gossip did not reach it, or an "
            "entry was left behind).",
            command=_FDB.format(network=_netns(network), mac=talks[0].eth_dst) + f"  # on {case.node_name(sender)}: must say `dst {there}`",
        )
    if not wrong:
        yield _decided(
            judged, undecided, "sent to the node on which their destination lives", "`docker network inspect` of the network from every node"
        )


def _destination(case: Case, talk: Talk) -> set[Address]:
    """Where the cluster says that the inner destination lives: by its MAC, which is what the sender's entry is about, else by its address."""
    by_mac = [end for cluster in talk.clusters for end in cluster.endpoints_by_mac.get((talk.vni, talk.eth_dst), ())] if talk.eth_dst else []
    return _vteps(talk.clusters, by_mac) or _vteps(talk.clusters, case.endpoints_at(talk.clusters, talk.vni, talk.ip_dst))


def _learned(case: Case) -> dict[tuple[int, Mac], set[Address]]:
    """(VNI, MAC) -> the nodes it was heard from, as a learning switch would have it."""
    heard: dict[tuple[int, Mac], set[Address]] = defaultdict(set)
    for talk in case.tunnel_talks:
        if talk.eth_src is not None and talk.outer_src is not None and not talk.eth_src.group and not talk.unlearned:
            heard[talk.vni, talk.eth_src].add(talk.outer_src)
    return heard


# That a policy which was applied already (A bit) is not applied again shows in no capture: what it drops is on no wire.
@check(
    "VX-LEARN",
    "nobody learns from a frame that forbids it",
    family="segments",
    about="With group policy, the D bit tells the receiver not to learn from this frame where its inner source lives; one that sends there "
    "afterwards, although the endpoint lives elsewhere, has learned all the same.",
    source="draft-smith-vxlan-group-policy section 2.1",
    problem="frames that a proxy or service node passes on in the name of others draw the traffic of those to it",
    invariants=("C29",),
    severity=INFO,
    columns=TALK_COLUMNS,
)
def learning(case: Case) -> Iterator[Finding]:
    forbidden = [talk for talk in case.tunnel_talks if talk.unlearned and talk.eth_src is not None and not talk.eth_src.group]
    if not forbidden:
        yield unknown("no frame forbids learning", needs="a capture of nodes whose VXLAN devices use group policy and set its D bit")
        return
    learned = _learned(case)
    sent: dict[tuple[object, ...], list[Talk]] = defaultdict(list)
    for talk in case.tunnel_talks:
        sent[talk.capture, talk.vni, talk.eth_dst, talk.outer_src, talk.outer_dst].append(talk)
    wrong: dict[tuple[int, Mac, Address, Address], list[Talk]] = defaultdict(list)
    for talk in forbidden:
        after = sent.get((talk.capture, talk.vni, talk.eth_src, talk.outer_dst, talk.outer_src), [])
        if talk.eth_src is None or talk.outer_src is None or talk.outer_dst is None or not after:
            continue
        heard = learned.get((talk.vni, talk.eth_src), set())
        homes = _destination(case, after[0]) | heard
        # Who sent there before the first such frame has it from elsewhere.
        if homes and talk.outer_src not in homes and min(each.first_ns for each in after) > talk.first_ns:
            wrong[talk.vni, talk.eth_src, talk.outer_dst, talk.outer_src] += [talk, *after]
    for (vni, mac, learner, proxy), talks in wrong.items():
        who, where = case.node_name(learner), case.node_name(proxy)
        yield failed(
            f"{who} sends {once(talk for talk in talks if not talk.unlearned):,} frames for {mac} to {where} since that node sent one in its "
            "name whose D bit forbids to learn from it",
            subject=f"{mac} on VNI {vni}",
            nodes=(who, where),
            rows=rows_of(talks),
            expected=f"the entry of {mac} as it was",
            seen=f"outer destination {proxy}",
            hint=f"The VXLAN implementation of {who} ignores the D bit; told not to learn at all (`nolearning`) it keeps to its entries.",
            command=f"ip -d link show type vxlan  # on {who}: gbp, nolearning",
        )
    if not wrong:
        yield passed(f"{frames_of(forbidden):,} frames forbid learning, and nobody has learned from them")


# -- addresses that go together ------------------------------------------------------------------------------------------------


@check(
    "VX-NEIGHBOUR",
    "inner MAC and inner address belong together",
    family="segments",
    about="Docker gives each endpoint the MAC 02:42 and its IPv4 address; another pair means a wrong neighbour entry at the sender, or a "
    "foreign endpoint.",
    source="libnetwork netutils.GenerateMACFromIP, drivers/overlay/ov_endpoint.go",
    problem="stale neighbour entries answered by the proxy: moby#33076, libnetwork#1952, moby#29024; flannel#1795",
    invariants=("D2", "B8", "B19"),
    severity=ERROR,
    columns=TALK_COLUMNS,
    profiles={"rfc7348": None, "evpn": None},
)
def mac_and_address(case: Case) -> Iterator[Finding]:
    twice = duplicates(case)
    wrong: dict[tuple[str, int, Address, Address | None], list[Talk]] = defaultdict(list)
    expected: dict[tuple[str, int, Address, Address | None], Mac] = {}
    judged = undecided = 0
    for talk, network in _unicast(case):
        if network is None:
            undecided += talk.frames
            continue
        for way, ip, mac in (("source", talk.ip_src, talk.eth_src), ("destination", talk.ip_dst, talk.eth_dst)):
            assert ip is not None
            if mac is None or (talk.vni, ip) in twice:
                continue
            known = _macs(case, talk, ip)
            if not known:
                undecided += talk.frames
                continue
            judged += talk.frames
            if mac not in known:
                key = (way, talk.vni, ip, talk.outer_src)
                wrong[key].append(talk)
                expected[key] = min(known)
    for (way, vni, ip, sender), talks in wrong.items():
        seen = sorted({str(talk.eth_src if way == "source" else talk.eth_dst) for talk in talks})
        ends = case.endpoints_at(talks[0].clusters, vni, ip)
        who, node = ", ".join(map(_name, ends)) or str(ip), case.node_name(sender)
        hint, command = (
            (
                f"The neighbour entry for {ip} on {node} has another MAC than the endpoint.",
                _NEIGHBOUR.format(network=_netns(case.network_of(talks[0].clusters, vni)), ip=ip),
            )
            if way == "destination"
            else (
                "An endpoint was given this address by hand, or the MAC of the endpoint was changed.",
                f"docker inspect of the task with {ip} on {node}",
            )
        )
        yield failed(
            f"{node} sends {once(talks):,} frames {'from' if way == 'source' else 'to'} {who} with MAC {', '.join(seen)} instead of "
            f"{expected[way, vni, ip, sender]}",
            subject=who,
            nodes=case.nodes_of(sender),
            rows=rows_of(talks),
            expected=f"MAC {expected[way, vni, ip, sender]}",
            seen=f"MAC {', '.join(seen)}",
            hint=hint,
            command=command,
        )
    if not wrong:
        yield _decided(judged, undecided, "(counted once for each end) whose MAC and address belong together", "the endpoints of the network")


def _macs(case: Case, talk: Talk, ip: Address) -> set[Mac]:
    """The MACs that may stand for an inner address: the endpoint's (or its gateway's), and on a swarm's network the one its address gives. None for
    an address that the network certainly has not (VX-ENDPOINT's to report) and for a virtual one (VX-VIP's)."""
    found: set[Mac] = set()
    for cluster in talk.clusters:
        network = cluster.network_by_vni.get(talk.vni)
        if network is None:
            continue
        ends = cluster.endpoints_by_ip.get((talk.vni, ip), ())
        found |= {mac for end in ends if (mac := cluster.mac_on_wire(end)) is not None}
        if ends or cluster.knows_endpoints(network.name, None) or _is_vip(talk, ip) is not None:
            continue
        swarm = network.forwarding is Forwarding.BRIDGED and cluster.orchestrator is Orchestrator.SWARM
        if not found and swarm and network.holds(ip) and isinstance(ip, IPv4Address):
            found.add(mac_from_ipv4(ip))
    return found


@check(
    "VX-ENDPOINT",
    "every inner address is an endpoint of its network",
    family="segments",
    about="An address that the network does not have is a leftover, a hand-made interface, or a task that started after the expectation was taken.",
    source="docker network inspect (Containers, IPAM)",
    problem="removed tasks that still speak or are spoken to, foreign interfaces in an overlay: moby#29024, libnetwork#1952",
    invariants=("D5", "C20"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def endpoint_known(case: Case) -> Iterator[Finding]:
    strange: dict[tuple[int, Address, str], list[Talk]] = defaultdict(list)
    judged = undecided = 0
    for talk, network in _unicast(case):
        if network is None:
            undecided += talk.frames
            continue
        for way, ip in (("from", talk.ip_src), ("to", talk.ip_dst)):
            assert ip is not None
            if case.endpoints_at(talk.clusters, talk.vni, ip):
                judged += talk.frames
            elif _is_vip(talk, ip) is not None:
                continue  # VX-VIP's to report
            elif network.subnets and not network.holds(ip) and network.forwarding is Forwarding.BRIDGED:
                continue  # VX-SEGMENT's to report
            elif not any(cluster.knows_endpoints(network.name, None) for cluster in talk.clusters):
                undecided += talk.frames
            else:
                strange[talk.vni, ip, way].append(talk)
    kinds: dict[tuple[int, tuple[str, ...], _Kind], list[Address]] = defaultdict(list)
    for vni, ip in dict.fromkeys((vni, ip) for vni, ip, _ in strange):
        speaking, spoken_to = strange.get((vni, ip, "from"), []), strange.get((vni, ip, "to"), [])
        nodes = case.nodes_of(*(talk.outer_src for talk in speaking or spoken_to))
        kinds[vni, nodes, _kind(case, vni, ip, speaking)].append(ip)
    for (vni, nodes, kind), ips in kinds.items():
        talks = [talk for ip in ips for way in ("from", "to") for talk in strange.get((vni, ip, way), ())]
        yield _strangers(case, vni, nodes, kind, ips, talks)
    if not strange:
        yield _decided(
            judged, undecided, "(counted once for each end) between endpoints that the cluster lists", "the endpoints of the network on every node"
        )


class _Kind(Enum):
    """What an address that the network does not have looks like."""

    GATEWAY = auto()
    DOCKERS = auto()  # as Docker makes them: its MAC follows from its address, and it speaks from one node of the cluster
    SILENT = auto()  # only spoken to
    FOREIGN = auto()


def _kind(case: Case, vni: int, ip: Address, speaking: list[Talk]) -> _Kind:
    network = case.network_of(case.clusters, vni)
    if network is not None and any(subnet.gateway == ip for subnet in network.subnets):
        return _Kind.GATEWAY
    if not speaking:
        return _Kind.SILENT
    proper = isinstance(ip, IPv4Address) and all(talk.eth_src == mac_from_ipv4(ip) for talk in speaking)
    at_home = len({talk.outer_src for talk in speaking}) == 1 and all(talk.outer_src in talk.clusters[0].vteps for talk in speaking)
    return _Kind.DOCKERS if proper and at_home else _Kind.FOREIGN


def _strangers(case: Case, vni: int, nodes: tuple[str, ...], kind: _Kind, ips: list[Address], talks: list[Talk]) -> Finding:
    network = case.network_of(talks[0].clusters, vni)
    assert network is not None
    told, count = _listed(ips), f"{frames_of(talks):,} frames"
    what = "no endpoint" if len(ips) == 1 else "no endpoints"
    is_or_are = "is" if len(ips) == 1 else "are"
    message = f"{count} {'to' if kind is _Kind.SILENT else 'of'} {told}, which {is_or_are} {what} of network {network.name}"
    severity: Severity | None = None
    if kind is _Kind.GATEWAY:
        message = f"{count} of {told}, the gateway of network {network.name}, which every node answers by itself and never crosses the underlay"
    if kind is _Kind.DOCKERS:
        hint = "It looks like Docker's own (its MAC follows from its address): a task that started or stopped outside the time of the expectation."
        severity, command = INFO, f"docker network inspect -v {network.name}"
    elif kind is _Kind.SILENT:
        hint = "A removed task is still spoken to, or the sender was given a wrong address (stale DNS answer, stale forwarding entry)."
        severity, command = WARNING, f"docker network inspect -v {network.name}; " + _NEIGHBOUR.format(network=_netns(network), ip=ips[0])
    else:
        hint = "An interface that Docker did not make is attached to the overlay, or it was given another address."
        command = f"nsenter --net=/var/run/docker/netns/1-{_netns(network)} bridge fdb show br br0  # on {', '.join(nodes)}"
    return failed(
        message,
        subject=told,
        nodes=nodes,
        rows=rows_of(talks),
        expected=f"endpoints of {network.name}",
        seen=told,
        hint=hint,
        command=command,
        severity=severity,
    )


def _listed(addresses: Iterable[Address], most: int = 4) -> str:
    """Addresses in words: the lowest few, and how many more there are."""
    ordered = [str(address) for address in sorted(addresses, key=lambda address: (address.version, int(address)))]
    if len(ordered) > most:
        return ", ".join(ordered[:most]) + f" and {len(ordered) - most} more"
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]]) if len(ordered) > 1 else ordered[0]


def _is_vip(talk: Talk, ip: Address) -> str | None:
    """The service whose virtual address this is in the talk's network."""
    for cluster in talk.clusters:
        network = cluster.network_by_vni.get(talk.vni)
        service = cluster.service_by_vip.get((network.name, ip)) if network is not None else None
        if service is not None:
            return service.name
    return None


@check(
    "VX-VIP",
    "no virtual address crosses the underlay",
    family="segments",
    about="The client's node replaces a service's virtual address by a task's before it encapsulates; one on the wire has met no balancer.",
    source="libnetwork service_linux.go (lb_ sandbox); swarm behaviour 2.4",
    problem="broken load-balancer sandbox or missing IPVS rules on the client's node: moby#25325, moby#36878",
    invariants=("D5", "B14"),
    severity=ERROR,
    columns=TALK_COLUMNS,
    profiles=_DOCKER_ONLY,
)
def no_vip(case: Case) -> Iterator[Finding]:
    found: dict[tuple[str, Address | None, str], list[Talk]] = defaultdict(list)
    for talk, _ in _unicast(case):
        for way, ip in (("to", talk.ip_dst), ("from", talk.ip_src)):
            service = _is_vip(talk, ip) if ip is not None else None
            if service is not None:
                found[service, talk.outer_src, way].append(talk)
    for (service, sender, way), talks in found.items():
        ip = talks[0].ip_dst if way == "to" else talks[0].ip_src
        yield failed(
            f"{case.node_name(sender)} sends {once(talks):,} frames {way} {ip}, the virtual address of service {service}",
            subject=f"{service} ({ip})",
            nodes=case.nodes_of(sender),
            rows=rows_of(talks),
            expected="a task's address in its place",
            seen=f"{ip} on the wire",
            hint=f"The load-balancer sandbox of {case.node_name(sender)} does not hold this address or has no rules for it.",
            command=f"nsenter --net=/var/run/docker/netns/lb_{_netns(case.network_of(talks[0].clusters, talks[0].vni))[:9]} sh -c 'ip addr; "
            "ipvsadm -ln; iptables -t mangle -S'",
        )
    if found:
        return
    if any(cluster.service_by_vip for cluster in case.clusters):
        yield passed(f"no virtual address among {sum(1 for _ in _unicast(case)):,} conversations on the wire")
    else:
        yield unknown("the expectation names no virtual address", needs="`docker service inspect` of every service, or `docker network inspect -v`")


@check(
    "VX-SEGMENT",
    "nothing crosses from one segment to another",
    family="segments",
    about="A VNI is a wall: its addresses stay inside it, and both directions of a conversation use the same one.",
    source="RFC 7348 sections 4 and 5",
    problem="traffic of one network on another's VNI, one direction on each: moby#22424, cilium#31023",
    invariants=("C19", "B10"),
    severity=ERROR,
    columns=TALK_COLUMNS,
    profiles={"rfc7348": WARNING, "evpn": None},  # a fabric that routes has a segment in which all of a tenant's addresses meet
)
def no_crossing(case: Case) -> Iterator[Finding]:
    outside: dict[tuple[int, Address | None], list[Talk]] = defaultdict(list)
    strangers: dict[tuple[int, Address | None], set[Address]] = defaultdict(set)
    ways: dict[frozenset[Address], dict[int, list[Talk]]] = defaultdict(lambda: defaultdict(list))
    count = 0
    for talk, network in _unicast(case):
        assert talk.ip_src is not None
        assert talk.ip_dst is not None
        if network is None:
            continue  # VX-VNI's to report
        count += talk.frames
        ways[frozenset((talk.ip_src, talk.ip_dst))][talk.vni].append(talk)
        if not network.subnets or network.forwarding is Forwarding.ROUTED:
            continue
        for ip in (talk.ip_src, talk.ip_dst):
            if (
                not any(net.holds(ip) for cluster in talk.clusters if (net := cluster.network_by_vni.get(talk.vni)) is not None)
                and not ip.is_link_local
            ):
                outside[talk.vni, talk.outer_src].append(talk)
                strangers[talk.vni, talk.outer_src].add(ip)
    for (vni, sender), talks in outside.items():
        network = case.network_of(talks[0].clusters, vni)
        assert network is not None
        own = ", ".join(str(subnet.prefix) for subnet in network.subnets)
        ips = strangers[vni, sender]
        told = _listed(ips)
        homes = ", ".join(sorted({other.name for ip in ips for other in case.cluster.networks_holding(ip)})) or "none of the cluster's networks"
        yield failed(
            f"{case.node_name(sender)} sends {once(talks):,} frames of {told} on VNI {vni} (network {network.name}, {own}), which is of {homes}",
            subject=told,
            nodes=case.nodes_of(sender),
            rows=rows_of(talks),
            expected=f"addresses of {own}",
            seen=told,
            hint="The frame entered the wrong segment: a device with the wrong VNI or in the wrong bridge, or an endpoint that routes "
            "between networks.",
            command=f"nsenter --net=/var/run/docker/netns/1-{_netns(network)} sh -c 'ip -d link; bridge link'  # on {case.node_name(sender)}",
        )
    crossing = 0
    for pair, by_vni in ways.items():
        if len(by_vni) < 2 or any((vni, talk.outer_src) in outside for vni, talks in by_vni.items() for talk in talks):
            continue
        if all(network.holds(ip) for vni in by_vni if (network := case.network_of(case.clusters, vni)) is not None for ip in pair):
            continue  # networks with overlapping subnets: two different pairs of endpoints
        crossing += 1
        flat = [talk for talks in by_vni.values() for talk in talks]
        low, high = sorted(map(str, pair)) if len(pair) == 2 else (str(*pair),) * 2
        yield failed(
            f"{low} and {high} talk on {len(by_vni)} VNIs: {', '.join(map(str, sorted(by_vni)))}",
            subject=f"{low} - {high}",
            nodes=case.nodes_of(*(talk.outer_src for talk in flat)),
            rows=rows_of(flat),
            expected="one VNI for both directions",
            seen=", ".join(map(str, sorted(by_vni))),
            hint="The two nodes have given the network different VNIs.",
            command="nsenter --net=/var/run/docker/netns/1-<network id> ip -d link show vxlan0  # on both nodes",
        )
    if not outside and not crossing:
        yield (
            passed(f"{count:,} frames, each within the subnets of its own segment")
            if count
            else unknown("no frame of a known segment", needs="`docker network inspect` of the networks whose VNIs are on the wire")
        )


# -- what must not be on the wire ----------------------------------------------------------------------------------------------


@check(
    "VX-FLOOD",
    "no ARP, broadcast or multicast crosses the underlay",
    family="segments",
    about="In a swarm the VXLAN device answers ARP itself and has no default destination, so nothing is ever flooded; what is flooded "
    "reveals a changed device.",
    source="libnetwork drivers/overlay/ov_utils.go (proxy, l2miss, l3miss), Linux drivers/net/vxlan",
    problem="unexpected floods, and ARP answered by the wrong one: moby#33076, libnetwork#1952",
    invariants=("D4", "C17", "B8"),
    severity=WARNING,
    columns=TALK_COLUMNS,
    profiles={"rfc7348": None, "evpn": None, "flannel": WARNING, "calico": WARNING},
)
def no_flood(case: Case) -> Iterator[Finding]:
    flooded: dict[Address | None, list[Talk]] = defaultdict(list)
    for talk in case.tunnel_talks:
        if case.network_of(talk.clusters, talk.vni) is not None and (talk.ethertype == ARP or _group_address(talk.eth_dst)):
            flooded[talk.outer_src].append(talk)
    for sender, talks in flooded.items():
        arp = frames_of(talk for talk in talks if talk.ethertype == ARP)
        rest = frames_of(talks) - arp
        vnis = ", ".join(str(vni) for vni in sorted({talk.vni for talk in talks}))
        yield failed(
            f"{case.node_name(sender)} floods VNI {vnis}: {arp:,} ARP messages and {rest:,} other broadcast or multicast frames on the underlay",
            subject=f"VNI {vnis}",
            nodes=case.nodes_of(sender),
            rows=rows_of(talks),
            expected="none",
            seen=f"{arp + rest:,} frames",
            hint="The VXLAN device was made without `proxy`, or has a default destination (an all-zero FDB entry) or a multicast group.",
            command=f"nsenter --net=/var/run/docker/netns/1-{_netns(case.network_of(talks[0].clusters, talks[0].vni))} sh -c "
            f"'ip -d link show vxlan0; bridge fdb show dev vxlan0 | grep 00:00:00:00:00:00'  # on {case.node_name(sender)}",
        )
    if not flooded:
        yield (
            passed(f"{frames_of(case.tunnel_talks):,} frames in tunnels, all of them unicast and none ARP")
            if case.tunnel_talks
            else unknown("no frame in a tunnel", needs="a capture of an underlay interface")
        )


ARP_COLUMNS = ("arp_op", "arp_sha", "arp_spa", "arp_tpa", "have", "capture")


@check(
    "VX-ARP",
    "ARP tells the MAC that belongs to the address",
    family="segments",
    about="Inside a sandbox the VXLAN device or a local endpoint answers ARP; an answer with a foreign MAC sends the whole flow astray.",
    source="RFC 826; libnetwork netutils.GenerateMACFromIP",
    problem="the proxy answers with a stale MAC, two MACs for one address: moby#33076, libnetwork#1952, moby#29024",
    invariants=("B8", "D2", "C23"),
    severity=ERROR,
    columns=(*TALK_COLUMNS, *ARP_COLUMNS),
    profiles={"rfc7348": None, "evpn": None, "flannel": None, "calico": None},
)
def arp_answers(case: Case) -> Iterator[Finding]:
    table = case.table
    rows = np.flatnonzero((table["have"] & np.uint64(HAVE["arp"])) != 0)
    groups = case.group(rows, table["capture"], table["arp_sha"], table["arp_spa"], table["tunnel"], table["vni"])
    judged = wrong = 0
    for g, head in enumerate(groups.heads.tolist()):
        ip, mac = v4(int(table["arp_spa"][head])), Mac(int(table["arp_sha"][head]))
        ends = [end for cluster in case.acceptable(head) for end in cluster.endpoints if ip in end.addresses and end.mac is not None]
        if not ends or mac.value == 0:
            continue
        judged += int(groups.counts[g])
        if mac in {end.mac for end in ends}:
            continue
        wrong += 1
        vantage = case.vantages[int(table["capture"][head])]
        right = ", ".join(sorted({str(end.mac) for end in ends}))
        yield failed(
            f"ARP says that {ip} ({ends[0].name}) is at {mac}, it is at {right}",
            subject=_name(ends[0]),
            nodes=(vantage.node,) if vantage.node is not None else case.nodes_of(case.address("outer_ip_src", head)),
            rows=groups.first(g),
            expected=f"MAC {right}",
            seen=f"MAC {mac}",
            hint=f"The neighbour entry for {ip} on this node is wrong, or another interface uses the address.",
            command=_NEIGHBOUR.format(network="<network id>", ip=ip),
        )
    if not wrong:
        yield (
            passed(f"{judged:,} ARP messages about known endpoints, all with the right MAC")
            if judged
            else unknown("no ARP message about a known endpoint", needs="a capture inside a sandbox (`-i any` in a task's network namespace)")
        )


@check(
    "VX-CLEAR",
    "an encrypted network is never seen in clear text",
    family="segments",
    about="Frames of a network made with --opt encrypted must travel as ESP; a plain VXLAN frame of its VNI between nodes exposes or "
    "forges its traffic.",
    source="libnetwork drivers/overlay/encryption.go; RFC 4303",
    problem="CVE-2023-28840, CVE-2023-28841, CVE-2023-28842; wrong port in the policy: moby#45638",
    invariants=("B17",),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def encrypted_stays_encrypted(case: Case) -> Iterator[Finding]:
    encrypted = {(network.name, vni) for cluster in case.clusters for network in cluster.networks if network.encrypted for vni in network.vnis}
    clear: dict[tuple[Address | None, str], list[Talk]] = defaultdict(list)
    for talk in case.tunnel_talks:
        network = case.network_of(talk.clusters, talk.vni)
        if network is not None and network.encrypted:
            clear[talk.outer_src, network.name].append(talk)
    for (sender, name), talks in clear.items():
        yield failed(
            f"{case.node_name(sender)} sends {once(talks):,} frames of the encrypted network {name} in clear text",
            subject=name,
            nodes=case.nodes_of(sender),
            rows=rows_of(talks),
            expected="ESP between the nodes",
            seen=f"VXLAN with VNI {talks[0].vni}",
            hint="The rule that marks this VNI for IPsec is missing (xt_u32 or xt_bpf not there, chains flushed), or the kernel has no ESP.",
            command=f"iptables -t mangle -S OUTPUT; ip xfrm policy; ip xfrm state  # on {case.node_name(sender)}",
        )
    pairs = {(talk.outer_src, talk.outer_dst): talk for talk in case.talks if talk.esp and talk.tunnel == "none"}
    lonely = [talk for (source, target), talk in pairs.items() if (target, source) not in pairs and talk.frames >= 3]
    for talk in lonely:
        yield failed(
            f"ESP from {case.node_name(talk.outer_src)} to {case.node_name(talk.outer_dst)} is never answered: {talk.frames:,} packets one "
            "way, none back",
            subject=f"{talk.outer_src} -> {talk.outer_dst}",
            nodes=case.nodes_of(talk.outer_dst, talk.outer_src),
            rows=talk.rows,
            expected="ESP in both directions",
            seen="one direction",
            hint="IP protocol 50 is blocked on the way, or the two nodes do not share the key (after a rotation).",
            command="ip -s xfrm state; nstat -az | grep -i xfrm  # on both nodes",
            severity=WARNING,
        )
    if clear or lonely:
        return
    if not encrypted:
        yield unknown("the expectation has no encrypted network", needs="a network with the option `encrypted`") if case.clusters else passed("")
    else:
        names = ", ".join(sorted({name for name, _ in encrypted}))
        count = frames_of(pairs.values())
        told = f"no frame of the encrypted network {names} in clear text"
        yield passed(f"{told}; {count:,} ESP packets between {len(pairs)} ordered pairs of nodes" if count else f"{told} (and no ESP either)")


# -- paths ---------------------------------------------------------------------------------------------------------------------


@check(
    "VX-SYMMETRY",
    "an answer comes back between the same two nodes",
    family="segments",
    about="Where the cluster does not tell who lives where, both directions of a conversation must at least agree about it.",
    source="RFC 7348 section 4.1",
    problem="replies that take another way, path filters: moby#31785",
    invariants=("B16", "C18"),
    severity=ERROR,
    columns=TALK_COLUMNS,
)
def symmetric(case: Case) -> Iterator[Finding]:
    twice = duplicates(case)
    ways: dict[tuple[int, Address, Address], list[Talk]] = defaultdict(list)
    located: set[tuple[int, Address]] = set()
    for talk, _ in _unicast(case):
        assert talk.ip_src is not None
        assert talk.ip_dst is not None
        ways[talk.vni, talk.ip_src, talk.ip_dst].append(talk)
        for ip in (talk.ip_src, talk.ip_dst):
            if _vteps(talk.clusters, case.endpoints_at(talk.clusters, talk.vni, ip)):
                located.add((talk.vni, ip))
    judged = 0
    crooked: dict[_Ends, list[tuple[Address, Address, Talk, Talk]]] = defaultdict(list)
    for (vni, a, b), there in ways.items():
        back = ways.get((vni, b, a))
        if back is None or not int(a) < int(b) or (vni, a) in twice or (vni, b) in twice:
            continue
        judged += 1
        if (vni, a) in located and (vni, b) in located:
            continue  # where both live is known: VX-SOURCE and VX-FDB judge each direction by itself
        pairs = {(talk.outer_src, talk.outer_dst) for talk in there}
        if any((talk.outer_dst, talk.outer_src) in pairs for talk in back):
            continue
        ends = (there[0].outer_src, there[0].outer_dst, back[0].outer_src, back[0].outer_dst)
        crooked[ends].append((a, b, there[0], back[0]))
    for ends, found in crooked.items():
        a, b, one, other = found[0]
        more = f", and so do {len(found) - 1:,} more conversations" if len(found) > 1 else ""
        yield failed(
            f"{a} reaches {b} by {_path(case, one)}, the answer comes by {_path(case, other)}{more}",
            subject=f"{a} - {b}",
            nodes=case.nodes_of(*ends),
            rows=rows_of([one, other]),
            expected=f"{_path(case, one)} and back the same way",
            seen=_path(case, other),
            hint="A node sends from another address than it is reached at, or one of the two forwarding entries is stale.",
            command=f"ip route get {one.outer_src}  # on {case.node_name(one.outer_dst)}",
        )
    if not crooked:
        yield (
            passed(f"{judged:,} conversations with both directions, each between the same two nodes")
            if judged
            else unknown("no conversation with both directions on the wire", needs="a capture while endpoints of two nodes talk")
        )


_Ends = tuple[Address | None, Address | None, Address | None, Address | None]


def _path(case: Case, talk: Talk) -> str:
    return f"{case.node_name(talk.outer_src)} -> {case.node_name(talk.outer_dst)}"
