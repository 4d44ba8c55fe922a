"""`vxtool service explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vxtool.cli.printable import printable
from vxtool.cli.swarming import SERVICE, lab_option

if TYPE_CHECKING:
    from vxtool.swarm.explain import Explanation, Verdict
    from vxtool.swarm.view import View

__all__ = ["command"]

_HEADERS = {
    "Rank": "RANK",
    "Node": "NODE",
    "Failures": "FAILURES",
    "TasksOfService": "TASKS OF SERVICE",
    "Tasks": "ALL TASKS",
    "Branch": "SPREAD",
    "Refused": "REFUSED BY",
    "Detail": "BECAUSE",
}


@click.command("explain")
@click.argument("service", metavar="SERVICE", shell_complete=SERVICE)
@click.option("--format", metavar="TEMPLATE", help="table, json, a Go template, or table with one.")
@lab_option
def command(service: str, format: str | None, lab: str | None) -> None:
    """Tell where the next task of a service would go, and why not elsewhere.

    The nodes in the order in which the scheduler would take them: those with fewer failures first (of this version of the service, in five
    minutes, where there are five or more), then those with fewer tasks of the service, then those with fewer tasks. After them the nodes that a
    filter refuses: the first one that does, of ready, resources, plugins, constraints, platform, host ports, replicas per node.

    \b
    Examples:
      vxtool service explain web
      vxtool service explain web --format json
    """
    from vxtool.cli.docker_tables import listing
    from vxtool.cli.swarming import swarm
    from vxtool.swarm.explain import explain

    view = swarm(lab).view()
    told = explain(view, view.service(service))
    spread = told.service.spec.task.placement.preferences
    columns = ["Rank", "Node", "Failures", "TasksOfService", "Tasks", *(["Branch"] if spread else []), "Refused", "Detail"]
    table = "table " + "\t".join(f"{{{{.{column}}}}}" for column in columns)
    click.echo(listing(map(_row, told.verdicts), _HEADERS, table, format=format, kind="service.explainContext"), nl=False)
    if not format:
        for line in _sentences(view, told):
            click.echo(printable(line))


def _row(verdict: Verdict) -> dict[str, str]:
    return {
        "Rank": str(verdict.rank or "-"),
        "Node": verdict.node.hostname or verdict.node.id,
        "Failures": str(verdict.failures),
        "TasksOfService": str(verdict.tasks_of_service),
        "Tasks": str(verdict.tasks),
        "Branch": " / ".join(value or "(none)" for value in verdict.branch),
        "Refused": verdict.refused,
        "Detail": verdict.detail,
    }


def _sentences(view: View, told: Explanation) -> list[str]:
    from vxtool.model import ServiceMode

    spec = told.service.spec
    lines = []
    if spec.mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB):
        fit = sum(verdict.rank is not None for verdict in told.verdicts)
        lines.append(f"{spec.name} is global: a task on each of the {fit} nodes that no filter refuses")
    elif told.chosen is not None:
        lines.append(f"The next task of {spec.name} would go to {told.chosen.hostname or told.chosen.id}{_why(told)}")
    else:
        lines.append(f"The next task of {spec.name} would go nowhere: {told.error or 'no suitable node'}")
    waiting: dict[str, int] = {}
    for task in told.waiting:
        waiting[task.error] = waiting.get(task.error, 0) + 1
    lines += [f"{count} {'task waits' if count == 1 else 'tasks wait'}: {error}" for error, count in waiting.items()]
    return lines


def _why(told: Explanation) -> str:
    """What set the chosen node apart from the next best."""
    from vxtool.swarm.scheduler import MAX_FAILURES

    fit = [verdict for verdict in told.verdicts if verdict.rank is not None]
    mine = next(verdict for verdict in fit if verdict.node is told.chosen)
    others = [verdict for verdict in fit if verdict is not mine]
    if not others:
        return ": no other node passes the filters"
    preferences = told.service.spec.task.placement.preferences
    if preferences and any(verdict.branch != mine.branch for verdict in others):
        return f": tasks are spread over {', '.join(preferences)} first, then as the nodes rank"
    second = min(others, key=lambda verdict: verdict.rank or 0)
    if second.failures >= MAX_FAILURES > mine.failures:
        return ": tasks of this service have failed on the others"
    if mine.tasks_of_service < second.tasks_of_service:
        return ": it has the fewest tasks of this service"
    if mine.tasks < second.tasks:
        return ": it has the fewest tasks"
    return f": no better than {second.node.hostname or second.node.id}, and which of equals is taken is open"
