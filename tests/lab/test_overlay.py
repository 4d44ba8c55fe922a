"""The plan of an overlay: what is typed for the article's two nodes, and what the kernels of ten nodes know after any history."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from tests.lab.overlays import KEYS, KernelModel, endpoint, network, topology
from vxtool.errors import UsageError
from vxtool.lab import names
from vxtool.lab.overlay import Plan
from vxtool.lab.spec import Options
from vxtool.lab.steps import (
    AddBridge,
    AddFdb,
    AddNeighbour,
    AddRoute,
    AddVeth,
    AddVxlan,
    DeleteFdb,
    DeleteNeighbour,
    ForgetMac,
    MoveLink,
    Step,
    commands,
    inverses,
)
from vxtool.model import MTU_OPTION, Address, Cluster, Endpoint, EndpointKind, Forwarding, Mac, Network, Node, Subnet, overlay_mac

WEB = replace(network("web", 4097), id="jnz278zgn13ktpvbv5w8v0cxa")
GATEWAY = re.compile(r"gwbridge|172\.18\.|ip_forward| veth[0-9a-f]{7} | eth1 ")


def _plan(*networks: Network, nodes: Sequence[str] = ("vm1", "vm2", "vm3"), options: Options | None = None) -> Plan:
    plan = Plan(topology(nodes), options or Options(), keys=KEYS)
    for each in networks or (WEB,):
        plan.add_network(each)
    return plan


def _entries(steps: Sequence[Step]) -> list[str]:
    """Neighbour and forwarding entries, in a few words each."""
    words = {AddNeighbour: "+neigh", AddFdb: "+fdb", DeleteNeighbour: "-neigh", DeleteFdb: "-fdb", ForgetMac: "forget"}
    return [
        f"{words[type(step)]} {step.namespace.split(':')[0]} {step.address if hasattr(step, 'address') else step.mac}"
        + (f" {step.vtep}" if isinstance(step, AddFdb | DeleteFdb) else "")
        for step in steps
        if isinstance(step, AddNeighbour | AddFdb | DeleteNeighbour | DeleteFdb | ForgetMac)
    ]


# -- the article's lab -----------------------------------------------------------------------------------------------------


def test_two_nodes_as_a_person_would_type_them() -> None:
    """Network web, VNI 4097, one endpoint each on sathish-vm1 and sathish-vm2; what belongs to docker_gwbridge is left out (test_gateway.py)."""
    plan = _plan(WEB, nodes=("vm1", "vm2"))
    first = [line for line in commands(plan.attach([endpoint("web.1", "vm1", "web", "10.0.1.3")])) if not GATEWAY.search(line)]
    assert first == [
        "ip netns add vm1:1-jnz278zgn1",
        "ip netns exec vm1:1-jnz278zgn1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
        "ip -n vm1:1-jnz278zgn1 link set lo up",
        "ip -n vm1:1-jnz278zgn1 link add br0 txqueuelen 0 type bridge vlan_default_pvid 0",
        "ip -n vm1:1-jnz278zgn1 addr add 10.0.1.1/24 brd + dev br0",
        "ip -n vm1:1-jnz278zgn1 link set br0 up",
        "ip -n vm1 link add vxlan0 mtu 1450 txqueuelen 0 netns vm1:1-jnz278zgn1 type vxlan id 4097 dstport 4789 learning proxy l2miss l3miss",
        "ip -n vm1:1-jnz278zgn1 link set vxlan0 master br0",
        "ip -n vm1:1-jnz278zgn1 link set vxlan0 up",
        "ip netns add vm1:web.1",
        "ip netns exec vm1:web.1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
        "ip -n vm1:web.1 link set lo up",
        "ip -n vm1:1-jnz278zgn1 link add veth0 mtu 1450 txqueuelen 0 type veth "
        "peer name eth0 mtu 1450 txqueuelen 0 address 02:42:0a:00:01:03 netns vm1:web.1",
        "ip -n vm1:1-jnz278zgn1 link set veth0 master br0",
        "ip -n vm1:1-jnz278zgn1 link set veth0 up",
        "ip -n vm1:web.1 addr add 10.0.1.3/24 brd + dev eth0",
        "ip -n vm1:web.1 link set eth0 up",
    ]
    second = [line for line in commands(plan.attach([endpoint("web.2", "vm2", "web", "10.0.1.4")])) if " neigh " in line or " fdb " in line]
    assert second == [
        "ip -n vm2:1-jnz278zgn1 neigh add 10.0.1.3 lladdr 02:42:0a:00:01:03 dev vxlan0 nud permanent",
        "bridge -n vm2:1-jnz278zgn1 fdb add 02:42:0a:00:01:03 dev vxlan0 dst 192.168.68.109 self permanent",
        "ip -n vm1:1-jnz278zgn1 neigh add 10.0.1.4 lladdr 02:42:0a:00:01:04 dev vxlan0 nud permanent",
        "bridge -n vm1:1-jnz278zgn1 fdb add 02:42:0a:00:01:04 dev vxlan0 dst 192.168.68.110 self permanent",
    ]
    gone = [line for line in commands(plan.detach("vm2", "web.2")) if " neigh " in line or " fdb " in line or "netns del" in line]
    assert gone == [
        "bridge -n vm1:1-jnz278zgn1 fdb del 02:42:0a:00:01:04 dev vxlan0 dst 192.168.68.110 self",
        "ip -n vm1:1-jnz278zgn1 neigh del 10.0.1.4 dev vxlan0",
        "bridge -n vm1:1-jnz278zgn1 fdb del 02:42:0a:00:01:04 dev vxlan0 master 2>/dev/null || true",
        "ip netns del vm2:web.2",
        "bridge -n vm2:1-jnz278zgn1 fdb del 02:42:0a:00:01:03 dev vxlan0 dst 192.168.68.109 self",
        "ip -n vm2:1-jnz278zgn1 neigh del 10.0.1.3 dev vxlan0",
        "ip netns del vm2:1-jnz278zgn1",
    ]


def test_like_docker_devices_are_made_under_the_drivers_names_and_renamed() -> None:
    plan = _plan(WEB, options=Options(like_docker=True))
    steps = plan.attach([endpoint("web.1", "vm1", "web", "10.0.1.3")])
    assert [line for line in commands(steps) if "ov-" in line or "vx-" in line] == [
        "ip -n vm1:1-jnz278zgn1 link add ov-001001-jnz27 txqueuelen 0 type bridge vlan_default_pvid 0",
        "ip -n vm1:1-jnz278zgn1 link set ov-001001-jnz27 name br0",
        "ip -n vm1 link add vx-001001-jnz27 mtu 1450 txqueuelen 0 type vxlan id 4097 dstport 4789 learning proxy l2miss l3miss",
        "ip -n vm1 link set vx-001001-jnz27 netns vm1:1-jnz278zgn1",
        "ip -n vm1:1-jnz278zgn1 link set vx-001001-jnz27 name vxlan0",
    ]
    assert sum(isinstance(step, MoveLink) for step in steps) == 2


# -- what decides names, numbers and routes ---------------------------------------------------------------------------------

IN = network("ingress", 4096, "10.0.0.0/24", ingress=True)
APP, DEEP = network("app", 4098, "10.0.2.0/24"), network("deep", 4099, "10.0.3.0/24", internal=True)
WIDE = network("wide", 4100, "10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24")


@pytest.mark.parametrize(
    ("networks", "order"),
    [
        (("web",), ["web"]),
        (("web", "ingress"), ["ingress", "web"]),
        (("ingress", "app"), ["app", "ingress"]),
        (("deep", "web"), ["web", "deep"]),
        (("web", "deep", "app", "ingress"), ["app", "ingress", "web", "deep"]),
    ],
    ids="+".join,
)
def test_interfaces_are_numbered_by_the_networks_name_internal_ones_last(networks: tuple[str, ...], order: list[str]) -> None:
    every = {each.name: each for each in (WEB, IN, APP, DEEP)}
    plan = _plan(*every.values())
    kernel = KernelModel(["vm1", "vm2", "vm3"])
    kernel.perform(plan.attach([endpoint("a", "vm1", name, str(every[name].subnets[0].prefix[7])) for name in networks]))
    links = kernel.namespaces["vm1:a"].links
    addresses = {device: {str(interface) for interface in link.addresses} for device, link in links.items()}
    expected = {f"eth{number}": {f"{every[name].subnets[0].prefix[7]}/24"} for number, name in enumerate(order)}
    assert addresses == expected | {f"eth{len(order)}": {"172.18.0.2/16"}}
    assert [each.network for each in plan.cluster.endpoints] == order


def test_a_mac_that_is_given_is_kept_on_the_endpoint_and_in_everybodys_tables() -> None:
    plan = _plan()
    plan.attach([endpoint("a", "vm1", "web", "10.0.1.3")])
    steps = plan.attach([endpoint("b", "vm2", "web", "10.0.1.4", "02:00:5e:00:53:01")])
    assert {str(step.mac) for step in steps if isinstance(step, AddFdb) and step.namespace.startswith("vm1")} == {"02:00:5e:00:53:01"}
    assert next(str(step.peer_mac) for step in steps if isinstance(step, AddVeth)) == "02:00:5e:00:53:01"
    assert [(str(each.mac), sorted(each.derived)) for each in plan.cluster.endpoints] == [("02:42:0a:00:01:03", ["mac"]), ("02:00:5e:00:53:01", [])]


def test_veths_of_a_sandbox_are_numbered_on_and_never_again() -> None:
    plan = _plan()
    made = [plan.attach([endpoint(name, "vm1", "web", f"10.0.1.{number}")]) for number, name in ((3, "a"), (4, "b"))]
    plan.detach("vm1", "a")
    made.append(plan.attach([endpoint("c", "vm1", "web", "10.0.1.5")]))
    assert [step.name for steps in made for step in steps if isinstance(step, AddVeth) and ":" in step.namespace] == ["veth0", "veth1", "veth2"]


def test_each_subnet_has_its_own_bridge_device_and_vni_made_when_it_is_first_heard_of() -> None:
    plan, kernel = _plan(WIDE), KernelModel(["vm1", "vm2", "vm3"])
    kernel.perform(plan.attach([endpoint("b", "vm1", "wide", "10.1.1.3")]))
    sandbox = kernel.namespaces["vm1:1-wide012345"]
    assert {name: link.vni for name, link in sandbox.links.items() if link.vni} == {"vxlan0": 4101}
    kernel.perform(plan.attach([endpoint("a", "vm2", "wide", "10.1.0.3")]))
    assert {name: link.vni for name, link in sandbox.links.items() if link.vni} == {"vxlan0": 4101, "vxlan1": 4100}
    assert sandbox.links["br1"].addresses == {IPv4Interface("10.1.0.1/24")}
    assert sandbox.links["vxlan1"].master == "br1"
    assert sandbox.fdb == {("vxlan1", Mac.parse("02:42:0a:01:00:03")): IPv4Address("192.168.68.110")}
    assert sandbox.sysctls == {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.arp_notify": "1"}, "between subnets the sandbox forwards"
    others = {IPv4Network("10.1.0.0/24"), IPv4Network("10.1.2.0/24"), IPv4Network("0.0.0.0/0")}
    assert set(kernel.namespaces["vm1:b"].routes) == others
    assert kernel.namespaces["vm1:b"].routes[IPv4Network("10.1.2.0/24")] == (IPv4Address("10.1.1.1"), "eth0")


@pytest.mark.parametrize(
    ("change", "options", "underlay", "mtu"),
    [
        ({}, Options(), 1500, 1450),
        ({"encrypted": True}, Options(), 1500, 1424),
        ({"options": {MTU_OPTION: "9000"}}, Options(), 1500, 8950),
        ({"mtu": 1280}, Options(), 1500, 1280),
        ({}, Options(), 1400, 1450),
        ({}, Options(mtu_from_underlay=True), 1400, 1350),
        ({"encrypted": True}, Options(mtu_from_underlay=True), 1400, 1324),
        ({"options": {MTU_OPTION: "1500"}}, Options(mtu_from_underlay=True), 1400, 1450),
    ],
)
def test_the_mtu_is_what_docker_makes_of_the_option_not_of_the_underlay(change: dict[str, Any], options: Options, underlay: int, mtu: int) -> None:
    plan = Plan(topology(["vm1"], mtu=underlay), options, keys=KEYS)
    plan.add_network(replace(WEB, **change))
    steps = plan.attach([endpoint("a", "vm1", "web", "10.0.1.3")])
    assert {step.mtu for step in steps if isinstance(step, AddVxlan | AddVeth) and step.namespace != "vm1"} == {mtu}
    assert all(step.mtu is None for step in steps if isinstance(step, AddBridge)), "a bridge follows its ports"
    assert plan.cluster.network_by_name["web"].mtu == mtu


def test_networks_with_equal_subnets_stay_apart() -> None:
    twin = network("twin", 4200)
    plan, kernel = _plan(WEB, twin), KernelModel(["vm1", "vm2", "vm3"])
    for name, where in (("web", "vm1"), ("twin", "vm1"), ("web", "vm2")):
        kernel.perform(plan.attach([endpoint(f"{name}.1", where, name, "10.0.1.3" if where == "vm1" else "10.0.1.4")]))
    assert kernel.namespaces["vm1:1-jnz278zgn1"].fdb
    assert not kernel.namespaces["vm1:1-twin012345"].fdb


def test_the_data_path_port_is_the_swarms() -> None:
    plan = Plan(topology(["vm1"]), Options(), 7789)
    plan.add_network(WEB)
    assert [step.port for step in plan.attach([endpoint("a", "vm1", "web", "10.0.1.3")]) if isinstance(step, AddVxlan)] == [7789]
    assert plan.cluster.data_path_port == 7789


def test_load_balancers_live_in_sandboxes_that_docker_names() -> None:
    plan, kernel = _plan(WEB, IN), KernelModel(["vm1", "vm2", "vm3"])
    for name, ip in (("web", "10.0.1.10"), ("ingress", "10.0.0.2")):
        kernel.perform(plan.attach([replace(endpoint(f"{name}-endpoint", "vm1", name, ip), kind=EndpointKind.LOAD_BALANCER)]))
    assert {"vm1:lb_jnz278zgn", "vm1:ingress_sbox"} <= set(kernel.namespaces)


def test_an_identity_is_made_for_a_network_that_has_none() -> None:
    plan = _plan(replace(WEB, id=None))
    (made,) = plan.cluster.networks
    assert made.id == names.identity("network", "web")
    assert re.fullmatch("[0-9a-z]{25}", made.id)


# -- peers -----------------------------------------------------------------------------------------------------------------


def test_a_peer_is_told_to_the_nodes_that_have_the_network_and_to_no_other() -> None:
    plan = _plan()
    assert _entries(plan.attach([endpoint("a", "vm1", "web", "10.0.1.3")])) == []
    assert _entries(plan.attach([endpoint("b", "vm1", "web", "10.0.1.4")])) == [], "br0 learns local ones by itself"
    assert _entries(plan.attach([endpoint("c", "vm2", "web", "10.0.1.5")])) == [
        "+neigh vm2 10.0.1.3",
        "+fdb vm2 02:42:0a:00:01:03 192.168.68.109",
        "+neigh vm2 10.0.1.4",
        "+fdb vm2 02:42:0a:00:01:04 192.168.68.109",
        "+neigh vm1 10.0.1.5",
        "+fdb vm1 02:42:0a:00:01:05 192.168.68.110",
    ]


def test_of_two_peers_with_one_address_the_first_is_in_the_kernel_and_the_second_is_restored() -> None:
    plan = _plan()
    for number, (name, node, ip) in enumerate((("w", "vm3", "10.0.1.9"), ("a", "vm1", "10.0.1.3"), ("a", "vm2", "10.0.1.3"))):
        steps = plan.attach([endpoint(name, node, "web", ip)])
        assert [line for line in _entries(steps) if " vm3 " in line] == [
            [],
            ["+neigh vm3 10.0.1.3", "+fdb vm3 02:42:0a:00:01:03 192.168.68.109"],
            [],
        ][number]
    assert [line for line in _entries(plan.detach("vm1", "a")) if " vm3 " in line] == [
        "-fdb vm3 02:42:0a:00:01:03 192.168.68.109",
        "-neigh vm3 10.0.1.3",
        "forget vm3 02:42:0a:00:01:03",
        "+neigh vm3 10.0.1.3",
        "+fdb vm3 02:42:0a:00:01:03 192.168.68.110",
    ]


def test_a_peer_that_was_never_in_the_kernel_goes_without_a_word() -> None:
    plan = _plan()
    for name, node, ip in (("w", "vm3", "10.0.1.9"), ("a", "vm1", "10.0.1.3"), ("b", "vm2", "10.0.1.3")):
        plan.attach([endpoint(name, node, "web", ip)])
    assert [line for line in _entries(plan.detach("vm2", "b")) if " vm3 " in line] == ["forget vm3 02:42:0a:00:01:03"]


def test_two_macs_of_one_address_do_not_take_each_other_along() -> None:
    """19.03 loses the survivor's neighbour entry; the peer DB of today's releases, and ours, goes by address."""
    plan, kernel = _plan(), KernelModel(["vm1", "vm2", "vm3"])
    given = "02:00:5e:00:53:01"
    for name, node, mac in (("a", "vm1", None), ("b", "vm2", given)):
        kernel.perform(plan.attach([endpoint(name, node, "web", "10.0.1.3", mac)]))
    kernel.perform(plan.attach([endpoint("w", "vm3", "web", "10.0.1.9")]))
    sandbox = kernel.namespaces["vm3:1-jnz278zgn1"]
    assert sandbox.neighbours == {("vxlan0", IPv4Address("10.0.1.3")): Mac.parse("02:42:0a:00:01:03")}
    assert {str(mac): str(vtep) for (_, mac), vtep in sandbox.fdb.items()} == {"02:42:0a:00:01:03": "192.168.68.109", given: "192.168.68.110"}
    kernel.perform(plan.detach("vm1", "a"))
    assert sandbox.neighbours == {("vxlan0", IPv4Address("10.0.1.3")): Mac.parse(given)}


def test_an_endpoint_that_moves_goes_first_and_then_comes() -> None:
    plan = _plan()
    for name, node, ip in (("w", "vm3", "10.0.1.9"), ("a", "vm1", "10.0.1.3"), ("b", "vm2", "10.0.1.4")):
        plan.attach([endpoint(name, node, "web", ip)])
    assert [line for line in _entries(plan.move("a", "vm2")) if " vm3 " in line] == [
        "-fdb vm3 02:42:0a:00:01:03 192.168.68.109",
        "-neigh vm3 10.0.1.3",
        "forget vm3 02:42:0a:00:01:03",
        "+neigh vm3 10.0.1.3",
        "+fdb vm3 02:42:0a:00:01:03 192.168.68.110",
    ]
    assert [(each.name, each.node) for each in plan.cluster.endpoints] == [("w", "vm3"), ("b", "vm2"), ("a", "vm2")]


# -- a whole cluster at once ------------------------------------------------------------------------------------------------


def _whole() -> Cluster:
    networks = (WEB, IN, network("sec", 4200, "10.0.9.0/24", encrypted=True), DEEP)
    endpoints = [
        endpoint(f"web.{number}", f"vm{number % 3 + 1}", each, f"{prefix}.{number + 3}")
        for number in range(9)
        for each, prefix in (("web", "10.0.1"), ("ingress", "10.0.0"), *((("sec", "10.0.9"),) if number % 2 else (("deep", "10.0.3"),)))
    ]
    return Cluster(nodes=tuple(Node(f"vm{number}") for number in (1, 2, 3)), networks=networks, endpoints=tuple(endpoints))


def test_a_cluster_built_at_once_is_the_one_built_piece_by_piece() -> None:
    cluster = _whole()
    at_once, by_piece = Plan(topology(["vm1", "vm2", "vm3"]), Options(), keys=KEYS), _plan(*cluster.networks)
    kernels = KernelModel(["vm1", "vm2", "vm3"]), KernelModel(["vm1", "vm2", "vm3"])
    steps = at_once.build(cluster)
    kernels[0].perform(steps)
    for name in dict.fromkeys(each.name for each in cluster.endpoints):
        kernels[1].perform(by_piece.attach([each for each in cluster.endpoints if each.name == name]))
    assert kernels[0].namespaces == kernels[1].namespaces
    assert at_once.cluster.endpoints == by_piece.cluster.endpoints
    assert at_once.gateways == by_piece.gateways
    entries = [step.namespace for step in steps if isinstance(step, AddNeighbour | AddFdb)]
    assert len(entries) == sum(2 for each in cluster.endpoints for other in range(3) if each.node != f"vm{other + 1}")
    changes = sum(one != other for one, other in pairwise(entries))
    assert changes == len(set(entries)) - 1, "each namespace's entries stand together"
    kernels[0].perform(inverses(steps))
    assert kernels[0].namespaces == KernelModel(["vm1", "vm2", "vm3"]).namespaces


def test_a_cluster_that_cannot_be_built_leaves_nothing_behind() -> None:
    plan = Plan(topology(["vm1", "vm2"]), Options(), keys=KEYS)
    with pytest.raises(UsageError, match="no node vm3: the topology has vm1, vm2"):
        plan.build(_whole())
    assert plan.cluster.networks == ()
    plan.build(replace(_whole(), nodes=(), endpoints=()))


def test_services_and_nodes_of_a_cluster_stay_as_they_were_told() -> None:
    plan = Plan(topology(["vm1", "vm2", "vm3"]), Options(), keys=KEYS)
    plan.build(replace(_whole(), notes=("told so",)))
    assert plan.cluster.notes == ("told so",)
    assert [node.name for node in plan.cluster.nodes] == ["vm1", "vm2", "vm3"]
    assert plan.cluster.network_by_name["web"].members == frozenset(("vm1", "vm2", "vm3"))
    assert plan.cluster.network_by_name["web"].complete


# -- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "an endpoint without a network"),
        ([endpoint("a", "vm9", "web", "10.0.1.4")], "no node vm9: the topology has vm1, vm2, vm3"),
        ([endpoint("a", "vm1", "nix", "10.0.1.4")], "no network nix: the lab has web, deep, wide"),
        ([endpoint("a", "vm1", "web", "10.0.2.4")], "a cannot have 10.0.2.4 in network web: its addresses are 10.0.1.0/24"),
        ([endpoint("a", "vm1", "web", "10.0.1.1")], "a cannot have 10.0.1.1 in network web: that is the gateway"),
        ([endpoint("a", "vm1", "web", "10.0.1.0")], "a cannot have 10.0.1.0 in network web: that is the subnet itself"),
        ([endpoint("a", "vm1", "web", "10.0.1.255")], "that is its broadcast address"),
        ([endpoint("there", "vm1", "web", "10.0.1.4")], "there is an endpoint there on vm1 already"),
        ([endpoint("a", "vm1", "web", "10.0.1.4")] * 2, "a is attached to a network twice"),
        ([endpoint("a", "vm1", "web", "10.0.1.4"), endpoint("a", "vm2", "deep", "10.0.3.4")], "the attachments of a differ in their node or name"),
        ([endpoint("../a", "vm1", "web", "10.0.1.4")], "'../a' cannot name an endpoint: letters"),
        ([endpoint("", "vm1", "web", "10.0.1.4")], "'' cannot name an endpoint"),
        ([endpoint("1-jnz278zgn1", "vm1", "web", "10.0.1.4")], "'1-jnz278zgn1' cannot name an endpoint: a sandbox that Docker makes"),
        ([endpoint("ingress_sbox", "vm1", "web", "10.0.1.4")], "'ingress_sbox' cannot name an endpoint"),
        ([replace(endpoint("a", "vm1", "web", "10.0.1.4"), ip=IPv6Address("fd00::3"))], "a has the address fd00::3: Docker's overlay carries IPv4"),
        ([endpoint("a", "vm1", "wide", "10.1.0.4"), endpoint("a", "vm1", "clash", "10.1.1.4")], "no network clash"),
    ],
)
def test_an_attachment_that_cannot_be_is_refused_with_the_reason(asked: list[Endpoint], words: str) -> None:
    plan = _plan(WEB, DEEP, WIDE)
    plan.attach([endpoint("there", "vm1", "web", "10.0.1.3")])
    before = plan.cluster
    with pytest.raises(UsageError, match=re.escape(words)):
        plan.attach(asked)
    assert plan.cluster == before


def test_networks_whose_routes_would_clash_cannot_share_a_sandbox() -> None:
    plan = _plan(WIDE, network("clash", 4300, "10.1.1.0/24"))
    with pytest.raises(UsageError, match=re.escape("a would have two routes to 10.1.1.0/24")):
        plan.attach([endpoint("a", "vm1", "wide", "10.1.0.4"), endpoint("a", "vm1", "clash", "10.1.1.4")])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (WEB, "there is a network web already"),
        (replace(WEB, name="b", vnis=()), "network b has 1 subnets and 0 VNIs"),
        (replace(WEB, name="b", subnets=(), vnis=()), "network b has 0 subnets and 0 VNIs"),
        (replace(WEB, name="b"), "network b cannot have the VNI 4097: network web has it"),
        (replace(WEB, name="b", vnis=(0,)), "network b cannot have the VNI 0: 1 to 16777215 can be"),
        (replace(WIDE, vnis=(9, 9, 9)), "network wide cannot have the VNI 9: it is there twice"),
        (replace(WEB, name="b", vnis=(5000,)), "networks web and b: their ids begin with the same ten characters"),
        (replace(WEB, name="b", driver="macvlan"), "network b is not an overlay as Docker makes it"),
        (replace(WEB, name="b", forwarding=Forwarding.ROUTED), "network b is not an overlay as Docker makes it"),
        (replace(APP, subnets=(Subnet(IPv4Network("10.0.2.0/24")),)), "subnet 10.0.2.0/24 of network app: IPv4 with a gateway inside"),
        (replace(APP, options={MTU_OPTION: "large"}), "network app: option com.docker.network.driver.mtu is 'large'"),
    ],
)
def test_a_network_that_cannot_be_is_refused_with_the_reason(asked: Network, words: str) -> None:
    plan = _plan()
    with pytest.raises(UsageError, match=re.escape(words)):
        plan.add_network(asked)
    assert [each.name for each in plan.cluster.networks] == ["web"]


def test_what_is_in_use_or_not_there_cannot_go() -> None:
    plan = _plan()
    for number in range(7):
        plan.attach([endpoint(f"a{number}", "vm1", "web", f"10.0.1.{number + 3}")])
    plan.attach([endpoint("a0", "vm2", "web", "10.0.1.30")])
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: plan.remove_network("web"), "network web is in use by a0 on vm1, a1 on vm1, a2 on vm1, a3 on vm1, a4 on vm1 and 3 more"),
        (lambda: plan.remove_network("nix"), "no network nix: the lab has web"),
        (lambda: plan.detach("vm2", "b"), "no endpoint b on vm2: a0 are there"),
        (lambda: plan.detach("vm3", "b"), "no endpoint b on vm3: none is there"),
        (lambda: plan.move("b", "vm2"), "no endpoint b"),
        (lambda: plan.move("a0", "vm3"), "a0 is on vm1 and vm2: say which one is to move"),
        (lambda: plan.move("a0", "vm2", source="vm1"), "there is an endpoint a0 on vm2 already"),
        (lambda: plan.move("a1", "vm9"), "no node vm9"),
    ]
    for action, words in refused:
        before = plan.cluster
        with pytest.raises(UsageError, match=re.escape(words)):
            action()
        assert plan.cluster == before
    for node, name in [("vm2", "a0"), *(("vm1", f"a{number}") for number in range(7))]:
        plan.detach(node, name)
    assert plan.remove_network("web") == []
    assert plan.cluster.networks == ()


# -- any history -----------------------------------------------------------------------------------------------------------

NODES = tuple(f"vm{number}" for number in range(1, 11))
NETWORKS = {
    each.name: each
    for each in (
        network("web", 4097, "10.0.1.0/24"),
        network("twin", 4098, "10.0.1.0/24", internal=True),
        network("sec", 4200, "10.0.3.0/28", "10.0.4.0/28", encrypted=True),
    )
}


def _pool(network: Network) -> list[Address]:
    """Few addresses, so that duplicates are common."""
    return [subnet.prefix[number] for subnet in network.subnets for number in range(3, 8)]


def expected(cluster: Cluster) -> dict[str, Any]:
    """What the kernels must know, from the Cluster alone: of each overlay sandbox neighbours, forwarding entries, ports and MTU; of each endpoint
    its MACs and addresses; which nodes have policies for which."""
    vtep = {node.name: node.vtep for node in cluster.nodes}
    sandboxes: dict[str, Any] = {}
    containers: dict[str, Any] = {}
    pairs: set[tuple[Any, Any]] = set()
    for each in cluster.networks:
        own = [(one, one.node or "") for one in cluster.endpoints if one.network == each.name]
        members = {node for _, node in own}
        pairs |= {(vtep[a], vtep[b]) for a in members for b in members if a != b and each.encrypted}
        for member in members:
            neighbours: dict[Any, Any] = {}
            fdb: dict[Any, Any] = {}
            ports = []
            for one, node in own:
                vni = next(vni for vni, subnet in zip(each.vnis, each.subnets, strict=True) if one.ip in subnet.prefix)
                if node == member:
                    ports.append(vni)
                else:
                    neighbours.setdefault((vni, one.ip), one.mac)
                    fdb.setdefault((vni, one.mac), vtep[node])
            sandboxes[f"{member}:1-{(each.id or '')[:10]}"] = (neighbours, fdb, sorted(ports), each.mtu)
    for one in cluster.endpoints:
        containers.setdefault(f"{one.node}:{one.name}", []).append((one.mac, one.ip))
    return {"sandboxes": sandboxes, "containers": containers, "pairs": pairs}


def known(kernel: KernelModel) -> dict[str, Any]:
    """The same, from the kernels."""
    sandboxes, containers, pairs = {}, {}, set()
    for name, space in kernel.namespaces.items():
        pairs |= {(source, destination) for source, destination, _ in space.policies}
        if ":1-" in name:
            vnis = {device: link.vni for device, link in space.links.items() if link.kind == "vxlan"}
            bridged = {link.master: link.vni for link in space.links.values() if link.kind == "vxlan"}
            (mtu,) = {link.mtu for link in space.links.values() if link.kind != "bridge"}
            sandboxes[name] = (
                {(vnis[device], ip): mac for (device, ip), mac in space.neighbours.items()},
                {(vnis[device], mac): vtep for (device, mac), vtep in space.fdb.items()},
                sorted(bridged[link.master] or 0 for link in space.links.values() if link.kind == "veth"),
                mtu,
            )
            assert all(link.up for link in space.links.values())
        elif ":" in name:
            overlay = [link for _, link in sorted(space.links.items()) if link.peer and ":1-" in link.peer[0]]
            containers[name] = [(link.mac, interface.ip) for link in overlay for interface in link.addresses]
    return {"sandboxes": sandboxes, "containers": containers, "pairs": pairs}


class History(RuleBasedStateMachine):
    """Endpoints are added, moved, removed and given one another's addresses, on ten nodes; after each step every kernel knows what it must."""

    there = Bundle("there")

    @initialize()
    def start(self) -> None:
        self.plan = Plan(topology(NODES), Options(), keys=KEYS)
        for each in NETWORKS.values():
            self.plan.add_network(each)
        self.kernel = KernelModel(NODES)
        self.made = 0

    @rule(
        target=there,
        node=st.sampled_from(NODES),
        attachments=st.dictionaries(st.sampled_from(sorted(NETWORKS)), st.integers(0, 9), min_size=1, max_size=2).filter(
            lambda chosen: set(chosen) != {"web", "twin"}
        ),
        mac=st.sampled_from([None, None, "02:00:5e:00:53:01"]),
    )
    def attach(self, node: str, attachments: dict[str, int], mac: str | None) -> Any:
        self.made += 1
        name = f"c{self.made}"
        pools = {each: _pool(NETWORKS[each]) for each in attachments}
        self.kernel.perform(
            self.plan.attach([endpoint(name, node, each, str(pools[each][choice % len(pools[each])]), mac) for each, choice in attachments.items()])
        )
        return multiple((node, name))

    @rule(which=there)
    def detach(self, which: tuple[str, str]) -> None:
        found = [each for each in self.plan.cluster.endpoints if each.name == which[1]]
        if found:
            self.kernel.perform(self.plan.detach(found[0].node or "", which[1]))

    @rule(which=there, node=st.sampled_from(NODES))
    def move(self, which: tuple[str, str], node: str) -> None:
        if any(each.name == which[1] for each in self.plan.cluster.endpoints):
            self.kernel.perform(self.plan.move(which[1], node))

    @precondition(lambda self: self.plan.cluster.endpoints)
    @rule(data=st.data(), node=st.sampled_from(NODES))
    def fail_in_the_middle(self, data: st.DataObject, node: str) -> None:
        """A kernel refuses a step: what was done is undone, and the plan restored."""
        name = data.draw(st.sampled_from([each.name for each in self.plan.cluster.endpoints]))
        before, cluster = self.plan.snapshot(), self.plan.cluster
        steps = self.plan.move(name, node)
        done = steps[: data.draw(st.integers(0, len(steps)))]
        self.kernel.perform(done)
        self.kernel.perform(inverses(done))
        self.plan.restore(before)
        assert self.plan.cluster == cluster

    @invariant()
    def every_kernel_knows_what_it_must(self) -> None:
        cluster = self.plan.cluster
        assert known(self.kernel) == expected(cluster)
        ways_out = {each for each in cluster.endpoints if not NETWORKS[each.network].internal}
        assert set(self.plan.gateways) == {(each.node, each.name) for each in ways_out}
        for (node, name), address in self.plan.gateways.items():
            space = self.kernel.namespaces[f"{node}:{name}"]
            assert IPv4Network("0.0.0.0/0") in space.routes
            assert IPv4Interface((address, 16)) in [interface for link in space.links.values() for interface in link.addresses]
        assert len({(node, address) for (node, _), address in self.plan.gateways.items()}) == len(self.plan.gateways)


