"""Data sets by name: surgery's own, and functions of users as `package.module:name`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from surgery import plugins
from surgery.data.checks import whole
from surgery.data.dataset import Dataset
from surgery.data.folders import folder, subfolders
from surgery.data.planted import planted, planted_hierarchy
from surgery.data.published import digits, published
from surgery.data.sampling import divide
from surgery.data.tiny_imagenet import tiny_imagenet
from surgery.errors import InputError, SurgeryError, suggest
from surgery.hierarchy import NAMED, named
from surgery.hierarchy.hierarchy import numbered

SOURCES: dict[str, Callable[..., Dataset]] = {
    "cifar10": partial(published, "cifar10"),
    "cifar100": partial(published, "cifar100"),
    "stl10": partial(published, "stl10"),
    "tiny-imagenet": tiny_imagenet,
    "folder": folder,
    "digits": digits,
    "planted": planted,
}
"""The function of each data set; `load` takes care of sizes and shares that a function does not take."""

DATASETS: tuple[str, ...] = tuple(SOURCES)

GROUP = "surgery.datasets"
"""The entry-point group in which installed packages register data sets."""

VARIABLE = "SURGERY_DATA"
"""The environment variable for the folder of data sets."""

_COMMON = ("root", "download", "seed", "image_size", "validation", "train_size", "test_size")
"""Arguments of `load`, passed to each function that takes them."""


def load(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = False,
    validation: float = 0.05,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    **parameters: Any,
) -> Dataset:
    """Load the data set `name`: one of `DATASETS`, or a user's function `package.module:name` that returns a `Dataset`.

    `root`: the folder of the data set, or the folder above; by default that in the environment variable SURGERY_DATA,
    or `data` where that is not set. `download`: download missing files, where that is possible. `train_size`,
    `test_size`: the number of images to take, each class with its share. `validation`: the share of the training images
    taken that is held out of them; with 0 the validation split is empty. `seed`: which training images are taken and
    held out; test images do not depend on it, except for `planted`, where everything does. `image_size`: resize images
    to that many pixels square. `parameters`: further arguments of the data set (`planted` has amplitudes,
    `tiny-imagenet` has `classes`).

    A user's function gets those of these arguments that it takes, and its own; sizes and shares that it does not take
    are applied to the data set that it returns.

    Raises InputError for an unknown name or parameter, for data that are missing or damaged, for sizes that are too
    large or too small, and for a user's function that fails or returns no `Dataset`.
    """
    reference = user_reference(name)
    source = plugins.load(reference) if reference else _known(name)
    signature = plugins.signature_of(source)
    required, optional = ((), ()) if signature is None else (signature.required, signature.optional)
    takes = {*required, *optional}
    if download and "download" not in takes:
        able = [other for other, function in SOURCES.items() if "download" in inspect.signature(function).parameters]
        raise InputError(f"{name}: cannot be downloaded", hint=f"these can: {', '.join(able)}")
    if image_size is not None:
        _check_image_size(name, image_size, takes)
    plugins.check_arguments(name, signature, parameters, provided=_COMMON)
    sizes = {"validation": validation, "train_size": train_size, "test_size": test_size}
    given = {"root": data_root(root), "download": download, "seed": seed, "image_size": image_size, **sizes}
    passed = {key: value for key, value in given.items() if key in takes and (value is not None or key in required)}
    data = _call(source, name, {**passed, **parameters}) if reference else source(**passed, **parameters)
    # None leaves a split alone: a function that takes one of the three has applied it.
    return divide(data, seed=seed, **{key: None if key in takes else value for key, value in sizes.items()})


def data_root(root: str | Path | None) -> Path:
    """The folder of data: `root` if it is given, or else the environment variable SURGERY_DATA, or else `data`."""
    return Path(os.environ.get(VARIABLE) or "data" if root is None else root).expanduser()


def user_reference(name: str) -> str | None:
    """The reference `package.module:name` of a user's data set; None for every other name.

    A name that an installed package registers is replaced by its reference; surgery's own names come first.
    """
    return None if name in SOURCES else plugins.reference_of(name, GROUP)


def check_dataset(name: str, parameters: Collection[str] | None = None, *, image_size: int | None = None) -> None:
    """Check that `name` is a data set that takes these `parameters` and an `image_size`, without running a user's code.

    What is None is not checked.

    Raises InputError for an unknown name, and ArgumentError, whose `key` names the parameter if one is to blame.
    """
    reference = user_reference(name)
    signature = plugins.locate(reference).signature if reference else plugins.signature_of(_known(name))
    if parameters is not None:
        plugins.check_arguments(name, signature, parameters, provided=_COMMON)
    if image_size is not None and signature is not None:
        _check_image_size(name, image_size, (*signature.required, *signature.optional))


def _check_image_size(name: str, image_size: int, takes: Collection[str]) -> None:
    whole(image_size, "image_size", least=1)
    if "image_size" not in takes:
        hint = "omit image_size: the size of its images is its own"
        raise plugins.ArgumentError(f"{name}: takes no image_size", key="image_size", hint=hint)


def known_classes(name: str, root: str | Path | None, parameters: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes of a data set in label order, as far as they are known without loading it; None otherwise.

    `root`, `parameters`: as `load` takes them.
    """
    if name in NAMED:
        return named(name).class_names
    if name == "digits":
        return numbered(10)
    if name == "planted":
        sizes = [parameters.get(key, 3) for key in ("superclasses", "subclasses")]
        small = all(isinstance(size, int) and 1 <= size <= 1000 for size in sizes)
        return planted_hierarchy(*sizes).class_names if small else None
    if name == "folder" and (data_root(root) / "train").is_dir():
        return tuple(subfolders(data_root(root) / "train"))
    return None


def _known(name: str) -> Callable[..., Dataset]:
    if name not in SOURCES:
        registered = plugins.registered(GROUP)
        raise InputError(
            f"{name}: unknown data set; there are {', '.join([*DATASETS, *registered])}",
            hint=suggest(name.lower(), [*DATASETS, *registered]) or "a function of your own is package.module:name",
        )
    return SOURCES[name]


def _call(source: Any, name: str, arguments: Mapping[str, Any]) -> Dataset:
    """Call a user's function; an exception that surgery does not raise becomes one that names the function."""
    with plugins.users_code():  # the function may import its neighbors only when it is called
        try:
            data = source(**arguments)
        except SurgeryError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise InputError(f"{name}: calling it raised {type(error).__name__}: {error}") from error
    if not isinstance(data, Dataset):
        raise InputError(
            f"{name}: expected a surgery.data.Dataset, got {type(data).__name__}",
            hint="return surgery.data.Dataset(...) with uint8 images",
        )
    return data
