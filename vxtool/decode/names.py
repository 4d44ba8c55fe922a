"""Numbers that have a name: IP protocols, EtherTypes, ARP operations, DNS response codes, link types.

Knows only the registries; refuses to know where such a number stands in a frame.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ARP_OPERATIONS", "ETHERTYPES", "IP_PROTOCOLS", "LINKTYPES", "RCODES", "words_for"]

IP_PROTOCOLS: Mapping[str, int] = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "sctp": 132,
}
"""https://www.iana.org/assignments/protocol-numbers, those met in an overlay."""

ETHERTYPES: Mapping[str, int] = {
    "ipv4": 0x0800,
    "arp": 0x0806,
    "vlan": 0x8100,
    "rarp": 0x8035,
    "ipv6": 0x86DD,
    "mpls": 0x8847,
    "qinq": 0x88A8,
    "eapol": 0x888E,
    "lldp": 0x88CC,
    "nsh": 0x894F,
}
"""https://www.iana.org/assignments/ieee-802-numbers"""

ARP_OPERATIONS: Mapping[str, int] = {"request": 1, "reply": 2}
"""RFC 826"""

RCODES: Mapping[str, int] = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "YXDOMAIN": 6, "NOTAUTH": 9}
"""RFC 1035 section 4.1.1, RFC 6895"""

LINKTYPES: Mapping[int, str] = {
    0: "null",
    1: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    108: "loop",
    113: "Linux cooked (SLL)",
    228: "raw IPv4",
    229: "raw IPv6",
    276: "Linux cooked (SLL2)",
}
"""https://www.tcpdump.org/linktypes.html"""

_BY_ENDING: tuple[tuple[str, Mapping[str, int]], ...] = (
    ("proto", IP_PROTOCOLS),
    ("ethertype", ETHERTYPES),
    ("arp_op", ARP_OPERATIONS),
    ("rcode", RCODES),
)


def words_for(column: str) -> Mapping[str, int]:
    """The names that may stand for the numbers of this column, in any case; empty when it has none."""
    return next((words for ending, words in _BY_ENDING if column.endswith(ending)), {})
