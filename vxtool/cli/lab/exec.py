"""`vxtool lab exec`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vxtool.cli.units import SIZE

from .choosing import lab_option

if TYPE_CHECKING:
    from vxtool.lab.places import Place
    from vxtool.lab.programs import Limits
    from vxtool.lab.registry import Running

__all__ = ["command", "located", "program_options", "what_and_how"]

F = TypeVar("F", bound=Callable[..., Any])

_MOST_CPUS = 8192  # CONFIG_NR_CPUS is never more


def program_options(function: F) -> F:
    """What can be said of a program, for every verb that starts one."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option(
        "-u",
        "--user",
        metavar="USER[:GROUP]",
        help="Who it runs as. Root is root: the machine's files are there.  [default: root at a node, nobody (65534) in an endpoint]",
    ),
    click.option("--privileged", is_flag=True, help="As root with every capability, in an endpoint too: to change links, to capture."),
    click.option("-w", "--workdir", metavar="FOLDER", help="Where it starts.  [default: where you are, if its user may be there; else /]"),
    click.option("-e", "--env", "variables", multiple=True, metavar="KEY=VALUE", help="A variable of its environment; several times for several."),
    click.option("-m", "--memory", type=SIZE, metavar="SIZE", help="It is killed when it takes more: 64MB, 1GB (swap included)."),
    click.option("--cpus", type=click.FloatRange(0.01), metavar="N", help="Processors it may use: 0.5 is half the time of one."),
    click.option("--pids", type=click.IntRange(1), metavar="N", help="Processes and threads it may have."),
)


def what_and_how(given: dict[str, Any]) -> dict[str, Any]:
    """The options as vxtool.lab.programs has them."""
    from vxtool.errors import UsageError
    from vxtool.lab.programs import Limits

    env = {}
    for text in given["variables"]:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--env {text!r}: KEY=VALUE is wanted")
        env[name] = value
    if given["cpus"] is not None and not given["cpus"] <= _MOST_CPUS:  # nan is not, either
        raise UsageError(f"--cpus {given['cpus']:g}: a number from 0.01 to {_MOST_CPUS:,} is wanted")
    limits: Limits = Limits(None if given["memory"] is None else int(given["memory"]), given["cpus"], given["pids"])
    return {"user": given["user"], "privileged": given["privileged"], "workdir": given["workdir"], "env": env, "limits": limits}


def located(lab: str | None, where: str) -> tuple[Running, Place]:
    from vxtool.lab.places import find

    from .choosing import chosen

    running = chosen(lab)
    return running, find(running, where)


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("where", metavar="WHERE")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND...")
@click.option("-d", "--detach", is_flag=True, help="In the background: prints its number; its output goes to a log.")
@program_options
@click.option("-i", "--interactive", is_flag=True, hidden=True, help="Always so; accepted because docker exec wants it.")
@click.option("-t", "--tty", is_flag=True, hidden=True, help="Always so at a terminal; accepted because docker exec wants it.")
@lab_option
def command(where: str, argv: tuple[str, ...], detach: bool, lab: str | None, **given: Any) -> int:
    """Run a command at a node, in an endpoint, or in any other place of a lab.

    WHERE is a node (vm1), an endpoint (web.1), the overlay sandbox of a network on a node (web@vm1), a link's end (vm1-s1) or a namespace's own name.
    In an endpoint, programs share processes, mounts and host name, as in a container; at a node they see all of the lab.

    \b
    Examples:
      vxtool lab exec web.1 -- ping -c 3 10.0.1.4
      vxtool lab exec web@sathish-vm1 -- bridge fdb show dev vxlan0
      vxtool lab exec --detach web.1 -- python3 -m http.server 80
      echo hello | vxtool lab exec web.2 -- nc 10.0.1.3 7
      vxtool lab exec --privileged web.1 -- tcpdump -ni eth0

    The exit code is the command's: 128+N when signal N ended it, 126 when it cannot be executed, 127 when it is not found; 2 when the place cannot be
    entered. A command ends, with all it has started, when vxtool does; a detached one when it wants, by `kill`, or with the lab.
    """
    from vxtool.lab import programs

    from . import terminal

    if argv[0] == "--":
        argv = argv[1:]
    how = what_and_how(given)
    running, place = located(lab, where)
    if detach:
        program = programs.detach(running, place, argv, **how)
        click.echo(f"{program.number}")
        click.echo(f"it writes to {program.log}; kill {program.pid} ends it", err=True)
        return 0
    if terminal.available():
        return terminal.run(lambda **streams: programs.start(running, place, argv, **how, **streams))
    return terminal.follow(programs.start(running, place, argv, **how))
