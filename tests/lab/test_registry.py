"""Which labs there are: alive is who holds the lock, and of the others nothing stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vxtool.errors import UsageError
from vxtool.lab import cgroups, leader, registry

HOLD = """
import fcntl, sys
lock = open(sys.argv[1])
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry without labs; whoever asks is taken for root."""
    monkeypatch.setenv("VXTOOL_RUN", str(tmp_path / "run"))
    monkeypatch.delenv("VXTOOL_LAB", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "run"


class Labs:
    """Folders of labs whose leader is any process that holds the lock."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.leaders: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> Path:
        with registry.alone() as home:
            place = home / name
            place.mkdir()
            (place / "lock").touch()
            process = subprocess.Popen([sys.executable, "-c", HOLD, place / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            process.stdout.readline()
            registry.record(place, process.pid)
        self.leaders[name] = process
        return place

    def die(self, name: str) -> None:
        process = self.leaders.pop(name)
        process.kill()
        process.communicate()


@pytest.fixture
def labs(home: Path) -> Iterator[Labs]:
    labs = Labs(home)
    yield labs
    for name in list(labs.leaders):
        labs.die(name)


def test_asking_makes_nothing(home: Path) -> None:
    assert registry.running() == []
    assert registry.sweep() == []
    assert not home.exists()


def test_a_lab_is_alive_as_long_as_its_leader(labs: Labs) -> None:
    place = labs.start("a")
    (found,) = registry.running()
    assert (found.name, found.folder, found.leader) == ("a", place, labs.leaders["a"].pid)
    assert found.path("vm1") == Path(f"/proc/{found.leader}/root/run/netns/vm1")
    assert registry.sweep() == []
    labs.die("a")
    assert registry.running() == []
    assert place.exists()


def test_the_sweep_removes_the_dead_and_only_them_and_then_itself(labs: Labs, home: Path) -> None:
    for name in ("a", "b"):
        labs.start(name)
    labs.die("a")
    assert registry.sweep() == [f"lab a had died: removed {home / 'a'}"]
    assert [lab.name for lab in registry.running()] == ["b"]
    labs.die("b")
    registry.sweep()
    assert not home.exists()


@pytest.mark.parametrize("files", [(), ("lock",), ("lock", "cgroups"), ("lock", "cgroups", "leader")], ids=lambda files: " ".join(files) or "none")
def test_who_was_killed_while_making_a_lab_leaves_what_the_sweep_removes(home: Path, files: tuple[str, ...]) -> None:
    (home / "half").mkdir(parents=True)
    for file in files:
        (home / "half" / file).touch()
    (home / ".lock").touch()
    assert len(registry.sweep()) == 1
    assert not home.exists()


def test_who_was_killed_between_the_last_lab_and_the_registry_leaves_what_the_sweep_removes(home: Path) -> None:
    home.mkdir()
    (home / ".lock").touch()
    assert registry.sweep() == []
    assert not home.exists()


@pytest.mark.parametrize("stranger", ["thesis.txt", "photos/holiday.jpg", ".config/mail", "a link"])
def test_in_a_folder_with_anything_that_is_no_labs_nothing_is_touched(home: Path, labs: Labs, stranger: str) -> None:
    place = labs.start("a")
    labs.die("a")
    other = home / stranger
    other.parent.mkdir(exist_ok=True)
    if stranger == "a link":
        (home.parent / "empty").mkdir()
        other.symlink_to(home.parent / "empty")
    else:
        other.write_text("precious")
    for ask in (registry.sweep, registry.running, lambda: registry.find(None)):
        with pytest.raises(UsageError, match="belongs to no lab, so nothing there is touched"):
            ask()
    assert place.exists()
    assert other.exists()


def test_a_wish_that_a_lab_ends_is_fulfilled_by_whoever_finds_it(labs: Labs, home: Path) -> None:
    (labs.start("a") / "down").touch()
    assert registry.sweep() == [f"lab a was to end: removed {home / 'a'}"]
    assert labs.leaders["a"].wait(5) == -9


def test_end_kills_the_leader_and_removes_the_folder(labs: Labs, home: Path) -> None:
    labs.start("a")
    registry.end(registry.find("a"))
    assert labs.leaders["a"].wait(5) == -9
    assert not home.exists()


def test_end_of_a_lab_that_has_been_followed_by_another_of_its_name_touches_nothing(labs: Labs) -> None:
    labs.start("a")
    old = registry.find("a")
    labs.die("a")
    registry.sweep()
    labs.start("a")
    registry.end(old)
    assert [lab.name for lab in registry.running()] == ["a"]


def test_the_one_lab_needs_no_name(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no lab is running"):
        registry.find(None)
    labs.start("alpha")
    assert registry.find(None).name == "alpha"
    labs.start("beta")
    with pytest.raises(UsageError, match=r"2 labs are running \(alpha, beta\)"):
        registry.find(None)
    assert registry.find("beta").name == "beta"
    monkeypatch.setenv("VXTOOL_LAB", "alpha")
    assert registry.find(None).name == "alpha"
    with pytest.raises(UsageError, match="did you mean beta"):
        registry.find("betta")


@pytest.mark.parametrize("name", ["", ".", "..", ".lock", "a/b", "-x", "a b", "x" * 64, "ä", "a\n"])
def test_some_names_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        registry.check_name(name)


def test_only_one_at_a_time_makes_or_removes_a_lab(home: Path) -> None:
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        for _ in range(40):
            with registry.alone():
                inside += 1
                most = max(most, inside)
                os.sched_yield()
                inside -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert most == 1
    assert not home.exists()


# -- control groups --------------------------------------------------------------------------------------------------------


def hierarchies(folder: Path) -> Path:
    """A /proc/self/mounts with two hierarchies of version 1 and one of version 2 that hands on nothing."""
    lines = []
    for kind, name, options in (
        ("cgroup", "memory", "rw,memory"),
        ("cgroup", "cpu", "rw,cpu,cpuacct"),
        ("cgroup2", "unified", "rw"),
        ("tmpfs", "x", "rw"),
    ):
        (folder / name).mkdir()
        lines.append(f"{kind} {folder / name} {kind} {options} 0 0\n")
    (folder / "unified" / "cgroup.subtree_control").touch()
    (folder / "mounts").write_text("".join(lines))
    return folder / "mounts"


def test_control_groups_are_written_down_and_removed_exactly(tmp_path: Path) -> None:
    mounts, record = hierarchies(tmp_path), tmp_path / "cgroups"
    groups = cgroups.prepare("a", record, mounts)
    assert groups == {"memory": tmp_path / "memory/vxtool/a", "cpu": tmp_path / "cpu/vxtool/a"}
    assert cgroups.read(record) == groups
    cgroups.prepare("b", tmp_path / "other", mounts)
    (tmp_path / "memory/vxtool/a/program-1").mkdir()
    assert cgroups.remove(record) == 2
    assert [path.name for path in (tmp_path / "memory/vxtool").iterdir()] == ["b"]
    cgroups.remove(tmp_path / "other")
    assert list((tmp_path / "memory").iterdir()) == []


def test_control_groups_that_were_written_down_and_never_made_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "cgroups").write_text(f"memory {tmp_path / 'memory/vxtool/a'}\n")
    assert cgroups.remove(tmp_path / "cgroups") == 0


# -- the leader's child ----------------------------------------------------------------------------------------------------


def test_a_supervisor_that_keeps_dying_is_started_later_each_time_and_in_the_end_not_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(leader.time, "monotonic", lambda: now)
    reader, listener = os.pipe()
    supervisor = leader.Supervisor(["/bin/true"], listener)
    supervisor.start()
    delays = []
    while True:
        os.waitpid(supervisor.pid or -1, 0)
        supervisor.died()
        delay = supervisor.delay_ms()
        if delay is None:
            break
        delays.append(delay)
        now += delay / 1000
        supervisor.start_if_due()
    assert delays == sorted(delays)
    assert delays[0] < 100
    assert delays[-1] <= 10_000
    with pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.fcntl(listener, fcntl.F_GETFD)  # whoever asks is refused from now on
    os.close(reader)


def test_a_supervisor_that_lived_long_is_started_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(leader.time, "monotonic", lambda: now)
    reader, listener = os.pipe()
    supervisor = leader.Supervisor(["/bin/true"], listener)
    for _ in range(30):
        supervisor.start()
        os.waitpid(supervisor.pid or -1, 0)
        now += 3600
        supervisor.died()
        assert supervisor.delay_ms() == pytest.approx(50)
    os.close(reader)
    os.close(listener)
