"""`vxtool network disconnect`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NETWORK, TASK, lab_option

__all__ = ["command"]


@click.command("disconnect")
@click.argument("network", shell_complete=NETWORK)
@click.argument("container", shell_complete=TASK)
@click.option("-f", "--force", is_flag=True, help="No error when there is no such container, or it is not connected.")
@lab_option
def command(network: str, container: str, force: bool, lab: str | None) -> None:
    """Disconnect a container that belongs to no service from a network.

    \b
    vxtool network disconnect web client1
    """
    from vxtool.cli import swarming
    from vxtool.errors import UsageError

    from .sides import sides

    client = swarming.swarm(lab)
    view = client.view()
    try:
        client.disconnect_network(*sides(view, network, container))
    except UsageError as error:
        if not force or not any(words in str(error) for words in ("such container", "not connected")):
            raise
