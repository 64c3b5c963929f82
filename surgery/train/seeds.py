"""Random numbers that are functions of a seed and a place in training, so that nothing has to be remembered of them."""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, purpose: str, *place: int) -> int:
    """A seed of its own for each purpose and place (an epoch, a batch), from the seed of the whole training."""
    text = "/".join(map(str, (seed, purpose, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(device: torch.device, seed: int, purpose: str, *place: int) -> torch.Generator:
    """A new generator on `device` with the seed of that place."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, *place))
