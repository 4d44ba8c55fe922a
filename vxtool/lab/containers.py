"""Containers of tasks: starting one under a network namespace that is there, asking whether it is well, ending it.

Knows processes, namespaces and records; nothing of swarms, and no network is made here. Who starts containers is an agent: root, one thread, in the
lab's process and mount namespaces. They are forked from it, so that none waits for an interpreter to start, and outlive it.

    agent
    └── init           process 1 of the container's process, mount, host name and IPC namespaces: hands on signals, buries, writes the log;
        │              when the agent dies, the lab's leader becomes its parent
        └── program    in its session, as its user, within its limits; forked (httpd, echo) or executed. Its end ends everything in the container

    /run/vxtool/NAME/programs/vm1:web.1.abc.main   JSON: what the container runs. Its init holds a lock on it as long as it lives

The lock is of the kind that belongs to a process (fcntl, F_SETLK): whoever asks the kernel who holds it is told the process id as he himself sees it,
in the lab or outside. So no process id is written down, none can be out of date, and `vxtool lab exec` and the next agent find exactly what there is.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # as in enter.py
import ctypes
import fcntl
import functools
import gc
import glob
import json
import os
import select
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vxtool.errors import LabError, UsageError
from vxtool.lab import cgroups, enter, images, namespaces
from vxtool.lab.images import Image
from vxtool.lab.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, NETNS
from vxtool.lab.programs import DEFAULT_PATH, MAIN, NOBODY, SANDBOX_SYSCTLS, Limits, Opened, limit, lock_holder, main_of, rights, user_of

__all__ = ["Check", "Container", "NotStarted", "Wanted", "end_recorded", "start"]

EXCEEDED = -1
"""The exit code of a health check that took too long, as Docker has it."""

_LONGEST_ANSWER = 4096  # bytes of a health check's output that are kept, as Docker does
_PATIENCE = 10.0  # seconds for a container to be there, or gone after it was killed: measured 0.005
# All but what cannot be caught, what is about init itself, and the two that the C library keeps for its threads.
_OWN = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, 32, 33}
_HANDED_ON = tuple(number for number in range(1, signal.NSIG) if number not in _OWN)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a container is to be."""

    lab: Path  # the lab's folder, /run/vxtool/NAME
    name: str
    namespace: str  # its network namespace, NODE:NAME
    hostname: str
    image: str
    log: Path  # what it writes, each line with its time; and LOG.1, the 4 MiB before
    command: tuple[str, ...] = ()  # both together replace what the image runs
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # KEY=VALUE; KEY alone takes one away
    workdir: str = ""
    user: str = ""  # USER[:GROUP]; "": nobody
    files: Mapping[str, str] = field(default_factory=dict, hash=False)  # path -> text, laid over the machine's
    limits: Limits = field(default_factory=Limits)
    stop_signal: int = int(signal.SIGTERM)


