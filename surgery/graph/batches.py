"""Programs of torch.export that were made for a fixed number of images, and how they compute any number.

`torch.export.export(model, (x,))` writes the number of images of `x` into every size. `free_batch` replaces it: the
program runs once on tensors without data with twice the images, and where a call names a size that has to grow, the
size becomes free. Whether the result is right is measured (`agrees`), because a size of one may mean anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.graph.graph import Graph

EXPORT_LINE = "torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
"""The call that exports a program for any number of images; `x` holds two or more."""

_ATEN = torch.ops.aten
_RESHAPES = {_ATEN.view.default, _ATEN._unsafe_view.default, _ATEN.reshape.default}
_COPIES = {_ATEN.expand.default, _ATEN.repeat.default}
_FILLS = {_ATEN.zeros.default, _ATEN.ones.default, _ATEN.full.default, _ATEN.empty.memory_format}
_NEW_FILLS = {_ATEN.new_zeros.default, _ATEN.new_ones.default, _ATEN.new_full.default, _ATEN.new_empty.default}
_ATTEMPTS = 100


def fixed_batch(program: Any) -> int | None:
    """The number of images that a program of one input takes; None where any number is allowed."""
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shape = inputs[0].meta["val"].shape if len(inputs) == 1 and isinstance(inputs[0].meta["val"], Tensor) else ()
    return shape[0] if shape and type(shape[0]) is int else None


def free_batch(program: Any) -> None:
    """Change the graph of a decomposed program of a fixed batch so that it computes any number of images.

    A size of one can stand for one image or for nothing at all. Then the likelier meaning is tried first, and the other
    one where the sizes of a later call do not fit. A graph for which nothing fits stays as it is.
    """
    batch = fixed_batch(program)
    if batch is None:
        return
    graph: fx.Graph = program.graph
    written = {node: node.args for node in graph.nodes}
    image = next(node for node in graph.nodes if node.name in program.graph_signature.user_inputs)
    with graph.inserting_after(image):
        count = graph.call_function(_ATEN.sym_size.int, (image, 0))
    choices: list[int] = []
    for _ in range(_ATTEMPTS):
        attempt = _Attempt(batch=batch, count=count, choices=choices)
        try:
            attempt.run(graph, image)
        # torch's shape functions raise nearly anything for sizes that do not fit.
        except Exception:
            for node, arguments in written.items():
                node.args = arguments
            # The last choice with another option is the one to change: later calls fail soon after a wrong one.
            choices = [*choices, *[0] * (len(attempt.options) - len(choices))]
            while choices and choices[-1] + 1 >= attempt.options[len(choices) - 1]:
                choices.pop()
            if not choices:
                break
            choices[-1] += 1
        else:
            break
    if not count.users:
        graph.erase_node(count)


class _Attempt:
    """One run of a program with twice its images, on tensors without data, which frees the sizes that grow.

    `choices` says, for each call that allows several sizes to grow, which of them does; the first of the rest.
    `options` collects their numbers.
    """

    def __init__(self, *, batch: int, count: fx.Node, choices: Sequence[int]) -> None:
        self.batch = batch
        self.count = count
        self.choices = choices
        self.options: list[int] = []
        self.values: dict[fx.Node, Any] = {count: 2 * batch}
        # Of a dimension that was merged of several, so many entries come before the batch.
        self.inner: dict[fx.Node, int] = {}

    @torch.no_grad()
    def run(self, graph: fx.Graph, image: fx.Node) -> None:
        with torch.device("meta"):
            for node in graph.nodes:
                if node.op == "placeholder":
                    value = node.meta["val"]
                    shape = (2 * self.batch, *value.shape[1:]) if node is image else getattr(value, "shape", None)
                    self.values[node] = value if shape is None else torch.empty(shape, dtype=value.dtype)
                elif node.op == "call_function" and node is not self.count:
                    self.inner[node] = max((self.inner.get(item, 1) for item in node.all_input_nodes), default=1)
                    self._free(node)
                    arguments, keywords = pytree.tree_map(
                        lambda item: torch.device("meta") if isinstance(item, torch.device) else item,
                        fx.map_arg((node.args, dict(node.kwargs)), self.values.__getitem__),
                    )
                    # Strides may differ from those of the recording, where a view is then a copy.
                    function: Any = _ATEN.reshape.default if node.target in _RESHAPES else node.target
                    self.values[node] = function(*arguments, **keywords)

    def _free(self, node: fx.Node) -> None:
        """Let the sizes in the arguments of `node` grow with the batch where its operand or its result does."""
        target: Any = node.target
        arguments: tuple[Any, ...] = node.args
        if target in _FILLS or target in _NEW_FILLS:
            place = 1 if target in _NEW_FILLS else 0
            sizes = list(arguments[place])
            # One image: a size of one broadcasts, so nothing has to grow.
            if self.batch > 1 and sizes[:1] == [self.batch]:
                node.update_arg(place, [self.count, *sizes[1:]])
        elif target in _RESHAPES or target in _COPIES:
            before, now = arguments[0].meta["val"].shape, self.values[arguments[0]].shape
            grown = next((i for i, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1]), None)
            if target in _COPIES and grown is None and arguments[1][0] == self.batch:
                # A class token or a position: one for all images, copied for each of them.
                node.update_arg(1, [self.count, *arguments[1][1:]])
            elif target is _ATEN.expand.default and grown is not None:
                sizes = list(arguments[1])
                sizes[len(sizes) - len(before) + grown] = -1
                node.update_arg(1, sizes)
            elif target in _RESHAPES and grown is not None:
                sizes = list(node.meta["val"].shape)
                place = self._choice(sizes, math.prod(before[:grown]) * self.inner[node])
                self.inner[node] = math.prod(before[:grown]) * self.inner[node] // math.prod(sizes[:place])
                node.update_arg(1, [-1 if index == place else size for index, size in enumerate(sizes)])

    def _choice(self, sizes: Sequence[int], leading: int) -> int:
        """The dimension of the result of a reshape that grows: before the batch there are `leading` entries."""
        before = [math.prod(sizes[:place]) for place in range(len(sizes) + 1)]
        exact = [i for i, size in enumerate(sizes) if before[i] == leading and size % self.batch == 0]
        merged = [i for i in range(len(sizes)) if before[i] < leading <= before[i + 1]]
        options = [*sorted(exact, key=lambda place: sizes[place] != self.batch), *merged]
        if len(options) == 1:
            return options[0]
        self.options.append(len(options))
        number = len(self.options) - 1
        return options[self.choices[number] if number < len(self.choices) else 0]


def agrees(graph: Graph, program: Any, batch: int) -> bool:
    """Whether `graph` gives for twice the images what the program gives for each half, on random images."""
    value = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs).meta["val"]
    images = torch.rand((2 * batch, *value.shape[1:]), generator=torch.Generator().manual_seed(0)).to(value.dtype)
    with torch.no_grad():
        module = program.module()
        halves = [pytree.tree_leaves(module(half)) for half in images.split(batch)]
        found = pytree.tree_leaves(graph(images))
    expected = [torch.cat(pair) for pair in zip(*halves, strict=True)]
    return len(found) == len(expected) and all(map(_is_close, found, expected))


def _is_close(found: Tensor, expected: Tensor) -> bool:
    # Between the rounding of one operation and what mixing of images would change.
    tolerance = torch.finfo(expected.dtype).eps ** 0.75 if expected.is_floating_point() else 0.0
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return found.shape == expected.shape and torch.allclose(
        found, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True
    )


class FixedBatch(nn.Module):
    """A program of a fixed number of images, run batch by batch; the last batch is filled up with zeros."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        batch = fixed_batch(program)
        if batch is None:
            raise InputError("expected a program that was exported for a fixed number of images")
        self.program = program.module()
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """(images, channels, H, W) to the program's output for each image."""
        if not isinstance(x, Tensor) or isinstance(x, fx.Proxy) or x.is_meta:
            raise InputError(
                f"the exported program computes batches of {self.batch} only; export it for any number of images, with"
                f" two or more in x: {EXPORT_LINE}"
            )
        parts = list(x.split(self.batch))
        missing = self.batch - len(parts[-1])
        parts[-1] = torch.cat([parts[-1], parts[-1].new_zeros((missing, *x.shape[1:]))])
        return torch.cat([self.program(part) for part in parts])[: len(x)]

    def train(self, mode: bool = True) -> FixedBatch:
        """Set the mode of this module alone: an exported program has none."""
        self.training = mode
        return self
