"""`vxtool lab expect`."""

from __future__ import annotations

import json

import click

from .choosing import lab_option

__all__ = ["command"]


@click.command("expect")
@lab_option
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of YAML.")
def command(lab: str | None, as_json: bool) -> None:
    """Write what the lab should be at this moment, for `vxtool verify --expect`.

    \b
    Examples:
      vxtool lab expect > expected.yaml
      vxtool lab expect | vxtool verify vm1.pcapng --expect -
    """
    from vxtool.expect import to_tree, to_yaml
    from vxtool.lab.client import cluster

    from .choosing import chosen

    told = cluster(chosen(lab))
    click.echo(json.dumps(to_tree(told), indent=2) if as_json else to_yaml(told), nl=as_json)
