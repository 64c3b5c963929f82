"""From checked data to a `Recipe`: every repetition of every stage, with what it reads, in an order to run in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from surgery.recipe.expansion import Axis, Choice, repeated_name
from surgery.recipe.merging import Merged
from surgery.recipe.recipe import Input, Recipe, Stage
from surgery.recipe.references import Link, inputs_of, stage_tables
from surgery.recipe.schema import RecipeFile
from surgery.toml_writer import to_toml


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The recipe with one value on each axis of its matrix."""

    choice: Choice
    merged: Merged


def assemble(merged: Merged, depends: Mapping[str, Sequence[Axis]], variants: Sequence[Variant], source: str) -> Recipe:
    """The recipe of `merged` data; `depends`: the axes of each stage, whose combinations are all among `variants`."""
    files = [RecipeFile.model_validate(variant.merged.data) for variant in variants]
    head = files[0].recipe
    assert head.name is not None, "the file's name at least"
    return Recipe(
        name=head.name,
        description=head.description,
        seed=head.seed,
        data=files[0].data,
        stages=_ordered(_stages(depends, variants, files)),
        text=to_toml(merged.data),
        source=source,
    )


def _stages(
    depends: Mapping[str, Sequence[Axis]], variants: Sequence[Variant], files: Sequence[RecipeFile]
) -> list[Stage]:
    """Every repetition of every stage once, in the order of the file."""
    found: dict[str, dict[str, Stage]] = {name: {} for name in depends}
    for variant, file in zip(variants, files, strict=True):
        links = inputs_of(variant.merged)
        for base, own in depends.items():
            name = repeated_name(base, own, variant.choice)
            if name not in found[base]:
                found[base][name] = _stage(name, base, depends, variant, file, links[base])
    stages = [stage for repeated in found.values() for stage in repeated.values()]
    links = inputs_of(variants[0].merged)
    return [_gathering(stage, found, links[stage.base]) if stage.kind == "report" else stage for stage in stages]


def _stage(
    name: str,
    base: str,
    depends: Mapping[str, Sequence[Axis]],
    variant: Variant,
    file: RecipeFile,
    links: Sequence[Link],
) -> Stage:
    inputs = {
        link.role: Input(
            stage=repeated_name(link.target, depends[link.target], variant.choice),
            checkpoint=_checkpoint(link, variant.merged),
        )
        for link in links
    }
    return Stage(
        name=name,
        base=base,
        kind=file.stage[base].kind,
        parameters=file.stage[base],
        inputs=MappingProxyType(inputs),
        choice=MappingProxyType({axis.key: axis.values[variant.choice[axis.key]] for axis in depends[base]}),
    )


def _gathering(report: Stage, found: Mapping[str, Mapping[str, Stage]], links: Sequence[Link]) -> Stage:
    """A report with every repetition of the stages that it refers to."""
    names = [name for link in links for name in found[link.target]]
    inputs = {f"stages.{number}": Input(stage=name) for number, name in enumerate(names)}
    return replace(report, inputs=MappingProxyType(inputs))


def _checkpoint(link: Link, merged: Merged) -> str | None:
    """The checkpoint that is meant: the best by default."""
    is_train = stage_tables(merged.data)[link.target].get("kind") == "train"
    return link.checkpoint or "best" if is_train and link.reference.checkpoint else None


def _ordered(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """A stage behind all that it reads; otherwise in the order of the file."""
    left, done, ordered = list(stages), set[str](), list[Stage]()
    while left:
        ready = next(stage for stage in left if all(item.stage in done for item in stage.inputs.values()))
        left.remove(ready)
        done.add(ready.name)
        ordered.append(ready)
    return tuple(ordered)
