"""What connection tracking knows of flows, in the network namespace in which the calling thread is: looking through it, and forgetting.

Knows the bytes of <linux/netfilter/nfnetlink_conntrack.h>; which flows are to be forgotten, and why, is the mesh's affair (lab/ingress.py).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from vxtool.lab.netlink import DUMP, REQUEST, Channel, Message, attribute, attributes

__all__ = ["Flow", "flows", "forget"]

NETLINK_NETFILTER = 12

_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")

_CTNETLINK = 1 << 8
_GET, _DELETE = _CTNETLINK | 1, _CTNETLINK | 2
_HEAD = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg
_ORIGINAL, _REPLY, _ID = 1, 2, 12
_NESTED = 0x8000
_IP, _PROTOCOL = 1, 2
_IP_SOURCE, _IP_DESTINATION = 1, 2
_NUMBER, _DESTINATION_PORT = 1, 3


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry: as the client sends, and whence it is answered. `key` is what the kernel knows it by."""

    protocol: int
    source: IPv4Address
    destination: IPv4Address
    port: int  # the destination's; 0 where the protocol has none
    answers: IPv4Address  # whence: another address than `destination` when the flow was led there
    key: bytes


def flows() -> list[Flow]:
    """All IPv4 flows of the namespace. OSError when the kernel does not tell."""
    with closing(Channel(NETLINK_NETFILTER)) as channel:
        return _flows(channel)


def _flows(channel: Channel) -> list[Flow]:
    found = []
    for body in channel.ask(Message(_GET, REQUEST | DUMP, _HEAD)):
        told = dict(attributes(body, 4))
        if _ORIGINAL not in told or _REPLY not in told:
            continue
        source, destination, protocol, port = _tuple(told[_ORIGINAL])
        answers, _, _, _ = _tuple(told[_REPLY])
        key = attribute(_ORIGINAL | _NESTED, told[_ORIGINAL]) + (attribute(_ID, told[_ID]) if _ID in told else b"")
        found.append(Flow(protocol, source, destination, port, answers, key))
    return found


def _tuple(data: bytes) -> tuple[IPv4Address, IPv4Address, int, int]:
    """Source, destination, protocol and destination port."""
    parts = dict(attributes(data))
    addresses, protocol = dict(attributes(parts.get(_IP, b""))), dict(attributes(parts.get(_PROTOCOL, b"")))
    port = int.from_bytes(protocol.get(_DESTINATION_PORT, b""), "big")
    none = bytes(4)
    return (
        IPv4Address(addresses.get(_IP_SOURCE, none)),
        IPv4Address(addresses.get(_IP_DESTINATION, none)),
        protocol.get(_NUMBER, b"\0")[0],
        port,
    )


def forget(backends: Collection[IPv4Address] = (), ports: Collection[int] = ()) -> int:
    """Deletes the flows that were led to one of `backends`, and those of UDP to one of `ports` that were led nowhere; how many there were."""
    with suppress(OSError):
        # The kernel has one table for all namespaces, and walks through all of it: 10 ms that a namespace without flows is spared.
        if int(_COUNT.read_text()) == 0:
            return 0
    with closing(Channel(NETLINK_NETFILTER)) as channel:
        doomed = [
            one
            for one in _flows(channel)
            if one.answers in backends or (one.protocol == socket.IPPROTO_UDP and one.port in ports and one.answers == one.destination)
        ]
        refused = channel.send_all([Message(_DELETE, REQUEST, _HEAD + one.key) for one in doomed])
        for error in refused.values():
            if error.errno != errno.ENOENT:  # it has ended meanwhile
                raise error
        return len(doomed) - len(refused)
