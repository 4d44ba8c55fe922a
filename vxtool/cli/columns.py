"""`vxtool columns`."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("columns")
@click.argument("words", metavar="[WORD]...", nargs=-1)
@click.option("--markdown", is_flag=True, help="As docs/columns.md.")
@click.option("--json", "as_document", is_flag=True, help="As one JSON document: name, kind, unit, words, source of each.")
def command(words: tuple[str, ...], markdown: bool, as_document: bool) -> None:
    """List the columns that --where, --columns and the outputs know.

    With WORDs, only those columns whose name or description has all of them.

    \b
    vxtool columns
    vxtool columns inner mac
    vxtool columns --markdown > columns.md
    """
    from vxtool.decode.columns import COLUMNS
    from vxtool.decode.describe import as_json, as_markdown, kind_of
    from vxtool.errors import UsageError

    if markdown and as_document:
        raise UsageError("--markdown and --json are different outputs: give one of them")
    if words and (markdown or as_document):
        raise UsageError("words choose from the list; --markdown and --json have all columns")
    if markdown:
        click.echo(as_markdown(), nl=False)
    elif as_document:
        import json

        click.echo(json.dumps(as_json(), indent=1))
    else:
        chosen = [column for column in COLUMNS if all(word.lower() in f"{column.name} {kind_of(column)} {column.about}".lower() for word in words)]
        if not chosen:
            raise UsageError(f"no column has {' and '.join(words)} in its name or description; `vxtool columns` lists them all")
        width = max(len(column.name) for column in chosen)
        for column in chosen:
            unit = f" [{column.unit}]" if column.unit else ""
            click.echo(f"{column.name:{width}}  {kind_of(column):7}  {column.about}{unit}")
