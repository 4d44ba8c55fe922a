"""`vxtool capture` at a real lab: what it writes is what verify, trace and decode understand without being told more, and it ends as it should."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vxtool
from vxtool.capture import open_capture
from vxtool.lab.lab import Lab
from vxtool.lab.vantages import vantages

ROOT = Path(__file__).parents[2]
PINGS = 3


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("this test makes a lab: run it as root", pytrace=False)
    before = os.environ.get("VXTOOL_RUN")
    os.environ["VXTOOL_RUN"] = str(tmp_path_factory.mktemp("run") / "labs")
    try:
        with Lab("two_racks", nodes=2, name="captured") as lab:
            yield lab
    finally:
        if before is None:
            del os.environ["VXTOOL_RUN"]
        else:
            os.environ["VXTOOL_RUN"] = before


def ping(lab: Lab) -> None:
    lab.exec("web.1", ["ping", "-q", "-c", str(PINGS), "-i", "0.01", "10.0.1.4"], check=True)


@contextmanager
def capturing(*arguments: str | Path, **how: int) -> Iterator[subprocess.Popen[str]]:
    """`vxtool capture` from the moment on when it says that it captures, until it ends by itself or is not wanted any more."""
    command = [sys.executable, "-m", "vxtool", "capture", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=how.get("stdout", subprocess.PIPE), text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "capturing at " in first, first + process.stderr.read()
        try:
            yield process
        finally:
            process.kill()


def interfaces(path: Path) -> dict[str | None, int]:
    """Frames of each."""
    with open_capture(path) as capture:
        names = [frames.interfaces[number].name for frames in capture for number in frames.index["interface"].tolist()]
        return {interface.name: names.count(interface.name) for interface in capture.interfaces}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_capture_ended_by_a_signal_right_after_the_traffic_has_all_of_it(lab: Lab, tmp_path: Path, number: int) -> None:
    ping(lab)  # nobody asks for addresses any more
    node1, node2 = (node.name for node in lab.cluster.nodes)
    with capturing(node1, node2, "web.1", f"web@{node2}", "-w", tmp_path / "lab.pcapng", "-f", "icmp or udp port 4789") as process:
        ping(lab)
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    wanted = {f"{node1}/eth0": 2 * PINGS, f"{node2}/eth0": 2 * PINGS, "web.1/eth0": 2 * PINGS, f"web@{node2}/vxlan0": 2 * PINGS}
    assert interfaces(tmp_path / "lab.pcapng") == wanted
    assert told == f"vxtool: {8 * PINGS} frames: {', '.join(f'{count} at {name}' for name, count in wanted.items())}\n"


def test_verify_and_trace_know_where_each_frame_was_captured(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "lab.pcapng"
    node1, node2 = (node.name for node in lab.cluster.nodes)
    with lab.capture(node1, node2, "web.2", f"web@{node1}", to=path) as capture:
        ping(lab)
    result = vxtool.verify(path, lab.cluster)
    assert not result.failing
    assert [(one.kind, one.node, one.endpoint.name if one.endpoint else None, one.inferred) for one in result.case.vantages] == [
        ("node", node1, None, False),
        ("node", node2, None, False),
        ("endpoint", node2, "web.2", False),
        ("unknown", node1, None, False),
    ]
    assert [one.frames for one in result.case.table.captures] == [one.frames for one in capture.statistics]
    done = subprocess.run(
        [sys.executable, "-m", "vxtool", "trace", "--json", "--flow", "10.0.1.3 > 10.0.1.4", str(path)], capture_output=True, check=True
    )
    assert {one["capture"] for one in json.loads(done.stdout)["captures"]} == {node1, node2, "web.2", f"web@{node1}"}


def test_one_file_each_in_a_folder_or_by_name(lab: Lab, tmp_path: Path) -> None:
    node = lab.cluster.nodes[0].name
    for target, files in ((tmp_path / "out", ("web.1.pcapng", f"{node}.pcapng")), (tmp_path / "x-{place}.pcap", ("x-web.1.pcap", f"x-{node}.pcap"))):
        with capturing(node, "web.1", "--split", "-w", f"{target}/" if target.suffix == "" else target, "--", "icmp", "or", "udp") as process:
            ping(lab)
            process.terminate()
            process.wait(timeout=20)
        folder = target if target.is_dir() else tmp_path
        for name in files:
            with open_capture(folder / name) as capture:
                assert sum(map(len, capture)) == 2 * PINGS


def test_without_a_file_frames_are_shown_a_line_each_and_count_ends_it(lab: Lab) -> None:
    with capturing("web.1", lab.cluster.nodes[0].name, "--count", "4", "-f", "icmp or udp") as process:
        ping(lab)
        shown, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    lines = shown.splitlines()
    assert len(lines) == 4
    assert sum("4097 10.0.1.3 > 10.0.1.4 ICMP echo request" in line for line in lines) >= 1
    assert all(re.match(r" +\d \d\.\d{6} (web\.1|\S+) ", line) for line in lines)


def test_a_pipe_gets_frames_as_they_come_and_its_end_ends_the_capture(lab: Lab) -> None:
    with capturing("web.1", "-w", "-", "-f", "icmp", stdout=subprocess.PIPE) as process:
        reader = subprocess.Popen(
            ["tcpdump", "-nlr", "-", "-c", "2"], stdin=process.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        process.stdout.close()  # type: ignore[union-attr]  # only the reader has it now
        ping(lab)
        shown, _ = reader.communicate(timeout=20)
        assert shown.count("ICMP echo") == 2
        assert process.wait(timeout=20) == 0  # although nothing more is captured


@pytest.mark.parametrize(("option", "value"), [("--for", "300ms"), ("--until-idle", "0.2")])
def test_a_capture_ends_by_the_clock(lab: Lab, tmp_path: Path, option: str, value: str) -> None:
    with capturing("web.1", "-w", tmp_path / "x.pcapng", option, value, "-f", "icmp") as process:
        ping(lab)
        assert process.wait(timeout=20) == 0
    assert interfaces(tmp_path / "x.pcapng") == {"web.1/eth0": 2 * PINGS}


def test_a_second_interrupt_ends_it_at_once_although_the_reader_sleeps(lab: Lab) -> None:
    node = lab.cluster.nodes[0].name
    with capturing(node, "-w", "-") as process:  # whose output nobody reads
        lab.exec("web.1", ["ping", "-q", "-c", "100", "-s", "1400", "-i", "0.002", "10.0.1.4"], check=True)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT


def test_the_end_of_the_lab_is_the_end_of_the_capture(lab: Lab, tmp_path: Path) -> None:
    with Lab(name="short") as other, capturing("web.1", "s1", "--lab", "short", "-w", tmp_path / "x.pcapng", "-f", "icmp") as process:
        ping(other)
        other.close()
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "vxtool: lab short has ended\n" in told
    assert interfaces(tmp_path / "x.pcapng")["web.1/eth0"] == 2 * PINGS


@pytest.mark.parametrize(
    ("place", "device", "wanted"),
    [
        ("web.1", None, ["web.1/eth0"]),
        ("web.1", "any", ["web.1/lo", "web.1/eth0", "web.1/eth1"]),
        ("web.1:eth1", None, ["web.1/eth1"]),
        ("NODE", None, ["NODE/eth0"]),
        ("NODE", "lo", ["NODE/lo"]),
        ("NODE:eth0", "lo", ["NODE/eth0"]),
        ("NODE-s1", None, ["NODE/eth0"]),
        ("NODE-s1:s1", None, ["s1/s1-eth2"]),
        ("NODE-s1:s1", "any", ["s1/s1-eth2"]),
        ("web@NODE", None, ["web@NODE/vxlan0"]),
        ("web@NODE:br0", None, ["web@NODE/br0"]),
        ("web@NODE", "br0", ["web@NODE/br0"]),
        ("s1", None, ["s1/s1"]),
        ("r1", None, ["r1/eth0", "r1/eth1"]),
    ],
)
def test_a_place_is_captured_at_the_devices_that_tell_what_happens_there(lab: Lab, place: str, device: str | None, wanted: list[str]) -> None:
    node = lab.cluster.nodes[0].name
    link = next(link.name for link in lab.spec.topology.links if node in (link.a.machine, link.b.machine))
    place = place.replace("NODE-s1", link) if "-s1" in place else place.replace("NODE", node)
    assert [str(one) for one in vantages(lab.running, [place], device)] == [one.replace("NODE", node) for one in wanted]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("web.9",), "'web.9' is no node, endpoint, link or NETWORK@NODE of this lab; did you mean web."),
        (("web.1", "--device", "eth9"), "web.1 has no device 'eth9'; it has lo"),
        (("web.1", "-f", "udp prt 1"), "the filter 'udp prt 1' cannot be understood"),
        (("web.1", "-f", "udp", "--", "icmp"), "are two filters"),
        (("web.1", "--print"), "--print goes with -w FILE"),
        (("web.1", "--split"), "--split goes with -w FILE"),
        (("web.1", "--split", "-w", "x.pcapng"), "give -w a folder, or a name like 'lab-{place}.pcapng'"),
        (("web.1", "-w", "-", "--print"), "-w - writes one capture to standard output, and --print lines"),
        (("web.1", "web.2", "-w", "x.pcap"), "a pcap file cannot tell 2 places apart"),
        (("web.1", "-w", "no/where/x.pcapng"), "cannot be written: No such file or directory"),
        (("web.1", "-w", "x.pcapng.gz"), "captures are written uncompressed"),
        (("web.1", "--for", "soon"), "'soon' is no duration: write it like 10s"),
        (("web.1", "--buffer", "0MB"), "'0MB' is no size"),
        (("web.1", "--lab", "other"), "no lab called 'other' is running"),
    ],
)
def test_what_makes_no_sense_is_refused_with_one_sentence(lab: Lab, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vxtool", "capture", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []
