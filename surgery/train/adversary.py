"""The images that training attacks, found with the network in evaluation mode and gradients of the images only."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from surgery.attack import search
from surgery.errors import SurgeryError
from surgery.train.compiling import begin_pass, runnable
from surgery.train.engine import Engine
from surgery.train.folding import FoldedNetwork
from surgery.train.losses import precise
from surgery.train.objective import Objective


def evaluating_view(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, without gradients of its parameters, on the same memory: it follows training.

    The network itself keeps its mode and `requires_grad` while the view is run.
    """
    frozen = {id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) for tensor in network.parameters()}
    shared = {id(tensor): tensor for tensor in network.buffers()}
    return copy.deepcopy(network, {**frozen, **shared}).eval()


class Adversary:
    """Attacks images by what an objective asks for; `notes` say what it runs on."""

    def __init__(self, view: nn.Module, batch: Tensor, objective: Objective, engine: Engine) -> None:
        """`view` is an evaluating view of the network, `batch` has the size and device of those that will come."""
        self.objective = objective
        self.engine = engine
        self.folded: FoldedNetwork | None = None
        self.notes: list[str] = []
        if engine.fold:
            self._fold(view, batch)
        run = runnable(view if self.folded is None else self.folded, batch, engine)
        self.network = run.network
        self.notes += [f"attack {run.note}"] if run.note else []

    def __call__(self, images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        """Attacked images `(batch, channels, height, width)`, searched from `start` with the weights as they are."""
        attack, method = self.objective.attack, self.objective.method
        assert attack is not None, "an adversary is made for objectives with an attack"
        if self.folded is not None:
            self.folded.refresh()
        with torch.no_grad():
            clean = self._logits(images).clone() if method.inner_reads_clean else None

        def inner(iterate: Tensor) -> Tensor:
            return method.inner(self._logits(iterate), clean, labels, attack)

        return search(inner, images, attack, start=start)

    def _logits(self, images: Tensor) -> Tensor:
        begin_pass(self.engine, images.device)
        with self.engine.autocast(images.device):
            logits = self.network(images)
        return precise(logits)

    def _fold(self, view: nn.Module, batch: Tensor) -> None:
        dtype = self.engine.dtype or batch.dtype
        try:
            self.folded = FoldedNetwork(view, batch[:1], dtype=dtype, channels_last=self.engine.channels_last)
            self.notes.append("attacks with batch norm folded")
        except SurgeryError as error:
            self.notes.append(f"attacks without folding batch norm: {error.message.splitlines()[0]}")
