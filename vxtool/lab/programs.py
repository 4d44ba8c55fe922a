"""Programs in a lab: starting one at a place, and the list of those that run.

Knows users, limits and records; what happens between here and the program, inside the lab, is lab/enter.py. Programs are children of the client, not
of the lab's supervisor, so that terminal, pipes, signals and exit codes are the natural ones; yet they live in the lab's process namespace and end
with its leader.

At a node, or in a namespace named as such: the lab's processes, the node's name, root. In an endpoint: processes, mounts, host name and IPC of its
own, shared by all programs there, under an init that comes with the first and goes after the last; an unprivileged user who may yet bind port 80 and
ping.

    /run/vxtool/NAME/programs/7            a record: JSON lines; locked (flock) by its keeper as long as the program runs
    /run/vxtool/NAME/programs/7.log        what a detached program writes (and 7.log.1, the 4 MiB before)
    /run/vxtool/NAME/programs/vm1:web.1.init       empty; the endpoint's init holds a lock (fcntl) on it while it lives, so the kernel knows who it is
    /run/vxtool/NAME/programs/vm1:web.1.main       the same of a task's container (lab/containers.py), and what it runs
    /run/vxtool/NAME/programs/vm1:web.1.starting   locked by whoever is about to enter, and by the init that is about to end
"""

from __future__ import annotations

import fcntl
import grp
import json
import marshal
import os
import pwd
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab.enter import STARTED
from vxtool.lab.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS
from vxtool.lab.places import Place, PlaceKind

if TYPE_CHECKING:
    from vxtool.lab.cgroups import Groups
    from vxtool.lab.registry import Running

__all__ = [
    "DEFAULT_PATH",
    "NOBODY",
    "SANDBOX_SYSCTLS",
    "Identity",
    "Limits",
    "Process",
    "Program",
    "detach",
    "limit",
    "listing",
    "rights",
    "run",
    "start",
    "user_of",
]

NOBODY = 65534
"""Who programs in an endpoint are unless told otherwise, as user and as group."""

ROOT_CAPABILITIES = 0xA00425FB
"""What root has in a Docker container that is not privileged: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
net_raw, sys_chroot, audit_write, setfcap (moby oci/caps/defaults.go). Not mknod, which Docker gives and then takes back by a list of devices."""

MAIN = ".main"
"""How the file ends in which is written down what a container runs (lab/containers.py), NAMESPACE.main; its init holds the lock on it."""

_FIRST = 2  # the process id of what a container runs, after its init's

Identity = tuple[int, int, list[int]]
"""User, group, supplementary groups."""

_ENTER = Path(__file__).with_name("enter.py")
_INHERITED = ("PATH", "TERM", "COLORTERM", "NO_COLOR", "LANG", "TZ")  # and LC_*; anything else may be a secret of the caller
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PERIOD = 100_000  # microseconds in which a share of the processor is counted, the kernel's default

