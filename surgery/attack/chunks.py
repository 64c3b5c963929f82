"""Going through images chunk by chunk, in order, with finished chunks kept where the caller wants them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from surgery.errors import InputError

BATCH = 128
"""Images in a chunk by default; it changes no result."""

Progress = Callable[[int, int], None]
"""Called with the images done, over all attacks, and their number."""


Compute = Callable[[int, int], Tensor]


class Chunks(Protocol):
    """Where finished chunks are kept, so that an evaluation that was cut off goes on where it was.

    A key names the attack and the first and last images; a chunk is a float64 tensor, a row an image, the last column
    the seconds that it took. Whoever keeps chunks sees to it that they are of the same model, data, attacks and seed.
    """

    def load(self, key: str) -> Tensor | None: ...

    def save(self, key: str, chunk: Tensor) -> None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """`count` images, `size` at a time, `rounds` times over all; `progress` hears of the images in all rounds."""

    count: int
    size: int
    rounds: int
    chunks: Chunks | None
    progress: Progress | None

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise InputError(f"batch_size is {self.size!r}; a whole number of at least 1 is expected")

    def parts(self) -> list[slice]:
        """The images of each chunk, in order."""
        return [slice(first, min(first + self.size, self.count)) for first in range(0, self.count, self.size)]

    def gather(self, name: str, columns: int, compute: Compute, *, number: int | None = None) -> Tensor:
        """The results of all chunks and the seconds of each image, `(count, columns + 1)`.

        `compute(first, last)` gives `(last - first, columns)`; it is asked for the chunks that are not kept. `number`:
        which of the rounds this is, or None for one that is not counted.
        """
        results = []
        for part in self.parts():
            first, last = part.start, part.stop
            results.append(self._chunk(f"{name}/{first}-{last - 1}", columns, compute, first, last))
            if self.progress is not None and number is not None:
                self.progress(number * self.count + last, self.rounds * self.count)
        return torch.cat(results)

    def _chunk(self, key: str, columns: int, compute: Compute, first: int, last: int) -> Tensor:
        chunk = None if self.chunks is None else self.chunks.load(key)
        if chunk is None:
            chunk = _timed(compute, first, last)
            if self.chunks is not None:
                self.chunks.save(key, chunk)
        shape = (last - first, columns + 1)
        if chunk.shape != shape:
            raise InputError(f"the kept chunk {key!r} has shape {tuple(chunk.shape)}; {shape} is expected")
        return chunk


def _timed(compute: Compute, first: int, last: int) -> Tensor:
    start = time.perf_counter()
    values = compute(first, last).double().cpu()
    seconds = (time.perf_counter() - start) / (last - first)
    return torch.cat([values, torch.full((last - first, 1), seconds, dtype=torch.float64)], dim=1)
