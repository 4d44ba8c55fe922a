"""What a node tells the lab's resolvers: the names it has heard of, and the sockets at 127.0.0.11 of its sandboxes.

Knows one connection and what has to be said again when it was lost; what a name stands for, and who is asked outside, is decided in the resolvers'
process (resolvers.py). Never waits: the agent's loop calls.
"""

from __future__ import annotations

import json
import selectors
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vxtool.dns.resolvconf import ADDRESS, Upstream
from vxtool.errors import LabError
from vxtool.lab import namespaces, nft
from vxtool.lab.saying import say
from vxtool.model import Engine
from vxtool.model.plain import plain
from vxtool.swarm.timers import Timers

__all__ = ["SOCKET", "Naming", "Served"]

SOCKET = "resolvers.sock"
"""In the swarm's folder; a message is one JSON object, and with it the descriptors it speaks of."""

PORT = 53
BACKLOG = 64
_AGAIN = 0.05  # seconds until the resolvers are looked for again: they are started when they have ended


@dataclass(frozen=True, slots=True)
class Served:
    """A sandbox as its resolver has to know it."""

    networks: tuple[str, ...]  # by name, in the order in which they are searched
    servers: tuple[Upstream, ...]
    ndots_set: bool
    external: bool  # False: only internal networks


class Naming:
    """One node's. It has been told everything when the resolvers are there, and until then remembers."""

    def __init__(self, node: str, folder: Path, engine: Engine, selector: selectors.BaseSelector, timers: Timers) -> None:
        """The calling thread is in the node's namespace."""
        self._node = node
        self._path = folder / SOCKET
        self._engine = engine
        self._selector = selector
        self._timers = timers
        self._names: dict[tuple[str, str], Mapping[str, Any]] = {}  # (network id, key) -> binding
        self._served: dict[str, tuple[Served, socket.socket, socket.socket]] = {}  # sandbox -> with its sockets, UDP and TCP
        # What the resolvers need of the node's namespace: with a socket in it they can open others there.
        self._own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._connection: socket.socket | None = None
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._complained = False
        self._connect()

    # -- names -----------------------------------------------------------------------------------------------------------

    def set(self, network: str, name: str, key: str, record: Mapping[str, Any]) -> None:
        """An endpoint of a network (its id and name), as gossip has it. ValueError, KeyError or TypeError when the record makes no sense."""
        vips = [address for id, address in record["vips"] if id == network]
        binding = {
            "network": name,
            "endpoint": key,
            "container": str(record["name"]),
            "address": str(record["address"]),
            "service": str(record["service"]),
            "service_id": str(record["service_id"]),
            "vip": str(vips[0]).partition("/")[0] if vips else None,
            "aliases": [str(one) for one in record["aliases"]],
            "task_aliases": [str(one) for one in record["task_aliases"]],
            "disabled": bool(record.get("disabled")),
        }
        if self._names.get((network, key)) != binding:
            self._names[network, key] = binding
            self._say({"bind": binding})

    def drop(self, network: str, key: str) -> None:
        binding = self._names.pop((network, key), None)
        if binding is not None:
            self._say({"unbind": [binding["network"], binding["endpoint"]]})

    def forget(self, network: str) -> None:
        """The node is not in this network any more."""
        for id, key in [known for known in self._names if known[0] == network]:
            self.drop(id, key)

    # -- sandboxes -------------------------------------------------------------------------------------------------------

    def serve(self, sandbox: str, namespace: str, served: Served) -> None:
        """From now on 127.0.0.11 answers in the sandbox. LabError when the kernel refuses."""
        try:
            with namespaces.inside(namespaces.NETNS / namespace):
                udp, tcp = _listen()
                refused = nft.load(_rules(udp.getsockname()[1], tcp.getsockname()[1]))
        except OSError as error:
            raise LabError(f"{sandbox}: no resolver at {ADDRESS}: {(error.strerror or str(error)).lower()}") from error
        if refused is not None:
            udp.close()
            tcp.close()
            raise LabError(f"{sandbox}: the rules that lead to its resolver are refused: {refused}")
        self._served[sandbox] = served, udp, tcp
        self._say_served(sandbox)

    def attached(self, sandbox: str, networks: tuple[str, ...], external: bool) -> None:
        """Its networks are others now."""
        if sandbox in self._served:
            served, udp, tcp = self._served[sandbox]
            served = replace(served, networks=networks, external=external)
            self._served[sandbox] = served, udp, tcp
            self._say({"change": {"sandbox": sandbox, "served": plain(served)}})

    def close(self, sandbox: str) -> None:
        """Nobody answers there any more."""
        if sandbox in self._served:
            _, udp, tcp = self._served.pop(sandbox)
            # What was not sent yet must not go with the numbers of other files.
            self._unsent = deque(one for one in self._unsent if udp.fileno() not in one[1])
            udp.close()
            tcp.close()
            self._say({"close": sandbox})

    # -- the connection --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            if not self._complained:
                self._complained = True
                say(f"agent of {self._node}", f"the resolvers are not there ({(error.strerror or str(error)).lower()}); it goes on looking for them")
            self._timers.after(_AGAIN, self._connect)
            return
        self._complained = False
        self._connection = connection
        self._selector.register(connection, selectors.EVENT_READ, self._ready)
        self._say({"node": self._node, "engine": self._engine}, [self._own.fileno()])
        for binding in self._names.values():
            self._say({"bind": binding})
        for sandbox in self._served:
            self._say_served(sandbox)

    def _say_served(self, sandbox: str) -> None:
        served, udp, tcp = self._served[sandbox]
        self._say({"serve": {"sandbox": sandbox, "served": plain(served)}}, [udp.fileno(), tcp.fileno()])

    def _say(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        if self._connection is not None:
            self._unsent.append((json.dumps(message).encode(), list(descriptors)))
            self._flush()

    def _flush(self) -> None:
        if self._connection is None:
            return None
        try:
            while self._unsent:
                message, descriptors = self._unsent[0]
                socket.send_fds(self._connection, [message], descriptors)
                self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            return self._lost()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._connection).events != wanted:
            self._selector.modify(self._connection, wanted, self._ready)
        return None

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            try:
                told = b"" if self._connection is None else self._connection.recv(1 << 16)
            except BlockingIOError:
                told = b"."
            except OSError:
                told = b""
            if not told:
                return self._lost()
        return self._flush()

    def _lost(self) -> None:
        if self._connection is not None:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None
            self._unsent.clear()
            self._timers.after(_AGAIN, self._connect)


