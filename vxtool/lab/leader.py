"""The leader of a lab: process 1 of its namespaces, and the reason they exist.

Knows how to make the namespaces, to keep the supervisor alive and to end; nothing of what a lab is. Small on purpose: it imports next to nothing and
does next to nothing, because everything in the lab lives exactly as long as it does. When process 1 of a pid namespace ends, however it ends, the
kernel kills all others in it; with the last of them the mounts go, with the mounts the network namespaces, and with these every link.

    python -m vxtool.lab.leader NAME FOLDER LOCK LISTENER WORD STARTER

The last four are open file descriptors. LOCK is the lab's lock, already taken: it is let go of by ending. LISTENER is the socket of the lab's API,
handed on to each supervisor, so that questions wait in its queue while one dies and the next starts. STARTER is a pidfd of the process that starts
the lab. Through WORD it says `g` when the leader is written down (before that nothing is made), and `k` for "keep the lab when I have gone"; if it
ends without having said so, the lab ends too.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

from vxtool.errors import VxtoolError
from vxtool.lab import namespaces
from vxtool.lab.saying import say

__all__ = ["GO", "KEEP", "main"]

GO, KEEP = b"g", b"k"

COMMAND = ("-P", "-S", "-c", "import gc, sys; gc.disable(); from vxtool.lab.supervisor import main; main(*sys.argv[1:])")
"""How the supervisor is started. Without `site`, because it needs nothing but vxtool, and without collecting garbage while modules are imported, when
there is none: 0.25 s instead of 0.39."""

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 10.0  # seconds before a supervisor that died is started again; doubled each time
_LONG_LIFE = 30.0  # seconds after which a supervisor counts as healthy
_CHANCES = 12  # deaths in a row, none of them after a long life


def main(name: str, folder: str, *descriptors: str) -> None:
    lock, listener, word, starter = map(int, descriptors)
    for descriptor in (lock, word, starter):
        os.set_inheritable(descriptor, False)
    if not _told_to_go(word, starter):
        return
    os.chdir("/")
    try:
        _settle(name)
    except VxtoolError as error:
        say("leader", str(error))
        return
    except OSError as error:
        say("leader", f"the namespaces of the lab cannot be made: {error}")
        return
    _hold(Supervisor([sys.executable, *COMMAND, name, folder, str(listener)], listener), word, starter)


def _told_to_go(word: int, starter: int) -> bool:
    """The pipe alone does not tell that the starter has ended: its other children may have the other end open, too."""
    events = select.poll()
    for descriptor in (word, starter):
        events.register(descriptor, select.POLLIN)
    ready = [descriptor for descriptor, _ in events.poll()]
    return word in ready and os.read(word, 1) == GO


def _settle(name: str) -> None:
    """Mount, network, uts and ipc namespaces of its own, to add to the pid namespace that the starter gave it."""
    namespaces.private_world()
    namespaces.unshare(namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWIPC)
    namespaces.mount("proc", "/proc", "proc", namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC)
    socket.sethostname(name)


def _hold(supervisor: Supervisor, word: int, starter: int) -> None:
    """Until the starter ends without a word: keeps the supervisor alive, and buries every orphan of the lab, as process 1 must."""
    # Interrupts from a terminal are for whoever sits there; process 1 is not killed by a signal that it has no handler for.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    events = select.poll()
    for descriptor in (woken, word, starter):
        events.register(descriptor, select.POLLIN)
    supervisor.start()
    while True:
        for descriptor, _ in events.poll(supervisor.delay_ms()):
            if descriptor == woken:
                os.read(woken, 4096)
            elif descriptor == word and os.read(word, 1) == KEEP:
                for heard in (word, starter):
                    events.unregister(heard)
                    os.close(heard)
                break  # the starter may have ended in the same moment
            else:
                return
        while (dead := _bury()) is not None:
            if dead == supervisor.pid:
                supervisor.died()
        supervisor.start_if_due()


def _bury() -> int | None:
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return pid or None


class Supervisor:
    """The leader's one child that it knows: started again when it dies, later each time, and in the end not any more."""

    def __init__(self, command: list[str], listener: int) -> None:
        self._command = command
        self._listener = listener
        self._deaths = 0
        self._started = 0.0
        self._due: float | None = None
        self.pid: int | None = None

    def start(self) -> None:
        self._due = None
        self._started = time.monotonic()
        self.pid = os.posix_spawn(self._command[0], self._command, os.environ)

    def died(self) -> None:
        lived = time.monotonic() - self._started
        self.pid = None
        self._deaths = 1 if lived > _LONG_LIFE else self._deaths + 1
        if self._deaths > _CHANCES:
            # Whoever asks is refused from now on, instead of waiting. What runs in the lab goes on.
            os.close(self._listener)
            say("leader", f"the supervisor has died {self._deaths} times in a row; it is not started again, the lab runs on without it")
            return
        delay = min(_FIRST_DELAY * 2 ** (self._deaths - 1), _LONGEST_DELAY)
        self._due = time.monotonic() + delay
        say("leader", f"the supervisor has died after {lived:.1f} s; it is started again in {delay:.2f} s")

    def delay_ms(self) -> float | None:
        return None if self._due is None else max(0.0, (self._due - time.monotonic()) * 1000)

    def start_if_due(self) -> None:
        if self._due is not None and time.monotonic() >= self._due:
            self.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
