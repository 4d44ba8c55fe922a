"""The same frame, found again in several captures.

Knows what tells one frame from another and what offload and clocks do to it; refuses to judge (vxtool.verify.vantages does). Four things make it
harder than comparing bytes:

* a frame is one *datagram* only together with its outer IP id and source port: retransmissions and doubled acknowledgements look alike inside;
* offload cuts and joins TCP segments (GSO, GRO), so that what left as one frame arrives as several: those are compared byte by byte of the stream;
* clocks differ, by seconds: the difference is half of what the shortest delays there and back differ (as NTP does it, RFC 5905 section 8);
* captures begin and end at different times: only what both could have seen is compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import HAVE, HEADER_HAVE
from vxtool.model import Address, from_halves, halves
from vxtool.verify.case import TALK_COLUMNS, Case

__all__ = ["COLUMNS", "MARGIN_NS", "Crossing", "Crossings", "Flow", "Packet", "Station", "Trace", "crossings", "flows", "follow"]

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.int64]
Column = npt.NDArray[np.generic]

INNER = (
    "inner_ip_src_hi",
    "inner_ip_src_lo",
    "inner_ip_dst_hi",
    "inner_ip_dst_lo",
    "inner_proto",
    "inner_ip_id",
    "inner_ip_len",
    "inner_frag_offset",
    "inner_sport",
    "inner_dport",
    "tcp_seq",
    "tcp_ack",
    "tcp_flags",
    "payload_len",
    "icmp_type",
    "icmp_id",
    "icmp_seq",
)
"""What tells one inner packet from another, and is the same in a sandbox and in a tunnel, and in captures that keep 96 bytes of each frame."""

CARRIER = ("tunnel", "vni", "esp_spi", "esp_seq")
OUTER = ("outer_ip_id", "outer_sport")
CUT = ("tunnel", "vni", "inner_ip_src_lo", "inner_ip_dst_lo", "inner_ip_id", *OUTER)
"""What the first fragment of a datagram that was cut on the way still has in common with it."""

COLUMNS = tuple(
    dict.fromkeys((*TALK_COLUMNS, *INNER, *CARRIER, *OUTER, "inner_frag", "outer_frag", "outer_ip_len", "caplen", "wirelen", "linktype", "sll_type"))
)
"""Columns a check needs when it uses `crossings`."""

MARGIN_NS = 1_000_000_000
"""The first and the last second of a capture are not judged: captures start and stop with some packets on the way."""

COOKED = (113, 276)  # LINKTYPE_LINUX_SLL and SLL2: `tcpdump -i any` shows a frame once for each interface it passes

WIDEST = 1 << 31
FEW = 5
"""Frames found at both ends that tell how two clocks differ; fewer do when they are half of what was sent."""


# -- stations ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Station:
    """One node's underlay, as one capture of it (or several at the same time) saw it."""

    node: str
    addresses: tuple[Address, ...]
    captures: tuple[int, ...]
    first_ns: int  # by its own clock; the time in which all of its captures ran
    last_ns: int
    repeats: bool  # the same frame may be in it several times


def _stations(case: Case) -> tuple[Station, ...]:
    table = case.table
    of_node: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    addresses: dict[str, dict[Address, None]] = defaultdict(dict)
    for position, vantage in enumerate(case.vantages):
        rows = case.rows_of_capture(position)
        if vantage.kind != "node" or vantage.vtep is None or not len(rows):
            continue
        name = vantage.node or str(vantage.vtep)
        times = table["ts"][rows]
        of_node[name].append((int(times.min()), int(times.max()), position))
        known = (node.addresses for cluster in case.clusters for node in cluster.nodes if node.name == name)
        addresses[name].update(dict.fromkeys((vantage.vtep, *(address for some in known for address in some))))
    found = []
    for name, spans in of_node.items():
        for group in _overlapping(sorted(spans)):
            captures = tuple(position for _, _, position in group)
            cooked = any(link in COOKED for position in captures for link in table.captures[position].linktypes)
            first, last = max(span[0] for span in group), min(span[1] for span in group)
            found.append(Station(name, tuple(addresses[name]), captures, first, last, cooked or len(captures) > 1))
    return tuple(found)


