"""The row: every field a decoded frame can have, declared once, with unit and source.

From this one table come the NumPy dtype that the compiled walk fills, the columns of the DataFrame, of CSV, JSON and Parquet, the names that
`--where` knows, and docs/columns.md. It refuses to know how any of them is read or printed.

Two views of the same thing:

* **Storage** (`ROW`): fixed-size fields in native C layout, written by `_walk.pyx`. An address is two unsigned 64-bit halves (IPv4 as
  ::ffff:a.b.c.d), a MAC one 64-bit number, a flag one byte. `outer_have`, `inner_have` and `have` say which fields mean something: absent is a bit,
  not a magic value.
* **Columns** (`COLUMNS`): what a user sees. A column names the storage it is read from, the bit that says whether it is there, and how it is shown.

`outer_*` are the first headers of the frame, `inner_*` the last ones; a frame without a tunnel has only one set of headers, which fills both, so that
one filter serves both kinds. `tunnel`, `vni` and `vxlan_*` describe the outermost tunnel header, `inner_tunnel` and `inner_vni` the innermost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "BY_NAME",
    "CHECKSUM_CLASSES",
    "COLUMNS",
    "CONTROL",
    "FRAGMENTS",
    "HAVE",
    "HEADER_HAVE",
    "LAYERS",
    "ROW",
    "SCHEMA",
    "STOPS",
    "TUNNELS",
    "Column",
    "Kind",
]

SCHEMA = "vxtool-rows@1"
"""Name and version of the columns; it grows when a column is removed or changes its meaning, not when one is added."""

# --------------------------------------------------------------------------------------------------------------------
# Enumerations. A row stores the position; position 0 is "absent" wherever the list begins with "".
# --------------------------------------------------------------------------------------------------------------------

TUNNELS = ("none", "vxlan", "vxlan-gpe", "geneve")
"""Kind of tunnel header. "none" is a value, not an absence: the frame has no tunnel that we know."""

FRAGMENTS = ("", "first", "later")
"""An IP datagram in pieces: the first piece carries the headers, later ones only bytes (RFC 791 section 3.2, RFC 8200 section 4.5)."""

CHECKSUM_CLASSES = ("", "zero", "good", "partial", "lco", "bad")
"""zero: not used (RFC 768). partial: only the pseudo-header sum, left for an offload to finish. lco: right as soon as the inner partial sum is
filled in (Linux local checksum offload). good, bad: complete, and right or wrong."""

CONTROL = ("", "management", "gossip")
"""Control traffic of a swarm by port: 2377/tcp is the manager API, 7946/tcp and 7946/udp is node-to-node gossip."""

STOPS = ("", "snapped", "truncated", "malformed", "depth", "unsupported", "fragment")
"""Why the walk ended before the headers did.
snapped: the capture kept fewer bytes than the wire had (snap length); not damage.
truncated: the frame itself ends before what its headers claim.
malformed: a header says something impossible.
depth: eight tunnels inside one another; what is deeper was not looked at.
unsupported: a link type that vxtool does not know.
fragment: the rest of the header is in a later IP fragment; not damage."""

LAYERS = (
    "",
    "link",
    "ethernet",
    "vlan",
    "arp",
    "ipv4",
    "ipv6",
    "ipv6-extension",
    "udp",
    "tcp",
    "icmp",
    "icmpv6",
    "esp",
    "vxlan",
    "vxlan-gpe",
    "nsh",
    "geneve",
    "dns",
)
"""Names of `stop_layer`, in the order of the enum `Layer` of _walk.pyx."""

# --------------------------------------------------------------------------------------------------------------------
# Presence bits, in the order of the enums of _walk.pyx.
# --------------------------------------------------------------------------------------------------------------------


def _bits(*names: str) -> dict[str, int]:
    return {name: 1 << position for position, name in enumerate(names)}


HEADER_HAVE = _bits(
    "eth",  # eth_src (and eth_dst, unless the link is Linux SLL, which keeps only the sender: bit eth_dst)
    "eth_dst",
    "ethertype",
    "vlan",
    "vlan2",
    "ip",
    "ipv4",  # df and the header checksum exist
    "ip_id",  # IPv4, or IPv6 with a fragment header
    "frag",
    "ports",
    "udp",
    "l4",  # l4_offset means something
    "trailer",  # an IP packet or ARP message says where it ends
    "checksum",  # TCP, UDP, ICMP and ICMPv6 have one
)
"""Bits of `outer_have` and `inner_have`: one set of headers."""

HAVE = _bits(
    "tunnel",
    "vxlan",  # a VXLAN or VXLAN-GPE header
    "gbp",  # the G bit is set on plain VXLAN: policy, D and A mean something
    "gpe",
    "geneve",
    "esp",
    "arp",
    "icmp",
    "icmp_echo",  # id and sequence mean something
    "icmp_mtu",
    "quoted",  # an ICMP error quotes an IP header
    "quoted_ports",
    "tcp",
    "tcp_mss",
    "payload",
    "dns",
    "sll",
    "sll_ifindex",
)
"""Bits of `have`: everything that is not part of a set of headers."""

# --------------------------------------------------------------------------------------------------------------------
# Storage: the C structs of _walk.pyx, in the same order, naturally aligned.
# --------------------------------------------------------------------------------------------------------------------

_HEADERS = (
    ("eth_src", "<u8"),
    ("eth_dst", "<u8"),
    ("ip_src_hi", "<u8"),
    ("ip_src_lo", "<u8"),
    ("ip_dst_hi", "<u8"),
    ("ip_dst_lo", "<u8"),
    ("have", "<u4"),
    ("ip_id", "<u4"),
    ("ip_len", "<u4"),
    ("frag_offset", "<u4"),
    ("trailer", "<u4"),
    ("eth_offset", "<u4"),
    ("ip_offset", "<u4"),
    ("l4_offset", "<u4"),
    ("ethertype", "<u2"),
    ("vlan", "<u2"),
    ("vlan2", "<u2"),
    ("sport", "<u2"),
    ("dport", "<u2"),
    ("udp_len", "<u2"),
    ("checksum", "<u2"),
    ("vlan_tags", "u1"),
    ("ip_version", "u1"),
    ("ttl", "u1"),
    ("tos", "u1"),
    ("proto", "u1"),
    ("frag", "u1"),
    ("frag_more", "u1"),
    ("df", "u1"),
    ("checksum_class", "u1"),
    ("ip_checksum_class", "u1"),
)
"""One set of headers, Ethernet to ports: struct `Headers`, 104 bytes."""

_STORAGE = (
    ("frame", "<u8"),
    ("ts", "<i8"),
    ("caplen", "<u4"),
    ("wirelen", "<u4"),
    ("interface", "<u4"),
    ("vantage", "<u2"),
    ("linktype", "<u2"),
    ("have", "<u8"),
    *((f"outer_{name}", form) for name, form in _HEADERS),
    *((f"inner_{name}", form) for name, form in _HEADERS),
    ("arp_sha", "<u8"),
    ("arp_tha", "<u8"),
    ("quoted_ip_src_hi", "<u8"),
    ("quoted_ip_src_lo", "<u8"),
    ("quoted_ip_dst_hi", "<u8"),
    ("quoted_ip_dst_lo", "<u8"),
    ("vni", "<u4"),
    ("vxlan_word", "<u4"),
    ("inner_vni", "<u4"),
    ("tunnel_offset", "<u4"),
    ("esp_spi", "<u4"),
    ("esp_seq", "<u4"),
    ("arp_spa", "<u4"),
    ("arp_tpa", "<u4"),
    ("tcp_seq", "<u4"),
    ("tcp_ack", "<u4"),
    ("icmp_mtu", "<u4"),
    ("payload_offset", "<u4"),
    ("payload_len", "<u4"),
    ("dns_offset", "<u4"),
    ("dns_len", "<u4"),
    ("stop_offset", "<u4"),
    ("stop_wanted", "<u4"),
    ("sll_ifindex", "<u4"),
    ("arp_op", "<u2"),
    ("icmp_id", "<u2"),
    ("icmp_seq", "<u2"),
    ("quoted_sport", "<u2"),
    ("quoted_dport", "<u2"),
    ("quoted_ip_id", "<u2"),
    ("quoted_ip_len", "<u2"),
    ("tcp_flags", "<u2"),
    ("tcp_window", "<u2"),
    ("tcp_mss", "<u2"),
    ("dns_id", "<u2"),
    ("dns_flags", "<u2"),
    ("dns_questions", "<u2"),
    ("dns_answer_count", "<u2"),
    ("gbp_policy", "<u2"),
    ("geneve_protocol", "<u2"),
    ("geneve_options", "<u2"),
    ("sll_type", "u1"),
    ("tunnel", "u1"),
    ("inner_tunnel", "u1"),
    ("depth", "u1"),
    ("guessed", "u1"),
    ("control", "u1"),
    ("vxlan_last", "u1"),
    ("gpe_next", "u1"),
    ("geneve_version", "u1"),
    ("geneve_critical", "u1"),
    ("geneve_oam", "u1"),
    ("icmp_type", "u1"),
    ("icmp_code", "u1"),
    ("quoted_proto", "u1"),
    ("stop", "u1"),
    ("stop_layer", "u1"),
    ("stop_depth", "u1"),
    ("reassembled", "u1"),
)


def _aligned(fields: tuple[tuple[str, str], ...]) -> np.dtype[np.void]:
    """The dtype a C compiler gives a struct of these fields (64-bit, natural alignment, `Headers` padded to 8 bytes)."""
    return np.dtype(list(fields), align=True)


def _row_dtype() -> np.dtype[np.void]:
    # The nested struct Headers ends on a multiple of eight; a flat aligned dtype puts the next 64-bit field there by itself.
    return _aligned(_STORAGE)


ROW = _row_dtype()
"""One decoded frame. Little-endian; `_walk.pyx` refuses to load when its struct has another size."""

# --------------------------------------------------------------------------------------------------------------------
# Columns
# --------------------------------------------------------------------------------------------------------------------

Kind = Literal["int", "flag", "mac", "ip", "ipv4", "enum", "name", "text", "list"]
"""int: a number. flag: true or false. mac: aa:bb:cc:dd:ee:ff. ip: an IPv4 or IPv6 address. ipv4: an IPv4 address kept in 32 bits.
enum: one of a few words. name: a word from a table of the batch (vantage, interface). text, list: read from the DNS message."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a row as a user sees it."""

    name: str
    kind: Kind
    about: str  # one sentence
    source: str  # which document says so
    unit: str = ""
    fields: tuple[str, ...] = ()  # storage it is read from; an ip has two
    mask: str = ""  # storage field that holds the presence bit; "": always there
    bit: int = 0  # presence: row[mask] & bit is not 0
    words: tuple[str, ...] = ()  # enum: the word for each stored number; "" means absent
    shift: int = 0  # (row[field] >> shift) & limit, for numbers that are part of a larger one
    limit: int = 0  # 0: the whole field


