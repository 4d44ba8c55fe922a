"""Frames of every kind that the walk knows, built with scapy: a fixed list of specimens, and hypothesis strategies that mix and break them.

Knows how to make bytes and how to look at rows; says nothing about what is right.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.nsh import NSH
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, LLC, STP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from vxtool.capture.frames import INDEX, Frames, Interface
from vxtool.decode import dns
from vxtool.decode.columns import COLUMNS, HAVE, ROW
from vxtool.decode.reference import META

__all__ = ["SPECIMENS", "Made", "as_frames", "differences", "made_frames", "values"]


class Made(NamedTuple):
    """A frame, what its link is, and how long it was on the wire (None: as long as it is)."""

    data: bytes
    linktype: int = 1
    wirelen: int | None = None

    def __repr__(self) -> str:
        return f"Made(bytes.fromhex({self.data.hex()!r}), {self.linktype}, {self.wirelen})"


# --------------------------------------------------------------------------------------------------------------------
# Rows as values
# --------------------------------------------------------------------------------------------------------------------


def as_frames(made: Iterable[Made]) -> Frames:
    """The frames one after the other in one buffer, without a byte between them: reading over an end gives a neighbour's bytes."""
    made = list(made)
    index = np.zeros(len(made), INDEX)
    position = 0
    for i, frame in enumerate(made):
        caplen = len(frame.data)
        index[i] = (i + 1, i, position, caplen, caplen if frame.wirelen is None else frame.wirelen, 0, 0, frame.linktype)
        position += caplen
    buffer = np.frombuffer(b"".join(frame.data for frame in made) or b"\0", np.uint8)
    return Frames(buffer, index, (Interface(1),))


def values(row: np.void, frame: bytes) -> dict[str, object]:
    """A row of the walk as `vxtool.decode.reference.read` gives it. Written from the contract in columns.py alone."""
    stored: dict[str, int] = dict(zip(ROW.names or (), row.item(), strict=True))
    seen: dict[str, object] = {}
    for column in STORED:
        if column.mask and not stored[column.mask] & column.bit:
            seen[column.name] = None
        elif column.kind == "ip":
            # An ICMP error quotes a packet of its own version.
            version = stored["outer_ip_version" if column.name.startswith("outer") else "inner_ip_version"]
            seen[column.name] = _address(version, *(stored[field] for field in column.fields))
        else:
            number = stored[column.fields[0]] >> column.shift
            seen[column.name] = _SHOW[column.kind](number & column.limit if column.limit else number, column.words)
    start = stored["dns_offset"]
    message = dns.parse(frame[start : start + stored["dns_len"]]) if stored["have"] & HAVE["dns"] else None
    seen["dns_qname"] = message.questions[0].name if message and message.questions else None
    seen["dns_qtype"] = message.questions[0].type if message and message.questions else None
    for name, attribute in (("dns_answers", "data"), ("dns_answer_names", "name"), ("dns_answer_types", "type"), ("dns_ttls", "ttl")):
        seen[name] = [getattr(record, attribute) for record in message.answers] if message else None
    return seen


def _address(version: int, high: int, low: int) -> str:
    if version == 4:
        return socket.inet_ntoa((low & 0xFFFFFFFF).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, (high << 64 | low).to_bytes(16, "big"))


STORED = [column for column in COLUMNS if column.fields and column.name not in META]
_SHOW: dict[str, Callable[[int, tuple[str, ...]], object]] = {
    "int": lambda number, words: number,
    "flag": lambda number, words: bool(number),
    "mac": lambda number, words: number.to_bytes(6, "big").hex(":"),
    "ipv4": lambda number, words: socket.inet_ntoa(number.to_bytes(4, "big")),
    "enum": lambda number, words: words[number] or None,
}


def differences(walk: dict[str, object], reference: dict[str, object]) -> dict[str, tuple[object, object]]:
    """Columns in which two readings differ: name -> (walk, reference)."""
    return {name: (walk.get(name), reference[name]) for name in reference if walk.get(name) != reference[name]}


# --------------------------------------------------------------------------------------------------------------------
# Specimens: one frame for each thing that a frame can have.
# --------------------------------------------------------------------------------------------------------------------

