"""`vxtool lab VERB ...`: a whole overlay on this machine, one file a verb."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vxtool.cli import Verb, Verbs

__all__ = ["command"]


class LabVerbs(Verbs):
    verbs: Mapping[str, Verb] = {
        "up": Verb("vxtool.cli.lab.up", "Build a lab and leave it running."),
        "down": Verb("vxtool.cli.lab.down", "End a lab: every process, link and namespace of it."),
        "ls": Verb("vxtool.cli.lab.ls", "List the labs of this machine."),
        "ps": Verb("vxtool.cli.lab.ps", "List the endpoints of a lab, and the programs that run in them."),
        "inspect": Verb("vxtool.cli.lab.inspect", "Show a lab, a node, a network, an endpoint or a link as JSON."),
        "expect": Verb("vxtool.cli.lab.expect", "Write what the lab should be, for `vxtool verify --expect`."),
        "exec": Verb("vxtool.cli.lab.exec", "Run a command at a node or in an endpoint."),
        "shell": Verb("vxtool.cli.lab.shell", "Open a shell at a node or in an endpoint."),
        "network": Verb("vxtool.cli.lab.network", "Add or remove an overlay network."),
        "attach": Verb("vxtool.cli.lab.attach", "Add an endpoint to a running lab."),
        "detach": Verb("vxtool.cli.lab.detach", "Remove an endpoint."),
        "move": Verb("vxtool.cli.lab.move", "Move an endpoint to another node; it keeps its addresses."),
        "agent": Verb("vxtool.cli.lab.agent", "Kill or start the agent of a swarm's node, to see what the others do."),
        "impair": Verb("vxtool.cli.lab.impair", "Make a link slow, late, lossy or dead, for a while or until cleared."),
        "graph": Verb("vxtool.cli.lab.graph", "Draw a lab: text, Mermaid, Graphviz or SVG."),
        "dump": Verb("vxtool.cli.lab.dump", "Write the kernel state of every namespace into one archive."),
        "compare": Verb("vxtool.cli.lab.compare", "Compare the kernel state of a lab's node with one of a real Docker node."),
        "prune": Verb("vxtool.cli.lab.prune", "Remove what labs that have ended left behind."),
    }


@click.group(cls=LabVerbs)
def command() -> None:
    """A whole overlay on this machine, built as Docker builds it, gone without a trace.

    \b
    vxtool lab up                            two nodes, one overlay network, six endpoints
    vxtool lab exec web.1 -- ping 10.0.1.4   from one endpoint to another
    vxtool capture vm1 -w vm1.pcapng         what crosses the underlay at a node
    vxtool lab expect | vxtool verify vm1.pcapng --expect -
    vxtool lab down
    """
