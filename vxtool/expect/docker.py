"""Docker's documents, recognised by their shape and read into facts.

One fact is what one document says of one thing; whether it is true beside the others is decided in assemble.py. Knows the JSON of the engine API
(docker/docker api/types) and the tables of the docker command (docker/cli cli/command/*/formatter.go).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vxtool.errors import ExpectationError
from vxtool.model import (
    MTU_OPTION,
    Address,
    Availability,
    EndpointMode,
    Mac,
    NodeState,
    Owner,
    Port,
    PublishMode,
    Role,
    ServiceMode,
    Subnet,
    TaskState,
    owner_of,
)

from .shapes import At, Interface
from .sources import Document, Table

__all__ = ["Facts", "is_docker", "read_docker"]

VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list"
_NODE_ID = "com.docker.swarm.node.id"
_TASK_ID = "com.docker.swarm.task.id"
_SERVICE_NAME = "com.docker.swarm.service.name"

VNI_LIMIT = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Attachment:
    """One entry of a network's `Containers`: an endpoint on the node that was asked."""

    container: str | None  # None for a load balancer
    name: str
    endpoint: str | None
    mac: Mac | None
    ip: Address
    ipv6: Address | None
    owner: Owner


@dataclass(frozen=True, slots=True)
class Backend:
    """One of the `Tasks` that `network inspect -v` lists, from the gossip: also of other nodes."""

    name: str
    endpoint: str | None
    ip: Address
    vtep: Address | None  # "Host IP" is the tunnel endpoint of the peer table (overlay.go DecodeTableEntry)
    owner: Owner


@dataclass(frozen=True, slots=True)
class Load:
    """One of the `Services` that `network inspect -v` lists."""

    name: str
    vip: Address | None
    ports: tuple[Port, ...]
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class NetworkFact:
    source: str
    hint: str
    serial: int
    id: str
    name: str
    created: str
    driver: str
    vnis: tuple[int, ...]
    subnets: tuple[Subnet, ...]
    mtu: int | None
    encrypted: bool
    internal: bool
    attachable: bool
    ingress: bool
    options: dict[str, str]
    labels: dict[str, str]
    attachments: tuple[Attachment, ...]
    loads: tuple[Load, ...] | None  # None: not verbose, or the node has not joined
    peers: frozenset[Address] | None


@dataclass(frozen=True, slots=True)
class NodeFact:
    source: str
    id: str | None
    hostname: str | None
    advertise: Address | None = None
    role: Role | None = None
    availability: Availability | None = None
    state: NodeState | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceFact:
    source: str
    name: str
    id: str | None = None
    version: int = 0
    mode: ServiceMode | None = None
    replicas: int | None = None
    endpoint_mode: EndpointMode | None = None
    vips: tuple[tuple[str, Interface], ...] = ()  # (network id, address with prefix length)
    ports: tuple[Port, ...] | None = None
    targets: tuple[tuple[str, tuple[str, ...]], ...] | None = None  # (network id or name, aliases)


@dataclass(frozen=True, slots=True)
class TaskFact:
    source: str
    id: str
    service: str | None = None
    service_id: str | None = None
    slot: int | None = None
    node_id: str | None = None
    hostname: str | None = None
    desired: TaskState | None = None
    observed: TaskState | None = None
    container: str | None = None
    addresses: tuple[tuple[str, Address], ...] = ()  # (network id, address)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerFact:
    """`docker inspect CONTAINER`."""

    source: str
    id: str
    name: str
    node_id: str | None
    task: str | None
    service: str | None
    attachments: tuple[tuple[str, str, Attachment], ...]  # (network name, network id, endpoint)


@dataclass(frozen=True, slots=True)
class Together:
    """`docker ps`: tasks and containers of one node, whichever it is."""

    source: str
    hint: str
    serial: int
    containers: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """An empty `[]`: the node that was asked does not have what it was asked for; only the file's name tells which."""

    source: str
    hint: str


@dataclass(slots=True)
class Facts:
    nodes: list[NodeFact] = field(default_factory=list)
    networks: list[NetworkFact] = field(default_factory=list)
    services: list[ServiceFact] = field(default_factory=list)
    tasks: list[TaskFact] = field(default_factory=list)
    containers: list[ContainerFact] = field(default_factory=list)
    together: list[Together] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    all_nodes: bool = False  # a list of all nodes was given
    data_path_port: int | None = None
    updated: list[str] = field(default_factory=list)  # CreatedAt, UpdatedAt: the documents are not older than the newest
    notes: list[str] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------------------------
