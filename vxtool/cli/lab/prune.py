"""`vxtool lab prune`."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("prune")
def command() -> None:
    """Remove what labs that have ended left behind, and say what it was.

    Every other verb does the same in silence. Labs that run are left alone.

    \b
    vxtool lab prune
    """
    from vxtool.lab.registry import need_root, sweep

    need_root()
    done = sweep()
    click.echo("\n".join(done) if done else "nothing was left behind")
