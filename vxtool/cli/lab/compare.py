"""`vxtool lab compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .choosing import lab_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vxtool.lab.compare import Comparison, Difference
    from vxtool.lab.records import Sandbox

__all__ = ["command"]

SCHEMA = "vxtool-compare@1"
SHOWN = 100
"""Characters of a value that the text shows; --json has all."""


@click.command("compare")
@click.argument("node")
@click.argument("references", nargs=-1, metavar="[REFERENCE...]")
@click.option(
    "--engine", "engines", multiple=True, metavar="PID|FILE", help="A Docker engine on this machine: dockerd's process, or its network namespace."
)
@click.option("--network", "networks", multiple=True, metavar="NAME|VNI|SUBNET", help="Only this network (again for more), and the node itself.")
@click.option("--exact", is_flag=True, help="Addresses must be equal: without it, those there are read as those here, by what they are for.")
@click.option("--all", "everything", is_flag=True, help="Also each explained difference: by default they are counted by reason.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document (schema vxtool-compare@1).")
@lab_option
def command(
    node: str,
    references: tuple[str, ...],
    engines: tuple[str, ...],
    networks: tuple[str, ...],
    exact: bool,
    everything: bool,
    as_json: bool,
    lab: str | None,
) -> int:
    """Compare the kernel state of a lab's node with one of a real Docker node, field by field.

    \b
    Examples:
      vxtool lab compare sathish-vm1 state-vm1.txt state-host1.txt
      vxtool lab compare sathish-vm1 --engine $(pidof dockerd)
      vxtool lab compare sathish-vm1 before.tar.gz      with an earlier dump of the same lab

    A REFERENCE is an archive of `vxtool lab dump`, or text: what ip -d link, ip addr, bridge fdb and so on print, under `=== NODE SANDBOX` lines or
    in a transcript. Where references tell of several nodes, the one of NODE's name is compared, else the first; the others say which remote peers
    are load balancers.

    Not compared is what a kernel or an engine counts up or draws: ids, interface numbers, timers, MAC addresses. Some differences have a reason that
    is no fault; they are told apart from those that have none.

    Exit codes: 0 nothing unexplained differs; 1 something does; 2 nothing could be done.
    """
    import json
    from pathlib import Path

    from vxtool.errors import UsageError
    from vxtool.lab import dump, records
    from vxtool.lab.client import cluster
    from vxtool.lab.compare import compare

    from .choosing import chosen

    if not references and not engines:
        raise UsageError("nothing to compare with: a file, an archive, or --engine is wanted")
    running = chosen(lab)
    known = cluster(running)
    everywhere = dump.of_lab(running)
    ours = [namespace for namespace in everywhere if namespace.node == node]
    balancers = [namespace for namespace in everywhere if namespace.node != node and namespace.name.startswith(("lb_", "ingress_sbox"))]
    if not ours or node not in known.node_by_name:
        raise UsageError(f"no node is called {node!r} (there are {', '.join(known.node_by_name)})")
    there = _belonging([sandbox for reference in references for sandbox in _reference(Path(reference))])
    for engine in engines:
        there += records.read(dump.as_text(dump.read(dump.of_engine(engine), with_json=False)))
    nodes = list(dict.fromkeys(sandbox.node for sandbox in there))
    compared = node if node in nodes else nodes[0]
    numbers = [str(vni) for name in networks for vni in (known.network_by_name[name].vnis if name in known.network_by_name else (name,))]
    comparison = compare(
        records.read(dump.as_text(dump.read(ours, with_json=False))),
        [sandbox for sandbox in there if sandbox.node == compared],
        networks=numbers,
        others_here=records.read(dump.as_text(dump.read(balancers, with_json=False))),
        others_there=[sandbox for sandbox in there if sandbox.node != compared],
        exact=exact,
    )
    if as_json:
        click.echo(json.dumps(_document(comparison), indent=1))
    else:
        for line in text(comparison, everything=everything):
            click.echo(line)
    return 1 if comparison.unexplained else 0


def _reference(path: Path) -> list[Sandbox]:
    """What a file tells, whatever kind of file it is."""
    import tarfile

    from vxtool.errors import UsageError
    from vxtool.lab import dump, records

    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    if tarfile.is_tarfile(path):
        return [sandbox for node, told in dump.in_archive(path).items() for sandbox in records.read(told, node)]
    found = records.read(path.read_text(errors="replace"))
    if not found:
        raise UsageError(f"{path}: no state of a network in it; the output of ip -d link, ip addr, bridge fdb and so on is wanted")
    return found


def _belonging(sandboxes: list[Sandbox]) -> list[Sandbox]:
    """A text without headers is a node's own namespace: the node's whose sandboxes were told of before, or else first."""
    node = next((sandbox.node for sandbox in sandboxes if sandbox.node), "")
    for sandbox in sandboxes:
        if not sandbox.node and not sandbox.name:
            sandbox.node = sandbox.name = node
        node = sandbox.node or node
    return sandboxes


def text(comparison: Comparison, *, everything: bool = False) -> Iterator[str]:
    """Lines for people: what is unexplained in full, what is explained by reason, and what was not compared."""
    from collections import Counter

    from vxtool.decode.render import printable

    for difference in comparison.unexplained:
        yield printable(_line(difference))
    reasons = Counter(difference.reason or "" for difference in comparison.explained)
    if reasons:
        yield f"{'' if not comparison.unexplained else chr(10)}explained:"
        for reason, number in reasons.most_common():
            yield f"{number:>6}  {reason}"
            if everything:
                yield from (f"        {printable(_line(difference))}" for difference in comparison.explained if difference.reason == reason)
    if comparison.ignored:
        yield "\nnot compared:"
        yield from (f"{number:>6}  {reason}" for reason, number in sorted(comparison.ignored.items(), key=lambda item: -item[1]))
    if comparison.read_as:
        yield "\nread as:"
        yield from (f"        {there} there is {here} here" for there, here in comparison.read_as.items())
    count = len(comparison.unexplained)
    verdict = f"{count:,} differ{'s' if count == 1 else ''} without a reason" if count else "nothing differs without a reason"
    yield (
        f"\n{comparison.sandboxes} namespaces on both sides, {comparison.same:,} fields are the same,"
        f" {len(comparison.explained):,} differ with a reason; {verdict}"
    )


def _line(difference: Difference) -> str:
    line = str(difference)
    return line if len(line) <= 2 * SHOWN else f"{line[: 2 * SHOWN - 3]}..."


def _document(comparison: Comparison) -> dict[str, Any]:
    def plain(differences: Sequence[Difference]) -> list[dict[str, Any]]:
        return [
            {
                "sandbox": difference.sandbox,
                "record": difference.record,
                "field": difference.field,
                "verdict": str(difference.verdict),
                "here": difference.here,
                "there": difference.there,
                "reason": difference.reason,
            }
            for difference in differences
        ]

    return {
        "schema": SCHEMA,
        "here": comparison.here,
        "there": comparison.there,
        "sandboxes": comparison.sandboxes,
        "same": comparison.same,
        "unexplained": plain(comparison.unexplained),
        "explained": plain(comparison.explained),
        "read_as": dict(comparison.read_as),
        "not_compared": dict(comparison.ignored),
    }