def _header_columns(prefix: str, which: str) -> tuple[Column, ...]:
    def column(name: str, kind: Kind, about: str, source: str, have: str, unit: str = "", **more: object) -> Column:
        fields = (f"{prefix}_{name}_hi", f"{prefix}_{name}_lo") if kind == "ip" else (f"{prefix}_{name}",)
        mask, bit = (f"{prefix}_have", HEADER_HAVE[have]) if have else ("", 0)
        return Column(f"{prefix}_{name}", kind, f"{which} {about}", source, unit, fields, mask, bit, **more)  # type: ignore[arg-type]

    ethernet, vlan, ip, udp = "IEEE 802.3", "IEEE 802.1Q", "RFC 791, RFC 8200", "RFC 768"
    return (
        column("eth_src", "mac", "source MAC address (on a Linux cooked link: the sender's address).", ethernet, "eth"),
        column("eth_dst", "mac", "destination MAC address.", ethernet, "eth_dst"),
        column("vlan", "int", "VLAN id of the outermost tag.", vlan, "vlan"),
        column("vlan2", "int", "VLAN id of the second tag.", "IEEE 802.1ad", "vlan2"),
        column("vlan_tags", "int", "number of VLAN tags.", vlan, "", "tags"),
        column("ethertype", "int", "EtherType after the VLAN tags; absent for an 802.3 length field.", ethernet, "ethertype"),
        column("ip_version", "int", "IP version, 4 or 6.", ip, "ip"),
        column("ip_src", "ip", "source address.", ip, "ip"),
        column("ip_dst", "ip", "destination address.", ip, "ip"),
        column("ttl", "int", "time to live or hop limit.", ip, "ip", "hops"),
        column("tos", "int", "DSCP and ECN byte (traffic class).", "RFC 2474", "ip"),
        column("ip_id", "int", "identification (IPv6: of the fragment header).", ip, "ip_id"),
        column("ip_len", "int", "length of the IP packet, header included, as claimed; 0: larger than the field can say.", ip, "ip", "bytes"),
        column("df", "flag", "don't-fragment bit (IPv4 only).", "RFC 791", "ipv4"),
        column("frag", "enum", "fragment: first or later; absent for a whole packet.", ip, "frag", words=FRAGMENTS),
        column("frag_offset", "int", "offset of this fragment in the packet's payload.", ip, "frag", "bytes"),
        column("frag_more", "flag", "more fragments follow.", ip, "frag"),
        column("proto", "int", "protocol after any IPv6 extension headers (IANA number).", ip, "ip"),
        column("sport", "int", "source port (TCP, UDP, SCTP).", "RFC 768, RFC 9293", "ports"),
        column("dport", "int", "destination port (TCP, UDP, SCTP).", "RFC 768, RFC 9293", "ports"),
        column("udp_len", "int", "UDP length as claimed; 0: larger than the field can say.", udp, "udp", "bytes"),
        column("checksum", "int", "TCP, UDP, ICMP or ICMPv6 checksum field as it stands.", udp, "checksum"),
        column(
            "checksum_class",
            "enum",
            "TCP, UDP or ICMP checksum: zero, good, partial, lco or bad (only with checksums=True; absent when bytes are missing).",
            "RFC 1071, Linux Documentation/networking/checksum-offloads",
            "",
            words=CHECKSUM_CLASSES,
        ),
        column("ip_checksum_class", "enum", "IPv4 header checksum: good or bad (only with checksums=True).", "RFC 791", "", words=CHECKSUM_CLASSES),
        column(
            "trailer",
            "int",
            "bytes after the end of the IP packet or ARP message, up to the end of its frame (padding, FCS).",
            ethernet,
            "trailer",
            "bytes",
        ),
        column("eth_offset", "int", "where the Ethernet header begins.", "vxtool", "eth_dst", "bytes"),
        column("ip_offset", "int", "where the IP header begins.", "vxtool", "ip", "bytes"),
        column("l4_offset", "int", "where the header after IP begins.", "vxtool", "l4", "bytes"),
    )


