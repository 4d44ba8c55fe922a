"""Names in the sandboxes of a lab's swarm: unmodified programs find by name what runs, and nothing else."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netns.conftest import World
from tests.netns.swarms import Town, town
from vxtool.dns.resolvconf import Upstream
from vxtool.lab import agents, namespaces
from vxtool.lab.naming import SOCKET, Naming, Served
from vxtool.lab.steps import AddNamespace
from vxtool.model import EndpointMode, Engine, TaskState
from vxtool.swarm.identities import container_id
from vxtool.swarm.objects import (
    Dns,
    EndpointSpec,
    HealthCheck,
    NetworkSpec,
    Placement,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceSpec,
    Task,
    TaskNetwork,
    TaskSpec,
)
from vxtool.swarm.timers import Timers
from vxtool.swarm.view import View

ONCE = RestartPolicy(RestartCondition.NONE)
SLEEPER = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
SLOW = ("sh", "-c", "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.05; done")


@pytest.fixture(scope="module")
def place() -> Iterator[Town]:
    """`web` runs, and `client` asks."""
    with town(heartbeat=2.0) as made:  # a busy machine is no lost node
        made.create("web", publish=8080)
        made.create("client", "host", 1, args=SLEEPER)
        made.settled("web", 6)
        made.settled("client", 1)
        yield made


def said(place: Town, where: str, *words: str) -> str:
    """What a program in a sandbox says; its error when it fails."""
    done = place.lab.exec(where, list(words))
    return done.stdout.strip() if done.returncode == 0 else (done.stdout + done.stderr).strip()


def dig(place: Town, *words: str, where: str = "client.1") -> list[str]:
    """What `dig` is answered, sorted."""
    return sorted(said(place, where, "dig", "+short", "+time=1", "+tries=1", *words).splitlines())


def silent(answers: list[str]) -> bool:
    return any("timed out" in line or "no servers could be reached" in line for line in answers)


def until(seen: Callable[[], object], seconds: float = 5.0) -> float:
    """Seconds until it is so."""
    begun = time.monotonic()
    while not seen():
        assert time.monotonic() < begun + seconds, f"not within {seconds:g} s"
        time.sleep(0.02)
    return time.monotonic() - begun


def one(place: Town, name: str, view: View | None = None) -> Task:
    return place.running(view or place.client.view(), name)[0]


# -- programs --------------------------------------------------------------------------------------------------------------


def test_a_sandbox_has_its_resolver_in_its_own_resolv_conf_and_the_machine_keeps_its_own(place: Town) -> None:
    before = Path("/etc/resolv.conf").read_text()
    told = said(place, "client.1", "cat", "/etc/resolv.conf").splitlines()
    assert "nameserver 127.0.0.11" in told
    assert told[-1].startswith("options ")
    assert "ndots:0" in told[-1].split()
    assert Path("/etc/resolv.conf").read_text() == before
    assert "127.0.0.11" not in before


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("getent", "hosts", "web"), r"^10\.0\.1\.2\s+web$"),
        (("ping", "-c", "1", "-W", "2", "web"), r"PING web \(10\.0\.1\.2\)"),
        (("ping", "-c", "1", "-W", "2", "tasks.web"), r"1 received"),
        (("curl", "-s", "-m", "3", "http://tasks.web/"), r"It works!"),
        (("nslookup", "web"), r"Server:\s+127\.0\.0\.11\nAddress:\s+127\.0\.0\.11#53\n(.|\n)*Address: 10\.0\.1\.2"),
        (("dig", "web"), r"web\.\s+600\s+IN\s+A\s+10\.0\.1\.2\n(.|\n)*SERVER: 127\.0\.0\.11#53\(127\.0\.0\.11\) \(UDP\)"),
        (("dig", "+tcp", "web"), r"web\.\s+600\s+IN\s+A\s+10\.0\.1\.2\n(.|\n)*SERVER: 127\.0\.0\.11#53\(127\.0\.0\.11\) \(TCP\)"),
        (("dig", "web", "AAAA"), r"status: NOERROR(.|\n)*ANSWER: 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_unmodified_programs_find_a_service_by_its_name(place: Town, words: tuple[str, ...], pattern: str) -> None:
    assert re.search(pattern, said(place, "client.1", *words))


def test_every_name_that_docker_gives_is_found(place: Town) -> None:
    view = place.client.view()
    tasks = place.running(view, "web")
    every = sorted(place.addresses(view, "web"))
    address = {task.id: str(next(one.address.ip for one in task.networks if one.network == view.network("web").id and one.address)) for task in tasks}
    task = tasks[3]
    name = view.task_name(task)
    short = container_id(view.nodes[task.node].hostname, name)[:12]
    assert dig(place, "web") == dig(place, "web.web") == dig(place, "WEB") == ["10.0.1.2"]
    assert dig(place, "tasks.web") == dig(place, "tasks.web.web") == dig(place, "+tcp", "tasks.web") == every
    assert dig(place, name) == dig(place, f"{name}.web") == dig(place, short) == [address[task.id]]
    assert dig(place, "-x", address[task.id]) == [f"{name}.web."]
    assert said(place, name, "hostname") == short
    for unknown in ("web.1", f"web.{task.slot}", "nosuch", "web.WEB", "web.ingress"):
        assert silent(dig(place, unknown)) or dig(place, unknown) == []


def test_every_task_of_every_node_is_answered_the_same(place: Town) -> None:
    view = place.client.view()
    every = sorted(place.addresses(view, "web"))
    for task in place.running(view, "web"):
        assert dig(place, "tasks.web", where=view.task_name(task)) == every


def test_a_service_without_a_virtual_address_is_all_its_tasks(place: Town) -> None:
    spec = ServiceSpec("rr", TaskSpec("httpd", networks=(TaskNetwork("web"),)), replicas=3, endpoint=EndpointSpec(EndpointMode.DNSRR))
    service = place.client.create_service(spec)
    view = place.settled("rr", 3)
    every = sorted(place.addresses(view, "rr"))
    until(lambda: dig(place, "rr") == every)
    assert dig(place, "tasks.rr") == every
    place.client.remove_service(service.id)
    until(lambda: silent(dig(place, "rr")) or not dig(place, "rr"))


def test_aliases_are_names_in_their_network_alone(place: Town) -> None:
    place.client.create_network(NetworkSpec("back", attachable=True))
    networks = (TaskNetwork("web", aliases=("site",)), TaskNetwork("back", aliases=("store",)))
    service = place.client.create_service(ServiceSpec("both", TaskSpec("httpd", networks=networks), replicas=1))
    view = place.settled("both", 1)
    vips = {view.networks[id].spec.name: str(address.ip) for id, address in service_of(place, "both").vips if id in view.networks}
    own = view.task_name(one(place, "both", view))
    until(lambda: dig(place, "site") == [vips["web"]])
    assert silent(dig(place, "store")) or not dig(place, "store")
    assert dig(place, "store", where=own) == [vips["back"]]
    assert dig(place, "site.web", where=own) == [vips["web"]]
    assert dig(place, "both.back", where=own) == [vips["back"]]
    place.client.remove_service(service.id)
    place.until(lambda view: not any(task.service == service.id for task in view.tasks.values()))
    place.client.remove_network(view.network("back").id)


def service_of(place: Town, name: str) -> Service:
    return place.client.view().service(name)


def test_a_container_of_no_service_is_found_by_its_name_and_finds_others_in_the_networks_it_is_connected_to(place: Town) -> None:
    client = place.client
    client.create_network(NetworkSpec("far", attachable=True))
    service = place.create("there", replicas=1, networks=("far",))
    place.settled("there", 1)
    view = client.view()
    spec = TaskSpec("host", args=SLEEPER, container="alone", networks=(TaskNetwork(view.network("web").id, aliases=("solo",)),), restart=ONCE)
    task = client.run_container(spec, view.node("sathish-vm2").id)
    view = place.until(lambda view: view.tasks[task.id].state is TaskState.RUNNING)
    address = str(next(one.address.ip for one in view.tasks[task.id].networks if one.address))
    until(lambda: dig(place, "alone") == [address])
    assert dig(place, "solo") == [address]
    assert dig(place, "-x", address) == ["alone.web."]
    assert silent(dig(place, "there", where="alone"))
    far = view.network("far").id
    client.connect_network(far, task.id)
    until(lambda: dig(place, "tasks.there", where="alone") == place.addresses(client.view(), "there", "far"))
    client.disconnect_network(far, task.id)
    until(lambda: silent(dig(place, "there", where="alone")))
    client.remove_container(task.id, force=True)
    client.remove_service(service.id)
    place.until(lambda view: not any(one.service == service.id for one in view.tasks.values()))
    client.remove_network(far)


# -- what is outside -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dns", "lines"),
    [
        (Dns(("10.9.9.9",), ("a.example", "b.example"), ()), ["search a.example b.example", "nameserver 127.0.0.11", "options ndots:0"]),
        (Dns(("10.9.9.9",), (".",), ("ndots:2", "timeout:1")), ["nameserver 127.0.0.11", "options ndots:2 timeout:1"]),
        (
            Dns(("10.9.9.9", "2001:db8::9"), (".",), ("attempts:1",)),
            ["nameserver 127.0.0.11", "nameserver 2001:db8::9", "options attempts:1 ndots:0"],
        ),
    ],
    ids=["search", "ndots", "a server over IPv6"],
)
def test_what_the_user_says_is_in_resolv_conf_but_for_the_servers_that_are_asked_for_him(place: Town, dns: Dns, lines: list[str]) -> None:
    service = place.create("own", "host", 1, args=SLEEPER, dns=dns)
    place.settled("own", 1)
    assert said(place, "own.1", "cat", "/etc/resolv.conf").splitlines() == lines
    place.client.remove_service(service.id)


def test_an_option_ndots_without_a_number_is_refused_in_dockers_words(place: Town) -> None:
    service = place.create("own", "host", 1, args=SLEEPER, dns=Dns(options=("ndots:x",)), restart=ONCE)
    view = place.until(lambda view: [task for task in view.tasks_of.get(service.id, ()) if task.state > TaskState.RUNNING])
    assert [task.error for task in view.tasks_of[service.id]] == ["invalid number for ndots option: x"]
    place.client.remove_service(service.id)


DNSMASQ = ("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root", "--port=53", "--pid-file=")


def test_what_no_network_knows_is_asked_outside_from_the_sandbox_and_the_nodes_own_server_from_the_node(place: Town) -> None:
    """A server in a task answers those who named it by its address; a server on a loopback is the sandbox's own when the user names it."""
    far = place.create("server", "host", 1, args=(*DNSMASQ, "--address=/example.org/203.0.113.7"), user="root")
    view = place.settled("server", 1)
    server = place.addresses(view, "server")[0]
    asks = place.create("asks", "host", 1, args=SLEEPER, dns=Dns((server,)))
    ndots = place.create("ndots", "host", 1, args=SLEEPER, dns=Dns((server,), options=("ndots:1",)))
    own = place.create("own", "host", 1, args=SLEEPER, dns=Dns(("127.0.0.53",)))
    for name in ("asks", "ndots", "own"):
        place.settled(name, 1)
    until(lambda: dig(place, "www.example.org", where="asks.1") == ["203.0.113.7"])
    assert dig(place, "+tcp", "www.example.org", where="asks.1") == ["203.0.113.7"]
    assert dig(place, "web", where="asks.1") == ["10.0.1.2"]
    assert "status: REFUSED" in said(place, "asks.1", "dig", "single")
    assert "status: NOERROR" in said(place, "ndots.1", "dig", "single")
    assert silent(dig(place, "www.example.org", where="own.1"))
    assert silent(dig(place, "www.example.org", where="client.1"))
    for service in (far, asks, ndots, own):
        place.client.remove_service(service.id)


