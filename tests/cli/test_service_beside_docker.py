"""Docker's own command line reads our JSON and prints the same tables, pages and templates as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.engine import Docker, engine
from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.model import Availability, TaskState
from vxtool.swarm import inspecting
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.facade import Networks, Nodes, Services
from vxtool.swarm.objects import Service, ServiceSpec, Task


def _outcome(task: Task) -> TaskState | None:
    return TaskState.FAILED if task.spec.image == "crash:1" and task.slot == 2 else None


@pytest.fixture(scope="module")
def swarm() -> LocalSwarm:
    """Services of all sorts, some of them with a past. The times are those of now: docker compares them with its clock."""
    swarm = LocalSwarm("vm1", "vm2", "vm10", outcome=_outcome, now=time.time() - 7300)
    services = Services(swarm.client)
    Networks(swarm.client).create("web", labels={"tier": "front"})
    Networks(swarm.client).create("web2")
    services.create(
        "web",
        image="httpd:2.4",
        args="-f -p 80",
        replicas=5,
        network=["name=web,alias=www"],
        publish=["80:80", "8000-8002:90-92", "9000-9001:7/udp", "published=5353,target=53,protocol=udp,mode=host"],
        env=["A=1", "B=two words"],
        label=["x=1", "y"],
        container_label=["c=d"],
        constraint=["node.role==worker", "node.hostname!=nowhere"],
        placement_pref=["spread=node.labels.az"],
        limit_cpu="0.5",
        limit_memory="64M",
        limit_pids="100",
        reserve_cpu="0.25",
        reserve_memory="32M",
        restart_window="1h2m3.5s",
        update_delay="90s",
        update_max_failure_ratio="0.25",
        health_cmd="wget -q localhost",
        health_interval="1m30s",
        dns=["192.0.2.53"],
        host=["db:10.0.0.9"],
        hostname="{{.Node.Hostname}}",
        user="www",
        workdir="/tmp",
        stop_grace_period="250ms",
        replicas_max_per_node="4",
    )
    services.create("web10", image="httpd", replicas=2)
    services.create("web2", image="docker.io/library/httpd:latest", mode="global", endpoint_mode="dnsrr", network=["web"])
    services.create("crash", image="crash:1", replicas=2, restart_delay="20s")
    services.create("big", image="echo", reserve_memory="1T")
    swarm.run(70)
    services.update("web10", env_add=["C=3"], update_parallelism=0)
    swarm.run(50)
    Nodes(swarm.client).update("vm10", availability=Availability.DRAIN, label_add=["az=a"])
    swarm.run(40)
    swarm.run(time.time() - swarm.swarm.now)
    return swarm


@pytest.fixture(scope="module")
def docker(swarm: LocalSwarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with engine(swarm.client, tmp_path_factory.mktemp("docker")) as docker:
        yield docker


@pytest.fixture(scope="module")
def new_docker(swarm: LocalSwarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """It knows jobs and limits on processes."""
    with engine(swarm.client, tmp_path_factory.mktemp("docker"), "1.41") as docker:
        yield docker


@pytest.fixture
def ours(swarm: LocalSwarm, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setattr(swarming, "swarm", lambda lab: swarm.client)
    return lambda *arguments: invoke(*arguments).output


COMMANDS = (
    "service ls",
    "service ls -q",
    "service ls --format json",
    "service ls --format {{.Name}}/{{.Replicas}}/{{upper\xa0.Mode}}",
    r"service ls --format table\t{{.ID}}\t{{.Ports}}",
    "service ps web",
    "service ps web web10 web2 crash",
    "service ps --no-trunc crash big",
    "service ps --no-resolve web2",
    "service ps -q web10",
    "service ps --format json crash",
    "service ps --format {{.Name}}|{{.CurrentState}}|{{.Error}} crash",
    "service inspect web web2",
    "service inspect --pretty web",
    "service inspect --pretty web2 web10",
    "service inspect --format {{json\xa0.Spec.TaskTemplate}} web",
    'service inspect --format {{.Spec.Name}}:{{len\xa0.Spec.Labels}}:{{index\xa0.Spec.Labels\xa0"x"}} web',
    "service inspect --format {{range\xa0.Endpoint.VirtualIPs}}{{.Addr}},{{end}} web",
    "service inspect --format {{range\xa0$k,\xa0$v\xa0:=\xa0.Spec.Labels}}{{$k}}={{$v}};{{end}} web",
    "node ls",
    "node ls --format {{.Hostname}}\xa0{{.Self}}\xa0{{.ManagerStatus}}",
    "node inspect vm10",
    "node ps vm2",
    "node ps -q vm1",
    "node ps --format {{.Name}} vm1",
    "network inspect web",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_docker_prints_the_same(command: str, swarm: LocalSwarm, docker: Docker, ours: Callable[..., str]) -> None:
    words = [word.replace("\xa0", " ") for word in command.split(" ")]
    for _ in range(5):  # a second may pass between the two
        swarm.run(max(time.time() - swarm.swarm.now, 0.0))
        theirs = docker(*words)
        mine = ours(*words)
        if theirs == mine:
            break
    assert mine == theirs


CREATED = (
    ["--name", "a", "httpd"],
    [
        "--name",
        "a",
        "--network",
        "web",
        "--network",
        "name=web2,alias=x,alias=y",
        "-p",
        "80:80",
        "-p",
        "8000-8002:90-92/udp",
        "httpd",
        "-f",
        "--",
        "x",
    ],
    ["--name", "a", "-p", "published=8080,target=80,mode=host,protocol=sctp", "-p", "7", "-p", "6-7:9", "httpd"],
    ["--name", "a", "-e", "A=1", "-e", "B=a=b", "--env", "A=2", "-l", "k=v", "-l", "z", "--container-label", "c=d", "httpd"],
    ["--name", "a", "--limit-cpu", "1/4", "--limit-memory", "1.5g", "--limit-pids", "7", "--reserve-cpu", ".5", "--reserve-memory", "64m", "httpd"],
    ["--name", "a", "--generic-resource", "gpu=2", "--generic-resource", "fpga=1", "httpd"],
    [
        "--name",
        "a",
        "--restart-condition",
        "on-failure",
        "--restart-delay",
        "1m30s",
        "--restart-max-attempts",
        "3",
        "--restart-window",
        "2h",
        "httpd",
    ],
    ["--name", "a", "--update-parallelism", "0", "--update-delay", "10s", "--update-monitor", "1.5s", "--update-order", "start-first", "httpd"],
    ["--name", "a", "--update-failure-action", "rollback", "--update-max-failure-ratio", ".25", "--rollback-parallelism", "2", "httpd"],
    ["--name", "a", "--rollback-failure-action", "continue", "--rollback-order", "start-first", "--rollback-delay", "1s", "httpd"],
    ["--name", "a", "--constraint", "node.role==worker", "--constraint", "node.labels.a!=b", "--placement-pref", "spread=node.labels.az", "httpd"],
    ["--name", "a", "--replicas", "6", "--replicas-max-per-node", "2", "--hostname", "h", "-w", "/tmp", "-u", "www:www", "httpd"],
    ["--name", "a", "--health-cmd", "true || false", "--health-interval", "5s", "--health-timeout", "1s", "--health-retries", "2", "httpd"],
    ["--name", "a", "--no-healthcheck", "--stop-grace-period", "1m", "--stop-signal", "SIGINT", "--entrypoint", "sh -c 'a b'", "httpd", "x y"],
    ["--name", "a", "--dns", "192.0.2.1", "--dns-option", "ndots:2", "--dns-search", "example.com", "--host", "db:10.0.0.9", "httpd"],
    ["--name", "a", "--mode", "global", "--endpoint-mode", "dnsrr", "--network", "web", "--log-driver", "json-file", "httpd"],
    ["--name", "a", "--mode", "replicated-job", "--replicas", "9", "--max-concurrent", "3", "httpd"],
    ["--name", "a", "--mode", "replicated-job", "--replicas", "9", "httpd"],
    ["--name", "a", "--mode", "global-job", "--restart-condition", "none", "httpd"],
)

UPDATED = (
    ["--env-add", "A=2", "--env-rm", "B", "--label-add", "n=1", "--label-rm", "x", "--container-label-rm", "c"],
    ["--publish-rm", "80", "--publish-rm", "92/tcp", "--publish-add", "8080:80", "--publish-rm", "published=5353,target=53,protocol=udp,mode=host"],
    ["--network-rm", "web", "--network-add", "name=web2,alias=z"],
    ["--constraint-add", "node.hostname==vm2", "--constraint-rm", "node.role==worker", "--placement-pref-rm", "spread=node.labels.az"],
    ["--limit-cpu", "2", "--reserve-memory", "1g", "--replicas", "7", "--replicas-max-per-node", "3"],
    ["--args", "a 'b c'", "--image", "echo", "--force", "--hostname", "", "--user", "root", "--entrypoint", ""],
    ["--update-delay", "1s", "--update-failure-action", "continue", "--rollback-monitor", "7s", "--restart-condition", "none"],
    ["--dns-add", "192.0.2.1", "--dns-rm", "192.0.2.53", "--dns-search-add", "b.example", "--dns-option-add", "rotate"],
    ["--host-add", "cache:10.0.0.8", "--host-rm", "db:10.0.0.9", "--health-interval", "9s", "--stop-grace-period", "2s"],
    ["--no-healthcheck", "--endpoint-mode", "vip", "--workdir", "/", "--generic-resource-add", "gpu=1"],
)


def _filled(spec: Any) -> Any:
    """Without what is empty: an engine fills it in, and we have it from the beginning."""
    if isinstance(spec, dict):
        return {key: filled for key, value in spec.items() if (filled := _filled(value)) not in (None, {}, [], "", 0, False)}
    return [_filled(one) for one in spec] if isinstance(spec, list) else spec


def _differences(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Where Docker says something and we something else."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            yield from _differences(ours.get(key), value, f"{place}.{key}")
    elif sorted(map(str, theirs)) != sorted(map(str, ours or ())) if place.endswith((".Env", ".Ports", ".GenericResources")) else theirs != ours:
        yield f"{place}: ours {ours!r}, Docker's {theirs!r}"


class Kept(SwarmClient):
    """Keeps what it is to create or change, and does not do it."""

    def __init__(self, swarm: LocalSwarm) -> None:
        super().__init__(swarm.ask)
        self.specs: list[ServiceSpec] = []

    def create_service(self, spec: ServiceSpec) -> Service:
        self.specs.append(spec)
        return Service("made", spec)

    def update_service(self, service: Service, spec: ServiceSpec) -> Service:
        self.specs.append(spec)
        return replace(service, spec=spec)


@pytest.fixture
def kept(swarm: LocalSwarm, monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept(swarm)
    monkeypatch.setattr(swarming, "swarm", lambda lab: kept)
    return kept


@pytest.mark.parametrize("words", CREATED, ids=" ".join)
def test_docker_makes_the_same_service_of_the_same_flags(words: list[str], kept: Kept, new_docker: Docker, invoke: Invoke) -> None:
    assert new_docker("service", "create", "--detach", "--no-resolve-image", *words) == "made\n"
    assert invoke("service", "create", "--detach", "--no-resolve-image", *words).output == "made\n"
    ours = inspecting.service(Service("made", kept.specs[-1]))["Spec"]
    assert not list(_differences(_filled(ours), _filled(new_docker.posted[-1])))


@pytest.mark.parametrize("words", UPDATED, ids=" ".join)
def test_docker_makes_the_same_change_of_the_same_flags(words: list[str], kept: Kept, new_docker: Docker, invoke: Invoke) -> None:
    assert new_docker("service", "update", "--detach", "--no-resolve-image", *words, "web") == "web\n"
    assert invoke("service", "update", "--detach", *words, "web").output == "web\n"
    ours, theirs = _filled(inspecting.service(Service("web", kept.specs[-1]))["Spec"]), _filled(new_docker.posted[-1])
    assert not list(_differences(ours, theirs))
    assert not list(_differences(theirs, ours))
