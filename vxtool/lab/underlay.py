"""The underlay as steps: namespaces, bridges, links, addresses, routes.

Pure: a Topology in, steps out, in an order in which each finds what it needs. Knows nothing of overlays and nothing of impairments: links are made
plain, `lab/impair.py` makes them slow, late or lossy.
"""

from __future__ import annotations

from collections.abc import Iterator

from vxtool.lab.spec import Options
from vxtool.lab.steps import AddAddress, AddBridge, AddNamespace, AddRoute, AddVeth, SetMaster, SetOffload, SetSysctl, SetUp, Step
from vxtool.lab.topology import SWITCHES, End, Link, Machine, MachineKind, Topology

__all__ = ["plan"]


def plan(topology: Topology, options: Options) -> list[Step]:
    """All steps of the underlay, for a lab whose namespace `switches` is there and empty.

    They are grouped by namespace where the order allows it, because the kernel is told of neighbouring steps in one namespace at once. The thresholds
    of the neighbour table, which Docker raises (gc_thresh1..3), are left alone: they are the machine's, no namespace has its own, and the permanent
    entries that the overlay driver makes are not counted against them (since Linux 5.0).
    """
    machines = [machine for machine in topology.machines if machine.kind is not MachineKind.SWITCH]
    return [
        *(AddNamespace(machine.name) for machine in machines),
        *_switches(topology),
        *(_veth(topology, link) for link in topology.links),
        *_ports(topology, options),
        *(step for machine in machines for step in _interfaces(topology, machine, options)),
    ]


def _switches(topology: Topology) -> Iterator[Step]:
    bridges = topology.of_kind(MachineKind.SWITCH)
    if bridges:
        # Where br_netfilter is loaded, a new namespace has bridged packets go through iptables, with defragmentation and connection tracking. An
        # Ethernet switch does none of that.
        for tables in ("iptables", "ip6tables", "arptables"):
            yield SetSysctl(SWITCHES, f"net.bridge.bridge-nf-call-{tables}", "0", "1", optional=True)
    for bridge in bridges:
        yield AddBridge(SWITCHES, bridge.name)
        yield SetUp(SWITCHES, bridge.name)


def _veth(topology: Topology, link: Link) -> Step:
    """Made from the switch's side where there is one, so that most of them are made from one namespace."""
    near, far = (link.b, link.a) if topology.namespace(link.b.machine) == SWITCHES else (link.a, link.b)
    return AddVeth(
        topology.namespace(near.machine), near.device, topology.namespace(far.machine), far.device, link.mtu, mac=near.mac, peer_mac=far.mac
    )


def _ports(topology: Topology, options: Options) -> Iterator[Step]:
    for link in topology.links:
        for end in link.ends:
            if topology.namespace(end.machine) == SWITCHES:
                yield SetMaster(SWITCHES, end.device, end.machine)
                yield from _up(SWITCHES, end, options)


def _interfaces(topology: Topology, machine: Machine, options: Options) -> Iterator[Step]:
    if machine.kind is MachineKind.ROUTER:
        yield SetSysctl(machine.name, "net.ipv4.ip_forward", "1", "0")
    for end in topology.ends(machine.name):
        if end.interface is not None:
            yield AddAddress(machine.name, end.device, end.interface, broadcast=end.interface.network.prefixlen < 31)
        yield from _up(machine.name, end, options)
    yield from (AddRoute(machine.name, route.destination, route.via) for route in machine.routes)


def _up(namespace: str, end: End, options: Options) -> Iterator[Step]:
    if options.wire:
        yield SetOffload(namespace, end.device, on=False)
    yield SetUp(namespace, end.device)
