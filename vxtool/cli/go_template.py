"""Go's text/template, as far as `docker ... --format` needs it.

Knows the language and Docker's functions (docker/cli templates); evaluates nothing else, and sees only the JSON values it is given. What is wrong
with a template is said in Go's words, with the place: `template parsing error: template: :1:2: executing "" at <.Foo>: ...`.

    Template("{{.Name}} {{range .Ports}}{{.}},{{end}}").render({"Name": "web", "Ports": ["80", "81"]})      web 80,81,
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vxtool.errors import UsageError

__all__ = ["FOR_HTML", "Marshaled", "Template"]

_DEEPEST = 60
"""Levels of nesting: parentheses, blocks, and what a value holds. More are a mistake."""

_WIDEST = 1_000_000
"""Characters to which printf pads, as in Go."""


class Template:
    """A template that has been read. UsageError when it cannot be."""

    def __init__(self, text: str) -> None:
        self._nodes = _Parser(text).parsed()
        self._lines = text

    def render(
        self, data: Any, missing: str = 'map has no entry for key "{}"', may_lack: Callable[[str, str], bool] | None = None, header: bool = False
    ) -> str:
        """The text for one object.

        `missing`: what is said of a field that is not there. `may_lack(parent, field)`: whether one may be absent and is then printed as
        <no value>; without it, those within the object's fields may. `header`: functions leave words as they are.
        """
        run = _Run(self._lines, data, missing, may_lack or (lambda parent, field: bool(parent)), _HEADER_FUNCTIONS if header else _FUNCTIONS)
        try:
            run.all(self._nodes)
        except RecursionError:
            raise _error("exceeded maximum template depth") from None
        return "".join(run.out)


def _error(what: str) -> UsageError:
    return UsageError(f"template parsing error: template: {what}")


# --------------------------------------------------------------------------------------------------------------------
# What a template is made of
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something stands, and what stands there: for errors."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class _Literal:
    place: _Place
    value: Any


@dataclass(frozen=True, slots=True)
class _Fields:
    """`.A.B`, `$x.A`, `(pipeline).A`; `of` None: the dot."""

    place: _Place
    of: str | _Pipeline | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    place: _Place
    name: str


_Operand = _Literal | _Fields | _Name


@dataclass(frozen=True, slots=True)
class _Command:
    place: _Place
    operands: tuple[_Operand, ...]


@dataclass(frozen=True, slots=True)
class _Pipeline:
    place: _Place
    variables: tuple[str, ...]
    declares: bool  # := or =
    commands: tuple[_Command, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """if, with, range."""

    word: str
    pipeline: _Pipeline
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Leap:
    word: str  # break, continue


_Node = str | _Pipeline | _Block | _Leap


# --------------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<end>}})
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<raw>`[^`]*`)
      | (?P<character>'(?:[^'\\\n]|\\.[^'\n]*)')
      | (?P<number>[+-]?(?:\d|\.\d)[\w.]*(?:(?<=[eE])[+-]\d+)?)
      | (?P<variable>\$\w*)
      | (?P<field>\.[^\W\d]\w*)
      | (?P<dot>\.)
      | (?P<name>[^\W\d]\w*)
      | (?P<declare>:=)
      | (?P<assign>=)
      | (?P<pipe>\|)
      | (?P<open>\()
      | (?P<close>\))
      | (?P<comma>,)""",
    re.VERBOSE,
)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<based>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+)|(?P<whole>[0-9_]+)|(?P<float>[\d_]*\.?[\d_]*(?:[eE][+-]?\d+)?))"
)
_WORDS = frozenset(("if", "with", "range", "else", "end", "break", "continue", "define", "template", "block"))
_TRIMMED = " \t\r\n"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int
    joined: bool  # nothing stands between it and the one before


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str | list[_Token]] = list(self._split())
        self._piece = 0
        self._tokens: list[_Token] = []
        self._next = 0
        self._depth = 0
        self._scopes: list[set[str]] = [{"$"}]
        self._ranges = 0

    def parsed(self) -> tuple[_Node, ...]:
        nodes, stopped = self._list()
        if stopped:
            raise self._fail(f"unexpected {{{{{stopped}}}}}")
        return nodes

    def _fail(self, what: str, at: int | None = None) -> UsageError:
        if at is None:
            at = self._tokens[min(self._next, len(self._tokens) - 1)].at if self._tokens else 0
        return _error(f":{self._text.count(chr(10), 0, at) + 1}: {what}")

    # -- text and actions ------------------------------------------------------------------------------------------------

    def _split(self) -> Iterator[str | list[_Token]]:
        """Texts, and the tokens of what stands between braces; comments are gone, spaces beside `{{-` and `-}}` too."""
        text, at, trim = self._text, 0, False
        while True:
            begin = text.find("{{", at)
            piece = text[at:] if begin < 0 else text[at:begin]
            if trim:
                piece = piece.lstrip(_TRIMMED)
            inside = begin + 2
            if begin >= 0 and text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in tuple(_TRIMMED):
                piece = piece.rstrip(_TRIMMED)
                inside += 1
            if piece:
                yield piece
            if begin < 0:
                return
            comment = re.compile(r"[ \t\r\n]*/\*").match(text, inside)
            if comment is not None:
                close = text.find("*/", comment.end())
                match = re.compile(r"([ \t\r\n]+-)?}}").match(text, close + 2) if close >= 0 else None
                if close < 0:
                    raise self._stop("unclosed comment", begin)
                if match is None:
                    raise self._stop("comment ends before closing delimiter", begin)
                at, trim = match.end(), bool(match[1])
                continue
            tokens, at, trim = self._action(inside)
            yield tokens

    def _stop(self, what: str, at: int) -> UsageError:
        return _error(f":{self._text.count(chr(10), 0, at) + 1}: {what}")

    def _action(self, at: int) -> tuple[list[_Token], int, bool]:
        text = self._text
        tokens: list[_Token] = []
        joined = False
        closing = re.compile(r"[ \t\r\n]+-}}")
        while True:
            trim = closing.match(text, at)
            if trim is not None:
                tokens.append(_Token("end", "}}", at, False))
                return tokens, trim.end(), True
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._bad(at)
            kind = str(match.lastgroup)
            if kind == "end":
                tokens.append(_Token("end", "}}", at, joined))
                return tokens, match.end(), False
            if kind != "space":
                tokens.append(_Token(kind, match[0], at, joined))
            joined = kind != "space"
            at = match.end()

    def _bad(self, at: int) -> UsageError:
        rest = self._text[at : at + 1]
        return self._stop(
            {
                "": "unclosed action",
                '"': "unterminated quoted string",
                "`": "unterminated raw quoted string",
                "'": "unterminated character constant",
                ":": "expected :=",
            }.get(
                rest, f"unexpected {json.dumps(rest)} in command" if rest.isprintable() else f"unrecognized character in action: U+{ord(rest):04X}"
            ),
            at,
        )

    # -- lists of nodes --------------------------------------------------------------------------------------------------

    def _list(self) -> tuple[tuple[_Node, ...], str]:
        """Nodes up to `end` or `else`, or all there are; which word it was, its tokens still to be read."""
        nodes: list[_Node] = []
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._fail("blocks are nested too deeply")
        while self._piece < len(self._pieces):
            piece = self._pieces[self._piece]
            self._piece += 1
            if isinstance(piece, str):
                nodes.append(piece)
                continue
            self._tokens, self._next = piece, 0
            first = piece[0]
            if first.kind == "name" and first.text in ("end", "else"):
                self._next = 1
                self._depth -= 1
                return tuple(nodes), first.text
            nodes.append(self._node(first))
        self._depth -= 1
        return tuple(nodes), ""

    def _node(self, first: _Token) -> _Node:
        if first.kind == "name" and first.text in _WORDS:
            self._next = 1
            if first.text in ("if", "with", "range"):
                return self._block(first.text)
            if first.text in ("break", "continue"):
                if not self._ranges:
                    raise self._fail(f"{{{{{first.text}}}}} outside {{{{range}}}}")
                self._end(first.text)
                return _Leap(first.text)
            raise self._fail(f"{{{{{first.text}}}}} is not understood here: one template is all there is")
        pipeline = self._pipeline("command")
        self._end("command")
        return pipeline

    def _block(self, word: str) -> _Block:
        self._scopes.append(set())
        pipeline = self._pipeline(word, most=2 if word == "range" else 1)
        self._end(word)
        self._ranges += word == "range"
        self._scopes.append(set())
        body, stopped = self._list()
        self._scopes.pop()
        self._ranges -= word == "range"
        otherwise: tuple[_Node, ...] = ()
        if stopped == "else":
            token = self._tokens[self._next]
            if token.kind == "name" and token.text in ("if", "with") and word != "range" and (token.text == word):
                # `else if` is an if of its own, whose `end` is ours too.
                self._next += 1
                self._depth += 1
                if self._depth > _DEEPEST:
                    raise self._fail("blocks are nested too deeply")
                otherwise = (self._block(token.text),)
                self._depth -= 1
                self._scopes.pop()
                return _Block(word, pipeline, body, otherwise)
            self._end("else")
            self._scopes.append(set())
            otherwise, stopped = self._list()
            self._scopes.pop()
            if stopped == "else":
                raise self._fail("expected end; found {{else}}")
        if stopped != "end":
            raise self._fail("unexpected EOF", len(self._text))
        self._end("end")
        self._scopes.pop()
        return _Block(word, pipeline, body, otherwise)

    def _end(self, context: str) -> None:
        token = self._tokens[self._next]
        if token.kind != "end":
            raise self._fail(f"unexpected {_shown(token)} in {context}")

    # -- pipelines -------------------------------------------------------------------------------------------------------

    def _pipeline(self, context: str, close: str = "end", most: int = 1) -> _Pipeline:
        begin = self._tokens[self._next].at
        variables, declares = self._declared(most)
        commands: list[_Command] = []
        while True:
            token = self._tokens[self._next]
            if token.kind == close:
                if not commands:
                    raise self._fail(f"missing value for {context}")
                for number, command in enumerate(commands):
                    if number and not isinstance(command.operands[0], _Fields | _Name):
                        raise self._fail(f"non executable command in pipeline stage {number + 1}")
                return _Pipeline(self._place(begin), variables, declares, tuple(commands))
            if token.kind == "end":
                raise self._fail("unclosed left paren")
            commands.append(self._command(close))
            if self._tokens[self._next].kind == "pipe":
                self._next += 1

    def _declared(self, most: int) -> tuple[tuple[str, ...], bool]:
        names: list[str] = []
        at = self._next
        while (self._tokens[at].kind == "variable" and not self._tokens[at + 1].joined | (self._tokens[at + 1].kind == "field")) or (
            self._tokens[at].kind == "variable" and self._tokens[at + 1].kind in ("declare", "assign", "comma")
        ):
            names.append(self._tokens[at].text)
            after = self._tokens[at + 1]
            if after.kind == "comma" and most == 2 and len(names) == 1 and self._tokens[at + 2].kind == "variable":
                at += 2
                continue
            if after.kind not in ("declare", "assign"):
                return (), False
            self._next = at + 2
            if after.kind == "declare":
                self._scopes[-1].update(names)
            else:
                for name in names:
                    self._known(name)
            return tuple(names), after.kind == "declare"
        return (), False

    def _known(self, name: str) -> None:
        if not any(name in scope for scope in self._scopes):
            raise self._fail(f'undefined variable "{name}"')

    def _command(self, close: str) -> _Command:
        begin = self._tokens[self._next].at
        operands: list[_Operand] = []
        while (token := self._tokens[self._next]).kind not in ("pipe", close, "end"):
            if operands and token.joined and self._tokens[self._next - 1].kind not in ("open",):
                raise self._fail(f"unexpected {_shown(token)} in operand")
            operands.append(self._operand(token))
        if not operands:
            raise self._fail(f"unexpected {_shown(token)} in command" if token.kind == "pipe" else "empty command")
        return _Command(self._place(begin), tuple(operands))

    def _operand(self, token: _Token) -> _Operand:
        self._next += 1
        if token.kind == "open":
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._fail("parentheses are nested too deeply")
            inner = self._pipeline("parenthesized pipeline", "close")
            self._next += 1
            self._depth -= 1
            names = self._chain()
            return _Fields(self._place(token.at), inner, names)
        if token.kind in ("string", "character", "raw", "number"):
            return _Literal(_Place(token.at, token.text), self._literal(token))
        if token.kind == "dot":
            return _Fields(_Place(token.at, "."), None, ())
        if token.kind == "field":
            second = self._tokens[self._next]
            names = (token.text[1:], *self._chain())
            # Go gives the place of a chain's second field.
            return _Fields(_Place(second.at if len(names) > 1 else token.at, self._span(token.at)), None, names)
        if token.kind == "variable":
            self._known(token.text)
            return _Fields(_Place(token.at, self._span(token.at, self._next)), token.text, self._chain())
        if token.kind == "name":
            if token.text in _CONSTANTS:
                return _Literal(_Place(token.at, token.text), _CONSTANTS[token.text])
            if token.text not in _FUNCTIONS and token.text not in _LAZY:
                raise self._fail(f'function "{token.text}" not defined')
            return _Name(_Place(token.at, token.text), token.text)
        self._next -= 1
        raise self._fail(f"unexpected {_shown(token)} in command")

    def _chain(self) -> tuple[str, ...]:
        names = []
        while (token := self._tokens[self._next]).kind == "field" and token.joined:
            names.append(token.text[1:])
            self._next += 1
        return tuple(names)

    def _literal(self, token: _Token) -> Any:
        if token.kind == "raw":
            return token.text[1:-1]
        if token.kind == "number":
            match = _NUMBER.fullmatch(token.text)
            try:
                if match is None:
                    raise ValueError
                sign = -1 if match["sign"] == "-" else 1
                if match["based"]:
                    return sign * int(match["based"], 0)
                if match["whole"]:
                    return sign * int(match["whole"][:400])
                value = sign * float(match["float"].replace("_", ""))
                return int(value) if value.is_integer() and "." not in token.text and abs(value) < 1 << 63 else value
            except (ValueError, OverflowError):
                raise self._fail(f"bad number syntax: {json.dumps(token.text)}", token.at) from None
        text = _unescaped(token.text[1:-1])
        if text is None or (token.kind == "character" and len(text) != 1):
            raise self._fail("invalid syntax" if token.kind == "string" else f"malformed character constant: {token.text}", token.at)
        return text if token.kind == "string" else ord(text)

    def _place(self, begin: int) -> _Place:
        return _Place(begin, self._span(begin))

    def _span(self, begin: int, upto: int | None = None) -> str:
        token = self._tokens[(self._next if upto is None else upto) - 1]
        return self._text[begin : token.at + len(token.text)]


