"""The folder of a run: which files it has, and which stages in it are finished."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from surgery.errors import InputError
from surgery.files import write_atomically
from surgery.recipe.keys import StageRecord
from surgery.store import Group, read_group, read_provenances, write_group

RECORD = "stage"
"""The provenance of a group that says which stage it is of: a `StageRecord` as JSON."""

FILES: Mapping[str, tuple[str, ...]] = {
    "train": ("checkpoints/{}/best.safetensors", "checkpoints/{}/last.safetensors"),
    "linearize": ("graphs/{}.safetensors",),
}
"""What stages leave beside their group, without which they are not finished; for a report its group lists them."""

MARKS: Mapping[str, str] = {
    "train": "checkpoints/{}/key.json",
    "linearize": "graphs/.{}.key.json",
    "report": "figures/.{}.key.json",
}
"""The file that says by its key which stage those files are of, finished or not."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """`results.h5` with a group for each stage, and beside it checkpoints, graphs, figures, the journal, the recipe."""

    path: Path

    @property
    def store(self) -> Path:
        return self.path / "results.h5"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def checkpoints(self, stage: str) -> Path:
        return self.path / "checkpoints" / stage

    def graph(self, stage: str) -> Path:
        return self.path / "graphs" / f"{stage}.safetensors"

    def make(self) -> None:
        """Make the folder; raises InputError where that cannot be done."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made: {error.strerror}") from None

    def finished(self) -> dict[str, StageRecord]:
        """What each finished stage was run with: its group is in the store and its files are there."""
        if not self.store.exists():
            return {}
        found = {name: _record(provenance.get(RECORD)) for name, provenance in read_provenances(self.store).items()}
        return {name: record for name, record in found.items() if record is not None and self._has_files(name, record)}

    def claim(self, stage: str, record: StageRecord) -> bool:
        """Say whose the files beside the group are from now on; return whether they were this stage's before.

        Those that a stage of this name with another key has left are removed.
        """
        mark = self.path / MARKS[record.kind].format(stage)
        RunFolder(path=mark.parent).make()
        if _marked(mark) == record.key:
            return True
        leftovers = (*FILES.get(record.kind, ()), *(("checkpoints/{}/resume.safetensors",) * (record.kind == "train")))
        for file in leftovers:
            (self.path / file.format(stage)).unlink(missing_ok=True)
        write_atomically(mark, json.dumps({"key": record.key}).encode())
        return False

    def figures_of(self, report: str) -> tuple[str, ...]:
        """The figures that the report of this name drew when it last finished, from the run folder on."""
        if not self.store.exists() or report not in read_provenances(self.store):
            return ()
        found = self.read(report)
        return tuple(map(str, found["figure"])) if any(item.name == "figure" for item in found.variables) else ()

    def _has_files(self, stage: str, record: StageRecord) -> bool:
        """Whether what the stage left beside its group is there, and was not touched by another one since."""
        files = [file.format(stage) for file in FILES.get(record.kind, ())]
        if record.kind == "report":
            files += self.figures_of(stage)
        mark = self.path / MARKS.get(record.kind, "").format(stage)
        return not files or (_marked(mark) == record.key and all((self.path / file).exists() for file in files))

    def read(self, stage: str) -> Group:
        return read_group(self.store, stage)

    def write(self, group: Group) -> None:
        """Add the group of a finished stage, or put it in the place of that of an earlier run."""
        write_group(self.store, group, replace=True)

    def chunks(self, stage: str, key: str) -> FolderChunks:
        """Where a stage with this key keeps what it has so far."""
        return FolderChunks(path=self.path / "partial" / f"{stage}-{key[:16]}")

    def clear_chunks(self) -> None:
        """Forget what unfinished stages had."""
        shutil.rmtree(self.path / "partial", ignore_errors=True)

    def log(self, event: str, **facts: Any) -> None:
        """Add a line to `journal.jsonl`."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
        with (self.path / "journal.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")


@dataclass(frozen=True, kw_only=True)
class FolderChunks:
    """Finished chunks of an evaluation, a file each: what `surgery.attack.Chunks` asks for."""

    path: Path

    def load(self, key: str) -> Tensor | None:
        file = self._file(key)
        return safetensors.torch.load(file.read_bytes())["chunk"] if file.exists() else None

    def save(self, key: str, chunk: Tensor) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(key), safetensors.torch.save({"chunk": chunk.contiguous()}))

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, key: str) -> Path:
        """Names of attacks are the user's: files have digests."""
        return self.path / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def _marked(mark: Path) -> str | None:
    """The key that a mark holds, if it is one."""
    try:
        return json.loads(mark.read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(text: str | None) -> StageRecord | None:
    try:
        return None if text is None else StageRecord.from_json(json.loads(text))
    except (ValueError, TypeError, InputError):  # of another version, which then is not finished
        return None
