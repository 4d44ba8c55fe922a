"""Containers that belong to no service: on attachable networks, each on its node, with networks that come and go while they run."""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Any

import pytest

from tests.swarm.local import LocalSwarm
from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, TaskState
from vxtool.model.plain import plain, revive
from vxtool.swarm.objects import NetworkSpec, RestartCondition, RestartPolicy, ServiceSpec, SubnetSpec, Task, TaskNetwork, TaskSpec


class World(LocalSwarm):
    """Two attachable networks, `web` and `db`, and one that is not, `shut`."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.client.create_network(NetworkSpec("web", attachable=True))
        self.client.create_network(NetworkSpec("db", attachable=True, subnets=(SubnetSpec("10.9.0.0/29"),)))
        self.client.create_network(NetworkSpec("shut"))

    def start(self, name: str = "c1", *networks: str, node: str = "vm2", **more: Any) -> Task:
        spec = TaskSpec("echo", container=name, networks=tuple(TaskNetwork(network) for network in networks), **more)
        return revive(Task, self.ask("container.run", spec=plain(spec), node=node))

    def task(self, name: str = "c1") -> Task:
        return self.swarm.control.container(name)

    def addresses(self, name: str = "c1") -> list[str]:
        return [str(one.address) for one in self.task(name).networks]


def test_a_container_runs_on_its_node_with_an_address_of_each_of_its_networks() -> None:
    world = World()
    world.start("c1", "web", "db")
    world.run(1.0)
    task = world.task()
    assert (task.node, task.state, task.service, task.slot, world.addresses()) == ("vm2", TaskState.RUNNING, "", 0, ["10.0.1.2/24", "10.9.0.2/29"])
    node = world.swarm.store.nodes["vm2"]
    assert [str(one.address) for one in node.attachments][1:] == ["10.0.1.3/24", "10.9.0.3/29"], "as for a service's task"


def test_its_addresses_come_from_where_those_of_services_come() -> None:
    world = World()
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd", networks=(TaskNetwork("web"),))))
    world.start("c1", "web")
    world.client.create_service(ServiceSpec("t", TaskSpec("httpd", networks=(TaskNetwork("web"),))))
    assert world.addresses() == ["10.0.1.5/24"]
    given = [one.address for task in world.swarm.store.tasks.values() for one in task.networks]
    assert len(set(given)) == len(given) == 3


@pytest.mark.parametrize(
    ("name", "networks", "node", "words"),
    [
        ("c1", ("shut",), "vm2", "network shut not manually attachable"),
        ("c1", ("ingress",), "vm2", "network ingress not manually attachable"),
        ("c1", ("lost",), "vm2", "network lost not found"),
        ("c1", ("web", "web"), "vm2", "endpoint with name c1 already exists in network web"),
        ("c 1", ("web",), "vm2", "Invalid container name (c 1), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("c1", ("web",), "vm9", "node vm9 not found"),
    ],
)
def test_what_cannot_be_is_refused(name: str, networks: tuple[str, ...], node: str, words: str) -> None:
    world = World()
    with pytest.raises(UsageError) as refused:
        world.start(name, *networks, node=node)
    assert str(refused.value) == words
    assert not world.swarm.store.tasks


def test_a_name_is_one_containers_only_until_that_is_removed() -> None:
    world = World()
    first = world.start("c1", "web")
    with pytest.raises(UsageError, match=f'^Conflict. The container name "/c1" is already in use by container "{first.id}". You have to remove'):
        world.start("c1", "web", node="vm3")
    world.run(1.0)
    with pytest.raises(UsageError, match=r"^You cannot remove a running container .* Stop the container before"):
        world.ask("container.remove", task="c1")
    world.ask("container.remove", task="c1", force=True)
    second = world.start("c1", "web", node="vm3")
    world.run(1.0)
    assert list(world.swarm.store.tasks) == [second.id], "the first has stopped and is forgotten"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.9.0.1/29", "Address already in use"),
        ("10.9.0.7/29", "Address already in use"),
        ("10.8.0.2/32", "Invalid address 10.8.0.2: It does not belong to any of this network's subnets (10.9.0.0/29)"),
    ],
)
def test_an_address_is_asked_for_and_had_or_refused(address: str, words: str) -> None:
    world = World()
    networks = (TaskNetwork("db", (), IPv4Interface("10.9.0.5/32")),)
    world.ask("container.run", spec=plain(TaskSpec("echo", container="c1", networks=networks)), node="vm1")
    assert world.addresses() == ["10.9.0.5/29"]
    with pytest.raises(UsageError) as refused:
        world.ask("container.run", spec=plain(TaskSpec("echo", networks=(TaskNetwork("db", (), IPv4Interface(address)),))), node="vm1")
    assert str(refused.value) == words


def test_networks_come_and_go_while_it_runs_and_its_agent_is_told() -> None:
    world = World()
    world.start("c1", "web")
    world.run(1.0)
    world.swarm.dispatcher.assignments("vm2")
    world.client.connect_network("db", "c1", "10.9.0.6", ("database",))
    changed, gone = world.swarm.dispatcher.assignments("vm2")
    assert ([str(one.address) for task in changed for one in task.networks], gone) == (["10.0.1.2/24", "10.9.0.6/29"], [])
    assert changed[0].networks[1].aliases == ("database",)
    assert changed[0].state is TaskState.RUNNING
    world.client.disconnect_network("web", "c1")
    assert world.addresses() == ["10.9.0.6/29"]
    assert [str(one.address) for one in world.swarm.store.nodes["vm2"].attachments][1:] == ["10.9.0.2/29"], "its node needs no balancer in web now"
    assert [str(one.address) for task in world.swarm.dispatcher.assignments("vm2")[0] for one in task.networks] == ["10.9.0.6/29"]


def test_what_cannot_be_connected_is_refused_and_leaves_everything_as_it_was() -> None:
    world = World()
    world.start("c1", "web")
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd", networks=(TaskNetwork("db"),)), replicas=3))
    world.run(1.0)
    before = dict(world.swarm.store.tasks)
    of_service = next(task.id for task in before.values() if task.service)
    for network, container, address, words in (
        ("web", "c1", None, "endpoint with name c1 already exists in network web"),
        ("shut", "c1", None, "network shut not manually attachable"),
        ("db", "c1", "10.9.0.1", "Address already in use"),
        ("db", "c1", "ten", "invalid IPv4 address: ten"),
        ("db", "c2", None, "No such container: c2"),
        ("web", of_service, None, f"{of_service} is a task of the service s: give the network to the service (service update --network-add)"),
        ("db", "c1", None, "No available addresses on this pool"),
    ):
        with pytest.raises(UsageError) as refused:
            world.client.connect_network(network, container, address)
        assert str(refused.value) == words
    with pytest.raises(UsageError, match=r"^container c1 is not connected to network db$"):
        world.client.disconnect_network("db", "c1")
    now = dict(world.swarm.store.tasks)
    assert {id: (task.networks, task.state) for id, task in now.items()} == {id: (task.networks, task.state) for id, task in before.items()}


def test_a_network_with_a_container_in_it_is_in_use() -> None:
    world = World()
    task = world.start("c1", "web")
    network = world.swarm.control.network("web")
    with pytest.raises(UsageError, match=f"^network {network.id} is in use by task {task.id}$"):
        world.client.remove_network(network.id)
    world.run(1.0)
    world.ask("container.stop", task="c1")
    world.run(1.0)
    world.client.remove_network(network.id)


def test_one_that_ends_is_kept_with_how_it_ended_and_without_its_address() -> None:
    world = World(outcome=lambda task: TaskState.FAILED)
    world.start("c1", "web")
    world.run(10.0)
    task = world.task()
    assert (task.state, task.desired) == (TaskState.FAILED, TaskState.SHUTDOWN)
    assert [one.network for one in world.swarm.store.nodes["vm2"].attachments] == [world.swarm.control.network("ingress").id]
    world.ask("container.remove", task="c1")
    assert not world.swarm.store.tasks


@pytest.mark.parametrize(
    ("condition", "most", "ends", "made"),
    [
        (RestartCondition.ANY, 0, TaskState.COMPLETE, 11),
        (RestartCondition.ANY, 2, TaskState.FAILED, 3),
        (RestartCondition.ON_FAILURE, 0, TaskState.COMPLETE, 1),
        (RestartCondition.ON_FAILURE, 1, TaskState.FAILED, 2),
        (RestartCondition.NONE, 0, TaskState.FAILED, 1),
    ],
)
def test_one_whose_policy_says_so_is_started_again_on_its_node(condition: RestartCondition, most: int, ends: TaskState, made: int) -> None:
    ids = set()

    def outcome(task: Task) -> TaskState:
        ids.add(task.id)
        return ends

    world = World(outcome=outcome)
    world.start("c1", "web", restart=RestartPolicy(condition, 0.95, most))
    world.run(10.6)
    assert len(ids) == made
    assert [(task.spec.container, task.node) for task in world.swarm.store.tasks.values()] == [("c1", "vm2")]


def test_one_of_a_node_that_is_down_stays_there_and_goes_on_when_it_returns() -> None:
    world = World()
    task = world.start("c1", "web")
    world.run(1.0)
    world.agents.cut("vm2")
    world.run(20.0)
    assert world.swarm.store.nodes["vm2"].state is NodeState.DOWN
    assert [(one.id, one.node, one.desired) for one in world.swarm.store.tasks.values()] == [(task.id, "vm2", TaskState.RUNNING)]
    world.agents.connect("vm2")
    world.run(1.0)
    assert (world.task().id, world.task().state) == (task.id, TaskState.RUNNING)


def test_draining_is_no_matter_of_containers_that_run_and_none_is_started_there() -> None:
    world = World()
    world.start("c1", "web")
    world.run(1.0)
    world.client.update_node(world.client.view().nodes["vm2"], availability=Availability.DRAIN)
    world.run(5.0)
    assert (world.task().state, world.task().desired) == (TaskState.RUNNING, TaskState.RUNNING)
    with pytest.raises(UsageError, match=r"^node vm2 takes no new tasks: its availability is drain; make it active, or choose another node$"):
        world.start("c2", "web")


def test_one_goes_with_its_node() -> None:
    world = World()
    world.start("c1", "web")
    world.run(1.0)
    world.agents.cut("vm2")
    world.client.remove_node("vm2", force=True)
    world.run(1.0)
    assert not world.swarm.store.tasks
