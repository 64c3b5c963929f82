"""Loading of model files: any kind of file becomes a module in eval mode, with its input shape and its classes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgery.errors import InputError, ModelFileError
from surgery.graph.safetensors_file import read_entry, read_tensors
from surgery.models.blueprint import Blueprint, fitting_architecture
from surgery.models.checkpoint import FORMAT, Checkpoint, checkpoint_from
from surgery.models.exported import load_exported
from surgery.models.normalization import normalization_in, parse_normalization, without_normalization
from surgery.models.pickles import load_torch_file
from surgery.models.recognize import Kind, model_file, read_model_file
from surgery.models.registry import user_reference
from surgery.models.sources import users_classes
from surgery.models.weights import (
    State,
    classes_in_file,
    compare,
    describe_state,
    find_state,
    load_weights,
    match_names,
    require_finite,
)
from surgery.plugins import is_reference

GRAPH_FORMAT = "surgery-graph"


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
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    factory: str | None = None,
    weights: str | None = None,
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
        trust_pickle=trust_pickle,
    )
    return opened.module


def open_model(
    path: str | Path | None,
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    factory: str | None = None,
    weights: str | None = None,
    trust_pickle: bool = False,
) -> LoadedModel:
    """Open a surgery checkpoint or graph, a state dict, or a torch.export archive, recognized by their content.

    A state dict needs `architecture` (a name that `build` knows) or `factory` ("package.module:callable" or
    "file.py:callable"), either with keyword `arguments`; the number of classes and a normalization are taken from the
    file unless given. `path=None` makes the network with random weights, or with the published `weights` of torchvision
    or timm, which are downloaded (see `build_published`). Nothing in a file is run, unless `trust_pickle`: that is for
    files of torch.save(model), whose classes are searched for in the current folder and next to `factory`. A checkpoint
    of a user's architecture `package.module:name` needs the same `architecture` as an argument, because a file must not
    choose the code that is imported.

    Raises ModelFileError for a file that is missing, damaged, foreign, unsafe or not finite, or that does not fit the
    network, and InputError for a wrong argument.
    """
    blueprint = Blueprint(architecture=architecture, factory=factory, weights=weights, arguments=arguments or {})
    if path is not None and weights is not None:
        raise InputError(f"{path} and published weights {weights!r} were given: expected one of them", hint="omit one")
    shape = _checked_shape(input_shape)
    if path is None:
        module, source = blueprint.make(), f"{blueprint.name} as it was made, without a file"
        opened = LoadedModel(module=module, source=source, input_shape=blueprint.input_shape)
    else:
        opened = _open_file(model_file(path), blueprint, trust_pickle=trust_pickle)
    require_finite(path or str(blueprint.name), opened.module.state_dict())
    opened.module.eval()
    if opened.class_names is not None:
        # `trace` takes them over from the module, so that graphs, W and C know the names without their being passed on.
        opened.module.class_names = opened.class_names  # pyright: ignore[reportAttributeAccessIssue]  # any attribute
    # Networks with position embeddings keep the size that they were built for; it need not be the architecture's.
    size = getattr(opened.module, "image_size", None)
    own = (3, size, size) if isinstance(size, int) else None
    return replace(opened, input_shape=shape or own or opened.input_shape)


def _open_file(path: Path, blueprint: Blueprint, *, trust_pickle: bool) -> LoadedModel:
    kind, content = read_model_file(path)
    if kind is Kind.EXPORTED:
        from surgery.graph import from_exported

        _refuse_blueprint(path, blueprint, "an exported program")
        graph = from_exported(load_exported(path, content))
        return LoadedModel(module=graph, source="exported program (torch.export)", input_shape=graph.input_shape)
    if kind is Kind.SAFETENSORS:
        return _open_safetensors(path, content, blueprint)
    with users_classes(blueprint.factory) if trust_pickle else nullcontext():
        value = load_torch_file(path, content, trust_pickle=trust_pickle)
    module = value.get("model", value.get("net")) if isinstance(value, Mapping) else value
    if isinstance(module, nn.Module):
        # A factory is allowed: its module has the class of the pickle. It is not called, so it takes no arguments.
        _refuse_blueprint(path, replace(blueprint, factory=None), "a whole module")
        return LoadedModel(module=module, source=f"pickled module {type(module).__name__}, run because it was trusted")
    if isinstance(value, Mapping) and value.keys() >= {"architecture", "arguments", "state_dict"}:
        checkpoint = checkpoint_from(path, value, find_state(path, value["state_dict"]))
        return _open_checkpoint(path, checkpoint, blueprint)
    return _open_state(path, find_state(path, value), blueprint)


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
    return _open_state(path, find_state(path, state), blueprint)


def _open_checkpoint(path: Path, checkpoint: Checkpoint, blueprint: Blueprint) -> LoadedModel:
    """Build the checkpoint's network; the user may add arguments or a factory, but not give another architecture."""
    name = checkpoint.architecture
    if blueprint.architecture not in (None, name):
        raise ModelFileError(
            f"{path}: a checkpoint of {name}, not of {blueprint.architecture}",
            hint="omit the architecture: the checkpoint names it",
        )
    # Importing is running code. A file can name any module of this machine, so only the user may choose one.
    if blueprint.name is None and is_reference(name) and user_reference(name) is not None:
        raise ModelFileError(
            f"{path}: its architecture is {name}, code that surgery does not import because a file names it",
            hint=f"to import and run it, give it yourself: --arch {name} (architecture={name!r})",
        )
    if blueprint.factory is None:
        blueprint = Blueprint(architecture=name, arguments={**checkpoint.arguments, **blueprint.arguments})
    try:
        module, note = _assemble(path, checkpoint.state, blueprint)
    except ModelFileError:
        raise
    except InputError as error:
        raise ModelFileError(f"{path}: {error.message}", hint=error.hint) from error
    return LoadedModel(
        module=module,
        source=f"surgery checkpoint {blueprint.name}{note}",
        input_shape=checkpoint.input_shape or blueprint.input_shape,
        class_names=checkpoint.class_names,
    )


