"""CSV, NDJSON and JSON: read back, they are the columns; nothing in them can steer a terminal or break a parser."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.decode.seen import CAPTURES, NAMES, batches, random_batches, seen, with_addresses, with_dns
from vxtool.capture import Damage, Frames, Interface
from vxtool.decode import _render
from vxtool.decode.batch import Batch
from vxtool.decode.columns import COLUMNS, SCHEMA
from vxtool.decode.render import CsvSink, JsonSink, NdjsonSink, choose, ip_text, mac_text, printable
from vxtool.errors import UsageError

EVERY = [column.name for column in COLUMNS]


def ndjson(*given_batches: Batch, **options: Any) -> bytes:
    out = io.BytesIO()
    sink = NdjsonSink(out, **options)
    for batch in given_batches:
        sink.write(batch)
    sink.finish()
    return out.getvalue()


def as_csv(*given_batches: Batch, **options: Any) -> bytes:
    out = io.BytesIO()
    sink = CsvSink(out, **options)
    for batch in given_batches:
        sink.write(batch)
    sink.finish()
    return out.getvalue()


def document(*given_batches: Batch, damage: tuple[Damage, ...] = (), **options: Any) -> bytes:
    out = io.BytesIO()
    sink = JsonSink(out, **options)
    for batch in given_batches:
        sink.write(batch)
    sink.finish(damage)
    return out.getvalue()


def whole(value: Any) -> Any:
    """JSON has no lone surrogates."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value) if isinstance(value, str) else value


def cell(value: Any) -> str:
    if isinstance(value, list):
        assert not any(";" in str(item) for item in value), "see test_a_semicolon_inside_an_item_does_not_split_it"
        return ";".join(map(str, value))
    return "" if value is None else printable(str(value))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_column_of_every_capture_reads_back(path: Path) -> None:
    found = batches(path, checksums=True, guess=True)
    expected = [row for batch in found for row in seen(batch)]
    lines = ndjson(*found).splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert json.loads(document(*found))["frames"] == expected
    table = list(csv.reader(io.StringIO(as_csv(*found).decode(), newline="")))
    assert table[0] == EVERY
    assert table[1:] == [[cell(row[name]) for name in EVERY] for row in expected]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(random_batches())
def test_rows_of_any_bytes_read_back(batch: Batch) -> None:
    expected = seen(batch)
    lines = ndjson(batch).splitlines()
    assert [json.loads(line) for line in lines] == [{name: whole(value) for name, value in row.items()} for row in expected]
    table = list(csv.reader(io.StringIO(as_csv(batch).decode(), newline="")))
    assert table[1:] == [[cell(row[name]) for name in EVERY] for row in expected]
    for text in (ndjson(batch), as_csv(batch)):
        assert all(line.decode().isprintable() for line in text.split(b"\n"))


def test_the_columns_stand_in_their_order_also_when_empty() -> None:
    batch = with_dns(b"")
    assert list(json.loads(ndjson(batch))) == EVERY
    assert as_csv().decode() == ",".join(EVERY) + "\n"
    assert json.loads(document()) == {"schema": SCHEMA, "captures": [], "frames": [], "damage": []}


def test_a_choice_of_columns_keeps_the_order_of_the_choice() -> None:
    batch = with_dns(b"\0\1" + bytes(10))
    assert ndjson(batch, columns=["dns_id", "frame", "vni", "frame"]) == b'{"dns_id":1,"frame":1,"vni":null}\n'
    assert as_csv(batch, columns=["vni", "dns_id"]) == b"vni,dns_id\n,1\n"


def test_an_unknown_column_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"no column 'iner_vni'; did you mean inner_vni"):
        choose(["iner_vni"])


