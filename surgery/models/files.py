"""Loading of model files: any kind of file becomes a module in eval mode, with its input shape and its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgery.errors import InputError, ModelFileError, TraceError, printable
from surgery.graph.safetensors_file import read_entry, read_tensors
from surgery.models.assembling import assemble, names_of
from surgery.models.blueprint import Blueprint, fitting_architecture
from surgery.models.checkpoint import FORMAT, Checkpoint, checkpoint_from
from surgery.models.exported import load_exported
from surgery.models.pickles import load_torch_file
from surgery.models.recognize import Kind, model_file, read_model_file
from surgery.models.registry import user_reference
from surgery.models.sources import users_classes
from surgery.models.weights import State, describe_state, entry_called, find_state, require_finite
from surgery.plugins import is_reference
from surgery.torch_state import torch_state

GRAPH_FORMAT = "surgery-graph"
_CHECKPOINT = {"architecture", "arguments", "state_dict"}
"""The entries of a dict of torch.save that is read like a surgery checkpoint."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A module in eval mode, its source in words, and, where known, the (C, H, W) of its input and its class names."""

    module: nn.Module
    source: str
    input_shape: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None


def load_model(
    path: str | Path | None,
    *,
    architecture: str | Callable[..., nn.Module] | None = None,
    arguments: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    factory: str | Callable[..., nn.Module] | None = None,
    weights: str | None = None,
    key: str | None = None,
    trust_pickle: bool = False,
) -> nn.Module:
    """Return the module of `open_model`, with the same arguments, in eval mode."""
    opened = open_model(
        path,
        architecture=architecture,
        arguments=arguments,
        input_shape=input_shape,
        factory=factory,
        weights=weights,
        key=key,
        trust_pickle=trust_pickle,
    )
    return opened.module


@torch_state(gradients=True)
def open_model(
    path: str | Path | None,
    *,
    architecture: str | Callable[..., nn.Module] | None = None,
    arguments: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    factory: str | Callable[..., nn.Module] | None = None,
    weights: str | None = None,
    key: str | None = None,
    trust_pickle: bool = False,
) -> LoadedModel:
    """Open a surgery checkpoint or graph, a state dict, or a torch.export archive, recognized by their content.

    A state dict needs `architecture` (a name that `build` knows, a class or a function) or `factory`
    ("package.module:callable" or "file.py:callable"), either with keyword `arguments`; the number of classes and a
    normalization are taken from the file unless given. `path=None` makes the network with random weights, or with the
    published `weights` of torchvision or timm, which are downloaded (see `build_published`). If a file has several sets
    of weights, such as `{"model": ..., "model_ema": ...}`, `key` names the entry to read; without it the usual names
    are tried, and `source` says which entry was read.

    Nothing in a file is run, unless `trust_pickle`: that is for files of torch.save(model), whose classes are searched
    for in the current folder and next to `factory`. A checkpoint of a user's architecture `package.module:name` needs
    the same `architecture` as an argument, because a file must not choose the code that is imported.

    Raises ModelFileError for a file that is missing, damaged, foreign, unsafe or not finite, or that does not fit the
    network, and InputError for a wrong argument.
    """
    blueprint = _blueprint(architecture, factory, weights, arguments or {})
    if path is not None and weights is not None:
        raise InputError(f"{path} and published weights {weights!r} were given: expected one of them", hint="omit one")
    shape = _checked_shape(input_shape)
    if path is None and key is not None:
        raise InputError(f"an entry {key!r} without a file to read it from", hint="omit `key`, or give a file")
    if path is None:
        module, source = blueprint.make(), f"{blueprint.name} as it was made, without a file"
        opened = LoadedModel(module=module, source=source, input_shape=blueprint.input_shape)
    else:
        opened = _open_file(model_file(path), blueprint, key, trust_pickle=trust_pickle)
    require_finite(path or str(blueprint.name), opened.module.state_dict())
    opened.module.eval()
    if opened.class_names is not None:
        # `trace` takes them over from the module, so that graphs, W and C know the names without their being passed on.
        opened.module.class_names = opened.class_names  # pyright: ignore[reportArgumentType]  # any attribute
    # Networks with position embeddings keep the size that they were built for; it need not be the architecture's.
    size = getattr(opened.module, "image_size", None)
    own = (3, size, size) if isinstance(size, int) else None
    return replace(opened, input_shape=shape or own or opened.input_shape)


