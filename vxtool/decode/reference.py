"""The second reading: the same row, through scapy.

Knows which header follows which, and leaves the bits inside each header to scapy's field tables; shares no line with the compiled walk, so that
each is a witness of the other. It refuses to let scapy choose the next header: what is VXLAN is our rule (a UDP destination port), not
scapy's bindings, and scapy's global state is never touched. It is a thousand times slower than the walk: use it to check, not to work.

Where scapy misreads a header, the bits are read here by hand, and the place says so (look for "scapy:").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.nsh import NSH
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, IP, TCP, UDP, in4_pseudoheader
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6Unknown, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrRouting, in6_pseudoheader
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1Q, Ether, LoopbackOpenBSD
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.pton_ntop import inet_ntop
from scapy.utils import checksum

from vxtool.decode.columns import COLUMNS
from vxtool.decode.dns import TYPES  # words, as COLUMNS has them: which types have a name is no reading of bytes
from vxtool.decode.walk import DEFAULT, Options

__all__ = ["META", "read"]

META = frozenset({"frame", "ts", "vantage", "interface", "linktype", "caplen", "wirelen", "reassembled"})
"""Columns that are not in the frame itself: `read` leaves them out."""

MAX_DEPTH = 8
MAX_JUMPS = 127  # pointers in one DNS name; it cannot have more labels
VLAN_TAGS = {0x8100, 0x88A8, 0x9100}
BRIDGED = 0x6558  # transparent Ethernet bridging
EXTENSIONS = {0, 43, 44, 51, 60, 135, 139, 140}  # IPv6 headers that name a next one (IANA, "IPv6 Extension Header Types")
NETLINK = 824  # ARPHRD_NETLINK: on a cooked link, the "protocol" is then no EtherType


def read(frame: bytes, linktype: int, options: Options = DEFAULT, *, wirelen: int | None = None) -> dict[str, object]:
    """One frame as a row: a value for every column but those in `META`, None where there is nothing.

    `linktype` is a LINKTYPE_* number; `wirelen` is what the frame had on the wire, when the capture kept fewer bytes. Addresses are text, flags are
    bool, lists are lists, the rest int or str. Never raises for what is in a frame.
    """
    return _Reading(frame, len(frame) if wirelen is None else wirelen, options).row(linktype)


class _Stop(Exception):
    """The reading ends here; `columns` say why."""

    def __init__(self, reason: str, layer: str, depth: int, offset: int, wanted: int) -> None:
        super().__init__(reason)
        self.columns = {"stop": reason, "stop_layer": layer, "stop_depth": depth, "stop_offset": offset, "stop_wanted": wanted}


def _fields(kind: type[Packet], data: bytes) -> Any:
    """A scapy packet whose fields are read from `data`, as far as that goes. What follows is never looked at, so scapy's bindings play no part."""
    packet = kind()
    rest: Any = data
    for field in packet.fields_desc:
        if not rest:
            break
        rest, value = field.getfield(packet, rest)
        packet.fields[field.name] = value
    return packet


class _Datagram(NamedTuple):
    """A TCP, UDP or ICMP message that is complete, for its checksum."""

    headers: dict[str, Any]  # the set it belongs to
    proto: int
    ip: Any  # scapy's IP or IPv6
    field: int  # the checksum as it stands
    start: int  # in the frame
    data: bytes


