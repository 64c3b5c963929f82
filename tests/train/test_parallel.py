import copy
import dataclasses
import importlib
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from surgery.errors import InputError
from surgery.models import read_checkpoint
from surgery.train import PLAIN, ClusterPenalty, ExponentialAverage, Objective, WeightPerturbation, fit
from surgery.train.folding import FoldedNetwork
from surgery.train.processes import ALONE, Processes, SharedBatchNorm, launched, share_batch_norm

SCRIPT = """
    import importlib.util, os, sys
    import torch
    spec = importlib.util.spec_from_file_location("parallel", {here!r})
    parallel = importlib.util.module_from_spec(spec); spec.loader.exec_module(parallel)
    spec = importlib.util.spec_from_file_location("small", {conftest!r})
    small = importlib.util.module_from_spec(spec); spec.loader.exec_module(small)
    def made(fixture, *arguments):
        return fixture._get_wrapped_function()(*arguments)
    # Forked before torch computes anything: importing it takes longer than the training.
    other = os.fork()
    rank = "0" if other else "1"
    os.environ |= {{"RANK": rank, "LOCAL_RANK": rank}}
    torch.set_num_threads(1)
    for name in parallel.NAMES:
        heard = []
        config = made(small.config, made(small.attack))
        network, kept = made(small.network), f"{{sys.argv[1]}}/{{name}}"
        result = parallel.run(network, made(small.data), config, name, checkpoints=kept, progress=heard.append)
        assert bool(heard) == (rank == "0"), "one process reports"
        torch.save((result.model.state_dict(), result.history), f"{{kept}}/{{rank}}.pt")
    if other:
        _, status = os.waitpid(other, 0)
        assert status == 0, "the other process has failed"
"""


NAMES = ("pgd", "cluster", "perturbed", "trades")


def run(network, data, config, name, **options):
    """Four short runs in which nothing depends on how a batch is shared but the order of sums."""
    network[4].p = 0.0  # dropout belongs to a process
    robust = config.objective
    cluster = ClusterPenalty(hierarchy=data.hierarchy, weight=0.1, form="norm")
    objectives = {
        "pgd": robust,
        "cluster": dataclasses.replace(robust, cluster=cluster),
        "perturbed": dataclasses.replace(robust, perturbation=WeightPerturbation(gamma=0.01)),
        "trades": Objective(kind="trades", attack=robust.attack, beta=3.0, cluster=cluster),
    }
    # Batches of 15 are shared as 7 and 8 images, and the last one has 12.
    config = dataclasses.replace(
        config, objective=objectives[name], batch_size=15, averaging=ExponentialAverage(decay=0.5), seed=7
    )
    return fit(network.double(), data, config, engine=PLAIN, **options)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder of runs in two processes, as a launcher starts them."""
    folder = tmp_path_factory.mktemp("parallel")
    places = {"here": str(Path(__file__)), "conftest": str(Path(__file__).parent / "conftest.py")}
    script = textwrap.dedent(SCRIPT).format(**places)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", script, str(folder)]
    done = subprocess.run(command, env={**os.environ, **shared}, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one(network, data, config, two_processes, name):
    """Batch norm sees the whole batch, attacks start where they would, and gradients are those of the whole batch."""
    alone = run(network, data, config, name)
    kept = two_processes / name
    (weights, history), (others, _) = (torch.load(kept / f"{rank}.pt", weights_only=False) for rank in range(2))
    for key, expected in alone.model.state_dict().items():
        assert torch.equal(weights[key], others[key])
        assert torch.allclose(weights[key], expected, rtol=1e-9, atol=1e-12), key
    for record, other in zip(history, alone.history, strict=True):
        assert record.loss == pytest.approx(other.loss, rel=1e-9)
        assert record.parts == pytest.approx(other.parts, rel=1e-9)
        assert (record.natural, record.robust, record.train_robust) == pytest.approx(
            (other.natural, other.robust, other.train_robust)
        )
    written = read_checkpoint(kept / "last.safetensors")
    assert all(torch.equal(written.state[key], tensor) for key, tensor in weights.items())
    assert "network.1.running_mean" in load_file(kept / "resume.safetensors")


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, momentum=None)]
)
def test_shared_batch_norm_is_batch_norm(layer):
    reference = nn.Sequential(layer).double()
    shared = nn.Sequential(SharedBatchNorm(nn.Sequential(layer).double()[0], ALONE))
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    images = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for module in (reference, shared):
        module.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
        leaf = images.clone().requires_grad_()
        for _ in range(2):
            output = module.train()(leaf)
        [gradient] = torch.autograd.grad(output.pow(3).sum(), leaf)
        quiet = module.eval()(images)
        found.append((output, gradient, quiet, {name: tensor.clone() for name, tensor in module.state_dict().items()}))
    for mine, theirs in zip(found[1][:3], found[0][:3], strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-8, atol=1e-10)
    assert found[0][3].keys() == found[1][3].keys()
    assert all(torch.allclose(found[1][3][name], found[0][3][name]) for name in found[0][3])


def test_one_process_keeps_the_modules_that_it_has():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert share_batch_norm(network, ALONE)[1] is network[1]
    assert isinstance(share_batch_norm(network, Processes(rank=0, count=2))[1], SharedBatchNorm)


def test_shared_batch_norm_folds_like_any_other():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    network[1].running_mean.fill_(0.3)
    shared = share_batch_norm(copy.deepcopy(network), Processes(rank=0, count=2))
    images = torch.rand(2, 3, 8, 8)
    folded = FoldedNetwork(shared, images[:1], dtype=torch.float32, channels_last=False)
    assert torch.allclose(folded(images), network(images), rtol=1e-5, atol=1e-6)


def test_shares_are_a_batch():
    for count in (1, 2, 3, 5):
        parts = [Processes(rank=rank, count=count).share(torch.arange(13)) for rank in range(count)]
        assert torch.equal(torch.cat(parts), torch.arange(13))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_environment_that_makes_no_sense_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE, got 'two'"):
        launched()


def test_more_processes_than_images_are_refused(network, data, config, monkeypatch):
    # The package exports the function `fit` under the name of its module, so the module is looked up by its full name.
    module = importlib.import_module("surgery.train.fit")
    monkeypatch.setattr(module, "join", lambda device: Processes(rank=0, count=17))
    with pytest.raises(InputError, match="16 images cannot be shared by 17 processes"):
        fit(network, data, config)
