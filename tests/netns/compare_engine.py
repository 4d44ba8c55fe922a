"""A lab beside a Docker Engine that runs now: the same cluster twice, every field of every namespace compared, the result as Markdown.

    python -m tests.netns.compare_engine > docs/compared-with-docker-dataplane.md

Starts two real engines as one swarm on this machine (`host.sh up 2`, in namespaces of their own), makes networks and containers with `docker`, asks
the engines what they have given them, builds the same with `vxtool.Lab`, once in place and once as `--like-docker`, compares both nodes, and takes
everything down again. Needs root, dockerd 20.10 and the script host.sh (option --host); about half a minute. Not one of the tests: CI has no engine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from vxtool import Lab
from vxtool.lab import dump, records
from vxtool.lab.compare import Comparison, compare
from vxtool.lab.records import Sandbox
from vxtool.lab.spec import EndpointWish, NetworkWish
from vxtool.lab.topology import End, Link, Machine, MachineKind, Topology
from vxtool.model import Subnet

NODES = ("sathish-vm1", "sathish-vm2")
NETWORKS = {"web": "10.0.1.0/24", "other": "10.0.2.0/24", "inner": "10.0.3.0/24"}  # `inner` is internal
CONTAINERS = (  # name, node, networks
    ("web.1", 1, ("web",)),
    ("web.2", 2, ("web",)),
    ("web.3", 1, ("web",)),
    ("both.1", 1, ("web", "other")),
    ("both.2", 2, ("web", "other")),
    ("inner.1", 1, ("inner",)),
    ("inner.2", 2, ("inner",)),
)


class Engines:
    """Two Docker Engines in one swarm, by host.sh."""

    def __init__(self, script: Path) -> None:
        self.script = script

    def run(self, *words: str) -> str:
        done = subprocess.run([str(self.script), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.script} {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def docker(self, node: int, *words: str) -> str:
        return self.run("docker", str(node), *words)

    def pid(self, node: int) -> str:
        """dockerd's, from the path of one of its sandboxes."""
        return self.run("sandboxes", str(node)).split("/")[2]

    def fill(self) -> None:
        for name, subnet in NETWORKS.items():
            internal = ["--internal"] if name == "inner" else []
            self.docker(1, "network", "create", "-d", "overlay", "--attachable", *internal, "--subnet", subnet, name)
        for name, node, (first, *more) in CONTAINERS:
            self.docker(node, "create", "--network", first, "--name", name, "httpd")
            for network in more:
                self.docker(node, "network", "connect", network, name)
            self.docker(node, "start", name)

    def networks(self, node: int) -> dict[str, Any]:
        return {name: json.loads(self.docker(node, "network", "inspect", name))[0] for name in NETWORKS}

    def state(self, node: int) -> list[Sandbox]:
        found = records.read(dump.as_text(dump.read(dump.of_engine(self.pid(node)), with_json=False)))
        assert found
        return found


def lab_of(engines: Engines, *, like_docker: bool) -> Lab:
    """The lab that the engines' own `network inspect` describes."""
    told = [engines.networks(node) for node in (1, 2)]
    nodes = [Machine(name, MachineKind.NODE) for name in NODES]
    links = [
        Link(f"{name}-s1", End(name, "eth0", IPv4Interface(f"192.168.68.{109 + number}/24")), End("s1", f"s1-eth{number + 1}"))
        for number, name in enumerate(NODES)
    ]
    networks = []
    for name, text in NETWORKS.items():
        of = next(inspected[name] for inspected in told if "com.docker.network.driver.overlay.vxlanid_list" in (inspected[name]["Options"] or {}))
        vni = int(of["Options"]["com.docker.network.driver.overlay.vxlanid_list"])
        networks.append(
            NetworkWish(name, id=of["Id"], vnis=(vni,), subnets=(Subnet(IPv4Network(text), IPv4Network(text)[1]),), internal=of["Internal"])
        )
    endpoints = [
        EndpointWish(name, NODES[node - 1], {network: _address(told[node - 1][network], name) for network in on}) for name, node, on in CONTAINERS
    ]
    return Lab(
        Topology("engines", (*nodes, Machine("s1", MachineKind.SWITCH)), tuple(links)),
        networks=networks,
        endpoints=endpoints,
        like_docker=like_docker,
    )


def _address(network: Any, container: str) -> IPv4Address:
    (text,) = (entry["IPv4Address"] for entry in network["Containers"].values() if entry["Name"] == container)
    return IPv4Interface(text).ip


