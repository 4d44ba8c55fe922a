"""What happens between `vxtool lab exec` and the program: the keeper, which enters the lab and starts it, and the init of an endpoint.

Run by an interpreter of its own: a fresh one has a single thread (setns(2) wants that for a mount namespace), little memory, and with these few
imports it is there in 15 ms. So it knows system calls and no lab: lab/programs.py hands it a plan, a dict in a file descriptor. A task's container
(lab/containers.py) is forked instead, and takes from here what is the same for both.

    client             the command, or somebody's Python; when it ends the pipe `lifeline` closes
    └── usher          outside the lab; waits for the keeper, and is there because clients may forget to: a lab cannot end before each of
        │              its processes has been waited for
        └── keeper     in the place's process namespace; hands on signals; when the lifeline closes it ends the program's whole tree
            └── program    in the place's namespaces, session, user and limits

    init               process 1 of an endpoint, parent of whoever lost theirs; ends when nobody has been there for a while

Programs with ended clients die, programs that outlive their parent inside an endpoint (`sh -c 'httpd &'`) stay: as in a container.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the public `signal` wraps it in enums, for 7 ms of each start
import ctypes
import fcntl
import marshal
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

NOT_ENTERED = 125  # what docker, too, answers when it is not the program that failed
NOT_EXECUTABLE = 126  # as shells do
NOT_FOUND = 127
KILLED_BY = 128

STARTED = b"+"  # what is said over `status` when all is well; the kernel tells the receiver who said it

IDLE = 10.0  # seconds after which an endpoint's init looks whether it is alone
LOG_SIZE = 4 << 20  # bytes after which the log of a detached program becomes NAME.1 and a new one begins: /run is memory

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
_MS_RDONLY_NOSUID_NODEV_NOEXEC = 0xF
_MS_NOSUID_NODEV_NOEXEC = 0xE
_MS_BIND = 0x1000
_MS_BIND_REC = 0x5000
_MS_REC_PRIVATE = 0x44000
_MNT_DETACH = 0x2
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_TIOCSCTTY = 0x540E

HANDED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)


def main(fd: int) -> NoReturn:
    """Does what the plan in `fd` says. What goes wrong before the program runs is told as a sentence over the plan's `status`."""
    with open(fd, "rb") as file:
        plan = marshal.load(file)
    for inherited in plan["fds"]:
        os.set_inheritable(inherited, False)
    try:
        _setns(plan["processes"], CLONE_NEWPID)  # our children are born there, we stay
        if plan["role"] == "init":
            _usher(plan, lambda: _init(plan))
        _usher(plan, lambda: _leave(lambda: _keep(plan)) if plan["log"] else _keep(plan))
    except BaseException as error:  # whatever it is, nobody else would tell
        what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else f"{type(error).__name__}: {error}"
        os.write(plan["status"], what.encode())
        os._exit(NOT_ENTERED)


# -- usher -----------------------------------------------------------------------------------------------------------------


def _usher(plan: dict[str, Any], inside: Callable[[], NoReturn]) -> NoReturn:
    """Ends as the child inside ends, and hands on signals to it."""
    numbers = (*HANDED_ON, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    child = os.fork()
    if child == 0:
        inside()
    for fd in plan["fds"]:
        os.close(fd)
    let_go_of_standard_streams()
    while True:
        number = signal.sigwaitinfo(numbers).si_signo
        code = reaped(child)
        if code is not None:
            os._exit(code)
        if number != signal.SIGCHLD:
            os.kill(child, number)


def _leave(inside: Callable[[], NoReturn]) -> NoReturn:
    """A child of its own goes on, and process 1 of the namespace becomes its parent: it is to outlive the usher."""
    if os.fork() == 0:
        inside()
    os._exit(0)


# -- keeper ----------------------------------------------------------------------------------------------------------------


def _keep(plan: dict[str, Any]) -> NoReturn:
    call_oneself(b"vxtool-keeper")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    join_groups(plan["keeper_groups"])
    wake = listen((*HANDED_ON, signal.SIGCHLD))
    for namespace, kind in plan["join"]:
        _setns(namespace, kind)
    if plan["fresh"]:
        _unshare(CLONE_NEWNS | CLONE_NEWUTS)
        furnish(plan["hostname"])
        if plan["node"]:
            _furnish_docker(plan["node"])
    output = os.pipe() if plan["log"] else None
    keeper = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)  # one that is sent at once waits until it can do what it does to the program
    program = os.fork()
    if program == 0:
        _become(plan, keeper, output)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if output is not None:
        os.close(output[1])
    os.write(plan["record"], b'{"inside": %d}\n' % program)
    os.write(plan["status"], STARTED)
    os.close(plan["status"])
    let_go_of_standard_streams()
    code = watch(program, wake, plan["lifeline"], None if output is None else Log(output[0], plan["folder"], plan["log"]))
    for parent, name in plan["own_groups"]:
        remove_group(parent, name)
    if plan["log"]:
        os.write(plan["record"], b'{"code": %d, "ended": %.3f}\n' % (code, time.time()))
    else:
        os.unlink(plan["name"], dir_fd=plan["folder"])
    os._exit(code)


