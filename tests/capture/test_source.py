"""Where bytes come from: files that cannot be opened, compression, damage and bombs in it, and pipes that are read as they come."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Queue
from typing import cast

import pytest
import zstandard

from tests.capture.made import Frame, enhanced, frame, frames, interface, opened, pcap, pcap_header, pcapng, read, record, section
from vxtool.capture import open_capture
from vxtool.capture.source import UNFOLDED, gunzip, unxz, unzstd
from vxtool.errors import CaptureError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": partial(lzma.compress, preset=0),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
COMPRESSIONS = pytest.mark.parametrize("kind", COMPRESS)
UNFOLD = {"gzip": gunzip, "xz": unxz, "zstd": unzstd}


def noisy_frames(count: int) -> list[Frame]:
    """Frames that do not compress, so that any part of the file matters."""
    dice = random.Random(1)
    return [one._replace(data=dice.randbytes(60)) for one in frames(count)]


# What cannot be opened


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty, not even a capture file header"),
        (b"hello, world", "not a capture: it begins with the bytes 68 65 6c 6c"),
        (b"\xd4\xc3", "not a capture: it begins with the bytes d4 c3"),
        (pcap_header()[:23], "cut off inside the file header, after 23 of 24 bytes"),
        (section()[:27], "cut off inside the file header, after 27 of 28 bytes"),
        (section()[:8] + b"ABCD" + section()[12:], "without the byte-order magic"),
        (section(version=(2, 0)), "pcapng version 2.0"),
        (gzip.compress(b"", mtime=0), "it is empty after decompression"),
        (gzip.compress(pcap(frames(9)), mtime=0)[:12], "the gzip stream is broken: it is cut off"),
        (gzip.compress(gzip.compress(pcap(frames(1)), mtime=0), mtime=0), "not a capture: it begins with the bytes 1f 8b"),
        (bz2.compress(pcap(frames(1))), "compressed with bzip2, which is not read here: decompress it first"),
    ],
)
def test_what_is_no_capture_is_refused_with_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(data)
    with pytest.raises(CaptureError) as refused:
        open_capture(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_a_directory_and_a_forbidden_file_are_refused_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CaptureError, match="no such file"):
        open_capture(tmp_path / "none.pcap")
    with pytest.raises(CaptureError, match="this is a directory"):
        open_capture(tmp_path)
    with pytest.raises(CaptureError, match="cannot be opened"):
        open_capture("a\0b")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)  # root may read everything
    with pytest.raises(CaptureError, match="you may not read this file"):
        open_capture(tmp_path / "secret.pcap")


def test_a_disk_error_in_the_middle_is_damage() -> None:
    class Failing(io.BytesIO):
        def readinto1(self, into: object) -> int:
            if self.tell() == len(self.getvalue()):
                raise OSError(5, "Input/output error")
            return super().readinto1(into)  # type: ignore[arg-type]

    capture = open_capture(Failing(pcap(frames(2))))
    assert read(capture) == frames(2)
    assert "Input/output error" in capture.damage[0].reason


@pytest.mark.parametrize(
    ("path", "vantage"),
    [("/tmp/vm1.pcap", "vm1"), ("vm1.pcapng.gz", "vm1"), ("a/vm.1.cap.xz", "vm.1"), ("x", "x"), (".pcap", ".pcap"), ("trace0.pcap0", "trace0.pcap0")],
)
def test_a_vantage_is_named_after_the_file(path: str, vantage: str) -> None:
    from vxtool.capture.reader import vantage_of

    assert vantage_of(path) == vantage


def test_size_and_position_tell_the_progress_in_bytes_of_the_file(tmp_path: Path) -> None:
    for data in (pcap(frames(1000)), gzip.compress(pcap(noisy_frames(1000)))):
        path = tmp_path / "x.pcap"
        path.write_bytes(data)
        with open_capture(path) as capture:
            assert capture.size == len(data)
            assert len(read(capture)) == 1000
            assert capture.position == len(data)
    assert opened(pcap([])).size is None


# Compression


@COMPRESSIONS
@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_compressed_capture_is_the_same_capture(kind: str, make: Callable[[list[Frame]], bytes]) -> None:
    capture = opened(COMPRESS[kind](make(frames(5000))))
    assert read(capture) == frames(5000)
    assert capture.damage == []


PADDING = {"gzip": bytes(512), "xz": bytes(8), "zstd": b"\x5a\x2a\x4d\x18\x05\0\0\0skip!"}


@COMPRESSIONS
@pytest.mark.parametrize("cut", [10, 24, 100, 2000])
def test_members_frames_and_streams_follow_one_another(kind: str, cut: int) -> None:
    data = pcap(frames(50))
    compress = COMPRESS[kind]
    parts = [compress(data[:cut]), compress(b""), compress(data[cut:])]
    capture = opened(parts[0] + parts[1] + PADDING[kind] + parts[2] + PADDING[kind])
    assert read(capture) == frames(50)
    assert capture.damage == []


@COMPRESSIONS
def test_something_else_behind_a_compressed_capture_is_damage(kind: str) -> None:
    capture = opened(COMPRESS[kind](pcap(frames(5))) + b"something else")
    assert read(capture) == frames(5)
    assert [damage.reason for damage in capture.damage] == [
        f"the {kind} stream is broken: something that is not {kind} follows its end; nothing can be read after frame 5"
    ]


@COMPRESSIONS
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_compressed_capture_that_is_cut_gives_what_is_before_the_cut(kind: str, share: float) -> None:
    made = noisy_frames(6_000)
    data = COMPRESS[kind](pcap(made))
    capture = opened(data[: int(len(data) * share)])
    got = read(capture)
    assert got[:-1] == made[: len(got) - 1]
    assert len(got) > 6_000 * share - 2500  # a compressor holds back up to a block
    assert capture.damage[-1].reason.startswith(f"the {kind} stream is broken: it is cut off")


def plain_until(kind: str, data: bytes) -> int:
    """Bytes that a witness gets out of a broken stream: another way to use the same library, a byte at a time."""
    if kind == "gzip":
        plain, one = 0, zlib.decompressobj(wbits=31)
        try:
            for at in range(len(data)):
                plain += len(one.decompress(data[at : at + 1]))
        except zlib.error:
            return plain
    if kind == "xz":
        plain, other = 0, lzma.LZMADecompressor()
        try:
            for at in range(len(data)):
                plain += len(other.decompress(data[at : at + 1]))
        except lzma.LZMAError:
            return plain
    reader = zstandard.ZstdDecompressor().stream_reader(data)
    plain = 0
    try:
        while piece := reader.read(1):
            plain += len(piece)
    except zstandard.ZstdError:
        return plain
    raise AssertionError("nothing is broken")


@COMPRESSIONS
def test_a_broken_byte_in_a_compressed_capture_costs_nothing_before_it(kind: str) -> None:
    made = noisy_frames(6_000)
    data = bytearray(COMPRESS[kind](pcap(made)))
    data[-6 if kind == "gzip" else -4 if kind == "zstd" else len(data) * 2 // 3] ^= 0xFF  # gzip, zstd: the checksum at the end
    capture = opened(bytes(data))
    got = sum(len(batch) for batch in capture)
    most = (plain_until(kind, bytes(data)) - 24) // 76
    assert most - 20 <= got <= most + 1  # xz may lose what 64 bytes held; behind the broken byte that is nonsense, and unfolds to more
    assert capture.damage[-1].reason.startswith(f"the {kind} stream is broken: ")


def test_a_gzip_stream_broken_in_the_middle_gives_all_before_it() -> None:
    made = frames(6_000)
    data = bytearray(gzip.compress(pcap(made)))
    for at in range(len(data) // 2, len(data) // 2 + 9):
        data[at] = 0xFF
    plain = b"".join(_until_broken(gunzip(iter([bytes(data)]))))
    assert len(plain) == plain_until("gzip", bytes(data))


def _until_broken(pieces: Iterator[bytes]) -> Iterator[bytes]:
    from vxtool.capture.source import Broken

    try:
        yield from pieces
    except Broken:
        return


@COMPRESSIONS
def test_a_bomb_unfolds_a_little_at_a_time(kind: str) -> None:
    size = 40_000_000
    if kind == "zstd":
        compressor = zstandard.ZstdCompressor().compressobj()
        bomb = b"".join(compressor.compress(bytes(1_000_000)) for _ in range(40)) + compressor.flush()
    elif kind == "xz":
        bomb = lzma.compress(bytes(size), preset=0)
    else:
        bomb = gzip.compress(bytes(size))
    assert len(bomb) < size / 500
    total = 0
    for piece in UNFOLD[kind](iter([bomb])):
        assert len(piece) <= UNFOLDED
        total += len(piece)
    assert total == size


def test_a_zstd_stream_that_wants_gigabytes_of_memory_is_refused() -> None:
    long = b"\x28\xb5\x2f\xfd" + bytes([0x00, 21 << 3]) + (1 | 0 << 1 | 3 << 3).to_bytes(3, "little") + b"abc"  # window of 2 GiB
    with pytest.raises(CaptureError, match="asks for more than 128 MiB of memory"):
        opened(long)


def test_an_xz_stream_that_wants_gigabytes_of_memory_is_refused() -> None:
    wanting = bytearray(lzma.compress(pcap(frames(1)), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]))
    at = wanting.index(b"\x21\x01") + 2  # block header: the filter, the size of its properties, the dictionary size (xz format, 5.3.1)
    wanting[at] = 38  # 2 GiB
    wanting[20:24] = zlib.crc32(bytes(wanting[12:20])).to_bytes(4, "little")
    with pytest.raises(CaptureError, match="memory usage limit"):
        opened(bytes(wanting))


# Pipes


def flushing(kind: str) -> Callable[[bytes], bytes]:
    """A compressor that gives out each piece at once."""
    if kind == "plain":
        return bytes
    if kind == "gzip":
        gz = zlib.compressobj(wbits=31)
        return lambda data: gz.compress(data) + gz.flush(zlib.Z_SYNC_FLUSH)
    zst = zstandard.ZstdCompressor().compressobj()
    return lambda data: zst.compress(data) + zst.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_frame_in_a_pipe_is_delivered_before_the_next_is_written(form: str, kind: str) -> None:
    outlet, inlet = os.pipe()
    delivered: Queue[int] = Queue()
    fold = flushing(kind)
    wrong: list[str] = []

    def write() -> None:
        with open(inlet, "wb", buffering=0) as pipe:
            pipe.write(fold(pcap_header() if form == "pcap" else section() + interface()))
            for number in range(50):
                pipe.write(fold(record(frame(number)) if form == "pcap" else enhanced(frame(number))))
                if delivered.get(timeout=20) != number + 1:
                    wrong.append(f"frame {number + 1} was not delivered next")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with open(outlet, "rb", buffering=0) as pipe, open_capture(pipe) as capture:
        for batch in capture:
            assert len(batch) == 1
            delivered.put(int(batch.index["frame"][0]))
    writer.join(20)
    assert not wrong
    assert capture.size is None


def test_standard_input_is_read_through_its_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    outlet, inlet = os.pipe()
    os.write(inlet, pcap(frames(3)))
    os.close(inlet)
    with open(outlet) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with open_capture("-") as capture:
            assert read(capture) == frames(3)
            assert (capture.path, capture.vantage) == ("-", "stdin")
        assert not stdin.closed


def test_a_pipe_that_nobody_waits_for_is_waited_for() -> None:
    outlet, inlet = os.pipe()
    os.set_blocking(outlet, False)

    def write() -> None:
        with open(inlet, "wb") as pipe_end:
            pipe_end.write(pcap(frames(2)))

    threading.Timer(0.05, write).start()
    with open(outlet, "rb", buffering=0) as pipe:
        assert read(open_capture(pipe)) == frames(2)


def test_a_file_object_that_can_only_read_is_enough() -> None:
    class Only:
        def __init__(self, data: bytes) -> None:
            self.read = io.BytesIO(data).read

    assert read(open_capture(cast(io.BytesIO, Only(gzip.compress(pcap(frames(3))))))) == frames(3)
