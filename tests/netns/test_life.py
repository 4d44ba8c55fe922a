"""The life of a lab: it comes whole or not at all, answers whoever asks sensibly, survives its supervisor, and goes without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vxtool
from tests.netns.crash import look
from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab import client, dump, records, registry
from vxtool.lab.lab import Lab
from vxtool.lab.registry import Running


@pytest.fixture(scope="module", autouse=True)
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """So that labs of this machine are neither seen nor swept; its path is too long for the address of a socket."""
    if os.geteuid() != 0:
        pytest.fail("these tests build labs: run them as root", pytrace=False)
    folder = tmp_path_factory.mktemp("r" * 100) / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VXTOOL_RUN", str(folder))
        patch.delenv("VXTOOL_LAB", raising=False)
        yield folder
    assert not folder.exists(), "a lab was left"


@pytest.fixture(scope="module")
def lab(own_registry: Path) -> Iterator[Lab]:
    """One lab for all tests that leave it as they found it."""
    with Lab() as lab:
        yield lab


def pings(lab: Lab, source: str, address: str, patience: float = 2) -> bool:
    return lab.exec(source, ["ping", "-c", "1", "-W", str(patience), address]).returncode == 0


def supervisor_of(lab: Running) -> int:
    """The leader's child, by what the machine's process table says."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                command = (process / "cmdline").read_bytes()
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == lab.leader and b"vxtool.lab.supervisor" in command:
                return int(process.name)
    raise AssertionError("no supervisor runs")


TOLD = {
    "link": ("kind", "mtu", "master", "up", "vxlan.id", "vxlan.dstport", "vxlan.proxy", "vxlan.l2miss", "vxlan.l3miss"),
    "address": ("brd", "scope"),
    "route": ("via", "dev", "scope", "src"),
    "neighbour": ("lladdr",),
    "fdb": ("dst", "permanent"),
}
"""What does not differ from one time to the next: no indexes, no counters, no MAC that the kernel drew, no state that takes a moment to settle."""


def kernel_state(lab: Lab) -> dict[str, Any]:
    """What the kernel's own tools say of every namespace."""
    state = {}
    for sandbox in records.read(dump.as_text(dump.read(dump.of_lab(lab.running), with_json=False))):
        for kind, names in TOLD.items():
            for what, fields in sandbox.of(kind):
                if kind != "fdb" or " 02:42:" in what:
                    fields["up"] = str("UP" in fields.get("flags", "").split(","))
                    state[f"{sandbox.node} {sandbox.name} {kind} {what}"] = {name: fields[name] for name in names if name in fields}
    return state


# -- it comes --------------------------------------------------------------------------------------------------------------


def test_endpoints_of_a_new_lab_reach_each_other(lab: Lab) -> None:
    by_name = {endpoint.name: endpoint for endpoint in lab.cluster.endpoints}
    assert sorted(by_name) == [f"web.{slot}" for slot in range(1, 7)]
    assert pings(lab, "web.1", str(by_name["web.2"].ip))
    assert pings(lab, "web.2", str(by_name["web.5"].ip))


def test_vxtool_lab_is_that_lab() -> None:
    assert vxtool.Lab is Lab


def test_only_root_may_read_what_is_written_of_a_lab(lab: Lab) -> None:
    folder = lab.running.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "api.sock").stat().st_mode) == 0o600


def test_two_labs_with_the_same_names_and_addresses_do_not_see_each_other(lab: Lab) -> None:
    with Lab() as other:
        assert other.spec.cluster == lab.spec.cluster
        other.detach("web.2")
        assert not pings(other, "web.1", "10.0.1.4", patience=0.3)
        assert pings(lab, "web.1", "10.0.1.4")
        with pytest.raises(UsageError, match="2 labs are running"):
            registry.find(None)


def test_a_lab_of_a_name_that_runs_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="is running already"), Lab(name=lab.spec.name):
        pass
    assert pings(lab, "web.1", "10.0.1.4")