class _Reading:
    """One frame being read: `sets` holds one set of headers for each frame inside another, `columns` what is not part of a set.

    A header whose fixed part is there fills its columns, even when its options are cut off or its other fields make no sense.
    """

    def __init__(self, frame: bytes, wirelen: int, options: Options) -> None:
        self.frame = frame
        self.wirelen = max(wirelen, len(frame))
        self.options = options
        self.sets: list[dict[str, Any]] = [{"vlan_tags": 0}]
        self.columns: dict[str, Any] = {"tunnel": "none", "inner_tunnel": "none", "depth": 0}
        self.fragment_end = -1  # where the first fragment being read ends: what is missing there is in a later one
        self.rerouted = False  # an IPv6 routing header has segments left: the pseudo-header's destination is in there (RFC 8200 section 8.1)
        self.unmet: _Stop | None = None  # the first length field that claims more than there is
        self.datagrams: list[_Datagram] = []

    @property
    def here(self) -> dict[str, Any]:
        """The set of headers being read."""
        return self.sets[-1]

    def row(self, linktype: int) -> dict[str, object]:
        try:
            link = LINKS.get(linktype)
            if link is None:
                raise _Stop("unsupported", "link", 0, 0, 0)
            link(self, 0, self.wirelen)
            if self.unmet is not None:
                raise self.unmet
        except _Stop as stop:
            self.columns.update(stop.columns)
        if self.options.checksums:
            self.checksums()
        values = dict(self.columns)
        for prefix, headers in (("outer", self.sets[0]), ("inner", self.sets[-1])):
            values.update((f"{prefix}_{name}", value) for name, value in headers.items())
        if len(self.sets) == 1:
            values["control"] = self.control()
        return {column.name: values.get(column.name) for column in COLUMNS if column.name not in META}

    def stop(self, reason: str, layer: str, at: int, wanted: int) -> _Stop:
        return _Stop(reason, layer, self.columns["depth"], at, wanted)

    def need(self, layer: str, at: int, size: int, end: int) -> None:
        """`size` bytes at `at`, inside a packet that ends at `end` on the wire, or a stop."""
        if at + size > end:
            raise self.stop("fragment" if end == self.fragment_end else "truncated", layer, at, size)
        if at + size > len(self.frame):
            raise self.stop("snapped", layer, at, size)

    def header(self, kind: type[Packet], layer: str, at: int, size: int, end: int) -> Any:
        """A header, or the first `size` bytes of one, its fields filled in by scapy."""
        self.need(layer, at, size, end)
        return _fields(kind, self.frame[at : at + size])

    def claim(self, layer: str, at: int, size: int, end: int) -> int:
        """Where a packet of `size` bytes at `at` ends, which is never beyond the packet that carries it."""
        if at + size <= end:
            self.fragment_end = -1  # what ends inside a first fragment is not continued in a later one
        elif self.unmet is None and end != self.fragment_end:
            self.unmet = self.stop("truncated", layer, at, size)
        return min(at + size, end)

    # ---- links ------------------------------------------------------------------------------------------------------

    def ethernet(self, at: int, end: int) -> None:
        header = self.header(Ether, "ethernet", at, 14, end)
        self.here.update(eth_src=header.src, eth_dst=header.dst, eth_offset=at)
        self.ethertype(header.type, at + 14, end)

    def sll(self, at: int, end: int) -> None:
        self.cooked(self.header(CookedLinux, "link", at, 16, end), at + 16, end)

    def sll2(self, at: int, end: int) -> None:
        header = self.header(CookedLinuxV2, "link", at, 20, end)
        self.columns["sll_ifindex"] = header.ifindex
        self.cooked(header, at + 20, end)

    def cooked(self, header: Any, at: int, end: int) -> None:
        self.columns["sll_type"] = header.pkttype & 0xFF
        if header.lladdrlen == 6:
            self.here["eth_src"] = header.src[:6].hex(":")
        if header.lladdrtype == NETLINK:
            raise self.stop("unsupported", "link", at, 0)
        self.ethertype(header.proto, at, end)

    def loop(self, at: int, end: int) -> None:
        """LINKTYPE_LOOP: the address family, in network byte order."""
        self.family(self.header(LoopbackOpenBSD, "link", at, 4, end).type, at, end)

    def null(self, at: int, end: int) -> None:
        """LINKTYPE_NULL: the same in the byte order of the capturing host, which the frame does not tell; families are small numbers."""
        family = self.header(LoopbackOpenBSD, "link", at, 4, end).type
        self.family(family if family <= 0xFFFF else int.from_bytes(family.to_bytes(4, "big"), "little"), at, end)

    def family(self, family: int, at: int, end: int) -> None:
        if family not in FAMILIES:
            raise self.stop("unsupported", "link", at, 0)
        FAMILIES[family](self, at + 4, end)

    def raw(self, at: int, end: int) -> None:
        self.need("link", at, 1, end)
        version = self.frame[at] >> 4
        if version not in (4, 6):
            raise self.stop("malformed", "link", at, 1)
        (_Reading.ipv4 if version == 4 else _Reading.ipv6)(self, at, end)

    def ethertype(self, kind: int, at: int, end: int) -> None:
        here = self.here
        while kind in VLAN_TAGS:
            tag = self.header(Dot1Q, "vlan", at, 4, end)
            here["vlan_tags"] = min(here["vlan_tags"] + 1, 255)
            here.setdefault("vlan" if here["vlan_tags"] == 1 else "vlan2", tag.vlan)
            kind = tag.type
            at += 4
        if kind >= 0x0600:  # below is a length (IEEE 802.3 clause 3.2.6)
            here["ethertype"] = kind
        if kind in ETHERTYPES:
            ETHERTYPES[kind](self, at, end)

    def arp(self, at: int, end: int) -> None:
        header = self.header(ARP, "arp", at, 8, end)
        if (header.ptype, header.hwlen, header.plen) != (0x0800, 6, 4):
            return
        header = self.header(ARP, "arp", at, 28, end)
        self.here.update(arp_op=header.op, arp_spa=header.psrc, arp_tpa=header.pdst, trailer=end - at - 28)
        # scapy: a MAC is read as one only where the hardware type is Ethernet.
        self.here.update(arp_sha=self.frame[at + 8 : at + 14].hex(":"), arp_tha=self.frame[at + 18 : at + 24].hex(":"))

    # ---- IP ---------------------------------------------------------------------------------------------------------

    def ipv4(self, at: int, end: int) -> None:
        header = self.header(IP, "ipv4", at, 20, end)
        size = header.ihl * 4
        if header.version != 4 or size < 20 or 0 < header.len < size:
            raise self.stop("malformed", "ipv4", at, max(size, 20))
        self.rerouted = False
        packet_end = self.claim("ipv4", at, header.len, end) if header.len else end  # 0: BIG TCP, all there is
        self.here.update(
            ip_version=4,
            ip_src=header.src,
            ip_dst=header.dst,
            ttl=header.ttl,
            tos=header.tos,
            ip_id=header.id,
            ip_len=header.len,
            df=bool(header.flags.DF),
            proto=header.proto,
            trailer=end - packet_end,
            ip_offset=at,
        )
        self.need("ipv4", at, size, packet_end)
        if self.options.checksums:
            self.here["ip_checksum_class"] = "good" if checksum(self.frame[at : at + size]) == 0 else "bad"
        self.fragment(header.frag * 8, bool(header.flags.MF), packet_end)
        if header.frag == 0 and header.proto in OVER_IPV4:
            OVER_IPV4[header.proto](self, header, at + size, packet_end)

    def ipv6(self, at: int, end: int) -> None:
        header = self.header(IPv6, "ipv6", at, 40, end)
        if header.version != 6:
            raise self.stop("malformed", "ipv6", at, 40)
        self.rerouted = False
        packet_end = self.claim("ipv6", at, header.plen + 40, end) if header.plen else end  # 0: a jumbogram or BIG TCP, all there is
        self.here.update(
            ip_version=6,
            ip_src=header.src,
            ip_dst=header.dst,
            ttl=header.hlim,
            tos=header.tc,
            ip_len=header.plen + 40 if header.plen else 0,
            proto=header.nh,
            trailer=end - packet_end,
            ip_offset=at,
        )
        proto, at, offset = header.nh, at + 40, 0
        while proto in EXTENSIONS and offset == 0:
            if proto == 44:
                piece = self.header(IPv6ExtHdrFragment, "ipv6-extension", at, 8, packet_end)
                self.here["ip_id"] = piece.id
                offset, size, following = piece.offset * 8, 8, piece.nh
                self.fragment(offset, bool(piece.m), packet_end)
            elif proto == 51:
                ah = self.header(AH, "ipv6-extension", at, 8, packet_end)
                size, following = (ah.payloadlen + 2) * 4, ah.nh  # RFC 4302 section 2.2: in 32-bit words, minus 2
            else:
                # The first two fields are the same in all of these headers (RFC 6564); the routing header's stand for all.
                extension = self.header(IPv6ExtHdrRouting, "ipv6-extension", at, 8, packet_end)
                size, following = (extension.len + 1) * 8, extension.nh
            self.need("ipv6-extension", at, size, packet_end)
            self.rerouted |= proto == 43 and extension.segleft > 0
            self.here["proto"] = proto = following
            at += size
        if offset == 0 and proto in OVER_IPV6:
            OVER_IPV6[proto](self, header, at, packet_end)

    def fragment(self, offset: int, more: bool, end: int) -> None:
        if offset or more:  # an IPv6 fragment that is neither is whole: "atomic" (RFC 6946)
            self.here.update(frag="later" if offset else "first", frag_offset=offset, frag_more=more)
            self.fragment_end = end

    # ---- over IP ----------------------------------------------------------------------------------------------------

    def udp(self, ip: Any, at: int, end: int) -> None:
        header = self.header(UDP, "udp", at, 8, end)
        self.here.update(sport=header.sport, dport=header.dport, l4_offset=at, udp_len=header.len, checksum=header.chksum)
        if 0 < header.len < 8:
            raise self.stop("malformed", "udp", at, 8)
        end = self.claim("udp", at, header.len, end) if header.len else end  # 0: BIG TCP (RFC 2675 section 4), all there is
        self.carries(17, ip, header.chksum, at, at + 8, end)
        tunnel = self.tunnel_of(header.dport, at + 8, end)
        if tunnel is not None:
            tunnel(self, at + 8, end)
        elif self.is_dns() and at + 8 < min(end, len(self.frame)):
            self.dns(at + 8, end)

    def tcp(self, ip: Any, at: int, end: int) -> None:
        header = self.header(TCP, "tcp", at, 20, end)
        self.here.update(sport=header.sport, dport=header.dport, l4_offset=at, checksum=header.chksum)
        # scapy: three reserved bits and nine flags; RFC 9293 section 3.1 has four and eight, and what was reserved has become flags before.
        flags = (header.reserved & 7) << 9 | int(header.flags)
        self.here.update(tcp_flags=flags, tcp_seq=header.seq, tcp_ack=header.ack, tcp_window=header.window)
        size = header.dataofs * 4
        if size < 20:
            raise self.stop("malformed", "tcp", at, 20)
        self.header(TCP, "tcp", at, size, end)
        mss = _mss(self.frame[at + 20 : at + size])
        if mss is not None:
            self.here["tcp_mss"] = mss
        self.carries(6, ip, header.chksum, at, at + size, end)
        if self.is_dns():
            self.dns_over_tcp(at + size, end)

    def sctp(self, ip: Any, at: int, end: int) -> None:
        if at + 4 <= min(end, len(self.frame)):  # an SCTP header is no layer of ours: its ports are, when they are there
            header = self.header(SCTP, "", at, 4, end)
            self.here.update(sport=header.sport, dport=header.dport, l4_offset=at)

    def icmp(self, ip: Any, at: int, end: int) -> None:
        header = self.header(ICMP, "icmp", at, 8, end)
        self.here.update(icmp_type=header.type, icmp_code=header.code, checksum=header.chksum, l4_offset=at)
        self.carries(1, ip, header.chksum, at, at + 8, end)
        if header.type in {0, 8}:
            self.here.update(icmp_id=header.id, icmp_seq=header.seq)
        if (header.type, header.code) == (3, 4):
            self.here["icmp_mtu"] = header.nexthopmtu
        if header.type in {3, 4, 5, 11, 12}:
            self.quoted(IP, at + 8, end)

    def icmpv6(self, ip: Any, at: int, end: int) -> None:
        header = self.header(ICMPv6Unknown, "icmpv6", at, 8, end)
        self.here.update(icmp_type=header.type, icmp_code=header.code, checksum=header.cksum, l4_offset=at)
        self.carries(58, ip, header.cksum, at, at + 8, end)
        if header.type in {128, 129}:
            echo = self.header(ICMPv6EchoRequest, "icmpv6", at, 8, end)
            self.here.update(icmp_id=echo.id, icmp_seq=echo.seq)
        if header.type == 2:
            self.here["icmp_mtu"] = self.header(ICMPv6PacketTooBig, "icmpv6", at, 8, end).mtu
        if header.type in {1, 2, 3, 4}:
            self.quoted(IPv6, at + 8, end)

    def quoted(self, kind: type[Packet], at: int, end: int) -> None:
        """The head of the packet that an ICMP error is about. Errors quote as little as they like, so nothing missing here is a stop."""
        end = min(end, len(self.frame))
        fixed, version = (20, 4) if kind is IP else (40, 6)
        if at + fixed > end:
            return
        ip = self.header(kind, "", at, fixed, end)
        if ip.version != version or (version == 4 and ip.ihl < 5):
            return
        if version == 4:
            proto, size, length, identification, offset = ip.proto, ip.ihl * 4, ip.len, ip.id, ip.frag
        else:
            proto, size, length, identification, offset = ip.nh, 40, min(ip.plen + 40, 0xFFFF), 0, 0
        self.here.update(quoted_ip_src=ip.src, quoted_ip_dst=ip.dst, quoted_proto=proto, quoted_ip_id=identification, quoted_ip_len=length)
        if proto in {6, 17, 132} and offset == 0 and at + size + 4 <= end:
            ports = self.header(SCTP, "", at + size, 4, end)  # all three begin with their ports
            self.here.update(quoted_sport=ports.sport, quoted_dport=ports.dport)

    def esp(self, ip: Any, at: int, end: int) -> None:
        header = self.header(ESP, "esp", at, 8, end)
        self.here["l4_offset"] = at
        self.columns.update(esp_spi=header.spi, esp_seq=header.seq)

    def carries(self, proto: int, ip: Any, field: int, start: int, payload: int, end: int) -> None:
        self.here.update(payload_offset=payload, payload_len=end - payload)
        if self.unmet is None and end <= len(self.frame) and end != self.fragment_end and not self.rerouted:
            self.datagrams.append(_Datagram(self.here, proto, ip, field, start, self.frame[start:end]))

    def control(self) -> str | None:
        """Swarm's own traffic, which is on the underlay and never in a tunnel."""
        ports = {self.here.get("sport"), self.here.get("dport")}
        if 7946 in ports and self.here["proto"] in {6, 17}:
            return "gossip"
        return "management" if 2377 in ports and self.here["proto"] == 6 else None

    # ---- tunnels ----------------------------------------------------------------------------------------------------

    def tunnel_of(self, dport: int, at: int, end: int) -> Callable[[_Reading, int, int], None] | None:
        """Our rule: the UDP destination port, and no source port, no flag and no other header, says what a datagram carries."""
        if dport in self.options.vxlan_ports:
            return _Reading.vxlan
        if dport in self.options.gpe_ports:
            return _Reading.gpe
        if dport in self.options.geneve_ports:
            return _Reading.geneve
        if self.options.guess and self.looks_like_vxlan(at, end):
            self.columns["guessed"] = True
            return _Reading.vxlan
        return None

    def looks_like_vxlan(self, at: int, end: int) -> bool:
        """--guess: only the I flag, a VNI that is not 0, and an Ethernet frame whose packet is as long as the datagram (or padded to 60 bytes)."""
        if at + 42 > min(end, len(self.frame)):
            return False
        word, vni, columns = _vxlan(self.frame[at : at + 8])
        inner = self.frame[at + 22 : at + 42]
        left = end - at - 22
        if word != 0x08000000 or columns["vxlan_last"] != 0 or vni == 0:
            return False
        kind = self.header(Ether, "", at + 8, 14, end).type
        if kind == 0x0800:
            ip = _fields(IP, inner)
            return bool(ip.version == 4 and ip.ihl >= 5 and ip.len >= 20 and (ip.len == left or ip.len < left <= 46))
        if kind == 0x86DD:
            return inner[0] >> 4 == 6 and int.from_bytes(inner[4:6], "big") + 40 == left
        return bool(kind == 0x0806) and inner[:6] == bytes.fromhex("000108000604") and 28 <= left <= 46

    def enter(self, kind: str, at: int, vni: int, **columns: object) -> None:
        """A tunnel header has been read: a new set of headers begins. `columns` are those that only the outermost tunnel fills."""
        if self.columns["depth"] == 0:
            self.columns.setdefault("guessed", False)
            self.columns.update(tunnel=kind, vni=vni, tunnel_offset=at, **columns)
        self.columns.update(inner_tunnel=kind, inner_vni=vni, depth=self.columns["depth"] + 1)
        self.sets.append({"vlan_tags": 0})

    def tunnel_header(self, layer: str, at: int, end: int) -> bytes:
        """The eight bytes that every tunnel header begins with."""
        if self.columns["depth"] == MAX_DEPTH:
            raise self.stop("depth", layer, at, 8)
        self.need(layer, at, 8, end)
        return self.frame[at : at + 8]

    def vxlan(self, at: int, end: int) -> None:
        word, vni, columns = _vxlan(self.tunnel_header("vxlan", at, end))
        if word >> 31:  # G
            columns.update(gbp_policy=word & 0xFFFF, gbp_d=bool(word >> 22 & 1), gbp_a=bool(word >> 19 & 1))
        self.enter("vxlan", at, vni, **columns)
        self.ethernet(at + 8, end)

    def gpe(self, at: int, end: int) -> None:
        word, vni, columns = _vxlan(self.tunnel_header("vxlan-gpe", at, end))
        says_next, following = bool(word >> 26 & 1), word & 0xFF
        columns.update(gpe_version=word >> 28 & 3, gpe_p=says_next, gpe_b=bool(word >> 25 & 1), gpe_o=bool(word >> 24 & 1), gpe_next=following)
        self.enter("vxlan-gpe", at, vni, **columns)
        if not says_next:
            self.ethernet(at + 8, end)
        elif following == 4:
            self.nsh(at + 8, end)
        elif following in NEXT_PROTOCOLS:
            NEXT_PROTOCOLS[following](self, at + 8, end)

    def nsh(self, at: int, end: int) -> None:
        header = self.header(NSH, "nsh", at, 8, end)
        size = header.length * 4
        if size < 8:
            raise self.stop("malformed", "nsh", at, 8)
        self.need("nsh", at, size, end)
        if header.nextproto in NEXT_PROTOCOLS:
            NEXT_PROTOCOLS[header.nextproto](self, at + size, end)

    def geneve(self, at: int, end: int) -> None:
        header = _fields(GENEVE, self.tunnel_header("geneve", at, end))
        size = 8 + header.optionlen * 4
        # What goes wrong among the options happens before this tunnel has been passed.
        trouble: _Stop | None = None
        options = 0
        try:
            self.need("geneve", at, size, end)
            options_at = at + 8
            while options_at < at + size:
                option = self.header(GeneveOptions, "geneve", options_at, 4, end)
                length = 4 + option.length * 4
                if options_at + length > at + size:
                    raise self.stop("malformed", "geneve", options_at, length)
                options_at += length
                options += 1
        except _Stop as stop:
            trouble = stop
        self.enter(
            "geneve",
            at,
            header.vni,
            geneve_version=header.version,
            geneve_protocol=header.proto,
            geneve_options=options,
            geneve_critical=bool(header.critical),
            geneve_oam=bool(header.oam),
        )
        if trouble is not None:
            raise trouble
        following = {BRIDGED: _Reading.ethernet, 0x0800: _Reading.ipv4, 0x86DD: _Reading.ipv6}.get(header.proto)
        if following is not None:
            following(self, at + size, end)

    # ---- DNS --------------------------------------------------------------------------------------------------------

    def is_dns(self) -> bool:
        here = self.here
        return 53 in (here["sport"], here["dport"]) or "127.0.0.11" in (here["ip_src"], here["ip_dst"])

    def dns_over_tcp(self, at: int, end: int) -> None:
        """A message follows its length (RFC 1035 section 4.2.2). A segment that does not look like that is the middle of a longer message."""
        end = min(end, len(self.frame))
        if at + 14 > end:
            return
        length = int.from_bytes(self.frame[at : at + 2], "big")
        header = _fields(DNS, self.frame[at + 2 : at + 14])
        if length >= 12 and header.opcode <= 5 and not header.z and header.qdcount <= 1:
            self.dns(at + 2, min(end, at + 2 + length), cut_is_stop=False)

    def dns(self, at: int, end: int, cut_is_stop: bool = True) -> None:
        header = self.header(DNS, "dns", at, 12, end)
        flags = int.from_bytes(self.frame[at + 2 : at + 4], "big")
        self.columns.update(
            dns_id=header.id,
            dns_qr=bool(header.qr),
            dns_opcode=header.opcode,
            dns_flags=flags,
            dns_tc=bool(header.tc),
            dns_rcode=header.rcode,
            dns_questions=header.qdcount,
            dns_answer_count=header.ancount,
        )
        counts = (header.qdcount, header.ancount, header.nscount + header.arcount)
        message = _Message(self.frame[at : min(end, len(self.frame))], counts)
        self.columns.update(message.columns)
        if message.error is not None:
            reason, offset, wanted = message.error
            if reason == "malformed":
                raise self.stop("malformed", "dns", at + offset, wanted)
            if cut_is_stop:
                self.need("dns", at + offset, wanted, end)

    # ---- checksums --------------------------------------------------------------------------------------------------

    def checksums(self) -> None:
        """The five classes of ARCHITECTURE.md for the first and the last datagram of the frame."""
        last = self.datagrams[-1] if self.datagrams and self.datagrams[-1].headers is self.here else None
        if last is not None:
            self.here["checksum_class"] = _checksum_class(last)
        if len(self.sets) > 1 and self.datagrams and self.datagrams[0].headers is self.sets[0]:
            outer = self.datagrams[0]
            kind = _checksum_class(outer)
            if kind == "bad" and last is not None and last.headers["checksum_class"] == "partial":
                # Linux local checksum offload: the inner datagram will sum up to the complement of what its field holds now.
                before_inner = outer.data[: last.start - outer.start]
                if checksum(_pseudo_header(outer) + before_inner + (last.field ^ 0xFFFF).to_bytes(2, "big")) == 0:
                    kind = "lco"
            outer.headers["checksum_class"] = kind


