"""The command line: `vxtool VERB ...`, one file a verb.

Knows how errors and exit codes look; each verb is imported when it is asked for, so that `vxtool --help` loads nothing but click.

Exit codes, everywhere: 0 fine; 1 damage in the file, or a failing check; 2 nothing could be done. 130: interrupted (128 + SIGINT, as shells count).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from vxtool import __version__
from vxtool.errors import VxtoolError

__all__ = ["Program", "Verb", "Verbs", "main", "vxtool"]

NOTHING_DONE = 2
INTERRUPTED = 130
TRACEBACK = "VXTOOL_TRACEBACK"


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a verb lives, and what the list of verbs says of it."""

    module: str
    about: str


VERBS: Mapping[str, Verb] = {
    "decode": Verb("vxtool.cli.decode", "Show what captures hold: outer headers, tunnels, inner headers, names."),
    "verify": Verb("vxtool.cli.verify", "Judge captures against what the cluster should be; verdicts with the frames that prove them."),
    "trace": Verb("vxtool.cli.trace", "Follow one inner flow through captures of several nodes: where each packet was seen, and where not."),
    "expect": Verb("vxtool.cli.expect", "Show what an expectation says, or draft one from a capture."),
    "lab": Verb("vxtool.cli.lab", "Build a cluster to look into on this machine: nodes, an underlay, overlay networks as Docker makes them."),
    "swarm": Verb("vxtool.cli.swarm", "Make a swarm of a lab's nodes, as docker swarm does."),
    "node": Verb("vxtool.cli.node", "Look at the nodes of a swarm, drain and label them, as docker node does."),
    "network": Verb("vxtool.cli.network", "Make overlay networks of a swarm and look at them, as docker network does."),
    "events": Verb("vxtool.cli.events", "Tell what happens in a swarm, as it happens."),
    "service": Verb("vxtool.cli.service", "Run services on a swarm, scale and update them, as docker service does."),
    "stack": Verb("vxtool.cli.stack", "Deploy, list and remove stacks: services and networks of a Compose file."),
    "run": Verb("vxtool.cli.run", "Run a container that belongs to no service, in an attachable network."),
    "ps": Verb("vxtool.cli.ps", "List the containers of a lab's swarm."),
    "stop": Verb("vxtool.cli.stop", "Stop containers that run has started."),
    "rm": Verb("vxtool.cli.rm", "Remove containers that run has started."),
    "capture": Verb("vxtool.cli.capture", "Capture at nodes, endpoints and links of a lab into one file."),
    "doctor": Verb("vxtool.cli.doctor", "Tell what this machine can do, what will be missing because of it, and how to get it."),
    "checks": Verb("vxtool.cli.checks", "List the checks of verify, or tell all about one."),
    "columns": Verb("vxtool.cli.columns", "List the columns that --where, --columns and the outputs know."),
    "completion": Verb("vxtool.cli.completion", "Print the completion script of a shell."),
}


class Verbs(click.Group):
    """A group whose verbs are imported when they are asked for; `verbs` tells where each one lives."""

    verbs: Mapping[str, Verb] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return None
        command = importlib.import_module(self.verbs[cmd_name].module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.about) for name, verb in self.verbs.items()])


class Program(Verbs):
    """The outermost group, and the one place where an error becomes a sentence and an exit code."""

    verbs = VERBS

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> NoReturn:
        extra.pop("standalone_mode", None)
        sys.exit(self._run(args, prog_name or "vxtool", extra))

    def _run(self, args: Sequence[str] | None, prog_name: str, extra: Mapping[str, Any]) -> int:
        # NumPy's linear algebra, which no verb needs, starts a thread per core at import: 60 ms that are felt with every small capture.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        try:
            # Not click's own main: it answers an interrupt and a broken pipe in its way before we could in ours.
            self._main_shell_completion({}, prog_name)
            with self.make_context(prog_name, list(sys.argv[1:] if args is None else args), **extra) as ctx:
                code = self.invoke(ctx)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "", err=True)
            return NOTHING_DONE
        except click.ClickException as error:
            place = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else prog_name
            return _fail(
                f"{place}: {_sentence(error.format_message())}", hint=f" (see {place} --help)" if isinstance(error, click.UsageError) else ""
            )
        except VxtoolError as error:
            return _fail(f"{prog_name}: {error}")
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has seen enough (| head). What is still buffered has nowhere to go.
            _drop_stdout()
            return 0
        except OSError as error:
            if error.errno is None or os.environ.get(TRACEBACK):
                raise
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"{prog_name}: {where}{(error.strerror or str(error)).lower()}")
        except MemoryError:
            return _fail(f"{prog_name}: the memory is exhausted; --where, --columns or --limit make the result smaller")
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            what = f"{type(error).__name__}: {error}"
            return _fail(
                f"{prog_name}: this should not have happened ({what}); please report it, with what the same command says under {TRACEBACK}=1"
            )


def _sentence(text: str) -> str:
    """Click's message in our form: one line, no capital, no full stop."""
    text = " ".join(text.split()).removesuffix(".").replace(". (Did", " (did").replace(". Did", "; did")
    return text[:1].lower() + text[1:]


def _fail(text: str, hint: str = "") -> int:
    """Tells it on stderr. The text may quote a file name or an argument: nothing in it reaches the terminal as a control character."""
    from vxtool.cli.printable import told

    click.echo(f"{told(text)}{hint}", err=True)
    return NOTHING_DONE


def _open_standard_streams() -> None:
    """What the caller has closed (`>&-`) is /dev/null: else the next file opened, a lab's socket or a capture, would be taken for standard output."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def _drop_stdout() -> None:
    """Points stdout at nothing, so that the interpreter's own flush at exit does not complain."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError):  # a stdout without a file descriptor needs none of this
        pass


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine; 1 damage in a file, or a failing check; 2 nothing could be done.",
)
@click.version_option(__version__, "-V", "--version", prog_name="vxtool", message="%(prog)s %(version)s")
def vxtool() -> None:
    """See, in captures, what a VXLAN overlay really does.

    \b
    vxtool decode node1.pcap                      one line a frame, outer and inner
    vxtool decode --summary node1.pcap            networks, VTEP pairs, talkers, checksums
    tcpdump -i eth0 -w - | vxtool decode -        live
    vxtool decode --help                          everything else

    `vxtool completion --help` tells how to have options completed by the shell.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The `vxtool` command. Never returns: it ends with the exit code of the module's docstring."""
    _open_standard_streams()
    vxtool.main(arguments, "vxtool")
