"""Plans as files, TOML or JSON: they can be read, edits can be deleted from them, and they apply to the same graph."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from surgery.errors import InputError, RuleError
from surgery.files import existing_file, write_atomically
from surgery.graph import Edit, Graph
from surgery.rewrite.planning import NearMiss, Plan
from surgery.rewrite.ruleset import load_rules
from surgery.toml import read_toml
from surgery.toml_writer import to_toml

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


def load_plan(path: str | Path, graph: Graph) -> Plan:
    """Read a plan that was saved for `graph`, with the edits that are still in it.

    Raises RuleError for a plan of another graph or a damaged one; InputError for a missing file.
    """
    data = _read(Path(path))
    try:
        if data["plan"]["graph"] != fingerprint(graph):
            raise RuleError(f"{path}: a plan for another graph ({data['plan']['model']}, not {graph.model_name})")
        edits: list[Edit] = []
        for entry in data.get("edit", []):
            fields = {key: entry[key] for key in ("rule", "ruleset", "at", "into", "module_path")}
            removed, added = (tuple((str(a), str(b)) for a, b in entry[key]) for key in ("removed", "added"))
            edits.append(Edit(**fields, removed=removed, added=added, file=None, line=None))
        misses = tuple(NearMiss(**entry) for entry in data.get("near_miss", []))
        rules = load_rules(data["plan"]["rulesets"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RuleError(f"{path}: not a plan, or damaged: {error}") from error
    # Nothing is unexpected: a person may have deleted edits, so the bounds on the counts no longer apply.
    return Plan(graph=graph, rules=rules, edits=tuple(edits), near_misses=misses, unexpected=())


def fingerprint(graph: Graph) -> str:
    """A digest of a graph's structure: names, operations and operands, without the weights."""
    # Weights are left out, so that a plan can be made before training and applied after it.
    parts = [
        f"{node.name}:{node.meta['operation']}:{','.join(read.name for read in node.all_input_nodes)}"
        for node in graph.graph.nodes
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any]:
    if path.suffix != ".json":
        return read_toml(path).data
    try:
        data = json.loads(existing_file(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    return data if isinstance(data, dict) else {}
