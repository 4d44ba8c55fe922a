"""`vxtool lab` as a person uses it: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from vxtool.cli import main
from vxtool.lab import registry

ROOT = Path(__file__).resolve().parents[2]


def vxtool(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def done(*words: str) -> str:
    """What a command prints that does what it is told."""
    code, out, err = vxtool(*words)
    assert (code, err) == (0, ""), err
    return out


def refused(*words: str) -> str:
    """The sentence of a command that does nothing."""
    code, out, err = vxtool(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module", autouse=True)
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.fail("these tests build labs: run them as root", pytrace=False)
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VXTOOL_RUN", str(folder))
        patch.delenv("VXTOOL_LAB", raising=False)
        yield folder
        for lab in registry.running():
            registry.end(lab)


@pytest.fixture(scope="module")
def up(own_registry: Path) -> str:
    """What `vxtool lab up` prints; the lab runs for the rest of the module."""
    return done("lab", "up")


def test_up_tells_what_there_is_and_how_to_go_on(up: str) -> None:
    first, *lines = up.splitlines()
    assert first.startswith("lab is up (")
    assert (
        lines
        == """
NODE          ADDRESS
sathish-vm1   192.168.68.109
sathish-vm2   192.168.68.110

NETWORK   SUBNET        VNI    MTU
web       10.0.1.0/24   4097   1450

ENDPOINT   NODE          ADDRESS
web.1      sathish-vm1   web 10.0.1.3
web.2      sathish-vm2   web 10.0.1.4
web.3      sathish-vm1   web 10.0.1.5
web.4      sathish-vm2   web 10.0.1.6
web.5      sathish-vm1   web 10.0.1.7
web.6      sathish-vm2   web 10.0.1.8

