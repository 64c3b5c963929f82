"""Comparing a traced graph with its model on random images, as `trace` does before it returns a graph."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
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
    """Random images and the model's outputs for them.

    `again` are the outputs of the same copy of the model in a second forward pass, with other random numbers.
    """

    images: Tensor
    outputs: list[Any]
    again: list[Any]


def sample(
    copied: Callable[[], nn.Module], shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Sample | None:
    """Run a copy of a model twice on random images of `shape`, which starts with their number.

    `copied` makes the copy, in evaluation mode. The images are standard normal, or where the model raises an error for
    those, in [0, 1], or else zero. Returns None for the meta device, which has no numbers. Raises what the model raises
    for images of zeros.
    """
    if device.type == "meta":
        return None
    # Normal images reach both sides of a ReLU. Some models accept images in [0, 1] only. Zeros come last, because most
    # mistakes vanish there.
    *others, zeros = _candidates(shape, dtype, device)
    for images in others:
        with contextlib.suppress(Exception):
            return _sample(copied(), images)
    return _sample(copied(), zeros)


def _sample(subject: nn.Module, images: Tensor) -> Sample:
    first, second = (_run_seeded(subject, images, seed) for seed in (0, 1))
    return Sample(images=images, outputs=first, again=second)


def device_of(model: nn.Module, example: Tensor) -> torch.device:
    """The device of the first tensor in `model`; that of `example` for a model without tensors."""
    return next((item for module in model.modules() for item in _tensors(module.__dict__)), example).device


def run(model: nn.Module, images: Tensor, *, seed: int = 0) -> list[Any]:
    """The leaves of the output of a copy of `model` for `images`; a model that draws random numbers draws from `seed`.

    The copy has tensors of its own, as forwards may write into buffers.
    """
    subject = evaluating_copy(model, share=False)
    return _run_seeded(subject, images, seed)


def check_agreement(graph: Graph, copied: Callable[[], nn.Module], expected: Sample) -> None:
    """Raise DisagreementError where `graph` does not compute what the model does, naming the first difference.

    Outputs have to agree up to the square root of the machine precision of the coarsest dtype in the graph (3e-4 of the
    largest output in float32): the graph writes attention out and `torch.export` decomposes operations, which rounds
    differently. NaN has to be in the same places in both.
    """
    used = [node.meta["dtype"] for node in graph.graph.nodes]
    tolerance = _tolerance([*used, *(item.dtype for item in expected.outputs if isinstance(item, Tensor))])
    try:
        found = _run_seeded(graph, expected.images, 0)
    except Exception as error:
        node = _failing_node(graph, expected.images)
        if node is None:
            raise
        part = f"the graph raises an error where the model does not, at node {node.name} ({operation_name(node)})"
        raise DisagreementError(Place.of(node), f"{part}: {error}") from error
    reason = _difference(found, expected.outputs, tolerance)
    if reason is not None:
        place, part = _parting(graph, copied(), expected, tolerance)
        raise DisagreementError(place, f"the graph differs from the model on random images: {reason}; first in {part}")


def _tolerance(dtypes: Iterable[torch.dtype | None]) -> float:
    # The square root leaves room for the rounding of deep networks, and a wrong operation is far above it.
    floating = [dtype for dtype in dtypes if dtype is not None and (dtype.is_floating_point or dtype.is_complex)]
    return max((torch.finfo(dtype).eps for dtype in floating), default=0.0) ** 0.5


def _failing_node(graph: Graph, images: Tensor) -> fx.Node | None:
    """The first node that raises an error for `images`."""
    interpreter = fx.Interpreter(graph, garbage_collect_values=False)
    with torch.no_grad(), contextlib.suppress(Exception):
        interpreter.run(images.clone())
    return next(
        (node for node in graph.graph.nodes if node not in interpreter.env and node.op == "call_function"), None
    )


def change_between_passes(copied: Callable[[], nn.Module], expected: Sample) -> str | None:
    """What makes the outputs of a model for the same images change from one forward pass to the next, in words.

    "random numbers" where the outputs change with the random numbers only; otherwise the first module whose output a
    second forward pass with the same random numbers changes, such as one that counts its calls; None for a function of
    the images.
    """
    tolerance = _tolerance(item.dtype for item in expected.outputs if isinstance(item, Tensor))
    if _difference(expected.again, expected.outputs, tolerance) is None:
        return None
    subject = copied()
    passes: list[list[tuple[str, list[Any]]]] = []
    for path, module in subject.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, path=path: passes[-1].append((path, pytree.tree_leaves(output)))
        )
    for _ in range(2):
        passes.append([])
        _run_seeded(subject, expected.images, 0)
    for (path, first), (_, second) in zip(*passes, strict=False):
        if _difference(second, first, tolerance) is not None:
            kind = type(subject.get_submodule(path)).__name__
            return f"module {path!r} ({kind})" if path else kind
    return "random numbers"


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


def _candidates(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point or dtype.is_complex:
        # Drawn in float32 or wider: not every dtype has random numbers on every device.
        wide = torch.promote_types(dtype, torch.float32)
        yield torch.randn(shape, generator=generator, dtype=wide).to(device, dtype)
        yield torch.rand(shape, generator=generator, dtype=wide).to(device, dtype)
    else:
        yield torch.randint(0, 2, shape, generator=generator).to(device, dtype)
    yield torch.zeros(shape, dtype=dtype, device=device)


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
        return f"it has {len(found)} outputs, the model has {len(expected)}"
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


def _parting(graph: Graph, subject: nn.Module, expected: Sample, tolerance: float) -> tuple[Place, str]:
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
