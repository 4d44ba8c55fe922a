"""What tshark says of a capture, in the words of vxtool's columns.

Runs tshark where it is installed; else reads NAME.tshark.tsv (or NAME.tshark.nodefrag.tsv, made without defragmentation) beside the capture.
tshark prints one field for all headers of a kind, outermost first. `frame.protocols` tells which headers there are and in which order, so the i-th
value of a field belongs to the i-th header of its kind.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Said", "available", "said_of"]

Value = Any
"""int, str, bool, a list of str, or None."""


class Said(NamedTuple):
    """One line of tshark."""

    protocols: tuple[str, ...]
    fields: Mapping[str, list[str]]
    columns: dict[str, Value]  # those it can speak for; None where it saw nothing
    malformed: bool | None  # of a header that is ours; None: it had trouble with another one

    @property
    def is_custom_block(self) -> bool:
        """A line for a pcapng block that holds no frame."""
        return self.fields.get("_ws.col.Protocol") == ["PCAPNG"]


def _number(text: str) -> int:
    return int(text, 0)


def _true(text: str) -> bool:
    return text in ("1", "True")


def _mac(text: str) -> str:
    return text.lower()


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    value = int(seconds.lstrip("-") or "0") * 10**9 + int(fraction.ljust(9, "0"))  # a broken fraction can have more than nine digits
    return -value if seconds.startswith("-") else value


_Convert = Callable[[str], Value]

HEADERS: dict[str, dict[str, tuple[str, _Convert]]] = {
    "eth": {"eth_src": ("eth.src", _mac), "eth_dst": ("eth.dst", _mac)},
    "ip": {
        "ip_src": ("ip.src", str),
        "ip_dst": ("ip.dst", str),
        "proto": ("ip.proto", _number),
        "ttl": ("ip.ttl", _number),
        "tos": ("ip.dsfield", _number),
        "ip_id": ("ip.id", _number),
        "ip_len": ("ip.len", _number),
        "df": ("ip.flags.df", _true),
        "mf": ("ip.flags.mf", _true),
        "offset": ("ip.frag_offset", _number),
    },
    "ipv6": {
        "ip_src": ("ipv6.src", str),
        "ip_dst": ("ipv6.dst", str),
        "ttl": ("ipv6.hlim", _number),
        "tos": ("ipv6.tclass", _number),
        "ip_len": ("ipv6.plen", lambda text: _number(text) and _number(text) + 40),
        "proto": ("ipv6.nxt", _number),
    },
    "ipv6.hopopts": {"proto": ("ipv6.hopopts.nxt", _number)},
    "ipv6.routing": {"proto": ("ipv6.routing.nxt", _number)},
    "ipv6.dstopts": {"proto": ("ipv6.dstopts.nxt", _number)},
    "ipv6.fraghdr": {
        "proto": ("ipv6.fraghdr.nxt", _number),
        "mf": ("ipv6.fraghdr.more", _true),
        "offset": ("ipv6.fraghdr.offset", _number),
        "ip_id": ("ipv6.fraghdr.ident", _number),
    },
    "ah": {"proto": ("ah.next_header", _number)},
    "sll": {"eth_src": ("sll.src.eth", _mac)},
    "udp": {
        "sport": ("udp.srcport", _number),
        "dport": ("udp.dstport", _number),
        "udp_len": ("udp.length", _number),
        "checksum": ("udp.checksum", _number),
    },
    "tcp": {
        "sport": ("tcp.srcport", _number),
        "dport": ("tcp.dstport", _number),
        "checksum": ("tcp.checksum", _number),
        "tcp_flags": ("tcp.flags", _number),
        "tcp_seq": ("tcp.seq_raw", _number),
        "tcp_ack": ("tcp.ack_raw", _number),
        "tcp_window": ("tcp.window_size_value", _number),
    },
    "sctp": {"sport": ("sctp.srcport", _number), "dport": ("sctp.dstport", _number)},
    "icmp": {"icmp_type": ("icmp.type", _number), "icmp_code": ("icmp.code", _number), "checksum": ("icmp.checksum", _number)},
    "icmpv6": {"icmp_type": ("icmpv6.type", _number), "icmp_code": ("icmpv6.code", _number), "checksum": ("icmpv6.checksum", _number)},
    "arp": {
        "arp_op": ("arp.opcode", _number),
        "arp_spa": ("arp.src.proto_ipv4", str),
        "arp_tpa": ("arp.dst.proto_ipv4", str),
        "arp_sha": ("arp.src.hw_mac", _mac),
        "arp_tha": ("arp.dst.hw_mac", _mac),
    },
}
"""Per header: our column (without outer_ or inner_), the field and how to read it."""

ROW: dict[str, dict[str, tuple[str, _Convert]]] = {
    "frame": {
        "frame": ("frame.number", _number),
        "ts": ("frame.time_epoch", _nanoseconds),
        "wirelen": ("frame.len", _number),
        "caplen": ("frame.cap_len", _number),
    },
    "vxlan": {"vni": ("vxlan.vni", _number), "vxlan_last": ("vxlan.reserved8", _number), "gbp_policy": ("vxlan.gbp", _number)},
    "geneve": {
        "vni": ("geneve.vni", _number),
        "geneve_version": ("geneve.version", _number),
        "geneve_protocol": ("geneve.proto_type", _number),
        "geneve_critical": ("geneve.flags.critical", _true),
        "geneve_oam": ("geneve.flags.oam", _true),
    },
    "esp": {"esp_spi": ("esp.spi", _number), "esp_seq": ("esp.sequence", _number)},
    "dns": {
        "dns_id": ("dns.id", _number),
        "dns_qr": ("dns.flags.response", _true),
        "dns_flags": ("dns.flags", _number),
        "dns_qname": ("dns.qry.name", str),
        "dns_a": ("dns.a", str),
        "dns_aaaa": ("dns.aaaa", str),
    },
    "sll": {"sll_type": ("sll.pkttype", _number), "sll_ifindex": ("sll.ifindex", _number)},
}
"""The same for what is not part of a set of headers."""

OPTIONAL: dict[str, dict[str, tuple[str, _Convert]]] = {
    "icmp": {"icmp_id": ("icmp.ident", _number), "icmp_seq": ("icmp.seq", _number), "icmp_mtu": ("icmp.mtu", _number)},
    "icmpv6": {
        "icmp_id": ("icmpv6.echo.identifier", _number),
        "icmp_seq": ("icmpv6.echo.sequence_number", _number),
        "icmp_mtu": ("icmpv6.mtu", _number),
    },
    "tcp": {"tcp_mss": ("tcp.options.mss_val", _number)},
}
"""What not every header of the kind has: believed only where the frame has a single header of that kind."""

EXTRA = ("_ws.col.Protocol", "frame.protocols", "vlan.id", "ieee8021ad.id", "vxlan.flags", "vxlan.next_proto", "_ws.malformed", "_ws.short")
FIELDS = [name for table in (HEADERS, ROW, OPTIONAL) for columns in table.values() for name, _ in columns.values()] + list(EXTRA)
TAGS = {"vlan": "vlan.id", "ieee8021ad": "ieee8021ad.id"}
OPTIONS = ("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE")


def available() -> bool:
    return shutil.which("tshark") is not None


def said_of(path: Path) -> list[Said] | None:
    """tshark's lines for a capture; None where there is neither a tshark nor a file beside the capture."""
    if available():
        return [_read(line) for line in _run(path)]
    for ending in (".tshark.nodefrag.tsv", ".tshark.tsv"):
        beside = path.with_name(path.name + ending)
        if beside.is_file():
            with beside.open(newline="") as file:
                return [_read(line) for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return None


def _run(path: Path) -> Iterator[dict[str, str]]:
    command = ["tshark", "-n", "-r", str(path), "-d", "udp.port==8472,vxlan", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]
    command += [word for option in OPTIONS for word in ("-o", option)] + [word for name in FIELDS for word in ("-e", name)]
    # A damaged file ends with an error, after the lines of all frames before the damage.
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=600)
    for line in done.stdout.splitlines():
        yield dict(zip(FIELDS, line.split("\t"), strict=True))


