"""Random crops and mirror images, for a whole batch at once and where the images are (Bai et al. 2021, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from surgery.data.checks import whole
from surgery.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A random crop after padding with zeros, and a horizontal flip of every second image or so.

    `padding`: pixels on each side; the paper takes 4. `flip`: whether images are mirrored with probability one half.
    """

    padding: int
    flip: bool

    def __post_init__(self) -> None:
        whole(self.padding, "padding", least=0)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment uint8 images `(batch, channels, height, width)`; the result has the same shape and device.

        All that is random comes from `generator`, which may be on another device: one number is drawn for each image,
        and only those numbers move. The images that a generator on the CPU makes are the same on every device.

        Raises InputError for images that are not such a batch.
        """
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise InputError(
                f"uint8 images of shape (batch, channels, height, width) are augmented; got {images.dtype} "
                f"{tuple(images.shape)}"
            )
        down, right, mirrored = self._draw(len(images), generator, images.device)
        height, width = images.shape[2:]
        rows = down[:, None] + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        columns = right[:, None] + torch.where(mirrored[:, None], columns.flip(0), columns)
        return _cut(functional.pad(images, (self.padding,) * 4), rows, columns)

    def _draw(self, count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """For each image the first row and column of its crop `(batch,)`, and whether it is mirrored `(batch,)`."""
        places = 2 * self.padding + 1
        outcomes = places * places * (2 if self.flip else 1)
        drawn = torch.randint(outcomes, (count,), generator=generator, device=generator.device).to(device)
        down, right = drawn // places % places, drawn % places
        return down, right, drawn >= places * places


def _cut(padded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels at `rows` `(batch, height)` and `columns` `(batch, width)` of each image, in one gather."""
    batch, channels, _, width = padded.shape
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    pixels = padded.flatten(2).gather(2, places[:, None, :].expand(-1, channels, -1))
    return pixels.reshape(batch, channels, rows.shape[1], columns.shape[1])
