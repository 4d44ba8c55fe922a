"""Verbs of `docker swarm` that have nothing to act upon in a lab: there they are, and say why."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.swarming import lab_option
from vxtool.errors import UsageError

__all__ = ["refusing"]


def refusing(name: str, sentence: str) -> click.Command:
    def refuse(**_: Any) -> None:
        raise UsageError(sentence)

    return click.command(
        name,
        context_settings={"ignore_unknown_options": True},
        params=[click.Argument(["anything"], nargs=-1, type=click.UNPROCESSED)],
        help=f"Refused: {sentence}.\n\n\b\nvxtool swarm {name}",
    )(lab_option(refuse))
