"""Attacks from settings: the tables of recipes and the options of the command line, with errors that name the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from surgery.attack.interface import AttackProtocol, check_attack
from surgery.attack.parsing import SIZES, pixels
from surgery.attack.pgd import Attack, cw, fgsm, pgd
from surgery.errors import InputError, suggest
from surgery.plugins import check_arguments, load, reference_of, registered, signature_of

KINDS: Mapping[str, Callable[..., Attack]] = {"pgd": pgd, "fgsm": fgsm, "cw": cw}
"""The functions that make an attack, by the name that settings use."""

ENTRY_POINTS = "surgery.attacks"
"""The group of entry points in which installed packages register attacks."""


def attack_from(settings: Mapping[str, Any], *, where: str = "attack") -> AttackProtocol:
    """Return the attack of settings such as `{"kind": "pgd", "epsilon": "8/255", "steps": 20, "step_size": 0.003}`.

    `kind` is one of `KINDS` (`pgd` if it is left out), a name that an installed package registers as an entry point of
    `surgery.attacks`, or `package.module:name`, which is imported. The other keys are the arguments of that function;
    `epsilon` and `step_size` may be fractions such as `"8/255"`. The fields of an `Attack`, as `dataclasses.asdict`
    gives them, are settings as well. `where` is what errors call the settings.

    Raises InputError for an unknown kind, keys that are unknown or missing, and values that make no attack.
    """
    kind = settings.get("kind", "pgd")
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    make = attack_maker(kind, where=where)
    check_arguments(f"{where}: {kind}", signature_of(make), arguments)
    try:
        # Here, so that a user's attack gets a number as the built-in ones do.
        sizes = {key: pixels(arguments[key], what=key) for key in SIZES if key in arguments}
        attack = make(**{**arguments, **sizes})
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from error
    except Exception as error:  # code of a user may raise anything
        if kind in KINDS:
            raise
        raise InputError(f"{where}: {kind} raised {type(error).__name__}: {error}") from error
    check_attack(attack, what=f"{where}: what {kind} returns")
    return attack


def attack_maker(kind: str, *, where: str = "attack") -> Callable[..., Any]:
    """Return the function that makes attacks of this kind; imports it if it is a user's own.

    Raises InputError for an unknown kind.
    """
    if kind in KINDS:
        return KINDS[kind]
    reference = reference_of(kind, ENTRY_POINTS) if isinstance(kind, str) else None
    if reference is None:
        known = [*KINDS, *registered(ENTRY_POINTS)]
        raise InputError(
            f"{where}: kind is {kind!r}, which is no attack",
            hint=suggest(str(kind), known) or f"known are {', '.join(known)} and package.module:name",
        )
    try:
        make = load(reference)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from error
    if not callable(make):
        raise InputError(
            f"{where}: {reference} is {type(make).__name__}; a callable that returns an attack is expected"
        )
    return make
