"""The options of `service create` and `service update`: Docker's flags, as a table.

Knows each flag, its short form and how its text is read; what it changes in a service is swarm.facade's affair.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from vxtool.cli.printable import printable
from vxtool.cli.swarming import Parsed

__all__ = ["Docker", "create_options", "given", "unknown_image", "update_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Flag:
    """`parse`: of swarm.parsing; "" takes the text as it is."""

    name: str
    help: str
    parse: str = ""
    metavar: str = "TEXT"
    short: str = ""
    also: str = ""  # another name


def _policy(which: str, what: str) -> tuple[Flag, ...]:
    return (
        Flag(f"{which}-parallelism", f"Tasks {what} at once; 0: all. [default: 1]", "number", "N"),
        Flag(f"{which}-delay", f"Time between tasks that are {what}. [default: 0s]", "duration", "TIME"),
        Flag(f"{which}-monitor", "Time for which a task is watched afterwards. [default: 5s]", "duration", "TIME"),
        Flag(f"{which}-failure-action", f"pause, continue{' or rollback' if which == 'update' else ''}. [default: pause]", metavar="WHAT"),
        Flag(f"{which}-max-failure-ratio", "Which share may fail. [default: 0]", "ratio", "RATIO"),
        Flag(f"{which}-order", "stop-first or start-first. [default: stop-first]", metavar="ORDER"),
    )


_ONE = (
    Flag("mode", "replicated, global, replicated-job or global-job. [default: replicated]", metavar="MODE"),
    Flag("replicas", "How many tasks; of a job, how many completions.", "number", "N"),
    Flag("replicas-max-per-node", "At most so many tasks on a node; 0: any number.", "number", "N"),
    Flag("max-concurrent", "At most so many tasks of a job at once. [default: as --replicas]", "number", "N"),
    Flag("endpoint-mode", "vip or dnsrr. [default: vip]", metavar="MODE"),
    Flag("entrypoint", "In place of what the image runs.", "words", "COMMAND"),
    Flag("hostname", "What the container calls itself.", metavar="NAME"),
    Flag("workdir", "Where the command runs.", metavar="PATH", short="-w"),
    Flag("user", "Who runs it.", metavar="NAME|UID[:GROUP|GID]", short="-u"),
    Flag("reserve-cpu", "Processors that a node must have left.", "cpus", "DECIMAL"),
    Flag("reserve-memory", "Memory that a node must have left.", "memory", "BYTES"),
    Flag("limit-cpu", "Processors that a task may use.", "cpus", "DECIMAL"),
    Flag("limit-memory", "Memory that a task may use.", "memory", "BYTES"),
    Flag("limit-pids", "Processes that a task may have; 0: any number.", "integer", "N"),
    Flag("restart-condition", "none, on-failure or any. [default: any]", metavar="WHEN"),
    Flag("restart-delay", "Time before a task is started again. [default: 5s]", "duration", "TIME"),
    Flag("restart-max-attempts", "How often at most; 0: for ever.", "number", "N"),
    Flag("restart-window", "How far back attempts count; 0s: for ever.", "duration", "TIME"),
    *_policy("update", "updated"),
    *_policy("rollback", "rolled back"),
    Flag("stop-grace-period", "Time until a task that does not stop is killed. [default: 10s]", "duration", "TIME"),
    Flag("stop-signal", "What a task is stopped with. [default: SIGTERM]", metavar="SIGNAL"),
    Flag("health-cmd", "What tells whether a container is well.", metavar="COMMAND"),
    Flag("health-interval", "Time between two checks. [default: 30s]", "positive_duration", "TIME"),
    Flag("health-timeout", "How long one may take. [default: 30s]", "positive_duration", "TIME"),
    Flag("health-start-period", "Time at the beginning in which failures do not count. [default: 0s]", "positive_duration", "TIME"),
    Flag("health-retries", "Failures until a container is unhealthy. [default: 3]", "integer", "N"),
    Flag("log-driver", "Nodes that list log drivers must have this one.", metavar="NAME"),
)

_MANY = (
    Flag("network", "Attach to a network: NAME, or name=NAME,alias=ALIAS.", "network", "NETWORK"),
    Flag("publish", "Publish a port: PUBLISHED:TARGET[/PROTOCOL], or published=,target=,mode=host.", "ports", "PORT", "-p"),
    Flag("constraint", "Only on nodes that are so: node.role==worker.", metavar="CONSTRAINT"),
    Flag("placement-pref", "Spread over the values of a label: spread=node.labels.zone.", "preference", "PREF"),
    Flag("env", "Set a variable of the environment.", "env", "NAME=VALUE", "-e"),
    Flag("label", "Label the service.", "label", "KEY=VALUE", "-l"),
    Flag("container-label", "Label its containers.", "label", "KEY=VALUE"),
    Flag("dns", "Name server, in place of the node's.", "dns_server", "ADDRESS"),
    Flag("dns-option", "Option of the resolver.", metavar="OPTION"),
    Flag("dns-search", "Domain to search.", "dns_search", "DOMAIN"),
    Flag("host", "Line of /etc/hosts.", "host", "NAME:ADDRESS"),
    Flag("generic-resource", "Discrete resource to reserve: gpu=2.", "generic", "KIND=N"),
)

_REMOVED = {"publish": "ports", "placement-pref": "preference"}
"""What is read when a thing is to be removed; of others the text is the key."""

# fmt: off
_REFUSED_WITH_VALUE = (
    "cap-add", "cap-drop", "config", "credential-spec", "group", "health-start-interval", "isolation", "log-opt", "mount", "oom-score-adj",
    "secret", "sysctl", "ulimit",
)
# fmt: on
_REFUSED_ADD_RM = ["config", "group", "mount", "secret", "sysctl", "ulimit"]
_REFUSED_FLAGS = (("init",), ("read-only",), ("tty", "-t"))
_WITHOUT_EFFECT = ("no-resolve-image", "with-registry-auth")  # there is no registry


def _option(flag: Flag, name: str, many: bool, parse: str, help: str) -> Callable[[F], F]:
    names = [f"--{name}", *([flag.short] if flag.short and name == flag.name else [])]
    return click.option(*names, metavar=flag.metavar, type=Parsed(parse) if parse else str, multiple=many, help=help)


def _hidden(*names: str, many: bool = False, is_flag: bool = False) -> Callable[[F], F]:
    return click.option(*(name if name.startswith("-") else f"--{name}" for name in names), hidden=True, multiple=many, is_flag=is_flag)


def _all(function: F, options: list[Callable[[F], F]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


_HEALTH_NONE = click.option("--no-healthcheck", is_flag=True, help="No health check.")


def _refused(update: bool) -> list[Callable[[F], F]]:
    names = [name for name in _REFUSED_WITH_VALUE if not (update and name in _REFUSED_ADD_RM)]
    names += [f"{name}-{how}" for name in _REFUSED_ADD_RM for how in ("add", "rm") if update]
    return [
        *(_hidden(name, many=True) for name in names),
        *(_hidden(*names, is_flag=True) for names in _REFUSED_FLAGS),
        *(_hidden(name, is_flag=True) for name in _WITHOUT_EFFECT),
    ]


def create_options(function: F) -> F:
    options: list[Callable[[F], F]] = [click.option("--name", metavar="NAME", help="What the service is called. [default: two words of chance]")]
    options += [_option(flag, flag.name, False, flag.parse, flag.help) for flag in _ONE[:5]]
    options += [_option(flag, flag.name, True, flag.parse, flag.help) for flag in _MANY]
    options.append(click.option("--env-file", metavar="FILE", multiple=True, help="Variables of the environment, one a line."))
    options += [_option(flag, flag.name, False, flag.parse, flag.help) for flag in _ONE[5:]]
    return _all(function, [*options, _HEALTH_NONE, *_refused(update=False)])


def update_options(function: F) -> F:
    options: list[Callable[[F], F]] = [
        click.option("--image", metavar="IMAGE", help="What it runs."),
        click.option("--args", metavar="COMMAND", type=Parsed("words"), help="What it is called with."),
        click.option("--force", is_flag=True, help="Replace its tasks though nothing has changed."),
        click.option("--rollback", is_flag=True, help="Go back to what it was before its last update."),
    ]
    options += [_option(flag, flag.name, False, flag.parse, flag.help) for flag in _ONE if flag.name != "mode"]
    for flag in _MANY:
        options.append(_option(flag, f"{flag.name}-add", True, flag.parse, flag.help))
        options.append(_option(flag, f"{flag.name}-rm", True, _REMOVED.get(flag.name, ""), f"Take away what --{flag.name}-add has added."))
    return _all(function, [*options, _HEALTH_NONE, *_refused(update=True)])


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, for swarm.facade: variables with their values, flags only where they are set."""
    from vxtool.swarm import parsing

    told = {
        name: value  # 0 is a value, though it equals False
        for name, value in options.items()
        if value is not None and value is not False and (value != () or name in ("args", "entrypoint"))
    }
    for name in _WITHOUT_EFFECT:
        told.pop(name.replace("-", "_"), None)
    for name in ("env", "env_add"):
        if name in told:
            told[name] = [parsing.env(text, os.environ) for text in told[name]]
    if files := told.pop("env_file", None):
        told["env"] = [line for path in files for line in _variables(path)] + told.get("env", [])
    return told


