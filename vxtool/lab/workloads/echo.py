"""Says what it hears, over TCP and UDP (RFC 862). Port 7, or $PORT.

Knows that a host may have several addresses, and answers a datagram from the one that it was sent to; refuses to answer what comes from an echo
port, which would be answered for ever.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import NoReturn

from vxtool.lab.workloads.serving import port_of, serve, tcp

__all__ = ["listen"]

PORT = 7
PATIENCE = 3600.0  # seconds a connection may be silent
_LONGEST = 1 << 16
_IP_PKTINFO = 8  # <linux/in.h>; Python has no name for it


def listen(env: Mapping[str, str]) -> Callable[[], NoReturn]:
    port = port_of(env, PORT)
    streams, datagrams = tcp(port), _udp(port)
    return lambda: serve(
        streams, lambda *_: Echo(), patience=PATIENCE, others={datagrams.fileno(): lambda: _answer_datagrams(datagrams, {port, PORT})}
    )


class Echo:
    """A connection."""

    def heard(self, data: bytes) -> tuple[bytes, bool]:
        return data, True


def _udp(port: int) -> socket.socket:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    datagrams.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    datagrams.bind(("", port))
    return datagrams


def _answer_datagrams(datagrams: socket.socket, echoes: set[int]) -> None:
    for _ in range(64):
        try:
            data, control, _, peer = datagrams.recvmsg(_LONGEST, socket.CMSG_SPACE(12))
        except OSError:  # no more; or what an earlier answer met (ICMP)
            return
        if peer[1] in echoes:
            continue
        _, local, _ = struct.unpack("@I4s4s", control[0][2])
        # The device is left to the routes (0): an answer may leave by another one. The address is not: the peer knows only that one.
        source = (socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("@I4s4s", 0, local, bytes(4)))
        try:
            datagrams.sendmsg([data], [source], 0, peer)
        except OSError:  # no route, no room: datagrams are lost at times
            continue
