"""`vxtool lab ps`."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click

from .choosing import lab_option

__all__ = ["command"]


@click.command("ps")
@click.option("--node", metavar="NODE", help="Only what is on this node.")
@click.option("--network", metavar="NAME", help="Only what is in this network.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Names only, one a line.")
@lab_option
def command(node: str | None, network: str | None, as_json: bool, quiet: bool, lab: str | None) -> None:
    """List the endpoints of a lab, and the programs that run in them.

    Programs are what a task's container runs, and those that were started by `vxtool lab exec` and `shell`, each with its number; those at nodes come
    last.

    \b
    Examples:
      vxtool lab ps
      vxtool lab ps --node sathish-vm1 -q
    """
    from vxtool.errors import UsageError
    from vxtool.lab.client import call
    from vxtool.lab.programs import listing

    from .choosing import chosen
    from .listing import columns

    if as_json and quiet:
        raise UsageError("--json and --quiet exclude each other")
    running = chosen(lab)
    cluster = call(running, "state")["cluster"]
    _check("node", node, cluster["nodes"])
    _check("network", network, cluster["networks"])
    programs: dict[str, list[dict[str, Any]]] = {}
    for program in listing(running):
        if program.code is None:
            programs.setdefault(program.namespace, []).append({"number": program.number, "command": list(program.command), "user": program.user})
    sandboxes = _sandboxes(cluster, programs, node, network)
    elsewhere = [(place, told) for place, told in programs.items() if network is None and node in (None, place)]
    if quiet:
        click.echo("".join(f"{sandbox['name']}\n" for sandbox in sandboxes), nl=False)
    elif as_json:
        click.echo(json.dumps({"endpoints": sandboxes, "elsewhere": dict(elsewhere)}, indent=2))
    else:
        rows = [row for sandbox in sandboxes for row in _rows(sandbox)]
        rows += [(None, place, None, None, None, _commands(told)) for place, told in elsewhere]
        click.echo(columns(("ENDPOINT", "NODE", "NETWORK", "ADDRESS", "MAC", "PROGRAMS"), rows), nl=False)


def _check(kind: str, name: str | None, known: list[dict[str, Any]]) -> None:
    from vxtool.errors import UsageError

    names = [one["name"] for one in known]
    if name is not None and name not in names:
        raise UsageError(f"no {kind} is called {name!r} (there are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''})")


def _sandboxes(cluster: dict[str, Any], programs: dict[str, list[dict[str, Any]]], node: str | None, network: str | None) -> list[dict[str, Any]]:
    """One entry for each sandbox, with its attachments; its programs are taken out of `programs`."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for endpoint in cluster["endpoints"]:
        name, where = endpoint["name"], endpoint["node"]
        sandbox = found.setdefault((where, name), {"name": name, "node": where, "networks": [], "programs": programs.pop(f"{where}:{name}", [])})
        sandbox["networks"].append({"network": endpoint["network"], "address": endpoint["ip"], "mac": endpoint["mac"]})
    return [
        sandbox
        for sandbox in found.values()
        if node in (None, sandbox["node"]) and (network is None or any(one["network"] == network for one in sandbox["networks"]))
    ]


def _rows(sandbox: dict[str, Any]) -> list[tuple[object, ...]]:
    """A line for each attachment; name, node and programs stand in the first."""
    rows: list[tuple[object, ...]] = []
    for place, one in enumerate(sandbox["networks"]):
        first = place == 0
        about = (sandbox["name"], sandbox["node"]) if first else (" ", " ")
        rows.append((*about, one["network"], one["address"], one["mac"], _commands(sandbox["programs"]) if first else " "))
    return rows


def _commands(programs: list[dict[str, Any]]) -> str:
    """What a container runs has no number: it goes with the container."""
    return ", ".join(f"{program['number']}: " * (program["number"] > 0) + shlex.join(program["command"]) for program in programs)
