"""A swarm in a lab behaves as one of Docker's: services run, nodes die and tasks go elsewhere, and the captures find nothing wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vxtool
from tests.netns.swarms import HEARTBEAT, Town, town
from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab.lab import Lab
from vxtool.model import Availability, NodeState, TaskState
from vxtool.swarm.objects import (
    HealthCheck,
    NetworkSpec,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    Settings,
    TaskNetwork,
    TaskSpec,
    UpdateConfig,
)

NO_ESP = (
    "an encrypted network cannot be had here: this kernel lacks IPsec with AES-GCM"
    " (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM: modprobe esp4)"
)
AT_ONCE = RestartPolicy(delay=0.0)
ONCE = RestartPolicy(RestartCondition.NONE)


@pytest.fixture(scope="module")
def shared() -> Iterator[Town]:
    """One swarm for tests that leave it as it was: each has a service of its own name."""
    with town() as made:
        yield made


def ended(place: Town, name: str) -> list[tuple[str, str]]:
    """(state, error) of the tasks of a service that have come to their end."""
    view = place.until(lambda view: [task for task in view.tasks_of.get(view.service(name).id, ()) if task.state > TaskState.RUNNING])
    return [(task.state.name, task.error) for task in view.tasks_of[view.service(name).id] if task.state > TaskState.RUNNING]


def serious(capture: Path, place: Town) -> list[str]:
    """What verify finds wrong, but for what is only worth knowing (tasks that have gone meanwhile)."""
    return [f"{one.check} {one.message}" for one in vxtool.verify(capture, place.lab.cluster).failing if one.severity != "info"]


# -- what runs ---------------------------------------------------------------------------------------------------------


def test_the_articles_service_has_the_articles_addresses_and_everybody_reaches_everybody() -> None:
    """docker network create web; docker service create --replicas 6 --network web --publish 80:80 httpd, on two nodes."""
    with town(nodes=2) as place:
        place.create(publish=80)
        view = place.settled("web", 6)
        network = view.network("web")
        assert [(str(subnet.prefix), str(subnet.gateway), subnet.vni) for subnet in network.subnets] == [("10.0.1.0/24", "10.0.1.1", 4097)]
        assert [str(address) for id, address in view.service("web").vips if id == network.id] == ["10.0.1.2/24"]
        assert sorted(place.addresses(view, "web")) == [f"10.0.1.{number}" for number in range(3, 9)]
        assert place.spread(view, "web") == {"sathish-vm1": 3, "sathish-vm2": 3}
        balancers = [str(one.address.ip) for node in view.nodes.values() for one in node.attachments if one.network == network.id and one.address]
        assert sorted(balancers) == ["10.0.1.10", "10.0.1.9"]
        assert place.all_reach_all(view, "web") == []
        task = place.running(view, "web")[0]
        devices = place.lab.exec(view.task_name(task), ["ip", "-br", "-4", "address"]).stdout.split()
        assert [word.partition("@")[0] for word in devices if word.startswith("eth")] == ["eth0", "eth1", "eth2"]  # ingress, web, docker_gwbridge
        hosts = place.lab.exec(view.task_name(task), ["cat", "/etc/hosts"]).stdout.split()
        name = place.lab.exec(view.task_name(task), ["hostname"]).stdout.strip()
        own = [str(one.address.ip) for one in task.networks if one.network == network.id and one.address]
        assert hosts == ["127.0.0.1", "localhost", *own, name]  # ingress's address is nobody's name
        page = place.lab.exec(view.task_name(task), ["curl", "-s", f"http://{place.addresses(view, 'web')[-1]}/"]).stdout
        assert "It works!" in page


def test_captures_of_a_swarm_that_is_scaled_and_drained_show_nothing_wrong(shared: Town, tmp_path: Path) -> None:
    with shared.lab.capture(*shared.nodes, to=tmp_path / "x.pcapng"):
        service = shared.create("wire", publish=8080)
        view = shared.settled("wire", 6)
        assert shared.all_reach_all(view, "wire") == []
        service = shared.client.scale_service(view.services[service.id], 2)
        shared.settled("wire", 2)
        service = shared.client.scale_service(shared.client.view().services[service.id], 5)
        shared.settled("wire", 5)
        node = shared.client.view().node("sathish-vm3")
        shared.client.update_node(node, availability=Availability.DRAIN)
        view = shared.until(lambda view: "sathish-vm3" not in shared.spread(view, "wire") and len(shared.running(view, "wire")) == 5)
        shared.settled("wire", 5)
        assert shared.all_reach_all(shared.client.view(), "wire") == []
    shared.client.update_node(shared.client.view().node("sathish-vm3"), availability=Availability.ACTIVE)
    assert serious(tmp_path / "x.pcapng", shared) == []
    shared.client.remove_service(service.id)


def test_a_sandbox_of_a_task_is_named_by_its_slot(shared: Town) -> None:
    service = shared.create("named", replicas=1)
    view = shared.settled("named", 1)
    task = shared.running(view, "named")[0]
    host = shared.lab.exec("named.1", ["hostname"]).stdout
    assert host == shared.lab.exec(view.task_name(task), ["hostname"]).stdout == shared.lab.exec(task.id, ["hostname"]).stdout
    shared.client.remove_service(service.id)


def test_placeholders_and_environment_reach_the_program(shared: Town) -> None:
    env = ("SLOT={{.Task.Slot}}", "WHERE={{.Node.Hostname}}", "WHO={{.Service.Name}}")
    service = shared.create(
        "env", "host", 1, args=("sh", "-c", "echo $SLOT $WHERE $WHO $HOSTNAME; sleep 100"), env=env, hostname="{{.Node.Hostname}}-x"
    )
    view = shared.settled("env", 1)
    task = shared.running(view, "env")[0]
    node = view.nodes[task.node].hostname
    shared.until(lambda _: f"1 {node} env {node}-x" in shared.client.logs(task.id)[0], 5)
    shared.client.remove_service(service.id)


@pytest.mark.parametrize(
    ("image", "args", "state", "error"),
    [
        ("nginx", (), "REJECTED", "No such image: nginx:latest"),
        ("host", ("sh", "-c", "exit 3"), "FAILED", "task: non-zero exit (3)"),
        ("host", ("true",), "COMPLETE", ""),
        ("host", ("no-such-program",), "FAILED", "starting container failed"),
        ("host", (), "FAILED", "No command specified"),
    ],
)
def test_a_task_that_comes_to_its_end_says_how(shared: Town, image: str, args: tuple[str, ...], state: str, error: str) -> None:
    service = shared.create("ends", image, 1, args=args, restart=ONCE)
    told = ended(shared, "ends")
    assert [(one, text[: len(error)]) for one, text in told] == [(state, error)]
    shared.client.remove_service(service.id)
    shared.until(lambda view: not any(task.service == service.id for task in view.tasks.values()))


def test_a_task_that_is_not_well_is_not_running_and_one_that_falls_ill_is_replaced(shared: Town) -> None:
    check = HealthCheck(("CMD-SHELL", "test -e /proc/sys/net/ipv4/conf/eth0 && ! ip link show lo | grep -q 1234"), 0.1, 1.0, 0.0, 2)
    service = shared.create("ill", replicas=1, health=check, restart=AT_ONCE)
    view = shared.settled("ill", 1)
    before = shared.running(view, "ill")[0]
    shared.lab.exec(view.task_name(before), ["ip", "link", "set", "lo", "mtu", "1234"], privileged=True, check=True)
    view = shared.until(lambda view: [task for task in shared.running(view, "ill") if task.id != before.id])
    assert view.tasks[before.id].error.endswith("unhealthy container")
    assert view.tasks[before.id].state is TaskState.FAILED
    shared.client.remove_service(service.id)


def test_a_program_has_its_grace_period_and_no_more(shared: Town) -> None:
    deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    service = shared.create("deaf", "host", 1, args=deaf, stop_grace=1.5)
    shared.settled("deaf", 1)
    begun = time.monotonic()
    shared.client.scale_service(shared.client.view().services[service.id], 0)
    shared.settled("deaf", 0)
    assert 1.4 < time.monotonic() - begun < 6
    shared.client.remove_service(service.id)


def test_a_reservation_that_no_node_has_leaves_the_task_pending_and_says_why(shared: Town) -> None:
    service = shared.create("large", replicas=1, reservations=Resources(memory_bytes=1 << 50))
    view = shared.until(lambda view: [task for task in view.tasks_of.get(service.id, ()) if task.error])
    assert [task.error for task in view.tasks_of[service.id]] == ["no suitable node (insufficient resources on 3 nodes)"]
    shared.client.remove_service(service.id)


def test_a_container_of_no_service_gets_and_loses_networks_while_it_runs(shared: Town) -> None:
    client = shared.client
    network = client.create_network(NetworkSpec("second", attachable=True))
    client.view()
    service = shared.create("far", replicas=3, networks=("second",))
    shared.settled("far", 3)
    view = client.view()
    spec = TaskSpec("host", args=("sleep", "1000"), container="alone", networks=(TaskNetwork(view.network("web").id),), restart=ONCE)
    task = client.run_container(spec, view.node("sathish-vm2").id)
    view = shared.until(lambda view: view.tasks[task.id].state is TaskState.RUNNING)
    targets = shared.addresses(view, "far", "second")
    assert not any(shared.reaches("alone", target, 0.3) for target in targets)
    client.connect_network(network.id, task.id)
    shared.until(lambda _: all(shared.reaches("alone", target) for target in targets), 5)
    client.disconnect_network(network.id, task.id)
    shared.until(lambda _: not any(shared.reaches("alone", target, 0.3) for target in targets), 5)
    client.remove_container(task.id, force=True)
    client.remove_service(service.id)
    shared.until(lambda view: not any(task.service == service.id for task in view.tasks.values()))
    client.remove_network(network.id)


def test_what_a_swarm_does_itself_is_refused_to_the_labs_own_verbs(shared: Town) -> None:
    with pytest.raises(UsageError, match="vxtool service create"):
        shared.lab.attach("x", "sathish-vm1", ["web"])
    with pytest.raises(UsageError, match="already part of a swarm"):
        shared.client.init("sathish-vm1", Settings())
    shared.client.leave("sathish-vm3")
    with pytest.raises(UsageError, match="A valid join token"):
        shared.client.join("sathish-vm3", "SWMTKN-1-wrong", "")
    shared.client.join("sathish-vm3", shared.client.view().info.worker_token, "")


# -- what breaks -------------------------------------------------------------------------------------------------------


def test_a_killed_agent_has_its_tasks_elsewhere_and_ends_the_old_ones_when_it_is_back() -> None:
    with town() as place:
        service = place.create(restart=AT_ONCE)
        place.settled("web", 6)
        begun = time.monotonic()
        place.client.kill_agent("sathish-vm2")
        place.until(lambda view: view.node("sathish-vm2").state is NodeState.DOWN)
        assert 2 * HEARTBEAT < time.monotonic() - begun < 6 * HEARTBEAT + 2
        assert "httpd" in place.lab.exec("sathish-vm2", ["ps", "axo", "comm"]).stdout  # its containers run on, as those of a killed engine do
        view = place.until(lambda view: len([t for t in place.running(view, "web") if view.nodes[t.node].hostname != "sathish-vm2"]) == 6)
        assert set(place.spread(view, "web")) == {"sathish-vm1", "sathish-vm3"}
        place.client.start_agent("sathish-vm2")
        view = place.until(lambda view: view.node("sathish-vm2").state is NodeState.READY)
        view = place.until(lambda view: not [task for task in view.tasks_on[view.node("sathish-vm2").id] if task.state <= TaskState.RUNNING])
        assert place.spread(view, "web") == {"sathish-vm1": 3, "sathish-vm3": 3}  # nothing is rebalanced
        addresses = place.addresses(view, "web")
        assert len(set(addresses)) == 6
        assert place.all_reach_all(view, "web") == []
        place.client.scale_service(view.services[service.id], 9)  # the node that is back takes what is new
        view = place.settled("web", 9)
        assert place.spread(view, "web") == {"sathish-vm1": 3, "sathish-vm2": 3, "sathish-vm3": 3}
        assert place.all_reach_all(view, "web") == []


def test_a_cut_link_is_noticed_and_healed_and_the_old_tasks_are_ended(tmp_path: Path) -> None:
    with town() as place:
        place.create(restart=AT_ONCE)
        place.settled("web", 6)
        place.lab.impair("sathish-vm3-s1", down=True)
        place.until(lambda view: view.node("sathish-vm3").state is NodeState.DOWN)
        view = place.until(lambda view: place.spread(view, "web") == {"sathish-vm1": 3, "sathish-vm2": 3})
        place.lab.impair("sathish-vm3-s1")
        view = place.until(lambda view: view.node("sathish-vm3").state is NodeState.READY)
        view = place.settled("web", 6)
        assert place.spread(view, "web") == {"sathish-vm1": 3, "sathish-vm2": 3}
        with place.lab.capture(*place.nodes, to=tmp_path / "x.pcapng"):
            assert place.all_reach_all(view, "web") == []
        assert serious(tmp_path / "x.pcapng", place) == []


def test_a_manager_cut_off_from_its_nodes_heals_with_no_address_twice() -> None:
    with town() as place:
        place.create(restart=AT_ONCE)
        place.settled("web", 6)
        place.lab.impair("sathish-vm1-s1", down=True)
        place.until(lambda view: {node.hostname for node in view.nodes.values() if node.state is NodeState.DOWN} == {"sathish-vm2", "sathish-vm3"})
        place.until(lambda view: place.spread(view, "web").get("sathish-vm1") == 6)
        place.lab.impair("sathish-vm1-s1")
        place.until(lambda view: all(node.state is NodeState.READY for node in view.nodes.values()))
        view = place.settled("web", 6)
        held = [(one.network, one.address) for task in place.alive(view, "web") for one in task.networks]
        held += [(one.network, one.address) for node in view.nodes.values() for one in node.attachments]
        assert len(set(held)) == len(held)
        assert place.all_reach_all(view, "web") == []


def test_a_supervisor_killed_in_the_middle_of_an_update_is_followed_by_one_that_ends_it() -> None:
    with town() as place:
        spec = ServiceSpec("web", TaskSpec("httpd", networks=(TaskNetwork("web"),)), replicas=6, update=UpdateConfig(delay=0.5, monitor=0.2))
        service = place.client.create_service(spec)
        view = place.settled("web", 6)
        pids = {place.lab.exec(view.task_name(task), ["hostname"]).stdout for task in place.running(view, "web")}
        place.update("web", env=("A=1",))
        place.until(lambda view: len([task for task in place.running(view, "web") if task.spec.env]) == 2)
        for _ in range(2):
            os.kill(place.supervisor(), signal.SIGKILL)
            place.client = place.lab.swarm
            view = place.client.view()
            assert view.services[service.id].spec.task.env == ("A=1",)
            kept = {place.lab.exec(view.task_name(task), ["hostname"]).stdout for task in place.running(view, "web") if not task.spec.env}
            assert kept <= pids  # what was not to be replaced runs on
            time.sleep(0.5)
        place.until(lambda view: len([task for task in place.running(view, "web") if task.spec.env]) == 6)
        view = place.until(lambda view: view.services[service.id].update_status and view.services[service.id].update_status.state == "completed")
        view = place.settled("web", 6)
        assert place.all_reach_all(view, "web") == []


def test_blocked_gossip_takes_the_peers_away_and_brings_them_back() -> None:
    """As in a swarm whose port 7946 is closed (moby#30972): the manager sees all nodes ready, and their tasks do not reach each other."""
    with town(nodes=2) as place:
        place.create(replicas=2)
        view = place.settled("web", 2)
        assert place.all_reach_all(view, "web") == []
        drop = "add table ip blocked; add chain ip blocked input { type filter hook input priority 0; }; "
        drop += "add rule ip blocked input udp dport 7946 drop; add rule ip blocked input tcp dport 7946 drop"
        place.lab.exec("sathish-vm2", ["nft", drop], check=True)
        place.until(lambda view: len(place.all_reach_all(view, "web")) == 2, 60)
        assert {node.state for node in place.client.view().nodes.values()} == {NodeState.READY}
        place.lab.exec("sathish-vm2", ["nft", "delete table ip blocked"], check=True)
        place.until(lambda view: place.all_reach_all(view, "web") == [], 60)


def test_a_node_that_leaves_has_nothing_left_and_may_join_again() -> None:
    with town() as place:
        before = place.lab.exec("sathish-vm3", ["sh", "-c", "ip netns list | grep sathish-vm3:; ip -br link | cut -d' ' -f1"]).stdout
        assert "docker_gwbridge" in before
        place.create(restart=AT_ONCE, publish=80)
        place.settled("web", 6)
        place.client.leave("sathish-vm3")
        view = place.until(lambda view: view.node("sathish-vm3").state is NodeState.DOWN)
        place.settled("web", 6)
        after = place.lab.exec("sathish-vm3", ["sh", "-c", "ip netns list | grep sathish-vm3:; ip -br link | cut -d' ' -f1; nft list ruleset"]).stdout
        assert after.split() == ["lo", "eth0@if6"] or sorted(word.partition("@")[0] for word in after.split()) == ["eth0", "lo"]
        place.client.remove_node(view.node("sathish-vm3").id)
        place.client.join("sathish-vm3", view.info.worker_token, "192.168.68.109:2377")
        place.until(lambda view: view.node("sathish-vm3").state is NodeState.READY)
        with pytest.raises(UsageError, match="Removing the last manager erases all current state of the swarm"):
            place.client.leave("sathish-vm1")
        for node in ("sathish-vm2", "sathish-vm3"):
            place.client.leave(node)
        place.client.leave("sathish-vm1", force=True)
        with pytest.raises(UsageError, match="not a swarm manager"):
            place.client.view()
        place.client.init("sathish-vm2", Settings())


def test_a_node_that_cannot_reach_the_manager_says_that_joining_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab(nodes=2, bare=True) as lab:
        info = lab.swarm.init("sathish-vm1", Settings(heartbeat=HEARTBEAT))
        lab.impair("sathish-vm2-s1", down=True)
        with pytest.raises(LabError, match="Timeout was reached before node joined"):
            lab.swarm.join("sathish-vm2", info.worker_token, "")
        lab.impair("sathish-vm2-s1")
        end = time.monotonic() + 20
        while len([node for node in lab.swarm.view().nodes.values() if node.state is NodeState.READY]) < 2:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_a_lab_with_networks_of_its_own_refuses_a_swarm() -> None:
    with Lab(nodes=1) as lab, pytest.raises(UsageError, match="has networks of its own"):
        lab.swarm.init("sathish-vm1", Settings())


def test_the_supervisor_can_be_killed_at_any_moment_of_a_service_create(tmp_path: Path) -> None:
    """Whatever was acknowledged is there afterwards; what was not is there whole or not at all; and everything converges."""
    with town(nodes=2) as place:
        for number in range(4):
            name = f"s{number}"
            acknowledged = False
            victim = place.supervisor()
            pid = os.fork()
            if pid == 0:
                time.sleep(0.01 * number)
                os.kill(victim, signal.SIGKILL)
                os._exit(0)
            try:
                place.create(name, replicas=2)
                acknowledged = True
            except LabError:
                pass
            except UsageError as error:  # asked again after the kill, it was there
                acknowledged = "already exists" in str(error)
            os.waitpid(pid, 0)
            place.client = place.lab.swarm
            view = place.client.view()
            names = [service.spec.name for service in view.services.values()]
            assert not acknowledged or name in names
            if name in names:
                place.settled(name, 2)
        living = [task for task in place.client.view().tasks.values() if task.state <= TaskState.RUNNING]
        held = [(one.network, one.address) for task in living for one in task.networks]
        assert len(set(held)) == len(held)


def test_an_encrypted_network_that_no_node_could_have_is_refused_at_once(shared: Town) -> None:
    """Where the kernel has ESP, tests/netns/test_other_kernel.py goes on."""
    refusal = ""
    try:
        made = shared.client.create_network(NetworkSpec("sec", options={"encrypted": ""}))
        shared.client.remove_network(made.id)
    except MissingFeature as error:
        refusal = str(error)
    assert refusal in ("", NO_ESP)
    assert "sec" not in {network.spec.name for network in shared.client.view().networks.values()}
    assert "probe" not in shared.lab.exec("sathish-vm1", ["ip", "netns", "list"]).stdout.split()


def test_jobs_run_to_their_end(shared: Town) -> None:
    from vxtool.model import ServiceMode

    task = TaskSpec("host", args=("sh", "-c", "sleep 0.2"), restart=ONCE)
    service = shared.client.create_service(ServiceSpec("job", task, ServiceMode.REPLICATED_JOB, replicas=5, max_concurrent=2))
    view = shared.until(lambda view: [one.state for one in view.tasks_of.get(service.id, ())].count(TaskState.COMPLETE) == 5)
    assert {one.state for one in view.tasks_of[service.id]} == {TaskState.COMPLETE}
    shared.client.remove_service(service.id)
    everywhere = shared.client.create_service(ServiceSpec("everywhere", replace(task, args=("true",)), ServiceMode.GLOBAL_JOB))
    view = shared.until(lambda view: [one.state for one in view.tasks_of.get(everywhere.id, ())].count(TaskState.COMPLETE) == 3)
    assert {view.nodes[one.node].hostname for one in view.tasks_of[everywhere.id]} == set(shared.nodes)
    shared.client.remove_service(everywhere.id)
