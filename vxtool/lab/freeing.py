"""How long the kernel goes on freeing network namespaces after the last process has left them.

Knows that one worker of the kernel's frees them, one batch after the other (net/core/net_namespace.c cleanup_net), and that it tells nobody. So a
probe gets in line behind them: a namespace of no lab, with one end of a veth pair in it. When the other end has gone, everything before it has, too.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vxtool.lab.kernel import Kernel
from vxtool.lab.namespaces import private_world
from vxtool.lab.steps import AddNamespace, AddVeth, DeleteNamespace
from vxtool.lab.topology import SWITCHES

__all__ = ["freed"]

_PROBE = "probe"
_PAUSE = 0.002  # seconds between two looks


@contextmanager
def freed() -> Iterator[Callable[[], float]]:
    """Inside of the block namespaces are left; the function then waits until they are freed and returns how many seconds that took.

    The probe is a child process, because it needs namespaces of its own; it is made before, so that its making does not stand in line.
    """
    ready, is_ready = os.pipe()
    now, say_now = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(say_now)
        code = 1
        try:
            _probe(now, is_ready)
            code = 0
        finally:
            os._exit(code)
    os.close(is_ready)
    os.close(now)
    os.read(ready, 1)

    def wait() -> float:
        begun = time.monotonic()
        os.write(say_now, b".")
        os.read(ready, 1)
        return time.monotonic() - begun

    try:
        yield wait
    finally:
        os.close(say_now)
        os.close(ready)
        os.waitpid(child, 0)


def _probe(now: int, is_ready: int) -> None:
    private_world()
    kernel = Kernel()
    kernel.perform([AddNamespace(_PROBE), AddVeth(SWITCHES, _PROBE, _PROBE, _PROBE)])
    os.write(is_ready, b".")
    if not os.read(now, 1):
        return
    kernel.perform([DeleteNamespace(_PROBE)])
    while any(name == _PROBE for _, name in socket.if_nameindex()):
        time.sleep(_PAUSE)
    os.write(is_ready, b".")
