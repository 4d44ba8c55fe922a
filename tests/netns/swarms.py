"""A real swarm in a lab, for tests: fast heartbeats, and words for what tests wait for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vxtool.lab.lab import Lab
from vxtool.model import TaskState
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.objects import EndpointSpec, NetworkSpec, PortConfig, Service, ServiceSpec, Settings, Task, TaskNetwork, TaskSpec
from vxtool.swarm.view import View

__all__ = ["Town", "town"]

HEARTBEAT = 1.0
PATIENCE = 60.0


@contextmanager
def town(nodes: int = 3, heartbeat: float = HEARTBEAT, **how: Any) -> Iterator[Town]:
    """A lab whose nodes are all in a swarm; the network `web` is there."""
    with Lab(nodes=nodes, bare=True, **how) as lab:
        names = [node.name for node in lab.spec.topology.nodes]
        info = lab.swarm.init(names[0], Settings(heartbeat=heartbeat))
        for name in names[1:]:
            lab.swarm.join(name, info.worker_token, "")
        yield Town(lab, names)


class Town:
    def __init__(self, lab: Lab, names: list[str]) -> None:
        self.lab = lab
        self.nodes = names
        self.client: SwarmClient = lab.swarm
        self.client.create_network(NetworkSpec("web", attachable=True))

    def create(
        self, name: str = "web", image: str = "httpd", replicas: int = 6, publish: int = 0, networks: tuple[str, ...] = ("web",), **task: Any
    ) -> Service:
        ports = (PortConfig(80, publish),) if publish else ()
        spec = TaskSpec(image, networks=tuple(TaskNetwork(network) for network in networks), **task)
        return self.client.create_service(ServiceSpec(name, spec, replicas=replicas, endpoint=EndpointSpec(ports=ports)))

    def update(self, name: str, **changes: Any) -> Service:
        """Changes fields of the service's task."""
        service = self.client.view().service(name)
        return self.client.update_service(service, replace(service.spec, task=replace(service.spec.task, **changes)))

    def until(self, what: Callable[[View], object], seconds: float = PATIENCE) -> View:
        """The first view in which it is so. AssertionError with what there is when the time is up."""
        end = time.monotonic() + seconds
        view = self.client.view()
        while not what(view):
            assert time.monotonic() < end, f"not within {seconds:g} s:\n{self.told(view)}"
            view = self.client.wait(min(1.0, seconds))
        return view

    def settled(self, name: str, replicas: int, seconds: float = PATIENCE) -> View:
        """So many run, and nothing else of the service does."""
        return self.until(lambda view: len(self.running(view, name)) == replicas == len(self.alive(view, name)), seconds)

    @staticmethod
    def running(view: View, name: str) -> list[Task]:
        tasks = view.tasks_of.get(view.service(name).id, ())
        return [task for task in tasks if task.state is TaskState.RUNNING and task.desired is TaskState.RUNNING]

    @staticmethod
    def alive(view: View, name: str) -> list[Task]:
        """Tasks of nodes that are there which have not come to their end."""
        tasks = view.tasks_of.get(view.service(name).id, ())
        return [task for task in tasks if task.state <= TaskState.RUNNING and (not task.node or view.nodes[task.node].state.value == "ready")]

    def spread(self, view: View, name: str) -> dict[str, int]:
        return dict(Counter(view.nodes[task.node].hostname for task in self.running(view, name)))

    def addresses(self, view: View, name: str, network: str = "web") -> list[str]:
        id = view.network(network).id
        return [str(one.address.ip) for task in self.running(view, name) for one in task.networks if one.network == id and one.address]

    def reaches(self, where: str, address: str, seconds: float = 1.0) -> bool:
        return self.lab.exec(where, ["ping", "-c", "1", "-W", str(seconds), address]).returncode == 0

    def all_reach_all(self, view: View, name: str) -> list[tuple[str, str]]:
        """Who does not reach whom."""
        targets = self.addresses(view, name)
        return [(task, target) for task in map(view.task_name, self.running(view, name)) for target in targets if not self.reaches(task, target)]

    def supervisor(self) -> int:
        """Its process id."""
        folder = str(self.lab.running.folder)
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    words = (process / "cmdline").read_text().split("\0")
                except OSError:
                    continue
                if folder in words and any("lab.supervisor" in word for word in words):
                    return int(process.name)
        raise AssertionError("the lab has no supervisor")

    def told(self, view: View) -> str:
        lines = [f"{node.hostname} {node.state} {node.availability}" for node in view.nodes.values()]
        for task in view.tasks.values():
            node = view.nodes.get(task.node)
            lines.append(
                f"{view.slot_name(task)} {node.hostname if node else '-'} {task.desired.name} {task.state.name} {task.message!r} {task.error!r}"
            )
        return "\n".join([*lines, (self.lab.running.folder / "log").read_text()[-2000:]])
