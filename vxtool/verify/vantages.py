"""Across vantages: what left one node and did not arrive at another, arrived late, twice or out of order.

Knows what matching says (vxtool.verify.trace) and which patterns of loss have which cause; refuses to guess from one side. A frame that a capture
missed is not a lost frame: what was acknowledged without being sent again, or answered, has arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import HAVE
from vxtool.model import Mac
from vxtool.verify.case import EVIDENCE, TALK_COLUMNS, Case
from vxtool.verify.check import check
from vxtool.verify.trace import COLUMNS as TRACE_COLUMNS
from vxtool.verify.trace import MARGIN_NS, Crossing, Crossings, Mask, Positions, crossings
from vxtool.verify.verdicts import Finding, Severity, failed, passed, unknown

__all__: list[str] = []

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
FAMILY = "vantages"
COLUMNS = (*TALK_COLUMNS, *TRACE_COLUMNS)
FEW = 3
"""Frames that must be missing before it is called loss."""
SHARE = 0.01
"""Loss above this share of a direction is an error, below it a warning; below a tenth of it information."""
SMALLEST_LIMIT = 576
"""No path carries less (RFC 791): what vanishes from a smaller size on has another cause."""
DECIDED = 200
"""Missing frames of a direction that are looked at one by one."""
APART_NS = 1_000_000_000
"""Clocks that differ by more are told."""
LISTED = 12

Numbers = npt.NDArray[np.int64]


def _way(way: Crossing) -> str:
    return f"{way.source.node} -> {way.target.node}"


def _judged(case: Case, way: Crossing) -> Mask:
    """Frames in tunnels, sent while both captures ran and no change was settling."""
    judged: Mask = way.inside & way.carried & case.settled_row[way.sent]
    return judged


def _nothing(case: Case, met: Crossings) -> Finding | None:
    """Why nothing can be compared; None when something can."""
    if any(_judged(case, way).any() for way in met.ways):
        return None
    absent = _absent(case, met)
    if len({station.node for station in met.stations}) < 2:
        needs = f"captures of {' and '.join(absent[:4])} for the same time" if absent else "captures of both nodes that talk, for the same time"
        return unknown("frames can be followed only between captures of two nodes' underlay interfaces", needs=needs)
    seconds = 2 * MARGIN_NS // 1_000_000_000
    return unknown(
        "no frame in a tunnel was sent while captures of both its nodes ran",
        needs=f"captures that overlap by more than {seconds} seconds while endpoints of two nodes talk",
    )


def _absent(case: Case, met: Crossings) -> list[str]:
    """Nodes that talk in tunnels and have no capture, those of most frames first."""
    own = {address for station in met.stations for address in station.addresses}
    frames: dict[str, int] = defaultdict(int)
    known = {address for cluster in case.clusters for address in (*cluster.vteps, *cluster.node_by_address)}
    for talk in case.tunnel_talks:
        for address in (talk.outer_src, talk.outer_dst):
            if address is not None and address in known and address not in own:
                frames[f"{case.node_name(address)} ({address})"] += talk.frames
    return sorted(frames, key=lambda node: -frames[node])


# -- loss ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Loss:
    """What one direction lost, and how it looks."""

    way: Crossing
    sent: int  # frames judged
    lost: Positions  # positions in way.sent
    kind: str  # "all", "size", "endpoint", "random"
    limit: int = 0  # size: the smallest outer IP packet that was lost
    largest: int = 0  # size: the largest smaller one that arrived; 0: none did
    where: str = ""  # endpoint: address and MAC
    begins_ns: int = 0  # all: how long after the beginning; 0: from the beginning
    lasts_ns: int = 0  # all: how long it took; 0: to the end
    encrypted: bool = False  # all: only encrypted frames were lost
    other: tuple[int, int] = (0, 0)  # what else was sent between the two nodes, and how much of it arrived

    @property
    def share(self) -> float:
        return len(self.lost) / self.sent

    @property
    def severity(self) -> Severity:
        count = len(self.lost)
        if count >= FEW and (self.kind != "random" or self.share > SHARE):
            return ERROR
        return WARNING if count >= FEW and self.share > SHARE / 10 else INFO


@check(
    "VX-LOSS",
    "what leaves one node arrives at the other",
    family=FAMILY,
    about="A frame in the sender's capture that is in no capture of the receiver was lost; size, endpoint and share of what is lost tell the cause.",
    source="RFC 7348 section 4.3; Linux Documentation/networking/segmentation-offloads (frames cut and joined are compared byte by byte)",
    problem="VXLAN swallowed by switches and clouds, MTU black holes, lossy links: moby#33416, moby#44551, libnetwork#2661, flannel#2388",
    invariants=("B5", "B3", "B7"),
    severity=ERROR,
    columns=COLUMNS,
)
def loss(case: Case) -> Iterator[Finding]:
    met = crossings(case)
    nothing = _nothing(case, met)
    if nothing is not None:
        yield nothing
        return
    losses, missed, sent, overlooked = [], [], 0, 0
    for way in met.ways:
        judged = np.flatnonzero(_judged(case, way))
        sent += len(judged)
        lost = judged[~way.arrived[judged]]
        if not len(lost):
            continue
        proved, arrived = _proofs(case, way, lost)
        if arrived >= max(proved, 1) and len(lost) < FEW:
            overlooked += len(lost)
        elif arrived >= max(proved, 1):
            missed.append(_missed(case, way, lost, arrived, len(judged)))
        else:
            losses.append(_looked_at(case, way, judged, lost))
    serious = [one for one in losses if one.severity is ERROR]
    for group in _grouped(case, met, serious):
        yield _finding(case, *group)
    for one in losses:
        if one.severity is not ERROR:
            yield _finding(case, (one,), _ends(case, (one,)))
    yield from missed
    strays = [finding for way in met.ways for finding in _strays(case, way)]
    yield from strays
    if not losses and not missed and not strays:
        ways = sum(bool(_judged(case, way).any()) for way in met.ways)
        told = f" ({overlooked} of them were answered, though the capture missed them)" if overlooked else ""
        yield passed(f"all {sent:,} frames in tunnels that left a node arrived at the other{told}, in {ways} directions, while both captures ran")
    absent = _absent(case, met)
    if absent:
        yield unknown(f"what is sent to or from {', '.join(absent[:4])} is seen from one side only", needs="its captures for the same time")


def _proofs(case: Case, way: Crossing, lost: Positions) -> tuple[int, int]:
    """Of frames that the target's capture does not have, as the source saw it: how many were surely lost (sent again), and how many surely arrived
    (answered, or acknowledged without being sent again)."""
    table = case.table
    rows = way.sent[lost[:: len(lost) // DECIDED + 1]]
    mine = np.isin(table["capture"], way.source.captures) & (table["tunnel"] != 0)
    tcp = table.have("tcp")
    request = table.have("icmp_echo")[rows] & np.isin(table["icmp_type"][rows], (8, 128))
    proved = arrived = 0
    back = np.flatnonzero(mine & table.have("icmp_echo") & np.isin(table["icmp_type"], (0, 129))) if request.any() else rows[:0]
    back = back[np.isin(table["icmp_id"][back], table["icmp_id"][rows[request]])]
    for row in rows[request].tolist():
        answers = (
            _is_answer(case, back, row) & (table["icmp_id"][back] == table["icmp_id"][row]) & (table["icmp_seq"][back] == table["icmp_seq"][row])
        )
        arrived += bool(answers.any())
    rows = rows[tcp[rows]]
    # Of a million segments only those on the ports of these, in either direction.
    ports = table["inner_sport"].astype(np.int64) * table["inner_dport"]
    segments = np.flatnonzero(mine & tcp & np.isin(ports, ports[rows])) if len(rows) else rows
    for row in rows.tolist():
        length = int(table["payload_len"][row]) + bool(int(table["tcp_flags"][row]) & 3)  # SYN and FIN take one number
        if not length:
            continue
        near = segments[(segments != row) & (table["ts"][segments] >= table["ts"][row])]
        ports = (table["inner_sport"][near] == table["inner_sport"][row]) & (table["inner_dport"][near] == table["inner_dport"][row])
        same = (
            ports
            & (table["inner_ip_src_lo"][near] == table["inner_ip_src_lo"][row])
            & (table["inner_ip_dst_lo"][near] == table["inner_ip_dst_lo"][row])
        )
        offset = _after(table["tcp_seq"][near[same]], int(table["tcp_seq"][row]))
        size = table["payload_len"][near[same]].astype(np.int64) + ((table["tcp_flags"][near[same]] & 3) != 0)
        if ((offset < length) & (offset + size > 0)).any():
            proved += 1
            continue
        answers = (
            _is_answer(case, near, row)
            & (table["inner_sport"][near] == table["inner_dport"][row])
            & (table["inner_dport"][near] == table["inner_sport"][row])
        )
        answers &= (table["tcp_flags"][near] & 16) != 0
        arrived += bool((_after(table["tcp_ack"][near[answers]], int(table["tcp_seq"][row])) >= length).any())
    return proved, arrived


def _after(numbers: Numbers, base: int) -> Numbers:
    """How far TCP sequence numbers are after another, negative when before (they wrap at 2^32)."""
    distance: Numbers = (numbers.astype(np.int64) - base + (1 << 31)) % (1 << 32) - (1 << 31)
    return distance


def _is_answer(case: Case, rows: Positions, row: int) -> Mask:
    table = case.table
    answers: Mask = np.ones(len(rows), np.bool_)
    for half in ("hi", "lo"):
        answers &= table[f"inner_ip_src_{half}"][rows] == table[f"inner_ip_dst_{half}"][row]
        answers &= table[f"inner_ip_dst_{half}"][rows] == table[f"inner_ip_src_{half}"][row]
    return answers


def _looked_at(case: Case, way: Crossing, judged: Positions, lost: Positions) -> _Loss:
    """The pattern of what was lost: everything, the large ones, one endpoint's, or some of all kinds."""
    table = case.table
    arrived = judged[way.arrived[judged]]
    first, last = int(way.times[lost].min()), int(way.times[lost].max())
    # An encrypted network beside plain ones is another protocol: a path may carry one of the two.
    esp = table.have("esp")[way.sent]
    alike = arrived[np.isin(esp[arrived], np.unique(esp[lost]))]
    between = alike[(way.times[alike] >= first) & (way.times[alike] <= last)]
    plain = np.flatnonzero(way.inside & ~way.carried)
    other = (len(plain), int(way.arrived[plain].sum()))
    if len(lost) >= FEW and not len(between):
        # Two losses at one moment are a burst; an outage takes longer, or never ends.
        begins = first - way.window[0] if (way.times[alike] < first).any() else 0
        ends = (way.times[alike] > last).any()
        if not ends or last - first > 100_000_000:
            lasts = last - first if ends else 0
            return _Loss(way, len(lost) + len(alike), lost, "all", begins_ns=begins, lasts_ns=lasts, encrypted=bool(esp[lost].all()), other=other)
    size = table["outer_ip_len"].astype(np.int64)
    limit, most = int(size[way.sent[lost]].min()), int(size[way.sent[lost]].max())
    # Super-frames of segmentation offload pass where their segments would not: only sizes up to the largest lost one are compared.
    large = judged[(size[way.sent[judged]] >= limit) & (size[way.sent[judged]] <= most)]
    smaller = size[way.sent[arrived]]
    smaller = smaller[smaller < limit]
    if len(lost) >= FEW and limit >= SMALLEST_LIMIT and len(lost) >= 0.95 * len(large) and len(smaller):
        return _Loss(way, len(judged), lost, "size", limit=limit, largest=int(smaller.max()), other=other)
    target = [table[name][way.sent] for name in ("vni", "inner_eth_dst", "inner_ip_dst_hi", "inner_ip_dst_lo")]
    one = int(lost[0])
    same = np.logical_and.reduce([column == column[one] for column in target])
    if len(lost) >= FEW and same[lost].all() and not same[arrived].any() and len(arrived):
        row = int(way.sent[one])
        where = f"{case.address('inner_ip_dst', row) or '?'} ({Mac(int(table['inner_eth_dst'][row]))}, VNI {int(table['vni'][row])})"
        return _Loss(way, len(judged), lost, "endpoint", where=where, other=other)
    return _Loss(way, len(judged), lost, "random", other=other)