# -- as tasks come and go --------------------------------------------------------------------------------------------------


def test_a_task_that_stops_has_no_name_any_more_before_it_is_stopped_and_the_last_one_leaves_the_services_name(place: Town) -> None:
    service = place.create("slow", "host", 2, args=SLOW)
    view = place.settled("slow", 2)
    first, second = place.running(view, "slow")
    addresses = sorted(place.addresses(view, "slow"))
    vip = next(str(address.ip) for id, address in view.service("slow").vips if id == view.network("web").id)
    until(lambda: dig(place, "tasks.slow") == addresses)
    names = {task.id: view.task_name(task) for task in (first, second)}
    place.client.scale_service(view.services[service.id], 1)
    until(lambda: len(dig(place, "tasks.slow")) == 1, 2.0)
    view = place.client.view()
    stopping = next(task for task in view.tasks_of[service.id] if task.desired > TaskState.RUNNING)
    assert stopping.state is TaskState.RUNNING, "it is in its grace period"
    assert silent(dig(place, names[stopping.id]))
    place.client.scale_service(view.services[service.id], 0)
    until(lambda: silent(dig(place, "tasks.slow")), 3.0)
    assert dig(place, "slow") == [vip], "a name as long as something of it is there"
    place.settled("slow", 0)
    until(lambda: silent(dig(place, "slow")))
    place.client.remove_service(service.id)