def _shown(token: _Token) -> str:
    if token.kind == "close":
        return "right paren"
    return json.dumps(token.text[:10], ensure_ascii=False) + ("..." if len(token.text) > 10 else "")


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)


def _unescaped(text: str) -> str | None:
    """A Go string literal's content; None when an escape is none of Go's."""
    wrong = False

    def one(match: re.Match[str]) -> str:
        nonlocal wrong
        two, four, eight, octal, plain = match.groups()
        if plain is not None:
            wrong |= plain not in _ESCAPES
            return _ESCAPES.get(plain, "")
        value = int(octal, 8) if octal else int(two or four or eight, 16)
        wrong |= value > 0x10FFFF or 0xD800 <= value < 0xE000
        return "" if wrong else chr(value)

    unescaped = _ESCAPE.sub(one, text)
    return None if wrong else unescaped


# --------------------------------------------------------------------------------------------------------------------
# Running
# --------------------------------------------------------------------------------------------------------------------

_NOTHING = object()
"""No value: a key that a map has not. Go prints <no value>."""

_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "nil": None}


class _Left(Exception):
    """break or continue."""


class _Wrong(Exception):
    """What a function did not like."""


class _Run:
    def __init__(self, text: str, data: Any, missing: str, may_lack: Callable[[str, str], bool], functions: Mapping[str, Callable[..., Any]]) -> None:
        self._text = text
        self._data = data
        self._missing = missing
        self._may_lack = may_lack
        self._functions = functions
        self._dot = data
        self._variables: list[tuple[str, Any]] = [("$", data)]
        self.out: list[str] = []

    def all(self, nodes: Sequence[_Node]) -> None:
        for node in nodes:
            if isinstance(node, str):
                self.out.append(node)
            elif isinstance(node, _Pipeline):
                value = self._pipeline(node)
                if not node.variables:
                    self.out.append(_go(value))
            elif isinstance(node, _Leap):
                raise _Left(node.word)
            else:
                known = len(self._variables)
                self._block(node)
                del self._variables[known:]

    def _block(self, block: _Block) -> None:
        if block.word == "range":
            return self._range(block)
        value = self._pipeline(block.pipeline)
        before = self._dot
        if not _true(value):
            return self.all(block.otherwise)
        if block.word == "with":
            self._dot = value
        self.all(block.body)
        self._dot = before
        return None

    def _range(self, block: _Block) -> None:
        pipeline = block.pipeline
        known = len(self._variables)
        value = self._pipeline(pipeline)
        del self._variables[known:]
        if isinstance(value, Mapping):
            items: list[tuple[Any, Any]] = sorted(value.items())
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool) and value < 1_000_000:
            items = [(number, number) for number in range(value)]
        elif value is None or value is _NOTHING:
            items = []
        else:
            place = pipeline.commands[-1].operands[0].place
            raise self._fail(place, f"range can't iterate over {_go(value)}")
        before = self._dot
        for key, item in items:
            names = pipeline.variables
            pairs = list(zip(names, (item,) if len(names) == 1 else (key, item), strict=True)) if names else []
            if pipeline.declares:
                self._variables.extend(pairs)
            else:
                for name, each in pairs:
                    self._set(name, each)
            self._dot = item
            inside = len(self._variables)
            try:
                self.all(block.body)
            except _Left as left:
                if str(left) == "break":
                    break
            finally:
                del self._variables[inside:]
                self._dot = before
                if pipeline.declares:
                    del self._variables[known:]
        if not items:
            self.all(block.otherwise)

    # -- pipelines -------------------------------------------------------------------------------------------------------

    def _pipeline(self, pipeline: _Pipeline) -> Any:
        value: Any = None
        for number, command in enumerate(pipeline.commands):
            value = self._command(command, [value] if number else [])
        for name in pipeline.variables[:1]:
            if pipeline.declares:
                self._variables.append((name, value))
            else:
                self._set(name, value)
        return value

    def _set(self, name: str, value: Any) -> None:
        for place in reversed(range(len(self._variables))):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return

    def _command(self, command: _Command, last: list[Any]) -> Any:
        first, *rest = command.operands
        if isinstance(first, _Name):
            return self._call(first, command, rest, last)
        if isinstance(first, _Fields):
            return self._fields(first, rest, last)
        if rest or last:
            raise self._fail(first.place, f"can't give argument to non-function {first.place.text}")
        if first.value is None and isinstance(first, _Literal):
            raise self._fail(first.place, "nil is not a command")
        return first.value

    def _operand(self, operand: _Operand) -> Any:
        if isinstance(operand, _Literal):
            return operand.value
        if isinstance(operand, _Fields):
            return self._fields(operand, [], [])
        return self._call(operand, _Command(operand.place, (operand,)), [], [])

    def _fields(self, fields: _Fields, rest: Sequence[_Operand], last: list[Any]) -> Any:
        if isinstance(fields.of, str):
            value = next(value for name, value in reversed(self._variables) if name == fields.of)
        else:
            value = self._dot if fields.of is None else self._pipeline(fields.of)
        arguments = [self._operand(one) for one in rest] + last
        for place, name in enumerate(fields.names):
            value = self._field(fields, value, name, fields.names[place - 1] if place else "" if value is self._data else "*")
            if callable(value):  # a method, as `{{.Label "key"}}`: only the last name has arguments
                given = arguments if place == len(fields.names) - 1 else []
                try:
                    value = value(*map(_Text.checked, given))
                except (TypeError, _Wrong):
                    raise self._fail(fields.place, f"wrong number of args for {name}: want 1 got {len(given)}") from None
                if place == len(fields.names) - 1:
                    arguments = []
        if arguments:
            if not fields.names:
                raise self._fail(fields.place, f"can't give argument to non-function {fields.place.text}")
            raise self._fail(fields.place, f"{fields.names[-1]} has arguments but cannot be invoked as function")
        return value

    def _field(self, fields: _Fields, value: Any, name: str, parent: str) -> Any:
        if isinstance(value, Mapping):
            if name in value:
                return value[name]
            if self._may_lack(parent, name):
                return _NOTHING
            raise self._fail(fields.place, self._missing.format(name))
        if value is None or value is _NOTHING:
            raise self._fail(fields.place, f"nil data; no entry for key {json.dumps(name)}")
        raise self._fail(fields.place, f"can't evaluate field {name} in type {_type(value)}")

    def _call(self, function: _Name, command: _Command, rest: Sequence[_Operand], last: list[Any]) -> Any:
        name = function.name
        if name in _LAZY:
            return self._lazy(name, function, rest, last)
        arguments = [self._operand(one) for one in rest] + last
        places = [one.place for one in rest] + [command.place] * len(last)
        try:
            return self._functions[name](*arguments)
        except _BadArgument as error:
            raise self._fail(places[error.number], str(error)) from None
        except _Wrong as error:
            raise self._fail(command.place, f"error calling {name}: {error}") from None
        except TypeError:
            raise self._fail(function.place, f"wrong number of args for {name}: want {_WANTS.get(name, 'others')} got {len(arguments)}") from None

    def _lazy(self, name: str, function: _Name, rest: Sequence[_Operand], last: list[Any]) -> Any:
        """`and` and `or` look at no more than they need."""
        if not rest and not last:
            raise self._fail(function.place, f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for one in rest:
            value = self._operand(one)
            if _true(value) is (name == "or"):
                return value
        return last[0] if last else value

    def _fail(self, place: _Place, what: str) -> UsageError:
        line = self._text.count("\n", 0, place.at) + 1
        column = place.at - (self._text.rfind("\n", 0, place.at) + 1)
        return _error(f':{line}:{column}: executing "" at <{place.text}>: {what}')


def _true(value: Any) -> bool:
    return value is not _NOTHING and bool(value)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "int", float: "float64", list: "[]interface {}", tuple: "[]interface {}", type(None): "interface {}"}.get(
        type(value), "map[string]interface {}"
    )