def _grouped(case: Case, met: Crossings, losses: Sequence[_Loss]) -> Iterator[tuple[tuple[_Loss, ...], tuple[str, ...]]]:
    """Losses that have one cause together, with its nodes: a node toward or from which every direction loses, else each direction by itself."""
    left = list(losses)
    for kind in ("all", "size", "random", "endpoint"):
        while mine := [one for one in left if one.kind == kind]:
            whole = _whole_node(case, met, mine) if kind != "endpoint" else None
            node, group = whole if whole is not None else (None, _both_ways(mine))
            yield tuple(group), (node,) if node is not None else _ends(case, group)
            left = [one for one in left if one not in group]


def _whole_node(case: Case, met: Crossings, losses: Sequence[_Loss]) -> tuple[str, list[_Loss]] | None:
    """The node that explains most of these losses: at least two directions toward it, or two from it, fail, and none that could is fine."""
    best: tuple[str, list[_Loss]] | None = None
    for node in dict.fromkeys(name for one in losses for name in (one.way.target.node, one.way.source.node)):
        group: list[_Loss] = []
        for end in ("target", "source"):
            failing = [one for one in losses if getattr(one.way, end).node == node]
            others = {one.way.source.node if end == "target" else one.way.target.node for one in failing}
            fine = [way for way in met.ways if getattr(way, end).node == node and not any(way is one.way for one in failing)]
            if len(others) >= 2 and not any(_contradicts(case, way, failing) for way in fine):
                group += failing
        if group and (best is None or len(group) > len(best[1])):
            best = node, group
    return best


