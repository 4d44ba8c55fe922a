"""The kernel performs steps: what it then shows is what the step says, what the commands make, and what the inverse takes back.

Every kind of step is a case below: what must be there before it, and the step. What the kernel shows is asked of `ip`, `bridge`, `tc`, `nft` and
`ethtool`, which share no code with vxtool.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, get_args

import pytest

from vxtool.errors import LabError, MissingFeature
from vxtool.lab import kernel, namespaces, nft
from vxtool.lab.steps import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNamespace,
    AddNeighbour,
    AddRoute,
    AddRules,
    AddTap,
    AddVeth,
    AddVxlan,
    AddXfrmPolicy,
    AddXfrmState,
    DeleteLink,
    DeleteNamespace,
    DeleteXfrmPolicy,
    DeleteXfrmState,
    ForgetFlows,
    ForgetMac,
    MoveLink,
    ReplaceRules,
    SetBackends,
    SetDown,
    SetMaster,
    SetMtu,
    SetOffload,
    SetQdisc,
    SetSysctl,
    SetUp,
    Step,
    UnsetQdisc,
    commands,
)
from vxtool.model import Mac, mac_from_ipv4

VM1, VM2 = IPv4Address("192.168.68.109"), IPv4Address("192.168.68.110")
WEB1, WEB2 = IPv4Address("10.0.1.3"), IPv4Address("10.0.1.4")
MAC1, MAC2 = mac_from_ipv4(WEB1), mac_from_ipv4(WEB2)
ANYWHERE = IPv4Network("0.0.0.0/0")
SPI = 0x8A5DE3F1
RULES = "chain out { type nat hook postrouting priority 100; ip saddr 172.18.0.0/16 masquerade; };"

NODES: list[Step] = [AddNamespace("vm1"), AddNamespace("vm2")]
UNDERLAY: list[Step] = [
    *NODES,
    AddVeth("vm1", "eth0", "vm2", "eth0", 1500, Mac(0x0200_0000_0001), Mac(0x0200_0000_0002)),
    SetUp("vm1", "eth0"),
    SetUp("vm2", "eth0"),
    AddAddress("vm1", "eth0", IPv4Interface(f"{VM1}/24")),
]
SANDBOX: list[Step] = [
    *UNDERLAY,
    AddNamespace("vm1:1-abc"),
    AddBridge("vm1:1-abc", "br0", MAC2, 1450),
    AddVxlan("vm1:1-abc", "vxlan0", 4097, 4789, 1450, "vm1"),
    SetUp("vm1:1-abc", "vxlan0"),
]


@dataclass(frozen=True)
class Case:
    before: list[Step]
    step: Step
    changes_nothing: bool = False


def both(before: list[Step], step: Step) -> list[Case]:
    """A step, and its inverse after it."""
    inverse = step.inverse()
    assert inverse is not None
    return [Case(before, step), Case([*before, step], inverse)]


CASES = [
    *both(NODES, AddNamespace("vm1:web.1")),
    *both(NODES, SetSysctl("vm1", "net.ipv4.ip_forward", "1", "0")),
    Case(UNDERLAY, SetSysctl("vm1", "net.ipv4.conf.eth0.rp_filter", "2", "0")),
    Case(NODES, SetSysctl("vm1", "net.no.such", "1", "0", optional=True), changes_nothing=True),
    *both(NODES, AddVeth("vm1", "eth0", "vm2", "eth1", 1450, MAC1, MAC2)),
    Case(NODES, AddVeth("vm1", "veth0", "vm1", "veth1", queue=0)),
    *both(NODES, AddBridge("vm1", "br0", MAC1)),
    Case(NODES, AddBridge("vm1", "br0", MAC1, 1450, queue=0)),
    Case(NODES, AddBridge("vm1", "br0", MAC1, default_pvid=0)),
    *both(NODES, AddTap("vm1", "tap0", 1400)),
    *both(SANDBOX, AddVxlan("vm1:1-abc", "vxlan1", 4098, 7789, 1450, "vm1")),
    Case(NODES, AddVxlan("vm1", "vx-001001-abcde", 4097, 4789, 1450, "vm1")),
    *both([*UNDERLAY, SetDown("vm2", "eth0")], MoveLink("vm2", "eth0", "vm2", "eth1")),
    Case([*NODES, AddBridge("vm1", "br0", MAC1), AddVeth("vm1", "one", "vm2", "two", 1500, MAC1, MAC2)], MoveLink("vm1", "one", "vm2", "eth7")),
    Case([*NODES, AddVxlan("vm1", "vx-001001-abcde", 4097, 4789, 1450, "vm1")], MoveLink("vm1", "vx-001001-abcde", "vm2", "vxlan0")),
    *both([*UNDERLAY, AddBridge("vm1", "br0", MAC1)], SetMaster("vm1", "eth0", "br0")),
    *both([*NODES, AddVeth("vm1", "one", "vm2", "two", 1500, MAC1, MAC2)], SetUp("vm1", "one")),
    *both([*NODES, AddVeth("vm1", "one", "vm2", "two", 1500, MAC1, MAC2)], SetMtu("vm1", "one", 1400, 1500)),
    *both(UNDERLAY, SetOffload("vm1", "eth0", False, ("tx", "rx", "tso", "gso"))),
    *both(SANDBOX, SetOffload("vm1:1-abc", "vxlan0", False, ("tx", "rx", "tso", "gso", "gro"))),
    Case([*NODES, AddTap("vm1", "tap0")], SetOffload("vm1", "tap0", False, ("gso", "gro"))),
    *both(UNDERLAY, AddAddress("vm2", "eth0", IPv4Interface(f"{VM2}/24"))),
    *both(UNDERLAY, AddAddress("vm1", "eth0", IPv4Interface("10.0.1.2/32"), broadcast=False)),
    Case(NODES, AddAddress("vm1", "lo", IPv4Interface("10.0.1.2/31"), broadcast=False)),
    *both(UNDERLAY, AddRoute("vm1", ANYWHERE, IPv4Address("192.168.68.1"))),
    *both(UNDERLAY, AddRoute("vm1", IPv4Network("10.0.2.0/24"), IPv4Address("192.168.68.1"), "eth0")),
    *both(UNDERLAY, AddRoute("vm1", IPv4Network("10.0.2.0/24"), device="eth0")),
    *both(SANDBOX, AddNeighbour("vm1:1-abc", "vxlan0", WEB1, MAC1)),
    *both(SANDBOX, AddFdb("vm1:1-abc", "vxlan0", MAC1, VM2)),
    Case([*SANDBOX, SetMaster("vm1:1-abc", "vxlan0", "br0")], ForgetMac("vm1:1-abc", "vxlan0", MAC1), changes_nothing=True),
    *both(NODES, AddRules("vm1", "ip", "vxtool", RULES)),
    *both(
        [*NODES, AddRules("vm1", "ip", "vxtool", "chain a { return; }; chain b { jump a; }; chain c { drop; };")],
        ReplaceRules("vm1", "ip", "vxtool", (("b", "jump d;"), ("d", "accept;")), (("b", "jump a;"), ("c", "drop;"))),
    ),
    *both(NODES, SetBackends("vm1", 256, ((WEB1, 1), (VM2, 0)), None)),
    Case([*NODES, SetBackends("vm1", 256, ((WEB1, 1), (VM2, 1)), None)], SetBackends("vm1", 256, ((VM1, 1), (VM2, 0)), ((WEB1, 1), (VM2, 1)))),
    Case(NODES, ForgetFlows("vm1", (WEB1,), (53,)), changes_nothing=True),
    Case(
        UNDERLAY, AddRules("vm1", "netdev", "loss", "chain in { type filter hook ingress device eth0 priority 0; numgen random mod 100 < 5 drop; };")
    ),
    *both(UNDERLAY, SetQdisc("vm1", "eth0", "tbf rate 10000000bit burst 32768 latency 50ms")),
    *both(UNDERLAY, SetQdisc("vm1", "eth0", "netem limit 1000 delay 20ms loss 1%")),
    *both(NODES, AddXfrmState("vm1", VM1, VM2, SPI, 0xD0C4E3, bytes(range(20)))),
    *both(NODES, AddXfrmPolicy("vm1", VM1, VM2, 4789, 0xD0C4E3, SPI, 0xD0C4E3)),
    Case(
        [*NODES, AddXfrmPolicy("vm1", VM1, VM2, 4789, 0xD0C4E3, SPI, 0xD0C4E3)],
        AddXfrmPolicy("vm1", VM1, VM2, 4789, 0xD0C4E3, SPI + 1, 0xD0C4E3, replaces=SPI),
    ),
]


def needs_another_kernel(step: Step) -> bool:
    """ESP, netem and IPVS: tried in the emulated machine."""
    return isinstance(step, AddXfrmState | DeleteXfrmState | SetBackends) or (isinstance(step, SetQdisc | UnsetQdisc) and "netem" in step.words)


every_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.vm] * needs_another_kernel(case.step)) for case in CASES],
    ids=lambda case: type(case.step).__name__,
)

# What differs from one making of the same thing to the next, what the kernel finds out some time after a change (whether there is a carrier), and
# what it keeps when a change is taken back: the size a bridge has from a port that has left, the noqueue that a link gets when it is first up.
VOLATILE = {
    "ifindex",
    "link_index",
    "link_netnsid",
    "handle",
    "metainfo",
    "operstate",
    "tso_max_size",
    "gc_timer",
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
}
CARRIER = ("linkdown", "NO-CARRIER", "LOWER_UP", "M-DOWN")
DRAWN = r"(?!02:00:00|02:42:0a)[0-9a-f][26ae](?::[0-9a-f]{2}){5}"  # a MAC address of the kernel's drawing, none of ours

ASKED = """
printf 'addr\nroute\nneigh\n' | ip -n {name} -j -d -batch -; echo
bridge -n {name} -j fdb; echo
tc -n {name} -j qdisc; echo
ip netns exec {name} nft -j list ruleset; echo
"""
ASKED_TOO = {
    SetSysctl: "ip netns exec {name} sysctl -e net.ipv4.ip_forward net.ipv4.conf.eth0.rp_filter",
    SetBackends: "ip netns exec {name} ipvsadm -Sn",
    SetOffload: "for link in eth0 vxlan0 tap0; do ip netns exec {name} ethtool -k $link 2>&1 | grep -E ': (on|off)$' | sed s/^/$link/; done || true",
} | dict.fromkeys(
    (AddXfrmState, DeleteXfrmState, AddXfrmPolicy, DeleteXfrmPolicy),
    "ip -n {name} xfrm state; ip -n {name} xfrm policy",
)


def state(world: Any, too: Step | None = None) -> list[str]:
    """All that the kernel shows of the namespaces but the first, a line per fact, and what is asked `too` where this kind of step is tried."""
    shown = []
    for name in sorted(set(os.listdir(namespaces.NETNS)) - {"switches"}):
        for line in world.sh((ASKED + ASKED_TOO.get(type(too), "")).format(name=name)).splitlines():
            found = json.loads(line) if line[:1] in ("[", "{") else [line]
            shown += [f"{name} {fact}" for fact in found["nftables" if isinstance(found, dict) else slice(None)] for fact in _facts(fact)]
    return sorted(re.sub(DRAWN, "drawn", fact) for fact in shown)


def _facts(found: Any, path: str = "") -> list[str]:
    """What JSON says, a line per value, under the name of the link it is about."""
    if isinstance(found, dict):
        if found.get("kind") == "noqueue":
            return []
        path += f" {found.get('ifname', '')}{found.get('dev', '')}{found.get('mac', '')}{found.get('dst', '')}".rstrip()
        return [fact for key, value in found.items() if key not in VOLATILE for fact in _facts(value, f"{path} {key}")]
    if isinstance(found, list):
        return [fact for one in found if one not in CARRIER for fact in _facts(one, path)]
    return [f"{path} {found}".replace("noqueue", "noop")]


def same(one: list[str], other: list[str]) -> bool:
    """Asserts it, and shows only what differs."""
    differing = [f"- {fact}" for fact in (Counter(one) - Counter(other)).elements()] + [
        f"+ {fact}" for fact in (Counter(other) - Counter(one)).elements()
    ]
    assert not differing, "\n".join(["the first, but not the second:", *differing])
    return True


def test_every_kind_of_step_is_a_case():
    assert {type(case.step) for case in CASES} == set(get_args(Step))


@every_case
def test_a_step_does_what_its_commands_do_and_its_inverse_takes_it_back(world, case):
    """Performed, taken back, and typed in a shell, in the same world; what is asked of the kernel each time is the same."""
    world.kernel.perform(case.before)
    before = state(world, case.step)
    world.kernel.perform([case.step])
    after = state(world, case.step)
    assert after != before or case.changes_nothing
    if (inverse := case.step.inverse()) is not None:
        world.kernel.perform([inverse])
        assert same(before, state(world, case.step))
    for name in set(os.listdir(namespaces.NETNS)) - {"switches"}:
        namespaces.remove(name)
    world.sh("\n".join(commands([*case.before, case.step])))
    assert same(after, state(world, case.step))


def test_what_is_made_is_what_docker_makes(world):
    """The VXLAN device of the overlay driver, as `ip -d link` shows it (libnetwork 19.03), made where it belongs; its socket is in the node."""
    world.kernel.perform(SANDBOX)
    shown = world.sh("ip -d -n vm1:1-abc link show vxlan0")
    assert "vxlan id 4097 srcport 0 0 dstport 4789 proxy l2miss l3miss ttl auto ageing 300 udpcsum noudp6zerocsumtx noudp6zerocsumrx" in " ".join(
        shown.split()
    )
    assert " mtu 1450 " in shown
    assert ":4789" in world.sh("ip netns exec vm1 ss -lun")
    assert ":4789" not in world.sh("ip netns exec vm1:1-abc ss -lun")


# -- refusals --------------------------------------------------------------------------------------------------------------

TAKEN = [*SANDBOX, AddFdb("vm1:1-abc", "vxlan0", MAC1, VM2), AddNeighbour("vm1:1-abc", "vxlan0", WEB1, MAC1), AddRules("vm1", "ip", "taken", RULES)]

REFUSED: list[tuple[Step, str]] = [
    (AddNamespace("vm1"), r"ip netns add vm1; .*: file exists"),
    (DeleteNamespace("vm3"), "ip netns del vm3: there is no namespace vm3"),
    (AddBridge("vm1", "eth0"), "ip -n vm1 link add eth0 type bridge: file exists"),
    (AddBridge("vm3", "br0"), "ip -n vm3 link add br0 type bridge: there is no namespace vm3"),
    (AddVeth("vm1", "eth9", "vm2", "eth0"), "type veth peer name eth0 mtu 1500 netns vm2: file exists"),
    (AddVeth("vm1", "eth9", "vm3", "eth0"), "there is no namespace vm3"),
    (AddVxlan("vm1:1-abc", "vxlan1", 4097, 4789, 1450, "vm1"), r"file exists \(A VXLAN device with the specified VNI already exists\)"),
    (AddTap("vm1", "eth0"), "tuntap add eth0 mode tap; .*: file exists"),
    (AddTap("vm1", "tap0", 100_000), "mtu greater than device maximum"),
    (AddBridge("vm1", "a_name_of_16_ch."), "numerical result out of range"),
    (DeleteLink("vm1", "eth9"), "ip -n vm1 link del eth9: no such device"),
    (MoveLink("vm1", "eth0", "vm2", "eth0"), "file exists"),
    (SetMaster("vm1", "eth0", "br9"), r"no such device \(br9\)"),
    (SetMtu("vm1", "eth0", 10, 1500), "mtu less than device minimum"),
    (SetOffload("vm1", "eth9", False), "ethtool -K eth9 .*: no such device"),
    (SetSysctl("vm1", "net.ipv4.conf.eth9.rp_filter", "1", "0"), "no such file or directory"),
    (SetSysctl("vm1", "net.ipv4.ip_forward", "perhaps", "0"), "invalid argument"),
    (AddAddress("vm1", "eth0", IPv4Interface(f"{VM1}/24")), r"addr add 192.168.68.109/24 brd \+ dev eth0: file exists"),
    (AddRoute("vm1", ANYWHERE, IPv4Address("10.9.9.9")), "route add default via 10.9.9.9: network is unreachable"),
    (AddNeighbour("vm1:1-abc", "vxlan0", WEB1, MAC1), "neigh add 10.0.1.3 .*: file exists"),
    (AddNeighbour("vm1:1-abc", "vxlan9", WEB1, MAC1), r"no such device \(vxlan9\)"),
    (AddFdb("vm1:1-abc", "vxlan0", MAC1, VM1), "fdb add 02:42:0a:00:01:03 .*: file exists"),
    (AddRules("vm1", "ip", "taken", RULES), "could not process rule: file exists"),
    (AddRules("vm1", "ip", "wrong", "chain out { no such words; };"), "syntax error, unexpected"),
    (SetQdisc("vm1", "eth9", "tbf rate 10000000bit burst 32768 latency 50ms"), "cannot find device"),
    (UnsetQdisc("vm1", "eth0", "tbf"), "qdisc del dev eth0 root: "),
    (AddXfrmPolicy("vm3", VM1, VM2, 4789, 1, SPI, 1), "no such file or directory"),
]


@pytest.mark.parametrize(("step", "words"), REFUSED, ids=[type(step).__name__ for step, _ in REFUSED])
def test_a_refused_step_is_named_and_what_came_before_it_is_gone(world, step, words):
    world.kernel.perform(TAKEN)
    before = state(world)
    done: list[Step] = [
        AddNamespace("vm1:web.1"),
        AddVeth("vm1:1-abc", "veth0", "vm1:web.1", "eth0", 1450, None, MAC2),
        SetUp("vm1:1-abc", "br0"),
        AddNeighbour("vm1:1-abc", "vxlan0", WEB2, MAC2),
        AddFdb("vm1:1-abc", "vxlan0", MAC2, VM2),
        SetSysctl("vm1", "net.ipv4.ip_forward", "1", "0"),
        AddRules("vm1", "inet", "mine", "chain in { type filter hook input priority 0; };"),
    ]
    with pytest.raises(LabError, match=f"(?i){words}.*; the {len(done)} steps before it are taken back"):
        world.kernel.perform([*done, step, AddBridge("vm1", "never")])
    assert same(before, state(world))
    assert world.sh("ip netns exec vm1 sysctl -n net.ipv4.ip_forward").strip() == "0"


def test_what_the_kernel_lacks_is_named_and_how_to_get_it(world):
    world.kernel.perform(UNDERLAY)
    before = state(world)
    for step, words in (
        (SetQdisc("vm1", "eth0", "nonesuch"), r"this kernel lacks this queueing discipline \(CONFIG_NET_SCH_"),
        (SetSysctl("vm1", "net.ipv4.nonesuch", "1", "0"), "this kernel has no setting net.ipv4.nonesuch"),
    ):
        with pytest.raises(MissingFeature, match=f"{words}.*the step before it is taken back"):
            world.kernel.perform([AddBridge("vm2", "br0"), step])
        assert same(before, state(world))


def test_without_root_it_says_so(world):
    world.kernel.perform(NODES)
    os.seteuid(65534)
    try:
        with pytest.raises(MissingFeature, match=r"(?i)operation not permitted: only root may do this"):
            world.kernel.perform([AddBridge("vm1", "br0")])
        with pytest.raises(MissingFeature, match=r"(?i)permission denied: only root may do this"):
            world.kernel.perform([AddNamespace("vm3")])
    finally:
        os.seteuid(0)


def entries(count: int, first: int = 0) -> list[Step]:
    """As many peers, each with its neighbour and its forwarding entry."""
    peers = [IPv4Address(int(IPv4Address("10.0.8.0")) + first + number) for number in range(count)]
    add: list[Step] = []
    for peer in peers:
        add += [AddNeighbour("vm1:1-abc", "vxlan0", peer, mac_from_ipv4(peer)), AddFdb("vm1:1-abc", "vxlan0", mac_from_ipv4(peer), VM2)]
    return add


@pytest.mark.parametrize("place", [0, 1, 127, 128, 700, 998])
def test_of_entries_sent_at_once_exactly_those_that_were_made_are_taken_back(world, place):
    """The kernel goes on after the one it refuses: it is in the middle of a packet. Whose it was before stays as it was."""
    theirs = entries(500)[place]
    world.kernel.perform([*SANDBOX, theirs])
    before = state(world)
    with pytest.raises(LabError, match=f"{re.escape(theirs.commands()[0])}: file exists; the 9[0-9]{{2}} steps|the [0-9]+ steps? before it"):
        world.kernel.perform(entries(500))
    assert same(before, state(world))


def test_when_all_of_many_entries_are_refused_all_stay_whose_they_were(world):
    world.kernel.perform([*SANDBOX, *entries(500)])
    before = state(world)
    with pytest.raises(LabError, match="file exists"):
        world.kernel.perform(entries(500))
    assert same(before, state(world))
    world.kernel.undo(entries(500))
    assert world.json("ip -j -n vm1:1-abc neigh") == []


# -- taking back -----------------------------------------------------------------------------------------------------------

WHOLE: list[Step] = [
    AddNamespace("vm3"),
    AddVeth("vm3", "eth0", "vm1", "eth1", 1500),
    AddAddress("vm3", "eth0", IPv4Interface("192.168.69.3/24")),
    SetUp("vm3", "eth0"),
    SetUp("vm1", "eth1"),
    AddRoute("vm3", ANYWHERE, IPv4Address("192.168.69.1")),
    SetSysctl("vm1", "net.ipv4.ip_forward", "1", "0"),
    AddNamespace("vm1:1-xyz"),
    AddBridge("vm1:1-xyz", "br0"),
    AddVxlan("vm1:1-xyz", "vxlan0", 4098, 4789, 1450, "vm1"),
    SetMaster("vm1:1-xyz", "vxlan0", "br0"),
    SetUp("vm1:1-xyz", "vxlan0"),
    AddNeighbour("vm1:1-xyz", "vxlan0", WEB1, MAC1),
    AddFdb("vm1:1-xyz", "vxlan0", MAC1, VM2),
    AddRules("vm1", "ip", "mine", RULES),
    AddTap("vm1", "tap0"),
    SetQdisc("vm1", "eth0", "tbf rate 10000000bit burst 32768 latency 50ms"),
    SetMtu("vm1", "eth0", 1400, 1500),
]


def test_whatever_part_of_a_list_was_performed_undo_takes_it_back(world):
    """A supervisor that was killed does not know how far it came. What was there before is what is there afterwards."""
    world.kernel.perform(UNDERLAY)
    before = state(world)
    for performed_ones in range(len(WHOLE) + 1):
        world.kernel.perform(WHOLE[:performed_ones])
        world.kernel.undo(WHOLE)
    assert same(before, state(world))
    world.kernel.perform(WHOLE)
    world.kernel.undo(WHOLE)
    world.kernel.undo(WHOLE)
    assert same(before, state(world))
    assert world.sh("ip netns exec vm1 sysctl -n net.ipv4.ip_forward").strip() == "0"


def test_what_cannot_be_taken_back_is_named_and_the_rest_is_taken_back(world):
    world.kernel.perform(UNDERLAY)
    before = state(world)
    world.kernel.perform([AddBridge("vm1", "br0")])
    with pytest.raises(LabError, match="cannot be taken back: ip -n vm1 link del lo: operation not supported"):
        world.kernel.undo([AddBridge("vm1", "br0"), AddBridge("vm1", "lo")])
    assert same(before, state(world))


def test_links_of_a_namespace_that_was_deleted_and_made_again_come_back(world):
    """Steps inside a namespace are not taken back one by one when it goes as a whole; when it comes back, they are."""
    world.kernel.perform([*NODES, AddBridge("vm1", "br0", MAC1)])
    before = state(world)
    replaced: list[Step] = [
        DeleteLink("vm1", "br0", AddBridge("vm1", "br0", MAC1)),
        DeleteNamespace("vm1"),
        AddNamespace("vm1"),
        AddTap("vm1", "tap0"),
    ]
    with pytest.raises(LabError):
        world.kernel.perform([*replaced, AddBridge("vm1", "lo")])
    assert same(before, state(world))


def test_an_interrupt_leaves_nothing_and_nobody_in_another_namespace(world):
    """Ctrl-C at moments spread over the whole of it: the list is performed wholly or not at all, and the interrupt is not lost."""
    world.kernel.perform(UNDERLAY)
    before, home = state(world), os.readlink("/proc/thread-self/ns/net")
    steps = [*WHOLE[:9], *(AddBridge("vm3", f"b{number}") for number in range(200))]
    interrupted = 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    for moment in range(1, 16):
        try:
            signal.setitimer(signal.ITIMER_REAL, moment * 0.0007)
            world.kernel.perform(steps)
            signal.setitimer(signal.ITIMER_REAL, 0)
            world.kernel.undo(steps)
        except KeyboardInterrupt:
            interrupted += 1
        assert os.readlink("/proc/thread-self/ns/net") == home
        assert sorted(os.listdir(namespaces.NETNS)) == ["switches", "vm1", "vm2"]
    assert same(before, state(world))
    assert interrupted == 15


# -- what was there already ------------------------------------------------------------------------------------------------


def test_an_entry_that_a_frame_has_taught_gives_way_to_a_permanent_one(world):
    """With `learning`, a peer's first frame may come before its entry: the device then knows the MAC address already."""
    world.kernel.perform(SANDBOX)
    world.sh(f"bridge -n vm1:1-abc fdb add {MAC1} dev vxlan0 dst 192.168.68.66 self dynamic")
    world.kernel.perform([AddFdb("vm1:1-abc", "vxlan0", MAC1, VM2)])
    entry = f"{MAC1} dev vxlan0 dst {VM2} link-netnsid 0 self permanent"
    assert [line.strip() for line in world.sh("bridge -n vm1:1-abc fdb show dev vxlan0").splitlines()] == [entry.replace(" dev vxlan0", "")]


