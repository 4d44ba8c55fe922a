"""What goes wrong around a lab's swarm, at the manager: processes that are killed at a bad moment, strangers on its port, questions asked again."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import vxtool
from tests.netns.swarms import HEARTBEAT, Town, town
from vxtool.errors import LabError, UsageError, VxtoolError
from vxtool.lab import agents, client, containers, manager, namespaces
from vxtool.lab.lab import Lab
from vxtool.model import NodeState
from vxtool.model.plain import plain
from vxtool.swarm.control import INGRESS
from vxtool.swarm.journal import Journal
from vxtool.swarm.objects import NetworkSpec, RestartPolicy, ServiceSpec, Settings, TaskSpec
from vxtool.swarm.swarm import Swarm

FAST = Settings(heartbeat=HEARTBEAT)
AT_ONCE = RestartPolicy(delay=0.0)

# In the namespace of another node, against the manager's port: argv[1] is its address.
FLOOD = """
import socket, sys, time
taken = []
for _ in range({connections}):
    try:
        taken.append(socket.create_connection((sys.argv[1], 2377), timeout=1))
    except OSError:
        break
print(len(taken), flush=True)
time.sleep({seconds})
"""
SAY = """
import socket, sys
one = socket.create_connection((sys.argv[1], 2377), timeout=3)
try:
    for _ in range({times}):
        one.sendall({piece})
    one.shutdown(socket.SHUT_WR)
    print("said", one.recv(1000))
except OSError as error:
    print("closed", error)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Town]:
    with town(nodes=2) as made:
        yield made


def address(place: Town) -> str:
    """Where the manager listens."""
    return str(place.lab.spec.topology.address(place.nodes[0]))


def talk(place: Town, script: str) -> str:
    return str(place.lab.exec(place.nodes[1], ["python3", "-c", script, address(place)]).stdout)


def log(lab: Lab) -> str:
    return (lab.running.folder / "log").read_text()


def ask(lab: Lab, key: str, do: str, **arguments: Any) -> Any:
    """As a client that asks again, because nobody has answered it."""
    question = json.dumps({"do": "swarm", "key": key, "arguments": {"do": do, "arguments": arguments}}).encode() + b"\n"
    for _ in range(3):
        try:
            return client._ask(lab.running, question, None)
        except (ConnectionResetError, EOFError):  # it dies in this moment
            continue
    raise AssertionError("nobody answers")


def remains(place: Town, node: str) -> list[str]:
    """What tasks and networks have left on a node: its sandboxes, containers and devices."""
    folder = place.lab.running.folder
    programs = [path.name for path in (folder / "programs").iterdir() if path.name.startswith(f"{node}:")]
    told = place.lab.exec(node, ["sh", "-c", f"ip netns list | grep ^{node}: ; ip -br link | cut -d' ' -f1; nft list tables"]).stdout
    return programs + [word for word in told.splitlines() if word.partition("@")[0] not in ("lo", "eth0")]


def agent_of(lab: Lab, node: str) -> dict[str, Any]:
    return next(one for one in lab.swarm.agents() if one["node"] == node)


def until(seen: Callable[[], object], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


def used(pid: int) -> tuple[int, int, float]:
    """Descriptors, KiB of memory, seconds of processor time."""
    memory = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return len(os.listdir(f"/proc/{pid}/fd")), int(memory), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- strangers ---------------------------------------------------------------------------------------------------------


def test_a_supervisor_that_had_no_descriptors_left_answers_when_it_has_some_again(shared: Town) -> None:
    shared.client.view()
    pid = shared.supervisor()
    limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    holders: list[socket.socket] = []
    with ThreadPoolExecutor(1) as pool:
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used(pid)[0] + 6, limit[1]))
            for _ in range(20):
                holders.append(one := socket.socket(socket.AF_UNIX))
                with client._reachable(shared.lab.running.folder) as path:
                    one.connect(path)
            waiting = pool.submit(shared.lab.exec, shared.nodes[1], ["python3", "-c", FLOOD.format(connections=5, seconds=2), address(shared)])
            time.sleep(0.5)
            before = used(pid)[2]
            time.sleep(1.0)
            assert used(pid)[2] - before < 0.5  # it waits, and does not ask again and again
        finally:
            for one in holders:
                one.close()
            waiting.result()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
    assert shared.client.view().nodes
    shared.until(lambda view: all(node.state is NodeState.READY for node in view.nodes.values()))
    assert shared.supervisor() == pid


