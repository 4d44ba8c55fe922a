"""The Python interface: captures in, decoded batches out.

    import vxtool

    table = vxtool.decode("node1.pcap", where="vni == 4097")           # a pandas DataFrame
    for batch in vxtool.iter_frames({"vm1": "a.pcap", "vm2": "b.pcap"}):   # any size, in bounded memory
        print(batch.rows["vni"], batch.frames.bytes_of(0))

The only place where opening captures, decoding and filtering meet; the command line runs on the same class. Knows no protocol and no file format.
What a plain run does not need is imported where it is used: for a small capture, imports are most of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from vxtool.capture import Capture, Damage, Frames, merge, open_capture
from vxtool.capture.merging import distinguish
from vxtool.decode.batch import Batch
from vxtool.decode.columns import ROW, STOPS, Column
from vxtool.decode.render import choose, names_of
from vxtool.decode.walk import DEFAULT, Options, walk
from vxtool.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

    from vxtool.decode.filters import Filter
    from vxtool.decode.reassemble import Reassembler

__all__ = ["Decoding", "Source", "decode", "iter_frames", "options_for", "reference"]

Source: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A path, "-" (standard input) or an open binary file."""

Sources: TypeAlias = Source | Sequence[Source] | Mapping[str, Source]
"""One or several; a mapping gives each a name, which becomes its `vantage`."""

_FAULTY = [STOPS.index("truncated"), STOPS.index("malformed")]


