"""A lab as a picture in words: text for a terminal, Mermaid, Graphviz; the drawn picture (SVG) is in lab/svg.py.

Knows topology and cluster, and how each language writes a box and a line; opens nothing. The same facts are in every format: machines with their
addresses, links with what is wrong with them, networks, and the endpoints on each node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import PurePath

from vxtool.errors import UsageError
from vxtool.lab.impair import as_words
from vxtool.lab.topology import End, Impairment, Link, MachineKind, Topology
from vxtool.model import Cluster, Endpoint, Network

__all__ = [
    "FORMATS",
    "Attachment",
    "Sandbox",
    "ascii",
    "colour",
    "dot",
    "draw",
    "format_of",
    "link_text",
    "link_words",
    "mermaid",
    "network_text",
    "sandboxes",
]

_SUFFIXES = {".txt": "ascii", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}

# Okabe and Ito's colours, which people who see fewer colours can tell apart too; black and yellow left out.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

SOME = 12
"""So many endpoints of a node are named one by one; of more only how many there are in each network."""


# --------------------------------------------------------------------------------------------------------------------
# What there is to draw
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attachment:
    """A sandbox's place in one network. `address` is text; where many are told at once, of the first and the last."""

    network: str
    address: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """An endpoint with all its attachments, or (`count` > 1) all of a node's endpoints in one network."""

    name: str
    attachments: tuple[Attachment, ...]
    count: int = 1


def sandboxes(cluster: Cluster, node: str, some: int = SOME) -> list[Sandbox]:
    """What is on a node, in the cluster's order: each sandbox by itself, or when there are more than `some`, one entry for each network."""
    attached: dict[str, list[Endpoint]] = {}
    for endpoint in cluster.endpoints_of_node.get(node, ()):
        attached.setdefault(endpoint.name, []).append(endpoint)
    if len(attached) <= some:
        return [Sandbox(name, tuple(Attachment(one.network, str(one.ip)) for one in them)) for name, them in attached.items()]
    members: dict[str, list[Endpoint]] = {}
    for endpoint in cluster.endpoints_of_node.get(node, ()):
        members.setdefault(endpoint.network, []).append(endpoint)
    return [
        Sandbox(f"{len(them)} endpoint{'s' * (len(them) > 1)}", (Attachment(network, _from_to(them)),), len(them))
        for network, them in members.items()
    ]


def _from_to(endpoints: list[Endpoint]) -> str:
    addresses = sorted((endpoint.ip for endpoint in endpoints), key=lambda ip: (ip.version, int(ip)))
    return str(addresses[0]) if len(addresses) == 1 else f"{addresses[0]} .. {addresses[-1]}"


def network_text(network: Network) -> str:
    """Everything but its name."""
    words = [", ".join(str(subnet.prefix) for subnet in network.subnets)]
    words += [f"VNI {', '.join(map(str, network.vnis))}"] if network.vnis else []
    words += [f"MTU {network.mtu}"] if network.mtu else []
    words += [word for word, holds in (("encrypted", network.encrypted), ("internal", network.internal)) if holds]
    return "  ".join(word for word in words if word)


def link_text(link: Link) -> str:
    """What is not usual about a link; empty when all is."""
    return ", ".join(link_words(link))


def link_words(link: Link) -> list[str]:
    """The same, one thing at a time."""
    impairment = link.impairment
    each = [replace(_FINE, **{field.name: getattr(impairment, field.name)}) for field in fields(Impairment) if field.name != "queue"]
    return [as_words(one) for one in each if one] + ([f"MTU {link.mtu}"] if link.mtu != 1500 else [])


_FINE = Impairment()


def colour(cluster: Cluster, network: str) -> str:
    """The network's, in every format; used again when there are more networks than colours that can be told apart."""
    names = [one.name for one in cluster.networks]
    return _COLOURS[names.index(network) % len(_COLOURS)] if network in names else "#666666"


def _end_text(end: End) -> str:
    return f"{end.device} {end.interface}" if end.interface else end.device


# --------------------------------------------------------------------------------------------------------------------
# Formats
# --------------------------------------------------------------------------------------------------------------------


