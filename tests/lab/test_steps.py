"""Steps as data: each knows its inverse and the commands a person would type; no kernel is asked here (tests/netns/test_kernel.py asks it)."""

from __future__ import annotations

import shlex
from dataclasses import FrozenInstanceError, fields, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import get_args

import pytest

from vxtool.lab import steps
from vxtool.lab.steps import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNamespace,
    AddNeighbour,
    AddRoute,
    AddRules,
    AddTap,
    AddVeth,
    AddVxlan,
    AddXfrmPolicy,
    AddXfrmState,
    DeleteLink,
    ForgetFlows,
    ForgetMac,
    MoveLink,
    ReplaceRules,
    SetBackends,
    SetMaster,
    SetMtu,
    SetOffload,
    SetQdisc,
    SetSysctl,
    SetUp,
    Step,
    commands,
    inverses,
)
from vxtool.model import Mac

NS = "vm1:web.1"
ONE, TWO = IPv4Address("192.168.68.109"), IPv4Address("192.168.68.110")
MAC = Mac.parse("02:42:0a:00:01:03")

# A step, and how it is typed.
TYPED: list[tuple[Step, list[str]]] = [
    (
        AddNamespace(NS),
        [
            "ip netns add vm1:web.1",
            "ip netns exec vm1:web.1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            "ip -n vm1:web.1 link set lo up",
        ],
    ),
    (SetSysctl(NS, "net.ipv4.ip_forward", "1", "0"), ["ip netns exec vm1:web.1 sysctl -qw net.ipv4.ip_forward=1"]),
    (SetSysctl(NS, "net.x", "1 2", "0", optional=True), ["ip netns exec vm1:web.1 sysctl -eqw 'net.x=1 2'"]),
    (
        AddVeth("vm1:1-abc", "veth0", NS, "eth0", 1450, None, MAC),
        ["ip -n vm1:1-abc link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 address 02:42:0a:00:01:03 netns vm1:web.1"],
    ),
    (
        AddVeth(NS, "a0", NS, "b0", queue=0),
        ["ip -n vm1:web.1 link add a0 mtu 1500 txqueuelen 0 type veth peer name b0 mtu 1500 txqueuelen 0 netns vm1:web.1"],
    ),
    (AddBridge(NS, "br0", MAC, 1450, 0), ["ip -n vm1:web.1 link add br0 mtu 1450 address 02:42:0a:00:01:03 type bridge vlan_default_pvid 0"]),
    (AddTap(NS, "tap0", 1400), ["ip -n vm1:web.1 tuntap add tap0 mode tap", "ip -n vm1:web.1 link set tap0 mtu 1400"]),
    (
        AddVxlan("vm1", "vx-001001-abcde", 4097, 4789, 1450, "vm1"),
        ["ip -n vm1 link add vx-001001-abcde mtu 1450 txqueuelen 0 type vxlan id 4097 dstport 4789 learning proxy l2miss l3miss"],
    ),
    (MoveLink("vm1", "vx", NS, "vxlan0"), ["ip -n vm1 link set vx netns vm1:web.1", "ip -n vm1:web.1 link set vx name vxlan0"]),
    (MoveLink("vm1", "vx", "vm1", "vxlan0"), ["ip -n vm1 link set vx name vxlan0"]),
    (MoveLink("vm1", "vx", NS, "vx"), ["ip -n vm1 link set vx netns vm1:web.1"]),
    (SetMaster(NS, "veth0", "br0"), ["ip -n vm1:web.1 link set veth0 master br0"]),
    (SetUp(NS, "eth0"), ["ip -n vm1:web.1 link set eth0 up"]),
    (SetMtu(NS, "eth0", 1400, 1500), ["ip -n vm1:web.1 link set eth0 mtu 1400"]),
    (SetOffload(NS, "eth0", False), ["ip netns exec vm1:web.1 ethtool -K eth0 tx off rx off tso off gso off"]),
    (AddAddress(NS, "eth0", IPv4Interface("10.0.1.3/24")), ["ip -n vm1:web.1 addr add 10.0.1.3/24 brd + dev eth0"]),
    (AddAddress(NS, "eth0", IPv4Interface("10.0.1.2/32"), False), ["ip -n vm1:web.1 addr add 10.0.1.2/32 dev eth0"]),
    (AddRoute(NS, IPv4Network("0.0.0.0/0"), ONE), ["ip -n vm1:web.1 route add default via 192.168.68.109"]),
    (AddRoute(NS, IPv4Network("10.0.2.0/24"), ONE, "eth0"), ["ip -n vm1:web.1 route add 10.0.2.0/24 via 192.168.68.109 dev eth0"]),
    (
        AddNeighbour(NS, "vxlan0", IPv4Address("10.0.1.3"), MAC),
        ["ip -n vm1:web.1 neigh add 10.0.1.3 lladdr 02:42:0a:00:01:03 dev vxlan0 nud permanent"],
    ),
    (AddFdb(NS, "vxlan0", MAC, TWO), ["bridge -n vm1:web.1 fdb add 02:42:0a:00:01:03 dev vxlan0 dst 192.168.68.110 self permanent"]),
    (ForgetMac(NS, "vxlan0", MAC), ["bridge -n vm1:web.1 fdb del 02:42:0a:00:01:03 dev vxlan0 master 2>/dev/null || true"]),
    (AddRules(NS, "ip", "mine", "chain a { };"), ["ip netns exec vm1:web.1 nft 'table ip mine { chain a { }; }'"]),
    (
        ReplaceRules(NS, "ip", "mine", (("a", "jump b;"), ("b", "return;")), (("a", "jump c;"), ("c", "drop;"))),
        [
            "ip netns exec vm1:web.1 nft 'table ip mine { chain a { }; chain b { }; }\nflush chain ip mine a\nflush chain ip mine c\n"
            "table ip mine { chain a { jump b; }; chain b { return; }; }\ndelete chain ip mine c'"
        ],
    ),
    (
        SetBackends(NS, 256, ((ONE, 1), (TWO, 0)), None),
        [
            "ip netns exec vm1:web.1 ipvsadm -A -f 256 -s rr",
            "ip netns exec vm1:web.1 ipvsadm -a -f 256 -r 192.168.68.109 -m -w 1",
            "ip netns exec vm1:web.1 ipvsadm -a -f 256 -r 192.168.68.110 -m -w 0",
        ],
    ),
    (
        SetBackends(NS, 256, ((TWO, 0),), ((ONE, 1), (TWO, 1))),
        ["ip netns exec vm1:web.1 ipvsadm -e -f 256 -r 192.168.68.110 -m -w 0", "ip netns exec vm1:web.1 ipvsadm -d -f 256 -r 192.168.68.109"],
    ),
    (SetBackends(NS, 256, None, ((ONE, 1),)), ["ip netns exec vm1:web.1 ipvsadm -D -f 256"]),
    (
        ForgetFlows(NS, (ONE,), (53,)),
        [
            "ip netns exec vm1:web.1 conntrack -D -r 192.168.68.109 2>/dev/null || true",
            "ip netns exec vm1:web.1 conntrack -D -p udp --orig-port-dst 53 2>/dev/null || true",
        ],
    ),
    (SetQdisc(NS, "eth0", "netem delay 20ms"), ["tc -n vm1:web.1 qdisc add dev eth0 root netem delay 20ms"]),
    (
        AddXfrmState(NS, ONE, TWO, 0xABC, 7, bytes(20)),
        [
            f"ip -n vm1:web.1 xfrm state add src {ONE} dst {TWO} proto esp spi 0x00000abc reqid 7 mode transport"
            f" aead 'rfc4106(gcm(aes))' 0x{'00' * 20} 64"
        ],
    ),
    (
        AddXfrmPolicy(NS, ONE, TWO, 4789, 5, 0xABC, 7),
        [
            f"ip -n vm1:web.1 xfrm policy add src {ONE}/32 dst {TWO}/32 proto udp dport 4789 dir out mark 0x5 mask 0xffffffff"
            f" tmpl src {ONE} dst {TWO} proto esp spi 0x00000abc reqid 7 mode transport"
        ],
    ),
]

