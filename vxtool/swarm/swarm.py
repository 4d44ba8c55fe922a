"""The control plane as a whole: one store, and movers that follow from each other's changes until nothing moves any more.

Knows the order in which movers see and move, and the moment; what each of them does is its own file. There is no clock in here: who has one calls
`advance`, and asks `next_due` how long it may sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ParamSpec, Protocol, TypeVar

from vxtool.errors import LabError, UsageError
from vxtool.model import Engine
from vxtool.swarm.allocator import Allocator
from vxtool.swarm.containers import Containers
from vxtool.swarm.control import Control
from vxtool.swarm.dispatcher import Dispatcher
from vxtool.swarm.enforcer import Enforcer
from vxtool.swarm.identities import Identities
from vxtool.swarm.objects import Settings
from vxtool.swarm.orchestrators import GlobalJobs, Globals, Replicated, ReplicatedJobs, Tools
from vxtool.swarm.placer import Placer
from vxtool.swarm.reaper import Reaper
from vxtool.swarm.restart import Restarts
from vxtool.swarm.restarter import Restarter
from vxtool.swarm.store import Changes, Store
from vxtool.swarm.timers import Timers
from vxtool.swarm.updater import Updater

__all__ = ["Swarm"]

RETRY = 1.0
"""Seconds after which a store that could not be written is tried again."""

P = ParamSpec("P")
T = TypeVar("T")


class _Mover(Protocol):
    def see(self, changes: Changes) -> None:
        """Is told what has changed; notes what it has to do about it."""

    def move(self) -> bool:
        """Does it, in transactions of its own; whether anything has changed, or more is to be done."""


class Swarm:
    """`control` takes what users want, `dispatcher` what agents say, each through `tell`; `store` is what has come of it."""

    def __init__(
        self,
        settings: Settings | None = None,
        store: Store | None = None,
        random: Random | None = None,
        now: float = 0.0,
        engine: Engine = Engine.V19_03,
        watch: Callable[[Changes], None] | None = None,
    ) -> None:
        """`store`: empty, or filled from a journal, and gone on with. `random` makes the identities. `watch` sees every change."""
        self.settings = settings or Settings()
        self.store = store if store is not None else Store()
        self.trouble: LabError | None = None
        """Why the store could not be written of late: until it can, nothing moves and nothing is taken on."""
        self._now = now
        self._watch = watch
        self._identities = Identities(random or Random())
        self._engine = engine
        self._begin()

    def _begin(self) -> None:
        """Movers that know what the store holds, and nothing else."""
        self.timers = Timers(self._now)
        identities = self._identities
        restarts = Restarts()
        restarter = Restarter(self.store, self.timers, identities, self.settings, restarts)
        updater = Updater(self.store, self.timers, identities, restarter, restarts)
        tools = Tools(self.store, self.timers, identities, restarts, restarter, updater)
        placer = Placer(self.store, self.timers)
        allocator = Allocator(self.store, self.timers, self.settings, self._engine)
        self.control = Control(self.store, self.timers, identities)
        self.dispatcher = Dispatcher(self.store, self.timers, self.settings)
        reaper = Reaper(self.store, self.timers, self.settings)
        self._follow_settings = (restarter, self.dispatcher, reaper)
        self.scheduler = placer.scheduler
        # Addresses are given to services before there are tasks to ask for them; tasks are placed when all that is to come has come.
        self._movers: tuple[_Mover, ...] = (
            allocator,
            Replicated(tools),
            Globals(tools),
            ReplicatedJobs(tools),
            GlobalJobs(tools),
            Containers(self.store, self.timers, identities, restarter),
            restarter,
            updater,
            self.dispatcher,
            Enforcer(self.store, self.timers),
            placer,
            reaper,
        )
        everything = self.store.everything()
        if everything:
            allocator.load()
            for mover in self._movers:
                mover.see(everything)
            restarter.load()
            self._carry_on(begin=True)

    def change_settings(self, settings: Settings) -> None:
        """What is counted from now on is counted by them: histories, heartbeats, the wait for old tasks."""
        if settings.heartbeat < 0:
            raise UsageError("heartbeat time period cannot be a negative duration")
        if not settings.heartbeat or settings.grace < 1:
            raise UsageError("a node that is given no time at all is always down: heartbeat and grace must be more than 0")
        if (settings.pools, settings.data_path_port) != (self.settings.pools, self.settings.data_path_port):
            raise UsageError("the address pools and the data path port of a swarm are chosen once, by swarm init")
        self.settings = settings
        for mover in self._follow_settings:
            mover.settings = settings

    @property
    def now(self) -> float:
        return self.timers.now

    def tell(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Does something of `control` or `dispatcher` and all that follows from it at this moment: `tell(swarm.control.remove_service, "web")`.

        A store that cannot be written raises LabError: the call has not happened, nor will another until `advance` finds that it can be written
        again. Agents then have to open new sessions, and to report again what they may have said in vain.
        """
        if self.trouble is not None:
            raise self.trouble
        try:
            answer = call(*arguments, **named)
        except LabError as trouble:
            self.trouble = trouble
            raise
        self._carry_on()
        return answer

    def advance(self, now: float) -> None:
        """Moves the clock, and does what falls due on the way, each at its own time."""
        if self.trouble is not None:
            self._recover(max(self.now, now))
        while self.trouble is None and self.timers.ring(now):
            self._carry_on()

    def next_due(self) -> float | None:
        return self.timers.next_due() if self.trouble is None else self.now + RETRY

    def _carry_on(self, begin: bool = False) -> None:
        """What was asked for is written down, and is not taken back when what follows from it cannot be written: that is done later."""
        try:
            if begin:
                self.dispatcher.load()
            self._settle()
        except LabError as trouble:
            self.trouble = trouble

    def _recover(self, now: float) -> None:
        """After trouble: a mover whose transaction did not happen knows more than is true. Others begin, with what the store holds."""
        changes = self.store.take()
        if changes and self._watch is not None:
            self._watch(changes)
        self.trouble = None
        self._now = now
        self._begin()

    def _settle(self) -> None:
        """Lets the first mover that has something to do do it, and everybody see what came of it, until none has."""
        while True:
            changes = self.store.take()
            if changes:
                for mover in self._movers:
                    mover.see(changes)
                if self._watch is not None:
                    self._watch(changes)
            if not any(mover.move() for mover in self._movers):
                return
