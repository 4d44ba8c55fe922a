"""What `docker ... inspect` prints of a swarm's objects: the same keys in the same order, with the same texts.

Knows views and the JSON of the engine API (docker/docker api/types, as engines of 19.03 and 20.10 write it); reads nothing and prints nothing. What
Docker leaves out when it is empty is left out here too. Ids of containers and endpoints, which no control plane knows, follow from names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Interface
from typing import Any

from vxtool.model import Role, ServiceMode, overlay_mac
from vxtool.swarm.allocator import VNI_OPTION
from vxtool.swarm.clusters import exists, load_balancer_name
from vxtool.swarm.identities import container_id, endpoint_id
from vxtool.swarm.objects import (
    EndpointSpec,
    HealthCheck,
    Network,
    NetworkSpec,
    Node,
    PortConfig,
    Resources,
    RestartPolicy,
    Service,
    ServiceSpec,
    Task,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
    UpdateStatus,
)
from vxtool.swarm.restart import JOBS
from vxtool.swarm.view import View

__all__ = ["OPTIONAL", "moment", "network", "node", "service", "task"]

Document = dict[str, Any]

RAFT_PORT = 2377

# fmt: off
OPTIONAL = frozenset((
    "Aliases", "Architecture", "Args", "AuxiliaryAddresses", "Command", "CompletedAt", "Constraints", "ContainerStatus",
    "Delay", "Dir", "Env", "Err", "GenericResources", "Healthcheck", "Hostname", "Hosts", "IPRange", "JobIteration",
    "JobStatus", "Labels", "Limits", "LogDriver", "ManagerStatus", "MaxReplicas", "MemoryBytes", "Message", "Nameservers",
    "NanoCPUs", "NetworksAttachments", "NodeID", "OS", "Options", "Peers", "Pids", "Platforms", "Plugins", "Ports",
    "Preferences", "PreviousSpec", "PublishedPort", "Reservations", "RollbackConfig", "Search", "ServiceID", "Services",
    "Slot", "StartedAt", "StopSignal", "UpdateConfig", "UpdateStatus", "User", "VirtualIPs", "Window", "Replicated", "Global",
    "ReplicatedJob", "GlobalJob", "Mode", "Networks", "StartPeriod",
))
# fmt: on
"""Keys that a document may lack."""


def moment(seconds: float) -> str:
    """`2026-11-28T20:13:55.5Z`: RFC 3339, no zeros at the end."""
    at = datetime.fromtimestamp(seconds, UTC)
    part = f".{at.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{at:%Y-%m-%dT%H:%M:%S}{part}Z"


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


def _given(**members: Any) -> Document:
    """Without what is empty, as Go's `omitempty`."""
    return {key: value for key, value in members.items() if value not in (None, "", 0, (), [], {}) or value is False}


def _sorted(mapping: Mapping[str, Any]) -> Document:
    return dict(sorted(mapping.items()))


# --------------------------------------------------------------------------------------------------------------------
# Nodes
# --------------------------------------------------------------------------------------------------------------------


def node(known: Node) -> Document:
    """`docker node inspect`."""
    has = known.resources or Resources()
    document = {
        "ID": known.id,
        "Version": {"Index": known.version},
        "CreatedAt": moment(known.created_at),
        "UpdatedAt": moment(known.created_at),
        "Spec": {"Labels": _sorted(known.labels), "Role": known.role.value, "Availability": known.availability.value},
        "Description": {
            "Hostname": known.hostname,
            "Platform": _given(Architecture=known.platform.arch, OS=known.platform.os) if known.platform is not None else {},
            "Resources": _resources(has),
            "Engine": _given(
                EngineVersion=known.engine_version,
                Labels=_sorted(known.engine_labels),
                Plugins=[{"Type": kind, "Name": name} for kind, name in sorted(known.plugins)],
            ),
            "TLSInfo": {},  # agents and manager of a lab speak without it
        },
        "Status": _given(State=known.state.value, Message=known.message, Addr=known.address),
    }
    if known.role is Role.MANAGER:
        document["ManagerStatus"] = {"Leader": True, "Reachability": "reachable", "Addr": f"{known.address}:{RAFT_PORT}"}
    return document


def _resources(resources: Resources) -> Document:
    generic = [{"DiscreteResourceSpec": {"Kind": kind, "Value": count}} for kind, count in sorted(resources.generic.items())]
    return _given(NanoCPUs=resources.nano_cpus, MemoryBytes=resources.memory_bytes, Pids=resources.pids, GenericResources=generic)


