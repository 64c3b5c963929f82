"""The order of classes in the matrices of a group: by the superclasses that belong to its network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgery.store import Group, Variable, list_groups, read_group, read_provenances
from surgery_cli.show.matrix import Order

SUPERCLASS = ("superclass", "reference_superclass", "superclass_of_class")
"""Variables with the superclass of each class: what a network shows, and what is known about the data."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """The superclasses in a store. `provenances`: those of all groups, which say what each was read from."""

    groups: Sequence[Group]
    provenances: Mapping[str, Mapping[str, str]]

    @staticmethod
    def read(path: Path) -> Orders:
        """Read the groups of the store at `path` that have superclasses; raises StoreError."""
        groups = [read_group(path, item.name) for item in list_groups(path) if set(SUPERCLASS) & set(item.shapes)]
        return Orders(groups=groups, provenances=read_provenances(path))

    def of(self, group: Group) -> Order | None:
        """The order for `group`: its own superclasses, else those found in its network, else the known ones."""
        network = self.network(group.name)
        own = [item for item in self.groups if item.name == group.name]
        same = [item for item in self.groups if self.network(item.name) == network]
        if len(self.groups) == 1 and not _sources(self.provenances.get(self.groups[0].name, {})):
            same = list(self.groups)  # of a store that does not say where its superclasses come from
        for item in (*own, *same):
            for variable in item.variables:
                if variable.name == "superclass" and variable.dimensions == ("class",):
                    return _order(item, variable)
        for item in (*same, *self.groups):
            for variable in item.variables:
                if variable.name in SUPERCLASS[1:] and variable.dimensions == ("class",):
                    return _order(item, variable)
        return None

    def network(self, name: str) -> str:
        """What the group was computed from: a checkpoint such as `at.best`, or the group of W that has none."""
        seen: set[str] = set()
        while name in self.provenances and name not in seen:
            seen.add(name)
            sources = _sources(self.provenances[name])
            if len(sources) != 1:
                return name
            name = sources[0]
        return name


def _sources(provenance: Mapping[str, str]) -> list[str]:
    """The inputs of a stage by its record, or the group that `surgery cluster` read."""
    try:
        if "stage" in provenance:
            return list(json.loads(provenance["stage"])["inputs"])
        parameters = json.loads(provenance.get("parameters", "{}"))
        return [parameters["from"]] if "from" in parameters else []
    except (ValueError, KeyError, TypeError):  # a store of another program
        return []


def _order(group: Group, variable: Variable) -> Order:
    known = variable.name != "superclass"
    source = group.attributes.get("reference", group.attributes.get("hierarchy", group.name)) if known else group.name
    meanings: Mapping[int, str] = dict(enumerate(variable.flag_meanings or ()))
    return Order(
        group=str(source),
        classes=tuple(map(str, group["class"])),
        superclasses=tuple(meanings.get(entry, str(entry)) for entry in np.asarray(variable.data).tolist()),
        known=known,
    )
