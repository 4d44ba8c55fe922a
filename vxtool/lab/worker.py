"""What an agent does for the tasks of its node: from ASSIGNED to their end, as swarmkit's agent/exec does it.

Knows states, containers, health checks and grace periods; what a sandbox is made of is the data plane's affair, how a program is started the
containers'. Everything happens when the agent says so: nothing here waits.
"""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vxtool.dns.resolvconf import ResolvConf, resolv_conf
from vxtool.errors import UsageError, VxtoolError
from vxtool.lab import containers, images
from vxtool.lab.containers import Check, Container, Wanted
from vxtool.lab.dataplane import DataPlane
from vxtool.lab.programs import Limits
from vxtool.lab.saying import say
from vxtool.model import Engine, TaskState
from vxtool.swarm.identities import container_id
from vxtool.swarm.objects import HealthCheck, Node, Task, TaskNetwork
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Worker"]

AGAIN = 1.0  # seconds until what the kernel has refused is tried again
MOMENT = 0.5  # seconds between the news that a task stops and its stop signal: gossip tells at once
UNHEALTHY = "dockerexec: unhealthy container"

_TEMPLATE = re.compile(r"\{\{\s*\.(Service\.(?:ID|Name)|Node\.(?:ID|Hostname)|Task\.(?:ID|Name|Slot))\s*\}\}")
"""Placeholders that Docker fills in `--hostname`, `--env` and mounts (swarmkit template/)."""

Report = Callable[[str, TaskState, str, str], None]


@dataclass(slots=True, eq=False)
class _Run:
    """One task on this node."""

    task: Task
    service: Mapping[str, Any] | None
    state: TaskState = TaskState.ASSIGNED
    said: tuple[str, str] = ("", "")  # message and error of that state, to be said again
    networks: tuple[TaskNetwork, ...] = ()  # that its sandbox has
    sandbox: bool = False
    container: Container | None = None
    stopping: bool = False
    why: str = ""  # it was ended for a reason of its own: it was not healthy
    grace: Timer | None = None
    health: _Health | None = None
    forgotten: bool = False  # nobody asks for it any more: it goes when it has ended

    @property
    def name(self) -> str:
        """The container's: `web.1.ID`, `web.NODE.ID`, or its own."""
        if self.service is None:
            return self.task.spec.container or self.task.id
        return f"{self.service['name']}.{self.task.slot or self.task.node}.{self.task.id}"


@dataclass(slots=True, eq=False)
class _Health:
    check: HealthCheck
    began: float
    failures: int = 0
    healthy: bool = False
    timer: Timer | None = None
    running: Check | None = None


@dataclass(slots=True)
class Place:
    """Where the worker's files are, and who its node is."""

    lab: Path
    node: Node
    logs: Path
    resolv: str = ""  # the machine's resolv.conf
    engine: Engine = Engine.V19_03


