"""Sites far apart: each a subnet behind a router, the routers joined by slow, late and narrow links.

    vm1 10.20.1.11 -- s1 -- r1 == wan1 == r2 -- s2 -- vm2 10.20.2.11      == has a delay, a rate and a small MTU

    vxtool lab up wide_area,n=3,sites=3,delay=80ms,loss=0.5,bw=20,mtu=1400
    mn --custom mininet_topos/wide_area.py --topo wide_area --link tc --switch lxbr --controller none

`delay`, `loss` and `bw` are of each router's link to the provider's switch, so a frame from site to site has them twice. An outer packet of Docker's
overlay takes up to 1,500 bytes: with a smaller MTU on the way, routers cut it in two, or drop it where it may not be cut. mn shapes only with --link
tc, and delays only where the kernel has netem; vxtool says what it cannot do.
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
        for interface in self.intfList():
            if "mtu" in interface.params:
                self.cmd("ip link set", interface, "mtu", interface.params["mtu"])
        for route in routes:
            self.cmd("ip route add", route)


class WideArea(Topo):  # type: ignore[misc]
    """`n` nodes, spread over the sites. `nodes`: their names, site by site, each with @ADDRESS/LENGTH where it should not have the next one."""

    def build(
        self,
        n: int = 2,
        sites: int = 2,
        nodes: str | Sequence[str] | None = None,
        name: str = "vm",
        delay: str = "20ms",
        loss: float = 0,
        bw: float = 100,
        mtu: int = 1400,
    ) -> None:
        entries = nodes.split("+") if isinstance(nodes, str) else list(nodes or (f"{name}{i}" for i in range(1, n + 1)))
        if not 1 <= sites <= 250:
            raise ValueError("from 1 to 250 sites are possible")
        if not 1 <= len(entries) <= sites * 240:
            raise ValueError(f"{len(entries)} nodes do not fit at {sites} sites of at most 240")
        wan = self.addSwitch("wan1")
        for site in range(1, sites + 1):
            routes = [f"10.20.{other}.0/24 via 10.254.0.{other}" for other in range(1, sites + 1) if other != site]
            router = self.addHost(f"r{site}", cls=LinuxRouter, ip=f"10.20.{site}.1/24", routes=routes)
            switch = self.addSwitch(f"s{site}")
            self.addLink(router, switch, intfName1="eth0")
            self.addLink(router, wan, intfName1="eth1", params1={"ip": f"10.254.0.{site}/24"}, mtu=mtu, delay=delay, loss=loss, bw=bw)
            for i, entry in enumerate(entries[(site - 1) * len(entries) // sites : site * len(entries) // sites]):
                node, _, address = entry.partition("@")
                self.addHost(node, ip=address or f"10.20.{site}.{11 + i}/24", defaultRoute=f"via 10.20.{site}.1")
                self.addLink(node, switch, intfName1="eth0")


topos = {"wide_area": WideArea}
