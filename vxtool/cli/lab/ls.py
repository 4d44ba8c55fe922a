"""`vxtool lab ls`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vxtool.lab.registry import Running

__all__ = ["command"]


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Names only, one a line.")
def command(as_json: bool, quiet: bool) -> None:
    """List the labs of this machine.

    \b
    vxtool lab ls
    vxtool lab ls -q | xargs -n1 vxtool lab down
    """
    from vxtool.errors import UsageError
    from vxtool.lab.registry import running

    from .choosing import swept
    from .listing import columns

    if as_json and quiet:
        raise UsageError("--json and --quiet exclude each other")
    swept()
    labs = running()
    if quiet:
        click.echo("".join(f"{lab.name}\n" for lab in labs), nl=False)
    elif as_json:
        click.echo(json.dumps([_told(lab) for lab in labs], indent=2))
    else:
        heads = ("NAME", "TOPOLOGY", "NODES", "NETWORKS", "ENDPOINTS", "UP SINCE", "MEMORY")
        click.echo(columns(heads, [_row(_told(lab)) for lab in labs]), nl=False)


def _told(lab: Running) -> dict[str, Any]:
    """What is known of it; a lab that does not answer (it is being built, or its supervisor is in trouble) is listed with its reason."""
    from vxtool.errors import VxtoolError
    from vxtool.lab.cgroups import memory
    from vxtool.lab.client import call

    told: dict[str, Any] = {"name": lab.name, "leader": lab.leader, "folder": str(lab.folder)}
    try:
        state = call(lab, "state")
        told |= {
            "topology": state["topology"]["name"],
            "nodes": [machine["name"] for machine in state["topology"]["machines"] if machine["kind"] == "node"],
            "networks": [network["name"] for network in state["cluster"]["networks"]],
            "endpoints": len({(endpoint["node"], endpoint["name"]) for endpoint in state["cluster"]["endpoints"]}),
            "impaired_links": sorted(state["impairments"]),
        }
        told |= {"since": datetime.fromtimestamp(lab.since, UTC).isoformat(timespec="seconds"), "memory_bytes": memory(lab.groups)}
    except (VxtoolError, FileNotFoundError) as error:  # the file: it has ended in this moment
        told["trouble"] = str(error)
    return told


def _row(told: dict[str, Any]) -> tuple[object, ...]:
    if "trouble" in told:
        return told["name"], told["trouble"], None, None, None, None, None
    since = datetime.fromisoformat(told["since"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    memory = told["memory_bytes"]
    size = None if memory is None else f"{memory / 1e6:,.0f} MB"
    return told["name"], told["topology"], len(told["nodes"]), len(told["networks"]), told["endpoints"], since, size
