"""Lines of a session: put together from pieces, and from strangers no more than they need."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vxtool.swarm.sessions import BEFORE_OPEN, Lines, line


def test_messages_come_out_whole_however_they_are_cut() -> None:
    messages: list[dict[str, Any]] = [{"beat": True}, {"report": [["t", 1, "é", ""]]}, {"bye": True}]
    stream = b"".join([line(message) for message in messages])
    for size in (1, 2, 7, len(stream)):
        lines = Lines()
        assert [told for begin in range(0, len(stream), size) for told in lines.feed(stream[begin : begin + size])] == messages


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 50_000, b"[1]", b"{}", b"\xff", b"", b"{"])
def test_what_is_no_message_is_a_value_error_however_deep_it_is(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(Lines().feed(text + b"\n"))


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_a_stranger_has_its_bound(end: bytes) -> None:
    lines = Lines(BEFORE_OPEN)
    for _ in range(BEFORE_OPEN // 1024):
        assert not list(lines.feed(b"x" * 1024))
    with pytest.raises(ValueError, match="a line"):
        list(lines.feed(b"x" + end))


def test_several_lines_at_once_are_no_long_line() -> None:
    lines = Lines(100)
    assert len(list(lines.feed(line({"beat": True}) * 50))) == 50


def test_a_long_line_in_small_pieces_is_searched_once() -> None:
    lines, begun = Lines(), time.process_time()
    for _ in range(16_000):
        assert not list(lines.feed(b"x" * 1024))
    assert time.process_time() - begun < 2.0
