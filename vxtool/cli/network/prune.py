"""`vxtool network prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vxtool.cli.swarming import lab_option

if TYPE_CHECKING:
    from vxtool.swarm.objects import Network
    from vxtool.swarm.view import View

__all__ = ["command"]

_WARNING = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?"


@click.command("prune")
@click.option("--filter", "asked", multiple=True, metavar="KEY=VALUE", help="label=KEY, label=KEY=VALUE, label!=..., until=1h.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@lab_option
def command(asked: tuple[str, ...], force: bool, lab: str | None) -> None:
    """Remove all networks of the swarm that no service and no container uses.

    \b
    vxtool network prune -f --filter until=1h
    """
    from vxtool.cli import swarming
    from vxtool.cli.docker_tables import filters
    from vxtool.errors import UsageError

    from .asking import sure

    wanted = filters(asked, ("label", "label!", "until"))
    client = swarming.swarm(lab)
    if not force and not sure(_WARNING):
        raise UsageError("network prune has been cancelled")
    view = client.view()
    deleted = []
    for network in sorted(view.networks.values(), key=lambda network: network.created_at):
        if network.spec.ingress or not _is_wanted(view, network, wanted):
            continue
        try:
            client.remove_network(network.id)
        except UsageError as error:
            if "is in use by" not in str(error):
                raise
        else:
            deleted.append(network.spec.name)
    if deleted:
        click.echo("Deleted Networks:\n" + "".join(f"{name}\n" for name in deleted))


def _is_wanted(view: View, network: Network, wanted: dict[str, list[str]]) -> bool:
    from vxtool.cli.docker_tables import has_labels
    from vxtool.cli.moments import moment

    if not has_labels(network.spec.labels, wanted.get("label", ())):
        return False
    if any(has_labels(network.spec.labels, (label,)) for label in wanted.get("label!", ())):
        return False
    return all(network.created_at <= moment(text, view.now) for text in wanted.get("until", ()))
