"""Containers of tasks: what a program in one sees, how it ends, what is left of it. The test is the agent; its private world is the lab."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vxtool.errors import LabError, MissingFeature, UsageError, VxtoolError
from vxtool.lab import cgroups, containers, namespaces, programs
from vxtool.lab.containers import Container, NotStarted, Wanted
from vxtool.lab.places import Place, PlaceKind
from vxtool.lab.programs import Limits
from vxtool.lab.registry import Running

NAMESPACE = "vm1:web.1.abc"
PLACE = Place(PlaceKind.ENDPOINT, "web.1.abc", NAMESPACE, "vm1", ("eth0",))
HOSTS = "127.0.0.1\tlocalhost\n10.0.1.3\tweb.1.abc\n"


def wanted(lab: Path, *args: str, **given: Any) -> Wanted:
    """A container of the image `host` that runs a command line, unless told otherwise."""
    facts: dict[str, Any] = {"image": "host", "name": "web.1.abc", "namespace": NAMESPACE, "hostname": "web.1.abc", "log": lab / "log", "args": args}
    return Wanted(lab=lab, **facts | given)


def sandbox(name: str = NAMESPACE) -> None:
    namespaces.create(name)


def end(container: Container, patience: float = 10.0) -> int:
    assert select.select([container], [], [], patience)[0], "it has not ended"
    code = container.code()
    assert code is not None
    container.close()
    return code


def ran(lab: Path, *args: str, **given: Any) -> tuple[int, str]:
    """Exit code of a container, and what it has written, without the times."""
    code = end(containers.start(wanted(lab, *args, **given)))
    return code, "".join(line.partition(" ")[2] for line in (lab / "log").read_text().splitlines(keepends=True))


def until(true: Callable[[], object], patience: float = 10.0) -> None:
    give_up = time.monotonic() + patience
    while not true():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.01)


def processes() -> dict[int, str]:
    """Those of this world, but for the test's own."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                found[int(name)] = Path(f"/proc/{name}/comm").read_text().strip()
            except OSError:
                continue
    return found


def asked(port: int, request: bytes, namespace: str = NAMESPACE) -> bytes:
    """What a server in the sandbox answers until it hangs up."""
    with namespaces.inside(namespaces.NETNS / namespace):
        connection = socket.create_connection(("127.0.0.1", port), 5)
    with connection:
        connection.sendall(request)
        told = b""
        while piece := connection.recv(1 << 16):
            told += piece
        return told


def page(path: str = "/", port: int = 80, namespace: str = NAMESPACE) -> str:
    return asked(port, f"GET {path} HTTP/1.0\r\n\r\n".encode(), namespace).partition(b"\r\n\r\n")[2].decode()


# -- what a program sees ---------------------------------------------------------------------------------------------------

WHAT_IS_SEEN = {
    "its host name": (["uname", "-n"], "web.1.abc"),
    "nobody's user and group": (["id", "-u", "-n"], "nobody"),
    "itself as process 2, below its init": (["sh", "-c", "echo $$ $PPID; cat /proc/1/comm"], "2 1\nvxtool-init"),
    "Docker's environment and nothing of the agent's": (
        ["env"],
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=web.1.abc\nHOME=/nonexistent\nCOLOUR=blue",
    ),
    "the devices of its network namespace": (["ls", "/sys/class/net"], "lo"),
    "its own hosts file": (["cat", "/etc/hosts"], HOSTS.strip()),
    "its own resolv.conf": (["cat", "/etc/resolv.conf"], "nameserver 127.0.0.11"),
    "no network namespaces": (["ls", "/run/netns"], ""),
    "the root folder": (["pwd"], "/"),
    "nothing to read": (["cat"], ""),
    "no descriptors of the agent's": (["sh", "-c", "ls /proc/self/fd | wc -l"], "4"),  # 0, 1, 2 and ls's own
}