def _blueprint(
    architecture: str | Callable[..., nn.Module] | None,
    factory: str | Callable[..., nn.Module] | None,
    weights: str | None,
    arguments: Mapping[str, Any],
) -> Blueprint:
    """The blueprint; a class or function as the architecture is a factory. Raises InputError for anything else."""
    for name, value in (("architecture", architecture), ("factory", factory)):
        if isinstance(value, nn.Module) or not (value is None or isinstance(value, str) or callable(value)):
            raise InputError(
                f"{name}: expected a name, a class or a function that makes the network, got {type(value).__name__}",
                hint=f"pass the class and its arguments, as in architecture={type(value).__name__}, arguments={{...}}",
            )
    if architecture is not None and not isinstance(architecture, str):
        if factory is not None:
            raise InputError("an architecture and a factory were given: expected one only")
        architecture, factory = None, architecture
    return Blueprint(architecture=architecture, factory=factory, weights=weights, arguments=arguments)


def _open_file(path: Path, blueprint: Blueprint, key: str | None, *, trust_pickle: bool) -> LoadedModel:
    kind, content = read_model_file(path)
    if key is not None and kind not in (Kind.TORCH_ZIP, Kind.TORCH_LEGACY):
        raise InputError(f"{path}: the file holds one network, no entry {key!r}", hint="omit `key`")
    if kind is Kind.EXPORTED:
        _refuse_blueprint(path, blueprint, "an exported program")
        return _open_exported(path, content)
    if kind is Kind.SAFETENSORS:
        return _open_safetensors(path, content, blueprint)
    classes_from = blueprint.factory if isinstance(blueprint.factory, str) else None
    with users_classes(classes_from) if trust_pickle else nullcontext():
        value = load_torch_file(path, content, trust_pickle=trust_pickle)
    is_checkpoint = key is None and isinstance(value, Mapping) and value.keys() >= _CHECKPOINT
    chosen = value if key is None else entry_called(path, value, key)
    entry = "" if key is None else f", entry {key!r}"
    module = chosen.get("model", chosen.get("net")) if isinstance(chosen, Mapping) else chosen
    if isinstance(module, nn.Module):
        # A factory was of use: it says where the classes of the file are defined.
        _refuse_blueprint(path, replace(blueprint, factory=None), "a whole module")
        name = type(module).__name__
        return LoadedModel(module=module, source=f"pickled module {name}{entry}, run because it was trusted")
    state, note = find_state(path, chosen["state_dict"] if is_checkpoint else chosen)
    if is_checkpoint:
        return _open_checkpoint(path, checkpoint_from(path, chosen, state), blueprint)
    return _open_state(path, state, blueprint, entry + note)


def _open_exported(path: Path, content: bytes) -> LoadedModel:
    """Open a program as a graph; a fixed number of images becomes free, or the program is run batch by batch."""
    from surgery.graph import from_exported
    from surgery.graph.batches import EXPORT_LINE, FixedBatch, agrees, fixed_batch
    from surgery.graph.saving import check_cost

    program = load_exported(path, content)
    batch = fixed_batch(program)
    source = "exported program (torch.export)"
    try:
        graph = from_exported(program)
        check_cost(path, graph)
        if batch is None or agrees(graph, program, batch):
            free = "" if batch is None else f", exported for batches of {batch}; the graph takes any number of images"
            return LoadedModel(module=graph, source=source + free, input_shape=graph.input_shape)
    except TraceError:
        if batch is None:
            raise
    # The sizes and types in a damaged program make torch raise nearly anything.
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise ModelFileError(f"{path}: the exported program cannot be computed: {printable(error)}") from error
    image = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs).meta["val"]
    module = FixedBatch(program)
    try:
        with torch_state(gradients=False):
            module(torch.zeros(image.shape, dtype=image.dtype))
    except Exception as error:
        raise ModelFileError(f"{path}: the exported program cannot be computed: {printable(error)}") from error
    return LoadedModel(
        module=module,
        source=f"{source}, run in batches of {batch}; for any number, and for rules: {EXPORT_LINE}",
        input_shape=tuple(image.shape[1:]),
    )


