"""`vxtool completion SHELL`."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  vxtool completion bash > ~/.local/share/bash-completion/completions/vxtool
    zsh:   vxtool completion zsh > "${fpath[1]}/_vxtool"
    fish:  vxtool completion fish > ~/.config/fish/completions/vxtool.fish

    For this shell only: eval "$(vxtool completion bash)". A new shell then completes verbs, options and their values with the Tab key.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # the argument's choices are those that click knows
    writer = kind(ctx.find_root().command, {}, "vxtool", "_VXTOOL_COMPLETE")
    click.echo(writer.source_template % writer.source_vars())
