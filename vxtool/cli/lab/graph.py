"""`vxtool lab graph`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .choosing import lab_option

if TYPE_CHECKING:
    from vxtool.lab.topology import Topology
    from vxtool.model import Cluster

__all__ = ["command"]

_FORMATS = ("ascii", "mermaid", "dot", "svg")


@click.command("graph")
@click.option("--format", "wanted", type=click.Choice(_FORMATS), help="How.  [default: by the suffix of --output, else ascii]")
@click.option("-o", "--output", metavar="FILE", help="Where to; a suffix .svg, .mmd, .dot, .gv or .txt tells the format.  [default: stdout]")
@click.option("--of", "of", metavar="TOPOLOGY|FILE", help="Of a lab that need not run, named as for `vxtool lab up`; needs no root.")
@lab_option
def command(wanted: str | None, output: str | None, of: str | None, lab: str | None) -> None:
    """Draw a lab: nodes, underlay, overlay networks and endpoints; links with what is wrong with them at this moment.

    \b
    Examples:
      vxtool lab graph
      vxtool lab graph -o lab.svg
      vxtool lab graph --format dot | dot -Tpdf > lab.pdf
      vxtool lab graph --of two_racks,n=4 -o racks.svg
      vxtool lab graph --of my-lab.yaml --format mermaid
    """
    from vxtool.errors import UsageError
    from vxtool.lab.graph import draw, format_of

    if of is not None and lab is not None:
        raise UsageError("--of and --lab exclude each other: one is of what need not run, the other of what does")
    # Before anybody is asked for anything.
    chosen_format = wanted or (format_of(output) if output not in (None, "-") else "ascii")
    topology, cluster = _running(lab) if of is None else _described(of)
    drawn = draw(topology, cluster, chosen_format)
    if output in (None, "-"):
        click.echo(drawn, nl=False)
    else:
        Path(output).write_text(drawn, encoding="utf-8")


def _running(lab: str | None) -> tuple[Topology, Cluster]:
    from vxtool.lab.client import call
    from vxtool.lab.topology import Topology
    from vxtool.model import Cluster
    from vxtool.model.plain import revive

    from .choosing import chosen

    state = call(chosen(lab), "state")
    return revive(Topology, state["topology"]), revive(Cluster, state["cluster"])


def _described(of: str) -> tuple[Topology, Cluster]:
    from vxtool.lab.spec import from_options

    spec = from_options(of)
    return spec.topology, spec.cluster
