"""Several processes that run one recipe: the first does everything, and the others train with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as distributed

from surgery.errors import SurgeryError
from surgery.train.processes import Processes, device_of_process, join

LONGEST_WAIT = timedelta(days=30)
"""How long processes wait for the first one, which runs whole stages alone."""

_Value = TypeVar("_Value")


class LostProcessError(SurgeryError):
    """A process of a run ended before the run was complete."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Team:
    """This process and those that run with it. `channel`: the process group for messages; None for a single process."""

    processes: Processes
    channel: Any

    @property
    def leads(self) -> bool:
        """Whether this process holds the lock, writes files and reports progress."""
        return self.processes.writes

    def told(self, value: _Value) -> _Value:
        """Return the leader's `value` in every process; the others wait for the leader."""
        if self.channel is None:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.channel)
        return box[0]


@contextmanager
def assembled(device: torch.device) -> Iterator[Team]:
    """Join the processes that a launcher such as `torchrun` started; without a launcher there is only this one.

    Raises LostProcessError if another process ends during the block.
    """
    with _explained():
        processes = join(device_of_process(device))
        if processes.count == 1:
            yield Team(processes=processes, channel=None)
            return
        channel = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        try:
            yield Team(processes=processes, channel=channel)
        finally:
            distributed.destroy_process_group(channel)


@contextmanager
def _explained() -> Iterator[None]:
    """Say that a process was lost: torch's message is about a socket."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise LostProcessError(
                "another process of this run has ended, so the run cannot continue",
                hint="the output of that process has the reason; rerun the same command to resume",
            ) from error
        raise
