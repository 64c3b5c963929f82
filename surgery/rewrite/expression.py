"""The expressions of the rule language: parsed with `ast`, never evaluated.

match   = "max_pool2d(x, kernel_size=k, dilation=1)"      operations or kinds; lower-case names capture; _ is anything
match   = "mul(x, g := gate(_))"                          := names a matched node
rewrite = "avg_pool2d(x, kernel_size=k, stride=shape(g)[1])"
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from surgery.errors import suggest
from surgery.graph import KINDS, OPERATIONS

LONGEST = 10_000
"""The most characters of an expression."""
MOST_TERMS = 100
"""The most calls, names, lists and constants in an expression; its nesting, into which matching recurses, is less."""

CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "none": None}


class ExpressionError(Exception):
    """A mistake in an expression, and its column (from zero); `others` are further mistakes in it."""

    def __init__(self, message: str, column: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.column = max(column, 0)  # an error at the added opening parenthesis is before the expression
        self.hint = hint
        self.others: tuple[ExpressionError, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, kw_only=True)
class Wildcard:
    """`_`: anything."""


@dataclass(frozen=True, kw_only=True)
class Name:
    """A name: in match it captures, in rewrite it stands for the captured value."""

    name: str
    column: int


@dataclass(frozen=True, kw_only=True)
class Literal:
    """A number, string, true, false, none, or a tuple of them."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class Several:
    """`[a, b]`: a list operand, as of `cat`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, kw_only=True)
class Call:
    """`function(operands, attribute=value)`; `label` is the name given with `:=`."""

    function: str
    operands: tuple[Expression, ...]
    attributes: tuple[tuple[str, Expression], ...]
    label: str | None
    column: int
    label_column: int


Expression = Wildcard | Name | Literal | Several | Call


def names_bound(patterns: tuple[Call, ...]) -> frozenset[str]:
    """The names that a pattern gives to nodes, operands and attributes."""
    labels = {item.label for item in every(patterns) if isinstance(item, Call) and item.label}
    return frozenset(labels | {item.name for item in every(patterns) if isinstance(item, Name)})


def operations_of(function: str) -> tuple[str, ...]:
    """The operations that a word stands for: itself, or all of its kind."""
    return (function,) if function in OPERATIONS else KINDS[function]


def every(expressions: tuple[Expression, ...]) -> Iterator[Expression]:
    """The expressions and all inside them, in the order as written."""
    for expression in expressions:
        yield expression
        if isinstance(expression, Several):
            yield from every(expression.items)
        elif isinstance(expression, Call):
            yield from every(expression.operands)
            yield from every(tuple(value for _, value in expression.attributes))


def parse(text: str) -> tuple[Expression, ...]:
    """Parse one expression, or several separated by commas; raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(f"the expression has {len(text):,} characters; at most {LONGEST:,} are allowed", 0)
    text = text.replace("\n", " ")  # so that columns count from the start of the expression
    # The parentheses let a rule span lines; every column is therefore one too large.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks on code, such as unknown escapes in strings
            body = ast.parse(f"({text})", mode="eval").body
        terms = sum(isinstance(item, (ast.Name, ast.Constant, ast.List, ast.Tuple)) for item in ast.walk(body))
        if terms > MOST_TERMS:
            message = (
                f"the expression has {terms:,} calls, names, lists and constants; at most {MOST_TERMS} are allowed"
            )
            raise ExpressionError(message, 0)
        items = body.elts if isinstance(body, ast.Tuple) else [body]
        if not items:
            raise ExpressionError("the expression is empty", 0)
        return tuple(map(_expression, items))
    except SyntaxError as error:
        column = min(max((error.offset or 2) - 2, 0), len(text))
        raise ExpressionError(f"syntax error: {error.msg}", column) from None
    except ValueError as error:  # a null character
        raise ExpressionError(f"syntax error: {error}", 0) from None
    except (RecursionError, MemoryError):  # as Python's parser reports deep nesting
        raise ExpressionError("the expression is nested too deeply", 0) from None


def _expression(tree: ast.expr) -> Expression:
    column = tree.col_offset - 1
    match tree:
        case ast.NamedExpr(target=ast.Name(id=name), value=ast.Call(func=ast.Name(id=function)) as call):
            return _call(function, call, label=name, label_column=column)
        case ast.Name(id="_"):
            return Wildcard()
        case ast.Name(id=name) if name in CONSTANTS:
            return Literal(value=CONSTANTS[name])
        case ast.Name(id=name):
            if not name.islower():
                raise ExpressionError(f"captures are written in lower case: {name.lower()!r}, not {name!r}", column)
            return Name(name=name, column=column)
        case ast.Constant(value=value) if value is None or isinstance(value, (int, float, str)):
            return Literal(value=_bounded(value, column))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
            return Literal(value=-_bounded(value, column))
        case ast.Tuple(elts=items):
            # A tuple is one attribute value, such as a kernel size; only a list may hold nodes.
            values: list[Any] = []
            for item in items:
                value = _expression(item)
                if not isinstance(value, Literal):
                    raise ExpressionError("a tuple in a rule holds numbers only", item.col_offset - 1)
                values.append(value.value)
            return Literal(value=tuple(values))
        case ast.List(elts=items):
            return Several(items=tuple(_expression(item) for item in items))
        case ast.Call(func=ast.Name(id=function)):
            return _call(function, tree)
        case ast.Call(func=ast.Attribute(attr=function)):
            hint = suggestion(function, [*OPERATIONS, *KINDS])
            raise ExpressionError(
                f"{_shown(tree.func)} has dots; operations are written without a module", column, hint
            )
    raise ExpressionError(f"{_shown(tree)} has no meaning in a rule", column)


def _shown(tree: ast.expr) -> str:
    text = ast.unparse(tree)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _bounded(value: Any, column: int) -> Any:
    """Numbers that torch can hold: it fails with an error of C++ for others, or takes all the memory."""
    if isinstance(value, int) and value.bit_length() > 63:
        raise ExpressionError("the number is too large; whole numbers of 64 bits are expected", column)
    return value


def _call(function: str, tree: ast.Call, label: str | None = None, label_column: int = 0) -> Call:
    attributes: list[tuple[str, Expression]] = []
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise ExpressionError("** has no meaning in a rule", keyword.value.col_offset - 1)
        attributes.append((keyword.arg, _expression(keyword.value)))
    return Call(
        function=function,
        operands=tuple(_expression(item) for item in tree.args),
        attributes=tuple(attributes),
        label=label,
        column=tree.col_offset - 1,
        label_column=label_column,
    )


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """The nearest words of the vocabulary; `MaxPool2d` is near to `max_pool2d`."""
    return suggest(name, known) or suggest(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(), known)