ETH: dict[str, Any] = {"src": "02:42:c0:a8:00:01", "dst": "02:42:c0:a8:00:02"}
INNER: dict[str, Any] = {"src": "02:42:0a:00:01:03", "dst": "02:42:0a:00:01:04"}
V4: dict[str, Any] = {"src": "192.168.0.1", "dst": "192.168.0.2"}
V4_INNER: dict[str, Any] = {"src": "10.0.1.3", "dst": "10.0.1.4"}
V6: dict[str, Any] = {"src": "fd00::1", "dst": "fd00::2"}

SYN = TCP(
    sport=40000, dport=80, flags="SEC", seq=0xFFFFFFF0, options=[("NOP", None), ("MSS", 1410), ("SAckOK", b""), ("Timestamp", (1, 0)), ("WScale", 7)]
)
QUERY = DNS(id=0x1234, rd=1, qd=DNSQR(qname="web.example", qtype="AAAA"))
ANSWER = DNS(
    id=0x1234,
    qr=1,
    qd=DNSQR(qname="tasks.web"),
    an=[DNSRR(rrname="tasks.web", ttl=600, rdata="10.0.1.5"), DNSRR(rrname="tasks.web", type="AAAA", ttl=60, rdata="fd00::5")],
    ns=[DNSRR(rrname="web", type="NS", rdata="ns.web")],
)

LOW_ADDRESSES = DNS(
    qr=1,
    qd=DNSQR(qname="a"),
    an=[DNSRR(rrname="a", type="AAAA", rdata=address) for address in ("::", "::1", "::1.0.0.0", "::ffff:1.2.3.4", "64:ff9b::1")],
)


def _vxlan(inner: Packet, *, outer: Packet | None = None, dport: int = 4789, **header: Any) -> Packet:
    header.setdefault("flags", 8)
    header.setdefault("vni", 4097)
    return Ether(**ETH) / (outer or IP(**V4)) / UDP(sport=49152, dport=dport) / VXLAN(**header) / inner


def _raw_vxlan(header: str, inner: Packet, dport: int = 4789) -> Packet:
    return Ether(**ETH) / IP(**V4) / UDP(sport=49152, dport=dport) / Raw(bytes.fromhex(header)) / inner


def _nested(depth: int, last: Packet) -> Packet:
    packet = Ether(**INNER) / last
    for vni in range(depth, 0, -1):
        packet = Ether(**ETH) / IP(**V4) / UDP(sport=1000 + vni, dport=4789) / VXLAN(flags=8, vni=vni) / packet
    return packet


def _big_tcp(version: int) -> Packet:
    inner = Ether(**INNER) / IP(**V4_INNER, len=0) / TCP(sport=1, dport=2, flags="A") / Raw(b"x" * 64)
    outer = IP(**V4, len=0) if version == 4 else IPv6(**V6, plen=0, nh=17)
    return Ether(**ETH) / outer / UDP(sport=5, dport=4789, len=0) / VXLAN(flags=8, vni=7) / inner


_PING = IP(**V4_INNER) / ICMP(type=8, id=7, seq=3) / Raw(b"abcdefgh")
_IPINNER = Ether(**INNER) / _PING