def compared(engines: Engines, there: Sequence[list[Sandbox]], vnis: Sequence[str], *, like_docker: bool) -> list[Comparison]:
    with lab_of(engines, like_docker=like_docker) as lab:
        time.sleep(1.5)  # the kernel tells up to a second late that a bridge is up
        states = dump.read(dump.of_lab(lab.running), with_json=False)
    here = [records.read(dump.as_text(state for state in states if state.namespace.node == node)) for node in NODES]
    return [
        compare(here[number], there[number], networks=vnis, others_here=here[1 - number], others_there=there[1 - number])
        for number in range(len(NODES))
    ]


def page(versions: Sequence[str], results: dict[str, list[Comparison]]) -> Iterator[str]:
    yield "# The data plane of a lab, compared with Docker's"
    yield ""
    yield "Made by `python -m tests.netns.compare_engine` (needs root and a dockerd). The same cluster was built on one machine by two real Docker"
    yield "Engines in a swarm, and by vxtool from what `docker network inspect` said of it. Then every field of every namespace of each node was"
    yield "compared, as `vxtool lab compare` does: links with all details, addresses, routes, rules of policy routing, permanent neighbours,"
    yield "forwarding entries, packet filter rules by meaning, sockets, sysctls."
    yield ""
    yield from (f"- {version}" for version in versions)
    yield f"- networks: {', '.join(f'{name} {subnet}' for name, subnet in NETWORKS.items())} (inner is internal)"
    placed = (f"{name} on {NODES[node - 1]} in {' and '.join(on)}" for name, node, on in CONTAINERS)
    yield f"- containers: {', '.join(placed)}"
    yield ""
    yield "| built | node | namespaces | fields the same | differ with a reason | differ without one |"
    yield "| --- | --- | --: | --: | --: | --: |"
    for how, both in results.items():
        for name, result in zip(NODES, both, strict=True):
            yield f"| {how} | {name} | {result.sandboxes} | {result.same:,} | {len(result.explained)} | {len(result.unexplained)} |"
    unexplained = [(how, difference) for how, both in results.items() for result in both for difference in result.unexplained]
    yield ""
    yield "## Differences without a reason"
    yield ""
    yield from [f"- {how}: {difference}" for how, difference in unexplained] or ["None."]
    yield ""
    yield "## Differences with a reason"
    yield ""
    yield f"Of {NODES[0]}, built in place."
    yield ""
    yield "| reason | differences | for example |"
    yield "| --- | --: | --- |"
    first = next(iter(results.values()))[0]
    reasons = Counter(difference.reason or "" for difference in first.explained)
    for reason, count in reasons.most_common():
        example = next(difference for difference in first.explained if difference.reason == reason)
        yield f"| {reason} | {count} | `{_cell(example.sandbox, example.record, example.field)}`: {example.verdict} |"
    yield ""
    yield "## Not compared"
    yield ""
    yield from (f"- {reason} ({count})" for reason, count in sorted(first.ignored.items(), key=lambda item: -item[1]))


def _cell(*words: str) -> str:
    text = " ".join(word for word in words if word)
    return text.replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path(__file__).parents[3] / "shared/realswarm/host.sh", help="the script that starts engines")
    script = parser.parse_args().host
    if os.geteuid() != 0 or not script.exists():
        raise SystemExit(f"root is needed, and {script} (--host says where it is)")
    engines = Engines(script)
    engines.run("up", str(len(NODES)))
    try:
        engines.fill()
        time.sleep(3)  # gossip
        there = [engines.state(node) for node in (1, 2)]
        vnis = [vni for sandbox in there[0] for _, fields in sandbox.of("link") if (vni := fields.get("vxlan.id")) and vni != "4096"]
        results = {
            "in place": compared(engines, there, vnis, like_docker=False),
            "--like-docker": compared(engines, there, vnis, like_docker=True),
        }
        versions = [
            f"Docker Engine {engines.docker(1, 'version', '--format', '{{.Server.Version}}').strip()}, Linux {os.uname().release}",
            f"{subprocess.run(['ip', '-V'], capture_output=True, text=True, check=True).stdout.strip()}, {time.strftime('%Y-%m-%d')}",
        ]
    finally:
        engines.run("down")
    for line in page(versions, results):
        print(line)
    return 1 if any(result.unexplained for both in results.values() for result in both) else 0


if __name__ == "__main__":
    sys.exit(main())
