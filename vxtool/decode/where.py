"""--where: an expression over the documented columns, compiled into a test of whole batches.

    vni == 4097 and inner_ip_dst in '10.0.1.0/24' and inner_tcp_flags & 2

The grammar is a small part of Python's: Python's own parser makes the tree, only the nodes named here may stand in it, and nothing is ever evaluated
as Python. Column names; whole numbers, words and addresses in quotes, true, false, none; == != < <= > >= (also chained: 80 <= inner_dport < 90); in,
not in (a list, or an address block for addresses, the beginning of a MAC for MACs); and, or, not, parentheses; & and | on numbers.

An absent value passes no comparison, != and `not in` included: `vni != 4097` is about frames that have a VNI. `vni is none` finds the others, and
`not vni == 4097` is the opposite of `vni == 4097`, frames without a VNI included.
"""

from __future__ import annotations

import ast
import difflib
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import BY_NAME, Column
from vxtool.decode.compare import ANY_OF, Literal, Mask, Test, View, addresses, contains, number_of, numbers, present
from vxtool.errors import FilterError

if TYPE_CHECKING:
    from vxtool.decode.batch import Batch

__all__ = ["Where", "compile_where"]

LONGEST = 100_000
"""Characters in an expression."""

DEEPEST = 60
"""Levels in an expression; far more than a hand writes, far fewer than Python's stack holds."""

_TRUE, _FALSE, _NONE = "true", "false", "none"
_CONSTANTS: Mapping[str, bool | None] = {_TRUE: True, _FALSE: False, _NONE: None, "True": True, "False": False, "None": None}

