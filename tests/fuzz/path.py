"""The whole path of a capture, as `vxtool decode` takes it, over one mutant: open, scan, walk, reassemble, names, and every way of showing a row.

Raises AssertionError where a promise is broken: each frame is a row, each row is a line in every output, and what is said of a frame lies inside it.
Any other exception is a broken promise too, except CaptureError from opening: that is how a file is refused.
"""

from __future__ import annotations

import io
import json
import os
import random
from contextlib import suppress
from typing import get_args

import numpy as np

from vxtool.capture import CaptureWriter, open_capture
from vxtool.capture.frames import Frames
from vxtool.decode.batch import Batch
from vxtool.decode.columns import ROW
from vxtool.decode.decap import inner_frames
from vxtool.decode.reassemble import Reassembler
from vxtool.decode.render import CsvSink, NdjsonSink
from vxtool.decode.summary import Summary
from vxtool.decode.text import TextSink
from vxtool.decode.times import Clock
from vxtool.decode.tree import TreeSink
from vxtool.decode.walk import Options, walk
from vxtool.errors import CaptureError

__all__ = ["WholePath"]

EVERYTHING = Options(guess=True, checksums=True)
PLAIN = Options()
CLOCKS = get_args(Clock)
OFFSETS = [name for name in ROW.names or () if name.endswith("_offset") and "frag" not in name]


class Pipe(io.RawIOBase):
    """A file that cannot seek and gives as little at a time as it likes: what a pipe is."""

    def __init__(self, data: bytes, dice: random.Random) -> None:
        self._data, self._at, self._dice = data, 0, dice

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        view = memoryview(target).cast("B")  # type: ignore[arg-type]
        size = min(len(view), self._dice.choice((1, 7, 24, 100, 4096)), len(self._data) - self._at)
        view[:size] = self._data[self._at : self._at + size]
        self._at += size
        return size


class Lines:
    """What a sink writes, as one piece of bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(bytes(data))

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class WholePath:
    """Made once for many mutants: what plans are made for the columns are made once too."""

    def __init__(self) -> None:
        self._csv_out, self._json_out = Lines(), Lines()
        self._csv, self._ndjson = CsvSink(self._csv_out), NdjsonSink(self._json_out)

    def take(self, data: bytes, dice: random.Random) -> int:
        """Runs the path over one mutant; how many rows came of it."""
        source = Pipe(data, dice) if dice.random() < 0.1 else io.BytesIO(data)
        options = PLAIN if dice.random() < 0.2 else EVERYTHING
        text_out, tree_out = Lines(), Lines()
        self._csv_out.take(), self._json_out.take()  # the header, and what a mutant that failed has left
        text = TextSink(text_out, color=dice.random() < 0.2, time=dice.choice(CLOCKS))
        tree = TreeSink(tree_out, options=options, hexdump=dice.random() < 0.2, time=dice.choice(CLOCKS))
        summary, reassembler = Summary(), Reassembler(options)
        total = 0
        try:
            capture = open_capture(source)  # type: ignore[arg-type]
        except CaptureError:
            return 0
        with capture:
            for frames in capture:
                rows = walk(frames, options)
                self._check(frames, rows)
                batch = reassembler.feed(Batch(frames, rows))
                self._check(batch.frames, batch.rows)
                assert len(batch) == len(frames) > 0
                summary.add(batch)
                for sink in (text, self._csv, self._ndjson):
                    sink.write(batch)
                tree.write(batch.select(np.array(dice.choices(range(len(batch)), k=2))))  # slow: a second reading, in Python
                if dice.random() < 0.05:
                    self._decapsulate(batch, options)
                self._check_lines(text_out.take(), len(batch))
                self._check_lines(self._csv_out.take(), len(batch))
                lines = self._json_out.take()
                self._check_lines(lines, len(batch))
                json.loads(lines[lines.rfind(b"\n", 0, -1) + 1 :])
                assert _clean(tree_out.take())
                numbers = batch.rows["frame"]
                assert int(numbers[0]) == total + 1
                assert bool(np.all(np.diff(numbers) == 1))
                total += len(batch)
            for damage in capture.damage:
                assert damage.offset >= 0
                assert damage.skipped >= 0
                assert str(damage).isprintable()
        json.dumps(summary.as_json())
        assert summary.frames == total
        return total

    def _decapsulate(self, batch: Batch, options: Options) -> None:
        """The inner frames as a capture of their own."""
        inner = inner_frames(batch)
        self._check(inner, walk(inner, options))
        with CaptureWriter(os.devnull, form="pcapng") as writer, suppress(CaptureError):  # a time that no file can hold
            writer.write(inner)

    @staticmethod
    def _check(frames: Frames, rows: np.ndarray) -> None:
        """Nothing that a row says lies outside the frame."""
        assert len(rows) == len(frames)
        index = frames.index
        assert bool(np.all(index["offset"] >= 0))
        assert bool(np.all(index["offset"] + index["caplen"] <= len(frames.buffer)))
        assert bool(np.all(rows["depth"] <= 8))
        reassembled = rows["reassembled"] != 0
        for name in OFFSETS:
            assert bool(np.all((rows[name] <= index["caplen"]) | reassembled)), name
        assert bool(np.all((rows["dns_offset"].astype(np.int64) + rows["dns_len"] <= index["caplen"]) | (rows["dns_len"] == 0)))

    @staticmethod
    def _check_lines(lines: bytes, rows: int) -> None:
        assert lines.count(b"\n") == rows
        assert _clean(lines)


_CONTROL = bytes(set(range(32)) - {9, 10, 27})  # escape begins a colour


def _clean(lines: bytes) -> bool:
    """Nothing of a frame reaches a terminal as a control character, and it is UTF-8."""
    lines.decode()
    return len(lines.translate(None, _CONTROL)) == len(lines)
