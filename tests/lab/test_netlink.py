"""rtnetlink messages: pyroute2 reads from our bytes what we meant, and nothing else. No root is needed, no kernel is changed."""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from vxtool.lab import netlink
from vxtool.lab.netlink import Bridge, Channel, Message, Veth, Vxlan
from vxtool.model import Mac

MAC = Mac.parse("02:42:0a:00:01:03")
PEER = Mac.parse("02:42:0a:00:01:04")
VTEP = IPv4Address("192.168.68.110")
REQUEST, NEW = 0x001, 0x601  # NLM_F_REQUEST; with NLM_F_CREATE and NLM_F_EXCL

# A message; its kind, flags and pyroute2's class for it; what pyroute2 must find in its header; and in its attributes.
MESSAGES: dict[str, tuple[Message, int, int, type[Any], dict[str, object], dict[str, object]]] = {
    "bridge": (
        netlink.add_link("bridge", "br0", 1450, MAC, data=Bridge(0)),
        16,
        NEW,
        ifinfmsg,
        {"family": 0, "index": 0, "flags": 0, "change": 0},
        {
            "IFLA_IFNAME": "br0",
            "IFLA_MTU": 1450,
            "IFLA_ADDRESS": str(MAC),
            "IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge", "IFLA_INFO_DATA": {"IFLA_BR_VLAN_DEFAULT_PVID": 0}},
        },
    ),
    "a veth pair across two namespaces": (
        netlink.add_link("veth", "veth0", 1450, data=Veth("eth0", 1450, PEER, 7)),
        16,
        NEW,
        ifinfmsg,
        {},
        {
            "IFLA_IFNAME": "veth0",
            "IFLA_MTU": 1450,
            "IFLA_LINKINFO": {
                "IFLA_INFO_KIND": "veth",
                "IFLA_INFO_DATA": {
                    "VETH_INFO_PEER": {"IFLA_IFNAME": "eth0", "IFLA_MTU": 1450, "IFLA_ADDRESS": str(PEER), "IFLA_NET_NS_FD": 7},
                },
            },
        },
    ),
    "a VXLAN device like Docker's": (
        netlink.add_link("vxlan", "vxlan0", 1450, namespace=9, queue=0, data=Vxlan(4097, 4789)),
        16,
        NEW,
        ifinfmsg,
        {},
        {
            "IFLA_IFNAME": "vxlan0",
            "IFLA_MTU": 1450,
            "IFLA_NET_NS_FD": 9,
            "IFLA_TXQLEN": 0,
            "IFLA_LINKINFO": {
                "IFLA_INFO_KIND": "vxlan",
                "IFLA_INFO_DATA": {
                    "IFLA_VXLAN_ID": 4097,
                    "IFLA_VXLAN_LEARNING": 1,
                    "IFLA_VXLAN_PROXY": 1,
                    "IFLA_VXLAN_L2MISS": 1,
                    "IFLA_VXLAN_L3MISS": 1,
                    "IFLA_VXLAN_PORT": 4789,
                },
            },
        },
    ),
    "delete a link": (netlink.delete_link("eth0"), 17, REQUEST, ifinfmsg, {"index": 0}, {"IFLA_IFNAME": "eth0"}),
    "up": (netlink.set_link("eth0", up=True), 16, REQUEST, ifinfmsg, {"index": 0, "flags": 1, "change": 1}, {"IFLA_IFNAME": "eth0"}),
    "down": (netlink.set_link("eth0", up=False), 16, REQUEST, ifinfmsg, {"flags": 0, "change": 1}, {"IFLA_IFNAME": "eth0"}),
    "mtu": (netlink.set_link("eth0", mtu=1400), 16, REQUEST, ifinfmsg, {"flags": 0, "change": 0}, {"IFLA_IFNAME": "eth0", "IFLA_MTU": 1400}),
    "no master": (netlink.set_link("eth0", master=0), 16, REQUEST, ifinfmsg, {"change": 0}, {"IFLA_IFNAME": "eth0", "IFLA_MASTER": 0}),
    "move": (netlink.move_link(5, "vxlan0", 9), 16, REQUEST, ifinfmsg, {"index": 5}, {"IFLA_IFNAME": "vxlan0", "IFLA_NET_NS_FD": 9}),
    "address": (
        netlink.add_address(3, IPv4Interface("10.0.1.3/24"), True),
        20,
        NEW,
        ifaddrmsg,
        {"family": 2, "prefixlen": 24, "scope": 0, "index": 3, "flags": 0},
        {"IFA_LOCAL": "10.0.1.3", "IFA_ADDRESS": "10.0.1.3", "IFA_BROADCAST": "10.0.1.255"},
    ),
    "an alias": (
        netlink.add_address(3, IPv4Interface("10.0.1.2/32"), False),
        20,
        NEW,
        ifaddrmsg,
        {"prefixlen": 32},
        {"IFA_LOCAL": "10.0.1.2", "IFA_ADDRESS": "10.0.1.2"},
    ),
    "delete an address": (
        netlink.delete_address(3, IPv4Interface("10.0.1.3/24")),
        21,
        REQUEST,
        ifaddrmsg,
        {"prefixlen": 24, "index": 3},
        {"IFA_LOCAL": "10.0.1.3", "IFA_ADDRESS": "10.0.1.3"},
    ),
    "default route": (
        netlink.add_route(IPv4Network("0.0.0.0/0"), IPv4Address("172.18.0.1"), None),
        24,
        NEW,
        rtmsg,
        {"family": 2, "dst_len": 0, "src_len": 0, "table": 254, "proto": 3, "scope": 0, "type": 1},
        {"RTA_GATEWAY": "172.18.0.1"},
    ),
    "a route to a device": (
        netlink.add_route(IPv4Network("10.0.2.0/24"), None, 4),
        24,
        NEW,
        rtmsg,
        {"dst_len": 24, "scope": 253},
        {"RTA_DST": "10.0.2.0", "RTA_OIF": 4},
    ),
    "delete a route": (
        netlink.delete_route(IPv4Network("10.0.2.0/24"), IPv4Address("10.0.1.1"), 4),
        25,
        REQUEST,
        rtmsg,
        {"dst_len": 24, "table": 254, "proto": 0, "scope": 255, "type": 0},
        {"RTA_DST": "10.0.2.0", "RTA_GATEWAY": "10.0.1.1", "RTA_OIF": 4},
    ),
    "neighbour": (
        netlink.add_neighbour(6, IPv4Address("10.0.1.3"), MAC),
        28,
        NEW,
        ndmsg,
        {"family": 2, "ifindex": 6, "state": 0x80, "flags": 0, "ndm_type": 0},
        {"NDA_DST": "10.0.1.3", "NDA_LLADDR": str(MAC)},
    ),
    "delete a neighbour": (
        netlink.delete_neighbour(6, IPv4Address("10.0.1.3"), MAC),
        29,
        REQUEST,
        ndmsg,
        {"family": 2, "ifindex": 6},
        {"NDA_DST": "10.0.1.3", "NDA_LLADDR": str(MAC)},
    ),
    "forwarding entry": (
        netlink.add_fdb(6, MAC, VTEP),
        28,
        NEW,
        ndmsg,
        {"family": 7, "ifindex": 6, "state": 0x80, "flags": 2},
        {"NDA_DST": str(VTEP), "NDA_LLADDR": str(MAC)},
    ),
    "replace a forwarding entry": (
        netlink.replace_fdb(6, MAC, VTEP),
        28,
        0x501,
        ndmsg,
        {"family": 7, "state": 0x80, "flags": 2},
        {"NDA_DST": str(VTEP), "NDA_LLADDR": str(MAC)},
    ),
    "delete a forwarding entry": (
        netlink.delete_fdb(6, MAC, VTEP),
        29,
        REQUEST,
        ndmsg,
        {"family": 7, "flags": 2},
        {"NDA_DST": str(VTEP), "NDA_LLADDR": str(MAC)},
    ),
    "ask for a forwarding entry": (netlink.get_fdb(6, MAC), 30, REQUEST, ndmsg, {"family": 7, "ifindex": 6, "flags": 2}, {"NDA_LLADDR": str(MAC)}),
    "forget what a bridge has learned": (netlink.forget_mac(6, MAC), 29, REQUEST, ndmsg, {"family": 7, "flags": 4}, {"NDA_LLADDR": str(MAC)}),
}