def _overlapping(spans: Sequence[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Spans of time in groups that overlap one another; files of a ring buffer follow each other and stay apart."""
    groups: list[list[tuple[int, int, int]]] = []
    end = -(2**63)
    for span in spans:
        if groups and span[0] < end:
            groups[-1].append(span)
        else:
            groups.append([span])
            end = span[1]
        end = max(end, span[1])
    return groups


# -- crossings -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crossing:
    """Everything one node sent to another, and what of it was seen there. Arrays are parallel to `sent`, in the order of sending."""

    source: Station
    target: Station
    sent: Positions  # rows at the source
    seen: Positions  # row at the target, -1: not seen as it was sent
    joined: Mask  # not seen as it was sent, but all its bytes are in segments that offload cut or joined
    strays: Positions  # rows at the target that were not seen leaving
    copies: Positions  # rows at the target that repeat a datagram sent once
    carried: Mask  # in a tunnel or encrypted; the rest is other traffic between the two nodes
    ahead_ns: int  # clock of the target minus clock of the source
    clock_known: bool  # false: nothing tells, so that the clocks are taken to agree
    times: Numbers  # of sending, by the source's clock

    @property
    def arrived(self) -> Mask:
        return (self.seen >= 0) | self.joined

    @cached_property
    def window(self) -> tuple[int, int]:
        """When both captures ran, by the source's clock, without MARGIN_NS at both ends. Empty when its end is not after its beginning."""
        first = max(self.source.first_ns, self.target.first_ns - self.ahead_ns) + MARGIN_NS
        return first, min(self.source.last_ns, self.target.last_ns - self.ahead_ns) - MARGIN_NS

    @cached_property
    def inside(self) -> Mask:
        """Sent while both captures ran."""
        first, last = self.window
        inside: Mask = (self.times >= first) & (self.times <= last)
        return inside

    def delays(self, ts: Numbers) -> Numbers:
        """Nanoseconds on the way by the two clocks, the difference of the clocks taken out; of the frames that were seen."""
        ok = (self.seen >= 0) & self.carried
        delays: Numbers = ts[self.seen[ok]] - ts[self.sent[ok]] - self.ahead_ns
        return delays


@dataclass(frozen=True)
class Crossings:
    """All pairs of stations of a case."""

    stations: tuple[Station, ...]
    ways: tuple[Crossing, ...]
    clock_ns: Mapping[int, int]  # position in stations -> how far its clock is ahead of the first station's


_MEMORY: WeakKeyDictionary[Case, Crossings] = WeakKeyDictionary()


def crossings(case: Case) -> Crossings:
    """Found once for all checks of a case. Needs COLUMNS and the table's digests."""
    found = _MEMORY.get(case)
    if found is None:
        found = _MEMORY[case] = _crossings(case)
    return found


@dataclass(frozen=True, slots=True)
class _Match:
    sent: Positions
    seen: Positions
    joined: Mask
    strays: Positions
    copies: Positions


def _crossings(case: Case) -> Crossings:
    stations = _stations(case)
    if len({station.node for station in stations}) < 2:
        return Crossings(stations, (), dict.fromkeys(range(len(stations)), 0))
    ts = case.table["ts"]
    rows_of = _rows_between(case, stations)
    nodes = [station.node for station in stations]
    matches: dict[tuple[int, int], _Match] = {}
    for i, source in enumerate(stations):
        for j, target in enumerate(stations):
            if source.node == target.node:
                continue
            sent = rows_of.get((i, nodes[i], nodes[j]), _NONE)
            got = rows_of.get((j, nodes[i], nodes[j]), _NONE)
            if len(sent) and (len(got) or source.first_ns < target.last_ns):
                matches[i, j] = _match(case, source, target, sent, got)
    clock, linked = _clocks(len(stations), matches, ts)
    ways = []
    for (i, j), match in matches.items():
        carried = _carried(case, match.sent)
        ways.append(
            Crossing(
                stations[i],
                stations[j],
                match.sent,
                match.seen,
                match.joined,
                match.strays[_carried(case, match.strays)],
                match.copies[_carried(case, match.copies)],
                carried,
                clock[j] - clock[i],
                linked[i] == linked[j],
                ts[match.sent],
            )
        )
    return Crossings(stations, tuple(ways), clock)


_NONE = np.zeros(0, np.intp)


def _carried(case: Case, rows: Positions) -> Mask:
    carried: Mask = (case.table["tunnel"][rows] != 0) | ((case.table["have"][rows] & np.uint64(HAVE["esp"])) != 0)
    return carried


def _rows_between(case: Case, stations: Sequence[Station]) -> dict[tuple[int, str, str], Positions]:
    """(station, sending node, receiving node) -> rows of that station's captures with the outer addresses of the two."""
    table = case.table
    names = list(dict.fromkeys(station.node for station in stations))
    known = sorted((*halves(address), names.index(station.node)) for station in stations for address in station.addresses)
    high, low, owner = (np.array(values) for values in zip(*sorted(known, key=lambda item: item[1]), strict=True))
    low, high = low.astype(np.uint64), high.astype(np.uint64)

    def node_of(side: str) -> Numbers:
        lows = table[f"outer_ip_{side}_lo"].astype(np.uint64)
        place = np.minimum(np.searchsorted(low, lows), len(low) - 1)
        fits = (low[place] == lows) & (high[place] == table[f"outer_ip_{side}_hi"])
        return np.where(fits, owner[place], -1)

    source, target = node_of("src"), node_of("dst")
    own = np.full(max(len(table.captures), 1), -1)
    station_of = own.copy()
    for i, station in enumerate(stations):
        own[list(station.captures)] = names.index(station.node)
        station_of[list(station.captures)] = i
    at = own[table["capture"]]
    has_ip = (table["outer_have"] & np.uint32(HEADER_HAVE["ip"])) != 0
    rows = np.flatnonzero(has_ip & (source >= 0) & (target >= 0) & (source != target) & ((at == source) | (at == target)) & (at >= 0))
    if not len(rows):
        return {}
    count = len(names)
    key = (station_of[table["capture"][rows]] * count + source[rows]) * count + target[rows]
    order = np.argsort(key, kind="stable")
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    parts = np.split(rows[order], cuts)
    found = {}
    for part, first in zip(parts, key[order][[0, *cuts.tolist()]].tolist(), strict=True):
        found[first // (count * count), names[first // count % count], names[first % count]] = part
    return found


def _labels(case: Case, columns: Sequence[Column]) -> Numbers:
    """A number for each entry, the same for entries that agree in all columns."""
    groups = case.group_values(columns)
    starts = np.sort(groups.starts)
    labels = np.empty(len(groups.rows), np.int64)
    labels[groups.rows] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(groups.rows))))
    return labels


