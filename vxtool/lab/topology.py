"""The underlay a lab stands on, as data: machines, links and what each link is like.

Knows names, addresses and impairments, and what a kernel will not take; performs nothing. A Topology comes from a Mininet `Topo` (lab/topos.py: our
mininet_topos/, a user's own file) or from YAML (lab/spec.py); `lab/underlay.py` makes steps of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from vxtool.errors import UsageError
from vxtool.model import Mac

__all__ = [
    "MTU_LIMITS",
    "SWITCHES",
    "End",
    "Impairment",
    "Link",
    "Machine",
    "MachineKind",
    "Route",
    "Topology",
    "check",
    "declared",
    "link_name",
    "parse_delay",
    "parse_loss",
    "parse_rate",
    "parse_route",
]

SWITCHES = "switches"
"""The namespace in which all bridges of the underlay are; a reserved name."""

MTU_LIMITS = (68, 65535)
"""What IPv4 allows (RFC 791), and what veth takes."""


class MachineKind(StrEnum):
    NODE = "node"  # a member of the swarm: it runs endpoints
    ROUTER = "router"  # forwards between subnets of the underlay
    SWITCH = "switch"  # a Linux bridge


@dataclass(frozen=True, slots=True)
class Route:
    """A static route of a machine; `destination` 0.0.0.0/0 is the default route."""

    destination: IPv4Network
    via: IPv4Address

    def __str__(self) -> str:
        return f"{self.destination if self.destination.prefixlen else 'default'} via {self.via}"


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    kind: MachineKind
    routes: tuple[Route, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)  # its engine's, as `engine.labels.K` in a constraint
    cpus: float | None = None  # what it says it has, for the scheduler; None: what the machine under the lab has
    memory: int | None = None  # bytes
    generic: Mapping[str, int] = field(default_factory=dict, hash=False)  # other things that can be reserved: kind -> how many


@dataclass(frozen=True, slots=True)
class Impairment:
    """What is wrong with a link, in both directions. The defaults are a link with nothing wrong."""

    rate: int | None = None  # bits per second; None: as fast as the machine
    delay_ms: float = 0.0  # one way
    loss: float = 0.0  # percent of frames
    down: bool = False
    queue: int | None = None  # frames that wait where the link is slow or late before more are dropped; None: as many as fit

    def __bool__(self) -> bool:
        return self != Impairment()


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link. `device` is its name in the machine's namespace: eth0.. on nodes and routers, `s1-eth1` at switches."""

    machine: str
    device: str
    interface: IPv4Interface | None = None  # of a switch None
    mac: Mac | None = None  # None: the kernel draws one


@dataclass(frozen=True, slots=True)
class Link:
    name: str  # `vm1-s1`; a second one between the same two machines `vm1-s1-2`
    a: End
    b: End
    mtu: int = 1500
    impairment: Impairment = field(default_factory=Impairment)

    @property
    def ends(self) -> tuple[End, End]:
        return self.a, self.b


@dataclass(frozen=True)
class Topology:
    """`machines` in the order the author gave them; nodes are the swarm's members in that order.

    Immutable; its look-up tables are built on first use and kept.
    """

    name: str
    machines: tuple[Machine, ...]
    links: tuple[Link, ...]

    @property
    def nodes(self) -> tuple[Machine, ...]:
        return self.of_kind(MachineKind.NODE)

    def of_kind(self, kind: MachineKind) -> tuple[Machine, ...]:
        return tuple(machine for machine in self.machines if machine.kind is kind)

    def of(self, name: str) -> Machine | None:
        return self._machine_by_name.get(name)

    def link(self, name: str) -> Link | None:
        return self._link_by_name.get(name)

    def ends(self, machine: str) -> tuple[End, ...]:
        """Its ends of links, in their order."""
        return tuple(self._ends_by_machine.get(machine, ()))

    def namespace(self, machine: str) -> str:
        """Where its devices are: switches share one namespace, everybody else has one of its own name."""
        found = self.of(machine)
        return SWITCHES if found is not None and found.kind is MachineKind.SWITCH else machine

    def address(self, machine: str) -> IPv4Address:
        """The address of its first link: a node's VTEP and advertised address. Raises KeyError when it has none."""
        for end in self.ends(machine):
            if end.interface is not None:
                return end.interface.ip
        raise KeyError(machine)

    def mtu(self, machine: str) -> int:
        """The smallest MTU among its links, in bytes of an IP packet."""
        return min((link.mtu for link in self.links if machine in (link.a.machine, link.b.machine)), default=1500)

    @cached_property
    def _machine_by_name(self) -> dict[str, Machine]:
        return {machine.name: machine for machine in self.machines}

    @cached_property
    def _link_by_name(self) -> dict[str, Link]:
        return {link.name: link for link in self.links}

    @cached_property
    def _ends_by_machine(self) -> dict[str, list[End]]:
        ends: dict[str, list[End]] = {}
        for link in self.links:
            for end in link.ends:
                ends.setdefault(end.machine, []).append(end)
        return ends


