"""Every pcapng block type, several interfaces (one per link type), resolutions and offsets, then a second section in the other byte order.

draft-ietf-opsawg-pcapng; the obsolete Packet Block is its appendix A.
"""

import struct

from _making import START, A, B, between, inner, save
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

ping = bytes(between(0, 1, 4097, inner(A, B) / ICMP(id=1, seq=1)))
packet = ping[14:]
packet6 = bytes(IPv6(src="fd00::3", dst="fd00::4") / UDP(sport=1, dport=2) / Raw(b"six"))
loopback = bytes(IP(src="127.0.0.1", dst="127.0.0.11", id=1) / UDP(sport=40_000, dport=53))
SLL = struct.pack(">HHH8sH", 4, 1, 6, bytes.fromhex("02420a0001030000"), 0x0800)
SLL2 = struct.pack(">HHIHBB8s", 0x0800, 0, 7, 1, 0, 6, bytes.fromhex("02420a0001030000"))


class Section:
    """Blocks of one section, all in one byte order ("<" or ">")."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.blocks = [self.block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1) + self.option(4, b"vxtool captures/made"))]

    def block(self, kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(f"{self.order}II", kind, len(body) + 12) + body + struct.pack(f"{self.order}I", len(body) + 12)

    def option(self, code: int, value: bytes) -> bytes:
        return struct.pack(f"{self.order}HH", code, len(value)) + value + bytes(-len(value) % 4)

    def add(self, kind: int, body: bytes) -> None:
        self.blocks.append(self.block(kind, body))

    def interface(self, linktype: int, name: bytes = b"", *, snaplen: int = 0, resolution: int | None = None, offset: int = 0) -> None:
        body = struct.pack(f"{self.order}HHI", linktype, 0, snaplen)
        if name:
            body += self.option(2, name)
        if resolution is not None:
            body += self.option(9, bytes([resolution]))
        if offset:
            body += self.option(14, struct.pack(f"{self.order}q", offset))
        self.add(1, body + self.option(0, b""))

    def enhanced(self, interface: int, ticks: int, frame: bytes | Packet, *, wirelen: int | None = None, comment: bytes = b"") -> None:
        data = bytes(frame)
        head = struct.pack(f"{self.order}IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data) if wirelen is None else wirelen)
        self.add(6, head + data + bytes(-len(data) % 4) + (self.option(1, comment) + self.option(0, b"") if comment else b""))


first = Section("<")
first.interface(1, b"eth0")  # microseconds, the default
first.interface(1, b"eth1", resolution=9)
first.interface(1, resolution=3)
first.interface(1, b"binary", resolution=0x80 | 10)  # 1/1024 s
first.interface(1, b"offset", resolution=6, offset=START)
first.interface(113, b"any-cooked", resolution=9)
first.interface(276, b"any-cooked2", resolution=9)
first.interface(101, b"raw")
first.interface(228, b"raw4")
first.interface(229, b"raw6")
first.interface(0, b"lo-null")
first.interface(108, b"lo-loop")
first.interface(105, b"wireless")  # a link type that vxtool does not read
first.interface(12, b"raw-bsd")
micro, nano = START * 1_000_000, START * 1_000_000_000
first.enhanced(0, micro, ping, comment=b"the first frame")
first.enhanced(1, nano + 1_000_001, ping)
first.enhanced(2, START * 1000 + 2, ping)
first.enhanced(3, START * 1024 + 512, ping)
first.enhanced(4, 3_000, ping)
first.enhanced(5, nano + 5_000_000, SLL + packet)
first.enhanced(6, nano + 6_000_000, SLL2 + packet)
first.enhanced(7, micro + 7_000, packet)
first.enhanced(7, micro + 7_001, packet6)
first.enhanced(8, micro + 8_000, packet)
first.enhanced(9, micro + 9_000, packet6)
first.enhanced(10, micro + 10_000, struct.pack("<I", 2) + loopback)
first.enhanced(10, micro + 10_001, struct.pack(">I", 30) + packet6)  # written by a machine of the other byte order
first.enhanced(11, micro + 11_000, struct.pack(">I", 2) + loopback)
first.enhanced(12, micro + 12_000, bytes(24))
first.enhanced(13, micro + 13_000, packet)
first.enhanced(0, micro + 14_000, ping[:60], wirelen=len(ping))
first.add(3, struct.pack("<I", len(ping)) + ping)  # Simple Packet Block: interface 0, no time
first.add(2, struct.pack("<HHIIII", 1, 0, nano >> 32, (nano & 0xFFFFFFFF) + 16_000_000, len(ping), len(ping)) + ping)  # the obsolete Packet Block
first.add(4, struct.pack("<HH4s4s", 1, 8, bytes((192, 0, 2, 11)), b"vm1\0") + struct.pack("<HH", 0, 0))  # names
first.add(5, struct.pack("<III", 0, micro >> 32, micro & 0xFFFFFFFF) + first.option(5, struct.pack("<Q", 3)))  # interface statistics
first.add(0xBAD, struct.pack("<I", 32_473) + b"may be copied")  # custom
first.add(0x40000BAD, struct.pack("<I", 32_473) + b"not to be copied")
first.add(10, struct.pack("<II", 0x544C534B, 4) + b"keys")  # decryption secrets
first.add(0x7FFF0001, b"a block nobody knows")

second = Section(">")
second.interface(1, b"eth0", snaplen=64, resolution=9)
second.enhanced(0, nano + 20_000_000, ping[:64], wirelen=len(ping))
second.add(3, struct.pack(">I", len(ping)) + ping[:64])  # the snap length says how much of it is here
second.enhanced(0, nano + 21_000_000, b"")

save(__file__, b"".join(first.blocks + second.blocks), suffix=".pcapng")
