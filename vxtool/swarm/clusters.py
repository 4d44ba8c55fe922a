"""What a swarm should be on the wire, as a Cluster: for `vxtool verify`, and for whoever looks a lab's endpoints up.

Knows objects of the control plane and the nouns of the model, which name things by name; adds nothing that the swarm does not say.
"""

from __future__ import annotations

from collections.abc import Iterator

from vxtool.model import (
    MTU_OPTION,
    Address,
    Cluster,
    Endpoint,
    EndpointKind,
    Network,
    Node,
    Port,
    Service,
    ServiceMode,
    Subnet,
    Task,
    TaskState,
    Vip,
    overlay_mac,
    overlay_mtu,
)
from vxtool.swarm import objects
from vxtool.swarm.view import View

__all__ = ["ENCRYPTED_OPTION", "cluster", "load_balancer_name", "network"]

ENCRYPTED_OPTION = "encrypted"


def cluster(view: View, mtu: int | None = None) -> Cluster:
    """`mtu`: of the underlay, where the overlays derive theirs from it; Docker never looks at it."""
    members: dict[str, set[str]] = {}
    for node in view.nodes.values():
        for attachment in node.attachments:
            members.setdefault(attachment.network, set()).add(node.hostname or node.id)
    endpoints = tuple(_endpoints(view))
    networks = (network(one, mtu, frozenset(members.get(one.id, ()))) for one in view.networks.values() if one.subnets)
    return Cluster(
        nodes=tuple(map(_node, view.nodes.values())),
        networks=tuple(networks),
        endpoints=endpoints,
        services=tuple(_service(view, service) for service in view.services.values()),
        tasks=tuple(_task(view, task) for task in view.tasks.values() if task.node),
        data_path_port=view.info.settings.data_path_port,
    )


def network(known: objects.Network, mtu: int | None = None, members: frozenset[str] | None = None) -> Network:
    """An allocated network. All its endpoints are known to the swarm."""
    spec = known.spec
    encrypted = ENCRYPTED_OPTION in spec.options
    option = spec.options.get(MTU_OPTION)
    return Network(
        spec.name,
        id=known.id,
        driver=spec.driver,
        vnis=tuple(subnet.vni for subnet in known.subnets),
        subnets=tuple(Subnet(subnet.prefix, subnet.gateway) for subnet in known.subnets),
        mtu=overlay_mtu(encrypted, int(option) if option else mtu),
        encrypted=encrypted,
        internal=spec.internal,
        attachable=spec.attachable,
        ingress=spec.ingress,
        options=spec.options,
        labels=spec.labels,
        members=members,
        complete=members is not None,
        tasks_complete=members is not None,
        derived=frozenset() if option else frozenset({"mtu"}),
    )


def load_balancer_name(network: str) -> str:
    """Of a node's load-balancer endpoint in a network (libnetwork network.go lbEndpointName)."""
    return f"{network}-endpoint"


def exists(task: objects.Task) -> bool:
    """Whether its node has made its endpoints, or is about to, and has not taken them away yet."""
    return TaskState.STARTING <= task.state <= TaskState.RUNNING


def _node(node: objects.Node) -> Node:
    address = _address(node.address)
    return Node(
        node.hostname or node.id,
        id=node.id,
        hostname=node.hostname,
        advertise=address,
        data_path=address,
        role=node.role,
        availability=node.availability,
        state=node.state,
        labels=node.labels,
        derived=frozenset({"data_path"}),
    )


def _address(text: str) -> Address | None:
    """None when it is none: what one node says of itself spoils the picture of no other."""
    from ipaddress import ip_address

    try:
        return ip_address(text)
    except ValueError:
        return None


def _endpoints(view: View) -> Iterator[Endpoint]:
    names = {id: known.spec.name for id, known in view.networks.items()}
    for node in view.nodes.values():
        host = node.hostname or node.id
        for attachment in node.attachments:
            if attachment.network in names and attachment.address is not None:
                name = names[attachment.network]
                ip = attachment.address.ip
                yield Endpoint(name, ip, load_balancer_name(name), mac=overlay_mac(ip), node=host, kind=EndpointKind.LOAD_BALANCER)
        for task in view.tasks_on.get(node.id, ()):
            if not exists(task):
                continue
            service = view.services.get(task.service)
            for attachment in task.networks:
                if attachment.network in names and attachment.address is not None:
                    ip = attachment.address.ip
                    yield Endpoint(
                        names[attachment.network],
                        ip,
                        view.task_name(task),
                        mac=overlay_mac(ip),
                        node=host,
                        kind=EndpointKind.TASK if task.service else EndpointKind.CONTAINER,
                        service=service.spec.name if service is not None else None,
                        task=task.id,
                    )


def _service(view: View, service: objects.Service) -> Service:
    spec = service.spec
    names = {id: known.spec.name for id, known in view.networks.items()}
    return Service(
        spec.name,
        id=service.id,
        mode=spec.mode,
        replicas=spec.replicas if spec.mode is ServiceMode.REPLICATED else None,
        endpoint_mode=spec.endpoint.mode,
        vips=tuple(Vip(names[id], address.ip) for id, address in service.vips if id in names),
        ports=tuple(Port(port.target, port.published or None, port.protocol, port.mode) for port in service.ports),
        networks=tuple(names[wanted.network] for wanted in spec.task.networks if wanted.network in names),
        aliases=tuple((names[wanted.network], alias) for wanted in spec.task.networks if wanted.network in names for alias in wanted.aliases),
    )


def _task(view: View, task: objects.Task) -> Task:
    names = {id: known.spec.name for id, known in view.networks.items()}
    node = view.nodes.get(task.node)
    service = view.services.get(task.service)
    return Task(
        task.id,
        service=service.spec.name if service is not None else None,
        slot=task.slot or None,
        node=(node.hostname or node.id) if node is not None else None,
        desired=task.desired,
        observed=task.state,
        addresses=tuple((names[one.network], one.address.ip) for one in task.networks if one.network in names and one.address is not None),
        error=task.error or None,
    )
