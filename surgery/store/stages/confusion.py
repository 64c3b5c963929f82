"""The stage `confusion`: the attack confusion matrix M as a group of the store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surgery.attack import Confusion
from surgery.hierarchy import Hierarchy
from surgery.store.stages.arrays import as_array
from surgery.store.values import Coordinate, Group, Variable, class_coordinates

MEANING = {
    False: "share of the images of a class that the attack turns into the other class; the diagonal: what stays right",
    True: "share of the images of a class that reach the other class as the target; the diagonal: what reaches none",
}
"""What an entry of M says, untargeted and targeted."""


def confusion_group(
    confusion: Confusion,
    *,
    class_names: tuple[str, ...],
    hierarchy: Hierarchy | None,
    data: str,
    seed: int,
    provenance: Mapping[str, str],
    name: str = "confusion",
) -> Group:
    """M with its counts (section 7), and its blocks where `hierarchy` says which classes belong together."""
    matrix = Variable(
        name="confusion",
        data=as_array(confusion.matrix),
        dimensions=("class", "class_other"),
        long_name="attack confusion matrix",
        comment=MEANING[confusion.targeted],
    )
    counts = Variable(
        name="count",
        data=as_array(confusion.counts),
        dimensions=("class", "class_other"),
        long_name="number of images behind an entry of the attack confusion matrix",
    )
    images = Variable(
        name="images",
        data=as_array(confusion.images_per_class),
        dimensions=("class",),
        long_name="number of images of a class",
    )
    blocks = None if hierarchy is None else _blocks(confusion, hierarchy)
    return Group(
        name=name,
        kind="confusion",
        coordinates=(*class_coordinates(class_names), *(_superclasses(hierarchy) if hierarchy is not None else ())),
        variables=(matrix, counts, images, *(blocks or ())),
        attributes={
            "data": data,
            "targeted": int(confusion.targeted),
            "seed": seed,
            "search": "; ".join(confusion.notes),
            **({} if hierarchy is None else {"hierarchy": hierarchy.method, **_contrast(confusion, hierarchy)}),
        },
        provenance=provenance,
    )


def _superclasses(hierarchy: Hierarchy) -> tuple[Coordinate, Coordinate]:
    labels = hierarchy.names or tuple(str(number) for number in range(hierarchy.num_superclasses))
    return (
        Coordinate(name="superclass", values=labels, long_name="superclass"),
        Coordinate(name="superclass_other", values=labels, long_name="the other superclass of a pair"),
    )


def _blocks(confusion: Confusion, hierarchy: Hierarchy) -> tuple[Variable, ...]:
    return (
        Variable(
            name="block",
            data=as_array(confusion.per_superclass(hierarchy)),
            dimensions=("superclass", "superclass_other"),
            long_name="mean entry of a block of the attack confusion matrix, its diagonal left out",
        ),
        Variable(
            name="superclass_of_class",
            data=np.array(hierarchy.superclass, dtype=np.int32),
            dimensions=("class",),
            long_name="number of the superclass of a class",
        ),
    )


def _contrast(confusion: Confusion, hierarchy: Hierarchy) -> dict[str, float]:
    """Nothing where there are no two blocks to compare."""
    sizes = [len(members) for members in hierarchy.groups]
    return {"block_contrast": confusion.contrast(hierarchy)} if len(sizes) > 1 and max(sizes) > 1 else {}