_ETHERNET: dict[str, Packet] = {
    "arp": Ether(**ETH) / ARP(op=1, hwsrc=ETH["src"], psrc=V4["src"], hwdst="00:00:00:00:00:00", pdst=V4["dst"]) / Raw(b"\0" * 18),
    "arp of other sizes": Ether(**ETH, type=0x0806) / Raw(bytes.fromhex("0020080014040001") + b"q" * 48),
    "802.3": Dot3(**ETH) / LLC() / STP(),
    "three vlan tags": Ether(**ETH) / Dot1AD(vlan=100) / Dot1Q(vlan=7) / Dot1Q(vlan=8) / IP(**V4) / UDP(sport=1000, dport=9) / Raw(b"x"),
    "unknown ethertype": Ether(**ETH, type=0x88CC) / Raw(b"lldp"),
    "tcp with options": Ether(**ETH) / IP(**V4, options=[IPOption_NOP(), IPOption_RR(routers=["1.2.3.4"])]) / SYN,
    "tcp payload": Ether(**ETH) / IP(**V4, tos=0xB8, flags="DF") / TCP(sport=2377, dport=55000, flags="PA", window=501) / Raw(b"data" * 5),
    "gossip": Ether(**ETH) / IP(**V4) / UDP(sport=7946, dport=7946) / Raw(b"memberlist"),
    "udp with trailer": Ether(**ETH, type=0x0800) / Raw(bytes(IP(**V4) / UDP(sport=1000, dport=9) / Raw(b"pad")) + b"\0" * 15),
    "udp shorter than ip": Ether(**ETH) / IP(**V4) / UDP(dport=53, len=20) / Raw(bytes(QUERY)),
    "first fragment": Ether(**ETH) / IP(**V4, flags="MF", id=77) / UDP(sport=1, dport=4789, len=1480) / VXLAN(flags=8, vni=9) / _IPINNER,
    "later fragment": Ether(**ETH) / IP(**V4, frag=100, id=77, proto=17) / Raw(b"tail" * 6),
    "esp": Ether(**ETH) / IP(**V4) / ESP(spi=0xC0FFEE, seq=12, data=b"secret!!" * 3),
    "sctp": Ether(**ETH) / IP(**V4) / SCTP(sport=7946, dport=3868),
    "gre": Ether(**ETH) / IP(**V4, proto=47) / Raw(b"\0\0\x65\x58" + bytes(_IPINNER)),
    "icmp echo": Ether(**ETH) / _PING,
    "icmp port unreachable": Ether(**ETH) / IP(**V4) / ICMP(type=3, code=3) / IP(**V4_INNER, id=5) / UDP(sport=53, dport=40000),
    "icmp fragmentation needed": Ether(**ETH) / IP(**V4) / ICMP(type=3, code=4, nexthopmtu=1450) / IP(**V4, flags="DF") / UDP(sport=9, dport=4789),
    "icmp quote of a later fragment": Ether(**ETH) / IP(**V4) / ICMP(type=11) / IP(**V4_INNER, frag=9, proto=6) / Raw(b"12345678"),
    "icmpv6 echo": Ether(**ETH) / IPv6(**V6, hlim=3) / ICMPv6EchoRequest(id=1, seq=2, data=b"ping"),
    "icmpv6 too big": Ether(**ETH) / IPv6(**V6) / ICMPv6PacketTooBig(mtu=1280) / IPv6(**V6) / TCP(sport=4, dport=5),
    "icmpv6 unreachable": Ether(**ETH) / IPv6(**V6) / ICMPv6DestUnreach() / IPv6(**V6, nh=17, plen=9000) / UDP(sport=4, dport=5),
    "neighbour solicitation": Ether(**ETH) / IPv6(src="fe80::1", dst="ff02::1:ff00:2") / ICMPv6ND_NS(tgt="fd00::2"),
    "ipv6 extension headers": Ether(**ETH)
    / IPv6(**V6, tc=0x2E)
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=0)
    / IPv6ExtHdrDestOpt()
    / TCP(sport=1, dport=2),
    "ipv6 routing header with segments left": Ether(**ETH)
    / IPv6(**V6)
    / IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=1)
    / UDP(sport=1000, dport=9)
    / Raw(b"x"),
    "ipv6 first fragment": Ether(**ETH) / IPv6(**V6) / IPv6ExtHdrFragment(m=1, id=0xDEADBEEF) / UDP(sport=9, dport=10, len=4000) / Raw(b"z" * 8),
    "ipv6 later fragment": Ether(**ETH) / IPv6(**V6) / IPv6ExtHdrFragment(offset=181, id=0xDEADBEEF, nh=17) / Raw(b"z" * 8),
    "ipv6 atomic fragment": Ether(**ETH) / IPv6(**V6) / IPv6ExtHdrFragment(id=9) / UDP(sport=9, dport=10) / Raw(b"z" * 8),
    "ipv6 ah": Ether(**ETH) / IPv6(**V6, nh=51) / AH(nh=17, payloadlen=4, spi=1, seq=2, icv=b"i" * 12) / UDP(sport=9, dport=10),
    "ipv4-mapped ipv6": Ether(**ETH) / IPv6(src="::ffff:1.2.3.4", dst="::5.6.7.8") / UDP(sport=9, dport=10),
    "dns query": Ether(**ETH) / IP(**V4) / UDP(sport=40000, dport=53) / QUERY,
    "dns answer": Ether(**ETH) / IP(**V4) / UDP(sport=53, dport=40000) / ANSWER,
    "dns inside a container": Ether(**ETH) / IP(src="10.0.1.3", dst="127.0.0.11") / UDP(sport=33000, dport=41234) / QUERY,
    "dns name without an end": Ether(**ETH) / IP(**V4) / UDP(dport=53) / Raw(bytes(QUERY)[:18]),
    "dns pointer without its second byte": Ether(**ETH) / IP(**V4) / UDP(dport=53) / Raw(bytes(QUERY)[:12] + b"\xc0"),
    "dns pointer onto itself": Ether(**ETH) / IP(**V4) / UDP(dport=53) / Raw(bytes(QUERY)[:12] + b"\xc0\x0c\0\1\0\1"),
    "dns pointer into the header": Ether(**ETH) / IP(**V4) / UDP(dport=53) / Raw(bytes(QUERY)[:12] + b"\xc0\x02\0\1\0\1"),
    "dns label of unknown type": Ether(**ETH) / IP(**V4) / UDP(dport=53) / Raw(bytes(QUERY)[:12] + b"\x41a\0\0\1\0\1"),
    "tcp option longer than the header": Ether(**ETH)
    / IP(**V4)
    / TCP(sport=9, dport=10, dataofs=8)
    / Raw(bytes.fromhex("020405b4 01010101 023f7800".replace(" ", ""))),
    "tcp option of one byte": Ether(**ETH)
    / IP(**V4)
    / TCP(sport=9, dport=10, dataofs=8)
    / Raw(bytes.fromhex("020405b4 fd01 0204 0102 0000".replace(" ", ""))),
    "dns answer of low ipv6 addresses": Ether(**ETH) / IP(**V4) / UDP(sport=53, dport=40000) / LOW_ADDRESSES,
    "dns over tcp": Ether(**ETH) / IP(**V4) / TCP(sport=53, dport=40000, flags="PA") / ANSWER,
    "dns over tcp, middle": Ether(**ETH) / IP(**V4) / TCP(sport=53, dport=40000, flags="A") / Raw(b"\xff" * 40),
    "vxlan": _vxlan(_IPINNER),
    "vxlan over ipv6": _vxlan(Ether(**INNER) / IPv6(**V6) / SYN, outer=IPv6(src="fd00:1::1", dst="fd00:1::2")),
    "vxlan on port 8472, tagged inside": _vxlan(Ether(**INNER) / Dot1Q(vlan=5) / IP(**V4_INNER) / SYN, dport=8472),
    "vxlan arp": _vxlan(Ether(**INNER) / ARP(op=2, psrc="10.0.1.3", pdst="10.0.1.4")),
    "vxlan dns": _vxlan(Ether(**INNER) / IP(**V4_INNER) / UDP(sport=53, dport=40000) / ANSWER),
    "vxlan checksum zero": Ether(**ETH) / IP(**V4) / UDP(sport=1, dport=4789, chksum=0) / VXLAN(flags=8, vni=1) / _IPINNER,
    "vxlan source port only": Ether(**ETH) / IP(**V4) / UDP(sport=4789, dport=40000) / VXLAN(flags=8, vni=1) / _IPINNER,
    "vxlan on another port": Ether(**ETH) / IP(**V4) / UDP(sport=9, dport=5000) / VXLAN(flags=8, vni=1) / _IPINNER,
    "vxlan all reserved bits": _raw_vxlan("ffffffff00000bff", _IPINNER),
    "vxlan group policy and next protocol": _raw_vxlan("8c48001200000bff", _IPINNER),
    "vxlan group policy": _vxlan(_IPINNER, flags=0x88, gpflags=0x48, gpid=100, vni=3),
    "vxlan without the i flag": _raw_vxlan("0000000000000500", _IPINNER),
    "vxlan cut after four bytes": Ether(**ETH) / IP(**V4) / UDP(sport=1, dport=4789) / Raw(b"\x08\0\0\0"),
    "vxlan in vxlan, cut": _vxlan(Ether(**INNER) / IP(**V4_INNER) / UDP(sport=1, dport=4789) / Raw(b"\x08\0\0\0")),
    "gpe ethernet": _raw_vxlan("0c00000300000b00", _IPINNER, 4790),
    "gpe ipv4": _raw_vxlan("0c00000100000b00", _PING, 4790),
    "gpe without p": _raw_vxlan("0a00000100000b00", _IPINNER, 4790),
    "gpe oam": _raw_vxlan("1d00000900000b00", Raw(b"oam!"), 4790),
    "gpe nsh": _raw_vxlan("0c00000400000b00", NSH(mdtype=1, nextproto=3, spi=5) / _IPINNER, 4790),
    "gpe nsh of no length": _raw_vxlan("0c00000400000b00", Raw(bytes.fromhex("0fc00103000000ff")) / _IPINNER, 4790),
    "geneve": Ether(**ETH) / IP(**V4) / UDP(sport=1, dport=6081) / GENEVE(vni=9, proto=0x6558) / _IPINNER,
    "geneve ipv6 with options": Ether(**ETH)
    / IP(**V4)
    / UDP(sport=1, dport=6081)
    / GENEVE(
        vni=9, proto=0x86DD, critical=1, oam=1, options=[GeneveOptions(classid=0x102, type=0x80, data=b"abcd"), GeneveOptions(classid=0x103, type=1)]
    )
    / IPv6(**V6)
    / SYN,
    "geneve options overrun": Ether(**ETH) / IP(**V4) / UDP(sport=1, dport=6081) / Raw(bytes.fromhex("01406558000009000102001f")) / _IPINNER,
    "geneve in vxlan": _vxlan(Ether(**INNER) / IP(**V4_INNER) / UDP(sport=1, dport=6081) / GENEVE(vni=10, proto=0x6558) / _IPINNER),
    "big tcp over ipv4": _big_tcp(4),
    "big tcp over ipv6": _big_tcp(6),
    "nested 8 deep": _nested(8, _PING),
    "nested 10 deep": _nested(10, _PING),
    "ip version 5": Ether(**ETH, type=0x0800) / Raw(b"\x55" + bytes(_PING)[1:]),
    "ihl 4": Ether(**ETH, type=0x0800) / Raw(b"\x44" + bytes(_PING)[1:]),
    "ip shorter than its header": Ether(**ETH) / IP(**V4, len=19) / UDP(sport=1000, dport=9),
    "udp length 7": Ether(**ETH) / IP(**V4) / UDP(sport=1000, dport=9, len=7) / Raw(b"x"),
    "tcp offset 4": Ether(**ETH) / IP(**V4) / TCP(dataofs=4),
    "ip claims too much": Ether(**ETH) / IP(**V4, len=900) / UDP(sport=1000, dport=9) / Raw(b"x"),
    "udp claims too much": Ether(**ETH) / IP(**V4) / UDP(sport=1000, dport=9, len=900) / Raw(b"x"),
    "inner ip claims too much": _vxlan(Ether(**INNER) / IP(**V4_INNER, len=900) / UDP(sport=1000, dport=9) / Raw(b"x")),
    "inner ip shorter than its udp, in a first fragment": Ether(**ETH)
    / IP(**V4, flags="MF")
    / UDP(sport=1, dport=4789, len=1480)
    / VXLAN(flags=8, vni=9)
    / Ether(**INNER)
    / IP(**V4_INNER, len=24, proto=17)
    / Raw(b"u" * 40),
}

