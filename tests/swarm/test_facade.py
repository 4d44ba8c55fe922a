"""Services, nodes and networks from Python, with options called as Docker's flags."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.swarm.local import LocalSwarm
from vxtool.errors import UsageError
from vxtool.model import Availability, ServiceMode, TaskState
from vxtool.swarm.facade import LISTS, UNSUPPORTED, Networks, Nodes, Services, random_name, service_spec
from vxtool.swarm.objects import PortConfig


@pytest.fixture
def swarm() -> LocalSwarm:
    swarm = LocalSwarm()
    Networks(swarm.client).create("web")
    return swarm


@pytest.fixture
def services(swarm: LocalSwarm) -> Services:
    return Services(swarm.client)


def test_a_service_is_made_of_texts_or_of_values(services: Services) -> None:
    texts = services.create("a", image="httpd", limit_cpu="0.5", restart_delay="1m", ports=["81:80"], env={"A": "1"}, mode="replicated")
    values = services.create(
        "b", image="httpd:latest", limit_cpu=500_000_000, restart_delay=60.0, publish=[PortConfig(80, 82)], env=["A=1"], mode=ServiceMode.REPLICATED
    )
    assert texts.spec.task == values.spec.task


def test_networks_are_named_by_their_names(swarm: LocalSwarm, services: Services) -> None:
    service = services.create("a", image="httpd", networks=["name=web,alias=x"])
    network = swarm.client.view().network("web")
    assert [(one.network, one.aliases) for one in service.spec.task.networks] == [(network.id, ("x",))]
    assert services.update("a", network_rm=["web"]).spec.task.networks == ()


def test_a_service_without_a_name_gets_two_words(services: Services) -> None:
    first, second = services.create(image="httpd"), services.create(image="httpd")
    assert first.spec.name.count("_") == 1
    assert first.spec.name != second.spec.name


def test_a_name_that_is_taken_is_not_given_again() -> None:
    first = random_name(choose=random.Random(1))
    assert random_name([first], random.Random(1)) != first


def test_an_update_adds_replaces_and_removes(services: Services) -> None:
    services.create("a", image="httpd", env=["A=1", "B=2"], label={"x": "1"}, constraint=["node.role==worker"], publish=["80:80", "81:81/udp"])
    spec = services.update(
        "a", env_add=["B=3", "C=4"], env_rm=["A"], label_rm=["x"], constraint_add=["node.id==b"], publish_rm=["80"], publish_add=["82:80"]
    ).spec
    assert spec.task.env == ("B=3", "C=4")
    assert spec.labels == {}
    assert spec.task.placement.constraints == ("node.id==b", "node.role==worker")
    assert spec.endpoint.ports == (PortConfig(81, 81, "udp"), PortConfig(80, 82))


def test_force_changes_nothing_but_the_count(services: Services) -> None:
    before = services.create("a", image="httpd").spec
    after = services.update("a", force=True).spec
    assert after.task.force_update == before.task.force_update + 1


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"mode": "global", "replicas": 3}, "replicas can only be used with replicated or replicated-job mode"),
    ({"mode": "global", "replicas_max_per_node": 3}, "replicas-max-per-node can only be used with replicated or replicated-job mode"),
    ({"max_concurrent": 3}, "max-concurrent can only be used with replicated-job mode"),
    ({"mode": "global-job", "update_delay": "5s"}, "update and rollback configuration is not supported for jobs"),
    ({"mode": "foo"}, "Unknown mode: foo, only replicated and global supported"),
    ({"network": ["nope"]}, "network nope not found"),
    ({"replica": 3}, "'replica' is no option of a service"),
    ({"limit_memory": "1"}, "invalid memory value 1: Must be at least 4MiB"),
)


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_what_does_not_go_together_is_refused_in_dockers_words(services: Services, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        services.create("a", image="httpd", **options)


@pytest.mark.parametrize("option", sorted(UNSUPPORTED))
def test_what_a_lab_has_not_is_refused_by_name(option: str) -> None:
    with pytest.raises(UsageError) as refusal:
        service_spec("a", image="httpd", **{option: ["x"]})
    assert str(refusal.value) == UNSUPPORTED[option]


def test_every_list_can_be_added_to_and_taken_from(services: Services) -> None:
    texts = {
        "placement_pref": "spread=node.labels.a",
        "generic_resource": "gpu=1",
        "host": "a:10.0.0.1",
        "dns": "10.0.0.1",
        "network": "web",
        "publish": "80:80",
        "constraint": "node.id==x",
    }
    plain = services.create("a", image="httpd").spec
    for option in LISTS:
        text = texts.get(option, "key=value" if option in ("env", "label", "container_label") else "a.example")
        assert services.update("a", **{f"{option}_add": [text]}).spec != plain, option
        taken = {"env": "key", "label": "key", "container_label": "key", "generic_resource": "gpu", "publish": "80"}.get(option, text)
        assert services.update("a", **{f"{option}_rm": [taken]}).spec == plain, option


def test_a_network_that_is_attached_already_is_refused(services: Services) -> None:
    services.create("a", image="httpd", network=["web"])
    with pytest.raises(UsageError, match="service is already attached to network web"):
        services.update("a", network_add=["web"])


def test_only_replicated_services_are_scaled(services: Services) -> None:
    services.create("a", image="httpd", mode="global")
    with pytest.raises(UsageError, match="scale can only be used with replicated or replicated-job mode"):
        services.scale("a", 3)


def test_tasks_are_listed_with_their_past(swarm: LocalSwarm, services: Services) -> None:
    services.create("a", image="httpd", replicas=2)
    swarm.run(1)
    services.update("a", env_add=["A=1"], update_parallelism=0)
    swarm.run(10)
    states = [task.state for task in services.tasks("a")]
    assert states == [TaskState.SHUTDOWN] * 2 + [TaskState.RUNNING] * 2


def test_nodes_are_drained_and_labelled(swarm: LocalSwarm) -> None:
    nodes = Nodes(swarm.client)
    node = nodes.update("vm2", availability="drain", label_add=["zone=eu"])
    assert (node.availability, node.labels) == (Availability.DRAIN, {"zone": "eu"})
    assert nodes.update("vm2", label_rm=["zone"]).labels == {}
    with pytest.raises(UsageError, match="key zone doesn't exist in node's labels"):
        nodes.update("vm2", label_rm=["zone"])
    with pytest.raises(UsageError, match='invalid Availability: "off"'):
        nodes.update("vm2", availability="off")
