"""Keys of stages: digests of everything that decides a result, so that a stage runs again exactly when that changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surgery.errors import InputError
from surgery.plugins import locate
from surgery.recipe.recipe import Recipe, extension_reference
from surgery.rewrite import load_rules
from surgery.stages import Stage
from surgery.stages.fields import (
    DATA,
    HIERARCHY_SUFFIXES,
    ExtensionName,
    FilePath,
    Immaterial,
    Reference,
    RuleSetName,
)
from surgery.toml import Location
from surgery.validation import visit

HIERARCHY = "data.hierarchy"
"""The name under which a record holds the digest of the known superclasses that a recipe gives its data."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """Everything that decided the result of a stage; a run folder keeps one for each finished stage.

    `key`: the digest of the rest. `parameters`: those that affect results, with all defaults. `inputs`: the keys of the
    stages that it read, by their names, with the checkpoint. `contents`: digests of the files, rulesets and extensions
    that `parameters` name, by their dotted keys, and of the known superclasses where the stage uses them. `data`: the
    digest of the data set.
    """

    key: str
    kind: str
    version: int
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    contents: Mapping[str, str]
    data: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> StageRecord:
        """Read what `as_json` made; raises InputError for anything else."""
        try:
            return StageRecord(**value)
        except TypeError:
            raise InputError(f"expected the record of a stage, got {value!r}") from None


def stage_records(recipe: Recipe, data_digest: str) -> Mapping[str, StageRecord]:
    """The record of each stage, with its key.

    The key is the SHA-256 of the canonical JSON of kind, version, parameters, contents of files, data, and the keys of
    its inputs. Names, order, comments, and parameters that do not affect results are left out of it; the names of
    stages are in the keys of reports, which show them.

    Raises InputError for a file that does not exist any more.
    """
    records: dict[str, StageRecord] = {}
    source = extension_reference(recipe.data.name, ExtensionName(group="surgery.datasets"))
    if source is not None:  # the code that loads the data counts as well as the data
        data_digest = hashlib.sha256(f"{data_digest} {locate(source).digest}".encode()).hexdigest()
    hierarchy = recipe.data.hierarchy
    if hierarchy is not None:
        is_file = hierarchy.endswith(HIERARCHY_SUFFIXES)
        hierarchy = _digest_of_file(hierarchy) if is_file else hashlib.sha256(hierarchy.encode()).hexdigest()
    rules: dict[str, str] = {}  # most stages of a matrix name the same ruleset, which takes a while to read
    for stage in recipe.stages:
        contents = dict(_contents(stage, rules))
        if hierarchy is not None and _uses_hierarchy(stage):  # training a network does not depend on it
            contents[HIERARCHY] = hierarchy
        records[stage.name] = _record(stage, records, data_digest, contents)
    return records


def stage_keys(recipe: Recipe, data_digest: str) -> Mapping[str, str]:
    """The key of each stage; see `stage_records`."""
    return {name: record.key for name, record in stage_records(recipe, data_digest).items()}


def material(stage: Stage) -> dict[str, Any]:
    """The parameters that affect results, as JSON can hold them."""
    everything = stage.parameters.model_dump(mode="json", exclude={"kind"})
    for location, markers in _marked(stage):
        if any(isinstance(marker, Immaterial) for marker in markers):
            _within(everything, location[:-1]).pop(location[-1])
    return everything


def _record(stage: Stage, records: Mapping[str, StageRecord], data: str, contents: Mapping[str, str]) -> StageRecord:
    parameters, version = material(stage), stage.parameters.version
    # By their keys, not by their names: renaming a stage changes no result.
    read = {
        role: {"key": records[item.stage].key, "checkpoint": item.checkpoint} for role, item in stage.inputs.items()
    }
    if stage.parameters.gathers:  # except in a report, which shows the names
        read = {item.stage: records[item.stage].key for item in stage.inputs.values()}
    decides = {
        "kind": stage.kind,
        "version": version,
        # References and files count by what they lead to, which stands below.
        "parameters": _without(parameters, [*stage.inputs, *contents]),
        "inputs": read,
        "contents": contents,
        "data": data,
    }
    return StageRecord(
        key=hashlib.sha256(_canonical(decides).encode()).hexdigest(),
        kind=stage.kind,
        version=version,
        parameters=parameters,
        inputs={str(item): records[item.stage].key for item in stage.inputs.values()},
        contents=contents,
        data=data,
    )


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _marked(stage: Stage) -> Iterator[tuple[Location, tuple[Any, ...]]]:
    for visited in visit(type(stage.parameters), stage.parameters.model_dump()):
        if visited.markers:
            yield visited.location, visited.markers


def _uses_hierarchy(stage: Stage) -> bool:
    values = stage.parameters.model_dump()
    return stage.parameters.uses_hierarchy or any(
        isinstance(marker, Reference) and marker.or_hierarchy and _within(values, location) == DATA
        for location, markers in _marked(stage)
        for marker in markers
    )


def _contents(stage: Stage, rules: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Digests of the files, rulesets and extensions of a stage, by their dotted keys."""
    values = stage.parameters.model_dump()
    for location, markers in _marked(stage):
        text = _within(values, location)
        name = ".".join(map(str, location))
        # A hierarchy may be a stage, whose key counts, or a file of the same marker.
        stage_is_meant = name in stage.inputs and any(isinstance(marker, Reference) for marker in markers)
        if not isinstance(text, str) or stage_is_meant:
            continue
        # A ruleset counts by its rules, also when a path names it: its comments and layout do not matter.
        are_rules = any(isinstance(marker, RuleSetName) for marker in markers)
        for marker in markers:
            if isinstance(marker, RuleSetName):
                if text not in rules:
                    rules[text] = _digest_of_rules(text)
                yield name, rules[text]
            elif isinstance(marker, ExtensionName):
                reference = extension_reference(text, marker)
                if reference is not None:
                    yield name, hashlib.sha256(f"{reference} {locate(reference).digest}".encode()).hexdigest()
            elif isinstance(marker, FilePath) and marker.content and marker.fits(text) and not are_rules:
                yield name, _digest_of_file(text)
    # Which keys of an extension are paths is written in its class, which is not imported here: every text that names
    # an existing file counts as one.
    for name, text in (stage.parameters.model_extra or {}).items():
        if isinstance(text, str) and name not in stage.inputs and os.path.isfile(text):  # noqa: PTH113 - never raises
            yield name, _digest_of_file(text)


def _digest_of_file(path: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _digest_of_rules(name: str) -> str:
    """The digest of all rules of a ruleset, included ones among them, without their comments and layout."""
    ruleset = load_rules(name)
    rules = [
        [rule.name, rule.match_text, rule.rewrite_text, repr(rule.where), rule.expect, rule.priority, rule.keeps_shape]
        for rule in ruleset.rules
    ]
    return hashlib.sha256(_canonical([ruleset.promise, rules]).encode()).hexdigest()


def _within(values: Any, location: Location) -> Any:
    for part in location:
        values = values[part]
    return values


def _without(values: Any, names: list[str], prefix: str = "") -> Any:
    """`values` with None in place of each value with one of the dotted names."""
    if prefix.removesuffix(".") in names:
        return None
    if isinstance(values, dict):
        return {key: _without(item, names, f"{prefix}{key}.") for key, item in values.items()}
    if isinstance(values, list):
        return [_without(item, names, f"{prefix}{index}.") for index, item in enumerate(values)]
    return values
