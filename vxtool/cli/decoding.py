"""What `vxtool decode` does: sources and filters in, one kind of output out.

The rim of the program: standard streams, the terminal, the progress bar. What is in a frame is decided in vxtool.decode, and how it looks as well.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from vxtool.api import Decoding, options_for
from vxtool.decode.render import choose, printable
from vxtool.decode.walk import DEFAULT
from vxtool.errors import UsageError

if TYPE_CHECKING:
    from vxtool.capture.frames import Damage
    from vxtool.decode.batch import Batch
    from vxtool.decode.filters import Filter
    from vxtool.decode.render import Sink
    from vxtool.decode.times import Clock

__all__ = ["run"]

DAMAGED = 1
MOST_SENTENCES = 20
"""Places of damage told one by one; a file of noise has thousands."""

_PATIENCE = 1.0
"""Seconds before a progress bar is shown."""


def run(
    *,
    captures: Sequence[str],
    filters: Mapping[str, Any],
    limit: int | None,
    port: Sequence[str],
    guess: bool,
    checksums: bool,
    reassemble: bool,
    **output: Any,
) -> int:
    """Decodes, writes, and returns the exit code."""
    kind = _kind_of_output(**output)
    options = options_for(_ports(port), guess=guess, checksums=checksums or kind == "summary")
    if captures.count("-") > 1:
        raise UsageError("standard input (-) can be read once only")
    if kind == "w" and reassemble and not output["decap"]:
        raise UsageError("-w writes frames as they were captured; --reassemble goes with it for inner frames only (--decap)")
    sources = [_source(capture) for capture in captures]
    with Decoding(sources, options=options, wanted=_filter(filters), reassemble=reassemble, limit=limit, reuse=True) as decoding:
        OUTPUTS[kind](decoding, output)
        _tell(decoding.damage, decoding.faulty)
        return DAMAGED if decoding.damage or decoding.faulty else 0


# --------------------------------------------------------------------------------------------------------------------
# Arguments
# --------------------------------------------------------------------------------------------------------------------


def _kind_of_output(
    *,
    verbose: int,
    summary: bool,
    json: bool,
    ndjson: bool,
    csv: bool,
    parquet: str | None,
    write: str | None,
    columns: str | None,
    decap: bool,
    time: str | None,
    color: str,
) -> str:
    """The one output that was asked for. UsageError for two of them, and for an option that would have no effect."""
    asked = {"-v": verbose > 0, "--json": json, "--ndjson": ndjson, "--csv": csv, "--parquet": parquet is not None, "-w": write is not None}
    chosen = [option for option, given in asked.items() if given]
    if summary and any(option != "--json" for option in chosen):
        raise UsageError(
            f"--summary does not go with {' and '.join(option for option in chosen if option != '--json')}: it is text, or JSON with --json"
        )
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are different outputs: give one of them")
    kind = "summary" if summary else chosen[0].strip("-") if chosen else "text"
    effects = {
        "--columns": (columns is not None, ("json", "ndjson", "csv", "parquet")),
        "--decap": (decap, ("w",)),
        "--time": (time is not None, ("text", "v")),
    }
    for option, (given, kinds) in effects.items():
        if given and kind not in kinds:
            with_what = " or ".join("text output" if name == "text" else f"-{name}" if len(name) == 1 else f"--{name}" for name in kinds)
            raise UsageError(f"{option} goes with {with_what}")
    return kind


def _filter(given: Mapping[str, Any]) -> Filter | None:
    """The filter these options ask for: arguments of build_filter, empty or None where not given."""
    if not any(value or value == "" for value in given.values()):
        return None
    from vxtool.decode.filters import build_filter

    return build_filter(**given)


def _source(argument: str) -> tuple[str | None, str]:
    """FILE or NAME=FILE; a file whose own name has a "=" is taken as it is."""
    name, equals, path = argument.partition("=")
    if not equals or not name or not path or "/" in name or os.path.exists(argument):
        return None, argument
    return name, path


def _ports(arguments: Sequence[str]) -> frozenset[int] | None:
    """--port 4444 replaces the VXLAN ports, --port +4444 adds to them; both together replace and add."""
    replaced: set[int] = set()
    added: set[int] = set()
    for argument in (part.strip() for value in arguments for part in value.split(",")):
        digits = argument.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536):
            raise UsageError(f"--port: {argument!r} is not a port (1 to 65535, with + in front to keep the default ports too)")
        (added if argument.startswith("+") else replaced).add(int(digits))
    if not replaced and not added:
        return None
    return frozenset((replaced or DEFAULT.vxlan_ports) | added)


def _columns(columns: str | None) -> list[str] | None:
    names = None if columns is None else [name for part in columns.split(",") if (name := part.strip())]
    if names == []:
        raise UsageError("--columns: the list is empty")
    choose(names)
    return names


# --------------------------------------------------------------------------------------------------------------------
# Outputs: one function each
# --------------------------------------------------------------------------------------------------------------------


def _lines(make: Callable[[BinaryIO, dict[str, Any], Decoding], Sink]) -> Callable[[Decoding, dict[str, Any]], None]:
    """An output that goes to stdout while frames come in."""

    def write(decoding: Decoding, output: dict[str, Any]) -> None:
        out = sys.stdout.buffer
        sink = make(out, output, decoding)
        for batch in _watched(decoding, silent=sys.stdout.isatty()):
            sink.write(batch)
            out.flush()  # a batch is what has arrived: whoever reads our output live waits for it
        sink.finish(decoding.damage)
        out.flush()

    return write


def _text(out: BinaryIO, output: dict[str, Any], _: Decoding) -> Sink:
    from vxtool.decode.text import TextSink

    return TextSink(out, color=_colored(output["color"]), time=output["time"] or "relative")


def _tree(out: BinaryIO, output: dict[str, Any], decoding: Decoding) -> Sink:
    from vxtool.decode.tree import TreeSink

    clock: Clock = output["time"] or "absolute"
    return TreeSink(out, options=decoding.options, hexdump=output["verbose"] > 1, color=_colored(output["color"]), time=clock)


def _csv(out: BinaryIO, output: dict[str, Any], _: Decoding) -> Sink:
    from vxtool.decode.render import CsvSink

    return CsvSink(out, _columns(output["columns"]))


def _ndjson(out: BinaryIO, output: dict[str, Any], _: Decoding) -> Sink:
    from vxtool.decode.render import NdjsonSink

    return NdjsonSink(out, _columns(output["columns"]))


def _json(out: BinaryIO, output: dict[str, Any], decoding: Decoding) -> Sink:
    from vxtool.decode.render import JsonSink

    return JsonSink(out, _columns(output["columns"]), captures=[(capture.path, capture.vantage) for capture in decoding.captures])


def _summary(decoding: Decoding, output: dict[str, Any]) -> None:
    from vxtool.decode.summary import Summary

    summary = Summary()
    for batch in _watched(decoding):
        summary.add(batch)
    if output["json"]:
        import json

        from vxtool.cli.tables import as_document

        json.dump(as_document(summary, decoding), sys.stdout, indent=1)
        click.echo()
    else:
        from vxtool.cli.tables import show

        show(summary, decoding, color=_colored(output["color"]))


def _parquet(decoding: Decoding, output: dict[str, Any]) -> None:
    from vxtool.decode.parquet import ParquetSink

    path = output["parquet"]
    for capture in decoding.captures:
        if os.path.exists(path) and os.path.exists(capture.path) and os.path.samefile(path, capture.path):
            raise UsageError(f"{path}: this is the capture being read: write to another file")
    with ParquetSink(path, _columns(output["columns"])) as sink:
        for batch in _watched(decoding):
            sink.write(batch)
        sink.finish(decoding.damage)


def _capture(decoding: Decoding, output: dict[str, Any]) -> None:
    from vxtool.capture import CaptureWriter
    from vxtool.decode.decap import inner_frames

    with CaptureWriter(output["write"], inputs=[capture.path for capture in decoding.captures]) as writer:
        for batch in _watched(decoding):
            writer.write(inner_frames(batch) if output["decap"] else batch.frames)
        if output["decap"] and (without := decoding.frames_matched - writer.frames):
            click.echo(
                f"vxtool: {without:,} of {decoding.frames_matched:,} matching frames carry no inner Ethernet frame and were left out", err=True
            )


OUTPUTS: dict[str, Callable[[Decoding, dict[str, Any]], None]] = {
    "text": _lines(_text),
    "v": _lines(_tree),
    "csv": _lines(_csv),
    "ndjson": _lines(_ndjson),
    "json": _lines(_json),
    "parquet": _parquet,
    "summary": _summary,
    "w": _capture,
}


# --------------------------------------------------------------------------------------------------------------------
# The terminal
# --------------------------------------------------------------------------------------------------------------------


def _colored(choice: str) -> bool:
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _watched(decoding: Decoding, *, silent: bool = False) -> Iterator[Batch]:
    """The batches, and a progress bar on stderr while they take long. silent: the output itself scrolls by on the terminal."""
    if silent or not sys.stderr.isatty():
        yield from decoding
        return
    begun = time.monotonic()
    with ExitStack() as stack:
        advance: Callable[[], None] | None = None
        for batch in decoding:
            yield batch
            if advance is not None:
                advance()
            elif time.monotonic() - begun > _PATIENCE:
                advance = stack.enter_context(_progress(decoding))


@contextmanager
def _progress(decoding: Decoding) -> Iterator[Callable[[], None]]:
    """A bar over the bytes of all files; without its end when one of them is a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    sizes = [capture.size for capture in decoding.captures]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = (TextColumn("{task.fields[frames]} frames"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, frames="")

        def advance() -> None:
            bar.update(task, completed=sum(capture.position for capture in decoding.captures), frames=f"{decoding.frames_read:,}")

        advance()
        yield advance


def _tell(damage: Sequence[Damage], faulty: int) -> None:
    """On stderr, what the exit code 1 is about."""
    for place in damage[:MOST_SENTENCES]:
        click.echo(f"vxtool: {printable(str(place))}", err=True)
    if len(damage) > MOST_SENTENCES:
        click.echo(f"vxtool: {len(damage) - MOST_SENTENCES:,} more places of damage; --json lists them all", err=True)
    if faulty:
        frames = "1 frame is" if faulty == 1 else f"{faulty:,} frames are"
        click.echo(
            f"vxtool: {frames} truncated or malformed: --where \"stop in ('truncated', 'malformed')\" shows {'it' if faulty == 1 else 'them'}",
            err=True,
        )