_COOKED: dict[str, Any] = {"src": b"\x02\x42\x0a\0\0\1\0\0", "lladdrlen": 6, "lladdrtype": 1}
_OTHER_LINKS: dict[str, tuple[int, Packet]] = {
    "null, little-endian": (0, Raw(b"\2\0\0\0") / _PING),
    "null, big-endian": (0, Raw(b"\0\0\0\x1e") / IPv6(**V6) / SYN),
    "null, odd family": (0, Raw(b"\2\0\0\1") / _PING),
    "loop": (108, Raw(b"\0\0\0\2") / _PING),
    "raw ipv4": (101, _PING),
    "raw ipv6": (12, IPv6(**V6) / SYN),
    "raw neither": (101, Raw(b"\x75abc")),
    "ipv4": (228, _PING),
    "ipv6": (229, IPv6(**V6) / SYN),
    "sll": (113, CookedLinux(pkttype=4, proto=0x800, **_COOKED) / _PING),
    "sll vlan": (113, CookedLinux(proto=0x8100, **_COOKED) / Dot1Q(vlan=3) / _PING),
    "sll loopback": (113, CookedLinux(proto=0x800, lladdrtype=772, lladdrlen=0) / _PING),
    "sll 802.2": (113, CookedLinux(proto=4, **_COOKED) / LLC() / STP()),
    "sll netlink": (113, CookedLinux(proto=0, lladdrtype=824) / Raw(b"nl")),
    "sll2": (
        276,
        CookedLinuxV2(pkttype=3, ifindex=7, proto=0x800, **_COOKED) / IP(**V4) / UDP(sport=1000, dport=4789) / VXLAN(flags=8, vni=2) / _IPINNER,
    ),
    "sll2 netlink": (276, CookedLinuxV2(proto=0, lladdrtype=824) / Raw(b"nl")),
    "unsupported link": (147, Raw(b"abc")),
}

