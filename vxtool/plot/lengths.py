"""Sizes of inner packets against what the network takes: where a black hole would begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from vxtool.plot.frames import colors_of, frames_of
from vxtool.plot.style import FAULT, clean, figure, nothing, plain
from vxtool.verify.case import Case

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["sizes"]

OVERHEAD = 50
"""Bytes that VXLAN over IPv4 takes of the underlay's MTU."""


def sizes(source: Case | DataFrame, mtu: int | None = None) -> Figure:
    """How many inner IP packets are how long, by network, on logarithmic axes.

    source: a Case, or a DataFrame of vxtool.decode. mtu: bytes of an inner packet, drawn as a line; None: the smallest that the expectation states,
    else 1450 (an underlay of 1500). Longer ones are normal where the capture sees them before the kernel cuts them (GSO).
    """
    frames = frames_of(source)
    known = frames.tunnelled & (frames.inner_size > 0)
    if not known.any():
        return nothing("no inner IP packet was captured")
    if mtu is None:
        stated = [network.mtu for cluster in source.clusters for network in cluster.networks if network.mtu] if isinstance(source, Case) else []
        mtu = min(stated, default=1500 - OVERHEAD)
    longest = max(int(frames.inner_size[known].max()), mtu)
    edges = np.unique(np.geomspace(20, longest * 1.1, 60).astype(np.int64))
    fig = figure(9, 2.6)
    axes = fig.subplots()
    colors = colors_of(frames.kinds)
    below = np.zeros(len(edges) - 1)
    for position, kind in enumerate(frames.kinds):
        counts = np.histogram(frames.inner_size[known & (frames.kind == position)], edges)[0]
        if counts.any():
            axes.bar(edges[:-1], counts, np.diff(edges), bottom=below, align="edge", color=colors[kind], linewidth=0, label=plain(kind))
            below += counts
    axes.axvline(mtu, color=FAULT, linewidth=1.2, linestyle="--", label=f"MTU {mtu:,}")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(0, below.max() * 1.6)
    marks = [mark for mark in (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 65535) if mark <= longest * 1.1]
    axes.set_xticks(marks, [f"{mark:,}" for mark in marks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("inner IP packet (bytes)", fontsize=8)
    axes.set_ylabel("frames", fontsize=8)
    clean(axes)
    fig.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return fig
