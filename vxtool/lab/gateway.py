"""docker_gwbridge: the way out of a sandbox, beside its overlay networks.

Knows the bridge a node has for it, its addresses and its rules; performs nothing, and knows no overlay. A sandbox with at least one network that is
not internal has an interface there, and its default route leads through it (libnetwork default_gateway.go).
"""

from __future__ import annotations

from collections.abc import Container
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vxtool.lab import names
from vxtool.lab.steps import AddAddress, AddBridge, AddRoute, AddRules, AddVeth, SetMaster, SetSysctl, SetUp, Step
from vxtool.model import mac_from_ipv4

__all__ = ["ADDRESS", "SUBNET", "attach", "bridge", "lowest_free"]

SUBNET = IPv4Network("172.18.0.0/16")
"""The second local pool of libnetwork's ipamutils: the first, 172.17.0.0/16, is docker0's."""

ADDRESS = IPv4Address("172.18.0.1")
"""The bridge's own: everybody's default gateway, the same on every node, because the subnet never leaves the node."""

_MTU = 1500
_DEFAULT_ROUTE = IPv4Network("0.0.0.0/0")

# Who leaves by another interface takes the node's address on the way.
_MASQUERADE = f'chain postrouting {{ type nat hook postrouting priority srcnat; ip saddr {SUBNET} oifname != "{names.GATEWAY_BRIDGE}" masquerade; }}'

# Inter-container communication is off. Docker says it to iptables' FORWARD and needs br_netfilter for bridged frames to pass there; this chain
# sees them itself. Ports are named by the driver's prefix, because not every kernel can match the bridge (nft_meta_bridge).
_ISOLATE = 'chain forward { type filter hook forward priority filter; iifname "veth*" oifname "veth*" ether type ip drop; }'


def bridge(node: str) -> list[Step]:
    """What the first sandbox with a way out makes on its node. It stays when the last one goes, as Docker leaves it."""
    name = names.GATEWAY_BRIDGE
    return [
        SetSysctl(node, "net.ipv4.ip_forward", "1", before="0"),
        AddBridge(node, name, mac=names.bridge_mac(node, name), queue=0),
        AddAddress(node, name, IPv4Interface((ADDRESS, SUBNET.prefixlen))),
        SetUp(node, name),
        AddRules(node, "ip", name, _MASQUERADE),
        AddRules(node, "bridge", name, _ISOLATE),
    ]


def attach(node: str, sandbox: str, device: str, address: IPv4Address, port: str) -> list[Step]:
    """The sandbox's interface `device` on the bridge, whose side of the pair is called `port`, and the default route through it."""
    return [
        AddVeth(node, port, sandbox, device, _MTU, peer_mac=mac_from_ipv4(address), queue=0),
        SetMaster(node, port, names.GATEWAY_BRIDGE),
        SetUp(node, port),
        AddAddress(sandbox, device, IPv4Interface((address, SUBNET.prefixlen))),
        SetUp(sandbox, device),
        AddRoute(sandbox, _DEFAULT_ROUTE, ADDRESS, device),
    ]


def lowest_free(taken: Container[IPv4Address]) -> IPv4Address | None:
    """The lowest address that nobody on the node has; None when there is no more."""
    return next((address for number in range(2, SUBNET.num_addresses - 1) if (address := SUBNET[number]) not in taken), None)
