"""The agent of a node: a process that lives in the node's namespace, speaks with the manager over the underlay and does what it is told.

Knows its loop, its session and how to begin after an agent that was killed; tasks are the worker's affair, links the data plane's, the other nodes
gossip's. Everything it knows of the swarm came over its sockets: a cut link or a silent manager is for it what it is for a real one.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vxtool import __version__
from vxtool.errors import LabError
from vxtool.lab import agents, containers, namespaces
from vxtool.lab.dataplane import DataPlane, Made
from vxtool.lab.gossiping import PORT as GOSSIP
from vxtool.lab.gossiping import Gossiping
from vxtool.lab.kernel import Kernel
from vxtool.lab.naming import Naming
from vxtool.lab.saying import say
from vxtool.lab.spec import Options
from vxtool.lab.topology import Topology
from vxtool.lab.worker import Place, Worker
from vxtool.model import NodeState, TaskState
from vxtool.model.plain import plain, revive
from vxtool.swarm.gossip import Gossip
from vxtool.swarm.objects import Network, Node, Platform, Resources, Task, TaskNetwork
from vxtool.swarm.sessions import Lines, line
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Agent"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 8.0  # seconds until a session is tried again (swarmkit agent/session.go)
CONNECT_PATIENCE = 5.0
EARLY = 0.5  # heartbeats come up to so many seconds early, so that those of many nodes do not come at once
AGAIN = 1.0  # seconds until what the kernel has refused is tried again
BREATH = 0.02  # seconds of rest after a mistake of ours, so that one that comes again and again fills no log
_PIECE = 1 << 16

_PLUGINS = (
    ("Log", "json-file"),
    ("Network", "bridge"),
    ("Network", "host"),
    ("Network", "null"),
    ("Network", "overlay"),
    ("Volume", "local"),
)
"""What the scheduler may look for on a node: what a lab has of what an engine has."""


class Agent:
    """Made in the process that becomes the agent; `run` returns when the node has left the swarm."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        # First of all: whoever is told to leave while it is still beginning clears away what it finds, and goes.
        self._leaving = False
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGTERM, lambda *_: self._leave())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.name: str = plan["name"]
        self._folder = Path(plan["folder"])
        self._record = self._folder / "agents" / self.name
        lock = agents.lock(self._record.with_name(f"{self.name}.lock"))
        if lock is None:
            raise LabError(f"an agent of {self.name} runs already")
        self._lock = lock  # as long as this process lives
        self._address: str = plan["address"]
        self._topology = revive(Topology, plan["topology"])
        self._options = revive(Options, plan["options"])
        self._manager: tuple[str, int] = plan["manager"], plan["port"]
        # How to join, for a node that has not yet; then it is known by its id and secret.
        self._join: dict[str, Any] | None = None
        if "token" in plan:
            self._join = {"token": plan["token"], "name": self.name, "address": self._address, "availability": plan["availability"]}
        known = agents.read(self._record)
        self._id: str = plan.get("id") or known.get("id", "")
        self._secret: str = plan.get("secret") or known.get("secret", "")
        if not self._id and self._join is None:
            raise LabError(f"{self.name} is in no swarm and was not told how to join one")
        self._write()
        namespaces.setns(os.open(namespaces.NETNS / self.name, os.O_RDONLY | os.O_CLOEXEC))
        self._made = cleared(self._folder, self.name)
        self._random = random.Random()
        self._timers = Timers(time.monotonic())
        self._selector = selectors.DefaultSelector()
        self._plane: DataPlane | None = None
        self._worker: Worker | None = None
        self._gossip: Gossip | None = None
        self._gossiping: Gossiping | None = None
        self._reports: list[list[Any]] = []
        self._attachments: list[TaskNetwork] = []
        self._session: _Session | None = None
        self._pause = 0.0
        self._removed = False
        self._left = False
        self._selector.register(self._woken, selectors.EVENT_READ, lambda _: os.read(self._woken, 4096))

    # -- the loop --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._connect()
        more = False
        while not self._left:
            due = [at for at in (self._timers.next_due(), *self._gossip_due()) if at is not None]
            timeout = 0.0 if more else max(0.0, min(due) - time.monotonic()) if due else None
            ready = self._selector.select(timeout)
            self._timers.reach(time.monotonic())
            for key, events in ready:
                self._guarded(lambda key=key, events=events: self._dispatch(key, events))  # type: ignore[misc]
            self._ring()
            more = False
            if self._worker is not None:
                self._guarded(self._worker.work)
                more = self._worker.busy
            if self._gossip is not None and self._gossiping is not None and self._plane is not None:
                for part in (self._tick, self._hear, self._gossiping.go_on, self._rebalance):
                    self._guarded(part)
            self._guarded(self._flush)
            if self._leaving:
                self._guarded(self._part)

    def _dispatch(self, key: selectors.SelectorKey, events: int) -> None:
        if self._selector.get_map().get(key.fd) is key:  # what came before it in this round may have closed it
            key.data(events)

    def _guarded(self, work: Callable[[], object]) -> None:
        """One event; what goes wrong in it is written down, and the others go on."""
        try:
            work()
        except Exception:
            self._log(traceback.format_exc())
            time.sleep(BREATH)

    def _ring(self) -> None:
        """All timers that are due; one that fails has rung."""
        ringing = True
        while ringing:
            try:
                ringing = self._timers.ring(time.monotonic())
            except Exception:
                self._log(traceback.format_exc())
                time.sleep(BREATH)

    def _tick(self) -> None:
        assert self._gossip is not None
        if self._gossip.next_due() <= time.monotonic():
            self._gossip.tick(time.monotonic())

    def _hear(self) -> None:
        assert self._gossip is not None
        assert self._plane is not None
        self._plane.hear(self._gossip.events())

    def _rebalance(self) -> None:
        assert self._plane is not None
        self._plane.rebalance(time.monotonic())

    def _gossip_due(self) -> list[float | None]:
        if self._gossip is None or self._gossiping is None or self._plane is None:
            return []
        return [self._gossip.next_due(), self._gossiping.next_due(), self._plane.rebalance_due]

    def _watch(self, descriptor: int, call: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, lambda _: call())

    def _forget(self, descriptor: int) -> None:
        with suppress(KeyError):
            self._selector.unregister(descriptor)

    # -- before and after ------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        host, port = self._manager
        facts = {"pid": os.getpid(), "id": self._id, "secret": self._secret, "manager": host, "port": port}
        agents.write(self._record, facts)

    def _leave(self) -> None:
        """SIGTERM, which comes at any moment: the node leaves the swarm, as soon as the loop sees it."""
        self._leaving = True

    def _part(self) -> None:
        """First says good-bye, so that its tasks are replaced elsewhere and none here; when the last container has ended, takes away what it made."""
        session = self._session
        if session is not None:
            session.say({"bye": True})
            session.flush()
            session.close()
            self._session = None
        if self._worker is not None:
            self._worker.stop_all()
            if not self._worker.idle:
                return
        if self._plane is not None:
            self._plane.balance([])
        if self._gossip is not None and self._gossiping is not None:
            self._gossip.farewell()
            self._gossiping.go_on()
            self._gossiping.close()
        Kernel().undo(self._made.standing())
        self._made.begin()
        if self._removed:
            self._record.unlink(missing_ok=True)
        self._left = True

    # -- the session -----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._leaving:
            return
        self._session = _Session(self._manager, self._selector, self._heard, self._lost, self._opened)
        session = self._session
        self._timers.after(CONNECT_PATIENCE, lambda: None if session.open or session is not self._session else self._lost(session, "no answer"))

    def _opened(self, session: _Session) -> None:
        """The manager can be reached: first joins, if it has to, then begins; but not where nobody could hear of its endpoints."""
        if self._worker is None:
            try:
                Gossiping.check(self._address)
            except OSError as error:
                return self._lost(session, f"port {GOSSIP} of {self.name} cannot be had: {error.strerror}; another program has it")
        if self._id:
            session.say({"open": {"node": self._id, "secret": self._secret, "described": plain(self._described())}})
        else:
            assert self._join is not None
            session.say({"join": self._join})
        session.flush()
        return None

    def _lost(self, session: _Session, why: str) -> None:
        if session is not self._session:
            return
        session.close()
        self._session = None
        wait = self._random.uniform(0.0, self._pause)
        self._pause = min(FIRST_PAUSE + 2 * self._pause, LONGEST_PAUSE)
        self._log(f"no session with the manager: {why}; again in {wait:.1f} s")
        self._timers.after(wait, self._connect)

    def _heard(self, session: _Session, message: dict[str, Any]) -> None:
        (word, told), *_ = message.items()
        if word == "joined":
            self._id, self._secret, self._join = told["node"], told["secret"], None
            self._write()
            self._opened(session)
        elif word == "session":
            self._begin(session, told)
        elif word == "beat":
            session.answered = time.monotonic()
            if told != session.period and session.next is not None:  # `swarm update` has changed it: the next one is due by the new one already
                session.next.cancel()
                self._beat_after(session, told)
        elif word == "told":
            self._told(told)
        elif word == "refused":
            self._lost(session, str(told))
        elif word == "removed":  # `node rm --force`: what runs here is nobody's any more
            self._log("the node has been removed from the swarm; its containers are ended")
            self._removed = self._leaving = True

    def _begin(self, session: _Session, told: Mapping[str, Any]) -> None:
        self._pause = 0.0
        if self._worker is None:
            self._settle(told)
        assert self._worker is not None
        session.answered = time.monotonic()
        self._worker.known(dict.fromkeys(told["tasks"]))
        session.period = told["heartbeat"]
        self._beat(session)

    def _settle(self, told: Mapping[str, Any]) -> None:
        """In its first session: gossip, the node's data plane, and who does its tasks."""
        gossip = Gossip(self._id, self._address, time.monotonic(), self._random, incarnation=int(time.time() * 1000))
        gossiping = Gossiping(gossip, self._address, self._selector, time.monotonic)
        naming = Naming(self.name, self._folder, self._options.engine, self._selector, self._timers)
        plane = DataPlane(self.name, self._topology, self._options, self._made, gossip, naming, told["port"], told["keys"])
        place = Place(self._folder.parent, Node(self._id, self.name), self._folder / "logs", _resolv(), self._options.engine)
        self._gossip, self._gossiping, self._plane = gossip, gossiping, plane
        self._worker = Worker(place, plane, self._timers, self._report, self._watch, self._forget)
        if self._manager[0] != self._address:
            gossip.meet([self._manager[0]])

    def _beat_after(self, session: _Session, period: float) -> None:
        session.period = period
        session.next = self._timers.after(max(period / 2, period - self._random.uniform(0, EARLY)), lambda: self._beat(session))

    def _beat(self, session: _Session) -> None:
        """Every period, a little early; three without an answer, and the session is no more."""
        if session is not self._session:
            return None
        if time.monotonic() - session.answered > 3 * session.period + EARLY:
            return self._lost(session, f"three heartbeats without an answer ({3 * session.period:g} s)")
        session.say({"beat": True})
        session.flush()
        self._beat_after(session, session.period)
        return None

    def _told(self, told: Mapping[str, Any]) -> None:
        assert self._plane is not None
        assert self._worker is not None
        self._plane.learn([revive(Network, one) for one in told.get("networks", ())])
        worker = self._worker
        for one in told.get("tasks", ()):
            self._guarded(lambda one=one: worker.assign(revive(Task, one["task"]), one["service"]))  # type: ignore[misc]
        for id in told.get("gone", ()):
            self._guarded(lambda id=id: worker.gone(id))  # type: ignore[misc]
        if "attachments" in told:
            self._balance([revive(TaskNetwork, one) for one in told["attachments"]])

    def _balance(self, attachments: list[TaskNetwork]) -> None:
        """Until the kernel has taken them, or others are wanted."""
        assert self._plane is not None
        self._attachments = attachments
        if not self._plane.balance(attachments):
            self._timers.after(AGAIN, lambda: self._balance(attachments) if attachments is self._attachments else None)

    def _report(self, task: str, state: TaskState, message: str, error: str) -> None:
        self._reports.append([task, int(state), message, error])

    def _flush(self) -> None:
        session = self._session
        if session is not None and session.begun and self._reports:
            session.say({"report": self._reports})
            self._reports = []
            session.flush()

    def _described(self) -> Node:
        """What this node is, as `node inspect` shows it."""
        system = os.uname()
        machine = next(one for one in self._topology.nodes if one.name == self.name)
        cpus, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Node(
            self._id,
            self.name,
            self._address,
            state=NodeState.READY,
            engine_labels=machine.labels,
            platform=Platform("linux", system.machine),
            resources=Resources(round((machine.cpus or cpus) * 1e9), machine.memory or memory, machine.generic),
            plugins=_PLUGINS,
            engine_version=__version__,
        )

    def _log(self, text: str) -> None:
        say(f"agent of {self.name}", text)


