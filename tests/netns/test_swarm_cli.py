"""`vxtool swarm`, `node`, `network` and `events` of a real lab: what a person types, from a lab without a swarm to one that has it no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from vxtool.cli import vxtool
from vxtool.lab.lab import Lab
from vxtool.model import TaskState

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(nodes=3, bare=True) as lab:
        yield lab


def _run(lab: Lab, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(vxtool, words, env={"VXTOOL_NODE": None, "VXTOOL_LAB": lab.running.name}, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def _done(lab: Lab, *words: str) -> str:
    code, out, err = _run(lab, *words)
    assert (code, err) == (0, ""), err
    return out


def _states(lab: Lab) -> dict[str, str]:
    return dict(line.split() for line in _done(lab, "node", "ls", "--format", "{{.Hostname}} {{.Status}}").splitlines())


def test_a_swarm_is_made_by_the_commands_it_prints(lab: Lab) -> None:
    assert "This node is not a swarm manager." in _run(lab, "node", "ls")[2]
    told = _done(lab, "swarm", "init", "--advertise-addr", "eth0", "--listen-addr", "0.0.0.0:2377")
    command = next(line.split() for line in told.splitlines() if line.startswith("    vxtool"))
    assert _done(lab, *command[1:], "--node", "sathish-vm2") == "This node joined a swarm as a worker.\n"
    assert "This node is already part of a swarm." in _run(lab, *command[1:], "--node", "sathish-vm2")[2]
    assert "A valid join token is necessary" in _run(lab, "swarm", "join", "--token", "SWMTKN-1-a-b", command[-1])[2]
    assert _done(lab, "swarm", "join", "--all") == "sathish-vm3 joined the swarm as a worker.\n"
    assert _states(lab) == dict.fromkeys(("sathish-vm1", "sathish-vm2", "sathish-vm3"), "Ready")


def test_an_address_of_another_node_is_refused(lab: Lab) -> None:
    assert (
        "advertise address 192.168.68.110 is sathish-vm2's"
        in _run(lab, "swarm", "init", "--node", "sathish-vm1", "--advertise-addr", "192.168.68.110")[2]
    )


def test_nodes_beat_as_often_as_the_swarm_is_told(lab: Lab) -> None:
    """Who went on as before would be taken for down after three of the new periods."""
    for period in ("500ms", "5s"):
        since = _now(lab)
        assert _done(lab, "swarm", "update", "--dispatcher-heartbeat", period) == "Swarm updated.\n"
        time.sleep(5)
        assert "down" not in _done(lab, "events", "--since", since, "--until", "0s", "--filter", "type=node")
        assert set(_states(lab).values()) == {"Ready"}


def _now(lab: Lab) -> str:
    return f"{lab.swarm.view().now:.6f}"


def test_inspect_of_a_network_lists_what_each_node_has(lab: Lab) -> None:
    _done(lab, "network", "create", "--attachable", "--subnet", "10.9.0.0/24", "web")
    assert _run(lab, "service", "create", "-q", "--name", "web", "--network", "web", "--replicas", "3", "httpd")[0] == 0
    names = []
    for node in _states(lab):
        (document,) = json.loads(_done(lab, "network", "inspect", "--node", node, "web"))
        names.append(sorted(one["Name"].rpartition(".")[0] or one["Name"] for one in document["Containers"].values()))
        assert len(document["Peers"]) == 3
    assert sorted(names) == [["web-endpoint", f"web.{slot}"] for slot in (1, 2, 3)]


def test_a_container_that_is_connected_has_a_device_and_its_address_until_it_is_disconnected(lab: Lab) -> None:
    _done(lab, "network", "create", "--attachable", "--subnet", "10.8.0.0/24", "back")
    assert _run(lab, "run", "-d", "--network", "web", "--name", "client1", "httpd")[0] == 0
    _until(lambda: any(task.spec.container == "client1" and task.state is TaskState.RUNNING for task in lab.swarm.view().tasks.values()))
    _done(lab, "network", "connect", "--ip", "10.8.0.77", "back", "client1")
    _until(lambda: "10.8.0.77/24" in lab.exec("client1", ["ip", "-4", "address"]).stdout)
    _done(lab, "network", "disconnect", "back", "client1")
    _until(lambda: "10.8.0.77/24" not in lab.exec("client1", ["ip", "-4", "address"]).stdout)


def _until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_events_are_told_while_they_happen(lab: Lab) -> None:
    command = [
        sys.executable,
        "-m",
        "vxtool",
        "events",
        "--lab",
        lab.running.name,
        "--filter",
        "type=network",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ) as listening:
        assert listening.stdout is not None
        try:
            time.sleep(1.5)
            _done(lab, "network", "create", "late")
            assert listening.stdout.readline() == "create late\n"
            _done(lab, "network", "rm", "late")
            lines = [listening.stdout.readline() for _ in range(2)]
            assert "remove late\n" in lines
        finally:
            listening.terminate()


def test_a_node_that_leaves_is_down_and_can_be_removed_and_the_manager_ends_the_swarm(lab: Lab) -> None:
    assert _done(lab, "swarm", "leave", "--node", "sathish-vm3") == "Node left the swarm.\n"
    assert _states(lab)["sathish-vm3"] == "Down"
    assert _done(lab, "node", "rm", "sathish-vm3") == "sathish-vm3\n"
    assert "Removing the last manager erases all current state of the swarm." in _run(lab, "swarm", "leave")[2]
    _done(lab, "swarm", "leave", "--force")
    assert "This node is not a swarm manager." in _run(lab, "network", "ls")[2]
