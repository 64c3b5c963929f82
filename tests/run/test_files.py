"""Files next to the store: a damaged or replaced one is never used without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery.errors import InputError
from surgery.run import RunFolder, checked_files, differences
from surgery.stages.folder import FILES, RECORD, FolderChunks
from surgery.store import StoreError, read_group, write_group

BEST, LAST, RESUME = (f"checkpoints/std/{name}.safetensors" for name in ("best", "last", "resume"))
GRAPH = "graphs/graph.safetensors"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_groups_keep_the_digests_of_their_files(undisturbed: Path) -> None:
    files = {name: json.loads(read_group(undisturbed, name).provenance[FILES]) for name in ("std", "graph")}
    assert {name: list(found) for name, found in files.items()} == {"std": [BEST, LAST, RESUME], "graph": [GRAPH]}
    assert FILES not in read_group(undisturbed, "robustness").provenance
    assert {(item.path, item.state) for item in checked_files(RunFolder(path=undisturbed))} == {
        (path, "intact") for path in (BEST, LAST, RESUME, GRAPH)
    }


@pytest.mark.parametrize(("file", "stage"), [(BEST, "std"), (LAST, "std"), (GRAPH, "graph")])
def test_changed_file_is_named_and_deleting_it_helps(
    folder: Path, undisturbed: Path, run: Callable[..., Any], file: str, stage: str
) -> None:
    damage(folder / file)
    before = (folder / "results.h5").read_bytes()
    expected = rf"{file}: damaged or replaced since stage {stage} wrote it: expected SHA-256 .*, got .*\n.*delete it"
    with pytest.raises(InputError, match=expected):
        run(folder)
    assert (folder / "results.h5").read_bytes() == before
    states = {item.path: item.state for item in checked_files(RunFolder(path=folder))}
    assert [path for path, state in states.items() if state != "intact"] == [file]
    (folder / file).unlink()
    assert list(run(folder).ran) == [stage]
    assert differences(folder, undisturbed) == ()


def test_damaged_state_is_noticed_where_training_would_resume_from_it(folder: Path, run: Callable[..., Any]) -> None:
    damage(folder / RESUME)
    assert run(folder).ran == (), "a finished stage does not read it"
    (folder / BEST).unlink()
    with pytest.raises(InputError, match=f"{RESUME}: damaged or replaced"):
        run(folder)
    (folder / RESUME).unlink()
    assert list(run(folder).ran) == ["std"]


def test_files_of_an_earlier_version_are_taken_as_they_are(folder: Path, run: Callable[..., Any]) -> None:
    group = read_group(folder, "graph")
    provenance = {name: text for name, text in group.provenance.items() if name not in (FILES, "threads")}
    from dataclasses import replace

    write_group(folder, replace(group, provenance=provenance), replace=True)
    damage(folder / GRAPH)
    assert run(folder).ran == ()


def test_damaged_store_is_named_before_anything_runs(folder: Path, run: Callable[..., Any]) -> None:
    path = folder / "results.h5"
    content = path.read_bytes()
    assert b'"inputs": {' in content
    path.write_bytes(content.replace(b'"inputs": {', b'"inputz": {', 1))
    with pytest.raises(StoreError, match=r"std: damaged.*\n.*surgery results check"):
        run(folder)
    assert RECORD == "stage"


def test_damaged_chunk_is_computed_again(tmp_path: Path) -> None:
    chunks, chunk = FolderChunks(path=tmp_path / "partial"), torch.arange(6.0).reshape(2, 3)
    assert chunks.load("fgsm 0 2") is None
    chunks.save("fgsm 0 2", chunk)
    loaded = chunks.load("fgsm 0 2")
    assert loaded is not None
    assert torch.equal(loaded, chunk)
    [file] = chunks.path.iterdir()
    for change in (damage, lambda path: path.write_bytes(path.read_bytes()[:-8]), lambda path: path.write_bytes(b"")):
        chunks.save("fgsm 0 2", chunk)
        change(file)
        assert chunks.load("fgsm 0 2") is None
