"""`vxtool service`: what its user sees while services converge, fail, are rolled back; and what mistakes are answered with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.cli.conftest import Invoke
from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.cli.service import converging
from vxtool.cli.service.ls import published
from vxtool.model import PublishMode, TaskState
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.facade import Networks, Services
from vxtool.swarm.objects import PortConfig, Task
from vxtool.swarm.view import View

Service = Callable[..., Result]


def _outcome(task: Task) -> TaskState | None:
    """What a task's program comes to: its image says it."""
    return {"crash:1": TaskState.FAILED, "done:1": TaskState.COMPLETE}.get(task.spec.image)


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> LocalSwarm:
    swarm = LocalSwarm("vm1", "vm2", "vm3", outcome=_outcome)
    monkeypatch.setattr(swarming, "swarm", lambda lab: swarm.client)
    Networks(swarm.client).create("web")
    return swarm


@pytest.fixture
def service(swarm: LocalSwarm, invoke: Invoke) -> Service:
    return lambda *words: invoke("service", *words)


def test_create_prints_the_id_and_waits_until_all_tasks_run_and_are_stable(swarm: LocalSwarm, service: Service) -> None:
    began = swarm.swarm.now
    told = service("create", "--name", "web", "--network", "web", "--publish", "80:80", "--replicas", "3", "httpd")
    id = swarm.client.view().service("web").id
    lines = told.output.splitlines()
    assert told.exit_code == 0
    assert lines[:2] == [id, "overall progress: 0 out of 3 tasks"]
    assert lines[-2:] == ["verify: Waiting 1 seconds to verify that tasks are stable...", f"verify: Service {id} converged"]
    assert "overall progress: 3 out of 3 tasks" in lines
    assert 5 <= swarm.swarm.now - began < 6


def test_a_line_of_progress_is_said_once(service: Service) -> None:
    lines = service("create", "--name", "web", "httpd").output.splitlines()
    assert len(lines) == len(set(lines))


def test_detached_and_quiet_only_the_id_is_printed(swarm: LocalSwarm, service: Service) -> None:
    began = swarm.swarm.now
    detached = service("create", "--name", "a", "--detach=true", "httpd")
    assert swarm.swarm.now == began
    quiet = service("create", "--name", "b", "--quiet", "--detach=false", "httpd")
    assert swarm.swarm.now > began + 5
    view = swarm.client.view()
    assert (detached.output, quiet.output) == (f"{view.service('a').id}\n", f"{view.service('b').id}\n")


