"""`vxtool ps`."""

from __future__ import annotations

import click

from . import swarming
from .swarming import NODE, lab_option

__all__ = ["command"]

_HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Networks": "NETWORKS",
    "Labels": "LABELS",
    "Node": "NODE",
    "Names": "NAMES",
}
_TABLE = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Node}}\t{{.Names}}"


@click.command("ps")
@click.option("-a", "--all", "ended", is_flag=True, help="Also those that do not run.")
@click.option("--node", metavar="NODE", shell_complete=NODE, help="Only those of a node.  [default: of all]")
@click.option(
    "-f", "--filter", "texts", multiple=True, metavar="NAME=VALUE", help="ancestor, exited, id, is-task, label, name, network, node, status."
)
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="The N that were made last, whether they run or not.")
@click.option("-l", "--latest", is_flag=True, help="As --last 1.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten ids and commands.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option(
    "--format", metavar="TEMPLATE", help="'table', 'table TEMPLATE', 'json', or a Go template: {{.ID}}, {{.Names}}, {{.Node}}, {{.Status}}, ..."
)
@lab_option
def command(
    ended: bool,
    node: str | None,
    texts: tuple[str, ...],
    last: int | None,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
    format: str | None,
    lab: str | None,
) -> None:
    """List the containers of a lab's swarm: the tasks of its services, and what `vxtool run` has started.

    \b
    vxtool ps
    vxtool ps -a --node vm2
    vxtool ps --filter name=web --format '{{.Names}} {{.Node}}'
    """
    from .containers import FILTERS, row, selected
    from .docker_tables import filters, listing

    asked = filters(texts, tuple(FILTERS))
    view = swarming.swarm(lab).view()
    if node is not None:
        asked.setdefault("node", []).append(view.node(node).id)
    rows = [row(view, task, whole=no_trunc) for task in selected(view, asked, ended=ended, last=1 if latest else last or 0)]
    click.echo(listing(rows, _HEADERS, _TABLE, format=format, quiet=quiet, kind="formatter.ContainerContext"), nl=False)
