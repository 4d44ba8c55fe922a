"""Namespaces: whoever enters one comes back, whoever makes one stays where it is, and nothing of a private world is seen outside."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from vxtool.lab import namespaces
from vxtool.lab.namespaces import NETNS, inside
from vxtool.lab.steps import AddBridge, AddNamespace, AddVeth, AddVxlan, SetUp

OWN = "/proc/thread-self/ns/net"


def here() -> str:
    return os.readlink(OWN)


def test_a_new_namespace_has_only_lo_which_is_up_and_no_ipv6(world):
    namespaces.create("vm1")
    links = world.json("ip -j -n vm1 addr")
    assert [(link["ifname"], "UP" in link["flags"]) for link in links] == [("lo", True)]
    assert [address["family"] for address in links[0]["addr_info"]] == ["inet"]
    assert world.sh("ip netns exec vm1 sysctl -n net.ipv6.conf.default.disable_ipv6 net.ipv6.conf.all.disable_ipv6").split() == ["1", "1"]


def test_the_first_namespace_of_a_world_is_like_any_other(world):
    assert os.listdir(NETNS) == ["switches"]
    namespaces.create("vm1")
    assert world.sh("ip -n switches addr") == world.sh("ip -n vm1 addr")
    with inside(NETNS / "switches"):
        there = here()
    assert there == here()


def test_who_makes_a_namespace_stays_where_it_was(world):
    before = here()
    namespaces.create("vm1")
    assert here() == before
    with inside(NETNS / "vm1"):
        assert here() != before
    assert here() == before


def test_a_name_that_is_taken_is_refused_and_what_has_it_stays(world):
    namespaces.create("vm1")
    world.kernel.perform([AddBridge("vm1", "br0")])
    with pytest.raises(FileExistsError):
        namespaces.create("vm1")
    assert "br0" in world.sh("ip -n vm1 -br link")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../escaped"])
def test_a_name_that_is_a_path_is_refused(world, name):
    for change in (namespaces.create, namespaces.remove):
        with pytest.raises(OSError, match="not a name"):
            change(name)
    assert os.listdir(NETNS) == ["switches"]


def test_a_namespace_that_cannot_be_finished_leaves_no_name(world, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "no")

    monkeypatch.setattr(namespaces, "mount", refuse)
    before = here()
    with pytest.raises(OSError, match="no"):
        namespaces.create("vm1")
    assert (os.listdir(NETNS), here()) == (["switches"], before)


def test_removing_a_name_is_enough_also_where_only_the_file_is_left(world):
    namespaces.create("vm1")
    (NETNS / "half").touch()
    for name in ("vm1", "half"):
        namespaces.remove(name)
    assert os.listdir(NETNS) == ["switches"]
    with pytest.raises(FileNotFoundError):
        namespaces.remove("vm1")


def test_an_exception_inside_leads_back_home(world):
    namespaces.create("vm1")
    before = here()
    with pytest.raises(ValueError, match="oops"), inside(NETNS / "vm1"):
        raise ValueError("oops")
    assert here() == before


def test_one_may_enter_from_within_another_by_path_text_or_file(world):
    for name in ("vm1", "vm2"):
        namespaces.create(name)
    seen = [here()]
    with inside(str(NETNS / "vm1")):
        seen.append(here())
        fd = os.open(NETNS / "vm2", os.O_RDONLY)
        with inside(fd):
            seen.append(here())
        os.close(fd)
        seen.append(here())
    seen.append(here())
    assert seen == [seen[0], seen[1], seen[2], seen[1], seen[0]]
    assert len(set(seen)) == 3


def test_a_namespace_that_is_not_there_is_not_entered(world):
    before = here()
    with pytest.raises(FileNotFoundError, match="nowhere"), inside(NETNS / "nowhere"):
        pytest.fail("entered")
    assert here() == before


def test_other_threads_do_not_move(world):
    namespaces.create("vm1")
    before, seen = here(), []
    with inside(NETNS / "vm1"):
        thread = threading.Thread(target=lambda: (go.wait(), seen.append(here())))
        # A thread is born where its maker is: this one is older than the stay.
        with inside(NETNS / "switches"):
            go = threading.Event()
            thread.start()
        go.set()
        thread.join()
        assert here() != before
    assert seen == [before]


def test_a_process_that_cannot_return_ends(world, monkeypatch):
    """Going on would change whatever has the same names in the namespace where it is stuck."""
    namespaces.create("vm1")
    setns, calls = namespaces.setns, []

    def once(fd: int, *kind: int) -> None:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(1, "not permitted")
        setns(fd, *kind)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(namespaces, "setns", once)
        with inside(NETNS / "vm1"):
            pass
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70


def test_entering_and_making_leave_no_file_open(world):
    namespaces.create("vm0")
    before = os.listdir("/proc/self/fd")
    for number in range(1, 20):
        namespaces.create(f"vm{number}")
        with inside(NETNS / f"vm{number}"):
            pass
        namespaces.remove(f"vm{number}")
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("key", ["net.ipv4.conf.lo.rp_filter", "net/ipv4/conf/lo/rp_filter"])
def test_a_setting_is_that_of_the_namespace_entered(world, key):
    """`sysctl` reads both ways of writing a key; a slash among dots is a dot of a name."""
    if "/" in key:
        world.kernel.perform([AddBridge("switches", "br0.1")])
        key = "net.ipv4.conf.br0/1.rp_filter"
    namespaces.create("vm1")
    with inside(NETNS / ("switches" if "/" in key else "vm1")):
        namespaces.sysctl(key, "2")
    there = "switches" if "/" in key else "vm1"
    assert world.sh(f"ip netns exec {there} sysctl -n {key}").strip() == "2"
    assert world.sh("ip netns exec switches sysctl -n net.ipv4.conf.lo.rp_filter").strip() != "2"


def test_the_machine_sees_nothing_of_a_private_world(world, in_a_world):
    """This test's own world is the machine here: a second world in it is as a lab is to the real one."""

    def build() -> list[str]:
        world.kernel.perform(
            [
                AddNamespace("vm1"),
                AddBridge("switches", "s1"),
                AddVeth("vm1", "eth0", "switches", "s1-eth1"),
                SetUp("switches", "s1"),
                AddNamespace("vm1:1-abc"),
                AddVxlan("vm1:1-abc", "vxlan0", 4097, 4789, 1450, "vm1"),
            ]
        )
        return sorted(os.listdir(NETNS))

    def machine() -> list[str]:
        return [world.sh("ip -d link; ip addr; ip route; ss -lun"), Path("/proc/self/mountinfo").read_text(), *os.listdir(NETNS)]

    before = machine()
    assert in_a_world(build) == ["switches", "vm1", "vm1:1-abc"]
    assert machine() == before