def decoded(message: Message, reader: type[Any]) -> Any:
    read = reader(struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body)
    read.decode()
    return read


def attributes(read: Any) -> dict[str, object]:
    """What pyroute2 found, nested as it found it. An attribute it does not know has a name without a meaning, and would show."""
    return {name: attributes(value) if hasattr(value, "get_attr") else value for name, value in read["attrs"]}


@pytest.mark.parametrize("name", MESSAGES)
def test_pyroute2_reads_what_was_meant(name):
    message, kind, flags, reader, head, found = MESSAGES[name]
    read = decoded(message, reader)
    assert (message.kind, message.flags) == (kind, flags)
    assert {key: read[key] for key in head} == head
    assert attributes(read) == found


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_a_whole_number_of_words(name):
    """In a packet the next message follows at once, and must begin at a multiple of four bytes (netlink(7))."""
    assert len(MESSAGES[name][0].body) % 4 == 0


@pytest.mark.parametrize(
    ("flags", "attribute", "words"),
    [
        (0x300, struct.pack("=HH", 8, 1) + b"No\0\0", "File exists (No)"),
        (0x300, struct.pack("=HHI", 8, 2, 20) + struct.pack("=HH", 7, 1) + b"No\0\0", "File exists (No)"),  # an offset first
        (0x300, struct.pack("=HHI", 8, 2, 20), "File exists"),
        (0x100, b"", "File exists"),
        (0x300, struct.pack("=HH", 0, 2), "File exists"),  # a length that makes no sense ends the reading
    ],
)
def test_a_refusal_has_the_kernels_own_words_where_it_gives_some(flags, attribute, words):
    answer = struct.pack("=IHHII", 36 + len(attribute), 2, flags, 1, 0) + struct.pack("=iIHHII", -errno.EEXIST, 48, 16, 5, 1, 0) + attribute
    assert netlink._words(errno.EEXIST, answer, flags) == words


def test_a_device_that_is_not_there_is_named():
    channel = Channel()
    try:
        assert channel.index("lo") == 1
        for name in ("nonesuch0", "a_name_of_more_than_15_bytes", "lo\0eth0"):
            with pytest.raises(OSError, match=r"No such device \(") as refused:
                channel.index(name)
            assert refused.value.errno == errno.ENODEV
    finally:
        channel.close()
