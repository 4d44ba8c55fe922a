"""`vxtool network VERB ...`: the networks of a lab's swarm, one file a verb."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vxtool.cli import Verb, Verbs

__all__ = ["command"]


class NetworkVerbs(Verbs):
    verbs: Mapping[str, Verb] = {
        "ls": Verb("vxtool.cli.network.ls", "List networks, as on a Docker host."),
        "create": Verb("vxtool.cli.network.create", "Create an overlay network."),
        "inspect": Verb("vxtool.cli.network.inspect", "Show networks as Docker-shaped JSON, as a node sees them."),
        "rm": Verb("vxtool.cli.network.rm", "Remove networks."),
        "prune": Verb("vxtool.cli.network.prune", "Remove all networks that nothing uses."),
        "connect": Verb("vxtool.cli.network.connect", "Connect a container to an attachable network."),
        "disconnect": Verb("vxtool.cli.network.disconnect", "Disconnect a container from a network."),
    }


@click.group(cls=NetworkVerbs)
def command() -> None:
    """Make overlay networks and look at them, as `docker network` does.

    \b
    vxtool network create web
    vxtool network inspect -v web
    vxtool network ls
    """
