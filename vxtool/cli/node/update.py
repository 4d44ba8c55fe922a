"""`vxtool node update`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import NODE, lab_option

__all__ = ["command"]


@click.command("update")
@click.argument("name", metavar="NODE", shell_complete=NODE)
@click.option("--availability", metavar="MODE", shell_complete=lambda *_: _items("active", "pause", "drain"), help="active, pause or drain.")
@click.option("--label-add", "added", multiple=True, metavar="KEY=VALUE", help="Add or change a label; several times for several.")
@click.option("--label-rm", "removed", multiple=True, metavar="KEY", help="Remove a label.")
@click.option("--role", metavar="ROLE", shell_complete=lambda *_: _items("worker", "manager"), help="worker or manager; the lab has one manager.")
@lab_option
def command(name: str, availability: str | None, added: tuple[str, ...], removed: tuple[str, ...], role: str | None, lab: str | None) -> None:
    """Change a node's availability, labels or role.

    Draining a node moves its tasks to others; they do not come back by themselves when it is active again.

    \b
    Examples:
      vxtool node update --availability drain vm2
      vxtool node update --label-add disk=ssd --label-rm old vm1
    """
    from vxtool.cli import swarming
    from vxtool.swarm.facade import Nodes

    Nodes(swarming.swarm(lab)).update(name, availability=availability, role=role, label_add=added, label_rm=removed)
    click.echo(name)


def _items(*words: str) -> list[click.shell_completion.CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in words]
