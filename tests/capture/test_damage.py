"""What is broken is told, what is not broken is delivered: cut files, lying lengths, holes and noise."""

from __future__ import annotations

import random
import struct
from typing import BinaryIO, cast

import pytest

from tests.capture.made import (
    START,
    block,
    enhanced,
    enhanced_body,
    frame,
    frames,
    interface,
    old_packet,
    opened,
    pcap,
    pcap_header,
    pcapng,
    read,
    record,
    section,
    simple,
)
from vxtool.capture import Capture, open_capture
from vxtool.errors import CaptureError

COUNT = 40
NOISE = random.Random(7).randbytes(5000)


def damages(capture: Capture) -> list[tuple[int, int]]:
    return [(damage.offset, damage.skipped) for damage in capture.damage]


@pytest.mark.parametrize(
    ("data", "header", "starts", "body"),
    [
        (pcap(frames(3)), 24, [24, 100, 176], 16),
        (pcapng(frames(3)), 28, [48, 140, 232], 28),
        (section() + interface() + simple(frame(0).data, 60) + old_packet(frame(1)), 28, [48, 124], 12),
    ],
    ids=["pcap", "pcapng", "pcapng, simple and old packets"],
)
def test_a_capture_cut_at_any_byte_gives_all_there_is_and_tells_where_it_is_cut(data: bytes, header: int, starts: list[int], body: int) -> None:
    whole = read(data)
    ends = [*starts[1:], len(data)]
    for size in range(len(data)):
        if size < header:
            with pytest.raises(CaptureError):
                opened(data[:size])
            continue
        capture = opened(data[:size])
        got = read(capture)
        complete = sum(end <= size for end in ends)
        assert got[:complete] == whole[:complete], size
        begun = size not in (header, *starts, *ends)
        assert len(capture.damage) == begun, size
        if len(got) > complete:  # the part of a frame that is there is delivered
            assert begun
            part, meant = got[complete], whole[complete]
            assert meant.data.startswith(part.data)
            assert (part.wirelen, part.ts) == (meant.wirelen, meant.ts)
            assert len(got) == complete + 1
        elif begun and complete < len(whole) and size >= starts[0]:
            assert size - max(start for start in starts if start <= size) < 28, f"{size}: a part of a frame was thrown away"


@pytest.mark.parametrize("size", [60, 2000, 60_000])
@pytest.mark.parametrize("word", [struct.pack("<I", 240), struct.pack("<I", 16), bytes(4), struct.pack("<I", START), b"\x01"])
def test_frames_full_of_one_number_are_not_taken_for_records(word: bytes, size: int) -> None:
    made = [frame(number, size)._replace(data=(word * size)[:size]) for number in range(30)]
    records = [record(one) for one in made]
    capture = opened(pcap_header() + b"".join(records[:10]) + b"\xff" * 40 + b"".join(records[10:]))
    assert read(capture) == made
    assert damages(capture) == [(24 + 10 * (16 + size), 40)]


def test_a_clock_that_is_set_while_the_file_is_broken_costs_no_frame() -> None:
    before = [one._replace(ts=one.ts % 10**9) for one in frames(10)]
    capture = opened(pcap_header() + b"".join(map(record, before)) + NOISE + b"".join(map(record, frames(10))))
    assert read(capture) == before + frames(10)
    assert damages(capture) == [(24 + 10 * 76, len(NOISE))]


def test_the_text_of_a_cut_record_tells_its_number_what_it_claims_and_what_is_there() -> None:
    capture = opened(pcap(frames(3))[:-10])
    assert read(capture)[-1] == frame(2)._replace(data=frame(2).data[:-10])
    assert str(capture.damage[0]) == "stream: at byte 176: record 3 claims 60 bytes, the file ends after 50"


LIES = [0, 1, 59, 61, 64, 75, 76, 77, 136, 1000, 2000, 65_536, 262_144, 500_000, 1 << 20, (1 << 20) + 1, 1 << 24, 1 << 31, (1 << 32) - 1]