# Recognition
# --------------------------------------------------------------------------------------------------------------------

_Reader = Callable[[Facts, At, Document], None]


def is_docker(item: At) -> bool:
    """Whether a JSON object is one of Docker's that tells something of a cluster."""
    return _reader(item) is not None


def read_docker(facts: Facts, document: Document) -> bool:
    """Adds what a document says to the facts; False when it is none of Docker's. ExpectationError when it is one, of the wrong shape."""
    body = document.body
    if isinstance(body, Table):
        _read_table(facts, body, document)
        return True
    if isinstance(body.value, list):
        items = list(body.items())
        if not items:
            facts.absent.append(Absent(document.source, document.hint))
            return True
    else:
        items = [body]
    readers = [_reader(item) for item in items]
    if not any(readers):
        return False
    for item, reader in zip(items, readers, strict=True):
        if reader is None:
            item.wrong("a network, node, service, task or container as `docker inspect` prints it")
        reader(facts, item, document)
    return True


def _reader(item: At) -> _Reader | None:
    return next((reader for keys, reader in _SHAPES if item.has(*keys)), None)


# --------------------------------------------------------------------------------------------------------------------
# JSON
# --------------------------------------------------------------------------------------------------------------------


def _network(facts: Facts, item: At, document: Document) -> None:
    name, driver, scope = item.get("Name").name(), item.get("Driver").text() or "", item.get("Scope").text() or ""
    if scope not in ("", "swarm") or driver in ("bridge", "host", "null", "macvlan", "ipvlan"):
        facts.notes.append(f"{document.source}: network {name} ({driver}, scope {scope or 'unknown'}) is no overlay of the swarm: passed over")
        return
    options = item.get("Options").texts()
    vnis = _vnis(item.get("Options", VNI_OPTION))
    mtu = options.get(MTU_OPTION)
    if mtu is not None and not re.fullmatch(r"[0-9]{2,5}", mtu):
        item.get("Options", MTU_OPTION).wrong("a number of bytes")
    subnets = []
    for config in item.get("IPAM", "Config").items():
        prefix = config.get("Subnet").prefix()
        if prefix is None:
            config.get("Subnet").wrong("a subnet like 10.0.1.0/24")
        gateway = config.get("Gateway").interface()
        subnets.append(Subnet(prefix, None if gateway is None else gateway.ip))
    attachments = tuple(_attachments(facts, item.get("Containers"), name))
    peers = frozenset(ip for peer in item.get("Peers").items() if (ip := peer.get("IP").address()) is not None)
    loads = None
    if item.get("Services").value is not None:
        loads = tuple(_load(key, load, name) for key, load in item.get("Services").members().items())
        if not loads and not peers and not attachments:
            loads = None
    created = item.get("Created").text() or ""
    facts.networks.append(
        NetworkFact(
            source=document.source,
            hint=document.hint,
            serial=len(facts.networks),
            id=item.get("Id").name(),
            name=name,
            created=created,
            driver=driver or "overlay",
            vnis=vnis,
            subnets=tuple(subnets),
            mtu=int(mtu) if mtu is not None else None,
            encrypted="encrypted" in options,
            internal=item.get("Internal").flag(),
            attachable=item.get("Attachable").flag(),
            ingress=item.get("Ingress").flag(),
            options=options,
            labels=item.get("Labels").texts(),
            attachments=attachments,
            loads=loads,
            peers=peers if item.get("Peers").value is not None else None,
        )
    )
    facts.updated.append(created)


def _vnis(option: At) -> tuple[int, ...]:
    text = option.text()
    if not text:
        return ()
    if not re.fullmatch(r"\s*[0-9]{1,8}\s*(,\s*[0-9]{1,8}\s*)*", text) or any(int(part) > VNI_LIMIT for part in text.split(",")):
        option.wrong("VNIs like 4097,4098")
    return tuple(int(part) for part in text.split(","))


def _attachments(facts: Facts, containers: At, network: str) -> Iterator[Attachment]:
    for key, entry in containers.members().items():
        name = entry.get("Name").text() or ""
        ip, ipv6 = entry.get("IPv4Address").interface(), entry.get("IPv6Address").interface()
        first = ip or ipv6
        if first is None:
            facts.notes.append(f"{entry.source}: {entry.where}: endpoint {name or key} has no address yet: passed over")
            continue
        owner = Owner(_LOAD_BALANCER) if key == f"lb-{network}" or key == "ingress-sbox" else owner_of(name, network)
        yield Attachment(
            container=None if owner.kind is _LOAD_BALANCER else key,
            name=name,
            endpoint=entry.get("EndpointID").text() or None,
            mac=entry.get("MacAddress").mac(),
            ip=first.ip,
            ipv6=ipv6.ip if ip is not None and ipv6 is not None else None,
            owner=owner,
        )


