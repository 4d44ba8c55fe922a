"""The report as one page: what is wrong and where, pictures, and verdicts that open to the frames that prove them.

One file without scripts, fonts or anything else from elsewhere: it can be mailed, kept with a ticket and opened from a disk. It filters and opens by
means of HTML and CSS alone, so that its Content-Security-Policy forbids scripts, and whatever a capture may carry stays text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from vxtool import __version__
from vxtool.decode.render import printable
from vxtool.verification import Verification
from vxtool.verify.check import CHECKS
from vxtool.verify.verdicts import Result, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["render"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MOST_VERDICTS = 1_000
MOST_DETAILS = 1_000_000
"""Characters of what verdicts open to; the frames of those beyond are named only, or the details are left to --json."""
LONGEST_TREE = 12_000

_KINDS = ("error", "warning", "info", "unknown", "pass")
_MARKS = {"error": "✗", "warning": "▲", "info": "ℹ", "unknown": "?", "pass": "✓"}
_HIDDEN = {"pass"}


def render(result: Verification) -> str:
    """The page, UTF-8. Everything that comes from captures and expectations is escaped."""
    ordered = sorted(result.verdicts, key=lambda verdict: _KINDS.index(_kind(verdict)))
    counts = Counter(_kind(verdict) for verdict in ordered)
    headline, place = _headline(ordered, counts)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{_text(headline)} – vxtool verify</title>",
            f"<style>{_STYLE}{_filter_rules()}</style>",
            "</head>",
            "<body>",
            f'<header class="{next((kind for kind in _KINDS[:3] if counts[kind]), "pass")}">',
            f"<h1>{_text(headline)}</h1>",
            f"<p>{_text(place)}</p>" if place else "",
            "</header>",
            "<main>",
            *_pictures(result),
            *_verdicts(result, ordered, counts),
            *_captures(result),
            *_remarks(result),
            "</main>",
            f"<footer>vxtool {_text(__version__)}, profile {_text(result.case.settings.profile)}</footer>",
            "</body>",
            "</html>",
            "",
        )
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _kind(verdict: Verdict) -> str:
    return str(verdict.severity) if verdict.result is Result.FAIL else str(verdict.result)


def _headline(ordered: list[Verdict], counts: Counter[str]) -> tuple[str, str]:
    """What is wrong, and where else."""
    if not (counts["error"] or counts["warning"]):
        doubt = f"; {counts['unknown']} could not be decided" if counts["unknown"] else ""
        return "Nothing wrong", f"{_many(counts['pass'], 'verdict')} passed{doubt}."
    worst = ordered[0]
    told = ", ".join(_many(counts[kind], kind) for kind in ("error", "warning") if counts[kind])
    nodes = dict.fromkeys(v.nodes[0] for v in ordered if v.nodes and _kind(v) in ("error", "warning"))
    checks = dict.fromkeys(v.check for v in ordered if _kind(v) in ("error", "warning"))
    where = f" at {_listed(nodes)}" if nodes else ""
    return worst.message[:300], f"{told}{where}: {_listed(checks)}."


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _listed(words: Iterable[str], most: int = 8) -> str:
    items = list(words)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


# -- pictures --------------------------------------------------------------------------------------------------------------


def _pictures(result: Verification) -> Iterator[str]:
    from vxtool import plot

    case, verdicts = result.case, result.verdicts
    yield '<section id="cluster"><h2>The cluster and its traffic</h2>'
    yield _picture("cluster", "Nodes, and frames between them", lambda: plot.cluster(case, verdicts))
    yield "</section>"
    yield '<section id="mesh"><h2>Connections per backend, by entry node</h2>'
    yield _picture("mesh", "Balance of the routing mesh", lambda: plot.mesh(case))
    yield "</section>"
    yield '<section id="timeline"><h2>Frames over time</h2>'
    yield _picture("timeline", "Frames per second by network, and where failing evidence lies", lambda: plot.timeline(case, verdicts))
    yield "</section>"
    yield "<section><details><summary><h2>Sizes and checksums</h2></summary>"
    yield _picture("sizes", "Sizes of inner packets", lambda: plot.sizes(case))
    yield _picture("checksums", "Checksum classes by place and direction", lambda: plot.checksums(case))
    yield "</details></section>"


def _picture(name: str, title: str, draw: Callable[[], Figure]) -> str:
    from vxtool import plot

    return f"<figure>{plot.svg(draw(), name, title)}</figure>"


# -- verdicts --------------------------------------------------------------------------------------------------------------


def _verdicts(result: Verification, ordered: list[Verdict], counts: Counter[str]) -> Iterator[str]:
    yield '<section id="verdicts"><h2>Verdicts</h2><div class="filter" role="group" aria-label="Show verdicts">'
    for kind in _KINDS:
        if counts[kind]:
            checked = "" if kind in _HIDDEN else " checked"
            mark = f'<span class="{kind}">{_MARKS[kind]}</span>'
            yield f'<label><input type="checkbox" id="show-{kind}"{checked}> {mark} {kind} ({counts[kind]:,})</label>'
    yield "</div>"
    yield '<table class="verdicts"><thead><tr><th>verdict</th><th>check</th><th>where</th><th>what</th></tr></thead><tbody>'
    room = MOST_DETAILS
    for verdict in ordered[:MOST_VERDICTS]:
        kind = _kind(verdict)
        about = CHECKS[verdict.check]
        where = ", ".join(verdict.nodes) or ("an unknown node" if verdict.result is Result.FAIL else "")
        yield f'<tr class="{kind}"><td class="{kind}">{_MARKS[kind]} {kind}</td>'
        yield f"<td><code>{_text(verdict.check)}</code><br><small>{_text(about.title)}</small></td><td>{_text(where)}</td><td>"
        if verdict.result is Result.FAIL and room > 0:
            body = _failure(verdict, result, room)
            room -= len(body)
            yield f"<details><summary>{_text(verdict.message)}</summary>{body}</details>"
        else:
            yield _text(verdict.message)
            if verdict.hint:
                yield f'<div class="needs">{_text(verdict.hint)}</div>'
        yield "</td></tr>"
    yield "</tbody></table>"
    if len(ordered) > MOST_VERDICTS:
        yield f"<p>{len(ordered) - MOST_VERDICTS:,} more verdicts are not on this page; <code>vxtool verify --json</code> has them all.</p>"
    yield "</section>"


def _failure(verdict: Verdict, result: Verification, room: int) -> str:
    """Everything known of one failing verdict; its frames decoded as far as there is room (characters)."""
    about = CHECKS[verdict.check]
    facts = (
        ("about", _text(verdict.subject)),
        ("expected", _text(verdict.expected)),
        ("seen", _text(verdict.seen)),
        ("cause", _text(verdict.hint)),
        ("confirm", f"<code>{_text(verdict.command)}</code>" if verdict.command else ""),
        ("meaning", _text(about.about)),
        ("known as", _text(about.problem)),
        ("source", _text(about.source)),
        ("invariants", _text(", ".join(verdict.invariants))),
    )
    out = ["<dl>", *(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value), "</dl>"]
    used = 0
    for item, line, tree in zip(verdict.evidence, result.frames(verdict), result.trees(verdict), strict=True):
        name = f"<code>{_text(item.capture)}</code> frame {item.frame:,}"
        if not tree or used + len(tree) > room:
            out.append(f'<p class="frame">{name}' + (f"<br><code>{_text(line)}</code></p>" if line else "</p>"))
            continue
        shown = tree if len(tree) <= LONGEST_TREE else tree[:LONGEST_TREE] + "\n…"
        used += len(shown)
        lines = "\n".join(_text(part) for part in shown.splitlines())
        out.append(f'<details class="frame"><summary>{name}<br><code>{_text(line)}</code></summary><pre>{lines}</pre></details>')
    return "\n".join(out)


# -- the rest --------------------------------------------------------------------------------------------------------------


def _captures(result: Verification) -> Iterator[str]:
    yield '<section id="captures"><h2>Captures</h2><table>'
    yield "<thead><tr><th>capture</th><th>frames</th><th>taken at</th><th>known from</th></tr></thead><tbody>"
    for capture, vantage in zip(result.case.table.captures, result.case.vantages, strict=True):
        where = {
            "node": f"underlay of {vantage.node}",
            "endpoint": f"sandbox of {vantage.endpoint.name if vantage.endpoint else '?'} on {vantage.node or '?'}",
            "segment": "a wire that several nodes share",
        }.get(vantage.kind, "an unknown place")
        how = (f"inferred: {vantage.note}" if vantage.note else "inferred") if vantage.inferred else "you said so"
        yield (
            f'<tr><td><code>{_text(capture.name)}</code></td><td class="number">{capture.frames:,}</td>'
            f"<td>{_text(where)}</td><td>{_text(how)}</td></tr>"
        )
    yield "</tbody></table></section>"


def _remarks(result: Verification) -> Iterator[str]:
    missing = dict.fromkeys(sentence for cluster in result.case.clusters for sentence in cluster.missing)
    parts = (
        ("Damage in the captures", [str(place) for place in result.damage]),
        ("What the expectation does not tell", list(missing)),
        ("Notes", list(result.notes)),
    )
    for title, sentences in parts:
        if sentences:
            items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences[:100])
            more = f"<li>and {len(sentences) - 100:,} more</li>" if len(sentences) > 100 else ""
            yield f"<section><h2>{title}</h2><ul>{items}{more}</ul></section>"


def _filter_rules() -> str:
    return "".join(f"main:has(#show-{kind}:not(:checked)) .verdicts tr.{kind} {{ display: none }}\n" for kind in _KINDS)


_STYLE = """
:root { color-scheme: light dark; --quiet: #666; --line: #d5d5d5; --back: #fff; --panel: #f6f6f4; --text: #1a1a1a;
  --error: #b34700; --warning: #8a6100; --info: #00639c; --pass: #00734f; --unknown: #666 }
@media (prefers-color-scheme: dark) { :root { --quiet: #a5a5a5; --line: #444; --back: #161616; --panel: #212121; --text: #ececec;
  --error: #ff8a3d; --warning: #e8b339; --info: #6cc0f5; --pass: #35c795; --unknown: #a5a5a5 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 75rem; padding: 1rem 1.25rem 3rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
header { border-left: .5rem solid var(--line); padding: .25rem 1rem; margin: .5rem 0 1.5rem; background: var(--panel) }
header.error { border-color: var(--error) } header.warning { border-color: var(--warning) }
header.pass, header.info { border-color: var(--pass) }
h1 { font-size: 1.45rem; line-height: 1.25; margin: .4rem 0 } header p { margin: .4rem 0; color: var(--quiet) }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .5rem } summary h2 { display: inline }
figure { margin: 0; overflow-x: auto } svg { display: block; width: 100%; height: auto; margin: 0 auto }
svg text { fill: currentColor; font-family: system-ui, sans-serif !important }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600; color: var(--quiet); border-bottom: 2px solid var(--line) }
td { border-bottom: 1px solid var(--line); vertical-align: top } th, td { padding: .35rem .6rem .35rem 0 }
.verdicts { table-layout: fixed } .verdicts th:nth-child(1) { width: 6.5rem } .verdicts th:nth-child(2) { width: 13.5rem }
.verdicts th:nth-child(3) { width: 9rem } small, .needs { color: var(--quiet) } .number { text-align: right; padding-right: 1.5rem }
td.error, span.error { color: var(--error); font-weight: 600 } td.warning, span.warning { color: var(--warning); font-weight: 600 }
td.info, span.info { color: var(--info) } td.pass, span.pass { color: var(--pass) } td.unknown, span.unknown { color: var(--unknown) }
.filter { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin-bottom: .6rem } summary { cursor: pointer }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem .9rem; margin: .6rem 0 }
dt { color: var(--quiet) } dd { margin: 0 }
code, pre { font: 12.5px/1.4 ui-monospace, monospace } code { white-space: pre-wrap }
pre { background: var(--panel); padding: .6rem .8rem; overflow-x: auto; margin: .3rem 0 .6rem }
.frame { border-left: 3px solid var(--line); padding-left: .6rem; margin: .4rem 0 }
footer { margin-top: 2rem; color: var(--quiet); font-size: .85rem } ul { padding-left: 1.2rem }
@media (max-width: 48rem) { .verdicts thead { display: none } .verdicts td { display: block; border: 0 }
  .verdicts tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0 } }
@media print { body { max-width: none; font-size: 10pt } .filter { display: none } section, tr, figure { break-inside: avoid }
  #verdicts { break-inside: auto } pre { white-space: pre-wrap } details::details-content { content-visibility: visible; display: block } }
"""
