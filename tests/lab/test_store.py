"""What a lab remembers: nouns survive being written down, nonsense is refused with its place, and operations are there after a crash."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxtool.errors import UsageError
from vxtool.lab.encryption import Key
from vxtool.lab.spec import LabSpec, NetworkWish, from_options
from vxtool.lab.store import Entry, Store
from vxtool.lab.topology import Impairment, Link, Topology
from vxtool.model import Cluster, Endpoint, EndpointKind, Mac, Network, Node, Subnet, TaskState
from vxtool.model.plain import plain, revive

SPEC = from_options(nodes=3, networks=[NetworkWish("web"), NetworkWish("db", (Subnet(IPv4Network("10.9.0.0/16")),), internal=True)], endpoints=4)


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(plain(value)))


def test_a_whole_lab_survives_being_written_down() -> None:
    assert revive(LabSpec, over_the_wire(SPEC)) == SPEC


@pytest.mark.parametrize(
    "noun",
    [
        Node("vm1", labels={"rack": "1"}, advertise=IPv4Address("192.0.2.1"), derived=frozenset({"data_path", "advertise"})),
        Network("web", vnis=(4097,), members=frozenset(), options={"encrypted": ""}),
        Network("web", members=None),
        Endpoint("web", IPv4Address("10.0.1.3"), mac=Mac(0x02420A000103), kind=EndpointKind.LOAD_BALANCER),
        Impairment(rate=10_000_000, delay_ms=0.3, loss=1.0),
        Key(7, bytes(range(16))),
        IPv4Interface("192.0.2.1/24"),
        TaskState.RUNNING,
    ],
    ids=lambda noun: type(noun).__name__,
)
def test_a_noun_survives_being_written_down(noun: Any) -> None:
    assert revive(type(noun), over_the_wire(noun)) == noun


@given(st.builds(Impairment, rate=st.none() | st.integers(8, 10**12), delay_ms=st.floats(0, 60_000), loss=st.floats(0, 100), down=st.booleans()))
def test_any_impairment_survives_being_written_down(impairment: Impairment) -> None:
    assert revive(Impairment, over_the_wire(impairment)) == impairment


@dataclass(frozen=True)
class Wish:
    name: str
    count: int = 1
    share: float = 0.0
    really: bool = False
    address: IPv4Address | None = None
    pairs: tuple[tuple[str, int], ...] = ()
    key: bytes = b""


WRONG = {
    "no object": ([], "wish: [] is not an object"),
    "something is missing": ({}, "wish lacks name"),
    "something is too much": ({"name": "x", "colour": "red"}, "wish has no 'colour'; there are name, count, share, really, address, pairs, key"),
    "a number for a text": ({"name": 7}, "wish.name: 7 is not a text"),
    "a text for a number": ({"name": "x", "count": "7"}, 'wish.count: "7" is not a whole number'),
    "a truth for a number": ({"name": "x", "count": True}, "wish.count: true is not a whole number"),
    "a fraction for a whole number": ({"name": "x", "count": 1.5}, "wish.count: 1.5 is not a whole number"),
    "a number for a truth": ({"name": "x", "really": 1}, "wish.really: 1 is not true or false"),
    "nothing for a text": ({"name": None}, "wish.name: null is not a text"),
    "no address": ({"name": "x", "address": "10.0.1"}, 'wish.address: "10.0.1" is not an IPv4Address'),
    "a number for an address": ({"name": "x", "address": 1}, "wish.address: 1 is not an IPv4Address"),
    "no list": ({"name": "x", "pairs": {}}, "wish.pairs: {} is not a list"),
    "a short pair": ({"name": "x", "pairs": [["a", 1], ["b"]]}, 'wish.pairs[1]: ["b"] is not a list of 2'),
    "no bytes": ({"name": "x", "key": "xyz"}, 'wish.key: "xyz" is not bytes in hexadecimal'),
    "something long": ({"name": ["y" * 100]}, 'wish.name: ["' + "y" * 54 + " ... is not a text"),
}


@pytest.mark.parametrize(("value", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_with_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        revive(Wish, value)
    assert str(refusal.value) == sentence


def test_whole_numbers_are_fractions_too() -> None:
    assert revive(Wish, {"name": "x", "share": 1}).share == 1.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_a_lab_or_refused(value: Any) -> None:
    for kind in (Cluster, Topology, Link):
        try:
            revive(kind, value)
        except UsageError:
            continue


# -- the journal -----------------------------------------------------------------------------------------------------------


def test_operations_are_kept_in_their_order_with_how_far_they_came(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    for key in ("a", "b", "c", "d"):
        store.begin(key, "attach", {"name": key})
    store.finish("a")
    store.forget("b")
    store.finish("c")
    expected = [Entry("a", "attach", {"name": "a"}, True), Entry("c", "attach", {"name": "c"}, True), Entry("d", "attach", {"name": "d"}, False)]
    assert store.entries() == expected
    store.close()
    assert Store(tmp_path / "store.sqlite").entries() == expected


def test_a_key_is_known_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    assert store.entry("a") is None
    store.begin("a", "detach", {"name": "web.1"})
    assert store.entry("a") == Entry("a", "detach", {"name": "web.1"}, False)
    with pytest.raises(sqlite3.IntegrityError):
        store.begin("a", "detach", {"name": "web.2"})


def test_what_was_written_before_the_writer_was_killed_is_there(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        store = Store(tmp_path / "store.sqlite")
        store.begin("a", "attach", {})
        store.finish("a")
        store.begin("b", "attach", {})
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert [(entry.key, entry.done) for entry in Store(tmp_path / "store.sqlite").entries()] == [("a", True), ("b", False)]
