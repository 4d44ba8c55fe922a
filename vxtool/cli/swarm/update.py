"""`vxtool swarm update`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.go_flags import GoFlags
from vxtool.cli.swarming import lab_option

from .settings import settings_options

__all__ = ["command"]


@click.command("update", cls=GoFlags)
@settings_options
@lab_option
@click.pass_context
def command(ctx: click.Context, /, lab: str | None, **given: Any) -> None:
    """Change the settings of the swarm.

    \b
    vxtool swarm update --task-history-limit 1
    vxtool swarm update --dispatcher-heartbeat 500ms
    """
    from click.core import ParameterSource

    from vxtool.cli import swarming

    from .settings import changed

    if not any(ctx.get_parameter_source(name) is not ParameterSource.DEFAULT for name in given):
        click.echo(ctx.get_help())
        return
    client = swarming.swarm(lab)
    client.update(changed(client.view().info.settings, given))
    click.echo("Swarm updated.")
