"""Which labs there are: /run/vxtool/NAME, one folder a lab.

Knows folders, locks and the table of processes; nothing of what is inside a lab. No process id is ever guessed: a lab is alive exactly as long as its
leader holds the lock in its folder, and the kernel lets go of it when the leader ends, however it ends.

    lock          held (flock) by the leader and by nobody else, for its whole life
    leader        its process id as the machine sees it, and when it was started, so that a number used again is not taken for it
    cgroups       control groups of the lab, each written down before it is made
    down          somebody wants this lab to end; whoever finds it finishes the job
    api.sock  store.sqlite  log      the supervisor's
    swarm         its store, agents' records, logs of tasks

/run/vxtool/.lock is held while such a folder is made or removed. When the last lab has gone, /run/vxtool goes too.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab import cgroups

__all__ = ["FOLDER", "Running", "alone", "check_name", "discard", "end", "find", "folder", "need_root", "record", "running", "started", "sweep"]

FOLDER = Path("/run/vxtool")
"""Where labs are written down, unless $VXTOOL_RUN says otherwise (tests do); ask `folder()`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # it is the lab's host name, too
_STORE = "store.sqlite"
_FILES = {"lock", "leader", "leader.new", "cgroups", "down", "api.sock", "log", "programs", "swarm"}
_FILES |= {f"store.sqlite{kind}" for kind in ("", "-wal", "-shm", "-journal")}
_PATIENCE = 20.0  # seconds a killed leader may take: the kernel first ends every process of the lab


@dataclass(frozen=True, slots=True)
class Running:
    """A lab that is alive, or was a moment ago."""

    name: str
    folder: Path
    leader: int  # process id as the machine sees it; process 1 of the lab

    @property
    def root(self) -> Path:
        """The machine's files as the lab's own processes see them: its mounts are only there."""
        return Path(f"/proc/{self.leader}/root")

    def path(self, namespace: str) -> Path:
        """A network namespace of the lab as a file that can be opened and entered from outside."""
        return self.root / "run/netns" / namespace

    @property
    def since(self) -> float:
        """When its leader was recorded, in seconds since the epoch."""
        return (self.folder / "leader").stat().st_mtime

    @property
    def groups(self) -> cgroups.Groups:
        """Its control groups, one folder for each controller the machine has."""
        return cgroups.read(self.folder / "cgroups")


def folder() -> Path:
    return Path(os.environ.get("VXTOOL_RUN") or FOLDER)


def need_root() -> None:
    """Raises MissingFeature where no lab can be: elsewhere than on Linux, or without root."""
    if not sys.platform.startswith("linux"):
        raise MissingFeature(f"a lab is made of Linux network namespaces, and this is {sys.platform}: use a Linux machine or virtual machine")
    if os.geteuid() != 0:
        raise MissingFeature("a lab needs root, because it makes network namespaces: put sudo in front (vxtool lab up --dry-run does without)")


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"a lab cannot be called {name!r}: up to 63 letters, digits, dots, dashes, underscores are wanted")
    return name


def running() -> list[Running]:
    """The labs that are alive, by name. A lab that somebody is making is among them from the moment its leader was started."""
    return [lab for place in _places() if _held(place) and (lab := _running(place)) is not None]


def find(name: str | None) -> Running:
    """The lab of that name; without one $VXTOOL_LAB, else the only one there is. UsageError when that says nothing, or too much."""
    need_root()
    labs = {lab.name: lab for lab in running()}
    wanted = name or os.environ.get("VXTOOL_LAB")
    if wanted:
        if wanted in labs:
            return labs[wanted]
        from difflib import get_close_matches  # 5 ms that only a mistake costs

        near = get_close_matches(wanted, labs, 1) or list(labs)
        hint = f"did you mean {near[0]}?" if near else "none is: vxtool lab up makes one"
        raise UsageError(f"no lab called {wanted!r} is running; {hint}")
    if not labs:
        raise UsageError("no lab is running: vxtool lab up makes one")
    if len(labs) > 1:
        raise UsageError(f"{len(labs)} labs are running ({', '.join(labs)}): say which one with --lab, or in $VXTOOL_LAB")
    return next(iter(labs.values()))


# --------------------------------------------------------------------------------------------------------------------
# The end of a lab
# --------------------------------------------------------------------------------------------------------------------


def end(lab: Running) -> None:
    """Ends a lab and removes what is written of it. Returns when its processes are dead; links and namespaces are then the kernel's to free.

    From the moment the wish is written down nothing can stop it: were this process killed, the next vxtool command would do the rest.
    """
    with alone():
        recorded = _recorded(lab.folder)
        if recorded is not None and recorded[0] == lab.leader:
            (lab.folder / "down").touch()
            _finish(lab.folder)


def sweep() -> list[str]:
    """Finishes what a crash, or a killed `down`, has left of labs: one sentence for each. Every verb of the lab calls it first."""
    if not any(_over(place) for place in _places()) and not _deserted():
        return []
    with alone():
        return [_finish(place) for place in _places() if _over(place)]


