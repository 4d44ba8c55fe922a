"""What no agent is to meet is refused when it is asked for, in Docker's words where it has some."""

from __future__ import annotations

import pytest

from vxtool.errors import UsageError
from vxtool.swarm.objects import HealthCheck, TaskSpec
from vxtool.swarm.specifications import check_task


@pytest.mark.parametrize("text", ["", "SIGTERM", "term", "SigQuit", "15", "64", "SIGRTMIN"])
def test_signals_have_their_names_and_numbers(text: str) -> None:
    check_task(TaskSpec("host", stop_signal=text))


@pytest.mark.parametrize("text", ["0", "65", "99", "-9", "SIG", "SIGBLA", "_DFL", "SIG_IGN", "9999999999", "¹"])
def test_what_no_signal_is_called_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Invalid signal: "):
        check_task(TaskSpec("host", stop_signal=text))


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (HealthCheck(("CMD-SHELL",)), "CMD-SHELL needs a command"),
        (HealthCheck(("CMD",)), "CMD needs a command"),
        (HealthCheck(("CMD", "")), "CMD needs a command"),
        (HealthCheck(("FOO", "x")), r"Unknown probe type 'FOO' \(expected 'CMD'\)"),
        (HealthCheck(("CMD", "x"), interval=0.0001), "Interval in Healthcheck cannot be less than 1ms"),
        (HealthCheck(("CMD", "x"), timeout=-1.0), "Timeout in Healthcheck cannot be less than 1ms"),
        (HealthCheck(("CMD", "x"), start_period=-1.0), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (HealthCheck(("CMD", "x"), interval=float("nan")), "Interval in Healthcheck"),
        (HealthCheck(("CMD", "x"), interval=float("inf")), "Interval in Healthcheck"),
        (HealthCheck(("CMD", "x"), retries=-1), "Retries in Healthcheck cannot be negative"),
        (HealthCheck(("CMD", "a\0b")), "cannot contain NUL"),
    ],
)
def test_a_health_check_that_cannot_be_asked_is_refused(check: HealthCheck, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_task(TaskSpec("host", health=check))


@pytest.mark.parametrize(
    "check", [HealthCheck(), HealthCheck(("NONE",)), HealthCheck(("CMD", "true"), 0.0, 0.0, 0.0, 0), HealthCheck(("CMD", "x"), 0.001)]
)
def test_a_health_check_may_leave_everything_to_the_engine(check: HealthCheck) -> None:
    check_task(TaskSpec("host", health=check))


@pytest.mark.parametrize("task", [TaskSpec("host", env=("A=\0b",)), TaskSpec("host", args=("a\0",)), TaskSpec("host", stop_grace=float("nan"))])
def test_what_cannot_be_executed_is_refused(task: TaskSpec) -> None:
    with pytest.raises(UsageError):
        check_task(task)
