"""What users ask of a swarm, checked and written down; refused in swarmkit's words where it has some (manager/controlapi).

Writes what is wanted and nothing else: tasks, addresses and places are the movers' affair. Objects are named by id or by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, PublishMode, Role, ServiceMode, TaskState
from vxtool.swarm.allocator import holders, needs_ingress
from vxtool.swarm.dispatcher import orphan
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import (
    EndpointSpec,
    Network,
    NetworkSpec,
    Node,
    Placement,
    Resources,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceSpec,
    Task,
    TaskNetwork,
    TaskSpec,
    UpdateState,
    UpdateStatus,
)
from vxtool.swarm.restart import JOBS
from vxtool.swarm.specifications import check_endpoint, check_name, check_network, check_task, check_update
from vxtool.swarm.store import OutOfSequence, Store
from vxtool.swarm.tasks import CREATED
from vxtool.swarm.timers import Timers

__all__ = ["INGRESS", "Control"]

INGRESS = NetworkSpec("ingress", ingress=True)
"""The network of the routing mesh: the first one of a swarm, and so 10.0.0.0/24 with VNI 4096 (manager.go newIngressNetwork)."""

LEFT = "Task belonged to a node that has been deleted"

_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_NEVER = RestartPolicy(RestartCondition.NONE)


class Control:
    def __init__(self, store: Store, timers: Timers, identities: Identities) -> None:
        self._store = store
        self._timers = timers
        self._identities = identities

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def add_node(self, node: Node) -> Node:
        """A node joins. Without an id it gets one; it is what `state` says until an agent opens a session."""
        node = replace(node, id=node.id or self._identities.new(), version=0, created_at=self._timers.now)
        if node.id in self._store.nodes:
            raise UsageError(f"node {node.id} is in the swarm already")
        with self._store.transaction() as change:
            change.node(None, node)
        return node

    def update_node(
        self,
        name: str,
        version: int | None = None,
        *,
        availability: Availability | None = None,
        labels: Mapping[str, str] | None = None,
        role: Role | None = None,
    ) -> Node:
        """Changes what is given; `version`: of the node as it was read, so that nobody's change is lost."""
        node = self.node(name)
        _in_sequence(node, version)
        if role is Role.WORKER and node.role is Role.MANAGER and sum(other.role is Role.MANAGER for other in self._store.nodes.values()) == 1:
            raise UsageError("attempting to demote the last manager of the swarm")
        if role is Role.MANAGER and node.role is Role.WORKER:
            raise UsageError(f"node {node.hostname or node.id} cannot be promoted: the lab has one manager and no Raft")
        new = replace(
            node,
            availability=node.availability if availability is None else availability,
            labels=node.labels if labels is None else dict(labels),
            role=node.role if role is None else role,
        )
        if new != node:
            with self._store.transaction() as change:
                change.node(node, new)
        return new

    def remove_node(self, name: str, force: bool = False) -> None:
        node = self.node(name)
        if node.role is Role.MANAGER:
            raise UsageError(f"node {node.id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal")
        if not force and node.state is NodeState.READY:
            raise UsageError(f"node {node.id} is not down and can't be removed")
        with self._store.transaction() as change:
            orphan(change, self._store, node.id, self._timers.now, LEFT)
            change.node(node, None)

    def node(self, name: str) -> Node:
        """By id or host name."""
        node = self._store.nodes.get(name) or next((node for node in self._store.nodes.values() if node.hostname == name), None)
        if node is None:
            raise UsageError(f"node {name} not found")
        return node

    # -- networks ------------------------------------------------------------------------------------------------------

    def create_network(self, spec: NetworkSpec) -> Network:
        check_network(spec)
        if self._store.named("network", spec.name) is not None:
            raise UsageError(f"network with name {spec.name} already exists")
        if spec.ingress and any(network.spec.ingress for network in self._store.networks.values()):
            raise UsageError(f"ingress network ({self._ingress_id()}) is already present")
        network = Network(self._identities.new(), spec, created_at=self._timers.now)
        with self._store.transaction() as change:
            change.network(None, network)
        return network

    def remove_network(self, name: str) -> None:
        network = self.network(name)
        services = [service for service in self._store.services.values() if _asks_for(service.spec.task, network)]
        if services:
            raise UsageError(f"network {network.id} is in use by service {services[0].id}")
        if network.spec.ingress:
            for service in self._store.services.values():
                if needs_ingress(service.spec):
                    raise UsageError(f"ingress network cannot be removed because service {service.id} depends on it")
        for task in self._store.in_network(network.id):
            if task.desired <= TaskState.RUNNING and task.state <= TaskState.RUNNING:
                raise UsageError(f"network {network.id} is in use by task {task.id}")
        for task in self._store.of_service(""):  # also one that still waits for its address
            if task.desired <= TaskState.RUNNING and _asks_for(task.spec, network):
                raise UsageError(f"network {network.id} is in use by task {task.id}")
        with self._store.transaction() as change:
            change.network(network, None)

    def network(self, name: str) -> Network:
        """By id or name."""
        network = self._store.networks.get(name) or self._store.networks.get(self._store.named("network", name) or "")
        if network is None:
            raise UsageError(f"network {name} not found")
        return network

    def _ingress_id(self) -> str:
        return next(network.id for network in self._store.networks.values() if network.spec.ingress)

    # -- services ------------------------------------------------------------------------------------------------------

    def create_service(self, spec: ServiceSpec) -> Service:
        """`spec` names its networks by id or name; the service's specification has ids."""
        spec = self._checked(spec)
        if self._store.named("service", spec.name) is not None:
            raise UsageError(f"name conflicts with an existing object: service {spec.name} already exists")
        self._check_ports(spec.endpoint, "")
        now = self._timers.now
        service = Service(self._identities.new(), spec, spec_version=0, job_started_at=now, created_at=now, updated_at=now)
        with self._store.transaction() as change:
            change.service(None, service)
        return service

    def update_service(self, name: str, spec: ServiceSpec, version: int | None = None) -> Service:
        """Replaces the specification; the last one is kept for a rollback. `version`: of the service as it was read."""
        service = self.service(name)
        spec = self._checked(spec)
        _in_sequence(service, version)
        if spec.endpoint != service.spec.endpoint:
            self._check_ports(spec.endpoint, service.id)
        if spec.name != service.spec.name:
            raise UsageError("renaming services is not supported")
        if spec.mode is not service.spec.mode:
            raise UsageError("service mode change is not allowed")
        again = spec.mode in JOBS and spec.task.force_update != service.spec.task.force_update
        new = replace(
            service,
            spec=spec,
            spec_version=service.version,
            previous_spec=service.spec,
            previous_spec_version=service.spec_version,
            update_status=None,
            job_iteration=service.version if again else service.job_iteration,
            job_started_at=self._timers.now if again else service.job_started_at,
            updated_at=self._timers.now,
        )
        with self._store.transaction() as change:
            change.service(service, new)
        return new

    def scale_service(self, name: str, replicas: int) -> Service:
        service = self.service(name)
        if service.spec.mode not in (ServiceMode.REPLICATED, ServiceMode.REPLICATED_JOB):
            raise UsageError("scale can only be used with replicated or replicated-job mode")
        return self.update_service(service.id, replace(service.spec, replicas=replicas))

    def roll_back_service(self, name: str, version: int | None = None) -> Service:
        """The previous specification and the present one change places, one level deep."""
        service = self.service(name)
        _in_sequence(service, version)
        if service.previous_spec is None:
            raise UsageError(f"service {service.spec.name} does not have a previous spec")
        self._check_ports(service.previous_spec.endpoint, service.id)
        new = replace(
            service,
            spec=service.previous_spec,
            spec_version=service.previous_spec_version,
            previous_spec=service.spec,
            previous_spec_version=service.spec_version,
            update_status=UpdateStatus(UpdateState.ROLLBACK_STARTED, "manually requested rollback", self._timers.now),
            updated_at=self._timers.now,
        )
        with self._store.transaction() as change:
            change.service(service, new)
        return new

    def remove_service(self, name: str) -> None:
        service = self.service(name)
        with self._store.transaction() as change:
            change.service(service, None)

    def service(self, name: str) -> Service:
        """By id or name."""
        service = self._store.services.get(name) or self._store.services.get(self._store.named("service", name) or "")
        if service is None:
            raise UsageError(f"service {name} not found")
        return service

    # -- containers that belong to no service ------------------------------------------------------------------------------

    def run_container(self, spec: TaskSpec, node: str) -> Task:
        """A task of no service, bound to its node: `spec.container` is its name, one of a swarm ("": made from its identity), `spec.networks` are
        named by id or name, with an address where one is asked for. The policy that services have without saying so means here: not restarted."""
        place = self.node(node)
        name = place.hostname or place.id
        if place.state is not NodeState.READY:
            raise UsageError(f"node {name} is {place.state}: it can run no container now")
        if place.availability is not Availability.ACTIVE:
            raise UsageError(f"node {name} takes no new tasks: its availability is {place.availability}; make it active, or choose another node")
        if spec.reservations != Resources() or spec.placement != Placement():
            raise UsageError("a container that belongs to no service has limits and a node, but no reservations and no placement")
        id = self._identities.new()
        spec = replace(spec, container=spec.container or id[:12], restart=_NEVER if spec.restart == RestartPolicy() else spec.restart)
        if not _CONTAINER.fullmatch(spec.container):
            raise UsageError(f"Invalid container name ({spec.container}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        there = self._container_named(spec.container)
        if there is not None:
            raise UsageError(
                f'Conflict. The container name "/{spec.container}" is already in use by container "{there.id}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        check_task(spec)
        networks: list[TaskNetwork] = []
        for wanted in spec.networks:
            networks.append(self._attachment(spec.container, wanted, networks))
        now = self._timers.now
        task = Task(
            id, node=place.id, spec=replace(spec, networks=tuple(networks)), spec_version=None, message=CREATED, created_at=now, changed_at=now
        )
        with self._store.transaction() as change:
            change.task(None, task)
        return task

    def stop_container(self, name: str) -> Task:
        """It is shut down and stays known."""
        task = self.container(name)
        if task.desired >= TaskState.SHUTDOWN:
            return task
        new = replace(task, desired=TaskState.SHUTDOWN)
        with self._store.transaction() as change:
            change.task(task, new)
        return new

    def remove_container(self, name: str, force: bool = False) -> None:
        """It is forgotten as soon as it has stopped; one that runs only with `force`."""
        task = self.container(name)
        if TaskState.ASSIGNED <= task.state <= TaskState.RUNNING and task.desired < TaskState.SHUTDOWN and not force:
            raise UsageError(f"You cannot remove a running container {task.id}. Stop the container before attempting removal or force remove")
        with self._store.transaction() as change:
            change.task(task, None if ended(task) else replace(task, desired=TaskState.REMOVE))

    def connect(self, network: str, container: str, address: IPv4Address | None = None, aliases: Sequence[str] = ()) -> Task:
        """One more network for a container that runs. The address, `address` or the next one, is in its `networks` when everything has settled."""
        task = self._changeable(container)
        asked = TaskNetwork(network, tuple(aliases), None if address is None else IPv4Interface(address))
        wanted = self._attachment(task.spec.container, asked, task.spec.networks)
        return self._rewired(task, (*task.spec.networks, wanted))

    def disconnect(self, network: str, container: str) -> Task:
        known = self.network(network)
        task = self._changeable(container)
        left = tuple(wanted for wanted in task.spec.networks if wanted.network != known.id)
        if len(left) == len(task.spec.networks):
            raise UsageError(f"container {task.spec.container} is not connected to network {known.spec.name}")
        return self._rewired(task, left)

    def container(self, name: str) -> Task:
        """By id or name."""
        task = self._store.tasks.get(name)
        if task is None or task.service:
            task = self._container_named(name)
        if task is None:
            raise UsageError(f"No such container: {name}")
        return task

    def _container_named(self, name: str) -> Task | None:
        containers = self._store.of_service("")
        return next((task for task in containers if task.spec.container == name and task.desired < TaskState.REMOVE), None)

    def _changeable(self, name: str) -> Task:
        task = self._store.tasks.get(name)
        service = self._store.services.get(task.service) if task is not None else None
        if service is not None:
            raise UsageError(f"{name} is a task of the service {service.spec.name}: give the network to the service (service update --network-add)")
        task = self.container(name)
        if task.desired > TaskState.RUNNING or task.state > TaskState.RUNNING:
            raise UsageError(f"Container {task.id} is not running")
        return task

    def _rewired(self, task: Task, networks: tuple[TaskNetwork, ...]) -> Task:
        new = replace(task, spec=replace(task.spec, networks=networks))
        with self._store.transaction() as change:
            change.task(task, new)
        return new

    def _attachment(self, container: str, wanted: TaskNetwork, others: Iterable[TaskNetwork]) -> TaskNetwork:
        """A container's wish for a network, with the network by id, once it can be fulfilled."""
        network = self.network(wanted.network)
        if not network.spec.attachable:
            raise UsageError(f"network {network.spec.name} not manually attachable")
        if any(other.network == network.id for other in others):
            raise UsageError(f"endpoint with name {container} already exists in network {network.spec.name}")
        if wanted.address is not None:
            self._check_address(network, wanted.address.ip)
        return replace(wanted, network=network.id)

    def _check_address(self, network: Network, address: IPv4Address) -> None:
        subnet = next((subnet for subnet in network.subnets if address in subnet.prefix), None)
        if subnet is None:
            there = ", ".join(str(subnet.prefix) for subnet in network.subnets)
            raise UsageError(f"Invalid address {address}: It does not belong to any of this network's subnets ({there})")
        if address in holders(self._store, network):
            raise UsageError("Address already in use")

    # -- what a specification must be ------------------------------------------------------------------------------------

    def _checked(self, spec: ServiceSpec) -> ServiceSpec:
        """The specification with its networks by id, once all of it makes sense."""
        check_name(spec.name)
        check_task(spec.task)
        check_update(spec.update)
        check_update(spec.rollback)
        check_endpoint(spec.endpoint)
        if spec.replicas < 0:
            raise UsageError("Total completed jobs must be non-negative" if spec.mode in JOBS else "Number of replicas must be non-negative")
        if spec.max_concurrent < 0:
            raise UsageError("Maximum concurrent jobs must be non-negative")
        networks = []
        for wanted in spec.task.networks:
            network = self.network(wanted.network)
            if network.spec.ingress:
                raise UsageError(f'Service cannot be explicitly attached to the ingress network "{network.spec.name}"')
            networks.append(replace(wanted, network=network.id, address=None))
        if needs_ingress(spec) and not any(network.spec.ingress for network in self._store.networks.values()):
            raise UsageError("service needs ingress network, but no ingress network is present")
        return replace(spec, task=replace(spec.task, networks=tuple(networks)))

    def _check_ports(self, endpoint: EndpointSpec, own: str) -> None:
        """A port in ingress mode belongs to one service; several may publish one in host mode, the scheduler keeps them apart."""
        wanted: dict[tuple[str, int], PublishMode] = {(port.protocol, port.published): port.mode for port in endpoint.ports if port.published}
        if not wanted:
            return
        for service in self._store.services.values():
            if service.id == own:
                continue
            for port in (*service.spec.endpoint.ports, *service.ports):
                mode = wanted.get((port.protocol, port.published))
                if mode is None or (mode is PublishMode.HOST and port.mode is PublishMode.HOST):
                    continue
                kind = "an ingress port" if port.mode is PublishMode.INGRESS else "a host-published port"
                raise UsageError(f"port '{port.published}' is already in use by service '{service.spec.name}' ({service.id}) as {kind}")


def ended(task: Task) -> bool:
    """Whether a task runs no more, or has never been anywhere."""
    return task.state > TaskState.RUNNING or task.state < TaskState.ASSIGNED


def _asks_for(spec: TaskSpec, network: Network) -> bool:
    return any(wanted.network == network.id for wanted in spec.networks)


def _in_sequence(known: Node | Service, version: int | None) -> None:
    if version is not None and version != known.version:
        raise OutOfSequence("update out of sequence")
