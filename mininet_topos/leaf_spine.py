"""A leaf-spine fabric: a subnet for each rack, a leaf router above it, and every leaf joined with every spine.

    vxtool lab up leaf_spine,racks=3,spines=2,n=6
    mn --custom mininet_topos/leaf_spine.py --topo leaf_spine,racks=3 --switch lxbr --controller none

Routes are static and one for each rack: what leaves rack a for rack b, and what comes back, goes through spine (a + b) mod `spines` + 1. So all of
them carry something, both directions of a flow take one way, and the path of a captured frame can be foretold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mininet.node import Node
from mininet.topo import Topo


class LinuxRouter(Node):  # type: ignore[misc]
    """A host that forwards, for mn; vxtool reads the same parameters and does it its own way."""

    def config(self, routes: Sequence[str] = (), **params: Any) -> None:
        super().config(**params)
        self.cmd("sysctl -qw net.ipv4.ip_forward=1")
        for route in routes:
            self.cmd("ip route add", route)


class LeafSpine(Topo):  # type: ignore[misc]
    """`n` nodes, spread over the racks. `nodes`: their names, rack by rack, each with @ADDRESS/LENGTH where it should not have the next one."""

    def build(self, n: int = 4, racks: int = 2, spines: int = 2, nodes: str | Sequence[str] | None = None, name: str = "vm", mtu: int = 1500) -> None:
        entries = nodes.split("+") if isinstance(nodes, str) else list(nodes or (f"{name}{i}" for i in range(1, n + 1)))
        if not 1 <= racks <= 250 or not 1 <= spines <= 60:
            raise ValueError("from 1 to 250 racks and from 1 to 60 spines are possible")
        if not 1 <= len(entries) <= racks * 240:
            raise ValueError(f"{len(entries)} nodes do not fit into {racks} racks of at most 240")

        def link(leaf: int, spine: int, end: int) -> str:
            """The address of an end (1 leaf, 2 spine) of the link between the two."""
            return f"10.252.{leaf}.{4 * (spine - 1) + end}"

        def behind(leaf: int, via: str) -> list[str]:
            """To a rack, and to the links above it."""
            return [f"10.10.{leaf}.0/24 via {via}", f"10.252.{leaf}.0/24 via {via}"]

        every_leaf, every_spine = range(1, racks + 1), range(1, spines + 1)
        for leaf in every_leaf:
            ways = {other: (leaf + other) % spines + 1 for other in every_leaf if other != leaf}
            routes = [route for other, spine in ways.items() for route in behind(other, link(leaf, spine, 2))]
            self.addHost(f"leaf{leaf}", cls=LinuxRouter, ip=f"10.10.{leaf}.1/24", routes=routes)
            switch = self.addSwitch(f"s{leaf}")
            self.addLink(f"leaf{leaf}", switch, intfName1="eth0", mtu=mtu)
            for i, entry in enumerate(entries[(leaf - 1) * len(entries) // racks : leaf * len(entries) // racks]):
                node, _, address = entry.partition("@")
                self.addHost(node, ip=address or f"10.10.{leaf}.{11 + i}/24", defaultRoute=f"via 10.10.{leaf}.1")
                self.addLink(node, switch, intfName1="eth0", mtu=mtu)
        for spine in every_spine:
            routes = [route for leaf in every_leaf for route in behind(leaf, link(leaf, spine, 1))]
            self.addHost(f"spine{spine}", cls=LinuxRouter, ip=f"{link(1, spine, 2)}/30", routes=routes)
            for leaf in every_leaf:
                ends = {"intfName1": f"eth{spine}", "params1": {"ip": f"{link(leaf, spine, 1)}/30"}}
                ends |= {"intfName2": f"eth{leaf - 1}", "params2": {"ip": f"{link(leaf, spine, 2)}/30"}}
                self.addLink(f"leaf{leaf}", f"spine{spine}", mtu=mtu, **ends)


topos = {"leaf_spine": LeafSpine}
