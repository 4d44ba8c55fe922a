"""Networks as users ask for them: what is refused and in which words, what the options do, who gets which address and port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.swarm.local import LocalSwarm
from vxtool.errors import UsageError
from vxtool.model import NodeState, PublishMode, Role, TaskState
from vxtool.swarm.dispatcher import Report
from vxtool.swarm.objects import EndpointSpec, Network, NetworkSpec, PortConfig, ServiceSpec, SubnetSpec, TaskNetwork, TaskSpec

VNIS = "com.docker.network.driver.overlay.vxlanid_list"
MTU = "com.docker.network.driver.mtu"


def asked(name: str = "web", *subnets: SubnetSpec, **more: Any) -> NetworkSpec:
    return NetworkSpec(name, subnets=subnets, **more)


def subnets(network: Network) -> list[tuple[str, str, int]]:
    return [(str(subnet.prefix), str(subnet.gateway), subnet.vni) for subnet in network.subnets]


REFUSED = {
    "ingress network (ingress) is already present": asked("other", ingress=True),
    "ingress network cannot be attachable": asked("other", ingress=True, attachable=True),
    "only overlay driver is currently supported for ingress network": asked("other", ingress=True, driver="bridge"),
    'plugin "macvlan" not found: the networks of a swarm have the driver overlay': asked(driver="macvlan"),
    "network with name there already exists": asked("there"),
    "network with name docker_gwbridge already exists": asked("docker_gwbridge"),
    "name must be valid as a DNS name component": asked("w.b"),
    "invalid subnet 10.0.9/24: give an IPv4 network such as 10.0.9.0/24": asked("web", SubnetSpec("10.0.9/24")),
    "invalid subnet fd00::/64: give an IPv4 network such as 10.0.9.0/24": asked("web", SubnetSpec("fd00::/64")),
    "no matching subnet for gateway 10.8.0.1": asked("web", SubnetSpec("10.9.0.0/24", "10.8.0.1")),
    "no matching subnet for range 10.8.0.0/25": asked("web", SubnetSpec("10.9.0.0/24", "", "10.8.0.0/25")),
    "no matching subnet for aux-address 10.8.0.9": asked("web", SubnetSpec("10.9.0.0/24", reserved={"router": "10.8.0.9"})),
    "invalid aux-address router ten: give an IPv4 address of the subnet": asked("web", SubnetSpec("10.9.0.0/24", reserved={"router": "ten"})),
    "Pool overlaps with other one on this address space": asked("web", SubnetSpec("10.77.0.0/25")),
    f'invalid vxlan id value "x" passed: a VNI is a number up to {(1 << 24) - 1}': asked(options={VNIS: "x"}),
    f'invalid vxlan id value "16777216" passed: a VNI is a number up to {(1 << 24) - 1}': asked(options={VNIS: "16777216"}),
    "the VNI 4096 is in use by another network; choose another one": asked(options={VNIS: "4096"}),
    "invalid MTU value: 9k": asked(options={MTU: "9k"}),
    "invalid MTU value: 117: it leaves 67 bytes for a packet inside, and IPv4 needs 68": asked(options={MTU: "117"}),
    "Address already in use": asked("web", SubnetSpec("10.9.0.0/24", "10.9.0.255")),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_network_is_refused_and_nothing_is_left_of_it(words: str) -> None:
    world = LocalSwarm()
    world.client.create_network(asked("there", SubnetSpec("10.77.0.0/24")))
    with pytest.raises(UsageError) as refused:
        world.client.create_network(REFUSED[words])
    assert str(refused.value).replace(world.client.view().network("ingress").id, "ingress") == words
    assert [network.spec.name for network in world.client.view().networks.values()] == ["ingress", "there"]
    # What has taken a subnet and then found its VNI taken gives it back; the next one goes on behind it, as an engine of 20.10 was seen to.
    prefix = "10.0.2.0/24" if "VNI 4096" in words else "10.0.1.0/24"
    assert subnets(world.client.create_network(asked("after"))) == [(prefix, prefix.replace(".0/24", ".1"), 4098)], "no address and no VNI is gone"


def test_a_network_is_made_as_it_is_asked_for() -> None:
    world = LocalSwarm()
    spec = asked(
        "web",
        SubnetSpec("10.9.0.0/24", "10.9.0.254", "10.9.0.128/28", {"router": "10.9.0.129", "printer": "10.9.0.130"}),
        SubnetSpec("10.10.0.0/29"),
        options={VNIS: "77,5000", MTU: "9000", "encrypted": ""},
    )
    network = world.client.create_network(spec)
    assert subnets(network) == [("10.9.0.0/24", "10.9.0.254", 77), ("10.10.0.0/29", "10.10.0.1", 5000)]
    service = world.client.create_service(ServiceSpec("s", TaskSpec("httpd", networks=(TaskNetwork("web"),)), replicas=16))
    world.run(2.0)
    (vip,) = [str(address) for _, address in service.vips]
    tasks = world.client.view().tasks.values()
    assert vip == "10.9.0.128/24"
    given = sorted(str(one.address) for task in tasks for one in task.networks)
    assert [text for text in given if text.startswith("10.9.")] == [f"10.9.0.{host}/24" for host in range(131, 144)], (
        "the range, without the reserved"
    )
    assert [text for text in given if text.startswith("10.10.")] == [f"10.10.0.{host}/29" for host in range(2, 5)], "then the other subnet"


def test_a_reserved_address_stays_reserved_when_another_control_plane_goes_on() -> None:
    world = LocalSwarm("vm1")
    world.client.create_network(asked("web", SubnetSpec("10.9.0.0/29", reserved={"a": "10.9.0.1", "b": "10.9.0.3"}), attachable=True))
    world.swarm.store.take()
    world.swarm._begin()
    world.agents.connect("vm1")
    for name in ("c1", "c2"):
        world.client.run_container(TaskSpec("echo", container=name, networks=(TaskNetwork("web"),)), "vm1")
    assert sorted(str(one.address) for task in world.swarm.store.tasks.values() for one in task.networks) == ["10.9.0.4/29", "10.9.0.6/29"], (
        "and its node has one too"
    )


def test_the_ingress_network_is_let_go_when_nobody_publishes_and_can_be_another_one() -> None:
    world = LocalSwarm("vm1")
    service = world.client.create_service(ServiceSpec("s", TaskSpec("httpd"), endpoint=EndpointSpec(ports=(PortConfig(80),))))
    ingress = world.client.view().network("ingress").id
    with pytest.raises(UsageError, match=f"^ingress network cannot be removed because service {service.id} depends on it$"):
        world.client.remove_network(ingress)
    world.client.remove_service(service.id)
    world.run(1.0)
    world.client.remove_network(ingress)
    assert world.client.view().nodes["vm1"].attachments == ()
    with pytest.raises(UsageError, match=r"^service needs ingress network, but no ingress network is present$"):
        world.client.create_service(ServiceSpec("s", TaskSpec("httpd"), endpoint=EndpointSpec(ports=(PortConfig(80),))))
    world.client.create_network(asked("mesh", SubnetSpec("10.50.0.0/24"), ingress=True))
    assert [str(one.address) for one in world.client.view().nodes["vm1"].attachments] == ["10.50.0.2/24"]


def test_a_network_in_use_is_not_removed_and_says_by_whom() -> None:
    world = LocalSwarm()
    network = world.client.create_network(asked())
    service = world.client.create_service(ServiceSpec("s", TaskSpec("httpd", networks=(TaskNetwork("web"),))))
    with pytest.raises(UsageError, match=f"^network {network.id} is in use by service {service.id}$"):
        world.client.remove_network(network.id)
    world.run(1.0)
    world.client.remove_service(service.id)
    world.client.remove_network(network.id)
    world.run(1.0)
    assert not world.swarm.store.tasks


def ports(world: LocalSwarm, name: str, *wanted: PortConfig) -> list[int]:
    view = world.client.view()
    known = [service for service in view.services.values() if service.spec.name == name]
    spec = ServiceSpec(name, TaskSpec("httpd"), endpoint=EndpointSpec(ports=wanted))
    made = world.client.update_service(known[0], spec) if known else world.client.create_service(spec)
    return [port.published for port in made.ports]


def test_ports_that_are_left_to_the_swarm_are_chosen_once_and_each_is_another() -> None:
    world = LocalSwarm()
    assert ports(world, "a", PortConfig(80), PortConfig(80), PortConfig(80, 30_002)) == [30_000, 30_001, 30_002]
    assert ports(world, "b", PortConfig(80), PortConfig(80, protocol="udp")) == [30_003, 30_000]
    assert ports(world, "a", PortConfig(80), PortConfig(80, 30_002)) == [30_000, 30_002], "it keeps what it had"
    assert ports(world, "a", PortConfig(80, 8080), PortConfig(80)) == [8080, 30_000], "and its own choice is not taken for the swarm's"
    assert ports(world, "c", PortConfig(80, 30_004), PortConfig(80)) == [30_004, 30_005]
    assert ports(world, "d", PortConfig(80, 80, mode=PublishMode.HOST), PortConfig(80)) == [80, 30_006]


def test_a_port_in_host_mode_is_one_tasks_on_a_node() -> None:
    world = LocalSwarm()
    endpoint = EndpointSpec(ports=(PortConfig(80, 8080, mode=PublishMode.HOST),))
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd"), replicas=4, endpoint=endpoint))
    world.run(2.0)
    tasks = world.swarm.store.tasks.values()
    assert sorted(task.node for task in tasks) == ["", "vm1", "vm2", "vm3"]
    assert [task.error for task in tasks if not task.node] == ["no suitable node (host-mode port already in use on 3 nodes)"]


def test_what_is_told_of_a_service_is_what_it_is_when_all_has_settled_so_that_it_can_be_changed_at_once() -> None:
    world = LocalSwarm()
    service = world.client.create_service(ServiceSpec("s", TaskSpec("httpd"), endpoint=EndpointSpec(ports=(PortConfig(80),))))
    for replicas in (2, 3, 4):
        service = world.client.scale_service(service, replicas)
    stale = world.client.view().service("s")
    world.client.scale_service(stale, 5)
    with pytest.raises(UsageError, match=r"^update out of sequence$"):
        world.client.scale_service(stale, 6)
    with pytest.raises(UsageError, match=r"^update out of sequence$"):
        world.client.roll_back_service(stale)
    node = world.client.view().node("vm1")
    world.client.update_node(node, labels={"a": "b"})
    with pytest.raises(UsageError, match=r"^update out of sequence$"):
        world.client.update_node(node, labels={})


def test_a_node_that_leaves_is_down_at_once_and_one_that_returns_gets_nothing_back() -> None:
    world = LocalSwarm()
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd"), replicas=6))
    world.run(2.0)
    old = {task.id for task in world.swarm.store.on_node("vm3")}
    world.swarm.tell(world.swarm.dispatcher.close, "vm3")
    world.agents.cut("vm3")
    node = world.swarm.store.nodes["vm3"]
    assert (node.state, node.message) == (NodeState.DOWN, "node left the swarm")
    world.run(7.0)
    assert sorted(task.node for task in world.swarm.store.tasks.values() if task.state is TaskState.RUNNING and task.id not in old) == [
        "vm1",
        "vm1",
        "vm1",
        "vm2",
        "vm2",
        "vm2",
    ]
    world.agents.connect("vm3")
    world.run(2.0)
    assert {world.swarm.store.tasks[id].state for id in old} == {TaskState.SHUTDOWN}
    assert [task for task in world.swarm.store.on_node("vm3") if task.id not in old] == []


def test_a_container_that_is_not_well_is_replaced() -> None:
    world = LocalSwarm()
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd")))
    world.run(1.0)
    (task,) = world.swarm.store.tasks.values()
    world.agents._states[task.id] = TaskState.FAILED
    world.swarm.tell(world.swarm.dispatcher.report, task.node, [Report(task.id, TaskState.FAILED, "started", "task: unhealthy container")])
    world.run(7.0)
    assert world.swarm.store.tasks[task.id].error == "task: unhealthy container"
    assert [one.state for one in world.swarm.store.tasks.values() if one.id != task.id] == [TaskState.RUNNING]


def test_settings_may_be_changed_while_all_goes_on() -> None:
    world = LocalSwarm(history_limit=5)
    settings = world.client.view().info.settings
    info = world.client.update(replace(settings, history_limit=1, heartbeat=1.0))
    assert (info.settings.history_limit, world.client.view().info.settings.heartbeat) == (1, 1.0)
    assert world.swarm.tell(world.swarm.dispatcher.heartbeat, "vm1") == 1.0
    world.client.create_service(ServiceSpec("s", TaskSpec("httpd")))
    for force in range(1, 4):
        service = world.client.view().service("s")
        world.client.update_service(service, replace(service.spec, task=replace(service.spec.task, force_update=force)))
        for _ in range(20):
            for name in ("vm1", "vm2", "vm3"):
                world.swarm.tell(world.swarm.dispatcher.heartbeat, name)
            world.run(0.5)
    assert len(world.swarm.store.tasks) == 1, "one of a slot, from now on"
    for wrong, words in (
        ({"heartbeat": -1.0}, "heartbeat time period cannot be a negative duration"),
        ({"heartbeat": 0.0}, "a node that is given no time at all is always down: heartbeat and grace must be more than 0"),
        ({"data_path_port": 5000}, "the address pools and the data path port of a swarm are chosen once, by swarm init"),
    ):
        with pytest.raises(UsageError) as refused:
            world.client.update(replace(info.settings, **wrong))  # type: ignore[arg-type]
        assert str(refused.value) == words
    assert world.client.view().info == info


def test_a_token_that_is_rotated_admits_nobody_any_more() -> None:
    world = LocalSwarm()
    before = world.client.view().info
    after = world.client.rotate_token(Role.WORKER)
    assert after.worker_token.startswith("SWMTKN-1-")
    assert after.worker_token != before.worker_token
    assert after.manager_token == before.manager_token
    assert world.client.view().info == after