# So that an unprivileged program can be a web server and ping (net(7), icmp(7)); Docker sets both in its containers since 20.10.
SANDBOX_SYSCTLS = (("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"), ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program with all it starts may use; None: as much as there is."""

    memory: int | None = None  # bytes, swap included
    cpus: float | None = None  # processors: 0.5 is half the time of one
    pids: int | None = None  # processes and threads

    @property
    def wanted(self) -> dict[str, float]:
        """By the name of the controller that can do it."""
        given = {"memory": self.memory, "cpu": self.cpus, "pids": self.pids}
        return {controller: value for controller, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Program:
    """One program that was started at a place and runs, or was detached and has ended."""

    number: int  # its name in the lab; 0: what a container runs
    where: str  # the place as it was named
    namespace: str
    command: tuple[str, ...]
    user: str
    started: float  # seconds since the epoch
    detached: bool
    pid: int | None  # its keeper, as the machine sees it: signals sent there reach the program
    inside: int | None  # the program itself, as programs at its place see it
    log: Path | None  # of a detached one
    code: int | None = None  # None: it runs
    ended: float | None = None

    def __str__(self) -> str:
        return f"{self.number} {self.where}: {shlex.join(self.command)}"


class Process(subprocess.Popen[Any]):
    """A started program, as subprocess has it. The process that is waited for is not the program itself; it hands on signals and has the same exit
    code: 128 + N when signal N ended the program, 126 and 127 when it could not be executed or found.

    `kill` ends everything that the program has started, too. So does the end of this process, and an exception that leaves a `with` block around it.
    """

    number: int
    """Its number in `listing`."""
    lifeline: int | None = None

    def kill(self) -> None:
        self._cut()

    def poll(self) -> int | None:
        code = super().poll()
        if code is not None:
            self._cut()
        return code

    def wait(self, timeout: float | None = None) -> int:
        code = super().wait(timeout)
        self._cut()
        return code

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)

    def _cut(self) -> None:
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def start(
    running: Running,
    place: Place,
    argv: Sequence[str],
    *,
    user: str | None = None,
    privileged: bool = False,
    env: Mapping[str, str] | None = None,
    workdir: str | None = None,
    limits: Limits = Limits(),
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    terminal: bool = False,
    text: bool | None = None,
) -> Process:
    """Starts a program and returns when it is about to be executed. `stdin`, `stdout`, `stderr`, `text` as subprocess.Popen has them.

    `user`: a name or number, `USER:GROUP` too; None is root, in an endpoint nobody. `privileged`: root with every capability, in an endpoint too.
    `terminal`: stdin is a terminal that nobody controls yet; it becomes the program's. `env` comes on top of PATH, TERM and the language.
    UsageError for a user who does not exist, MissingFeature for limits that this machine cannot set, LabError when the place cannot be entered.
    """
    how = _how(running, place, argv, user, privileged, env, workdir)
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "text": text}
    return _start(running, place, how, limits, streams, terminal=terminal)


def run(
    running: Running,
    place: Place,
    argv: Sequence[str],
    *,
    input: str | bytes | None = None,
    timeout: float | None = None,
    capture: bool = True,
    text: bool = True,
    check: bool = False,
    **how: Any,
) -> subprocess.CompletedProcess[Any]:
    """Runs a program to its end, as subprocess.run does; `how` as for `start`. Exit codes as shells count them, see Process.

    subprocess.TimeoutExpired after `timeout` seconds, with nothing of the program left; subprocess.CalledProcessError with `check`.
    """
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL if input is None else subprocess.PIPE}
    if capture:
        streams |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(running, place, argv, text=text, **streams, **how) as process:
        out, err = process.communicate(input, timeout)
    completed = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
    if check:
        completed.check_returncode()
    return completed


def detach(
    running: Running,
    place: Place,
    argv: Sequence[str],
    *,
    user: str | None = None,
    privileged: bool = False,
    env: Mapping[str, str] | None = None,
    workdir: str | None = None,
    limits: Limits = Limits(),
) -> Program:
    """Starts a program that runs on when this process has ended; what it writes is in its log."""
    nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    usher = _start(running, place, _how(running, place, argv, user, privileged, env, workdir), limits, nothing, detached=True)
    usher.wait()
    program = _recorded(_folder(running), usher.number)
    assert program is not None, "the record of a detached program stays"
    return program


def listing(running: Running) -> list[Program]:
    """The programs of a lab that run, and the detached ones that have ended: those of containers, then by number, as they were started."""
    folder = running.folder / "programs"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    mains = [main for name in sorted(names) if name.endswith(MAIN) and (main := _main(folder / name)) is not None]
    numbers = sorted(int(name) for name in names if name.isdecimal())
    return mains + [program for number in numbers if (program := _recorded(folder, number)) is not None]


# -- what is asked for -----------------------------------------------------------------------------------------------------


def _how(
    running: Running, place: Place, argv: Sequence[str], user: str | None, privileged: bool, env: Mapping[str, str] | None, workdir: str | None
) -> dict[str, Any]:
    """The part of the plan that tells what the program is, and as whom it runs. In a container that is as it was started, unless told otherwise."""
    if not argv:
        raise UsageError(f"{place.name}: no command is given")
    sandboxed = place.kind is PlaceKind.ENDPOINT
    container = _container(running, place)
    name = user or ("root" if privileged or not sandboxed else container.get("user", str(NOBODY)))
    identity, home = user_of(name)
    environment = _environment(place, name, home) | container.get("env", {})
    return {
        "argv": list(argv),
        "env": environment | ({} if name == container.get("user") else {"HOME": home}) | dict(env or {}),
        "workdir": workdir or container.get("workdir"),
        "client_folder": "/" if container else _current_folder(),
        "who": name,
        "where": place.name,
        "container_groups": container.get("groups", []),
        **rights(identity, sandboxed=sandboxed, privileged=privileged),
    }


def _container(running: Running, place: Place) -> dict[str, Any]:
    """What is written down of the container that runs at a place; {} when none does."""
    record = running.folder / "programs" / f"{place.namespace}{MAIN}"
    return {} if _holder(record) is None else main_of(record)


def rights(identity: Identity, *, sandboxed: bool = True, privileged: bool = False) -> dict[str, Any]:
    """Who a program is and what it may, for enter.take_user."""
    root = identity[0] == 0
    return {
        "user": identity,
        "capabilities": ROOT_CAPABILITIES if sandboxed and not privileged and root else None,
        "no_new_privileges": not root and not privileged,
    }


def user_of(text: str) -> tuple[Identity, str]:
    """`USER[:GROUP]` by name or number; and the home folder. A number alone has no supplementary groups."""
    name, _, group = text.partition(":")
    try:
        entry = None if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"there is no user {name!r} on this machine: give a name of /etc/passwd, or a number") from None
    if entry is None:
        number, own, others, home = int(name), int(name), [], "/"
    else:
        number, own, others, home = entry.pw_uid, entry.pw_gid, os.getgrouplist(name, entry.pw_gid), entry.pw_dir
    if group:
        try:
            own, others = (int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid), []
        except KeyError:
            raise UsageError(f"there is no group {group!r} on this machine: give a name of /etc/group, or a number") from None
    if max(number, own) >= 1 << 32 - 1:
        raise UsageError(f"{text!r} is no user: numbers end at {(1 << 31) - 1}")
    return (number, own, others), home if os.path.isdir(home) else "/"


def _environment(place: Place, user: str, home: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")}
    name = "nobody" if user == str(NOBODY) else user.partition(":")[0]
    return {"PATH": DEFAULT_PATH, **kept, "HOME": home, "USER": name, "LOGNAME": name, "HOSTNAME": place.hostname}


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed under our feet
        return "/"


# -- starting --------------------------------------------------------------------------------------------------------------


def _start(
    running: Running,
    place: Place,
    how: dict[str, Any],
    limits: Limits,
    streams: Mapping[str, Any],
    *,
    terminal: bool = False,
    detached: bool = False,
) -> Process:
    with ExitStack() as stack:
        opened = Opened(stack)
        folder = _folder(running)
        number, record = _write_record(folder, place, how, detached)
        opened.own(record)
        lifeline, ours = (None, None) if detached else os.pipe()
        if lifeline is not None:
            opened.own(lifeline)
        plan: dict[str, Any] = {}
        try:
            plan |= {
                **how,
                "role": "keep",
                "terminal": terminal,
                "log": f"{number}.log" if detached else None,
                "name": str(number),
                "record": record,
                "folder": opened(folder),
                "lifeline": lifeline,
                **_limited(running, number, limits, how["container_groups"], opened),
            }
            process, keeper = _enter(running, place, plan, opened, streams)
        except BaseException:
            (folder / str(number)).unlink(missing_ok=True)
            for parent, name in plan.get("own_groups", ()):
                os.rmdir(name, dir_fd=parent)
            if ours is not None:
                os.close(ours)
            raise
        process.lifeline, process.number = ours, number
        os.write(record, json.dumps({"pid": keeper}).encode() + b"\n")
        return process


def _enter(running: Running, place: Place, plan: dict[str, Any], opened: Opened, streams: Mapping[str, Any]) -> tuple[Process, int]:
    """The usher, and the keeper as this process sees it."""
    try:
        network = opened(running.path(place.namespace))
    except FileNotFoundError:
        raise LabError(f"lab {running.name} has no namespace {place.namespace} any more (`vxtool lab ps` lists what there is)") from None
    plan["join"] = [(network, CLONE_NEWNET)]
    if place.kind is PlaceKind.ENDPOINT:
        init = _holder(_folder(running) / f"{place.namespace}{MAIN}")
        if init is not None:  # a container's, which stays as long as what it runs
            return _spawn(_joining(init, plan, opened), streams)
        with _entering(_folder(running), place.namespace) as starting:
            init = _holder(starting.with_suffix(".init")) or _start_init(running, place, network, starting)
            return _spawn(_joining(init, plan, opened), streams)  # when it returns, the init sees that it is not alone
    plan["fresh"] = True
    plan["hostname"] = place.hostname
    plan["node"] = place.name if place.kind is PlaceKind.NODE else ""
    plan["join"] += [(opened(f"/proc/{running.leader}/ns/{name}"), kind) for name, kind in _OF_LEADER]
    plan["processes"] = opened(f"/proc/{running.leader}/ns/pid")
    return _spawn(plan, streams)


def _joining(init: int, plan: dict[str, Any], opened: Opened) -> dict[str, Any]:
    plan["fresh"] = False
    plan["join"] += [(opened(f"/proc/{init}/ns/{name}"), kind) for name, kind in _OF_INIT]
    plan["processes"] = opened(f"/proc/{init}/ns/pid")
    return plan


_OF_INIT = (("ipc", CLONE_NEWIPC), ("uts", CLONE_NEWUTS), ("mnt", CLONE_NEWNS))
_OF_LEADER = (("ipc", CLONE_NEWIPC), ("mnt", CLONE_NEWNS))


def _spawn(plan: dict[str, Any], streams: Mapping[str, Any]) -> tuple[Process, int]:
    """Runs enter.py, and waits until it says that it is where it was sent; who says so is returned, too."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The kernel names the sender of a message to its receiver, as a process of the receiver's own namespace (unix(7), SCM_CREDENTIALS).
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with ours, os.fdopen(os.memfd_create("plan"), "wb", buffering=0) as handed:
        with theirs:
            plan["status"] = theirs.fileno()
            plan["fds"] = _descriptors(plan)
            handed.write(marshal.dumps(plan))
            handed.seek(0)
            process = Process(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(_ENTER.parent), str(handed.fileno())],
                pass_fds=[*plan["fds"], handed.fileno()],
                start_new_session=True,
                cwd="/",
                **streams,
            )
        try:
            answer, control, _, _ = ours.recvmsg(4096, socket.CMSG_SPACE(12))
            if answer != STARTED:
                raise LabError(f"{plan['where']}: it cannot be entered: {answer.decode(errors='replace') or 'is the lab being ended?'}")
            pid: int = struct.unpack_from("i", control[0][2])[0]
        except BaseException:
            with process:  # closes its pipes and waits for it
                if plan["role"] == "keep" and plan["lifeline"] is None:
                    process.terminate()
            raise
    return process, pid


