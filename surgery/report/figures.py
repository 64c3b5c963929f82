"""The figures of the paper and of the store: functions from arrays to a `Figure` of matplotlib, and `save`."""

from surgery.report.accuracies import accuracies as accuracies
from surgery.report.curves import SERIES as SERIES
from surgery.report.curves import history as history
from surgery.report.matrices import confusion as confusion
from surgery.report.matrices import correlation as correlation
from surgery.report.matrices import feature_distance as feature_distance
from surgery.report.saving import save as save
from surgery.report.style import Width as Width
from surgery.report.trees import dendrogram as dendrogram
from surgery.report.weights import MOST_PANELS as MOST_PANELS
from surgery.report.weights import spectrum as spectrum
from surgery.report.weights import weights as weights
