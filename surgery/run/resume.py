"""Which stages of a run folder are finished: the store is the only record of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from surgery.errors import InputError
from surgery.files import sha256_of
from surgery.recipe import StageRecord
from surgery.stages import StageTable
from surgery.stages.folder import FILES, RECORD, RunFolder
from surgery.stages.registry import table_of
from surgery.store import read_provenances


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the store says about a finished stage.

    `files`: the digests of its files when it finished, by their paths in the run folder. `threads`: how many computed
    it; 0 if unknown. An earlier version of surgery wrote neither.
    """

    record: StageRecord
    files: Mapping[str, str]
    threads: int


def finished(folder: RunFolder) -> dict[str, StageRecord]:
    """The records of the finished stages: their groups are in the store, and their files are in the folder.

    Files of a user's stage kind are not looked for: which files it leaves is written in its class, which only a run
    imports.
    """
    return {
        name: found.record
        for name, found in recorded(folder).items()
        if has_files(folder, name, found.record.key, table_of(found.record.kind))
    }


def recorded(folder: RunFolder) -> dict[str, Recorded]:
    """What the store says about each finished stage, whether or not its files still exist."""
    if not folder.store.exists():
        return {}
    found = {}
    for name, provenance in read_provenances(folder.store).items():
        try:
            found[name] = Recorded(
                record=StageRecord.from_json(json.loads(provenance[RECORD])),
                files=dict(json.loads(provenance.get(FILES, "{}"))),
                threads=int(provenance.get("threads", 0)),
            )
        except (KeyError, ValueError, TypeError, InputError):
            continue  # not of a stage, or written by another version of surgery: not finished for this one
    return found


def has_files(folder: RunFolder, stage: str, key: str, table: type[StageTable]) -> bool:
    """Whether the files that the stage left exist, and no stage with another key has claimed them since."""
    files = table.files_of(stage, folder)
    return not files or (
        folder.holds(table.mark.format(stage), key) and all((folder.path / file).exists() for file in files)
    )


def check_files(folder: RunFolder, stage: str, found: Recorded, table: type[StageTable]) -> None:
    """Raise InputError if a file that the stage would use is not the one that it left.

    These are its files, and those that it resumes from if one of its files is missing.
    """
    if not table.mark or not folder.holds(table.mark.format(stage), found.record.key):
        return  # the files belong to a stage with another key, or will be replaced
    whole = has_files(folder, stage, found.record.key, table)
    for file in table.files if whole else (*table.files, *table.temporary):
        path = folder.path / file.format(stage)
        before = found.files.get(file.format(stage))
        if before is not None and path.exists() and (now := sha256_of(path)) != before:
            raise InputError(
                f"{path}: damaged or replaced since stage {stage} wrote it: "
                f"expected SHA-256 {before[:16]}..., got {now[:16]}...",
                hint=f"restore the file, or delete it and rerun the same command: stage {stage} then runs again",
            )


@dataclass(frozen=True, kw_only=True)
class CheckedFile:
    """A file of a finished stage, and whether it is still the one that the stage left; `path`: in the run folder."""

    stage: str
    path: str
    state: Literal["intact", "damaged or replaced", "missing"]


def checked_files(folder: RunFolder) -> tuple[CheckedFile, ...]:
    """Compare the files of all finished stages with the digests in the store; raises StoreError if it is damaged."""
    found = []
    for name, stage in recorded(folder).items():
        mark = table_of(stage.record.kind).mark
        if mark and not folder.holds(mark.format(name), stage.record.key):
            continue  # an unfinished run of another recipe has replaced them
        for file, digest in stage.files.items():
            path = folder.path / file
            state = "missing" if not path.exists() else "intact" if sha256_of(path) == digest else "damaged or replaced"
            found.append(CheckedFile(stage=name, path=file, state=state))
    return tuple(found)
