"""The agents of a lab, as the supervisor sees them: starting one, whether it lives, ending it, what is written down of it.

Knows the warm parent from which agents are forked, and the folder in which each writes who it is; nothing of what an agent does (agent.py).

    swarm/agents/NODE          JSON: pid, node id, secret, the manager's address; written by the agent
    swarm/agents/NODE.lock     held (flock) by the agent as long as it lives
    swarm/agents/NODE.made     what it has made in the kernel, written down before: who comes after it takes that away
    swarm/resolvers, .lock     the same of the process that answers names for all of them (resolvers.py)
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vxtool.errors import LabError
from vxtool.lab.saying import say

__all__ = ["RESOLVERS", "Agents", "lock", "read", "write"]

RESOLVERS = "resolvers"

END_PATIENCE = 60.0  # seconds that an agent which leaves may take to end its containers: as long as the longest grace it has, and more
_BOOT = ("-P", "-S", "-c", "import gc; gc.disable(); from vxtool.lab.nursery import main; main()")


class Agents:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nursery: subprocess.Popen[bytes] | None = None
        self._alone = threading.Lock()

    def start(self, node: str, plan: dict[str, Any]) -> None:
        """Forks the node's agent, which finds its way from there. LabError when it cannot be."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone:
            answer = self._ask(plan) or self._ask(plan)  # a nursery that has died is started again
        if answer is None or "error" in answer:
            raise LabError(f"the agent of {node} cannot be started: {answer['error'] if answer else 'its parent has died'}")

    def start_resolvers(self) -> int | None:
        """Forks the lab's resolvers unless they run. A descriptor that can be read when they have ended; None when they cannot be started."""
        folder = self._folder.parent
        if not _held(folder / f"{RESOLVERS}.lock"):
            with self._alone:
                answer = self._ask({"name": RESOLVERS, "folder": str(folder)})
            if answer is None or "error" in answer:
                say("manager", f"the resolvers cannot be started: {answer['error'] if answer else 'their parent has died'}")
        with suppress(KeyError, ProcessLookupError):
            return os.pidfd_open(read(folder / RESOLVERS)["pid"])
        return None

    def _ask(self, plan: dict[str, Any]) -> dict[str, Any] | None:
        if self._nursery is None or self._nursery.poll() is not None:
            self._nursery = subprocess.Popen([sys.executable, *_BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        nursery = self._nursery
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        try:
            nursery.stdin.write(json.dumps(plan).encode() + b"\n")
            nursery.stdin.flush()
            answer = nursery.stdout.readline()
        except OSError:
            answer = b""
        if answer:
            told: dict[str, Any] = json.loads(answer)
            return told
        nursery.kill()
        nursery.wait()
        self._nursery = None
        return None

    def record(self, node: str) -> dict[str, Any]:
        """What the node's agent has written of itself; {} when it is in no swarm."""
        return read(self._folder / node)

    def alive(self, node: str) -> bool:
        return _held(self._folder / f"{node}.lock")

    def end(self, node: str, number: int) -> None:
        """Sends the agent a signal and waits until it has ended."""
        pid = self.record(node).get("pid")
        if pid is None:
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.alive(node):  # its lock tells that it is still this process
                signal.pidfd_send_signal(process, number)
                if not select.select([process], [], [], END_PATIENCE)[0]:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
        for _ in range(200):
            if not self.alive(node):
                return
            time.sleep(0.01)

    def forget(self, node: str) -> None:
        """The node is in no swarm any more. What its agent had made stays written down while it stands."""
        (self._folder / node).unlink(missing_ok=True)


def _held(path: Path) -> bool:
    descriptor = lock(path, make=False)
    if descriptor is None:
        return path.exists()
    os.close(descriptor)
    return False


def lock(path: Path, make: bool = True) -> int | None:
    """The lock, taken; None when somebody has it, or (without `make`) nobody ever had."""
    try:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def read(path: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError, ValueError):
        told: dict[str, Any] = json.loads(path.read_text())
        return told
    return {}


def write(path: Path, facts: dict[str, Any]) -> None:
    """Whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(facts))
    new.rename(path)