def _checksum_class(datagram: _Datagram) -> str:
    if datagram.proto == 17 and datagram.field == 0:
        return "zero"
    pseudo_header = _pseudo_header(datagram)
    if checksum(pseudo_header + datagram.data) == 0:
        return "good"
    return "partial" if pseudo_header and datagram.field == checksum(pseudo_header) ^ 0xFFFF else "bad"


def _pseudo_header(datagram: _Datagram) -> bytes:
    """RFC 768 and RFC 8200 section 8.1, with a 32-bit length also over IPv4: the sum is the same, and BIG TCP has more than 65,535 bytes.

    scapy: takes the length from the IP header, which is not that of a datagram followed by other bytes; so it gets addresses only.
    """
    if datagram.proto == 1:
        return b""  # RFC 792: none
    length = len(datagram.data).to_bytes(4, "big")
    addresses: Any = type(datagram.ip)(src=datagram.ip.src, dst=datagram.ip.dst)
    build = in4_pseudoheader if isinstance(addresses, IP) else in6_pseudoheader
    return bytes(build(datagram.proto, addresses, 0)) + length


def _vxlan(header: bytes) -> tuple[int, int, dict[str, Any]]:
    """The first word, the VNI and the columns that every VXLAN header has.

    scapy: which fields stand before the VNI depends on the flags; with G and P both set they take six bytes instead of three, which moves the VNI.
    RFC 7348 section 5 gives it one place whatever the other bits say; so scapy reads each field alone, from there.
    """
    fields = VXLAN()
    _, flags = fields.get_field("flags").getfield(fields, header)
    _, reserved = fields.get_field("vni").getfield(fields, header[1:])
    _, vni = fields.get_field("vni").getfield(fields, header[4:])
    _, last = fields.get_field("reserved2").getfield(fields, header[7:])
    columns = {
        "vxlan_word": int(flags) << 24 | reserved,
        "vxlan_i": bool(flags.Instance),
        "vxlan_flags": int(flags),
        "vxlan_reserved": reserved,
        "vxlan_last": last,
    }
    return int(flags) << 24 | reserved, vni, columns


