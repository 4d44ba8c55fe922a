"""N nodes on one Ethernet segment: the article's virtual machines in 192.168.68.0/24.

vxtool lab up one_segment,n=4
vxtool lab up one_segment,nodes=vm1@10.1.0.1/16+vm2@10.1.0.2/16
mn --custom mininet_topos/one_segment.py --topo one_segment,n=4 --switch lxbr --controller none
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from mininet.topo import Topo

FIRST = IPv4Address("192.168.68.109")


class OneSegment(Topo):  # type: ignore[misc]
    """Nodes NAME1 to NAMEn, or `nodes`: names, each with @ADDRESS/LENGTH where it should not have the next one."""

    def build(self, n: int = 2, nodes: str | Sequence[str] | None = None, name: str = "sathish-vm", mtu: int = 1500) -> None:
        entries = nodes.split("+") if isinstance(nodes, str) else list(nodes or (f"{name}{i}" for i in range(1, n + 1)))
        # The article's /24, or as many bits more as so many nodes need.
        length = next(bits for bits in range(24, 7, -1) if FIRST + len(entries) <= IPv4Network((FIRST, bits), strict=False).broadcast_address)
        switch = self.addSwitch("s1")
        for i, entry in enumerate(entries):
            node, _, address = entry.partition("@")
            self.addHost(node, ip=address or f"{FIRST + i}/{length}")
            self.addLink(node, switch, intfName1="eth0", mtu=mtu)


topos = {"one_segment": OneSegment}
