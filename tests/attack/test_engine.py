"""The fast path: the same accuracies as the slow one, and a reported fallback where it does not apply."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from surgery.attack import PLAIN, Engine, cw, evaluate, pgd
from surgery.attack.batches import attack_batch
from surgery.attack.engine import computes_bfloat16
from surgery.attack.random_start import generator_of
from surgery.attack.target import prepare
from surgery.errors import InputError
from surgery.graph import trace

ATTACKS = {
    "pgd": pgd(epsilon="2/255", steps=6, step_size="0.5/255"),
    "cw": cw(epsilon="2/255", steps=6, step_size="0.5/255"),
    "L2": pgd(norm="L2", epsilon=0.15, steps=6, step_size=0.04),
}


@pytest.mark.parametrize("engine", [
    Engine(precision="float32"),
    Engine(precision="float32", fold=False),
    Engine(precision="bfloat16"),
    Engine(precision="bfloat16", fold=False, channels_last=False),
], ids=["folded", "channels last", "bfloat16", "bfloat16 alone"])  # fmt: skip
def test_accuracies_agree_with_those_of_the_model_itself(model, images, labels, engine):
    plain = evaluate(model, (images, labels), ATTACKS, engine=PLAIN)
    fast = evaluate(model, (images, labels), ATTACKS, engine=engine)
    assert torch.equal(fast["natural"].predictions, plain["natural"].predictions)
    for name in ATTACKS:
        differ = (fast[name].per_sample != plain[name].per_sample).double().mean()
        # Of 160 images; a few stand so close to the boundary that the last bits of a gradient decide.
        assert float(differ) <= (0.03 if engine.precision == "bfloat16" else 0.013)


def test_every_success_is_one_of_the_model_in_float32(model, images, labels):
    """A search on a network that lies finds nothing that is not true."""
    target = prepare(model, images[:4], engine=Engine(precision="bfloat16"))
    liar = replace(target, surrogate=lambda x: -target.surrogate(x))
    found = attack_batch(liar, ATTACKS["pgd"], images, labels, generator=generator_of(images, 0))
    with torch.no_grad():
        assert torch.equal(found.predictions, model(found.images).argmax(1))


def test_the_copy_is_folded_and_in_bfloat16(model, images):
    target = prepare(model, images[:4], engine=Engine(precision="bfloat16"))
    assert target.notes == ("searched on a traced copy with batch norm folded in bfloat16",)
    leaf = images[:4].clone().requires_grad_()
    logits = target.surrogate(leaf)
    assert logits.dtype == torch.float32
    [gradient] = torch.autograd.grad(logits.sum(), leaf)
    assert gradient.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_with_everything_off_the_model_itself_is_searched(model, images):
    target = prepare(model, images[:4], engine=PLAIN)
    assert target.surrogate is target.reference
    assert target.notes == ("searched on the model itself in float32",)


class Untraceable(nn.Module):
    """Branches on values: no rung of the tracing ladder takes it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 5)

    def forward(self, x):
        y = self.layer(x.flatten(1))
        return y if float(y.detach().sum()) > -1e9 else -y


@pytest.mark.parametrize(("precision", "runs_on"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_a_model_that_cannot_be_traced_is_searched_as_it_is_and_said_so(images, precision, runs_on):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Untraceable()
    with torch.no_grad():
        labels = network(images).argmax(1)
    found = evaluate(network, (images, labels), {"pgd": ATTACKS["pgd"]}, engine=Engine(precision=precision))
    assert found.notes[0].startswith("not searched on a traced copy")
    assert found.notes[-1] == f"searched on the model itself in {runs_on}"
    plain = evaluate(network, (images, labels), {"pgd": ATTACKS["pgd"]}, engine=PLAIN)
    assert abs(found["pgd"].accuracy - plain["pgd"].accuracy) < 0.03


class Shy(nn.Module):
    """Another function while it is traced."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        scale = 1.0 if torch.fx._symbolic_trace.is_fx_tracing() else -1.0
        return scale * self.inner(x)


def test_a_model_that_is_another_function_while_it_is_traced_is_searched_as_it_is(model, images):
    target = prepare(Shy(model), images[:4], engine=Engine(precision="float32"))
    assert target.notes[0].startswith("not searched on a traced copy with batch norm folded in float32: ")
    assert target.notes[-1] == "searched on the model itself in float32"


def test_a_copy_that_disagrees_with_the_model_is_not_used(model, images, monkeypatch):
    negated = nn.Sequential(model, nn.Conv1d(1, 1, 1, bias=False), nn.Flatten()).eval()
    negated.insert(1, nn.Unflatten(1, (1, 5)))
    nn.init.constant_(negated[2].weight, -1.0)
    monkeypatch.setattr("surgery.attack.engine.trace", lambda network, example: trace(negated, example))
    target = prepare(model, images[:4], engine=Engine(precision="float32"))
    assert "its logits are off by 2 of the largest" in target.notes[0]
    assert target.notes[-1] == "searched on the model itself in float32"


class StraightThrough(nn.Module):
    """Rounds its input, and hands the gradient on as if it had not: in a trace nothing is left of that."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x + ((x * 255).round() / 255 - x).detach())


def test_a_copy_with_other_gradients_than_the_model_is_not_used(model, images, labels):
    found = evaluate(
        StraightThrough(model), (images, labels), {"pgd": ATTACKS["pgd"]}, engine=Engine(precision="float32")
    )
    assert found.notes[0].endswith("the cosine of its gradients and those of the model is 0")
    assert found.notes[-1] == "searched on the model itself in float32"
    assert found["pgd"].accuracy < found["natural"].accuracy


def test_a_model_in_float64_is_attacked_as_such(images, labels, model):
    wide = copy.deepcopy(model).double()
    found = evaluate(wide, (images, labels), {"pgd": ATTACKS["pgd"]}, engine=Engine(precision="float32"))
    narrow = evaluate(model, (images, labels), {"pgd": ATTACKS["pgd"]}, engine=Engine(precision="float32"))
    assert abs(found["pgd"].accuracy - narrow["pgd"].accuracy) < 0.02


def test_unknown_precisions_are_refused():
    with pytest.raises(InputError, match="did you mean 'bfloat16'"):
        Engine(precision="bfloat")


def test_bfloat16_is_chosen_where_the_processor_computes_with_it():
    assert computes_bfloat16(torch.device("cpu")) in (True, False)
    assert not computes_bfloat16(torch.device("meta"))