def _a_lab_and_its_end(seen: Callable[[], Any]) -> list[str]:
    before = seen()
    with Lab(name="a", nodes=3) as lab:
        assert pings(lab, "web.1", "10.0.1.4")
        during = seen()
        assert during.links == before.links
        assert during.mounts == before.mounts
        assert during.groups >= before.groups
    deadline = time.monotonic() + 5
    while (left := seen().beside(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return sorted(left.items())


def test_where_a_lab_is_built_no_link_or_mount_is_seen_and_nothing_is_left(in_a_world: Callable[..., Any]) -> None:
    assert in_a_world(_a_lab_and_its_end, look) == []


def test_a_lab_that_cannot_be_built_says_which_step_was_refused_and_leaves_nothing(own_registry: Path) -> None:
    if Path("/proc/net/xfrm_stat").exists() and _has_esp():
        pytest.skip("this kernel has ESP")
    before = len(registry.running())
    with pytest.raises((LabError, MissingFeature), match="before it are taken back"), Lab(name="refused", encrypted=True):
        pass
    assert len(registry.running()) == before
    assert not (own_registry / "refused").exists()


def _has_esp() -> bool:
    words = "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 mode transport aead rfc4106(gcm(aes)) 0x" + "00" * 20 + " 64"
    return subprocess.run(["unshare", "--net", "ip", *words.split()], capture_output=True, check=False).returncode == 0


# -- it is asked -----------------------------------------------------------------------------------------------------------


def _say(lab: Lab, *lines: bytes) -> list[Any]:
    """What is answered to lines as they are."""
    descriptor = os.open(lab.running.folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(f"/proc/self/fd/{descriptor}/api.sock")
            connection.sendall(b"".join(line + b"\n" for line in lines))
            connection.shutdown(socket.SHUT_WR)
            return [json.loads(line) for line in connection.makefile("rb")]
    finally:
        os.close(descriptor)


NONSENSE = {
    "no JSON": b"hello",
    "half an object": b'{"do": "state"',
    "not UTF-8": b'{"do": "\xff"}',
    "a list": b'["state"]',
    "a number": b"7",
    "deeply nested": b"[" * 100_000,
    "nothing to do": b"{}",
    "do is no text": b'{"do": 7}',
    "arguments are no object": b'{"do": "attach", "arguments": ["web.7"]}',
    "an unknown key": b'{"do": "state", "with": {}}',
    "an unknown operation": b'{"do": "atach", "arguments": {}}',
    "an argument is missing": b'{"do": "attach", "arguments": {"name": "web.7"}}',
    "an unknown argument": b'{"do": "detach", "arguments": {"name": "web.1", "force": true}}',
    "an argument of a wrong type": b'{"do": "attach", "arguments": {"name": "web.7", "node": "sathish-vm1", "networks": "web"}}',
    "a text for a number": b'{"do": "impair", "arguments": {"link": "sathish-vm1-s1", "impairment": {"loss": "1%"}}}',
    "a number that is none": b'{"do": "impair", "arguments": {"link": "sathish-vm1-s1", "impairment": {}, "seconds": NaN}}',
    "an unknown node": b'{"do": "attach", "arguments": {"name": "web.7", "node": "vm9", "networks": ["web"]}}',
    "an unknown network": b'{"do": "attach", "arguments": {"name": "web.7", "node": "sathish-vm1", "networks": ["db"]}}',
    "an address that is taken": b'{"do": "attach", "arguments": {"name": "web.7", "node": "sathish-vm1", "networks": ["web=10.0.1.4"]}}',
    "an address that is none": b'{"do": "attach", "arguments": {"name": "web.7", "node": "sathish-vm1", "networks": ["web=x"]}}',
    "a name that is taken": b'{"do": "attach", "arguments": {"name": "web.1", "node": "sathish-vm1", "networks": ["web"]}}',
    "a name with a slash": b'{"do": "attach", "arguments": {"name": "../web", "node": "sathish-vm1", "networks": ["web"]}}',
    "a network in use": b'{"do": "network_remove", "arguments": {"name": "web"}}',
    "an endpoint that is there already": b'{"do": "move", "arguments": {"name": "web.1", "node": "sathish-vm1"}}',
    "a second build": b'{"do": "build", "arguments": {"spec": {}}}',
}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_answered_with_what_is_wrong_with_it_and_changes_nothing(lab: Lab, line: bytes) -> None:
    before = client.call(lab.running, "state")
    supervisor = supervisor_of(lab.running)
    (refused, state) = _say(lab, line, b'{"do": "state"}')
    assert refused["error"]["kind"] == "UsageError", refused
    assert "\n" not in refused["error"]["text"]
    assert state["answer"] == before
    assert supervisor_of(lab.running) == supervisor


def test_who_asks_and_does_not_read_keeps_nobody_waiting(lab: Lab) -> None:
    descriptor = os.open(lab.running.folder, os.O_PATH)
    silent = []
    try:
        for _ in range(3):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"/proc/self/fd/{descriptor}/api.sock")
            connection.sendall(b'{"do": "state"}\n' * 200)  # answers of more than any buffer holds
            silent.append(connection)
        assert client.call(lab.running, "attach", name="x", node="sathish-vm1", networks=["web"])["endpoints"]
        client.call(lab.running, "detach", name="x")
    finally:
        for connection in silent:
            connection.close()
        os.close(descriptor)


def test_a_question_that_is_asked_again_is_not_done_again(lab: Lab) -> None:
    question = json.dumps({"do": "attach", "key": "once", "arguments": {"name": "again", "node": "sathish-vm1", "networks": ["web"]}}).encode()
    first, second = _say(lab, question, question)
    assert first == second
    assert [endpoint.name for endpoint in lab.cluster.endpoints].count("again") == 1
    lab.detach("again")


# -- it changes ------------------------------------------------------------------------------------------------------------


def test_an_endpoint_comes_moves_and_goes_and_the_others_are_told(lab: Lab) -> None:
    before = kernel_state(lab)
    (endpoint,) = lab.attach("mover", "sathish-vm1", ["web=10.0.1.99"])
    assert (str(endpoint.ip), str(endpoint.mac), endpoint.node) == ("10.0.1.99", "02:42:0a:00:01:63", "sathish-vm1")
    assert pings(lab, "web.2", "10.0.1.99")
    program = lab.popen("mover", ["sleep", "1000"])
    lab.move("mover", "sathish-vm2")
    assert program.wait(10) == 128 + signal.SIGKILL
    assert pings(lab, "web.1", "10.0.1.99")
    assert [one.node for one in lab.cluster.endpoints if one.name == "mover"] == ["sathish-vm2"]
    lab.detach("mover")
    assert not pings(lab, "web.1", "10.0.1.99", patience=0.3)
    assert kernel_state(lab) == before


def test_a_new_network_has_the_next_subnet_and_vni_and_is_a_world_of_its_own(lab: Lab) -> None:
    network = lab.add_network("db")
    assert (str(network.subnets[0].prefix), network.vnis, network.mtu) == ("10.0.2.0/24", (4098,), 1450)
    lab.attach("db.1", "sathish-vm1", ["db"])
    lab.attach("both", "sathish-vm2", {"db": None, "web": "10.0.1.98"})
    assert pings(lab, "db.1", str(next(one.ip for one in lab.cluster.endpoints if one.name == "both" and one.network == "db")))
    assert not pings(lab, "db.1", "10.0.1.98", patience=0.3)
    lab.detach("db.1")
    lab.detach("both")
    lab.remove_network("db")
    assert [network.name for network in lab.cluster.networks] == ["web"]


def test_a_change_that_the_kernel_refuses_is_taken_back_and_the_lab_goes_on(lab: Lab) -> None:
    before, state = kernel_state(lab), client.call(lab.running, "state")
    # A name in the way of the sandbox that is to be made.
    blocked = Path(f"/proc/{lab.running.leader}/root/run/netns/sathish-vm1:web.77")
    blocked.touch()
    with pytest.raises(LabError, match=r"ip netns add sathish-vm1:web\.77"):
        lab.attach("web.77", "sathish-vm1", ["web"])
    blocked.unlink()
    assert client.call(lab.running, "state") == state
    assert kernel_state(lab) == before
    lab.attach("web.77", "sathish-vm1", ["web"])
    lab.detach("web.77")


# -- its supervisor dies ---------------------------------------------------------------------------------------------------


def test_a_supervisor_that_is_killed_is_followed_by_one_that_knows_everything(lab: Lab) -> None:
    lab.attach("before", "sathish-vm1", ["web"])
    state, kernel = client.call(lab.running, "state"), kernel_state(lab)
    killed = supervisor_of(lab.running)
    os.kill(killed, signal.SIGKILL)
    assert client.call(lab.running, "state") == state
    assert supervisor_of(lab.running) != killed
    assert kernel_state(lab) == kernel
    lab.detach("before")
    assert "before" not in [endpoint.name for endpoint in lab.cluster.endpoints]


def _attached_meanwhile(moment: float | None) -> Any:
    """A lab to which an endpoint is attached, in a network that no node has yet; after `moment` seconds of it the supervisor is killed."""
    with Lab(endpoints=0) as lab:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(lab.attach("web.1", "sathish-vm1", ["web"])))
        supervisor = supervisor_of(lab.running)
        asking.start()
        if moment is not None:
            time.sleep(moment)
            os.kill(supervisor, signal.SIGKILL)
        asking.join(30)
        assert [str(endpoint.ip) for endpoint in answers[0]] == ["10.0.1.3"]
        lab.attach("web.2", "sathish-vm2", ["web"])
        assert pings(lab, "web.1", "10.0.1.4")
        assert "cannot be done again" not in (lab.running.folder / "log").read_text()
        return kernel_state(lab), lab.cluster


@pytest.fixture(scope="module")
def undisturbed(own_registry: Path) -> Any:
    return _attached_meanwhile(None)


@pytest.mark.parametrize("moment", [0.0, 0.003, 0.006, 0.009, 0.012, 0.018])
def test_a_change_over_which_the_supervisor_was_killed_is_made_whole_by_the_next_one(moment: float, undisturbed: Any) -> None:
    assert _attached_meanwhile(moment) == undisturbed


# -- it goes ---------------------------------------------------------------------------------------------------------------


def _lab_of_a_process_that_is_killed() -> list[str]:
    before = look()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        Lab(name="orphan").start()
        os.write(writer, b".")
        signal.pause()
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    assert len(registry.running()) == 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return _all_gone(before)


def _lab_whose_leader_is_killed() -> list[str]:
    before = look()
    lab = Lab(name="headless")
    running = lab.start()
    lab.exec("web.1", ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &"])
    os.kill(running.leader, signal.SIGKILL)
    gone = _all_gone(before)
    with pytest.raises(LabError, match="has ended meanwhile"):
        client.call(running, "state")
    lab.close()
    return gone


def _all_gone(before: Any) -> list[str]:
    """Waits until nothing is alive that was not before, has the next command sweep, and tells what is left then."""
    deadline = time.monotonic() + 10
    while look().beside(before).keys() - {"groups", "written"}:
        assert time.monotonic() < deadline, look().beside(before)
        time.sleep(0.01)
    assert registry.running() == []
    assert len(registry.sweep()) == 1
    return sorted(look().beside(before))


@pytest.mark.parametrize("story", [_lab_of_a_process_that_is_killed, _lab_whose_leader_is_killed], ids=lambda story: story.__name__.strip("_"))
def test_nothing_is_left_of_a(story: Callable[[], list[str]], in_a_world: Callable[..., Any]) -> None:
    assert in_a_world(story) == []


def test_whoever_finds_the_wish_that_a_lab_ends_ends_it() -> None:
    lab = Lab(name="wished")
    running = lab.start()
    lab.keep()
    (running.folder / "down").touch()  # `down`, killed in the next moment
    assert registry.sweep() == [f"lab wished was to end: removed {running.folder} and control groups in {len(running.groups) or 3} hierarchies"]
    assert "wished" not in [one.name for one in registry.running()]


def test_a_process_that_only_has_the_number_of_a_dead_leader_is_left_alone(own_registry: Path) -> None:
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        with registry.alone():
            place = own_registry / "reused"
            place.mkdir()
            (place / "leader").write_text(f"{bystander.pid} 1\n")
            (place / "down").touch()
        assert len(registry.sweep()) == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