class NotStarted(LabError):
    """The container is there, but its program cannot be executed."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code  # 126 or 127, as shells have them


class Container:
    """A container that runs, or has ended and was not asked for its code yet. Only the process that has started it has one."""

    def __init__(self, plan: _Plan, pid: int, pidfd: int) -> None:
        self.name = plan.wanted.name
        self.pid = pid
        """Of its init, as the agent sees it."""
        self._plan = plan
        self._pidfd = pidfd
        self._code: int | None = None

    def fileno(self) -> int:
        """Can be read when the container has ended; valid until `close`."""
        return self._pidfd

    def code(self) -> int | None:
        """The program's exit code, 128 + N when signal N ended it; None as long as it runs. Then nothing is left of it but its log."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else enter.KILLED_BY - code
                self._plan.forget()
        return self._code

    def signal(self, number: int) -> None:
        """To the program and its process group. Nothing happens when it has ended."""
        if self._pidfd < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def stop(self) -> None:
        """Asks the program to end, by its stop signal; `kill` does not ask."""
        self.signal(self._plan.wanted.stop_signal)

    def kill(self) -> None:
        """Ends everything in the container, at once."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Lets go of `fileno`, and of nothing else."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def check(self, argv: Sequence[str], timeout: float) -> Check:
        """Starts a health check in the container, as its user and within its limits; it is killed when it takes longer than `timeout` seconds."""
        answer, telling = os.pipe()
        try:
            pid = _fork(lambda: _ask(self._plan, self._pidfd, list(argv), timeout, telling), telling, (telling, self._pidfd))
        except OSError as error:
            os.close(answer)
            raise LabError(f"{self.name}: its health check cannot be started: {_reason(error)}") from error
        finally:
            os.close(telling)
        return Check(pid, answer)


class Check:
    """A health check that is on its way."""

    def __init__(self, pid: int, answer: int) -> None:
        self._pid = pid
        self._answer = answer

    def fileno(self) -> int:
        """Can be read when there is a result; until `result` is asked for."""
        return self._answer

    def result(self) -> tuple[int, str]:
        """Exit code (EXCEEDED: it took too long) and output, at most 4096 bytes of it. To be asked for once; waits if there is none yet."""
        told = _all(self._answer)
        os.close(self._answer)
        os.waitpid(self._pid, 0)
        code, _, output = told.partition(b" ")
        return int(code or enter.NOT_ENTERED), output.decode(errors="replace")


def start(wanted: Wanted) -> Container:
    """Returns when the program is executed, or listens. The caller becomes the container's parent, and may wait only for children that it knows.

    UsageError: no such image, no command, no such user. MissingFeature: limits that this machine cannot set. NotStarted: the program cannot be
    executed. LabError: the container cannot be made. Of what fails nothing is left.
    """
    image = images.find(wanted.image)
    argv = (*wanted.command, *wanted.args)
    if not argv and image.listen is None:
        raise UsageError("No command specified: the image host is this machine's own programs, so say which one")
    identity, home = user_of(wanted.user or str(NOBODY))
    plan = _Plan(wanted, image, argv, rights(identity), _environment(wanted, home), _arguments())
    with ExitStack() as stack:
        opened = Opened(stack)
        try:
            held = _write_down(plan, opened)
            try:
                return _start(plan, held, opened)
            except BaseException:
                plan.forget()
                raise
        except OSError as error:
            raise LabError(f"{wanted.name}: {_reason(error)}") from error


def end_recorded(lab: Path, node: str) -> list[str]:
    """Ends the containers that run on a node, whoever has started them, with everything in them; returns the namespaces of those that did.

    For an agent that begins: what its predecessor has left. LabError when one does not end.
    """
    ending: list[tuple[int, str]] = []
    for record in sorted((lab / "programs").glob(f"{glob.escape(node)}:*{MAIN}")):
        with open(record, "rb") as file, suppress(ProcessLookupError):
            pid = lock_holder(file.fileno())
            if pid is not None:
                pidfd = os.pidfd_open(pid)
                if lock_holder(file.fileno()) == pid:  # it lived when the descriptor was opened: it is this process that we have
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    ending.append((pidfd, record.name.removesuffix(MAIN)))
                else:
                    os.close(pidfd)
    try:
        for pidfd, namespace in ending:
            if not select.select([pidfd], [], [], _PATIENCE)[0]:
                raise LabError(f"{namespace}: it has not ended within {_PATIENCE:.0f} s of being killed")
    finally:
        for pidfd, _ in ending:
            os.close(pidfd)
    for record in (lab / "programs").glob(f"{glob.escape(node)}:*{MAIN}"):
        _forget(record, [Path(group) for group in main_of(record).get("groups", ())])
    return [namespace for _, namespace in ending]


# -- the agent's side ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    """What a container is, worked out."""

    wanted: Wanted
    image: Image
    argv: tuple[str, ...]  # (): what the image runs
    rights: dict[str, Any]
    env: dict[str, str]
    arguments: tuple[int, int]
    groups: list[Path] = field(default_factory=list)

    @property
    def record(self) -> Path:
        return self.wanted.lab / "programs" / f"{self.wanted.namespace}{MAIN}"

    def forget(self) -> None:
        _forget(self.record, self.groups)


def _environment(wanted: Wanted, home: str) -> dict[str, str]:
    """As Docker makes it."""
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": wanted.hostname, "HOME": home}
    for variable in wanted.env:
        name, equals, value = variable.partition("=")
        if equals:
            env[name] = value
        else:
            env.pop(name, None)
    return env


def _write_down(plan: _Plan, opened: Opened) -> int:
    """The container's record, open and not locked yet. LabError when a container of that name runs."""
    plan.record.parent.mkdir(mode=0o700, exist_ok=True)
    held = opened(plan.record, os.O_RDWR | os.O_CREAT)
    if lock_holder(held) is not None:
        raise LabError(f"{plan.wanted.name}: a container of this name runs already")
    return held


