"""`vxtool service ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vxtool.cli.swarming import lab_option

if TYPE_CHECKING:
    from vxtool.swarm.objects import PortConfig, Service
    from vxtool.swarm.view import View

__all__ = ["command", "service_table", "table_of"]

FILTERS = ("id", "label", "mode", "name")

_HEADERS = {"ID": "ID", "Name": "NAME", "Mode": "MODE", "Replicas": "REPLICAS", "Image": "IMAGE", "Ports": "PORTS"}
_TABLE = "table {{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}"


@click.command("ls")
@click.option(
    "-f", "--filter", "filters", metavar="NAME=VALUE", multiple=True, help=f"Only those with this {', '.join(FILTERS[:-1])} or {FILTERS[-1]}."
)
@click.option("--format", metavar="TEMPLATE", help="table, json, a Go template, or table with one.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@lab_option
def command(filters: tuple[str, ...], format: str | None, quiet: bool, lab: str | None) -> None:
    """List the services of a swarm.

    \b
    Examples:
      vxtool service ls
      vxtool service ls --filter name=web --format '{{.Name}}: {{.Replicas}}'
    """
    from vxtool.cli.swarming import swarm

    view = swarm(lab).view()
    click.echo(service_table(view, filters, format=format, quiet=quiet), nl=False)


def service_table(view: View, texts: tuple[str, ...] = (), *, format: str | None = None, quiet: bool = False) -> str:
    """The text to print for the services that the filters ask for."""
    from vxtool.cli.docker_tables import filters, has_labels

    asked = filters(texts, FILTERS)
    services = [
        service
        for service in view.services.values()
        if ("id" not in asked or any(service.id.startswith(id) for id in asked["id"]))
        and ("name" not in asked or any(service.spec.name.startswith(name) for name in asked["name"]))
        and ("mode" not in asked or service.spec.mode.value in asked["mode"])
        and has_labels(service.spec.labels, asked.get("label", ()))
    ]
    return table_of(view, services, format=format, quiet=quiet)


def table_of(view: View, services: list[Service], *, format: str | None = None, quiet: bool = False) -> str:
    """The same for these services."""
    from vxtool.cli.docker_tables import listing, natural, short
    from vxtool.cli.task_table import plain_image

    rows = [
        {
            "ID": short(service.id),
            "Name": service.spec.name,
            "Mode": service.spec.mode.value.replace("-", " "),
            "Replicas": _replicas(view, service),
            "Image": plain_image(service.spec.task.image),
            "Ports": published(service.ports),
        }
        for service in sorted(services, key=lambda service: natural(service.spec.name))
    ]
    return listing(rows, _HEADERS, _TABLE, format=format, quiet=quiet, kind="service.serviceContext")


def _replicas(view: View, service: Service) -> str:
    """`6/6`, `2/3 (max 1 per node)`, of a job `0/1 (3/5 completed)`."""
    from vxtool.model import NodeState, ServiceMode, TaskState
    from vxtool.swarm.restart import JOBS

    mode = service.spec.mode
    tasks = [task for task in view.tasks_of.get(service.id, ()) if mode not in JOBS or task.job_iteration == service.job_iteration]
    # A task whose node is down may well run on; nobody knows, and its successor is counted.
    alive = {node.id for node in view.nodes.values() if node.state is not NodeState.DOWN}
    running = sum(task.state is TaskState.RUNNING and task.node in alive for task in tasks)
    completed = sum(task.state is TaskState.COMPLETE for task in tasks)
    if mode is ServiceMode.REPLICATED:
        most = service.spec.task.placement.max_replicas
        return f"{running}/{service.spec.replicas}" + (f" (max {most} per node)" if most else "")
    if mode is ServiceMode.GLOBAL:
        return f"{running}/{sum(task.desired is TaskState.RUNNING for task in tasks)}"
    desired = sum(task.desired is TaskState.COMPLETE and task.state is not TaskState.COMPLETE for task in tasks)
    if mode is ServiceMode.REPLICATED_JOB:
        return f"{running}/{service.spec.max_concurrent or service.spec.replicas} ({completed}/{service.spec.replicas} completed)"
    return f"{running}/{desired} ({completed}/{desired + completed} completed)"


def published(ports: tuple[PortConfig, ...]) -> str:
    """`*:80->80/tcp, *:8000-8002->90-92/tcp`: those of the routing mesh, neighbours taken together where both sides go on."""
    from vxtool.model import PublishMode

    runs: list[tuple[list[int], list[int], str]] = []
    for port in sorted(ports, key=lambda port: (port.protocol, port.published)):
        if port.mode is not PublishMode.INGRESS:
            continue
        if runs:
            outside, inside, protocol = runs[-1]
            ranged = inside[0] != inside[1]
            on = port.published - outside[1] <= 1 and port.target - inside[1] <= 1 and not (ranged and port.target <= inside[1])
            if protocol == port.protocol and on and port.target >= inside[1]:
                outside[1], inside[1] = port.published, port.target
                continue
        runs.append(([port.published] * 2, [port.target] * 2, port.protocol))
    return ", ".join(f"*:{_span(outside)}->{_span(inside)}/{protocol}" for outside, inside, protocol in runs)


def _span(ends: list[int]) -> str:
    return f"{ends[0]}-{ends[1]}" if ends[0] != ends[1] else str(ends[0])