EACH = [step for step, _ in TYPED]
EACH += [inverse for step in EACH if (inverse := step.inverse()) is not None and type(inverse) is not type(step)]
EACH.append(AddXfrmPolicy(NS, ONE, TWO, 4789, 5, 0xABD, 7, replaces=0xABC))
each_step = pytest.mark.parametrize("step", EACH, ids=lambda step: type(step).__name__)


@pytest.mark.parametrize(("step", "typed"), TYPED, ids=[type(step).__name__ for step, _ in TYPED])
def test_a_step_is_typed_like_this(step, typed):
    assert step.commands() == typed


def test_every_kind_of_step_is_tried_here():
    assert {type(step) for step in EACH} == set(get_args(Step))
    assert {kind.__name__ for kind in get_args(Step)} <= set(steps.__all__)


@each_step
def test_the_inverse_of_the_inverse_is_the_step(step):
    inverse = step.inverse()
    assert inverse is None or inverse.inverse() == step


@each_step
def test_a_step_cannot_be_changed_and_equals_one_like_it(step):
    assert {step, replace(step)} == {step}
    with pytest.raises(FrozenInstanceError):
        step.namespace = "vm2"


@each_step
def test_a_name_is_one_word_of_the_command_whatever_is_in_it(step):
    """Names are the user's: a shell must not find a second command in one."""
    name = "it's; reboot $(x) *"
    renamed = replace(step, **{field.name: name for field in fields(step) if field.name in ("namespace", "peer_namespace", "underlay", "to")})
    for line in renamed.commands():
        assert name in shlex.split(line)


def test_what_takes_a_list_back_comes_last_first_and_passes_over_what_has_no_inverse():
    made = [AddNamespace("vm1"), AddBridge("vm1", "br0"), ForgetMac("vm1", "br0", MAC), DeleteLink("vm1", "eth0"), SetUp("vm1", "br0")]
    assert commands(inverses(made)) == ["ip -n vm1 link set br0 down", "ip -n vm1 link del br0", "ip netns del vm1"]
    assert inverses(inverses(made[:2])) == made[:2]


def test_key_rotation_is_taken_back_by_rotating_to_the_key_before():
    new = AddXfrmPolicy(NS, ONE, TWO, 4789, 5, 0xABD, 7, replaces=0xABC)
    assert new.inverse() == AddXfrmPolicy(NS, ONE, TWO, 4789, 5, 0xABC, 7, replaces=0xABD)
    assert "xfrm policy update" in new.commands()[0]
