"""The checks of patterns and rewrites against the vocabulary: all mistakes of an expression at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from surgery.errors import suggest
from surgery.graph import KINDS, OPERATIONS
from surgery.graph.operation import REQUIRED, keeps_attributes
from surgery.rewrite.expression import (
    Call,
    Expression,
    ExpressionError,
    Name,
    Wildcard,
    every,
    operations_of,
    parse,
    suggestion,
)


def parse_match(text: str) -> tuple[Call, ...]:
    """Parse a pattern: one call, or several separated by commas for several outputs.

    Raises ExpressionError for bad syntax, unknown operations, kinds and attributes, and patterns that match everything.
    """
    parsed = parse(text)
    _raise_all(_match_mistakes(parsed))
    return tuple(item for item in parsed if isinstance(item, Call))


def _match_mistakes(parsed: tuple[Expression, ...]) -> Iterator[ExpressionError]:
    for expression in every(parsed):
        if isinstance(expression, Call):
            yield from _pattern_mistakes(expression)
    # A capture may occur twice, and then both places hold the same value. A label names one node.
    given = {item.name for item in every(parsed) if isinstance(item, Name)}
    for item in every(parsed):
        if isinstance(item, Call) and item.label:
            if item.label in given:
                yield ExpressionError(f"the name {item.label!r} is given twice", item.label_column)
            given.add(item.label)
    if not all(isinstance(expression, Call) for expression in parsed):
        yield ExpressionError("a pattern has to start with an operation or kind, or it would match everything", 0)


def parse_rewrite(
    text: str, bound: frozenset[str] | None, transforms: frozenset[str], match: tuple[Call, ...] | None = None
) -> tuple[Expression, ...]:
    """Parse the rewrite of a rule; `bound` are the names that the pattern `match` captures.

    Both are None for a pattern with mistakes, and what depends on the pattern is then not checked.

    Raises ExpressionError for bad syntax, unbound names, unknown operations, transforms and attributes.
    """
    parsed = parse(text)
    _raise_all(_rewrite_mistakes(parsed, bound, transforms, match))
    return parsed


def _rewrite_mistakes(
    parsed: tuple[Expression, ...],
    bound: frozenset[str] | None,
    transforms: frozenset[str],
    match: tuple[Call, ...] | None,
) -> Iterator[ExpressionError]:
    # The outermost call of each expression keeps attributes of the operation that it replaces.
    replaced = dict(zip(map(id, parsed), match or (), strict=False))
    for expression in every(parsed):
        if isinstance(expression, Wildcard):
            yield ExpressionError("_ stands for anything and cannot be written; name it in match", 0)
        if isinstance(expression, Name) and bound is not None and expression.name not in bound:
            hint = suggest(expression.name, bound) or f"match captures {', '.join(sorted(bound)) or 'nothing'}"
            yield ExpressionError(f"{expression.name!r} is not captured by match", expression.column, hint)
        if isinstance(expression, Call) and expression.function not in transforms:
            yield from _replacement_mistakes(expression, transforms, replaced.get(id(expression)))


def _raise_all(mistakes: Iterable[ExpressionError]) -> None:
    found = list(mistakes)
    if found:
        found[0].others = tuple(found[1:])
        raise found[0]


def _pattern_mistakes(call: Call) -> Iterator[ExpressionError]:
    if call.function not in OPERATIONS and call.function not in KINDS:
        hint = suggestion(call.function, [*OPERATIONS, *KINDS])
        yield ExpressionError(f"no operation or kind is called {call.function!r}", call.column, hint)
        return
    operations = [OPERATIONS[name] for name in operations_of(call.function)]
    most = max(len(operation.operands) for operation in operations)
    if len(call.operands) > most:
        yield ExpressionError(
            f"{call.function} has {most} operands ({', '.join(operations[0].operands)}), not {len(call.operands)};"
            " attributes are written by keyword",
            call.column,
        )
    # A kind accepts what any of its operations has: the others do not match, and the near miss says so.
    known = {name for operation in operations for name in operation.attributes}
    yield from _attribute_mistakes(call, known)


def _replacement_mistakes(call: Call, transforms: frozenset[str], replaced: Call | None) -> Iterator[ExpressionError]:
    if call.label is not None:
        yield ExpressionError("names are given in match, not in rewrite", call.column)
    if call.function in KINDS and call.function not in OPERATIONS:
        yield ExpressionError(
            f"{call.function!r} is a kind; write one of {', '.join(KINDS[call.function])}", call.column
        )
        return
    if call.function not in OPERATIONS:
        hint = suggestion(call.function, [*OPERATIONS, *transforms])
        yield ExpressionError(f"no operation or transform is called {call.function!r}", call.column, hint)
        return
    operation = OPERATIONS[call.function]
    if not operation.required_operands <= len(call.operands) <= len(operation.operands):
        yield ExpressionError(
            f"{call.function} takes the operands {', '.join(operation.operands)}; got {len(call.operands)}",
            call.column,
        )
    yield from _attribute_mistakes(call, set(operation.attributes))
    kept = {
        key
        for name in (operations_of(replaced.function) if replaced is not None and _is_known(replaced) else ())
        if keeps_attributes(OPERATIONS[name], operation)
        for key in OPERATIONS[name].attributes
    }
    for key, value in operation.attributes.items():
        if value is REQUIRED and key not in kept and key not in dict(call.attributes):
            yield ExpressionError(f"{call.function} needs the attribute {key!r}", call.column)


def _is_known(call: Call) -> bool:
    return call.function in OPERATIONS or call.function in KINDS


def _attribute_mistakes(call: Call, known: set[str]) -> Iterator[ExpressionError]:
    for key, _ in call.attributes:
        if key not in known:
            hint = suggest(key, known) or f"it has {', '.join(sorted(known)) or 'none'}"
            yield ExpressionError(f"{call.function} has no attribute {key!r}", call.column, hint)
