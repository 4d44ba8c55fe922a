"""Checksum classes, by where the frame was and which way it went: what an offload left to be done, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from vxtool.decode.columns import CHECKSUM_CLASSES
from vxtool.plot.frames import frames_of
from vxtool.plot.style import FAULT, clean, figure, nothing, plain
from vxtool.verify.case import Case

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["checksums"]

_COLORS = {"zero": "#b5b5b5", "good": "#0072B2", "partial": "#56B4E9", "lco": "#009E73", "bad": FAULT}
_MEANING = {
    "zero": "zero: not used",
    "good": "good",
    "partial": "partial: an offload finishes it",
    "lco": "lco: right once the inner one is",
    "bad": "bad",
}


def checksums(source: Case | DataFrame) -> Figure:
    """Shares of the TCP and UDP checksum classes (columns.CHECKSUM_CLASSES) of tunnelled frames, outer and inner.

    source: a Case, or a DataFrame of vxtool.decode with checksums=True. A Case tells what a node sent from what came to it: an unfinished checksum is
    usual in the first, and means one physical host in the second.
    """
    frames = frames_of(source)
    bars: list[tuple[str, np.ndarray]] = []
    for place, name in enumerate(frames.places[:12]):
        mine = (frames.place == place) & frames.tunnelled
        ways = (("sent", frames.sender & frames.placed), ("received", ~frames.sender & frames.placed), ("", ~frames.placed))
        for way, which in ways:
            for side, classes in (("outer", frames.outer_class), ("inner", frames.inner_class)):
                counts = np.bincount(classes[mine & which], minlength=len(CHECKSUM_CLASSES))[: len(CHECKSUM_CLASSES)]
                if counts[1:].any():
                    bars.append((" ".join(filter(None, (plain(name, 32), way, side))), counts))
    if not bars:
        return nothing("no checksum of a tunnelled frame was looked at (checksums=True does)")
    fig = figure(9, 0.9 + 0.24 * len(bars))
    axes = fig.subplots()
    places = np.arange(len(bars))[::-1]
    left = np.zeros(len(bars))
    totals = np.array([counts[1:].sum() for _, counts in bars])
    for position, word in enumerate(CHECKSUM_CLASSES):
        share = np.array([counts[position] for _, counts in bars]) / totals * 100
        if word and share.any():
            hatch = "xxx" if word == "bad" else None
            axes.barh(places, share, 0.72, left=left, color=_COLORS[word], hatch=hatch, edgecolor="white", linewidth=0.4, label=_MEANING[word])
            left += share
    axes.set_yticks(places, [f"{name}  ({total:,})" for (name, _), total in zip(bars, totals, strict=True)])
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the frames that have such a checksum (%)", fontsize=8)
    clean(axes)
    axes.tick_params(axis="y", length=0)
    fig.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return fig
