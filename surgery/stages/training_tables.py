"""Tables of a recipe for the training of a network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from surgery.attack import Attack, pgd
from surgery.attack.engine import Precision
from surgery.attack.losses import LossName
from surgery.data import Augmentation
from surgery.stages.attack_tables import CHANNELS_LAST, GradientAttackTable, SearchTable
from surgery.stages.fields import Count, HierarchyReference, Table, ValueTable
from surgery.train.averaging import Averaging, ExponentialAverage, StochasticAverage
from surgery.train.config import Optimizer
from surgery.train.engine import Engine
from surgery.train.objective import Objective, WeightPerturbation
from surgery.train.schedules import Constant, Cosine, MultiStep, OneCycle

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
WholeNumber = Annotated[int, Field(ge=0)]


class ClusterTable(Table):
    """The cluster penalty (paper, eq. 10 and Algorithm 2): an objective with this penalty is "+C"."""

    heading: ClassVar[str] = "`cluster`"

    hierarchy: HierarchyReference = Field(
        description="The superclasses: a cluster stage, a known hierarchy, a file of one, or `data` for the data set's."
    )
    weight: NotNegative = Field(description="Factor on the penalty.")
    form: Literal["norm", "mse"] = Field(
        default="norm", description="`norm` as in eq. 10; `mse` as in the paper's published code."
    )


class PerturbationTable(ValueTable):
    """Adversarial weight perturbation (Wu et al. 2020)."""

    heading: ClassVar[str] = "`awp`"

    gamma: Positive = Field(description="Size of the perturbation, relative to each layer's weights.")
    start: Count = Field(default=1, description="First epoch with the perturbation, counted from 1.")

    def value(self) -> WeightPerturbation:
        return WeightPerturbation(gamma=self.gamma, start=self.start)


class OwnLossAttackTable(SearchTable):
    """The attack of an objective that defines the loss to increase."""

    heading: ClassVar[str] = "`attack` of `trades`"

    def value(self) -> Attack:
        return pgd(**self.model_dump())


class TrainingAttackTable(OwnLossAttackTable):
    """The attack inside a robust objective."""

    heading: ClassVar[str] = "`attack` of `pgd` and `mart`"

    loss: LossName = Field(default="cross-entropy", description="The loss that the attack increases.")


class StandardTable(ValueTable):
    """Cross-entropy on clean images."""

    heading: ClassVar[str] = "Objective `standard`"

    kind: Literal["standard"] = Field(description="Standard training.")
    cluster: ClusterTable | None = Field(default=None, description="The cluster penalty, on clean images.")

    def value(self) -> Objective:
        """The objective without the cluster penalty, whose hierarchy may come of another stage."""
        return Objective(kind="standard")


class RobustTable(ValueTable):
    """What all robust objectives have."""

    awp: PerturbationTable | None = Field(default=None, description="Adversarial weight perturbation; none by default.")
    cluster: ClusterTable | None = Field(default=None, description="The cluster penalty, on adversarial images.")

    @property
    def perturbation(self) -> WeightPerturbation | None:
        return None if self.awp is None else self.awp.value()


class PgdObjectiveTable(RobustTable):
    """Cross-entropy on adversarial images (Madry et al. 2018)."""

    heading: ClassVar[str] = "Objective `pgd`"

    kind: Literal["pgd"] = Field(description="Adversarial training.")
    attack: TrainingAttackTable = Field(description="The attack that makes the training images.")

    def value(self) -> Objective:
        """The objective without the cluster penalty."""
        return Objective(kind="pgd", attack=self.attack.value(), perturbation=self.perturbation)


class TradesTable(RobustTable):
    """Cross-entropy on clean images and a divergence to adversarial ones (Zhang et al. 2019)."""

    heading: ClassVar[str] = "Objective `trades`"

    kind: Literal["trades"] = Field(description="TRADES.")
    attack: OwnLossAttackTable = Field(description="The attack that makes the training images, on the divergence.")
    beta: NotNegative = Field(description="Factor on the divergence.")

    def value(self) -> Objective:
        """The objective without the cluster penalty."""
        attack = self.attack.value()
        return Objective(kind="trades", attack=attack, beta=self.beta, perturbation=self.perturbation)


class MartTable(RobustTable):
    """As TRADES, with more weight on images that are wrong already (Wang et al. 2020)."""

    heading: ClassVar[str] = "Objective `mart`"

    kind: Literal["mart"] = Field(description="MART.")
    attack: TrainingAttackTable = Field(description="The attack that makes the training images.")
    beta: NotNegative = Field(description="Factor on the weighted divergence.")

    def value(self) -> Objective:
        """The objective without the cluster penalty."""
        attack = self.attack.value()
        return Objective(kind="mart", attack=attack, beta=self.beta, perturbation=self.perturbation)


ObjectiveTable = Annotated[StandardTable | PgdObjectiveTable | TradesTable | MartTable, Field(discriminator="kind")]


class OptimizerTable(ValueTable):
    """Stochastic gradient descent; the defaults are the paper's (section 3.2)."""

    heading: ClassVar[str] = "`optimizer`"

    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="Momentum.")
    weight_decay: NotNegative = Field(default=2e-4, description="Weight decay.")
    nesterov: bool = Field(default=False, description="Nesterov's momentum.")

    def value(self) -> Optimizer:
        return Optimizer(momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov)


