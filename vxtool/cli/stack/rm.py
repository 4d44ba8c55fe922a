"""`vxtool stack rm`."""

from __future__ import annotations

import click

from vxtool.cli import swarming
from vxtool.cli.go_flags import GoFlags
from vxtool.cli.swarming import lab_option

from .composing import STACK, detach_option, say

__all__ = ["command"]


@click.command("rm", cls=GoFlags)
@click.argument("names", nargs=-1, required=True, metavar="STACK...", shell_complete=STACK)
@detach_option("the tasks have ended, before the networks go")
@lab_option
def command(names: tuple[str, ...], detach: bool, lab: str | None) -> int:
    """Remove one or more stacks: their services, then their networks.

    \b
    vxtool stack rm demo
    """
    from vxtool.cli.lab.listing import shown
    from vxtool.swarm.stack import check_name, remove

    client = swarming.swarm(lab)
    for name in names:
        check_name(name)
    done = [remove(client, name, say, lambda text: click.echo(shown(text), err=True), wait=not detach) for name in names]
    return 0 if all(done) else 1
