"""Reading the state of many namespaces, and the archive of a lab."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.lab.overlays import endpoint, network, topology
from vxtool.errors import UsageError
from vxtool.lab import dump, underlay
from vxtool.lab.dump import Namespace
from vxtool.lab.namespaces import NETNS
from vxtool.lab.overlay import Plan
from vxtool.lab.registry import Running
from vxtool.lab.spec import Options
from vxtool.lab.steps import SetQdisc

COMMANDS = ("ip -d link", "ip addr", "ip neigh", "bridge fdb", "ip route", "ip rule")


@pytest.fixture
def steps():
    nodes = topology(("vm1", "vm2"))
    plan = Plan(nodes, Options())
    plan.add_network(network("web", 4097))
    joined = [step for last in (3, 4) for step in plan.attach([endpoint(f"web.{last}", f"vm{last - 2}", "web", f"10.0.1.{last}")])]
    return [*underlay.plan(nodes, Options()), *joined]


def typed(name: str) -> str:
    """What a person sees who types the commands one after the other."""
    return "".join(
        subprocess.run(["ip", "netns", "exec", name, *words.split()], capture_output=True, text=True, check=True).stdout for words in COMMANDS
    )


def timeless(text: str) -> list[str]:
    """Without timers, and with namespaces' numbers: a shell in `ip netns exec` sees all names, a dump those of the node."""
    return [re.sub(r"(\w+_timer) +[\d.]+|link-netns(id)? \S+", r"\1", line) for line in text.splitlines()]


def test_the_text_is_what_the_commands_print(world, steps):
    world.kernel.perform(steps)
    # The kernel tells a moment later that a bridge is up.
    for space, bridge in (("vm1:1-web0123456", "br0"), ("vm2:1-web0123456", "br0"), ("switches", "s1")):
        world.sh(f"for _ in $(seq 100); do ip -n {space} link show {bridge} | grep -q 'state UP' && exit 0; sleep 0.05; done; exit 1")
    states = dump.read(dump.in_folder(NETNS))
    assert [state.namespace.full_name for state in states] == [
        "switches",
        "vm1",
        "vm1:1-web0123456",
        "vm1:web.3",
        "vm2",
        "vm2:1-web0123456",
        "vm2:web.4",
    ]
    for state in states:
        expected = timeless(typed(state.namespace.full_name))
        assert timeless(state.text)[: len(expected)] == expected
        assert state.errors == ()


def test_links_to_other_namespaces_are_told_by_name(world, steps):
    world.kernel.perform(steps)
    overlay = next(state for state in dump.read(dump.in_folder(NETNS)) if state.namespace.full_name == "vm1:1-web0123456")
    assert "link-netns vm1 " in overlay.text, "the VXLAN device's socket is in the node's namespace"
    assert "link-netns vm1:web.3" in overlay.text


def test_json_says_the_same(world, steps):
    world.kernel.perform([*steps, SetQdisc("vm1", "eth0", "tbf rate 10000000bit burst 32768 latency 50ms")])
    told = {state.namespace.full_name: state.json for state in dump.read(dump.in_folder(NETNS))}
    overlay = told["vm1:1-web0123456"]
    assert [neighbour["dst"] for neighbour in overlay["neighbours"]] == ["10.0.1.4"]
    assert {entry["mac"]: entry["dst"] for entry in overlay["fdb"] if "dst" in entry} == {"02:42:0a:00:01:04": "192.168.68.110"}
    vxlan = next(link for link in overlay["links"] if link["ifname"] == "vxlan0")
    assert (vxlan["linkinfo"]["info_data"]["id"], vxlan["mtu"]) == (4097, 1450)
    assert {route["dst"] for route in told["vm1:web.3"]["routes"]} == {"default", "10.0.1.0/24", "172.18.0.0/16"}
    assert told["vm1:web.3"]["sysctls"]["net.ipv6.conf.all.disable_ipv6"] == "1"
    assert any(qdisc["kind"] == "tbf" for qdisc in told["vm1"]["qdiscs"])
    assert any("masquerade" in json.dumps(rule) for rule in told["vm1"]["nft"])


def test_a_socket_is_told_with_its_program(world, steps):
    world.kernel.perform(steps)
    code = "import socket, time; s = socket.socket(); s.bind(('10.0.1.3', 80)); s.listen(); print(flush=True); time.sleep(60)"
    server = subprocess.Popen(["ip", "netns", "exec", "vm1:web.3", "python3", "-c", code], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    text = next(state.text for state in dump.read(dump.in_folder(NETNS)) if state.namespace.full_name == "vm1:web.3")
    (line,) = (line for line in text.splitlines() if "10.0.1.3:80" in line)
    assert f'users:(("python3",pid={server.pid},fd=' in line
    assert "ino:" not in line


def test_a_namespace_that_has_gone_is_told_in_its_place(world, steps):
    world.kernel.perform(steps)
    here, gone = Namespace("vm1", "vm1", NETNS / "vm1"), Namespace("vm1", "web.9", NETNS / "vm1:web.9")
    states = dump.read([here, gone])
    assert states[0].errors == ()
    assert states[1].errors == ("vm1:web.9: No such file or directory",)


def test_reading_leaves_nothing_behind(world, steps):
    world.kernel.perform(steps)
    before = (sorted(path.name for path in NETNS.iterdir()), len(os.listdir("/proc/self/fd")), Path("/proc/self/mounts").read_text())
    dump.read(dump.in_folder(NETNS))
    assert (sorted(path.name for path in NETNS.iterdir()), len(os.listdir("/proc/self/fd")), Path("/proc/self/mounts").read_text()) == before


def test_an_archive_holds_everything_and_is_read_again(world, steps, tmp_path):
    world.kernel.perform(steps)
    lab = Running("it", tmp_path, os.getpid())
    states = dump.read(dump.of_lab(lab))
    written = io.BytesIO()
    dump.archive(written, lab, states, described={"topology": {}}, seconds=0.1, notes=["a note"])
    path = tmp_path / "it.tar.gz"
    path.write_bytes(written.getvalue())
    with tarfile.open(path) as tar:
        members = {member.name.removeprefix("it-dump/"): member for member in tar}
        readme = tar.extractfile(members["README.txt"])
        assert readme is not None
        assert "a note" in readme.read().decode()
        processes = tar.extractfile(members["processes.txt"])
        assert processes is not None
        assert "python" in processes.read().decode()
    assert {"lab.json", "state-vm1.txt", "state-vm1.json", "state-vm2.txt", "state-switches.txt", "mounts.txt", "machine.json", "log"} <= set(members)
    assert {member.mode for member in members.values()} == {0o600}
    assert dump.in_archive(path)["vm1"] == dump.as_text(state for state in states if state.namespace.node == "vm1")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00", b"not an archive"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="archive"):
        dump.in_archive(path)


@pytest.mark.parametrize(
    ("which", "complaint"),
    [("999999999", "there is no process"), ("/nowhere", "no such file"), ("/proc/self/ns/net", "no dockerd is in that network namespace")],
)
def test_an_engine_that_is_none_is_refused(which, complaint):
    with pytest.raises(UsageError, match=complaint):
        dump.of_engine(which)
