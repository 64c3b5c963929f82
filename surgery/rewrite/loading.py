"""Rulesets from TOML: every mistake is reported, each with file:line:column and a caret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surgery.errors import Position, RuleError, suggest
from surgery.rewrite.checking import parse_match, parse_rewrite
from surgery.rewrite.conditions import Where
from surgery.rewrite.expression import ExpressionError, Name, names_bound
from surgery.rewrite.ruleset import EXPECTED, Promise, Rule, RuleSet
from surgery.rewrite.transforms import TRANSFORMS
from surgery.toml import TomlDocument, read_toml
from surgery.validation import findings, shown

MOST_RULES = 1000
"""The most rules of a ruleset with those that it includes: each is tried at all nodes, in every round."""
DEEPEST_INCLUDE = 20
"""The longest chain of rulesets that include each other."""
_SHOWN = 30
"""Mistakes that an error lists."""

_Mistake = tuple[Position, str]


class _Where(BaseModel):
    model_config = ConfigDict(extra="forbid")
    module: str | None = None
    shape: dict[str, str | list[int | str]] = Field(default_factory=dict)
    attributes: dict[str, Any] = Field(default_factory=dict)
    data: list[str] = Field(default_factory=list)
    constant: list[str] = Field(default_factory=list)
    parameter: list[str] = Field(default_factory=list)
    shared: bool | None = None
    private: bool | None = None


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    match: str
    rewrite: str
    where: _Where = Field(default_factory=_Where)
    expect: str | None = None
    priority: int = 0
    keeps_shape: bool = True
    about: str = ""


class _RuleSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    about: str = ""
    promise: Promise | None = None
    include: list[str] = Field(default_factory=list)
    rule: list[_Rule] = Field(default_factory=list)


def load_rules(name_or_path: str | Path | RuleSet | Sequence[str | Path | RuleSet]) -> RuleSet:
    """Load a shipped ruleset by name, a TOML file by path, or several, which are joined in order.

    Raises RuleError, or InputError for a file that is missing or not TOML, pointing at the place.
    """
    if isinstance(name_or_path, RuleSet):
        return name_or_path
    if isinstance(name_or_path, (str, Path)):
        return _load(str(name_or_path), None, (), {})
    if not isinstance(name_or_path, (list, tuple)):
        given = type(name_or_path).__name__
        raise RuleError(f"expected the name of a ruleset, a path, a RuleSet, or a list of them, got {given}")
    rulesets = [load_rules(item) for item in name_or_path]
    if len(rulesets) == 1:
        return rulesets[0]
    promises = [ruleset.promise for ruleset in rulesets]
    # "affine" is about the result, so one ruleset that promises it is enough. "same function" is about each edit, so
    # a single ruleset without this promise breaks it.
    promise = "affine" if "affine" in promises else "same function" if set(promises) == {"same function"} else None
    return RuleSet(
        name="+".join(ruleset.name for ruleset in rulesets),
        about="",
        promise=promise,
        rules=_unique(rule for ruleset in rulesets for rule in ruleset.rules),
        sources=tuple(source for ruleset in rulesets for source in ruleset.sources),
    )


def shipped_rulesets() -> tuple[str, ...]:
    """The names of the rulesets that come with the package."""
    folder = resources.files("surgery.rewrite") / "rulesets"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def _load(name: str, folder: Path | None, including: tuple[str, ...], loaded: dict[str, RuleSet]) -> RuleSet:
    path = _find(name, folder)
    if str(path) in including:
        chain = " includes ".join([*including[including.index(str(path)) :], str(path)])
        raise RuleError(f"rulesets include each other: {chain}")
    if len(including) > DEEPEST_INCLUDE:
        raise RuleError(f"{path}: rulesets include each other in a chain of more than {DEEPEST_INCLUDE}")
    if str(path) in loaded:  # two rulesets may include a third one
        return loaded[str(path)]
    document = read_toml(path)
    try:
        data = _RuleSet.model_validate(document.data)
    except ValidationError as error:
        raise _mistakes([*_table_mistakes(error, document), *_rules(document)[1]]) from None
    own, mistakes = _rules(document)
    if mistakes:
        raise _mistakes(mistakes)
    included: list[RuleSet] = []
    for index, item in enumerate(data.include):
        try:
            included.append(_load(item, path.parent, (*including, str(path)), loaded))
        except RuleError as error:
            # A message that points into a file is kept: it names the innermost mistake.
            if document.path in error.message or ":" in error.message.split(" ")[0]:
                raise
            raise RuleError(document.position(("include", index)).point(error.message), hint=error.hint) from None
    rules = _unique([*(rule for ruleset in included for rule in ruleset.rules), *own])
    if len(rules) > MOST_RULES:
        raise RuleError(f"{path}: {len(rules):,} rules with those that it includes; at most {MOST_RULES:,} are allowed")
    loaded[str(path)] = RuleSet(
        name=data.name, about=data.about, promise=data.promise, rules=rules, sources=(str(name),)
    )
    return loaded[str(path)]


def _table_mistakes(error: ValidationError, document: TomlDocument) -> list[_Mistake]:
    return [
        ((document.key_position if found.on_key else document.position)(found.location), found.text)
        for found in findings(error, _RuleSet, document.data)
    ]


def _mistakes(mistakes: Iterable[_Mistake]) -> RuleError:
    """The error that reports all mistakes, in the order of the file."""
    ordered = sorted(mistakes, key=lambda mistake: (mistake[0].line, mistake[0].column))
    shown = [position.point(text) for position, text in ordered[:_SHOWN]]
    more = [f"and {len(ordered) - _SHOWN} more mistakes"] if len(ordered) > _SHOWN else []
    return RuleError("\n".join([*shown, *more]))


def _find(name: str, folder: Path | None) -> Path:
    if name in shipped_rulesets():
        return Path(str(resources.files("surgery.rewrite") / "rulesets" / f"{name}.toml"))
    path = (folder or Path()) / name
    if path.suffix != ".toml" and not path.exists():
        hint = suggest(name, shipped_rulesets()) or f"shipped are {', '.join(shipped_rulesets())}"
        raise RuleError(f"unknown ruleset {name!r}, and no such file exists", hint=hint)
    return path


def _unique(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    # Two rulesets may include a third one; its rules fire, and are counted, once.
    return tuple({(rule.ruleset, rule.name): rule for rule in rules}.values())


def _rules(document: TomlDocument) -> tuple[list[Rule], list[_Mistake]]:
    """The rules of a file, and the mistakes in those whose table has the right keys and types."""
    rules: list[Rule] = []
    mistakes: list[_Mistake] = []
    names: set[str] = set()
    tables = document.data.get("rule", [])
    if not isinstance(tables, list):
        return [], []
    if len(tables) > MOST_RULES:
        text = f"{len(tables):,} rules; at most {MOST_RULES:,} are allowed in a ruleset"
        return [], [(document.position(("rule", MOST_RULES)), text)]
    for index, table in enumerate(tables):
        try:
            item = _Rule.model_validate(table)
        except ValidationError:
            continue  # reported with the mistakes of all tables
        if item.name in names:
            mistakes.append((document.position(("rule", index, "name")), f"a second rule called {item.name!r}"))
        names.add(item.name)
        rule = _rule(item, index, document, mistakes)
        if rule is not None:
            rules.append(rule)
    return rules, mistakes


def _rule(item: _Rule, index: int, document: TomlDocument, mistakes: list[_Mistake]) -> Rule | None:
    """The rule of one table; None after mistakes, which are added to `mistakes`."""
    count = len(mistakes)

    def parsed(key: str, parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except ExpressionError as error:
            for found in (error, *error.others):
                place = document.position(("rule", index, key), offset=found.column + 1)
                mistakes.append((place, found.text))
            return None

    match = parsed("match", lambda: parse_match(item.match))
    bound = None if match is None else names_bound(match)
    rewrite = parsed("rewrite", lambda: parse_rewrite(item.rewrite, bound, frozenset(TRANSFORMS), match))
    if match is not None and rewrite is not None:
        place = document.position(("rule", index, "rewrite"), offset=1)
        if len(match) != len(rewrite):
            mistakes.append((place, f"match has {len(match)} outputs, rewrite {len(rewrite)}"))
        elif all(isinstance(new, Name) and old.label == new.name for old, new in zip(match, rewrite, strict=True)):
            mistakes.append((place, "the rewrite is the matched node itself, so the rule would change nothing"))
    if item.expect is not None and EXPECTED.fullmatch(item.expect.strip()) is None:
        place = document.position(("rule", index, "expect"))
        mistakes.append((place, f"expect is written like '>=1', '==2' or '0', got {shown(item.expect)}"))
    where = Where(
        module=item.where.module,
        shape={key: value if isinstance(value, str) else _sizes(value) for key, value in item.where.shape.items()},
        attributes=item.where.attributes,
        data=tuple(item.where.data),
        constant=tuple(item.where.constant),
        parameter=tuple(item.where.parameter),
        shared=item.where.shared,
        private=item.where.private,
    )
    for name in dict.fromkeys(where.names()):
        if bound is not None and name not in bound:
            hint = suggest(name, bound) or f"match captures {', '.join(sorted(bound)) or 'nothing'}"
            place = document.position(("rule", index, "where"))
            mistakes.append((place, f"where uses {name!r}, which match does not capture; {hint}"))
    if match is None or rewrite is None or len(mistakes) > count:
        return None
    return Rule(
        name=item.name,
        ruleset=str(document.data.get("name")),
        match=match,
        rewrite=rewrite,
        match_text=item.match,
        rewrite_text=item.rewrite,
        where=where,
        expect=item.expect,
        priority=item.priority,
        keeps_shape=item.keeps_shape,
        about=item.about,
        source=str(document.position(("rule", index)).path),
    )


def _sizes(sizes: list[int | str]) -> tuple[int | str, ...]:
    """The sizes of a condition; one "..." stands for several in a row, whose ways to share sizes would multiply."""
    return tuple(size for size, before in zip(sizes, [None, *sizes], strict=False) if not size == before == "...")
