"""`run_recipe`: every stage whose result is not in the run folder yet, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surgery.data import Dataset
from surgery.errors import SurgeryError
from surgery.files import write_atomically
from surgery.recipe.fields import StageKind
from surgery.recipe.keys import StageRecord, stage_records
from surgery.recipe.recipe import Recipe, Stage
from surgery.recipe.running.attacks import attack, confusion
from surgery.recipe.running.context import Context, Report, StageProgress
from surgery.recipe.running.folder import RunFolder
from surgery.recipe.running.linear import cluster, extract, features, linearize
from surgery.recipe.running.report import report
from surgery.recipe.running.team import Team, assembled
from surgery.recipe.running.training import train
from surgery.recipe.running.values import load_data
from surgery.recipe.running.verdict import Verdict, verdict
from surgery.recipe.stages import TrainStage
from surgery.store import Group, folder_lock
from surgery.train.engine import find_device

EXECUTORS: Mapping[StageKind, Callable[[Context, Any], Group]] = {
    "train": train,
    "linearize": linearize,
    "extract": extract,
    "cluster": cluster,
    "features": features,
    "attack": attack,
    "confusion": confusion,
    "report": report,
}
"""What runs a stage and gives its group, by kind."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is complete: its folder, what it found, and which stages were run or were there already."""

    folder: RunFolder
    verdict: Verdict
    ran: tuple[str, ...]
    cached: tuple[str, ...]


def run_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    stages: tuple[str, ...] | None = None,
    device: str | None = None,
    download: bool = False,
    report: Report | None = None,
) -> Run:
    """Run what is not in `folder` yet; the same call goes on after a stop of any kind.

    `stages`: only these and what they read; all by default. `device`: a GPU by default where there is one. `report`
    hears of everything that goes on; what it raises stops the run, and all that is finished stays.

    Under a launcher as `torchrun`, every process calls this with the same arguments: they train together, and the
    first one does everything else and is the only one that writes and reports.

    Raises InputError for data or files that are not there, StoreError for a folder that another process writes to, and
    what the stages raise.
    """
    wanted = wanted_stages(recipe, stages)
    names = [stage.name for stage in wanted]
    home = find_device(device)
    where = RunFolder(path=Path(folder))
    where.make()
    with assembled(home) as team, folder_lock(where.path) if team.leads else nullcontext():
        data = _data(recipe, team, download=download)
        if team.leads:
            write_atomically(where.path / "recipe.toml", recipe.text.encode())
            where.log("run", recipe=recipe.name, source=recipe.source, device=str(home), data=data.title)
        listener = report if report is not None and team.leads else _silent
        ran = _run_stages(recipe, wanted, where, data, str(home), team, listener)
        if team.leads:
            _end(recipe, wanted, where, ran)
        team.told(None)  # only now is everything in the store
        return Run(
            folder=where,
            verdict=verdict(recipe, where, data.hierarchy, names),
            ran=tuple(ran),
            cached=tuple(name for name in names if name not in ran),
        )


def wanted_stages(recipe: Recipe, names: Sequence[str] | None) -> tuple[Stage, ...]:
    """The stages of these names, whether or not with the values of a matrix, and all that they read; None means all.

    Raises InputError for a name that no stage has.
    """
    if names is None:
        return recipe.stages
    for name in names:
        if not any(name in (stage.name, stage.base) for stage in recipe.stages):
            recipe.stage(name)
    wanted = {stage.name for stage in recipe.stages if stage.name in names or stage.base in names}
    for stage in reversed(recipe.stages):
        if stage.name in wanted:
            wanted |= {item.stage for item in stage.inputs.values()}
    return tuple(stage for stage in recipe.stages if stage.name in wanted)


def _data(recipe: Recipe, team: Team, *, download: bool) -> Dataset:
    """The data set, which the leader loads first: it may have to download it, and keeps what it decodes."""
    data = load_data(recipe.data, download=download) if team.leads else None
    team.told(None)
    return load_data(recipe.data) if data is None else data


def _run_stages(
    recipe: Recipe,
    stages: Sequence[Stage],
    folder: RunFolder,
    data: Dataset,
    device: str,
    team: Team,
    report: Report,
) -> list[str]:
    """Run the stages that are not finished, and return their names."""
    ran: list[str] = []
    records = stage_records(recipe, data.digest)
    for number, stage in enumerate(stages, start=1):
        progress = StageProgress(stage=stage.name, kind=stage.kind, number=number, count=len(stages), state="cached")
        record = records[stage.name]
        if team.told(team.leads and _is_finished(folder, stage, record)):
            report(progress)
            continue
        context = Context(
            recipe=recipe,
            stage=stage,
            record=record,
            folder=folder,
            data=data,
            device=device,
            leads=team.leads,
            tell=_teller(report, replace(progress, state="running")),
            started=time.perf_counter(),
        )
        if team.leads:
            _run_stage(context)
        elif isinstance(stage.parameters, TrainStage):
            train(context, stage.parameters)
        ran.append(stage.name)
        report(replace(progress, state="done", text=f"{time.perf_counter() - context.started:.1f} s", lasting=True))
    return ran


def _end(recipe: Recipe, wanted: Sequence[Stage], folder: RunFolder, ran: list[str]) -> None:
    if len(wanted) == len(recipe.stages):  # other stages may have begun in an earlier run
        folder.clear_chunks()
    folder.log("end", ran=ran)


def _is_finished(folder: RunFolder, stage: Stage, record: StageRecord) -> bool:
    before = folder.finished().get(stage.name)
    return before is not None and before.key == record.key


def _run_stage(context: Context) -> None:
    name, kind = context.stage.name, context.stage.kind
    context.folder.log("start", stage=name, kind=kind, key=context.record.key)
    context.tell()
    try:
        group = EXECUTORS[kind](context, context.stage.parameters)
    except BaseException as error:
        what = "failed" if isinstance(error, Exception) else "stopped"
        context.folder.log(what, stage=name, error=f"{type(error).__name__}: {error}")
        if isinstance(error, SurgeryError):
            error.message = f"stage {name}: {error.message}"
        raise
    context.folder.write(group)
    context.folder.chunks(name, context.record.key).clear()
    context.folder.log("done", stage=name, seconds=round(time.perf_counter() - context.started, 3))


def _teller(report: Report, progress: StageProgress) -> Callable[..., None]:
    return lambda **changes: report(replace(progress, **changes))


def _silent(progress: StageProgress) -> None:
    """Nobody listens."""