def test_a_task_has_its_names_when_it_is_healthy_and_not_before(place: Town, tmp_path: Path) -> None:
    check = HealthCheck(("CMD-SHELL", "test $(cat /sys/class/net/lo/mtu) = 1234"), 0.2, 1.0, 60.0, 3)
    service = place.create("well", "host", 1, args=SLEEPER, health=check)
    view = place.until(lambda view: [task for task in view.tasks_of.get(service.id, ()) if task.state is TaskState.STARTING])
    name = view.task_name(view.tasks_of[service.id][0])
    until(lambda: place.lab.exec(name, ["true"]).returncode == 0)
    assert silent(dig(place, "well"))
    assert silent(dig(place, "tasks.well"))
    place.lab.exec(name, ["ip", "link", "set", "lo", "mtu", "1234"], privileged=True, check=True)
    view = place.settled("well", 1)
    until(lambda: dig(place, "tasks.well") == place.addresses(view, "well"))
    place.client.remove_service(service.id)


def test_what_runs_on_a_node_that_is_lost_loses_its_names() -> None:
    with town(nodes=3) as place:
        place.create("web", replicas=6)
        place.create("client", "host", 1, args=SLEEPER, restart=RestartPolicy(delay=0.0))
        view = place.settled("web", 6)
        place.settled("client", 1)
        here = view.nodes[one(place, "client").node].hostname
        lost = next(name for name in place.nodes if name not in (here, "sathish-vm1"))
        gone = {
            str(one.address.ip)
            for task in place.running(view, "web")
            if view.nodes[task.node].hostname == lost
            for one in task.networks
            if one.address
        }
        assert gone & set(dig(place, "tasks.web"))
        place.client.kill_agent(lost)
        place.until(lambda view: view.node(lost).state.value == "down")
        view = place.settled("web", 6)
        until(lambda: dig(place, "tasks.web") == sorted(place.addresses(view, "web")), 20.0)


