"""YAML as Compose files have it: anchors, aliases and merge keys, and each value with the line it was written in.

Knows YAML and no key of a Compose file. The files come from strangers: an alias shares its value, and what the document would unfold to is counted
before anything walks it; texts are what they look like to a Go program (`no`, `22:22` and `2026-11-28` are texts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from vxtool.errors import UsageError

if TYPE_CHECKING:
    import yaml

__all__ = ["Data", "Value", "parse"]

DEPTH_LIMIT = 64
VALUES_LIMIT = 100_000
"""Values of a document with its aliases unfolded: what later steps have to walk."""
TEXT_LIMIT = 4 << 20
_EXCESSIVE = f"document contains excessive aliasing or too much else: more than {VALUES_LIMIT:,} values"

Data = None | bool | int | float | str | tuple["Value", ...] | Mapping[str, "Value"]


@dataclass(frozen=True, slots=True)
class Value:
    data: Data
    line: int  # from 1; of a mapping's member, where its key stands
    size: int = 1  # values in it and below, aliases unfolded
    depth: int = 1
    substituted: bool = False  # a text in which a variable was put in: it may stand for a number

    def plain(self) -> object:
        """Without the lines: what `json` and `yaml` write."""
        if isinstance(self.data, tuple):
            return [item.plain() for item in self.data]
        if isinstance(self.data, Mapping):
            return {key: member.plain() for key, member in self.data.items()}
        return self.data


def parse(text: str, source: str) -> Value:
    """The one document of a YAML text. UsageError with `source` and the line for whatever is not one."""
    import yaml

    if len(text) > TEXT_LIMIT:
        raise UsageError(f"{source}: {len(text):,} characters; a Compose file has at most {TEXT_LIMIT:,}")
    reading = _Reading(source)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            reading.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{source}{at}: this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise UsageError(f"{source}: this is not YAML: {str(error).splitlines()[0]}") from None
    return reading.document or Value(None, 1)


@dataclass(slots=True)
class _Open:
    """A list or a mapping whose end has not come yet."""

    line: int
    anchor: str | None
    is_mapping: bool
    items: list[Value] = field(default_factory=list)
    members: dict[str, Value] = field(default_factory=dict)
    merged: list[Value] = field(default_factory=list)
    key: str | None = None  # the one that waits for its value
    key_line: int = 0
    key_merges: bool = False


class _Reading:
    def __init__(self, source: str) -> None:
        self.source = source
        self.document: Value | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, Value] = {}
        self._count = 0  # keys, values and ends: a file too long is not read to its end

    def take(self, event: yaml.Event) -> None:
        import yaml

        line = event.start_mark.line + 1 if event.start_mark else 1
        self._count += 1
        if self._count > VALUES_LIMIT:
            self._refuse(line, _EXCESSIVE)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                if any(one.anchor == event.anchor for one in self._open):
                    self._refuse(line, f"anchor '{event.anchor}' value contains itself")
                self._refuse(line, f"unknown anchor '{event.anchor}' referenced")
            self._add(self._anchors[event.anchor], line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._kind(event.tag, line)
            if self._waits_for_key():
                self._refuse(line, f"non-string key {self._where()}: a {'mapping' if isinstance(event, yaml.MappingStartEvent) else 'list'}")
            if len(self._open) >= DEPTH_LIMIT:
                self._refuse(line, f"nested deeper than {DEPTH_LIMIT} levels")
            self._open.append(_Open(line, event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if event.anchor:
                self._anchors.pop(event.anchor, None)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            ended = self._open.pop()
            self._keep(ended.anchor, value := self._closed(ended))
            self._add(value, ended.line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        data = _resolved(event.value) if event.implicit[0] and self._kind(event.tag, line) != "str" else event.value
        if self._waits_for_key():
            here = self._open[-1]
            if not isinstance(data, str):
                self._refuse(line, f"non-string key {self._where()}: {event.value[:60]}")
            if data in here.members:
                self._refuse(line, f'mapping key "{data}" already defined at line {here.members[data].line}')
            here.key, here.key_line, here.key_merges = data, line, data == "<<" and event.implicit[0]
            self._keep(event.anchor, Value(data, line))
        else:
            self._keep(event.anchor, value := Value(data, line))
            self._add(value, line)

    def _waits_for_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_mapping and self._open[-1].key is None

    def _kind(self, tag: str | None, line: int) -> str:
        """The last word of a tag that says what the value is anyway; no other has a meaning here."""
        kind = (tag or "").removeprefix("tag:yaml.org,2002:")
        if kind not in ("", "!", "str", "int", "float", "bool", "null", "map", "seq"):
            self._refuse(line, f"the tag {tag} means nothing in a Compose file")
        return kind

    def _keep(self, anchor: str | None, value: Value) -> None:
        if anchor:
            self._anchors[anchor] = value

    def _add(self, value: Value, line: int) -> None:
        if not self._open:
            if self.document is not None:
                self._refuse(line, "a second YAML document; one is wanted")
            self.document = value
            return
        here = self._open[-1]
        if not here.is_mapping:
            here.items.append(value)
        elif here.key is None:  # an alias as a key
            if not isinstance(value.data, str):
                self._refuse(line, f"non-string key {self._where()}")
            here.key, here.key_line, here.key_merges = value.data, line, False
        else:
            if here.key_merges:
                here.merged += self._merges(value, line)
            else:
                here.members[here.key] = Value(value.data, here.key_line, value.size, value.depth)
            here.key = None

    def _merges(self, value: Value, line: int) -> tuple[Value, ...]:
        several = value.data if isinstance(value.data, tuple) else (value,)
        if not all(isinstance(one.data, Mapping) for one in several):
            self._refuse(line, "map merge requires map or sequence of maps as the value")
        return several

    def _closed(self, ended: _Open) -> Value:
        """The value itself: a mapping's own members first, then what it merges, the first of several that has a key."""
        members = ended.members
        for merged in ended.merged:
            assert isinstance(merged.data, Mapping)
            for key, value in merged.data.items():
                members.setdefault(key, value)
        inside = list(members.values()) if ended.is_mapping else ended.items
        size = 1 + sum(value.size for value in inside)
        depth = 1 + max((value.depth for value in inside), default=0)
        if size > VALUES_LIMIT:
            self._refuse(ended.line, _EXCESSIVE)
        if depth > DEPTH_LIMIT:
            self._refuse(ended.line, f"nested deeper than {DEPTH_LIMIT} levels")
        return Value(members if ended.is_mapping else tuple(ended.items), ended.line, size, depth)

    def _where(self) -> str:
        """As Docker says it: `at top level`, `in services.web`."""
        path = [one.key if one.is_mapping else str(len(one.items)) for one in self._open[:-1]]
        return f"in {'.'.join(step or '?' for step in path)}" if path else "at top level"

    def _refuse(self, line: int, why: str) -> NoReturn:
        raise UsageError(f"{self.source}, line {line}: {why}")


_DECIMAL = re.compile(r"[-+]?[0-9][0-9_]*")
_OTHER_BASE = re.compile(r"([-+]?)0(x[0-9a-fA-F_]+|o[0-7_]+|b[01_]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Data] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}
_LONGEST_NUMBER = 64
"""Characters. What is longer is a text: a number of a million digits takes seconds to read."""


def _resolved(text: str) -> Data:
    """What an unquoted text is, as gopkg.in/yaml.v3 has it when nobody has told it a type."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    number: int | None = None
    if _DECIMAL.fullmatch(text):
        digits = text.replace("_", "")
        octal = digits.lstrip("-+").startswith("0") and len(digits.lstrip("-+")) > 1
        if not octal:
            number = int(digits)
        elif not set(digits.lstrip("-+")) & {"8", "9"}:
            number = int(digits, 8)
    elif match := _OTHER_BASE.fullmatch(text):
        digits = match[2][1:].replace("_", "")
        number = int(f"{match[1]}{digits}", {"x": 16, "o": 8, "b": 2}[match[2][0]]) if digits else None
    if number is not None:
        return number if -(1 << 63) <= number < 1 << 64 else float(number)
    return float(text) if _FLOAT.fullmatch(text) else text
