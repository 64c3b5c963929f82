"""`run_recipe`: run every stage whose result is not in the run folder yet, one after the other."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from surgery.data import Dataset
from surgery.errors import InputError, SurgeryError
from surgery.files import sha256_of, write_atomically
from surgery.plugins import Extension, current_folder_last, raised_inside
from surgery.recipe import Recipe, StageRecord, load_data, stage_records
from surgery.recipe.recipe import extension_reference
from surgery.run import resume
from surgery.run.crashes import Death, crashes_written, previous_death
from surgery.run.distributed import Team, assembled
from surgery.stages import Context, Finished, Listener, RunFolder, Sizes, Stage, StageProgress, Summary, summarize
from surgery.stages.fields import ExtensionName
from surgery.stages.folder import CRASH, FILES
from surgery.stages.registry import KINDS
from surgery.stages.stage import in_words, model_of
from surgery.store import Group, StoreError, folder_lock
from surgery.train.engine import find_device


@dataclass(frozen=True, kw_only=True)
class Run:
    """A complete run: its folder, its findings, the stages that ran, and the stages that were finished before."""

    folder: RunFolder
    summary: Summary
    ran: tuple[str, ...]
    cached: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Run in {self.folder.path}: {len(self.ran)} stages ran, {len(self.cached)} up to date\n{self.summary!r}"


def run_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    stages: tuple[str, ...] | None = None,
    device: str | None = None,
    download: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Run the stages that are not finished in `folder`; after an interruption the same call resumes.

    `stages`: only these and their inputs; all by default. `device`: by default a GPU if there is one. `listener`:
    called with everything that happens; an exception that it raises stops the run, and finished stages stay.

    Under a launcher such as `torchrun`, every process calls this with the same arguments: they train together, and the
    first process does everything else and is the only one that writes and reports.

    Raises InputError for data or files that do not exist, StoreError if another process writes to the folder, and the
    errors of the stages.
    """
    names = [stage.name for stage in wanted_stages(recipe, stages)]
    home = find_device(device)
    where = RunFolder(path=Path(folder))
    where.make()
    where.check()
    with assembled(home) as team, folder_lock(where.path) if team.leads else nullcontext(), current_folder_last():
        # The user's classes are imported first: what does not fit the data is found before any stage runs.
        imported = recipe.imported()
        # The leader loads first: it may have to download the data, and it fills the cache of decoded images.
        data = load_data(imported, download=download) if team.leads else None
        team.told(None)
        data = recipe.data.load() if data is None else data
        death = None
        if team.leads:
            write_atomically(where.path / "recipe.toml", recipe.text.encode())
            death = previous_death(where)
            if death is not None:
                where.log("died", stage=death.stage, signal=death.signal, traceback=death.traceback)
            facts = {"device": str(home), "machine": platform.node(), "data": data.title}
            where.log("run", recipe=recipe.name, source=recipe.source, **facts)
            for extension in recipe.extensions():
                where.log("import", extension=extension.reference, file=str(extension.path))
        # Keys are those of the recipe as it was written: the classes of extensions add their own defaults.
        records = stage_records(recipe, data.digest)
        runner = _Runner(
            recipe=imported,
            code=recipe.extensions(),
            names=names,
            records=records,
            folder=where,
            data=data,
            device=str(home),
            team=team,
            death=death,
            listener=listener if listener is not None and team.leads else lambda progress: None,
        )
        with crashes_written(where.path / CRASH) if team.leads else nullcontext():
            ran = runner.run()
        if team.leads:
            if len(names) == len(recipe.stages):  # otherwise other stages may have begun in an earlier run
                where.clear_chunks()
            where.log("end", ran=ran)
        team.told(None)  # the others read the store only now that it is complete
        return Run(
            folder=where,
            summary=summarize(runner.finished(names)),
            ran=tuple(ran),
            cached=tuple(name for name in names if name not in ran),
        )


