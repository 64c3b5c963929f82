"""Copies of shipped recipes, with the files that they include."""

from __future__ import annotations

from pathlib import Path

from surgery.errors import InputError, suggest
from surgery.files import write_atomically
from surgery.recipe.document import SHIPPED, shipped_names
from surgery.toml import read_toml

SCHEMA = "recipe.schema.json"
"""The name of the schema file, to which the first lines of recipes refer."""


def copy_recipe(name: str, destination: Path | None, *, force: bool) -> tuple[Path, ...]:
    """Copy a shipped recipe, the recipes that it includes, and the schema; return the paths written.

    Raises InputError, without writing anything, for an unknown recipe, and for a file that would be overwritten unless
    `force` is given.
    """
    files = _files(name, destination)
    there = [str(path) for path, content in files.items() if path.exists() and not _holds(path, content)]
    if there and not force:
        raise InputError(f"already exists: {', '.join(there)}", hint="give another name, or --force to overwrite")
    for path, content in files.items():
        write_atomically(path, content)
    return tuple(files)


def _files(name: str, destination: Path | None) -> dict[Path, bytes]:
    """The content of each file to write. Included recipes keep the names by which they are included."""
    if name not in shipped_names():
        hint = suggest(name, shipped_names()) or f"shipped are {', '.join(shipped_names())}"
        raise InputError(f"unknown shipped recipe {name!r}", hint=hint)
    path = Path(f"{name}.toml") if destination is None else destination
    path = path / f"{name}.toml" if path.is_dir() else path
    if path.suffix != ".toml":
        raise InputError(f"{path}: expected a TOML file, or an existing folder", hint=f"as in {path}.toml")
    beside = dict.fromkeys([*_included(SHIPPED / f"{name}.toml"), SCHEMA])
    if path.name in beside:
        raise InputError(f"{path}: {name} includes a recipe of this name", hint="give the copy another name")
    others = {path.parent / other: (SHIPPED / other).read_bytes() for other in beside}
    return {path: (SHIPPED / f"{name}.toml").read_bytes(), **others}


def _included(path: Path) -> list[str]:
    """The files that a shipped recipe includes, directly or not; all are in its folder."""
    found: list[str] = []
    for item in read_toml(path).data.get("include", ()):
        file = item if item.endswith(".toml") else f"{item}.toml"
        found += [file, *_included(path.parent / file)]
    return found


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
