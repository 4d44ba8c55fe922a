"""What the control plane keeps: nodes, networks, services, tasks, each an immutable version.

The words and defaults of swarmkit (api/types.proto, api/specs.proto, api/defaults/service.go). A change makes a new object with `replace`; whoever
holds an old one holds what was true then. Times are seconds of the control plane's clock, which may be a simulated one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vxtool.model import Availability, EndpointMode, NodeState, PublishMode, Role, ServiceMode, TaskState

__all__ = [
    "Dns",
    "EndpointSpec",
    "FailureAction",
    "HealthCheck",
    "Network",
    "NetworkSpec",
    "NetworkSubnet",
    "Node",
    "Order",
    "Placement",
    "Platform",
    "PortConfig",
    "Resources",
    "RestartCondition",
    "RestartPolicy",
    "Service",
    "ServiceSpec",
    "Settings",
    "SubnetSpec",
    "SwarmInfo",
    "Task",
    "TaskNetwork",
    "TaskSpec",
    "UpdateConfig",
    "UpdateState",
    "UpdateStatus",
]


class RestartCondition(StrEnum):
    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


class FailureAction(StrEnum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


class Order(StrEnum):
    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class UpdateState(StrEnum):
    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"


@dataclass(frozen=True, slots=True)
class Platform:
    os: str = ""
    arch: str = ""  # as the engine says it: x86_64 and amd64 are the same to the scheduler, not to a constraint


@dataclass(frozen=True, slots=True)
class Resources:
    nano_cpus: int = 0  # billionths of a processor
    memory_bytes: int = 0
    generic: Mapping[str, int] = field(default_factory=dict, hash=False)  # discrete ones: kind -> how many
    pids: int = 0  # processes and threads; only a limit


@dataclass(frozen=True, slots=True)
class TaskNetwork:
    """What a task asks for (a network and aliases), and what it, or a node's load balancer, was given."""

    network: str  # id
    aliases: tuple[str, ...] = ()
    address: IPv4Interface | None = None


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    hostname: str = ""
    address: str = ""  # what node.ip is compared with
    role: Role = Role.WORKER
    availability: Availability = Availability.ACTIVE
    state: NodeState = NodeState.READY
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    described: bool = True  # False: its agent has never reported what it is; the rest is then empty
    engine_labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    resources: Resources | None = None  # None: nothing that could be reserved
    plugins: tuple[tuple[str, str], ...] = ()  # (type, name): ("Network", "overlay")
    engine_version: str = ""
    attachments: tuple[TaskNetwork, ...] = ()  # the addresses of its load balancers
    message: str = ""  # why it is in its state
    version: int = 0
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SubnetSpec:
    """What `network create --subnet --gateway --ip-range` asks for; "": left to swarm."""

    subnet: str = ""
    gateway: str = ""
    range: str = ""
    reserved: Mapping[str, str] = field(default_factory=dict, hash=False)  # --aux-address: name -> an address that nobody is given


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    name: str
    driver: str = "overlay"
    subnets: tuple[SubnetSpec, ...] = ()
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    options: Mapping[str, str] = field(default_factory=dict, hash=False)  # the driver's
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class NetworkSubnet:
    prefix: IPv4Network
    gateway: IPv4Address
    vni: int


@dataclass(frozen=True, slots=True)
class Network:
    id: str
    spec: NetworkSpec
    subnets: tuple[NetworkSubnet, ...] = ()  # (): not allocated yet
    error: str = ""  # why it is not
    version: int = 0
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    condition: RestartCondition = RestartCondition.ANY
    delay: float = 5.0
    max_attempts: int = 0  # 0: no limit
    window: float = 0.0  # how far back attempts count; 0: for ever


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    parallelism: int = 1  # 0: all at once
    delay: float = 0.0
    failure_action: FailureAction = FailureAction.PAUSE
    monitor: float = 5.0
    max_failure_ratio: float = 0.0
    order: Order = Order.STOP_FIRST


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    state: UpdateState
    message: str
    started_at: float | None = None
    completed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()  # spread descriptors: "node.labels.az"
    max_replicas: int = 0  # per node; 0: no limit
    platforms: tuple[Platform, ...] = ()  # what the image runs on; (): anywhere