def _start(plan: _Plan, held: int, opened: Opened) -> Container:
    wanted = plan.wanted
    mounts = _mounts_without_networks()
    network = opened(NETNS / wanted.namespace)
    logs = opened(wanted.log.parent, os.O_RDONLY | os.O_DIRECTORY)
    if wanted.limits.wanted:
        plan.groups = limit(cgroups.read(wanted.lab / "cgroups"), f"container-{wanted.namespace}", wanted.limits)
    procs = [opened(group / "cgroup.procs", os.O_WRONLY) for group in plan.groups]
    os.ftruncate(held, 0)
    os.write(held, json.dumps(_facts(plan)).encode() + b"\n")
    answer, telling = os.pipe()
    opened.own(answer)
    home = opened("/proc/self/ns/pid")
    try:
        namespaces.unshare(CLONE_NEWPID)  # the next child is born there
        try:
            keep = (telling, mounts, network, logs, held, *procs)
            pid = _fork(lambda: _be_init(plan, telling, mounts, network, logs, held, procs), telling, keep)
        finally:
            namespaces.setns(home, CLONE_NEWPID)
    finally:
        os.close(telling)
    told = _all(answer, time.monotonic() + _PATIENCE)
    try:
        if told == enter.STARTED:
            return Container(plan, pid, os.pidfd_open(pid))
        raise _refusal(wanted, told)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _refusal(wanted: Wanted, told: bytes) -> LabError:
    """What went wrong: in the program once init has STARTED, else in init."""
    if told.startswith(enter.STARTED):
        code, _, reason = told.removeprefix(enter.STARTED).decode(errors="replace").partition(" ")
        return NotStarted(reason, int(code))
    return LabError(f"{wanted.name}: {told.decode(errors='replace') or f'it was killed, or is not there after {_PATIENCE:.0f} s'}")


@functools.cache
def _mounts_without_networks() -> int:
    """A mount namespace like ours that lacks the names of network namespaces; containers begin as copies of it.

    A copy of ours would have a mount for each container of the whole lab: with 200 of them 20 ms for each one more, and none of their networks could
    go before the last container that was there with them.
    """
    answer, telling = os.pipe()
    waiting, go = os.pipe()
    pid = _fork(lambda: _detach_networks(telling, waiting), telling, (telling, waiting))
    os.close(telling)
    os.close(waiting)
    try:
        told = os.read(answer, 4096)
        if told != enter.STARTED:
            raise LabError(f"no mounts for containers: {told.decode(errors='replace')}")
        return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(answer)
        os.close(go)
        os.waitpid(pid, 0)


def _detach_networks(telling: int, waiting: int) -> NoReturn:
    namespaces.unshare(CLONE_NEWNS)
    namespaces.umount(NETNS, namespaces.MNT_DETACH)
    os.write(telling, enter.STARTED)
    os.read(waiting, 1)
    os._exit(0)


def _facts(plan: _Plan) -> dict[str, Any]:
    wanted = plan.wanted
    return {
        "where": wanted.name,
        "namespace": wanted.namespace,
        "command": list(plan.argv) or [plan.image.name],
        "user": wanted.user or str(NOBODY),
        "started": time.time(),
        "env": plan.env,
        "workdir": wanted.workdir,
        "log": str(wanted.log),
        "groups": [str(group) for group in plan.groups],
    }


