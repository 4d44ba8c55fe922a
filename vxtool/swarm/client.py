"""Asking a swarm: the other side of vxtool.swarm.requests, for the command line and Python alike.

Knows the words and what comes back, as objects; `ask` carries them: over a lab's socket, or straight to Requests. What users call things is
looked up in a View first, so that everything is asked by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from vxtool.model import Availability, Role
from vxtool.model.plain import plain, revive
from vxtool.swarm.events import Event
from vxtool.swarm.objects import Network, NetworkSpec, Node, Service, ServiceSpec, Settings, SwarmInfo, Task, TaskSpec
from vxtool.swarm.view import View

__all__ = ["Ask", "SwarmClient"]


class Ask(Protocol):
    def __call__(self, do: str, /, **arguments: Any) -> Any:
        """JSON values in, JSON values out; UsageError when the swarm refuses."""


_KINDS: Mapping[str, Any] = {"nodes": Node, "networks": Network, "services": Service, "tasks": Task}


class SwarmClient:
    """One swarm, asked by one thread."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._seen = View(version=-1)

    # -- looking ---------------------------------------------------------------------------------------------------------

    def view(self) -> View:
        """What the swarm is now."""
        return self._merged(self._ask("view", after=self._seen.version))

    def wait(self, seconds: float) -> View:
        """The same, but not before something has changed since the last view; after `seconds` at the latest."""
        return self._merged(self._ask("wait", after=self._seen.version, seconds=seconds))

    def _merged(self, told: Mapping[str, Any]) -> View:
        if not told["whole"] and told["info"]["id"] != self._seen.info.id:  # another swarm meanwhile: what was seen is nothing of it
            told = self._ask("view", after=-1)
        tables: dict[str, dict[str, Any]] = {}
        for table, kind in _KINDS.items():
            objects = {} if told["whole"] else dict(getattr(self._seen, table))
            for one in told[table]:
                objects[one["id"]] = revive(kind, one)
            for id in () if told["whole"] else told["gone"][table]:
                objects.pop(id, None)
            tables[table] = objects
        self._seen = View(told["version"], told["now"], revive(SwarmInfo, told["info"]), **tables)
        return self._seen

    def events(self, after: int = -1) -> list[Event]:
        """What has happened since the event of that number, as far as the swarm remembers."""
        return [revive(Event, one) for one in self._ask("events", after=after)]

    # -- the swarm itself ------------------------------------------------------------------------------------------------

    def init(self, node: str, settings: Settings, availability: Availability = Availability.ACTIVE) -> SwarmInfo:
        """`node`, a name of the lab, becomes the manager of a new swarm."""
        return revive(SwarmInfo, self._ask("swarm.init", node=node, settings=plain(settings), availability=availability))

    def join(self, node: str, token: str, address: str, availability: Availability = Availability.ACTIVE) -> str:
        """`address`: where the manager listens, `192.0.2.1:2377`. Gives the id that the node has in the swarm."""
        return str(self._ask("swarm.join", node=node, token=token, address=address, availability=availability)["node"])

    def form(self, nodes: Sequence[str], data_path_port: int) -> None:
        """A swarm of all these nodes of the lab, the first one its manager."""
        first, *others = nodes
        info = self.init(first, Settings(data_path_port=data_path_port))
        for node in others:
            self.join(node, info.worker_token, "")

    def members(self) -> dict[str, str | None]:
        """The nodes of the lab by name, in the topology's order: the id that each has in the swarm; None: it is in none."""
        return {one["node"]: one["id"] or None for one in self.agents()}

    def agents(self) -> list[dict[str, Any]]:
        """The nodes of the lab: `node`, `alive` (whether its agent is), `id` in the swarm, `pid` as the lab's processes see it."""
        agents: list[dict[str, Any]] = self._ask("agent.list")
        return agents

    def kill_agent(self, node: str) -> None:
        self._ask("agent.kill", node=node)

    def start_agent(self, node: str) -> None:
        self._ask("agent.start", node=node)

    def logs(self, task: str, offset: int = 0) -> tuple[str, int]:
        """What a task's program has written, from a byte of its log on; and where to go on."""
        told = self._ask("logs", task=task, offset=offset)
        return told["text"], told["offset"]

    def leave(self, node: str, force: bool = False) -> None:
        """When the manager leaves, which it does only by force, nothing is left of the swarm."""
        self._ask("swarm.leave", node=node, force=force)

    def update(self, settings: Settings) -> SwarmInfo:
        return revive(SwarmInfo, self._ask("swarm.update", settings=plain(settings)))

    def rotate_token(self, role: Role) -> SwarmInfo:
        """With the token that was nobody can join any more; who has joined stays."""
        return revive(SwarmInfo, self._ask("swarm.rotate_token", role=role))

    # -- networks --------------------------------------------------------------------------------------------------------

    def create_network(self, spec: NetworkSpec) -> Network:
        return revive(Network, self._ask("network.create", spec=plain(spec)))

    def remove_network(self, id: str) -> None:
        self._ask("network.remove", network=id)

    def connect_network(self, network: str, container: str, address: str | None = None, aliases: tuple[str, ...] = ()) -> None:
        """A running container that belongs to no service gets a further network. `address`: which one it asks for."""
        self._ask("network.connect", network=network, container=container, address=address, aliases=list(aliases))

    def disconnect_network(self, network: str, container: str) -> None:
        self._ask("network.disconnect", network=network, container=container)

    # -- containers that belong to no service ------------------------------------------------------------------------------

    def run_container(self, spec: TaskSpec, node: str) -> Task:
        """`spec.container` is its name, `spec.networks` are attachable ones, with an address where one is asked for; `node` by id."""
        return revive(Task, self._ask("container.run", spec=plain(spec), node=node))

    def stop_container(self, container: str) -> Task:
        """By id or name. It stays known, with how it ended, until it is removed."""
        return revive(Task, self._ask("container.stop", task=container))

    def remove_container(self, container: str, force: bool = False) -> None:
        self._ask("container.remove", task=container, force=force)

    # -- services --------------------------------------------------------------------------------------------------------

    def create_service(self, spec: ServiceSpec) -> Service:
        return revive(Service, self._ask("service.create", spec=plain(spec)))

    def update_service(self, service: Service, spec: ServiceSpec) -> Service:
        """`service` as it was read: UsageError `update out of sequence` when somebody else has changed it since."""
        return revive(Service, self._ask("service.update", service=service.id, spec=plain(spec), version=service.version))

    def scale_service(self, service: Service, replicas: int) -> Service:
        return self.update_service(service, replace(service.spec, replicas=replicas))

    def roll_back_service(self, service: Service) -> Service:
        return revive(Service, self._ask("service.rollback", service=service.id, version=service.version))

    def remove_service(self, id: str) -> None:
        self._ask("service.remove", service=id)

    # -- nodes -----------------------------------------------------------------------------------------------------------

    def update_node(
        self, node: Node, *, availability: Availability | None = None, labels: Mapping[str, str] | None = None, role: Role | None = None
    ) -> Node:
        told = self._ask("node.update", node=node.id, version=node.version, availability=availability, labels=labels, role=role)
        return revive(Node, told)

    def remove_node(self, id: str, force: bool = False) -> None:
        self._ask("node.remove", node=id, force=force)
