"""The stage kind `confusion`: the attack confusion matrix M (paper, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from surgery.attack import Confusion, confusion_matrix
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy
from surgery.stages.attack import evaluation_warnings
from surgery.stages.attack_tables import AttackTable
from surgery.stages.findings import Contrast, Finding
from surgery.stages.sources import SearchStage
from surgery.stages.stage import Context, Figures, Finished, Sizes, as_array, has
from surgery.store import Coordinate, Group, Variable, class_coordinates


class ConfusionStage(SearchStage):
    """Where an attack moves the images of each class: the matrix M (paper, section 7)."""

    heading: ClassVar[str] = "Stage `confusion`"
    sections = (Contrast.section,)
    uses_hierarchy: ClassVar[bool] = True

    kind: Literal["confusion"] = Field(description="The attack confusion matrix M.")
    attack: AttackTable = Field(description="The attack.")
    targeted: bool = Field(
        default=False, description="Toward every other class in turn, instead of away from the label."
    )

    def passes(self, sizes: Sizes) -> int:
        rounds = sizes.classes - 1 if self.targeted else 1
        return sizes.of(self.split, self.images) * (1 + rounds * self.attack.steps_in_all())

    def run(self, context: Context) -> Group:
        """Attack, starting after the last chunk of an interrupted run."""
        with evaluation_warnings(context):
            result = confusion_matrix(
                context.network(self.file, self.network),
                self.images_of(context.data),
                self.attack.value(),
                targeted=self.targeted,
                batch_size=self.batch_size,
                seed=context.seed,
                device=context.device,
                engine=self.engine.value(),
                chunks=context.folder.chunks(context.name, context.key),
                progress=context.steps("attacking"),
            )
        return confusion_group(
            result,
            class_names=context.data.class_names,
            hierarchy=context.data.hierarchy,
            data=context.data.title,
            seed=context.seed,
            provenance=context.provenance(),
            name=context.name,
        )

    def draw(self, finished: Finished) -> Figures:
        from surgery.report import figures

        names, M = tuple(map(str, finished.group["class"])), finished.group["confusion"]
        ordered, targeted = finished.ordered(names), finished.group.attributes["targeted"]
        title = f"{finished.title}, targeted" if targeted else finished.title
        compared = [peer.group for peer in finished.peers]
        highest = figures.confusion_scale(
            [group["confusion"] for group in compared if group.attributes["targeted"] == targeted]
        )
        return {"matrix": lambda: figures.confusion(M, names, highest=highest, title=title, **ordered)}

    def findings(self, finished: Finished) -> Iterable[Finding]:
        """Block contrast of M among the fooled images: that of M itself grows with the attack's success."""
        group = finished.group
        if not has(group, "superclass_of_class"):
            return
        contrast = contrast_among_fooled(group["count"], group["superclass_of_class"])
        if contrast is not None:
            yield Contrast(
                stage=finished.stage.name,
                model=finished.model,
                matrix="M targeted among fooled" if group.attributes["targeted"] else "M among fooled",
                block_contrast=contrast,
            )


def contrast_among_fooled(counts: np.ndarray, superclass: np.ndarray) -> float | None:
    """The block contrast of the rows of M without the diagonal, each divided by its sum, in [-1, 1].

    `counts` `(K, K)`: images of class i that an attack turns into class j; `superclass` `(K,)`. An entry is the share
    of class j among the images of class i that the attack fools, so the contrast does not depend on how many these are.
    None if no image is fooled, or without a pair of classes within a superclass and a pair across.
    """
    turned = np.where(np.eye(len(counts), dtype=bool), 0, counts).astype(np.float64)
    fooled = turned.sum(axis=1)
    shares = turned[fooled > 0] / fooled[fooled > 0, None]
    same = (superclass[:, None] == superclass[None, :])[fooled > 0]
    other = ~np.eye(len(counts), dtype=bool)[fooled > 0]
    if not (same & other).any() or same.all():
        return None
    return float(shares[same & other].mean() - shares[~same].mean())


MEANING = {
    False: "share of the images of a class that the attack turns into the other class; the diagonal: what stays right",
    True: "share of the images of a class that reach the other class as the target; the diagonal: what reaches none",
}
"""The meaning of an entry of M, untargeted and targeted."""


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
    coordinates, variables = list(class_coordinates(class_names)), [matrix, counts, images]
    attributes: dict[str, Any] = {
        "data": data,
        "targeted": int(confusion.targeted),
        "seed": seed,
        "search": "; ".join(confusion.notes),
    }
    if hierarchy is not None:
        labels = hierarchy.names or tuple(str(number) for number in range(hierarchy.num_superclasses))
        coordinates += [
            Coordinate(name="superclass", values=labels, long_name="superclass"),
            Coordinate(name="superclass_other", values=labels, long_name="the other superclass of a pair"),
        ]
        variables += [
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
        ]
        attributes["hierarchy"] = hierarchy.method
        sizes = [len(members) for members in hierarchy.groups]
        if len(sizes) > 1 and max(sizes) > 1:  # otherwise there are no two blocks to compare
            with suppress(InputError):  # the classes that have images may be in one superclass
                attributes["block_contrast"] = confusion.contrast(hierarchy)
    return Group(
        name=name,
        kind="confusion",
        coordinates=tuple(coordinates),
        variables=tuple(variables),
        attributes=attributes,
        provenance=provenance,
    )
