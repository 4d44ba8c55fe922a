"""Two nodes set side by side, field by field: a lab's and a real Docker engine's.

Knows what may differ between two machines that are the same (numbers and names that a kernel or an engine draws), which sandbox is which by what it
is for, and which differences have a reason that is no fault. Text is read by records.py; here everything is pure.

Sandboxes are matched by role: overlays by VNI, containers by their addresses, then by their networks. Where the addresses of the two clusters differ,
those there are read as those here (`Comparison.read_as` tells which); every other word must be equal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vxtool.lab.records import Fields, Key, Sandbox
from vxtool.lab.rules import meaning
from vxtool.model.addresses import mac_from_ipv4

__all__ = ["EXPLAINED", "IGNORED", "Comparison", "Difference", "Explanation", "Verdict", "compare"]


class Verdict(StrEnum):
    DIFFERS = "differs"
    ONLY_HERE = "only here"
    ONLY_THERE = "only there"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not the same, or a whole record or sandbox that only one side has (`field` "")."""

    sandbox: str  # its role: "overlay 10.0.1.0/24", "container 10.0.1.3", "node"
    record: str  # "link br0"; of a whole sandbox ""
    field: str
    verdict: Verdict
    here: str = ""
    there: str = ""
    reason: str | None = None  # why this is no fault; None: unexplained

    def __str__(self) -> str:
        what = " ".join(word for word in (self.record, self.field) if word) or "the sandbox"
        values = f": {self.here or '-'} here, {self.there or '-'} there" if self.verdict is Verdict.DIFFERS else f": {self.verdict}"
        extra = f" ({self.here or self.there})" if self.verdict is not Verdict.DIFFERS and (self.here or self.there) else ""
        return f"{self.sandbox}: {what}{values}{extra}"


@dataclass(frozen=True, slots=True)
class Comparison:
    here: str
    there: str
    sandboxes: int  # that both have
    same: int  # fields
    differences: tuple[Difference, ...]
    read_as: Mapping[str, str]  # addresses there -> addresses here
    ignored: Mapping[str, int]  # why -> how many fields and records were not compared, of both sides together

    @property
    def unexplained(self) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.reason is None)

    @property
    def explained(self) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.reason is not None)


# --------------------------------------------------------------------------------------------------------------------
# What is not compared, and what may differ
# --------------------------------------------------------------------------------------------------------------------

NUMBERS = "interface and namespace numbers, which the kernel counts up"
TIMERS = "timers"
FROM_MACS = "bridge numbers, which follow from MAC addresses that the kernel drew"
ORDER = "a bridge port's number, which is the order of joining"
GROUPS = "multicast groups of IPv6 addresses that the kernel drew"
DRAWN = "security parameter indexes, which the engine draws"
COUNTERS = "numbers of connections"
NOT_TOLD = "kinds of state that one side does not tell"
OTHERS = "what belongs to networks that are not compared"

IGNORED: Mapping[str, str] = {
    "index": NUMBERS,
    "peer": NUMBERS,
    "link-netnsid": NUMBERS,
    "link-netns": NUMBERS,
    "bridge.hello_timer": TIMERS,
    "bridge.tcn_timer": TIMERS,
    "bridge.topology_change_timer": TIMERS,
    "bridge.gc_timer": TIMERS,
    "bridge_slave.hold_timer": TIMERS,
    "bridge_slave.message_age_timer": TIMERS,
    "bridge_slave.forward_delay_timer": TIMERS,
    "bridge.bridge_id": FROM_MACS,
    "bridge.designated_root": FROM_MACS,
    "bridge_slave.designated_bridge": FROM_MACS,
    "bridge_slave.designated_root": FROM_MACS,
    "bridge_slave.designated_port": ORDER,
    "bridge_slave.port_id": ORDER,
    "bridge_slave.port_no": ORDER,
    "spi": DRAWN,
    "tentative": TIMERS,
    "net.netfilter.nf_conntrack_count": COUNTERS,
}

