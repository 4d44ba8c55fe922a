"""Kills `vxtool lab up` and `vxtool lab down` with -9 at random moments, and looks for what is left.

    python -m tests.netns.crash --times 200 --seed 1

Everything happens in a world of its own (tests/netns/conftest.py) whose /proc shows nobody else: so what is left can be counted. Beside the labs that
are killed another one runs, and must not notice. The moments are spread over the whole duration of the command, which is measured first; the command
runs in a fork of this process, so that no moment is spent on imports, which are harmless.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from tests.netns.conftest import run_in_a_world
from vxtool.cli import main as vxtool
from vxtool.lab import registry
from vxtool.lab.lab import Lab
from vxtool.lab.registry import Running

NAME = "crash"
PATIENCE = 10.0  # seconds until what was killed must be gone; measured 0.02
STAYS = 1.0  # seconds after which a lab that is still there is one that was finished
KINDS = ("net", "mnt", "pid", "uts", "ipc")


def crash(times: int, seed: int, say: Any = None) -> Counter[str]:
    """As many crashes of `up` as of `down`, one at a random moment of each of so many equal parts of its duration. Counts how they ended.

    AssertionError says after which crash what was left.
    """
    chance = random.Random(seed)
    endings: Counter[str] = Counter()
    with _registry(), Lab(name="bystander") as bystander, _pinging(bystander.running) as ping:
        took_up, took_down = _measured()
        for number in range(times // 2):
            for kill, took in ((_kill_up, took_up), (_kill_down, took_down)):
                # Somewhat longer than it took: it may take longer this time.
                moment = 1.1 * took * (number + chance.random()) / (times // 2)
                before = look()
                ending = kill(moment)
                _settle(before, "everything", f"{kill.__name__} after {moment:.4f} s, which {ending}")
                endings[ending] += 1
                if say is not None:
                    say(f"{kill.__name__[6:]:4} killed after {moment:.4f} s: {ending}")
        lost = ping()
        assert lost == 0, f"{lost} packets of the other lab were lost"
    return endings


def _kill_up(moment: float) -> str:
    before = look()
    if not _kill(["lab", "up", "--name", NAME, "-q"], moment):
        assert _stands(), "up had ended, but there is no whole lab"
        registry.end(_lab())
        return "had made a lab"
    deadline = time.monotonic() + STAYS
    while time.monotonic() < deadline:
        if not look().beside(before).keys() & ALIVE:
            break
        time.sleep(0.01)
    else:
        assert _kept(), "up was killed before it said that the lab is to stay, but it stays"
        assert _stands(), "up was killed; what it had made is neither gone nor whole"
        registry.end(_lab())
        return "had made a lab"
    _settle(before, "alive", f"up killed after {moment:.4f} s")
    registry.sweep()
    return "left nothing"


def _kill_down(moment: float) -> str:
    lab = Lab(name=NAME)
    lab.start()
    lab.keep()
    _kill(["lab", "down", NAME], moment)
    registry.sweep()
    if not registry.running() or all(running.name != NAME for running in registry.running()):
        return "ended the lab"
    assert _stands(), "down was killed before it began, but the lab is not whole"
    registry.end(_lab())
    return "had not begun"


# --------------------------------------------------------------------------------------------------------------------
# Commands
# --------------------------------------------------------------------------------------------------------------------


def _command(arguments: Sequence[str]) -> int:
    """A vxtool command in a fork of this process."""
    child = os.fork()
    if child == 0:
        _run(arguments)
    return child


def _run(arguments: Sequence[str]) -> NoReturn:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        vxtool(arguments)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(70)


def _kill(arguments: Sequence[str], moment: float) -> bool:
    """Whether the command was still running when it was killed."""
    child = _command(arguments)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _measured() -> tuple[float, float]:
    """Seconds that `up` and `down` take when nobody kills them."""
    took = []
    for arguments in (["lab", "up", "--name", NAME, "-q"], ["lab", "down", NAME]):
        begun = time.monotonic()
        _, status = os.waitpid(_command(arguments), 0)
        assert status == 0, f"vxtool {' '.join(arguments)} ended with {status}"
        took.append(time.monotonic() - begun)
    return took[0], took[1]


def _lab() -> Running:
    return next(lab for lab in registry.running() if lab.name == NAME)


def _stands() -> bool:
    """Whether the lab is whole: an endpoint reaches another one on another node."""
    return _in(_lab(), "sathish-vm1:web.1", "ping", "-c", "1", "-W", "2", "10.0.1.4").wait() == 0


def _kept() -> bool:
    """Whether the lab has been told to stay: its leader then watches its starter no more, and has no pidfd open."""
    descriptors = Path(f"/proc/{_lab().leader}/fd").iterdir()
    return all("pidfd" not in os.readlink(descriptor) for descriptor in descriptors)


def _in(lab: Running, namespace: str, *command: str) -> subprocess.Popen[str]:
    """Not through vxtool: the second opinion, and a process of this world, not of the lab's."""
    return subprocess.Popen(["nsenter", f"--net={lab.path(namespace)}", *command], stdout=subprocess.PIPE, text=True)


