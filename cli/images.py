"""From data options to a data set and a device; warnings of evaluations in the format of the commands."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery_cli.console import Output

if TYPE_CHECKING:
    from surgery.data import Dataset


def open_data(name: str, root: Path | None, *, download: bool, test_size: int | None) -> Dataset:
    """The data set called `name`, or the image folder at that path; raises InputError."""
    from surgery.data import DATASETS, load

    if name in DATASETS or not Path(name).is_dir():
        return load(name, root, download=download, test_size=test_size)
    if root is not None:
        raise InputError(f"--data {name} is a folder; --root {root} applies to data sets by name", hint="omit --root")
    return load("folder", name, test_size=test_size)


def chosen_device(name: str | None) -> str:
    """The device `name`, by default a GPU if there is one; raises InputError for a device that does not exist."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}", hint="as in cpu, cuda or cuda:1") from None
    return name


@contextmanager
def said_warnings(out: Output) -> Iterator[None]:
    """Print the warnings of the block as commands print them, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(item.message) for item in caught):
        out.warn(text)