TestAnyHistory = History.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_taking_everything_away_leaves_the_nodes_and_their_bridges() -> None:
    plan, kernel = _plan(*NETWORKS.values(), nodes=NODES), KernelModel(NODES)
    for number, node in enumerate(NODES):
        for each in NETWORKS.values():
            kernel.perform(plan.attach([endpoint(f"{each.name}.{number}", node, each.name, str(each.subnets[0].prefix[number + 3]))]))
    for node in NODES:
        for each in NETWORKS.values():
            kernel.perform(plan.detach(node, f"{each.name}.{NODES.index(node)}"))
    assert set(kernel.namespaces) == set(NODES)
    for node in NODES:
        space = kernel.namespaces[node]
        assert list(space.links) == ["docker_gwbridge"]
        assert not space.states
        assert not space.policies
        assert {table for _, table in space.rules} == {"docker_gwbridge"}


def test_a_step_list_names_only_what_is_needed() -> None:
    """Attaching to one network costs other networks nothing, however many peers they have."""
    plan = _plan(WEB, APP)
    for number in range(3, 100):
        plan.attach([endpoint(f"w{number}", f"vm{number % 3 + 1}", "web", f"10.0.1.{number}")])
    steps = plan.attach([endpoint("a", "vm1", "app", "10.0.2.3")])
    assert len(steps) < 30
    assert not any("jnz278zgn1" in step.namespace for step in steps)
    assert sum(isinstance(step, AddRoute) for step in steps) == 1
    assert plan.cluster.endpoints[-1].mac == overlay_mac(IPv4Address("10.0.2.3"))