SPECIMENS: dict[str, Made] = {
    **{name: Made(bytes(packet)) for name, packet in _ETHERNET.items()},
    **{name: Made(bytes(packet), linktype) for name, (linktype, packet) in _OTHER_LINKS.items()},
    "empty": Made(b""),
}

# --------------------------------------------------------------------------------------------------------------------
# Strategies
# --------------------------------------------------------------------------------------------------------------------

_TUNNEL_PORTS = st.sampled_from([4789, 4789, 8472, 4790, 6081])
_PORTS = st.sampled_from([53, 80, 2377, 4789, 7946, 40000]) | st.integers(0, 65535)
_ADDRESSES = st.sampled_from(["10.0.1.3", "10.0.1.4", "192.168.0.1", "127.0.0.11", "255.255.255.255", "0.0.0.0"])
_ADDRESSES6 = st.sampled_from(["fd00::1", "::", "::1", "::ffff:10.0.0.1", "::10.0.0.1", "fe80::1", "2001:db8:0:1::", "1:0:0:2:0:0:0:3"])
_NAMES = st.sampled_from(["web", "tasks.web", "a.b.c.d.example", "3.1.0.10.in-addr.arpa", "."])
_TYPES = st.sampled_from([1, 5, 6, 12, 15, 16, 28, 33, 65])


