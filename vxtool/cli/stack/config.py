"""`vxtool stack config`."""

from __future__ import annotations

import click

from .composing import compose_option, composed

__all__ = ["command"]


@click.command("config")
@compose_option
@click.option("--skip-interpolation", is_flag=True, help="Leave ${VARIABLES} as they are.")
def command(files: tuple[str, ...], skip_interpolation: bool) -> None:
    """Print Compose files as they are understood: merged, with variables put in, each thing in its long form.

    What is printed says the same as the files, and `vxtool stack deploy -c -` takes it.

    \b
    vxtool stack config -c compose.yaml -c more.yaml
    """
    import yaml

    document = composed(files, substitute=not skip_interpolation).document()
    # Without a width and with every character escaped that a terminal might obey.
    click.echo(yaml.safe_dump(document, sort_keys=False, width=1 << 20), nl=False)
