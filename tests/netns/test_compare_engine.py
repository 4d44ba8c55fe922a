"""The data plane of a lab, held against what Docker's own driver and a whole Docker Engine have made (refdump/)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from tests.lab.overlays import endpoint, network, topology
from vxtool.lab import dump, records, underlay
from vxtool.lab.compare import Comparison, compare
from vxtool.lab.kernel import Kernel
from vxtool.lab.namespaces import NETNS
from vxtool.lab.overlay import Plan
from vxtool.lab.records import Sandbox
from vxtool.lab.spec import Options
from vxtool.lab.steps import AddFdb, AddNeighbour, DeleteFdb, SetMtu
from vxtool.lab.topology import Topology
from vxtool.model import Endpoint, EndpointKind, Mac, Network

HERE = Path(__file__).parent
NODES = ("vm1", "vm2", "vm3")

WEB, OTHER, INGRESS = network("web", 4097), network("other", 4098, "10.0.2.0/24"), network("ingress", 4096, "10.0.0.0/24", ingress=True)

# As driver-19.03.txt was made; there is no container, so the sandboxes' own state is not told.
DRIVER = [endpoint(f"c{last}", node, "web", f"10.0.1.{last}") for last, node in ((3, "vm1"), (5, "vm1"), (4, "vm2"))]

# As `docker network inspect` of the three nodes listed it beside engine-20.10-vm*.txt. A task of the published service is in ingress and in web.
PLACED = {"vm1": (0, 3), "vm2": (1, 4), "vm3": (2, 5)}
ENGINE = [
    *(
        endpoint(f"web.{task + 1}", node, name, f"10.0.{subnet}.{first + task}")
        for node, tasks in PLACED.items()
        for task in tasks
        for name, subnet, first in (("web", 1, 3), ("ingress", 0, 6))
    ),
    *(endpoint(f"other.{node}", node, "other", f"10.0.2.{3 + place}") for place, node in enumerate(NODES)),
    *(
        replace(endpoint(f"{name}-endpoint", node, name, f"10.0.{subnet}.{address}"), kind=EndpointKind.LOAD_BALANCER)
        for name, subnet, on in (("web", 1, (10, 9, 11)), ("other", 2, (6, 7, 8)), ("ingress", 0, (2, 3, 4)))
        for node, address in zip(NODES, on, strict=True)
    ),
]


def segment() -> Topology:
    """192.168.68.0/24, as in the references."""
    nodes = topology(NODES)
    prefix = IPv4Network("192.168.68.0/24")
    narrowed = (
        replace(link, a=replace(link.a, interface=IPv4Interface((link.a.interface.ip, prefix.prefixlen)))) for link in nodes.links if link.a.interface
    )
    return replace(nodes, links=tuple(narrowed))


def built(networks: Sequence[Network], endpoints: Iterable[Endpoint], *, like_docker: bool = False) -> None:
    """The lab, performed. Bridges tell that they are up a moment after their first port is."""
    plan = Plan(segment(), Options(like_docker=like_docker))
    cluster = replace(plan.cluster, networks=tuple(networks), endpoints=tuple(endpoints))
    Kernel().perform([*underlay.plan(segment(), Options()), *plan.build(cluster)])


def state(node: str) -> list[Sandbox]:
    return records.read(dump.as_text(dump.read([namespace for namespace in dump.in_folder(NETNS) if namespace.node == node], with_json=False)))


def reference(name: str) -> list[Sandbox]:
    return records.read((HERE / "refdump" / f"{name}.txt").read_text())


def settled(there: Sequence[Sandbox], networks: Sequence[str] = (), others_there: Sequence[Sandbox] = ()) -> Comparison:
    """Operational states are told late by the kernel (linkwatch, up to a second): compared until they have been."""
    for _ in range(60):
        comparison = compare(state("vm1"), there, networks=networks, others_here=state("vm2"), others_there=others_there)
        if not any(difference.field in ("state", "flags", "bridge_slave.state") for difference in comparison.unexplained):
            break
        time.sleep(0.05)
    return comparison


def unexplained(comparison: Comparison) -> str:
    return "\n".join(str(difference) for difference in comparison.unexplained)


@pytest.mark.parametrize("like_docker", [False, True], ids=["made in place", "made and moved"])
def test_the_overlay_sandbox_is_the_one_that_the_driver_of_19_03_makes(world, like_docker):
    built([WEB], DRIVER, like_docker=like_docker)
    comparison = settled(reference("driver-19.03"))
    assert not comparison.unexplained, unexplained(comparison)
    assert {difference.reason for difference in comparison.explained} == {
        "the container's end is not up there: the driver was run alone, without containers"
    } | {difference.reason for difference in comparison.explained if difference.field.startswith(("num", "gso", "tso", "gro"))}
    assert comparison.sandboxes == 1
    assert comparison.same > 250


def test_a_whole_node_is_what_a_docker_engine_makes_of_it(world):
    built([WEB, OTHER, INGRESS], ENGINE)
    vnis = [str(vni) for net in (WEB, OTHER, INGRESS) for vni in net.vnis]
    comparison = settled(reference("engine-20.10-vm1"), vnis, reference("engine-20.10-vm2"))
    assert not comparison.unexplained, unexplained(comparison)
    assert comparison.sandboxes == 10, "the node, three overlays, three load balancers, three containers"
    assert comparison.same > 1700
    assert "10.0.1.4" not in comparison.read_as, "the addresses are the same ones"


FAULTS = {
    "another MTU": (SetMtu("vm1:1-web0123456", "vxlan0", 1400, 1450), "link vxlan0", "mtu"),
    "a peer on the wrong node": (None, "fdb vxlan0 02:42:0a:00:01:04 self", "dst"),
    "one neighbour too many": (
        AddNeighbour("vm1:1-web0123456", "vxlan0", IPv4Address("10.0.1.77"), Mac(0x02420A00014D)),
        "neighbour vxlan0 10.0.1.77",
        "",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_overlay_sandbox_is_a_difference(world, fault):
    built([WEB], DRIVER)
    step, record, field = FAULTS[fault]
    mac, right, wrong = Mac.parse("02:42:0a:00:01:04"), IPv4Address("192.168.68.110"), IPv4Address("192.168.68.111")
    where = ("vm1:1-web0123456", "vxlan0", mac)
    Kernel().perform([step] if step is not None else [DeleteFdb(*where, right), AddFdb(*where, wrong)])
    comparison = compare(state("vm1"), reference("driver-19.03"), exact=True)
    assert (record, field) in {(difference.record, difference.field) for difference in comparison.unexplained}
