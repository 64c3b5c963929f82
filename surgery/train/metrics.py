"""The numbers of the batches of an epoch, kept on the device until they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class EpochMetrics:
    """A row of `columns` for each batch of an epoch; the first column is the loss.

    Writing a row does not wait for the device; reading one makes the host wait for everything queued before it.
    """

    def __init__(self, columns: Sequence[str], sizes: Sequence[int], device: torch.device) -> None:
        """`sizes`: the number of images of each batch."""
        self.columns = tuple(columns)
        self.sizes = torch.tensor(sizes, dtype=torch.float64, device=device)
        self.rows = torch.zeros((len(sizes), len(columns)), dtype=torch.float64, device=device)
        self.written = self._checked = 0

    def begin(self, rows: Tensor | None = None) -> None:
        """Begin an epoch; `rows` `(batches, columns)` are those of its batches before a stop."""
        self.written = self._checked = 0 if rows is None else len(rows)
        if rows is not None:
            self.rows[: len(rows)] = rows.to(self.rows)

    def write(self, row: Tensor) -> None:
        """Add the row of the next batch."""
        self.rows[self.written] = row
        self.written += 1

    @property
    def loss(self) -> float:
        """The loss of the last batch, nan before the first."""
        return float(self.rows[self.written - 1, 0]) if self.written else math.nan

    def first_not_finite(self) -> tuple[int, float] | None:
        """The number, from one, and the loss of the first batch since the last call whose loss is not finite."""
        losses = self.rows[self._checked : self.written, 0]
        wrong = (~losses.isfinite()).nonzero().flatten().tolist()
        if wrong:
            return self._checked + wrong[0] + 1, float(losses[wrong[0]])
        self._checked = self.written
        return None

    def means(self) -> dict[str, float]:
        """The mean over the images of the whole epoch, by column; nan where the objective does not measure it."""
        # A row is a mean over its batch, and the last batch may be smaller.
        means = (self.rows.T @ self.sizes / self.sizes.sum()).tolist()
        return dict(zip(self.columns, means, strict=True))