# --------------------------------------------------------------------------------------------------------------------
# DNS messages. scapy: joins the labels of a name with dots, so that a dot inside a label is lost; takes a label of 64 bytes and more for a
# pointer; follows pointers forward; and raises or guesses where a message ends early. So names are read here, as RFC 1035 section 4.1.4 has them.
# --------------------------------------------------------------------------------------------------------------------


class _Cut(Exception):
    """A message that cannot be read further: "malformed" or "cut", where, and how many bytes were wanted there."""

    def __init__(self, reason: str, at: int, wanted: int) -> None:
        super().__init__(reason, at, wanted)


class _Message:
    """What a message says, as columns, and where its sections stop making sense (`error`: reason, offset, bytes wanted)."""

    def __init__(self, data: bytes, counts: tuple[int, int, int]) -> None:
        self.data = data
        self.error: tuple[str, int, int] | None = None
        try:
            for _ in self.sections(counts):
                pass
        except _Cut as cut:
            self.error = cut.args
        questions: list[tuple[str, str]] = []
        answers: list[tuple[str, str, int, str]] = []
        try:
            for name, kind, body in self.sections(counts[:2]):
                if body is None:
                    questions.append((name, TYPES.get(kind, f"TYPE{kind}")))
                else:
                    class_, ttl, at, end = body
                    answers.append((name, TYPES.get(kind, f"TYPE{kind}"), ttl, self.rdata(kind, class_, at, end)))
        except _Cut:
            pass  # what was read before stays
        self.columns = {
            "dns_qname": questions[0][0] if questions else None,
            "dns_qtype": questions[0][1] if questions else None,
            "dns_answer_names": [name for name, _, _, _ in answers],
            "dns_answer_types": [kind for _, kind, _, _ in answers],
            "dns_ttls": [ttl for _, _, ttl, _ in answers],
            "dns_answers": [data for _, _, _, data in answers],
        }

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], "big")

    def sections(self, counts: tuple[int, ...]) -> Iterator[tuple[str, int, tuple[int, int, int, int] | None]]:
        """Name and type of each question, then of each record with its class, TTL and the bounds of its data."""
        at = 12
        for section, count in enumerate(counts):
            for _ in range(count):
                name, at = self.name(at)
                fixed = 4 if section == 0 else 10
                if at + fixed > len(self.data):
                    raise _Cut("cut", at, fixed)
                size = fixed if section == 0 else fixed + self.number(at + 8, 2)
                if at + size > len(self.data):
                    raise _Cut("cut", at, size)
                body = None if section == 0 else (self.number(at + 2, 2), self.number(at + 4, 4), at + 10, at + size)
                yield name, self.number(at, 2), body
                at += size

    def name(self, at: int) -> tuple[str, int]:
        """A name as text and where it ends. Pointers lead backwards only, to where a name can be; 255 bytes and 127 pointers at the most."""
        labels: list[bytes] = []
        length, lowest, after, jumps = 1, at, -1, 0
        while True:
            first = self.byte(at, 1)
            if first == 0:
                break
            if first >= 0xC0:
                target = (first & 0x3F) << 8 | self.byte(at + 1, 1, at, 2)
                jumps += 1
                if not 12 <= target < lowest or jumps > MAX_JUMPS:
                    raise _Cut("malformed", at, 2)
                after = at + 2 if after < 0 else after
                at = lowest = target
                continue
            length += first + 1
            if first >= 0x40 or length > 255:
                raise _Cut("malformed", at, 1)
            self.byte(at + first, 1, at, first + 1)
            labels.append(self.data[at + 1 : at + 1 + first])
            at += first + 1
        return ".".join(map(_label, labels)) or ".", at + 1 if after < 0 else after

    def byte(self, at: int, size: int, item: int | None = None, wanted: int = 1) -> int:
        if at >= len(self.data):
            raise _Cut("cut", at if item is None else item, wanted)
        return self.data[at]

    def rdata(self, kind: int, class_: int, at: int, end: int) -> str:
        """The data of a record in presentation format; \\# LENGTH HEX where we know none (RFC 3597 section 5)."""
        form = RDATA.get(kind) if class_ & 0x7FFF == 1 else None
        if form is None:
            return f"\\# {end - at} {self.data[at:end].hex()}".rstrip()
        words = []
        for item in form:
            if item == "n":
                word, at = self.name(at)
            elif item in "HI":
                size = 2 if item == "H" else 4
                word, at = str(self.number(at, size)), at + size
            elif item in "46":
                size = 4 if item == "4" else 16
                word, at = "", at + size
                if at == end:
                    word = _ip_text(self.data[at - size : at])
            elif item == "s":
                strings = []
                while at < end:
                    strings.append(f'"{_string(self.data[at + 1 : at + 1 + self.data[at]])}"')
                    at += 1 + self.data[at]
                word = " ".join(strings)
            else:  # "c": CAA, RFC 8659 section 4.1
                tag_end = at + 2 + self.byte(at + 1, 1) if at + 2 <= end else end + 1
                if tag_end > end:
                    raise _Cut("malformed", at, 2)
                word = f'{self.data[at]} {_label(self.data[at + 2 : tag_end])} "{_string(self.data[tag_end:end])}"'
                at = end
            words.append(word)
        if at != end:
            raise _Cut("malformed", at, 0)
        return " ".join(words)


