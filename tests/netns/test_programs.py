"""Programs in a lab: who they are, what they see, how they end. The lab here is as small as can be: a process that holds namespaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab import cgroups, programs
from vxtool.lab.places import Place, PlaceKind
from vxtool.lab.programs import Limits
from vxtool.lab.registry import Running

# Process 1 of a lab without anything but namespaces, joined by links: what the leader does, less the supervisor.
LEADER = """
import ctypes, os, signal, subprocess, sys
from vxtool.lab import namespaces
def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
die_with_parent()
namespaces.unshare(namespaces.CLONE_NEWPID)
leader = os.fork()
if leader:
    print(leader, flush=True)
    os.waitpid(leader, 0)
    sys.exit()
die_with_parent()
namespaces.private_world()
namespaces.unshare(namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWIPC)
namespaces.mount("proc", "/proc", "proc")
for name in ("vm1", "vm1:web.1", "vm1:web.2"):
    namespaces.create(name)
for line in ("link add eth0 netns vm1:web.1 type veth peer eth0 netns vm1:web.2",
             "-n vm1:web.1 addr add 10.0.1.3/24 dev eth0", "-n vm1:web.2 addr add 10.0.1.4/24 dev eth0",
             "-n vm1:web.1 link set eth0 up", "-n vm1:web.2 link set eth0 up"):
    subprocess.run(["ip", *line.split()], check=True)
