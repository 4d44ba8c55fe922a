"""Any part of what was collected gives the same knowledge or less of it: never another fact, never a contradiction."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxtool.expect import load_cluster, parse_text
from vxtool.model import Cluster

CAPTURES = Path(__file__).parents[2] / "captures"
FOLDERS = [CAPTURES / "swarm-steady", CAPTURES / "swarm-phases/scaled", CAPTURES / "swarm-phases/drained", CAPTURES / "swarm-no-ipvs"]
DOCUMENTS = {folder: sorted(path for path in folder.iterdir() if path.suffix in {".json", ".txt"} and path.name != "dig.txt") for folder in FOLDERS}


def same_node(part: Cluster, name: str, whole: Cluster, wanted: str) -> bool:
    """Whether two names are one node: by name, by the end of it (a file's name says vm1 for sathish-vm1), by id or by address."""
    one, other = part.node_by_name[name], whole.node_by_name[wanted]
    if one.id is not None and other.id is not None:
        return one.id == other.id
    if one.hostname is not None and other.hostname is not None:
        return one.hostname == other.hostname
    if one.vtep is not None and other.vtep is not None:
        return one.vtep == other.vtep
    return name == wanted or wanted.endswith(f"-{name}") or name.startswith("unnamed-") or name == str(one.vtep)


def assert_part_of(part: Cluster, whole: Cluster) -> None:
    assert part.contradictions == ()
    for network in part.networks:
        if network.vnis:
            known = whole.network_by_name[network.name]
            assert (network.vnis, network.subnets, network.encrypted) == (known.vnis, known.subnets, known.encrypted)
            assert known.complete or not network.complete
            assert known.tasks_complete or not network.tasks_complete
    for endpoint in part.endpoints:
        (known_endpoint,) = [e for e in whole.endpoints_of_network[endpoint.network] if e.ip == endpoint.ip]
        assert (endpoint.name, endpoint.mac, endpoint.kind, endpoint.service) == (
            known_endpoint.name,
            known_endpoint.mac,
            known_endpoint.kind,
            known_endpoint.service,
        )
        if endpoint.node is not None and known_endpoint.node is not None:
            assert same_node(part, endpoint.node, whole, known_endpoint.node)
    for network in part.networks:
        if network.complete:
            assert {e.ip for e in part.endpoints_of_network.get(network.name, ())} == {e.ip for e in whole.endpoints_of_network.get(network.name, ())}
    for service in part.services:
        known_service = whole.service_by_name[service.name]
        for vip in service.vips:
            if vip.network in whole.network_by_name:
                assert vip in known_service.vips
        for where in ("web", "ingress"):
            backends = part.backends(service.name, where)
            if backends.complete and any(n.name == where and n.vnis for n in part.networks):
                # Who leaves is told by `service ps` alone: without it the leaving still count.
                assert {e.ip for e in whole.backends(service.name, where).endpoints} <= {e.ip for e in backends.endpoints}
    for task in part.tasks:
        known_task = whole.task_by_id[task.id]
        assert set(task.addresses) <= set(known_task.addresses)
        assert task.desired in (None, known_task.desired)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_leaving_out_any_one_document_only_takes_knowledge_away(folder: Path) -> None:
    whole = load_cluster(str(folder))
    for left_out in DOCUMENTS[folder]:
        assert_part_of(load_cluster(*(str(path) for path in DOCUMENTS[folder] if path != left_out)), whole)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_document_alone_is_part_of_the_whole(folder: Path) -> None:
    whole = load_cluster(str(folder))
    for path in DOCUMENTS[folder]:
        assert_part_of(load_cluster(str(path)), whole)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_any_set_of_documents_in_any_order_is_part_of_the_whole(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    paths = [path for path in DOCUMENTS[folder] if chance.random() < chance.choice((0.15, 0.5, 0.85))]
    chance.shuffle(paths)
    if paths:
        assert_part_of(load_cluster(*map(str, paths)), load_cluster(str(folder)))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_without_file_names_and_all_in_one_stream_is_part_of_the_whole(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    paths = [path for path in DOCUMENTS[folder] if chance.random() < 0.7]
    chance.shuffle(paths)
    text = "\n".join(path.read_text() for path in paths)
    if text.strip():
        assert_part_of(parse_text(text, "stdin"), load_cluster(str(folder)))


def test_nodes_are_told_apart_by_inspect_v_alone() -> None:
    """No file name, no table, no node inspect: -v lists the tasks with the tunnel address of their node."""
    folder = CAPTURES / "swarm-phases/drained"
    text = "\n".join((folder / f"inspectv-{network}-vm1.json").read_text() for network in ("web", "ingress"))
    cluster = parse_text(text, "stdin")
    assert {node.name for node in cluster.nodes} == {"192.168.68.109", "192.168.68.110", "192.168.68.111"}
    whole = load_cluster(str(folder))
    for endpoint in cluster.endpoints:
        assert endpoint.node is not None
        (known,) = [e for e in whole.endpoints if (e.network, e.ip) == (endpoint.network, endpoint.ip)]
        assert whole.vtep_of(known) == cluster.vtep_of(endpoint)


def inspect(path: Path) -> list[dict[str, object]]:
    loaded: list[dict[str, object]] = json.loads(path.read_text())
    return loaded


def test_a_record_of_the_gossip_that_the_node_itself_does_not_have_is_told_and_not_believed() -> None:
    folder = CAPTURES / "swarm-phases/drained"
    verbose = inspect(folder / "inspectv-web-vm1.json")
    tasks = verbose[0]["Services"]["web"]["Tasks"]  # type: ignore[index]
    ghost = dict(tasks[0], Name="web.9.aaaaaaaaaaaaaaaaaaaaaaaaa", EndpointID="f" * 64, EndpointIP="10.0.1.99")
    tasks.append(ghost)
    nodes = (folder / "nodes.json").read_text()
    plain = "\n".join((folder / f"inspect-web-vm{i}.json").read_text() for i in (1, 2))
    cluster = parse_text(f"{nodes}\n{plain}\n{json.dumps(verbose)}")
    assert not [endpoint for endpoint in cluster.endpoints if str(endpoint.ip) == "10.0.1.99"]
    assert any("web.9." in line and "believed the node" in line for line in cluster.contradictions)


@pytest.mark.parametrize("stale", range(8))
def test_one_record_of_the_gossip_with_a_wrong_tunnel_address_moves_neither_the_task_nor_its_node(stale: int) -> None:
    folder = CAPTURES / "swarm-phases/drained"
    verbose = inspect(folder / "inspectv-web-vm1.json")
    task = verbose[0]["Services"]["web"]["Tasks"][stale]  # type: ignore[index]
    right, wrong = task["Info"]["Host IP"], "192.168.68.111"
    task["Info"]["Host IP"] = wrong
    whole = load_cluster(str(folder))
    for known in (folder / "nodes.json", folder / "tasks.txt"), (folder / "tasks.txt",):
        cluster = parse_text(json.dumps(verbose) + "".join(path.read_text() for path in known))
        (line,) = cluster.contradictions
        assert wrong in line
        endpoint = next(endpoint for endpoint in cluster.endpoints if endpoint.name == task["Name"])
        assert str(cluster.vtep_of(endpoint)) == right
        assert endpoint.node == whole.task_by_id[endpoint.task or ""].node


def test_two_networks_that_had_one_name_are_not_mixed() -> None:
    old = inspect(CAPTURES / "swarm-steady/inspect-web-vm1.json")
    new = inspect(CAPTURES / "swarm-phases/steady/inspect-web-vm1.json")
    cluster = parse_text(json.dumps(new) + json.dumps(old))
    assert [network.id for network in cluster.networks] == [new[0]["Id"]]
    assert len(cluster.contradictions) == 1
    assert {endpoint.task for endpoint in cluster.endpoints} <= {t.id for t in load_cluster(str(CAPTURES / "swarm-phases/steady")).tasks} | {None}


def test_a_data_path_address_of_its_own_is_found_by_the_tasks_on_it() -> None:
    """node inspect tells the advertised address, -v the tunnel's; what links the two is a task that `service ps` places on the node."""
    folder = CAPTURES / "swarm-phases/steady"
    verbose = (folder / "inspectv-web-vm1.json").read_text().replace('"Host IP": "192.168.68.11', '"Host IP": "172.31.0.11')
    cluster = parse_text((folder / "nodes.json").read_text() + verbose + (folder / "tasks.txt").read_text())
    node = cluster.node_by_name["sathish-vm2"]
    assert (str(node.advertise), str(node.data_path), node.derived) == ("192.168.68.110", "172.31.0.110", frozenset())


def test_a_node_that_left_and_came_back_is_one_node_and_its_old_self() -> None:
    folder = CAPTURES / "swarm-phases/steady"
    lines = (folder / "nodes.txt").read_text().splitlines()
    again = lines[2].replace("a4nnpkfxhkpl243h3neklg1or", "zzzzpkfxhkpl243h3neklg1or").replace("Ready ", "Down  ")
    cluster = parse_text("\n".join([*lines, again]) + "\n\n" + (folder / "tasks.txt").read_text())
    assert cluster.contradictions == ()
    assert len(cluster.nodes) == 4
    (task,) = [task for task in cluster.tasks if task.id == "ydr9z1fv6bgp5o50io3sa58kv"]
    assert task.node is not None
    assert cluster.node_by_name[task.node].id == "a4nnpkfxhkpl243h3neklg1or"


def test_ids_cut_short_by_the_docker_command_are_the_whole_ids() -> None:
    folder = CAPTURES / "swarm-phases/steady"
    short = "\n".join(line[:12] + " " * 13 + line[25:] if line[:1] != "I" else line for line in (folder / "tasks.txt").read_text().splitlines())
    cluster = parse_text((folder / "inspectv-web-vm1.json").read_text() + short)
    assert all(len(task.id) == 25 for task in cluster.tasks if task.service in ("web", "api"))


def test_service_ps_as_json_lines_says_what_the_table_says() -> None:
    lines = [
        {"ID": "5h4q2leb2p1hj3izmkg8zyvtx", "Name": "web.1", "Node": "vm3", "DesiredState": "Running", "CurrentState": "Running 2 minutes ago"},
        {"ID": "g6kpq8s113w1zn5pzep66bmbr", "Name": "web.4", "Node": "vm1", "DesiredState": "Remove", "CurrentState": "Running 11 seconds ago"},
    ]
    cluster = parse_text("\n".join(json.dumps(line) for line in lines))
    assert [(task.slot, task.node, task.running) for task in cluster.tasks] == [(1, "vm3", True), (4, "vm1", False)]


def test_docker_info_of_a_manager_tells_the_data_path_port() -> None:
    info = {"ServerVersion": "20.10.24", "Name": "vm1", "Swarm": {"NodeID": "n1", "NodeAddr": "10.9.8.7", "Cluster": {"DataPathPort": 4790}}}
    cluster = parse_text(json.dumps(info))
    assert cluster.data_path_port == 4790
    assert [(node.name, str(node.vtep)) for node in cluster.nodes] == [("vm1", "10.9.8.7")]


def test_docker_inspect_of_tasks_and_containers_places_them() -> None:
    network = inspect(CAPTURES / "swarm-phases/steady/inspect-web-vm1.json")
    network[0]["Containers"] = {}
    task = {
        "ID": "5h4q2leb2p1hj3izmkg8zyvtx",
        "ServiceID": "cibgkmmbgkoep1xpvkmfxpfnp",
        "Slot": 1,
        "NodeID": "92i84im4kjrize9u2b546r8wo",
        "Status": {"State": "running", "ContainerStatus": {"ContainerID": "c" * 64}},
        "DesiredState": "running",
        "NetworksAttachments": [{"Network": {"ID": network[0]["Id"]}, "Addresses": ["10.0.1.8/24"]}],
    }
    container = {
        "Id": "d" * 64,
        "Name": "/curl",
        "Config": {"Labels": {}},
        "NetworkSettings": {
            "Networks": {"web": {"NetworkID": network[0]["Id"], "EndpointID": "e" * 64, "IPAddress": "10.0.1.77", "MacAddress": "02:42:0a:00:01:4d"}}
        },
    }
    services = (CAPTURES / "swarm-phases/steady/services.json").read_text()
    cluster = parse_text(services + json.dumps([task]) + json.dumps([container]) + json.dumps(network))
    by_ip = {str(endpoint.ip): endpoint for endpoint in cluster.endpoints}
    assert (by_ip["10.0.1.8"].name, by_ip["10.0.1.8"].node) == ("web.1.5h4q2leb2p1hj3izmkg8zyvtx", "92i84im4kjrize9u2b546r8wo")
    assert by_ip["10.0.1.8"].derived == {"mac"}
    assert (by_ip["10.0.1.77"].kind, by_ip["10.0.1.77"].name) == ("container", "curl")
