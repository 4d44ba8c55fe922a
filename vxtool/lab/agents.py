"""The agents of a lab, as the supervisor sees them: starting one, whether it lives, ending it, what is written down of it.

Knows the warm parent from which agents are forked, and the folder in which each writes who it is; nothing of what an agent does (agent.py).

    swarm/agents/NODE          JSON: pid, node id, secret, the manager's address; written by the agent
    swarm/agents/NODE.lock     held by the agent as long as it lives; whoever asks the kernel who holds it is told its process id, and disturbs nobody
    swarm/agents/NODE.made     what it has made in the kernel, written down before: who comes after it takes that away
    swarm/agents/NODE.asked    JSON: the key of the question that last had the node join or leave, or its agent begin or end
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vxtool.errors import LabError
from vxtool.lab.programs import lock_holder
from vxtool.lab.saying import say

__all__ = ["RESOLVERS", "Agents", "lock", "read", "write"]

RESOLVERS = "resolvers"

END_PATIENCE = 60.0  # seconds that an agent which leaves may take to end its containers; then they are killed
LAST_PATIENCE = 10.0  # seconds that it may take then; measured 0.1
_BOOT = ("-P", "-S", "-c", "import gc; gc.disable(); from vxtool.lab.nursery import main; main()")


class Agents:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nursery: subprocess.Popen[bytes] | None = None
        self._alone = threading.Lock()

    def start(self, node: str, plan: dict[str, Any]) -> None:
        """Forks the node's agent, which finds its way from there. LabError when it cannot be."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._do(plan, f"the agent of {node} cannot be started")
        except LabError:
            if not self.alive(node) and not self.record(node).get("id"):
                self.forget(node)  # it has not come to join anything
            raise

    def start_resolvers(self) -> int | None:
        """Forks the lab's resolvers unless they run. A descriptor that can be read when they have ended; None when they cannot be started."""
        folder = self._folder.parent
        if not _held(folder / f"{RESOLVERS}.lock"):
            with self._alone:
                answer = self._ask({"name": RESOLVERS, "folder": str(folder)})
            if answer is None or "error" in answer:
                say("manager", f"the resolvers cannot be started: {answer['error'] if answer else self._died}")
        with suppress(KeyError, ProcessLookupError):
            return os.pidfd_open(read(folder / RESOLVERS)["pid"])
        return None

    def _do(self, plan: dict[str, Any], trouble: str) -> None:
        """LabError, which begins with `trouble`, when it is not done."""
        with self._alone:
            answer = self._ask(plan) or self._ask(plan)  # a nursery that has died is started again
        if answer is None or "error" in answer:
            raise LabError(f"{trouble}: {answer['error'] if answer else self._died}")

    @property
    def _died(self) -> str:
        return f"the process that it comes from has died; {self._folder.parent.parent / 'log'} says more"

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

    def asked(self, node: str) -> str:
        """The key of the last question of which `note` was told."""
        return str(read(self._folder / f"{node}.asked").get("key", ""))

    def note(self, node: str, key: str) -> None:
        """Before it is done: when nobody is left to answer it, it is asked again."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self._folder / f"{node}.asked", {"key": key})

    def kill(self, node: str) -> None:
        """-9, and waits until it has ended."""
        with self._process(node) as process:
            if process is not None:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [], LAST_PATIENCE)

    def leave(self, node: str) -> None:
        """The agent takes down what it has made, and ends; what it cannot any more is taken away. LabError when something of it stays, and known."""
        about = {"folder": str(self._folder.parent)}
        with self._process(node) as process:
            if process is not None:
                signal.pidfd_send_signal(process, signal.SIGTERM)
                if not select.select([process], [], [], END_PATIENCE)[0]:
                    say("manager", f"the containers of {node} have not ended within {END_PATIENCE:.0f} s: they are killed")
                    self._do({"end": node} | about, f"the containers of {node} cannot be ended")
                if not select.select([process], [], [], LAST_PATIENCE)[0]:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], LAST_PATIENCE)
        if (self._folder / f"{node}.made").exists():
            self._do({"clear": node} | about, f"what the agent of {node} has made cannot be taken away")

    @contextmanager
    def _process(self, node: str) -> Iterator[int | None]:
        """The living agent, as a descriptor of its process; None when there is none."""
        path = self._folder / f"{node}.lock"
        pid = _holder(path)
        process = None
        if pid is not None:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
        try:
            # It lived when the descriptor was opened: it is this process that we have.
            yield process if process is not None and _holder(path) == pid else None
        finally:
            if process is not None:
                os.close(process)

    def forget(self, node: str) -> None:
        """The node is in no swarm any more. What its agent had made stays written down while it stands."""
        (self._folder / node).unlink(missing_ok=True)


def _held(path: Path) -> bool:
    return _holder(path) is not None


def _holder(path: Path) -> int | None:
    """Which process holds the lock; None when none does, or nobody ever did."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return lock_holder(file.fileno())
    return None


def lock(path: Path) -> int | None:
    """The lock, taken for as long as this process lives; None when another one has it. It is lost when any descriptor of the file is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
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
