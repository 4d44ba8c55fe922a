"""kubectl's JSON: pods behind routed VXLAN backends."""

import json
from ipaddress import ip_address
from typing import Any

import pytest

from vxtool.errors import ExpectationError
from vxtool.expect import parse_text, to_yaml
from vxtool.model import Cluster, EndpointKind, EndpointMode, Forwarding, NodeState, Role


def node(name: str, address: str, cidr: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/hostname": name}, "annotations": annotations},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, where: str, ip: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": where, **spec},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def flannel(vni: int, mac: str, public: str) -> dict[str, str]:
    data = json.dumps({"VNI": vni, "VtepMAC": mac})
    return {f"flannel.alpha.coreos.com/{key}": value for key, value in (("backend-data", data), ("backend-type", "vxlan"), ("public-ip", public))}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "type": "NodePort",
        "clusterIP": "10.96.0.20",
        "clusterIPs": ["10.96.0.20"],
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}],
    },
}
HEADLESS = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 5432, "targetPort": "pg"}]},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["10.244.1.9"], "conditions": {"ready": True}},
        {"addresses": ["10.244.0.7"], "conditions": {}},
        {"addresses": ["10.244.1.66"], "conditions": {"ready": False}},
    ],
}
PODS = [
    pod("web-a", "n1", "10.244.0.7"),
    pod("web-b", "n2", "10.244.1.9"),
    pod("kube-proxy", "n1", "192.0.2.11", "kube-system", hostNetwork=True),
    {**pod("done", "n1", "10.244.0.7"), "status": {"phase": "Succeeded", "podIP": "10.244.0.7"}},
]
FLANNEL_NODES = [
    node("n1", "192.0.2.11", "10.244.0.0/24", **flannel(1, "8e:2a:11:00:00:01", "198.51.100.1")),
    node("n2", "192.0.2.12", "10.244.1.0/24", **flannel(1, "8e:2a:11:00:00:02", "198.51.100.2")),
]


def cluster_of(*items: dict[str, Any], **options: int) -> Cluster:
    return parse_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)}), "kubectl.json", **options)


def test_flannel_s_annotations_give_vteps_devices_and_the_vni() -> None:
    cluster = cluster_of(*FLANNEL_NODES, *PODS, SERVICE, HEADLESS, SLICE)
    (network,) = cluster.networks
    assert (network.vnis, network.driver, network.forwarding, cluster.data_path_port) == ((1,), "flannel", Forwarding.ROUTED, 8472)
    assert [(n.name, str(n.vtep), str(n.advertise), n.role, n.state) for n in cluster.nodes] == [
        ("n1", "198.51.100.1", "192.0.2.11", Role.WORKER, NodeState.READY),
        ("n2", "198.51.100.2", "192.0.2.12", Role.WORKER, NodeState.READY),
    ]
    gateway = cluster.gateways["pods", "n2"]
    assert (str(gateway.ip), str(gateway.mac), gateway.derived) == ("10.244.1.0", "8e:2a:11:00:00:02", {"ip"})


def test_a_pod_is_reached_through_its_node_s_device() -> None:
    cluster = cluster_of(*FLANNEL_NODES, *PODS)
    (web,) = cluster.endpoints_by_ip[1, ip_address("10.244.1.9")]
    assert (web.name, web.node, web.kind, web.mac) == ("default/web-b", "n2", EndpointKind.CONTAINER, None)
    assert str(cluster.mac_on_wire(web)) == "8e:2a:11:00:00:02"
    assert str(cluster.vtep_of(web)) == "198.51.100.2"
    # Pods with the node's address are no endpoints, finished ones have no address any more.
    assert {endpoint.name for endpoint in cluster.endpoints if endpoint.kind is EndpointKind.CONTAINER} == {"default/web-a", "default/web-b"}


