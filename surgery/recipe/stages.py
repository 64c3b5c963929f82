"""The stages of a recipe by kind: what each needs, and the version of what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from surgery.hierarchy import Method
from surgery.linear.features import Variant
from surgery.recipe.attacks import AttackTable, SearchEngineTable
from surgery.recipe.fields import (
    Count,
    FilePath,
    HierarchyReference,
    Immaterial,
    ModelReference,
    Name,
    Path,
    Reference,
    RuleSetName,
    Seed,
    StageKind,
    Superclasses,
    Table,
    check_path,
    checked,
)
from surgery.recipe.network import NetworkTable
from surgery.recipe.training import (
    AugmentationTable,
    AveragingTable,
    ObjectiveTable,
    OptimizerTable,
    ScheduleTable,
    SelectTable,
    TrainingEngineTable,
)
from surgery.validation import refusal

Rules = Annotated[
    tuple[Annotated[str, RuleSetName(), FilePath(suffixes=(".toml",)), checked(check_path)], ...],
    Field(strict=False, min_length=1),
]
_SEED = Field(default=None, description="Seed of what is random in the stage; the recipe's by default.")


class TrainStage(Table):
    """Trains a network; writes its best and last checkpoints and the history of its epochs."""

    kind: Literal["train"] = Field(description="Train a network.")
    network: NetworkTable | None = Field(default=None, description="The network; that of [model] by default.")
    initial: ModelReference | None = Field(
        default=None, description="Train stage whose weights this one starts from; random weights by default."
    )
    objective: ObjectiveTable = Field(description="What is minimized.")
    epochs: Count = Field(description="Passes over the training images.")
    batch_size: Count = Field(default=128, description="Images in a step.")
    optimizer: OptimizerTable = Field(default=OptimizerTable(), description="Stochastic gradient descent.")
    schedule: ScheduleTable = Field(description="The learning rate over time.")
    augmentation: AugmentationTable | None = Field(default=None, description="Random changes of the training images.")
    averaging: AveragingTable | None = Field(default=None, description="Average of the weights over the steps.")
    select: SelectTable = Field(default=SelectTable(), description="How the best epoch is found.")
    engine: TrainingEngineTable = Field(default=TrainingEngineTable(), description="How training computes.")
    seed: Seed | None = _SEED


class SourceStage(Table):
    """A stage that looks at a trained network, or at something that was made of one."""

    model: ModelReference | None = Field(
        default=None,
        description="A train stage: NAME or NAME.best for its best checkpoint, NAME.last for its last.",
    )
    file: Path | None = Field(default=None, description="A model file, instead of a train stage.")
    network: NetworkTable | None = Field(
        default=None, description="The network of a file that holds only weights; other files say it themselves."
    )

    def check_source(self, *others: str) -> None:
        """Raise where the network is not said exactly once, by `model`, `file` or one of the keys `others`."""
        given = [name for name in ("model", "file", *others) if getattr(self, name) is not None]
        if len(given) != 1:
            message = f"{' and '.join(given)} are given" if given else "nothing says which network"
            key = given[1] if given else ""
            raise refusal(f"{message}; expected one of {', '.join(('model', 'file', *others))}", key=key)
        if self.network is not None and self.file is None:
            raise refusal("network goes with a file; a train stage says itself what it trained", key="network")


class ModelStage(SourceStage):
    """What stages that look at a trained network have in common."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        self.check_source()
        return self


class EvaluationStage(ModelStage):
    """What stages that show images to a network have in common."""

    split: Literal["train", "validation", "test"] = Field(default="test", description="Images of the data set.")
    images: Count | None = Field(default=None, description="How many of them, of each class its share; all by default.")
    batch_size: Annotated[Count, Immaterial()] = Field(
        default=256, description="Images at a time; the result does not depend on it."
    )


class SearchStage(EvaluationStage):
    """What stages that attack a network have in common."""

    engine: SearchEngineTable = Field(default=SearchEngineTable(), description="How the search computes.")
    seed: Seed | None = _SEED


