"""`Architecture`, and the architectures of others: torchvision, timm, and functions that users write.

torchvision and timm build networks without their weights, and are imported only when a name asks for them.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from surgery import plugins
from surgery.errors import InputError, suggest
from surgery.files import existing_file
from surgery.plugins import users_frame

Shape = tuple[int, int, int]

CHANNELS = ("in_channels", "in_chans")
"""The argument for the number of input channels, in surgery's own architectures and in timm's."""
SIZES = ("input_size", "img_size", "image_size")
"""The argument for the side of the image, in surgery's own architectures, timm's and torchvision's."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A builder, whose keyword arguments are the architecture's arguments, and its input (C, H, W) if it has one.

    `stem_sizes` is the side of the image that each value of the argument `stem` is for, where there is one.
    """

    builder: Callable[..., nn.Module]
    input_shape: Shape | None
    stem_sizes: Mapping[str, int] = field(default_factory=dict)

    def shape_with(self, arguments: Mapping[str, Any]) -> Shape | None:
        """The (C, H, W) for which a network with these `arguments` is made."""

        def first_whole(names: tuple[str, ...]) -> int | None:
            return next((value for name in names if isinstance(value := arguments.get(name), int)), None)

        if self.input_shape is None:
            return None
        channels, height, width = self.input_shape
        stem = arguments.get("stem")
        size = first_whole(SIZES) or (self.stem_sizes.get(stem) if isinstance(stem, str) else None)
        return (first_whole(CHANNELS) or channels, size or height, first_whole(("input_width",)) or size or width)


def from_torchvision(name: str) -> Architecture:
    """Return torchvision's classification model `name`; raises InputError for an unknown name."""
    from torchvision import models

    # Classification only: detection and segmentation models download the weights of their backbone.
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision:{name}: unknown architecture", hint=suggest(name, known))
    builder = models.get_model_builder(name)
    # The preprocessing that belongs to a model's published weights crops to the size it was trained on.
    crop = getattr(models.get_model_weights(name)["DEFAULT"].transforms, "keywords", {}).get("crop_size")
    return Architecture(
        builder=partial(builder, weights=None, **_decided(builder)),
        input_shape=(3, crop, crop) if isinstance(crop, int) else None,
    )


def _decided(builder: Callable[..., nn.Module]) -> dict[str, Any]:
    """Decide `init_weights` for the constructors that warn about its default, which is None only in those."""
    made = typing.get_type_hints(builder).get("return")
    parameter = inspect.signature(made).parameters.get("init_weights") if inspect.isclass(made) else None
    return {"init_weights": False} if parameter is not None and parameter.default is None else {}


def from_timm(name: str) -> Architecture:
    """Return timm's model `name`; raises InputError for an unknown name and where timm is not installed."""
    try:
        import timm
    except ImportError:
        raise InputError(f"timm:{name}: timm is not installed", hint="pip install 'model-surgery[timm]'") from None
    # Registered names only: timm would download `hf-hub:...`. The part of a name after a dot is the tag of weights.
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"timm:{name}: unknown architecture", hint=suggest(name, timm.list_models()))
    try:
        shape = getattr(timm.get_pretrained_cfg(name), "input_size", None)
    except RuntimeError:
        raise InputError(f"timm:{name}: unknown architecture", hint=suggest(name, timm.list_pretrained())) from None
    return Architecture(
        builder=partial(timm.create_model, name, pretrained=False),
        input_shape=(shape[0], shape[1], shape[2]) if shape is not None and len(shape) == 3 else None,
    )


def from_user(reference: str) -> Architecture:
    """Import `package.module:name` or `file.py:name`, a user's function or class that makes a network.

    Raises InputError where it does not exist, where importing its module fails, and where it cannot be called.
    """
    module, _, name = reference.rpartition(":")
    if not name.isidentifier() or not (module.endswith(".py") or plugins.is_reference(reference)):
        raise InputError(f"{reference!r}: expected FILE.py:NAME or package.module:NAME", hint="as in mynet.py:Net")
    if module.endswith(".py"):
        made = _in_file(Path(module), name)
    else:
        # A module that is imported needs no file: `__main__` of a notebook has none.
        made = getattr(sys.modules.get(module), name, None) or plugins.load(reference)
    if isinstance(made, nn.Module) or not callable(made):
        what = type(made).__name__
        raise InputError(f"{reference}: expected a function that returns a torch.nn.Module, got {what}")
    return Architecture(builder=typing.cast("Callable[..., nn.Module]", made), input_shape=None)


def _in_file(path: Path, name: str) -> Any:
    """Import the module in `path`, like a script with its folder on the path of modules, and return what it names."""
    path = existing_file(path).resolve()
    known = sys.modules.get(path.stem)
    if known is None or getattr(known, "__file__", None) != str(path):
        # Under its own name, by which a pickled network finds its class, unless that is the name of another module.
        spec = importlib.util.spec_from_file_location(path.stem if known is None else f"{path.stem} ({path})", path)
        assert spec is not None
        assert spec.loader is not None
        known = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        if str(path.parent) not in sys.path:  # for good: its functions may import their neighbors when they are called
            sys.path.append(str(path.parent))
        try:
            with plugins.users_code():
                spec.loader.exec_module(known)
        except BaseException as error:
            del sys.modules[spec.name]
            if not isinstance(error, Exception):
                raise
            raise _raised(f"{path}: importing it", error) from error
    if not hasattr(known, name):
        raise InputError(f"{path} defines no {name!r}", hint=suggest(name, vars(known)))
    return getattr(known, name)


@contextmanager
def users_classes(factory: str | None) -> Iterator[None]:
    """Let a pickle find the classes of a user in the current folder, and those of the module of `factory`.

    A network that was pickled by a script names its class `__main__.Name`: the classes of the module are there too
    while the block runs. Raises InputError where `factory` cannot be imported.
    """
    main, added = sys.modules["__main__"], dict[str, type]()
    if factory is not None:
        module = from_user(factory).builder.__module__
        classes = {name: item for name, item in vars(sys.modules[module]).items() if isinstance(item, type)}
        added = {name: item for name, item in classes.items() if item.__module__ == module and not hasattr(main, name)}
    for name, item in added.items():
        setattr(main, name, item)
    try:
        with plugins.users_code():
            yield
    finally:
        for name in added:
            delattr(main, name)


def call_user(builder: Callable[..., Any], reference: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the user's `builder` with `arguments` and return the network that it makes.

    Raises InputError where it fails, with the user's exception as its cause, and where it returns no network.
    """
    with plugins.users_code():  # the function may import its neighbors only when it is called
        try:
            module = builder(**arguments)
        except Exception as error:  # a user's code may raise anything
            raise _raised(f"{reference}: calling it", error) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{reference}: expected a torch.nn.Module, got {type(module).__name__}")
    return module


def _raised(what: str, error: Exception) -> InputError:
    """The error of a user's code, with the line that raised it if that line is the user's."""
    frame = users_frame(error)
    where = f" ({frame.filename}:{frame.lineno})" if frame is not None else ""
    return InputError(f"{what} raised {type(error).__name__}: {error}{where}")
