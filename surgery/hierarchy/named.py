"""Known hierarchies: CIFAR-10 and STL-10 (animals or not) and CIFAR-100 (its 20 official superclasses)."""

from __future__ import annotations

from collections.abc import Mapping

from surgery.errors import InputError, suggest
from surgery.hierarchy.hierarchy import Hierarchy

NAMED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cifar10": {
        "animals": ("bird", "cat", "deer", "dog", "frog", "horse"),
        "non-animals": ("airplane", "automobile", "ship", "truck"),
    },
    "stl10": {
        "animals": ("bird", "cat", "deer", "dog", "horse", "monkey"),
        "non-animals": ("airplane", "car", "ship", "truck"),
    },
    "cifar100": {
        "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
        "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
        "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
        "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
        "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
        "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
        "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
        "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
        "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
        "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
        "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
        "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
        "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
        "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
        "people": ("baby", "boy", "girl", "man", "woman"),
        "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
        "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
        "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
        "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
        "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
    },
}
"""Superclasses and their classes. The data sets number their classes alphabetically, and CIFAR-100 also its
superclasses: the place of a superclass in this table is its official coarse label, which `Hierarchy` does not keep.
"""

ALIASES: Mapping[str, str] = {"cifar20": "cifar100", "cifar100coarse": "cifar100"}
"""CIFAR-20 is CIFAR-100 with its superclasses as classes."""


def named(name: str) -> Hierarchy:
    """The hierarchy of a known data set: `cifar10`, `cifar100` or `stl10`; case, `-`, `_` and spaces do not matter.

    Raises InputError with the nearest names for any other.
    """
    key = "".join(character for character in name.lower() if character not in "-_ ")
    key = ALIASES.get(key, key)
    if key not in NAMED:
        raise InputError(
            f"unknown hierarchy {name!r}; there are {', '.join(NAMED)}",
            hint=suggest(key, [*NAMED, *ALIASES]) or "a hierarchy of your own comes from a .toml or .json file",
        )
    groups = NAMED[key]
    return Hierarchy.of_groups(groups, class_names=sorted(sum(groups.values(), ())), method=f"named {key}")
