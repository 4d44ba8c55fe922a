"""`vxtool node inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from vxtool.cli.printable import printable
from vxtool.cli.swarming import NODE, lab_option

if TYPE_CHECKING:
    from vxtool.swarm.objects import Node
    from vxtool.swarm.view import View

__all__ = ["command"]


@click.command("inspect")
@click.argument("nodes", nargs=-1, required=True, metavar="self|NODE...", shell_complete=NODE)
@click.option("-f", "--format", metavar="FORMAT", help="A Go template, or json: one line for each.")
@click.option("--pretty", is_flag=True, help="For people.")
@lab_option
def command(nodes: tuple[str, ...], format: str | None, pretty: bool, lab: str | None) -> int:
    """Show nodes as Docker-shaped JSON, or for people.

    \b
    Examples:
      vxtool node inspect vm2
      vxtool node inspect --pretty self
      vxtool node inspect --format '{{.Status.Addr}}' vm1 vm2
    """
    from vxtool.cli import swarming
    from vxtool.cli.docker_tables import inspected
    from vxtool.errors import UsageError
    from vxtool.swarm import inspecting

    if pretty and format:
        raise UsageError("--format is incompatible with human friendly format")
    view = swarming.swarm(lab).view()
    found: list[Any] = []
    code = swarming.each(nodes, lambda name: found.append(view.node(name)))
    if pretty:
        click.echo("\n".join(printable(line, "\t") for node in found for line in _pretty(view, node)))
    else:
        click.echo(inspected([inspecting.node(node) for node in found], format, inspecting.OPTIONAL), nl=False)
    return code


def _pretty(view: View, node: Node) -> Iterator[str]:
    """Lines of docker/cli's template (cli/command/node/formatter.go), with its tabs."""
    from vxtool.cli.docker_tables import bytes_size, go_time

    yield f"ID:\t\t\t{node.id}"
    yield from _labels("Labels:", node.labels)
    yield f"Hostname:              \t{node.hostname}"
    yield f"Joined at:             \t{go_time(node.created_at).lower()}"
    yield "Status:"
    yield f" State:\t\t\t{node.state.capitalize()}"
    if node.message:
        yield f" Message:              \t{node.message.capitalize()}"
    yield f" Availability:         \t{node.availability.capitalize()}"
    if node.address:
        yield f" Address:\t\t{node.address}"
    if view.manager is not None and view.manager.id == node.id:
        yield "Manager Status:"
        yield f" Address:\t\t{node.address}:2377"
        yield " Raft Status:\t\tReachable"
        yield " Leader:\t\tYes"
    yield "Platform:"
    yield f" Operating System:\t{node.platform.os if node.platform else ''}"
    yield f" Architecture:\t\t{node.platform.arch if node.platform else ''}"
    yield "Resources:"
    yield f" CPUs:\t\t\t{node.resources.nano_cpus // 1_000_000_000 if node.resources else 0}"
    yield f" Memory:\t\t{bytes_size(node.resources.memory_bytes) if node.resources and node.resources.memory_bytes else ''}"
    plugins: dict[str, list[str]] = {}
    for kind, name in node.plugins:
        plugins.setdefault(kind, []).append(name)
    if plugins:
        yield "Plugins:"
        yield from (f" {kind}:\t\t{', '.join(names)}" for kind, names in sorted(plugins.items()))
    yield f"Engine Version:\t\t{node.engine_version}"
    yield from _labels("Engine Labels:", node.engine_labels)


def _labels(head: str, labels: Any) -> Iterator[str]:
    if labels:
        yield head
        yield from (f" - {key}={value}" if value else f" - {key}" for key, value in sorted(labels.items()))
