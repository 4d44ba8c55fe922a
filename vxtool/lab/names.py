"""Names and numbers of the overlay driver: what it calls its devices and namespaces, and what it makes of a port.

Knows how libnetwork spells things (drivers/overlay/ov_network.go, osl/namespace_linux.go); knows neither steps nor a running lab. MACs and MTUs
are in model/rules.py, because `verify` needs them too.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from hashlib import sha256

from vxtool.errors import UsageError
from vxtool.model import DATA_PATH_PORT, Endpoint, EndpointKind, Mac, Network

__all__ = [
    "GATEWAY_BRIDGE",
    "INGRESS_SANDBOX",
    "bridge_mac",
    "bridge_source",
    "data_path_port",
    "endpoint_sandbox",
    "identity",
    "interfaces",
    "load_balancer_sandbox",
    "overlay_sandbox",
    "sandbox_name",
    "veth",
    "vxlan_source",
]

GATEWAY_BRIDGE = "docker_gwbridge"
INGRESS_SANDBOX = "ingress_sbox"

_KEY = 12  # osl/namespace_linux.go GenerateKey: a namespace's file name has so many characters
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")  # moby daemon/names
_OWN = re.compile(rf"\d+-[0-9a-z]{{1,10}}|lb_.*|{INGRESS_SANDBOX}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_IDENTITY = 25  # digits of base 36 in swarmkit's ids (identity/randomid.go)


def overlay_sandbox(network_id: str, epoch: int = 1) -> str:
    """The namespace of a network on a node: `1-` and the first ten characters of its id.

    Docker's epoch grows each time a daemon makes the sandbox again; a lab's stays 1, so that the name can be known beforehand.
    """
    return f"{epoch}-{network_id}"[:_KEY]


def load_balancer_sandbox(network_id: str) -> str:
    """The namespace of a network's load balancer on a node: `lb_` and nine characters of the id (controller.go NewSandbox)."""
    return f"lb_{network_id}"[:_KEY]


def endpoint_sandbox(endpoint: Endpoint, network: Network) -> str:
    """What follows `NODE:` in the name of the namespace an endpoint lives in: its own name, or what a load balancer's sandbox is called."""
    if endpoint.kind is not EndpointKind.LOAD_BALANCER:
        return endpoint.name
    return INGRESS_SANDBOX if network.ingress else load_balancer_sandbox(network.id or identity(network.name))


def sandbox_name(name: str) -> str:
    """The same name, when a container may have it. UsageError otherwise: Docker's rule for names, and those that Docker's own sandboxes have."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name an endpoint: letters, digits, '_', '.' and '-' are wanted, at most 128, a letter or digit first")
    if _OWN.fullmatch(name):
        raise UsageError(f"{name!r} cannot name an endpoint: a sandbox that Docker makes for itself is called so")
    return name


def interfaces(endpoints: Iterable[Endpoint], networks: Mapping[str, Network]) -> tuple[tuple[str, Endpoint], ...]:
    """The attachments of one sandbox and what each is called there: eth0, eth1.. in libnetwork's order (sandbox.go Less): internal networks last,
    else by the network's name. docker_gwbridge, where the sandbox has it, takes the number after them."""
    ordered = sorted(endpoints, key=lambda endpoint: (networks[endpoint.network].internal, endpoint.network))
    return tuple((f"eth{number}", endpoint) for number, endpoint in enumerate(ordered))


def vxlan_source(vni: int, network_id: str) -> str:
    """The name under which the driver makes a VXLAN device in the node's namespace, before it becomes vxlan0 in the sandbox."""
    return f"vx-{vni:06x}-{network_id[:5]}"


def bridge_source(vni: int, network_id: str) -> str:
    """The name under which the driver makes a subnet's bridge, before it becomes br0."""
    return f"ov-{vni:06x}-{network_id[:5]}"


def identity(*words: str) -> str:
    """An id like swarmkit's, 25 digits of base 36, but always the same for the same words."""
    number = int.from_bytes(_digest(*words))
    return "".join(_DIGITS[number // 36**place % 36] for place in range(_IDENTITY))


def veth(*words: str, taken: Container[str] = ()) -> str:
    """A name like those netutils.GenerateIfaceName draws, `veth` and seven hexadecimal digits: the same for the same words, and none of `taken`."""
    names = (f"veth{_digest(*words, str(attempt)).hex()[:7]}" for attempt in range(1 << 28))
    return next(name for name in names if name not in taken)


def bridge_mac(*words: str) -> Mac:
    """A MAC as netutils.GenerateRandomMAC draws them for docker_gwbridge, 02:42 and four bytes: the same for the same words."""
    return Mac(0x0242 << 32 | int.from_bytes(_digest(*words)[:4]))


def data_path_port(port: int) -> int:
    """The UDP port that `docker swarm init --data-path-port` makes of a number: 0 is the default. UsageError, in Docker's words, when it may not be
    used (overlayutils/utils.go ConfigVXLANUDPPort)."""
    if port == 0:
        return DATA_PATH_PORT
    if not 1024 <= port <= 49151:
        raise UsageError(f"VXLAN UDP port number is not in valid range (1024-49151): {port}")
    return port


def _digest(*words: str) -> bytes:
    return sha256("\0".join(words).encode()).digest()