def test_strangers_are_few_at_a_time_and_not_for_long(shared: Town) -> None:
    pid = shared.supervisor()
    before = used(pid)[0]
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(shared.lab.exec, shared.nodes[1], ["python3", "-c", FLOOD.format(connections=300, seconds=12), address(shared)])
        until(lambda: used(pid)[0] > before + 40)
        time.sleep(0.5)
        assert used(pid)[0] <= before + manager.MOST_STRANGERS + 8
        shared.client.kill_agent(shared.nodes[1])
        shared.client.start_agent(shared.nodes[1])  # who says who he is comes in
        shared.until(lambda view: all(node.state is NodeState.READY for node in view.nodes.values()))
        until(lambda: used(pid)[0] < before + 8, manager.STRANGER_PATIENCE + 2)
        flood.result()


@pytest.mark.parametrize(
    ("piece", "times"), [("b'x' * (1 << 20)", 60), ("b'[' * 2000 + b'\\n'", 50), ("b'{\"a\":' * 9000 + b'\\n'", 50), ("b'\\x00\\n'", 50)]
)
def test_a_stranger_that_talks_nonsense_costs_a_line_of_the_log(shared: Town, piece: str, times: int) -> None:
    pid = shared.supervisor()
    _, memory, _ = used(pid)
    before = len(log(shared.lab))
    told = talk(shared, SAY.format(piece=piece, times=times))
    assert told == "said b''\n" or told.startswith("closed")
    until(lambda: len(log(shared.lab)) > before)
    said = log(shared.lab)[before:]
    assert len(said) < 1000
    assert "Traceback" not in said
    assert used(pid)[1] - memory < 20_000


def test_a_node_says_its_name_and_an_address_or_does_not_come_in(shared: Town) -> None:
    view = shared.client.view()
    join = {"token": view.info.worker_token, "name": shared.nodes[1], "address": "192.0.2.9", "availability": "active"}
    for wrong in ({"name": "x" * 300}, {"name": "../evil"}, {"name": "stranger"}, {"address": "nowhere"}, {"address": "::1"}):
        assert "refused" in talk(shared, SAY.format(piece=json.dumps({"join": join | wrong}).encode() + b"\n", times=1)), wrong
    record = agents.read(shared.lab.running.folder / "swarm" / "agents" / shared.nodes[1])
    node = view.nodes[record["id"]]
    for changes in ({"address": "nowhere"}, {"hostname": "\x1b[31m"}, {"hostname": shared.nodes[0]}):
        described = plain(node) | changes
        message = {"open": {"node": node.id, "secret": record["secret"], "described": described}}
        assert "refused" in talk(shared, SAY.format(piece=json.dumps(message).encode() + b"\n", times=1)), changes
    assert [one.name for one in shared.lab.cluster.nodes] == shared.nodes
    assert len(shared.client.view().nodes) == 2