print("ready", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        signal.sigtimedwait([signal.SIGCHLD], 0.02)
"""

VM1 = Place(PlaceKind.NODE, "vm1", "vm1", "vm1", ("eth0",))
WEB1 = Place(PlaceKind.ENDPOINT, "web.1", "vm1:web.1", "vm1", ("eth0",), addresses=(IPv4Address("10.0.1.3"),))
WEB2 = Place(PlaceKind.ENDPOINT, "web.2", "vm1:web.2", "vm1", ("eth0",), addresses=(IPv4Address("10.0.1.4"),))
PLACES = {"node": VM1, "endpoint": WEB1}


def a_lab(folder: Path) -> tuple[subprocess.Popen[str], Running]:
    assert os.geteuid() == 0, "these tests make namespaces and need root: sudo make test"
    world = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True)
    assert world.stdout is not None
    leader = int(world.stdout.readline())
    assert world.stdout.readline() == "ready\n"
    return world, Running("test", folder, leader)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    world, running = a_lab(tmp_path_factory.mktemp("lab"))
    name = f"test-{os.getpid()}"
    cgroups.prepare(name, running.folder / "cgroups")
    yield running
    os.kill(running.leader, signal.SIGKILL)
    world.communicate()
    cgroups.remove(running.folder / "cgroups")


@pytest.fixture
def lab_of_its_own(tmp_path: Path) -> Iterator[Running]:
    world, running = a_lab(tmp_path)
    yield running
    with suppress(ProcessLookupError):
        os.kill(running.leader, signal.SIGKILL)
    world.communicate()


def say(lab: Running, place: Place, *argv: str, **how: object) -> str:
    ran = programs.run(lab, place, argv, **how)  # type: ignore[arg-type]
    assert ran.returncode == 0, ran.stderr
    return str(ran.stdout).strip()


def until(true: Callable[[], object], patience: float = 10.0) -> None:
    """Waits for what another process does in its own time."""
    give_up = time.monotonic() + patience
    while not true():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def living_init(record: Path) -> int:
    """The process id of an endpoint's init, -1 when it does not live."""
    with record.open("rb") as file:
        return programs.lock_holder(file.fileno()) or -1


def inhabitants(lab: Running) -> set[int]:
    """Every process of the machine that is in the lab's process namespace or one below it, but for the leader."""
    own = [os.stat(f"/proc/{lab.leader}/ns/pid")]
    inits = lab.folder.glob("programs/*.init")
    for init in inits:
        try:
            own.append(os.stat(f"/proc/{living_init(init)}/ns/pid"))
        except OSError:  # there is none
            continue
    found = set()
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != lab.leader:
            try:
                namespace = os.stat(f"/proc/{name}/ns/pid")
            except OSError:
                continue
            if any(os.path.samestat(namespace, one) for one in own):
                found.add(int(name))
    return found


# -- what a program sees ---------------------------------------------------------------------------------------------------

WHAT_IS_SEEN = {
    "a node's host name": (VM1, ["uname", "-n"], "vm1"),
    "an endpoint's host name": (WEB1, ["uname", "-n"], "web.1"),
    "the file of it": (WEB1, ["cat", "/etc/hostname"], "web.1"),
    "its own address by its name": (WEB1, ["getent", "hosts", "web.1"], "10.0.1.3        web.1"),
    "the network devices in /sys": (WEB1, ["sh", "-c", "ls /sys/class/net | tr '\n' ' '"], "eth0 lo"),
    "no namespaces of the lab": (WEB1, ["sh", "-c", "ls /run/netns | wc -l"], "0"),
    "on a node the lab's namespaces": (VM1, ["ip", "netns", "list-id"], ""),
    "who it is at a node": (VM1, ["id", "-u"], "0"),
    "who it is in an endpoint": (WEB1, ["sh", "-c", "id -u; id -g; id -G"], "65534\n65534\n65534"),
    "no capabilities": (WEB1, ["sh", "-c", "grep -c -E 'Cap(Prm|Eff|Inh|Amb):\t0000000000000000' /proc/self/status"], "4"),
    "no way to new privileges": (WEB1, ["grep", "NoNewPrivs", "/proc/self/status"], "NoNewPrivs:\t1"),
    "an init as process 1": (WEB1, ["cat", "/proc/1/comm"], "vxtool-init"),
    "nothing of the caller's environment": (WEB1, ["sh", "-c", "echo $VXTOOL_SECRET$PYTHONPATH"], ""),
    "its name in the environment": (WEB1, ["sh", "-c", "echo $HOSTNAME $USER"], "web.1 nobody"),
}


@pytest.mark.parametrize(("place", "argv", "seen"), WHAT_IS_SEEN.values(), ids=WHAT_IS_SEEN)
def test_a_program_sees(lab: Running, place: Place, argv: list[str], seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXTOOL_SECRET", "password")
    assert say(lab, place, *argv) == seen


def test_an_unprivileged_program_in_an_endpoint_pings_its_neighbour(lab: Running) -> None:
    assert "1 received" in say(lab, WEB1, "ping", "-c1", "-W2", "10.0.1.4")


def test_an_unprivileged_program_in_an_endpoint_may_be_a_web_server(lab: Running) -> None:
    serve = "$s = IO::Socket::INET->new(Listen => 1, LocalPort => 80) or die $!; print $s->sockport"
    assert say(lab, WEB1, "perl", "-MIO::Socket::INET", "-e", serve) == "80"


def test_root_in_an_endpoint_has_what_docker_lets_it_use_and_a_privileged_program_everything(lab: Running) -> None:
    bounding = ("grep", "CapBnd", "/proc/self/status")
    assert say(lab, WEB1, *bounding, user="root").split()[1] == "00000000a00425fb"
    assert say(lab, WEB1, *bounding, privileged=True) == say(lab, VM1, *bounding)
    refused = programs.run(lab, WEB1, ["ip", "link", "set", "eth0", "mtu", "1400"], user="root")
    assert refused.returncode == 2
    assert "not permitted" in refused.stderr
    say(lab, WEB1, "ip", "link", "set", "lo", "mtu", "1400", privileged=True)


USERS = {"root": "0 0", "1234": "1234 1234", "1234:99": "1234 99", "daemon:sys": "1 3", "nobody": "65534 65534"}


@pytest.mark.parametrize(("user", "ids"), USERS.items(), ids=USERS)
def test_a_program_runs_as_the_user_that_is_named(lab: Running, user: str, ids: str) -> None:
    assert say(lab, WEB1, "sh", "-c", "echo $(id -u) $(id -g)", user=user) == ids


def test_groups_of_the_caller_are_not_handed_on(lab: Running) -> None:
    before = os.getgroups()
    os.setgroups([*before, 4242])
    try:
        assert say(lab, WEB1, "id", "-G") == "65534"
    finally:
        os.setgroups(before)


@pytest.mark.parametrize("user", ["nobodyelse", "root:nosuch", "4294967295"])
def test_an_unknown_user_is_the_callers_mistake(lab: Running, user: str) -> None:
    with pytest.raises(UsageError, match=user.rpartition(":")[2]):
        programs.run(lab, WEB1, ["true"], user=user)


def test_programs_of_an_endpoint_see_each_other_and_nobody_else(lab: Running) -> None:
    with programs.start(lab, WEB1, ["sleep", "1000"]) as sleeping:
        until(lambda: "sleep" in say(lab, WEB1, "ps", "-e", "-o", "comm="))
        assert "sleep" not in say(lab, WEB2, "ps", "-e", "-o", "comm=")
        assert "sleep" in say(lab, VM1, "ps", "-e", "-o", "comm="), "at a node one sees all of the lab"
        sleeping.kill()


def test_many_programs_at_once_share_one_init(lab_of_its_own: Running) -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(say(lab_of_its_own, WEB1, "readlink", "/proc/self/ns/pid"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 12
    assert len(set(seen)) == 1


# -- streams, folders, exit codes ------------------------------------------------------------------------------------------

EXIT_CODES = {
    "its own": (["sh", "-c", "exit 7"], 7, ""),
    "ended by a signal": (["sh", "-c", "kill -TERM $$"], 143, ""),
    "not found": (["nosuchprogram"], 127, "vxtool: PLACE: nosuchprogram: command not found\n"),
    "no path": (["/nosuch/program"], 127, "vxtool: PLACE: /nosuch/program: command not found\n"),
    "not executable": (["/etc/passwd"], 126, "vxtool: PLACE: /etc/passwd: permission denied\n"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(("argv", "code", "said"), EXIT_CODES.values(), ids=EXIT_CODES)
def test_the_exit_code_is_the_one_a_shell_would_give(lab: Running, place: Place, argv: list[str], code: int, said: str) -> None:
    ran = programs.run(lab, place, argv)
    assert (ran.returncode, ran.stderr) == (code, said.replace("PLACE", place.name))


def test_input_and_output_pass_through_unchanged(lab: Running) -> None:
    everything = bytes(range(256)) * 4096
    ran = programs.run(lab, WEB1, ["cat"], input=everything, text=False)
    assert ran.stdout == everything


def test_output_ends_when_the_program_has_ended(lab: Running) -> None:
    with programs.start(lab, WEB1, ["sh", "-c", "echo one; exec >&-; sleep 1000"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "one\n", "the keeper does not hold the pipe open"
        process.kill()


def test_a_program_starts_where_its_caller_is_if_its_user_may_be_there(lab: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr/share")
    assert say(lab, WEB1, "pwd") == "/usr/share"
    assert say(lab, WEB1, "pwd", workdir="/usr") == "/usr"
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    assert say(lab, VM1, "pwd") == str(tmp_path)
    assert say(lab, WEB1, "pwd") == "/"
    refused = programs.run(lab, WEB1, ["pwd"], workdir=str(tmp_path))
    assert (refused.returncode, refused.stderr) == (126, f"vxtool: web.1: {tmp_path}: permission denied\n")


def test_variables_can_be_added_to_the_environment(lab: Running) -> None:
    assert say(lab, WEB1, "sh", "-c", "echo $A", env={"A": "b c"}) == "b c"


# -- how programs end ------------------------------------------------------------------------------------------------------


def test_a_program_that_takes_too_long_is_ended_with_all_it_started(lab: Running) -> None:
    before = inhabitants(lab)
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run(lab, VM1, ["sh", "-c", "setsid sleep 1000 & sh -c 'sleep 1000; true'; true"], timeout=0.3)
    until(lambda: inhabitants(lab) <= before)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_whole_program_dies_with_its_client(lab: Running, place: Place) -> None:
    code = f"""
from pathlib import Path
from vxtool.lab import programs
from vxtool.lab.registry import Running
from tests.netns.test_programs import PLACES
process = programs.start(Running("test", Path({str(lab.folder)!r}), {lab.leader}), PLACES[{"node" if place is VM1 else "endpoint"!r}],
    ["sh", "-c", "setsid sleep 4321 & sleep 4321; true"])
print("started", flush=True)
process.wait()
"""
    root = Path(__file__).resolve().parents[2]
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert client.stdout is not None
    assert client.stdout.readline() == "started\n"
    sleeping = lambda: say(lab, VM1, "ps", "-e", "-o", "args=").splitlines().count("sleep 4321")  # noqa: E731
    until(lambda: sleeping() == 2)
    client.kill()
    client.communicate()
    until(lambda: sleeping() == 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda number: number.name)
def test_signals_sent_to_a_program_reach_it(lab: Running, number: signal.Signals) -> None:
    trap = f"trap 'echo got it; exit 3' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    with programs.start(lab, WEB1, ["sh", "-c", trap], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "got it\n"
        assert process.wait() == 3


def test_what_a_program_leaves_behind_stays_in_its_endpoint(lab: Running) -> None:
    say(lab, WEB2, "sh", "-c", "setsid sleep 5432 >/dev/null 2>&1 & true")
    assert "sleep 5432" in say(lab, WEB2, "ps", "-e", "-o", "args=")
    init = living_init(lab.folder / "programs/vm1:web.2.init")
    os.kill(init, signal.SIGKILL)  # as whoever removes the sandbox does
    until(lambda: not alive(init))
    assert "sleep 5432" not in say(lab, VM1, "ps", "-e", "-o", "args=")
    assert say(lab, WEB2, "cat", "/proc/1/comm") == "vxtool-init", "the next program finds a new init"


def test_every_program_dies_with_the_lab(lab_of_its_own: Running) -> None:
    lab = lab_of_its_own
    started = [programs.start(lab, place, ["sleep", "1000"]) for place in (VM1, WEB1, WEB2)]
    started.append(programs.start(lab, WEB1, ["sh", "-c", "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000"]))
    behind = programs.detach(lab, WEB1, ["sleep", "1000"])
    assert behind.pid is not None
    assert len(inhabitants(lab)) >= 10
    everybody = inhabitants(lab) | {process.pid for process in started}
    os.kill(lab.leader, signal.SIGKILL)
    for process in started:
        process.wait()
    until(lambda: not any(alive(pid) for pid in everybody))
    with pytest.raises((LabError, FileNotFoundError)):
        programs.run(lab, WEB1, ["true"])


def test_an_init_that_nobody_needs_ends(lab_of_its_own: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hurried = tmp_path / "enter.py"
    hurried.write_text(programs._ENTER.read_text().replace("IDLE = 10.0", "IDLE = 0.05"))
    monkeypatch.setattr(programs, "_ENTER", hurried)
    for _ in range(3):
        say(lab_of_its_own, WEB1, "true")
        until(lambda: not inhabitants(lab_of_its_own))


def test_an_init_that_is_killed_is_replaced(lab: Running) -> None:
    say(lab, WEB1, "true")
    init = living_init(lab.folder / "programs/vm1:web.1.init")
    os.kill(init, signal.SIGKILL)
    until(lambda: not alive(init))
    assert say(lab, WEB1, "cat", "/proc/1/comm") == "vxtool-init"


def test_a_namespace_that_is_not_there_is_an_error_and_leaves_no_record(lab: Running) -> None:
    before = programs.listing(lab)
    with pytest.raises(LabError, match=r"vm1:web\.9"):
        programs.run(lab, Place(PlaceKind.ENDPOINT, "web.9", "vm1:web.9", "vm1"), ["true"])
    assert programs.listing(lab) == before


# -- detached programs, the list of programs -------------------------------------------------------------------------------


def test_a_detached_program_is_listed_with_its_log_and_its_exit_code(lab: Running) -> None:
    program = programs.detach(lab, WEB1, ["sh", "-c", "echo out; echo err >&2; exit 5"])
    assert (program.where, program.user, program.detached) == ("web.1", "65534", True)
    ended = lambda: next(one for one in programs.listing(lab) if one.number == program.number)  # noqa: E731
    until(lambda: ended().code is not None)
    assert ended().code == 5
    assert program.log is not None
    assert program.log.read_text() == "out\nerr\n"


def test_a_detached_program_goes_on_without_its_client_and_ends_by_a_signal_to_its_keeper(lab: Running) -> None:
    child = os.fork()
    if child == 0:
        try:
            programs.detach(lab, VM1, ["sleep", "1000"])
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    program = programs.listing(lab)[-1]
    assert (program.command, program.code) == (("sleep", "1000"), None)
    assert program.pid is not None
    os.kill(program.pid, signal.SIGTERM)
    until(lambda: programs.listing(lab)[-1].code == 143)


def test_the_log_of_a_talkative_program_stays_small(lab: Running) -> None:
    program = programs.detach(lab, VM1, ["sh", "-c", "seq 3000000; echo the end"])
    assert program.log is not None
    until(lambda: programs.listing(lab)[-1].code == 0)
    kept = [program.log.with_name(f"{program.number}.log.1"), program.log]
    assert sum(path.stat().st_size for path in kept) <= 8 << 20
    last = "".join(path.read_text() for path in kept).split("\n")
    assert last[-2:] == ["the end", ""]
    assert last[-3] == "3000000"


def test_a_running_program_is_listed_and_an_ended_one_is_not(lab: Running) -> None:
    with programs.start(lab, WEB1, ["sleep", "1000"]) as process:
        program = next(one for one in programs.listing(lab) if one.number == process.number)
        assert (program.command, program.namespace, program.detached, program.code) == (("sleep", "1000"), "vm1:web.1", False, None)
        until(lambda: say(lab, WEB1, "cat", f"/proc/{program.inside}/comm") == "sleep")
        process.kill()
        process.wait()
    assert all(one.number != program.number for one in programs.listing(lab))


def test_a_program_whose_keeper_was_killed_dies_and_is_not_listed(lab: Running) -> None:
    with programs.start(lab, WEB1, ["sleep", "1000"]) as process:
        program = next(one for one in programs.listing(lab) if one.number == process.number)
        assert program.pid is not None
        os.kill(program.pid, signal.SIGKILL)
        assert process.wait() == 137
    until(lambda: all(one.number != program.number for one in programs.listing(lab)))
    until(lambda: "sleep 1000" not in say(lab, WEB1, "ps", "-e", "-o", "args="))


def test_a_record_is_json_that_other_programs_can_read(lab: Running) -> None:
    program = programs.detach(lab, WEB1, ["true"])
    lines = (lab.folder / "programs" / str(program.number)).read_text().splitlines()
    assert json.loads(lines[0])["command"] == ["true"]


# -- limits ----------------------------------------------------------------------------------------------------------------


def test_a_program_that_takes_more_memory_than_it_may_is_killed(lab: Running) -> None:
    eat = "x = b'x' * (200 << 20)"
    assert programs.run(lab, VM1, [sys.executable, "-I", "-c", eat], limits=Limits(memory=64 << 20)).returncode == 137
    assert programs.run(lab, VM1, [sys.executable, "-I", "-c", eat]).returncode == 0


def test_a_program_cannot_start_more_processes_than_it_may(lab: Running) -> None:
    fork = "import os, time\nfor _ in range(20):\n if os.fork() == 0: time.sleep(1); os._exit(0)"
    ran = programs.run(lab, VM1, [sys.executable, "-I", "-c", fork], limits=Limits(pids=5), timeout=20)
    assert ran.returncode == 1
    assert "BlockingIOError" in ran.stderr


def test_a_program_gets_the_share_of_a_processor_it_may_have(lab: Running) -> None:
    used = "import os, time\nend = time.monotonic() + 0.6\nwhile time.monotonic() < end: pass\nprint(sum(os.times()[:2]))"
    assert float(say(lab, VM1, sys.executable, "-I", "-c", used, limits=Limits(cpus=0.2))) < 0.4


def test_control_groups_go_with_their_program(lab: Running) -> None:
    say(lab, WEB1, "true", limits=Limits(memory=64 << 20, cpus=1, pids=10))
    for group in lab.groups.values():
        assert not list(group.glob("program-*"))


def test_a_limit_that_the_machine_cannot_set_is_an_error(lab_of_its_own: Running) -> None:
    with pytest.raises(MissingFeature, match="memory"):
        programs.run(lab_of_its_own, WEB1, ["true"], limits=Limits(memory=64 << 20))
    assert programs.listing(lab_of_its_own) == []