Next:
  vxtool lab exec web.1 -- ping -c 3 10.0.1.4
  vxtool capture sathish-vm1 -w sathish-vm1.pcapng
  vxtool lab down""".splitlines()
    )


def test_the_same_again_is_up_already(up: str) -> None:
    leader = registry.find(None).leader
    assert done("lab", "up").startswith("lab is up already\n")
    assert registry.find(None).leader == leader


def test_another_lab_of_that_name_is_refused_with_what_differs_and_what_to_do(up: str) -> None:
    told = refused("lab", "up", "--endpoints", "2")
    assert "(its endpoints differ)" in told
    assert "vxtool lab down lab ends it, --name gives this one another name" in told


def test_what_was_attached_since_does_not_make_it_another_lab(up: str) -> None:
    done("lab", "attach", "extra", "--node", "sathish-vm1", "--network", "web")
    assert done("lab", "up").startswith("lab is up already\n")
    done("lab", "detach", "extra")


def test_ls_has_a_line_for_each_lab(up: str) -> None:
    heads, line = done("lab", "ls").splitlines()
    assert heads.split("   ")[0] == "NAME"
    assert line.split()[:5] == ["lab", "one_segment", "2", "1", "6"]
    assert done("lab", "ls", "-q") == "lab\n"
    (told,) = json.loads(done("lab", "ls", "--json"))
    assert (told["name"], told["nodes"], told["endpoints"]) == ("lab", ["sathish-vm1", "sathish-vm2"], 6)


def test_ps_lists_endpoints_and_can_be_narrowed(up: str) -> None:
    lines = done("lab", "ps").splitlines()
    assert lines[0].split() == ["ENDPOINT", "NODE", "NETWORK", "ADDRESS", "MAC", "PROGRAMS"]
    assert lines[1].split() == ["web.1", "sathish-vm1", "web", "10.0.1.3", "02:42:0a:00:01:03", "-"]
    assert len(lines) == 7
    assert done("lab", "ps", "-q", "--node", "sathish-vm2") == "web.2\nweb.4\nweb.6\n"
    assert "there are sathish-vm1, sathish-vm2" in refused("lab", "ps", "--node", "vm1")


def test_an_endpoint_and_a_network_come_and_go(up: str) -> None:
    assert done("lab", "network", "add", "db") == "network db: 10.0.2.0/24, VNI 4098, MTU 1450\n"
    attach = ["lab", "attach", "c", "--node", "sathish-vm2", "--network", "web=10.0.1.77", "--network", "db"]
    assert done(*attach) == "c is on sathish-vm2: web 10.0.1.77 (02:42:0a:00:01:4d), db 10.0.2.3 (02:42:0a:00:02:03)\n"
    assert done("lab", "move", "c", "sathish-vm1") == "c has moved from sathish-vm2 to sathish-vm1\n"
    assert done("lab", "ps", "-q", "--network", "db", "--node", "sathish-vm1") == "c\n"
    assert "c on sathish-vm1: detach" in refused("lab", "network", "rm", "db")
    assert done("lab", "detach", "c") == "c on sathish-vm1 is removed\n"
    assert done("lab", "network", "rm", "db") == "network db is removed\n"


def test_inspect_shows_a_network_as_docker_does(up: str) -> None:
    (network,) = json.loads(done("lab", "inspect", "web", "--node", "sathish-vm2"))
    keys = "Name Id Scope Driver EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom ConfigOnly Containers Options Labels Peers"
    assert list(network) == keys.split()
    assert network["IPAM"]["Config"] == [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]
    assert [one["Name"] for one in network["Containers"].values()] == ["web.2", "web.4", "web.6"]
    assert network["Options"] == {"com.docker.network.driver.overlay.vxlanid_list": "4097"}


@pytest.mark.parametrize("what", ["sathish-vm1", "web", "web.1", "sathish-vm1:web.1", "sathish-vm1-s1"])
def test_inspect_finds_everything_by_its_name(up: str, what: str) -> None:
    assert len(json.loads(done("lab", "inspect", what))) == 1


def test_inspect_suggests_what_may_have_been_meant(up: str) -> None:
    assert "did you mean web" in refused("lab", "inspect", "wbe.1")


def test_what_the_lab_expects_is_its_cluster(up: str, tmp_path: Path) -> None:
    from vxtool.expect import load_cluster
    from vxtool.lab import client

    written = tmp_path / "expected.yaml"
    written.write_text(done("lab", "expect"))
    read, lab = load_cluster(str(written)), client.cluster(registry.find(None))
    assert {(one.network, one.name, one.ip, one.mac, one.node) for one in read.endpoints} == {
        (one.network, one.name, one.ip, one.mac, one.node) for one in lab.endpoints
    }
    assert read.networks == lab.networks
    assert read.data_path_port == lab.data_path_port


def test_a_second_lab_must_be_named_from_then_on(up: str) -> None:
    told = done("lab", "up", "--name", "second", "--endpoints", "1")
    assert "vxtool lab down second\n" in told
    assert "2 labs are running (lab, second): say which one with --lab" in refused("lab", "ps")
    assert done("lab", "ps", "-q", "--lab", "second") == "web.1\n"
    assert "did you mean second?" in refused("lab", "ps", "--lab", "secnd")
    assert done("lab", "down", "second") == "second is down\n"
    assert done("lab", "ls", "-q") == "lab\n"


def test_prune_says_what_it_removed(up: str, own_registry: Path) -> None:
    assert done("lab", "prune") == "nothing was left behind\n"
    (own_registry / "dead").mkdir()
    assert done("lab", "prune") == f"lab dead had died: removed {own_registry / 'dead'}\n"


def test_down_ends_it_and_leaves_no_file(up: str, own_registry: Path) -> None:
    assert done("lab", "down") == "lab is down\n"
    assert not own_registry.exists()
    assert "no lab is running" in refused("lab", "down")
    assert done("lab", "down", "--all") == "no lab is running\n"


def test_down_can_tell_how_long_the_kernel_was_freeing(own_registry: Path) -> None:
    done("lab", "up", "-q")
    told = done("lab", "down", "-v")
    assert "the kernel was freeing its namespaces for" in told


UNPRIVILEGED = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-m", "vxtool"]


@pytest.mark.parametrize("words", ["up", "down", "ls", "ps", "prune", "inspect", "expect", "detach web.1"])
def test_without_root_there_is_one_sentence(words: str) -> None:
    ran = subprocess.run([*UNPRIVILEGED, "lab", *words.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("vxtool: a lab needs root")
    assert ran.stderr.count("\n") == 1


def test_a_dry_run_needs_no_root_and_prints_what_a_person_would_type(own_registry: Path) -> None:
    ran = subprocess.run([*UNPRIVILEGED, "lab", "up", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == "ip netns add switches"
    assert {line.split()[0] for line in lines} <= {"ip", "bridge", "tc", "nft"}
    assert any("type vxlan id 4097 dstport 4789 learning proxy l2miss l3miss" in line for line in lines)
    assert not own_registry.exists()


WRONG = {
    "a topology that is none": (["lab", "up", "ring"], "no topology is called 'ring'"),
    "a name that is none": (["lab", "up", "--name", "../x"], "is no name for a lab"),
    "a subnet that is none": (["lab", "up", "--network", "web=10.0.1"], "is not a subnet"),
    "a port that is none": (["lab", "up", "--data-path-port", "80"], "not in valid range"),
    "a file that is not there": (["lab", "up", "nowhere.yaml"], "nowhere.yaml"),
    "two ways of saying which": (["lab", "down", "lab", "--all"], "exclude each other"),
    "a lab that is not there": (["lab", "ps", "--lab", "x"], "no lab called 'x' is running"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_in_one_sentence_and_nothing_is_made(words: list[str], sentence: str, own_registry: Path) -> None:
    assert sentence in refused(*words)
    assert registry.running() == []
