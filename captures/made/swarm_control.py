"""What a swarm says beside its overlays: managers on 2377/tcp, gossip on 7946/tcp and 7946/udp, and TCP headers of every shape."""

from _making import A, B, between, inner, save, vtep
from scapy.layers.inet import TCP, UDP
from scapy.layers.sctp import SCTP
from scapy.packet import Raw


def tcp(source: int, target: int, **fields: object) -> object:
    return vtep(source, target) / TCP(**fields)


save(
    __file__,
    [
        tcp(1, 0, sport=41_000, dport=2377, flags="S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]),
        tcp(0, 1, sport=2377, dport=41_000, flags="SA", seq=1, ack=1, options=[("NOP", None), ("NOP", None), ("MSS", 1460)]),
        tcp(1, 0, sport=41_001, dport=7946, flags="S"),
        vtep(0, 1) / UDP(sport=7946, dport=7946) / Raw(b"\x08gossip"),
        vtep(0, 1) / UDP(sport=7946, dport=4789, chksum=0) / Raw(bytes(8)),  # VXLAN by its destination, though it comes from 7946
        between(0, 1, 4097, inner(A, B) / TCP(sport=7946, dport=40_000, flags="A")),  # inside a tunnel it is nobody's control traffic
        *(between(0, 1, 4097, inner(A, B) / TCP(sport=1, dport=2, flags=flags)) for flags in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 511)),
        between(0, 1, 4097, inner(A, B) / TCP(sport=1, dport=2, flags="S", dataofs=15)),  # options behind the end
        between(0, 1, 4097, inner(A, B) / TCP(sport=1, dport=2, flags="S", dataofs=3)),  # a header shorter than itself
        between(0, 1, 4097, inner(A, B) / TCP(sport=1, dport=2, flags="S", dataofs=6) / Raw(b"\x02\x00\x05\xb4")),  # an option of length 0
        between(0, 1, 4097, inner(A, B) / SCTP(sport=3868, dport=3869)),
    ],
)