@pytest.mark.parametrize("what", WHAT_IS_SEEN)
def test_a_program_sees(world, tmp_path, what):
    sandbox()
    command, seen = WHAT_IS_SEEN[what]
    os.environ["SECRET"] = "1"
    kept = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(kept, True)
    files = {"/etc/hosts": HOSTS, "/etc/resolv.conf": "nameserver 127.0.0.11\n"}
    code, said = ran(tmp_path, *command, env=("COLOUR=blue",), files=files)
    assert said.strip() == seen.replace("/nonexistent", "/" if not os.path.isdir("/nonexistent") else "/nonexistent")
    assert code == 0


def test_files_of_a_container_are_not_the_machines(world, tmp_path):
    sandbox()
    before = Path("/etc/hosts").read_text()
    assert ran(tmp_path, "cat", "/etc/hosts", files={"/etc/hosts": "only here\n"}) == (0, "only here\n")
    assert Path("/etc/hosts").read_text() == before


def test_a_container_has_files_that_the_machine_lacks(world, tmp_path):
    """/etc/resolv.conf is a link to nowhere on machines whose resolver does not run; without the file names would be asked for at the wrong place."""
    world.sh("mkdir /run/netns/etc; cp -a /etc/passwd /etc/group /run/netns/etc; ln -s /run/nobody/resolv.conf /run/netns/etc/")
    world.sh("mount --bind /run/netns/etc /etc")
    sandbox()
    files = {"/etc/hosts": HOSTS, "/etc/resolv.conf": "nameserver 127.0.0.11\n"}
    assert ran(tmp_path, "sh", "-c", "cat /etc/resolv.conf; id -un; ls /etc | wc -l", files=files) == (0, "nameserver 127.0.0.11\nnobody\n4\n")
    assert os.path.islink("/etc/resolv.conf")
    assert not os.path.exists("/etc/hosts")


def test_a_variable_without_a_value_is_taken_away(world, tmp_path):
    sandbox()
    assert ran(tmp_path, "sh", "-c", "echo ${HOME-none} $A", env=("HOME", "A=b=c")) == (0, "none b=c\n")


def test_a_program_runs_as_the_user_and_in_the_folder_that_are_wanted(world, tmp_path):
    sandbox()
    assert ran(tmp_path, "sh", "-c", "id -u; pwd", user="root", workdir="/usr") == (0, "0\n/usr\n")


def test_root_in_a_container_may_not_change_its_links(world, tmp_path):
    sandbox()
    code, said = ran(tmp_path, "ip", "link", "add", "d0", "type", "dummy", user="root")
    assert code != 0
    assert "not permitted" in said


def test_nobody_can_ping_and_listen_on_port_80(world, tmp_path):
    sandbox()
    bind = "import socket; s = socket.socket(); s.bind(('', 80)); print('bound')"
    assert ran(tmp_path, "python3", "-c", bind, env=(f"PATH={os.path.dirname(os.path.realpath(sys.executable))}:/usr/bin",))[1] in ("bound\n", "")
    assert ran(tmp_path, "ping", "-c", "1", "127.0.0.1")[0] == 0


def test_command_and_arguments_are_one_command_line(world, tmp_path):
    sandbox()
    assert ran(tmp_path, "b", "c", command=("echo", "a")) == (0, "a b c\n")


def test_a_command_line_replaces_what_the_image_runs(world, tmp_path):
    sandbox()
    assert ran(tmp_path, "echo", "instead", image="httpd") == (0, "instead\n")


# -- how it ends -----------------------------------------------------------------------------------------------------------

