"""What gossip is about: records, members, what happens to them, and how long everything takes. Knows nothing of how any of it travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import ceil, log, log2, log10
from typing import Any

__all__ = ["Event", "MemberDown", "MemberUp", "Record", "RecordGone", "RecordSet", "Standing", "State", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds and numbers, as memberlist's DefaultLANConfig and networkdb/cluster.go have them."""

    probe: float = 1.0  # one member is probed every so often
    probe_timeout: float = 0.5  # then others are asked to probe it, and TCP is tried
    indirect: int = 3  # how many others
    suspicion: int = 4  # the least suspicion lasts so many probes, times the logarithm of the swarm
    suspicion_most: int = 6  # and the longest so many times the least
    unhealthy_most: int = 8  # how many times slower a node probes that doubts itself
    gossip: float = 0.2
    gossip_nodes: int = 3
    gossip_to_the_dead: float = 30.0  # so that they may deny it
    retransmit: int = 4
    at_once: int = 16  # nodes that are told immediately of what a node says about itself
    burst: int = 64  # datagrams to one node at one tick
    push_pull: float = 30.0
    exchange: float = 10.0  # an exchange without an end has failed
    exchanges: int = 8  # that are waited for at a time
    retry: float = 1.0  # bootstrap, failed nodes, failed exchanges
    rejoin: float = 60.0  # when none of the bootstrap nodes is there
    tombstone: float = 1800.0  # how long what is deleted is remembered
    forget: float = 86400.0  # how long a dead node is remembered
    datagram: int = 1400  # bytes

    def suspicion_bounds(self, nodes: int) -> tuple[float, float]:
        """The shortest and the longest time that a member of a swarm of so many stays suspect (memberlist util.go, suspicion.go)."""
        least = self.suspicion * max(1.0, log10(max(1, nodes))) * self.probe
        return least, self.suspicion_most * least

    def confirmations(self, nodes: int) -> int:
        """How many other accusers bring a suspicion down to its shortest; 0 when there are not so many nodes: then it is as short from the start."""
        wanted = self.suspicion - 2
        return wanted if nodes - 2 >= wanted else 0

    def suspicion_time(self, nodes: int, confirmed: int) -> float:
        """How long a suspicion lasts that so many others share."""
        least, most = self.suspicion_bounds(nodes)
        wanted = self.confirmations(nodes)
        if wanted < 1:
            return least
        return max(least, most - log(confirmed + 1) / log(wanted + 1) * (most - least))

    def retransmissions(self, nodes: int) -> int:
        """How often a rumour is told in a swarm of so many."""
        return self.retransmit * ceil(log10(nodes + 1))

    def push_pull_interval(self, nodes: int) -> float:
        """Larger swarms exchange whole states less often: memberlist doubles, trebles ... from 32 nodes on."""
        return self.push_pull * (1 if nodes <= 32 else ceil(log2(nodes) - 5) + 1)


class State(Enum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Standing:
    """A member as this node sees it; suspects are still there."""

    name: str
    address: str
    state: State
    life: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Record:
    """What its owner says of one of its endpoints, to the nodes of a network."""

    network: str
    table: str  # "endpoint": names and load balancing; "peer": addresses behind VTEPs
    key: str
    owner: str  # a node
    value: Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class RecordSet:
    """A record is new, or has another value now."""

    record: Record


@dataclass(frozen=True, slots=True)
class RecordGone:
    """Its owner dropped it, left the network, is dead or began a new life; or this node left the network."""

    record: Record


@dataclass(frozen=True, slots=True)
class MemberUp:
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class MemberDown:
    name: str
    why: str  # "failed", "left", or "restarted": then it is up again at once


Event = RecordSet | RecordGone | MemberUp | MemberDown
