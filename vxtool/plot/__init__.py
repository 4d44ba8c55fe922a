"""Pictures of captures and of what was found in them, as matplotlib figures.

    from vxtool import plot

    result = vxtool.verify(captures, cluster)
    plot.cluster(result.case, result.verdicts).savefig("cluster.png")

Each function returns a Figure of its own and leaves pyplot's global state alone: it works in a server, a test and a notebook alike. Colours are
those of Okabe and Ito, distinct for every kind of sight; red and a mark together mean a fault. Text from packets is shown as it is, never as markup.

Knows how to draw, never how to judge. matplotlib is loaded by the first picture, not by this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vxtool.plot.checksums import checksums as checksums
    from vxtool.plot.cluster import cluster as cluster
    from vxtool.plot.mesh import mesh as mesh
    from vxtool.plot.sizes import sizes as sizes
    from vxtool.plot.style import svg as svg
    from vxtool.plot.timeline import timeline as timeline

__all__ = ["checksums", "cluster", "mesh", "sizes", "svg", "timeline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    function = getattr(import_module(f"vxtool.plot.{'style' if name == 'svg' else name}"), name)
    globals()[name] = function  # the module of the same name is not what is meant
    return function


def __dir__() -> list[str]:
    return sorted(__all__)