def _listen() -> tuple[socket.socket, socket.socket]:
    """At random ports of 127.0.0.11 in the present namespace, UDP and TCP."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    try:
        udp.bind((str(ADDRESS), 0))
        tcp.bind((str(ADDRESS), 0))
        tcp.listen(BACKLOG)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def _rules(udp: int, tcp: int) -> str:
    """resolver_unix.go: what is sent to port 53 goes to the random ports, and what comes back seems to come from port 53."""
    to, by = f"ip daddr {ADDRESS}", f"ip saddr {ADDRESS}"
    return (
        "table ip docker_dns {"
        f"\n chain OUTPUT {{ type nat hook output priority -100; policy accept; {to} jump DOCKER_OUTPUT; }}"
        f"\n chain POSTROUTING {{ type nat hook postrouting priority 100; policy accept; {to} jump DOCKER_POSTROUTING; }}"
        f"\n chain DOCKER_OUTPUT {{ {to} tcp dport {PORT} dnat to {ADDRESS}:{tcp}; {to} udp dport {PORT} dnat to {ADDRESS}:{udp}; }}"
        f"\n chain DOCKER_POSTROUTING {{ {by} tcp sport {tcp} snat to :{PORT}; {by} udp sport {udp} snat to :{PORT}; }}"
        "\n}"
    )
