"""`vxtool service create`."""

from __future__ import annotations

from typing import Any

import click

from vxtool.cli.swarming import lab_option

from .converging import detach_option, quiet_option
from .options import Docker, create_options, given, unknown_image

__all__ = ["command"]

HOST = "host"
"""The image that is the machine itself: what stands after `--` runs in it."""

_MARK = "\0"
"""No argument of a process can be so: it stands for what click takes away, a `--` before the first argument."""


class _Create(Docker):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--") + 1
            args = [*args[:place], _MARK, *args[place:]]
        return super().parse_args(ctx, args)


@click.command(
    "create",
    cls=_Create,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@click.argument("words", metavar="IMAGE [COMMAND] [ARG...] | -- COMMAND [ARG...]", nargs=-1, type=click.UNPROCESSED)
@create_options
@detach_option
@quiet_option
@lab_option
def command(words: tuple[str, ...], name: str | None, detach: bool, quiet: bool, lab: str | None, **options: Any) -> int:
    """Create a service, and wait until all its tasks run.

    An image is a name of the lab's table: httpd and echo come with vxtool. After `--` stands any command of this machine instead.

    \b
    Examples:
      vxtool service create --name web --network web --publish 80:80 --replicas 6 httpd
      vxtool service create --name ticker -- sh -c 'while sleep 1; do date; done'
      vxtool service create --mode global --constraint node.labels.zone==eu echo
    """
    from vxtool.cli.swarming import swarm
    from vxtool.errors import UsageError
    from vxtool.swarm.facade import Services

    from .converging import wait_for

    if words[:1] == (_MARK,):
        words = (HOST, *words[1:])
    words = tuple(word for word in words if word != _MARK)
    if not words or words == (HOST,):
        raise UsageError("vxtool service create requires at least 1 argument: an image, or -- and a command")
    image, *args = words
    told = given(options)
    if args:
        told["args"] = args
    client = swarm(lab)
    service = Services(client).create(name, image=image, **told)
    if not options["no_resolve_image"]:
        unknown_image(image)
    click.echo(service.id)
    return 0 if detach else wait_for(client, service.id, quiet)
