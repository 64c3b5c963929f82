"""Comparing a traced graph with its model on random images, as `trace` does before it returns a graph."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from surgery.graph.builder import Place
from surgery.graph.graph import Graph
from surgery.graph.nodes import operation_name

COMPARED = 2
"""Images in a comparison: more than one, because one image hides mistakes about the batch."""


class DisagreementError(Exception):
    """A graph and its model give different outputs for the same images; `place` names the first difference."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Random images and the model's outputs for them."""

    images: Tensor
    outputs: list[Any]


def sample(model: nn.Module, example: Tensor) -> Sample | None:
    """Run a copy of `model`, in evaluation mode, on random images of the shape and dtype of `example`.

    The images are standard normal, or where the model raises an error for those, in [0, 1], or else zero. Returns None
    for a model on the meta device, which has no numbers. Raises what the model raises for images of zeros.
    """
    tensor = next((item for module in model.modules() for item in _tensors(module.__dict__)), example)
    if tensor.device.type == "meta":
        return None
    # Normal images reach both sides of a ReLU. Some models accept images in [0, 1] only. Zeros come last, because most
    # mistakes vanish there.
    *others, zeros = _candidates(example, tensor.device)
    for images in others:
        with contextlib.suppress(Exception):
            return Sample(images=images, outputs=run(model, images))
    return Sample(images=zeros, outputs=run(model, zeros))


def run(model: nn.Module, images: Tensor, *, seed: int = 0) -> list[Any]:
    """The leaves of the output of a copy of `model` for `images`; a model that draws random numbers draws from `seed`.

    The copy has tensors of its own, as forwards may write into buffers.
    """
    subject = evaluating_copy(model, share=False)
    return _run_seeded(subject, images, seed)


def check_agreement(graph: Graph, model: nn.Module, expected: Sample) -> None:
    """Raise DisagreementError where `graph` does not compute what `model` does, naming the first difference.

    Outputs have to agree up to the square root of the machine precision of the coarsest dtype in the graph (3e-4 of the
    largest output in float32): the graph writes attention out and `torch.export` decomposes operations, which rounds
    differently. NaN has to be in the same places in both.
    """
    # The square root leaves room for the rounding of deep networks, and a wrong operation is far above it.
    used = [node.meta["dtype"] for node in graph.graph.nodes]
    used += [item.dtype for item in expected.outputs if isinstance(item, Tensor)]
    floating = [dtype for dtype in used if dtype is not None and (dtype.is_floating_point or dtype.is_complex)]
    tolerance = max((torch.finfo(dtype).eps for dtype in floating), default=0.0) ** 0.5
    reason = _difference(_run_seeded(graph, expected.images, 0), expected.outputs, tolerance)
    if reason is not None:
        place, part = _parting(graph, model, expected, tolerance)
        raise DisagreementError(place, f"the graph differs from the model on random images: {reason}; first in {part}")


def is_repeatable(model: nn.Module, expected: Sample) -> bool:
    """True where `model` computes the same again, with the same and with other random numbers."""
    return all(_difference(run(model, expected.images, seed=seed), expected.outputs, 0.0) is None for seed in (0, 1))


def evaluating_copy(model: nn.Module, *, share: bool) -> nn.Module:
    """A copy of the modules in evaluation mode; it shares the tensors with `model`, or has copies of them."""
    found = {id(tensor): tensor for module in model.modules() for tensor in _tensors(module.__dict__)}
    # `deepcopy` alone fails for tensors with a history, which some models keep in attributes.
    memo: dict[int, Any] = dict(found)
    if not share:
        for key, tensor in found.items():
            clone = tensor.detach().clone()
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[key] = nn.Parameter(clone, tensor.requires_grad) if is_parameter else clone
    # The copy protects the model's mode and attributes from what a forward writes.
    return copy.deepcopy(model, memo).eval()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers: parameters, buffers, and tensors in attributes and caches."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _candidates(example: Tensor, device: torch.device) -> Iterator[Tensor]:
    shape, generator = (COMPARED, *example.shape[1:]), torch.Generator().manual_seed(0)
    if example.dtype.is_floating_point or example.dtype.is_complex:
        # Drawn in float32 or wider: not every dtype has random numbers on every device.
        dtype = torch.promote_types(example.dtype, torch.float32)
        yield torch.randn(shape, generator=generator, dtype=dtype).to(device, example.dtype)
        yield torch.rand(shape, generator=generator, dtype=dtype).to(device, example.dtype)
    else:
        yield torch.randint(0, 2, shape, generator=generator).to(device, example.dtype)
    yield torch.zeros(shape, dtype=example.dtype, device=device)