@st.composite
def _transport(draw: st.DrawFn, depth: int, version: int) -> tuple[Packet, int]:
    """What follows IP, and its protocol number."""
    kinds = ["udp", "tcp", "icmp", "dns", "dns-tcp", "esp", "sctp", "other", "control"]
    kind = draw(st.sampled_from(kinds + (["tunnel"] * 8 if depth < 10 else [])))
    sport, dport = draw(_PORTS), draw(_PORTS)
    data = Raw(draw(st.binary(max_size=40)))
    if kind == "tunnel":
        chksum = draw(st.sampled_from([None, 0, 0xBEEF]))
        port = draw(_TUNNEL_PORTS)
        return UDP(sport=sport, dport=port, chksum=chksum) / draw(_tunnel(depth, port)), 17
    if kind == "tcp":
        options = draw(
            st.lists(st.sampled_from([("NOP", None), ("MSS", 1460), ("WScale", 7), ("Timestamp", (1, 2)), ("EOL", None), (2, b"x"), (253, b"ab")]))
        )
        return TCP(sport=sport, dport=dport, flags=draw(st.integers(0, 511)), reserved=draw(st.integers(0, 7)), options=options[:5]) / data, 6
    if kind == "icmp":
        ip = draw(_ip_packet(10, version))[0]
        if version == 4:
            return ICMP(type=draw(st.sampled_from([0, 3, 5, 8, 11, 12, 13])), code=draw(st.sampled_from([0, 3, 4]))) / ip, 1
        return Raw(bytes([draw(st.sampled_from([1, 2, 3, 4, 128, 129, 135])), 0, 1, 2, 0, 0, 5, 0])) / ip, 58
    if kind in ("dns", "dns-tcp"):
        records = draw(st.lists(st.builds(DNSRR, rrname=_NAMES, type=st.sampled_from([1, 28]), ttl=st.integers(0, 2**31 - 1)), max_size=3))
        message = DNS(id=draw(st.integers(0, 65535)), qr=draw(st.booleans()), qd=DNSQR(qname=draw(_NAMES), qtype=draw(_TYPES)), an=records)
        return (UDP(sport=sport, dport=53) / message, 17) if kind == "dns" else (TCP(sport=53, dport=dport) / message, 6)
    if kind == "esp":
        return ESP(spi=draw(st.integers(0, 2**32 - 1)), seq=1, data=b"0123456789"), 50
    if kind == "sctp":
        return SCTP(sport=sport, dport=dport), 132
    if kind == "other":
        return data, draw(st.sampled_from([2, 4, 41, 47, 59, 89]))
    if kind == "control":
        return draw(st.sampled_from([TCP(dport=2377), UDP(dport=7946), TCP(sport=7946)])) / data, 0
    return UDP(sport=sport, dport=dport, chksum=draw(st.sampled_from([None, 0, 1]))) / data, 17


