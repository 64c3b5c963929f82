"""`fit` does not depend on the state of torch that the caller has set."""

import copy
from dataclasses import replace

import pytest
import torch

from surgery.errors import InputError
from surgery.train import PLAIN, Engine, fit

STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast that is off": lambda: torch.autocast("cpu", enabled=False),
}


@pytest.mark.parametrize("engine", [PLAIN, Engine(precision="bfloat16")], ids=["plain", "bfloat16"])
@pytest.mark.parametrize("state", STATES)
def test_the_callers_state_changes_no_weight(network, data, config, engine, state):
    config = replace(config, epochs=1)
    expected = fit(network, data, config, engine=engine).model.state_dict()
    with STATES[state]():
        found = fit(network, data, config, engine=engine).model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(tensor.is_inference() for tensor in found.values())


def test_the_callers_default_dtype_changes_no_weight(network, data, config):
    config = replace(config, epochs=1)
    expected = fit(network, data, config, engine=PLAIN).model.state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = fit(network, data, config, engine=PLAIN).model.state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_network_in_float64_is_trained_in_float64(network, data, config):
    trained = fit(copy.deepcopy(network).double(), data, replace(config, epochs=1))
    assert all(tensor.dtype == torch.float64 for tensor in trained.model.parameters())
    with pytest.raises(InputError, match="float64, which autocast does not convert"):
        fit(copy.deepcopy(network).double(), data, config, engine=Engine(precision="bfloat16"))
