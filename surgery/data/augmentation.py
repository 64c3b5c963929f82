"""Random crops and horizontal flips of a whole batch, on the device of the images (Bai et al. 2021, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from surgery.data.checks import whole
from surgery.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A random crop after padding with zeros, and a horizontal flip with probability one half.

    `padding`: pixels on each side; the paper uses 4. `flip`: whether images are flipped.
    """

    padding: int
    flip: bool

    def __post_init__(self) -> None:
        whole(self.padding, "padding", least=0)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment uint8 images `(batch, channels, height, width)`; the result has the same shape and device.

        All random numbers come from `generator`, which may be on another device: one number is drawn for each image,
        and only these numbers are moved. With a generator on the CPU, the result is the same on every device.

        Raises InputError for images of another type or shape.
        """
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise InputError(
                f"expected uint8 images of shape (batch, channels, height, width), got {images.dtype} "
                f"{tuple(images.shape)}"
            )
        # One number encodes the crop and the flip: a draw from another device costs a transfer.
        places = 2 * self.padding + 1
        outcomes = places * places * (2 if self.flip else 1)
        drawn = torch.randint(outcomes, (len(images),), generator=generator, device=generator.device).to(images.device)
        down, right, flipped = drawn // places % places, drawn % places, drawn >= places * places
        height, width = images.shape[2:]
        rows = down[:, None] + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        columns = right[:, None] + torch.where(flipped[:, None], columns.flip(0), columns)
        # One gather of the flat pixels serves crop and flip together, for images of the whole batch.
        padded = functional.pad(images, (self.padding,) * 4)
        indices = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
        pixels = padded.flatten(2).gather(2, indices[:, None, :].expand(-1, images.shape[1], -1))
        return pixels.reshape(images.shape)