def test_an_update_that_fails_is_paused_and_told_of(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--detach", "httpd")
    swarm.run(10)
    told = service("update", "--image", "crash:1", "--quiet", "web")
    assert told.exit_code == 1
    assert re.fullmatch(
        r"service update paused: update paused due to failure or early termination of task \w{25}\n", told.stderr.rpartition("\n\n")[2]
    )


def test_an_update_that_fails_and_is_rolled_back_says_so_and_converges(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--detach", "--update-failure-action", "rollback", "httpd")
    swarm.run(10)
    told = service("update", "--image", "crash:1", "web")
    assert told.exit_code == 0
    assert "rollback: update rolled back due to failure or early termination of task" in told.output
    assert "overall progress: rolling back update: 1 out of 1 tasks" in told.output
    assert told.output.endswith("converged\nrollback: rollback completed\n") or "verify: Service" in told.output
    assert swarm.client.view().service("web").spec.task.image == "httpd:latest"


def test_ctrl_c_leaves_the_operation_going_on(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(client: SwarmClient, seconds: float) -> View:
        raise KeyboardInterrupt

    monkeypatch.setattr(SwarmClient, "wait", interrupted)
    told = service("create", "--name", "web", "httpd")
    id = swarm.client.view().service("web").id
    assert told.exit_code == 0
    assert told.output.endswith(f"Operation continuing in background.\nUse `vxtool service ps {id}` to check progress.\n")


def test_a_service_that_is_removed_meanwhile_ends_the_waiting(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = SwarmClient.wait

    def removing(client: SwarmClient, seconds: float) -> View:
        Services(client).remove("web")
        return wait(client, seconds)

    monkeypatch.setattr(SwarmClient, "wait", removing)
    told = service("create", "--name", "web", "httpd")
    assert told.exit_code == 2
    assert "no such service: " in told.stderr


def test_a_job_ends_with_its_completions(service: Service) -> None:
    told = service("create", "--name", "job", "--mode", "replicated-job", "--replicas", "3", "--max-concurrent", "2", "done:1")
    lines = told.output.splitlines()
    assert "job progress: 0 out of 3 complete" in lines
    assert "active tasks: 2 out of 2 tasks" in lines
    assert "job progress: 3 out of 3 complete" in lines
    assert lines[-1] == "job complete"
    assert service("ls", "--format", "{{.Mode}} {{.Replicas}}").output == "replicated job 0/2 (3/3 completed)\n"


def test_a_global_job_ends_on_every_node(service: Service) -> None:
    told = service("create", "--name", "job", "--mode", "global-job", "done:1")
    assert told.output.splitlines()[-2:] == ["job progress: 3 out of 3 complete", "job complete"]
    assert service("ls", "--format", "{{.Mode}} {{.Replicas}}").output == "global job 0/0 (3/3 completed)\n"


def test_a_task_that_finds_no_node_says_why_while_one_waits(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(3))
    wait = SwarmClient.wait

    def some(client: SwarmClient, seconds: float) -> View:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return wait(client, seconds)

    monkeypatch.setattr(SwarmClient, "wait", some)
    told = service("create", "--name", "big", "--reserve-memory", "1t", "httpd")
    assert "1/1: no suitable node (insufficient resources on 3 nodes)" in told.output


def test_a_task_fails_while_its_stability_is_watched(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service("create", "--name", "web", "--replicas", "1", "--restart-delay", "1s", "--detach", "httpd")
    swarm.run(2)
    lines: list[tuple[str, str]] = []

    class Told:
        def put(self, name: str, text: str, part: float | None = None) -> None:
            lines.append((name, text))
            if text.startswith("Waiting 3 "):
                monkeypatch.setattr(swarm.agents, "outcome", lambda task: TaskState.FAILED if len(_tasks(swarm)) == 1 else None)

        def say(self, text: str) -> None:
            lines.append(("", text))

    assert converging.wait_for(swarm.client, swarm.client.view().service("web").id, out=Told()) == 0
    assert ("verify", "Detected task failure") in lines
    assert lines[-1][1].endswith("converged")


def _tasks(swarm: LocalSwarm) -> list[Task]:
    return list(swarm.swarm.store.tasks.values())


def _screen(text: str) -> list[str]:
    """What a terminal shows: cursor up and down, carriage return, line cleared."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row - len(lines) + 1)
        elif piece == "\r":
            column = 0
        elif piece.endswith("A") and piece.startswith("\x1b"):
            row -= int(piece[2:-1])
        elif piece.endswith("B") and piece.startswith("\x1b"):
            row += int(piece[2:-1])
        elif piece == "\x1b[2K":
            lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return lines


def test_on_a_terminal_lines_are_written_over(swarm: LocalSwarm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    service = Services(swarm.client).create("web", image="httpd", replicas=2)
    assert converging.wait_for(swarm.client, service.id, out=converging._Terminal()) == 0
    bar = "=" * 50
    assert _screen(capsys.readouterr().out) == [
        "overall progress: 2 out of 2 tasks",
        f"1/2: running   [{bar}>]",
        f"2/2: running   [{bar}>]",
        f"verify: Service {service.id} converged",
        "",
    ]


def test_nothing_of_a_task_reaches_the_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for lines in (converging._Terminal(), converging._Plain()):
        lines.put("1/1", "bad\x1b]0;x\x07\nmore")
        assert capsys.readouterr().out == "1/1: bad?]0;x? more\n"


def test_after_two_dashes_stands_any_command(swarm: LocalSwarm, service: Service) -> None:
    assert service("create", "--name", "clock", "--detach", "--", "sh", "-c", "date", "--", "x").exit_code == 0
    spec = swarm.client.view().service("clock").spec.task
    assert (spec.image, spec.args) == ("host:latest", ("sh", "-c", "date", "--", "x"))


def test_an_image_that_nobody_knows_is_warned_of_as_docker_warns(service: Service) -> None:
    told = service("create", "--name", "web", "--detach", "foo/bar:1")
    assert told.exit_code == 0
    assert told.stderr.startswith(
        "image foo/bar:1 could not be accessed on a registry to record\nits digest. Each node will access foo/bar:1 independently,\n"
    )


def test_variables_come_from_files_and_from_the_caller(swarm: LocalSwarm, invoke: Invoke, tmp_path: Any) -> None:
    (tmp_path / "vars").write_text("# all\nA=1\nB=2\nMINE\n")
    invoke("service", "create", "--name", "a", "-d", "--env-file", tmp_path / "vars", "-e", "B=3", "-e", "MINE", "httpd", MINE="x")
    assert swarm.client.view().service("a").spec.task.env == ("A=1", "B=3", "MINE=x")


def test_ps_lists_the_past_of_a_slot_beneath_it(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--replicas", "2", "--detach", "httpd")
    swarm.run(5)
    service("update", "--env-add", "A=1", "--update-parallelism", "0", "--detach", "web")
    swarm.run(5)
    names = [line.split("   ")[1].strip() for line in service("ps", "web").output.splitlines()[1:]]
    assert names == ["web.1", r"\_ web.1", "web.2", r"\_ web.2"]
    assert service("ps", "web", "-f", "desired-state=running", "--format", "{{.Name}}").output == "web.1\nweb.2\n"
    assert service("ps", "web", "-f", "node=vm1", "--format", "{{.Node}}").output.splitlines() == ["vm1"] * 2


def test_a_task_on_a_node_that_is_down_is_not_counted(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--replicas", "3", "--detach", "httpd")
    swarm.run(5)
    swarm.agents.cut("vm3")
    swarm.run(30)
    assert service("ls", "--format", "{{.Replicas}}").output == "3/3\n"


PUBLISHED = (
    ((), ""),
    (((80, 80),), "*:80->80/tcp"),
    (((80, 80), (81, 81), (82, 82)), "*:80-82->80-82/tcp"),
    (((80, 80), (81, 80)), "*:80-81->80/tcp"),
    (((80, 80), (81, 81), (82, 80)), "*:80-81->80-81/tcp, *:82->80/tcp"),
    (((80, 80), (90, 81)), "*:80->80/tcp, *:90->81/tcp"),
)


@pytest.mark.parametrize(("ports", "text"), PUBLISHED)
def test_published_ports_that_go_on_are_taken_together(ports: tuple[tuple[int, int], ...], text: str) -> None:
    given = tuple(PortConfig(target, number) for number, target in ports)
    assert published((*given, PortConfig(9, 9, mode=PublishMode.HOST))) == text


def test_scale_changes_what_it_can_and_tells_the_rest(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--detach", "httpd")
    service("create", "--name", "all", "--mode", "global", "--detach", "httpd")
    told = service("scale", "--detach", "web=4", "all=2", "web", "web=x")
    assert told.exit_code == 1
    assert told.stdout == "web scaled to 4\n"
    assert told.stderr.splitlines() == [
        "all: scale can only be used with replicated or replicated-job mode",
        "invalid scale specifier 'web': give SERVICE=REPLICAS, as in web=5",
        'web: invalid replicas value x: strconv.ParseUint: parsing "x": invalid syntax',
    ]
    assert swarm.client.view().service("web").spec.replicas == 4


def test_rollback_goes_back_and_forth(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--detach", "--replicas", "2", "httpd")
    service("update", "--replicas", "5", "--detach", "web")
    assert service("update", "--rollback", "--detach", "web").output == "web\n"
    assert swarm.client.view().service("web").spec.replicas == 2
    service("rollback", "--detach", "web")
    assert swarm.client.view().service("web").spec.replicas == 5


def test_explain_tells_where_the_next_task_goes_and_why_not_elsewhere(service: Service) -> None:
    service("create", "--name", "web", "--detach", "--constraint", "node.hostname!=vm3", "--reserve-cpu", "3", "httpd")
    told = service("explain", "web").output.splitlines()
    assert told[0].split("   ")[0] == "RANK"
    assert any("insufficient resources" in line and "cpus: asked 3, free 1" in line for line in told)
    assert any("vm3" in line and "scheduling constraints not satisfied" in line and "node.hostname!=vm3" in line for line in told)
    assert re.fullmatch(r"The next task of web would go to vm[12]: no other node passes the filters", told[-1])


class Logging(SwarmClient):
    """Tasks that have written something; what they write afterwards comes piece by piece."""

    def __init__(self, swarm: LocalSwarm, text: Callable[[str], str]) -> None:
        super().__init__(swarm.ask)
        self._text = text

    def logs(self, task: str, offset: int = 0) -> tuple[str, int]:
        text = self._text(task)[offset : offset + 7]
        return text, offset + len(text)


def test_logs_begin_each_line_with_its_task_and_node(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service("create", "--name", "web", "--detach", "--replicas", "2", "httpd")
    swarm.run(2)
    tasks = {task.slot: task for task in _tasks(swarm)}
    client = Logging(swarm, lambda task: "one\ntwo\x1b[2J\nend" if task == tasks[1].id else "")
    monkeypatch.setattr(swarming, "swarm", lambda lab: client)
    head = f"web.1.{tasks[1].id[:12]}@{tasks[1].node}    | "
    assert service("logs", "web").output == f"{head}one\n{head}two?[2J\n{head}end\n"
    assert service("logs", "--tail", "1", "--raw", "web").output == "end\n"
    assert service("logs", "--no-task-ids", "-n", "2", tasks[1].id).output.startswith(f"web.1@{tasks[1].node}    | two")


def test_logs_stand_in_the_order_of_their_writing(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service("create", "--name", "web", "--detach", "--replicas", "2", "httpd")
    swarm.run(2)
    slots = {task.id: task.slot for task in _tasks(swarm)}
    stamps = ("2023-11-14T22:13:20.000000Z", "2023-11-14T22:13:21.000000Z", "2023-11-14T22:13:22.000000Z")
    texts = {1: f"{stamps[0]} first\n{stamps[2]} third\n", 2: f"{stamps[1]} second\n"}
    monkeypatch.setattr(swarming, "swarm", lambda lab: Logging(swarm, lambda task: texts[slots[task]]))
    assert service("logs", "--raw", "web").output == "first\nsecond\nthird\n"
    assert service("logs", "--raw", "--timestamps", "web").output.splitlines()[1] == f"{stamps[1]} second"
    assert service("logs", "--raw", "--since", "2023-11-14T22:13:21Z", "web").output == "second\nthird\n"
    assert service("logs", "--raw", "--tail", "1", "web").output == "second\nthird\n"


def test_logs_that_are_followed_go_on_until_ctrl_c(swarm: LocalSwarm, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service("create", "--name", "web", "--detach", "httpd")
    swarm.run(2)
    texts = iter(["a\n", "a\nb", "a\nbc\n"])
    told = [""]

    class Growing(Logging):
        def wait(self, seconds: float) -> View:
            told[0] = next(texts, "")
            if not told[0]:
                raise KeyboardInterrupt
            return self.view()

    monkeypatch.setattr(swarming, "swarm", lambda lab: Growing(swarm, lambda task: told[0]))
    told_all = service("logs", "--follow", "--raw", "web")
    assert told_all.output == "a\nbc\n"
    assert told_all.exit_code == 130


MISTAKES = (
    (("create",), "requires at least 1 argument"),
    (("create", "--"), "requires at least 1 argument"),
    (("create", "--limit-cpu", "abc", "httpd"), 'invalid argument "abc" for "--limit-cpu" flag: failed to parse abc as a rational number'),
    (("create", "-p", "80:80:80", "httpd"), 'invalid argument "80:80:80" for "-p, --publish" flag: invalid IP address: 80'),
    (("create", "--mode", "global", "--replicas", "2", "httpd"), "replicas can only be used with replicated or replicated-job mode"),
    (("create", "--network", "nope", "httpd"), "network nope not found"),
    (("create", "--network", "ingress", "httpd"), 'Service cannot be explicitly attached to the ingress network "ingress"'),
    (("create", "--name", "a b", "httpd"), "name must be valid as a DNS name component"),
    (("create", "--constraint", "x", "httpd"), "constraint expected one operator from ==, !="),
    (("create", "--secret", "s", "httpd"), "a lab has no secrets"),
    (("create", "--mount", "type=bind", "httpd"), "a lab has no volumes"),
    (("create", "--tty", "httpd"), "a lab's containers have no terminal of their own: leave --tty out"),
    (("create", "--foo", "httpd"), "no such option"),
    (("create", "HTTPD"), 'ContainerSpec: "HTTPD" is not a valid repository/tag'),
    (("create", "--name", "web", "httpd"), "service web already exists"),
    (("create", "--env-file", "/nonexistent", "httpd"), "/nonexistent: no such file or directory"),
    (("update", "nope"), "service nope not found"),
    (("update", "--rollback", "--force", "web"), "other flags may not be combined with --rollback"),
    (("update", "--secret-add", "s", "web"), "a lab has no secrets"),
    (("update", "--max-concurrent", "2", "web"), "max-concurrent can only be used with replicated-job mode"),
    (("rollback", "web"), "service web does not have a previous spec"),
    (("inspect", "--pretty", "--format", "x", "web"), "--format is incompatible with human friendly format"),
    (("inspect", "--format", "{{.Foo}}", "web"), 'template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
    (("ls", "--filter", "x"), "bad format of filter (expected name=value)"),
    (("ls", "--filter", "x=y"), "invalid filter 'x'"),
    (("ls", "--format", "{{.Foo}}"), "can't evaluate field Foo in type *service.serviceContext"),
    (("ps", "nope"), "no such service: nope"),
    (("ps", "--filter", "desired-state=x", "web"), "invalid desired-state filter: 'x'"),
    (("logs", "nope"), "no such task or service: nope"),
    (("logs", "--details", "web"), "leave --details out"),
    (("logs", "--since", "yesterday", "web"), 'failed to parse value as time or duration: "yesterday"'),
    (("logs", "--tail", "x", "web"), "invalid value for tail"),
    (("explain", "nope"), "no such service: nope"),
)


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_answered_with_one_sentence(swarm: LocalSwarm, service: Service, words: tuple[str, ...], sentence: str) -> None:
    Services(swarm.client).create("web", image="httpd")
    told = service(*words)
    assert told.exit_code == 2
    assert sentence in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_zero_is_a_value_like_any_other(swarm: LocalSwarm, service: Service) -> None:
    none = ("--replicas", "0", "--restart-delay", "0s", "--update-parallelism", "0", "--rollback-parallelism", "0", "--stop-grace-period", "0s")
    assert service("create", "--name", "web", "--detach", *none, "httpd").exit_code == 0
    spec = swarm.client.view().service("web").spec
    assert (spec.replicas, spec.task.restart.delay, spec.update.parallelism, spec.rollback.parallelism, spec.task.stop_grace) == (0, 0, 0, 0, 0)
    assert service("update", "--detach", "--replicas", "2", "web").exit_code == 0
    assert service("update", "--detach", "--replicas", "0", "web").exit_code == 0
    assert swarm.client.view().service("web").spec.replicas == 0


def test_rm_removes_what_it_can(swarm: LocalSwarm, service: Service) -> None:
    service("create", "--name", "web", "--detach", "httpd")
    told = service("rm", "nope", "web")
    assert (told.exit_code, told.stdout, told.stderr) == (1, "web\n", "service nope not found\n")
    assert not swarm.client.view().services


@pytest.mark.parametrize("verb", ["", "create", "ls", "ps", "inspect", "explain", "update", "scale", "rollback", "logs", "rm"])
def test_every_verb_has_help(service: Service, verb: str) -> None:
    told = service(*([verb] if verb else []), "--help")
    assert told.exit_code == 0
    assert "Usage: vxtool service" in told.output or "Usage:" in told.output