def _contradicts(case: Case, way: Crossing, losses: Sequence[_Loss]) -> bool:
    """Whether enough frames that should have been lost with these got through in another direction."""
    judged = np.flatnonzero(_judged(case, way))
    kind = losses[0].kind
    if kind == "size":
        size = case.table["outer_ip_len"][way.sent[judged]]
        limit = min(one.limit for one in losses)
        most = max(int(case.table["outer_ip_len"][one.way.sent[one.lost]].max()) for one in losses)
        judged = judged[(size >= limit) & (size <= most)]
    if not len(judged):
        return False
    share = min(one.share for one in losses) if kind == "random" else 1.0
    missing = len(judged) - int(way.arrived[judged].sum())
    # Five expected losses and less than a quarter of them seen: by chance in less than one of a hundred cases.
    return len(judged) * share >= (5 if kind == "random" else 1) and missing < 0.25 * len(judged) * share


def _both_ways(losses: Sequence[_Loss]) -> list[_Loss]:
    """The first loss, with that of the opposite direction when it is of the same kind."""
    first = losses[0]
    pair = {first.way.source.node, first.way.target.node}
    return [one for one in losses if {one.way.source.node, one.way.target.node} == pair]


def _ends(case: Case, losses: Sequence[_Loss]) -> tuple[str, ...]:
    del case
    return tuple(dict.fromkeys(name for one in losses for name in (one.way.source.node, one.way.target.node)))


