"""Run folders and stores that are not what they seem: one clear message, and nothing blocks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from surgery.errors import InputError
from surgery.recipe import load_recipe
from surgery.run import run_recipe
from surgery.store import Group, check_store, list_groups, write_group
from surgery.store.lock import holder

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")

RECIPE = """\
[data]
name = "planted"
train_size = 45
test_size = 18

[stage.map]
kind = "extract"
file = "model.safetensors"
"""


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def full(path: Path) -> None:
    path.symlink_to("/dev/full")


def file(path: Path) -> None:
    path.write_text("x")


LONG = "a" * 300

FOLDERS: dict[str, tuple[str, Callable[[Path], None] | None, str]] = {
    "a file": ("run", file, "expected a folder, got a file"),
    "a pipe": ("run", pipe, "expected a folder, got a file, a pipe"),
    "a link to nowhere": ("run", dangling, "or a link to nowhere"),
    "a circle of links": ("run", circle, "or a link to nowhere"),
    "a name that is too long": (LONG, None, "the folder cannot be made: File name too long"),
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_text("no model")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("case", FOLDERS)
def test_run_folder_that_is_none(tmp_path: Path, recipe: Path, case: str) -> None:
    name, make, said = FOLDERS[case]
    if make is not None:
        make(tmp_path / name)
    with pytest.raises(InputError, match=said):
        run_recipe(load_recipe(recipe), tmp_path / name, device="cpu")


@pytest.mark.parametrize("make", [pipe, folder, full])
@pytest.mark.parametrize("name", ["results.h5", "recipe.toml", "journal.jsonl", ".crash.txt"])
def test_run_folder_with_something_else_in_the_place_of_a_file(
    tmp_path: Path, recipe: Path, name: str, make: Callable[[Path], None]
) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / name)
    with pytest.raises(InputError, match=rf"{name}: expected a file, got a folder, a pipe or a device\n.*remove it"):
        run_recipe(load_recipe(recipe), tmp_path / "run", device="cpu")


def test_pipe_in_the_place_of_the_note_on_the_lock_does_not_block(tmp_path: Path) -> None:
    pipe(tmp_path / ".surgery.holder.json")
    assert holder(tmp_path) is None


STORES: dict[str, tuple[str, Callable[[Path], None] | None, str]] = {
    "a pipe": ("W.h5", pipe, "expected a file, got a pipe"),
    "a folder with a pipe": ("run/results.h5", pipe, "results.h5: expected a file, got a pipe"),
    "a folder in a folder": ("run/results.h5", folder, "results.h5: expected a file, got a folder"),
    "a link to nowhere": ("W.h5", dangling, "a link to nowhere, which does not exist"),
    "a circle of links": ("W.h5", circle, "Too many levels"),
    "a name that is too long": (LONG, None, "cannot be opened: File name too long"),
    "an empty file": ("W.h5", lambda path: path.write_text("") and None, "the file is empty"),
}


@pytest.mark.parametrize("read", [list_groups, check_store])
@pytest.mark.parametrize("case", STORES)
def test_store_that_is_none(tmp_path: Path, case: str, read: Callable[[Path], object]) -> None:
    name, make, said = STORES[case]
    path = tmp_path / name
    if make is not None:
        path.parent.mkdir(exist_ok=True)
        make(path)
    with pytest.raises(InputError, match=said):
        read(path.parent if path.parent != tmp_path else path)


def test_store_whose_name_is_too_long_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: File name too long"):
        write_group(tmp_path / LONG, Group(name="g", kind="test", variables=()))
