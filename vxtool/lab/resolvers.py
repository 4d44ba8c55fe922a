"""The resolvers of a lab: one process that answers at 127.0.0.11 in all sandboxes of all nodes, so that no flood of queries keeps an agent busy.

Knows what agents tell it over a unix socket and in which namespace a server is asked; decides no answer (vxtool.dns), and begins with nothing each
time it is started: the agents say everything again. What each node has heard is kept apart, because nodes may have heard different things.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import socket
import traceback
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from vxtool.dns.records import Binding, Records
from vxtool.dns.resolvconf import Upstream
from vxtool.dns.resolver import Resolver, Sandbox
from vxtool.dns.server import Dial, Limits, Server, Serving
from vxtool.errors import LabError
from vxtool.lab import agents, namespaces
from vxtool.lab.naming import PORT, SOCKET, Served
from vxtool.lab.saying import say
from vxtool.model import Engine
from vxtool.model.plain import revive

__all__ = ["LOCK", "NAME", "Resolvers"]

NAME = agents.RESOLVERS
LOCK = f"{NAME}.lock"
"""Held as long as the process lives; beside it NAME, in which its process id is."""

_LARGEST = 1 << 18  # bytes of a message: a name has a few hundred
_DESCRIPTORS = 2  # of a message
_SIOCGSKNS = 0x894C  # <linux/sockios.h>: the network namespace of a socket
_RESERVED = 256  # descriptors that no query may take


class Resolvers:
    """Made in the process that becomes the resolvers; `run` returns never."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        folder = Path(plan["folder"])
        lock = agents.lock(folder / LOCK)
        if lock is None:
            raise LabError("the resolvers run already")
        self._lock = lock
        agents.write(folder / NAME, {"pid": os.getpid()})
        self._server = Server(_limits())
        path = folder / SOCKET
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._server.watch(self._listener.fileno(), select.EPOLLIN, self._accept)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> None:
        while True:
            try:
                self._server.turn(None)
            except Exception:  # one query, or one word of an agent, is lost
                say(NAME, traceback.format_exc())

    def _accept(self, _: int) -> None:
        with suppress(OSError):
            connection, _peer = self._listener.accept()
            _Node(self._server, connection)


def _limits() -> Limits:
    """As many descriptors as this process may have; half of them for what is asked outside."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    default, free = Limits(), max(most - _RESERVED, _RESERVED)
    return Limits(all_forwards=min(default.all_forwards, free // 2), all_connections=min(default.all_connections, free // 8))


class _Node:
    """An agent that is connected: its node's names and sandboxes. They go when it hangs up."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        self._name = "?"
        self._engine = Engine.V19_03
        self._own: socket.socket | None = None  # in the node's namespace
        self._records = Records()
        self._resolver = Resolver(self._records)
        self._serving: dict[str, tuple[Serving, socket.socket]] = {}
        connection.setblocking(False)
        server.watch(connection.fileno(), select.EPOLLIN, self._ready)

    def _ready(self, _: int) -> None:
        try:
            message, descriptors, _flags, _address = socket.recv_fds(self._connection, _LARGEST, _DESCRIPTORS)
        except BlockingIOError:
            return None
        except OSError:
            message, descriptors = b"", []
        if not message:
            return self._end()
        received = [socket.socket(fileno=one) for one in descriptors]
        told = json.loads(message)
        try:
            self._hear(told, received)
        except Exception:
            say(NAME, f"{self._name} said {message[:200]!r}, which makes no sense: {traceback.format_exc(limit=-1)}")
            for one in received:
                one.close()
        return None

    def _hear(self, told: Mapping[str, Any], received: list[socket.socket]) -> None:
        (word, about), *_ = told.items()
        if word == "bind":
            self._bind(about)
        elif word == "unbind":
            self._records.unbind(*about)
        elif word == "serve":
            served, (udp, tcp) = revive(Served, about["served"]), received
            self._close(about["sandbox"])
            serving = self._server.open(_sandbox(served), self._resolver, self._engine, udp, tcp, self._dials(served, udp))
            self._serving[about["sandbox"]] = serving, udp
        elif word == "change":
            served = revive(Served, about["served"])
            serving, udp = self._serving[about["sandbox"]]
            serving.change(_sandbox(served), self._dials(served, udp))
        elif word == "close":
            self._close(about)
        elif word == "node":
            self._name, self._engine, (self._own,) = about, Engine(told["engine"]), received
            self._resolver = Resolver(self._records, self._engine)

    def _bind(self, told: Mapping[str, Any]) -> None:
        vip = told["vip"]
        self._records.bind(
            Binding(
                told["network"],
                told["endpoint"],
                told["container"],
                IPv4Address(told["address"]),
                told["service"],
                told["service_id"],
                None if vip is None else IPv4Address(vip),
                tuple(told["aliases"]),
                tuple(told["task_aliases"]),
            )
        )
        if told["disabled"]:
            self._records.disable(told["network"], told["endpoint"])

    def _dials(self, served: Served, udp: socket.socket) -> list[Dial]:
        return [lambda kind, one=one: _dial(one, kind, self._own if one.by_node else udp) for one in served.servers]  # type: ignore[misc]

    def _close(self, sandbox: str) -> None:
        if sandbox in self._serving:
            self._serving.pop(sandbox)[0].close()

    def _end(self) -> None:
        for sandbox in list(self._serving):
            self._close(sandbox)
        if self._own is not None:
            self._own.close()
        self._server.forget(self._connection.fileno())
        self._connection.close()


def _sandbox(served: Served) -> Sandbox:
    return Sandbox(served.networks, len(served.servers), served.ndots_set, served.external)


def _dial(server: Upstream, kind: socket.SocketKind, where: socket.socket | None) -> socket.socket:
    """A socket to a server, opened in the namespace of another socket; it connects without waiting."""
    if where is None:
        raise OSError("the node's namespace is not known")
    namespace = fcntl.ioctl(where, _SIOCGSKNS)
    try:
        with namespaces.inside(namespace):
            dialled = socket.socket(socket.AF_INET6 if ":" in server.address else socket.AF_INET, kind)
    finally:
        os.close(namespace)
    try:
        dialled.setblocking(False)
        with suppress(BlockingIOError):
            dialled.connect((server.address, PORT))
    except BaseException:
        dialled.close()
        raise
    return dialled
