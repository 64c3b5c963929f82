"""From the options of an attack to attacks, each with the settings that it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from surgery.attack import AttackProtocol

OPTIONS = {"epsilon": "--epsilon SIZE", "steps": "--steps N", "step_size": "--step-size SIZE"}
"""The options for settings that attacks may need, as messages write them."""


def attacks_of(
    kinds: list[str], given: Mapping[str, Any], arguments: Mapping[str, Any], *, targeted: bool
) -> dict[str, AttackProtocol]:
    """The attacks by name, each with the settings that its function accepts; raises InputError for other settings."""
    from surgery.attack import attack_from, attack_maker, check_attack_names
    from surgery.errors import InputError
    from surgery.plugins import signature_of

    check_attack_names(kinds)
    for key in arguments:
        if key in given:
            raise InputError(f"--attack-arg {key}: --{key.replace('_', '-')} is given too", hint="give one of the two")
    settings = {**given, **arguments, **({"targeted": True} if targeted else {})}
    known = {}
    for kind in kinds:
        signature = signature_of(attack_maker(kind, where="--attack"))
        if signature is None:  # not readable, as of a callable that is written in C: it gets all settings
            known[kind] = {*settings}
            continue
        known[kind] = {*settings} if signature.open_ended else {*signature.required, *signature.optional}
        missing = [key for key in signature.required if key not in settings]
        if missing:
            needed = ", ".join(OPTIONS.get(key, f"--attack-arg {key}=VALUE") for key in missing)
            raise InputError(f"--attack {kind} needs {needed}", hint="the threat model of an attack has no default")
    # With several attacks, each gets the settings that it accepts; a setting that none accepts is a mistake.
    for key in settings:
        if not any(key in keys for keys in known.values()):
            option = f"--attack-arg {key}" if key in arguments else f"--{key.replace('_', '-')}"
            raise InputError(f"{option} is not a setting of {' or '.join(kinds)}", hint=f"omit {option}")
    return {
        kind: attack_from(
            {"kind": kind, **{key: value for key, value in settings.items() if key in known[kind]}},
            where="--attack",
        )
        for kind in kinds
    }


def attack_arguments(texts: Iterable[str]) -> dict[str, Any]:
    """The arguments of --attack-arg: TOML values, such as 3, true and [1, 2], or the text itself."""
    import tomllib

    from surgery.errors import InputError

    result: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise InputError(f"--attack-arg {text}: expected KEY=VALUE", hint="as in --attack-arg start=zero")
        if key in result:
            raise InputError(f"--attack-arg {text}: {key} is given twice")
        try:
            result[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            result[key] = value.strip()
    return result
