"""Attacks as settings: what recipes and the command line write, with errors that name the key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from surgery.attack.attack import Attack, cw, fgsm, pgd
from surgery.errors import InputError, suggest

KINDS: Mapping[str, Callable[..., Attack]] = {"pgd": pgd, "fgsm": fgsm, "cw": cw}
"""What makes an attack, by the name that settings call it."""


def attack_from(settings: Mapping[str, Any], *, where: str = "attack") -> Attack:
    """The attack of settings such as `{"kind": "pgd", "epsilon": "8/255", "steps": 20, "step_size": 0.003}`.

    `kind` is one of `KINDS`, `pgd` if it is left out; the other keys are the arguments of that function. The fields of
    an `Attack`, as `dataclasses.asdict` gives them, are settings too. `where` is what errors call the settings.

    Raises InputError for keys that are unknown or missing, and for values that make no attack.
    """
    kind = settings.get("kind", "pgd")
    if kind not in KINDS:
        raise InputError(
            f"{where}: kind is {kind!r}, which is no attack",
            hint=suggest(str(kind), KINDS) or f"known are {', '.join(KINDS)}",
        )
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    _check_keys(arguments, kind, where)
    try:
        return KINDS[kind](**arguments)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from error


def _check_keys(arguments: Mapping[str, Any], kind: str, where: str) -> None:
    parameters = inspect.signature(KINDS[kind]).parameters
    for key in arguments:
        if key not in parameters:
            hint = suggest(str(key), parameters) or f"{kind} takes {', '.join(parameters)}"
            raise InputError(f"{where}: unknown key {key!r}", hint=hint)
    missing = [
        key for key, value in parameters.items() if value.default is inspect.Parameter.empty and key not in arguments
    ]
    if missing:
        hint = "an attack has no default for its size: that is the threat model"
        raise InputError(f"{where}: {kind} needs {', '.join(missing)}", hint=hint)