_BOOT = "import sys; sys.path.append(sys.argv[1]); import enter; enter.main(int(sys.argv[2]))"
"""As an imported module enter.py is compiled once, not at each start; importing it as part of vxtool would cost 15 ms more."""


def _descriptors(plan: Mapping[str, Any]) -> list[int]:
    joined = [plan["processes"], plan["status"], *(fd for fd, _ in plan["join"])]
    if plan["role"] == "init":
        return [*joined, plan["starting"], plan["held"]]
    lifeline = [] if plan["lifeline"] is None else [plan["lifeline"]]
    own = [parent for parent, _ in plan["own_groups"]]
    return [*joined, *lifeline, plan["record"], plan["folder"], *plan["keeper_groups"], *plan["program_groups"], *own]


class Opened:
    """Descriptors that are closed together."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, path: Path | str, flags: int = os.O_RDONLY) -> int:
        fd = os.open(path, flags | os.O_CLOEXEC)
        self.own(fd)
        return fd

    def own(self, *fds: int) -> None:
        for fd in fds:
            self._stack.callback(os.close, fd)


# -- an endpoint's init ----------------------------------------------------------------------------------------------------


@contextmanager
def _entering(folder: Path, namespace: str) -> Iterator[Path]:
    """While this lasts the endpoint's init does not end, and nobody else starts one."""
    path = folder / f"{namespace}.starting"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(fd)


