"""Completion of unfinished words in the shell, without importing torch."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

OWN_ARCHITECTURES = (
    *("resnet18", "resnet34", "resnet50"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("densenet121", "alexnet", "convnet", "linear"),
)
"""The names of surgery.models.ARCHITECTURES, repeated here because importing them would import torch."""

DATA_SETS = ("cifar10", "cifar100", "stl10", "tiny-imagenet", "folder", "digits", "planted")
"""The names of surgery.data.DATASETS, repeated here because importing them would import torch."""

COLLECTIONS = ("torchvision:", "timm:")


def rulesets(incomplete: str) -> list[str]:
    """Shipped rulesets, and the user's own TOML files and folders."""
    return [name for name in shipped() if name.startswith(incomplete)] + list(_files(incomplete, ".toml"))


def architectures(incomplete: str) -> list[str]:
    """Surgery's own architectures, and the prefixes of other collections."""
    return [name for name in (*OWN_ARCHITECTURES, *COLLECTIONS) if name.startswith(incomplete)]


def data_sets(incomplete: str) -> list[str]:
    """Data sets by name, and folders."""
    return [name for name in DATA_SETS if name.startswith(incomplete)] + list(_files(incomplete, "/"))


def recipes(incomplete: str) -> list[str]:
    """Shipped recipes, and the user's own TOML files and folders."""
    return [name for name in shipped_recipes() if name.startswith(incomplete)] + list(_files(incomplete, ".toml"))


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with surgery: inside the package once installed, next to it in a checkout."""
    package = resources.files("surgery")
    folders = (package / "recipe" / "shipped", package / ".." / "recipes")
    found = next((folder for folder in folders if folder.is_dir()), None)
    names = () if found is None else (item.name for item in found.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def shipped() -> list[str]:
    """The names of the rulesets that come with surgery."""
    folder = resources.files("surgery") / "rewrite" / "rulesets"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def _files(incomplete: str, suffix: str) -> Iterator[str]:
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        name = f"{path}/" if path.is_dir() else str(path)
        if name.startswith(incomplete) and not path.name.startswith(".") and (path.is_dir() or path.suffix == suffix):
            yield name
