"""What is written down and what was performed agree, also when writing fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vxtool.lab.operations import requested
from vxtool.lab.spec import from_options
from vxtool.lab.steps import Step
from vxtool.lab.store import Store
from vxtool.lab.supervisor import Hands
from vxtool.model.plain import plain


class _Kernel:
    """Remembers what stands."""

    def __init__(self) -> None:
        self.stands: list[Step] = []

    def perform(self, steps: Sequence[Step]) -> None:
        self.stands += steps

    def undo(self, steps: Sequence[Step]) -> None:
        self.stands = [step for step in self.stands if step not in steps]


class _Delayers:
    def follow(self, relays: Any) -> None:
        assert relays == ()


def _hands(store: Store) -> Hands:
    hands = Hands("x", store, Path("/nonexistent"))
    hands.kernel = _Kernel()  # type: ignore[assignment]
    hands.delayers = _Delayers()  # type: ignore[assignment]
    return hands


def _asked(hands: Hands, key: str, do: str, **arguments: Any) -> None:
    hands._change(requested(hands.world, do, arguments, 0.0), key, lambda _: None)


@pytest.fixture
def built(tmp_path: Path) -> Hands:
    hands = _hands(Store(tmp_path / "store.sqlite"))
    _asked(hands, "k0", "build", spec=plain(from_options(None, name="x", endpoints=0)))
    return hands


def test_what_cannot_be_written_down_as_done_is_taken_back(built: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel: Any = built.kernel
    before = list(kernel.stands)

    def full(_: str) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(built.store, "finish", full)
        with pytest.raises(sqlite3.OperationalError):
            _asked(built, "k1", "attach", name="a", node="sathish-vm1", networks=["web"])
    assert kernel.stands == before
    assert built.world.plan.cluster.endpoints == ()
    assert [entry.key for entry in built.store.entries()] == ["k0"]


def test_a_new_supervisor_takes_an_unfinished_operation_in_its_place(built: Hands) -> None:
    """The attachment was begun and never finished; what came after it builds on it."""
    _asked(built, "k1", "attach", name="a", node="sathish-vm1", networks=["web"])
    _asked(built, "k2", "move", name="a", node="sathish-vm2")
    built.store._database.execute("UPDATE operations SET done = 0 WHERE key = 'k1'")
    heir = _hands(built.store)
    heir.adopt()
    assert [(endpoint.name, endpoint.node) for endpoint in heir.world.plan.cluster.endpoints] == [("a", "sathish-vm2")]
