"""Pictures of captures and of what was found in them, as matplotlib figures.

    from vxtool import plot

    result = vxtool.verify(captures, cluster)
    plot.cluster(result.case, result.verdicts).savefig("cluster.png")

Each function returns a Figure of its own and leaves pyplot's global state alone: it works in a server, a test and a notebook alike. Colours are
those of Okabe and Ito, distinct for every kind of sight; red and a mark together mean a fault. Text from packets is shown as it is, never as markup.

Knows how to draw, never how to judge. matplotlib is loaded by the first picture, not by this module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vxtool.plot.balance import mesh as mesh
    from vxtool.plot.lengths import sizes as sizes
    from vxtool.plot.offloads import checksums as checksums
    from vxtool.plot.style import svg as svg
    from vxtool.plot.times import timeline as timeline
    from vxtool.plot.traffic import cluster as cluster

__all__ = ["checksums", "cluster", "mesh", "sizes", "svg", "timeline"]

_MODULES = {"checksums": "offloads", "cluster": "traffic", "mesh": "balance", "sizes": "lengths", "svg": "style", "timeline": "times"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"vxtool.plot.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
