"""`vxtool swarm`: a lab's nodes become a swarm, in Docker's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

from tests.cli.swarm_of_a_lab import SwarmOfALab
from vxtool.cli import swarming
from vxtool.cli.swarm import places
from vxtool.model import Availability

Invoke = Callable[..., Result]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> SwarmOfALab:
    lab = SwarmOfALab()
    monkeypatch.setattr(swarming, "swarm", lambda _: lab.client)
    monkeypatch.setattr(places, "places", lambda _: lab.places)
    monkeypatch.delenv("VXTOOL_NODE", raising=False)
    return lab


# -- init ------------------------------------------------------------------------------------------------------------------


def test_init_says_what_docker_says_and_how_a_worker_joins(lab: SwarmOfALab, invoke: Invoke) -> None:
    done = invoke("swarm", "init")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "Swarm initialized: current node (vm1) is now a manager.\n"
        "\n"
        "To add a worker to this swarm, run the following command:\n"
        "\n"
        "    vxtool swarm join --token SWMTKN-1-worker 192.0.2.1:2377\n"
        "\n"
        "To add a manager to this swarm, run 'vxtool swarm join-token manager' and follow the instructions.\n"
    )


@pytest.mark.parametrize(
    "options",
    [("--node", "vm2"), ("--advertise-addr", "192.0.2.2"), ("--advertise-addr", "192.0.2.2:2377"), ("--node", "vm2", "--advertise-addr", "eth0")],
)
def test_the_manager_is_the_node_that_is_named_or_that_has_the_address(lab: SwarmOfALab, invoke: Invoke, options: tuple[str, ...]) -> None:
    assert invoke("swarm", "init", *options).exit_code == 0
    manager = lab.client.view().manager
    assert manager is not None
    assert manager.hostname == "vm2"


def test_inside_a_node_of_the_lab_that_node_is_meant(lab: SwarmOfALab, invoke: Invoke) -> None:
    assert invoke("swarm", "init", VXTOOL_NODE="vm3").exit_code == 0
    assert lab.joined == {"vm3": "vm3"}


def test_settings_of_init_become_the_swarm_s(lab: SwarmOfALab, invoke: Invoke) -> None:
    options = ("--task-history-limit", "2", "--dispatcher-heartbeat", "1500ms", "--data-path-port", "7789", "--availability", "DRAIN")
    pools = ("--default-addr-pool", "10.20.0.0/16,10.30.0.0/16", "--default-addr-pool-mask-length", "26")
    assert invoke("swarm", "init", *options, *pools).exit_code == 0
    view = lab.client.view()
    settings = view.info.settings
    assert (settings.history_limit, settings.heartbeat, settings.data_path_port) == (2, 1.5, 7789)
    assert settings.pools == (("10.20.0.0/16", 26), ("10.30.0.0/16", 26))
    assert view.node("vm1").availability is Availability.DRAIN


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--availability", "off"), 'invalid availability "off", only active, pause and drain are supported'),
        (("--dispatcher-heartbeat", "5"), 'invalid argument "5" for "--dispatcher-heartbeat" flag: time: missing unit in duration "5"'),
        (("--dispatcher-heartbeat", "-5s"), "heartbeat time period cannot be a negative duration"),
        (("--data-path-port", "80"), "VXLAN UDP port number is not in valid range (1024-49151): 80"),
        (("--default-addr-pool", "10.0.0.0"), "invalid string being converted to CIDR: 10.0.0.0"),
        (("--default-addr-pool-mask-length", "30"), "subnet size is out of range: 30"),
        (("--default-addr-pool", "10.0.0.0/25"), 'invalid CIDR: "10.0.0.0/25". Subnet size is too small for pool: 24'),
        (("--default-addr-pool", "10.0.0.0/8", "--default-addr-pool", "10.9.0.0/16"), "default address pools 10.0.0.0/8 and 10.9.0.0/16 overlap"),
        (("--advertise-addr", "eth7"), "advertise address must be a non-zero IP address or network interface (with optional port number)"),
        (("--advertise-addr", "0.0.0.0"), "advertise address must be a non-zero IP address or network interface (with optional port number)"),
        (("--advertise-addr", "203.0.113.9"), "advertise address 203.0.113.9 is no address of the lab; vm1 has 192.0.2.1 on eth0"),
        (("--node", "vm2", "--advertise-addr", "192.0.2.1"), "advertise address 192.0.2.1 is vm1's; vm2 has 192.0.2.2 on eth0"),
        (("--advertise-addr", "198.51.100.1"), "a node of a lab uses its first address, vm1 192.0.2.1"),
        (("--advertise-addr", "192.0.2.1:99"), "the lab's manager listens on port 2377 and no other"),
        (("--listen-addr", "0.0.0.0:99"), "the lab's manager listens on port 2377 and no other"),
        (("--data-path-addr", "eth1"), "a node of a lab uses its first address, vm1 192.0.2.1"),
        (("--node", "vm9", "--advertise-addr", "eth0"), "no node is called 'vm9' in this lab (there are vm1, vm2, vm3)"),
        (("--autolock",), "--autolock: the lab's manager writes nothing down that could be locked"),
        (("--external-ca", "protocol=cfssl,url=https://x"), "--external-ca: the lab has no certificates that somebody could sign"),
        (("--force-new-cluster",), "--force-new-cluster: the lab has one manager, which never loses its quorum"),
    ],
)
def test_init_refuses_what_cannot_be(lab: SwarmOfALab, invoke: Invoke, options: tuple[str, ...], sentence: str) -> None:
    done = invoke("swarm", "init", *options)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert lab.local is None


@pytest.mark.parametrize(
    "options", [("--listen-addr", "0.0.0.0:2377"), ("--listen-addr", "eth0"), ("--data-path-addr", "192.0.2.1"), ("--autolock=false",)]
)
def test_what_a_lab_does_anyway_may_be_said(lab: SwarmOfALab, invoke: Invoke, options: tuple[str, ...]) -> None:
    assert invoke("swarm", "init", *options).exit_code == 0


def test_options_of_raft_and_tls_are_accepted_and_said_to_do_nothing(lab: SwarmOfALab, invoke: Invoke) -> None:
    done = invoke("swarm", "init", "--max-snapshots", "3", "--cert-expiry", "48h")
    assert done.exit_code == 0
    assert done.stderr == "--cert-expiry has no effect: the lab has no certificates\n--max-snapshots has no effect: the lab has no Raft log\n"


# -- join, leave -------------------------------------------------------------------------------------------------------------


def test_a_node_joins_with_the_token_that_join_token_prints(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init")
    token = invoke("swarm", "join-token", "-q", "worker").stdout.strip()
    done = invoke("swarm", "join", "--node", "vm2", "--token", token, "192.0.2.1:2377")
    assert (done.exit_code, done.stdout) == (0, "This node joined a swarm as a worker.\n")
    assert sorted(node.hostname for node in lab.client.view().nodes.values()) == ["vm1", "vm2"]


def test_the_one_node_that_is_left_need_not_be_named(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init")
    join = ("swarm", "join", "--token", "SWMTKN-1-worker", "192.0.2.1")
    assert "which node is to join? --node says it, or --all (vm2, vm3 are in no swarm)" in invoke(*join).stderr
    invoke(*join, "--node", "vm2", "--availability", "pause")
    assert invoke(*join).exit_code == 0
    assert set(lab.joined) == {"vm1", "vm2", "vm3"}
    assert lab.client.view().node("vm2").availability is Availability.PAUSE
    assert "This node is already part of a swarm." in invoke(*join).stderr


def test_all_that_are_left_join_at_once_without_a_token(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init")
    assert invoke("swarm", "join", "--all").stdout == "vm2 joined the swarm as a worker.\nvm3 joined the swarm as a worker.\n"
    assert invoke("swarm", "join", "--all").stdout == "all nodes are in the swarm already\n"


def test_join_wants_the_manager_s_address(lab: SwarmOfALab, invoke: Invoke) -> None:
    done = invoke("swarm", "join", "--node", "vm2")
    assert (done.exit_code, "requires exactly 1 argument: HOST:PORT" in done.stderr) == (2, True)


def test_a_node_leaves_and_the_manager_only_by_force(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init")
    invoke("swarm", "join", "--all")
    assert invoke("swarm", "leave", "--node", "vm2").stdout == "Node left the swarm.\n"
    refused = invoke("swarm", "leave")
    assert (refused.exit_code, "participating as a manager" in refused.stderr) == (2, True)
    assert invoke("swarm", "leave", "--force").exit_code == 0
    assert set(lab.joined) == {"vm3"}


# -- tokens and settings -------------------------------------------------------------------------------------------------------


def test_join_token_prints_the_command_or_the_token_alone(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init")
    assert invoke("swarm", "join-token", "manager").stdout == (
        "To add a manager to this swarm, run the following command:\n\n    vxtool swarm join --token SWMTKN-1-manager 192.0.2.1:2377\n\n"
    )
    assert invoke("swarm", "join-token", "-q", "manager").stdout == "SWMTKN-1-manager\n"
    assert "unknown role boss" in invoke("swarm", "join-token", "boss").stderr


def test_with_a_rotated_token_only_the_new_one_admits(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init")
    old = invoke("swarm", "join-token", "-q", "worker").stdout.strip()
    done = invoke("swarm", "join-token", "--rotate", "worker")
    assert done.stdout.startswith("Successfully rotated worker join token.\n\nTo add a worker to this swarm, run the following command:\n")
    new = invoke("swarm", "join-token", "-q", "worker").stdout.strip()
    assert new != old
    assert new.startswith("SWMTKN-1-")
    assert new in done.stdout
    assert invoke("swarm", "join-token", "-q", "manager").stdout == "SWMTKN-1-manager\n"
    assert invoke("swarm", "join", "--node", "vm2", "--token", old, "192.0.2.1").exit_code == 2
    assert invoke("swarm", "join", "--node", "vm2", "--token", new, "192.0.2.1").exit_code == 0


def test_update_changes_what_is_said_and_leaves_the_rest(lab: SwarmOfALab, invoke: Invoke) -> None:
    invoke("swarm", "init", "--task-history-limit", "3")
    assert invoke("swarm", "update", "--dispatcher-heartbeat", "2s").stdout == "Swarm updated.\n"
    settings = lab.client.view().info.settings
    assert (settings.history_limit, settings.heartbeat) == (3, 2.0)


def test_update_without_options_shows_its_help(lab: SwarmOfALab, invoke: Invoke) -> None:
    assert "--task-history-limit" in invoke("swarm", "update").stdout


@pytest.mark.parametrize("verb", ["ca", "unlock", "unlock-key"])
def test_verbs_without_meaning_in_a_lab_refuse_with_a_sentence(lab: SwarmOfALab, invoke: Invoke, verb: str) -> None:
    done = invoke("swarm", verb, "--rotate", "-q")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "lab" in done.stderr
