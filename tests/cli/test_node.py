"""`vxtool node`: a swarm's nodes in Docker's tables and words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from click.testing import Result

from tests.swarm.local import LocalSwarm
from vxtool.cli import swarming
from vxtool.model import Availability, Role
from vxtool.swarm.objects import Platform, ServiceSpec, TaskSpec

Invoke = Callable[..., Result]


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> LocalSwarm:
    local = LocalSwarm("vm1", "vm2", "vm10")
    monkeypatch.setattr(swarming, "swarm", lambda _: local.client)
    return local


def _down(local: LocalSwarm, node: str) -> None:
    local.agents.cut(node)
    local.run(30)


# -- ls --------------------------------------------------------------------------------------------------------------------


def test_ls_is_docker_s_table_sorted_by_the_numbers_in_names(local: LocalSwarm, invoke: Invoke) -> None:
    assert invoke("node", "ls").stdout == (
        "ID        HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION\n"
        "vm1 *     vm1        Ready     Active         Leader           19.03.15\n"
        "vm2       vm2        Ready     Active                          19.03.15\n"
        "vm10      vm10       Ready     Active                          19.03.15\n"
    )


def test_ls_shows_what_is_down_and_drained(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("node", "update", "--availability", "drain", "vm10")
    _down(local, "vm2")
    lines = invoke("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}} {{.Self}}").stdout.splitlines()
    assert lines == ["vm1 Ready Active true", "vm2 Down Active false", "vm10 Ready Drain false"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["name=vm1"], ["vm1", "vm10"]),
        (["id=vm2"], ["vm2"]),
        (["role=worker"], ["vm2", "vm10"]),
        (["role=worker", "role=manager"], ["vm1", "vm2", "vm10"]),
        (["membership=accepted", "role=manager"], ["vm1"]),
        (["membership=pending"], []),
        (["node.label=disk"], ["vm1", "vm2"]),
        (["node.label=disk=ssd"], ["vm2"]),
        (["node.label=disk", "node.label=fast"], ["vm2"]),
        (["label=zone"], []),
    ],
)
def test_ls_filters_as_swarmkit_does(local: LocalSwarm, invoke: Invoke, filters: list[str], expected: list[str]) -> None:
    invoke("node", "update", "--label-add", "disk=hdd", "vm1")
    invoke("node", "update", "--label-add", "disk=ssd", "--label-add", "fast", "vm2")
    options = [word for text in filters for word in ("--filter", text)]
    assert invoke("node", "ls", "-q", *options).stdout.split() == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("role=boss", "Invalid role filter: 'boss'"),
        ("color=red", "invalid filter 'color'"),
        ("name", "bad format of filter (expected name=value)"),
        ("membership=x", "Invalid membership filter: 'x'"),
    ],
)
def test_ls_refuses_filters_that_it_does_not_know(local: LocalSwarm, invoke: Invoke, text: str, sentence: str) -> None:
    done = invoke("node", "ls", "-f", text)
    assert (done.exit_code, sentence in done.stderr) == (2, True)


def test_ls_as_json_has_docker_s_fields(local: LocalSwarm, invoke: Invoke) -> None:
    first = json.loads(invoke("node", "ls", "--format", "json").stdout.splitlines()[0])
    assert first == {
        "Availability": "Active",
        "EngineVersion": "19.03.15",
        "Hostname": "vm1",
        "ID": "vm1",
        "ManagerStatus": "Leader",
        "Self": True,
        "Status": "Ready",
        "TLSStatus": "Unknown",
    }


# -- inspect ---------------------------------------------------------------------------------------------------------------


def test_inspect_is_a_list_of_documents_in_the_order_of_the_names(local: LocalSwarm, invoke: Invoke) -> None:
    documents = json.loads(invoke("node", "inspect", "vm2", "self").stdout)
    assert [document["ID"] for document in documents] == ["vm2", "vm1"]
    assert documents[1]["ManagerStatus"] == {"Leader": True, "Reachability": "reachable", "Addr": "192.0.2.1:2377"}
    assert "ManagerStatus" not in documents[0]


def test_inspect_says_what_is_not_there_and_shows_the_rest(local: LocalSwarm, invoke: Invoke) -> None:
    done = invoke("node", "inspect", "vm9", "vm2")
    assert (done.exit_code, done.stderr) == (1, "node vm9 not found\n")
    assert [document["ID"] for document in json.loads(done.stdout)] == ["vm2"]


def test_inspect_takes_a_template(local: LocalSwarm, invoke: Invoke) -> None:
    shown = invoke("node", "inspect", "--format", "{{.Description.Hostname}} {{.Status.Addr}}{{if .ManagerStatus}} manager{{end}}", "vm1", "vm2")
    assert shown.stdout == "vm1 192.0.2.1 manager\nvm2 192.0.2.2\n"


def test_inspect_for_people_is_laid_out_as_docker_s(local: LocalSwarm, invoke: Invoke) -> None:
    with local.swarm.store.transaction() as change:
        node = local.swarm.store.nodes["vm1"]
        plugins = (("Network", "overlay"), ("Log", "json-file"), ("Network", "bridge"))
        change.node(node, replace(node, labels={"disk": "ssd", "fast": ""}, platform=Platform("linux", "x86_64"), plugins=plugins))
    assert invoke("node", "inspect", "--pretty", "self").stdout == (
        "ID:\t\t\tvm1\n"
        "Labels:\n"
        " - disk=ssd\n"
        " - fast\n"
        "Hostname:              \tvm1\n"
        "Joined at:             \t2023-11-14 22:13:20 +0000 utc\n"
        "Status:\n"
        " State:\t\t\tReady\n"
        " Availability:         \tActive\n"
        " Address:\t\t192.0.2.1\n"
        "Manager Status:\n"
        " Address:\t\t192.0.2.1:2377\n"
        " Raft Status:\t\tReachable\n"
        " Leader:\t\tYes\n"
        "Platform:\n"
        " Operating System:\tlinux\n"
        " Architecture:\t\tx86_64\n"
        "Resources:\n"
        " CPUs:\t\t\t4\n"
        " Memory:\t\t8GiB\n"
        "Plugins:\n"
        " Log:\t\tjson-file\n"
        " Network:\t\toverlay, bridge\n"
        "Engine Version:\t\t19.03.15\n"
    )
    assert "--format is incompatible with human friendly format" in invoke("node", "inspect", "--pretty", "--format", "x", "self").stderr


def test_a_label_cannot_reach_the_terminal_as_a_control_character(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("node", "update", "--label-add", "a=\x1b[31mred", "vm1")
    for options in (("--pretty",), (), ("--format", "{{.Spec.Labels.a}}")):
        assert "\x1b" not in invoke("node", "inspect", *options, "vm1").stdout


# -- update, promote, demote, rm ---------------------------------------------------------------------------------------------


def test_update_changes_labels_and_availability_and_prints_the_name(local: LocalSwarm, invoke: Invoke) -> None:
    invoke("node", "update", "--label-add", "disk=ssd", "--label-add", "old", "vm2")
    assert invoke("node", "update", "--availability", "pause", "--label-rm", "old", "--label-add", "disk=hdd", "vm2").stdout == "vm2\n"
    node = local.client.view().node("vm2")
    assert (node.availability, node.labels) == (Availability.PAUSE, {"disk": "hdd"})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--availability", "off", "vm2"), 'invalid Availability: "off"'),
        (("--role", "boss", "vm2"), 'invalid Role: "boss"'),
        (("--role", "manager", "vm2"), "node vm2 cannot be promoted: the lab has one manager and no Raft"),
        (("--role", "worker", "vm1"), "attempting to demote the last manager of the swarm"),
        (("--label-rm", "gone", "vm2"), "key gone doesn't exist in node's labels"),
        (("--label-add", "a=b", "vm9"), "node vm9 not found"),
    ],
)
def test_update_refuses_in_docker_s_words(local: LocalSwarm, invoke: Invoke, options: tuple[str, ...], sentence: str) -> None:
    done = invoke("node", "update", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_draining_moves_the_tasks_to_other_nodes(local: LocalSwarm, invoke: Invoke) -> None:
    local.client.create_service(ServiceSpec("web", TaskSpec("httpd"), replicas=6))
    local.run(5)
    invoke("node", "update", "--availability", "drain", "vm2")
    local.run(20)
    running = [task.node for task in local.client.view().tasks.values() if task.state.name == "RUNNING"]
    assert len(running) == 6
    assert "vm2" not in running


def test_there_is_one_manager_and_stays_one(local: LocalSwarm, invoke: Invoke) -> None:
    assert invoke("node", "promote", "vm1").stdout == "Node vm1 is already a manager.\n"
    assert invoke("node", "demote", "vm2").stdout == "Node vm2 is already a worker.\n"
    assert "the lab has one manager and no Raft" in invoke("node", "promote", "vm2").stderr
    assert "attempting to demote the last manager of the swarm" in invoke("node", "demote", "vm1").stderr
    assert [node.id for node in local.client.view().nodes.values() if node.role is Role.MANAGER] == ["vm1"]


def test_rm_takes_nodes_that_are_down_and_others_by_force(local: LocalSwarm, invoke: Invoke) -> None:
    _down(local, "vm2")
    done = invoke("node", "rm", "vm1", "vm2", "vm10", "vm9")
    assert (done.exit_code, done.stdout) == (1, "vm2\n")
    assert [line.split(" ", 2)[1] for line in done.stderr.splitlines()] == ["vm1", "vm10", "vm9"]
    assert "node vm10 is not down and can't be removed" in done.stderr
    assert invoke("node", "rm", "--force", "vm10").stdout == "vm10\n"
    assert list(local.client.view().nodes) == ["vm1"]


# -- ps --------------------------------------------------------------------------------------------------------------------


def test_ps_lists_the_manager_s_tasks_or_those_of_the_named_nodes(local: LocalSwarm, invoke: Invoke) -> None:
    local.client.create_service(ServiceSpec("web", TaskSpec("httpd"), replicas=6))
    local.run(5)
    ps = ("node", "ps", "--format", "{{.Name}} {{.Node}} {{.DesiredState}} {{.CurrentState}}")
    assert {tuple(line.split()[1:4]) for line in invoke(*ps).stdout.splitlines()} == {("vm1", "Running", "Running")}
    both = [line.split()[:2] for line in invoke(*ps, "vm2", "vm10", "vm2").stdout.splitlines()]
    assert [name for name, _ in both] == sorted(name for name, _ in both)
    assert sorted(node for _, node in both) == ["vm10", "vm10", "vm2", "vm2"]


def test_ps_says_which_node_is_not_there_and_shows_the_others(local: LocalSwarm, invoke: Invoke) -> None:
    local.client.create_service(ServiceSpec("web", TaskSpec("httpd"), replicas=3))
    local.run(5)
    done = invoke("node", "ps", "-q", "vm9", "vm2")
    assert (done.exit_code, done.stderr, len(done.stdout.split())) == (1, "node vm9 not found\n", 1)
    alone = invoke("node", "ps", "vm9")
    assert (alone.exit_code, alone.stdout) == (1, "")


def test_ps_filters_by_desired_state(local: LocalSwarm, invoke: Invoke) -> None:
    local.client.create_service(ServiceSpec("web", TaskSpec("httpd"), replicas=3))
    local.run(5)
    invoke("node", "update", "--availability", "drain", "vm2")
    local.run(20)
    assert invoke("node", "ps", "-q", "--filter", "desired-state=running", "vm2").stdout == ""
    assert len(invoke("node", "ps", "-q", "--filter", "desired-state=shutdown", "vm2").stdout.split()) == 1
