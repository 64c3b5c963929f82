"""The figures of the paper and of the store: functions from arrays to a matplotlib `Figure`, and `save`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from surgery.errors import InputError
from surgery.files import check_writable, write_atomically
from surgery.report.accuracies import accuracies as accuracies
from surgery.report.curves import SERIES as SERIES
from surgery.report.curves import history as history
from surgery.report.matrices import confusion as confusion
from surgery.report.matrices import confusion_scale as confusion_scale
from surgery.report.matrices import correlation as correlation
from surgery.report.matrices import feature_distance as feature_distance
from surgery.report.style import Width as Width
from surgery.report.style import drawing
from surgery.report.trees import dendrogram as dendrogram
from surgery.report.weights import MOST_PANELS as MOST_PANELS
from surgery.report.weights import spectrum as spectrum
from surgery.report.weights import weight_scale as weight_scale
from surgery.report.weights import weights as weights

# The metadata that matplotlib would write, and that would differ from day to day or from release to release.
_METADATA: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def save(figure: Figure, path: str | Path, *, dpi: float = 300.0) -> Path:
    """Write `figure` to a `.png`, `.pdf` or `.svg` file and return its path; `dpi` in dots per inch.

    The same figure gives the same bytes. Raises InputError for other extensions, and if the file cannot be written.
    """
    path = Path(path)
    extension = path.suffix.lower().removeprefix(".")
    if extension not in _METADATA:
        raise InputError(
            f"{path}: expected a figure format, got {path.suffix or 'no extension'}", hint="use .png, .pdf or .svg"
        )
    check_writable(path)
    content = io.BytesIO()
    with drawing():
        figure.savefig(content, format=extension, dpi=dpi, metadata=dict(_METADATA[extension]))
    write_atomically(path, content.getvalue())
    return path
