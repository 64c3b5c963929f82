"""Plans as files, TOML or JSON: they can be read, edits can be deleted from them, and they apply to the same graph."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surgery.errors import InputError, RuleError, printable
from surgery.files import existing_file, write_atomically
from surgery.graph import Edit, Graph
from surgery.rewrite.loading import load_rules
from surgery.rewrite.planning import NearMiss, Plan
from surgery.toml import TomlDocument, read_toml
from surgery.toml_writer import to_toml
from surgery.validation import Finding, findings, shown

_LARGEST = 2**26
"""Bytes of a plan in JSON; large networks have plans of a few MB."""
_SHOWN = 30
"""Mistakes that an error lists."""

_HEAD = """\
# A plan of edits. Delete the tables of edits that are not wanted, then: surgery apply MODEL --plan THIS_FILE
# The near misses are for reading only.
"""


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write `plan` as TOML, or as JSON where `path` ends with `.json`.

    Raises InputError where it cannot be written.
    """
    data = {
        "plan": {
            "model": plan.graph.model_name,
            "graph": fingerprint(plan.graph),
            "rulesets": list(plan.rules.sources),
        },
        # Without file and line: these are paths of the machine that made the plan.
        "edit": [
            {
                "rule": edit.rule,
                "ruleset": edit.ruleset,
                "at": edit.at,
                "into": edit.into,
                "module_path": edit.module_path,
                "removed": [list(pair) for pair in edit.removed],
                "added": [list(pair) for pair in edit.added],
            }
            for edit in plan.edits
        ],
        "near_miss": [vars(miss) for miss in plan.near_misses],
    }
    text = json.dumps(data, indent=1) if Path(path).suffix == ".json" else _HEAD + to_toml(data)
    write_atomically(path, text.encode())


_Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
"""The name and the operation of a node."""


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    rule: str
    ruleset: str
    at: str
    into: str
    module_path: str
    removed: list[_Pair]
    added: list[_Pair]


class _NearMiss(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    rule: str
    ruleset: str
    at: str
    module_path: str
    reason: str
    depth: int


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    model: str
    graph: str
    rulesets: list[str] = Field(max_length=100)  # each is a file to read


class _PlanFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    plan: _Plan
    edit: list[_Edit] = Field(default_factory=list)
    near_miss: list[_NearMiss] = Field(default_factory=list)


def load_plan(path: str | Path, graph: Graph) -> Plan:
    """Read a plan that was saved for `graph`, with the edits that are still in it.

    Raises RuleError for a plan of another graph, and for a file that is no plan, naming the place of every mistake;
    InputError for a file that is missing or neither TOML nor JSON.
    """
    path = Path(path)
    document = _read_json(path) if path.suffix == ".json" else read_toml(path)
    data = document.data if isinstance(document, TomlDocument) else document
    try:
        content = _PlanFile.model_validate(data)
    except ValidationError as error:
        found = findings(error, _PlanFile, data)
        told = [item.point(document) if isinstance(document, TomlDocument) else _place(item) for item in found]
        more = [f"and {len(told) - _SHOWN} more mistakes"] if len(told) > _SHOWN else []
        hint = "plans are written by `surgery linearize MODEL --plan -o FILE` or `surgery.save_plan`"
        raise RuleError("\n".join([f"{path}: not a plan, or damaged:", *told[:_SHOWN], *more]), hint=hint) from None
    if content.plan.graph != fingerprint(graph):
        raise RuleError(
            f"{path}: expected a plan for this graph ({graph.model_name}),"
            f" got one for another graph ({printable(content.plan.model)})",
            hint="make the plan again with this model and input shape",
        )
    edits = [
        Edit(
            rule=item.rule,
            ruleset=item.ruleset,
            at=item.at,
            into=item.into,
            removed=tuple((name, operation) for name, operation in item.removed),
            added=tuple((name, operation) for name, operation in item.added),
            module_path=item.module_path,
            file=None,
            line=None,
        )
        for item in content.edit
    ]
    misses = tuple(NearMiss(**vars(item)) for item in content.near_miss)
    rules = load_rules(content.plan.rulesets)
    # Nothing is unexpected: a person may have deleted edits, so the bounds on the counts no longer apply.
    return Plan(graph=graph, rules=rules, edits=tuple(edits), near_misses=misses, unexpected=())


def _place(finding: Finding) -> str:
    """A mistake in a JSON file, with the keys and indices that lead to it."""
    return f"{'.'.join(map(str, finding.location)) or 'the file'}: {finding.text}"


def fingerprint(graph: Graph) -> str:
    """A digest of a graph's structure: names, operations and operands, without the weights."""
    # Weights are left out, so that a plan can be made before training and applied after it.
    parts = [
        f"{node.name}:{node.meta['operation']}:{','.join(read.name for read in node.all_input_nodes)}"
        for node in graph.graph.nodes
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _read_json(path: Path) -> dict[str, Any]:
    with existing_file(path).open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise InputError(f"{path}: expected a plan of at most {_LARGEST >> 20} MiB")
    try:
        data = json.loads(content)
    except RecursionError:
        raise InputError(f"{path}: not JSON: nested too deeply") from None
    except ValueError as error:  # not only JSONDecodeError: bad encodings, whole numbers of thousands of digits
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {shown(data)}")
    return data