def test_the_document_names_its_captures_and_their_damage() -> None:
    batch = with_dns(b"\0\1" + bytes(10))
    damage = Damage("a\x1b.pcap", 24, 7, 'record "1" is cut')
    made = json.loads(document(batch, batch, columns=["frame"], captures=[("a\x1b.pcap", "vm1"), ("\udcff", "vm2")], damage=(damage,)))
    assert made == {
        "schema": SCHEMA,
        "captures": [{"path": "a\x1b.pcap", "vantage": "vm1"}, {"path": "\ufffd", "vantage": "vm2"}],
        "frames": [{"frame": 1}, {"frame": 1}],
        "damage": [{"path": "a\x1b.pcap", "offset": 24, "skipped": 7, "reason": 'record "1" is cut'}],
    }


def test_a_long_batch_is_written_in_pieces_of_a_few_hundred_kilobytes() -> None:
    batch = with_dns(*[b"\0\1" + bytes(10)] * 2000)
    sizes: list[int] = []

    class Sizes:
        def write(self, data: bytes) -> None:
            sizes.append(len(data))

    NdjsonSink(Sizes()).write(batch)
    assert len(sizes) > 5
    assert max(sizes) < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_a_name_from_a_file_cannot_steer_a_terminal(name: str) -> None:
    batch = with_dns(b"\0\1" + bytes(10))
    frames = Frames(batch.frames.buffer, batch.frames.index, (Interface(1, name),), (name,))
    for made in (ndjson, as_csv, document):
        for line in made(Batch(frames, batch.rows)).split(b"\n"):
            assert line.decode("utf-8").isprintable()


def test_a_semicolon_inside_an_item_does_not_split_it() -> None:
    message = dns.message.make_response(dns.message.make_query("x.", "TXT"))
    for text in (r'"v=1; p=\\;"', '"x"'):
        message.answer.append(dns.rrset.from_text(r"a\;b.", 1, "IN", "TXT", text))
    batch = with_dns(message.to_wire())
    assert json.loads(ndjson(batch))["dns_answers"] == [r'"v=1; p=\\;"', '"x"']
    row = next(csv.DictReader(io.StringIO(as_csv(batch).decode())))
    assert row["dns_answers"].split(";") == [r'"v=1\059 p=\\\059"', '"x"']
    assert row["dns_answer_names"].split(";") == [r"a\059b", r"a\059b"]


ADDRESSES = {
    "::": (0, 0),
    "::1": (0, 1),
    "1::": (1 << 48, 0),
    "10.0.0.1": (0, 0xFFFF_0A00_0001),
    "255.255.255.255": (0, 0xFFFF_FFFF_FFFF),
    "2001:db8::1:0:0:1": (0x20010DB8_0000_0000, 0x0001_0000_0000_0001),
    "2001:0:0:1::1": (0x20010000_0000_0001, 0x0000_0000_0000_0001),
    "2001:db8:0:1:1:1:1:1": (0x20010DB8_0000_0001, 0x0001_0001_0001_0001),
    "1:2:3:4:5:6:7:8": (0x0001_0002_0003_0004, 0x0005_0006_0007_0008),
    "1:2:3:4:5:6::": (0x0001_0002_0003_0004, 0x0005_0006_0000_0000),
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": (2**64 - 1, 2**64 - 1),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_are_written_as_rfc_5952_says(text: str) -> None:
    assert ip_text(*ADDRESSES[text]) == text


def test_an_ipv4_address_inside_an_ipv6_header_keeps_its_prefix() -> None:
    assert ip_text(0, 0xFFFF_0A00_0001, 6) == "::ffff:10.0.0.1"
    batch = with_addresses((4, "10.0.0.1"), (6, "::ffff:10.0.0.1"))
    assert as_csv(batch, columns=["outer_ip_src"]) == b"outer_ip_src\n10.0.0.1\n::ffff:10.0.0.1\n"


def test_a_mac_is_lower_case_with_colons() -> None:
    assert mac_text(0x0242AC11000F) == "02:42:ac:11:00:0f"


def test_rows_of_another_shape_are_refused() -> None:
    cells = _render.Cells([], b"", b"", b"", b"")
    with pytest.raises(ValueError, match="wrong shape"):
        cells.render(np.zeros((1, 5), np.uint8), 0, [], None, np.zeros(1, np.uint8), np.zeros(1, np.int64))
