"""The inspect JSON of real swarms: who is where, as the swarm itself printed it."""

import re
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest

from vxtool.expect import load_cluster
from vxtool.model import Cluster, EndpointKind, EndpointMode, NameKind, Names, TaskState, mac_from_ipv4

CAPTURES = Path(__file__).parents[2] / "captures"
STEADY = CAPTURES / "swarm-steady"
PHASES = [CAPTURES / "swarm-phases" / phase for phase in ("steady", "scaled", "drained")]
WHOLE = [STEADY, *PHASES]
ALL = [*WHOLE, CAPTURES / "swarm-after-drain", CAPTURES / "swarm-no-ipvs"]


def folder_name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def printed_tasks(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Task id -> (node, desired, observed), read from the table by splitting at wide gaps: another way than the reader's."""
    tasks = {}
    for line in (folder / "tasks.txt").read_text().splitlines():
        cells = re.split(r"\s{2,}|(?<=\w)\s(?=\\_)", line.strip())
        if line.startswith("ID") or not line.strip():
            continue
        identity, _, _, node, desired, current, *_ = cells
        tasks[identity] = (node, desired.lower(), current.split()[0].lower())
    return tasks


@pytest.mark.parametrize("folder", ALL, ids=folder_name)
def test_a_real_swarm_contradicts_itself_nowhere(folder: Path) -> None:
    assert load_cluster(str(folder)).contradictions == ()


@pytest.mark.parametrize("folder", WHOLE, ids=folder_name)
def test_tasks_are_where_service_ps_says(folder: Path) -> None:
    cluster = load_cluster(str(folder))
    printed = printed_tasks(folder)
    assert len(printed) >= 12
    assert {t.id: (t.node, t.desired.name.lower(), t.observed.name.lower()) for t in cluster.tasks if t.desired and t.observed} == printed
    for endpoint in cluster.endpoints:
        if endpoint.kind is EndpointKind.TASK:
            assert endpoint.task is not None
            assert endpoint.node == printed[endpoint.task][0]


@pytest.mark.parametrize("folder", WHOLE, ids=folder_name)
def test_every_running_task_has_an_endpoint_in_each_network_of_its_service(folder: Path) -> None:
    cluster = load_cluster(str(folder))
    wanted = {"web": {"ingress", "web"}, "api": {"web"}, "sec": {"sec"}}
    for task in cluster.tasks:
        if task.running:
            assert task.service is not None
            assert {network for network, _ in task.addresses} == wanted[task.service]


@pytest.mark.parametrize("folder", WHOLE, ids=folder_name)
def test_each_node_of_a_network_has_one_load_balancer_in_it(folder: Path) -> None:
    cluster = load_cluster(str(folder))
    drained = folder.name == "drained"
    expected = {("ingress", node.name) for node in cluster.nodes}
    expected |= {(network, node.name) for network in ("web", "sec") for node in cluster.nodes if not (drained and node.name == "sathish-vm3")}
    assert set(cluster.load_balancers) == expected
    assert Counter(endpoint.kind for endpoint in cluster.endpoints)[EndpointKind.LOAD_BALANCER] == len(expected)


@pytest.mark.parametrize("folder", ALL, ids=folder_name)
def test_every_mac_is_the_one_that_follows_from_its_address(folder: Path) -> None:
    for endpoint in load_cluster(str(folder)).endpoints:
        assert endpoint.mac == mac_from_ipv4(endpoint.ip)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", WHOLE, ids=folder_name)
def test_networks_are_as_they_were_made(folder: Path) -> None:
    cluster = load_cluster(str(folder))
    facts = {n.name: (n.vnis, str(n.subnets[0].prefix), str(n.subnets[0].gateway), n.encrypted, n.ingress, n.mtu) for n in cluster.networks}
    assert facts == {
        "ingress": ((4096,), "10.0.0.0/24", "10.0.0.1", False, True, 1450),
        "web": ((4097,), "10.0.1.0/24", "10.0.1.1", False, False, 1450),
        "sec": ((4098,), "10.0.2.0/24", "10.0.2.1", True, False, 1424),
    }
    assert all(network.complete and network.tasks_complete and "mtu" in network.derived for network in cluster.networks)


@pytest.mark.parametrize(("folder", "replicas"), [*zip(PHASES, (6, 3, 8), strict=True)], ids=lambda value: getattr(value, "name", ""))
def test_services_have_their_addresses_modes_and_ports(folder: Path, replicas: int) -> None:
    cluster = load_cluster(str(folder))
    web, api, sec = (cluster.service_by_name[name] for name in ("web", "api", "sec"))
    assert (web.replicas, web.endpoint_mode, [str(port) for port in web.ports], web.networks) == (
        replicas,
        EndpointMode.VIP,
        ["80->80/tcp"],
        ("web",),
    )
    assert {vip.network: str(vip.address) for vip in web.vips} == {"ingress": "10.0.0.5", "web": "10.0.1.2"}
    assert (api.endpoint_mode, api.vips) == (EndpointMode.DNSRR, ())
    assert str(cluster.vip_of("sec", "sec")) == "10.0.2.2"
    assert sec.mode == "global"
    assert cluster.service_by_port["tcp", 80] == (web,)
    assert cluster.service_by_vip["ingress", ip_address("10.0.0.5")] is web


@pytest.mark.parametrize(("folder", "count"), [*zip(WHOLE, (6, 6, 3, 8), strict=True)], ids=lambda value: getattr(value, "name", ""))
def test_backends_leave_out_tasks_that_are_being_stopped(folder: Path, count: int) -> None:
    cluster = load_cluster(str(folder))
    for network in ("ingress", "web"):
        backends = cluster.backends("web", network)
        assert len(backends.endpoints) == count
        assert backends.complete


def test_in_scaled_three_tasks_still_have_endpoints_while_they_are_being_removed() -> None:
    cluster = load_cluster(str(PHASES[1]))
    leaving = [task for task in cluster.tasks if task.desired is TaskState.REMOVE]
    assert len(leaving) == 3
    assert all(task.addresses for task in leaving)


@pytest.mark.parametrize("folder", PHASES, ids=folder_name)
def test_node_inspect_gives_each_node_its_address(folder: Path) -> None:
    cluster = load_cluster(str(folder))
    assert {node.name: str(node.vtep) for node in cluster.nodes} == {f"sathish-vm{i}": f"192.168.68.{108 + i}" for i in (1, 2, 3)}
    assert cluster.vteps_complete
    assert not cluster.unassigned


def test_without_node_inspect_the_addresses_are_known_but_not_whose() -> None:
    cluster = load_cluster(str(STEADY))
    assert [node.vtep for node in cluster.nodes] == [None, None, None]
    assert {str(address) for address in cluster.unassigned} == {f"192.168.68.{i}" for i in (109, 110, 111)}
    assert cluster.vteps_complete
    assert any(line.startswith("address of node sathish-vm1") for line in cluster.missing)


def test_a_drained_node_is_no_member_of_the_network_it_left() -> None:
    cluster = load_cluster(str(PHASES[2]))
    assert cluster.network_by_name["web"].members == {"sathish-vm1", "sathish-vm2"}
    assert cluster.knows_endpoints("web", "sathish-vm3")
    assert not [endpoint for endpoint in cluster.endpoints_of_network["web"] if endpoint.node == "sathish-vm3"]


def test_an_empty_inspect_says_that_a_node_does_not_have_the_network() -> None:
    cluster = load_cluster(str(CAPTURES / "swarm-after-drain"))
    assert cluster.network_by_name["web"].complete_nodes == {"vm1", "vm2", "vm3"}
    assert "vm3" not in cluster.endpoints_of_node
    assert any("empty: node vm3 does not have network web" in note for note in cluster.notes)


def test_a_network_inspected_on_one_of_two_nodes_is_not_complete() -> None:
    cluster = load_cluster(str(CAPTURES / "swarm-no-ipvs"))
    ingress, web = cluster.network_by_name["ingress"], cluster.network_by_name["web"]
    assert (ingress.complete, ingress.complete_nodes) == (False, {"vm1"})
    assert web.complete
    assert "endpoints of network ingress on node vm2: no inspect of that node was given" in cluster.missing
    assert not cluster.backends("web", "ingress").complete
    assert cluster.backends("web", "web").complete


def test_files_that_are_no_expectation_are_named() -> None:
    (note,) = [note for note in load_cluster(str(PHASES[0])).notes if note.startswith("passed over")]
    for name in ("container.pcap", "vm1.pcap", "dig.txt"):
        assert name in note


def answers(folder: Path) -> list[tuple[str, str, set[str]]]:
    """(name, type, data) of each question that dig asked the engine's own resolver and that was answered."""
    found = []
    for block in (folder / "dig.txt").read_text().split("; <<>> DiG")[1:]:
        question = re.search(r"^;(\S+)\s+IN\s+(A|PTR)$", block, re.MULTILINE)
        if question and "status: NOERROR" in block:
            found.append((question[1], question[2], set(re.findall(rf"\sIN\s{question[2]}\t(\S+)$", block, re.MULTILINE))))
    return found


@pytest.mark.parametrize(("folder", "questions"), [*zip(WHOLE, (21, 10, 1, 2), strict=True)], ids=lambda value: getattr(value, "name", ""))
def test_the_engine_s_resolver_answers_what_the_names_say(folder: Path, questions: int) -> None:
    names = Names(load_cluster(str(folder)))
    asked = answers(folder)
    assert len(asked) == questions
    for name, kind, data in asked:
        if kind == "PTR":
            address = ip_address(".".join(reversed(name.removesuffix(".in-addr.arpa.").split("."))))
            assert {f"{names.pointer(address, ['web'])}."} == data
            continue
        known = names.resolve(name, ["web"])
        assert known is not None
        assert (known.complete, {str(address) for address in known.addresses}) == (True, data), name


def test_names_nobody_has_are_forwarded() -> None:
    names = Names(load_cluster(str(STEADY)))
    assert [names.resolve(name, ["web"]) for name in ("nosuch", "nosuch.web", "example.com", "localhost", "sec", "tasks.sec")] == [None] * 6
    assert names.resolve("sec", ["web", "sec"]) is not None


def test_names_of_tasks_containers_and_pointers() -> None:
    cluster = load_cluster(str(STEADY))
    names = Names(cluster)
    endpoint = next(e for e in cluster.endpoints_of_network["web"] if e.name.startswith("web.2."))
    assert endpoint.container is not None
    for name, kind in ((endpoint.name, NameKind.TASK), (endpoint.name.upper(), NameKind.TASK), (endpoint.container[:12], NameKind.CONTAINER_ID)):
        for suffix in ("", ".web", "."):
            found = names.resolve(name + suffix, ["web"])
            assert found is not None
            assert (found.kind, found.addresses) == (kind, {endpoint.ip})
    assert names.pointer(endpoint.ip, ["web"]) == f"{endpoint.name}.web"
    assert names.pointer(ip_address("10.0.1.2"), ["web"]) is None  # a virtual address has no name of its own
    assert names.resolve("web.2", ["web"]) is None
    assert names.resolve("web.WEB", ["web"]) is None  # names of networks are case-sensitive
    assert not names.of("ingress")


def test_a_look_up_needs_vni_and_address() -> None:
    cluster: Cluster = load_cluster(str(PHASES[0]))
    (endpoint,) = cluster.endpoints_by_ip[4097, ip_address("10.0.1.3")]
    assert endpoint.mac is not None
    assert cluster.endpoints_by_mac[4097, endpoint.mac] == (endpoint,)
    assert (4096, ip_address("10.0.1.3")) not in cluster.endpoints_by_ip
    assert cluster.network_by_vni[4097].name == "web"
    assert str(cluster.vtep_of(endpoint)) == "192.168.68.109"
    assert cluster.node_by_vtep[ip_address("192.168.68.109")].name == "sathish-vm1"
