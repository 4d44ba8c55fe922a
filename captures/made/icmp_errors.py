"""ICMP errors about a tunnel (a router quotes the VXLAN datagram) and inside one: too big, unreachable, expired, redirect, over IPv4 and IPv6."""

from _making import VTEPS, A, B, C, between, inner, request, save, vtep, vxlan
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

big = vtep(0, 1) / vxlan(4097, request(flags="PA") / Raw(bytes(1400)))
big[IP].flags = "DF"
quoted = bytes(big)[14 : 14 + 28]  # the IP header and eight bytes (RFC 792)
quoted_long = bytes(big)[14 : 14 + 128]  # as much as fits (RFC 1812)
router = Ether(src="02:00:c0:00:02:01", dst="02:00:c0:00:02:0b") / IP(src="192.0.2.1", dst=VTEPS[0], id=5)
quoted6 = bytes(IPv6(src="2001:db8::11", dst="2001:db8::12") / vxlan(4097, request(), checksum=None))
router6 = Ether(src="02:00:c0:00:02:01", dst="02:00:c0:00:02:0b") / IPv6(src="2001:db8::1", dst="2001:db8::11")


def inside(error: Packet, about: Packet) -> Packet:
    return between(1, 0, 4097, inner(C, A) / error / Raw(bytes(about[IP])[:28]))


save(
    __file__,
    [
        router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quoted),
        router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quoted_long),
        router / ICMP(type=3, code=1) / Raw(quoted),
        router / ICMP(type=3, code=3) / Raw(quoted),
        router / ICMP(type=11, code=0) / Raw(quoted),
        router / ICMP(type=5, code=1, gw="192.0.2.2") / Raw(quoted),
        router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quoted[:24]),  # four bytes: source and destination port
        router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quoted[:12]),  # not even the whole IP header
        router / ICMP(type=3, code=3),  # nothing quoted
        router6 / ICMPv6PacketTooBig(mtu=1400) / Raw(quoted6),
        router6 / ICMPv6TimeExceeded(code=0) / Raw(quoted6[:48]),
        router6 / ICMPv6DestUnreach(code=4) / Raw(quoted6[:30]),
        inside(ICMP(type=3, code=3), inner(A, C) / UDP(sport=40_001, dport=53)),
        inside(ICMP(type=3, code=4, nexthopmtu=1450), request(A, B, flags="PA")),
        inside(ICMP(type=11, code=1), request(A, B)),
    ],
)