class LinearizeStage(ModelStage):
    """Rewrites a network by rules, to its linear sub-network by default; writes a graph file and its certificate."""

    kind: Literal["linearize"] = Field(description="Rewrite a network by rules.")
    rules: Rules = Field(default=("linearize",), description="Rulesets: shipped ones by name, others by path.")


class ExtractStage(SourceStage):
    """Reads weight matrix, bias and correlations off the linear sub-network (paper, section 3.1)."""

    kind: Literal["extract"] = Field(description="W, b and C of a linear sub-network.")
    graph: Annotated[str, Reference(kinds=("linearize",))] | None = Field(
        default=None, description="A linearize stage, instead of a train stage."
    )
    rules: Rules | None = Field(
        default=None, description="Rulesets that linearize the network; `linearize` by default."
    )
    at: str | None = Field(default=None, description="Node or module path to be taken for the output.")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        self.check_source("graph")
        if self.graph is not None and self.rules is not None:
            raise refusal("rules go with a network; a linearize stage has its own", key="rules")
        return self


class ClusterStage(Table):
    """Groups the classes by the correlations of their weight vectors (paper, section 4)."""

    kind: Literal["cluster"] = Field(description="Superclasses from C.")
    map: Annotated[str, Reference(kinds=("extract",))] = Field(description="An extract stage.")
    superclasses: Superclasses = Field(description="How many, or how the number is chosen: `gap` or `silhouette`.")
    method: Method = Field(default="average", description="Linkage on 1 - C, or spectral clustering.")
    centered: bool = Field(default=False, description="Take C of the weights without their mean over classes.")
    reference: HierarchyReference = Field(
        default="data",
        description="Known hierarchy for the scores: its name, a file, or `data` for the data set's, if it has one.",
    )


class FeaturesStage(EvaluationStage):
    """Distances of the classes in feature space: the matrix F (paper, eq. 8 and 9)."""

    kind: Literal["features"] = Field(description="The matrix F.")
    variant: Variant = Field(
        default="paper", description="`paper`: L2 distances of means; `published`: what the paper's code computes."
    )
    at: str = Field(
        default="penultimate", description="Features: `penultimate`, `output` for the logits, a node, or a module path."
    )


class AttackStage(SearchStage):
    """Accuracies of a network on clean images and under attacks, image by image."""

    kind: Literal["attack"] = Field(description="Natural and robust accuracies.")
    attacks: Annotated[dict[Name, AttackTable], Field(min_length=1)] = Field(description="Attacks by name.")


class ConfusionStage(SearchStage):
    """Where an attack moves the images of each class: the matrix M (paper, section 7)."""

    kind: Literal["confusion"] = Field(description="The attack confusion matrix M.")
    attack: AttackTable = Field(description="The attack.")
    targeted: bool = Field(
        default=False, description="Towards every other class in turn, instead of away from the label."
    )


class ReportStage(Table):
    """Draws the figures and sums up what the other stages found; one for all combinations of a matrix."""

    kind: Literal["report"] = Field(description="Figures and verdict.")
    stages: (
        Annotated[
            tuple[
                Annotated[str, Reference(kinds=tuple(kind for kind in get_args(StageKind) if kind != "report"))], ...
            ],
            Field(strict=False, min_length=1),
        ]
        | None
    ) = Field(default=None, description="Stages that it reports on; all by default.")
    figures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], Field(strict=False)] = Field(
        default=("png",), description="Formats in which figures are saved; an empty list draws none."
    )


AnyStage = Annotated[
    TrainStage
    | LinearizeStage
    | ExtractStage
    | ClusterStage
    | FeaturesStage
    | AttackStage
    | ConfusionStage
    | ReportStage,
    Field(discriminator="kind"),
]

STAGES: Mapping[str, type[Table]] = {
    "train": TrainStage,
    "linearize": LinearizeStage,
    "extract": ExtractStage,
    "cluster": ClusterStage,
    "features": FeaturesStage,
    "attack": AttackStage,
    "confusion": ConfusionStage,
    "report": ReportStage,
}

VERSIONS: Mapping[str, int] = dict.fromkeys(STAGES, 1)
"""Raised where a stage comes to do something else with the same parameters, so that it runs again."""
