"""How to make the module that a file's weights go into: an architecture by name, or a factory of the user's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgery.errors import InputError, suggest
from surgery.models.architecture import Shape
from surgery.models.registry import ARCHITECTURES, build, default_input_shape
from surgery.models.weights import State, compare, match_names


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """An architecture's name or a factory as "package.module:callable", and the keyword arguments for it."""

    architecture: str | None = None
    factory: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture is not None and self.factory is not None:
            raise InputError("an architecture and a factory were given: the network can come from one only")

    @property
    def name(self) -> str | None:
        """What the network is called in messages; None when the user said nothing of it."""
        return self.architecture or self.factory

    @property
    def input_shape(self) -> Shape | None:
        """The (C, H, W) that the architecture with its arguments is meant for."""
        return None if self.architecture is None else default_input_shape(self.architecture, self.arguments)

    def make(self) -> nn.Module:
        """Make the module, with weights drawn from torch's global generator; raises InputError."""
        if self.factory is not None:
            return _call_factory(self.factory, self.arguments)
        if self.architecture is not None:
            return build(self.architecture, **self.arguments)
        raise InputError(
            "nothing says which network to make",
            hint="give an architecture (--arch NAME) or a factory (--model package.module:callable)",
        )

    def with_argument(self, name: str, value: Any) -> Blueprint:
        """The same with another value of one argument."""
        return replace(self, arguments={**self.arguments, name: value})


def fitting_architecture(state: State, like: str | None = None) -> str | None:
    """Name an architecture whose parameter names are those of `state`, preferring one whose shapes are too.

    Tried are surgery's own and, from torchvision and timm, those of the same short names or the short name of `like`.
    """
    short = [like.rpartition(":")[2]] if like else list(ARCHITECTURES)
    names = [*ARCHITECTURES, *(f"torchvision:{name}" for name in short), *(f"timm:{name}" for name in short if like)]
    found = [(misfits, name) for name in names if (misfits := _misfits(name, state)) is not None]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _misfits(name: str, state: State) -> int | None:
    """How many shapes differ between `name` and `state`; None where the names do."""
    try:
        # Shapes without memory or random numbers. A constructor that needs values fails here, and is no candidate.
        with torch.device("meta"):
            module = build(name)
    except InputError:
        return None
    misfit = compare(module, match_names(state, module.state_dict()))
    return None if misfit.missing or misfit.unexpected else len(misfit.shapes)


def _call_factory(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Import `package.module`, from the current folder too, and call what it calls `callable`."""
    with _current_folder_importable():
        function = _import_factory(factory)
        try:
            module = function(**arguments)
        # It is the user's code: whatever it raises, the message says whose it is and the cause stays attached.
        except Exception as error:
            raise InputError(f"{factory}: calling it raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{factory}: returned a {type(module).__name__}, expected a torch.nn.Module")
    return module


def _import_factory(factory: str) -> Callable[..., Any]:
    module_name, colon, name = factory.partition(":")
    if not (module_name and colon and name):
        raise InputError(f"{factory!r} is not a factory", hint="write package.module:callable, as in nets.small:make")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code as well
        raise InputError(
            f"{factory}: importing {module_name} raised {type(error).__name__}: {error}",
            hint=f"modules are looked for in {Path.cwd()} and on Python's path",
        ) from error
    function = getattr(module, name, None)
    if function is None:
        raise InputError(f"{factory}: {module_name} has no {name}", hint=suggest(name, vars(module)))
    if isinstance(function, nn.Module) or not callable(function):
        raise InputError(f"{factory}: {name} is a {type(function).__name__}, expected a function that returns a module")
    return function


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """As `python -m` does: a network written in a file beside the weights is found without installing it."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have changed the path itself
            sys.path.remove(folder)
