"""All mistakes of one variant of a recipe, without its matrix: in tables, references, and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from surgery.data.sources import known_classes
from surgery.errors import InputError
from surgery.files import existing_file
from surgery.hierarchy import NAMED, load_hierarchy
from surgery.recipe.document import Document
from surgery.recipe.links import check_links
from surgery.recipe.problems import Problem
from surgery.recipe.schema import RecipeFile
from surgery.rewrite import load_rules
from surgery.stages.fields import (
    DATA,
    HIERARCHY_SUFFIXES,
    FilePath,
    HierarchyFile,
    RuleSetName,
    known_hierarchy,
)
from surgery.stages.network import DataTable
from surgery.validation import findings

Files = dict[tuple[str, Any], InputError | None]
"""The files and rulesets that were checked before, with their errors."""


def check(document: Document, files: Files) -> Iterator[Problem]:
    """All mistakes of a recipe without a matrix; `files` is added to, so that each file is read once."""
    # The three kinds of mistakes are independent, so that one error can report all of them.
    try:
        RecipeFile.model_validate(document.data)
    except ValidationError as error:
        for finding in findings(error, RecipeFile, document.data):
            place = document.place(finding.location, on_key=finding.on_key)
            yield Problem(place=place, message=finding.message, hint=finding.hint)
    yield from check_links(document)
    yield from _check_files(document, files)
    yield from _check_hierarchies(document, files)
    data = document.data.get("data")
    nothing_held_out = isinstance(data, dict) and data.get("validation") == 0
    for name, table in document.stages.items():
        if table.get("kind") == "train":
            yield from _check_train(name, table, document, nothing_held_out=nothing_held_out)
        elif nothing_held_out and table.get("split") == "validation":
            message = f"split: the data have no validation images that stage {name} could use"
            hint = "hold some out with data.validation, as 0.05; or choose the split test"
            yield Problem(place=document.place(("stage", name, "split")), message=message, hint=hint)


def _check_train(
    name: str, table: Mapping[str, Any], document: Document, *, nothing_held_out: bool
) -> Iterator[Problem]:
    """A train stage needs a network and images to select on, which other tables give."""
    if "network" not in table:
        place, message = document.place(("stage", name)), f"stage {name} has no network to train"
        yield Problem(place=place, message=message, hint="give the recipe a table [model], or the stage `network`")
    select = table.get("select")
    select = select if isinstance(select, dict) else {}
    if nothing_held_out and select.get("on", "validation") == "validation" and select.get("every") != 0:
        message = f"validation: no images are held out on which stage {name} could select its best epoch"
        hint = "hold some out, as 0.05; or set select.every = 0 in the stage: then its last epoch is the best"
        yield Problem(place=document.place(("data", "validation")), message=message, hint=hint)


def _check_files(document: Document, files: Files) -> Iterator[Problem]:
    """Files and rulesets that the recipe names and that cannot be read."""
    for visited in document.visited:
        for marker in visited.markers:
            if not isinstance(visited.value, str) or not isinstance(marker, (FilePath, RuleSetName, HierarchyFile)):
                continue
            if (visited.value, marker) not in files:
                files[visited.value, marker] = _check_file(visited.value, marker)
            error = files[visited.value, marker]
            if error is not None:
                yield Problem(place=document.place(visited.location), message=error.message, hint=error.hint)


def _check_hierarchies(document: Document, files: Files) -> Iterator[Problem]:
    """Known superclasses of other classes than those of the data, as far as these are known without loading."""
    try:
        data = DataTable.model_validate(document.data.get("data"))
    except ValidationError:
        return
    classes = known_classes(data.name, data.root, data.parameters)
    for visited in document.visited if classes is not None else ():
        text, key = visited.value, (visited.value, "classes")
        may_name = any(isinstance(marker, HierarchyFile) for marker in visited.markers) and isinstance(text, str)
        if not may_name or text == DATA or text in document.stages or files.get((text, HierarchyFile())) is not None:
            continue
        if key not in files:
            try:
                known_hierarchy(text, classes or ())
                files[key] = None
            except InputError as error:
                files[key] = error
        wrong = files[key]
        # A text that is neither a name nor a file is reported as a wrong reference.
        if wrong is not None and (text in NAMED or text.endswith(HIERARCHY_SUFFIXES)):
            message = f"{visited.location[-1]}: {wrong.message}"
            yield Problem(place=document.place(visited.location), message=message, hint=wrong.hint)


def _check_file(text: str, marker: Any) -> InputError | None:
    try:
        if isinstance(marker, RuleSetName):
            load_rules(text)
        elif isinstance(marker, HierarchyFile):
            if text.endswith(HIERARCHY_SUFFIXES):
                load_hierarchy(text)
        elif isinstance(marker, FilePath) and marker.content and marker.fits(text):
            existing_file(text)
    except InputError as error:
        return error
    except (OSError, ValueError) as error:
        return InputError(f"{text}: cannot be read: {error}")
    return None