def _forget(record: Path, groups: Iterable[Path]) -> None:
    """Of a container that has ended. A group the kernel does not let go of (measured: it takes up to 10 ms) goes with the lab."""
    record.unlink(missing_ok=True)
    for group in groups:
        for _ in range(50):
            with suppress(FileNotFoundError):
                try:
                    group.rmdir()
                except OSError:
                    time.sleep(0.001)
                    continue
            break


def _fork(work: Callable[[], NoReturn], telling: int, keep: Iterable[int]) -> int:
    """A child that has nothing of ours but memory and the descriptors `keep`. What goes wrong in it is told over `telling`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDED_ON)  # our handlers are not to be called in the child
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _let_go(keep)
                work()
            except BaseException as error:  # whatever it is, nobody else would tell
                os.write(telling, _reason(error).encode(errors="backslashreplace"))
            finally:
                os._exit(enter.NOT_ENTERED)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _all(source: int, until: float | None = None) -> bytes:
    """Everything that is written there until nobody can any more, or `until` has come."""
    told = b""
    while select.select([source], [], [], None if until is None else max(0.0, until - time.monotonic()))[0]:
        piece = os.read(source, 1 << 16)
        if not piece:
            break
        told += piece
    return told


def _reason(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    about = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return (f"{about}: " if about else "") + (error.strerror or str(error)).lower()


# -- inside: init ----------------------------------------------------------------------------------------------------------


def _let_go(keep: Iterable[int]) -> None:
    """Of the agent's signals, descriptors, session and garbage: this process lives longer than they do."""
    gc.disable()
    signal.set_wakeup_fd(-1)
    for number in _HANDED_ON:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _close_all_but(keep)
    os.chdir("/")
    os.umask(0o022)
    os.setsid()


def _close_all_but(keep: Iterable[int]) -> None:
    begin = 3
    for fd in sorted(keep):
        os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, os.sysconf("SC_OPEN_MAX"))


def _be_init(plan: _Plan, telling: int, mounts: int, network: int, logs: int, held: int, procs: list[int]) -> NoReturn:
    _call_oneself("vxtool-init", plan.arguments)
    fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    wake = enter.listen((*_HANDED_ON, signal.SIGCHLD))
    namespaces.setns(network, CLONE_NEWNET)
    namespaces.setns(mounts, CLONE_NEWNS)
    namespaces.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
    enter.furnish(plan.wanted.hostname)
    enter.furnish_etc(list(plan.wanted.files.items()))
    for path, value in SANDBOX_SYSCTLS:
        with open(path, "w") as file:
            file.write(value)
    # An agent that has been killed meanwhile does not hear it, and this is an error that ends us: the next agent may have looked at the lock already.
    os.write(telling, enter.STARTED)
    output, writing = os.pipe()
    program = os.fork()
    if program == 0:
        _be_program(plan, telling, writing, procs)
    for fd in (telling, writing, mounts, network, *procs):
        os.close(fd)
    enter.let_go_of_standard_streams()
    code = enter.watch(program, wake, None, enter.Log(output, logs, plan.wanted.log.name, stamped=True))
    os._exit(code)


# -- inside: program -------------------------------------------------------------------------------------------------------


def _be_program(plan: _Plan, telling: int, output: int, procs: list[int]) -> NoReturn:
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        _call_oneself(" ".join(plan.argv) or plan.image.name, plan.arguments)
        _become(plan, procs, (null, output, output))
        if plan.argv:
            code, reason = _executed(plan, plan.argv)
            os.write(telling, b"%d %s" % (code, reason.encode(errors="backslashreplace")))
            os._exit(code)
        assert plan.image.listen is not None
        _close_all_but((telling,))
        _serve(plan.image.name, plan.image.listen, plan.env, telling)
    except BaseException as error:
        os.write(telling, b"%d %s" % (enter.NOT_EXECUTABLE, _reason(error).encode(errors="backslashreplace")))
    finally:
        os._exit(enter.NOT_EXECUTABLE)


def _serve(name: str, listen: images.Listen, env: Mapping[str, str], telling: int) -> NoReturn:
    try:
        serve = listen(env)
        os.close(telling)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        serve()
    except (UsageError, OSError) as error:
        os.write(2, f"{name}: {error}\n".encode(errors="backslashreplace"))
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    finally:
        os._exit(1)


