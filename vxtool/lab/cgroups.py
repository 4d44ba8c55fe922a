"""Control groups of a lab: one folder `vxtool/NAME` in each hierarchy that can limit memory, processors or the number of processes.

Knows both layouts of /sys/fs/cgroup (version 1: a hierarchy per controller; version 2: one for all). Each folder is written down in the lab's file
`cgroups` before it is made, so that whoever finds the lab dead can remove exactly these. Where a machine has no control groups nothing is limited.

    vxtool/NAME/lab        leader, supervisor, and what they start
    vxtool/NAME/PROGRAM    made by who starts a program with limits of its own (version 2 allows processes only in the outermost leaves)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["CONTROLLERS", "Groups", "enter", "memory", "prepare", "read", "remove"]

CONTROLLERS = ("memory", "cpu", "pids")

Groups = Mapping[str, Path]
"""The lab's folder for each controller; with version 2 three times the same one."""

_PATIENCE = 2.0  # seconds in which the kernel takes ended processes out of their groups; measured 0.01


def prepare(name: str, record: Path, mounts: Path = Path("/proc/self/mounts")) -> Groups:
    """Makes the lab's folders, each with the leaf `lab`, and writes them down in `record` first. A hierarchy that refuses is left out."""
    made: dict[str, Path] = {}
    for folder, controllers in _hierarchies(mounts):
        group = folder / "vxtool" / name
        with record.open("a") as file:
            file.write(f"{' '.join(controllers)} {group}\n")
            file.flush()
        try:
            (group / "lab").mkdir(parents=True, exist_ok=True)
            if (folder / "cgroup.controllers").exists():
                enabled = " ".join(f"+{controller}" for controller in controllers)
                for parent in (group.parent, group):
                    (parent / "cgroup.subtree_control").write_text(enabled)
        except OSError:
            _remove_tree(group)
            continue
        made.update(dict.fromkeys(controllers, group))
    return made


def read(record: Path) -> Groups:
    """What was written down and is there."""
    try:
        lines = record.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {controller: Path(words[-1]) for line in lines if (words := line.split()) for controller in words[:-1] if Path(words[-1]).is_dir()}


def enter(groups: Groups, leaf: str, pid: int) -> None:
    """Puts a process into a leaf of the lab's groups; what it starts later is in there too. A hierarchy that refuses it goes without."""
    for group in dict.fromkeys(groups.values()):
        with suppress(OSError):
            (group / leaf / "cgroup.procs").write_text(str(pid))


def memory(groups: Groups) -> int | None:
    """Bytes that the lab's processes, and what the kernel keeps for them, take; None where nobody counts."""
    for file in ("memory.usage_in_bytes", "memory.current"):
        try:
            return int((groups["memory"] / file).read_text())
        except (KeyError, OSError, ValueError):
            continue
    return None


def remove(record: Path) -> int:
    """Removes what was written down, and `vxtool` above it when it was the last. Says how many hierarchies had some. Nobody may be in it any more."""
    groups = set(read(record).values())
    for group in groups:
        _remove_tree(group)
        _try_rmdir(group.parent)
    return len(groups)


def _hierarchies(mounts: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Where folders can be made, and the controllers that they would have."""
    for line in mounts.read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        folder = Path(where)
        if kind == "cgroup":
            controllers = tuple(controller for controller in CONTROLLERS if controller in options.split(","))
        elif kind == "cgroup2":
            # Only what is already handed on to folders below the root: to change that is the administrator's, not ours.
            control = folder / "cgroup.subtree_control"
            handed_on = control.read_text().split() if control.exists() else []
            controllers = tuple(controller for controller in CONTROLLERS if controller in handed_on)
        else:
            continue
        if controllers and os.access(folder, os.W_OK):
            yield folder, controllers


def _remove_tree(group: Path) -> None:
    """Folders from the leaves up; the files in them are the kernel's and go with them."""
    for folder, _, _ in os.walk(group, topdown=False):
        give_up = time.monotonic() + _PATIENCE
        while not _try_rmdir(Path(folder)) and time.monotonic() < give_up:
            time.sleep(0.005)


def _try_rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
