"""`vxtool lab attach`."""

from __future__ import annotations

import click

from .choosing import lab_option

__all__ = ["command"]


@click.command("attach")
@click.argument("name")
@click.option("--node", required=True, metavar="NODE", help="Where it is to live.")
@click.option("--network", "networks", multiple=True, required=True, metavar="NAME[=ADDRESS]", help="A network it is in; several times for several.")
@click.option("--mac", metavar="MAC", help="Its MAC address, when it is in one network.  [default: 02:42 and its IPv4 address, as Docker's]")
@click.option("--duplicate", is_flag=True, help="Allow an address that another endpoint has: a fault of real swarms, to look into.")
@lab_option
def command(name: str, node: str, networks: tuple[str, ...], mac: str | None, duplicate: bool, lab: str | None) -> None:
    """Add an endpoint to a running lab: one sandbox with an interface for each network.

    \b
    Examples:
      vxtool lab attach web.7 --node sathish-vm1 --network web
      vxtool lab attach client --node sathish-vm2 --network web=10.0.1.77 --network db
    """
    from vxtool.lab.client import call

    from .choosing import chosen

    made = call(chosen(lab), "attach", name=name, node=node, networks=list(networks), mac=mac, duplicate=duplicate)
    where = ", ".join(f"{endpoint['network']} {endpoint['ip']} ({endpoint['mac']})" for endpoint in made["endpoints"])
    click.echo(f"{name} is on {node}: {where}")
