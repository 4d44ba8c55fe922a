"""`vxtool lab up`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vxtool.lab.registry import Running
    from vxtool.lab.spec import LabSpec

__all__ = ["command"]

_SHOWN = 12  # rows of each list: a lab of a thousand endpoints does not need a thousand lines here


@click.command("up")
@click.argument("topology", required=False, metavar="[TOPOLOGY|FILE]")
@click.option("--name", metavar="NAME", help="What the lab is called, to tell several apart.  [default: lab]")
@click.option("--nodes", type=click.IntRange(1), metavar="N", help="How many nodes (the topology's parameter n).")
@click.option("--network", "networks", multiple=True, metavar="NAME[=SUBNET]", help="An overlay network; several times for several.  [default: web]")
@click.option("--endpoints", type=click.IntRange(0), metavar="N", help="Endpoints in each network, on the nodes in turn.  [default: 6]")
@click.option("--data-path-port", type=int, metavar="PORT", help="UDP port of VXLAN, as swarm init has it.  [default: 4789]")
@click.option("--mtu", type=int, metavar="BYTES", help="Inner MTU of the networks.  [default: as Docker derives it, 1450]")
@click.option("--mtu-from-underlay", is_flag=True, help="Derive the inner MTU from the underlay's smallest, which Docker never looks at.")
@click.option("--encrypted", is_flag=True, help="Encrypt the networks (ESP); needs a kernel that has it.")
@click.option("--like-docker", is_flag=True, help="Make each VXLAN device at the node and move it, as Docker does: the same end, 18 ms a device.")
@click.option("--wire", is_flag=True, help="No segmentation and checksum offload on the lab's links: frames look as on a real wire.")
@click.option("--bare", is_flag=True, help="Nodes and underlay alone: `vxtool swarm init` and `join` make a swarm of them.")
@click.option("--swarm", is_flag=True, help="A swarm of all nodes, the first one its manager; no endpoints but those of services.")
@click.option(
    "--engine",
    type=click.Choice(["19.03", "today"]),
    default="19.03",
    show_default=True,
    help="Whose embedded DNS a swarm has: Docker's of 2019, or of today.",
)
@click.option("--dry-run", is_flag=True, help="Print the ip, bridge, tc and nft commands that would make it; needs no root.")
@click.option("-q", "--quiet", is_flag=True, help="Print the lab's name and nothing else.")
def command(
    topology: str | None,
    name: str | None,
    nodes: int | None,
    networks: tuple[str, ...],
    endpoints: int | None,
    data_path_port: int | None,
    mtu: int | None,
    mtu_from_underlay: bool,
    encrypted: bool,
    like_docker: bool,
    wire: bool,
    bare: bool,
    swarm: bool,
    engine: str,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Build a lab and leave it running.

    Without arguments: two nodes on one segment, the overlay network web, six endpoints web.1 to web.6. TOPOLOGY is one that comes with vxtool, with
    parameters if wanted, or a FILE: Mininet's (.py) or a lab written down (.yaml).

    \b
    Examples:
      vxtool lab up
      vxtool lab up --nodes 4 --network web --network db=10.9.0.0/24
      vxtool lab up two_racks,n=4 --name racks
      vxtool lab up my-lab.yaml
      vxtool lab up --swarm --nodes 3
      vxtool lab up --dry-run | less

    When a lab of that name runs already and is what is asked for, this says so and does nothing. When a step fails, everything is undone.
    """
    begun = time.monotonic()
    from vxtool.lab.spec import Options, from_options
    from vxtool.model import Engine

    spec = from_options(
        topology,
        name=name,
        nodes=nodes,
        networks=networks,
        endpoints=endpoints,
        data_path_port=data_path_port,
        mtu=mtu,
        encrypted=encrypted,
        bare=bare or swarm,
        options=Options(like_docker=like_docker, wire=wire, mtu_from_underlay=mtu_from_underlay, engine=Engine(engine)),
    )
    if dry_run:
        click.echo("\n".join(_commands(spec)))
        return
    from vxtool.cli.lab.choosing import swept
    from vxtool.lab.registry import running

    swept()
    standing = next((lab for lab in running() if lab.name == spec.name), None)
    if standing is not None:
        _check_same(spec, standing)
        _check_swarm(swarm, standing)
    else:
        _build(spec, swarm)
    if quiet:
        click.echo(spec.name)
        return
    click.echo(f"{spec.name} is up" + (" already" if standing else f" ({time.monotonic() - begun:.1f} s)") + "\n")
    click.echo(f"{_summary(spec)}\n{_next(spec, swarm, alone=len(running()) == 1)}", nl=False)


def _build(spec: LabSpec, swarm: bool) -> None:
    from vxtool.lab.lab import Lab

    terminal = sys.stderr.isatty()
    wipe = "\r\x1b[K"

    def progress(done: int, steps: int) -> None:
        click.echo(f"{wipe}building lab {spec.name}: {done:,} of {steps:,} steps", err=True, nl=False)

    lab = Lab(spec=spec, swarm=swarm)
    try:
        if terminal:
            click.echo(f"building lab {spec.name}", err=True, nl=False)
        lab.start(progress if terminal else None)
    finally:
        if terminal:
            click.echo(wipe, err=True, nl=False)
    lab.keep()


