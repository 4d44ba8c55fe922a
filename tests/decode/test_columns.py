"""The row is declared once: what the compiled walk writes is where the dtype says it is."""

from __future__ import annotations

from vxtool.decode._walk import layout, row_size
from vxtool.decode.columns import COLUMNS, ROW


def test_the_compiled_struct_has_its_fields_where_the_dtype_has_them() -> None:
    assert row_size() == ROW.itemsize
    for name, (offset, size) in layout().items():
        assert ROW.fields is not None
        dtype, place = ROW.fields[name][:2]
        assert (place, dtype.itemsize) == (offset, size), name


def test_every_column_is_read_from_storage_that_exists() -> None:
    for column in COLUMNS:
        assert {*column.fields, *([column.mask] if column.mask else [])} <= set(ROW.names or ()), column.name
