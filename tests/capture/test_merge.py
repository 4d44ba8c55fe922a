"""Several captures are one, by time, and each frame still says where it comes from."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.capture.made import START, Frame, enhanced, frame, interface, option, pcap, section
from vxtool.capture import Capture, merge, merging, open_capture
from vxtool.capture import reader as reading


class Told(NamedTuple):
    vantage: str
    frame: int
    ts: int
    data: bytes
    interface: str | None


def told(captures: Sequence[Capture]) -> list[Told]:
    """Every frame of the merged captures, as its batch tells it."""
    got = []
    for batch in merge(captures):
        assert len(batch)
        for i, entry in enumerate(batch.index):
            vantage, name = batch.vantages[entry["vantage"]], batch.interfaces[entry["interface"]].name
            got.append(Told(vantage, int(entry["frame"]), int(entry["ts"]), batch.bytes_of(i), name))
    return got


def written(folder: Path, files: dict[str, bytes]) -> list[Path]:
    paths = []
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
    return paths


def at(*seconds: int) -> list[Frame]:
    return [frame(0)._replace(ts=(START + second) * 10**9, data=bytes([number])) for number, second in enumerate(seconds)]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of three frames, so that a few frames are many batches."""
    monkeypatch.setattr(reading, "BATCH", 3)
    monkeypatch.setattr(merging, "BATCH", 3)


FILES = st.lists(st.lists(st.integers(0, 12), max_size=20), min_size=1, max_size=4)


@given(files=FILES)
@settings(max_examples=150)
def test_frames_come_by_time_and_at_the_same_time_by_the_order_of_the_files(files: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    made = [at(*sorted(seconds)) for seconds in files]
    expected = list(heapq.merge(*([(one.ts, i, n + 1, one.data) for n, one in enumerate(one_file)] for i, one_file in enumerate(made))))
    paths = written(tmp_path_factory.mktemp("merge"), {f"{i}.pcap": pcap(one_file) for i, one_file in enumerate(made)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH", 3)
        patch.setattr(merging, "BATCH", 3)
        got = told([open_capture(path) for path in paths])
    assert [(one.ts, int(one.vantage), one.frame, one.data) for one in got] == expected


@given(files=FILES)
@settings(max_examples=150)
def test_a_clock_that_goes_backwards_never_changes_the_order_inside_a_file(files: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    paths = written(tmp_path_factory.mktemp("merge"), {f"{i}.pcap": pcap(at(*seconds)) for i, seconds in enumerate(files)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH", 3)
        patch.setattr(merging, "BATCH", 3)
        got = told([open_capture(path) for path in paths])
    for i, seconds in enumerate(files):
        mine = [one for one in got if one.vantage == str(i)]
        assert [one.frame for one in mine] == list(range(1, len(seconds) + 1))
        assert [one.ts // 10**9 - START for one in mine] == seconds
    latest: dict[str, int] = {}
    times = []
    for one in got:
        latest[one.vantage] = max(one.ts, latest.get(one.vantage, 0))
        times.append(latest[one.vantage])
    assert times == sorted(times)


@pytest.mark.usefixtures("small_batches")
def test_interfaces_keep_their_names_when_files_that_number_them_alike_are_merged(tmp_path: Path) -> None:
    def named(names: list[str], seconds: list[int]) -> bytes:
        described = b"".join(interface(options=option(2, name.encode())) for name in names)
        return section() + described + b"".join(enhanced(one, number=i % len(names)) for i, one in enumerate(at(*seconds)))

    files = {"a.pcapng": named(["eth0", "lo"], [1, 3, 5, 7, 9, 11]), "b.pcapng": named(["ens3"], [2, 4, 6, 8]), "c.pcap": pcap(at(0, 10))}
    got = told([open_capture(path) for path in written(tmp_path, files)])
    assert {(one.vantage, one.interface) for one in got} == {("a", "eth0"), ("a", "lo"), ("b", "ens3"), ("c", None)}
    assert [one.interface for one in got if one.vantage == "a"] == ["eth0", "lo"] * 3


@pytest.mark.parametrize(
    ("names", "vantages"),
    [
        (["vm1.pcap", "vm2.pcap"], ["vm1", "vm2"]),
        (["a/vm1.pcap", "b/vm1.pcap", "b/vm2.pcap"], ["a/vm1", "b/vm1", "vm2"]),
        (["a/vm1.pcap", "a/vm1.pcapng"], ["vm1.pcap", "vm1.pcapng"]),
    ],
)
def test_files_of_the_same_name_get_vantages_that_tell_them_apart(tmp_path: Path, names: list[str], vantages: list[str]) -> None:
    captures = [open_capture(path) for path in written(tmp_path, {name: pcap(at(1)) for name in names})]
    assert sorted(one.vantage for one in told(captures)) == vantages
    assert [capture.vantage for capture in captures] == vantages


def test_the_same_file_twice_is_two_vantages(tmp_path: Path) -> None:
    [path] = written(tmp_path, {"x.pcap": pcap(at(1))})
    assert [one.vantage for one in told([open_capture(path), open_capture(path)])] == [str(path), f"{path}#2"]


def test_captures_that_were_given_the_same_vantage_share_it(tmp_path: Path) -> None:
    paths = written(tmp_path, {"x.pcap0": pcap(at(1)), "x.pcap1": pcap(at(2)), "vm1.pcap": pcap(at(3))})
    captures = [open_capture(path, vantage="vm1") for path in paths[:2]] + [open_capture(paths[2])]
    assert [one.vantage for one in told(captures)] == ["vm1", "vm1", f"{tmp_path.name}/vm1"]


def test_nothing_and_empty_captures_merge_to_nothing(tmp_path: Path) -> None:
    assert told([]) == []
    assert told([open_capture(path) for path in written(tmp_path, {"a.pcap": pcap([]), "b.pcap": pcap([])})]) == []


def test_merging_reads_no_further_ahead_than_it_must(tmp_path: Path) -> None:
    many = [frame(number, 1000) for number in range(5000)]
    paths = written(tmp_path, {"a.pcap": pcap(many), "b.pcap": pcap(many), "c.pcap": pcap(many[4000:])})
    captures = [open_capture(path) for path in paths]
    frames = 0
    for batch in merge(captures):
        frames += len(batch)
        assert len(batch) <= reading.BATCH
        assert batch.buffer.nbytes <= 4 * reading.CHUNK
        for capture in captures:
            assert capture.position <= frames * 1016 + 3 * reading.CHUNK
    assert frames == 11_000
