"""Impairments as steps: what the kernel is asked for, where on the link, and that taking it back leaves nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import product

import pytest
from click.testing import CliRunner

from vxtool.cli import vxtool
from vxtool.errors import MissingFeature, UsageError
from vxtool.lab.impair import Features, as_words, delay_text, plan, rate_text, relays
from vxtool.lab.steps import AddRules, AddTap, DeleteRoute, SetDown, SetNoMaster, SetOffload, SetQdisc, Step, commands
from vxtool.lab.topology import End, Impairment, Link, Machine, MachineKind, Route, Topology

PLAIN = Impairment()
HERE = Features()
NETEM = replace(HERE, netem=True)
ROUTE = Route(IPv4Network("10.2.0.0/24"), IPv4Address("10.9.0.2"))


def end(machine: str, device: str, address: str | None = None) -> End:
    return End(machine, device, IPv4Interface(address) if address else None)


TOPOLOGY = Topology(
    "all_kinds",
    (
        Machine("vm1", MachineKind.NODE),
        Machine("vm2", MachineKind.NODE),
        Machine("r1", MachineKind.ROUTER, (ROUTE,)),
        Machine("r2", MachineKind.ROUTER),
        Machine("s1", MachineKind.SWITCH),
        Machine("s2", MachineKind.SWITCH),
    ),
    (
        Link("vm1-s1", end("vm1", "eth0", "10.1.0.1/24"), end("s1", "s1-eth1")),
        Link("s1-s2", end("s1", "s1-eth2"), end("s2", "s2-eth1"), mtu=9000),
        Link("s2-r1", end("s2", "s2-eth2"), end("r1", "eth0", "10.1.0.254/24")),
        Link("r1-r2", end("r1", "eth1", "10.9.0.1/30"), end("r2", "eth0", "10.9.0.2/30")),
        Link("vm2-r2", end("vm2", "eth0", "10.2.0.1/24"), end("r2", "eth1", "10.2.0.254/24")),
    ),
)

IMPAIRMENTS = [
    PLAIN,
    Impairment(rate=10_000_000),
    Impairment(rate=20_000_000),
    Impairment(rate=10_000_000, queue=100),
    Impairment(loss=1),
    Impairment(loss=100),
    Impairment(delay_ms=20),
    Impairment(delay_ms=50),
    Impairment(down=True),
    Impairment(delay_ms=20, loss=1),
    Impairment(delay_ms=20, down=True),
    Impairment(rate=10_000_000, delay_ms=20, loss=1),
    Impairment(rate=10_000_000, delay_ms=20, loss=1, down=True),
]


def left(done: Iterable[Step]) -> list[Step]:
    """What remains of steps when each is crossed out by its inverse."""
    remains: list[Step] = []
    for step in done:
        inverse = step.inverse()
        if inverse in remains:
            remains.remove(inverse)
        else:
            remains.append(step)
    return remains


@pytest.mark.parametrize("features", [HERE, NETEM], ids=["without netem", "with netem"])
@pytest.mark.parametrize("link", [link.name for link in TOPOLOGY.links])
def test_from_any_impairment_to_any_other_and_to_the_plain_link_leaves_nothing(link: str, features: Features) -> None:
    for first, second in product(IMPAIRMENTS, repeat=2):
        if not features.netem and link in ("r1-r2", "vm2-r2") and (first.delay_ms or second.delay_ms):
            continue
        way = [(PLAIN, first), (first, second), (second, PLAIN)]
        assert left(step for before, after in way for step in plan(TOPOLOGY, link, before, after, features)) == []


@pytest.mark.parametrize("impairment", IMPAIRMENTS, ids=as_words)
def test_a_link_that_is_already_so_is_left_alone(impairment: Impairment) -> None:
    assert plan(TOPOLOGY, "vm1-s1", impairment, impairment, HERE) == []


def test_what_both_impairments_have_is_left_alone() -> None:
    steps = plan(TOPOLOGY, "vm1-s1", Impairment(rate=10**7, delay_ms=20), Impairment(rate=10**7, delay_ms=30, loss=5), HERE)
    assert [type(step) for step in steps] == [AddRules]  # the delayer is told of the other delay, the kernel need not be


PLACES = {  # link -> (namespace, device, hook) where frames are lost
    "vm1-s1": [("switches", "s1-eth1", "ingress"), ("switches", "s1-eth1", "egress")],
    "s1-s2": [("switches", "s1-eth2", "ingress"), ("switches", "s1-eth2", "egress")],
    "s2-r1": [("switches", "s2-eth2", "ingress"), ("switches", "s2-eth2", "egress")],
    "r1-r2": [("r1", "eth1", "egress"), ("r2", "eth0", "egress")],
    "vm2-r2": [("r2", "eth1", "ingress"), ("r2", "eth1", "egress")],
}


@pytest.mark.parametrize("link", PLACES)
@pytest.mark.parametrize("features", [HERE, NETEM], ids=["without netem", "with netem"])
def test_frames_are_lost_at_the_end_that_is_no_node(link: str, features: Features) -> None:
    rules = [step for step in plan(TOPOLOGY, link, PLAIN, Impairment(loss=2.5), features) if isinstance(step, AddRules)]
    found = [
        (step.namespace, device, hook)
        for step in rules
        for _, device, hook in PLACES[link]
        if f'hook {hook} device "{device}" priority 0; numgen random mod 1000000 < 25000 drop;' in step.body
    ]
    assert sorted(set(found)) == sorted(PLACES[link])


def test_behind_the_delayer_frames_are_lost_at_the_device_in_the_bridge() -> None:
    """A packet socket sees a frame before an ingress hook drops it: at the veth the delayer would carry what is lost."""
    rules = [step.body for step in plan(TOPOLOGY, "vm1-s1", PLAIN, Impairment(loss=1, delay_ms=1), HERE) if isinstance(step, AddRules)]
    assert len(rules) == 1
    assert '"tap0"' in rules[0]
    assert "s1-eth1" not in rules[0]


def test_an_older_kernel_loses_frames_in_the_bridge() -> None:
    (step,) = plan(TOPOLOGY, "vm1-s1", PLAIN, Impairment(loss=1), replace(HERE, egress=False))
    assert isinstance(step, AddRules)
    assert (step.family, step.body.count('iifname "s1-eth1"'), step.body.count('oifname "s1-eth1"')) == ("bridge", 1, 1)


def test_a_delay_takes_the_port_out_of_the_bridge_and_puts_a_tap_device_there() -> None:
    assert commands(plan(TOPOLOGY, "vm1-s1", PLAIN, Impairment(delay_ms=20), HERE)) == [
        "ip netns exec vm1 ethtool -K eth0 tx off",
        "ip -n switches tuntap add tap0 mode tap",
        "ip -n switches link set tap0 mtu 1500",
        "ip -n switches link set s1-eth1 nomaster",
        "ip -n switches link set tap0 master s1",
        "ip -n switches link set tap0 up",
    ]


def test_in_a_lab_without_offload_a_delay_does_not_switch_it_on_again() -> None:
    there = plan(TOPOLOGY, "vm1-s1", PLAIN, Impairment(delay_ms=20), HERE, wire=True)
    back = plan(TOPOLOGY, "vm1-s1", Impairment(delay_ms=20), PLAIN, HERE, wire=True)
    assert not any(isinstance(step, SetOffload) for step in there + back)


def test_the_delayer_is_told_of_each_delayed_link() -> None:
    impairments = {"vm1-s1": Impairment(delay_ms=20), "s1-s2": Impairment(delay_ms=0.5, queue=7), "s2-r1": Impairment(loss=1)}
    assert [(one.link, one.port, one.tap, one.delay_ms, one.mtu, one.queue) for one in relays(TOPOLOGY, impairments, HERE)] == [
        ("vm1-s1", "s1-eth1", "tap0", 20, 1500, None),
        ("s1-s2", "s1-eth2", "tap1", 0.5, 9000, 7),
    ]
    assert relays(TOPOLOGY, impairments, NETEM) == ()


NETEM_WORDS = {  # netem: both ends, everything but loss in one discipline; the limit holds what is under way
    Impairment(delay_ms=20): "netem limit 57642 delay 20ms",  # 10 Gbit/s for 20 and 50 ms
    Impairment(delay_ms=20, rate=10**7): "netem limit 58 delay 20ms rate 10000000bit",
    Impairment(delay_ms=0.25, rate=10**5, queue=40): "netem limit 40 delay 0.25ms rate 100000bit",
}


@pytest.mark.parametrize(("impairment", "words"), NETEM_WORDS.items(), ids=map(as_words, NETEM_WORDS))
def test_with_netem_the_kernel_delays_at_both_ends(impairment: Impairment, words: str) -> None:
    assert plan(TOPOLOGY, "vm1-s1", PLAIN, impairment, NETEM) == [SetQdisc("vm1", "eth0", words), SetQdisc("switches", "s1-eth1", words)]


def test_netem_loses_only_where_nftables_cannot() -> None:
    bare = Features(netem=True, ingress=False, egress=False, bridge=False)
    steps = plan(TOPOLOGY, "vm1-s1", PLAIN, Impairment(loss=1, delay_ms=5), bare)
    assert {step.words.partition("delay")[2] for step in steps if isinstance(step, SetQdisc)} == {" 5ms loss 1%"}
    assert not any(isinstance(step, AddRules) for step in steps)


@pytest.mark.parametrize("rate", [100_000, 10**7, 10**9, 10**10])
def test_a_burst_is_two_frames_or_two_milliseconds_and_the_queue_fifty(rate: int) -> None:
    (words,) = {step.words for step in plan(TOPOLOGY, "s1-s2", PLAIN, Impairment(rate=rate), HERE) if isinstance(step, SetQdisc)}
    said = dict(zip(words.split()[1::2], words.split()[2::2], strict=True))
    burst, limit = int(said["burst"]), int(said["limit"])
    assert said["rate"] == f"{rate}bit"
    assert burst == max(2 * 9018, rate // 8 // 500)
    assert limit - burst == max(16 * 9018, rate // 8 // 20)


def test_down_is_the_switch_s_end_so_that_the_node_keeps_its_routes() -> None:
    assert plan(TOPOLOGY, "vm1-s1", PLAIN, Impairment(down=True), HERE) == [SetDown("switches", "s1-eth1")]


def test_down_takes_the_device_in_the_bridge_down_too() -> None:
    steps = plan(TOPOLOGY, "vm1-s1", Impairment(delay_ms=1), Impairment(delay_ms=1, down=True), HERE)
    assert steps == [SetDown("switches", "s1-eth1"), SetDown("switches", "tap0")]


def test_a_router_whose_end_goes_down_has_its_routes_back_when_it_is_up() -> None:
    down = plan(TOPOLOGY, "r1-r2", PLAIN, Impairment(down=True), HERE)
    assert down == [DeleteRoute("r1", ROUTE.destination, ROUTE.via), SetDown("r1", "eth1")]
    assert commands(plan(TOPOLOGY, "r1-r2", Impairment(down=True), PLAIN, HERE)) == [
        "ip -n r1 link set eth1 up",
        "ip -n r1 route add 10.2.0.0/24 via 10.9.0.2",
    ]


MISSING = {
    "no tbf": ("vm1-s1", Impairment(rate=10**6), replace(HERE, tbf=False), "tbf"),
    "no egress hook, two routers": ("r1-r2", Impairment(loss=1), replace(HERE, egress=False), "egress"),
    "no nftables": ("vm1-s1", Impairment(loss=1), replace(HERE, ingress=False, egress=False, bridge=False), "nftables"),
    "no netem, no switch": ("r1-r2", Impairment(delay_ms=1), HERE, "put a switch between"),
    "no netem, no TAP": ("vm1-s1", Impairment(delay_ms=1), replace(HERE, tap=False), "TAP"),
}


@pytest.mark.parametrize(("link", "impairment", "features", "word"), MISSING.values(), ids=MISSING)
def test_what_this_machine_cannot_do_is_refused_with_what_it_lacks(link: str, impairment: Impairment, features: Features, word: str) -> None:
    with pytest.raises(MissingFeature, match=rf"{link}: .*{word}"):
        plan(TOPOLOGY, link, PLAIN, impairment, features)


def test_with_netem_two_routers_can_be_apart() -> None:
    assert [type(step) for step in plan(TOPOLOGY, "r1-r2", PLAIN, Impairment(delay_ms=5), NETEM)] == [SetQdisc, SetQdisc]


def test_a_link_that_is_not_there_is_refused_with_one_that_is() -> None:
    with pytest.raises(UsageError, match=r"'vm1_s1'.*vm1-s1"):
        plan(TOPOLOGY, "vm1_s1", PLAIN, Impairment(loss=1), HERE)


def test_only_the_first_switch_end_of_a_link_between_switches_is_taken_out() -> None:
    steps = plan(TOPOLOGY, "s1-s2", PLAIN, Impairment(delay_ms=1), HERE)
    assert [step for step in steps if isinstance(step, SetNoMaster)] == [SetNoMaster("switches", "s1-eth2", "s1")]
    assert [step.mtu for step in steps if isinstance(step, AddTap)] == [9000]
    assert steps[0] == SetOffload("switches", "s2-eth1", False, ("tx",))


WORDS = {
    PLAIN: "plain",
    Impairment(rate=10**9): "rate 1gbit",
    Impairment(rate=1_500_000, delay_ms=0.5): "rate 1500kbit delay 500us",
    Impairment(rate=1234, delay_ms=1500, loss=0.1, down=True): "rate 1234bit delay 1.5s loss 0.1% down",
    Impairment(delay_ms=2.5): "delay 2.5ms",
}


@pytest.mark.parametrize(("impairment", "words"), WORDS.items())
def test_an_impairment_is_told_as_it_is_written(impairment: Impairment, words: str) -> None:
    assert as_words(impairment) == words


def test_rates_and_delays_are_read_back_as_they_are_told() -> None:
    from vxtool.lab.topology import parse_delay, parse_rate

    assert [parse_rate(rate_text(rate)) for rate in (1000, 999_999, 10**7, 10**9)] == [1000, 999_999, 10**7, 10**9]
    assert [parse_delay(delay_text(delay)) for delay in (0.001, 0.5, 20, 1500)] == [0.001, 0.5, 20, 1500]


REFUSED = {
    "--loss 1%": "which link? name one or more, or say --all",
    "vm1-s1 --all --clear": "--all is every link",
    "vm1-s1 --for 3s": "--for wants to know what is to be wrong",
    "vm1-s1 --down --for 0s": "--for '0s' is not a time: one like 30s, 5m or 2h",
    "vm1-s1 --down --for soon": "--for 'soon' is not a time",
    "vm1-s1 --delay 20": "'20' is not a delay: one like 20ms",
    "vm1-s1 --rate 10": "'10' is not a rate: one like 10mbit",
    "vm1-s1 --loss 101%": "'101%' is not a share of frames",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_wish_that_makes_no_sense_is_refused_before_a_lab_is_looked_for(arguments: str) -> None:
    done = CliRunner().invoke(vxtool, ["lab", "impair", *arguments.split()])
    assert (done.exit_code, done.stdout) == (2, "")
    assert REFUSED[arguments] in done.stderr
