"""`vxtool trace`: its options. What they do is in tracing.py, which loads NumPy."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("trace")
@click.argument("captures", nargs=-1, required=True, metavar="[NODE=]FILE...")
@click.option("--flow", "flow", metavar="'A > B'", help="The flow to follow: '10.0.1.3:33000 > 10.0.1.4:80'; without ports, all between the two.")
@click.option("--frame", "frame", metavar="NAME:N", help="The flow of frame N of a capture (its file's name or its node).")
@click.option(
    "--expect",
    "expect",
    multiple=True,
    metavar="FILE|FOLDER|-[@TIME]",
    help="What the cluster should be: names nodes and tasks (as for vxtool verify).",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Another UDP port that carries VXLAN.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, metavar="N", help="At most this many packets.")
@click.option("--missing", is_flag=True, help="Only packets that some capture should have and has not.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document (schema vxtool-trace@1).")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colours; auto: on a terminal, unless NO_COLOR is set.")
def trace(**given: object) -> int:
    """Follow one inner flow through all captures: where each packet was seen, when, and where not.

    \b
    Examples:
      vxtool trace vm1.pcap vm2.pcap                                 the flows there are
      vxtool trace vm1.pcap vm2.pcap --flow '10.0.1.3:33000 > 10.0.1.4:80'
      vxtool trace vm1=a.pcap vm2=b.pcap web.2=task.pcap --frame a.pcap:812 --expect swarm-state/

    A line is one inner packet, a column one capture: the frame's number there, and how long after the packet was first seen. `-` is where it was not
    seen though the capture ran, `~N` where offload cut or joined it into frame N. Differences between the clocks are found and taken out.

    Exit codes: 0 fine; 1 damage in a capture; 2 nothing could be done.
    """
    from vxtool.cli.tracing import run

    return run(**given)  # type: ignore[arg-type]


command = trace