ALWAYS = frozenset({"rule", "fdb", "sysctl", "qdisc"})
"""Kinds of which every namespace has some, where they are told at all. Of other kinds a namespace may have none: the whole dump shows whether they
are told."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A kind of difference that is no fault. `what` is searched in "SANDBOX | RECORD | FIELD", `here` and `there` must match whole values."""

    reason: str
    what: str
    verdicts: frozenset[Verdict] = frozenset(Verdict)
    here: str = ".*"
    there: str = ".*"

    def holds(self, difference: Difference) -> bool:
        return (
            difference.verdict in self.verdicts
            and re.search(self.what, f"{difference.sandbox} | {difference.record} | {difference.field}") is not None
            and re.fullmatch(self.here, difference.here, re.DOTALL) is not None
            and re.fullmatch(self.there, difference.there, re.DOTALL) is not None
        )


_THERE = frozenset({Verdict.ONLY_THERE})
_ONE = frozenset({Verdict.ONLY_HERE, Verdict.ONLY_THERE})
_ENGINE = r"|.*process (dockerd|containerd).*"

EXPLAINED: tuple[Explanation, ...] = (
    Explanation("the number of queues of a device follows the machine's processors", r"\| link .*\| num[tr]xqueues$"),
    Explanation("how large an offloaded segment may be is the kernel's to say", r"\| link .*\| (gso|tso|gro)_\w+$"),
    Explanation(
        "only a kernel with CONFIG_BRIDGE_VLAN_FILTERING tells of a bridge's VLANs", r"\| link .*\| bridge\.vlan_(protocol|default_pvid|stats\w*)$"
    ),
    Explanation(
        "a newer kernel or ip(8) tells more of a device",
        r"\| link .*\| (allmulti|vxlan\.\w*localbypass|"
        r"bridge(_slave)?\.(mcast_(n|max)_groups|fdb_\w+|mab|no_linklocal_learn|locked|mcast_vlan\w*))$",
        _ONE,
    ),
    Explanation(
        "the container's end is not up there: the driver was run alone, without containers",
        r"^overlay .*\| link veth .*\| (flags|state|bridge_slave\.state)$",
        there=r".*NO-CARRIER.*|LOWERLAYERDOWN|disabled",
    ),
    Explanation("load balancers belong to services, which this lab does not run", r"load balancer", _THERE),
    Explanation(
        "the routing mesh belongs to services, which this lab does not run", r"ingress sandbox|^node \| .*(DOCKER-INGRESS|dport 80\b)", _THERE
    ),
    Explanation(
        "the routing mesh belongs to services, which this lab does not run",
        r"^node \| filter rule nat postrouting: oif docker_gwbridge, saddr local: masquerade",
        _THERE,
    ),
    Explanation(
        "ports are published by services, which this lab does not run",
        r"^container .*\| filter rule (filter (input|output): .*proto|nat prerouting: .*: redirect)",
        _THERE,
    ),
    Explanation("docker0 is the bridge of containers outside of swarm networks", r"^node \| .*(docker0|172\.17\.)", _THERE),
    Explanation("the engine's own sockets; a lab has no engine", r"\| socket .*\| $", _ONE, _ENGINE, _ENGINE),
    Explanation(
        "a sandbox inherits forwarding from the machine, where an engine has switched it on; one that runs in a namespace cannot do that",
        r"^overlay .*\| sysctl net\.ipv4\.ip_forward \| value$",
        here="1",
        there="0",
    ),
    Explanation(
        "engines from 20.10 on let unprivileged programs have low ports and ping; a lab does when the first program is started there",
        r"^container .*\| sysctl net\.ipv4\.(ip_unprivileged_port_start|ping_group_range) \| value$",
    ),
    Explanation("what a container's own programs listen to", r"^container .*\| socket .*\| $", _ONE),
    Explanation(
        "the embedded resolver's rules, with its random ports; a lab without a swarm has no resolver",
        r"^container .*\| filter rule .*(DOCKER_OUTPUT|DOCKER_POSTROUTING)",
        _ONE,
    ),
    Explanation(
        "IPv6 is off in a lab, because its multicast on large bridges eats a processor",
        r"^node \| (address \S.* (fe80:|::1)|fdb .*33:33|sysctl net\.ipv6)",
    ),
    Explanation(
        "an engine that switches forwarding on drops what it does not know, and accepts the bridge's own; a lab's node has nothing else to forward",
        r"^node \| filter (policy filter forward|"
        r"rule filter forward: (iif docker_gwbridge, oif != docker_gwbridge|oif docker_gwbridge, state \S+): accept)",
        _THERE,
    ),
    Explanation(
        "chains for published ports, for users' own rules and between Docker's bridges: a lab has none of them",
        r"^node \| filter rule .*DOCKER",
        _THERE,
    ),
    Explanation("whoever made that machine gave its address no broadcast address, or one by hand", r"^node \| address eth\d+ .*\| brd$", _ONE),
    Explanation("that machine's own way out, which the lab's underlay has not got", r"^node \| route default \| $", _THERE),
)


