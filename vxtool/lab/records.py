"""The state of a kernel's network as records, read from what `ip`, `bridge`, `iptables-save`, `nft`, `ipvsadm` and `ss` print.

Knows those programs' words, and nothing of overlays: text in, records out. A record is a kind (`link`, `route`, ..), what it is about, and fields,
all text. Three layouts are understood, alone or mixed: `=== NODE SANDBOX` headers (what `vxtool lab dump` writes), a transcript with `$ nsenter
--net=FILE COMMAND` lines, and the bare output of the commands, which is then the node's own namespace.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface

__all__ = ["Fields", "Key", "Sandbox", "read"]

Key = tuple[str, str]
"""Kind and what: ("link", "br0"), ("neighbour", "vxlan0 10.0.1.4")."""

Fields = dict[str, str]

DETAILS = frozenset({"vxlan", "bridge", "bridge_slave", "veth", "tun", "dummy", "vlan", "macvlan", "ipvlan", "bond", "vrf", "geneve"})
"""First words of the lines that `ip -d link` adds for a kind of device."""

COMMON = re.compile(r"addrgenmode|num[tr]xqueues|(gso|tso|gro)_\w+")
"""What every link has, told on the same line as what its kind has."""

FLAGS = frozenset(
    re.findall(
        r"\w+",
        """
        proxy nolearning learning rsc norsc l2miss l3miss udpcsum noudpcsum udp6zerocsumtx noudp6zerocsumtx udp6zerocsumrx
        noudp6zerocsumrx external gbp gpe remcsumtx remcsumrx localbypass nolocalbypass vnifilter linkdown onlink pervasive offload
        secondary dynamic noprefixroute deprecated tentative mngtmpaddr permanent static self extern_learn sticky
        """,
    )
)
"""Words that stand alone; any other word is followed by its value."""

TWO_VALUES = frozenset({"srcport"})

LEARNED_NEIGHBOURS = "neighbours learned from traffic"
LEARNED_FDB = "forwarding entries learned from traffic"

_LINK = re.compile(r"(?P<index>\d+): (?P<name>[^\s:@]+)(?:@(?P<peer>\S+))?: <(?P<flags>[^>]*)> (?P<rest>.*)")
_NEIGHBOUR = re.compile(
    r"(?P<address>[0-9a-f.:]+) dev (?P<dev>\S+)(?: lladdr (?P<mac>\S+))?(?P<flags>(?: \w+)*?) (?P<state>[A-Z]+)\s*"
)  # the state is the last word, and in capitals
_FDB = re.compile(r"(?P<mac>(?:[0-9a-f]{2}:){5}[0-9a-f]{2}) dev (?P<dev>\S+)(?P<rest>.*)")
_ROUTE_KINDS = "unicast|local|broadcast|multicast|blackhole|unreachable|prohibit|throw"
_ROUTE = re.compile(rf"(?P<kind>(?:{_ROUTE_KINDS}) )?(?P<to>default|[0-9a-f.:]+(?:/\d+)?) (?P<rest>(?:via|dev|proto|table) .*)")
_RULE = re.compile(r"(?P<place>\d+):\s+(?P<rule>(?:not )?from .*)")
_SOCKET = re.compile(
    r"(?P<proto>udp|tcp|sctp|raw|icmp6?)\s+(?P<state>[A-Z-]+)\s+\d+\s+(?P<queue>\d+)\s+(?P<local>\S+):(?P<port>\S+)\s+(?P<peer>\S+)(?P<rest>.*)"
)
_PROCESS = re.compile(r'users:\(\("(?P<name>[^"]*)"')
_SYSCTL = re.compile(r"(?P<key>(?:net|kernel|fs|vm)(?:\.[\w/-]+)+) = (?P<value>.*)")
_QDISC = re.compile(r"qdisc (?P<kind>\S+) (?P<handle>\S+) (?:dev (?P<dev>\S+) )?(?P<rest>.*)")
_IPVS = re.compile(r"(?P<proto>TCP|UDP|SCTP|FWM)\s+(?P<service>\S+) (?P<scheduler>\w+)(?P<flags>.*)")
_IPVS_REAL = re.compile(r"  -> (?P<address>\d\S*)\s+(?P<forward>\w+)\s+(?P<weight>\d+)\s+\d+\s+\d+\s*")
_XFRM = re.compile(r"src (?P<source>\S+) dst (?P<destination>\S+) ?(?P<rest>.*)")
_NFT_TABLE = re.compile(r"table (?P<family>\w+) (?P<name>\S+) \{")
_COUNTER = re.compile(r" ?counter packets \d+ bytes \d+")
_HEADER = re.compile(r"=== (?P<node>\S+)(?: (?P<name>\S+))?\s*")
_TRANSCRIPT = re.compile(r"\$ (?:nsenter --net=(?P<file>\S+) )?")


@dataclass(slots=True)
class Sandbox:
    """One network namespace. `name` is its file's (`1-jnz278zgn1`, `lb_jnz278zgn`), of the node's own the node's, "" when that is not told."""

    node: str
    name: str
    records: dict[Key, Fields] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)  # what is no state but its trace: entries learned from traffic

    def of(self, kind: str) -> Iterator[tuple[str, Fields]]:
        """What the records of one kind are about, and their fields."""
        return ((what, fields) for (known, what), fields in self.records.items() if known == kind)

    def put(self, kind: str, what: str, fields: Fields) -> Fields:
        """A record that is told twice (`ip -d link`, `ip addr`) is one; what was told first stays."""
        record = self.records.setdefault((kind, what), {})
        for name, value in fields.items():
            record.setdefault(name, value)
        return record

    def put_numbered(self, kind: str, what: str, fields: Fields) -> Fields:
        """For what may be there more than once with other keys: the second is `what #2`."""
        number = 1
        while (kind, what if number == 1 else f"{what} #{number}") in self.records:
            number += 1
        return self.put(kind, what if number == 1 else f"{what} #{number}", fields)


