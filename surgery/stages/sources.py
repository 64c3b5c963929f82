"""Keys that several stage kinds share: which network, which images, how an attack computes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from surgery.data import Dataset, Split
from surgery.data.draws import stream
from surgery.data.sampling import balanced
from surgery.stages.attack_tables import SearchEngineTable
from surgery.stages.fields import (
    Count,
    FilePath,
    Immaterial,
    ModelReference,
    Path,
    RuleSetName,
    Seed,
    check_path,
    checked,
)
from surgery.stages.network import NetworkTable
from surgery.stages.stage import StageTable
from surgery.validation import refusal

Rules = Annotated[
    tuple[Annotated[str, RuleSetName(), FilePath(suffixes=(".toml",)), checked(check_path)], ...],
    Field(strict=False, min_length=1),
]
SEED = Field(default=None, description="Seed of the stage's random numbers; the recipe's by default.")


class SourceStage(StageTable):
    """A stage about a trained network, or about something that was made from one."""

    model: ModelReference | None = Field(
        default=None,
        description="A train stage: NAME or NAME.best for its best checkpoint, NAME.last for its last.",
    )
    file: Path | None = Field(default=None, description="A model file, instead of a train stage.")
    network: NetworkTable | None = Field(
        default=None,
        description="The network of a file that holds only weights; other files describe their network themselves.",
    )

    def check_source(self, *others: str) -> None:
        """Raise unless the network is given exactly once: by `model`, `file` or one of the keys `others`."""
        given = [name for name in ("model", "file", *others) if getattr(self, name) is not None]
        if len(given) != 1:
            message = f"{' and '.join(given)} are given" if given else "the network is missing"
            key = given[1] if given else ""
            raise refusal(f"{message}; expected one of {', '.join(('model', 'file', *others))}", key=key)
        if self.network is not None and self.file is None:
            raise refusal("network belongs to a file; a train stage defines its own network", key="network")


class ModelStage(SourceStage):
    """A stage about a trained network."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        self.check_source()
        return self


class EvaluationStage(ModelStage):
    """A stage that shows images to a network."""

    split: Literal["train", "validation", "test"] = Field(default="test", description="Images of the data set.")
    images: Count | None = Field(
        default=None, description="Number of images, all by default; each class keeps its share."
    )
    batch_size: Annotated[Count, Immaterial()] = Field(
        default=256, description="Images in a batch; the result does not depend on it."
    )

    def images_of(self, data: Dataset) -> Split:
        """The images that the stage sees: the same ones for every seed."""
        split = data.split(self.split)
        if self.images is None or self.images >= len(split):
            return split
        # A stream of its own, with a constant seed: networks of different seeds are compared on the same images.
        return split.subset(balanced(split.labels, self.images, stream(0, "images of a stage")))


class SearchStage(EvaluationStage):
    """A stage that attacks a network."""

    engine: SearchEngineTable = Field(default=SearchEngineTable(), description="How the search computes.")
    seed: Seed | None = SEED
