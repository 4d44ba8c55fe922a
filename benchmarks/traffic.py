"""A large capture of mixed traffic, made once and kept in .cache/.

About 5,000 different frames are built with scapy in the proportions below and repeated, each round a second later: every run measures the
same bytes.
"""

from __future__ import annotations

import hashlib
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "benchmarks"
sys.path.insert(0, str(ROOT / "captures" / "made"))

from _making import START, VTEPS, Ether, between, inner, request, vtep, vxlan  # noqa: E402
from scapy.layers.dns import DNS, DNSQR, DNSRR  # noqa: E402
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.layers.ipsec import ESP  # noqa: E402
from scapy.layers.l2 import ARP, Dot1Q  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

ROUND = 5_000  # different frames

dice = random.Random(7348)


def _ends() -> tuple[int, int, int, str, str]:
    """Two nodes, a segment, and an endpoint on each."""
    source, target = dice.sample(range(3), 2)
    segment = dice.choice((4096, 4097, 4099))
    return source, target, segment, f"10.0.{segment - 4096}.{dice.randrange(3, 40)}", f"10.0.{segment - 4096}.{dice.randrange(40, 80)}"


def _overlay(payload: Callable[[str, str], Packet]) -> Packet:
    source, target, segment, a, b = _ends()
    return between(source, target, segment, payload(a, b), sport=dice.randrange(32_768, 61_000), checksum=dice.choice((0, None)))


def _data(a: str, b: str) -> Packet:
    size = dice.choice((0, 0, 0, 20, 90, 180, 400, 1380))
    header = TCP(
        sport=dice.choice((80, 443, 8080)), dport=dice.randrange(32_768, 61_000), flags="PA" if size else "A", seq=dice.getrandbits(32), ack=1
    )
    return inner(a, b) / header / Raw(bytes(size))


def _dns(a: str, b: str) -> Packet:
    name = dice.choice(("web.", "api.", "tasks.web.", "db.example.org."))
    if dice.random() < 0.5:
        return inner(a, b) / UDP(sport=dice.randrange(32_768, 61_000), dport=53) / DNS(id=dice.getrandbits(16), rd=1, qd=DNSQR(qname=name))
    answers = [DNSRR(rrname=name, ttl=600, rdata=f"10.0.1.{n}") for n in range(3, 3 + dice.randrange(1, 4))]
    return (
        inner(b, a)
        / UDP(sport=53, dport=dice.randrange(32_768, 61_000))
        / DNS(id=dice.getrandbits(16), qr=1, rd=1, ra=1, qd=DNSQR(qname=name), an=answers)
    )


def _arp(a: str, b: str) -> Packet:
    return Ether(src="02:42:0a:00:01:03", dst="ff:ff:ff:ff:ff:ff") / ARP(op=dice.choice((1, 2)), hwsrc="02:42:0a:00:01:03", psrc=a, pdst=b)


def _plain() -> Packet:
    source, target, *_ = _ends()
    kind = dice.random()
    if kind < 0.5:
        return vtep(source, target) / UDP(sport=7946, dport=7946) / Raw(bytes(dice.randrange(40, 200)))
    return (
        vtep(source, target)
        / TCP(sport=dice.choice((22, 2377, 7946)), dport=dice.randrange(32_768, 61_000), flags="PA")
        / Raw(bytes(dice.randrange(0, 500)))
    )


def _esp() -> Packet:
    source, target, *_ = _ends()
    return vtep(source, target) / ESP(spi=0x1E000000 + source, seq=dice.getrandbits(16), data=dice.randbytes(dice.choice((60, 100, 140, 300))))


def _six() -> Packet:
    outer = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12")
    return outer / vxlan(4097, _data("10.0.1.3", "10.0.1.4"), sport=dice.randrange(32_768, 61_000))


def _six_inside(a: str, b: str) -> Packet:
    return (
        Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04")
        / IPv6(src="fd00::3", dst="fd00::4")
        / TCP(sport=443, dport=40_000, flags="A")
        / Raw(bytes(60))
    )


