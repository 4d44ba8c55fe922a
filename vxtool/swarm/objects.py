"""What the control plane keeps: nodes, networks, services, tasks, each an immutable version.

The words and defaults of swarmkit (api/types.proto, api/specs.proto, api/defaults/service.go). A change makes a new object with `replace`; whoever
holds an old one holds what was true then. Times are seconds of the control plane's clock, which may be a simulated one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Interface

from vxtool.model import Availability, EndpointMode, NodeState, PublishMode, Role, ServiceMode, TaskState

__all__ = [
    "EndpointSpec",
    "FailureAction",
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
    version: int = 0


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
class TaskNetwork:
    """What a task asks for (a network and aliases), and what it was given."""

    network: str  # id
    aliases: tuple[str, ...] = ()
    address: IPv4Interface | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    image: str = ""
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    hostname: str = ""
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
    created_at: float = 0.0
    changed_at: float = 0.0  # when `state` last grew
    version: int = 0
