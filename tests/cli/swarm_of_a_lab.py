"""A lab's swarm behind the command line, in this process: what the manager of a lab answers itself, and a LocalSwarm for the rest."""

from __future__ import annotations

from typing import Any

from tests.swarm.local import LocalSwarm
from vxtool.cli.swarm.places import Place
from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, Role
from vxtool.model.plain import plain, revive
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.objects import Node, Resources, Settings

__all__ = ["SwarmOfALab"]


class SwarmOfALab:
    """The lab has the nodes `names`; nobody is in a swarm before `swarm init`."""

    def __init__(self, *names: str) -> None:
        self.names = names or ("vm1", "vm2", "vm3")
        self.local: LocalSwarm | None = None
        self.joined: dict[str, str] = {}

    @property
    def client(self) -> SwarmClient:
        return SwarmClient(self.ask)

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(name, {"eth0": f"192.0.2.{number}", "eth1": f"198.51.100.{number}"}) for number, name in enumerate(self.names, 1))

    def ask(self, do: str, /, **arguments: Any) -> Any:
        if do == "agent.list":
            return [{"node": name, "id": self.joined.get(name)} for name in self.names]
        if do.startswith("swarm.") and hasattr(self, do[6:]):
            return getattr(self, do[6:])(**arguments)
        if self.local is None:
            raise UsageError("This node is not a swarm manager.")
        return self.local.ask(do, **arguments)

    def init(self, node: str, settings: Any, availability: str) -> Any:
        if self.local is not None:
            raise UsageError("This node is already part of a swarm.")
        name = node or self.names[0]
        self.local = LocalSwarm(name, **{field: getattr(revive(Settings, settings), field) for field in settings})
        self.joined[name] = name
        self.local.client.update_node(self.local.client.view().node(name), availability=Availability(availability))
        return plain(self.local.requests.info)

    def join(self, node: str, token: str, address: str, availability: str) -> Any:
        assert self.local is not None
        if token != self.local.requests.info.worker_token:
            raise UsageError("A valid join token is necessary to join this cluster")
        number = self.names.index(node) + 1
        described = Node(node, node, f"192.0.2.{number}", resources=Resources(4_000_000_000, 8 << 30), engine_version="19.03.15")
        new = Node(node, node, described.address, Role.WORKER, Availability(availability), NodeState.UNKNOWN)
        self.local.swarm.tell(self.local.swarm.control.add_node, new)
        self.local.agents.connect(node, described)
        self.joined[node] = node
        return {"node": node, "address": address}

    def leave(self, node: str, force: bool) -> None:
        assert self.local is not None
        if self.local.client.view().node(node).role is Role.MANAGER and not force:
            raise UsageError("You are attempting to leave the swarm on a node that is participating as a manager.")
        self.joined.pop(node)
