"""What needs a kernel with ESP and netem: run in an emulated machine by `make test-vm`, not by `make test`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vxtool
from tests.netns.swarms import town
from vxtool.lab import client
from vxtool.lab.lab import Lab
from vxtool.swarm.objects import NetworkSpec

pytestmark = pytest.mark.vm


@contextmanager
def _captured(lab: Lab, node: str, path: Path) -> Iterator[None]:
    """What crosses a node's underlay device, by tcpdump: a witness that is none of ours."""
    inside = ["nsenter", f"--net={lab.running.path(node)}", "tcpdump", "--immediate-mode", "-U", "-n", "-i", "eth0", "-w", str(path)]
    tcpdump = subprocess.Popen(inside, stderr=subprocess.PIPE)
    assert tcpdump.stderr is not None
    tcpdump.stderr.readline()
    try:
        yield
    finally:
        tcpdump.terminate()
        tcpdump.wait()


def test_an_encrypted_network_carries_pings_and_shows_none_of_them(tmp_path: Path) -> None:
    capture = tmp_path / "node.pcap"
    with Lab(nodes=2, encrypted=True) as lab:
        node = lab.cluster.nodes[0].name
        with _captured(lab, node, capture):
            lab.exec("web.1", ["ping", "-c", "5", "-i", "0.2", "-n", "10.0.1.4"], check=True)
        mtu = lab.exec("web.1", ["cat", "/sys/class/net/eth0/mtu"], check=True).stdout.strip()
        cluster = lab.cluster
    rows = vxtool.decode(capture)
    assert mtu == "1424"
    assert rows["esp_spi"].notna().sum() == 10
    assert not rows["vni"].notna().any()
    assert vxtool.verify({node: capture}, cluster).failing == ()


def test_pings_survive_the_rotation_of_the_keys(tmp_path: Path) -> None:
    with Lab(nodes=3, encrypted=True) as lab:
        pings = lab.popen("web.1", ["ping", "-c", "40", "-i", "0.1", "-n", "-q", "10.0.1.4"], stdout=subprocess.PIPE)
        for _ in range(3):
            client.call(lab.running, "rotate_keys")
        said, _ = pings.communicate()
    assert b"40 received" in (said if isinstance(said, bytes) else said.encode())


def test_an_encrypted_network_of_a_swarm_carries_pings_and_shows_none_of_them(tmp_path: Path) -> None:
    """Each agent protects its own node, towards whom gossip has told it of."""
    capture = tmp_path / "node.pcap"
    with town(nodes=2) as place:
        place.client.create_network(NetworkSpec("sec", attachable=True, options={"encrypted": ""}))
        place.create("secret", replicas=2, networks=("sec",))
        view = place.settled("secret", 2, 120)
        with _captured(place.lab, place.nodes[0], capture):
            for target in place.addresses(view, "secret", "sec"):
                for task in place.running(view, "secret"):
                    place.lab.exec(view.task_name(task), ["ping", "-c", "3", "-n", target], check=True)
        cluster = place.lab.cluster
    rows = vxtool.decode(capture)
    assert rows["esp_spi"].notna().sum() == 12
    assert not rows["vni"].notna().any()
    assert vxtool.verify({place.nodes[0]: capture}, cluster).failing == ()


def test_the_kernel_delays_and_loses_by_itself_where_it_has_netem() -> None:
    with Lab("wide_area", endpoints=4) as lab:
        link = next(link for link in lab.topology.links if link.impairment.delay_ms)
        shown = "".join(
            subprocess.run(
                ["nsenter", f"--net={lab.running.path(lab.topology.namespace(end.machine))}", "tc", "qdisc", "show", "dev", end.device],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for end in link.ends
        )
        assert "netem" in shown
        assert f"delay {link.impairment.delay_ms:g}ms" in shown