def _finding(case: Case, losses: tuple[_Loss, ...], nodes: tuple[str, ...]) -> Finding:
    first = max(losses, key=lambda one: len(one.lost))
    lost, sent = sum(len(one.lost) for one in losses), sum(one.sent for one in losses)
    ways = ", ".join(dict.fromkeys(_way(one.way) for one in losses))
    share = f"{lost:,} of {sent:,} frames ({100 * lost / sent:.1f} %)"
    one_node = len(nodes) == 1 and len(losses) > 1
    toward = all(one.way.target.node == nodes[0] for one in losses)
    from_it = all(one.way.source.node == nodes[0] for one in losses)
    path = f"{'to' if toward else 'from' if from_it else 'to and from'} {nodes[0]}" if one_node else ways
    message, seen, hint, invariants = _words(case, first, losses, share, path)
    port = case.data_path_port
    size = f" and greater {first.limit + 13}" if first.kind == "size" else ""
    source, target = first.way.source, first.way.target
    command = (
        f"tcpdump -ni <interface> 'udp port {port} and host {source.addresses[0]}{size}'  # on {target.node}, and at every hop from {source.node}"
    )
    if first.kind == "size":
        command = (
            f"ping -M do -c 3 -s {max(first.limit - 28, 0)} {target.addresses[0]}  # on {source.node}; then: ip link show | grep mtu, at every hop"
        )
    return failed(
        message,
        subject=nodes[0] if one_node else ways,
        nodes=nodes,
        rows=_rows(case, losses),
        expected="every frame that leaves, in the capture of the other node",
        seen=seen,
        hint=hint,
        command=command,
        severity=first.severity,
        invariants=invariants,
    )


