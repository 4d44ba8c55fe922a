"""`vxtool trace`: what a person sees who looks for a packet between two nodes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

FLOW = "10.0.0.3:57658 > 10.0.0.7:80"


@pytest.fixture
def steady(captures: Path) -> list[Path]:
    return [captures / "swarm-steady" / f"{name}.pcap" for name in ("vm1", "vm2", "vm3", "container")]


def test_without_a_flow_those_seen_in_most_captures_are_listed(invoke: Invoke, steady: list[Path]) -> None:
    result = invoke("trace", *steady)
    assert result.exit_code == 0
    assert "the first 20 of" in result.stdout
    assert "--flow" in result.stdout
    assert FLOW in result.stdout


def test_a_flow_is_a_line_a_packet_and_a_column_a_capture(invoke: Invoke, steady: list[Path]) -> None:
    result = invoke("trace", *steady, "--flow", FLOW)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    head = next(line for line in lines if line.startswith("   seconds"))
    assert set(head.split()[2:]) == {"vm1", "vm2", "container"}  # vm3 has nothing of it
    first = lines[lines.index(head) + 1]
    assert re.match(r" +0\.000000  > TCP S ", first)
    assert len(re.findall(r"\d+ \+\d+\.\d{3}", first)) == 3
    assert max(map(len, lines[lines.index(head) :])) <= 100


def test_a_flow_may_be_written_from_either_side(invoke: Invoke, steady: list[Path]) -> None:
    there = invoke("trace", *steady, "--json", "--flow", FLOW)
    back = invoke("trace", *steady, "--json", "--flow", "10.0.0.7:80->10.0.0.3:57658")
    assert len(json.loads(there.stdout)["packets"]) == len(json.loads(back.stdout)["packets"]) > 0


def test_a_frame_names_its_flow(invoke: Invoke, steady: list[Path]) -> None:
    packets = json.loads(invoke("trace", *steady, "--json", "--flow", FLOW).stdout)["packets"]
    number = packets[3]["seen"]["vm2"]["frame"]
    for name in ("vm2", "vm2.pcap", str(steady[1])):
        again = json.loads(invoke("trace", *steady, "--json", "--frame", f"{name}:{number}").stdout)
        assert len(again["packets"]) == len(packets)


def test_json_tells_where_each_packet_was_seen_and_how_much_later(invoke: Invoke, steady: list[Path]) -> None:
    document = json.loads(invoke("trace", *steady, "--json", "--flow", FLOW).stdout)
    assert document["schema"] == "vxtool-trace@1"
    assert [capture["node"] for capture in document["captures"] if capture["vantage"] == "node"]
    for packet in document["packets"]:
        assert set(packet["seen"]) == {"vm1", "vm2", "container"}
        assert min(place["after_ns"] for place in packet["seen"].values()) == 0
        assert packet["not_seen"] == []


def test_a_lost_packet_shows_as_a_dash_and_alone_with_missing(invoke: Invoke, steady: list[Path], tmp_path: Path) -> None:
    packets = json.loads(invoke("trace", *steady, "--json", "--flow", FLOW).stdout)["packets"]
    number = packets[0]["seen"]["vm2"]["frame"]
    shorter = tmp_path / "vm2.pcap"
    shorter.write_bytes(without(steady[1].read_bytes(), number))
    result = invoke("trace", steady[0], shorter, "--flow", FLOW)
    assert "vm2 ran and has not seen 1 of them" in result.stdout
    only = invoke("trace", steady[0], shorter, "--flow", FLOW, "--missing", "--json")
    (packet,) = json.loads(only.stdout)["packets"]
    assert packet["not_seen"] == ["vm2"]
    assert packet["what"].startswith("TCP S")


def without(pcap: bytes, number: int) -> bytes:
    """A little-endian pcap without one of its frames."""
    at = 24
    for _ in range(number - 1):
        at += 16 + int.from_bytes(pcap[at + 8 : at + 12], "little")
    end = at + 16 + int.from_bytes(pcap[at + 8 : at + 12], "little")
    return pcap[:at] + pcap[end:]


def test_nodes_and_tasks_have_the_names_of_the_expectation(invoke: Invoke, steady: list[Path]) -> None:
    result = invoke("trace", *steady, "--flow", FLOW, "--expect", steady[0].parent)
    assert "underlay of sathish-vm1" in result.stdout
    assert "sandbox of web.2." in result.stdout


def test_captures_can_be_named(invoke: Invoke, steady: list[Path]) -> None:
    result = invoke("trace", f"one={steady[0]}", f"two={steady[1]}", "--flow", FLOW)
    assert {"one", "two"} <= set(next(line for line in result.stdout.splitlines() if line.startswith("   seconds")).split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--flow", "10.0.0.3"], "write it as"),
        (["--flow", "a > b"], "is no address"),
        (["--flow", "10.0.0.3:99999 > 10.0.0.7:80"], "is no address"),
        (["--flow", "10.9.9.9:1 > 10.9.9.8:2"], "no capture has a packet of"),
        (["--frame", "vm1"], "NAME:N"),
        (["--frame", "vm9:1"], "there is no capture 'vm9'"),
        (["--frame", "vm1:999999"], "vm1 has"),
        (["--frame", "vm1:1", "--flow", FLOW], "give one of them"),
    ],
)
def test_a_wrong_question_is_answered_with_a_sentence(invoke: Invoke, steady: list[Path], arguments: list[str], words: str) -> None:
    result = invoke("trace", *steady, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_damaged_capture_is_traced_as_far_as_it_goes(invoke: Invoke, captures: Path) -> None:
    result = invoke("trace", captures / "made" / "damage_cut_record.pcap")
    assert result.exit_code == 1
    assert "damage_cut_record.pcap" in result.stderr
