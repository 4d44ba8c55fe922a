"""The cluster and its traffic: nodes with their VTEPs and networks, an arrow for each direction and network, faults in red.

Knows who sent to whom; what is a fault is read from verdicts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from vxtool.model import EndpointKind
from vxtool.plot.frames import ESP, OTHER_VNIS, colors_of, network_names
from vxtool.plot.style import FAULT, QUIET, figure, nothing, plain
from vxtool.verify.case import Case
from vxtool.verify.verdicts import Result, Severity, Verdict

__all__ = ["cluster"]

MOST_NODES = 12
MOST_NETWORKS = 4
BOX = (1.75, 0.78)  # inches
GAP = 0.07
LANE = 0.13  # inches between parallel arrows

Edge = tuple[str, str]  # from, to: names of nodes
Point = tuple[float, float]


@dataclass(frozen=True)
class _Traffic:
    """Frames between nodes, and where verdicts find fault."""

    frames: Mapping[Edge, Mapping[str, int]]  # by network
    order: tuple[str, ...]  # networks, the busiest first
    faults: Mapping[str, tuple[str, ...]]  # culprit node -> checks
    broken: frozenset[tuple[Edge, str]]  # evidence lies on this arrow
    suspect: Mapping[Edge, tuple[str, ...]]  # a failing check names the pair, and no arrow shows it


def cluster(case: Case, verdicts: Sequence[Verdict] = ()) -> Figure:
    """The nodes of the expectation and whoever else speaks VXLAN, with the frames between them.

    Width and numbers of arrows: frames per direction and network, counted where most of them were captured. A red border: the culprit of a
    failing check (error or warning), which is written below it; red arrows carry frames that prove one, dashed red lines join nodes of a failing
    check between which nothing such was seen. At most 12 nodes are drawn: those at fault, then the busiest.
    """
    names = _names(case)
    traffic = _traffic(case, verdicts, names)
    busy: Counter[str] = Counter()
    for (source, target), by_network in traffic.frames.items():
        for name in (source, target):
            busy[name] += sum(by_network.values())
    members = sorted({*names, *busy}, key=lambda name: (name not in traffic.faults, -busy[name], name))
    left_out = members[MOST_NODES:]
    order = [name for name in dict.fromkeys((*names, *busy)) if name not in left_out]
    if not order:
        return nothing("the expectation names no node, and no frame between nodes was captured")
    places, (width, height) = _places(order)
    fig = figure(width, height)
    axes = fig.subplots()
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    _edges(axes, traffic, places)
    for name in order:
        _node(axes, case, name, places[name], traffic.faults.get(name, ()), known=name in names)
    if left_out:
        axes.text(width, 0, f"{len(left_out)} more nodes are not drawn", ha="right", va="bottom", fontsize=8, color=QUIET)
    _legend(fig, case, traffic)
    return fig


def _names(case: Case) -> list[str]:
    return list(dict.fromkeys(node.name for cluster in reversed(case.clusters) for node in cluster.nodes))


def _traffic(case: Case, verdicts: Sequence[Verdict], names: Iterable[str]) -> _Traffic:
    called = network_names(case)
    totals: Counter[int] = Counter()
    for talk in case.tunnel_talks:
        totals[talk.vni] += talk.frames
    shown = sorted(totals, key=lambda vni: (-totals[vni], vni))[:MOST_NETWORKS]

    def network(vni: int, esp: bool) -> str:
        return ESP if esp else called.get(vni, f"VNI {vni}") if vni in shown else OTHER_VNIS

    # A frame between two nodes may be in the captures of both: the fuller one counts. Captures of one place follow each other in time and add up.
    counted: dict[tuple[Edge, str], Counter[str]] = defaultdict(Counter)
    for talk in case.talks:
        if (talk.tunnel != "none" or talk.esp) and talk.outer_src is not None and talk.outer_dst is not None:
            vantage = case.vantages[talk.capture]
            edge = (case.node_name(talk.outer_src), case.node_name(talk.outer_dst))
            counted[edge, network(talk.vni, talk.tunnel == "none")][vantage.node or vantage.name] += talk.frames
    frames: dict[Edge, dict[str, int]] = defaultdict(dict)
    for (edge, kind), by_place in counted.items():
        frames[edge][kind] = max(by_place.values())

    faults: dict[str, list[str]] = defaultdict(list)
    broken: set[tuple[Edge, str]] = set()
    suspect: dict[Edge, list[str]] = defaultdict(list)
    known = {*names, *(name for edge in frames for name in edge)}
    for verdict in verdicts:
        if verdict.result is not Result.FAIL or verdict.severity is Severity.INFO:
            continue
        proven = {
            ((case.node_name(source), case.node_name(target)), network(int(case.table["vni"][row]), not case.table["tunnel"][row]))
            for row in verdict.rows
            if (source := case.address("outer_ip_src", row)) is not None and (target := case.address("outer_ip_dst", row)) is not None
        }
        proven = {(edge, kind) for edge, kind in proven if kind in frames.get(edge, {})}
        broken |= proven
        if verdict.nodes:
            faults[verdict.nodes[0]].append(verdict.check)
        pair = verdict.nodes[:2]
        if len(verdict.nodes) == 2 and known.issuperset(pair) and not any(set(edge) == set(pair) for edge, _ in proven):
            suspect[pair[0], pair[1]].append(verdict.check)
    present = {kind for by_network in frames.values() for kind in by_network}
    return _Traffic(
        frames,
        tuple(kind for kind in (*(network(vni, False) for vni in shown), OTHER_VNIS, ESP) if kind in present),
        {name: tuple(dict.fromkeys(checks)) for name, checks in faults.items()},
        frozenset(broken),
        {edge: tuple(dict.fromkeys(checks)) for edge, checks in suspect.items()},
    )


def _places(names: Sequence[str]) -> tuple[dict[str, Point], tuple[float, float]]:
    """Centres of the boxes, and the size of the picture (inches): a row of up to two, else around an ellipse, so that no line runs through a box."""
    count = len(names)
    if count <= 2:
        return {name: (1.4 + 5.2 * i, 1.0) for i, name in enumerate(names)}, (8.0 if count == 2 else 2.8, 2.0)
    width, height = (8.4, 4.4) if count <= 4 else (9.4, 6.2) if count <= 8 else (10.4, 8.0)
    circle = [(math.sin(2 * math.pi * i / count), math.cos(2 * math.pi * i / count)) for i in range(count)]
    x, y = _stretched([x for x, _ in circle], BOX[0] / 2 + 0.15, width), _stretched([y for _, y in circle], BOX[1] / 2 + 0.3, height)
    return dict(zip(names, zip(x, y, strict=True), strict=True)), (width, height)


def _stretched(values: Sequence[float], margin: float, size: float) -> list[float]:
    """Values moved and scaled so that they fill a length between its margins."""
    least, most = min(values), max(values)
    return [margin + (value - least) / (most - least) * (size - 2 * margin) for value in values]


def _node(axes: Axes, case: Case, name: str, place: Point, checks: Sequence[str], *, known: bool) -> None:
    x, y = place
    color = FAULT if checks else QUIET
    box = FancyBboxPatch(
        (x - BOX[0] / 2, y - BOX[1] / 2),
        *BOX,
        boxstyle="round,pad=0,rounding_size=0.08",
        edgecolor=color,
        facecolor="none",
        linewidth=2.6 if checks else 1.3,
        linestyle="-" if known else "--",
    )
    axes.add_patch(box)
    captured = any(vantage.kind == "node" and vantage.node == name for vantage in case.vantages)
    axes.text(x, y + 0.2, ("● " if captured else "") + plain(name, 20), ha="center", va="center", fontsize=10, fontweight="bold")
    vtep = next((node.vtep for cluster in reversed(case.clusters) for node in cluster.nodes if node.name == name and node.vtep), None)
    told = f"VTEP {vtep}" if vtep is not None else "VTEP not known" if known else "not in the expectation"
    axes.text(x, y, told, ha="center", va="center", fontsize=7.5)
    held = _networks_at(case, name)
    words = ", ".join(f"{network} {count}" for network, count in held[:3]) + (f" +{len(held) - 3}" if len(held) > 3 else "")
    axes.text(x, y - 0.19, plain(words or "no endpoint known", 34), ha="center", va="center", fontsize=7, color=QUIET)
    if checks:
        text = "✗ " + ", ".join(checks[:2]) + (f" +{len(checks) - 2}" if len(checks) > 2 else "")
        axes.text(x, y - BOX[1] / 2 - 0.07, text, ha="center", va="top", fontsize=7.5, color=FAULT, fontweight="bold")


def _networks_at(case: Case, name: str) -> list[tuple[str, int]]:
    """Networks with tasks or containers at a node, and how many."""
    endpoints = case.cluster.endpoints_of_node.get(name, ())
    return Counter(endpoint.network for endpoint in endpoints if endpoint.kind in (EndpointKind.TASK, EndpointKind.CONTAINER)).most_common()


def _edges(axes: Axes, traffic: _Traffic, places: Mapping[str, Point]) -> None:
    most = max((count for by_network in traffic.frames.values() for count in by_network.values()), default=1)
    colors = colors_of(traffic.order)
    with_words = len(places) <= 5
    for edge, by_network in traffic.frames.items():
        source, target = edge
        if source == target or source not in places or target not in places:
            continue
        kinds = sorted(by_network, key=traffic.order.index)
        for lane, kind in enumerate(kinds):
            bad = (edge, kind) in traffic.broken
            start, end = _ends(places[source], places[target], LANE * (lane + 0.5))
            width = 0.8 + 3.2 * math.sqrt(by_network[kind] / most)
            color = FAULT if bad else colors[kind]
            axes.add_patch(
                FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8 + width, color=color, linewidth=width, shrinkA=0, shrinkB=0, zorder=1)
            )
        if with_words:
            _words(axes, *_ends(places[source], places[target], LANE * len(kinds) + 0.09), edge, kinds, by_network, traffic)
    for edge, checks in traffic.suspect.items():
        if set(edge) <= set(places):
            start, end = _ends(places[edge[0]], places[edge[1]], 0)
            axes.add_line(Line2D(*zip(start, end, strict=True), color=FAULT, linewidth=1.6, linestyle=(0, (3, 2)), zorder=2))
            if not any(pair in traffic.frames for pair in (edge, edge[::-1])) and with_words:
                _along(axes, *_ends(*_ordered(places[edge[0]], places[edge[1]]), 0.12), "✗ " + ", ".join(checks[:2]), FAULT)


def _ordered(one: Point, other: Point) -> tuple[Point, Point]:
    return (one, other) if one <= other else (other, one)


def _words(axes: Axes, start: Point, end: Point, edge: Edge, kinds: Sequence[str], by_network: Mapping[str, int], traffic: _Traffic) -> None:
    bad = any((edge, kind) in traffic.broken for kind in kinds)
    numbers = " + ".join(f"{by_network[kind]:,}" for kind in kinds)
    _along(axes, start, end, ("✗ " if bad else "") + numbers, FAULT if bad else None)


def _along(axes: Axes, start: Point, end: Point, text: str, color: str | None) -> None:
    """Text in the middle of a line, turned as it is but never upside down."""
    angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
    angle = (angle + 90) % 180 - 90
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    axes.text(*middle, text, rotation=angle, rotation_mode="anchor", ha="center", va="center", fontsize=7.5, color=color or "black")


def _ends(source: Point, target: Point, aside: float) -> tuple[Point, Point]:
    """A line between the borders of two boxes, moved to the left of its direction."""
    dx, dy = target[0] - source[0], target[1] - source[1]
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    shift = (-uy * aside, ux * aside)
    start, end = (source[0] + shift[0], source[1] + shift[1]), (target[0] + shift[0], target[1] + shift[1])
    out, back = _inside(shift, (ux, uy)), _inside(shift, (-ux, -uy))
    return (start[0] + ux * out, start[1] + uy * out), (end[0] - ux * back, end[1] - uy * back)


def _inside(offset: Point, direction: Point) -> float:
    """How far a ray from near the middle of a box runs before it has left the box and a gap."""
    reach = []
    for at, along, half in zip(offset, direction, (BOX[0] / 2, BOX[1] / 2), strict=True):
        if abs(along) > 1e-9:
            reach.append((math.copysign(half, along) - at) / along)
    return max(0.0, min(reach)) + GAP


def _legend(fig: Figure, case: Case, traffic: _Traffic) -> None:
    colors = colors_of(traffic.order)
    handles = [Line2D([], [], color=colors[kind], linewidth=3, label=plain(kind)) for kind in traffic.order]
    if traffic.broken:
        handles.append(Line2D([], [], color=FAULT, linewidth=3, label="✗ frames of a failing check"))
    if traffic.suspect:
        handles.append(Line2D([], [], color=FAULT, linewidth=1.6, linestyle=(0, (3, 2)), label="between these a check fails"))
    if any(vantage.kind == "node" for vantage in case.vantages):
        handles.append(Line2D([], [], color=QUIET, marker="o", markersize=4, linestyle="", label="captured here"))
    if handles:
        title = "frames per direction" + (", in this order" if len(traffic.order) > 1 else "")
        fig.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), fontsize=8, frameon=False, title=title, title_fontsize=8)