def discard(place: Path) -> None:
    """Removes a lab that has not come to live. For whoever makes one, and holds the registry."""
    cgroups.remove(place / "cgroups")
    shutil.rmtree(place)


def _over(place: Path) -> bool:
    return (place / "down").exists() or not _held(place)


def _deserted() -> bool:
    """Whether somebody was killed between making the registry and the first lab in it, or between removing the last lab and the registry."""
    return folder().is_dir() and not _places()


def _finish(place: Path) -> str:
    """Kills the leader if it lives, waits until the kernel has ended every process of the lab, removes control groups and folder."""
    wanted = (place / "down").exists()
    leader = _pidfd(place)
    if leader is not None:
        with closing(os.fdopen(leader)):
            signal.pidfd_send_signal(leader, signal.SIGKILL)
            # The lock is let go of before the lab's other processes are dead; the leader has ended only when all of them have.
            if not select.select([leader], [], [], _PATIENCE)[0]:
                raise LabError(f"lab {place.name}: its processes have not ended within {_PATIENCE:.0f} s of being killed; try vxtool lab prune later")
    groups = cgroups.remove(place / "cgroups")
    shutil.rmtree(place)
    reason = "was to end" if wanted else "had died"
    return f"lab {place.name} {reason}: removed {place}" + (f" and control groups in {groups} hierarchies" if groups else "")


# --------------------------------------------------------------------------------------------------------------------
# Folders, locks, processes
# --------------------------------------------------------------------------------------------------------------------


@contextmanager
def alone() -> Iterator[Path]:
    """The registry's folder, and nobody else makes or removes a lab in it meanwhile. An empty registry is removed at the end."""
    home = folder()
    descriptor = _locked(home)
    try:
        yield home
    finally:
        if not _places():
            (home / ".lock").unlink()
            with suppress(OSError):  # somebody has just made a new one
                home.rmdir()
        os.close(descriptor)


def _locked(home: Path) -> int:
    """The registry's lock, open and taken. Whoever had it before may have removed it: then it is made again."""
    while True:
        descriptor = -1
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.stat(home / ".lock"), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except FileExistsError:  # it was there, and when mkdir looked whether it is a folder it was not
            if home.exists() and not home.is_dir():
                raise
        if descriptor >= 0:
            os.close(descriptor)


def group_name(place: Path) -> str:
    """What the lab's control groups are called: as the lab; in another registry than the machine's with that one's number, so that none is shared."""
    return place.name if place.parent == FOLDER else f"{place.name}@{place.parent.stat().st_ino}"


def record(place: Path, leader: int) -> None:
    """Writes down who a lab's leader is, whole or not at all."""
    written = place / "leader.new"
    written.write_text(f"{leader} {started(leader)}\n")
    written.rename(place / "leader")


def started(pid: int) -> int | None:
    """When a process was started, in ticks since the machine was (proc(5), field 22 of stat); None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])


def _places() -> list[Path]:
    """The folders of labs. UsageError when the registry's folder holds anything else: a sweep would take it for what a dead lab has left."""
    try:
        places = sorted(place for place in folder().iterdir() if place.name != ".lock")
        strangers = [place for place in places if not _of_a_lab(place)]
    except FileNotFoundError:
        return []
    except PermissionError:
        need_root()
        raise
    if strangers:
        raise UsageError(f"{strangers[0]} belongs to no lab, so nothing there is touched: $VXTOOL_RUN wants a folder for labs alone, as {FOLDER} is")
    return places


def _of_a_lab(place: Path) -> bool:
    """Whether it is, or at the moment of a crash was, a lab's folder: nothing is in it that a lab does not have there."""
    try:
        return _NAME.fullmatch(place.name) is not None and not place.is_symlink() and _FILES.issuperset(os.listdir(place))
    except FileNotFoundError:  # it goes in this moment
        return True
    except NotADirectoryError:
        return False


def _held(place: Path) -> bool:
    """Whether some process holds the lab's lock. Two who ask at once do not disturb each other: they ask for a shared one."""
    try:
        descriptor = os.open(place / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _recorded(place: Path) -> tuple[int, int] | None:
    try:
        pid, ticks = (place / "leader").read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid), int(ticks)


def _running(place: Path) -> Running | None:
    recorded = _recorded(place)
    if recorded is None or started(recorded[0]) != recorded[1]:
        return None
    return Running(place.name, place, recorded[0])


def _pidfd(place: Path) -> int | None:
    """The recorded leader, if it still is a process: opened first and compared then, so that it cannot become another one in between."""
    recorded = _recorded(place)
    if recorded is None:
        return None
    try:
        descriptor = os.pidfd_open(recorded[0])
    except ProcessLookupError:
        return None
    if started(recorded[0]) == recorded[1]:
        return descriptor
    os.close(descriptor)
    return None
