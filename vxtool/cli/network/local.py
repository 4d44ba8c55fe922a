"""What a Docker host has of networks that no swarm made: bridge, docker_gwbridge, host, none.

Knows what an engine says of them; a lab's nodes have docker_gwbridge, and the others by name only. Their ids follow from the node's name, so that
they are the same each time and different on each node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from vxtool.swarm import inspecting
from vxtool.swarm.objects import Node

__all__ = ["LOCAL", "PREDEFINED", "LocalNetwork", "document", "id_of"]

PREDEFINED = frozenset({"bridge", "host", "none"})
"""Neither removed as the user's, nor counted as such by the filters type and dangling (moby IsPreDefinedNetwork; ingress is the user's there)."""


@dataclass(frozen=True, slots=True)
class LocalNetwork:
    name: str
    driver: str
    subnets: tuple[tuple[str, str], ...] = ()  # (subnet, gateway)
    options: Mapping[str, str] = field(default_factory=dict, hash=False)


LOCAL = (
    LocalNetwork(
        "bridge",
        "bridge",
        (("172.17.0.0/16", "172.17.0.1"),),
        {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "docker0",
            "com.docker.network.driver.mtu": "1500",
        },
    ),
    LocalNetwork(
        "docker_gwbridge",
        "bridge",
        (("172.18.0.0/16", "172.18.0.1"),),
        {
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.name": "docker_gwbridge",
        },
    ),
    LocalNetwork("host", "host"),
    LocalNetwork("none", "null"),
)


def id_of(network: LocalNetwork, node: Node | None) -> str:
    host = "" if node is None else node.hostname or node.id
    return sha256(f"{host}/{network.name}".encode()).hexdigest()


def document(network: LocalNetwork, node: Node | None) -> dict[str, Any]:
    """`docker network inspect` of it. Which sandboxes use it is the node's affair: none are listed."""
    return {
        "Name": network.name,
        "Id": id_of(network, node),
        "Created": inspecting.moment(node.created_at if node is not None else 0.0),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": subnet, "Gateway": gateway} for subnet, gateway in network.subnets]},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": dict(network.options),
        "Labels": {},
    }
