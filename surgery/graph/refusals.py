"""The refusals of `trace`: what keeps a model from being traced, where, and what to do."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import nn

from surgery.errors import TraceError
from surgery.graph.builder import Place
from surgery.graph.comparison import (
    DisagreementError,
    Sample,
    change_between_passes,
    device_of,
    is_repeatable,
    run,
)
from surgery.graph.normalizer import NodeError
from surgery.graph.recorder import NOT_THE_USERS


def check_signature(model: nn.Module) -> None:
    """Raise TraceError for a model whose forward needs several inputs."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    required = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if len(required) > 1:
        raise TraceError(
            f"{type(model).__name__}.forward takes {len(required)} inputs ({', '.join(required)}); one is expected",
            hint="wrap the model in a module whose forward takes the images alone and supplies the rest",
        )


def check_passes(name: str, copied: Callable[[], nn.Module], expected: Sample) -> None:
    """Refuse a model whose output depends on earlier forward passes; warn of one that draws random numbers."""
    change = change_between_passes(copied, expected)
    if change == "random numbers":
        message = (
            f"{name} draws random numbers in evaluation mode: two forward passes on the same images differ. The graph"
            " draws them too; what is computed from it differs from run to run"
        )
        warnings.warn(message, stacklevel=4)
    elif change is not None:
        raise TraceError(
            f"{name} gives other outputs for the same images in its second forward pass, first in {change}: they depend"
            " on something that a forward pass changes, such as a counter, and a graph is a function of its input",
            hint="let the forward pass change such a value in training mode only",
        )


def located(error: Exception) -> NodeError:
    """The error with its place: the innermost module, and the innermost line of the model's own code."""
    if isinstance(error, NodeError):
        return error
    if isinstance(error, DisagreementError):
        return NodeError(error.place, error)
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(frame.f_code.co_filename, line) for frame, line in frames]
    file, line = next((item for item in reversed(own) if not item[0].startswith(NOT_THE_USERS)), (None, None))
    # A model of torch's modules alone has no line of its own, but its modules are on the stack.
    running = [frame.f_locals.get("self") for frame, _ in frames]
    modules = [module for module in running if isinstance(module, nn.Module)]
    paths = {module: path for path, module in modules[0].named_modules()} if modules else {}
    return NodeError(Place(module_path=paths.get(modules[-1], "") if modules else "", file=file, line=line), error)


def untraceable(
    model: nn.Module, example: torch.Tensor, failures: Mapping[str, NodeError], expected: Sample | None
) -> TraceError:
    """The error for a model that no rung could trace: it refuses the example, is random, or why each rung failed."""
    name = type(model).__name__
    # A model that refuses the example itself is not a problem of tracing, whatever the rungs said.
    try:
        run(model, torch.zeros(example.shape, dtype=example.dtype, device=device_of(model, example)))
    except Exception as error:
        refusal = located(error)
        return TraceError(
            f"{name} refuses an input of shape {tuple(example.shape)} at {refusal.place}: {first_line(refusal.reason)}",
            hint="check that the input shape is the one for which the model was made",
        )
    differs = any(isinstance(failure.reason, DisagreementError) for failure in failures.values())
    if differs and expected is not None and not is_repeatable(model, expected):
        return TraceError(
            f"{name} is random in evaluation mode: two runs on the same images differ, so no graph can be checked",
            hint="draw random numbers in training mode only",
        )
    lines = [f"  {rung}: {failure.place}: {first_line(failure.reason)}" for rung, failure in failures.items()]
    return TraceError(
        "\n".join([f"{name} cannot be traced. The three ways of tracing, and why each failed:", *lines]),
        hint="make the named line independent of the values and the number of images, or replace that module by one of"
        " torch.nn; a model that torch.export accepts can be given as a .pt2 file",
    )


def first_line(reason: Exception) -> str:
    text = str(reason).strip() or type(reason).__name__
    return text.splitlines()[0]
