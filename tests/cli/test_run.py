"""`vxtool run`, `ps`, `stop` and `rm`: containers that belong to no service."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.model import NodeState, TaskState
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.objects import (
    Dns,
    HealthCheck,
    NetworkSpec,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    Task,
    TaskNetwork,
    TaskSpec,
)

Invoke = Callable[..., Result]


class Lab:
    """A swarm with an attachable network, whose containers write `log` and end with `outcome`."""

    def __init__(self) -> None:
        self.log = ""
        self.outcome: TaskState | None = None
        self.error = ""
        self.interrupts = 0
        self.swarm = LocalSwarm(outcome=lambda task: self.outcome if not task.service else None)
        self.swarm.client.create_network(NetworkSpec("web", attachable=True))
        self.swarm.client.create_network(NetworkSpec("closed"))
        self.swarm.run(1)
        self.client = SwarmClient(self.ask)

    def ask(self, do: str, /, **arguments: Any) -> Any:
        if do == "logs":
            text = self.log[arguments["offset"] :][:7]  # pieces end where they like
            return {"text": text, "offset": arguments["offset"] + len(text)}
        if do == "wait" and self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return self.swarm.ask(do, **arguments)

    def container(self, name: str) -> Task:
        return next(task for task in self.client.view().tasks.values() if task.spec.container == name)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab()
    monkeypatch.setattr(swarming, "swarm", lambda name: lab.client)
    return lab


def test_a_container_in_the_background_prints_its_id_and_runs_on_the_manager_s_node(lab: Lab, invoke: Invoke) -> None:
    result = invoke("run", "-d", "--network", "web", "--name", "probe", "httpd")
    lab.swarm.run(2)
    task = lab.container("probe")
    assert (result.stdout, result.exit_code) == (f"{lab.client.view().container_id(task)}\n", 0)
    assert (task.node, task.state, task.spec.image, task.spec.args) == ("vm1", TaskState.RUNNING, "httpd", ())


SAID = {
    "--node vm2 httpd": ("node", "vm2"),
    "httpd -p 80": ("spec.args", ("-p", "80")),
    "-- sleep 5": ("spec.args", ("sleep", "5")),
    "-- sleep -- 5": ("spec.args", ("sleep", "--", "5")),
    "httpd -- 5": ("spec.args", ("--", "5")),
    "--rm -- httpd": ("spec.image", "host"),
    "--entrypoint /bin/cat httpd a": ("spec.command", ("/bin/cat",)),
    "-e A=1 -e B -e A=2 -e NOWHERE httpd": ("spec.env", ("A=2", "B=mine")),
    "-u 1000:1000 httpd": ("spec.user", "1000:1000"),
    "-w /srv httpd": ("spec.workdir", "/srv"),
    "--hostname h httpd": ("spec.hostname", "h"),
    "-l a=b -l c httpd": ("spec.labels", {"a": "b", "c": ""}),
    "--add-host db:10.0.0.9 httpd": ("spec.hosts", ("db:10.0.0.9",)),
    "--dns 192.0.2.1 --dns-search a.net --dns-option ndots:2 httpd": ("spec.dns", Dns(("192.0.2.1",), ("a.net",), ("ndots:2",))),
    "-m 64m --cpus 0.5 --pids-limit 9 httpd": ("spec.limits", Resources(500_000_000, 64 << 20, pids=9)),
    "--pids-limit -1 httpd": ("spec.limits", Resources()),
    "--restart on-failure:3 httpd": ("spec.restart", RestartPolicy(RestartCondition.ON_FAILURE, 0.1, 3)),
    "--restart always httpd": ("spec.restart", RestartPolicy(RestartCondition.ANY, 0.1)),
    "httpd": ("spec.restart.condition", RestartCondition.NONE),
    "--stop-signal SIGINT --stop-timeout 3 httpd": ("spec.stop_grace", 3.0),
    "--health-cmd true --health-interval 2s httpd": ("spec.health", HealthCheck(("CMD-SHELL", "true"), 2.0)),
    "--no-healthcheck httpd": ("spec.health", HealthCheck(("NONE",))),
}


@pytest.mark.parametrize("line", SAID)
def test_what_an_option_says(lab: Lab, invoke: Invoke, line: str) -> None:
    lab.outcome = TaskState.COMPLETE if "--rm" in line else None
    words = ["run", "--network", "web", "--name", "probe", *([] if "--rm" in line else ["-d"]), *line.split()]
    seen: dict[str, Any] = {}
    ask = lab.ask
    lab.client = SwarmClient(lambda do, /, **how: seen.setdefault(do, ask(do, **how)) if do == "container.run" else ask(do, **how))
    result = invoke(*words, B="mine")
    assert result.exit_code == 0, result.output
    from vxtool.model.plain import revive

    value: Any = revive(Task, seen["container.run"])
    field, wanted = SAID[line]
    for step in field.split("."):
        value = getattr(value, step)
    assert value == wanted


def test_it_has_the_address_and_the_aliases_that_were_asked_for(lab: Lab, invoke: Invoke) -> None:
    invoke("run", "-d", "--network", "web", "--ip", "10.0.1.77", "--network-alias", "db", "--network-alias", "cache", "--name", "probe", "httpd")
    lab.swarm.run(2)
    (network,) = lab.container("probe").networks
    assert (str(network.address), network.aliases) == ("10.0.1.77/24", ("db", "cache"))


def test_one_without_a_name_is_given_two_words(lab: Lab, invoke: Invoke) -> None:
    invoke("run", "-d", "--network", "web", "httpd")
    (task,) = lab.client.view().tasks.values()
    assert task.spec.container.count("_") == 1


WRONG = {
    "httpd": "a container of the lab runs in an overlay network: --network NAME says in which",
    "--network nowhere httpd": "network nowhere not found",
    "--network closed httpd": "network closed not manually attachable",
    "--network ingress httpd": "network ingress not manually attachable",
    "--network web --ip 10.9.9.9 httpd": "Invalid address 10.9.9.9: It does not belong to any of this network's subnets",
    "--network web --ip a httpd": "invalid IPv4 address: a",
    "--network web --node nowhere httpd": "node nowhere not found",
    "--network web nosuch": "No such image: nosuch:latest",
    "--network web host": "image host is this machine's programs, and none is named: vxtool run [OPTIONS] -- COMMAND...",
    "--network web --name taken httpd": 'Conflict. The container name "/taken" is already in use by container',
    "--network web --restart often httpd": "invalid restart policy: unknown policy 'often'",
    "--network web --restart always:3 httpd": "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    "--network web --restart on-failure:x httpd": "invalid restart policy format: maximum retry count must be an integer",
    "--network web -d --rm httpd": "--rm removes what somebody has waited for",
    "--network web -it httpd": "a container of the lab has no terminal and no input",
    "--network web -p 80:80 httpd": "--publish: a container of the lab publishes no ports: vxtool service create --publish does",
    "--network web -v /a:/b httpd": "--volume: the lab has no volumes",
    "--network web -m 5x httpd": "invalid suffix: 'x'",
    "--network web --env-file /nowhere httpd": "open /nowhere: no such file or directory",
    "--network web -e =1 httpd": "invalid environment variable: =1",
    "--network web --health-cmd a --no-healthcheck httpd": "--no-healthcheck conflicts with --health-* options",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_run_is_refused_with_a_sentence(lab: Lab, invoke: Invoke, line: str) -> None:
    lab.client.run_container(TaskSpec("httpd", container="taken", networks=(TaskNetwork("web"),)), "vm1")
    result = invoke("run", *line.split())
    assert WRONG[line] in result.stderr
    assert result.stderr.count("\n") == 1
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(lab.client.view().tasks) == 1


# -- in the foreground -------------------------------------------------------------------------------------------------


def test_what_it_writes_is_shown_as_it_was_written_and_its_end_is_the_command_s(lab: Lab, invoke: Invoke) -> None:
    lab.log = "2026-11-28T20:13:55.000001Z one\n2026-11-28T20:13:55.000002Z \n2026-11-28T20:13:55.000003Z 2026-01-01Z two"
    lab.outcome = TaskState.COMPLETE
    result = invoke("run", "--network", "web", "--", "true")
    assert (result.stdout, result.stderr, result.exit_code) == ("one\n\n2026-01-01Z two", "", 0)


@pytest.mark.parametrize(
    ("state", "error", "code", "said"),
    [
        (TaskState.FAILED, "task: non-zero exit (3)", 3, ""),
        (TaskState.FAILED, "task: non-zero exit (137): killed", 137, ""),
        (TaskState.REJECTED, "no such \x1bprogram", 125, "vxtool run: no such ?program\n"),
        (TaskState.FAILED, "starting container failed: exec: executable file not found in $PATH", 127, "vxtool run: starting container failed: "),
        (TaskState.FAILED, "starting container failed: exec: permission denied", 126, "vxtool run: starting container failed: "),
        (TaskState.SHUTDOWN, "", 0, ""),
    ],
    ids=str,
)
def test_the_exit_code_is_the_container_s(lab: Lab, invoke: Invoke, state: TaskState, error: str, code: int, said: str) -> None:
    lab.outcome = state
    ask = lab.ask

    def told(do: str, /, **how: Any) -> Any:
        answer = ask(do, **how)
        for task in answer.get("tasks", ()) if do == "view" or do == "wait" else ():
            task["error"] = error
        return answer

    lab.client = SwarmClient(told)
    result = invoke("run", "--network", "web", "--", "program")
    assert (result.stderr[: len(said)], result.exit_code, result.stderr.count("\n")) == (said, code, said != "")


def test_one_that_is_started_again_is_followed_to_its_last_end(lab: Lab, invoke: Invoke) -> None:
    lab.outcome = TaskState.FAILED
    lab.log = "2026-11-28T20:13:55.000001Z again\n"
    result = invoke("run", "--network", "web", "--name", "probe", "--restart", "on-failure:2", "--", "false")
    assert result.stdout == "again\n" * 3


def test_rm_removes_it_when_it_has_ended_and_without_it_stays(lab: Lab, invoke: Invoke) -> None:
    lab.outcome = TaskState.COMPLETE
    invoke("run", "--network", "web", "--name", "stays", "--", "true")
    invoke("run", "--network", "web", "--name", "goes", "--rm", "--", "true")
    lab.swarm.run(2)
    assert [task.spec.container for task in lab.client.view().tasks.values()] == ["stays"]


def test_an_interrupt_stops_it_and_waits_for_its_end(lab: Lab, invoke: Invoke) -> None:
    lab.interrupts = 1
    result = invoke("run", "--network", "web", "--name", "probe", "httpd")
    assert result.exit_code == 130
    assert lab.container("probe").state is TaskState.SHUTDOWN


# -- ps, stop, rm ------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(lab: Lab) -> Lab:
    """A service of three tasks, a container that runs and one that has ended."""
    lab.client.create_service(ServiceSpec("store", TaskSpec("echo", labels={"tier": "back"}), replicas=3))
    lab.swarm.run(2)
    lab.outcome = TaskState.COMPLETE
    lab.client.run_container(TaskSpec("host", args=("a-program-with-a-long-name",), container="ended", networks=(TaskNetwork("web"),)), "vm2")
    lab.swarm.run(2)
    lab.outcome = None
    lab.client.run_container(TaskSpec("httpd:2.4", container="probe", networks=(TaskNetwork("web"),)), "vm3")
    lab.swarm.run(90)
    return lab


def test_ps_lists_what_runs_newest_first(busy: Lab, invoke: Invoke) -> None:
    result = invoke("ps")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NODE", "NAMES"]
    probe = busy.container("probe")
    id = busy.client.view().container_id(probe)[:12]
    assert lines[1].split() == [id, "httpd:2.4", '"httpd"', "About", "a", "minute", "ago", "Up", "About", "a", "minute", "vm3", "probe"]
    assert len(lines) == 5
    assert all(" store." in line for line in lines[2:])


ROWS = {
    "": 4,
    "-a": 5,
    "--node vm2": 1,
    "-a --node vm2": 2,
    "-n 2": 2,
    "-l": 1,
    "--filter name=store": 3,
    "--filter label=tier=back": 3,
    "--filter label=tier=front": 0,
    "--filter label=tier=back --filter label=tier=front": 0,
    "--filter is-task=false": 1,
    "--filter network=web": 1,
    "--filter ancestor=httpd": 1,
    "--filter status=exited": 1,
    "--filter exited=0": 1,
    "--filter node=vm3 --filter node=vm2": 3,
    "-a --filter name=ended --filter name=probe": 2,
}


@pytest.mark.parametrize("line", ROWS)
def test_ps_lists_what_was_asked_for(busy: Lab, invoke: Invoke, line: str) -> None:
    result = invoke("ps", "-q", *line.split())
    assert result.stdout.count("\n") == ROWS[line], result.output


def test_ps_says_how_one_has_ended_and_shortens_its_command(busy: Lab, invoke: Invoke) -> None:
    row = json.loads(invoke("ps", "-a", "--filter", "name=ended", "--format", "json").stdout)
    assert row["Status"] == "Exited (0) About a minute ago"
    assert row["Command"] == '"a-program-with-a-lo…"'
    assert (row["State"], row["Node"], row["Networks"]) == ("exited", "vm2", "web")
    assert invoke("ps", "-a", "--filter", "name=ended", "--no-trunc", "--format", "{{.Command}}").stdout == '"a-program-with-a-long-name"\n'


def test_a_filter_that_is_none_is_refused(busy: Lab, invoke: Invoke) -> None:
    result = invoke("ps", "--filter", "colour=red")
    assert (result.exit_code, "invalid filter 'colour'" in result.stderr) == (2, True)


def test_one_that_runs_is_not_removed_until_it_is_stopped_or_forced(busy: Lab, invoke: Invoke) -> None:
    refused = invoke("rm", "probe", "nowhere")
    assert refused.exit_code == 1
    assert "You cannot remove a running container" in refused.stderr
    assert "No such container: nowhere" in refused.stderr
    stopped = invoke("stop", "probe")
    assert (stopped.stdout, stopped.exit_code) == ("probe\n", 0)
    assert busy.container("probe").state is TaskState.SHUTDOWN
    assert invoke("rm", "probe", "ended").stdout == "probe\nended\n"
    busy.swarm.run(2)
    assert {task.spec.container for task in busy.client.view().tasks.values()} == {""}


def test_a_container_is_removed_by_force_and_by_the_beginning_of_its_id(busy: Lab, invoke: Invoke) -> None:
    begun = busy.client.view().container_id(busy.container("probe"))[:12]
    assert invoke("rm", "-f", begun).stdout == f"{begun}\n"
    busy.swarm.run(5)
    assert "probe" not in {task.spec.container for task in busy.client.view().tasks.values()}


@pytest.mark.parametrize("verb", ["rm", "stop"])
def test_a_service_s_task_is_left_to_its_service(busy: Lab, invoke: Invoke, verb: str) -> None:
    view = busy.client.view()
    name = next(view.task_name(task) for task in view.tasks.values() if task.service)
    result = invoke(verb, name)
    assert result.exit_code == 1
    assert f"container {name} is a task of the service store, which would replace it: vxtool service scale store=N" in result.stderr


def test_a_node_that_is_down_runs_nothing_new(lab: Lab, invoke: Invoke) -> None:
    lab.swarm.agents.cut("vm2")
    lab.swarm.run(60)
    assert lab.client.view().nodes["vm2"].state is NodeState.DOWN
    result = invoke("run", "-d", "--network", "web", "--node", "vm2", "httpd")
    assert "node vm2 is down: it can run no container now" in result.stderr
