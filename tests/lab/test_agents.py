"""Whether an agent lives can be asked by anybody at any time: it disturbs none that begins, and none that is dead is called alive."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from vxtool.lab.agents import Agents, lock


def _ask(folder: Path, over: Event, asked: Event, answers: multiprocessing.SimpleQueue[bool]) -> None:
    agents, alive = Agents(folder), False
    while not over.is_set():
        alive |= agents.alive("dead")
        agents.alive("beginning")
        asked.set()
    answers.put(alive)


def test_who_asks_whether_an_agent_lives_takes_nothing_from_one_that_begins(tmp_path: Path) -> None:
    (tmp_path / "dead.lock").touch()
    over, asked = multiprocessing.Event(), [multiprocessing.Event() for _ in range(2)]
    answers: multiprocessing.SimpleQueue[bool] = multiprocessing.SimpleQueue()
    asking = [multiprocessing.Process(target=_ask, args=(tmp_path, over, one, answers)) for one in asked]
    for process in asking:
        process.start()
    for one in asked:
        assert one.wait(10)
    refused, end = 0, time.monotonic() + 0.5
    while time.monotonic() < end:
        held = lock(tmp_path / "beginning.lock")
        if held is None:
            refused += 1
        else:
            os.close(held)
    over.set()
    assert [answers.get() for _ in asking] == [False, False]
    assert refused == 0


def test_an_agent_lives_as_long_as_its_process(tmp_path: Path) -> None:
    ready, begun = os.pipe()
    waiting, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        lock(tmp_path / "vm1.lock")
        os.write(begun, b".")
        os.read(waiting, 1)
        os._exit(0)
    os.read(ready, 1)
    assert Agents(tmp_path).alive("vm1")
    assert lock(tmp_path / "vm1.lock") is None
    os.close(go)
    os.waitpid(pid, 0)
    assert not Agents(tmp_path).alive("vm1")
    assert not Agents(tmp_path).alive("nobody")
