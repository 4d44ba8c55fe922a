"""Rows as a Parquet file, written row group by row group as they come.

Knows the Arrow type of each column; memory is bounded by one row group, however long the capture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import Damage
from vxtool.decode.batch import Batch
from vxtool.decode.columns import SCHEMA, Column
from vxtool.decode.render import choose, printable
from vxtool.decode.table import Collected, Collector, number_dtype
from vxtool.errors import CaptureError, MissingFeature

__all__ = ["ParquetSink"]

ROWS = 65_536
"""Rows of a row group: large enough for dictionaries to pay, small enough for memory (137 columns of it are some 30 MB)."""

TEXT = 1 << 24
"""Characters of DNS answers after which a row group ends early."""


class ParquetSink:
    """A Parquet file of decoded rows. A context manager: leaving it after an exception closes the file without its footer's damage.

    Numbers are unsigned integers of their smallest width, `ts` is timestamp[ns, UTC], flags are booleans, MACs, addresses, words and names are
    dictionary-encoded strings, lists are lists; absent is null. The file's metadata has "vxtool.schema" (name and version of the columns) and, after
    `finish`, "vxtool.damage" (a JSON list); each field's metadata has "about", "source" and "unit".
    """

    def __init__(self, path: str | Path, columns: Iterable[str] | None = None) -> None:
        """Creates the file. Raises CaptureError when it cannot be written, MissingFeature without pyarrow, UsageError for an unknown column."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingFeature("writing Parquet needs pyarrow: pip install pyarrow") from error
        self._collector = Collector(columns)
        self._schema = pa.schema([_field(column) for column in choose(columns)], metadata={"vxtool.schema": SCHEMA})
        try:
            # A dictionary of numbers costs more time than it saves space; text has one anyway.
            words = [field.name for field in self._schema if pa.types.is_dictionary(field.type)]
            self._writer = pq.ParquetWriter(str(path), self._schema, compression="zstd", use_dictionary=words)
        except OSError as error:
            raise CaptureError(f"{printable(str(path))}: cannot be written: {error.strerror or error}") from error

    def write(self, batch: Batch) -> None:
        start = 0
        while start < len(batch):
            part = batch.select(slice(start, start + ROWS - self._collector.rows))
            self._collector.add(part)
            start += len(part)
            if self._collector.rows >= ROWS or self._collector.text >= TEXT:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        rows = self._collector.rows
        taken = self._collector.take()
        arrays = [_array(taken.pop(field.name), field.type) for field in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=rows)

    def finish(self, damage: Sequence[Damage] = ()) -> None:
        """Writes what is left, and closes the file."""
        if self._collector.rows:
            self._flush()
        self._writer.add_key_value_metadata({"vxtool.damage": json.dumps([asdict(place) for place in damage])})
        self._writer.close()

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()


def _field(column: Column) -> Any:
    import pyarrow as pa

    about = {"about": column.about, "source": column.source, "unit": column.unit}
    if column.name == "ts":
        kind = pa.timestamp("ns", tz="UTC")
    elif column.kind == "int":
        kind = pa.from_numpy_dtype(number_dtype(column))
    elif column.kind == "flag":
        kind = pa.bool_()
    elif column.kind == "list":
        kind = pa.list_(pa.uint32() if column.name == "dns_ttls" else pa.string())
    else:
        kind = pa.dictionary(pa.int32(), pa.string())
    return pa.field(column.name, kind, metadata=about)


# Arrays are put together from their buffers: pyarrow.array() would import pandas, and with it 60 MB.


def _array(column: Collected, kind: Any) -> Any:
    import pyarrow as pa

    rows = len(column.values)
    present = _bits(~column.absent)
    if column.words is not None:
        positions = pa.Array.from_buffers(pa.int32(), rows, [present, pa.py_buffer(column.values)])
        return pa.DictionaryArray.from_arrays(positions, _strings(column.words), safe=False)
    if pa.types.is_list(kind):
        items = [item for value in column.values if value for item in value]
        child = _strings(items) if pa.types.is_string(kind.value_type) else _numbers(np.array(items, np.uint32), kind.value_type)
        return pa.Array.from_buffers(kind, rows, [present, _ends(map(len, (value or () for value in column.values)), rows)], children=[child])
    if pa.types.is_boolean(kind):
        return pa.Array.from_buffers(kind, rows, [present, _bits(column.values)])
    return pa.Array.from_buffers(kind, rows, [present, pa.py_buffer(column.values)])


def _numbers(values: npt.NDArray[Any], kind: Any) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _bits(flags: npt.NDArray[Any]) -> Any:
    """A bitmap as Arrow has it: one bit a row, the first in the lowest bit."""
    import pyarrow as pa

    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _ends(lengths: Iterable[int], count: int) -> Any:
    """Where each of `count` items of these lengths begins, and where the last one ends: 32-bit offsets."""
    import pyarrow as pa

    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(np.fromiter(lengths, np.int32, count), out=offsets[1:])
    return pa.py_buffer(offsets)


def _strings(texts: Sequence[str]) -> Any:
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, _ends(map(len, encoded), len(encoded)), pa.py_buffer(b"".join(encoded))])
