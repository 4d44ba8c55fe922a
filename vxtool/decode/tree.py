"""A tree per frame (-v): every header of every nesting level at its offset, flag bits by name, reserved bits as they are; its bytes in hex (-vv).

Reads the frame once more, layer by layer, up to where the row says the walk came: what is a tunnel is the walk's decision, not made again here. Every
read is bounded by the enclosing layer, so that a lying length ends the tree and nothing else. Meant for eyes, not for speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np

from vxtool.capture.frames import Damage
from vxtool.decode import dns
from vxtool.decode.batch import Batch
from vxtool.decode.columns import CHECKSUM_CLASSES, HAVE, LAYERS, STOPS
from vxtool.decode.names import ETHERTYPES, IP_PROTOCOLS, LINKTYPES
from vxtool.decode.render import Output, ip_text, mac_text, names_of, printable
from vxtool.decode.text import RCODE_WORDS, icmp_words, shown
from vxtool.decode.times import Clock
from vxtool.decode.walk import DEFAULT, Options

__all__ = ["TreeSink"]

_WIDTH = 100
_NAME = 16  # columns for the layer's name, two more of indentation a tunnel

_PROTOCOL_NAMES = {number: shown(word) for word, number in IP_PROTOCOLS.items()}
_ETHERTYPE_NAMES = {number: shown(word) for word, number in ETHERTYPES.items()}
_VLAN_TYPES = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS = {0: "hop-by-hop", 43: "routing", 44: "fragment", 51: "authentication", 60: "destination", 135: "mobility", 139: "HIP", 140: "shim6"}

_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
_VXLAN_FLAGS = {0x08: "I", 0x80: "G"}
_GPE_FLAGS = {0x08: "I", 0x04: "P", 0x02: "B", 0x01: "O"}
_GPE_NEXT = {1: "IPv4", 2: "IPv6", 3: "Ethernet", 4: "NSH"}
_DNS_FLAGS = {0x8000: "QR", 0x0400: "AA", 0x0200: "TC", 0x0100: "RD", 0x0080: "RA", 0x0040: "Z", 0x0020: "AD", 0x0010: "CD"}
_SLL_TYPES = {0: "to us", 1: "broadcast", 2: "multicast", 3: "to another host", 4: "sent by us"}
_ARP_OPERATIONS = {1: "request", 2: "reply", 3: "reverse request", 4: "reverse reply"}


class TreeSink:
    """A tree for each frame, a blank line after it."""

    def __init__(self, out: Output, *, options: Options = DEFAULT, hexdump: bool = False, color: bool = False, time: Clock = "absolute") -> None:
        """options: those the walk was given. hexdump: the bytes of each frame as well. color: with ANSI colours. time: what the title says."""
        self._out = out
        self._options = options
        self._hexdump = hexdump
        self._color = color
        self._time = time
        self._origin: int | None = None  # ns, what times count from

    def write(self, batch: Batch) -> None:
        vantages, interfaces = (names_of(batch.frames, table) for table in ("vantage", "interface"))
        for i, row in enumerate(batch.rows):
            data = batch.frames.bytes_of(i)
            title = _title(row, self._when(int(row["ts"])), vantages if len(vantages) > 1 else [], interfaces)
            lines = [self._paint("1", title), *self._lines(data, row)]
            if self._hexdump:
                lines += [self._paint("2", line) for line in _hex_lines(data)]
            self._out.write("\n".join([*lines, "", ""]).encode())

    def finish(self, damage: Sequence[Damage] = ()) -> None:
        """Damage is told on stderr by whoever drives the sink."""

    def _when(self, ts: int) -> str:
        if self._time == "absolute":
            seconds, nanoseconds = divmod(ts, 1_000_000_000)
            return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{nanoseconds:09d} UTC"
        since = 0 if self._origin is None else ts - self._origin
        if self._time == "delta" or self._origin is None:
            self._origin = ts
        sign, (seconds, nanoseconds) = "-" if since < 0 else "", divmod(abs(since), 1_000_000_000)
        return f"{sign}{seconds}.{nanoseconds:09d} s after the {'frame before' if self._time == 'delta' else 'first frame'}"

    def _lines(self, data: bytes, row: np.void) -> Iterator[str]:
        for offset, depth, name, facts in _Reading(data, row, self._options).layers():
            label = f"{'  ' * depth}{name}"
            margin = 6 + max(_NAME, len(label) + 1)
            first, *more = _wrapped(facts, _WIDTH - margin)
            colour = _COLOURS.get(name, "36")
            padded = self._paint(colour, label) + " " * (margin - 6 - len(label))
            place = f"{offset:>4}  " if offset >= 0 else " " * 6
            yield (self._paint("2", place) + padded + first).rstrip()
            yield from (" " * margin + line for line in more)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


_COLOURS = {"stop": "31", "payload": "2", "trailer": "2", "VXLAN": "1;35", "VXLAN-GPE": "1;35", "Geneve": "1;35"}


def _title(row: np.void, when: str, vantages: Sequence[str | None], interfaces: Sequence[str | None]) -> str:
    captured, wire = int(row["caplen"]), int(row["wirelen"])
    words = [f"frame {row['frame']}", when, f"{wire} bytes" if captured == wire else f"{wire} bytes, {captured} captured"]
    for names, field in ((vantages, "vantage"), (interfaces, "interface")):
        if row[field] < len(names) and (name := names[row[field]]):
            words.append(f"{field} {printable(name)}")
    return "  ".join(words)


def _wrapped(facts: Sequence[str], width: int) -> list[str]:
    """Facts side by side, two spaces between them, on as many lines as it takes; "\\n" alone begins a new line."""
    lines = [""]
    for fact in facts:
        if fact == "\n":
            lines.append("")
        elif lines[-1] and len(lines[-1]) + 2 + len(fact) > width:
            lines.append(fact)
        else:
            lines[-1] += ("  " if lines[-1] else "") + fact
    return lines


def _hex_lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        digits = " ".join((part[:8].hex(" "), part[8:].hex(" "))) if len(part) > 8 else part.hex(" ")
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        yield f"{start:>4}  {digits:<48} {text}"


def _bits(value: int, names: dict[int, str]) -> str:
    """The names of the bits that are set; those without a name in hex."""
    words = [name for bit, name in names.items() if value & bit]
    rest = value & ~sum(names)
    return " ".join([*words, *([f"reserved 0x{rest:02x}"] if rest else [])]) or "none"


class _Ends(Exception):
    """A header does not fit; the row says why."""


_Layer = tuple[int, int, str, list[str]]


class _Reading:
    """One reading of one frame, from the link layer inwards: offset, nesting depth, name and facts of each header."""

    def __init__(self, data: bytes, row: np.void, options: Options) -> None:
        self.data = data
        self.row = row
        self.options = options
        self.at = 0
        self.end = len(data)
        self.depth = 0
        self.level = "outer"  # which set of the row's headers describes what is read; "" for those between outermost and innermost
        self.trailers: list[_Layer] = []

    def layers(self) -> Iterator[_Layer]:
        with suppress(_Ends):
            yield from self.link()
        yield from reversed(self.trailers)
        if self.row["stop"]:
            yield self.stop()

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def take(self, size: int) -> bytes:
        """The next bytes, all of them or none."""
        if size < 0 or self.at + size > self.end:
            raise _Ends
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken

    def be(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def mac(self) -> str:
        return mac_text(self.be(6))

    def ip(self, size: int) -> str:
        if size == 4:
            return ip_text(0, 0xFFFF << 32 | self.be(4))
        return ip_text(self.be(8), self.be(8), 6)

    def limit(self, end: int) -> None:
        """The layer being read ends at `end`; what the enclosing one has after that is its trailer."""
        if end < self.end:
            rest = self.data[end : self.end]
            self.trailers.append((end, self.depth, "trailer", [f"{len(rest)} bytes", "all zero" if not any(rest) else _some(rest)]))
            self.end = end

    def class_of(self, field: str) -> str:
        """The checksum class that the walk found, for the headers of the level being read."""
        if self.depth and self.depth < self.row["depth"]:
            return ""
        position = int(self.row[f"{'inner' if self.depth else 'outer'}_{field}"])
        return f" {CHECKSUM_CLASSES[position]}" if 0 < position < len(CHECKSUM_CLASSES) else ""

    # -- link ----------------------------------------------------------------------------------------------------------

    def link(self) -> Iterator[_Layer]:
        linktype = int(self.row["linktype"])
        if linktype == 1:
            yield from self.ethernet()
        elif linktype in (113, 276):
            yield from self.cooked(linktype)
        elif linktype in (0, 108):
            yield 0, 0, "loopback", [f"family {self.take(4).hex()}"]
            yield from self.raw()
        elif linktype in (12, 14, 101, 228, 229):
            yield from self.raw()
        else:
            yield 0, 0, "link", [f"type {linktype} {LINKTYPES.get(linktype, '')}".rstrip()]

    def raw(self) -> Iterator[_Layer]:
        if self.at >= self.end:
            raise _Ends
        yield from self.network({4: 0x0800, 6: 0x86DD}.get(self.data[self.at] >> 4, 0))

    def cooked(self, linktype: int) -> Iterator[_Layer]:
        if linktype == 113:
            kind, hardware, size = self.be(2), self.be(2), self.be(2)
            address = self.take(8)
            protocol, facts = self.be(2), []
        else:
            protocol, _reserved, index, hardware, kind, size = self.be(2), self.be(2), self.be(4), self.be(2), self.be(1), self.be(1)
            address = self.take(8)
            facts = [f"interface index {index}"]
        sender = mac_text(int.from_bytes(address[:6], "big")) if size == 6 else address[: min(size, 8)].hex() or "-"
        yield 0, 0, "Linux cooked", [f"from {sender}", _SLL_TYPES.get(kind, f"type {kind}"), f"hardware {hardware}", *facts, _ethertype(protocol)]
        yield from self.tagged(protocol)

    def ethernet(self) -> Iterator[_Layer]:
        start = self.at
        to, sender, kind = self.mac(), self.mac(), self.be(2)
        yield start, self.depth, "Ethernet", [f"{sender} > {to}", _ethertype(kind)]
        yield from self.tagged(kind)

    def tagged(self, kind: int) -> Iterator[_Layer]:
        while kind in _VLAN_TYPES:
            start, tag, outer, kind = self.at, self.be(2), kind, self.be(2)
            facts = [f"id {tag & 0xFFF}", f"priority {tag >> 13}", *(["drop eligible"] if tag >> 12 & 1 else []), _ethertype(kind)]
            yield start, self.depth, "802.1Q" if outer == 0x8100 else "802.1ad", facts
        yield from self.network(kind)

    # -- network -------------------------------------------------------------------------------------------------------

    def network(self, kind: int) -> Iterator[_Layer]:
        read = {0x0800: self.ipv4, 0x86DD: self.ipv6, 0x0806: self.arp}.get(kind)
        yield from read() if read else self.payload()

    def arp(self) -> Iterator[_Layer]:
        start = self.at
        hardware, protocol, hardware_size, protocol_size, operation = self.be(2), self.be(2), self.be(1), self.be(1), self.be(2)
        facts = [_ARP_OPERATIONS.get(operation, f"operation {operation}")]
        if (protocol, hardware_size, protocol_size) == (0x0800, 6, 4):
            facts += [f"sender {self.mac()} {self.ip(4)}", f"target {self.mac()} {self.ip(4)}"]
            self.limit(self.at)
        else:
            facts += [f"hardware {hardware} of {hardware_size} bytes", f"protocol 0x{protocol:04x} of {protocol_size} bytes"]
        yield start, self.depth, "ARP", facts

    def ipv4(self) -> Iterator[_Layer]:
        start = self.at
        first, tos, length, number, word, ttl, protocol, checksum = (self.be(size) for size in (1, 1, 2, 2, 2, 1, 1, 2))
        source, destination = self.ip(4), self.ip(4)
        size = (first & 15) * 4
        facts = [
            f"{source} > {destination}",
            _protocol(protocol),
            f"ttl {ttl}",
            f"length {length}{' (as much as there is)' if not length else ''}",
            f"id {number}",
        ]
        facts.append(f"flags {_bits(word >> 13, {4: 'reserved', 2: 'DF', 1: 'MF'})}")
        if word & 0x3FFF:
            facts.append(f"fragment at {(word & 0x1FFF) * 8}")
        facts += [_tos(tos), f"checksum 0x{checksum:04x}{self.class_of('ip_checksum_class')}"]
        if first >> 4 != 4 or size < 20:
            yield start, self.depth, "IPv4", [f"version {first >> 4}", f"header of {size} bytes", "malformed"]
            return
        if length:
            self.limit(start + length)
        if size > 20:
            facts.append(f"options {self.take(size - 20).hex()}")
        yield start, self.depth, "IPv4", facts
        yield from self.transport(protocol, 4) if not word & 0x1FFF else self.payload()

    def ipv6(self) -> Iterator[_Layer]:
        start = self.at
        word, length, protocol, hops = self.be(4), self.be(2), self.be(1), self.be(1)
        if word >> 28 != 6:
            yield start, self.depth, "IPv6", [f"version {word >> 28}", "malformed"]
            return
        facts = [f"{self.ip(16)} > {self.ip(16)}", _protocol(protocol), f"hop limit {hops}", f"payload length {length}"]
        yield start, self.depth, "IPv6", [*facts, _tos(word >> 20 & 0xFF), f"flow label 0x{word & 0xFFFFF:05x}"]
        if length:
            self.limit(start + 40 + length)
        later = False
        while protocol in _EXTENSIONS and not later:
            start, kind = self.at, protocol
            protocol, size = self.be(1), self.be(1)
            if kind == 44:
                place, number = self.be(2), self.be(4)
                facts = [f"at {place & 0xFFF8}", f"id {number}", "more follow" if place & 1 else "last"]
                later = bool(place & 0xFFF8)
            else:
                self.take((size + 2) * 4 - 2 if kind == 51 else (size + 1) * 8 - 2)
                facts = [f"{self.at - start} bytes"]
            yield start, self.depth, f"IPv6 {_EXTENSIONS[kind]}", [*facts, _protocol(protocol)]
        yield from self.payload() if later else self.transport(protocol, 6)

    # -- transport -----------------------------------------------------------------------------------------------------

    def transport(self, protocol: int, version: int) -> Iterator[_Layer]:
        if protocol == 17:
            yield from self.udp()
        elif protocol == 6:
            yield from self.tcp()
        elif (protocol, version) in ((1, 4), (58, 6)):
            yield from self.icmp(version)
        elif protocol == 50:
            start = self.at
            yield start, self.depth, "ESP", [f"spi 0x{self.be(4):08x}", f"sequence {self.be(4)}", f"{self.end - self.at} bytes encrypted"]
        elif protocol == 132:
            start = self.at
            yield start, self.depth, "SCTP", [f"{self.be(2)} > {self.be(2)}"]
        else:
            yield from self.payload()

    def udp(self) -> Iterator[_Layer]:
        start = self.at
        source, destination, length, checksum = self.be(2), self.be(2), self.be(2), self.be(2)
        facts = [f"{source} > {destination}", f"length {length}{' (as much as there is)' if not length else ''}"]
        yield start, self.depth, "UDP", [*facts, f"checksum 0x{checksum:04x}{self.class_of('checksum_class')}"]
        if 0 < length < 8:
            return
        if length:
            self.limit(start + length)
        if self.depth < self.row["depth"]:
            if destination in self.options.geneve_ports:
                yield from self.geneve()
            else:
                yield from self.vxlan(destination in self.options.gpe_ports, destination)
        else:
            yield from self.message()

    def tcp(self) -> Iterator[_Layer]:
        start = self.at
        source, destination, sequence, acknowledgment, word, window, checksum, urgent = (self.be(size) for size in (2, 2, 4, 4, 2, 2, 2, 2))
        size = (word >> 12) * 4
        flags = {1 << bit: name for bit, name in enumerate(_TCP_FLAGS)}
        facts = [f"{source} > {destination}", f"flags 0x{word & 0xFFF:03x}: {_bits(word & 0xFFF, flags)}", f"seq {sequence}", f"ack {acknowledgment}"]
        facts += [f"window {window}", f"checksum 0x{checksum:04x}{self.class_of('checksum_class')}", *([f"urgent {urgent}"] if urgent else [])]
        try:
            options = self.take(size - 20)
        except _Ends:
            yield start, self.depth, "TCP", [*facts, f"header of {size} bytes"]
            raise
        yield start, self.depth, "TCP", [*facts, *_tcp_options(options)]
        yield from self.message()

    def icmp(self, version: int) -> Iterator[_Layer]:
        start = self.at
        kind, code, checksum, rest = self.be(1), self.be(1), self.be(2), self.be(4)
        facts = [f"type {kind} code {code}: {icmp_words(version, kind, code)}"]
        if kind in ((0, 8) if version == 4 else (128, 129)):
            facts.append(f"id {rest >> 16}  seq {rest & 0xFFFF}")
        elif (version, kind, code) == (4, 3, 4):
            facts.append(f"mtu {rest & 0xFFFF}")
        elif (version, kind) == (6, 2):
            facts.append(f"mtu {rest}")
        elif rest:
            facts.append(f"rest 0x{rest:08x}")
        yield start, self.depth, "ICMP" if version == 4 else "ICMPv6", [*facts, f"checksum 0x{checksum:04x}{self.class_of('checksum_class')}"]
        if self.row["have"] & HAVE["quoted"] and self.depth == self.row["depth"]:
            yield from self.quoted(version)
        else:
            yield from self.payload()

    def quoted(self, version: int) -> Iterator[_Layer]:
        """Only the network header of what an ICMP error quotes, and the ports: the rest of it is often missing."""
        start = self.at
        if version == 4:
            first, _, length, number, word, ttl, protocol, _ = (self.be(size) for size in (1, 1, 2, 2, 2, 1, 1, 2))
            facts = [f"{self.ip(4)} > {self.ip(4)}", _protocol(protocol), f"ttl {ttl}", f"length {length}", f"id {number}"]
            self.take(max(0, (first & 15) * 4 - 20))
            ports = not word & 0x1FFF
        else:
            _, length, protocol, hops = self.be(4), self.be(2), self.be(1), self.be(1)
            facts = [f"{self.ip(16)} > {self.ip(16)}", _protocol(protocol), f"hop limit {hops}", f"payload length {length}"]
            ports = True
        if ports and protocol in (6, 17, 132) and self.at + 4 <= self.end:
            facts.append(f"ports {self.be(2)} > {self.be(2)}")
        yield start, self.depth, f"quoted IPv{version}", facts

    # -- tunnels -------------------------------------------------------------------------------------------------------

    def vxlan(self, gpe: bool, port: int) -> Iterator[_Layer]:
        start = self.at
        word, last = self.be(4), self.be(4)
        flags = word >> 24
        facts = [f"vni {last >> 8}", f"flags 0x{flags:02x}: {_bits(flags & 0xCF if gpe else flags, _GPE_FLAGS if gpe else _VXLAN_FLAGS)}"]
        if gpe:
            following = word & 0xFF
            facts += [
                f"version {flags >> 4 & 3}",
                f"next {following} {_GPE_NEXT.get(following, '')}".rstrip(),
                f"reserved 0x{word >> 8 & 0xFFFF:04x}",
            ]
        elif flags & 0x80:
            facts += [f"policy {word & 0xFFFF}", f"D {word >> 22 & 1}", f"A {word >> 19 & 1}", f"reserved 0x{word >> 16 & 0xB7:02x}"]
        else:
            facts.append(f"reserved 0x{word & 0xFFFFFF:06x}")
        facts.append(f"last byte 0x{last & 0xFF:02x}")
        if not flags & 8:
            facts.append("I flag clear: the VNI means nothing (RFC 7348 section 5)")
        if not gpe and port not in self.options.vxlan_ports:
            facts.append(f"guessed, port {port} is not known as VXLAN")
        yield start, self.depth, "VXLAN-GPE" if gpe else "VXLAN", facts
        self.depth += 1
        yield from self.gpe_payload(word & 0xFF) if gpe and flags & 4 else self.ethernet()

    def gpe_payload(self, protocol: int) -> Iterator[_Layer]:
        if protocol == 4:
            start = self.at
            word, service = self.be(4), self.be(4)
            self.take((word >> 16 & 0x3F) * 4 - 8)
            yield start, self.depth, "NSH", [f"path {service >> 8}", f"index {service & 0xFF}", f"next {word & 0xFF}", f"{self.at - start} bytes"]
            protocol = word & 0xFF
        if protocol == 3:
            yield from self.ethernet()
        else:
            yield from self.network({1: 0x0800, 2: 0x86DD}.get(protocol, 0))

    def geneve(self) -> Iterator[_Layer]:
        start = self.at
        word, last = self.be(4), self.be(4)
        size, protocol = (word >> 24 & 0x3F) * 4, word & 0xFFFF
        facts = [f"vni {last >> 8}", f"version {word >> 30}", f"flags {_bits(word >> 22 & 3, {2: 'O', 1: 'C'})}", _ethertype(protocol)]
        facts += [f"reserved 0x{word >> 16 & 0x3F:02x}", f"last byte 0x{last & 0xFF:02x}"]
        end = self.at + size
        if end > self.end:
            yield start, self.depth, "Geneve", [*facts, f"options of {size} bytes"]
            raise _Ends
        while self.at < end:
            family, kind, length = self.be(2), self.be(1), (self.be(1) & 0x1F) * 4
            if self.at + length > end:
                yield start, self.depth, "Geneve", [*facts, "an option longer than the header"]
                return
            facts += [
                "\n",
                f"option class 0x{family:04x}",
                f"type 0x{kind:02x}{' critical' if kind & 0x80 else ''}",
                self.take(length).hex() or "empty",
            ]
        yield start, self.depth, "Geneve", facts
        self.depth += 1
        yield from self.ethernet() if protocol == 0x6558 else self.network(protocol)

    # -- what is carried -------------------------------------------------------------------------------------------------

    def message(self) -> Iterator[_Layer]:
        """The DNS message that the walk found here, else just bytes."""
        start = int(self.row["dns_offset"])
        if self.depth == self.row["depth"] and self.row["have"] & HAVE["dns"] and self.at <= start < self.end:
            self.at = start
            self.end = min(self.end, start + int(self.row["dns_len"]))
            yield start, self.depth, "DNS", _dns_facts(dns.parse(self.data[start : self.end]))
        else:
            yield from self.payload()

    def payload(self) -> Iterator[_Layer]:
        if self.at < self.end:
            rest = self.data[self.at : self.end]
            yield self.at, self.depth, "payload", [f"{len(rest)} bytes", _some(rest)]

    def stop(self) -> _Layer:
        row = self.row
        why = STOPS[row["stop"]] if row["stop"] < len(STOPS) else f"reason {row['stop']}"
        layer = LAYERS[row["stop_layer"]] if row["stop_layer"] < len(LAYERS) else ""
        offset, wanted = int(row["stop_offset"]), int(row["stop_wanted"])
        facts = [f"{why}: {layer}".rstrip(": "), f"wants {wanted} bytes", f"{max(0, len(self.data) - offset)} are there"]
        return offset, min(int(row["stop_depth"]), 8), "stop", facts if why != "unsupported" else [f"unsupported link type {row['linktype']}"]


def _ethertype(kind: int) -> str:
    if kind < 0x0600:
        return f"length {kind}"
    return f"type 0x{kind:04x} {_ETHERTYPE_NAMES.get(kind, '')}".rstrip()


def _protocol(number: int) -> str:
    return f"protocol {number} {_PROTOCOL_NAMES.get(number, '')}".rstrip()


def _tos(tos: int) -> str:
    return f"tos 0x{tos:02x}" + (f" (DSCP {tos >> 2}, ECN {tos & 3})" if tos else "")


def _some(data: bytes) -> str:
    """The first bytes, in hex and, where they read like text, as text."""
    head = data[:16]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[:32])
    more = "..." if len(data) > 16 else ""
    return f'{head.hex()}{more}  "{text}"' if sum(character != "." for character in text) * 4 >= len(text) * 3 else f"{head.hex()}{more}"


def _tcp_options(options: bytes) -> Iterator[str]:
    at = 0
    while at < len(options) and options[at]:
        kind = options[at]
        if kind == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            yield f"options malformed at byte {at}"
            return
        data = options[at + 2 : at + size]
        at += size
        value = int.from_bytes(data, "big")
        if (kind, size) == (2, 4):
            yield f"mss {value}"
        elif (kind, size) == (3, 3):
            yield f"window scale {value}"
        elif (kind, size) == (4, 2):
            yield "sack permitted"
        elif (kind, size) == (8, 10):
            yield f"timestamp {value >> 32} echo {value & 0xFFFFFFFF}"
        elif kind == 5 and (size - 2) % 8 == 0:
            yield "sack " + " ".join(
                f"{int.from_bytes(data[i : i + 4], 'big')}-{int.from_bytes(data[i + 4 : i + 8], 'big')}" for i in range(0, len(data), 8)
            )
        else:
            yield f"option {kind} {data.hex()}".rstrip()


def _dns_facts(message: dns.Message) -> list[str]:
    flags = message.flags
    opcode, rcode = flags >> 11 & 15, flags & 15
    facts = [f"id {message.id}", "response" if flags >> 15 else "query", f"flags 0x{flags:04x}: {_bits(flags & 0x87F0, _DNS_FLAGS)}"]
    if opcode:
        facts.append(dns.OPCODES.get(opcode, f"opcode {opcode}"))
    if flags >> 15:
        facts.append(RCODE_WORDS.get(rcode, f"rcode {rcode}"))
    for question in message.questions:
        facts += ["\n", f"question  {question.name}  {question.type}"]
    for answer in message.answers:
        facts += ["\n", f"answer    {answer.name}  {answer.type}  ttl {answer.ttl}  {answer.data}"]
    if message.error:
        facts += ["\n", f"unreadable: {message.error}"]
    return facts
