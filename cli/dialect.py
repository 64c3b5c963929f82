"""The library speaks of arguments, the command line of options: one place that turns the former into the latter."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VALUE = r""""[^"`]*"|'[^'`]*'|\([^)`]*\)|[^\s,;)`]+"""
_IN_QUOTES = re.compile(rf"`(?P<name>\w+)(?:=(?P<value>{_VALUE}))?`")
_PLAIN = re.compile(rf"(?<![\w/.`=-])(?P<name>[a-z_]+)=(?P<value>{_VALUE})")


def in_options(text: str, options: Mapping[str, str], *, is_hint: bool) -> str:
    """Replace the arguments in a text of the library by the `options` of a command, a map from argument to option.

    An argument is written `name` or `name=value` in back quotes; in a hint also without quotes, for hints quote no
    names of files. `replace=True` becomes --replace, and `num_classes=10` becomes --num-classes 10. An argument of an
    architecture that is no option of its own becomes --arg width=8, where the command has --arg.
    """

    def option(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if name not in options:
            quoted = found[0].startswith("`")
            return f"{options['arguments']} {name}={value}" if quoted and value and "arguments" in options else found[0]
        if value in (None, "True"):
            return options[name]
        sizes = re.fullmatch(r"\((\d+), (\d+), (\d+)\)", value)
        return f"{options[name]} {'x'.join(sizes.groups()) if sizes else value.strip(chr(34) + chr(39))}"

    text = _IN_QUOTES.sub(option, text)
    return _PLAIN.sub(option, text) if is_hint else text
