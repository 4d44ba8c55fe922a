"""`vxtool run`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from vxtool.errors import UsageError

from . import swarming
from .swarming import NETWORK, NODE, Parsed, lab_option

if TYPE_CHECKING:
    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.objects import HealthCheck, RestartPolicy, Task, TaskSpec
    from vxtool.swarm.view import View

__all__ = ["command", "follow"]

HOST = "host"
"""The image whose programs are the machine's: it is meant where the command stands behind `--`."""

REFUSED = 125
_NOT_BEGUN: Mapping[str, int] = {
    "executable file not found": 127,
    "no such file or directory": 127,
    "permission denied": 126,
    "not a directory": 126,
    "": REFUSED,
}
"""docker run's exit codes when the program has never run: what the error says -> code. They are a shell's, and one for all the rest."""

_NEITHER = "a container of the lab has no terminal and no input: run it with -d, and `vxtool lab exec NAME -- sh` opens a shell in it"
_REFUSED: Mapping[str, tuple[tuple[str, ...], bool, str]] = {
    "interactive": (("-i", "--interactive"), True, _NEITHER),
    "tty": (("-t", "--tty"), True, _NEITHER),
    "publish": (("-p", "--publish"), False, "a container of the lab publishes no ports: vxtool service create --publish does"),
    "publish_all": (("-P", "--publish-all"), True, "a container of the lab publishes no ports: vxtool service create --publish does"),
    "volume": (("-v", "--volume"), False, "the lab has no volumes: its programs see the files of this machine"),
    "mount": (("--mount",), False, "the lab has no mounts: its programs see the files of this machine"),
    "privileged": (("--privileged",), True, "vxtool lab exec --privileged runs a program with every capability in a container"),
    "ip6": (("--ip6",), False, "the lab builds no IPv6 overlays"),
    "link": (("--link",), False, "containers in one network know each other by name"),
}
"""Docker's options that mean something there and nothing here: parameter -> the flags, whether it stands alone, what is said."""


