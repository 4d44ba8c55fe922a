"""`vxtool lab network`."""

from __future__ import annotations

import click

from .choosing import lab_option

__all__ = ["command"]


@click.group("network")
def command() -> None:
    """Add or remove an overlay network.

    \b
    Examples:
      vxtool lab network add db --subnet 10.9.0.0/24
      vxtool lab network rm db
    """


@command.command("add")
@click.argument("name")
@click.option("--subnet", "subnets", multiple=True, metavar="SUBNET", help="As 10.9.0.0/24; several times for several.  [default: the next free one]")
@click.option(
    "--vni", type=click.IntRange(1, (1 << 24) - 1), help="VXLAN network identifier, where there is one subnet.  [default: the next free one]"
)
@click.option("--mtu", type=int, metavar="BYTES", help="Inner MTU.  [default: as Docker derives it, 1450]")
@click.option("--internal", is_flag=True, help="Without a way out: no docker_gwbridge, no default route.")
@click.option("--encrypted", is_flag=True, help="Encrypt it (ESP); needs a kernel that has it.")
@lab_option
def add(name: str, subnets: tuple[str, ...], vni: int | None, mtu: int | None, internal: bool, encrypted: bool, lab: str | None) -> None:
    """Add an overlay network. As in Docker, a node has nothing of it before its first endpoint there.

    \b
    Examples:
      vxtool lab network add db
      vxtool lab network add db --subnet 10.9.0.0/24 --vni 5000 --internal
    """
    from vxtool.lab.client import call

    from .choosing import chosen

    running = chosen(lab)
    made = call(running, "network_add", name=name, subnets=list(subnets), vni=vni, mtu=mtu, internal=internal, encrypted=encrypted)["network"]
    subnet = ", ".join(one["prefix"] for one in made["subnets"])
    click.echo(f"network {name}: {subnet}, VNI {', '.join(map(str, made['vnis']))}, MTU {made['mtu']}")


@command.command("rm")
@click.argument("name")
@lab_option
def remove(name: str, lab: str | None) -> None:
    """Remove a network that has no endpoints any more.

    \b
    vxtool lab network rm db
    """
    from vxtool.lab.client import call

    from .choosing import chosen

    call(chosen(lab), "network_remove", name=name)
    click.echo(f"network {name} is removed")


@command.command("rotate-keys")
@lab_option
def rotate_keys(lab: str | None) -> None:
    """Change the key of the encrypted networks, as a swarm's manager does every 12 hours. Nothing is lost meanwhile.

    \b
    vxtool lab network rotate-keys
    """
    from vxtool.lab.client import call

    from .choosing import chosen

    call(chosen(lab), "rotate_keys")
    click.echo("the encrypted networks have a new key")
