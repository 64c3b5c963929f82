"""Several processes that run one recipe: the first leads, and does all that a run is; the others train with it."""

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
"""How long processes wait for the first one, which runs whole stages in between."""

_Value = TypeVar("_Value")


class LostProcessError(SurgeryError):
    """A process that takes part in a run has ended before the run was complete."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Team:
    """This process and those that run with it. `channel`: their group for words; None where there is only one."""

    processes: Processes
    channel: Any

    @property
    def leads(self) -> bool:
        """Whether this process holds the lock, writes files and reports."""
        return self.processes.writes

    def told(self, value: _Value) -> _Value:
        """The leader's `value`, in every process; the others wait until the leader comes to say it."""
        if self.channel is None:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.channel)
        return box[0]


@contextmanager
def assembled(device: torch.device) -> Iterator[Team]:
    """Join the processes that a launcher as `torchrun` started; alone where there was none.

    Raises LostProcessError where another one of them ends during the block.
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
    """Messages of a lost connection speak of sockets."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise LostProcessError(
                "another process of this run has ended, and with it the run",
                hint="that process says why; what is finished stays, and the same command goes on",
            ) from error
        raise
