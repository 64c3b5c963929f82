"""The interface of an attack: a value with a threat model that is called with a target, images and random numbers.

Whatever has this interface goes into `evaluate`, `confusion_matrix` and `perturb`: the projected-gradient attacks of
`pgd.py`, and attacks that users write.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from surgery.attack.norms import NORMS
from surgery.attack.random_start import ImageGenerator
from surgery.attack.target import Target
from surgery.errors import InputError

RESERVED = ("natural", "worst case", "worst_case")
"""Names of other outcomes of an evaluation, which no attack can have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Iterate:
    """An iterate `images` `(rows, channels, height, width)` that the attack already has logits `(rows, K)` of.

    Only images that `logits` give a wrong class are verified with the reference: a gradient attack, which knows the
    logits of the surrogate anyway, saves a forward pass of the reference in every step. None: all are verified.
    """

    images: Tensor
    logits: Tensor | None = None


class AttackProtocol(Protocol):
    """An attack: a value that turns images into adversarial images within a threat model.

    `norm` ("Linf", "L2" or "L1") and `epsilon` are the threat model: every image that the attack returns has to be in
    [0, 1] and within epsilon of its image. The evaluation measures that, and warns.

    The call gets the target, images `(batch, channels, height, width)`, float32 in [0, 1], labels `(batch,)`, and a
    generator with random numbers for each of the images. It returns the attacked images, or an iterator of iterates,
    each of them images or an `Iterate`. The evaluation verifies every iterate with the reference in float32: an image
    is fooled by its first iterate that the reference gives a wrong class, and otherwise keeps its last iterate.

    A generator function can learn which images still stand: `standing = yield images` is a mask `(rows,)`, bool, over
    the rows that it yielded. It may drop the other rows of its tensors and of the generator, and yield the standing
    rows only from then on; or ignore the mask and yield all rows again. It is closed when no image stands.

    Optional attributes, with their defaults:

    - `early_stop = True`: images that the model gets wrong without an attack are not attacked. With False they are.
    - `uses_gradients = True`: with False, models without gradients are accepted.
    - `loss = None`: the name in `LOSSES` of the loss that is increased, whose gradients the evaluation checks.

    A call that accepts the keyword `targets` `(batch,)` can be aimed at given classes, as `perturb(targets=...)` and
    `confusion_matrix(targeted=True)` need it; a success is then an image that gets its target class. If an attack is a
    dataclass, the evaluation also runs it with the field `epsilon` set to zero on a few images, as a check.
    """

    @property
    def norm(self) -> str: ...

    @property
    def epsilon(self) -> float: ...

    def __call__(
        self, target: Target, images: Tensor, labels: Tensor, generator: ImageGenerator, /
    ) -> Tensor | Iterator[Tensor | Iterate]: ...


def check_attack_names(names: Iterable[str]) -> None:
    """Raise InputError for an attack name that an evaluation uses for another outcome."""
    for name in names:
        if name in RESERVED:
            raise InputError(
                f"an attack cannot be called {name!r}: an evaluation has another outcome with this name",
                hint=f"use any name except {', '.join(map(repr, RESERVED))}",
            )


def check_attack(attack: Any, *, what: str) -> None:
    """Raise InputError, calling the value `what`, if it is no attack."""
    if isinstance(attack, type) or not callable(attack) or getattr(attack, "norm", None) not in NORMS:
        raise InputError(
            f"{what}: expected an attack, a callable with norm and epsilon, got {_type_of(attack)}",
            hint=f"pgd(...) makes an attack; norms are {', '.join(NORMS)}",
        )
    epsilon = getattr(attack, "epsilon", None)
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < math.inf:
        raise InputError(f"{what}: epsilon: expected a finite number of at least 0, got {epsilon!r}")


def accepts_targets(attack: AttackProtocol) -> bool:
    """Whether the attack can be aimed at given classes."""
    return "targets" in inspect.signature(attack).parameters


def adapted(attack: AttackProtocol, **changes: Any) -> Any:
    """The attack with those of the changes that are fields of it; the attack itself if it is no dataclass."""
    if not is_dataclass(attack) or isinstance(attack, type):
        return attack
    known = {field.name for field in fields(attack) if field.init}
    return replace(attack, **{name: value for name, value in changes.items() if name in known})


def settings_of(attack: AttackProtocol) -> dict[str, Any]:
    """The settings of an attack as plain values, for records: its fields, or at least its threat model."""
    if is_dataclass(attack) and not isinstance(attack, type):
        return {field.name: getattr(attack, field.name) for field in fields(attack)}
    own: Mapping[str, Any] = {
        name: value for name, value in getattr(attack, "__dict__", {}).items() if not name.startswith("_")
    }
    return {"attack": _type_of(attack), "norm": attack.norm, "epsilon": attack.epsilon, **own}


def _type_of(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)