_LOAD_BALANCER = owner_of("x-endpoint", "x").kind


def _load(name: str, load: At, network: str) -> Load:
    vip = load.get("VIP")
    address = None if vip.value == "<nil>" else vip.address()
    ports = []
    for port in load.get("Ports").items():
        match = re.fullmatch(r"Target: (\d{1,5}), Publish: (\d{1,5})", port.text() or "")
        if not match:
            port.wrong('a text like "Target: 80, Publish: 8080"')
        ports.append(Port(int(match[1]), int(match[2]), protocol=None))
    backends = []
    for task in load.get("Tasks").items():
        ip = task.get("EndpointIP").address()
        if ip is None:
            continue  # a record without an address: the task is just coming or going
        task_name = task.get("Name").text() or ""
        vtep = task.get("Info", "Host IP").address()
        backends.append(Backend(task_name, task.get("EndpointID").text() or None, ip, vtep, owner_of(task_name, network)))
    return Load(name, address, tuple(ports), tuple(backends))


def _service(facts: Facts, item: At, document: Document) -> None:
    spec = item.get("Spec")
    mode, replicas = None, None
    for key, word in _MODES.items():
        if spec.get("Mode").has(key):
            mode = word
            replicas = spec.get("Mode", key, "Replicas").integer(0, 1 << 32) if word is ServiceMode.REPLICATED else None
            if word is ServiceMode.REPLICATED and replicas is None:
                replicas = 1
    stated = spec.get("EndpointSpec", "Mode").choice(EndpointMode) or item.get("Endpoint", "Spec", "Mode").choice(EndpointMode)
    # Endpoint.Ports holds what swarm chose where the specification leaves the number open.
    ports = item.get("Endpoint", "Ports") if item.get("Endpoint", "Ports").value is not None else spec.get("EndpointSpec", "Ports")
    vips = []
    for vip in item.get("Endpoint", "VirtualIPs").items():
        network, address = vip.get("NetworkID").name(), vip.get("Addr").interface()
        if address is not None:  # ingress VIPs of services without published ports have none
            vips.append((network, address))
    placed = spec.get("TaskTemplate", "Networks")
    placed = placed if placed.value is not None else spec.get("Networks")  # Spec.Networks: before API 1.25
    targets = [(target.get("Target").name(), tuple(alias.name() for alias in target.get("Aliases").items())) for target in placed.items()]
    facts.services.append(
        ServiceFact(
            source=document.source,
            name=spec.get("Name").name(),
            id=item.get("ID").name(),
            version=item.get("Version", "Index").integer(0, 1 << 63) or 0,
            mode=mode,
            replicas=replicas,
            endpoint_mode=stated or EndpointMode.VIP,
            vips=tuple(vips),
            ports=tuple(_port(port) for port in ports.items()),
            targets=tuple(targets),
        )
    )
    facts.updated += [item.get("CreatedAt").text() or "", item.get("UpdatedAt").text() or ""]


def _port(port: At) -> Port:
    return Port(
        target=port.get("TargetPort").integer(1, 65535) or port.get("TargetPort").wrong("a port number"),
        published=port.get("PublishedPort").integer(0, 65535) or None,
        protocol=(port.get("Protocol").text() or "tcp").lower(),
        mode=port.get("PublishMode").choice(PublishMode) or PublishMode.INGRESS,
    )


_MODES = {
    "Replicated": ServiceMode.REPLICATED,
    "Global": ServiceMode.GLOBAL,
    "ReplicatedJob": ServiceMode.REPLICATED_JOB,
    "GlobalJob": ServiceMode.GLOBAL_JOB,
}


def _node(facts: Facts, item: At, document: Document) -> None:
    address = _usable(item.get("Status", "Addr"))
    if address is None:  # a manager may know itself as 0.0.0.0 (moby/moby#32350): its raft address is the advertised one
        address = _usable(item.get("ManagerStatus", "Addr"))
    facts.nodes.append(
        NodeFact(
            source=document.source,
            id=item.get("ID").name(),
            hostname=item.get("Description", "Hostname").text() or None,
            advertise=address,
            role=item.get("Spec", "Role").choice(Role),
            availability=item.get("Spec", "Availability").choice(Availability),
            state=item.get("Status", "State").choice(NodeState),
            labels=item.get("Spec", "Labels").texts(),
        )
    )
    facts.updated += [item.get("CreatedAt").text() or "", item.get("UpdatedAt").text() or ""]