def _variables(path: str) -> list[str]:
    from vxtool.swarm import parsing

    with open(path, encoding="utf-8", errors="replace") as file:
        return parsing.env_file(file.read(1 << 20), path, os.environ)


def unknown_image(image: str) -> bool:
    """Says on stderr, as Docker does of an image that no registry knows, that tasks will find it or not."""
    from vxtool.errors import UsageError
    from vxtool.lab.images import IMAGES, find

    try:
        find(image)
    except UsageError:
        shown = printable(image)
        click.echo(
            f"image {shown} could not be accessed on a registry to record\nits digest. Each node will access {shown} independently,\n"
            f"possibly leading to different nodes running different\nversions of the image.\n"
            f"(A lab has {', '.join(known.name for known in IMAGES)}, and any command of this machine after `--`.)\n",
            err=True,
        )
        return True
    return False


class Docker(click.Command):
    """A command that takes flags as Docker's do: `--detach=false` as well as `--detach`."""

    _TRUTH = re.compile(r"(--[a-z-]+)=(true|false|1|0|t|f)", re.IGNORECASE)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {name for parameter in self.params if isinstance(parameter, click.Option) and parameter.is_flag for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        matches = [(arg, self._TRUTH.fullmatch(arg)) for arg in args[:end]]
        read = [arg if match is None or match[1] not in flags else match[1] for arg, match in matches if not _is_false(match, flags)]
        return super().parse_args(ctx, read + args[end:])


def _is_false(match: re.Match[str] | None, flags: set[str]) -> bool:
    return match is not None and match[1] in flags and match[2].lower() in ("false", "0", "f")