def cleared(folder: Path, node: str) -> Made:
    """What an agent that is no more has left of its node: its containers are ended, then what it made is taken away. A Docker engine that is started
    again without live-restore, which a swarm cannot have, ends its containers, too. Nothing stands in the record that comes back. The calling process
    is in the node's namespace; LabError when something cannot be taken away."""
    path = folder / "agents" / f"{node}.made"
    ended, left = containers.end_recorded(folder.parent, node), Made.left(path)
    if left:
        Kernel().undo(left)
    if ended or left:
        say(f"agent of {node}", f"ended {len(ended)} containers and took away {len(left)} things that a former agent had made")
    made = Made(path, node)
    made.begin()
    return made


def _resolv() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""


class _Session:
    """A connection to the manager, from the first packet on."""

    def __init__(
        self,
        manager: tuple[str, int],
        selector: selectors.BaseSelector,
        heard: Callable[[_Session, dict[str, Any]], None],
        lost: Callable[[_Session, str], None],
        opened: Callable[[_Session], None],
    ) -> None:
        self.open = False  # connected
        self.begun = False  # the manager has answered with a session
        self.answered = time.monotonic()
        self.period = 0.0  # seconds between two heartbeats, as the manager says
        self.next: Timer | None = None  # the next of them
        self._selector = selector
        self._heard = heard
        self._lost = lost
        self._opened = opened
        self._lines = Lines()
        self._unsent = bytearray()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._events = selectors.EVENT_WRITE
        with suppress(BlockingIOError):
            try:
                self._socket.connect(manager)
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    self._trouble = error
        selector.register(self._socket, self._events, self._ready)

    def say(self, message: Mapping[str, Any]) -> None:
        self._unsent += line(message)

    def flush(self) -> None:
        if not self.open or self._socket.fileno() < 0:
            return None
        try:
            while self._unsent:
                sent = self._socket.send(memoryview(self._unsent)[:_PIECE])
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            return self._lost(self, error.strerror or str(error))
        self._want(selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0))
        return None

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()

    def _want(self, events: int) -> None:
        if events != self._events and self._socket.fileno() >= 0:
            self._events = events
            self._selector.modify(self._socket, events, self._ready)

    def _ready(self, events: int) -> None:
        if not self.open:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                return self._lost(self, os.strerror(number))
            self.open = True
            self._opened(self)
            return None
        if events & selectors.EVENT_READ:
            try:
                piece = self._socket.recv(_PIECE)
            except BlockingIOError:
                return None
            except OSError as error:
                return self._lost(self, error.strerror or str(error))
            if not piece:
                return self._lost(self, "it has hung up")
            for message in self._lines.feed(piece):
                if "session" in message:
                    self.begun = True
                self._heard(self, message)
        if events & selectors.EVENT_WRITE:
            self.flush()
        return None