def test_a_mac_that_the_bridge_has_learned_is_forgotten_and_others_are_not(world):
    world.kernel.perform([*SANDBOX, SetMaster("vm1:1-abc", "vxlan0", "br0"), SetUp("vm1:1-abc", "br0")])
    other = mac_from_ipv4(IPv4Address("10.0.1.9"))
    world.sh("".join(f"bridge -n vm1:1-abc fdb add {mac} dev vxlan0 master dynamic;" for mac in (MAC1, other)))
    world.kernel.perform([ForgetMac("vm1:1-abc", "vxlan0", MAC1)])
    shown = world.sh("bridge -n vm1:1-abc fdb show br br0")
    assert str(MAC1) not in shown
    assert str(other) in shown


def test_a_link_that_is_made_again_is_not_taken_for_the_one_before(world):
    """It has another number, and numbers are remembered while steps are performed."""
    bridge = AddBridge("vm1", "br0", MAC1)
    address = AddAddress("vm1", "br0", IPv4Interface("10.0.1.1/24"))
    world.kernel.perform([*NODES, bridge, address, DeleteLink("vm1", "br0", bridge), bridge, address])
    world.kernel.perform([SetUp("vm1", "br0"), MoveLink("vm1", "br0", "vm1", "br1"), bridge, AddAddress("vm1", "br0", IPv4Interface("10.0.2.1/24"))])
    links = [link for link in world.json("ip -j -4 -n vm1 addr") if link and link["ifname"] != "lo"]
    shown = {link["ifname"]: [found["local"] for found in link["addr_info"]] for link in links}
    assert shown == {"br0": ["10.0.2.1"], "br1": ["10.0.1.1"]}


