"""Tasks go where swarmkit's own scheduler put them when it was run, and are refused in its words."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.swarm.vectors import node_of
from tests.vectors import cases
from vxtool.model import PublishMode, TaskState
from vxtool.swarm.objects import EndpointSpec, Placement, Platform, PortConfig, Resources, Task, TaskSpec
from vxtool.swarm.scheduler import Scheduler


def _task_of(service: dict[str, Any], number: int, **more: Any) -> Task:
    spec = TaskSpec(
        reservations=Resources(
            service.get("reserve_nano_cpus", 0), service.get("reserve_memory_bytes", 0), service.get("reserve_generic_discrete", {})
        ),
        placement=Placement(
            tuple(service.get("constraints") or ()),
            tuple(service.get("preferences") or ()),
            service.get("max_replicas_per_node", 0),
            tuple(Platform(os, arch) for os, arch in service.get("platforms") or ()),
        ),
        log_driver=service.get("log_driver"),
        network_drivers=tuple(service.get("network_drivers") or ()),
        volume_drivers=(service["volume_driver"],) if service.get("volume_driver") else (),
    )
    ports = tuple(
        PortConfig(80, port.get("published", 0), port.get("proto") or "tcp", PublishMode(port.get("mode") or "ingress"))
        for port in service.get("ports") or ()
    )
    version = None if service.get("ungrouped") else 1
    return Task(f"{service['id']}.{number}", service["id"], number, spec=spec, spec_version=version, endpoint=EndpointSpec(ports=ports), **more)


@pytest.mark.parametrize("case", cases("spread"))
def test_tasks_go_where_swarm_puts_them(case: dict[str, Any]) -> None:
    services = {service["id"]: service for service in case["services"]}
    scheduler = Scheduler()
    for facts in case["nodes"]:
        scheduler.node(node_of(facts))
        for service, count in (facts.get("recent_failures") or {}).items():
            for _ in range(count):
                scheduler.failed(facts["id"], service, 1, at=1000.0)
        for service, count in (facts.get("expired_failures") or {}).items():
            for _ in range(count):
                scheduler.failed(facts["id"], service, 1, at=0.0)
    number = 0
    for existing in case.get("existing_tasks") or ():
        for _ in range(existing.get("count", 1)):
            number += 1
            state, desired = (TaskState[existing.get(key, "running").upper()] for key in ("state", "desired"))
            service = services.get(existing["service"], {"id": existing["service"]})
            scheduler.task(_task_of(service, number, node=existing["node"], state=state, desired=desired))
    new: dict[str, Task] = {}
    for wanted in case.get("new_tasks") or ():
        for _ in range(wanted.get("count", 1)):
            number += 1
            task = _task_of(services[wanted["service"]], number, node=wanted.get("node", ""), state=TaskState.PENDING)
            new[task.id] = task
            scheduler.task(task)
    while changed := scheduler.tick(now=1000.0):
        new.update((task.id, task) for task in changed)
    for service, expected in case["expect"].items():
        tasks = [task for task in new.values() if task.service == service]
        placement = dict(Counter(task.node for task in tasks if task.state is TaskState.ASSIGNED))
        if "allowed_sorted_counts" in expected:
            assert sorted(placement.values(), reverse=True) in expected["allowed_sorted_counts"]
        if expected.get("placement") is not None:
            assert placement == expected["placement"]
        elif 0 < 5 * len(expected.get("allowed_placements") or ()) <= case.get("runs", 0):  # so few that there are hardly others
            assert placement in expected["allowed_placements"]
        waiting = [task for task in tasks if task.state is TaskState.PENDING]
        assert len(waiting) == expected.get("unassigned", 0)
        assert sorted({task.error for task in waiting}) == sorted(set(expected.get("errors") or ()))


def test_a_refused_node_is_explained_and_the_others_are_ranked() -> None:
    scheduler = Scheduler()
    for facts in ({"id": "a", "labels": {"zone": "eu"}}, {"id": "b", "availability": "drain"}, {"id": "c"}, {"id": "d", "labels": {"zone": "eu"}}):
        scheduler.node(node_of(facts))
    service = {"id": "web", "constraints": ["node.labels.zone==eu"]}
    scheduler.task(_task_of(service, 1, node="a", state=TaskState.RUNNING))
    told = {reason.node.id: (reason.rank, reason.refused) for reason in scheduler.explain(_task_of(service, 2))}
    assert told == {
        "a": (2, None),
        "b": (None, "1 node not available for new tasks"),
        "c": (None, "scheduling constraints not satisfied on 1 node"),
        "d": (1, None),
    }


def test_resources_of_a_task_that_ended_can_be_reserved_again() -> None:
    scheduler = Scheduler()
    scheduler.node(node_of({"id": "a", "memory_bytes": 100}))
    service = {"id": "s", "reserve_memory_bytes": 80}
    first, second = (_task_of(service, number, state=TaskState.PENDING) for number in (1, 2))
    scheduler.task(first)
    (placed,) = scheduler.tick()
    scheduler.task(second)
    assert [task.error for task in scheduler.tick()] == ["no suitable node (insufficient resources on 1 node)"]
    assert scheduler.tick() == []
    scheduler.task(Task(placed.id, "s", 1, node="a", state=TaskState.SHUTDOWN))
    assert [(task.id, task.node) for task in scheduler.tick()] == [(second.id, "a")]
