"""The supervisor of a lab: answers questions, writes operations down, has the kernel perform them, and takes over from a supervisor that was killed.

Knows the API's socket and the order of things; what an operation means is in operations.py, what is written down in store.py. One thread has the
hands: it alone plans, writes and performs, one operation after the other. Each connection has a thread that listens, so that nobody waits for a slow
client; what the lab is like right now is answered there, from what the hands left when they were last done.

The leader starts it (leader.py COMMAND): `main(NAME, FOLDER, LISTENER)`.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vxtool.errors import LabError, MissingFeature, UsageError, VxtoolError
from vxtool.lab import impair
from vxtool.lab.delayer import Delayers
from vxtool.lab.kernel import Kernel
from vxtool.lab.namespaces import NETNS
from vxtool.lab.operations import Build, Impair, Operation, State, World, recorded, requested, written
from vxtool.lab.places import locate
from vxtool.lab.saying import say
from vxtool.lab.steps import DeleteNamespace, Step
from vxtool.lab.store import Entry, Store
from vxtool.model.plain import plain

if TYPE_CHECKING:
    from vxtool.lab.manager import Manager
    from vxtool.model import Cluster

__all__ = ["main"]

LONGEST_QUESTION = 256 << 20  # bytes; the largest is the spec of a lab, 1 kB an endpoint
SLICE = 4000  # steps performed between two words of progress
_SEND_PATIENCE = 30.0  # seconds until a client that does not read is given up
_ACCEPT_PAUSE = 0.1  # seconds until a client is heard for whom there was no descriptor or no thread

Answer = dict[str, Any]
Tell = Callable[[Answer], None]


def main(name: str, folder: str, listener: str) -> None:
    gc.freeze()
    gc.enable()
    server = socket.socket(fileno=int(listener))
    server.set_inheritable(False)
    hands = Hands(name, Store(Path(folder) / "store.sqlite"), Path(folder))
    hands.adopt()
    threading.Thread(target=_listen, args=(server, hands), name="listen", daemon=True).start()
    hands.work()


# --------------------------------------------------------------------------------------------------------------------
# The hands
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    do: str
    key: str
    arguments: dict[str, Any]
    tell: Tell
    answered: threading.Event = field(default_factory=threading.Event)


class Hands:
    """Everything that changes the lab, in one thread."""

    def __init__(self, name: str, store: Store, folder: Path) -> None:
        self.name = name
        self.store = store
        self._folder = folder
        self._manager: Manager | None = None  # has a thread of its own
        self._making = threading.Lock()
        self.kernel = Kernel()
        self.world = World(impair.features)
        self.delayers = Delayers()
        self.state: State | None = None  # None: nothing is built yet
        self._questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._woken, self._waker = os.pipe()

    def manager(self) -> Manager:
        """Of the lab's swarm, or of the one it may come to have; from any thread. A lab without a swarm goes without its 0.1 s of imports."""
        with self._making:
            if self._manager is None:
                from vxtool.lab.manager import Manager

                self._manager = Manager(self._folder, self.world.spec)
            return self._manager

    def swarm(self) -> Cluster | None:
        """What the lab's swarm is, if it has one."""
        return None if self._manager is None else self._manager.cluster()

    def ask(self, question: Question) -> None:
        """From any thread. The answer comes through `question.tell`."""
        self._questions.put(question)
        os.write(self._waker, b".")

    def adopt(self) -> None:
        """Takes over what a former supervisor has built: its done operations give the plan; one that it died over is undone and done again."""
        entries = self.store.entries()
        for entry in entries:
            if entry.done:
                self.world.apply(recorded(entry.do, entry.arguments))
            else:
                self._resume(entry)  # in its place: a later one may build on it
        if self.store.entries():  # what was begun may have failed
            self._carry()
            self.state = self.world.state()
            if (self._folder / "swarm" / "store.sqlite").exists():
                self.manager()
            say("supervisor", f"took over a lab of {len(entries)} operations")

    def work(self) -> None:
        """For ever: one question after the other; between them impairments that have run out, and a delayer that has died."""
        while True:
            delayer = self.delayers.fileno()  # -1: none runs
            due = self.world.next_expiry()
            watched = [self._woken] if delayer < 0 else [self._woken, delayer]
            ready, _, _ = select.select(watched, [], [], None if due is None else max(0.0, due - time.time()))
            if delayer in ready:
                say("supervisor", "the delayer has died; it is started again")
                self._carry()
            if self._woken in ready:
                os.read(self._woken, 1)
                self._serve(self._questions.get())
            for operation in self.world.expired(time.time()):
                try:
                    self._change(operation, os.urandom(16).hex(), lambda _: None)
                except VxtoolError as error:
                    say("supervisor", f"link {operation.link} cannot be made as it was, and stays as it is: {error}")
                    self.world.stays(operation.link)

    def _serve(self, question: Question) -> None:
        try:
            question.tell({"answer": self._answer(question)})
        except VxtoolError as error:
            question.tell({"error": {"kind": _kind(error), "text": str(error)}})
        except Exception as error:
            say("supervisor", traceback.format_exc())
            question.tell({"error": {"kind": "LabError", "text": f"{question.do}: {type(error).__name__}: {error}"}})
        finally:
            question.answered.set()

    def _answer(self, question: Question) -> Any:
        before = self.store.entry(question.key)
        if before is not None:  # asked, done, and the supervisor died before it could say so
            return _told(before.do, before.arguments)
        if question.do in _OVERLAY and self._manager is not None and self._manager.active:
            raise UsageError(f"the overlay of this lab is its swarm's affair: {_OVERLAY[question.do]}")
        operation = requested(self.world, question.do, question.arguments, time.time())
        return self._change(operation, question.key, question.tell)

    def _change(self, operation: Operation, key: str, tell: Tell) -> Any:
        """Plans, writes down, performs, and writes down that it is done. Of what fails nothing stays, neither in the plan nor in the kernel."""
        before = self.world.snapshot()
        do, arguments = written(operation)
        performed: Sequence[Step] = ()
        try:
            steps = self.world.apply(operation)
            self.store.begin(key, do, arguments)
            self._perform(operation, steps, tell)
            performed = steps
            self.store.finish(key)
        except BaseException:
            self.kernel.undo(performed)  # there is no room to write it down, say: then it must not stand either
            self.world.restore(before)
            self.store.forget(key)
            if isinstance(operation, Impair):
                self._carry()  # its devices may have gone and come back
            raise
        self.state = self.world.state()
        return _told(do, arguments)

    def _resume(self, entry: Entry) -> None:
        """What was begun and not finished. Nobody knows how far it came: all of it is taken back, then all is done."""
        say("supervisor", f"{entry.do} was begun by a former supervisor and not finished: it is taken back and done again")
        before = self.world.snapshot()
        try:
            operation = recorded(entry.do, entry.arguments)
            steps = self.world.apply(operation)
            self.kernel.undo(steps)
            self._perform(operation, steps, lambda _: None)
        except Exception as error:
            say("supervisor", f"{entry.do} cannot be done again, and stays taken back: {error}")
            self.world.restore(before)
            self.store.forget(entry.key)
        else:
            self.store.finish(entry.key)

    def _perform(self, operation: Operation, steps: Sequence[Step], tell: Tell) -> None:
        if isinstance(operation, Build):
            # In slices only here: whoever is told that this failed ends the whole lab.
            for begin in range(0, len(steps), SLICE):
                self.kernel.perform(steps[begin : begin + SLICE])
                tell({"progress": [min(begin + SLICE, len(steps)), len(steps)]})
        else:
            self._end_programs(steps)
            self.kernel.perform(steps)
        if isinstance(operation, Build | Impair):
            try:
                self.delayers.follow(self.world.relays())
            except VxtoolError:
                self.kernel.undo(steps)
                raise

    def _carry(self) -> None:
        """Tells the delayer what it has to carry anyway; nobody waits for an answer."""
        try:
            self.delayers.follow(self.world.relays())
        except VxtoolError as error:
            say("supervisor", f"links that are delayed carry nothing: {error}")

    @staticmethod
    def _end_programs(steps: Sequence[Step]) -> None:
        """Kills who is in a sandbox that is to go: a process would keep it, nameless, until the lab ends. /proc shows only the lab's processes."""
        going = {os.stat(NETNS / step.namespace).st_ino for step in steps if isinstance(step, DeleteNamespace) and (NETNS / step.namespace).exists()}
        for process in Path("/proc").iterdir() if going else ():
            try:
                if process.name.isdecimal() and os.stat(process / "ns/net").st_ino in going:
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue


# --------------------------------------------------------------------------------------------------------------------
# The ears
# --------------------------------------------------------------------------------------------------------------------


def _told(do: str, arguments: Any) -> Any:
    """What the client hears of what was done: the operation with everything decided, but not a whole lab, and no keys."""
    return None if do in ("build", "rotate_keys") else arguments


def _listen(server: socket.socket, hands: Hands) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # too many files are open, say: whoever is done closes his
            time.sleep(_ACCEPT_PAUSE)
            continue
        try:
            threading.Thread(target=_attend, args=(connection, hands), daemon=True).start()
        except RuntimeError:  # no more threads
            connection.close()
            time.sleep(_ACCEPT_PAUSE)


def _attend(connection: socket.socket, hands: Hands) -> None:
    """One client, until it hangs up. Whatever it says, only its own connection can suffer."""
    with connection, connection.makefile("rb") as lines:
        # Only sending: a client may be silent for as long as it likes.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_SEND_PATIENCE))
        try:
            while line := lines.readline(LONGEST_QUESTION):
                _attend_line(line, connection, hands)
        except OSError:
            return


def _attend_line(line: bytes, connection: socket.socket, hands: Hands) -> None:
    def tell(answer: Answer) -> None:
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:  # it has hung up, or does not read: what it asked for is done all the same
            connection.close()

    try:
        do, key, arguments = _parsed(line)
    except UsageError as error:
        return tell({"error": {"kind": "UsageError", "text": str(error)}})
    if do == "swarm":
        return tell(_answered(do, lambda: _swarm(hands, arguments, key)))
    if do == "state":
        return tell(_answered(do, lambda: plain(_present(hands))))
    if do == "place":
        return tell(_answered(do, lambda: _place(_present(hands), str(arguments.get("text", "")))))
    question = Question(do, key, arguments, tell)
    hands.ask(question)
    question.answered.wait()
    return None


