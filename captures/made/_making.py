"""What the scripts of this folder share: the cast, the encapsulation, and a writer whose files are the same on every run.

Frames are built with scapy; the VXLAN header is packed here, bit by bit, because scapy has its own ideas about some of its bits.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

__all__ = [
    "ICMP",
    "IP",
    "START",
    "TCP",
    "UDP",
    "VTEPS",
    "A",
    "B",
    "C",
    "Ether",
    "IPv6",
    "Raw",
    "between",
    "inner",
    "request",
    "save",
    "vtep",
    "vxlan",
    "write_pcap",
]

START = 1_790_000_000  # every made capture begins at this second: 2026-09-21 13:33:20 UTC

VTEPS = ("192.0.2.11", "192.0.2.12", "192.0.2.13")  # RFC 5737, three nodes
VTEP_MACS = ("02:00:c0:00:02:0b", "02:00:c0:00:02:0c", "02:00:c0:00:02:0d")
A, B, C = "10.0.1.3", "10.0.1.4", "10.0.1.5"  # one endpoint on each node

Frame = Packet | bytes | tuple[Packet | bytes, int]  # a tuple: bytes to keep of a longer frame (snap length)


def mac_of(address: str) -> str:
    """02:42 and the IPv4 address: how Docker's overlay driver makes them."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def vtep(source: int, target: int) -> Packet:
    """Ethernet and IPv4 from one node to another, by position in VTEPS."""
    return Ether(src=VTEP_MACS[source], dst=VTEP_MACS[target]) / IP(src=VTEPS[source], dst=VTEPS[target], ttl=64, id=source << 8 | target)


def vxlan(
    vni: int, inner: Packet | bytes, *, word: int = 0x0800_0000, last: int = 0, sport: int = 49_200, dport: int = 4789, checksum: int | None = 0
) -> Packet:
    """UDP and the VXLAN header of RFC 7348 section 5 in front of `inner`. `word` is its first 32 bits. Checksum None: the right one."""
    return UDP(sport=sport, dport=dport, chksum=checksum) / Raw(struct.pack(">II", word, vni << 8 | last) + bytes(inner))


def inner(source: str, target: str) -> Packet:
    """Ethernet and IPv4 from one endpoint to another."""
    return Ether(src=mac_of(source), dst=mac_of(target)) / IP(src=source, dst=target, ttl=64, id=7)


def request(source: str = A, target: str = B, *, flags: str = "S", sport: int = 40_000, seq: int = 1000) -> Packet:
    """A TCP segment to port 80: by default the SYN of a connection, MSS 1410 as behind a VXLAN MTU of 1450."""
    options = [("MSS", 1410)] if "S" in flags else []
    return inner(source, target) / TCP(sport=sport, dport=80, flags=flags, seq=seq, window=64_240, options=options)


def between(source: int, target: int, vni: int, frame: Packet | bytes, **header: int | None) -> Packet:
    """A whole encapsulated frame: node `source` sends `frame` to node `target` in segment `vni`."""
    return vtep(source, target) / vxlan(vni, frame, **header)  # type: ignore[arg-type]


def write_pcap(frames: Iterable[Frame], *, linktype: int = 1, nanoseconds: bool = False, byte_order: str = "<", snaplen: int = 262_144) -> bytes:
    """A pcap file; frames are a millisecond apart (draft-ietf-opsawg-pcap)."""
    parts = [struct.pack(f"{byte_order}IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype)]
    for number, frame in enumerate(frames):
        whole, keep = frame if isinstance(frame, tuple) else (frame, snaplen)
        data = bytes(whole)
        fraction = number % 1000 * (1_000_000 if nanoseconds else 1000)
        parts.append(struct.pack(f"{byte_order}IIII", START + number // 1000, fraction, min(keep, len(data)), len(data)) + data[:keep])
    return b"".join(parts)


def save(script: str, content: Sequence[Frame] | bytes, *, suffix: str = ".pcap", **options: bool | int | str) -> None:
    """Write beside the script, under its name; or into the folder that is the first argument (the tests compare the two)."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(script).parent
    data = content if isinstance(content, bytes) else write_pcap(content, **options)  # type: ignore[arg-type]
    (folder / (Path(script).stem + suffix)).write_bytes(data)
