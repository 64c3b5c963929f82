"""Where a search starts: at the images, or uniformly in the ball of epsilon around them."""

from __future__ import annotations

import torch
from torch import Tensor

from surgery.attack.attack import Attack
from surgery.attack.noise import uniform_numbers
from surgery.attack.norms import NORMS


def random_start(images: Tensor, attack: Attack, generator: torch.Generator) -> Tensor:
    """Starts for a batch of images, drawn with one generator: for training, where no image has to be found again.

    `images` are `(batch, channels, height, width)` in [0, 1]. An attack that starts at zero draws nothing.
    """
    if attack.start == "zero":
        return images.detach().clone()
    shape = (len(images), images[0].numel() + 1)
    uniform = torch.rand(shape, generator=generator, device=generator.device).to(images.device)
    return _within(images, uniform.clamp_min(torch.finfo(uniform.dtype).tiny), attack)


def own_start(images: Tensor, attack: Attack, keys: Tensor, *, seed: int, restart: int) -> Tensor:
    """Starts that belong to the images: `keys` `(batch,)` are numbers of theirs, as of `noise.image_keys`.

    The start of an image depends on its key, the seed and the number of the restart, not on the
    batch that it comes in.
    """
    if attack.start == "zero":
        return images.detach().clone()
    uniform = uniform_numbers(keys, images[0].numel() + 1, seed=seed, stream=(restart,))
    # The balls of L2 and L1 need sums over pixels; in float64 their order does not reach the float32 result.
    return _within(images, uniform if attack.norm == "Linf" else uniform.double(), attack)


def _within(images: Tensor, uniform: Tensor, attack: Attack) -> Tensor:
    """The images moved to where `(batch, D + 1)` uniform numbers in (0, 1) say, clipped to [0, 1]."""
    offset = attack.epsilon * NORMS[attack.norm].ball(uniform)
    return (images.detach() + offset.to(images.dtype).reshape(images.shape)).clamp_(0.0, 1.0)
