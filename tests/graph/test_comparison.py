"""`trace` compares every graph with its model before it returns it."""

import copy
import itertools

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import TraceError
from surgery.graph import aten, from_exported, functional_modules

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Doubled(nn.ReLU):
    """A module whose functional form is set by the test."""


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Doubled(), nn.Flatten(), nn.Linear(144, 5))


def test_a_rung_that_computes_something_else_is_not_taken(monkeypatch):
    forms = {**functional_modules.FUNCTIONAL_FORMS, Doubled: lambda m, x: torch.relu(x) * 1.01}
    monkeypatch.setattr("surgery.graph.recorder.FUNCTIONAL_FORMS", forms)
    model = net().eval()
    graph = surgery.trace(model, EXAMPLE)
    assert graph.rung == "export"
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(graph(images), model(images))


class Pretends(nn.Module):
    """Computes something else whenever it is traced."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale if type(x) is torch.Tensor else x * self.scale * 1.01


def test_the_error_says_where_graph_and_model_part():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), Pretends()), nn.Flatten())
    with pytest.raises(TraceError) as caught:
        surgery.trace(model, EXAMPLE)
    message = str(caught.value)
    assert message.count("differs from the model on random images") == 3
    assert message.count("first in module '1.1' (Pretends), node _1_2 (mul)") == 3
    assert f"symbolic: 1.1, {__file__}:{Pretends.forward.__code__.co_firstlineno + 1}: the graph differs" in message
    assert "by 0.01 of the largest value" in message


class Inline(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.conv(x)
        return x + 1 if type(x) is torch.Tensor else x + 2


def test_a_difference_behind_the_last_module_is_located():
    with pytest.raises(TraceError, match=r"first in Inline after module 'conv', node add \(add\)"):
        surgery.trace(Inline(), EXAMPLE)


COUNTER = itertools.count(1)


class Counts(nn.Module):
    def forward(self, x):
        return x * next(COUNTER)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand(3, 1, 1)


@pytest.mark.parametrize("model", [Counts(), nn.Sequential(Noise(), Counts())])
def test_a_model_that_never_repeats_itself_is_refused_as_random(model):
    with pytest.raises(TraceError, match="is random in evaluation mode"):
        surgery.trace(model, EXAMPLE)


class AlwaysDrops(nn.Module):
    def forward(self, x):
        return torch.dropout(x, 0.5, True)


@pytest.mark.parametrize("model", [AlwaysDrops(), Noise()])
def test_a_model_that_draws_random_numbers_is_traced_where_the_graph_draws_the_same(model):
    with pytest.warns(UserWarning, match=f"{type(model).__name__} draws random numbers in evaluation mode"):
        graph = surgery.trace(model, EXAMPLE)
    images = torch.rand(2, 3, 8, 8)
    torch.manual_seed(3)
    expected = model(images)
    torch.manual_seed(3)
    torch.testing.assert_close(graph(images), expected)
    assert not torch.equal(graph(images), expected)


class CountsCalls(nn.Module):
    """Has its count in an attribute or in a buffer; every copy starts with the count of the original."""

    def __init__(self, buffer):
        super().__init__()
        self.register_buffer("count", torch.ones(()))
        self.buffer = buffer
        self.calls = 1

    def forward(self, x):
        if self.buffer:
            self.count += 1
            return x * self.count
        self.calls += 1
        return x * self.calls


@pytest.mark.parametrize("buffer", [False, True])
def test_a_model_that_depends_on_earlier_calls_is_refused_with_the_module(buffer):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU(), CountsCalls(buffer)))
    with pytest.raises(TraceError) as caught:
        surgery.trace(model, EXAMPLE)
    assert "Sequential gives other outputs for the same images in its second forward pass" in str(caught.value)
    assert "first in module '1.1' (CountsCalls)" in str(caught.value)
    assert (model[1][1].calls, model[1][1].count.item()) == (1, 1)


def test_a_count_that_changes_no_output_is_no_matter(recwarn):
    assert surgery.trace(nn.Sequential(nn.BatchNorm2d(3), Writes()), EXAMPLE).rung == "symbolic"
    assert not recwarn


class NotANumber(nn.Module):
    def forward(self, x):
        return torch.log(x) / torch.relu(x)


def test_outputs_that_are_not_a_number_agree_where_they_are_so_in_both():
    graph = surgery.trace(NotANumber(), EXAMPLE)
    assert graph.rung == "symbolic"
    assert graph(torch.zeros(1, 3, 8, 8)).isinf().all()


class Selective(nn.Module):
    """Accepts images in [0, 1] only."""

    def forward(self, x):
        if type(x) is torch.Tensor and (x.min() < 0 or x.max() > 1):
            raise ValueError("images have to be in [0, 1]")
        return x.sqrt()


def test_a_model_that_refuses_normal_images_is_compared_on_others():
    assert surgery.trace(Selective(), EXAMPLE)(torch.ones(1, 3, 8, 8)).eq(1).all()


class Writes(nn.Module):
    """Writes into a buffer, a parameter, an attribute and its input in every forward pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.weight = nn.Parameter(torch.ones(3, 1, 1))
        self.cache = [torch.ones(2)]
        self.count = 0

    def forward(self, x):
        with torch.no_grad():
            if type(x) is torch.Tensor:
                self.calls.add_(1)
                self.weight.mul_(1)
                self.cache[0].mul_(2)
                self.count += 1
        return x * self.weight


