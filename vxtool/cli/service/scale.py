"""`vxtool service scale`."""

from __future__ import annotations

import click

from vxtool.cli.swarming import SERVICE, lab_option

from .converging import detach_option

__all__ = ["command"]


@click.command("scale")
@click.argument("wanted", metavar="SERVICE=REPLICAS...", nargs=-1, required=True, shell_complete=SERVICE)
@detach_option
@lab_option
def command(wanted: tuple[str, ...], detach: bool, lab: str | None) -> int:
    """Change how many tasks services have, and wait until it is so.

    \b
    Examples:
      vxtool service scale web=8
      vxtool service scale web=2 api=5 --detach
    """
    from vxtool.cli.swarming import each, swarm
    from vxtool.errors import UsageError
    from vxtool.swarm import parsing
    from vxtool.swarm.facade import Services

    from .converging import wait_for

    client = swarm(lab)
    services = Services(client)
    scaled: dict[str, str] = {}

    def scale(text: str) -> None:
        name, there, number = text.partition("=")
        if not there or not name:
            raise UsageError(f"invalid scale specifier '{text}': give SERVICE=REPLICAS, as in web=5")
        try:
            replicas = parsing.number(number)
        except UsageError as error:
            raise UsageError(f"{name}: invalid replicas value {number}: {error}") from None
        try:
            service = services.scale(name, replicas)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        click.echo(f"{name} scaled to {replicas}")
        scaled[service.id] = name

    code = each(wanted, scale)
    if not detach:
        for id, name in scaled.items():
            code = max(code, wait_for(client, id, name=name))
    return code
