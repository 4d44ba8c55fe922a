"""Commands killed at random moments: nothing is left, and another lab does not notice. `python -m tests.netns.crash --times 200` does more of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.netns.crash import crash


def test_of_up_and_down_killed_at_twenty_moments_nothing_is_left(in_a_world: Callable[..., Counter[str]]) -> None:
    endings = in_a_world(crash, 20, seed=4)
    assert endings.total() == 20
    assert endings["left nothing"] > 0
