"""How long W takes: Algorithm 1 as published, a plain loop, one batched product by autograd, and `surgery.extract`.

    python benchmarks/extract.py [--repeat 15] [--large] [--all]

`surgery.extract(result.module)` is called as in the README: the graph carries its certificate from `linearize`. All
ways run in one process and in turn, on the same linear sub-network. Times are processor times, and a ratio is the
median of the ratios within a round, so that other work on a shared machine falls on both sides of it. The convolution
limit is the time that the network's convolutions take forward for K images on this machine. With --large, torchvision's
ResNet-18 and ResNet-50 at 224 pixels with 1000 classes follow; there the loop is timed on 20 classes and multiplied.
With --all, W is checked for every classification model of torchvision: <u, F(x) - F(0)> = <W u, x> for random x and u,
which takes one product each.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision

import surgery
from surgery.graph import Graph, attribute, computing, operation_name
from surgery.linear.probe import run
from surgery.linear.transpose import Transpose
from surgery.models import build, open_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    small(arguments.repeat)
    if arguments.large:
        for name in ("resnet18", "resnet50"):
            large(name)
    if arguments.all:
        every_model()


EXTRACT, PUBLISHED, LIMIT = "surgery.extract(result.module)", "Algorithm 1 as published", "convolution limit"


def small(repeat: int) -> None:
    """CIFAR ResNet-18, ten classes: every way in turn, `repeat` times after a warm-up."""
    result = surgery.linearize(build("resnet18"), torch.zeros(1, 3, 32, 32))
    graph, certificate = result.module, result.certificate
    ways: dict[str, Callable[[], object]] = {
        PUBLISHED: lambda: loop(graph, range(10), parameters=True),
        "loop, image gradient only": lambda: loop(graph, range(10), parameters=False),
        "batched product by autograd": lambda: batched(graph),
        EXTRACT: lambda: surgery.extract(result.module),
        LIMIT: lambda: convolutions(graph, 10),
        "certificate handed over": lambda: surgery.extract(graph, certificate=certificate),
        "certificate measured again": lambda: surgery.extract(graph, certificate=surgery.certify(graph)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat + 1):
        for name, way in ways.items():
            times[name].append(timed(way))
    measured = {name: values[1:] for name, values in times.items()}
    print("CIFAR ResNet-18, K = 10, processor time")
    for name, values in measured.items():
        print(f"  {name:<30} {statistics.median(values):7.3f} s   {ratio(values, measured[EXTRACT]):5.2f} x")
    print(f"  faster than {PUBLISHED}: {ratio(measured[PUBLISHED], measured[EXTRACT]):.2f} x")
    print(f"  times the {LIMIT}: {ratio(measured[EXTRACT], measured[LIMIT]):.2f}")


def ratio(first: list[float], second: list[float]) -> float:
    """The median ratio of two times of one round."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def large(name: str) -> None:
    """A network of torchvision at 224 pixels: the loop on 20 classes, times 50, and the whole extraction."""
    model = torchvision.models.get_model(name, weights=None)
    result = surgery.linearize(model, torch.zeros(1, 3, 224, 224))
    loop(result.module, range(2), parameters=True)
    published = timed(lambda: loop(result.module, range(20), parameters=True)) * 50
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = surgery.extract(result.module)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    weight = found.weight.numel() * found.weight.element_size()
    products, basis = found.provenance["products"], found.provenance["basis"]
    print(f"torchvision {name}, 224 pixels, K = 1000: {products} products of {basis}")
    print(f"  Algorithm 1 as published {published:.0f} s, surgery.extract {seconds:.0f} s, {published / seconds:.1f} x")
    print(f"  peak memory of the extraction {peak / 2**20:.2f} GiB, of that W {weight / 2**30:.2f} GiB")


def every_model() -> None:
    """The adjoint identity for every model, in float32 and where that overflows in float64."""
    names = torchvision.models.list_models(module=torchvision.models)
    errors: dict[str, float] = {}
    for name in names:
        torch.manual_seed(0)
        opened = open_model(None, architecture=f"torchvision:{name}")
        for parameter in opened.module.parameters():
            if parameter.dim() > 1 and not parameter.any():
                torch.nn.init.trunc_normal_(parameter, std=0.02)
        example = torch.zeros((1, *(opened.input_shape or (3, 224, 224))))
        graph = surgery.apply(surgery.plan(surgery.trace(opened.module, example), "linearize")).module
        for dtype in (torch.float32, torch.float64):
            errors[name] = adjoint_error(graph, dtype)
            if math.isfinite(errors[name]):
                break
        print(f"  {name:<24} {str(dtype).removeprefix('torch.')} {errors[name]:.1e}", flush=True)
    print(f"adjoint identity: largest error {max(errors.values()):.1e} of the output, {len(names)} models")


def adjoint_error(graph: Graph, dtype: torch.dtype) -> float:
    """How far <u, F(x) - F(0)> is from <W u, x>, relative to |u| |F(x) - F(0)|."""
    x = torch.randn((1, *graph.input_shape), dtype=dtype)
    output = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    values = [value for node, value in run(graph, torch.cat([x, 0 * x]), dtype=dtype) if node is output]
    difference = values[0][0] - values[0][1]
    u = torch.randn((1, *difference.shape), dtype=dtype)
    pulled = Transpose(graph, 1, device=torch.device("cpu"), dtype=dtype).pull(output, u)
    return float(abs((u[0] * difference).sum() - (pulled * x).sum()) / (u.norm() * difference.norm()))


def loop(graph: Graph, classes: range, *, parameters: bool) -> torch.Tensor:
    """One backward pass a class, as in the published code with gradients of the parameters too."""
    graph.requires_grad_(parameters)
    image = torch.zeros((1, *graph.input_shape), requires_grad=True)
    rows: list[torch.Tensor] = []
    for k in classes:
        graph.zero_grad()
        image.grad = None
        graph(image)[0, k].backward()
        assert image.grad is not None, "the image is a leaf"
        rows.append(image.grad[0].clone())
    graph.requires_grad_(False)
    return torch.stack(rows)


def batched(graph: Graph) -> torch.Tensor:
    """K images forward, one backward pass with a unit cotangent for each."""
    graph.requires_grad_(False)
    images = torch.zeros((10, *graph.input_shape), requires_grad=True)
    return torch.autograd.grad(graph(images).diagonal().sum(), images)[0]


def convolutions(graph: Graph, batch: int) -> None:
    """Every convolution of the network forward, on zeros."""
    with torch.no_grad():
        for node in computing(graph):
            if operation_name(node) == "conv2d":
                source, weight, _ = node.args
                image = torch.zeros((batch, *source.meta["shape"][1:]))
                F.conv2d(image, attribute(graph, str(weight.target)), None, **node.kwargs)


def timed(work: Callable[[], object]) -> float:
    """The processor time of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