@dataclass(frozen=True, slots=True)
class PortConfig:
    target: int
    published: int = 0  # 0: chosen by swarm
    protocol: str = "tcp"
    mode: PublishMode = PublishMode.INGRESS


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a container is asked whether it is well. `test` as Docker has it: ("CMD", "prog", "arg"), ("CMD-SHELL", "line"), ("NONE",)."""

    test: tuple[str, ...] = ()
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0  # failures in it do not count
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Dns:
    """What is written into a container's resolv.conf instead of the node's."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskSpec:
    image: str = ""
    command: tuple[str, ...] = ()  # in place of the image's entrypoint
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)  # the container's
    hostname: str = ""
    workdir: str = ""
    user: str = ""
    hosts: tuple[str, ...] = ()  # "NAME:ADDRESS", lines of /etc/hosts
    dns: Dns = Dns()
    health: HealthCheck | None = None
    stop_signal: str = ""  # "": SIGTERM
    container: str = ""  # the name of a container that belongs to no service (`vxtool run`)
    reservations: Resources = Resources()
    limits: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    networks: tuple[TaskNetwork, ...] = ()
    log_driver: str | None = None  # None: the engine's own
    network_drivers: tuple[str, ...] = ()
    volume_drivers: tuple[str, ...] = ()
    stop_grace: float = 10.0
    force_update: int = 0
    registry_auth: str = ""  # how the image is pulled (PullOptions)


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    mode: EndpointMode = EndpointMode.VIP
    ports: tuple[PortConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    name: str
    task: TaskSpec = TaskSpec()
    mode: ServiceMode = ServiceMode.REPLICATED
    replicas: int = 1  # of a replicated job: total completions
    max_concurrent: int = 0  # of a replicated job; 0: as many as there are completions
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    endpoint: EndpointSpec = EndpointSpec()


@dataclass(frozen=True, slots=True)
class Service:
    """`spec_version` is the version at which `spec` was set: tasks carry it, and are grouped by it. None where nobody counts versions."""

    id: str
    spec: ServiceSpec
    spec_version: int | None = 0
    previous_spec: ServiceSpec | None = None
    previous_spec_version: int | None = None
    update_status: UpdateStatus | None = None
    vips: tuple[tuple[str, IPv4Interface], ...] = ()  # (network id, address)
    ports: tuple[PortConfig, ...] = ()  # as allocated
    job_iteration: int = 0  # grows when a job is to be run again
    job_started_at: float = 0.0
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt to run a slot's work. `state` only grows; `desired` says where it is meant to go."""

    id: str
    service: str = ""  # id
    slot: int = 0  # from 1; 0: of a global service, its slot is the node
    node: str = ""  # id; "": not placed yet. A global service's task is born with it
    spec: TaskSpec = TaskSpec()
    spec_version: int | None = 0
    endpoint: EndpointSpec = EndpointSpec()
    state: TaskState = TaskState.NEW
    desired: TaskState = TaskState.RUNNING
    message: str = ""
    error: str = ""
    networks: tuple[TaskNetwork, ...] = ()
    job_iteration: int | None = None  # None: its service is no job
    created_at: float = 0.0
    changed_at: float = 0.0  # when `state` last grew
    version: int = 0

    def told(
        self,
        state: TaskState,
        message: str,
        now: float,
        error: str = "",
        node: str | None = None,
        networks: tuple[TaskNetwork, ...] | None = None,
    ) -> Task:
        """The task with a new status. What `replace` would make, in half its time: a million tasks go through it twice."""
        return Task(
            self.id,
            self.service,
            self.slot,
            self.node if node is None else node,
            self.spec,
            self.spec_version,
            self.endpoint,
            state,
            self.desired,
            message,
            error,
            self.networks if networks is None else networks,
            self.job_iteration,
            self.created_at,
            now,
            self.version,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What `swarm init` and `swarm update` say, with the defaults of swarmkit (manager/manager.go, api/defaults)."""

    history_limit: int = 5  # tasks kept of a slot; negative: all
    heartbeat: float = 5.0
    grace: int = 3  # missed heartbeats until a node is down
    orphan_after: float = 86_400.0
    old_task_timeout: float = 60.0
    pools: tuple[tuple[str, int], ...] = ()  # (base, prefix length of a network); (): 10.0.0.0/8 cut into /24
    data_path_port: int = 4789


@dataclass(frozen=True, slots=True)
class SwarmInfo:
    """The swarm itself: what `swarm init` made, and `swarm update` changes."""

    id: str = ""
    created_at: float = 0.0
    settings: Settings = Settings()
    worker_token: str = ""  # with which a node joins
    manager_token: str = ""