def link_name(a: str, b: str, taken: set[str]) -> str:
    """What a new link between two machines is called, added to `taken`."""
    name, count = f"{a}-{b}", 1
    while name in taken:
        count += 1
        name = f"{a}-{b}-{count}"
    taken.add(name)
    return name


# --------------------------------------------------------------------------------------------------------------------
# How people write what a link is like
# --------------------------------------------------------------------------------------------------------------------

_NUMBER = r"(\d{1,12}(?:\.\d{1,6})?)"
_RATE = re.compile(_NUMBER + r"\s*([kmg]?)bit(?:/s)?", re.IGNORECASE)
_DELAY = re.compile(_NUMBER + r"\s*(us|ms|s)", re.IGNORECASE)
_LOSS = re.compile(_NUMBER + r"\s*%?")
_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_DELAY_LIMIT_MS = 60_000


def parse_rate(text: str) -> int:
    """Bits per second of `10mbit`, `1.5gbit`, `800kbit` (tc's units of 1000). UsageError otherwise: a bare number could mean anything."""
    match = _RATE.fullmatch(text.strip())
    rate = round(float(match[1]) * _THOUSANDS[match[2].lower()]) if match else 0
    if not 8 <= rate <= 10**12:
        raise UsageError(f"{text!r} is not a rate: one like 10mbit, 800kbit or 1gbit is wanted")
    return rate


def parse_delay(text: str) -> float:
    """Milliseconds of `20ms`, `1.5s`, `300us`. UsageError otherwise; tc reads a bare number as microseconds, which nobody means."""
    match = _DELAY.fullmatch(text.strip())
    delay = round(float(match[1]) * _MILLISECONDS[match[2].lower()], 6) if match else -1.0
    if not 0 <= delay <= _DELAY_LIMIT_MS:
        raise UsageError(f"{text!r} is not a delay: one like 20ms, 300us or 1.5s is wanted, at most 60s")
    return delay


def parse_loss(text: str) -> float:
    """Percent of `1%`, `0.1`. UsageError otherwise."""
    match = _LOSS.fullmatch(text.strip())
    if not match or float(match[1]) > 100:
        raise UsageError(f"{text!r} is not a share of frames to lose: one like 1% or 0.1% is wanted, at most 100%")
    return float(match[1])


def parse_route(text: str) -> Route:
    """`10.1.0.0/16 via 10.0.0.1`, `default via 192.168.68.1`, and what Mininet's hosts take for a default route: `via ...`, `dev eth0 via ...`.

    A device is passed over, it follows from the gateway. UsageError otherwise.
    """
    words = text.split()
    if words[:1] in (["dev"], ["via"]):
        words = ["default", *words]
    if len(words) >= 5 and "dev" in words[1::2]:
        at = words.index("dev")
        words = words[:at] + words[at + 2 :]
    try:
        destination, via, gateway = words
        if via != "via":
            raise ValueError
        return Route(IPv4Network("0.0.0.0/0" if destination == "default" else destination), IPv4Address(gateway))
    except ValueError:
        raise UsageError(f"{text!r} is not a route: one like '10.1.0.0/16 via 10.0.0.1' or 'default via 10.0.0.1' is wanted") from None


# --------------------------------------------------------------------------------------------------------------------
# What cannot be built
# --------------------------------------------------------------------------------------------------------------------

_HOST_NAME_LIMIT = 64  # __NEW_UTS_LEN: a node's name is its host name
_DEVICE_NAME_LIMIT = 15  # IFNAMSIZ less the final zero
_PORTS_LIMIT = 1023  # BR_MAX_PORTS
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NO_DEVICES = frozenset({"lo", "all", "default"})  # the kernel's own: a loopback, and two folders of /proc/sys/net/ipv4/conf


def declared(labels: Any = None, cpus: Any = None, memory: Any = None, generic: Any = None) -> dict[str, Any]:
    """What a machine says it has, as arguments of Machine: `cpus` 2 or 0.5, `memory` bytes or '4GiB', `labels` texts by name, `generic` numbers by
    kind. None: it says nothing."""
    from vxtool.swarm import parsing

    said: dict[str, Any] = {}
    if labels is not None:
        if not isinstance(labels, dict):
            raise UsageError(f"labels {labels!r}: texts by name are wanted, like zone: a")
        said["labels"] = {str(name): str(value) for name, value in labels.items()}
    if cpus is not None:
        said["cpus"] = _positive("cpus", cpus, parsing.cpus, "a number of processors above 0 is wanted, like 2 or 0.5") / 1e9
    if memory is not None:
        said["memory"] = _positive("memory", memory, parsing.memory, "a number of bytes above 0 is wanted, or a text like 4GiB")
    if generic is not None:
        if not isinstance(generic, dict) or not all(isinstance(number, int) and number >= 0 for number in generic.values()):
            raise UsageError(f"generic {generic!r}: whole numbers by kind are wanted, like gpu: 2")
        said["generic"] = {str(kind): number for kind, number in generic.items()}
    return said


