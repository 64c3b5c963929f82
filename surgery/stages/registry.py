"""The stage kinds by name. To add one, write a file with its `StageTable` and add a line here."""

from __future__ import annotations

from collections.abc import Mapping

from surgery.stages.attack import AttackStage
from surgery.stages.cluster import ClusterStage
from surgery.stages.confusion import ConfusionStage
from surgery.stages.extension import ExtensionStage
from surgery.stages.extract import ExtractStage
from surgery.stages.features import FeaturesStage
from surgery.stages.linearize import LinearizeStage
from surgery.stages.report import ReportStage
from surgery.stages.stage import StageTable
from surgery.stages.train import TrainStage

KINDS: Mapping[str, type[StageTable]] = {
    "train": TrainStage,
    "linearize": LinearizeStage,
    "extract": ExtractStage,
    "cluster": ClusterStage,
    "features": FeaturesStage,
    "attack": AttackStage,
    "confusion": ConfusionStage,
    "report": ReportStage,
}
ExtensionStage.known = tuple(KINDS)
ExtensionStage.own_sections = {section.key: section for table in KINDS.values() for section in table.sections}


def table_of(kind: object) -> type[StageTable]:
    """The table of a stage kind; that of extensions for every other value, which reports an unknown kind."""
    return KINDS.get(kind, ExtensionStage) if isinstance(kind, str) else ExtensionStage
