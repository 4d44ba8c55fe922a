"""`vxtool service update`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.swarming import SERVICE, lab_option

from .converging import detach_option, quiet_option
from .options import Docker, given, unknown_image, update_options

__all__ = ["command"]


@click.command("update", cls=Docker, options_metavar="[OPTIONS]")
@click.argument("service", metavar="SERVICE", shell_complete=SERVICE)
@update_options
@detach_option
@quiet_option
@lab_option
def command(service: str, detach: bool, quiet: bool, lab: str | None, rollback: bool, **options: Any) -> int:
    """Change a service, and wait until its tasks are replaced.

    \b
    Examples:
      vxtool service update --env-add DEBUG=1 --update-parallelism 2 web
      vxtool service update --publish-rm 80 --publish-add 8080:80 web
      vxtool service update --force web
    """
    from vxtool.cli.swarming import swarm
    from vxtool.errors import UsageError
    from vxtool.swarm.facade import Services

    from .converging import wait_for

    told = given(options)
    if rollback and told:
        raise UsageError("other flags may not be combined with --rollback")
    client = swarm(lab)
    services = Services(client)
    changed = services.rollback(service) if rollback else services.update(service, **told)
    if "image" in told and not options["no_resolve_image"]:
        unknown_image(told["image"])
    click.echo(service)
    return 0 if detach else wait_for(client, changed.id, quiet)
