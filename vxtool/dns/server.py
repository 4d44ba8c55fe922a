"""The resolver on its sockets: queries of many sandboxes over UDP and TCP, and what is asked of the servers outside.

Knows sockets, how long a client and a server may take, and how much of this process each sandbox may use; answers are the resolver's affair
(resolver.py), where sockets come from and what a namespace is that of whoever hands them over. One thread, which never waits for one client.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from vxtool.dns._serve import Batch
from vxtool.dns.resolver import MAX_SERVERS, Forward, Forwarding, Resolver, Sandbox, failure, is_reply
from vxtool.model import Engine

__all__ = ["Limits", "Server", "Serving"]

PATIENCE = 4.0  # seconds for reaching a server, and for its reply (resolver.go extIOTimeout)
IDLE = 8.0  # seconds that a TCP client may be silent (github.com/miekg/dns, server.go)
_LOOK = 0.25  # seconds between two looks at who has waited too long
_PIECE = 1 << 16
_REFUSED = 5

Reply = Callable[[bytes | None], None]
"""What a client gets; None: nothing."""

Dial = Callable[[socket.SocketKind], socket.socket]
"""A socket on its way to a server: connected, or not blocking and connecting. OSError when there is no way."""


@dataclass(frozen=True, slots=True)
class Limits:
    forwards: int = 1024  # of a sandbox at once (resolver.go maxConcurrent)
    waiting: int = 1024  # of a sandbox that are over the limit (today's engine lets them wait)
    all_forwards: int = 16384  # of all sandboxes: each has a descriptor
    connections: int = 64  # of a sandbox
    pending: int = 128  # queries of a connection that are asked elsewhere
    all_connections: int = 4096
    unsent: int = 1 << 18  # bytes for a TCP client that does not read, before nothing more is read from it


class _Waits(Protocol):
    due: float

    def expire(self) -> None: ...


class Server:
    """`open` for each sandbox; then `run`, or `turn` again and again."""

    def __init__(self, limits: Limits | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or Limits()
        self.now = now
        self.batch = Batch()
        self.forwards = self.connections = 0  # of all sandboxes
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int], None]] = {}
        self._waiting: dict[_Waits, None] = {}
        self._next_look = 0.0

    def open(self, sandbox: Sandbox, resolver: Resolver, engine: Engine, udp: socket.socket, tcp: socket.socket, servers: Sequence[Dial]) -> Serving:
        """Answers at these sockets (bound, and TCP listening) from now on. They belong to the server."""
        return Serving(self, sandbox, resolver, engine, udp, tcp, servers)

    def run(self) -> None:
        while True:
            self.turn(None)

    def turn(self, patience: float | None) -> None:
        """Everything that there is to do right now; waits for it at most so many seconds."""
        if self._waiting:
            patience = _LOOK if patience is None else min(patience, _LOOK)
        for descriptor, events in self._epoll.poll(patience):
            call = self._calls.get(descriptor)  # None: an earlier one has closed it
            if call is not None:
                call(events)
        now = self.now()
        if self._waiting and now >= self._next_look:
            self._next_look = now + _LOOK
            for one in [one for one in self._waiting if one.due <= now]:
                if one in self._waiting:  # an earlier one may have taken it along
                    one.expire()

    def close(self) -> None:
        """Nothing is left of it, when all that it serves is closed."""
        self._epoll.close()

    # -- for those who have a socket -------------------------------------------------------------------------------------

    def watch(self, descriptor: int, events: int, call: Callable[[int], None]) -> None:
        self._calls[descriptor] = call
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        if self._calls.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def wait(self, one: _Waits) -> None:
        """`one.expire` is called when `one.due` has come, a little late."""
        self._waiting[one] = None

    def done(self, one: _Waits) -> None:
        self._waiting.pop(one, None)


class Serving:
    """One sandbox that is served."""

    def __init__(
        self, server: Server, sandbox: Sandbox, resolver: Resolver, engine: Engine, udp: socket.socket, tcp: socket.socket, servers: Sequence[Dial]
    ) -> None:
        self.server = server
        self.engine = engine
        self.sandbox = sandbox
        self.servers = tuple(servers)[:MAX_SERVERS]
        self.connections: dict[_Connection, None] = {}
        self.forwards: dict[_Asking, None] = {}
        self.waiting: dict[_Asking, None] = {}  # for one of the forwards to end
        self._promoting = False
        self._resolver = resolver
        self._udp, self._tcp = udp, tcp
        self._number = udp.fileno()
        udp.setblocking(False)
        tcp.setblocking(False)
        server.watch(self._number, select.EPOLLIN, self._queries)
        server.watch(tcp.fileno(), select.EPOLLIN, self._accept)

    def change(self, sandbox: Sandbox, servers: Sequence[Dial]) -> None:
        """It is attached to other networks now, or has other servers; those who wait already wait for the ones from before."""
        self.sandbox, self.servers = sandbox, tuple(servers)[:MAX_SERVERS]

    def close(self) -> None:
        """Nobody is answered any more, and no socket of the sandbox stays open."""
        for asking in [*self.waiting, *self.forwards]:
            asking.end(None)
        for connection in list(self.connections):
            connection.close()
        for one in (self._udp, self._tcp):
            self.server.forget(one.fileno())
            one.close()

    def answer(self, query: bytes, tcp: bool, reply: Reply) -> None:
        """`reply` is called once, now or later."""
        found = self._resolver.answer(query, self.sandbox, tcp)
        if isinstance(found, Forward):
            _Asking(self, found, tcp, reply).begin()
        else:
            reply(found)

    def promote(self) -> None:
        """There is room: queries that wait are asked, until there is none."""
        if self._promoting:
            return
        self._promoting = True
        while self.waiting and len(self.forwards) < self.server.limits.forwards and self.server.forwards < self.server.limits.all_forwards:
            asking = next(iter(self.waiting))
            del self.waiting[asking]
            self.server.done(asking)
            asking.begin()
        self._promoting = False

    def _queries(self, _: int) -> None:
        for query, peer in self.server.batch.serve(self._number, self._resolver.table(self.sandbox)):
            self.answer(query, False, lambda reply, peer=peer: self._send(reply, peer))  # type: ignore[misc]

    def _send(self, reply: bytes | None, peer: tuple[str, int]) -> None:
        if reply is not None:
            with suppress(OSError):  # its buffer is full, the reply too long, or we are closed: datagrams get lost
                self._udp.sendto(reply, peer)

    def _accept(self, _: int) -> None:
        try:
            client, _peer = self._tcp.accept()
        except OSError:
            return
        if len(self.connections) >= self.server.limits.connections or self.server.connections >= self.server.limits.all_connections:
            client.close()
        else:
            _Connection(self, client)


class _Connection:
    """A client over TCP: messages that each come after their length (RFC 1035, section 4.2.2), as many as it likes, answered as answers come."""

    def __init__(self, serving: Serving, client: socket.socket) -> None:
        self.due = serving.server.now() + IDLE
        self._serving = serving
        self._server = serving.server
        self._client = client
        self._heard = bytearray()
        self._unsent = bytearray()
        self._pending = 0  # queries that are being asked elsewhere
        self._ended = False  # the client sends no more
        self._taking = False
        self._events = select.EPOLLIN
        client.setblocking(False)
        serving.connections[self] = None
        self._server.connections += 1
        self._server.watch(client.fileno(), self._events, self._ready)
        self._server.wait(self)

    def expire(self) -> None:
        self.close()

    def close(self) -> None:
        if self in self._serving.connections:
            del self._serving.connections[self]
            self._server.connections -= 1
            self._server.forget(self._client.fileno())
            self._server.done(self)
            self._client.close()

    def _ready(self, events: int) -> None:
        try:
            if events & ~select.EPOLLOUT and not self._ended:
                piece = self._client.recv(_PIECE)
                self.due = self._server.now() + IDLE
                self._heard += piece
                self._ended = not piece
        except BlockingIOError:
            pass
        except OSError:
            return self.close()
        return self._go_on()

    def _go_on(self) -> None:
        """Takes up what has come, sends what can be sent, and says what it waits for."""
        self._taking = True  # answers that come at once need not come back here
        taken = 0
        while not self._full and taken + 2 <= len(self._heard):
            end = taken + 2 + int.from_bytes(self._heard[taken : taken + 2], "big")
            if end > len(self._heard):
                break
            query, taken = bytes(self._heard[taken + 2 : end]), end
            self._pending += 1
            self._serving.answer(query, True, self._answered)
        del self._heard[:taken]
        self._taking = False
        try:
            while self._unsent:
                del self._unsent[: self._client.send(memoryview(self._unsent)[:_PIECE])]
        except BlockingIOError:
            pass
        except OSError:
            return self.close()
        if self._ended and not self._pending and not self._unsent:
            return self.close()
        events = (0 if self._ended or self._full else select.EPOLLIN) | (select.EPOLLOUT if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._server.change(self._client.fileno(), events)
        return None

    def _answered(self, reply: bytes | None) -> None:
        self._pending -= 1
        if reply is not None:
            self._unsent += len(reply).to_bytes(2, "big") + reply
        if not self._taking and self in self._serving.connections:
            self.due = self._server.now() + IDLE
            self._go_on()

    @property
    def _full(self) -> bool:
        """The client has to read, or to wait, before more of it is taken up."""
        limits = self._server.limits
        return len(self._unsent) > limits.unsent or self._pending >= limits.pending


class _Asking:
    """A query that is not ours to answer: the sandbox's servers are asked in turn, each over a socket of its own (resolver.go, forwardExtDNS).

    So what comes from elsewhere than the server does not come in; what comes from it must be a reply to this very question.
    """

    def __init__(self, serving: Serving, forward: Forward, tcp: bool, reply: Reply) -> None:
        self.due = 0.0
        self._serving = serving
        self._server = serving.server
        self._query = forward.query
        self._forwarding = Forwarding(forward, serving.engine)
        self._kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        self._reply = reply
        self._servers = iter(serving.servers)
        self._socket: socket.socket | None = None
        self._heard = bytearray()

    def begin(self) -> None:
        serving, limits = self._serving, self._server.limits
        if len(serving.forwards) < limits.forwards and self._server.forwards < limits.all_forwards:
            serving.forwards[self] = None
            self._server.forwards += 1
            self._next()
        elif serving.engine is Engine.TODAY and len(serving.waiting) < limits.waiting:
            self.due = self._server.now() + PATIENCE
            serving.waiting[self] = None
            self._server.wait(self)
        else:
            # 19.03 passes over each server, so that nobody is left to say anything.
            self._reply(failure(self._query, _REFUSED) if serving.engine is Engine.TODAY else None)

    def expire(self) -> None:
        if self in self._serving.waiting:
            self.end(failure(self._query, _REFUSED))
        else:
            self._heard_of(None)

    def end(self, reply: bytes | None) -> None:
        self._hang_up()
        self._server.done(self)
        self._serving.waiting.pop(self, None)
        if self in self._serving.forwards:
            del self._serving.forwards[self]
            self._server.forwards -= 1
            self._serving.promote()
        self._reply(reply)

    def _next(self) -> None:
        """Asks the next server that can be asked."""
        for dial in self._servers:
            try:
                self._socket = dial(self._kind)
                if self._kind is socket.SOCK_DGRAM:
                    self._socket.send(self._query)
            except OSError:
                self._hang_up()
                continue
            self.due = self._server.now() + PATIENCE
            self._server.wait(self)
            self._server.watch(self._socket.fileno(), select.EPOLLIN if self._kind is socket.SOCK_DGRAM else select.EPOLLOUT, self._ready)
            return
        self.end(self._forwarding.exhausted())

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._server.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _heard_of(self, reply: bytes | None) -> None:
        """A server has answered, or will not."""
        self._hang_up()
        answer = self._forwarding.replied(reply)
        if answer is None:
            self._next()
        else:
            self.end(answer)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            if self._kind is socket.SOCK_DGRAM:
                self._read_datagram(self._socket)
            elif events & select.EPOLLOUT:
                self._connected(self._socket)
            else:
                self._read_stream(self._socket)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there, or it cannot be reached
            self._heard_of(None)

    def _read_datagram(self, connected: socket.socket) -> None:
        message = connected.recv(_PIECE)
        if is_reply(self._query, message):  # anything else was sent by somebody who guesses
            self._heard_of(message)

    def _connected(self, connected: socket.socket) -> None:
        number = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, "")
        connected.send(len(self._query).to_bytes(2, "big") + self._query)  # the first bytes of a connection: there is room
        self.due = self._server.now() + PATIENCE
        self._server.change(connected.fileno(), select.EPOLLIN)

    def _read_stream(self, connected: socket.socket) -> None:
        piece = connected.recv(_PIECE)
        self._heard += piece
        size = int.from_bytes(self._heard[:2], "big")
        if len(self._heard) >= 2 + size > 2:
            message = bytes(self._heard[2 : 2 + size])
            self._heard.clear()
            self._heard_of(message if is_reply(self._query, message) else None)
        elif not piece:
            self._heard.clear()
            self._heard_of(None)
