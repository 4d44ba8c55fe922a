"""What a swarm is, in SQLite: every transaction of a store whole, or not at all, and a few notes beside.

Knows rows and JSON and no noun in particular but one: a task is written without its specification, which it shares with the others of its service.
Refuses to know when things happen: `write` is what a Store calls before a transaction counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from vxtool.errors import LabError, UsageError
from vxtool.model.plain import plain, revive
from vxtool.swarm.objects import EndpointSpec, Network, Node, Service, Task, TaskSpec
from vxtool.swarm.store import Changes, Object, Record, Store

__all__ = ["Journal", "JournalError", "JournalLost"]

ANSWERS = 300
"""Answers that are kept for those who ask again because nobody has answered: they do so at once."""

_KINDS: Mapping[str, Any] = {"node": Node, "network": Network, "service": Service, "task": Task}

_TABLES = """
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS version (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS templates (number INTEGER PRIMARY KEY, spec TEXT NOT NULL, endpoint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    number INTEGER PRIMARY KEY,  -- grows: objects come back in the order in which they were made
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    template INTEGER,
    value TEXT NOT NULL,
    UNIQUE (kind, id)
);
"""

_PUT = (
    "INSERT INTO objects (kind, id, template, value) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (kind, id) DO UPDATE SET template = excluded.template, value = excluded.value"
)

_OWN = tuple(field.name for field in fields(Task) if field.name not in ("spec", "endpoint"))
_DEFAULTS = {field.name: field.default for field in fields(Task)}


class JournalError(LabError):
    """The journal cannot be read or written: a transaction that was to be has not happened."""


class JournalLost(JournalError):
    """Several transactions that were to be one have not happened, and the store believes that they have: it has to be loaded again."""


@dataclass(slots=True, eq=False)
class _Template:
    """What the tasks of one version of a service have in common."""

    number: int
    spec: TaskSpec
    endpoint: EndpointSpec
    text: tuple[str, str]
    users: int = 0  # tasks that are there; without any, the row goes


class Journal:
    """One file, one thread. Raises JournalError when there is no room for it, or it is no journal."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        try:
            self._database = sqlite3.connect(self._path, isolation_level=None)
            # No waiting for a disk: what this must survive is the death of a process at any instruction, and what a process has written to a file
            # stays written when it dies. The death of the machine takes the lab with it. WAL: one write a transaction, atomic by its checksums.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise JournalError(f"{self._path} cannot be opened: {error}") from error
        self.meta: MutableMapping[str, Any] = _Notes(self._database, self._trouble)
        """Notes beside the objects: what JSON can hold, by name. Each is written before `meta[name] = value` returns."""
        self._templates: dict[int, _Template] = {}
        self._by_identity: dict[tuple[int, int], _Template] = {}  # of a specification and an endpoint that the template keeps alive
        self._by_text: dict[tuple[str, str], _Template] = {}
        self._of_task: dict[str, _Template] = {}
        self._next = 1
        self._together = False  # what is written now is part of `once`

    def load(self) -> Store:
        """The store that wrote this journal, as far as it was told that something has happened; it goes on writing here."""
        store = Store()
        self._templates, self._by_identity, self._by_text, self._of_task = {}, {}, {}, {}
        try:
            for number, *text in self._database.execute("SELECT number, spec, endpoint FROM templates"):
                spec, endpoint = revive(TaskSpec, json.loads(text[0])), revive(EndpointSpec, json.loads(text[1]))
                self._keep(_Template(number, spec, endpoint, (text[0], text[1])))
            self._next = max(self._templates, default=0) + 1
            (version,) = self._database.execute("SELECT max(version) FROM version").fetchone()
            rows = self._database.execute("SELECT kind, id, template, value FROM objects ORDER BY number")
            store.replay(version or 0, [Record(kind, id, self._object(kind, id, template, value)) for kind, id, template, value in rows])
        except (sqlite3.Error, ValueError, KeyError, UsageError) as error:
            raise JournalError(f"{self._path} is no journal of a swarm that can be read: {error}") from error
        store.journal_to(self.write)
        return store

    def once(self, key: str, work: Callable[[], Any]) -> Any:
        """What `work` gives, a JSON value; for a key that was there before, what it gave then. All that it writes, and this, is one transaction.

        What it raises is not kept, but what it had written before is. JournalLost when all of it cannot be written in the end.
        """
        database = self._database
        try:
            row = database.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return json.loads(row[0])
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        self._together = True
        try:
            try:
                answer = work()
            except Exception:
                self._commit()
                raise
            self._commit(key, answer)
        finally:
            self._together = False
        return answer

    def _commit(self, key: str = "", answer: Any = None) -> None:
        database = self._database
        try:
            if not database.in_transaction:  # SQLite has taken it back itself, for want of room (https://www.sqlite.org/lang_transaction.html)
                raise sqlite3.OperationalError("the transaction was taken back")
            if key:
                database.execute("INSERT INTO answers (key, value) VALUES (?, ?)", (key, _text(answer)))
                database.execute("DELETE FROM answers WHERE number <= (SELECT max(number) FROM answers) - ?", (ANSWERS,))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise JournalLost(str(self._trouble(error))) from error

    def write(self, version: int, changes: Changes) -> None:
        """One transaction of the store, before it counts. When JournalError is raised, nothing of it is written."""
        last: dict[tuple[str, str], Object | None] = {(kind, id): now for kind, id, now in changes.records()}
        made: list[_Template] = []
        used: dict[str, _Template | None] = {}  # task -> its template from now on
        puts: list[tuple[str, str, int | None, str]] = []
        gone: list[tuple[str, str]] = []
        for (kind, id), now in last.items():
            if now is None:
                gone.append((kind, id))
                if kind == "task":
                    used[id] = None
            elif isinstance(now, Task):
                used[id] = template = self._template(now, made)
                puts.append((kind, id, template.number, _text(_own(now))))
            else:
                puts.append((kind, id, None, _text(plain(now))))
        users = self._count(used)
        unused = [template for template in users if template.users + users[template] == 0]
        database = self._database
        try:
            if self._together and not database.in_transaction:
                raise sqlite3.OperationalError("what was to be written with it is lost")
            database.execute("SAVEPOINT change" if self._together else "BEGIN IMMEDIATE")
            if made:
                database.executemany("INSERT INTO templates VALUES (?, ?, ?)", [(template.number, *template.text) for template in made])
            if puts:
                database.executemany(_PUT, puts)
            if gone:
                database.executemany("DELETE FROM objects WHERE kind = ? AND id = ?", gone)
            if unused:
                database.executemany("DELETE FROM templates WHERE number = ?", [(template.number,) for template in unused])
            database.execute("INSERT OR REPLACE INTO version VALUES (1, ?)", (version,))
            database.execute("RELEASE change" if self._together else "COMMIT")
        except BaseException as error:
            if database.in_transaction:
                if self._together:
                    database.execute("ROLLBACK TO change")
                database.execute("RELEASE change" if self._together else "ROLLBACK")
            for template in made:
                self._drop(template)
            if isinstance(error, sqlite3.Error):
                raise self._trouble(error) from error
            raise
        for template, more in users.items():
            template.users += more
        for id, now_used in used.items():
            if now_used is None:
                self._of_task.pop(id, None)
            else:
                self._of_task[id] = now_used
        for template in unused:
            self._drop(template)

    def close(self) -> None:
        self._database.close()

    # -- templates -------------------------------------------------------------------------------------------------------------

    def _template(self, task: Task, made: list[_Template]) -> _Template:
        key = (id(task.spec), id(task.endpoint))
        known = self._by_identity.get(key)
        if known is not None:
            return known
        text = (_text(plain(task.spec)), _text(plain(task.endpoint)))
        known = self._by_text.get(text)
        if known is None:
            known = _Template(self._next, task.spec, task.endpoint, text)
            self._next += 1
            made.append(known)
            self._keep(known)
        return known

    def _keep(self, template: _Template) -> None:
        self._templates[template.number] = template
        self._by_identity[id(template.spec), id(template.endpoint)] = template
        self._by_text[template.text] = template

    def _drop(self, template: _Template) -> None:
        del self._templates[template.number]
        del self._by_identity[id(template.spec), id(template.endpoint)]
        del self._by_text[template.text]

    def _count(self, used: Mapping[str, _Template | None]) -> dict[_Template, int]:
        """How many users each template gains or loses."""
        users: dict[_Template, int] = {}
        for id, now in used.items():
            before = self._of_task.get(id)
            if before is not now:
                if before is not None:
                    users[before] = users.get(before, 0) - 1
                if now is not None:
                    users[now] = users.get(now, 0) + 1
        return users

    def _object(self, kind: str, id: str, template: int | None, value: str) -> Object:
        now: Object = revive(_KINDS[kind], json.loads(value))
        if isinstance(now, Task) and template is not None:
            shared = self._templates[template]
            shared.users += 1
            self._of_task[id] = shared
            return replace(now, spec=shared.spec, endpoint=shared.endpoint)
        return now

    def _trouble(self, error: Exception) -> JournalError:
        return JournalError(f"{self._path} cannot be written: {error}; nothing of the change has happened")


def _own(task: Task) -> dict[str, Any]:
    """A task's fields but for what it shares, and for what is as it always is."""
    return {name: plain(value) for name in _OWN if (value := getattr(task, name)) != _DEFAULTS[name]}


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class _Notes(MutableMapping[str, Any]):
    def __init__(self, database: sqlite3.Connection, trouble: Any) -> None:
        self._database = database
        self._trouble = trouble

    def __getitem__(self, key: str) -> Any:
        row = self._database.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return json.loads(row[0])

    def __setitem__(self, key: str, value: Any) -> None:
        self._do("INSERT OR REPLACE INTO notes VALUES (?, ?)", key, _text(value))

    def __delitem__(self, key: str) -> None:
        if not self._do("DELETE FROM notes WHERE key = ?", key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([key for (key,) in self._database.execute("SELECT key FROM notes ORDER BY key")])

    def __len__(self) -> int:
        count: int = self._database.execute("SELECT count(*) FROM notes").fetchone()[0]
        return count

    def _do(self, statement: str, *values: str) -> int:
        try:
            return self._database.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise self._trouble(error) from error
