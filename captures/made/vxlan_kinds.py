"""VXLAN headers: plain, every reserved bit, group policy, no I flag, both ports, too short, and what only looks like one."""

from _making import A, B, between, inner, request, save, vtep
from scapy.layers.inet import ICMP, UDP
from scapy.packet import Raw

ping = inner(A, B) / ICMP(id=1, seq=1) / Raw(b"ping")
save(
    __file__,
    [
        between(0, 1, 4097, request()),
        between(1, 0, 4097, request(B, A, flags="SA"), sport=50_000),
        between(0, 1, 4097, ping, dport=8472),
        between(0, 1, 0, ping),
        between(0, 1, 0xFFFFFF, ping),
        # RFC 7348 section 5: reserved bits are ignored on receipt, the VNI stays 11.
        between(0, 1, 11, ping, word=0xFFFF_FFFF, last=0xFF),
        between(0, 1, 12, ping, word=0x0800_0000, last=0x80),
        between(0, 1, 13, ping, word=0x0000_0000),  # no I flag: the VNI means nothing, and is shown
        # draft-smith-vxlan-group-policy: G, then G with D (do not learn) and A (applied), policy id 0x1234
        between(0, 1, 14, ping, word=0x8800_1234),
        between(0, 1, 15, ping, word=0x8848_1234),
        between(0, 1, 16, ping, word=0x8C00_1234),  # G and what would be the P bit of GPE, on 4789: plain VXLAN
        between(0, 1, 17, ping, word=0x0C00_0001),  # P alone on 4789: plain VXLAN
        between(0, 1, 18, ping, dport=9999),  # another port: --port 9999 or --guess
        between(0, 1, 19, ping, sport=4789, dport=50_001),  # only the source port is 4789: not VXLAN
        vtep(0, 1) / UDP(sport=50_002, dport=4789, chksum=0) / Raw(b"\x08\x00\x00\x00\x00\x10"),  # six bytes of eight
        between(0, 1, 20, b""),  # a header and nothing in it
        between(0, 1, 21, bytes(ping)[:20]),  # the inner frame ends in its IP header
        between(0, 1, 22, bytes(ping) + bytes(10)),  # padding behind the inner packet
    ],
)
