"""Sources: files, folders and standard input become documents.

A document is one JSON value, one table that the docker command printed, or one hand-written YAML file, together with where it came from. Here
sizes are bounded and texts are taken apart; what a document means is found out elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vxtool.errors import ExpectationError

from .shapes import At
from .yamltree import parse_yaml

__all__ = ["Document", "Reading", "Table", "read", "read_text"]

FILE_LIMIT = 64 << 20
"""Bytes of one file. `network inspect -v` takes about 250 bytes a task: 64 MiB are the tasks of a very large swarm."""

TOTAL_LIMIT = 256 << 20
FILES_LIMIT = 10_000
DOCUMENTS_LIMIT = 100_000

CAPTURE_MAGICS = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
COMPRESSED_MAGICS = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00")

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_STDIN = "standard input"
_YAML = re.compile(rb"^\s*['\"]?schema['\"]?\s*:\s*['\"]?vxtool-expect", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the docker command prints it: column titles and cells, and the line of each row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One value and its origin. `hint` is the file's name, which may tell a node; `order` rises with the time it was written."""

    body: At | Table
    source: str
    hint: str = ""
    order: int = 0
    mtime_ns: int | None = None
    yaml: bool = False


@dataclass(slots=True)
class Reading:
    """Everything read for one moment."""

    documents: list[Document] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    newest_ns: int | None = None


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    mtime_ns: int
    stated: bool  # named by the user himself: then it must be understood


def read(paths: Sequence[str]) -> Reading:
    """The documents of files, folders (not their subfolders) and standard input ("-").

    ExpectationError when one cannot be read, is too large, or is none of JSON, a docker table and YAML; inside a folder such files are passed
    over and named in the notes.
    """
    reading = Reading()
    files: list[_File] = []
    for path in paths:
        if path == "-":
            here = "standard input"
            reading.documents += read_text(_decoded(_bounded(sys.stdin.buffer.read(FILE_LIMIT + 1), here), here), here)
            if not reading.documents:
                raise ExpectationError("standard input holds neither JSON, a table of the docker command nor an expectation in YAML")
        else:
            files += _files(Path(path))
    if len(files) > FILES_LIMIT:
        raise ExpectationError(f"{len(files):,} files of expectations; at most {FILES_LIMIT:,} are read")
    total = 0
    ignored: list[str] = []
    # Where two documents disagree the newer one is believed: that is the order of their times, then of their names.
    for order, file in enumerate(sorted(files, key=lambda file: (file.mtime_ns, str(file.path))), start=len(reading.documents)):
        data = _content(file)
        if data is None:
            ignored.append(file.path.name)
            continue
        total += len(data)
        if total > TOTAL_LIMIT:
            raise ExpectationError(f"{file.path}: with this file the expectations are larger than {TOTAL_LIMIT >> 20} MiB, the limit")
        documents = _documents(file, data)
        if not documents:
            ignored.append(file.path.name)
            continue
        hint = f"{file.path.parent.name}/{file.path.stem}" if file.path.parent.name else file.path.stem
        reading.documents += [Document(document.body, document.source, hint, order, file.mtime_ns, document.yaml) for document in documents]
        reading.newest_ns = max(reading.newest_ns or 0, file.mtime_ns)
        if len(reading.documents) > DOCUMENTS_LIMIT:
            raise ExpectationError(f"{file.path}: more than {DOCUMENTS_LIMIT:,} documents, the limit")
    if ignored:
        reading.notes.append(f"passed over, no expectation: {_few(ignored)}")
    return reading


def read_text(text: str, source: str, *, hint: str = "", order: int = 0) -> list[Document]:
    """The documents of a text, JSON, tables or YAML, for callers that have it in memory."""
    if _YAML.search(text[:4096].encode()) and not text.lstrip().startswith(("{", "[")):
        return [Document(parse_yaml(text, source), source, hint, order, yaml=True)]
    return [Document(document.body, document.source, hint, order) for document in split(text, source)]


def _files(path: Path) -> Iterator[_File]:
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            yield _File(path, status.st_mtime_ns, stated=True)
            return
        for entry in os.scandir(path):
            if entry.is_file() and not entry.name.startswith("."):
                yield _File(Path(entry.path), entry.stat().st_mtime_ns, stated=False)
    except OSError as error:
        raise ExpectationError(f"{path}: {error.strerror or error}") from error


def _content(file: _File) -> bytes | None:
    """The file's bytes; None for what cannot be an expectation, judged by its first bytes so that captures are not read."""
    try:
        with file.path.open("rb") as stream:
            head = stream.read(4096)
            if head.startswith(CAPTURE_MAGICS) or head.startswith(COMPRESSED_MAGICS) or (b"\0" in head and head[:2] not in UTF16_MARKS):
                if file.stated:
                    what = "is a capture" if head.startswith(CAPTURE_MAGICS) else "is compressed or binary"
                    raise ExpectationError(f"{file.path}: this {what}, not an expectation; `vxtool expect init CAPTURE` drafts one from a capture")
                return None
            return _bounded(head + stream.read(FILE_LIMIT + 1 - len(head)), str(file.path))
    except OSError as error:
        raise ExpectationError(f"{file.path}: {error.strerror or error}") from error


