"""The state of torch that a public function computes in, whatever its caller has set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn


@contextmanager
def torch_state(*, gradients: bool) -> Iterator[None]:
    """Compute with or without `gradients`, outside inference mode and autocast, with float32 and the CPU as defaults.

    Under inference mode, gradients are silently zero; under autocast, float32 networks compute in half precision. The
    caller's state is back in force after the block. Tensors that the caller made in inference mode stay unfit for
    gradients: copy them inside the block.
    """
    accelerator = torch.accelerator.current_accelerator()
    devices = {"cpu"} if accelerator is None else {"cpu", accelerator.type}
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for device in sorted(devices):
            if torch.is_autocast_enabled(device):
                torch.set_autocast_enabled(device, False)
                stack.callback(torch.set_autocast_enabled, device, True)
        # torch keeps the converted weights until the outermost autocast ends: as long as that is the caller's, an
        # autocast of the function itself would compute with the weights of before an update.
        while torch.autocast_increment_nesting() > 1:
            torch.autocast_decrement_nesting()
            torch.autocast_decrement_nesting()
            stack.callback(torch.autocast_increment_nesting)
        torch.autocast_decrement_nesting()
        # A default device is a mode that every call of torch goes through, the default dtype is that of all threads:
        # both are left alone unless they have to change.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


_modes: WeakKeyDictionary[nn.Module, tuple[int, dict[nn.Module, bool]]] = WeakKeyDictionary()
_changing = threading.Lock()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Hold `model` in evaluation mode; each of its modules gets its own mode back.

    Several threads may hold one model: the first switches it, the last switches it back.
    """
    with _changing:
        holders, before = _modes.get(model, (0, {module: module.training for module in model.modules()}))
        _modes[model] = (holders + 1, before)
        model.eval()
    try:
        yield
    finally:
        with _changing:
            holders, before = _modes.pop(model)
            if holders > 1:
                _modes[model] = (holders - 1, before)
            else:
                # Module by module: `model.train()` would also switch modules that the caller keeps in evaluation mode.
                for module, training in before.items():
                    module.training = training
