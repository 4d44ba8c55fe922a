"""Gossip on sockets: port 7946 of a node, UDP and TCP, for the machine that knows what is to be said.

Knows sockets and how long an exchange may take; nothing of members and records (vxtool.swarm.gossip). Never waits: the agent's loop calls.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress

from vxtool.swarm.gossip import Gossip

__all__ = ["PORT", "Gossiping"]

PORT = 7946
LONGEST = 64 << 20  # bytes of an exchange: 100,000 records are 20 MB
MOST_HEARD = 128 << 20  # bytes of all exchanges together: whoever reaches the port can send some
MOST = 64  # exchanges that others may have with us at a time
PATIENCE = 10.0
_PIECE = 1 << 16
_AT_ONCE = 500  # datagrams that are read before anything else is done


class Gossiping:
    def __init__(self, gossip: Gossip, address: str, selector: selectors.BaseSelector, now: Callable[[], float]) -> None:
        """OSError when the port is somebody else's. The calling thread is in the node's namespace."""
        self._gossip = gossip
        self._selector = selector
        self._now = now
        self._exchanges: dict[_Exchange, None] = {}
        self._datagrams, self._listener = _bound(address)
        self._datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._listener.listen(MOST)
        selector.register(self._datagrams, selectors.EVENT_READ, self._read)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @staticmethod
    def check(address: str) -> None:
        """OSError when the port is somebody else's."""
        for one in _bound(address):
            one.close()

    def go_on(self) -> None:
        """Ends exchanges that take too long, and sends what is to be sent."""
        now = self._now()
        for exchange in [one for one in self._exchanges if one.until <= now]:
            exchange.end(None)
        for address, request in self._gossip.exchanges():
            self._ask(address, request)
        for address, datagram in self._gossip.datagrams():
            with suppress(OSError):  # full buffers and missing routes are what gossip is made for
                self._datagrams.sendto(datagram, (address, PORT))

    def next_due(self) -> float | None:
        return min((one.until for one in self._exchanges), default=None)

    def close(self) -> None:
        for exchange in list(self._exchanges):
            exchange.end(None)
        for one in (self._datagrams, self._listener):
            self._selector.unregister(one)
            one.close()

    def _read(self, _: int) -> None:
        now = self._now()
        for _again in range(_AT_ONCE):
            try:
                datagram = self._datagrams.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of something sent before
                continue
            self._gossip.receive(datagram, now)

    def _accept(self, _: int) -> None:
        try:
            connection, _peer = self._listener.accept()
        except OSError:
            return
        if len(self._exchanges) >= MOST:
            connection.close()
            return
        connection.setblocking(False)
        self._begin(connection, None, self._answer)

    def _answer(self, exchange: _Exchange, request: bytes | None) -> None:
        if request is None:
            return exchange.close()
        return exchange.reply(self._gossip.answer(request, self._now()))

    def _ask(self, address: str, request: bytes) -> None:
        connection = socket.socket()
        connection.setblocking(False)

        def done(exchange: _Exchange, reply: bytes | None) -> None:
            exchange.close()
            self._gossip.answered(address, reply or None, self._now())

        try:
            connection.connect((address, PORT))
        except BlockingIOError:
            pass
        except OSError:
            connection.close()
            return self._gossip.answered(address, None, self._now())
        return self._begin(connection, request, done)

    def _begin(self, connection: socket.socket, request: bytes | None, done: Callable[[_Exchange, bytes | None], None]) -> None:
        exchange = _Exchange(connection, request, self._now() + PATIENCE, self._selector, done, self._exchanges)
        self._exchanges[exchange] = None


def _bound(address: str) -> tuple[socket.socket, socket.socket]:
    """Sockets at the port, UDP and TCP."""
    datagrams, listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (datagrams, listener):
            one.setblocking(False)
            one.bind((address, PORT))
    except OSError:
        datagrams.close()
        listener.close()
        raise
    return datagrams, listener


class _Exchange:
    """One connection: all of one side, then all of the other."""

    def __init__(
        self,
        connection: socket.socket,
        request: bytes | None,
        until: float,
        selector: selectors.BaseSelector,
        done: Callable[[_Exchange, bytes | None], None],
        exchanges: dict[_Exchange, None],
    ) -> None:
        self.until = until
        self._connection = connection
        self._selector = selector
        self._done = done
        self._exchanges = exchanges
        self._heard = bytearray()
        self._unsent = bytearray(request or b"")
        self._asks = request is not None
        selector.register(connection, selectors.EVENT_WRITE if self._asks else selectors.EVENT_READ, self._ready)

    def reply(self, answer: bytes) -> None:
        self._unsent += answer
        self._selector.modify(self._connection, selectors.EVENT_WRITE, self._ready)

    def end(self, heard: bytes | None) -> None:
        if self in self._exchanges:
            self._done(self, heard)

    def close(self) -> None:
        if self._exchanges.pop(self, 0) is None:
            self._selector.unregister(self._connection)
            self._connection.close()

    def _ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._send()
            else:
                self._receive()
        except BlockingIOError:
            return
        except OSError:
            self.end(None)

    def _send(self) -> None:
        sent = self._connection.send(memoryview(self._unsent)[: 4 * _PIECE])
        del self._unsent[:sent]
        if self._unsent:
            return None
        if not self._asks:
            return self.close()
        self._connection.shutdown(socket.SHUT_WR)
        self._selector.modify(self._connection, selectors.EVENT_READ, self._ready)
        return None

    def _receive(self) -> None:
        piece = self._connection.recv(_PIECE)
        self._heard += piece
        if len(self._heard) > LONGEST or sum(len(one._heard) for one in self._exchanges) > MOST_HEARD:
            return self.end(None)
        if not piece:
            self.end(bytes(self._heard))
        return None