# --------------------------------------------------------------------------------------------------------------------
# The comparison
# --------------------------------------------------------------------------------------------------------------------


def compare(
    here: Sequence[Sandbox],
    there: Sequence[Sandbox],
    *,
    networks: Iterable[str] = (),
    others_here: Sequence[Sandbox] = (),
    others_there: Sequence[Sandbox] = (),
    exact: bool = False,
    explained: Sequence[Explanation] = EXPLAINED,
) -> Comparison:
    """Sets all namespaces of two nodes side by side.

    `networks` (VNIs or subnets) limits it to these; the node's own namespace is compared when both sides tell of it. `others_here` and `others_there`
    are sandboxes of further nodes: they tell which remote peers are load balancers. `exact`: addresses are not read as others.
    """
    ours, theirs = _Node(here), _Node(there)
    balancers_here = ours.balancers() | _Node(others_here).balancers()
    balancers_there = theirs.balancers() | _Node(others_there).balancers()
    pairs = [pair for pair in _pairs(ours, theirs, exact) if (pair.here and pair.there) or (_tells(ours, pair) and _tells(theirs, pair))]
    compared = [pair for pair in pairs if _wanted(pair, pairs, frozenset(networks))]
    unwanted = {pair.label for pair in pairs} - {pair.label for pair in compared}
    reading = _Reading(_net_mapping(pair for pair in compared if pair.label.startswith("overlay ")))
    if not exact:
        _learn(reading, ours, theirs, compared, balancers_here, balancers_there)
    numbers = frozenset(vni for pair in compared for side in (pair.here, pair.there) if side is not None for vni in vnis(side)) if networks else None
    sides = (
        _Side(ours, {id(pair.here): pair.label for pair in pairs}, lambda text: text, balancers_here, unwanted, numbers),
        _Side(theirs, {id(pair.there): pair.label for pair in pairs}, reading, balancers_there, unwanted, numbers),
    )
    told = frozenset.intersection(*(frozenset(kind for sandbox in side for kind in _kinds(sandbox)) for side in (here, there)))
    ignored: Counter[str] = Counter()
    differences: list[Difference] = []
    same = 0
    for pair in compared:
        if pair.here is None or pair.there is None:
            differences.append(Difference(pair.label, "", "", Verdict.ONLY_THERE if pair.here is None else Verdict.ONLY_HERE))
            continue
        left, right = sides[0].canonical(pair.here, ignored), sides[1].canonical(pair.there, ignored)
        both = told - ALWAYS | ALWAYS & _kinds(pair.here) & _kinds(pair.there)
        for key in sorted(left.keys() | right.keys()):
            alone = key not in left or key not in right
            if not {key[0], *_FILTERS.get(key[0], ())} & both or (alone and key[0] == "sysctl"):
                ignored[NOT_TOLD] += 1
                continue
            found, equal = _fields(pair.label, key, left.get(key), right.get(key))
            differences += found
            same += equal
    judged = tuple(replace(difference, reason=_reason(difference, explained)) for difference in differences)
    matched = sum(pair.here is not None and pair.there is not None for pair in compared)
    read_as = {one: other for one, other in reading.addresses.items() if one != other}
    return Comparison(ours.name, theirs.name, matched, same, judged, read_as, dict(ignored))


_FILTERS = {"filter rule": ("rules",), "filter policy": ("rules",)}


def _kinds(sandbox: Sandbox) -> frozenset[str]:
    """The kinds of state that it tells; a filter's rules are one kind, whoever wrote them."""
    return frozenset("rules" if kind in ("iptables", "nft") else kind for kind, _ in sandbox.records)