def _holder(record: Path) -> int | None:
    """Which process holds the lock on a file; None when none does, or there is none."""
    with suppress(FileNotFoundError), record.open("rb") as file:
        return lock_holder(file.fileno())
    return None


def lock_holder(fd: int) -> int | None:
    """Which process holds the lock (fcntl, F_SETLK) on a file, as the caller sees it; None when none does."""
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)))
    return None if kind == fcntl.F_UNLCK else pid


_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock of <fcntl.h> on 64-bit machines: type, whence, start, length, process."""


def _start_init(running: Running, place: Place, network: int, starting: Path) -> int:
    with ExitStack() as stack:
        opened = Opened(stack)
        plan = {
            "role": "init",
            "where": place.name,
            "hostname": place.hostname,
            "files": [("/etc/hosts", _hosts(place)), ("/etc/hostname", f"{place.hostname}\n")],
            "sysctls": list(SANDBOX_SYSCTLS),
            "join": [(opened(f"/proc/{running.leader}/ns/mnt"), CLONE_NEWNS), (network, CLONE_NEWNET)],
            "processes": opened(f"/proc/{running.leader}/ns/pid"),
            "starting": opened(starting),
            "held": opened(starting.with_suffix(".init"), os.O_RDWR | os.O_CREAT),
        }
        usher, pid = _spawn(plan, dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL))
        usher.wait()
        return pid


def _hosts(place: Place) -> str:
    """As Docker writes it, without IPv6, which is off."""
    return "127.0.0.1\tlocalhost\n" + "".join(f"{address}\t{place.hostname}\n" for address in place.addresses)


# -- limits ----------------------------------------------------------------------------------------------------------------


def _limited(running: Running, number: int, limits: Limits, container: list[str], opened: Opened) -> dict[str, list[Any]]:
    """Control groups: the lab's own for the keeper and for whom nothing is limited; those of the container that the program joins; for a limit one
    below the lab's, which goes with the program."""
    groups = running.groups
    own = limit(groups, f"program-{number}", limits)
    leaves = {group: opened(group / "lab/cgroup.procs", os.O_WRONLY) for group in dict.fromkeys(groups.values())}
    return {
        "keeper_groups": list(leaves.values()),
        "program_groups": [opened(group / "cgroup.procs", os.O_WRONLY) for group in (*map(Path, container), *own)],
        "own_groups": [(opened(group.parent), group.name) for group in own],
    }


