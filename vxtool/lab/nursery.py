"""Where agents come from: a process that has everything imported that they need, and forks one for each node; and who clears away after them.

Knows lines of JSON on its standard input, and forking; ends with the supervisor that started it. Agents live on: they belong to the lab's leader.

    {"name": NODE, "topology": ...}        an agent begins
    {"name": "resolvers", "folder": ...}   the resolvers do
    {"end": NODE, "folder": ...}           the node's containers are killed, whatever their grace periods
    {"clear": NODE, "folder": ...}         and what its agent had made is taken away, now that it has ended
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any, Protocol

from vxtool.errors import LabError, VxtoolError
from vxtool.lab import agents, containers, namespaces
from vxtool.lab.agent import Agent, cleared
from vxtool.lab.resolvers import Resolvers
from vxtool.lab.saying import say

__all__ = ["main"]


class _Child(Protocol):
    def run(self) -> None: ...


def main() -> None:
    # Of each task an agent has three files open; a shell's usual 1,024 would be the end of a node with 300 tasks.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()  # what is here now is never garbage, and stays shared with all who are forked
    gc.enable()
    for line in sys.stdin.buffer:
        plan = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _fork_away(plan, writer)
        os.close(writer)
        os.waitpid(child, 0)
        with open(reader) as pipe:
            answer = pipe.read()
        os.write(1, (answer or '{"error": "it ended at once"}').encode() + b"\n")


def _fork_away(plan: dict[str, Any], writer: int) -> None:
    """The agent is nobody's child here: process 1 of the lab is told when it ends."""
    if os.fork():
        os._exit(0)
    code, begun = 1, False
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(nothing, stream)
        child = _begin(plan)
        os.write(writer, json.dumps({"pid": os.getpid()}).encode())
        os.close(writer)
        begun = True
        if child is not None:
            child.run()
        code = 0
    except BaseException as error:
        if not begun:
            text = str(error) if isinstance(error, VxtoolError) else f"{type(error).__name__}: {error}"
            os.write(writer, json.dumps({"error": text}).encode())
        say(f"agent of {plan.get('name') or plan.get('clear') or plan.get('end')}", "".join(traceback.format_exception(error)))
    finally:
        os._exit(code)


def _begin(plan: dict[str, Any]) -> _Child | None:
    """Who is to run from now on; None when all is done."""
    if "end" in plan:
        containers.end_recorded(Path(plan["folder"]).parent, plan["end"])
        return None
    if "clear" in plan:
        _clear(Path(plan["folder"]), plan["clear"])
        return None
    return Agent(plan) if "topology" in plan else Resolvers(plan)


def _clear(folder: Path, node: str) -> None:
    """As an agent that begins, and ends at once. LabError when something cannot be taken away, or an agent is there."""
    record = folder / "agents" / node
    if agents.lock(record.with_name(f"{node}.lock")) is None:
        raise LabError(f"an agent of {node} runs")
    namespaces.setns(os.open(namespaces.NETNS / node, os.O_RDONLY | os.O_CLOEXEC))
    cleared(folder, node)
