"""`vxtool decode` as its users meet it: on real captures, in pipes, with wrong arguments."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import Result

import vxtool
from vxtool.decode.columns import COLUMNS

Invoke = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]

VXTOOL = [sys.executable, "-m", "vxtool"]


# ---- outputs ----


def test_text_has_one_line_a_frame(invoke: Invoke, vm1: str) -> None:
    result = invoke("decode", vm1)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 6027
    assert not result.stderr


def test_csv_json_and_ndjson_hold_the_same_rows_with_every_column(invoke: Invoke, vm1: str) -> None:
    table = list(csv.DictReader(io.StringIO(invoke("decode", "--csv", "--vni", "4097", vm1).stdout)))
    document = json.loads(invoke("decode", "--json", "--vni", "4097", vm1).stdout)
    lines = [json.loads(line) for line in invoke("decode", "--ndjson", "--vni", "4097", vm1).stdout.splitlines()]
    assert document["frames"] == lines
    assert [list(row) for row in lines] == [[column.name for column in COLUMNS]] * 44
    assert [[row["frame"], row["inner_ip_src"], row["vni"]] for row in table] == [[str(r["frame"]), r["inner_ip_src"], "4097"] for r in lines]
    assert document["damage"] == []
    assert document["captures"] == [{"path": vm1, "vantage": "vm1"}]


def test_columns_come_in_the_order_asked_for(invoke: Invoke, vm1: str) -> None:
    result = invoke("decode", "--csv", "--columns", "vni,frame, inner_ip_dst", "--limit", "1", "--vni", "4096", vm1)
    assert result.stdout == "vni,frame,inner_ip_dst\n4096,2916,10.0.0.11\n"


def test_a_tree_says_at_which_byte_each_header_begins(invoke: Invoke, vm1: str) -> None:
    result = invoke("decode", "-v", "--vni", "4096", "--limit", "1", vm1)
    assert [line.split()[:2] for line in result.stdout.splitlines() if "VXLAN" in line] == [["42", "VXLAN"]]
    more = invoke("decode", "-vv", "--vni", "4096", "--limit", "1", vm1)
    assert len(more.stdout) > len(result.stdout)


def test_delta_counts_from_the_frame_shown_before_as_tcpdump_ttt_does(invoke: Invoke, vm1: str) -> None:
    chosen = ("decode", "--vni", "4097", "--limit", "20", vm1)
    moments = [json.loads(line)["ts"] for line in invoke(*chosen, "--ndjson", "--columns", "ts").stdout.splitlines()]
    gaps = [0, *(after - before for before, after in pairwise(moments))]
    assert [line.split()[1] for line in invoke(*chosen, "--time", "delta").stdout.splitlines()] == [f"{gap // 1000 / 1e6:.6f}" for gap in gaps]
    titles = [line for line in invoke(*chosen, "--time", "delta", "-v").stdout.splitlines() if line.startswith("frame ")]
    assert [line.split()[2] for line in titles] == [f"{gap / 1e9:.9f}" for gap in gaps]


def test_parquet_holds_the_rows(invoke: Invoke, vm1: str, tmp_path: Path) -> None:
    import pandas as pd

    out = tmp_path / "frames.parquet"
    assert invoke("decode", "--parquet", out, "--columns", "frame,vni", "--vni", "4097", vm1).exit_code == 0
    assert pd.read_parquet(out)["vni"].tolist() == [4097] * 44


def test_frames_that_match_are_written_as_a_capture(invoke: Invoke, vm1: str, tmp_path: Path) -> None:
    for name in ("some.pcap", "some.pcapng"):
        out = tmp_path / name
        assert invoke("decode", "-w", out, "--vni", "4097", vm1).exit_code == 0
        written, original = vxtool.decode(str(out)), vxtool.decode(vm1, where="vni == 4097")
        assert (written["ts"] == original["ts"]).all()
        assert (written["inner_ip_src"].astype(str) == original["inner_ip_src"].astype(str)).all()


def test_inner_frames_alone_decode_to_what_was_inside(invoke: Invoke, vm1: str, tmp_path: Path) -> None:
    out = tmp_path / "inner.pcap"
    result = invoke("decode", "-w", out, "--decap", vm1)
    assert result.exit_code == 0
    assert "4,363 of 6,027 matching frames carry no inner Ethernet frame" in result.stderr
    inside, original = vxtool.decode(str(out)), vxtool.decode(vm1, where="tunnel is not none")
    assert len(inside) == 1664
    assert (inside["tunnel"] == "none").all()
    assert inside["stop"].isna().all()
    for column in ("inner_eth_src", "inner_ip_dst", "inner_proto", "inner_dport", "inner_tcp_seq", "inner_payload_len"):
        assert inside[column].astype(object).where(inside[column].notna(), None).tolist() == (
            original[column].astype(object).where(original[column].notna(), None).tolist()
        ), column
    assert (inside["wirelen"].astype(int) == original["wirelen"].astype(int) - 50).all()


def test_the_summary_names_networks_pairs_and_checksums(invoke: Invoke, vm1: str) -> None:
    result = invoke("decode", "--summary", vm1)
    assert result.exit_code == 0
    for words in ("6,027 frames", "Networks", "VTEP pairs", "Inner talkers", "swarm gossip over UDP", "0x029d0062", "lco"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert not [line for line in result.stdout.splitlines() if line != line.rstrip()]


def test_the_summary_is_also_a_document(invoke: Invoke, vm1: str) -> None:
    document = json.loads(invoke("decode", "--summary", "--json", "--vni", "4096", vm1).stdout)
    assert document["schema"] == "vxtool-summary@1"
    assert document["frames_read"] == 6027
    assert document["capture"]["frames"] == 1620
    assert document["networks"]["entries"][0]["vni"] == 4096
    assert document["damage"] == []


# ---- reading ----


def test_several_captures_are_merged_by_time_with_their_vantages(invoke: Invoke, captures: Path) -> None:
    steady = captures / "swarm-steady"
    result = invoke("decode", "--csv", "--columns", "ts,vantage", f"north={steady / 'vm1.pcap'}", steady / "vm2.pcap")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    times = [int(row["ts"]) for row in rows]
    assert times == sorted(times)
    assert Counter(row["vantage"] for row in rows).keys() == {"north", "vm2"}


def test_a_file_whose_own_name_has_an_equals_sign_is_taken_as_it_is(
    invoke: Invoke, vm1: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.pcap").write_bytes(Path(vm1).read_bytes())
    assert invoke("decode", "--limit", "1", "a=b.pcap").exit_code == 0


def test_port_replaces_the_vxlan_ports_and_plus_port_adds_to_them(invoke: Invoke, vm1: str) -> None:
    def tunnels(*options: str) -> int:
        return int(json.loads(invoke("decode", "--summary", "--json", *options, vm1).stdout)["checksums"]["outer"].get("lco", 0))

    assert tunnels() == tunnels("--port", "+4444") == tunnels("--port", "4444,4789") == 1619
    assert tunnels("--port", "4444") == 0
    assert tunnels("--port", "4444", "--port", "+4789") == 1619
    assert tunnels("--port", "4444", "--guess") > 1000


def test_a_port_given_is_vxlan_even_where_another_tunnel_has_it(invoke: Invoke, captures: Path) -> None:
    result = invoke("decode", "--ndjson", "--columns", "tunnel", "--port", "+6081", captures / "made" / "geneve.pcap")
    assert '"geneve"' not in result.stdout


def test_standard_input_is_read_like_a_file(process: Process, vm1: str) -> None:
    data = Path(vm1).read_bytes()
    assert (
        process("decode", "--limit", "5", "--csv", "--columns", "frame,vni", "-", stdin=data).stdout
        == process("decode", "--limit", "5", "--csv", "--columns", "frame,vni", vm1).stdout
    )


def test_a_live_pipe_shows_frames_before_it_ends(vm1: str) -> None:
    data = Path(vm1).read_bytes()
    ends = [24]
    for _ in range(10):
        ends.append(ends[-1] + 16 + struct.unpack_from("<I", data, ends[-1] + 8)[0])
    with subprocess.Popen([*VXTOOL, "decode", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(data[: ends[1]])
        running.stdin.flush()
        assert b"UDP gossip" in running.stdout.readline()
        running.stdin.write(data[ends[1] : ends[10]])
        running.stdin.close()
        assert len(running.stdout.read().splitlines()) == 9


def test_a_reader_that_has_seen_enough_ends_it_in_silence(vm1: str) -> None:
    for output in ("--csv", "--json", "-v"):
        with subprocess.Popen([*VXTOOL, "decode", output, vm1], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            assert running.stdout
            assert running.stderr
            running.stdout.readline()
            running.stdout.close()
            assert running.stderr.read() == b""
            assert running.wait(60) == 0


def test_an_interrupt_is_130_without_a_traceback() -> None:
    with subprocess.Popen([*VXTOOL, "decode", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        running.stdin.write(struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 0, 0, 14, 14) + bytes(14))
        running.stdin.flush()
        running.stdout.readline()  # it has begun
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
        assert running.stderr.read() == b""


# ---- the terminal ----


def _on_a_terminal(*arguments: str, **env: str) -> bytes:
    """What vxtool writes when its stdout is a terminal."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    with subprocess.Popen([*VXTOOL, *arguments], stdout=theirs, stderr=subprocess.DEVNULL, env={**plain, "TERM": "xterm", **env}) as running:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 65536):
                written += piece
        except OSError:  # Linux: the other end of a pty was closed
            pass
        running.wait(60)
    os.close(ours)
    return written


