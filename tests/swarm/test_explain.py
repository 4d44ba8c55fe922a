"""Why the next task of a service goes where it goes: each filter says no for its own reason, with its own numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.swarm.local import LocalSwarm
from vxtool.model import Availability, TaskState
from vxtool.swarm.explain import Explanation, explain
from vxtool.swarm.facade import Nodes, Services


@pytest.fixture
def swarm() -> LocalSwarm:
    return LocalSwarm("vm1", "vm2", "vm3")


def explained(swarm: LocalSwarm, name: str) -> Explanation:
    view = swarm.client.view()
    return explain(view, view.service(name))


def verdicts(told: Explanation) -> dict[str, tuple[int | None, str, str]]:
    return {verdict.node.hostname: (verdict.rank, verdict.refused, verdict.detail) for verdict in told.verdicts}


def _drain(swarm: LocalSwarm) -> None:
    Nodes(swarm.client).update("vm2", availability=Availability.DRAIN)


def _down(swarm: LocalSwarm) -> None:
    swarm.agents.cut("vm2")
    swarm.run(30)


def _fill(swarm: LocalSwarm) -> None:
    Services(swarm.client).create("full", image="httpd", reserve_cpu="3.5", reserve_memory="1g", constraint=["node.hostname==vm2"])
    swarm.run(1)


def _publish(swarm: LocalSwarm) -> None:
    Services(swarm.client).create("port", image="httpd", publish=["published=80,target=80,mode=host"], constraint=["node.hostname==vm2"])
    swarm.run(1)


def _nothing(swarm: LocalSwarm) -> None:
    pass


FILTERS: tuple[tuple[Callable[[LocalSwarm], None], dict[str, Any], str, str], ...] = (
    (_drain, {}, "not available for new tasks", "its availability is drain"),
    (_down, {}, "not available for new tasks", "it is down"),
    (_fill, {"reserve_cpu": "1"}, "insufficient resources", "cpus: asked 1, free 0.5"),
    (_fill, {"reserve_memory": "7.5g"}, "insufficient resources", "memory: asked 7.5GiB, free 7GiB"),
    (_nothing, {"constraint": ["node.hostname!=vm2", "node.role!=x"]}, "scheduling constraints not satisfied", "node.hostname!=vm2"),
    (_publish, {"publish": ["published=80,target=9,mode=host"]}, "host-mode port already in use", "80/tcp"),
)


@pytest.mark.parametrize(("happens", "options", "refused", "detail"), FILTERS)
def test_a_filter_says_no_with_its_numbers(
    swarm: LocalSwarm, happens: Callable[[LocalSwarm], None], options: dict[str, Any], refused: str, detail: str
) -> None:
    happens(swarm)
    Services(swarm.client).create("web", image="httpd", replicas=0, **options)
    told = explained(swarm, "web")
    assert verdicts(told)["vm2"] == (None, refused, detail)
    assert told.chosen is not None
    assert told.chosen.hostname != "vm2"


def test_generic_resources_and_replicas_per_node_are_counted(swarm: LocalSwarm) -> None:
    services = Services(swarm.client)
    services.create("gpu", image="httpd", generic_resource=["gpu=2"])
    services.create("web", image="httpd", replicas=3, replicas_max_per_node=1)
    swarm.run(1)
    assert {detail for _, _, detail in verdicts(explained(swarm, "gpu")).values()} == {"gpu: asked 2, free 0"}
    told = explained(swarm, "web")
    assert set(verdicts(told).values()) == {(None, "max replicas per node limit exceed", "at most 1, 1 there")}
    assert told.chosen is None
    assert told.error == "no suitable node (max replicas per node limit exceed)"


def test_the_first_filter_of_the_pipeline_is_the_one_that_is_told(swarm: LocalSwarm) -> None:
    _drain(swarm)
    Services(swarm.client).create("web", image="httpd", reserve_memory="1t", constraint=["node.hostname==vm1"])
    assert {name: refused for name, (_, refused, _) in verdicts(explained(swarm, "web")).items()} == {
        "vm1": "insufficient resources",
        "vm2": "not available for new tasks",
        "vm3": "insufficient resources",
    }


def test_the_node_with_the_fewest_tasks_of_the_service_is_first_and_is_taken(swarm: LocalSwarm) -> None:
    services = Services(swarm.client)
    services.create("web", image="httpd", replicas=2)
    services.create("other", image="httpd", replicas=3, constraint=["node.hostname==vm3"])
    swarm.run(1)
    used = {swarm.client.view().nodes[task.node].hostname for task in services.tasks("web")}
    told = explained(swarm, "web")
    assert told.verdicts[0].node is told.chosen
    assert (told.verdicts[0].rank, told.verdicts[0].tasks_of_service) == (1, 0)
    assert told.verdicts[0].node.hostname not in used
    services.scale("web", 3)
    swarm.run(1)
    assert told.chosen is not None
    assert services.tasks("web")[-1].node == told.chosen.id


def test_equal_nodes_share_a_rank(swarm: LocalSwarm) -> None:
    Services(swarm.client).create("web", image="httpd", replicas=0)
    assert [verdict.rank for verdict in explained(swarm, "web").verdicts] == [1, 1, 1]


def test_a_node_on_which_the_service_fails_is_the_last_choice() -> None:
    swarm = LocalSwarm("vm1", "vm2", history_limit=20, outcome=lambda task: TaskState.FAILED if task.node == "vm2" else None)
    services = Services(swarm.client)
    services.create("web", image="httpd", replicas=2, restart_delay="1s")
    swarm.run(60)
    good, bad = explained(swarm, "web").verdicts
    assert (good.node.hostname, bad.node.hostname) == ("vm1", "vm2")
    assert bad.failures >= 5
    assert bad.tasks_of_service < good.tasks_of_service


def test_preferences_choose_another_node_than_the_first_in_rank(swarm: LocalSwarm) -> None:
    nodes, services = Nodes(swarm.client), Services(swarm.client)
    for name, zone in (("vm1", "a"), ("vm2", "a"), ("vm3", "b")):
        nodes.update(name, label_add=[f"az={zone}"])
    services.create("busy", image="httpd", replicas=4, constraint=["node.hostname==vm3"])
    swarm.run(1)
    services.create("web", image="httpd", replicas=2, placement_pref=["spread=node.labels.az"])
    swarm.run(1)
    services.scale("web", 3)
    swarm.run(1)
    services.scale("web", 2)
    swarm.run(1)
    told = explained(swarm, "web")
    assert {verdict.node.hostname: verdict.branch for verdict in told.verdicts} == {"vm1": ("a",), "vm2": ("a",), "vm3": ("b",)}
    assert told.chosen is not None


def test_a_global_service_has_a_verdict_for_each_node_as_if_its_own_task_were_not_there(swarm: LocalSwarm) -> None:
    services = Services(swarm.client)
    services.create("all", image="httpd", mode="global", publish=["published=80,target=80,mode=host"])
    swarm.run(1)
    told = explained(swarm, "all")
    assert [verdict.rank for verdict in told.verdicts] == [1, 1, 1]
    assert (told.chosen, told.error) == (None, "")


def test_tasks_that_wait_are_told_of(swarm: LocalSwarm) -> None:
    Services(swarm.client).create("big", image="httpd", replicas=2, reserve_memory="1t")
    swarm.run(1)
    assert [task.error for task in explained(swarm, "big").waiting] == ["no suitable node (insufficient resources on 3 nodes)"] * 2