def test_the_comparison_leaves_model_mode_and_random_state_as_they_are():
    model = nn.Sequential(Writes(), nn.BatchNorm2d(3), nn.Dropout()).train()
    before, versions = copy.deepcopy(model.state_dict()), [p._version for p in model.parameters()]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    surgery.trace(model, EXAMPLE)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [p._version for p in model.parameters()] == versions
    assert (model[0].count, model[0].cache[0].tolist()) == (0, [1.0, 1.0])
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_floating_dtype_is_compared_within_its_precision(dtype):
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    graph = surgery.trace(
        nn.Sequential(layer, nn.Flatten(), nn.Linear(80, 3)).to(dtype), torch.zeros(1, 5, 16, dtype=dtype)
    )
    assert graph.rung.startswith("symbolic")
    with pytest.raises(TraceError, match="differs from the model"):
        surgery.trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), _Tenth()).to(dtype), torch.zeros(1, 4, dtype=dtype))


class _Tenth(nn.Module):
    def forward(self, x):
        return x if type(x) is torch.Tensor else x * 1.2


def test_inputs_of_whole_numbers_are_compared():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(20, 3))
    assert surgery.trace(model, torch.zeros(1, 5, dtype=torch.int64))(torch.full((2, 5), 9)).shape == (2, 3)


def test_a_model_without_numbers_is_traced_without_a_comparison():
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    assert surgery.trace(model, torch.zeros(1, 3)).input_shape == (3,)


def exported(model, **settings):
    return torch.export.export(model.eval(), (torch.zeros(2, 3, 8, 8),), **settings)


@pytest.mark.parametrize("settings", [{}, {"dynamic_shapes": ({0: torch.export.Dim.AUTO},)}], ids=["fixed", "free"])
def test_an_exported_program_is_compared_with_its_graph(monkeypatch, settings):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    nn.init.constant_(model[1].weight, 3.0)
    program = exported(model, **settings)
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}
    assert from_exported(program).rung == "export"
    assert all(torch.equal(before[name], tensor) for name, tensor in program.state_dict.items())
    wrong = lambda builder, named: (named["input"], None, None)  # noqa: E731
    monkeypatch.setitem(aten.ATEN_READERS, "_native_batch_norm_legit_no_training", wrong)
    with pytest.raises(TraceError, match=r"exported program cannot be read.*the graph differs from the model"):
        from_exported(program)


def test_an_exported_program_that_counts_its_calls_is_refused():
    with pytest.raises(TraceError, match="exported program gives other outputs for the same images in its second"):
        from_exported(exported(CountsCalls(buffer=True)))
