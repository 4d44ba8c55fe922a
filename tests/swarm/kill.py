"""Kills a process that changes a swarm, at moments of chance, and looks whether its journal holds what the process was told has happened.

    python -m tests.swarm.kill --times 300 [--seed 1]

The process acknowledges a transaction by a line on a pipe, after the store has returned from it; the pipe outlives it. After each kill the journal is
loaded: every acknowledged version is there, with exactly the objects that a witness has for it, or the one after, whole. Then another process goes on
with that journal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.swarm.agents import SimulatedAgents
from vxtool.errors import UsageError
from vxtool.model import Availability, NodeState, TaskState
from vxtool.model.plain import plain
from vxtool.swarm.control import INGRESS
from vxtool.swarm.journal import Journal
from vxtool.swarm.objects import (
    EndpointSpec,
    NetworkSpec,
    Node,
    PortConfig,
    Resources,
    RestartPolicy,
    ServiceSpec,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
)
from vxtool.swarm.store import Changes, Store
from vxtool.swarm.swarm import Swarm

__all__ = ["kill_again_and_again"]

NODES = ("vm1", "vm2", "vm3")


def fingerprint(store: Store) -> str:
    """Of everything that a store holds, field by field."""
    tables = [[plain(one) for one in table.values()] for table in (store.nodes, store.networks, store.services, store.tasks)]
    return hashlib.sha256(json.dumps(tables).encode()).hexdigest()


def work(path: Path, told: int, seed: int) -> None:
    """What is killed: a swarm that never comes to rest. Each transaction is announced before it is written and acknowledged when it is."""
    journal = Journal(path)
    store = journal.load()

    def write(version: int, changes: Changes) -> None:
        # The store has the changes in its tables already, and its version not yet: what it holds now is what the journal is to hold.
        os.write(told, f"begun {version} {fingerprint(store)}\n".encode())
        journal.write(version, changes)
        os.write(told, f"done {version}\n".encode())

    store.journal_to(write)
    swarm = Swarm(store=store, random=Random(seed), now=float(store.version))
    random = Random(seed)
    agents = SimulatedAgents(swarm, lambda task: TaskState.FAILED if random.random() < 0.1 else None)
    control = swarm.control
    if not store.networks:
        swarm.tell(control.create_network, INGRESS)
        swarm.tell(control.create_network, NetworkSpec("web", attachable=True))
    for name in NODES:
        if name not in store.nodes:
            swarm.tell(control.add_node, Node(name, name, state=NodeState.UNKNOWN))
        agents.connect(name, Node(name, name, resources=Resources(4_000_000_000, 4 << 30)))
    while True:
        for name in NODES:
            if name not in agents.connected:
                agents.connect(name)
        with suppress(UsageError):
            _something(swarm, agents, random)
        agents.run(random.choice((0.02, 0.2, 2.0)))


def _something(swarm: Swarm, agents: SimulatedAgents, random: Random) -> None:
    control, store = swarm.control, swarm.store
    services = list(store.services.values())
    what = random.randrange(8)
    name = f"s{random.randrange(4)}"
    if what == 0 or not services:
        task = TaskSpec("echo", networks=(TaskNetwork("web"),), restart=RestartPolicy(delay=0.1))
        spec = ServiceSpec(name, task, replicas=3, update=UpdateConfig(2, monitor=0.5), endpoint=EndpointSpec(ports=(PortConfig(80),)))
        swarm.tell(control.create_service, spec)
    elif what == 1:
        swarm.tell(control.remove_service, random.choice(services).id)
    elif what == 2:
        swarm.tell(control.scale_service, random.choice(services).id, random.randrange(8))
    elif what == 3:
        service = random.choice(services)
        forced = random.randrange(1000)
        swarm.tell(control.update_service, service.id, _forced(service.spec, forced), service.version)
    elif what == 4:
        swarm.tell(lambda: control.update_node(random.choice(NODES), availability=random.choice(list(Availability))))
    elif what == 5:
        swarm.tell(control.run_container, TaskSpec("echo", container=name, networks=(TaskNetwork("web"),)), random.choice(NODES))
    elif what == 6:
        swarm.tell(control.remove_container, name, True)
    else:
        agents.cut(random.choice(NODES))


def _forced(spec: ServiceSpec, number: int) -> ServiceSpec:
    return replace(spec, task=replace(spec.task, force_update=number))


def kill_again_and_again(times: int, seed: int = 1) -> str:
    """Raises AssertionError when a journal holds anything else than what was acknowledged, or what was under way. Gives a line of figures."""
    random = Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="vxtool-kill-"))
    path = folder / "journal.sqlite"
    acknowledged = under_way = lost = 0
    try:
        Journal(path).close()
        for number in range(times):
            begun, done, before = _once(path, random, seed * 100_000 + number)
            store = Journal(path).load()
            last = max(done, default=before)
            if done and store.version == last and last in begun:
                assert fingerprint(store) == begun[last], f"kill {number}: version {last} was acknowledged, and is not what is there"
            elif store.version == last + 1 and last + 1 in begun:
                assert fingerprint(store) == begun[last + 1], f"kill {number}: version {last + 1} was under way, and half of it is there"
                under_way += 1
            else:
                assert (len(done), store.version) == (0, before), f"kill {number}: {last} was acknowledged, {store.version} is there"
            acknowledged += len(done)
            lost += last + 1 in begun and store.version == last
        swarm_goes_on(path)
        size = path.stat().st_size
    finally:
        shutil.rmtree(folder)
    return (
        f"{times} kills, {acknowledged:,} acknowledged transactions all there; of those under way {under_way} there whole and {lost} not at all; "
        f"the journal has {size:,} bytes"
    )


def _once(path: Path, random: Random, seed: int) -> tuple[dict[int, str], set[int], int]:
    """One life: what was begun (version -> fingerprint), what was acknowledged, and what was there before."""
    with_journal = Journal(path)
    before = with_journal.load().version
    with_journal.close()
    hear, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(hear)
        try:
            work(path, tell, seed)
        finally:
            os._exit(70)
    os.close(tell)
    said = b""
    while not said and (piece := os.read(hear, 1 << 16)):  # it works
        said += piece
    end = time.monotonic() + random.random() ** 2 * 0.12
    os.set_blocking(hear, False)
    while (left := end - time.monotonic()) > 0:
        try:
            said += os.read(hear, 1 << 16)
        except BlockingIOError:
            time.sleep(min(left, 0.0005))
    os.set_blocking(hear, True)
    if random.random() < 0.7:  # while it writes: between what it announces and what it acknowledges
        while said.rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(b"done") and (piece := os.read(hear, 1 << 16)):
            said += piece
        end = time.monotonic() + random.random() * 0.0004
        while time.monotonic() < end:
            pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(hear, 1 << 16):
        said += piece
    os.close(hear)
    begun: dict[int, str] = {}
    done: set[int] = set()
    for text in said.decode().splitlines():
        words = text.split()
        if words[0] == "begun":
            begun[int(words[1])] = words[2]
        else:
            done.add(int(words[1]))
    assert done or begun, "the process has ended by itself"
    return begun, done, before


def swarm_goes_on(path: Path) -> None:
    """A swarm built on what is there comes to what its services ask for."""
    swarm = Swarm(store=Journal(path).load(), random=Random(2), now=1e6)
    agents = SimulatedAgents(swarm)
    for name in NODES:
        agents.connect(name)
        swarm.tell(lambda name=name: swarm.control.update_node(name, availability=Availability.ACTIVE))  # type: ignore[misc]
    agents.run(200.0)
    for service in swarm.store.services.values():
        running = [task for task in swarm.store.of_service(service.id) if task.state is TaskState.RUNNING and task.desired is TaskState.RUNNING]
        assert len(running) == service.spec.replicas, (service.spec.name, len(running))
    again = Journal(path).load()
    assert fingerprint(again) == fingerprint(swarm.store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begin = time.monotonic()
    print(kill_again_and_again(options.times, options.seed), f"({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    sys.exit(main())
