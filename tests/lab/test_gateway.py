"""docker_gwbridge: who has a way out, through which address, and what it looks like (engine 20.10's nodes are the measure)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from tests.lab.overlays import KernelModel, endpoint, network, topology
from vxtool.errors import UsageError
from vxtool.lab import gateway, names
from vxtool.lab.overlay import Plan
from vxtool.lab.spec import Options
from vxtool.lab.steps import AddBridge, AddRules, AddVeth, commands
from vxtool.model import EndpointKind, Network

NETWORKS = (
    network("ingress", 4096, "10.0.0.0/24", ingress=True),
    network("web", 4097, "10.0.1.0/24"),
    network("quiet", 4098, "10.0.2.0/24", internal=True),
)


def _plan(*networks: Network) -> Plan:
    plan = Plan(topology(["vm1", "vm2"]), Options())
    for each in networks or NETWORKS:
        plan.add_network(each)
    return plan


def test_the_bridge_and_a_way_out_as_a_person_would_type_them() -> None:
    plan = _plan()
    plan.attach([endpoint("db", "vm1", "quiet", "10.0.2.3")])
    typed = commands(plan.attach([endpoint("web.1", "vm1", "web", "10.0.1.3")]))
    port = names.veth("vm1", "web.1", "gateway")
    mac = names.bridge_mac("vm1", "docker_gwbridge")
    assert [line for line in typed if "gwbridge" in line or port in line or "eth1" in line] == [
        f"ip -n vm1 link add docker_gwbridge address {mac} txqueuelen 0 type bridge",
        "ip -n vm1 addr add 172.18.0.1/16 brd + dev docker_gwbridge",
        "ip -n vm1 link set docker_gwbridge up",
        "ip netns exec vm1 nft 'table ip docker_gwbridge { chain postrouting { type nat hook postrouting priority srcnat; "
        """ip saddr 172.18.0.0/16 oifname != "docker_gwbridge" masquerade; } }'""",
        "ip netns exec vm1 nft 'table bridge docker_gwbridge { chain forward { type filter hook forward priority filter; "
        """iifname "veth*" oifname "veth*" ether type ip drop; } }'""",
        f"ip -n vm1 link add {port} mtu 1500 txqueuelen 0 type veth peer name eth1 mtu 1500 txqueuelen 0 address 02:42:ac:12:00:02 netns vm1:web.1",
        f"ip -n vm1 link set {port} master docker_gwbridge",
        f"ip -n vm1 link set {port} up",
        "ip -n vm1:web.1 addr add 172.18.0.2/16 brd + dev eth1",
        "ip -n vm1:web.1 link set eth1 up",
        "ip -n vm1:web.1 route add default via 172.18.0.1 dev eth1",
    ]