def limit(groups: Groups, name: str, limits: Limits) -> list[Path]:
    """Makes the control groups that these limits need, below the lab's `groups`: one in each hierarchy. MissingFeature where that cannot be."""
    own = _own_groups(groups, name, limits)
    made: list[Path] = []
    try:
        for group, controllers in own.items():
            group.mkdir()
            made.append(group)
            for controller in controllers:
                _set(group, controller, limits.wanted[controller])
    except OSError as error:
        for group in made:
            group.rmdir()
        raise MissingFeature(
            f"this machine cannot limit {', '.join(limits.wanted)} so: {error.filename}: {(error.strerror or '').lower()}"
        ) from error
    return made


def _own_groups(groups: Groups, name: str, limits: Limits) -> dict[Path, list[str]]:
    """The folders that the limits need, and the controllers of each. A folder's name is used once: others may still be in an earlier one."""
    name = f"{name}-{os.urandom(4).hex()}"
    own: dict[Path, list[str]] = {}
    for controller in limits.wanted:
        if controller not in groups:
            raise MissingFeature(
                f"this machine cannot limit {controller}: no control group hierarchy offers it to the lab"
                f" (with cgroups version 2: echo +{controller} > /sys/fs/cgroup/cgroup.subtree_control, and a new lab)"
            )
        own.setdefault(groups[controller] / name, []).append(controller)
    return own


