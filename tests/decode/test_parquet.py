"""A Parquet file of rows: read back by pyarrow it is the columns, in row groups, with what the columns mean beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from tests.decode.seen import CAPTURES, batches, random_batches, with_dns
from tests.decode.test_table import expected
from vxtool.capture import Damage
from vxtool.decode import parquet
from vxtool.decode.batch import Batch
from vxtool.decode.columns import BY_NAME, COLUMNS, SCHEMA
from vxtool.decode.parquet import ParquetSink
from vxtool.errors import CaptureError, UsageError


def written(path: Path, *found: Batch, damage: tuple[Damage, ...] = (), columns: list[str] | None = None) -> Path:
    sink = ParquetSink(path, columns)
    for batch in found:
        sink.write(batch)
    sink.finish(damage)
    return path


def back(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path)
    table.validate(full=True)
    columns = {name: table[name].to_pylist() if name != "ts" else table[name].cast("int64").to_pylist() for name in table.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_column_of_every_capture_is_in_the_file(path: Path, tmp_path: Path) -> None:
    found = batches(path, checksums=True, guess=True)
    assert back(written(tmp_path / "t.parquet", *found)) == expected(found)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(random_batches(), random_batches())
def test_rows_of_any_bytes_can_be_written(tmp_path: Path, one: Batch, other: Batch) -> None:
    assert back(written(tmp_path / "t.parquet", one, other)) == expected([one, other])


def test_a_row_group_has_a_bounded_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 1000)
    batch = with_dns(*[number.to_bytes(2, "big") + bytes(10) for number in range(2500)])
    file = pq.ParquetFile(written(tmp_path / "t.parquet", batch, batch, columns=["dns_id"]))
    assert [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)] == [1000] * 5
    assert file.read()["dns_id"].to_pylist() == list(range(2500)) * 2


def test_a_row_group_ends_early_when_dns_brings_much_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "TEXT", 1000)
    message = bytes.fromhex("0001 8000 0001 0001 0000 0000") + b"\3web\0\0\1\0\1" + bytes.fromhex("c00c 0001 0001 00000001 0004 0a000102")
    batch = with_dns(*[message] * 50)
    assert pq.ParquetFile(written(tmp_path / "t.parquet", *[batch] * 4)).metadata.num_row_groups == 2


def test_the_file_says_what_its_columns_mean(tmp_path: Path) -> None:
    damage = Damage("a.pcap", 40, 0, "the file ends")
    file = pq.ParquetFile(written(tmp_path / "t.parquet", damage=(damage,)))
    assert file.schema_arrow.names == [column.name for column in COLUMNS]
    assert file.metadata.num_rows == 0
    assert file.metadata.metadata[b"vxtool.schema"] == SCHEMA.encode()
    assert json.loads(file.metadata.metadata[b"vxtool.damage"]) == [{"path": "a.pcap", "offset": 40, "skipped": 0, "reason": "the file ends"}]
    assert file.schema_arrow.field("vni").metadata[b"about"].decode() == BY_NAME["vni"].about


def test_types_are_small_and_text_is_dictionary_encoded(tmp_path: Path) -> None:
    columns = ["ts", "vni", "vxlan_flags", "outer_df", "outer_ip_src", "stop", "dns_answers", "dns_ttls"]
    schema = pq.ParquetFile(written(tmp_path / "t.parquet", columns=columns)).schema_arrow
    word = "dictionary<values=string, indices=int32, ordered=0>"
    assert [str(field.type).replace("element", "item") for field in schema] == [
        "timestamp[ns, tz=UTC]",
        "uint32",
        "uint8",
        "bool",
        word,
        word,
        "list<item: string>",
        "list<item: uint32>",
    ]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"no/where\.parquet: cannot be written"):
        ParquetSink(tmp_path / "no/where.parquet")
    with pytest.raises(UsageError, match="no column"):
        ParquetSink(tmp_path / "t.parquet", ["nope"])


def test_leaving_after_an_exception_closes_the_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ParquetSink(tmp_path / "t.parquet", ["frame"]) as sink:
            sink.write(with_dns(b""))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert pq.read_metadata(tmp_path / "t.parquet").num_rows == 0
