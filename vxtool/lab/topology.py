"""The underlay a lab stands on, as data: machines, links and what each link is like.

Knows names, addresses and impairments; performs nothing. A Topology comes from a Mininet `Topo` (mininet_topos/, a user's own file) or from YAML
(lab/spec.py), `lab/underlay.py` makes steps of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

__all__ = ["SWITCHES", "End", "Impairment", "Link", "Machine", "MachineKind", "Route", "Topology"]

SWITCHES = "switches"
"""The namespace in which all bridges of the underlay are; a reserved name."""


class MachineKind(StrEnum):
    NODE = "node"  # a member of the swarm: it runs endpoints
    ROUTER = "router"  # forwards between subnets of the underlay
    SWITCH = "switch"  # a Linux bridge


@dataclass(frozen=True, slots=True)
class Route:
    """A static route of a machine; `destination` 0.0.0.0/0 is the default route."""

    destination: IPv4Network
    via: IPv4Address


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    kind: MachineKind
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Impairment:
    """What is wrong with a link, in both directions. The defaults are a link with nothing wrong."""

    rate: int | None = None  # bits per second; None: as fast as the machine
    delay_ms: float = 0.0  # one way
    loss: float = 0.0  # percent of frames
    down: bool = False

    def __bool__(self) -> bool:
        return self != Impairment()


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link. `device` is its name in the machine's namespace: eth0.. on nodes and routers, `s1-eth1` at switches."""

    machine: str
    device: str
    interface: IPv4Interface | None = None  # of a switch None


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


@dataclass(frozen=True, slots=True)
class Topology:
    """`machines` in the order the author gave them; nodes are the swarm's members in that order."""

    name: str
    machines: tuple[Machine, ...]
    links: tuple[Link, ...]

    @property
    def nodes(self) -> tuple[Machine, ...]:
        return tuple(machine for machine in self.machines if machine.kind is MachineKind.NODE)

    def of(self, name: str) -> Machine | None:
        return next((machine for machine in self.machines if machine.name == name), None)

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def namespace(self, machine: str) -> str:
        """Where its devices are: switches share one namespace, everybody else has one of its own name."""
        found = self.of(machine)
        return SWITCHES if found is not None and found.kind is MachineKind.SWITCH else machine

    def address(self, machine: str) -> IPv4Address:
        """The address of its first link: a node's VTEP and advertised address. Raises KeyError when it has none."""
        for link in self.links:
            for end in link.ends:
                if end.machine == machine and end.interface is not None:
                    return end.interface.ip
        raise KeyError(machine)

    def mtu(self, machine: str) -> int:
        """The smallest MTU among its links, in bytes of an IP packet."""
        return min((link.mtu for link in self.links if machine in (link.a.machine, link.b.machine)), default=1500)
