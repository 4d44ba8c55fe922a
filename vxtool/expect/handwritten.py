"""vxtool-expect@1: a Cluster written down by a person, as YAML or JSON, and written out for one.

Reading and writing are inverse: `parse(dump(cluster)) == cluster` for every cluster. The rule that keeps files short: a field that is left out means
what Docker's rules give (a MAC of its address, an MTU of its network, the kind of an endpoint of its name), else "not known"; a field written as
null is not known, whatever the rules give. docs/expectations.md shows it by example, schema.json is its JSON Schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from vxtool.errors import ExpectationError
from vxtool.model import (
    Address,
    Availability,
    Cluster,
    Endpoint,
    EndpointKind,
    EndpointMode,
    Forwarding,
    Network,
    Node,
    NodeState,
    Orchestrator,
    Owner,
    Port,
    PublishMode,
    Role,
    Service,
    ServiceMode,
    Subnet,
    Task,
    TaskState,
    Vip,
    overlay_mac,
    overlay_mtu,
    owner_of,
)

from .shapes import At

__all__ = ["KEYS", "SCHEMA", "is_handwritten", "read_handwritten", "to_tree", "to_yaml"]

SCHEMA = "vxtool-expect@1"

KEYS: Mapping[str, frozenset[str]] = {
    kind: frozenset(keys.split())
    for kind, keys in {
        "cluster": "schema orchestrator data_path_port nodes networks endpoints services tasks unassigned missing contradictions notes",
        "node": "name id hostname advertise data_path role availability state labels derived",
        "network": "name id driver vni subnets mtu encrypted internal attachable ingress forwarding options labels "
        "members complete complete_nodes tasks_complete derived",
        "subnet": "subnet gateway",
        "endpoint": "network ip name mac node kind service task container id ipv6 derived",
        "service": "name id mode replicas endpoint_mode vips ports networks aliases backends derived",
        "port": "target published protocol mode",
        "task": "id service slot node desired observed container addresses error",
    }.items()
}
"""Every key that each kind of object may have; schema.json lists the same."""

_VNI_LIMIT = (1 << 24) - 1
_PORT = re.compile(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp|sctp))?")


def is_handwritten(item: At) -> bool:
    text = item.value.get("schema") if isinstance(item.value, dict) else None
    return isinstance(text, str) and text.startswith("vxtool-expect@")


# --------------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------------


def read_handwritten(document: At) -> Cluster:
    """The cluster of one vxtool-expect@1 document. ExpectationError with file, line (YAML) and path of what is wrong."""
    document.only(KEYS["cluster"])
    if document.get("schema").text() != SCHEMA:
        document.get("schema").wrong(f"{SCHEMA!r}, the only version there is,")
    nodes = tuple(_node(item) for item in document.get("nodes").items())
    _once(document.get("nodes"), [node.name for node in nodes])
    names = {node.name for node in nodes}
    networks = tuple(_network(item, names) for item in document.get("networks").items())
    _once(document.get("networks"), [network.name for network in networks])
    by_name = {network.name: network for network in networks}
    services = tuple(_service(item, by_name) for item in document.get("services").items())
    _once(document.get("services"), [service.name for service in services])
    tasks = tuple(_task(item, names, by_name) for item in document.get("tasks").items())
    return Cluster(
        orchestrator=document.get("orchestrator").choice(Orchestrator) or Orchestrator.SWARM,
        nodes=nodes,
        networks=networks,
        endpoints=tuple(_endpoint(item, by_name, names) for item in document.get("endpoints").items()),
        services=services,
        tasks=tasks,
        data_path_port=document.get("data_path_port").integer(1, 65535),
        unassigned=frozenset(_some(item.address(), item, "an IP address") for item in document.get("unassigned").items()),
        missing=_sentences(document.get("missing")),
        contradictions=_sentences(document.get("contradictions")),
        notes=_sentences(document.get("notes")),
    )


def _node(item: At) -> Node:
    item.only(KEYS["node"])
    advertise = item.get("advertise").address()
    data_path, derived = item.get("data_path").address(), frozenset(_texts(item.get("derived")))
    if not item.has("data_path") and advertise is not None:
        data_path, derived = advertise, derived | {"data_path"}
    return Node(
        name=item.get("name").name(),
        id=item.get("id").text(),
        hostname=item.get("hostname").text(),
        advertise=advertise,
        data_path=data_path,
        role=item.get("role").choice(Role),
        availability=item.get("availability").choice(Availability),
        state=item.get("state").choice(NodeState),
        labels=item.get("labels").texts(),
        derived=derived,
    )


def _network(item: At, nodes: set[str]) -> Network:
    item.only(KEYS["network"])
    driver = item.get("driver").text() or "overlay"
    encrypted, complete = item.get("encrypted").flag(), item.get("complete").flag()
    mtu, derived = item.get("mtu").integer(68, 65535), frozenset(_texts(item.get("derived")))
    if not item.has("mtu") and driver == "overlay":
        mtu, derived = overlay_mtu(encrypted), derived | {"mtu"}
    vni = item.get("vni")
    vnis = [vni] if isinstance(vni.value, int) else list(vni.items())
    members = frozenset(_node_names(item.get("members"), nodes)) if item.get("members").value is not None else None
    return Network(
        name=item.get("name").name(),
        id=item.get("id").text(),
        driver=driver,
        vnis=tuple(_some(one.integer(0, _VNI_LIMIT), one, "a VNI") for one in vnis),
        subnets=tuple(_subnet(subnet) for subnet in item.get("subnets").items()),
        mtu=mtu,
        encrypted=encrypted,
        internal=item.get("internal").flag(),
        attachable=item.get("attachable").flag(),
        ingress=item.get("ingress").flag(),
        forwarding=item.get("forwarding").choice(Forwarding) or Forwarding.BRIDGED,
        options=item.get("options").texts(),
        labels=item.get("labels").texts(),
        members=members,
        complete=complete,
        complete_nodes=frozenset(_node_names(item.get("complete_nodes"), nodes)) if item.has("complete_nodes") else _all(complete, nodes),
        tasks_complete=item.get("tasks_complete").flag() if item.has("tasks_complete") else complete,
        derived=derived,
    )


def _all(complete: bool, nodes: set[str]) -> frozenset[str]:
    return frozenset(nodes) if complete else frozenset()


def _subnet(item: At) -> Subnet:
    if isinstance(item.value, str):
        return Subnet(_some(item.prefix(), item, "a subnet like 10.0.1.0/24"))
    item.only(KEYS["subnet"])
    prefix = item.get("subnet")
    return Subnet(_some(prefix.prefix(), prefix, "a subnet like 10.0.1.0/24"), item.get("gateway").address())


def _endpoint(item: At, networks: Mapping[str, Network], nodes: set[str]) -> Endpoint:
    item.only(KEYS["endpoint"])
    network = networks.get(item.get("network").name())
    if network is None:
        item.get("network").wrong(f"the name of a network of this file ({', '.join(sorted(networks)) or 'there is none'})")
    ip = _some(item.get("ip").address(), item.get("ip"), "an IP address")
    name = item.get("name").text() or ""
    mac, derived = item.get("mac").mac(), frozenset(_texts(item.get("derived")))
    ruled = _ruled_mac(network, ip)
    if not item.has("mac") and ruled is not None:
        mac, derived = ruled, derived | {"mac"}
    owner = _owner(name, network.name)
    return Endpoint(
        network=network.name,
        ip=ip,
        name=name,
        mac=mac,
        node=_node_name(item.get("node"), nodes),
        kind=item.get("kind").choice(EndpointKind) or owner.kind,
        service=item.get("service").text() if item.has("service") else owner.service,
        task=item.get("task").text() if item.has("task") else owner.task,
        container=item.get("container").text(),
        id=item.get("id").text(),
        ipv6=item.get("ipv6").address(),
        derived=derived,
    )


def _ruled_mac(network: Network, ip: Address) -> Any:
    return overlay_mac(ip) if network.driver == "overlay" else None


def _owner(name: str, network: str) -> Owner:
    """What a name says by itself; web.1, which people write for a task whose id they do not care about, too."""
    owner = owner_of(name, network)
    if owner.kind is EndpointKind.CONTAINER and (match := re.fullmatch(r"(.+)\.([1-9][0-9]{0,9})", name)):
        return Owner(EndpointKind.TASK, match[1], slot=int(match[2]))
    return owner


def _service(item: At, networks: Mapping[str, Network]) -> Service:
    item.only(KEYS["service"])
    name = item.get("name").name()
    aliases = []
    for network, names in item.get("aliases").members().items():
        aliases += [(network, alias.name()) for alias in names.items()]
    backends = item.get("backends")
    return Service(
        name=name,
        id=item.get("id").text(),
        mode=item.get("mode").choice(ServiceMode),
        replicas=item.get("replicas").integer(0, 1 << 32),
        endpoint_mode=item.get("endpoint_mode").choice(EndpointMode),
        vips=tuple(Vip(network, address) for network, address in _placed(item.get("vips"), networks)),
        ports=tuple(_port(port) for port in item.get("ports").items()),
        networks=_texts(item.get("networks")),
        aliases=tuple(aliases),
        backends=None if backends.value is None else tuple(_some(one.address(), one, "an IP address") for one in backends.items()),
        derived=frozenset(_texts(item.get("derived"))),
    )


def _port(item: At) -> Port:
    if isinstance(item.value, (str, int)) and not isinstance(item.value, bool):
        match = _PORT.fullmatch(str(item.value))
        if not match or not all(0 < int(number) < 65536 for number in (match[1] or match[2], match[2])):
            item.wrong("a port like 8080:80/tcp (published:target/protocol)")
        return Port(int(match[2]), int(match[1]) if match[1] else None, match[3] or "tcp")
    item.only(KEYS["port"])
    target = item.get("target")
    return Port(
        target=_some(target.integer(1, 65535), target, "a port number"),
        published=item.get("published").integer(1, 65535),
        protocol=item.get("protocol").text() if item.has("protocol") else "tcp",
        mode=item.get("mode").choice(PublishMode) or PublishMode.INGRESS,
    )


def _task(item: At, nodes: set[str], networks: Mapping[str, Network]) -> Task:
    item.only(KEYS["task"])
    return Task(
        id=item.get("id").name(),
        service=item.get("service").text(),
        slot=item.get("slot").integer(0, 1 << 32),
        node=_node_name(item.get("node"), nodes),
        desired=_state(item.get("desired")),
        observed=_state(item.get("observed")),
        container=item.get("container").text(),
        addresses=tuple(_placed(item.get("addresses"), networks)),
        error=item.get("error").text(),
    )


def _state(item: At) -> TaskState | None:
    text = item.text()
    if text is None:
        return None
    state = TaskState.__members__.get(text.upper())
    return state if state is not None else item.wrong(f"one of {', '.join(name.lower() for name in TaskState.__members__)}")


def _placed(item: At, networks: Mapping[str, Network]) -> Iterable[tuple[str, Address]]:
    """`{web: 10.0.1.2}` or `{web: [10.0.1.2, fd00::2]}`"""
    for network, value in item.members().items():
        if network not in networks:
            value.refuse(f"no network is called so in this file ({', '.join(sorted(networks)) or 'there is none'})")
        for one in [value] if isinstance(value.value, str) else value.items():
            yield network, _some(one.address(), one, "an IP address")


def _node_name(item: At, nodes: set[str]) -> str | None:
    name = item.text()
    if name is not None and name not in nodes:
        item.wrong(f"the name of a node of this file ({', '.join(sorted(nodes)) or 'there is none'})")
    return name


def _node_names(item: At, nodes: set[str]) -> list[str]:
    return [_some(_node_name(one, nodes), one, "the name of a node") for one in item.items()]


def _some(value: Any, item: At, wanted: str) -> Any:
    return value if value is not None else item.wrong(wanted)


def _texts(item: At) -> tuple[str, ...]:
    return tuple(one.name() for one in item.items())


def _sentences(item: At) -> tuple[str, ...]:
    return tuple(one.text() or "" for one in item.items())


def _once(items: At, names: list[str]) -> None:
    seen: set[str] = set()
    for item, name in zip(items.items(), names, strict=True):
        if name in seen:
            item.get("name").refuse(f"{name!r} stands here twice")
        seen.add(name)


# --------------------------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------------------------

Tree = dict[str, Any]


def to_tree(cluster: Cluster) -> Tree:
    """The cluster as plain dicts, lists, texts and numbers: what `json.dumps` takes and read_handwritten reads."""
    networks = cluster.network_by_name
    everyone = frozenset(node.name for node in cluster.nodes)
    tree: Tree = {"schema": SCHEMA, "orchestrator": cluster.orchestrator.value}
    if cluster.data_path_port is not None:
        tree["data_path_port"] = cluster.data_path_port
    tree["nodes"] = [_node_tree(node) for node in cluster.nodes]
    tree["networks"] = [_network_tree(network, everyone) for network in cluster.networks]
    tree["endpoints"] = [_endpoint_tree(endpoint, networks[endpoint.network]) for endpoint in cluster.endpoints]
    tree["services"] = [_service_tree(service) for service in cluster.services]
    tree["tasks"] = [_task_tree(task) for task in cluster.tasks]
    _put(tree, "unassigned", sorted(map(str, cluster.unassigned)))
    for key in ("missing", "contradictions", "notes"):
        _put(tree, key, list(getattr(cluster, key)))
    return tree


def _put(tree: Tree, key: str, value: Any) -> None:
    """A field, unless it is at its default: not known, empty or false."""
    if isinstance(value, Enum):
        value = value.name.lower() if isinstance(value, TaskState) else value.value
    if value is not None and value is not False and value != [] and value != {} and value != "":
        tree[key] = value


def _put_ruled(tree: Tree, key: str, value: Any, ruled: Any, derived: frozenset[str]) -> frozenset[str]:
    """A field for which there is a rule: left out where it was derived by that rule. Gives back the derived fields still to be told."""
    plain = None if value is None else value if isinstance(value, int) else str(value)
    if ruled is not None and key in derived and value == ruled:
        return derived - {key}
    if plain is not None or ruled is not None:
        tree[key] = plain
    return derived


def _node_tree(node: Node) -> Tree:
    tree: Tree = {"name": node.name}
    _put(tree, "id", node.id)
    _put(tree, "hostname", node.hostname)
    _put(tree, "advertise", None if node.advertise is None else str(node.advertise))
    derived = _put_ruled(tree, "data_path", node.data_path, node.advertise, node.derived)
    _put(tree, "role", node.role)
    _put(tree, "availability", node.availability)
    _put(tree, "state", node.state)
    _put(tree, "labels", dict(node.labels))
    _put(tree, "derived", sorted(derived))
    return tree


def _network_tree(network: Network, everyone: frozenset[str]) -> Tree:
    tree: Tree = {"name": network.name}
    _put(tree, "id", network.id)
    if network.driver != "overlay":
        tree["driver"] = network.driver
    _put(tree, "vni", network.vnis[0] if len(network.vnis) == 1 else list(network.vnis))
    subnets: list[Any] = []
    for subnet in network.subnets:
        gateway = subnet.gateway
        subnets.append(str(subnet.prefix) if gateway is None else {"subnet": str(subnet.prefix), "gateway": str(gateway)})
    _put(tree, "subnets", subnets)
    for key in ("encrypted", "internal", "attachable", "ingress"):
        _put(tree, key, getattr(network, key))
    ruled = overlay_mtu(network.encrypted) if network.driver == "overlay" else None
    derived = _put_ruled(tree, "mtu", network.mtu, ruled, network.derived)
    if network.forwarding is not Forwarding.BRIDGED:
        tree["forwarding"] = network.forwarding.value
    _put(tree, "options", dict(network.options))
    _put(tree, "labels", dict(network.labels))
    if network.members is not None:
        tree["members"] = sorted(network.members)
    _put(tree, "complete", network.complete)
    if network.complete_nodes != _all(network.complete, set(everyone)):
        tree["complete_nodes"] = sorted(network.complete_nodes)
    if network.tasks_complete != network.complete:
        tree["tasks_complete"] = network.tasks_complete
    _put(tree, "derived", sorted(derived))
    return tree


def _endpoint_tree(endpoint: Endpoint, network: Network) -> Tree:
    owner = _owner(endpoint.name, network.name)
    tree: Tree = {"network": endpoint.network, "ip": str(endpoint.ip)}
    _put(tree, "name", endpoint.name)
    derived = _put_ruled(tree, "mac", endpoint.mac, _ruled_mac(network, endpoint.ip), endpoint.derived)
    _put(tree, "node", endpoint.node)
    if endpoint.kind is not owner.kind:
        tree["kind"] = endpoint.kind.value
    if endpoint.service != owner.service:
        tree["service"] = endpoint.service
    if endpoint.task != owner.task:
        tree["task"] = endpoint.task
    _put(tree, "container", endpoint.container)
    _put(tree, "id", endpoint.id)
    _put(tree, "ipv6", None if endpoint.ipv6 is None else str(endpoint.ipv6))
    _put(tree, "derived", sorted(derived))
    return tree


def _service_tree(service: Service) -> Tree:
    tree: Tree = {"name": service.name}
    _put(tree, "id", service.id)
    _put(tree, "mode", service.mode)
    if service.replicas is not None:
        tree["replicas"] = service.replicas
    _put(tree, "endpoint_mode", service.endpoint_mode)
    _put(tree, "vips", _grouped((vip.network, vip.address) for vip in service.vips))
    ports: list[Any] = []
    for port in service.ports:
        if port.mode is PublishMode.INGRESS and port.published is not None and port.protocol in ("tcp", "udp", "sctp"):
            ports.append(f"{port.published}:{port.target}/{port.protocol}")
            continue
        one: Tree = {"target": port.target}
        _put(one, "published", port.published)
        one["protocol"] = port.protocol
        one["mode"] = port.mode.value
        ports.append(one)
    _put(tree, "ports", ports)
    _put(tree, "networks", list(service.networks))
    aliases: dict[str, list[str]] = {}
    for network, alias in service.aliases:
        aliases.setdefault(network, []).append(alias)
    _put(tree, "aliases", aliases)
    if service.backends is not None:
        tree["backends"] = [str(address) for address in service.backends]
    _put(tree, "derived", sorted(service.derived))
    return tree


def _task_tree(task: Task) -> Tree:
    tree: Tree = {"id": task.id}
    _put(tree, "service", task.service)
    if task.slot is not None:
        tree["slot"] = task.slot
    for key in ("node", "desired", "observed", "container"):
        _put(tree, key, getattr(task, key))
    _put(tree, "addresses", _grouped(task.addresses))
    _put(tree, "error", task.error)
    return tree


def _grouped(pairs: Iterable[tuple[str, Address]]) -> dict[str, Any]:
    groups: dict[str, list[str]] = {}
    for network, address in pairs:
        groups.setdefault(network, []).append(str(address))
    return {network: addresses[0] if len(addresses) == 1 else addresses for network, addresses in groups.items()}


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./@ -]*(?<! )|\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?")
_SHOWN = re.compile("[ -~\u00a1-\u2027\u2030-\ud7ff]")
_WORDS_OF_YAML = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def to_yaml(cluster: Cluster, comments: Mapping[str, str] | None = None) -> str:
    """The cluster as a vxtool-expect@1 file: nodes and networks in blocks, each endpoint and task on a line of its own.

    `comments`: text to put above a top-level key ("" is the head of the file), for whoever has something to say about it.
    """
    comments = comments or {}
    out: list[str] = [f"# {line}".rstrip() for line in comments.get("", "").splitlines()]
    for key, value in to_tree(cluster).items():
        if key in comments:
            out += ["", *(f"# {line}".rstrip() for line in comments[key].splitlines())]
        if not isinstance(value, list):
            out.append(f"{key}: {_scalar(value)}")
        elif not value:
            out.append(f"{key}: []")
        else:
            out.append(f"{key}:")
            for item in value:
                if key in ("nodes", "networks", "services"):
                    out += _block(item)
                else:
                    out.append(f"  - {_flow(item)}")
    return "\n".join(out) + "\n"


def _block(item: Tree) -> list[str]:
    lines = [f"{_scalar(key)}: {_flow(value)}" for key, value in item.items()]
    return [f"  - {lines[0]}", *(f"    {line}" for line in lines[1:])]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    if not isinstance(value, str):
        raise ExpectationError(f"{value!r} cannot be written to an expectation")
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    # A JSON text is a YAML text too, save for what YAML takes only escaped, and for surrogate pairs.
    return "".join(char if _SHOWN.fullmatch(char) else f"\\U{ord(char):08X}" for char in json.dumps(value, ensure_ascii=False))
