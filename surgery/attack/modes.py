"""The training mode of a model: evaluation for as long as it is needed, restored, and watched during a forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode, and every module of it back into the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def training_modules(model: nn.Module) -> list[str]:
    """The paths of the modules that are in training mode now; the model itself is `the model`."""
    return [name or "the model" for name, module in model.named_modules() if module.training]


@torch.no_grad()
def training_during(model: nn.Module, forward: Callable[[], object]) -> list[str]:
    """The paths of the modules that are in training mode when `forward`, a forward of `model`, reaches them."""
    seen: list[str] = []

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        module = modules[name]
        return module.register_forward_pre_hook(lambda *_: seen.append(name) if module.training else None)

    modules = dict(model.named_modules())
    handles = [watch(name) for name in modules]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(name or "the model" for name in seen))
