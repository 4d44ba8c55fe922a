"""The routing mesh and virtual addresses in a lab: any node answers, connections are taken in turn, and none is lost while backends come and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vxtool
from tests.netns import load
from tests.netns.swarms import Town, town
from vxtool.lab import ipvs, names
from vxtool.lab.lab import Lab
from vxtool.model import Availability, PublishMode, TaskState
from vxtool.swarm.objects import EndpointSpec, HealthCheck, PortConfig, RestartPolicy, Service, ServiceSpec, Settings, TaskNetwork, TaskSpec
from vxtool.swarm.view import View

PYTHON = "/usr/bin/python3"  # one that nobody (65534) may execute
RATE = 100 if (os.cpu_count() or 1) > 1 else 20  # connections per second; the emulated machine has one slow processor
NODES = ("sathish-vm1", "sathish-vm2", "sathish-vm3")


@pytest.fixture(scope="module")
def shared() -> Iterator[Town]:
    """One swarm for tests that leave it as it was: each has a service and ports of its own."""
    with town(heartbeat=2.0) as made:
        yield made


def serve(
    place: Town, name: str, *ports: PortConfig, image: str = "httpd", replicas: int = 6, networks: tuple[str, ...] = (), **task: Any
) -> Service:
    spec = TaskSpec(image, networks=tuple(TaskNetwork(network) for network in networks), **task)
    return place.client.create_service(ServiceSpec(name, spec, replicas=replicas, endpoint=EndpointSpec(ports=ports)))


@contextmanager
def serving(place: Town, name: str, *ports: PortConfig, replicas: int = 6, **how: Any) -> Iterator[View]:
    """While it runs and every node's balancers know all of it."""
    service = serve(place, name, *ports, replicas=replicas, **how)
    try:
        view = place.settled(name, replicas)
        known(place, view, name)
        yield view
    finally:
        place.client.remove_service(service.id)


def known(place: Town, view: View, name: str, where: tuple[str, ...] = NODES) -> None:
    """Waits until the balancers of each node have all backends that run."""
    deadline = time.monotonic() + 10
    tasks = place.running(view, name)
    for network in {one.network for task in tasks for one in task.networks}:
        wanted = {str(one.address.ip) for task in tasks for one in task.networks if one.network == network and one.address}
        having = [view.nodes[task.node].hostname for task in tasks]
        ingress = network == view.network("ingress").id
        for node in where if ingress else having:
            while not wanted <= set(balanced(place, node, None if ingress else network)):
                there = balanced(place, node, None if ingress else network)
                assert time.monotonic() < deadline, f"{wanted} wanted on {node}, {there} there\n{place.told(view)}"
                time.sleep(0.05)


def balanced(place: Town, node: str, network: str | None = None) -> list[str]:
    """All backends that the node's load balancer in a network (None: ingress) sends to, in their turns: what the kernel says."""
    sandbox = f"{node}:{names.load_balancer_sandbox(network) if network else names.INGRESS_SANDBOX}"
    try:
        rules = inside(place, sandbox, "nft -j list ruleset; ipvsadm -Ln 2>/dev/null || true")
    except subprocess.CalledProcessError:  # it is not there yet
        return []
    document, _, services = rules.partition("\n")
    found = [line.split()[1].partition(":")[0] for line in services.splitlines() if "Masq" in line and line.split()[3] != "0"]
    for entry in json.loads(document)["nftables"]:
        for expression in entry.get("rule", {}).get("expr", ()):
            if "dnat" in expression and "map" in expression["dnat"]["addr"]:
                found += [address for _, address in expression["dnat"]["addr"]["map"]["data"]["set"]]
    return found


