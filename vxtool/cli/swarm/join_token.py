"""`vxtool swarm join-token`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import lab_option

__all__ = ["command"]


@click.command("join-token")
@click.argument("role", metavar="(worker|manager)")
@click.option("-q", "--quiet", is_flag=True, help="Only the token.")
@click.option("--rotate", is_flag=True, help="Make a new token; with the old one nobody can join any more.")
@lab_option
def command(role: str, quiet: bool, rotate: bool, lab: str | None) -> None:
    """Show the token with which nodes join, and the command for it.

    \b
    vxtool swarm join-token worker
    vxtool swarm join-token --rotate -q worker
    """
    from vxtool.cli import swarming
    from vxtool.errors import UsageError
    from vxtool.model import Role

    from .joining import instructions

    if role not in list(Role):
        raise UsageError(f"unknown role {role}")
    client = swarming.swarm(lab)
    if rotate:
        client.rotate_token(Role(role))
        if not quiet:
            click.echo(f"Successfully rotated {role} join token.\n")
    view = client.view()
    token = view.info.worker_token if role == Role.WORKER else view.info.manager_token
    click.echo(token if quiet else instructions(role, token, view.manager.address if view.manager is not None else ""))