def _open_safetensors(path: Path, content: bytes, blueprint: Blueprint) -> LoadedModel:
    header = read_entry(path, content)
    if header.get("format") == GRAPH_FORMAT:
        from surgery.graph.saving import graph_from

        _refuse_blueprint(path, blueprint, "a saved graph")
        graph = graph_from(path, content, header)
        return LoadedModel(
            module=graph,
            source="saved surgery graph",
            input_shape=graph.input_shape,
            class_names=graph.class_names,
        )
    state = read_tensors(path, content)
    if header.get("format") == FORMAT:
        return _open_checkpoint(path, checkpoint_from(path, header, state), blueprint)
    return _open_state(path, find_state(path, state)[0], blueprint)


def _open_checkpoint(path: Path, checkpoint: Checkpoint, blueprint: Blueprint) -> LoadedModel:
    """Build the checkpoint's network; the user may add arguments or a factory, but not give another architecture."""
    name = checkpoint.architecture
    if blueprint.architecture not in (None, name):
        raise ModelFileError(
            f"{path}: a checkpoint of {printable(name)}, not of {blueprint.architecture}",
            hint="omit the architecture: the checkpoint names it",
        )
    # Importing is running code. A file can name any module of this machine, so only the user may choose one.
    if blueprint.name is None and is_reference(name) and user_reference(name) is not None:
        raise ModelFileError(
            f"{path}: its architecture is {printable(name)}, code that surgery does not import because a file names it",
            hint=f"to import and run it, give it yourself: `architecture={printable(name)}`",
        )
    if blueprint.factory is None:
        blueprint = Blueprint(architecture=name, arguments={**checkpoint.arguments, **blueprint.arguments})
    try:
        module, note = assemble(path, checkpoint.state, blueprint)
    except ModelFileError:
        raise
    except InputError as error:
        # Names and values of the file are part of the message.
        hint = None if error.hint is None else printable(error.hint, 400)
        raise ModelFileError(f"{path}: {printable(error.message, 400)}", hint=hint) from error
    return LoadedModel(
        module=module,
        source=f"surgery checkpoint {blueprint.name}{note}",
        input_shape=checkpoint.input_shape or blueprint.input_shape,
        class_names=checkpoint.class_names,
    )


def _open_state(path: Path, state: State, blueprint: Blueprint, entry: str = "") -> LoadedModel:
    if blueprint.name is None:
        fits = fitting_architecture(state)
        raise ModelFileError(
            f"{path}: a plain state dict does not name its network; it holds {describe_state(state)}",
            hint=names_of(fits) or "give `architecture=NAME` or `factory=package.module:callable`",
        )
    module, note = assemble(path, state, blueprint)
    source = f"state dict of {blueprint.name}{entry}{note}"
    return LoadedModel(module=module, source=source, input_shape=blueprint.input_shape)


def _refuse_blueprint(path: Path, blueprint: Blueprint, what: str) -> None:
    given = blueprint.name or ", ".join(blueprint.arguments)
    if given:
        raise InputError(f"{path}: {what}, which defines its own computation", hint=f"omit {given}")


def _checked_shape(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    if len(shape) != 3 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise InputError(f"input shape {shape!r}: expected (channels, height, width), as in (3, 224, 224)")
    return tuple(shape)
