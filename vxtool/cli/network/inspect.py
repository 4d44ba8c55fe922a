"""`vxtool network inspect`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.swarming import NETWORK, lab_option

from .finding import node_option

__all__ = ["command"]


@click.command("inspect")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...", shell_complete=NETWORK)
@click.option("-f", "--format", metavar="FORMAT", help="A Go template, or json: one line for each.")
@click.option("-v", "--verbose", is_flag=True, help="Also services and their tasks on all nodes, as gossip tells them.")
@node_option
@lab_option
def command(networks: tuple[str, ...], format: str | None, verbose: bool, node: str | None, lab: str | None) -> int:
    """Show networks as Docker-shaped JSON, as one node sees them: Containers are that node's.

    \b
    Examples:
      vxtool network inspect web
      vxtool network inspect -v --node vm2 web ingress
      vxtool network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' web
    """
    from vxtool.cli import swarming
    from vxtool.cli.docker_tables import inspected
    from vxtool.swarm import inspecting

    from .finding import asked_at, found
    from .local import LocalNetwork, document

    view = swarming.swarm(lab).view()
    on = asked_at(view, node)
    documents: list[dict[str, Any]] = []

    def add(name: str) -> None:
        network = found(view, name, on)
        documents.append(document(network, on) if isinstance(network, LocalNetwork) else inspecting.network(view, network, on, verbose))

    code = swarming.each(networks, add)
    click.echo(inspected(documents, format, inspecting.OPTIONAL), nl=False)
    return code
