"""From a state dict and the name of an architecture to the network with those weights."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from surgery.errors import ModelFileError
from surgery.models.blueprint import Blueprint, fitting_architecture
from surgery.models.bounds import Bounds
from surgery.models.normalization import normalization_in, parse_normalization, without_normalization
from surgery.models.weights import State, classes_in_file, compare, load_weights, match_names


def assemble(path: Path, state: State, blueprint: Blueprint) -> tuple[nn.Module, str]:
    """Make the network and load `state` into it; returns also a note of the settings inferred from the file.

    Arguments may come from the file too, and could ask for any size. So the network is built without memory first,
    where it can be, and only once all weights fit, with values. torch's generator stays as it was: the initial weights,
    which are overwritten, are drawn from a copy.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    bounds = nullcontext() if blueprint.is_users else Bounds(path, tensors=len(state), size=size)
    with torch.random.fork_rng(devices=[]), bounds:
        blueprint, note = _with_normalization(path, state, blueprint)
        # A user's code is called as seldom as possible; everything else has a sketch, unless it needs values.
        module = blueprint.sketch() or blueprint.make()
        state = match_names(state, _part_in_file(module, state).state_dict())
        classes = classes_in_file(compare(_part_in_file(module, state), state))
        if classes and blueprint.takes("num_classes") and "num_classes" not in blueprint.arguments:
            blueprint = blueprint.with_argument("num_classes", classes)
            note = f"{note}, {classes} classes as in the file"
            module = blueprint.sketch() or blueprint.make()
        try:
            if any(tensor.is_meta for tensor in module.state_dict().values()):
                shapes = {name: tensor.to("meta") for name, tensor in state.items()}
                with torch.device("meta"):  # batch norm makes the counters that old files lack
                    load_weights(path, _part_in_file(module, state), shapes, str(blueprint.name))
                module = blueprint.make()
            load_weights(path, _part_in_file(module, state), state, str(blueprint.name))
        except ModelFileError as error:
            raise ModelFileError(error.message, hint=_advice(module, state, blueprint)) from error
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
        return names_of(fitting_architecture(state, blueprint.architecture))
    classes = classes_in_file(misfit)
    if classes:
        return f"the file's network has {classes} classes: give `num_classes={classes}`"
    return "the names fit but the sizes do not: give the network's arguments, such as its width and stem"


def names_of(architecture: str | None) -> str | None:
    if architecture is None:
        return None
    return f"its names are those of {architecture}: give `architecture={architecture}`"
