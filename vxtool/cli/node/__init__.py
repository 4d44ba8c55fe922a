"""`vxtool node VERB ...`: the nodes of a lab's swarm, one file a verb."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vxtool.cli import Verb, Verbs

__all__ = ["command"]


class NodeVerbs(Verbs):
    verbs: Mapping[str, Verb] = {
        "ls": Verb("vxtool.cli.node.ls", "List the nodes of the swarm."),
        "ps": Verb("vxtool.cli.node.ps", "List the tasks of nodes; of the manager when none is named."),
        "inspect": Verb("vxtool.cli.node.inspect", "Show nodes as Docker-shaped JSON, or for people."),
        "update": Verb("vxtool.cli.node.update", "Change a node's availability, labels or role."),
        "promote": Verb("vxtool.cli.node.promote", "Refused: the lab has one manager and no Raft."),
        "demote": Verb("vxtool.cli.node.demote", "Refused: the lab has one manager and no Raft."),
        "rm": Verb("vxtool.cli.node.rm", "Remove nodes from the swarm."),
    }


@click.group(cls=NodeVerbs)
def command() -> None:
    """Look at the nodes of a swarm and change them, as `docker node` does.

    A node is named by its host name, its id or the beginning of that; `self` is the manager.

    \b
    vxtool node ls
    vxtool node update --availability drain vm2
    vxtool node ps vm2
    """
