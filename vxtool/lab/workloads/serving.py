"""A TCP server in one thread: many conversations, each a function from what was heard to what is said.

Knows sockets and readiness; what is said over them is for httpd and echo. Nobody can make it wait, and nobody can make it hoard: who does not read
what was said to him is not listened to, who says nothing for a while is hung up on, and who comes when all places are taken waits in the queue.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from vxtool.errors import UsageError

__all__ = ["Conversation", "Stream", "port_of", "serve", "tcp", "write"]

PLACES = 400  # conversations at a time: a process may have 1024 open files on most machines
_UNREAD = 256 << 10  # bytes said and not taken after which a conversation is not heard any more until they are
_PIECE = 64 << 10


class Conversation(Protocol):
    """One side of a TCP connection, told what the other side says."""

    def heard(self, data: bytes) -> tuple[bytes, bool]:
        """What to answer, and whether to go on after that. `data` is empty when the other side has said all it will."""


def port_of(env: Mapping[str, str], otherwise: int) -> int:
    """The port to listen on: $PORT. UsageError when that is none."""
    text = env.get("PORT", "")
    if not text:
        return otherwise
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise UsageError(f"PORT={text}: a number from 1 to 65535 is wanted")
    return int(text)


def tcp(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(1024)
    return listener


def write(text: str) -> None:
    """A line for the log of the container. Nobody may read it any more: then it is lost."""
    try:
        os.write(1, text.encode(errors="backslashreplace") + b"\n")
    except OSError:
        return


class Stream:
    """A TCP connection with what is still to be sent over it."""

    def __init__(self, connection: socket.socket, conversation: Conversation) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.last = time.monotonic()
        self._conversation = conversation
        self._unsent = b""
        self._going_on = True

    @property
    def wants(self) -> int:
        """What to wait for; 0 when it is over."""
        hears = select.EPOLLIN if self._going_on and len(self._unsent) < _UNREAD else 0
        return hears | (select.EPOLLOUT if self._unsent else 0)

    def ready(self, events: int) -> None:
        self.last = time.monotonic()
        try:
            if events & ~select.EPOLLOUT and self._going_on:
                self._hear()
            self._say()
        except BlockingIOError:
            return
        except OSError:  # reset, timed out, no route any more
            self._unsent, self._going_on = b"", False

    def _hear(self) -> None:
        data = self.connection.recv(_PIECE)
        answer, going_on = self._conversation.heard(data)
        self._unsent += answer
        self._going_on = going_on and bool(data)

    def _say(self) -> None:
        while self._unsent:
            sent = self.connection.send(self._unsent)
            self._unsent = self._unsent[sent:]


def serve(
    listener: socket.socket,
    begin: Callable[[socket.socket, str], Conversation],
    *,
    patience: float,
    others: Mapping[int, Callable[[], None]] | None = None,
) -> NoReturn:
    """For ever. `begin` is told of each new connection and its peer's address; `patience`: seconds of silence after which one is closed;
    `others`: further descriptors, each with what to do when it can be read."""
    others = others or {}
    poll = select.epoll()
    for fd in (listener.fileno(), *others):
        poll.register(fd, select.EPOLLIN)
    streams: dict[int, Stream] = {}
    listening, looked = True, time.monotonic()
    while True:
        for fd, events in poll.poll(patience if streams else None):
            if fd in others:
                others[fd]()
            elif fd == listener.fileno():
                for stream in _accepted(listener, begin, PLACES - len(streams)):
                    streams[stream.connection.fileno()] = stream
                    poll.register(stream.connection, stream.wants)
            else:
                stream = streams[fd]
                stream.ready(events)
                if stream.wants:
                    poll.modify(fd, stream.wants)
                else:
                    _close(poll, streams, fd)
        now = time.monotonic()
        if now - looked > patience / 4:
            looked = now
            for fd in [fd for fd, stream in streams.items() if now - stream.last > patience]:
                _close(poll, streams, fd)
        if listening != (len(streams) < PLACES):
            listening = not listening
            poll.modify(listener, select.EPOLLIN if listening else 0)


def _accepted(listener: socket.socket, begin: Callable[[socket.socket, str], Conversation], most: int) -> list[Stream]:
    found: list[Stream] = []
    while len(found) < min(most, 64):
        try:
            connection, peer = listener.accept()
        except OSError:  # nobody else; or somebody who has already gone
            break
        found.append(Stream(connection, begin(connection, peer[0])))
    return found


def _close(poll: select.epoll, streams: dict[int, Stream], fd: int) -> None:
    stream = streams.pop(fd)
    poll.unregister(fd)
    _hang_up(stream.connection)


def _hang_up(connection: socket.socket) -> None:
    """Without a reset: what the other side still sends is not answered by one, which could overtake our last words (RFC 9112, section 9.6)."""
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.recv(_PIECE)
    except OSError:
        pass
    connection.close()