def format_of(path: str) -> str:
    """By the suffix of a file's name. UsageError when it says nothing."""
    suffix = PurePath(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(f"{path}: its suffix tells no format; say --format {'|'.join(FORMATS)}, or use {', '.join(_SUFFIXES)}")
    return _SUFFIXES[suffix]


def draw(topology: Topology, cluster: Cluster, format: str) -> str:
    """The lab in one of FORMATS, with a newline at the end."""
    return FORMATS[format](topology, cluster)


def ascii(topology: Topology, cluster: Cluster) -> str:
    """A tree from the middle of the underlay, in the 95 characters every terminal has; a link beside the tree is told at both its ends."""
    lines = [f"{topology.name}: {_counts(topology, cluster)}", ""]
    width = max((len(network.name) for network in cluster.networks), default=0)
    lines += [f"  {_printable(network.name):<{width}}  {network_text(network)}" for network in cluster.networks]
    lines += [""] if cluster.networks else []
    drawn: set[str] = set()
    for machine in (*topology.of_kind(MachineKind.ROUTER), *topology.of_kind(MachineKind.SWITCH), *topology.nodes):
        if machine.name not in drawn:
            tree, beside = _tree(topology, machine.name, drawn)
            lines += _branch(topology, cluster, machine.name, tree, beside, "")
    return "\n".join(line.rstrip() for line in lines) + "\n"


_Tree = Mapping[str, list[tuple[Link, str]]]
_Beside = Mapping[str, list[tuple[Link, str]]]


def _tree(topology: Topology, root: str, drawn: set[str]) -> tuple[_Tree, _Beside]:
    """Each machine's links to those below it, breadth first, and its links that are no part of the tree."""
    below: dict[str, list[tuple[Link, str]]] = {}
    beside: dict[str, list[tuple[Link, str]]] = {}
    seen: set[str] = set()
    drawn.add(root)
    waiting = [root]
    for name in waiting:
        for link in topology.links:
            if link.name in seen or name not in (link.a.machine, link.b.machine):
                continue
            seen.add(link.name)
            other = link.b.machine if link.a.machine == name else link.a.machine
            if other in drawn:
                beside.setdefault(name, []).append((link, other))
                beside.setdefault(other, []).append((link, name))
            else:
                drawn.add(other)
                waiting.append(other)
                below.setdefault(name, []).append((link, other))
    return below, beside


def _branch(topology: Topology, cluster: Cluster, name: str, tree: _Tree, beside: _Beside, indent: str, link: Link | None = None) -> Iterator[str]:
    machine = topology.of(name)
    kind = machine.kind if machine is not None else MachineKind.NODE
    up = next((end for end in link.ends if end.machine == name), None) if link is not None else None
    about = [_printable(name), f"({kind})" if kind is not MachineKind.NODE else ""]
    about += [_end_text(up)] if up is not None and up.interface else []
    about += [f"[{link_text(link)}]"] if link is not None and link_text(link) else []
    yield ("" if link is None else f"{indent[:-4]}+-- ") + " ".join(word for word in about if word)
    below = tree.get(name, [])
    inner = indent + ("|   " if below else "    ")
    for end in topology.ends(name):
        if end.interface and end is not up:
            yield f"{inner}{_end_text(end)}"
    for other, far in beside.get(name, []):
        yield f"{inner}also linked to {_printable(far)}" + (f" [{link_text(other)}]" if link_text(other) else "")
    there = sandboxes(cluster, name)
    width = max((len(one.name) for one in there), default=0)
    for sandbox in there:
        places = ", ".join(f"{_printable(one.network)} {one.address}" for one in sandbox.attachments)
        yield f"{inner}* {_printable(sandbox.name):<{width}}  {places}"
    for number, (down, far) in enumerate(below, 1):
        yield from _branch(topology, cluster, far, tree, beside, indent + ("|   " if number < len(below) else "    "), down)


def _counts(topology: Topology, cluster: Cluster) -> str:
    counted = [(len(topology.of_kind(kind)), str(kind)) for kind in MachineKind]
    counted += [(len(cluster.networks), "network"), (len({(one.node, one.name) for one in cluster.endpoints}), "endpoint")]
    return ", ".join(f"{number} {word}{_plural(word) if number != 1 else ''}" for number, word in counted if number)


def _plural(word: str) -> str:
    return "es" if word.endswith("ch") else "s"


def _printable(text: str) -> str:
    """Nothing in a name reaches a terminal as a control character, or as one that ASCII has not."""
    return "".join(character if character.isascii() else f"\\u{ord(character):04x}" for character in shown(text))


def shown(text: str) -> str:
    """With what cannot be printed written out: control characters are allowed in none of the languages."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def markup(text: str) -> str:
    """As text of an XML or HTML document."""
    return escape(shown(text))


def mermaid(topology: Topology, cluster: Cluster) -> str:
    """A flowchart, as GitHub and GitLab show it in a ```mermaid block."""
    ids = {machine.name: f"m{number}" for number, machine in enumerate(topology.machines)}
    lines = ["flowchart TB"]
    members: dict[str, list[str]] = {}
    for machine in topology.machines:
        about = "<br/>".join([_mermaid(machine.name), *(_mermaid(_end_text(end)) for end in topology.ends(machine.name) if end.interface)])
        here = sandboxes(cluster, machine.name)
        if machine.kind is MachineKind.SWITCH:
            lines.append(f'    {ids[machine.name]}{{{{"{about}"}}}}')
        elif machine.kind is MachineKind.ROUTER:
            lines.append(f'    {ids[machine.name]}[/"{about}"\\]')
        elif not here:
            lines.append(f'    {ids[machine.name]}["{about}"]')
        else:
            lines.append(f'    subgraph {ids[machine.name]}["{about}"]')
            for number, sandbox in enumerate(here):
                own = f"{ids[machine.name]}e{number}"
                words = [sandbox.name, *(f"{one.network} {one.address}" for one in sandbox.attachments)]
                lines.append(f'        {own}("{"<br/>".join(map(_mermaid, words))}")')
                members.setdefault(sandbox.attachments[0].network, []).append(own)
            lines.append("    end")
    styles = []
    for number, link in enumerate(topology.links):
        text = link_text(link)
        line = f'-. "{_mermaid(text)}" .-' if link.impairment else f'-- "{_mermaid(text)}" ---' if text else "---"
        upper, lower = _upper_first(topology, link)
        lines.append(f"    {ids[upper]} {line} {ids[lower]}")
        styles += [f"    linkStyle {number} stroke:#c0392b"] if link.impairment else []
    lines += styles
    for number, (network, coloured) in enumerate(members.items()):
        lines.append(f"    classDef n{number} stroke:{colour(cluster, network)},stroke-width:2px")
        lines.append(f"    class {','.join(coloured)} n{number}")
    return "\n".join(lines) + "\n"


def _upper_first(topology: Topology, link: Link) -> tuple[str, str]:
    """Both languages draw what a line comes from above what it goes to: nodes are at the bottom."""
    ends = link.a.machine, link.b.machine
    machine = topology.of(link.a.machine)
    return ends[::-1] if machine is not None and machine.kind is MachineKind.NODE else ends


def _mermaid(text: str) -> str:
    """Mermaid reads entities with # in place of &; nothing but these may stand for a character that it, or HTML, understands."""
    return "".join(character if character.isalnum() or character in " .,:/-_@()%" else f"#{ord(character)};" for character in text)


def dot(topology: Topology, cluster: Cluster) -> str:
    """An undirected graph for `dot -Tsvg` and its relatives."""
    lines = [f"graph {_quoted(topology.name)} {{"]
    lines += ['    graph [fontname="sans-serif"; rankdir=TB; splines=true; nodesep=0.4; ranksep=0.7]']
    lines += ['    node [fontname="sans-serif"; fontsize=11; shape=plain]', '    edge [fontname="sans-serif"; fontsize=10]']
    for machine in topology.machines:
        if machine.kind is MachineKind.SWITCH:
            lines.append(f'    {_quoted(machine.name)} [shape=box; style="rounded,filled"; fillcolor="#e8eaed"]')
        else:
            lines.append(f"    {_quoted(machine.name)} [label=<{_table(topology, cluster, machine.name)}>]")
    for link in topology.links:
        words = [f"label={_quoted(link_text(link))}"] if link_text(link) else []
        words += ['style=dashed; color="#c0392b"; fontcolor="#c0392b"'] if link.impairment else []
        attributes = f" [{'; '.join(words)}]" if words else ""
        upper, lower = _upper_first(topology, link)
        lines.append(f"    {_quoted(upper)} -- {_quoted(lower)}{attributes}")
    if cluster.networks:
        rows = "".join(
            f'<tr><td align="left"><font color="{colour(cluster, one.name)}"><b>{markup(one.name)}</b></font></td>'
            f'<td align="left">{markup(network_text(one))}</td></tr>'
            for one in cluster.networks
        )
        lines.append(f'    graph [labelloc=t; label=<<table border="0" cellspacing="2">{rows}</table>>]')
    return "\n".join([*lines, "}"]) + "\n"


def _table(topology: Topology, cluster: Cluster, name: str) -> str:
    kind = "router" if (machine := topology.of(name)) is not None and machine.kind is MachineKind.ROUTER else ""
    head = f"<b>{markup(name)}</b>" + (f" ({kind})" if kind else "")
    facts = [head, *(markup(_end_text(end)) for end in topology.ends(name) if end.interface)]
    cells = [f'<tr><td colspan="2">{row}</td></tr>' for row in facts]
    for sandbox in sandboxes(cluster, name):
        for number, one in enumerate(sandbox.attachments):
            told = markup(sandbox.name) if number == 0 else " "
            shade = colour(cluster, one.network)
            cells.append(f'<tr><td align="left">{told}</td><td align="left"><font color="{shade}">{markup(one.address)}</font></td></tr>')
    fill = "#fdf3e1" if kind else "#ffffff"
    return f'<table border="1" cellborder="0" cellspacing="1" style="rounded" bgcolor="{fill}">{"".join(cells)}</table>'


def _quoted(text: str) -> str:
    """A name of the dot language: the only character that means anything in it is the quote, a backslash at its end would escape it."""
    return '"' + shown(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _svg(topology: Topology, cluster: Cluster) -> str:
    from vxtool.lab.svg import svg  # which draws with what is above

    return svg(topology, cluster)


FORMATS: Mapping[str, Callable[[Topology, Cluster], str]] = {"ascii": ascii, "mermaid": mermaid, "dot": dot, "svg": _svg}
