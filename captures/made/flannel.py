"""Two Kubernetes nodes with flannel's VXLAN back end: port 8472, VNI 1, routed pods (the inner MAC addresses are those of the flannel.1 devices)."""

from _making import VTEPS, save, vxlan
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

DEVICES = ("8e:2a:11:00:00:01", "8e:2a:11:00:00:02")
PODS = (("10.244.0.7", "10.244.0.0"), ("10.244.1.9", "10.244.1.0"))


def sent(source: int, packet: Packet, number: int, checksum: int | None = 0) -> Packet:
    target = 1 - source
    outer = Ether(src=f"02:00:c0:00:02:{11 + source:02x}", dst=f"02:00:c0:00:02:{11 + target:02x}") / IP(
        src=VTEPS[source], dst=VTEPS[target], id=number
    )
    return outer / vxlan(1, Ether(src=DEVICES[source], dst=DEVICES[target]) / packet, dport=8472, sport=40_000 + number, checksum=checksum)


a, b = PODS[0][0], PODS[1][0]
ports = {"sport": 51_000, "dport": 8080}
back = {"sport": 8080, "dport": 51_000}
asked = DNSQR(qname="api.default.svc.cluster.local.")
packets = [
    (0, IP(src=a, dst=b, ttl=63) / TCP(**ports, flags="S", seq=1, options=[("MSS", 1410)])),
    (1, IP(src=b, dst=a, ttl=63) / TCP(**back, flags="SA", seq=1, ack=2, options=[("MSS", 1410)])),
    (0, IP(src=a, dst=b, ttl=63) / TCP(**ports, flags="A", seq=2, ack=2)),
    (0, IP(src=a, dst=b, ttl=63) / TCP(**ports, flags="PA", seq=2, ack=2) / Raw(b"GET / HTTP/1.0\r\n\r\n")),
    (1, IP(src=b, dst=a, ttl=63) / TCP(**back, flags="PA", seq=2, ack=20) / Raw(b"HTTP/1.0 200 OK\r\n\r\n")),
    (1, IP(src=b, dst=a, ttl=63) / TCP(**back, flags="FA", seq=21, ack=20)),
    (0, IP(src=a, dst=b, ttl=63) / UDP(sport=52_000, dport=53) / DNS(id=1, rd=1, qd=asked)),
    (
        1,
        IP(src=b, dst=a, ttl=63)
        / UDP(sport=53, dport=52_000)
        / DNS(id=1, qr=1, aa=1, rd=1, qd=asked, an=DNSRR(rrname=asked.qname, ttl=30, rdata="10.96.0.20")),
    ),
    (0, IP(src=PODS[0][1], dst=b) / TCP(sport=53_000, dport=8080, flags="S")),  # a node port: the client's address is lost, flannel.1's is seen
    (0, IP(src=a, dst=b, ttl=63) / ICMP(id=1, seq=1) / Raw(bytes(56))),
    (1, IP(src=b, dst=a, ttl=63) / ICMP(type=0, id=1, seq=1) / Raw(bytes(56))),
]
save(__file__, [sent(node, packet, number, None if number == 4 else 0) for number, (node, packet) in enumerate(packets, 1)])
