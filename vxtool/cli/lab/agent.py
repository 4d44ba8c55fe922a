"""`vxtool lab agent`."""

from __future__ import annotations

import click

from .choosing import lab_option

__all__ = ["command"]


@click.group("agent")
def command() -> None:
    """Kill or start the agent of a swarm's node, to see what the others do.

    \b
    vxtool lab agent ls
    vxtool lab agent kill sathish-vm2     after three missed heartbeats its tasks run elsewhere
    vxtool lab agent start sathish-vm2    it comes back, and its old containers are ended
    """


@command.command("ls")
@lab_option
def list_agents(lab: str | None) -> None:
    """List the nodes, whether the agent of each lives, and the id that the swarm knows it by.

    \b
    vxtool lab agent ls
    """
    from vxtool.cli.swarming import swarm

    from .listing import columns

    agents = swarm(lab).agents()
    rows = [
        (one["node"], "runs" if one["alive"] else "dead" if one["id"] else "not in a swarm", one["pid"] if one["alive"] else None, one["id"])
        for one in agents
    ]
    click.echo(columns(("NODE", "AGENT", "PID", "ID"), rows), nl=False)


@command.command("kill")
@click.argument("node")
@lab_option
def kill(node: str, lab: str | None) -> None:
    """Kill a node's agent with -9. Its containers run on, as a killed engine's do; nobody is told.

    \b
    vxtool lab agent kill sathish-vm2
    """
    from vxtool.cli.swarming import swarm

    swarm(lab).kill_agent(node)
    click.echo(f"the agent of {node} is killed; vxtool lab agent start {node} brings it back")


@command.command("start")
@click.argument("node")
@lab_option
def start(node: str, lab: str | None) -> None:
    """Start the agent of a node that has joined the swarm before. It ends what its predecessor had running, as an engine does.

    \b
    vxtool lab agent start sathish-vm2
    """
    from vxtool.cli.swarming import swarm

    swarm(lab).start_agent(node)
    click.echo(f"the agent of {node} runs")
