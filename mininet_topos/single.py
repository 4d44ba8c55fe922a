"""One node and nobody to talk to: what a swarm of one does, and what stays inside a node.

vxtool lab up single
vxtool lab up single,node=manager,address=10.1.0.1/16
mn --custom mininet_topos/single.py --topo single --switch lxbr --controller none
"""

from __future__ import annotations

from mininet.topo import Topo


class Single(Topo):  # type: ignore[misc]
    """A node at a switch, which is there so that its eth0 has a carrier."""

    def build(self, node: str = "vm1", address: str = "192.168.68.109/24", mtu: int = 1500) -> None:
        self.addHost(node, ip=address)
        self.addLink(node, self.addSwitch("s1"), intfName1="eth0", mtu=mtu)


topos = {"single": Single}
