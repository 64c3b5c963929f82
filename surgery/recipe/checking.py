"""Everything that is wrong with a recipe whose matrix is resolved: tables, references, files, what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from surgery.errors import InputError
from surgery.files import existing_file
from surgery.recipe.fields import FilePath, RuleSetName
from surgery.recipe.merging import Merged
from surgery.recipe.problems import Problem
from surgery.recipe.references import check_links, stage_tables
from surgery.recipe.schema import RecipeFile
from surgery.rewrite import load_rules
from surgery.validation import findings

Files = dict[tuple[str, Any], InputError | None]
"""What is wrong with files and rulesets that were looked at already."""


def check(merged: Merged, files: Files) -> Iterator[Problem]:
    """Everything that is wrong with a recipe without a matrix; `files` is added to, so that each is read once."""
    yield from _check_schema(merged)
    yield from check_links(merged)
    yield from _check_files(merged, files)
    for name, table in stage_tables(merged.data).items():
        if table.get("kind") == "train":
            yield from _check_train(name, table, merged)


def _check_train(name: str, table: Mapping[str, Any], merged: Merged) -> Iterator[Problem]:
    """What other tables have to give a train stage: a network, and images to select on."""
    if "network" not in table:
        place, message = merged.place(("stage", name)), f"stage {name} has no network to train"
        yield Problem(place=place, message=message, hint="give the recipe a table [model], or the stage `network`")
    data, select = (part if isinstance(part, dict) else {} for part in (merged.data.get("data"), table.get("select")))
    if data.get("validation") == 0 and select.get("on", "validation") == "validation" and select.get("every") != 0:
        message = f"validation: nothing is held out on which stage {name} could select its best epoch"
        hint = "hold some out, as 0.05; or select.every = 0 in the stage: then its last epoch is the best"
        yield Problem(place=merged.place(("data", "validation")), message=message, hint=hint)


def _check_schema(merged: Merged) -> Iterator[Problem]:
    try:
        RecipeFile.model_validate(merged.data)
    except ValidationError as error:
        for finding in findings(error, RecipeFile, merged.data):
            place = merged.place(finding.location, on_key=finding.on_key)
            yield Problem(place=place, message=finding.message, hint=finding.hint)


def _check_files(merged: Merged, files: Files) -> Iterator[Problem]:
    """Files and rulesets that the recipe names and that are not there."""
    for visited in merged.visited:
        for marker in visited.markers:
            if not isinstance(visited.value, str) or not isinstance(marker, (FilePath, RuleSetName)):
                continue
            if (visited.value, marker) not in files:
                files[visited.value, marker] = _check_file(visited.value, marker)
            told = files[visited.value, marker]
            if told is not None:
                yield Problem(place=merged.place(visited.location), message=told.message, hint=told.hint)


def _check_file(text: str, marker: Any) -> InputError | None:
    try:
        if isinstance(marker, RuleSetName):
            load_rules(text)
        elif isinstance(marker, FilePath) and marker.content and marker.fits(text):
            if os.path.exists(text) and not os.path.isfile(text):  # noqa: PTH110, PTH113 - these never raise
                return InputError(f"{text}: not a file")
            existing_file(text)
    except InputError as error:
        return error
    except (OSError, ValueError) as error:
        return InputError(f"{text}: cannot be read: {error}")
    return None
