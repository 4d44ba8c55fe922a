"""A whole swarm in one process, in virtual time, behind the same API that a lab's manager answers: for tests of whatever only asks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.swarm.agents import SimulatedAgents
from vxtool.model import NodeState, Role, TaskState
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.control import INGRESS
from vxtool.swarm.objects import Node, Resources, Settings, SwarmInfo, Task
from vxtool.swarm.requests import Requests
from vxtool.swarm.store import Changes
from vxtool.swarm.swarm import Swarm

__all__ = ["LocalSwarm"]


class LocalSwarm:
    """`names` are nodes, the first one the manager; `identity` makes their ids. Waiting lets virtual time pass."""

    def __init__(
        self,
        *names: str,
        outcome: Callable[[Task], TaskState | None] = lambda task: None,
        seed: int = 1,
        now: float = 1_700_000_000.0,
        identity: Callable[[str], str] = lambda name: name,
        **settings: Any,
    ) -> None:
        self.swarm = Swarm(Settings(**settings), random=Random(seed), now=now, watch=self._see)
        info = SwarmInfo("swarm0id", now, self.swarm.settings, "SWMTKN-1-worker", "SWMTKN-1-manager")
        self.requests = Requests(self.swarm, info)
        self.agents = SimulatedAgents(self.swarm, outcome)
        self.client = SwarmClient(self.ask)
        self.swarm.tell(self.swarm.control.create_network, INGRESS)
        for number, name in enumerate(names or ("vm1", "vm2", "vm3")):
            role = Role.WORKER if number else Role.MANAGER
            described = Node(identity(name), name, f"192.0.2.{number + 1}", resources=Resources(4_000_000_000, 8 << 30), engine_version="19.03.15")
            self.swarm.tell(self.swarm.control.add_node, Node(described.id, name, described.address, role, state=NodeState.UNKNOWN))
            self.agents.connect(described.id, described)

    def _see(self, changes: Changes) -> None:
        if hasattr(self, "requests"):
            self.requests.see(changes)

    def ask(self, do: str, /, **arguments: Any) -> Any:
        if do == "wait":
            self.run(min(arguments.pop("seconds"), 0.05))
            do = "view"
        return self.requests.answer(do, arguments)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        self.agents.run(seconds)
