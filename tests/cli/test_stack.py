"""`vxtool stack`: Compose files deployed, listed and removed from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.model import TaskState

Invoke = Callable[..., Result]

TEXT = """
services:
  web:
    image: httpd
    ports: ["8080:80"]
    build: .
    depends_on: [db]
    deploy: {replicas: "${REPLICAS:-2}"}
  db: {image: echo, networks: [back]}
networks: {back: {}}
"""


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> LocalSwarm:
    local = LocalSwarm()
    monkeypatch.setattr(swarming, "swarm", lambda lab: local.client)
    return local


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "compose.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def demo(swarm: LocalSwarm, file: Path, invoke: Invoke) -> LocalSwarm:
    invoke("stack", "deploy", "-c", file, "demo")
    swarm.run(3)
    return swarm


def test_deploy_says_what_it_makes_and_what_it_passes_over(swarm: LocalSwarm, file: Path, invoke: Invoke) -> None:
    result = invoke("stack", "deploy", "--compose-file", file, "demo")
    assert result.exit_code == 0
    assert result.stdout == ("Creating network demo_back\nCreating network demo_default\nCreating service demo_db\nCreating service demo_web\n")
    assert result.stderr == "Ignoring unsupported options: build\n\nIgnoring options that the lab does not have: depends_on\n\n"


def test_deploying_again_updates_and_the_environment_counts(demo: LocalSwarm, file: Path, invoke: Invoke) -> None:
    result = invoke("stack", "deploy", "-c", file, "demo", REPLICAS="5")
    ids = {service.spec.name: service.id for service in demo.client.view().services.values()}
    assert result.stdout == f"Updating service demo_db (id: {ids['demo_db']})\nUpdating service demo_web (id: {ids['demo_web']})\n"
    demo.run(3)
    running = [task for task in demo.client.view().tasks.values() if task.state is TaskState.RUNNING]
    assert len(running) == 6


@pytest.mark.parametrize("flag", ["--detach=false", "-d=false", "--wait"])
def test_deploy_waits_only_when_it_is_told_to(swarm: LocalSwarm, file: Path, invoke: Invoke, flag: str) -> None:
    result = invoke("stack", "deploy", flag, "-c", file, "demo")
    assert result.exit_code == 0, result.output
    ids = [service.id for service in swarm.client.view().services.values()]
    assert all(f"verify: Service {id} converged" in result.stdout for id in ids)
    assert all(task.state is TaskState.RUNNING for task in swarm.client.view().tasks.values())


def test_deploy_reads_standard_input_and_several_files(swarm: LocalSwarm, file: Path, invoke: Invoke) -> None:
    result = invoke("stack", "up", "-c", file, "-c", "-", "demo", stdin=b"services: {more: {image: echo}}")
    assert "Creating service demo_more\n" in result.stdout


def test_deploy_prunes_what_is_no_longer_named(demo: LocalSwarm, invoke: Invoke) -> None:
    result = invoke("stack", "deploy", "--prune", "-c", "-", "demo", stdin=b"services: {web: {image: httpd}}")
    assert result.stdout.startswith("Removing service demo_db\nUpdating service demo_web")


def test_a_file_of_variables_is_found_beside_the_compose_file(swarm: LocalSwarm, tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.env").write_text("COLOUR=blue\n")
    (tmp_path / "c.yaml").write_text("services: {web: {image: httpd, env_file: a.env}}")
    invoke("stack", "deploy", "-c", tmp_path / "c.yaml", "demo")
    (service,) = swarm.client.view().services.values()
    assert service.spec.task.env == ("COLOUR=blue",)


WRONG = {
    "services: {web: {image: httpd, foo: 1}}": "stdin, line 1: services.web Additional property foo is not allowed",
    "services: {web: {image: httpd, env_file: nowhere.env}}": "services.web.env_file.0 cannot be read: open nowhere.env: no such file or directory",
    'services: {web: {image: httpd, networks: [x]}}\nnetworks: {x: {name: "a\\x1bb"}}': "failed to create network a\\x1bb: name must be valid",
    "services: {web: {image: httpd, networks: [x]}}\nnetworks: {x: {external: true}}": 'network "x" is declared as external, but could not be found',
    "services: {'web.a': {image: httpd}}": "failed to create service demo_web.a: name must be valid as a DNS name component",
    "x-a: &a {image: httpd, ports: ['80:80']}\nservices: {a: *a, b: *a}": "failed to create service demo_b: port '80' is already in use",
    "[": ": this is not YAML: ",
    "\x00": "stdin: this is not YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_deployed_is_one_sentence(swarm: LocalSwarm, invoke: Invoke, text: str) -> None:
    result = invoke("stack", "deploy", "-c", "-", "demo", stdin=text.encode())
    assert WRONG[text] in result.stderr
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "\x1b" not in result.output


def test_what_is_no_text_or_no_file_is_refused(swarm: LocalSwarm, invoke: Invoke) -> None:
    assert "stdin: this is not UTF-8 (byte 1)" in invoke("stack", "deploy", "-c", "-", "demo", stdin=b"a\xff").stderr
    assert "open /nowhere: no such file or directory" in invoke("stack", "deploy", "-c", "/nowhere", "demo").stderr
    assert "/dev/zero: more than 16 MB; this is no Compose file" in invoke("stack", "deploy", "-c", "/dev/zero", "demo").stderr
    assert "specify a Compose file (with --compose-file)" in invoke("stack", "deploy", "demo").stderr
    assert 'invalid stack name: " "' in invoke("stack", "deploy", "-c", "-", " ", stdin=b"").stderr


def test_ls_counts_the_services_of_stacks_in_the_order_of_their_numbers(demo: LocalSwarm, file: Path, invoke: Invoke) -> None:
    for name in ("s10", "s9"):
        invoke("stack", "deploy", "-c", "-", name, stdin=b"services: {web: {image: httpd}}")
    assert invoke("stack", "ls").stdout == "NAME      SERVICES\ndemo      2\ns9        1\ns10       1\n"
    assert invoke("stack", "list", "--format", "{{.Name}}={{.Services}}").stdout == "demo=2\ns9=1\ns10=1\n"
    assert json.loads(invoke("stack", "ls", "--format", "json").stdout.splitlines()[0]) == {"Name": "demo", "Services": "2"}


def test_services_are_listed_as_service_ls_lists_them(demo: LocalSwarm, invoke: Invoke) -> None:
    invoke("stack", "deploy", "-c", "-", "other", stdin=b"services: {web: {image: httpd}}")
    result = invoke("stack", "services", "demo")
    head, db, web = result.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"]
    assert db.split()[1:] == ["demo_db", "replicated", "1/1", "echo:latest"]
    assert web.split()[1:] == ["demo_web", "replicated", "2/2", "httpd:latest", "*:8080->80/tcp"]
    assert invoke("stack", "services", "--filter", "name=demo_db", "--format", "{{.Name}}", "demo").stdout == "demo_db\n"
    assert invoke("stack", "services", "nowhere").stderr == "Nothing found in stack: nowhere\n"


def test_ps_lists_the_tasks_of_all_services_of_the_stack(demo: LocalSwarm, invoke: Invoke) -> None:
    result = invoke("stack", "ps", "demo", "--format", "{{.Name}} {{.DesiredState}}")
    assert result.stdout == "demo_db.1 Running\ndemo_web.1 Running\ndemo_web.2 Running\n"
    nothing = invoke("stack", "ps", "nowhere")
    assert (nothing.exit_code, nothing.stderr) == (2, "vxtool: nothing found in stack: nowhere\n")


def test_rm_removes_services_then_networks_and_tells_what_is_not_there(demo: LocalSwarm, invoke: Invoke) -> None:
    result = invoke("stack", "down", "demo", "nowhere")
    assert result.stdout == ("Removing service demo_db\nRemoving service demo_web\nRemoving network demo_back\nRemoving network demo_default\n")
    assert (result.stderr, result.exit_code) == ("Nothing found in stack: nowhere\n", 0)
    assert invoke("stack", "ls", "--format", "{{.Name}}").stdout == ""


def test_config_prints_what_deploy_would_read(swarm: LocalSwarm, file: Path, invoke: Invoke) -> None:
    printed = invoke("stack", "config", "-c", file, REPLICAS="3").stdout
    assert "replicas: 3\n" in printed
    invoke("stack", "deploy", "-c", file, "one", REPLICAS="3")
    invoke("stack", "deploy", "-c", "-", "one", stdin=printed.encode())
    assert all(service.previous_spec == service.spec for service in swarm.client.view().services.values())
    assert (
        "COLOUR: ${COLOUR}"
        in invoke("stack", "config", "--skip-interpolation", "-c", "-", stdin=b"services: {w: {image: a, environment: {COLOUR: '${COLOUR}'}}}").stdout
    )


@pytest.mark.parametrize("verb", ["config", "deploy", "ls", "ps", "rm", "services"])
def test_every_verb_of_a_stack_has_help_with_an_example(invoke: Invoke, verb: str) -> None:
    assert f"vxtool stack {verb} " in invoke("stack", verb, "--help").stdout.replace("Usage: vxtool", "") or verb == "ls"