# --------------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------------


def network(view: View, known: Network, on: Node | None = None, verbose: bool = False) -> Document:
    """`docker network inspect`, asked of one node, the manager unless it is told: that node's endpoints are listed, and no others."""
    on = on or view.manager
    spec = known.spec
    local = on is not None and _is_member(on, known)
    vnis = ",".join(str(subnet.vni) for subnet in known.subnets)
    document: Document = {
        "Name": spec.name,
        "Id": known.id,
        "Created": moment(known.created_at),
        "Scope": "swarm",
        "Driver": spec.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": _subnets(known)},
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": _sorted(_containers(view, known, on)) if local and on is not None else None,
        "Options": _sorted({**spec.options, **({VNI_OPTION: vnis} if vnis else {})}),
        "Labels": _sorted(spec.labels) if spec.labels or local else None,
    }
    if local:
        members = [member for member in view.nodes.values() if _is_member(member, known)]
        document["Peers"] = [{"Name": member.id[:12], "IP": member.address} for member in members]
        if verbose:
            document["Services"] = _sorted(_loads(view, known))
    return document


def _is_member(known: Node, network_: Network) -> bool:
    return any(attachment.network == network_.id for attachment in known.attachments)


def _subnets(known: Network) -> list[Document]:
    asked = known.spec.subnets
    if not known.subnets:  # not allocated yet: what was asked for
        return [_given(Subnet=one.subnet, IPRange=one.range, Gateway=one.gateway, AuxiliaryAddresses=_sorted(one.reserved)) for one in asked]
    found = []
    for number, subnet in enumerate(known.subnets):
        more = asked[number] if number < len(asked) else None
        config = _given(Subnet=str(subnet.prefix), IPRange=more.range if more else "", Gateway=str(subnet.gateway))
        found.append({**config, **_given(AuxiliaryAddresses=_sorted(more.reserved) if more else {})})
    return found


def _containers(view: View, known: Network, on: Node) -> Document:
    host, name = on.hostname or on.id, known.spec.name
    found = {}
    for one in view.tasks_on.get(on.id, ()):
        if exists(one) and (address := _address(one.networks, known.id)) is not None:
            label = view.task_name(one)
            found[container_id(host, label)] = _endpoint(label, endpoint_id(name, host, label), address)
    balancer = _address(on.attachments, known.id)
    if balancer is not None:
        label = load_balancer_name(name)
        found["ingress-sbox" if known.spec.ingress else f"lb-{name}"] = _endpoint(label, endpoint_id(name, host, label), balancer)
    return found


def _endpoint(name: str, id: str, address: IPv4Interface) -> Document:
    return {"Name": name, "EndpointID": id, "MacAddress": str(overlay_mac(address.ip)), "IPv4Address": str(address), "IPv6Address": ""}


def _address(attachments: Sequence[TaskNetwork], network_id: str) -> IPv4Interface | None:
    return next((one.address for one in attachments if one.network == network_id and one.address is not None), None)


def _loads(view: View, known: Network) -> Document:
    """`Services` of `network inspect -v`: what the gossip tells every member. What belongs to no service stands under the empty name."""
    found: Document = {}
    alone: list[Document] = []
    for each in view.nodes.values():
        for one in view.tasks_on.get(each.id, ()):
            address = _address(one.networks, known.id)
            if exists(one) and address is not None and one.service not in view.services:
                alone.append(_backend(known, each, view.task_name(one), address))
        balancer = _address(each.attachments, known.id)
        if known.spec.ingress and balancer is not None:
            alone.append(_backend(known, each, load_balancer_name(known.spec.name), balancer))
    if alone:
        found[""] = {"VIP": "<nil>", "Ports": [], "LocalLBIndex": 0, "Tasks": alone}
    for number, offered in enumerate(sorted(view.services.values(), key=lambda one: one.created_at)):
        tasks = []
        for one in view.tasks_of.get(offered.id, ()):
            address, host = _address(one.networks, known.id), view.nodes.get(one.node)
            if exists(one) and address is not None and host is not None:
                tasks.append(_backend(known, host, view.task_name(one), address))
        if tasks:
            vip = next((address for id, address in offered.vips if id == known.id), None)
            ports = [f"Target: {port.target}, Publish: {port.published}" for port in offered.ports if known.spec.ingress]
            # Firewall marks count from 256 up, in the order in which a node hears of services.
            found[offered.spec.name] = {"VIP": str(vip.ip) if vip else "<nil>", "Ports": ports, "LocalLBIndex": 256 + number, "Tasks": tasks}
    return found


