"""VXLAN-GPE on port 4790 (draft-ietf-nvo3-vxlan-gpe): each next protocol, P clear, O and B, another version, NSH (RFC 8300) with three payloads."""

import struct

from _making import A, B, between, inner, request, save
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

VALID, P, BUM, OAM = 0x0800_0000, 0x0400_0000, 0x0200_0000, 0x0100_0000


def nsh(next_protocol: int, words: int, payload: bytes) -> bytes:
    """Base header, service path 42 index 255, MD type 2 with zeroes up to the length (RFC 8300 section 2)."""
    return struct.pack(">HBBI", 63 << 6 | words, 2, next_protocol, 42 << 8 | 255) + bytes(max(words * 4 - 8, 0)) + payload


v4 = bytes(IP(src=A, dst=B, id=1) / UDP(sport=1234, dport=5678) / Raw(b"four"))
v6 = bytes(IPv6(src="fd00::3", dst="fd00::4") / UDP(sport=1234, dport=5678) / Raw(b"six"))
ethernet = bytes(request())


def gpe(word: int, payload: bytes, vni: int = 5000) -> object:
    return between(0, 1, vni, payload, word=word, dport=4790)


save(
    __file__,
    [
        gpe(VALID | P | 1, v4),
        gpe(VALID | P | 2, v6),
        gpe(VALID | P | 3, ethernet),
        gpe(VALID, ethernet),  # P clear: Ethernet, whatever the field says
        gpe(VALID | P | BUM | 3, ethernet),
        gpe(VALID | P | OAM | 3, ethernet),
        gpe(VALID | P | 0x1000_0000 | 3, ethernet),  # version 1
        gpe(VALID | P | 4, nsh(1, 2, v4)),
        gpe(VALID | P | 4, nsh(2, 3, v6)),
        gpe(VALID | P | 4, nsh(3, 6, ethernet)),
        gpe(VALID | P | 4, nsh(3, 1, ethernet)),  # a length shorter than the header itself
        gpe(VALID | P | 4, nsh(3, 60, ethernet)[:40]),  # a length behind the end
        gpe(VALID | P | 5, b"\x00" * 8),  # MPLS: not followed
        gpe(VALID | P | 0x80, bytes(inner(A, B))),  # not assigned
    ],
)
