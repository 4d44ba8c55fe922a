"""`vxtool lab shell`."""

from __future__ import annotations

import os
from typing import Any

import click

from .choosing import lab_option
from .exec import located, program_options, what_and_how

__all__ = ["command"]


@click.command("shell")
@click.argument("where", metavar="WHERE")
@program_options
@lab_option
def command(where: str, lab: str | None, **given: Any) -> int:
    """Open a shell at a node, in an endpoint, or in any other place of a lab.

    It is the shell that $SHELL names, else bash; its prompt tells the place. WHERE and the exit code are those of `vxtool lab exec`.

    \b
    Examples:
      vxtool lab shell sathish-vm1
      vxtool lab shell web.1
      vxtool lab shell --privileged web.1          to change links, to capture
      echo 'ip route' | vxtool lab shell web.1
    """
    from vxtool.lab import programs

    from . import terminal

    how = what_and_how(given)
    running, place = located(lab, where)
    argv, variables = _shell(os.environ.get("SHELL") or "/bin/bash", place.name)
    how["env"] = variables | how["env"]
    if terminal.available():
        return terminal.run(lambda **streams: programs.start(running, place, argv, **how, **streams))
    return terminal.follow(programs.start(running, place, argv, **how))


def _shell(shell: str, place: str) -> tuple[list[str], dict[str, str]]:
    """How it is called so that its prompt tells the place. The caller's start-up file would set another, and in an endpoint is not its user's."""
    prompt = f"[{place}]"
    match os.path.basename(shell):
        case "bash":
            return [shell, "--norc", "--noprofile"], {"SHELL": shell, "PS1": f"\\[\\e[1m\\]{prompt}\\[\\e[0m\\] \\w\\$ "}
        case "zsh":
            return [shell, "-f"], {"SHELL": shell, "PS1": f"%B{prompt}%b %~%# "}
        case _:
            return [shell], {"SHELL": shell, "PS1": f"{prompt} $ "}
