"""Frames over time: what was captured when, where the failing evidence lies, and when the expectation changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vxtool.plot.frames import Frames, colors_of, frames_of
from vxtool.plot.style import FAULT, QUIET, clean, figure, nothing, plain
from vxtool.verify.case import Case
from vxtool.verify.verdicts import Result, Severity, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["timeline"]

BINS = 240
MOST_PLACES = 9
_STEPS_NS = tuple(step * 10**power for power in range(3, 19) for step in (1, 2, 5))


def timeline(source: Case | DataFrame, verdicts: Sequence[Verdict] = ()) -> Figure:
    """Frames per second by network, a strip for each place where was captured.

    source: a Case, or a DataFrame of vxtool.decode. Red marks stand where the frames lie that failing verdicts (error, warning) name; dashed lines
    where the expectation changes. At most 9 places are drawn, the busiest.
    """
    frames = frames_of(source)
    if not len(frames.ts):
        return nothing("no frame was captured")
    busiest = np.argsort(-np.bincount(frames.place, minlength=len(frames.places)), kind="stable")[:MOST_PLACES]
    shown = sorted(int(position) for position in busiest)
    first, last = int(frames.ts.min()), int(frames.ts.max())
    width = next((step for step in _STEPS_NS if step * BINS >= last - first), _STEPS_NS[-1])
    edges = np.arange(first // width * width, last + width + 1, width)
    fig = figure(9, 0.9 + 1.05 * len(shown))
    strips = fig.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    present = [kind for kind in range(len(frames.kinds)) if (frames.kind == kind).any()]
    for axes, place in zip(strips, shown, strict=True):
        _strip(axes, frames, place, present, edges, width)
    changes = source.timeline.changes_ns if isinstance(source, Case) else ()
    for axes in strips:
        for moment in changes:
            if edges[0] <= moment <= edges[-1]:
                axes.axvline(_date(moment), color=QUIET, linewidth=1, linestyle=(0, (4, 2)))
    marked = isinstance(source, Case) and _mark(source, frames, verdicts, dict(zip(shown, strips, strict=True)))
    strips[-1].xaxis.set_major_formatter(ConciseDateFormatter(_dates(strips[-1]), tz="UTC"))  # type: ignore[no-untyped-call]
    strips[-1].set_xlim(_date(int(edges[0])), _date(int(edges[-1])))
    strips[-1].set_xlabel("time (UTC)", fontsize=8)
    fig.supylabel("frames per second", fontsize=8)
    colors = colors_of(frames.kinds)
    handles: list[Patch | Line2D] = [Patch(color=colors[frames.kinds[kind]], label=plain(frames.kinds[kind])) for kind in present]
    if marked:
        handles.append(Line2D([], [], color=FAULT, marker="v", linestyle="", label="evidence of a failing check"))
    if any(edges[0] <= moment <= edges[-1] for moment in changes):
        handles.append(Line2D([], [], color=QUIET, linestyle=(0, (4, 2)), linewidth=1, label="the expectation changes"))
    fig.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), fontsize=8, frameon=False)
    return fig


def _strip(axes: Axes, frames: Frames, place: int, present: Sequence[int], edges: np.ndarray, width: int) -> None:
    colors = colors_of(frames.kinds)
    mine = frames.place == place
    below = np.zeros(len(edges) - 1)
    x = edges.astype("datetime64[ns]")
    for kind in present:
        rate = np.histogram(frames.ts[mine & (frames.kind == kind)], edges)[0] * (1e9 / width)
        if rate.any():
            axes.fill_between(x, np.append(below, 0), np.append(below + rate, 0), step="post", color=colors[frames.kinds[kind]], linewidth=0)
        below = below + rate
    axes.set_title(plain(frames.places[place]), fontsize=8.5, loc="left", pad=7)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=4)
    clean(axes)


def _mark(case: Case, frames: Frames, verdicts: Sequence[Verdict], strips: dict[int, Axes]) -> bool:
    """Marks at the top of the strip of the place where evidence was captured."""
    rows = [row for verdict in verdicts if verdict.result is Result.FAIL and verdict.severity is not Severity.INFO for row in verdict.rows]
    for place, axes in strips.items():
        times = np.unique([int(case.table["ts"][row]) for row in rows if int(frames.place[row]) == place])
        if len(times):
            axes.plot(
                times.astype("datetime64[ns]"),
                np.full(len(times), 1.0),
                color=FAULT,
                marker="v",
                markersize=6,
                linestyle="",
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=5,
            )
    return bool(rows)


def _date(ns: int) -> np.datetime64:
    return np.datetime64(ns, "ns")


def _dates(axes: Axes) -> AutoDateLocator:
    locator = AutoDateLocator(tz="UTC", minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    return locator
