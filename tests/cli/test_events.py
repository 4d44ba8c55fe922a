"""`vxtool events`: what happens in a swarm, as docker events tells it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result

from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.swarm.objects import NetworkSpec, ServiceSpec, TaskNetwork, TaskSpec

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> LocalSwarm:
    """A swarm in which `web` has been made in a network of its own, and runs."""
    local = LocalSwarm()
    monkeypatch.setattr(swarming, "swarm", lambda _: local.client)
    local.run(60)
    local.client.create_network(NetworkSpec("front"))
    local.client.create_service(ServiceSpec("web", TaskSpec("httpd:2.4", labels={"tier": "a"}, networks=(TaskNetwork("front"),)), replicas=2))
    local.run(30)
    return local


PAST = ("events", "--since", "40s", "--until", "0s")


def _told(invoke: Invoke, *options: str) -> list[str]:
    done = invoke(*PAST, "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}", *options)
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


def test_a_line_is_time_type_action_id_and_attributes_as_docker_writes_it(local: LocalSwarm, invoke: Invoke) -> None:
    first, second, *_ = invoke(*PAST, "--filter", "type=network", "--filter", "type=service", "--filter", "event=create").stdout.splitlines()
    view = local.client.view()
    assert re.fullmatch(r"2023-11-14T22:14:20\.\d{9}Z network create " + view.network("front").id + r" \(name=front, type=overlay\)", first)
    assert re.fullmatch(r"2023-11-14T22:14:20\.\d{9}Z service create " + view.service("web").id + r" \(name=web\)", second)


def test_times_are_those_of_the_zone_of_whoever_looks(local: LocalSwarm, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert re.match(r"2023-11-15T03:44:20\.\d{9}\+05:30 network create ", invoke(*PAST, "-f", "network=front").stdout)


def test_since_and_until_take_a_moment_or_how_long_ago(local: LocalSwarm, invoke: Invoke) -> None:
    ls = ("--filter", "type=service", "--filter", "event=create")
    assert _told(invoke, *ls) == ["service create web"]
    for since, until, seen in (
        ("10s", "0s", 0),
        ("40s", "35s", 0),
        ("2023-11-14T22:14:00Z", "2023-11-14T22:14:30", 1),
        ("1700000050", "1700000065.5", 1),
    ):
        done = invoke("events", "--since", since, "--until", until, *ls)
        assert len(done.stdout.splitlines()) == seen, (since, until)
    for option in ("--since", "--until"):
        done = invoke("events", option, "yesterday")
        assert (done.exit_code, 'failed to parse value as time or duration: "yesterday"' in done.stderr) == (2, True)


def test_without_since_only_what_happens_from_now_on_is_told_as_it_happens(local: LocalSwarm, invoke: Invoke) -> None:
    ask, asked = local.ask, 0

    def meanwhile(do: str, /, **arguments: object) -> object:
        nonlocal asked
        asked += do == "wait"
        if do == "wait" and asked == 2:
            local.swarm.tell(local.swarm.control.remove_service, "web")
        return ask(do, **arguments)

    local.client._ask = meanwhile
    done = invoke("events", "--until", "-5s", "--filter", "type=service", "--filter", "type=container", "--format", "{{.Type}} {{.Action}}")
    lines = done.stdout.splitlines()
    assert lines[0] == "service remove"
    assert lines.count("container die") == 2
    assert not any("create" in line for line in lines)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["service=web"], {("service", "web")}),
        (["network=front", "event=create"], {("network", "front")}),
        (["container=web.1", "event=start"], {("container", "web.1")}),
        (["type=container", "event=start"], {("container", "web.1"), ("container", "web.2")}),
        (["label=tier=a", "event=start"], {("container", "web.1"), ("container", "web.2")}),
        (["label=tier=b"], set()),
        (["image=httpd", "event=start"], {("container", "web.1"), ("container", "web.2")}),
        (["scope=swarm", "event=create", "type=service", "type=container"], {("service", "web")}),
        (["node=vm9"], set()),
    ],
)
def test_filters_are_docker_s(local: LocalSwarm, invoke: Invoke, filters: list[str], expected: set[tuple[str, str]]) -> None:
    options = [word for text in filters for word in ("--filter", text)]
    lines = [line.split() for line in _told(invoke, *options)]
    assert {(kind, ".".join(name.split(".")[:2])) for kind, _, name in lines} == expected


def test_json_is_the_engine_s_message(local: LocalSwarm, invoke: Invoke) -> None:
    for format in ("json", "{{json .}}"):
        network, container = (
            json.loads(invoke(*PAST, "--format", format, "--filter", f"type={kind}", "--filter", f"event={action}").stdout.splitlines()[0])
            for kind, action in (("network", "create"), ("container", "start"))
        )
        assert list(network) == ["Type", "Action", "Actor", "scope", "time", "timeNano"]
        assert network["Actor"]["Attributes"] == {"name": "front", "type": "overlay"}
        assert (network["scope"], network["time"], network["timeNano"] // 10**9) == ("swarm", 1_700_000_060, 1_700_000_060)
        assert list(container)[:3] == ["status", "id", "from"]
        assert (container["status"], container["from"], container["scope"]) == ("start", "httpd:2.4", "local")


def test_what_makes_no_sense_is_refused_before_anything_is_waited_for(local: LocalSwarm, invoke: Invoke) -> None:
    for options, sentence in (
        (("--format", "{{.Nonsense}}"), "can't evaluate field Nonsense in type *events.Message"),
        (("--format", "{{.Type"), "template parsing error"),
        (("--filter", "color=red"), "invalid filter 'color'"),
    ):
        done = invoke("events", *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert sentence in done.stderr


def test_a_name_cannot_reach_the_terminal_as_a_control_character(local: LocalSwarm, invoke: Invoke) -> None:
    local.client.create_service(ServiceSpec("odd", TaskSpec("x\x1b[31m", labels={"a": "\x1b]0;b\x07"})))
    local.run(5)
    for format in ((), ("--format", "{{.Actor.Attributes.image}}"), ("--format", "json")):
        assert "\x1b" not in invoke(*PAST, *format).stdout