# -- resources -------------------------------------------------------------------------------------------------------------


def test_no_file_stays_open_and_few_are_open_at_a_time(world, monkeypatch):
    monkeypatch.setattr(kernel, "OPEN_AT_A_TIME", 3)
    before = os.listdir("/proc/self/fd")
    steps: list[Step] = [AddNamespace(f"n{number}") for number in range(10)]
    for number in range(10):
        steps += [AddVeth(f"n{number}", "eth0", "switches", f"v{number}"), AddAddress(f"n{number}", "eth0", IPv4Interface(f"10.0.1.{number + 1}/24"))]
    world.kernel.perform([*steps, *(SetUp(f"n{number}", "eth0") for number in range(10))])
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(LabError):
        world.kernel.perform([SetDown("n1", "eth0"), SetDown("n2", "eth9")])
    world.kernel.undo(steps)
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(namespaces.NETNS) == ["switches"]


@pytest.mark.parametrize("library", [True, False], ids=["library", "command"])
def test_rules_are_loaded_by_the_library_or_else_by_the_command(world, monkeypatch, library):
    if not library:
        monkeypatch.setattr(nft, "_library", lambda: None)
    world.kernel.perform([*NODES, AddRules("vm1", "ip", "mine", RULES)])
    assert "masquerade" in world.sh("ip netns exec vm1 nft list table ip mine")
    assert world.sh("ip netns exec vm2 nft list ruleset; nft list ruleset") == ""
    with pytest.raises(LabError, match=r"mine \{.*: could not process rule: File exists; nothing was changed"):
        world.kernel.perform([AddRules("vm1", "ip", "mine", RULES)])
    world.kernel.undo([AddRules("vm1", "ip", "mine", RULES)])
    assert world.sh("ip netns exec vm1 nft list ruleset") == ""
