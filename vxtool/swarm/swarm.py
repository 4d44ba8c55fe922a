"""The control plane as a whole: one store, and movers that follow from each other's changes until nothing moves any more.

Knows the order in which movers see and move, and the moment; what each of them does is its own file. There is no clock in here: who has one calls
`advance`, and asks `next_due` how long it may sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ParamSpec, Protocol, TypeVar

from vxtool.model import Engine
from vxtool.swarm.allocator import Allocator
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
        self.timers = Timers(now)
        self._watch = watch
        identities = Identities(random or Random())
        restarts = Restarts()
        restarter = Restarter(self.store, self.timers, identities, self.settings, restarts)
        updater = Updater(self.store, self.timers, identities, restarter, restarts)
        tools = Tools(self.store, self.timers, identities, restarts, restarter, updater)
        placer = Placer(self.store, self.timers)
        allocator = Allocator(self.store, self.timers, self.settings, engine)
        self.control = Control(self.store, self.timers, identities)
        self.dispatcher = Dispatcher(self.store, self.timers, self.settings)
        self.scheduler = placer.scheduler
        # Addresses are given to services before there are tasks to ask for them; tasks are placed when all that is to come has come.
        self._movers: tuple[_Mover, ...] = (
            allocator,
            Replicated(tools),
            Globals(tools),
            ReplicatedJobs(tools),
            GlobalJobs(tools),
            restarter,
            updater,
            self.dispatcher,
            Enforcer(self.store, self.timers),
            placer,
            Reaper(self.store, self.timers, self.settings),
        )
        everything = self.store.everything()
        if everything:
            allocator.load()
            for mover in self._movers:
                mover.see(everything)
            restarter.load()
            self.dispatcher.load()
            self._settle()

    @property
    def now(self) -> float:
        return self.timers.now

    def tell(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Does something of `control` or `dispatcher` and all that follows from it at this moment: `tell(swarm.control.remove_service, "web")`."""
        answer = call(*arguments, **named)
        self._settle()
        return answer

    def advance(self, now: float) -> None:
        """Moves the clock, and does what falls due on the way, each at its own time."""
        while self.timers.ring(now):
            self._settle()

    def next_due(self) -> float | None:
        return self.timers.next_due()

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
