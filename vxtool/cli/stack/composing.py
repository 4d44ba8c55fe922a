"""What the verbs of a stack have in common: --compose-file and --detach, how files are read, how it is said what is done and what is passed over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vxtool.errors import UsageError

if TYPE_CHECKING:
    from vxtool.swarm.compose import Compose

__all__ = ["STACK", "compose_option", "composed", "detach_option", "say"]

F = TypeVar("F", bound=Callable[..., Any])

compose_option = click.option(
    "-c",
    "--compose-file",
    "files",
    multiple=True,
    metavar="FILE",
    help='Path to a Compose file, or "-" to read from stdin; several times: later ones count more.',
)


def detach_option(until: str) -> Callable[[F], F]:
    """`detach`, True unless --detach=false (GoFlags), or our own --wait, is given; `until`: what is then waited for."""
    return click.option("-d/-w", "--detach/--wait", default=True, help=f"Whether to wait until {until}.  [default: not, as docker stack]")


_MOST = 16 << 20
"""Bytes that are read of a file: whoever names /dev/zero is told so."""


def composed(files: tuple[str, ...], *, substitute: bool = True) -> Compose:
    """The files as one. What is passed over is said on stderr."""
    from vxtool.swarm.compose import load

    folder = Path() if not files or files[0] == "-" else Path(files[0]).parent
    texts = [("stdin" if name == "-" else name, _text(name)) for name in files]
    compose = load(texts, os.environ, lambda name: _text(folder / name), substitute=substitute)
    for warning in compose.warnings:
        click.echo(f"{warning}\n", err=True)
    return compose


def _text(name: str | Path) -> str:
    try:
        if name == "-":
            text = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(name).open("rb") as file:
                text = file.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"open {name}: {(error.strerror or str(error)).lower()}") from None
    except ValueError:  # a zero byte
        raise UsageError(f"{str(name)!r} is no file's name") from None
    name = "stdin" if name == "-" else name
    if len(text) > _MOST:
        raise UsageError(f"{name}: more than {_MOST >> 20} MB; this is no Compose file")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: this is not UTF-8 (byte {error.start:,})") from None


def say(text: str) -> None:
    from vxtool.cli.lab.listing import shown

    click.echo(shown(text))


def _complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> Any:
    from vxtool.cli.swarming import completing
    from vxtool.swarm.stack import stacks

    return completing(lambda view: [name for name, _ in stacks(view)])(ctx, parameter, begun)


STACK = _complete
"""For the shell: names of stacks."""