def _words(case: Case, first: _Loss, losses: Sequence[_Loss], share: str, path: str) -> tuple[str, str, str, tuple[str, ...]]:
    port = case.data_path_port
    lost = sum(len(one.lost) for one in losses)
    sent, arrived = sum(one.other[0] for one in losses), sum(one.other[1] for one in losses)
    if first.kind == "all":
        begins = f" from {first.begins_ns / 1e9 + MARGIN_NS / 1e9:.1f} s on" if first.begins_ns else ""
        lasts = f" for {first.lasts_ns / 1e9:.1f} s" if first.lasts_ns else ""
        what, blocked, stands = "in a tunnel", f"UDP port {port}", ("B5",)
        if all(one.encrypted for one in losses):
            what, blocked, stands = "encrypted (ESP)", "IP protocol 50 (ESP)", ("B17",)
        rest = f"; other traffic passes ({arrived:,} of {sent:,} frames)" if arrived else ""
        hint = (
            f"{blocked} is blocked or swallowed between the nodes (switch, hypervisor, security group), while other traffic passes."
            if arrived
            else "The path is cut for everything in this direction, or the receiving capture did not see the interface that VXLAN arrives on."
        )
        return (
            f"nothing {what} arrives {path}{begins}{lasts}: {lost:,} frames leave, none is at the other end{rest}",
            share + " lost",
            hint,
            stands,
        )
    if first.kind == "size":
        limit, largest = min(one.limit for one in losses), max(one.largest for one in losses)
        mtu = (largest if largest < limit else limit - 1) - 50
        arrived_upto = f", up to {largest:,} they arrive" if largest < limit else ""
        return (
            f"outer IP packets of {limit:,} bytes and more never arrive {path}: {lost:,} frames{arrived_upto}",
            f"{share} lost, all of {limit:,} bytes (inner IP {limit - 50:,}) or more",
            f"An MTU black hole: a link or device on the way carries less than {limit:,} bytes and nobody is told. Raise its MTU, or give the "
            f"network a smaller one (docker network create --opt com.docker.network.driver.mtu={mtu}).",
            ("B3", "C14"),
        )
    if first.kind == "endpoint":
        return (
            f"everything for {first.where} is lost {path} ({lost:,} frames); frames for others arrive",
            f"{share} lost, all for one endpoint",
            "Something on the way filters by what is inside the tunnel, or the frames leave on an interface of the sender that leads elsewhere.",
            ("B5", "B7"),
        )
    return (
        f"{share} are lost {path}, of all sizes and endpoints",
        f"{share} lost",
        "A lossy link, an overloaded queue or policer on the way, or a duplex mismatch; when tcpdump reported dropped packets, its own buffer.",
        ("B5", "B2"),
    )


