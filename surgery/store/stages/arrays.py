"""Tensors as the arrays of a store."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def as_array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, wherever it lies."""
    return tensor.detach().cpu().numpy()
