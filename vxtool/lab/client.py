"""Asking a running lab: one JSON object a line, over the socket in its folder.

Knows how questions, answers and errors travel; not what can be asked (lab/operations.py).

    {"do": "attach", "key": "5f0c...", "arguments": {...}}      a question; `key` tells a repeated question from a new one
    {"progress": [1200, 98000]}                                 steps done, of how many; as often as the supervisor likes
    {"answer": ...}  or  {"error": {"kind": "UsageError", "text": "..."}}
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vxtool.errors import LabError, MissingFeature, UsageError

if TYPE_CHECKING:
    from vxtool.lab.registry import Running
    from vxtool.lab.topology import Topology
    from vxtool.model import Cluster
    from vxtool.swarm.client import SwarmClient

__all__ = ["call", "cluster", "listen", "swarm", "topology", "topology_and_cluster"]

Progress = Callable[[int, int], None]

_KINDS = {error.__name__: error for error in (UsageError, LabError, MissingFeature)}
_PATIENCE = 300.0  # seconds without a word: the largest step of the largest lab is far below
_TRIES = 3


def call(running: Running, do: str, /, *, progress: Progress | None = None, **arguments: Any) -> Any:
    """Asks the lab's supervisor and waits for its answer, a JSON value.

    A supervisor that dies over the question is started again by the leader and asked again: the key keeps it from doing twice what it had already
    written down. UsageError, LabError and MissingFeature come back as themselves; LabError when nobody answers.
    """
    question = json.dumps({"do": do, "key": os.urandom(16).hex(), "arguments": arguments}).encode() + b"\n"
    for _ in range(_TRIES):
        try:
            return _ask(running, question, progress)
        except (ConnectionResetError, BrokenPipeError, EOFError):
            continue
        except (ConnectionRefusedError, FileNotFoundError):
            break
        except TimeoutError:
            raise LabError(f"lab {running.name} has not answered {do!r} for {_PATIENCE:.0f} s; {_log(running)}") from None
    if not running.folder.exists() or (running.folder / "down").exists():  # somebody is ending it
        raise LabError(f"lab {running.name} has ended meanwhile")
    raise LabError(f"lab {running.name} does not answer; {_log(running)}")


def topology(running: Running) -> Topology:
    """The underlay as it stands: links with the impairments they have now."""
    return _topology(call(running, "state"))


def cluster(running: Running) -> Cluster:
    """What the lab should be at this moment."""
    return _cluster(call(running, "state"))


def topology_and_cluster(running: Running) -> tuple[Topology, Cluster]:
    """Both of the same moment."""
    state = call(running, "state")
    return _topology(state), _cluster(state)


def _topology(state: Mapping[str, Any]) -> Topology:
    from vxtool.lab.topology import Topology
    from vxtool.model.plain import revive

    return revive(Topology, state["topology"])


def _cluster(state: Mapping[str, Any]) -> Cluster:
    from vxtool.model import Cluster
    from vxtool.model.plain import revive

    return revive(Cluster, state["cluster"])


def swarm(running: Running) -> SwarmClient:
    """The lab's swarm, to be asked; of a lab that has none, to be begun."""
    from vxtool.swarm.client import SwarmClient

    def ask(do: str, /, **arguments: Any) -> Any:
        return call(running, "swarm", do=do, arguments=arguments)

    return SwarmClient(ask)


def listen(folder: os.PathLike[str] | str) -> socket.socket:
    """The socket that `call` speaks to, for the one who starts a lab: whoever calls before the supervisor is there waits in its queue."""
    server = socket.socket(socket.AF_UNIX)
    with _reachable(folder) as path:
        server.bind(path)
        os.chmod(path, 0o600)
    server.listen(128)
    return server


def _ask(running: Running, question: bytes, progress: Progress | None) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        with _reachable(running.folder) as path:
            connection.connect(path)
        connection.sendall(question)
        for line in connection.makefile("rb"):
            message = json.loads(line)
            if "progress" in message:
                if progress is not None:
                    progress(*message["progress"])
            elif "error" in message:
                raise _KINDS.get(message["error"]["kind"], LabError)(message["error"]["text"])
            else:
                return message["answer"]
    raise EOFError


@contextmanager
def _reachable(folder: os.PathLike[str] | str) -> Iterator[str]:
    """The socket's path through an open folder: a path of its own may be longer than the 107 bytes that a socket's address has (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/api.sock"
    finally:
        os.close(descriptor)


def _log(running: Running) -> str:
    return f"{running.folder / 'log'} says more, vxtool lab down {running.name} ends it"