def watch(program: int, wake: int, lifeline: int | None, log: Log | None) -> int:
    """Until the program ends: hands on signals, writes its log, and ends it with everything it started when the lifeline closes."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    if lifeline is not None:
        poll.register(lifeline, select.POLLIN)
    if log is not None:
        poll.register(log.source, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if log is not None and log.source in ready and not log.copy():
            poll.unregister(log.source)
        if lifeline in ready:
            _end_children()
            return KILLED_BY + int(signal.SIGKILL)
        if wake not in ready:
            continue
        for number in os.read(wake, 4096):
            if number != signal.SIGCHLD:
                _hand_on(program, number)
        code = reaped(program)
        if code is not None:
            if log is not None:
                log.drain()
            return code


def _hand_on(program: int, number: int) -> None:
    """To the program's process group, as a terminal does: a shell that waits for its child does not shield it."""
    for send in (os.killpg, os.kill):
        try:
            send(program, number)
        except ProcessLookupError:  # no group yet: it has just been forked; or no process any more
            continue
        return


def reaped(program: int) -> int | None:
    """Takes in whoever has ended, orphans too; the program's exit code when it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == program:
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else KILLED_BY + os.WTERMSIG(status)


def _end_children() -> None:
    """Kills children until there are none: whose parent dies becomes ours (we are a subreaper), down to the last of the tree."""
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    found = []
    own = os.getpid()
    for pid in _processes():
        try:
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == own:
            found.append(pid)
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


class Log:
    """A detached program's output, kept in a file that its owner can read, at most twice LOG_SIZE. `stamped`: each line begins with its time."""

    def __init__(self, source: int, folder: int, name: str, stamped: bool = False) -> None:
        os.set_blocking(source, False)
        self.source = source
        self._folder = folder
        self._name = name
        self._file = self._begin()
        self._stamped = stamped
        self._amid_a_line = False

    def _begin(self) -> int:
        self._size = 0
        return os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600, dir_fd=self._folder)

    def copy(self) -> bool:
        """One piece of what is there; False when nobody will write any more."""
        try:
            piece = os.read(self.source, 1 << 16)
        except BlockingIOError:
            return True
        if not piece:
            return False
        if self._stamped:
            piece = self._stamp(piece)
        if self._size + len(piece) > LOG_SIZE:
            self._turn()
        self._size += len(piece)
        try:
            os.write(self._file, piece)
        except OSError:
            return True  # no space left: the program is not to wait for that
        return True

    def _turn(self) -> None:
        try:
            os.rename(self._name, f"{self._name}.1", src_dir_fd=self._folder, dst_dir_fd=self._folder)
            full, self._file = self._file, self._begin()
            os.close(full)
        except OSError:  # somebody has removed the file, or there is no room for another: this one begins anew
            os.ftruncate(self._file, 0)
            self._size = 0

    def _stamp(self, piece: bytes) -> bytes:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)).encode() + b".%06dZ " % (now % 1 * 1_000_000)
        first = b"" if self._amid_a_line else stamp
        self._amid_a_line = not piece.endswith(b"\n")
        return first + piece[:-1].replace(b"\n", b"\n" + stamp) + piece[-1:]

    def drain(self) -> None:
        """What the ended program left in the pipe: at most the pipe's own size, even if somebody it started goes on writing."""
        for _ in range(1 + (fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ) >> 12)):
            before = self._size
            if not self.copy() or self._size == before:
                return


