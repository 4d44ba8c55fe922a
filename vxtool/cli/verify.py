"""`vxtool verify`: its options. What they do is in verifying.py, which loads NumPy."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("verify")
@click.argument("captures", nargs=-1, metavar="[FILE...]")
@click.option("--capture", "named", multiple=True, metavar="NODE=FILE", help="A capture and where it was taken: a node, or a task (web.2=task.pcap).")
@click.option(
    "--expect",
    "expect",
    multiple=True,
    metavar="FILE|FOLDER|-[@TIME]",
    help="What the cluster should be: Docker's JSON, kubectl's JSON or a YAML (vxtool expect --help). Several with @TIME follow a cluster over time.",
)
@click.option(
    "--profile",
    type=click.Choice(["docker-swarm", "rfc7348", "flannel", "calico", "evpn"]),
    default="docker-swarm",
    show_default=True,
    help="Which checks apply and how severe they are.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="The data-path port (UDP), where the expectation does not tell it. Default: 4789.")
@click.option("--vni", type=click.IntRange(0, (1 << 24) - 1), help="VNI of the pod network (Kubernetes).")
@click.option("--underlay", type=click.Choice(["any", "physical"]), default="any", help="physical: unfinished checksums from afar are faults.")
@click.option("--underlay-mtu", type=click.IntRange(576, 65535), metavar="BYTES", help="MTU of the underlay, to judge sizes against.")
@click.option("--settle", type=click.FloatRange(0, 3600), default=5, show_default=True, metavar="SECONDS", help="How long a change may take.")
@click.option("--alpha", type=click.FloatRange(1e-12, 0.5), default=0.001, show_default=True, help="False-alarm rate of each statistical check.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only these checks (vxtool checks lists them).")
@click.option("--without", multiple=True, metavar="CHECK", help="Not these checks.")
@click.option("--strict", is_flag=True, help="Exit 1 for failing warnings too.")
@click.option("-v", "--verbose", is_flag=True, help="Show what passed, and what could not be decided, in full.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document (schema vxtool-verdicts@1).")
@click.option("--junit", metavar="OUT", help="Write a JUnit XML file too.")
@click.option("--html", metavar="OUT", help="Write a report as one self-contained page too.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colours; auto: on a terminal, unless NO_COLOR is set.")
def verify(**given: object) -> int:
    """Say which invariants of an overlay hold in captures, which do not, and show the frames.

    \b
    Examples:
      vxtool verify vm1.pcap vm2.pcap --expect swarm-state/
      vxtool verify --capture vm1=a.pcap --capture web.2=task.pcap --expect swarm-state/
      vxtool verify *.pcap --expect before@2026-01-31T12:00:00Z --expect after@2026-01-31T12:05:00Z
      docker network inspect -v web | vxtool verify vm1.pcap --expect -
      vxtool verify node*.pcap --expect cluster.json --profile flannel --html report.html

    Where a capture was taken is inferred when it is not told, and said. A check that cannot be decided from what was given says `unknown` and what it
    would need.

    Exit codes: 0 nothing of severity error fails; 1 something does, or a capture is damaged; 2 nothing could be done.
    """
    from vxtool.cli.verifying import run

    return run(**given)  # type: ignore[arg-type]


command = verify