RDATA = {
    1: "4",
    2: "n",
    5: "n",
    6: "nnIIIII",
    12: "n",
    13: "s",
    15: "Hn",
    16: "s",
    17: "nn",
    18: "Hn",
    28: "6",
    33: "HHHn",
    39: "n",
    99: "s",
    257: "c",
}
"""What the data of each type is made of: n a name, H and I numbers of two and four bytes, 4 and 6 addresses, s strings to the end, c CAA."""


def _mss(options: bytes) -> int | None:
    """The last maximum segment size among TCP options (RFC 9293 section 3.2).

    scapy: an option longer than what is left is read as if it were shorter, and one that claims fewer than its own two bytes as if it had them;
    nothing that follows such an option can be known, and receivers stop there.
    """
    found = None
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or not 2 <= options[1] <= len(options):
            break
        option, options = options[: options[1]], options[options[1] :]
        if option[0] == 2 and len(option) == 4:
            found = int.from_bytes(option[2:], "big")
    return found


def _ip_text(packed: bytes) -> str:
    """An address as RFC 5952 writes it: of the IPv6 ones only ::ffff:0:0/96 ends in dots (section 5); the C library also writes ::/96 so."""
    if len(packed) == 16 and not any(packed[:12]):
        return str(IPv6Address(packed))
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def _label(label: bytes) -> str:
    return "".join(f"\\{c:c}" if c in b'().;@$"\\' else chr(c) if 0x20 < c < 0x7F else f"\\{c:03d}" for c in label)


