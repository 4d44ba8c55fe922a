"""`vxtool swarm VERB ...`: a lab's nodes become a swarm, one file a verb."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vxtool.cli import Verb, Verbs

__all__ = ["command"]


class SwarmVerbs(Verbs):
    verbs: Mapping[str, Verb] = {
        "init": Verb("vxtool.cli.swarm.init", "Initialize a swarm."),
        "join": Verb("vxtool.cli.swarm.join", "Join a swarm as a node."),
        "join-token": Verb("vxtool.cli.swarm.join_token", "Show or rotate the tokens with which nodes join."),
        "leave": Verb("vxtool.cli.swarm.leave", "Leave the swarm."),
        "update": Verb("vxtool.cli.swarm.update", "Change the settings of the swarm."),
        "ca": Verb("vxtool.cli.swarm.ca", "Refused: the lab has no certificates."),
        "unlock": Verb("vxtool.cli.swarm.unlock", "Refused: the lab's manager is never locked."),
        "unlock-key": Verb("vxtool.cli.swarm.unlock_key", "Refused: the lab's manager is never locked."),
    }


@click.group(cls=SwarmVerbs)
def command() -> None:
    """Make a swarm of a lab's nodes, as `docker swarm` does.

    All nodes are on this machine, so that --node, or the variable VXTOOL_NODE, says which one is meant.

    \b
    vxtool swarm init --node vm1
    vxtool swarm join --node vm2 --token SWMTKN-1-... 192.0.2.1:2377
    vxtool swarm join --all
    """
