"""The store keeps its promises: all or nothing, nobody's change lost, and a journal from which it comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vxtool.model import TaskState
from vxtool.swarm.objects import Node, Service, ServiceSpec, Task
from vxtool.swarm.store import Changes, OutOfSequence, Record, Store


def _filled() -> Store:
    store = Store()
    with store.transaction() as change:
        change.node(None, Node("n"))
        change.service(None, Service("s", ServiceSpec("web")))
        for slot in (1, 2):
            change.task(None, Task(f"t{slot}", "s", slot))
    return store


def test_every_object_of_a_transaction_carries_its_version() -> None:
    store = _filled()
    assert {one.version for table in (store.nodes, store.services, store.tasks) for one in table.values()} == {1}  # type: ignore[attr-defined]
    with store.transaction() as change:
        change.task(store.tasks["t1"], replace(store.tasks["t1"], node="n"))
    assert (store.tasks["t1"].version, store.tasks["t2"].version, store.version) == (2, 1, 2)


def test_a_change_made_from_an_old_version_is_out_of_sequence() -> None:
    store = _filled()
    old = store.tasks["t1"]
    with store.transaction() as change:
        change.task(old, replace(old, node="n"))
    with pytest.raises(OutOfSequence, match=r"^update out of sequence$"), store.transaction() as change:
        change.task(old, replace(old, node="m"))
    assert store.tasks["t1"].node == "n"


def test_a_transaction_that_fails_has_not_happened() -> None:
    store = _filled()
    store.take()
    before = dict(store.tasks), dict(store.services), dict(store.nodes)

    def fail() -> None:
        with store.transaction() as change:
            change.task(store.tasks["t1"], replace(store.tasks["t1"], node="n", state=TaskState.ASSIGNED))
            change.task(store.tasks["t1"], replace(store.tasks["t1"], state=TaskState.RUNNING))
            change.task(store.tasks["t2"], None)
            change.task(None, Task("t3", "s", 3, "n"))
            change.service(store.services["s"], None)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert (store.tasks, store.services, store.nodes) == before
    assert (store.on_node("n"), store.named("service", "web"), store.version) == ([], "s", 1)
    assert sorted(task.id for task in store.of_service("s")) == ["t1", "t2"]
    assert not store.take()


def test_a_journal_that_cannot_be_written_stops_the_transaction() -> None:
    def full(version: int, changes: Changes) -> None:
        raise OSError("no space left on device")

    store = Store(full)
    with pytest.raises(OSError, match="no space"), store.transaction() as change:
        change.node(None, Node("n"))
    assert (dict(store.nodes), store.version) == ({}, 0)


def test_a_store_comes_back_from_its_journal() -> None:
    written: list[tuple[int, list[Record]]] = []
    store = Store(lambda version, changes: written.append((version, list(changes.records()))))
    with store.transaction() as change:
        change.service(None, Service("s", ServiceSpec("web")))
        change.task(None, Task("t1", "s", 1))
        change.task(None, Task("t2", "s", 2))
    with store.transaction() as change:
        change.task(store.tasks["t1"], replace(store.tasks["t1"], node="n"))
        change.task(store.tasks["t2"], None)
    again = Store()
    for version, records in written:
        again.replay(version, records)
    assert (again.tasks, again.services, again.version) == (store.tasks, store.services, store.version)
    assert [task.id for task in again.on_node("n")] == ["t1"]
    assert again.named("service", "web") == "s"