def _string(text: bytes) -> str:
    return "".join(f"\\{c:c}" if c in b'"\\' else chr(c) if 0x20 <= c < 0x7F else f"\\{c:03d}" for c in text)


# --------------------------------------------------------------------------------------------------------------------
# What follows what.
# --------------------------------------------------------------------------------------------------------------------

_Step = Callable[[_Reading, int, int], None]
_Over = Callable[[_Reading, Any, int, int], None]

LINKS: dict[int, _Step] = {
    0: _Reading.null,
    1: _Reading.ethernet,
    12: _Reading.raw,
    14: _Reading.raw,
    101: _Reading.raw,
    108: _Reading.loop,
    113: _Reading.sll,
    228: _Reading.ipv4,
    229: _Reading.ipv6,
    276: _Reading.sll2,
}
FAMILIES: dict[int, _Step] = {2: _Reading.ipv4, 10: _Reading.ipv6, 24: _Reading.ipv6, 28: _Reading.ipv6, 30: _Reading.ipv6}
"""AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD and Darwin."""
ETHERTYPES: dict[int, _Step] = {0x0800: _Reading.ipv4, 0x0806: _Reading.arp, 0x86DD: _Reading.ipv6}
NEXT_PROTOCOLS: dict[int, _Step] = {1: _Reading.ipv4, 2: _Reading.ipv6, 3: _Reading.ethernet}
"""Of VXLAN-GPE and of NSH (RFC 8300 section 2.2)."""
_OVER_BOTH: dict[int, _Over] = {6: _Reading.tcp, 17: _Reading.udp, 50: _Reading.esp, 132: _Reading.sctp}
OVER_IPV4: dict[int, _Over] = {1: _Reading.icmp, **_OVER_BOTH}
OVER_IPV6: dict[int, _Over] = {58: _Reading.icmpv6, **_OVER_BOTH}