def test_colour_is_for_terminals_unless_no_color_or_color_say_otherwise(process: Process, vm1: str) -> None:
    arguments = ("decode", "--limit", "3", vm1)
    assert b"\x1b[" in _on_a_terminal(*arguments)
    assert b"\x1b[" not in _on_a_terminal(*arguments, NO_COLOR="1")
    assert b"\x1b[" not in _on_a_terminal(*arguments, TERM="dumb")
    assert b"\x1b[" in _on_a_terminal(*arguments, "--color", "always", NO_COLOR="1")
    assert b"\x1b[" not in _on_a_terminal(*arguments, "--color", "never")
    assert b"\x1b[" not in process(*arguments).stdout
    assert b"\x1b[" in process(*arguments, "--color", "always").stdout
    for option in ("--summary", "-v"):
        assert b"\x1b[" in _on_a_terminal("decode", option, vm1, "--vni", "4097")
        assert b"\x1b[" not in process("decode", option, vm1, "--vni", "4097").stdout


NASTY = "\x1b]0;owned\x07[red]\u202e\x9b31m"


@pytest.mark.parametrize("output", [["--summary"], ["--summary", "--json"], ["--json"], ["--csv"], ["-v"], []], ids=" ".join)
def test_nothing_in_a_capture_or_a_name_steers_the_terminal(output: list[str], process: Process, tmp_path: Path) -> None:
    from scapy.layers.dns import DNS, DNSQR
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcapng

    message = DNS(qd=DNSQR(qname="x")).build().replace(b"\x01x\x00", bytes([len(NASTY.encode())]) + NASTY.encode() + b"\0")
    path = tmp_path / "nasty.pcapng"
    wrpcapng(str(path), Ether() / IP(src="10.0.0.1", dst="127.0.0.11") / UDP(sport=1, dport=53) / message)
    result = process("decode", *output, f"{NASTY}={path}", f"b={path}")
    assert result.returncode == 0, result.stderr
    shown = (result.stdout + result.stderr).decode()
    assert not [character for character in shown if not character.isprintable() and character != "\n"]
    if output != ["--json"] and "--json" not in output:
        assert "[red]" in shown  # shown as it stands, not taken for markup


