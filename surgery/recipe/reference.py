"""The recipe reference and the JSON Schema, written from the tables themselves.

    python -m surgery.recipe.reference

brings docs/recipes.md and recipes/recipe.schema.json of a checkout up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from surgery.files import write_atomically
from surgery.recipe.fields import LARGEST
from surgery.recipe.reading import SHIPPED
from surgery.recipe.schema import schema
from surgery.toml_writer import inline

BEGIN = "<!-- what follows is written by python -m surgery.recipe.reference -->\n"

HEADINGS: Mapping[str, str] = {
    "RecipeFile": "The file",
    "RecipeTable": "`[recipe]`",
    "DataTable": "`[data]`",
    "NetworkTable": "`[model]` and `network`",
    "NormalizationTable": "`normalize`",
    "TrainStage": "Stage `train`",
    "StandardTable": "Objective `standard`",
    "PgdObjectiveTable": "Objective `pgd`",
    "TradesTable": "Objective `trades`",
    "MartTable": "Objective `mart`",
    "TrainingAttackTable": "`attack` of `pgd` and `mart`",
    "OwnLossAttackTable": "`attack` of `trades`",
    "PerturbationTable": "`awp`",
    "ClusterTable": "`cluster`",
    "OptimizerTable": "`optimizer`",
    "ConstantTable": "Schedule `constant`",
    "MultiStepTable": "Schedule `multi-step`",
    "CosineTable": "Schedule `cosine`",
    "OneCycleTable": "Schedule `one-cycle`",
    "AugmentationTable": "`augmentation`",
    "ExponentialTable": "Averaging `exponential`",
    "StochasticTable": "Averaging `stochastic`",
    "SelectTable": "`select`",
    "TrainingEngineTable": "`engine` of a training",
    "LinearizeStage": "Stage `linearize`",
    "ExtractStage": "Stage `extract`",
    "ClusterStage": "Stage `cluster`",
    "FeaturesStage": "Stage `features`",
    "AttackStage": "Stage `attack`",
    "ConfusionStage": "Stage `confusion`",
    "ReportStage": "Stage `report`",
    "PgdTable": "Attack `pgd`",
    "FgsmTable": "Attack `fgsm`",
    "CwTable": "Attack `cw`",
    "SearchEngineTable": "`engine` of an attack",
}
"""Every table of the schema, in the order of the page."""


def schema_text() -> str:
    """The JSON Schema as it is shipped."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """A section for each table of a recipe, in Markdown."""
    whole = schema()
    tables = {"RecipeFile": whole, **whole["$defs"]}
    return "\n".join(_section(name, tables) for name in HEADINGS)


def with_reference(page: str) -> str:
    """The page with what follows its marker written anew."""
    return page.partition(BEGIN)[0] + BEGIN + "\n" + reference()


def _section(name: str, tables: Mapping[str, Any]) -> str:
    table = tables[name]
    required = table.get("required", ())
    rows = [_row(key, value, key in required, tables) for key, value in _ordered(table["properties"])]
    head = [f"## {HEADINGS[name]}", "", table["description"], "", "| key | value | default | |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _ordered(properties: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """`kind` first, which tells what the other keys are."""
    yield from ((key, value) for key, value in properties.items() if key == "kind")
    yield from ((key, value) for key, value in properties.items() if key != "kind")


def _row(key: str, value: Mapping[str, Any], required: bool, tables: Mapping[str, Any]) -> str:
    # A description that is the table's own is left out of the schema.
    about = value.get("description") or tables[value["$ref"].rpartition("/")[2]]["description"]
    cells = (f"`{key}`", _kind(value), "required" if required else _default(value), about)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default is None or default == {}:
        return ""
    return "as there" if isinstance(default, dict) else f"`{inline(default)}`"


def _kind(value: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[table](#{anchor(HEADINGS[name])})"
    for several in ("anyOf", "oneOf"):
        if several in value:
            words = [_kind(item) for item in value[several] if item.get("type") != "null"]
            return " or ".join(_linked(value[several]) or dict.fromkeys(words))
    if "const" in value or "enum" in value:
        return ", ".join(f"`{inline(item)}`" for item in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        inner = _kind(value.get("items", {}))
        return f"list of {inner}" if inner else "list"
    if value.get("type") == "object" and "patternProperties" in value:
        return f"tables by name: {_kind(*value['patternProperties'].values())}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"table of {_kind(inner)}" if isinstance(inner, dict) else "table"
    if "pattern" in value and "/" in value["pattern"]:
        return 'a fraction such as `"8/255"`'
    words = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true` or `false`"}
    return words.get(str(value.get("type")), "") + _bounds(value)


def _linked(items: list[Mapping[str, Any]]) -> list[str] | None:
    """Links to the tables of a choice, each by its own name."""
    names = [item["$ref"].rpartition("/")[2] for item in items if "$ref" in item]
    if len(names) < 2:
        return None
    return [f"[{HEADINGS[name].split(' ')[-1]}](#{anchor(HEADINGS[name])})" for name in names]


def _bounds(value: Mapping[str, Any]) -> str:
    signs = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("exclusiveMaximum", "below"),
        ("maximum", "at most"),
    )
    return "".join(f", {words} {value[key]:g}" for key, words in signs if abs(value.get(key, LARGEST)) < LARGEST)


def anchor(heading: str) -> str:
    """The id that Markdown gives to a heading."""
    kept = "".join(character for character in heading.lower() if character.isalnum() or character in " -_")
    return kept.strip().replace(" ", "-")


def main() -> None:
    """Write page and schema of the checkout that this file is in."""
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    write_atomically(page, with_reference(page.read_text(encoding="utf-8")).encode())
    write_atomically(SHIPPED / "recipe.schema.json", schema_text().encode())


if __name__ == "__main__":
    main()
