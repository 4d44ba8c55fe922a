"""An underlay of IPv6 and endpoints of IPv6: extension headers, neighbour discovery, a zero UDP checksum (RFC 6935), odd chains."""

from _making import A, B, inner, request, save, vxlan
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw


def outer(*extensions: Packet) -> Packet:
    frame = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12", hlim=64, tc=0x28)
    for extension in extensions:
        frame /= extension
    return frame


def inner6() -> Packet:
    return Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04") / IPv6(src="fd00::3", dst="fd00::4")


hop, destination = IPv6ExtHdrHopByHop(options=[RouterAlert()]), IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
routing = IPv6ExtHdrRouting(addresses=["2001:db8::99"], segleft=0)
save(
    __file__,
    [
        outer() / vxlan(600, request(), checksum=0),
        outer() / vxlan(601, request(), checksum=None),
        outer(hop) / vxlan(602, request(), checksum=None),
        outer(hop, destination, routing, destination) / vxlan(603, request(), checksum=None),
        outer() / vxlan(604, inner6() / TCP(sport=40_000, dport=443, flags="S"), checksum=None),
        outer() / vxlan(605, inner6() / UDP(sport=1000, dport=2000) / Raw(b"six in six"), checksum=None),
        outer() / vxlan(606, inner6() / ICMPv6EchoRequest(id=5, seq=1, data=b"ping"), checksum=None),
        outer() / vxlan(606, inner6() / ICMPv6EchoReply(id=5, seq=1, data=b"ping"), checksum=None),
        outer() / vxlan(607, inner6() / ICMPv6ND_NS(tgt="fd00::4") / ICMPv6NDOptSrcLLAddr(lladdr="02:42:0a:00:01:03"), checksum=None),
        outer() / vxlan(607, inner6() / ICMPv6ND_NA(tgt="fd00::4") / ICMPv6NDOptDstLLAddr(lladdr="02:42:0a:00:01:04"), checksum=None),
        outer() / vxlan(608, inner6() / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"")]) / UDP(sport=1, dport=2), checksum=None),
        outer() / vxlan(609, inner(A, B) / ICMP(id=1, seq=2), checksum=0),
        Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12", nh=59),  # no next header
        bytes(outer(hop))[:57],  # ends inside the hop-by-hop options
        outer(*[IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) for _ in range(20)]) / vxlan(610, request(), checksum=None),  # twenty in a row
    ],
)