def _fields(sandbox: str, key: Key, here: Fields | None, there: Fields | None) -> tuple[list[Difference], int]:
    record = " ".join(key)
    if here is None or there is None:
        only, told = (Verdict.ONLY_THERE, there) if here is None else (Verdict.ONLY_HERE, here)
        text = ", ".join(f"{name} {value}" for name, value in (told or {}).items())
        return [Difference(sandbox, record, "", only, *(("", text) if here is None else (text, "")))], 0
    differences = []
    for name in sorted(here.keys() | there.keys()):
        left, right = here.get(name), there.get(name)
        if left != right:
            verdict = Verdict.ONLY_THERE if left is None else Verdict.ONLY_HERE if right is None else Verdict.DIFFERS
            differences.append(Difference(sandbox, record, name, verdict, left or "", right or ""))
    # A record without fields (a rule of policy routing, a filter rule) counts as one that is the same.
    return differences, max(1, len(here.keys() | there.keys())) - len(differences)


def _reason(difference: Difference, explained: Sequence[Explanation]) -> str | None:
    return next((explanation.reason for explanation in explained if explanation.holds(difference)), None)


# --------------------------------------------------------------------------------------------------------------------
# Which sandbox is which
# --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """The namespaces of one node, by role."""

    sandboxes: Sequence[Sandbox]
    own: Sandbox | None = None
    overlays: list[Sandbox] = field(default_factory=list)
    load_balancers: list[Sandbox] = field(default_factory=list)
    ingress: Sandbox | None = None
    containers: list[Sandbox] = field(default_factory=list)

    def __post_init__(self) -> None:
        for sandbox in self.sandboxes:
            if sandbox.name == sandbox.node:
                self.own = sandbox
            elif vnis(sandbox):
                self.overlays.append(sandbox)
            elif sandbox.name == "ingress_sbox":
                self.ingress = sandbox
            elif sandbox.name.startswith("lb_"):
                self.load_balancers.append(sandbox)
            else:
                self.containers.append(sandbox)

    @property
    def name(self) -> str:
        return next((sandbox.node for sandbox in self.sandboxes if sandbox.node), "")

    def prefixes(self) -> list[IPv4Network]:
        """The subnets of its overlays."""
        return [address.network for sandbox in self.overlays for address in addresses(sandbox)]

    def balancers(self) -> frozenset[IPv4Address]:
        """The addresses of its load balancers."""
        found = self.load_balancers + ([self.ingress] if self.ingress else [])
        return frozenset(address.ip for sandbox in found for address in addresses(sandbox) if address.network.prefixlen < 32)


def vnis(sandbox: Sandbox) -> tuple[str, ...]:
    return tuple(sorted(fields["vxlan.id"] for _, fields in sandbox.of("link") if "vxlan.id" in fields))


def addresses(sandbox: Sandbox) -> list[IPv4Interface]:
    """Its IPv4 addresses but the loopback's, in their order."""
    found = (what.split() for what, _ in sandbox.of("address"))
    return [IPv4Interface(text) for device, text in found if device != "lo" and ":" not in text]


@dataclass(frozen=True, slots=True)
class _Pair:
    label: str
    here: Sandbox | None
    there: Sandbox | None

    @property
    def either(self) -> Sandbox:
        sandbox = self.here or self.there
        assert sandbox is not None
        return sandbox


def _tells(node: _Node, pair: _Pair) -> bool:
    """Whether a role that this side has not got is missing there, or was never looked at: a driver run alone has overlays and no containers."""
    return pair.label.startswith("overlay ") or any(sandbox not in node.overlays and sandbox is not node.own for sandbox in node.sandboxes)


def _wanted(pair: _Pair, pairs: Sequence[_Pair], networks: frozenset[str]) -> bool:
    """Whether it belongs to these networks, or is the node itself; everything does when no network is named."""
    if not networks or pair.label == "node":
        return True
    chosen = [
        other for other in pairs if other.label.startswith("overlay ") and {*vnis(other.either), *_subnets(other.either).split(", ")} & networks
    ]
    prefixes = {address.network for other in chosen for side in (other.here, other.there) if side is not None for address in addresses(side)}
    return pair in chosen or any(address.network in prefixes for address in addresses(pair.either))