class ConstantTable(ValueTable):
    """One learning rate."""

    heading: ClassVar[str] = "Schedule `constant`"

    kind: Literal["constant"] = Field(description="The same learning rate throughout.")
    learning_rate: Positive = Field(description="The learning rate.")

    def value(self) -> Constant:
        return Constant(learning_rate=self.learning_rate)


class MultiStepTable(ValueTable):
    """A learning rate that falls at milestones, as in the paper."""

    heading: ClassVar[str] = "Schedule `multi-step`"

    kind: Literal["multi-step"] = Field(description="A learning rate that falls at milestones.")
    learning_rate: Positive = Field(description="The learning rate at the start.")
    milestones: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)] = Field(
        description="Epochs after which it falls."
    )
    factor: Positive = Field(default=0.1, description="Factor of the learning rate at each milestone.")

    def value(self) -> MultiStep:
        return MultiStep(learning_rate=self.learning_rate, milestones=self.milestones, factor=self.factor)


class CosineTable(ValueTable):
    """A learning rate that falls along half a cosine."""

    heading: ClassVar[str] = "Schedule `cosine`"

    kind: Literal["cosine"] = Field(description="A learning rate that falls along half a cosine.")
    learning_rate: Positive = Field(description="The learning rate at the start.")
    final: NotNegative = Field(default=0.0, description="The learning rate at the end.")

    def value(self) -> Cosine:
        return Cosine(learning_rate=self.learning_rate, final=self.final)


class OneCycleTable(ValueTable):
    """A learning rate that rises and falls once (Smith and Topin 2019)."""

    heading: ClassVar[str] = "Schedule `one-cycle`"

    kind: Literal["one-cycle"] = Field(description="A learning rate that rises and falls once.")
    learning_rate: Positive = Field(description="The highest learning rate.")
    warmup: Share = Field(default=0.3, description="Share of all steps in which it rises.")
    initial: NotNegative = Field(default=1 / 25, description="First learning rate, as a share of the highest.")
    final: NotNegative = Field(default=1 / 250_000, description="Last learning rate, as a share of the highest.")
    shape: Literal["cosine", "linear"] = Field(default="cosine", description="How it rises and falls.")

    def value(self) -> OneCycle:
        return OneCycle(**self.model_dump(exclude={"kind"}))


ScheduleTable = Annotated[ConstantTable | MultiStepTable | CosineTable | OneCycleTable, Field(discriminator="kind")]


class AugmentationTable(ValueTable):
    """Random changes of the training images."""

    heading: ClassVar[str] = "`augmentation`"

    padding: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="Pixels added on each side before a random crop; the paper takes 4."
    )
    flip: bool = Field(default=False, description="Flip an image horizontally with probability one half.")

    def value(self) -> Augmentation:
        return Augmentation(padding=self.padding, flip=self.flip)


class ExponentialTable(ValueTable):
    """After every step the average moves a little toward the weights."""

    heading: ClassVar[str] = "Averaging `exponential`"

    kind: Literal["exponential"] = Field(description="A moving average.")
    decay: Share = Field(description="Share of the old average that is kept at each step.")
    start: Count = Field(default=1, description="First epoch whose weights are averaged.")
    batches: WholeNumber = Field(
        default=0, description="Training batches for new statistics of batch norm; 0 to average those too."
    )

    def value(self) -> Averaging:
        return ExponentialAverage(decay=self.decay, start=self.start, batches=self.batches)


class StochasticTable(ValueTable):
    """The plain mean of the weights after every epoch (Izmailov et al. 2018)."""

    heading: ClassVar[str] = "Averaging `stochastic`"

    kind: Literal["stochastic"] = Field(description="Stochastic weight averaging.")
    start: Count = Field(description="First epoch whose weights are averaged.")
    batches: WholeNumber = Field(description="Training batches for new statistics of batch norm.")

    def value(self) -> Averaging:
        return StochasticAverage(start=self.start, batches=self.batches)


AveragingTable = Annotated[ExponentialTable | StochasticTable, Field(discriminator="kind")]


class SelectTable(Table):
    """The selection of the best epoch."""

    heading: ClassVar[str] = "`select`"

    attack: GradientAttackTable | None = Field(
        default=None, description="The attack under which accuracy decides; natural accuracy by default."
    )
    on: Literal["validation", "test"] = Field(
        default="validation",
        description="Images that select the epoch. The paper used the test set, which overstates; results record it.",
    )
    every: WholeNumber = Field(
        default=1, description="Epochs between evaluations; 0 for none: then the last epoch is the best."
    )


class TrainingEngineTable(ValueTable):
    """How training computes."""

    heading: ClassVar[str] = "`engine` of a training"

    precision: Precision = Field(
        default="auto", description="Precision of the network; `auto` uses bfloat16 where it is fast."
    )
    fold: bool = Field(default=True, description="Multiply batch norm into other layers while images are attacked.")
    channels_last: bool = Field(default=True, description=CHANNELS_LAST)
    compile: bool | None = Field(default=None, description="Compile the network; by default for long runs on a GPU.")

    def value(self) -> Engine:
        return Engine(**self.model_dump())