_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_MIRROR: Mapping[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
_BITS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {ast.BitAnd: operator.and_, ast.BitOr: operator.or_}

_UNFINISHED = {"and", "or", "not", "in", "is", "==", "!=", "<", "<=", ">", ">=", "&", "|"}


@dataclass(frozen=True, slots=True)
class Where:
    """A compiled expression."""

    text: str
    columns: frozenset[str]  # the names it uses
    test: Test
    slow: bool  # it reads DNS messages

    def mask(self, batch: Batch, wanted: Mask | None = None) -> Mask:
        """The rows that pass, as one bool per row. With `wanted`, only rows true there can pass, and only those are looked at closely."""
        if wanted is None:
            wanted = np.ones(len(batch.rows), bool)
        return self.test(View(batch), wanted) & wanted


def compile_where(text: str) -> Where:
    """The test that `text` describes. FilterError, with the place in the text, when it cannot be understood."""
    return _Compiler(text).compile()


# --------------------------------------------------------------------------------------------------------------------
# What an operand can be
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Number:
    """A sum of bits, such as inner_tcp_flags & 18: a value per row, and where it is absent."""

    read: Callable[[View], npt.NDArray[np.int64]]
    present: Test


@dataclass(frozen=True, slots=True)
class _Value:
    literal: Literal


@dataclass(frozen=True, slots=True)
class _Values:
    literals: tuple[Literal, ...]


class _Nothing:
    """The word none."""


_Operand: TypeAlias = Column | _Number | _Value | _Values | _Nothing


@dataclass(frozen=True, slots=True)
class _Part:
    """A test and what it costs."""

    test: Test
    slow: bool = False


# --------------------------------------------------------------------------------------------------------------------
# From tree to test
# --------------------------------------------------------------------------------------------------------------------


class _Compiler:
    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split("\n")).strip()
        self.columns: set[str] = set()

    def compile(self) -> Where:
        tree = self._tree()
        part = self._truth(tree.body)
        return Where(self.text, frozenset(self.columns), part.test, part.slow)

    def _tree(self) -> ast.Expression:
        if not self.text:
            raise FilterError("the expression is empty: write for example vni == 4097")
        if len(self.text) > LONGEST:
            raise FilterError(f"the expression has {len(self.text):,} characters, {LONGEST:,} is the most")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's advice on escapes and such is not for this reader
                tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            raise FilterError(self._syntax(error)) from None
        except (ValueError, RecursionError, MemoryError):
            raise FilterError(
                f"the expression cannot be read: it is nested too deeply, or holds a character that no expression has: {self.text[:60]!r}"
            ) from None
        self._measure(tree)
        return tree

    def _syntax(self, error: SyntaxError) -> str:
        if self.text.split()[-1] in _UNFINISHED:
            return f"the expression ends after {self.text.split()[-1]!r}: something must follow"
        if "nested" in error.msg:
            return "the expression has too many parentheses inside one another"
        at = max((error.offset or 1) - 1, 0)
        rest = self.text[at : at + 20]
        if "&&" in self.text or "||" in self.text or self.text.startswith("!"):
            advice = "write and, or, not"
        elif "=" in self.text.replace("==", "").replace("<=", "").replace(">=", "").replace("!=", ""):
            advice = "two equal signs compare: vni == 4097"
        else:
            advice = "addresses and words stand in quotes: inner_ip_src == '10.0.1.3'"
        return f"the expression cannot be read at character {at + 1}{f' ({rest!r})' if rest else ''}; {advice}"

    def _measure(self, tree: ast.AST) -> None:
        """Refuses a deep tree before anything recurses into it."""
        level: list[ast.AST] = [tree]
        for _ in range(DEEPEST):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            if not level:
                return
        raise FilterError(f"the expression is nested more than {DEEPEST} levels deep")

    def _fail(self, node: ast.AST, why: str) -> FilterError:
        start = len(self.text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))
        return FilterError(f"at character {start + 1} of the expression: {why}")

    def _source(self, node: ast.AST) -> str:
        return (ast.get_source_segment(self.text, node) or "this")[:60]

    # ---- truth ----

    def _truth(self, node: ast.expr) -> _Part:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self._truth(value) for value in values]
                return self._all(parts) if isinstance(op, ast.And) else self._any(parts)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                part = self._truth(inner)
                return _Part(lambda view, wanted: ~part.test(view, wanted), part.slow)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                nodes = [left, *comparators]
                return self._all([self._compare(*pair) for pair in zip(nodes, ops, comparators, strict=False)])
        operand = self._operand(node)
        match operand:
            case _Number(read=read, present=here):
                return _Part(lambda view, wanted: (read(view) != 0) & here(view, wanted))
            case Column(kind="flag"):
                return _Part(lambda view, wanted: (numbers(view, operand) != 0) & present(view, operand, wanted))
            case _Value(literal=bool(answer)):
                return _Part(lambda view, _: np.full(len(view.rows), answer))
            case Column():
                raise self._fail(
                    node, f"{operand.name} alone is not a question: compare it ({operand.name} == ...), or ask {operand.name} is not none"
                )
        raise self._fail(node, f"{self._source(node)} is not a question: compare it with a column")

    @staticmethod
    def _all(parts: list[_Part]) -> _Part:
        if len(parts) == 1:
            return parts[0]
        parts = sorted(parts, key=lambda part: part.slow)  # what is cheap decides first which messages must be read

        def test(view: View, wanted: Mask) -> Mask:
            for part in parts:
                wanted = wanted & part.test(view, wanted)
            return wanted

        return _Part(test, parts[-1].slow)

    @staticmethod
    def _any(parts: list[_Part]) -> _Part:
        parts = sorted(parts, key=lambda part: part.slow)

        def test(view: View, wanted: Mask) -> Mask:
            passed = np.zeros(len(wanted), bool)
            for part in parts:
                passed |= part.test(view, wanted & ~passed)
            return passed

        return _Part(test, parts[-1].slow)

    # ---- comparisons ----

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> _Part:
        a, b = self._operand(left), self._operand(right)
        match op:
            case ast.Is() | ast.IsNot():
                return self._is_none(left, a, b, isinstance(op, ast.IsNot))
            case ast.In() | ast.NotIn():
                return self._in(left, a, right, b, isinstance(op, ast.NotIn))
        kind = type(op)
        if isinstance(a, _Value | _Nothing):  # '10.0.1.3' == inner_ip_src
            left, a, right, b, kind = right, b, left, a, _MIRROR.get(kind, kind)
        if isinstance(b, _Nothing):
            if isinstance(a, Column) and "none" in a.words and kind in (ast.Eq, ast.NotEq):
                b = _Value("none")
            else:
                raise self._fail(right, "nothing equals none: write `is none` or `is not none`")
        if isinstance(a, _Values) or isinstance(b, _Values):
            raise self._fail(left if isinstance(a, _Values) else right, "a list goes with in: vni in (4097, 4098)")
        match a, b:
            case Column(), _Value() if kind in (ast.Eq, ast.NotEq) and a.kind != "int":
                return self._one_of(left, a, (b.literal,), kind is ast.NotEq)
            case Column(kind="list"), _:
                raise self._fail(left, f"{a.name} is a list: write {'600' if a.name == 'dns_ttls' else chr(39) + '10.0.1.3' + chr(39)} in {a.name}")
            case ((_Number() | Column(kind="int" | "flag")), (_Number() | Column(kind="int" | "flag"))):
                return self._order(self._number(left, a), _ORDER[kind], self._number(right, b))
            case Column(kind="int"), _Value():
                wanted = self._guarded(right, number_of, a, b.literal)
                return self._order_constant(a, _ORDER[kind], wanted)
            case _Number(), _Value():
                return self._order(a, _ORDER[kind], self._number(right, b))
            case Column(), Column() if kind in (ast.Eq, ast.NotEq):
                return self._same(left, a, b, kind is ast.NotEq)
            case Column(), _:
                raise self._fail(left, f"{a.name} has no order: == != in and `is none` can be asked of it")
        raise self._fail(left, f"{self._source(left)} and {self._source(right)}: one side must be a column")

    def _is_none(self, node: ast.expr, a: _Operand, b: _Operand, negate: bool) -> _Part:
        if not isinstance(b, _Nothing) or not isinstance(a, Column):
            raise self._fail(node, "`is` goes with a column and none: vni is none; everything else is compared with ==")
        if "none" in a.words:  # tunnel has a word for nothing, and `tunnel is none` means it
            return self._one_of(node, a, ("none",), negate)
        slow = a.kind in ("text", "list")
        if negate:
            return _Part(lambda view, wanted: present(view, a, wanted), slow)
        return _Part(lambda view, wanted: ~present(view, a, wanted), slow)

    def _in(self, left: ast.expr, a: _Operand, right: ast.expr, b: _Operand, negate: bool) -> _Part:
        match a, b:
            case _Value(), Column(kind="list"):
                return self._one_of(left, b, (a.literal,), negate)
            case _Value(), Column(kind="text"):
                return self._with_presence(b, self._guarded(left, contains, b, (a.literal,)), negate)
            case Column(), _Values():
                return self._one_of(right, a, b.literals, negate)
            case Column(kind="ip" | "ipv4" | "mac"), _Value():
                return self._one_of(right, a, (b.literal,), negate)
            case Column(kind="text"), _Value():
                raise self._fail(left, f"the other way round: '...' in {a.name} finds a part, {a.name} in ('...', '...') one of several")
            case Column(), _Value():
                raise self._fail(right, f"in wants a list, also for one: {a.name} in ({self._source(right)},)")
        raise self._fail(left, "in goes with a column and a list: vni in (4097, 4098), inner_ip_src in '10.0.1.0/24', '10.0.1.3' in dns_answers")

    def _one_of(self, node: ast.expr, column: Column, literals: tuple[Literal, ...], negate: bool) -> _Part:
        return self._with_presence(column, self._guarded(node, ANY_OF[column.kind], column, literals), negate)

    @staticmethod
    def _with_presence(column: Column, test: Test, negate: bool) -> _Part:
        """An absent value passes neither the test nor its opposite."""
        slow = column.kind in ("text", "list")
        if negate:
            return _Part(lambda view, wanted: present(view, column, wanted) & ~test(view, wanted), slow)
        if slow:
            return _Part(test, slow)
        return _Part(lambda view, wanted: present(view, column, wanted) & test(view, wanted))

    @staticmethod
    def _order_constant(column: Column, compare: Callable[[Any, Any], Mask], literal: int) -> _Part:
        return _Part(lambda view, wanted: compare(numbers(view, column), literal) & present(view, column, wanted))

    @staticmethod
    def _order(a: _Number, compare: Callable[[Any, Any], Mask], b: _Number) -> _Part:
        return _Part(lambda view, wanted: compare(a.read(view), b.read(view)) & a.present(view, wanted) & b.present(view, wanted))

    def _same(self, node: ast.expr, a: Column, b: Column, negate: bool) -> _Part:
        """Two columns of one kind."""
        if a.kind == b.kind == "mac" or (a.kind == b.kind == "enum" and a.words == b.words):

            def equal(view: View) -> Mask:
                return np.asarray(numbers(view, a) == numbers(view, b))
        elif a.kind in ("ip", "ipv4") and b.kind in ("ip", "ipv4"):

            def equal(view: View) -> Mask:
                (a_high, a_low), (b_high, b_low) = addresses(view, a), addresses(view, b)
                return np.asarray((a_low == b_low) & (a_high == b_high))
        else:
            raise self._fail(node, f"{a.name} and {b.name} cannot be compared with each other: {_kind(a)} against {_kind(b)}")
        return _Part(lambda view, wanted: (equal(view) ^ negate) & present(view, a, wanted) & present(view, b, wanted))

    # ---- operands ----

    def _operand(self, node: ast.expr) -> _Operand:
        match node:
            case ast.Name(id=name) if name in _CONSTANTS:
                return self._constant(node, _CONSTANTS[name])
            case ast.Name(id=name):
                return self._column(node, name)
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))) if not isinstance(value, bool):
                return _Value(-value)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BITS:
                return self._bits(left, _BITS[type(op)], right)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return self._list(node, elements)
            case ast.BoolOp() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                raise self._fail(node, f"{self._source(node)} is a question, not a value: put `and` or `or` between questions")
        raise self._fail(node, f"{self._source(node)!r} is not part of the language: columns, numbers, words in quotes, == != < > in and or not & |")

    def _constant(self, node: ast.expr, value: object) -> _Operand:
        match value:
            case None:
                return _Nothing()
            case bool() | int() | str():
                return _Value(value)
        raise self._fail(node, f"{self._source(node)} is neither a whole number nor a word in quotes")

    def _column(self, node: ast.expr, name: str) -> Column:
        if name in BY_NAME:
            self.columns.add(name)
            return BY_NAME[name]
        near = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.6) or [known for known in BY_NAME if known.endswith(f"_{name}")][:3]
        hint = f"did you mean {' or '.join(near)}?" if near else "`vxtool columns` lists them; words stand in quotes"
        raise self._fail(node, f"there is no column {name[:60]!r}: {hint}")

    def _list(self, node: ast.expr, elements: list[ast.expr]) -> _Values:
        values = []
        for element in elements:
            operand = self._operand(element)
            if not isinstance(operand, _Value):
                raise self._fail(element, "a list holds numbers and words in quotes only")
            values.append(operand.literal)
        if not values:
            raise self._fail(node, "the list is empty")
        return _Values(tuple(values))

    def _bits(self, left: ast.expr, combine: Callable[[Any, Any], Any], right: ast.expr) -> _Number:
        a, b = self._number(left, self._operand(left)), self._number(right, self._operand(right))
        return _Number(lambda view: combine(a.read(view), b.read(view)), lambda view, wanted: a.present(view, wanted) & b.present(view, wanted))

    def _number(self, node: ast.expr, operand: _Operand) -> _Number:
        match operand:
            case _Number():
                return operand
            case Column(kind="int" | "flag"):
                return _Number(lambda view: numbers(view, operand).astype(np.int64), lambda view, wanted: present(view, operand, wanted))
            case _Value(literal=int(value)) if -(2**63) <= value < 2**63:
                constant = np.int64(value)
                return _Number(lambda view: np.full(len(view.rows), constant), lambda view, _: np.ones(len(view.rows), bool))
            case Column():
                raise self._fail(node, f"{operand.name} is {_kind(operand)}; & and | are for numbers (between questions write and, or)")
        raise self._fail(node, f"{self._source(node)} is not a number of at most 63 bits")

    def _guarded(self, node: ast.expr, make: Callable[..., Any], *arguments: object) -> Any:
        """Errors of literals know their column; the place in the text is added here."""
        try:
            return make(*arguments)
        except FilterError as error:
            raise self._fail(node, str(error)) from None


def _kind(column: Column) -> str:
    return {"int": "a number", "flag": "a flag", "mac": "a MAC", "ip": "an address", "ipv4": "an address", "enum": "a word", "name": "a name"}.get(
        column.kind, "DNS text"
    )
