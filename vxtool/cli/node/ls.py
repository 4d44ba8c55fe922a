"""`vxtool node ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vxtool.cli.swarming import lab_option

if TYPE_CHECKING:
    from vxtool.swarm.objects import Node
    from vxtool.swarm.view import View

__all__ = ["command"]

_HEADERS = {
    "ID": "ID",
    "Self": "",
    "Hostname": "HOSTNAME",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "ManagerStatus": "MANAGER STATUS",
    "EngineVersion": "ENGINE VERSION",
    "TLSStatus": "TLS STATUS",
}
_TABLE = "table {{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}"
_FILTERS = ("id", "label", "membership", "name", "node.label", "role")


@click.command("ls")
@click.option("-f", "--filter", "asked", multiple=True, metavar="KEY=VALUE", help="id, name, role, label (the engine's), node.label, membership.")
@click.option("--format", metavar="FORMAT", help="table, 'table TEMPLATE', json, or a Go template.")
@click.option("-q", "--quiet", is_flag=True, help="IDs only.")
@lab_option
def command(asked: tuple[str, ...], format: str | None, quiet: bool, lab: str | None) -> None:
    """List the nodes of the swarm. `*` marks the manager, which is asked.

    \b
    Examples:
      vxtool node ls
      vxtool node ls --filter role=worker --filter node.label=disk=ssd
      vxtool node ls --format '{{.Hostname}}: {{.Status}}'
    """
    from vxtool.cli import swarming
    from vxtool.cli.docker_tables import filters, listing, natural

    wanted = _checked(filters(asked, _FILTERS))
    view = swarming.swarm(lab).view()
    nodes = sorted((node for node in view.nodes.values() if _is_wanted(node, wanted)), key=lambda node: natural(node.hostname))
    click.echo(listing([_row(view, node) for node in nodes], _HEADERS, _TABLE, format=format, quiet=quiet, kind="node.nodeContext"), nl=False)


def _row(view: View, node: Node) -> dict[str, Any]:
    manager = view.manager is not None and node.id == view.manager.id
    return {
        "ID": node.id,
        "Self": manager,
        "Hostname": node.hostname,
        "Status": node.state.capitalize(),
        "Availability": node.availability.capitalize(),
        "ManagerStatus": "Leader" if manager else "",
        "EngineVersion": node.engine_version,
        "TLSStatus": "Unknown",  # what Docker says of a node that shows no certificate
    }


def _checked(wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    from vxtool.errors import UsageError
    from vxtool.model import Role

    for kind, known in (("role", tuple(Role)), ("membership", ("pending", "accepted"))):
        for value in wanted.get(kind, ()):
            if value.lower() not in known:
                raise UsageError(f"Invalid {kind} filter: '{value}'")
    return wanted


def _is_wanted(node: Node, wanted: dict[str, list[str]]) -> bool:
    """As swarmkit lists nodes: names and ids by how they begin; of several values one must fit, of labels all."""
    from vxtool.cli.docker_tables import has_labels

    return (
        ("id" not in wanted or node.id.startswith(tuple(wanted["id"])))
        and ("name" not in wanted or node.hostname.startswith(tuple(wanted["name"])))
        and ("role" not in wanted or node.role in [role.lower() for role in wanted["role"]])
        and ("membership" not in wanted or "accepted" in [value.lower() for value in wanted["membership"]])
        and has_labels(node.engine_labels, wanted.get("label", ()))
        and has_labels(node.labels, wanted.get("node.label", ()))
    )
