"""The stage kinds of a recipe, one file each: table, cost, computation, group of the store, figures, summary."""

from surgery import namespace
from surgery.stages.findings import Cell as Cell
from surgery.stages.findings import Finding as Finding
from surgery.stages.findings import Grid as Grid
from surgery.stages.findings import Section as Section
from surgery.stages.folder import RunFolder as RunFolder
from surgery.stages.registry import KINDS as KINDS
from surgery.stages.sources import EvaluationStage as EvaluationStage
from surgery.stages.sources import ModelStage as ModelStage
from surgery.stages.sources import SearchStage as SearchStage
from surgery.stages.stage import Context as Context
from surgery.stages.stage import Figures as Figures
from surgery.stages.stage import Finished as Finished
from surgery.stages.stage import Input as Input
from surgery.stages.stage import Listener as Listener
from surgery.stages.stage import Sizes as Sizes
from surgery.stages.stage import Stage as Stage
from surgery.stages.stage import StageProgress as StageProgress
from surgery.stages.stage import StageTable as StageTable
from surgery.stages.summary import Summary as Summary
from surgery.stages.summary import summarize as summarize

__dir__ = namespace.public_names(__name__)
