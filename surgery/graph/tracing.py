"""`trace` turns a model into a `Graph` in normal form, by the first rung of a ladder of ways that succeeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from surgery.errors import TraceError
from surgery.graph import shapes
from surgery.graph.batches import free_batch
from surgery.graph.builder import Builder
from surgery.graph.comparison import (
    COMPARED,
    DisagreementError,
    Sample,
    check_agreement,
    device_of,
    evaluating_copy,
    sample,
)
from surgery.graph.graph import TENSOR_PATH, Graph, valid_class_names
from surgery.graph.memory import check_memory
from surgery.graph.nodes import attribute
from surgery.graph.normalizer import NodeError, normalize, owned
from surgery.graph.patches import muted, recording
from surgery.graph.recorder import Recorder
from surgery.graph.refusals import check_passes, check_signature, located, untraceable
from surgery.torch_state import torch_state


@torch_state(gradients=True)  # the forward of some modules of torch takes another, fused path without gradients
def trace(model: nn.Module, example: torch.Tensor) -> Graph:
    """Trace `model` in evaluation mode.

    `example` is `(batch, channels, height, width)` or any other shape that starts with the batch; only its shape and
    dtype matter. The ladder: symbolic trace; symbolic trace with values, where the model branches on sizes;
    `torch.export`. Each rung is compared with the model on two random images, and the next one is tried where they
    differ. The graph owns copies of the tensors; the model, its mode and the random state are not changed.

    The graph takes over the names of the classes, if the model has an attribute `class_names`, as the models have that
    `load_model` reads from surgery's checkpoints. A `Graph` is returned as it is.

    A graph is a function of its input. A model that draws random numbers in evaluation mode is traced with a
    UserWarning; a model whose output depends on earlier forward passes, such as a counter, is refused.

    Raises TraceError, naming module path and source line, where no rung accepts the model and gives its outputs, where
    the model does not accept the example, and for a `Graph` of another input shape; InputError where a forward pass
    takes more than the free memory.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise TraceError(
            "TorchScript modules cannot be traced: their forward pass is compiled, not Python",
            hint="give the Python module from which it was scripted",
        )
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"expected a model (torch.nn.Module), got {type(model).__name__}",
            hint="open a model file first: surgery.load_model(path)" if isinstance(model, (str, Path)) else None,
        )
    if not isinstance(example, torch.Tensor):
        raise TraceError(f"expected an example such as torch.zeros(1, 3, 32, 32), got {type(example).__name__}")
    if example.dim() < 2:
        raise TraceError(
            f"the example has shape {tuple(example.shape)}; expected a batch, as in (1, channels, height, width)"
        )
    if isinstance(model, Graph):
        # A graph is its own trace, for the shape of input that its sizes were computed for.
        if tuple(example.shape[1:]) != tuple(model.input_shape):
            raise TraceError(
                f"the graph of {model.model_name} takes inputs of shape {_batched(model.input_shape)};"
                f" the example has {_batched(example.shape[1:])}",
                hint="give an example of the graph's shape, or trace the model again with this one",
            )
        return model
    check_signature(model)
    device, copied = device_of(model, example), partial(evaluating_copy, model, share=False)
    expected: Sample | None = None
    failures: dict[str, NodeError] = {}
    for rung, climb in RUNGS.items():
        try:
            with torch.random.fork_rng(devices=[]), recording():
                builder = climb(evaluating_copy(model, share=True), example, device)
        except Exception as error:
            failures[rung] = located(error)
            continue
        graph = _graph(builder, rung, type(model).__name__)
        graph.class_names = valid_class_names(getattr(model, "class_names", None))
        # Until here nothing had values; the comparison is the first forward pass.
        check_memory(graph, COMPARED, device=device)
        try:
            expected = expected or sample(copied, (COMPARED, *example.shape[1:]), example.dtype, device)
            if expected is not None:
                check_agreement(graph, copied, expected)
        except Exception as error:
            failures[rung] = located(error)
        else:
            if expected is not None:
                check_passes(type(model).__name__, copied, expected)
            return graph
    raise untraceable(model, example, failures, expected)


def _batched(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, ('N', *shape)))})"


