"""What each stage of the method writes: results as values in, groups of the store out."""

from surgery.store.stages.confusion import confusion_group as confusion_group
from surgery.store.stages.features import features_group as features_group
from surgery.store.stages.graphs import graph_group as graph_group
from surgery.store.stages.hierarchy import hierarchy_group as hierarchy_group
from surgery.store.stages.linear import linear_group as linear_group
from surgery.store.stages.robustness import robustness_group as robustness_group
from surgery.store.stages.summary import summary_group as summary_group
from surgery.store.stages.training import training_group as training_group
