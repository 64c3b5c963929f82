"""Tables of a recipe that describe attacks, those that users write among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from surgery.attack import KINDS, Attack, AttackProtocol, attack_from, check_attack_names, cw, fgsm, pgd
from surgery.attack.engine import Engine, Precision
from surgery.attack.losses import LossName
from surgery.attack.norms import NormName
from surgery.attack.pgd import Start, StepRule
from surgery.stages.fields import (
    Count,
    ExtensionName,
    Name,
    Pixels,
    Table,
    ValueTable,
    as_validator,
    check_extension,
    check_plain,
    checked,
)

CHANNELS_LAST = "Memory format of images and weights: faster convolutions; `false` for torch's default format."
EARLY_STOP = "Stop attacking an image at its first success; without it, the accuracy is the same or higher."


class ThreatTable(ValueTable):
    """What an attack may change."""

    norm: NormName = Field(default="Linf", description="Norm of the perturbation.")
    epsilon: Pixels = Field(description="Largest perturbation; pixels run from 0 to 1.")
    sparsity: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="For the norm L1, the share of the pixels that one step moves."
    )

    @field_validator("epsilon", "step_size", check_fields=False)
    @classmethod
    def _fits_pixels(cls, size: float, info: ValidationInfo) -> float:
        """Refuse 8 for 8/255 at its key: the attack, which checks it too, is not made while other keys are wrong."""
        if info.data.get("norm") == "Linf":
            epsilon, step_size = (size, 0.0) if info.field_name == "epsilon" else (0.0, size)
            made = lambda: Attack(norm="Linf", steps=1, epsilon=epsilon, step_size=step_size)  # noqa: E731
            as_validator(made, ("epsilon", "step_size"))
        return size


class SearchTable(ThreatTable):
    """A projected-gradient search."""

    steps: Count = Field(description="Gradient steps.")
    step_size: Pixels = Field(description="Size of a step, in the norm.")
    step_rule: StepRule = Field(default="constant", description="How the step size decreases over the steps.")
    start: Start = Field(default="uniform", description="Uniform in the ball of epsilon, or zero: the image itself.")


class FgsmTable(ThreatTable):
    """One step of the size of epsilon from the image (Goodfellow et al. 2015)."""

    heading: ClassVar[str] = "Attack `fgsm`"

    kind: Literal["fgsm"] = Field(description="The fast gradient method.")

    def value(self) -> Attack:
        return fgsm(norm=self.norm, epsilon=self.epsilon, sparsity=self.sparsity)

    def steps_in_all(self) -> int:
        return 1


class PgdTable(SearchTable):
    """Projected gradient descent (Madry et al. 2018)."""

    heading: ClassVar[str] = "Attack `pgd`"

    kind: Literal["pgd"] = Field(default="pgd", description="Projected gradient descent.")
    loss: LossName = Field(default="cross-entropy", description="The loss that the attack increases.")
    restarts: Count = Field(default=1, description="Number of random starts.")
    early_stop: bool = Field(default=True, description=EARLY_STOP)

    def value(self) -> Attack:
        return pgd(**self.model_dump(exclude={"kind"}))

    def steps_in_all(self) -> int:
        return self.steps * self.restarts


class CwTable(SearchTable):
    """CW-inf (paper, section 7): the same search on the margin of the logits."""

    heading: ClassVar[str] = "Attack `cw`"

    kind: Literal["cw"] = Field(description="Projected gradient descent on the margin.")
    restarts: Count = Field(default=1, description="Number of random starts.")
    early_stop: bool = Field(default=True, description=EARLY_STOP)

    def value(self) -> Attack:
        return cw(**self.model_dump(exclude={"kind"}))

    def steps_in_all(self) -> int:
        return self.steps * self.restarts


class ExtensionAttackTable(Table):
    """An attack of the user: a callable that gets the other keys and returns the attack; see tutorial-extensions.md."""

    heading: ClassVar[str] = "Attack `package.module:name`"
    model_config = ConfigDict(extra="allow")

    kind: Annotated[str, ExtensionName(group="surgery.attacks")] = Field(
        description="The callable, as `package.module:name`, or a name that an installed package registers.",
        json_schema_extra={"pattern": "."},
    )

    @model_validator(mode="after")
    def _fits_the_callable(self) -> Self:
        extra = self.__pydantic_extra__ or {}
        as_validator(lambda: check_plain(extra))
        check_extension(self.kind, "surgery.attacks", extra, known=KINDS, what="attack")
        return self

    def value(self) -> AttackProtocol:
        """Import the callable and call it."""
        return attack_from(self.model_dump())

    def steps_in_all(self) -> int:
        """Gradient steps of all restarts, as far as the keys show them; used for estimates of the cost."""
        extra = self.__pydantic_extra__ or {}
        counts = [extra.get(key, 1) for key in ("steps", "restarts")]
        return math.prod(count if isinstance(count, int) else 1 for count in counts)


def _kind(table: Any) -> str:
    kind = table.get("kind", "pgd") if isinstance(table, Mapping) else getattr(table, "kind", "pgd")
    return kind if isinstance(kind, str) and kind in KINDS else "extension"


GradientAttackTable = Annotated[
    Annotated[PgdTable, Tag("pgd")] | Annotated[FgsmTable, Tag("fgsm")] | Annotated[CwTable, Tag("cw")],
    Discriminator(
        lambda table: table.get("kind", "pgd") if isinstance(table, Mapping) else getattr(table, "kind", "pgd")
    ),
]
"""A gradient attack of surgery's own; without `kind`, projected gradient descent."""

AttackTable = Annotated[
    Annotated[PgdTable, Tag("pgd")]
    | Annotated[FgsmTable, Tag("fgsm")]
    | Annotated[CwTable, Tag("cw")]
    | Annotated[ExtensionAttackTable, Tag("extension")],
    Discriminator(_kind),
]
"""An attack in an evaluation; without `kind`, projected gradient descent."""


def _check_attack_name(name: str) -> None:
    check_attack_names([name])


AttackName = Annotated[Name, checked(_check_attack_name)]
"""The name of an attack; `natural` and `worst_case` are names of other results."""


class SearchEngineTable(ValueTable):
    """How a search computes; every success is verified on the network itself in float32."""

    heading: ClassVar[str] = "`engine` of an attack"

    precision: Precision = Field(
        default="auto", description="Precision of the search; `auto` uses bfloat16 where it is fast."
    )
    fold: bool = Field(default=True, description="Multiply batch norm into other layers.")
    channels_last: bool = Field(default=True, description=CHANNELS_LAST)

    def value(self) -> Engine:
        return Engine(**self.model_dump())