# -- what is asked wrongly, or twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "arguments"),
    [
        ("swarm.join", {"node": "sathish-vm1", "token": "x", "zz": 1}),
        ("swarm.join", {"node": 5, "token": "x"}),
        ("swarm.join", {}),
        ("swarm.init", {"settings": 5}),
        ("swarm.init", {"availability": "sometimes"}),
        ("swarm.leave", {"node": "sathish-vm1", "force": "yes"}),
        ("wait", {"after": "x"}),
        ("logs", {"task": "../x"}),
        ("agent.kill", {"node": []}),
    ],
)
def test_words_of_the_manager_with_wrong_arguments_are_the_users_mistake(shared: Town, do: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ask(shared.lab, os.urandom(8).hex(), do, **arguments)


def test_a_question_that_was_done_and_not_answered_is_answered_when_it_is_asked_again(shared: Town) -> None:
    service = plain(ServiceSpec("again", TaskSpec("httpd"), replicas=1))
    network = ask(shared.lab, "n1", "network.create", spec=plain(NetworkSpec("again")))
    created = ask(shared.lab, "s1", "service.create", spec=service)
    updated = ask(shared.lab, "s2", "service.update", service=created["id"], spec=service | {"replicas": 2}, version=created["version"])
    ask(shared.lab, "n2", "network.remove", network=network["id"])
    os.kill(shared.supervisor(), signal.SIGKILL)
    shared.client = shared.lab.swarm
    shared.client.view()
    assert ask(shared.lab, "n1", "network.create", spec=plain(NetworkSpec("again"))) == network
    assert ask(shared.lab, "s1", "service.create", spec=service) == created
    assert ask(shared.lab, "s2", "service.update", service=created["id"], spec=service | {"replicas": 2}, version=created["version"]) == updated
    assert ask(shared.lab, "n2", "network.remove", network=network["id"]) is None
    assert "again" not in [one.spec.name for one in shared.client.view().networks.values()]
    with pytest.raises(UsageError, match="already exists"):
        ask(shared.lab, "s3", "service.create", spec=service)
    ask(shared.lab, "s4", "service.remove", service=created["id"])


def test_nodes_join_and_leave_once_however_often_and_at_once_it_is_asked() -> None:
    with Lab(nodes=2, bare=True) as lab:
        one, two = (node.name for node in lab.spec.topology.nodes)
        info = ask(lab, "i", "swarm.init", node=one, settings=plain(FAST))
        assert ask(lab, "i", "swarm.init", node=one, settings=plain(FAST)) == info
        with pytest.raises(UsageError, match="already part of a swarm"):
            ask(lab, "i2", "swarm.init", node=one, settings=plain(FAST))

        def join(key: str) -> Any:
            try:
                return ask(lab, key, "swarm.join", node=two, token=info["worker_token"])["node"]
            except VxtoolError as error:
                return str(error)

        with ThreadPoolExecutor(5) as pool:
            told = list(pool.map(join, ["a", "b", "c", "d"]))
        (joined,) = [text for text in told if " " not in text]
        assert [text for text in told if text != joined] == [manager.ALREADY] * 3
        key = "abcd"[told.index(joined)]
        os.kill(Town.supervisor(_at(lab)), signal.SIGKILL)
        assert join(key) == joined
        assert [node.state for node in lab.swarm.view().nodes.values()].count(NodeState.READY) <= 2
        ask(lab, "l", "swarm.leave", node=two)
        ask(lab, "l", "swarm.leave", node=two)
        with pytest.raises(UsageError, match="not part of a swarm"):
            ask(lab, "l2", "swarm.leave", node=two)
        ask(lab, "m", "swarm.leave", node=one, force=True)
        ask(lab, "m", "swarm.leave", node=one, force=True)


def _at(lab: Lab) -> Any:
    place = Town.__new__(Town)
    place.lab = lab
    return place


def test_a_question_that_outlives_its_lab_says_so() -> None:
    with Lab(nodes=1, bare=True) as lab, ThreadPoolExecutor(1) as pool:
        lab.swarm.init("sathish-vm1", FAST)
        swarm = lab.swarm
        while swarm.view().version != swarm.wait(1.0).version:  # nothing of the beginning is left to be told
            pass
        waiting = pool.submit(swarm.wait, 30.0)
        time.sleep(0.3)
        lab.close()
        with pytest.raises(LabError, match="has ended meanwhile"):
            waiting.result()


# -- deaths in the middle ------------------------------------------------------------------------------------------------


def test_what_a_killed_swarm_init_has_left_is_in_nobodys_way() -> None:
    with Lab(nodes=1, bare=True) as lab:
        folder = lab.running.folder / "swarm"
        for half_done in (False, True):
            folder.mkdir(exist_ok=True)
            journal = Journal(folder / "store.sqlite")
            journal.meta.update({"base": 1.0, "info": {}})
            if half_done:
                swarm = Swarm(store=journal.load())
                swarm.tell(swarm.control.create_network, INGRESS)
            journal.close()
            info = lab.swarm.init("sathish-vm1", FAST)
            assert [network.spec.name for network in lab.swarm.view().networks.values()] == ["ingress"]
            assert lab.swarm.view().info.id == info.id
            lab.swarm.leave("sathish-vm1", force=True)


def test_a_supervisor_killed_before_it_started_the_managers_agent_is_followed_by_one_that_does() -> None:
    with Lab(nodes=1, bare=True) as lab:
        lab.swarm.init("sathish-vm1", FAST)
        lab.swarm.kill_agent("sathish-vm1")
        (lab.running.folder / "swarm" / "agents" / "sathish-vm1").unlink()
        os.kill(Town.supervisor(_at(lab)), signal.SIGKILL)
        until(lambda: [node.state for node in lab.swarm.view().nodes.values()] == [NodeState.READY])


def test_a_journal_that_cannot_be_read_ends_no_lab() -> None:
    with Lab(nodes=1, bare=True) as lab:
        lab.swarm.init("sathish-vm1", FAST)
        lab.swarm.kill_agent("sathish-vm1")
        os.kill(Town.supervisor(_at(lab)), signal.SIGSTOP)
        folder = lab.running.folder / "swarm"
        (folder / "store.sqlite-wal").unlink()
        (folder / "store.sqlite").write_bytes(b"no journal of anything" * 1000)
        os.kill(Town.supervisor(_at(lab)), signal.SIGKILL)
        with pytest.raises(LabError, match="cannot be gone on with"):
            lab.swarm.view()
        assert lab.cluster.nodes
        lab.swarm.leave("sathish-vm1")
        lab.swarm.init("sathish-vm1", FAST)


# -- nodes that go -------------------------------------------------------------------------------------------------------


def test_a_node_whose_agent_is_dead_leaves_nothing_behind() -> None:
    with town(nodes=2) as place:
        place.create(replicas=4, publish=80)
        place.settled("web", 4)
        node = place.nodes[1]
        place.client.kill_agent(node)
        assert len(remains(place, node)) > 4
        place.client.leave(node)
        assert remains(place, node) == []
        with pytest.raises(UsageError, match="is not part of the swarm"):
            place.client.start_agent(node)


def test_a_node_that_is_removed_by_force_hears_of_it_and_ends_what_it_runs() -> None:
    with town(nodes=2) as place:
        place.create(replicas=4)
        view = place.settled("web", 4)
        node = place.nodes[1]
        place.client.remove_node(view.node(node).id, force=True)
        until(lambda: not agent_of(place.lab, node)["alive"])
        assert remains(place, node) == []
        place.client.join(node, view.info.worker_token, "")
        view = place.until(lambda view: view.node(node).state is NodeState.READY)
        # And who was away at that moment: it is told when it comes back.
        place.client.kill_agent(node)
        place.client.remove_node(view.node(node).id, force=True)
        place.client.start_agent(node)
        until(lambda: not agent_of(place.lab, node)["alive"])
        place.settled("web", 4)


def test_an_agent_that_ended_before_it_had_joined_is_begun_anew() -> None:
    with Lab(nodes=2, bare=True) as lab, ThreadPoolExecutor(1) as pool:
        one, two = (node.name for node in lab.spec.topology.nodes)
        info = lab.swarm.init(one, FAST)
        joining = pool.submit(lab.swarm.join, two, info.worker_token, "192.0.2.200:2377")
        until(lambda: agent_of(lab, two)["alive"])
        time.sleep(0.2)
        lab.swarm.kill_agent(two)
        with pytest.raises(UsageError, match="vxtool swarm leave --node"):
            lab.swarm.start_agent(two)
        lab.swarm.leave(two)
        with pytest.raises(LabError, match="has left the swarm before it had joined"):
            joining.result()
        lab.swarm.join(two, info.worker_token, "")


def test_logs_go_with_their_tasks(shared: Town) -> None:
    logs = shared.lab.running.folder / "swarm" / "logs"
    service = shared.create("talks", "host", 2, args=("sh", "-c", "echo hello; sleep 1000"), restart=AT_ONCE)
    view = shared.settled("talks", 2)
    names = {task.id for task in view.tasks_of[service.id]}
    until(lambda: names <= {path.name for path in logs.iterdir()})
    (logs / "2gonewhilenobodylooked").write_text("old")
    shared.client.remove_service(service.id)
    until(lambda: not names & {path.name for path in logs.iterdir()})
    os.kill(shared.supervisor(), signal.SIGKILL)
    shared.client = shared.lab.swarm
    until(lambda: shared.client.view() and not (logs / "2gonewhilenobodylooked").exists())


def test_containers_with_a_long_grace_period_are_killed_before_their_agent_is(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent, which waits for them, then leaves in good order."""
    monkeypatch.setattr(agents, "END_PATIENCE", 0.5)
    monkeypatch.setenv("PYTHONPATH", str(Path(vxtool.__file__).parents[1]))  # as a lab's processes have it
    lab = tmp_path
    deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    for folder in ("programs", "swarm/agents", "logs"):
        (lab / folder).mkdir(parents=True)
    namespaces.create("vm1")
    namespaces.create("vm1:deaf")
    ready, begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready)
            signal.signal(signal.SIGTERM, lambda *_: None)
            agents.lock(lab / "swarm/agents/vm1.lock")
            wish = containers.Wanted(lab, "deaf", "vm1:deaf", "deaf", "host", lab / "logs" / "deaf", args=deaf)
            container = containers.start(wish)
            os.write(begun, b".")
            while container.code() is None:
                time.sleep(0.02)
            os._exit(7)
        finally:
            os._exit(1)
    os.close(begun)
    assert os.read(ready, 1) == b"."
    known = agents.Agents(lab / "swarm" / "agents")
    known.leave("vm1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert not list((lab / "programs").iterdir())