def _pairs(ours: _Node, theirs: _Node, exact: bool) -> Iterator[_Pair]:
    """Each role once, with the sandbox of either side that has it."""
    if ours.own is not None and theirs.own is not None and all(list(side.of("address")) for side in (ours.own, theirs.own)):
        yield _Pair("node", ours.own, theirs.own)
    overlays = [_Pair("", here, there) for here, there in _matched(ours.overlays, theirs.overlays, (vnis, _subnets), exact)]
    yield from (replace(pair, label=f"overlay {_subnets(pair.either)}") for pair in overlays)
    nets = _net_mapping(overlays)
    for prefix in ours.prefixes() + theirs.prefixes():
        nets.setdefault(prefix, prefix)
    known = frozenset(nets.values())

    def networks(sandbox: Sandbox) -> frozenset[IPv4Network]:
        return frozenset(nets.get(address.network, address.network) for address in addresses(sandbox)) & known

    def exactly(sandbox: Sandbox) -> frozenset[IPv4Address]:
        return frozenset(_shifted(address.ip, nets) for address in addresses(sandbox) if nets.get(address.network) in known)

    if ours.ingress is not None or theirs.ingress is not None:
        yield _Pair("ingress sandbox", ours.ingress, theirs.ingress)
    for here, there in _matched(ours.load_balancers, theirs.load_balancers, (networks,), exact):
        pair = _Pair("", here, there)
        yield replace(pair, label=f"load balancer {_listed(networks(pair.either))}")
    keys: tuple[Callable[[Sandbox], object], ...] = (exactly,) if exact else (exactly, networks)
    for here, there in _matched(ours.containers, theirs.containers, keys, exact):
        pair = _Pair("", here, there)
        yield replace(pair, label=f"container {_listed(exactly(pair.either)) or pair.either.name}")


def _matched(
    ours: Sequence[Sandbox], theirs: Sequence[Sandbox], keys: Sequence[Callable[[Sandbox], object]], exact: bool
) -> Iterator[tuple[Sandbox, Sandbox] | tuple[Sandbox, None] | tuple[None, Sandbox]]:
    """Pairs that agree in the first key, then of what is left those that agree in the next one; at last what is left alone."""
    found: dict[int, Sandbox] = {}
    left, right = list(ours), list(theirs)
    for key in keys:
        for one in list(left):
            other = next((candidate for candidate in right if key(candidate) and key(candidate) == key(one)), None)
            if other is not None:
                found[id(one)] = other
                left.remove(one)
                right.remove(other)
    if len(left) == len(right) == 1 and not exact:
        found[id(left[0])] = right.pop()
    for one in ours:
        mate = found.get(id(one))
        yield (one, mate) if mate is not None else (one, None)
    for other in right:
        yield None, other


def _subnets(sandbox: Sandbox) -> str:
    return _listed(address.network for address in addresses(sandbox))


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in sorted(items))  # type: ignore[type-var]


# --------------------------------------------------------------------------------------------------------------------
# Addresses there, read as addresses here
# --------------------------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"(?<![\d.:a-f])(?:(?:\d{1,3}\.){3}\d{1,3}|02:42(?::[0-9a-f]{2}){4})(?![\d.]*\.\d)(?![:][0-9a-f]{2}:)")


@dataclass(slots=True)
class _Reading:
    """Text of the other side with its addresses, and MAC addresses made of them, in the words of this side."""

    networks: Mapping[IPv4Network, IPv4Network]
    addresses: dict[str, str] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        return _ADDRESS.sub(lambda match: self._word(match[0]), text)

    def _word(self, word: str) -> str:
        if ":" not in word:
            return self.address(word)
        number = int(word.replace(":", "")[4:], 16)
        return str(mac_from_ipv4(IPv4Address(self.address(str(IPv4Address(number))))))

    def address(self, text: str) -> str:
        known = self.addresses.get(text)
        if known is not None:
            return known
        try:
            return str(_shifted(IPv4Address(text), self.networks))
        except ValueError:  # four numbers with dots that are no address
            return text


def _shifted(address: IPv4Address, networks: Mapping[IPv4Network, IPv4Network]) -> IPv4Address:
    """The address with the same place in the network that stands for its own."""
    for there, here in networks.items():
        if address in there and here.prefixlen == there.prefixlen:
            return IPv4Address(int(here.network_address) + int(address) - int(there.network_address))
    return address


