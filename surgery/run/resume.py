"""Which stages of a run folder are finished: the store is the only record of it."""

from __future__ import annotations

import json

from surgery.errors import InputError
from surgery.recipe import StageRecord
from surgery.stages.folder import RECORD, RunFolder
from surgery.stages.registry import table_of
from surgery.store import read_provenances


def finished(folder: RunFolder) -> dict[str, StageRecord]:
    """The records of the finished stages: their groups are in the store, and their files are in the folder."""
    if not folder.store.exists():
        return {}
    found = {name: _record(provenance.get(RECORD)) for name, provenance in read_provenances(folder.store).items()}
    return {name: record for name, record in found.items() if record is not None and _has_files(folder, name, record)}


def _has_files(folder: RunFolder, stage: str, record: StageRecord) -> bool:
    """Whether the files that the stage left are there, and no other stage has claimed them since."""
    table = table_of(record.kind)
    files = table.files_of(stage, folder)
    return not files or (
        folder.holds(table.mark.format(stage), record.key) and all((folder.path / file).exists() for file in files)
    )


def _record(text: str | None) -> StageRecord | None:
    try:
        return None if text is None else StageRecord.from_json(json.loads(text))
    except (ValueError, TypeError, InputError):  # written by another version of surgery: not finished for this one
        return None
