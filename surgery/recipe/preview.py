"""Preview of a run: which stages are finished, which will run, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from surgery.attack import pixels_text
from surgery.recipe.keys import HIERARCHY, StageRecord, stage_records
from surgery.recipe.recipe import Recipe
from surgery.stages import Sizes
from surgery.validation import shown

State = Literal["cached", "will run"]

_MOST_LISTED = 4
"""Changed parameters or inputs that a reason lists."""


@dataclass(frozen=True, kw_only=True)
class PreviewedStage:
    """One stage in the preview of a run.

    `why`: the reason for its state. `key`: None if the data were not loaded. `parameters`: all of them, with defaults.
    `inputs`: the stages that it reads. `passes`: about how many images go forward and back through a network; None if
    the sizes of the data are unknown.
    """

    name: str
    kind: str
    state: State
    why: str
    key: str | None
    parameters: Mapping[str, Any]
    inputs: tuple[str, ...]
    passes: int | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def preview_run(
    recipe: Recipe,
    finished: Mapping[str, StageRecord | str],
    data_digest: str | None,
    *,
    sizes: Sizes | None = None,
) -> tuple[PreviewedStage, ...]:
    """The stages of `recipe` in the order in which they run.

    `finished`: for each stage in the run folder its record, or only its key. `data_digest`: None if the data are
    missing; then no stage counts as finished. `sizes`: of the data, for the estimate of the cost.
    """
    records = None if data_digest is None else stage_records(recipe, data_digest)
    found = []
    for stage in recipe.stages:
        now, before = None if records is None else records[stage.name], finished.get(stage.name)
        cached = now is not None and now.key == (before.key if isinstance(before, StageRecord) else before)
        found.append(
            PreviewedStage(
                name=stage.name,
                kind=stage.kind,
                state="cached" if cached else "will run",
                why="nothing changed" if cached else _why(now, before),
                key=None if now is None else now.key,
                parameters=stage.parameters.model_dump(mode="json", exclude={"kind"}),
                inputs=tuple(map(str, stage.inputs.values())),
                passes=None if sizes is None else stage.parameters.passes(sizes),
            )
        )
    return tuple(found)


def _why(now: StageRecord | None, before: StageRecord | str | None) -> str:
    """The reason why a stage runs."""
    if before is None:
        return "new"
    if now is None:
        return "the data were not loaded, so it is unknown whether they changed"
    if isinstance(before, str):
        return "something changed"
    return "; ".join(_reasons(now, before)) or "something changed"


def _reasons(now: StageRecord, before: StageRecord) -> Iterator[str]:
    if before.kind != now.kind:
        yield f"kind changed: {before.kind} -> {now.kind}"
        return
    if before.version != now.version:
        yield f"version of the stage changed: {before.version} -> {now.version}"
    if before.data != now.data:
        yield "the data changed"
    changes = [
        f"{name} {one} -> {other}"
        for name, one, other in _differences(before.parameters, now.parameters)
        if one != other
    ]
    if changes:
        yield f"parameters changed: {_listed(changes)}"
    for name, digest in now.contents.items():
        if before.contents.get(name, digest) != digest:
            yield f"the content of {name} changed"
    if (HIERARCHY in before.contents) != (HIERARCHY in now.contents):
        yield f"{HIERARCHY} was {'added' if HIERARCHY in now.contents else 'removed'}"
    changed = [name for name, key in now.inputs.items() if before.inputs.get(name, key) != key]
    if changed:
        yield f"input {_listed(changed)} changed"
    added = [name for name in now.inputs if name not in before.inputs]
    if added:
        yield f"input {_listed(added)} is new"


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _MOST_LISTED} more" if len(items) > _MOST_LISTED else ""
    return ", ".join(items[:_MOST_LISTED]) + more


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    flat_before, flat_now = dict(_flat(before)), dict(_flat(now))
    for name in dict.fromkeys([*flat_before, *flat_now]):
        yield name, _written(name, flat_before.get(name)), _written(name, flat_now.get(name))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables by their dotted keys."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _written(name: str, value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return pixels_text(value) if name.endswith(("epsilon", "step_size")) else f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(_written(name, item) for item in value)}]"
    return value if isinstance(value, str) else shown(value)
