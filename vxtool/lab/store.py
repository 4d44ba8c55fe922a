"""What a lab remembers: the operations that made it what it is, in SQLite.

Knows one table; plans and performs nothing. An operation is written down before it is performed and marked when it is done. So a supervisor that was
killed is followed by one that knows everything: done operations give the plan, an unfinished one is known to be so.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Entry", "Store"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation, as it was asked for."""

    key: str  # of the question: asked again, it is not done again
    do: str
    arguments: Any
    done: bool


class Store:
    """The journal of one lab. Used by one thread."""

    def __init__(self, path: Path) -> None:
        # A transaction per statement; no waiting for a disk: what this must survive is the death of a process, a machine's takes the lab with it.
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS operations "
            "(number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, do TEXT NOT NULL, arguments TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0)"
        )

    def begin(self, key: str, do: str, arguments: Any) -> None:
        self._database.execute("INSERT INTO operations (key, do, arguments) VALUES (?, ?, ?)", (key, do, json.dumps(arguments)))

    def finish(self, key: str) -> None:
        self._database.execute("UPDATE operations SET done = 1 WHERE key = ?", (key,))

    def forget(self, key: str) -> None:
        """The operation failed and was undone: as if it had never been asked for."""
        self._database.execute("DELETE FROM operations WHERE key = ?", (key,))

    def entries(self) -> list[Entry]:
        """All operations in their order."""
        return [self._entry(row) for row in self._database.execute("SELECT key, do, arguments, done FROM operations ORDER BY number")]

    def entry(self, key: str) -> Entry | None:
        row = self._database.execute("SELECT key, do, arguments, done FROM operations WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._entry(row)

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def _entry(row: tuple[str, str, str, int]) -> Entry:
        key, do, arguments, done = row
        return Entry(key, do, json.loads(arguments), bool(done))
