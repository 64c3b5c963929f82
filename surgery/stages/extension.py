"""`ExtensionStage`: a stage whose kind a user wrote, until the run imports it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from surgery.errors import InputError
from surgery.plugins import load, reference_of
from surgery.stages.fields import ExtensionName, Seed, as_validator, check_extension, check_plain
from surgery.stages.findings import Finding, Section
from surgery.stages.sources import SEED
from surgery.stages.stage import Context, StageTable
from surgery.store import Group

GROUP = "surgery.stages"
"""The group of entry points in which installed packages register stage kinds."""


class ExtensionStage(StageTable):
    """A stage kind of the user: a subclass of `surgery.stages.StageTable`, whose fields are the other keys."""

    known: ClassVar[tuple[str, ...]] = ()
    """The kinds that are not extensions, for suggestions; the registry, which lists this class too, fills it in."""
    own_sections: ClassVar[Mapping[str, Section]] = {}
    """The sections of these kinds by their keys, filled in by the registry."""
    heading: ClassVar[str] = "Stage `package.module:Name`"
    uses_hierarchy: ClassVar[bool] = True
    model_config = ConfigDict(extra="allow")

    kind: Annotated[str, ExtensionName(group=GROUP)] = Field(
        description="The class, as `package.module:Name`, or a name that an installed package registers.",
        json_schema_extra={"pattern": "."},
    )
    seed: Seed | None = SEED

    @model_validator(mode="after")
    def _exists(self) -> Self:
        as_validator(lambda: check_plain(self.__pydantic_extra__ or {}))
        check_extension(self.kind, GROUP, (), known=self.known, what="stage kind")
        return self

    def imported(self) -> tuple[type[StageTable], dict[str, Any]]:
        """Import the class, and return it with the keys for it; raises InputError if it is not a stage kind."""
        reference = reference_of(self.kind, GROUP)
        assert reference is not None, "checked when the table was made"
        table = load(reference)
        if not (isinstance(table, type) and issubclass(table, StageTable)):
            raise InputError(
                f"{reference}: expected a subclass of surgery.stages.StageTable, got {table!r}",
                hint="docs/tutorial-extensions.md shows one",
            )
        if table.files and not table.mark:
            raise InputError(
                f"{reference}: a stage kind with `files` needs a `mark`, the file that says whose files they are",
                hint='as in mark = "probes/.{}.key.json"',
            )
        if inspect.isabstract(table):
            missing = ", ".join(sorted(table.__abstractmethods__))
            raise InputError(
                f"{reference}: expected a stage kind with all methods, but {missing} is not defined",
                hint="docs/tutorial-extensions.md shows one",
            )
        # Sections are merged by their keys: rows of another class would end in a table that does not know them.
        for item in vars(sys.modules[table.__module__]).values():
            section = getattr(item, "section", None) if isinstance(item, type) and issubclass(item, Finding) else None
            if section is not None and self.own_sections.get(section.key, section) != section:
                raise InputError(
                    f"{reference}: the section of {item.__name__} has the key {section.key!r} of one of surgery's own",
                    hint=f"surgery's own are {', '.join(self.own_sections)}; choose another key",
                )
        keys = dict(self.__pydantic_extra__ or {})
        if "seed" in table.model_fields:
            keys["seed"] = self.seed
        return table, keys

    def run(self, context: Context) -> Group:
        raise AssertionError("a run imports extensions before its first stage")
