"""`vxtool stack deploy`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli import swarming
from vxtool.cli.go_flags import GoFlags
from vxtool.cli.swarming import lab_option

from .composing import STACK, compose_option, composed, detach_option, say

__all__ = ["command"]


@click.command("deploy", cls=GoFlags)
@click.argument("name", metavar="STACK", shell_complete=STACK)
@compose_option
@click.option("--prune", is_flag=True, help="Prune services that are no longer referenced.")
@detach_option("the services have converged")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of the progress.")
@click.option("--resolve-image", type=click.Choice(["always", "changed", "never"]), hidden=True, help="Accepted: the lab has no registry to ask.")
@click.option("--with-registry-auth", is_flag=True, hidden=True, help="Accepted: the lab has no registry to ask.")
@lab_option
def command(name: str, files: tuple[str, ...], prune: bool, detach: bool, quiet: bool, lab: str | None, **_: Any) -> int:
    """Deploy a new stack or update an existing one from Compose files, version 3.

    \b
    vxtool stack deploy -c compose.yaml demo
    vxtool stack deploy --prune -c compose.yaml -c more.yaml demo
    cat compose.yaml | vxtool stack deploy -c - demo
    """
    from vxtool.swarm.stack import check_name, deploy, stack

    check_name(name)
    wanted = stack(composed(files), name)
    client = swarming.swarm(lab)
    services = deploy(client, wanted, say, prune=prune)
    if detach:
        return 0
    from vxtool.cli.service.converging import wait_for

    return max((wait_for(client, id, quiet) for id in services), default=0)
