"""`vxtool network ls`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from vxtool.cli.swarming import lab_option

from .finding import node_option

if TYPE_CHECKING:
    from vxtool.swarm.objects import Node
    from vxtool.swarm.view import View

__all__ = ["command"]

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_TABLE = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


@click.command("ls")
@click.option("-f", "--filter", "asked", multiple=True, metavar="KEY=VALUE", help="driver, id, label, name, scope, type (builtin, custom), dangling.")
@click.option("--format", metavar="FORMAT", help="table, 'table TEMPLATE', json, or a Go template.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option("-q", "--quiet", is_flag=True, help="IDs only.")
@node_option
@lab_option
def command(asked: tuple[str, ...], format: str | None, no_trunc: bool, quiet: bool, node: str | None, lab: str | None) -> None:
    """List networks, as on a Docker host: the node's own, and the swarm's.

    \b
    Examples:
      vxtool network ls
      vxtool network ls --filter driver=overlay --filter label=tier -q
      vxtool network ls --node vm2
    """
    from vxtool.cli import swarming
    from vxtool.cli.docker_tables import filters, listing, natural

    from .finding import asked_at

    wanted = filters(asked, _FILTERS)
    view = swarming.swarm(lab).view()
    on = asked_at(view, node)
    documents = sorted(_filtered(_documents(view, on), wanted), key=lambda document: natural(document["Name"]))
    rows = [_row(document, no_trunc) for document in documents]
    click.echo(listing(rows, _HEADERS, _TABLE, format=format, quiet=quiet, kind="network.networkContext"), nl=False)


def _documents(view: View, node: Node | None) -> list[dict[str, Any]]:
    """What `network inspect` would say, and under "used" whether there is anything in it."""
    from vxtool.swarm import inspecting

    from .finding import has
    from .local import LOCAL, document

    networks = [network for network in view.networks.values() if has(network, node)]
    users = {attached.network for task in view.tasks.values() for attached in task.networks}
    users |= {wanted.network for service in view.services.values() for wanted in service.spec.task.networks}
    shared = [{**inspecting.network(view, network, node), "used": network.id in users, "at": network.created_at} for network in networks]
    own = [{**document(network, node), "used": False, "at": node.created_at if node is not None else 0.0} for network in LOCAL]
    return own + shared


def _row(document: dict[str, Any], whole: bool) -> dict[str, Any]:
    from vxtool.cli.docker_tables import go_time, short

    labels = document["Labels"] or {}
    return {
        "ID": short(document["Id"], whole),
        "Name": document["Name"],
        "Driver": document["Driver"],
        "Scope": document["Scope"],
        "IPv4": "true",
        "IPv6": "false",
        "Internal": str(document["Internal"]).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": lambda key: labels.get(key, ""),
        "CreatedAt": go_time(document["at"]),
    }


def _filtered(documents: list[dict[str, Any]], wanted: dict[str, list[str]]) -> list[dict[str, Any]]:
    """As moby's daemon/network/filter.go: of several values one must fit, of labels all."""
    from vxtool.cli.docker_tables import has_labels
    from vxtool.errors import UsageError

    from .local import PREDEFINED

    for key, field in (("driver", "Driver"), ("scope", "Scope")):
        if key in wanted:
            documents = [document for document in documents if document[field] in wanted[key]]
    for key, field in (("name", "Name"), ("id", "Id")):
        if key in wanted:
            documents = [document for document in documents if any(_matches(document[field], value) for value in wanted[key])]
    documents = [document for document in documents if has_labels(document["Labels"] or {}, wanted.get("label", ()))]
    if "dangling" in wanted:
        values = wanted["dangling"]
        if len(values) > 1:
            raise UsageError('got more than one value for filter key "dangling"')
        if values[0] not in ("0", "false", "1", "true"):
            raise UsageError('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
        unused = [document for document in documents if document["Name"] not in PREDEFINED and not document["used"]]
        documents = unused if values[0] in ("1", "true") else [document for document in documents if document not in unused]
    if "type" in wanted:
        for kind in wanted["type"]:
            if kind not in ("builtin", "custom"):
                raise UsageError(f"invalid filter: 'type'='{kind}'")
        documents = [document for document in documents if ("builtin" if document["Name"] in PREDEFINED else "custom") in wanted["type"]]
    return documents


def _matches(text: str, value: str) -> bool:
    """A part of it, or a regular expression, as Docker's filters take both."""
    try:
        return value in text or re.search(value, text) is not None
    except re.error:
        return False
