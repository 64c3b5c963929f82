"""How to make the network that the weights of a file belong to: an architecture by name, or a user's factory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from surgery.errors import InputError, ModelFileError
from surgery.models.registry import ARCHITECTURES, build, build_published, default_input_shape, find, user_reference
from surgery.models.sources import Shape, call_user, from_user
from surgery.models.weights import State, compare, match_names
from surgery.plugins import check_arguments, signature_of


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """An architecture's name or a factory, and the keyword arguments for it.

    A factory, as "package.module:callable" or the callable itself, is called with its arguments and nothing else:
    number of classes and normalization are left to it.
    `weights` names published weights of torchvision or timm.
    """

    architecture: str | None = None
    factory: str | Callable[..., nn.Module] | None = None
    weights: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture is not None and self.factory is not None:
            raise InputError("an architecture and a factory were given: expected one only")
        if self.weights is not None and self.architecture is None:
            raise InputError("published weights need an architecture", hint="as in `architecture=torchvision:resnet18`")

    @property
    def name(self) -> str | None:
        """The name of the network in messages; None where the user gave none."""
        if self.factory is None or isinstance(self.factory, str):
            return self.architecture or self.factory
        return getattr(self.factory, "__qualname__", repr(self.factory))

    @property
    def input_shape(self) -> Shape | None:
        """The (C, H, W) for which the architecture with its arguments is made."""
        return None if self.architecture is None else default_input_shape(self.architecture, self.arguments)

    def make(self) -> nn.Module:
        """Make the module, with weights drawn from torch's global generator; raises InputError."""
        if self.factory is not None:
            builder = from_user(self.factory).builder if isinstance(self.factory, str) else self.factory
            check_arguments(str(self.name), signature_of(builder), self.arguments)
            return call_user(builder, str(self.name), self.arguments)
        if self.architecture is not None and self.weights is not None:
            return build_published(self.architecture, self.weights, self.arguments)
        if self.architecture is not None:
            return build(self.architecture, **self.arguments)
        raise InputError(
            "no network: expected an architecture or a factory",
            hint="give `architecture=NAME` or `factory=FILE.py:NAME`",
        )

    def sketch(self) -> nn.Module | None:
        """Make the module on the meta device, where weights take no memory.

        None for code of a user, which is called once only, and where the constructor needs values.
        """
        if self.is_users:
            return None
        try:
            with torch.device("meta"):
                return self.make()
        except ModelFileError:
            raise  # of the bounds
        except InputError:
            return None  # `make` fails as well, and says why, unless it was the device

    @property
    def is_users(self) -> bool:
        """Whether code of a user makes the module."""
        return self.architecture is None or user_reference(self.architecture) is not None

    def takes(self, name: str) -> bool:
        """Whether the architecture has an argument `name`; a factory's arguments are left to the user."""
        if self.architecture is None:
            return False
        signature = signature_of(find(self.architecture).builder)
        return signature is None or signature.open_ended or name in (*signature.required, *signature.optional)

    def with_argument(self, name: str, value: Any) -> Blueprint:
        """The same blueprint with another value of one argument."""
        return replace(self, arguments={**self.arguments, name: value})


def fitting_architecture(state: State, like: str | None = None) -> str | None:
    """Name an architecture with the parameter names of `state`, and with most of its shapes.

    It tries surgery's own and, from torchvision and timm, those of the same short names or the short name of `like`.
    """
    short = [like.rpartition(":")[2]] if like else list(ARCHITECTURES)
    names = [*ARCHITECTURES, *(f"torchvision:{name}" for name in short), *(f"timm:{name}" for name in short if like)]
    found = [(misfits, name) for name in names if (misfits := _misfits(name, state)) is not None]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _misfits(name: str, state: State) -> int | None:
    """The number of shapes that differ between `name` and `state`; None where the names differ."""
    try:
        # On the meta device, building takes no memory and no random numbers. A constructor that needs values fails
        # there, and is no candidate.
        with torch.device("meta"):
            module = build(name)
    except InputError:
        return None
    misfit = compare(module, match_names(state, module.state_dict()))
    return None if misfit.missing or misfit.unexpected else len(misfit.shapes)
