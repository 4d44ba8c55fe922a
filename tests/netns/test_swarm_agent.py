"""What an agent meets does not end it: a program that is asked to end twice, gossip that makes no sense, a port that is taken, a silent manager."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.netns.swarms import HEARTBEAT, Town, town
from vxtool.lab.lab import Lab
from vxtool.model import NodeState, TaskState
from vxtool.swarm.gossip import wire
from vxtool.swarm.objects import HealthCheck, Resources, RestartCondition, RestartPolicy, Settings

ONCE = RestartPolicy(RestartCondition.NONE)
SENDER = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 7946))"
HOLDER = "import socket, time; one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.bind(('0.0.0.0', 7946)); time.sleep({seconds})"


@pytest.fixture(scope="module")
def shared() -> Iterator[Town]:
    with town(nodes=2) as made:
        yield made


def alive(place: Town) -> bool:
    return all(one["alive"] for one in place.client.agents())


def log(lab: Lab) -> str:
    return (lab.running.folder / "log").read_text()


def test_a_program_that_is_ending_already_is_not_asked_twice(shared: Town) -> None:
    """It has fallen ill, has its grace period, and meanwhile its service is removed."""
    slow = ("sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done")
    check = HealthCheck(("CMD-SHELL", "test -e /nowhere || test $(( $(date +%s) - $(stat -c %Y /proc/1) )) -lt 2"), 0.1, 1.0, 0.0, 1)
    service = shared.create("twice", "host", 1, args=slow, health=check, stop_grace=2.0, restart=ONCE)
    shared.until(lambda view: shared.running(view, "twice"))
    time.sleep(2.5)
    shared.client.remove_service(service.id)
    shared.until(lambda view: not any(task.service == service.id for task in view.tasks.values()))
    time.sleep(2.5)  # the first grace period is over, too
    assert alive(shared)
    assert "Traceback" not in log(shared.lab)


NONSENSE: list[tuple[str, dict[str, Any]]] = [
    ("peer", {"address": "10.77.0.1/24", "mac": "02:42:0a:4d:00:01", "vtep": "192.0.2.66", "node": "evil", "name": "e"}),
    ("peer", {"address": 5, "mac": "x", "vtep": "192.0.2.66", "node": "evil", "name": "e"}),
    ("peer", {"address": "10.0.1.200/24", "mac": 5, "vtep": [], "node": {}, "name": "e"}),
    ("peer", {}),
    ("endpoint", {}),
    ("endpoint", {"address": "10.0.1.77", "vips": 5, "ports": 7, "service_id": [], "service": {}, "aliases": 3, "name": []}),
    ("endpoint", {"address": "10.0.1.78", "vips": [["a", "b", "c"]], "ports": [{"target": "x"}], "service": "w", "aliases": [], "name": "n"}),
]


def test_gossip_that_makes_no_sense_is_said_and_passed_over(shared: Town) -> None:
    service = shared.create("sense", replicas=2)
    view = shared.settled("sense", 2)
    network = view.network("web").id
    address = view.node(shared.nodes[0]).address
    for number, (table, value) in enumerate(NONSENSE, 1):
        said = [wire.encode("in", "evil", 1, network, 1), wire.encode("set", "evil", 1, network, table, f"k{number}", number, value)]
        datagram = wire.join(("evil", "192.0.2.66", 1, 1), said)
        shared.lab.exec(shared.nodes[1], [sys.executable, "-c", SENDER, address, datagram.hex()], check=True)
    shared.until(lambda _: "makes no sense" in log(shared.lab), 5)
    time.sleep(0.5)
    assert alive(shared)
    assert "Traceback" not in log(shared.lab)
    assert shared.all_reach_all(shared.client.view(), "sense") == []
    shared.client.remove_service(service.id)


def test_a_node_whose_gossip_port_is_taken_says_so_and_comes_in_when_it_is_free() -> None:
    with Lab(nodes=2, bare=True) as lab:
        names = [node.name for node in lab.spec.topology.nodes]
        info = lab.swarm.init(names[0], Settings(heartbeat=HEARTBEAT))
        with lab.popen(names[1], [sys.executable, "-c", HOLDER.format(seconds=100)]) as holder:
            time.sleep(0.5)
            with ThreadPoolExecutor() as others:
                joined = others.submit(lab.swarm.join, names[1], info.worker_token, "")
                time.sleep(2)
                assert "port 7946 of sathish-vm2 cannot be had" in log(lab)
                assert not joined.done()
                holder.kill()
                joined.result(20)
        place = Town(lab, names)
        place.create(replicas=4)
        view = place.settled("web", 4)
        assert place.spread(view, "web") == {names[0]: 2, names[1]: 2}
        assert place.all_reach_all(view, "web") == []


def test_how_a_task_ended_while_the_manager_was_away_is_told_when_it_is_back(shared: Town) -> None:
    service = shared.create("away", "host", 1, args=("sh", "-c", "sleep 2; exit 3"), restart=ONCE)
    view = shared.until(lambda view: shared.running(view, "away"))
    (task,) = shared.running(view, "away")
    node = view.nodes[task.node].hostname
    drop = "add table ip away; add chain ip away input { type filter hook input priority 0; }; add rule ip away input tcp dport 2377 drop; "
    drop += "add rule ip away input tcp sport 2377 drop"
    shared.lab.exec(node, ["nft", drop], check=True)
    time.sleep(3)
    shared.lab.exec(node, ["nft", "delete table ip away"], check=True)
    view = shared.until(lambda view: view.tasks[task.id].state is TaskState.FAILED and view.nodes[task.node].state is NodeState.READY)
    assert view.tasks[task.id].error == "task: non-zero exit (3)"
    shared.client.remove_service(service.id)


def test_sixty_starts_and_stops_leave_no_descriptor_behind(shared: Town) -> None:
    def descriptors() -> list[int]:
        pids = [one["pid"] for one in shared.client.agents()]
        root = Path(f"/proc/{shared.lab.running.leader}/root/proc")
        return [len(list((root / str(pid) / "fd").iterdir())) for pid in pids]

    service = shared.create("many", replicas=0, reservations=Resources())
    before = descriptors()
    for replicas in (30, 0, 30, 0):
        shared.client.scale_service(shared.client.view().services[service.id], replicas)
        shared.settled("many", replicas, 60)
    shared.client.remove_service(service.id)
    time.sleep(1)
    assert all(now <= then + 2 for now, then in zip(descriptors(), before, strict=True))
