from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Plant = Callable[..., None]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SURGERY_DATA", raising=False)


@pytest.fixture
def plant() -> Plant:
    """Write `count` PNG files into `folder/<class>/`, each of one gray level: 10 times the class, plus its number."""

    def write(folder: Path, class_names: Sequence[str], count: int, size: tuple[int, int] = (4, 4)) -> None:
        for label, name in enumerate(class_names):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = np.full((size[1], size[0], 3), (10 * label + number) % 256, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number:03}.png")

    return write
