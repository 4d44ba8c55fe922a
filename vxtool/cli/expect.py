"""`vxtool expect`: show what an expectation says, or draft one from a capture."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from vxtool.cli.printable import printable

if TYPE_CHECKING:
    from vxtool.decode.batch import Batch
    from vxtool.model import Cluster, Timeline

__all__ = ["command", "expect"]


@click.group("expect")
def expect() -> None:
    """What a cluster should be: show an expectation, or draft one from a capture.

    \b
    An expectation is any mixture of `docker network inspect [-v]` of every node, `service inspect`,
    `node inspect`, `service ps`, `node ls`; or kubectl's JSON; or a hand-written YAML.
    docs/expectations.md has the commands that collect it, and the YAML by example.

    \b
    Examples:
      vxtool expect show swarm-state/
      vxtool expect init vm1.pcap vm2.pcap > expected.yaml
    """


@expect.command("show")
@click.argument("spec", nargs=-1, required=True, metavar="FILE|FOLDER|-[@TIME]...")
@click.option("--json", "as_json", is_flag=True, help="Write vxtool-expect@1 as JSON.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Write vxtool-expect@1 as YAML, to be edited and given back to --expect.")
@click.option("--vni", type=click.IntRange(0, (1 << 24) - 1), help="VNI of the pod network (Kubernetes).")
@click.option("--port", type=click.IntRange(1, 65535), help="UDP port of VXLAN (Kubernetes).")
def show(spec: tuple[str, ...], as_json: bool, as_yaml: bool, vni: int | None, port: int | None) -> None:
    """Print a cluster: nodes, networks, endpoints, services, tasks, and what is missing.

    \b
    Examples:
      vxtool expect show swarm-state/
      docker network inspect -v web | vxtool expect show -
      vxtool expect show --yaml swarm-state/ > expected.yaml
      vxtool expect show before@2026-01-31T12:00:00Z after@2026-01-31T12:05:00Z
    """
    from vxtool.errors import UsageError
    from vxtool.expect import load, to_tree, to_yaml

    if as_json and as_yaml:
        raise UsageError("--json and --yaml exclude each other")
    timeline = load(spec, vni=vni, port=port)
    if as_yaml and len(timeline.moments) > 1:
        raise UsageError(f"--yaml writes one cluster, these are {len(timeline.moments)} moments: give one of them")
    if as_yaml:
        click.echo(to_yaml(timeline.clusters[0]), nl=False)
    elif as_json and len(timeline.moments) == 1:
        click.echo(json.dumps(to_tree(timeline.clusters[0]), indent=2))
    elif as_json:
        click.echo(json.dumps([{"time_ns": moment.time_ns, "cluster": to_tree(moment.cluster)} for moment in timeline.moments], indent=2))
    else:
        _print(timeline)


@expect.command("init")
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...")
@click.option("--port", "ports", type=click.IntRange(1, 65535), multiple=True, help="UDP port of VXLAN (default: 4789 and 8472).")
def init(captures: tuple[str, ...], ports: tuple[int, ...]) -> None:
    """Draft an expectation from captures, as YAML to correct.

    \b
    What frames prove is taken over; what they only suggest is guessed and said so in comments.
    Example:
      vxtool expect init vm1.pcap vm2.pcap > expected.yaml
    """
    from vxtool.expect import draft, to_yaml

    cluster = draft(_batches(captures, ports))
    if not cluster.networks:
        click.echo("vxtool expect init: no VXLAN in these captures; --port tells another UDP port", err=True)
    click.echo(to_yaml(cluster, _comments(cluster, captures)), nl=False)


def _batches(captures: Iterable[str], ports: tuple[int, ...]) -> Iterator[Batch]:
    from vxtool.capture import open_capture
    from vxtool.decode.batch import Batch
    from vxtool.decode.walk import DEFAULT, Options, walk

    options = Options(vxlan_ports=frozenset(ports), gpe_ports=frozenset(), geneve_ports=frozenset()) if ports else DEFAULT
    for path in captures:
        with open_capture(path) as capture:
            for frames in capture:
                yield Batch(frames, walk(frames, options))


def _comments(cluster: Cluster, captures: tuple[str, ...]) -> dict[str, str]:
    names = ", ".join(os.path.basename(path) for path in captures)
    head = "\n".join(
        [
            f"Drafted by `vxtool expect init` from {names}.",
            "Correct it, then: vxtool verify CAPTURE... --expect THIS-FILE",
            "",
            *(f"* {note}" for note in cluster.notes),
        ]
    )
    return {
        "": printable(head, "\n"),
        "nodes": "Only addresses were seen: give each node its host name, and change `node:` below accordingly.",
        "networks": "Names are made up; a network that stayed silent is missing. When every endpoint of a network\n"
        "is listed below, say `complete: true`, so that absence counts as evidence.",
        "endpoints": "Silent endpoints are missing. A MAC that is 02:42 and the address is left out.\n"
        "`kind: container` may be a task: name it web.1.<task id>, or give `kind: task` and `service: web`.",
        "services": "Give each its mode (replicated, global), endpoint_mode (vip, dnsrr), VIPs and ports.",
    }


# --------------------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------------------


def _print(timeline: Timeline) -> None:
    from datetime import UTC, datetime

    from rich.console import Console

    # Into a pipe or file nothing is cut: 80 columns are a terminal's affair.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
    for moment in timeline.moments:
        if len(timeline.moments) > 1:
            since = "before" if moment.time_ns is None else datetime.fromtimestamp(moment.time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            console.print(f"[bold]since {since}[/] {_shown(moment.source)}\n")
        _print_cluster(console, moment.cluster)
    sys.stdout.flush()


def _print_cluster(console: object, cluster: Cluster) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    assert isinstance(console, Console)

    def table(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
        if not rows:
            return
        made = Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
        for row in rows:
            made.add_row(*(escape(_shown(cell)) for cell in row))
        console.print(made)
        console.print()

    port = cluster.data_path_port
    console.print(f"{cluster.orchestrator.value}, VXLAN on UDP {port if port is not None else 'port not told'}\n")
    table(
        "nodes",
        ("name", "role", "availability", "state", "advertise", "VTEP", "id"),
        [(n.name, n.role, n.availability, n.state, n.advertise, _mark(n.data_path, "data_path" in n.derived), n.id) for n in cluster.nodes],
    )
    table(
        "networks",
        ("name", "VNI", "subnets", "MTU", "driver", "is", "endpoints listed"),
        [
            (
                n.name,
                ",".join(map(str, n.vnis)),
                ",".join(str(subnet.prefix) for subnet in n.subnets),
                _mark(n.mtu, "mtu" in n.derived),
                n.driver,
                " ".join(word for word in ("ingress", "encrypted", "internal", "attachable") if getattr(n, word)),
                "all" if n.complete else f"of {', '.join(sorted(n.complete_nodes)) or 'no node'}{', and all tasks' if n.tasks_complete else ''}",
            )
            for n in cluster.networks
        ],
    )
    table(
        "endpoints",
        ("network", "address", "MAC", "node", "kind", "name"),
        [(e.network, e.ip, _mark(e.mac, "mac" in e.derived), e.node, e.kind, e.name) for e in cluster.endpoints],
    )
    table(
        "services",
        ("name", "mode", "endpoint mode", "VIPs", "ports", "networks"),
        [
            (
                s.name,
                s.mode if s.replicas is None else f"{s.mode} {s.replicas}",
                _mark(s.endpoint_mode, "endpoint_mode" in s.derived),
                " ".join(f"{vip.network}={vip.address}" for vip in s.vips),
                " ".join(map(str, s.ports)),
                " ".join(s.networks),
            )
            for s in cluster.services
        ],
    )
    table(
        "tasks",
        ("service", "slot", "node", "desired", "observed", "addresses", "id"),
        [
            (
                t.service,
                t.slot,
                t.node,
                t.desired.name.lower() if t.desired is not None else None,
                t.observed.name.lower() if t.observed is not None else None,
                " ".join(f"{network}={address}" for network, address in t.addresses),
                t.id[:12],
            )
            for t in cluster.tasks
        ],
    )
    if any(thing.derived for things in (cluster.nodes, cluster.networks, cluster.endpoints, cluster.services) for thing in things):
        console.print("* follows from Docker's rules, no document says it\n", style="dim")
    for title, sentences in (("missing", cluster.missing), ("contradictions", cluster.contradictions), ("notes", cluster.notes)):
        if sentences:
            console.print(title, style="bold")
            for sentence in sentences:
                console.print(f"  {escape(_shown(sentence))}")
            console.print()


def _mark(value: object, derived: bool) -> str:
    return f"{_shown(value)}{' *' if derived else ''}"


def _shown(value: object) -> str:
    """Text for a terminal: names come from files, and an escape sequence in one must not reach it."""
    text = "-" if value is None or value == "" else str(value)
    return printable(text)


command = expect