def remove_group(folder: int, name: str) -> None:
    """The program's own control group. When somebody it started is still in there, it stays until the lab ends."""
    for _ in range(200):
        try:
            os.rmdir(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.005)  # measured: the kernel needs up to 10 ms after the last one's end
        else:
            return


# -- the program itself ----------------------------------------------------------------------------------------------------


def _become(plan: dict[str, Any], keeper: int, output: tuple[int, int] | None) -> NoReturn:
    """From a copy of the keeper to the program."""
    if output is not None:
        os.dup2(output[1], 1)
        os.dup2(output[1], 2)
    os.setsid()
    if plan["terminal"]:
        fcntl.ioctl(0, _TIOCSCTTY, 0)
    join_groups(plan["program_groups"])
    signal.set_wakeup_fd(-1)
    for number in (*HANDED_ON, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    take_user(plan)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which takes it back
    if os.getppid() != keeper:
        os._exit(KILLED_BY + int(signal.SIGKILL))
    _change_folder(plan)
    _execute(plan)


def _execute(plan: dict[str, Any]) -> NoReturn:
    """With the words and codes of a shell."""
    name = plan["argv"][0]
    refused = execute(plan["argv"], plan["env"])
    if refused is None:
        _refuse(plan, f"{name}: command not found", NOT_FOUND)
    _refuse(plan, f"{name}: {refused}", NOT_EXECUTABLE)


def execute(argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    """execvp(3). Returns only when that fails: why the program that was found cannot be executed, None when none was found.

    Python's own imports a module here, which this user may not be able to read.
    """
    name = argv[0]
    paths = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in env.get("PATH", "").split(":")]
    refused = None
    for path in paths:
        try:
            os.execve(path, list(argv), env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if path == name or os.path.exists(path):  # else it is a folder of PATH that this user cannot look into
                refused = refused or (error.strerror or "").lower()
        except ValueError as error:  # a zero byte, an empty name of a variable
            return str(error)
    return refused


def _change_folder(plan: dict[str, Any]) -> None:
    """The folder that was asked for, or the client's if this user may be there."""
    try:
        os.chdir(plan["workdir"] or plan["client_folder"])
    except OSError as error:
        if plan["workdir"]:
            _refuse(plan, f"{plan['workdir']}: {(error.strerror or '').lower()}", NOT_EXECUTABLE)
        os.chdir("/")


def _refuse(plan: dict[str, Any], reason: str, code: int) -> NoReturn:
    os.write(2, f"vxtool: {plan['where']}: {reason}\n".encode(errors="backslashreplace"))
    os._exit(code)


def take_user(plan: dict[str, Any]) -> None:
    if plan["capabilities"] is not None:
        for capability in range(64):
            if not plan["capabilities"] >> capability & 1 and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break  # the kernel's last one was the one before
    user, group, others = plan["user"]
    os.setgroups(others)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if plan["no_new_privileges"]:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


# -- an endpoint's init ----------------------------------------------------------------------------------------------------


def _init(plan: dict[str, Any]) -> NoReturn:
    """Makes the endpoint's process, mount, host name and IPC namespaces, and stays in them as process 1; says STARTED when it can be found."""
    for namespace, kind in plan["join"]:
        _setns(namespace, kind)
    _unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)
    _leave(lambda: _be_init(plan))


def _be_init(plan: dict[str, Any]) -> NoReturn:
    call_oneself(b"vxtool-init")
    wake = listen((signal.SIGCHLD,))
    furnish(plan["hostname"])
    furnish_etc(plan["files"])
    for path, value in plan["sysctls"]:
        with open(path, "w") as file:
            file.write(value)
    fcntl.lockf(plan["held"], fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(plan["status"], STARTED)
    os.close(plan["status"])
    let_go_of_standard_streams()
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    while True:
        if poll.poll(IDLE * 1000):
            os.read(wake, 4096)
        elif _alone(plan["starting"]):
            os._exit(0)
        reaped(0)


def _alone(starting: int) -> bool:
    """Whether there is nobody else here, and nobody is on the way: who enters holds `starting` until he is in. When alone, the lock stays ours."""
    if _processes() != [os.getpid()]:
        return False
    try:
        fcntl.flock(starting, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if _processes() == [os.getpid()]:
        return True
    fcntl.flock(starting, fcntl.LOCK_UN)
    return False


def furnish(hostname: str) -> None:
    """In mount and host name namespaces that are ours: /proc and /sys show the namespaces we are in, the host has the place's name."""
    name = hostname.encode()
    _called(_libc.sethostname(name, len(name)), "host name")
    _mount("", "/", "", _MS_REC_PRIVATE)
    _mount("proc", "/proc", "proc", _MS_NOSUID_NODEV_NOEXEC)
    _mount("sysfs", "/sys", "sysfs", _MS_NOSUID_NODEV_NOEXEC)


def _furnish_docker(node: str) -> None:
    """The node's sandboxes where a Docker node has them, under their own names: /var/run/docker/netns/1-jt5a4qc2hw.

    So what is known of Docker, `verify`'s commands among it, holds here too. For a folder to be there the machine's /run gives way to an empty one.
    """
    own = f"{node}:"
    sandboxes = [name for name in os.listdir("/run/netns") if name.startswith(own)]
    networks = os.open("/run/netns", os.O_PATH)
    _mount("tmpfs", "/run", "tmpfs", _MS_NOSUID_NODEV_NOEXEC, "mode=755")
    os.makedirs("/run/docker/netns")
    os.mkdir("/run/netns")
    _mount(f"/proc/self/fd/{networks}", "/run/netns", "", _MS_BIND_REC)
    os.close(networks)
    for name in sandboxes:
        os.symlink(f"/run/netns/{name}", f"/run/docker/netns/{name.removeprefix(own)}")


def furnish_etc(files: list[tuple[str, str]]) -> None:
    """Lays files of the endpoint's own over the machine's. /run/netns, where they are made, ends up empty: a container sees no namespaces."""
    _mount("tmpfs", "/run/netns", "tmpfs", _MS_NOSUID_NODEV_NOEXEC, "mode=755")
    missing = [path for path, _ in files if not os.path.exists(path)]
    for folder in {os.path.dirname(path) for path in missing}:
        _make_room(folder, [os.path.basename(path) for path in missing if os.path.dirname(path) == folder])
    for number, (path, text) in enumerate(files):
        made = f"/run/netns/{number}"
        with open(made, "w") as file:
            file.write(text)
        os.chmod(made, 0o644)
        _mount(made, path, "", _MS_BIND)
        os.unlink(made)


def _make_room(folder: str, names: list[str]) -> None:
    """Where the machine has no such files there is nothing to lay ours over, and it is not to get any: the folder becomes one of ours, with links to
    all that the machine has there."""
    behind = f"/run/netns/{os.path.basename(folder)}"
    os.mkdir(behind)
    _mount(folder, behind, "", _MS_BIND_REC)
    _mount("tmpfs", folder, "tmpfs", _MS_NOSUID_NODEV_NOEXEC, "mode=755")
    for name in os.listdir(behind):
        if name not in names:  # it may be a link that leads nowhere
            os.symlink(f"{behind}/{name}", f"{folder}/{name}")
    for name in names:
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY, 0o644))


# -- system calls ----------------------------------------------------------------------------------------------------------


def _called(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number).lower(), what)


def _setns(fd: int, kind: int) -> None:
    _called(_libc.setns(fd, kind), "entering a namespace")


def _unshare(flags: int) -> None:
    _called(_libc.unshare(flags), "making namespaces")


def _mount(source: str, target: str, filesystem: str, flags: int, options: str = "") -> None:
    given = [text.encode() or None for text in (source, target, filesystem)]
    _called(_libc.mount(*given, flags, options.encode() or None), f"mounting {target}")


def call_oneself(name: bytes) -> None:
    buffer = ctypes.create_string_buffer(name)
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer))


def join_groups(joined: list[int]) -> None:
    for procs in joined:
        os.write(procs, b"0")


def _prctl(option: int, value: int) -> None:
    _called(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def listen(numbers: tuple[int, ...]) -> int:
    """These signals become bytes that can be read from the descriptor."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reader


def let_go_of_standard_streams() -> None:
    """So that whoever reads the program's output sees its end when the program, and not the keeper, has ended."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
