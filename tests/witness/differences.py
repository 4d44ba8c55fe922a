"""Every case in which a witness and the walk are meant to differ: one table, one entry a reason.

A difference that no entry explains fails the tests. An entry has a frame that shows it, so that none can outlive its reason unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from tests.decode.frames import ETH, INNER, QUERY, SPECIMENS, V4, V4_INNER, Made

__all__ = ["TABLE", "Case", "Difference", "explanations"]


class Case(NamedTuple):
    """One column of one frame that two readings see differently."""

    column: str
    walk: object
    witness: object
    row: Mapping[str, object]  # all columns of the walk
    frame: bytes
    protocols: tuple[str, ...] = ()  # tshark's


@dataclass(frozen=True)
class Difference:
    """Why a witness may differ from the walk, and where."""

    id: str
    witness: str  # tshark, dpkt, or scapy where it also chooses the headers (vxtool.decode.reference, where it does not, has no entry)
    reason: str  # with the document that says who is right
    explains: Callable[[Case], bool]
    example: Made | Clock | bytes  # a frame; a frame's time; or a whole file


_IP = {"ip_version", "ip_src", "ip_dst", "ttl", "tos", "ip_id", "ip_len", "df", "proto", "frag", "frag_offset", "frag_more"}
_PORTS = {"sport", "dport", "checksum"}
PARTS: dict[str, set[str]] = {
    "ethernet": {"eth_src", "eth_dst"},
    "vlan": {"vlan", "vlan2", "vlan_tags"},
    "arp": {"arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"},
    "ipv4": _IP,
    "ipv6": _IP,
    "ipv6-extension": _IP,
    "udp": {*_PORTS, "udp_len"},
    "tcp": {*_PORTS, "tcp_flags", "tcp_seq", "tcp_ack", "tcp_window", "tcp_mss"},
    "icmp": {"icmp_type", "icmp_code", "icmp_id", "icmp_seq", "icmp_mtu", "checksum"},
    "icmpv6": {"icmp_type", "icmp_code", "icmp_id", "icmp_seq", "icmp_mtu", "checksum"},
    "esp": {"esp_spi", "esp_seq"},
    "vxlan": {"vni", "vxlan_flags", "gbp_policy", "vxlan_last"},
    "vxlan-gpe": {"vni", "vxlan_flags", "gpe_next", "vxlan_last"},
    "geneve": {"vni", "geneve_version", "geneve_protocol", "geneve_critical", "geneve_oam"},
    "link": {"eth_src", "sll_type", "sll_ifindex"},
    "dns": set(),
}
"""Columns, without outer_ and inner_, that each layer fills."""


def _part(column: str) -> str:
    return column.removeprefix("outer_").removeprefix("inner_")


def _of_the_cut_header(case: Case) -> bool:
    stopped = case.row["stop"] in ("snapped", "truncated", "fragment", "malformed")
    if not stopped or _part(case.column) not in PARTS.get(str(case.row["stop_layer"]), set()):
        return False
    if case.column.endswith("_proto") and case.row["stop_layer"] == "ipv6-extension":
        return True  # the next header's number stands in the part that is left
    return case.walk is None or (case.column.endswith("vlan_tags") and case.walk == int(str(case.witness)) - 1)


class Clock(NamedTuple):
    """The example is a pcap record with this time: seconds, and the fraction as it stands (microseconds, or nanoseconds)."""

    seconds: int
    fraction: int


def _stopped(reason: str, layer: str) -> Callable[[Case], bool]:
    return lambda case: case.row["stop"] == reason and case.row["stop_layer"] == layer


def _dns(column: str) -> bool:
    return column.startswith("dns_")


def _pcap(*frames: bytes) -> bytes:
    """A capture of these Ethernet frames."""
    records = (struct.pack("<IIII", 1, i, len(frame), len(frame)) + frame for i, frame in enumerate(frames))
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1) + b"".join(records)


def _icmpv6_quoting(size: int) -> Made:
    quoted = bytes(IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=9, dport=10))[:size]
    return Made(bytes(Ether(**ETH) / IPv6(src="fd00::2", dst="fd00::1") / ICMPv6PacketTooBig() / Raw(quoted)))


def _vxlan(header: str) -> Made:
    return Made(bytes(Ether(**ETH) / IP(**V4) / UDP(sport=49152, dport=4789) / Raw(bytes.fromhex(header)) / Ether(**INNER) / IP(**V4_INNER) / ICMP()))


PCAPNG_HEADER = bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000 01000000 14000000 0100 0000 00000000 14000000")
"""A section of Ethernet frames, little-endian."""
CUSTOM_BLOCK = PCAPNG_HEADER + bytes.fromhex(
    "ad0b0000 14000000 d97f0000 61626364 1400000006000000 24000000 00000000 00000000 00000000 04000000 04000000 61626364 24000000"
)
"""A custom block (of private enterprise 32729), then a frame of four bytes."""

TABLE: tuple[Difference, ...] = (
    Difference(
        "tshark-cut-header",
        "tshark",
        "tshark prints the fields that are left of a header that is cut or makes no sense; a row has the fixed part of a header whole or not at all, "
        "because half an address is none (RFC 791 section 3.1 gives every field its place in a whole header)",
        _of_the_cut_header,
        Made(SPECIMENS["vxlan"].data[:32], 1, 110),
    ),
    Difference(
        "tshark-length-0",
        "tshark",
        "an IPv4 total length or a UDP length of 0 stands for a packet larger than the field can say: all that is there (BIG TCP; RFC 2675 section "
        "4 for UDP); "
        "tshark 4.0 ends there over IPv4, and shows the length it works out instead of the field",
        lambda case: 0 in (case.row["outer_ip_len"], case.row["inner_ip_len"], case.row["outer_udp_len"]),
        SPECIMENS["big tcp over ipv4"],
    ),
    Difference(
        "tshark-depth",
        "tshark",
        "the walk looks into eight tunnels, one inside the other; tshark goes on",
        lambda case: case.row["stop"] == "depth",
        SPECIMENS["nested 10 deep"],
    ),
    Difference(
        "tshark-geneve-options",
        "tshark",
        "a Geneve option longer than all options together makes the header malformed (RFC 8926 section 3.5.1: such a packet must be dropped); "
        "tshark notes it "
        "and goes on behind the options",
        _stopped("malformed", "geneve"),
        SPECIMENS["geneve options overrun"],
    ),
    Difference(
        "tshark-nsh-length",
        "tshark",
        "an NSH shorter than its two fixed words is malformed (RFC 8300 section 2.2); tshark goes on",
        _stopped("malformed", "nsh"),
        SPECIMENS["gpe nsh of no length"],
    ),
    Difference(
        "tshark-gpe-without-p",
        "tshark",
        "without the P bit VXLAN-GPE carries Ethernet, as VXLAN does (draft-ietf-nvo3-vxlan-gpe section 3.1); tshark obeys the next protocol all "
        "the same",
        lambda case: case.row["tunnel"] == "vxlan-gpe" and case.row["gpe_p"] is False,
        SPECIMENS["gpe without p"],
    ),
    Difference(
        "tshark-source-port",
        "tshark",
        "a UDP datagram *from* a tunnel port carries no tunnel: RFC 7348 section 5 defines the destination port alone; tshark's tables take either",
        lambda case: (
            case.row["depth"] == 0
            and case.row["outer_sport"] in (4789, 4790, 6081, 8472)
            and ("vxlan" in case.protocols or "geneve" in case.protocols)
        ),
        SPECIMENS["vxlan source port only"],
    ),
    Difference(
        "tshark-arp-sizes",
        "tshark",
        "an ARP message whose addresses are not a MAC and an IPv4 address (RFC 826 allows any) fills no column; tshark shows its operation",
        lambda case: _part(case.column).startswith("arp_") and case.walk is None and case.row["stop"] is None,
        Made(bytes(Ether(**ETH) / ARP(hwtype=1, hwlen=8, plen=4, hwsrc=b"12345678", psrc="1.2.3.4", hwdst=b"12345678", pdst="1.2.3.5"))),
    ),
    Difference(
        "tshark-tcp-offset",
        "tshark",
        "a TCP data offset below 5 is malformed (RFC 9293 section 3.1), yet the fixed fields are whole and a row shows them; tshark ends at the "
        "offset",
        lambda case: _stopped("malformed", "tcp")(case) and case.witness in (None, False),
        SPECIMENS["tcp offset 4"],
    ),
    Difference(
        "tshark-ihl",
        "tshark",
        "an IPv4 header of under 20 bytes, of another version, or longer than its packet is malformed as a whole (RFC 791 section 3.1); tshark "
        "shows some of it, "
        "and does not always call it malformed",
        lambda case: _stopped("malformed", "ipv4")(case) and case.walk in (None, True),
        SPECIMENS["ip shorter than its header"],
    ),
    Difference(
        "tshark-third-tag",
        "tshark",
        "tshark 4.0 prints one VLAN id for two of three stacked tags; IEEE 802.1Q section 9.6 lets tags stack, and the second is the second",
        lambda case: "vlan" in case.column and int(str(case.row[case.column.split("_")[0] + "_vlan_tags"])) > 2,
        Made(bytes(Ether(**ETH) / Dot1AD(vlan=1) / Dot1AD(vlan=2) / Dot1Q(vlan=3) / IP(**V4) / UDP(dport=9))),
    ),
    Difference(
        "tshark-dns-port",
        "tshark",
        "Docker's resolver at 127.0.0.11 listens on a port of its own choosing; tshark knows DNS over UDP by its shape, but over TCP by port 53 only",
        lambda case: _dns(case.column) and case.witness is None and "127.0.0.11" in (case.row["inner_ip_src"], case.row["inner_ip_dst"]),
        Made(bytes(Ether(**ETH) / IP(src="10.0.1.3", dst="127.0.0.11") / TCP(sport=40000, dport=41000, flags="PA") / QUERY)),
    ),
    Difference(
        "tshark-dns-shape",
        "tshark",
        "DNS is known by its port, and ends where it makes no sense (RFC 1035 section 4.1); tshark takes some such messages for data, shows words "
        "of its own for "
        "a name, or records beyond that place",
        lambda case: (_dns(case.column) and case.row["stop_layer"] == "dns") or (case.column == "malformed" and case.row["stop_layer"] == "dns"),
        SPECIMENS["dns pointer onto itself"],
    ),
    Difference(
        "tshark-dns-retransmission",
        "tshark",
        "each frame is read by itself; tshark follows TCP connections and does not look again into a segment that was sent before",
        lambda case: _dns(case.column) and case.witness is None and case.row["inner_proto"] == 6,
        _pcap(SPECIMENS["dns over tcp"].data, SPECIMENS["dns over tcp"].data),
    ),
    Difference(
        "tshark-dns-middle",
        "tshark",
        "a TCP segment at port 53 that cannot begin with a length and a header (an unknown operation, many questions) is the middle of a longer "
        "message "
        "(RFC 1035 section 4.2.2); tshark reads it as a message",
        lambda case: _dns(case.column) and case.walk is None and case.row["inner_proto"] == 6,
        SPECIMENS["dns over tcp, middle"],
    ),
    Difference(
        "tshark-cut-quote",
        "tshark",
        "an ICMP error quotes as much as it likes (RFC 792, RFC 4443 section 2.4), so a quote that is cut is no damage; tshark calls it malformed",
        lambda case: case.column == "malformed" and case.row["stop"] is None and not {"icmp", "icmpv6"}.isdisjoint(case.protocols),
        _icmpv6_quoting(30),
    ),
    Difference(
        "tshark-no-time",
        "tshark",
        "a pcapng simple packet block has no time (pcapng section 4.4): 0 in a row, nothing in tshark",
        lambda case: case.column == "ts" and case.walk == 0 and case.witness is None,
        PCAPNG_HEADER + bytes.fromhex("03000000 14000000 04000000 61626364 14000000"),
    ),
    Difference(
        "tshark-far-time",
        "tshark",
        "a time beyond the year 2262 does not fit into 64 bits of nanoseconds: a row has the last that does",
        lambda case: case.column == "ts" and isinstance(case.witness, int) and case.witness >= 2**63 > int(str(case.walk)) > 2**63 - 3 * 10**9,
        PCAPNG_HEADER + bytes.fromhex("06000000 24000000 00000000 0000ff7f 00000000 04000000 04000000 61626364 24000000"),
    ),
    Difference(
        "tshark-fraction",
        "tshark",
        "a pcap record whose fraction of a second is a second or more is that much later: the field is unsigned (draft-ietf-opsawg-pcap section "
        "5); tshark 4.0 "
        "prints it with a sign",
        lambda case: case.column == "ts" and isinstance(case.witness, int) and case.witness < 0,
        Clock(1418145370, 2147483648),
    ),
    Difference(
        "tshark-custom-blocks",
        "tshark",
        "tshark counts pcapng custom blocks as frames; they hold none (pcapng section 4.8)",
        lambda case: case.column == "frame" and int(str(case.witness)) > int(str(case.walk)),
        CUSTOM_BLOCK,
    ),
    Difference(
        "tshark-nothing-left",
        "tshark",
        "an IP header that names a protocol and is the last thing there lacks that protocol's header (RFC 791 section 3.1); tshark says nothing",
        lambda case: case.column == "malformed" and case.row["stop_offset"] == len(case.frame),
        Made(SPECIMENS["vxlan"].data[:34]),
    ),
    Difference(
        "scapy-vni",
        "scapy",
        "the VNI is bytes 4 to 6 whatever the reserved bits before it say (RFC 7348 section 5: ignored on receipt); scapy moves it where G and P "
        "are set",
        lambda case: case.column in ("vni", "inner_eth_src") and int(str(case.row["vxlan_flags"])) & 0x84 == 0x84,
        _vxlan("8c48001200000bff"),
    ),
    Difference(
        "scapy-gpe-on-4789",
        "scapy",
        "on port 4789 the bit that is P in VXLAN-GPE is reserved and ignored (RFC 7348 section 5): Ethernet follows; scapy obeys it on every port",
        lambda case: case.row["tunnel"] == "vxlan" and int(str(case.row["vxlan_flags"])) & 4 == 4,
        _vxlan("0c00000100000b00"),
    ),
    Difference(
        "scapy-source-port",
        "scapy",
        "a UDP datagram from a tunnel port carries no tunnel (RFC 7348 section 5); scapy binds both ports",
        lambda case: case.row["depth"] == 0 and case.row["outer_sport"] in (4789, 4790, 8472),
        SPECIMENS["vxlan source port only"],
    ),
    Difference(
        "scapy-resolver",
        "scapy",
        "Docker's resolver at 127.0.0.11 answers on a port of its own choosing; scapy knows DNS by port 53 only",
        lambda case: _dns(case.column) and "127.0.0.11" in (case.row["inner_ip_src"], case.row["inner_ip_dst"]),
        SPECIMENS["dns inside a container"],
    ),
    Difference(
        "scapy-dns-dot",
        "scapy",
        "a dot inside a DNS label is part of it (RFC 1035 section 3.1) and written \\. (section 5.1); scapy joins labels with dots and loses the "
        "difference",
        lambda case: case.column == "dns_qname" and "\\" in str(case.walk),
        Made(bytes(Ether(**ETH) / IP(**V4) / UDP(dport=53) / Raw(bytes.fromhex("0007 0100 0001 0000 0000 0000 03612e62 0163 00 0001 0001")))),
    ),
    Difference(
        "dpkt-vlan-stack",
        "dpkt",
        "dpkt takes the last two tags of a stack for the only ones; the outermost is the first (IEEE 802.1Q section 9.6)",
        lambda case: _part(case.column) == "vlan" and int(str(case.row[f"{case.column.split('_')[0]}_vlan_tags"])) > 2,
        SPECIMENS["three vlan tags"],
    ),
    Difference(
        "dpkt-malformed",
        "dpkt",
        "a header that says something impossible about itself is malformed (RFC 791 section 3.1, RFC 9293 section 3.1); dpkt believes it or drops it",
        lambda case: case.row["stop"] == "malformed" and _part(case.column) in PARTS[str(case.row["stop_layer"])],
        SPECIMENS["ip shorter than its header"],
    ),
    Difference(
        "dpkt-tcp-flags",
        "dpkt",
        "TCP has twelve bits for flags (RFC 9293 section 3.1, those in use and those reserved); dpkt keeps nine",
        lambda case: case.column == "inner_tcp_flags" and int(str(case.walk)) & 0x1FF == case.witness,
        Made(bytes(Ether(**ETH) / IP(**V4) / TCP(flags="S", reserved=5))),
    ),
)


def explanations(witness: str, case: Case) -> list[Difference]:
    """The entries that allow this witness to differ in this case."""
    return [difference for difference in TABLE if difference.witness == witness and difference.explains(case)]