def _net_mapping(overlays: Iterable[_Pair]) -> dict[IPv4Network, IPv4Network]:
    """Subnets there -> subnets here, of the overlays that are the same."""
    found: dict[IPv4Network, IPv4Network] = {}
    for pair in overlays:
        if pair.here is not None and pair.there is not None:
            found |= {theirs.network: ours.network for theirs, ours in zip(addresses(pair.there), addresses(pair.here), strict=False)}
    return found


def _learn(
    reading: _Reading,
    ours: _Node,
    theirs: _Node,
    pairs: Sequence[_Pair],
    balancers_here: Container[IPv4Address],
    balancers_there: Container[IPv4Address],
) -> None:
    """Finds out which address stands for which: of the nodes, of what is in the same sandbox, and of remote peers."""
    if any(pair.label == "node" for pair in pairs) and ours.own is not None and theirs.own is not None:
        _read_as(reading, [_underlay(theirs.own)], [_underlay(ours.own)])
    _read_as(reading, _vteps(theirs), _vteps(ours))
    for pair in pairs:
        if pair.here is None or pair.there is None or pair.label == "node":
            continue
        if pair.label.startswith("overlay "):
            for wanted in (False, True):  # load balancers stand for load balancers
                theirs_remote = [address for address in _remote(pair.there) if (IPv4Address(address) in balancers_there) is wanted]
                ours_remote = [address for address in _remote(pair.here) if (IPv4Address(address) in balancers_here) is wanted]
                _read_as(reading, theirs_remote, ours_remote)
        else:
            for there, here in zip(_by_device(pair.there), _by_device(pair.here), strict=False):
                _read_as(reading, there, here)


