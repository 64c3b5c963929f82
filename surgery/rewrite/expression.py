"""The expressions of the rule language: parsed with `ast`, never evaluated.

match   = "max_pool2d(x, kernel_size=k, dilation=1)"      operations or kinds; lower-case names capture; _ is anything
match   = "mul(x, g := gate(_))"                          := names a matched node
rewrite = "avg_pool2d(x, kernel_size=k, stride=shape(g)[1])"
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from surgery.errors import suggest
from surgery.graph import KINDS, OPERATIONS

CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "none": None}


class ExpressionError(Exception):
    """A mistake in an expression, and its column (from zero)."""

    def __init__(self, message: str, column: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.column = max(column, 0)  # an error at the added opening parenthesis is before the expression
        self.hint = hint


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


def parse_match(text: str) -> tuple[Call, ...]:
    """Parse a pattern: one call, or several separated by commas for several outputs.

    Raises ExpressionError for bad syntax, unknown operations, kinds and attributes, and patterns that match everything.
    """
    parsed = _parse(text)
    for expression in _all(parsed):
        if isinstance(expression, Call):
            _check_pattern(expression)
    # A capture may occur twice, and then both places hold the same value. A label names one node.
    given = {item.name for item in _all(parsed) if isinstance(item, Name)}
    for item in _all(parsed):
        if isinstance(item, Call) and item.label:
            if item.label in given:
                raise ExpressionError(f"the name {item.label!r} is given twice", item.label_column)
            given.add(item.label)
    roots: list[Call] = []
    for expression in parsed:
        if not isinstance(expression, Call):
            raise ExpressionError("a pattern has to start with an operation or kind, or it would match everything", 0)
        roots.append(expression)
    return tuple(roots)


def parse_rewrite(text: str, bound: frozenset[str], transforms: frozenset[str]) -> tuple[Expression, ...]:
    """Parse the rewrite of a rule; `bound` are the names that the pattern captures.

    Raises ExpressionError for bad syntax, unbound names, unknown operations, transforms and attributes.
    """
    parsed = _parse(text)
    for expression in _all(parsed):
        if isinstance(expression, Wildcard):
            raise ExpressionError("_ stands for anything and cannot be written; name it in match", 0)
        if isinstance(expression, Name) and expression.name not in bound:
            hint = suggest(expression.name, bound) or f"match captures {', '.join(sorted(bound)) or 'nothing'}"
            raise ExpressionError(f"{expression.name!r} is not captured by match", expression.column, hint)
        if isinstance(expression, Call) and expression.function not in transforms:
            _check_replacement(expression, transforms)
    return parsed


def names_bound(patterns: tuple[Call, ...]) -> frozenset[str]:
    """The names that a pattern gives to nodes, operands and attributes."""
    labels = {item.label for item in _all(patterns) if isinstance(item, Call) and item.label}
    return frozenset(labels | {item.name for item in _all(patterns) if isinstance(item, Name)})


def operations_of(function: str) -> tuple[str, ...]:
    """The operations that a word stands for: itself, or all of its kind."""
    return (function,) if function in OPERATIONS else KINDS[function]


def _all(expressions: tuple[Expression, ...]) -> Iterator[Expression]:
    for expression in expressions:
        yield expression
        if isinstance(expression, Several):
            yield from _all(expression.items)
        elif isinstance(expression, Call):
            yield from _all(expression.operands)
            yield from _all(tuple(value for _, value in expression.attributes))


def _parse(text: str) -> tuple[Expression, ...]:
    text = text.replace("\n", " ")  # so that columns count from the start of the expression
    # The parentheses let a rule span lines; every column is therefore one too large.
    try:
        tree = ast.parse(f"({text})", mode="eval")
    except SyntaxError as error:
        column = min(max((error.offset or 2) - 2, 0), len(text))
        raise ExpressionError(f"syntax error: {error.msg}", column) from None
    body = tree.body
    items = body.elts if isinstance(body, ast.Tuple) else [body]
    return tuple(_expression(item) for item in items)


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
        case ast.Constant(value=value):
            return Literal(value=value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
            return Literal(value=-value)
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
    raise ExpressionError(f"{ast.unparse(tree)!r} has no meaning in a rule", column)


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


def _check_pattern(call: Call) -> None:
    if call.function not in OPERATIONS and call.function not in KINDS:
        hint = suggest(call.function, [*OPERATIONS, *KINDS])
        raise ExpressionError(f"no operation or kind is called {call.function!r}", call.column, hint)
    operations = [OPERATIONS[name] for name in operations_of(call.function)]
    most = max(len(operation.operands) for operation in operations)
    if len(call.operands) > most:
        raise ExpressionError(
            f"{call.function} has {most} operands ({', '.join(operations[0].operands)}), not {len(call.operands)};"
            " attributes are written by keyword",
            call.column,
        )
    # A kind accepts what any of its operations has: the others do not match, and the near miss says so.
    for key, _ in call.attributes:
        known = {name for operation in operations for name in operation.attributes}
        _check_attribute(call, key, known)


def _check_replacement(call: Call, transforms: frozenset[str]) -> None:
    if call.label is not None:
        raise ExpressionError("names are given in match, not in rewrite", call.column)
    if call.function in KINDS and call.function not in OPERATIONS:
        raise ExpressionError(
            f"{call.function!r} is a kind; write one of {', '.join(KINDS[call.function])}", call.column
        )
    if call.function not in OPERATIONS:
        hint = suggest(call.function, [*OPERATIONS, *transforms])
        raise ExpressionError(f"no operation or transform is called {call.function!r}", call.column, hint)
    operation = OPERATIONS[call.function]
    if not operation.required_operands <= len(call.operands) <= len(operation.operands):
        raise ExpressionError(
            f"{call.function} takes the operands {', '.join(operation.operands)}; got {len(call.operands)}",
            call.column,
        )
    for key, _ in call.attributes:
        _check_attribute(call, key, set(operation.attributes))
    missing = [key for key, value in operation.attributes.items() if value is ... and key not in dict(call.attributes)]
    if missing:
        raise ExpressionError(f"{call.function} needs the attribute {missing[0]!r}", call.column)


def _check_attribute(call: Call, key: str, known: set[str]) -> None:
    if key not in known:
        hint = suggest(key, known) or f"it has {', '.join(sorted(known)) or 'none'}"
        raise ExpressionError(f"{call.function} has no attribute {key!r}", call.column, hint)
