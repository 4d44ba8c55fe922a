"""What users may not do is refused in swarmkit's words, and nothing is changed by the attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.vectors import cases
from vxtool.errors import UsageError
from vxtool.model import EndpointMode, NodeState, PublishMode, Role, ServiceMode
from vxtool.swarm.control import INGRESS, Control
from vxtool.swarm.objects import (
    EndpointSpec,
    NetworkSpec,
    Node,
    Placement,
    PortConfig,
    Resources,
    RestartPolicy,
    ServiceSpec,
    SubnetSpec,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
)
from vxtool.swarm.ports import Ports
from vxtool.swarm.swarm import Swarm

HTTPD = TaskSpec("httpd")


@pytest.fixture
def swarm() -> Swarm:
    """One manager, one worker; a service `a` on the network `app` with port 80 published."""
    swarm = Swarm(random=Random(5))
    control = swarm.control
    swarm.tell(control.add_node, Node("m", "m", role=Role.MANAGER))
    swarm.tell(control.add_node, Node("w", "w"))
    swarm.tell(control.create_network, INGRESS)
    swarm.tell(control.create_network, NetworkSpec("app"))
    endpoint = EndpointSpec(ports=(PortConfig(80, 80),))
    swarm.tell(control.create_service, ServiceSpec("a", replace(HTTPD, networks=(TaskNetwork("app"),)), endpoint=endpoint))
    return swarm


def _spec(**changes: Any) -> ServiceSpec:
    return replace(ServiceSpec("b", HTTPD), **changes)


def _ports(*ports: PortConfig, mode: EndpointMode = EndpointMode.VIP) -> ServiceSpec:
    return _spec(endpoint=EndpointSpec(mode, ports))


REFUSED: dict[str, tuple[Callable[[Control], object], str]] = {
    "no name": (lambda c: c.create_service(_spec(name="")), "meta: name must be provided"),
    "odd name": (lambda c: c.create_service(_spec(name="a b")), "name must be valid as a DNS name component"),
    "long name": (lambda c: c.create_service(_spec(name="a" * 64)), "name must be 63 characters or fewer"),
    "name taken": (lambda c: c.create_service(_spec(name="a")), "name conflicts with an existing object: service a already exists"),
    "no image": (lambda c: c.create_service(_spec(task=TaskSpec())), "ContainerSpec: image reference must be provided"),
    "cpu": (
        lambda c: c.create_service(_spec(task=replace(HTTPD, limits=Resources(100_000)))),
        "invalid cpu value 0.0001: Must be at least 0.001",
    ),
    "memory": (
        lambda c: c.create_service(_spec(task=replace(HTTPD, reservations=Resources(0, 1024)))),
        "invalid memory value 1024: Must be at least 4MiB",
    ),
    "restart delay": (
        lambda c: c.create_service(_spec(task=replace(HTTPD, restart=RestartPolicy(delay=-1)))),
        "TaskSpec: restart-delay cannot be negative",
    ),
    "update delay": (lambda c: c.create_service(_spec(update=UpdateConfig(delay=-1))), "TaskSpec: update-delay cannot be negative"),
    "ratio": (
        lambda c: c.create_service(_spec(rollback=UpdateConfig(max_failure_ratio=1.5))),
        "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
    ),
    "constraint": (
        lambda c: c.create_service(_spec(task=replace(HTTPD, placement=Placement(("zone",))))),
        "constraint expected one operator from ==, !=",
    ),
    "network unknown": (lambda c: c.create_service(_spec(task=replace(HTTPD, networks=(TaskNetwork("x"),)))), "network x not found"),
    "ingress by hand": (
        lambda c: c.create_service(_spec(task=replace(HTTPD, networks=(TaskNetwork("ingress"),)))),
        'Service cannot be explicitly attached to the ingress network "ingress"',
    ),
    "rename": (lambda c: c.update_service("a", replace(c.service("a").spec, name="z")), "renaming services is not supported"),
    "mode": (lambda c: c.update_service("a", replace(c.service("a").spec, mode=ServiceMode.GLOBAL)), "service mode change is not allowed"),
    "stale": (lambda c: c.update_service("a", c.service("a").spec, version=1), "update out of sequence"),
    "no previous": (lambda c: c.roll_back_service("a"), "service a does not have a previous spec"),
    "service unknown": (lambda c: c.remove_service("x"), "service x not found"),
    "node unknown": (lambda c: c.update_node("x"), "node x not found"),
    "node up": (lambda c: c.remove_node("w"), "node w is not down and can't be removed"),
    "manager": (
        lambda c: c.remove_node("m", force=True),
        "node m is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal",
    ),
    "last manager": (lambda c: c.update_node("m", role=Role.WORKER), "attempting to demote the last manager of the swarm"),
    "network name taken": (lambda c: c.create_network(NetworkSpec("app")), "network with name app already exists"),
    "second ingress": (lambda c: c.create_network(NetworkSpec("in2", ingress=True)), "ingress network (ingress) is already present"),
    "gateway": (
        lambda c: c.create_network(NetworkSpec("n", subnets=(SubnetSpec("10.5.0.0/24", "10.6.0.1"),))),
        "no matching subnet for gateway 10.6.0.1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_swarms_words_and_nothing_changes(swarm: Swarm, case: str) -> None:
    call, words = REFUSED[case]
    version = swarm.store.version
    with pytest.raises(UsageError) as refused:
        swarm.tell(call, swarm.control)
    assert str(refused.value).replace(swarm.control.network("ingress").id, "ingress") == words
    assert swarm.store.version == version


def test_a_network_in_use_is_not_removed(swarm: Swarm) -> None:
    control = swarm.control
    app, service = control.network("app"), control.service("a")
    with pytest.raises(UsageError, match=f"^network {app.id} is in use by service {service.id}$"):
        control.remove_network("app")
    with pytest.raises(UsageError, match=f"^ingress network cannot be removed because service {service.id} depends on it$"):
        control.remove_network("ingress")


def test_a_node_that_is_down_can_be_removed_and_its_tasks_are_orphaned(swarm: Swarm) -> None:
    with swarm.store.transaction() as change:
        node = swarm.store.nodes["w"]
        change.node(node, replace(node, state=NodeState.DOWN))
    swarm.tell(lambda: swarm.control.remove_node("w"))
    assert "w" not in swarm.store.nodes


def _publish(text: str) -> PortConfig:
    """`80:8080/tcp`, published:target/protocol; `80 ingress`, published and mode; in any order, words that say more passed over."""
    numbers, *words = text.split()
    numbers, _, protocol = numbers.partition("/")
    published, _, target = numbers.partition(":")
    protocols, modes = [word for word in words if word in ("tcp", "udp", "sctp")], [word for word in words if word in tuple(PublishMode)]
    return PortConfig(int(target or published), int(published), protocol or (protocols or ["tcp"])[0], PublishMode((modes or ["ingress"])[0]))


_KINDS = ("published_port_allocation", "published_port_conflict", "endpoint_mode", "duplicate_ports")
_MESH = [case for case in cases("mesh") if case.values[0]["kind"] in _KINDS]


@pytest.mark.parametrize("case", _MESH)
def test_ports_are_published_or_refused_as_in_swarm(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expect"]
    if case["kind"] == "published_port_allocation":
        ports = Ports()
        protocol = given.get("protocol") or "tcp"
        ports.take(_publish(f"{number}" if "/" in str(number) else f"{number}/{protocol}") for number in given.get("allocated") or ())
        wanted_port = PortConfig(80, given.get("published", 0), protocol)
        if "error" in expected:
            with pytest.raises(UsageError):
                ports.allocate((wanted_port,))
        else:
            (port,) = ports.allocate((wanted_port,))
            assert {"port": port.published} == expected
        return
    swarm = Swarm(random=Random(5))
    swarm.tell(swarm.control.create_network, INGRESS)
    if case["kind"] == "published_port_conflict":
        for text in (given["existing"], given["new"]):
            _, name, _, ports_ = text.split(" ", 3)
            wanted = ServiceSpec(name, HTTPD, endpoint=EndpointSpec(ports=(_publish(ports_),)))
            came = _refusal(swarm, wanted)
    else:
        publish = given["publish"] if isinstance(given["publish"], list) else [given["publish"]]
        mode = EndpointMode(given.get("mode", "vip"))
        came = _refusal(swarm, _ports(*map(_publish, publish), mode=mode))
    for service in swarm.store.services:
        came = came.replace(service, "<id>")
    assert came == (expected.get("error") or "")


def _refusal(swarm: Swarm, spec: ServiceSpec) -> str:
    try:
        swarm.tell(swarm.control.create_service, spec)
    except UsageError as error:
        return str(error)
    return ""