class Decoding(Iterator[Batch]):
    """A run over captures: iterate it for batches of matching frames, ask it afterwards what was wrong with the files.

    Several captures are merged by time. A context manager: leaving it closes the captures.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str | None, Source]],
        *,
        options: Options = DEFAULT,
        wanted: Filter | None = None,
        reassemble: bool = False,
        limit: int | None = None,
        reuse: bool = False,
    ) -> None:
        """sources: (vantage or None, capture). limit: frames after which to stop. reuse: a batch's rows are overwritten by the next one.

        Raises CaptureError when a capture cannot be opened.
        """
        self.frames_read = 0
        self.frames_matched = 0
        self.faulty = 0  # matching rows whose stop is truncated or malformed
        self.first_ts: int | None = None  # of the first frame read
        self.options = options
        self._wanted = wanted
        self._reassembler = _reassembler(options) if reassemble else None
        self._limit = limit
        self._reuse = reuse
        self._rows = np.empty(0, ROW)
        with ExitStack() as stack:
            self.captures: list[Capture] = [stack.enter_context(open_capture(source, vantage=vantage)) for vantage, source in sources]
            self._open = stack.pop_all()
        distinguish(self.captures)  # their names are wanted before the first frame is
        self._frames = iter(self.captures[0]) if len(self.captures) == 1 else merge(self.captures)

    @property
    def damage(self) -> list[Damage]:
        """Places where the files stopped making sense, as far as they have been read."""
        return [place for capture in self.captures for place in capture.damage]

    def __next__(self) -> Batch:
        while True:
            if self._limit is not None and self.frames_matched >= self._limit:
                raise StopIteration
            batch = self._match(next(self._frames))
            if not len(batch):
                continue
            if self._limit is not None and self.frames_matched + len(batch) > self._limit:
                batch = batch.select(slice(0, self._limit - self.frames_matched))
            self.frames_matched += len(batch)
            self.faulty += int(np.count_nonzero(np.isin(batch.rows["stop"], _FAULTY)))
            return batch

    def _match(self, frames: Frames) -> Batch:
        self.frames_read += len(frames)
        if self.first_ts is None and len(frames):
            self.first_ts = int(frames.index["ts"][0])
        wanted = self._wanted
        inside = wanted.window(frames.index["ts"], self.first_ts or 0) if wanted else None
        # A frame outside the window need not be decoded, unless it may be a piece of a datagram that ends inside.
        if inside is not None and self._reassembler is None:
            frames = frames.select(inside)
        batch = Batch(frames, walk(frames, self.options, out=self._room(len(frames))))
        if self._reassembler is not None:
            batch = self._reassembler.feed(batch)
            batch = batch if inside is None else batch.select(inside)
        return wanted.batch(batch) if wanted else batch

    def _room(self, size: int) -> npt.NDArray[np.void] | None:
        if not self._reuse:
            return None
        if len(self._rows) < size:
            self._rows = np.empty(size + size // 4, ROW)
        return self._rows

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _reassembler(options: Options) -> Reassembler:
    from vxtool.decode.reassemble import Reassembler

    return Reassembler(options)


def _filter(where: str | None) -> Filter | None:
    if where is None:
        return None
    from vxtool.decode.filters import Filter
    from vxtool.decode.where import compile_where

    return Filter((compile_where(where),))


def options_for(ports: Iterable[int] | None = None, *, guess: bool = False, checksums: bool = False) -> Options:
    """Options with these VXLAN ports. A port given here is VXLAN, also where another tunnel has it by default."""
    if ports is None:
        return Options(guess=guess, checksums=checksums)
    vxlan = frozenset(ports)
    return Options(vxlan, DEFAULT.gpe_ports - vxlan, DEFAULT.geneve_ports - vxlan, guess, checksums)


def _named(sources: Sources) -> list[tuple[str | None, Source]]:
    if isinstance(sources, Mapping):
        named: list[tuple[str | None, Source]] = list(sources.items())
    elif isinstance(sources, str | os.PathLike) or hasattr(sources, "read"):
        named = [(None, cast(Source, sources))]
    else:
        named = [(None, source) for source in sources]
    if not named:
        raise UsageError("no capture was given")
    return named


def iter_frames(
    sources: Sources,
    *,
    where: str | None = None,
    ports: Iterable[int] | None = None,
    guess: bool = False,
    checksums: bool = False,
    reassemble: bool = False,
    limit: int | None = None,
) -> Decoding:
    """Batches of decoded frames, in bounded memory. `Batch.rows` has dtype `vxtool.decode.columns.ROW`; every batch has memory of its own.

    sources: a path, "-", an open binary file, a sequence of these, or a mapping from vantage names to them; several are merged by time.
    where: an expression over the columns (docs/columns.md). ports: UDP destination ports that carry VXLAN, instead of 4789 and 8472. guess: recognise
    VXLAN on other ports by its shape. checksums: fill the checksum columns. reassemble: put IP fragments together. limit: frames after which to stop.

    The result has `damage`, and is a context manager. Raises CaptureError and FilterError.
    """
    options = options_for(ports, guess=guess, checksums=checksums)
    return Decoding(_named(sources), options=options, wanted=_filter(where), reassemble=reassemble, limit=limit)


def decode(
    sources: Sources,
    *,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    ports: Iterable[int] | None = None,
    guess: bool = False,
    checksums: bool = False,
    reassemble: bool = False,
    limit: int | None = None,
) -> DataFrame:
    """All matching frames as a pandas DataFrame, one row a frame; grows with its result (`columns` and `where` keep it small).

    Arguments as for `iter_frames`; columns: names in the order wanted, all of them for None. Data types: see `vxtool.decode.table.to_dataframe`.
    `.attrs["damage"]` lists the places where the files stopped making sense, as dicts. Raises CaptureError, FilterError, and UsageError for a name
    that is no column.
    """
    from vxtool.decode.table import to_dataframe

    choose(columns)  # a wrong name is told before the work, not after it
    with iter_frames(sources, where=where, ports=ports, guess=guess, checksums=checksums, reassemble=reassemble, limit=limit) as batches:
        table = to_dataframe(batches, columns)
        table.attrs["damage"] = [asdict(place) for place in batches.damage]
    return table


def reference(
    sources: Sources,
    *,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    ports: Iterable[int] | None = None,
    guess: bool = False,
    checksums: bool = False,
    limit: int | None = None,
) -> DataFrame:
    """The table of `decode`, read through scapy: a second opinion that shares no code with the first, a thousand times slower.

    `where` chooses frames by what the first reading says of them; the rows are the second reading of the same frames. Equal to `decode` with the same
    arguments, column by column (only the order of categories may differ); where the two differ on purpose, tests/decode says where and why.
    """
    from vxtool.decode.reference import read

    chosen = choose(columns)
    options = options_for(ports, guess=guess, checksums=checksums)
    records: dict[str, list[Any]] = {column.name: [] for column in chosen}
    with iter_frames(sources, where=where, ports=ports, guess=guess, checksums=checksums, limit=limit) as batches:
        for batch in batches:
            interfaces = names_of(batch.frames, "interface")
            for i, entry in enumerate(batch.frames.index):
                row = read(batch.frames.bytes_of(i), int(entry["linktype"]), options, wirelen=int(entry["wirelen"]))
                row |= {name: int(entry[name]) for name in ("frame", "ts", "linktype", "caplen", "wirelen")}
                row |= {"vantage": batch.frames.vantages[entry["vantage"]] or None, "interface": interfaces[entry["interface"]], "reassembled": 0}
                for name, values in records.items():
                    values.append(row[name])
    return _table(chosen, records)


def _table(columns: Sequence[Column], records: Mapping[str, list[Any]]) -> DataFrame:
    """Python values as a DataFrame with the data types of `to_dataframe`."""
    import pandas as pd

    from vxtool.decode.table import number_dtype

    series: dict[str, Any] = {}
    for column in columns:
        values = records[column.name]
        match column.kind:
            case "int" if column.name == "ts":
                series[column.name] = pd.to_datetime(pd.Series(values, dtype="int64"), unit="ns", utc=True)
            case "int":
                dtype: Any = f"UInt{8 * number_dtype(column).itemsize}"
                series[column.name] = pd.array(values, dtype=dtype)
            case "flag":
                series[column.name] = pd.array(values, dtype="boolean")
            case "list":
                series[column.name] = pd.Series([None if value is None else tuple(value) for value in values], dtype=object)
            case _:
                words = [word for word in column.words if word] or list(dict.fromkeys(value for value in values if value is not None))
                series[column.name] = pd.Categorical(values, categories=pd.Index(words, dtype="str"))
    return pd.DataFrame(series, index=pd.RangeIndex(len(next(iter(records.values()), ()))))