def _usable(item: At) -> Address | None:
    """An address other nodes can use; "10.0.0.1:2377" and "[fd00::1]:2377" too."""
    text = item.text()
    if not text:
        return None
    match = re.fullmatch(r"\[?([0-9A-Fa-f:.]*?)\]?(?::\d{1,5})?", text) if "." in text or text.startswith("[") else None
    address = At(match[1] if match else text, item.source, item.path).address()
    return None if address is None or address.is_unspecified or address.is_loopback else address


def _task(facts: Facts, item: At, document: Document) -> None:
    addresses = []
    for attachment in item.get("NetworksAttachments").items():
        network = attachment.get("Network", "ID").text()
        for address in attachment.get("Addresses").items():
            interface = address.interface()
            if network and interface is not None:
                addresses.append((network, interface.ip))
    facts.tasks.append(
        TaskFact(
            source=document.source,
            id=item.get("ID").name(),
            service_id=item.get("ServiceID").text() or None,
            slot=item.get("Slot").integer(0, 1 << 32) or None,
            node_id=item.get("NodeID").text() or None,
            desired=_state(item.get("DesiredState").text()),
            observed=_state(item.get("Status", "State").text()),
            container=item.get("Status", "ContainerStatus", "ContainerID").text() or None,
            addresses=tuple(addresses),
            error=item.get("Status", "Err").text() or None,
        )
    )
    facts.updated += [item.get("CreatedAt").text() or "", item.get("UpdatedAt").text() or ""]


def _container(facts: Facts, item: At, document: Document) -> None:
    labels = item.get("Config", "Labels").texts()
    name, identity = (item.get("Name").text() or "").removeprefix("/"), item.get("Id").name()
    attachments = []
    for network, entry in item.get("NetworkSettings", "Networks").members().items():
        ip, ipv6 = entry.get("IPAddress").address(), entry.get("GlobalIPv6Address").address()
        first = ip or ipv6
        if first is None:
            continue
        attachment = Attachment(
            identity,
            name,
            entry.get("EndpointID").text() or None,
            entry.get("MacAddress").mac(),
            first,
            ipv6 if ip else None,
            owner_of(name, network),
        )
        attachments.append((network, entry.get("NetworkID").text() or network, attachment))
    facts.containers.append(
        ContainerFact(
            source=document.source,
            id=identity,
            name=name,
            node_id=labels.get(_NODE_ID) or None,
            task=labels.get(_TASK_ID) or None,
            service=labels.get(_SERVICE_NAME) or None,
            attachments=tuple(attachments),
        )
    )


def _info(facts: Facts, item: At, document: Document) -> None:
    """`docker info --format '{{json .}}'`: of a manager it tells the data-path port, which nothing else does."""
    swarm = item.get("Swarm")
    identity = swarm.get("NodeID").text()
    if identity:
        facts.nodes.append(NodeFact(document.source, identity, item.get("Name").text() or None, _usable(swarm.get("NodeAddr"))))
    port = swarm.get("Cluster", "DataPathPort").integer(0, 65535)
    if swarm.get("Cluster").value is not None and port is not None:
        facts.data_path_port = port or 4789  # 0 is how an old cluster object says the default


def _task_line(facts: Facts, item: At, document: Document) -> None:
    """`docker service ps --format json`: the columns of the table as an object a line."""
    _task_row(facts, {key.upper(): value for key, value in _strings(item).items()}, document.source, "DESIREDSTATE", "CURRENTSTATE")


def _node_line(facts: Facts, item: At, document: Document) -> None:
    cells = _strings(item)
    _node_row(
        facts, cells["ID"], cells["Hostname"], cells.get("Status", ""), cells.get("Availability", ""), cells.get("ManagerStatus"), document.source
    )


def _service_line(facts: Facts, item: At, document: Document) -> None:
    cells = _strings(item)
    _service_row(facts, cells["ID"], cells["Name"], cells["Mode"], cells["Replicas"], cells.get("Ports", ""), document.source)


def _strings(item: At) -> dict[str, str]:
    return {key: member.value if isinstance(member.value, str) else "" for key, member in item.members().items()}


