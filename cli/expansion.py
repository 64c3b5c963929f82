"""Commands that take a group of options as one parameter: a dataclass with a field for each option."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with a keyword for each field of its parameters that are dataclasses of options.

    Typer reads the options of a command from its signature, and would otherwise need each option written in each
    command.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        group = parameter.annotation
        if is_dataclass(group) and isinstance(group, type):
            groups[parameter.name] = group
            hints = typing.get_type_hints(group, include_extras=True)
            parameters += [
                inspect.Parameter(
                    item.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if item.default is MISSING else item.default,
                    annotation=hints[item.name],
                )
                for item in fields(group)
            ]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        made = {
            name: group(**{item.name: given.pop(item.name) for item in fields(group)}) for name, group in groups.items()
        }
        return function(**made, **given)

    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return command
