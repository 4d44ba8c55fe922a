"""One line a frame: what it says of each kind of frame, that it stays aligned, and that nothing in a packet can reach the terminal as a command."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import dns.message
import dns.rrset
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from tests.decode.frames import SPECIMENS, Made, as_frames
from tests.decode.seen import CAPTURES, NAMES, batches, random_batches, with_dns
from vxtool.capture import Frames
from vxtool.decode.batch import Batch
from vxtool.decode.text import TextSink, icmp_words
from vxtool.decode.times import Clock
from vxtool.decode.walk import Options, walk

UNDERLAY = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
HOSTS = UNDERLAY / IP(src="192.0.2.11", dst="192.0.2.12")
INNER = Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04")
TASKS = INNER / IP(src="10.0.1.3", dst="10.0.1.4")
SOMETIMES_COLOURED = re.compile(r"\x1b\[[0-9;]*m")


def overlay(inner: Packet, vni: int = 4097, dport: int = 4789, **header: Any) -> Packet:
    return HOSTS / UDP(sport=49152, dport=dport, chksum=0) / VXLAN(vni=vni, flags=header.pop("flags", 8), **header) / inner


def decoded(packets: Sequence[Packet | bytes | Made], **options: bool) -> Batch:
    frames = as_frames([packet if isinstance(packet, Made) else Made(bytes(packet)) for packet in packets])
    return Batch(frames, walk(frames, Options(**options)))  # type: ignore[arg-type]


def lines(*given_batches: Batch, color: bool = False, time: Clock = "relative") -> list[str]:
    out = io.BytesIO()
    sink = TextSink(out, color=color, time=time)
    for batch in given_batches:
        sink.write(batch)
    sink.finish()
    return out.getvalue().decode().split("\n")[:-1]


def said(*packets: Packet | bytes | Made, **options: bool) -> str:
    """The last of the lines, without frame number and time, spaces squeezed."""
    return " ".join(lines(decoded(packets, **options))[-1].split()[2:])


TUNNEL = "192.0.2.11>192.0.2.12 4097 10.0.1.3"
SAID: dict[str, tuple[Packet | bytes | Made, str]] = {
    "an echo request": (overlay(TASKS / ICMP(id=7, seq=1)), f"{TUNNEL} > 10.0.1.4 ICMP echo request id 7 seq 1"),
    "a SYN": (
        overlay(TASKS / TCP(sport=41234, dport=80, flags="S", seq=9, window=64240, options=[("MSS", 1410)])),
        f"{TUNNEL}:41234 > 10.0.1.4:80 TCP S win 64240 mss 1410",
    ),
    "data": (
        overlay(TASKS / TCP(sport=41234, dport=80, flags="PA", seq=1000, ack=77, window=501) / Raw(bytes(73))),
        f"{TUNNEL}:41234 > 10.0.1.4:80 TCP P. 1:74 ack 1 win 501",
    ),
    "a reset": (overlay(TASKS / TCP(sport=1, dport=2, flags="R", seq=5, window=0)), f"{TUNNEL}:1 > 10.0.1.4:2 TCP R 1 win 0"),
    "no flags at all": (overlay(TASKS / TCP(sport=1, dport=2, flags=0, window=3)), f"{TUNNEL}:1 > 10.0.1.4:2 TCP none win 3"),
    "a datagram": (overlay(TASKS / UDP(sport=5, dport=6) / Raw(b"abc")), f"{TUNNEL}:5 > 10.0.1.4:6 UDP len 3"),
    "a question for an address": (
        overlay(INNER / ARP(op=1, hwsrc="02:42:0a:00:01:03", psrc="10.0.1.3", pdst="10.0.1.4")),
        "192.0.2.11>192.0.2.12 4097 02:42:0a:00:01:03 > 02:42:0a:00:01:04 ARP who-has 10.0.1.4 tell 10.0.1.3",
    ),
    "its answer": (
        overlay(INNER / ARP(op=2, hwsrc="02:42:0a:00:01:04", psrc="10.0.1.4", pdst="10.0.1.3")),
        "192.0.2.11>192.0.2.12 4097 02:42:0a:00:01:03 > 02:42:0a:00:01:04 ARP 10.0.1.4 is-at 02:42:0a:00:01:04",
    ),
    "an announcement": (
        Ether(src="02:42:0a:00:01:03", dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc="10.0.1.3", pdst="10.0.1.3"),
        "02:42:0a:00:01:03 > broadcast ARP announce 10.0.1.3",
    ),
    "gossip": (HOSTS / UDP(sport=7946, dport=7946) / Raw(bytes(47)), "192.0.2.11:7946 > 192.0.2.12:7946 UDP gossip len 47"),
    "management": (
        HOSTS / TCP(sport=2377, dport=5000, flags="A", ack=1, window=9),
        "192.0.2.11:2377 > 192.0.2.12:5000 TCP management . ack 1 win 9",
    ),
    "an encrypted packet": (
        UNDERLAY / IP(src="192.0.2.11", dst="192.0.2.12", proto=50) / Raw(bytes.fromhex("1234567800000005") + bytes(40)),
        "ESP spi 0x12345678 seq 5",
    ),
    "IPv6 inside": (
        overlay(INNER / IPv6(src="fd00::3", dst="fd00::4") / UDP(sport=5, dport=6)),
        "192.0.2.11>192.0.2.12 4097 [fd00::3]:5 > [fd00::4]:6 UDP len 0",
    ),
    "a tunnel in a tunnel": (overlay(overlay(TASKS / ICMP(), vni=5)), "4097/5 10.0.1.3 > 10.0.1.4 ICMP echo request id 0 seq 0 [depth 2]"),
    "an I flag that is clear": (overlay(TASKS / ICMP(), flags=0), "seq 0 [I flag clear]"),
    "a policy": (overlay(TASKS / ICMP(), flags=0x88, gpid=100), "[policy 100]"),
    "an error": (
        HOSTS / ICMP(type=3, code=4, nexthopmtu=1400) / IP(src="192.0.2.12", dst="192.0.2.11") / UDP(sport=1, dport=4789),
        "192.0.2.11 > 192.0.2.12 ICMP fragmentation needed mtu 1400: UDP 192.0.2.12:1 > 192.0.2.11:4789",
    ),
    "a first fragment": (UNDERLAY / IP(src="192.0.2.11", dst="192.0.2.12", id=9, flags="MF") / ICMP(), "seq 0 [first fragment of id 9]"),
    "a later fragment": (
        UNDERLAY / IP(src="192.0.2.11", dst="192.0.2.12", id=9, frag=185, proto=17) / Raw(bytes(8)),
        "192.0.2.11 > 192.0.2.12 UDP fragment at 1480 of id 9",
    ),
    "an unknown protocol": (UNDERLAY / IP(src="192.0.2.11", dst="192.0.2.12", proto=253), "192.0.2.11 > 192.0.2.12 protocol 253"),
    "an unknown EtherType": (Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x9999) / Raw(bytes(6)), "ethertype 0x9999 len 20"),
    "a frame that is too short": (bytes(HOSTS)[:20], "02:00:00:00:00:01 > 02:00:00:00:00:02 IPv4 len 20 [truncated ipv4 at byte 14, wants 20]"),
    "a frame cut by the snap length": (Made(bytes(HOSTS)[:20], 1, 90), "[snapped ipv4 at byte 14, wants 20]"),
    "a link nobody knows": (Made(bytes(40), 147), "- [unsupported link type 147]"),
}


@pytest.mark.parametrize("what", SAID)
def test_a_line_says_what_the_frame_is(what: str) -> None:
    packet, expected = SAID[what]
    assert said(packet).endswith(expected)


def test_a_guess_is_marked_with_its_port() -> None:
    assert said(overlay(TASKS / ICMP(), dport=12345), guess=True).endswith("[guessed, port 12345]")


def test_a_bad_checksum_is_marked_and_a_missing_one_is_not() -> None:
    assert said(overlay(TASKS / TCP(chksum=1)), checksums=True).endswith("[inner checksum bad]")
    assert said(overlay(TASKS / TCP()), checksums=True).endswith("win 8192")


def test_sequence_numbers_count_from_the_start_of_the_connection() -> None:
    there = TASKS / TCP(sport=40000, dport=80, seq=4294967290, ack=0, flags="S", window=1)
    back = INNER / IP(src="10.0.1.4", dst="10.0.1.3") / TCP(sport=80, dport=40000, seq=700, ack=4294967291, flags="SA", window=2)
    data = TASKS / TCP(sport=40000, dport=80, seq=4294967291, ack=701, flags="PA", window=3) / Raw(bytes(10))
    more = TASKS / TCP(sport=40000, dport=80, seq=5, ack=701, flags="FA", window=3)
    other = overlay(more, vni=5)
    shown = [line.split("TCP ")[1] for line in lines(decoded([*map(overlay, (there, back, data, more)), other]))]
    assert shown == ["S  win 1", "S. win 2", "P. 1:11 ack 1 win 3", "F. 11 ack 1 win 3", "F. 1 ack 1 win 3"]


NAMED = {
    "a question": (dns.message.make_query("Tasks.web", "A", id=7), "DNS 7 A? Tasks.web"),
    "a name that would steer a terminal": (dns.message.make_query(dns.name.Name([b"\x1b[2J\x9b\xff", b""]), "A", id=7), r"DNS 7 A? \027[2J\155\255"),
}


@pytest.mark.parametrize("what", NAMED)
def test_a_query_is_shown_with_its_name(what: str) -> None:
    message, expected = NAMED[what]
    assert said(overlay(TASKS / UDP(sport=4000, dport=53) / Raw(message.to_wire()))).endswith(expected)


ANSWERED = {
    "A web = 10.0.1.2 10.0.1.3": ["10.0.1.2", "10.0.1.3"],
    "A web: no answer": [],
    "A web = " + " ".join(f"10.0.1.{i}" for i in range(10, 15)) + " 10.0.1.15 +4 more": [f"10.0.1.{i}" for i in range(10, 20)],
}


@pytest.mark.parametrize("expected", ANSWERED)
def test_a_response_is_shown_with_its_answers(expected: str) -> None:
    message = dns.message.make_response(dns.message.make_query("web.", "A", id=7))
    for address in ANSWERED[expected]:
        message.answer.append(dns.rrset.from_text("web.", 1, "IN", "A", address))
    assert lines(with_dns(message.to_wire()))[0].endswith(f"DNS 7 {expected}")


def test_a_refusal_is_shown_by_its_name() -> None:
    message = dns.message.make_response(dns.message.make_query("web.", "AAAA", id=7))
    message.set_rcode(dns.rcode.NXDOMAIN)
    assert lines(with_dns(message.to_wire()))[0].endswith("DNS 7 AAAA web: NXDOMAIN")


def test_lines_are_aligned() -> None:
    packets = [overlay(TASKS / ICMP(seq=i)) for i in range(3)] + [overlay(TASKS / UDP(sport=i, dport=9)) for i in (1, 65535)]
    shown = lines(decoded(packets))
    assert len({line.index("ICMP") if "ICMP" in line else line.index("UDP") for line in shown}) == 1


def test_a_lone_ipv6_address_does_not_push_the_others_to_the_right() -> None:
    six = overlay(INNER / IPv6(src="fd00:1111:2222:3333:4444:5555:6666:7777", dst="fd00::4") / UDP(sport=5, dport=6))
    assert "10.0.1.4 ICMP" in lines(decoded([six, overlay(TASKS / ICMP())]))[1]


def test_a_line_of_a_plain_overlay_fits_into_100_columns() -> None:
    connection = TCP(sport=41234, dport=8080, flags="PA", seq=1000, ack=77, window=501)
    packet = (
        Ether(src=UNDERLAY.src) / IP(src="10.10.0.11", dst="10.10.0.12") / UDP(dport=4789) / VXLAN(vni=4097) / TASKS / connection / Raw(bytes(1400))
    )
    assert max(map(len, lines(decoded([packet] * 1000)))) <= 100


def test_time_is_relative_to_the_first_frame_or_absolute_in_utc() -> None:
    batch = decoded([overlay(TASKS / ICMP())] * 5)
    moments = np.array(
        ["2024-02-29T23:59:59.999999999", "2024-03-01T00:00:01.5", "1969-12-31T23:59:59.25", "1999-12-31T12:34:56.000007", "2100-03-01T00:00:00"],
        "datetime64[ns]",
    )
    batch.rows["ts"] = moments.astype(np.int64)
    assert [line.split()[1] for line in lines(batch)][:2] == ["0.000000", "1.500000"]
    assert lines(batch)[2].split()[1].startswith("-")
    shown = [" ".join(line.split()[1:3]) for line in lines(batch, time="absolute")]
    assert shown == [str(moment.astype("datetime64[us]")).replace("T", " ") for moment in moments]


def test_delta_counts_from_the_frame_shown_before_whatever_its_batch() -> None:
    batch = decoded([overlay(TASKS / ICMP())] * 5)
    batch.rows["ts"] = [5_000_000_000, 5_000_250_000, 7_000_250_000, 6_999_250_000, 6_999_250_999]
    for read in ([batch], [batch.select(slice(0, 2)), batch.select(slice(2, 5))]):
        assert [line.split()[1] for line in lines(*read, time="delta")] == ["0.000000", "0.000250", "2.000000", "-0.001000", "0.000000"]


def test_the_first_line_of_the_next_batch_continues_the_first() -> None:
    one = decoded([overlay(TASKS / ICMP())] * 3)
    assert lines(one.select(slice(0, 2)), one.select(slice(2, 3))) == lines(one)


def test_the_vantage_is_shown_when_there_are_several() -> None:
    batch = decoded([overlay(TASKS / ICMP())] * 2)
    batch.rows["vantage"] = [0, 1]
    frames = Frames(batch.frames.buffer, batch.frames.index, (), ("vm1", "a-very-long-name-of-node-17"))
    shown = lines(Batch(frames, batch.rows))
    assert " vm1              192.0.2.11>" in shown[0]
    assert " ~name-of-node-17 192.0.2.11>" in shown[1]


def test_colour_changes_nothing_but_colour() -> None:
    for path in CAPTURES:
        found = batches(path, checksums=True, guess=True)
        coloured = lines(*found, color=True)
        assert [SOMETIMES_COLOURED.sub("", line) for line in coloured] == lines(*found)
        assert all(line.count("\x1b[0m") == sum(code != "\x1b[0m" for code in SOMETIMES_COLOURED.findall(line)) for line in coloured)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_frame_has_a_line(path: Path) -> None:
    found = batches(path, checksums=True)
    shown = lines(*found)
    assert [int(line.split()[0]) for line in shown] == [int(row["frame"]) for batch in found for row in batch.rows]
    assert all(line.isprintable() for line in shown)


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_kind_of_frame_has_a_line(name: str) -> None:
    (line,) = lines(decoded([SPECIMENS[name]], checksums=True, guess=True))
    assert line.isprintable()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(random_batches())
def test_rows_of_any_bytes_have_a_line_that_is_safe_to_print(batch: Batch) -> None:
    for time in get_args(Clock):
        shown = lines(batch, time=time)
        assert len(shown) == len(batch)
        assert all(line.isprintable() for line in shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_vantage_cannot_steer_the_terminal(name: str) -> None:
    batch = decoded([overlay(TASKS / ICMP())])
    frames = Frames(batch.frames.buffer, batch.frames.index, (), (name, "other"))
    assert lines(Batch(frames, batch.rows))[0].isprintable()


def test_icmp_is_told_by_type_and_code() -> None:
    assert icmp_words(4, 3, 3) == "port unreachable"
    assert icmp_words(4, 3, 15) == "unreachable"
    assert icmp_words(6, 2, 0) == "packet too big"
    assert icmp_words(4, 77, 1) == "type 77 code 1"
