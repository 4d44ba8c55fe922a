"""A fabric that floods: ARP and neighbour solicitations copied to every VTEP or sent to a multicast group, a gratuitous ARP, spanning tree."""

from _making import VTEPS, A, B, between, inner, save, vtep, vxlan
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

sender, owner = "00:50:56:00:00:03", "00:50:56:00:00:04"
who_has = Ether(src=sender, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=sender, psrc=A, pdst=B) / Raw(bytes(18))
is_at = Ether(src=owner, dst=sender) / ARP(op=2, hwsrc=owner, psrc=B, hwdst=sender, pdst=A) / Raw(bytes(18))
gratuitous = Ether(src=owner, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=owner, psrc=B, pdst=B)
solicitation = Ether(src=sender, dst="33:33:ff:00:00:04") / IPv6(src="fd00::3", dst="ff02::1:ff00:4", hlim=255) / ICMPv6ND_NS(tgt="fd00::4")
group = Ether(src="02:00:c0:00:02:0b", dst="01:00:5e:01:01:01") / IP(src=VTEPS[0], dst="239.1.1.1", ttl=16, id=9)
tree = Ether(src=sender, dst="01:80:c2:00:00:00", type=38) / Raw(b"\x42\x42\x03" + bytes(35))
routed = Ether(src="00:00:5e:00:01:01", dst="00:00:5e:00:01:02") / IP(src=A, dst="10.0.2.9", ttl=63) / ICMP(id=1, seq=1)
save(
    __file__,
    [
        between(0, 1, 10_010, who_has, sport=60_001),
        between(0, 2, 10_010, who_has, sport=60_001),
        between(1, 0, 10_010, is_at, sport=60_002),
        group / vxlan(10_010, who_has, sport=60_003),
        between(1, 0, 10_010, gratuitous, sport=60_004),
        between(1, 2, 10_010, gratuitous, sport=60_004),
        between(0, 1, 10_010, solicitation, sport=60_005),
        between(0, 2, 10_010, solicitation, sport=60_005),
        between(0, 1, 10_010, tree, sport=60_006),
        between(0, 1, 10_010, inner(A, B) / ICMP(id=1, seq=1), sport=60_007),
        between(0, 1, 50_000, routed, sport=60_008),  # the segment between tenants' networks (symmetric routing)
        between(0, 1, 10_010, Ether(src=sender, dst=owner) / ARP(op=1, hwsrc=sender, psrc=A, pdst=B, hwlen=8), sport=60_009),  # not Ethernet's ARP
        between(0, 1, 10_010, bytes(who_has)[:30], sport=60_010),  # ends inside the ARP message
        vtep(0, 1) / IP(src=VTEPS[0], dst=VTEPS[1], proto=89) / Raw(bytes(24)),  # IP in IP: not followed
    ],
)
