"""Several captures as one, by time, in bounded memory.

Knows times and vantages; refuses to put the frames of one file into another order than they have in it: where its clock went backwards, its frames
count as of the latest time seen so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import INDEX, OPAQUE, Frames, Interface
from vxtool.capture.reader import BATCH, Capture, vantage_of

__all__ = ["distinguish", "merge"]


def merge(captures: Sequence[Capture]) -> Iterator[Frames]:
    """All frames of all captures, earliest first; at the same time in the order of `captures`. Frame numbers stay those of each own file.

    `Frames.vantages` and `Frames.interfaces` name those of all captures. Captures opened without a vantage get names that tell them apart
    (`Capture.vantage` changes with them); captures that were given the same vantage share it, and so do files that say they were taken at one place.
    """
    distinguish(captures)
    vantages = _Vantages()
    interfaces = _Interfaces()
    sources = [_Source(capture, vantages, interfaces) for capture in captures]
    while sources := [source for source in sources if source.left() or source.advance()]:
        if len(sources) == 1:
            yield sources[0].rest(vantages.settle())
            continue
        # Nothing still unread is earlier than the end of the batch that ends first. Frames of just that time wait, unless their capture comes first.
        earliest = min(range(len(sources)), key=lambda i: (sources[i].keys[-1], i))
        horizon = sources[earliest].keys[-1]
        counts = [int(np.searchsorted(source.keys, horizon, side="right" if i <= earliest else "left")) for i, source in enumerate(sources)]
        yield from _interleave(sources, counts, vantages.settle(), interfaces)


class _Vantages:
    """The vantages of all captures, each once, in a list that only ever grows."""

    def __init__(self) -> None:
        self._all: dict[str, int] = {}
        self._tuple: tuple[str, ...] = ()

    def add(self, name: str) -> int:
        return self._all.setdefault(name, len(self._all))

    def settle(self) -> tuple[str, ...]:
        if len(self._tuple) != len(self._all):
            self._tuple = tuple(self._all)
        return self._tuple


class _Interfaces:
    """The interfaces of all captures in one list that only ever grows."""

    def __init__(self) -> None:
        self._all: list[Interface] = []
        self._tuple: tuple[Interface, ...] = ()

    def add(self, interface: Interface) -> int:
        self._all.append(interface)
        return len(self._all) - 1

    def settle(self) -> tuple[Interface, ...]:
        if len(self._tuple) != len(self._all):
            self._tuple = tuple(self._all)
        return self._tuple


class _Source:
    """One capture on its way into the merged one: the batch in hand, what is left of it, and the time by which each frame is ordered."""

    def __init__(self, capture: Capture, vantages: _Vantages, interfaces: _Interfaces) -> None:
        self._batches = iter(capture)
        self._vantages = vantages
        self._interfaces = interfaces
        self._names: list[int] = []  # own vantage -> merged one
        self._places: list[int] = []  # own interface -> merged one
        self._latest: int = np.iinfo(np.int64).min
        self.buffer: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self.index: npt.NDArray[np.void]
        self.keys: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def left(self) -> int:
        return len(self.keys)

    def advance(self) -> bool:
        """Take the next batch; False when there is none."""
        frames = next(self._batches, None)
        if frames is None:
            return False
        self._places += [self._interfaces.add(interface) for interface in frames.interfaces[len(self._places) :]]
        self.buffer = frames.buffer
        self.index = frames.index.view(OPAQUE).copy().view(INDEX)
        self._names += [self._vantages.add(name) for name in frames.vantages[len(self._names) :]]
        self.index["vantage"] = self._names[0] if len(self._names) == 1 else np.asarray(self._names, np.uint16)[frames.index["vantage"]]
        self.index["interface"] = np.asarray(self._places, np.uint32)[frames.index["interface"]]
        self.keys = np.maximum(np.maximum.accumulate(frames.index["ts"]), self._latest)
        self._latest = int(self.keys[-1])
        return True

    def take(self, many: int) -> npt.NDArray[np.void]:
        """The next so many frames, which are then no longer left."""
        taken = self.index[:many]
        self.index, self.keys = self.index[many:], self.keys[many:]
        return taken

    def rest(self, vantages: tuple[str, ...]) -> Frames:
        """All that is left of the batch, where it lies."""
        return Frames(self.buffer, self.take(self.left()), self._interfaces.settle(), vantages)


def _interleave(sources: list[_Source], counts: list[int], vantages: tuple[str, ...], interfaces: _Interfaces) -> Iterator[Frames]:
    """The first counts[i] frames of each source, ordered by time, in batches with buffers of their own."""
    order = np.argsort(np.concatenate([source.keys[:many] for source, many in zip(sources, counts, strict=True)]), kind="stable")
    origin = np.repeat(np.arange(len(sources)), counts)[order]
    taken = [source.take(many) for source, many in zip(sources, counts, strict=True)]
    for start in range(0, len(order), BATCH):
        part = origin[start : start + BATCH]
        index = np.empty(len(part), INDEX)
        pieces: list[npt.NDArray[np.uint8]] = []
        size = 0
        for i, source in enumerate(sources):
            mine = part == i
            entries, taken[i] = np.split(taken[i], [np.count_nonzero(mine)])
            if not len(entries):
                continue
            first = int(entries["offset"].min())
            last = int((entries["offset"] + entries["caplen"]).max())
            entries["offset"] += size - first
            index.view(OPAQUE)[mine] = entries.view(OPAQUE)
            pieces.append(source.buffer[first:last])
            size += last - first
        yield Frames(np.concatenate(pieces), index, interfaces.settle(), vantages)


def distinguish(captures: Sequence[Capture]) -> None:
    """Give captures that are named alike after their files names that differ: with the folder, else with the ending, else the path, else a number."""
    for name in (_with_folder, _with_ending, str):
        names = Counter(capture.vantage for capture in captures)
        for capture in captures:
            if names[capture.vantage] > 1 and not capture.vantage_is_given:
                capture.vantage = name(capture.path)
    seen = {capture.vantage for capture in captures if capture.vantage_is_given}
    for capture in captures:
        if not capture.vantage_is_given:
            numbered = (f"{capture.vantage}#{number}" for number in count(2))
            while capture.vantage in seen:
                capture.vantage = next(numbered)
            seen.add(capture.vantage)


def _with_folder(path: str) -> str:
    folder = PurePath(path).parent.name
    return f"{folder}/{vantage_of(path)}" if folder else vantage_of(path)


def _with_ending(path: str) -> str:
    return PurePath(path).name or path
