"""Outer UDP checksums of all five classes, over IPv4 and IPv6, around TCP, UDP and ICMP; inner ones good, partial and bad; IPv4 headers good and bad.

partial: only the pseudo-header sum, left for an offload to finish. lco: right as soon as the inner partial sum is filled in (Linux local checksum
offload, Documentation/networking/checksum-offloads.rst).
"""

import struct
from ipaddress import ip_address

from _making import VTEPS, A, B, inner, request, save, vtep, vxlan
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw


def folded(data: bytes) -> int:
    """The Internet checksum's sum, not complemented (RFC 1071)."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source: str, target: str, protocol: int, length: int) -> bytes:
    return ip_address(source).packed + ip_address(target).packed + struct.pack(">II", length, protocol)


def with_sum(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack(">H", value) + data[offset + 2 :]


def inner_partial(frame: bytes) -> bytes:
    """An inner IPv4 frame whose TCP or UDP checksum is only the pseudo-header sum. Its transport header is at byte 34."""
    protocol, length = frame[23], len(frame) - 34
    at = 34 + (16 if protocol == 6 else 6)
    return with_sum(frame, at, folded(pseudo(A, B, protocol, length)))


OUTER4 = vtep(0, 1)
OUTER6 = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12")


def lco(outer: Packet, frame: bytes) -> bytes:
    """The outer checksum as Linux writes it while the inner one is partial: over all before the inner TCP header, and the inner sum's complement."""
    bare = bytes(outer / vxlan(800, frame, checksum=0))
    at = 34 if IP in outer else 54
    ends = outer[IP] if IP in outer else outer[IPv6]
    partial = struct.unpack_from(">H", frame, 34 + (16 if frame[23] == 6 else 6))[0]
    covered = bare[at : at + 16 + 34] + struct.pack(">H", partial ^ 0xFFFF)
    total = folded(pseudo(ends.src, ends.dst, 17, len(bare) - at) + covered) ^ 0xFFFF
    return with_sum(bare, at + 6, total or 0xFFFF)


def partial(outer: Packet, frame: bytes) -> bytes:
    bare = bytes(outer / vxlan(801, frame, checksum=0))
    at = 34 if IP in outer else 54
    ends = outer[IP] if IP in outer else outer[IPv6]
    return with_sum(bare, at + 6, folded(pseudo(ends.src, ends.dst, 17, len(bare) - at)))


def fixed(outer: Packet, frame: Packet | bytes, checksum: int | None, vni: int) -> bytes:
    return bytes(outer / vxlan(vni, frame, checksum=checksum))


syn, datagram, ping = request(), inner(A, B) / UDP(sport=1000, dport=2000) / Raw(b"odd"), inner(A, B) / ICMP(id=1, seq=1)
half, half_udp = inner_partial(bytes(syn)), inner_partial(bytes(datagram))
bad_header = OUTER4.copy()
bad_header[IP].chksum = 0x1234
bad_inner = request()
bad_inner["TCP"].chksum = 0x1234
no_inner = datagram.copy()
no_inner[UDP].chksum = 0
frames: list[bytes] = []
for outer in (OUTER4, OUTER6):
    frames += [
        fixed(outer, syn, 0, 802),
        fixed(outer, syn, None, 803),
        fixed(outer, half, None, 804),  # outer good, inner partial
        partial(outer, bytes(syn)),
        partial(outer, half),
        lco(outer, half),
        lco(outer, half_udp),
        fixed(outer, syn, 0xBEEF, 805),
        fixed(outer, ping, None, 806),
        fixed(outer, bad_inner, None, 807),
        fixed(outer, no_inner, None, 808),
    ]
frames.append(bytes(bad_header / vxlan(809, syn)))
frames.append(
    bytes(
        Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c")
        / IP(src=VTEPS[0], dst=VTEPS[1], id=1, options=[b"\x94\x04\x00\x00"])
        / vxlan(810, syn, checksum=None)
    )
)
save(__file__, frames)
