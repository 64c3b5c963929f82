"""Tables of a recipe that stand for gradient attacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from surgery.attack import Attack, cw, fgsm, pgd
from surgery.attack.attack import Start, StepRule
from surgery.attack.engine import Engine, Precision
from surgery.attack.losses import LossName
from surgery.attack.norms import NormName
from surgery.recipe.fields import Count, Pixels, ValueTable, as_validator


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
        """Refuse 8 for 8/255 at its key, even where other keys are wrong and there is no attack to refuse it."""
        if info.data.get("norm") == "Linf":
            epsilon, step_size = (size, 0.0) if info.field_name == "epsilon" else (0.0, size)
            as_validator(lambda: Attack(norm="Linf", steps=1, epsilon=epsilon, step_size=step_size))
        return size


class SearchTable(ThreatTable):
    """A projected-gradient search."""

    steps: Count = Field(description="Gradient steps.")
    step_size: Pixels = Field(description="Size of a step, in the norm.")
    step_rule: StepRule = Field(default="constant", description="How the step size goes down over the steps.")
    start: Start = Field(default="uniform", description="Uniform in the ball of epsilon, or zero: the image itself.")


class FgsmTable(ThreatTable):
    """One step of the size of epsilon from the image (Goodfellow et al. 2015)."""

    kind: Literal["fgsm"] = Field(description="The fast gradient method.")

    def value(self) -> Attack:
        return fgsm(norm=self.norm, epsilon=self.epsilon, sparsity=self.sparsity)


class PgdTable(SearchTable):
    """Projected gradient descent (Madry et al. 2018)."""

    kind: Literal["pgd"] = Field(default="pgd", description="Projected gradient descent.")
    loss: LossName = Field(default="cross-entropy", description="The loss that the attack increases.")
    restarts: Count = Field(default=1, description="How often the search starts anew.")
    early_stop: bool = Field(default=True, description="Let images go once they are fooled; the accuracy is the same.")

    def value(self) -> Attack:
        return pgd(**self.model_dump(exclude={"kind"}))


class CwTable(SearchTable):
    """CW-inf (paper, section 7): the same search on the margin of the logits."""

    kind: Literal["cw"] = Field(description="Projected gradient descent on the margin.")
    restarts: Count = Field(default=1, description="How often the search starts anew.")
    early_stop: bool = Field(default=True, description="Let images go once they are fooled; the accuracy is the same.")

    def value(self) -> Attack:
        return cw(**self.model_dump(exclude={"kind"}))


def _kind(table: Any) -> str:
    return str(table.get("kind", "pgd")) if isinstance(table, Mapping) else getattr(table, "kind", "pgd")


AttackTable = Annotated[
    Annotated[PgdTable, Tag("pgd")] | Annotated[FgsmTable, Tag("fgsm")] | Annotated[CwTable, Tag("cw")],
    Discriminator(_kind),
]
"""An attack in an evaluation; without `kind`, projected gradient descent."""


class SearchEngineTable(ValueTable):
    """How a search computes; every success is verified on the network itself in float32."""

    precision: Precision = Field(
        default="auto", description="Arithmetic of the search; `auto` takes bfloat16 where it is fast."
    )
    fold: bool = Field(default=True, description="Multiply batch norm into other layers.")
    channels_last: bool = Field(default=True, description="Memory format.")

    def value(self) -> Engine:
        return Engine(**self.model_dump())
