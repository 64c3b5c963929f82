"""`RunFolder`: the files of a run and of each of its stages."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from surgery.errors import InputError, printable
from surgery.files import write_atomically
from surgery.store import Group, read_group, read_provenances, write_group
from surgery.store.failures import write_errors

RECORD = "stage"
"""The provenance entry of a group that holds its stage's record as JSON: parameters, inputs and key."""

CRASH = ".crash.txt"
"""The file in which Python writes the signal and the traceback of a native crash."""

FILES = "files"
"""The provenance entry that holds the SHA-256 of each file of the stage as JSON, by its path in the run folder."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """`results.h5` with a group for each stage; next to it checkpoints, graphs, figures, the journal and the recipe."""

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
        """Make the folder; raises InputError if that fails."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError(f"{self.path}: expected a folder, got a file, a pipe or a link to nowhere") from None
        except OSError as error:
            raise InputError(f"{printable(self.path)}: the folder cannot be made: {error.strerror}") from None

    def check(self) -> None:
        """Raise InputError if a folder, pipe or device has the name of a file of the run: a pipe would block."""
        for name in ("results.h5", "recipe.toml", "journal.jsonl", CRASH):
            path = self.path / name
            if path.exists() and not path.is_file():
                raise InputError(
                    f"{path}: expected a file, got a folder, a pipe or a device",
                    hint="remove it, or choose another run folder",
                )

    def read(self, stage: str) -> Group:
        return read_group(self.store, stage)

    def write(self, group: Group) -> None:
        """Add the group of a finished stage, or replace the group that an earlier run wrote."""
        write_group(self.store, group, replace=True)

    def claim(self, mark: str, key: str, files: Sequence[str]) -> bool:
        """Record that `files` belong to the stage with this key from now on; return whether they did before.

        `mark`: the file that holds the key, in the run folder. Files of a stage with another key are deleted, so that a
        stage never resumes from what another one left.
        """
        path = self.path / mark
        RunFolder(path=path.parent).make()
        if self.holds(mark, key):
            return True
        for file in files:
            (self.path / file).unlink(missing_ok=True)
        write_atomically(path, json.dumps({"key": key}).encode())
        return False

    def holds(self, mark: str, key: str) -> bool:
        """Whether the file `mark` says that the files next to it belong to the stage with this key."""
        try:
            return json.loads((self.path / mark).read_text(encoding="utf-8"))["key"] == key
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def figures_of(self, report: str) -> tuple[str, ...]:
        """The figures that the report of this name drew when it last finished, relative to the run folder."""
        if not self.store.exists() or report not in read_provenances(self.store):
            return ()
        found = self.read(report)
        return tuple(map(str, found["figure"])) if any(item.name == "figure" for item in found.variables) else ()

    def chunks(self, stage: str, key: str) -> FolderChunks:
        """Where a stage with this key keeps the chunks that it has finished."""
        return FolderChunks(path=self.path / "partial" / f"{stage}-{key[:16]}")

    def clear_chunks(self) -> None:
        """Delete the chunks of unfinished stages."""
        shutil.rmtree(self.path / "partial", ignore_errors=True)

    def log(self, event: str, **facts: Any) -> None:
        """Add a line to `journal.jsonl`; raises StoreError if the disk refuses it."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
        path = self.path / "journal.jsonl"
        with write_errors(path), path.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")


@dataclass(frozen=True, kw_only=True)
class FolderChunks:
    """Finished chunks of an evaluation, one file each; implements `surgery.attack.Chunks`.

    A file is a SHA-256, followed by the safetensors content that has it: a damaged chunk is computed again.
    """

    path: Path

    def load(self, key: str) -> Tensor | None:
        file = self._file(key)
        if not file.is_file():
            return None
        content = file.read_bytes()
        digest, content = content[:32], content[32:]
        return safetensors.torch.load(content)["chunk"] if hashlib.sha256(content).digest() == digest else None

    def save(self, key: str, chunk: Tensor) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        content = safetensors.torch.save({"chunk": chunk.contiguous()})
        write_atomically(self._file(key), hashlib.sha256(content).digest() + content)

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, key: str) -> Path:
        # Keys hold names of attacks, which users choose: a digest is a legal file name whatever they are.
        return self.path / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.chunk"
