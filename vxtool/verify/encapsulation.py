"""Encapsulation: whether the tunnel headers, lengths, checksums and sizes of a capture are what their standards and their senders promise.

Knows header fields, vectorised over rows; refuses to know who lives where (vxtool.verify.segments does), but for naming the sender of an odd header.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import CHECKSUM_CLASSES, FRAGMENTS, HEADER_HAVE, LAYERS, STOPS, TUNNELS
from vxtool.model import Address
from vxtool.verify.case import TALK_COLUMNS, Case, Talk
from vxtool.verify.check import check
from vxtool.verify.connections import COLUMNS as CONNECTION_COLUMNS
from vxtool.verify.verdicts import Finding, Severity, failed, passed, unknown

__all__: list[str] = []

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
VXLAN, GPE, GENEVE = (TUNNELS.index(name) for name in ("vxlan", "vxlan-gpe", "geneve"))
ZERO, GOOD, PARTIAL, LCO, BAD = (CHECKSUM_CLASSES.index(name) for name in ("zero", "good", "partial", "lco", "bad"))
FIRST, LATER = FRAGMENTS.index("first"), FRAGMENTS.index("later")
I_FLAG, G_FLAG = 0x08000000, 0x80000000
GROUP_POLICY = G_FLAG | I_FLAG | 0x0048FFFF  # G, I, D, A and the policy id (draft-smith-vxlan-group-policy)
TCP = 6  # a header that the snap length cut off is TCP all the same
INITIAL_TTLS = (64, 128, 255)

Mask = npt.NDArray[np.bool_]

_NO_TUNNEL = "a capture of an underlay interface while endpoints of two nodes talk"


def _senders(case: Case, rows: Mask | npt.NDArray[np.intp]) -> Iterator[tuple[str, Address | None, int, tuple[int, ...]]]:
    """The rows by outer source: (node's name, address, frames, first rows)."""
    table = case.table
    groups = case.group(rows, table["outer_ip_src_hi"], table["outer_ip_src_lo"])
    for g, head in enumerate(groups.heads.tolist()):
        address = case.address("outer_ip_src", head)
        yield case.node_name(address), address, int(groups.counts[g]), groups.first(g)


def _vxlan(case: Case) -> Mask:
    found: Mask = case.table["tunnel"] == VXLAN
    return found


# -- the tunnel header -----------------------------------------------------------------------------------------------------


@check(
    "VX-FLAG",
    "the I flag is set",
    family="encapsulation",
    about="Without the I flag the VNI means nothing, and a receiver drops the frame.",
    source="RFC 7348 section 5 (MUST)",
    problem="frames of another protocol on the port, or a broken encapsulator",
    invariants=("C1",),
    severity=ERROR,
    columns=(*TALK_COLUMNS, "vxlan_word"),
)
def i_flag(case: Case) -> Iterator[Finding]:
    tunnel = case.table.have("vxlan")
    wrong = tunnel & ((case.table["vxlan_word"] & I_FLAG) == 0)
    for node, address, count, rows in _senders(case, wrong):
        yield failed(
            f"{node} sends {count:,} frames whose I flag is not set",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="flags 0x08",
            seen=f"first word 0x{int(case.table['vxlan_word'][rows[0]]):08x}",
            hint="Something that is not VXLAN uses the port, or the encapsulator (or a middlebox) damages the header.",
            command=f"tcpdump -ni eth0 -X 'udp port {case.data_path_port} and src {address}'",
        )
    if not wrong.any():
        yield _all_of(int(tunnel.sum()), "VXLAN headers, all with the I flag")


def _all_of(count: int, what: str) -> Finding:
    return passed(f"{count:,} {what}") if count else unknown("no VXLAN header", needs=_NO_TUNNEL)


@check(
    "VX-RESERVED",
    "reserved bits are zero",
    family="encapsulation",
    about="The seven other flag bits, the 24 bits after them and the last byte are zero on transmit, unless group policy (G bit) gives "
    "them a meaning.",
    source="RFC 7348 section 5 (MUST), draft-smith-vxlan-group-policy",
    problem="group policy or vendor bits that other nodes do not expect",
    invariants=("C2", "C3", "C4", "C28"),
    severity=WARNING,
    columns=(*TALK_COLUMNS, "vxlan_word", "vxlan_last"),
    profiles={"evpn": INFO},
)
def reserved_bits(case: Case) -> Iterator[Finding]:
    table, tunnel = case.table, _vxlan(case)
    word = table["vxlan_word"].astype(np.int64)
    policy = (word & G_FLAG) != 0
    swarm = case.settings.profile == "docker-swarm"  # Docker never configures group policy
    stray = np.where(policy & (not swarm), word & ~GROUP_POLICY, word & ~I_FLAG) != 0
    last = table["vxlan_last"] != 0
    wrong = tunnel & (stray | last)
    for node, address, count, rows in _senders(case, wrong):
        seen, tail = int(word[rows[0]]), int(table["vxlan_last"][rows[0]])
        ids = tuple(
            name
            for name, bits in (("C2", seen & 0xF7000000), ("C3", seen & 0xFFFFFF), ("C4", tail), ("C28", seen & G_FLAG or seen & 0x48FFFF))
            if bits
        )
        yield failed(
            f"{node} sends {count:,} frames with reserved bits set",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="first word 0x08000000, last byte 0x00",
            seen=f"first word 0x{seen:08x}, last byte 0x{tail:02x}",
            hint="The sender's VXLAN device has group policy (gbp) or remote checksum offload on, or a device on the way writes into the header.",
            command=f"ip -d link show type vxlan  # on {node}, in every overlay sandbox: look for gbp, gpe, remcsumtx",
            invariants=ids,
        )
    if not wrong.any():
        count = int(tunnel.sum())
        groups = int((tunnel & policy).sum())
        yield _all_of(count, "VXLAN headers, all reserved bits zero" + (f" ({groups:,} with a group policy)" if groups else ""))


@check(
    "VX-GPE",
    "VXLAN-GPE headers say what they carry",
    family="encapsulation",
    about="Version 0; with the P bit a known next protocol, without it none; frames with the O bit are management and are not forwarded.",
    source="draft-ietf-nvo3-vxlan-gpe section 3",
    problem="two ends that speak different versions of the extension",
    invariants=("C26", "C27"),
    severity=ERROR,
    columns=(*TALK_COLUMNS, "vxlan_word", "gpe_next"),
)
def gpe_header(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = table["tunnel"] == GPE
    word, following = table["vxlan_word"].astype(np.int64), table["gpe_next"]
    p_bit = (word & 0x04000000) != 0
    wrong = tunnel & (((word & 0x30000000) != 0) | (p_bit & ((following < 1) | (following > 4))) | (~p_bit & (following != 0)))
    for node, address, count, rows in _senders(case, wrong):
        yield failed(
            f"{node} sends {count:,} VXLAN-GPE frames with a version or next protocol that does not exist",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="version 0; next protocol 1 to 4 with the P bit, 0 without",
            seen=f"first word 0x{int(word[rows[0]]):08x}",
            invariants=("C26",),
        )
    oam = int((tunnel & ((word & 0x01000000) != 0)).sum())
    if not wrong.any():
        count = int(tunnel.sum())
        yield passed(f"{count:,} VXLAN-GPE headers" + (f", {oam:,} of them management (O bit)" if oam else ""))


@check(
    "VX-GENEVE",
    "Geneve headers are of version 0 and critical options are announced",
    family="encapsulation",
    about="A receiver drops Geneve of another version; one that carries options without saying whether they are critical cannot be forwarded safely.",
    source="RFC 8926 sections 3.4 and 3.5",
    problem="two ends that speak different versions",
    invariants=("C30",),
    severity=ERROR,
    columns=(*TALK_COLUMNS, "geneve_version", "geneve_options", "geneve_critical"),
)
def geneve_header(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = table.have("geneve")
    wrong = tunnel & ((table["geneve_version"] != 0) | ((table["geneve_critical"] != 0) & (table["geneve_options"] == 0)))
    for node, address, count, rows in _senders(case, wrong):
        yield failed(
            f"{node} sends {count:,} Geneve frames of version {int(table['geneve_version'][rows[0]])}, or with the C bit and no option",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="version 0, C bit only with options",
            seen=f"version {int(table['geneve_version'][rows[0]])}, {int(table['geneve_options'][rows[0]])} options",
        )
    if not wrong.any():
        yield passed(f"{int(tunnel.sum()):,} Geneve headers")


# -- ports -----------------------------------------------------------------------------------------------------------------


@check(
    "VX-PORT",
    "VXLAN uses the data-path port",
    family="encapsulation",
    about="Every node of a swarm must use one UDP port; a node on another port neither hears nor is heard.",
    source="RFC 7348 section 5; docker swarm init --data-path-port",
    problem="a port blocked or swallowed by the hypervisor, moved on one side only: libnetwork#2282, moby#33416",
    invariants=("C6", "B5"),
    severity=ERROR,
    columns=(*TALK_COLUMNS, "guessed"),
    profiles={"rfc7348": INFO, "evpn": INFO},
)
def port(case: Case) -> Iterator[Finding]:
    wanted = case.data_path_port
    told = case.settings.data_path_port is not None or any(cluster.data_path_port is not None for cluster in case.clusters)
    talks = [talk for talk in case.tunnel_talks if talk.tunnel == "vxlan"]
    if not talks:
        yield unknown("no VXLAN frame", needs=_NO_TUNNEL)
        return
    ports = {talk.dport for talk in talks}
    if not told and wanted not in ports and len(ports) == 1:
        yield passed(f"all VXLAN is on UDP port {ports.pop()}; the expectation does not state the port (the default is {wanted})")
        return
    wrong: dict[tuple[Address | None, int], list[Talk]] = defaultdict(list)
    for talk in talks:
        ours = any(talk.outer_src in cluster.vteps and talk.outer_dst in cluster.vteps for cluster in talk.clusters)
        nobody = not any(cluster.vteps for cluster in talk.clusters)
        if talk.dport != wanted and (ours or nobody):
            wrong[talk.outer_src, talk.dport].append(talk)
    for (sender, number), mine in wrong.items():
        count = sum(talk.frames for talk in mine)
        yield failed(
            f"{case.node_name(sender)} sends {count:,} VXLAN frames to UDP port {number} instead of {wanted}",
            subject=f"UDP port {number}",
            nodes=case.nodes_of(sender),
            rows=tuple(row for talk in mine for row in talk.rows)[:5],
            expected=f"UDP port {wanted}",
            seen=f"UDP port {number}",
            hint="The VXLAN device on this node was made with another port than on the others (`--data-path-port` is one for the whole swarm).",
            command=f"docker info -f '{{{{json .Swarm.Cluster.DataPathPort}}}}'; ip -d link show type vxlan  # dstport, on {case.node_name(sender)}",
            severity=None if told or len(ports) > 1 else INFO,
        )
    if not wrong:
        yield passed(f"{sum(talk.frames for talk in talks):,} VXLAN frames to UDP port {', '.join(map(str, sorted(ports)))}")


@check(
    "VX-SPORT",
    "outer source ports are in the dynamic range",
    family="encapsulation",
    about="The RFC recommends source ports of 49152 to 65535; Linux takes them from ip_local_port_range (32768 to 60999) and Docker leaves it so.",
    source="RFC 7348 section 5 (RECOMMENDED)",
    problem="none known; a fingerprint of the sender",
    invariants=("C8",),
    severity=INFO,
    columns=(*TALK_COLUMNS, "outer_sport"),
)
def source_port_range(case: Case) -> Iterator[Finding]:
    tunnel = case.table.have("vxlan")
    count = int(tunnel.sum())
    if not count:
        yield unknown("no VXLAN frame", needs=_NO_TUNNEL)
        return
    below = int((tunnel & (case.table["outer_sport"] < 49152)).sum())
    linux = "; Linux takes them from ip_local_port_range" if below else ""
    yield passed(f"{below / count:.0%} of {count:,} outer source ports are below 49152{linux}")


@check(
    "VX-ENTROPY",
    "one inner flow keeps one outer source port, many flows use many",
    family="encapsulation",
    about="The source port is a hash of the inner headers, so that routers spread flows over paths and keep each flow on one.",
    source="RFC 7348 section 5; Linux udp_flow_src_port",
    problem="reordering when a flow changes ports, one overloaded path when all flows share one",
    invariants=("C7",),
    severity=WARNING,
    columns=(*TALK_COLUMNS, "outer_sport", "inner_sport", "inner_dport", "inner_frag", "icmp_id", "tcp_seq", "tcp_flags", "payload_len"),
)
def entropy(case: Case) -> Iterator[Finding]:
    table = case.table
    ports = (table["inner_have"] & HEADER_HAVE["ports"]) != 0
    rows = np.flatnonzero(table.have("vxlan") & ports & (table["inner_frag"] == 0))
    pair = ("outer_ip_src_hi", "outer_ip_src_lo", "outer_ip_dst_hi", "outer_ip_dst_lo")
    inner = ("vni", "inner_ip_src_hi", "inner_ip_src_lo", "inner_ip_dst_hi", "inner_ip_dst_lo", "inner_proto", "inner_sport", "inner_dport")
    flows = case.group(rows, table["capture"], *(table[name] for name in (*pair, *inner)))
    if not len(flows):
        yield unknown("no flow with ports in a tunnel", needs=_NO_TUNNEL)
        return
    findings = 0
    sports = table["outer_sport"]
    restless: dict[Address | None, list[int]] = defaultdict(list)
    # Only flows whose first port is not the port of all their frames are looked at one by one.
    ordered = sports[flows.rows].astype(np.int64)
    by_start = np.argsort(flows.starts)
    low, high = np.minimum.reduceat(ordered, flows.starts[by_start]), np.maximum.reduceat(ordered, flows.starts[by_start])
    for g in by_start[low != high].tolist():
        members = flows.members(g)
        changes = int((np.diff(sports[members].astype(np.int64)) != 0).sum())
        if changes >= 3 and not _retransmits(case, members):
            restless[case.address("outer_ip_src", int(members[0]))].append(g)
    for sender, groups in restless.items():
        findings += 1
        rows_shown = flows.first(groups[0])
        yield failed(
            f"{case.node_name(sender)} changes the outer source port within {len(groups):,} inner flows without any retransmission",
            subject=str(sender),
            nodes=case.nodes_of(sender),
            rows=rows_shown,
            expected="one source port per inner flow",
            seen=", ".join(str(int(sports[row])) for row in rows_shown),
            hint="The sender does not hash the inner headers (some switches take a new port for each packet): packets of one flow may "
            "overtake each other.",
        )
    # One port for many flows between two nodes.
    heads = flows.heads
    pairs = case.group(heads, *(table[name] for name in pair))
    for g in range(len(pairs)):
        members = pairs.members(g)
        distinct = len({tuple(int(table[name][row]) for name in inner) for row in members.tolist()}) if len(members) >= 20 else 0
        if distinct >= 20 and len(np.unique(sports[members])) == 1:
            findings += 1
            sender = case.address("outer_ip_src", int(members[0]))
            yield failed(
                f"{case.node_name(sender)} sends {distinct:,} inner flows from one outer source port, {int(sports[members[0]])}",
                subject=str(sender),
                nodes=case.nodes_of(sender),
                rows=tuple(members[:5].tolist()),
                expected="a port per flow",
                seen=f"one port for {distinct:,} flows",
                hint="The VXLAN device was made with a source port range of one port, or a NAT on the way rewrites it: all flows take one path.",
                command=f"ip -d link show type vxlan  # srcport, on {case.node_name(sender)}",
            )
    if not findings:
        yield passed(f"{len(flows):,} inner flows, each with one outer source port at a time")


def _retransmits(case: Case, rows: npt.NDArray[np.intp]) -> bool:
    """Whether a TCP flow sent something twice: Linux chooses a new path, and so a new port, after a retransmission time-out."""
    table = case.table
    if not table.have("tcp")[rows[0]]:
        return False
    syn = (table["tcp_flags"][rows] & 2) != 0
    what = table["tcp_seq"][rows].astype(np.int64)[(table["payload_len"][rows] > 0) | syn]
    return len(np.unique(what)) < len(what)


# -- checksums -------------------------------------------------------------------------------------------------------------


@check(
    "VX-CHECKSUM",
    "outer UDP checksums are zero, right, or not yet filled in",
    family="encapsulation",
    about="A receiver drops a datagram with a wrong checksum in silence. Partial and lco sums are unfinished, as is normal before a real "
    "network card.",
    source="RFC 7348 section 5 (MUST), RFC 6935; Linux checksum offloads",
    problem="offload bugs of vmxnet3 and other cards: small pings work, TCP does not: moby#41775, flannel#1279, fedora-coreos-tracker#1372",
    invariants=("B1", "C10"),
    severity=ERROR,
    columns=(*TALK_COLUMNS, "outer_checksum_class"),
)
def outer_checksum(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = (table["tunnel"] != 0) & (table["outer_checksum_class"] != 0)
    if not tunnel.any():
        yield unknown("no outer checksum could be computed", needs="whole frames (tcpdump -s 0) of an underlay interface")
        return
    kinds = table["outer_checksum_class"]
    found = False
    for node, address, count, rows in _senders(case, tunnel & (kinds == BAD)):
        found = True
        where = sorted({case.table.captures[int(table["capture"][row])].name for row in rows})
        yield failed(
            f"{count:,} frames from {node} have a wrong outer UDP checksum: receivers drop them",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="zero, right, or left to the offload",
            seen=f"neither, in {', '.join(where)}",
            hint="The network card (or its virtual one) fills in the checksum of encapsulated packets wrongly, or something rewrites "
            "packets on the way.",
            command=f"ethtool -K <interface> tx-checksum-ip-generic off  # on {node}; confirm with: nstat -az UdpInCsumErrors  # at the receiver",
        )
    if case.settings.physical:
        remote = np.zeros(len(table), bool)
        for position, vantage in enumerate(case.vantages):
            if vantage.kind == "node" and vantage.vtep is not None:
                remote |= (table["capture"] == position) & ~case.has_address("outer_ip_src", vantage.vtep)
        for node, address, count, rows in _senders(case, tunnel & remote & ((kinds == PARTIAL) | (kinds == LCO))):
            found = True
            yield failed(
                f"{count:,} frames from {node} crossed a physical underlay with an unfinished outer checksum: receivers drop them",
                subject=str(address),
                nodes=case.nodes_of(address),
                rows=rows,
                expected="a checksum filled in by the sender's card",
                seen="partial or lco",
                hint="The sender's card promises to fill in checksums of encapsulated packets and does not.",
                command=f"ethtool -K <interface> tx-checksum-ip-generic off tx-udp_tnl-csum-segmentation off  # on {node}",
            )
    zero6 = tunnel & (kinds == ZERO) & (table["outer_ip_version"] == 6)
    for node, address, count, rows in _senders(case, zero6):
        found = True
        yield failed(
            f"{node} sends {count:,} frames over IPv6 without an outer checksum",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="a checksum, unless both ends are configured for zero",
            seen="zero",
            hint="IPv6 has no header checksum: zero is allowed only between ends that agreed on it (udp6zerocsumtx, udp6zerocsumrx).",
            command=f"ip -d link show type vxlan  # on {node}: udp6zerocsumtx",
            severity=WARNING,
            invariants=("C12",),
        )
    if not found:
        counts = {CHECKSUM_CLASSES[k]: int((tunnel & (kinds == k)).sum()) for k in (GOOD, ZERO, PARTIAL, LCO)}
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        unfinished = "; unfinished ones are normal at the sender and on one physical host" if counts["partial"] or counts["lco"] else ""
        yield passed(f"outer checksums: {told}{unfinished}")


@check(
    "VX-INNER-CHECKSUM",
    "inner checksums are right or not yet filled in",
    family="encapsulation",
    about="A wrong inner TCP, UDP or ICMP checksum is dropped by the task's kernel after everything else went well.",
    source="RFC 1071; Linux checksum offloads",
    problem="NAT or card offloads that forget the inner packet: moby#37115, flannel#1929, k3s#2013",
    invariants=("B1",),
    severity=WARNING,
    columns=(*TALK_COLUMNS, "inner_checksum_class"),
)
def inner_checksum(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = (table["tunnel"] != 0) & (table["inner_checksum_class"] != 0)
    bad = tunnel & (table["inner_checksum_class"] == BAD)
    for node, address, count, rows in _senders(case, bad):
        yield failed(
            f"{count:,} inner packets from {node} have a wrong TCP, UDP or ICMP checksum",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="right, or left to the offload",
            seen="wrong",
            hint="A packet was changed (NAT, marking) without its checksum, or the sender's offload is broken for encapsulated packets.",
            command=f"ethtool -K <interface> tx-checksum-ip-generic off  # on {node}",
        )
    if not bad.any():
        yield (
            passed(f"{int(tunnel.sum()):,} inner checksums right or unfinished")
            if tunnel.any()
            else unknown("no inner checksum could be computed", needs="whole frames (tcpdump -s 0) of an underlay interface")
        )


# -- sizes -----------------------------------------------------------------------------------------------------------------


@check(
    "VX-FRAGMENT",
    "no VXLAN datagram is cut into fragments",
    family="encapsulation",
    about="A tunnel end must not fragment; routers may, and receivers may drop the pieces. Each full-size packet becomes two, and a lost "
    "piece loses both.",
    source="RFC 7348 section 4.3 (MUST NOT)",
    problem="inner MTU as large as the underlay's: ofp#164, cilium#6368",
    invariants=("C13", "B4"),
    severity=ERROR,
    columns=(*TALK_COLUMNS, "outer_frag", "outer_ttl", "outer_ip_id", "outer_sport", "wirelen"),
)
def outer_fragments(case: Case) -> Iterator[Finding]:
    table = case.table
    first = (table["outer_frag"] == FIRST) & (table["outer_proto"] == 17) & (table["tunnel"] != 0)
    found = False
    for node, address, count, rows in _senders(case, first):
        found = True
        targets, peers = _targets(case, first, address), _targets(case, table["tunnel"] != 0, address)
        one_path = len(targets) == 1 and len(peers) > 1
        hops = {int(value) for value in np.unique(table["outer_ttl"][list(rows)])}
        own = [position for position, vantage in enumerate(case.vantages) if vantage.kind == "node" and vantage.vtep == address]
        mine = first & case.has_address("outer_ip_src", address)
        left_whole = bool(own) and not bool((mine & np.isin(table["capture"], own)).any())
        itself = hops <= set(INITIAL_TTLS) and not left_whole
        largest = int(table["wirelen"][list(rows)].max())
        yield failed(
            f"{count:,} VXLAN datagrams from {node}{f' to {case.node_name(targets[0])}' if one_path else ''} travel in fragments, "
            f"cut by {'the node itself' if itself else 'something on the way (they leave the node whole)' if left_whole else 'a router on the way'}",
            subject=f"{address} -> {targets[0]}" if one_path else str(address),
            nodes=case.nodes_of(*targets, address) if one_path else case.nodes_of(address),
            rows=rows,
            expected="whole datagrams",
            seen=f"first pieces of {largest:,} bytes with TTL {', '.join(map(str, sorted(hops)))}",
            hint="The overlay's MTU plus 50 bytes is more than the underlay carries"
            + (" at the sender's own interface." if itself else ": a link on the way has a smaller MTU."),
            command=f"ip link show  # on {node}: MTU of the underlay interface; docker network create --opt "
            "com.docker.network.driver.mtu=<underlay MTU>",
            severity=ERROR if itself else WARNING,
        )
    if not found:
        count = int((table["tunnel"] != 0).sum())
        yield passed(f"{count:,} tunnel frames, none of them a fragment") if count else unknown("no tunnel frame", needs=_NO_TUNNEL)


def _targets(case: Case, rows: Mask, sender: Address | None) -> list[Address]:
    """The outer destinations of a sender's rows."""
    table = case.table
    if sender is None:
        return []
    groups = case.group(rows & case.has_address("outer_ip_src", sender), table["outer_ip_dst_hi"], table["outer_ip_dst_lo"])
    return [address for head in groups.heads.tolist() if (address := case.address("outer_ip_dst", head)) is not None]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What became of packets from one node to another, by size of the inner IP packet."""

    passed: int  # largest that was answered or acknowledged; 0: none was
    lost: tuple[int, ...]  # sizes of those larger ones that never were
    rows: tuple[int, ...]


MTU_COLUMNS = (
    "outer_frag",
    *TALK_COLUMNS,
    *CONNECTION_COLUMNS,
    "inner_ip_len",
    "outer_ip_len",
    "icmp_type",
    "icmp_code",
    "icmp_mtu",
    "icmp_id",
    "icmp_seq",
    "quoted_dport",
    "quoted_sport",
    "quoted_proto",
    "quoted_ip_dst_hi",
    "quoted_ip_dst_lo",
    "quoted_ip_src_hi",
    "quoted_ip_src_lo",
    "tcp_mss",
    "outer_checksum_class",
    "inner_checksum_class",
)


@check(
    "VX-MTU",
    "packets of every size get through",
    family="encapsulation",
    about="The underlay must carry 50 bytes more (70 over IPv6) than the largest inner packet; where it does not, small packets pass and "
    "large ones vanish. Segments that a card will cut or has joined (GSO, GRO) are larger in captures than on any wire: they do not count (B20).",
    source="RFC 7348 section 4.3; libnetwork drivers/overlay (MTU 1450)",
    problem="MTU black holes: connections open and then hang: libnetwork#2661, moby#43673, moby#36689, moby#24906",
    invariants=("B3", "C14"),
    severity=ERROR,
    columns=MTU_COLUMNS,
)
def sizes(case: Case) -> Iterator[Finding]:
    count = int((case.table["tunnel"] != 0).sum())
    findings = [*_told_by_routers(case), *_told_inside(case), *_black_holes(case), *_against_underlay(case), *_against_network(case)]
    yield from findings
    if not findings:
        lengths = case.table["inner_ip_len"][(case.table["tunnel"] != 0)]
        yield (
            passed(f"{count:,} inner packets of up to {int(lengths.max()):,} bytes, no size of them lost")
            if count
            else unknown("no tunnel frame", needs=_NO_TUNNEL)
        )


def _told_by_routers(case: Case) -> Iterator[Finding]:
    """'Fragmentation needed' and 'packet too big' about a VXLAN datagram."""
    table = case.table
    about = table.have("quoted_ports") & table.have("icmp_mtu") & (table["quoted_proto"] == 17) & (table["tunnel"] == 0)
    about &= np.isin(table["quoted_dport"], [case.data_path_port, 4789, 8472])
    groups = case.group(about, *(table[name] for name in ("quoted_ip_src_lo", "quoted_ip_dst_lo", "icmp_mtu", "inner_ip_src_lo")))
    for g, head in enumerate(groups.heads.tolist()):
        source, target = (case.quoted(name, head) for name in ("quoted_ip_src", "quoted_ip_dst"))
        router, mtu = case.address("inner_ip_src", head), int(table["icmp_mtu"][head])
        yield failed(
            f"{router} tells {case.node_name(source)} that the path to {case.node_name(target)} carries only {mtu:,} bytes",
            subject=f"{source} -> {target}",
            nodes=case.nodes_of(source, target),
            rows=groups.first(g),
            expected="an underlay for inner packets plus 50 bytes",
            seen=f"MTU {mtu:,}, good for inner packets of {mtu - 50:,}",
            hint="A link on the way has a smaller MTU than the overlay assumes.",
            command=f"docker network create --opt com.docker.network.driver.mtu={mtu} ...  # or raise the MTU of the path; confirm: ping -M "
            f"do -s {mtu - 28} {target}",
        )


def _told_inside(case: Case) -> Iterator[Finding]:
    """'Fragmentation needed' about an inner packet, told to a task by its own node's tunnel end in the name of the destination."""
    table = case.table
    about = table.have("quoted") & table.have("icmp_mtu") & (table["icmp_mtu"] > 0)
    seen: set[tuple[str, int]] = set()
    for row in np.flatnonzero(about).tolist():
        source, target = case.quoted("quoted_ip_src", row), case.quoted("quoted_ip_dst", row)
        for cluster in case.acceptable(row):
            ends = [end for end in cluster.endpoints if source in end.addresses]
            network = cluster.network_by_name.get(ends[0].network) if ends else None
            mtu = int(table["icmp_mtu"][row])
            if network is None or network.mtu is None or mtu >= network.mtu or ends[0].node is None or (ends[0].node, mtu) in seen:
                continue
            seen.add((ends[0].node, mtu))
            yield failed(
                f"{ends[0].name or source} on {ends[0].node} is told that only {mtu:,} bytes reach {target}; network {network.name} "
                f"promises {network.mtu:,}",
                subject=network.name,
                nodes=(ends[0].node,),
                rows=(row,),
                expected=f"room for {network.mtu:,} bytes",
                seen=f"{mtu:,}",
                hint=f"The underlay interface or route of {ends[0].node} carries only {mtu + 50:,} bytes: its own tunnel end answers so for "
                "larger packets.",
                command=f"ip route get {target}; ip link show  # on {ends[0].node}: mtu",
            )


def _black_holes(case: Case) -> Iterator[Finding]:
    lost = {pair: sizes for pair, sizes in _by_size(case).items() if len(sizes.lost) >= 2 and sizes.passed}
    if not lost:
        return
    ends = [case.nodes_of(source, target) for source, target in lost]
    common = [name for name in ends[0] if all(name in pair for pair in ends)]
    groups: dict[str, list[tuple[Address, Address]]] = defaultdict(list)
    one_culprit = len(lost) > 1 and len(common) == 1
    for pair in lost:
        groups[common[0] if one_culprit else " and ".join(sorted(case.nodes_of(*pair)))].append(pair)
    for name, pairs in groups.items():
        ways = ", ".join(f"{case.node_name(source)} -> {case.node_name(target)}" for source, target in pairs)
        low, high = max(lost[pair].passed for pair in pairs), min(min(lost[pair].lost) for pair in pairs)
        repeated = sum(len(lost[pair].lost) for pair in pairs)
        yield failed(
            f"{ways}: {repeated:,} inner packets of {high:,} bytes and more are never answered or acknowledged, those of up to {low:,} are",
            subject=ways,
            nodes=(name,) if one_culprit else tuple(dict.fromkeys(node for pair in pairs for node in case.nodes_of(*pair))),
            rows=tuple(row for pair in pairs for row in lost[pair].rows)[:5],
            expected=f"every size up to {high:,} answered",
            seen=f"nothing above {low:,}",
            hint=f"The underlay between them carries less than {high + 50:,} bytes and drops larger packets in silence (a tunnel, VPN, "
            "switch port or "
            "interface with a smaller MTU).",
            command=f"ping -M do -s {high + 50 - 28} {pairs[0][1]}  # from {case.node_name(pairs[0][0])}, on the underlay; ip link show  # "
            "MTUs on the way",
        )


def _by_size(case: Case) -> dict[tuple[Address, Address], _Sizes]:
    """For each ordered pair of nodes: up to which size inner packets got through, and which larger ones never did."""
    good: dict[tuple[Address, Address], int] = defaultdict(int)
    lost: dict[tuple[Address, Address], list[tuple[int, int]]] = defaultdict(list)
    _echoes(case, good, lost)
    _segments(case, good, lost)
    found: dict[tuple[Address, Address], _Sizes] = {}
    for pair, items in lost.items():
        above = [(size, row) for size, row in items if size > good[pair]]
        # Where small packets are lost as well, size is not the reason.
        if len(above) > 4 * (len(items) - len(above)):
            found[pair] = _Sizes(good[pair], tuple(size for size, _ in above), tuple(row for _, row in above)[:5])
    return found


def _outer_pair(case: Case, row: int) -> tuple[Address, Address] | None:
    source, target = case.address("outer_ip_src", row), case.address("outer_ip_dst", row)
    return (source, target) if source is not None and target is not None else None


def _echoes(case: Case, good: dict[tuple[Address, Address], int], lost: dict[tuple[Address, Address], list[tuple[int, int]]]) -> None:
    """Echo requests and replies. A reply on the wire proves that the request came through; that the reply did, only a capture at the asker proves."""
    table = case.table
    echo = table.have("icmp_echo") & (table["tunnel"] != 0) & (table["outer_frag"] == 0)
    asks = echo & np.isin(table["icmp_type"], (8, 128))
    answers = np.flatnonzero(echo & np.isin(table["icmp_type"], (0, 129)))
    key = ("vni", "inner_ip_src_lo", "inner_ip_dst_lo", "icmp_id", "icmp_seq")
    answered: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for v, s, d, i, q, capture in zip(*(table[name][answers].tolist() for name in (*key, "capture")), strict=True):
        answered[v, d, s, i, q].add(capture)
    ends = case.capture_ends
    at = [vantage.vtep if vantage.kind == "node" else None for vantage in case.vantages]
    heads = case.group(asks, *(table[name] for name in key)).heads
    for row, size, *identity in zip(*(values.tolist() for values in (heads, *(table[name][heads] for name in ("inner_ip_len", *key)))), strict=True):
        pair = _outer_pair(case, row)
        if pair is None:
            continue
        captures = answered.get(tuple(identity))
        if captures:
            good[pair] = max(good[pair], size)
            if any(at[capture] == pair[0] for capture in captures):
                good[pair[1], pair[0]] = max(good[pair[1], pair[0]], size)
        elif int(table["ts"][row]) < ends[int(table["capture"][row])] - 2 * 10**9:
            lost[pair].append((size, row))


def _segments(case: Case, good: dict[tuple[Address, Address], int], lost: dict[tuple[Address, Address], list[tuple[int, int]]]) -> None:
    """TCP segments: acknowledged ones got through; one sent three times or more without being acknowledged did not."""
    table = case.table
    payload = table["payload_len"]
    tcp = table.have("tcp") & (table["tunnel"] != 0) & (table["inner_frag"] == 0) & (table["outer_frag"] == 0)
    data, acks = np.flatnonzero(tcp & (payload > 0)), np.flatnonzero(tcp & ((table["tcp_flags"] & 16) != 0))
    if not len(data):
        return
    names = ("vni", "inner_ip_src_hi", "inner_ip_src_lo", "inner_ip_dst_hi", "inner_ip_dst_lo", "inner_sport", "inner_dport")
    back = ("vni", "inner_ip_dst_hi", "inner_ip_dst_lo", "inner_ip_src_hi", "inner_ip_src_lo", "inner_dport", "inner_sport")
    # One group per direction of data, holding its segments and the acknowledgments of the other direction.
    joined = np.concatenate([data, acks])
    is_ack = np.arange(len(joined)) >= len(data)
    groups = case.group_values([np.concatenate([table[a][data], table[b][acks]]).astype(np.uint64) for a, b in zip(names, back, strict=True)])
    for g in range(len(groups)):
        members = groups.members(g)
        segments, answers = joined[members[~is_ack[members]]], joined[members[is_ack[members]]]
        pair = _outer_pair(case, int(segments[0])) if len(segments) and len(answers) else None
        if pair is None:
            continue
        reference = int(table["tcp_seq"][segments[0]])
        highest = int(_after(table["tcp_ack"][answers], reference).max())
        ends = _after(table["tcp_seq"][segments], reference) + payload[segments].astype(np.int64)
        lengths = table["inner_ip_len"][segments[ends <= highest]]
        lengths = lengths[lengths <= 9000]  # a super-frame was cut before the wire: it proves nothing about its size
        if len(lengths):
            good[pair] = max(good[pair], int(lengths.max()))
        stuck = segments[ends > highest]
        sequence, times = np.unique(table["tcp_seq"][stuck], return_counts=True)
        captures = max(1, len(np.unique(table["capture"][stuck])))
        for value, count in zip(sequence.tolist(), times.tolist(), strict=True):
            if count >= 3 * captures:
                rows = stuck[table["tcp_seq"][stuck] == value]
                lost[pair] += [(int(table["inner_ip_len"][row]), int(row)) for row in rows[:3]]


def _after(values: npt.NDArray[np.int64], reference: int) -> npt.NDArray[np.int64]:
    """Sequence numbers as distances from one of them (RFC 9293 section 3.4: they wrap at 2^32)."""
    distance: npt.NDArray[np.int64] = (values.astype(np.int64) - reference + (1 << 31)) % (1 << 32) - (1 << 31)
    return distance


def _super_frames(case: Case) -> Mask:
    """Frames that the sender's or receiver's kernel holds as one and the wire never carried so (GSO, GRO)."""
    table = case.table
    unfinished = np.isin(table["outer_checksum_class"], (PARTIAL, LCO)) | np.isin(table["inner_checksum_class"], (PARTIAL, 0))
    found: Mask = (table["inner_proto"] == TCP) & (unfinished | (table["inner_ip_len"] > 9000) | (table["inner_ip_len"] == 0))
    return found


def _against_underlay(case: Case) -> Iterator[Finding]:
    mtu = case.settings.underlay_mtu
    if mtu is None:
        return
    table = case.table
    whole = (table["tunnel"] != 0) & ~_super_frames(case)
    for node, address, count, rows in _senders(case, whole & (table["outer_ip_len"] > mtu)):
        yield failed(
            f"{node} sends {count:,} outer packets above the underlay's MTU of {mtu:,} bytes",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected=f"at most {mtu:,} bytes",
            seen=f"up to {int(table['outer_ip_len'][list(rows)].max()):,}",
            hint="The overlay's MTU was not made for this underlay.",
            command=f"docker network create --opt com.docker.network.driver.mtu={mtu} ...",
            severity=WARNING,
        )
    offers: dict[tuple[Address, Address], tuple[int, int]] = {}
    for connection in case.connections:
        if connection.vni < 0 or connection.syn < 0 or connection.syn_ack < 0:
            continue
        told = [int(table["tcp_mss"][row]) for row in (connection.syn, connection.syn_ack)]
        overhead = 90 if connection.outer_src is None or connection.outer_src.version == 4 else 110
        if min(told) and min(told) + overhead > mtu and connection.outer_src is not None and connection.outer_dst is not None:
            offers.setdefault((connection.outer_src, connection.outer_dst), (min(told) + overhead, connection.syn_ack))
    for (source, target), (size, row) in offers.items():
        yield failed(
            f"TCP between {case.node_name(source)} and {case.node_name(target)} agrees on segments that make outer packets of {size:,} "
            f"bytes, the underlay carries {mtu:,}",
            subject=f"{source} - {target}",
            nodes=case.nodes_of(source, target),
            rows=(row,),
            expected=f"a maximum segment size of at most {mtu - 90:,}",
            seen=f"{size - 90:,}",
            hint="The overlay's MTU was not made for this underlay: full-size segments will be cut or lost.",
            command=f"docker network create --opt com.docker.network.driver.mtu={mtu} ...",
            severity=WARNING,
        )


def _against_network(case: Case) -> Iterator[Finding]:
    table = case.table
    whole = (table["tunnel"] != 0) & ~_super_frames(case)
    for vni, network in {vni: net for cluster in case.clusters for vni, net in cluster.network_by_vni.items()}.items():
        if network.mtu is None:
            continue
        over = whole & (table["vni"] == vni) & (table["inner_ip_len"] > network.mtu)
        for node, address, count, rows in _senders(case, over):
            yield failed(
                f"{node} sends {count:,} inner packets above the MTU of network {network.name}, {network.mtu:,} bytes",
                subject=network.name,
                nodes=case.nodes_of(address),
                rows=rows,
                expected=f"at most {network.mtu:,} bytes",
                seen=f"up to {int(table['inner_ip_len'][list(rows)].max()):,}",
                hint="An endpoint's interface has a larger MTU than the network, or the network was made anew with another one.",
                command="ip link show eth0  # in the task's sandbox",
                severity=WARNING,
            )


@check(
    "VX-LENGTH",
    "lengths agree from the outer packet to the inner one",
    family="encapsulation",
    about="Outer IP and UDP lengths, the tunnel header and the inner packet must fit into each other, with nothing cut off and nothing left over.",
    source="RFC 768, RFC 791, RFC 7348 section 5",
    problem="truncating taps, devices that encapsulate the frame check sequence, forged packets",
    invariants=("C25", "C22"),
    severity=ERROR,
    columns=(
        *TALK_COLUMNS,
        "outer_ip_len",
        "outer_udp_len",
        "outer_l4_offset",
        "outer_ip_offset",
        "outer_frag",
        "stop",
        "stop_layer",
        "inner_trailer",
        "wirelen",
    ),
)
def lengths(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = table["tunnel"] != 0
    found = False
    header = table["outer_l4_offset"].astype(np.int64) - table["outer_ip_offset"].astype(np.int64)
    said = table["outer_ip_len"].astype(np.int64)
    whole = tunnel & (said != 0) & (table["outer_udp_len"] != 0) & (table["outer_frag"] == 0)
    mismatch = whole & (said - header != table["outer_udp_len"])
    for node, address, count, rows in _senders(case, mismatch):
        found = True
        yield failed(
            f"{count:,} frames from {node} have an outer UDP length that does not fill the outer IP packet",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected=f"UDP length {int(said[rows[0]] - header[rows[0]]):,}",
            seen=f"{int(table['outer_udp_len'][rows[0]]):,}",
            hint="A device on the way rewrote one length and not the other.",
            invariants=("C25",),
        )
    # The two are one fault: a length that does not fit also makes the walk stop.
    broken = (
        tunnel
        & ~mismatch
        & np.isin(table["stop"], (STOPS.index("truncated"), STOPS.index("malformed")))
        & (table["stop_layer"] != LAYERS.index("dns"))
    )
    for node, address, count, rows in _senders(case, broken):
        found = True
        layer = LAYERS[int(table["stop_layer"][rows[0]])]
        yield failed(
            f"{count:,} frames from {node} end before their headers do, or have impossible ones, first at {layer}",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="complete headers",
            seen=f"{STOPS[int(table['stop'][rows[0]])]} at {layer}",
            hint="The packets were cut by something that did not say so, or are forged.",
        )
    with_inner = tunnel & ((table["inner_have"] & HEADER_HAVE["eth_dst"]) != 0) & ((table["inner_have"] & HEADER_HAVE["trailer"]) != 0)
    for node, address, count, rows in _senders(case, with_inner):
        mine = with_inner & case.has_address("outer_ip_src", address)
        if count >= 3 and bool((table["inner_trailer"][mine] == 4).all()):
            found = True
            yield failed(
                f"all {count:,} inner frames from {node} end with four bytes too many: a frame check sequence was encapsulated",
                subject=str(address),
                nodes=case.nodes_of(address),
                rows=rows,
                expected="the inner frame without its FCS",
                seen="four more bytes",
                hint="The encapsulating device does not strip the frame check sequence.",
                severity=WARNING,
                invariants=("C22",),
            )
    if not found:
        count = int(tunnel.sum())
        yield passed(f"{count:,} tunnel frames whose lengths agree") if count else unknown("no tunnel frame", needs=_NO_TUNNEL)


# -- what is inside --------------------------------------------------------------------------------------------------------


@check(
    "VX-VLAN",
    "inner frames carry no VLAN tag",
    family="encapsulation",
    about="A tunnel end should strip or drop inner VLAN tags unless it was told otherwise; Docker's never sends one.",
    source="RFC 7348 section 6.1 (SHOULD NOT)",
    problem="tagged frames leaking from a bridge into the overlay, dropped at the other end",
    invariants=("C21",),
    severity=WARNING,
    columns=(*TALK_COLUMNS, "inner_vlan_tags", "inner_vlan"),
)
def inner_vlan(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = table["tunnel"] != 0
    tagged = tunnel & (table["inner_vlan_tags"] > 0)
    for node, address, count, rows in _senders(case, tagged):
        ids = ", ".join(str(vlan) for vlan in sorted({int(table["inner_vlan"][row]) for row in rows}))
        yield failed(
            f"{node} sends {count:,} inner frames with a VLAN tag ({ids})",
            subject=f"VLAN {ids}",
            nodes=case.nodes_of(address),
            rows=rows,
            expected="untagged inner frames",
            seen=f"VLAN {ids}",
            hint="An endpoint has a VLAN device on its overlay interface, or the overlay's bridge filters VLANs.",
            command=f"ip -d link show type vlan  # in the sandboxes of {node}",
        )
    if not tagged.any():
        yield _all_of(int(tunnel.sum()), "inner frames, none with a VLAN tag")


@check(
    "VX-OUTER-VLAN",
    "tunnels use one VLAN of the underlay",
    family="encapsulation",
    about="Where VXLAN has a VLAN of its own, frames in another one leave the separation that was meant.",
    source="RFC 7348 section 7",
    problem="none known; a hint of a misconfigured trunk",
    invariants=("C24",),
    severity=INFO,
    columns=(*TALK_COLUMNS, "outer_vlan", "outer_vlan_tags"),
)
def outer_vlan(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = table["tunnel"] != 0
    if not tunnel.any():
        yield unknown("no tunnel frame", needs=_NO_TUNNEL)
        return
    ids = np.where(table["outer_vlan_tags"] > 0, table["outer_vlan"].astype(np.int64), -1)[tunnel]
    names = ", ".join("untagged" if value < 0 else f"VLAN {value}" for value in np.unique(ids).tolist())
    yield passed(f"outer frames: {names}")


@check(
    "VX-NESTING",
    "there is no tunnel inside a tunnel",
    family="encapsulation",
    about="A VXLAN frame inside a VXLAN frame comes from an overlay that runs on an overlay, or from a loop.",
    source="vxtool",
    problem="an underlay that is itself an overlay halves the room for packets; loops multiply traffic",
    invariants=("B10",),
    severity=WARNING,
    columns=TALK_COLUMNS,
    profiles={"rfc7348": INFO, "evpn": INFO, "flannel": INFO, "calico": INFO},
)
def nesting(case: Case) -> Iterator[Finding]:
    table = case.table
    nested = table["depth"] > 1
    for node, address, count, rows in _senders(case, nested):
        yield failed(
            f"{node} sends {count:,} frames with a tunnel inside a tunnel, up to {int(table['depth'][list(rows)].max())} deep",
            subject=str(address),
            nodes=case.nodes_of(address),
            rows=rows,
            expected="one tunnel header",
            seen=f"{int(table['depth'][list(rows)].max())}",
            hint="Tasks of this overlay run an overlay of their own, or a route sends tunnel traffic into the tunnel.",
            command=f"ip route; ip -d link show type vxlan  # on {node}",
        )
    if not nested.any():
        yield _all_of(int((table["tunnel"] != 0).sum()), "tunnel frames, none inside another")


@check(
    "VX-VNI-RANGE",
    "VNIs are in the range swarm mode gives out",
    family="encapsulation",
    about="Swarm mode numbers networks from 4096; lower ones were given by hand or belong to a classic overlay (from 256).",
    source="moby ovmanager.go vxlanIDStart",
    problem="none; tells which generation made the network",
    invariants=("D1",),
    severity=INFO,
    columns=TALK_COLUMNS,
    profiles={"rfc7348": None, "flannel": None, "calico": None, "evpn": None},
)
def vni_range(case: Case) -> Iterator[Finding]:
    vnis = sorted({talk.vni for talk in case.tunnel_talks})
    if not vnis:
        yield unknown("no tunnel frame", needs=_NO_TUNNEL)
        return
    low = [vni for vni in vnis if vni < 4096]
    told = f"{len(vnis)} VNIs, from {vnis[0]} to {vnis[-1]}"
    yield passed(told + (f"; below 4096: {', '.join(map(str, low[:10]))}" if low else ""))


@check(
    "VX-SENDER",
    "what the senders look like",
    family="encapsulation",
    about="TTL, don't-fragment and checksum habits tell the implementation behind each tunnel end.",
    source="invariants D3: Linux and Docker TTL 64, DF 0, checksum on; Open vSwitch DF 1, checksum 0; switches checksum 0 and a port per packet",
    problem="none; a node that looks unlike the others is worth a look",
    invariants=("D3", "C9", "C11"),
    severity=INFO,
    columns=(*TALK_COLUMNS, "outer_ttl", "outer_df", "outer_checksum_class"),
)
def fingerprint(case: Case) -> Iterator[Finding]:
    table = case.table
    tunnel = table["tunnel"] != 0
    looks: dict[str, list[str]] = defaultdict(list)
    groups = case.group(tunnel, table["outer_ip_src_hi"], table["outer_ip_src_lo"])
    for g, head in enumerate(groups.heads.tolist()):
        members = groups.members(g)
        df, kinds = bool(table["outer_df"][members].mean() > 0.5), table["outer_checksum_class"][members]
        zero = bool((kinds == ZERO).mean() > 0.5)
        look = "Open vSwitch" if df and zero else "a hardware switch" if zero else "Linux or Docker" if not df else "an unknown sender"
        looks[look].append(case.node_name(case.address("outer_ip_src", head)))
    if not looks:
        yield unknown("no tunnel frame", needs=_NO_TUNNEL)
    else:
        yield passed("; ".join(f"{', '.join(names)}: {look}" for look, names in looks.items()))
