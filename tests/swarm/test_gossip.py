"""Nodes that gossip know who is there and what each has in their networks, whatever the wires do; blocked gossip is noticed when memberlist would."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.swarm.wires import Wires
from vxtool.swarm.gossip import Gossip, MemberDown, MemberUp, Record, RecordGone, RecordSet, State, Timing

NET = "ingress"


def peer(number: int) -> dict[str, Any]:
    return {"address": f"10.0.{number // 250}.{number % 250}/24", "mac": f"02:42:0a:00:{number // 250:02x}:{number % 250:02x}", "vtep": "192.0.2.11"}


def swarm(nodes: int, seed: int = 1, **wires: Any) -> Wires:
    """All know each other and are in one network, and each has a record there."""
    w = Wires(nodes, seed, **wires)
    for name, node in w.nodes.items():
        node.enter(NET)
        node.put(NET, "peer", f"of {name}", {"node": name})
        w.take(name)
    w.until(lambda: not w.differences(NET) and all(len(node.peers(NET)) == nodes for node in w.nodes.values()), within=60)
    return w


def state(w: Wires, at: str, of: str) -> State:
    return next(member.state for member in w.nodes[at].members() if member.name == of)


def sides(w: Wires, *apart: str, protocols: tuple[str, ...] = ("udp", "tcp")) -> None:
    """Nothing passes between these nodes and the others."""
    w.blocked = lambda protocol, source, target: protocol in protocols and (source in apart) != (target in apart)


def heal(w: Wires) -> None:
    w.blocked = lambda protocol, source, target: False


# -- the figures of memberlist ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "seconds"), [(5, 3.0), (10, 3.0), (50, 5.097), (100, 6.0), (500, 8.097), (1000, 9.0)])
def test_the_shortest_suspicion_grows_with_the_logarithm_of_the_swarm(nodes: int, seconds: float) -> None:
    assert Timing(suspicion=3).suspicion_bounds(nodes)[0] == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(("confirmed", "seconds"), [(0, 30.0), (1, 16.0), (2, 7.81), (3, 2.0), (4, 2.0)])
def test_a_suspicion_that_others_share_is_shorter(confirmed: int, seconds: float) -> None:
    # Three confirmations are wanted, from 2 to 30 s: the case of memberlist's own test.
    assert Timing(suspicion=5, probe=0.4, suspicion_most=15).suspicion_time(10, confirmed) == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(("nodes", "seconds"), [(2, 4.0), (3, 4.0), (4, 24.0), (10, 24.0)])
def test_where_nobody_could_share_it_a_suspicion_is_as_short_as_can_be(nodes: int, seconds: float) -> None:
    assert Timing().suspicion_time(nodes, 0) == seconds


@pytest.mark.parametrize(("nodes", "times"), [(0, 0), (1, 3), (99, 6)])
def test_rumours_are_told_more_often_in_larger_swarms(nodes: int, times: int) -> None:
    assert Timing(retransmit=3).retransmissions(nodes) == times


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 30.0), (32, 30.0), (33, 60.0), (64, 60.0), (65, 90.0), (128, 90.0)])
def test_larger_swarms_exchange_everything_less_often(nodes: int, seconds: float) -> None:
    assert Timing().push_pull_interval(nodes) == seconds


# -- who is there ------------------------------------------------------------------------------------------------------------------------------


def test_ten_nodes_that_know_of_two_know_each_other_within_milliseconds() -> None:
    w = Wires(10)
    w.until(lambda: all(len(node.members()) == 9 for node in w.nodes.values()), within=0.05)
    assert all(w.happened("n4", MemberUp, f"n{other}") for other in range(10) if other != 4)


def test_a_node_that_starts_before_those_it_is_to_meet_finds_them_when_they_come() -> None:
    w = Wires(0)
    w.start("n3", meet=("n0", "n1"))
    w.run(20)
    w.start("n0", meet=())
    assert w.until(lambda: len(w.nodes["n0"].members()) == 1, within=5) < 1.5


@pytest.mark.parametrize("nodes", [2, 3, 10])
@pytest.mark.parametrize("seed", range(5))
def test_a_killed_node_is_dead_when_memberlist_would_say_so_and_its_records_go_with_it(nodes: int, seed: int) -> None:
    w = swarm(nodes, seed)
    w.run(10)
    w.kill("n1")
    took = w.until(lambda: bool(w.happened("n0", MemberDown, "n1")), within=60)
    # At least the shortest suspicion; at most a round of probes (the last of it fails after a second), and a suspicion that others share some probes
    # later.
    assert 4.0 <= took <= nodes + 1 + 8
    w.run(5)
    for name, node in w.nodes.items():
        assert state(w, name, "n1") is State.DEAD
        assert "of n1" not in {record.key for record in node.records(NET)}
    assert not w.differences(NET)


@pytest.mark.parametrize("seed", range(3))
def test_a_partition_is_noticed_on_both_sides_and_healed_within_seconds(seed: int) -> None:
    w = swarm(5, seed)
    w.run(5)
    sides(w, "n3", "n4")
    w.until(lambda: all(w.happened(a, MemberDown, b) and w.happened(b, MemberDown, a) for a in ("n0", "n1", "n2") for b in ("n3", "n4")), within=60)
    assert {record.owner for record in w.nodes["n0"].records(NET)} == {"n0", "n1", "n2"}
    assert {record.owner for record in w.nodes["n4"].records(NET)} == {"n3", "n4"}
    # Meanwhile both sides go on.
    w.nodes["n0"].put(NET, "peer", "new", peer(1))
    w.nodes["n4"].drop(NET, "peer", "of n4")
    w.run(20)
    heal(w)
    # Whoever is dead is asked every second; an exchange that was sent into nowhere takes three to fail.
    assert w.until(lambda: not w.differences(NET) and all(len(node.peers(NET)) == 5 for node in w.nodes.values()), within=30) < 10


def test_a_short_cut_kills_nobody() -> None:
    w = swarm(4)
    sides(w, "n3")
    w.run(3)
    heal(w)
    w.run(60)
    assert not [event for events in w.events.values() for _, event in events if isinstance(event, MemberDown)]
    assert not w.differences(NET)


def test_where_only_udp_is_blocked_nobody_is_dead_and_records_come_by_tcp() -> None:
    w = swarm(3)
    sides(w, "n2", protocols=("udp",))
    w.run(60)
    assert not w.happened("n0", MemberDown, "n2")
    w.nodes["n2"].put(NET, "peer", "late", peer(7))
    w.take("n2")
    w.run(1)
    assert "late" not in {record.key for record in w.nodes["n0"].records(NET)}
    w.run(61)
    assert not w.differences(NET)


def test_two_nodes_that_cannot_reach_each_other_are_vouched_for_by_others() -> None:
    w = swarm(6)
    w.blocked = lambda protocol, source, target: {source, target} == {"n0", "n5"}
    w.run(120)
    assert {member.incarnation for node in w.nodes.values() for member in node.members()} == {0}, "nobody was even suspected"
    w.nodes["n0"].put(NET, "peer", "new", peer(1))
    w.take("n0")
    w.until(lambda: not w.differences(NET), within=2)  # by way of the others


def test_a_node_that_hears_of_its_own_death_denies_it() -> None:
    w = swarm(3)
    slander = b'["vxgossip1",["n9","192.0.2.10",0,0],["dead","n1",0,0,"n9"]]'
    w.nodes["n0"].receive(slander, w.now)
    w.take("n0")
    assert state(w, "n0", "n1") is State.DEAD
    w.until(lambda: state(w, "n0", "n1") is State.ALIVE, within=1)
    assert next(member.incarnation for member in w.nodes["n0"].members() if member.name == "n1") > 0
    assert w.until(lambda: not w.differences(NET), within=1) <= 0.01, "its records are asked for at once"


def test_a_node_that_was_stopped_for_a_while_blames_nobody_when_it_goes_on() -> None:
    w = swarm(3)
    w.run(10)
    w.now += 20  # all of them: the machine was asleep
    w.run(30)
    assert not [event for events in w.events.values() for _, event in events if isinstance(event, MemberDown)]


def test_who_says_good_bye_has_left_at_once_and_is_not_asked_again() -> None:
    w = swarm(4)
    w.nodes["n2"].farewell()
    w.take("n2")
    w.kill("n2")
    w.run(0.1)
    assert all(state(w, name, "n2") is State.LEFT for name in w.nodes)
    assert [event for _, event in w.events["n0"] if isinstance(event, MemberDown)] == [MemberDown("n2", "left")]
    asked = w.sent["exchanges"]
    w.run(20)
    assert w.sent["exchanges"] - asked <= 6  # those of every 30 s
    assert not w.differences(NET)


@pytest.mark.parametrize("incarnation", [1, 0], ids=["with a higher incarnation", "without one"])
def test_what_a_node_said_before_it_started_again_is_withdrawn(incarnation: int) -> None:
    w = swarm(4)
    for number in range(5):
        w.nodes["n2"].put(NET, "peer", f"old {number}", peer(number))
    w.take("n2")
    w.run(2)
    again = w.start("n2", incarnation)
    again.enter(NET)
    again.put(NET, "peer", "new", peer(9))
    w.take("n2")
    w.until(lambda: not w.differences(NET), within=1)
    assert [record.key for record in w.nodes["n0"].records(NET) if record.owner == "n2"] == ["new"]
    if incarnation:
        assert [event for _, event in w.events["n0"] if isinstance(event, MemberDown)] == [MemberDown("n2", "restarted")]


def test_a_node_that_starts_again_is_in_no_network_until_it_says_so() -> None:
    w = swarm(3)
    w.start("n2", 1)
    w.run(60)
    assert {member.name for member in w.nodes["n0"].peers(NET)} == {"n0", "n1"}


def test_a_node_that_starts_again_may_have_another_address() -> None:
    w = swarm(3)
    w.kill("n2")
    node = Gossip("n2", "192.0.2.77", w.now, Random(0), incarnation=5)
    node.meet(["192.0.2.1"])
    for _, request in node.exchanges():
        assert w.nodes["n0"].answer(request, w.now)
    assert next(member.address for member in w.nodes["n0"].members() if member.name == "n2") == "192.0.2.77"


def test_of_two_nodes_that_go_by_one_name_the_first_keeps_it_while_it_is_there() -> None:
    w = swarm(3)
    w.nodes["n0"].receive(b'["vxgossip1",["n1","192.0.2.99",0,5]]', w.now)
    assert next(member.address for member in w.nodes["n0"].members() if member.name == "n1") == "192.0.2.2"


# -- records -------------------------------------------------------------------------------------------------------------------------------------


def test_a_new_record_is_everywhere_after_one_flight() -> None:
    w = swarm(10)
    w.run(5)
    w.nodes["n3"].put(NET, "peer", "new", peer(1))
    w.take("n3")
    assert w.until(lambda: not w.differences(NET), within=1) <= 0.01
    assert (w.now, RecordSet(Record(NET, "peer", "new", "n3", peer(1)))) in [(w.now, event) for _, event in w.events["n0"]]


def test_a_node_that_enters_a_network_and_puts_a_record_at_once_is_understood() -> None:
    w = swarm(3)
    for name in ("n0", "n1"):
        w.nodes[name].enter("web")
        w.take(name)
        w.nodes[name].put("web", "endpoint", f"web.{name}", {"name": name})
        w.take(name)
    assert w.until(lambda: not w.differences("web") and len(w.nodes["n0"].records("web")) == 2, within=1) <= 0.01


def test_only_nodes_in_a_network_get_its_records() -> None:
    w = swarm(5)
    w.watched = []
    for name in ("n0", "n1"):
        w.nodes[name].enter("secret")
        w.take(name)
    w.nodes["n0"].put("secret", "peer", "the-key", peer(1))
    w.nodes["n0"].put("secret", "peer", "large", {"the-key": "x" * 3000})
    w.take("n0")
    w.run(120)
    assert len(w.nodes["n1"].records("secret")) == 2
    assert w.nodes["n2"].records("secret") == []
    assert {target for target, data in w.watched if b"the-key" in data} <= {"n0", "n1"}
    assert {peer.name for peer in w.nodes["n4"].peers("secret")} == {"n0", "n1"}  # that they are in it everybody knows


def test_two_nodes_of_a_network_exchange_its_records_every_half_minute_in_a_swarm_of_any_size() -> None:
    w = swarm(20)
    for name in ("n5", "n11"):
        w.nodes[name].enter("web")
        w.take(name)
    w.run(40)
    w.blocked = lambda protocol, source, target: protocol == "udp"
    w.nodes["n5"].put("web", "peer", "late", peer(1))
    w.take("n5")
    w.until(lambda: not w.differences("web"), within=31)


def test_a_record_that_overtakes_the_news_that_its_owner_entered_is_kept() -> None:
    node = Gossip("n0", "192.0.2.1", 0.0, Random(0))
    node.enter("web")

    def hear(message: str) -> list[str]:
        node.receive(f'["vxgossip1",["n9","192.0.2.10",0,0],{message}]'.encode(), 0.0)
        return [record.key for record in node.records("web")]

    assert hear('["set","n9",0,"web","peer","k",7,{}]') == ["k"]
    assert hear('["in","n9",0,"web",6]') == ["k"]
    assert hear('["out","n9",0,"web",8]') == []
    assert hear('["set","n9",0,"web","peer","k",7,{}]') == []  # late
    assert hear('["set","n9",0,"web","peer","k",10,{}]') == ["k"]  # it is back
    assert hear('["out","n9",0,"web",8]') == ["k"]
    assert hear('["in","n9",0,"web",11]') == []  # that was before it was back once more
    assert [member.name for member in node.peers("web")] == ["n0", "n9"]


def test_a_record_that_changes_back_and_forth_ends_as_it_was_put_last() -> None:
    w = swarm(4, delay=(0.001, 0.5), doubled=0.3)
    for value in (1, 2, 1, 3, 1):
        w.nodes["n0"].put(NET, "endpoint", "web", {"value": value})
        w.take("n0")
        w.run(0.05)
    w.nodes["n0"].drop(NET, "endpoint", "gone")
    w.until(lambda: not w.differences(NET), within=3)
    changes = [event.record.value["value"] for _, event in w.events["n2"] if isinstance(event, RecordSet) and event.record.key == "web"]
    assert changes[-1] == 1
    assert all(a != b for a, b in pairwise(changes)), "a value that is the same is no event"


def test_what_was_deleted_while_a_node_could_not_hear_it_does_not_come_back() -> None:
    w = swarm(4)
    w.nodes["n0"].put(NET, "peer", "short-lived", peer(1))
    w.take("n0")
    w.run(2)
    sides(w, "n3")
    w.run(1)
    w.nodes["n0"].drop(NET, "peer", "short-lived")
    w.take("n0")
    w.run(2.5)  # not dead yet
    heal(w)
    w.run(65)
    assert not w.happened("n0", MemberDown, "n3")
    assert not w.differences(NET)


def test_who_leaves_a_network_takes_its_records_along_and_may_enter_again() -> None:
    w = swarm(3)
    w.nodes["n1"].leave(NET)
    w.take("n1")
    w.run(0.01)
    assert {record.owner for record in w.nodes["n0"].records(NET)} == {"n0", "n2"}
    assert w.mirrors["n1"] == {}
    w.nodes["n1"].enter(NET)
    w.nodes["n1"].put(NET, "peer", "again", peer(2))
    w.take("n1")
    w.until(lambda: not w.differences(NET) and len(w.nodes["n1"].records(NET)) == 3, within=1)


def test_a_record_too_large_for_a_datagram_goes_by_tcp_and_reaches_all() -> None:
    w = swarm(8)
    w.nodes["n5"].put(NET, "endpoint", "large", {"text": "x" * 5000})
    w.take("n5")
    assert w.until(lambda: not w.differences(NET), within=3) < 0.1
    assert w.largest <= 1400


def test_a_thousand_endpoints_at_once_are_known_everywhere_and_to_who_comes_later() -> None:
    w = swarm(10)
    w.run(3)
    w.sent.clear()
    for number in range(1000):
        w.nodes[f"n{number % 10}"].put(NET, "peer", f"{number:064x}", peer(number))
    for name in w.nodes:
        w.take(name)
    assert w.until(lambda: not w.differences(NET), within=2) < 0.05
    w.run(5)
    assert w.sent["datagrams"] < 10_000
    assert w.largest <= 1400
    late = w.start("n10", 0)
    late.enter(NET)
    w.take("n10")
    assert w.until(lambda: not w.differences(NET) and len(late.records(NET)) == 1010, within=2) < 0.05


def test_an_idle_swarm_says_next_to_nothing() -> None:
    w = swarm(10)
    w.run(60)
    w.sent.clear()
    w.run(60)
    # A ping and its acknowledgement for each node and second, and an exchange each in half a minute.
    assert w.sent["datagrams"] <= 2 * 10 * 60 + 20
    assert w.sent["exchanges"] <= 10 * 3


def test_a_node_can_say_only_what_it_has_a_right_to_and_what_json_can_say() -> None:
    node = Gossip("n0", "192.0.2.1", 0.0, Random(0))
    with pytest.raises(ValueError, match="n0 is not in network web"):
        node.put("web", "peer", "k", {})
    node.enter("web")
    with pytest.raises(ValueError, match="JSON"):
        node.put("web", "peer", "k", {"x": float("nan")})
    value = {"list": [1]}
    node.put("web", "peer", "k", value)
    value["list"].append(2)
    assert node.records("web")[0].value == {"list": [1]}


def test_what_was_deleted_and_who_is_dead_is_forgotten_in_the_end() -> None:
    w = swarm(3)
    for number in range(50):
        w.nodes["n0"].put(NET, "peer", f"short-lived {number}", peer(number))
        w.nodes["n0"].drop(NET, "peer", f"short-lived {number}")
    w.take("n0")
    w.kill("n2")
    w.run(60)

    def known() -> bytes:
        return w.nodes["n1"].answer(b'["vxgossip1",["n0","192.0.2.1",0,0],["sync",[]]]', w.now)

    assert known().count(b"short-lived") == 50
    assert len(w.nodes["n1"].members()) == 2
    w.run(1800)
    assert known().count(b"short-lived") == 0
    w.now += 86400
    w.run(3600)
    assert len(w.nodes["n1"].members()) == 1


# -- bad wires -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_all_come_to_know_the_same_over_wires_that_lose_double_and_shuffle(seed: int) -> None:
    w = Wires(7, seed, delay=(0.001, 0.4), loss=0.25, doubled=0.2)
    random = Random(seed)
    for _ in range(200):
        name = random.choice(list(w.nodes))
        node = w.nodes[name]
        network = random.choice(("a", "b"))
        if network not in {record.network for record in node.records(network)} and random.random() < 0.5:
            node.enter(network)
        elif any(member.name == name for member in node.peers(network)):
            if random.random() < 0.7:
                node.put(network, "peer", f"{random.randrange(9)}", peer(random.randrange(99)))
            elif random.random() < 0.7:
                node.drop(network, "peer", f"{random.randrange(9)}")
            else:
                node.leave(network)
        w.take(name)
        w.run(random.random() * 0.3)
    w.until(lambda: not w.differences("a") and not w.differences("b"), within=65)
    assert w.largest <= 1400


# -- strangers -----------------------------------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["n0", "n1", "n2", "n9", "", "ä\ud800", "x" * 300])
_NUMBERS = st.sampled_from([0, 1, 2, 7, 1 << 40, (1 << 52) - 1, 1 << 52, 1 << 60, -1, True, 1.5, None])
_ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.9", "192.0.2.999", "::1", "", "localhost"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
_FIELDS = _NAMES | _NUMBERS | _ADDRESSES | st.sampled_from([NET, "web", "peer", "of n0"]) | _VALUES
_MESSAGES = st.one_of(
    st.tuples(st.sampled_from(["ping", "ask"]), _NUMBERS, _NAMES, _ADDRESSES).map(lambda m: m[:3] if m[0] == "ping" else m),
    st.tuples(st.sampled_from(["ack", "nack"]), _NUMBERS),
    st.tuples(st.just("alive"), _NAMES, _ADDRESSES, _NUMBERS, _NUMBERS),
    st.tuples(st.sampled_from(["suspect", "dead"]), _NAMES, _NUMBERS, _NUMBERS, _NAMES),
    st.tuples(st.sampled_from(["in", "out"]), _NAMES, _NUMBERS, st.sampled_from([NET, "web", ""]), _NUMBERS),
    st.tuples(
        st.just("set"),
        _NAMES,
        _NUMBERS,
        st.just(NET),
        st.just("peer"),
        st.sampled_from(["of n0", "of n1", "k"]),
        _NUMBERS,
        st.dictionaries(st.text(), _VALUES),
    ),
    st.tuples(st.just("gone"), _NAMES, _NUMBERS, st.just(NET), st.just("peer"), st.sampled_from(["of n0", "of n1", "k"]), _NUMBERS),
    st.tuples(st.just("sync"), st.lists(_FIELDS)),
    st.lists(_FIELDS).map(tuple),
)


@given(
    sender=st.tuples(_NAMES, _ADDRESSES, _NUMBERS, _NUMBERS),
    messages=st.lists(_MESSAGES, max_size=8),
    cut=st.integers(0, 30),
    way=st.sampled_from(["udp", "tcp", "reply"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_stranger_says_nothing_is_raised(sender: tuple[Any, ...], messages: list[tuple[Any, ...]], cut: int, way: str) -> None:
    w = swarm(3)
    said = json.dumps(["vxgossip1", sender, *messages]).encode()
    said = said[: len(said) - cut] if cut < 5 else said
    node = w.nodes["n0"]
    {"udp": lambda: node.receive(said, w.now), "tcp": lambda: node.answer(said, w.now), "reply": lambda: node.answered("192.0.2.2", said, w.now)}[
        way
    ]()
    w.take("n0")
    w.run(8)
    assert w.largest <= 1400


@given(data=st.binary(max_size=2000))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_gossip_change_nothing(data: bytes) -> None:
    node = Gossip("n0", "192.0.2.1", 0.0, Random(0))
    node.receive(data, 0.0)
    assert node.answer(data, 0.0) == b""
    node.answered("192.0.2.9", data, 0.0)
    assert node.members() == []
    assert (node.datagrams(), node.exchanges(), node.events()) == ([], [], [])


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'["vxgossip1",["n9","192.0.2.9",0,0],["set","n9",0,"ingress","peer","k",9,' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"]]",
        b'["vxgossip1",["n9","192.0.2.9",0,0],["set","n9",0,"ingress","peer","k",9,{"a":1e999}]]',
        b'["vxgossip1",["n9","192.0.2.9",0,' + b"9" * 5000 + b"]]",
        b'["vxgossip1",["n9","192.0.2.9",0,NaN]]',
    ],
    ids=["nested", "a nested value", "an infinite value", "a long number", "not a number"],
)
def test_json_that_is_meant_to_hurt_does_not(data: bytes) -> None:
    w = swarm(2)
    w.nodes["n0"].receive(data, w.now)
    w.nodes["n0"].answer(data, w.now)
    w.take("n0")
    w.run(5)
    assert {record.key for record in w.nodes["n0"].records(NET)} == {"of n0", "of n1"}


def test_a_flood_of_invented_nodes_and_networks_fills_no_memory() -> None:
    node = Gossip("n0", "192.0.2.1", 0.0, Random(0))
    for number in range(6000):
        node.receive(f'["vxgossip1",["x{number}","198.51.100.1",0,0]]'.encode(), 0.0)
        node.receive(f'["vxgossip1",["x0","198.51.100.1",0,0],["in","x0",0,"net {number}",1],["in","n0",0,"net {number}",1]]'.encode(), 0.0)
    assert len(node.members()) == 4096
    said = node.answer(b'["vxgossip1",["x1","198.51.100.1",0,0],["sync",[]]]', 0.0)
    assert (said.count(b'["in","x0"'), said.count(b'["out","n0"')) == (4096, 4096)


@pytest.mark.parametrize("number", [(1 << 52) - 1, 1 << 52, (1 << 53) - 1, 1 << 60])
def test_numbers_that_leave_no_room_for_a_denial_are_denied_or_passed_over(number: int) -> None:
    w = swarm(2)
    for word in (
        f'"in","n0",0,"{NET}"',
        '"in","n0",0,"web"',
        f'"set","n0",0,"{NET}","peer","of n0"',
        '"suspect","n0",0',
        '"alive","n0","192.0.2.1",0',
    ):
        fields = {"set": f"{number},{{}}", "suspect": f'{number},"n1"'}.get(word.split('"')[1], str(number))
        w.nodes["n0"].receive(f'["vxgossip1",["n9","192.0.2.10",0,0],[{word},{fields}]]'.encode(), w.now)
        w.take("n0")
    w.nodes["n0"].put(NET, "peer", "new", peer(1))
    w.take("n0")
    w.run(5)


# -- any history -----------------------------------------------------------------------------------------------------------------------------------

_NODE = st.sampled_from([f"n{index}" for index in range(5)])
_NETWORK = st.sampled_from(["a", "b"])


class Histories(RuleBasedStateMachine):
    """Nodes come, go, start again and are cut off, while they enter networks and say things there: left alone, all who are there agree."""

    @initialize(seed=st.integers(0, 1 << 16), loss=st.sampled_from([0.0, 0.1, 0.3]))
    def begin(self, seed: int, loss: float) -> None:
        self.w = Wires(5, seed, delay=(0.001, 0.2), loss=loss, doubled=0.1)
        self.lives = dict.fromkeys(self.w.nodes, 0)

    def on(self, name: str, act: Callable[[Gossip], None]) -> None:
        node = self.w.nodes.get(name)
        if node is not None:
            act(node)
            self.w.take(name)

    @rule(name=_NODE, network=_NETWORK)
    def enter(self, name: str, network: str) -> None:
        self.on(name, lambda node: node.enter(network))

    @rule(name=_NODE, network=_NETWORK)
    def leave(self, name: str, network: str) -> None:
        self.on(name, lambda node: node.leave(network))

    @rule(name=_NODE, network=_NETWORK, key=st.sampled_from(["x", "y"]), value=st.integers(0, 2), large=st.booleans())
    def put(self, name: str, network: str, key: str, value: int, large: bool) -> None:
        self.on(name, lambda node: node.enter(network) or node.put(network, "peer", key, {"value": value, "padding": "x" * (2000 * large)}))

    @rule(name=_NODE, network=_NETWORK, key=st.sampled_from(["x", "y"]))
    def drop(self, name: str, network: str, key: str) -> None:
        self.on(name, lambda node: node.drop(network, "peer", key))

    @rule(name=_NODE)
    def kill(self, name: str) -> None:
        if name in self.w.nodes:
            self.w.kill(name)

    @rule(name=_NODE, lives=st.integers(0, 1))
    def start(self, name: str, lives: int) -> None:
        self.lives[name] += lives
        self.w.start(name, self.lives[name])

    @rule(name=_NODE)
    def farewell(self, name: str) -> None:
        self.on(name, lambda node: node.farewell())
        self.w.nodes.pop(name, None)

    @rule(apart=st.sets(_NODE), protocols=st.sampled_from([("udp",), ("tcp",), ("udp", "tcp")]))
    def cut(self, apart: set[str], protocols: tuple[str, ...]) -> None:
        sides(self.w, *apart, protocols=protocols)

    @rule(one=_NODE, other=_NODE)
    def cut_one_way(self, one: str, other: str) -> None:
        self.w.blocked = lambda protocol, a, b: (a, b) == (one, other)

    @rule()
    def heal(self) -> None:
        heal(self.w)

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.w.run(seconds)

    @precondition(lambda self: self.w.now > 0)
    @invariant()
    def what_happened_amounts_to_what_is_known(self) -> None:
        for name, node in self.w.nodes.items():
            there = {(r.network, r.table, r.key, r.owner): r for network in ("a", "b") for r in node.records(network) if r.owner != name}
            assert self.w.mirrors[name] == there
            assert all(isinstance(event, RecordSet | RecordGone | MemberUp | MemberDown) for _, event in self.w.events[name])

    def teardown(self) -> None:
        if not hasattr(self, "w"):
            return
        heal(self.w)
        self.w.loss = 0.0
        if not {"n0", "n1"} & self.w.nodes.keys():  # somebody has to be there whom all were told of
            self.lives["n0"] += 1
            self.w.start("n0", self.lives["n0"])
        names = set(self.w.nodes)

        def agreed() -> bool:
            there = {name: {m.name for m in node.members() if m.state is State.ALIVE} for name, node in self.w.nodes.items()}
            return all(known == names - {name} for name, known in there.items()) and not self.w.differences("a") and not self.w.differences("b")

        self.w.until(agreed, within=240)
        assert self.w.largest <= 1400


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