def _rows(case: Case, losses: Sequence[_Loss]) -> tuple[int, ...]:
    """Lost frames as they left, of every direction some, and for comparison one that arrived, at both ends."""
    rows = [int(one.way.sent[one.lost[turn]]) for turn in range(3) for one in losses if len(one.lost) > turn][:3]
    for one in losses:
        fine = np.flatnonzero((one.way.seen >= 0) & _judged(case, one.way))
        if len(fine):
            nearest = int(fine[np.argmin(np.abs(fine - one.lost[0]))])
            rows += [int(one.way.sent[nearest]), int(one.way.seen[nearest])]
            break
    return tuple(sorted(dict.fromkeys(rows))[:EVIDENCE])


def _missed(case: Case, way: Crossing, lost: Positions, arrived: int, sent: int) -> Finding:
    captures = ", ".join(case.table.captures[position].name for position in way.target.captures)
    return failed(
        f"{captures} misses {len(lost):,} of {sent:,} frames from {way.source.node} that were received: {arrived:,} of them are answered, or "
        "acknowledged without being sent again",
        subject=_way(way),
        nodes=(way.target.node,),
        rows=tuple(way.sent[lost[:EVIDENCE]].tolist()),
        expected="every received frame in the capture",
        seen=f"{len(lost):,} frames missing",
        hint="The capture is incomplete, not the network: tcpdump dropped packets (it says so when it ends), or they came by another interface.",
        command="tcpdump -B 65536 -s 128 ...  # a larger buffer and less of each frame",
        severity=INFO,
    )


def _strays(case: Case, way: Crossing) -> Iterator[Finding]:
    """Frames that arrive and were not seen leaving, when they are more than a few."""
    ts = case.table["ts"]
    first, last = way.window
    sent_at = ts[way.strays] - way.ahead_ns
    strays = way.strays[(sent_at >= first) & (sent_at <= last) & case.settled_row[way.strays]]
    if (case.table["have"][way.sent] & np.uint64(HAVE["esp"])).any():
        return  # what was decrypted is seen again, at the receiver only
    judged = int(_judged(case, way).sum())
    if len(strays) < FEW or len(strays) <= SHARE * (judged + len(strays)):
        return
    yield failed(
        f"{len(strays):,} frames arrive at {way.target.node} as from {way.source.node} and are not in its capture, {judged:,} are",
        subject=_way(way),
        nodes=(way.source.node, way.target.node),
        rows=tuple(strays[:EVIDENCE].tolist()),
        expected="frames that were seen leaving",
        seen=f"{len(strays):,} that were not",
        hint=f"The capture of {way.source.node} is incomplete (dropped packets, a filter, another interface), or somebody else uses its address.",
        severity=INFO,
    )


# -- delay, order, copies ------------------------------------------------------------------------------------------------------


