"""Flags that may be given a value, as Go's can: `--attachable=true`, `--autolock=false`.

Knows Go's words for true and false and how Click names a flag; no command. A flag takes no word after it: `--ipv6 web` is a flag and an argument.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from vxtool.errors import UsageError

__all__ = ["GoFlags"]

_BOOLEANS = {word: value for value, words in ((True, "1 t T true True TRUE"), (False, "0 f F false False FALSE")) for word in words.split()}


class GoFlags(click.Command):
    """For commands whose arguments are not another command's words. A flag that can be off by itself is declared `--ipv4/--no-ipv4`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._without_values(args)))

    def _without_values(self, words: list[str]) -> Iterator[str]:
        flags = {name: param for param in self.params if isinstance(param, click.Option) and param.is_flag for name in param.opts}
        for place, word in enumerate(words):
            name, there, value = word.partition("=")
            if word == "--":
                yield from words[place:]
                return
            if not there or name not in flags:
                yield word
            elif value not in _BOOLEANS:
                raise UsageError(f'invalid argument "{value}" for "{name}" flag: strconv.ParseBool: parsing "{value}": invalid syntax')
            elif _BOOLEANS[value]:
                yield name
            elif flags[name].secondary_opts:
                yield flags[name].secondary_opts[0]
