"""Rules: what Docker does not print but follows from what it prints.

Each function is one rule of the engine with its source. Who uses one marks the field in `derived`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .addresses import Address, Mac, mac_from_ipv4
from .cluster import EndpointKind

__all__ = ["ENCRYPTION_OVERHEAD", "MTU_OPTION", "VXLAN_OVERHEAD", "Owner", "overlay_mac", "overlay_mtu", "owner_of"]

VXLAN_OVERHEAD = 50
"""Outer IPv4 20 + UDP 8 + VXLAN 8 + inner Ethernet 14. The driver subtracts it whatever the underlay is (libnetwork drivers/overlay)."""

MTU_OPTION = "com.docker.network.driver.mtu"
"""The driver's option that says what the underlay carries (libnetwork netlabel.DriverMTU)."""

ENCRYPTION_OVERHEAD = 26
"""What the overlay driver leaves for ESP (encryption.go maxMTU), before rounding down to a multiple of four."""

_IDENTITY = "[0-9a-z]{25}"  # swarmkit identity/randomid.go: 25 digits of base 36
_SLOT_TASK = re.compile(rf"(?P<service>.+)\.(?P<slot>[1-9]\d{{0,9}})\.(?P<task>{_IDENTITY})")
_GLOBAL_TASK = re.compile(rf"(?P<service>.+)\.(?P<node>{_IDENTITY})\.(?P<task>{_IDENTITY})")


def overlay_mac(ip: Address) -> Mac | None:
    """The MAC of an endpoint of an overlay network: 02:42 and its IPv4 address. None for IPv6."""
    return mac_from_ipv4(ip) if ip.version == 4 else None


def overlay_mtu(encrypted: bool, option: int | None = None) -> int:
    """The inner MTU of an overlay network: (option `com.docker.network.driver.mtu` or 1500) - 50, encrypted 26 less and a multiple of four.

    1450, or 1424 when encrypted. The underlay's real MTU is never looked at.
    """
    mtu = (option or 1500) - VXLAN_OVERHEAD
    return (mtu - ENCRYPTION_OVERHEAD) // 4 * 4 if encrypted else mtu


@dataclass(frozen=True, slots=True)
class Owner:
    """What the name of an endpoint says of whom it belongs to."""

    kind: EndpointKind
    service: str | None = None
    slot: int | None = None
    node_id: str | None = None
    task: str | None = None


def owner_of(endpoint_name: str, network: str) -> Owner:
    """`web.1.<task>` is slot 1 of web, `web.<node>.<task>` a task of the global service web, `<network>-endpoint` a load balancer
    (libnetwork network.go lbEndpointName), and anything else a standalone container."""
    if endpoint_name == f"{network}-endpoint":
        return Owner(EndpointKind.LOAD_BALANCER)
    if match := _SLOT_TASK.fullmatch(endpoint_name):
        return Owner(EndpointKind.TASK, match["service"], slot=int(match["slot"]), task=match["task"])
    if match := _GLOBAL_TASK.fullmatch(endpoint_name):
        return Owner(EndpointKind.TASK, match["service"], node_id=match["node"], task=match["task"])
    return Owner(EndpointKind.CONTAINER)
