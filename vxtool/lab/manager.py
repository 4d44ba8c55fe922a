"""The manager of a lab's swarm: the control plane in real time, in one thread of the supervisor.

Knows the clock, the journal, the agents' sessions on TCP 2377 in the manager node's namespace, and who waits for what; what a swarm does is in
vxtool.swarm. Everything that changes it runs in its own thread, one thing after the other; other threads ask and wait.
"""

from __future__ import annotations

import os
import queue
import secrets
import selectors
import shutil
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from random import SystemRandom
from typing import Any

from vxtool.errors import LabError, MissingFeature, UsageError, VxtoolError
from vxtool.lab import encryption, names, namespaces
from vxtool.lab.agents import Agents
from vxtool.lab.encryption import Key, Keyring
from vxtool.lab.kernel import Kernel
from vxtool.lab.saying import say
from vxtool.lab.spec import LabSpec
from vxtool.lab.steps import AddNamespace
from vxtool.model import Availability, Cluster, NodeState, Role, TaskState
from vxtool.model import Node as ClusterNode
from vxtool.model.plain import plain, revive
from vxtool.swarm.clusters import ENCRYPTED_OPTION, cluster
from vxtool.swarm.control import INGRESS
from vxtool.swarm.dispatcher import Report
from vxtool.swarm.identities import Identities
from vxtool.swarm.journal import Journal, JournalLost
from vxtool.swarm.objects import Network, Node, Settings, SwarmInfo, Task
from vxtool.swarm.requests import Kinds, Requests, changes, taken, written
from vxtool.swarm.sessions import BEFORE_OPEN, LONGEST, PORT, Lines, line
from vxtool.swarm.store import Changes
from vxtool.swarm.swarm import Swarm
from vxtool.swarm.view import View

__all__ = ["Manager"]

NO_SWARM = 'This node is not a swarm manager. Use "vxtool swarm init" to make one, or "vxtool lab up --swarm" for a lab that has one.'
ALREADY = 'This node is already part of a swarm. Use "vxtool swarm leave" to leave this swarm and join another one.'
TOKEN = "A valid join token is necessary to join this cluster"
LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the"
    " swarm. Use `--force` to ignore this message."
)
RESOLVERS_PAUSE = 1.0  # seconds until resolvers that end at once are started again
JOIN_PATIENCE = 20.0  # seconds until `swarm join` says that it goes on in the background, as docker does
LONGEST_WAIT = 60.0
PROBE = "probe"  # a namespace that is there while the kernel is asked what it can do
MOST_STRANGERS = 64  # connections of which nobody knows yet who it is
STRANGER_PATIENCE = 10.0  # seconds until they are closed
ACCEPT_PAUSE = 1.0  # seconds until connections are taken on again for which there were no descriptors
SECRETS = 100  # of nodes that were removed are kept, to tell them
MOST_UNSENT = 32 << 20  # bytes for an agent that does not read, until it is given up
_PIECE = 1 << 16
_LOG_PIECE = 1 << 20


