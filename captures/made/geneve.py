"""Geneve on port 6081 (RFC 8926): options, the critical and OAM bits, payloads that are not Ethernet, wrong lengths and versions, VXLAN inside."""

import struct

from _making import A, B, between, request, save, vtep
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw


def option(kind: int, data: bytes) -> bytes:
    """Class 0x0102 (Linux), RFC 8926 section 3.5; the top bit of the type says critical."""
    return struct.pack(">HBB", 0x0102, kind, len(data) // 4) + data


def geneve(
    payload: bytes, *, protocol: int = 0x6558, options: bytes = b"", version: int = 0, oam: int = 0, critical: int = 0, words: int | None = None
) -> Packet:
    length = len(options) // 4 if words is None else words
    header = struct.pack(">BBHI", version << 6 | length, oam << 7 | critical << 6, protocol, 7000 << 8)
    return vtep(0, 1) / UDP(sport=51_000, dport=6081, chksum=0) / Raw(header + options + payload)


ethernet = bytes(request())
three = option(1, b"") + option(2, bytes(4)) + option(3, bytes(8))
save(
    __file__,
    [
        geneve(ethernet),
        geneve(ethernet, options=three),
        geneve(ethernet, options=option(0x81, bytes(4)), critical=1),
        geneve(ethernet, oam=1),
        geneve(bytes(IP(src=A, dst=B, id=1) / UDP(sport=1, dport=2)), protocol=0x0800),
        geneve(bytes(IPv6(src="fd00::3", dst="fd00::4") / UDP(sport=1, dport=2)), protocol=0x86DD),
        geneve(ethernet, version=1),
        geneve(b"\x00" * 20, protocol=0x88B5),  # an experimental EtherType: not followed
        geneve(ethernet[:8], words=63),  # options behind the end
        geneve(ethernet, options=struct.pack(">HBB", 0x0102, 1, 31)),  # one option claims more than all of them
        geneve(bytes(between(1, 2, 4097, request()))),  # VXLAN inside Geneve
    ],
)