def _go(value: Any, inside: bool = False) -> str:
    """As Go prints it (%v)."""
    if value is _NOTHING:
        return "<no value>"
    if value is None:
        return "<nil>" if inside else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_go(item, True)}" for key, item in sorted(value.items()) if not callable(item)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_go(item, True) for item in value) + "]"
    return str(value)


def _float(value: float) -> str:
    """Go's %v: the shortest digits that mean the number, an exponent from 1e21 on and below 1e-4."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", repr(value))


# --------------------------------------------------------------------------------------------------------------------
# Functions
# --------------------------------------------------------------------------------------------------------------------


class _BadArgument(Exception):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


class _Text:
    @staticmethod
    def checked(value: Any) -> str:
        if not isinstance(value, str):
            raise _Wrong
        return value


def _string(number: int, value: Any) -> str:
    if not isinstance(value, str):
        literal = isinstance(value, int | float)
        raise _BadArgument(
            number, f"expected string; found {_go(value)}" if literal else f"wrong type for value; expected string; got {_type(value)}"
        )
    return value


def _int(number: int, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _BadArgument(number, f"expected integer; found {json.dumps(value) if isinstance(value, str) else _go(value)}")
    return value


class Marshaled(dict[str, Any]):
    """A row that turns itself into JSON: Go then writes <, > and & as \\u003c.., which the function `json` alone does not."""


def _json(value: Any) -> str:
    text = json.dumps(_jsonable(value), ensure_ascii=False, separators=(",", ":"))
    return text.translate(FOR_HTML) if isinstance(value, Marshaled) else text


FOR_HTML = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})
"""How Go's encoding/json writes what might be taken for HTML; in JSON it stands in strings only."""