class Manager:
    """`ask` from any thread. Nothing is started, and no file made, before `swarm.init`; a swarm that a former supervisor had is gone on with."""

    def __init__(self, folder: Path, spec: LabSpec) -> None:
        self._folder = folder / "swarm"
        self._spec = spec
        self._agents = Agents(self._folder / "agents")
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._woken, self._waker = os.pipe()
        self._changed = threading.Condition()
        self._version = 0  # of the store; guarded by _changed, for those who wait
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake)
        self._running: _Running | None = None
        self._trouble = ""  # why a swarm that is written down cannot be gone on with
        # Whoever has an agent begin or end, one after the other for each node.
        self._alone = {node.name: threading.Lock() for node in spec.topology.nodes}
        threading.Thread(target=self._work, name="manager", daemon=True).start()
        if (self._folder / "store.sqlite").exists():
            self._call(self._resume)

    # -- from other threads ----------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        return self._running is not None

    def ask(self, do: str, arguments: Mapping[str, Any], key: str = "") -> Any:
        """What `vxtool.swarm.client` asks: JSON values in and out. With a key that was there before, it is not done again, but answered."""
        if do in _LOOKS:
            kinds, look = _LOOKS[do]
            return look(self, **taken(do, kinds, arguments))
        key = key or os.urandom(16).hex()
        if do in _ACTS:
            kinds, act = _ACTS[do]
            return act(self, key, **taken(do, kinds, arguments))
        if do == "network.create":
            self._check_encryption(arguments)
        if changes(do):
            return self._call(lambda: self._once(do, arguments, key))
        return self._call(lambda: self._swarm().requests.answer(do, arguments))

    def _check_encryption(self, arguments: Mapping[str, Any]) -> None:
        """MissingFeature for an encrypted network that no node could have: better now than in the logs of all agents."""
        spec = arguments.get("spec")
        options = spec.get("options") if isinstance(spec, dict) else None
        if not isinstance(options, dict) or ENCRYPTED_OPTION not in options:
            return
        here, there = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
        key = Key(0, bytes(16))
        steps = [AddNamespace(PROBE), *encryption.protect(PROBE, here, there, Keyring(key, replace(key, tag=1), replace(key, tag=2)), 4789)]
        kernel = Kernel()
        try:
            kernel.perform(steps)
        except MissingFeature as error:
            why = str(error).rpartition(": this kernel lacks")[2].partition("; ")[0]
            raise MissingFeature(f"an encrypted network cannot be had here: this kernel lacks{why}") from error
        kernel.undo(steps)

    def _once(self, do: str, arguments: Mapping[str, Any], key: str) -> Any:
        running = self._swarm()
        try:
            return running.journal.once(key, lambda: running.requests.answer(do, arguments))
        except JournalLost:
            self._running = None
            running.close(self._selector)
            self._resume()  # as after a death: what is written down is true
            raise

    def cluster(self) -> Cluster | None:
        """What the swarm is at this moment, for verify; None: there is none."""
        return self._call(self._cluster) if self.active else None

    def _call(self, work: Callable[[], Any]) -> Any:
        """Has the manager's thread do it, and waits."""
        done = threading.Event()
        outcome: list[Any] = [None, None]

        def run() -> None:
            try:
                outcome[0] = work()
            except BaseException as error:
                outcome[1] = error
            finally:
                done.set()

        self._calls.put(run)
        os.write(self._waker, b".")
        done.wait()
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def _until(self, seen: Callable[[], bool], seconds: float) -> bool:
        """Waits until something is so; looks each time the swarm has changed."""
        end = time.monotonic() + seconds
        while not self._call(seen):
            with self._changed:
                version = self._version
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait_for(lambda version=version: self._version != version, min(left, 0.25))  # type: ignore[misc]
        return True

    # -- words that are not the pure swarm's -----------------------------------------------------------------------------

    def wait(self, after: int, seconds: float) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._version > after, max(0.0, min(LONGEST_WAIT, seconds)))
        return self.ask("view", {"after": after})

    def init(self, key: str, node: str, settings: Settings | None, availability: Availability) -> Any:
        name = node or self._spec.topology.nodes[0].name
        self._known(name)
        chosen = settings or Settings()
        names.data_path_port(chosen.data_path_port)
        if self._spec.cluster.networks:
            raise UsageError(
                "this lab has networks of its own, which a swarm would build again: make one without, by vxtool lab up --bare, or --swarm"
            )
        with self._alone[name]:
            self._call(lambda: self._init(name, chosen, availability, key))
        if not self._until(lambda: self._is_ready(name), JOIN_PATIENCE):
            raise LabError(f"the agent of {name} has not come to the manager within {JOIN_PATIENCE:.0f} s; {self._folder.parent / 'log'} says more")
        return self._call(lambda: plain(self._swarm().requests.info))

    def join(self, key: str, node: str, token: str, address: str, availability: Availability) -> Any:
        self._known(node)
        with self._alone[node]:
            again = self._agents.asked(node) == key
            manager = self._call(lambda: self._admitted(node, token, again))
            host, _, port = address.rpartition(":") if ":" in address else (address, "", str(PORT))
            if not port.isdecimal() or not 0 < int(port) < 65536:
                raise UsageError(f"invalid address {address!r}: one like {manager}:{PORT} is wanted")
            if not again or not self._agents.alive(node):
                self._agents.note(node, key)
                plan = {"manager": host or manager, "port": int(port), "token": token, "availability": availability.value}
                self._agents.start(node, self._plan(node) | plan)
        if not self._until(lambda: self._is_ready(node) or not self._agents.record(node), JOIN_PATIENCE):
            raise LabError(
                "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the"
                ' "vxtool node ls" command to see the current swarm status of your node.'
            )
        id = self._agents.record(node).get("id")
        if not id:
            raise LabError(f"{node} has left the swarm before it had joined it")
        return {"node": id}

    def leave(self, key: str, node: str, force: bool) -> None:
        self._known(node)
        with self._alone[node]:
            manager = self._call(lambda: self._running is not None and self._running.node == node)
            if manager and not force:
                raise UsageError(LAST_MANAGER)
            if not manager and not self._agents.record(node):
                if self._agents.asked(node) == key:
                    return
                raise UsageError(f"This node is not part of a swarm: {node} has not joined one")
            self._agents.note(node, key)
            self._agents.leave(node)
            if manager:
                self._call(self._close)
            self._agents.forget(node)

    def agent_list(self) -> Any:
        told = []
        for machine in self._spec.topology.nodes:
            record = self._agents.record(machine.name)
            told.append({"node": machine.name, "alive": self._agents.alive(machine.name), "id": record.get("id"), "pid": record.get("pid")})
        return told

    def agent_kill(self, key: str, node: str) -> None:
        """-9: nothing of the node is taken down, and nobody is told."""
        self._known(node)
        with self._alone[node]:
            if not self._agents.alive(node):
                if self._agents.asked(node) == key:
                    return
                raise UsageError(f"no agent runs on {node}")
            self._agents.note(node, key)
            self._agents.kill(node)

    def agent_start(self, key: str, node: str) -> None:
        self._known(node)
        with self._alone[node]:
            record = self._agents.record(node)
            if not record:
                raise UsageError(f"{node} is not part of the swarm: vxtool swarm join --node {node} makes it so")
            if self._agents.alive(node):
                if self._agents.asked(node) == key:
                    return
                raise UsageError(f"the agent of {node} runs already")
            if not record.get("id"):
                raise UsageError(
                    f"the agent of {node} had not joined the swarm when it ended: vxtool swarm leave --node {node}, and then"
                    f" vxtool swarm join --node {node}, begin anew"
                )
            self._agents.note(node, key)
            self._agents.start(node, self._plan(node) | {"manager": record["manager"], "port": record["port"]})

    def logs(self, task: str, offset: int = 0) -> Any:
        """A piece of what a task's program has written, from a byte on; and where the next piece begins."""
        if not (task.isascii() and task.isalnum() and len(task) < 64):
            raise UsageError(f"{task!r} is no task")
        path = self._folder / "logs" / task
        try:
            with path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                size = file.tell()
                begin = offset if 0 <= offset <= size else 0  # it has begun anew
                file.seek(begin)
                piece = file.read(_LOG_PIECE)
                if len(piece) == _LOG_PIECE:  # no character is cut in two
                    piece = piece[: piece.rfind(b"\n") + 1] or piece
        except FileNotFoundError:
            return {"text": "", "offset": 0}
        return {"text": piece.decode(errors="replace"), "offset": begin + len(piece)}

    def _known(self, node: str) -> None:
        known = [machine.name for machine in self._spec.topology.nodes]
        if node not in known:
            raise UsageError(f"no node is called {node!r} in this lab (there are {', '.join(known[:8])}{', ...' if len(known) > 8 else ''})")

    def _plan(self, node: str) -> dict[str, Any]:
        """What an agent has to know of the lab it is in."""
        return {
            "name": node,
            "folder": str(self._folder),
            "address": str(self._spec.topology.address(node)),
            "topology": plain(self._spec.topology),
            "options": plain(self._spec.options),
        }

    # -- in its own thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            running = self._running
            due = running.next_due() if running is not None else None
            timeout = None if running is None or due is None else max(0.0, due - running.now())
            try:
                heard = self._selector.select(timeout)
                if self._running is not None:
                    self._running.swarm.timers.reach(self._running.now())  # not the time at which it was last awake
                for key, events in heard:
                    key.data(events)
                if self._running is not None:
                    self._running.go_on()
                    self._tell_watchers(self._running.swarm.store.version)
            except Exception:
                # One message or one moment is lost, not the swarm: what was written down is still true.
                say("manager", traceback.format_exc())

    def _wake(self, _: int) -> None:
        os.read(self._woken, 4096)
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            call()

    def _tell_watchers(self, version: int) -> None:
        if version != self._version:
            with self._changed:
                self._version = version
                self._changed.notify_all()

    def _swarm(self) -> _Running:
        if self._running is None:
            if self._trouble:
                raise LabError(f"the swarm of this lab cannot be gone on with ({self._trouble}): vxtool swarm init makes another one")
            raise UsageError(NO_SWARM)
        return self._running

    def _init(self, node: str, settings: Settings, availability: Availability, key: str) -> None:
        if self._running is not None and self._running.node == node and self._agents.asked(node) == key:
            return
        if self._running is not None or self._agents.record(node):
            raise UsageError(ALREADY)
        self._agents.note(node, key)
        self._remove()  # what an attempt has left that was killed
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / "logs").mkdir(mode=0o755, exist_ok=True)
        identities = Identities(SystemRandom())
        info = SwarmInfo(identities.new(), time.time(), settings, _token(), _token())
        try:
            with ExitStack() as undo:
                journal = Journal(self._folder / "store.sqlite")
                undo.callback(journal.close)
                journal.meta.update(
                    {
                        "base": time.time() - time.monotonic(),
                        "info": plain(info),
                        "keys": plain(Keyring(*(Key(int.from_bytes(os.urandom(4)), os.urandom(16)) for _ in range(3)))),
                        "secrets": {},
                    }
                )
                running = self._of(journal, node)
                undo.callback(running.close, self._selector)
                running.swarm.tell(running.swarm.control.create_network, INGRESS)
                running.admit(node, str(self._topology_address(node)), Role.MANAGER, availability)
                running.listen(self._selector)
                journal.meta["node"] = node  # last of all: from now on there is a swarm
                self._resolve()
                self._start_own(running)
                undo.pop_all()
        except BaseException:
            self._close()
            self._agents.forget(node)
            raise
        self._running = running

    def _resume(self) -> None:
        """Goes on with what is written down. What cannot be gone on with stays there, for whoever wants to look, until another swarm is made."""
        try:
            with ExitStack() as undo:
                journal = Journal(self._folder / "store.sqlite")
                undo.callback(journal.close)
                if "node" not in journal.meta:  # killed before the swarm was
                    return
                running = self._of(journal, journal.meta["node"])
                undo.callback(running.close, self._selector)
                running.listen(self._selector)
                running.sweep()
                undo.pop_all()
        except Exception as error:
            self._trouble = str(error) if isinstance(error, VxtoolError) else f"{type(error).__name__}: {error}"
            say("manager", f"the swarm cannot be taken over: {self._trouble if isinstance(error, VxtoolError) else traceback.format_exc()}")
            return
        self._running = running
        self._resolve()
        say("manager", f"took over a swarm of {len(running.swarm.store.nodes)} nodes and {len(running.swarm.store.tasks)} tasks")
        if not self._agents.record(running.node):  # killed before its agent was
            try:
                self._start_own(running)
            except LabError as error:
                say("manager", str(error))

    def _of(self, journal: Journal, node: str) -> _Running:
        return _Running(journal, node, frozenset(self._alone), self._folder / "logs")

    def _start_own(self, running: _Running) -> None:
        """The agent of the manager's node, which joins nothing."""
        own = next(node for node in running.swarm.store.nodes.values() if node.role is Role.MANAGER and node.hostname == running.node)
        plan = {"manager": str(self._topology_address(running.node)), "port": PORT, "id": own.id, "secret": running.secret(own.id)}
        self._agents.start(running.node, self._plan(running.node) | plan)

    def _resolve(self) -> None:
        """Sees to it that the resolvers run; when they end they are started again."""
        ended = self._agents.start_resolvers()
        if ended is None:
            self._resolve_later()
        elif ended not in self._selector.get_map():
            begun = time.monotonic()
            self._selector.register(ended, selectors.EVENT_READ, lambda _: self._resolvers_ended(ended, begun))

    def _resolvers_ended(self, process: int, begun: float) -> None:
        self._selector.unregister(process)
        os.close(process)
        say("manager", "the resolvers have ended; they are started again")
        if time.monotonic() - begun > RESOLVERS_PAUSE:
            self._resolve()
        else:
            self._resolve_later()

    def _resolve_later(self) -> None:
        timer = threading.Timer(RESOLVERS_PAUSE, lambda: self._call(self._resolve))
        timer.daemon = True
        timer.start()

    def _close(self) -> None:
        """Nothing of the swarm stays but agents of nodes that have not left it."""
        if self._running is not None:
            self._running.close(self._selector)
            self._running = None
        self._remove()
        self._tell_watchers(-1)

    def _remove(self) -> None:
        for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self._folder / "logs", ignore_errors=True)
        self._trouble = ""

    def _topology_address(self, node: str) -> Any:
        return self._spec.topology.address(node)

    def _admitted(self, node: str, token: str, again: bool) -> str:
        """The manager's address, when this node may join with this token."""
        running = self._swarm()
        if self._agents.record(node) and not again:
            raise UsageError(ALREADY)
        running.role_of(token)
        return str(self._topology_address(running.node))

    def _is_ready(self, node: str) -> bool:
        running = self._running
        id = self._agents.record(node).get("id")
        known = running.swarm.store.nodes.get(id) if running is not None and id else None
        return known is not None and known.state is NodeState.READY

    def _cluster(self) -> Cluster | None:
        return None if self._running is None else self._running.cluster(self._spec)


