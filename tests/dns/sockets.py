"""A sandbox's resolver on real sockets, with servers outside, all in one thread: each turn of its loop is a turn of the test's."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from vxtool.dns.records import Records
from vxtool.dns.resolver import Resolver, Sandbox
from vxtool.dns.server import Dial, Limits, Server, Serving
from vxtool.model import Engine

__all__ = ["Outside", "World", "framed", "world"]

LOOPBACK = "127.0.0.1"
INSIDE = Sandbox(("net",))


def framed(message: bytes) -> bytes:
    """As TCP carries it."""
    return len(message).to_bytes(2, "big") + message


def _pair() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP at one port that is free for both."""
    while True:
        udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
        udp.bind((LOOPBACK, 0))
        try:
            tcp.bind((LOOPBACK, udp.getsockname()[1]))
        except OSError:  # somebody has this one over TCP
            udp.close()
            tcp.close()
            continue
        return udp, tcp


class Outside:
    """A server of the sandbox, over UDP and TCP; `reply` says what it answers, and None keeps it silent."""

    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self.reply = reply
        self.udp, self.tcp = _pair()
        self.port = self.udp.getsockname()[1]
        self.tcp.listen(64)
        for one in (self.udp, self.tcp):
            one.setblocking(False)
        self.clients: list[socket.socket] = []
        self.asked: list[tuple[bytes, tuple[str, int]]] = []  # over UDP: query and from where

    def dial(self, kind: socket.SocketKind) -> socket.socket:
        dialled = socket.socket(socket.AF_INET, kind)
        dialled.setblocking(False)
        with suppress(BlockingIOError):
            dialled.connect((LOOPBACK, self.port))
        return dialled

    def turn(self) -> None:
        if self.udp.fileno() < 0:
            return
        try:
            while True:
                query, peer = self.udp.recvfrom(65535)
                self.asked.append((query, peer))
                reply = self.reply(query)
                if reply is not None:
                    self.udp.sendto(reply, peer)
        except BlockingIOError:
            pass
        try:
            while True:
                client, _ = self.tcp.accept()
                client.setblocking(False)
                self.clients.append(client)
        except BlockingIOError:
            pass
        for client in self.clients:
            try:
                heard = client.recv(65535)
            except (BlockingIOError, ConnectionResetError):
                continue
            reply = self.reply(heard[2:]) if heard else None
            if reply is not None:
                client.send(framed(reply))

    def close(self) -> None:
        for one in (self.udp, self.tcp, *self.clients):
            one.close()


class World:
    def __init__(self, records: Records, sandbox: Sandbox, engine: Engine, outside: Sequence[Outside], limits: Limits | None) -> None:
        self.server = Server(limits)
        self.records = records
        self.outside = list(outside)
        udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
        udp.bind((LOOPBACK, 0))
        tcp.bind((LOOPBACK, 0))
        tcp.listen(64)
        self.udp, self.tcp = udp.getsockname(), tcp.getsockname()
        self.serving: Serving = self.server.open(sandbox, Resolver(records, engine), engine, udp, tcp, self.dials)
        self.sockets: list[socket.socket] = []

    @property
    def dials(self) -> list[Dial]:
        return [one.dial for one in self.outside]

    def client(self, tcp: bool = False) -> socket.socket:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        client.connect(self.tcp if tcp else self.udp)
        client.setblocking(False)
        self.sockets.append(client)
        return client

    def turn(self) -> None:
        self.server.turn(0.002)
        for one in self.outside:
            one.turn()

    def until(self, seen: Callable[[], object], seconds: float = 5.0) -> bool:
        """Whether it comes to be so in that time."""
        end = time.monotonic() + seconds
        while not seen():
            if time.monotonic() > end:
                return False
            self.turn()
        return True

    def heard(self, client: socket.socket, seconds: float = 5.0) -> bytes | None:
        """The next datagram; None: there is none in that time."""
        got: list[bytes] = []

        def look() -> bool:
            try:
                got.append(client.recv(65535))
            except BlockingIOError:
                return False
            return True

        return got[0] if self.until(look, seconds) else None

    def stream(self, client: socket.socket, count: int = 1, seconds: float = 5.0) -> list[bytes]:
        """So many messages over TCP, or those that come in that time, or before it is closed."""
        heard, messages, ended = bytearray(), [], False

        def look() -> bool:
            nonlocal ended
            try:
                piece = client.recv(65535)
                ended = not piece
                heard.extend(piece)
            except BlockingIOError:
                pass
            except ConnectionResetError:
                ended = True
            while len(heard) >= 2 and len(heard) >= 2 + int.from_bytes(heard[:2], "big"):
                size = int.from_bytes(heard[:2], "big")
                messages.append(bytes(heard[2 : 2 + size]))
                del heard[: 2 + size]
            return ended or len(messages) >= count

        self.until(look, seconds)
        return messages

    def ask(self, query: bytes, tcp: bool = False, seconds: float = 5.0) -> bytes | None:
        client = self.client(tcp)
        client.send(framed(query) if tcp else query)
        if not tcp:
            return self.heard(client, seconds)
        return next(iter(self.stream(client, 1, seconds)), None)

    def close(self) -> None:
        self.serving.close()
        self.server.close()
        for one in (*self.sockets, *self.outside):
            one.close()


@contextmanager
def world(
    records: Records,
    sandbox: Sandbox = INSIDE,
    engine: Engine = Engine.V19_03,
    outside: Sequence[Callable[[bytes], bytes | None]] = (),
    limits: Limits | None = None,
) -> Iterator[World]:
    made = World(records, sandbox, engine, [Outside(reply) for reply in outside], limits)
    try:
        yield made
    finally:
        made.close()