def test_services_have_cluster_addresses_and_ready_backends() -> None:
    cluster = cluster_of(*FLANNEL_NODES, *PODS, SERVICE, HEADLESS, SLICE)
    web, db = cluster.service_by_name["default/web"], cluster.service_by_name["default/db"]
    assert cluster.service_by_vip["pods", ip_address("10.96.0.20")] is web
    assert [str(port) for port in web.ports] == ["30080->8080/tcp"]
    backends = cluster.backends("default/web", "pods")
    assert ({str(endpoint.ip) for endpoint in backends.endpoints}, backends.complete) == ({"10.244.0.7", "10.244.1.9"}, True)
    assert (db.endpoint_mode, db.vips, db.backends) == (EndpointMode.DNSRR, (), None)


def test_calico_s_annotations_give_tunnel_addresses() -> None:
    calico = {"projectcalico.org/IPv4Address": "192.0.2.11/24", "projectcalico.org/IPv4VXLANTunnelAddr": "10.244.7.64"}
    cluster = cluster_of(node("n1", "203.0.113.1", "10.244.0.0/24", **calico), pod("a", "n1", "10.244.7.70"))
    (network,) = cluster.networks
    assert (network.vnis, network.driver, cluster.data_path_port, network.derived) == ((4096,), "calico", 4789, {"vnis"})
    assert network.subnets == ()  # pods outside podCIDR: Calico's own address management
    assert (str(cluster.nodes[0].vtep), str(cluster.gateways["pods", "n1"].ip)) == ("192.0.2.11", "10.244.7.64")


def test_options_say_what_the_json_does_not() -> None:
    bare = cluster_of(node("n1", "192.0.2.11", "10.244.0.0/24"))
    assert (bare.networks[0].vnis, bare.data_path_port) == ((), None)
    assert any("VNI of the pod network" in line for line in bare.missing)
    told = cluster_of(node("n1", "192.0.2.11", "10.244.0.0/24"), vni=77, port=4789)
    assert (told.networks[0].vnis, told.data_path_port) == ((77,), 4789)


def test_pods_of_one_namespace_are_not_all_pods() -> None:
    part = cluster_of(*FLANNEL_NODES, PODS[0])
    assert not part.networks[0].complete
    assert any("-A was not given" in line for line in part.missing)
    assert cluster_of(*FLANNEL_NODES, *PODS).networks[0].complete


def test_typed_lists_one_after_the_other_are_one_cluster() -> None:
    items = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in FLANNEL_NODES]
    text = json.dumps({"apiVersion": "v1", "kind": "NodeList", "items": items}) + json.dumps({"apiVersion": "v1", "kind": "List", "items": PODS})
    assert parse_text(text) == cluster_of(*FLANNEL_NODES, *PODS)


def test_written_down_it_reads_back_the_same() -> None:
    cluster = cluster_of(*FLANNEL_NODES, *PODS, SERVICE, HEADLESS, SLICE)
    assert parse_text(to_yaml(cluster)) == cluster


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (node("n1", "192.0.2", "10.244.0.0/24"), "items[0].status.addresses[0].address is '192.0.2', but an IP"),
        (node("n1", "192.0.2.1", "x/24"), "items[0].spec.podCIDRs[0] is 'x/24', but a subnet"),
        (node("n1", "192.0.2.1", "10.244.0.0/24", **{"flannel.alpha.coreos.com/backend-data": "{"}), "but a text like"),
        (node("n1", "192.0.2.1", "10.244.0.0/24", **{"flannel.alpha.coreos.com/backend-data": "[" * 99_999}), "items[0].metadata.annotations"),
        (pod("a", "n1", "ten"), "items[0].status.podIPs[0].ip is 'ten', but an IP"),
        ({**SERVICE, "spec": {"clusterIP": "x"}}, "items[0].spec.clusterIP is 'x', but an IP"),
    ],
)
def test_a_wrong_shape_is_told_with_its_place(item: dict[str, Any], said: str) -> None:
    with pytest.raises(ExpectationError) as caught:
        cluster_of(item)
    assert said in str(caught.value)
