"""The check of a whole store: which of its groups are as they were written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py

from surgery.files import existing_file
from surgery.store.failures import StoreError, read_errors
from surgery.store.heaps import check_heaps
from surgery.store.reading import GroupTexts, arrays_of, opened, store_path

State = Literal["intact", "damaged", "no digest"]


@dataclass(frozen=True, kw_only=True)
class CheckedGroup:
    """A group of a store.

    `state`: `intact` if everything in it has its digest, `no digest` if an earlier version of surgery wrote it, which
    kept no digests, and it can be read. `reason`: of a damaged group.
    """

    name: str
    state: State
    reason: str = ""


def check_store(path: str | Path) -> tuple[CheckedGroup, ...]:
    """Read everything in the store at `path`, a file or a run folder, and compare it with its digests.

    Raises StoreError if the file is no store, or so damaged that its groups cannot be listed.
    """
    path = existing_file(store_path(path))
    check_heaps(path)
    with read_errors(path), h5py.File(path, "r") as file:
        names = [str(name) for name in file]
    with opened(path, unchecked=names) as file:
        return tuple(found for name in names if (found := _checked(file, name)) is not None)


def _checked(file: h5py.File, name: str) -> CheckedGroup | None:
    """The state of one group; None if another program wrote it."""
    try:
        with read_errors(Path(file.filename)):
            group = file[name]
            if not isinstance(group, h5py.Group) or "surgery_schema" not in group.attrs:
                return None
            texts = GroupTexts.read(group)
            for _ in arrays_of(group, texts):
                pass
    except StoreError as error:
        return CheckedGroup(name=name, state="damaged", reason=error.message)
    return CheckedGroup(name=name, state="no digest" if texts.arrays is None else "intact")
