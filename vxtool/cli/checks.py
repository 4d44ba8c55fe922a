"""`vxtool checks`: what `vxtool verify` looks for."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("checks")
@click.argument("check", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="As Markdown (docs/checks.md).")
def checks(check: str | None, as_json: bool, markdown: bool) -> None:
    """List the checks of `vxtool verify`, or tell all about one.

    \b
    Examples:
      vxtool checks
      vxtool checks VX-FDB
    """
    from vxtool.cli.checklist import describe

    click.echo(describe(check, as_json=as_json, markdown=markdown), nl=False)


command = checks
