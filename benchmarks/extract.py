"""How long W takes: Algorithm 1 as published, a plain loop, one batched product by autograd, and `surgery.extract`.

    python benchmarks/extract.py [--repeat 5] [--large]

All in one process and in turn, on the same linear sub-network; medians. The convolution limit is the time that the
network's convolutions take forward for K images on this machine. With --large, torchvision's ResNet-18 and ResNet-50 at
224 pixels with 1000 classes follow; there the loop is timed on 20 classes and multiplied.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision

import surgery
from surgery.graph import Graph, attribute, computing, operation_name
from surgery.models import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    small(arguments.repeat)
    if arguments.large:
        for name in ("resnet18", "resnet50"):
            large(name)


def small(repeat: int) -> None:
    """CIFAR ResNet-18, ten classes: every way in turn, `repeat` times after a warm-up."""
    result = surgery.linearize(build("resnet18"), torch.zeros(1, 3, 32, 32))
    graph, certificate = result.module, result.certificate
    ways: dict[str, Callable[[], object]] = {
        "Algorithm 1 as published": lambda: loop(graph, range(10), parameters=True),
        "loop, image gradient only": lambda: loop(graph, range(10), parameters=False),
        "batched product by autograd": lambda: batched(graph),
        "surgery.extract": lambda: surgery.extract(graph, certificate=certificate),
        "convolution limit": lambda: convolutions(graph, 10),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat + 1):
        for name, way in ways.items():
            times[name].append(timed(way))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    print("CIFAR ResNet-18, K = 10")
    for name, seconds in medians.items():
        print(f"  {name:<28} {seconds:7.3f} s   {seconds / medians['surgery.extract']:5.2f} x")
    print(f"  beyond the convolution limit {medians['surgery.extract'] / medians['convolution limit']:.2f} x")


def large(name: str) -> None:
    """A network of torchvision at 224 pixels: the loop on 20 classes, times 50, beside the whole extraction."""
    model = torchvision.models.get_model(name, weights=None)
    result = surgery.linearize(model, torch.zeros(1, 3, 224, 224))
    loop(result.module, range(2), parameters=True)
    published = timed(lambda: loop(result.module, range(20), parameters=True)) * 50
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = surgery.extract(result.module, certificate=result.certificate)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    weight = found.weight.numel() * found.weight.element_size()
    products, basis = found.provenance["products"], found.provenance["basis"]
    print(f"torchvision {name}, 224 pixels, K = 1000: {products} products of {basis}")
    print(f"  Algorithm 1 as published {published:.0f} s, surgery.extract {seconds:.0f} s, {published / seconds:.1f} x")
    print(f"  peak memory beyond what was there before {peak / 2**20:.2f} GiB, of that W {weight / 2**30:.2f} GiB")


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
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
