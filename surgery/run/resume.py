"""Which stages of a run folder are finished: the store is the only record of it."""

from __future__ import annotations

import json

from surgery.errors import InputError
from surgery.recipe import StageRecord
from surgery.stages import StageTable
from surgery.stages.folder import RECORD, RunFolder
from surgery.stages.registry import table_of
from surgery.store import read_provenances


def finished(folder: RunFolder) -> dict[str, StageRecord]:
    """The records of the finished stages: their groups are in the store, and their files are in the folder.

    Files of a user's stage kind are not looked for: which files it leaves is written in its class, which only a run
    imports.
    """
    return {
        name: record
        for name, record in recorded(folder).items()
        if has_files(folder, name, record.key, table_of(record.kind))
    }


def recorded(folder: RunFolder) -> dict[str, StageRecord]:
    """The records of the stages whose groups are in the store, whether or not their files still exist."""
    if not folder.store.exists():
        return {}
    found = {}
    for name, provenance in read_provenances(folder.store).items():
        try:
            found[name] = StageRecord.from_json(json.loads(provenance[RECORD]))
        except (KeyError, ValueError, TypeError, InputError):
            continue  # not of a stage, or written by another version of surgery: not finished for this one
    return found


def has_files(folder: RunFolder, stage: str, key: str, table: type[StageTable]) -> bool:
    """Whether the files that the stage left exist, and no stage with another key has claimed them since."""
    files = table.files_of(stage, folder)
    return not files or (
        folder.holds(table.mark.format(stage), key) and all((folder.path / file).exists() for file in files)
    )