@contextmanager
def _pinging(lab: Running) -> Iterator[Any]:
    """From one endpoint to another all the time; the function ends that and says how many were lost."""
    ping = _in(lab, "sathish-vm1:web.1", "ping", "-i", "0.2", "10.0.1.4")

    def lost() -> int:
        time.sleep(0.3)
        ping.send_signal(signal.SIGINT)
        told = re.search(r"(\d+) packets transmitted, (\d+) received", ping.communicate()[0])
        assert told is not None
        # The last one may still have been on its way.
        return max(0, int(told[1]) - int(told[2]) - 1)

    try:
        yield lost
    finally:
        ping.kill()
        ping.wait()


# --------------------------------------------------------------------------------------------------------------------
# What is left
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything a lab could leave on a machine."""

    processes: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]  # where the command runs: of the machine itself, as far as labs know
    mounts: frozenset[str]
    groups: frozenset[str]
    written: frozenset[str]  # in the registry

    def beside(self, before: Seen) -> dict[str, list[str]]:
        """What is there and was not before, or the other way round."""
        pairs = {field.name: (getattr(self, field.name), getattr(before, field.name)) for field in fields(self)}
        return {name: sorted(now ^ then) for name, (now, then) in pairs.items() if now != then}


ALIVE = {"processes", "namespaces", "links", "mounts"}
"""What must be gone without any further command; the rest is for the next one to remove."""


def look() -> Seen:
    _bury()
    processes, namespaces = set(), set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                processes.add(f"{folder.name} {(folder / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')}")
                namespaces |= {os.readlink(folder / "ns" / kind) for kind in KINDS}
    home = registry.folder()
    return Seen(
        frozenset(processes),
        frozenset(namespaces),
        frozenset(name for _, name in socket.if_nameindex()),
        frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
        frozenset(str(group) for group in Path("/sys/fs/cgroup").glob(f"*/vxtool/{registry.group_name(home / NAME)}")),
        frozenset(path.name for path in home.iterdir()) if home.exists() else frozenset(),
    )


def _settle(before: Seen, what: str, when: str) -> None:
    """Waits until nothing is left that was not there before; AssertionError when that does not come."""
    deadline = time.monotonic() + PATIENCE
    while True:
        left = look().beside(before)
        if what == "alive":
            left = {name: things for name, things in left.items() if name in ALIVE}
        if not left:
            return
        assert time.monotonic() < deadline, f"{when}: {left}"
        time.sleep(0.01)


def _bury() -> None:
    """We are process 1 of this world, and parent of every process whose own has died."""
    with suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            os.waitpid(-1, os.WNOHANG)


@contextmanager
def _registry() -> Iterator[None]:
    """A registry of its own, so that labs of this machine are neither seen nor swept."""
    with tempfile.TemporaryDirectory(prefix="vxtool-crash-") as folder:
        before = os.environ.get("VXTOOL_RUN")
        os.environ["VXTOOL_RUN"] = f"{folder}/run"
        try:
            yield
            assert not os.path.exists(f"{folder}/run"), "the registry is still there"
        finally:
            for lab in registry.running():  # of a test that has failed
                registry.end(lab)
            registry.sweep()
            os.environ.pop("VXTOOL_RUN")
            if before is not None:
                os.environ["VXTOOL_RUN"] = before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200, help="how many commands are killed, half of them up, half down")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    endings = run_in_a_world(crash, given.times, given.seed, lambda text: print(text, flush=True))
    told = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    print(f"{endings.total()} commands were killed in {time.monotonic() - begun:.0f} s ({told}); nothing was left of any")
    return 0


if __name__ == "__main__":
    sys.exit(main())
