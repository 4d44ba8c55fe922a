"""`vxtool stack VERB ...`: services and networks from a Compose file, as one thing; one file a verb."""

from __future__ import annotations

from collections.abc import Mapping

import click

from vxtool.cli import Verb, Verbs

__all__ = ["command"]


class StackVerbs(Verbs):
    verbs: Mapping[str, Verb] = {
        "config": Verb("vxtool.cli.stack.config", "Print the Compose files as they are understood, merged."),
        "deploy": Verb("vxtool.cli.stack.deploy", "Deploy a new stack or update an existing stack."),
        "ls": Verb("vxtool.cli.stack.ls", "List stacks."),
        "ps": Verb("vxtool.cli.stack.ps", "List the tasks in the stack."),
        "rm": Verb("vxtool.cli.stack.rm", "Remove one or more stacks."),
        "services": Verb("vxtool.cli.stack.services", "List the services in the stack."),
    }
    aliases: Mapping[str, str] = {"up": "deploy", "down": "rm", "remove": "rm", "list": "ls"}  # Docker's

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


@click.group(cls=StackVerbs)
def command() -> None:
    """Services and networks that a Compose file describes, made, changed and removed together, as `docker stack` does.

    \b
    vxtool stack deploy -c compose.yaml demo     the services are demo_web, demo_db, ...
    vxtool stack services demo
    vxtool stack ps demo
    vxtool stack rm demo
    """
