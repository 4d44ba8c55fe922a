"""How long the control plane takes from `service create` to every task ASSIGNED, and what one dead node of many costs.

    python benchmarks/control_plane.py [NODESxTASKS ...]

Without arguments: the two sizes of swarmkit's own benchmark of its scheduler, and a table of growth. Services are checked and written, tasks made,
allocated and placed, every state an event that each mover sees; left out are agents, and addresses unless `--network` is given. Seconds are of the
processor, one core. `10000x1000000` is the size of the promise: 1,000 services, half of them with a constraint, one with a preference.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import replace
from random import Random

from vxtool.model import NodeState, TaskState
from vxtool.swarm.control import INGRESS
from vxtool.swarm.objects import NetworkSpec, Node, Placement, Resources, ServiceSpec, Settings, SubnetSpec, TaskNetwork, TaskSpec
from vxtool.swarm.store import Changes
from vxtool.swarm.swarm import Swarm

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


def _size(text: str) -> tuple[int, int]:
    nodes, _, tasks = text.partition("x")
    return int(nodes), int(tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=_size, metavar="NODESxTASKS")
    parser.add_argument("--services", type=int, help="how many services the tasks belong to; default: one for every 1,000 tasks, at most 1,000")
    parser.add_argument("--network", action="store_true", help="every service on an overlay network: addresses, VIPs and load balancers too")
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
