"""What all pictures have in common: colours, text, an empty figure, and a figure as SVG inside a page.

Knows nothing of captures.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from vxtool.decode.render import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLORS", "FAULT", "QUIET", "clean", "figure", "nothing", "plain", "svg"]

COLORS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9")
"""Okabe and Ito's colours without black and yellow, which vanish on a dark or a light page, and without orange and vermilion: red means a fault."""

FAULT = "#D55E00"
QUIET = "#8a8a8a"
"""Axes, and what is beside the point."""

LONGEST = 48


def plain(text: str, most: int = LONGEST) -> str:
    """Text from a packet or an expectation as a label: no control characters, no mathematics between dollars, not longer than `most` characters."""
    shown = printable(text)
    if len(shown) > most:
        shown = shown[: most - 1] + "…"
    return shown.replace("$", r"\$")


def figure(width: float, height: float) -> Figure:
    """An empty figure (inches) with a canvas of its own."""
    return Figure(figsize=(width, height), layout="constrained")


def clean(axes: Axes) -> None:
    """Thin grey axes at the left and the bottom only."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)
    axes.tick_params(color=QUIET, labelsize=8)
    axes.set_axisbelow(True)


def nothing(sentence: str) -> Figure:
    """A picture that says why there is none."""
    fig = figure(7, 0.7)
    fig.text(0.5, 0.5, plain(sentence, 120), ha="center", va="center", fontsize=9, color=QUIET)
    return fig


def svg(fig: Figure, name: str, title: str) -> str:
    """The figure as an `<svg>` element to be put into an HTML page.

    Text stays text in the page's font, and black text takes the page's colour. name: unique in the page, begins every id. title: for readers that do
    not see it. Nothing in it refers to anything outside.
    """
    out = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        fig.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(out.getvalue())
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _own(_local(key), value, name) for key, value in element.attrib.items()}
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    for defs in root.iter("defs"):
        for sheet in defs.findall("style"):
            defs.remove(sheet)  # would hold for the whole page
    width = root.attrib.pop("width", "0pt").removesuffix("pt")
    root.attrib.pop("height", None)
    root.attrib.pop("version", None)
    root.attrib.update({"role": "img", "aria-label": title, "style": f"max-width:{float(width) * 1.35:.0f}px; stroke-linejoin:round"})
    heading = ElementTree.Element("title")
    heading.text = title
    root.insert(0, heading)
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """In HTML an SVG element needs no namespace."""
    return name.rsplit("}", 1)[-1]


def _own(key: str, value: str, name: str) -> str:
    """Ids, and what refers to them, made unique in the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    return value.replace("url(#", f"url(#{name}-") if key in ("clip-path", "style") else value
