"""The journal holds what has happened: whole, in order, and no more than it must; and when there is no room, nothing has happened."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from tests.swarm.agents import SimulatedAgents
from tests.swarm.kill import fingerprint, kill_again_and_again
from vxtool.errors import UsageError
from vxtool.model import NodeState, TaskState
from vxtool.swarm import journal as journal_module
from vxtool.swarm.control import INGRESS
from vxtool.swarm.dispatcher import Report
from vxtool.swarm.journal import Journal, JournalError, JournalLost
from vxtool.swarm.objects import NetworkSpec, Node, Resources, Service, ServiceSpec, Settings, SubnetSpec, Task, TaskNetwork, TaskSpec
from vxtool.swarm.store import Changes
from vxtool.swarm.swarm import Swarm


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def world(path: Path, nodes: int = 3, **settings: int) -> tuple[Swarm, SimulatedAgents]:
    store = Journal(path).load()
    swarm = Swarm(Settings(**settings), store=store, random=Random(len(store.tasks)))
    agents = SimulatedAgents(swarm)
    if not store.networks:
        swarm.tell(swarm.control.create_network, INGRESS)
        swarm.tell(swarm.control.create_network, NetworkSpec("web", subnets=(SubnetSpec("10.64.0.0/16"),)))
        for number in range(1, nodes + 1):
            swarm.tell(swarm.control.add_node, Node(f"vm{number}", f"vm{number}", state=NodeState.UNKNOWN))
    for name in list(store.nodes):
        agents.connect(name, Node(name, name, resources=Resources(64_000_000_000, 64 << 30)))
    return swarm, agents


def web(replicas: int, **more: int) -> ServiceSpec:
    return ServiceSpec("web", TaskSpec("httpd", networks=(TaskNetwork("web"),), **more), replicas=replicas)  # type: ignore[arg-type]


def rows(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as database:
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("objects", "templates")}


def test_what_is_read_is_what_was_written_field_by_field_and_in_order(path: Path) -> None:
    swarm, agents = world(path)
    swarm.tell(swarm.control.create_service, web(5))
    agents.run(2.0)
    again = Journal(path).load()
    assert (again.version, fingerprint(again)) == (swarm.store.version, fingerprint(swarm.store))
    assert list(again.tasks) == list(swarm.store.tasks)
    for service in again.services:
        assert [task.id for task in again.of_service(service)] == [task.id for task in swarm.store.of_service(service)]


def test_tasks_of_a_service_share_their_specification_in_the_file_and_in_memory(path: Path) -> None:
    swarm, agents = world(path)
    swarm.tell(swarm.control.create_service, web(50))
    agents.run(2.0)
    assert rows(path)["templates"] == 1
    again = Journal(path).load()
    assert len({id(task.spec) for task in again.tasks.values()}) == 1
    swarm, agents = world(path)
    swarm.tell(swarm.control.scale_service, "web", 60)
    agents.run(2.0)
    assert rows(path)["templates"] == 1, "also when another process has gone on"


def test_a_swarm_that_goes_round_and_round_does_not_grow(path: Path) -> None:
    swarm, agents = world(path, history_limit=1)
    sizes = []
    for number in range(60):
        if number == 30:
            sizes.append(path.stat().st_size)
        swarm.tell(swarm.control.create_service, web(20, force_update=number))
        agents.run(1.0)
        swarm.tell(swarm.control.remove_service, "web")
        agents.run(2.0)
    assert rows(path) == {"objects": 5, "templates": 0}
    assert path.stat().st_size <= sizes[0] * 1.1
    assert path.with_name(path.name + "-wal").stat().st_size < 8 << 20


def test_notes_are_kept_beside_the_objects(path: Path) -> None:
    journal = Journal(path)
    journal.meta["base"] = 17.5
    journal.meta["secrets"] = {"vm1": "s"}
    journal.meta["secrets"] = {"vm1": "t"}
    del journal.meta["base"]
    journal.close()
    assert dict(Journal(path).meta) == {"secrets": {"vm1": "t"}}
    with pytest.raises(KeyError):
        Journal(path).meta["base"]


def test_a_transaction_that_raises_leaves_nothing_in_the_journal(path: Path) -> None:
    store = Journal(path).load()

    def fail() -> None:
        with store.transaction() as change:
            change.service(None, Service("s", ServiceSpec("web")))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.transaction() as change:
        change.service(None, Service("t", ServiceSpec("web")))
        change.task(None, Task("a", "t", 1))
        change.task(store.tasks["a"], None)
    assert list(Journal(path).load().services) == ["t"]
    assert rows(path) == {"objects": 1, "templates": 0}


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file of this process may grow beyond what the journal and its log have now: for SQLite the same as a disk with no room left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_the_transaction_has_not_happened_and_later_ones_do(path: Path) -> None:
    store = Journal(path).load()
    with store.transaction() as change:
        change.node(None, Node("n", "vm1"))
    tasks = [Task(f"t{number}", "s", number, spec=TaskSpec("httpd", env=("x" * 1000,))) for number in range(100)]
    before = fingerprint(store)

    def write() -> None:
        with store.transaction() as change:
            for task in tasks:
                change.task(None, task)

    with full_disk(path):
        with pytest.raises(JournalError, match=r"journal.sqlite cannot be written: .*; nothing of the change has happened$"):
            write()
        assert (store.version, fingerprint(store), fingerprint(Journal(path).load())) == (1, before, before)
    write()
    assert (store.version, fingerprint(Journal(path).load())) == (2, fingerprint(store))
    assert rows(path)["templates"] == 1


@pytest.mark.parametrize("nth", range(1, 13))
def test_a_swarm_whose_journal_has_no_room_takes_nothing_on_and_goes_on_when_there_is_room_again(path: Path, nth: int) -> None:
    """Room ends with the nth transaction: the first is the user's own, the others follow from it."""
    swarm, agents = world(path)
    journal = Journal(path)
    journal.load()
    room = nth

    def write(version: int, changes: Changes) -> None:
        nonlocal room
        room -= 1
        if room <= 0:
            raise JournalError("no room")
        journal.write(version, changes)

    swarm.store.journal_to(write)
    with suppress(JournalError):
        swarm.tell(swarm.control.create_service, web(6))
        agents.run(1.0)
    assert bool(swarm.store.services) is (nth > 1)
    with pytest.raises(JournalError, match="no room"):
        swarm.tell(swarm.control.create_service, web(6))
    swarm.advance(swarm.now + 5.0)
    assert swarm.trouble is not None
    assert swarm.next_due() == swarm.now + 1.0
    assert fingerprint(Journal(path).load()) == fingerprint(swarm.store)
    room = 1_000_000
    swarm.advance(swarm.now + 1.0)
    assert swarm.trouble is None
    agents.run(20.0)
    assert not swarm.store.services or len({one.address for task in swarm.store.tasks.values() for one in task.networks}) == 6
    assert all(task.state is TaskState.RUNNING for task in swarm.store.tasks.values())
    assert fingerprint(Journal(path).load()) == fingerprint(swarm.store)