@check(
    "VX-DELAY",
    "how long frames take from node to node",
    family=FAMILY,
    about="One-way delays from the same frame at both ends; the two clocks differ by half of what the shortest delays there and back differ.",
    source="RFC 5905 section 8 (clock offset); RFC 7679 (one-way delay)",
    problem="Clocks that differ make captures and logs of two nodes look contradictory.",
    invariants=("B2",),
    severity=INFO,
    columns=COLUMNS,
)
def delay(case: Case) -> Iterator[Finding]:
    met = crossings(case)
    ts = case.table["ts"]
    lines: list[tuple[float, Finding]] = []
    apart: dict[tuple[str, str], Crossing] = {}
    for way in met.ways:
        delays = way.delays(ts)
        if not len(delays):
            continue
        low, middle, high = (float(value) / 1e6 for value in np.percentile(delays, (0, 50, 99)))
        clock = f"; its clock is {_ahead(way.ahead_ns)}" if abs(way.ahead_ns) >= 1_000_000 else ""
        text = f"{_way(way)}: {len(delays):,} frames take {low:.3f} ms at least, {middle:.3f} ms in the middle, {high:.3f} ms at most for 99 %{clock}"
        lines.append((middle, passed(text, subject=_way(way), nodes=(way.source.node, way.target.node))))
        if abs(way.ahead_ns) > APART_NS and (way.target.node, way.source.node) not in apart:
            apart.setdefault((way.source.node, way.target.node), way)
    if not lines:
        yield _nothing(case, met) or unknown("no frame was seen at both its ends", needs="captures of both nodes in which the same frames are")
        return
    for way in _fewest(apart.values()):
        row = int(np.flatnonzero((way.seen >= 0) & way.carried)[0])
        yield failed(
            f"the clock of {way.target.node} is {_ahead(way.ahead_ns)} compared with that of {way.source.node}",
            subject=f"clocks of {way.source.node} and {way.target.node}",
            nodes=(way.target.node, way.source.node),
            rows=(int(way.sent[row]), int(way.seen[row])),
            expected="clocks that agree within a second",
            seen=f"{abs(way.ahead_ns) / 1e9:.3f} s",
            hint="One of the two is not synchronised. vxtool takes the difference out; logs and certificates do not.",
            command=f"chronyc tracking || timedatectl timesync-status  # on {way.target.node} and {way.source.node}",
        )
    lines.sort(key=lambda line: -line[0])
    yield from (finding for _, finding in lines[:LISTED])
    if len(lines) > LISTED:
        yield passed(f"{len(lines) - LISTED:,} more directions take less, {lines[LISTED][0]:.3f} ms in the middle at most")


def _ahead(ns: int) -> str:
    return f"{abs(ns) / 1e9:.3f} s {'ahead' if ns > 0 else 'behind'}"


def _fewest(ways: Iterable[Crossing]) -> list[Crossing]:
    """One for each node that is off, not one for each pair: those whose node differs from the most others come first."""
    left = list(ways)
    found: list[Crossing] = []
    while left:
        count: dict[str, int] = defaultdict(int)
        for way in left:
            for node in (way.source.node, way.target.node):
                count[node] += 1
        worst = max(count, key=lambda node: count[node])
        mine = [way for way in left if worst in (way.source.node, way.target.node)]
        found.append(next((way for way in mine if way.target.node == worst), mine[0]))
        left = [way for way in left if way not in mine]
    return found


