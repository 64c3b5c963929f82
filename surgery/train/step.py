"""One step of training: attack, loss, gradients over all processes, update."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surgery.train.adversary import Adversary
from surgery.train.awp import buffers_kept, perturbable, perturbed
from surgery.train.batches import Batch
from surgery.train.compiling import begin_pass, runnable
from surgery.train.config import Optimizer
from surgery.train.engine import Engine
from surgery.train.losses import precise
from surgery.train.objective import Logits, Objective
from surgery.train.processes import Processes


class Stepper:
    """Changes the weights of `network`, a copy that it is given, by one batch after the other.

    `columns` names what `step` returns, in order: the loss, its terms, and the shares of images that are right without
    and under the attack (nan where the objective does not look).
    """

    def __init__(
        self,
        network: nn.Module,
        view: nn.Module,
        batch: Tensor,
        *,
        objective: Objective,
        optimizer: Optimizer,
        engine: Engine,
        processes: Processes,
    ) -> None:
        self.network = network.train()
        self.objective = objective
        self.engine = engine
        self.processes = processes
        self.trainable = [tensor for tensor in network.parameters() if tensor.requires_grad]
        self.optimizer = torch.optim.SGD(
            self.trainable,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            nesterov=optimizer.nesterov,
        )
        self.adversary = Adversary(view, batch, objective, engine) if objective.attack is not None else None
        run = runnable(network, batch, engine)
        self.run = run.network
        self.notes = [*(self.adversary.notes if self.adversary else ()), *([run.note] if run.note else ())]

    @property
    def columns(self) -> tuple[str, ...]:
        cluster = ("cluster",) if self.objective.cluster is not None else ()
        return ("loss", *self.objective.method.names, *cluster, "natural", "robust")

    def step(self, batch: Batch, *, rate: float, perturb: bool) -> Tensor:
        """Train on this process's share of a batch at learning rate `rate`.

        `perturb`: whether adversarial weight perturbation is on. Returns the row of `columns`, of the whole batch,
        still on the device.
        """
        adversarial = self.attacked(batch)
        move = self.objective.perturbation if perturb else None
        if move is None:
            row = self._differentiate(batch, adversarial)
        else:
            weights = perturbable(self.network)
            with perturbed(weights, self._ascent(batch, adversarial, weights), move.gamma):
                row = self._differentiate(batch, adversarial)
        self._update(rate)
        return row

    def attacked(self, batch: Batch) -> Tensor:
        """The images that the objective attacks; those of the batch where it does not."""
        return batch.images if self.adversary is None else self.adversary(batch.images, batch.labels, batch.start)

    def _update(self, rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _differentiate(self, batch: Batch, adversarial: Tensor) -> Tensor:
        """Leave the gradient of the loss in the parameters; return the row."""
        loss, row = self._loss(batch, adversarial)
        loss.backward()
        gradients = [tensor.grad for tensor in self.trainable if tensor.grad is not None]
        self.processes.sum_in_place([*gradients, row])
        return row

    def _ascent(self, batch: Batch, adversarial: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
        """The gradient of the loss with respect to the weights, without a trace in statistics or parameters."""
        with buffers_kept(self.network):
            loss, _ = self._loss(batch, adversarial)
            found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
        self.processes.sum_in_place(gradients)
        return gradients

    def _loss(self, batch: Batch, adversarial: Tensor) -> tuple[Tensor, Tensor]:
        """This process's part of the loss, and of the row; the parts of all processes add up."""
        method, cluster = self.objective.method, self.objective.cluster
        begin_pass(self.engine, adversarial.device)
        logits = Logits(
            clean=self._logits(batch.images) if method.clean else None,
            adversarial=self._logits(adversarial) if method.adversarial else None,
        )
        terms = method.terms(logits, batch.labels, self.objective.beta or 0.0)
        parts = [terms[name].sum() / batch.whole for name in method.names]
        if cluster is not None:
            shown = logits.adversarial if logits.adversarial is not None else logits.clean
            assert shown is not None, "every objective reads some logits"
            parts.append(cluster(shown, mean=lambda squares: self._mean(squares, batch)) / self.processes.count)
        loss = torch.stack(parts).sum()
        right = [_right(of, batch) for of in (logits.clean, logits.adversarial)]
        return loss, torch.stack([loss, *parts, *right]).detach()

    def _logits(self, images: Tensor) -> Tensor:
        with self.engine.autocast(images.device):
            return precise(self.run(images))

    def _mean(self, squares: Tensor, batch: Batch) -> Tensor:
        return self.processes.sum(squares.sum(0)) / batch.whole


def _right(logits: Tensor | None, batch: Batch) -> Tensor:
    """How many are classified correctly here, as a share of the whole batch."""
    if logits is None:
        return torch.full((), torch.nan, device=batch.labels.device)
    return (logits.argmax(1) == batch.labels).sum() / batch.whole