def _read_as(reading: _Reading, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Those that are equal stand for themselves, the others for one another in their order."""
    left = [address for address in theirs if reading.address(address) not in ours]
    right = [address for address in ours if address not in {reading.address(other) for other in theirs}]
    reading.addresses |= dict(zip(left, right, strict=False))


def _underlay(node: Sandbox) -> str:
    """The node's address on its first interface that is no bridge of Docker's."""
    return next((what.split()[1].split("/")[0] for what, _ in node.of("address") if not what.startswith(("lo ", "docker"))), "")


def _vteps(node: _Node) -> list[str]:
    found = {fields["dst"] for sandbox in node.overlays for _, fields in sandbox.of("fdb") if "dst" in fields}
    return sorted(found, key=IPv4Address)


def _remote(overlay: Sandbox) -> list[str]:
    found = {what.split()[1] for what, _ in overlay.of("neighbour") if ":" not in what}
    return sorted(found, key=IPv4Address)


def _by_device(sandbox: Sandbox) -> list[list[str]]:
    """The IPv4 addresses of each interface, interfaces in the order of their names."""
    found: dict[str, list[str]] = {}
    for what, _ in sandbox.of("address"):
        device, text = what.split()
        if device != "lo" and ":" not in text:
            found.setdefault(device, []).append(text.split("/")[0])
    return [found[device] for device in sorted(found)]


# --------------------------------------------------------------------------------------------------------------------
# Records without what is drawn
# --------------------------------------------------------------------------------------------------------------------

_DRAWN_PORT = re.compile(r"(?<=127\.0\.0\.11:)\d+|(?<=127\.0\.0\.1:)\d{5}|(?<=sport )\d{5}")
_RULE_VNI = re.compile(r"\bvni (0x[0-9a-f]+)")
_GENERATED = re.compile(r"veth(?:\d+|[0-9a-f]{7})")


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two nodes, and how its words become those that two machines share."""

    node: _Node
    labels: Mapping[int, str]  # id of a sandbox -> its role
    reading: Callable[[str], str]
    balancers: frozenset[IPv4Address]
    unwanted: Container[str]  # roles that are not compared
    vnis: Container[str] | None  # of the networks that are; None: all are

    def canonical(self, sandbox: Sandbox, ignored: Counter[str]) -> dict[Key, Fields]:
        """The sandbox's records without what is counted, drawn or learned; that is counted in `ignored`."""
        names = _port_names(sandbox, self.node, self.labels)
        own = {fields.get("address", "") for _, fields in sandbox.of("link")}
        ignored.update(sandbox.passed_over)
        records: dict[Key, Fields] = {}
        for (kind, what), fields in meaning(sandbox.records).items():
            words = what.split(" ")
            if kind in ("link", "address", "fdb", "qdisc") and names.get(words[0], "").removeprefix("veth to ") in self.unwanted:
                ignored[OTHERS] += 1
                continue
            if kind == "filter rule" and self.vnis is not None and (vni := _RULE_VNI.search(what)) and str(int(vni[1], 16)) not in self.vnis:
                ignored[OTHERS] += 1
                continue
            if kind == "fdb" and words[1].startswith("33:33:ff:"):
                ignored[GROUPS] += 1
                continue
            if kind == "sysctl" and what in IGNORED:
                ignored[IGNORED[what]] += 1
                continue
            for name in fields.keys() & IGNORED.keys():
                ignored[IGNORED[name]] += 1
            kept = {name: value for name, value in fields.items() if name not in IGNORED}
            if kind == "link":
                kept["name"] = _shape(what)
                kept["address"] = _mac(kept.get("address", ""), sandbox, what)
            if kind == "fdb" and words[1] in own:
                words[1] = "own MAC"
            if kind == "address" and words[1].startswith("fe80:"):
                words[1] = "fe80::own/64"
            balanced = kind in ("neighbour", "fdb") and self._is_balancer(words[1])
            text = _DRAWN_PORT.sub("(drawn)", " ".join(self._said(word, names) for word in words)) + (" (load balancer)" if balanced else "")
            records[kind, text] = {name: self._said(value, names) for name, value in kept.items()}
        return records

    def _said(self, text: str, names: Mapping[str, str]) -> str:
        return names.get(text) or _DRAWN_PORT.sub("(drawn)", self.reading(text))

    def _is_balancer(self, address: str) -> bool:
        """By IPv4 address or by the MAC address made of it."""
        return any(address in (str(balancer), str(mac_from_ipv4(balancer))) for balancer in self.balancers)


def _shape(name: str) -> str:
    """What kind of name it is, where the name itself is counted or drawn."""
    if not _GENERATED.fullmatch(name):
        return name
    return "veth and a number" if name[4:].isdigit() and len(name) < 11 else "veth and seven digits"


def _mac(mac: str, sandbox: Sandbox, device: str) -> str:
    """A MAC address by where it comes from."""
    own = [IPv4Interface(what.split()[1]).ip for what, _ in sandbox.of("address") if what.startswith(f"{device} ") and ":" not in what]
    if any(mac == str(mac_from_ipv4(address)) for address in own):
        return "02:42 and its IPv4 address"
    if mac.startswith("02:42:"):
        return "02:42 and four drawn bytes"
    return mac if mac in ("", "00:00:00:00:00:00") else "drawn"


def _port_names(sandbox: Sandbox, node: _Node, labels: Mapping[int, str]) -> dict[str, str]:
    """Generated names of a bridge's ports -> what is at the other end: `veth to container 10.0.1.3`; where that is not told, they are numbered."""
    names: dict[str, str] = {}
    left: list[str] = []
    for name, fields in sandbox.of("link"):
        if "master" in fields and fields.get("kind") == "veth" and _GENERATED.fullmatch(name):
            other = _other_end(sandbox, fields, node)
            label = labels.get(id(other)) if other is not None else None
            if label is None:
                left.append(name)
            else:
                names[name] = f"veth to {label}"
    left.sort(key=lambda name: (len(name), name))
    return names | {name: f"veth {number}" for number, name in enumerate(left, 1)}


def _other_end(sandbox: Sandbox, fields: Fields, node: _Node) -> Sandbox | None:
    """The sandbox with a veth of this number whose other end has that number; the name of its namespace decides where several have."""
    number = fields.get("peer", "").removeprefix("if")
    found = [
        other
        for other in node.sandboxes
        if other is not sandbox
        and any(
            candidate.get("kind") == "veth" and candidate["index"] == number and candidate["peer"] == f"if{fields['index']}"
            for _, candidate in other.of("link")
        )
    ]
    named = [other for other in found if fields.get("link-netns") in (other.name, f"{other.node}:{other.name}")]
    if len(named) == 1:
        return named[0]
    return found[0] if len(found) == 1 else None
