"""What `vxtool capture` does: places of a lab in, a capture file or lines out.

The rim of the program: signals, streams, what is told on stderr. How frames are got out of the kernel is in vxtool.lab.sniff.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vxtool.cli.lab.choosing import chosen
from vxtool.decode.render import printable
from vxtool.errors import UsageError
from vxtool.lab import client
from vxtool.lab.sniff import Recording, Sniffer, Statistics, Vantage, hurry
from vxtool.lab.vantages import vantages

if TYPE_CHECKING:
    from vxtool.capture import Frames

__all__ = ["run"]

DROPPED = 1
LISTED = 8
"""Most vantages that are named one by one."""

PLACE = "{place}"


def run(
    *,
    places: Sequence[str],
    to: str | None,
    split: bool,
    show: bool,
    filter: str | None,
    words: str | None,
    device: str | None,
    seconds: float | None,
    idle: float | None,
    count: int | None,
    snaplen: int | None,
    buffer: float | None,
    lab: str | None,
) -> int:
    """Captures until the end that was asked for, and returns the exit code."""
    if filter is not None and words is not None:
        raise UsageError("--filter and words behind -- are two filters: give one of them")
    _check_target(to, split, show)
    running = chosen(lab)
    at: dict[tuple[Path, str], Vantage] = {}
    for one in vantages(running, places, device):
        at.setdefault((one.namespace, one.device), one)  # under two names it is still one device
    port = client.cluster(running).data_path_port
    memory = None if buffer is None else int(buffer)
    with (
        open(os.pidfd_open(running.leader), closefd=True, buffering=0, mode="rb") as leader,
        Sniffer(list(at.values()), filter=filter if words is None else words, snaplen=snaplen or 0, buffer=memory) as sniffer,
    ):
        until = {leader.fileno(): select.POLLIN}
        recordings = [Recording(path, sniffer, place) for path, place in _files(to, split, sniffer)]
        sinks: list[Callable[[Frames], None]] = [recording.write for recording in recordings]
        if to is None or show:
            sinks.append(_lines(port))
        if to in (None, "-") or show:
            until |= _stdout()
        hurry()
        with _signals(sniffer):
            _say(f"capturing at {_listed([str(one) for one in sniffer.vantages])}")
            try:
                for frames in sniffer.frames(count=count, seconds=seconds, idle=idle, until=until):
                    for sink in sinks:
                        sink(frames)
            finally:
                for recording in recordings:
                    recording.finish()
        if select.select([leader], [], [], 0)[0]:
            _say(f"lab {running.name} has ended")
        return _tell(sniffer.statistics)


def _check_target(to: str | None, split: bool, show: bool) -> None:
    if to is None and (split or show):
        raise UsageError(f"{'--split' if split else '--print'} goes with -w FILE")
    if to == "-" and (split or show):
        raise UsageError(f"-w - writes one capture to standard output, and {'--split several' if split else '--print lines'}: give -w a name")
    if to == "-" and sys.stdout.isatty():
        raise UsageError("-w - would write a capture to this terminal: put `| wireshark -k -i -` or `| vxtool decode -` behind it")
    if to is not None and split and PLACE not in to and not to.endswith("/") and not os.path.isdir(to):
        raise UsageError(f"--split writes a file for each place: give -w a folder, or a name like 'lab-{PLACE}.pcapng'")


def _files(to: str | None, split: bool, sniffer: Sniffer) -> list[tuple[str, str | None]]:
    """Each file, and the only place whose frames are for it (None: all)."""
    if to is None:
        return []
    if not split:
        if to.lower().endswith(".pcap") and len(sniffer.places) > 1:
            raise UsageError(f"{to}: a pcap file cannot tell {len(sniffer.places)} places apart: name it .pcapng, or write one for each (--split)")
        return [(to, None)]
    if PLACE in to:
        return [(to.replace(PLACE, place), place) for place in sniffer.places]
    Path(to).mkdir(exist_ok=True)
    return [(str(Path(to, f"{place}.pcapng")), place) for place in sniffer.places]


def _lines(port: int | None) -> Callable[[Frames], None]:
    """A line for each frame, as `vxtool decode` writes it."""
    from vxtool.api import options_for
    from vxtool.decode.batch import Batch
    from vxtool.decode.text import TextSink
    from vxtool.decode.walk import DEFAULT, walk

    out = sys.stdout.buffer
    sink = TextSink(out, color=sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")
    options = options_for(DEFAULT.vxlan_ports | ({port} if port else set()))

    def write(frames: Frames) -> None:
        sink.write(Batch(frames, walk(frames, options)))
        out.flush()

    return write


def _stdout() -> dict[int, int]:
    """To notice that nobody reads standard output any more, also while there is nothing to write."""
    try:
        return {sys.stdout.fileno(): 0}
    except OSError:  # not a file
        return {}


@contextmanager
def _signals(sniffer: Sniffer) -> Iterator[None]:
    """The first signal ends the capture in good order. A second Ctrl-C ends the process: it may hang in a write to somebody who does not read."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sniffer.stop()

    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and what a shell starts in the background
                stack.callback(signal.signal, number, signal.signal(number, stop))
        yield


def _tell(statistics: Sequence[Statistics]) -> int:
    """What came of it, on stderr, and the exit code."""
    total = sum(one.frames for one in statistics)
    each = f": {_listed([f'{one.frames:,} at {one.vantage}' for one in statistics])}" if len(statistics) > 1 else f" at {statistics[0].vantage}"
    _say(f"{total:,} {'frame' if total == 1 else 'frames'}{each}")
    if gone := [str(one.vantage) for one in statistics if one.gone]:
        _say(f"{_listed(gone)} {'has' if len(gone) == 1 else 'have'} gone meanwhile")
    dropped = [one for one in statistics if one.dropped]
    if not dropped:
        return 0
    lost = _listed([f"{one.dropped:,} of {one.received:,} frames at {one.vantage}" for one in dropped])
    _say(f"dropped: {lost}; they came faster than they were written: a larger --buffer, --snaplen 128 or a filter helps")
    return DROPPED


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:LISTED]) + (f" and {len(words) - LISTED} more" if len(words) > LISTED else "")


def _say(text: str) -> None:
    click.echo(f"vxtool: {printable(text)}", err=True)
