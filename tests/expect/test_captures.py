"""Expectations and captures together: drafts from a capture, and nodes located by one; the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from vxtool.capture import open_capture
from vxtool.cli.expect import command
from vxtool.decode.batch import Batch
from vxtool.decode.columns import TUNNELS
from vxtool.decode.walk import walk
from vxtool.expect import draft, load_cluster, parse_text
from vxtool.model import Address, Cluster, EndpointKind, EndpointMode, Forwarding, Mac, from_halves, locate

CAPTURES = Path(__file__).parents[2] / "captures"
STEADY = CAPTURES / "swarm-steady"
ADDRESSES = {f"sathish-vm{i}": f"192.168.68.{108 + i}" for i in (1, 2, 3)}


def batches(*paths: Path) -> Iterator[Batch]:
    for path in paths:
        with open_capture(str(path)) as capture:
            for frames in capture:
                yield Batch(frames, walk(frames))


def senders(*paths: Path) -> dict[tuple[int, Mac], dict[Address, int]]:
    seen: dict[tuple[int, Mac], dict[Address, int]] = {}
    for batch in batches(*paths):
        for row in batch.rows[batch.rows["tunnel"] != TUNNELS.index("none")]:
            vtep = from_halves(int(row["outer_ip_src_hi"]), int(row["outer_ip_src_lo"]))
            counts = seen.setdefault((int(row["vni"]), Mac(int(row["inner_eth_src"]))), {})
            counts[vtep] = counts.get(vtep, 0) + 1
    return seen


def test_a_capture_tells_which_address_is_which_node() -> None:
    cluster = load_cluster(str(STEADY))
    located = locate(cluster, senders(STEADY / "vm1.pcap", STEADY / "vm2.pcap"))
    assert {node.name: str(node.vtep) for node in located.nodes} == ADDRESSES
    assert all("data_path" in node.derived for node in located.nodes)
    assert not located.unassigned
    assert not any(line.startswith("address of node") for line in located.missing)
    assert locate(located, {}) is located


def test_a_few_frames_from_a_wrong_place_neither_decide_nor_prevent() -> None:
    cluster = load_cluster(str(STEADY))
    seen = senders(STEADY / "vm1.pcap")
    wrong = from_halves(0, 0xFFFF_C0A8_446F)  # 192.168.68.111
    for counts in seen.values():
        counts[wrong] = counts.get(wrong, 0) + 1
    assert {node.name: str(node.vtep) for node in locate(cluster, seen).nodes} == ADDRESSES


def test_addresses_that_no_member_has_are_not_taken() -> None:
    cluster = load_cluster(str(STEADY))
    stranger = from_halves(0, 0xFFFF_0A0A_0A0A)
    seen = {key: {stranger: 5} for key in senders(STEADY / "vm1.pcap")}
    assert locate(cluster, seen) is cluster


def test_a_node_known_by_its_address_alone_becomes_the_node_located_there(tmp_path: Path) -> None:
    folder = CAPTURES / "swarm-phases/steady"
    mesh = json.loads((folder / "inspect-ingress-vm2.json").read_text())
    mesh[0]["Containers"] = {"ingress-sbox": mesh[0]["Containers"]["ingress-sbox"]}
    (tmp_path / "inspect-ingress-vm2.json").write_text(json.dumps(mesh))
    cluster = load_cluster(str(folder / "inspectv-web-vm1.json"), str(tmp_path / "inspect-ingress-vm2.json"), str(folder / "nodes.txt"))
    assert {node.name for node in cluster.nodes} == {*ADDRESSES, "192.168.68.110", "192.168.68.111"}
    located = locate(cluster, senders(folder / "vm1.pcap"))
    assert {node.name for node in located.nodes} == {*ADDRESSES, "192.168.68.111"}
    assert {str(located.vtep_of(e)) for e in located.endpoints if e.node == "sathish-vm2"} == {"192.168.68.110"}
    assert len(located.endpoints_of_node["sathish-vm2"]) == 4  # the load balancer, and the three tasks -v placed at its address


@pytest.fixture(scope="module")
def drafted() -> Cluster:
    return draft(batches(STEADY / "vm1.pcap", STEADY / "vm2.pcap", STEADY / "container.pcap"))


def test_a_draft_lists_nobody_who_is_not_there(drafted: Cluster) -> None:
    cluster = locate(load_cluster(str(STEADY)), senders(STEADY / "vm1.pcap"))
    for endpoint in drafted.endpoints:
        (vni,) = drafted.network_by_name[endpoint.network].vnis
        (known,) = cluster.endpoints_by_ip[vni, endpoint.ip]
        assert endpoint.mac == known.mac
        if endpoint.node is not None:
            assert endpoint.node == str(cluster.vtep_of(known))
        if endpoint.kind is EndpointKind.LOAD_BALANCER:
            assert known.kind is EndpointKind.LOAD_BALANCER
        if endpoint.task:
            assert (endpoint.task, endpoint.service) == (known.task, known.service)
    for network in drafted.networks:
        known_network = cluster.network_by_vni[network.vnis[0]]
        assert (network.subnets, network.mtu, network.ingress) == (known_network.subnets, known_network.mtu, known_network.ingress)
        assert not network.complete


def test_a_draft_finds_the_mesh_and_the_names(drafted: Cluster) -> None:
    balancers = [endpoint for endpoint in drafted.endpoints if endpoint.network == "ingress" and endpoint.kind is EndpointKind.LOAD_BALANCER]
    assert [str(endpoint.ip) for endpoint in balancers] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert len(drafted.backends("published-80", "ingress").endpoints) == 6
    assert str(drafted.service_by_name["web"].vips[0].address) == "10.0.1.2"
    assert drafted.service_by_name["api"].endpoint_mode is EndpointMode.DNSRR
    assert {str(endpoint.ip) for endpoint in drafted.backends("api", "net-4097").endpoints} == {"10.0.1.12", "10.0.1.13", "10.0.1.14"}
    assert {node.name for node in drafted.nodes} == set(ADDRESSES.values())
    assert drafted.data_path_port == 4789
    assert any("encrypted network" in note for note in drafted.notes)


def test_a_draft_knows_a_routed_network_by_its_macs() -> None:
    cluster = draft(batches(CAPTURES / "made/flannel.pcap"))
    (network,) = cluster.networks
    assert (network.vnis, network.forwarding, network.mtu, cluster.data_path_port) == ((1,), Forwarding.ROUTED, None, 8472)
    assert all(endpoint.mac is None for endpoint in cluster.endpoints)


def test_who_opens_connections_itself_is_no_load_balancer(tmp_path: Path) -> None:
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether
    from scapy.layers.vxlan import VXLAN
    from scapy.utils import wrpcap

    def syn(source: str, last: int, ttl: int) -> object:
        inner = Ether(src=f"02:42:0a:00:01:{last:02x}", dst="02:42:0a:00:01:07") / IP(src=f"10.0.1.{last}", dst="10.0.1.7", ttl=ttl)
        return Ether() / IP(src=source, dst="192.0.2.9") / UDP(sport=40000, dport=4789) / VXLAN(vni=4097, flags=8) / inner / TCP(dport=80, flags="S")

    wrpcap(str(tmp_path / "x.pcap"), [syn("192.0.2.1", 3, 64), syn("192.0.2.2", 4, 63)])
    cluster = draft(batches(tmp_path / "x.pcap"))
    assert {(str(e.ip), e.kind) for e in cluster.endpoints} == {("10.0.1.3", EndpointKind.CONTAINER), ("10.0.1.4", EndpointKind.LOAD_BALANCER)}


@pytest.mark.parametrize("path", sorted((CAPTURES / "made").glob("*.pcap*")), ids=lambda path: path.name)
def test_any_capture_can_be_drafted_and_read_back(path: Path) -> None:
    result = CliRunner().invoke(command, ["init", str(path)])
    assert result.exit_code == 0, result.output
    parse_text(result.stdout)


def test_a_capture_without_overlay_gives_an_empty_draft_and_says_so() -> None:
    result = CliRunner().invoke(command, ["init", str(CAPTURES / "swarm-phases/steady/container.pcap")])
    assert result.exit_code == 0
    assert "no VXLAN" in result.stderr
    assert parse_text(result.stdout).networks == ()


def test_show_prints_everything_once() -> None:
    result = CliRunner().invoke(command, ["show", str(CAPTURES / "swarm-no-ipvs")])
    assert result.exit_code == 0
    for part in ("docker-swarm", "vm1", "4097", "10.0.1.0/24", "02:42:0a:00:01:0a", "load_balancer", "web.6.r33w6p17dcb68jbnynd2y5096", "80->80/tcp"):
        assert part in result.stdout
    assert "endpoints of network ingress on node vm2: no inspect of that node was given" in result.stdout


def test_show_as_json_and_yaml_are_expectations_themselves() -> None:
    folder = str(CAPTURES / "swarm-phases/drained")
    cluster = load_cluster(folder)
    for option in ("--json", "--yaml"):
        assert parse_text(CliRunner().invoke(command, ["show", option, folder]).stdout) == cluster
    two = CliRunner().invoke(command, ["show", "--json", f"{folder}@5", f"{folder}@2"]).stdout
    assert [moment["time_ns"] for moment in json.loads(two)] == [2_000_000_000, 5_000_000_000]


def test_show_reads_a_pipe() -> None:
    text = (CAPTURES / "swarm-phases/drained/inspectv-web-vm1.json").read_text()
    result = CliRunner().invoke(command, ["show", "-"], input=text)
    assert result.exit_code == 0
    assert "192.168.68.110" in result.stdout


def test_an_escape_sequence_in_a_name_does_not_reach_the_terminal() -> None:
    text = json.dumps([{"Name": "x\x1b]0;owned\x07", "Id": "y", "IPAM": {}, "Labels": {}}])
    result = CliRunner().invoke(command, ["show", "-"], input=text)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
