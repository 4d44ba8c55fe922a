"""The Python interface to verification: captures and an expectation in, typed verdicts out.

    import vxtool
    from vxtool.expect import load

    result = vxtool.verify({"vm1": "vm1.pcap", "vm2": "vm2.pcap"}, load(["swarm-state/"]))
    for verdict in result.failing:
        print(verdict.check, verdict.nodes, verdict.message, result.frames(verdict))

The place where opening captures and judging them meet; the command line runs on the same class.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import cast

import numpy as np

from vxtool.api import Source, Sources
from vxtool.capture import Capture, Damage, open_capture
from vxtool.capture.merging import distinguish
from vxtool.decode.batch import Batch
from vxtool.decode.columns import ROW
from vxtool.decode.text import TextSink
from vxtool.decode.tree import TreeSink
from vxtool.decode.walk import DEFAULT, Options, walk
from vxtool.errors import UsageError
from vxtool.model import Cluster, Timeline
from vxtool.verify.case import Case, Settings
from vxtool.verify.check import Check
from vxtool.verify.engine import build, chosen, judge
from vxtool.verify.verdicts import Evidence, Result, Severity, Verdict

__all__ = ["Verification", "verification", "verify"]


@dataclass(frozen=True)
class Verification:
    """What came out. `frames` and `trees` read the captures once more, for the frames that verdicts name."""

    verdicts: tuple[Verdict, ...]
    case: Case
    sources: Mapping[str, Source]  # by the name evidence uses
    damage: tuple[Damage, ...]
    options: Options
    notes: tuple[str, ...] = field(default=())

    @property
    def failing(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.result is Result.FAIL)

    def fails(self, strict: bool = False) -> bool:
        """Whether a check of severity error fails; strict: or of severity warning."""
        levels = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
        return any(verdict.severity in levels for verdict in self.failing)

    def frames(self, verdict: Verdict) -> tuple[str, ...]:
        """One line for each frame of its evidence; "" where the capture cannot be read again (standard input)."""
        return tuple(self._shown.get(item, ("", ""))[0] for item in verdict.evidence)

    def trees(self, verdict: Verdict) -> tuple[str, ...]:
        """Each frame of its evidence, decoded in full; "" where the capture cannot be read again."""
        return tuple(self._shown.get(item, ("", ""))[1] for item in verdict.evidence)

    @cached_property
    def _shown(self) -> dict[Evidence, tuple[str, str]]:
        wanted: dict[str, set[int]] = {}
        for verdict in self.failing:
            for item in verdict.evidence:
                wanted.setdefault(item.capture, set()).add(item.frame)
        found: dict[Evidence, tuple[str, str]] = {}
        for name, numbers in wanted.items():
            source = self.sources[name]
            if isinstance(source, str | os.PathLike) and str(source) != "-":
                found.update(_read_again(name, source, numbers, self.options))
        return found


def _read_again(name: str, source: Source, numbers: set[int], options: Options) -> Iterator[tuple[Evidence, tuple[str, str]]]:
    chosen_frames = np.array(sorted(numbers), np.uint64)
    with open_capture(source) as capture:
        for frames in capture:
            keep = np.isin(frames.index["frame"], chosen_frames)
            if keep.any():
                frames = frames.select(keep)
                rows = walk(frames, options)
                for i, number in enumerate(frames.index["frame"].tolist()):
                    one = Batch(frames, rows).select(slice(i, i + 1))
                    yield Evidence(name, number), (_text(TextSink, one).split(None, 2)[-1].rstrip("\n"), _text(TreeSink, one))


def _text(sink: type[TextSink] | type[TreeSink], batch: Batch) -> str:
    out = BytesIO()
    sink(out).write(batch)
    return out.getvalue().decode("utf-8", "replace")


def verification(
    sources: Sequence[tuple[str | None, Source]],
    expectation: Timeline | Cluster,
    *,
    settings: Settings | None = None,
    checks: Sequence[Check] | None = None,
) -> Verification:
    """Judge captures, each (vantage or None, capture). Raises CaptureError when one cannot be opened."""
    settings = settings or Settings()
    checks = chosen(settings.profile) if checks is None else checks
    options = _options(settings, expectation)
    captures = [open_capture(source, vantage=vantage) for vantage, source in sources]
    try:
        distinguish(captures)
        names = _names([source for _, source in sources], captures)
        case = build(
            [(name, vantage, _batches(capture, options)) for name, (vantage, _), capture in zip(names, sources, captures, strict=True)],
            expectation,
            settings,
            checks,
        )
        damage = tuple(place for capture in captures for place in capture.damage)
    finally:
        for capture in captures:
            capture.close()
    verdicts = judge(case, checks)
    by_name = {name: source for name, (_, source) in zip(names, sources, strict=True)}
    return Verification(verdicts, case, by_name, damage, options, tuple(case.notes))


def _options(settings: Settings, expectation: Timeline | Cluster) -> Options:
    """VXLAN on the data-path port and on the two usual ones, and by its shape on any other: a node on the wrong port must be seen."""
    clusters = expectation.clusters if isinstance(expectation, Timeline) else (expectation,)
    ports = {settings.data_path_port, *(cluster.data_path_port for cluster in clusters)} - {None}
    vxlan = DEFAULT.vxlan_ports | cast("set[int]", ports)
    return Options(vxlan, DEFAULT.gpe_ports - vxlan, DEFAULT.geneve_ports - vxlan, guess=True, checksums=True)


def _names(sources: Sequence[Source], captures: Sequence[Capture]) -> list[str]:
    """How evidence names each capture: its path as it was given, or what distinguishes it."""
    names: list[str] = []
    for source, capture in zip(sources, captures, strict=True):
        name = str(source) if isinstance(source, str | os.PathLike) else capture.path
        names.append(name if name not in names else f"{name}#{len(names) + 1}")
    return names


def _batches(capture: Capture, options: Options) -> Iterator[Batch]:
    room = np.empty(0, ROW)
    for frames in capture:
        if len(frames) > len(room):
            room = np.empty(len(frames) + len(frames) // 4, ROW)
        yield Batch(frames, walk(frames, options, out=room))


def verify(
    frames: Sources | Iterable[Batch],
    cluster: Timeline | Cluster,
    *,
    profile: str = "docker-swarm",
    port: int | None = None,
    underlay_mtu: int | None = None,
    physical: bool = False,
    alpha: float = 0.001,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Verification:
    """Verdicts about captures, in the order of the checks.

    frames: a path, a sequence of paths, or a mapping from where each was taken (a node, a task) to it; or batches of one capture as
    `vxtool.iter_frames` gives them (with guess=True and checksums=True, or the checks that need these say `unknown`).
    cluster: what should be (vxtool.expect), at one moment or over time. profile: docker-swarm, rfc7348, flannel, calico or evpn. port: the data-path
    port. underlay_mtu: bytes. physical: the underlay is a real wire. alpha: false-alarm rate of each statistical check. only, without: ids of checks.

    Raises CaptureError, and UsageError for a profile or check that does not exist.
    """
    settings = Settings(profile, port, physical, underlay_mtu, alpha)
    checks = chosen(profile, only, without)
    if isinstance(frames, Mapping):
        return verification(list(frames.items()), cluster, settings=settings, checks=checks)
    if isinstance(frames, str | os.PathLike) or hasattr(frames, "read"):
        return verification([(None, cast(Source, frames))], cluster, settings=settings, checks=checks)
    items = list(cast("Iterable[object]", frames)) if isinstance(frames, Sequence) else None
    if items is not None and not all(isinstance(item, Batch) for item in items):
        return verification([(None, cast(Source, item)) for item in items], cluster, settings=settings, checks=checks)
    if items == []:
        raise UsageError("no capture was given")
    case = build([("capture", None, cast("Iterable[Batch]", items if items is not None else frames))], cluster, settings, checks)
    return Verification(judge(case, checks), case, {"capture": "-"}, (), _options(settings, cluster), tuple(case.notes))
