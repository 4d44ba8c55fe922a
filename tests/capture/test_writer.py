"""What is written is what was meant, to our reader and to others."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.capture.made import Frame, enhanced, frame, frames, interface, opened, option, pcap, pcapng, read, section
from vxtool.capture import INDEX, CaptureWriter, Frames, Interface, merge, open_capture
from vxtool.errors import CaptureError

FORMS = pytest.mark.parametrize("ending", ["pcap", "pcapng"])
FRAME = st.builds(Frame, st.integers(0, (1 << 32) * 10**9 - 1), st.integers(1, (1 << 32) - 1), st.binary(max_size=300))


@FORMS
@given(made=st.lists(FRAME, max_size=30))
@settings(max_examples=100)
def test_plain_frames_written_are_read_back(ending: str, made: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("w") / f"x.{ending}"
    with CaptureWriter(path) as writer:
        writer.write_items((one.data, one.ts, one.wirelen) for one in made)
    assert writer.frames == len(made)
    if ending == "pcapng":  # pcap cannot tell some of these from damage: lengths of gigabytes, times years apart
        assert read(path) == made
    with path.open("rb") as file:
        reader = dpkt.pcap.Reader(file) if ending == "pcap" else dpkt.pcapng.Reader(file) if made else []
        assert [data for _, data in reader] == [one.data for one in made]


@FORMS
def test_selected_frames_are_written_in_the_order_of_the_selection(tmp_path: Path, ending: str) -> None:
    made = [frame(number, number % 70) for number in range(20_000)]
    path = tmp_path / f"x.{ending}"
    with CaptureWriter(path) as writer:
        for batch in opened(pcap(made)):
            writer.write(batch.select(batch.index["frame"] % 3 == 0))
    assert read(path) == [one for number, one in enumerate(made, 1) if number % 3 == 0]


def test_pcapng_keeps_interfaces_their_names_and_link_types(tmp_path: Path) -> None:
    options = option(2, b"eth0") + option(3, b"uplink") + option(12, b"Linux")
    source = (
        section()
        + interface()
        + interface(linktype=113, snaplen=99, options=options)
        + b"".join(enhanced(one, number=i % 2) for i, one in enumerate(frames(9)))
    )
    path = tmp_path / "x.pcapng"
    with CaptureWriter(path) as writer:
        for batch in opened(source):
            writer.write(batch)
            writer.write(batch)
    with open_capture(path) as capture:
        assert read(capture) == frames(9) * 2
        assert capture.interfaces == (Interface(1), Interface(113, "eth0", "uplink", 99, "Linux"))
        assert capture.damage == []


def test_merged_captures_keep_their_interfaces_apart_and_say_where_they_come_from(tmp_path: Path) -> None:
    for name in ("vm1", "vm2"):
        (tmp_path / f"{name}.pcap").write_bytes(pcap(frames(5)))
    path = tmp_path / "x.pcapng"
    with CaptureWriter(path) as writer:
        for batch in merge([open_capture(tmp_path / "vm1.pcap"), open_capture(tmp_path / "vm2.pcap")]):
            writer.write(batch)
    with open_capture(path) as capture:
        assert len(read(capture)) == 10
        assert [one.description for one in capture.interfaces] == ["vm1", "vm2"]


def test_a_second_link_type_in_pcap_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with CaptureWriter(path) as writer:
        writer.write_items([(b"a", 1, 1)])
        with pytest.raises(CaptureError, match=r"one link type, this one 1, but frame 2 has 113: write to a file ending in \.pcapng"):
            writer.write_items([(b"b", 2, 1)], interface=Interface(113))
    assert read(path) == [Frame(1, 1, b"a")]


@FORMS
def test_a_capture_without_frames_is_still_a_capture(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    CaptureWriter(path).close()
    assert read(path) == []


def test_the_capture_being_read_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(frames(3)))
    (tmp_path / "other.pcap").symlink_to(path)
    with pytest.raises(CaptureError, match="this is the capture being read"):
        CaptureWriter(tmp_path / "other.pcap", inputs=["-", str(path)])
    assert read(path) == frames(3)


def test_what_cannot_be_written_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be written: No such file or directory"):
        CaptureWriter(tmp_path / "none" / "x.pcap")
    with pytest.raises(CaptureError, match=r"captures are written uncompressed: name it '.*x\.pcap' and compress it afterwards"):
        CaptureWriter(tmp_path / "x.pcap.gz")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence() -> None:
    writer = CaptureWriter("/dev/full")
    with pytest.raises(CaptureError, match="/dev/full: writing failed after 0 frames: " + os.strerror(errno.ENOSPC)):
        writer.write_items([(b"a", 1, 1)])


@pytest.mark.parametrize(("ending", "ts"), [("pcap", -1), ("pcap", (1 << 32) * 10**9), ("pcapng", -1)])
def test_a_time_that_the_file_cannot_say_is_refused(tmp_path: Path, ending: str, ts: int) -> None:
    with CaptureWriter(tmp_path / f"x.{ending}") as writer, pytest.raises(CaptureError, match="frame 2 was captured before 1970"):
        writer.write_items([(b"a", 5, 1), (b"b", ts, 1)])


def test_standard_output_gets_a_pcap_and_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=out))
    with CaptureWriter("-") as writer:
        writer.write_items((one.data, one.ts, one.wirelen) for one in frames(3))
    assert out.getvalue() == pcap(frames(3))


def test_an_index_that_points_outside_its_buffer_is_an_error_not_a_read_beyond() -> None:
    [batch] = opened(pcapng(frames(2)))
    for offset in (-1, batch.buffer.nbytes - 3):
        index = batch.index.copy()
        index["offset"][1] = offset
        with pytest.raises(IndexError):
            CaptureWriter("/dev/null").write(Frames(np.ascontiguousarray(batch.buffer), index, batch.interfaces))


def test_tcpdump_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    with CaptureWriter(path) as writer:
        writer.write_items(((one.data, one.ts, one.wirelen) for one in frames(7)), interface=Interface(147))  # a link type that nobody takes apart
    try:
        done = subprocess.run(["tcpdump", "--nano", "-nttr", str(path)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("tcpdump is not installed")
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("\t")] == [
        f"{one.ts // 10**9}.{one.ts % 10**9:09}" for one in frames(7)
    ]


def test_interfaces_can_be_told_before_their_first_frame_and_counted_after_their_last(tmp_path: Path) -> None:
    here = [Interface(1, f"vm{i}/eth0", f"node vm{i}", 96, "Linux 6.18", "udp port 4789", "offloads: tso on") for i in (1, 2)]
    path = tmp_path / "x.pcapng"
    with CaptureWriter(path) as writer:
        numbers = [writer.announce(position, one, f"vm{position + 1}") for position, one in enumerate(here)]
        index = np.zeros(1, INDEX)
        index["linktype"], index["interface"], index["vantage"] = 1, 1, 1
        writer.write(Frames(np.zeros(0, np.uint8), index, tuple(here), ("vm1", "vm2")))
        for number in numbers:
            writer.statistics(number, begun_ns=1_700_000_000_000_000_001, ended_ns=1_700_000_009_000_000_002, received=10 + number, dropped=number)
    with open_capture(path) as capture:
        [batch] = capture
        assert (batch.interfaces, batch.index["interface"].tolist(), capture.damage) == (tuple(here), [1], [])
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    told = subprocess.run(["capinfos", str(path)], capture_output=True, text=True, check=True).stdout  # of the same package
    assert [line.split("=")[1].strip() for line in told.splitlines() if "Number of stat entries" in line] == ["1", "1"]
    assert told.count("Name = vm") == 2


def test_long_frames_are_written_from_where_they_lie_byte_for_byte_as_copied_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [frame(number, 5000 + number % 7) for number in range(1200)]
    written = {}
    for long in (1, 1 << 30):
        monkeypatch.setattr("vxtool.capture.writer.LONG", long)
        with CaptureWriter(tmp_path / "x.pcapng") as writer:
            for batch in opened(pcap(made)):
                writer.write(batch)
        written[long] = (tmp_path / "x.pcapng").read_bytes()
    assert written[1] == written[1 << 30]
    assert read(tmp_path / "x.pcapng") == made


@pytest.mark.parametrize("size", [100, 10_000])
def test_a_disk_that_becomes_full_is_one_sentence_whatever_the_size_of_frames(tmp_path: Path, size: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (55_555, hard))
    try:
        with pytest.raises(CaptureError, match="writing failed after 0 frames: File too large"), CaptureWriter(tmp_path / "x.pcapng") as writer:
            writer.write_items((one.data, one.ts, one.wirelen) for one in frames(1000, size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "x.pcapng").stat().st_size == 55_555