def _open_state(path: Path, state: State, blueprint: Blueprint) -> LoadedModel:
    if blueprint.name is None:
        fits = fitting_architecture(state)
        raise ModelFileError(
            f"{path}: a plain state dict does not name its network; it holds {describe_state(state)}",
            hint=_names_of(fits)
            or "give the architecture (--arch NAME) or a factory (--model package.module:callable)",
        )
    module, note = _assemble(path, state, blueprint)
    return LoadedModel(module=module, source=f"state dict of {blueprint.name}{note}", input_shape=blueprint.input_shape)


def _assemble(path: Path, state: State, blueprint: Blueprint) -> tuple[nn.Module, str]:
    """Make the network and load `state` into it; returns also a note of the settings inferred from the file.

    torch's generator stays as it was: the initial weights, which are overwritten, are drawn from a copy.
    """
    with torch.random.fork_rng(devices=[]):
        blueprint, note = _with_normalization(path, state, blueprint)
        module = blueprint.make()
        part = _part_in_file(module, state)
        state = match_names(state, part.state_dict())
        classes = classes_in_file(compare(part, state))
        if classes and blueprint.takes("num_classes") and "num_classes" not in blueprint.arguments:
            module = blueprint.with_argument("num_classes", classes).make()
            part, note = _part_in_file(module, state), f"{note}, {classes} classes as in the file"
    try:
        load_weights(path, part, state, str(blueprint.name))
    except ModelFileError as error:
        raise ModelFileError(error.message, hint=_advice(part, state, blueprint)) from error
    return module, note


def _with_normalization(path: Path, state: State, blueprint: Blueprint) -> tuple[Blueprint, str]:
    """Take the normalization from the file unless it was given; raises ModelFileError where the two disagree."""
    found = normalization_in(state)
    if found is None or blueprint.architecture is None:
        return blueprint, ""
    given = blueprint.arguments.get("normalize")
    if given is None:
        return blueprint.with_argument("normalize", found.as_argument()), ", normalization as in the file"
    if not found.agrees(parse_normalization(given, channels=None)):
        raise ModelFileError(
            f"{path}: its network normalizes with {found.as_argument()}, got {given}",
            hint="omit normalize: the file has it",
        )
    return blueprint, ""


def _part_in_file(module: nn.Module, state: State) -> nn.Module:
    """The part of `module` that `state` belongs to: most checkpoints hold the network without a normalization."""
    return module if normalization_in(state) else without_normalization(module)


def _advice(module: nn.Module, state: State, blueprint: Blueprint) -> str | None:
    """A hint for a `state` that does not fit: another architecture, or other arguments for this one."""
    misfit = compare(module, state)
    if misfit.missing or misfit.unexpected:
        return _names_of(fitting_architecture(state, blueprint.architecture))
    classes = classes_in_file(misfit)
    if classes:
        return f"the file's network has {classes} classes: num_classes={classes}"
    return "the names fit but the sizes do not: give the network's arguments, such as its width and stem"


def _names_of(architecture: str | None) -> str | None:
    if architecture is None:
        return None
    return f"its names are those of {architecture}: --arch {architecture} (architecture={architecture!r})"


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
