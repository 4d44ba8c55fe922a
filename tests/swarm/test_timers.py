"""The clock of the control plane, which somebody else moves."""

from __future__ import annotations

from vxtool.swarm.timers import Timers


def test_what_is_heard_late_counts_from_when_it_is_heard() -> None:
    """A node's heartbeat after a long sleep gives it three periods from now, not from the last time somebody looked at the clock."""
    timers = Timers(100.0)
    rung: list[str] = []
    before = timers.after(3.0, lambda: rung.append("before"))
    timers.reach(105.0)
    before.cancel()
    timers.after(3.0, lambda: rung.append("after"))
    assert not timers.ring(107.0)
    assert timers.ring(109.0)
    assert rung == ["after"]


def test_what_fell_due_before_the_clock_was_set_still_rings() -> None:
    timers = Timers(100.0)
    rung: list[str] = []
    timers.after(3.0, lambda: rung.append("due"))
    timers.reach(105.0)
    assert rung == []
    assert timers.ring(105.0)
    assert rung == ["due"]
    assert timers.now == 105.0
