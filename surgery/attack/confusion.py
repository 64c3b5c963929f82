"""The attack confusion matrix M: into which classes an attack turns the images of a class (section 7, Fig. 7)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgery.attack.batches import attack_batch
from surgery.attack.checks import warn
from surgery.attack.chunks import BATCH, Chunks, Progress, runner_of
from surgery.attack.engine import Engine
from surgery.attack.interface import AttackProtocol, accepts_targets, adapted, check_attack
from surgery.attack.random_start import generator_of
from surgery.attack.samples import Data
from surgery.attack.target import Target
from surgery.errors import InputError
from surgery.hierarchy import Hierarchy

_SHOWN = 20
"""The number of classes up to which a matrix prints its entries."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """How many images of class i an attack turns into class j.

    `counts` `(K, K)`, int64. Untargeted: `counts[i, j]` images of class i are classified as j after the attack; the
    rows sum to `images_per_class` `(K,)`. Targeted: `counts[i, j]` images of class i were turned into the target class
    j, and `counts[i, i]` images into no other class. An image counts for every target that it reached, so a row has no
    fixed sum.
    """

    attack: AttackProtocol
    targeted: bool
    counts: Tensor
    images_per_class: Tensor
    seconds: float
    notes: tuple[str, ...]

    @property
    def matrix(self) -> Tensor:
        """M `(K, K)`, float64: the counts as shares of the images of class i; NaN for a class without images."""
        return self.counts.double() / self.images_per_class.double()[:, None]

    def __repr__(self) -> str:
        if len(self.counts) > _SHOWN:
            return self._title
        rows = (" ".join(f"{share:5.0%}" for share in row) for row in self.matrix.tolist())
        return "\n".join([f"{self._title}; row: true class, column: class after the attack", *rows])

    def _repr_html_(self) -> str:
        if len(self.counts) > _SHOWN:
            return f"<p>{self._title}</p>"
        head = "".join(f"<th>{number}</th>" for number in range(len(self.counts)))
        rows = "".join(
            f"<tr><th>{number}</th>{''.join(f'<td>{share:.0%}</td>' for share in row)}</tr>"
            for number, row in enumerate(self.matrix.tolist())
        )
        return (
            f"<p>{self._title}; row: true class, column: class after the attack</p>"
            f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )

    @property
    def _title(self) -> str:
        images, kind = int(self.images_per_class.sum()), "targeted" if self.targeted else "untargeted"
        return f"Confusion of {images} images, {len(self.counts)} classes, {kind}"

    def per_superclass(self, hierarchy: Hierarchy) -> Tensor:
        """The mean entry of each block of M `(superclasses, superclasses)`, float64, without the diagonal of M.

        Classes without images are left out. NaN for the block of a superclass of one class with itself, and for the row
        of a superclass without images.
        """
        member = self._membership(hierarchy)
        off = self._known()
        sums = member.T @ torch.where(off, self.matrix, 0.0) @ member
        return sums / (member.T @ off.double() @ member)

    def contrast(self, hierarchy: Hierarchy) -> float:
        """Mean of M within superclasses minus mean across them, without the diagonal, in [-1, 1].

        Classes without images are left out, as true classes: their rows of M are NaN.

        Raises InputError for another number of classes, and without a pair within or a pair across superclasses.
        """
        member = self._membership(hierarchy)
        same = (member @ member.T).bool()
        within, across = same & self._known(), ~same & self._known()
        if not bool(within.any()) or not bool(across.any()):
            raise InputError(
                "no contrast of blocks: a pair of classes within a superclass and a pair across superclasses are needed"
            )
        return float(self.matrix[within].mean() - self.matrix[across].mean())

    def _membership(self, hierarchy: Hierarchy) -> Tensor:
        """`(K, superclasses)`: one where a class is in a superclass."""
        if len(hierarchy.class_names) != len(self.counts):
            raise InputError(f"M has {len(self.counts)} classes, the hierarchy {len(hierarchy.class_names)}")
        return torch.nn.functional.one_hot(torch.tensor(hierarchy.superclass)).double()

    def _known(self) -> Tensor:
        """`(K, K)`: the entries off the diagonal in the rows of classes with images."""
        return ~torch.eye(len(self.counts), dtype=torch.bool) & (self.images_per_class > 0)[:, None]


def confusion_matrix(
    model: nn.Module,
    data: Data,
    attack: AttackProtocol,
    *,
    targeted: bool = False,
    batch_size: int = BATCH,
    seed: int = 0,
    device: torch.device | str | None = None,
    engine: Engine | None = None,
    chunks: Chunks | None = None,
    progress: Progress | None = None,
) -> Confusion:
    """M of `attack` on `model`; data and the other arguments are as in `evaluate`.

    Untargeted, an `Attack` takes all its steps whatever its `early_stop` says, as M is about where images land; an
    attack without the field `early_stop` is run as it is. Targeted, every image is attacked towards each of the other
    classes, and counts for those that the model itself, in float32, gives it before, during or after the attack.

    Raises InputError as `evaluate` does, and if `targeted` for an attack that cannot be aimed at a class.
    """
    check_attack(attack, what="the attack")
    # Early stop would show the class nearest to each image; the paper asks where all steps lead.
    attack = adapted(attack, targeted=targeted, early_stop=targeted)
    if targeted and not accepts_targets(attack):
        raise InputError(
            f"the attack {type(attack).__name__} cannot be aimed at a class",
            hint="a targeted matrix needs an attack whose call accepts the keyword targets",
        )
    with runner_of(
        model,
        data,
        [attack],
        engine=engine,
        device=device,
        batch_size=batch_size,
        chunks=chunks,
        progress=progress,
    ) as runner:
        target, labels = runner.target, runner.labels.cpu()
        others = target.others(labels)
        rounds = others.shape[1] if targeted else 1
        rows = []
        for number in range(rounds):
            wanted = others[:, number] if targeted else None
            name = f"confusion-{number + 1}" if targeted else "confusion"
            compute = functools.partial(_landed, target, attack, wanted, seed)
            rows.append(runner.gather(name, 1, compute, number=number, rounds=rounds))
        landed = torch.stack([row[:, 0].long() for row in rows], dim=1)
        counts = _reached(labels, others, landed) if targeted else _count(labels, landed[:, 0], target.num_classes)
        images_per_class = torch.bincount(labels, minlength=target.num_classes)
    warn(runner.checks)
    return Confusion(
        attack=attack,
        targeted=targeted,
        counts=counts,
        images_per_class=images_per_class,
        seconds=float(sum(row[:, -1].sum() for row in rows)),
        notes=target.notes,
    )


def _landed(
    target: Target,
    attack: AttackProtocol,
    wanted: Tensor | None,
    seed: int,
    part: slice,
    images: Tensor,
    labels: Tensor,
) -> Tensor:
    """The class of every image of a chunk after the attack, `(batch, 1)`."""
    towards = None if wanted is None else wanted[part].to(labels.device)
    return attack_batch(
        target, attack, images, labels, generator=generator_of(images, seed), targets=towards
    ).predictions[:, None]


def _reached(labels: Tensor, others: Tensor, landed: Tensor) -> Tensor:
    """Counts of the targets `(n, K - 1)` that were reached, and of the images of which none was, on the diagonal."""
    reached = landed == others
    classes = others.shape[1] + 1
    counts = _count(labels[:, None].expand_as(others)[reached], others[reached], classes)
    resisted = ~reached.any(1)
    return counts + _count(labels[resisted], labels[resisted], classes)


def _count(rows: Tensor, columns: Tensor, classes: int) -> Tensor:
    """How often each pair of classes occurs, `(classes, classes)`."""
    return torch.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)