@pytest.mark.parametrize(
    ("networks", "kind", "way_out"),
    [
        (("web",), EndpointKind.TASK, "eth1"),
        (("ingress", "web"), EndpointKind.TASK, "eth2"),
        (("quiet",), EndpointKind.TASK, None),
        (("quiet", "web"), EndpointKind.CONTAINER, "eth2"),
        (("web",), EndpointKind.LOAD_BALANCER, None),
        (("ingress",), EndpointKind.LOAD_BALANCER, "eth1"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)
def test_who_has_a_way_out(networks: tuple[str, ...], kind: EndpointKind, way_out: str | None) -> None:
    plan = _plan()
    name = f"{networks[0]}-endpoint" if kind is EndpointKind.LOAD_BALANCER else "a"
    addresses = {each.name: str(each.subnets[0].prefix[9]) for each in NETWORKS}
    kernel = KernelModel(["vm1", "vm2"])
    kernel.perform(plan.attach([replace(endpoint(name, "vm1", each, addresses[each]), kind=kind) for each in networks]))
    sandbox = next(space for space in kernel.namespaces if space not in ("vm1", "vm2") and "1-" not in space)
    assert kernel.namespaces[sandbox].routes == ({IPv4Network("0.0.0.0/0"): (IPv4Address("172.18.0.1"), way_out)} if way_out else {})
    assert plan.gateways == ({("vm1", name): IPv4Address("172.18.0.2")} if way_out else {})


def test_the_lowest_address_that_is_free_is_given_on_each_node_by_itself() -> None:
    """vm1 of the 20.10 dump: ingress_sbox .2, web.1 .3, web.4 .4, other .5, sec .6."""
    plan = _plan()
    for number in range(3, 8):
        plan.attach([endpoint(f"web.{number}", "vm1", "web", f"10.0.1.{number}")])
    plan.detach("vm1", "web.4")
    plan.detach("vm1", "web.6")
    plan.attach([endpoint("web.9", "vm2", "web", "10.0.1.9")])
    plan.attach([endpoint("web.8", "vm1", "web", "10.0.1.8")])
    assert {name: str(address) for (_, name), address in plan.gateways.items()} == {
        "web.3": "172.18.0.2",
        "web.5": "172.18.0.4",
        "web.7": "172.18.0.6",
        "web.9": "172.18.0.2",
        "web.8": "172.18.0.3",
    }


def test_the_bridge_is_made_for_the_first_sandbox_and_stays_after_the_last() -> None:
    plan, kernel = _plan(), KernelModel(["vm1", "vm2"])
    assert not kernel.namespaces["vm1"].links
    kernel.perform(plan.attach([endpoint("web.1", "vm1", "web", "10.0.1.3")]))
    kernel.perform(plan.detach("vm1", "web.1"))
    again = plan.attach([endpoint("web.1", "vm1", "web", "10.0.1.3")])
    assert not any(isinstance(step, AddBridge) and step.name == "docker_gwbridge" for step in again)
    kernel.perform(again)
    assert list(kernel.namespaces["vm1"].links) == ["docker_gwbridge", names.veth("vm1", "web.1", "gateway")]
    assert not kernel.namespaces["vm2"].links


def test_ports_of_the_bridge_have_names_of_their_own() -> None:
    drawn = names.veth("vm1", "a", "gateway")
    assert drawn == names.veth("vm1", "a", "gateway") != names.veth("vm1", "b", "gateway")
    assert names.veth("vm1", "a", "gateway", taken={drawn}) not in (drawn, names.veth("vm1", "b", "gateway"))
    plan = _plan()
    made = [step for number in range(3, 200) for step in plan.attach([endpoint(f"w{number}", "vm1", "web", f"10.0.1.{number}")])]
    ports = [step.name for step in made if isinstance(step, AddVeth) and step.namespace == "vm1"]
    assert len(set(ports)) == len(ports) == 197
    assert all(len(port) == 11 and port.startswith("veth") and int(port[4:], 16) >= 0 for port in ports)


def test_a_full_bridge_refuses_and_changes_nothing() -> None:
    full = {gateway.SUBNET[number] for number in range(2, gateway.SUBNET.num_addresses - 1)}
    assert gateway.lowest_free(full) is None
    assert gateway.lowest_free(full - {IPv4Address("172.18.255.254")}) == IPv4Address("172.18.255.254")


def test_a_refused_attachment_leaves_the_plan_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan()
    plan.attach([endpoint("web.1", "vm1", "web", "10.0.1.3")])
    before = plan.cluster
    monkeypatch.setattr(gateway, "lowest_free", lambda taken: None)
    with pytest.raises(UsageError, match=r"no address is left on docker_gwbridge of vm2"):
        plan.attach([endpoint("web.2", "vm2", "web", "10.0.1.4")])
    with pytest.raises(UsageError, match="no address is left"):
        plan.move("web.1", "vm2")
    assert plan.cluster == before
    monkeypatch.undo()
    plan.move("web.1", "vm2")
    assert plan.gateways == {("vm2", "web.1"): IPv4Address("172.18.0.2")}


def test_the_rules_are_two_tables_of_the_node() -> None:
    tables = [(step.namespace, step.family, step.table) for step in gateway.bridge("vm1") if isinstance(step, AddRules)]
    assert tables == [("vm1", "ip", "docker_gwbridge"), ("vm1", "bridge", "docker_gwbridge")]
