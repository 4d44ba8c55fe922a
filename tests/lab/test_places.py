"""What users may write for a place, and what it means; the labs here exist on paper only."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from vxtool.errors import UsageError
from vxtool.lab.places import Place, PlaceKind, locate, places
from vxtool.lab.spec import EndpointWish, LabSpec, NetworkWish, from_options

NODES = ("sathish-vm1", "sathish-vm2")


@pytest.fixture(scope="module")
def lab() -> LabSpec:
    """The default topology with two networks; proxy.1 is in both, db.1 on an internal one, twin on both nodes."""
    return from_options(
        "one_segment",
        networks=[NetworkWish("web", id="0123456789abcdefghijklmno"), NetworkWish("db", internal=True, id="fedcba9876543210ghijklmno")],
        endpoints=[
            EndpointWish("web.1", NODES[0], {"web": None}),
            EndpointWish("proxy.1", NODES[1], {"web": None, "db": None}),
            EndpointWish("db.1", NODES[1], {"db": None}),
            EndpointWish("twin", NODES[0], {"db": None}),
            EndpointWish("twin", NODES[1], {"db": None}),
        ],
    )


def at(lab: LabSpec, text: str) -> Place:
    return locate(lab.topology, lab.cluster, text)


# text -> kind, name, namespace, device, devices
MEANINGS = {
    "sathish-vm1": ("node", "sathish-vm1", "sathish-vm1", None, ("eth0",)),
    "sathish-vm1:eth0": ("node", "sathish-vm1", "sathish-vm1", "eth0", ("eth0",)),
    "sathish-vm1:lo": ("node", "sathish-vm1", "sathish-vm1", "lo", ("eth0",)),
    "s1": ("switch", "s1", "switches", "s1", ("s1", "s1-eth1", "s1-eth2")),
    "s1:s1-eth2": ("switch", "s1", "switches", "s1-eth2", ("s1", "s1-eth1", "s1-eth2")),
    "web.1": ("endpoint", "web.1", "sathish-vm1:web.1", None, ("eth0", "eth1")),
    "sathish-vm1:web.1": ("endpoint", "web.1", "sathish-vm1:web.1", None, ("eth0", "eth1")),
    "web.1:eth1": ("endpoint", "web.1", "sathish-vm1:web.1", "eth1", ("eth0", "eth1")),
    "sathish-vm1:web.1:eth0": ("endpoint", "web.1", "sathish-vm1:web.1", "eth0", ("eth0", "eth1")),
    "proxy.1": ("endpoint", "proxy.1", "sathish-vm2:proxy.1", None, ("eth0", "eth1", "eth2")),
    "db.1": ("endpoint", "db.1", "sathish-vm2:db.1", None, ("eth0",)),
    "sathish-vm2:twin": ("endpoint", "sathish-vm2:twin", "sathish-vm2:twin", None, ("eth0",)),
    "web@sathish-vm1": ("network", "web@sathish-vm1", "sathish-vm1:1-0123456789", None, ("vxlan0", "br0")),
    "web@sathish-vm1:vxlan0": ("network", "web@sathish-vm1", "sathish-vm1:1-0123456789", "vxlan0", ("vxlan0", "br0")),
    "sathish-vm2:1-fedcba9876": ("network", "db@sathish-vm2", "sathish-vm2:1-fedcba9876", None, ("vxlan0", "br0")),
    "switches": ("namespace", "switches", "switches", None, ()),
}


@pytest.mark.parametrize(("text", "meant"), MEANINGS.items(), ids=MEANINGS)
def test_a_name_means_a_place(lab: LabSpec, text: str, meant: tuple[object, ...]) -> None:
    place = at(lab, text)
    assert (place.kind, place.name, place.namespace, place.device, place.devices) == meant


def test_a_link_is_its_end_at_the_node_unless_another_is_named(lab: LabSpec) -> None:
    link = lab.topology.links[0]
    ends = {end.machine: end.device for end in link.ends}
    assert set(ends) == {"s1", "sathish-vm1"}
    place = at(lab, link.name)
    assert (place.kind, place.namespace, place.device) == (PlaceKind.LINK, "sathish-vm1", ends["sathish-vm1"])
    assert at(lab, f"{link.name}:sathish-vm1").device == ends["sathish-vm1"]
    switch_end = at(lab, f"{link.name}:s1")
    assert (switch_end.namespace, switch_end.device) == ("switches", ends["s1"])


def test_between_router_and_switch_a_link_is_its_end_at_the_router() -> None:
    racks = from_options("two_racks")
    link = next(one for one in racks.topology.links if {one.a.machine, one.b.machine} == {"r1", "s1"})
    assert at(racks, link.name).namespace == "r1"
    assert at(racks, "r1").kind is PlaceKind.ROUTER


def test_an_endpoint_tells_its_addresses_and_its_host_name(lab: LabSpec) -> None:
    place = at(lab, "proxy.1")
    addresses = {endpoint.ip for endpoint in lab.cluster.endpoints if endpoint.name == "proxy.1"}
    assert set(place.addresses) == addresses
    assert len(addresses) == 2
    assert place.hostname == "proxy.1"
    assert at(lab, "sathish-vm2:twin").hostname == "twin"
    assert at(lab, "sathish-vm2").hostname == "sathish-vm2"


def test_the_name_of_every_place_leads_back_to_it(lab: LabSpec) -> None:
    for place in places(lab.topology, lab.cluster):
        found = at(lab, place.name)
        assert found.namespace == place.namespace
        assert found.kind is place.kind


REFUSED = {
    "no such endpoint": ("web.7", "'web.7' is no node, endpoint, link or NETWORK@NODE of this lab; did you mean web.1"),
    "a near node": ("satish-vm1", "did you mean sathish-vm1"),
    "nothing near": ("zzzzzz", "of this lab (`vxtool lab ps`"),
    "on two nodes": ("twin", "'twin' is on several nodes: write sathish-vm1:twin or sathish-vm2:twin"),
    "no such device": ("web.1:eth5", "'web.1:eth5': web.1 has no device 'eth5'; it has eth0, eth1"),
    "no such end": ("sathish-vm1-s1:sathish-vm2", "does not end at 'sathish-vm2'; write sathish-vm1-s1:sathish-vm1 or sathish-vm1-s1:s1"),
    "a network by itself": ("web", "is no node"),
    "nothing": ("", "'' is no node"),
    "a control character": ("\x1b[2J", "'\\x1b[2J' is no node"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_a_name_that_is_none_is_refused_with_what_comes_near(lab: LabSpec, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        at(lab, text)
    assert said in str(refused.value)


def test_a_machine_is_meant_where_an_endpoint_has_its_name(lab: LabSpec) -> None:
    [first, *_] = lab.cluster.endpoints
    confusing = replace(lab.cluster, endpoints=(replace(first, name=NODES[1], ip=IPv4Address("10.0.1.99")),))
    assert locate(lab.topology, confusing, NODES[1]).kind is PlaceKind.NODE
    assert locate(lab.topology, confusing, f"{NODES[0]}:{NODES[1]}").kind is PlaceKind.ENDPOINT