def _positive(what: str, value: Any, parse: Callable[[str], int], wanted: str) -> int:
    try:
        if (number := parse(str(value))) > 0:
            return number
    except UsageError:
        pass
    raise UsageError(f"{what} {value!r}: {wanted}")


def check(topology: Topology, where: str) -> Topology:
    """The same topology, when it can be built. UsageError begins with `where` and says what is wrong with it."""
    for problems in (_names, _devices, _addresses, _routes, _bridges):
        for problem in problems(topology):
            raise UsageError(f"{where}: {problem}")
    return topology


def _names(topology: Topology) -> Iterator[str]:
    if not topology.nodes:
        yield "there is no node in it"
    for name, count in Counter(machine.name for machine in topology.machines).items():
        if count > 1:
            yield f"two machines are called {name}"
    for machine in topology.machines:
        name = machine.name
        if name == SWITCHES:
            yield f"a machine cannot be called {SWITCHES!r}: that is where the lab keeps its bridges"
        if not _NAME.fullmatch(name):
            yield f"{name!r} is no name for a machine: letters, digits, '.', '-' and '_' are, beginning with a letter or digit"
        if len(name) > _HOST_NAME_LIMIT:
            yield f"the name {name} has {len(name)} characters, a host name has at most {_HOST_NAME_LIMIT}"
    for name, count in Counter(link.name for link in topology.links).items():
        if count > 1:
            yield f"two links are called {name}"


def _devices(topology: Topology) -> Iterator[str]:
    devices = [(SWITCHES, machine.name) for machine in topology.of_kind(MachineKind.SWITCH)]
    for link in topology.links:
        if link.a.machine == link.b.machine:
            yield f"the link {link.name} joins {link.a.machine} with itself"
        if not MTU_LIMITS[0] <= link.mtu <= MTU_LIMITS[1]:
            yield f"the link {link.name} has an MTU of {link.mtu}; from {MTU_LIMITS[0]} to {MTU_LIMITS[1]:,} are possible"
        devices += [(topology.namespace(end.machine), end.device) for end in link.ends]
    for (namespace, device), count in Counter(devices).items():
        if not _NAME.fullmatch(device) or device in _NO_DEVICES:
            yield f"{device!r} is no name for a device in {namespace}"
        if len(device) > _DEVICE_NAME_LIMIT:
            yield f"the device {device} in {namespace} has a name of {len(device)} characters, the kernel takes at most {_DEVICE_NAME_LIMIT}"
        if count > 1:
            yield f"two devices in {namespace} are called {device}"


def _addresses(topology: Topology) -> Iterator[str]:
    owners: dict[IPv4Address, str] = {}
    switches = {machine.name for machine in topology.of_kind(MachineKind.SWITCH)}
    for link in topology.links:
        for end in link.ends:
            if end.interface is None:
                continue
            address, network = end.interface.ip, end.interface.network
            if end.machine in switches:
                yield f"the switch {end.machine} cannot have the address {address}: it forwards frames and nothing else"
            if address in owners:
                yield f"{owners[address]} and {end.machine} ({end.device}) both have the address {address}"
            owners[address] = f"{end.machine} ({end.device})"
            if network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
                yield f"{end.machine} cannot have the address {end.interface}: it is the subnet's own or its broadcast address"
            if address.is_multicast or address.is_loopback or address.is_unspecified:
                yield f"{end.machine} cannot have the address {address}"
    for machine in topology.machines:
        if machine.kind is not MachineKind.SWITCH and all(end.interface is None for end in topology.ends(machine.name)):
            yield f"the {machine.kind} {machine.name} has no address" + ("" if topology.ends(machine.name) else ", and no link")


def _routes(topology: Topology) -> Iterator[str]:
    for machine in topology.machines:
        subnets = [end.interface.network for end in topology.ends(machine.name) if end.interface is not None]
        for route in machine.routes:
            if not any(route.via in subnet for subnet in subnets):
                yield f"{machine.name}: the route {route} goes through none of its subnets ({', '.join(map(str, subnets)) or 'it has none'})"
        for destination, count in Counter(route.destination for route in machine.routes).items():
            if count > 1:
                yield f"{machine.name} has {count} routes to {destination}"


def _bridges(topology: Topology) -> Iterator[str]:
    switches = {machine.name for machine in topology.of_kind(MachineKind.SWITCH)}
    segment = {name: name for name in switches}  # towards one switch that stands for all that are joined

    def root(name: str) -> str:
        while segment[name] != name:
            name = segment[name]
        return name

    for link in topology.links:
        if link.a.machine in switches and link.b.machine in switches:
            a, b = root(link.a.machine), root(link.b.machine)
            if a == b:
                yield f"the link {link.name} closes a loop of switches, in which frames would circle for ever: the lab's bridges run no spanning tree"
            segment[a] = b
    for name in sorted(switches):
        if len(topology.ends(name)) > _PORTS_LIMIT:
            yield f"the switch {name} has {len(topology.ends(name)):,} links, a Linux bridge has at most {_PORTS_LIMIT:,} ports"