class _Run(click.Command):
    """Tells `vxtool run [OPTIONS] IMAGE ...` from `vxtool run [OPTIONS] -- COMMAND ...`: click itself forgets the two dashes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        place = len(given) - len(ctx.params.get("words", ())) - 1
        ctx.meta[__name__] = place >= 0 and given[place] == "--"
        return rest


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (flags, alone, why) in _REFUSED.items():
        function = click.option(*flags, name, is_flag=alone, hidden=True, expose_value=False, callback=_refuser(flags[-1], why))(function)
    return function


def _refuser(flag: str, why: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def refuse(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            raise UsageError(f"{flag}: {why}")

    return refuse


@click.command("run", cls=_Run, context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="IMAGE|-- [COMMAND...]")
@click.option("-d", "--detach", is_flag=True, help="In the background: prints the container's id.")
@click.option(
    "--network", "--net", "networks", multiple=True, metavar="NET", shell_complete=NETWORK, help="An attachable network; several times for several."
)
@click.option("--network-alias", "--net-alias", "aliases", multiple=True, metavar="NAME", help="A further name in the first of its networks.")
@click.option("--ip", metavar="ADDRESS", help="The address it is to have in the first of its networks.")
@click.option("--node", metavar="NODE", shell_complete=NODE, help="Where it runs.  [default: the manager's node]")
@click.option("--name", metavar="NAME", help="What it is called.")
@click.option("--rm", "remove", is_flag=True, help="Remove it when it has ended.")
@click.option("--hostname", metavar="NAME", help="Its host name.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Who it runs as.")
@click.option("-w", "--workdir", metavar="FOLDER", help="Where it starts.")
@click.option("--entrypoint", metavar="PROGRAM", help="In place of the image's program.")
@click.option("-e", "--env", "variables", multiple=True, metavar="KEY=VALUE", help="A variable of its environment; KEY alone takes yours.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Variables, one a line.")
@click.option("-l", "--label", "labels", multiple=True, type=Parsed("label"), metavar="KEY=VALUE", help="A label.")
@click.option("--add-host", "hosts", multiple=True, type=Parsed("host"), metavar="NAME:ADDRESS", help="A line of its /etc/hosts.")
@click.option("--dns", multiple=True, type=Parsed("dns_server"), metavar="ADDRESS", help="A name server in place of the node's.")
@click.option("--dns-search", multiple=True, type=Parsed("dns_search"), metavar="DOMAIN", help="A domain in which short names are looked up.")
@click.option("--dns-option", "--dns-opt", multiple=True, metavar="OPTION", help="An option of its resolv.conf.")
@click.option("-m", "--memory", type=Parsed("memory"), metavar="BYTES", help="It is killed when it takes more: 64m, 1g.")
@click.option("--cpus", type=Parsed("cpus"), metavar="N", help="Processors it may use.")
@click.option("--pids-limit", type=Parsed("integer"), metavar="N", help="Processes and threads it may have.")
@click.option("--restart", metavar="POLICY", help="no, on-failure[:N], always, unless-stopped.  [default: no]")
@click.option("--stop-signal", metavar="SIGNAL", help="What tells it to end.  [default: SIGTERM]")
@click.option("--stop-timeout", type=Parsed("number"), metavar="SECONDS", help="How long it may take to end.  [default: 10]")
@click.option("--health-cmd", metavar="COMMAND", help="What is run to see whether it is well.")
@click.option("--health-interval", type=Parsed("duration"), metavar="TIME", help="How often.  [default: 30s]")
@click.option("--health-timeout", type=Parsed("duration"), metavar="TIME", help="How long one check may take.  [default: 30s]")
@click.option("--health-start-period", type=Parsed("duration"), metavar="TIME", help="Failures at the beginning that do not count.  [default: 0s]")
@click.option("--health-retries", type=Parsed("number"), metavar="N", help="Failures in a row until it is unhealthy.  [default: 3]")
@click.option("--no-healthcheck", is_flag=True, help="No check, even if the image has one.")
@_refusing
@lab_option
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], detach: bool, node: str | None, remove: bool, lab: str | None, **given: Any) -> int:
    """Run a container that belongs to no service, in an attachable network of a lab's swarm.

    IMAGE is one of the lab's (httpd, echo); behind `--` stands any command of this machine.

    \b
    Examples:
      vxtool network create --attachable web
      vxtool run --network web --rm -- ping -c 3 10.0.1.2
      vxtool run -d --network web --name probe --node vm2 httpd
      vxtool lab exec probe -- ip address
      vxtool rm -f probe

    The exit code is the command's; 127 when it is not found, 126 when it cannot be executed, 125 when there is no container to run it in. Ctrl-C
    stops it.
    """
    if detach and remove:
        raise UsageError("--rm removes what somebody has waited for: leave out --detach, or use vxtool rm later")
    image, argv = (HOST, words) if ctx.meta[__name__] else (words[0], words[1:])
    _check(image, argv, given["entrypoint"])
    client = swarming.swarm(lab)
    view = client.view()
    place = view.node(node) if node is not None else view.manager
    if place is None:
        raise UsageError("this swarm has no manager: say with --node where the container is to run")
    task = client.run_container(_spec(view, image, argv, **given), place.id)
    if detach:
        click.echo(client.view().container_id(task))
        return 0
    return follow(client, task, remove=remove)


def _check(image: str, argv: tuple[str, ...], entrypoint: str | None) -> None:
    from vxtool.lab.images import find

    if find(image).listen is None and not (argv or entrypoint):
        raise UsageError(f"image {image} is this machine's programs, and none is named: vxtool run [OPTIONS] -- COMMAND...")


def _spec(view: View, image: str, argv: tuple[str, ...], **given: Any) -> TaskSpec:
    from vxtool.swarm.facade import random_name
    from vxtool.swarm.objects import Dns, Resources, TaskSpec

    grace = given["stop_timeout"]
    return TaskSpec(
        image=image,
        command=(given["entrypoint"],) if given["entrypoint"] else (),
        args=argv,
        env=_environment(given["variables"], given["env_files"]),
        labels=dict(given["labels"]),
        hostname=given["hostname"] or "",
        workdir=given["workdir"] or "",
        user=given["user"] or "",
        hosts=given["hosts"],
        dns=Dns(given["dns"], given["dns_search"], given["dns_option"]),
        health=_health(**{name: value for name, value in given.items() if "health" in name}),
        stop_signal=given["stop_signal"] or "",
        stop_grace=TaskSpec().stop_grace if grace is None else float(grace),
        container=given["name"] or random_name(task.spec.container for task in view.tasks.values()),
        limits=Resources(given["cpus"] or 0, given["memory"] or 0, pids=max(0, given["pids_limit"] or 0)),  # -1: no limit
        restart=_restart(given["restart"] or "no"),
        networks=_networks(view, given["networks"], given["aliases"], given["ip"]),
    )


def _networks(view: View, names: tuple[str, ...], aliases: tuple[str, ...], ip: str | None) -> Any:
    from ipaddress import IPv4Interface

    from vxtool.swarm.objects import TaskNetwork

    if not names:
        raise UsageError(
            "a container of the lab runs in an overlay network: --network NAME says in which (vxtool network create --attachable NAME makes one)"
        )
    try:
        address = IPv4Interface(ip) if ip is not None else None
    except ValueError:
        raise UsageError(f"invalid IPv4 address: {ip}") from None
    first, *more = (view.network(name).id for name in names)
    return (TaskNetwork(first, aliases, address), *map(TaskNetwork, more))


def _environment(variables: Iterable[str], files: Iterable[str]) -> tuple[str, ...]:
    from vxtool.swarm import parsing

    lines: list[str] = []
    for name in files:
        try:
            with open(name, encoding="utf-8") as file:
                lines += parsing.env_file(file.read(1 << 20), name, os.environ)
        except UnicodeDecodeError:
            raise UsageError(f"invalid env file ({name}): this is not UTF-8") from None
        except OSError as error:
            raise UsageError(f"open {name}: {(error.strerror or str(error)).lower()}") from None
    lines += [parsing.env(text, os.environ) for text in variables]
    # The last of several with one name counts; a name that has no value anywhere says nothing.
    return tuple({line.partition("=")[0]: line for line in lines if "=" in line}.values())


def _restart(policy: str) -> RestartPolicy:
    from vxtool.swarm import parsing
    from vxtool.swarm.objects import RestartCondition, RestartPolicy

    name, there, times = policy.partition(":")
    conditions = {
        "no": RestartCondition.NONE,
        "on-failure": RestartCondition.ON_FAILURE,
        "always": RestartCondition.ANY,
        "unless-stopped": RestartCondition.ANY,
    }
    if name not in conditions:
        raise UsageError(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        )
    if there and name != "on-failure":
        raise UsageError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    try:
        most = parsing.number(times) if there else 0
    except UsageError:
        raise UsageError("invalid restart policy format: maximum retry count must be an integer") from None
    return RestartPolicy(conditions[name], 0.1, most)  # the engine's first delay


def _health(no_healthcheck: bool, health_cmd: str | None, **times: Any) -> HealthCheck | None:
    from vxtool.swarm import parsing

    return parsing.health(health_cmd, none=no_healthcheck, **{name.removeprefix("health_"): value for name, value in times.items()})


# --------------------------------------------------------------------------------------------------------------------
# Until its end
# --------------------------------------------------------------------------------------------------------------------

_PERIOD = 0.2
"""Seconds between two looks at a log, when nothing happens in the swarm meanwhile."""

_STAMP = re.compile(r"^\S+Z ", re.MULTILINE)


def follow(client: SwarmClient, task: Task, *, remove: bool = False) -> int:
    """Shows what it writes until it has ended, and is not started again; its exit code."""
    from vxtool.cli import INTERRUPTED
    from vxtool.model import TaskState

    log = _Log(client, task.id)
    interrupted = False
    now: Task | None = task
    while now is not None and now.state <= TaskState.RUNNING:
        try:
            now = _known(client.wait(_PERIOD), task.spec.container)
            if now is not None and now.id != log.task:  # its restart policy has put another one in its place
                log.show(last=True)
                log = _Log(client, now.id)
            log.show()
        except KeyboardInterrupt:
            if interrupted or now is None:
                raise
            interrupted = True
            client.stop_container(now.id)
    log.show(last=True)
    if remove and now is not None:
        client.remove_container(now.id, force=True)
    return _ended(now) if now is not None and not interrupted else INTERRUPTED


def _known(view: View, name: str) -> Task | None:
    from vxtool.model import TaskState

    return next((task for task in view.tasks.values() if task.spec.container == name and task.desired < TaskState.REMOVE), None)


def _ended(task: Task) -> int:
    from vxtool.model import TaskState

    from .containers import exit_code
    from .lab.listing import shown

    code = exit_code(task)
    if code is not None:
        return code % 256
    if task.state is TaskState.SHUTDOWN:
        return 0  # somebody has stopped it
    why = task.error or task.message or task.state.name.lower()
    click.echo(f"vxtool run: {shown(why)}", err=True)
    return next(code for said, code in _NOT_BEGUN.items() if said in why.lower())


class _Log:
    """What a container writes, as it comes, without the times before its lines."""

    def __init__(self, client: SwarmClient, task: str) -> None:
        self._client = client
        self.task = task
        self._offset = 0
        self._rest = ""

    def show(self, last: bool = False) -> None:
        """Whole lines, and the rest, too, when no more will come."""
        while True:
            text, self._offset = self._client.logs(self.task, self._offset)
            lines, there, rest = (self._rest + text).rpartition("\n")
            self._rest = rest
            if there:
                click.echo(_STAMP.sub("", f"{lines}\n"), nl=False)
            if not text:
                break
        if last and self._rest:
            click.echo(_STAMP.sub("", self._rest), nl=False)