@st.composite
def _tunnel(draw: st.DrawFn, depth: int, port: int) -> Packet:
    last = draw(st.sampled_from([0, 0, 0, 255]))
    vni = draw(st.sampled_from([0, 1, 4097, 0xFFFFFF])).to_bytes(3, "big") + bytes([last])
    if port == 6081:
        options = draw(
            st.lists(st.builds(GeneveOptions, classid=st.integers(0, 65535), data=st.sampled_from([b"", b"abcd", b"abcdefgh"])), max_size=3)
        )
        proto = draw(st.sampled_from([0x6558, 0x6558, 0x0800, 0x86DD, 0x0806]))
        inner = draw(_ip_packet(depth + 1, 6 if proto == 0x86DD else 4))[0] if proto in (0x0800, 0x86DD) else draw(_ethernet(depth + 1))
        return GENEVE(vni=vni[0], proto=proto, options=options, critical=draw(st.booleans()), version=draw(st.sampled_from([0, 0, 1]))) / inner
    if port == 4790:
        following = draw(st.sampled_from([0, 1, 2, 3, 4]))
        header = bytes([draw(st.sampled_from([0x0C, 0x08, 0x1F])), 0, 0, following]) + vni
        if following == 4:
            return Raw(header) / NSH(mdtype=1, nextproto=draw(st.sampled_from([1, 3, 4]))) / draw(_ethernet(depth + 1))
        return Raw(header) / (draw(_ip_packet(depth + 1, 4 if following == 1 else 6))[0] if following in (1, 2) else draw(_ethernet(depth + 1)))
    word = draw(st.sampled_from([0x08000000, 0x08000000, 0x88480064, 0x8C480303, 0xFFFFFFFF, 0]))
    return Raw(word.to_bytes(4, "big") + vni) / draw(_ethernet(depth + 1))


@st.composite
def _ip_packet(draw: st.DrawFn, depth: int, version: int) -> tuple[Packet, int]:
    payload, proto = draw(_transport(depth, version))
    proto = proto or (6 if isinstance(payload, TCP) else 17)
    if version == 4:
        ip = IP(
            src=draw(_ADDRESSES),
            dst=draw(_ADDRESSES),
            proto=proto,
            tos=draw(st.integers(0, 255)),
            id=draw(st.integers(0, 65535)),
            flags=draw(st.sampled_from([0, 0, 0, "DF", "MF", "evil"])),
            frag=draw(st.sampled_from([0, 0, 0, 0, 0, 185])),
            ttl=draw(st.integers(0, 255)),
            options=draw(st.sampled_from([[], [], [], [IPOption_NOP()], [IPOption_RR(routers=["1.2.3.4"])]])),
        )
        return ip / payload, 4
    ip6: Packet = payload
    first = proto
    header: Packet
    for kind in reversed(draw(st.lists(st.sampled_from([0, 43, 44, 51, 60]), max_size=draw(st.sampled_from([0, 0, 3]))))):
        if kind == 44:
            header = IPv6ExtHdrFragment(
                nh=first, id=draw(st.integers(0, 2**32 - 1)), m=draw(st.booleans()), offset=draw(st.sampled_from([0, 0, 0, 9]))
            )
        elif kind == 51:
            header = AH(nh=first, payloadlen=4, spi=1, seq=1, icv=b"0" * 12)
        elif kind == 43:
            header = IPv6ExtHdrRouting(nh=first, addresses=["fd00::9"], segleft=draw(st.integers(0, 1)))
        else:
            header = (IPv6ExtHdrHopByHop if kind == 0 else IPv6ExtHdrDestOpt)(nh=first)
        ip6, first = header / ip6, kind
    return IPv6(src=draw(_ADDRESSES6), dst=draw(_ADDRESSES6), nh=first, tc=draw(st.integers(0, 255)), hlim=draw(st.integers(0, 255))) / ip6, 6


