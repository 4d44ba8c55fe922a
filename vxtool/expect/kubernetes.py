"""kubectl's JSON becomes a Cluster: nodes, pods, services and endpoint slices over a VXLAN backend of flannel or Calico.

Both route: the inner addresses are the pods', the inner MACs those of the nodes' own VXLAN devices (flannel.1, vxlan.calico). So pods are endpoints
without a MAC, and each node has one gateway endpoint with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vxtool.model import (
    Address,
    Availability,
    Cluster,
    Endpoint,
    EndpointKind,
    EndpointMode,
    Forwarding,
    Mac,
    Network,
    Node,
    NodeState,
    Orchestrator,
    Port,
    Prefix,
    PublishMode,
    Role,
    Service,
    Subnet,
    Vip,
)

from .shapes import At

__all__ = ["Backend", "is_kubernetes", "read_kubernetes"]

NETWORK = "pods"
_FLANNEL = "flannel.alpha.coreos.com/"
_CALICO = "projectcalico.org/"


@dataclass(frozen=True, slots=True)
class Backend:
    """What a VXLAN backend uses unless it is configured otherwise."""

    name: str
    vni: int
    port: int
    device: str


FLANNEL = Backend("flannel", 1, 8472, "flannel.1")  # flannel Documentation/backends.md: VNI 1, the Linux default port
CALICO = Backend("calico", 4096, 4789, "vxlan.calico")  # FelixConfiguration vxlanVNI, vxlanPort


def is_kubernetes(item: At) -> bool:
    return item.has("apiVersion", "kind")


def read_kubernetes(documents: Iterable[At], *, vni: int | None = None, port: int | None = None, notes: Iterable[str] = ()) -> Cluster:
    """The cluster of `kubectl get nodes,pods,services,endpointslices -A -o json`, in one document or several.

    `vni` and `port` replace what annotations tell and the backend's defaults. ExpectationError for a wrong shape.
    """
    kinds: dict[str, list[At]] = {}
    for document in documents:
        for item in _flat(document):
            kinds.setdefault(item.get("kind").text() or "", []).append(item)
    backend, told_vni = _backend(kinds.get("Node", []))
    nodes, gateways, prefixes, gaps = _nodes(kinds.get("Node", []), backend)
    pods = _pods(kinds.get("Pod", []), {node.name for node in nodes})
    services = _services(kinds.get("Service", []), kinds.get("EndpointSlice", []))
    missing = [*gaps]
    if "Node" not in kinds:
        missing.append("nodes: no `kubectl get nodes -o json` was given")
    if "Pod" not in kinds:
        missing.append("pods: no `kubectl get pods -A -o json` was given")
    if "EndpointSlice" not in kinds:
        missing.append("backends of services: no `kubectl get endpointslices -A -o json` was given")
    # `kubectl get pods` without -A shows one namespace; every cluster has pods in kube-system.
    whole = "Node" in kinds and any(pod.get("metadata", "namespace").value == "kube-system" for pod in kinds.get("Pod", []))
    if "Pod" in kinds and not whole:
        missing.append("pods of other namespaces: none of kube-system is listed, so -A was not given")
    vnis = (vni,) if vni is not None else (told_vni,) if told_vni is not None else (backend.vni,) if backend else ()
    if not vnis:
        missing.append("VNI of the pod network: no annotation of flannel or Calico tells it; give it as an option")
    everyone = frozenset(node.name for node in nodes)
    network = Network(
        name=NETWORK,
        driver=backend.name if backend else "unknown",
        vnis=vnis,
        subnets=tuple(Subnet(prefix) for prefix in _around(prefixes, pods)),
        forwarding=Forwarding.ROUTED,
        members=everyone or None,
        complete_nodes=everyone if whole else frozenset(),
        complete=whole,
        tasks_complete=whole,
        derived=frozenset() if vni is not None or told_vni is not None or not vnis else frozenset({"vnis"}),
    )
    return Cluster(
        orchestrator=Orchestrator.KUBERNETES,
        nodes=nodes,
        networks=(network,),
        endpoints=tuple(sorted((*pods, *gateways), key=lambda endpoint: (int(endpoint.ip), endpoint.name))),
        services=services,
        data_path_port=port if port is not None else backend.port if backend else None,
        missing=tuple(dict.fromkeys(missing)),
        notes=tuple(notes),
    )


def _flat(item: At) -> Iterator[At]:
    if (item.get("kind").text() or "").endswith("List"):
        for member in item.get("items").items():
            # Items of a typed list (PodList) need not repeat their kind.
            kind = member.get("kind").text() or (item.get("kind").text() or "").removesuffix("List")
            yield At({**member.object(), "kind": kind}, member.source, member.path, member.lines)
    else:
        yield item


def _backend(nodes: list[At]) -> tuple[Backend | None, int | None]:
    for node in nodes:
        annotations = node.get("metadata", "annotations").texts()
        if f"{_FLANNEL}backend-data" in annotations or f"{_FLANNEL}public-ip" in annotations:
            return FLANNEL, _flannel_data(node)[0]
        if f"{_CALICO}IPv4VXLANTunnelAddr" in annotations or f"{_CALICO}IPv4Address" in annotations:
            return CALICO, None
    return None, None


def _flannel_data(node: At) -> tuple[int | None, Mac | None]:
    """VNI and MAC of a node's flannel.1, from the annotation's JSON inside the JSON."""
    at = node.get("metadata", "annotations", f"{_FLANNEL}backend-data")
    text = at.text()
    if not text:
        return None, None
    try:
        data = At(json.loads(text), at.source, at.path)
    except (ValueError, RecursionError):
        at.wrong('a text like {"VNI":1,"VtepMAC":"..."}')
    if data.value is None:  # backends other than VXLAN write null
        return None, None
    return data.get("VNI").integer(0, (1 << 24) - 1), data.get("VtepMAC").mac()


def _nodes(items: list[At], backend: Backend | None) -> tuple[tuple[Node, ...], list[Endpoint], list[Prefix], list[str]]:
    nodes: list[Node] = []
    gateways: list[Endpoint] = []
    prefixes: list[Prefix] = []
    gaps: list[str] = []
    for item in items:
        name = item.get("metadata", "name").name()
        notes = item.get("metadata", "annotations")
        internal: list[Address] = []
        for entry in item.get("status", "addresses").items():
            if entry.get("type").text() == "InternalIP":
                address = entry.get("address").address()
                if address is not None:
                    internal.append(address)
        public = notes.get(f"{_FLANNEL}public-ip-overwrite").address() or notes.get(f"{_FLANNEL}public-ip").address()
        bgp = notes.get(f"{_CALICO}IPv4Address").interface()
        tunnel = public or (bgp.ip if bgp is not None else None)
        advertise = internal[0] if internal else None
        cidrs = [prefix for cidr in item.get("spec", "podCIDRs").items() if (prefix := cidr.prefix()) is not None]
        if not cidrs and (single := item.get("spec", "podCIDR").prefix()) is not None:
            cidrs = [single]
        prefixes += cidrs
        ready = next((c.get("status").text() for c in item.get("status", "conditions").items() if c.get("type").text() == "Ready"), None)
        labels = item.get("metadata", "labels").texts()
        manager = any(label in labels for label in ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"))
        nodes.append(
            Node(
                name=name,
                id=item.get("metadata", "uid").text(),
                hostname=labels.get("kubernetes.io/hostname", name),
                advertise=advertise,
                data_path=tunnel or advertise,
                role=Role.MANAGER if manager else Role.WORKER,
                availability=Availability.PAUSE if item.get("spec", "unschedulable").flag() else Availability.ACTIVE,
                state=None if ready is None else NodeState.READY if ready == "True" else NodeState.DOWN,
                labels=labels,
                derived=frozenset() if tunnel is not None or advertise is None else frozenset({"data_path"}),
            )
        )
        gateway = _gateway(item, name, cidrs, backend)
        if gateway is not None:
            gateways.append(gateway)
        elif backend is not None:
            gaps.append(f"address and MAC of {backend.device} on node {name}: no annotation tells them")
    return tuple(sorted(nodes, key=lambda node: node.name)), gateways, prefixes, gaps


def _gateway(item: At, node: str, cidrs: list[Prefix], backend: Backend | None) -> Endpoint | None:
    notes = item.get("metadata", "annotations")
    if backend is FLANNEL:
        mac = _flannel_data(item)[1]
        first = next((cidr for cidr in cidrs if cidr.version == 4), None)
        if first is None:
            return None
        # flannel.1 takes the first address of the node's own subnet, the one that names the subnet (pkg/backend/vxlan).
        return Endpoint(NETWORK, first.network_address, backend.device, mac, node, EndpointKind.GATEWAY, derived=frozenset({"ip"}))
    if backend is CALICO:
        address = notes.get(f"{_CALICO}IPv4VXLANTunnelAddr").address()
        mac = notes.get(f"{_CALICO}VXLANTunnelMACAddr").mac()
        return None if address is None else Endpoint(NETWORK, address, backend.device, mac, node, EndpointKind.GATEWAY)
    return None


def _pods(items: list[At], nodes: set[str]) -> list[Endpoint]:
    pods: list[Endpoint] = []
    for item in items:
        if item.get("spec", "hostNetwork").flag() or item.get("status", "phase").text() in ("Succeeded", "Failed"):
            continue  # the node's own address, or one that another pod may have by now
        addresses = [ip for entry in item.get("status", "podIPs").items() if (ip := entry.get("ip").address()) is not None]
        if not addresses and (single := item.get("status", "podIP").address()) is not None:
            addresses = [single]
        if not addresses:
            continue
        node = item.get("spec", "nodeName").text()
        name = f"{item.get('metadata', 'namespace').text() or 'default'}/{item.get('metadata', 'name').name()}"
        pods.append(
            Endpoint(
                network=NETWORK,
                ip=addresses[0],
                name=name,
                node=node if node in nodes else None,
                kind=EndpointKind.CONTAINER,
                id=item.get("metadata", "uid").text(),
                ipv6=addresses[1] if len(addresses) > 1 else None,
            )
        )
    return pods


def _around(prefixes: list[Prefix], pods: list[Endpoint]) -> list[Prefix]:
    """The nodes' pod subnets; none when pods live elsewhere (Calico's own address management ignores podCIDR)."""
    inside = all(any(pod.ip in prefix for prefix in prefixes if prefix.version == pod.ip.version) for pod in pods)
    return sorted(set(prefixes), key=lambda prefix: (prefix.version, int(prefix.network_address))) if inside else []


def _services(items: list[At], slices: list[At]) -> tuple[Service, ...]:
    backends: dict[str, set[Address]] = {}
    for item in slices:
        service = item.get("metadata", "labels", "kubernetes.io/service-name").text()
        if not service:
            continue
        ready = backends.setdefault(f"{item.get('metadata', 'namespace').text() or 'default'}/{service}", set())
        for endpoint in item.get("endpoints").items():
            condition = endpoint.get("conditions", "ready")
            if condition.value is None or condition.flag():  # absent means ready (discovery.k8s.io/v1)
                ready.update(ip for address in endpoint.get("addresses").items() if (ip := address.address()) is not None)
    services = []
    for item in items:
        name = f"{item.get('metadata', 'namespace').text() or 'default'}/{item.get('metadata', 'name').name()}"
        spec = item.get("spec")
        if spec.get("type").text() == "ExternalName":
            continue
        stated = spec.get("clusterIPs")
        texts = list(stated.items()) if stated.value is not None else [spec.get("clusterIP")]
        headless = any(text.value == "None" for text in texts)
        vips = [] if headless else [address for text in texts if (address := text.address()) is not None]
        found = backends.get(name)
        services.append(
            Service(
                name=name,
                id=item.get("metadata", "uid").text(),
                endpoint_mode=EndpointMode.DNSRR if headless else EndpointMode.VIP,
                vips=tuple(Vip(NETWORK, address) for address in vips),
                ports=tuple(_ports(spec.get("ports"))),
                networks=(NETWORK,),
                backends=None if found is None else tuple(sorted(found, key=lambda ip: (ip.version, int(ip)))),
            )
        )
    return tuple(sorted(services, key=lambda service: service.name))


def _ports(ports: At) -> Iterator[Port]:
    for port in ports.items():
        number = port.get("port").integer(1, 65535) or port.get("port").wrong("a port number")
        target = port.get("targetPort")
        aimed = number if isinstance(target.value, str) else target.integer(0, 65535) or number  # a named port is the pod's secret
        yield Port(aimed, port.get("nodePort").integer(0, 65535) or None, (port.get("protocol").text() or "TCP").lower(), PublishMode.INGRESS)