def _tagged() -> Packet:
    frame = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / Dot1Q(vlan=dice.choice((100, 200)))
    return frame / IP(src=VTEPS[0], dst=VTEPS[1], id=1) / vxlan(10_010, _data("10.0.1.3", "10.0.1.4"))


def _gpe() -> Packet:
    return between(0, 1, 5000, bytes(IP(src="10.0.1.3", dst="10.0.1.4") / UDP(sport=1, dport=2) / Raw(bytes(64))), word=0x0C00_0001, dport=4790)


def _geneve() -> Packet:
    header = struct.pack(">BBHIHBBI", 2, 0, 0x6558, 7000 << 8, 0x0102, 0x80, 1, 9)
    return vtep(0, 1) / UDP(sport=51_000, dport=6081, chksum=0) / Raw(header + bytes(_data("10.0.1.3", "10.0.1.4")))


def _fragments() -> list[Packet]:
    whole = vtep(0, 1) / vxlan(4097, inner("10.0.1.3", "10.0.1.4") / ICMP(id=1, seq=1) / Raw(bytes(600)))
    whole[IP].id = dice.getrandbits(16)
    return list(fragment(Ether(bytes(whole)), fragsize=400))


MIX: tuple[tuple[int, str, Callable[[], Packet | list[Packet]]], ...] = (
    (46, "VXLAN, TCP data", lambda: _overlay(_data)),
    (8, "VXLAN, TCP SYN and SYN-ACK", lambda: _overlay(lambda a, b: request(a, b, flags=dice.choice(("S", "SA"))))),
    (7, "VXLAN, UDP", lambda: _overlay(lambda a, b: inner(a, b) / UDP(sport=5000, dport=5001) / Raw(bytes(dice.randrange(0, 400))))),
    (5, "VXLAN, DNS", lambda: _overlay(_dns)),
    (4, "VXLAN, ICMP", lambda: _overlay(lambda a, b: inner(a, b) / ICMP(id=1, seq=dice.getrandbits(8)) / Raw(bytes(56)))),
    (2, "VXLAN, ARP", lambda: _overlay(_arp)),
    (2, "VXLAN, IPv6 inside", lambda: _overlay(_six_inside)),
    (3, "VXLAN over IPv6", _six),
    (3, "VXLAN in a VLAN", _tagged),
    (10, "underlay: gossip, management, ssh", _plain),
    (5, "ESP", _esp),
    (3, "Geneve", _geneve),
    (1, "VXLAN-GPE", _gpe),
    (1, "fragments", _fragments),
)
"""Parts in a hundred, name, maker."""


def _round() -> tuple[bytes, list[int]]:
    """The records of one round (their times still zero), and where each begins."""
    weights = [part for part, _, _ in MIX]
    records, starts, at = [], [], 0
    while len(starts) < ROUND:
        made = dice.choices(MIX, weights)[0][2]()
        for packet in made if isinstance(made, list) else [made]:
            if len(starts) < ROUND:
                data = bytes(packet)
                records.append(struct.pack("<IIII", 0, 0, len(data), len(data)) + data)
                starts.append(at)
                at += len(records[-1])
    return b"".join(records), starts


def mixed(frames: int) -> Path:
    """The capture with that many frames (a multiple of 5,000); about 270 MB for each million."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = CACHE / f"mixed-{frames}-{version}.pcap"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    dice.seed(7348)
    once, starts = _round()
    records = np.frombuffer(bytearray(once), np.uint8)
    seconds, micros = (np.array(starts)[:, None] + np.arange(first, first + 4) for first in (0, 4))
    records[micros] = (np.arange(ROUND, dtype="<u4") * (1_000_000 // ROUND)).view(np.uint8).reshape(-1, 4)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for number in range(frames // ROUND):
            records[seconds] = np.frombuffer(struct.pack("<I", START + number), np.uint8)
            file.write(records.tobytes())
    partial.rename(path)
    return path


if __name__ == "__main__":
    print(mixed(int(sys.argv[1])))