@st.composite
def _network(draw: st.DrawFn, depth: int) -> tuple[Packet, int]:
    """What follows the link, and its EtherType."""
    kind = draw(st.sampled_from(["ipv4", "ipv4", "ipv4", "ipv6", "arp", "other"] if depth == 0 else ["ipv4", "ipv4", "ipv6", "arp"]))
    if kind == "arp":
        return ARP(op=draw(st.integers(0, 10)), psrc="10.0.1.3", pdst="10.0.1.4", hwsrc=INNER["src"]) / Raw(
            draw(st.sampled_from([b"", b"\0" * 18]))
        ), 0x0806
    if kind == "other":
        return Raw(draw(st.binary(max_size=20))), draw(st.sampled_from([3, 100, 0x5FF, 0x600, 0x8847, 0x88CC]))
    version = 4 if kind == "ipv4" else 6
    return draw(_ip_packet(depth, version))[0], 0x0800 if version == 4 else 0x86DD


@st.composite
def _ethernet(draw: st.DrawFn, depth: int = 0) -> Packet:
    packet, kind = draw(_network(depth))
    for tag in reversed(draw(st.lists(st.sampled_from([0x8100, 0x88A8, 0x9100]), max_size=draw(st.sampled_from([0, 0, 3]))))):
        packet = Dot1Q(vlan=draw(st.integers(0, 4095)), prio=draw(st.integers(0, 7)), type=kind) / packet
        kind = tag
    return Ether(**(INNER if depth else ETH), type=kind) / packet / Raw(draw(st.sampled_from([b"", b"", b"\0" * 6])))


@st.composite
def _linked(draw: st.DrawFn) -> Made:
    linktype = draw(st.sampled_from([1, 1, 1, 1, 1, 0, 12, 101, 108, 113, 228, 229, 276, 147]))
    if linktype == 1:
        return Made(bytes(draw(_ethernet())))
    packet, kind = draw(_network(0))
    if linktype in (0, 108):
        family = 2 if kind == 0x0800 else draw(st.sampled_from([10, 24, 28, 30, 7]))
        packet = Raw(family.to_bytes(4, draw(st.sampled_from(["big", "little"])))) / packet
    elif linktype in (113, 276):
        cooked = CookedLinux if linktype == 113 else CookedLinuxV2
        address: dict[str, Any] = draw(st.sampled_from([{}, {"lladdrlen": 6, "src": b"\2\0\0\0\0\1\0\0"}, {"lladdrtype": 824}]))
        packet = cooked(proto=kind, pkttype=draw(st.integers(0, 4)), **address) / packet
    return Made(bytes(packet), linktype)


@st.composite
def made_frames(draw: st.DrawFn) -> Made:
    """A frame of any kind; half of them with bytes changed, a third cut short, with or without the snap length to blame."""
    data, linktype, _ = draw(_linked() | st.sampled_from(sorted(SPECIMENS)).map(SPECIMENS.__getitem__))
    changed = bytearray(data)
    if data and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(data) - 1))
            changed[at] = draw(st.sampled_from([0, 1, 4, 0x3F, 0x40, 0xC0, 0xFF]) | st.integers(0, 255))
    length = draw(st.integers(0, len(data))) if draw(st.sampled_from([False, False, True])) else len(data)
    wirelen = draw(st.sampled_from([None, len(data), len(data) + 100]))
    return Made(bytes(changed[:length]), linktype, wirelen)