def _ranks(labels: Numbers) -> Numbers:
    """How many entries before it have the same label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(labels) else _NONE
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(begins, np.diff(np.append(begins, len(labels))))
    return ranks


def _match(case: Case, source: Station, target: Station, sent: Positions, got: Positions) -> _Match:
    # Fewer bytes than the digest covers were kept in a snapped capture, and frames there have none.
    digests = not any(case.table.captures[position].snapped for position in (*source.captures, *target.captures))

    whole = ("digest",) if digests else ()

    def labelled(rows: Positions, others: Positions, *names: str) -> tuple[Numbers, Numbers]:
        both = np.concatenate((rows, others))
        labels = _labels(case, [case.table[name][both] for name in names])
        return labels[: len(rows)], labels[len(rows) :]

    left, right = labelled(sent, got, *CARRIER, *INNER, *OUTER, *whole)
    if source.repeats:
        keep = _ranks(left) == 0
        sent, left = sent[keep], left[keep]
    if target.repeats:
        keep = _ranks(right) == 0
        got, right = got[keep], right[keep]
    seen = np.full(len(sent), -1, np.intp)
    taken = np.zeros(len(got), np.bool_)
    pairs = _pairs(left, right)
    seen[pairs[0]], taken[pairs[1]] = got[pairs[1]], True
    copy = ~taken & np.isin(right, left)
    taken |= copy
    # Some routers and clouds write their own outer IP id or source port, some cut datagrams in pieces: what is left is compared by less.
    here, there = np.flatnonzero(seen < 0), np.flatnonzero(~taken)
    for names, candidates in (((*CARRIER, *INNER, *whole), there), (CUT, there[case.table["outer_frag"][got[there]] != 0])):
        candidates = candidates[~taken[candidates]]
        if len(here) and len(candidates):
            pairs = _pairs(*labelled(sent[here], got[candidates], *names))
            seen[here[pairs[0]]], taken[candidates[pairs[1]]] = got[candidates[pairs[1]]], True
            here = here[seen[here] < 0]
    there = there[~taken[there]]
    joined, explained = np.zeros(len(sent), np.bool_), np.zeros(len(got), np.bool_)
    if len(here) and len(there):
        joined[here] = _same_bytes(case, sent[here], got[there])
        explained[there] = _same_bytes(case, got[there], sent[here])
    return _Match(sent, seen, joined, got[~taken & ~explained], got[copy])


def _pairs(left: Numbers, right: Numbers) -> tuple[Positions, Positions]:
    """Positions of entries that belong together: the first with a label on one side and the first on the other, the second and the second, ..."""
    width = len(left) + len(right) + 1
    _, a, b = np.intersect1d(left * width + _ranks(left), right * width + _ranks(right), assume_unique=True, return_indices=True)
    return a, b


def _same_bytes(case: Case, rows: Positions, others: Positions) -> Mask:
    """For rows that are TCP segments: whether all their bytes are among those of `others`, each byte as often as it was sent."""
    table = case.table
    both = np.concatenate((rows, others))
    length = table["payload_len"][both].astype(np.int64)
    data = ((table["have"][both] & np.uint64(HAVE["tcp"])) != 0) & (length > 0)
    result = np.zeros(len(rows), np.bool_)
    if not data[: len(rows)].any() or not data[len(rows) :].any():
        return result
    flow = _labels(case, [table[name][both] for name in ("vni", *INNER[:5], "inner_sport", "inner_dport")])
    sequence = table["tcp_seq"][both].astype(np.int64)
    base = np.zeros(int(flow.max()) + 1, np.int64)
    base[flow[::-1]] = sequence[::-1]
    # Sequence numbers wrap: each is the distance from its flow's first, and flows lie one after the other on a line.
    begin = ((sequence - base[flow] + WIDEST) % (2 * WIDEST)) + flow * (4 * WIDEST)
    end = begin + length
    marks = np.unique(np.concatenate((begin[data], end[data])))
    first, last = np.searchsorted(marks, begin), np.searchsorted(marks, end)
    mine = np.arange(len(both)) < len(rows)

    def depth(mask: Mask) -> Numbers:
        change = np.bincount(first[mask], minlength=len(marks) + 1) - np.bincount(last[mask], minlength=len(marks) + 1)
        depths: Numbers = np.cumsum(change)[: len(marks)]
        return depths

    missing = np.maximum(depth(data & mine) - depth(data & ~mine), 0)
    at = np.flatnonzero(data & mine)
    # The most that is missing anywhere in a segment; a segment that was sent n times and arrived m times is lost the first n - m times.
    bounds = np.column_stack((first[at], last[at])).ravel()
    worst = np.maximum.reduceat(np.append(missing, 0), bounds)[::2]
    result[at] = _ranks(begin[at]) >= worst
    return result


def _agree(delays: Numbers, sent: int) -> bool:
    """Whether these are delays of the same frames: captures of other times have lookalikes too, but not all of them equally far apart."""
    if len(delays) < FEW and 2 * len(delays) < max(sent, 1):
        return False
    near = np.abs(delays - delays[len(delays) // 2]) < MARGIN_NS
    return bool(near.mean() >= 0.9)


def _clocks(count: int, matches: Mapping[tuple[int, int], _Match], ts: Numbers) -> tuple[dict[int, int], dict[int, int]]:
    """How far each station's clock is ahead of the first of those it is linked with, and the number of that first one."""
    least: dict[tuple[int, int], tuple[int, int]] = {}
    for pair, match in matches.items():
        ok = match.seen >= 0
        delays = np.sort(ts[match.seen[ok]] - ts[match.sent[ok]])
        if _agree(delays, len(match.sent)):
            # Not the very least: one wrong pair in a hundred may not move the clock.
            least[pair] = int(delays[len(delays) // 100]), len(delays)
    links: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for i in range(count):
        for j in range(i + 1, count):
            there, back = least.get((i, j)), least.get((j, i))
            if there is None and back is None:
                continue
            if there is not None and back is not None:
                ahead, weight = (there[0] - back[0]) // 2, 2 * min(there[1], back[1])
            else:
                ahead, weight = (there[0], 1) if there is not None else (-back[0] if back is not None else 0, 1)
            links[i].append((weight, j, ahead))
            links[j].append((weight, i, -ahead))
    clock, linked = {}, {}
    for root in range(count):
        if root in clock:
            continue
        clock[root], linked[root] = 0, root
        edge = [(weight, root, j, ahead) for weight, j, ahead in links[root]]
        while edge:
            edge.sort(key=lambda item: item[0])
            _, i, j, ahead = edge.pop()
            if j not in clock:
                clock[j], linked[j] = clock[i] + ahead, root
                edge.extend((weight, j, k, more) for weight, k, more in links[j] if k not in clock)
    return clock, linked


# -- one flow ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flow:
    """Two endpoints that exchange packets: the addresses and ports of the side that was heard first, and of the other."""

    proto: int
    src: Address
    sport: int  # 0 for what has no ports; an ICMP echo has its identifier in both
    dst: Address
    dport: int
    vni: int = -1  # of the first frame in a tunnel
    frames: int = 0
    captures: tuple[int, ...] = ()  # in which it was seen
    first_ns: int = 0

    def __str__(self) -> str:
        if self.sport or self.dport:
            return f"{_with_port(self.src, self.sport)} > {_with_port(self.dst, self.dport)}"
        return f"{self.src} > {self.dst}"


def _with_port(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Packet:
    """One inner packet, wherever it was seen."""

    forward: bool
    at_ns: int  # when it was first seen, by the clock of the first column
    rows: Mapping[int, int]  # capture -> row; absent: not seen there
    parts: Mapping[int, tuple[int, ...]]  # capture -> rows that hold its bytes, cut or joined by offload
    running: frozenset[int]  # captures that ran at that time


@dataclass(frozen=True)
class Trace:
    """A flow through all captures in which it was seen."""

    flow: Flow
    columns: tuple[int, ...]  # captures, in the order in which its first packets pass them
    clock_ns: Mapping[int, int]  # capture -> how far its clock is ahead of the first column's
    packets: tuple[Packet, ...]


def _endpoints(case: Case) -> tuple[Positions, list[Column]]:
    """Rows of IP packets that are innermost and not a tunnel or control of the underlay, and for each the columns that name its flow."""
    table = case.table
    rows = np.flatnonzero(((table["inner_have"] & np.uint32(HEADER_HAVE["ip"])) != 0) & (table["control"] == 0) & ~table.have("esp"))
    ports = (table["inner_have"][rows] & np.uint32(HEADER_HAVE["ports"])) != 0
    echo = (table["have"][rows] & np.uint64(HAVE["icmp_echo"])) != 0
    sport = np.where(ports, table["inner_sport"][rows], np.where(echo, table["icmp_id"][rows], 0))
    dport = np.where(ports, table["inner_dport"][rows], np.where(echo, table["icmp_id"][rows], 0))
    addresses = [table[name][rows] for name in INNER[:4]]
    return rows, [table["inner_proto"][rows], *addresses, sport, dport]


def flows(case: Case, *, tunnelled: bool = True) -> Iterator[Flow]:
    """All flows, those seen in most captures first, then those of most frames. tunnelled: only those that cross the underlay in a tunnel."""
    table = case.table
    rows, (proto, shi, slo, dhi, dlo, sport, dport) = _endpoints(case)
    if not len(rows):
        return
    swap = np.greater(slo, dlo) | ((slo == dlo) & np.greater(sport, dport))
    sides = [np.where(swap, b, a) for a, b in ((shi, dhi), (slo, dlo), (dhi, shi), (dlo, slo), (sport, dport), (dport, sport))]
    groups = case.group_values([proto, *sides])
    found = []
    for g in range(len(groups)):
        members = groups.members(g)
        mine = rows[members]
        carried = table["tunnel"][mine] != 0
        if tunnelled and not carried.any():
            continue
        first = int(members[np.argmin(table["ts"][mine])])
        found.append(
            Flow(
                int(proto[first]),
                from_halves(int(shi[first]), int(slo[first])),
                int(sport[first]),
                from_halves(int(dhi[first]), int(dlo[first])),
                int(dport[first]),
                int(table["vni"][mine[carried][0]]) if carried.any() else -1,
                len(mine),
                tuple(np.unique(table["capture"][mine]).tolist()),
                int(table["ts"][mine].min()),
            )
        )
    found.sort(key=lambda flow: (-len(flow.captures), -flow.frames, flow.first_ns))
    yield from found


def follow(case: Case, flow: Flow) -> Trace | None:
    """A flow's packets, each with its row in every capture; None when no capture has any. Ports of 0 stand for any port."""
    table = case.table
    rows, (proto, shi, slo, dhi, dlo, sport, dport) = _endpoints(case)
    (ahi, alo), (bhi, blo) = halves(flow.src), halves(flow.dst)

    def is_side(high: Column, low: Column, port: Column, wanted: tuple[int, int, int]) -> Mask:
        fits: Mask = (high == np.uint64(wanted[0])) & (low == np.uint64(wanted[1]))
        return fits & (port == wanted[2]) if wanted[2] else fits

    a, b = (ahi, alo, flow.sport), (bhi, blo, flow.dport)
    forward = is_side(shi, slo, sport, a) & is_side(dhi, dlo, dport, b)
    backward = is_side(shi, slo, sport, b) & is_side(dhi, dlo, dport, a)
    chosen = (forward | backward) & ((proto == flow.proto) if flow.proto >= 0 else True)
    if not chosen.any():
        return None
    chosen |= _later_pieces(case, rows, chosen)
    rows, forward = rows[chosen], forward[chosen] | (_late(case, rows[chosen]) & (slo[chosen] == np.uint64(alo)))
    captures = table["capture"][rows].astype(np.int64)
    ts = table["ts"]
    columns = np.unique(captures).tolist()
    labels = _labels(case, [table[name][rows] for name in INNER])
    clock = _capture_clocks(case, columns, _by_rank(case, rows, labels, forward))
    found_in = _sightings(case, rows, labels, clock)
    ways = dict(zip(rows.tolist(), forward.tolist(), strict=True))
    sightings = [(ways[next(iter(found.values()))], found) for found in found_in]
    begins = min(sightings, key=lambda item: _first(ts, clock, item[1]))[0]
    columns = _in_order(columns, [found for way, found in sightings if way == begins], ts, clock)
    shift = clock[columns[0]]
    clock = {capture: ahead - shift for capture, ahead in clock.items()}
    spans = {capture: (int(ts[some].min()), int(ts[some].max())) for capture in columns if len(some := case.rows_of_capture(capture))}
    packets = []
    for (way, found), parts in zip(sightings, _parts(case, [found for _, found in sightings], columns), strict=True):
        at = _first(ts, clock, found)
        running = frozenset(capture for capture, (first, last) in spans.items() if first <= at + clock[capture] <= last)
        packets.append(Packet(way, at, found, parts, running))
    packets.sort(key=lambda packet: packet.at_ns)
    return Trace(flow, tuple(columns), clock, tuple(packets))


def _late(case: Case, rows: Positions) -> Mask:
    late: Mask = case.table["inner_frag"][rows] == 2
    return late


def _later_pieces(case: Case, rows: Positions, chosen: Mask) -> Mask:
    """Later fragments, which have no ports, of the datagrams whose first ones were chosen."""
    table = case.table
    pieces = table["inner_frag"][rows] != 0
    if not (pieces & chosen).any():
        return np.zeros(len(rows), np.bool_)
    labels = _labels(case, [table[name][rows] for name in (*INNER[:6], "inner_ip_version")])
    found: Mask = pieces & np.isin(labels, labels[pieces & chosen])
    return found


def _cooked(case: Case) -> Mask:
    """For each capture whether a frame may be in it once for every interface."""
    return np.array([any(link in COOKED for link in capture.linktypes) for capture in case.table.captures], np.bool_)


def _by_rank(case: Case, rows: Positions, labels: Numbers, forward: Mask) -> list[tuple[bool, Mapping[int, int]]]:
    """Packets as they belong together without any clock: the first that looks so in each capture, the second in each, ..."""
    captures = case.table["capture"][rows].astype(np.int64)
    ranks = _ranks(labels * len(case.table.captures) + captures)
    found: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    ways: dict[tuple[int, int], bool] = {}
    for label, rank, capture, row, way in zip(*(some.tolist() for some in (labels, ranks, captures, rows, forward)), strict=True):
        found[label, rank][capture] = row
        ways[label, rank] = way
    return [(ways[key], some) for key, some in found.items()]


def _sightings(case: Case, rows: Positions, labels: Numbers, clock: Mapping[int, int]) -> list[dict[int, int]]:
    """Packets, each as capture -> row. Between stations as the outer headers tell, elsewhere the nearest in time of those that look the same."""
    table = case.table
    captures = table["capture"][rows].astype(np.int64)
    first = ~(_cooked(case)[captures] & (_ranks(labels * len(table.captures) + captures) > 0))
    rows, labels, captures = rows[first], labels[first], captures[first]
    came_from: dict[int, int] = {}
    for way in crossings(case).ways:
        mine = np.flatnonzero((way.seen >= 0) & np.isin(way.sent, rows))
        came_from.update(zip(way.seen[mine].tolist(), way.sent[mine].tolist(), strict=True))
    times = table["ts"][rows] - np.array([clock[capture] for capture in captures.tolist()], np.int64)
    senders = set(came_from.values())
    turns = [
        (0 if row in senders else 1 if row in came_from else 2, at, i) for i, (row, at) in enumerate(zip(rows.tolist(), times.tolist(), strict=True))
    ]
    packets: list[dict[int, int]] = []
    packet_of: dict[int, int] = {}  # row -> position in packets
    alike: dict[int, list[tuple[int, int]]] = defaultdict(list)  # label -> (time, position in packets)
    for turn, at, i in sorted(turns):
        row, capture, label = int(rows[i]), int(captures[i]), int(labels[i])
        place = packet_of.get(came_from.get(row, -1)) if turn == 1 else None
        if turn == 2:
            near = min(((abs(at - then), p) for then, p in alike[label] if capture not in packets[p]), default=None)
            place = near[1] if near is not None else None
        if place is None:
            place = len(packets)
            packets.append({})
            alike[label].append((at, place))
        packets[place][capture] = row
        packet_of[row] = place
    return packets


def _first(ts: Numbers, clock: Mapping[int, int], found: Mapping[int, int]) -> int:
    return min(int(ts[row]) - clock[capture] for capture, row in found.items())


def _capture_clocks(case: Case, columns: Sequence[int], sightings: Sequence[tuple[bool, Mapping[int, int]]]) -> dict[int, int]:
    """How far the clock of each capture is ahead: as all traffic between nodes tells, else as this flow does, else as its node's other captures."""
    met = crossings(case)
    of_node: dict[str, int] = {}
    clock: dict[int, int] = {}
    for position, station in enumerate(met.stations):
        of_node.setdefault(station.node, met.clock_ns[position])
        clock.update({capture: met.clock_ns[position] for capture in station.captures if capture in columns})
    for capture in columns:
        node = case.vantages[capture].node
        if capture not in clock and node in of_node:
            clock[capture] = of_node[node]  # a sandbox has the clock of its node
    ts = case.table["ts"]
    if not clock:
        clock[columns[0]] = 0
    for capture in columns:
        if capture in clock:
            continue
        least: dict[bool, int] = {}
        for way, found in sightings:
            known = next((other for other in found if other in clock and other != capture), None)
            if capture in found and known is not None:
                delay = int(ts[found[capture]]) - int(ts[found[known]]) + clock[known]
                least[way] = min(delay, least.get(way, delay))
        clock[capture] = sum(least.values()) // len(least) if least else 0
    return clock


def _in_order(columns: Sequence[int], sightings: Sequence[Mapping[int, int]], ts: Numbers, clock: Mapping[int, int]) -> list[int]:
    """Captures in the order in which packets pass them."""
    before: dict[int, list[float]] = {capture: [] for capture in columns}
    for found in sightings:
        ordered = sorted(found, key=lambda capture: int(ts[found[capture]]) - clock[capture])
        for place, capture in enumerate(ordered):
            before[capture].append(place + (len(columns) - len(ordered)) / 2)
    return sorted(columns, key=lambda capture: (sum(before[capture]) / len(before[capture]) if before[capture] else len(columns), capture))


def _parts(case: Case, sightings: Sequence[Mapping[int, int]], columns: Sequence[int]) -> list[dict[int, tuple[int, ...]]]:
    """For each packet of TCP data that a capture has only cut or joined: the rows there that hold its bytes, and are not where the packet is."""
    table = case.table
    sequence, length = table["tcp_seq"].astype(np.int64), table["payload_len"].astype(np.int64)
    tcp = table.have("tcp")
    parts: list[dict[int, tuple[int, ...]]] = [{} for _ in sightings]
    for capture in columns:
        for other in columns:
            alone = [(i, rows[other]) for i, rows in enumerate(sightings) if capture not in rows and other in rows and tcp[rows[other]]]
            there = [rows[capture] for rows in sightings if capture in rows and other not in rows]
            held = np.array([row for row in there if tcp[row] and length[row]], np.intp)
            for i, row in alone if len(held) else ():
                same = (table["inner_ip_src_lo"][held] == table["inner_ip_src_lo"][row]) & (table["inner_sport"][held] == table["inner_sport"][row])
                after = (sequence[held] - int(sequence[row]) + WIDEST) % (2 * WIDEST) - WIDEST
                holds = same & (after < int(length[row])) & (after + length[held] > 0)
                if holds.any():
                    parts[i][capture] = tuple(held[holds].tolist())
    return parts