def _set(group: Path, controller: str, value: float) -> None:
    unified = (group / "cgroup.controllers").exists()
    if controller == "memory":
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(int(value)))
        swap, most = ("memory.swap.max", "0") if unified else ("memory.memsw.limit_in_bytes", str(int(value)))
        if (group / swap).exists():
            (group / swap).write_text(most)
    elif controller == "cpu":
        quota = round(value * _PERIOD)
        if unified:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (group / "pids.max").write_text(str(int(value)))


# -- records ---------------------------------------------------------------------------------------------------------------


def _folder(running: Running) -> Path:
    folder = running.folder / "programs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write_record(folder: Path, place: Place, how: Mapping[str, Any], detached: bool) -> tuple[int, int]:
    """A number that no other program of the lab has, and its record, open and locked. It appears whole and locked, or not at all."""
    record = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(record, fcntl.LOCK_EX)
        facts = {"where": place.name, "namespace": place.namespace, "command": how["argv"], "user": how["who"], "detached": detached}
        os.write(record, json.dumps(facts | {"started": time.time()}).encode() + b"\n")
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            number = 1 + max((int(name) for name in os.listdir(folder) if name.isdecimal()), default=0)
            while True:
                try:
                    os.link(f"/proc/self/fd/{record}", str(number), dst_dir_fd=directory, follow_symlinks=True)
                    return number, record
                except FileExistsError:
                    number += 1
        finally:
            os.close(directory)
    except BaseException:
        os.close(record)
        raise


def _recorded(folder: Path, number: int) -> Program | None:
    path = folder / str(number)
    try:
        with path.open() as file:
            facts: dict[str, Any] = {}
            for line in file:
                facts |= json.loads(line)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                alive = True
            else:
                alive = False
    except FileNotFoundError:
        return None
    if not alive and not facts["detached"]:
        path.unlink(missing_ok=True)  # its keeper was killed
        return None
    killed = None if alive else 128 + signal.SIGKILL
    return Program(
        number,
        facts["where"],
        facts["namespace"],
        tuple(facts["command"]),
        facts["user"],
        facts["started"],
        facts["detached"],
        facts.get("pid"),
        facts.get("inside"),
        folder / f"{number}.log" if facts["detached"] else None,
        facts.get("code", killed),
        facts.get("ended"),
    )


def main_of(record: Path) -> dict[str, Any]:
    """What is written down of a container; {} when it has gone, or is only about to be written down."""
    try:
        facts: dict[str, Any] = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return facts


def _main(record: Path) -> Program | None:
    facts, holder = main_of(record), _holder(record)
    if not facts or holder is None:
        return None
    about = facts["where"], facts["namespace"], tuple(facts["command"]), facts["user"], facts["started"]
    return Program(0, *about, detached=True, pid=holder, inside=_FIRST, log=Path(facts["log"]))