def _become(plan: _Plan, procs: Iterable[int], streams: tuple[int, int, int]) -> None:
    """From a copy of the agent to a process of the container: its streams, session, groups, user."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.setsid()
    enter.join_groups(list(procs))
    signal.set_wakeup_fd(-1)
    for number in (*_HANDED_ON, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    enter.take_user(plan.rights)


def _executed(plan: _Plan, argv: Sequence[str]) -> tuple[int, str]:
    """Returns only when that fails: exit code and reason, in the words of Docker's runtime."""
    try:
        os.chdir(plan.wanted.workdir or "/")
    except OSError as error:
        return enter.NOT_EXECUTABLE, f'chdir to cwd ("{plan.wanted.workdir}") failed: {(error.strerror or "").lower()}'
    name = argv[0]
    refused = enter.execute(argv, plan.env)
    if refused is not None:
        return enter.NOT_EXECUTABLE, f'exec: "{name}": {refused}'
    if "/" in name:
        return enter.NOT_FOUND, f'exec: "{name}": stat {name}: no such file or directory'
    return enter.NOT_FOUND, f'exec: "{name}": executable file not found in $PATH'


def _call_oneself(title: str, arguments: tuple[int, int]) -> None:
    """What `ps` shows: a forked process has its parent's command line otherwise. `arguments`: where that stands in memory."""
    begin, length = arguments
    ctypes.memmove(begin, title.encode(errors="backslashreplace")[: length - 1].ljust(length, b"\0"), length)
    enter.call_oneself(title.partition(" ")[0].rpartition("/")[2].encode(errors="backslashreplace")[:15])


def _arguments() -> tuple[int, int]:
    """Where the command line of this process begins in its memory, and how long it is (proc(5), fields 48 and 49 of stat)."""
    with open("/proc/self/stat") as file:
        begin, end = map(int, file.read().rpartition(")")[2].split()[45:47])
    return begin, end - begin


# -- inside: a health check ------------------------------------------------------------------------------------------------


def _ask(plan: _Plan, container: int, argv: list[str], timeout: float, telling: int) -> NoReturn:
    output, writing = os.pipe()
    procs = [os.open(group / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for group in plan.groups]
    try:
        namespaces.setns(container, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
    except ProcessLookupError:
        _answer(telling, enter.NOT_ENTERED, f"container {plan.wanted.name} is not running".encode())
    program = os.fork()  # in the container's process namespace
    if program == 0:
        try:
            _become(plan, procs, (os.open(os.devnull, os.O_RDONLY), writing, writing))
            code, reason = _executed(plan, argv)
            os.write(2, reason.encode(errors="backslashreplace"))
            os._exit(code)
        finally:
            os._exit(enter.NOT_ENTERED)
    os.close(writing)
    _answer(telling, *_outcome(program, output, timeout))


def _outcome(program: int, output: int, timeout: float) -> tuple[int, bytes]:
    """Exit code and output of a program, which is killed when its time is over."""
    give_up = time.monotonic() + timeout
    ended = os.pidfd_open(program)
    said, listening = b"", [output, ended]
    while ended in listening:
        ready = select.select(listening, [], [], max(0.0, give_up - time.monotonic()))[0]
        if not ready:
            with suppress(ProcessLookupError):
                os.killpg(program, signal.SIGKILL)
            os.kill(program, signal.SIGKILL)
            os.waitpid(program, 0)
            return EXCEEDED, f"Health check exceeded timeout ({timeout:g}s)".encode() + (b": " + said if said else b"")
        if output in ready:
            piece = os.read(output, 1 << 16)
            said = (said + piece)[:_LONGEST_ANSWER]
            if not piece:
                listening.remove(output)
        elif ended in ready:  # what it has said is read first
            listening.remove(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    return code if code >= 0 else enter.KILLED_BY - code, said


def _answer(telling: int, code: int, output: bytes) -> NoReturn:
    os.write(telling, b"%d %s" % (code, output))
    os._exit(0)
