"""Writing a figure: whole or not at all, and the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from surgery.errors import InputError
from surgery.files import check_writable, write_atomically
from surgery.report.style import drawing

_METADATA: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
"""The formats, and what matplotlib would write into them that changes from day to day or release to release."""


def save(figure: Figure, path: str | Path, *, dpi: float = 300.0) -> Path:
    """Write `figure` to a `.png`, `.pdf` or `.svg` file and return its path; `dpi` in dots per inch.

    The same figure gives the same bytes. Raises InputError for other extensions and where nothing can be written.
    """
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in _METADATA:
        raise InputError(
            f"{path}: no figure format {path.suffix or 'without an extension'!r}",
            hint="figures are written as .png, .pdf or .svg",
        )
    check_writable(path)
    content = io.BytesIO()
    with drawing():
        figure.savefig(content, format=form, dpi=dpi, metadata=dict(_METADATA[form]))
    write_atomically(path, content.getvalue())
    return path
