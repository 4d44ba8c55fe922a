"""The summary: its numbers against the DataFrame of the same frames, its memory against captures made to fill it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vxtool
from vxtool.decode.groups import Groups
from vxtool.decode.summary import Summary

CAPTURES = Path(__file__).parents[2] / "captures"
STEADY = CAPTURES / "swarm-steady"
FILES = [STEADY / "vm1.pcap", STEADY / "container.pcap", *sorted((CAPTURES / "made").glob("*.pcap*"))]


def summarised(*paths: Path, most: int = 100_000) -> Summary:
    summary = Summary(most)
    with vxtool.iter_frames([str(path) for path in paths], checksums=True) as batches:
        for batch in batches:
            summary.add(batch)
    return summary


def counted(table: pd.DataFrame, *columns: str) -> dict[Any, tuple[int, int]]:
    """(frames, bytes) by the values of these columns, where all of them are present."""
    present = table.dropna(subset=list(columns))
    counts: dict[Any, tuple[int, int]] = {}
    for key, size in zip(zip(*(present[name].astype(object) for name in columns), strict=True), present["wirelen"], strict=True):
        frames, total = counts.get(key, (0, 0))
        counts[key] = (frames + 1, total + int(size))
    return counts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_count_equals_the_one_of_the_dataframe(path: Path) -> None:
    summary = summarised(path)
    table = vxtool.decode(str(path), checksums=True)
    tunnelled = table[table["tunnel"] != "none"]

    assert (summary.frames, summary.wire_bytes) == (len(table), int(table["wirelen"].sum()))
    assert {(n["tunnel"], n["vni"]): (n["frames"], n["bytes"]) for n in summary.networks()} == counted(tunnelled, "tunnel", "vni")
    sent = counted(tunnelled, "outer_ip_src", "outer_ip_dst")
    for pair in summary.vtep_pairs():
        assert pair.a_to_b == sent.get((pair.a, pair.b), (0, 0))
        if pair.a != pair.b:
            assert pair.b_to_a == sent.get((pair.b, pair.a), (0, 0))
    assert sum(pair.frames for pair in summary.vtep_pairs()) == sum(frames for frames, _ in sent.values())
    inside = counted(tunnelled, "inner_vni", "inner_ip_src", "inner_ip_dst")
    for vni, pair in summary.talkers():
        if vni is not None:
            assert pair.a_to_b == inside.get((vni, pair.a, pair.b), (0, 0))
    assert sum(p["frames"] for p in summary.protocols()) == len(table)
    assert sum(p["in_tunnels"] for p in summary.protocols()) == len(tunnelled)
    assert summary.dns.queries == int((table["dns_qr"] == False).sum())  # noqa: E712  (absent is neither)
    assert summary.dns.responses == int(table["dns_qr"].sum())
    assert sum(summary.arp.values()) == int(table["inner_arp_op"].notna().sum())
    assert summary.stops == Counter(
        zip(table["stop"].dropna(), table["stop_layer"].astype(object).where(table["stop"].notna()).dropna(), strict=True)
    )
    assert summary.checksums["inner"] == Counter(table["inner_checksum_class"].dropna())
    assert summary.checksums["outer"] == Counter(tunnelled["outer_checksum_class"].dropna())
    assert summary.fragments["inner"] == Counter(table["inner_frag"].dropna())
    assert not summary.approximate


def test_a_healthy_swarm_is_told_as_it_is() -> None:
    document = summarised(STEADY / "vm1.pcap").as_json()
    assert [(n["vni"], n["vteps"], n["inner_hosts"]) for n in document["networks"]["entries"]] == [(4096, 3, 9), (4097, 3, 3)]
    assert not any(pair["one_way"] for pair in document["vtep_pairs"]["entries"])
    assert document["ethernet"]["in_tunnels"] == {"unicast": 1664, "multicast": 0, "broadcast": 0}
    assert document["checksums"]["outer"] == {"good": 1, "partial": 44, "lco": 1619}
    assert [(entry["spi"], entry["frames"]) for entry in document["esp"]["entries"]] == [(43843682, 5), (676230314, 5)]
    assert {entry["control"] for entry in document["control"]["entries"]} == {"gossip", "management"}


def test_names_are_counted_with_their_queries_responses_and_errors() -> None:
    table = vxtool.decode(str(STEADY / "container.pcap"), where="dns_id is not none")
    expected: dict[tuple[str, str], list[int]] = {}
    for name, kind, response, rcode in zip(*(table[c].astype(object) for c in ("dns_qname", "dns_qtype", "dns_qr", "dns_rcode")), strict=True):
        counts = expected.setdefault((name.lower(), kind), [0, 0, 0])
        counts[1 if response else 0] += 1
        counts[2] += bool(response and rcode)
    names = summarised(STEADY / "container.pcap").dns.names()
    assert {(n["name"], n["type"]): [n["queries"], n["responses"], n["errors"]] for n in names} == expected


def test_a_group_address_is_not_expected_to_answer() -> None:
    pairs = {(pair.a, pair.b): pair for _, pair in summarised(STEADY / "vm1.pcap").talkers()}
    assert not any(pair.one_way for (_, b), pair in pairs.items() if b.startswith("ff02:"))


def test_a_full_table_says_that_it_is_incomplete_and_keeps_right_counts() -> None:
    whole = {(vni, pair.a, pair.b): pair.frames for vni, pair in summarised(STEADY / "vm1.pcap").talkers()}
    cut = summarised(STEADY / "vm1.pcap", most=7)
    assert "talkers" in cut.approximate
    assert "tunnels" not in cut.approximate or len(whole) > 7
    for vni, pair in cut.talkers():
        assert pair.frames <= whole[vni, pair.a, pair.b]


_ADDS = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 2**32 - 1)), max_size=20), max_size=6
)


@given(_ADDS, st.sampled_from([1, 3, 1000]))
def test_groups_count_like_a_dictionary_that_keeps_the_first_keys(adds: list[list[tuple[int, int, int]]], most: int) -> None:
    groups = Groups(2, most)
    expected: dict[tuple[int, int], tuple[int, int]] = {}
    others = [0, 0]
    for batch in adds:
        groups.add(
            [np.array([a for a, _, _ in batch], np.uint8), np.array([b for _, b, _ in batch], np.uint64)],
            np.array([s for _, _, s in batch], np.uint32),
        )
        for a, b, size in batch:
            if (a, b) not in expected and len(expected) >= most:
                others[0] += 1
                others[1] += size
            else:
                frames, total = expected.get((a, b), (0, 0))
                expected[a, b] = (frames + 1, total + size)
    assert {key: (frames, size) for key, frames, size in groups} == expected
    assert [groups.other_frames, groups.other_bytes] == others
