"""The cluster penalty (Bai et al. 2021, eq. 10, Algorithm 2): it draws the logits of a superclass to their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from surgery.errors import InputError, suggest
from surgery.hierarchy import Hierarchy

Form = Literal["norm", "mse"]

FORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "norm": lambda squares: _root(squares).sum(),
    "mse": lambda squares: squares.sum(),
}
"""Functions from the mean squared distance of each class `(K,)` to the penalty, by the name of the form."""


@dataclass(frozen=True, kw_only=True)
class ClusterPenalty:
    """The distance of the logits of each class from the mean logit of its superclass.

    For logits F `(n, K)` let d_ki = F(x_k)_i - F_g(x_k) be the distance of class i from the mean F_g over the classes
    of its superclass g, for image k by itself, and q_i = (1/n) sum_k d_ki^2. Then

        norm (eq. 10):        weight * sum_i sqrt(q_i),   sqrt(q_i) = |F(x)_i - F_g|_2 / sqrt(n)
        mse (published code): weight * sum_i q_i

    The 2-norm of eq. 10 runs over the batch and grows with sqrt(n); the division makes `weight` mean the same for every
    batch size, so a weight of eq. 10 as printed is sqrt(n) times smaller than here. The code's per-class weights
    for CIFAR-10, 0.1 x 0.1, are `weight=0.01` with `form="mse"`. A class that is alone in its superclass adds nothing.

    Raises InputError for an unknown form, and for a weight that is negative or not finite.
    """

    hierarchy: Hierarchy
    weight: float
    form: Form

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            hint = suggest(str(self.form), FORMS) or f"the forms are {' and '.join(FORMS)}"
            raise InputError(f"{self.form!r} is no form of the cluster penalty", hint=hint)
        if not math.isfinite(self.weight) or self.weight < 0:
            raise InputError(f"expected a weight of the cluster penalty of 0 or more, got {self.weight!r}")

    def __call__(self, logits: Tensor, *, mean: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The penalty of logits `(batch, K)`, a scalar that has a finite gradient everywhere.

        `mean`: from squares `(batch, K)` to their means `(K,)` over the batch. Where several processes share a batch,
        it is the mean over the images of all of them, for the root of a mean is not the mean of roots.

        Raises InputError naming the class where the hierarchy does not fit K.
        """
        check_outputs(self.hierarchy, logits.shape[1])
        # In bfloat16, differences of logits of one superclass would be mostly rounding.
        logits = logits if logits.dtype == torch.float64 else logits.float()
        distance = logits @ _to_distances(self.hierarchy.superclass, logits.dtype, logits.device)
        squares = distance.square()
        return self.weight * FORMS[self.form](squares.mean(0) if mean is None else mean(squares))

    def for_classes(self, class_names: tuple[str, ...]) -> ClusterPenalty:
        """The penalty for these classes in this order; raises InputError naming a class that the hierarchy misses.

        A hierarchy whose classes are only numbered matches any classes of the same number.
        """
        known = self.hierarchy.class_names
        if known == tuple(map(str, range(len(known)))):
            check_outputs(self.hierarchy, len(class_names), class_names)
            return self
        return replace(self, hierarchy=self.hierarchy.for_classes(class_names))


def check_outputs(hierarchy: Hierarchy, outputs: int, class_names: tuple[str, ...] | None = None) -> None:
    """Raise InputError, naming a class, where the number of classes of `hierarchy` is not that of the outputs."""
    known = len(hierarchy.class_names)
    if known < outputs:
        name = f" ({class_names[known]!r})" if class_names is not None else ""
        raise InputError(
            f"class {known}{name} is in no superclass: the hierarchy has {known} classes, the network {outputs} outputs"
        )
    if known > outputs:
        raise InputError(
            f"class {hierarchy.class_names[outputs]!r} of the hierarchy has no output: "
            f"the hierarchy has {known} classes, the network {outputs} outputs"
        )


# Cached, for it is needed in every step; cached by device, so that no step copies it there.
@lru_cache(maxsize=32)
def _to_distances(superclass: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The symmetric matrix I - P `(K, K)`, where P averages over superclasses; logits times it are distances."""
    groups = torch.tensor(superclass)
    same = (groups[:, None] == groups[None, :]).double()
    return (torch.eye(len(superclass), dtype=torch.float64) - same / same.sum(1)).to(device=device, dtype=dtype)


def _root(squares: Tensor) -> Tensor:
    """The square root, with the gradient zero (a subgradient of the norm) instead of infinity at zero."""
    # The inner where keeps zero out of the root: its infinite gradient times the zero of the outer one would be nan.
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)