def test_a_node_that_hears_no_gossip_answers_with_what_it_knew_until_it_hears_again(place: Town) -> None:
    view = place.client.view()
    here = view.nodes[one(place, "client", view).node].hostname
    there = next(name for name in place.nodes if name != here)
    other = next(view.task_name(task) for task in place.running(view, "web") if view.nodes[task.node].hostname == there)
    deaf = "table inet deaf { chain input { type filter hook input priority 0; meta l4proto { tcp, udp } th dport 7946 drop; }; }"
    place.lab.exec(here, ["nft", deaf], privileged=True, check=True)
    constraint = Placement(constraints=(f"node.hostname=={there}",))
    service = place.create("news", replicas=1, placement=constraint)
    place.settled("news", 1)
    until(lambda: len(dig(place, "tasks.news", where=other)) == 1)
    assert silent(dig(place, "news"))
    place.lab.exec(here, ["nft", "delete", "table", "inet", "deaf"], privileged=True, check=True)
    until(lambda: len(dig(place, "tasks.news")) == 1, 60.0)
    place.client.remove_service(service.id)


@pytest.mark.parametrize("by_node", [True, False])
def test_a_server_on_the_nodes_loopback_is_asked_there_and_one_of_the_users_in_the_sandbox(world: World, tmp_path: Path, by_node: bool) -> None:
    """The machine's own resolv.conf may name a server at 127.0.0.53: it is the node's, while --dns 127.0.0.53 is the container's."""
    world.kernel.perform([AddNamespace("vm1"), AddNamespace("vm1:web.1")])
    for number, namespace in enumerate(("vm1", "vm1:web.1"), 1):
        words = ("--listen-address=127.0.0.53", f"--address=/example.org/203.0.113.{number}", "--conf-file=/dev/null")
        subprocess.Popen(["ip", "netns", "exec", namespace, *DNSMASQ, *words], stderr=subprocess.DEVNULL)
    boot = "import sys; from vxtool.lab.resolvers import Resolvers; Resolvers({'folder': sys.argv[1]}).run()"
    subprocess.Popen([sys.executable, "-c", boot, str(tmp_path)])
    until(lambda: (tmp_path / SOCKET).exists())
    with namespaces.inside(namespaces.NETNS / "vm1"):
        told = Naming("vm1", tmp_path, Engine.V19_03, selectors.DefaultSelector(), Timers(time.monotonic()))
    told.serve("web.1", "vm1:web.1", Served(("web",), (Upstream("127.0.0.53", by_node),), False, True))
    dig = "ip netns exec vm1:web.1 dig +short +time=1 +tries=1 @127.0.0.11 www.example.org"
    until(lambda: world.sh(f"{dig} || true").strip() == f"203.0.113.{1 if by_node else 2}")
    assert world.sh(f"{dig} +tcp").strip() == f"203.0.113.{1 if by_node else 2}"