ENDS = {
    "its own code": ("exit 7", 7),
    "128 + N when signal N ended it": ("kill -9 $$", 137),
    "the code of the main program, not of one that it left behind": ("sleep 1000 & exit 3", 3),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_exit_code_is(world, tmp_path, how):
    sandbox()
    script, code = ENDS[how]
    assert ran(tmp_path, "sh", "-c", script)[0] == code
    assert processes() == {}


def test_a_container_that_runs_has_no_code_yet(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000"))
    assert container.code() is None
    container.kill()
    assert end(container) == 137


def test_stop_sends_the_stop_signal(world, tmp_path):
    sandbox()
    script = "trap 'exit 5' QUIT; echo ready; while :; do sleep 0.05; done"
    container = containers.start(wanted(tmp_path, "sh", "-c", script, stop_signal=signal.SIGQUIT))
    until(lambda: "ready" in (tmp_path / "log").read_text())
    container.stop()
    assert end(container) == 5


def test_a_signal_that_is_sent_at_once_is_not_lost(world, tmp_path):
    sandbox()
    for _ in range(20):
        container = containers.start(wanted(tmp_path, "sleep", "1000"))
        container.stop()
        assert end(container) == 143


def test_kill_ends_what_does_not_want_to(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sh", "-c", "trap '' TERM; (setsid sleep 1000 &); echo ready; while :; do sleep 1; done"))
    until(lambda: "ready" in (tmp_path / "log").read_text())
    container.stop()
    time.sleep(0.1)
    assert container.code() is None
    container.kill()
    assert end(container) == 137
    until(lambda: processes() == {})


def test_a_signal_to_a_container_that_has_ended_does_nothing(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "true"))
    select.select([container], [], [])
    container.kill()
    assert container.code() == 0
    container.kill()


def test_orphans_in_a_container_are_buried(world, tmp_path):
    sandbox()
    script = "for i in 1 2 3; do (true &); done; sleep 0.2; ps -eo stat= | grep -c Z"
    assert ran(tmp_path, "sh", "-c", script)[1] == "0\n"


def test_nothing_is_left_of_a_container_but_its_log(world, tmp_path):
    sandbox()
    ran(tmp_path, "true")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["log", "programs"]
    namespaces.remove(NAMESPACE)


def test_a_network_goes_while_containers_that_were_there_with_it_run(world, tmp_path):
    namespaces.create("vm1:other")
    sandbox()
    number = os.stat("/run/netns/vm1:other").st_ino
    container = containers.start(wanted(tmp_path, "sleep", "1000"))
    mounts = Path(f"/proc/{container.pid}/mountinfo").read_text()
    assert f"net:[{number}]" not in mounts
    container.kill()
    end(container)


# -- its log ---------------------------------------------------------------------------------------------------------------


def test_each_line_of_the_log_has_its_time_and_only_one(world, tmp_path):
    sandbox()
    begun = time.strftime("%Y-%m-%dT%H:", time.gmtime())
    end(containers.start(wanted(tmp_path, "sh", "-c", "echo one; printf tw; sleep 0.05; echo o; echo three >&2; printf end")))
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["one", "two", "three", "end"]
    assert all(line.startswith(begun) and line.partition(" ")[0].endswith("Z") for line in lines)


def test_the_log_is_bounded_and_the_last_words_are_in_it(world, tmp_path):
    sandbox()
    assert end(containers.start(wanted(tmp_path, "sh", "-c", "seq 1000000; echo the end")), 60) == 0
    assert (tmp_path / "log").read_text().endswith(" the end\n")
    assert sum(path.stat().st_size for path in tmp_path.glob("log*")) <= 8.1 * (1 << 20)


def test_a_program_goes_on_when_somebody_removes_its_log(world, tmp_path):
    sandbox()
    script = "trap 'seq 1000000; exit 4' USR1; echo ready; while :; do sleep 0.05; done"
    container = containers.start(wanted(tmp_path, "sh", "-c", script))
    until(lambda: "ready" in (tmp_path / "log").read_text())
    (tmp_path / "log").unlink()
    container.signal(signal.SIGUSR1)
    assert end(container, 60) == 4


# -- health checks ---------------------------------------------------------------------------------------------------------

CHECKS = {
    "one that succeeds": (["sh", "-c", "uname -n; id -un; echo $COLOUR"], (0, "web.1.abc\nnobody\nblue\n")),
    "one that fails": (["sh", "-c", "echo no >&2; exit 1"], (1, "no\n")),
    "one that is killed": (["sh", "-c", "kill -9 $$"], (137, "")),
    "one that takes too long": (["sh", "-c", "echo begun; sleep 1000"], (-1, "Health check exceeded timeout (0.3s): begun\n")),
    "one that leaves something behind": (["sh", "-c", "sleep 1000 & echo well"], (0, "well\n")),
    "one that cannot be found": (["nope"], (127, 'exec: "nope": executable file not found in $PATH')),
    "one that talks much": (["seq", "100000"], (0, "".join(f"{n}\n" for n in range(1, 2000))[:4096])),
}


@pytest.mark.parametrize("which", CHECKS)
def test_a_health_check(world, tmp_path, which):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000", env=("COLOUR=blue",)))
    argv, result = CHECKS[which]
    check = container.check(argv, 0.3)
    assert select.select([check], [], [], 10)[0]
    assert check.result() == result
    container.kill()
    assert end(container) == 137


def test_a_health_check_sees_the_processes_of_the_container(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1234"))
    assert "sleep 1234" in container.check(["ps", "-eo", "args="], 5).result()[1]
    container.kill()


def test_nobody_waits_for_a_health_check_while_it_runs(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000"))
    begun = time.monotonic()
    check = container.check(["sleep", "500"], 500)
    until(lambda: list(processes().values()).count("sleep") == 2)
    container.kill()
    assert check.result()[0] == 137
    assert time.monotonic() - begun < 100


def test_a_container_that_has_ended_is_not_well(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "true"))
    select.select([container], [], [])
    assert container.check(["true"], 5).result() == (125, "container web.1.abc is not running")


# -- limits ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[cgroups.Groups]:
    made = cgroups.prepare(f"test-containers-{os.getpid()}", tmp_path / "cgroups")
    yield made
    cgroups.remove(tmp_path / "cgroups")


def test_a_program_that_takes_more_memory_than_it_may_is_killed(world, tmp_path, groups):
    if "memory" not in groups:
        pytest.skip("this machine cannot limit memory")
    sandbox()
    assert ran(tmp_path, "sh", "-c", "x=$(head -c 100m /dev/zero | tr '\\0' x); echo ${#x}", limits=Limits(memory=16 << 20))[0] != 0
    assert ran(tmp_path, "tail", "/dev/zero", limits=Limits(memory=16 << 20))[0] == 137


def test_a_program_has_no_more_processes_than_it_may(world, tmp_path, groups):
    if "pids" not in groups:
        pytest.skip("this machine cannot limit processes")
    sandbox()
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 10 & done; echo all"
    code, said = ran(tmp_path, "sh", "-c", script, limits=Limits(pids=4))
    assert (code, said.endswith("all\n")) != (0, True)
    assert [path for path in groups["pids"].iterdir() if path.is_dir()] == [groups["pids"] / "lab"], "its own control group has gone with it"


def test_health_checks_and_lab_exec_count_as_the_container(world, tmp_path, groups):
    if "pids" not in groups:
        pytest.skip("this machine cannot limit processes")
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000", limits=Limits(pids=10)))
    (group,) = (path for path in groups["pids"].iterdir() if path.name.startswith("container-"))
    own = container.check(["cat", "/proc/self/cgroup"], 5).result()[1]
    assert group.name in own
    assert group.name in programs.run(lab_of(tmp_path), PLACE, ["cat", "/proc/self/cgroup"]).stdout
    container.kill()
    end(container)
    assert not group.exists()


def test_a_limit_that_this_machine_cannot_set_is_refused(world, tmp_path):
    sandbox()
    with pytest.raises(MissingFeature, match="cannot limit memory"):  # this lab has no control groups
        containers.start(wanted(tmp_path, "true", limits=Limits(memory=1 << 30)))
    assert os.listdir(tmp_path / "programs") == []


# -- refusals --------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], type[VxtoolError], str]] = {
    "an image that nobody knows": ({"image": "nginx"}, UsageError, "No such image: nginx:latest"),
    "an image of another registry": ({"image": "ghcr.io:443/a/b:1"}, UsageError, "No such image: ghcr.io:443/a/b:1"),
    "no command": ({}, UsageError, "No command specified"),
    "a program that is not found": ({"args": ("nope",)}, NotStarted, 'exec: "nope": executable file not found in $PATH'),
    "a path where nothing is": ({"args": ("/nope",)}, NotStarted, 'exec: "/nope": stat /nope: no such file or directory'),
    "what is no program": ({"args": ("/etc/passwd",)}, NotStarted, 'exec: "/etc/passwd": permission denied'),
    "a folder that is not there": ({"args": ("true",), "workdir": "/nope"}, NotStarted, 'chdir to cwd ("/nope") failed: no such file or directory'),
    "a user that is not there": ({"args": ("true",), "user": "nope"}, UsageError, "there is no user 'nope'"),
    "a network namespace that is not there": (
        {"args": ("true",), "namespace": "vm1:gone"},
        LabError,
        "web.1.abc: /run/netns/vm1:gone: no such file or directory",
    ),
    "a log in a folder that is not there": ({"args": ("true",), "log": Path("/nope/log")}, LabError, "web.1.abc: /nope: no such file or directory"),
    "a zero byte": ({"args": ("true", "a\0b")}, NotStarted, 'exec: "true": embedded null byte'),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_is(world, tmp_path, what):
    sandbox()
    given, kind, text = REFUSED[what]
    descriptors = []
    for _ in range(3):  # the first one opens what is kept for all
        with pytest.raises(kind) as raised:
            containers.start(wanted(tmp_path, **given))
        descriptors.append(len(os.listdir("/proc/self/fd")))
    assert str(raised.value).startswith(text)
    assert processes() == {}
    assert not list(tmp_path.glob("programs/*"))
    assert descriptors[1] == descriptors[2]


def test_the_code_of_what_cannot_be_executed_is_the_shells(world, tmp_path):
    sandbox()
    for name, code in (("nope", 127), ("/etc/passwd", 126)):
        with pytest.raises(NotStarted) as raised:
            containers.start(wanted(tmp_path, name))
        assert raised.value.code == code


def test_a_name_that_runs_already_is_refused_and_what_runs_stays(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000"))
    with pytest.raises(LabError, match="runs already"):
        containers.start(wanted(tmp_path, "true"))
    assert programs.run(lab_of(tmp_path), PLACE, ["cat", "/proc/2/comm"]).stdout == "sleep\n"
    container.kill()


FAULTS = {
    "no process can be made": ("fork", errno.EAGAIN),
    "none can be watched": ("pidfd_open", errno.EMFILE),
}


@pytest.mark.parametrize("what", FAULTS)
def test_when(world, tmp_path, monkeypatch, what):
    sandbox()
    end(containers.start(wanted(tmp_path, "true")))
    call, number = FAULTS[what]

    def fails(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(LabError, match=os.strerror(number).lower()):
            containers.start(wanted(tmp_path, "sleep", "1000"))
    assert processes() == {}
    assert ran(tmp_path, "echo", "the next one runs") == (0, "the next one runs\n")
    if (child := os.fork()) == 0:
        os._exit(0 if os.path.samestat(os.stat("/proc/self/ns/pid"), os.stat(f"/proc/{os.getppid()}/ns/pid")) else 1)
    assert os.waitpid(child, 0)[1] == 0, "the agent's other children are born where it is"


# -- entered from outside --------------------------------------------------------------------------------------------------


def lab_of(folder: Path) -> Running:
    """This world as a lab: its process 1 is this test."""
    return Running("test", folder, os.getpid())


def test_lab_exec_joins_the_container(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000", env=("COLOUR=blue",), workdir="/usr", files={"/etc/hosts": HOSTS}))
    namespaces_of = "for name in pid mnt uts ipc net; do readlink /proc/self/ns/$name; done"
    told = programs.run(lab_of(tmp_path), PLACE, ["sh", "-c", f"{namespaces_of}; pwd; echo $COLOUR; cat /etc/hosts; ps -eo args="]).stdout
    lines = told.splitlines()
    assert lines[:5] == container.check(["sh", "-c", namespaces_of], 5).result()[1].splitlines()
    assert lines[:5] == [os.readlink(f"/proc/{container.pid}/ns/{name}") for name in ("pid", "mnt", "uts", "ipc", "net")]
    assert lines[5:7] == ["/usr", "blue"]
    assert "\n".join(lines[7:]).startswith(HOSTS)
    assert "sleep 1000" in lines
    container.kill()
    end(container)
    assert os.listdir(tmp_path / "programs") == []


def test_what_lab_exec_has_started_ends_with_the_container(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, "sleep", "1000"))
    with programs.start(lab_of(tmp_path), PLACE, ["sleep", "1000"]) as process:
        container.kill()
        assert process.wait(10) == 137
    assert end(container) == 137


def test_lab_ps_lists_what_a_container_runs(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, image="httpd"))
    (program,) = programs.listing(lab_of(tmp_path))
    assert (program.namespace, program.command, program.user, program.pid, program.code) == (NAMESPACE, ("httpd",), "65534", container.pid, None)
    container.kill()
    end(container)
    assert programs.listing(lab_of(tmp_path)) == []


# -- the agent dies --------------------------------------------------------------------------------------------------------


def agent(work: Callable[[], object]) -> int:
    """Another process of the lab, with children of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            signal.pause()
        finally:
            os._exit(0)
    return pid


def test_containers_outlive_their_agent_and_its_successor_ends_exactly_them(world, tmp_path):
    for name in ("vm1:a", "vm1:b", "vm2:c"):
        namespaces.create(name)
    begun = lambda name: containers.start(wanted(tmp_path, namespace=name, name=name[4:], image="httpd", log=tmp_path / name))  # noqa: E731
    first = agent(lambda: [begun("vm1:a"), begun("vm1:b"), (tmp_path / "ready").touch()])
    until((tmp_path / "ready").exists)
    other = begun("vm2:c")
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert [page(namespace=name) for name in ("vm1:a", "vm1:b", "vm2:c")] == ["<html><body><h1>It works!</h1></body></html>\n"] * 3
    assert containers.end_recorded(tmp_path, "vm1") == ["vm1:a", "vm1:b"]
    assert page(namespace="vm2:c")
    assert containers.end_recorded(tmp_path, "vm1") == []
    assert os.listdir(tmp_path / "programs") == ["vm2:c.main"]
    other.kill()
    assert end(other) == 137


def test_a_container_whose_agent_was_killed_while_it_began_is_not_there(world, tmp_path):
    """Whenever that was: either the record leads to it, or it ends by itself."""
    sandbox()
    for delay in range(16):
        pid = agent(lambda: containers.start(wanted(tmp_path, "sleep", "1000")))
        time.sleep(delay / 1000)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        containers.end_recorded(tmp_path, "vm1")
        until(lambda: living() == {}, 2)


def test_a_container_that_its_agents_successor_could_not_see_yet_never_runs(world, tmp_path, monkeypatch):
    """The agent dies right after it has made the process, and that one is slow to take the lock by which it is found."""
    sandbox()
    end(containers.start(wanted(tmp_path, "true")))
    fork, lockf = os.fork, fcntl.lockf

    def fork_and_die() -> int:
        child = fork()
        if child:
            os.kill(os.getpid(), signal.SIGKILL)
        return child

    def lock_late(*how: int) -> None:
        time.sleep(0.2)
        lockf(*how)

    def work() -> None:
        monkeypatch.setattr(os, "fork", fork_and_die)
        monkeypatch.setattr(fcntl, "lockf", lock_late)
        containers.start(wanted(tmp_path, "sh", "-c", "echo it runs; sleep 1000"))

    os.waitpid(agent(work), 0)
    assert containers.end_recorded(tmp_path, "vm1") == []
    until(lambda: living() == {}, 5)
    assert not (tmp_path / "log").exists() or (tmp_path / "log").read_text() == ""


def living() -> dict[int, str]:
    """Processes of this world but for the test's own, as process 1 must: the dead ones are buried."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return processes()
        except ChildProcessError:
            return processes()


# -- outside and inside ----------------------------------------------------------------------------------------------------


def test_a_container_is_found_from_outside_the_lab(tmp_path, in_a_world):
    """The lock's holder has another number there than its agent knows it by."""

    def inside(folder: Path, ready: int, go: int) -> None:
        sandbox()
        container = containers.start(wanted(folder, "sleep", "1000"))
        os.write(ready, b"%d" % container.pid)
        os.read(go, 1)

    ready, telling = os.pipe()
    waiting, go = os.pipe()
    if (child := os.fork()) == 0:
        try:
            in_a_world(inside, tmp_path, telling, waiting)
        finally:
            os._exit(0)
    as_the_agent_sees_it = int(os.read(ready, 20))
    with (tmp_path / "programs" / f"{NAMESPACE}.main").open("rb") as file:
        holder = programs.lock_holder(file.fileno())
    assert holder is not None
    status = Path(f"/proc/{holder}/status").read_text()
    (numbers,) = (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    assert numbers[-2:] == [str(as_the_agent_sees_it), "1"]
    assert numbers[0] == str(holder)
    os.write(go, b".")
    os.waitpid(child, 0)


# -- images ----------------------------------------------------------------------------------------------------------------


def test_httpd_listens_when_it_has_started(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, image="httpd:2.4"))
    assert page() == "<html><body><h1>It works!</h1></body></html>\n"
    container.stop()
    assert end(container) == 0


def test_httpd_has_nothing_of_the_agents_open(world, tmp_path):
    sandbox()
    container = containers.start(wanted(tmp_path, image="httpd"))
    (httpd,) = (pid for pid, name in processes().items() if name == "httpd")
    links = [os.readlink(f"/proc/{httpd}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{httpd}/fd")]
    assert sorted(links) == ["/dev/null", "anon_inode", "pipe", "pipe", "socket"]
    container.kill()


def test_httpd_says_who_it_is_at_the_port_that_is_wanted(world, tmp_path):
    sandbox()
    world.sh(f"ip -n {NAMESPACE} link add eth0 type bridge; ip -n {NAMESPACE} addr add 10.0.1.3/24 dev eth0; ip -n {NAMESPACE} link set eth0 up")
    container = containers.start(wanted(tmp_path, image="httpd", env=("PORT=8080",)))
    assert page("/hostname", 8080) == "web.1.abc\n10.0.1.3\n"
    container.kill()


def test_a_port_that_is_none_ends_the_container_with_a_sentence(world, tmp_path):
    sandbox()
    assert ran(tmp_path, image="httpd", env=("PORT=http",)) == (1, "httpd: PORT=http: a number from 1 to 65535 is wanted\n")


def test_echo_answers_from_the_address_it_was_asked_at(world, tmp_path):
    sandbox()
    namespaces.create("vm1:asker")
    world.sh(
        f"ip link add eth0 netns {NAMESPACE} type veth peer eth0 netns vm1:asker;"
        f"ip -n {NAMESPACE} addr add 10.0.1.3/24 dev eth0; ip -n {NAMESPACE} addr add 10.0.1.9/24 dev eth0; ip -n {NAMESPACE} link set eth0 up;"
        "ip -n vm1:asker addr add 10.0.1.4/24 dev eth0; ip -n vm1:asker link set eth0 up"
    )
    container = containers.start(wanted(tmp_path, image="echo"))
    with namespaces.inside(namespaces.NETNS / "vm1:asker"):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream = socket.create_connection(("10.0.1.9", 7), 5)
    datagrams.settimeout(5)
    for address in ("10.0.1.3", "10.0.1.9"):
        datagrams.sendto(b"hello", (address, 7))
        assert datagrams.recvfrom(100) == (b"hello", (address, 7))
    much = os.urandom(1 << 20)
    stream.setblocking(False)
    told, sent = b"", 0
    while len(told) < len(much):
        ready = select.select([stream], [stream] if sent < len(much) else [], [], 5)
        assert ready != ([], [], [])
        if ready[0]:
            told += stream.recv(1 << 16)
        if ready[1]:
            sent += stream.send(much[sent : sent + (1 << 16)])
    assert told == much
    stream.shutdown(socket.SHUT_WR)
    stream.settimeout(5)
    assert stream.recv(1) == b""
    container.kill()


# -- cost ------------------------------------------------------------------------------------------------------------------


def test_containers_are_light(world, tmp_path):
    """Measured 2.5 MB each."""
    names = [f"vm1:web.{number}" for number in range(40)]
    for name in names:
        namespaces.create(name)
    started = [containers.start(wanted(tmp_path, namespace=name, name=name[4:], image="httpd", log=tmp_path / name)) for name in names]
    private = 0
    for pid in processes():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            private += int(line.split()[1]) if line.startswith("Private_Dirty") else 0
    assert private / len(names) < 6 << 10
    for container in started:
        container.kill()
    for container in started:
        end(container)