@check(
    "VX-ORDER",
    "frames of one flow arrive in the order in which they left",
    family=FAMILY,
    about="Frames of one inner flow have one outer source port and should take one path; where they overtake one another TCP sends again in vain.",
    source="RFC 7348 section 4.1 (source port from the inner flow); RFC 4737",
    problem="Links that spread packets one by one (bonding mode balance-rr) halve the throughput of every connection.",
    invariants=("B2",),
    severity=WARNING,
    columns=COLUMNS,
)
def order(case: Case) -> Iterator[Finding]:
    met = crossings(case)
    compared = late = 0
    findings = []
    for way in met.ways:
        picked = np.flatnonzero((way.seen >= 0) & way.carried)
        if len(picked) < 2:
            continue
        overtaken, behind = _overtaken(case, way, picked)
        compared += len(picked)
        late += len(overtaken)
        share = len(overtaken) / len(picked)
        if len(overtaken) < 2 * FEW or share <= SHARE:
            continue
        some = overtaken[: EVIDENCE // 2]
        findings.append(
            failed(
                f"{len(overtaken):,} of {len(picked):,} frames ({100 * share:.1f} %) arrive {_way(way)} after frames of their flow that left later, "
                f"up to {behind} places behind",
                subject=_way(way),
                nodes=(way.source.node, way.target.node),
                rows=tuple(sorted({*way.sent[some].tolist(), *way.seen[some].tolist()})),
                expected="the order in which they left",
                seen=f"{100 * share:.1f} % out of order",
                hint="Packets of one flow take several paths or queues (bonding balance-rr, per-packet balancing), or a queue delays some of them.",
                command=f"cat /proc/net/bonding/*; tc qdisc show  # on {way.source.node} and on the way",
            )
        )
    yield from findings
    if findings:
        return
    if not compared:
        yield _nothing(case, met) or unknown(
            "no two frames were seen at both their ends", needs="captures of both nodes in which the same frames are"
        )
        return
    yield passed(f"{compared:,} frames seen at both ends, {late:,} of them overtaken by a later one of their flow")


def _overtaken(case: Case, way: Crossing, picked: Positions) -> tuple[Positions, int]:
    """Entries of `sent` that arrive after a later one of the same flow, and by how many places the worst of them."""
    table = case.table
    rows = way.sent[picked]
    flow = ("vni", "outer_sport", "inner_ip_src_lo", "inner_ip_dst_lo", "inner_proto", "inner_sport", "inner_dport")
    groups = case.group_values([table[name][rows] for name in flow])
    number = np.repeat(np.arange(len(groups)), groups.counts)
    members = np.concatenate([groups.members(g) for g in range(len(groups))]) if len(groups) else rows[:0]
    # Within each flow, in the order of arrival (the row), the place of departure should only grow.
    by_arrival = np.lexsort((way.seen[picked[members]], number))
    place = members[by_arrival] + number[by_arrival] * (len(picked) + 1)
    highest = np.maximum.accumulate(place)
    late = np.flatnonzero(place < highest)
    if not len(late):
        return picked[:0], 0
    # How many of its flow that left later were there before it: their number is at least one and at most the distance.
    behind = max(int((place[max(0, at - 1000) : at] > place[at]).sum()) for at in late[:200].tolist())
    return np.sort(picked[members[by_arrival[late]]]), behind


@check(
    "VX-COPIES",
    "what is sent once arrives once",
    family=FAMILY,
    about="The same datagram twice at the receiver, with one outer IP id, though it left once: the underlay copies frames.",
    source="RFC 7348 section 4.3; RFC 791 (identification)",
    problem="Switching loops, mirrored ports and misconfigured bonds deliver UDP requests twice.",
    invariants=("B5",),
    severity=ERROR,
    columns=COLUMNS,
)
def copies(case: Case) -> Iterator[Finding]:
    met = crossings(case)
    nothing = _nothing(case, met)
    if nothing is not None:
        yield nothing
        return
    compared = 0
    twice: list[tuple[Crossing, Positions, int]] = []
    for way in met.ways:
        first, last = way.window
        sent_at = case.table["ts"][way.copies] - way.ahead_ns
        found = way.copies[(sent_at >= first) & (sent_at <= last)]
        judged = int(_judged(case, way).sum())
        compared += judged
        if len(found):
            twice.append((way, found, judged))
    for way, found, judged in twice:
        partner = _original(case, way, int(found[0]))
        often = len(found) >= FEW and len(found) > SHARE * judged
        yield failed(
            f"{len(found):,} frames arrive {_way(way)} more often than they left ({judged:,} left)",
            subject=_way(way),
            nodes=(way.target.node, way.source.node),
            rows=tuple(sorted({*partner, *found[:2].tolist()}))[:EVIDENCE],
            expected="each datagram once",
            seen=f"{len(found):,} copies",
            hint="A loop, a mirrored port or a bond on the way doubles frames; or the capture of the receiver sees the same frame on two interfaces.",
            command=f"tcpdump -env -i <interface> 'udp port {case.data_path_port} and host {way.source.addresses[0]}'  # on {way.target.node}",
            severity=ERROR if often else WARNING,
        )
    if not twice:
        yield passed(f"{compared:,} frames compared, none arrives more often than it left")


def _original(case: Case, way: Crossing, copy: int) -> list[int]:
    """The frame as it left and as it first arrived, for a copy of it."""
    table = case.table
    same = np.flatnonzero(way.seen >= 0)
    for name in ("outer_ip_id", "outer_sport", "inner_ip_id", "tcp_seq", "payload_len", "digest"):
        same = same[table[name][way.seen[same]] == table[name][copy]]
    return [int(way.sent[same[0]]), int(way.seen[same[0]])] if len(same) else []
