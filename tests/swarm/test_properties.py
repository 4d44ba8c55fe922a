"""Whatever users do and whichever nodes die: no address twice, filters respected, states only grow, and the journal is the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from ipaddress import IPv4Address, IPv4Interface
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.swarm.agents import SimulatedAgents
from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, PublishMode, ServiceMode, TaskState
from vxtool.model.plain import plain, revive
from vxtool.swarm import constraint
from vxtool.swarm.control import INGRESS
from vxtool.swarm.journal import Journal
from vxtool.swarm.objects import (
    EndpointSpec,
    FailureAction,
    NetworkSpec,
    Node,
    Order,
    Placement,
    PortConfig,
    Resources,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceSpec,
    Settings,
    SubnetSpec,
    Task,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
)
from vxtool.swarm.store import Changes, Record, Store
from vxtool.swarm.swarm import Swarm

ZONES = ("eu", "us")
NETWORKS = ("wide", "tiny")
OTHERS = ("n1", "n2")  # networks that come and go
CONTAINERS = ("c1", "c2", "c3")

_RUNNING = TaskState.RUNNING

SPECS = st.builds(
    lambda image, network, zone, most, memory, port, delay: (
        TaskSpec(
            image,
            networks=(TaskNetwork(network),) if network else (),
            placement=Placement((f"node.labels.zone{zone}",) if zone else (), ("node.labels.zone",) if not zone and most else (), most),
            reservations=Resources(0, memory),
            restart=RestartPolicy(delay=delay),
        ),
        EndpointSpec(ports=(port,) if port else ()),
    ),
    st.sampled_from(("httpd", "echo")),
    st.sampled_from((None, *NETWORKS, "n1")),
    st.sampled_from((None, "==eu", "!=eu")),
    st.sampled_from((0, 0, 1, 2)),
    st.sampled_from((0, 0, 64 << 20, 512 << 20)),
    st.sampled_from((None, None, PortConfig(80), PortConfig(80, 8080), PortConfig(80, 80, mode=PublishMode.HOST))),
    st.sampled_from((0.0, 1.0, 5.0)),
)
UPDATES = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 2),
    delay=st.sampled_from((0.0, 0.5)),
    failure_action=st.sampled_from(FailureAction),
    monitor=st.sampled_from((0.0, 1.0)),
    max_failure_ratio=st.sampled_from((0.0, 0.5)),
    order=st.sampled_from(Order),
)


class Killed(BaseException):
    """The control plane ends here."""


def survives(rule_: Callable[..., None]) -> Callable[..., None]:
    @wraps(rule_)
    def act(self: SwarmMachine, *place: Any, **given: Any) -> None:
        try:
            rule_(self, *place, **given)
        except Killed:
            self.begin_anew()

    return act


class SwarmMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.copy = Store()
        self.journal = Journal(":memory:")
        self.fuse: int | None = None  # transactions until the control plane is killed
        self.written = False  # whether the last of them is written then
        self.bad: set[str] = set()  # services and containers whose tasks fail
        self.nodes = 0
        self.names = 0

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.swarm = Swarm(store=Store(self._journal), random=Random(3), watch=self._watch)
        self.control = self.swarm.control
        self.agents = SimulatedAgents(self.swarm, self._outcome)
        self.swarm.tell(self.control.create_network, INGRESS)
        self.swarm.tell(self.control.create_network, NetworkSpec("wide", attachable=True))
        tiny = SubnetSpec("10.99.0.0/28", reserved={"router": "10.99.0.4"})
        self.swarm.tell(self.control.create_network, NetworkSpec("tiny", subnets=(tiny,), attachable=True))
        for _ in range(count):
            self.join("eu")

    # -- witnesses -----------------------------------------------------------------------------------------------------

    def _journal(self, version: int, changes: Changes) -> None:
        if self.fuse is not None:
            self.fuse -= 1
        if self.fuse == 0 and not self.written:
            raise Killed
        self.journal.write(version, changes)
        self.copy.replay(version, [Record(*record) for record in changes.records()])
        if self.fuse == 0:
            raise Killed

    def _watch(self, changes: Changes) -> None:
        for old, new in changes.tasks:
            if old is not None and new is not None:
                assert old.state <= new.state, (old, new)
                assert old.desired <= new.desired, (old, new)
                assert (old.slot, old.service) == (new.slot, new.service)
                assert old.spec == (new.spec if new.service else replace(new.spec, networks=old.spec.networks))
                assert old.networks == new.networks or not old.networks or not new.service
                assert old.node in ("", new.node)
                if old.state < TaskState.ASSIGNED <= new.state <= _RUNNING:
                    self._check_placed(new)

    def _check_placed(self, task: Task) -> None:
        node = self.swarm.store.nodes[task.node]
        assert (node.state, node.availability) == (NodeState.READY, Availability.ACTIVE)
        assert constraint.node_matches(constraint.parse(task.spec.placement.constraints), node)
        most = task.spec.placement.max_replicas
        there = [other for other in self._held(node.id) if other.service == task.service and other.desired <= TaskState.COMPLETE]
        assert not most or len(there) <= most or task not in there

    def _held(self, node: str) -> list[Task]:
        return [task for task in self.swarm.store.on_node(node) if TaskState.ASSIGNED <= task.state <= _RUNNING]

    def _outcome(self, task: Task) -> TaskState | None:
        service = self.swarm.store.services.get(task.service)
        if service is None:
            return TaskState.FAILED if task.spec.container in self.bad else None
        if task.job_iteration is not None:
            return TaskState.COMPLETE
        return TaskState.FAILED if service.spec.name in self.bad and task.spec.image == "echo" else None

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(zone=st.sampled_from(ZONES))
    @survives
    def join(self, zone: str) -> None:
        if len(self.swarm.store.nodes) == 6:
            return
        self.nodes += 1
        name, host = f"vm{self.nodes}", f"host{self.nodes % 6}"  # who was removed comes back under another identity
        self.swarm.tell(self.control.add_node, Node(name, host, labels={"zone": zone}, state=NodeState.UNKNOWN, described=False))
        self.agents.connect(name, Node(name, host, resources=Resources(0, 1 << 30)))

    @rule(data=st.data(), how=st.sampled_from(("cut", "connect", "drain", "pause", "active", "label", "remove")))
    @survives
    def node(self, data: Any, how: str) -> None:
        names = sorted(self.swarm.store.nodes)
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        if how == "cut":
            self.agents.cut(name)
        elif how == "connect":
            self.agents.connect(name)
        elif how == "label":
            zone = data.draw(st.sampled_from(ZONES))
            self.swarm.tell(lambda: self.control.update_node(name, labels={"zone": zone}))
        elif how == "remove":
            self.agents.cut(name)
            self.swarm.tell(lambda: self.control.remove_node(name, force=True))
        else:
            self.swarm.tell(lambda: self.control.update_node(name, availability=Availability(how)))

    @rule(spec=SPECS, update=UPDATES, mode=st.sampled_from((ServiceMode.REPLICATED, *ServiceMode)), replicas=st.integers(0, 8), bad=st.booleans())
    @survives
    def create(self, spec: tuple[TaskSpec, EndpointSpec], update: UpdateConfig, mode: ServiceMode, replicas: int, bad: bool) -> None:
        if len(self.swarm.store.services) == 5:
            return
        self.names += 1
        name = f"s{self.names}"
        if bad:
            self.bad.add(name)
        task, endpoint = spec
        wanted = ServiceSpec(name, task, mode, replicas, 2 if mode is ServiceMode.REPLICATED_JOB else 0, {}, update, update, endpoint)
        self._try(lambda: self.control.create_service(wanted))

    @rule(data=st.data(), spec=SPECS, replicas=st.integers(0, 8), how=st.sampled_from(("update", "scale", "back", "remove", "force")))
    @survives
    def service(self, data: Any, spec: tuple[TaskSpec, EndpointSpec], replicas: int, how: str) -> None:
        services = sorted(self.swarm.store.services.values(), key=lambda service: service.spec.name)
        if not services:
            return
        service = data.draw(st.sampled_from(services))
        if how == "update":
            new = replace(service.spec, task=spec[0], endpoint=spec[1])
            self._try(lambda: self.control.update_service(service.id, new, service.version))
        elif how == "force":
            new = replace(service.spec, task=replace(service.spec.task, force_update=service.spec.task.force_update + 1))
            self._try(lambda: self.control.update_service(service.id, new, service.version))
        elif how == "scale":
            self._try(lambda: self.control.scale_service(service.id, replicas))
        elif how == "back":
            self._try(lambda: self.control.roll_back_service(service.id))
        else:
            self._try(lambda: self.control.remove_service(service.id))

    @rule(name=st.sampled_from(OTHERS), prefix=st.sampled_from(("", "10.0.7.0/29", "10.0.7.0/28")), attachable=st.booleans())
    @survives
    def network(self, name: str, prefix: str, attachable: bool) -> None:
        subnets = (SubnetSpec(prefix),) if prefix else ()
        self._try(lambda: self.control.create_network(NetworkSpec(name, subnets=subnets, attachable=attachable)))

    @rule(name=st.sampled_from((*OTHERS, *OTHERS, *NETWORKS, "ingress")))
    @survives
    def network_removed(self, name: str) -> None:
        self._try(lambda: self.control.remove_network(name))

    @rule(
        data=st.data(),
        name=st.sampled_from(CONTAINERS),
        networks=st.lists(st.sampled_from((*NETWORKS, *OTHERS)), max_size=2),
        address=st.sampled_from((None, None, "10.99.0.4", "10.99.0.5", "10.0.7.3")),
        policy=st.sampled_from((RestartPolicy(), RestartPolicy(RestartCondition.ANY, 0.5), RestartPolicy(RestartCondition.ON_FAILURE, 0.5, 3))),
        bad=st.booleans(),
    )
    @survives
    def run(self, data: Any, name: str, networks: list[str], address: str | None, policy: RestartPolicy, bad: bool) -> None:
        nodes = sorted(self.swarm.store.nodes)
        if not nodes:
            return
        node = data.draw(st.sampled_from(nodes))
        wanted = tuple(TaskNetwork(network, (), IPv4Interface(address) if address else None) for network in networks)
        if self._try(lambda: self.control.run_container(TaskSpec("echo", container=name, networks=wanted, restart=policy), node)):
            (self.bad.add if bad else self.bad.discard)(name)

    @rule(
        name=st.sampled_from(CONTAINERS),
        network=st.sampled_from((*NETWORKS, *OTHERS, "ingress")),
        address=st.sampled_from((None, None, "10.99.0.5", "10.0.7.3")),
        how=st.sampled_from(("connect", "connect", "disconnect", "disconnect", "stop", "remove", "force")),
    )
    @survives
    def container(self, name: str, network: str, address: str | None, how: str) -> None:
        control = self.control
        acts: dict[str, Callable[[], object]] = {
            "connect": lambda: control.connect(network, name, IPv4Address(address) if address else None),
            "disconnect": lambda: control.disconnect(network, name),
            "stop": lambda: control.stop_container(name),
            "remove": lambda: control.remove_container(name),
            "force": lambda: control.remove_container(name, force=True),
        }
        self._try(acts[how])

    @rule(history=st.sampled_from((0, 1, 5, -1)), heartbeat=st.sampled_from((5.0, 10.0)), wait=st.sampled_from((2.0, 60.0)))
    @survives
    def settings(self, history: int, heartbeat: float, wait: float) -> None:
        self.swarm.tell(self.swarm.change_settings, Settings(history, heartbeat, old_task_timeout=wait))

    def _try(self, call: Any) -> bool:
        """A refusal leaves everything as it was."""
        version = self.swarm.store.version
        try:
            self.swarm.tell(call)
        except UsageError:
            assert self.swarm.store.version == version
            return False
        return True

    @rule()
    def the_control_plane_is_killed(self) -> None:
        self.begin_anew()

    @rule(transactions=st.integers(1, 12), written=st.booleans())
    def the_control_plane_will_be_killed(self, transactions: int, written: bool) -> None:
        """Between two transactions, of which the second follows from the first."""
        self.fuse, self.written = transactions, written

    def begin_anew(self) -> None:
        """Another control plane goes on with what the journal holds; the agents find it."""
        self.fuse = None
        store = self.journal.load()
        assert (store.nodes, store.networks, store.services, store.tasks, store.version) == (
            *(self.copy.nodes, self.copy.networks, self.copy.services, self.copy.tasks),
            self.copy.version,
        )
        store.journal_to(self._journal)
        self.swarm = Swarm(self.swarm.settings, store=store, random=Random(self.swarm.store.version), now=self.swarm.now, watch=self._watch)
        self.control = self.swarm.control
        self.agents.swarm = self.swarm
        for node in sorted(self.agents.connected):
            self.agents.connect(node)

    @rule(seconds=st.sampled_from((0.02, 0.1, 1.0, 6.0, 20.0)))
    @survives
    def time_passes(self, seconds: float) -> None:
        self.agents.run(seconds)

    # -- what is true --------------------------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "swarm"))
    def nothing_is_given_twice(self) -> None:
        store = self.swarm.store
        given: Counter[tuple[str, str]] = Counter()
        vnis: Counter[int] = Counter()
        for network in store.networks.values():
            for subnet in network.subnets:
                vnis[subnet.vni] += 1
                given[network.id, str(subnet.gateway)] += 1
        for service in store.services.values():
            given.update((id, str(address.ip)) for id, address in service.vips)
        for node in store.nodes.values():
            given.update((one.network, str(one.address.ip)) for one in node.attachments if one.address)
        for task in store.tasks.values():
            if task.desired <= _RUNNING or task.state <= _RUNNING:
                given.update((one.network, str(one.address.ip)) for one in task.networks if one.address)
        ports = Counter(
            (port.protocol, port.published) for service in store.services.values() for port in service.ports if port.mode is PublishMode.INGRESS
        )
        for counted in (given, vnis, ports):
            assert not [key for key, count in counted.items() if count > 1]

    @invariant()
    @precondition(lambda self: hasattr(self, "swarm"))
    def what_is_given_is_needed(self) -> None:
        """No node has a load balancer in a network where it has no task; nobody who is to run has an address of a network that is gone."""
        store = self.swarm.store
        ingress = {network.id for network in store.networks.values() if network.spec.ingress}
        for node in store.nodes.values():
            there = [one for task in store.on_node(node.id) if task.desired <= _RUNNING or task.state <= _RUNNING for one in task.networks]
            assert {one.network for one in node.attachments} <= ingress | {one.network for one in there}
            assert {one.network for one in node.attachments} <= store.networks.keys() | {one.network for one in there}
        for task in store.tasks.values():
            if task.desired <= _RUNNING and task.state <= _RUNNING:
                assert {one.network for one in task.networks} <= store.networks.keys()
                if not task.service:
                    assert {one.network for one in task.networks} <= {one.network for one in task.spec.networks}

    @invariant()
    @precondition(lambda self: hasattr(self, "swarm"))
    def a_container_keeps_its_name_and_its_node(self) -> None:
        containers = [task for task in self.swarm.store.of_service("") if task.desired < TaskState.REMOVE]
        assert len({task.spec.container for task in containers}) == len(containers)
        assert all(task.node in self.swarm.store.nodes for task in containers)

    @invariant()
    @precondition(lambda self: hasattr(self, "swarm"))
    def no_node_holds_more_than_it_has(self) -> None:
        for node in self.swarm.store.nodes.values():
            held = self._held(node.id)
            assert sum(task.spec.reservations.memory_bytes for task in held) <= (node.resources.memory_bytes if node.resources else 0)
            ports = Counter(port.published for task in held for port in task.endpoint.ports if port.mode is PublishMode.HOST)
            assert all(count == 1 for count in ports.values())

    @invariant()
    @precondition(lambda self: hasattr(self, "swarm"))
    def no_task_is_let_stay_where_its_constraints_forbid_it(self) -> None:
        for node in self.swarm.store.nodes.values():
            for task in self._held(node.id):
                if node.availability is Availability.ACTIVE and TaskState.ASSIGNED <= task.desired <= _RUNNING:
                    assert constraint.node_matches(constraint.parse(task.spec.placement.constraints), node)

    @invariant()
    @precondition(lambda self: hasattr(self, "swarm"))
    def the_journal_is_the_store(self) -> None:
        store, copy = self.swarm.store, self.copy
        assert (copy.nodes, copy.networks, copy.services, copy.tasks) == (store.nodes, store.networks, store.services, store.tasks)
        assert copy.version == store.version
        for service in store.services:
            assert {task.id for task in copy.of_service(service)} == {task.id for task in store.of_service(service)}
        for node in store.nodes:
            assert {task.id for task in copy.on_node(node)} == {task.id for task in store.on_node(node)}

    # -- how it ends ---------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "swarm"):
            return
        self.bad.clear()
        self.fuse = None
        for name in list(self.swarm.store.nodes):
            if name not in self.agents.connected:
                self.agents.connect(name)
            self.swarm.tell(self._activate, name)
        self.agents.run(150.0)
        store = self.swarm.store
        for service in store.services.values():
            tasks = store.of_service(service.id)
            running = [task for task in tasks if task.desired is _RUNNING and task.state is _RUNNING]
            waiting = [task for task in tasks if task.desired is _RUNNING and task.state <= TaskState.PENDING]
            assert all(task.error for task in waiting), waiting
            for task in waiting:
                if task.state is TaskState.PENDING and not task.node:
                    assert not [node.id for node in store.nodes.values() if self._could_run(task, node)]
            if service.spec.mode is ServiceMode.REPLICATED:
                slots = [task.slot for task in running + waiting]
                assert len(set(slots)) == service.spec.replicas
                # An update that starts the new task first waits, with both, for as long as that finds no place.
                assert len(slots) == len(set(slots)) or Order.START_FIRST in (service.spec.update.order, service.spec.rollback.order)
            elif service.spec.mode is ServiceMode.GLOBAL:
                assert {task.node for task in running + waiting} == {
                    node.id
                    for node in store.nodes.values()
                    if constraint.node_matches(constraint.parse(service.spec.task.placement.constraints), node)
                } | {task.node for task in running + waiting if task.spec != service.spec.task}
        for task in store.of_service(""):
            if task.desired <= _RUNNING:
                complete = {one.network for one in task.networks} == {one.network for one in task.spec.networks}
                assert (task.state is _RUNNING and complete) or task.error, task
        for name, held in self.agents._held.items():
            for task in store.on_node(name):
                if task.state is _RUNNING and name in self.agents.connected:
                    assert (held[task.id].networks, held[task.id].desired) == (task.networks, task.desired), "its agent knows how it is to be"
        for table, kind in ((store.nodes, Node), (store.services, Service), (store.tasks, Task)):
            for one in table.values():  # type: ignore[attr-defined]
                assert revive(kind, json.loads(json.dumps(plain(one)))) == one

    def _activate(self, name: str) -> None:
        self.control.update_node(name, availability=Availability.ACTIVE)

    def _could_run(self, task: Task, node: Node) -> bool:
        held = self._held(node.id)
        free = (node.resources.memory_bytes if node.resources else 0) - sum(other.spec.reservations.memory_bytes for other in held)
        most = task.spec.placement.max_replicas
        ports = {port.published for port in task.endpoint.ports if port.mode is PublishMode.HOST}
        taken = {port.published for other in held for port in other.endpoint.ports if port.mode is PublishMode.HOST}
        return (
            node.state is NodeState.READY
            and constraint.node_matches(constraint.parse(task.spec.placement.constraints), node)
            and task.spec.reservations.memory_bytes <= free
            and not (most and sum(other.service == task.service and other.desired <= TaskState.COMPLETE for other in held) >= most)
            and not ports & taken
        )


# Not shrunk: a failing case takes minutes to become smaller, and is read step by step as it is.
SwarmMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TestWhateverHappens = SwarmMachine.TestCase
