"""Which arguments a callable takes: read from its source without importing it, or from the imported callable."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.errors import InputError, suggest


class ArgumentError(InputError):
    """A callable does not take an argument, or needs one that was not given; `key` names the argument."""

    def __init__(self, message: str, *, key: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The parameters that a callable accepts by keyword.

    `open_ended`: it has `**keywords`, which accepts any name. `positional`: parameters without a default that it
    accepts by position only, so that it cannot be called with keywords.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    open_ended: bool
    positional: tuple[str, ...] = ()


def check_arguments(
    what: str, signature: Signature | None, given: Iterable[str], *, provided: Collection[str] = ()
) -> None:
    """Check that a callable takes the keywords `given` and needs nothing else.

    `what`: the name of the callable in messages. `provided`: keywords that surgery itself passes if they are accepted.

    Raises ArgumentError for the first keyword that does not fit.
    """
    if signature is None:
        return
    if signature.positional:
        message = (
            f"{what}: the parameter {signature.positional[0]!r} is positional-only, but arguments are given by name"
        )
        raise ArgumentError(message, key="", hint="remove the / from its definition")
    given = list(given)
    known = [name for name in (*signature.required, *signature.optional) if name not in provided]
    for key in given:
        if key not in known and not signature.open_ended:
            hint = suggest(key, known) or (f"it takes {', '.join(known)}" if known else "it takes no arguments")
            raise ArgumentError(f"{what}: unknown argument {key!r}", key=key, hint=hint)
    for key in signature.required:
        if key not in given and key not in provided:
            raise ArgumentError(f"{what}: the argument {key!r} is missing", key="", hint=f"add {key} = ...")


def signature_of(function: Any) -> Signature | None:
    """The signature of an imported callable; None where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    by_position = [item for item in parameters if item.kind is item.POSITIONAL_ONLY and item.default is item.empty]
    return Signature(
        required=tuple(item.name for item in named if item.default is item.empty),
        optional=tuple(item.name for item in named if item.default is not item.empty),
        open_ended=any(item.kind is item.VAR_KEYWORD for item in parameters),
        positional=tuple(item.name for item in by_position),
    )


def signature_in(tree: ast.Module, name: str, reference: str, path: Path) -> Signature | None:
    """The signature of the function or class `name` in the syntax tree of its module; None where that shows none.

    Raises InputError with the nearest names where the module defines no `name`.
    """
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
            if node.name == name:
                if not isinstance(node, ast.ClassDef) and node.decorator_list:
                    return None  # a decorator may change the parameters
                return _of_class(node) if isinstance(node, ast.ClassDef) else _of_function(node.args, skip=0)
        else:
            names += _bound_by(node)
    # A star import, a branch or a module's __getattr__ can define names that the syntax tree does not show.
    if name in names or "*" in names or "__getattr__" in names:
        return None
    raise InputError(f"{reference}: {path} defines no {name!r}", hint=suggest(name, names))


def _bound_by(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module binds, as far as they can be read from it."""
    found = []
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [item.asname or item.name for item in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
    return found


def _of_class(node: ast.ClassDef) -> Signature | None:
    decorators = [ast.unparse(item).partition("(")[0].rpartition(".")[2] for item in node.decorator_list]
    if decorators == ["dataclass"] and not node.bases:
        return _of_dataclass(node)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args, skip=1)
    return None


def _of_dataclass(node: ast.ClassDef) -> Signature | None:
    """The signature of the constructor that `dataclass` makes; None where a call, such as `field`, makes a field."""
    required, optional = list[str](), list[str]()
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args, skip=1)
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        if isinstance(item.value, ast.Call):
            return None
        kind = ast.unparse(item.annotation).strip("'\"").rpartition("[")[0] or ast.unparse(item.annotation)
        if not kind.endswith(("ClassVar", "KW_ONLY")):
            (required if item.value is None else optional).append(item.target.id)
    return Signature(required=tuple(required), optional=tuple(optional), open_ended=False)


def _of_function(arguments: ast.arguments, *, skip: int) -> Signature:
    positional = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
    needed = positional[: len(positional) - len(arguments.defaults)]
    by_position = {item.arg for item in arguments.posonlyargs}
    keywords = list(zip((item.arg for item in arguments.kwonlyargs), arguments.kw_defaults, strict=True))
    return Signature(
        required=(
            *(name for name in needed[skip:] if name not in by_position),
            *(name for name, default in keywords if default is None),
        ),
        optional=(
            *(name for name in positional[len(needed) :] if name not in by_position),
            *(name for name, default in keywords if default is not None),
        ),
        open_ended=arguments.kwarg is not None,
        positional=tuple(name for name in needed[skip:] if name in by_position),
    )
