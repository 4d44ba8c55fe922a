"""The filter options: each is short for an expression, and together they are one test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vxtool
from vxtool.api import Decoding
from vxtool.decode.filters import build_filter
from vxtool.decode.times import When, parse_time
from vxtool.errors import UsageError

CAPTURES = Path(__file__).parents[2] / "captures"
STEADY = str(CAPTURES / "swarm-steady" / "vm1.pcap")
CONTAINER = str(CAPTURES / "swarm-steady" / "container.pcap")
NESTED = str(CAPTURES / "made" / "nested.pcap")

SAME: list[tuple[str, dict[str, Any], str]] = [
    (STEADY, {"vni": ["4097"]}, "vni == 4097"),
    (STEADY, {"vni": ["4096,4097"]}, "vni in (4096, 4097)"),
    (STEADY, {"vni": ["0x1000", "4097"]}, "vni in (4096, 4097)"),
    (NESTED, {"vni": ["103"]}, "inner_vni == 103"),
    (STEADY, {"vtep": ["192.168.68.110"]}, "tunnel == 'vxlan' and (outer_ip_src == '192.168.68.110' or outer_ip_dst == '192.168.68.110')"),
    (STEADY, {"ip": ["10.0.0.2"]}, "inner_ip_src == '10.0.0.2' or inner_ip_dst == '10.0.0.2'"),
    (STEADY, {"ip": ["10.255.255.53"]}, "inner_arp_tpa == '10.255.255.53' or inner_ip_dst == '10.255.255.53'"),
    (STEADY, {"mac": ["02:42"]}, "inner_eth_src == '02:42' or inner_eth_dst == '02:42'"),
    (STEADY, {"proto": ["tcp"]}, "inner_proto == 6"),
    (STEADY, {"proto": ["ARP,icmp"]}, "inner_arp_op is not none or inner_proto == 1"),
    (STEADY, {"proto": ["50"]}, "inner_proto == 50"),
    (STEADY, {"proto": ["esp"]}, "esp_spi is not none"),
    (STEADY, {"proto": ["gossip"]}, "control == 'gossip'"),
    (STEADY, {"proto": ["vxlan"]}, "tunnel == 'vxlan'"),
    (CONTAINER, {"proto": ["dns"]}, "dns_id is not none"),
    (STEADY, {"inner_port": ["80,443"]}, "inner_sport in (80, 443) or inner_dport in (80, 443)"),
    (
        STEADY,
        {"vni": ["4096"], "inner_port": ["80"], "where": "inner_tcp_flags & 2"},
        "vni == 4096 and (inner_sport == 80 or inner_dport == 80) and inner_tcp_flags & 2",
    ),
    (STEADY, {"start": "2026-11-21T23:55:00Z", "end": "2026-11-22T01:56:00+02:00"}, "ts >= '2026-11-21T23:55:00' and ts < '2026-11-21 23:56'"),
    (STEADY, {"start": "1795305300", "end": "1795305360000000000"}, "ts >= '2026-11-21T23:55:00' and ts < '2026-11-21 23:56'"),
    (STEADY, {"start": "+10s", "end": "+0.5m"}, "ts >= 1795305261178906000 and ts < 1795305281178906000"),
]


@pytest.mark.parametrize(("path", "options", "expression"), SAME, ids=[str(options) for _, options, _ in SAME])
@pytest.mark.parametrize("reassemble", [False, True], ids=["", "reassemble"])
def test_an_option_selects_what_its_expression_does(path: str, options: dict[str, Any], expression: str, reassemble: bool) -> None:
    def frames(decoding: Decoding) -> list[int]:
        with decoding:
            return [frame for batch in decoding for frame in batch.rows["frame"].tolist()]

    selected = frames(Decoding([(None, path)], wanted=build_filter(**options), reassemble=reassemble))
    assert selected == frames(vxtool.iter_frames(path, where=expression, reassemble=reassemble))
    assert selected


def test_consecutive_windows_share_no_frame_and_miss_none() -> None:
    def count(**window: str) -> int:
        with Decoding([(None, STEADY)], wanted=build_filter(**window)) as decoding:
            return sum(len(batch) for batch in decoding)

    assert count(end="+100s") + count(start="+100s", end="+200s") + count(start="+200s") == 6027


def test_hundreds_of_values_are_one_test() -> None:
    wanted = build_filter(ip=[f"10.{i}.0.0/16" for i in range(250)])
    with Decoding([(None, STEADY)], wanted=wanted) as decoding:
        assert sum(len(batch) for batch in decoding) == 1664


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vni": ["x"]}, "--vni: 'x' is not a number"),
        ({"vni": ["16777216"]}, "16,777,215"),
        ({"vni": ["4097,"]}, "--vni: ''"),
        ({"inner_port": ["65536"]}, "--inner-port"),
        ({"ip": ["10.0.0.0/33"]}, "--ip: '10.0.0.0/33' is neither an address"),
        ({"vtep": ["host"]}, "--vtep"),
        ({"mac": ["02:42:zz"]}, "--mac"),
        ({"proto": ["tpc"]}, "--proto: 'tpc' is not known"),
        ({"proto": ["256"]}, "--proto"),
        ({"where": "vni = 1"}, "--where: "),
        ({"start": "now"}, "--from: 'now' is not a time"),
        ({"end": "2026-02-30"}, "--to"),
    ],
)
def test_a_wrong_value_is_refused_with_its_option(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        build_filter(**options)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1970-01-01T00:00:01Z", When(10**9)),
        ("1970-01-01 00:00:01", When(10**9)),
        ("1970-01-01T00:00:01.000000001", When(10**9 + 1)),
        ("1970-01-01T00:00:01.5+00:00", When(1_500_000_000)),
        ("1970-01-01T02:00+0200", When(0)),
        ("1970-01-02", When(86_400 * 10**9)),
        ("1969-12-31T23:59:59.75", When(-250_000_000)),
        ("1700000000", When(1_700_000_000 * 10**9)),
        ("1700000000.123456789", When(1_700_000_000_123_456_789)),
        ("1700000000123456789", When(1_700_000_000_123_456_789)),
        ("+5s", When(5 * 10**9, relative=True)),
        ("+5", When(5 * 10**9, relative=True)),
        ("+1.5ms", When(1_500_000, relative=True)),
        ("+2h", When(7200 * 10**9, relative=True)),
    ],
)
def test_times_are_exact_to_the_nanosecond_and_utc_without_a_zone(text: str, when: When) -> None:
    assert parse_time(text) == when


@pytest.mark.parametrize("text", ["", "+", "5s", "-5", "12:00", "2026-13-01", "2026-01-01T25:00", "1e9", "9999-01-01", "٣", "+99999999999999s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)


def test_an_address_in_ipv6_form_of_ipv4_is_not_an_ipv6_network() -> None:
    from vxtool.decode.compare import cidr

    high, low = np.zeros(1, np.uint64), np.array([0xFFFF0A000103], np.uint64)
    assert cidr("10.0.1.3").contains(high, low).all()
    assert cidr("::ffff:10.0.1.3").contains(high, low).all()
    assert not cidr("::/0").contains(high, low).any()
    assert not cidr("::/64").contains(high, low).any()
