"""Attacks from settings: the tables of recipes and the options of the command line, with errors that name the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from surgery import plugins
from surgery.attack.interface import AttackProtocol, check_attack
from surgery.attack.parsing import SIZES, pixels
from surgery.attack.pgd import Attack, cw, fgsm, pgd
from surgery.errors import InputError, suggest

KINDS: Mapping[str, Callable[..., Attack]] = {"pgd": pgd, "fgsm": fgsm, "cw": cw}
"""The functions that make an attack, by the name that settings use."""

GROUP = "surgery.attacks"
"""The group of entry points in which installed packages register attacks."""


def attack_from(settings: Mapping[str, Any], *, where: str = "attack") -> AttackProtocol:
    """Return the attack of settings such as `{"kind": "pgd", "epsilon": "8/255", "steps": 20, "step_size": 0.003}`.

    `kind` is one of `KINDS` (`pgd` if it is left out), a name that an installed package registers as an entry point of
    `surgery.attacks`, or `package.module:name`, which is imported. The other keys are the arguments of that function;
    `epsilon` and `step_size` may be fractions such as `"8/255"`. The fields of an `Attack`, as `dataclasses.asdict`
    gives them, are settings as well. `where` is what errors call the settings.

    Raises InputError for an unknown kind, keys that are unknown or missing, and values that make no attack.
    """
    # `pgd` by default: a table of an attack in a recipe, and the fields of an `Attack`, name no kind.
    kind = settings.get("kind", "pgd")
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    make = attack_maker(kind, where=where)
    plugins.check_arguments(f"{where}: {kind}", plugins.signature_of(make), arguments)
    try:
        # Parsed here, so that a user's attack gets numbers as the built-in attacks do.
        sizes = {key: pixels(arguments[key], what=key) for key in SIZES if key in arguments}
        with plugins.users_code():  # a user's function may import its neighbors only when it is called
            attack = make(**{**arguments, **sizes})
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from error
    except Exception as error:  # a user's code may raise anything
        if kind in KINDS:
            raise
        raise InputError(f"{where}: {kind}: calling it raised {type(error).__name__}: {error}") from error
    check_attack(attack, what=f"{where}: the value that {kind} returns")
    return attack


def attack_maker(kind: str, *, where: str = "attack") -> Callable[..., Any]:
    """Return the function that makes attacks of this kind; a user's own is imported.

    Raises InputError for an unknown kind.
    """
    reference = user_reference(kind)
    if reference is None:
        if isinstance(kind, str) and kind in KINDS:
            return KINDS[kind]
        known = [*KINDS, *plugins.registered(GROUP)]
        raise InputError(
            f"{where}: unknown attack {kind!r}",
            hint=suggest(str(kind), known) or f"known are {', '.join(known)} and package.module:name",
        )
    try:
        make = plugins.load(reference)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from error
    if not callable(make):
        raise InputError(f"{where}: {reference}: expected a function that returns an attack, got {type(make).__name__}")
    return make


def user_reference(kind: str) -> str | None:
    """The reference `package.module:name` of a user's attack; None for every other kind.

    A name that an installed package registers stands for its reference; the names in `KINDS` come first.
    """
    return None if not isinstance(kind, str) or kind in KINDS else plugins.reference_of(kind, GROUP)
