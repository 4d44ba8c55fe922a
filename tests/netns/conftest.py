"""Tests that need the kernel: each in a private world, so that the machine never sees what it makes.

A test that asks for the fixture `world` runs in a child process that is pid 1 of its own pid namespace, with mount and network namespaces of its own
(`vxtool.lab.namespaces.private_world`: `/run/netns` is an empty tmpfs but for `switches`, the namespace the test starts in) and a `/proc` to match.
Whatever it makes or starts is gone when it ends, however it ends. Other fixtures are made before, outside, and may be used as always.

    def test_a_bridge_is_made(world):
        world.kernel.perform([AddBridge("switches", "s1")])
        assert world.json("ip -j -n switches link show s1")[0]["ifname"] == "s1"

`in_a_world(function, *arguments)` does the same for a function in the middle of a test, and hands back what it returns or raises (both pickled).
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from vxtool.lab import namespaces
from vxtool.lab.kernel import Kernel

PR_SET_PDEATHSIG = 1


class World:
    """Hands for a test: the kernel, and a shell beside it."""

    kernel = Kernel()

    def sh(self, script: str) -> str:
        """What a shell script prints; it stops at the first command that fails, and so does the test."""
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, command: str) -> Any:
        """What a command prints as JSON; nothing is None."""
        return json.loads(self.sh(command) or "null")


@pytest.fixture
def world() -> World:
    """The test runs in a private world (see the top of this file)."""
    return World()


@pytest.fixture
def in_a_world() -> Callable[..., Any]:
    """Runs a function in a private world of its own."""
    return run_in_a_world


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if "world" not in pyfuncitem.fixturenames:
        return None
    run_in_a_world(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames})
    return True


def run_in_a_world(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    __tracebackhide__ = True
    if os.geteuid() != 0:
        pytest.fail("this test makes network namespaces: run it as root", pytrace=False)
    answer, telling = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(answer)
        _child(telling, lambda: function(*arguments, **named))
    os.close(telling)
    with open(answer, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not told:
        raise RuntimeError(f"the test's process ended without a word, exit code {os.waitstatus_to_exitcode(status)}")
    result, error, skipped = pickle.loads(told)
    if skipped is not None:
        pytest.skip(skipped)
    if error is not None:
        raise error
    return result


def _child(telling: int, work: Callable[[], Any]) -> NoReturn:
    """Waits for the world's first process, which is its child: a process stays in the pid namespace it was born in."""
    code = 1
    try:
        _die_with_parent()
        namespaces.unshare(namespaces.CLONE_NEWPID)
        first = os.fork()
        if first == 0:
            _first(telling, work)
        os.close(telling)
        code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _first(telling: int, work: Callable[[], Any]) -> NoReturn:
    try:
        _die_with_parent()
        result, error, skipped = None, None, None
        try:
            namespaces.private_world()
            namespaces.mount("proc", "/proc", "proc")
            result = work()
        except pytest.skip.Exception as raised:
            skipped = str(raised)
        except BaseException as raised:
            error = _portable(raised)
        with open(telling, "wb") as pipe:
            pickle.dump((result, error, skipped), pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _portable(error: BaseException) -> BaseException:
    """The exception as it can be sent, with the traceback as a note."""
    text = "".join(traceback.format_exception(error))
    try:
        sent: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(text)
    return sent


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
