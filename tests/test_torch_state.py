"""The state of torch around public functions: what they need, and the caller's afterwards."""

from __future__ import annotations

import threading

import torch
from torch import nn

from surgery.torch_state import evaluation_mode, torch_state


def _state() -> tuple[object, ...]:
    return (
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device().type,
    )


def test_torch_state_is_that_of_the_function_and_the_callers_afterwards() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
            before = _state()
            with torch_state(gradients=True):
                assert _state() == (False, True, False, torch.float32, "cpu")
                weight = torch.ones(2, 2, requires_grad=True)
                (weight @ weight).sum().backward()
                assert weight.grad is not None
                assert weight.grad.dtype == torch.float32
            assert _state() == before
    finally:
        torch.set_default_dtype(torch.float32)


def test_torch_state_without_gradients_and_after_an_error() -> None:
    before = _state()
    try:
        with torch_state(gradients=False):
            assert not torch.is_grad_enabled()
            raise KeyError
    except KeyError:
        pass
    assert _state() == before


def test_two_threads_that_hold_a_model_give_its_modes_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model.train()
    model[1].eval()
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with evaluation_mode(model):
            entered.set()
            leave.wait(10)
            assert not model.training

    with evaluation_mode(model):
        thread = threading.Thread(target=second)
        thread.start()
        assert entered.wait(10)
    assert not model.training, "the other thread still holds it"
    leave.set()
    thread.join()
    assert [module.training for module in model] == [True, False, True]
    assert model.training
