"""--where: what an expression selects on real frames, and what it answers to those it cannot understand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vxtool
from vxtool.decode.batch import Batch
from vxtool.decode.columns import BY_NAME, COLUMNS
from vxtool.decode.dns import Message
from vxtool.decode.where import compile_where
from vxtool.errors import FilterError

CAPTURES = Path(__file__).parents[2] / "captures"
FILES = [
    CAPTURES / "swarm-steady" / "vm1.pcap",
    CAPTURES / "swarm-steady" / "container.pcap",
    CAPTURES / "made" / "pcapng_blocks.pcapng",
    *(CAPTURES / "made" / f"{name}.pcap" for name in ("names", "vlans", "nested", "esp", "geneve", "ipv6_outer", "short_frames", "icmp_errors")),
]


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    return [batch for path in FILES for batch in vxtool.iter_frames(str(path), checksums=True)]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """The same frames as plain Python values, by way of the DataFrame."""
    listed: list[dict[str, Any]] = []
    for path in FILES:
        table = vxtool.decode(str(path), checksums=True)
        table["ts"] = table["ts"].astype("int64")
        columns = {name: table[name].astype(object).where(table[name].notna(), None).tolist() for name in table.columns}
        listed += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return listed


def _is(column: str, value: object) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row[column] is not None and row[column] == value


SELECTS: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
    ("vni == 4097", _is("vni", 4097)),
    ("vni == 0x1001", _is("vni", 4097)),
    ("4097 == vni", _is("vni", 4097)),
    ("vni != 4097", lambda r: r["vni"] is not None and r["vni"] != 4097),
    ("not vni == 4097", lambda r: r["vni"] != 4097),
    ("vni is none", lambda r: r["vni"] is None),
    ("vni is not None", lambda r: r["vni"] is not None),
    ("vni in (4096, 7)", lambda r: r["vni"] in (4096, 7)),
    ("vni not in [4096, 7]", lambda r: r["vni"] is not None and r["vni"] not in (4096, 7)),
    ("80 <= inner_dport < 90", lambda r: r["inner_dport"] is not None and 80 <= r["inner_dport"] < 90),
    ("90 > inner_dport >= 80", lambda r: r["inner_dport"] is not None and 80 <= r["inner_dport"] < 90),
    ("caplen > -1", lambda r: True),
    ("caplen < wirelen", lambda r: r["caplen"] < r["wirelen"]),
    ("inner_tcp_flags & 2", lambda r: bool(r["inner_tcp_flags"] is not None and r["inner_tcp_flags"] & 2)),
    ("inner_tcp_flags & 18 == 2", lambda r: r["inner_tcp_flags"] is not None and r["inner_tcp_flags"] & 18 == 2),
    ("inner_tcp_flags & (2 | 16) == 18", lambda r: r["inner_tcp_flags"] is not None and r["inner_tcp_flags"] & 18 == 18),
    ("inner_proto == 'tcp' and inner_dport == 80", lambda r: r["inner_proto"] == 6 and r["inner_dport"] == 80),
    ("inner_proto in ('UDP', 1)", lambda r: r["inner_proto"] in (17, 1)),
    ("inner_ip_src == '10.0.0.2'", _is("inner_ip_src", "10.0.0.2")),
    ("'10.0.0.2' == inner_ip_src", _is("inner_ip_src", "10.0.0.2")),
    ("inner_ip_src in '10.0.0.0/24'", lambda r: str(r["inner_ip_src"]).startswith("10.0.0.")),
    ("inner_ip_src == '10.0.0.77/24'", lambda r: str(r["inner_ip_src"]).startswith("10.0.0.")),
    ("inner_ip_src != '10.0.0.0/24'", lambda r: r["inner_ip_src"] is not None and not r["inner_ip_src"].startswith("10.0.0.")),
    (
        "inner_ip_src in ('10.0.0.2', 'fe80::/10')",
        lambda r: str(r["inner_ip_src"]).startswith(("fe8", "fe9", "fea", "feb")) or r["inner_ip_src"] == "10.0.0.2",
    ),
    ("inner_ip_src in '::/0'", lambda r: ":" in str(r["inner_ip_src"])),
    ("inner_ip_src in '0.0.0.0/0'", lambda r: "." in str(r["inner_ip_src"])),
    ("inner_arp_tpa in '10.0.0.0/8'", lambda r: str(r["inner_arp_tpa"]).startswith("10.")),
    ("outer_ip_src == inner_ip_src", lambda r: r["outer_ip_src"] is not None and r["outer_ip_src"] == r["inner_ip_src"]),
    ("outer_ttl != inner_ttl", lambda r: None not in (r["outer_ttl"], r["inner_ttl"]) and r["outer_ttl"] != r["inner_ttl"]),
    ("inner_eth_src == '02:42:0A:00:00:02'", _is("inner_eth_src", "02:42:0a:00:00:02")),
    ("inner_eth_src == '02-42-0a-00-00-02'", _is("inner_eth_src", "02:42:0a:00:00:02")),
    ("inner_eth_src == '0242.0a00.0002'", _is("inner_eth_src", "02:42:0a:00:00:02")),
    ("inner_eth_src in '02:42:'", lambda r: str(r["inner_eth_src"]).startswith("02:42:")),
    ("inner_eth_src not in ('02:42', 'a2')", lambda r: r["inner_eth_src"] is not None and not r["inner_eth_src"].startswith(("02:42:", "a2:"))),
    ("tunnel == 'vxlan'", _is("tunnel", "vxlan")),
    ("tunnel == none", _is("tunnel", "none")),
    ("tunnel is none", _is("tunnel", "none")),
    ("tunnel is not none", lambda r: r["tunnel"] != "none"),
    ("tunnel != inner_tunnel", lambda r: r["tunnel"] != r["inner_tunnel"]),
    ("outer_checksum_class in ('partial', 'lco')", lambda r: r["outer_checksum_class"] in ("partial", "lco")),
    ("outer_checksum_class != 'lco'", lambda r: r["outer_checksum_class"] not in (None, "lco")),
    ("stop is none", lambda r: r["stop"] is None),
    ("stop == 'snapped' or stop == 'truncated'", lambda r: r["stop"] in ("snapped", "truncated")),
    ("outer_df", _is("outer_df", True)),
    ("not outer_df", lambda r: r["outer_df"] is not True),
    ("outer_df == false", _is("outer_df", False)),
    ("true", lambda r: True),
    ("vni == 4097 or false", _is("vni", 4097)),
    ("vantage == 'vm1'", _is("vantage", "vm1")),
    ("vantage in ('names', 'esp')", lambda r: r["vantage"] in ("names", "esp")),
    ("interface is none", lambda r: r["interface"] is None),
    ("ts >= '2026-11-21T23:55:00Z'", lambda r: r["ts"] >= 1795305300000000000),
    ("ts < 1795305300000000000", lambda r: r["ts"] < 1795305300000000000),
    ("dns_qname == 'WEB'", lambda r: str(r["dns_qname"]).lower() == "web"),
    ("'example' in dns_qname", lambda r: "example" in str(r["dns_qname"]).lower()),
    ("dns_qname is none", lambda r: r["dns_qname"] is None),
    ("dns_qtype in ('A', 'AAAA')", lambda r: r["dns_qtype"] in ("A", "AAAA")),
    ("dns_qtype != 'A'", lambda r: r["dns_qtype"] not in (None, "A")),
    ("'10.0.1.2' in dns_answers", lambda r: "10.0.1.2" in (r["dns_answers"] or ())),
    ("dns_answers in ('10.0.1.2', '10.0.1.3')", lambda r: bool({"10.0.1.2", "10.0.1.3"} & set(r["dns_answers"] or ()))),
    ("'10.0.1.2' not in dns_answers", lambda r: r["dns_answers"] is not None and "10.0.1.2" not in r["dns_answers"]),
    ("600 in dns_ttls", lambda r: 600 in (r["dns_ttls"] or ())),
    ("dns_rcode == 'NXDOMAIN'", _is("dns_rcode", 3)),
    ("dns_qr and dns_qtype == 'A' and dns_answer_count > 1", lambda r: r["dns_qr"] is True and r["dns_qtype"] == "A" and r["dns_answer_count"] > 1),
    ("esp_spi is not none or 'web' in dns_qname", lambda r: r["esp_spi"] is not None or "web" in str(r["dns_qname"]).lower()),
]


@pytest.mark.parametrize(("expression", "expected"), SELECTS, ids=[expression for expression, _ in SELECTS])
def test_an_expression_selects_the_frames_it_describes(
    expression: str, expected: Callable[[dict[str, Any]], bool], batches: list[Batch], rows: list[dict[str, Any]]
) -> None:
    where = compile_where(expression)
    selected = np.concatenate([where.mask(batch) for batch in batches]).tolist()
    wrong = [(rows[i]["vantage"], rows[i]["frame"]) for i, row in enumerate(rows) if selected[i] != expected(row)]
    assert not wrong, f"{expression}: {wrong[:5]}"


def test_most_expressions_above_select_some_frames_and_not_all(batches: list[Batch]) -> None:
    always = {"caplen > -1", "true"}
    for expression, _ in SELECTS:
        selected = np.concatenate([compile_where(expression).mask(batch) for batch in batches])
        assert selected.any(), expression
        assert expression in always or not selected.all(), expression


def test_an_absent_value_passes_no_comparison(batches: list[Batch]) -> None:
    for expression in ("vni == 1", "vni != 1", "vni < 1", "vni >= 0", "vni in (1,)", "vni not in (1,)", "vni & 1 == 0", "inner_ip_src != '1.2.3.4'"):
        where = compile_where(f"({expression}) and {'vni' if 'vni' in expression else 'inner_ip_src'} is none")
        assert not any(where.mask(batch).any() for batch in batches), expression


def test_a_filter_knows_which_columns_it_reads() -> None:
    assert compile_where("vni == 1 and (inner_ip_src == '10.0.0.1' or dns_qname is none)").columns == {"vni", "inner_ip_src", "dns_qname"}


def test_only_rows_that_matter_have_their_messages_read(batches: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    from vxtool.decode import compare

    read: list[int] = []
    plain = compare.View.message

    def message(view: compare.View, i: int) -> Message:
        read.append(i)
        return plain(view, i)

    monkeypatch.setattr(compare.View, "message", message)
    where = compile_where("dns_qname == 'web' and frame == 1")
    for batch in batches:
        where.mask(batch)
    assert len(read) <= len(batches)


REFUSED = [
    ("", "empty"),
    ("vni = 4097", "two equal signs"),
    ("vni == 10.0.0.1", "in quotes"),
    ("vni == 1 && true", "write and, or, not"),
    ("vni ==", "ends after '=='"),
    ("vni", "alone is not a question"),
    ("vnii == 1", "did you mean vni?"),
    ("ip_src == '10.0.0.1'", "outer_ip_src or inner_ip_src"),
    ("tunnel == 'gre'", "none, vxlan, vxlan-gpe, geneve"),
    ("inner_proto == 'tpc'", "icmp, igmp"),
    ("vni == none", "is none"),
    ("vni is 4097", "compared with =="),
    ("vni in 4097", "vni in (4097,)"),
    ("vni in ()", "empty"),
    ("vni in (1, inner_vni)", "numbers and words in quotes only"),
    ("vni == 'x'", "a whole number"),
    ("vni == true", "a whole number"),
    ("vni == 1.5", "neither a whole number"),
    ("vni == 99999999999999999999", "63 bits"),
    ("inner_ip_src == '10.0.0.300'", "an address or network"),
    ("inner_ip_src == 'fe80::1%eth0'", "an address or network"),
    ("inner_ip_src < '10.0.0.1'", "has no order"),
    ("inner_eth_src == '02:42:zz'", "a MAC in quotes"),
    ("inner_ip_src == inner_eth_src", "cannot be compared"),
    ("dns_answers == '10.0.0.1'", None),
    ("dns_ttls < 3", "in dns_ttls"),
    ("dns_qname in 'web'", "the other way round"),
    ("1 == 1", "one side must be a column"),
    ("vni + 1 == 2", "not part of the language"),
    ("-vni == 1", "not part of the language"),
    ("(vni == 1) == 1", "is a question"),
    ("ts > 'soon'", "not a time"),
    ("ts > '+5s'", "--from +5s"),
    ("__import__('os').system('true')", "not part of the language"),
    ("(lambda: 1)()", "not part of the language"),
    ("[x for x in vni]", "not part of the language"),
    ("f'{vni}' == 'x'", "not part of the language"),
    ("vni.__class__ == 1", "not part of the language"),
    ("vni if vni else vni", "not part of the language"),
    ("(vni := 3)", "not part of the language"),
    ("\0", "cannot be read"),
    ("é == 1", "there is no column"),
    ("(" * 150 + "vni == 1" + ")" * 150, None),
    ("(" * 300 + "vni == 1" + ")" * 300, "parentheses"),
    ("not " * 500 + "vni == 1", "levels deep"),
    ("1-" * 40_000 + "1", "nested"),
    ("a." * 40_000 + "b", "nested"),
    ("vni == 1 or " * 20_000 + "true", "characters"),
]


@pytest.mark.parametrize(("expression", "words"), [case for case in REFUSED if case[1]], ids=lambda value: str(value)[:40])
def test_what_cannot_be_understood_is_refused_with_advice(expression: str, words: str) -> None:
    with pytest.raises(FilterError) as refused:
        compile_where(expression)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("expression", [expression for expression, words in REFUSED if not words], ids=lambda value: value[:40])
def test_odd_but_meaningful_expressions_are_understood(expression: str) -> None:
    compile_where(expression)


def test_the_place_of_an_error_is_counted_in_characters() -> None:
    with pytest.raises(FilterError, match="at character 22 of"):
        compile_where("dns_qname == 'é' and  vnii == 2".replace("  ", " "))


def test_every_column_can_be_asked_for_its_absence(batches: list[Batch]) -> None:
    for column in COLUMNS:
        none, some = compile_where(f"{column.name} is none"), compile_where(f"{column.name} is not none")
        for batch in batches[:3]:
            assert (none.mask(batch) ^ some.mask(batch)).all(), column.name


_WORDS = (
    "and or not in is none true ( ) [ ] , == != < > & | - ~ . := lambda : * { } if else 0 1 4097 0x10 '10.0.0.0/24' '02:42' 'vxlan' 'web' ' \\ 1e9 b"
)
_TOKENS = st.sampled_from([*BY_NAME, *_WORDS.split(), "\n", "\0"])


@given(st.lists(_TOKENS, max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_either_an_expression_or_a_filter_error(text: str) -> None:
    try:
        where = compile_where(text)
    except FilterError:
        return
    assert where.columns <= set(BY_NAME)
