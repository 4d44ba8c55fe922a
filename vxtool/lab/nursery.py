"""Where agents come from: a process that has everything imported that they need, and forks one for each node.

Knows lines of JSON on its standard input, and forking; ends with the supervisor that started it. Agents live on: they belong to the lab's leader.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback

from vxtool.lab.agent import Agent
from vxtool.lab.resolvers import Resolvers
from vxtool.lab.saying import say

__all__ = ["main"]


def main() -> None:
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


def _fork_away(plan: dict[str, object], writer: int) -> None:
    """The agent is nobody's child here: process 1 of the lab is told when it ends."""
    if os.fork():
        os._exit(0)
    code, begun = 1, False
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(nothing, stream)
        agent = Agent(plan) if "topology" in plan else Resolvers(plan)
        os.write(writer, json.dumps({"pid": os.getpid()}).encode())
        os.close(writer)
        begun = True
        agent.run()
        code = 0
    except BaseException as error:
        if not begun:
            os.write(writer, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        say(f"agent of {plan.get('name')}", "".join(traceback.format_exception(error)))
    finally:
        os._exit(code)
