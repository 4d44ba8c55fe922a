"""`--expect` arguments become a Timeline: which documents make one moment, and when it begins.

Knows how arguments are written and how moments are dated; reading and understanding is done beside it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from vxtool.decode.times import parse_time
from vxtool.errors import ExpectationError, UsageError
from vxtool.model import SETTLING_NS, Cluster, Moment, Timeline

from .assemble import assemble
from .docker import Facts, read_docker
from .handwritten import is_handwritten, read_handwritten
from .kubernetes import is_kubernetes, read_kubernetes
from .shapes import At
from .sources import Reading, read, read_text

__all__ = ["Spec", "load", "load_cluster", "parse_spec", "parse_text"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One `--expect`: a file, a folder or "-", and the time from which it holds."""

    path: str
    time_ns: int | None = None


def parse_spec(text: str) -> Spec:
    """`PATH` or `PATH@TIME`, TIME as ISO 8601 (UTC unless it names a zone), seconds or nanoseconds since 1970.

    What follows the last @ is a time only if it reads as one or nothing of the whole name exists. UsageError for a time that is none.
    """
    path, at, when = text.rpartition("@")
    if not at or not path or os.path.lexists(text):
        return Spec(text)
    try:
        time = parse_time(when)
    except UsageError as error:
        if os.path.lexists(path) or path == "-":
            raise UsageError(f"--expect {text}: {error}") from error
        return Spec(text)
    if time.relative:
        raise UsageError(f"--expect {text}: an expectation holds from a point in time on (2026-01-31T12:00:00Z), not from a frame")
    return Spec(path, time.ns)


def load(specs: Sequence[str], *, settling_ns: int = SETTLING_NS, vni: int | None = None, port: int | None = None) -> Timeline:
    """The timeline of `--expect` arguments.

    Arguments with one time make one moment together, and so do all files without a time. A folder without a time is a moment of its own: the only one
    holds always, several are dated by their newest files, or, where copying made those equal, by the newest `UpdatedAt` inside. `vni` and `port`
    are for Kubernetes, whose JSON may tell neither. ExpectationError when anything is missing, misshapen or cannot be dated.
    """
    if not specs:
        raise UsageError("no expectation was given: --expect FILE, FOLDER or -")
    groups: dict[tuple[int | None, str], list[str]] = {}
    for spec in map(parse_spec, specs):
        alone = spec.path if spec.time_ns is None and spec.path != "-" and Path(spec.path).is_dir() else ""
        groups.setdefault((spec.time_ns, alone), []).append(spec.path)
    loaded = [_Loaded(time, paths, *_understood(read(paths), paths, vni, port)) for (time, _), paths in groups.items()]
    if len(loaded) > 1:
        loaded = _dated(loaded)
        loaded.sort(key=lambda one: one.time_ns or 0)
    return Timeline(tuple(Moment(one.cluster, one.time_ns, ", ".join(one.paths)) for one in loaded), settling_ns)


def load_cluster(*paths: str, vni: int | None = None, port: int | None = None) -> Cluster:
    """One cluster of files, folders and standard input together."""
    return _understood(read(paths), list(paths), vni, port)[0]


def parse_text(text: str, source: str = "text", *, vni: int | None = None, port: int | None = None) -> Cluster:
    """The cluster of a text: Docker's or kubectl's JSON, tables, or vxtool-expect@1."""
    return _understood(Reading(read_text(text, source)), [source], vni, port)[0]


@dataclass(frozen=True, slots=True)
class _Loaded:
    time_ns: int | None
    paths: list[str]
    cluster: Cluster
    newest_ns: int | None  # newest file
    updated_ns: int | None  # newest UpdatedAt


def _dated(loaded: list[_Loaded]) -> list[_Loaded]:
    undated = [one for one in loaded if one.time_ns is None]
    times = [one.time_ns for one in loaded if one.time_ns is not None]
    if len(undated) == 1 and times:  # what holds before the first time that was told
        return loaded
    for attribute, words in (("newest_ns", "its newest file"), ("updated_ns", "the newest UpdatedAt inside, for its files are all of one time")):
        found = [getattr(one, attribute) for one in undated]
        # Copies made at once carry times some milliseconds apart: that is no order of events.
        known = sorted(time for time in (*found, *times) if time is not None)
        if None not in found and all(later - earlier >= 1_000_000_000 for earlier, later in pairwise(known)):
            return [one if one.time_ns is not None else _at(one, getattr(one, attribute), words) for one in loaded]
    names = ", ".join(", ".join(one.paths) for one in undated)
    raise ExpectationError(f"cannot tell which of {names} holds when: write each as FOLDER@TIME (2026-01-31T12:00:00Z, or seconds since 1970)")


def _at(one: _Loaded, time_ns: int, words: str) -> _Loaded:
    iso = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    note = f"{', '.join(one.paths)}: taken to hold from {iso} on, the time of {words}"
    return replace(one, time_ns=time_ns, cluster=replace(one.cluster, notes=(*one.cluster.notes, note)))


def _understood(reading: Reading, paths: list[str], vni: int | None, port: int | None) -> tuple[Cluster, int | None, int | None]:
    """The cluster of one moment's documents, its newest file and newest UpdatedAt."""
    written: list[At] = []
    kubernetes: list[At] = []
    facts = Facts()
    docker = False
    notes = list(reading.notes)
    for document in reading.documents:
        body = document.body
        if isinstance(body, At) and is_handwritten(body):
            written.append(body)
        elif isinstance(body, At) and is_kubernetes(body):
            kubernetes.append(body)
        elif read_docker(facts, document):
            docker = True
        else:
            notes.append(f"{document.source}: JSON, but no document of Docker, kubectl or vxtool: passed over")
    if len(written) > 1 or sum(map(bool, (written, kubernetes, docker))) > 1:
        sources = [f"{item.source} ({kind})" for kind, items in (("vxtool-expect", written), ("kubectl", kubernetes)) for item in items[:2]]
        sources += ["documents of Docker"] if docker else []
        raise ExpectationError(f"one moment has one statement, but there are several: {', '.join(sources)}; give one of them")
    updated = max((time for text in facts.updated if (time := _rfc3339(text)) is not None), default=None)
    if written:
        cluster = read_handwritten(written[0])
        return replace(cluster, notes=(*cluster.notes, *notes)), reading.newest_ns, None
    if kubernetes:
        return read_kubernetes(kubernetes, vni=vni, port=port, notes=notes), reading.newest_ns, None
    if not docker:
        folders = sorted(entry.name for path in paths if os.path.isdir(path) for entry in os.scandir(path) if entry.is_dir())
        if folders:
            raise ExpectationError(f"{', '.join(paths)}: no expectation in it, but folders ({', '.join(folders[:8])}): give each as FOLDER@TIME")
        raise ExpectationError(
            f"{', '.join(paths)}: no expectation in it: `docker network inspect`, `service inspect`, `node inspect`, `service ps`, "
            "`kubectl get nodes,pods,services,endpointslices -A -o json`, or a file that begins with `schema: vxtool-expect@1`"
        )
    return assemble(facts, notes), reading.newest_ns, updated


def _rfc3339(text: str) -> int | None:
    try:
        return parse_time(text).ns if text.endswith("Z") else None
    except UsageError:
        return None
