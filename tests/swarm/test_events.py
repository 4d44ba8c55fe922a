"""What happens is told as an engine tells it: in its words, in order, and once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.swarm.local import LocalSwarm
from vxtool.model import Availability, TaskState
from vxtool.model.plain import plain
from vxtool.swarm.events import Event
from vxtool.swarm.identities import container_id
from vxtool.swarm.objects import Network, NetworkSpec, ServiceSpec, Task, TaskNetwork, TaskSpec


def told(world: LocalSwarm, type: str, after: int = -1, **attributes: str) -> list[str]:
    return [event.action for event in world.client.events(after) if event.type == type and attributes.items() <= event.attributes.items()]


def started(**more: Any) -> tuple[LocalSwarm, Network]:
    world = LocalSwarm("vm1", **more)
    network = world.client.create_network(NetworkSpec("web", attachable=True))
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd", networks=(TaskNetwork("web"),))))
    world.run(1.0)
    return world, network


def test_a_service_is_told_of_from_its_making_to_its_end() -> None:
    world, network = started()
    (task,) = world.swarm.store.tasks.values()
    name = f"s.1.{task.id}"
    world.client.remove_service(world.swarm.control.service("s").id)
    world.run(1.0)
    actions = told(world, "service", name="s")
    assert (actions[0], actions[-1], set(actions[1:-1])) == ("create", "remove", {"update"})
    assert told(world, "container", name=name) == ["create", "start", "die", "stop", "destroy"], "its name is known when its service is not"
    assert told(world, "network", container=container_id("vm1", name)) == ["connect", "disconnect"]
    states = [event.attributes["state.new"] for event in world.client.events() if event.id == task.id and "state.new" in event.attributes]
    assert states == ["pending", "assigned", "accepted", "preparing", "ready", "starting", "running", "shutdown"]
    container = next(event for event in world.client.events() if event.action == "start")
    assert container.attributes["com.docker.swarm.service.name"] == "s"
    connected = next(event for event in world.client.events() if event.action == "connect")
    assert (connected.id, connected.attributes["name"]) == (network.id, "web")


def test_what_changes_of_a_service_or_a_node_is_said_with_what_it_was() -> None:
    world, _ = started()
    after = world.client.events()[-1].number
    world.client.scale_service(world.client.view().service("s"), 3)
    world.client.update_node(world.client.view().node("vm1"), availability=Availability.DRAIN)
    events = world.client.events(after)
    said = [(event.type, event.attributes) for event in events]
    assert ("service", {"name": "s", "replicas.new": "3", "replicas.old": "1"}) in said
    assert ("node", {"name": "vm1", "availability.new": "drain", "availability.old": "active"}) in said


def test_a_container_that_fails_dies_with_its_exit_code_and_a_network_that_is_connected_is_told_of() -> None:
    world, network = started()
    task = world.client.run_container(TaskSpec("echo", container="c1", networks=()), "vm1")
    world.run(1.0)
    after = world.client.events()[-1].number
    world.client.connect_network("web", "c1")
    assert [(event.action, event.id) for event in world.client.events(after) if event.type == "network"] == [("connect", network.id)]
    with world.swarm.store.transaction() as change:
        now = world.swarm.store.tasks[task.id]
        change.task(now, now.told(TaskState.FAILED, "failed", world.swarm.now, "task: non-zero exit (7)"))
    world.swarm.tell(lambda: None)
    last = [event for event in world.client.events(after) if event.type == "container"]
    assert [(event.action, event.attributes["exitCode"], event.attributes["name"]) for event in last] == [("die", "7", "c1")]


def test_a_container_that_never_ran_has_not_died() -> None:
    world = LocalSwarm("vm1")
    task = Task("t", spec=TaskSpec(container="c"), node="vm1", state=TaskState.PREPARING)
    with world.swarm.store.transaction() as change:
        change.task(None, task)
        change.task(task, task.told(TaskState.REJECTED, "rejected", 0.0, "No such image: x"))
    world.swarm.tell(lambda: None)
    assert told(world, "task") == ["create", "update", "update"]
    assert told(world, "container") == []


def test_events_have_growing_numbers_which_are_the_nanoseconds_of_the_clock_and_are_asked_for_from_any_on() -> None:
    world, _ = started()
    events = world.client.events()
    assert all(one.number < other.number for one, other in pairwise(events))
    assert abs(events[-1].at - world.swarm.now) < 2.0
    assert world.client.events(events[-3].number) == events[-2:]
    assert world.client.events(events[-1].number) == []
    assert plain(events[0]).keys() == {"number", "type", "action", "id", "attributes"}
    assert isinstance(events[0], Event)