def _read(line: Mapping[str, str]) -> Said:
    fields = {name: (text or "").split(",") if text else [] for name, text in line.items()}
    protocols = tuple((line["frame.protocols"] or "").split(":"))
    malformed = bool(fields.get("_ws.malformed")) if protocols[-1] in KNOWN else None
    return Said(protocols, fields, _Headers(fields, protocols).columns, malformed)


class _Headers:
    """One line, header by header."""

    def __init__(self, fields: Mapping[str, list[str]], protocols: tuple[str, ...]) -> None:
        self.fields = fields
        self.used: defaultdict[str, int] = defaultdict(int)  # headers of each kind passed
        self.sets: list[dict[str, Value]] = [{}]
        self.columns: dict[str, Value] = self.of_kind("frame", ROW)
        self.depth = 0
        self.protocols = protocols
        going_on = True
        for token in protocols:
            if not going_on or token not in KNOWN or (token in ("ip", "ipv6") and "ip_src" in self.sets[-1]):
                # What is quoted in an ICMP error, carried by a tunnel that we do not know, or by TCP or UDP.
                going_on = False
                self.used[token] += 1
            elif token in TAGS:
                self.tag(token)
            elif token in ("vxlan", "geneve"):
                going_on = self.tunnel(token)
            elif token in ROW:
                self.columns.update(self.of_kind(token, ROW))
                if token == "dns":
                    self.columns["dns_addresses"] = sorted([*fields.get("dns.a", []), *fields.get("dns.aaaa", [])])
                going_on = token == "sll"
                if token == "sll":
                    self.used[token] -= 1
                    self.header(token)
            else:
                here = self.header(token)
                if token == "udp" and here.get("dport") == 4790:  # tshark has no name for GPE
                    self.tunnel("vxlan")
                going_on = token not in ("icmp", "icmpv6", "arp")
        self.finish()

    def of_kind(self, token: str, table: Mapping[str, Mapping[str, tuple[str, _Convert]]]) -> dict[str, Value]:
        """The columns of the next header of a kind; a header that is cut has fewer."""
        position = self.used[token]
        self.used[token] += 1
        found: dict[str, Value] = {}
        for column, (name, convert) in table.get(token, {}).items():
            texts = self.fields.get(name, [])
            if position < len(texts) and texts[position] != "":
                found[column] = convert(texts[position])
        return found

    def header(self, token: str) -> dict[str, Value]:
        here = self.of_kind(token, HEADERS)
        if token == "ip":
            here["ip_version"] = 4
        elif token == "ipv6":
            here["ip_version"] = 6
        if isinstance(here.get("offset"), int):
            here["offset"] = here["offset"] * 8  # both are told in units of eight bytes
        if self.protocols.count(token) == 1:
            for column, (name, convert) in OPTIONAL.get(token, {}).items():
                if self.fields.get(name):
                    here[column] = convert(self.fields[name][0])
        self.sets[-1].update(here)
        return here

    def tag(self, token: str) -> None:
        position = self.used[token]
        self.used[token] += 1
        texts = self.fields.get(TAGS[token], [])
        here = self.sets[-1]
        tags = int(here.get("vlan_tags") or 0) + 1
        here["vlan_tags"] = tags
        if tags <= 2 and position < len(texts):
            here["vlan" if tags == 1 else "vlan2"] = int(texts[position])

    def tunnel(self, token: str) -> bool:
        """Whether there is such a header: tshark names it also where nothing of it is left."""
        found = self.of_kind(token, ROW)
        if "vxlan_last" not in found and "geneve_version" not in found and ("vni" not in found or token == "vxlan"):
            return False
        if self.depth == 0:
            self.columns.update(found)
            flags = self.fields.get("vxlan.flags", [])
            if token == "vxlan" and flags:
                gpe = len(flags[0]) == len("0x0c")
                self.columns["vxlan_flags"] = _number(flags[0]) >> (0 if gpe else 8)
                if gpe:
                    self.columns["gpe_next"] = _number(self.fields["vxlan.next_proto"][0])
                elif not self.columns["vxlan_flags"] & 0x80:
                    self.columns.pop("gbp_policy", None)  # shown also where the G bit is not set
        self.columns["inner_vni"] = found.get("vni")
        self.depth += 1
        self.sets.append({})
        return True

    def finish(self) -> None:
        """Sets become outer_ and inner_ columns, and every column that the fields can speak for is there."""
        columns = self.columns
        for name in ("dns_a", "dns_aaaa"):
            columns.pop(name, None)
        for headers in self.sets:
            offset, more = headers.pop("offset", None), headers.pop("mf", None)
            if offset or more:
                headers.update(frag="later" if offset else "first", frag_offset=offset, frag_more=more)
        columns["depth"] = self.depth
        for prefix, headers in (("outer", self.sets[0]), ("inner", self.sets[-1])):
            columns.update({f"{prefix}_{name}": value for name, value in headers.items() if prefix == "inner" or name not in ONLY_INNER})
        for name in self.known():
            columns.setdefault(name, None)

    def known(self) -> set[str]:
        """Columns in which "nothing" means that tshark saw nothing: all fields that could fill them were asked for."""
        names = {"depth", "outer_ip_version", "inner_ip_version"}
        if "ipv6.fraghdr.offset" in self.fields:
            names |= {"outer_frag", "inner_frag"}
        unasked = set()
        for table, prefixes in ((HEADERS, ("outer_", "inner_")), (OPTIONAL, ("outer_", "inner_")), (ROW, ("",))):
            for columns in table.values():
                for column, (field, _) in columns.items():
                    if column not in HELPERS:
                        of_column = {f"{prefix}{column}" for prefix in prefixes if column not in ONLY_INNER or prefix != "outer_"}
                        names |= of_column
                        unasked |= of_column if field not in self.fields else set()
        return names - unasked


KNOWN = {*HEADERS, *ROW, *TAGS, "ethertype", "null", "raw", "nsh", "shim6", "mipv6"}
ONLY_INNER = {name for table in (HEADERS, OPTIONAL) for columns in table.values() for name in columns if name.startswith(("tcp_", "icmp_", "arp_"))}
HELPERS = {"mf", "offset", "dns_a", "dns_aaaa"}
"""What only serves to find out something else."""