def _backend(known: Network, on: Node, name: str, address: IPv4Interface) -> Document:
    id = endpoint_id(known.spec.name, on.hostname or on.id, name)
    return {"Name": name, "EndpointID": id, "EndpointIP": str(address.ip), "Info": {"Host IP": on.address}}


# --------------------------------------------------------------------------------------------------------------------
# Services
# --------------------------------------------------------------------------------------------------------------------


def service(known: Service) -> Document:
    """`docker service inspect`."""
    document: Document = {
        "ID": known.id,
        "Version": {"Index": known.version},
        "CreatedAt": moment(known.created_at),
        "UpdatedAt": moment(known.updated_at),
        "Spec": _service_spec(known.spec),
    }
    if known.previous_spec is not None:
        document["PreviousSpec"] = _service_spec(known.previous_spec)
    allocated = known.ports or known.vips
    document["Endpoint"] = {
        # Without ports and virtual addresses there is nothing to allocate: what was asked of it is not repeated.
        "Spec": _endpoint_spec(known.spec.endpoint) if allocated else {},
        **_given(
            Ports=[_port(port) for port in known.ports],
            VirtualIPs=[{"NetworkID": id, "Addr": str(address)} for id, address in known.vips],
        ),
    }
    if known.update_status is not None:
        document["UpdateStatus"] = _update_status(known.update_status)
    if known.spec.mode in JOBS:
        document["JobStatus"] = {"JobIteration": _given(Index=known.job_iteration), "LastExecution": moment(known.job_started_at)}
    return document


def _service_spec(spec: ServiceSpec) -> Document:
    return {
        "Name": spec.name,
        "Labels": _sorted(spec.labels),
        "TaskTemplate": _task_spec(spec.task),
        "Mode": _mode(spec),
        "UpdateConfig": _update_config(spec.update),  # also of a job, which is never updated so
        "RollbackConfig": _update_config(spec.rollback),
        "EndpointSpec": _endpoint_spec(spec.endpoint),
    }


def _mode(spec: ServiceSpec) -> Document:
    if spec.mode is ServiceMode.REPLICATED:
        return {"Replicated": {"Replicas": spec.replicas}}
    if spec.mode is ServiceMode.REPLICATED_JOB:
        return {"ReplicatedJob": {"MaxConcurrent": spec.max_concurrent or spec.replicas, "TotalCompletions": spec.replicas}}
    return {"Global" if spec.mode is ServiceMode.GLOBAL else "GlobalJob": {}}


def _update_config(update: UpdateConfig) -> Document:
    return {
        "Parallelism": update.parallelism,
        **_given(Delay=nanoseconds(update.delay)),
        "FailureAction": update.failure_action.value,
        **_given(Monitor=nanoseconds(update.monitor)),
        "MaxFailureRatio": _number(update.max_failure_ratio),
        "Order": update.order.value,
    }


def _number(value: float) -> float:
    """Go writes 0, not 0.0."""
    return int(value) if value == int(value) else value


def _update_status(status: UpdateStatus) -> Document:
    return _given(
        State=status.state.value,
        StartedAt=moment(status.started_at) if status.started_at is not None else None,
        CompletedAt=moment(status.completed_at) if status.completed_at is not None else None,
        Message=status.message,
    )


def _endpoint_spec(endpoint: EndpointSpec) -> Document:
    return {"Mode": endpoint.mode.value, **_given(Ports=[_port(port) for port in endpoint.ports])}


def _port(port: PortConfig) -> Document:
    published = {"PublishedPort": port.published} if port.published else {}
    return {"Protocol": port.protocol, "TargetPort": port.target, **published, "PublishMode": port.mode.value}


def _task_spec(spec: TaskSpec) -> Document:
    placement = spec.placement
    return {
        "ContainerSpec": _container_spec(spec),
        "Resources": {"Limits": _resources(spec.limits), "Reservations": _resources(spec.reservations)},
        "RestartPolicy": _restart(spec.restart),
        "Placement": _given(
            Constraints=list(placement.constraints),
            Preferences=[{"Spread": {"SpreadDescriptor": descriptor}} for descriptor in placement.preferences],
            MaxReplicas=placement.max_replicas,
            Platforms=[_given(Architecture=platform.arch, OS=platform.os) for platform in placement.platforms],
        ),
        **_given(
            Networks=[_given(Target=wanted.network, Aliases=list(wanted.aliases)) for wanted in spec.networks],
            LogDriver={"Name": spec.log_driver} if spec.log_driver is not None else None,
        ),
        "ForceUpdate": spec.force_update,
        "Runtime": "container",
    }


