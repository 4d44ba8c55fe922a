"""Encrypted overlays: the security associations, policies and rules that turn VXLAN between two nodes into ESP.

Knows what libnetwork's drivers/overlay/encryption.go programs, and in which order; performs nothing. Per peer node three reverse associations (so
that nothing is lost while keys change), one forward association and one outbound policy; per VNI a mark that the policy asks for, and a rule that
refuses the VNI's frames in clear text.

Two things are not copied. Engine 19.03 writes port 4789 into the policy whatever the swarm's data-path port is, so that such a swarm is not
encrypted at all; here the policy has the port. And 19.03 appends its rules when the first remote peer appears, so that a network with one endpoint
accepts clear text (CVE-2023-28842); here they come with the sandbox, as in releases with the fix.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vxtool.lab.steps import AddRules, AddXfrmPolicy, AddXfrmState, DeleteXfrmState, Step

__all__ = ["MARK", "REQID", "Key", "Keyring", "protect", "rotate", "rules", "spi"]

MARK = REQID = 0xD0C4E3

_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193  # FNV-1a, 32 bits
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the swarm's. An association's key material is `secret` and four bytes of salt, which are its SPI."""

    tag: int  # the Lamport time at which swarmkit made it
    secret: bytes  # 16 bytes: AES-128

    def __post_init__(self) -> None:
        if len(self.secret) != 16:
            raise ValueError(f"a key of {len(self.secret)} bytes: AES-128 takes 16")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The three keys a swarm has at any time (swarmkit manager/keymanager, keyringSize). Everybody sends with `current` and understands all three."""

    oldest: Key
    current: Key
    next: Key

    def rotated(self, new: Key) -> Keyring:
        return Keyring(self.current, self.next, new)


def spi(source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, tag: int) -> int:
    """FNV-1a over source, key tag and destination (encryption.go buildSPI); IPv4 as ::ffff:a.b.c.d. Both nodes compute the same without talking."""
    value = _FNV_OFFSET
    for byte in _sixteen(source) + tag.to_bytes(4) + _sixteen(destination):
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return value


def protect(node: str, local: IPv4Address, remote: IPv4Address, keys: Keyring, port: int) -> list[Step]:
    """What `node`, whose VTEP is `local`, needs to talk ESP with the VTEP `remote`, in the driver's order (setupEncryption)."""
    forward = _association(node, local, remote, keys.current)
    return [
        _association(node, remote, local, keys.current),
        forward,
        AddXfrmPolicy(node, local, remote, port, MARK, forward.spi, REQID),
        _association(node, remote, local, keys.oldest),
        _association(node, remote, local, keys.next),
    ]


def rotate(node: str, local: IPv4Address, remote: IPv4Address, keys: Keyring, new: Key, port: int) -> list[Step]:
    """From `keys` to `keys.rotated(new)` for one peer node: -rSA0, +rSA3, +fSA2, policy, -fSA1 (encryption.go updateNodeKey).

    At every moment between two nodes that are not equally far, each understands what the other sends.
    """
    pruned, old, forward = (
        _association(node, remote, local, keys.oldest),
        _association(node, local, remote, keys.current),
        _association(node, local, remote, keys.next),
    )
    return [
        _gone(pruned),
        _association(node, remote, local, new),
        forward,
        AddXfrmPolicy(node, local, remote, port, MARK, forward.spi, REQID, replaces=old.spi),
        _gone(old),
    ]


def rules(node: str, vni: int, port: int) -> AddRules:
    """The node's rules for one VNI: what it sends is marked for the policy, what arrives in clear text is dropped.

    As Docker's iptables rules, whose u32 match looks at the three bytes of the VNI behind the outer UDP header: here 96 bits into the transport
    header. A chain of type `route` looks the route up again after marking, as the mangle table's OUTPUT does; only then is the policy found.
    """
    frame = f"udp dport {port} @th,96,24 0x{vni:06x}"
    output = f"chain output {{ type route hook output priority mangle; {frame} meta mark set 0x{MARK:08x}; }}"
    arriving = f"chain input {{ type filter hook input priority filter; {frame} meta ipsec missing drop; }}"
    return AddRules(node, "ip", f"encrypted-{vni:06x}", f"{output}; {arriving};")


def _association(node: str, source: IPv4Address, destination: IPv4Address, key: Key) -> AddXfrmState:
    number = spi(source, destination, key.tag)
    return AddXfrmState(node, source, destination, number, REQID, key.secret + number.to_bytes(4))


def _gone(state: AddXfrmState) -> DeleteXfrmState:
    return DeleteXfrmState(state.namespace, state.source, state.destination, state.spi, state.reqid, state.key)


def _sixteen(address: IPv4Address | IPv6Address) -> bytes:
    return _MAPPED + address.packed if address.version == 4 else address.packed