# -- the process -----------------------------------------------------------------------------------------------------------


def resolvers(place: Town) -> int:
    """The process id, as the machine has it."""
    supervisor = place.supervisor()
    mine = os.readlink(f"/proc/{supervisor}/ns/pid")
    inner = agents.read(place.lab.running.folder / "swarm" / agents.RESOLVERS)["pid"]
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                own = re.search(r"^NSpid:.*\t(\d+)$", (process / "status").read_text(), re.MULTILINE)
                if own is not None and int(own[1]) == inner and os.readlink(process / "ns/pid") == mine:
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError("the lab has no resolvers")


def test_resolvers_that_are_killed_are_there_again_and_know_everything(place: Town) -> None:
    view = place.client.view()
    before = resolvers(place)
    os.kill(before, signal.SIGKILL)
    until(lambda: dig(place, "tasks.web") == sorted(place.addresses(view, "web")), 10.0)
    assert resolvers(place) != before
    assert dig(place, "+tcp", "web") == ["10.0.1.2"]
    assert len(dig(place, "tasks.web", where="web.1")) == 6


def test_resolvers_outlive_a_supervisor_that_is_killed_and_are_looked_after_by_the_next_one(place: Town) -> None:
    before = resolvers(place)
    os.kill(place.supervisor(), signal.SIGKILL)
    assert dig(place, "web") == ["10.0.1.2"]
    place.until(lambda view: view.nodes)
    assert resolvers(place) == before
    os.kill(before, signal.SIGKILL)
    until(lambda: dig(place, "web") == ["10.0.1.2"], 10.0)


def test_nobody_but_the_sandbox_itself_is_served(place: Town) -> None:
    """The ports are open on the sandbox's loopback alone: with a route to it, and with the port, another one gets nothing."""
    service = place.create("prying", "host", 1, args=SLEEPER)
    place.settled("prying", 1)
    view = place.client.view()
    asked = one(place, "web", view)
    listening = said(place, view.task_name(asked), "ss", "-Hlun").split()
    (port,) = [word.rpartition(":")[2] for word in listening if word.startswith("127.0.0.11:")]
    target = str(next(one.address.ip for one in asked.networks if one.network == view.network("web").id and one.address))
    for words in (
        ["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"],
        ["ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"],
        ["ip", "route", "add", "127.0.0.11/32", "via", target],
        ["nft", "delete", "table", "ip", "docker_dns"],
    ):
        place.lab.exec("prying.1", words, privileged=True, check=True)
    assert silent(dig(place, "-p", port, "@127.0.0.11", "web", where="prying.1"))
    place.client.remove_service(service.id)


FLOOD = "yes 'web A\nnosuch A\ntasks.web A' | head -n 1000000 | dnsperf -s 127.0.0.11 -l 3 -q 500 -T 2"


def test_a_flood_of_queries_keeps_no_heartbeat_and_no_other_sandbox_waiting(place: Town) -> None:
    with ThreadPoolExecutor() as pool:
        flood = pool.submit(said, place, "web.1", "sh", "-c", FLOOD)
        times = []
        while not flood.done():
            begun = time.monotonic()
            assert dig(place, "web") == ["10.0.1.2"]
            times.append(time.monotonic() - begun)
    queries = re.search(r"Queries sent:\s+(\d+)", flood.result())
    assert queries is not None, flood.result()
    assert int(queries[1]) > 1000
    assert max(times) < 2.0
    assert all(node.state.value == "ready" for node in place.client.view().nodes.values())


def test_todays_engine_is_an_option() -> None:
    with town(nodes=1, engine="today") as place:
        place.create("web", replicas=2)
        place.create("inside", "host", 1, args=SLEEPER, hostname="insider")
        place.settled("web", 2)
        place.settled("inside", 1)
        until(lambda: dig(place, "web", where="inside.1") == ["10.0.1.2"])
        assert dig(place, "insider", where="inside.1") == dig(place, "tasks.inside", where="inside.1")
        # 19.03 repeats the name in every record; today's points back at the question.
        assert "MSG SIZE  rcvd: 37" in said(place, "inside.1", "dig", "+noedns", "web")
        # Nobody answers outside: 19.03 stays silent, today's says so.
        assert "status: SERVFAIL" in said(place, "inside.1", "dig", "+time=15", "+tries=1", "nosuch")