def read(text: str, node: str = "") -> list[Sandbox]:
    """Every namespace in the text, in its order. Lines that are no state (warnings, headings) are passed over."""
    reader = _Reader(node)
    for line in text.splitlines():
        reader.line(line)
    return [sandbox for sandbox in reader.sandboxes.values() if sandbox.records]


class _Reader:
    """Line after line; what a line without its own meaning belongs to is told by the lines before it."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.sandboxes: dict[tuple[str, str], Sandbox] = {}
        self.enter(node, node)

    def enter(self, node: str, name: str) -> None:
        self.node = node
        self.sandbox = self.sandboxes.setdefault((node, name), Sandbox(node, name))
        self.link: str | None = None
        self.table: str | None = None  # of iptables
        self.service: str | None = None  # of IPVS
        self.xfrm: Fields | None = None
        self.nft: list[str] = []  # open braces
        self.saved: set[str] = set()  # tables that iptables-save has told: what nft shows of them is the same in other words

    def line(self, line: str) -> None:
        if match := _HEADER.fullmatch(line):
            self.enter(match["node"], match["name"] or match["node"])
        elif match := _TRANSCRIPT.match(line):
            self.enter(self.node, match["file"].rsplit("/", 1)[-1] if match["file"] else self.node)
        elif self.nft:
            self.in_nft(line)
        elif self.table is not None:
            self.in_iptables(line)
        elif line[:1].isspace():
            self.continued(line)
        else:
            self.fresh(line)

    def fresh(self, line: str) -> None:
        """A line that begins a record."""
        self.link = self.xfrm = None
        if match := _LINK.fullmatch(line):
            self.link = match["name"]
            told = self.sandbox.put("link", self.link, {"index": match["index"], "peer": match["peer"] or ""})
            flags = ",".join(sorted(match["flags"].split(",")))
            for name, value in (("flags", flags), *_pairs(match["rest"].split())):
                told.setdefault(name, value)
            told.setdefault("qlen", "0")  # `ip` says nothing of a queue of length 0
        elif (match := _NEIGHBOUR.fullmatch(line)) and _is(ip_address, match["address"]):
            if match["state"] == "PERMANENT":
                self.sandbox.put("neighbour", f"{match['dev']} {match['address']}", {"lladdr": match["mac"] or ""})
            else:
                self.sandbox.passed_over[LEARNED_NEIGHBOURS] += 1
        elif match := _FDB.fullmatch(line):
            self.fdb(match["mac"], match["dev"], dict(_pairs(match["rest"].split())))
        elif match := _RULE.fullmatch(line):
            self.sandbox.put("rule", f"{match['place']} {match['rule'].strip()}", {})
        elif match := _ROUTE.fullmatch(line):
            fields = dict(_pairs(match["rest"].split()))
            fields.pop("linkdown", None)  # follows from the link's own state
            self.sandbox.put_numbered("route", (match["kind"] or "") + match["to"], fields)
        elif match := _SOCKET.fullmatch(line):
            self.socket(match)
        elif match := _SYSCTL.fullmatch(line):
            self.sandbox.put("sysctl", match["key"], {"value": match["value"]})
        elif match := _QDISC.fullmatch(line):
            options = re.sub(r" ?refcnt \d+", "", match["rest"]).strip()
            self.sandbox.put_numbered("qdisc", f"{match['dev'] or '?'} {match['kind']}", {"options": options})
        elif match := _IPVS.fullmatch(line):
            self.service = f"{match['proto']} {match['service']}"
            self.sandbox.put("ipvs", self.service, {"scheduler": match["scheduler"], "flags": match["flags"].strip()})
        elif match := _XFRM.fullmatch(line):
            kind = "xfrm policy" if match["rest"] or "/" in match["source"] else "xfrm state"
            self.xfrm = self.sandbox.put_numbered(kind, f"{match['source']} > {match['destination']}", dict(_pairs(match["rest"].split())))
        elif match := _NFT_TABLE.fullmatch(line):
            self.nft = [f"{match['family']} {match['name']}"]
        elif line.startswith("*"):
            self.table = line[1:].strip()
            self.saved.add(f"ip {self.table}")

    def continued(self, line: str) -> None:
        """A line that begins with a space tells more of the record before it."""
        words = line.split()
        if not words:
            return
        if self.link is not None:
            self.more_of_link(self.link, words)
        elif self.xfrm is not None:
            self.more_of_xfrm(self.xfrm, words)
        elif (match := _IPVS_REAL.fullmatch(line)) and self.service is not None:
            self.sandbox.put("ipvs real", f"{self.service} > {match['address']}", {"forward": match["forward"], "weight": match["weight"]})

    def more_of_link(self, link: str, words: Sequence[str]) -> None:
        if len(words) == 1 and words[0] not in DETAILS:
            return  # a line that was cut off
        if words[0] in ("inet", "inet6"):
            if not _is(ip_interface, words[1]):
                return
            told, label = (words[2:-1], {"label": words[-1]}) if words[0] == "inet" else (words[2:], {})
            self.sandbox.put("address", f"{link} {words[1]}", dict(_pairs(told)) | label)
        elif words[0].startswith("link/"):
            fields = self.sandbox.put("link", link, {"type": words[0], "address": words[1]})
            for name, value in _pairs(words[2:]):
                fields.setdefault(name, value)
        elif words[0] in DETAILS:
            fields = self.sandbox.put("link", link, {})
            if words[0] != "bridge_slave":
                fields.setdefault("kind", words[0])
            for name, value in _pairs(words[1:]):
                fields.setdefault(name if COMMON.fullmatch(name) else f"{words[0]}.{name}", value)

    def more_of_xfrm(self, fields: Fields, words: Sequence[str]) -> None:
        if words[0] in ("aead", "auth-trunc", "auth", "enc"):
            fields[words[0]] = " ".join(word for word in words[1:] if not word.startswith("0x"))  # never the key
        elif words[0] not in ("anti-replay", "tmpl", "sel"):
            fields.update(_pairs(words))

    def fdb(self, mac: str, dev: str, fields: Fields) -> None:
        if not fields.keys() & {"permanent", "static"}:
            self.sandbox.passed_over[LEARNED_FDB] += 1
            return
        if not _is(ip_address, fields.get("dst", "0.0.0.0")):
            return
        for netns in ("link-netnsid", "link-netns"):
            fields.pop(netns, None)
        self.sandbox.put("fdb", f"{dev} {mac} {'self' if 'self' in fields else 'master'}", fields)

    def socket(self, match: re.Match[str]) -> None:
        process = _PROCESS.search(match["rest"])
        fields = {"state": match["state"], "process": process["name"] if process else "the kernel"}
        if match["state"] == "LISTEN":
            fields["backlog"] = match["queue"]
        self.sandbox.put_numbered("socket", f"{match['proto']} {match['local']}:{match['port']}", fields)

    def in_iptables(self, line: str) -> None:
        if line.startswith("COMMIT"):
            self.table = None
        elif line.startswith(":"):
            chain, policy, *_ = [*line[1:].split(), "-", "-"]
            if policy != "-":
                self.sandbox.put("iptables", f"{self.table} {chain}", {"policy": policy})
        elif line.startswith("-A "):
            self.sandbox.put_numbered("iptables", f"{self.table} {line}", {})

    def in_nft(self, line: str) -> None:
        words = line.strip()
        if words == "}":
            self.nft.pop()
        elif words.endswith("{"):
            self.nft.append(words[:-1].strip())
        elif words and self.nft[0] not in self.saved:
            for statement in words.split("; ") if words.startswith("type ") else [words]:
                rule = _COUNTER.sub("", statement.rstrip(";")).strip()
                self.sandbox.put_numbered("nft", f"{' '.join(self.nft)}: {rule}", {})


def _is(kind: Callable[[str], object], text: str) -> bool:
    """Whether it is an address: text comes from strangers, and may be cut off anywhere."""
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`mtu 1450 proxy learning off srcport 0 0` -> ("mtu", "1450"), ("proxy", "on"), ("learning", "off"), ("srcport", "0 0")."""
    place = 0
    while place < len(words):
        word = words[place]
        values = 2 if word in TWO_VALUES else 1
        if word in FLAGS and words[place + 1 : place + 2] not in (["on"], ["off"]):
            values = 0
        yield word, " ".join(words[place + 1 : place + 1 + values]) if values else "on"
        place += 1 + values
