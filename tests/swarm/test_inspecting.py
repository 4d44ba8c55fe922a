"""Our documents have Docker's shape, and our own reader of Docker's documents understands them as the swarm means them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.swarm.local import LocalSwarm
from vxtool.expect import load_cluster
from vxtool.lab.names import identity
from vxtool.model import Availability, Endpoint, EndpointKind
from vxtool.swarm import inspecting
from vxtool.swarm.clusters import cluster
from vxtool.swarm.facade import Networks, Nodes, Services
from vxtool.swarm.objects import TaskNetwork, TaskSpec

REAL = Path(__file__).parents[2] / "captures" / "swarm-steady"


@pytest.fixture(scope="module")
def swarm() -> LocalSwarm:
    """The article's services, an encrypted network, a container of its own, and a node that is drained."""
    swarm = LocalSwarm("sathish-vm1", "sathish-vm2", "sathish-vm3", identity=identity)
    networks, services = Networks(swarm.client), Services(swarm.client)
    networks.create("web", attachable=True)
    networks.create("sec", encrypted=True, subnets=["10.44.0.0/24"], options={"com.docker.network.driver.mtu": "1400"}, labels={"a": "b"})
    services.create("web", image="httpd", replicas=6, network=["name=web,alias=www"], publish=["80:80"])
    services.create("api", image="httpd", replicas=3, network=["web", "sec"], endpoint_mode="dnsrr")
    services.create("sec", image="httpd", mode="global", network=["sec"])
    swarm.run(3)
    web = networks.get("web").id
    swarm.client.run_container(TaskSpec("httpd", container="box", networks=(TaskNetwork(web),)), identity("sathish-vm2"))
    Nodes(swarm.client).update("sathish-vm3", availability=Availability.DRAIN, label_add=["zone=eu"])
    swarm.run(30)
    return swarm


def documents(swarm: LocalSwarm, folder: Path, verbose: bool) -> str:
    """What somebody would collect: the lists of a manager, and the networks as each node tells of them."""
    view = swarm.client.view()

    def write(name: str, told: Any) -> None:
        (folder / f"{name}.json").write_text(json.dumps(told))

    write("nodes", [inspecting.node(node) for node in view.nodes.values()])
    write("services", [inspecting.service(service) for service in view.services.values()])
    write("tasks", [inspecting.task(view, task) for task in view.tasks.values() if task.node])
    for node in view.nodes.values():
        for network in view.networks.values():
            document = inspecting.network(view, network, node, verbose)
            write(f"inspect-{network.spec.name}-{node.hostname}", [document] if "Peers" in document else [])
    return str(folder)


def told(one: Endpoint) -> tuple[Any, ...]:
    """What Docker's documents say of an endpoint: that a container has a task behind it is our secret."""
    return one.network, one.ip, one.name, one.mac, one.node, one.kind, one.service, one.task if one.kind is EndpointKind.TASK else None


@pytest.mark.parametrize("verbose", [False, True], ids=["inspect", "inspect -v"])
def test_our_reader_understands_the_documents_as_the_swarm_means_them(swarm: LocalSwarm, tmp_path: Path, verbose: bool) -> None:
    meant, read = cluster(swarm.client.view()), load_cluster(documents(swarm, tmp_path, verbose))
    assert not read.contradictions
    assert {(one.name, one.id, one.role, one.availability, one.state, one.vtep) for one in read.nodes} == {
        (one.name, one.id, one.role, one.availability, one.state, one.vtep) for one in meant.nodes
    }
    for network in meant.networks:
        other = read.network_by_name[network.name]
        for field in ("id", "vnis", "subnets", "mtu", "encrypted", "internal", "attachable", "ingress", "labels", "members"):
            assert getattr(other, field) == getattr(network, field), (network.name, field)
    assert set(map(told, read.endpoints)) == set(map(told, meant.endpoints))
    for service in meant.services:
        mine = read.service_by_name[service.name]
        for field in ("id", "mode", "replicas", "endpoint_mode", "ports", "networks", "aliases"):
            assert getattr(mine, field) == getattr(service, field), (service.name, field)
        assert set(mine.vips) == set(service.vips)
    assert {(one.id, one.service, one.slot, one.node, one.desired, one.observed) for one in read.tasks} == {
        (one.id, one.service, one.slot, one.node, one.desired, one.observed) for one in meant.tasks
    }


def test_a_node_lists_its_own_endpoints_and_its_load_balancer_only(swarm: LocalSwarm) -> None:
    view = swarm.client.view()
    document = inspecting.network(view, view.network("web"), view.node("sathish-vm2"))
    names = {entry["Name"] for entry in document["Containers"].values()}
    assert "box" in names
    assert "lb-web" in document["Containers"]
    here = {view.task_name(task) for task in view.tasks_on[identity("sathish-vm2")]}
    assert names - {"web-endpoint"} <= here


def test_a_node_without_tasks_in_a_network_has_no_part_in_it(swarm: LocalSwarm) -> None:
    view = swarm.client.view()
    document = inspecting.network(view, view.network("web"), view.node("sathish-vm3"))
    assert (document["Containers"], document["Labels"]) == (None, None)
    assert "Peers" not in document


def shape(value: Any) -> Any:
    """Keys in their order, and types."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def real(name: str) -> Any:
    """A document of the real swarm whose captures are in this repository."""
    found = sorted(REAL.rglob(name))
    if not found:
        pytest.skip(f"{REAL} has no {name}")
    return json.loads(found[0].read_text())


@pytest.mark.parametrize("name", ["web", "api"])
def test_services_have_the_keys_of_a_real_engine_in_its_order(swarm: LocalSwarm, name: str) -> None:
    theirs = real(f"service-{name}.json")[0]
    ours = inspecting.service(swarm.client.view().service(name))
    if name == "web":  # ours has an alias
        theirs["Spec"]["TaskTemplate"]["Networks"][0]["Aliases"] = ["www"]
    assert shape(ours) == shape(theirs)


def test_networks_have_the_keys_of_a_real_engine_in_its_order(swarm: LocalSwarm) -> None:
    view = swarm.client.view()
    theirs = real("inspect-web-vm2.json")[0]
    ours = inspecting.network(view, view.network("web"), view.node("sathish-vm2"))
    for told in (ours, theirs):
        told["Containers"] = list(told["Containers"].values())
    assert shape(ours) == shape(theirs)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1_700_000_000, "2023-11-14T22:13:20Z"), (1_700_000_000.5, "2023-11-14T22:13:20.5Z"), (0, "1970-01-01T00:00:00Z")],
)
def test_times_have_no_zeros_at_their_end(seconds: float, text: str) -> None:
    assert inspecting.moment(seconds) == text
