"""`vxtool network rm`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NETWORK, lab_option

__all__ = ["command"]

_INGRESS = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine version."
    " Otherwise, removal may not be effective and functionality of newly create ingress networks will be impaired.\n"
    "Are you sure you want to continue?"
)


@click.command("rm")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...", shell_complete=NETWORK)
@click.option("-f", "--force", is_flag=True, help="No error for one that is not there.")
@lab_option
def command(networks: tuple[str, ...], force: bool, lab: str | None) -> int:
    """Remove networks that no service and no container uses.

    \b
    vxtool network rm web db
    """
    from vxtool.cli import swarming
    from vxtool.errors import UsageError

    from .asking import sure
    from .finding import found
    from .local import PREDEFINED, LocalNetwork

    client = swarming.swarm(lab)

    def remove(name: str) -> None:
        view = client.view()
        try:
            network = found(view, name, view.manager)
        except UsageError as error:
            if force and str(error).endswith("not found"):
                return
            raise
        if isinstance(network, LocalNetwork):
            if network.name in PREDEFINED:
                raise UsageError(f"{network.name} is a pre-defined network and cannot be removed")
            raise UsageError(f"error while removing network: network {network.name} has active endpoints")
        if network.spec.ingress and not sure(_INGRESS):
            return
        client.remove_network(network.id)
        click.echo(name)

    return swarming.each(networks, remove)