_LOOKS: Mapping[str, tuple[Kinds, Callable[..., Any]]] = {
    "wait": ({"after": (int,), "seconds": (float, 10.0)}, Manager.wait),
    "agent.list": ({}, Manager.agent_list),
    "logs": ({"task": (str,), "offset": (int, 0)}, Manager.logs),
}
_ACTS: Mapping[str, tuple[Kinds, Callable[..., Any]]] = {
    "swarm.init": (
        {"node": (str, ""), "settings": (Settings | None, None), "availability": (Availability, Availability.ACTIVE)},
        Manager.init,
    ),
    "swarm.join": (
        {"node": (str,), "token": (str,), "address": (str, ""), "availability": (Availability, Availability.ACTIVE)},
        Manager.join,
    ),
    "swarm.leave": ({"node": (str,), "force": (bool, False)}, Manager.leave),
    "agent.kill": ({"node": (str,)}, Manager.agent_kill),
    "agent.start": ({"node": (str,)}, Manager.agent_start),
}
"""As in vxtool.swarm.requests: word -> what it takes, what it does; who only looks is never asked twice."""


class _Running:
    """A swarm that is there: its store, its clock and the sessions of its agents. The manager's thread alone touches it."""

    def __init__(self, journal: Journal, node: str, machines: frozenset[str], logs: Path) -> None:
        """`node` is the manager's, `machines` are all that may come."""
        self.journal = journal
        self.node = node
        self._machines = machines
        self._logs = logs
        self._base: float = journal.meta["base"]
        self._keys = journal.meta["keys"]
        self._secrets: dict[str, str] = journal.meta["secrets"]
        info = revive(SwarmInfo, journal.meta["info"])
        store = journal.load()
        self._listener: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._sessions: dict[str, _Session] = {}  # node id -> the one that counts
        self._all: set[_Session] = set()
        self._strangers: dict[_Session, float] = {}  # that are not open yet -> until when they have time, the oldest first
        self._listen_again: float | None = None
        self._removed: list[str] = []  # nodes whose agents are to be told
        self._gone: list[str] = []  # tasks whose logs are to be removed
        self._stale_nodes: set[str] = set()  # whose load balancers have changed
        self._cluster: tuple[int, Cluster] | None = None
        self._watched: list[Requests] = []  # none while the swarm is made: who looks first is told everything
        self.swarm = Swarm(info.settings, store, SystemRandom(), self.now(), watch=self._see)
        self.requests = Requests(self.swarm, info, self._keep)
        self._watched.append(self.requests)

    def now(self) -> float:
        """Seconds since the epoch as they were when the swarm was made, plus what has passed since: no step of the machine's clock counts."""
        return self._base + time.monotonic()

    def _see(self, changes: Changes) -> None:
        for requests in self._watched:
            requests.see(changes)
        for old, node in changes.nodes:
            if node is None:
                assert old is not None
                self._removed.append(old.id)
            elif old is None or old.attachments is not node.attachments:
                self._stale_nodes.add(node.id)
        self._gone += [before.id for before, task in changes.tasks if before is not None and task is None]

    def next_due(self) -> float | None:
        due = (self.swarm.next_due(), self._listen_again, next(iter(self._strangers.values()), None))
        return min((at for at in due if at is not None), default=None)

    def go_on(self) -> None:
        """All that is due now; then every agent is told what is new for it."""
        self.swarm.advance(self.now())
        self._receive()
        self._forget()
        waiting = dict.fromkeys([*self.swarm.dispatcher.waiting(), *self._stale_nodes])
        self._stale_nodes = set()
        for node in waiting:
            session = self._sessions.get(node)
            if session is not None:
                self._tell(session)
        for session in list(self._all):
            session.flush()

    def _receive(self) -> None:
        """Strangers have had their time; the listener its pause."""
        for session, until in list(self._strangers.items()):
            if until > self.now():
                break
            self._drop(session)
        if self._listen_again is not None and self._listen_again <= self.now():
            assert self._listener is not None
            assert self._selector is not None
            self._listen_again = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _forget(self) -> None:
        """What the store has not got any more."""
        for node in self._removed:
            session = self._sessions.get(node)
            if session is not None:
                self._part(session)
        for task in self._gone:
            for name in (task, f"{task}.1"):
                (self._logs / name).unlink(missing_ok=True)
        self._removed, self._gone = [], []

    def sweep(self) -> None:
        """Removes logs of tasks that have gone while nobody looked."""
        for path in self._logs.iterdir():
            if path.name.partition(".")[0] not in self.swarm.store.tasks:
                path.unlink()

    def _keep(self, info: SwarmInfo) -> None:
        self.journal.meta["info"] = plain(info)

    # -- nodes -----------------------------------------------------------------------------------------------------------

    def role_of(self, token: str) -> Role:
        """UsageError when nobody joins with it."""
        info = self.requests.info
        for known, role in ((info.worker_token, Role.WORKER), (info.manager_token, Role.MANAGER)):
            if secrets.compare_digest(known.encode(), token.encode()):
                if role is Role.MANAGER and any(node.role is Role.MANAGER for node in self.swarm.store.nodes.values()):
                    raise UsageError("a second manager cannot join: a lab has one manager and no Raft; use the worker's token")
                return role
        raise UsageError(TOKEN)

    def admit(self, name: str, address: str, role: Role, availability: Availability) -> str:
        # The secret first: a node that nobody knows does no harm, one that cannot prove who it is never comes in.
        id = Identities(SystemRandom()).new()
        forgotten = {known for known in self._secrets if known not in self.swarm.store.nodes}
        forgotten -= set([known for known in self._secrets if known in forgotten][-SECRETS:])
        self._secrets = {known: text for known, text in self._secrets.items() if known not in forgotten} | {id: secrets.token_hex(16)}
        self.journal.meta["secrets"] = self._secrets
        self.swarm.tell(self.swarm.control.add_node, Node(id, name, address, role, availability, NodeState.UNKNOWN, described=False))
        return id

    def secret(self, node: str) -> str:
        return self._secrets[node]

    # -- sessions --------------------------------------------------------------------------------------------------------

    def listen(self, selector: selectors.BaseSelector) -> None:
        with namespaces.inside(namespaces.NETNS / self.node):
            listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", PORT))
        except OSError as error:
            listener.close()
            raise LabError(f"port {PORT} of {self.node} is in use by another program: {error.strerror}") from error
        listener.listen(256)
        listener.setblocking(False)
        self._listener, self._selector = listener, selector
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self, selector: selectors.BaseSelector) -> None:
        if self._listener is not None:
            if self._listen_again is None:
                selector.unregister(self._listener)
            self._listener.close()
        for session in list(self._all):
            self._drop(session)
        self.journal.close()

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        assert self._selector is not None
        try:
            connection, _peer = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptors: to ask again at once would be to ask for ever
            if self._listener.fileno() >= 0:
                say("manager", f"no agent can be taken on for {ACCEPT_PAUSE:g} s: {error.strerror}")
                self._selector.unregister(self._listener)
                self._listen_again = self.now() + ACCEPT_PAUSE
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            session = _Session(connection, self._selector, self._heard, self._drop)
        except OSError:  # it has hung up already
            connection.close()
            return
        self._all.add(session)
        # An agent says who it is at once, so the oldest stranger is the one who will not.
        while len(self._strangers) >= MOST_STRANGERS:
            self._drop(next(iter(self._strangers)))
        self._strangers[session] = self.now() + STRANGER_PATIENCE

    def _part(self, session: _Session) -> None:
        """Its node is part of this swarm no more: its agent ends what runs there."""
        session.say({"removed": True})
        session.flush()
        self._drop(session)

    def _drop(self, session: _Session) -> None:
        self._all.discard(session)
        self._strangers.pop(session, None)
        if self._sessions.get(session.node) is session:
            del self._sessions[session.node]
        session.close()

    def _heard(self, session: _Session, messages: Iterable[dict[str, Any]]) -> None:
        try:
            for message in messages:
                if session not in self._all:
                    return
                self._answer(session, message)
        except UsageError as error:
            session.say({"refused": str(error)})
            session.flush()
            self._drop(session)
        except (ValueError, KeyError, TypeError, AttributeError, LabError) as error:  # no agent of ours; or nothing can be written down at present
            say("manager", f"a session with {session.peer} is ended: {type(error).__name__}: {str(error)[:200]}")
            self._drop(session)

    def _answer(self, session: _Session, message: dict[str, Any]) -> None:
        (word, told), *_ = message.items()
        dispatcher, tell = self.swarm.dispatcher, self.swarm.tell
        if word == "join":
            role = self.role_of(str(told["token"]))
            name, address = self._plausible(str(told["name"]), str(told["address"]))
            id = self.admit(name, address, role, Availability(told["availability"]))
            session.say({"joined": {"node": id, "secret": self._secrets[id]}})
        elif word == "open":
            self._open(session, str(told["node"]), str(told["secret"]), revive(Node, told["described"]))
        elif not session.node:
            raise ValueError(f"{word!r} before a session is open")
        elif word == "beat":
            session.say({"beat": tell(dispatcher.heartbeat, session.node)})
        elif word == "report":
            reports = [Report(task, TaskState(state), text, error) for task, state, text, error in told]
            tell(dispatcher.report, session.node, reports)
        elif word == "bye":
            tell(dispatcher.close, session.node)
        else:
            raise ValueError(f"{word!r} is no message")

    def _plausible(self, name: str, address: str) -> tuple[str, str]:
        """UsageError when no node of this lab says that of itself."""
        if name not in self._machines:
            raise UsageError("a node of this lab joins by the name that it has in the topology")
        try:
            return name, str(IPv4Address(address))
        except ValueError:
            raise UsageError(f"the address of {name} is no IPv4 address") from None

    def _open(self, session: _Session, node: str, secret: str, described: Node) -> None:
        if not secrets.compare_digest(self._secrets.get(node, ""), secret) or not secret:
            raise UsageError(f"node {node} is not part of this swarm")
        if session.node:
            raise ValueError("a session is opened once")
        known = self.swarm.store.nodes.get(node)
        if known is None:
            return self._part(session)
        self._plausible(described.hostname, described.address)
        if described.hostname != known.hostname:
            raise UsageError(f"node {node} is {known.hostname}")
        before = self._sessions.get(node)
        if before is not None and before is not session:
            self._drop(before)
        tasks = self.swarm.tell(self.swarm.dispatcher.open, node, described)
        session.node = node
        session.lines.longest = LONGEST
        self._strangers.pop(session, None)
        self._sessions[node] = session
        settings = self.swarm.settings
        session.say(
            {"session": {"heartbeat": settings.heartbeat, "port": settings.data_path_port, "keys": self._keys, "tasks": [task.id for task in tasks]}}
        )
        return self._tell(session, tasks)

    def _tell(self, session: _Session, tasks: list[Task] | None = None) -> None:
        """What has changed for a node since its agent was last told; at the beginning all of it."""
        if tasks is None:
            try:
                tasks, gone = self.swarm.dispatcher.assignments(session.node)
            except UsageError as error:  # it is down: its agent has to begin again
                session.say({"refused": str(error)})
                session.flush()
                return self._drop(session)
        else:
            gone = []
        store = self.swarm.store
        node = store.nodes.get(session.node)
        attachments = node.attachments if node is not None else ()
        wanted = dict.fromkeys([one.network for one in attachments] + [one.network for task in tasks for one in task.networks])
        networks = [network for id in wanted if (network := store.networks.get(id)) is not None and session.networks.get(id) is not network]
        told: dict[str, Any] = {}
        if networks:
            told["networks"] = [written(network) for network in networks]
            session.networks.update((network.id, network) for network in networks)
        if attachments is not session.attachments:
            told["attachments"] = [written(one) for one in attachments if one.network in store.networks]
            session.attachments = attachments
        if tasks:
            told["tasks"] = [{"task": written(task), "service": self._service(task)} for task in tasks]
        if gone:
            told["gone"] = gone
        if told:
            session.say({"told": told})
        return None

    def _service(self, task: Task) -> Any:
        """What a task's endpoints are told of their service, for names and balancing."""
        service = self.swarm.store.services.get(task.service)
        if service is None:
            return None
        return {
            "name": service.spec.name,
            "id": service.id,
            "vips": [[network, str(address)] for network, address in service.vips],
            "ports": [plain(port) for port in service.ports],
        }

    # -- looking ---------------------------------------------------------------------------------------------------------

    def cluster(self, spec: LabSpec) -> Cluster:
        store = self.swarm.store
        if self._cluster is None or self._cluster[0] != store.version:
            view = View(
                store.version, self.now(), self.requests.info, dict(store.nodes), dict(store.networks), dict(store.services), dict(store.tasks)
            )
            mtu = min((spec.topology.mtu(node.name) for node in spec.topology.nodes), default=None) if spec.options.mtu_from_underlay else None
            made = cluster(view, mtu)
            there = {node.name for node in made.nodes}
            others = tuple(
                ClusterNode(machine.name, hostname=machine.name, advertise=spec.topology.address(machine.name))
                for machine in spec.topology.nodes
                if machine.name not in there
            )
            self._cluster = store.version, replace(made, nodes=made.nodes + others)
        return self._cluster[1]