@torch_state(gradients=True)
def from_exported(program: Any, *, model_name: str = "ExportedProgram") -> Graph:
    """Bring a `torch.export.ExportedProgram` of one input into normal form.

    The graph is compared with the program on random images, two of them or as many as the program takes.

    Raises TraceError where the program has several inputs, cannot be read, or computes something else than the graph,
    and where its outputs depend on earlier forward passes; InputError where a forward pass takes more than the free
    memory.
    """

    def copied() -> nn.Module:
        return copy.deepcopy(program.module())  # with tensors of its own, as a program may write into its buffers

    with recording(), muted():
        try:
            builder = _read_exported(program)
            graph = _graph(builder, "export", model_name)
            device = next((tensor.device for tensor in graph.tensors().values()), torch.device("cpu"))
            value = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs).meta[
                "val"
            ]
            batch = value.shape[0] if isinstance(value.shape[0], int) else COMPARED
            check_memory(graph, batch, device=device)
            expected = sample(copied, (batch, *graph.input_shape), value.dtype, device)
            if expected is not None:
                check_agreement(graph, copied, expected)
        except NodeError as error:
            raise TraceError(f"the exported program cannot be read at {error.place}: {error.reason}") from error
        except DisagreementError as error:
            raise TraceError(f"the exported program cannot be read at {error.place}: {error}") from error
    if expected is not None:
        check_passes("the exported program", copied, expected)
    return graph


def _record(subject: nn.Module, example: torch.Tensor, device: torch.device, *, values: bool) -> Builder:
    input_twins = shapes.of_input(tuple(example.shape[1:]), example.dtype)
    recorder = Recorder(values=values, input_twins=input_twins, device=device)
    traced = recorder.trace(subject)
    images = next(node for node in traced.nodes if node.op == "placeholder")

    def feed(builder: Builder, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return builder.parameter(str(node.target), attribute(subject, str(node.target)))
        if node is not images:
            return node.args[0] if node.args else None  # an optional argument of forward keeps its default
        return builder.input(node.name, tuple(example.shape[1:]), example.dtype)

    return normalize(traced, feed)


def _export(subject: nn.Module, example: torch.Tensor, device: torch.device) -> Builder:
    # Without values: torch.export reads the shape only, and memory that is never written takes no room.
    batch = torch.empty((shapes.BATCHES[0], *example.shape[1:]), dtype=example.dtype, device=device)
    with muted():
        program = torch.export.export(subject, (batch,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)
    return _read_exported(program)


def _read_exported(program: Any) -> Builder:
    functional = program.run_decompositions({})
    free_batch(functional)
    signature = functional.graph_signature
    tensors = {**functional.state_dict, **functional.constants}
    lifted: Mapping[str, str] = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    if len(signature.user_inputs) != 1:
        raise TraceError(f"the exported program takes {len(signature.user_inputs)} inputs; one is expected")

    def feed(builder: Builder, node: fx.Node) -> Any:
        if node.name in lifted:
            return builder.parameter(lifted[node.name], tensors[lifted[node.name]])
        value = node.meta["val"]
        return builder.input(node.name, tuple(int(size) for size in value.shape[1:]), value.dtype)

    # An exported program also returns the buffers that it updates; the graph returns results only.
    output = next(node for node in functional.graph.nodes if node.op == "output")
    wanted = set(signature.user_outputs)
    kept = [item for item in output.args[0] if not isinstance(item, fx.Node) or item.name in wanted]
    output.args = (kept[0] if len(kept) == 1 else tuple(kept),)
    return normalize(functional.graph, feed)


RUNGS: Mapping[str, Callable[[nn.Module, torch.Tensor, torch.device], Builder]] = {
    "symbolic": partial(_record, values=False),
    "symbolic-with-values": partial(_record, values=True),
    "export": _export,
}


def _graph(builder: Builder, rung: str, model_name: str) -> Graph:
    unusable = next((path for path in builder.tensors if not TENSOR_PATH.fullmatch(path)), None)
    if unusable is not None:
        raise TraceError(f"the tensor {unusable!r} cannot be read by generated code; rename the module or attribute")
    source = next(node for node in builder.graph.nodes if node.op == "placeholder")
    return Graph(
        owned(builder.tensors, builder.graph),
        builder.graph,
        input_shape=tuple(source.meta["shape"][1:]),
        rung=rung,
        model_name=model_name,
    )