class Worker:
    """`watch(fd, call)` and `forget(fd)` are the agent's: it calls when the descriptor can be read."""

    def __init__(
        self,
        place: Place,
        plane: DataPlane,
        timers: Timers,
        report: Report,
        watch: Callable[[int, Callable[[], None]], None],
        forget: Callable[[int], None],
    ) -> None:
        self._place = place
        self._plane = plane
        self._timers = timers
        self._report = report
        self._watch = watch
        self._forget = forget
        self._runs: dict[str, _Run] = {}
        self._queue: deque[_Run] = deque()  # to be started, one at a time: heartbeats and gossip go on in between
        self._ends: deque[tuple[_Run, int]] = deque()  # have ended, with this exit code

    # -- what the agent is told ------------------------------------------------------------------------------------------

    def assign(self, task: Task, service: Mapping[str, Any] | None) -> None:
        """A task, new or changed: what is wanted of it may have grown, its networks may be others."""
        run = self._runs.get(task.id)
        if run is None:
            if task.state > TaskState.RUNNING:
                return
            run = self._runs[task.id] = _Run(task, service)
            if task.state > TaskState.READY:  # it was running under an agent that is no more
                self._fail(run, "task: the agent that ran it has ended")
                return
        before, run.task = run.task, task
        if run.state > TaskState.RUNNING:
            self._say(run, run.state, *run.said)  # it may not have heard
        elif task.desired > TaskState.COMPLETE:
            self._stop(run)
        else:
            if run.sandbox and before.networks != task.networks:
                self._rewire(run)
            self._advance(run)

    def known(self, tasks: Mapping[str, Any]) -> None:
        """All that is assigned, at the beginning of a session: what else runs here is to end. What was reported into nothing is said again."""
        for id, run in list(self._runs.items()):
            if id not in tasks:
                self.gone(id)
            else:
                self._say(run, run.state, *run.said)

    def gone(self, id: str) -> None:
        """Nobody asks for this task any more."""
        run = self._runs.get(id)
        if run is None:
            return
        run.forgotten = True
        if run.state <= TaskState.RUNNING:
            self._stop(run)
        if run.state > TaskState.RUNNING:
            self._runs.pop(id, None)

    @property
    def busy(self) -> bool:
        """Whether a task is due to be started, or one that has ended is to be cleared away."""
        return bool(self._queue or self._ends)

    def work(self) -> None:
        """One of them."""
        if self._ends:
            self._clear(*self._ends.popleft())
        elif self._queue:
            run = self._queue.popleft()
            if run.state is TaskState.STARTING and not run.stopping and run.container is None:
                self._start(run)

    @property
    def idle(self) -> bool:
        """Nothing runs any more."""
        return all(run.state > TaskState.RUNNING for run in self._runs.values())

    def stop_all(self) -> None:
        for run in list(self._runs.values()):
            if run.state <= TaskState.RUNNING:
                self._stop(run)

    # -- states ----------------------------------------------------------------------------------------------------------

    def _say(self, run: _Run, state: TaskState, message: str | None = None, error: str = "") -> None:
        run.state, run.said = state, (_MESSAGES[state] if message is None else message, error)
        self._report(run.task.id, state, *run.said)

    def _advance(self, run: _Run) -> None:
        if run.state < TaskState.READY:
            self._say(run, TaskState.ACCEPTED)
            self._say(run, TaskState.PREPARING)
            try:
                images.find(run.task.spec.image)
            except UsageError as error:
                return self._say(run, TaskState.REJECTED, _MESSAGES[TaskState.PREPARING], str(error))
            self._say(run, TaskState.READY)
        if run.state is TaskState.READY and run.task.desired >= TaskState.RUNNING:
            self._say(run, TaskState.STARTING)
            self._queue.append(run)
        return None

    def _start(self, run: _Run) -> None:
        task = run.task
        try:
            if task.networks:
                self._plane.attach(run.name, task.networks, task.id, None if run.service is None else run.service["name"], self._told(run))
            else:
                self._plane.bare(run.name)
            run.sandbox, run.networks = True, task.networks
            if task.networks:
                self._plane.resolve(run.name, self._resolv(run))
            run.container = containers.start(self._wanted(run))
            if run.service is None:
                self._plane.activate(run.name)  # it has its names as soon as it is there, well or not
        except Exception as error:
            self._tear_down(run)
            self._fail(run, str(error) if isinstance(error, UsageError) else f"starting container failed: {error}")
            if not isinstance(error, VxtoolError | OSError):
                raise  # a mistake of ours: told in the log
            return None
        self._watch(run.container.fileno(), lambda: self._ended(run))
        check = task.spec.health
        if check is None or not check.test or check.test[0] == "NONE":
            self._plane.activate(run.name)
            return self._say(run, TaskState.RUNNING)
        run.health = _Health(check, self._timers.now)
        self._ask_health(run, run.health)
        return None

    def _told(self, run: _Run) -> dict[str, Any]:
        """What the others learn of its endpoints, beside their addresses (libnetwork's EndpointRecord)."""
        aliases = [self._id(run)[:12]]
        hostname = self._filled(run, run.task.spec.hostname)
        if self._place.engine is Engine.TODAY and hostname:  # from engine 25 on
            aliases.append(hostname)
        if run.service is None:
            return {"name": run.name, "service": "", "service_id": "", "vips": [], "ports": [], "task_aliases": aliases}
        service = run.service
        return {
            "name": run.name,
            "service": service["name"],
            "service_id": service["id"],
            "vips": service["vips"],
            "ports": service["ports"],
            "task_aliases": aliases,
        }

    def _wanted(self, run: _Run) -> Wanted:
        spec, identity = run.task.spec, self._id(run)
        hostname = self._filled(run, spec.hostname) or identity[:12]
        limits = spec.limits
        return Wanted(
            lab=self._place.lab,
            name=run.name,
            namespace=self._plane.namespace(run.name),
            hostname=hostname,
            image=spec.image,
            command=spec.command,
            args=spec.args,
            env=tuple(self._filled(run, text) for text in spec.env),
            workdir=spec.workdir,
            user=spec.user,
            files={
                "/etc/hosts": self._hosts(run, hostname),
                "/etc/hostname": f"{hostname}\n",
                "/etc/resolv.conf": self._resolv(run).text if run.networks else self._place.resolv,
            },
            limits=Limits(limits.memory_bytes or None, limits.nano_cpus / 1e9 or None, limits.pids or None),
            log=self._place.logs / run.task.id,
            stop_signal=_signal(spec.stop_signal),
        )

    def _id(self, run: _Run) -> str:
        """The container's, 64 hexadecimal digits."""
        return container_id(self._place.node.hostname, run.name)

    def _filled(self, run: _Run, text: str) -> str:
        """Placeholders as Docker fills them."""
        node, task = self._place.node, run.task
        values = {
            "Service.ID": task.service,
            "Service.Name": run.service["name"] if run.service else "",
            "Node.ID": node.id,
            "Node.Hostname": node.hostname,
            "Task.ID": task.id,
            "Task.Name": run.name,
            "Task.Slot": str(task.slot or task.node),
        }
        return _TEMPLATE.sub(lambda match: values[match[1]], text)

    def _hosts(self, run: _Run, hostname: str) -> str:
        lines = ["127.0.0.1\tlocalhost"]
        lines += [f"{address}\t{name}" for name, _, address in (text.partition(":") for text in run.task.spec.hosts)]
        # The ingress network's address is nobody's name (seen in a real engine's containers).
        lines += [f"{one.address.ip}\t{hostname}" for one in run.task.networks if one.address is not None and not self._plane.is_ingress(one.network)]
        return "".join(f"{line}\n" for line in lines)

    def _resolv(self, run: _Run) -> ResolvConf:
        dns = run.task.spec.dns
        return resolv_conf(self._place.resolv, dns.nameservers, dns.search, dns.options, self._place.engine)

    # -- its end ---------------------------------------------------------------------------------------------------------

    def _stop(self, run: _Run) -> None:
        if run.stopping:
            return None
        run.stopping = True
        if run.container is None:
            self._tear_down(run)
            return self._say(run, TaskState.SHUTDOWN)
        self._retire(run, run.container)
        return None

    def _retire(self, run: _Run, container: Container) -> None:
        """First nobody comes any more, then it ends: the other nodes are given a moment to hear of it (moby's controller.Shutdown gives them 2 s)."""
        if run.grace is not None:
            return  # it is ending already
        if self._plane.withdraw(run.name):
            run.grace = self._timers.after(MOMENT, lambda: self._end(run, container))
        else:
            self._end(run, container)

    def _end(self, run: _Run, container: Container) -> None:
        """Asks the program to end; after its grace period it is killed."""
        run.grace = self._timers.after(run.task.spec.stop_grace, container.kill)
        try:
            container.stop()
        except OSError as error:  # no signal that this kernel has
            self._log(f"{run.name} cannot be asked to end, and is killed: {error.strerror}")
            container.kill()

    def _ended(self, run: _Run) -> None:
        container = run.container
        assert container is not None
        code = container.code()
        if code is None:
            return
        self._forget(container.fileno())
        container.close()
        run.container = None
        if run.grace is not None:
            run.grace.cancel()
        self._plane.withdraw(run.name)
        self._ends.append((run, code))

    def _clear(self, run: _Run, code: int) -> None:
        if run.state > TaskState.RUNNING:  # it was to be stopped in between
            return
        self._tear_down(run)
        if run.stopping:
            self._say(run, TaskState.SHUTDOWN)
        elif run.why:
            self._fail(run, f"task: non-zero exit ({code}): {run.why}")
        elif code:
            self._fail(run, f"task: non-zero exit ({code})")
        else:
            self._say(run, TaskState.COMPLETE)
        if run.forgotten:
            self._runs.pop(run.task.id, None)

    def _fail(self, run: _Run, error: str) -> None:
        self._say(run, TaskState.FAILED, _MESSAGES[min(max(run.state, TaskState.STARTING), TaskState.RUNNING)], error)

    def _log(self, text: str) -> None:
        say(f"agent of {self._place.node.hostname}", text)

    def _tear_down(self, run: _Run) -> None:
        """The sandbox with its networks; what cannot be taken away is said in the log and goes with the node's next agent."""
        if run.health is not None:
            self._end_health(run.health)
            run.health = None
        if not run.sandbox:
            return
        run.sandbox = False
        try:
            if run.networks:
                self._plane.detach(run.name)
            else:
                self._plane.remove_bare(run.name)
        except VxtoolError as error:
            self._log(f"the sandbox of {run.name} cannot be taken away: {error}")

    def _rewire(self, run: _Run) -> None:
        """`network connect` and `disconnect` of a container that runs."""
        wanted = {one.network: one for one in run.task.networks}
        had = {one.network: one for one in run.networks}
        try:
            for id in had.keys() - wanted.keys():
                self._plane.disconnect(run.name, id)
            for id in [one.network for one in run.task.networks if one.network not in had]:
                self._plane.connect(run.name, wanted[id], run.task.id, self._told(run))
                if not run.stopping:
                    self._plane.activate(run.name)
        except VxtoolError as error:
            self._log(f"the networks of {run.name} cannot be changed: {error}; it is tried again")
            self._timers.after(AGAIN, lambda: self._rewire(run) if run.sandbox and not run.stopping else None)
        there = self._plane.networks(run.name)
        run.networks = tuple(one for id, one in (had | wanted).items() if id in there)

    # -- health ----------------------------------------------------------------------------------------------------------

    def _ask_health(self, run: _Run, health: _Health) -> None:
        assert run.container is not None
        kind, *rest = health.check.test
        command = ("/bin/sh", "-c", " ".join(rest)) if kind == "CMD-SHELL" else tuple(rest)
        try:
            health.running = run.container.check(command, health.check.timeout or 30.0)
        except (VxtoolError, OSError) as error:
            self._log(f"the health of {run.name} cannot be asked: {error}")
            return self._judged(run, health, False)
        self._watch(health.running.fileno(), lambda: self._answered(run, health))
        return None

    def _answered(self, run: _Run, health: _Health) -> None:
        running = health.running
        if running is None:
            return
        self._forget(running.fileno())
        health.running = None
        code, _output = running.result()
        self._judged(run, health, code == 0)

    def _judged(self, run: _Run, health: _Health, well: bool) -> None:
        """moby daemon/health.go handleProbeResult: failures in the start period do not count; the first success ends it."""
        if run.container is None or run.health is not health:
            return None
        if well:
            health.failures = 0
            if not health.healthy:
                health.healthy = True
                if run.state is TaskState.STARTING and not run.stopping:
                    self._plane.activate(run.name)
                    self._say(run, TaskState.RUNNING)
        elif health.healthy or self._timers.now - health.began > health.check.start_period:
            health.failures += 1
            if health.failures >= (health.check.retries or 3) and not run.stopping and not run.why:
                run.why = UNHEALTHY
                return self._retire(run, run.container)
        health.timer = self._timers.after(health.check.interval or 30.0, lambda: self._ask_health(run, health))
        return None

    def _end_health(self, health: _Health) -> None:
        if health.timer is not None:
            health.timer.cancel()
        if health.running is not None:
            self._forget(health.running.fileno())
            health.running.result()  # its container has ended, and so has it
            health.running = None


_MESSAGES: Mapping[TaskState, str] = {
    TaskState.ACCEPTED: "accepted",
    TaskState.PREPARING: "preparing",
    TaskState.READY: "prepared",
    TaskState.STARTING: "starting",
    TaskState.RUNNING: "started",
    TaskState.COMPLETE: "finished",
    TaskState.SHUTDOWN: "shutdown",
    TaskState.FAILED: "started",
    TaskState.REJECTED: "preparing",
}
"""What swarmkit's agent says of each state (agent/exec/controller.go)."""


def _signal(text: str) -> int:
    """`SIGTERM`, `TERM` or `15`; nothing is SIGTERM, and so is what no signal is called."""
    name = text.upper().removeprefix("SIG")
    if name.isdecimal():
        return int(name)
    return int(getattr(signal, f"SIG{name}", signal.SIGTERM)) if name else int(signal.SIGTERM)
