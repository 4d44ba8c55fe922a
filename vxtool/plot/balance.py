"""The balance of the routing mesh: connections per backend, a panel for each entry node and service."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vxtool.model import Address
from vxtool.plot.style import COLORS, FAULT, QUIET, clean, figure, nothing, plain
from vxtool.verify.case import Case
from vxtool.verify.choices import COLUMNS, mesh_of
from vxtool.verify.turns import Turns, stretches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["mesh"]

MOST_PANELS = 12
MOST_BACKENDS = 16


def mesh(case: Case) -> Figure:
    """How often each balancer chose each backend, from SYNs.

    Backends on the entry node itself are not visible on the underlay; where clients were captured there too, they are one bar: their average. Red:
    backends that were never chosen, and bars of a panel where the exact round-robin test fails. At most 12 panels, those at fault first.
    """
    if not set(COLUMNS) <= set(case.table.columns):
        return nothing("connections were not looked at: no check of the mesh was among the checks chosen")
    everything = [turns for turns in stretches(case, mesh_of(case)) if turns.choices]
    if not everything:
        return nothing("no balanced connection was captured")
    everything.sort(key=lambda turns: turns.even and not turns.never)
    shown = sorted(everything[:MOST_PANELS], key=lambda turns: (min(turns.captures, default=0), turns.network, turns.service or "", turns.entry))
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    tallest = max(len(_bars(turns)) for turns in shown)
    fig = figure(3.1 * columns, 0.7 + rows * (0.75 + 0.2 * tallest))
    panels = fig.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.axis("off")
    met = Counter((turns.entry, turns.network, turns.service) for turns in shown)
    for axes, turns in zip(panels, shown, strict=False):
        _panel(axes, turns, several=met[turns.entry, turns.network, turns.service] > 1)
    handles = [Patch(color=COLORS[0], label="connections to a backend")]
    if any(_local(turns) for turns in shown):
        handles.append(Patch(facecolor="none", edgecolor=COLORS[0], hatch="////", label="average of those on the entry node itself"))
    if any(turns.never or not turns.even for turns in shown):
        handles.append(Patch(color=FAULT, label="✗ not in turn, or never chosen"))
    title = f"{len(everything) - len(shown)} more balancers are not drawn" if len(everything) > len(shown) else None
    fig.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False, title=title, title_fontsize=8)
    return fig


def _local(turns: Turns) -> tuple[int, float] | None:
    """How many backends are on the entry node, and how often they were chosen together."""
    counted = [part for part in turns.parts if part.local and part.local_sum is not None]
    if not counted:
        return None
    return max(part.local for part in counted), float(sum(part.local_sum[0] for part in counted if part.local_sum is not None))


def _bars(turns: Turns) -> list[tuple[str, float, str]]:
    """Label, connections, and what is written behind the bar."""
    totals: dict[Address, int] = dict.fromkeys(turns.never, 0)
    for part in turns.parts:
        for address, (least, _) in part.counts.items():
            totals[address] = totals.get(address, 0) + least
    ordered = sorted(totals.items(), key=lambda item: (str(turns.homes.get(item[0])), item[0].version, int(item[0])))
    bars = [(_called(turns, address), float(count), f"{count:,}" if count else "✗ none") for address, count in ordered]
    if len(bars) > MOST_BACKENDS:
        rest = bars[MOST_BACKENDS - 1 :]
        average = sum(count for _, count, _ in rest) / len(rest)
        bars = [*bars[: MOST_BACKENDS - 1], (f"{len(rest)} more, average", average, f"{average:,.1f}")]
    local = _local(turns)
    if local is not None:
        count, together = local
        bars.append((f"{count} on {plain(turns.entry, 16)}", together / count, f"{together:,.0f}" + (" together" if count > 1 else "")))
    return bars


def _called(turns: Turns, address: Address) -> str:
    """`web.3 at vm2 (.11)`: the task's slot and its node."""
    for cluster in turns.clusters:
        for endpoint in cluster.endpoints_of_network.get(turns.network, ()):
            if address in endpoint.addresses and endpoint.name:
                parts = endpoint.name.split(".")
                name = ".".join(parts[:-1]) if len(parts) > 2 else endpoint.name
                return plain(name, 18) + f"  {address}"
    home = turns.homes.get(address)
    return f"{address}" + (f" at {plain(home, 14)}" if home else "")


def _panel(axes: Axes, turns: Turns, *, several: bool) -> None:
    bars = _bars(turns)
    local = _local(turns)
    color = COLORS[0] if turns.even else FAULT
    for place, (_, count, told) in enumerate(reversed(bars)):
        average = local is not None and place == 0
        axes.barh(place, count, 0.7, facecolor="none" if average else color, edgecolor=color, hatch="////" if average else None, linewidth=0.8)
        axes.annotate(told, (count, place), (3, 0), textcoords="offset points", va="center", fontsize=7.5, color=None if count else FAULT)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in reversed(bars)])
    axes.set_xlim(0, max((count for _, count, _ in bars), default=1) * 1.35 or 1)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    port = f" port {', '.join(map(str, turns.ports[:3]))}" if turns.ports else ""
    since = f", {datetime.fromtimestamp(turns.choices[0].time_ns // 10**9, UTC):%H:%M:%S}" if several else ""
    fault = "" if turns.even and not turns.never else "✗ "
    axes.set_title(
        f"{fault}through {plain(turns.entry, 22)}{since}\n{plain(turns.service or 'a service', 22)}{port}",
        fontsize=8.5,
        loc="left",
        pad=4,
    )
    clean(axes)
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.tick_params(axis="x", labelsize=7, labelcolor=QUIET)
    axes.locator_params(axis="x", nbins=4, integer=True)