def _container_spec(spec: TaskSpec) -> Document:
    return {
        "Image": spec.image,
        **_given(
            Labels=_sorted(spec.labels),
            Command=list(spec.command),
            Args=list(spec.args),
            Hostname=spec.hostname,
            Env=list(spec.env),
            Dir=spec.workdir,
            User=spec.user,
        ),
        "Init": False,
        **_given(StopSignal=spec.stop_signal),
        "StopGracePeriod": nanoseconds(spec.stop_grace),
        **_given(Healthcheck=_health(spec.health) if spec.health is not None else None, Hosts=[_hosts_line(text) for text in spec.hosts]),
        "DNSConfig": _given(Nameservers=list(spec.dns.nameservers), Search=list(spec.dns.search), Options=list(spec.dns.options)),
        "Isolation": "default",
    }


def _hosts_line(text: str) -> str:
    """`db:10.0.0.1` as /etc/hosts has it."""
    name, _, address = text.partition(":")
    return f"{address} {name}"


def _health(check: HealthCheck) -> Document:
    if check.test == ("NONE",):
        return {"Test": ["NONE"]}
    return _given(
        Test=list(check.test),
        Interval=nanoseconds(check.interval),
        Timeout=nanoseconds(check.timeout),
        StartPeriod=nanoseconds(check.start_period),
        Retries=check.retries,
    )


def _restart(policy: RestartPolicy) -> Document:
    window = _given(Window=nanoseconds(policy.window))
    return {"Condition": policy.condition.value, "Delay": nanoseconds(policy.delay), "MaxAttempts": policy.max_attempts, **window}


# --------------------------------------------------------------------------------------------------------------------
# Tasks
# --------------------------------------------------------------------------------------------------------------------


def task(view: View, known: Task) -> Document:
    """`docker inspect TASK`."""
    host = view.nodes.get(known.node)
    document: Document = {
        "ID": known.id,
        "Version": {"Index": known.version},
        "CreatedAt": moment(known.created_at),
        "UpdatedAt": moment(known.changed_at),
        "Labels": {},
        "Spec": _task_spec(known.spec),
        **_given(ServiceID=known.service, Slot=known.slot, NodeID=known.node),
        "Status": {
            "Timestamp": moment(known.changed_at),
            "State": known.state.name.lower(),
            **_given(Message=known.message, Err=known.error),
            **({"ContainerStatus": {"ContainerID": view.container_id(known)}} if exists(known) and host else {}),
            "PortStatus": _given(Ports=[_port(port) for port in known.endpoint.ports if port.mode.value == "host" and exists(known)]),
        },
        "DesiredState": known.desired.name.lower(),
    }
    attached = [_attachment(view.networks[one.network], one) for one in known.networks if one.network in view.networks]
    document |= _given(NetworksAttachments=attached)
    if known.job_iteration is not None:
        document["JobIteration"] = _given(Index=known.job_iteration)
    return document


def _attachment(known: Network, attachment: TaskNetwork) -> Document:
    vnis = ",".join(str(subnet.vni) for subnet in known.subnets)
    return {
        "Network": {
            "ID": known.id,
            "Version": {"Index": known.version},
            "CreatedAt": moment(known.created_at),
            "UpdatedAt": moment(known.created_at),
            "Spec": _network_spec(known.spec),
            "DriverState": {"Name": known.spec.driver, "Options": _sorted({**known.spec.options, VNI_OPTION: vnis})},
            "IPAMOptions": {"Driver": {"Name": "default"}, **_given(Configs=_subnets(known))},
        },
        **_given(Addresses=[str(attachment.address)] if attachment.address is not None else []),
    }


def _network_spec(spec: NetworkSpec) -> Document:
    return {
        "Name": spec.name,
        "Labels": _sorted(spec.labels),
        "DriverConfiguration": {"Name": spec.driver},
        **_given(Ingress=spec.ingress or None, Attachable=spec.attachable or None, Internal=spec.internal or None),
        "IPAMOptions": {"Driver": {"Name": "default"}},
        "Scope": "swarm",
    }
