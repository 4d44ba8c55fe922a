"""Segments larger than a length field can say, as a capture at the sender shows them.

IPv4 total length and UDP length are 0; IPv6 payload length is 0, with or without a jumbo option.
One is whole (70 kB), the others keep 256 bytes of it.
"""

from _making import VTEPS, A, B, inner, save, vtep, vxlan
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop, Jumbo
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

PAYLOAD = bytes(70_000)


segment = inner(A, B) / TCP(sport=40_000, dport=80, flags="PA", seq=1, ack=1, chksum=0) / Raw(PAYLOAD)
segment[IP].len = 0
segment6 = (
    Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04")
    / IPv6(src="fd00::3", dst="fd00::4", plen=0)
    / TCP(sport=40_000, dport=80, flags="PA", seq=1, ack=1, chksum=0)
)
segment6 /= Raw(PAYLOAD)


def over4(frame: Packet) -> bytes:
    outer = vtep(0, 1) / vxlan(900, frame)
    outer[IP].len, outer["UDP"].len = 0, 0
    return bytes(outer)


def over6(frame: Packet, *extension: Packet) -> bytes:
    outer = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12", plen=0)
    for header in extension:
        outer /= header
    outer /= vxlan(901, frame)
    outer["UDP"].len = 0
    return bytes(outer)


plain = (
    Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c")
    / IP(src=VTEPS[0], dst=VTEPS[1], len=0)
    / TCP(sport=40_000, dport=80, flags="PA", chksum=0)
)
save(
    __file__,
    [
        over4(segment),
        (over4(segment), 256),
        (over4(segment6), 256),
        (over6(segment), 256),
        (over6(segment6), 256),
        (over6(segment, IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=len(PAYLOAD) + 8 + 16 + 54)])), 256),
        (bytes(plain / Raw(PAYLOAD)), 256),
    ],
)
