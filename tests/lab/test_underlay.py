"""The underlay's plan: each step finds what it needs, and taking them back leaves nothing. No kernel: a model of one that knows names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from vxtool.lab.spec import Options
from vxtool.lab.steps import (
    AddAddress,
    AddBridge,
    AddNamespace,
    AddRoute,
    AddVeth,
    DeleteAddress,
    DeleteLink,
    DeleteNamespace,
    DeleteRoute,
    SetDown,
    SetMaster,
    SetNoMaster,
    SetOffload,
    SetSysctl,
    SetUp,
    Step,
    commands,
    inverses,
)
from vxtool.lab.topology import SWITCHES, End, Impairment, Link, Machine, MachineKind, Topology
from vxtool.lab.topos import load, names
from vxtool.lab.underlay import plan
from vxtool.model import Mac

ARTICLE = """\
ip netns add sathish-vm1
ip netns exec sathish-vm1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip -n sathish-vm1 link set lo up
ip netns add sathish-vm2
ip netns exec sathish-vm2 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip -n sathish-vm2 link set lo up
ip netns exec switches sysctl -eqw net.bridge.bridge-nf-call-iptables=0
ip netns exec switches sysctl -eqw net.bridge.bridge-nf-call-ip6tables=0
ip netns exec switches sysctl -eqw net.bridge.bridge-nf-call-arptables=0
ip -n switches link add s1 type bridge
ip -n switches link set s1 up
ip -n switches link add s1-eth1 mtu 1500 type veth peer name eth0 mtu 1500 netns sathish-vm1
ip -n switches link add s1-eth2 mtu 1500 type veth peer name eth0 mtu 1500 netns sathish-vm2
ip -n switches link set s1-eth1 master s1
ip -n switches link set s1-eth1 up
ip -n switches link set s1-eth2 master s1
ip -n switches link set s1-eth2 up
ip -n sathish-vm1 addr add 192.168.68.109/24 brd + dev eth0
ip -n sathish-vm1 link set eth0 up
ip -n sathish-vm2 addr add 192.168.68.110/24 brd + dev eth0
ip -n sathish-vm2 link set eth0 up
"""


def test_the_articles_underlay_as_a_person_would_type_it() -> None:
    assert "\n".join(commands(plan(load("one_segment"), Options()))) + "\n" == ARTICLE


class Model:
    """Namespaces and the names in them. A step that needs what is not there, or makes what is, is a KeyError."""

    def __init__(self) -> None:
        self.facts: dict[tuple[object, ...], object] = {("namespace", SWITCHES): True}
        self.settings: dict[tuple[str, str], tuple[str, str]] = {}  # those that are not at their default: (default, value)

    def perform(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._perform(step)

    def _perform(self, step: Step) -> None:
        match step:
            case AddNamespace(name):
                self._add("namespace", name)
            case DeleteNamespace(name):
                self._remove("namespace", name)
                assert not [fact for fact in self.facts if name in fact], f"{name} is not empty"
            case SetSysctl(namespace, key, value, before):
                self._need("namespace", namespace)
                default, now = self.settings.pop((namespace, key), (before, before))
                assert now == before
                if value != default:
                    self.settings[namespace, key] = (default, value)
            case AddBridge(namespace, name):
                self._device(namespace, name)
            case AddVeth(namespace, name, peer_namespace, peer):
                self._device(namespace, name)
                self._device(peer_namespace, peer)
            case DeleteLink(namespace, name, made):
                self._remove("device", namespace, name)
                if isinstance(made, AddVeth):
                    self._remove("device", made.peer_namespace, made.peer)
            case SetMaster(namespace, name, master):
                self._need("device", namespace, name)
                self._need("device", namespace, master)
                self._add("master", namespace, name, master)
            case SetNoMaster(namespace, name, master):
                self._remove("master", namespace, name, master)
            case SetUp(namespace, name):
                self._need("device", namespace, name)
                self._add("up", namespace, name)
            case SetDown(namespace, name):
                self._remove("up", namespace, name)
            case SetOffload(namespace, name, on):
                self._need("device", namespace, name)
                (self._remove if on else self._add)("wire", namespace, name)
            case AddAddress(namespace, device, interface):
                self._need("device", namespace, device)
                self._add("address", namespace, device, interface)
            case DeleteAddress(namespace, device, interface):
                self._remove("address", namespace, device, interface)
            case AddRoute(namespace, destination, via, None):
                assert any(
                    fact[:2] == ("address", namespace) and via in fact[3].network and ("up", namespace, fact[2]) in self.facts  # type: ignore[attr-defined]
                    for fact in self.facts
                ), f"{namespace}: {via} is not on any of its links that are up"
                self._add("route", namespace, destination)
            case DeleteRoute(namespace, destination):
                self._remove("route", namespace, destination)
            case _:
                raise AssertionError(f"{step} has no place in an underlay")

    def _device(self, namespace: str, name: str) -> None:
        self._need("namespace", namespace)
        self._add("device", namespace, name)

    def _need(self, *fact: object) -> None:
        if fact not in self.facts:
            raise KeyError(fact)

    def _add(self, *fact: object) -> None:
        if fact in self.facts:
            raise KeyError(fact)
        self.facts[fact] = True

    def _remove(self, *fact: object) -> None:
        del self.facts[fact]


TOPOLOGIES = [*names(), "one_segment,n=40", "two_racks,n=7", "leaf_spine,racks=5,spines=3,n=11", "wide_area,sites=4,n=9"]


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("text", TOPOLOGIES)
def test_each_step_finds_what_it_needs_and_taking_all_back_leaves_nothing(text: str, wire: bool) -> None:
    topology, model = load(text), Model()
    steps = plan(topology, Options(wire=wire))
    model.perform(steps)
    devices = {fact[1:] for fact in model.facts if fact[0] == "device"}
    assert devices == {(topology.namespace(end.machine), end.device) for link in topology.links for end in link.ends} | {
        (SWITCHES, switch.name) for switch in topology.of_kind(MachineKind.SWITCH)
    }
    assert {fact[1:] for fact in model.facts if fact[0] == "up"} == devices
    assert {fact[1:] for fact in model.facts if fact[0] == "wire"} == (devices - {(SWITCHES, s.name) for s in topology.machines} if wire else set())
    model.perform(inverses(steps))
    assert set(model.facts) == {("namespace", SWITCHES)}
    assert not model.settings


def test_a_namespace_has_lo_up_and_no_ipv6_before_it_has_a_link() -> None:
    """Which is what AddNamespace promises: so it comes before every link."""
    kinds = [type(step) for step in plan(load("leaf_spine"), Options())]
    assert max(i for i, kind in enumerate(kinds) if kind is AddNamespace) < min(i for i, kind in enumerate(kinds) if kind is AddVeth)


def test_routers_forward_and_nodes_are_not_told_to() -> None:
    forwarding = {step.namespace for step in plan(load("wide_area"), Options()) if isinstance(step, SetSysctl) and step.key == "net.ipv4.ip_forward"}
    assert forwarding == {"r1", "r2"}


def test_bridged_packets_pass_iptables_nowhere_and_a_kernel_without_br_netfilter_does_not_mind() -> None:
    calls = [step for step in plan(load("single"), Options()) if isinstance(step, SetSysctl)]
    assert {(step.namespace, step.value, step.optional) for step in calls} == {(SWITCHES, "0", True)}
    assert all(step.inverse() == replace(step, value="1", before="0") for step in calls)


def test_impairments_are_left_to_the_impairer() -> None:
    impaired = load("wide_area")
    plain = replace(impaired, links=tuple(replace(link, impairment=Impairment()) for link in impaired.links))
    assert plan(impaired, Options()) == plan(plain, Options())


def veths(topology: Topology) -> Iterator[AddVeth]:
    return (step for step in plan(topology, Options()) if isinstance(step, AddVeth))


def test_both_ends_of_a_link_have_its_mtu() -> None:
    links = {link.name: link.mtu for link in load("wide_area,mtu=1300").links}
    assert links == {"r1-s1": 1500, "r1-wan1": 1300, "vm1-s1": 1500, "r2-s2": 1500, "r2-wan1": 1300, "vm2-s2": 1500}
    assert [step.mtu for step in veths(load("wide_area,mtu=1300"))] == list(links.values())


def test_two_machines_may_be_joined_without_a_switch_and_have_the_macs_they_were_given() -> None:
    pair = Topology(
        "pair",
        (Machine("a", MachineKind.NODE), Machine("b", MachineKind.NODE)),
        (Link("a-b", End("a", "eth0", IPv4Interface("10.0.0.0/31"), Mac(2)), End("b", "eth0", IPv4Interface("10.0.0.1/31"))),),
    )
    assert list(veths(pair)) == [AddVeth("a", "eth0", "b", "eth0", mac=Mac(2))]
    assert "ip -n a addr add 10.0.0.0/31 dev eth0" in commands(plan(pair, Options())), "a /31 has no broadcast address (RFC 3021)"
