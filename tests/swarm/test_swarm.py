"""The control plane as a whole, with simulated agents, in virtual time: services converge, nodes die, updates roll, and nothing is used twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from tests.swarm.agents import SimulatedAgents
from vxtool.model import Availability, NodeState, PublishMode, ServiceMode, TaskState
from vxtool.swarm.control import INGRESS
from vxtool.swarm.objects import (
    EndpointSpec,
    FailureAction,
    NetworkSpec,
    Node,
    Order,
    Placement,
    PortConfig,
    Resources,
    RestartPolicy,
    Service,
    ServiceSpec,
    SubnetSpec,
    Task,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
    UpdateState,
)
from vxtool.swarm.restart import RestartCondition
from vxtool.swarm.store import Store
from vxtool.swarm.swarm import Swarm


class World:
    """A swarm with the ingress network and some nodes, each with an agent."""

    def __init__(self, nodes: int = 3, **agents: Any) -> None:
        self.swarm = Swarm(random=Random(7))
        self.control = self.swarm.control
        self.swarm.tell(self.control.create_network, INGRESS)
        self.agents = SimulatedAgents(self.swarm, **agents)
        for number in range(1, nodes + 1):
            self.join(f"vm{number}")

    def join(self, name: str, **facts: Any) -> None:
        self.swarm.tell(self.control.add_node, Node(name, name, state=NodeState.UNKNOWN, described=False, **facts))
        self.agents.connect(name, Node(name, name, resources=Resources(4_000_000_000, 8 << 30)))

    def create(self, name: str = "web", **spec: Any) -> Service:
        task = spec.pop("task", TaskSpec("httpd"))
        return self.swarm.tell(self.control.create_service, ServiceSpec(name, task, **spec))

    def tasks(self, name: str = "web") -> list[Task]:
        return self.swarm.store.of_service(self.control.service(name).id)

    def running(self, name: str = "web") -> list[Task]:
        return [task for task in self.tasks(name) if task.state is TaskState.RUNNING and task.desired is TaskState.RUNNING]

    def placed(self, name: str = "web") -> dict[str, int]:
        return dict(Counter(task.node for task in self.running(name)))


def test_the_network_of_the_article_gets_the_addresses_of_the_article() -> None:
    world = World(2)
    store = world.swarm.store
    world.swarm.tell(world.control.create_network, NetworkSpec("web"))
    service = world.create(task=TaskSpec("httpd", networks=(TaskNetwork("web"),)), replicas=6)
    world.agents.run(1.0)
    network = world.control.network("web")
    (subnet,) = network.subnets
    assert (str(subnet.prefix), str(subnet.gateway), subnet.vni) == ("10.0.1.0/24", "10.0.1.1", 4097)
    assert [(id, str(address)) for id, address in store.services[service.id].vips] == [(network.id, "10.0.1.2/24")]
    assert sorted(str(task.networks[0].address) for task in world.running()) == [f"10.0.1.{host}/24" for host in range(3, 9)]
    balancers = [str(one.address) for node in store.nodes.values() for one in node.attachments]
    assert sorted(balancers) == ["10.0.0.2/24", "10.0.0.3/24", "10.0.1.10/24", "10.0.1.9/24"]
    assert world.placed() == {"vm1": 3, "vm2": 3}


def test_a_published_service_is_in_the_ingress_network_first() -> None:
    world = World(1)
    world.swarm.tell(world.control.create_network, NetworkSpec("app"))
    spec = TaskSpec("httpd", networks=(TaskNetwork("app"),))
    service = world.create(task=spec, endpoint=EndpointSpec(ports=(PortConfig(80, 8080), PortConfig(81))))
    world.agents.run(1.0)
    service = world.swarm.store.services[service.id]
    assert [port.published for port in service.ports] == [8080, 30000]
    assert [str(address) for _, address in service.vips] == ["10.0.0.3/24", "10.0.1.2/24"]
    (task,) = world.running()
    assert [str(network.address) for network in task.networks] == ["10.0.0.4/24", "10.0.1.3/24"]


def test_ports_in_host_mode_need_no_ingress_and_keep_tasks_apart() -> None:
    world = World(2)
    world.create(replicas=3, endpoint=EndpointSpec(ports=(PortConfig(80, 80, mode=PublishMode.HOST),)))
    world.agents.run(1.0)
    assert world.placed() == {"vm1": 1, "vm2": 1}
    (waiting,) = (task for task in world.tasks() if task.state is TaskState.PENDING)
    assert waiting.error == "no suitable node (host-mode port already in use on 2 nodes)"
    assert waiting.networks == ()


def test_addresses_are_given_back_when_a_service_goes_and_its_balancers_too() -> None:
    world = World(2)
    world.swarm.tell(world.control.create_network, NetworkSpec("web"))
    world.create(task=TaskSpec("httpd", networks=(TaskNetwork("web"),)), replicas=4)
    world.agents.run(1.0)
    world.swarm.tell(world.control.remove_service, "web")
    world.agents.run(2.0)
    store = world.swarm.store
    assert not store.tasks
    assert [len(node.attachments) for node in store.nodes.values()] == [1, 1]  # ingress
    world.swarm.tell(world.control.remove_network, "web")
    world.swarm.tell(world.control.create_network, NetworkSpec("again"))
    assert world.control.network("again").subnets[0].vni == 4098  # serial: 4097 is not used again at once


def test_tasks_of_a_dead_node_run_elsewhere_and_are_shut_down_when_it_returns() -> None:
    world = World(3)
    world.create(replicas=6)
    world.agents.run(1.0)
    world.agents.cut("vm3")
    lost = {task.id for task in world.running() if task.node == "vm3"}
    world.agents.run(13.0)
    assert world.placed()["vm3"] == 2, "three heartbeats of five seconds have not passed"
    world.agents.run(2.0)
    assert world.swarm.store.nodes["vm3"].state is NodeState.DOWN
    world.agents.run(6.0)
    assert world.placed() == {"vm1": 3, "vm2": 3}
    world.agents.connect("vm3")
    world.agents.run(1.0)
    assert {world.swarm.store.tasks[id].state for id in lost} == {TaskState.SHUTDOWN}
    assert world.placed() == {"vm1": 3, "vm2": 3}, "nothing is rebalanced"


def test_tasks_of_a_node_that_stays_down_are_orphaned_after_a_day() -> None:
    world = World(2)
    world.create(replicas=2)
    world.agents.run(1.0)
    world.agents.cut("vm2")
    world.agents.run(60.0)
    (lost,) = (task for task in world.tasks() if task.node == "vm2")
    assert (lost.state, lost.desired) == (TaskState.RUNNING, TaskState.SHUTDOWN)
    world.agents.cut("vm1")
    world.swarm.advance(world.swarm.now + 86_400)
    assert world.swarm.store.tasks[lost.id].state is TaskState.ORPHANED


def test_a_drained_node_loses_its_tasks_at_once_and_a_paused_one_keeps_them() -> None:
    world = World(3)
    world.create(replicas=6)
    world.create("agent", mode=ServiceMode.GLOBAL)
    world.agents.run(1.0)
    world.swarm.tell(lambda: world.control.update_node("vm2", availability=Availability.PAUSE))
    world.swarm.tell(lambda: world.control.update_node("vm1", availability=Availability.DRAIN))
    world.agents.run(1.0)
    assert world.placed() == {"vm2": 2, "vm3": 4}
    assert world.placed("agent") == {"vm2": 1, "vm3": 1}
    world.swarm.tell(lambda: world.control.update_node("vm1", availability=Availability.ACTIVE))
    world.agents.run(1.0)
    assert world.placed("agent") == {"vm1": 1, "vm2": 1, "vm3": 1}


def test_a_failing_task_is_restarted_after_its_delay_and_five_are_remembered() -> None:
    world = World(1, outcome=lambda task: TaskState.FAILED)
    world.create(task=TaskSpec("httpd", restart=RestartPolicy(delay=5.0)))
    world.agents.run(100.0)
    tasks = sorted(world.tasks(), key=lambda task: task.created_at)
    assert len(tasks) == 5
    gaps = {round(later.created_at - earlier.created_at) for earlier, later in pairwise(tasks)}
    assert gaps == {5}


def test_attempts_are_limited() -> None:
    world = World(1, outcome=lambda task: TaskState.FAILED)
    policy = RestartPolicy(RestartCondition.ON_FAILURE, delay=0.1, max_attempts=3)
    world.create(task=TaskSpec("httpd", restart=policy))
    world.agents.run(30.0)
    assert [task.state for task in world.tasks()] == [TaskState.FAILED] * 4


@pytest.mark.parametrize("order", list(Order))
def test_an_update_rolls_through_all_slots_and_keeps_the_service_up(order: Order) -> None:
    world = World(3)
    how = UpdateConfig(parallelism=2, delay=1.0, monitor=2.0, order=order)
    world.create(replicas=6, update=how)
    world.agents.run(1.0)
    service = world.control.service("web")
    spec = replace(service.spec, task=replace(service.spec.task, image="httpd:2"))
    world.swarm.tell(world.control.update_service, "web", spec, service.version)
    least = 6
    for _ in range(300):
        world.agents.run(0.05)
        least = min(least, len(world.running()))
    service = world.control.service("web")
    assert service.update_status is not None
    assert service.update_status.state is UpdateState.COMPLETED
    assert {task.spec.image for task in world.running()} == {"httpd:2"}
    assert least == (6 if order is Order.START_FIRST else 4)


def test_a_bad_update_is_rolled_back_by_itself() -> None:
    world = World(3, outcome=lambda task: TaskState.FAILED if task.spec.image == "bad" else None)
    how = UpdateConfig(monitor=1.0, failure_action=FailureAction.ROLLBACK)
    world.create(replicas=4, update=how, rollback=UpdateConfig(monitor=1.0))
    world.agents.run(1.0)
    service = world.control.service("web")
    world.swarm.tell(world.control.update_service, "web", replace(service.spec, task=TaskSpec("bad")), service.version)
    world.agents.run(30.0)
    service = world.control.service("web")
    assert service.update_status is not None
    assert (service.update_status.state, service.update_status.message) == (UpdateState.ROLLBACK_COMPLETED, "rollback completed")
    assert {task.spec.image for task in world.running()} == {"httpd"}
    assert len(world.running()) == 4


def test_a_rollback_by_hand_brings_the_previous_specification_back() -> None:
    world = World(2)
    world.create(replicas=2)
    world.agents.run(1.0)
    world.swarm.tell(world.control.scale_service, "web", 5)
    world.agents.run(1.0)
    assert len(world.running()) == 5
    world.swarm.tell(world.control.roll_back_service, "web")
    world.agents.run(8.0)
    assert len(world.running()) == 2


def test_jobs_run_to_their_completions_and_again_when_forced() -> None:
    world = World(3, outcome=lambda task: TaskState.COMPLETE)
    world.create("batch", mode=ServiceMode.REPLICATED_JOB, replicas=5, max_concurrent=2)
    world.create("each", mode=ServiceMode.GLOBAL_JOB)
    most = 0
    for _ in range(100):
        world.agents.run(0.02)
        most = max(most, sum(task.state < TaskState.COMPLETE for task in world.tasks("batch")))
    assert most == 2
    assert sorted((task.slot, task.state.name) for task in world.tasks("batch")) == [(slot, "COMPLETE") for slot in range(1, 6)]
    assert sorted((task.node, task.state.name) for task in world.tasks("each")) == [(f"vm{n}", "COMPLETE") for n in (1, 2, 3)]
    world.join("vm4")
    world.agents.run(1.0)
    assert len(world.tasks("each")) == 3, "a job runs on the nodes that were there when it began"
    spec = world.control.service("each").spec
    world.swarm.tell(world.control.update_service, "each", replace(spec, task=replace(spec.task, force_update=1)))
    world.agents.run(2.0)
    again = world.control.service("each")
    assert sum(task.job_iteration == again.job_iteration and task.state is TaskState.COMPLETE for task in world.tasks("each")) == 4


@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB])
@pytest.mark.parametrize(("policy", "attempts"), [(RestartPolicy(RestartCondition.NONE), 1), (RestartPolicy(delay=0.1, max_attempts=2), 3)])
def test_a_job_that_fails_is_tried_as_often_as_its_policy_says(mode: ServiceMode, policy: RestartPolicy, attempts: int) -> None:
    world = World(3, outcome=lambda task: TaskState.FAILED)
    world.create("job", mode=mode, replicas=3, task=TaskSpec("httpd", restart=policy))
    world.agents.run(20.0)
    assert [task.state for task in world.tasks("job")] == [TaskState.FAILED] * 3 * attempts


def test_tasks_that_a_changed_node_may_not_run_are_rejected_and_placed_elsewhere() -> None:
    world = World(0)
    world.join("a", labels={"zone": "eu"})
    world.join("b", labels={"zone": "eu"})
    world.create(replicas=4, task=TaskSpec("httpd", placement=Placement(("node.labels.zone==eu",))))
    world.agents.run(1.0)
    world.swarm.tell(lambda: world.control.update_node("a", labels={"zone": "us"}))
    rejected = [task for task in world.tasks() if task.state is TaskState.REJECTED]
    assert {task.error for task in rejected} == {"assigned node no longer meets constraints"}
    world.agents.run(8.0)
    assert world.placed() == {"b": 4}


def test_a_task_that_its_service_has_outgrown_in_constraints_alone_is_held_to_the_new_ones() -> None:
    world = World(0)
    world.join("a", labels={"zone": "eu"})
    world.create("each", mode=ServiceMode.GLOBAL, task=TaskSpec("httpd"))
    world.agents.run(1.0)
    service = world.control.service("each")
    spec = replace(service.spec, task=replace(service.spec.task, placement=Placement(("node.labels.zone==eu",))))
    world.swarm.tell(lambda: world.control.update_service(service.id, spec, service.version))
    world.agents.run(5.0)
    assert [task.state for task in world.tasks("each")] == [TaskState.RUNNING], "the node meets them: nothing is replaced"
    world.swarm.tell(lambda: world.control.update_node("a", labels={}))
    world.agents.run(1.0)
    assert [(task.state, task.error) for task in world.tasks("each")] == [(TaskState.REJECTED, "assigned node no longer meets constraints")]


def test_a_service_goes_as_far_as_addresses_go_and_further_when_some_come_back() -> None:
    world = World(1)
    world.swarm.tell(world.control.create_network, NetworkSpec("tiny", subnets=(SubnetSpec("10.9.0.0/29"),)))
    task = TaskSpec("httpd", networks=(TaskNetwork("tiny"),))
    world.create("one", task=task, replicas=1)
    world.create("two", task=task, replicas=3)
    world.agents.run(1.0)
    waiting = [task for task in world.tasks("two") if task.state is TaskState.NEW]
    assert [task.error for task in waiting] == ["No available addresses on this pool"] * 2
    world.swarm.tell(world.control.remove_service, "one")
    world.agents.run(2.0)
    assert len(world.running("two")) == 3


def test_a_network_that_overlaps_waits_until_the_other_one_goes() -> None:
    world = World(1)
    for name in ("one", "two"):
        world.swarm.tell(world.control.create_network, NetworkSpec(name, subnets=(SubnetSpec("10.7.0.0/24"),)))
    assert world.control.network("two").error == "Pool overlaps with other one on this address space"
    world.create(task=TaskSpec("httpd", networks=(TaskNetwork("two"),)))
    world.agents.run(1.0)
    assert [task.error for task in world.tasks()] == ["network two is not allocated"]
    world.swarm.tell(world.control.remove_network, "one")
    world.agents.run(1.0)
    assert [str(task.networks[0].address) for task in world.running()] == ["10.7.0.3/24"]


def test_a_killed_control_plane_is_followed_by_one_that_knows_every_address() -> None:
    world = World(2)
    world.swarm.tell(world.control.create_network, NetworkSpec("web"))
    world.create(task=TaskSpec("httpd", networks=(TaskNetwork("web"),)), replicas=2, endpoint=EndpointSpec(ports=(PortConfig(80),)))
    world.agents.run(1.0)
    store = world.swarm.store
    again = Store()
    again.replay(store.version, list(store.everything().records()))
    swarm = Swarm(store=again, random=Random(8), now=world.swarm.now)
    assert (again.tasks, again.services) == (store.tasks, store.services), "there was nothing to be done"
    assert {node.state for node in again.nodes.values()} == {NodeState.UNKNOWN}, "until their agents are back"
    for name in world.agents.connected:
        swarm.tell(swarm.dispatcher.open, name)
    assert [replace(node, version=0) for node in again.nodes.values()] == [replace(node, version=0) for node in store.nodes.values()]
    swarm.tell(swarm.control.scale_service, "web", 4)
    held = [str(one.address) for task in again.tasks.values() for one in task.networks]
    assert len(set(held)) == len(held) == 8
    swarm.tell(swarm.control.create_service, ServiceSpec("other", TaskSpec("httpd"), endpoint=EndpointSpec(ports=(PortConfig(80),))))
    assert sorted(port.published for service in again.services.values() for port in service.ports) == [30000, 30001]


def test_a_partition_of_one_heartbeat_is_not_noticed_and_of_three_is() -> None:
    world = World(1)
    for silence, state in ((13.0, NodeState.READY), (16.0, NodeState.DOWN)):
        world.agents.connect("vm1")
        world.agents.cut("vm1")
        world.agents.run(silence)
        assert world.swarm.store.nodes["vm1"].state is state
