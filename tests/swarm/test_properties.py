"""Whatever users do and whichever nodes die: no address twice, filters respected, states only grow, and the journal is the store."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
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
)
from vxtool.swarm.store import Changes, Record, Store
from vxtool.swarm.swarm import Swarm

ZONES = ("eu", "us")
NETWORKS = ("wide", "tiny")

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
    st.sampled_from((None, *NETWORKS)),
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


class SwarmMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.copy = Store()
        self.bad: set[str] = set()  # services whose tasks fail
        self.nodes = 0
        self.names = 0

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.swarm = Swarm(store=Store(self._journal), random=Random(3), watch=self._watch)
        self.control = self.swarm.control
        self.agents = SimulatedAgents(self.swarm, self._outcome)
        self.swarm.tell(self.control.create_network, INGRESS)
        self.swarm.tell(self.control.create_network, NetworkSpec("wide"))
        self.swarm.tell(self.control.create_network, NetworkSpec("tiny", subnets=(SubnetSpec("10.99.0.0/28"),)))
        for _ in range(count):
            self.join("eu")

    # -- witnesses -----------------------------------------------------------------------------------------------------

    def _journal(self, version: int, changes: Changes) -> None:
        self.copy.replay(version, [Record(*record) for record in changes.records()])

    def _watch(self, changes: Changes) -> None:
        for old, new in changes.tasks:
            if old is not None and new is not None:
                assert old.state <= new.state, (old, new)
                assert old.desired <= new.desired, (old, new)
                assert (old.slot, old.service, old.spec) == (new.slot, new.service, new.spec)
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
            return None
        if task.job_iteration is not None:
            return TaskState.COMPLETE
        return TaskState.FAILED if service.spec.name in self.bad and task.spec.image == "echo" else None

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(zone=st.sampled_from(ZONES))
    def join(self, zone: str) -> None:
        if self.nodes == 6:
            return
        self.nodes += 1
        name = f"vm{self.nodes}"
        self.swarm.tell(self.control.add_node, Node(name, name, labels={"zone": zone}, state=NodeState.UNKNOWN, described=False))
        self.agents.connect(name, Node(name, name, resources=Resources(0, 1 << 30)))

    @rule(data=st.data(), how=st.sampled_from(("cut", "connect", "drain", "pause", "active", "label", "remove")))
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

    def _try(self, call: Any) -> None:
        """A refusal leaves everything as it was."""
        version = self.swarm.store.version
        try:
            self.swarm.tell(call)
        except UsageError:
            assert self.swarm.store.version == version

    @rule()
    def the_control_plane_is_killed(self) -> None:
        """Another one goes on with what the journal holds; the agents find it."""
        store, self.copy = self.copy, Store()
        store.journal_to(self._journal)
        self.copy.replay(store.version, [Record(*record) for record in store.everything().records()])
        self.swarm = Swarm(store=store, random=Random(self.swarm.store.version), now=self.swarm.now, watch=self._watch)
        self.control = self.swarm.control
        self.agents.swarm = self.swarm
        for node in sorted(self.agents.connected):
            self.agents.connect(node)

    @rule(seconds=st.sampled_from((0.02, 0.1, 1.0, 6.0, 20.0)))
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