_SHAPES: tuple[tuple[tuple[str, ...], _Reader], ...] = (
    (("CurrentState", "DesiredState", "Node", "Name", "ID"), _task_line),
    (("Hostname", "Availability", "ID"), _node_line),
    (("Mode", "Replicas", "Name", "ID"), _service_line),
    (("IPAM", "Name"), _network),
    (("Scope", "Driver", "Containers"), _network),
    (("Spec", "Description", "Status"), _node),
    (("DesiredState", "NodeID"), _task),
    (("DesiredState", "ServiceID"), _task),
    (("NetworkSettings", "Id"), _container),
    (("Endpoint", "Spec"), _service),
    (("Swarm", "ServerVersion"), _info),
)
"""Keys that only one kind of document has, and its reader; the first that fits is taken."""


# --------------------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------------------


def _read_table(facts: Facts, table: Table, document: Document) -> None:
    columns = set(table.columns)
    containers: list[str] = []
    tasks: list[str] = []
    for number, cells in table.rows:
        source = f"{document.source}, line {number}"
        if "CURRENT STATE" in columns:
            _task_row(facts, cells, source, "DESIRED STATE", "CURRENT STATE")
        elif "HOSTNAME" in columns:
            identity = cells["ID"].removesuffix("*").strip()
            _node_row(facts, identity, cells["HOSTNAME"], cells["STATUS"], cells["AVAILABILITY"], cells["MANAGER STATUS"], source)
        elif "REPLICAS" in columns:
            _service_row(facts, cells["ID"], cells["NAME"], cells["MODE"], cells["REPLICAS"], cells.get("PORTS", ""), source)
        else:
            containers.append(cells["CONTAINER ID"])
            tasks += [task for name in cells["NAMES"].split(",") if (task := owner_of(name, "").task)]
    if containers:
        facts.together.append(Together(document.source, document.hint, len(facts.together), tuple(containers), tuple(tasks)))
    if "HOSTNAME" in columns:
        facts.all_nodes = True


def _task_row(facts: Facts, cells: dict[str, str], source: str, desired: str, current: str) -> None:
    # Earlier tasks of a slot stand under the newest as ` \_ web.1`.
    name = cells["NAME"].removeprefix("\\_").strip()
    service, _, place = name.rpartition(".")
    state = cells[current].split(" ", 1)[0]
    node = cells["NODE"]
    if not cells["ID"] or not service:
        raise ExpectationError(f"{source}: this row of `docker service ps` has no ID or no name like web.1")
    facts.tasks.append(
        TaskFact(
            source=source,
            id=cells["ID"],
            service=service,
            slot=int(place) if re.fullmatch(r"[0-9]{1,10}", place) else None,
            node_id=node if re.fullmatch("[0-9a-z]{25}", node) else None,
            hostname=None if not node or re.fullmatch("[0-9a-z]{25}", node) else node,
            desired=_state(cells[desired]),
            observed=_state(state),
            error=cells.get("ERROR", "").strip('"') or None,
        )
    )


def _state(text: str | None) -> TaskState | None:
    return TaskState.__members__.get((text or "").strip().upper())


def _node_row(facts: Facts, identity: str, hostname: str, status: str, availability: str, manager: str | None, source: str) -> None:
    if not identity or not hostname:
        raise ExpectationError(f"{source}: this row of `docker node ls` has no ID or no host name")
    facts.nodes.append(
        NodeFact(
            source=source,
            id=identity,
            hostname=hostname,
            role=None if manager is None else Role.MANAGER if manager else Role.WORKER,
            availability=Availability.__members__.get(availability.upper()),
            state=NodeState.__members__.get(status.upper()),
        )
    )


def _service_row(facts: Facts, identity: str, name: str, mode: str, replicas: str, ports: str, source: str) -> None:
    word = mode.replace(" ", "-").lower()
    known = ServiceMode(word) if word in [mode.value for mode in ServiceMode] else None
    wanted = re.match(r"\d{1,9}/(\d{1,9})", replicas)
    published = [
        Port(int(match[2]), int(match[1]), match[3], PublishMode.INGRESS) for match in re.finditer(r"\*:(\d{1,5})->(\d{1,5})/(tcp|udp|sctp)", ports)
    ]
    facts.services.append(
        ServiceFact(
            source=source,
            name=name,
            id=identity,
            version=-1,  # any `service inspect` knows better
            mode=known,
            replicas=int(wanted[1]) if wanted and known is ServiceMode.REPLICATED else None,
            # A range (*:80-81->80-81/tcp) is left to `service inspect`.
            ports=tuple(published) if len(published) == len([part for part in ports.split(",") if part.strip()]) else None,
        )
    )
