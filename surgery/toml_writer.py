"""Data as TOML: tables and arrays of tables at the top as headers, tables inside them inline."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """Text that parses to `data`; the tables of `stage` are a recipe's, and have headers of their own."""
    blocks: list[str] = []
    for name, value in data.items():
        if name == "stage":
            blocks += [_block(f"[stage.{_key(stage)}]", table) for stage, table in value.items()]
        elif isinstance(value, list):
            blocks += [_block(f"[[{_key(name)}]]", table) for table in value]
        else:
            blocks.append(_block(f"[{_key(name)}]", value))
    return "\n".join(blocks)


def _block(header: str, table: Mapping[str, Any]) -> str:
    return f"{header}\n" + "".join(f"{pair(key, value)}\n" for key, value in table.items())


def pair(key: str, value: Any) -> str:
    """`key = value`."""
    return f"{_key(key)} = {inline(value)}"


def inline(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(pair(key, item) for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    assert math.isfinite(value), "checked when the recipe was loaded"
    return repr(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A JSON string is a TOML string, except for the one control character that JSON does not escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