_OVERLAY = {
    "network_add": "vxtool network create makes networks",
    "network_remove": "vxtool network rm removes them",
    "attach": "vxtool service create and vxtool run attach to them",
    "detach": "vxtool service rm and vxtool rm end what is attached",
    "move": "its scheduler places tasks (vxtool node update --availability drain moves them)",
    "rotate_keys": "its manager rotates keys",
}
"""What a swarm does itself, and the words for it there."""


def _answered(do: str, answer: Callable[[], Any]) -> Answer:
    """What is answered here, or why not: no question ends the thread that has to answer it."""
    try:
        return {"answer": answer()}
    except VxtoolError as error:
        return {"error": {"kind": _kind(error), "text": str(error)}}
    except Exception as error:
        say("supervisor", traceback.format_exc())
        return {"error": {"kind": "LabError", "text": f"{do}: {type(error).__name__}: {error}"}}


def _swarm(hands: Hands, arguments: dict[str, Any], key: str) -> Any:
    """What vxtool.swarm.client asks."""
    do, told = arguments.get("do"), arguments.get("arguments", {})
    if not isinstance(do, str) or not isinstance(told, dict):
        raise UsageError("a swarm is asked with a word and its arguments")
    return hands.manager().ask(do, told, key)


def _kind(error: VxtoolError) -> str:
    """The kind by which the client knows it: its own, or that of which it is one."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind in (UsageError, LabError, MissingFeature, VxtoolError))


def _present(hands: Hands) -> State:
    """What the lab is right now; in a swarm the endpoints are the swarm's."""
    state = hands.state
    if state is None:
        raise LabError("the lab is still being built; wait for vxtool lab up to end")
    swarm = hands.swarm()
    return state if swarm is None else replace(state, cluster=swarm)


def _place(state: State, text: str) -> Any:
    return plain(locate(state.topology, state.cluster, text))


def _parsed(line: bytes) -> tuple[str, str, dict[str, Any]]:
    try:
        question = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"a question is one JSON object a line, this is none: {error}") from None
    if not isinstance(question, dict):
        raise UsageError("a question is one JSON object a line, this is something else")
    do, key, arguments = question.get("do"), question.get("key", os.urandom(16).hex()), question.get("arguments", {})
    if not isinstance(do, str) or not isinstance(key, str) or not isinstance(arguments, dict) or question.keys() - {"do", "key", "arguments"}:
        raise UsageError('a question is {"do": TEXT, "arguments": {...}, "key": TEXT}, the last two if wanted')
    return do, key, arguments


def _timeval(seconds: float) -> bytes:
    return int(seconds).to_bytes(8, sys.byteorder) + int(seconds % 1 * 1e6).to_bytes(8, sys.byteorder)