def _check_same(spec: LabSpec, standing: Running) -> None:
    """UsageError when the lab of this name was asked to be something else. What was attached or impaired since does not count."""
    from vxtool.errors import UsageError
    from vxtool.lab.client import call
    from vxtool.model.plain import plain

    wanted, is_there = plain(spec), call(standing, "state")["spec"]
    if wanted == is_there:
        return
    parts: dict[str, tuple[Any, Any]] = {part: (wanted[part], is_there[part]) for part in ("topology", "options")}
    parts |= {part: (wanted["cluster"][part], is_there["cluster"][part]) for part in ("networks", "endpoints", "data_path_port")}
    differing = [part.replace("_", " ") for part, (ours, theirs) in parts.items() if ours != theirs]
    raise UsageError(
        f"a lab called {spec.name} is running, and is another one (its {', '.join(differing)} differ): "
        f"vxtool lab down {spec.name} ends it, --name gives this one another name"
    )


def _check_swarm(swarm: bool, standing: Running) -> None:
    """UsageError when the lab has no swarm and one is asked for: joining nodes is not what `up` does to a lab that runs."""
    from vxtool.errors import UsageError
    from vxtool.lab import client

    if swarm and not all(client.swarm(standing).members().values()):
        raise UsageError(
            f"a lab called {standing.name} is running, and not all of its nodes are in a swarm: vxtool swarm init and join make one of them"
        )


def _commands(spec: LabSpec) -> list[str]:
    """What a person would type. Namespaces would be the machine's own then; a lab has them to itself."""
    from vxtool.errors import MissingFeature
    from vxtool.lab.impair import Features, features
    from vxtool.lab.operations import World, requested
    from vxtool.lab.steps import AddNamespace, commands
    from vxtool.lab.topology import SWITCHES
    from vxtool.model.plain import plain

    def known_features() -> Features:
        try:
            return features()
        except MissingFeature:  # without root nothing can be tried
            return Features()

    world = World(known_features)
    steps = world.apply(requested(world, "build", {"spec": plain(spec)}, 0.0))
    relays = [f"# the delayer carries {relay.link}: {relay.port} <-> {relay.tap}, {relay.delay_ms:g} ms" for relay in world.relays()]
    return [*commands([AddNamespace(SWITCHES), *steps]), *relays]


def _summary(spec: LabSpec) -> str:
    from vxtool.cli.lab.listing import columns

    cluster = spec.cluster
    sandboxes: dict[tuple[str | None, str], list[str]] = {}
    for endpoint in cluster.endpoints:
        sandboxes.setdefault((endpoint.node, endpoint.name), []).append(f"{endpoint.network} {endpoint.ip}")
    lists: list[tuple[Sequence[str], Sequence[Sequence[object]]]] = [
        (("NODE", "ADDRESS"), [(node.name, node.advertise) for node in cluster.nodes]),
        (
            ("NETWORK", "SUBNET", "VNI", "MTU"),
            [
                (network.name, ",".join(str(subnet.prefix) for subnet in network.subnets), ",".join(map(str, network.vnis)), network.mtu)
                for network in cluster.networks
            ],
        ),
        (("ENDPOINT", "NODE", "ADDRESS"), [(name, node, ", ".join(addresses)) for (node, name), addresses in sandboxes.items()]),
    ]
    parts = []
    for heads, rows in lists:
        more = f"... and {len(rows) - _SHOWN} more\n" if len(rows) > _SHOWN else ""
        parts += [columns(heads, rows[:_SHOWN]) + more] if rows else []
    return "\n".join(parts)


def _next(spec: LabSpec, swarm: bool, *, alone: bool) -> str:
    """Three commands to go on with, true for this lab. `alone`: there is no other, and it needs not be named."""
    chosen, name = ("", "") if alone else (f" --lab {spec.name}", f" {spec.name}")
    endpoints, nodes = spec.cluster.endpoints, spec.cluster.nodes
    if swarm:
        return (
            f"Next:\n  vxtool network create{chosen} -d overlay web\n"
            f"  vxtool service create{chosen} --name web --network web --replicas 6 --publish 80:80 httpd\n  vxtool lab down{name}\n"
        )
    if not endpoints:
        joining = f"  vxtool swarm join{chosen} --all\n" if len(nodes) > 1 else ""
        return f"Next:\n  vxtool swarm init{chosen}\n{joining}  vxtool lab down{name}\n"
    near = endpoints[0] if endpoints else None
    far = next((other for other in endpoints if near and other.network == near.network and other.node != near.node), None)
    if near is not None and far is not None:
        look = f"exec{chosen} {near.name} -- ping -c 3 {far.ip}"
    elif near is not None:
        look = f"exec{chosen} {near.name} -- ip addr"
    else:
        look = f"exec{chosen} {nodes[0].name} -- ip addr"
    return f"Next:\n  vxtool lab {look}\n  vxtool capture{chosen} {nodes[0].name} -w {nodes[0].name}.pcapng\n  vxtool lab down{name}\n"
