"""VLAN tags outside and inside the tunnel: one, two (802.1ad), three, priority only, 0x9100, and a tag with nothing behind it."""

from _making import VTEPS, A, B, inner, save, vxlan
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

ping = inner(A, B) / ICMP(id=9, seq=1)


def outer(*tags: Packet) -> Packet:
    frame: Packet = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c")
    for tag in tags:
        frame /= tag
    return frame / IP(src=VTEPS[0], dst=VTEPS[1], id=3)


def tagged(*tags: Packet) -> Packet:
    frame: Packet = Ether(src=ping.src, dst=ping.dst)
    for tag in tags:
        frame /= tag
    return frame / ping.payload


save(
    __file__,
    [
        outer(Dot1Q(vlan=100)) / vxlan(300, ping),
        outer(Dot1AD(vlan=200), Dot1Q(vlan=100)) / vxlan(301, ping),
        outer(Dot1AD(vlan=1), Dot1AD(vlan=2), Dot1Q(vlan=3)) / vxlan(302, ping),
        outer(Dot1Q(vlan=0, prio=5)) / vxlan(303, ping),
        outer(Dot1Q(vlan=4095, id=1)) / vxlan(304, ping),
        outer() / vxlan(305, tagged(Dot1Q(vlan=10))),
        outer() / vxlan(306, tagged(Dot1AD(vlan=20), Dot1Q(vlan=10))),
        outer(Dot1Q(vlan=100)) / vxlan(307, tagged(Dot1Q(vlan=10))),
        Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c", type=0x9100)
        / Dot1Q(vlan=7)
        / IP(src=VTEPS[0], dst=VTEPS[1], id=3)
        / vxlan(308, ping),
        outer() / vxlan(309, Ether(src=ping.src, dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=10) / ARP(op=1, hwsrc=ping.src, psrc=A, pdst=B)),
        outer() / vxlan(310, bytes(tagged(Dot1Q(vlan=10)))[:16]),  # ends inside the tag
        bytes(Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c", type=0x8100)) + b"\x00\x64",  # the same, outside
        Ether(src="02:00:c0:00:02:0b", dst="01:80:c2:00:00:00", type=38) / Raw(b"\x42\x42\x03" + bytes(35)),  # 802.3: a length, not an EtherType
    ],
)
