"""`vxtool lab down`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from .choosing import complete

if TYPE_CHECKING:
    from vxtool.lab.registry import Running

__all__ = ["command"]


@click.command("down")
@click.argument("name", required=False, shell_complete=complete)
@click.option("--all", "everything", is_flag=True, help="All labs of this machine.")
@click.option("-v", "--verbose", is_flag=True, help="Also tell how long it took, and how long the kernel was still freeing namespaces.")
def command(name: str | None, everything: bool, verbose: bool) -> None:
    """End a lab: every process, link and namespace of it. Without NAME the only one there is.

    Returns when its processes are dead. Nobody can reach its namespaces from then on; the kernel frees them, and the links in them, on its own.

    \b
    Examples:
      vxtool lab down
      vxtool lab down racks
      vxtool lab down --all -v
    """
    from vxtool.errors import UsageError
    from vxtool.lab.registry import end, find, running

    from .choosing import swept

    if name and everything:
        raise UsageError("a name and --all exclude each other")
    swept()
    labs = running() if everything else [find(name)]
    for lab in labs:
        if verbose:
            _end_and_watch(lab)
        else:
            end(lab)
            click.echo(f"{lab.name} is down")
    if not labs:
        click.echo("no lab is running")


def _end_and_watch(lab: Running) -> None:
    from vxtool.lab.freeing import freed
    from vxtool.lab.registry import end

    with freed() as wait:
        begun = time.monotonic()
        end(lab)
        click.echo(f"{lab.name} is down ({time.monotonic() - begun:.2f} s; ", nl=False)
        click.echo(f"the kernel was freeing its namespaces for {wait():.2f} s more)")