def _jsonable(value: Any) -> Any:
    """Without methods and without what is not there."""
    if value is _NOTHING:
        return None
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


def _split(text: Any, separator: Any) -> list[str]:
    parts = _string(1, separator)
    return _string(0, text).split(parts) if parts else list(_string(0, text))


def _join(values: Any, separator: Any) -> str:
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise _BadArgument(0, f"wrong type for value; expected []string; got {_type(values)}")
    return _string(1, separator).join(values)


def _title(text: Any) -> str:
    return re.sub(r"(?<![^\W_])(?<!')[^\W\d_]", lambda match: match[0].upper(), _string(0, text))


def _pad(text: Any, before: Any, after: Any) -> str:
    word, left, right = _string(0, text), _int(1, before), _int(2, after)
    if not word or max(left, right) > _WIDEST:
        return word
    return " " * left + word + " " * right


def _truncate(text: Any, length: Any) -> str:
    return _string(0, text)[: max(_int(1, length), 0)]


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping | list | tuple):
        return len(value)
    if value is None or value is _NOTHING:
        raise _Wrong("len of nil pointer")
    raise _Wrong(f"len of type {_type(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            if not isinstance(key, str):
                raise _Wrong(f"value has type {_type(key)}; should be string")
            value = value.get(key, _NOTHING)
        elif isinstance(value, list | tuple | str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise _Wrong(f"cannot index slice/array with type {_type(key)}")
            whole = value.encode() if isinstance(value, str) else value
            if not 0 <= key < len(whole):
                raise _Wrong(f"index out of range: {key}")
            value = whole[key]
        elif value is None or value is _NOTHING:
            raise _Wrong("index of untyped nil")
        else:
            raise _Wrong(f"can't index item of type {_type(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise _Wrong(f"can't slice item of type {_type(value)}")
    if len(bounds) > 2:
        raise _Wrong("cannot 3-index slice a string")
    numbers = [_int(place + 1, bound) for place, bound in enumerate(bounds)]
    begin, end = [*numbers, *(0, len(value))[len(numbers) :]]
    for bound in (begin, end):
        if not 0 <= bound <= len(value):
            raise _Wrong(f"index out of range: {bound}")
    if begin > end:
        raise _Wrong(f"invalid slice index: {begin} > {end}")
    return value[begin:end]


def _comparable(a: Any, b: Any) -> None:
    kinds = [_type(one) for one in (a, b)]
    if None in (a, b) or _NOTHING in (a, b):
        return
    if "map" in kinds[0][:3] or kinds[0].startswith("["):
        raise _Wrong(f"non-comparable type {_go(a)}: {kinds[0]}")
    if kinds[0] != kinds[1]:
        raise _Wrong("incompatible types for comparison")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise _Wrong("missing argument for comparison")
    for other in others:
        _comparable(first, other)
        if first == other:
            return True
    return False


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(a: Any, b: Any) -> bool:
        _comparable(a, b)
        if isinstance(a, bool) or a is None or a is _NOTHING or b is None or b is _NOTHING:
            raise _Wrong("invalid type for comparison")
        return compare(a, b)

    return compared


def _ne(a: Any, b: Any) -> bool:
    return not _eq(a, b)


def _not(value: Any) -> bool:
    return not _true(value)


def _print(*values: Any) -> str:
    """Spaces only between two that are both no strings (fmt.Sprint)."""
    out: list[str] = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            out.append(" ")
        out.append(_go(value, True))
    return "".join(out)


def _println(*values: Any) -> str:
    return " ".join(_go(value, True) for value in values) + "\n"


_VERB = re.compile(r"%([-+# 0]*)(\d+|\*)?(?:\.(\d+|\*)?)?(.)?", re.DOTALL)


def _printf(text: Any, *values: Any) -> str:
    """fmt.Sprintf, its complaints within the text included."""
    left = list(values)
    used = 0

    def take() -> Any:
        nonlocal used
        used += 1
        return left[used - 1]

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match[1], match[2], match[3], match[4]
        exact = "." in match[0][: -1 if verb else None]
        if verb is None:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        complaint = ""
        numbers = []
        for given, word in ((width, "BADWIDTH"), (precision, "BADPREC")):
            asked = take() if given == "*" and used < len(left) else given
            if given == "*" and (not isinstance(asked, int) or abs(asked) > _WIDEST):
                complaint, asked = f"{complaint}%!({word})", 0
            elif asked is not None and len(str(asked)) > len(str(_WIDEST)):
                return "%!(NOVERB)"
            numbers.append(int(asked or 0))
        if used >= len(left):
            return f"{complaint}%!{verb}(MISSING)"
        return complaint + _formatted(take(), verb, flags, min(numbers[0], _WIDEST), min(numbers[1], _WIDEST) if exact else None)

    out = _VERB.sub(one, _string(0, text))
    if used < len(left):
        out += "%!(EXTRA " + ", ".join(f"{_type(value)}={_go(value, True)}" for value in left[used:]) + ")"
    return out


def _formatted(value: Any, verb: str, flags: str, width: int, precision: int | None) -> str:
    shown = _verb(value, verb, flags, precision)
    if shown is None:
        return f"%!{verb}({_type(value)}={_go(value, True)})"
    if "-" in flags or width < 0:
        return shown.ljust(abs(width))
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and verb not in "vsqT"
    if "0" in flags and (numeric or verb in "vd") and isinstance(value, int | float):
        sign = shown[:1] if shown[:1] in ("-", "+") else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")
    return shown.rjust(width)


def _verb(value: Any, verb: str, flags: str, precision: int | None) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    plus = "+" if "+" in flags and isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else ""
    if verb == "v":
        return json.dumps(value, ensure_ascii=False) if "#" in flags and isinstance(value, str) else plus + _go(value, True)
    if verb == "T":
        return "<nil>" if value is None else _type(value)
    if verb == "t":
        return _go(value) if isinstance(value, bool) else None
    if verb in "sq" and isinstance(value, str):
        cut = value if precision is None else value[:precision]
        return json.dumps(cut, ensure_ascii=False) if verb == "q" else cut
    if verb == "s" and isinstance(value, list | tuple | Mapping):
        return _go(value)
    if verb in "xX" and isinstance(value, str):
        digits = value.encode().hex()
        return digits if verb == "x" else digits.upper()
    if whole and verb in "dboxXcUq":
        if verb in "cUq":
            character = chr(value) if 0 <= value <= 0x10FFFF else "\ufffd"
            return {"c": character, "U": f"U+{value:04X}", "q": f"'{character}'"}[verb]
        return plus + format(value, ("#" if "#" in flags and verb in "xX" else "") + verb)
    if isinstance(value, float) and verb in "feEgG":
        return plus + (_go(value) if verb == "g" and precision is None else format(value, f".{6 if precision is None else precision}{verb}"))
    return None


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "json": _json,
    "split": _split,
    "join": _join,
    "title": _title,
    "lower": lambda text: _string(0, text).lower(),
    "upper": lambda text: _string(0, text).upper(),
    "pad": _pad,
    "truncate": _truncate,
    "len": _len,
    "index": _index,
    "slice": _slice,
    "eq": _eq,
    "ne": _ne,
    "lt": _ordered(lambda a, b: bool(a < b)),
    "le": _ordered(lambda a, b: bool(a <= b)),
    "gt": _ordered(lambda a, b: bool(a > b)),
    "ge": _ordered(lambda a, b: bool(a >= b)),
    "not": _not,
    "print": _print,
    "println": _println,
    "printf": _printf,
}
"""Docker's own (docker/cli templates/templates.go) and those of text/template that make no HTML."""

_LAZY = ("and", "or")

_WANTS = (
    dict.fromkeys(("json", "title", "lower", "upper", "len", "not"), "1")
    | dict.fromkeys(("split", "join", "truncate", "ne", "lt", "le", "gt", "ge"), "2")
    | {"pad": "3"}
)

_HEADER_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **_FUNCTIONS,
    **{name: lambda word: word for name in ("json", "title", "lower", "upper")},
    "truncate": lambda word, _: word,
}
"""A column's heading stays as it is, whatever is done to the column (templates.go HeaderFunctions)."""