def _run_seeded(module: nn.Module, images: Tensor, seed: int) -> list[Any]:
    cuda = images.device.type == "cuda"
    # Model and graph start from the same seed, so one that draws random numbers in evaluation mode can still agree.
    # The fork restores the caller's generators afterwards.
    with torch.no_grad(), torch.random.fork_rng(devices=[images.device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(images.device):
                torch.cuda.manual_seed(seed)
        return pytree.tree_leaves(module(images.clone()))  # a clone, as models may write into their input


def _difference(found: list[Any], expected: list[Any], tolerance: float) -> str | None:
    """The difference between two lists of outputs, in words."""
    if len(found) != len(expected):
        return f"{len(found)} outputs, the model has {len(expected)}"
    for left, right in zip(found, expected, strict=True):
        if not isinstance(left, Tensor) or not isinstance(right, Tensor):
            if left != right:
                return f"an output is {left!r}, the model's is {right!r}"
        elif (left.shape, left.dtype) != (right.shape, right.dtype):
            shapes = [f"{tuple(item.shape)} {item.dtype}" for item in (left, right)]
            return f"an output has shape {shapes[0]}, the model's has {shapes[1]}"
        # `not <=` instead of `>`, so that a distance of NaN is a difference.
        elif not (distance := _distance(left, right)) <= tolerance:
            return f"an output differs by {distance:.2g} of the largest value"
    return None


def _distance(left: Tensor, right: Tensor) -> float:
    """The largest difference relative to the largest value of `right`; equal infinities are equal, and NaN in both."""
    if torch.equal(left, right):
        return 0.0
    # In float64, because the difference of two float16 values can overflow.
    wide = torch.complex128 if left.is_complex() else torch.float64
    left, right = left.detach().cpu().to(wide), right.detach().cpu().to(wide)
    same = (left == right) | (left.isnan() & right.isnan())
    gaps = (left - right).abs().masked_fill(same, 0.0)
    finite = right.abs()[right.isfinite()]
    size = float(finite.max()) if finite.numel() else 0.0
    return float(gaps.nan_to_num(nan=float("inf")).max()) / (size or 1.0)


def _parting(graph: Graph, model: nn.Module, expected: Sample, tolerance: float) -> tuple[Place, str]:
    """The first module whose output no node of the graph computes, and the node that should."""
    # All values are kept: the graph has no modules, so the outputs of a module are searched among its nodes.
    interpreter = fx.Interpreter(graph, garbage_collect_values=False)
    with torch.no_grad():
        interpreter.run(expected.images.clone())

    def results(path: str) -> list[Tensor]:
        """The values that the graph computes in a module and reads outside; all values if it has no node there."""
        # A module's result is read outside of it; inner values could agree by chance.
        inside = [node for node in interpreter.env if _is_inside(node, path)]
        exits = [node for node in inside if not all(_is_inside(user, path) for user in node.users)]
        leaves = pytree.tree_leaves([interpreter.env[node] for node in exits or interpreter.env])
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    agreed: list[str] = []
    parted: list[str] = []

    def compare(path: str, output: Any) -> None:
        for tensor in pytree.tree_leaves(output):
            if isinstance(tensor, Tensor):
                alike = [value for value in results(path) if value.shape == tensor.shape]
                close = any(_distance(value, tensor) <= tolerance for value in alike)
                (agreed if close else parted).append(path)

    subject = evaluating_copy(model, share=False)
    for path, module in subject.named_modules():
        module.register_forward_hook(lambda module, inputs, output, path=path: compare(path, output))
    _run_seeded(subject, expected.images, 0)
    # Hooks run when a module ends, innermost first: the first parted path is the smallest module that differs.
    path = next(iter(parted), "")
    inside = [node for node in graph.graph.nodes if _is_inside(node, path)]
    where = f"module {path!r} ({type(subject.get_submodule(path)).__name__})" if path else type(subject).__name__
    after = f" after module {agreed[-1]!r}" if agreed and agreed[-1] and not path else ""
    if not inside:
        return Place(module_path=path), f"{where}{after}, of which the graph has no node"
    return Place.of(inside[-1]), f"{where}{after}, node {inside[-1].name} ({operation_name(inside[-1])})"


def _is_inside(node: fx.Node, path: str) -> bool:
    place = node.meta["module_path"]
    return node.op == "call_function" and (not path or place == path or place.startswith(f"{path}."))