# ---- exit codes and errors ----


@pytest.mark.parametrize(
    ("name", "code"),
    [("flannel.pcap", 0), ("damage_cut_frame.pcap", 1), ("damage_noise.pcap", 1), ("short_frames.pcap", 1), ("damage_empty.pcap", 0)],
)
@pytest.mark.parametrize("output", [[], ["--summary"], ["--json"], ["--csv"]], ids=" ".join)
def test_damage_is_told_on_stderr_and_by_the_exit_code(name: str, code: int, output: list[str], invoke: Invoke, captures: Path) -> None:
    result = invoke("decode", *output, captures / "made" / name)
    assert result.exit_code == code
    assert bool(result.stderr) == bool(code)
    assert all(line.startswith("vxtool: ") for line in result.stderr.splitlines())


def test_frames_cut_by_the_snap_length_are_not_damage(invoke: Invoke, captures: Path) -> None:
    result = invoke("decode", "--where", "stop == 'snapped'", captures / "made" / "short_frames.pcap")
    assert result.stdout
    assert result.exit_code == 0


def test_damage_is_also_in_the_document(invoke: Invoke, captures: Path) -> None:
    for output in (["--json"], ["--summary", "--json"]):
        document = json.loads(invoke("decode", *output, captures / "made" / "damage_noise.pcap").stdout)
        assert document["damage"]
        assert set(document["damage"][0]) == {"path", "offset", "skipped", "reason"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nonexistent"], "/nonexistent"),
        (["/tmp"], "directory"),
        (["{root}/pyproject.toml"], "not a capture"),
        (["-", "-"], "once"),
        (["--foo", "{vm1}"], "no such option '--foo'"),
        ([], "missing argument"),
        (["--where", "vnii == 1", "{vm1}"], "did you mean vni?"),
        (["--vni", "x", "{vm1}"], "--vni"),
        (["--port", "0", "{vm1}"], "--port"),
        (["--port", "x", "{vm1}"], "--port"),
        (["--limit", "-1", "{vm1}"], "--limit"),
        (["--json", "--csv", "{vm1}"], "--json and --csv"),
        (["--summary", "--csv", "{vm1}"], "--summary does not go with --csv"),
        (["--columns", "vni", "{vm1}"], "--columns goes with"),
        (["--columns", "vnii", "--csv", "{vm1}"], "did you mean vni"),
        (["--columns", ",", "--csv", "{vm1}"], "empty"),
        (["--decap", "{vm1}"], "--decap goes with -w"),
        (["--time", "absolute", "--csv", "{vm1}"], "--time goes with text"),
        (["-w", "{vm1}", "{vm1}"], "being read"),
        (["--parquet", "{vm1}", "{vm1}"], "being read"),
        (["-w", "/nonexistent/x.pcap", "{vm1}"], "cannot be written"),
        (["-w", "/tmp/x.pcap", "--reassemble", "{vm1}"], "--decap"),
        (["--from", "yesterday", "{vm1}"], "--from"),
        (["--color", "maybe", "{vm1}"], "--color"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_with_one_sentence_and_2(arguments: list[str], words: str, invoke: Invoke, vm1: str, captures: Path) -> None:
    size = Path(vm1).stat().st_size
    result = invoke("decode", *(argument.format(vm1=vm1, root=captures.parent) for argument in arguments))
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert not result.stdout
    assert Path(vm1).stat().st_size == size
