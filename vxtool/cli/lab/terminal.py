"""The caller's terminal, lent to a program in a lab.

Knows terminals and window sizes, nothing of labs. The program gets a terminal of its own (a pty), in a session of its own: it cannot type into the
caller's shell, job control works, and Ctrl-C is its own affair. This end passes bytes on, both ways, while the caller's terminal is in raw mode.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vxtool.lab.programs import Process

__all__ = ["available", "follow", "run"]

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def available() -> bool:
    """Whether there is somebody at a keyboard who also reads what is written."""
    return os.isatty(0) and os.isatty(1)


def run(start: Callable[..., Process]) -> int:
    """Starts a program on a new terminal and follows it to its end; its exit code. `start` is told stdin, stdout, stderr and terminal."""
    ours, theirs = os.openpty()
    _copy_size(ours)
    try:
        process = start(stdin=theirs, stdout=theirs, stderr=theirs if os.isatty(2) else None, terminal=True)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        with _raw(), _forwarding(process), _resizing(ours):
            return _relay(process, ours)
    finally:
        process.kill()
        os.close(ours)


def follow(process: Process) -> int:
    """Waits for a program that has the caller's own streams, and hands on the signals that the caller gets; its exit code."""
    with _forwarding(process):
        try:
            return process.wait()
        finally:
            process.kill()


def _relay(process: Process, ours: int) -> int:
    ended = os.pidfd_open(process.pid)
    try:
        sources = [0, ours, ended]
        while True:
            ready = select.select(sources, [], [])[0]
            if ours in ready and not _copy(ours, 1):
                sources.remove(ours)
            if 0 in ready and not _copy(0, ours):
                sources.remove(0)
            if ended in ready:
                break
        # What it wrote last. Whoever it has left behind may go on writing: nobody waits for that.
        while ours in sources and select.select([ours], [], [], 0)[0] and _copy(ours, 1):
            pass
        return process.wait()
    finally:
        os.close(ended)


def _copy(source: int, target: int) -> bool:
    """One piece; False at the end: a pty whose other side nobody has open any more says so with an error."""
    try:
        piece = os.read(source, 1 << 16)
        while piece:
            piece = piece[os.write(target, piece) :]
            if not piece:
                return True
    except OSError:
        return False
    return False


@contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _forwarding(process: Process) -> Iterator[None]:
    def hand_on(number: int, _: Any) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _resizing(ours: int) -> Iterator[None]:
    before = signal.signal(signal.SIGWINCH, lambda *_: _copy_size(ours))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _copy_size(ours: int) -> None:
    """The kernel tells the programs on the other side."""
    if sys.stdout.isatty():
        fcntl.ioctl(ours, termios.TIOCSWINSZ, fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8)))
