"""Two racks behind a router: nodes of one swarm in two subnets, as the article's note says they may be.

vm1 192.168.68.109 -- s1 -- r1 -- s2 -- vm2 192.168.69.109

vxtool lab up two_racks,n=4
vxtool lab up two_racks,nodes=a+b@10.2.0.7/16,subnet1=10.1.0.0/16,subnet2=10.2.0.0/16
mn --custom mininet_topos/two_racks.py --topo two_racks,n=4 --switch lxbr --controller none
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any

from mininet.node import Node
from mininet.topo import Topo


class LinuxRouter(Node):  # type: ignore[misc]
    """A host that forwards, for mn; vxtool reads the same parameters and does it its own way."""

    def config(self, **params: Any) -> None:
        super().config(**params)
        self.cmd("sysctl -qw net.ipv4.ip_forward=1")


class TwoRacks(Topo):  # type: ignore[misc]
    """Nodes NAME1 to NAMEn, or `nodes` (names, each with @ADDRESS/LENGTH where it should not have the next one): the first half is in rack 1."""

    def build(
        self,
        n: int = 2,
        nodes: str | Sequence[str] | None = None,
        name: str = "vm",
        subnet1: str = "192.168.68.0/24",
        subnet2: str = "192.168.69.0/24",
        mtu: int = 1500,
    ) -> None:
        entries = nodes.split("+") if isinstance(nodes, str) else list(nodes or (f"{name}{i}" for i in range(1, n + 1)))
        half = (len(entries) + 1) // 2
        racks = [(IPv4Network(subnet1), entries[:half]), (IPv4Network(subnet2), entries[half:])]
        router = self.addHost("r1", cls=LinuxRouter, ip=f"{racks[0][0][1]}/{racks[0][0].prefixlen}")
        for number, (subnet, members) in enumerate(racks, 1):
            first = 109 if subnet.num_addresses > 109 + len(members) else 2
            if subnet.num_addresses <= first + len(members):
                raise ValueError(f"{subnet} has no room for {len(members)} nodes")
            switch = self.addSwitch(f"s{number}")
            self.addLink(router, switch, intfName1=f"eth{number - 1}", params1={"ip": f"{subnet[1]}/{subnet.prefixlen}"}, mtu=mtu)
            for i, entry in enumerate(members):
                node, _, address = entry.partition("@")
                self.addHost(node, ip=address or f"{subnet[first + i]}/{subnet.prefixlen}", defaultRoute=f"via {subnet[1]}")
                self.addLink(node, switch, intfName1="eth0", mtu=mtu)


topos = {"two_racks": TwoRacks}