def wanted_stages(recipe: Recipe, names: Sequence[str] | None) -> tuple[Stage, ...]:
    """The stages of these names, with or without the values of a matrix, and all that they read; None means all.

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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Runner:
    """A run under way.

    `recipe`: with its stage kinds imported. `code`: the extensions that it imports. `names`: of the wanted stages, in
    order. `records`: of all stages, by name. `death`: of the previous run.
    """

    recipe: Recipe
    code: tuple[Extension, ...]
    names: Sequence[str]
    records: Mapping[str, StageRecord]
    folder: RunFolder
    data: Dataset
    device: str
    team: Team
    death: Death | None
    listener: Listener

    def run(self) -> list[str]:
        """Run the stages that are not finished, and return their names."""
        ran: list[str] = []
        # Read once: the leader holds the lock of the folder, and a run writes each group at most once.
        recorded = resume.recorded(self.folder) if self.team.leads else {}
        extensions, threads = _architectures(self.recipe), set[int]()
        for number, name in enumerate(self.names, start=1):
            stage, record = self.recipe.stage(name), self.records[name]
            progress = StageProgress(stage=name, kind=stage.kind, number=number, count=len(self.names), state="cached")
            before, table = recorded.get(name), type(stage.parameters)
            same = before is not None and before.record.key == record.key
            if before is not None and same:
                resume.check_files(self.folder, name, before, table)
            if self.team.told(same and resume.has_files(self.folder, name, record.key, table)):
                self.listener(progress)
                threads.add(before.threads if before is not None else 0)
                continue
            context = self._context(stage, replace(progress, state="running"), extensions)
            if self.team.leads:
                self._run_stage(context, threads)
                threads.clear()  # said once
            elif stage.parameters.collective:
                stage.parameters.run(context)
            ran.append(name)
            seconds = time.perf_counter() - context.started
            self.listener(replace(progress, state="done", text=f"{seconds:.1f} s", lasting=True))
        return ran

    def finished(self, names: Sequence[str]) -> list[Finished]:
        """These stages, which are finished."""
        stages = {stage.name: stage for stage in self.recipe.stages}
        others: list[Finished] = []  # one list, shared by all that are in it
        others += [
            Finished(
                stage=stages[name],
                model=model_of(stages[name], stages),
                folder=self.folder,
                data=self.data.title,
                known=self.data.hierarchy,
                words=in_words(stages[name], stages),
                others=others,
            )
            for name in names
        ]
        return others

    def _context(self, stage: Stage, progress: StageProgress, extensions: Mapping[str, str]) -> Context:
        record = self.records[stage.name]
        # An extension's table need not have a seed; its stage has one, as the recipe's documentation says.
        seed = record.parameters.get("seed")
        reads = [item.stage for item in stage.inputs.values()] if stage.parameters.gathers else []
        return Context(
            stage=stage,
            key=record.key,
            record=json.dumps(record.as_json(), ensure_ascii=False),
            recipe=self.recipe.text,
            seed=self.recipe.seed if seed is None else seed,
            reads=tuple(self.finished(reads)),
            extensions=extensions,
            folder=self.folder,
            data=self.data,
            device=self.device,
            progress=progress,
            listener=self.listener,
            started=time.perf_counter(),
            leads=self.team.leads,
        )

    def _run_stage(self, context: Context, threads: set[int]) -> None:
        """Run one stage and write its group; `threads`: numbers of threads that computed the finished stages."""
        name, kind, table = context.name, context.stage.kind, context.stage.parameters
        # The cost, by which `surgery plan` turns the seconds of this stage into those of another one. That of a user's
        # kind is user code, which must not end a run.
        passes = table.passes(Sizes.of_data(self.data)) if kind in KINDS else None
        self.folder.log("start", stage=name, kind=kind, key=context.key, passes=passes)
        context.tell()
        if self.death is not None and self.death.stage == name:
            context.tell(text=f"warning: {self.death.warning(context.stage)}", lasting=True)
        others = sorted(threads - {0, torch.get_num_threads()})
        if others:
            text = f"computed by {' and '.join(map(str, others))} threads, this run uses {torch.get_num_threads()}"
            context.tell(text=f"warning: finished stages were {text}: the last bits may differ", lasting=True)
        try:
            group = table.run(context)
            if not isinstance(group, Group):  # a stage kind of a user may forget to return it
                raise InputError(f"expected run() to return a surgery.store.Group, got {type(group).__name__}")
            files = [file.format(name) for file in (*table.files, *table.temporary)]
            digests = {file: sha256_of(path) for file in files if (path := self.folder.path / file).is_file()}
            if digests:
                group = replace(group, provenance={**group.provenance, FILES: json.dumps(digests)})
            # The group last: only a stage whose group is in the store counts as finished, whenever the run is killed.
            self.folder.write(group)
        except BaseException as error:
            what = "failed" if isinstance(error, Exception) else "stopped"
            with suppress(StoreError):  # a full disk: the error itself says so
                self.folder.log(what, stage=name, error=f"{type(error).__name__}: {error}")
            if isinstance(error, SurgeryError):
                error.message = f"stage {name}: {error.message}"
            elif isinstance(error, Exception):
                foreign = raised_inside(error, self.code)
                if foreign is not None:
                    foreign.message = f"stage {name}: {foreign.message}"
                    raise foreign from error
            raise
        self.folder.chunks(name, context.key).clear()
        self.folder.log("done", stage=name, seconds=round(time.perf_counter() - context.started, 3))


def _architectures(recipe: Recipe) -> Mapping[str, str]:
    """The architectures of train stages that are extensions, by stage."""
    marker = ExtensionName(group="surgery.architectures")
    found = {}
    for stage in recipe.stages:
        network = getattr(stage.parameters, "network", None)
        if stage.kind == "train" and network is not None and extension_reference(network.architecture, marker):
            found[stage.name] = network.architecture
    return found
