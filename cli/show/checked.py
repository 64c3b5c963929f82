"""Printing of the check of a store and of the files of its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from surgery.run import CheckedFile, RunFolder, checked_files
from surgery.store import CheckedGroup
from surgery_cli.show.pieces import count, heading, table

_STYLES = {"intact": "green", "no digest": "yellow"}
"""Styles of states; others are red."""


def files_of(path: Path, *, groups: Sequence[CheckedGroup], removed: bool) -> tuple[CheckedFile, ...]:
    """The files of the run folder at `path`; none for a single store, and for one whose groups are damaged."""
    if not path.is_dir() or (not removed and any(item.state == "damaged" for item in groups)):
        return ()
    return checked_files(RunFolder(path=path))


def checked_dict(
    groups: Sequence[CheckedGroup], files: Sequence[CheckedFile], *, removed: Sequence[str]
) -> dict[str, Any]:
    """A check as plain values."""
    return {
        "groups": [asdict(item) for item in groups],
        "files": [asdict(item) for item in files],
        "removed": list(removed),
    }


def checked_view(
    groups: Sequence[CheckedGroup], files: Sequence[CheckedFile], *, removed: Sequence[str]
) -> Iterator[RenderableType]:
    """The state of each group and of each file, and what to do."""
    rows = [(item.name, item.state, item.reason) for item in groups]
    if rows:
        yield heading("groups", count(len(rows), "group"))
        yield table([(Text(name, style="bold"), _state(state), reason) for name, state, reason in rows])
    if files:
        yield heading("files", count(len(files), "file"))
        yield table([(Text(item.path, style="bold"), _state(item.state), f"of stage {item.stage}") for item in files])
    damaged = [item for item in groups if item.state == "damaged"]
    changed = [item for item in files if item.state != "intact"]
    if removed:
        yield Text(f"\nRemoved: {', '.join(removed)}. Rerun the recipe to compute these stages again.")
    elif damaged:
        yield Text("\nRemove damaged groups with --remove-damaged and rerun the recipe to compute their stages again.")
    if changed:
        yield Text("\nRestore changed files, or delete them and rerun the recipe to compute their stages again.")
    if not damaged and not changed:
        unknown = sum(item.state == "no digest" for item in groups)
        text = f"Nothing is damaged; {count(unknown, 'group')} without digest." if unknown else "Nothing is damaged."
        yield Text(f"\n{text}", style="bold green")


def _state(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, "bold red"))