def test_what_is_no_journal_is_refused(path: Path) -> None:
    path.write_text("once upon a time " * 100)
    with pytest.raises(JournalError, match="cannot be opened: file is not a database"):
        Journal(path)


def test_a_journal_that_says_what_no_swarm_says_is_refused(path: Path) -> None:
    world(path)
    with sqlite3.connect(path) as database:
        database.execute("""UPDATE objects SET value = '{"id": 7}' WHERE kind = 'node'""")
    with pytest.raises(JournalError, match=r"is no journal of a swarm that can be read: node\.id: 7 is not a text"):
        Journal(path).load()


def test_a_thousand_tasks_go_through_all_states_in_a_second(path: Path) -> None:
    swarm, _ = world(path, 10)
    begin = time.process_time()
    swarm.tell(swarm.control.create_service, web(1000))
    for state in (TaskState.ACCEPTED, TaskState.PREPARING, TaskState.READY, TaskState.STARTING, TaskState.RUNNING):
        for task in list(swarm.store.tasks.values()):  # a transaction each
            swarm.tell(swarm.dispatcher.report, task.node, [Report(task.id, state)])
    assert time.process_time() - begin < 2.0  # 0.7 s on a machine that does nothing else


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="kills processes as Linux does")
def test_nothing_acknowledged_is_lost_when_the_process_is_killed() -> None:
    """Hundreds of times by `python -m tests.swarm.kill --times 300`."""
    assert signal.SIGKILL
    assert kill_again_and_again(25, seed=3).startswith("25 kills")


def test_a_question_and_its_answer_are_written_together(path: Path) -> None:
    swarm, _ = world(path)
    journal = Journal(path)
    swarm.store.journal_to(journal.write)
    journal.load()

    def create() -> str:
        return swarm.tell(swarm.control.create_service, web(3)).id

    answer = journal.once("k1", create)
    assert journal.once("k1", lambda: pytest.fail("it was done already")) == answer
    assert Journal(path).once("k1", lambda: pytest.fail("it was done already")) == answer
    assert answer in Journal(path).load().services


def test_what_a_process_dies_over_between_a_change_and_its_answer_has_not_happened(path: Path) -> None:
    world(path)
    before = fingerprint(Swarm(store=Journal(path).load(), random=Random(7)).store)  # its nodes are unknown until their agents are back
    pid = os.fork()
    if pid == 0:
        journal = Journal(path)
        store = journal.load()
        mortal = Swarm(store=store, random=Random(7))

        def die() -> None:
            mortal.tell(mortal.control.create_service, web(3))
            os._exit(0 if store.services else 1)

        journal.once("k1", die)
    assert os.waitpid(pid, 0)[1] == 0
    assert fingerprint(Journal(path).load()) == before
    assert Journal(path).once("k1", lambda: "anew") == "anew"


def test_a_question_that_is_refused_keeps_what_it_did_before_and_no_answer(path: Path) -> None:
    world(path)
    journal = Journal(path)
    swarm = Swarm(store=journal.load(), random=Random(7))

    def refuse() -> None:
        swarm.tell(swarm.control.create_network, NetworkSpec("other"))
        raise UsageError("no")

    with pytest.raises(UsageError):
        journal.once("k1", refuse)
    assert fingerprint(Journal(path).load()) == fingerprint(swarm.store)
    assert journal.once("k1", lambda: "later") == "later"


def test_only_the_last_answers_are_kept(path: Path) -> None:
    journal = Journal(path)
    for number in range(journal_module.ANSWERS + 10):
        journal.once(f"k{number}", lambda number=number: number)  # type: ignore[misc]
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone()[0] == journal_module.ANSWERS
    assert journal.once("k0", lambda: "anew") == "anew"


def test_when_the_whole_cannot_be_written_in_the_end_the_journal_says_that_the_store_is_wrong(path: Path) -> None:
    world(path)
    journal = Journal(path)
    swarm = Swarm(store=journal.load(), random=Random(7))
    before = fingerprint(swarm.store)

    def lose() -> None:
        swarm.tell(swarm.control.create_network, NetworkSpec("other"))
        journal._database.execute("ROLLBACK")  # as SQLite does when there is no room
        with pytest.raises(JournalError):
            swarm.tell(swarm.control.create_network, NetworkSpec("another"))

    with pytest.raises(JournalLost):
        journal.once("k1", lose)
    assert fingerprint(journal.load()) == before
