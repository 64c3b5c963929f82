"""`Recipe`: a chain of stages that was checked, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from surgery.attack import attack_from, settings
from surgery.data import sources
from surgery.errors import InputError, suggest
from surgery.models import registry as models
from surgery.plugins import Extension, locate, reference_of
from surgery.recipe.document import Document
from surgery.recipe.links import check_reference
from surgery.recipe.problems import Problem, RecipeError
from surgery.stages import Stage
from surgery.stages.attack_tables import ExtensionAttackTable
from surgery.stages.extension import ExtensionStage
from surgery.stages.fields import ExtensionName, Reference
from surgery.stages.network import DataTable
from surgery.stages.registry import KINDS
from surgery.validation import findings, visit


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A chain of stages on one data set; a stage comes after all that it reads.

    `text`: the whole recipe as TOML, with its includes and overrides, which loads to the same stages. `source`: the
    file that it was loaded from. `document`: the data with the origin of every value.
    """

    name: str
    description: str
    seed: int
    data: DataTable
    stages: tuple[Stage, ...]
    text: str
    source: str
    document: Document = field(repr=False, compare=False)

    def stage(self, name: str) -> Stage:
        """The stage called `name`; raises InputError with the nearest names."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise InputError(f"unknown stage {name!r} of recipe {self.name}", hint=suggest(name, names))

    def extensions(self) -> tuple[Extension, ...]:
        """The extensions that a run imports, located but not imported."""
        found = {}
        for table in (self.data, *(stage.parameters for stage in self.stages)):
            for visited in visit(type(table), table.model_dump()):
                for marker in visited.markers:
                    if isinstance(marker, ExtensionName) and isinstance(visited.value, str):
                        reference = extension_reference(visited.value, marker)
                        if reference is not None:
                            found[reference] = locate(reference)
        return tuple(found.values())

    def imported(self) -> Recipe:
        """The recipe with the user's stage kinds imported, and their tables made by their own classes.

        The user's attacks are made once, so that a wrong value is reported before any stage runs.

        Raises RecipeError for all keys, references and values that these do not accept, and InputError if a kind cannot
        be imported.
        """
        stages, problems = [], list[Problem]()
        for stage in self.stages:
            for visited in visit(type(stage.parameters), stage.parameters.model_dump()):
                if visited.model is ExtensionAttackTable:
                    try:
                        attack_from(visited.value)
                    except InputError as error:
                        place = self.document.place(("stage", stage.base, *visited.location))
                        problems.append(Problem(place=place, message=error.message, hint=error.hint))
            if isinstance(stage.parameters, ExtensionStage):
                table, keys = stage.parameters.imported()
                try:
                    parameters = table.model_validate(keys)
                except ValidationError as error:
                    for finding in findings(error, table, keys):
                        place = self.document.place(("stage", stage.base, *finding.location), on_key=finding.on_key)
                        problems.append(Problem(place=place, message=finding.message, hint=finding.hint))
                else:
                    for visited in visit(table, parameters.model_dump()):
                        location = ("stage", stage.base, *visited.location)
                        for marker in visited.markers:
                            if isinstance(marker, Reference) and isinstance(visited.value, str):
                                problems += check_reference(self.document, location, visited.value, marker)
                    stage = replace(stage, parameters=parameters)
            stages.append(stage)
        if problems:
            raise RecipeError(problems)
        return replace(self, stages=tuple(stages))


def extension_reference(text: str, marker: ExtensionName) -> str | None:
    """The reference of the extension that a marked text names; None if it names something of surgery's own."""
    return _REFERENCES[marker.group](text)


# surgery's own names come before those that packages register, and each registry knows its own.
_REFERENCES: Mapping[str, Callable[[str], str | None]] = {
    "surgery.architectures": models.user_reference,
    "surgery.datasets": sources.user_reference,
    "surgery.attacks": settings.user_reference,
    "surgery.stages": lambda kind: None if kind in KINDS else reference_of(kind, "surgery.stages"),
}