@pytest.mark.parametrize("position", [0, 1, 17, COUNT - 2, COUNT - 1])
@pytest.mark.parametrize("lie", LIES)
def test_a_pcap_record_that_lies_about_its_length_costs_no_other_frame(position: int, lie: int) -> None:
    made = frames(COUNT)
    capture = opened(pcap_header() + b"".join(record(one, caplen=lie if i == position else None) for i, one in enumerate(made)))
    got = read(capture)
    missing = [one for one in made if one not in got]
    assert missing in ([], [made[position]]), f"lost frames {[made.index(one) for one in missing]}"
    assert len(capture.damage) == 1


def test_a_record_whose_captured_length_alone_is_broken_is_delivered_by_its_other_length() -> None:
    made = frames(COUNT)
    capture = opened(pcap_header() + b"".join(record(one, caplen=1 << 30 if i in (7, COUNT - 1) else None) for i, one in enumerate(made)))
    assert read(capture) == made
    assert damages(capture) == [(24 + 7 * 76, 0), (24 + (COUNT - 1) * 76, 0)]
    assert capture.damage[0].reason == "record 8 claims 1,073,741,824 bytes, which is not possible (at most 1,048,576)"


@pytest.mark.parametrize(
    "hole",
    [bytes(1000), b"\xff" * 777, NOISE, NOISE[:33], bytes(3_000_000), NOISE * 1000],
    ids=["zeros", "ones", "noise", "a bit", "more", "much more"],
)
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_hole_in_the_middle_is_passed_over(form: str, hole: bytes) -> None:
    made = frames(COUNT)
    data, size, start = (pcap(made), 76, 24) if form == "pcap" else (pcapng(made), 92, 48)
    middle = start + 20 * size
    capture = opened(data[:middle] + hole + data[middle:])
    assert read(capture) == made
    assert damages(capture) == [(middle, len(hole))]
    assert "record 21" in capture.damage[0].reason or "after frame 20" in capture.damage[0].reason


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("lost", [1, 2, 3, 4, 16, 50, 75, 90])
def test_bytes_missing_in_the_middle_cost_the_frames_they_belonged_to(form: str, lost: int) -> None:
    made = frames(COUNT)
    data, size, start = (pcap(made), 76, 24) if form == "pcap" else (pcapng(made), 92, 48)
    for inside in range(size):
        middle = start + 20 * size + inside
        capture = opened(data[:middle] + data[middle + lost :])
        got = read(capture)
        missing = [i for i, one in enumerate(made) if one not in got]
        assert set(missing) <= {20 + (inside + i) // size for i in range(lost)}, (inside, missing)
        assert capture.damage


@pytest.mark.parametrize("field", ["first", "last"])
@pytest.mark.parametrize("lie", [0, 8, 12, 90, 91, 88, 96, 184, 4000, 1 << 20, 1 << 24, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("position", [0, 17, COUNT - 1])
def test_a_pcapng_block_of_which_one_length_is_wrong_is_delivered_by_the_other(position: int, field: str, lie: int) -> None:
    made = frames(COUNT)
    blocks = [block(6, enhanced_body(one.ts // 1000, one.data, one.wirelen), **{field: lie if i == position else None}) for i, one in enumerate(made)]  # type: ignore[arg-type]
    capture = opened(section() + interface() + b"".join(blocks))
    assert read(capture) == made
    assert damages(capture) == [(48 + position * 92, 0)]


def test_a_frame_that_claims_more_than_its_block_is_delivered_as_far_as_the_block_goes() -> None:
    lying = block(6, enhanced_body(frame(1).ts // 1000, frame(1).data, 60, caplen=1000))
    capture = opened(section() + interface() + enhanced(frame(0)) + lying + enhanced(frame(2)))
    assert read(capture) == frames(3)
    assert [damage.reason for damage in capture.damage] == ["frame 2 claims 1,000 bytes, its block has 60"]


def test_a_frame_of_an_interface_that_nobody_described_is_passed_over_and_told() -> None:
    capture = opened(section() + interface() + enhanced(frame(0)) + enhanced(frame(9), number=1) + enhanced(frame(1)))
    assert read(capture) == frames(2)
    assert damages(capture) == [(140, 92)]
    assert "interface that its section does not describe (it has 1)" in capture.damage[0].reason


def test_frames_before_any_interface_are_passed_over_and_told() -> None:
    capture = opened(section() + enhanced(frame(8)) + simple(b"abcd", 4) + interface() + enhanced(frame(0)))
    assert read(capture) == [frame(0)]
    assert len(capture.damage) == 2


def test_a_section_header_without_its_magic_number_is_damage_not_the_end() -> None:
    broken = section()[:8] + b"oops" + section()[12:]
    capture = opened(section() + interface() + enhanced(frame(0)) + broken + section() + interface() + enhanced(frame(1)))
    assert read(capture) == frames(2)
    assert damages(capture) == [(140, 28)]


def test_more_interfaces_than_any_machine_has_are_refused_without_growing() -> None:
    capture = opened(
        section() + b"".join(interface(snaplen=i) for i in range(20_000)) + enhanced(frame(0), number=16_383) + enhanced(frame(1), number=19_999)
    )
    assert read(capture) == [frame(0)]
    assert len(capture.interfaces) == 16_384
    assert "more than 16,384 interfaces" in capture.damage[0].reason


def test_a_file_broken_everywhere_lists_a_thousand_places_and_counts_the_others() -> None:
    capture = opened(section() + interface() + enhanced(frame(9), number=5) * 3000 + enhanced(frame(0)))
    assert read(capture) == [frame(0)]
    assert len(capture.damage) == 1001
    assert capture.damage[-1].reason == "from here on 2,000 more places of damage, not listed one by one"
    assert sum(damage.skipped for damage in capture.damage) == 3000 * 92


def hostile() -> dict[str, bytes]:
    """Files made to be slow: each byte a candidate, each candidate plausible for as long as possible."""
    first = frame(0)
    liar = struct.pack("<IIII", first.ts // 10**9, 0, 1 << 20, 1 << 20)
    claims = block(6, enhanced_body(first.ts // 1000, b"", 0), first=(1 << 24))[:32]
    return {
        "records that each claim a megabyte": pcap_header() + liar * 200_000,
        "records that claim a megabyte, and nonsense": pcap_header() + (liar + b"\xff" * 16) * 100_000,
        "three good records and a bad one, always": pcap_header() + (record(first) * 5 + b"\xff" * 16) * 8_000,
        "blocks that each claim 16 MiB": section() + interface() + claims * 100_000,
        "good and bad blocks in turn": section() + interface() + (enhanced(first) + claims) * 25_000,
        "sections with many interfaces": section()
        + b"".join(interface(snaplen=i) for i in range(10_000))
        + (section() + interface() + enhanced(first)) * 20_000,
    }


@pytest.mark.parametrize("name", list(hostile()))
def test_hostile_files_take_steps_in_proportion_to_their_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = hostile()[name]
    moved = 0
    fill = Capture._fill

    def counted(self: Capture, keep: int) -> None:
        nonlocal moved
        before = self._chunk
        kept = self._end - keep
        fill(self, keep)
        moved += kept if self._chunk is not before else 0

    monkeypatch.setattr(Capture, "_fill", counted)
    capture = opened(data)
    for _ in capture:
        pass
    assert moved <= 8 * len(data) + (1 << 22)


def test_noise_behind_a_file_header_never_raises() -> None:
    dice = random.Random(20)
    for _ in range(300):
        noise = dice.randbytes(dice.randrange(3000))
        for head in (pcap_header(dice.choice("<>")), section() + interface(), b""):
            good = pcapng(frames(2)) if head.startswith(b"\n") else pcap(frames(2))
            data = bytearray(head + noise + good if head else good)
            for _ in range(dice.randrange(8)):
                data[dice.randrange(24, len(data))] = dice.randrange(256)
            try:
                read(opened(bytes(data)))
            except CaptureError:
                continue


def test_a_frame_is_the_same_whether_the_file_comes_at_once_or_byte_by_byte() -> None:
    class Dripping:
        def __init__(self, data: bytes) -> None:
            self.data, self.at = data, 0

        def readinto(self, into: memoryview) -> int:
            part = self.data[self.at : self.at + min(7, len(into))]
            into[: len(part)] = part
            self.at += len(part)
            return len(part)

    dice = random.Random(3)
    for make in (pcap, pcapng):
        for _ in range(60):
            data = bytearray(make(frames(30)))
            for _ in range(dice.randrange(1, 6)):
                data[dice.randrange(24 if make is pcap else 28, len(data))] = dice.randrange(256)
            at_once, dripping = opened(bytes(data)), open_capture(cast(BinaryIO, Dripping(bytes(data))))
            assert read(at_once) == read(dripping)
            assert at_once.damage == dripping.damage