def inside(place: Town, namespace: str, script: str) -> str:
    """What a shell prints in a network namespace of the lab."""
    leader = str(place.lab.running.leader)
    command = ["nsenter", "-t", leader, "-m", "ip", "netns", "exec", namespace, "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def loaded(place: Town, where: str, *words: object) -> subprocess.Popen[str]:
    """The load generator, started at a node or in a task's sandbox."""
    command = [PYTHON, "-c", Path(load.__file__).read_text(), *map(str, words)]
    started: subprocess.Popen[str] = place.lab.popen(where, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return started


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def fetch(place: Town, where: str, target: str, patience: float = 3) -> list[str]:
    """The name and the addresses of who answers somebody at `where`; nothing when nobody does."""
    lines: list[str] = told(loaded(place, where, "get", patience, target))["lines"]
    return lines


def nodes_of(view: View) -> dict[str, str]:
    return {node.hostname: node.address for node in view.nodes.values()}


# -- what answers ----------------------------------------------------------------------------------------------------------


def test_any_node_answers_also_one_without_a_task_from_anywhere_and_from_itself(shared: Town) -> None:
    with serving(shared, "lone", PortConfig(80, 8001), replicas=1) as view:
        (address,) = shared.addresses(view, "lone", "ingress")
        task = view.task_name(shared.running(view, "lone")[0])
        for name, entry in nodes_of(view).items():
            for where in (*NODES, task):
                assert address in fetch(shared, where, f"{entry}:8001"), f"{where} -> {name}"
            assert address in fetch(shared, name, "127.0.0.1:8001")
    view = shared.client.view()
    deadline = time.monotonic() + 5
    while fetch(shared, NODES[0], f"{nodes_of(view)[NODES[1]]}:8001"):
        assert time.monotonic() < deadline


def test_three_hundred_requests_to_three_nodes_are_seventeen_or_sixteen_for_each_of_six_tasks(shared: Town, tmp_path: Path) -> None:
    with serving(shared, "even", PortConfig(80, 8002), networks=("web",)) as view:
        targets = [f"{address}:8002" for address in nodes_of(view).values()]
        with shared.lab.capture(*shared.nodes, to=tmp_path / "x.pcapng"):
            answer = told(loaded(shared, NODES[0], "http", 299.5 / RATE, RATE, *targets))
        cluster = shared.lab.cluster
    assert (answer["requests"], answer["failed"]) == (300, [])
    for target, counted in answer["by"].items():
        assert sorted(counted.values()) == [16, 16, 17, 17, 17, 17], target
    verdicts = vxtool.verify(tmp_path / "x.pcapng", cluster)
    assert [f"{one.check} {one.message}" for one in verdicts.failing if one.severity != "info"] == []
    assert [str(one.result) for one in verdicts.verdicts if one.check == "VX-MESH-BALANCE"] == ["pass"]


def test_a_virtual_address_answers_ping_and_takes_turns_among_the_tasks_for_clients_of_its_network(shared: Town) -> None:
    with serving(shared, "inner", networks=("web",)) as view:
        web = view.network("web").id
        (vip,) = [str(address.ip) for id, address in view.service("inner").vips if id == web]
        backends = set(shared.addresses(view, "inner"))
        for task in [view.task_name(one) for one in shared.running(view, "inner")][:3]:
            assert shared.reaches(task, vip)
            answer = told(loaded(shared, task, "http", 29.5 / RATE, RATE, f"{vip}:80"))
            assert (answer["requests"], answer["failed"]) == (30, [])
            (counted,) = answer["by"].values()
            assert set(counted) == backends
            assert set(counted.values()) == {5}


def test_services_and_ports_and_protocols_do_not_disturb_one_another(shared: Town) -> None:
    ports = (PortConfig(7, 8003), PortConfig(7, 8004), PortConfig(7, 8003, "udp"), PortConfig(7, 7, "udp"))
    with serving(shared, "echo", *ports, image="echo", replicas=3), serving(shared, "pages", PortConfig(80, 8005), replicas=2) as view:
        entry = nodes_of(view)[NODES[2]]
        for port in (8003, 8004):
            assert told(loaded(shared, NODES[0], "held", 0.3, 6, f"{entry}:{port}"))["open"] == 6
        for port in (8003, 7):
            answer = told(loaded(shared, NODES[0], "udp", 0.5, f"{entry}:{port}"))
            assert answer["answered"] > 5
            assert answer["refused"] == 0
        assert fetch(shared, NODES[1], f"{entry}:8005")
        answer = told(loaded(shared, NODES[0], "udp", 0.2, f"{entry}:8004"))  # TCP's alone
        assert answer["answered"] == 0
        assert answer["refused"] > 0


def test_on_its_address_in_ingress_a_task_has_no_open_port_but_the_target(shared: Town) -> None:
    with serving(shared, "shut", PortConfig(8080, 8007), replicas=1, networks=("web",), env=("PORT=8080",)) as view:
        (ingress,), (web,) = shared.addresses(view, "shut", "ingress"), shared.addresses(view, "shut")

        def refused(place: str) -> str:
            """How a client in another node's ingress_sbox is."""
            answer: str = json.loads(inside(shared, f"{NODES[1]}:ingress_sbox", f"{PYTHON} {load.__file__} get 1 {place}"))["error"]
            return answer

        assert refused(f"{ingress}:8080") == ""
        assert refused(f"{ingress}:8007") == ""  # redirected
        assert refused(f"{ingress}:80") == "TimeoutError"
        task = view.task_name(shared.running(view, "shut")[0])
        assert fetch(shared, task, f"{web}:8080")
        assert told(loaded(shared, task, "get", 1, f"{web}:8007"))["error"] == "ConnectionRefusedError"
        assert "1 received" in inside(shared, f"{NODES[1]}:ingress_sbox", f"ping -c 1 -W 1 {ingress}")


def test_a_host_mode_port_is_that_of_the_nodes_own_task(shared: Town) -> None:
    with serving(shared, "own", PortConfig(80, 8008, mode=PublishMode.HOST), replicas=2, networks=("web",)) as view:
        entries = nodes_of(view)
        deadline = time.monotonic() + 5
        while not all(fetch(shared, node, f"{entries[node]}:8008", patience=1) for node in shared.spread(view, "own")):
            assert time.monotonic() < deadline
        for task in shared.running(view, "own"):
            node = view.nodes[task.node].hostname
            own = {str(one.address.ip) for one in task.networks if one.address}
            for where in (node, NODES[0], NODES[1]):
                assert own & set(fetch(shared, where, f"{entries[node]}:8008")), f"{where} -> {node}"
            assert own & set(fetch(shared, node, "127.0.0.1:8008"))
        (without,) = set(NODES) - set(shared.spread(view, "own"))
        assert not fetch(shared, NODES[0], f"{entries[without]}:8008", patience=1)


def test_a_task_with_a_health_check_is_balanced_to_when_it_is_healthy(shared: Town) -> None:
    check = HealthCheck(("CMD-SHELL", "test -e /dev/shm/well-$HOSTNAME"), interval=0.2, retries=1000)
    service = serve(shared, "sick", PortConfig(80, 8009), replicas=1, health=check, hostname="sick1")
    try:
        view = shared.until(lambda view: [task for task in view.tasks_of.get(service.id, ()) if task.state is TaskState.STARTING])
        time.sleep(0.5)
        assert not fetch(shared, NODES[0], f"{nodes_of(view)[NODES[1]]}:8009", patience=1)
        Path("/dev/shm/well-sick1").touch()
        view = shared.settled("sick", 1)
        known(shared, view, "sick")
        assert fetch(shared, NODES[0], f"{nodes_of(view)[NODES[1]]}:8009")
    finally:
        Path("/dev/shm/well-sick1").unlink(missing_ok=True)
        shared.client.remove_service(service.id)


# -- while backends come and go ------------------------------------------------------------------------------------------------


def test_no_request_fails_while_a_service_is_scaled_up_and_down_and_a_node_is_drained(shared: Town) -> None:
    with serving(shared, "busy", PortConfig(80, 8010)) as view:
        targets = [f"{address}:8010" for address in nodes_of(view).values()]
        running = [loaded(shared, node, "http", 14, RATE, *targets) for node in NODES[:2]]
        time.sleep(1)
        for replicas in (12, 3, 6):
            service = view.service("busy")
            shared.client.scale_service(shared.client.view().services[service.id], replicas)
            shared.settled("busy", replicas)
            time.sleep(1)
        shared.client.update_node(shared.client.view().node(NODES[2]), availability=Availability.DRAIN)
        shared.until(lambda view: NODES[2] not in shared.spread(view, "busy") and len(shared.running(view, "busy")) == 6)
        shared.settled("busy", 6)
        shared.client.update_node(shared.client.view().node(NODES[2]), availability=Availability.ACTIVE)
        answers = [told(process) for process in running]
    assert [answer["failed"] for answer in answers] == [[], []]
    assert sum(answer["requests"] for answer in answers) > 20 * RATE


def test_a_task_that_is_killed_costs_what_it_costs_docker_the_requests_until_its_node_has_noticed(shared: Town) -> None:
    with serving(shared, "mortal", PortConfig(80, 8014), restart=RestartPolicy(delay=0.0)) as view:
        running = loaded(shared, NODES[0], "http", 6, RATE, *(f"{address}:8014" for address in nodes_of(view).values()))
        time.sleep(1)
        killed = time.monotonic()
        shared.lab.exec(view.task_name(shared.running(view, "mortal")[0]), ["sh", "-c", "kill -9 2"])
        shared.until(lambda view: len(view.tasks_of[view.service("mortal").id]) == 7)
        shared.settled("mortal", 6)
        noticed = time.monotonic() - killed
        answer = told(running)
    moments = [when for when, _, _ in answer["failed"]]
    assert len(moments) < 6 * RATE / 6, answer["failed"]  # no more than the killed one's share, and of a second or two alone
    assert not moments or max(moments) - min(moments) < max(1.0, noticed), answer["failed"]


STUBBORN = """
import signal, socket, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def talk(connection):
    while data := connection.recv(64):
        connection.sendall(data)
with socket.create_server(("", 7), backlog=100) as listener:
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()
"""


def test_connections_live_through_the_grace_period_of_a_task_that_is_stopped_and_new_ones_go_elsewhere(shared: Town) -> None:
    command = (PYTHON, "-c", STUBBORN)
    with serving(shared, "tough", PortConfig(7, 8011), image="host", command=command, replicas=4, stop_grace=16.0) as view:
        entry = f"{nodes_of(view)[NODES[0]]}:8011"
        holding = loaded(shared, NODES[1], "held", 8, 8, entry)
        assert holding.stderr is not None
        assert holding.stderr.readline() == "open\n"
        shared.client.scale_service(view.service("tough"), 1)
        deadline = time.monotonic() + 5
        while len(set(balanced(shared, NODES[0]))) > 1:
            assert time.monotonic() < deadline
        again = told(loaded(shared, NODES[1], "held", 1, 8, entry))
        assert (again["open"], again["failed"]) == (8, [])
        answer = told(holding)
        assert (answer["open"], answer["failed"]) == (8, [])


def test_the_middle_of_a_connection_that_nobody_remembers_is_refused_and_led_to_nobody_else(shared: Town) -> None:
    if ipvs.works():
        pytest.skip("IPVS remembers connections by itself")
    with serving(shared, "lost", PortConfig(7, 8013), image="echo", replicas=3) as view:
        entry = f"{nodes_of(view)[NODES[0]]}:8013"
        holding = loaded(shared, NODES[1], "held", 2, 6, entry)
        assert holding.stderr is not None
        assert holding.stderr.readline() == "open\n"
        gone = shared.addresses(view, "lost", "ingress")[:2]
        forgetting = f"from vxtool.lab import conntrack; from ipaddress import IPv4Address; print(conntrack.forget([*map(IPv4Address, {gone})]))"
        count = int(inside(shared, f"{NODES[0]}:ingress_sbox", f'PYTHONPATH={":".join(filter(None, sys.path))} {sys.executable} -c "{forgetting}"'))
        assert count >= 4
        answer = told(holding)
        assert answer["open"] == 2
        assert {why for _, why in answer["failed"]} == {"[Errno 104] Connection reset by peer"}


def test_datagrams_of_one_socket_go_to_another_backend_when_theirs_has_gone(shared: Town) -> None:
    with serving(shared, "talk", PortConfig(7, 8012, "udp"), image="echo", replicas=3, networks=("web",)) as view:
        for node in NODES:
            talking = [loaded(shared, NODES[0], "udp", 5, f"{nodes_of(view)[node]}:8012") for _ in range(3)]
            time.sleep(1)
            service = shared.client.view().service("talk")
            shared.client.scale_service(service, 1)
            shared.settled("talk", 1)
            answers = [told(process) for process in talking]
            for answer in answers:
                assert answer["silent"] < 0.2, answers
                assert sum(length for _, length in answer["silences"]) < 1.0, answers
            shared.client.scale_service(shared.client.view().service("talk"), 3)
            known(shared, shared.settled("talk", 3), "talk")


def test_a_killed_agent_costs_no_request_and_its_tasks_are_balanced_to_as_long_as_they_are_known() -> None:
    with town(heartbeat=1.0) as place, serving(place, "web", PortConfig(80, 8080)) as view:
        targets = [f"{address}:8080" for name, address in nodes_of(view).items() if name != NODES[1]]
        running = loaded(place, NODES[0], "http", 8, RATE, *targets)
        time.sleep(1)
        place.client.kill_agent(NODES[1])
        place.until(lambda view: NODES[1] not in place.spread(view, "web") and len(place.running(view, "web")) == 6)
        answer = told(running)
        assert answer["failed"] == []
        place.client.start_agent(NODES[1])
        place.until(lambda view: view.node(NODES[1]).state.value == "ready")
        known(place, place.settled("web", 6), "web")
        assert Counter(balanced(place, NODES[1])) == Counter(balanced(place, NODES[0]))
        for name, entry in nodes_of(view).items():
            assert fetch(place, NODES[0], f"{entry}:8080"), name


# -- other labs ----------------------------------------------------------------------------------------------------------------


def test_nodes_in_different_subnets_with_a_data_path_port_of_the_users_answer_for_one_another(tmp_path: Path) -> None:
    with Lab("two_racks,n=4", bare=True) as lab:
        nodes = [node.name for node in lab.spec.topology.nodes]
        info = lab.swarm.init(nodes[0], Settings(heartbeat=0.5, data_path_port=7789))
        for name in nodes[1:]:
            lab.swarm.join(name, info.worker_token, "")
        place = Town(lab, nodes)
        serve(place, "web", PortConfig(80, 8080), replicas=5, networks=("web",))
        view = place.settled("web", 5)
        known(place, view, "web", tuple(nodes))
        assert len({address.rpartition(".")[0] for address in nodes_of(view).values()}) == 2
        with lab.capture(*nodes, to=tmp_path / "x.pcapng"):
            for where in (nodes[0], nodes[-1]):
                answer = told(loaded(place, where, "http", 39.5 / RATE, RATE, *(f"{address}:8080" for address in nodes_of(view).values())))
                assert (answer["requests"], answer["failed"]) == (40, [])
                assert all(sorted(counted.values()) == [2] * 5 for counted in answer["by"].values())
        verdicts = vxtool.verify(tmp_path / "x.pcapng", lab.cluster)
        assert [f"{one.check} {one.message}" for one in verdicts.failing if one.severity != "info"] == []