class _Session:
    """A connection with an agent. What cannot be sent at once waits; an agent that never reads is given up."""

    def __init__(
        self,
        connection: socket.socket,
        selector: selectors.BaseSelector,
        heard: Callable[[_Session, Iterable[dict[str, Any]]], None],
        lost: Callable[[_Session], None],
    ) -> None:
        self.node = ""  # id, once it is open
        self.networks: dict[str, Network] = {}  # as it was told of them
        self.attachments: Any = None
        self.peer = connection.getpeername()[0]
        self._connection = connection
        self._selector = selector
        self._heard = heard
        self._lost = lost
        self.lines = Lines(BEFORE_OPEN)
        self._unsent = bytearray()
        self._events = selectors.EVENT_READ
        selector.register(connection, self._events, self._ready)

    def say(self, message: Mapping[str, Any]) -> None:
        self._unsent += line(message)

    def flush(self) -> None:
        try:
            while self._unsent:
                sent = self._connection.send(memoryview(self._unsent)[:_PIECE])
                del self._unsent[:sent]
        except BlockingIOError:
            if len(self._unsent) > MOST_UNSENT:
                return self._lost(self)
        except OSError:
            return self._lost(self)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if wanted != self._events and self._connection.fileno() >= 0:
            self._events = wanted
            self._selector.modify(self._connection, wanted, self._ready)
        return None

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            self._selector.unregister(self._connection)
            self._connection.close()

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            try:
                piece = self._connection.recv(_PIECE)
            except BlockingIOError:
                piece = None
            except OSError:
                piece = b""
            if piece == b"":
                return self._lost(self)
            if piece:
                self._heard(self, self.lines.feed(piece))
        if events & selectors.EVENT_WRITE and self._connection.fileno() >= 0:
            self.flush()
        return None


def _token() -> str:
    """As swarmkit's join tokens look: what they would prove with a certificate, a lab's prove by being secret."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"

    def text(length: int) -> str:
        return "".join(secrets.choice(digits) for _ in range(length))

    return f"SWMTKN-1-{text(50)}-{text(25)}"
