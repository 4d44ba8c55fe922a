"""A lab as a drawn picture: one SVG file that stands for itself, with no script, no font and no file beside it.

Knows where things go and how they look; what there is comes from lab/graph.py. Nodes stand below the machine they hang on, in rows under a bar that
is their Ethernet segment; what connects the segments is above, the farther from the nodes the higher.

    routers, spines        a box each, in layers
    switches               a bar over its nodes (a router's box over such a bar)
    nodes                  a box each, with its endpoints in it, each with a stripe of its network's colour
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vxtool.lab.graph import Sandbox, colour, link_text, link_words, markup, network_text, sandboxes
from vxtool.lab.topology import Link, MachineKind, Topology
from vxtool.model import Cluster

__all__ = ["svg"]

# Lengths in pixels. A letter of the fonts used is taken to be this wide; a browser whose font is wider has the padding.
_LETTER, _BOLD, _SMALL = 6.7, 7.7, 6.0
_LINE = 17
_PAD = 10
_GAP = 26
_ROW_GAP = 30
_BAR = 26
_DROP = 44  # from a segment's bar to its nodes
_RISE = 70  # from one layer to the next
_WORDS = 13  # a line of words at a link
_MARGIN = 28
_GUTTER = 18  # between columns of nodes, where a segment's lines come down to the lower rows
_IN_ONE_ROW = 5

_STYLE = """
text { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; fill: #3c4043 }
.name { font: 600 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: #202124 }
.title { font: 600 18px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: #202124 }
.endpoint { font: 500 11.5px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: #202124 }
.node { fill: #ffffff; stroke: #9aa0a6 }
.router { fill: #fef7e0; stroke: #b5903a }
.switch { fill: #e8eaed; stroke: #80868b }
.chip { fill: #f6f8fa }
.link { stroke: #5f6368; stroke-width: 1.6; fill: none }
.impaired { stroke: #c5221f; stroke-width: 2; stroke-dasharray: 7 4 }
.words { paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; text-anchor: middle }
.start { text-anchor: start }
.wrong { fill: #c5221f; font-weight: 600 }
"""


@dataclass(slots=True)
class _Box:
    """A machine on the page: left, top, width, height."""

    name: str
    kind: MachineKind
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    lines: Sequence[str] = ()
    inside: Sequence[Sandbox] = ()

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(slots=True)
class _Segment:
    """The nodes whose first link leads to `head` (None: they have none), in rows."""

    head: str | None
    members: list[_Box]
    x: float = 0.0
    width: float = 0.0
    rows: list[list[_Box]] = field(default_factory=list)

    def arrange(self) -> None:
        columns = len(self.members) if len(self.members) <= _IN_ONE_ROW else math.ceil(math.sqrt(len(self.members) * 1.6))
        self.rows = [self.members[start : start + columns] for start in range(0, len(self.members), columns)]
        widest = max(box.width for box in self.members)
        for box in self.members:
            box.width = widest
        self.width = columns * widest + (columns - 1) * self.gap + (4 * _GUTTER if self.stacked else 0)

    @property
    def stacked(self) -> bool:
        """In several rows, with lines in the gutters between the columns."""
        return len(self.rows) > 1

    @property
    def gap(self) -> float:
        return 2 * _GUTTER if self.stacked else _GAP


def svg(topology: Topology, cluster: Cluster) -> str:
    """The whole file."""
    boxes = {machine.name: _box(topology, cluster, machine.name) for machine in topology.machines}
    segments = _segments(topology, boxes)
    upper = _layers(topology, boxes, segments)
    legend = _legend(topology, cluster)
    top = _MARGIN + 40 + 20 * len(cluster.networks)
    width, height = _place(topology, boxes, segments, upper, top)
    width = max(width, legend.width + 2 * _MARGIN)
    for box in boxes.values():
        box.x += (width - _extent(boxes)) / 2 - _left(boxes)
    body = [
        *_trunks(boxes, segments),
        *_links(topology, boxes, segments),
        *(_shape(cluster, box) for box in boxes.values()),
        *_labels(topology, boxes, segments),
    ]
    described = f"{len(topology.nodes)} nodes; " + "; ".join(f"network {one.name}: {network_text(one)}" for one in cluster.networks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img"'
        ' aria-labelledby="title desc">\n'
        f'<title id="title">{markup(topology.name)}</title>\n<desc id="desc">{markup(described)}</desc>\n<style>{_STYLE}</style>\n'
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>\n{legend.drawn}' + "".join(f"{piece}\n" for piece in body) + "</svg>\n"
    )


# --------------------------------------------------------------------------------------------------------------------
# Where things go
# --------------------------------------------------------------------------------------------------------------------


def _box(topology: Topology, cluster: Cluster, name: str) -> _Box:
    machine = topology.of(name)
    assert machine is not None
    if machine.kind is MachineKind.SWITCH:
        return _Box(name, machine.kind, max(96, len(name) * _BOLD + 4 * _PAD), _BAR)
    lines = [f"{end.device} {end.interface}" for end in topology.ends(name) if end.interface]
    inside = sandboxes(cluster, name)
    widths = [len(name) * _BOLD, *(len(line) * _LETTER for line in lines), *(_chip_width(one) for one in inside)]
    chips = sum(_chip_height(one) + 4 for one in inside) + (6 if inside else 0)
    return _Box(name, machine.kind, max(110, max(widths) + 2 * _PAD), 26 + _LINE * len(lines) + chips + 4, lines=lines, inside=inside)


def _chip_width(sandbox: Sandbox) -> float:
    return len(sandbox.name) * _BOLD + max(len(one.address) for one in sandbox.attachments) * _LETTER + 3 * _PAD


def _chip_height(sandbox: Sandbox) -> float:
    return 4 + 16 * len(sandbox.attachments)


def _segments(topology: Topology, boxes: dict[str, _Box]) -> list[_Segment]:
    """In the order of the machines they hang on; nodes in their own."""
    found: dict[str | None, _Segment] = {}
    for machine in topology.machines:
        if machine.kind is not MachineKind.NODE:
            found[machine.name] = _Segment(machine.name, [])
    for node in topology.nodes:
        others = (_other(link, node.name) for link in topology.links if node.name in (link.a.machine, link.b.machine))
        head = next((other for other in others if boxes[other].kind is not MachineKind.NODE), None)
        found.setdefault(head, _Segment(head, [])).members.append(boxes[node.name])
    segments = [segment for segment in found.values() if segment.members]
    for segment in segments:
        segment.arrange()
    return segments


def _other(link: Link, machine: str) -> str:
    return link.b.machine if link.a.machine == machine else link.a.machine


def _layers(topology: Topology, boxes: dict[str, _Box], segments: list[_Segment]) -> list[list[_Box]]:
    """Heads of segments first, then layer above layer whoever is linked to the one below."""
    heads = [segment.head for segment in segments if segment.head is not None]
    left = [machine.name for machine in topology.machines if machine.kind is not MachineKind.NODE and machine.name not in heads]
    layers = [[boxes[name] for name in heads]]
    below = set(heads)
    while left:
        nearby = [name for name in left if any(_other(link, name) in below for link in topology.links if name in (link.a.machine, link.b.machine))]
        nearby = nearby or left  # whoever is linked to nobody
        layers.append([boxes[name] for name in nearby])
        below = set(nearby)
        left = [name for name in left if name not in below]
    return layers


def _place(topology: Topology, boxes: dict[str, _Box], segments: list[_Segment], layers: list[list[_Box]], top: float) -> tuple[float, float]:
    """Gives every box its place; the size of the page."""
    x = float(_MARGIN)
    for segment in segments:
        segment.x = x
        if segment.head is not None:
            segment.width = max(segment.width, boxes[segment.head].width)
        x += segment.width + 2 * _GAP
    width = x - 2 * _GAP + _MARGIN if segments else 2.0 * _MARGIN
    y = top
    for layer in reversed(layers[1:]):
        for box in layer:
            box.y = y
        y += max(box.height for box in layer) + _room(topology, {box.name for box in layer}, _RISE)
    heads = [boxes[segment.head] for segment in segments if segment.head is not None]
    for head in heads:
        head.y = y + max(other.height for other in heads) - head.height
    y += max((head.height for head in heads), default=0)
    y += _room(topology, {node.name for node in topology.nodes}, _DROP) if heads else 0
    height = y
    for segment in segments:
        if segment.head is not None:
            head = boxes[segment.head]
            if head.kind is MachineKind.SWITCH:
                head.x, head.width = segment.x, segment.width
            else:
                head.x = segment.x + (segment.width - head.width) / 2
        height = max(height, _rows(segment, y))
    for layer in layers[1:]:
        _spread(topology, boxes, layer)
    return max(width, _extent(boxes) + 2 * _MARGIN), height + _MARGIN


def _room(topology: Topology, machines: set[str], least: float) -> float:
    """The height between two layers: enough for what is said at the links."""
    told = (len(link_words(link)) for link in topology.links if machines & {link.a.machine, link.b.machine})
    return max(least, (max(told, default=0) + 2) * _WORDS)


def _rows(segment: _Segment, y: float) -> float:
    """The members of a segment; where the last row ends."""
    for row in segment.rows:
        used = sum(box.width for box in segment.rows[0]) + segment.gap * (len(segment.rows[0]) - 1)
        x = segment.x + (segment.width - used) / 2
        for box in row:
            box.x, box.y = x, y
            x += box.width + segment.gap
        y += max(box.height for box in row) + _ROW_GAP
    return y - _ROW_GAP


def _spread(topology: Topology, boxes: dict[str, _Box], layer: list[_Box]) -> None:
    """Each box over the middle of those below that it is linked to, none on another."""
    wanted = {}
    for box in layer:
        others = [boxes[_other(link, box.name)] for link in topology.links if box.name in (link.a.machine, link.b.machine)]
        below = [other.middle for other in others if other.y > box.y]
        wanted[box.name] = sum(below) / len(below) if below else 0.0
    layer.sort(key=lambda box: wanted[box.name])
    edge = -math.inf
    for box in layer:
        box.x = max(wanted[box.name] - box.width / 2, edge)
        edge = box.x + box.width + 2 * _GAP
    shift = sum(wanted[box.name] - box.middle for box in layer) / len(layer)
    for box in layer:
        box.x += shift


def _left(boxes: dict[str, _Box]) -> float:
    return min((box.x for box in boxes.values()), default=0.0)


def _extent(boxes: dict[str, _Box]) -> float:
    return max((box.x + box.width for box in boxes.values()), default=0.0) - _left(boxes)


# --------------------------------------------------------------------------------------------------------------------
# How things look
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Legend:
    drawn: str
    width: float


def _legend(topology: Topology, cluster: Cluster) -> _Legend:
    pieces = [f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 8}">{markup(topology.name)}</text>\n']
    width = len(topology.name) * 11.0
    name_width = max((len(one.name) for one in cluster.networks), default=0) * _BOLD + 14
    for number, network in enumerate(cluster.networks):
        y = _MARGIN + 32 + 20 * number
        about = network_text(network)
        pieces.append(
            f'<rect x="{_MARGIN}" y="{y - 10}" width="12" height="12" rx="3" fill="{colour(cluster, network.name)}"/>'
            f'<text class="endpoint" x="{_MARGIN + 20}" y="{y}">{markup(network.name)}</text>'
            f'<text x="{_MARGIN + 20 + name_width:.0f}" y="{y}" xml:space="preserve">{markup(about)}</text>\n'
        )
        width = max(width, 20 + name_width + len(about) * _LETTER)
    return _Legend("".join(pieces), width)


def _shape(cluster: Cluster, box: _Box) -> str:
    radius = _BAR / 2 if box.kind is MachineKind.SWITCH else 8
    pieces = [
        f'<g><rect class="{box.kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:.0f}"/>',
        f'<text class="name" text-anchor="middle" x="{box.middle:.1f}" y="{box.y + 18:.1f}">{markup(box.name)}</text>',
    ]
    y = box.y + 18
    for line in box.lines:
        y += _LINE
        pieces.append(f'<text text-anchor="middle" x="{box.middle:.1f}" y="{y:.1f}">{markup(line)}</text>')
    y += 12
    for sandbox in box.inside:
        pieces.append(_chip(cluster, sandbox, box.x + _PAD / 2, y, box.width - _PAD))
        y += _chip_height(sandbox) + 4
    return "".join([*pieces, "</g>"])


def _chip(cluster: Cluster, sandbox: Sandbox, x: float, y: float, width: float) -> str:
    height = _chip_height(sandbox)
    pieces = [f'<rect class="chip" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="3"/>']
    pieces.append(f'<text class="endpoint" x="{x + 10:.1f}" y="{y + 14:.1f}">{markup(sandbox.name)}</text>')
    stripe = height / len(sandbox.attachments)
    for number, one in enumerate(sandbox.attachments):
        shade = colour(cluster, one.network)
        pieces.append(f'<rect x="{x:.1f}" y="{y + number * stripe:.1f}" width="4" height="{stripe:.1f}" fill="{shade}"/>')
        told = f"<title>{markup(one.network)}</title>{markup(one.address)}"
        pieces.append(f'<text text-anchor="end" x="{x + width - 6:.1f}" y="{y + 14 + 16 * number:.1f}">{told}</text>')
    return "".join(pieces)


def _links(topology: Topology, boxes: dict[str, _Box], segments: list[_Segment]) -> Iterator[str]:
    for link in topology.links:
        points = _path(link, boxes, segments)
        path = " ".join(f"{'M' if number == 0 else 'L'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))
        yield f'<path class="link{" impaired" * bool(link.impairment)}" d="{path}"><title>{markup(_link_title(link))}</title></path>'


def _link_title(link: Link) -> str:
    return f"{link.name}: {link_text(link) or f'MTU {link.mtu}'}"


def _path(link: Link, boxes: dict[str, _Box], segments: list[_Segment]) -> list[tuple[float, float]]:
    """From the upper machine to the lower. A segment's nodes hang on its bar; where they stand in rows, on lines that come down at their left."""
    upper, lower = sorted((boxes[link.a.machine], boxes[link.b.machine]), key=lambda box: box.y)
    segment = _around(lower, segments)
    if segment is not None and segment.head == upper.name:
        if segment.stacked:
            return [(lower.x - _GUTTER, lower.y + 14), (lower.x, lower.y + 14)]
        return [(lower.middle if upper.kind is MachineKind.SWITCH else _near(upper, lower.middle), upper.bottom), (lower.middle, lower.y)]
    if abs(upper.y - lower.y) < 1:
        left, right = sorted((upper, lower), key=lambda box: box.x)
        return [(left.x + left.width, left.y + 14), (right.x, right.y + 14)]
    return [(_near(upper, lower.middle), upper.bottom), (_near(lower, upper.middle), lower.y)]


def _around(box: _Box, segments: list[_Segment]) -> _Segment | None:
    return next((segment for segment in segments if any(member is box for member in segment.members)), None)


def _trunks(boxes: dict[str, _Box], segments: list[_Segment]) -> Iterator[str]:
    """The lines of segments with several rows: down each gutter, and under a router along all of them."""
    for segment in segments:
        if segment.head is None or not segment.stacked:
            continue
        head = boxes[segment.head]
        gutters = [box.x - _GUTTER for box in segment.rows[0]]
        y = head.bottom
        if head.kind is not MachineKind.SWITCH:
            y += _DROP / 3
            ends = (min(gutters[0], head.middle), max(gutters[-1], head.middle))
            yield f'<path class="link" d="M{head.middle:.1f} {head.bottom:.1f} V{y:.1f} M{ends[0]:.1f} {y:.1f} H{ends[1]:.1f}"/>'
        for column, x in enumerate(gutters):
            last = [row[column] for row in segment.rows if column < len(row)][-1]
            yield f'<path class="link" d="M{x:.1f} {y:.1f} V{last.y + 14:.1f}"/>'


def _near(box: _Box, x: float) -> float:
    """Where a line from x touches a box: a bar as near as it can be, a box on the side where it comes from."""
    inset = min(24.0, box.width / 4)
    if box.kind is MachineKind.SWITCH:
        return min(max(x, box.x + inset), box.x + box.width - inset)
    reach = box.width / 2 - inset
    return box.middle + max(-reach, min(reach, (x - box.middle) / 4))


def _labels(topology: Topology, boxes: dict[str, _Box], segments: list[_Segment]) -> Iterator[str]:
    """What is unusual about a link, in its middle one below the other; in a stack of rows in one line above the node."""
    for link in topology.links:
        (ax, ay), (bx, by) = _path(link, boxes, segments)
        lower = max((boxes[link.a.machine], boxes[link.b.machine]), key=lambda box: box.y)
        segment = _around(lower, segments)
        wrong = " wrong" * bool(link.impairment)
        if segment is not None and segment.stacked and link_text(link):
            yield f'<text class="words start{wrong}" x="{lower.x:.1f}" y="{lower.y - 6:.1f}">{markup(link_text(link))}</text>'
            continue
        words = link_words(link)
        y = (ay + by) / 2 - _WORDS * (len(words) - 1) / 2 + 4
        for number, word in enumerate(words):
            yield f'<text class="words{wrong}" x="{(ax + bx) / 2:.1f}" y="{y + _WORDS * number:.1f}">{markup(word)}</text>'
