"""How long the control plane takes from `service create` to every task ASSIGNED, and what one dead node of many costs.

    python benchmarks/control_plane.py [NODESxTASKS ...]
    python benchmarks/control_plane.py lab                # as root: a swarm in a lab, and a real engine when $DOCKER_HOSTS names one

Without arguments: the two sizes of swarmkit's own benchmark of its scheduler, and a table of growth. Services are checked and written, tasks made,
allocated and placed, every state an event that each mover sees; left out are agents, and addresses unless `--network` is given. Seconds are of the
processor, one core. `10000x1000000` is the size of the promise: 1,000 services, half of them with a constraint, one with a preference.

In a lab seconds are the wall's, from the command to the moment when all replicas are RUNNING (Docker's five seconds of watching for stability are not
counted, on either side). $DOCKER_HOSTS: a swarm of real engines, the manager first, with an image `httpd`:
"unix:///tmp/realswarm/h1/docker.sock unix:///tmp/realswarm/h2/docker.sock unix:///tmp/realswarm/h3/docker.sock" after realswarm/host.sh up 3.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from vxtool.lab.lab import Lab
from vxtool.model import NodeState, TaskState
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.control import INGRESS
from vxtool.swarm.objects import (
    EndpointSpec,
    NetworkSpec,
    Node,
    Placement,
    PortConfig,
    Resources,
    RestartPolicy,
    ServiceSpec,
    Settings,
    SubnetSpec,
    Task,
    TaskNetwork,
    TaskSpec,
)
from vxtool.swarm.store import Changes
from vxtool.swarm.swarm import Swarm
from vxtool.swarm.view import View

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.lab import Row, report

GROWTH = ((10, 1_000), (100, 10_000), (1_000, 10_000), (1_000, 100_000), (10_000, 10_000), (10_000, 100_000))
ZONES = 8


def _node(number: int) -> Node:
    labels = {"zone": f"z{number % ZONES}", "rack": f"r{number % 40}"}
    return Node(f"n{number}", f"n{number}", labels=labels, resources=Resources(64_000_000_000, 256 << 30), state=NodeState.READY)


def _service(number: int, replicas: int, network: bool) -> ServiceSpec:
    """Every second service has a constraint, the last but one of each thousand a preference."""
    constraints = (f"node.labels.zone!=z{number % ZONES}",) if number % 2 else ()
    preferences = ("node.labels.rack",) if number % 1000 == 998 else ()
    networks = (TaskNetwork("big"),) if network else ()
    reserved = Resources(100_000_000, 64 << 20)
    task = TaskSpec("httpd", reservations=reserved, placement=Placement(constraints, preferences), networks=networks)
    return ServiceSpec(f"s{number}", task, replicas=replicas)


def die(swarm: Swarm, node: Node) -> None:
    """What the dispatcher writes when heartbeats have stayed away."""
    with swarm.store.transaction() as change:
        change.node(node, replace(node, state=NodeState.DOWN))


def measure(nodes: int, tasks: int, services: int, network: bool) -> dict[str, float]:
    events = 0

    def count(changes: Changes) -> None:
        nonlocal events
        events += len(changes.tasks) + len(changes.services) + len(changes.nodes) + len(changes.networks)

    swarm = Swarm(Settings(), random=Random(1), watch=count)
    control = swarm.control
    if network:
        swarm.tell(control.create_network, INGRESS)
        swarm.tell(control.create_network, NetworkSpec("big", subnets=(SubnetSpec("11.0.0.0/8"),)))

    def join() -> None:
        for number in range(nodes):
            control.add_node(_node(number))

    swarm.tell(join)
    specs = [_service(number, tasks // services, network) for number in range(services)]
    events = 0
    begin = time.process_time()
    for spec in specs:
        swarm.tell(control.create_service, spec)
    placed = time.process_time() - begin
    there = swarm.store.tasks.values()
    assert len(there) == tasks // services * services
    assert all(task.state is TaskState.ASSIGNED for task in there)
    made = events

    lost = len(swarm.store.on_node("n1"))
    events = 0
    begin = time.process_time()
    node = swarm.store.nodes["n1"]
    swarm.tell(lambda: die(swarm, node))
    died = time.process_time() - begin
    return {"seconds": placed, "events": made, "lost": lost, "moved": died, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}


# --------------------------------------------------------------------------------------------------------------------
# In a lab
# --------------------------------------------------------------------------------------------------------------------

ROUNDS = 3
_PATIENCE = 120.0


def _running(view: View, service: str) -> list[Task]:
    tasks = view.tasks_of.get(view.service(service).id, ())
    return [task for task in tasks if task.state is TaskState.RUNNING and task.desired is TaskState.RUNNING]


def _until(client: SwarmClient, what: Callable[[View], bool]) -> View:
    end = time.monotonic() + _PATIENCE
    while not what(view := client.wait(1.0)):
        if time.monotonic() > end:
            raise SystemExit("the swarm does not settle")
    return view


@contextmanager
def _swarm(nodes: int, heartbeat: float = 5.0) -> Iterator[SwarmClient]:
    with Lab(nodes=nodes, bare=True) as lab:
        names = [node.name for node in lab.spec.topology.nodes]
        client = lab.swarm
        info = client.init(names[0], Settings(heartbeat=heartbeat))
        for name in names[1:]:
            client.join(name, info.worker_token, "")
        client.create_network(NetworkSpec("web"))
        client.view()
        yield client


def _created(client: SwarmClient, replicas: int, delay: float = 5.0) -> float:
    """Seconds until the replicas run."""
    task = TaskSpec("httpd", networks=(TaskNetwork("web"),), restart=RestartPolicy(delay=delay))
    endpoint = EndpointSpec(ports=(PortConfig(80, 80),))
    begin = time.monotonic()
    client.create_service(ServiceSpec("web", task, replicas=replicas, endpoint=endpoint))
    _until(client, lambda view: len(_running(view, "web")) == replicas)
    return time.monotonic() - begin


def _scaled(client: SwarmClient, replicas: int) -> float:
    begin = time.monotonic()
    client.scale_service(client.view().service("web"), replicas)
    _until(client, lambda view: len(_running(view, "web")) == replicas)
    return time.monotonic() - begin


def _healed(client: SwarmClient, node: str) -> tuple[int, float]:
    """How many tasks the node had, and the seconds from its being declared down until as many run elsewhere."""
    view = client.view()
    lost = len([task for task in _running(view, "web") if view.nodes[task.node].hostname == node])
    replicas = len(_running(view, "web"))
    client.kill_agent(node)
    _until(client, lambda view: view.node(node).state is NodeState.DOWN)
    begin = time.monotonic()
    _until(client, lambda view: len([task for task in _running(view, "web") if view.nodes[task.node].hostname != node]) == replicas)
    return lost, time.monotonic() - begin


def in_a_lab() -> Iterator[Row]:
    first, more = [], []
    for _ in range(ROUNDS):
        with _swarm(3) as client:
            first.append(_created(client, 6))
            more.append(_scaled(client, 30))
    yield "service create --replicas 6 on 3 nodes, published: all running", f"{min(first):.2f} s", "1 s", min(first) < 1
    yield "scale from 6 to 30", f"{min(more):.2f} s", "", None
    with _swarm(10, heartbeat=0.5) as client:
        _created(client, 6, delay=0.0)
        many = _scaled(client, 200)
        yield "scale from 6 to 200 on 10 nodes, published", f"{many:.2f} s", "8 s", many < 8
        lost, healed = _healed(client, "sathish-vm7")
        yield f"a dead node's {lost} tasks run elsewhere, after it is down (restart delay 0)", f"{healed:.2f} s", "1 s", healed < 1
    yield from _engine()


def _engine() -> Iterator[Row]:
    hosts = os.environ.get("DOCKER_HOSTS", "").split()
    if not hosts:
        yield "a real engine", "not measured: DOCKER_HOSTS names none", "", None
        return

    def docker(*arguments: str) -> str:
        return subprocess.run(("docker", "-H", hosts[0], *arguments), check=True, capture_output=True, text=True).stdout

    def until(replicas: int) -> float:
        while docker("service", "ps", "benchmark", "--filter", "desired-state=running", "--format", "{{.CurrentState}}").count("Running ") < replicas:
            time.sleep(0.02)
        return time.monotonic()

    docker("network", "create", "-d", "overlay", "benchmark")
    published = ("--network", "benchmark", "--publish", "8081:80", "--no-resolve-image")
    begin = time.monotonic()
    docker("service", "create", "--detach", "--name", "benchmark", "--replicas", "6", *published, "httpd")
    yield f"a real engine, {len(hosts)} nodes: service create --replicas 6", f"{until(6) - begin:.2f} s", "", None
    begin = time.monotonic()
    docker("service", "scale", "--detach", "benchmark=30")
    yield "a real engine: scale from 6 to 30", f"{until(30) - begin:.2f} s", "", None
    docker("service", "rm", "benchmark")
    while subprocess.run(("docker", "-H", hosts[0], "network", "rm", "benchmark"), capture_output=True).returncode:
        time.sleep(0.5)


def _size(text: str) -> tuple[int, int]:
    nodes, _, tasks = text.partition("x")
    return int(nodes), int(tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=_size, metavar="NODESxTASKS")
    parser.add_argument("--services", type=int, help="how many services the tasks belong to; default: one for every 1,000 tasks, at most 1,000")
    parser.add_argument("--network", action="store_true", help="every service on an overlay network: addresses, VIPs and load balancers too")
    if sys.argv[1:] == ["lab"]:
        report({"lab": in_a_lab})
        return
    options = parser.parse_args()
    print(f"{'nodes':>7} {'tasks':>9} {'services':>8} {'seconds':>8} {'us/task':>8} {'events':>9} {'GB':>6}   one node dies")
    for nodes, tasks in options.sizes or GROWTH:
        services = options.services or max(1, min(1_000, tasks // 1_000))
        came = measure(nodes, tasks, services, options.network)
        print(
            f"{nodes:>7,} {tasks:>9,} {services:>8,} {came['seconds']:>8.2f} {came['seconds'] / tasks * 1e6:>8.1f} {came['events']:>9,.0f} "
            f"{came['memory']:>6.2f}   {came['moved'] * 1000:.1f} ms for {came['lost']:.0f} tasks",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
