"""From data options to a data set and a device; files of attacked images; warnings in the format of the commands."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import InputError
from surgery.files import check_writable, write_atomically
from surgery_cli.console import Output

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.attack import Evaluation
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


class AttackedImages:
    """The attacked images of an evaluation, for a folder of files.

    `NAME.safetensors` of each attack holds `images` `(n, channels, height, width)`, float32 in [0, 1], with `labels`
    and `predictions` `(n,)`. `NAME.png` shows some that were fooled: above the image, below the attacked one. It is a
    preview, because rounding to eight bits changes perturbations, and some images are then no longer fooled.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder; raises InputError where it cannot be made or written."""
        self.folder = folder
        self._chunks: dict[str, list[Tensor]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--save-images {folder}: cannot be made: {error.strerror}") from None
        check_writable(folder / "images.safetensors")

    def keep(self, name: str, part: slice, images: Tensor) -> None:
        """Remember the attacked images of a chunk; chunks come in the order of the images."""
        self._chunks.setdefault(name, []).append(images.detach().cpu())

    def write(self, result: Evaluation, data: Dataset) -> list[str]:
        """Write the files of all attacks; return their paths."""
        import safetensors.torch
        import torch

        written = []
        for name, chunks in self._chunks.items():
            images, outcome = torch.cat(chunks).contiguous(), result[name]
            tensors = {"images": images, "labels": outcome.labels, "predictions": outcome.predictions}
            # A user's attack is called package.module:name; a colon is no part of a file name on all systems.
            stem = self.folder / re.sub(r"[^\w.-]", "-", name)
            write_atomically(f"{stem}.safetensors", safetensors.torch.save(tensors))
            fooled = ((outcome.predictions != outcome.labels) & result["natural"].per_sample).nonzero().flatten()
            rows = fooled[:_PREVIEWED] if len(fooled) else torch.arange(min(_PREVIEWED, len(images)))
            clean = data.test.images[rows.to(data.test.images.device)].cpu()
            write_atomically(f"{stem}.png", _preview(clean, (255 * images[rows]).round().to(torch.uint8)))
            written += [f"{stem}.safetensors", f"{stem}.png"]
        return written


_PREVIEWED = 16
"""The most images of a preview."""


def _preview(clean: Tensor, attacked: Tensor) -> bytes:
    """A PNG with the images `(n, channels, height, width)`, uint8, above the attacked ones."""
    import io

    import torch
    from PIL import Image

    rows = [images.permute(2, 0, 3, 1).flatten(1, 2) for images in (clean, attacked)]  # (height, n * width, channels)
    pixels = torch.cat(rows).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(stream, format="PNG")
    return stream.getvalue()


@contextmanager
def said_warnings(out: Output) -> Iterator[None]:
    """Print the warnings of the block as commands print them, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(item.message) for item in caught):
        out.warn(text)
