"""`vxtool service VERB ...`: services of a lab's swarm, as `docker service` has them, one file a verb."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vxtool.cli import Verb, Verbs

__all__ = ["command"]


class ServiceVerbs(Verbs):
    verbs: Mapping[str, Verb] = {
        "create": Verb("vxtool.cli.service.create", "Create a service, and wait until all its tasks run."),
        "ls": Verb("vxtool.cli.service.ls", "List services."),
        "ps": Verb("vxtool.cli.service.ps", "List the tasks of services, and what became of former ones."),
        "inspect": Verb("vxtool.cli.service.inspect", "Show all about services, as JSON or for people."),
        "explain": Verb("vxtool.cli.service.explain", "Tell where the next task of a service would go, and why not elsewhere."),
        "update": Verb("vxtool.cli.service.update", "Change a service; its tasks are replaced a few at a time."),
        "scale": Verb("vxtool.cli.service.scale", "Change how many tasks services have."),
        "rollback": Verb("vxtool.cli.service.rollback", "Go back to what a service was before its last update."),
        "logs": Verb("vxtool.cli.service.logs", "Show what the tasks of a service have written."),
        "rm": Verb("vxtool.cli.service.rm", "Remove services."),
    }


@click.group(cls=ServiceVerbs)
def command() -> None:
    """Services of a lab's swarm, with the words of docker service.

    \b
    vxtool service create --name web --network web --publish 80:80 --replicas 6 httpd
    vxtool service ps web                     which task runs where
    vxtool service scale web=8
    vxtool service explain web                where the ninth would go, and why
    vxtool service update --env-add X=1 web   one task after the other
    vxtool service rm web
    """
