"""A DataFrame of rows: the same values as JSON has, in dtypes that can be reckoned with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from tests.decode.seen import CAPTURES, batches, random_batches, seen, with_addresses, with_dns
from vxtool.capture import Damage
from vxtool.decode.batch import Batch
from vxtool.decode.columns import BY_NAME, COLUMNS, SCHEMA
from vxtool.decode.render import printable
from vxtool.decode.table import to_dataframe


def back(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a DataFrame as `seen` has them."""
    columns: dict[str, list[Any]] = {}
    for name in table.columns:
        values = table[name]
        if name == "ts":
            columns[name] = values.astype("int64").tolist()
        else:
            missing = values.isna().tolist()
            items = values.astype(object).tolist()
            columns[name] = [None if gone else list(item) if isinstance(item, tuple) else item for gone, item in zip(missing, items, strict=True)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def expected(found: list[Batch]) -> list[dict[str, Any]]:
    """As `seen` has it, but for flags, which are true or false here, and for names that are not Unicode."""
    rows = [row for batch in found for row in seen(batch)]
    for row in rows:
        for column in COLUMNS:
            if column.kind == "flag" and row[column.name] is not None:
                row[column.name] = bool(row[column.name])
        for name in ("vantage", "interface"):
            if row[name] and "\udcff" in row[name]:
                row[name] = printable(row[name])
    return rows


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_column_of_every_capture_is_in_the_table(path: Path) -> None:
    found = batches(path, checksums=True, guess=True)
    assert back(to_dataframe(found)) == expected(found)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=30)
@given(random_batches(), random_batches())
def test_rows_of_any_bytes_make_a_table(one: Batch, other: Batch) -> None:
    earliest = np.iinfo(np.int64).min
    for batch in (one, other):
        batch.rows["ts"][batch.rows["ts"] == earliest] = 0  # pandas keeps this moment for NaT
    assert back(to_dataframe([one, other])) == expected([one, other])


def test_an_ipv4_address_inside_an_ipv6_header_keeps_its_prefix() -> None:
    for kinds in (slice(0, 2), slice(0, 5), slice(2, 4)):
        shown = to_dataframe([with_addresses(*ADDRESSES[kinds])], ["outer_ip_src"])["outer_ip_src"].tolist()
        assert shown == [address for _, address in ADDRESSES[kinds]]


ADDRESSES = [(4, "10.0.0.1"), (6, "::ffff:10.0.0.1"), (6, "fd00::1"), (6, "::1"), (4, "10.0.0.1")]


def test_dtypes_do_not_depend_on_what_was_captured() -> None:
    empty, full = to_dataframe([]), to_dataframe(batches(CAPTURES[0]))
    assert [str(kind) for kind in empty.dtypes] == [str(kind) for kind in full.dtypes]
    assert len(empty) == 0
    assert list(empty.columns) == [column.name for column in COLUMNS]


DTYPES = {
    "frame": "UInt64",
    "ts": "datetime64[ns, UTC]",
    "vni": "UInt32",
    "outer_vlan": "UInt16",
    "vxlan_flags": "UInt8",
    "vxlan_reserved": "UInt32",
    "dns_rcode": "UInt8",
    "outer_df": "boolean",
    "dns_qr": "boolean",
    "outer_eth_src": "category",
    "outer_ip_src": "category",
    "inner_arp_spa": "category",
    "tunnel": "category",
    "vantage": "category",
    "dns_qname": "category",
    "dns_answers": "object",
}


@pytest.mark.parametrize("name", DTYPES)
def test_a_column_has_the_dtype_of_its_kind(name: str) -> None:
    assert str(to_dataframe([], [name])[name].dtype) == DTYPES[name]


def test_an_enum_has_all_its_words_as_categories() -> None:
    assert tuple(to_dataframe([], ["stop"])["stop"].cat.categories) == BY_NAME["stop"].words[1:]
    assert tuple(to_dataframe([], ["tunnel"])["tunnel"].cat.categories) == BY_NAME["tunnel"].words


def test_damage_is_read_after_the_last_batch_and_survives_saving(tmp_path: Path) -> None:
    damage: list[Damage] = []

    def reading() -> Any:
        yield with_dns(b"\0\1" + bytes(10))
        damage.append(Damage("a.pcap", 40, 0, "the file ends"))

    table = to_dataframe(reading(), ["frame", "dns_answers"], damage=damage)
    assert table.attrs == {"schema": SCHEMA, "damage": [{"path": "a.pcap", "offset": 40, "skipped": 0, "reason": "the file ends"}]}
    table.to_parquet(tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet").attrs == table.attrs


def test_changing_one_column_leaves_the_others_alone() -> None:
    table = to_dataframe([with_dns(b"\0\1" + bytes(10))], ["dns_id", "dns_rcode"])
    table.loc[0, "dns_id"] = pd.NA
    assert table["dns_rcode"].tolist() == [0]


def test_a_table_far_longer_than_a_batch_keeps_its_order() -> None:
    batch = with_dns(*[number.to_bytes(2, "big") + bytes(10) for number in range(5000)])
    table = to_dataframe([batch] * 30, ["dns_id", "frame"])
    assert table["dns_id"].tolist() == list(range(5000)) * 30