def _row_column(name: str, kind: Kind, about: str, source: str, have: str = "", unit: str = "", *, fields: str = "", **more: object) -> Column:
    stored = fields or name
    pair = (f"{stored}_hi", f"{stored}_lo") if kind == "ip" else (stored,)
    mask, bit = ("have", HAVE[have]) if have else ("", 0)
    return Column(name, kind, about, source, unit, pair, mask, bit, **more)  # type: ignore[arg-type]


_c = _row_column
_VXLAN, _GBP, _GPE, _GENEVE = "RFC 7348 section 5", "draft-smith-vxlan-group-policy", "draft-ietf-nvo3-vxlan-gpe", "RFC 8926 section 3"
_ICMP, _TCP, _DNS = "RFC 792, RFC 4443", "RFC 9293", "RFC 1035 section 4"

COLUMNS: tuple[Column, ...] = (
    _c("frame", "int", "Position in its own file, from 1.", "vxtool"),
    _c("ts", "int", "Time of capture, since 1970-01-01 UTC.", "the capture file", unit="ns"),
    _c("vantage", "name", "Where the capture was taken: the name given, else the file's name.", "vxtool"),
    _c("interface", "name", "Interface as the capture names it (pcapng); absent in pcap.", "pcapng section 4.2"),
    _c("linktype", "int", "Link type of the frame (LINKTYPE number).", "tcpdump.org/linktypes"),
    _c("caplen", "int", "Bytes captured.", "the capture file", unit="bytes"),
    _c("wirelen", "int", "Bytes the frame had on the wire.", "the capture file", unit="bytes"),
    _c("sll_type", "int", "Linux cooked link: 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 sent by us.", "LINKTYPE_LINUX_SLL", "sll"),
    _c("sll_ifindex", "int", "Linux cooked link, version 2: index of the interface.", "LINKTYPE_LINUX_SLL2", "sll_ifindex"),
    *_header_columns("outer", "Outermost"),
    _c("control", "enum", "Control traffic of a swarm by port: management (2377) or gossip (7946).", "Docker documentation", words=CONTROL),
    _c("esp_spi", "int", "Security parameters index of an encrypted packet.", "RFC 4303", "esp"),
    _c("esp_seq", "int", "Sequence number of an encrypted packet.", "RFC 4303", "esp"),
    _c("tunnel", "enum", "Outermost tunnel header: none, vxlan, vxlan-gpe or geneve.", _VXLAN, words=TUNNELS),
    _c("depth", "int", "Number of tunnel headers, one inside the other (at most 8).", "vxtool", unit="tunnels"),
    _c("guessed", "flag", "The tunnel was recognised by its shape, not by its port (--guess).", "vxtool", "tunnel"),
    _c("tunnel_offset", "int", "Where the outermost tunnel header begins.", "vxtool", "tunnel", "bytes"),
    _c("vni", "int", "VXLAN network identifier of the outermost tunnel header; reserved bits never change it.", _VXLAN, "tunnel"),
    _c("vxlan_word", "int", "First 32 bits of the VXLAN header, as they stand.", _VXLAN, "vxlan"),
    _c("vxlan_i", "flag", "I flag: the VNI is valid.", _VXLAN, "vxlan", fields="vxlan_word", shift=27, limit=1),
    _c("vxlan_flags", "int", "The eight flag bits, I included.", _VXLAN, "vxlan", fields="vxlan_word", shift=24, limit=0xFF),
    _c("vxlan_reserved", "int", "The 24 bits after the flags; reserved in plain VXLAN.", _VXLAN, "vxlan", fields="vxlan_word", limit=0xFFFFFF),
    _c("vxlan_last", "int", "The header's last byte; reserved.", _VXLAN, "vxlan"),
    _c("gbp_d", "flag", "Group policy D bit: do not learn from this frame.", _GBP, "gbp", fields="vxlan_word", shift=22, limit=1),
    _c("gbp_a", "flag", "Group policy A bit: the policy has been applied.", _GBP, "gbp", fields="vxlan_word", shift=19, limit=1),
    _c("gbp_policy", "int", "Group policy id (present when the G bit is set).", _GBP, "gbp"),
    _c("gpe_version", "int", "Version bits of VXLAN-GPE.", _GPE, "gpe", fields="vxlan_word", shift=28, limit=3),
    _c("gpe_p", "flag", "P bit: the next-protocol field means something.", _GPE, "gpe", fields="vxlan_word", shift=26, limit=1),
    _c("gpe_b", "flag", "B bit: broadcast, unknown unicast or multicast.", _GPE, "gpe", fields="vxlan_word", shift=25, limit=1),
    _c("gpe_o", "flag", "O bit: operations and management, not to be forwarded.", _GPE, "gpe", fields="vxlan_word", shift=24, limit=1),
    _c("gpe_next", "int", "Next protocol: 1 IPv4, 2 IPv6, 3 Ethernet, 4 NSH.", _GPE, "gpe"),
    _c("geneve_version", "int", "Geneve version.", _GENEVE, "geneve"),
    _c("geneve_protocol", "int", "EtherType of what Geneve carries.", _GENEVE, "geneve"),
    _c("geneve_options", "int", "Number of Geneve options.", _GENEVE, "geneve", "options"),
    _c("geneve_critical", "flag", "C bit: critical options present.", _GENEVE, "geneve"),
    _c("geneve_oam", "flag", "O bit: control packet.", _GENEVE, "geneve"),
    _c("inner_tunnel", "enum", "Innermost tunnel header; differs from tunnel when tunnels are nested.", _VXLAN, words=TUNNELS),
    _c("inner_vni", "int", "Network identifier of the innermost tunnel header.", _VXLAN, "tunnel"),
    *_header_columns("inner", "Innermost"),
    _c("inner_arp_op", "int", "ARP operation: 1 request, 2 reply.", "RFC 826", "arp", fields="arp_op"),
    _c("inner_arp_sha", "mac", "ARP sender hardware address.", "RFC 826", "arp", fields="arp_sha"),
    _c("inner_arp_spa", "ipv4", "ARP sender protocol address.", "RFC 826", "arp", fields="arp_spa"),
    _c("inner_arp_tha", "mac", "ARP target hardware address.", "RFC 826", "arp", fields="arp_tha"),
    _c("inner_arp_tpa", "ipv4", "ARP target protocol address.", "RFC 826", "arp", fields="arp_tpa"),
    _c("inner_icmp_type", "int", "ICMP or ICMPv6 type.", _ICMP, "icmp", fields="icmp_type"),
    _c("inner_icmp_code", "int", "ICMP or ICMPv6 code.", _ICMP, "icmp", fields="icmp_code"),
    _c("inner_icmp_id", "int", "Identifier of an echo request or reply.", _ICMP, "icmp_echo", fields="icmp_id"),
    _c("inner_icmp_seq", "int", "Sequence number of an echo request or reply.", _ICMP, "icmp_echo", fields="icmp_seq"),
    _c(
        "inner_icmp_mtu",
        "int",
        "MTU told by 'fragmentation needed' or 'packet too big'.",
        "RFC 1191, RFC 4443",
        "icmp_mtu",
        "bytes",
        fields="icmp_mtu",
    ),
    _c("inner_quoted_ip_src", "ip", "Source of the packet that an ICMP error quotes.", _ICMP, "quoted", fields="quoted_ip_src"),
    _c("inner_quoted_ip_dst", "ip", "Destination of the quoted packet.", _ICMP, "quoted", fields="quoted_ip_dst"),
    _c("inner_quoted_proto", "int", "Protocol of the quoted packet.", _ICMP, "quoted", fields="quoted_proto"),
    _c("inner_quoted_ip_id", "int", "Identification of the quoted packet (IPv4; 0 for IPv6).", _ICMP, "quoted", fields="quoted_ip_id"),
    _c("inner_quoted_ip_len", "int", "Length of the quoted packet, as claimed.", _ICMP, "quoted", "bytes", fields="quoted_ip_len"),
    _c("inner_quoted_sport", "int", "Source port of the quoted packet.", _ICMP, "quoted_ports", fields="quoted_sport"),
    _c("inner_quoted_dport", "int", "Destination port of the quoted packet.", _ICMP, "quoted_ports", fields="quoted_dport"),
    _c("inner_tcp_flags", "int", "TCP flags, twelve bits: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, ...", _TCP, "tcp", fields="tcp_flags"),
    _c("inner_tcp_seq", "int", "TCP sequence number.", _TCP, "tcp", fields="tcp_seq"),
    _c("inner_tcp_ack", "int", "TCP acknowledgment number.", _TCP, "tcp", fields="tcp_ack"),
    _c("inner_tcp_window", "int", "TCP window as it stands, not scaled.", _TCP, "tcp", fields="tcp_window"),
    _c("inner_tcp_mss", "int", "Maximum segment size option.", _TCP, "tcp_mss", "bytes", fields="tcp_mss"),
    _c(
        "inner_payload_len",
        "int",
        "Bytes after the TCP, UDP or ICMP header that the lengths claim.",
        "vxtool",
        "payload",
        "bytes",
        fields="payload_len",
    ),
    _c("inner_payload_offset", "int", "Where those bytes begin.", "vxtool", "payload", "bytes", fields="payload_offset"),
    _c("dns_id", "int", "DNS message id.", _DNS, "dns"),
    _c("dns_qr", "flag", "False: a query, true: a response.", _DNS, "dns", fields="dns_flags", shift=15, limit=1),
    _c("dns_opcode", "int", "DNS operation, 0 is a standard query.", _DNS, "dns", fields="dns_flags", shift=11, limit=15),
    _c("dns_flags", "int", "DNS flags, sixteen bits (qr, opcode, aa, tc, rd, ra, rcode).", _DNS, "dns"),
    _c("dns_tc", "flag", "Truncated: the answer did not fit.", _DNS, "dns", fields="dns_flags", shift=9, limit=1),
    _c("dns_rcode", "int", "Response code: 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED, ...", _DNS, "dns", fields="dns_flags", limit=15),
    _c("dns_questions", "int", "Number of questions, as claimed.", _DNS, "dns", "questions"),
    _c("dns_answer_count", "int", "Number of answer records, as claimed.", _DNS, "dns", "records"),
    Column("dns_qname", "text", "Name of the first question, case kept, no final dot, odd bytes as \\DDD.", _DNS),
    Column("dns_qtype", "text", "Type of the first question (A, AAAA, PTR, ...; TYPE65280 where it has no name).", _DNS),
    Column("dns_answers", "list", "Data of the answer records, in their order, as text.", _DNS),
    Column("dns_answer_names", "list", "Owner names of the answer records.", _DNS),
    Column("dns_answer_types", "list", "Types of the answer records.", _DNS),
    Column("dns_ttls", "list", "Times to live of the answer records.", _DNS, "s"),
    _c("reassembled", "int", "Fragments put together to make this row (--reassemble); 0: none.", "RFC 815", unit="fragments"),
    _c(
        "stop",
        "enum",
        "Why the walk ended early: snapped, truncated, malformed, depth, unsupported or fragment; absent when it did not.",
        "vxtool",
        words=STOPS,
    ),
    _c("stop_layer", "enum", "The header that could not be read.", "vxtool", words=LAYERS),
    Column("stop_depth", "int", "Tunnels passed before that header.", "vxtool", "tunnels", ("stop_depth",), "stop", 0xFF),
    Column("stop_offset", "int", "Where in the frame that header begins.", "vxtool", "bytes", ("stop_offset",), "stop", 0xFF),
    Column("stop_wanted", "int", "Bytes wanted from there, so that the header would be whole.", "vxtool", "bytes", ("stop_wanted",), "stop", 0xFF),
)

BY_NAME = {column.name: column for column in COLUMNS}