def _documents(file: _File, data: bytes) -> list[Document]:
    source = str(file.path)
    promised = file.stated or file.path.suffix.lower() in {".json", ".yaml", ".yml"}
    text = _decoded(data, source) if promised else data.decode("utf-8", errors="replace")
    if not text.lstrip().startswith(("{", "[")):
        if _YAML.search(data[:4096]):
            return [Document(parse_yaml(text, source), source, yaml=True)]
        if file.stated and file.path.suffix.lower() in {".yaml", ".yml"}:
            raise ExpectationError(f"{source}: a hand-written expectation begins with `schema: vxtool-expect@1`")
    elif not file.stated and file.path.suffix.lower() not in {".json", ".ndjson", ".jsonl", ".txt", ""}:
        return []
    documents = split(text, source, strict=promised)
    if file.stated and not documents:
        raise ExpectationError(f"{source}: neither JSON, nor a table of the docker command, nor `schema: vxtool-expect@1`")
    return documents


def _bounded(data: bytes, source: str) -> bytes:
    if len(data) > FILE_LIMIT:
        raise ExpectationError(f"{source}: larger than {FILE_LIMIT >> 20} MiB, the limit of one expectation")
    return data


def _decoded(data: bytes, source: str) -> str:
    # PowerShell's `>` writes UTF-16 with a byte order mark.
    encoding = "utf-16" if data[:2] in UTF16_MARKS else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExpectationError(f"{source}: not a text: byte {error.start:,} is not {encoding.removesuffix('-sig').upper()}") from error


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8:,} more" if len(listed) > 8 else "")


# --------------------------------------------------------------------------------------------------------------------
# A text with several documents one after the other
# --------------------------------------------------------------------------------------------------------------------

TABLES: tuple[tuple[str, ...], ...] = (
    ("ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE"),  # docker service ps, node ps, stack ps
    ("ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS"),  # docker node ls
    ("ID", "NAME", "MODE", "REPLICAS", "IMAGE"),  # docker service ls
    ("CONTAINER ID", "IMAGE", "COMMAND", "NAMES"),  # docker ps
)
"""Titles by which a table is recognised; more may stand between and behind them."""

_TITLES = re.compile(r"[A-Z](?:[A-Z]| (?=[A-Z]))*")
_FAILURES_LIMIT = 100
_SPACE = re.compile(r"\s*")


def split(text: str, source: str, *, strict: bool = True) -> list[Document]:
    """The JSON values and docker tables of a text, in their order. Other lines are passed over, and when not strict also what only looks like JSON
    (a log whose lines begin with a bracket)."""
    documents: list[Document] = []
    decoder = json.JSONDecoder()
    position, counted, line, failures = 0, 0, 1, 0
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text):
            return documents
        if len(documents) > DOCUMENTS_LIMIT:
            raise ExpectationError(f"{source}: more than {DOCUMENTS_LIMIT:,} documents, the limit")
        if text[position] in "[{":
            try:
                value, end = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                if strict:
                    raise ExpectationError(f"{source}: {_not_json(error)}") from error
                failures += 1
                if failures > _FAILURES_LIMIT:  # each may cost a walk through the rest of the text
                    return documents
            else:
                at = source if not documents and not text[end:].strip() else f"{source} (document {len(documents) + 1})"
                documents.append(Document(At(value, at), at))
                position = end
                continue
        start = text.rfind("\n", 0, position) + 1
        position = text.find("\n", position)
        position = len(text) if position < 0 else position
        titles = _header(text[start:position])
        if titles:
            line, counted = line + text.count("\n", counted, start), start
            table, position = _table(text, line, position, titles)
            documents.append(Document(table, f"{source} (table at line {line})"))


def _not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: this is not JSON: {error.msg}"
    if isinstance(error, RecursionError):
        return "JSON nested too deep to be an expectation"
    return f"this is not JSON that an engine prints: {error}"  # an integer of thousands of digits


def _header(line: str) -> list[tuple[str, int]]:
    """(title, offset) of each column when the line is the header of a known table, else []."""
    if len(line) > 1000 or not line.lstrip().startswith(("ID ", "CONTAINER ID ")):
        return []
    titles = [(match.group(), match.start()) for match in _TITLES.finditer(line)]
    words = [title for title, _ in titles]
    return titles if any(all(title in words for title in table) for table in TABLES) else []


def _table(text: str, number: int, end: int, titles: list[tuple[str, int]]) -> tuple[Table, int]:
    """The rows under a header (line `number`, ending at `end`), up to an empty line, another header, JSON or the end of the text, and where that is.

    Cells are cut at the header's columns, which the docker command aligns for the widest cell.
    """
    edges = [offset for _, offset in titles]
    edges[0] = 0
    rows: list[tuple[int, dict[str, str]]] = []
    while end < len(text):
        start, number = end + 1, number + 1
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].rstrip("\r")
        if not line.strip() or line.lstrip()[0] in "[{" or _header(line):
            return Table(tuple(title for title, _ in titles), tuple(rows)), start
        cells = [line[left:right].strip() for left, right in zip(edges, [*edges[1:], None], strict=True)]
        rows.append((number, {title: cell for (title, _), cell in zip(titles, cells, strict=True)}))
    return Table(tuple(title for title, _ in titles), tuple(rows)), len(text)
